//! The local stand-in for the schedules, queues and lifecycle rules behind the archive: it plans and visits every hour,
//! reconciles and lets expire what may go every day, and runs errands as they come.

use crate::sealing::ForgettingGuard;
use std::sync::Arc;
use std::time::Duration;
use stele::access::Tenant;
use stele::errand::Errand;
use stele::error::Result;
use stele::id::TenantId;
use stele::limits;
use stele::ports::{Clock, Inbox, Outbox, Tenants, Watermarks};
use stele::time::{Day, Timestamp};
use stele_adapters::folder::LockedFolder;
use stele_adapters::memory_objects::MemoryObjects;
use stele_compact::{Compact, Visit};
use stele_reconcile::Reconcile;
use tokio::sync::watch;

/// How often errands are looked for.
const EVERY: Duration = Duration::from_millis(500);
/// Between two plans of compact.
const PLAN_EVERY_MS: u64 = 60 * 60 * 1000;
/// Days are reconciled so long after they are over.
const DAY_CLOSES_AFTER_MS: u64 = 90 * 60 * 1000;
/// A visit or a reconciliation gives others their turn after so long.
const TURN_MS: u64 = 10 * 60 * 1000;
/// Tenants listed at once.
const TENANTS: usize = 100;
/// Errands received at once.
const ERRANDS: usize = 16;

/// Where locked objects lie, by what only the runner may do with them.
#[derive(Clone)]
pub(crate) enum Locked {
    Folder(Arc<LockedFolder>),
    Memory(Arc<MemoryObjects>),
}

impl Locked {
    /// Removes what lifecycle rules would: only what is unlocked, not held, and has a tag that says so.
    async fn run_lifecycle(&self, now: Timestamp) -> Result<Vec<String>> {
        match self {
            Locked::Folder(folder) => folder.run_lifecycle(now).await,
            Locked::Memory(objects) => objects.run_lifecycle(now).await,
        }
    }
}

/// What one round over all tenants did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Leaves that went into the archive.
    pub archived: u64,
    /// Files they went into.
    pub files: u64,
    /// Tenants whose closed days are all proven.
    pub reconciled: u64,
    /// Tenants where something stands against that; the log says what.
    pub unreconciled: u64,
    /// Objects that went, their retention being over.
    pub expired: u64,
}

pub(crate) struct Archiving {
    pub(crate) compact: Compact,
    pub(crate) reconcile: Reconcile,
    pub(crate) locked: Locked,
    pub(crate) errands: Arc<dyn Outbox>,
    pub(crate) inbox: Arc<dyn Inbox>,
    pub(crate) tenants: Arc<dyn Tenants>,
    pub(crate) watermarks: Arc<dyn Watermarks>,
    pub(crate) guard: ForgettingGuard,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Archiving {
    /// Works until told to stop. Whatever a stop cuts off is done again at the next start.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut planned: Option<Timestamp> = None;
        let mut reconciled: Option<Day> = None;
        while !*stop.borrow() {
            let now = self.clock.now();
            if planned.is_none_or(|at| at.plus_ms(PLAN_EVERY_MS) <= now || now < at) {
                planned = Some(now);
                if let Err(error) = self.compact.plan(self.errands.as_ref()).await {
                    tracing::warn!(%error, "planning what to compact failed, trying again in an hour");
                }
            }
            let closed = now.minus_ms(DAY_CLOSES_AFTER_MS).day().previous();
            if closed.is_some() && reconciled != closed {
                match self.reconcile_all(&stop).await {
                    Ok(round) if round.unreconciled == 0 => reconciled = closed,
                    Ok(_) => reconciled = closed,
                    Err(error) => tracing::warn!(%error, "reconciling failed, trying again"),
                }
                if let Err(error) = self.expire().await {
                    tracing::warn!(%error, "letting objects expire failed, trying again tomorrow");
                }
            }
            if let Err(error) = self.run_errands(&stop, false).await {
                tracing::warn!(%error, "receiving errands failed, trying again");
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// Everything once, for all tenants: what `stele archive` does.
    pub(crate) async fn round(&self, close_today: bool) -> Result<Round> {
        let (_keep, never) = watch::channel(false);
        for tenant in self.all_tenants().await? {
            let errand = Errand { close_today, ..Errand::to(tenant) };
            self.errands.send(errand.message()).await?;
        }
        let mut round = self.run_errands(&never, true).await?;
        let reconciled = self.reconcile_all(&never).await?;
        round.reconciled = reconciled.reconciled;
        round.unreconciled = reconciled.unreconciled;
        round.expired = self.expire().await?;
        Ok(round)
    }

    /// Runs the errands that wait. One that fails waits on, unless all were asked for: then its failure is told.
    async fn run_errands(&self, stop: &watch::Receiver<bool>, all: bool) -> Result<Round> {
        let mut round = Round::default();
        loop {
            let messages = self.inbox.receive(ERRANDS).await?;
            let mut done = 0;
            for message in &messages {
                if *stop.borrow() {
                    return Ok(round);
                }
                match self.visit(&message.body).await {
                    Ok(visit) => {
                        round.archived += visit.archived;
                        round.files += visit.files;
                        done += 1;
                    }
                    Err(error) if all => return Err(error),
                    // The next plan sends another; this one would only be the first again and again.
                    Err(error) => tracing::error!(%error, "compacting failed, trying again in an hour"),
                }
                self.inbox.delete(&message.receipt).await?;
            }
            if messages.is_empty() || (!all && done == 0) {
                return Ok(round);
            }
        }
    }

    async fn visit(&self, message: &str) -> Result<Visit> {
        let errand = Errand::parse(message)?;
        let visit = self.compact.visit(&errand, self.clock.now().plus_ms(TURN_MS)).await?;
        if visit.unfinished {
            self.errands.send(errand.message()).await?;
        }
        Ok(visit)
    }

    async fn all_tenants(&self) -> Result<Vec<TenantId>> {
        let mut all: Vec<TenantId> = Vec::new();
        loop {
            let page = self.tenants.tenants(all.last(), TENANTS).await?;
            let is_last = page.len() < TENANTS;
            all.extend(page.iter().filter_map(|record| TenantId::parse(&record.tenant_id)));
            if is_last {
                return Ok(all);
            }
        }
    }

    async fn reconcile_all(&self, stop: &watch::Receiver<bool>) -> Result<Round> {
        let mut round = Round::default();
        for tenant in self.all_tenants().await? {
            if *stop.borrow() {
                return Ok(round);
            }
            let until = self.clock.now().plus_ms(TURN_MS);
            match self.reconcile.reconcile(&tenant, until).await {
                Ok(done) if done.current && done.lost == 0 && done.faults == 0 => round.reconciled += 1,
                Ok(_) => round.unreconciled += 1,
                Err(error) => {
                    tracing::error!(%tenant, %error, "reconciling failed");
                    round.unreconciled += 1;
                }
            }
        }
        self.guard.set(self.may_forget().await?);
        Ok(round)
    }

    /// Whether expired records may go: only while every tenant's days are proven up to a week ago.
    async fn may_forget(&self) -> Result<bool> {
        let week_ago = self.clock.now().minus_days(limits::RECONCILE_MISSED_DAYS_MAX + 1).day();
        for id in self.all_tenants().await? {
            let Some(record) = self.tenants.tenant(&id).await? else { continue };
            let tenant = Tenant::on_record(record)?;
            let through = self.watermarks.reconciled(&tenant).await?.map(|reconciled| reconciled.through);
            if tenant.created_day() <= week_ago && through.is_none_or(|day| day < week_ago) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn expire(&self) -> Result<u64> {
        let gone = self.locked.run_lifecycle(self.clock.now()).await?;
        for key in &gone {
            tracing::info!(%key, "expired");
        }
        Ok(gone.len() as u64)
    }
}
