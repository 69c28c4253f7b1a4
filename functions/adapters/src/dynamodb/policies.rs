//! The archive index, policies and watermarks, on the table of control.

use super::control::FREE;
use super::index_entry::position;
use super::item::{n, s};
use super::{DynamoStore, archive_entry, enforcement, hold, reconciled, settings, tenant};
use crate::failure::failed;
use async_trait::async_trait;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use stele::access::{Tenant, TenantRecord};
use stele::archive::ArchiveEntry;
use stele::ports::{ArchiveIndex, Policies, Reconciled, Watermarks};
use stele::retention::{Enforcement, LegalHold, PlatformRetention};
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::{Error, Result};

/// How often a release that met another change is tried.
const RELEASE_ATTEMPTS: u32 = 5;

#[async_trait]
impl ArchiveIndex for DynamoStore {
    async fn put_archived(&self, tenant: &Tenant, entry: &ArchiveEntry) -> Result<()> {
        let item = archive_entry::encode(tenant, entry);
        let put = self.client.put_item().table_name(&self.control_table).set_item(Some(item));
        put.send().await.map_err(|e| failed("writing the archive index", e))?;
        Ok(())
    }

    async fn archived_below(
        &self,
        tenant: &Tenant,
        size: TreeSize,
        limit: usize,
    ) -> Result<Vec<ArchiveEntry>> {
        let query = self
            .query_partition(&self.control_table, "pk", archive_entry::partition(tenant))
            .key_condition_expression("#pk = :pk AND sk < :size")
            .expression_attribute_values(":size", s(position(size.to_u64())))
            .scan_index_forward(false)
            .consistent_read(true);
        let items = self.query_pages("reading the archive index", query, limit).await?;
        items.iter().map(archive_entry::decode).collect()
    }

    async fn archived_from(
        &self,
        tenant: &Tenant,
        from: LeafIndex,
        limit: usize,
    ) -> Result<Vec<ArchiveEntry>> {
        let query = self
            .query_partition(&self.control_table, "pk", archive_entry::partition(tenant))
            .key_condition_expression("#pk = :pk AND sk >= :from")
            .expression_attribute_values(":from", s(position(from.to_u64())))
            .consistent_read(true);
        let items = self.query_pages("reading the archive index", query, limit).await?;
        items.iter().map(archive_entry::decode).collect()
    }

    async fn drop_archived(&self, tenant: &Tenant, from: LeafIndex) -> Result<()> {
        const DOING: &str = "dropping entries of the archive index";
        let query = self
            .query_partition(&self.control_table, "pk", archive_entry::partition(tenant))
            .key_condition_expression("#pk = :pk AND sk >= :from")
            .expression_attribute_values(":from", s(position(from.to_u64())))
            .projection_expression("pk, sk")
            // Latest first: a crash on the way leaves no gap.
            .scan_index_forward(false)
            .consistent_read(true);
        for item in self.query_pages(DOING, query, usize::MAX).await? {
            let key = archive_entry::key(tenant, archive_entry::decode_position(&item)?);
            let delete = self.client.delete_item().table_name(&self.control_table).set_key(Some(key));
            delete.send().await.map_err(|e| failed(DOING, e))?;
        }
        Ok(())
    }
}

#[async_trait]
impl Policies for DynamoStore {
    async fn platform_retention(&self) -> Result<PlatformRetention> {
        let doing = "reading the settings of retention";
        let item = self.item(doing, &self.control_table, settings::key()).await?;
        item.map_or_else(|| Ok(PlatformRetention::default()), |item| settings::decode(&item))
    }

    async fn set_platform_retention(&self, retention: &PlatformRetention) -> Result<()> {
        let item = settings::encode(retention)?;
        let put = self.client.put_item().table_name(&self.control_table).set_item(Some(item));
        put.send().await.map_err(|e| failed("writing the settings of retention", e))?;
        Ok(())
    }

    async fn replace_tenant(&self, expected: &TenantRecord, record: &TenantRecord) -> Result<bool> {
        const DOING: &str = "replacing a tenant's record";
        expected.check_successor(record)?;
        let key = tenant::key_of(expected);
        // Read first: what is stored may have been written before the record had all its fields.
        let Some(item) = self.item(DOING, &self.control_table, key).await? else {
            return Ok(false);
        };
        if tenant::decode(&item)? != *expected {
            return Ok(false);
        }
        let request = self
            .client
            .put_item()
            .table_name(&self.control_table)
            .set_item(Some(tenant::encode(record)?))
            .condition_expression("#json = :seen")
            .expression_attribute_names("#json", "json")
            .set_expression_attribute_values(
                item.get("json").map(|seen| [(":seen".to_owned(), seen.clone())].into()),
            );
        // A lost answer makes this false although the record is ours; whoever reads it next sees that.
        match request.send().await {
            Ok(_) => Ok(true),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(false)
            }
            Err(e) => Err(failed(DOING, e)),
        }
    }

    async fn place_hold(&self, tenant: &Tenant, hold: &LegalHold) -> Result<()> {
        const DOING: &str = "placing a legal hold";
        let request = self
            .client
            .put_item()
            .table_name(&self.control_table)
            .set_item(Some(hold::encode(tenant, hold)?))
            .condition_expression(FREE)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let error = match request.send().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(taken)) => match taken.item() {
                Some(item) => hold::decode(item)?.check_repeated(hold),
                None => Err(Error::unavailable(format!("{DOING} failed: it was there and is gone"))),
            },
            _ => Err(failed(DOING, error)),
        }
    }

    async fn release_hold(
        &self,
        tenant: &Tenant,
        id: &str,
        now: Timestamp,
        by: &str,
        enforcement: u64,
    ) -> Result<Option<LegalHold>> {
        const DOING: &str = "releasing a legal hold";
        // DynamoDB refuses empty keys; there is none with an empty id.
        if id.is_empty() {
            return Ok(None);
        }
        for _ in 0..RELEASE_ATTEMPTS {
            let Some(item) = self.item(DOING, &self.control_table, hold::key(tenant, id)).await? else {
                return Ok(None);
            };
            let mut hold = hold::decode(&item)?;
            if !hold.is_open() {
                return Ok(Some(hold));
            }
            hold.release(now, by, enforcement);
            let request = self
                .client
                .put_item()
                .table_name(&self.control_table)
                .set_item(Some(hold::encode(tenant, &hold)?))
                // Only over what was read: of two releases the first one stands.
                .condition_expression("#json = :seen")
                .expression_attribute_names("#json", "json")
                .set_expression_attribute_values(
                    item.get("json").map(|seen| [(":seen".to_owned(), seen.clone())].into()),
                );
            match request.send().await {
                Ok(_) => return Ok(Some(hold)),
                Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                }
                Err(e) => return Err(failed(DOING, e)),
            }
        }
        Err(Error::unavailable(format!("{DOING} failed: others kept changing it")))
    }

    async fn holds(&self, tenant: &Tenant) -> Result<Vec<LegalHold>> {
        let query = self
            .query_partition(&self.control_table, "pk", hold::partition(tenant))
            .key_condition_expression("#pk = :pk")
            .consistent_read(true);
        let items = self.query_pages("listing legal holds", query, usize::MAX).await?;
        items.iter().map(hold::decode).collect()
    }

    async fn request_enforcement(&self, tenant: &Tenant) -> Result<u64> {
        const DOING: &str = "requesting an enforcement";
        let request = self
            .client
            .update_item()
            .table_name(&self.control_table)
            .set_key(Some(enforcement::key(tenant)))
            .update_expression("ADD #requested :one")
            .expression_attribute_names("#requested", enforcement::REQUESTED)
            .expression_attribute_values(":one", n(1))
            .return_values(ReturnValue::UpdatedNew);
        let answer = request.send().await.map_err(|e| failed(DOING, e))?;
        Ok(enforcement::decode(&answer.attributes.unwrap_or_default())?.requested)
    }

    async fn enforcement(&self, tenant: &Tenant) -> Result<Enforcement> {
        let key = enforcement::key(tenant);
        let item = self.item("reading an enforcement", &self.control_table, key).await?;
        item.map_or_else(|| Ok(Enforcement::default()), |item| enforcement::decode(&item))
    }

    async fn save_enforcement(&self, tenant: &Tenant, enforcement: &Enforcement) -> Result<()> {
        const DOING: &str = "saving an enforcement";
        let mut set =
            self.client.update_item().table_name(&self.control_table).set_key(Some(enforcement::key(tenant)));
        let mut expression = "SET ".to_owned();
        for (name, value) in enforcement::encode_pass(enforcement) {
            expression += &format!("#{name} = :{name}, ");
            set = set
                .expression_attribute_names(format!("#{name}"), name)
                .expression_attribute_values(format!(":{name}"), value);
        }
        let with_done = set
            .clone()
            .update_expression(format!("{expression}#done = :done"))
            .expression_attribute_names("#done", enforcement::DONE)
            .expression_attribute_values(":done", n(enforcement.done))
            .condition_expression("attribute_not_exists(#done) OR #done <= :done");
        match with_done.send().await {
            Ok(_) => return Ok(()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {}
            Err(e) => return Err(failed(DOING, e)),
        }
        // What is done is more than that already, and stays.
        let without = set.update_expression(expression.trim_end_matches(", "));
        without.send().await.map_err(|e| failed(DOING, e))?;
        Ok(())
    }
}

#[async_trait]
impl Watermarks for DynamoStore {
    async fn reconciled(&self, tenant: &Tenant) -> Result<Option<Reconciled>> {
        let key = reconciled::key(tenant);
        let item = self.item("reading a watermark", &self.control_table, key).await?;
        item.map(|item| reconciled::decode(&item)).transpose()
    }

    async fn put_reconciled(&self, tenant: &Tenant, reconciled: &Reconciled) -> Result<()> {
        let request = self
            .client
            .put_item()
            .table_name(&self.control_table)
            .set_item(Some(reconciled::encode(tenant, reconciled)?))
            .condition_expression("attribute_not_exists(pk) OR #through <= :through")
            .expression_attribute_names("#through", reconciled::THROUGH)
            .expression_attribute_values(":through", s(reconciled.through.to_string()));
        match request.send().await {
            Ok(_) => Ok(()),
            // One further on is there.
            Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(())
            }
            Err(e) => Err(failed("writing a watermark", e)),
        }
    }
}
