//! What a segment says besides its leaves, and what the segment index remembers of it. How a segment is laid
//! out in Parquet is the adapter's business.

use crate::access::LogNumber;
use crate::error::{Error, Result};
use crate::id::EventId;
use crate::public_key::PublicKey;
use crate::record::Record;
use crate::time::Timestamp;
use crate::tlog::checkpoint::Origin;
use crate::tlog::hash::{Hash, LeafIndex, TreeSize};
use crate::tlog::range::Subtrees;
use crate::tlog::tree::RightEdge;

/// The facts a segment's writer committed to, carried in the file itself so that anybody who finds the file can
/// go on from it without a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log's origin.
    pub origin: Origin,
    /// Its generation.
    pub log: LogNumber,
    /// The tree before the first leaf.
    pub before: RightEdge,
    /// The tree after the last leaf.
    pub after: RightEdge,
    /// When it was sealed; never before its predecessor.
    pub sealed_at: Timestamp,
    /// The latest `received_at` in this segment and all before it.
    pub received_max: Timestamp,
    /// The signed checkpoint for the tree before; empty when that tree is empty.
    pub checkpoint_before: String,
}

impl SegmentHeader {
    /// Index of its first leaf.
    pub fn first(&self) -> LeafIndex {
        self.before.size().next_index()
    }

    /// The tree size it ends at.
    pub fn end(&self) -> TreeSize {
        self.after.size()
    }
}

/// A segment as read back: header and records in leaf order.
#[derive(Clone, Debug)]
pub struct Segment {
    /// What it says of itself.
    pub header: SegmentHeader,
    /// Its records; the n-th has leaf index first + n.
    pub records: Vec<Record>,
}

impl Segment {
    /// Checks that the records are what the header says: count, and the tree they grow. `at` names the object.
    pub fn check(&self, at: &str) -> Result<()> {
        let mut edge = self.header.before.clone();
        for record in &self.records {
            edge.append(record.leaf_hash);
        }
        if edge.size() != self.header.after.size() {
            return Err(Error::corrupt(
                at,
                format!("leaves up to {}", self.header.after.size()),
                format!("leaves up to {}", edge.size()),
            ));
        }
        if edge != self.header.after {
            return Err(Error::corrupt(
                at,
                format!("root {}", self.header.after.root()),
                format!("root {}", edge.root()),
            ));
        }
        Ok(())
    }

    /// The hashes of its leaves' subtrees.
    pub fn subtrees(&self) -> Subtrees {
        Subtrees::of(self.header.before.size(), self.records.iter().map(|record| record.leaf_hash))
    }

    /// Its entry in the segment index.
    pub fn entry(&self, version: String, sha256: Hash) -> Result<IndexEntry> {
        let received = self.records.iter().map(|r| r.received_at);
        let ids = self.records.iter().map(|r| r.id);
        match (received.clone().min(), received.max(), ids.clone().min(), ids.max()) {
            (Some(received_min), Some(received_max), Some(id_min), Some(id_max)) => Ok(IndexEntry {
                first: self.header.first(),
                end: self.header.end(),
                received_min,
                received_max,
                running_received_max: self.header.received_max,
                id_min,
                id_max,
                sealed_at: self.header.sealed_at,
                version,
                sha256,
                subtrees: Some(self.subtrees()),
            }),
            _ => Err(Error::corrupt("segment", "at least one leaf", "none")),
        }
    }
}

/// One line of the segment index: enough to find a record's segment without opening others. A cache: it can be
/// made again from the segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Index of its first leaf.
    pub first: LeafIndex,
    /// The tree size it ends at.
    pub end: TreeSize,
    /// The earliest `received_at` in it.
    pub received_min: Timestamp,
    /// The latest `received_at` in it.
    pub received_max: Timestamp,
    /// The latest `received_at` in it and all before it.
    pub running_received_max: Timestamp,
    /// The smallest id in it.
    pub id_min: EventId,
    /// The largest id in it.
    pub id_max: EventId,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// The object's version.
    pub version: String,
    /// SHA-256 of the file.
    pub sha256: Hash,
    /// The hashes of its leaves' subtrees, from which proofs are made; `None` in entries of old.
    pub subtrees: Option<Subtrees>,
}

impl IndexEntry {
    /// Whether a record received then can be in it.
    pub fn may_hold(&self, id: EventId, received_at: Timestamp) -> bool {
        (self.received_min..=self.received_max).contains(&received_at)
            && (self.id_min..=self.id_max).contains(&id)
    }
}

/// How far a log has got: a cache of what the stored objects say, and the place where writers meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Counts changes, for compare-and-swap.
    pub revision: u64,
    /// The tree so far.
    pub edge: RightEdge,
    /// The signed checkpoint for that tree; empty when it is empty.
    pub checkpoint: String,
    /// When its last segment was sealed.
    pub sealed_at: Timestamp,
    /// The latest `received_at` in the log.
    pub received_max: Timestamp,
    /// When it was last held against the stored objects.
    pub validated_at: Timestamp,
    /// The tree size of the latest checkpoint object, and when that was written.
    pub published: Published,
    /// The tree size when the month of `sealed_at` began.
    pub month_base: TreeSize,
    /// The key that signs it; `None` in heads of old, which the first key of the installation signs.
    pub key: Option<HeadKey>,
}

/// The key that signs a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadKey {
    /// Its public half.
    pub public: PublicKey,
    /// The first tree size it signs.
    pub from: TreeSize,
    /// Whether the locked object is known to be there that tells of it. Until then it signs nothing.
    pub is_told: bool,
}

/// The latest checkpoint object of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Published {
    /// Its tree size.
    pub size: TreeSize,
    /// When it was written.
    pub at: Timestamp,
}

impl Head {
    /// The head of an empty log.
    pub fn empty(validated_at: Timestamp) -> Head {
        Head {
            revision: 0,
            edge: RightEdge::empty(),
            checkpoint: String::new(),
            sealed_at: Timestamp::default(),
            received_max: Timestamp::default(),
            validated_at,
            published: Published::default(),
            month_base: TreeSize::ZERO,
            key: None,
        }
    }

    /// The tree size.
    pub fn size(&self) -> TreeSize {
        self.edge.size()
    }
}
