//! Where leaves are missing: whether their file expired, which is nobody's fault, and what their tiles still prove.
//!
//! When an object's lock ended can't be known once it has gone. Where nothing before them is left, archived leaves are
//! taken for expired; between others, only if the log itself says so of their file.

use crate::log::LogCheck;
use crate::report::Check;
use stele::error::Result;
use stele::layout::{self, Object, ObjectKey};
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::tlog::manifest::Manifest;
use stele::tlog::tree::RightEdge;

/// Leaves without a body.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    pub(crate) first: TreeSize,
    pub(crate) end: TreeSize,
    /// Whether tiles or a signature lead over it: what follows goes on from the tree there was.
    bridged: bool,
    /// The body that follows, if one does.
    next: Option<ObjectKey>,
    pub(crate) judged: Judged,
}

/// What is thought of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Nothing good.
    Missing,
    /// Its files expired, and what follows is proven to go on from them.
    Expired,
    /// Its files expired, and nothing leads over it.
    Unproven,
}

/// A file of the archive that a signed manifest lists.
pub(crate) struct ListedFile {
    pub(crate) key: String,
    pub(crate) first: LeafIndex,
    pub(crate) end: TreeSize,
}

impl Gap {
    /// How many of its leaves a tree of a size has.
    pub(crate) fn leaves_below(&self, size: TreeSize) -> u64 {
        self.end.min(size).to_u64().saturating_sub(self.first.to_u64())
    }

    /// Whether leaves from one size to another lie in it.
    pub(crate) fn has(&self, first: TreeSize, end: TreeSize) -> bool {
        self.first <= first && end <= self.end
    }
}

impl LogCheck<'_> {
    /// Goes over missing leaves to a body that follows them, by their tiles.
    pub(crate) async fn cross_gap(&mut self, key: &ObjectKey, before: &RightEdge) -> Result<()> {
        let (first, end) = (self.walked.edge.size(), before.size());
        self.walked.received_unknown = true;
        let bridged = match self.chain_tiles(first, end).await? {
            Some(edge) if edge.size() == end => {
                if edge != *before {
                    self.blame(key, before, &edge).await?;
                }
                edge == *before
            }
            _ => self.is_signed(before).await?,
        };
        let next = Some(key.clone());
        self.walked.gaps.push(Gap { first, end, bridged, next, judged: Judged::Missing });
        Ok(())
    }

    /// Goes by tiles where there is no body at all.
    pub(crate) async fn walk_tiles_alone(&mut self) -> Result<()> {
        let end = TreeSize::new(u64::MAX);
        let Some(edge) = self.chain_tiles(TreeSize::ZERO, end).await? else { return Ok(()) };
        if edge.size() > TreeSize::ZERO {
            self.walked.received_unknown = true;
            let bridged = self.is_signed(&edge).await?;
            let (first, end) = (TreeSize::ZERO, edge.size());
            self.walked.gaps.push(Gap { first, end, bridged, next: None, judged: Judged::Missing });
            self.walked.edge = edge;
        }
        Ok(())
    }

    /// The tree at the last size that tiles lead to, from where the walk is up to `end`.
    async fn chain_tiles(&mut self, first: TreeSize, end: TreeSize) -> Result<Option<RightEdge>> {
        let mut chain = Some(self.walked.edge.clone());
        let within = first.next_index()..end.next_index();
        let files: Vec<LeafIndex> = self.walked.unread_tiles.range(within).map(|(file, _)| *file).collect();
        for file in files {
            let Some(tiles) = self.tiles_of_file(file, None).await? else { continue };
            for range in tiles.ranges().iter().take_while(|range| range.end() <= end) {
                if chain.as_ref().is_none_or(|edge| edge.size() != range.first()) {
                    // Tiles are missing in between.
                    chain = self.signed_edge(range.first()).await?;
                }
                chain = chain.and_then(|edge| edge.followed_by(range));
                if let Some(edge) = &chain {
                    self.walked.roots.insert(edge.size(), edge.root());
                }
            }
        }
        Ok(chain)
    }

    /// Tells who is wrong, where tiles lead to another tree than the body after them goes on from.
    async fn blame(&mut self, key: &ObjectKey, before: &RightEdge, tiles: &RightEdge) -> Result<()> {
        let signed = self.signed_edge(before.size()).await?;
        let (by_body, by_tiles) = (before.root().to_base64(), tiles.root().to_base64());
        if signed.as_ref() != Some(before) {
            self.find(
                Check::Root,
                key,
                format!("leaves after root {by_tiles}, to which tiles lead"),
                format!("root {by_body}"),
            );
        }
        if signed.as_ref() != Some(tiles) {
            let at = self.tiles_before(before.size());
            self.find(
                Check::Root,
                at,
                format!("tiles that lead to root {by_body}, after which `{key}` goes on"),
                by_tiles,
            );
        }
        Ok(())
    }

    /// The key of the tiles that the last leaf of a size is below.
    pub(crate) fn tiles_before(&self, size: TreeSize) -> String {
        let tiles = self.walked.tiles.range(..size.next_index()).next_back();
        tiles.map_or_else(|| layout::tiles_of(&self.tenant, self.log), |(_, held)| held.key.to_string())
    }

    /// The right edge of a size, as a valid manifest has it.
    async fn signed_edge(&self, size: TreeSize) -> Result<Option<RightEdge>> {
        let (tenant, log) = (self.tenant.clone(), self.log);
        for object in [
            Object::ArchiveManifest { tenant: tenant.clone(), log, size },
            Object::Manifest { tenant: tenant.clone(), log, size },
        ] {
            let Some(stored) = self.evidence.objects.object(&object.key()).await? else { continue };
            match Manifest::open(&stored.bytes, self.walked.trust.all()) {
                Ok(manifest) if manifest.size == size => return Ok(Some(manifest.edge)),
                // What is wrong with it is told with the statements.
                _ => {}
            }
        }
        Ok(None)
    }

    async fn is_signed(&self, edge: &RightEdge) -> Result<bool> {
        if let Some(signed) = self.signed_edge(edge.size()).await? {
            return Ok(signed == *edge);
        }
        let key = Object::Checkpoint { tenant: self.tenant.clone(), log: self.log, size: edge.size() }.key();
        let stored = self.evidence.objects.object(&key).await?;
        let checkpoint = stored.and_then(|stored| self.walked.trust.open(&stored.bytes).ok());
        Ok(checkpoint.is_some_and(|c| c.size == edge.size() && c.root == edge.root()))
    }

    /// Whether a size lies within leaves that are gone.
    pub(crate) fn is_in_gap(&self, size: TreeSize) -> bool {
        self.walked.gaps.iter().any(|gap| gap.first < size && size < gap.end)
    }

    /// Tells expired leaves from missing ones. `listed` are the files of the archive that signed manifests list.
    pub(crate) fn judge_gaps(&mut self, listed: &[ListedFile]) {
        let mut gaps = std::mem::take(&mut self.walked.gaps);
        self.report.leaves_expired = 0;
        for gap in &mut gaps {
            let within = gap.first.next_index()..gap.end.next_index();
            if self.walked.broken.range(within).next().is_some() {
                continue; // There is something, and what is wrong with it was told.
            }
            if !self.has_expired(gap, listed) {
                self.tell_missing(gap, listed);
            } else if gap.bridged {
                gap.judged = Judged::Expired;
                self.report.leaves_expired += gap.leaves_below(gap.end);
            } else {
                gap.judged = Judged::Unproven;
                self.miss(format!(
                    "leaves {} to {}: they are gone, and neither their tiles nor a signature lead to what goes on from them",
                    gap.first, gap.end
                ));
            }
        }
        self.walked.gaps = gaps;
    }

    fn has_expired(&self, gap: &Gap, listed: &[ListedFile]) -> bool {
        let mut files: Vec<&ListedFile> =
            listed.iter().filter(|file| gap.has(file.first.size_before(), file.end)).collect();
        files.sort_by_key(|file| file.first);
        let end = files.iter().fold(gap.first, |end, file| {
            if file.first.size_before() <= end { end.max(file.end) } else { end }
        });
        let were_archived = end == gap.end;
        if gap.first > TreeSize::ZERO {
            return were_archived && files.iter().all(|file| self.is_told(file));
        }
        let next_is_archived = gap
            .next
            .as_ref()
            .is_none_or(|key| matches!(ObjectKey::parse(key.as_str()), Some(Object::Archive { .. })));
        were_archived || next_is_archived || self.walked.tiles.values().any(|tiles| tiles.end == gap.end)
    }

    /// Whether the log says of a file that it expired, or may have said so in a later one of which it says the same: that
    /// word then went with it.
    fn is_told(&self, file: &ListedFile) -> bool {
        self.walked.said_expired.iter().any(|said| {
            said == &file.key
                || matches!(ObjectKey::parse(said), Some(Object::Archive { first, .. }) if first > file.first)
        })
    }

    fn tell_missing(&mut self, gap: &Gap, listed: &[ListedFile]) {
        let first = gap.first.next_index();
        let archived = self.walked.archived();
        let (at, kind) = match listed.iter().find(|file| file.first == first) {
            Some(file) => (file.key.clone(), "file"),
            None if gap.end < archived => (layout::archive_of(&self.tenant, self.log), "file"),
            None => {
                let key = Object::Segment { tenant: self.tenant.clone(), log: self.log, first }.key();
                (key.to_string(), "segment")
            }
        };
        self.find(
            Check::Contiguity,
            at,
            format!("a {kind} with the leaves from {first} to {}", gap.end),
            "nothing",
        );
    }
}
