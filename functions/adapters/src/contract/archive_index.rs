//! The contract of [`ArchiveIndex`].

use super::sample::{archive_entry, tenant, tenant_record};
use stele::access::{LogNumber, Tenant};
use stele::archive::ArchiveEntry;
use stele::ports::ArchiveIndex;
use stele::retention::Class;
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};

/// All of it. `name` begins the tenants' names and must be new to the store.
pub async fn suite(store: &dyn ArchiveIndex, name: &str) {
    it_is_read_both_ways_and_dropped_from_a_leaf_on(store, name).await;
    a_later_entry_takes_the_place_of_an_earlier_one(store, name).await;
    logs_and_tenants_are_apart(store, name).await;
}

fn firsts(entries: &[ArchiveEntry]) -> Vec<u64> {
    entries.iter().map(|e| e.first.to_u64()).collect()
}

/// Latest first below a size, in order from a leaf.
pub async fn it_is_read_both_ways_and_dropped_from_a_leaf_on(store: &dyn ArchiveIndex, name: &str) {
    let tenant = tenant(&format!("{name}.archive"));
    let below = async |size, limit| {
        firsts(&store.archived_below(&tenant, TreeSize::new(size), limit).await.expect("entries"))
    };
    let from = async |leaf, limit| {
        firsts(&store.archived_from(&tenant, LeafIndex::new(leaf), limit).await.expect("entries"))
    };
    assert!(below(u64::MAX, 10).await.is_empty() && from(0, 10).await.is_empty());
    store.drop_archived(&tenant, LeafIndex::ZERO).await.expect("nothing is dropped");
    for (first, end) in [(9, 10), (0, 9), (100, 1_000_100), (10, 99), (99, 100)] {
        store.put_archived(&tenant, &archive_entry(first, end)).await.expect("an entry");
    }
    assert_eq!(below(u64::MAX, 10).await, [100, 99, 10, 9, 0]);
    assert_eq!(below(100, 10).await, [99, 10, 9, 0]);
    assert_eq!(below(100, 2).await, [99, 10]);
    assert_eq!(below(1, 10).await, [0]);
    assert!(below(0, 10).await.is_empty() && below(100, 0).await.is_empty());
    assert_eq!(from(0, 10).await, [0, 9, 10, 99, 100]);
    assert_eq!(from(9, 2).await, [9, 10]);
    assert_eq!(from(11, 10).await, [99, 100]);
    assert!(from(101, 10).await.is_empty() && from(0, 0).await.is_empty());
    for _ in 0..2 {
        store.drop_archived(&tenant, LeafIndex::new(10)).await.expect("a drop");
        assert_eq!(from(0, 10).await, [0, 9]);
    }
}

/// As when a class gets longer, or the object has gone.
pub async fn a_later_entry_takes_the_place_of_an_earlier_one(store: &dyn ArchiveIndex, name: &str) {
    let tenant = tenant(&format!("{name}.again"));
    let longer = Class::of_days(2557).expect("a class");
    let first = archive_entry(5, 10);
    let expired = Some(Timestamp::from_ms(1_900_000_000_000));
    for entry in [
        first.clone(),
        ArchiveEntry { class: longer, version: "v2".to_owned(), ..first.clone() },
        ArchiveEntry { class: longer, expired, ..first.clone() },
        first,
    ] {
        store.put_archived(&tenant, &entry).await.expect("an entry");
        let there = store.archived_from(&tenant, LeafIndex::ZERO, 9).await.expect("entries");
        assert_eq!(there, [entry]);
    }
}

/// Another generation of the log and a tenant whose name begins alike.
pub async fn logs_and_tenants_are_apart(store: &dyn ArchiveIndex, name: &str) {
    let mut next = tenant_record(&format!("{name}.r"));
    next.log = LogNumber(1);
    let next = Tenant::on_record(next).expect("the sample's parts are valid");
    let tenants = [tenant(&format!("{name}.r")), next, tenant(&format!("{name}.r.b"))];
    for (n, tenant) in (0..).zip(&tenants) {
        store.put_archived(tenant, &archive_entry(n, n + 1)).await.expect("an entry");
    }
    store.drop_archived(&tenants[2], LeafIndex::ZERO).await.expect("a drop");
    for (n, tenant) in (0..).zip(&tenants) {
        let entries = store.archived_from(tenant, LeafIndex::ZERO, 9).await.expect("entries");
        let own: &[_] = if n == 2 { &[] } else { &[archive_entry(n, n + 1)] };
        assert_eq!(entries, own);
    }
}
