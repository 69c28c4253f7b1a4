//! What one function asks another: whether the log holds an id that the hot store may have forgotten. Ingest asks query,
//! which can read segments; so ingest needs no right to read any.

use crate::error::{Error, Result};
use crate::id::{EventId, TenantId};
use crate::record::Record;
use crate::time::Timestamp;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// In whose log.
    pub tenant: TenantId,
    /// Which event.
    pub id: EventId,
    /// It was received then or before.
    pub forgotten: Timestamp,
}

/// A question as sent. Requests of clients come in an envelope that has no such member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupMessage {
    stele_lookup: LookupParts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupParts {
    tenant_id: String,
    id: String,
    forgotten_ms: u64,
}

/// An answer as sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupAnswer {
    leaf: Option<String>,
}

impl Lookup {
    /// As sent.
    pub fn to_message(&self) -> LookupMessage {
        LookupMessage {
            stele_lookup: LookupParts {
                tenant_id: self.tenant.as_str().to_owned(),
                id: self.id.to_string(),
                forgotten_ms: self.forgotten.ms(),
            },
        }
    }

    /// From a message; `None` if it names no tenant or event.
    pub fn from_message(message: &LookupMessage) -> Option<Lookup> {
        let parts = &message.stele_lookup;
        Some(Lookup {
            tenant: TenantId::parse(&parts.tenant_id)?,
            id: EventId::parse(&parts.id)?,
            forgotten: Timestamp::from_ms(parts.forgotten_ms),
        })
    }

    /// The record an answer holds, which must be the one that was asked for.
    ///
    /// # Errors
    /// `corrupt`
    pub fn record(&self, answer: &LookupAnswer) -> Result<Option<Record>> {
        let Some(leaf) = &answer.leaf else { return Ok(None) };
        let at = || format!("the answer to a question for `{}`", self.id);
        let leaf = STANDARD.decode(leaf).map_err(|e| Error::corrupt(at(), "base64", e))?;
        let record = Record::from_leaf(leaf)?;
        if (&record.tenant, record.id) != (&self.tenant, self.id) {
            return Err(Error::corrupt(
                at(),
                format!("an event of `{}`", self.tenant),
                format!("`{}` of `{}`", record.id, record.tenant),
            ));
        }
        Ok(Some(record))
    }
}

impl LookupAnswer {
    /// Of what was found.
    pub fn of(record: Option<&Record>) -> LookupAnswer {
        LookupAnswer { leaf: record.map(|record| STANDARD.encode(record.leaf.as_bytes())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_and_answer_come_back_and_another_event_is_no_answer() {
        let leaf = concat!(
            r#"{"action":"invoice.deleted","actor":{"id":"u","type":"user"},"#,
            r#""id":"019b76da-a87b-7000-8000-000000000007","key_id":"k","occurred_at":"2026-01-01T00:00:00.123Z","#,
            r#""outcome":"success","received_at":"2026-01-01T00:00:01.123Z","tenant_id":"acme","v":1}"#
        );
        let record = Record::from_leaf(leaf.as_bytes().to_vec()).unwrap();
        let lookup = Lookup { tenant: record.tenant.clone(), id: record.id, forgotten: record.received_at };
        let text = serde_json::to_string(&lookup.to_message()).unwrap();
        let message = serde_json::from_str(&text).unwrap();
        assert_eq!(Lookup::from_message(&message), Some(lookup.clone()));
        assert_eq!(lookup.record(&LookupAnswer::of(None)).unwrap(), None);
        let answer = LookupAnswer::of(Some(&record));
        assert_eq!(lookup.record(&answer).unwrap(), Some(record));
        let other = Lookup { tenant: TenantId::parse("globex").unwrap(), ..lookup };
        assert_eq!(other.record(&answer).unwrap_err().code(), crate::Code::Corrupt);
    }
}
