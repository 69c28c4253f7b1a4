//! The seal function: accepted records in, committed segments out.
//!
//! The stream carries the data; sealing reads nothing from the hot store. One PUT with `If-None-Match: *` is
//! the commit point, all else is a cache that the next run can make again. It does not decide which events are
//! accepted, and it never deletes.

mod keys;
mod head;
mod publish;
mod rebuild;
mod sealing;
mod triggers;
mod state;
mod idle;

pub use idle::IdlePublished;
pub use rebuild::{Rebuild, Rebuilt};
pub use sealing::{Seal, SealSettings, Sealed};
pub use triggers::TriggerOutcome;

use aws_lambda_events::event::dynamodb::Event;
use futures_util::{FutureExt, StreamExt, stream};
use std::collections::BTreeMap;
use stele::error::{Error, Result};
use stele::id::TenantId;
use stele::record::Record;
use stele_adapters::dynamodb::stream::record_of;

/// Tenants sealed at the same time.
const TENANTS_AT_ONCE: usize = 8;

/// What a batch left undone: one tenant's failure must not block the others.
#[derive(Debug)]
pub struct Unsealed {
    /// Whose records.
    pub tenant: TenantId,
    /// All of the tenant's records in the batch, bytes included: to be parked and given to seal again, which
    /// drops those that are in the log by then.
    pub records: Vec<Record>,
    /// Why.
    pub error: Error,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct BatchOutcome {
    /// Records that went into segments now.
    pub sealed: u64,
    /// Segments they went into.
    pub segments: u64,
    /// Records that were in the log before.
    pub replayed: u64,
    /// Tenants whose records are not all in the log.
    pub unsealed: Vec<Unsealed>,
}

impl Seal {
    /// Seals the records a batch of stream events inserted. An item that is not a record is corruption and
    /// fails the batch: nothing may be passed over in silence.
    pub async fn handle(&self, event: &Event) -> Result<BatchOutcome> {
        let mut records = Vec::with_capacity(event.records.len());
        for event in &event.records {
            records.extend(record_of(event)?);
        }
        Ok(self.seal_all(records).await)
    }

    /// Seals records of any tenants, each tenant's on its own, several tenants at a time: most of a segment's time
    /// is waiting for stores.
    pub async fn seal_all(&self, records: Vec<Record>) -> BatchOutcome {
        let mut by_tenant = BTreeMap::<TenantId, Vec<Record>>::new();
        for record in records {
            by_tenant.entry(record.tenant.clone()).or_default().push(record);
        }
        let sealing: Vec<_> = by_tenant
            .into_iter()
            .map(|(tenant, records)| {
                async move {
                    let sealed = self.seal_guarded(&tenant, &records).await;
                    (tenant, records, sealed)
                }
                .boxed()
            })
            .collect();
        let mut sealing = stream::iter(sealing).buffer_unordered(TENANTS_AT_ONCE);
        let mut outcome = BatchOutcome::default();
        while let Some((tenant, records, sealed)) = sealing.next().await {
            match sealed {
                Ok(sealed) => {
                    outcome.sealed += sealed.sealed;
                    outcome.segments += sealed.segments;
                    outcome.replayed += sealed.replayed;
                }
                Err(error) => {
                    tracing::error!(%tenant, records = records.len(), %error, "not sealed");
                    outcome.unsealed.push(Unsealed { tenant, records, error });
                }
            }
        }
        outcome
    }
}
