//! What verification found, in words that can't be misread.

use crate::Terms;
use serde::Serialize;
use stele::access::LogNumber;
use stele::id::TenantId;
use stele::time::Timestamp;
use stele::tlog::hash::Hash;

/// What can be said of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything asked was checked and holds.
    Proven,
    /// Something asked could not be checked; nothing that was checked is wrong.
    CouldNotCheck,
    /// Something is wrong, and the findings say where.
    Refuted,
}

impl Verdict {
    /// The exit code of a command that ends with it.
    pub const fn exit_code(self) -> u8 {
        match self {
            Verdict::Proven => 0,
            Verdict::Refuted => 1,
            Verdict::CouldNotCheck => 2,
        }
    }

    /// As printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Proven => "proven",
            Verdict::Refuted => "refuted",
            Verdict::CouldNotCheck => "could not check",
        }
    }
}

/// On what the signatures were believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// A key the caller brought.
    PinnedKey,
    /// A key that lay beside what it signs: it proves that all is of one hand, not of whose.
    #[default]
    KeyFromFolder,
}

/// On what a statement is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StatedBy {
    /// A key for statements that the caller brought.
    PinnedKey,
    /// A key that lay beside it, like the log's own.
    #[default]
    KeyFromFolder,
    /// A key that lay beside it, while the caller brought one for the log: whoever handed both over may have made it.
    NoPinnedKey,
}

/// What is claimed of a log, each judged on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// What is there is what was signed.
    Integrity,
    /// Nothing is left out.
    Completeness,
    /// Nothing came after it.
    Freshness,
}

/// What a check looks at. Its name is what tests, scripts and people call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Signatures, by keys that may have made them.
    Signature,
    /// Which key signs from when on.
    Key,
    /// Roots recomputed from leaves and hashes.
    Root,
    /// Hashes of files, as manifests have them.
    FileHash,
    /// Files themselves: that they can be read, and that every column says what its leaf says.
    Body,
    /// That all belongs to one log.
    Origin,
    /// Times that only grow.
    Time,
    /// Locks, as long as they must be.
    Lock,
    /// What manifests list, and that they are there.
    Manifest,
    /// A proof.
    Proof,
    /// A receipt.
    Receipt,
    /// The container itself, byte for byte.
    Container,
    /// Leaf indexes one after the other.
    Contiguity,
    /// Each id once.
    DuplicateId,
    /// Objects that should be there.
    Missing,
    /// Numbers that are told.
    Count,
    /// Which events match what was asked for.
    Filter,
    /// Checkpoints that were saved before.
    SavedCheckpoint,
    /// Statements of until when nothing came after.
    Statement,
    /// Cosignatures of witnesses.
    Witness,
    /// Objects that nothing of ours is named after.
    Stranger,
}

impl Check {
    /// The claim that is refuted where this check finds something.
    pub const fn claim(self) -> Claim {
        match self {
            Check::Signature
            | Check::Key
            | Check::Root
            | Check::FileHash
            | Check::Body
            | Check::Origin
            | Check::Time
            | Check::Lock
            | Check::Manifest
            | Check::Proof
            | Check::Receipt
            | Check::Container
            | Check::SavedCheckpoint
            | Check::Witness
            | Check::Stranger => Claim::Integrity,
            Check::Contiguity | Check::DuplicateId | Check::Missing | Check::Count | Check::Filter => {
                Claim::Completeness
            }
            Check::Statement => Claim::Freshness,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check found it.
    pub check: Check,
    /// Where: an object's key, or a leaf in it.
    pub at: String,
    /// What should be there.
    pub expected: String,
    /// What is.
    pub found: String,
}

/// What was found about one log.
#[derive(Clone, Debug, Serialize)]
pub struct LogReport {
    /// Whose log.
    pub tenant: String,
    /// Its generation.
    pub log: u32,
    /// Its origin, as the first of its files says.
    pub origin: Option<String>,
    /// All in all: the worst of what was asked.
    pub verdict: Verdict,
    /// Whether what is there is what was signed.
    pub integrity: Verdict,
    /// Whether nothing is left out.
    pub completeness: Verdict,
    /// Whether nothing came after it, as of `stated_at`. It counts only if an age was asked for.
    pub freshness: Verdict,
    /// Leaves under a valid signed checkpoint, whose root was recomputed from them. Those that expired are not counted.
    pub leaves_proven: u64,
    /// The root at that size, in base64 as in the checkpoint.
    pub root: Option<String>,
    /// Leaves whose files expired. Nothing is known of them but hashes, which lead to the roots that were signed.
    pub leaves_expired: u64,
    /// Leaves after the last checkpoint: read and consistent, but signed by nobody yet.
    pub leaves_unsigned: u64,
    /// Files of the archive read.
    pub archive_files: u64,
    /// Tiles read: the hashes that outlive leaves.
    pub tiles: u64,
    /// Segments read.
    pub segments: u64,
    /// Checkpoints whose signature and root are right.
    pub checkpoints: u64,
    /// Manifests whose signature, edge and file hashes are right.
    pub manifests: u64,
    /// Changes of the log's key that its keys signed.
    pub key_changes: u64,
    /// Statements whose signatures and root are right.
    pub statements: u64,
    /// When the latest of them says that nothing came after its checkpoint.
    #[serde(serialize_with = "time")]
    pub stated_at: Option<Timestamp>,
    /// The size of that checkpoint.
    pub stated_size: Option<u64>,
    /// When its last segment was sealed, by its own word.
    #[serde(serialize_with = "time")]
    pub sealed_at: Option<Timestamp>,
    /// The leaf hash of the event that was looked for, and whether it lies under a valid signed checkpoint.
    #[serde(skip)]
    pub found: Option<(Hash, bool)>,
    /// What the policy for witnesses asks for and is not there.
    #[serde(skip)]
    pub unmet: Option<String>,
    /// Days between the first and the last statement on which there is none.
    pub unstated: Vec<String>,
    /// On what the statement is believed.
    pub stated_by: StatedBy,
    /// Witnesses that cosigned it, by the policy that was given.
    pub witnesses: Vec<String>,
    /// Saved checkpoints the log still contains.
    pub saved_checkpoints: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
}

impl LogReport {
    /// Of a log of which nothing was read yet.
    pub fn new(tenant: &TenantId, log: LogNumber) -> LogReport {
        LogReport {
            tenant: tenant.as_str().to_owned(),
            log: log.0,
            origin: None,
            verdict: Verdict::CouldNotCheck,
            integrity: Verdict::CouldNotCheck,
            completeness: Verdict::CouldNotCheck,
            freshness: Verdict::CouldNotCheck,
            leaves_proven: 0,
            root: None,
            leaves_expired: 0,
            leaves_unsigned: 0,
            archive_files: 0,
            tiles: 0,
            segments: 0,
            checkpoints: 0,
            manifests: 0,
            key_changes: 0,
            statements: 0,
            stated_at: None,
            stated_size: None,
            sealed_at: None,
            found: None,
            unmet: None,
            unstated: Vec::new(),
            stated_by: StatedBy::default(),
            witnesses: Vec::new(),
            saved_checkpoints: 0,
            findings: Vec::new(),
            unchecked: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Judges each claim, and all in all.
    pub(crate) fn judge(&mut self, terms: &Terms) {
        let refuted = |claim| self.findings.iter().any(|finding| finding.check.claim() == claim);
        // A log without leaves is one of which somebody signed that it has none; without that word it is nothing at all.
        let is_stated_empty = self.statements > 0
            && (self.stated_size, self.leaves_expired, self.leaves_unsigned) == (Some(0), 0, 0)
            && self.segments + self.archive_files + self.tiles == 0;
        let is_empty = self.leaves_proven == 0 && !is_stated_empty;
        let could_not = is_empty || self.leaves_unsigned > 0 || !self.unchecked.is_empty();
        let judged = |claim| match (refuted(claim), could_not) {
            (true, _) => Verdict::Refuted,
            (false, true) => Verdict::CouldNotCheck,
            (false, false) => Verdict::Proven,
        };
        (self.integrity, self.completeness) = (judged(Claim::Integrity), judged(Claim::Completeness));
        let by_nobody = self.stated_by == StatedBy::NoPinnedKey;
        let is_fresh = terms.is_fresh(self.stated_at.filter(|_| !by_nobody));
        if by_nobody && is_fresh.is_some() && self.stated_at.is_some() {
            let told = "whose statement it is rests on a key that came with it: pin that too, --public-key statements:…";
            if !self.notes.iter().any(|note| note == told) {
                self.notes.push(told.to_owned());
            }
        }
        self.freshness = match (refuted(Claim::Freshness), is_fresh) {
            (true, _) => Verdict::Refuted,
            (false, Some(true)) => Verdict::Proven,
            (false, Some(false) | None) => Verdict::CouldNotCheck,
        };
        let mut asked = vec![self.integrity, self.completeness];
        // Nobody has to ask for freshness to be told that a statement is a lie.
        if is_fresh.is_some() || self.freshness == Verdict::Refuted {
            asked.push(self.freshness);
        }
        self.verdict = asked.into_iter().max().unwrap_or(Verdict::CouldNotCheck);
    }
}

fn time<S: serde::Serializer>(time: &Option<Timestamp>, s: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => s.collect_str(time),
        None => s.serialize_none(),
    }
}

/// What was found in all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// On what the signatures were believed.
    pub basis: Basis,
    /// Each log.
    pub logs: Vec<LogReport>,
    /// What is wrong outside of any log.
    pub findings: Vec<Finding>,
    /// What could not be checked outside of any log.
    pub unchecked: Vec<String>,
}

impl Report {
    /// Of something that is not what it should be at all.
    pub fn refuted(at: &str, error: &stele::Error) -> Report {
        let finding = Finding {
            check: Check::Container,
            at: at.to_owned(),
            expected: "what it is said to be".to_owned(),
            found: error.detail().to_owned(),
        };
        Report { findings: vec![finding], ..Report::default() }
    }

    /// All in all. Nothing found is nothing checked, never green.
    pub fn verdict(&self) -> Verdict {
        let worst = self.logs.iter().map(|l| l.verdict).max();
        if !self.findings.is_empty() {
            return Verdict::Refuted;
        }
        match worst {
            None => Verdict::CouldNotCheck,
            Some(worst) if !self.unchecked.is_empty() => worst.max(Verdict::CouldNotCheck),
            Some(worst) => worst,
        }
    }

    /// A saved checkpoint must belong to one of the logs.
    pub(crate) fn check_saved(&mut self, since: &[String]) {
        let known = |text: &str| {
            let origin = text.lines().next().unwrap_or_default();
            self.logs.iter().any(|l| l.origin.as_deref() == Some(origin))
        };
        let strangers = since.iter().filter(|text| !known(text));
        let strangers: Vec<Finding> = strangers
            .map(|text| Finding {
                check: Check::SavedCheckpoint,
                at: format!("saved checkpoint of `{}`", text.lines().next().unwrap_or_default()),
                expected: "the log it was taken from".to_owned(),
                found: "no log of that origin".to_owned(),
            })
            .collect();
        self.findings.extend(strangers);
    }
}
