//! Whom to visit: the schedule's part. It reads heads and indexes only.

use crate::{Compact, PAGE};
use futures_util::{FutureExt, StreamExt, stream};
use stele::access::{Tenant, TenantRecord};
use stele::errand::Errand;
use stele::error::Result;
use stele::id::TenantId;
use stele::limits;
use stele::ports::Outbox;
use stele_adapters::retry::retrying;

/// Tenants looked at at the same time.
const TENANTS_AT_ONCE: usize = 8;

/// What became of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Errands sent.
    pub errands: u64,
    /// Tenants that could not be looked at; the next plan tries again.
    pub failed: u64,
}

impl Compact {
    /// Sends somebody to every tenant that may have something due.
    ///
    /// # Errors
    /// If the tenants can't be listed.
    pub async fn plan(&self, errands: &dyn Outbox) -> Result<Planned> {
        let mut planned = Planned::default();
        let mut after: Option<TenantId> = None;
        loop {
            let page = retrying(|| self.tenants.tenants(after.as_ref(), PAGE)).await?;
            let is_last = page.len() < PAGE;
            after = page.last().and_then(|record| TenantId::parse(&record.tenant_id)).or(after);
            let looks: Vec<_> =
                page.into_iter().map(|record| self.plan_one(record, errands).boxed()).collect();
            let mut looks = stream::iter(looks).buffer_unordered(TENANTS_AT_ONCE);
            while let Some(sent) = looks.next().await {
                match sent {
                    Ok(sent) => planned.errands += u64::from(sent),
                    Err(error) => {
                        tracing::error!(%error, "a tenant could not be looked at");
                        planned.failed += 1;
                    }
                }
            }
            if is_last {
                return Ok(planned);
            }
        }
    }

    async fn plan_one(&self, record: TenantRecord, errands: &dyn Outbox) -> Result<bool> {
        let tenant = Tenant::on_record(record)?;
        if !self.may_be_due(&tenant).await? {
            return Ok(false);
        }
        let message = Errand::to(tenant.id().clone()).message();
        retrying(|| errands.send(message.clone())).await?;
        Ok(true)
    }

    /// Whether a visit may find something to do. It errs towards going.
    async fn may_be_due(&self, tenant: &Tenant) -> Result<bool> {
        if retrying(|| self.policies.enforcement(tenant)).await?.is_due() {
            return Ok(true);
        }
        let Some(head) = retrying(|| self.heads.head(tenant)).await? else { return Ok(false) };
        let last = self.last_entry(tenant).await?;
        if let Some(last) = &last
            && !self.is_settled(tenant, last).await?
        {
            return Ok(true);
        }
        let archived = last.map_or(stele::tlog::hash::TreeSize::ZERO, |entry| entry.end);
        if archived >= head.size() {
            return Ok(false);
        }
        if head.size().to_u64() - archived.to_u64() >= limits::ARCHIVE_DAY_LEAVES_MIN {
            return Ok(true);
        }
        let oldest = retrying(|| self.heads.index_from(tenant, archived.next_index(), 1)).await?;
        let week_ago = self.clock.now().minus_days(limits::ARCHIVE_WAIT_DAYS_MAX);
        Ok(oldest.first().is_none_or(|segment| segment.sealed_at <= week_ago))
    }
}
