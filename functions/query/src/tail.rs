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
use stele::wire::{Integrity, event_json};
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
    marks: Vec<u64>,
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
            cursor = Some(TailCursor { issued_at: now, floor: look.floor, shown: look.marks });
        };
        let next = TailCursor { issued_at: now, floor: look.floor, shown: look.marks };
        let page = TailPage {
            events: look
                .shown
                .iter()
                .map(|(record, integrity)| event_json(record, *integrity))
                .collect::<Result<_>>()?,
            next_since: key.seal_tail(&next),
            caught_up: !look.more,
            complete: look.whole,
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
        let old_floor = cursor.map_or(overlap, |cursor| cursor.floor);
        let known: BTreeSet<u64> = cursor.iter().flat_map(|cursor| cursor.shown.iter().copied()).collect();
        let (records, whole) = self.recent(tenant, old_floor.minus_ms(limits::TAIL_LATE_MS), now).await?;
        let mut received: Vec<(Timestamp, u64)> = Vec::new();
        let mut fresh = Vec::new();
        for record in records.into_iter().filter(|record| record.received_at >= old_floor) {
            match known.contains(&TailCursor::mark(record.id)) {
                true => received.push((record.received_at, TailCursor::mark(record.id))),
                false => fresh.push(record),
            }
        }
        let mut shown = self.admitted(tenant, &request.filter, fresh).await?;
        shown.sort_by_key(|(record, _)| (record.received_at, record.id));
        let marked = |(record, _): &(Record, Integrity)| (record.received_at, TailCursor::mark(record.id));
        if cursor.is_none() {
            // Those that are left out below are done with, too.
            received.extend(shown.iter().map(marked));
        }
        let more = match cursor {
            Some(_) => {
                let (mut bytes, mut room) = (0, 0);
                for (record, _) in shown.iter().take(request.limit) {
                    bytes += record.leaf.as_bytes().len();
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
                false
            }
        };
        // What is shown only next time must not fall below the floor.
        let last = shown.last().map(|(record, _)| record.received_at).filter(|_| more);
        let mut floor = old_floor.max(last.unwrap_or(now).min(now).minus_ms(limits::TAIL_OVERLAP_MS));
        if cursor.is_some() {
            received.extend(shown.iter().map(marked));
        }
        received.sort_unstable();
        let mut marks = received;
        marks.retain(|(at, _)| *at >= floor);
        // No more than a cursor can hold: the overlap is shorter where more is received.
        if marks.len() > limits::TAIL_REMEMBERED_MAX {
            let cut = marks[marks.len() - limits::TAIL_REMEMBERED_MAX - 1].0;
            floor = cut.plus_ms(1);
            marks.retain(|(at, _)| *at >= floor);
        }
        let marks = marks.into_iter().map(|(_, mark)| mark).collect();
        Ok(Look { shown, more, whole, floor, marks })
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
    ) -> Result<Vec<(Record, Integrity)>> {
        let mut found = Vec::new();
        let oldest = tenant.created_day().max(now.minus_days(FIRST_DAYS).day());
        let mut day = now.plus_ms(limits::FUTURE_MS_MAX).day();
        let mut scanned = 0;
        while found.len() < most && scanned < limits::TAIL_SCANNED_MAX {
            let mut records = Vec::new();
            let first = EventId::first_at(Timestamp::default());
            let left = limits::TAIL_SCANNED_MAX - scanned;
            self.read_day(tenant, day, first, left.min(most.max(CHUNK) * 4), &mut records).await?;
            scanned += records.len().max(CHUNK / 10);
            records.retain(|record| record.received_at < before);
            let mut admitted = self.admitted(tenant, filter, records).await?;
            admitted.truncate(most - found.len());
            found.append(&mut admitted);
            match day.previous().filter(|before| *before >= oldest) {
                Some(before) => day = before,
                None => break,
            }
        }
        found.sort_by_key(|(record, _)| (record.received_at, record.id));
        Ok(found)
    }

    /// The records that a filter admits, with where they stand.
    async fn admitted(
        &self,
        tenant: &Tenant,
        filter: &Filter,
        records: Vec<Record>,
    ) -> Result<Vec<(Record, Integrity)>> {
        let mut candidates = Vec::new();
        for record in records {
            if filter.judge(&record, None)? != Some(false) {
                candidates.push(record);
            }
        }
        let found = candidates.into_iter().map(|record| Found { record, leaf_index: None }).collect();
        let mut placed = self.placed(tenant, found).await?.records;
        if filter.needs_state() {
            let mut admitted = Vec::with_capacity(placed.len());
            for (record, integrity) in placed {
                if filter.judge(&record, Some(integrity.into()))? == Some(true) {
                    admitted.push((record, integrity));
                }
            }
            placed = admitted;
        }
        Ok(placed)
    }
}
