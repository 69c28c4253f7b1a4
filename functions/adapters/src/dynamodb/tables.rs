//! The definition of the two tables, for local mode and tests; a deployed stack has them in its template.

use super::DynamoStore;
use crate::failure::failed;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, StreamSpecification, StreamViewType, TableStatus,
    TimeToLiveSpecification, TimeToLiveStatus,
};
use std::time::Duration;
use stele::{Code, Error, Result};

type Built<T> = std::result::Result<T, BuildError>;

/// The attribute after whose seconds DynamoDB may delete an item.
const TTL: &str = "expires";
const INDEXES: [(&str, &str); 3] =
    [("by_actor", "actor"), ("by_resource", "resource"), ("by_action", "action")];
const STATUS_CHECKS: u32 = 120;
const STATUS_PAUSE: Duration = Duration::from_millis(250);

fn string(name: &str) -> Built<AttributeDefinition> {
    AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build()
}

fn key(name: &str, role: KeyType) -> Built<KeySchemaElement> {
    KeySchemaElement::builder().attribute_name(name).key_type(role).build()
}

fn index(name: &str, attribute: &str) -> Built<GlobalSecondaryIndex> {
    GlobalSecondaryIndex::builder()
        .index_name(name)
        .key_schema(key(attribute, KeyType::Hash)?)
        .key_schema(key("sk", KeyType::Range)?)
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
}

impl DynamoStore {
    /// Creates both tables unless they are there, and waits until they can be used. Idempotent: a crash between
    /// its steps is mended by the next call.
    pub async fn create_tables(&self) -> Result<()> {
        let built = |result: Built<CreateTableFluentBuilder>| {
            result.map_err(|e| Error::new(Code::Internal, "defining a table").with_source(e))
        };
        self.create(&self.events_table, built(self.events_definition())?).await?;
        self.create(&self.control_table, built(self.control_definition())?).await
    }

    fn definition(&self, table: &str) -> Built<CreateTableFluentBuilder> {
        Ok(self
            .client
            .create_table()
            .table_name(table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(string("pk")?)
            .attribute_definitions(string("sk")?)
            .key_schema(key("pk", KeyType::Hash)?)
            .key_schema(key("sk", KeyType::Range)?))
    }

    fn control_definition(&self) -> Built<CreateTableFluentBuilder> {
        self.definition(&self.control_table)
    }

    fn events_definition(&self) -> Built<CreateTableFluentBuilder> {
        let stream = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::NewImage)
            .build()?;
        let mut table = self.definition(&self.events_table)?.stream_specification(stream);
        for (name, attribute) in INDEXES {
            table = table
                .attribute_definitions(string(attribute)?)
                .global_secondary_indexes(index(name, attribute)?);
        }
        Ok(table)
    }

    async fn create(&self, table: &str, definition: CreateTableFluentBuilder) -> Result<()> {
        match definition.send().await {
            Ok(_) => {}
            Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_in_use_exception()) => {}
            Err(e) => return Err(failed("creating a table", e)),
        }
        self.wait_until_active(table).await?;
        let ttl = self.client.describe_time_to_live().table_name(table);
        let ttl = ttl.send().await.map_err(|e| failed("reading a table's time to live", e))?;
        let status = ttl.time_to_live_description.and_then(|ttl| ttl.time_to_live_status);
        if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
            return Ok(());
        }
        let ttl = TimeToLiveSpecification::builder().attribute_name(TTL).enabled(true).build();
        let ttl = ttl.map_err(|e| Error::new(Code::Internal, "defining a table").with_source(e))?;
        let update = self.client.update_time_to_live().table_name(table).time_to_live_specification(ttl);
        update.send().await.map_err(|e| failed("setting a table's time to live", e))?;
        Ok(())
    }

    async fn wait_until_active(&self, table: &str) -> Result<()> {
        for _ in 0..STATUS_CHECKS {
            let described = self.client.describe_table().table_name(table).send().await;
            let described = described.map_err(|e| failed("describing a table", e))?;
            let status = described.table.and_then(|table| table.table_status);
            if status == Some(TableStatus::Active) {
                return Ok(());
            }
            tokio::time::sleep(STATUS_PAUSE).await;
        }
        Err(Error::unavailable(format!("table `{table}` does not become active")))
    }
}
