//! What retention and legal holds share: which objects there are, the event in the tenant's own log, and the pass over
//! all objects that a change asks for.
//!
//! A change is durable in this order: the change itself, its event, the request for a pass. What a crash leaves between
//! two of them, the same request sent again completes. The pass is compact's.

use crate::Query;
use serde::Serialize;
use stele::Result;
use stele::access::Tenant;
use stele::archive::ArchiveEntry;
use stele::errand::Errand;
use stele::own_event::OwnEvent;
use stele::ports::{ColdStore, Put};
use stele::retention::Enforcement;
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};

/// Index entries read at once.
const PAGE: usize = 1_000;

/// Files, and what is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sums {
    pub(crate) files: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, entry: &ArchiveEntry) {
        self.files += 1;
        self.events += entry.leaves();
        self.bytes += entry.bytes;
    }
}

/// The objects policy speaks of.
#[derive(Debug, Default)]
pub(crate) struct Governed {
    /// The archive's files that are there.
    pub(crate) files: Vec<ArchiveEntry>,
    /// Segments that are not in the archive.
    pub(crate) waiting: u64,
}

impl Governed {
    pub(crate) fn objects(&self) -> u64 {
        self.files.len() as u64 + self.waiting
    }
}

/// How far a pass is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Progress {
    checked: u64,
    objects: u64,
}

impl Progress {
    pub(crate) fn new(enforcement: &Enforcement, objects: u64) -> Progress {
        // A pass that nobody has begun has checked nothing of what it is asked for.
        let begun = enforcement.started == enforcement.requested;
        Progress { checked: if begun { enforcement.checked.min(objects) } else { 0 }, objects }
    }

    pub(crate) const fn whole(objects: u64) -> Progress {
        Progress { checked: objects, objects }
    }
}

impl Query {
    /// All objects of a tenant that policy speaks of, by the two indexes.
    pub(crate) async fn governed(&self, tenant: &Tenant) -> Result<Governed> {
        let mut governed = Governed::default();
        let mut from = LeafIndex::ZERO;
        loop {
            let page = self.archive.archived_from(tenant, from, PAGE).await?;
            let read = page.len();
            from = page.last().map_or(from, |entry| entry.end.next_index());
            governed.files.extend(page.into_iter().filter(|entry| entry.expired.is_none()));
            if read < PAGE {
                break;
            }
        }
        loop {
            let page = self.heads.index_from(tenant, from, PAGE).await?;
            governed.waiting += page.len() as u64;
            from = page.last().map_or(from, |entry| entry.end.next_index());
            if page.len() < PAGE {
                return Ok(governed);
            }
        }
    }

    /// The last file of the archive below a size.
    pub(crate) async fn last_archived(
        &self,
        tenant: &Tenant,
        size: TreeSize,
    ) -> Result<Option<ArchiveEntry>> {
        Ok(self.archive.archived_below(tenant, size, 1).await?.into_iter().next())
    }

    /// Stores an event of the log's own, once: an event whose id is there already is the same event.
    pub(crate) async fn put_own_event(&self, tenant: &Tenant, event: &OwnEvent<'_>) -> Result<()> {
        let record = event.record()?;
        let (occurred, now) = (event.id.time(), event.received_at);
        let forgotten = tenant.record().forgotten(now);
        // The hot store takes what it has forgotten for new, and no id may be twice in a log.
        if occurred <= forgotten && self.places.forgotten_record(tenant, event.id, forgotten).await?.is_some()
        {
            return Ok(());
        }
        if occurred.day() != now.day() {
            self.hot.mark_late(tenant, now.day(), occurred.day()).await?;
        }
        let put = Put { record, expires: now.plus_days(tenant.record().hot_days), remember: None };
        self.hot.put(tenant, &put).await?;
        Ok(())
    }

    /// Asks for passes until one with this number is asked for, and sends compact there. An errand that is lost costs
    /// an hour: the schedule finds what is due.
    pub(crate) async fn ask_for_pass(&self, tenant: &Tenant, number: u64) -> Result<()> {
        let mut requested = self.policies.enforcement(tenant).await?.requested;
        while requested < number {
            requested = self.policies.request_enforcement(tenant).await?;
        }
        self.send_errand(tenant).await;
        Ok(())
    }

    /// Asks for one more pass.
    pub(crate) async fn ask_for_another_pass(&self, tenant: &Tenant) -> Result<()> {
        self.policies.request_enforcement(tenant).await?;
        self.send_errand(tenant).await;
        Ok(())
    }

    async fn send_errand(&self, tenant: &Tenant) {
        if let Err(error) = self.compaction.send(Errand::to(tenant.id().clone()).message()).await {
            tracing::warn!(%error, "the errand to compact was not sent: its schedule finds what is due");
        }
    }
}

/// A time as answers show it.
pub(crate) fn shown(ms: u64) -> String {
    Timestamp::from_ms(ms).to_string()
}
