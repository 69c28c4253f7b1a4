//! `GET /v1/facets/{field}` and `GET /v1/events/stats`: how often what comes, over hot store and log as one.
//!
//! Counting goes from the latest event backwards and stops at its budget. What it says is exact for the times it says it searched.

use crate::Query;
use crate::listing::{Searched, Watermarks, time};
use crate::search::{Part, Question, Search};
use futures_util::future::join;
use http::StatusCode;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use stele::access::{Grant, Tenant};
use stele::ports::{IdRange, Order};
use stele::query::{Column, FacetRequest, Filter, StatsRequest, Steps, facet_name};
use stele::routes::{Parameters, PathParameters};
use stele::time::Timestamp;
use stele::{Result, limits};
use stele_adapters::http::{Response, json};

/// Records of the hot store a count may look at.
const SCANNED_MAX: usize = 10 * limits::PAGE_SCANNED_MAX;
/// Events held that a later part may yet show to lie before what was searched.
const OPEN_EVENTS_MAX: usize = 4_000_000;

#[derive(Serialize)]
struct Facet {
    field: &'static str,
    values: Vec<Value>,
    /// Events with another value.
    other: u64,
    /// Events without one.
    missing: u64,
    /// All events.
    total: u64,
    /// Different values.
    distinct: usize,
    searched: Searched,
    watermarks: Watermarks,
}

#[derive(Serialize)]
struct Value {
    value: String,
    count: u64,
}

#[derive(Serialize)]
struct Stats {
    interval: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_by: Option<&'static str>,
    buckets: Vec<Bucket>,
    total: u64,
    searched: Searched,
    watermarks: Watermarks,
}

#[derive(Default, Serialize)]
struct Bucket {
    #[serde(serialize_with = "time")]
    start: Timestamp,
    count: u64,
    /// Of the most frequent values over all steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<BTreeMap<String, u64>>,
    /// Events with another value.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<u64>,
    /// Events without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<u64>,
}

/// Counts by step and value.
struct Tally {
    interval: Option<Steps>,
    numbers: HashMap<Option<String>, u32>,
    values: Vec<Option<String>>,
    counts: HashMap<(Timestamp, u32), u64>,
    /// Parts with events that may lie before what will have been searched, with the earliest of their times.
    open: Vec<(Timestamp, Vec<(Timestamp, u32)>)>,
}

impl Tally {
    fn new(interval: Option<Steps>) -> Tally {
        Tally {
            interval,
            numbers: HashMap::new(),
            values: Vec::new(),
            counts: HashMap::new(),
            open: Vec::new(),
        }
    }

    fn put(&mut self, part: Part) {
        let numbers: Vec<u32> = part
            .values
            .into_iter()
            .map(|value| {
                let next = self.values.len() as u32;
                let number = *self.numbers.entry(value.clone()).or_insert(next);
                if number == next {
                    self.values.push(value);
                }
                number
            })
            .collect();
        let events: Vec<_> =
            part.events.into_iter().map(|(time, number)| (time, numbers[number as usize])).collect();
        if let Some(earliest) = events.iter().map(|(time, _)| *time).min() {
            self.open.push((earliest, events));
        }
    }

    /// Counts what lies behind a frontier: events of later times than that; all of them if there is none.
    fn settle(&mut self, frontier: Option<Timestamp>) {
        let is_settled = |time: &Timestamp| frontier.is_none_or(|frontier| *time > frontier);
        let (settled, open) = std::mem::take(&mut self.open)
            .into_iter()
            .partition::<Vec<_>, _>(|(earliest, _)| is_settled(earliest));
        self.open = open;
        settled.into_iter().for_each(|(_, events)| self.add(events));
    }

    /// Ends: of what is open only what lies behind the frontier counts.
    fn finish(&mut self, frontier: Option<Timestamp>) {
        self.settle(frontier);
        for (_, mut events) in std::mem::take(&mut self.open) {
            events.retain(|(time, _)| frontier.is_none_or(|frontier| *time > frontier));
            self.add(events);
        }
    }

    fn add(&mut self, events: Vec<(Timestamp, u32)>) {
        for (time, number) in events {
            let step = self.interval.map_or(Timestamp::default(), |interval| interval.start(time));
            *self.counts.entry((step, number)).or_default() += 1;
        }
    }

    fn is_full(&self) -> bool {
        self.values.len() > limits::FACET_VALUES_MAX
            || self.open.iter().map(|(_, events)| events.len()).sum::<usize>() > OPEN_EVENTS_MAX
    }

    /// The values by falling number of events, each with it.
    fn ranked(&self) -> Vec<(Option<&str>, u32, u64)> {
        let mut sums = vec![0; self.values.len()];
        for ((_, number), count) in &self.counts {
            sums[*number as usize] += count;
        }
        let values = self.values.iter().zip(0..).zip(sums);
        let mut ranked: Vec<_> =
            values.map(|((value, number), count)| (value.as_deref(), number, count)).collect();
        ranked.retain(|(_, _, count)| *count > 0);
        ranked.sort_unstable_by(|a, b| b.2.cmp(&a.2).then(a.0.cmp(&b.0)));
        ranked
    }
}

impl Query {
    pub(crate) async fn facet(
        &self,
        grant: &Grant,
        path: &PathParameters,
        parameters: &Parameters,
    ) -> Result<Response> {
        let now = self.clock.now();
        let request = FacetRequest::parse(path.value("field"), parameters, now)?;
        let (tenant, waiting) = join(self.tenant(grant, parameters), self.waiting()).await;
        let mut tally = Tally::new(None);
        let counting =
            Counting { filter: &request.filter, field: Some(request.field), within: None, now, waiting };
        let (searched, watermarks) = self.counted(tenant?.as_ref(), counting, &mut tally).await?;
        let ranked = tally.ranked();
        let total = ranked.iter().map(|(_, _, count)| count).sum();
        let missing = ranked.iter().filter(|(value, ..)| value.is_none()).map(|(_, _, count)| count).sum();
        let named = || ranked.iter().filter_map(|(value, _, count)| Some(((*value)?, *count)));
        let values: Vec<Value> = named()
            .take(request.limit)
            .map(|(value, count)| Value { value: value.to_owned(), count })
            .collect();
        let facet = Facet {
            field: facet_name(request.field),
            other: named().skip(values.len()).map(|(_, count)| count).sum(),
            distinct: named().count(),
            values,
            missing,
            total,
            searched,
            watermarks,
        };
        Ok(json(StatusCode::OK, &facet))
    }

    pub(crate) async fn stats(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        let now = self.clock.now();
        let request = StatsRequest::parse(parameters, now)?;
        let within = request.range(now)?;
        let (tenant, waiting) = join(self.tenant(grant, parameters), self.waiting()).await;
        let mut tally = Tally::new(Some(request.interval));
        let counting = Counting { filter: &request.filter, field: request.group_by, within, now, waiting };
        let (searched, watermarks) = self.counted(tenant?.as_ref(), counting, &mut tally).await?;
        let ranked = tally.ranked();
        let groups: HashMap<u32, &str> = ranked
            .iter()
            .filter_map(|(value, number, _)| Some((*number, (*value)?)))
            .take(limits::STATS_GROUPS_MAX)
            .collect();
        let mut buckets: BTreeMap<Timestamp, Bucket> = BTreeMap::new();
        for ((start, number), count) in &tally.counts {
            let bucket =
                buckets.entry(*start).or_insert_with(|| Bucket { start: *start, ..Bucket::default() });
            bucket.count += count;
            if request.group_by.is_none() {
                continue;
            }
            let named = bucket.groups.get_or_insert_default();
            match (groups.get(number), &tally.values[*number as usize]) {
                (Some(value), _) => *named.entry((*value).to_owned()).or_default() += count,
                (None, Some(_)) => *bucket.other.get_or_insert_default() += count,
                (None, None) => *bucket.missing.get_or_insert_default() += count,
            }
        }
        let stats = Stats {
            interval: request.interval.as_str(),
            group_by: request.group_by.map(facet_name),
            total: buckets.values().map(|bucket| bucket.count).sum(),
            buckets: buckets.into_values().collect(),
            searched,
            watermarks,
        };
        Ok(json(StatusCode::OK, &stats))
    }

    /// Counts, and says over what.
    async fn counted(
        &self,
        tenant: Option<&Tenant>,
        counting: Counting<'_>,
        tally: &mut Tally,
    ) -> Result<(Searched, Watermarks)> {
        let Counting { filter, field, within, now, waiting } = counting;
        let Some(tenant) = tenant else {
            return Ok((Searched::nothing(now, !waiting), Watermarks::of(now, None, None, None)));
        };
        let question = Question {
            filter,
            order: Order::Descending,
            cursor: None,
            wanted: usize::MAX,
            scanned_max: SCANNED_MAX,
            within,
        };
        // What is proven and how far the log is are read before and after what is counted, as for a page.
        let reconciled = self.watermarks.reconciled(tenant).await?;
        let mut search = Search::new(self, tenant, question, now).await?;
        while !tally.is_full()
            && let Some(parts) = search.count(field).await?
        {
            parts.into_iter().for_each(|part| tally.put(part));
            tally.settle(search.frontier().map(|frontier| frontier.time()));
        }
        let frontier = search.frontier().map(|frontier| frontier.time());
        tally.finish(frontier);
        let placed = self.placed(tenant, Vec::new()).await?;
        let from = match (frontier, within.map(|within| within.first.time()).max(filter.from())) {
            // The frontier's own millisecond may be half counted: it is not part of what is told.
            (Some(frontier), from) => from.map_or(frontier.plus_ms(1), |from| from.max(frontier.plus_ms(1))),
            (None, Some(from)) => from,
            (None, None) => {
                let hot = self.earliest(tenant, now).await?;
                search.earliest.map_or(hot, |cold| cold.min(hot))
            }
        };
        let searched = Searched {
            from,
            to: filter.to().unwrap_or_else(|| now.plus_ms(limits::FUTURE_MS_MAX)),
            complete: frontier.is_none() && !search.gone && !waiting,
        };
        Ok((searched, Watermarks::of(now, placed.head, placed.archived, reconciled)))
    }
}

/// What is counted.
#[derive(Clone, Copy)]
struct Counting<'a> {
    filter: &'a Filter,
    field: Option<Column>,
    within: Option<IdRange>,
    now: Timestamp,
    /// Acknowledged events wait where no search finds them.
    waiting: bool,
}
