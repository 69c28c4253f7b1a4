//! A log's leaves in order, out of segments and archive alike, as much as is read at once: some segments, or a row group of a
//! file. For whoever follows a log from any leaf on.

use super::{Piece, StoredTree, archive_key, gone};
use crate::parquet::archive::ArchiveFile;
use bytes::Bytes;
use futures_util::future::try_join_all;
use std::sync::{Arc, PoisonError};
use stele::access::Tenant;
use stele::archive::ArchiveEntry;
use stele::error::{Code, Error, Result};
use stele::id::EventId;
use stele::time::Timestamp;
use stele::tlog::hash::TreeSize;

/// Segments read at once.
const SEGMENTS_AT_ONCE: usize = 8;
/// How often indexes are read anew while compaction moves leaves from one to the other.
const TRIES: usize = 3;

/// A part of a log, as far as it was looked at.
#[derive(Clone, Debug)]
pub struct LogPart {
    /// Where it ends: what comes next begins here. Always behind where it began.
    pub end: TreeSize,
    /// What is there.
    pub found: Found,
}

/// What is there.
#[derive(Clone, Debug)]
pub enum Found {
    /// All leaves of the part, in order.
    Leaves {
        /// The leaves.
        leaves: Vec<Bytes>,
        /// Whether they lie in the archive.
        archived: bool,
    },
    /// Leaves that nobody wanted: they were not read.
    Unwanted,
    /// None any more: their retention is over.
    Expired,
}

/// What is known of a part before it is read.
#[derive(Clone, Copy, Debug)]
pub struct Outline {
    /// The smallest and the largest id in it.
    pub ids: (EventId, EventId),
    /// Whether it lies in the archive.
    pub archived: bool,
}

/// The leaves of a row group that was read last: whoever follows a log comes back for the rest of it.
pub(super) struct Window {
    key: String,
    first: TreeSize,
    leaves: Arc<Vec<Bytes>>,
}

impl Window {
    fn end(&self) -> TreeSize {
        TreeSize::new(self.first.to_u64() + self.leaves.len() as u64)
    }
}

impl StoredTree {
    /// The part of a log that begins with the leaf behind `from` and ends at `end` at the latest. `end` is larger, and the
    /// log has it. Leaves are as stored; nothing is checked but that each index is there once.
    ///
    /// # Errors
    /// `corrupt` if an index has a gap, or a file is gone whose retention is not over at `now`.
    pub async fn part(
        &self,
        tenant: &Tenant,
        from: TreeSize,
        end: TreeSize,
        now: Timestamp,
        wanted: &(dyn Fn(Outline) -> bool + Sync),
    ) -> Result<LogPart> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.part_once(tenant, from, end, now, wanted).await {
                // A segment that has just become part of the archive, between two looks.
                Err(e) if tries < TRIES && matches!(e.code(), Code::Unavailable | Code::Corrupt) => {}
                part => return part,
            }
        }
    }

    async fn part_once(
        &self,
        tenant: &Tenant,
        from: TreeSize,
        end: TreeSize,
        now: Timestamp,
        wanted: &(dyn Fn(Outline) -> bool + Sync),
    ) -> Result<LogPart> {
        let first = self.pieces(tenant, from, TreeSize::new(from.to_u64() + 1)).await?;
        match first.first() {
            Some(Piece::File(entry)) => self.part_of_archive(tenant, entry, from, end, now, wanted).await,
            Some(Piece::Segment(entry)) => {
                let mut entries = vec![entry.clone()];
                if entry.end < end {
                    let rest = self.heads.index_from(tenant, entry.end.next_index(), SEGMENTS_AT_ONCE - 1);
                    entries.extend(rest.await?.into_iter().filter(|entry| entry.first.size_before() < end));
                }
                // As far as the next ones agree with the first about being wanted.
                let is_wanted =
                    entries.iter().map(|e| wanted(Outline { ids: (e.id_min, e.id_max), archived: false }));
                let is_wanted: Vec<bool> = is_wanted.collect();
                entries.truncate(is_wanted.iter().take_while(|wanted| **wanted == is_wanted[0]).count());
                let ends = entries.last().map_or(from, |entry| entry.end).min(end);
                if !is_wanted[0] {
                    return Ok(LogPart { end: ends, found: Found::Unwanted });
                }
                let mut at = entry.first.size_before();
                for entry in &entries {
                    self.follows(tenant, at, entry.first)?;
                    at = entry.end;
                }
                let read = entries.iter().map(|entry| self.segment_leaves(tenant, entry));
                let all = try_join_all(read).await?.into_iter().flatten();
                let skip = (from.to_u64() - entry.first.to_u64()) as usize;
                let leaves = all.skip(skip).take((ends.to_u64() - from.to_u64()) as usize).collect();
                Ok(LogPart { end: ends, found: Found::Leaves { leaves, archived: false } })
            }
            None => Err(Error::new(Code::Internal, "a part of a log was asked for beyond its end")),
        }
    }

    async fn part_of_archive(
        &self,
        tenant: &Tenant,
        entry: &ArchiveEntry,
        from: TreeSize,
        end: TreeSize,
        now: Timestamp,
        wanted: &(dyn Fn(Outline) -> bool + Sync),
    ) -> Result<LogPart> {
        let whole = |found| Ok(LogPart { end: entry.end.min(end), found });
        if entry.expired.is_some() {
            return whole(Found::Expired);
        }
        if !wanted(Outline { ids: (entry.id_min, entry.id_max), archived: true }) {
            return whole(Found::Unwanted);
        }
        match self.window(tenant, entry, from).await {
            Ok(window) => {
                let ends = window.end().min(end);
                let place = |size: TreeSize| (size.to_u64() - window.first.to_u64()) as usize;
                let leaves = window.leaves[place(from)..place(ends)].to_vec();
                Ok(LogPart { end: ends, found: Found::Leaves { leaves, archived: true } })
            }
            // Gone, as it may be, before anybody wrote that down.
            Err(e) if e.code() == Code::NotFound && entry.retain_until() <= now => whole(Found::Expired),
            Err(e) if e.code() == Code::NotFound => {
                let key = archive_key(tenant, entry);
                let until = entry.retain_until();
                Err(Error::corrupt(&key, format!("the file, which is locked until {until}"), "nothing"))
            }
            Err(e) => Err(e),
        }
    }

    /// The row group that holds a leaf.
    async fn window(&self, tenant: &Tenant, entry: &ArchiveEntry, from: TreeSize) -> Result<Window> {
        let key = archive_key(tenant, entry);
        let held =
            |window: &Window| window.key == key.as_str() && window.first <= from && from < window.end();
        {
            let last = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(window) = last.as_ref().filter(|window| held(window)) {
                let (key, first) = (window.key.clone(), window.first);
                return Ok(Window { key, first, leaves: window.leaves.clone() });
            }
        }
        // One of them in memory at a time.
        *self.window.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let objects = self.objects.clone();
        let file = ArchiveFile::open(objects, key.clone(), entry.version.clone(), entry.bytes).await;
        let file = file.map_err(|e| gone(e, from))?;
        let (first, end) = file
            .group_around(from.next_index())
            .ok_or_else(|| Error::corrupt(&key, format!("a row group with leaf {from}"), "none"))?;
        let leaves = file.leaves_between(first, end).await.map_err(|e| gone(e, from))?;
        let (first, leaves) = (first.size_before(), Arc::new(leaves));
        let window = Window { key: key.as_str().to_owned(), first, leaves: leaves.clone() };
        if !held(&window) {
            return Err(Error::corrupt(&key, format!("a row group with leaf {from}"), "another"));
        }
        *self.window.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Window { key: key.as_str().to_owned(), first, leaves });
        Ok(window)
    }
}
