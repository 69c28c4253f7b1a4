//! Tenants, API keys, heads, the segment index and refusals, on the table of control.

use super::item::{Item, n, s};
use super::{DynamoStore, api_key, head, index_entry, refusal, tenant};
use crate::failure::failed;
use async_trait::async_trait;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{Put as PutAction, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use stele::access::{ApiKey, KeyHash, Tenant, TenantRecord};
use stele::id::TenantId;
use stele::ports::{ApiKeys, Heads, Refusals, Tenants};
use stele::refusal::{Refusal, RefusalId};
use stele::segment::{Head, IndexEntry};
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::{Code, Error, Result};

/// Nothing is stored under the key.
pub(super) const FREE: &str = "attribute_not_exists(pk)";
/// How often a revocation that met another change is tried.
const REVOKE_ATTEMPTS: u32 = 5;
/// Keys read at a time for a listing.
const KEYS_AT_ONCE: usize = 16;

#[async_trait]
impl Tenants for DynamoStore {
    async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>> {
        let item = self.item("reading a tenant", &self.control_table, tenant::key(id)).await?;
        item.map(|item| tenant::decode(&item)).transpose()
    }

    async fn create_tenant(&self, record: &TenantRecord) -> Result<TenantRecord> {
        const DOING: &str = "creating a tenant";
        let request = self
            .client
            .put_item()
            .table_name(&self.control_table)
            .set_item(Some(tenant::encode(record)?))
            .condition_expression(FREE)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let error = match request.send().await {
            Ok(_) => return Ok(record.clone()),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(taken)) => match taken.item() {
                Some(item) => tenant::decode(item),
                None => Err(Error::unavailable(format!("{DOING} failed: it was there and is gone"))),
            },
            _ => Err(failed(DOING, error)),
        }
    }

    async fn tenants(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantRecord>> {
        let query = self
            .query_partition(&self.control_table, "pk", tenant::PARTITION.to_owned())
            .consistent_read(true);
        let query = match after {
            None => query.key_condition_expression("#pk = :pk"),
            Some(after) => query
                .key_condition_expression("#pk = :pk AND sk > :after")
                .expression_attribute_values(":after", s(after.as_str())),
        };
        let items = self.query_pages("listing tenants", query, limit).await?;
        items.iter().map(tenant::decode).collect()
    }
}

#[async_trait]
impl ApiKeys for DynamoStore {
    async fn api_key(&self, hash: KeyHash) -> Result<Option<ApiKey>> {
        let item = self.item("reading an API key", &self.control_table, api_key::key(hash)).await?;
        item.map(|item| api_key::decode(&item)).transpose()
    }

    async fn create_api_key(&self, hash: KeyHash, key: &ApiKey) -> Result<()> {
        const DOING: &str = "creating an API key";
        let put = |item: Item| {
            let put = PutAction::builder()
                .table_name(&self.control_table)
                .set_item(Some(item))
                .condition_expression(FREE)
                .build()
                .map_err(|e| Error::new(Code::Internal, DOING).with_source(e))?;
            Ok::<_, Error>(TransactWriteItem::builder().put(put).build())
        };
        let request = self
            .client
            .transact_write_items()
            .transact_items(put(api_key::encode(hash, key)?)?)
            .transact_items(put(api_key::encode_listed(hash, &key.key_id))?);
        let error = match request.send().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let canceled = matches!(
            error.as_service_error(),
            Some(TransactWriteItemsError::TransactionCanceledException(_))
        );
        if !canceled {
            return Err(failed(DOING, error));
        }
        // Repeated after a lost answer, or two at once: what counts is that it is there.
        match self.api_key(hash).await? {
            Some(there) if there.key_id == key.key_id => Ok(()),
            Some(_) => Err(taken(&key.key_id)),
            None if self.hash_of(&key.key_id).await?.is_some() => Err(taken(&key.key_id)),
            None => Err(Error::unavailable(format!("{DOING} failed"))),
        }
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        let query = self
            .query_partition(&self.control_table, "pk", api_key::LISTING.to_owned())
            .key_condition_expression("#pk = :pk")
            .consistent_read(true);
        let items = self.query_pages("listing API keys", query, usize::MAX).await?;
        let hashes: Vec<KeyHash> = items.iter().map(api_key::decode_listed).collect::<Result<_>>()?;
        stream::iter(hashes)
            .map(|hash| async move {
                // Both were written in one transaction, and none is ever deleted.
                self.api_key(hash).await?.ok_or_else(|| {
                    Error::corrupt("table of control, listed API key", "the key it lists", "none")
                })
            })
            .buffered(KEYS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn revoke_api_key(&self, key_id: &str, now: Timestamp) -> Result<Option<ApiKey>> {
        const DOING: &str = "revoking an API key";
        let Some(hash) = self.hash_of(key_id).await? else {
            return Ok(None);
        };
        for _ in 0..REVOKE_ATTEMPTS {
            let Some(item) = self.item(DOING, &self.control_table, api_key::key(hash)).await? else {
                return Ok(None);
            };
            let mut key = api_key::decode(&item)?;
            if key.revoked_ms.is_some() {
                return Ok(Some(key));
            }
            key.revoked_ms = Some(now.ms());
            let request = self
                .client
                .put_item()
                .table_name(&self.control_table)
                .set_item(Some(api_key::encode(hash, &key)?))
                // Only over what was read: of two revocations the first one's time stands.
                .condition_expression("#json = :seen")
                .expression_attribute_names("#json", "json")
                .set_expression_attribute_values(
                    item.get("json").map(|seen| [(":seen".to_owned(), seen.clone())].into()),
                );
            match request.send().await {
                Ok(_) => return Ok(Some(key)),
                Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                }
                Err(e) => return Err(failed(DOING, e)),
            }
        }
        Err(Error::unavailable(format!("{DOING} failed: others kept changing it")))
    }
}

fn taken(key_id: &str) -> Error {
    Error::new(Code::Internal, format!("the API key `{key_id}` or its text is taken"))
}

impl DynamoStore {
    async fn hash_of(&self, key_id: &str) -> Result<Option<KeyHash>> {
        // DynamoDB refuses empty keys; there is none with an empty id.
        if key_id.is_empty() {
            return Ok(None);
        }
        let key = api_key::listed_key(key_id);
        let item = self.item("reading an API key's listing", &self.control_table, key).await?;
        item.map(|item| api_key::decode_listed(&item)).transpose()
    }
}

#[async_trait]
impl Heads for DynamoStore {
    async fn head(&self, tenant: &Tenant) -> Result<Option<Head>> {
        let item = self.item("reading a head", &self.control_table, head::key(tenant)).await?;
        item.map(|item| head::decode(&item)).transpose()
    }

    async fn advance(&self, tenant: &Tenant, expected: Option<u64>, head: &Head) -> Result<bool> {
        let request =
            self.client.put_item().table_name(&self.control_table).set_item(Some(head::encode(tenant, head)));
        let request = match expected {
            None => request.condition_expression(FREE),
            Some(revision) => request
                .condition_expression("revision = :revision")
                .expression_attribute_values(":revision", n(revision)),
        };
        // A lost answer makes this false although the head is ours; whoever reads it next sees that.
        match request.send().await {
            Ok(_) => Ok(true),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(false)
            }
            Err(e) => Err(failed("advancing a head", e)),
        }
    }

    async fn put_index(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<()> {
        let item = index_entry::encode(tenant, entry);
        let put = self.client.put_item().table_name(&self.control_table).set_item(Some(item));
        put.send().await.map_err(|e| failed("writing the segment index", e))?;
        Ok(())
    }

    async fn index_below(&self, tenant: &Tenant, size: TreeSize, limit: usize) -> Result<Vec<IndexEntry>> {
        let query = self
            .query_partition(&self.control_table, "pk", index_entry::partition(tenant))
            .key_condition_expression("#pk = :pk AND sk < :size")
            .expression_attribute_values(":size", s(index_entry::position(size.to_u64())))
            .scan_index_forward(false)
            .consistent_read(true);
        let items = self.query_pages("reading the segment index", query, limit).await?;
        items.iter().map(index_entry::decode).collect()
    }

    async fn index_from(&self, tenant: &Tenant, from: LeafIndex, limit: usize) -> Result<Vec<IndexEntry>> {
        let query = self
            .query_partition(&self.control_table, "pk", index_entry::partition(tenant))
            .key_condition_expression("#pk = :pk AND sk >= :from")
            .expression_attribute_values(":from", s(index_entry::position(from.to_u64())))
            .consistent_read(true);
        let items = self.query_pages("reading the segment index", query, limit).await?;
        items.iter().map(index_entry::decode).collect()
    }

    async fn forget_index(&self, tenant: &Tenant, until: TreeSize, limit: usize) -> Result<usize> {
        let entries = self.index_from(tenant, LeafIndex::ZERO, limit).await?;
        let old = entries.iter().take_while(|entry| entry.end <= until).map(|entry| entry.first);
        let old: Vec<LeafIndex> = old.collect();
        for first in &old {
            let key = index_entry::key(tenant, *first);
            let delete = self.client.delete_item().table_name(&self.control_table).set_key(Some(key));
            delete.send().await.map_err(|e| failed("forgetting entries of the segment index", e))?;
        }
        Ok(old.len())
    }

    async fn drop_index(&self, tenant: &Tenant, from: LeafIndex) -> Result<()> {
        const DOING: &str = "dropping entries of the segment index";
        let query = self
            .query_partition(&self.control_table, "pk", index_entry::partition(tenant))
            .key_condition_expression("#pk = :pk AND sk >= :from")
            .expression_attribute_values(":from", s(index_entry::position(from.to_u64())))
            .projection_expression("pk, sk")
            // Latest first: a crash on the way leaves no gap.
            .scan_index_forward(false)
            .consistent_read(true);
        for item in self.query_pages(DOING, query, usize::MAX).await? {
            let key = index_entry::key(tenant, index_entry::decode_position(&item)?);
            let delete = self.client.delete_item().table_name(&self.control_table).set_key(Some(key));
            delete.send().await.map_err(|e| failed(DOING, e))?;
        }
        Ok(())
    }
}

#[async_trait]
impl Refusals for DynamoStore {
    async fn refuse(&self, refusal: &Refusal) -> Result<()> {
        let request = self
            .client
            .put_item()
            .table_name(&self.control_table)
            .set_item(Some(refusal::encode(refusal)?))
            // Of two deliveries of one message the first one's reason stands.
            .condition_expression(FREE);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(())
            }
            Err(e) => Err(failed("keeping a refusal", e)),
        }
    }

    async fn refusals(
        &self,
        tenant: &Tenant,
        before: Option<&RefusalId>,
        limit: usize,
    ) -> Result<Vec<Refusal>> {
        self.refusals_of(Some(tenant.id()), before, limit).await
    }

    async fn unassigned_refusals(&self, before: Option<&RefusalId>, limit: usize) -> Result<Vec<Refusal>> {
        self.refusals_of(None, before, limit).await
    }
}

impl DynamoStore {
    async fn refusals_of(
        &self,
        tenant: Option<&TenantId>,
        before: Option<&RefusalId>,
        limit: usize,
    ) -> Result<Vec<Refusal>> {
        let query = self
            .query_partition(&self.control_table, "pk", refusal::partition(tenant))
            .scan_index_forward(false)
            .consistent_read(true);
        let query = match before {
            None => query.key_condition_expression("#pk = :pk"),
            Some(before) => query
                .key_condition_expression("#pk = :pk AND sk < :before")
                .expression_attribute_values(":before", s(before.as_str())),
        };
        let items = self.query_pages("listing refusals", query, limit).await?;
        items.iter().map(|item| refusal::decode(tenant, item)).collect()
    }
}
