//! Stores that give way: before each call and after it, so that whoever polls decides what happens in between,
//! and a caller dropped there is a crash before the call or before its answer.

use async_trait::async_trait;
use bytes::Bytes;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;
use stele::access::{ApiKey, KeyHash, Tenant, TenantRecord};
use stele::archive::ArchiveEntry;
use stele::error::Result;
use stele::export::{Export, ExportKey, ExportedFile};
use stele::id::{EventId, TenantId};
use stele::layout::ObjectKey;
use stele::ports::{
    ApiKeys, ArchiveIndex, ArchiveObjects, ExportFiles, ExportLink, Exports, Heads, HotIndex, HotStore,
    IdRange, ListedObject, LockedObjects, Order, Outbox, Policies, Put, PutIfAbsent, PutOutcome, Reconciled,
    Refusals, Spooled, StoredObject, Tenants, Watermarks,
};
use stele::record::Record;
use stele::refusal::{Refusal, RefusalId};
use stele::retention::{Enforcement, LegalHold, LifecycleTag, ObjectState, PlatformRetention};
use stele::segment::{Head, IndexEntry};
use stele::time::{Day, Timestamp};
use stele::tlog::hash::{LeafIndex, TreeSize};

/// A store whose calls give way; with `pace` off it is the store itself.
pub(crate) struct Paced<T: ?Sized> {
    pub(crate) pace: bool,
    pub(crate) inner: Arc<T>,
}

impl<T: ?Sized> Paced<T> {
    async fn call<R>(&self, call: impl Future<Output = R> + Send) -> R {
        self.give_way().await;
        let answer = call.await;
        self.give_way().await;
        answer
    }

    /// Is pending once, and wakes itself.
    async fn give_way(&self) {
        let mut gave_way = !self.pace;
        poll_fn(|ctx| match std::mem::replace(&mut gave_way, true) {
            true => Poll::Ready(()),
            false => {
                ctx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    }
}

#[async_trait]
impl<T: HotStore + ?Sized> HotStore for Paced<T> {
    async fn put(&self, tenant: &Tenant, put: &Put) -> Result<PutOutcome> {
        self.call(self.inner.put(tenant, put)).await
    }

    async fn record(&self, tenant: &Tenant, id: EventId) -> Result<Option<Record>> {
        self.call(self.inner.record(tenant, id)).await
    }

    async fn records(&self, tenant: &Tenant, ids: &[EventId]) -> Result<Vec<Record>> {
        self.call(self.inner.records(tenant, ids)).await
    }

    async fn day(
        &self,
        tenant: &Tenant,
        day: Day,
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Record>> {
        self.call(self.inner.day(tenant, day, range, order, limit)).await
    }

    async fn index(
        &self,
        tenant: &Tenant,
        index: &HotIndex,
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<EventId>> {
        self.call(self.inner.index(tenant, index, range, order, limit)).await
    }

    async fn mark_late(&self, tenant: &Tenant, received: Day, occurred: Day) -> Result<()> {
        self.call(self.inner.mark_late(tenant, received, occurred)).await
    }

    async fn late_days(
        &self,
        tenant: &Tenant,
        received: std::ops::RangeInclusive<Day>,
    ) -> Result<Vec<(Day, Day)>> {
        self.call(self.inner.late_days(tenant, received)).await
    }
}

#[async_trait]
impl<T: Tenants + ?Sized> Tenants for Paced<T> {
    async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>> {
        self.call(self.inner.tenant(id)).await
    }

    async fn create_tenant(&self, record: &TenantRecord) -> Result<TenantRecord> {
        self.call(self.inner.create_tenant(record)).await
    }

    async fn tenants(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantRecord>> {
        self.call(self.inner.tenants(after, limit)).await
    }
}

#[async_trait]
impl<T: ApiKeys + ?Sized> ApiKeys for Paced<T> {
    async fn api_key(&self, hash: KeyHash) -> Result<Option<ApiKey>> {
        self.call(self.inner.api_key(hash)).await
    }

    async fn create_api_key(&self, hash: KeyHash, key: &ApiKey) -> Result<()> {
        self.call(self.inner.create_api_key(hash, key)).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        self.call(self.inner.api_keys()).await
    }

    async fn revoke_api_key(&self, key_id: &str, now: Timestamp) -> Result<Option<ApiKey>> {
        self.call(self.inner.revoke_api_key(key_id, now)).await
    }
}

#[async_trait]
impl<T: Heads + ?Sized> Heads for Paced<T> {
    async fn head(&self, tenant: &Tenant) -> Result<Option<Head>> {
        self.call(self.inner.head(tenant)).await
    }

    async fn advance(&self, tenant: &Tenant, expected: Option<u64>, head: &Head) -> Result<bool> {
        self.call(self.inner.advance(tenant, expected, head)).await
    }

    async fn put_index(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<()> {
        self.call(self.inner.put_index(tenant, entry)).await
    }

    async fn index_below(&self, tenant: &Tenant, size: TreeSize, limit: usize) -> Result<Vec<IndexEntry>> {
        self.call(self.inner.index_below(tenant, size, limit)).await
    }

    async fn index_from(&self, tenant: &Tenant, from: LeafIndex, limit: usize) -> Result<Vec<IndexEntry>> {
        self.call(self.inner.index_from(tenant, from, limit)).await
    }

    async fn forget_index(&self, tenant: &Tenant, until: TreeSize, limit: usize) -> Result<usize> {
        self.call(self.inner.forget_index(tenant, until, limit)).await
    }

    async fn drop_index(&self, tenant: &Tenant, from: LeafIndex) -> Result<()> {
        self.call(self.inner.drop_index(tenant, from)).await
    }
}

#[async_trait]
impl<T: LockedObjects + ?Sized> LockedObjects for Paced<T> {
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        retain_until: Timestamp,
    ) -> Result<PutIfAbsent> {
        self.call(self.inner.put_if_absent(key, bytes, retain_until)).await
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>> {
        self.call(self.inner.object(key)).await
    }

    async fn version(&self, key: &ObjectKey, version: &str) -> Result<Option<StoredObject>> {
        self.call(self.inner.version(key, version)).await
    }

    async fn range(&self, key: &ObjectKey, version: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.call(self.inner.range(key, version, range)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>> {
        self.call(self.inner.list(prefix, after, limit)).await
    }
}

#[async_trait]
impl<T: ArchiveObjects + ?Sized> ArchiveObjects for Paced<T> {
    async fn put_file_if_absent(
        &self,
        key: &ObjectKey,
        file: &Spooled,
        retain_until: Timestamp,
        tag: LifecycleTag,
    ) -> Result<PutIfAbsent> {
        self.call(self.inner.put_file_if_absent(key, file, retain_until, tag)).await
    }

    async fn state(&self, key: &ObjectKey, version: &str) -> Result<Option<ObjectState>> {
        self.call(self.inner.state(key, version)).await
    }

    async fn extend(&self, key: &ObjectKey, version: &str, retain_until: Timestamp) -> Result<()> {
        self.call(self.inner.extend(key, version, retain_until)).await
    }

    async fn set_hold(&self, key: &ObjectKey, version: &str, on: bool) -> Result<()> {
        self.call(self.inner.set_hold(key, version, on)).await
    }

    async fn set_tag(&self, key: &ObjectKey, version: &str, tag: LifecycleTag) -> Result<()> {
        self.call(self.inner.set_tag(key, version, tag)).await
    }
}

#[async_trait]
impl<T: ArchiveIndex + ?Sized> ArchiveIndex for Paced<T> {
    async fn put_archived(&self, tenant: &Tenant, entry: &ArchiveEntry) -> Result<()> {
        self.call(self.inner.put_archived(tenant, entry)).await
    }

    async fn archived_below(
        &self,
        tenant: &Tenant,
        size: TreeSize,
        limit: usize,
    ) -> Result<Vec<ArchiveEntry>> {
        self.call(self.inner.archived_below(tenant, size, limit)).await
    }

    async fn archived_from(
        &self,
        tenant: &Tenant,
        from: LeafIndex,
        limit: usize,
    ) -> Result<Vec<ArchiveEntry>> {
        self.call(self.inner.archived_from(tenant, from, limit)).await
    }

    async fn drop_archived(&self, tenant: &Tenant, from: LeafIndex) -> Result<()> {
        self.call(self.inner.drop_archived(tenant, from)).await
    }
}

#[async_trait]
impl<T: Policies + ?Sized> Policies for Paced<T> {
    async fn platform_retention(&self) -> Result<PlatformRetention> {
        self.call(self.inner.platform_retention()).await
    }

    async fn set_platform_retention(&self, retention: &PlatformRetention) -> Result<()> {
        self.call(self.inner.set_platform_retention(retention)).await
    }

    async fn replace_tenant(&self, expected: &TenantRecord, record: &TenantRecord) -> Result<bool> {
        self.call(self.inner.replace_tenant(expected, record)).await
    }

    async fn place_hold(&self, tenant: &Tenant, hold: &LegalHold) -> Result<()> {
        self.call(self.inner.place_hold(tenant, hold)).await
    }

    async fn release_hold(
        &self,
        tenant: &Tenant,
        id: &str,
        now: Timestamp,
        by: &str,
        enforcement: u64,
    ) -> Result<Option<LegalHold>> {
        self.call(self.inner.release_hold(tenant, id, now, by, enforcement)).await
    }

    async fn holds(&self, tenant: &Tenant) -> Result<Vec<LegalHold>> {
        self.call(self.inner.holds(tenant)).await
    }

    async fn request_enforcement(&self, tenant: &Tenant) -> Result<u64> {
        self.call(self.inner.request_enforcement(tenant)).await
    }

    async fn enforcement(&self, tenant: &Tenant) -> Result<Enforcement> {
        self.call(self.inner.enforcement(tenant)).await
    }

    async fn save_enforcement(&self, tenant: &Tenant, enforcement: &Enforcement) -> Result<()> {
        self.call(self.inner.save_enforcement(tenant, enforcement)).await
    }
}

#[async_trait]
impl<T: Watermarks + ?Sized> Watermarks for Paced<T> {
    async fn reconciled(&self, tenant: &Tenant) -> Result<Option<Reconciled>> {
        self.call(self.inner.reconciled(tenant)).await
    }

    async fn put_reconciled(&self, tenant: &Tenant, reconciled: &Reconciled) -> Result<()> {
        self.call(self.inner.put_reconciled(tenant, reconciled)).await
    }
}

#[async_trait]
impl<T: Exports + ?Sized> Exports for Paced<T> {
    async fn create_export(&self, tenant: &Tenant, export: &Export, name: Option<&str>) -> Result<Export> {
        self.call(self.inner.create_export(tenant, export, name)).await
    }

    async fn export(&self, tenant: &Tenant, id: &str) -> Result<Option<Export>> {
        self.call(self.inner.export(tenant, id)).await
    }

    async fn exports(&self, tenant: &Tenant, before: Option<&str>, limit: usize) -> Result<Vec<Export>> {
        self.call(self.inner.exports(tenant, before, limit)).await
    }

    async fn replace_export(&self, tenant: &Tenant, expected: u64, export: &Export) -> Result<bool> {
        self.call(self.inner.replace_export(tenant, expected, export)).await
    }
}

#[async_trait]
impl<T: ExportFiles + ?Sized> ExportFiles for Paced<T> {
    async fn put_export(&self, key: &ExportKey, file: &Spooled, facts: &ExportedFile) -> Result<bool> {
        self.call(self.inner.put_export(key, file, facts)).await
    }

    async fn exported(&self, key: &ExportKey) -> Result<Option<ExportedFile>> {
        self.call(self.inner.exported(key)).await
    }

    async fn link(&self, key: &ExportKey, name: &str, media_type: &str) -> Result<Option<ExportLink>> {
        self.call(self.inner.link(key, name, media_type)).await
    }
}

#[async_trait]
impl<T: Outbox + ?Sized> Outbox for Paced<T> {
    async fn send(&self, message: String) -> Result<()> {
        self.call(self.inner.send(message)).await
    }
}

#[async_trait]
impl<T: Refusals + ?Sized> Refusals for Paced<T> {
    async fn refuse(&self, refusal: &Refusal) -> Result<()> {
        self.call(self.inner.refuse(refusal)).await
    }

    async fn refusals(
        &self,
        tenant: &Tenant,
        before: Option<&RefusalId>,
        limit: usize,
    ) -> Result<Vec<Refusal>> {
        self.call(self.inner.refusals(tenant, before, limit)).await
    }

    async fn unassigned_refusals(&self, before: Option<&RefusalId>, limit: usize) -> Result<Vec<Refusal>> {
        self.call(self.inner.unassigned_refusals(before, limit)).await
    }
}
