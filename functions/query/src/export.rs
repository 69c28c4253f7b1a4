//! `GET /v1/events/export`: a whole listing as one file, as long as it is small.

use crate::Query;
use crate::exports::may_export_evidence;
use crate::search::{Found, Question, Search};
use http::header::CONTENT_DISPOSITION;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use stele::access::{Grant, Tenant};
use stele::bundle::BundleRequest;
use stele::export::{Export, Format, Selection};
use stele::id::EventId;
use stele::query::{ExportFormat, ExportRequest, csv_header, csv_row};
use stele::routes::Parameters;
use stele::wire::write_event;
use stele::{Code, Error, Result, limits};
use stele_adapters::bundle::{BundleLimits, write_bundle};
use stele_adapters::http::{Response, answer};

/// Records an export may look at; beyond that it is a job.
const SCANNED_MAX: usize = 10 * limits::PAGE_SCANNED_MAX;
/// Bytes of leaves held while it is collected: CSV leaves some of a leaf out, so they may be more than its own.
const LEAF_BYTES_MAX: usize = 4 * limits::EXPORT_BYTES_MAX;

impl Query {
    pub(crate) async fn export(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        let request = ExportRequest::parse(parameters, self.clock.now())?;
        if request.format == ExportFormat::Evidence {
            return self.evidence(grant, parameters, &request).await;
        }
        let tenant = self.tenant(grant, parameters).await?;
        let placed = match &tenant {
            Some(tenant) => {
                let records = self.collect(tenant, &request).await?;
                self.placed(tenant, records).await?.records
            }
            None => Vec::new(),
        };
        let mut out = Vec::new();
        match request.format {
            ExportFormat::Json => out.push(b'['),
            ExportFormat::Csv => csv_header(&mut out),
            ExportFormat::JsonLines | ExportFormat::Evidence => {}
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
                ExportFormat::Evidence => {}
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
            ExportFormat::JsonLines | ExportFormat::Evidence => {
                ("application/x-ndjson", Some("attachment; filename=\"events.jsonl\""))
            }
            ExportFormat::Csv => {
                ("text/csv; charset=utf-8; header=present", Some("attachment; filename=\"events.csv\""))
            }
        };
        if let Some(tenant) = &tenant {
            self.tell(grant, tenant, parameters, &request, placed.len() as u64).await?;
        }
        let mut response = answer(StatusCode::OK, content_type, out);
        if let Some(file) = file {
            response.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::from_static(file));
        }
        Ok(response)
    }

    /// An evidence bundle, as long as it is small: of what is sealed, whether or not the hot store still has it.
    async fn evidence(
        &self,
        grant: &Grant,
        parameters: &Parameters,
        request: &ExportRequest,
    ) -> Result<Response> {
        may_export_evidence(grant)?;
        let bundle = BundleRequest {
            filter: filters(parameters),
            covering: request.covering,
            ..BundleRequest::default()
        };
        // Not every filter can be answered by a bundle.
        bundle.filter(self.clock.now())?;
        let none = || Error::new(Code::NotFound, "no sealed event matches");
        let tenant = self.tenant(grant, parameters).await?.ok_or_else(none)?;
        let head = self.heads.head(&tenant).await?.ok_or_else(none)?;
        let mut name = [0; 16];
        self.random.fill(&mut name);
        let path = std::env::temp_dir().join(format!("stele-bundle-{:032x}.zip", u128::from_be_bytes(name)));
        let limits = BundleLimits {
            leaves: limits::EXPORT_EVENTS_MAX as u64,
            read: SCANNED_MAX as u64,
            // What API Gateway lets through, base64 included.
            bytes: 4 << 20,
        };
        let written = write_bundle(
            self.tree.objects(),
            tenant.id(),
            tenant.log(),
            &bundle,
            self.clock.now(),
            Some(&head.checkpoint),
            Some(limits),
            &path,
            &|_, _| {},
        )
        .await;
        let file = written.and_then(|written| {
            let bytes = std::fs::read(&path);
            let bytes = bytes.map_err(|e| Error::new(Code::Internal, "reading a bundle").with_source(e))?;
            Ok((written.matches, bytes))
        });
        // It may never have come to be.
        let _removed = std::fs::remove_file(&path);
        let (events, file) = file?;
        self.tell(grant, &tenant, parameters, request, events).await?;
        let mut response = answer(StatusCode::OK, "application/zip", file);
        let file = HeaderValue::from_static("attachment; filename=\"evidence.zip\"");
        response.headers_mut().insert(CONTENT_DISPOSITION, file);
        Ok(response)
    }

    /// Stores the event that somebody has got this. Nothing is answered without it.
    async fn tell(
        &self,
        grant: &Grant,
        tenant: &Tenant,
        parameters: &Parameters,
        request: &ExportRequest,
        events: u64,
    ) -> Result<()> {
        let format = match request.format {
            // A plain list and lines hold the same.
            ExportFormat::Json | ExportFormat::JsonLines => Format::JsonLines,
            ExportFormat::Csv => Format::Csv,
            ExportFormat::Evidence => Format::Evidence,
        };
        let selection = Selection::new(format, filters(parameters), request.covering);
        let (now, bits) = (self.clock.now(), self.random.bits());
        let more = [("at_once", json!(true)), ("events", json!(events))];
        let (event, export) = (EventId::new(now, bits), Export::id(now, bits));
        self.tell_of_export(tenant, grant.key_id(), event, &export, &selection, more).await
    }

    async fn collect(&self, tenant: &Tenant, request: &ExportRequest) -> Result<Vec<Found>> {
        let question = Question {
            filter: &request.filter,
            order: request.order,
            cursor: None,
            wanted: limits::EXPORT_EVENTS_MAX + 1,
            scanned_max: SCANNED_MAX,
            within: None,
        };
        let mut search = Search::new(self, tenant, question, self.clock.now()).await?;
        let (mut collected, mut bytes) = (Vec::new(), 0);
        loop {
            let found = search.next().await?;
            if found.is_empty() {
                break;
            }
            bytes += found.iter().map(|found| found.record.leaf.as_bytes().len()).sum::<usize>();
            collected.extend(found);
            if collected.len() > limits::EXPORT_EVENTS_MAX {
                return Err(too_large("10,000 events"));
            }
            if bytes > LEAF_BYTES_MAX {
                return Err(too_large("5 MiB"));
            }
        }
        match search.frontier() {
            None => Ok(collected),
            Some(_) => Err(too_large("can be searched in one request")),
        }
    }
}

/// The filters among the parameters.
fn filters(parameters: &Parameters) -> Vec<(String, String)> {
    const NO_FILTERS: [&str; 5] = ["tenant_id", "organization_id", "order", "format", "covering"];
    let pairs = parameters.pairs().iter().filter(|(name, _)| !NO_FILTERS.contains(&name.as_str()));
    pairs.cloned().collect()
}

fn too_large(bound: &str) -> Error {
    let detail =
        format!("the export is more than {bound}: narrow it down, or start one with `POST /v1/exports`");
    Error::new(Code::ExportTooLarge, detail)
}
