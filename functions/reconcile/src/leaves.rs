//! The leaves of a log that were received, or occurred, in some range: out of segments as far down as there are any, then
//! out of the archive. Nothing is kept; a segment is in memory while it is read.
//!
//! A segment's bytes are held against the hash the index has of them; a file of the archive was, when it was recorded, and
//! is read in parts. That the log is the one that was signed is the
//! verifier's to prove, not asked here.

use crate::Reconcile;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use std::ops::RangeInclusive;
use stele::access::Tenant;
use stele::archive::ArchiveEntry;
use stele::error::{Error, Result};
use stele::id::EventId;
use stele::layout::{Object, ObjectKey};
use stele::ports::StoredObject;
use stele::segment::IndexEntry;
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele_adapters::parquet::archive::ArchiveFile;
use stele_adapters::parquet::decode_leaves;

/// Index entries fetched at once.
const INDEX_PAGE: usize = 256;
/// Segments fetched at the same time: while one is read, the next ones come.
const SEGMENTS_AT_ONCE: usize = 4;

/// Which part of a log is wanted. What is visited may lie outside of it.
pub(crate) struct Wanted {
    /// Received in this range.
    pub(crate) received: RangeInclusive<Timestamp>,
    /// With ids in this one.
    pub(crate) ids: RangeInclusive<EventId>,
}

impl Wanted {
    fn overlaps(&self, received: (Timestamp, Timestamp), ids: (EventId, EventId)) -> bool {
        received.0 <= *self.received.end()
            && *self.received.start() <= received.1
            && ids.0 <= *self.ids.end()
            && *self.ids.start() <= ids.1
    }
}

/// What is called with each leaf.
pub(crate) type Visitor<'v> = &'v mut (dyn FnMut(&[u8]) -> Result<()> + Send);

impl Reconcile {
    /// Visits the leaves of every part of the log that can hold what is wanted.
    pub(crate) async fn visit_leaves(
        &self,
        tenant: &Tenant,
        wanted: &Wanted,
        visit: Visitor<'_>,
    ) -> Result<()> {
        let Some(head) = self.heads.head(tenant).await? else { return Ok(()) };
        let mut below = head.size();
        while below > TreeSize::ZERO {
            let mut segments = Vec::new();
            let (mut at, mut reached) = (below, false);
            for entry in self.heads.index_below(tenant, below, INDEX_PAGE).await? {
                // A gap: what the archive took the place of is forgotten from here down.
                if entry.end != at || entry.first.size_before() >= entry.end {
                    break;
                }
                if entry.running_received_max < *wanted.received.start() {
                    reached = true;
                    break;
                }
                at = entry.first.size_before();
                let received = (entry.received_min, entry.received_max);
                if wanted.overlaps(received, (entry.id_min, entry.id_max)) {
                    segments.push(entry);
                }
            }
            if let Some(gone) = self.visit_segments(tenant, segments, visit).await? {
                return self.visit_archive(tenant, gone, wanted, visit).await;
            }
            if reached {
                return Ok(());
            }
            if at == below {
                return self.visit_archive(tenant, below, wanted, visit).await;
            }
            below = at;
        }
        Ok(())
    }

    /// Visits the leaves of segments, latest first. Stops before the first that is gone, and returns where it ends.
    async fn visit_segments(
        &self,
        tenant: &Tenant,
        segments: Vec<IndexEntry>,
        visit: Visitor<'_>,
    ) -> Result<Option<TreeSize>> {
        let fetches: Vec<_> = segments.iter().map(|entry| self.segment(tenant, entry).boxed()).collect();
        let mut fetches = stream::iter(fetches).buffered(SEGMENTS_AT_ONCE);
        let mut entries = segments.iter();
        while let (Some(fetched), Some(entry)) = (fetches.next().await, entries.next()) {
            let (key, stored) = fetched?;
            let Some(stored) = stored else { return Ok(Some(entry.end)) };
            let found = Hash::of(&stored.bytes);
            if found != entry.sha256 {
                return Err(Error::corrupt(&key, format!("SHA-256 {}", entry.sha256), found));
            }
            let (_, leaves) = decode_leaves(key.as_str(), stored.bytes)?;
            leaves.iter().try_for_each(|leaf| visit(leaf))?;
        }
        Ok(None)
    }

    async fn segment(
        &self,
        tenant: &Tenant,
        entry: &IndexEntry,
    ) -> Result<(ObjectKey, Option<StoredObject>)> {
        let key = segment_key(tenant, entry.first);
        let stored = self.objects.version(&key, &entry.version).await?;
        Ok((key, stored))
    }

    /// Visits the leaves below a size that are in the archive's files.
    async fn visit_archive(
        &self,
        tenant: &Tenant,
        below: TreeSize,
        wanted: &Wanted,
        visit: Visitor<'_>,
    ) -> Result<()> {
        let mut at = below;
        while at > TreeSize::ZERO {
            let page = self.archive.archived_below(tenant, at, INDEX_PAGE).await?;
            if page.is_empty() {
                return Err(hole(tenant, at));
            }
            for entry in page {
                // The first one may reach beyond: what lies above was visited in segments.
                let follows = if at == below { entry.end >= at } else { entry.end == at };
                if !follows || entry.first.size_before() >= at {
                    return Err(hole(tenant, at));
                }
                if entry.running_received_max < *wanted.received.start() {
                    return Ok(());
                }
                let received = (entry.received_min, entry.received_max);
                if wanted.overlaps(received, (entry.id_min, entry.id_max)) {
                    self.visit_file(tenant, &entry, at, visit).await?;
                }
                at = entry.first.size_before();
            }
        }
        Ok(())
    }

    /// Visits the leaves of a file that lie below a size, a block at a time.
    async fn visit_file(
        &self,
        tenant: &Tenant,
        entry: &ArchiveEntry,
        below: TreeSize,
        visit: Visitor<'_>,
    ) -> Result<()> {
        let key = archive_key(tenant, entry);
        if let Some(expired) = entry.expired {
            let found = format!("one that had expired by {expired}");
            return Err(Error::corrupt(key, "a file of the archive to compare with", found));
        }
        let file = ArchiveFile::open(self.objects.clone(), key, entry.version.clone(), entry.bytes).await?;
        let visit_block = &mut |first: LeafIndex, leaves: Vec<Bytes>| {
            let wanted = first.leaves_until(below).unwrap_or_default();
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            leaves.iter().take(wanted).try_for_each(|leaf| visit(leaf))
        };
        file.leaves(entry.first, visit_block).await
    }
}

/// The key of the segment that begins with a leaf.
pub(crate) fn segment_key(tenant: &Tenant, first: LeafIndex) -> ObjectKey {
    Object::Segment { tenant: tenant.id().clone(), log: tenant.log(), first }.key()
}

/// The key of a file of the archive.
pub(crate) fn archive_key(tenant: &Tenant, entry: &ArchiveEntry) -> ObjectKey {
    let (tenant, log) = (tenant.id().clone(), tenant.log());
    Object::Archive { tenant, log, month: entry.month(), first: entry.first }.key()
}

fn hole(tenant: &Tenant, below: TreeSize) -> Error {
    Error::corrupt(
        format!("log of `{}`", tenant.id()),
        format!("a segment or a file of the archive that reaches up to {below} (run `stele rebuild`)"),
        "none",
    )
}
