//! One event: parse, derive the id, put, and answer what the put found.

use crate::Ingest;
use crate::body::{self, Media};
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;
use serde_json::value::RawValue;
use stele::access::{Grant, Scope, Tenant};
use stele::error::{Code, Error, FieldProblem, Result};
use stele::event::{Accepted, Draft, Terms, same_content};
use stele::id::TenantId;
use stele::limits;
use stele::ports::{Put, PutOutcome, Remember};
use stele::record::Record;
use stele::time::Timestamp;
use stele::wire::{self, Integrity};
use stele_adapters::http::{self as answers, Response};

/// An accepted event's answer.
pub(crate) struct Receipt {
    pub(crate) record: Record,
    pub(crate) replayed: bool,
    pub(crate) warnings: Vec<FieldProblem>,
}

#[derive(Serialize)]
pub(crate) struct ReceiptJson {
    leaf_hash: String,
    received_at: String,
}

impl ReceiptJson {
    pub(crate) fn of(record: &Record) -> ReceiptJson {
        ReceiptJson { leaf_hash: record.leaf_hash.to_string(), received_at: record.received_at.to_string() }
    }
}

#[derive(Serialize)]
pub(crate) struct WarningJson {
    pointer: String,
    code: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggestion: Option<String>,
}

impl WarningJson {
    pub(crate) fn all(warnings: Vec<FieldProblem>) -> Vec<WarningJson> {
        let json = |w: FieldProblem| WarningJson {
            pointer: w.pointer,
            code: w.code,
            detail: w.detail,
            suggestion: w.suggestion,
        };
        warnings.into_iter().map(json).collect()
    }
}

#[derive(Serialize)]
struct AcceptedJson {
    success: bool,
    id: String,
    event: Box<RawValue>,
    receipt: ReceiptJson,
    warnings: Vec<WarningJson>,
}

#[derive(Serialize)]
struct ValidJson {
    valid: bool,
    event: Box<RawValue>,
    warnings: Vec<WarningJson>,
}

/// What a request says of all its events.
#[derive(Clone, Copy)]
pub(crate) struct Sending<'a> {
    pub(crate) grant: &'a Grant,
    pub(crate) now: Timestamp,
    pub(crate) idempotency_key: Option<&'a str>,
}

impl Ingest {
    pub(crate) async fn send_event(&self, grant: &Grant, parts: &Parts, body: Bytes) -> Result<Response> {
        let body = one_event(parts, body)?;
        let key = idempotency_key(parts)?;
        let sending = Sending { grant, now: self.clock.now(), idempotency_key: key.as_deref() };
        let receipt = self.accept(sending, Draft::parse(&body)?).await?;
        let status = if receipt.replayed { StatusCode::OK } else { StatusCode::CREATED };
        let mut response = answers::json(
            status,
            &AcceptedJson {
                success: true,
                id: receipt.record.id.shown(),
                event: wire::event_json(&receipt.record, Integrity::Recorded)?,
                receipt: ReceiptJson::of(&receipt.record),
                warnings: WarningJson::all(receipt.warnings),
            },
        );
        if receipt.replayed {
            response.headers_mut().insert("idempotent-replayed", http::HeaderValue::from_static("true"));
        }
        Ok(response)
    }

    /// The same checks as sending, but for the tenant's own state: nothing is stored or looked up.
    pub(crate) fn validate(&self, grant: &Grant, parts: &Parts, body: Bytes) -> Result<Response> {
        let body = one_event(parts, body)?;
        let draft = Draft::parse(&body)?;
        let tenant = tenant_of(grant, &draft)?;
        let now = self.clock.now();
        let oldest = (!grant.also(Scope::EventsBackfill)).then(|| now.minus_days(limits::PAST_DAYS_DEFAULT));
        let sending = Sending { grant, now, idempotency_key: None };
        let accepted = self.apply(&draft, sending, &tenant, oldest)?;
        if let Some(out_of_range) = accepted.out_of_range {
            return Err(out_of_range);
        }
        Ok(answers::json(
            StatusCode::OK,
            &ValidJson {
                valid: true,
                event: wire::event_json(&accepted.record, Integrity::Recorded)?,
                warnings: WarningJson::all(accepted.warnings),
            },
        ))
    }

    /// Accepts one event, or finds that it was accepted before.
    pub(crate) async fn accept(&self, sending: Sending<'_>, draft: Draft<'_>) -> Result<Receipt> {
        let id = tenant_of(sending.grant, &draft)?;
        let tenant = self.tenants.find_or_create(sending.grant, &id).await?;
        let oldest = match tenant.record().past_days {
            Some(days) if !sending.grant.also(Scope::EventsBackfill) => Some(sending.now.minus_days(days)),
            _ => None,
        };
        let accepted = self.apply(&draft, sending, tenant.id(), oldest)?;
        self.store(&tenant, sending, accepted).await
    }

    fn apply(
        &self,
        draft: &Draft<'_>,
        sending: Sending<'_>,
        tenant: &TenantId,
        oldest: Option<Timestamp>,
    ) -> Result<Accepted> {
        draft.accept(&Terms {
            tenant,
            key_id: sending.grant.key_id(),
            now: sending.now,
            id_secret: &self.secrets.id_secret(tenant),
            random: match sending.idempotency_key {
                Some(key) => self.secrets.idempotent_bits(tenant, key),
                None => self.random.bits(),
            },
            oldest,
        })
    }

    async fn store(&self, tenant: &Tenant, sending: Sending<'_>, accepted: Accepted) -> Result<Receipt> {
        let Accepted { record, warnings, remember, occurred_at_defaulted, out_of_range } = accepted;
        let name = match (remember, sending.idempotency_key) {
            (Some(_), Some(_)) => return Err(two_names()),
            (Some(external_id), None) => Some(Remember::external_id_name(&external_id)),
            (None, Some(key)) => Some(Remember::idempotency_key_name(key)),
            (None, None) => None,
        };
        // What was received until then the hot store may have forgotten; it may have been dated ahead.
        let forgotten = sending.now.minus_days(tenant.record().hot_days);
        if record.occurred_at <= forgotten.plus_ms(limits::FUTURE_MS_MAX)
            && let Some(stored) = self.places.forgotten_record(tenant, record.id, forgotten).await?
        {
            return replay(stored, &record, occurred_at_defaulted, warnings);
        }
        if let Some(out_of_range) = out_of_range {
            // A retry may come when its event has grown too old: what is stored stays acknowledged.
            return match self.hot.record(tenant, record.id).await? {
                Some(stored) => replay(stored, &record, occurred_at_defaulted, warnings),
                None => Err(out_of_range),
            };
        }
        self.note_late_day(tenant, &record).await?;
        let put = Put {
            expires: record.received_at.plus_days(tenant.record().hot_days),
            remember: name.map(|name| Remember {
                name,
                now: sending.now,
                until: sending.now.plus_ms(limits::REMEMBERED_MS),
            }),
            record,
        };
        // A crash right after this line leaves a stored record without an answer: the retry finds it.
        let outcome = self.hot.put(tenant, &put).await?;
        let record = put.record;
        match outcome {
            PutOutcome::Stored => Ok(Receipt { record, replayed: false, warnings }),
            PutOutcome::Exists(stored) | PutOutcome::Remembered(stored) => {
                replay(stored, &record, occurred_at_defaulted, warnings)
            }
        }
    }

    /// Notes, once per process, that records of another day than today's are received: reconcile and listings
    /// find them by that. It comes before the put, so that no record is ever without its note.
    async fn note_late_day(&self, tenant: &Tenant, record: &Record) -> Result<()> {
        let (received, occurred) = (record.received_at.day(), record.occurred_at.day());
        if received == occurred || self.noted.contains(tenant.id(), received, occurred) {
            return Ok(());
        }
        self.hot.mark_late(tenant, received, occurred).await?;
        self.noted.insert(tenant.id(), received, occurred);
        Ok(())
    }
}

/// The original receipt, if the content is the same.
fn replay(
    stored: Record,
    sent: &Record,
    occurred_at_defaulted: bool,
    warnings: Vec<FieldProblem>,
) -> Result<Receipt> {
    if same_content(stored.leaf.as_bytes(), sent.leaf.as_bytes(), occurred_at_defaulted) {
        return Ok(Receipt { record: stored, replayed: true, warnings });
    }
    Err(Error::new(
        Code::EventConflict,
        format!(
            "`{}` was accepted at {} with other content: another event needs another id",
            stored.id.shown(),
            stored.received_at
        ),
    ))
}

fn one_event(parts: &Parts, body: Bytes) -> Result<Bytes> {
    if body::media(&parts.headers)? == Media::NdJson {
        return Err(Error::new(
            Code::UnsupportedMediaType,
            "one event is `application/json`; send NDJSON to `/v1/events/batch`",
        ));
    }
    body::unpacked(&parts.headers, body, limits::EVENT_BODY_BYTES_MAX, Code::EventTooLarge)
}

/// The tenant of an event: the key's, or the one the event names.
pub(crate) fn tenant_of(grant: &Grant, draft: &Draft<'_>) -> Result<TenantId> {
    if grant.bound_tenant().is_none() && draft.tenant().is_none() {
        return Err(Error::new(Code::ValidationFailed, "the event names no tenant").with_problems(vec![
            FieldProblem {
                pointer: "/tenant_id".to_owned(),
                code: "required",
                detail: "a platform key must say whose event this is".to_owned(),
                suggestion: None,
            },
        ]));
    }
    grant.choose(draft.tenant(), "tenant_id")
}

fn idempotency_key(parts: &Parts) -> Result<Option<String>> {
    let Some(value) = parts.headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().map(|t| t.trim().trim_matches('"')).unwrap_or_default();
    if matches!(text.len(), 1..=limits::IDEMPOTENCY_KEY_BYTES_MAX) && text.is_ascii() {
        return Ok(Some(text.to_owned()));
    }
    Err(Error::new(
        Code::BadParameter,
        format!(
            "`Idempotency-Key` must be 1 to {} visible ASCII characters",
            limits::IDEMPOTENCY_KEY_BYTES_MAX
        ),
    ))
}

pub(crate) fn refuse_idempotency_key(parts: &Parts) -> Result<()> {
    match parts.headers.get("idempotency-key") {
        None => Ok(()),
        Some(_) => Err(Error::new(
            Code::BadParameter,
            "a batch takes no `Idempotency-Key`: give each event an `id` of its own",
        )),
    }
}

fn two_names() -> Error {
    Error::new(
        Code::BadParameter,
        "an event with an id of your own is remembered by that id: leave `Idempotency-Key` out",
    )
}
