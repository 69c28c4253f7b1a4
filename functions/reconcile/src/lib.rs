//! The reconcile function: every day, for every tenant, it holds the log against the hot store, and the archive against
//! its index.
//!
//! It changes no object and no record. What is missing in the log it hands to sealing, what waits too long to compact;
//! what differs, or went before its time, it tells. Of the archive's files whose time was over it puts one event each into
//! the tenant's log. It runs beside everything else: whatever it finds, it finds again, and a crash anywhere costs a
//! repetition.

mod sum;
mod leaves;
mod hot;
mod day;
mod waiting;
mod expiry;
#[cfg(test)]
mod tests;

use day::Verdict;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use stele::access::{Secrets, Tenant};
use stele::errand::Errand;
use stele::error::{Error, Kind, Result};
use stele::id::TenantId;
use stele::limits;
use stele::ports::{
    ArchiveIndex, ArchiveObjects, Clock, ColdStore, Heads, HotStore, LockedObjects, Outbox, Reconciled,
    Tenants, Watermarks,
};
use stele::time::{DAY_MS, Day, Timestamp};

/// How long after its end a day is closed: clocks differ, and a record may be on its way into the hot store with the time
/// it was received at.
pub const CLOSED_AFTER_MS: u64 = 60 * 60 * 1000;
/// Tenants listed at once.
const TENANT_PAGE: usize = 1_000;
/// Messages on their way at the same time.
const SENDS_AT_ONCE: usize = 8;
/// What a problem begins with that later days don't mend: it stays said.
const NEVER_COMPARED: &str = "never compared: ";

/// Reconciles. Clients and caches live as long as it does: make one per cold start.
pub struct Reconcile {
    /// What was accepted; and where events of the log's own go.
    pub hot: Arc<dyn HotStore>,
    /// How long logs are, and the segment index.
    pub heads: Arc<dyn Heads>,
    /// Segments and the archive's files, to read and to list.
    pub objects: Arc<dyn LockedObjects>,
    /// To look at one object's lock, and to lengthen it.
    pub locks: Arc<dyn ArchiveObjects>,
    /// The archive index.
    pub archive: Arc<dyn ArchiveIndex>,
    /// How far each tenant is proven.
    pub watermarks: Arc<dyn Watermarks>,
    /// The tenants on record.
    pub tenants: Arc<dyn Tenants>,
    /// Whether an event of long ago is in the log already.
    pub cold: Arc<dyn ColdStore>,
    /// Where sealing takes records from that it missed.
    pub parking: Arc<dyn Outbox>,
    /// Where compact takes its errands from.
    pub compaction: Arc<dyn Outbox>,
    /// Which days are closed.
    pub clock: Arc<dyn Clock>,
    /// Ids of events of the log's own.
    pub secrets: Secrets,
}

/// What a visit to a tenant found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// Days that are proven since this visit.
    pub days: u64,
    /// Whether all closed days are proven.
    pub current: bool,
    /// Whether a week of closed days or more is not proven.
    pub behind: bool,
    /// Records that were not in the log: handed to sealing.
    pub missing: u64,
    /// Ids whose record is in the log as another, or more than once.
    pub differing: u64,
    /// Records in the log that the hot store should still have.
    pub forgotten: u64,
    /// Segments not archived after three weeks, whose locks were seen to.
    pub overdue: u64,
    /// Files of the archive recorded as expired.
    pub expired: u64,
    /// Objects that are gone before their time.
    pub lost: u64,
    /// Files of the archive that its index does not know.
    pub unindexed: u64,
    /// Parts of the visit that met what can't be: told in the log, to be looked at by people.
    pub faults: u64,
    /// The time was up before everything was looked at: come again.
    pub cut_short: bool,
}

impl Reconciliation {
    /// Whether coming again begins further on.
    pub fn progressed(&self) -> bool {
        self.days > 0 || self.expired > 0
    }
}

/// A visit under way.
struct Visit<'a> {
    tenant: &'a Tenant,
    now: Timestamp,
    deadline: Timestamp,
    done: Reconciliation,
    problems: Vec<String>,
}

impl Visit<'_> {
    /// Writes down what stands against the tenant.
    fn problem(&mut self, problem: String) {
        tracing::error!(tenant = %self.tenant.id(), problem, "found while reconciling");
        self.problems.push(problem);
    }

    /// Goes on after a part that met corruption, which is there tomorrow too and must not hide what else there is. What may
    /// be gone the next time ends the visit.
    fn bear<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.kind() == Kind::Corrupt => {
                self.done.faults += 1;
                self.problem(error.detail().to_owned());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Reconcile {
    /// Sends somebody to every tenant, and says to how many. Being called twice costs a look each.
    ///
    /// # Errors
    /// `unavailable`, after some errands were sent.
    pub async fn plan(&self, queue: &dyn Outbox) -> Result<u64> {
        let mut sent = 0;
        let mut after: Option<TenantId> = None;
        loop {
            let page = self.tenants.tenants(after.as_ref(), TENANT_PAGE).await?;
            let ids: Vec<TenantId> = page.iter().filter_map(|r| TenantId::parse(&r.tenant_id)).collect();
            let sends: Vec<_> =
                ids.iter().map(|id| queue.send(Errand::to((*id).clone()).message()).boxed()).collect();
            sent += sends.len() as u64;
            stream::iter(sends).buffer_unordered(SENDS_AT_ONCE).try_collect::<Vec<()>>().await?;
            match ids.last() {
                Some(last) if page.len() == TENANT_PAGE => after = Some(last.clone()),
                _ => return Ok(sent),
            }
        }
    }

    /// Visits a tenant. When the deadline has passed no further step begins, and the visit says so.
    ///
    /// # Errors
    /// `unavailable`: what was found until then is kept, and the next visit goes on from there. `not_found` if there is no
    /// such tenant.
    pub async fn reconcile(&self, tenant: &TenantId, deadline: Timestamp) -> Result<Reconciliation> {
        let record = self.tenants.tenant(tenant).await?;
        let record = record
            .ok_or_else(|| Error::new(stele::Code::NotFound, format!("no tenant `{tenant}` is on record")))?;
        let tenant = Tenant::on_record(record)?;
        let done = Reconciliation::default();
        let mut visit =
            Visit { tenant: &tenant, now: self.clock.now(), deadline, done, problems: Vec::new() };
        // What can't wait comes first: a lock that ends takes its segment along.
        let tended = self.tend_waiting(&mut visit).await;
        visit.bear(tended)?;
        let expired = self.record_expired_files(&mut visit).await;
        visit.bear(expired)?;
        let forgotten = self.forget_segments(&visit).await;
        visit.bear(forgotten)?;
        self.prove_days(&mut visit).await?;
        Ok(visit.done)
    }

    /// Looks at all closed days that are not proven, in order, so that what is missing anywhere is handed to sealing at once;
    /// the watermark moves up to the first one that is not proven now.
    async fn prove_days(&self, visit: &mut Visit<'_>) -> Result<()> {
        let before = self.watermarks.reconciled(visit.tenant).await?;
        let never_compared =
            before.iter().flat_map(|b| &b.problems).filter(|problem| problem.starts_with(NEVER_COMPARED));
        let mut never_compared: Vec<String> = never_compared.cloned().collect();
        let today = visit.now.day();
        let mut first = match &before {
            Some(reconciled) => reconciled.through.next(),
            // A tenant's first record is received a moment before the tenant is made, by a clock that may differ.
            None => {
                Timestamp::from_ms(visit.tenant.record().created_ms).minus_ms(limits::FUTURE_MS_MAX).day()
            }
        };
        let kept_from = Day::from_days((today.days() + 1).saturating_sub(visit.tenant.record().hot_days));
        if first < kept_from {
            let last = Day::from_days(kept_from.days() - 1);
            never_compared.push(format!(
                "{NEVER_COMPARED}{first} to {last}, of which the hot store has forgotten records"
            ));
            first = kept_from;
        }

        // Before the first day there is nothing to prove.
        let mut through = first.previous().unwrap_or_default();
        let last = last_closed(visit.now);
        let mut day = first;
        while last.is_some_and(|last| day <= last) {
            if self.clock.now() >= visit.deadline {
                visit.done.cut_short = true;
                break;
            }
            let verdict = self.compare_day(visit.tenant, day).await;
            let proven = self.judge(visit, day, verdict)?;
            if proven && through.next() == day {
                through = day;
                visit.done.days += 1;
                if last != Some(day) {
                    // A crash later leaves the days until here proven.
                    let so_far = Reconciled { through, at: visit.now, problems: never_compared.clone() };
                    self.watermarks.put_reconciled(visit.tenant, &so_far).await?;
                }
            }
            day = day.next();
        }

        visit.done.current = last.is_none_or(|last| through >= last);
        visit.done.behind = through.days() + limits::RECONCILE_MISSED_DAYS_MAX < today.days();
        let problems = [never_compared, std::mem::take(&mut visit.problems)].concat();
        let is_said = before.is_some_and(|before| before.through == through && before.problems == problems);
        let nothing_yet =
            through.next() == first && last.is_none_or(|last| first > last) && problems.is_empty();
        if !is_said && !nothing_yet {
            let reconciled = Reconciled { through, at: visit.now, problems };
            self.watermarks.put_reconciled(visit.tenant, &reconciled).await?;
        }
        Ok(())
    }

    /// Counts and tells what was found of a day; says whether the day is proven.
    fn judge(&self, visit: &mut Visit<'_>, day: Day, verdict: Result<Verdict>) -> Result<bool> {
        let verdict = verdict.map_err(|error| match error.kind() {
            Kind::Corrupt => {
                Error::new(error.code(), format!("{day}: {}", error.detail())).with_source(error)
            }
            _ => error,
        });
        let Some(verdict) = visit.bear(verdict)? else { return Ok(false) };
        visit.done.missing += verdict.missing;
        visit.done.differing += verdict.differing;
        visit.done.forgotten += verdict.forgotten;
        if verdict.missing > 0 {
            visit.problem(format!("{day}: {} records are not in the log yet", verdict.missing));
        }
        if verdict.differing > 0 {
            visit.problem(format!("{day}: {} ids differ between hot store and log", verdict.differing));
        }
        if verdict.forgotten > 0 {
            visit
                .problem(format!("{day}: {} records of the log are not in the hot store", verdict.forgotten));
        }
        Ok(verdict.missing == 0 && verdict.differing == 0)
    }
}

/// The last day that is closed.
fn last_closed(now: Timestamp) -> Option<Day> {
    now.minus_ms(CLOSED_AFTER_MS).day().previous()
}

/// The last moment of a day.
fn end_of(day: Day) -> Timestamp {
    day.start().plus_ms(DAY_MS - 1)
}
