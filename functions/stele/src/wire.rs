//! A record as answers show it: the leaf's members, the names older clients read, and the integrity state.
//!
//! The leaf's own bytes stay what they are: members are copied, never written again.

use crate::error::{Error, Result};
use crate::json::Json;
use crate::record::Record;
use crate::tlog::hash::{LeafIndex, TreeSize};

/// Where a record stands on its way into the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// In the hot store, not in a segment yet.
    Recorded,
    /// In a locked segment.
    Sealed {
        /// Its position in the log.
        leaf_index: LeafIndex,
        /// The size of a tree that holds it.
        tree_size: TreeSize,
    },
    /// In a locked file of the archive.
    Archived {
        /// Its position in the log.
        leaf_index: LeafIndex,
        /// The size of a tree that holds it.
        tree_size: TreeSize,
    },
}

impl Integrity {
    /// Its name.
    pub const fn state(self) -> &'static str {
        match self {
            Integrity::Recorded => "recorded",
            Integrity::Sealed { .. } => "sealed",
            Integrity::Archived { .. } => "archived",
        }
    }
}

/// How long a text is inside a JSON text: what API Gateway gives an answer's length by.
pub fn escaped_bytes(text: &[u8]) -> usize {
    let escapes = |b: &u8| match b {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
        0..0x20 => 5,
        _ => 0,
    };
    text.len() + text.iter().map(escapes).sum::<usize>()
}

/// Writes a record as a JSON object.
pub fn write_event(record: &Record, integrity: Integrity, out: &mut Vec<u8>) -> Result<()> {
    let leaf = Json::parse(record.leaf.as_bytes())
        .map_err(|e| Error::corrupt(format!("leaf of `{}`", record.id), "JSON", e.detail()))?;
    out.push(b'{');
    for (key, value) in leaf.members(leaf.root()) {
        out.extend_from_slice(leaf.raw(key).as_bytes());
        out.push(b':');
        let raw = leaf.raw(value).as_bytes();
        match leaf.str(key) {
            Some("id") => {
                out.extend_from_slice(b"\"evt_");
                out.extend_from_slice(raw.strip_prefix(b"\"").unwrap_or(raw));
            }
            Some("occurred_at") => {
                out.extend_from_slice(raw);
                out.extend_from_slice(b",\"timestamp\":");
                out.extend_from_slice(raw);
            }
            Some("tenant_id") => {
                out.extend_from_slice(raw);
                out.extend_from_slice(b",\"organization_id\":");
                out.extend_from_slice(raw);
            }
            _ => out.extend_from_slice(raw),
        }
        out.push(b',');
    }
    out.extend_from_slice(b"\"integrity\":{\"state\":\"");
    out.extend_from_slice(integrity.state().as_bytes());
    out.extend_from_slice(format!("\",\"leaf_hash\":\"{}\"", record.leaf_hash).as_bytes());
    if let Integrity::Sealed { leaf_index, tree_size } | Integrity::Archived { leaf_index, tree_size } =
        integrity
    {
        out.extend_from_slice(format!(",\"leaf_index\":{leaf_index},\"tree_size\":{tree_size}").as_bytes());
    }
    out.extend_from_slice(b"}}");
    Ok(())
}

/// The same, as a text for another JSON text to hold.
pub fn event_json(record: &Record, integrity: Integrity) -> Result<Box<serde_json::value::RawValue>> {
    let mut out = Vec::with_capacity(record.leaf.as_bytes().len() + 320);
    write_event(record, integrity, &mut out)?;
    let text = String::from_utf8(out)
        .map_err(|_| Error::corrupt(format!("leaf of `{}`", record.id), "UTF-8", "other bytes"))?;
    serde_json::value::RawValue::from_string(text)
        .map_err(|e| Error::corrupt(format!("leaf of `{}`", record.id), "JSON", e))
}
