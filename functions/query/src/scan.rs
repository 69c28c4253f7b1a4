//! The plan over the hot store: a tenant's records in order, from the best index or day by day, filtered.
//!
//! It counts what it looks at, so that its caller can stop; it knows nothing of pages.

use futures_util::future::try_join_all;
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use stele::access::Tenant;
use stele::id::EventId;
use stele::ports::{HotIndex, HotStore, IdRange, Order};
use stele::query::Filter;
use stele::record::Record;
use stele::time::{Day, Timestamp};
use stele::{Result, limits};

/// Records fetched at once from a day.
const DAY_CHUNK: usize = 500;
/// Ids fetched at once from an index, and records read for them.
const INDEX_CHUNK: usize = 200;
/// Days asked for at once after days without records.
const DAYS_AT_ONCE_MAX: usize = 16;
/// What looking at a day costs, counted in records, so that a walk over empty days ends too.
const DAY_COST: usize = 10;

/// A walk over a tenant's records.
pub(crate) struct Scan<'a> {
    hot: &'a dyn HotStore,
    tenant: &'a Tenant,
    filter: &'a Filter,
    order: Order,
    range: IdRange,
    /// What was received later is left out.
    as_of: Option<Timestamp>,
    late: Option<Late>,
    source: Source,
    scanned: usize,
    frontier: Option<EventId>,
}

/// What a walk is over.
pub(crate) struct ScanOf<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) order: Order,
    /// These ids alone.
    pub(crate) range: IdRange,
    /// What was received later is left out.
    pub(crate) as_of: Option<Timestamp>,
    /// Only what the log may lack.
    pub(crate) late: Option<Late>,
}

/// Records that are not proven to be in the log.
#[derive(Clone, Copy)]
pub(crate) struct Late {
    /// What was received before is proven to be.
    pub(crate) received_from: Timestamp,
}

enum Source {
    Days { days: VecDeque<Day>, range: IdRange, after: Option<EventId>, at_once: usize },
    Index { streams: Vec<IndexStream>, after: Option<EventId> },
}

struct IndexStream {
    index: HotIndex,
    range: IdRange,
    ids: VecDeque<EventId>,
    exhausted: bool,
}

/// One step of a walk.
#[derive(Default)]
pub(crate) struct Step {
    /// The records admitted, in order, with those that only their place in the log decides; empty if only their number was
    /// wanted and needs none of them.
    pub(crate) records: Vec<Record>,
    /// How many were admitted.
    pub(crate) matched: usize,
}

impl<'a> Scan<'a> {
    /// A walk over what the filter admits.
    pub(crate) async fn new(
        hot: &'a dyn HotStore,
        tenant: &'a Tenant,
        of: ScanOf<'a>,
        now: Timestamp,
    ) -> Result<Scan<'a>> {
        let ScanOf { filter, order, range, as_of, late } = of;
        let indexes = filter.best_index();
        let source = if indexes.is_empty() {
            let days = days(hot, tenant, range, order, late, now).await?;
            Source::Days { days, range, after: None, at_once: 1 }
        } else {
            let stream = |index| IndexStream { index, range, ids: VecDeque::new(), exhausted: false };
            Source::Index { streams: indexes.into_iter().map(stream).collect(), after: None }
        };
        Ok(Scan { hot, tenant, filter, order, range, as_of, late, source, scanned: 0, frontier: None })
    }

    /// The ids it is over.
    pub(crate) fn range(&self) -> IdRange {
        self.range
    }

    /// Whether it is over what the log may lack alone.
    pub(crate) fn is_late(&self) -> bool {
        self.late.is_some()
    }

    fn admits(&self, record: &Record) -> Result<bool> {
        Ok(is_part(self.as_of, self.late, record) && self.filter.judge(record, None)? != Some(false))
    }

    /// How many records it has looked at.
    pub(crate) fn scanned(&self) -> usize {
        self.scanned
    }

    /// Up to where it has looked: it goes on behind this id. `None` before the first step.
    pub(crate) fn frontier(&self) -> Option<EventId> {
        self.frontier
    }

    /// Goes on; `None` at the end. A step may admit nothing.
    pub(crate) async fn step(&mut self, only_count: bool) -> Result<Option<Step>> {
        match &mut self.source {
            Source::Days { .. } => self.step_days().await,
            Source::Index { .. } => {
                let unbounded = self.as_of.is_none() && self.late.is_none();
                let only_count = only_count && unbounded && self.filter.is_answered_by_index();
                self.step_index(only_count).await
            }
        }
    }

    async fn step_days(&mut self) -> Result<Option<Step>> {
        let (hot, tenant, order) = (self.hot, self.tenant, self.order);
        let Source::Days { days, range, after, at_once } = &mut self.source else { return Ok(None) };
        if days.is_empty() {
            return Ok(None);
        }
        // Several at once only while days are empty: what lies behind a full one would be read in vain.
        let asked: Vec<Day> = days.iter().copied().take(*at_once).collect();
        let mut reads = Vec::with_capacity(asked.len());
        for day in &asked {
            reads.push(read_day(hot, tenant, *day, within_day(*range, *day), order));
        }
        let mut admitted = Step::default();
        *at_once = (*at_once * 2).min(DAYS_AT_ONCE_MAX);
        let read = try_join_all(reads).await?;
        for (day, records) in asked.into_iter().zip(read) {
            self.scanned += DAY_COST;
            let full = records.len() >= DAY_CHUNK;
            if !records.is_empty() {
                *at_once = 1;
            }
            for record in records {
                if *after == Some(record.id) {
                    continue;
                }
                self.scanned += 1;
                (*after, self.frontier) = (Some(record.id), Some(record.id));
                let is_part = is_part(self.as_of, self.late, &record);
                if is_part && self.filter.judge(&record, None)? != Some(false) {
                    admitted.matched += 1;
                    admitted.records.push(record);
                }
            }
            if full {
                // The day goes on behind its last record, which comes again and is passed over.
                match (order, *after) {
                    (Order::Descending, Some(after)) => range.last = after,
                    (Order::Ascending, Some(after)) => range.first = after,
                    (_, None) => {}
                }
                break;
            }
            days.pop_front();
            self.frontier = Some(match order {
                Order::Descending => EventId::first_at(day.start()),
                Order::Ascending => EventId::last_at(end_of(day)),
            });
        }
        Ok(Some(admitted))
    }

    async fn step_index(&mut self, only_count: bool) -> Result<Option<Step>> {
        let (hot, tenant, order) = (self.hot, self.tenant, self.order);
        let Source::Index { streams, after } = &mut self.source else { return Ok(None) };
        let mut ids: Vec<EventId> = Vec::new();
        while ids.len() < INDEX_CHUNK {
            if streams.iter().any(IndexStream::is_dry) {
                let mut fills = Vec::new();
                for stream in streams.iter_mut().filter(|stream| stream.is_dry()) {
                    fills.push(stream.fill(hot, tenant, order));
                }
                try_join_all(fills).await?;
            }
            let next =
                streams.iter().filter_map(|s| s.ids.front().copied()).min_by(|a, b| in_order(order, a, b));
            let Some(next) = next else { break };
            for stream in streams.iter_mut() {
                if stream.ids.front() == Some(&next) {
                    stream.ids.pop_front();
                }
            }
            // A page of an index begins with the id the last one ended with.
            if *after != Some(next) {
                *after = Some(next);
                ids.push(next);
            }
        }
        let Some(last) = ids.last().copied() else { return Ok(None) };
        self.scanned += ids.len();
        self.frontier = Some(last);
        if only_count {
            return Ok(Some(Step { records: Vec::new(), matched: ids.len() }));
        }
        let mut records = hot.records(tenant, &ids).await?;
        records.sort_by(|a, b| in_order(order, &a.id, &b.id));
        let mut admitted = Step::default();
        for record in records {
            if self.admits(&record)? {
                admitted.matched += 1;
                admitted.records.push(record);
            }
        }
        Ok(Some(admitted))
    }
}

/// Whether a record is part of the listing, its filter aside.
fn is_part(as_of: Option<Timestamp>, late: Option<Late>, record: &Record) -> bool {
    as_of.is_none_or(|as_of| record.received_at <= as_of)
        && late.is_none_or(|late| record.received_at >= late.received_from)
}

async fn read_day(
    hot: &dyn HotStore,
    tenant: &Tenant,
    day: Day,
    within: Option<IdRange>,
    order: Order,
) -> Result<Vec<Record>> {
    match within {
        Some(within) => hot.day(tenant, day, within, order, DAY_CHUNK).await,
        None => Ok(Vec::new()),
    }
}

impl IndexStream {
    fn is_dry(&self) -> bool {
        self.ids.is_empty() && !self.exhausted
    }

    async fn fill(&mut self, hot: &dyn HotStore, tenant: &Tenant, order: Order) -> Result<()> {
        let ids = hot.index(tenant, &self.index, self.range, order, INDEX_CHUNK).await?;
        self.exhausted = ids.len() < INDEX_CHUNK;
        if let Some(last) = ids.last() {
            match order {
                Order::Descending => self.range.last = *last,
                Order::Ascending => self.range.first = *last,
            }
        }
        self.ids = ids.into();
        Ok(())
    }
}

fn in_order(order: Order, a: &EventId, b: &EventId) -> Ordering {
    match order {
        Order::Ascending => a.cmp(b),
        Order::Descending => b.cmp(a),
    }
}

fn end_of(day: Day) -> Timestamp {
    day.next().start().minus_ms(1)
}

fn within_day(range: IdRange, day: Day) -> Option<IdRange> {
    let first = range.first.max(EventId::first_at(day.start()));
    let last = range.last.min(EventId::last_at(end_of(day)));
    (first <= last).then_some(IdRange { first, last })
}

/// The occurred days that can hold records: those the hot store keeps, and those of late arrivals. Of what is not proven to
/// be in the log, those since it was proven, and those of what arrived late since.
pub(crate) async fn days(
    hot: &dyn HotStore,
    tenant: &Tenant,
    range: IdRange,
    order: Order,
    late: Option<Late>,
    now: Timestamp,
) -> Result<VecDeque<Day>> {
    let oldest_kept = now.minus_days(tenant.record().hot_days.saturating_add(1)).day();
    let unproven = late.map_or(Timestamp::default(), |late| late.received_from).day();
    let latest = now.plus_ms(limits::FUTURE_MS_MAX).day();
    let regular = tenant.first_day().max(oldest_kept).max(unproven).days()..=latest.days();
    // What was received before is forgotten, or in the log.
    let arrived = hot.late_days(tenant, oldest_kept.max(unproven).min(latest)..=latest).await?;
    let arrived = arrived.into_iter().map(|(_, occurred)| occurred);
    let days: BTreeSet<Day> = regular.map(Day::from_days).chain(arrived).collect();
    let within = days.into_iter().filter(|day| within_day(range, *day).is_some());
    Ok(match order {
        Order::Ascending => within.collect(),
        Order::Descending => within.rev().collect(),
    })
}
