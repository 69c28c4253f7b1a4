//! Evidence bundles, made from locked objects alone.
//!
//! The log is read twice: once to find what was asked for, once to write it with its audit paths. Memory holds the indexes of
//! what matches, a quarter of a byte for each leaf of the log, and one row group.

mod container;
mod rows;

pub use container::{Section, Unpacked};
pub use rows::{Row, read_rows};

use crate::memory::MemoryStore;
use crate::parquet::archive::ArchiveFile;
use crate::parquet::{decode_leaves, decode_segment};
use crate::stored_tree::StoredTree;
use bytes::Bytes;
use container::Packer;
use rows::RowWriter;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stele::access::{LogNumber, Tenant, TenantRecord};
use stele::archive::ArchiveEntry;
use stele::bundle::{self, BundleInfo, BundleKeys, BundleRequest};
use stele::id::{EventId, TenantId};
use stele::layout::{self, Object, ObjectKey, PUBLIC_KEYS};
use stele::ports::{ArchiveIndex, Heads, ListedObject, LockedObjects};
use stele::public_key::{PublicKey, PublishedKeys};
use stele::query::Filter;
use stele::record::Record;
use stele::retention::Class;
use stele::segment::{Head, IndexEntry};
use stele::time::Timestamp;
use stele::tlog::checkpoint::{Checkpoint, Origin};
use stele::tlog::hash::{Hash, LeafIndex, TreeSize, leaf_hash};
use stele::tlog::levels::Levels;
use stele::tlog::note::Note;
use stele::tlog::tiles::TILE_LEAVES;
use stele::tlog::tree::RightEdge;
use stele::{Code, Error, Result};

const LIST_PAGE: usize = 1_000;

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleSummary {
    /// Leaves in it.
    pub leaves: u64,
    /// Those of them that were asked for.
    pub matches: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Hash,
    /// The size of the tree its proofs lead to.
    pub tree_size: TreeSize,
    /// How far the log was looked at: to the end of what was asked for, or of what is signed.
    pub looked_to: TreeSize,
    /// Leaves of the log that have expired, of those that were to be looked at.
    pub expired: u64,
}

/// What a bundle may take, where somebody waits for it.
#[derive(Clone, Copy, Debug)]
pub struct BundleLimits {
    /// Leaves in it.
    pub leaves: u64,
    /// Leaves that are looked at to find what matches.
    pub read: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Hears how far it got: leaves read and leaves to read, over both passes.
pub type BundleProgress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// A log, as its locked objects tell it.
struct Log {
    tenant: Tenant,
    objects: Arc<dyn LockedObjects>,
    tree: StoredTree,
    head: Head,
    pieces: Vec<Piece>,
    /// What has expired, at the beginning or between two files.
    gaps: Vec<(TreeSize, TreeSize)>,
}

enum Piece {
    File { key: ObjectKey, entry: ArchiveEntry },
    Segment { key: ObjectKey, entry: IndexEntry },
}

impl Piece {
    fn range(&self) -> (TreeSize, TreeSize) {
        match self {
            Piece::File { entry, .. } => (entry.first.size_before(), entry.end),
            Piece::Segment { entry, .. } => (entry.first.size_before(), entry.end),
        }
    }

    fn ids(&self) -> (EventId, EventId) {
        match self {
            Piece::File { entry, .. } => (entry.id_min, entry.id_max),
            Piece::Segment { entry, .. } => (entry.id_min, entry.id_max),
        }
    }
}

/// The public keys that are published beside a log.
///
/// # Errors
/// Those of the store; a file that is no key is passed over, since it can prove nothing.
pub async fn published_keys(objects: &dyn LockedObjects) -> Result<PublishedKeys> {
    let mut keys = PublishedKeys::default();
    for object in list_all(objects, PUBLIC_KEYS).await? {
        let Some(parsed @ Object::PublicKey { .. }) = ObjectKey::parse(&object.key) else { continue };
        let stored = objects.version(&parsed.key(), &object.version).await?;
        if let Some((purpose, key)) = stored.and_then(|stored| PublicKey::from_file(&stored.bytes)) {
            keys.push(purpose, key);
        }
    }
    Ok(keys)
}

/// Writes the bundle of what was asked for of a tenant's log. `checkpoint` is one that is newer than any locked one, as the head
/// has it. `spool` is a place for what is under way; nothing is left there.
///
/// # Errors
/// `not_found` if nothing matches, or if there is no log; `bad_parameter` for a filter there is not.
#[expect(clippy::too_many_arguments, reason = "all of it is what a bundle is made of")]
pub async fn write_bundle(
    objects: Arc<dyn LockedObjects>,
    tenant: &TenantId,
    log: LogNumber,
    request: &BundleRequest,
    now: Timestamp,
    checkpoint: Option<&str>,
    limits: Option<BundleLimits>,
    out: &Path,
    progress: BundleProgress<'_>,
) -> Result<BundleSummary> {
    let filter = request.filter(now)?;
    let published = published_keys(&*objects).await?;
    let log = Log::read(objects, tenant, log).await?;
    let total = 2 * log.head.size().to_u64();
    if let Some(limits) = limits {
        log.is_within(limits, &filter)?;
    }
    // What came after the last checkpoint nobody has signed: the bundle ends before it.
    let checkpoints = log.checkpoints(checkpoint).await?;
    let signed = checkpoints.iter().map(|(_, size)| *size).max().unwrap_or(TreeSize::ZERO);
    let spanned = request.from_leaf.unwrap_or_default()..request.until_leaf.unwrap_or(u64::MAX);
    let looked_to = TreeSize::new(signed.to_u64().min(spanned.end));
    let mut found = log.matching(&filter, spanned.clone(), &|read| progress(read, total)).await?;
    let unsigned = found.split_off(found.partition_point(|index| signed.contains(*index)));
    let (Some(first), Some(last)) = (found.first().copied(), found.last().copied()) else {
        if let Some(index) = unsigned.first() {
            let told = format!("leaf {index} is under no checkpoint yet: try again in a minute");
            return Err(Error::unavailable(told));
        }
        let told = match log.expired() {
            0 => "no sealed event matches".to_owned(),
            expired => format!("no sealed event matches; {expired} of the log have expired"),
        };
        return Err(Error::new(Code::NotFound, told));
    };
    if request.covers_all()
        && let Some((from, to)) =
            log.gaps.iter().find(|(from, to)| *to > first.size_before() && *from <= last.size_before())
    {
        let told = format!(
            "leaves {from} to {to} of the log have expired: choose a range before or behind them, or only what matches"
        );
        return Err(Error::new(Code::NotFound, told));
    }
    let in_it = if request.covers_all() { last.to_u64() + 1 - first.to_u64() } else { found.len() as u64 };
    if limits.is_some_and(|limits| in_it > limits.leaves) {
        return Err(too_large(format!("{in_it} events")));
    }
    let fitting = checkpoints.into_iter().find(|(_, size)| size.contains(last));
    let (text, size) = fitting.ok_or_else(|| misfit(tenant))?;
    let levels = log.levels(size).await?;
    let changes = log.key_changes().await?;
    let keys = BundleKeys::new(&published, changes);
    let events = with_suffix(out, "events");
    let read = |read| progress(total / 2 + read, total);
    let written = log.write_rows(&events, &levels, &found, request.covering, &read).await;
    let leaves = written.inspect_err(|_| drop(fs::remove_file(&events)))?;
    let info = BundleInfo {
        version: BundleInfo::VERSION,
        tenant_id: tenant.as_str().to_owned(),
        log: log.tenant.log().0,
        origin: log.tenant.origin().to_string(),
        tree_size: size.to_u64(),
        root: levels.root().ok_or_else(|| misfit(tenant))?.to_base64(),
        request: request.clone(),
        first: first.to_u64(),
        end: last.size_after().to_u64(),
        leaves,
        matches: found.len() as u64,
        expired: log.expired(),
        made_at: now.to_string(),
    };
    let part = with_suffix(out, "part");
    let packed = pack(&part, &events, &info, &keys, &text).and_then(|()| hash_of(&part));
    drop(fs::remove_file(&events));
    let kept = packed.and_then(|(sha256, bytes)| {
        if limits.is_some_and(|limits| bytes > limits.bytes) {
            return Err(too_large(format!("{bytes} bytes")));
        }
        fs::rename(&part, out).map_err(|e| failed(out, e))?;
        Ok((sha256, bytes))
    });
    let (sha256, bytes) = kept.inspect_err(|_| drop(fs::remove_file(&part)))?;
    let expired = log.expired_in(spanned.start..looked_to.to_u64());
    Ok(BundleSummary { leaves, matches: info.matches, bytes, sha256, tree_size: size, looked_to, expired })
}

fn pack(out: &Path, events: &Path, info: &BundleInfo, keys: &BundleKeys, checkpoint: &str) -> Result<()> {
    let mut packer = Packer::new(std::io::BufWriter::new(File::create(out).map_err(|e| failed(out, e))?));
    packer.add(bundle::README, bundle::README_TEXT.as_bytes())?;
    packer.add(bundle::INFO, info.to_text().as_bytes())?;
    packer.add(bundle::CHECKPOINT, checkpoint.as_bytes())?;
    packer.add(bundle::KEYS, keys.to_text().as_bytes())?;
    packer.add(bundle::SQL, bundle::VERIFY_SQL.as_bytes())?;
    packer.add(bundle::EVENTS, File::open(events).map_err(|e| failed(events, e))?)?;
    let file = packer.finish()?.into_inner().map_err(|e| failed(out, e.into_error()))?;
    file.sync_all().map_err(|e| failed(out, e))
}

/// Packs entries as they are, with right hashes: for tests that need a liar.
///
/// # Errors
/// The file can't be written.
pub fn pack_entries(out: &Path, entries: &[(&str, Vec<u8>)]) -> Result<()> {
    let mut packer = Packer::new(File::create(out).map_err(|e| failed(out, e))?);
    for (name, bytes) in entries {
        packer.add(name, bytes.as_slice())?;
    }
    packer.finish().map(drop)
}

impl Log {
    /// Reads what there is: footers of files, whole segments behind them.
    async fn read(objects: Arc<dyn LockedObjects>, id: &TenantId, log: LogNumber) -> Result<Log> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut origin: Option<Origin> = None;
        let mut edge = RightEdge::empty();
        let mut gaps: Vec<(TreeSize, TreeSize)> = Vec::new();
        let store = Arc::new(MemoryStore::new());
        for object in list_all(&*objects, &layout::archive_of(id, log)).await? {
            let Some(parsed @ Object::Archive { .. }) = ObjectKey::parse(&object.key) else { continue };
            let key = parsed.key();
            let file =
                ArchiveFile::open(objects.clone(), key.clone(), object.version.clone(), object.bytes).await?;
            let header = file.header();
            if header.before.size() > edge.size() {
                gaps.push((edge.size(), header.before.size()));
            } else if header.before != edge {
                return Err(Error::corrupt(&key, format!("a file after root {}", edge.root()), "another"));
            }
            origin.get_or_insert_with(|| header.origin.clone());
            edge = header.after.clone();
            let entry =
                header.entry(object.bytes, object.version, Hash::from_bytes([0; 32]), Class::default());
            pieces.push(Piece::File { key, entry });
        }
        let archived = edge.size();
        for object in list_all(&*objects, &layout::segments_of(id, log)).await? {
            let Some(parsed @ Object::Segment { first, .. }) = ObjectKey::parse(&object.key) else {
                continue;
            };
            if first.size_before() < archived {
                continue;
            }
            let key = parsed.key();
            let stored = objects.version(&key, &object.version).await?.ok_or_else(|| gone(&key))?;
            let segment = decode_segment(id, key.as_str(), stored.bytes.clone())?;
            if edge.size() == archived && first.size_before() > archived {
                // The files in between have expired: what is left goes on with the segments.
                gaps.push((archived, first.size_before()));
            } else if segment.header.before != edge {
                return Err(Error::corrupt(&key, format!("a segment after root {}", edge.root()), "another"));
            }
            origin.get_or_insert_with(|| segment.header.origin.clone());
            edge = segment.header.after.clone();
            let entry = segment.entry(object.version, Hash::of(&stored.bytes))?;
            pieces.push(Piece::Segment { key, entry });
        }
        let origin = origin.ok_or_else(|| Error::new(Code::NotFound, "there is no sealed event"))?;
        let record = TenantRecord { log, ..TenantRecord::new(id, &origin, Timestamp::default()) };
        let tenant = Tenant::on_record(record)?;
        for (first, end) in &gaps {
            store.put_archived(&tenant, &expired_entry(*first, *end)).await?;
        }
        for piece in &pieces {
            match piece {
                Piece::File { entry, .. } => store.put_archived(&tenant, entry).await?,
                Piece::Segment { entry, .. } => store.put_index(&tenant, entry).await?,
            }
        }
        let tree = StoredTree::new(store.clone(), store, objects.clone());
        let head = Head { edge, ..Head::empty(Timestamp::default()) };
        Ok(Log { tenant, objects, tree, head, pieces, gaps })
    }

    fn expired(&self) -> u64 {
        self.gaps.iter().map(|(first, end)| end.to_u64() - first.to_u64()).sum()
    }

    /// Those of a range that have expired.
    fn expired_in(&self, range: Range<u64>) -> u64 {
        let within = |(first, end): &(TreeSize, TreeSize)| {
            end.to_u64().min(range.end).saturating_sub(first.to_u64().max(range.start))
        };
        self.gaps.iter().map(within).sum()
    }

    /// Sees to it that no more is read than somebody waits for.
    fn is_within(&self, limits: BundleLimits, filter: &Filter) -> Result<()> {
        let Some(ids) = filter.range() else { return Ok(()) };
        let to_read = self.pieces.iter().filter(|piece| {
            let (least, greatest) = piece.ids();
            greatest >= ids.first && least <= ids.last
        });
        let leaves: u64 = to_read.map(|piece| piece.range().1.to_u64() - piece.range().0.to_u64()).sum();
        match leaves <= limits.read {
            true => Ok(()),
            false => Err(too_large(format!("{leaves} events to look at"))),
        }
    }

    /// The leaves of a range that match, in order.
    async fn matching(
        &self,
        filter: &Filter,
        range: Range<u64>,
        read: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<LeafIndex>> {
        let mut found = Vec::new();
        let Some(ids) = filter.range() else { return Ok(found) };
        for piece in &self.pieces {
            let (least, greatest) = piece.ids();
            let (from, to) = piece.range();
            let overlaps = from.to_u64() < range.end && to.to_u64() > range.start;
            if overlaps && greatest >= ids.first && least <= ids.last {
                self.leaves(piece, &mut |first, leaves| {
                    for (leaf, index) in leaves.into_iter().zip(first.to_u64()..) {
                        if range.contains(&index) && filter.matches(&Record::from_leaf(leaf)?)? {
                            found.push(LeafIndex::new(index));
                        }
                    }
                    Ok(())
                })
                .await?;
            }
            read(piece.range().1.to_u64());
        }
        Ok(found)
    }

    /// The leaves of a piece, a part at a time.
    async fn leaves(
        &self,
        piece: &Piece,
        visit: &mut (dyn FnMut(LeafIndex, Vec<Bytes>) -> Result<()> + Send),
    ) -> Result<()> {
        match piece {
            Piece::File { key, entry } => {
                let file =
                    ArchiveFile::open(self.objects.clone(), key.clone(), entry.version.clone(), entry.bytes);
                file.await?.leaves(entry.first, visit).await
            }
            Piece::Segment { key, entry } => {
                let stored = self.objects.version(key, &entry.version).await?.ok_or_else(|| gone(key))?;
                let (_, leaves) = decode_leaves(key.as_str(), stored.bytes)?;
                visit(entry.first, leaves)
            }
        }
    }

    /// The checkpoints proofs may lead to, by preference: the latest statement, the newest one, the newest locked one. The
    /// largest of them is how far the log is signed.
    async fn checkpoints(&self, newer: Option<&str>) -> Result<Vec<(String, TreeSize)>> {
        let (id, log) = (self.tenant.id(), self.tenant.log());
        let read = |text: &str| {
            let note = Note::parse(text).ok()?;
            let size = Checkpoint::parse(note.text()).ok()?.size;
            (size <= self.head.size()).then(|| (text.to_owned(), size))
        };
        let mut found = Vec::new();
        if let Some(object) = list_all(&*self.objects, &layout::statements_of(id, log)).await?.last()
            && let Some(text) = self.text(object).await?
        {
            found.extend(read(&text));
        }
        found.extend(newer.and_then(read));
        let listed = list_all(&*self.objects, &layout::checkpoints_of(id, log)).await?;
        for object in listed.iter().rev() {
            if let Some(Object::Checkpoint { .. }) = ObjectKey::parse(&object.key)
                && let Some(text) = self.text(object).await?
                && let Some(checkpoint) = read(&text)
            {
                found.push(checkpoint);
                break;
            }
        }
        Ok(found)
    }

    async fn text(&self, object: &ListedObject) -> Result<Option<String>> {
        let Some(parsed) = ObjectKey::parse(&object.key) else { return Ok(None) };
        let stored = self.objects.version(&parsed.key(), &object.version).await?;
        Ok(stored.and_then(|stored| String::from_utf8(stored.bytes.to_vec()).ok()))
    }

    async fn key_changes(&self) -> Result<Vec<String>> {
        let prefix = layout::key_changes_of(self.tenant.id(), self.tenant.log());
        let mut changes = Vec::new();
        for object in list_all(&*self.objects, &prefix).await? {
            changes.extend(self.text(&object).await?);
        }
        Ok(changes)
    }

    /// The tree of a size, from 256 leaves up.
    async fn levels(&self, size: TreeSize) -> Result<Levels> {
        let whole = size.to_u64() / TILE_LEAVES;
        let mut level_1 = Vec::with_capacity(whole as usize);
        let mut tile = 0;
        while (level_1.len() as u64) < whole {
            let width = (whole - level_1.len() as u64).min(TILE_LEAVES);
            level_1.extend(self.tree.tile(&self.tenant, 1, tile, width).await?);
            tile += 1;
        }
        let tail = match size.to_u64() % TILE_LEAVES {
            0 => Vec::new(),
            width => self.tree.tile(&self.tenant, 0, whole, width).await?,
        };
        Levels::new(size, level_1, tail).ok_or_else(|| misfit(self.tenant.id()))
    }

    /// Writes what matches with its audit paths, or everything from the first to the last of it.
    async fn write_rows(
        &self,
        path: &Path,
        levels: &Levels,
        found: &[LeafIndex],
        covering: bool,
        read: &(dyn Fn(u64) + Sync),
    ) -> Result<u64> {
        let file = File::create(path).map_err(|e| failed(path, e))?;
        let (Some(first), Some(last)) = (found.first().copied(), found.last().copied()) else { return Ok(0) };
        let mut writing = Writing {
            writer: RowWriter::new(file)?,
            levels,
            found,
            covering: covering.then_some((first, last)),
            block: Vec::new(),
            block_first: first.to_u64() / TILE_LEAVES * TILE_LEAVES,
            left: Vec::new(),
            written: 0,
        };
        let end = ((last.to_u64() / TILE_LEAVES + 1) * TILE_LEAVES).min(levels.size().to_u64());
        let begin = writing.block_first;
        let (mut before, mut ragged_to) = (0, 0);
        for piece in &self.pieces {
            let (from, to) = piece.range();
            if from.to_u64() > before {
                // Leaves have expired: no subtree they were in is whole.
                writing.end_block()?;
                self.write_left(&mut writing).await?;
                ragged_to = from.to_u64().next_multiple_of(TILE_LEAVES);
            }
            before = to.to_u64();
            let near = from.to_u64() / TILE_LEAVES * TILE_LEAVES..to.to_u64().next_multiple_of(TILE_LEAVES);
            let next = found.partition_point(|index| index.to_u64() < near.start);
            let is_needed = covering || found.get(next).is_some_and(|index| near.contains(&index.to_u64()));
            if is_needed && to.to_u64() > begin && from.to_u64() < end {
                let whole_from = ragged_to.clamp(from.to_u64(), to.to_u64());
                if whole_from > from.to_u64() {
                    let leaves = self.tree.leaves(&self.tenant, from, TreeSize::new(whole_from)).await?;
                    for (leaf, index) in leaves.into_iter().zip(from.to_u64()..) {
                        writing.take(index, leaf)?;
                    }
                    writing.end_block()?;
                    self.write_left(&mut writing).await?;
                }
                self.leaves(piece, &mut |first, leaves| {
                    for (leaf, index) in leaves.into_iter().zip(first.to_u64()..) {
                        if (begin..end).contains(&index) && index >= whole_from {
                            writing.take(index, leaf)?;
                        }
                    }
                    Ok(())
                })
                .await?;
            }
            read(to.to_u64());
        }
        writing.end_block()?;
        self.write_left(&mut writing).await?;
        writing.writer.finish()?;
        Ok(writing.written)
    }

    /// Leaves of a subtree of which some have expired get their audit paths one by one.
    async fn write_left(&self, writing: &mut Writing<'_>) -> Result<()> {
        for (index, leaf) in std::mem::take(&mut writing.left) {
            let edge = self.tree.edge(&self.tenant, &self.head, writing.levels.size()).await?;
            let head = Head { edge, ..self.head.clone() };
            let path = self.tree.inclusion(&self.tenant, &head, index).await?.path;
            writing.write(index, leaf, path)?;
        }
        Ok(())
    }
}

/// Rows under way: the leaves of one subtree of 256.
struct Writing<'a> {
    writer: RowWriter<File>,
    levels: &'a Levels,
    found: &'a [LeafIndex],
    /// The range of which all leaves are written.
    covering: Option<(LeafIndex, LeafIndex)>,
    block: Vec<(LeafIndex, Bytes)>,
    /// The subtree's first leaf, also if that has expired.
    block_first: u64,
    left: Vec<(LeafIndex, Bytes)>,
    written: u64,
}

impl Writing<'_> {
    fn take(&mut self, index: u64, leaf: Bytes) -> Result<()> {
        let first = index / TILE_LEAVES * TILE_LEAVES;
        if first != self.block_first {
            self.end_block()?;
            self.block_first = first;
        }
        // The page it lies in is a thousand times its size.
        self.block.push((LeafIndex::new(index), Bytes::copy_from_slice(&leaf)));
        Ok(())
    }

    /// Writes what is wanted of a whole subtree; what is wanted of another is left to be written by itself.
    fn end_block(&mut self) -> Result<()> {
        let leaves = std::mem::take(&mut self.block);
        let wanted = |index: LeafIndex| match self.covering {
            Some((from, to)) => (from..=to).contains(&index),
            None => self.found.binary_search(&index).is_ok(),
        };
        let chosen: Vec<_> = leaves.iter().filter(|(index, _)| wanted(*index)).cloned().collect();
        if chosen.is_empty() {
            return Ok(());
        }
        let size = self.levels.size().to_u64();
        if leaves.len() as u64 != TILE_LEAVES.min(size.saturating_sub(self.block_first)) {
            self.left.extend(chosen);
            return Ok(());
        }
        let hashes: Vec<Hash> = leaves.iter().map(|(_, leaf)| leaf_hash(leaf)).collect();
        for (index, leaf) in chosen {
            let path = self.levels.path(index, &hashes);
            let path = path.ok_or_else(|| Error::new(Code::Internal, "a leaf has no place in its tree"))?;
            self.write(index, leaf, path)?;
        }
        Ok(())
    }

    fn write(&mut self, index: LeafIndex, leaf: Bytes, path: Vec<Hash>) -> Result<()> {
        let matches = self.found.binary_search(&index).is_ok();
        self.written += 1;
        self.writer.push(Row { index, matches, leaf, path })
    }
}

fn expired_entry(first: TreeSize, end: TreeSize) -> ArchiveEntry {
    let nobody = EventId::new(Timestamp::default(), 0);
    ArchiveEntry {
        first: first.next_index(),
        end,
        sealed_first: Timestamp::default(),
        sealed_last: Timestamp::default(),
        received_min: Timestamp::default(),
        received_max: Timestamp::default(),
        running_received_max: Timestamp::default(),
        id_min: nobody,
        id_max: nobody,
        bytes: 0,
        version: String::new(),
        sha256: Hash::from_bytes([0; 32]),
        class: Class::default(),
        expired: Some(Timestamp::default()),
        range: None,
    }
}

async fn list_all(objects: &dyn LockedObjects, prefix: &str) -> Result<Vec<ListedObject>> {
    let mut all: Vec<ListedObject> = Vec::new();
    loop {
        let after = all.last().map(|object| object.key.clone());
        let page = objects.list(prefix, after.as_deref(), LIST_PAGE).await?;
        let is_last = page.len() < LIST_PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

fn hash_of(path: &Path) -> Result<(Hash, u64)> {
    use sha2::{Digest, Sha256};
    let mut sha256 = Sha256::new();
    let mut file = File::open(path).map_err(|e| failed(path, e))?;
    let (mut bytes, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        let read = std::io::Read::read(&mut file, &mut buffer).map_err(|e| failed(path, e))?;
        if read == 0 {
            return Ok((Hash::from_bytes(sha256.finalize().into()), bytes));
        }
        sha256.update(&buffer[..read]);
        bytes += read as u64;
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn too_large(what: String) -> Error {
    let detail = format!(
        "the bundle takes {what}: narrow it down by `from` and `to`, or have the operator make it with `stele bundle`"
    );
    Error::new(Code::ExportTooLarge, detail)
}

fn gone(key: &ObjectKey) -> Error {
    Error::unavailable(format!("`{key}` went while it was read: try again"))
}

fn misfit(tenant: &TenantId) -> Error {
    Error::corrupt(format!("the log of `{tenant}`"), "hashes that fit together", "others")
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::new(Code::Internal, format!("write `{}`", path.display())).with_source(e)
}
