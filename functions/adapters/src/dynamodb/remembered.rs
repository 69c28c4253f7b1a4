//! A name under which an event's id is remembered for a while: an `Idempotency-Key` or an external id. Its end is
//! checked by whoever writes; the table's TTL only cleans up.

use super::item::{Item, Reader, item, n, s};
use stele::Result;
use stele::access::Tenant;
use stele::id::EventId;
use stele::ports::Remember;
use stele::time::Timestamp;

const KIND: &str = "table of control, remembered name";

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) id: EventId,
    pub(super) until: Timestamp,
}

/// Its key.
pub(super) fn key(tenant: &Tenant, name: &str) -> Item {
    item([("pk", s(format!("remember#{}", tenant.id()))), ("sk", s(name))])
}

/// The item.
pub(super) fn encode(tenant: &Tenant, remember: &Remember, id: EventId) -> Item {
    let mut item = key(tenant, &remember.name);
    item.insert("id".to_owned(), s(id.to_string()));
    item.insert("until".to_owned(), n(remember.until.ms()));
    item.insert("expires".to_owned(), n(remember.until.ms().div_ceil(1000)));
    item
}

/// What an item says.
pub(super) fn decode(item: &Item) -> Result<Remembered> {
    let reader = Reader::new(KIND, item);
    Ok(Remembered { id: reader.event_id("id")?, until: reader.time("until")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::tenant;

    #[test]
    fn a_remembered_name_comes_back() {
        let tenant = tenant("acme");
        let remember = Remember {
            name: "retry #1".into(),
            now: Timestamp::from_ms(5),
            until: Timestamp::from_ms(86_400_005),
        };
        let id = EventId::new(Timestamp::from_ms(5), 9);
        let item = encode(&tenant, &remember, id);
        assert_eq!(decode(&item).unwrap(), Remembered { id, until: remember.until });
        assert!(key(&tenant, &remember.name).iter().all(|(name, value)| item[name] == *value));
    }
}
