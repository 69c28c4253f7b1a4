//! Holding checkpoints, manifests and saved checkpoints against the walk.

use crate::gaps::{Judged, ListedFile};
use crate::log::{Held, LogCheck};
use crate::report::Check;
use std::collections::BTreeSet;
use stele::error::Result;
use stele::layout::{Object, ObjectKey};
use stele::limits;
use stele::ports::ListedObject;
use stele::tlog::checkpoint::Checkpoint;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::tlog::manifest::{Manifest, ManifestObject};

/// What the manifests of a log say, taken together.
#[derive(Default)]
struct Told {
    checkpoints: BTreeSet<TreeSize>,
    manifests: BTreeSet<TreeSize>,
    archive_manifests: BTreeSet<TreeSize>,
    /// Sizes that manifests go on from.
    continued: BTreeSet<TreeSize>,
    segments: BTreeSet<LeafIndex>,
    files: Vec<ListedFile>,
    /// Objects that are listed and gone, each with the manifest that lists it.
    gone: Vec<(ManifestObject, ObjectKey)>,
}

impl LogCheck<'_> {
    /// Holds checkpoints and manifests against the walk.
    pub(crate) async fn check_statements(&mut self, listed: &[ListedObject]) -> Result<()> {
        let total = self.walked.edge.size();
        self.report.unchecked.clear();
        self.walked.signed = TreeSize::ZERO;
        if self.walked.trust.all().is_empty() && self.is_stated_only() {
            return Ok(());
        }
        if self.walked.trust.all().is_empty() {
            let reason = if self.public_keys.checkpoints.is_empty() {
                "there is no public key to check signatures with"
            } else {
                "nothing could be read that names the log's origin"
            };
            self.miss(reason.to_owned());
            self.report.leaves_unsigned = total.to_u64();
            return Ok(());
        }
        let mut told = Told::default();
        for object in listed {
            let Some(parsed) = ObjectKey::parse(&object.key) else { continue };
            self.check_statement(&parsed, object, &mut told).await?;
        }
        self.judge_gaps(&told.files);
        self.check_gone(&told);
        self.check_lone(&told);
        self.check_unlisted(&told);
        let last = told.checkpoints.last().copied().unwrap_or_default();
        let proven = last.min(total);
        let missing: u64 = self.walked.gaps.iter().map(|gap| gap.leaves_below(proven)).sum();
        self.report.leaves_proven = proven.to_u64() - missing;
        self.walked.signed = proven;
        self.report.root = self.walked.roots.get(&proven).map(|root| root.to_base64());
        self.report.leaves_unsigned = total.to_u64() - proven.to_u64();
        if self.report.leaves_unsigned > 0 {
            self.miss(format!(
                "{} leaves after the last checkpoint, at {proven}: nobody has signed them yet",
                self.report.leaves_unsigned
            ));
        }
        if self.report.leaves_proven == 0 && self.report.leaves_expired > 0 {
            self.miss(format!(
                "all {} leaves have expired: their hashes are all that is left of them",
                self.report.leaves_expired
            ));
        }
        Ok(())
    }

    async fn check_statement(
        &mut self,
        parsed: &Object,
        object: &ListedObject,
        told: &mut Told,
    ) -> Result<()> {
        let key = parsed.key();
        let Some(stored) = self.evidence.objects.version(&key, &object.version).await? else {
            self.find(Check::Missing, &key, "the object that is listed", "nothing");
            return Ok(());
        };
        let size = match parsed {
            Object::Checkpoint { size, .. } => {
                if self.check_checkpoint(&key, *size, &stored.bytes) {
                    self.report.checkpoints += 1;
                }
                told.checkpoints.insert(*size);
                *size
            }
            Object::Manifest { size, .. } => {
                if self.check_manifest(&key, *size, &stored.bytes, told) {
                    self.report.manifests += 1;
                }
                told.manifests.insert(*size);
                *size
            }
            Object::ArchiveManifest { size, .. } => {
                if self.check_manifest(&key, *size, &stored.bytes, told) {
                    self.report.manifests += 1;
                }
                told.archive_manifests.insert(*size);
                *size
            }
            Object::Segment { .. }
            | Object::Archive { .. }
            | Object::Tiles { .. }
            | Object::KeyChange { .. }
            | Object::Statement { .. }
            | Object::PublicKey { .. }
            | Object::WrappedSecret { .. } => return Ok(()),
        };
        // When leaves were sealed that are gone is not known, and so not how long their statements must be locked.
        if let Some(sealed_at) = self.walked.sealed_by(size) {
            self.check_lock(&key, sealed_at.plus_days(limits::CHECKPOINT_LOCK_DAYS), stored.retain_until);
        }
        Ok(())
    }

    fn check_checkpoint(&mut self, key: &ObjectKey, size: TreeSize, bytes: &[u8]) -> bool {
        match self.walked.trust.open(bytes) {
            Ok(checkpoint) if checkpoint.size != size => {
                self.find(
                    Check::Signature,
                    key,
                    format!("a checkpoint of size {size}"),
                    format!("one of {}", checkpoint.size),
                );
                false
            }
            Ok(checkpoint) => self.holds(key.as_str(), &checkpoint),
            Err(error) => {
                self.find(Check::Signature, key, "a checkpoint with a valid signature", error);
                false
            }
        }
    }

    /// Whether the walked leaves have the checkpoint's root at its size.
    pub(crate) fn holds(&mut self, at: &str, checkpoint: &Checkpoint) -> bool {
        let (size, end) = (checkpoint.size, self.walked.edge.size());
        if size > end {
            let missing =
                Object::Segment { tenant: self.tenant.clone(), log: self.log, first: end.next_index() }.key();
            self.find(
                Check::Contiguity,
                missing,
                format!("the leaves from {end} to {size} that `{at}` commits to"),
                "nothing",
            );
            return false;
        }
        if size == TreeSize::ZERO {
            return true;
        }
        let expected = format!("root {} at size {size}", checkpoint.root.to_base64());
        match self.walked.roots.get(&size).copied() {
            Some(root) if root == checkpoint.root => true,
            Some(root) if self.is_in_gap(size) => {
                let tiles = self.tiles_before(size);
                self.find(
                    Check::Root,
                    tiles,
                    format!("{expected}, as `{at}` says"),
                    format!("hashes with root {}", root.to_base64()),
                );
                false
            }
            Some(root) => {
                self.find(Check::Root, at, expected, format!("leaves with root {}", root.to_base64()));
                false
            }
            None if self.is_in_gap(size) => {
                self.miss(format!(
                    "`{at}`: the leaves before and after size {size} are gone, and no tiles are cut there"
                ));
                false
            }
            None => {
                self.find(Check::Contiguity, at, format!("leaves up to {size}"), "a hole before that size");
                false
            }
        }
    }

    fn check_manifest(&mut self, key: &ObjectKey, size: TreeSize, bytes: &[u8], told: &mut Told) -> bool {
        let before = self.report.findings.len();
        let mut is_known = true;
        let manifest = match Manifest::open(bytes, self.walked.trust.all()) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.find(Check::Signature, key, "a manifest with a valid signature", error);
                return false;
            }
        };
        if manifest.size != size {
            self.find(
                Check::Manifest,
                key,
                format!("a manifest of size {size}"),
                format!("one of {}", manifest.size),
            );
        }
        // Of one size, one root has one right edge.
        match self.walked.roots.get(&manifest.size).copied() {
            Some(root) if root == manifest.edge.root() => {}
            Some(root) if self.is_in_gap(manifest.size) => {
                let tiles = self.tiles_before(manifest.size);
                let expected = format!("root {}, as `{key}` says", manifest.edge.root().to_base64());
                self.find(Check::Root, tiles, expected, format!("hashes with root {}", root.to_base64()));
            }
            Some(root) => {
                let expected = format!("right edge with root {}", root.to_base64());
                self.find(
                    Check::Root,
                    key,
                    expected,
                    format!("one with root {}", manifest.edge.root().to_base64()),
                );
            }
            None if self.is_in_gap(manifest.size) => {
                is_known = false;
                self.miss(format!(
                    "`{key}`: the leaves before and after that size are gone, and no tiles are cut there"
                ));
            }
            None => self.find(
                Check::Contiguity,
                key,
                format!("leaves up to {}", manifest.size),
                "no such size in the log",
            ),
        }
        let mut since = TreeSize::ZERO;
        for object in &manifest.objects {
            match ObjectKey::parse(&object.key) {
                Some(Object::Segment { first, .. }) => {
                    if since == TreeSize::ZERO {
                        since = first.size_before();
                    }
                    if self.is_as_listed(object, self.walked.segments.get(&first).cloned(), key, told) {
                        told.segments.insert(first);
                    }
                }
                Some(Object::Archive { first, .. }) => {
                    let file = object.clone();
                    told.files.push(ListedFile { key: file.key, first: file.first, end: file.end });
                    if !self.walked.unread_archive.contains_key(&first) {
                        self.is_as_listed(object, self.walked.archive.get(&first).cloned(), key, told);
                    }
                }
                Some(Object::Tiles { first, .. }) => {
                    if !self.walked.unread_tiles.contains_key(&first) {
                        self.is_as_listed(object, self.walked.tiles.get(&first).cloned(), key, told);
                    }
                }
                Some(
                    Object::Checkpoint { .. }
                    | Object::Manifest { .. }
                    | Object::ArchiveManifest { .. }
                    | Object::KeyChange { .. }
                    | Object::Statement { .. }
                    | Object::PublicKey { .. }
                    | Object::WrappedSecret { .. },
                )
                | None => self.find(Check::Manifest, key, "objects with leaves", format!("`{}`", object.key)),
            }
        }
        told.continued.extend((since > TreeSize::ZERO).then_some(since));
        is_known && self.report.findings.len() == before
    }

    /// Holds an object against the line of a manifest.
    fn is_as_listed(
        &mut self,
        listed: &ManifestObject,
        held: Option<Held>,
        manifest: &ObjectKey,
        told: &mut Told,
    ) -> bool {
        match held.filter(|held| held.key.as_str() == listed.key) {
            None => told.gone.push((listed.clone(), manifest.clone())),
            // Told where it was read.
            Some(Held { sha256: None, .. }) => return true,
            Some(Held { sha256: Some(sha256), .. }) if sha256 != listed.sha256 => {
                self.find(Check::FileHash, &listed.key, format!("SHA-256 {}", listed.sha256), sha256);
            }
            Some(Held { end, .. }) if end != listed.end => {
                self.find(
                    Check::Manifest,
                    &listed.key,
                    format!("leaves up to {}", listed.end),
                    format!("up to {end}"),
                );
            }
            Some(_) => return true,
        }
        false
    }

    /// What is listed and gone must have gone in good order: a segment into the archive, a file of the archive when its time
    /// was over.
    fn check_gone(&mut self, told: &Told) {
        let archived = self.walked.archived();
        for (object, manifest) in &told.gone {
            let (first, end) = (object.first.size_before(), object.end);
            let is_judged_gone = || {
                let mut gaps = self.walked.gaps.iter();
                gaps.any(|gap| gap.judged != Judged::Missing && gap.has(first, end))
            };
            let may_be_gone = match ObjectKey::parse(&object.key) {
                Some(Object::Segment { .. }) => end <= archived || is_judged_gone(),
                Some(Object::Archive { .. }) => is_judged_gone(),
                _ => false,
            };
            if !may_be_gone {
                self.find(Check::Missing, &object.key, format!("the object `{manifest}` lists"), "nothing");
            }
        }
    }

    /// Statements that should stand beside others.
    fn check_lone(&mut self, told: &Told) {
        let named = |size: TreeSize, manifest: bool| {
            let (tenant, log) = (self.tenant.clone(), self.log);
            match manifest {
                true => Object::Manifest { tenant, log, size }.key(),
                false => Object::Checkpoint { tenant, log, size }.key(),
            }
        };
        let without_manifest = told.checkpoints.difference(&told.manifests);
        // A crash between the two leaves a manifest alone; but where the next one went on from, both were.
        let without_checkpoint = told.continued.difference(&told.checkpoints);
        let lone: Vec<_> = without_manifest
            .map(|size| (named(*size, true), "the manifest that goes with the checkpoint"))
            .chain(
                without_checkpoint
                    .map(|size| (named(*size, false), "the checkpoint that a later manifest goes on from")),
            )
            .collect();
        for (key, expected) in lone {
            self.find(Check::Missing, key, expected, "nothing");
        }
    }

    /// Bodies that a manifest should list by now.
    fn check_unlisted(&mut self, told: &Told) {
        let last = told.checkpoints.last().copied().unwrap_or_default();
        let segments: Vec<ObjectKey> = (self.walked.segments.iter())
            .filter(|(first, held)| held.end <= last && !told.segments.contains(*first))
            .map(|(_, held)| held.key.clone())
            .collect();
        for key in segments {
            self.find(Check::Manifest, key, "a manifest that lists it", "none");
        }
        // The manifest of the newest file may be on its way: no file follows before it is there.
        let files: Vec<Held> = self.walked.archive.values().rev().skip(1).cloned().collect();
        for file in files {
            let is_listed = told.files.iter().any(|listed| listed.key == file.key.as_str());
            if !is_listed && !told.archive_manifests.contains(&file.end) {
                let (tenant, log) = (self.tenant.clone(), self.log);
                let key = Object::ArchiveManifest { tenant, log, size: file.end }.key();
                self.find(Check::Manifest, key, format!("the manifest that lists `{}`", file.key), "nothing");
            }
        }
    }

    pub(crate) fn check_saved(&mut self) {
        let Some(origin) = self.walked.origin.clone() else { return };
        self.report.saved_checkpoints = 0;
        for text in self.since {
            if text.lines().next() != Some(origin.as_str()) {
                continue;
            }
            match self.walked.trust.open(text.as_bytes()) {
                Ok(checkpoint) => {
                    let at = format!("saved checkpoint of size {}", checkpoint.size);
                    if self.holds(&at, &checkpoint) {
                        self.report.saved_checkpoints += 1;
                    }
                }
                Err(error) => self.find(
                    Check::SavedCheckpoint,
                    "saved checkpoint",
                    "a valid signature of this log",
                    error,
                ),
            }
        }
    }
}
