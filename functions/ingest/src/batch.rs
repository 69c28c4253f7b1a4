//! A batch: each event on its own, one bad event never costs the others.

use crate::accept::{Outcome, ReceiptJson, WarningJson, prefers_async, refuse_idempotency_key};
use crate::body::{self, Media};
use crate::{Counts, Ingest};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use stele::access::Grant;
use stele::error::{Code, Error, Result};
use stele::event::{BatchForm, Draft, batch_items};
use stele::limits;
use stele::ports::Remember;
use stele::problem::Problem;
use stele_adapters::acceptor::{Sending, tenant_of};
use stele_adapters::http::{self as answers, Response};

/// Puts under way at once for one batch.
const PUTS_AT_ONCE: usize = 32;

#[derive(Serialize)]
struct BatchJson<'a> {
    accepted: usize,
    replayed: usize,
    queued: usize,
    rejected: usize,
    results: Vec<ItemJson<'a>>,
}

#[derive(Serialize)]
struct ItemJson<'a> {
    index: usize,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem<'a>>,
}

impl Ingest {
    pub(crate) async fn send_batch(
        &self,
        grant: &Grant,
        parts: &Parts,
        body: Bytes,
        request_id: &str,
    ) -> Result<Response> {
        refuse_idempotency_key(parts)?;
        let format = match body::media(&parts.headers)? {
            Media::Json => BatchForm::Json,
            Media::NdJson => BatchForm::Ndjson,
        };
        let body = body::unpacked(&parts.headers, body, limits::BATCH_BYTES_MAX, Code::BatchTooLarge)?;
        let items = batch_items(&body, format)?;
        if items.len() > limits::BATCH_EVENTS_MAX {
            return Err(Error::new(
                Code::BatchTooLarge,
                format!(
                    "{} events in one batch; at most {} are taken",
                    items.len(),
                    limits::BATCH_EVENTS_MAX
                ),
            ));
        }
        let sending =
            Sending { grant, now: self.acceptor.clock.now(), idempotency_key: None, message_id: None };
        let respond_async = prefers_async(parts);
        let accepting: Vec<_> = in_groups(grant, &items)
            .into_iter()
            .map(|group| self.accept_group(sending, group, respond_async).boxed())
            .collect();
        let mut outcomes: Vec<(usize, _)> = stream::iter(accepting)
            .buffer_unordered(PUTS_AT_ONCE)
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .flatten()
            .collect();
        outcomes.sort_by_key(|(index, _)| *index);

        let mut answer = BatchJson { accepted: 0, replayed: 0, queued: 0, rejected: 0, results: Vec::new() };
        let errors: Vec<Option<&Error>> = outcomes.iter().map(|(_, o)| o.as_ref().err()).collect();
        for error in errors.iter().flatten().filter(|e| e.code().status() >= 500) {
            tracing::error!(request_id, %error, "an event of a batch was not stored");
        }
        for ((index, outcome), error) in outcomes.iter().zip(&errors) {
            let mut item = ItemJson {
                index: *index,
                status: 0,
                id: None,
                receipt: None,
                warnings: Vec::new(),
                error: error.map(Problem::of_item),
            };
            match outcome {
                Ok(Outcome::Queued { id, warnings }) => {
                    item.status = 202;
                    item.id = Some(id.clone());
                    item.warnings = WarningJson::all(warnings.clone());
                    answer.queued += 1;
                }
                Ok(Outcome::Stored(receipt)) => {
                    item.status = if receipt.replayed { 200 } else { 201 };
                    item.id = Some(receipt.record.id.shown());
                    item.receipt = Some(self.receipt_json(receipt)?);
                    item.warnings = WarningJson::all(receipt.warnings.clone());
                    if receipt.replayed { answer.replayed += 1 } else { answer.accepted += 1 }
                }
                Err(error) => {
                    item.status = error.code().status();
                    answer.rejected += 1;
                }
            }
            answer.results.push(item);
        }
        let mut response = answers::json(StatusCode::OK, &answer);
        response.extensions_mut().insert(Counts {
            accepted: answer.accepted as u64,
            replayed: answer.replayed as u64,
            queued: answer.queued as u64,
            rejected: answer.rejected as u64,
        });
        if respond_async {
            response.headers_mut().insert("preference-applied", HeaderValue::from_static("respond-async"));
        }
        Ok(response)
    }

    /// Accepts events that go by one id, one after the other in the order they were sent. A panic costs the event it
    /// happens at, not the batch.
    async fn accept_group(
        &self,
        sending: Sending<'_>,
        group: Group<'_>,
        respond_async: bool,
    ) -> Vec<(usize, Result<Outcome>)> {
        let mut outcomes = Vec::with_capacity(group.len());
        for (index, draft) in group {
            let accepting = async {
                match draft {
                    Ok(draft) => self.accept(sending, &draft, respond_async).await,
                    Err(error) => Err(error),
                }
            };
            let outcome = AssertUnwindSafe(accepting).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| {
                Err(Error::new(Code::Internal, "an event of the batch could not be processed"))
            });
            outcomes.push((index, outcome));
        }
        outcomes
    }
}

/// Events by their places in the batch.
type Group<'a> = Vec<(usize, Result<Draft<'a>>)>;

/// Reads the events, and puts those that go by one id together: the first of them is stored, and the others are
/// told that they are its replay or its conflict. Groups are in the order sent: what a batch does must repeat
/// itself.
fn in_groups<'a>(grant: &Grant, items: &[&'a [u8]]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::with_capacity(items.len());
    let mut by_name = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let draft = Draft::parse(item);
        let name = draft.as_ref().ok().and_then(|draft| {
            let id = draft.id().map(|id| id.to_string());
            let name = id.or_else(|| draft.external_id().map(Remember::external_id_name))?;
            Some((tenant_of(grant, draft).ok()?, name))
        });
        let group = match name {
            Some(name) => *by_name.entry(name).or_insert(groups.len()),
            None => groups.len(),
        };
        if group == groups.len() {
            groups.push(Vec::with_capacity(1));
        }
        groups[group].push((index, draft));
    }
    groups
}
