//! `GET /v1/events`: a page, what was searched for it, and how far everything has got.

use crate::Query;
use crate::scan::days;
use crate::search::{Found, Question, Search, Snapshot};
use futures_util::future::{join, join_all, try_join};
use http::StatusCode;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use stele::access::{Grant, Tenant};
use stele::archive::ArchiveEntry;
use stele::id::EventId;
use stele::ports::{Order, Reconciled};
use stele::query::{Cursor, CursorKey, Filter, ListRequest, Start};
use stele::record::Record;
use stele::routes::Parameters;
use stele::segment::Head;
use stele::time::Timestamp;
use stele::tlog::hash::TreeSize;
use stele::wire::{Integrity, escaped_bytes, event_json};
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
pub(crate) struct Searched {
    #[serde(serialize_with = "time")]
    pub(crate) from: Timestamp,
    #[serde(serialize_with = "time")]
    pub(crate) to: Timestamp,
    /// Whether nothing that was asked for can be missing: false for a page cut short before it was full, where files of the
    /// archive have expired, and while acknowledged events wait in a queue.
    pub(crate) complete: bool,
}

impl Searched {
    /// Of a tenant that has no event yet.
    pub(crate) fn nothing(now: Timestamp, complete: bool) -> Searched {
        Searched { from: now, to: now.plus_ms(limits::FUTURE_MS_MAX), complete }
    }
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

impl Watermarks {
    pub(crate) fn of(
        accepted: Timestamp,
        head: Option<Head>,
        archived: Option<ArchiveEntry>,
        reconciled: Option<Reconciled>,
    ) -> Watermarks {
        Watermarks {
            accepted,
            sealed: head.filter(|head| head.size() > TreeSize::ZERO).map(|head| head.received_max),
            archived: archived.map(|last| last.running_received_max),
            verified: reconciled.map(|reconciled| reconciled.through.next().start()),
        }
    }
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

/// What a search brought for one page.
#[derive(Default)]
struct PageFound {
    found: Vec<Found>,
    total: usize,
    total_is_exact: bool,
    /// There is at least one more than the page takes.
    more: bool,
    /// The search came to its end.
    ended: bool,
    skip: usize,
    /// The first id that was not looked at.
    frontier: Option<EventId>,
    /// Something that could hold events is gone, its retention being over.
    gone: bool,
    /// The earliest time of anything in the log, where it was looked into.
    earliest: Option<Timestamp>,
    snapshot: Option<Snapshot>,
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
            None => (PageFound { ended: true, total_is_exact: true, ..PageFound::default() }, None),
        };
        let received = found.found.iter().map(|f| f.record.received_at).max();
        let Placed { head, archived, records } = match &tenant {
            Some(tenant) => self.placed(tenant, std::mem::take(&mut found.found)).await?,
            None => Placed::default(),
        };

        let mut events = Vec::with_capacity(records.len());
        let mut bytes = 0;
        // Whoever counts in offsets has to get all of a page, or an error.
        let may_be_short = parameters.one("offset")?.is_none();
        for (record, integrity) in &records {
            let event = event_json(record, *integrity)?;
            bytes += escaped_bytes(event.get().as_bytes());
            if may_be_short && bytes > limits::PAGE_BYTES_MAX && !events.is_empty() {
                found.more = true;
                break;
            }
            events.push(event);
        }
        let last = events.len().checked_sub(1).map(|at| records[at].0.id);

        // The listing began with its first page: what is received from then on is not part of it, nor are leaves that came
        // later. A clock of ingest that runs ahead of ours must not hide what this page shows or the log holds, so the latest
        // of all counts. What is proven was read before the head: it is in the log of that size.
        let snapshot = found.snapshot.unwrap_or_else(|| Snapshot {
            tree_size: head.as_ref().map_or(TreeSize::ZERO, Head::size),
            received_max: head.as_ref().map_or(Timestamp::default(), |head| head.received_max),
            proven_until: reconciled.as_ref().map_or(Timestamp::default(), |r| r.through.next().start()),
        });
        let (issued_at, as_of) = match cursor {
            Some(cursor) => (cursor.issued_at, cursor.as_of),
            None => (now, received.unwrap_or(now).max(now).max(snapshot.received_max)),
        };
        let next = match (found.more, found.ended) {
            (true, _) => last.map(|last| (last, 0)),
            (false, true) => None,
            (false, false) => found.frontier.map(|frontier| {
                let before = match request.order {
                    Order::Ascending => frontier.previous(),
                    Order::Descending => frontier.next(),
                };
                (before.unwrap_or(frontier), found.skip)
            }),
        };
        let seal = |(last, skip): (EventId, usize)| {
            let skip = u32::try_from(skip).unwrap_or(u32::MAX);
            let Snapshot { tree_size, proven_until, .. } = snapshot;
            key.seal(&Cursor { issued_at, as_of, tree_size, proven_until, last, skip })
        };
        let mut searched = match &tenant {
            Some(tenant) => {
                self.searched(tenant, &request, cursor, next.map(|(id, _)| id), &found, as_of, now).await?
            }
            None => Searched::nothing(now, true),
        };
        searched.complete &= !waiting;
        let counted = cursor.is_none().then(|| Counted {
            total: found.total.min(limits::TOTAL_EXACT_MAX),
            total_is: if found.total_is_exact && found.total <= limits::TOTAL_EXACT_MAX {
                "exact"
            } else {
                "at_least"
            },
            limit: request.limit,
            offset,
        });
        let page = Page {
            events,
            next_cursor: next.map(seal),
            counted,
            searched,
            watermarks: Watermarks::of(as_of, head, archived, reconciled),
        };
        Ok(json(StatusCode::OK, &page))
    }

    /// Whether acknowledged events may wait where no search finds them. A queue that does not answer may hold some.
    pub(crate) async fn waiting(&self) -> bool {
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
    ) -> Result<PageFound> {
        let mut skip = cursor.map_or(offset, |c| c.skip as usize);
        let question = Question {
            filter: &request.filter,
            order: request.order,
            cursor,
            // One more than the page takes tells whether there is another page.
            wanted: skip + request.limit + 1,
            scanned_max: limits::PAGE_SCANNED_MAX,
            within: None,
        };
        let mut search = Search::new(self, tenant, question, now).await?;
        let mut page = PageFound::default();
        loop {
            let found = search.next().await?;
            if found.is_empty() {
                break;
            }
            page.total += found.len();
            for found in found {
                if skip > 0 {
                    skip -= 1;
                } else if page.found.len() < request.limit {
                    page.found.push(found);
                } else {
                    page.more = true;
                }
            }
        }
        page.frontier = search.frontier();
        page.ended = page.frontier.is_none();
        page.skip = skip;
        page.gone = search.gone;
        page.earliest = search.earliest;
        page.snapshot = search.snapshot();
        page.total_is_exact = page.ended;
        // With a cursor nothing is counted; without one, only as far as the total is exact, and where that reads no object.
        if page.more && !page.ended && cursor.is_none() {
            let most = limits::TOTAL_EXACT_MAX.saturating_sub(page.total);
            let (rest, exact) = search.count_rest(most).await?;
            page.total += rest;
            page.total_is_exact = exact;
        }
        Ok(page)
    }

    /// Which occurred times the page speaks of.
    #[expect(clippy::too_many_arguments, reason = "the facts of one page, used once")]
    async fn searched(
        &self,
        tenant: &Tenant,
        request: &ListRequest,
        cursor: Option<Cursor>,
        next: Option<EventId>,
        found: &PageFound,
        as_of: Timestamp,
        now: Timestamp,
    ) -> Result<Searched> {
        let filter = &request.filter;
        let begun = cursor.map(|cursor| cursor.last.time());
        // A full page ends with its last event; a short one before the first id that was not looked at, whose millisecond may be
        // half looked at.
        let stopped = if found.more { next } else { found.frontier }.map(EventId::time);
        let (first, end) = match (request.order, found.more) {
            (Order::Descending, true) => (stopped, begun.map(|begun| begun.plus_ms(1))),
            (Order::Descending, false) => {
                (stopped.map(|stopped| stopped.plus_ms(1)), begun.map(|begun| begun.plus_ms(1)))
            }
            (Order::Ascending, true) => (begun, stopped.map(|stopped| stopped.plus_ms(1))),
            (Order::Ascending, false) => (begun, stopped),
        };
        let from = match (first, filter.from()) {
            (Some(first), from) => from.map_or(first, |from| from.max(first)),
            (None, Some(from)) => from,
            (None, None) => {
                let hot = self.earliest(tenant, now).await?;
                found.earliest.map_or(hot, |cold| cold.min(hot))
            }
        };
        let to = filter.to().unwrap_or_else(|| as_of.plus_ms(limits::FUTURE_MS_MAX));
        let to = end.map_or(to, |end| to.min(end));
        Ok(Searched { from, to, complete: !found.gone && (found.ended || found.more) })
    }

    /// The first day there can be anything of a tenant.
    pub(crate) async fn earliest(&self, tenant: &Tenant, now: Timestamp) -> Result<Timestamp> {
        let Some(all) = Filter::default().range() else { return Ok(tenant.first_day().start()) };
        let days = days(&*self.hot, tenant, all, Order::Ascending, None, now).await?;
        Ok(days.front().map_or(tenant.first_day().start(), |day| day.start()))
    }

    /// Records with where they lie. The head is read after the records, so that a record shown as not yet
    /// sealed was not sealed when the head was read.
    pub(crate) async fn placed(&self, tenant: &Tenant, found: Vec<Found>) -> Result<Placed> {
        let Some(head) = self.heads.head(tenant).await? else {
            let records = found.into_iter().map(|found| (found.record, Integrity::Recorded)).collect();
            return Ok(Placed { records, ..Placed::default() });
        };
        let unplaced = found.iter().filter(|found| found.leaf_index.is_none()).map(|found| &found.record);
        let wanted: Vec<_> = unplaced.map(|record| (record.id, record.received_at)).collect();
        let tree_size = head.size();
        let places = self.places.places_below(tenant, &head, &wanted);
        let (places, archived) = try_join(places, self.last_archived(tenant, tree_size)).await?;
        let archived_size = archived.as_ref().map_or(TreeSize::ZERO, |last| last.end);
        let placed = found.into_iter().map(|Found { record, leaf_index }| {
            let integrity = match leaf_index.as_ref().or_else(|| places.get(&record.id)) {
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
