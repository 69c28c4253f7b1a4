//! Where a record lies in its log: the walk over the segment index that seal and query share.
//!
//! The index is in the database, the ids are in the segments themselves. Both are append-only below the tree
//! size they were read at, so both are cached in the process without ever going stale.

use crate::parquet::{decode_ids, decode_leaves};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};
use stele::access::{LogNumber, Tenant};
use stele::error::{Error, Result};
use stele::id::{EventId, TenantId};
use stele::layout::{Object, ObjectKey};
use stele::ports::{ColdStore, Heads, LockedObjects};
use stele::record::Record;
use stele::segment::{Head, IndexEntry};
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};

/// Entries of the segment index fetched at once.
const INDEX_PAGE: usize = 256;
/// Index entries kept in the process, over all logs.
const CACHED_ENTRIES_MAX: usize = 200_000;
/// Ids kept in the process, over all segments.
const CACHED_IDS_MAX: usize = 500_000;

type LogKey = (TenantId, LogNumber);
/// The ids of a segment with their offset from its first leaf, by rising id.
type SegmentIds = Arc<[(EventId, u32)]>;

/// Finds the leaf index of records that are sealed.
pub struct Places {
    heads: Arc<dyn Heads>,
    objects: Arc<dyn LockedObjects>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// The latest entries of each log, by rising first leaf, without a gap.
    entries: HashMap<LogKey, VecDeque<IndexEntry>>,
    entry_count: usize,
    ids: HashMap<(LogKey, LeafIndex), SegmentIds>,
    id_order: VecDeque<(LogKey, LeafIndex)>,
    id_count: usize,
}

impl Places {
    /// Over an index and the objects it speaks of.
    pub fn new(heads: Arc<dyn Heads>, objects: Arc<dyn LockedObjects>) -> Places {
        Places { heads, objects, cache: Mutex::default() }
    }

    /// The leaf indexes of those of the wanted records, given by id and `received_at`, that are sealed now.
    pub async fn places(
        &self,
        tenant: &Tenant,
        wanted: &[(EventId, Timestamp)],
    ) -> Result<HashMap<EventId, LeafIndex>> {
        match self.heads.head(tenant).await? {
            Some(head) => self.places_below(tenant, &head, wanted).await,
            None => Ok(HashMap::new()),
        }
    }

    /// The same below a head. Exact: it walks the index backwards while the running maximum of `received_at`
    /// is not below a record's, and looks into every segment whose ranges admit it.
    pub async fn places_below(
        &self,
        tenant: &Tenant,
        head: &Head,
        wanted: &[(EventId, Timestamp)],
    ) -> Result<HashMap<EventId, LeafIndex>> {
        let mut found = HashMap::new();
        let Some(oldest) = wanted.iter().map(|(_, received)| *received).min() else { return Ok(found) };
        if head.size() == TreeSize::ZERO || head.received_max < oldest {
            return Ok(found);
        }
        for entry in self.entries_since(tenant, head.size(), oldest).await? {
            let admits = |wanted: &&(EventId, Timestamp)| entry.may_hold(wanted.0, wanted.1);
            let admitted: Vec<EventId> = wanted.iter().filter(admits).map(|(id, _)| *id).collect();
            if admitted.is_empty() {
                continue;
            }
            let ids = self.segment_ids(tenant, &entry).await?;
            for id in admitted {
                if let Ok(at) = ids.binary_search_by_key(&id, |(id, _)| *id)
                    && let Some(index) = entry.first.plus(u64::from(ids[at].1))
                {
                    found.insert(id, index);
                }
            }
        }
        Ok(found)
    }

    /// Puts what was just committed into the cache, so that the next walk reads nothing.
    pub fn remember(&self, tenant: &Tenant, entry: &IndexEntry, ids: &[EventId]) {
        self.locked().keep_ids((key_of(tenant), entry.first), sorted(ids));
    }

    /// Entries below a size, latest first, down to the first whose running maximum lies before `oldest`.
    async fn entries_since(
        &self,
        tenant: &Tenant,
        size: TreeSize,
        oldest: Timestamp,
    ) -> Result<Vec<IndexEntry>> {
        let key = key_of(tenant);
        // Taken out rather than copied: a caller at the same time reads the index again, which is rare and cheap.
        let mut known = self.locked().take_entries(&key);
        // A rebuilt log can be shorter than what an old process remembers.
        while known.back().is_some_and(|e| e.end > size) {
            known.pop_back();
        }
        // Forward: from the size down to what is known.
        let known_end = known.back().map_or(TreeSize::ZERO, |e| e.end);
        let mut newer = Vec::new();
        let mut below = size;
        while below > known_end {
            if known.is_empty() && newer.last().is_some_and(|e: &IndexEntry| e.running_received_max < oldest)
            {
                break;
            }
            let page = self.page(tenant, below).await?;
            for entry in page {
                if entry.end <= known_end {
                    break;
                }
                below = entry.first.size_before();
                newer.push(entry);
            }
        }
        known.extend(newer.into_iter().rev());
        // Backward: from what is known down to the oldest wanted.
        while known.front().is_some_and(|e| e.running_received_max >= oldest && e.first != LeafIndex::ZERO) {
            let below = known.front().map_or(TreeSize::ZERO, |e| e.first.size_before());
            for entry in self.page(tenant, below).await? {
                known.push_front(entry);
            }
        }
        let since =
            known.iter().rev().take_while(|e| e.running_received_max >= oldest).cloned().collect::<Vec<_>>();
        self.locked().keep_entries(key, known);
        Ok(since)
    }

    /// One page of the index, checked to reach up to `below` without a gap: a hole in it would hide records.
    async fn page(&self, tenant: &Tenant, below: TreeSize) -> Result<Vec<IndexEntry>> {
        let page = self.heads.index_below(tenant, below, INDEX_PAGE).await?;
        let mut expected = below;
        for entry in &page {
            if entry.end != expected || entry.first.size_before() >= entry.end {
                return Err(gap(tenant, expected, format!("an entry that ends at {}", entry.end)));
            }
            expected = entry.first.size_before();
        }
        if page.is_empty() {
            return Err(gap(tenant, expected, "none".to_owned()));
        }
        Ok(page)
    }

    async fn segment_ids(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<SegmentIds> {
        let cache_key = (key_of(tenant), entry.first);
        if let Some(ids) = self.locked().ids.get(&cache_key) {
            return Ok(ids.clone());
        }
        let (key, bytes) = self.segment(tenant, entry).await?;
        let (_, ids) = decode_ids(key.as_str(), bytes)?;
        let ids = sorted(&ids);
        self.locked().keep_ids(cache_key, ids.clone());
        Ok(ids)
    }

    /// A segment's file, held against the hash the index has of it.
    async fn segment(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<(ObjectKey, Bytes)> {
        let object = Object::Segment { tenant: tenant.id().clone(), log: tenant.log(), first: entry.first };
        let key = object.key();
        let stored = self.objects.version(&key, &entry.version).await?;
        let bytes = stored.ok_or_else(|| Error::corrupt(&key, "a segment", "nothing"))?.bytes;
        if Hash::of(&bytes) != entry.sha256 {
            return Err(Error::corrupt(&key, format!("SHA-256 {}", entry.sha256), Hash::of(&bytes)));
        }
        Ok((key, bytes))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Cache> {
        // A panic elsewhere can at worst have lost a cached line.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ColdStore for Places {
    async fn forgotten_record(
        &self,
        tenant: &Tenant,
        id: EventId,
        forgotten: Timestamp,
    ) -> Result<Option<Record>> {
        let Some(head) = self.heads.head(tenant).await? else { return Ok(None) };
        for entry in self.entries_since(tenant, head.size(), Timestamp::default()).await? {
            if entry.received_min > forgotten || !(entry.id_min..=entry.id_max).contains(&id) {
                continue;
            }
            let ids = self.segment_ids(tenant, &entry).await?;
            let Ok(at) = ids.binary_search_by_key(&id, |(id, _)| *id) else { continue };
            let (key, bytes) = self.segment(tenant, &entry).await?;
            let (_, leaves) = decode_leaves(key.as_str(), bytes)?;
            let leaf = leaves.into_iter().nth(ids[at].1 as usize);
            let leaf = leaf.ok_or_else(|| Error::corrupt(&key, format!("the leaf of `{id}`"), "none"))?;
            return Record::from_leaf(leaf).map(Some);
        }
        Ok(None)
    }
}

impl Cache {
    fn take_entries(&mut self, key: &LogKey) -> VecDeque<IndexEntry> {
        let entries = self.entries.remove(key).unwrap_or_default();
        self.entry_count -= entries.len();
        entries
    }

    fn keep_entries(&mut self, key: LogKey, entries: VecDeque<IndexEntry>) {
        if self.entry_count + entries.len() > CACHED_ENTRIES_MAX {
            self.entries.clear();
            self.entry_count = 0;
        }
        self.entry_count += entries.len();
        if let Some(before) = self.entries.insert(key, entries) {
            self.entry_count -= before.len();
        }
    }

    fn keep_ids(&mut self, key: (LogKey, LeafIndex), ids: SegmentIds) {
        self.id_count += ids.len();
        if let Some(before) = self.ids.insert(key.clone(), ids) {
            self.id_count -= before.len();
        } else {
            self.id_order.push_back(key);
        }
        while self.id_count > CACHED_IDS_MAX && self.id_order.len() > 1 {
            if let Some(oldest) = self.id_order.pop_front()
                && let Some(ids) = self.ids.remove(&oldest)
            {
                self.id_count -= ids.len();
            }
        }
    }
}

fn key_of(tenant: &Tenant) -> LogKey {
    (tenant.id().clone(), tenant.log())
}

fn sorted(ids: &[EventId]) -> SegmentIds {
    let mut ids: Vec<(EventId, u32)> = ids.iter().copied().zip(0..).collect();
    ids.sort_unstable();
    ids.into()
}

fn gap(tenant: &Tenant, below: TreeSize, found: String) -> Error {
    Error::corrupt(
        format!("segment index of `{}`", tenant.id()),
        format!("an entry that ends at {below} (run `stele rebuild`)"),
        found,
    )
}
