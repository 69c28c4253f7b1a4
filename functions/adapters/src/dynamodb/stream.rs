//! The stream of the table of events: from a Lambda event to records, and from the Streams API to a Lambda event.
//! It polls nothing.

use super::event;
use aws_lambda_events::event::dynamodb::{Event, EventRecord, StreamRecord};
use aws_sdk_dynamodbstreams::types as sdk;
use serde_dynamo::AttributeValue;
use std::collections::HashMap;
use stele::record::Record;
use stele::{Error, Result};

const KIND: &str = "stream of the table of events";
const INSERT: &str = "INSERT";

/// The record a change brought: that of an INSERT; nothing for what TTL removed. It reads the leaf, and holds its
/// tenant against that of the key.
pub fn record_of(change: &EventRecord) -> Result<Option<Record>> {
    if change.event_name != INSERT {
        return Ok(None);
    }
    let image = &change.change.new_image;
    let missing = |name: &str, expected: &str| {
        Error::corrupt(format!("{KIND}, attribute `{name}`"), expected, "nothing of the kind")
    };
    let Some(AttributeValue::S(pk)) = image.get("pk") else {
        return Err(missing("pk", "a string"));
    };
    let Some(AttributeValue::B(leaf)) = image.get(event::LEAF) else {
        return Err(missing(event::LEAF, "bytes"));
    };
    event::from_leaf(event::tenant_of_partition(pk), leaf).map(Some)
}

/// What Lambda would hand over for records of the Streams API, in their order.
pub fn lambda_event_from(records: Vec<sdk::Record>) -> Result<Event> {
    let mut event = Event::default();
    event.records = records.into_iter().map(change_from).collect::<Result<_>>()?;
    Ok(event)
}

/// What Lambda would hand over for records just stored, numbered from `first`: for stores without a stream of
/// their own.
pub fn lambda_event_of<'a>(records: impl IntoIterator<Item = &'a Record>, first: u64) -> Event {
    let mut event = Event::default();
    event.records = (first..).zip(records).map(|(number, record)| inserted(record, number)).collect();
    event
}

fn inserted(record: &Record, number: u64) -> EventRecord {
    let mut change = EventRecord::default();
    change.event_name = INSERT.to_owned();
    change.event_id = format!("{number:032x}");
    let image = &mut change.change;
    image.sequence_number = Some(format!("{number:021}"));
    image.size_bytes = i64::try_from(record.leaf.as_bytes().len()).unwrap_or(i64::MAX);
    // The shard is left at 0: nobody reads more of the key than the tenant.
    let pk = format!("{}#{}#0", record.tenant, record.id.time().day());
    image.keys = keys(pk.clone(), record);
    image.new_image = keys(pk, record);
    image.new_image.insert(event::LEAF.to_owned(), AttributeValue::B(record.leaf.as_bytes().to_vec()));
    change
}

fn keys(pk: String, record: &Record) -> serde_dynamo::Item {
    let sk = AttributeValue::S(record.id.to_string());
    HashMap::from([("pk".to_owned(), AttributeValue::S(pk)), ("sk".to_owned(), sk)]).into()
}

fn change_from(record: sdk::Record) -> Result<EventRecord> {
    let mut change = EventRecord::default();
    change.event_id = record.event_id.unwrap_or_default();
    change.event_name = record.event_name.map(|name| name.as_str().to_owned()).unwrap_or_default();
    change.event_version = record.event_version;
    change.event_source = record.event_source;
    change.aws_region = record.aws_region.unwrap_or_default();
    if let Some(from) = record.dynamodb {
        let mut to = StreamRecord::default();
        to.sequence_number = from.sequence_number;
        to.size_bytes = from.size_bytes.unwrap_or_default();
        to.keys = item(from.keys)?;
        to.new_image = item(from.new_image)?;
        to.old_image = item(from.old_image)?;
        change.change = to;
    }
    Ok(change)
}

fn item(from: Option<HashMap<String, sdk::AttributeValue>>) -> Result<serde_dynamo::Item> {
    let pairs = from.unwrap_or_default().into_iter();
    let item: HashMap<_, _> = pairs.map(|(name, v)| Ok((name, value(v)?))).collect::<Result<_>>()?;
    Ok(item.into())
}

fn value(from: sdk::AttributeValue) -> Result<AttributeValue> {
    let bytes = |blob: aws_sdk_dynamodbstreams::primitives::Blob| blob.into_inner();
    Ok(match from {
        sdk::AttributeValue::S(text) => AttributeValue::S(text),
        sdk::AttributeValue::N(digits) => AttributeValue::N(digits),
        sdk::AttributeValue::B(blob) => AttributeValue::B(bytes(blob)),
        sdk::AttributeValue::Bool(flag) => AttributeValue::Bool(flag),
        sdk::AttributeValue::Null(flag) => AttributeValue::Null(flag),
        sdk::AttributeValue::Ss(texts) => AttributeValue::Ss(texts),
        sdk::AttributeValue::Ns(digits) => AttributeValue::Ns(digits),
        sdk::AttributeValue::Bs(blobs) => AttributeValue::Bs(blobs.into_iter().map(bytes).collect()),
        sdk::AttributeValue::L(values) => {
            AttributeValue::L(values.into_iter().map(value).collect::<Result<_>>()?)
        }
        sdk::AttributeValue::M(map) => AttributeValue::M(item(Some(map))?.into_inner()),
        _ => return Err(Error::corrupt(KIND, "a type of attribute we know", "another")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::{record, tenant};
    use aws_sdk_dynamodbstreams::primitives::Blob;
    use stele::Code;

    fn streamed(name: sdk::OperationType, pk: &str, leaf: &[u8]) -> sdk::Record {
        let change = sdk::StreamRecord::builder()
            .new_image("pk", sdk::AttributeValue::S(pk.into()))
            .new_image("leaf", sdk::AttributeValue::B(Blob::new(leaf)))
            .sequence_number("100000000000000000001");
        sdk::Record::builder().event_name(name).event_id("e1").dynamodb(change.build()).build()
    }

    #[test]
    fn an_insert_is_its_record_and_a_removal_is_nothing() {
        let record = record(&tenant("acme"), 1_767_225_600_123, 7);
        let leaf = record.leaf.as_bytes();
        let event = lambda_event_from(vec![
            streamed(sdk::OperationType::Insert, "acme#2026-01-01#0", leaf),
            streamed(sdk::OperationType::Remove, "acme#2026-01-01#0", leaf),
        ])
        .unwrap();
        assert_eq!(event.records[0].change.sequence_number.as_deref(), Some("100000000000000000001"));
        assert_eq!(record_of(&event.records[0]).unwrap().unwrap().id, record.id);
        assert!(record_of(&event.records[1]).unwrap().is_none());
        let event = lambda_event_of([&record], 4);
        assert_eq!(record_of(&event.records[0]).unwrap().unwrap().leaf.as_bytes(), leaf);
    }

    #[test]
    fn a_leaf_under_another_tenants_key_is_corrupt() {
        let record = record(&tenant("acme"), 1_767_225_600_123, 7);
        let leaf = record.leaf.as_bytes();
        for (pk, leaf) in [("globex#2026-01-01#0", leaf), ("acme#2026-01-01#0", &leaf[..9]), ("acme#x", b"")]
        {
            let event = lambda_event_from(vec![streamed(sdk::OperationType::Insert, pk, leaf)]).unwrap();
            assert_eq!(record_of(&event.records[0]).unwrap_err().code(), Code::Corrupt, "{pk}");
        }
        let mut empty = EventRecord::default();
        empty.event_name = "INSERT".into();
        assert_eq!(record_of(&empty).unwrap_err().code(), Code::Corrupt);
    }
}
