//! The hot store on the table of events.

use super::item::{Item, n, s};
use super::remembered::Remembered;
use super::{DynamoStore, event, late_day, remembered};
use crate::failure::failed;
use async_trait::async_trait;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, KeysAndAttributes, Put as PutAction, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem,
};
use futures_util::future::try_join_all;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;
use stele::access::Tenant;
use stele::id::EventId;
use stele::ports::{HotIndex, HotStore, IdRange, Order, Put, PutOutcome, Remember};
use stele::record::Record;
use stele::time::Day;
use stele::{Code, Error, Result};

/// DynamoDB's bound for one BatchGetItem.
const BATCH_KEYS_MAX: usize = 100;
/// How often what was left undone by load or by a conflicting transaction is tried.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

const FREE: &str = "attribute_not_exists(pk)";
const PUTTING: &str = "storing an event";
const READING: &str = "reading events";

/// What one transaction came to.
enum Transacted {
    Stored,
    Exists(Record),
    NameTaken(Remembered),
    /// Something else was writing, or there was too much load: nothing was done.
    Later,
}

#[async_trait]
impl HotStore for DynamoStore {
    async fn put(&self, tenant: &Tenant, put: &Put) -> Result<PutOutcome> {
        match &put.remember {
            None => self.put_alone(tenant, put).await,
            Some(remember) => self.put_remembered(tenant, put, remember).await,
        }
    }

    async fn record(&self, tenant: &Tenant, id: EventId) -> Result<Option<Record>> {
        let item = self.item("reading an event", &self.events_table, event::key(tenant, id)).await?;
        item.map(|item| event::decode(tenant, &item)).transpose()
    }

    async fn records(&self, tenant: &Tenant, ids: &[EventId]) -> Result<Vec<Record>> {
        // The same key twice would be refused.
        let mut seen = HashSet::new();
        let ids = ids.iter().filter(|id| seen.insert(**id));
        let keys: Vec<Item> = ids.map(|id| event::key(tenant, *id)).collect();
        let items = try_join_all(keys.chunks(BATCH_KEYS_MAX).map(|keys| self.batch(keys))).await?;
        items.iter().flatten().map(|item| event::decode(tenant, item)).collect()
    }

    async fn day(
        &self,
        tenant: &Tenant,
        day: Day,
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Record>> {
        if range.first > range.last {
            return Ok(Vec::new());
        }
        let shards = (0..tenant.shard_count(day)).map(|shard| {
            let pk = event::partition(tenant, day, shard);
            let query = self
                .query_partition(&self.events_table, "pk", pk)
                .key_condition_expression("#pk = :pk AND sk BETWEEN :first AND :last")
                .expression_attribute_values(":first", s(range.first.to_string()))
                .expression_attribute_values(":last", s(range.last.to_string()))
                .scan_index_forward(order == Order::Ascending)
                .consistent_read(true);
            self.query_pages(READING, query, limit)
        });
        let items = try_join_all(shards).await?;
        let records = items.iter().flatten().map(|item| event::decode(tenant, item));
        let mut records: Vec<Record> = records.collect::<Result<_>>()?;
        // Each shard gave its first `limit`, so the first `limit` of all are among them.
        records.sort_unstable_by(|a, b| match order {
            Order::Ascending => a.id.cmp(&b.id),
            Order::Descending => b.id.cmp(&a.id),
        });
        records.truncate(limit);
        Ok(records)
    }

    async fn index(
        &self,
        tenant: &Tenant,
        index: &HotIndex,
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<EventId>> {
        if range.first > range.last {
            return Ok(Vec::new());
        }
        let (name, attribute, value) = event::index_key(tenant, index);
        let query = self
            .query_partition(&self.events_table, attribute, value)
            .index_name(name)
            .key_condition_expression("#pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":first", s(range.first.to_string()))
            .expression_attribute_values(":last", s(range.last.to_string()))
            .scan_index_forward(order == Order::Ascending);
        let items = self.query_pages("reading an index of events", query, limit).await?;
        items.iter().map(|item| event::decode_key(tenant, item)).collect()
    }

    async fn mark_late(&self, tenant: &Tenant, received: Day, occurred: Day) -> Result<()> {
        let item = late_day::encode(tenant, received, occurred);
        let put = self.client.put_item().table_name(&self.control_table).set_item(Some(item));
        put.send().await.map_err(|e| failed("noting a late day", e))?;
        Ok(())
    }

    async fn late_days(&self, tenant: &Tenant, received: RangeInclusive<Day>) -> Result<Vec<(Day, Day)>> {
        let (first, last) = late_day::keys_of(&received);
        let query = self
            .query_partition(&self.control_table, "pk", late_day::partition(tenant))
            .consistent_read(true)
            .key_condition_expression("#pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":first", s(first))
            .expression_attribute_values(":last", s(last));
        let items = self.query_pages("reading late days", query, usize::MAX).await?;
        items.iter().map(late_day::decode).collect()
    }
}

impl DynamoStore {
    /// One conditional write; when the id is taken, the answer brings what is there.
    async fn put_alone(&self, tenant: &Tenant, put: &Put) -> Result<PutOutcome> {
        let request = self
            .client
            .put_item()
            .table_name(&self.events_table)
            .set_item(Some(event::encode(tenant, put)))
            .condition_expression(FREE)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        // A crash before the answer leaves the event stored and unacknowledged: its sender repeats it, and the
        // condition turns that into `Exists`.
        let error = match request.send().await {
            Ok(_) => return Ok(PutOutcome::Stored),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(taken)) => {
                self.existing(tenant, put, taken.item()).await.map(PutOutcome::Exists)
            }
            _ => Err(failed(PUTTING, error)),
        }
    }

    /// The record an id was found taken by: in the answer, or read for where an answer lacks it.
    async fn existing(&self, tenant: &Tenant, put: &Put, old: Option<&Item>) -> Result<Record> {
        match old.filter(|item| !item.is_empty()) {
            Some(item) => event::decode(tenant, item),
            None => self.record(tenant, put.record.id).await?.ok_or_else(|| {
                // TTL took it between the two calls.
                Error::unavailable("an event expired while its id was looked at")
            }),
        }
    }

    async fn put_remembered(&self, tenant: &Tenant, put: &Put, remember: &Remember) -> Result<PutOutcome> {
        // The id the name was last seen to stand for, when there is no record of that id (any more).
        let mut stale = None;
        for attempt in 0..ATTEMPTS {
            match self.transact(tenant, put, remember, stale).await? {
                Transacted::Stored => return Ok(PutOutcome::Stored),
                Transacted::Exists(record) => return Ok(PutOutcome::Exists(record)),
                Transacted::NameTaken(name) => match self.record(tenant, name.id).await? {
                    Some(record) if record.id == put.record.id => return Ok(PutOutcome::Exists(record)),
                    Some(record) => return Ok(PutOutcome::Remembered(record)),
                    None => stale = Some(name.id),
                },
                Transacted::Later => pause(attempt, put.record.id).await,
            }
        }
        Err(Error::unavailable(format!("{PUTTING} failed: others kept writing under its name")))
    }

    /// Event and name, both or neither. `stale` is an id the name may be taken over from.
    async fn transact(
        &self,
        tenant: &Tenant,
        put: &Put,
        remember: &Remember,
        stale: Option<EventId>,
    ) -> Result<Transacted> {
        let old = ReturnValuesOnConditionCheckFailure::AllOld;
        let event = PutAction::builder()
            .table_name(&self.events_table)
            .set_item(Some(event::encode(tenant, put)))
            .condition_expression(FREE)
            .return_values_on_condition_check_failure(old.clone());
        let mut free = format!("{FREE} OR #until <= :now");
        let mut name = PutAction::builder()
            .table_name(&self.control_table)
            .set_item(Some(remembered::encode(tenant, remember, put.record.id)))
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":now", n(remember.now.ms()))
            .return_values_on_condition_check_failure(old);
        if let Some(stale) = stale {
            free.push_str(" OR id = :stale");
            name = name.expression_attribute_values(":stale", s(stale.to_string()));
        }
        let name = name.condition_expression(free);
        let defined = |e| Error::new(Code::Internal, PUTTING).with_source(e);
        let event = TransactWriteItem::builder().put(event.build().map_err(defined)?).build();
        let name = TransactWriteItem::builder().put(name.build().map_err(defined)?).build();
        let request = self.client.transact_write_items().transact_items(event).transact_items(name);
        let error = match request.send().await {
            Ok(_) => return Ok(Transacted::Stored),
            Err(error) => error,
        };
        let reasons = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(e)) => e.cancellation_reasons(),
            _ => return Err(failed(PUTTING, error)),
        };
        let code = |at: usize| reasons.get(at).and_then(CancellationReason::code).unwrap_or("None");
        let old = |at: usize| reasons.get(at).and_then(CancellationReason::item);
        const TAKEN: &str = "ConditionalCheckFailed";
        if code(0) == TAKEN {
            return self.existing(tenant, put, old(0)).await.map(Transacted::Exists);
        }
        if code(1) == TAKEN {
            return match old(1).filter(|item| !item.is_empty()) {
                Some(item) => Ok(Transacted::NameTaken(remembered::decode(item)?)),
                None => Ok(Transacted::Later),
            };
        }
        let later = |code| {
            matches!(code, "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
        };
        if later(code(0)) || later(code(1)) {
            return Ok(Transacted::Later);
        }
        Err(failed(PUTTING, error))
    }

    /// Up to 100 items by key. Strongly consistent, so that a record an index already shows is never left out.
    async fn batch(&self, keys: &[Item]) -> Result<Vec<Item>> {
        let mut found = Vec::with_capacity(keys.len());
        let mut left = keys.to_vec();
        for attempt in 0..ATTEMPTS {
            let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
            let wanted = wanted.map_err(|e| Error::new(Code::Internal, READING).with_source(e))?;
            let request = self.client.batch_get_item().request_items(&self.events_table, wanted);
            let answer = request.send().await.map_err(|e| failed(READING, e))?;
            found.extend(answer.responses.into_iter().flatten().flat_map(|(_, items)| items));
            let undone = answer.unprocessed_keys.into_iter().flatten();
            left = undone.flat_map(|(_, wanted)| wanted.keys).collect();
            if left.is_empty() {
                return Ok(found);
            }
            pause(attempt, EventId::first_at(Default::default())).await;
        }
        Err(Error::unavailable(format!("{READING} failed: too much load")))
    }
}

/// Waits longer each time, and not all for the same time.
async fn pause(attempt: u32, id: EventId) {
    let jitter = Duration::from_millis((id.to_u128() as u64) % 8);
    tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(attempt.min(6)) + jitter).await;
}
