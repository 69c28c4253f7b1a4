//! What policy says of an object: by the database, where there is one, else by what stands on the object and in it.
//!
//! It asks for one object at a time, after the object was looked at, so that it is never behind what it judges.

use super::judge::Expected;
use std::collections::HashMap;
use std::sync::Arc;
use stele::access::{LogNumber, Tenant};
use stele::archive::ArchiveEntry;
use stele::error::Result;
use stele::id::TenantId;
use stele::layout::{Object, ObjectKey};
use stele::ports::{ArchiveIndex, Heads, ListedObject, LockedObjects, Policies, Tenants};
use stele::retention::{LegalHold, TimesOfLeaves, is_held};
use stele::segment::IndexEntry;
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele_adapters::dynamodb::DynamoStore;
use stele_adapters::parquet::archive::ArchiveFile;
use stele_adapters::parquet::decode_ids;
use tokio::sync::Mutex;

/// Tenants on record, read at once.
const TENANTS_PAGE: usize = 200;
/// Entries of an index, read at once.
const PAGE: usize = 500;
/// Tenants whose holds are remembered.
const REMEMBERED_MAX: usize = 1_000;

/// Where policy is looked up.
pub(super) struct Lookup {
    store: Option<DynamoStore>,
    objects: Arc<dyn LockedObjects>,
    remembered: Mutex<HashMap<TenantId, Option<Arc<Decided>>>>,
}

/// What was decided about a tenant.
struct Decided {
    tenant: Tenant,
    holds: Vec<LegalHold>,
}

/// An object that is not where the database says it is.
pub(super) struct Missing {
    pub(super) key: String,
    pub(super) version: String,
    /// Until when it has to be there; `None` for a segment that is not in the archive.
    pub(super) retain_until: Option<Timestamp>,
    /// Whether an open hold covers it.
    pub(super) held: bool,
}

impl Lookup {
    pub(super) fn new(store: Option<DynamoStore>, objects: Arc<dyn LockedObjects>) -> Lookup {
        Lookup { store, objects, remembered: Mutex::default() }
    }

    pub(super) fn has_database(&self) -> bool {
        self.store.is_some()
    }

    /// What policy says of an object as listed.
    pub(super) async fn expected(&self, object: &ListedObject) -> Result<Expected> {
        let Some(parsed) = ObjectKey::parse(&object.key) else {
            return Ok(Expected::Nothing("nobody of us writes such a key".to_owned()));
        };
        match &parsed {
            Object::Archive { tenant, log, first, .. } => {
                self.archived(object, parsed.key(), tenant, *log, *first).await
            }
            Object::Segment { tenant, log, first } => {
                self.segment(object, parsed.key(), tenant, *log, *first).await
            }
            Object::Tiles { .. }
            | Object::Checkpoint { .. }
            | Object::ArchiveManifest { .. }
            | Object::Manifest { .. }
            | Object::KeyChange { .. }
            | Object::Statement { .. }
            | Object::PublicKey { .. }
            | Object::WrappedSecret { .. } => Ok(Expected::Proof),
        }
    }

    /// Forgets what was decided, to look again.
    pub(super) async fn forget(&self) {
        self.remembered.lock().await.clear();
    }

    async fn archived(
        &self,
        object: &ListedObject,
        key: ObjectKey,
        tenant: &TenantId,
        log: LogNumber,
        first: LeafIndex,
    ) -> Result<Expected> {
        let Some(store) = &self.store else { return self.archived_by_itself(object, key).await };
        let Some(decided) = self.decided(store, tenant).await? else { return Ok(not_on_record(tenant)) };
        if decided.tenant.log() != log {
            // A generation that was ended: the index is of the one that goes on.
            return self.archived_by_itself(object, key).await;
        }
        let entry = store.archived_from(&decided.tenant, first, 1).await?.into_iter().next();
        Ok(match entry.filter(|entry| entry.first == first) {
            Some(entry) => Expected::Archived {
                sealed_last: entry.sealed_last,
                class: entry.class_needed(decided.tenant.record()),
                hold: is_held(&decided.holds, &of_file(&entry)),
            },
            None => Expected::Nothing("the archive index does not know it".to_owned()),
        })
    }

    async fn segment(
        &self,
        object: &ListedObject,
        key: ObjectKey,
        tenant: &TenantId,
        log: LogNumber,
        first: LeafIndex,
    ) -> Result<Expected> {
        let Some(store) = &self.store else { return self.segment_by_itself(object, key).await };
        let Some(decided) = self.decided(store, tenant).await? else { return Ok(not_on_record(tenant)) };
        if decided.tenant.log() != log {
            return self.segment_by_itself(object, key).await;
        }
        let archived = archived_size(store, &decided.tenant).await?;
        let entry = store.index_from(&decided.tenant, first, 1).await?.into_iter().next();
        Ok(match entry.filter(|entry| entry.first == first) {
            Some(entry) if entry.end <= archived => Expected::Copied { sealed_at: entry.sealed_at },
            Some(entry) => Expected::Waiting {
                sealed_at: entry.sealed_at,
                hold: is_held(&decided.holds, &of_segment(&entry)),
            },
            None => Expected::Nothing("the segment index does not know it".to_owned()),
        })
    }

    async fn archived_by_itself(&self, object: &ListedObject, key: ObjectKey) -> Result<Expected> {
        let (objects, version) = (self.objects.clone(), object.version.clone());
        let file = ArchiveFile::open(objects, key, version, object.bytes).await?;
        Ok(Expected::ArchivedByItself { sealed_last: file.header().sealed_last })
    }

    async fn segment_by_itself(&self, object: &ListedObject, key: ObjectKey) -> Result<Expected> {
        let Some(stored) = self.objects.version(&key, &object.version).await? else {
            return Ok(Expected::Gone);
        };
        let (header, _) = decode_ids(&object.key, stored.bytes)?;
        Ok(Expected::SegmentByItself { sealed_at: header.sealed_at })
    }

    async fn decided(&self, store: &DynamoStore, tenant: &TenantId) -> Result<Option<Arc<Decided>>> {
        let mut remembered = self.remembered.lock().await;
        if let Some(decided) = remembered.get(tenant) {
            return Ok(decided.clone());
        }
        let decided = match store.tenant(tenant).await? {
            Some(record) => {
                let tenant = Tenant::on_record(record)?;
                let holds = store.holds(&tenant).await?;
                Some(Arc::new(Decided { tenant, holds }))
            }
            None => None,
        };
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(tenant.clone(), decided.clone());
        Ok(decided)
    }

    /// Tenants on record, or the one asked for.
    pub(super) async fn tenants(&self, only: Option<&TenantId>) -> Result<Vec<Tenant>> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        if let Some(only) = only {
            found.extend(store.tenant(only).await?.map(Tenant::on_record).transpose()?);
            return Ok(found);
        }
        loop {
            let after = found.last().map(|tenant: &Tenant| tenant.id().clone());
            let page = store.tenants(after.as_ref(), TENANTS_PAGE).await?;
            let read = page.len();
            for record in page {
                found.push(Tenant::on_record(record)?);
            }
            if read < TENANTS_PAGE {
                return Ok(found);
            }
        }
    }

    /// Whether a pass over a tenant's objects is due: until it is done some may lag behind.
    pub(super) async fn is_pass_due(&self, tenant: &Tenant) -> Result<bool> {
        match &self.store {
            Some(store) => Ok(store.enforcement(tenant).await?.is_due()),
            None => Ok(false),
        }
    }

    /// What a tenant's indexes say is there and was not seen.
    pub(super) async fn unseen(
        &self,
        tenant: &Tenant,
        seen: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<Missing>> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        let holds = store.holds(tenant).await?;
        let mut missing = Vec::new();
        let mut from = LeafIndex::ZERO;
        loop {
            let page = store.archived_from(tenant, from, PAGE).await?;
            let read = page.len();
            from = page.last().map_or(from, |entry| entry.end.next_index());
            for entry in page.into_iter().filter(|entry| entry.expired.is_none()) {
                let (id, log) = (tenant.id().clone(), tenant.log());
                let object = Object::Archive { tenant: id, log, month: entry.month(), first: entry.first };
                let key = object.key().as_str().to_owned();
                if !seen(&key) {
                    let held = is_held(&holds, &of_file(&entry));
                    let retain_until = Some(entry.retain_until());
                    missing.push(Missing { key, version: entry.version, retain_until, held });
                }
            }
            if read < PAGE {
                break;
            }
        }
        loop {
            let page = store.index_from(tenant, from, PAGE).await?;
            from = page.last().map_or(from, |entry| entry.end.next_index());
            for entry in &page {
                let (tenant, log) = (tenant.id().clone(), tenant.log());
                let key = Object::Segment { tenant, log, first: entry.first }.key().as_str().to_owned();
                if !seen(&key) {
                    let held = is_held(&holds, &of_segment(entry));
                    let version = entry.version.clone();
                    missing.push(Missing { key, version, retain_until: None, held });
                }
            }
            if page.len() < PAGE {
                return Ok(missing);
            }
        }
    }
}

async fn archived_size(store: &DynamoStore, tenant: &Tenant) -> Result<TreeSize> {
    let last = store.archived_below(tenant, TreeSize::new(u64::MAX), 1).await?;
    Ok(last.first().map_or(TreeSize::ZERO, |entry| entry.end))
}

fn of_file(entry: &ArchiveEntry) -> TimesOfLeaves {
    TimesOfLeaves::new((entry.received_min, entry.received_max), (entry.id_min, entry.id_max))
}

fn of_segment(entry: &IndexEntry) -> TimesOfLeaves {
    TimesOfLeaves::new((entry.received_min, entry.received_max), (entry.id_min, entry.id_max))
}

fn not_on_record(tenant: &TenantId) -> Expected {
    Expected::Nothing(format!("the tenant `{tenant}` is not on record: run `stele rebuild`"))
}
