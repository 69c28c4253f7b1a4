//! A record in the table of events. The item is the leaf and what keys and indexes need, nothing else: bytes are
//! money, and an item of up to 1 KB is one write unit.

use super::item::{Item, Reader, b, item, n, s};
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::HashMap;
use stele::access::Tenant;
use stele::id::{EventId, TenantId};
use stele::ports::{HotIndex, Put};
use stele::record::Record;
use stele::time::Day;
use stele::{Error, Result};

const KIND: &str = "table of events";
/// The exact bytes of the leaf.
pub(super) const LEAF: &str = "leaf";

/// Partition of a day's shard. No tenant id has a `#` in it, so no two tenants can share one.
pub(super) fn partition(tenant: &Tenant, day: Day, shard: u32) -> String {
    format!("{}#{day}#{shard}", tenant.id())
}

/// The key of a record: a pure function of tenant and id.
pub(super) fn key(tenant: &Tenant, id: EventId) -> HashMap<String, AttributeValue> {
    let pk = partition(tenant, id.time().day(), tenant.shard_of(id));
    item([("pk", s(pk)), ("sk", s(id.to_string()))])
}

/// Name of an index, which attribute is its key, and the key to look up.
pub(super) fn index_key(tenant: &Tenant, index: &HotIndex) -> (&'static str, &'static str, String) {
    let (name, attribute, value) = match index {
        HotIndex::Actor(id) => ("by_actor", "actor", id),
        HotIndex::Resource(id) => ("by_resource", "resource", id),
        HotIndex::Action(action) => ("by_action", "action", action),
    };
    (name, attribute, indexed(tenant.id(), value))
}

fn indexed(tenant: &TenantId, value: &str) -> String {
    format!("{tenant}#{value}")
}

/// The tenant a partition belongs to.
pub(super) fn tenant_of_partition(pk: &str) -> &str {
    pk.split_once('#').map_or(pk, |(tenant, _)| tenant)
}

/// The item of a put.
pub(super) fn encode(tenant: &Tenant, put: &Put) -> Item {
    let record = &put.record;
    let mut item = key(tenant, record.id);
    let mut set = |name: &str, value| item.insert(name.to_owned(), value);
    set(LEAF, b(record.leaf.as_bytes()));
    set("actor", s(indexed(tenant.id(), &record.actor_id)));
    if let Some(resource) = &record.resource_id {
        set("resource", s(indexed(tenant.id(), resource)));
    }
    set("action", s(indexed(tenant.id(), &record.action)));
    // Whole seconds, never early.
    set("expires", n(put.expires.ms().div_ceil(1000)));
    item
}

/// The record of an item, which must be this tenant's.
pub(super) fn decode(tenant: &Tenant, item: &Item) -> Result<Record> {
    let reader = Reader::new(KIND, item);
    let record = from_leaf(tenant.id().as_str(), reader.b(LEAF)?)?;
    let id = reader.event_id("sk")?;
    if record.id != id {
        return Err(reader.corrupt(LEAF, &format!("a leaf of `{id}`"), format!("one of `{}`", record.id)));
    }
    Ok(record)
}

/// The record in a leaf, which must be of the tenant whose partition it was found in.
pub(super) fn from_leaf(tenant: &str, leaf: &[u8]) -> Result<Record> {
    let record = Record::from_leaf(leaf.to_vec())?;
    if record.tenant.as_str() != tenant {
        return Err(Error::corrupt(
            format!("{KIND}, attribute `{LEAF}`"),
            format!("a leaf of tenant `{tenant}`"),
            format!("one of `{}`", record.tenant),
        ));
    }
    Ok(record)
}

/// The id in what an index projects, which must be this tenant's.
pub(super) fn decode_key(tenant: &Tenant, item: &Item) -> Result<EventId> {
    let reader = Reader::new(KIND, item);
    let pk = reader.s("pk")?;
    if tenant_of_partition(pk) != tenant.id().as_str() {
        return Err(reader.corrupt("pk", &format!("a key of tenant `{}`", tenant.id()), format!("`{pk}`")));
    }
    reader.event_id("sk")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::{record, tenant};
    use stele::Code;
    use stele::time::Timestamp;

    #[test]
    fn an_event_comes_back_and_holds_nothing_but_what_keys_and_indexes_need() {
        let tenant = tenant("acme");
        let record = record(&tenant, 1_767_225_600_123, 7);
        let put = Put { record, expires: Timestamp::from_ms(1_775_001_600_001), remember: None };
        let item = encode(&tenant, &put);
        let mut names: Vec<&str> = item.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["action", "actor", "expires", "leaf", "pk", "resource", "sk"]);
        assert_eq!(item["pk"], s("acme#2026-01-01#0"));
        assert_eq!(item["expires"], n(1_775_001_601));
        let back = decode(&tenant, &item).unwrap();
        assert_eq!(back.leaf.as_bytes(), put.record.leaf.as_bytes());
        assert_eq!(decode_key(&tenant, &item).unwrap(), put.record.id);
    }

    #[test]
    fn another_tenants_item_is_corrupt_never_an_answer() {
        let (acme, globex) = (tenant("acme"), tenant("globex"));
        let put =
            Put { record: record(&acme, 1_767_225_600_123, 7), expires: Timestamp::MAX, remember: None };
        let item = encode(&acme, &put);
        assert_eq!(decode(&globex, &item).unwrap_err().code(), Code::Corrupt);
        assert_eq!(decode_key(&globex, &item).unwrap_err().code(), Code::Corrupt);
    }
}
