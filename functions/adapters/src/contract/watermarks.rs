//! The contract of [`Watermarks`].

use super::sample::tenant;
use stele::ports::{Reconciled, Watermarks};
use stele::time::{Day, Timestamp};

/// All of it. `name` begins the tenants' names and must be new to the store.
pub async fn suite(store: &dyn Watermarks, name: &str) {
    let [one, other] = ["water", "water.b"].map(|n| tenant(&format!("{name}.{n}")));
    let reconciled = |days, at: u64, problems: &[&str]| Reconciled {
        through: Day::from_days(days),
        at: Timestamp::from_ms(1_767_225_600_000 + at),
        problems: problems.iter().map(|p| (*p).to_owned()).collect(),
    };
    assert_eq!(store.reconciled(&one).await.expect("a read"), None);
    // The ninth day of a month sorts before the tenth, and so on: days are compared as days.
    for (put, stands) in [
        (reconciled(20_462, 1, &[]), reconciled(20_462, 1, &[])),
        (reconciled(20_462, 2, &["`evt_1` is missing"]), reconciled(20_462, 2, &["`evt_1` is missing"])),
        (reconciled(20_463, 3, &[]), reconciled(20_463, 3, &[])),
        (reconciled(20_462, 4, &["late"]), reconciled(20_463, 3, &[])),
        (reconciled(20_463, 5, &["a", "b"]), reconciled(20_463, 5, &["a", "b"])),
        (reconciled(20_463, 6, &[]), reconciled(20_463, 6, &[])),
        (reconciled(20_900, 7, &[]), reconciled(20_900, 7, &[])),
    ] {
        store.put_reconciled(&one, &put).await.expect("a write");
        assert_eq!(store.reconciled(&one).await.expect("a read"), Some(stands));
    }
    assert_eq!(store.reconciled(&other).await.expect("a read"), None);
}
