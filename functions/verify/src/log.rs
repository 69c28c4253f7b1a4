//! Verifying one log: its bodies are walked leaf by leaf, then every signed statement is held against what was walked.

use crate::gaps::Gap;
use crate::ids::Ids;
use crate::report::{Check, Finding, LogReport};
use crate::trust::Trust;
use crate::{Evidence, FINDINGS_MAX, Terms, list_all};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;
use std::ops::Bound;
use std::sync::Arc;
use stele::access::LogNumber;
use stele::error::{Code, Error, Result};
use stele::id::{EventId, TenantId};
use stele::layout::{self, Object, ObjectKey};
use stele::ports::ListedObject;
use stele::public_key::PublishedKeys;
use stele::record::Record;
use stele::time::Timestamp;
use stele::tlog::checkpoint::{Checkpoint, Origin};
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele::tlog::tree::RightEdge;
use stele_adapters::parquet::archive::{Keep, VerifiedLeaves};

/// What the log says of a file of the archive that went when its retention was over.
const ARCHIVE_EXPIRED: &str = "stele.archive.expired";

pub(crate) struct LogCheck<'a> {
    pub(crate) evidence: &'a Evidence,
    pub(crate) public_keys: &'a PublishedKeys,
    pub(crate) terms: &'a Terms,
    pub(crate) since: &'a [String],
    pub(crate) tenant: TenantId,
    pub(crate) log: LogNumber,
    pub(crate) report: LogReport,
    pub(crate) walked: Walked,
}

/// What the walk has established.
pub(crate) struct Walked {
    pub(crate) edge: RightEdge,
    pub(crate) origin: Option<Origin>,
    /// Which keys are believed of what.
    pub(crate) trust: Trust,
    /// An event to look for, and its leaf hash once it was found.
    pub(crate) looked_for: Option<EventId>,
    pub(crate) found: Option<(LeafIndex, Hash)>,
    /// Where the leaves end that lie under a valid signed checkpoint.
    pub(crate) signed: TreeSize,
    /// Statements that were read.
    pub(crate) stated: Vec<Stated>,
    pub(crate) sealed_at: Timestamp,
    pub(crate) received_max: Timestamp,
    /// Whether leaves are missing that may have been received later than any that was walked.
    pub(crate) received_unknown: bool,
    pub(crate) ids: Ids,
    /// Root at every size that something was said about when it was walked, and at the end of every body: a log that
    /// is being written gets its statements about those a moment later.
    pub(crate) roots: BTreeMap<TreeSize, Hash>,
    /// When the segment that ends at a size was sealed.
    pub(crate) sealed: BTreeMap<TreeSize, Timestamp>,
    /// Segments by first leaf.
    pub(crate) segments: BTreeMap<LeafIndex, Held>,
    /// Files of the archive by first leaf.
    pub(crate) archive: BTreeMap<LeafIndex, Held>,
    /// Tiles by first leaf.
    pub(crate) tiles: BTreeMap<LeafIndex, Held>,
    /// Bodies that are there and can't be read.
    pub(crate) broken: BTreeSet<LeafIndex>,
    pub(crate) gaps: Vec<Gap>,
    /// Files of the archive of which a leaf says that they have expired.
    pub(crate) said_expired: BTreeSet<String>,
    /// Segments that were listed and not read yet.
    pub(crate) waiting: VecDeque<ListedObject>,
    pub(crate) last_segment: Option<String>,
    /// Files of the archive and tiles that were listed and not read yet.
    pub(crate) unread_archive: BTreeMap<LeafIndex, ListedObject>,
    pub(crate) unread_tiles: BTreeMap<LeafIndex, ListedObject>,
}

/// A statement as it was found.
pub(crate) struct Stated {
    pub(crate) key: ObjectKey,
    pub(crate) size: TreeSize,
    pub(crate) bytes: bytes::Bytes,
    pub(crate) retain_until: Timestamp,
}

/// An object as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) key: ObjectKey,
    pub(crate) end: TreeSize,
    /// `None` if it could not be read to its end, which was told.
    pub(crate) sha256: Option<Hash>,
    /// When the first and the last of its leaves were sealed, as it says.
    pub(crate) sealed: (Timestamp, Timestamp),
}

impl Walked {
    fn new(looked_for: Option<EventId>) -> Walked {
        Walked {
            edge: RightEdge::empty(),
            origin: None,
            looked_for,
            found: None,
            signed: TreeSize::ZERO,
            trust: Trust::default(),
            stated: Vec::new(),
            sealed_at: Timestamp::default(),
            received_max: Timestamp::default(),
            received_unknown: false,
            ids: Ids::default(),
            roots: BTreeMap::new(),
            sealed: BTreeMap::new(),
            segments: BTreeMap::new(),
            archive: BTreeMap::new(),
            tiles: BTreeMap::new(),
            broken: BTreeSet::new(),
            gaps: Vec::new(),
            said_expired: BTreeSet::new(),
            waiting: VecDeque::new(),
            last_segment: None,
            unread_archive: BTreeMap::new(),
            unread_tiles: BTreeMap::new(),
        }
    }

    /// Appends a leaf.
    pub(crate) fn take(&mut self, index: LeafIndex, record: &Record) -> Result<()> {
        self.note(index, record);
        self.ids.push(record.id, index)?;
        self.received_max = self.received_max.max(record.received_at);
        self.edge.append(record.leaf_hash);
        Ok(())
    }

    /// Appends leaves of a file of the archive, and remembers the roots at these sizes.
    pub(crate) fn take_all(&mut self, leaves: &VerifiedLeaves, sizes: &BTreeSet<TreeSize>) -> Result<()> {
        let hashes = &leaves.hashes;
        let ends = sizes.range((Bound::Excluded(hashes.first()), Bound::Included(hashes.end())));
        for end in ends.copied().chain([hashes.end()]) {
            let next = hashes.range(self.edge.size(), end).and_then(|range| self.edge.followed_by(&range));
            self.edge = next.ok_or_else(|| {
                Error::new(Code::Internal, format!("leaves up to {end} after {}", self.edge.size()))
            })?;
            if sizes.contains(&end) {
                self.roots.insert(end, self.edge.root());
            }
        }
        leaves.kept.iter().for_each(|(index, record)| self.note(*index, record));
        for (id, index) in leaves.ids.iter().zip(hashes.first().to_u64()..) {
            self.ids.push(*id, LeafIndex::new(index))?;
        }
        self.received_max = self.received_max.max(leaves.received.1);
        Ok(())
    }

    /// Which records [`Walked::note`] has something to note of.
    pub(crate) fn wanted(&self) -> Keep {
        let looked_for = self.looked_for;
        Arc::new(move |columns| looked_for == Some(columns.id) || columns.action == ARCHIVE_EXPIRED)
    }

    fn note(&mut self, index: LeafIndex, record: &Record) {
        if self.looked_for == Some(record.id) {
            self.found = Some((index, record.leaf_hash));
        }
        if record.action == ARCHIVE_EXPIRED {
            self.said_expired.extend(record.resource_id.clone());
        }
    }

    /// Where the archive ends, by its files or by the tiles of those that have gone.
    pub(crate) fn archived(&self) -> TreeSize {
        let ends = self.archive.values().chain(self.tiles.values()).map(|held| held.end);
        ends.max().unwrap_or_default()
    }

    /// A time at which the last leaf of a size was sealed, or an earlier one.
    pub(crate) fn sealed_by(&self, size: TreeSize) -> Option<Timestamp> {
        if let Some(sealed_at) = self.sealed.get(&size) {
            return Some(*sealed_at);
        }
        let (_, file) = self.archive.range(..size.next_index()).next_back()?;
        let (first, last) = file.sealed;
        (size <= file.end).then_some(if size == file.end { last } else { first })
    }

    /// The body that a leaf was read from.
    fn body_of(&self, index: LeafIndex) -> Option<&Held> {
        [&self.archive, &self.segments].into_iter().find_map(|bodies| {
            let (_, held) = bodies.range(..=index).next_back()?;
            held.end.contains(index).then_some(held)
        })
    }
}

impl<'a> LogCheck<'a> {
    pub(crate) fn new(
        evidence: &'a Evidence,
        public_keys: &'a PublishedKeys,
        terms: &'a Terms,
        since: &'a [String],
        tenant: TenantId,
        log: LogNumber,
    ) -> LogCheck<'a> {
        let report = LogReport::new(&tenant, log);
        LogCheck {
            evidence,
            public_keys,
            terms,
            since,
            tenant,
            log,
            report,
            walked: Walked::new(terms.looked_for),
        }
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
            let prefix = layout::checkpoints_of(&self.tenant, self.log);
            let statements = list_all(&*self.evidence.objects, &prefix).await?;
            self.learn_keys(&statements).await?;
            self.read_statements().await?;
            let mut sizes: BTreeSet<TreeSize> = saved.iter().map(|c| c.size).collect();
            sizes.extend(statements.iter().filter_map(|object| size_of_statement(&object.key)));
            // What was stated is held against the walk where it got to: a log may have been stated since the listing.
            let stated: Vec<TreeSize> = self.walked.stated.iter().map(|stated| stated.size).collect();
            let before = self.walked.edge.size();
            let reach = sizes.last().copied().unwrap_or_default();
            sizes.extend(stated);
            self.walk(&sizes, bounded.then_some(reach), progress).await?;
            // Statements listed before the walk speak of what it found, unless the log is being written right
            // now or something is missing: a second look tells.
            if reach <= self.walked.edge.size() || before == self.walked.edge.size() {
                self.report.checkpoints = 0;
                self.report.manifests = 0;
                self.check_ids()?;
                self.check_statements(&statements).await?;
                self.check_saved();
                self.check_stated();
                return Ok(());
            }
        }
    }

    pub(crate) fn into_report(mut self) -> LogReport {
        let signed = self.walked.signed;
        self.report.found = self.walked.found.map(|(index, hash)| (hash, signed.contains(index)));
        self.report.sealed_at =
            Some(self.walked.sealed_at).filter(|sealed_at| *sealed_at > Timestamp::default());
        self.report.judge(self.terms);
        self.report
    }

    pub(crate) fn find(
        &mut self,
        check: Check,
        at: impl Display,
        expected: impl Display,
        found: impl Display,
    ) {
        let finding =
            Finding { check, at: at.to_string(), expected: expected.to_string(), found: found.to_string() };
        if self.report.findings.len() < FINDINGS_MAX && !self.report.findings.contains(&finding) {
            self.report.findings.push(finding);
        }
    }

    /// Notes what could not be checked.
    pub(crate) fn miss(&mut self, why: String) {
        if self.report.unchecked.len() < FINDINGS_MAX && !self.report.unchecked.contains(&why) {
            self.report.unchecked.push(why);
        }
    }

    pub(crate) fn check_lock(&mut self, key: &ObjectKey, needed: Timestamp, retain_until: Timestamp) {
        // Locks are kept in whole seconds.
        if retain_until.plus_ms(999) < needed {
            self.find(
                Check::Lock,
                key,
                format!("a lock until {needed}"),
                format!("one until {retain_until}"),
            );
        }
    }

    pub(crate) fn check_origin(&mut self, key: &ObjectKey, origin: &Origin) {
        match &self.walked.origin {
            None => {
                self.walked.trust.begin(origin, &self.public_keys.checkpoints);
                self.report.origin = Some(origin.as_str().to_owned());
                self.walked.origin = Some(origin.clone());
            }
            Some(known) if known != origin => {
                let expected = format!("origin `{known}`");
                self.find(Check::Origin, key, expected, format!("`{origin}`"));
            }
            Some(_) => {}
        }
    }

    fn check_ids(&mut self) -> Result<()> {
        for (_, index) in self.walked.ids.repeated(FINDINGS_MAX)? {
            let at = self.walked.body_of(index).map_or_else(String::new, |held| held.key.to_string());
            self.find(
                Check::DuplicateId,
                format!("{at}, leaf {index}"),
                "an id that is in the log once",
                "one of an earlier leaf",
            );
        }
        Ok(())
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
}

/// Of which size a checkpoint or manifest speaks, by its name.
fn size_of_statement(key: &str) -> Option<TreeSize> {
    match ObjectKey::parse(key)? {
        Object::Checkpoint { size, .. }
        | Object::Manifest { size, .. }
        | Object::ArchiveManifest { size, .. } => Some(size),
        Object::Segment { .. }
        | Object::Archive { .. }
        | Object::Tiles { .. }
        | Object::KeyChange { .. }
        | Object::Statement { .. }
        | Object::PublicKey { .. }
        | Object::WrappedSecret { .. } => None,
    }
}
