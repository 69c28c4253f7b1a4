//! `GET /v1/events/export`: a whole listing as one file, as long as it is small.

use crate::Query;
use crate::scan::Scan;
use http::header::CONTENT_DISPOSITION;
use http::{HeaderValue, StatusCode};
use stele::access::{Grant, Tenant};
use stele::query::{ExportFormat, ExportRequest, csv_header, csv_row};
use stele::record::Record;
use stele::routes::Parameters;
use stele::wire::write_event;
use stele::{Code, Error, Result, limits};
use stele_adapters::http::{Response, answer};

/// Records an export may look at; beyond that it is a job.
const SCANNED_MAX: usize = 10 * limits::PAGE_SCANNED_MAX;
/// Bytes of leaves held while it is collected: CSV leaves some of a leaf out, so they may be more than its own.
const LEAF_BYTES_MAX: usize = 4 * limits::EXPORT_BYTES_MAX;

impl Query {
    pub(crate) async fn export(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        let request = ExportRequest::parse(parameters)?;
        let placed = match self.tenant(grant, parameters).await? {
            Some(tenant) => {
                let records = self.collect(&tenant, &request).await?;
                self.placed(&tenant, records).await?.records
            }
            None => Vec::new(),
        };
        let mut out = Vec::new();
        match request.format {
            ExportFormat::Json => out.push(b'['),
            ExportFormat::Csv => csv_header(&mut out),
            ExportFormat::JsonLines => {}
        }
        for (at, (record, integrity)) in placed.iter().enumerate() {
            match request.format {
                ExportFormat::Json => {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_event(record, *integrity, &mut out)?;
                }
                ExportFormat::JsonLines => {
                    write_event(record, *integrity, &mut out)?;
                    out.push(b'\n');
                }
                ExportFormat::Csv => csv_row(record, *integrity, &mut out)?,
            }
            if out.len() > limits::EXPORT_BYTES_MAX {
                return Err(too_large("5 MiB"));
            }
        }
        let (content_type, file) = match request.format {
            ExportFormat::Json => {
                out.push(b']');
                ("application/json", None)
            }
            ExportFormat::JsonLines => {
                ("application/x-ndjson", Some("attachment; filename=\"events.jsonl\""))
            }
            ExportFormat::Csv => {
                ("text/csv; charset=utf-8; header=present", Some("attachment; filename=\"events.csv\""))
            }
        };
        let mut response = answer(StatusCode::OK, content_type, out);
        if let Some(file) = file {
            response.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::from_static(file));
        }
        Ok(response)
    }

    async fn collect(&self, tenant: &Tenant, request: &ExportRequest) -> Result<Vec<Record>> {
        let now = self.clock.now();
        let (filter, order) = (&request.filter, request.order);
        let mut scan = Scan::new(&*self.hot, tenant, filter, order, None, None, now).await?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while let Some(step) = scan.step(false).await? {
            bytes += step.records.iter().map(|r| r.leaf.as_bytes().len()).sum::<usize>();
            records.extend(step.records);
            if records.len() > limits::EXPORT_EVENTS_MAX {
                return Err(too_large("10,000 events"));
            }
            if bytes > LEAF_BYTES_MAX {
                return Err(too_large("5 MiB"));
            }
            if scan.scanned() > SCANNED_MAX {
                return Err(too_large("200,000 records to look at"));
            }
        }
        Ok(records)
    }
}

fn too_large(bound: &str) -> Error {
    let detail =
        format!("the export is more than {bound}: narrow it down, or start one with `POST /v1/exports`");
    Error::new(Code::ExportTooLarge, detail)
}
