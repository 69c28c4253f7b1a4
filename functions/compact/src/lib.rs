//! The compact function: it rolls a tenant's waiting segments into files of the archive, and carries what was decided about
//! retention and legal holds to the objects.
//!
//! The put of a file is its only commit point. All else can be done again from what is stored: whoever visits the
//! tenant next goes on where a crash left off. It deletes nothing; lifecycle rules do, and only what has a tag.

mod enforce;
mod file;
mod guard;
mod plan;

pub use plan::Planned;

use std::path::PathBuf;
use std::sync::Arc;
use stele::access::Tenant;
use stele::archive::{ArchiveEntry, next_file_end};
use stele::errand::Errand;
use stele::error::{Error, Result};
use stele::id::TenantId;
use stele::limits;
use stele::ports::{ArchiveIndex, ArchiveObjects, Clock, Heads, LockedObjects, Policies, Tenants};
use stele::public_key::SigningSeeds;
use stele::segment::IndexEntry;
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele_adapters::retry::retrying;

/// Entries of an index read at once.
pub(crate) const PAGE: usize = 500;

/// Compacts. Clients live as long as it does: make one per cold start.
pub struct Compact {
    /// Heads and the segment index.
    pub heads: Arc<dyn Heads>,
    /// Reading, and writing what is small.
    pub objects: Arc<dyn LockedObjects>,
    /// Writing files, locks, holds and tags.
    pub archive: Arc<dyn ArchiveObjects>,
    /// The archive index.
    pub index: Arc<dyn ArchiveIndex>,
    /// Retention and holds.
    pub policies: Arc<dyn Policies>,
    /// The tenants on record.
    pub tenants: Arc<dyn Tenants>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The Ed25519 seeds manifests are signed with: each log's with the one that signs the log.
    pub seeds: SigningSeeds,
    /// A folder for files under way: room for two of them.
    pub spool: PathBuf,
}

/// What a visit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// Leaves that went into the archive.
    pub archived: u64,
    /// Files they went into.
    pub files: u64,
    /// Segments whose lock had to be lengthened because they wait too long.
    pub overdue: u64,
    /// Objects held against policy.
    pub enforced: u64,
    /// Time ran out: send somebody again.
    pub unfinished: bool,
}

impl Compact {
    /// Visits a tenant, until nothing is due or the time has come. It may be cut off anywhere and repeated.
    ///
    /// # Errors
    /// `corrupt` where what is stored is not what the log says: nothing is archived then, and nothing tagged.
    pub async fn visit(&self, errand: &Errand, until: Timestamp) -> Result<Visit> {
        let mut visit = Visit::default();
        let tenant = self.tenant(&errand.tenant).await?;
        visit.overdue = self.lengthen_overdue(&tenant).await?;
        if let Some(last) = self.last_entry(&tenant).await? {
            self.settle(&tenant, last).await?;
        }
        if !self.enforce(&tenant, until, &mut visit).await? {
            visit.unfinished = true;
            return Ok(visit);
        }
        loop {
            if self.clock.now() >= until {
                visit.unfinished = true;
                return Ok(visit);
            }
            let waiting = self.waiting(&tenant).await?;
            let now = if errand.close_today {
                self.clock.now().plus_days(limits::ARCHIVE_WAIT_DAYS_MAX + 1)
            } else {
                self.clock.now()
            };
            let Some(end) = next_file_end(&waiting, now) else { return Ok(visit) };
            let segments: Vec<IndexEntry> =
                waiting.into_iter().take_while(|segment| segment.end <= end).collect();
            let entry = self.roll(&tenant, &segments).await?;
            visit.archived += entry.leaves();
            visit.files += 1;
            // A crash here leaves a file on record whose segments are not tagged: the next visit begins with that.
            self.settle(&tenant, entry).await?;
        }
    }

    /// A tenant as it is on record now.
    pub(crate) async fn tenant(&self, id: &TenantId) -> Result<Tenant> {
        let record = retrying(|| self.tenants.tenant(id)).await?;
        let record = record
            .ok_or_else(|| Error::corrupt(format!("an errand to `{id}`"), "a tenant on record", "none"))?;
        Tenant::on_record(record)
    }

    /// The latest entry of the archive index.
    async fn last_entry(&self, tenant: &Tenant) -> Result<Option<ArchiveEntry>> {
        let all = TreeSize::new(i64::MAX as u64);
        Ok(retrying(|| self.index.archived_below(tenant, all, 1)).await?.into_iter().next())
    }

    async fn archived(&self, tenant: &Tenant) -> Result<TreeSize> {
        Ok(self.last_entry(tenant).await?.map_or(TreeSize::ZERO, |entry| entry.end))
    }

    /// The segments that are not in the archive, from the oldest on, without a gap; cut off once there are more than a file
    /// takes. Never beyond the head: what lies there may not be the log's yet.
    async fn waiting(&self, tenant: &Tenant) -> Result<Vec<IndexEntry>> {
        let archived = self.archived(tenant).await?;
        let Some(head) = retrying(|| self.heads.head(tenant)).await? else { return Ok(Vec::new()) };
        let mut waiting: Vec<IndexEntry> = Vec::new();
        let mut at = archived;
        while at < head.size() && at.to_u64() - archived.to_u64() <= 2 * limits::ARCHIVE_FILE_LEAVES {
            let page = retrying(|| self.heads.index_from(tenant, at.next_index(), PAGE)).await?;
            let before = waiting.len();
            for entry in page {
                if entry.end > head.size() {
                    break;
                }
                if entry.first.size_before() != at {
                    return Err(gap(tenant, at, format!("one that begins at {}", entry.first)));
                }
                at = entry.end;
                waiting.push(entry);
            }
            if waiting.len() == before {
                return Err(gap(tenant, at, "none".to_owned()));
            }
        }
        Ok(waiting)
    }

    /// Archive entries from a leaf on, one page.
    async fn entries_from(&self, tenant: &Tenant, from: LeafIndex) -> Result<Vec<ArchiveEntry>> {
        retrying(|| self.index.archived_from(tenant, from, PAGE)).await
    }
}

fn gap(tenant: &Tenant, at: TreeSize, found: String) -> Error {
    let expected = format!("an entry that begins at {at} (run `stele rebuild`)");
    Error::corrupt(format!("segment index of `{}`", tenant.id()), expected, found)
}
