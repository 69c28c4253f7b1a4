//! Stores that fail on purpose, in every way a remote call can: not done, done but reported failed, never
//! answered. A plan decides which call fails how, counts all of them and writes them down, which is also how
//! cost is tested: calls per event. It is for tests and simulations only.

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stele::access::{ApiKey, KeyHash, Tenant, TenantRecord};
use stele::archive::ArchiveEntry;
use stele::export::{Export, ExportKey, ExportedFile};
use stele::id::{EventId, TenantId};
use stele::layout::ObjectKey;
use stele::ports::{
    ApiKeys, ArchiveIndex, ArchiveObjects, Backlog, ExportFiles, ExportLink, Exports, Heads, HotIndex,
    HotStore, IdRange, ListedObject, LockedObjects, Order, Outbox, Policies, Put, PutIfAbsent, PutOutcome,
    Reconciled, Refusals, Spooled, StoredObject, Tenants, Watermarks,
};
use stele::record::Record;
use stele::refusal::{Refusal, RefusalId};
use stele::retention::{Enforcement, LegalHold, LifecycleTag, ObjectState, PlatformRetention};
use stele::segment::{Head, IndexEntry};
use stele::time::{Day, Timestamp};
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::{Error, Result};

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is done and answered.
    Pass,
    /// It is not done, and reported unavailable.
    Fail,
    /// It is done, and reported unavailable.
    DoneThenFail,
    /// It is not done and never answered: the caller waits until it gives up.
    Hang,
    /// It is done and never answered.
    DoneThenHang,
}

impl Fault {
    /// The ways to fail that end by themselves, and those that don't.
    pub const ALL: [Fault; 4] = [Fault::Fail, Fault::DoneThenFail, Fault::Hang, Fault::DoneThenHang];
}

/// Names of all calls, as plans and logs have them.
pub const CALLS: &[&str] = &[
    "hot.put",
    "hot.record",
    "hot.records",
    "hot.day",
    "hot.index",
    "hot.mark_late",
    "hot.late_days",
    "tenants.tenant",
    "tenants.create_tenant",
    "tenants.tenants",
    "api_keys.api_key",
    "api_keys.create_api_key",
    "api_keys.api_keys",
    "api_keys.revoke_api_key",
    "heads.head",
    "heads.advance",
    "heads.put_index",
    "heads.index_below",
    "heads.index_from",
    "heads.forget_index",
    "heads.drop_index",
    "objects.put_if_absent",
    "objects.object",
    "objects.version",
    "objects.range",
    "objects.list",
    "archive_objects.put_file_if_absent",
    "archive_objects.state",
    "archive_objects.extend",
    "archive_objects.set_hold",
    "archive_objects.set_tag",
    "archive_index.put_archived",
    "archive_index.archived_below",
    "archive_index.archived_from",
    "archive_index.drop_archived",
    "policies.platform_retention",
    "policies.set_platform_retention",
    "policies.replace_tenant",
    "policies.place_hold",
    "policies.release_hold",
    "policies.holds",
    "policies.request_enforcement",
    "policies.enforcement",
    "policies.save_enforcement",
    "watermarks.reconciled",
    "watermarks.put_reconciled",
    "outbox.send",
    "backlog.waiting",
    "refusals.refuse",
    "refusals.refusals",
    "refusals.unassigned_refusals",
    "exports.create_export",
    "exports.export",
    "exports.exports",
    "exports.replace_export",
    "export_files.put_export",
    "export_files.exported",
    "export_files.link",
];

/// Decides which calls fail, and remembers all of them. Shared by clones.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    /// By call and how many of it came before.
    planned: BTreeMap<(&'static str, u64), Fault>,
    random: Option<Randomly>,
    counts: BTreeMap<&'static str, u64>,
    log: Vec<(&'static str, Fault)>,
    paused: bool,
}

#[derive(Debug)]
struct Randomly {
    state: u64,
    per_mille: u64,
    faults: Vec<Fault>,
}

impl Randomly {
    /// splitmix64: small, and the same everywhere.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn fault(&mut self) -> Fault {
        if self.faults.is_empty() || self.next() % 1000 >= self.per_mille {
            return Fault::Pass;
        }
        let which = self.next() as usize % self.faults.len();
        self.faults[which]
    }
}

impl FaultPlan {
    /// One under which nothing fails.
    pub fn none() -> FaultPlan {
        FaultPlan::default()
    }

    /// The n-th call of a name from now on, counted from 0, ends so.
    pub fn on(&self, call: &'static str, nth: u64, fault: Fault) -> &FaultPlan {
        let mut plan = self.lock();
        let before = plan.counts.get(call).copied().unwrap_or(0);
        plan.planned.insert((call, before + nth), fault);
        drop(plan);
        self
    }

    /// Calls that are not planned fail with this probability, in one of these ways; the same seed and the same
    /// calls give the same faults. 0 ends it.
    pub fn randomly(&self, seed: u64, per_mille: u64, faults: &[Fault]) -> &FaultPlan {
        self.lock().random = Some(Randomly { state: seed, per_mille, faults: faults.to_vec() });
        self
    }

    /// Lets all calls pass, neither counted nor written down, until it is resumed: for what only sets the scene.
    pub fn pause(&self) {
        self.lock().paused = true;
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.lock().paused = false;
    }

    /// Forgets what is planned, not what was counted.
    pub fn clear(&self) {
        let mut plan = self.lock();
        plan.planned.clear();
        plan.random = None;
    }

    /// How often a call was made.
    pub fn count(&self, call: &str) -> u64 {
        self.lock().counts.get(call).copied().unwrap_or(0)
    }

    /// How often each call was made.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    /// The calls since the last time, in order, with what became of them.
    pub fn take_log(&self) -> Vec<(&'static str, Fault)> {
        std::mem::take(&mut self.lock().log)
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, call: &'static str) -> Fault {
        let mut plan = self.lock();
        if plan.paused {
            return Fault::Pass;
        }
        let count = plan.counts.entry(call).or_insert(0);
        let nth = *count;
        *count += 1;
        let planned = plan.planned.get(&(call, nth)).copied();
        let fault = planned.unwrap_or_else(|| plan.random.as_mut().map_or(Fault::Pass, Randomly::fault));
        plan.log.push((call, fault));
        fault
    }

    /// Does a call as planned. A future that is not polled is a call that is not made.
    async fn run<T>(&self, call: &'static str, doing: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let unavailable = || Error::unavailable(format!("`{call}` failed as planned"));
        match self.next(call) {
            Fault::Pass => doing.await,
            Fault::Fail => Err(unavailable()),
            Fault::DoneThenFail => {
                doing.await?;
                Err(unavailable())
            }
            Fault::Hang => pending().await,
            Fault::DoneThenHang => {
                let _answer_nobody_gets = doing.await;
                pending().await
            }
        }
    }
}

/// A store under a plan.
#[derive(Debug)]
pub struct Faulty<T: ?Sized> {
    plan: FaultPlan,
    inner: Arc<T>,
}

impl<T: ?Sized> Faulty<T> {
    /// Puts a store under a plan.
    pub fn new(inner: Arc<T>, plan: &FaultPlan) -> Faulty<T> {
        Faulty { plan: plan.clone(), inner }
    }
}

#[async_trait]
impl<T: HotStore + ?Sized> HotStore for Faulty<T> {
    async fn put(&self, tenant: &Tenant, put: &Put) -> Result<PutOutcome> {
        self.plan.run("hot.put", self.inner.put(tenant, put)).await
    }

    async fn record(&self, tenant: &Tenant, id: EventId) -> Result<Option<Record>> {
        self.plan.run("hot.record", self.inner.record(tenant, id)).await
    }

    async fn records(&self, tenant: &Tenant, ids: &[EventId]) -> Result<Vec<Record>> {
        self.plan.run("hot.records", self.inner.records(tenant, ids)).await
    }

    async fn day(
        &self,
        tenant: &Tenant,
        day: Day,
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Record>> {
        self.plan.run("hot.day", self.inner.day(tenant, day, range, order, limit)).await
    }

    async fn index(
        &self,
        tenant: &Tenant,
        index: &HotIndex,
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<EventId>> {
        self.plan.run("hot.index", self.inner.index(tenant, index, range, order, limit)).await
    }

    async fn mark_late(&self, tenant: &Tenant, received: Day, occurred: Day) -> Result<()> {
        self.plan.run("hot.mark_late", self.inner.mark_late(tenant, received, occurred)).await
    }

    async fn late_days(&self, tenant: &Tenant, received: RangeInclusive<Day>) -> Result<Vec<(Day, Day)>> {
        self.plan.run("hot.late_days", self.inner.late_days(tenant, received)).await
    }
}

#[async_trait]
impl<T: Tenants + ?Sized> Tenants for Faulty<T> {
    async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>> {
        self.plan.run("tenants.tenant", self.inner.tenant(id)).await
    }

    async fn create_tenant(&self, record: &TenantRecord) -> Result<TenantRecord> {
        self.plan.run("tenants.create_tenant", self.inner.create_tenant(record)).await
    }

    async fn tenants(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantRecord>> {
        self.plan.run("tenants.tenants", self.inner.tenants(after, limit)).await
    }
}

#[async_trait]
impl<T: ApiKeys + ?Sized> ApiKeys for Faulty<T> {
    async fn api_key(&self, hash: KeyHash) -> Result<Option<ApiKey>> {
        self.plan.run("api_keys.api_key", self.inner.api_key(hash)).await
    }

    async fn create_api_key(&self, hash: KeyHash, key: &ApiKey) -> Result<()> {
        self.plan.run("api_keys.create_api_key", self.inner.create_api_key(hash, key)).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        self.plan.run("api_keys.api_keys", self.inner.api_keys()).await
    }

    async fn revoke_api_key(&self, key_id: &str, now: Timestamp) -> Result<Option<ApiKey>> {
        self.plan.run("api_keys.revoke_api_key", self.inner.revoke_api_key(key_id, now)).await
    }
}

#[async_trait]
impl<T: Heads + ?Sized> Heads for Faulty<T> {
    async fn head(&self, tenant: &Tenant) -> Result<Option<Head>> {
        self.plan.run("heads.head", self.inner.head(tenant)).await
    }

    async fn advance(&self, tenant: &Tenant, expected: Option<u64>, head: &Head) -> Result<bool> {
        self.plan.run("heads.advance", self.inner.advance(tenant, expected, head)).await
    }

    async fn put_index(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<()> {
        self.plan.run("heads.put_index", self.inner.put_index(tenant, entry)).await
    }

    async fn index_below(&self, tenant: &Tenant, size: TreeSize, limit: usize) -> Result<Vec<IndexEntry>> {
        self.plan.run("heads.index_below", self.inner.index_below(tenant, size, limit)).await
    }

    async fn index_from(&self, tenant: &Tenant, from: LeafIndex, limit: usize) -> Result<Vec<IndexEntry>> {
        self.plan.run("heads.index_from", self.inner.index_from(tenant, from, limit)).await
    }

    async fn forget_index(&self, tenant: &Tenant, until: TreeSize, limit: usize) -> Result<usize> {
        self.plan.run("heads.forget_index", self.inner.forget_index(tenant, until, limit)).await
    }

    async fn drop_index(&self, tenant: &Tenant, from: LeafIndex) -> Result<()> {
        self.plan.run("heads.drop_index", self.inner.drop_index(tenant, from)).await
    }
}

#[async_trait]
impl<T: LockedObjects + ?Sized> LockedObjects for Faulty<T> {
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        retain_until: Timestamp,
    ) -> Result<PutIfAbsent> {
        self.plan.run("objects.put_if_absent", self.inner.put_if_absent(key, bytes, retain_until)).await
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>> {
        self.plan.run("objects.object", self.inner.object(key)).await
    }

    async fn version(&self, key: &ObjectKey, version: &str) -> Result<Option<StoredObject>> {
        self.plan.run("objects.version", self.inner.version(key, version)).await
    }

    async fn range(&self, key: &ObjectKey, version: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.plan.run("objects.range", self.inner.range(key, version, range)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>> {
        self.plan.run("objects.list", self.inner.list(prefix, after, limit)).await
    }
}

#[async_trait]
impl<T: ArchiveObjects + ?Sized> ArchiveObjects for Faulty<T> {
    async fn put_file_if_absent(
        &self,
        key: &ObjectKey,
        file: &Spooled,
        retain_until: Timestamp,
        tag: LifecycleTag,
    ) -> Result<PutIfAbsent> {
        self.plan
            .run(
                "archive_objects.put_file_if_absent",
                self.inner.put_file_if_absent(key, file, retain_until, tag),
            )
            .await
    }

    async fn state(&self, key: &ObjectKey, version: &str) -> Result<Option<ObjectState>> {
        self.plan.run("archive_objects.state", self.inner.state(key, version)).await
    }

    async fn extend(&self, key: &ObjectKey, version: &str, retain_until: Timestamp) -> Result<()> {
        self.plan.run("archive_objects.extend", self.inner.extend(key, version, retain_until)).await
    }

    async fn set_hold(&self, key: &ObjectKey, version: &str, on: bool) -> Result<()> {
        self.plan.run("archive_objects.set_hold", self.inner.set_hold(key, version, on)).await
    }

    async fn set_tag(&self, key: &ObjectKey, version: &str, tag: LifecycleTag) -> Result<()> {
        self.plan.run("archive_objects.set_tag", self.inner.set_tag(key, version, tag)).await
    }
}

#[async_trait]
impl<T: ArchiveIndex + ?Sized> ArchiveIndex for Faulty<T> {
    async fn put_archived(&self, tenant: &Tenant, entry: &ArchiveEntry) -> Result<()> {
        self.plan.run("archive_index.put_archived", self.inner.put_archived(tenant, entry)).await
    }

    async fn archived_below(
        &self,
        tenant: &Tenant,
        size: TreeSize,
        limit: usize,
    ) -> Result<Vec<ArchiveEntry>> {
        self.plan.run("archive_index.archived_below", self.inner.archived_below(tenant, size, limit)).await
    }

    async fn archived_from(
        &self,
        tenant: &Tenant,
        from: LeafIndex,
        limit: usize,
    ) -> Result<Vec<ArchiveEntry>> {
        self.plan.run("archive_index.archived_from", self.inner.archived_from(tenant, from, limit)).await
    }

    async fn drop_archived(&self, tenant: &Tenant, from: LeafIndex) -> Result<()> {
        self.plan.run("archive_index.drop_archived", self.inner.drop_archived(tenant, from)).await
    }
}

#[async_trait]
impl<T: Policies + ?Sized> Policies for Faulty<T> {
    async fn platform_retention(&self) -> Result<PlatformRetention> {
        self.plan.run("policies.platform_retention", self.inner.platform_retention()).await
    }

    async fn set_platform_retention(&self, retention: &PlatformRetention) -> Result<()> {
        self.plan.run("policies.set_platform_retention", self.inner.set_platform_retention(retention)).await
    }

    async fn replace_tenant(&self, expected: &TenantRecord, record: &TenantRecord) -> Result<bool> {
        self.plan.run("policies.replace_tenant", self.inner.replace_tenant(expected, record)).await
    }

    async fn place_hold(&self, tenant: &Tenant, hold: &LegalHold) -> Result<()> {
        self.plan.run("policies.place_hold", self.inner.place_hold(tenant, hold)).await
    }

    async fn release_hold(
        &self,
        tenant: &Tenant,
        id: &str,
        now: Timestamp,
        by: &str,
        enforcement: u64,
    ) -> Result<Option<LegalHold>> {
        self.plan
            .run("policies.release_hold", self.inner.release_hold(tenant, id, now, by, enforcement))
            .await
    }

    async fn holds(&self, tenant: &Tenant) -> Result<Vec<LegalHold>> {
        self.plan.run("policies.holds", self.inner.holds(tenant)).await
    }

    async fn request_enforcement(&self, tenant: &Tenant) -> Result<u64> {
        self.plan.run("policies.request_enforcement", self.inner.request_enforcement(tenant)).await
    }

    async fn enforcement(&self, tenant: &Tenant) -> Result<Enforcement> {
        self.plan.run("policies.enforcement", self.inner.enforcement(tenant)).await
    }

    async fn save_enforcement(&self, tenant: &Tenant, enforcement: &Enforcement) -> Result<()> {
        self.plan.run("policies.save_enforcement", self.inner.save_enforcement(tenant, enforcement)).await
    }
}

#[async_trait]
impl<T: Watermarks + ?Sized> Watermarks for Faulty<T> {
    async fn reconciled(&self, tenant: &Tenant) -> Result<Option<Reconciled>> {
        self.plan.run("watermarks.reconciled", self.inner.reconciled(tenant)).await
    }

    async fn put_reconciled(&self, tenant: &Tenant, reconciled: &Reconciled) -> Result<()> {
        self.plan.run("watermarks.put_reconciled", self.inner.put_reconciled(tenant, reconciled)).await
    }
}

#[async_trait]
impl<T: Outbox + ?Sized> Outbox for Faulty<T> {
    async fn send(&self, message: String) -> Result<()> {
        self.plan.run("outbox.send", self.inner.send(message)).await
    }
}

#[async_trait]
impl<T: Backlog + ?Sized> Backlog for Faulty<T> {
    async fn waiting(&self) -> Result<bool> {
        self.plan.run("backlog.waiting", self.inner.waiting()).await
    }
}

#[async_trait]
impl<T: Refusals + ?Sized> Refusals for Faulty<T> {
    async fn refuse(&self, refusal: &Refusal) -> Result<()> {
        self.plan.run("refusals.refuse", self.inner.refuse(refusal)).await
    }

    async fn refusals(
        &self,
        tenant: &Tenant,
        before: Option<&RefusalId>,
        limit: usize,
    ) -> Result<Vec<Refusal>> {
        self.plan.run("refusals.refusals", self.inner.refusals(tenant, before, limit)).await
    }

    async fn unassigned_refusals(&self, before: Option<&RefusalId>, limit: usize) -> Result<Vec<Refusal>> {
        self.plan.run("refusals.unassigned_refusals", self.inner.unassigned_refusals(before, limit)).await
    }
}

#[async_trait]
impl<T: Exports + ?Sized> Exports for Faulty<T> {
    async fn create_export(&self, tenant: &Tenant, export: &Export, name: Option<&str>) -> Result<Export> {
        self.plan.run("exports.create_export", self.inner.create_export(tenant, export, name)).await
    }

    async fn export(&self, tenant: &Tenant, id: &str) -> Result<Option<Export>> {
        self.plan.run("exports.export", self.inner.export(tenant, id)).await
    }

    async fn exports(&self, tenant: &Tenant, before: Option<&str>, limit: usize) -> Result<Vec<Export>> {
        self.plan.run("exports.exports", self.inner.exports(tenant, before, limit)).await
    }

    async fn replace_export(&self, tenant: &Tenant, expected: u64, export: &Export) -> Result<bool> {
        self.plan.run("exports.replace_export", self.inner.replace_export(tenant, expected, export)).await
    }
}

#[async_trait]
impl<T: ExportFiles + ?Sized> ExportFiles for Faulty<T> {
    async fn put_export(&self, key: &ExportKey, file: &Spooled, facts: &ExportedFile) -> Result<bool> {
        self.plan.run("export_files.put_export", self.inner.put_export(key, file, facts)).await
    }

    async fn exported(&self, key: &ExportKey) -> Result<Option<ExportedFile>> {
        self.plan.run("export_files.exported", self.inner.exported(key)).await
    }

    async fn link(&self, key: &ExportKey, name: &str, media_type: &str) -> Result<Option<ExportLink>> {
        self.plan.run("export_files.link", self.inner.link(key, name, media_type)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::{head, tenant};
    use crate::memory::MemoryStore;
    use futures_util::FutureExt;
    use stele::Code;

    #[tokio::test]
    async fn each_fault_does_or_does_not_do_the_call_and_says_so() {
        for (fault, done, answered) in [
            (Fault::Pass, true, true),
            (Fault::Fail, false, true),
            (Fault::DoneThenFail, true, true),
            (Fault::Hang, false, false),
            (Fault::DoneThenHang, true, false),
        ] {
            let (store, plan, tenant) = (Arc::new(MemoryStore::new()), FaultPlan::none(), tenant("acme"));
            let faulty: Faulty<dyn Heads> = Faulty::new(store.clone(), &plan);
            plan.on("heads.advance", 0, fault);
            let answer = faulty.advance(&tenant, None, &head(0, 0)).now_or_never();
            assert_eq!(answer.is_some(), answered, "{fault:?}");
            if let Some(answer) = answer {
                assert_eq!(answer.is_ok(), fault == Fault::Pass);
                assert!(answer.is_ok_and(|won| won) || fault != Fault::Pass);
            }
            assert_eq!(faulty.head(&tenant).await.unwrap().is_some(), done, "{fault:?}");
            assert_eq!(plan.take_log(), [("heads.advance", fault), ("heads.head", Fault::Pass)]);
            plan.on("heads.head", 0, Fault::Fail);
            assert_eq!(faulty.head(&tenant).await.unwrap_err().code(), Code::Unavailable);
            assert_eq!(plan.count("heads.head"), 2);
        }
    }

    #[tokio::test]
    async fn the_same_seed_fails_the_same_calls() {
        let log_of = async |seed| {
            let (plan, tenant) = (FaultPlan::none(), tenant("acme"));
            let faulty = Faulty::new(Arc::new(MemoryStore::new()), &plan);
            plan.randomly(seed, 300, &[Fault::Fail, Fault::DoneThenFail]);
            for _ in 0..100 {
                let _failed_or_not = faulty.head(&tenant).await;
            }
            assert!(plan.counts().keys().all(|call| CALLS.contains(call)));
            plan.take_log()
        };
        assert_eq!(log_of(7).await, log_of(7).await);
        assert_ne!(log_of(7).await, log_of(8).await);
        let failed = log_of(7).await.iter().filter(|(_, fault)| *fault != Fault::Pass).count();
        assert!((10..60).contains(&failed), "{failed}");
    }
}
