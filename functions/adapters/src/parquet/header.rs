//! The headers of segments and of the archive's files as key-value metadata of Parquet: texts that a person can read
//! and a SQL engine can select (`parquet_kv_metadata`), in one spelling each.

use parquet::file::metadata::KeyValue;
use std::fmt::Write as _;
use stele::access::LogNumber;
use stele::archive::ArchiveHeader;
use stele::id::EventId;
use stele::segment::SegmentHeader;
use stele::time::Timestamp;
use stele::tlog::checkpoint::Origin;
use stele::tlog::hash::{Hash, TreeSize};
use stele::tlog::tree::RightEdge;
use stele::{Error, Result};

/// The format of both kinds of files.
const VERSION: &str = "1";

/// The names in a segment, in the order they are written and read in. The last covers the others.
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

/// The names in a file of the archive, likewise.
const ARCHIVE_NAMES: [&str; 16] = [
    "stele.version",
    "stele.origin",
    "stele.log",
    "stele.first",
    "stele.end",
    "stele.edge_before",
    "stele.edge_after",
    "stele.root",
    "stele.sealed_first",
    "stele.sealed_last",
    "stele.received_min",
    "stele.received_max",
    "stele.running_received_max",
    "stele.id_min",
    "stele.id_max",
    "stele.header_sha256",
];

/// The header of a segment as metadata.
pub(super) fn encode(header: &SegmentHeader) -> Vec<KeyValue> {
    sealed(
        &NAMES,
        vec![
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
        ],
    )
}

/// Reads it back. `at` names the object.
pub(super) fn decode(at: &str, metadata: Option<&Vec<KeyValue>>) -> Result<SegmentHeader> {
    let values = Values::open(at, &NAMES, metadata)?;
    let (before, after) = values.edges()?;
    Ok(SegmentHeader {
        origin: values.origin()?,
        log: values.log()?,
        before,
        after,
        sealed_at: values.time("stele.sealed_at")?,
        received_max: values.time("stele.received_max")?,
        checkpoint_before: values.text("stele.checkpoint_before").to_owned(),
    })
}

/// The header of a file of the archive as metadata.
pub(super) fn encode_archive(header: &ArchiveHeader) -> Vec<KeyValue> {
    sealed(
        &ARCHIVE_NAMES,
        vec![
            VERSION.to_owned(),
            header.origin.as_str().to_owned(),
            header.log.to_string(),
            header.first().to_string(),
            header.end().to_string(),
            edge_text(&header.before),
            edge_text(&header.after),
            header.after.root().to_string(),
            header.sealed_first.to_string(),
            header.sealed_last.to_string(),
            header.received_min.to_string(),
            header.received_max.to_string(),
            header.running_received_max.to_string(),
            header.id_min.to_string(),
            header.id_max.to_string(),
        ],
    )
}

/// Reads it back. `at` names the object.
pub(super) fn decode_archive(at: &str, metadata: Option<&Vec<KeyValue>>) -> Result<ArchiveHeader> {
    let values = Values::open(at, &ARCHIVE_NAMES, metadata)?;
    let (before, after) = values.edges()?;
    Ok(ArchiveHeader {
        origin: values.origin()?,
        log: values.log()?,
        before,
        after,
        sealed_first: values.time("stele.sealed_first")?,
        sealed_last: values.time("stele.sealed_last")?,
        received_min: values.time("stele.received_min")?,
        received_max: values.time("stele.received_max")?,
        running_received_max: values.time("stele.running_received_max")?,
        id_min: values.id("stele.id_min")?,
        id_max: values.id("stele.id_max")?,
    })
}

/// Values under their names, and the digest that covers them under the last one.
fn sealed(names: &[&str], mut values: Vec<String>) -> Vec<KeyValue> {
    values.push(digest(values.iter().map(String::as_str)).to_string());
    names.iter().zip(values).map(|(name, value)| KeyValue::new((*name).to_owned(), value)).collect()
}

/// Metadata that has every name once and in order, and the digest of its values. Each value is read only as it is
/// spelled by us.
struct Values<'a> {
    at: &'a str,
    names: &'a [&'static str],
    pairs: &'a [KeyValue],
}

impl<'a> Values<'a> {
    fn open(
        at: &'a str,
        names: &'a [&'static str],
        metadata: Option<&'a Vec<KeyValue>>,
    ) -> Result<Values<'a>> {
        let pairs = metadata.map(Vec::as_slice).unwrap_or_default();
        let found: Vec<&str> = pairs.iter().map(|pair| pair.key.as_str()).collect();
        if found != names {
            return Err(Error::corrupt(at, format!("metadata {names:?}"), format!("{found:?}")));
        }
        let values = Values { at, names, pairs };
        let covered = names.iter().take(names.len() - 1).map(|name| values.text(name));
        values.is("stele.header_sha256", &digest(covered).to_string())?;
        values.is("stele.version", VERSION)?;
        Ok(values)
    }

    fn text(&self, name: &str) -> &'a str {
        let place = self.names.iter().position(|n| *n == name).expect("asked for by a constant name");
        self.pairs[place].value.as_deref().unwrap_or_default()
    }

    fn is(&self, name: &str, expected: &str) -> Result<()> {
        match self.text(name) {
            found if found == expected => Ok(()),
            found => Err(Error::corrupt(self.at, format!("{name} `{expected}`"), format!("`{found}`"))),
        }
    }

    fn wrong(&self, name: &str, what: &str) -> Error {
        Error::corrupt(self.at, format!("{name}: {what}"), format!("`{}`", self.text(name)))
    }

    fn origin(&self) -> Result<Origin> {
        Origin::parse(self.text("stele.origin")).ok_or_else(|| self.wrong("stele.origin", "an origin"))
    }

    fn log(&self) -> Result<LogNumber> {
        let text = self.text("stele.log");
        let log = text.parse().ok().map(LogNumber).filter(|log| log.to_string() == text);
        log.ok_or_else(|| self.wrong("stele.log", "the number of a log"))
    }

    fn time(&self, name: &str) -> Result<Timestamp> {
        let text = self.text(name);
        let time = Timestamp::parse(text).ok().filter(|time| time.to_string() == text);
        time.ok_or_else(|| self.wrong(name, "a time in milliseconds"))
    }

    fn id(&self, name: &str) -> Result<EventId> {
        let text = self.text(name);
        let id = EventId::parse(text).filter(|id| id.to_string() == text);
        id.ok_or_else(|| self.wrong(name, "an id"))
    }

    /// The trees before and after, of which the second is larger and has the root that is told.
    fn edges(&self) -> Result<(RightEdge, RightEdge)> {
        let edge = |name, size| {
            let size =
                TreeSize::parse(self.text(size)).ok_or_else(|| self.wrong(size, "a number of leaves"))?;
            edge_of(self.text(name), size).ok_or_else(|| self.wrong(name, "the right edge of a tree"))
        };
        let before = edge("stele.edge_before", "stele.first")?;
        let after = edge("stele.edge_after", "stele.end")?;
        if before.size() >= after.size() {
            return Err(self.wrong("stele.end", "more leaves than before"));
        }
        self.is("stele.root", &after.root().to_string())?;
        Ok((before, after))
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
