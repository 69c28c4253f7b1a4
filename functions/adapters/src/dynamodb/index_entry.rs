//! One line of the segment index.

use super::item::{Item, Reader, b, hashes, item, n, s};
use stele::Result;
use stele::access::Tenant;
use stele::segment::IndexEntry;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::tlog::range::Subtrees;

const KIND: &str = "table of control, segment index";

/// The partition of a log's entries.
pub(super) fn partition(tenant: &Tenant) -> String {
    format!("segments#{}#{}", tenant.id(), tenant.log())
}

/// The sort key of a position: 20 digits, so that the order of keys is the order of numbers.
pub(super) fn position(index: u64) -> String {
    format!("{index:020}")
}

/// Its key.
pub(super) fn key(tenant: &Tenant, first: LeafIndex) -> Item {
    item([("pk", s(partition(tenant))), ("sk", s(position(first.to_u64())))])
}

/// The item.
pub(super) fn encode(tenant: &Tenant, entry: &IndexEntry) -> Item {
    let mut item = key(tenant, entry.first);
    for (name, value) in [
        ("end", n(entry.end.to_u64())),
        ("received_min", n(entry.received_min.ms())),
        ("received_max", n(entry.received_max.ms())),
        ("running_received_max", n(entry.running_received_max.ms())),
        ("id_min", s(entry.id_min.to_string())),
        ("id_max", s(entry.id_max.to_string())),
        ("sealed_at", n(entry.sealed_at.ms())),
        ("version", s(entry.version.as_str())),
        ("sha256", b(*entry.sha256.as_bytes())),
    ] {
        item.insert(name.to_owned(), value);
    }
    if let Some(subtrees) = &entry.subtrees {
        item.insert("subtrees".to_owned(), hashes(subtrees.hashes().iter().copied()));
    }
    item
}

/// The position of an item.
pub(super) fn decode_position(item: &Item) -> Result<LeafIndex> {
    let reader = Reader::new(KIND, item);
    let sk = reader.s("sk")?;
    let index = sk.parse().ok().filter(|index| position(*index) == sk);
    index.map(LeafIndex::new).ok_or_else(|| reader.corrupt("sk", "20 digits", format!("`{sk}`")))
}

/// The entry of an item.
pub(super) fn decode(item: &Item) -> Result<IndexEntry> {
    let reader = Reader::new(KIND, item);
    let (first, end): (LeafIndex, TreeSize) = (decode_position(item)?, reader.size("end")?);
    if end.to_u64() <= first.to_u64() {
        return Err(reader.corrupt("end", &format!("a size above {first}"), format!("`{end}`")));
    }
    Ok(IndexEntry {
        first,
        end,
        received_min: reader.time("received_min")?,
        received_max: reader.time("received_max")?,
        running_received_max: reader.time("running_received_max")?,
        id_min: reader.event_id("id_min")?,
        id_max: reader.event_id("id_max")?,
        sealed_at: reader.time("sealed_at")?,
        version: reader.s("version")?.to_owned(),
        sha256: reader.hash("sha256")?,
        subtrees: match item.contains_key("subtrees") {
            false => None,
            true => Some(
                Subtrees::from_parts(first.size_before(), end, reader.hashes("subtrees")?)
                    .ok_or_else(|| reader.corrupt("subtrees", "those of its leaves", "others"))?,
            ),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::{index_entry, tenant};

    #[test]
    fn index_entries_come_back() {
        for (first, end) in [(0, 1), (7, 10_007)] {
            let entry = index_entry(first, end);
            assert_eq!(decode(&encode(&tenant("acme"), &entry)).unwrap(), entry);
        }
    }
}
