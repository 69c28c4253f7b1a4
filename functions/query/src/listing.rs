//! `GET /v1/events`: a page, what was searched for it, and how far everything has got.

use crate::Query;
use crate::scan::{Scan, Step, days};
use futures_util::future::{join, join_all, try_join};
use http::StatusCode;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use stele::access::{Grant, Tenant};
use stele::archive::ArchiveEntry;
use stele::id::EventId;
use stele::ports::Order;
use stele::query::{Cursor, CursorKey, Filter, ListRequest, Start};
use stele::record::Record;
use stele::routes::Parameters;
use stele::segment::Head;
use stele::time::Timestamp;
use stele::tlog::hash::TreeSize;
use stele::wire::{Integrity, event_json};
use stele::{Result, limits};
use stele_adapters::http::{Response, json};

#[derive(Serialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    counted: Option<Counted>,
    searched: Searched,
    watermarks: Watermarks,
}

/// Only without a cursor.
#[derive(Serialize)]
struct Counted {
    total: usize,
    total_is: &'static str,
    limit: usize,
    offset: usize,
}

/// What a page can speak of: occurred times from `from` up to `to`.
#[derive(Serialize)]
struct Searched {
    #[serde(serialize_with = "time")]
    from: Timestamp,
    #[serde(serialize_with = "time")]
    to: Timestamp,
    /// Whether nothing that was asked for can be missing: false for a page cut short before it was full, where the
    /// hot store has begun to forget, and while acknowledged events wait in a queue.
    complete: bool,
}

/// How far everything has got, in `received_at`.
#[derive(Serialize)]
pub(crate) struct Watermarks {
    #[serde(serialize_with = "time")]
    pub(crate) accepted: Timestamp,
    #[serde(serialize_with = "optional_time")]
    pub(crate) sealed: Option<Timestamp>,
    /// What was received until then is in the archive.
    #[serde(serialize_with = "optional_time")]
    pub(crate) archived: Option<Timestamp>,
    /// What was received before is proven to be in the log.
    #[serde(serialize_with = "optional_time")]
    pub(crate) verified: Option<Timestamp>,
}

pub(crate) fn time<S: Serializer>(time: &Timestamp, s: S) -> std::result::Result<S::Ok, S::Error> {
    s.collect_str(time)
}

fn optional_time<S: Serializer>(time: &Option<Timestamp>, s: S) -> std::result::Result<S::Ok, S::Error> {
    match time {
        Some(time) => s.collect_str(time),
        None => s.serialize_none(),
    }
}

/// What a walk brought for one page.
#[derive(Default)]
struct Found {
    records: Vec<Record>,
    total: usize,
    /// There is at least one more than the page takes.
    more: bool,
    /// The walk came to its end.
    ended: bool,
    skip: usize,
    frontier: Option<EventId>,
}

/// Records with where they lie, and how far their log has got.
#[derive(Default)]
pub(crate) struct Placed {
    pub(crate) head: Option<Head>,
    /// The archive's last file.
    pub(crate) archived: Option<ArchiveEntry>,
    pub(crate) records: Vec<(Record, Integrity)>,
}

impl Query {
    pub(crate) async fn list(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        let now = self.clock.now();
        let mut request = ListRequest::parse(parameters, now)?;
        // Asked before anything is read: what leaves a queue meanwhile is then found.
        let (tenant, waiting) = join(self.tenant(grant, parameters), self.waiting()).await;
        let tenant = tenant?;
        let id = grant.choose(request.tenant_id.as_ref(), "tenant_id")?;
        let key = CursorKey::new(&self.secrets, &id, &request.filter, request.order);
        let (cursor, offset) = match &request.start {
            Start::Cursor(text) => (Some(key.open(text, now)?), 0),
            Start::Offset(offset) => (None, *offset),
        };
        if let Some(cursor) = cursor {
            // All pages ask what the first one asked.
            request.filter = request.filter.at(cursor.issued_at);
        }
        let (mut found, reconciled) = match &tenant {
            Some(tenant) => {
                let found = self.find(tenant, &request, cursor, offset, now);
                try_join(found, self.watermarks.reconciled(tenant)).await?
            }
            None => (Found { ended: true, ..Found::default() }, None),
        };

        // The listing began with its first page: what is received from then on is not part of it. A clock of
        // ingest that runs ahead of ours must not hide what this page shows, so the latest record counts too.
        let received = found.records.iter().map(|r| r.received_at).max();
        let (issued_at, as_of) = match cursor {
            Some(cursor) => (cursor.issued_at, cursor.as_of),
            None => (now, received.unwrap_or(now).max(now)),
        };
        let last = found.records.last().map(|r| r.id);
        let next = match (found.more, found.ended) {
            (true, _) => last.map(|last| (last, 0)),
            (false, true) => None,
            (false, false) => found.frontier.map(|frontier| (frontier, found.skip)),
        };
        let seal = |(last, skip): (EventId, usize)| {
            key.seal(&Cursor { issued_at, as_of, last, skip: u32::try_from(skip).unwrap_or(u32::MAX) })
        };
        let mut searched = match &tenant {
            Some(tenant) => {
                self.searched(tenant, &request, cursor, next.map(|(id, _)| id), &found, as_of, now).await?
            }
            None => Searched { from: now, to: now.plus_ms(limits::FUTURE_MS_MAX), complete: true },
        };
        searched.complete &= !waiting;
        let counted = cursor.is_none().then(|| Counted {
            total: found.total.min(limits::TOTAL_EXACT_MAX),
            total_is: if found.ended && found.total <= limits::TOTAL_EXACT_MAX {
                "exact"
            } else {
                "at_least"
            },
            limit: request.limit,
            offset,
        });
        let Placed { head, archived, records } = match &tenant {
            Some(tenant) => self.placed(tenant, std::mem::take(&mut found.records)).await?,
            None => Placed::default(),
        };
        let page = Page {
            events: records
                .iter()
                .map(|(record, integrity)| event_json(record, *integrity))
                .collect::<Result<_>>()?,
            next_cursor: next.map(seal),
            counted,
            searched,
            watermarks: Watermarks {
                accepted: as_of,
                sealed: head.filter(|head| head.size() > TreeSize::ZERO).map(|head| head.received_max),
                archived: archived.map(|last| last.running_received_max),
                verified: reconciled.map(|reconciled| reconciled.through.next().start()),
            },
        };
        Ok(json(StatusCode::OK, &page))
    }

    /// Whether acknowledged events may wait where no search finds them. A queue that does not answer may hold some.
    async fn waiting(&self) -> bool {
        let asked = self.backlogs.iter().map(|backlog| backlog.waiting());
        join_all(asked).await.into_iter().any(|waiting| waiting.unwrap_or(true))
    }

    async fn find(
        &self,
        tenant: &Tenant,
        request: &ListRequest,
        cursor: Option<Cursor>,
        offset: usize,
        now: Timestamp,
    ) -> Result<Found> {
        let (filter, order) = (&request.filter, request.order);
        let (after, as_of) = (cursor.map(|c| c.last), cursor.map(|c| c.as_of));
        let mut scan = Scan::new(&*self.hot, tenant, filter, order, after, as_of, now).await?;
        let mut found = Found { skip: cursor.map_or(offset, |c| c.skip as usize), ..Found::default() };
        loop {
            // With a cursor nothing is counted; without one, only as far as the total is exact.
            let counted = cursor.is_some() || found.total > limits::TOTAL_EXACT_MAX;
            if found.more && counted || scan.scanned() >= limits::PAGE_SCANNED_MAX {
                break;
            }
            let Some(step) = scan.step(found.more).await? else {
                found.ended = true;
                break;
            };
            let step = self.decided(tenant, filter, step).await?;
            found.total += step.matched;
            for record in step.records {
                if found.skip > 0 {
                    found.skip -= 1;
                } else if found.records.len() < request.limit {
                    found.records.push(record);
                } else {
                    found.more = true;
                    break;
                }
            }
        }
        found.frontier = scan.frontier();
        Ok(found)
    }

    /// A step whose records are decided also where that takes their places in the log.
    pub(crate) async fn decided(&self, tenant: &Tenant, filter: &Filter, step: Step) -> Result<Step> {
        if !filter.needs_state() || step.records.is_empty() {
            return Ok(step);
        }
        let mut records = Vec::new();
        for (record, integrity) in self.placed(tenant, step.records).await?.records {
            if filter.judge(&record, Some(integrity.into()))? == Some(true) {
                records.push(record);
            }
        }
        Ok(Step { matched: records.len(), records })
    }

    /// Which occurred times the page speaks of.
    #[expect(clippy::too_many_arguments, reason = "the facts of one page, used once")]
    async fn searched(
        &self,
        tenant: &Tenant,
        request: &ListRequest,
        cursor: Option<Cursor>,
        next: Option<EventId>,
        found: &Found,
        as_of: Timestamp,
        now: Timestamp,
    ) -> Result<Searched> {
        let filter = &request.filter;
        let begun = cursor.map(|cursor| cursor.last.time());
        let stopped = next.map(EventId::time);
        let (first, last) = match request.order {
            Order::Descending => (stopped, begun),
            Order::Ascending => (begun, stopped),
        };
        let from = match (first, filter.from()) {
            (Some(first), from) => from.map_or(first, |from| from.max(first)),
            (None, Some(from)) => from,
            (None, None) => self.earliest(tenant, now).await?,
        };
        let to = filter.to().unwrap_or_else(|| as_of.plus_ms(limits::FUTURE_MS_MAX));
        let to = last.map_or(to, |last| to.min(last.plus_ms(1)));
        // The hot store forgets by `received_at`, which is never much before `occurred_at`.
        let forgotten_before = tenant.record().forgotten(now);
        let nothing_forgotten =
            tenant.record().created_ms >= forgotten_before.ms() || from >= forgotten_before;
        Ok(Searched { from, to, complete: nothing_forgotten && (found.ended || found.more) })
    }

    /// The first day there can be anything of a tenant.
    async fn earliest(&self, tenant: &Tenant, now: Timestamp) -> Result<Timestamp> {
        let Some(all) = Filter::default().range() else { return Ok(tenant.created_day().start()) };
        let days = days(&*self.hot, tenant, all, Order::Ascending, now).await?;
        Ok(days.front().map_or(tenant.created_day().start(), |day| day.start()))
    }

    /// Records with where they lie. The head is read after the records, so that a record shown as not yet
    /// sealed was not sealed when the head was read.
    pub(crate) async fn placed(&self, tenant: &Tenant, records: Vec<Record>) -> Result<Placed> {
        let Some(head) = self.heads.head(tenant).await? else {
            let records = records.into_iter().map(|record| (record, Integrity::Recorded)).collect();
            return Ok(Placed { records, ..Placed::default() });
        };
        let wanted: Vec<_> = records.iter().map(|r| (r.id, r.received_at)).collect();
        let tree_size = head.size();
        let places = self.places.places_below(tenant, &head, &wanted);
        let (places, archived) = try_join(places, self.last_archived(tenant, tree_size)).await?;
        let archived_size = archived.as_ref().map_or(TreeSize::ZERO, |last| last.end);
        let placed = records.into_iter().map(|record| {
            let integrity = match places.get(&record.id) {
                Some(leaf_index) if leaf_index.size_before() < archived_size => {
                    Integrity::Archived { leaf_index: *leaf_index, tree_size }
                }
                Some(leaf_index) => Integrity::Sealed { leaf_index: *leaf_index, tree_size },
                None => Integrity::Recorded,
            };
            (record, integrity)
        });
        let records = placed.collect();
        Ok(Placed { head: Some(head), archived, records })
    }
}
