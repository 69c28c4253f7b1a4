//! The verifier: it re-derives every leaf hash, root, checkpoint, manifest and file hash from locked objects
//! alone. It asks no database, trusts no cache, and never writes.

mod report;
mod html;
mod ids;
mod log;
mod trust;
mod gaps;
mod walk;
mod statements;
mod stated;
mod bundle;
mod single;

pub use bundle::{VerifiedBundle, verify_bundle};
pub use html::html;
pub use report::{Basis, Check, Claim, Finding, LogReport, Report, StatedBy, Verdict};
pub use single::{Evidence as ReceiptEvidence, ProofFile, judge_receipt, verify_proof};

use log::LogCheck;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stele::access::LogNumber;
use stele::error::{Error, Result};
use stele::id::{EventId, TenantId};
use stele::layout::{Object, ObjectKey, PUBLIC_KEYS};
use stele::ports::{ArchiveObjects, ListedObject, LockedObjects};
use stele::public_key::{PublicKey, PublishedKeys};
use stele::time::Timestamp;
use stele::tlog::policy::Policy;

/// Findings listed for one log; a file that is wrong from end to end needs no more.
pub(crate) const FINDINGS_MAX: usize = 100;
/// Keys listed at once.
const LIST_PAGE: usize = 1_000;
/// How long a log that is being written may stay without a checkpoint for its newest leaves.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What is verified. Nothing is written through either.
#[derive(Clone)]
pub struct Evidence {
    /// The locked objects.
    pub objects: Arc<dyn LockedObjects>,
    /// Whoever knows their locks without reading them: a file of the archive is too large to be read for that.
    pub states: Arc<dyn ArchiveObjects>,
}

impl Evidence {
    /// What one store holds.
    pub fn of<T: LockedObjects + ArchiveObjects + 'static>(store: Arc<T>) -> Evidence {
        Evidence { objects: store.clone(), states: store }
    }
}

/// What to verify against.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Public keys for checkpoints that are trusted; without any, those in the folder are used and the report says so.
    pub pinned: Vec<PublicKey>,
    /// Public keys for statements that are trusted. Where `pinned` is given and these are not, freshness is never proven.
    pub pinned_statements: Vec<PublicKey>,
    /// By which a verdict is reached.
    pub terms: Terms,
    /// Checkpoints saved earlier, as signed notes: the log must still contain them.
    pub since: Vec<String>,
    /// Only this tenant.
    pub tenant: Option<TenantId>,
}

impl Options {
    /// The keys that are believed: those that were pinned over those that lay beside what they sign.
    fn over(&self, found: PublishedKeys) -> PublishedKeys {
        let or = |pinned: &Vec<PublicKey>, found| if pinned.is_empty() { found } else { pinned.clone() };
        PublishedKeys {
            checkpoints: or(&self.pinned, found.checkpoints),
            statements: or(&self.pinned_statements, found.statements),
            receipts: found.receipts,
        }
    }

    /// On what a statement is believed.
    fn stated_by(&self) -> StatedBy {
        match (self.pinned.is_empty(), self.pinned_statements.is_empty()) {
            (_, false) => StatedBy::PinnedKey,
            (true, true) => StatedBy::KeyFromFolder,
            (false, true) => StatedBy::NoPinnedKey,
        }
    }
}

/// By which a verdict is reached, beside what is always checked.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The time, where freshness is asked for.
    pub now: Option<Timestamp>,
    /// How old the latest statement may be; freshness counts only if this is asked for.
    pub max_age_ms: Option<u64>,
    /// Which witnesses must have cosigned the latest statement.
    pub policy: Option<Policy>,
    /// An event to look for on the way.
    pub looked_for: Option<EventId>,
    /// Nobody writes to it meanwhile: what is said must be there.
    pub is_at_rest: bool,
}

/// Hears how far it got: (objects checked, objects found so far).
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Verifies everything. An error means that something could not be read; what was read and is wrong is in the
/// report.
pub async fn verify(evidence: &Evidence, options: &Options, progress: Progress<'_>) -> Result<Report> {
    let objects = &*evidence.objects;
    let mut report = Report::default();
    let mut logs = BTreeMap::<(TenantId, LogNumber), Vec<ListedObject>>::new();
    let mut found = 0;
    for object in list_all(objects, "").await? {
        found += 1;
        match ObjectKey::parse(&object.key) {
            Some(
                Object::Segment { tenant, log, .. }
                | Object::Archive { tenant, log, .. }
                | Object::Tiles { tenant, log, .. }
                | Object::Checkpoint { tenant, log, .. }
                | Object::ArchiveManifest { tenant, log, .. }
                | Object::Manifest { tenant, log, .. }
                | Object::KeyChange { tenant, log, .. }
                | Object::Statement { tenant, log, .. },
            ) => logs.entry((tenant, log)).or_default().push(object),
            Some(Object::PublicKey { .. } | Object::WrappedSecret { .. }) => {}
            None => report.findings.push(Finding {
                check: Check::Stranger,
                at: object.key,
                expected: "no such object".to_owned(),
                found: format!("{} bytes that nothing of ours is named after", object.bytes),
            }),
        }
    }
    let keys = trusted_keys(objects, options, &mut report).await?;
    let mut checked = 0;
    let mut checks = Vec::with_capacity(logs.len());
    for ((tenant, log), listed) in logs {
        if options.tenant.as_ref().is_some_and(|only| only != &tenant) {
            continue;
        }
        let count = listed.len() as u64;
        let base = checked;
        let mut check = LogCheck::new(evidence, &keys, &options.terms, &options.since, tenant, log);
        check.report.stated_by = options.stated_by();
        check.run(&|done| progress(base + done, found)).await?;
        checked += count;
        progress(checked, found);
        checks.push(check);
    }
    if checks.iter().any(LogCheck::has_unsigned) {
        // A log may be in the middle of being written: its checkpoint comes moments after its segment.
        tokio::time::sleep(PATIENCE).await;
    }
    for mut check in checks {
        if check.has_unsigned() {
            check.run_to_last_statement(&|_| progress(checked, found)).await?;
        }
        report.logs.push(check.into_report());
    }
    report.check_saved(&options.since);
    Ok(report)
}

async fn trusted_keys(
    objects: &dyn LockedObjects,
    options: &Options,
    report: &mut Report,
) -> Result<PublishedKeys> {
    let mut stored = PublishedKeys::default();
    for object in list_all(objects, PUBLIC_KEYS).await? {
        let bytes = read(objects, &object.key).await?;
        match bytes.as_deref().and_then(PublicKey::from_file) {
            Some((purpose, key)) if key.object_key().as_str() == object.key => {
                stored.push(purpose, key);
            }
            _ => report.findings.push(Finding {
                check: Check::Key,
                at: object.key,
                expected: "the public key its name says".to_owned(),
                found: "something else".to_owned(),
            }),
        }
    }
    report.basis = if options.pinned.is_empty() { Basis::KeyFromFolder } else { Basis::PinnedKey };
    Ok(options.over(stored))
}

/// All objects with a prefix.
pub(crate) async fn list_all(objects: &dyn LockedObjects, prefix: &str) -> Result<Vec<ListedObject>> {
    let mut all: Vec<ListedObject> = Vec::new();
    loop {
        let after = all.last().map(|o| o.key.clone());
        let page = objects.list(prefix, after.as_deref(), LIST_PAGE).await?;
        let last = page.len() < LIST_PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

async fn read(objects: &dyn LockedObjects, key: &str) -> Result<Option<bytes::Bytes>> {
    let parsed = ObjectKey::parse(key).ok_or_else(|| Error::corrupt(key, "a key of ours", "another"))?;
    Ok(objects.object(&parsed.key()).await?.map(|o| o.bytes))
}
