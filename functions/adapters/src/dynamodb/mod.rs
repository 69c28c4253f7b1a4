//! The ports on DynamoDB. Two tables: that of events, whose stream carries nothing but records, and that of
//! control, for everything else. Each kind of item has a file of its own: key, value, encode, decode.
//!
//! No call scans a table, and none takes a tenant's name from anything but a [`stele::access::Tenant`].

mod item;
mod event;
mod remembered;
mod late_day;
mod tenant;
mod api_key;
mod head;
mod index_entry;
mod archive_entry;
mod settings;
mod hold;
mod enforcement;
mod reconciled;
mod refusal;
mod export;
mod hot;
mod control;
mod policies;
mod exports;
mod tables;
mod local;
pub mod stream;

pub use local::{local_client, local_streams_client};

use crate::failure::failed;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use item::{Item, s};
use std::collections::HashMap;
use stele::Result;

/// All ports of the hot store and of control, on two tables.
#[derive(Clone, Debug)]
pub struct DynamoStore {
    client: Client,
    events_table: String,
    control_table: String,
}

/// How many items one page of a query asks for at most; DynamoDB ends a page at 1 MB anyway.
const PAGE_ITEMS_MAX: usize = 1000;

impl DynamoStore {
    /// On two tables of these names.
    pub fn new(client: Client, events_table: &str, control_table: &str) -> DynamoStore {
        DynamoStore { client, events_table: events_table.to_owned(), control_table: control_table.to_owned() }
    }

    /// The name of the table of events.
    pub fn events_table(&self) -> &str {
        &self.events_table
    }

    /// A query by partition key, before bounds and order are added.
    fn query_partition(&self, table: &str, attribute: &str, value: String) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(table)
            .expression_attribute_names("#pk", attribute)
            .expression_attribute_values(":pk", s(value))
    }

    /// All pages of a query up to a limit.
    async fn query_pages(
        &self,
        doing: &'static str,
        query: QueryFluentBuilder,
        limit: usize,
    ) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        let mut after: Option<HashMap<_, _>> = None;
        while items.len() < limit {
            // At most PAGE_ITEMS_MAX, which an i32 holds.
            let page_items = (limit - items.len()).min(PAGE_ITEMS_MAX) as i32;
            let page = query.clone().limit(page_items).set_exclusive_start_key(after);
            let page = page.send().await.map_err(|e| failed(doing, e))?;
            items.extend(page.items.unwrap_or_default());
            after = page.last_evaluated_key.filter(|key| !key.is_empty());
            if after.is_none() {
                break;
            }
        }
        Ok(items)
    }

    /// One item, strongly consistent.
    async fn item(&self, doing: &'static str, table: &str, key: Item) -> Result<Option<Item>> {
        let get = self.client.get_item().table_name(table).set_key(Some(key)).consistent_read(true);
        let found = get.send().await.map_err(|e| failed(doing, e))?;
        Ok(found.item.filter(|item| !item.is_empty()))
    }
}
