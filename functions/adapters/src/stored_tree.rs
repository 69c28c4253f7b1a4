//! A log's tree as it is stored: the hash of any part of it, and the proofs that follow.
//!
//! The indexes hold the hashes of each segment's and each file's subtrees, the tiles those of 256 leaves each, manifests the
//! right edges. Leaves are read only where a part begins or ends within them: a segment, or the block of a file. Nothing here is
//! believed by those it is made for: whoever gets a proof holds it against a checkpoint.
//!
//! Of leaves that have expired only what tiles keep can be told: the parts between locked checkpoints, and subtrees of 256.

mod parts;

pub use parts::{Found, LogPart, Outline};

use crate::parquet::archive::ArchiveFile;
use crate::parquet::decode_leaves;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use stele::access::Tenant;
use stele::archive::ArchiveEntry;
use stele::error::{Code, Error, Result};
use stele::layout::{self, Object, ObjectKey};
use stele::ports::{ArchiveIndex, Heads, LockedObjects};
use stele::public_key::PublicKey;
use stele::segment::{Head, IndexEntry};
use stele::tlog::checkpoint::Checkpoint;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize, leaf_hash};
use stele::tlog::key_change::KeyChange;
use stele::tlog::manifest::Manifest;
use stele::tlog::note::{Note, VerifierKey};
use stele::tlog::proof::{verify_consistency, verify_inclusion};
use stele::tlog::range::{CompactRange, consistency_proof_from, inclusion_proof_between};
use stele::tlog::tiles::{TILE_LEAVES, Tiles, range_between};
use stele::tlog::tree::RightEdge;

/// Entries of an index fetched at once.
const INDEX_PAGE: usize = 1_000;
/// Keys listed at once.
const LIST_PAGE: usize = 1_000;
/// Leaf hashes of segments and windows of files kept in the process.
const CACHED_PARTS_MAX: usize = 64;

/// What holds a part of a log's leaves.
#[derive(Clone)]
enum Piece {
    Segment(IndexEntry),
    File(Box<ArchiveEntry>),
}

impl Piece {
    fn first(&self) -> TreeSize {
        match self {
            Piece::Segment(entry) => entry.first.size_before(),
            Piece::File(entry) => entry.first.size_before(),
        }
    }

    fn end(&self) -> TreeSize {
        match self {
            Piece::Segment(entry) => entry.end,
            Piece::File(entry) => entry.end,
        }
    }
}

/// Leaf hashes that were read: of a whole segment, or of a window of a file.
struct Part {
    first: TreeSize,
    hashes: Vec<Hash>,
    /// The tree before it, as a segment says.
    before: Option<RightEdge>,
}

impl Part {
    fn slice(&self, first: TreeSize, end: TreeSize) -> Option<&[Hash]> {
        let from = first.to_u64().checked_sub(self.first.to_u64())? as usize;
        let to = end.to_u64().checked_sub(self.first.to_u64())? as usize;
        self.hashes.get(from..to)
    }
}

/// The key of a part: whose origin, and the object it was read from with the place of its window.
type PartKey = (String, u64);

/// The tree of any log, out of indexes and locked objects.
pub struct StoredTree {
    heads: Arc<dyn Heads>,
    archive: Arc<dyn ArchiveIndex>,
    objects: Arc<dyn LockedObjects>,
    parts: Mutex<VecDeque<(PartKey, Arc<Part>)>>,
    window: Mutex<Option<parts::Window>>,
}

/// A leaf's place under a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The hash of the leaf.
    pub leaf_hash: Hash,
    /// The hashes from its sibling up.
    pub path: Vec<Hash>,
}

impl StoredTree {
    /// Over the indexes and the objects they speak of.
    pub fn new(
        heads: Arc<dyn Heads>,
        archive: Arc<dyn ArchiveIndex>,
        objects: Arc<dyn LockedObjects>,
    ) -> StoredTree {
        StoredTree { heads, archive, objects, parts: Mutex::default(), window: Mutex::default() }
    }

    /// The objects it reads.
    pub fn objects(&self) -> Arc<dyn LockedObjects> {
        self.objects.clone()
    }

    /// The proof that a leaf is in the tree of a size, which the head's tree has outgrown or is.
    ///
    /// # Errors
    /// `not_found` for a leaf that has expired, `corrupt` if what is stored does not give the head's root.
    pub async fn inclusion(&self, tenant: &Tenant, head: &Head, index: LeafIndex) -> Result<Inclusion> {
        let before = self.edge(tenant, head, index.size_before()).await?.to_range();
        let hashes = self.leaf_hashes(tenant, index.size_before(), index.size_after()).await?;
        let leaf_hash = *hashes.first().ok_or_else(|| expired(index.size_before()))?;
        let after = self.range(tenant, index.size_after(), head.size()).await?;
        let path = inclusion_proof_between(&before, leaf_hash, &after).ok_or_else(|| misfit(tenant))?;
        verify_inclusion(&leaf_hash, index, head.size(), &path, &head.edge.root()).map_err(|error| {
            Error::corrupt(format!("the tree of `{}`", tenant.id()), "the head's root", error)
        })?;
        Ok(Inclusion { leaf_hash, path })
    }

    /// The proof that the tree of one size grew out of that of a smaller one, both at least 1 and at most the head's.
    ///
    /// # Errors
    /// `not_found` where the leaves around a size have expired and no locked checkpoint has that size.
    pub async fn consistency(
        &self,
        tenant: &Tenant,
        head: &Head,
        earlier: TreeSize,
        later: TreeSize,
    ) -> Result<Vec<Hash>> {
        let edge = self.edge(tenant, head, earlier).await?;
        let range = self.range(tenant, earlier, later).await?;
        let proof = consistency_proof_from(&edge, &range).ok_or_else(|| misfit(tenant))?;
        let root = match later == head.size() {
            true => head.edge.root(),
            false => edge.followed_by(&range).ok_or_else(|| misfit(tenant))?.root(),
        };
        verify_consistency(earlier, later, &proof, &edge.root(), &root).map_err(|error| {
            Error::corrupt(format!("the tree of `{}`", tenant.id()), "the head's root", error)
        })?;
        Ok(proof)
    }

    /// The hashes of a tile (c2sp.org/tlog-tiles): those of `width` subtrees of `256^level` leaves, from the one numbered
    /// `256 × index` on.
    pub async fn tile(&self, tenant: &Tenant, level: u32, index: u64, width: u64) -> Result<Vec<Hash>> {
        let leaves = TILE_LEAVES.checked_pow(level);
        let bounds = leaves.and_then(|leaves| {
            let first = index.checked_mul(TILE_LEAVES)?.checked_mul(leaves)?;
            Some((leaves, first, first.checked_add(width.checked_mul(leaves)?)?))
        });
        let (leaves, first, end) =
            bounds.ok_or_else(|| Error::new(Code::NotFound, "there is no such tile"))?;
        if level == 0 {
            return self.leaf_hashes(tenant, TreeSize::new(first), TreeSize::new(end)).await;
        }
        let mut hashes = Vec::with_capacity(width as usize);
        let pieces = self.pieces(tenant, TreeSize::new(first), TreeSize::new(end)).await?;
        let mut rest = pieces.as_slice();
        for at in 0..width {
            let (from, to) = (TreeSize::new(first + at * leaves), TreeSize::new(first + (at + 1) * leaves));
            let begins = rest.iter().position(|piece| piece.end() > from).unwrap_or(rest.len());
            rest = &rest[begins..];
            let subtree = self.range_of(tenant, rest, from, to).await?;
            let mut roots = subtree.hashes();
            match (roots.next(), roots.next()) {
                (Some(root), None) => hashes.push(root),
                _ => return Err(misfit(tenant)),
            }
        }
        Ok(hashes)
    }

    /// The leaves of a range, in order.
    ///
    /// # Errors
    /// `not_found` where they have expired.
    pub async fn leaves(&self, tenant: &Tenant, first: TreeSize, end: TreeSize) -> Result<Vec<Bytes>> {
        let mut leaves = Vec::new();
        for piece in self.pieces(tenant, first, end).await? {
            let (from, to) = (piece.first().max(first), piece.end().min(end));
            match &piece {
                Piece::Segment(entry) => {
                    let all = self.segment_leaves(tenant, entry).await?;
                    let skip = from.to_u64() - piece.first().to_u64();
                    leaves.extend(
                        all.into_iter().skip(skip as usize).take((to.to_u64() - from.to_u64()) as usize),
                    );
                }
                Piece::File(entry) => {
                    let file = self.file(tenant, entry).await?;
                    leaves.extend(file.leaves_between(from.next_index(), to).await?);
                }
            }
        }
        Ok(leaves)
    }

    /// The right edge of a size that the head has outgrown or is.
    pub async fn edge(&self, tenant: &Tenant, head: &Head, size: TreeSize) -> Result<RightEdge> {
        if size == head.size() {
            return Ok(head.edge.clone());
        }
        let Some(last) = size.last_index() else { return Ok(RightEdge::empty()) };
        let pieces = self.pieces(tenant, last.size_before(), size).await?;
        let piece = pieces.first().ok_or_else(|| misfit(tenant))?;
        if let (Piece::File(_), true) = (piece, piece.end() == size) {
            return self.manifest_edge(tenant, size).await;
        }
        let before = match (piece, piece.first()) {
            (_, TreeSize::ZERO) => RightEdge::empty(),
            (Piece::File(_), first) => self.manifest_edge(tenant, first).await?,
            (Piece::Segment(entry), _) => {
                let part = self.segment_hashes(tenant, entry).await?;
                part.before.clone().ok_or_else(|| misfit(tenant))?
            }
        };
        let rest = self.range_of(tenant, &pieces, piece.first(), size).await?;
        before.followed_by(&rest).ok_or_else(|| misfit(tenant))
    }

    /// The hashes of a range of leaves, as the subtrees they make up.
    pub async fn range(&self, tenant: &Tenant, first: TreeSize, end: TreeSize) -> Result<CompactRange> {
        let pieces = self.pieces(tenant, first, end).await?;
        self.range_of(tenant, &pieces, first, end).await
    }

    async fn range_of(
        &self,
        tenant: &Tenant,
        pieces: &[Piece],
        first: TreeSize,
        end: TreeSize,
    ) -> Result<CompactRange> {
        let mut range = CompactRange::empty(first);
        while range.end() < end {
            let at = range.end();
            let holds =
                |size: TreeSize| pieces.iter().find(|piece| piece.first() <= size && piece.end() > size);
            let piece = holds(at).ok_or_else(|| misfit(tenant))?;
            let to = piece.end().min(end);
            // A subtree of 256 that begins here and ends in a later file is in the tiles of that one, whatever has expired.
            let last = TreeSize::new(at.to_u64() + TILE_LEAVES - 1);
            if at.to_u64().is_multiple_of(TILE_LEAVES)
                && last >= piece.end()
                && last < end
                && let Some(Piece::File(later)) = holds(last)
                && let Some(subtree) = self.straddling(tenant, later, at).await?
            {
                range.join(&subtree).ok_or_else(|| misfit(tenant))?;
                continue;
            }
            let part = match piece {
                Piece::Segment(entry) => self.part_of_segment(tenant, entry, at, to).await?,
                Piece::File(entry) => match self.part_of_file(tenant, entry, at, to).await {
                    // Its leaves are gone: what is left of it are whole subtrees of 256, and what it ends with.
                    Err(error) if error.code() == Code::NotFound => {
                        let whole = TreeSize::new(to.to_u64() / TILE_LEAVES * TILE_LEAVES);
                        match whole > at {
                            true => self.part_of_file(tenant, entry, at, whole).await?,
                            false => self.ending(tenant, entry, at, to).await?.ok_or(error)?,
                        }
                    }
                    part => part?,
                },
            };
            range.join(&part).ok_or_else(|| misfit(tenant))?;
        }
        match range.end() == end {
            true => Ok(range),
            false => Err(misfit(tenant)),
        }
    }

    /// The subtree of 256 leaves that begins at a size before a file and ends in it.
    async fn straddling(
        &self,
        tenant: &Tenant,
        entry: &ArchiveEntry,
        at: TreeSize,
    ) -> Result<Option<CompactRange>> {
        for tiles in self.tiles(tenant, entry).await? {
            let number = at.to_u64() / TILE_LEAVES;
            let place = number.checked_sub(tiles.level_1_index_of_first());
            if let Some(hash) = place.and_then(|place| tiles.level_1().get(place as usize)) {
                let mut subtree = CompactRange::empty(at);
                return Ok(subtree.append_subtree(TILE_LEAVES.ilog2(), *hash).map(|()| subtree));
            }
        }
        Ok(None)
    }

    /// What comes after the last whole subtree of 256 up to a size at which tiles were cut.
    async fn ending(
        &self,
        tenant: &Tenant,
        entry: &ArchiveEntry,
        at: TreeSize,
        to: TreeSize,
    ) -> Result<Option<CompactRange>> {
        if !at.to_u64().is_multiple_of(TILE_LEAVES) {
            return Ok(None);
        }
        let all = self.tiles(tenant, entry).await?;
        let mut joined: Option<CompactRange> = None;
        for range in all.iter().flat_map(Tiles::ranges).take_while(|range| range.end() <= to) {
            match &mut joined {
                Some(before) => before.join(range).ok_or_else(|| misfit(tenant))?,
                None => joined = Some(range.clone()),
            }
        }
        let whole = joined.filter(|range| range.first() <= at && range.end() == to);
        Ok(whole.and_then(|range| range.ending_from(at)))
    }

    async fn part_of_segment(
        &self,
        tenant: &Tenant,
        entry: &IndexEntry,
        first: TreeSize,
        end: TreeSize,
    ) -> Result<CompactRange> {
        if let Some(part) = entry.subtrees.as_ref().and_then(|subtrees| subtrees.part(first, end)) {
            return Ok(part);
        }
        let part = self.segment_hashes(tenant, entry).await?;
        Ok(of_leaves(first, part.slice(first, end).ok_or_else(|| misfit(tenant))?))
    }

    async fn part_of_file(
        &self,
        tenant: &Tenant,
        entry: &ArchiveEntry,
        first: TreeSize,
        end: TreeSize,
    ) -> Result<CompactRange> {
        if (first, end) == (entry.first.size_before(), entry.end)
            && let Some(range) = &entry.range
        {
            return Ok(range.clone());
        }
        let all = self.tiles(tenant, entry).await?;
        if let Some(range) = range_between(&all, first, end) {
            return Ok(range);
        }
        // The subtrees of 256 leaves in the middle are in the tiles; what is left at both sides is read.
        let round_up = |size: TreeSize| TreeSize::new(size.to_u64().next_multiple_of(TILE_LEAVES));
        let round_down = |size: TreeSize| TreeSize::new(size.to_u64() / TILE_LEAVES * TILE_LEAVES);
        let (from, to) = (round_up(first), round_down(end));
        if from > to || from > end {
            let hashes = self.file_hashes(tenant, entry, first, end).await?;
            return Ok(of_leaves(first, &hashes));
        }
        let mut range = of_leaves(first, &self.file_hashes(tenant, entry, first, from).await?);
        for tiles in &all {
            let numbers = tiles.level_1_index_of_first()..;
            for (number, hash) in numbers.zip(tiles.level_1()) {
                let at = TreeSize::new(number * TILE_LEAVES);
                if at >= from && at < to && at == range.end() {
                    range.append_subtree(TILE_LEAVES.ilog2(), *hash).ok_or_else(|| misfit(tenant))?;
                }
            }
        }
        if range.end() != to {
            return Err(misfit(tenant));
        }
        for hash in self.file_hashes(tenant, entry, to, end).await? {
            range.append(hash);
        }
        Ok(range)
    }

    /// The hashes of some leaves.
    async fn leaf_hashes(&self, tenant: &Tenant, first: TreeSize, end: TreeSize) -> Result<Vec<Hash>> {
        let mut hashes = Vec::new();
        for piece in self.pieces(tenant, first, end).await? {
            let (from, to) = (piece.first().max(first), piece.end().min(end));
            match &piece {
                Piece::Segment(entry) => {
                    let part = self.segment_hashes(tenant, entry).await?;
                    hashes.extend_from_slice(part.slice(from, to).ok_or_else(|| misfit(tenant))?);
                }
                Piece::File(entry) => hashes.extend(self.file_hashes(tenant, entry, from, to).await?),
            }
        }
        Ok(hashes)
    }

    async fn segment_hashes(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<Arc<Part>> {
        let key = (segment_key(tenant, entry).to_string(), 0);
        if let Some(part) = self.cached(&key) {
            return Ok(part);
        }
        let (at, bytes) = self.segment(tenant, entry).await?;
        let (header, leaves) = decode_leaves(at.as_str(), bytes)?;
        let hashes = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        Ok(self.keep(key, Part { first: entry.first.size_before(), hashes, before: Some(header.before) }))
    }

    async fn segment_leaves(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<Vec<Bytes>> {
        let (key, bytes) = self.segment(tenant, entry).await?;
        let (_, leaves) = decode_leaves(key.as_str(), bytes)?;
        Ok(leaves)
    }

    async fn segment(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<(ObjectKey, Bytes)> {
        let key = segment_key(tenant, entry);
        let stored = self.objects.version(&key, &entry.version).await?;
        // Gone into the archive since the index was read.
        let stored = stored.ok_or_else(|| Error::unavailable(format!("`{key}` has just been archived")))?;
        Ok((key, stored.bytes))
    }

    /// The hashes of some leaves of a file; whole tiles of them are kept, since the next proof is often of a neighbour.
    async fn file_hashes(
        &self,
        tenant: &Tenant,
        entry: &ArchiveEntry,
        first: TreeSize,
        end: TreeSize,
    ) -> Result<Vec<Hash>> {
        let mut hashes = Vec::new();
        let mut at = first;
        while at < end {
            let begin = TreeSize::new((at.to_u64() / TILE_LEAVES * TILE_LEAVES).max(entry.first.to_u64()));
            let stop = TreeSize::new((at.to_u64() / TILE_LEAVES + 1) * TILE_LEAVES).min(entry.end);
            let key = (archive_key(tenant, entry).to_string(), begin.to_u64());
            let part = match self.cached(&key) {
                Some(part) => part,
                None => {
                    let file = self.file(tenant, entry).await?;
                    let leaves =
                        file.leaves_between(begin.next_index(), stop).await.map_err(|e| gone(e, begin))?;
                    let hashes = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
                    self.keep(key, Part { first: begin, hashes, before: None })
                }
            };
            let to = stop.min(end);
            hashes.extend_from_slice(part.slice(at, to).ok_or_else(|| misfit(tenant))?);
            at = to;
        }
        Ok(hashes)
    }

    async fn file(&self, tenant: &Tenant, entry: &ArchiveEntry) -> Result<ArchiveFile> {
        let first = entry.first.size_before();
        if entry.expired.is_some() {
            return Err(expired(first));
        }
        let key = archive_key(tenant, entry);
        let file = ArchiveFile::open(self.objects.clone(), key, entry.version.clone(), entry.bytes).await;
        file.map_err(|error| gone(error, first))
    }

    /// The tiles of a file, or of all files that one entry stands for: what expired before a rebuild is one entry.
    async fn tiles(&self, tenant: &Tenant, entry: &ArchiveEntry) -> Result<Vec<Tiles>> {
        let (id, log) = (tenant.id(), tenant.log());
        let at = |first| Object::Tiles { tenant: id.clone(), log, first }.key();
        let mut keys = vec![at(entry.first)];
        if entry.bytes == 0 && entry.expired.is_some() {
            let prefix = layout::tiles_of(id, log);
            let mut after = at(entry.first).as_str().to_owned();
            loop {
                let page = self.objects.list(&prefix, Some(&after), LIST_PAGE).await?;
                let is_last = page.len() < LIST_PAGE;
                for object in page {
                    after.clone_from(&object.key);
                    if let Some(Object::Tiles { first, .. }) = ObjectKey::parse(&object.key)
                        && first < entry.end.next_index()
                    {
                        keys.push(at(first));
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            let stored = self.objects.object(&key).await?;
            let stored = stored.ok_or_else(|| Error::corrupt(&key, "tiles", "nothing"))?;
            all.push(
                Tiles::parse(&stored.bytes)
                    .map_err(|e| Error::corrupt(&key, "tiles as they were written", e))?,
            );
        }
        Ok(all)
    }

    /// The right edge where a file of the archive ends, as its manifest says.
    async fn manifest_edge(&self, tenant: &Tenant, size: TreeSize) -> Result<RightEdge> {
        if size == TreeSize::ZERO {
            return Ok(RightEdge::empty());
        }
        let key = Object::ArchiveManifest { tenant: tenant.id().clone(), log: tenant.log(), size }.key();
        let stored = self.objects.object(&key).await?;
        let stored = stored.ok_or_else(|| Error::corrupt(&key, "the manifest of a file", "nothing"))?;
        let manifest =
            Note::parse(&stored.bytes).map_err(|e| Error::corrupt(&key, "a signed note", e)).and_then(
                |note| Manifest::parse(note.text()).map_err(|e| Error::corrupt(&key, "a manifest", e)),
            )?;
        match manifest.size == size {
            true => Ok(manifest.edge),
            false => Err(Error::corrupt(&key, format!("a manifest of size {size}"), manifest.size)),
        }
    }

    /// What holds a range of leaves, in order and without a gap: the archive as far as it goes, then segments.
    async fn pieces(&self, tenant: &Tenant, first: TreeSize, end: TreeSize) -> Result<Vec<Piece>> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut at = first;
        if at >= end {
            return Ok(pieces);
        }
        let holding = self.archive.archived_below(tenant, TreeSize::new(at.to_u64() + 1), 1).await?;
        if let Some(entry) = holding.into_iter().find(|entry| entry.end > at) {
            at = entry.end;
            pieces.push(Piece::File(Box::new(entry)));
            while at < end {
                let page = self.archive.archived_from(tenant, at.next_index(), INDEX_PAGE).await?;
                let is_last = page.len() < INDEX_PAGE;
                for entry in page {
                    if at < end {
                        self.follows(tenant, at, entry.first)?;
                        at = entry.end;
                        pieces.push(Piece::File(Box::new(entry)));
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        if at >= end {
            return Ok(pieces);
        }
        let holding = self.heads.index_below(tenant, TreeSize::new(at.to_u64() + 1), 1).await?;
        let entry = holding.into_iter().find(|entry| entry.end > at).ok_or_else(|| no_entry(tenant, at))?;
        if pieces.is_empty() || entry.first.size_before() == at {
            at = entry.end;
            pieces.push(Piece::Segment(entry));
        } else {
            return Err(no_entry(tenant, at));
        }
        while at < end {
            let page = self.heads.index_from(tenant, at.next_index(), INDEX_PAGE).await?;
            if page.is_empty() {
                return Err(no_entry(tenant, at));
            }
            for entry in page {
                if at < end {
                    self.follows(tenant, at, entry.first)?;
                    at = entry.end;
                    pieces.push(Piece::Segment(entry));
                }
            }
        }
        Ok(pieces)
    }

    fn follows(&self, tenant: &Tenant, at: TreeSize, first: LeafIndex) -> Result<()> {
        match first.size_before() == at {
            true => Ok(()),
            false => Err(no_entry(tenant, at)),
        }
    }

    /// The keys that sign a log's checkpoints, each with the first size it signs. `published` are those of the installation,
    /// oldest first.
    pub async fn keys(
        &self,
        tenant: &Tenant,
        published: &[PublicKey],
    ) -> Result<Vec<(TreeSize, VerifierKey)>> {
        let name = tenant.origin().key_name();
        let changes = self.key_changes(tenant).await?;
        let of = |key: &PublicKey| {
            VerifierKey::new(name.clone(), &key.0)
                .ok_or_else(|| Error::new(Code::Internal, "a public key of ours is not an Ed25519 key"))
        };
        let all = published.iter().map(of).collect::<Result<Vec<_>>>()?;
        let first = match all.as_slice() {
            [only] => only.clone(),
            _ => self.first_key(tenant, &all).await?,
        };
        let mut keys = vec![(TreeSize::ZERO, first)];
        for change in changes {
            keys.push((change.from, of(&PublicKey(change.public))?));
        }
        Ok(keys)
    }

    /// The changes of a log's key, in order.
    pub async fn key_changes(&self, tenant: &Tenant) -> Result<Vec<KeyChange>> {
        let prefix = layout::key_changes_of(tenant.id(), tenant.log());
        let mut changes = Vec::new();
        for object in self.objects.list(&prefix, None, LIST_PAGE).await? {
            let Some(parsed @ Object::KeyChange { .. }) = ObjectKey::parse(&object.key) else { continue };
            let key = parsed.key();
            let stored = self.objects.object(&key).await?;
            let stored = stored.ok_or_else(|| Error::unavailable(format!("reading `{key}`")))?;
            let opened = KeyChange::open(&stored.bytes, &[])
                .map_err(|e| Error::corrupt(&key, "a change of key", e))?;
            changes.push(opened.change);
        }
        Ok(changes)
    }

    /// The one of some keys that signed the log's first locked checkpoint; the last of them, before there is one.
    async fn first_key(&self, tenant: &Tenant, keys: &[VerifierKey]) -> Result<VerifierKey> {
        let last = keys.last().ok_or_else(|| Error::new(Code::Internal, "no public key is known"))?;
        let prefix = layout::checkpoints_of(tenant.id(), tenant.log());
        for object in self.objects.list(&prefix, None, LIST_PAGE).await? {
            let Some(parsed @ Object::Checkpoint { .. }) = ObjectKey::parse(&object.key) else { continue };
            let key = parsed.key();
            let stored = self.objects.object(&key).await?;
            let stored = stored.ok_or_else(|| Error::unavailable(format!("reading `{key}`")))?;
            let by =
                keys.iter().find(|key| Checkpoint::open(&stored.bytes, std::slice::from_ref(key)).is_ok());
            return Ok(by.unwrap_or(last).clone());
        }
        Ok(last.clone())
    }

    /// Locked checkpoints, as they are stored, of sizes from `from` on, in order, at most `limit`, and at which size the next
    /// page begins, if there may be more.
    pub async fn checkpoints(
        &self,
        tenant: &Tenant,
        from: TreeSize,
        limit: usize,
    ) -> Result<(Vec<(TreeSize, Bytes)>, Option<TreeSize>)> {
        let (id, log) = (tenant.id(), tenant.log());
        let prefix = layout::checkpoints_of(id, log);
        let mut after = from.last_index().map(|index| {
            // All that is stored of the size before lies below this.
            let size = index.size_before().plus(1).unwrap_or(from);
            format!("{}~", Object::Checkpoint { tenant: id.clone(), log, size: before(size) }.key())
        });
        let mut found = Vec::new();
        loop {
            let page = self.objects.list(&prefix, after.as_deref(), LIST_PAGE).await?;
            let is_last = page.len() < LIST_PAGE;
            for object in page {
                after = Some(object.key.clone());
                let Some(parsed @ Object::Checkpoint { size, .. }) = ObjectKey::parse(&object.key) else {
                    continue;
                };
                if size < from {
                    continue;
                }
                if found.len() == limit {
                    return Ok((found, Some(size)));
                }
                let stored = self.objects.version(&parsed.key(), &object.version).await?;
                found.extend(stored.map(|stored| (size, stored.bytes)));
            }
            if is_last {
                return Ok((found, None));
            }
        }
    }

    /// Statements, as they are stored, made after an hour, in order, at most `limit`, with the hour each was made in.
    pub async fn statements(
        &self,
        tenant: &Tenant,
        after: Option<stele::time::Timestamp>,
        limit: usize,
    ) -> Result<Vec<(stele::time::Timestamp, Bytes)>> {
        let (id, log) = (tenant.id(), tenant.log());
        let after = after.map(|hour| Object::Statement { tenant: id.clone(), log, hour }.key());
        let prefix = layout::statements_of(id, log);
        let listed = self.objects.list(&prefix, after.as_ref().map(ObjectKey::as_str), limit).await?;
        let mut found = Vec::new();
        for object in listed {
            let Some(parsed @ Object::Statement { hour, .. }) = ObjectKey::parse(&object.key) else {
                continue;
            };
            let stored = self.objects.version(&parsed.key(), &object.version).await?;
            found.extend(stored.map(|stored| (hour, stored.bytes)));
        }
        Ok(found)
    }

    fn cached(&self, key: &PartKey) -> Option<Arc<Part>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().find(|(known, _)| known == key).map(|(_, part)| part.clone())
    }

    fn keep(&self, key: PartKey, part: Part) -> Arc<Part> {
        let part = Arc::new(part);
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push_back((key, part.clone()));
        if parts.len() > CACHED_PARTS_MAX {
            parts.pop_front();
        }
        part
    }
}

fn before(size: TreeSize) -> TreeSize {
    TreeSize::new(size.to_u64().saturating_sub(1))
}

fn of_leaves(first: TreeSize, hashes: &[Hash]) -> CompactRange {
    let mut range = CompactRange::empty(first);
    hashes.iter().for_each(|hash| range.append(*hash));
    range
}

fn segment_key(tenant: &Tenant, entry: &IndexEntry) -> ObjectKey {
    Object::Segment { tenant: tenant.id().clone(), log: tenant.log(), first: entry.first }.key()
}

fn archive_key(tenant: &Tenant, entry: &ArchiveEntry) -> ObjectKey {
    let (id, log) = (tenant.id().clone(), tenant.log());
    Object::Archive { tenant: id, log, month: entry.month(), first: entry.first }.key()
}

fn expired(at: TreeSize) -> Error {
    Error::new(
        Code::NotFound,
        format!(
            "the leaves around size {at} have expired: proofs there go between sizes of locked checkpoints"
        ),
    )
}

/// A file that is gone has expired, before anybody wrote that down.
fn gone(error: Error, at: TreeSize) -> Error {
    if error.code() == Code::NotFound { expired(at) } else { error }
}

fn misfit(tenant: &Tenant) -> Error {
    Error::corrupt(format!("the tree of `{}`", tenant.id()), "hashes that fit together", "others")
}

fn no_entry(tenant: &Tenant, at: TreeSize) -> Error {
    Error::corrupt(
        format!("indexes of `{}`", tenant.id()),
        format!("an entry that begins at {at} (run `stele rebuild`)"),
        "none",
    )
}
