//! Verifying an evidence bundle: the file as it is packed, its keys and checkpoint, every leaf's audit path, every column, and
//! what the bundle claims to be complete in. No network, no database, one pass over the events.

use crate::ids::Ids;
use crate::report::{Basis, Check, Finding, LogReport, Report, Verdict};
use crate::{FINDINGS_MAX, Options};
use std::path::Path;
use stele::access::LogNumber;
use stele::bundle::{self, BundleInfo, BundleKeys};
use stele::error::{Code, Error, Result};
use stele::id::TenantId;
use stele::public_key::PublishedKeys;
use stele::query::Filter;
use stele::record::Record;
use stele::statement::Statement;
use stele::time::Timestamp;
use stele::tlog::checkpoint::{Checkpoint, Origin};
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele::tlog::key_change::{KeyChange, KeyHistory};
use stele::tlog::note::{Note, VerifierKey};
use stele::tlog::proof::verify_inclusion;
use stele_adapters::bundle::{Row, Unpacked, read_rows};

/// What a bundle was found to hold, beside the report: for those who look for something in it.
pub struct VerifiedBundle {
    /// What was found.
    pub report: Report,
    /// What the bundle claims, if it could be read.
    pub info: Option<BundleInfo>,
    /// The keys that are believed.
    pub keys: PublishedKeys,
    /// Whether it holds every leaf of the log up to its checkpoint, as far as that was proven.
    pub is_whole: bool,
}

/// Verifies a bundle. Each event that was proven is visited.
///
/// # Errors
/// Only if the file can't be read at all; what is wrong with it is in the report.
pub fn verify_bundle(
    path: &Path,
    options: &Options,
    visit: &mut dyn FnMut(LeafIndex, &Record),
) -> Result<VerifiedBundle> {
    let unnamed =
        TenantId::parse("unknown").ok_or_else(|| Error::new(Code::Internal, "a name that is none"))?;
    let mut verified = VerifiedBundle {
        report: Report {
            basis: if options.pinned.is_empty() { Basis::KeyFromFolder } else { Basis::PinnedKey },
            ..Report::default()
        },
        info: None,
        keys: PublishedKeys::default(),
        is_whole: false,
    };
    let mut log = LogReport::new(&unnamed, LogNumber(0));
    log.stated_by = options.stated_by();
    match Checking::open(path, options, &mut log) {
        Ok(mut checking) => {
            checking.rows(path, &mut log, visit);
            log.judge(&options.terms);
            checking.judge_completeness(&mut log, options);
            verified.is_whole = checking.is_whole(&log);
            verified.info = Some(checking.info);
            verified.keys = checking.keys;
        }
        Err(Stop::Wrong(check, error)) => {
            let (at, expected, found) = parts_of(&error, path);
            log.findings.push(Finding { check, at, expected, found });
            log.judge(&options.terms);
        }
        Err(Stop::Unreadable(error)) => return Err(error),
    }
    verified.report.logs.push(log);
    Ok(verified)
}

/// Why it goes no further.
enum Stop {
    Wrong(Check, Error),
    Unreadable(Error),
}

fn wrong(check: Check) -> impl Fn(Error) -> Stop {
    move |error| match error.code() {
        Code::Corrupt | Code::BadParameter => Stop::Wrong(check, error),
        _ => Stop::Unreadable(error),
    }
}

fn parts_of(error: &Error, path: &Path) -> (String, String, String) {
    (path.display().to_string(), "a bundle as it was made".to_owned(), error.detail().to_owned())
}

/// A bundle whose frame is right.
struct Checking {
    info: BundleInfo,
    keys: PublishedKeys,
    unpacked: Unpacked,
    tenant: TenantId,
    filter: Filter,
    root: Hash,
    size: TreeSize,
    seen: Seen,
}

/// What was counted.
#[derive(Default)]
struct Seen {
    leaves: u64,
    matches: u64,
    last: Option<LeafIndex>,
    first: Option<LeafIndex>,
    has_gap: bool,
    ids: Ids,
}

impl Checking {
    fn open(path: &Path, options: &Options, log: &mut LogReport) -> std::result::Result<Checking, Stop> {
        let mut unpacked = Unpacked::open(path).map_err(wrong(Check::Container))?;
        let mut entry = |name: &str| unpacked.entry(name).map_err(wrong(Check::Container));
        let info = BundleInfo::parse(&entry(bundle::INFO)?).map_err(wrong(Check::Container))?;
        let bundle_keys = BundleKeys::parse(&entry(bundle::KEYS)?).map_err(wrong(Check::Container))?;
        let text = entry(bundle::CHECKPOINT)?;
        // An auditor reads the one and runs the other: what they say is no business of whoever gave the bundle.
        for (name, ours) in [(bundle::README, bundle::README_TEXT), (bundle::SQL, bundle::VERIFY_SQL)] {
            if entry(name)? != ours.as_bytes() {
                let expected = format!("the text that bundles of version {} have", BundleInfo::VERSION);
                return Err(Stop::Wrong(
                    Check::Container,
                    Error::corrupt(name, expected, "another: do not use it"),
                ));
            }
        }
        let keys = options.over(bundle_keys.published().map_err(wrong(Check::Key))?);
        let said = |check, at: &str, expected: &str, found: &dyn std::fmt::Display| {
            Stop::Wrong(check, Error::corrupt(at, expected, found))
        };
        let origin = Origin::parse(&info.origin)
            .ok_or_else(|| said(Check::Origin, bundle::INFO, "an origin", &"another text"))?;
        let tenant = TenantId::parse(&info.tenant_id)
            .ok_or_else(|| said(Check::Origin, bundle::INFO, "a tenant", &"another text"))?;
        log.tenant = info.tenant_id.clone();
        log.log = info.log;
        log.origin = Some(info.origin.clone());
        let history = history(&origin, &keys, &bundle_keys, &text, log)?;
        let checkpoint = history.open(&text).map_err(|e| {
            said(Check::Signature, bundle::CHECKPOINT, "a checkpoint with a valid signature", &e)
        })?;
        if checkpoint.origin != origin {
            return Err(said(
                Check::Origin,
                bundle::CHECKPOINT,
                &format!("origin `{origin}`"),
                &checkpoint.origin,
            ));
        }
        if checkpoint.size.to_u64() != info.tree_size || checkpoint.root.to_base64() != info.root {
            let found = format!("size {} and root {}", info.tree_size, info.root);
            let expected = format!("size {} and root {}", checkpoint.size, checkpoint.root.to_base64());
            return Err(said(Check::Root, bundle::INFO, &expected, &found));
        }
        log.checkpoints = 1;
        log.root = Some(checkpoint.root.to_base64());
        stated(&text, &history, &keys, options, log);
        for saved in &options.since {
            check_saved(saved, &history, &checkpoint, log);
        }
        let Ok(made_at) = Timestamp::parse(&info.made_at) else {
            return Err(said(Check::Container, bundle::INFO, "when it was made", &"another text"));
        };
        let filter = info.request.filter(made_at).map_err(wrong(Check::Filter))?;
        let (root, size) = (checkpoint.root, checkpoint.size);
        Ok(Checking { info, keys, unpacked, tenant, filter, root, size, seen: Seen::default() })
    }

    fn rows(&mut self, path: &Path, log: &mut LogReport, visit: &mut dyn FnMut(LeafIndex, &Record)) {
        let section = match self.unpacked.events(path) {
            Ok(section) => section,
            Err(error) => return find(log, Check::Container, bundle::EVENTS, "the events", error.detail()),
        };
        let mut seen = std::mem::take(&mut self.seen);
        let read = read_rows(section, &mut |row, record| {
            if self.row(&row, &record, &mut seen, log)? {
                visit(row.index, &record);
            }
            Ok(())
        });
        match read {
            Ok(()) => {}
            // Not the bundle's fault.
            Err(error) if error.code() == Code::Internal => log.unchecked.push(error.detail().to_owned()),
            Err(error) => {
                find(log, Check::Body, bundle::EVENTS, "events as they were written", error.detail());
            }
        }
        match seen.ids.repeated(FINDINGS_MAX) {
            Ok(repeated) => {
                for (id, index) in repeated {
                    let at = format!("{}: leaf {index}", bundle::EVENTS);
                    find(log, Check::DuplicateId, at, "an id that is there once", id);
                }
            }
            Err(error) => log.unchecked.push(error.detail().to_owned()),
        }
        log.leaves_proven = seen.leaves;
        let counted = [
            ("leaves", self.info.leaves, seen.leaves),
            ("matches", self.info.matches, seen.matches),
            ("first", self.info.first, seen.first.map_or(0, LeafIndex::to_u64)),
            ("end", self.info.end, seen.last.map_or(0, |last| last.to_u64() + 1)),
        ];
        for (name, told, found) in counted {
            if told != found {
                find(log, Check::Count, bundle::INFO, format!("`{name}` {found}, as the events are"), told);
            }
        }
        self.seen = seen;
    }

    /// Checks a row; says whether it is an event of this tenant in this log.
    fn row(&self, row: &Row, record: &Record, seen: &mut Seen, log: &mut LogReport) -> Result<bool> {
        let at = || format!("{}: leaf {}", bundle::EVENTS, row.index);
        let mut is_proven = true;
        if let Err(error) = verify_inclusion(&record.leaf_hash, row.index, self.size, &row.path, &self.root) {
            is_proven = false;
            find(log, Check::Proof, at(), "an audit path to the checkpoint's root", error);
        }
        if record.tenant != self.tenant {
            is_proven = false;
            find(log, Check::Origin, at(), format!("an event of `{}`", self.tenant), &record.tenant);
        }
        if seen.last.is_some_and(|last| last >= row.index) {
            find(log, Check::Contiguity, at(), "leaves in the order of the log, each once", "another order");
        }
        seen.has_gap |= seen.last.is_some_and(|last| last.plus(1) != Some(row.index));
        seen.ids.push(record.id, row.index)?;
        let matches = self.info.request.spans(row.index) && self.filter.matches(record)?;
        if matches != row.matches {
            let (expected, found) = (format!("`matches` {matches}, by the filter"), row.matches);
            find(log, Check::Filter, at(), expected, found);
        }
        if !row.matches && !self.info.request.covering {
            find(log, Check::Filter, at(), "only events that match", "one that does not");
        }
        seen.first.get_or_insert(row.index);
        seen.last = Some(row.index);
        seen.leaves += 1;
        seen.matches += u64::from(matches);
        Ok(is_proven)
    }

    /// Whether what is there is every leaf up to the checkpoint.
    fn is_whole(&self, log: &LogReport) -> bool {
        log.verdict != Verdict::Refuted && !self.seen.has_gap && self.seen.leaves == self.size.to_u64()
    }

    /// A bundle of everything begins where it was to begin, or where leaves had expired, and ends where it was to end, or at its
    /// checkpoint.
    fn check_ends(&self, first: LeafIndex, end: TreeSize, log: &mut LogReport) {
        let request = &self.info.request;
        if !request.filter.is_empty() {
            return;
        }
        let from = request.from_leaf.unwrap_or_default();
        let until = request.until_leaf.unwrap_or(u64::MAX).min(self.size.to_u64());
        let missing = first.to_u64().saturating_sub(from);
        if missing > self.info.expired {
            let found = format!("leaves from {first} on, and {} that had expired", self.info.expired);
            find(log, Check::Count, bundle::EVENTS, format!("leaves from {from} on, as was asked"), found);
        }
        if end.to_u64() < until {
            let expected = format!("leaves up to {until}, as was asked");
            find(log, Check::Count, bundle::EVENTS, expected, format!("leaves up to {end}"));
        }
    }

    /// Says what the bundle is complete in, which no bundle without the leaves in between is.
    fn judge_completeness(&self, log: &mut LogReport, options: &Options) {
        let Seen { first: Some(first), last: Some(last), .. } = self.seen else {
            log.unchecked.push("the bundle holds no event: there is nothing it could prove".to_owned());
            return log.judge(&options.terms);
        };
        let (end, size) = (last.size_after(), self.size);
        self.check_ends(first, end, log);
        if self.seen.has_gap {
            if self.info.request.covers_all() {
                let expected = format!("every leaf from {first} to {end}");
                find(log, Check::Contiguity, bundle::EVENTS, expected, "a gap");
            } else {
                log.unchecked.push(format!(
                    "completeness: the bundle holds selected events of leaves {first} to {end}, and not those in between; ask for \
                     one that covers the range"
                ));
            }
        } else if self.info.request.covers_all() || self.seen.leaves == size.to_u64() {
            log.notes.push(match self.seen.leaves == size.to_u64() {
                true => format!("complete: all {size} leaves of the log at that checkpoint are here"),
                false => format!("complete for leaves {first} to {end} of {size}: none of them is missing"),
            });
        } else {
            log.unchecked.push(format!(
                "completeness: the bundle holds selected events; that leaves {first} to {end} follow each other says nothing of \
                 what was not selected"
            ));
        }
        if self.info.expired > 0 {
            log.notes.push(format!(
                "{} leaves of the log had expired when it was made, the bundle says: the log itself can show that",
                self.info.expired
            ));
        }
        log.judge(&options.terms);
        // What is missing for completeness takes nothing from integrity.
        if log.completeness == Verdict::CouldNotCheck
            && !log.findings.iter().any(|f| f.check.claim() == crate::Claim::Integrity)
        {
            let others = log.unchecked.iter().any(|why| !why.starts_with("completeness:"));
            if !others && log.leaves_proven > 0 {
                log.integrity = Verdict::Proven;
            }
        }
    }
}

/// Which keys signed what, by the bundle's own word where nothing is pinned.
fn history(
    origin: &Origin,
    keys: &PublishedKeys,
    bundle_keys: &BundleKeys,
    checkpoint: &[u8],
    log: &mut LogReport,
) -> std::result::Result<KeyHistory, Stop> {
    let said = |check, at: &str, expected: &str, found: String| {
        Stop::Wrong(check, Error::corrupt(at, expected, found))
    };
    let of = |key: &stele::public_key::PublicKey| VerifierKey::new(origin.key_name(), &key.0);
    let believed: Vec<VerifierKey> = keys.checkpoints.iter().filter_map(of).collect();
    let mut changes = Vec::new();
    for text in &bundle_keys.key_changes {
        let opened = KeyChange::open(text, &believed)
            .map_err(|e| said(Check::Key, bundle::KEYS, "signed changes of key", e.to_string()))?;
        if &opened.change.origin != origin {
            return Err(said(
                Check::Key,
                bundle::KEYS,
                "changes of this log's key",
                opened.change.origin.to_string(),
            ));
        }
        changes.push((opened.change, text));
    }
    // The key the log began with: one that is believed and handed over first, or, without changes, the one that signed.
    let first = match changes.first() {
        Some((_, text)) => believed.iter().find(|key| {
            KeyChange::open(text, std::slice::from_ref(key)).is_ok_and(|opened| opened.is_handed_over)
        }),
        None => believed.iter().find(|key| Checkpoint::open(checkpoint, std::slice::from_ref(key)).is_ok()),
    };
    // Otherwise a key that is believed, though nobody handed over to it: then only what it signs counts.
    let signed = believed.iter().find(|key| Checkpoint::open(checkpoint, std::slice::from_ref(key)).is_ok());
    let Some(first) = first.or(signed) else {
        let found =
            Checkpoint::open(checkpoint, &believed).err().map_or("none".to_owned(), |e| e.to_string());
        return Err(said(
            Check::Signature,
            bundle::CHECKPOINT,
            "a signature of a key that is believed",
            found,
        ));
    };
    let mut history = KeyHistory::beginning_with(first.clone());
    for (change, text) in &changes {
        if change.new_key().is_ok_and(|key| &key == history.last()) {
            continue;
        }
        let last = history.last().clone();
        let opened = KeyChange::open(text, std::slice::from_ref(&last));
        let is_handed_over = opened.is_ok_and(|opened| opened.is_handed_over);
        if !is_handed_over && changes.first().is_some_and(|(first, _)| first != change) {
            return Err(said(
                Check::Key,
                bundle::KEYS,
                "changes that the key before signed",
                "one that it did not".to_owned(),
            ));
        }
        if is_handed_over && !history.follow(change) {
            return Err(said(
                Check::Key,
                bundle::KEYS,
                "changes that follow each other",
                format!("one at {}", change.from),
            ));
        }
        log.key_changes += u64::from(is_handed_over);
    }
    Ok(history)
}

/// What the checkpoint's cosignatures say.
fn stated(text: &[u8], history: &KeyHistory, keys: &PublishedKeys, options: &Options, log: &mut LogReport) {
    let Ok(note) = Note::parse(text) else { return };
    let origin = history.last().name().as_str().to_owned();
    let is_stated = Origin::parse(&origin).is_some_and(|origin| {
        let name = stele::statement::key_name(&origin);
        note.signatures().iter().any(|signature| signature.name() == &name)
    });
    if is_stated {
        match Statement::open(text, history, &keys.statements) {
            Ok(statement) => {
                log.statements = 1;
                log.stated_at = Some(statement.stated_at);
                log.stated_size = Some(statement.checkpoint.size.to_u64());
            }
            Err(error) => {
                find(log, Check::Statement, bundle::CHECKPOINT, "a statement with valid signatures", error)
            }
        }
    }
    if let Some(policy) = &options.terms.policy {
        let judged = policy.judge(&note);
        for bad in &judged.bad {
            find(log, Check::Witness, bundle::CHECKPOINT, "valid cosignatures", bad);
        }
        log.witnesses = judged.shown();
        if !judged.is_satisfied && judged.bad.is_empty() {
            let why = format!("the witnesses the policy asks for have not cosigned: {}", judged.missing());
            log.unmet = Some(why.clone());
            log.unchecked.push(why);
        }
    }
}

/// A saved checkpoint of the same size must have the same root; of other sizes a bundle can't tell.
fn check_saved(saved: &str, history: &KeyHistory, checkpoint: &Checkpoint, log: &mut LogReport) {
    match history.open(saved) {
        Ok(saved) if saved.size != checkpoint.size => log.unchecked.push(format!(
            "the saved checkpoint of size {}: a bundle is at one size, {}; verify the log, or get the consistency proof",
            saved.size, checkpoint.size
        )),
        Ok(saved) if saved.root == checkpoint.root => log.saved_checkpoints += 1,
        Ok(saved) => {
            let at = format!("saved checkpoint of size {}", saved.size);
            find(log, Check::SavedCheckpoint, at, format!("root {}", saved.root.to_base64()), checkpoint.root.to_base64());
        }
        Err(error) => find(log, Check::SavedCheckpoint, "saved checkpoint", "a valid signature of this log", error),
    }
}

pub(crate) fn find(
    log: &mut LogReport,
    check: Check,
    at: impl std::fmt::Display,
    expected: impl std::fmt::Display,
    found: impl std::fmt::Display,
) {
    let finding =
        Finding { check, at: at.to_string(), expected: expected.to_string(), found: found.to_string() };
    if log.findings.len() < FINDINGS_MAX && !log.findings.contains(&finding) {
        log.findings.push(finding);
    }
}
