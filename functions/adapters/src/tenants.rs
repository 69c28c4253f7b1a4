//! Tenants on record, remembered for a minute: every request needs one, and they hardly ever change.

use crate::cache::Cache;
use std::sync::Arc;
use stele::access::{Grant, LogNumber, Secrets, Tenant, TenantRecord};
use stele::id::TenantId;
use stele::ports::{Clock, Tenants};
use stele::spill::Spilled;
use stele::{Code, Error, Result, limits};

/// Tenants remembered.
const ENTRIES_MAX: usize = 10_000;

/// Finds tenants, and lets them come into being.
pub struct TenantCache {
    tenants: Arc<dyn Tenants>,
    clock: Arc<dyn Clock>,
    secrets: Secrets,
    log_name: String,
    known: Cache<TenantId, Tenant>,
}

impl TenantCache {
    /// Over the tenants on record; a new tenant's log gets its origin from the log's name and the secrets.
    pub fn new(
        tenants: Arc<dyn Tenants>,
        clock: Arc<dyn Clock>,
        secrets: Secrets,
        log_name: impl Into<String>,
    ) -> TenantCache {
        let known = Cache::new(limits::CACHE_MS_MAX, ENTRIES_MAX);
        TenantCache { tenants, clock, secrets, log_name: log_name.into(), known }
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
        let record = self.tenants.create_tenant(&self.new_record(id)?).await?;
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
            None => self.tenants.create_tenant(&self.new_record(id)?).await?,
        };
        let tenant = Tenant::on_record(record)?;
        self.known.store(id.clone(), tenant.clone(), self.clock.now());
        Ok(tenant)
    }

    /// The tenant, if it is on record: for a question of our own functions, never for a request.
    pub async fn on_record(&self, id: &TenantId) -> Result<Option<Tenant>> {
        self.tenants.tenant(id).await?.map(Tenant::on_record).transpose()
    }

    fn new_record(&self, id: &TenantId) -> Result<TenantRecord> {
        let origin = self.secrets.origin(&self.log_name, id, LogNumber(0))?;
        Ok(TenantRecord::new(id, &origin, self.clock.now()))
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
    use async_trait::async_trait;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};
    use stele::access::{ApiKey, Scope};
    use stele::time::Timestamp;

    #[derive(Default)]
    struct World {
        records: Mutex<Vec<TenantRecord>>,
        now: AtomicU64,
        reads: AtomicU64,
    }

    impl Clock for World {
        fn now(&self) -> Timestamp {
            Timestamp::from_ms(self.now.load(Ordering::Relaxed))
        }
    }

    #[async_trait]
    impl Tenants for World {
        async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            Ok(self.records.lock().unwrap().iter().find(|r| r.tenant_id == id.as_str()).cloned())
        }
        async fn create_tenant(&self, record: &TenantRecord) -> Result<TenantRecord> {
            self.records.lock().unwrap().push(record.clone());
            Ok(record.clone())
        }
        async fn tenants(&self, _: Option<&TenantId>, _: usize) -> Result<Vec<TenantRecord>> {
            Ok(self.records.lock().unwrap().clone())
        }
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
        let world = Arc::new(World::default());
        let cache = TenantCache::new(world.clone(), world.clone(), Secrets::new([1; 32]), "log.example");
        let acme = TenantId::parse("acme").unwrap();
        assert!(cache.find(&grant(None), &acme).await.unwrap().is_none());
        let made = cache.find_or_create(&grant(None), &acme).await.unwrap();
        assert!(made.origin().as_str().starts_with("log.example/"));
        for (now, reads) in [(0, 2), (59_999, 2), (60_000, 3)] {
            world.now.store(now, Ordering::Relaxed);
            assert!(cache.find(&grant(Some("acme")), &acme).await.unwrap().is_some());
            assert_eq!(world.reads.load(Ordering::Relaxed), reads, "at {now}");
        }
        assert_eq!(world.records.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_cached_tenant_is_not_found_by_the_key_of_another() {
        let world = Arc::new(World::default());
        let cache = TenantCache::new(world.clone(), world.clone(), Secrets::new([1; 32]), "log.example");
        let acme = TenantId::parse("acme").unwrap();
        cache.find_or_create(&grant(None), &acme).await.unwrap();
        assert!(cache.find(&grant(Some("globex")), &acme).await.unwrap().is_none());
        let refused = cache.find_or_create(&grant(Some("globex")), &acme).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    }
}
