//! `GET /v1/refused`: what was acknowledged with 202 and had to be refused later, with the reason.

use crate::Query;
use crate::listing::time;
use http::StatusCode;
use serde::Serialize;
use stele::access::Grant;
use stele::query::tenant_parameter;
use stele::refusal::{REFUSED_PARAMETERS, Refusal, RefusalId, RefusedPlace};
use stele::routes::Parameters;
use stele::time::Timestamp;
use stele::{Code, Error, Result, limits};
use stele_adapters::http::{Response, json};

#[derive(Serialize)]
struct Page<'a> {
    refused: Vec<RefusalJson<'a>>,
    next_cursor: Option<&'a str>,
}

#[derive(Serialize)]
struct RefusalJson<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(serialize_with = "time")]
    refused_at: Timestamp,
    code: &'a str,
    detail: &'a str,
    errors: &'a [RefusedPlace],
    event: &'a str,
}

impl<'a> RefusalJson<'a> {
    fn new(refusal: &'a Refusal) -> RefusalJson<'a> {
        let facts = &refusal.facts;
        RefusalJson {
            id: refusal.id.as_str(),
            event_id: facts.event_id.as_deref(),
            refused_at: Timestamp::from_ms(facts.refused_ms),
            code: &facts.code,
            detail: &facts.detail,
            errors: &facts.errors,
            event: &facts.event,
        }
    }
}

impl Query {
    /// A tenant's refusals; to a platform key that names no tenant, those of messages that show none.
    pub(crate) async fn refused(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(REFUSED_PARAMETERS)?;
        let limit = match parameters.one("limit")? {
            None => limits::REFUSALS_LIMIT_MAX,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=limits::REFUSALS_LIMIT_MAX).contains(limit))
                .ok_or_else(|| {
                    let most = limits::REFUSALS_LIMIT_MAX;
                    Error::new(Code::BadParameter, format!("`limit` must be a number from 1 to {most}"))
                })?,
        };
        let before = parameters.one("cursor")?.map(|text| {
            RefusalId::parse(text).ok_or_else(|| Error::new(Code::BadCursor, "the cursor is not one of ours"))
        });
        let before = before.transpose()?;
        // One more than asked for tells whether there is a next page.
        let refusals = match (grant.bound_tenant(), tenant_parameter(parameters)?) {
            (None, None) => self.refusals.unassigned_refusals(before.as_ref(), limit + 1).await?,
            _ => match self.tenant(grant, parameters).await? {
                Some(tenant) => self.refusals.refusals(&tenant, before.as_ref(), limit + 1).await?,
                None => Vec::new(),
            },
        };
        let shown = &refusals[..refusals.len().min(limit)];
        let more = refusals.len() > limit;
        Ok(json(
            StatusCode::OK,
            &Page {
                refused: shown.iter().map(RefusalJson::new).collect(),
                next_cursor: shown.last().filter(|_| more).map(|last| last.id.as_str()),
            },
        ))
    }
}
