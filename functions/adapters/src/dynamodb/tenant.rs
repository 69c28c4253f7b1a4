//! A tenant's record, as JSON: it is read whole and grows by fields.

use super::item::{Item, Reader, item, s};
use stele::access::TenantRecord;
use stele::id::TenantId;
use stele::{Code, Error, Result};

const KIND: &str = "table of control, tenant";
/// The one partition of all tenants: they are few, and listed in order.
pub(super) const PARTITION: &str = "tenant";

/// Its key.
pub(super) fn key(id: &TenantId) -> Item {
    item([("pk", s(PARTITION)), ("sk", s(id.as_str()))])
}

/// The key of what a record is written under.
pub(super) fn key_of(record: &TenantRecord) -> Item {
    item([("pk", s(PARTITION)), ("sk", s(record.tenant_id.as_str()))])
}

/// The item.
pub(super) fn encode(record: &TenantRecord) -> Result<Item> {
    let json = serde_json::to_string(record)
        .map_err(|e| Error::new(Code::Internal, "writing a tenant's record").with_source(e))?;
    let mut item = key_of(record);
    item.insert("json".to_owned(), s(json));
    Ok(item)
}

/// The record of an item.
pub(super) fn decode(item: &Item) -> Result<TenantRecord> {
    let reader = Reader::new(KIND, item);
    let record: TenantRecord = serde_json::from_str(reader.s("json")?)
        .map_err(|e| reader.corrupt("json", "a tenant's record", e))?;
    let sk = reader.s("sk")?;
    if record.tenant_id != sk {
        return Err(reader.corrupt("json", &format!("tenant `{sk}`"), format!("`{}`", record.tenant_id)));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::tenant;

    #[test]
    fn a_tenants_record_comes_back() {
        let record = tenant("acme").record().clone();
        let item = encode(&record).unwrap();
        assert_eq!(decode(&item).unwrap(), record);
        let key = key(&TenantId::parse("acme").unwrap());
        assert!(key.iter().all(|(name, value)| item[name] == *value));
    }
}
