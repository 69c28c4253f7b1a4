//! What verification found, in words that can't be misread.

use serde::Serialize;
use stele::access::LogNumber;
use stele::id::TenantId;

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

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
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
    /// All in all.
    pub verdict: Verdict,
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
    /// Saved checkpoints the log still contains.
    pub saved_checkpoints: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
}

impl LogReport {
    /// Of a log of which nothing was read yet.
    pub fn new(tenant: &TenantId, log: LogNumber) -> LogReport {
        LogReport {
            tenant: tenant.as_str().to_owned(),
            log: log.0,
            origin: None,
            verdict: Verdict::CouldNotCheck,
            leaves_proven: 0,
            root: None,
            leaves_expired: 0,
            leaves_unsigned: 0,
            archive_files: 0,
            tiles: 0,
            segments: 0,
            checkpoints: 0,
            manifests: 0,
            saved_checkpoints: 0,
            findings: Vec::new(),
            unchecked: Vec::new(),
        }
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
                at: format!("saved checkpoint of `{}`", text.lines().next().unwrap_or_default()),
                expected: "the log it was taken from".to_owned(),
                found: "no log of that origin".to_owned(),
            })
            .collect();
        self.findings.extend(strangers);
    }
}
