//! What was acknowledged with 202 and had to be refused when it was looked at: kept with its reason and its content,
//! so that whoever sent it can mend it. Nothing acknowledged is ever dropped.

use crate::error::Error;
use crate::id::TenantId;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The query parameters of `GET /v1/refused`.
pub const REFUSED_PARAMETERS: &[&str] = &["tenant_id", "organization_id", "limit", "cursor"];

/// Names a refusal: when its message was sent, and which message it was. Their order is the order of sending.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusalId(String);

impl RefusalId {
    /// Of a message.
    pub fn new(sent_at: Timestamp, message_id: &str) -> RefusalId {
        RefusalId(format!("{sent_at}#{message_id}"))
    }

    /// One that was shown before.
    pub fn parse(text: &str) -> Option<RefusalId> {
        let (time, message_id) = text.split_once('#')?;
        let fits = Timestamp::parse(time).is_ok_and(|parsed| parsed.to_string() == time)
            && matches!(message_id.len(), 1..=100)
            && message_id.bytes().all(|c| c.is_ascii_graphic());
        fits.then(|| RefusalId(text.to_owned()))
    }

    /// As stored and shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RefusalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its name.
    pub id: RefusalId,
    /// Whose event it was; `None` when the message does not show it in a way that can be trusted.
    pub tenant: Option<TenantId>,
    /// What is kept of it.
    pub facts: RefusalFacts,
}

/// What is kept of a refusal, beside its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalFacts {
    /// The event's id, with its prefix, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// When it was refused first, in milliseconds since 1970.
    pub refused_ms: u64,
    /// Stable code of the reason.
    pub code: String,
    /// The reason, safe to show.
    pub detail: String,
    /// The places of the event that are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<RefusedPlace>,
    /// The event as it was sent or queued: a JSON text, or whatever the message was instead.
    pub event: String,
}

/// One place of an event that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedPlace {
    /// JSON pointer.
    pub pointer: String,
    /// Stable code of the rule.
    pub code: String,
    /// What is wrong.
    pub detail: String,
    /// What to send instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl RefusalFacts {
    /// Of an error about an event.
    pub fn new(error: &Error, event_id: Option<String>, event: String, now: Timestamp) -> RefusalFacts {
        let place = |place: &crate::error::FieldProblem| RefusedPlace {
            pointer: place.pointer.clone(),
            code: place.code.to_owned(),
            detail: place.detail.clone(),
            suggestion: place.suggestion.clone(),
        };
        RefusalFacts {
            event_id,
            refused_ms: now.ms(),
            code: error.code().as_str().to_owned(),
            detail: error.detail().to_owned(),
            errors: error.problems().iter().map(place).collect(),
            event,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusals_name_comes_back_and_orders_by_time() {
        let early = RefusalId::new(Timestamp::from_ms(1), "m-2");
        let late = RefusalId::new(Timestamp::from_ms(2), "m-1");
        assert!(early < late);
        assert_eq!(RefusalId::parse(late.as_str()), Some(late));
        for bad in ["", "#m", "2026-01-01#m", "2026-01-01T00:00:00.000Z#", "2026-01-01T00:00:00.000Z#a b"] {
            assert_eq!(RefusalId::parse(bad), None, "{bad}");
        }
    }
}
