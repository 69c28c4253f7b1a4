//! The note that records of one day were received on another.

use super::item::{Item, Reader, item, s};
use std::ops::RangeInclusive;
use stele::Result;
use stele::access::Tenant;
use stele::time::Day;

const KIND: &str = "table of control, late day";

/// The partition of a tenant's late days.
pub(super) fn partition(tenant: &Tenant) -> String {
    format!("late#{}", tenant.id())
}

/// What the sort keys of received days lie between.
pub(super) fn keys_of(received: &RangeInclusive<Day>) -> (String, String) {
    (format!("{}#", received.start()), format!("{}#~", received.end()))
}

/// The item: all of it is key.
pub(super) fn encode(tenant: &Tenant, received: Day, occurred: Day) -> Item {
    let sk = format!("{received}#{occurred}");
    item([("pk", s(partition(tenant))), ("sk", s(sk))])
}

/// Received and occurred day of an item.
pub(super) fn decode(item: &Item) -> Result<(Day, Day)> {
    let reader = Reader::new(KIND, item);
    let sk = reader.s("sk")?;
    sk.split_once('#')
        .and_then(|(received, occurred)| Some((Day::parse(received).ok()?, Day::parse(occurred).ok()?)))
        .ok_or_else(|| reader.corrupt("sk", "two days", format!("`{sk}`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::tenant;

    #[test]
    fn late_days_come_back() {
        let (received, occurred) = (Day::from_days(20_500), Day::from_days(20_471));
        let item = encode(&tenant("acme"), received, occurred);
        assert_eq!(decode(&item).unwrap(), (received, occurred));
    }
}
