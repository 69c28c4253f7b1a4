//! `/v1/exports`: asking for exports of any size, how far they are, and the way to their files. Making them is the export
//! function's work.
//!
//! A request is durable in this order: the export's record, its event in the tenant's own log, its errand. What a crash leaves
//! between two of them, the same request sent again completes; so does looking at the export, once it is overdue.

use crate::Query;
use crate::body::{Faults, members};
use crate::holds::{REPLAYED, idempotency_key};
use crate::policy::shown;
use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_RANGE, LOCATION, RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::ops::Range;
use stele::access::{Grant, Scope, Tenant};
use stele::bundle::BundleRequest;
use stele::export::{Export, ExportErrand, Failure, Format, Selection, Since, State};
use stele::id::{EventId, TenantId};
use stele::own_event::{By, OwnEvent};
use stele::ports::ExportLink;
use stele::query::tenant_parameter;
use stele::routes::{Parameters, PathParameters, Shown, bad_parameter};
use stele::time::Timestamp;
use stele::tlog::hash::TreeSize;
use stele::{Code, Error, Result, limits};
use stele_adapters::http::{FileBody, Response, answer, json as json_answer};

const LIMIT_DEFAULT: usize = 50;
/// Records looked through at once for the last of a series.
const PAGE: usize = 100;

#[derive(Serialize)]
struct ExportJson<'a> {
    id: &'a str,
    tenant_id: &'a str,
    state: State,
    format: Format,
    filter: Map<String, Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    covering: bool,
    since: Value,
    first: u64,
    tree_size: u64,
    watermarks: Watermarks,
    created_at: String,
    created_by: &'a str,
    finished_at: Option<String>,
    progress: Progress,
    file: Option<FileJson<'a>>,
    error: Option<&'a Failure>,
}

#[derive(Serialize)]
struct Watermarks {
    accepted: String,
    sealed: Option<String>,
}

#[derive(Serialize)]
struct Progress {
    done: u64,
    leaves: u64,
}

#[derive(Serialize)]
struct FileJson<'a> {
    bytes: u64,
    sha256: &'a str,
    events: u64,
    first: u64,
    end: u64,
    expired: u64,
    kept_until: String,
    url: Option<String>,
    url_expires_at: Option<String>,
}

#[derive(Serialize)]
struct Listed<'a> {
    exports: Vec<ExportJson<'a>>,
    next_cursor: Option<&'a str>,
}

/// What a body asks for.
struct Wanted {
    tenant: Option<TenantId>,
    selection: Selection,
    since: Since,
}

impl Query {
    pub(crate) async fn create_export(
        &self,
        grant: &Grant,
        parts: &Parts,
        parameters: &Parameters,
        body: &[u8],
    ) -> Result<Response> {
        parameters.only(&[])?;
        let key = idempotency_key(parts)?;
        let now = self.clock.now();
        let wanted = Wanted::parse(body, now)?;
        if wanted.selection.format == Format::Evidence {
            may_export_evidence(grant)?;
        }
        let id = grant.choose(wanted.tenant.as_ref(), "tenant_id")?;
        let tenant = match self.tenant_now(grant, &id).await? {
            Some(tenant) => tenant,
            None if grant.bound_tenant().is_some() => self.tenants.find_or_create(grant, &id).await?,
            None => return Err(Error::new(Code::NotFound, format!("there is no tenant `{id}`"))),
        };
        let head = self.heads.head(&tenant).await?;
        let size = head.as_ref().map_or(TreeSize::ZERO, |head| head.size());
        let archived = self.last_archived(&tenant, size).await?.map_or(TreeSize::ZERO, |last| last.end);
        let first = match wanted.since {
            Since::Beginning => 0,
            Since::Last => self.end_of_last(&tenant, &wanted.selection).await?,
            Since::Leaf(leaf) if leaf > size.to_u64() => {
                let mut faults = Faults::default();
                let detail = format!("`since` is beyond the log, which has {size} leaves");
                faults.problem("/since", "bad_value", detail);
                return Err(faults.refuse("no export was begun").err().unwrap_or_else(unknown));
            }
            Since::Leaf(leaf) => leaf,
        };
        let export = Export {
            id: Export::id(now, self.random.bits()),
            revision: 0,
            created_ms: now.ms(),
            created_by: grant.key_id().to_owned(),
            selection: wanted.selection,
            since: wanted.since,
            first,
            end: size.to_u64(),
            archived: archived.to_u64(),
            sealed_ms: head.map_or(0, |head| head.received_max.ms()),
            sent_ms: now.ms(),
            state: State::Queued,
            attempts: 0,
            done: 0,
            claim: None,
            finished_ms: None,
            file: None,
            failure: None,
        };
        let name = key.as_deref().map(|key| self.secrets.export_name(&id, key));
        let stored = self.exports.create_export(&tenant, &export, name.as_deref()).await?;
        let replayed = stored.id != export.id;
        if (&stored.selection, stored.since) != (&export.selection, export.since) {
            let detail = format!("the `Idempotency-Key` has begun `{}`, another export", stored.id);
            return Err(Error::new(Code::EventConflict, detail));
        }
        self.see_through_export(&tenant, &stored).await?;
        let status = if replayed { StatusCode::OK } else { StatusCode::ACCEPTED };
        let mut response = json_answer(status, &self.shown_export(grant, &tenant, &stored).await?);
        let location = format!("/v1/exports/{}{}", stored.id, of_tenant(grant, &tenant));
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers_mut().insert(LOCATION, location);
        }
        if replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        Ok(response)
    }

    pub(crate) async fn list_exports(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&["tenant_id", "organization_id", "limit", "cursor"])?;
        let limit = match parameters.one("limit")? {
            None => LIMIT_DEFAULT,
            Some(text) => match text.parse::<usize>() {
                Ok(limit @ 1..=limits::EXPORTS_LIMIT_MAX) => limit,
                _ => {
                    let most = limits::EXPORTS_LIMIT_MAX;
                    let detail = format!("`{}` in `limit` is not a number from 1 to {most}", Shown(text));
                    return Err(bad_parameter("limit", "bad_value", detail));
                }
            },
        };
        let cursor = parameters.one("cursor")?;
        if cursor.is_some_and(|cursor| !Export::is_id(cursor)) {
            return Err(Error::new(Code::BadCursor, "the cursor is not one of this listing's"));
        }
        let Some(tenant) = self.tenant(grant, parameters).await? else {
            return Ok(json_answer(StatusCode::OK, &Listed { exports: Vec::new(), next_cursor: None }));
        };
        // One more says whether there are more.
        let mut found = self.exports.exports(&tenant, cursor, limit + 1).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let mut exports = Vec::with_capacity(found.len());
        for export in &found {
            exports.push(self.shown_export(grant, &tenant, export).await?);
        }
        let next_cursor = found.last().filter(|_| more).map(|last| last.id.as_str());
        Ok(json_answer(StatusCode::OK, &Listed { exports, next_cursor }))
    }

    pub(crate) async fn export_job(
        &self,
        grant: &Grant,
        path: &PathParameters,
        parameters: &Parameters,
    ) -> Result<Response> {
        let (tenant, mut export) = self.found_export(grant, path, parameters).await?;
        let now = self.clock.now();
        if export.is_overdue(now) {
            let sent = export.sent(now);
            if self.exports.replace_export(&tenant, export.revision, &sent).await? {
                export = sent;
                self.see_through_export(&tenant, &export).await?;
            }
        }
        Ok(json_answer(StatusCode::OK, &self.shown_export(grant, &tenant, &export).await?))
    }

    pub(crate) async fn export_file(
        &self,
        grant: &Grant,
        parts: &Parts,
        path: &PathParameters,
        parameters: &Parameters,
    ) -> Result<Response> {
        let (tenant, export) = self.found_export(grant, path, parameters).await?;
        let gone = || Error::new(Code::NotFound, "the export has no file, or none any more");
        let media_type = export.selection.format.media_type();
        let total = export.file.as_ref().map_or(0, |file| file.bytes);
        let range = asked_range(&parts.headers, total);
        let mut response = match self.link_of(&tenant, &export).await?.ok_or_else(gone)? {
            ExportLink::Url(url) => {
                let mut response = answer(StatusCode::TEMPORARY_REDIRECT, media_type, Bytes::new());
                let location = HeaderValue::try_from(url)
                    .map_err(|e| Error::new(Code::Internal, "making a link to an export").with_source(e))?;
                response.headers_mut().insert(LOCATION, location);
                return Ok(response);
            }
            ExportLink::Bytes(bytes) => {
                let wanted = range.clone().unwrap_or(0..total);
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
                answer(StatusCode::OK, media_type, bytes.slice(at(wanted.start)..at(wanted.end)))
            }
            ExportLink::File(path) => {
                let mut response = answer(StatusCode::OK, media_type, Bytes::new());
                let range = range.clone().unwrap_or(0..total);
                response.extensions_mut().insert(FileBody { path, range });
                response
            }
        };
        let headers = response.headers_mut();
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let name = format!("attachment; filename=\"{}\"", export.file_name());
        if let Ok(name) = HeaderValue::try_from(name) {
            headers.insert(CONTENT_DISPOSITION, name);
        }
        if let Some(range) = range
            && let Ok(value) =
                HeaderValue::try_from(format!("bytes {}-{}/{total}", range.start, range.end - 1))
        {
            headers.insert(CONTENT_RANGE, value);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Ok(response)
    }

    /// The export a path names. Unknown, foreign and malformed ids look alike.
    async fn found_export(
        &self,
        grant: &Grant,
        path: &PathParameters,
        parameters: &Parameters,
    ) -> Result<(Tenant, Export)> {
        parameters.only(&["tenant_id", "organization_id"])?;
        let id = grant.choose(tenant_parameter(parameters)?.as_ref(), "tenant_id")?;
        let tenant = self.tenants.find(grant, &id).await?.ok_or_else(unknown)?;
        let id = Some(path.value("id")).filter(|id| Export::is_id(id)).ok_or_else(unknown)?;
        let export = self.exports.export(&tenant, id).await?.ok_or_else(unknown)?;
        Ok((tenant, export))
    }

    /// Where the last finished export of a series ended; 0 if there is none.
    async fn end_of_last(&self, tenant: &Tenant, selection: &Selection) -> Result<u64> {
        let mut before: Option<String> = None;
        loop {
            let page = self.exports.exports(tenant, before.as_deref(), PAGE).await?;
            let last = page.iter().find(|export| export.selection == *selection && export.file.is_some());
            if let Some(file) = last.and_then(|last| last.file.as_ref()) {
                return Ok(file.end);
            }
            if page.len() < PAGE {
                return Ok(0);
            }
            before = page.last().map(|last| last.id.clone());
        }
    }

    /// What follows from an export on record: its event in the log, and its errand. Repeating it costs a look.
    async fn see_through_export(&self, tenant: &Tenant, export: &Export) -> Result<()> {
        let at = Timestamp::from_ms(export.created_ms);
        let metadata = [
            ("since", since_json(export.since)),
            ("first", json!(export.first)),
            ("tree_size", json!(export.end)),
        ];
        let (by, bits) = (&export.created_by, self.secrets.own_event_bits(tenant.id(), &export.id));
        let event = EventId::new(at, bits);
        self.tell_of_export(tenant, by, event, &export.id, &export.selection, metadata).await?;
        if export.state.is_final() {
            return Ok(());
        }
        let errand = ExportErrand { tenant: tenant.id().clone(), export: export.id.clone() };
        self.exporting.send(errand.message()).await
    }

    /// Stores the event of the log's own that somebody exports it.
    pub(crate) async fn tell_of_export<const N: usize>(
        &self,
        tenant: &Tenant,
        by: &str,
        event: EventId,
        export: &str,
        selection: &Selection,
        more: [(&str, Value); N],
    ) -> Result<()> {
        let mut metadata = Map::from_iter([
            ("format".to_owned(), json!(selection.format)),
            ("filter".to_owned(), Value::Object(filter_json(&selection.filter))),
        ]);
        if selection.covering {
            metadata.insert("covering".to_owned(), json!(true));
        }
        metadata.extend(more.map(|(name, value)| (name.to_owned(), value)));
        let event = OwnEvent {
            id: event,
            tenant: tenant.id(),
            received_at: self.clock.now().max(event.time()),
            by: By::Key(by),
            action: "stele.export.created",
            resource: ("export", export),
            description: format!("export of events as {} asked for", selection.format),
            metadata,
        };
        self.put_own_event(tenant, &event).await
    }

    async fn link_of(&self, tenant: &Tenant, export: &Export) -> Result<Option<ExportLink>> {
        if export.kept_until().is_none_or(|until| until <= self.clock.now()) {
            return Ok(None);
        }
        let (key, media_type) = (export.key(tenant.id()), export.selection.format.media_type());
        self.export_files.link(&key, &export.file_name(), media_type).await
    }

    async fn shown_export<'a>(
        &self,
        grant: &Grant,
        tenant: &'a Tenant,
        export: &'a Export,
    ) -> Result<ExportJson<'a>> {
        let link = self.link_of(tenant, export).await?;
        let until = self.clock.now().plus_ms(u64::from(limits::EXPORT_LINK_SECONDS) * 1000);
        let (url, url_expires_at) = match link {
            None => (None, None),
            Some(ExportLink::Url(url)) => (Some(url), Some(until.to_string())),
            Some(ExportLink::File(_) | ExportLink::Bytes(_)) => {
                (Some(format!("/v1/exports/{}/file{}", export.id, of_tenant(grant, tenant))), None)
            }
        };
        let file = export.file.as_ref().zip(export.kept_until()).map(|(file, kept_until)| FileJson {
            bytes: file.bytes,
            sha256: &file.sha256,
            events: file.events,
            first: file.first,
            end: file.end,
            expired: file.expired,
            kept_until: kept_until.to_string(),
            url,
            url_expires_at,
        });
        Ok(ExportJson {
            id: &export.id,
            tenant_id: tenant.id().as_str(),
            state: export.state,
            format: export.selection.format,
            filter: filter_json(&export.selection.filter),
            covering: export.selection.covering,
            since: since_json(export.since),
            first: export.first,
            tree_size: export.end,
            watermarks: Watermarks {
                accepted: shown(export.created_ms),
                sealed: Some(export.sealed_ms).filter(|ms| *ms > 0).map(shown),
            },
            created_at: shown(export.created_ms),
            created_by: &export.created_by,
            finished_at: export.finished_ms.map(shown),
            progress: Progress { done: export.done, leaves: export.leaves() },
            file,
            error: export.failure.as_ref(),
        })
    }
}

/// Evidence holds proofs, whichever way it is asked for.
pub(crate) fn may_export_evidence(grant: &Grant) -> Result<()> {
    match grant.also(Scope::ExportsWrite) && grant.also(Scope::ProofsRead) {
        true => Ok(()),
        false => Err(Error::new(
            Code::InsufficientScope,
            "a bundle holds proofs: the key needs the scopes `exports:write` and `proofs:read`",
        )),
    }
}

/// What a path needs where the key does not say whose it is.
fn of_tenant(grant: &Grant, tenant: &Tenant) -> String {
    match grant.bound_tenant() {
        Some(_) => String::new(),
        // Of a tenant's id nothing has to be escaped.
        None => format!("?tenant_id={}", tenant.id()),
    }
}

fn unknown() -> Error {
    Error::new(Code::NotFound, "there is no such export")
}

fn filter_json(filter: &[(String, String)]) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, value) in filter {
        if let Value::Array(values) = map.entry(name.clone()).or_insert_with(|| json!([])) {
            values.push(json!(value));
        }
    }
    map
}

fn since_json(since: Since) -> Value {
    match since {
        Since::Beginning => Value::Null,
        Since::Last => json!("last"),
        Since::Leaf(leaf) => json!(leaf),
    }
}

/// The one range of bytes a request asks for, if there is such a one; any other is answered with the whole (RFC 9110 §14.2).
fn asked_range(headers: &HeaderMap, total: u64) -> Option<Range<u64>> {
    let (first, last) = headers.get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let end = match last {
        "" => total,
        last => last.parse::<u64>().ok()?.checked_add(1)?.min(total),
    };
    (first < end).then_some(first..end)
}

impl Wanted {
    fn parse(body: &[u8], now: Timestamp) -> Result<Wanted> {
        let members = members(body)?;
        let mut faults = Faults::default();
        let (mut tenant, mut format, mut since) = (None, None, Since::Beginning);
        let (mut filter, mut covering) = (Vec::new(), false);
        for (name, value) in &members {
            match (name.as_str(), value) {
                ("tenant_id" | "filter" | "covering" | "since", Value::Null) => {}
                ("tenant_id", Value::String(text)) => match TenantId::parse(text) {
                    Some(id) => tenant = Some(id),
                    None => faults.problem(
                        "/tenant_id",
                        "bad_value",
                        format!("`{}` cannot be a tenant's id", Shown(text)),
                    ),
                },
                ("tenant_id", _) => {
                    faults.problem("/tenant_id", "bad_value", "`tenant_id` must be a string".to_owned());
                }
                ("format", value) => match value.as_str().and_then(Format::parse) {
                    Some(known) => format = Some(known),
                    None => {
                        let names = Format::ALL.map(|format| format!("`{format}`")).join(", ");
                        let detail = format!("`format` must be one of {names}");
                        faults.problem("/format", "bad_value", detail);
                    }
                },
                ("covering", Value::Bool(value)) => covering = *value,
                ("covering", _) => {
                    faults.problem("/covering", "bad_value", "`covering` must be true or false".to_owned());
                }
                ("since", Value::String(text)) if text == "last" => since = Since::Last,
                ("since", value) => match value.as_u64().filter(|leaf| *leaf <= limits::INTEGER_MAX) {
                    Some(leaf) => since = Since::Leaf(leaf),
                    None => {
                        let detail =
                            "`since` must be `last` or a leaf index, a whole number from 0".to_owned();
                        faults.problem("/since", "bad_value", detail);
                    }
                },
                ("filter", Value::Object(terms)) => {
                    for (term, value) in terms {
                        read_term(term, value, &mut filter, &mut faults);
                    }
                }
                ("filter", _) => {
                    faults.problem("/filter", "bad_value", "`filter` must be an object".to_owned());
                }
                (other, _) => faults.unknown_field(other),
            }
        }
        if format.is_none() && !members.contains_key("format") {
            let names = Format::ALL.map(|format| format!("`{format}`")).join(", ");
            faults.problem("/format", "required", format!("`format` must say how it is written: {names}"));
        }
        if covering && format.is_some_and(|format| format != Format::Evidence) {
            let detail = "`covering` is for the format `evidence`".to_owned();
            faults.problem("/covering", "contradiction", detail);
        }
        faults.refuse("no export was begun")?;
        let Some(format) = format else {
            return Err(Error::new(Code::Internal, "a format that is missing was not noticed"));
        };
        // Whether the terms make a filter, by the rules they have in a query string.
        let read = BundleRequest { filter: filter.clone(), ..BundleRequest::default() };
        read.filter(now)?;
        Ok(Wanted { tenant, selection: Selection::new(format, filter, covering), since })
    }
}

fn read_term(term: &str, value: &Value, filter: &mut Vec<(String, String)>, faults: &mut Faults) {
    let values = match value {
        Value::String(_) => std::slice::from_ref(value),
        Value::Array(values) => values.as_slice(),
        _ => &[],
    };
    let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
    match texts.filter(|texts| !texts.is_empty()) {
        Some(texts) => filter.extend(texts.into_iter().map(|text| (term.to_owned(), text.to_owned()))),
        None => {
            let mut pointer = "/filter".to_owned();
            stele::json::push_token(&mut pointer, term);
            let detail = format!("`{}` must be a string or a list of strings", Shown(term));
            faults.problem(pointer, "bad_value", detail);
        }
    }
}
