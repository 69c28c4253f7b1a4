//! Where a record lies in its log: the walk over the indexes of segments and archive that seal and query share.
//!
//! The indexes are in the database, the ids are in the objects themselves. All are append-only below the tree
//! size they were read at, so they are cached in the process. Only objects go: a segment when its leaves have long been in
//! the archive, which is looked into instead; a file of the archive when its retention is over, and with it what it held.

use crate::parquet::archive::ArchiveFile;
use crate::parquet::{decode_ids, decode_leaves};
use crate::stored_tree::StoredTree;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};
use stele::access::{LogNumber, Tenant};
use stele::archive::ArchiveEntry;
use stele::error::{Code, Error, Result};
use stele::id::{EventId, TenantId};
use stele::layout::{Object, ObjectKey};
use stele::ports::{ArchiveIndex, ColdStore, Heads, LockedObjects};
use stele::record::Record;
use stele::segment::{Head, IndexEntry};
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele::tlog::tree::RightEdge;

/// Entries of the segment index fetched at once.
const INDEX_PAGE: usize = 256;
/// Index entries kept in the process, over all logs.
const CACHED_ENTRIES_MAX: usize = 200_000;
/// Ids kept in the process, over all segments.
const CACHED_IDS_MAX: usize = 500_000;

/// Segments and files looked into at once, and ids looked for in a file at once.
const HOLDERS_AT_ONCE: usize = 4;
const FINDS_AT_ONCE: usize = 8;
/// Files of the archive kept open in the process, over all logs.
const OPEN_FILES_MAX: usize = 32;

type LogKey = (TenantId, LogNumber);
/// The ids of a segment with their offset from its first leaf, by rising id.
type SegmentIds = Arc<[(EventId, u32)]>;

/// An object that holds leaves, as one of the indexes has it.
#[derive(Clone, Debug)]
enum Holder {
    Segment(IndexEntry),
    Archive(Arc<ArchiveEntry>),
}

impl Holder {
    fn first(&self) -> LeafIndex {
        match self {
            Holder::Segment(entry) => entry.first,
            Holder::Archive(entry) => entry.first,
        }
    }

    fn end(&self) -> TreeSize {
        match self {
            Holder::Segment(entry) => entry.end,
            Holder::Archive(entry) => entry.end,
        }
    }

    fn received_min(&self) -> Timestamp {
        match self {
            Holder::Segment(entry) => entry.received_min,
            Holder::Archive(entry) => entry.received_min,
        }
    }

    fn running_received_max(&self) -> Timestamp {
        match self {
            Holder::Segment(entry) => entry.running_received_max,
            Holder::Archive(entry) => entry.running_received_max,
        }
    }

    fn may_hold(&self, id: EventId, received_at: Timestamp) -> bool {
        match self {
            Holder::Segment(entry) => entry.may_hold(id, received_at),
            Holder::Archive(entry) => entry.may_hold(id, received_at),
        }
    }

    fn may_hold_id(&self, id: EventId) -> bool {
        match self {
            Holder::Segment(entry) => (entry.id_min..=entry.id_max).contains(&id),
            Holder::Archive(entry) => (entry.id_min..=entry.id_max).contains(&id),
        }
    }
}

/// Finds the leaf index of records that are sealed.
pub struct Places {
    heads: Arc<dyn Heads>,
    archive: Arc<dyn ArchiveIndex>,
    objects: Arc<dyn LockedObjects>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// The latest entries of each log, by rising first leaf, without a gap.
    entries: HashMap<LogKey, VecDeque<Holder>>,
    entry_count: usize,
    /// Files of the archive that were looked into, latest last.
    files: VecDeque<((LogKey, LeafIndex), Arc<ArchiveFile>)>,
    ids: HashMap<(LogKey, LeafIndex), SegmentIds>,
    id_order: VecDeque<(LogKey, LeafIndex)>,
    id_count: usize,
}

impl Places {
    /// Over the indexes and the objects they speak of.
    pub fn new(
        heads: Arc<dyn Heads>,
        archive: Arc<dyn ArchiveIndex>,
        objects: Arc<dyn LockedObjects>,
    ) -> Places {
        Places { heads, archive, objects, cache: Mutex::default() }
    }

    /// The trees of the same logs, for proofs.
    pub fn tree(&self) -> StoredTree {
        StoredTree::new(self.heads.clone(), self.archive.clone(), self.objects.clone())
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
        let mut asked: Vec<(Holder, Vec<EventId>)> = Vec::new();
        for holder in self.holders_since(tenant, head.size(), oldest).await? {
            let admits = |wanted: &&(EventId, Timestamp)| holder.may_hold(wanted.0, wanted.1);
            let admitted: Vec<EventId> = wanted.iter().filter(admits).map(|(id, _)| *id).collect();
            if !admitted.is_empty() {
                asked.push((holder, admitted));
            }
        }
        let looked =
            asked.into_iter().map(|(holder, ids)| async move { self.find(tenant, &holder, ids).await });
        let mut looked = stream::iter(looked).buffer_unordered(HOLDERS_AT_ONCE);
        while let Some(more) = looked.next().await {
            found.extend(more?);
        }
        Ok(found)
    }

    /// The tree at the end of a file of the archive, as the file says; `None` if none ends there.
    pub async fn archived_edge(&self, tenant: &Tenant, size: TreeSize) -> Result<Option<RightEdge>> {
        let entries = self.archive.archived_below(tenant, size, 1).await?;
        match entries.into_iter().find(|entry| entry.end == size) {
            Some(entry) => Ok(self.file(tenant, &entry).await?.map(|file| file.header().after.clone())),
            None => Ok(None),
        }
    }

    /// Whether a file of the archive that ends at a size is, or was, on record.
    pub async fn is_archived(&self, tenant: &Tenant, size: TreeSize) -> Result<bool> {
        let entries = self.archive.archived_below(tenant, size, 1).await?;
        Ok(entries.iter().any(|entry| entry.end == size))
    }

    /// Looks for ids in what a holder holds. A segment that is gone is in the archive; a file that expired holds nothing.
    async fn find(
        &self,
        tenant: &Tenant,
        holder: &Holder,
        wanted: Vec<EventId>,
    ) -> Result<Vec<(EventId, LeafIndex)>> {
        let mut found = Vec::new();
        let file = match holder {
            Holder::Segment(entry) => match self.segment_ids(tenant, entry).await? {
                Some(ids) => {
                    for id in wanted {
                        if let Ok(at) = ids.binary_search_by_key(&id, |(id, _)| *id)
                            && let Some(index) = entry.first.plus(u64::from(ids[at].1))
                        {
                            found.push((id, index));
                        }
                    }
                    return Ok(found);
                }
                None => self.file_instead(tenant, entry).await?,
            },
            Holder::Archive(entry) => self.file(tenant, entry).await?,
        };
        let Some(file) = file else { return Ok(found) };
        let looked = wanted.into_iter().map(|id| {
            let file = Arc::clone(&file);
            async move { Ok::<_, Error>((id, unless_gone(file.find(id).await)?)) }
        });
        let mut looked = stream::iter(looked).buffer_unordered(FINDS_AT_ONCE);
        while let Some(looked) = looked.next().await {
            if let (id, Some((_, index))) = looked? {
                found.push((id, index));
            }
        }
        Ok(found)
    }

    /// Puts what was just committed into the cache, so that the next walk reads nothing.
    pub fn remember(&self, tenant: &Tenant, entry: &IndexEntry, ids: &[EventId]) {
        self.locked().keep_ids((key_of(tenant), entry.first), sorted(ids));
    }

    /// What holds the leaves below a size, latest first, down to the first whose running maximum lies before `oldest`.
    async fn holders_since(&self, tenant: &Tenant, size: TreeSize, oldest: Timestamp) -> Result<Vec<Holder>> {
        let key = key_of(tenant);
        // Taken out rather than copied: a caller at the same time reads the index again, which is rare and cheap.
        let mut known = self.locked().take_entries(&key);
        // A rebuilt log can be shorter than what an old process remembers.
        while known.back().is_some_and(|e| e.end() > size) {
            known.pop_back();
        }
        // Forward: from the size down to what is known.
        let known_end = known.back().map_or(TreeSize::ZERO, Holder::end);
        let mut newer = Vec::new();
        let mut below = size;
        while below > known_end {
            if known.is_empty() && newer.last().is_some_and(|e: &Holder| e.running_received_max() < oldest) {
                break;
            }
            let page = self.page(tenant, below).await?;
            for entry in page {
                if entry.end() <= known_end {
                    break;
                }
                below = entry.first().size_before();
                newer.push(entry);
            }
        }
        known.extend(newer.into_iter().rev());
        // Backward: from what is known down to the oldest wanted.
        while known
            .front()
            .is_some_and(|e| e.running_received_max() >= oldest && e.first() != LeafIndex::ZERO)
        {
            let below = known.front().map_or(TreeSize::ZERO, |e| e.first().size_before());
            for entry in self.page(tenant, below).await? {
                known.push_front(entry);
            }
        }
        let since = known
            .iter()
            .rev()
            .take_while(|e| e.running_received_max() >= oldest)
            .cloned()
            .collect::<Vec<_>>();
        self.locked().keep_entries(key, known);
        Ok(since)
    }

    /// One page of the segment index, or of the archive's where that one has been forgotten, checked to reach up to `below`
    /// without a gap: a hole in it would hide records.
    async fn page(&self, tenant: &Tenant, below: TreeSize) -> Result<Vec<Holder>> {
        let page = self.heads.index_below(tenant, below, INDEX_PAGE).await?;
        let mut expected = below;
        let mut holders = Vec::with_capacity(page.len());
        for entry in page {
            if entry.end != expected || entry.first.size_before() >= entry.end {
                if holders.is_empty() {
                    break;
                }
                // What lies below is looked for with the next page.
                return Ok(holders);
            }
            expected = entry.first.size_before();
            holders.push(Holder::Segment(entry));
        }
        if !holders.is_empty() {
            return Ok(holders);
        }
        for entry in self.archive.archived_below(tenant, below, INDEX_PAGE).await? {
            // Forgetting may have stopped within a file: then it holds some of what is known by segments too.
            let reaches = entry.end >= expected && (entry.end == expected || holders.is_empty());
            if !reaches || entry.first.size_before() >= expected {
                return Err(gap(tenant, expected, format!("one that ends at {}", entry.end)));
            }
            expected = entry.first.size_before();
            holders.push(Holder::Archive(Arc::new(entry)));
        }
        if holders.is_empty() {
            return Err(gap(tenant, expected, "none".to_owned()));
        }
        Ok(holders)
    }

    /// The ids of a segment; `None` if it is gone.
    async fn segment_ids(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<Option<SegmentIds>> {
        let cache_key = (key_of(tenant), entry.first);
        if let Some(ids) = self.locked().ids.get(&cache_key) {
            return Ok(Some(ids.clone()));
        }
        let Some((key, bytes)) = self.segment(tenant, entry).await? else { return Ok(None) };
        let (_, ids) = decode_ids(key.as_str(), bytes)?;
        let ids = sorted(&ids);
        self.locked().keep_ids(cache_key, ids.clone());
        Ok(Some(ids))
    }

    /// A segment's file, held against the hash the index has of it; `None` if it is gone.
    async fn segment(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<Option<(ObjectKey, Bytes)>> {
        let object = Object::Segment { tenant: tenant.id().clone(), log: tenant.log(), first: entry.first };
        let key = object.key();
        let Some(stored) = self.objects.version(&key, &entry.version).await? else { return Ok(None) };
        let bytes = stored.bytes;
        if Hash::of(&bytes) != entry.sha256 {
            return Err(Error::corrupt(&key, format!("SHA-256 {}", entry.sha256), Hash::of(&bytes)));
        }
        Ok(Some((key, bytes)))
    }

    /// The file of the archive that holds a segment's leaves, in place of the segment, which is gone; `None` if the file
    /// has expired too.
    async fn file_instead(&self, tenant: &Tenant, segment: &IndexEntry) -> Result<Option<Arc<ArchiveFile>>> {
        let entries = self.archive.archived_below(tenant, segment.end, 1).await?;
        match entries.into_iter().find(|entry| entry.first <= segment.first && entry.end >= segment.end) {
            Some(entry) => self.file(tenant, &entry).await,
            None => {
                let key =
                    Object::Segment { tenant: tenant.id().clone(), log: tenant.log(), first: segment.first };
                Err(Error::corrupt(key.key(), "a segment that is not in the archive", "nothing"))
            }
        }
    }

    /// An open file of the archive; `None` if it has expired.
    async fn file(&self, tenant: &Tenant, entry: &ArchiveEntry) -> Result<Option<Arc<ArchiveFile>>> {
        if entry.expired.is_some() {
            return Ok(None);
        }
        let cache_key = (key_of(tenant), entry.first);
        if let Some((_, file)) = self.locked().files.iter().find(|(key, _)| *key == cache_key) {
            return Ok(Some(file.clone()));
        }
        let (id, log) = (tenant.id().clone(), tenant.log());
        let key = Object::Archive { tenant: id, log, month: entry.month(), first: entry.first }.key();
        let opened = ArchiveFile::open(self.objects.clone(), key, entry.version.clone(), entry.bytes).await;
        let file = match opened {
            Ok(file) => Arc::new(file),
            // Gone with the end of its retention, before anybody wrote that down.
            Err(error) if error.code() == Code::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut cache = self.locked();
        if cache.files.iter().any(|(key, _)| *key == cache_key) {
            return Ok(Some(file));
        }
        cache.files.push_back((cache_key, file.clone()));
        if cache.files.len() > OPEN_FILES_MAX {
            cache.files.pop_front();
        }
        Ok(Some(file))
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
        Ok(self.sealed(tenant, id, forgotten).await?.map(|(record, _)| record))
    }
}

impl Places {
    /// The record of an id with its leaf index, if it is in the log and was received at `received_by` or before (one
    /// received later may be found or not).
    pub async fn sealed(
        &self,
        tenant: &Tenant,
        id: EventId,
        received_by: Timestamp,
    ) -> Result<Option<(Record, LeafIndex)>> {
        let Some(head) = self.heads.head(tenant).await? else { return Ok(None) };
        for holder in self.holders_since(tenant, head.size(), Timestamp::default()).await? {
            if holder.received_min() > received_by || !holder.may_hold_id(id) {
                continue;
            }
            let file = match &holder {
                Holder::Segment(entry) => match self.segment_record(tenant, entry, id).await? {
                    Some(looked) => match looked {
                        Some(found) => return Ok(Some(found)),
                        None => continue,
                    },
                    None => self.file_instead(tenant, entry).await?,
                },
                Holder::Archive(entry) => self.file(tenant, entry).await?,
            };
            if let Some(file) = file
                && let Some(found) = unless_gone(file.find(id).await)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Places {
    /// A record out of a segment: `None` if the segment is gone, `Some(None)` if it does not hold the id.
    async fn segment_record(
        &self,
        tenant: &Tenant,
        entry: &IndexEntry,
        id: EventId,
    ) -> Result<Option<Option<(Record, LeafIndex)>>> {
        let Some(ids) = self.segment_ids(tenant, entry).await? else { return Ok(None) };
        let Ok(at) = ids.binary_search_by_key(&id, |(id, _)| *id) else { return Ok(Some(None)) };
        let Some((key, bytes)) = self.segment(tenant, entry).await? else { return Ok(None) };
        let (_, leaves) = decode_leaves(key.as_str(), bytes)?;
        let leaf = leaves.into_iter().nth(ids[at].1 as usize).zip(entry.first.plus(u64::from(ids[at].1)));
        let (leaf, index) =
            leaf.ok_or_else(|| Error::corrupt(&key, format!("the leaf of `{id}`"), "none"))?;
        Record::from_leaf(leaf).map(|record| Some(Some((record, index))))
    }
}

impl Cache {
    fn take_entries(&mut self, key: &LogKey) -> VecDeque<Holder> {
        let entries = self.entries.remove(key).unwrap_or_default();
        self.entry_count -= entries.len();
        entries
    }

    fn keep_entries(&mut self, key: LogKey, entries: VecDeque<Holder>) {
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

/// A file may go, its retention being over, while it is still open here.
fn unless_gone<T>(found: Result<Option<T>>) -> Result<Option<T>> {
    match found {
        Err(error) if error.code() == Code::NotFound => Ok(None),
        found => found,
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
