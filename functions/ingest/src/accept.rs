//! One event: parse, derive the id, put (or queue), and answer what the put found.

use crate::body::{self, Media};
use crate::{Counts, Ingest};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use stele::access::{Grant, Scope};
use stele::error::{Code, Error, FieldProblem, Result};
use stele::event::Draft;
use stele::limits;
use stele::spill::Spilled;
use stele::wire::{self, Integrity};
use stele_adapters::acceptor::{Receipt, Sending, is_passing, tenant_of};
use stele_adapters::http::{self as answers, Response};

/// What became of an event.
pub(crate) enum Outcome {
    /// It is in the hot store.
    Stored(Receipt),
    /// It is in the queue, durably.
    Queued {
        /// As it will be stored.
        id: String,
        /// What was odd about it.
        warnings: Vec<FieldProblem>,
    },
}

#[derive(Serialize)]
pub(crate) struct ReceiptJson {
    leaf_hash: String,
    received_at: String,
    /// The signed promise that the event will be in the log.
    note: String,
}

impl Ingest {
    pub(crate) fn receipt_json(&self, stored: &Receipt) -> Result<ReceiptJson> {
        Ok(ReceiptJson {
            leaf_hash: stored.record.leaf_hash.to_string(),
            received_at: stored.record.received_at.to_string(),
            note: self.receipts.sign(stored)?,
        })
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

#[derive(Serialize)]
struct QueuedJson {
    success: bool,
    id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningJson>,
}

impl Ingest {
    pub(crate) async fn send_event(&self, grant: &Grant, parts: &Parts, body: Bytes) -> Result<Response> {
        let body = one_event(parts, body)?;
        let key = idempotency_key(parts)?;
        let respond_async = prefers_async(parts);
        let sending = Sending {
            grant,
            now: self.acceptor.clock.now(),
            idempotency_key: key.as_deref(),
            message_id: None,
        };
        let mut counts = Counts::default();
        let mut response = match self.accept(sending, &Draft::parse(&body)?, respond_async).await? {
            Outcome::Stored(receipt) => {
                if receipt.replayed {
                    counts.replayed += 1
                } else {
                    counts.accepted += 1
                }
                receipt_response(self.receipt_json(&receipt)?, receipt)?
            }
            Outcome::Queued { id, warnings } => {
                counts.queued += 1;
                answers::json(
                    StatusCode::ACCEPTED,
                    &QueuedJson { success: true, id, warnings: WarningJson::all(warnings) },
                )
            }
        };
        response.extensions_mut().insert(counts);
        if respond_async && response.status() == StatusCode::ACCEPTED {
            response.headers_mut().insert("preference-applied", HeaderValue::from_static("respond-async"));
        }
        Ok(response)
    }

    /// The same checks as sending, but for the tenant's own state: nothing is stored or looked up.
    pub(crate) fn validate(&self, grant: &Grant, parts: &Parts, body: Bytes) -> Result<Response> {
        let body = one_event(parts, body)?;
        let draft = Draft::parse(&body)?;
        let tenant = tenant_of(grant, &draft)?;
        let now = self.acceptor.clock.now();
        let oldest = (!grant.also(Scope::EventsBackfill)).then(|| now.minus_days(limits::PAST_DAYS_DEFAULT));
        let sending = Sending { grant, now, idempotency_key: None, message_id: None };
        let accepted = self.acceptor.apply(&draft, sending, &tenant, oldest)?;
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

    /// Stores one event, or finds that it was stored before; puts it into the queue if that is asked for or if the
    /// stores do not answer.
    pub(crate) async fn accept(
        &self,
        sending: Sending<'_>,
        draft: &Draft<'_>,
        respond_async: bool,
    ) -> Result<Outcome> {
        let arrival = self.acceptor.arrival(sending, draft).await?;
        let spilled = arrival.to_spilled();
        match spilled {
            Some(spilled) if respond_async => self.queue(&spilled, arrival.warnings).await,
            Some(spilled) => {
                let warnings = arrival.warnings.clone();
                match self.acceptor.store(arrival).await {
                    // Stored or not, nobody knows: the queue brings it to the same put, which stores nothing twice.
                    Err(error) if is_passing(&error) => {
                        tracing::warn!(%error, "an event goes onto the queue");
                        self.queue(&spilled, warnings).await
                    }
                    stored => stored.map(Outcome::Stored),
                }
            }
            None => self.acceptor.store(arrival).await.map(Outcome::Stored),
        }
    }

    async fn queue(&self, spilled: &Spilled, warnings: Vec<FieldProblem>) -> Result<Outcome> {
        // A crash right after this line leaves the event in the queue and unacknowledged, as after a put.
        self.spill.send(spilled.to_message(&self.acceptor.secrets)).await?;
        Ok(Outcome::Queued { id: spilled.record.id.shown(), warnings })
    }
}

fn receipt_response(shown: ReceiptJson, receipt: Receipt) -> Result<Response> {
    let status = if receipt.replayed { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = answers::json(
        status,
        &AcceptedJson {
            success: true,
            id: receipt.record.id.shown(),
            event: wire::event_json(&receipt.record, Integrity::Recorded)?,
            receipt: shown,
            warnings: WarningJson::all(receipt.warnings),
        },
    );
    if receipt.replayed {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Whether the request asks to be answered before its events are stored (RFC 7240 §4.1). Preferences we do not know
/// are ignored, as the RFC has it.
pub(crate) fn prefers_async(parts: &Parts) -> bool {
    let values = parts.headers.get_all("prefer").iter();
    let preferences = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    preferences
        .map(|preference| preference.split([';', '=']).next().unwrap_or_default().trim())
        .any(|name| name.eq_ignore_ascii_case("respond-async"))
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
