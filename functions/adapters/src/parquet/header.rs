//! The header of a segment as key-value metadata of its Parquet file: texts that a person can read and a SQL
//! engine can select (`parquet_kv_metadata`), in one spelling each.

use parquet::file::metadata::KeyValue;
use std::fmt::Write as _;
use stele::access::LogNumber;
use stele::segment::SegmentHeader;
use stele::time::Timestamp;
use stele::tlog::checkpoint::Origin;
use stele::tlog::hash::{Hash, TreeSize};
use stele::tlog::tree::RightEdge;
use stele::{Error, Result};

/// The format of the file.
const VERSION: &str = "1";

/// The names, in the order they are written and read in. The last covers the others.
const NAMES: [&str; 12] = [
    "stele.version",
    "stele.origin",
    "stele.log",
    "stele.first",
    "stele.end",
    "stele.edge_before",
    "stele.edge_after",
    "stele.root",
    "stele.sealed_at",
    "stele.received_max",
    "stele.checkpoint_before",
    "stele.header_sha256",
];

/// The header as metadata.
pub(super) fn encode(header: &SegmentHeader) -> Vec<KeyValue> {
    let mut values = vec![
        VERSION.to_owned(),
        header.origin.as_str().to_owned(),
        header.log.to_string(),
        header.first().to_string(),
        header.end().to_string(),
        edge_text(&header.before),
        edge_text(&header.after),
        header.after.root().to_string(),
        header.sealed_at.to_string(),
        header.received_max.to_string(),
        header.checkpoint_before.clone(),
    ];
    values.push(digest(values.iter().map(String::as_str)).to_string());
    NAMES.iter().zip(values).map(|(name, value)| KeyValue::new((*name).to_owned(), value)).collect()
}

/// Reads the header back: every name once and in order, every value spelled as we spell it. `at` names the
/// object.
pub(super) fn decode(at: &str, metadata: Option<&Vec<KeyValue>>) -> Result<SegmentHeader> {
    let pairs = metadata.map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> = pairs.iter().map(|pair| pair.key.as_str()).collect();
    if names != NAMES {
        return Err(Error::corrupt(at, format!("metadata {NAMES:?}"), format!("{names:?}")));
    }
    let value = |name: &str| {
        let place = NAMES.iter().position(|n| *n == name).expect("asked for by a constant name");
        pairs[place].value.as_deref().unwrap_or_default()
    };
    let covered = pairs.iter().take(NAMES.len() - 1).map(|pair| pair.value.as_deref().unwrap_or_default());
    same(at, "stele.header_sha256", &digest(covered).to_string(), value("stele.header_sha256"))?;
    same(at, "stele.version", VERSION, value("stele.version"))?;

    let read =
        |name: &str, what: &str| Error::corrupt(at, format!("{name}: {what}"), format!("`{}`", value(name)));
    let size = |name| TreeSize::parse(value(name)).ok_or_else(|| read(name, "a number of leaves"));
    let edge = |name, size| edge_of(value(name), size).ok_or_else(|| read(name, "the right edge of a tree"));
    let time = |name| {
        let time = Timestamp::parse(value(name)).ok().filter(|time| time.to_string() == value(name));
        time.ok_or_else(|| read(name, "a time in milliseconds"))
    };
    let log =
        value("stele.log").parse().ok().map(LogNumber).filter(|log| log.to_string() == value("stele.log"));
    let header = SegmentHeader {
        origin: Origin::parse(value("stele.origin")).ok_or_else(|| read("stele.origin", "an origin"))?,
        log: log.ok_or_else(|| read("stele.log", "the number of a log"))?,
        before: edge("stele.edge_before", size("stele.first")?)?,
        after: edge("stele.edge_after", size("stele.end")?)?,
        sealed_at: time("stele.sealed_at")?,
        received_max: time("stele.received_max")?,
        checkpoint_before: value("stele.checkpoint_before").to_owned(),
    };
    if header.before.size() >= header.after.size() {
        return Err(read("stele.end", "more leaves than before"));
    }
    same(at, "stele.root", &header.after.root().to_string(), value("stele.root"))?;
    Ok(header)
}

fn same(at: &str, name: &str, expected: &str, found: &str) -> Result<()> {
    if expected == found {
        Ok(())
    } else {
        Err(Error::corrupt(at, format!("{name} `{expected}`"), format!("`{found}`")))
    }
}

/// SHA-256 over the values before it, as lines `<length in bytes> <value>`: a header that is not covered by a
/// signed manifest yet still can't change by accident.
fn digest<'a>(values: impl Iterator<Item = &'a str>) -> Hash {
    let mut text = String::new();
    for value in values {
        let _ = writeln!(text, "{} {value}", value.len());
    }
    Hash::of(text.as_bytes())
}

/// Hashes in hexadecimal, largest subtree first, with spaces between.
fn edge_text(edge: &RightEdge) -> String {
    edge.hashes().iter().map(Hash::to_string).collect::<Vec<_>>().join(" ")
}

fn edge_of(text: &str, size: TreeSize) -> Option<RightEdge> {
    let hashes: Option<Vec<Hash>> = match text {
        "" => Some(Vec::new()),
        text => text.split(' ').map(Hash::from_hex).collect(),
    };
    RightEdge::from_parts(size, hashes?)
}
