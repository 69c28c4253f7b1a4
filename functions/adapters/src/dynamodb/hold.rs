//! A legal hold, as JSON: it is read whole and grows by fields. None is ever deleted.

use super::item::{Item, Reader, item, s};
use stele::access::Tenant;
use stele::retention::LegalHold;
use stele::{Code, Error, Result};

const KIND: &str = "table of control, legal hold";

/// The partition of a tenant's holds.
pub(super) fn partition(tenant: &Tenant) -> String {
    format!("holds#{}", tenant.id())
}

/// Its key.
pub(super) fn key(tenant: &Tenant, id: &str) -> Item {
    item([("pk", s(partition(tenant))), ("sk", s(id))])
}

/// The item.
pub(super) fn encode(tenant: &Tenant, hold: &LegalHold) -> Result<Item> {
    let json = serde_json::to_string(hold)
        .map_err(|e| Error::new(Code::Internal, "writing a legal hold").with_source(e))?;
    let mut item = key(tenant, &hold.id);
    item.insert("json".to_owned(), s(json));
    Ok(item)
}

/// The hold of an item.
pub(super) fn decode(item: &Item) -> Result<LegalHold> {
    let reader = Reader::new(KIND, item);
    let hold: LegalHold =
        serde_json::from_str(reader.s("json")?).map_err(|e| reader.corrupt("json", "a legal hold", e))?;
    let sk = reader.s("sk")?;
    if hold.id != sk {
        return Err(reader.corrupt("json", &format!("hold `{sk}`"), format!("`{}`", hold.id)));
    }
    Ok(hold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::{legal_hold, tenant};

    #[test]
    fn holds_come_back() {
        let open = legal_hold("hold_1");
        let released = LegalHold { released_ms: Some(2), released_by: Some("k2".into()), ..open.clone() };
        for hold in [open, LegalHold { from_ms: None, to_ms: None, ..released.clone() }, released] {
            assert_eq!(decode(&encode(&tenant("acme"), &hold).unwrap()).unwrap(), hold);
        }
    }

    #[test]
    fn a_hold_under_another_ones_id_is_corrupt() {
        let mut item = encode(&tenant("acme"), &legal_hold("hold_1")).unwrap();
        item.insert("sk".into(), s("hold_2"));
        assert_eq!(decode(&item).unwrap_err().code(), Code::Corrupt);
    }
}
