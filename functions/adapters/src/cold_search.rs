//! Searches a log as it is stored: which files of the archive and which waiting segments there are, and what one of them
//! holds of what is wanted. Where a leaf is in both, the archive is read.
//!
//! In which order they are read, and when an answer is complete, is for the planner to say (`stele::query::Merge`). Indexes and
//! the ends of files are cached in the process, all of it bounded: below a tree size they never change, but for files whose
//! retention ends, and those are told by their absence.

use crate::parquet::archive::{ArchiveFile, Wanted};
use crate::parquet::{decode_ids, decode_leaves};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stele::access::{LogNumber, Tenant};
use stele::archive::{ArchiveEntry, check_sequence};
use stele::error::{Code, Error, Result};
use stele::id::{EventId, TenantId};
use stele::layout::{Object, ObjectKey};
use stele::limits;
use stele::ports::{
    ArchiveIndex, Heads, IdRange, ListedObject, LockedObjects, Order, PutIfAbsent, StoredObject,
};
use stele::query::{Filter, State};
use stele::record::{Leaf, Record};
use stele::segment::IndexEntry;
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use tokio::sync::Semaphore;

/// Entries of an index fetched at once.
const INDEX_PAGE: usize = 1_000;
/// Index entries kept in the process, over all logs.
const CACHED_ENTRIES_MAX: usize = 100_000;
/// Bytes of the ends of files kept in the process, over all logs; read into memory they are a few times that.
const CACHED_ENDS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of a range from which on it counts as large, and how many small reads such a one counts for.
const LARGE_BYTES: u64 = 256 * 1024;
const LARGE_COSTS: u32 = (limits::SEARCH_READS_AT_ONCE / limits::SEARCH_LARGE_READS_AT_ONCE) as u32;
/// How often indexes are read again that change while they are read.
const INDEX_ATTEMPTS: usize = 4;

type LogKey = (TenantId, LogNumber);

/// What holds leaves.
#[derive(Clone, Debug)]
pub enum Holder {
    /// A file of the archive.
    File(Arc<ArchiveEntry>),
    /// A segment that waits for its file.
    Segment(Arc<IndexEntry>),
}

impl Holder {
    /// The ids it can hold.
    pub fn range(&self) -> IdRange {
        let (first, last) = match self {
            Holder::File(entry) => (entry.id_min, entry.id_max),
            Holder::Segment(entry) => (entry.id_min, entry.id_max),
        };
        IdRange { first, last }
    }

    /// Index of its first leaf.
    pub fn first(&self) -> LeafIndex {
        match self {
            Holder::File(entry) => entry.first,
            Holder::Segment(entry) => entry.first,
        }
    }

    /// The earliest and the latest `received_at`.
    pub fn received(&self) -> (Timestamp, Timestamp) {
        match self {
            Holder::File(entry) => (entry.received_min, entry.received_max),
            Holder::Segment(entry) => (entry.received_min, entry.received_max),
        }
    }

    /// How many leaves.
    pub fn leaves(&self) -> u64 {
        match self {
            Holder::File(entry) => entry.leaves(),
            Holder::Segment(entry) => entry.end.to_u64().saturating_sub(entry.first.to_u64()),
        }
    }
}

/// Searches what is sealed.
pub struct ColdSearch {
    heads: Arc<dyn Heads>,
    archive: Arc<dyn ArchiveIndex>,
    objects: Arc<Metered>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    logs: HashMap<LogKey, Indexes>,
    /// Files of the archive that were looked into, latest last.
    files: VecDeque<((LogKey, LeafIndex), Arc<ArchiveFile>)>,
    file_bytes: usize,
}

/// What the indexes say of one log.
#[derive(Clone, Default)]
struct Indexes {
    archived: Vec<Arc<ArchiveEntry>>,
    /// Those behind the archive.
    segments: VecDeque<Arc<IndexEntry>>,
}

impl Indexes {
    fn archived_size(&self) -> TreeSize {
        self.archived.last().map_or(TreeSize::ZERO, |entry| entry.end)
    }
}

impl ColdSearch {
    /// Over the indexes and the objects they speak of.
    pub fn new(
        heads: Arc<dyn Heads>,
        archive: Arc<dyn ArchiveIndex>,
        objects: Arc<dyn LockedObjects>,
    ) -> ColdSearch {
        ColdSearch { heads, archive, objects: Arc::new(Metered::new(objects)), cache: Mutex::default() }
    }

    /// Bytes read from objects since the process began, and in how many reads.
    pub fn read(&self) -> (u64, u64) {
        (self.objects.bytes.load(Ordering::Relaxed), self.objects.reads.load(Ordering::Relaxed))
    }

    /// What holds the leaves below a size, in leaf order: the archive as far as it reaches, then segments.
    pub async fn holders(&self, tenant: &Tenant, size: TreeSize) -> Result<Vec<Holder>> {
        let key = key_of(tenant);
        let mut known = self.locked().logs.get(&key).cloned().unwrap_or_default();
        for _ in 0..INDEX_ATTEMPTS {
            if !self.extend(tenant, size, &mut known).await? {
                // Compaction has moved on meanwhile, or a rebuild changed it all.
                known = Indexes::default();
                continue;
            }
            let files = known.archived.iter().cloned().map(Holder::File);
            let segments = known.segments.iter().cloned().map(Holder::Segment);
            let below = |holder: &Holder| holder.first().size_before() < size;
            let holders = files.chain(segments).filter(below).collect();
            self.locked().keep(key, known);
            return Ok(holders);
        }
        Err(Error::corrupt(
            format!("segment index of `{}`", tenant.id()),
            format!("entries up to {size} without a gap (run `stele rebuild`)"),
            "a gap",
        ))
    }

    /// Reads what the indexes say beyond what is known; `false` if they leave a gap.
    async fn extend(&self, tenant: &Tenant, size: TreeSize, known: &mut Indexes) -> Result<bool> {
        loop {
            let from = known.archived_size();
            let page = self.archive.archived_from(tenant, from.next_index(), INDEX_PAGE).await?;
            // After a rebuild the index begins with the first file that was still there.
            let first = page.first().map_or(from, |entry| entry.first.size_before());
            let from = if known.archived.is_empty() { first } else { from };
            if check_sequence(tenant.id().as_str(), from, &page).is_err() && !known.archived.is_empty() {
                return Ok(false);
            }
            check_sequence(tenant.id().as_str(), from, &page)?;
            let ended = page.len() < INDEX_PAGE;
            known.archived.extend(page.into_iter().map(Arc::new));
            if ended {
                break;
            }
        }
        let archived = known.archived_size();
        while known.segments.front().is_some_and(|entry| entry.end <= archived) {
            known.segments.pop_front();
        }
        if known.segments.front().is_some_and(|entry| entry.first.size_before() != archived) {
            known.segments.clear();
        }
        let mut at = known.segments.back().map_or(archived, |entry| entry.end);
        while at < size {
            let page = self.heads.index_from(tenant, at.next_index(), INDEX_PAGE).await?;
            if page.is_empty() {
                return Ok(false);
            }
            for entry in page {
                if entry.first.size_before() != at || entry.end <= at {
                    return Ok(false);
                }
                at = entry.end;
                known.segments.push_back(Arc::new(entry));
            }
        }
        Ok(true)
    }

    /// A file of the archive; `None` if it has expired.
    pub async fn file(&self, tenant: &Tenant, entry: &ArchiveEntry) -> Result<Option<Arc<ArchiveFile>>> {
        if entry.expired.is_some() {
            return Ok(None);
        }
        let cache_key = (key_of(tenant), entry.first);
        if let Some(file) = self.locked().file(&cache_key) {
            return Ok(Some(file));
        }
        let (id, log) = (tenant.id().clone(), tenant.log());
        let key = Object::Archive { tenant: id, log, month: entry.month(), first: entry.first }.key();
        let objects: Arc<dyn LockedObjects> = self.objects.clone();
        let opened = ArchiveFile::open(objects, key, entry.version.clone(), entry.bytes).await;
        let Some(file) = unless_gone(opened)? else { return Ok(None) };
        let file = Arc::new(file);
        self.locked().keep_file(cache_key, file.clone());
        Ok(Some(file))
    }

    /// The file of the archive that holds a segment's leaves by now; `None` if there is none.
    pub async fn file_instead(
        &self,
        tenant: &Tenant,
        segment: &IndexEntry,
    ) -> Result<Option<Arc<ArchiveEntry>>> {
        let entries = self.archive.archived_below(tenant, segment.end, 1).await?;
        let holds = |entry: &ArchiveEntry| entry.first <= segment.first && entry.end >= segment.end;
        Ok(entries.into_iter().find(holds).map(Arc::new))
    }

    /// What a segment holds of what is wanted, in leaf order; `None` if it is gone. It is read whole, and held against the hash
    /// the index has of it.
    pub async fn segment(
        &self,
        tenant: &Tenant,
        entry: &IndexEntry,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Vec<(Record, LeafIndex)>>> {
        let object = Object::Segment { tenant: tenant.id().clone(), log: tenant.log(), first: entry.first };
        let key = object.key();
        let Some(stored) = self.objects.version(&key, &entry.version).await? else { return Ok(None) };
        let bytes = stored.bytes;
        if Hash::of(&bytes) != entry.sha256 {
            return Err(Error::corrupt(&key, format!("SHA-256 {}", entry.sha256), Hash::of(&bytes)));
        }
        let (_, ids) = decode_ids(key.as_str(), bytes.clone())?;
        let range = wanted.range.first..=wanted.range.last;
        if !ids.iter().any(|id| range.contains(id)) {
            return Ok(Some(Vec::new()));
        }
        let (_, leaves) = decode_leaves(key.as_str(), bytes)?;
        let mut found = Vec::new();
        for ((id, leaf), index) in ids.into_iter().zip(leaves).zip(entry.first.to_u64()..) {
            if !range.contains(&id) || index >= wanted.below.to_u64() {
                continue;
            }
            let record = Record::from_leaf(leaf)?;
            if record.id == id && wanted.filter.judge(&record, Some(State::Sealed))? == Some(true) {
                let leaf = Leaf::new(Bytes::copy_from_slice(record.leaf.as_bytes()));
                found.push((Record { leaf, ..record }, LeafIndex::new(index)));
            }
        }
        Ok(Some(found))
    }

    /// The record of an id below a size, with its leaf index.
    pub async fn find(
        &self,
        tenant: &Tenant,
        size: TreeSize,
        id: EventId,
    ) -> Result<Option<(Record, LeafIndex)>> {
        let holders = self.holders(tenant, size).await?.into_iter().rev();
        let holders = holders.filter(|holder| (holder.range().first..=holder.range().last).contains(&id));
        let looked = holders.map(|holder| async move { self.find_in(tenant, &holder, size, id).await });
        let mut looked = stream::iter(looked).buffer_unordered(limits::SEARCH_READS_AT_ONCE);
        while let Some(found) = looked.next().await {
            if let Some((record, index)) = found?
                && size.contains(index)
            {
                return Ok(Some((record, index)));
            }
        }
        Ok(None)
    }

    async fn find_in(
        &self,
        tenant: &Tenant,
        holder: &Holder,
        size: TreeSize,
        id: EventId,
    ) -> Result<Option<(Record, LeafIndex)>> {
        let file = match holder {
            Holder::File(entry) => self.file(tenant, entry).await?,
            Holder::Segment(entry) => {
                let filter = Filter::default();
                let range = IdRange { first: id, last: id };
                let wanted = Wanted { filter: &filter, range, order: Order::Ascending, below: size, most: 1 };
                match self.segment(tenant, entry, &wanted).await? {
                    Some(found) => return Ok(found.into_iter().next()),
                    None => match self.file_instead(tenant, entry).await? {
                        Some(entry) => self.file(tenant, &entry).await?,
                        None => None,
                    },
                }
            }
        };
        match file {
            Some(file) => unless_gone(file.find(id).await).map(Option::flatten),
            None => Ok(None),
        }
    }

    fn locked(&self) -> MutexGuard<'_, Cache> {
        // A panic elsewhere can at worst have lost a cached line.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn keep(&mut self, key: LogKey, indexes: Indexes) {
        let count = |indexes: &Indexes| indexes.archived.len() + indexes.segments.len();
        let others = self.logs.iter().filter(|(other, _)| **other != key);
        if others.map(|(_, indexes)| count(indexes)).sum::<usize>() + count(&indexes) > CACHED_ENTRIES_MAX {
            self.logs.clear();
        }
        if count(&indexes) <= CACHED_ENTRIES_MAX {
            self.logs.insert(key, indexes);
        }
    }

    fn file(&mut self, key: &(LogKey, LeafIndex)) -> Option<Arc<ArchiveFile>> {
        let at = self.files.iter().position(|(known, _)| known == key)?;
        let entry = self.files.remove(at)?;
        let file = entry.1.clone();
        self.files.push_back(entry);
        Some(file)
    }

    fn keep_file(&mut self, key: (LogKey, LeafIndex), file: Arc<ArchiveFile>) {
        if self.files.iter().any(|(known, _)| *known == key) {
            return;
        }
        self.file_bytes += file.end_bytes();
        self.files.push_back((key, file));
        while self.file_bytes > CACHED_ENDS_BYTES_MAX
            && let Some((_, oldest)) = self.files.pop_front()
        {
            self.file_bytes -= oldest.end_bytes();
        }
    }
}

/// A file may go, its retention being over, while an index still has it, or while it is open here.
pub fn unless_gone<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn key_of(tenant: &Tenant) -> LogKey {
    (tenant.id().clone(), tenant.log())
}

/// Counts what is read, and lets only so many reads be under way at once, fewer of large ones.
struct Metered {
    inner: Arc<dyn LockedObjects>,
    permits: Semaphore,
    bytes: AtomicU64,
    reads: AtomicU64,
}

impl Metered {
    fn new(inner: Arc<dyn LockedObjects>) -> Metered {
        Metered {
            inner,
            permits: Semaphore::new(limits::SEARCH_READS_AT_ONCE),
            bytes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        }
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl LockedObjects for Metered {
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        retain_until: Timestamp,
    ) -> Result<PutIfAbsent> {
        self.inner.put_if_absent(key, bytes, retain_until).await
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>> {
        self.inner.object(key).await
    }

    async fn version(&self, key: &ObjectKey, version: &str) -> Result<Option<StoredObject>> {
        // The semaphore is never closed.
        let _permits = self.permits.acquire_many(LARGE_COSTS).await;
        let read = self.inner.version(key, version).await?;
        self.count(read.as_ref().map_or(0, |object| object.bytes.len()));
        Ok(read)
    }

    async fn range(&self, key: &ObjectKey, version: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let is_large = range.end.saturating_sub(range.start) >= LARGE_BYTES;
        let _permits = self.permits.acquire_many(if is_large { LARGE_COSTS } else { 1 }).await;
        let read = self.inner.range(key, version, range).await?;
        self.count(read.as_ref().map_or(0, Bytes::len));
        Ok(read)
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>> {
        self.inner.list(prefix, after, limit).await
    }
}
