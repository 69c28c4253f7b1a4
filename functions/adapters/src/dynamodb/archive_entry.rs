//! One line of the archive index.

use super::index_entry::position;
use super::item::{Item, Reader, b, hashes, item, n, s};
use stele::Result;
use stele::access::Tenant;
use stele::archive::ArchiveEntry;
use stele::retention::Class;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::tlog::range::CompactRange;

const KIND: &str = "table of control, archive index";

/// The partition of a log's entries.
pub(super) fn partition(tenant: &Tenant) -> String {
    format!("archive#{}#{}", tenant.id(), tenant.log())
}

/// Its key.
pub(super) fn key(tenant: &Tenant, first: LeafIndex) -> Item {
    item([("pk", s(partition(tenant))), ("sk", s(position(first.to_u64())))])
}

/// The item.
pub(super) fn encode(tenant: &Tenant, entry: &ArchiveEntry) -> Item {
    let mut item = key(tenant, entry.first);
    for (name, value) in [
        ("end", n(entry.end.to_u64())),
        ("sealed_first", n(entry.sealed_first.ms())),
        ("sealed_last", n(entry.sealed_last.ms())),
        ("received_min", n(entry.received_min.ms())),
        ("received_max", n(entry.received_max.ms())),
        ("running_received_max", n(entry.running_received_max.ms())),
        ("id_min", s(entry.id_min.to_string())),
        ("id_max", s(entry.id_max.to_string())),
        ("bytes", n(entry.bytes)),
        ("version", s(entry.version.as_str())),
        ("sha256", b(*entry.sha256.as_bytes())),
        ("class", n(entry.class.days())),
    ] {
        item.insert(name.to_owned(), value);
    }
    if let Some(expired) = entry.expired {
        item.insert("expired".to_owned(), n(expired.ms()));
    }
    if let Some(range) = &entry.range {
        item.insert("range".to_owned(), hashes(range.hashes()));
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
pub(super) fn decode(item: &Item) -> Result<ArchiveEntry> {
    let reader = Reader::new(KIND, item);
    let (first, end): (LeafIndex, TreeSize) = (decode_position(item)?, reader.size("end")?);
    if end.to_u64() <= first.to_u64() {
        return Err(reader.corrupt("end", &format!("a size above {first}"), format!("`{end}`")));
    }
    let days = reader.n("class")?;
    let class = u32::try_from(days).ok().and_then(Class::of_days);
    Ok(ArchiveEntry {
        first,
        end,
        sealed_first: reader.time("sealed_first")?,
        sealed_last: reader.time("sealed_last")?,
        received_min: reader.time("received_min")?,
        received_max: reader.time("received_max")?,
        running_received_max: reader.time("running_received_max")?,
        id_min: reader.event_id("id_min")?,
        id_max: reader.event_id("id_max")?,
        bytes: reader.n("bytes")?,
        version: reader.s("version")?.to_owned(),
        sha256: reader.hash("sha256")?,
        class: class.ok_or_else(|| reader.corrupt("class", "the days of a class", format!("`{days}`")))?,
        expired: item.contains_key("expired").then(|| reader.time("expired")).transpose()?,
        range: match item.contains_key("range") {
            false => None,
            true => Some(
                CompactRange::from_parts(first.size_before(), end, reader.hashes("range")?)
                    .ok_or_else(|| reader.corrupt("range", "that of its leaves", "another"))?,
            ),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::{archive_entry, tenant};
    use stele::time::Timestamp;

    #[test]
    fn archive_entries_come_back() {
        for (first, end, expired) in [(0, 1, None), (7, 1_000_007, Some(Timestamp::from_ms(5)))] {
            let entry = ArchiveEntry { expired, ..archive_entry(first, end) };
            assert_eq!(decode(&encode(&tenant("acme"), &entry)).unwrap(), entry);
        }
    }

    #[test]
    fn a_class_there_is_not_is_corrupt() {
        let mut item = encode(&tenant("acme"), &archive_entry(0, 1));
        item.insert("class".into(), n(91));
        assert!(decode(&item).unwrap_err().detail().contains("`class`"));
    }
}
