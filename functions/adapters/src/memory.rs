//! The ports of the hot store and of control in memory, for tests and simulations: the same answers as on
//! DynamoDB, in the same order on every run. Nothing is kept, and its index is never behind.

use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use stele::access::{ApiKey, KeyHash, LogNumber, Tenant, TenantRecord};
use stele::archive::ArchiveEntry;
use stele::export::Export;
use stele::id::{EventId, TenantId};
use stele::ports::{
    ApiKeys, ArchiveIndex, Exports, Heads, HotIndex, HotStore, IdRange, Order, Policies, Put, PutOutcome,
    Reconciled, Refusals, Tenants, Watermarks,
};
use stele::record::Record;
use stele::refusal::{Refusal, RefusalId};
use stele::retention::{Enforcement, LegalHold, PlatformRetention};
use stele::segment::{Head, IndexEntry};
use stele::time::{Day, Timestamp};
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::{Code, Error, Result, limits};

/// A hot store and a control table in memory, with the stream of what was inserted.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: BTreeMap<(TenantId, EventId), StoredEvent>,
    remembered: BTreeMap<(TenantId, String), (EventId, Timestamp)>,
    late: BTreeSet<(TenantId, Day, Day)>,
    stream: Vec<Record>,
    tenants: BTreeMap<TenantId, TenantRecord>,
    keys: BTreeMap<KeyHash, ApiKey>,
    key_hashes: BTreeMap<String, KeyHash>,
    heads: BTreeMap<(TenantId, LogNumber), Head>,
    index: BTreeMap<(TenantId, LogNumber), BTreeMap<LeafIndex, IndexEntry>>,
    archived: BTreeMap<(TenantId, LogNumber), BTreeMap<LeafIndex, ArchiveEntry>>,
    retention: PlatformRetention,
    holds: BTreeMap<(TenantId, String), LegalHold>,
    enforcements: BTreeMap<TenantId, Enforcement>,
    reconciled: BTreeMap<TenantId, Reconciled>,
    refusals: BTreeMap<(Option<TenantId>, RefusalId), Refusal>,
    exports: BTreeMap<(TenantId, String), Export>,
    export_names: BTreeMap<(TenantId, String), (String, u64)>,
}

#[derive(Debug)]
struct StoredEvent {
    record: Record,
    expires: Timestamp,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// The records inserted since the last call, in order: what a stream would carry.
    pub fn take_stream(&self) -> Vec<Record> {
        std::mem::take(&mut self.lock().stream)
    }

    /// Forgets what may be forgotten, as DynamoDB's TTL does some time later.
    pub fn sweep(&self, now: Timestamp) {
        let mut inner = self.lock();
        inner.events.retain(|_, event| event.expires > now);
        inner.remembered.retain(|_, (_, until)| *until > now);
    }

    /// Sets a head, or loses it, whatever it was: the caches' worst case, for tests.
    pub fn force_head(&self, tenant: &Tenant, head: Option<Head>) {
        let mut inner = self.lock();
        match head {
            Some(head) => inner.heads.insert(log_of(tenant), head),
            None => inner.heads.remove(&log_of(tenant)),
        };
    }

    /// Loses the segment index, the archive index and all heads; what tenants, keys, holds and events there are stays.
    pub fn lose_caches(&self) {
        let mut inner = self.lock();
        inner.heads.clear();
        inner.index.clear();
        inner.archived.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each call changes the maps in steps that can't panic half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_of(tenant: &Tenant) -> (TenantId, LogNumber) {
    (tenant.id().clone(), tenant.log())
}

impl Inner {
    /// A tenant's events in a range of ids; nothing for a range that ends before it begins.
    fn range<'a>(
        &'a self,
        tenant: &Tenant,
        range: IdRange,
    ) -> impl DoubleEndedIterator<Item = &'a Record> + use<'a> {
        let id = tenant.id();
        let whole = (range.first <= range.last)
            .then(|| self.events.range((id.clone(), range.first)..=(id.clone(), range.last)));
        whole.into_iter().flatten().map(|(_, event)| &event.record)
    }
}

/// The first `limit` of what passes, in the order asked for.
fn listed<'a, T>(
    records: impl DoubleEndedIterator<Item = &'a Record>,
    order: Order,
    limit: usize,
    pass: impl Fn(&Record) -> bool,
    of: impl Fn(&Record) -> T,
) -> Vec<T> {
    let records = records.filter(|record| pass(record));
    match order {
        Order::Ascending => records.take(limit).map(of).collect(),
        Order::Descending => records.rev().take(limit).map(of).collect(),
    }
}

#[async_trait]
impl HotStore for MemoryStore {
    async fn put(&self, tenant: &Tenant, put: &Put) -> Result<PutOutcome> {
        let mut inner = self.lock();
        let record = &put.record;
        let key = (tenant.id().clone(), record.id);
        if let Some(there) = inner.events.get(&key) {
            return Ok(PutOutcome::Exists(there.record.clone()));
        }
        if let Some(remember) = &put.remember {
            let name = (tenant.id().clone(), remember.name.clone());
            if let Some((id, until)) = inner.remembered.get(&name)
                && *until > remember.now
                && let Some(there) = inner.events.get(&(tenant.id().clone(), *id))
            {
                return Ok(PutOutcome::Remembered(there.record.clone()));
            }
            inner.remembered.insert(name, (record.id, remember.until));
        }
        inner.events.insert(key, StoredEvent { record: record.clone(), expires: put.expires });
        inner.stream.push(record.clone());
        Ok(PutOutcome::Stored)
    }

    async fn record(&self, tenant: &Tenant, id: EventId) -> Result<Option<Record>> {
        let inner = self.lock();
        Ok(inner.events.get(&(tenant.id().clone(), id)).map(|event| event.record.clone()))
    }

    async fn records(&self, tenant: &Tenant, ids: &[EventId]) -> Result<Vec<Record>> {
        let inner = self.lock();
        let ids: BTreeSet<EventId> = ids.iter().copied().collect();
        let found = ids.into_iter().filter_map(|id| inner.events.get(&(tenant.id().clone(), id)));
        Ok(found.map(|event| event.record.clone()).collect())
    }

    async fn day(
        &self,
        tenant: &Tenant,
        day: Day,
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Record>> {
        let inner = self.lock();
        let of_day = |record: &Record| record.id.time().day() == day;
        Ok(listed(inner.range(tenant, range), order, limit, of_day, Record::clone))
    }

    async fn index(
        &self,
        tenant: &Tenant,
        index: &HotIndex,
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<EventId>> {
        let inner = self.lock();
        let matches = |record: &Record| match index {
            HotIndex::Actor(id) => record.actor_id == *id,
            HotIndex::Resource(id) => record.resource_id.as_ref() == Some(id),
            HotIndex::Action(action) => record.action == *action,
        };
        Ok(listed(inner.range(tenant, range), order, limit, matches, |record| record.id))
    }

    async fn mark_late(&self, tenant: &Tenant, received: Day, occurred: Day) -> Result<()> {
        self.lock().late.insert((tenant.id().clone(), received, occurred));
        Ok(())
    }

    async fn late_days(&self, tenant: &Tenant, received: RangeInclusive<Day>) -> Result<Vec<(Day, Day)>> {
        let inner = self.lock();
        let own = inner.late.iter().filter(|(id, day, _)| id == tenant.id() && received.contains(day));
        Ok(own.map(|(_, received, occurred)| (*received, *occurred)).collect())
    }
}

#[async_trait]
impl Tenants for MemoryStore {
    async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>> {
        Ok(self.lock().tenants.get(id).cloned())
    }

    async fn create_tenant(&self, record: &TenantRecord) -> Result<TenantRecord> {
        let id = TenantId::parse(&record.tenant_id).ok_or_else(|| {
            Error::new(Code::Internal, format!("`{}` is not a tenant id", record.tenant_id))
        })?;
        Ok(self.lock().tenants.entry(id).or_insert_with(|| record.clone()).clone())
    }

    async fn tenants(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantRecord>> {
        let inner = self.lock();
        let behind = inner.tenants.iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
        Ok(behind.take(limit).map(|(_, record)| record.clone()).collect())
    }
}

#[async_trait]
impl ApiKeys for MemoryStore {
    async fn api_key(&self, hash: KeyHash) -> Result<Option<ApiKey>> {
        Ok(self.lock().keys.get(&hash).cloned())
    }

    async fn create_api_key(&self, hash: KeyHash, key: &ApiKey) -> Result<()> {
        let mut inner = self.lock();
        let by_hash = inner.keys.get(&hash).map(|there| there.key_id == key.key_id);
        let by_id = inner.key_hashes.get(&key.key_id).map(|there| *there == hash);
        match (by_hash, by_id) {
            (None, None) => {
                inner.keys.insert(hash, key.clone());
                inner.key_hashes.insert(key.key_id.clone(), hash);
                Ok(())
            }
            (Some(true), Some(true)) => Ok(()),
            _ => {
                Err(Error::new(Code::Internal, format!("the API key `{}` or its text is taken", key.key_id)))
            }
        }
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        let inner = self.lock();
        Ok(inner.key_hashes.values().filter_map(|hash| inner.keys.get(hash).cloned()).collect())
    }

    async fn revoke_api_key(&self, key_id: &str, now: Timestamp) -> Result<Option<ApiKey>> {
        let mut inner = self.lock();
        let Some(hash) = inner.key_hashes.get(key_id).copied() else {
            return Ok(None);
        };
        let key = inner.keys.get_mut(&hash);
        Ok(key.map(|key| {
            key.revoked_ms.get_or_insert(now.ms());
            key.clone()
        }))
    }
}

#[async_trait]
impl Refusals for MemoryStore {
    async fn refuse(&self, refusal: &Refusal) -> Result<()> {
        let key = (refusal.tenant.clone(), refusal.id.clone());
        self.lock().refusals.entry(key).or_insert_with(|| refusal.clone());
        Ok(())
    }

    async fn refusals(
        &self,
        tenant: &Tenant,
        before: Option<&RefusalId>,
        limit: usize,
    ) -> Result<Vec<Refusal>> {
        Ok(self.refusals_of(Some(tenant.id()), before, limit))
    }

    async fn unassigned_refusals(&self, before: Option<&RefusalId>, limit: usize) -> Result<Vec<Refusal>> {
        Ok(self.refusals_of(None, before, limit))
    }
}

impl MemoryStore {
    fn refusals_of(
        &self,
        tenant: Option<&TenantId>,
        before: Option<&RefusalId>,
        limit: usize,
    ) -> Vec<Refusal> {
        let inner = self.lock();
        let of = inner.refusals.iter().rev().filter(|((owner, _), _)| owner.as_ref() == tenant);
        let earlier = of.filter(|((_, id), _)| before.is_none_or(|before| id < before));
        earlier.take(limit).map(|(_, refusal)| refusal.clone()).collect()
    }
}

#[async_trait]
impl Heads for MemoryStore {
    async fn head(&self, tenant: &Tenant) -> Result<Option<Head>> {
        Ok(self.lock().heads.get(&log_of(tenant)).cloned())
    }

    async fn advance(&self, tenant: &Tenant, expected: Option<u64>, head: &Head) -> Result<bool> {
        let mut inner = self.lock();
        let there = inner.heads.get(&log_of(tenant)).map(|there| there.revision);
        if there == expected {
            inner.heads.insert(log_of(tenant), head.clone());
        }
        Ok(there == expected)
    }

    async fn put_index(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<()> {
        self.lock().index.entry(log_of(tenant)).or_default().insert(entry.first, entry.clone());
        Ok(())
    }

    async fn index_below(&self, tenant: &Tenant, size: TreeSize, limit: usize) -> Result<Vec<IndexEntry>> {
        let inner = self.lock();
        let entries = inner.index.get(&log_of(tenant)).into_iter();
        let below = entries.flat_map(|entries| entries.range(..size.next_index()).rev());
        Ok(below.take(limit).map(|(_, entry)| entry.clone()).collect())
    }

    async fn index_from(&self, tenant: &Tenant, from: LeafIndex, limit: usize) -> Result<Vec<IndexEntry>> {
        let inner = self.lock();
        let entries = inner.index.get(&log_of(tenant)).into_iter();
        let from = entries.flat_map(|entries| entries.range(from..));
        Ok(from.take(limit).map(|(_, entry)| entry.clone()).collect())
    }

    async fn forget_index(&self, tenant: &Tenant, until: TreeSize, limit: usize) -> Result<usize> {
        let mut inner = self.lock();
        let Some(entries) = inner.index.get_mut(&log_of(tenant)) else { return Ok(0) };
        let old = entries.values().take_while(|entry| entry.end <= until).take(limit);
        let old: Vec<LeafIndex> = old.map(|entry| entry.first).collect();
        old.iter().for_each(|first| drop(entries.remove(first)));
        Ok(old.len())
    }

    async fn drop_index(&self, tenant: &Tenant, from: LeafIndex) -> Result<()> {
        if let Some(entries) = self.lock().index.get_mut(&log_of(tenant)) {
            entries.split_off(&from);
        }
        Ok(())
    }
}

#[async_trait]
impl ArchiveIndex for MemoryStore {
    async fn put_archived(&self, tenant: &Tenant, entry: &ArchiveEntry) -> Result<()> {
        self.lock().archived.entry(log_of(tenant)).or_default().insert(entry.first, entry.clone());
        Ok(())
    }

    async fn archived_below(
        &self,
        tenant: &Tenant,
        size: TreeSize,
        limit: usize,
    ) -> Result<Vec<ArchiveEntry>> {
        let inner = self.lock();
        let entries = inner.archived.get(&log_of(tenant)).into_iter();
        let below = entries.flat_map(|entries| entries.range(..size.next_index()).rev());
        Ok(below.take(limit).map(|(_, entry)| entry.clone()).collect())
    }

    async fn archived_from(
        &self,
        tenant: &Tenant,
        from: LeafIndex,
        limit: usize,
    ) -> Result<Vec<ArchiveEntry>> {
        let inner = self.lock();
        let entries = inner.archived.get(&log_of(tenant)).into_iter();
        let from = entries.flat_map(|entries| entries.range(from..));
        Ok(from.take(limit).map(|(_, entry)| entry.clone()).collect())
    }

    async fn drop_archived(&self, tenant: &Tenant, from: LeafIndex) -> Result<()> {
        if let Some(entries) = self.lock().archived.get_mut(&log_of(tenant)) {
            entries.split_off(&from);
        }
        Ok(())
    }
}

#[async_trait]
impl Policies for MemoryStore {
    async fn platform_retention(&self) -> Result<PlatformRetention> {
        Ok(self.lock().retention)
    }

    async fn set_platform_retention(&self, retention: &PlatformRetention) -> Result<()> {
        self.lock().retention = *retention;
        Ok(())
    }

    async fn replace_tenant(&self, expected: &TenantRecord, record: &TenantRecord) -> Result<bool> {
        expected.check_successor(record)?;
        let mut inner = self.lock();
        let there = inner.tenants.values_mut().find(|there| *there == expected);
        Ok(there.map(|there| *there = record.clone()).is_some())
    }

    async fn place_hold(&self, tenant: &Tenant, hold: &LegalHold) -> Result<()> {
        let mut inner = self.lock();
        let there = inner.holds.entry((tenant.id().clone(), hold.id.clone()));
        there.or_insert_with(|| hold.clone()).check_repeated(hold)
    }

    async fn release_hold(
        &self,
        tenant: &Tenant,
        id: &str,
        now: Timestamp,
        by: &str,
        enforcement: u64,
    ) -> Result<Option<LegalHold>> {
        let mut inner = self.lock();
        let there = inner.holds.get_mut(&(tenant.id().clone(), id.to_owned()));
        Ok(there.map(|hold| {
            hold.release(now, by, enforcement);
            hold.clone()
        }))
    }

    async fn holds(&self, tenant: &Tenant) -> Result<Vec<LegalHold>> {
        let inner = self.lock();
        let own = inner.holds.iter().filter(|((owner, _), _)| owner == tenant.id());
        Ok(own.map(|(_, hold)| hold.clone()).collect())
    }

    async fn request_enforcement(&self, tenant: &Tenant) -> Result<u64> {
        let mut inner = self.lock();
        let enforcement = inner.enforcements.entry(tenant.id().clone()).or_default();
        enforcement.requested += 1;
        Ok(enforcement.requested)
    }

    async fn enforcement(&self, tenant: &Tenant) -> Result<Enforcement> {
        Ok(self.lock().enforcements.get(tenant.id()).copied().unwrap_or_default())
    }

    async fn save_enforcement(&self, tenant: &Tenant, enforcement: &Enforcement) -> Result<()> {
        let mut inner = self.lock();
        let there = inner.enforcements.entry(tenant.id().clone()).or_default();
        let (requested, done) = (there.requested, there.done.max(enforcement.done));
        *there = Enforcement { requested, done, ..*enforcement };
        Ok(())
    }
}

#[async_trait]
impl Exports for MemoryStore {
    async fn create_export(&self, tenant: &Tenant, export: &Export, name: Option<&str>) -> Result<Export> {
        let mut inner = self.lock();
        let mut id = export.id.clone();
        if let Some(name) = name {
            let named = inner.export_names.entry((tenant.id().clone(), name.to_owned()));
            let (first, at) = named.or_insert_with(|| (id.clone(), export.created_ms));
            if *at + limits::REMEMBERED_MS <= export.created_ms {
                (*first, *at) = (id, export.created_ms);
            }
            id = first.clone();
        }
        let there = inner.exports.entry((tenant.id().clone(), id.clone()));
        Ok(there.or_insert_with(|| Export { id, ..export.clone() }).clone())
    }

    async fn export(&self, tenant: &Tenant, id: &str) -> Result<Option<Export>> {
        Ok(self.lock().exports.get(&(tenant.id().clone(), id.to_owned())).cloned())
    }

    async fn exports(&self, tenant: &Tenant, before: Option<&str>, limit: usize) -> Result<Vec<Export>> {
        let inner = self.lock();
        let own = inner.exports.iter().rev().filter(|((owner, _), _)| owner == tenant.id());
        let below = own.filter(|((_, id), _)| before.is_none_or(|before| id.as_str() < before));
        Ok(below.take(limit).map(|(_, export)| export.clone()).collect())
    }

    async fn replace_export(&self, tenant: &Tenant, expected: u64, export: &Export) -> Result<bool> {
        let mut inner = self.lock();
        let there = inner.exports.get_mut(&(tenant.id().clone(), export.id.clone()));
        let there = there.filter(|there| there.revision == expected);
        Ok(there.map(|there| *there = export.clone()).is_some())
    }
}

#[async_trait]
impl Watermarks for MemoryStore {
    async fn reconciled(&self, tenant: &Tenant) -> Result<Option<Reconciled>> {
        Ok(self.lock().reconciled.get(tenant.id()).cloned())
    }

    async fn put_reconciled(&self, tenant: &Tenant, reconciled: &Reconciled) -> Result<()> {
        let mut inner = self.lock();
        let there = inner.reconciled.entry(tenant.id().clone()).or_insert_with(|| reconciled.clone());
        if there.through <= reconciled.through {
            *there = reconciled.clone();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::{record, tenant};
    use crate::contract::{
        api_keys, archive_index, exports, heads, hot, policies, refusals, tenants, watermarks,
    };

    #[tokio::test]
    async fn it_keeps_the_contracts() {
        let store = MemoryStore::new();
        hot::suite(&store, "m").await;
        tenants::suite(&store, "m").await;
        api_keys::suite(&store, "m").await;
        heads::suite(&store, "m").await;
        archive_index::suite(&store, "m").await;
        policies::suite(&store, "m").await;
        watermarks::suite(&store, "m").await;
        refusals::suite(&store, "m").await;
        exports::suite(&store, "m").await;
    }

    #[tokio::test]
    async fn the_stream_carries_each_insert_once_in_order() {
        let (store, tenant) = (MemoryStore::new(), tenant("acme"));
        let records = [7, 3, 5].map(|n| record(&tenant, 1_767_225_600_000 + n, 1));
        for record in records.iter().chain(&records) {
            let put = Put { record: record.clone(), expires: Timestamp::from_ms(9), remember: None };
            store.put(&tenant, &put).await.unwrap();
        }
        assert_eq!(store.take_stream(), records);
        assert_eq!(store.take_stream(), []);
        store.sweep(Timestamp::from_ms(9));
        assert_eq!(store.record(&tenant, records[0].id).await.unwrap(), None);
    }
}
