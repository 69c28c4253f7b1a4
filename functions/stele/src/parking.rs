//! Messages of the parking queue: records that are accepted and could not be sealed, bytes included, so that sealing
//! them later reads nothing.

use crate::error::{Error, Result};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::record::Record;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

const KIND: &str = "parked/v1";
/// What a message has beside its leaves, and each leaf beside its digits.
const FRAME_BYTES: usize = 40;
const LEAF_FRAME_BYTES: usize = 3;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    stele: String,
    leaves: Vec<String>,
}

/// As few messages as hold all records; each message's records stand beside it.
pub fn messages(records: &[Record]) -> Vec<(String, &[Record])> {
    let mut out = Vec::new();
    let mut rest = records;
    while !rest.is_empty() {
        let mut bytes = FRAME_BYTES;
        // A leaf is far smaller than a message, so that each takes one at least.
        let count = rest
            .iter()
            .take_while(|record| {
                bytes += record.leaf.len().div_ceil(3) * 4 + LEAF_FRAME_BYTES;
                bytes <= MESSAGE_BYTES_MAX
            })
            .count()
            .max(1);
        let (now, later) = rest.split_at(count);
        let leaves = now.iter().map(|record| STANDARD.encode(record.leaf.as_bytes())).collect();
        let wire = Wire { stele: KIND.to_owned(), leaves };
        out.push((serde_json::to_string(&wire).expect("texts always serialise"), now));
        rest = later;
    }
    out
}

/// The records of a message.
///
/// # Errors
/// `corrupt` for what [`messages`] did not write.
pub fn records(message: &str) -> Result<Vec<Record>> {
    let corrupt = |found: String| Error::corrupt("a parked message", "records", found);
    let wire: Wire = serde_json::from_str(message).map_err(|e| corrupt(e.to_string()))?;
    if wire.stele != KIND {
        return Err(corrupt("another kind of message".to_owned()));
    }
    let leaf = |text: &String| STANDARD.decode(text).map_err(|e| corrupt(e.to_string()));
    wire.leaves.iter().map(|text| Record::from_leaf(leaf(text)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: usize, filling: usize) -> Record {
        let leaf = format!(
            concat!(
                r#"{{"action":"invoice.deleted","actor":{{"id":"{}","type":"user"}},"#,
                r#""id":"019b76da-a87b-7000-8000-{:012x}","key_id":"k","metadata":{{"x":"{}"}},"#,
                r#""occurred_at":"2026-01-01T00:00:00.123Z","outcome":"success","#,
                r#""received_at":"2026-01-01T00:00:01.123Z","tenant_id":"acme","v":1}}"#
            ),
            n,
            n,
            "x".repeat(filling)
        );
        Record::from_leaf(leaf.into_bytes()).unwrap()
    }

    #[test]
    fn records_come_back_in_messages_that_fit() {
        for (count, filling) in [(0, 0), (1, 65_000), (7, 65_000), (3_000, 10), (2, 0)] {
            let all: Vec<Record> = (0..count).map(|n| record(n, filling)).collect();
            let written = messages(&all);
            assert!(written.iter().all(|(text, _)| text.len() <= MESSAGE_BYTES_MAX));
            let read: Vec<Record> = written.iter().flat_map(|(text, _)| records(text).unwrap()).collect();
            assert_eq!(read, all);
            let beside: Vec<Record> = written.iter().flat_map(|(_, records)| records.to_vec()).collect();
            assert_eq!(beside, all);
        }
        assert_eq!(messages(&(0..2).map(|n| record(n, 0)).collect::<Vec<_>>()).len(), 1);
    }

    #[test]
    fn what_is_no_parked_message_is_corrupt() {
        for bad in
            ["", "{}", r#"{"stele":"record/v1","leaves":[]}"#, r#"{"stele":"parked/v1","leaves":["!"]}"#]
        {
            assert_eq!(records(bad).unwrap_err().code(), crate::Code::Corrupt, "{bad}");
        }
    }
}
