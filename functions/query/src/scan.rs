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
    /// What was received later is left out.
    as_of: Option<Timestamp>,
    source: Source,
    scanned: usize,
    frontier: Option<EventId>,
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
    /// A walk over what the filter admits, behind `after`.
    pub(crate) async fn new(
        hot: &'a dyn HotStore,
        tenant: &'a Tenant,
        filter: &'a Filter,
        order: Order,
        after: Option<EventId>,
        as_of: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Scan<'a>> {
        let range = filter.range().map(|range| match (after, order) {
            (None, _) => range,
            (Some(after), Order::Descending) => IdRange { last: after.min(range.last), ..range },
            (Some(after), Order::Ascending) => IdRange { first: after.max(range.first), ..range },
        });
        let range = range.filter(|range| range.first <= range.last);
        let source = match (range, filter.best_index()) {
            (None, _) => Source::Index { streams: Vec::new(), after },
            (Some(range), indexes) if indexes.is_empty() => {
                let days = days(hot, tenant, range, order, now).await?;
                Source::Days { days, range, after, at_once: 1 }
            }
            (Some(range), indexes) => {
                let stream = |index| IndexStream { index, range, ids: VecDeque::new(), exhausted: false };
                Source::Index { streams: indexes.into_iter().map(stream).collect(), after }
            }
        };
        Ok(Scan { hot, tenant, filter, order, as_of, source, scanned: 0, frontier: after })
    }

    /// How many records it has looked at.
    pub(crate) fn scanned(&self) -> usize {
        self.scanned
    }

    /// Up to where it has looked: the walk can go on behind this id.
    pub(crate) fn frontier(&self) -> Option<EventId> {
        self.frontier
    }

    /// Goes on; `None` at the end. A step may admit nothing.
    pub(crate) async fn step(&mut self, only_count: bool) -> Result<Option<Step>> {
        match &mut self.source {
            Source::Days { .. } => self.step_days().await,
            Source::Index { .. } => {
                let only_count = only_count && self.as_of.is_none() && self.filter.is_answered_by_index();
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
                if self.as_of.is_none_or(|as_of| record.received_at <= as_of)
                    && self.filter.judge(&record, None)? != Some(false)
                {
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
            if self.as_of.is_none_or(|as_of| record.received_at <= as_of)
                && self.filter.judge(&record, None)? != Some(false)
            {
                admitted.matched += 1;
                admitted.records.push(record);
            }
        }
        Ok(Some(admitted))
    }
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

/// The occurred days that can hold records: those the hot store keeps, and those of late arrivals.
pub(crate) async fn days(
    hot: &dyn HotStore,
    tenant: &Tenant,
    range: IdRange,
    order: Order,
    now: Timestamp,
) -> Result<VecDeque<Day>> {
    let oldest_kept = now.minus_days(tenant.record().hot_days.saturating_add(1)).day();
    let latest = now.plus_ms(limits::FUTURE_MS_MAX).day();
    let regular = tenant.created_day().max(oldest_kept).days()..=latest.days();
    let late = hot.late_days(tenant, None).await?.into_iter().map(|(_, occurred)| occurred);
    let days: BTreeSet<Day> = regular.map(Day::from_days).chain(late).collect();
    let within = days.into_iter().filter(|day| within_day(range, *day).is_some());
    Ok(match order {
        Order::Ascending => within.collect(),
        Order::Descending => within.rev().collect(),
    })
}
