//! What waits for the archive, and what the archive has taken the place of: locks that must not end before their segment is
//! archived, and entries of the segment index that lead to nothing any more.

use crate::leaves::segment_key;
use crate::{Reconcile, Visit};
use futures_util::{FutureExt, StreamExt, stream};
use stele::access::Tenant;
use stele::errand::Errand;
use stele::error::Result;
use stele::layout::{self, Object, ObjectKey};
use stele::limits;
use stele::segment::IndexEntry;
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};

/// Index entries fetched at once.
const INDEX_PAGE: usize = 500;
/// Locks looked at, at the same time.
const LOCKS_AT_ONCE: usize = 8;
/// Days a lock must still last to be left alone for another week.
const LOCK_LEFT_DAYS: u32 = limits::SEGMENT_LOCK_DAYS - 7;
/// Days after which nothing waits that compact has been to.
const DUE_DAYS: u32 = limits::ARCHIVE_WAIT_DAYS_MAX + 1;

/// What became of one overdue segment.
enum Tended {
    Kept,
    Lost(ObjectKey),
}

impl Reconcile {
    /// The size up to which a log is archived.
    async fn archived_size(&self, tenant: &Tenant) -> Result<TreeSize> {
        let last = self.archive.archived_below(tenant, TreeSize::new(u64::MAX), 1).await?;
        Ok(last.first().map_or(TreeSize::ZERO, |entry| entry.end))
    }

    /// Sends compact to segments that wait longer than they may, and lengthens the locks of those that wait so long that they
    /// might go.
    pub(crate) async fn tend_waiting(&self, visit: &mut Visit<'_>) -> Result<()> {
        let (tenant, now) = (visit.tenant, visit.now);
        let older_than = |entry: &IndexEntry, days| entry.sealed_at.plus_days(days) < now;
        let mut from = self.archived_size(tenant).await?.next_index();
        let (mut is_first, mut lost) = (true, Vec::new());
        loop {
            let page = self.heads.index_from(tenant, from, INDEX_PAGE).await?;
            if std::mem::take(&mut is_first) && page.first().is_some_and(|e| older_than(e, DUE_DAYS)) {
                self.compaction.send(Errand::to(tenant.id().clone()).message()).await?;
            }
            // They were sealed in this order.
            let overdue = page.partition_point(|entry| older_than(entry, limits::ARCHIVE_OVERDUE_DAYS));
            let tending: Vec<_> =
                page[..overdue].iter().map(|entry| self.keep(tenant, entry, now).boxed()).collect();
            let mut tending = stream::iter(tending).buffered(LOCKS_AT_ONCE);
            while let Some(tended) = tending.next().await {
                visit.done.overdue += 1;
                if let Tended::Lost(key) = tended? {
                    lost.push(key);
                }
            }
            match page.last() {
                Some(last) if overdue == INDEX_PAGE => from = last.end.next_index(),
                _ => break,
            }
        }
        if visit.done.overdue > 0 {
            tracing::warn!(tenant = %tenant.id(), segments = visit.done.overdue, "segments wait too long to be archived");
        }
        if let Some(first) = lost.first() {
            visit.done.lost += lost.len() as u64;
            visit.problem(format!(
                "{} segments are gone and not archived, the first is `{first}`",
                lost.len()
            ));
        }
        Ok(())
    }

    /// Sees to it that an overdue segment's lock lasts.
    async fn keep(&self, tenant: &Tenant, entry: &IndexEntry, now: Timestamp) -> Result<Tended> {
        let key = segment_key(tenant, entry.first);
        let Some(state) = self.locks.state(&key, &entry.version).await? else { return Ok(Tended::Lost(key)) };
        if state.retain_until < now.plus_days(LOCK_LEFT_DAYS) {
            let until = now.plus_days(limits::SEGMENT_LOCK_DAYS);
            self.locks.extend(&key, &entry.version, until).await?;
        }
        Ok(Tended::Kept)
    }

    /// Drops the entries of segments that are gone, now that the archive has their leaves. Earliest first: a crash leaves no
    /// gap, and the rest to the next visit.
    pub(crate) async fn forget_segments(&self, visit: &Visit<'_>) -> Result<()> {
        let tenant = visit.tenant;
        let archived = self.archived_size(tenant).await?;
        if archived == TreeSize::ZERO {
            return Ok(());
        }
        let prefix = layout::segments_of(tenant.id(), tenant.log());
        let earliest = self.objects.list(&prefix, None, 1).await?;
        let still_there = match earliest.first().map(|object| ObjectKey::parse(&object.key)) {
            Some(Some(Object::Segment { first, .. })) => first.size_before(),
            // Nobody but us may write here: what it hides is not known.
            Some(_) => TreeSize::ZERO,
            None => archived,
        };
        let until = archived.min(still_there);
        let is_over = |entry: &&IndexEntry| {
            entry.end <= until && entry.sealed_at.plus_days(limits::SEGMENT_LOCK_DAYS + 1) < visit.now
        };
        loop {
            let page = self.heads.index_from(tenant, LeafIndex::ZERO, INDEX_PAGE).await?;
            let over = page.iter().take_while(is_over).count();
            let Some(last) = page[..over].last() else { return Ok(()) };
            let forgotten = self.heads.forget_index(tenant, last.end, over).await?;
            if over < INDEX_PAGE || forgotten == 0 {
                return Ok(());
            }
        }
    }
}
