//! `GET /v1/feed`: sealed events in leaf order, from any leaf on, out of segments and archive alike. Whoever asks on with
//! `next_after` sees every leaf once; what has expired is told. Reading it is not logged.

use crate::Query;
use crate::listing::Watermarks;
use futures_util::future::try_join;
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use stele::access::{Grant, Tenant};
use stele::id::EventId;
use stele::limits;
use stele::query::{Bounds, FeedRequest, State};
use stele::record::Record;
use stele::routes::{Parameters, bad_parameter};
use stele::segment::Head;
use stele::time::Timestamp;
use stele::tlog::hash::TreeSize;
use stele::wire::{Integrity, escaped_bytes, event_json};
use stele::{Error, Result};
use stele_adapters::clock::Patience;
use stele_adapters::http::{Response, json};
use stele_adapters::stored_tree::{Found, Outline};

/// What passing over a part unread costs, counted in leaves.
const PASSING_COST: u64 = 500;

#[derive(Serialize)]
struct FeedPage {
    events: Vec<Box<RawValue>>,
    next_after: Option<u64>,
    tree_size: u64,
    caught_up: bool,
    expired: Option<Expired>,
    watermarks: Watermarks,
}

/// Leaves that are gone, both included.
#[derive(Serialize)]
struct Expired {
    from: u64,
    to: u64,
}

/// How far one answer has got.
struct Walk {
    at: TreeSize,
    events: Vec<Box<RawValue>>,
    bytes: usize,
    scanned: u64,
    expired: Option<(TreeSize, TreeSize)>,
}

/// What is known of a part of the log before it is read.
struct Known(Outline);

impl Bounds for Known {
    fn ids(&self) -> Option<(EventId, EventId)> {
        Some(self.0.ids)
    }

    fn state(&self) -> Option<State> {
        Some(if self.0.archived { State::Archived } else { State::Sealed })
    }
}

impl Query {
    pub(crate) async fn feed(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        let request = FeedRequest::parse(parameters, self.clock.now())?;
        let patience = Patience::of_seconds(request.wait_seconds);
        let mut walk = Walk { at: request.seen, events: Vec::new(), bytes: 0, scanned: 0, expired: None };
        let (tenant, size) = loop {
            let tenant = self.tenant(grant, parameters).await?;
            let size = match &tenant {
                Some(tenant) => {
                    let head = self.heads.head(tenant).await?;
                    let size = head.as_ref().map_or(TreeSize::ZERO, Head::size);
                    self.beyond(&request, size)?;
                    self.walk(tenant, &request, size, &mut walk).await?;
                    size
                }
                None => {
                    self.beyond(&request, TreeSize::ZERO)?;
                    TreeSize::ZERO
                }
            };
            let is_news = !walk.events.is_empty() || walk.expired.is_some() || walk.at < size;
            if is_news || !patience.again().await {
                break (tenant, size);
            }
        };
        let page = FeedPage {
            events: walk.events,
            next_after: walk.at.last_index().map(|index| index.to_u64()),
            tree_size: size.to_u64(),
            caught_up: walk.at == size,
            expired: walk
                .expired
                .map(|(first, end)| Expired { from: first.to_u64(), to: end.to_u64().saturating_sub(1) }),
            watermarks: self.watermarks_of(tenant.as_ref()).await?,
        };
        Ok(json(StatusCode::OK, &page))
    }

    /// Refuses to go on behind a leaf that is not there: whoever saw it saw another log.
    fn beyond(&self, request: &FeedRequest, size: TreeSize) -> Result<()> {
        match request.seen <= size {
            true => Ok(()),
            false => {
                let after = request.seen.to_u64() - 1;
                let detail = format!("`after` {after} is no leaf of the log, which has {size}");
                Err(bad_parameter("after", "bad_value", detail))
            }
        }
    }

    async fn walk(
        &self,
        tenant: &Tenant,
        request: &FeedRequest,
        size: TreeSize,
        walk: &mut Walk,
    ) -> Result<()> {
        let filter = &request.filter;
        let wanted = |outline| filter.may_match(&Known(outline));
        while walk.at < size && walk.has_room(request) && walk.scanned < limits::FEED_SCANNED_MAX {
            let part = self.tree.part(tenant, walk.at, size, self.clock.now(), &wanted).await?;
            match part.found {
                Found::Unwanted => {
                    walk.at = part.end;
                    walk.scanned += PASSING_COST;
                }
                Found::Expired => {
                    // A gap stands before the events of its answer, never between them.
                    match walk.expired {
                        None if walk.events.is_empty() => walk.expired = Some((walk.at, part.end)),
                        Some((first, end)) if end == walk.at && walk.events.is_empty() => {
                            walk.expired = Some((first, part.end));
                        }
                        _ => return Ok(()),
                    }
                    walk.at = part.end;
                    walk.scanned += PASSING_COST;
                }
                Found::Leaves { leaves, archived } => {
                    for leaf in leaves {
                        if !walk.has_room(request) {
                            return Ok(());
                        }
                        let record = Record::from_leaf(leaf)?;
                        let leaf_index = walk.at.next_index();
                        if record.tenant != *tenant.id() {
                            let at = format!("leaf {leaf_index} of `{}`", tenant.id());
                            return Err(Error::corrupt(at, "an event of that tenant", "one of another"));
                        }
                        let integrity = match archived {
                            true => Integrity::Archived { leaf_index, tree_size: size },
                            false => Integrity::Sealed { leaf_index, tree_size: size },
                        };
                        if filter.judge(&record, Some(integrity.into()))? == Some(true) {
                            let event = event_json(&record, integrity)?;
                            walk.bytes += escaped_bytes(event.get().as_bytes());
                            walk.events.push(event);
                        }
                        walk.at = leaf_index.size_after();
                        walk.scanned += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// How far a tenant's events have got, as of now.
    pub(crate) async fn watermarks_of(&self, tenant: Option<&Tenant>) -> Result<Watermarks> {
        let accepted: Timestamp = self.clock.now();
        let Some(tenant) = tenant else {
            return Ok(Watermarks { accepted, sealed: None, archived: None, verified: None });
        };
        let (head, reconciled) =
            try_join(self.heads.head(tenant), self.watermarks.reconciled(tenant)).await?;
        let head = head.filter(|head| head.size() > TreeSize::ZERO);
        let archived = match &head {
            Some(head) => self.last_archived(tenant, head.size()).await?,
            None => None,
        };
        Ok(Watermarks {
            accepted,
            sealed: head.map(|head| head.received_max),
            archived: archived.map(|last| last.running_received_max),
            verified: reconciled.map(|reconciled| reconciled.through.next().start()),
        })
    }
}

impl Walk {
    fn has_room(&self, request: &FeedRequest) -> bool {
        self.events.len() < request.limit && self.bytes < limits::POLL_BYTES_MAX
    }
}
