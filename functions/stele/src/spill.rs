//! Messages of the spill queue: what `ingest` could not or should not store at once, and what apps inside the same
//! cloud account send without HTTP.
//!
//! A message of `ingest` holds a finished leaf and is sealed with a MAC: the queue takes messages from whoever has the
//! right to send, and only ingest may speak for a tenant without showing a key. Id and `occurred_at` are fixed in
//! it, so that delivering it again changes nothing; `received_at` is set by whoever stores it.

use crate::access::Secrets;
use crate::error::{Code, Error, Result};
use crate::record::Record;
use crate::time::Timestamp;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Version of ingest's messages.
const KIND: &str = "record/v1";

/// A message as a queue delivers it, perhaps not for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Names the message, the same at every delivery.
    pub id: String,
    /// Names this delivery, to delete the message by.
    pub receipt: String,
    /// When it was sent, the same at every delivery.
    pub sent_at: Timestamp,
    /// What was sent.
    pub body: String,
}

/// A record on its way.
#[derive(Clone, Debug)]
pub struct Spilled {
    /// The record, as it would have been stored.
    pub record: Record,
    /// The name to remember it by.
    pub name: Option<String>,
    /// The event said nothing of its time.
    pub occurred_at_defaulted: bool,
}

/// An event an app sent to the queue itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Direct<'a> {
    /// The key it comes with.
    pub api_key: String,
    /// The event, as `POST /v1/events` takes it.
    #[serde(borrow)]
    pub event: &'a RawValue,
}

/// A message, read.
#[derive(Debug)]
pub enum Message<'a> {
    /// Ingest's, with its MAC in order.
    Record(Box<Spilled>),
    /// An app's own, not yet authenticated.
    Direct(Direct<'a>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    stele: String,
    leaf: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    occurred_at_defaulted: bool,
    mac: String,
}

impl Wire {
    /// What the MAC is over: each part with its length before it, so that no two messages share it.
    fn sealed(&self) -> Vec<u8> {
        let flag = [u8::from(self.occurred_at_defaulted)];
        let has_name = [u8::from(self.name.is_some())];
        let name = self.name.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(self.leaf.len() + name.len() + 64);
        for part in [self.stele.as_bytes(), self.leaf.as_bytes(), &has_name, name.as_bytes(), &flag] {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }
}

impl Spilled {
    /// As a message.
    pub fn to_message(&self, secrets: &Secrets) -> String {
        let mut wire = Wire {
            stele: KIND.to_owned(),
            leaf: STANDARD.encode(self.record.leaf.as_bytes()),
            name: self.name.clone(),
            occurred_at_defaulted: self.occurred_at_defaulted,
            mac: String::new(),
        };
        wire.mac = STANDARD.encode(secrets.spill_mac(&wire.sealed()));
        serde_json::to_string(&wire).expect("texts and flags always serialise")
    }
}

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// `malformed_json` for what is neither kind, `invalid_key` for a record that ingest did not seal.
    pub fn parse(text: &'a str, secrets: &Secrets) -> Result<Message<'a>> {
        #[derive(Deserialize)]
        struct Probe {
            stele: Option<serde::de::IgnoredAny>,
        }
        let probe: Probe = serde_json::from_str(text).map_err(not_ours)?;
        if probe.stele.is_none() {
            return serde_json::from_str(text).map(Message::Direct).map_err(not_ours);
        }
        let wire: Wire = serde_json::from_str(text).map_err(not_ours)?;
        let mac = STANDARD.decode(&wire.mac).unwrap_or_default();
        if wire.stele != KIND || !secrets.spill_mac_fits(&wire.sealed(), &mac) {
            return Err(Error::new(Code::InvalidKey, "the message was not written by ingest"));
        }
        let leaf = STANDARD.decode(&wire.leaf).map_err(not_ours)?;
        Ok(Message::Record(Box::new(Spilled {
            record: Record::from_leaf(leaf)?,
            name: wire.name,
            occurred_at_defaulted: wire.occurred_at_defaulted,
        })))
    }
}

fn not_ours(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        Code::MalformedJson,
        r#"the message is not `{"api_key":"stele_…","event":{…}}`, nothing missing and nothing else in it"#,
    )
    .with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spilled() -> Spilled {
        let leaf = concat!(
            r#"{"action":"invoice.deleted","actor":{"id":"u","type":"user"},"#,
            r#""id":"019b76da-a87b-7000-8000-000000000007","key_id":"k","occurred_at":"2026-01-01T00:00:00.123Z","#,
            r#""outcome":"success","received_at":"2026-01-01T00:00:01.123Z","tenant_id":"acme","v":1}"#
        );
        let record = Record::from_leaf(leaf.as_bytes().to_vec()).unwrap();
        Spilled { record, name: Some("ext:1".to_owned()), occurred_at_defaulted: true }
    }

    #[test]
    fn a_record_comes_back_and_no_altered_byte_is_taken_for_ingests() {
        let secrets = Secrets::new([1; 32]);
        let text = spilled().to_message(&secrets);
        let Message::Record(read) = Message::parse(&text, &secrets).unwrap() else { panic!("a record") };
        assert_eq!(read.record, spilled().record);
        assert_eq!((read.name.as_deref(), read.occurred_at_defaulted), (Some("ext:1"), true));
        for at in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bad).unwrap();
            // A byte of the MAC's own padding bits may change nothing; nothing else may be read as a record.
            if let Ok(Message::Record(read)) = Message::parse(&bad, &secrets) {
                assert_eq!(read.record, spilled().record, "byte {at}");
                assert_eq!((read.name.as_deref(), read.occurred_at_defaulted), (Some("ext:1"), true));
            }
        }
        let other = Message::parse(&text, &Secrets::new([2; 32])).unwrap_err();
        assert_eq!(other.code(), Code::InvalidKey);
    }

    #[test]
    fn an_apps_message_has_a_key_and_an_event_and_nothing_else() {
        let secrets = Secrets::new([1; 32]);
        let text = r#"{"event": {"a": 1.0}, "api_key": "k"}"#;
        let Message::Direct(direct) = Message::parse(text, &secrets).unwrap() else { panic!("an app's") };
        assert_eq!((direct.api_key.as_str(), direct.event.get()), ("k", r#"{"a": 1.0}"#));
        for bad in ["", "[]", "{}", r#"{"api_key":"k"}"#, r#"{"api_key":"k","event":{},"tenant_id":"acme"}"#]
        {
            assert_eq!(Message::parse(bad, &secrets).unwrap_err().code(), Code::MalformedJson, "{bad}");
        }
    }

    #[test]
    fn a_record_received_again_differs_in_nothing_but_that_time() {
        let record = spilled().record;
        let later = Timestamp::from_ms(record.received_at.ms() + 86_400_000);
        let again = record.received_again(later).unwrap();
        assert_eq!(again.received_at, later);
        assert_eq!(
            (again.id, again.occurred_at, &again.actor_id),
            (record.id, record.occurred_at, &record.actor_id)
        );
        assert_eq!(again, Record::from_leaf(again.leaf.bytes().clone()).unwrap());
        assert_eq!(again.received_again(record.received_at).unwrap(), record);
    }
}
