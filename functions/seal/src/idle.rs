//! What a schedule does for every log, whether or not anything happens in it: the checkpoint object of one that went quiet
//! (sealing publishes at most so often, and so leaves its end without one), and the daily statement that nothing came after.

use crate::Seal;
use crate::sealing::retrying;
use futures_util::{FutureExt, StreamExt, stream};
use stele::access::{Tenant, TenantRecord};
use stele::error::{Kind, Result};
use stele::id::TenantId;
use stele::segment::Head;

/// Tenants listed at once.
const PAGE: usize = 1_000;
/// Heads looked at at the same time.
const TENANTS_AT_ONCE: usize = 8;

/// What became of the logs that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdlePublished {
    /// Checkpoint objects written now.
    pub published: u64,
    /// Statements made now: that nothing came after a checkpoint until now.
    pub stated: u64,
    /// Logs where it failed; the next call tries again.
    pub failed: u64,
}

impl Seal {
    /// Publishes the checkpoint of every log that has leaves beyond its last one and is due. Sealing may go on beside
    /// it; a crash on the way leaves the rest to the next call.
    pub async fn publish_idle(&self) -> Result<IdlePublished> {
        let mut done = IdlePublished::default();
        let mut after: Option<TenantId> = None;
        loop {
            let page = retrying(|| self.tenants.tenants(after.as_ref(), PAGE)).await?;
            let is_last = page.len() < PAGE;
            after = page.last().and_then(|record| TenantId::parse(&record.tenant_id)).or(after);
            let publishing: Vec<_> = page.into_iter().map(|record| self.look_after(record).boxed()).collect();
            let mut publishing = stream::iter(publishing).buffer_unordered(TENANTS_AT_ONCE);
            while let Some(published) = publishing.next().await {
                match published {
                    Ok(one) => {
                        done.published += one.published;
                        done.stated += one.stated;
                    }
                    Err(error) => {
                        tracing::error!(%error, "a log was not looked after");
                        done.failed += 1;
                    }
                }
            }
            if is_last {
                return Ok(done);
            }
        }
    }

    async fn look_after(&self, record: TenantRecord) -> Result<IdlePublished> {
        let tenant = Tenant::on_record(record)?;
        let published = self.publish_if_idle(&tenant).await?;
        // After it, so that what is stated has its checkpoint object too.
        let stated = self.state_if_due(&tenant).await?;
        Ok(IdlePublished { published: u64::from(published), stated: u64::from(stated), failed: 0 })
    }

    async fn publish_if_idle(&self, tenant: &Tenant) -> Result<bool> {
        let is_due = |head: &Head| self.publishing_is_due(head);
        if !retrying(|| self.heads.head(tenant)).await?.is_some_and(|head| is_due(&head)) {
            return Ok(false);
        }
        // Holding an old head against the stored objects publishes too.
        let head = self.trusted_head(tenant).await?;
        if !is_due(&head) {
            return Ok(true);
        }
        let published = self.publish(tenant, &head, None).await?;
        // A crash here leaves checkpoint and manifest; the next call finds them and writes nothing again.
        let next = Head { revision: head.revision + 1, published, ..head.clone() };
        match self.heads.advance(tenant, Some(head.revision), &next).await {
            // Somebody sealed meanwhile, and carries on from the last checkpoint it knew.
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Kind::Unavailable => Ok(true),
            Err(error) => Err(error),
        }
    }
}
