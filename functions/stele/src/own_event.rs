//! Events of the log's own: what was changed about it, and what it no longer holds. Their actions begin with `stele.`,
//! which no client may send. They are stored, sealed and searched like any other.

use crate::canonical::canonicalize;
use crate::error::Result;
use crate::id::{EventId, TenantId};
use crate::record::Record;
use crate::time::Timestamp;
use serde_json::{Map, Value, json};

/// Who did it: the system itself, or somebody with an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// The system, on its own schedule.
    System,
    /// A request with this key.
    Key(&'a str),
}

/// An event of the log's own.
#[derive(Clone, Debug)]
pub struct OwnEvent<'a> {
    /// Its id. It makes a repetition a replay: derive its random bits from what it is about.
    pub id: EventId,
    /// The tenant whose log it goes into.
    pub tenant: &'a TenantId,
    /// When it is stored. It occurred at its id's time.
    pub received_at: Timestamp,
    /// Who did it.
    pub by: By<'a>,
    /// What was done, `stele.…`.
    pub action: &'static str,
    /// What it was done to: a type and an id.
    pub resource: (&'a str, &'a str),
    /// One sentence.
    pub description: String,
    /// The particulars.
    pub metadata: Map<String, Value>,
}

impl OwnEvent<'_> {
    /// As a record.
    ///
    /// # Errors
    /// `corrupt` if the parts make no record: a fault of whoever made it.
    pub fn record(&self) -> Result<Record> {
        let (key_id, actor) = match self.by {
            By::System => ("stele", json!({"id": "stele", "type": "system"})),
            By::Key(key) => (key, json!({"id": key, "type": "api_key"})),
        };
        let leaf = json!({
            "v": 1,
            "id": self.id.to_string(),
            "tenant_id": self.tenant.as_str(),
            "occurred_at": self.id.time().to_string(),
            "received_at": self.received_at.to_string(),
            "key_id": key_id,
            "action": self.action,
            "actor": actor,
            "outcome": "success",
            "resource": {"type": self.resource.0, "id": self.resource.1},
            "description": self.description,
            "metadata": self.metadata,
        });
        Record::from_leaf(canonicalize(leaf.to_string().as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_our_own_is_a_record() {
        let tenant = TenantId::parse("acme").unwrap();
        let at = Timestamp::from_ms(1_800_000_000_000);
        let event = OwnEvent {
            id: EventId::new(at, 7),
            tenant: &tenant,
            received_at: at.plus_ms(5),
            by: By::System,
            action: "stele.archive.expired",
            resource: ("archive_file", "archive/x.parquet"),
            description: "1 event expired".to_owned(),
            metadata: Map::from_iter([("class_days".to_owned(), json!(365))]),
        };
        let record = event.record().unwrap();
        assert_eq!((record.id, record.action.as_str()), (event.id, "stele.archive.expired"));
        assert_eq!(record.received_at, at.plus_ms(5));
        let by_key = OwnEvent { by: By::Key("k1"), ..event }.record().unwrap();
        assert_eq!(
            (by_key.actor_id.as_str(), by_key.columns().unwrap().actor_type.as_ref()),
            ("k1", "api_key")
        );
    }
}
