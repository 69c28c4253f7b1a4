//! `GET /v1/events/tail`: events as they are received, out of the hot store, seconds old. It shows what happened within a minute
//! of its receipt, each event once, as far as the hot store shows it within seconds; the feed is what never misses anything.

use crate::Query;
use crate::listing::Watermarks;
use crate::search::Found;
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use stele::Result;
use stele::access::{Grant, Tenant};
use stele::id::EventId;
use stele::limits;
use stele::ports::{IdRange, Order};
use stele::query::{CursorKey, Filter, TailCursor, TailRequest};
use stele::record::Record;
use stele::routes::Parameters;
use stele::time::{Day, Timestamp};
use stele::wire::{Integrity, escaped_bytes, event_json};
use stele_adapters::clock::Patience;
use stele_adapters::http::{Response, json};

/// Records read at once.
const CHUNK: usize = 500;
/// How many days back the first answer looks for something to show.
const FIRST_DAYS: u32 = 7;

#[derive(Serialize)]
struct TailPage {
    events: Vec<Box<RawValue>>,
    next_since: String,
    caught_up: bool,
    complete: bool,
    watermarks: Watermarks,
}

/// What one look brought.
#[derive(Default)]
struct Look {
    shown: Vec<(Record, Integrity)>,
    more: bool,
    /// All of the time that was to be looked at was.
    whole: bool,
    floor: Timestamp,
    behind: Option<(Timestamp, EventId)>,
    marks: Vec<u64>,
}

impl Look {
    fn cursor(self, issued_at: Timestamp) -> TailCursor {
        TailCursor { issued_at, floor: self.floor, behind: self.behind, shown: self.marks }
    }
}

impl Query {
    pub(crate) async fn tail(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        let request = TailRequest::parse(parameters, self.clock.now())?;
        let id = grant.choose(request.tenant_id.as_ref(), "tenant_id")?;
        let key = CursorKey::new(&self.secrets, &id, &request.filter, Order::Ascending);
        let mut cursor =
            request.since.as_deref().map(|text| key.open_tail(text, self.clock.now())).transpose()?;
        let patience = Patience::of_seconds(request.wait_seconds);
        let (tenant, look, now) = loop {
            let now = self.clock.now();
            let tenant = self.tenant(grant, parameters).await?;
            let look = match &tenant {
                Some(tenant) => self.look(tenant, &request, cursor.as_ref(), now).await?,
                None => Look { whole: true, floor: now.minus_ms(limits::TAIL_OVERLAP_MS), ..Look::default() },
            };
            if !look.shown.is_empty() || !patience.again().await {
                break (tenant, look, now);
            }
            cursor = Some(look.cursor(now));
        };
        let mut look = look;
        let shown = std::mem::take(&mut look.shown);
        let (caught_up, complete) = (!look.more, look.whole);
        let next = look.cursor(now);
        let page = TailPage {
            events: shown
                .iter()
                .map(|(record, integrity)| event_json(record, *integrity))
                .collect::<Result<_>>()?,
            next_since: key.seal_tail(&next),
            caught_up,
            complete,
            watermarks: self.watermarks_of(tenant.as_ref()).await?,
        };
        Ok(json(StatusCode::OK, &page))
    }

    /// One look at what is new behind a cursor; without one, at the newest.
    async fn look(
        &self,
        tenant: &Tenant,
        request: &TailRequest,
        cursor: Option<&TailCursor>,
        now: Timestamp,
    ) -> Result<Look> {
        let overlap = now.minus_ms(limits::TAIL_OVERLAP_MS);
        let begun = || TailCursor { issued_at: now, floor: overlap, behind: None, shown: Vec::new() };
        let old = cursor.cloned().unwrap_or_else(begun);
        let known: BTreeSet<u64> = cursor.iter().flat_map(|cursor| cursor.shown.iter().copied()).collect();
        let (records, whole) = self.recent(tenant, old.floor.minus_ms(limits::TAIL_LATE_MS), now).await?;
        let of = |record: &Record| (record.received_at, record.id);
        let mut done: Vec<(Timestamp, EventId)> = Vec::new();
        let mut fresh = Vec::new();
        for record in records.into_iter().filter(|record| old.is_open(record.received_at, record.id)) {
            match known.contains(&TailCursor::mark(record.id)) {
                true => done.push(of(&record)),
                false => fresh.push(record),
            }
        }
        let mut shown = self.admitted(tenant, &request.filter, fresh, usize::MAX).await?;
        shown.sort_by_key(of);
        if cursor.is_none() {
            // Those that are left out below are done with, too.
            done.extend(shown.iter().map(of));
        }
        let more = match cursor {
            Some(_) => {
                let (mut bytes, mut room) = (0, 0);
                for record in shown.iter().take(request.limit) {
                    bytes += escaped_bytes(record.leaf.as_bytes());
                    room += usize::from(room == 0 || bytes <= limits::POLL_BYTES_MAX);
                }
                let more = shown.len() > room;
                shown.truncate(room);
                more
            }
            None => {
                // Only the newest are shown, and those before them are done with.
                shown.drain(..shown.len().saturating_sub(request.limit));
                let missing = request.limit - shown.len();
                let mut earlier = self.earlier(tenant, &request.filter, missing, overlap, now).await?;
                earlier.append(&mut shown);
                shown = earlier;
                let mut bytes = 0;
                let beyond = shown.iter().rposition(|record| {
                    bytes += escaped_bytes(record.leaf.as_bytes());
                    bytes > limits::POLL_BYTES_MAX
                });
                shown.drain(..beyond.map_or(0, |at| at + 1));
                false
            }
        };
        // What is shown only next time must not fall below the floor.
        let last = shown.last().map(|record| record.received_at).filter(|_| more);
        let mut floor = old.floor.max(last.unwrap_or(now).min(now).minus_ms(limits::TAIL_OVERLAP_MS));
        if cursor.is_some() {
            done.extend(shown.iter().map(of));
        }
        done.sort_unstable();
        done.retain(|(at, _)| *at >= floor);
        // No more than a cursor can hold: the overlap is shorter where more is received. All that was done with lies before what was not
        // shown yet, so it can end at any of it.
        let mut behind = old.behind;
        if done.len() > limits::TAIL_REMEMBERED_MAX {
            let marked = done.split_off(done.len() - limits::TAIL_REMEMBERED_MAX);
            behind = done.last().copied();
            floor = floor.max(behind.map_or(floor, |(at, _)| at));
            done = marked;
        }
        let marks = done.into_iter().map(|(_, id)| TailCursor::mark(id)).collect();
        let shown = self.placed_in_order(tenant, shown).await?;
        Ok(Look { shown, more, whole, floor, behind, marks })
    }

    /// Records that occurred from a time on, newest first as far as is looked, and whether that is all of them.
    async fn recent(&self, tenant: &Tenant, from: Timestamp, now: Timestamp) -> Result<(Vec<Record>, bool)> {
        let mut records = Vec::new();
        let mut day = now.plus_ms(limits::FUTURE_MS_MAX).day();
        loop {
            let first = EventId::first_at(from);
            let whole = self.read_day(tenant, day, first, limits::TAIL_SCANNED_MAX, &mut records).await?;
            if !whole {
                return Ok((records, false));
            }
            match day.previous().filter(|before| *before >= from.day()) {
                Some(before) => day = before,
                None => return Ok((records, true)),
            }
        }
    }

    /// Adds a day's records from an id on, newest first, up to so many in all; says whether those are all.
    async fn read_day(
        &self,
        tenant: &Tenant,
        day: Day,
        first: EventId,
        most: usize,
        records: &mut Vec<Record>,
    ) -> Result<bool> {
        let mut range = IdRange {
            first: first.max(EventId::first_at(day.start())),
            last: EventId::last_at(day.next().start().minus_ms(1)),
        };
        let mut before: Option<EventId> = None;
        while range.first <= range.last {
            if records.len() >= most {
                return Ok(false);
            }
            let chunk = self.hot.day(tenant, day, range, Order::Descending, CHUNK).await?;
            let full = chunk.len() >= CHUNK;
            let last = chunk.last().map(|record| record.id);
            // A chunk begins with the id the one before ended with.
            records.extend(chunk.into_iter().filter(|record| Some(record.id) != before));
            match last.filter(|_| full) {
                Some(last) => (range.last, before) = (last, Some(last)),
                None => return Ok(true),
            }
        }
        Ok(true)
    }

    /// What the first answer shows before the newest seconds: the latest of some days, oldest first.
    async fn earlier(
        &self,
        tenant: &Tenant,
        filter: &Filter,
        most: usize,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Record>> {
        let mut found = Vec::new();
        let oldest = tenant.first_day().max(now.minus_days(FIRST_DAYS).day());
        let mut day = now.plus_ms(limits::FUTURE_MS_MAX).day();
        let mut scanned = 0;
        while found.len() < most && scanned < limits::TAIL_SCANNED_MAX {
            let mut records = Vec::new();
            let first = EventId::first_at(Timestamp::default());
            let left = limits::TAIL_SCANNED_MAX - scanned;
            self.read_day(tenant, day, first, left.min(most.max(CHUNK) * 4), &mut records).await?;
            scanned += records.len().max(CHUNK / 10);
            records.retain(|record| record.received_at < before);
            found.append(&mut self.admitted(tenant, filter, records, most - found.len()).await?);
            match day.previous().filter(|before| *before >= oldest) {
                Some(before) => day = before,
                None => break,
            }
        }
        found.sort_by_key(|record| (record.received_at, record.id));
        Ok(found)
    }

    /// The first so many records that a filter admits. Where they stand is looked up only if it decides.
    async fn admitted(
        &self,
        tenant: &Tenant,
        filter: &Filter,
        records: Vec<Record>,
        most: usize,
    ) -> Result<Vec<Record>> {
        let mut admitted = Vec::new();
        for record in records {
            if filter.judge(&record, None)? != Some(false) {
                admitted.push(record);
            }
        }
        if filter.needs_state() {
            let mut decided = Vec::with_capacity(admitted.len());
            for (record, integrity) in self.placed_in_order(tenant, admitted).await? {
                if filter.judge(&record, Some(integrity.into()))? == Some(true) {
                    decided.push(record);
                }
            }
            admitted = decided;
        }
        admitted.truncate(most);
        Ok(admitted)
    }

    /// Records with where they stand.
    async fn placed_in_order(
        &self,
        tenant: &Tenant,
        records: Vec<Record>,
    ) -> Result<Vec<(Record, Integrity)>> {
        let found = records.into_iter().map(|record| Found { record, leaf_index: None }).collect();
        Ok(self.placed(tenant, found).await?.records)
    }
}
