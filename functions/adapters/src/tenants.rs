//! Tenants on record, remembered for a minute: every request needs one, and they hardly ever change.

use crate::cache::Cache;
use std::sync::Arc;
use stele::access::{Grant, LogNumber, Secrets, Tenant, TenantRecord};
use stele::id::TenantId;
use stele::ports::{Clock, Policies, Tenants};
use stele::spill::Spilled;
use stele::{Code, Error, Result, limits};

/// Tenants remembered.
const ENTRIES_MAX: usize = 10_000;

/// Finds tenants, and lets them come into being.
pub struct TenantCache {
    tenants: Arc<dyn Tenants>,
    policies: Arc<dyn Policies>,
    clock: Arc<dyn Clock>,
    secrets: Secrets,
    log_name: String,
    known: Cache<TenantId, Tenant>,
}

impl TenantCache {
    /// Over the tenants on record; a new tenant's log gets its origin from the log's name and the secrets, and its
    /// retention from what was decided for new tenants.
    pub fn new<S: Tenants + Policies + 'static>(
        store: Arc<S>,
        clock: Arc<dyn Clock>,
        secrets: Secrets,
        log_name: impl Into<String>,
    ) -> TenantCache {
        let known = Cache::new(limits::CACHE_MS_MAX, ENTRIES_MAX);
        TenantCache {
            tenants: store.clone(),
            policies: store,
            clock,
            secrets,
            log_name: log_name.into(),
            known,
        }
    }

    /// The tenant, if it is on record and the grant covers it; not covered and not there look the same.
    pub async fn find(&self, grant: &Grant, id: &TenantId) -> Result<Option<Tenant>> {
        if !covers(grant, id) {
            return Ok(None);
        }
        let now = self.clock.now();
        if let Some(tenant) = self.known.fresh(id, now) {
            return Ok(Some(tenant));
        }
        self.find_now(grant, id).await
    }

    /// The same, past what is remembered: before a change, and where a change made elsewhere must show at once.
    pub async fn find_now(&self, grant: &Grant, id: &TenantId) -> Result<Option<Tenant>> {
        if !covers(grant, id) {
            return Ok(None);
        }
        match self.tenants.tenant(id).await? {
            Some(record) => self.remember(grant, id, record).map(Some),
            None => Ok(None),
        }
    }

    /// The tenant; it comes into being if it is not on record yet.
    pub async fn find_or_create(&self, grant: &Grant, id: &TenantId) -> Result<Tenant> {
        if let Some(tenant) = self.find(grant, id).await? {
            return Ok(tenant);
        }
        if !covers(grant, id) {
            return Err(Error::new(Code::NotFound, "no such tenant"));
        }
        let record = self.tenants.create_tenant(&self.new_record(id).await?).await?;
        self.remember(grant, id, record)
    }

    /// The tenant of a record that ingest accepted and queued; it comes into being if it is not on record yet. The
    /// message's MAC stands for the grant it was accepted under.
    pub async fn find_or_create_for(&self, spilled: &Spilled) -> Result<Tenant> {
        let id = &spilled.record.tenant;
        if let Some(tenant) = self.known.fresh(id, self.clock.now()) {
            return Ok(tenant);
        }
        let record = match self.tenants.tenant(id).await? {
            Some(record) => record,
            None => self.tenants.create_tenant(&self.new_record(id).await?).await?,
        };
        let tenant = Tenant::on_record(record)?;
        self.known.store(id.clone(), tenant.clone(), self.clock.now());
        Ok(tenant)
    }

    /// The tenant, if it is on record: for a question of our own functions, never for a request.
    pub async fn on_record(&self, id: &TenantId) -> Result<Option<Tenant>> {
        self.tenants.tenant(id).await?.map(Tenant::on_record).transpose()
    }

    async fn new_record(&self, id: &TenantId) -> Result<TenantRecord> {
        let origin = self.secrets.origin(&self.log_name, id, LogNumber(0))?;
        let retention = self.policies.platform_retention().await?;
        let record = TenantRecord::new(id, &origin, self.clock.now());
        Ok(TenantRecord { class_days: retention.class_days, hot_days: retention.hot_days, ..record })
    }

    /// What is remembered is only ever handed to grants that cover it, so that one entry serves them all.
    fn remember(&self, grant: &Grant, id: &TenantId, record: TenantRecord) -> Result<Tenant> {
        if record.tenant_id != id.as_str() {
            let found = format!("`{}`", record.tenant_id);
            return Err(Error::corrupt("tenant record", format!("the tenant `{id}`"), found));
        }
        let tenant = Tenant::granted(grant, record)?;
        self.known.store(id.clone(), tenant.clone(), self.clock.now());
        Ok(tenant)
    }
}

fn covers(grant: &Grant, id: &TenantId) -> bool {
    grant.bound_tenant().is_none_or(|own| own == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::faults::{FaultPlan, Faulty};
    use crate::memory::MemoryStore;
    use stele::access::{ApiKey, Scope};
    use stele::retention::PlatformRetention;
    use stele::time::Timestamp;

    struct World {
        store: Arc<MemoryStore>,
        calls: FaultPlan,
        clock: Arc<ManualClock>,
        cache: TenantCache,
    }

    fn world() -> World {
        let (store, calls, clock) = (Arc::new(MemoryStore::new()), FaultPlan::none(), Arc::default());
        let counted = Arc::new(Faulty::new(store.clone(), &calls));
        let cache = TenantCache::new(counted, Arc::clone(&clock) as _, Secrets::new([1; 32]), "log.example");
        World { store, calls, clock, cache }
    }

    fn grant(tenant: Option<&str>) -> Grant {
        let key = ApiKey {
            key_id: "k".into(),
            tenant: tenant.and_then(TenantId::parse),
            scopes: vec![Scope::EventsRead],
            name: String::new(),
            created_ms: 0,
            revoked_ms: None,
        };
        Grant::check(Arc::new(key), Scope::EventsRead).unwrap()
    }

    #[tokio::test]
    async fn a_tenant_is_made_once_and_read_once_a_minute() {
        let World { store, calls, clock, cache } = world();
        let acme = TenantId::parse("acme").unwrap();
        assert!(cache.find(&grant(None), &acme).await.unwrap().is_none());
        let made = cache.find_or_create(&grant(None), &acme).await.unwrap();
        assert!(made.origin().as_str().starts_with("log.example/"));
        for (now, reads) in [(0, 2), (59_999, 2), (60_000, 3)] {
            clock.set(Timestamp::from_ms(now));
            assert!(cache.find(&grant(Some("acme")), &acme).await.unwrap().is_some());
            assert_eq!(calls.count("tenants.tenant"), reads, "at {now}");
        }
        assert_eq!(store.tenants(None, 9).await.unwrap().len(), 1);
        assert_eq!(calls.count("policies.platform_retention"), 1, "for new tenants only");
    }

    #[tokio::test]
    async fn a_new_tenant_gets_the_retention_decided_for_new_tenants() {
        let World { store, cache, .. } = world();
        let [before, after] = ["before", "after"].map(|id| TenantId::parse(id).unwrap());
        let defaults = PlatformRetention::default();
        let decided = PlatformRetention { class_days: 2557, hot_days: 60 };
        cache.find_or_create(&grant(None), &before).await.unwrap();
        store.set_platform_retention(&decided).await.unwrap();
        cache.find_or_create(&grant(None), &after).await.unwrap();
        for (id, retention) in [(before, defaults), (after, decided)] {
            let record = store.tenant(&id).await.unwrap().unwrap();
            let own = PlatformRetention { class_days: record.class_days, hot_days: record.hot_days };
            assert_eq!(own, retention, "{id}");
        }
    }

    #[tokio::test]
    async fn a_cached_tenant_is_not_found_by_the_key_of_another() {
        let cache = world().cache;
        let acme = TenantId::parse("acme").unwrap();
        cache.find_or_create(&grant(None), &acme).await.unwrap();
        assert!(cache.find(&grant(Some("globex")), &acme).await.unwrap().is_none());
        let refused = cache.find_or_create(&grant(Some("globex")), &acme).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    }
}
