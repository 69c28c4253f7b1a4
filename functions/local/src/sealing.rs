//! The local stand-in for Lambda's event source mapping: it reads the stream, calls seal, and trims what is done.
//!
//! The stream's rows are trimmed only after all of them are sealed, so that after a crash the reader begins with
//! the oldest that is not. What a lost stream held is found by looking through the hot store at the start.

use crate::dynoxide::{EmbeddedDynamo, StreamError, StreamReader};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stele::access::Tenant;
use stele::error::Result;
use stele::id::{EventId, TenantId};
use stele::ports::{Clock, HotStore, IdRange, Inbox, Order, Tenants};
use stele::record::Record;
use stele::time::{DAY_MS, Day, Timestamp};
use stele_seal::{BatchOutcome, Seal};
use tokio::sync::watch;

/// How often the stream is looked at; together with one segment's commit it keeps sealing within two seconds.
const EVERY: Duration = Duration::from_millis(500);
/// Stream records per batch: Lambda's largest.
const BATCH_RECORDS: usize = 1_000;
/// Records of a day read at once when looking for what was missed.
const PAGE: usize = 1_000;
/// Parked messages received at once.
const PARKED: usize = 10;
/// Tenants listed at once.
const TENANTS: usize = 100;
/// Clocks that stamp `received_at` may differ by so much.
const SLACK_MS: u64 = 60 * 60 * 1000;
/// How often it is looked whether a log is to be stated.
const STATE_EVERY: Duration = Duration::from_secs(20);
/// How often expired items are swept.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Says whether the hot store may forget what has expired: not before reconciliation has shown that it is all in the log.
#[derive(Clone, Default)]
pub(crate) struct ForgettingGuard(Arc<AtomicBool>);

impl ForgettingGuard {
    pub(crate) fn set(&self, may_forget: bool) {
        self.0.store(may_forget, Ordering::Relaxed);
    }

    fn may_forget(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct Sealing {
    /// What reconciliation found missing, or sealing could not seal.
    pub(crate) parking: Arc<dyn Inbox>,
    pub(crate) guard: ForgettingGuard,
    pub(crate) dynamo: Arc<EmbeddedDynamo>,
    pub(crate) seal: Arc<Seal>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Remembers up to when everything received is sealed; `None` in memory.
    pub(crate) sealed_through: Option<PathBuf>,
}

impl Sealing {
    /// Seals until told to stop; then once more, so that a clean stop leaves nothing unsealed.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut parked = BTreeMap::<TenantId, Vec<Record>>::new();
        let mut caught_up = false;
        let mut swept = tokio::time::Instant::now();
        // The hourly schedule: the first time at the start, so that there is a statement of every day it runs.
        let mut stated: Option<tokio::time::Instant> = None;
        let mut reader = None;
        // How far this process has read; rows up to there are trimmed once nothing is parked.
        let mut after = None;
        loop {
            let stopping = *stop.borrow();
            if !caught_up {
                match self.catch_up(&mut parked).await {
                    Ok(()) => caught_up = true,
                    Err(error) => tracing::warn!(%error, "looking for unsealed records failed, trying again"),
                }
            }
            self.retry(&mut parked).await;
            if let Err(error) = self.drain(&mut reader, &mut after, &mut parked, caught_up).await {
                tracing::warn!(%error, "reading the stream failed, trying again");
                reader = None;
            }
            if let Err(error) = self.seal_parked().await {
                tracing::warn!(%error, "receiving parked records failed, trying again");
            }
            if stated.is_none_or(|at| at.elapsed() >= STATE_EVERY) {
                match self.seal.publish_idle().await {
                    Ok(done) if done.failed == 0 => stated = Some(tokio::time::Instant::now()),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "stating how far logs are failed, trying again"),
                }
            }
            if swept.elapsed() >= SWEEP_EVERY && self.guard.may_forget() {
                swept = tokio::time::Instant::now();
                if let Err(error) = self.dynamo.sweep_ttl().await {
                    tracing::warn!(%error, "sweeping expired items failed");
                }
            }
            if stopping {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// Seals what was parked; what can't be sealed waits on.
    async fn seal_parked(&self) -> Result<()> {
        loop {
            let messages = self.parking.receive(PARKED).await?;
            if messages.is_empty() {
                return Ok(());
            }
            let done = self.seal.handle_parked(&messages).await;
            for message in messages.iter().filter(|message| !done.failed.contains(&message.id)) {
                self.parking.delete(&message.receipt).await?;
            }
            if !done.failed.is_empty() {
                return Ok(());
            }
        }
    }

    /// Seals what the stream holds, batch by batch, and trims it.
    async fn drain(
        &self,
        reader: &mut Option<StreamReader>,
        after: &mut Option<String>,
        parked: &mut BTreeMap<TenantId, Vec<Record>>,
        caught_up: bool,
    ) -> Result<()> {
        if reader.is_none() {
            *reader = Some(self.dynamo.stream_reader().await?);
        }
        let Some(stream) = reader else { return Ok(()) };
        loop {
            let began = self.clock.now();
            let read = match stream.read(after.as_deref(), BATCH_RECORDS).await {
                Ok(read) => read,
                Err(StreamError::Trimmed(_)) => {
                    *after = None;
                    continue;
                }
                Err(StreamError::Failed(error)) => return Err(error),
            };
            let count = read.event.records.len();
            if count > 0 {
                park(parked, self.seal.handle(&read.event).await?);
            }
            if parked.is_empty() && count > 0 {
                // A crash before this line reads the batch again, which seals nothing twice.
                if let Some(last) = &read.last {
                    self.dynamo.trim_stream(last).await?;
                }
            }
            *after = read.last;
            if count < BATCH_RECORDS {
                if parked.is_empty() && caught_up {
                    self.remember(began);
                }
                return Ok(());
            }
        }
    }

    async fn retry(&self, parked: &mut BTreeMap<TenantId, Vec<Record>>) {
        let records: Vec<Record> = std::mem::take(parked).into_values().flatten().collect();
        if !records.is_empty() {
            park(parked, self.seal.seal_all(records).await);
        }
    }

    /// Gives seal every record of the hot store received since everything was known to be sealed. Seal drops
    /// what is in the log.
    async fn catch_up(&self, parked: &mut BTreeMap<TenantId, Vec<Record>>) -> Result<()> {
        let store = self.dynamo.store();
        let mut after: Option<TenantId> = None;
        loop {
            let page = store.tenants(after.as_ref(), TENANTS).await?;
            let last = page.len() < TENANTS;
            for record in page {
                let tenant = Tenant::on_record(record)?;
                self.catch_up_tenant(&tenant, parked).await?;
                after = Some(tenant.id().clone());
            }
            if last {
                return Ok(());
            }
        }
    }

    async fn catch_up_tenant(
        &self,
        tenant: &Tenant,
        parked: &mut BTreeMap<TenantId, Vec<Record>>,
    ) -> Result<()> {
        let store = self.dynamo.store();
        let created = tenant.first_day().start();
        let since = self.recalled().map_or(created, |t| t.minus_ms(SLACK_MS).max(created));
        let today = self.clock.now().day();
        let mut days: Vec<Day> = (since.day().days()..=today.days()).map(Day::from_days).collect();
        let ahead = today.next().next();
        let late = store.late_days(tenant, since.day()..=ahead.max(since.day())).await?;
        days.extend(late.into_iter().map(|(_, occurred)| occurred));
        days.sort_unstable();
        days.dedup();
        for day in days {
            let mut range = IdRange {
                first: EventId::first_at(day.start()),
                last: EventId::last_at(day.start().plus_ms(DAY_MS - 1)),
            };
            loop {
                let page = store.day(tenant, day, range, Order::Ascending, PAGE).await?;
                let full = page.len() == PAGE;
                let next = page.last().and_then(|r| r.id.next());
                let records = page.into_iter().filter(|r| r.received_at >= since).collect();
                park(parked, self.seal.seal_all(records).await);
                match next {
                    Some(next) if full && next <= range.last => range.first = next,
                    _ => break,
                }
            }
        }
        Ok(())
    }

    fn recalled(&self) -> Option<Timestamp> {
        let text = fs::read_to_string(self.sealed_through.as_ref()?).ok()?;
        Timestamp::parse(text.trim()).ok()
    }

    /// Everything received before a time is sealed. Losing the note costs a longer look at the next start.
    fn remember(&self, time: Timestamp) {
        if let Some(path) = &self.sealed_through {
            let half_written = path.with_extension("new");
            let written =
                fs::write(&half_written, time.to_string()).and_then(|()| fs::rename(&half_written, path));
            if let Err(error) = written {
                tracing::debug!(%error, "the note of what is sealed was not written");
            }
        }
    }
}

fn park(parked: &mut BTreeMap<TenantId, Vec<Record>>, outcome: BatchOutcome) {
    for unsealed in outcome.unsealed {
        parked.entry(unsealed.tenant).or_default().extend(unsealed.records);
    }
}
