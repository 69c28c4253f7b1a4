//! What lifecycle has taken away: files of the archive whose time was over are recorded as expired, in the archive index and
//! by an event in the tenant's own log. A file that went before its time is lost, and told.

use crate::leaves::archive_key;
use crate::{Reconcile, Visit};
use serde_json::{Map, Value, json};
use stele::access::Tenant;
use stele::archive::ArchiveEntry;
use stele::error::Result;
use stele::id::EventId;
use stele::layout::{self, ObjectKey};
use stele::limits;
use stele::own_event::{By, OwnEvent};
use stele::ports::{LockedObjects, Put};
use stele::time::Timestamp;
use stele::tlog::hash::LeafIndex;

/// Entries of the archive index fetched at once.
const ENTRY_PAGE: usize = 500;
/// Keys listed at once.
const LIST_PAGE: usize = 1_000;
/// Locks are kept in whole seconds, so that one may end so much early.
const LOCK_SLACK_MS: u64 = 999;

/// The keys of a log's archive in order, for one who asks after rising keys.
struct Listing<'a> {
    objects: &'a dyn LockedObjects,
    prefix: String,
    keys: std::vec::IntoIter<String>,
    after: Option<String>,
    is_last: bool,
}

impl<'a> Listing<'a> {
    fn new(objects: &'a dyn LockedObjects, prefix: String) -> Listing<'a> {
        Listing { objects, prefix, keys: Vec::new().into_iter(), after: None, is_last: false }
    }

    /// The next key, unless it lies behind `until`.
    async fn next_until(&mut self, until: Option<&str>) -> Result<Option<String>> {
        if self.keys.len() == 0 && !self.is_last {
            let page = self.objects.list(&self.prefix, self.after.as_deref(), LIST_PAGE).await?;
            self.is_last = page.len() < LIST_PAGE;
            self.after = page.last().map(|object| object.key.clone()).or(self.after.take());
            self.keys = page.into_iter().map(|object| object.key).collect::<Vec<_>>().into_iter();
        }
        let is_behind = |key: &String| until.is_some_and(|until| key.as_str() > until);
        Ok(if self.keys.as_slice().first().is_some_and(is_behind) { None } else { self.keys.next() })
    }
}

impl Reconcile {
    /// Holds the archive index against the files there are.
    pub(crate) async fn record_expired_files(&self, visit: &mut Visit<'_>) -> Result<()> {
        let tenant = visit.tenant;
        let mut listing = Listing::new(&*self.objects, layout::archive_of(tenant.id(), tenant.log()));
        let (mut from, mut lost) = (LeafIndex::ZERO, Vec::new());
        loop {
            if self.clock.now() >= visit.deadline {
                visit.done.cut_short = true;
                break;
            }
            // Entries before keys: what has an entry was there to be listed.
            let page = self.archive.archived_from(tenant, from, ENTRY_PAGE).await?;
            for entry in &page {
                let key = archive_key(tenant, entry);
                let mut is_there = false;
                while let Some(listed) = listing.next_until(Some(key.as_str())).await? {
                    is_there = listed == key.as_str();
                    if !is_there {
                        self.tell_unindexed(visit, &listed);
                    }
                }
                if is_there || entry.expired.is_some() {
                    continue;
                }
                // A file that came after its page of keys was listed is there all the same.
                if self.locks.state(&key, &entry.version).await?.is_some() {
                    continue;
                }
                if entry.retain_until() <= visit.now.plus_ms(LOCK_SLACK_MS) {
                    self.record_expired(tenant, entry, &key, visit.now).await?;
                    visit.done.expired += 1;
                } else {
                    lost.push(key);
                }
            }
            match page.last() {
                Some(last) if page.len() == ENTRY_PAGE => from = last.end.next_index(),
                _ => {
                    while let Some(listed) = listing.next_until(None).await? {
                        self.tell_unindexed(visit, &listed);
                    }
                    break;
                }
            }
        }
        if let Some(first) = lost.first() {
            visit.done.lost += lost.len() as u64;
            visit.problem(format!(
                "{} files of the archive are gone before their time, the first is `{first}`",
                lost.len()
            ));
        }
        Ok(())
    }

    /// Compact adopts such a file, or rebuild.
    fn tell_unindexed(&self, visit: &mut Visit<'_>, key: &str) {
        tracing::info!(tenant = %visit.tenant.id(), key, "a file of the archive has no entry yet");
        visit.done.unindexed += 1;
    }

    /// Records that a file expired: the event first, so that no entry says so without it. Its id follows from the file alone,
    /// so that a repetition is a replay.
    async fn record_expired(
        &self,
        tenant: &Tenant,
        entry: &ArchiveEntry,
        key: &ObjectKey,
        now: Timestamp,
    ) -> Result<()> {
        let random = self.secrets.own_event_bits(tenant.id(), key.as_str());
        let id = EventId::new(entry.retain_until().plus_days(1), random);
        let record = expired_event(tenant, entry, key, id, now).record()?;
        // An earlier visit may have put it, and the hot store forgotten it since: no id is twice in a log.
        let forgotten = now.minus_days(tenant.record().hot_days);
        let may_be_forgotten = entry.retain_until() <= forgotten.plus_ms(limits::FUTURE_MS_MAX);
        let is_in_log =
            may_be_forgotten && self.cold.forgotten_record(tenant, id, forgotten).await?.is_some();
        if !is_in_log {
            let (received, occurred) = (record.received_at.day(), record.occurred_at.day());
            if received != occurred {
                self.hot.mark_late(tenant, received, occurred).await?;
            }
            let expires = now.plus_days(tenant.record().hot_days);
            // Whether it was there before makes no difference.
            self.hot.put(tenant, &Put { record, expires, remember: None }).await?;
        }
        // A crash before this line leaves the event; the next visit finds it and comes to this line.
        let expired = ArchiveEntry { expired: Some(now), ..entry.clone() };
        self.archive.put_archived(tenant, &expired).await
    }
}

fn expired_event<'a>(
    tenant: &'a Tenant,
    entry: &ArchiveEntry,
    key: &'a ObjectKey,
    id: EventId,
    now: Timestamp,
) -> OwnEvent<'a> {
    let (first, last) = (entry.first.to_u64(), entry.end.to_u64() - 1);
    let until = entry.retain_until();
    let particulars: [(&str, Value); 11] = [
        ("key", json!(key.as_str())),
        ("first_leaf_index", json!(first)),
        ("last_leaf_index", json!(last)),
        ("events", json!(entry.leaves())),
        ("bytes", json!(entry.bytes)),
        ("sha256", json!(entry.sha256.to_string())),
        ("class_days", json!(entry.class.days())),
        ("sealed_first", json!(entry.sealed_first.to_string())),
        ("sealed_last", json!(entry.sealed_last.to_string())),
        ("retain_until", json!(until.to_string())),
        ("found_gone_at", json!(now.to_string())),
    ];
    OwnEvent {
        id,
        tenant: tenant.id(),
        received_at: now,
        by: By::System,
        action: "stele.archive.expired",
        resource: ("archive_file", key.as_str()),
        description: format!(
            "{} events, leaves {first} to {last}, expired: class {} kept them until {until}",
            entry.leaves(),
            entry.class
        ),
        metadata: particulars
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    }
}
