//! Verifying one log: walk its segments leaf by leaf, then hold every signed statement against what was walked.

use crate::list_all;
use crate::report::{Finding, LogReport, Verdict};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Display;
use stele::access::LogNumber;
use stele::error::Result;
use stele::id::{EventId, TenantId};
use stele::layout::{self, Object, ObjectKey};
use stele::limits;
use stele::ports::LockedObjects;
use stele::public_key::PublicKey;
use stele::segment::Segment;
use stele::time::Timestamp;
use stele::tlog::checkpoint::{Checkpoint, Origin};
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele::tlog::manifest::Manifest;
use stele::tlog::note::VerifierKey;
use stele::tlog::tree::RightEdge;
use stele_adapters::parquet::decode_segment;

/// Findings listed for one log; a file that is wrong from end to end needs no more.
const FINDINGS_MAX: usize = 100;

pub(crate) struct LogCheck<'a> {
    objects: &'a dyn LockedObjects,
    public_keys: &'a [PublicKey],
    since: &'a [String],
    tenant: TenantId,
    log: LogNumber,
    report: LogReport,
    walked: Walked,
}

/// What the walk over the segments has established.
struct Walked {
    edge: RightEdge,
    origin: Option<Origin>,
    keys: Vec<VerifierKey>,
    sealed_at: Timestamp,
    received_max: Timestamp,
    ids: HashSet<EventId>,
    /// Root at every size that something was said about when it was walked, and at the end of every segment: a log
    /// that is being written gets its statements about those a moment later.
    roots: BTreeMap<TreeSize, Hash>,
    /// When the segment that ends at a size was sealed.
    sealed: BTreeMap<TreeSize, Timestamp>,
    /// Segments by first leaf: where they end and the hash of the file.
    files: BTreeMap<LeafIndex, (TreeSize, Hash)>,
    last_key: Option<String>,
}

impl<'a> LogCheck<'a> {
    pub(crate) fn new(
        objects: &'a dyn LockedObjects,
        public_keys: &'a [PublicKey],
        since: &'a [String],
        tenant: TenantId,
        log: LogNumber,
    ) -> LogCheck<'a> {
        let report = LogReport::new(&tenant, log);
        let walked = Walked {
            edge: RightEdge::empty(),
            origin: None,
            keys: Vec::new(),
            sealed_at: Timestamp::default(),
            received_max: Timestamp::default(),
            ids: HashSet::new(),
            roots: BTreeMap::new(),
            sealed: BTreeMap::new(),
            files: BTreeMap::new(),
            last_key: None,
        };
        LogCheck { objects, public_keys, since, tenant, log, report, walked }
    }

    /// Whether leaves lie beyond the last checkpoint and nothing is wrong so far.
    pub(crate) fn has_unsigned(&self) -> bool {
        self.report.leaves_unsigned > 0 && self.report.findings.is_empty()
    }

    /// Checks all there is.
    pub(crate) async fn run(&mut self, progress: &(dyn Fn(u64) + Sync)) -> Result<()> {
        self.run_on(false, progress).await
    }

    /// Goes on from where the last run ended to the last statement there is now, and no further: a log that is
    /// being written always has a segment that is newer than its last checkpoint.
    pub(crate) async fn run_to_last_statement(&mut self, progress: &(dyn Fn(u64) + Sync)) -> Result<()> {
        self.run_on(true, progress).await
    }

    async fn run_on(&mut self, bounded: bool, progress: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let saved = self.saved_checkpoints();
        loop {
            let statements = list_all(self.objects, &layout::checkpoints_of(&self.tenant, self.log)).await?;
            let mut sizes: BTreeSet<TreeSize> = saved.iter().map(|c| c.size).collect();
            for object in &statements {
                if let Some(Object::Checkpoint { size, .. } | Object::Manifest { size, .. }) =
                    ObjectKey::parse(&object.key)
                {
                    sizes.insert(size);
                }
            }
            let before = self.walked.edge.size();
            let reach = sizes.last().copied().unwrap_or_default();
            self.walk(&sizes, bounded.then_some(reach), progress).await?;
            // Statements listed before the walk speak of what it found, unless the log is being written right
            // now or something is missing: a second look tells.
            if reach <= self.walked.edge.size() || before == self.walked.edge.size() {
                self.report.checkpoints = 0;
                self.report.manifests = 0;
                self.check_statements(&statements).await?;
                self.check_saved();
                return Ok(());
            }
        }
    }

    pub(crate) fn into_report(mut self) -> LogReport {
        self.report.verdict = if !self.report.findings.is_empty() {
            Verdict::Refuted
        } else if self.report.leaves_proven == 0
            || self.report.leaves_unsigned > 0
            || !self.report.unchecked.is_empty()
        {
            Verdict::CouldNotCheck
        } else {
            Verdict::Proven
        };
        self.report
    }

    fn find(&mut self, at: impl Display, expected: impl Display, found: impl Display) {
        let finding =
            Finding { at: at.to_string(), expected: expected.to_string(), found: found.to_string() };
        if self.report.findings.len() < FINDINGS_MAX && !self.report.findings.contains(&finding) {
            self.report.findings.push(finding);
        }
    }

    /// Reads the segments from where the last walk ended, up to a size or to the end.
    async fn walk(
        &mut self,
        sizes: &BTreeSet<TreeSize>,
        until: Option<TreeSize>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let prefix = layout::segments_of(&self.tenant, self.log);
        loop {
            let page = self.objects.list(&prefix, self.walked.last_key.as_deref(), 1_000).await?;
            if page.is_empty() {
                return Ok(());
            }
            for object in page {
                if until.is_some_and(|until| self.walked.edge.size() >= until) {
                    return Ok(());
                }
                self.walked.last_key = Some(object.key.clone());
                let Some(parsed @ Object::Segment { first, .. }) = ObjectKey::parse(&object.key) else {
                    continue; // Told as a stranger by the caller.
                };
                let key = parsed.key();
                let expected = self.walked.edge.size().next_index();
                if first > expected {
                    self.find(
                        Object::Segment { tenant: self.tenant.clone(), log: self.log, first: expected }.key(),
                        format!("a segment with the leaves from {expected} to {first}"),
                        "nothing",
                    );
                }
                let Some(stored) = self.objects.version(&key, &object.version).await? else {
                    self.find(&key, "the object that is listed", "nothing");
                    continue;
                };
                let sha256 = Hash::of(&stored.bytes);
                match decode_segment(&self.tenant, key.as_str(), stored.bytes) {
                    Ok(segment) => {
                        self.check_segment(&key, first, &segment, stored.retain_until, sizes);
                        self.walked.files.insert(first, (segment.header.end(), sha256));
                    }
                    Err(error) => {
                        self.find(&key, "a segment as it was sealed", error.detail());
                        self.walked.files.insert(first, (first.size_after(), sha256));
                    }
                }
                self.report.segments += 1;
                progress(self.report.segments);
            }
        }
    }

    fn check_segment(
        &mut self,
        key: &ObjectKey,
        first: LeafIndex,
        segment: &Segment,
        retain_until: Timestamp,
        sizes: &BTreeSet<TreeSize>,
    ) {
        let header = &segment.header;
        if header.first() != first {
            self.find(key, format!("leaves from {first} on"), format!("leaves from {} on", header.first()));
            return;
        }
        if header.log != self.log {
            self.find(key, format!("log {}", self.log), format!("log {}", header.log));
        }
        self.check_origin(key, &header.origin);
        if first.size_before() == self.walked.edge.size() {
            if header.before != self.walked.edge {
                let expected = format!("a segment after root {}", self.walked.edge.root().to_base64());
                self.find(key, expected, format!("one after root {}", header.before.root().to_base64()));
            }
        } else if first.size_before() < self.walked.edge.size() {
            let end = self.walked.edge.size();
            self.find(key, format!("no second segment below leaf {end}"), format!("leaves from {first} on"));
            return;
        }
        // After a hole the walk goes on from what the segment says of itself: the hole has been told.
        self.walked.edge = header.before.clone();
        self.check_checkpoint_before(key, segment);
        if header.sealed_at < self.walked.sealed_at {
            self.find(key, format!("sealed at {} or later", self.walked.sealed_at), header.sealed_at);
        }
        self.walked.sealed_at = header.sealed_at;
        self.walked.sealed.insert(header.end(), header.sealed_at);
        self.check_lock(key, header.sealed_at.plus_days(limits::SEGMENT_LOCK_DAYS), retain_until);
        for (record, index) in segment.records.iter().zip(first.to_u64()..) {
            if !self.walked.ids.insert(record.id) {
                let at = format!("{key}, leaf {index}");
                self.find(
                    at,
                    "an id that is in the log once",
                    format!("`{}` for the second time", record.id),
                );
            }
            self.walked.received_max = self.walked.received_max.max(record.received_at);
            self.walked.edge.append(record.leaf_hash);
            let size = self.walked.edge.size();
            if sizes.contains(&size) {
                self.walked.roots.insert(size, self.walked.edge.root());
            }
        }
        self.walked.roots.insert(self.walked.edge.size(), self.walked.edge.root());
        if header.received_max != self.walked.received_max {
            let expected = format!("latest received_at {}", self.walked.received_max);
            self.find(key, expected, header.received_max);
        }
        if header.after != self.walked.edge {
            let expected = format!("root {}", self.walked.edge.root().to_base64());
            self.find(key, expected, format!("root {}", header.after.root().to_base64()));
        }
    }

    fn check_lock(&mut self, key: &ObjectKey, needed: Timestamp, retain_until: Timestamp) {
        // Locks are kept in whole seconds.
        if retain_until.plus_ms(999) < needed {
            self.find(key, format!("a lock until {needed}"), format!("one until {retain_until}"));
        }
    }

    fn check_origin(&mut self, key: &ObjectKey, origin: &Origin) {
        match &self.walked.origin {
            None => {
                self.walked.keys = self
                    .public_keys
                    .iter()
                    .filter_map(|public| VerifierKey::new(origin.key_name(), &public.0))
                    .collect();
                self.report.origin = Some(origin.as_str().to_owned());
                self.walked.origin = Some(origin.clone());
            }
            Some(known) if known != origin => {
                let expected = format!("origin `{known}`");
                self.find(key, expected, format!("`{origin}`"));
            }
            Some(_) => {}
        }
    }

    fn check_checkpoint_before(&mut self, key: &ObjectKey, segment: &Segment) {
        let header = &segment.header;
        if header.before.size() == TreeSize::ZERO {
            if !header.checkpoint_before.is_empty() {
                self.find(key, "no checkpoint before the first leaf", "one");
            }
            return;
        }
        if self.walked.keys.is_empty() {
            return; // Told once, with the statements.
        }
        match Checkpoint::open(&header.checkpoint_before, &self.walked.keys) {
            Ok(c) if c.size == header.before.size() && c.root == header.before.root() => {}
            Ok(c) => {
                let expected = format!("a checkpoint of size {}", header.before.size());
                self.find(key, expected, format!("one of size {} and root {}", c.size, c.root.to_base64()));
            }
            Err(error) => self.find(key, "a valid checkpoint before its first leaf", error),
        }
    }

    /// Holds checkpoints and manifests against the walk.
    async fn check_statements(&mut self, listed: &[stele::ports::ListedObject]) -> Result<()> {
        let total = self.walked.edge.size();
        self.report.unchecked.clear();
        if self.walked.keys.is_empty() {
            let reason = if self.public_keys.is_empty() {
                "there is no public key to check signatures with"
            } else {
                "no segment could be read that names the log's origin"
            };
            self.report.unchecked.push(reason.to_owned());
            self.report.leaves_unsigned = total.to_u64();
            return Ok(());
        }
        let (mut checkpoints, mut manifests) = (BTreeSet::new(), BTreeSet::new());
        let mut manifested = BTreeSet::new();
        let mut continued = BTreeSet::new();
        for object in listed {
            let Some(parsed) = ObjectKey::parse(&object.key) else { continue };
            let key = parsed.key();
            let Some(stored) = self.objects.version(&key, &object.version).await? else {
                self.find(&key, "the object that is listed", "nothing");
                continue;
            };
            if let Object::Checkpoint { size, .. } | Object::Manifest { size, .. } = &parsed
                && let Some(sealed_at) = self.walked.sealed.get(size).copied()
            {
                self.check_lock(&key, sealed_at.plus_days(limits::CHECKPOINT_LOCK_DAYS), stored.retain_until);
            }
            match parsed {
                Object::Checkpoint { size, .. } => {
                    if self.check_checkpoint(&key, size, &stored.bytes) {
                        self.report.checkpoints += 1;
                    }
                    checkpoints.insert(size);
                }
                Object::Manifest { size, .. } => {
                    if self.check_manifest(&key, size, &stored.bytes, &mut manifested, &mut continued) {
                        self.report.manifests += 1;
                    }
                    manifests.insert(size);
                }
                Object::Segment { .. } | Object::PublicKey { .. } | Object::WrappedSecret { .. } => {}
            }
        }
        let last = checkpoints.last().copied().unwrap_or_default();
        let named = |size: TreeSize, manifest: bool| {
            let (tenant, log) = (self.tenant.clone(), self.log);
            match manifest {
                true => Object::Manifest { tenant, log, size }.key(),
                false => Object::Checkpoint { tenant, log, size }.key(),
            }
        };
        let lone: Vec<_> = checkpoints
            .difference(&manifests)
            .map(|size| (named(*size, true), "the manifest that goes with the checkpoint"))
            // A crash between the two leaves a manifest alone; but where the next one went on from, both were.
            .chain(
                continued
                    .difference(&checkpoints)
                    .map(|size| (named(*size, false), "the checkpoint that a later manifest goes on from")),
            )
            .collect();
        for (key, expected) in lone {
            self.find(key, expected, "nothing");
        }
        let unlisted: Vec<LeafIndex> = (self.walked.files.iter())
            .filter(|(first, (end, _))| *end <= last && !manifested.contains(*first))
            .map(|(first, _)| *first)
            .collect();
        for first in unlisted {
            let key = Object::Segment { tenant: self.tenant.clone(), log: self.log, first }.key();
            self.find(key, "a manifest that lists it", "none");
        }
        let proven = last.min(total);
        self.report.leaves_proven = proven.to_u64();
        self.report.root = self.walked.roots.get(&proven).map(|root| root.to_base64());
        self.report.leaves_unsigned = total.to_u64() - proven.to_u64();
        if self.report.leaves_unsigned > 0 {
            self.report.unchecked.push(format!(
                "{} leaves after the last checkpoint, at {proven}: nobody has signed them yet",
                self.report.leaves_unsigned
            ));
        }
        Ok(())
    }

    fn check_checkpoint(&mut self, key: &ObjectKey, size: TreeSize, bytes: &[u8]) -> bool {
        match Checkpoint::open(bytes, &self.walked.keys) {
            Ok(checkpoint) if checkpoint.size != size => {
                self.find(key, format!("a checkpoint of size {size}"), format!("one of {}", checkpoint.size));
                false
            }
            Ok(checkpoint) => self.holds(key.as_str(), &checkpoint),
            Err(error) => {
                self.find(key, "a checkpoint with a valid signature", error);
                false
            }
        }
    }

    /// Whether the walked leaves have the checkpoint's root at its size.
    fn holds(&mut self, at: &str, checkpoint: &Checkpoint) -> bool {
        let end = self.walked.edge.size();
        if checkpoint.size > end {
            let missing =
                Object::Segment { tenant: self.tenant.clone(), log: self.log, first: end.next_index() }.key();
            self.find(
                missing,
                format!("the leaves from {end} to {} that `{at}` commits to", checkpoint.size),
                "nothing",
            );
            return false;
        }
        if checkpoint.size == TreeSize::ZERO {
            return true;
        }
        match self.walked.roots.get(&checkpoint.size).copied() {
            Some(root) if root == checkpoint.root => true,
            Some(root) => {
                let expected = format!("root {} at size {}", checkpoint.root.to_base64(), checkpoint.size);
                self.find(at, expected, format!("leaves with root {}", root.to_base64()));
                false
            }
            None => {
                let expected = format!("leaves up to {}", checkpoint.size);
                self.find(at, expected, "a hole before that size");
                false
            }
        }
    }

    fn check_manifest(
        &mut self,
        key: &ObjectKey,
        size: TreeSize,
        bytes: &[u8],
        manifested: &mut BTreeSet<LeafIndex>,
        continued: &mut BTreeSet<TreeSize>,
    ) -> bool {
        let before = self.report.findings.len();
        let manifest = match Manifest::open(bytes, &self.walked.keys) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.find(key, "a manifest with a valid signature", error);
                return false;
            }
        };
        if manifest.size != size {
            self.find(key, format!("a manifest of size {size}"), format!("one of {}", manifest.size));
        }
        // Of one size, one root has one right edge.
        match self.walked.roots.get(&manifest.size).copied() {
            Some(root) if root == manifest.edge.root() => {}
            Some(root) => {
                let expected = format!("right edge with root {}", root.to_base64());
                self.find(key, expected, format!("one with root {}", manifest.edge.root().to_base64()));
            }
            None => self.find(key, format!("leaves up to {}", manifest.size), "no such size in the log"),
        }
        let since = manifest.objects.first().map_or(TreeSize::ZERO, |object| object.first.size_before());
        continued.extend((since > TreeSize::ZERO).then_some(since));
        for object in &manifest.objects {
            match self.walked.files.get(&object.first) {
                Some((_, sha256)) if *sha256 != object.sha256 => {
                    let (expected, found) = (object.sha256, *sha256);
                    self.find(&object.key, format!("SHA-256 {expected}"), found);
                }
                Some((end, _)) if *end != object.end => {
                    let (expected, found) = (object.end, *end);
                    self.find(&object.key, format!("leaves up to {expected}"), format!("up to {found}"));
                }
                Some(_) => {
                    manifested.insert(object.first);
                }
                None => self.find(&object.key, format!("the segment `{key}` lists"), "nothing"),
            }
        }
        self.report.findings.len() == before
    }

    fn saved_checkpoints(&mut self) -> Vec<Checkpoint> {
        // The signature is checked once the walk knows the keys; until then only the size is used.
        let prefix_is_ours = |text: &&String| {
            let origin = text.lines().next().unwrap_or_default();
            self.walked.origin.as_ref().is_none_or(|known| known.as_str() == origin)
        };
        let body = |text: &String| {
            let end = text.find("\n\n").map_or(text.len(), |at| at + 1);
            Checkpoint::parse(&text[..end]).ok()
        };
        self.since.iter().filter(prefix_is_ours).filter_map(body).collect()
    }

    fn check_saved(&mut self) {
        let Some(origin) = self.walked.origin.clone() else { return };
        self.report.saved_checkpoints = 0;
        for text in self.since {
            if text.lines().next() != Some(origin.as_str()) {
                continue;
            }
            match Checkpoint::open(text, &self.walked.keys) {
                Ok(checkpoint) => {
                    let at = format!("saved checkpoint of size {}", checkpoint.size);
                    if self.holds(&at, &checkpoint) {
                        self.report.saved_checkpoints += 1;
                    }
                }
                Err(error) => self.find("saved checkpoint", "a valid signature of this log", error),
            }
        }
    }
}
