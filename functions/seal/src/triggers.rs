//! Sealing as Lambda calls it: a batch of the stream, or of parked messages. What is not sealed is parked; what can be
//! neither is told to Lambda by its place, so that a fault costs the records it is about and no others.

use crate::{BatchOutcome, Seal};
use aws_lambda_events::event::dynamodb::{Event, EventRecord};
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use stele::error::{Error, Result};
use stele::id::EventId;
use stele::parking;
use stele::ports::Outbox;
use stele::record::Record;
use stele::spill::Delivered;
use stele::time::Timestamp;
use stele_adapters::dynamodb::stream::record_of;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct TriggerOutcome {
    /// Records that went into segments now.
    pub sealed: u64,
    /// Segments they went into.
    pub segments: u64,
    /// Records put onto the parking queue.
    pub parked: u64,
    /// The earliest `received_at` of what was sealed.
    pub oldest: Option<Timestamp>,
    /// What has to come again: sequence numbers of the stream, or names of messages.
    pub failed: Vec<String>,
}

impl TriggerOutcome {
    fn count(&mut self, outcome: &BatchOutcome) {
        self.sealed += outcome.sealed;
        self.segments += outcome.segments;
    }
}

impl Seal {
    /// Seals a batch of the stream; parks the records of tenants that can't be sealed now.
    pub async fn handle_stream(&self, event: &Event, parking: &dyn Outbox) -> TriggerOutcome {
        let mut done = TriggerOutcome::default();
        let mut records = Vec::with_capacity(event.records.len());
        let mut places = BTreeMap::<EventId, Vec<&str>>::new();
        for change in &event.records {
            match decoded(change) {
                Ok(Some(record)) => {
                    places.entry(record.id).or_default().push(place(change));
                    records.push(record);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(place = place(change), %error, "a change of the stream is no record");
                    done.failed.push(place(change).to_owned());
                }
            }
        }
        done.oldest = records.iter().map(|record| record.received_at).min();
        let outcome = self.seal_all(records).await;
        done.count(&outcome);
        for unsealed in &outcome.unsealed {
            for (message, parked) in parking::messages(&unsealed.records) {
                // A crash right after this line leaves them parked and delivered again: sealing drops what is in the log.
                match parking.send(message).await {
                    Ok(()) => done.parked += parked.len() as u64,
                    Err(error) => {
                        tracing::error!(tenant = %unsealed.tenant, %error, "not parked");
                        let failed = parked.iter().filter_map(|record| places.get(&record.id)).flatten();
                        done.failed.extend(failed.map(|place| (*place).to_owned()));
                    }
                }
            }
        }
        done
    }

    /// Seals parked records; messages whose records are not all in the log have to come again.
    pub async fn handle_parked(&self, messages: &[Delivered]) -> TriggerOutcome {
        let mut done = TriggerOutcome::default();
        let mut records = Vec::new();
        let mut ids = BTreeMap::<&str, Vec<EventId>>::new();
        for message in messages {
            match parking::records(&message.body) {
                Ok(parked) => {
                    ids.insert(&message.id, parked.iter().map(|record| record.id).collect());
                    records.extend(parked);
                }
                Err(error) => {
                    tracing::error!(message = message.id, %error, "a parked message can't be read");
                    done.failed.push(message.id.clone());
                }
            }
        }
        done.oldest = records.iter().map(|record| record.received_at).min();
        let outcome = self.seal_all(records).await;
        done.count(&outcome);
        let unsealed: Vec<EventId> =
            outcome.unsealed.iter().flat_map(|unsealed| unsealed.records.iter().map(|r| r.id)).collect();
        let again = ids.iter().filter(|(_, ids)| ids.iter().any(|id| unsealed.contains(id)));
        done.failed.extend(again.map(|(message, _)| (*message).to_owned()));
        done
    }

    /// Seals one tenant's records; a panic becomes an error, so that it costs that tenant's records and no others.
    pub(crate) async fn seal_guarded(
        &self,
        tenant: &stele::id::TenantId,
        records: &[Record],
    ) -> Result<crate::Sealed> {
        let sealed = AssertUnwindSafe(self.seal_of(tenant, records)).catch_unwind().await;
        sealed.unwrap_or_else(|_| Err(Error::new(stele::Code::Internal, "sealing panicked")))
    }
}

fn place(change: &EventRecord) -> &str {
    change.change.sequence_number.as_deref().unwrap_or_default()
}

fn decoded(change: &EventRecord) -> Result<Option<Record>> {
    let decoded = catch_unwind(AssertUnwindSafe(|| record_of(change)));
    decoded.unwrap_or_else(|_| Err(Error::new(stele::Code::Internal, "reading a change panicked")))
}
