//! Walking the bodies of a log in leaf order: files of the archive, and segments where there are none yet. A segment whose
//! leaves are in the archive too is not walked again: it must be the same part of the same tree.

use crate::list_all;
use crate::log::{Held, LogCheck};
use crate::report::Check;
use std::collections::BTreeSet;
use std::sync::Arc;
use stele::error::{Code, Error, Result};
use stele::layout::{self, Object, ObjectKey};
use stele::limits;
use stele::ports::ListedObject;
use stele::retention::Class;
use stele::segment::Segment;
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele::tlog::tiles::{Tiles, TilesBuilder};
use stele::tlog::tree::RightEdge;
use stele_adapters::parquet::archive::{ArchiveFile, VerifiedLeaves};
use stele_adapters::parquet::decode_segment;

/// Segments listed at once.
const LIST_PAGE: usize = 1_000;

/// A part of the tree as a body tells it.
struct Part {
    key: ObjectKey,
    before: RightEdge,
    after: RightEdge,
    sealed_at: Timestamp,
}

impl LogCheck<'_> {
    /// Reads the bodies from where the last walk ended, up to a size or to the end.
    pub(crate) async fn walk(
        &mut self,
        sizes: &BTreeSet<TreeSize>,
        until: Option<TreeSize>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        self.list_archive().await?;
        let mut late = Vec::new();
        while let Some((first, object)) = self.walked.unread_archive.pop_first() {
            if until.is_some() || (first.size_before() < self.walked.edge.size() && !self.is_archived(first))
            {
                // Its segments were walked already, or will be: it was written meanwhile.
                late.push((first, object));
                continue;
            }
            self.walk_segments(Some(first), sizes, None, progress).await?;
            self.walk_archive_file(first, &object, sizes).await?;
            self.tell(progress);
        }
        self.walk_segments(None, sizes, until, progress).await?;
        for (first, object) in late {
            self.compare_archive_file(first, object, until.is_some()).await?;
            self.tell(progress);
        }
        if self.walked.edge.size() == TreeSize::ZERO
            && self.walked.archive.is_empty()
            && self.walked.segments.is_empty()
        {
            self.walk_tiles_alone().await?;
        }
        self.tell_stray_tiles();
        Ok(())
    }

    fn tell(&self, progress: &(dyn Fn(u64) + Sync)) {
        progress(self.report.segments + self.report.archive_files + self.report.tiles);
    }

    /// Whether a leaf is in a file of the archive that was read.
    fn is_archived(&self, first: LeafIndex) -> bool {
        let file = self.walked.archive.range(..=first).next_back();
        file.is_some_and(|(_, held)| held.end.contains(first))
    }

    async fn list_archive(&mut self) -> Result<()> {
        // Tiles first: their file was there before them.
        for object in list_all(&*self.evidence.objects, &layout::tiles_of(&self.tenant, self.log)).await? {
            if let Some(Object::Tiles { first, .. }) = ObjectKey::parse(&object.key)
                && !self.walked.tiles.contains_key(&first)
            {
                self.walked.unread_tiles.insert(first, object);
            }
        }
        for object in list_all(&*self.evidence.objects, &layout::archive_of(&self.tenant, self.log)).await? {
            let Some(Object::Archive { first, .. }) = ObjectKey::parse(&object.key) else { continue };
            let known = self.walked.archive.get(&first).map(|held| held.key.as_str().to_owned());
            let other = self.walked.unread_archive.get(&first).map(|listed| listed.key.clone());
            match known.or(other) {
                None => {
                    self.walked.unread_archive.insert(first, object);
                }
                Some(known) if known != object.key => {
                    self.find(
                        Check::Contiguity,
                        &object.key,
                        format!("no second file from leaf {first} on, after `{known}`"),
                        "one",
                    );
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The next segment in the list, if its first leaf lies below a bound.
    async fn next_segment(&mut self, below: Option<LeafIndex>) -> Result<Option<(LeafIndex, ListedObject)>> {
        loop {
            while let Some(object) = self.walked.waiting.front() {
                let Some(Object::Segment { first, .. }) = ObjectKey::parse(&object.key) else {
                    self.walked.waiting.pop_front(); // Told as a stranger by the caller.
                    continue;
                };
                if below.is_some_and(|below| first >= below) {
                    return Ok(None);
                }
                return Ok(self.walked.waiting.pop_front().map(|object| (first, object)));
            }
            let prefix = layout::segments_of(&self.tenant, self.log);
            let after = self.walked.last_segment.as_deref();
            let page = self.evidence.objects.list(&prefix, after, LIST_PAGE).await?;
            let Some(last) = page.last() else { return Ok(None) };
            self.walked.last_segment = Some(last.key.clone());
            self.walked.waiting.extend(page);
        }
    }

    async fn walk_segments(
        &mut self,
        below: Option<LeafIndex>,
        sizes: &BTreeSet<TreeSize>,
        until: Option<TreeSize>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        while until.is_none_or(|until| self.walked.edge.size() < until)
            && let Some((first, object)) = self.next_segment(below).await?
        {
            let key = Object::Segment { tenant: self.tenant.clone(), log: self.log, first }.key();
            if let Some(segment) = self.read_segment(&key, first, &object).await? {
                self.walk_segment(&key, &segment, sizes).await?;
            }
            self.tell(progress);
        }
        Ok(())
    }

    /// Reads a segment and notes that it is there; `None` if it can't be used, which has been told.
    async fn read_segment(
        &mut self,
        key: &ObjectKey,
        first: LeafIndex,
        object: &ListedObject,
    ) -> Result<Option<Segment>> {
        let Some(stored) = self.evidence.objects.version(key, &object.version).await? else {
            self.find(Check::Missing, key, "the object that is listed", "nothing");
            return Ok(None);
        };
        self.report.segments += 1;
        let sha256 = Some(Hash::of(&stored.bytes));
        let mut held = Held { key: key.clone(), end: first.size_after(), sha256, sealed: Default::default() };
        let segment = match decode_segment(&self.tenant, key.as_str(), stored.bytes) {
            Ok(segment) => segment,
            Err(error) => {
                self.find(Check::Body, key, "a segment as it was sealed", error.detail());
                self.walked.segments.insert(first, held);
                self.walked.broken.insert(first);
                return Ok(None);
            }
        };
        let header = &segment.header;
        held.end = header.end();
        held.sealed = (header.sealed_at, header.sealed_at);
        self.walked.segments.insert(first, held);
        if header.first() != first {
            self.find(
                Check::Contiguity,
                key,
                format!("leaves from {first} on"),
                format!("leaves from {} on", header.first()),
            );
            self.walked.broken.insert(first);
            return Ok(None);
        }
        if header.log != self.log {
            self.find(Check::Origin, key, format!("log {}", self.log), format!("log {}", header.log));
        }
        self.check_origin(key, &header.origin);
        self.check_lock(key, header.sealed_at.plus_days(limits::SEGMENT_LOCK_DAYS), stored.retain_until);
        self.check_checkpoint_before(key, &segment);
        Ok(Some(segment))
    }

    async fn walk_segment(
        &mut self,
        key: &ObjectKey,
        segment: &Segment,
        sizes: &BTreeSet<TreeSize>,
    ) -> Result<()> {
        let header = &segment.header;
        if !self.go_on_from(key, &header.before, "segment").await? {
            return Ok(());
        }
        if header.sealed_at < self.walked.sealed_at {
            self.find(
                Check::Time,
                key,
                format!("sealed at {} or later", self.walked.sealed_at),
                header.sealed_at,
            );
        }
        self.walked.sealed_at = header.sealed_at;
        self.walked.sealed.insert(header.end(), header.sealed_at);
        for (record, index) in segment.records.iter().zip(header.first().to_u64()..) {
            self.walked.take(LeafIndex::new(index), record)?;
            let size = self.walked.edge.size();
            if sizes.contains(&size) {
                self.walked.roots.insert(size, self.walked.edge.root());
            }
        }
        self.walked.roots.insert(self.walked.edge.size(), self.walked.edge.root());
        self.check_received_max(key, header.received_max);
        if header.after != self.walked.edge {
            let expected = format!("root {}", self.walked.edge.root().to_base64());
            self.find(Check::Root, key, expected, format!("root {}", header.after.root().to_base64()));
        }
        Ok(())
    }

    /// Takes the walk to where a body begins; says whether the body follows what was walked.
    async fn go_on_from(&mut self, key: &ObjectKey, before: &RightEdge, kind: &str) -> Result<bool> {
        let end = self.walked.edge.size();
        if before.size() < end {
            let first = before.size();
            self.find(
                Check::Contiguity,
                key,
                format!("no second {kind} below leaf {end}"),
                format!("leaves from {first} on"),
            );
            return Ok(false);
        }
        if before.size() > end {
            self.cross_gap(key, before).await?;
        } else if *before != self.walked.edge {
            let expected = format!("a {kind} after root {}", self.walked.edge.root().to_base64());
            self.find(Check::Root, key, expected, format!("one after root {}", before.root().to_base64()));
        }
        // After a gap the walk goes on from what the body says of itself: the gap is judged in the end.
        self.walked.edge = before.clone();
        self.walked.roots.insert(before.size(), before.root());
        Ok(true)
    }

    /// Holds the latest `received_at` of all leaves so far, as a body tells it, against the leaves.
    fn check_received_max(&mut self, key: &ObjectKey, told: Timestamp) {
        let known = self.walked.received_max;
        let fits = if self.walked.received_unknown { told >= known } else { told == known };
        if !fits {
            self.find(Check::Time, key, format!("latest received_at {known}"), told);
        }
        self.walked.received_max = known.max(told);
        self.walked.received_unknown = false;
    }

    fn check_checkpoint_before(&mut self, key: &ObjectKey, segment: &Segment) {
        let header = &segment.header;
        if header.before.size() == TreeSize::ZERO {
            if !header.checkpoint_before.is_empty() {
                self.find(Check::Signature, key, "no checkpoint before the first leaf", "one");
            }
            return;
        }
        if self.walked.trust.all().is_empty() {
            return; // Told once, with the statements.
        }
        match self.walked.trust.open(header.checkpoint_before.as_bytes()) {
            Ok(c) if c.size == header.before.size() && c.root == header.before.root() => {}
            Ok(c) => {
                let expected = format!("a checkpoint of size {}", header.before.size());
                self.find(
                    Check::Root,
                    key,
                    expected,
                    format!("one of size {} and root {}", c.size, c.root.to_base64()),
                );
            }
            Err(error) => self.find(Check::Signature, key, "a valid checkpoint before its first leaf", error),
        }
    }

    /// Reads what a file of the archive says of itself; `None` if it can't be used, which has been told.
    async fn open_archive_file(
        &mut self,
        first: LeafIndex,
        object: &ListedObject,
    ) -> Result<Option<ArchiveFile>> {
        let Some(parsed @ Object::Archive { month, .. }) = ObjectKey::parse(&object.key) else {
            return Ok(None);
        };
        let key = parsed.key();
        self.report.archive_files += 1;
        let mut held =
            Held { key: key.clone(), end: first.size_after(), sha256: None, sealed: Default::default() };
        let objects = self.evidence.objects.clone();
        let file = match ArchiveFile::open(objects, key.clone(), object.version.clone(), object.bytes).await {
            Ok(file) => file,
            Err(error) if is_its_fault(&error) => {
                self.find(Check::Body, &key, "a file of the archive as it was written", error.detail());
                self.walked.archive.insert(first, held);
                self.walked.broken.insert(first);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let header = file.header();
        held.end = header.end();
        held.sealed = (header.sealed_first, header.sealed_last);
        if header.first() != first {
            self.find(
                Check::Contiguity,
                &key,
                format!("leaves from {first} on"),
                format!("leaves from {} on", header.first()),
            );
            self.walked.archive.insert(first, Held { end: first.size_after(), ..held });
            self.walked.broken.insert(first);
            return Ok(None);
        }
        self.walked.archive.insert(first, held);
        if header.month() != month {
            self.find(
                Check::Origin,
                &key,
                format!("a file of {month}"),
                format!("one of {}", header.month()),
            );
        }
        if header.log != self.log {
            self.find(Check::Origin, &key, format!("log {}", self.log), format!("log {}", header.log));
        }
        self.check_origin(&key, &header.origin);
        match self.evidence.states.state(&key, &object.version).await? {
            Some(state) => {
                let shortest = Class::all().next().map_or(0, Class::days);
                self.check_lock(&key, header.sealed_last.plus_days(shortest), state.retain_until);
            }
            None => self.find(Check::Missing, &key, "the object that is listed", "nothing"),
        }
        Ok(Some(file))
    }

    async fn walk_archive_file(
        &mut self,
        first: LeafIndex,
        object: &ListedObject,
        sizes: &BTreeSet<TreeSize>,
    ) -> Result<()> {
        let Some(file) = self.open_archive_file(first, object).await? else { return Ok(()) };
        let (key, header) = (self.walked.archive[&first].key.clone(), file.header().clone());
        if !self.go_on_from(&key, &header.before, "file").await? {
            return Ok(());
        }
        if header.sealed_first < self.walked.sealed_at {
            self.find(
                Check::Time,
                &key,
                format!("sealed at {} or later", self.walked.sealed_at),
                header.sealed_first,
            );
        }
        self.walked.sealed_at = header.sealed_last;
        self.walked.sealed.insert(header.end(), header.sealed_last);
        let parts = self.archived_segments(&key, &file).await?;
        let mut wanted: BTreeSet<TreeSize> =
            sizes.range(header.before.size()..=header.end()).copied().collect();
        wanted.extend(parts.iter().flat_map(|part| [part.before.size(), part.after.size()]));
        let tiles = self.tiles_of_file(first, Some(header.sealed_last)).await?;
        let mut builder = tiles.as_ref().map(|tiles| builder_like(tiles, &header.before));

        let keep = self.walked.wanted();
        let walked = &mut self.walked;
        let mut visit = |leaves: &VerifiedLeaves| {
            walked.take_all(leaves, &wanted)?;
            append_to(&mut builder, leaves)
        };
        let verified = file.verify(&self.tenant, keep, &mut visit).await;
        if !self.note_verified(first, &key, verified)? {
            // The walk goes on from what it says of itself: that it is wrong has been told.
            self.walked.edge = header.after;
            self.walked.received_max = self.walked.received_max.max(header.running_received_max);
            return Ok(());
        }
        self.walked.roots.insert(self.walked.edge.size(), self.walked.edge.root());
        self.check_received_max(&key, header.running_received_max);
        self.compare_tiles(&key, tiles, builder);
        for part in parts {
            self.compare(&part.key, &part.before, &part.after);
        }
        Ok(())
    }

    /// A file of the archive that was written after its segments were walked: it must be the same part of the tree.
    async fn compare_archive_file(
        &mut self,
        first: LeafIndex,
        object: ListedObject,
        is_bounded: bool,
    ) -> Result<()> {
        let Some(file) = self.open_archive_file(first, &object).await? else { return Ok(()) };
        let (key, header) = (self.walked.archive[&first].key.clone(), file.header().clone());
        if is_bounded && header.end() > self.walked.edge.size() {
            // Beyond what this walk was to reach.
            self.walked.archive.remove(&first);
            self.walked.unread_archive.insert(first, object);
            self.report.archive_files -= 1;
            return Ok(());
        }
        let tiles = self.tiles_of_file(first, Some(header.sealed_last)).await?;
        let mut builder = tiles.as_ref().map(|tiles| builder_like(tiles, &header.before));
        let mut visit = |leaves: &VerifiedLeaves| append_to(&mut builder, leaves);
        let verified = file.verify(&self.tenant, Arc::new(|_| false), &mut visit).await;
        if self.note_verified(first, &key, verified)? {
            self.compare_tiles(&key, tiles, builder);
            self.compare(&key, &header.before, &header.after);
        }
        Ok(())
    }

    /// Notes the hash of a file of the archive, or tells what is wrong with it.
    fn note_verified(&mut self, first: LeafIndex, key: &ObjectKey, verified: Result<Hash>) -> Result<bool> {
        match verified {
            Ok(sha256) => {
                if let Some(held) = self.walked.archive.get_mut(&first) {
                    held.sha256 = Some(sha256);
                }
                Ok(true)
            }
            Err(error) if is_its_fault(&error) => {
                self.find(Check::Body, key, "a file of the archive as it was written", error.detail());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the segments that are still there of a file of the archive.
    async fn archived_segments(&mut self, archive: &ObjectKey, file: &ArchiveFile) -> Result<Vec<Part>> {
        let header = file.header();
        let mut parts: Vec<Part> = Vec::new();
        while let Some((first, object)) = self.next_segment(Some(header.end().next_index())).await? {
            let key = Object::Segment { tenant: self.tenant.clone(), log: self.log, first }.key();
            let Some(segment) = self.read_segment(&key, first, &object).await? else { continue };
            let segment = segment.header;
            if segment.end() > header.end() {
                self.find(
                    Check::Contiguity,
                    &key,
                    format!("leaves up to {}, as `{archive}` has them", header.end()),
                    segment.end(),
                );
                continue;
            }
            let earliest = parts.last().map_or(header.sealed_first, |part| part.sealed_at);
            let is = |here: bool, time: Timestamp| here.then_some(time);
            let exactly = is(segment.before == header.before, header.sealed_first)
                .or(is(segment.after == header.after, header.sealed_last));
            let fits = exactly.is_none_or(|time| segment.sealed_at == time)
                && (earliest..=header.sealed_last).contains(&segment.sealed_at);
            if !fits {
                let expected = format!("sealed from {earliest} to {}", header.sealed_last);
                self.find(Check::Time, &key, format!("{expected}, as `{archive}` says"), segment.sealed_at);
            }
            self.walked.sealed.insert(segment.end(), segment.sealed_at);
            let (before, after, sealed_at) = (segment.before, segment.after, segment.sealed_at);
            parts.push(Part { key, before, after, sealed_at });
        }
        Ok(parts)
    }

    /// Holds a part of the tree against what was walked. The same edges have the same leaves between them.
    fn compare(&mut self, key: &ObjectKey, before: &RightEdge, after: &RightEdge) {
        for edge in [before, after] {
            match self.walked.roots.get(&edge.size()).copied() {
                Some(root) if root == edge.root() => {}
                Some(root) => {
                    let expected = format!("root {} at size {}", root.to_base64(), edge.size());
                    self.find(Check::Root, key, expected, format!("root {}", edge.root().to_base64()));
                }
                None => self.find(
                    Check::Contiguity,
                    key,
                    "a part of the log",
                    format!("one that ends at {}", edge.size()),
                ),
            }
        }
    }

    /// Reads the tiles of a file; `None` if there are none, or none that can be used, which has been told.
    pub(crate) async fn tiles_of_file(
        &mut self,
        first: LeafIndex,
        sealed_last: Option<Timestamp>,
    ) -> Result<Option<Tiles>> {
        let Some(object) = self.walked.unread_tiles.remove(&first) else { return Ok(None) };
        let key = Object::Tiles { tenant: self.tenant.clone(), log: self.log, first }.key();
        let Some(stored) = self.evidence.objects.version(&key, &object.version).await? else {
            self.find(Check::Missing, &key, "the object that is listed", "nothing");
            return Ok(None);
        };
        self.report.tiles += 1;
        let sha256 = Some(Hash::of(&stored.bytes));
        let held = |end| Held { key: key.clone(), end, sha256, sealed: Default::default() };
        let tiles = match Tiles::parse(&stored.bytes) {
            Ok(tiles) => tiles,
            Err(error) => {
                self.walked.tiles.insert(first, held(first.size_after()));
                self.find(Check::Body, &key, "tiles as they were written", error);
                return Ok(None);
            }
        };
        if let Some(sealed_last) = sealed_last {
            self.check_lock(&key, sealed_last.plus_days(limits::CHECKPOINT_LOCK_DAYS), stored.retain_until);
        }
        self.check_origin(&key, tiles.origin());
        if tiles.first() != first.size_before() {
            self.walked.tiles.insert(first, held(first.size_after()));
            self.find(
                Check::Contiguity,
                &key,
                format!("tiles from {first} on"),
                format!("tiles from {} on", tiles.first()),
            );
            return Ok(None);
        }
        self.walked.tiles.insert(first, held(tiles.end()));
        Ok(Some(tiles))
    }

    fn compare_tiles(&mut self, file: &ObjectKey, tiles: Option<Tiles>, builder: Option<TilesBuilder>) {
        if let (Some(tiles), Some(builder)) = (tiles, builder)
            && tiles != builder.finish()
        {
            let first = tiles.first().next_index();
            let key = Object::Tiles { tenant: self.tenant.clone(), log: self.log, first }.key();
            self.find(Check::Root, key, format!("hashes of the leaves of `{file}`"), "others");
        }
    }

    /// Tiles whose file is nowhere.
    fn tell_stray_tiles(&mut self) {
        let unread = std::mem::take(&mut self.walked.unread_tiles);
        for (first, object) in unread {
            // One whose file this walk did not reach, or could not read, is no stray.
            if self.walked.unread_archive.contains_key(&first) || self.walked.broken.contains(&first) {
                self.walked.unread_tiles.insert(first, object);
            } else {
                self.find(
                    Check::Contiguity,
                    object.key,
                    "a file of the archive from the same leaf on",
                    "nothing",
                );
            }
        }
    }
}

/// Whether an object is to blame for an error, not the way to it. A listed object that is gone is one.
fn is_its_fault(error: &Error) -> bool {
    matches!(error.code(), Code::Corrupt | Code::NotFound)
}

fn append_to(builder: &mut Option<TilesBuilder>, leaves: &VerifiedLeaves) -> Result<()> {
    let Some(builder) = builder else { return Ok(()) };
    let appended = builder.append_all(&leaves.hashes);
    appended.ok_or_else(|| Error::new(Code::Internal, "leaves that do not follow each other for their tiles"))
}

/// For the leaves that tiles speak of, with their cuts.
fn builder_like(tiles: &Tiles, before: &RightEdge) -> TilesBuilder {
    TilesBuilder::new(tiles.origin().clone(), before.clone(), tiles.cuts().collect())
}
