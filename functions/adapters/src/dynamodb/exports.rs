//! The records of exports, on the table of control.

use super::control::FREE;
use super::item::{n, s};
use super::{DynamoStore, export as record};
use crate::failure::failed;
use async_trait::async_trait;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use stele::access::Tenant;
use stele::export::Export;
use stele::ports::Exports;
use stele::{Error, Result, limits};

const CREATING: &str = "creating an export";

impl DynamoStore {
    /// The id a name stands for from now on, or has stood for since it was given.
    async fn named(&self, tenant: &Tenant, export: &Export, name: &str) -> Result<String> {
        let forgotten = export.created_ms.saturating_sub(limits::REMEMBERED_MS);
        let request = self
            .client
            .put_item()
            .table_name(&self.control_table)
            .set_item(Some(record::encode_name(tenant, name, export)))
            .condition_expression(format!("{FREE} OR #given <= :forgotten"))
            .expression_attribute_names("#given", record::GIVEN)
            .expression_attribute_values(":forgotten", n(forgotten))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let error = match request.send().await {
            Ok(_) => return Ok(export.id.clone()),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(taken)) => match taken.item() {
                Some(item) => record::decode_name(item),
                None => Err(Error::unavailable(format!("{CREATING} failed: it was there and is gone"))),
            },
            _ => Err(failed(CREATING, error)),
        }
    }
}

#[async_trait]
impl Exports for DynamoStore {
    async fn create_export(&self, tenant: &Tenant, export: &Export, name: Option<&str>) -> Result<Export> {
        // A crash after this leaves a name for an export that is not there: whoever asks under it again makes that one.
        let id = match name {
            Some(name) => self.named(tenant, export, name).await?,
            None => export.id.clone(),
        };
        let export = Export { id, ..export.clone() };
        let request = self
            .client
            .put_item()
            .table_name(&self.control_table)
            .set_item(Some(record::encode(tenant, &export)?))
            .condition_expression(FREE)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let error = match request.send().await {
            Ok(_) => return Ok(export),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(taken)) => match taken.item() {
                Some(item) => record::decode(item),
                None => Err(Error::unavailable(format!("{CREATING} failed: it was there and is gone"))),
            },
            _ => Err(failed(CREATING, error)),
        }
    }

    async fn export(&self, tenant: &Tenant, id: &str) -> Result<Option<Export>> {
        // DynamoDB refuses empty keys; there is none with an empty id.
        if id.is_empty() {
            return Ok(None);
        }
        let item = self.item("reading an export", &self.control_table, record::key(tenant, id)).await?;
        item.map(|item| record::decode(&item)).transpose()
    }

    async fn exports(&self, tenant: &Tenant, before: Option<&str>, limit: usize) -> Result<Vec<Export>> {
        let query = self
            .query_partition(&self.control_table, "pk", record::partition(tenant))
            .scan_index_forward(false)
            .consistent_read(true);
        let query = match before {
            None => query.key_condition_expression("#pk = :pk"),
            Some(before) => query
                .key_condition_expression("#pk = :pk AND sk < :before")
                .expression_attribute_values(":before", s(before)),
        };
        let items = self.query_pages("listing exports", query, limit).await?;
        items.iter().map(record::decode).collect()
    }

    async fn replace_export(&self, tenant: &Tenant, expected: u64, export: &Export) -> Result<bool> {
        let request = self
            .client
            .put_item()
            .table_name(&self.control_table)
            .set_item(Some(record::encode(tenant, export)?))
            .condition_expression("#revision = :expected")
            .expression_attribute_names("#revision", record::REVISION)
            .expression_attribute_values(":expected", n(expected));
        // A lost answer makes this false although the record is ours; whoever reads it next sees that.
        match request.send().await {
            Ok(_) => Ok(true),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(false)
            }
            Err(e) => Err(failed("changing an export", e)),
        }
    }
}
