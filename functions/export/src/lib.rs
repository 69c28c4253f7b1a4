//! The export function: it writes a tenant's sealed events into a file, in the order of the log.
//!
//! An export's record says which leaves; the file is made from them alone, in a spool, and put under a name that follows from
//! the record, if that is free. So a crash leaves either no file, and another run makes it from the beginning, or the file, and
//! another run finds it. Of two runs at once only one has the record's claim; one that loses it stops.
//!
//! It reads locked objects and writes files of exports, nothing else. Who may ask for one is not its concern.

mod file;
mod rows;

use crate::file::Spool;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stele::access::Tenant;
use stele::bundle::BundleRequest;
use stele::error::{Code, Error, Kind, Result};
use stele::export::{Claiming, Export, ExportErrand, ExportedFile, Format};
use stele::limits;
use stele::ports::{
    ArchiveIndex, Clock, ExportFiles, Exports, Heads, LockedObjects, Random, Spooled, Tenants,
};
use stele::time::Timestamp;
use stele_adapters::bundle::{BundleLimits, write_bundle};
use stele_adapters::retry::{ATTEMPTS_MAX, retrying};

/// How often a worker says how far it is.
const SAID_EVERY_MS: u64 = 5 * 1000;

/// Makes exports. Clients live as long as it does: make one per cold start.
pub struct Exporter {
    /// What is to be done.
    pub exports: Arc<dyn Exports>,
    /// Where files go.
    pub files: Arc<dyn ExportFiles>,
    /// The tenants on record.
    pub tenants: Arc<dyn Tenants>,
    /// Heads and the segment index.
    pub heads: Arc<dyn Heads>,
    /// The archive index.
    pub archive: Arc<dyn ArchiveIndex>,
    /// Segments and files of the archive.
    pub objects: Arc<dyn LockedObjects>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names workers.
    pub random: Arc<dyn Random>,
    /// A folder for files under way.
    pub spool: PathBuf,
}

/// What came of an errand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file is there.
    Done(ExportedFile),
    /// It can't be made; the record says why.
    Failed,
    /// Nothing was left to do.
    Over,
    /// Somebody else has it: the errand has to come again, in case they crash.
    Busy,
}

/// Why work on an export ends early.
enum Stop {
    /// Somebody else has its claim now.
    Lost,
    /// The time of this run is over at this leaf.
    OutOfTime(u64),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

impl Exporter {
    /// Runs an errand until the file is there, or the time has come. It may be cut off anywhere and repeated.
    ///
    /// # Errors
    /// What a later run may not meet again. What it would is the export's failure.
    pub async fn handle(&self, errand: &ExportErrand, until: Timestamp) -> Result<Outcome> {
        let tenant = self.tenant(errand).await?;
        let Some(export) = retrying(|| self.exports.export(&tenant, &errand.export)).await? else {
            tracing::warn!(tenant = %errand.tenant, export = errand.export, "an errand to an export there is not");
            return Ok(Outcome::Over);
        };
        let by = format!("{:032x}", self.random.bits());
        let claimed = match export.claim(&by, self.clock.now()) {
            Claiming::Over => return Ok(Outcome::Over),
            Claiming::Busy(_) => return Ok(Outcome::Busy),
            Claiming::GivenUp(given_up) => {
                return Ok(match self.swap(&tenant, &export, &given_up).await? {
                    true => Outcome::Failed,
                    false => Outcome::Busy,
                });
            }
            Claiming::Claimed(claimed) => *claimed,
        };
        if !self.swap(&tenant, &export, &claimed).await? {
            return Ok(Outcome::Busy);
        }
        let mut work =
            Work { exporter: self, tenant: &tenant, said_at: self.clock.now(), export: claimed, until };
        match work.run().await {
            Ok(file) => Ok(Outcome::Done(file)),
            Err(Stop::Lost) => Ok(Outcome::Busy),
            Err(Stop::OutOfTime(at)) => {
                let detail = format!(
                    "it came to leaf {at} of {} in the time one run has: narrow it down by `from` and `to`, or export what \
                     follows from there with `since`",
                    work.export.end
                );
                work.fail(Code::ExportTooLarge.as_str(), detail).await
            }
            Err(Stop::Error(error)) => match error.kind() {
                // Nothing is known to be wrong with it: somebody begins again, at once if this can still be said.
                Kind::Unavailable | Kind::Overloaded => {
                    let given_back = work.export.given_back();
                    if let Err(error) = self.swap(&tenant, &work.export, &given_back).await {
                        tracing::warn!(%error, "an export was not given back: its claim ends by itself");
                    }
                    Err(error)
                }
                Kind::Invalid | Kind::Unauthorized | Kind::NotFound | Kind::Conflict => {
                    work.fail(error.code().as_str(), error.detail().to_owned()).await
                }
                Kind::Corrupt | Kind::Internal => {
                    tracing::error!(tenant = %tenant.id(), export = work.export.id, %error, "an export failed");
                    work.fail(error.code().as_str(), error.detail().to_owned()).await
                }
            },
        }
    }

    async fn tenant(&self, errand: &ExportErrand) -> Result<Tenant> {
        let record = retrying(|| self.tenants.tenant(&errand.tenant)).await?;
        let at = || Error::corrupt(format!("an errand to `{}`", errand.tenant), "a tenant on record", "none");
        Tenant::on_record(record.ok_or_else(at)?)
    }

    /// Puts a record in place of the one it follows from, and says whether it is there then. An answer that is lost is found
    /// by what is there.
    async fn swap(&self, tenant: &Tenant, from: &Export, to: &Export) -> Result<bool> {
        let mut attempt = 1;
        loop {
            match self.exports.replace_export(tenant, from.revision, to).await {
                Ok(true) => return Ok(true),
                Ok(false) => {
                    let there = retrying(|| self.exports.export(tenant, &to.id)).await?;
                    return Ok(there.as_ref() == Some(to));
                }
                Err(error) if error.kind() == Kind::Unavailable && attempt < ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// An export that is being made.
struct Work<'a> {
    exporter: &'a Exporter,
    tenant: &'a Tenant,
    /// Its record as this worker last wrote it.
    export: Export,
    said_at: Timestamp,
    until: Timestamp,
}

impl Work<'_> {
    async fn run(&mut self) -> std::result::Result<ExportedFile, Stop> {
        let exporter = self.exporter;
        let key = self.export.key(self.tenant.id());
        // Whoever put it did not come to say so.
        let found = retrying(|| exporter.files.exported(&key)).await?;
        let file = match found {
            Some(file) => file,
            None => {
                let by = self.export.claim.as_ref().map_or("", |claim| claim.by.as_str());
                let spool = Spool::new(exporter.spool.join(format!("{}-{by}", self.export.id)));
                let (file, spooled) = match self.export.selection.format {
                    Format::Evidence => self.bundle(&spool).await?,
                    Format::Csv | Format::JsonLines | Format::Parquet | Format::Ocsf => {
                        self.rows(&spool).await?
                    }
                };
                // The whole lease is there for the put.
                self.say(self.export.leaves(), true).await?;
                // A crash after this leaves the file under its name: the next run finds it above.
                match retrying(|| exporter.files.put_export(&key, &spooled, &file)).await? {
                    true => file,
                    // Somebody was faster, or this is our own lost answer.
                    false => {
                        let there = retrying(|| exporter.files.exported(&key)).await?;
                        there.ok_or_else(|| Error::unavailable(format!("`{key}` was there and is gone")))?
                    }
                }
            }
        };
        let finished = self.export.finished(file.clone(), exporter.clock.now());
        match exporter.swap(self.tenant, &self.export, &finished).await? {
            true => Ok(file),
            false => Err(Stop::Lost),
        }
    }

    async fn fail(&self, code: &str, detail: String) -> Result<Outcome> {
        let failed = self.export.failed(code, detail, self.exporter.clock.now());
        match self.exporter.swap(self.tenant, &self.export, &failed).await? {
            true => Ok(Outcome::Failed),
            false => Ok(Outcome::Busy),
        }
    }

    /// Says how many leaves are done, now and then or at once, which renews the claim.
    async fn say(&mut self, done: u64, at_once: bool) -> std::result::Result<(), Stop> {
        let now = self.exporter.clock.now();
        if now >= self.until {
            return Err(Stop::OutOfTime(self.export.first + done));
        }
        if !at_once && now < self.said_at.plus_ms(SAID_EVERY_MS) {
            return Ok(());
        }
        let next = self.export.progressed(done, now);
        if !self.exporter.swap(self.tenant, &self.export, &next).await? {
            return Err(Stop::Lost);
        }
        (self.export, self.said_at) = (next, now);
        Ok(())
    }

    async fn bundle(&mut self, spool: &Spool) -> std::result::Result<(ExportedFile, Spooled), Stop> {
        let exporter = self.exporter;
        let (first, end) = (self.export.first, self.export.end);
        let selection = &self.export.selection;
        let request = BundleRequest {
            filter: selection.filter.clone(),
            covering: selection.covering,
            from_leaf: Some(first).filter(|first| *first > 0),
            until_leaf: Some(end),
        };
        let head = retrying(|| exporter.heads.head(self.tenant)).await?;
        let checkpoint = head.map(|head| head.checkpoint);
        let limits = BundleLimits { leaves: u64::MAX, read: u64::MAX, bytes: limits::EXPORT_FILE_BYTES_MAX };
        // Each leaf is looked at twice, and the log's others are none of ours.
        let (read, total) = (AtomicU64::new(0), AtomicU64::new(0));
        let progress = |so_far: u64, of: u64| {
            read.store(so_far, Ordering::Relaxed);
            total.store(of, Ordering::Relaxed);
        };
        let mut writing = std::pin::pin!(write_bundle(
            exporter.objects.clone(),
            self.tenant.id(),
            self.tenant.log(),
            &request,
            // Times the filter counts from now count from when it was asked for.
            Timestamp::from_ms(self.export.created_ms),
            checkpoint.as_deref(),
            Some(limits),
            spool.path(),
            &progress,
        ));
        let written = loop {
            tokio::select! {
                written = &mut writing => break written?,
                () = tokio::time::sleep(Duration::from_millis(SAID_EVERY_MS)) => {
                    let (read, total) = (read.load(Ordering::Relaxed), total.load(Ordering::Relaxed));
                    let leaves = u128::from(self.export.leaves()) * u128::from(read) / u128::from(total.max(1));
                    self.say(leaves as u64, false).await?;
                }
            }
        };
        let file = ExportedFile {
            bytes: written.bytes,
            sha256: written.sha256.to_string(),
            events: written.matches,
            first,
            end: written.looked_to.to_u64(),
            expired: written.expired,
        };
        let spooled = Spooled { path: spool.path().to_owned(), bytes: written.bytes, sha256: written.sha256 };
        Ok((file, spooled))
    }
}
