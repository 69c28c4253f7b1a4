//! Sealed leaves in the order of the log, wherever they lie: in files of the archive, or in segments that wait for it.
//!
//! A part at a time: a block of a file, or a segment. What can't hold a wanted id is passed over by the indexes alone. The
//! leaves are not held against the tree: that is for proofs.

use crate::parquet::archive::{ArchiveFile, BLOCK_LEAVES};
use crate::parquet::decode_leaves;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use stele::access::Tenant;
use stele::archive::ArchiveEntry;
use stele::error::{Code, Error, Result};
use stele::id::EventId;
use stele::layout::{Object, ObjectKey};
use stele::ports::{ArchiveIndex, Heads, IdRange, LockedObjects};
use stele::segment::IndexEntry;
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};

/// Entries of the segment index fetched at once.
const INDEX_PAGE: usize = 500;
/// Pages of the segment index may have become old between two reads of it: then the archive has what it held.
const TRIES: u32 = 3;

/// Reads them.
pub struct SealedLeaves {
    /// The segment index.
    pub heads: Arc<dyn Heads>,
    /// The archive index.
    pub archive: Arc<dyn ArchiveIndex>,
    /// Segments and files.
    pub objects: Arc<dyn LockedObjects>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Leaves, from this index on.
    Leaves(LeafIndex, Vec<Bytes>),
    /// So many of them are none that are wanted.
    Passed(u64),
    /// So many of them have expired.
    Expired(u64),
}

/// A reading under way.
pub struct Reading<'a> {
    sealed: &'a SealedLeaves,
    tenant: &'a Tenant,
    /// What is left to read.
    range: Range<u64>,
    ids: IdRange,
    now: Timestamp,
    /// With where its leaves end, and until when it is kept.
    file: Option<(ArchiveFile, u64, Timestamp)>,
    segments: VecDeque<IndexEntry>,
}

impl SealedLeaves {
    /// The leaves of a range, which the log has, that may have an id in another. Only a file whose time is over by `now` may be
    /// gone.
    pub fn read<'a>(
        &'a self,
        tenant: &'a Tenant,
        range: Range<u64>,
        ids: IdRange,
        now: Timestamp,
    ) -> Reading<'a> {
        Reading { sealed: self, tenant, range, ids, now, file: None, segments: VecDeque::new() }
    }
}

impl Reading<'_> {
    /// Where it is: every leaf below was given, passed over or has expired.
    pub fn at(&self) -> u64 {
        self.range.start
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// Those of the stores; `corrupt` where an index has a gap. It can be asked again after one.
    pub async fn next(&mut self) -> Result<Option<Part>> {
        if self.range.start >= self.range.end {
            return Ok(None);
        }
        if let Some((file, end, until)) = &self.file {
            let at = self.range.start;
            let block_end = (at / BLOCK_LEAVES + 1) * BLOCK_LEAVES;
            let to = block_end.min(*end).min(self.range.end);
            let leaves = match file.leaves_between(LeafIndex::new(at), TreeSize::new(to)).await {
                Ok(leaves) => leaves,
                Err(error) if error.code() == Code::NotFound => {
                    let (end, until) = (*end, *until);
                    self.check_gone(file.key(), until)?;
                    self.file = None;
                    return Ok(Some(Part::Expired(self.pass(end))));
                }
                Err(error) => return Err(error),
            };
            if to >= *end {
                self.file = None;
            }
            self.range.start = to;
            return Ok(Some(Part::Leaves(LeafIndex::new(at), leaves)));
        }
        for _ in 0..TRIES {
            let below = TreeSize::new(self.range.start + 1);
            if self.segments.is_empty() {
                let found = self.sealed.archive.archived_below(self.tenant, below, 1).await?;
                let holding = found.into_iter().find(|entry| entry.end.to_u64() > self.range.start);
                if let Some(entry) = holding {
                    return self.in_file(entry).await.map(Some);
                }
                self.fetch_segments(below).await?;
            }
            if let Some(entry) = self.segments.front().cloned() {
                if !self.wants(entry.id_min, entry.id_max) {
                    self.segments.pop_front();
                    return Ok(Some(Part::Passed(self.pass(entry.end.to_u64()))));
                }
                if let Some(part) = self.in_segment(&entry).await? {
                    self.segments.pop_front();
                    return Ok(Some(part));
                }
                // It is gone from its bucket, so the archive has its leaves.
                self.segments.clear();
            }
        }
        let expected = format!("an entry with leaf {} (run `stele rebuild`)", self.range.start);
        Err(Error::corrupt(format!("indexes of `{}`", self.tenant.id()), expected, "none"))
    }

    async fn fetch_segments(&mut self, below: TreeSize) -> Result<()> {
        let heads = &self.sealed.heads;
        let holding = heads.index_below(self.tenant, below, 1).await?.into_iter();
        let mut at = self.range.start;
        self.segments = holding.filter(|entry| entry.end.to_u64() > at).collect();
        let Some(first) = self.segments.front() else { return Ok(()) };
        at = first.end.to_u64();
        if at >= self.range.end {
            return Ok(());
        }
        for entry in heads.index_from(self.tenant, LeafIndex::new(at), INDEX_PAGE).await? {
            if entry.first.to_u64() != at || at >= self.range.end {
                break;
            }
            at = entry.end.to_u64();
            self.segments.push_back(entry);
        }
        Ok(())
    }

    async fn in_file(&mut self, entry: ArchiveEntry) -> Result<Part> {
        let end = entry.end.to_u64();
        if entry.expired.is_some() {
            return Ok(Part::Expired(self.pass(end)));
        }
        if !self.wants(entry.id_min, entry.id_max) {
            return Ok(Part::Passed(self.pass(end)));
        }
        let (tenant, log) = (self.tenant.id().clone(), self.tenant.log());
        let key = Object::Archive { tenant, log, month: entry.month(), first: entry.first }.key();
        let (objects, until) = (self.sealed.objects.clone(), entry.retain_until());
        match ArchiveFile::open(objects, key.clone(), entry.version, entry.bytes).await {
            Ok(file) => {
                self.file = Some((file, end, until));
                Ok(Part::Passed(0))
            }
            // A file that is gone has expired, before anybody wrote that down.
            Err(error) if error.code() == Code::NotFound => {
                self.check_gone(&key, until)?;
                Ok(Part::Expired(self.pass(end)))
            }
            Err(error) => Err(error),
        }
    }

    fn check_gone(&self, key: &ObjectKey, until: Timestamp) -> Result<()> {
        match until <= self.now {
            true => Ok(()),
            false => Err(Error::corrupt(key, format!("a file that is kept until {until}"), "none")),
        }
    }

    async fn in_segment(&mut self, entry: &IndexEntry) -> Result<Option<Part>> {
        let (tenant, log) = (self.tenant.id().clone(), self.tenant.log());
        let key = Object::Segment { tenant, log, first: entry.first }.key();
        let Some(stored) = self.sealed.objects.version(&key, &entry.version).await? else { return Ok(None) };
        let (header, leaves) = decode_leaves(key.as_str(), stored.bytes)?;
        if (header.first(), header.end()) != (entry.first, entry.end) {
            let expected = format!("leaves {} to {}", entry.first, entry.end);
            return Err(Error::corrupt(&key, expected, format!("{} to {}", header.first(), header.end())));
        }
        let at = self.range.start;
        let skip = (at - entry.first.to_u64()) as usize;
        let take = self.pass(entry.end.to_u64()) as usize;
        let leaves = leaves.into_iter().skip(skip).take(take).collect();
        Ok(Some(Part::Leaves(LeafIndex::new(at), leaves)))
    }

    fn wants(&self, least: EventId, greatest: EventId) -> bool {
        greatest >= self.ids.first && least <= self.ids.last
    }

    /// Goes on at a size, or at the end; says how many leaves that is.
    fn pass(&mut self, to: u64) -> u64 {
        let to = to.min(self.range.end);
        let passed = to - self.range.start;
        self.range.start = to;
        passed
    }
}
