//! How far a tenant's policy has been carried to its objects. Requests add to it while a pass goes on, so that each number
//! is an attribute of its own; one that nobody wrote yet is 0.

use super::item::{Item, Reader, item, n, s};
use aws_sdk_dynamodb::types::AttributeValue;
use stele::Result;
use stele::access::Tenant;
use stele::retention::Enforcement;

const KIND: &str = "table of control, enforcement";
/// Counts requests.
pub(super) const REQUESTED: &str = "requested";
/// Counts what was carried to all objects.
pub(super) const DONE: &str = "done";

/// Its key.
pub(super) fn key(tenant: &Tenant) -> Item {
    item([("pk", s(format!("policy#{}", tenant.id()))), ("sk", s("enforcement"))])
}

/// What a pass writes, but for what only grows.
pub(super) fn encode_pass(enforcement: &Enforcement) -> [(&'static str, AttributeValue); 6] {
    [
        ("started", n(enforcement.started)),
        ("next_leaf", n(enforcement.next_leaf)),
        ("checked", n(enforcement.checked)),
        ("extended", n(enforcement.extended)),
        ("held", n(enforcement.held)),
        ("released", n(enforcement.released)),
    ]
}

/// The enforcement of an item.
pub(super) fn decode(item: &Item) -> Result<Enforcement> {
    let reader = Reader::new(KIND, item);
    let number = |name| if item.contains_key(name) { reader.n(name) } else { Ok(0) };
    Ok(Enforcement {
        requested: number(REQUESTED)?,
        started: number("started")?,
        done: number(DONE)?,
        next_leaf: number("next_leaf")?,
        checked: number("checked")?,
        extended: number("extended")?,
        held: number("held")?,
        released: number("released")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::tenant;

    #[test]
    fn an_enforcement_comes_back_and_nothing_is_zeros() {
        let mut item = key(&tenant("acme"));
        assert_eq!(decode(&item).unwrap(), Enforcement::default());
        let enforcement = Enforcement {
            requested: 8,
            started: 7,
            done: 6,
            next_leaf: 5,
            checked: 4,
            extended: 3,
            held: 2,
            released: 1,
        };
        let grows = [(REQUESTED, n(enforcement.requested)), (DONE, n(enforcement.done))];
        item.extend(encode_pass(&enforcement).into_iter().chain(grows).map(|(k, v)| (k.to_owned(), v)));
        assert_eq!(decode(&item).unwrap(), enforcement);
        item.insert("checked".into(), s("4"));
        assert!(decode(&item).unwrap_err().detail().contains("`checked`"));
    }
}
