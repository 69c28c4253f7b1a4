//! The contract of [`Heads`].

use super::sample::{head, index_entry, tenant, tenant_record};
use futures_util::future::join_all;
use stele::access::{LogNumber, Tenant};
use stele::ports::Heads;
use stele::tlog::hash::{LeafIndex, TreeSize};

/// All of it. `name` begins the tenants' names and must be new to the store.
pub async fn suite(store: &dyn Heads, name: &str) {
    a_head_advances_from_what_was_read(store, name).await;
    of_concurrent_advances_one_wins(store, name).await;
    the_index_is_read_backwards(store, name).await;
    the_index_is_read_forwards_and_forgotten_from_its_beginning(store, name).await;
    logs_and_tenants_are_apart(store, name).await;
}

/// Created once, replaced only from its own revision.
pub async fn a_head_advances_from_what_was_read(store: &dyn Heads, name: &str) {
    let tenant = tenant(&format!("{name}.head"));
    assert_eq!(store.head(&tenant).await.expect("a read"), None);
    assert!(!store.advance(&tenant, Some(0), &head(1, 1)).await.expect("an advance"), "there is none");
    assert!(store.advance(&tenant, None, &head(0, 0)).await.expect("an advance"));
    assert!(!store.advance(&tenant, None, &head(1, 1)).await.expect("an advance"), "there is one");
    assert!(store.advance(&tenant, Some(0), &head(1, 7)).await.expect("an advance"));
    assert!(!store.advance(&tenant, Some(0), &head(1, 8)).await.expect("an advance"), "it has moved on");
    assert_eq!(store.head(&tenant).await.expect("a read"), Some(head(1, 7)));
}

/// Sixteen writers at each of four revisions.
pub async fn of_concurrent_advances_one_wins(store: &dyn Heads, name: &str) {
    let tenant = tenant(&format!("{name}.race"));
    for revision in 0..4_u64 {
        let expected = revision.checked_sub(1);
        let heads: Vec<_> = (0..16).map(|n| head(revision, n)).collect();
        let won = join_all(heads.iter().map(|h| store.advance(&tenant, expected, h))).await;
        let won: Vec<usize> = won
            .into_iter()
            .enumerate()
            .filter(|(_, won)| *won.as_ref().expect("an advance"))
            .map(|w| w.0)
            .collect();
        assert_eq!(won.len(), 1, "revision {revision}");
        assert_eq!(store.head(&tenant).await.expect("a read").as_ref(), Some(&heads[won[0]]));
    }
}

/// Latest first, below a size, overwritten, dropped.
pub async fn the_index_is_read_backwards(store: &dyn Heads, name: &str) {
    let tenant = tenant(&format!("{name}.index"));
    let below = async |size, limit| {
        let entries = store.index_below(&tenant, TreeSize::new(size), limit).await.expect("entries");
        entries.iter().map(|e| e.first.to_u64()).collect::<Vec<u64>>()
    };
    assert!(below(u64::MAX, 10).await.is_empty());
    for first in [9, 0, 100, 10, 99] {
        store.put_index(&tenant, &index_entry(first, first + 1)).await.expect("an entry");
    }
    assert_eq!(below(u64::MAX, 10).await, [100, 99, 10, 9, 0]);
    assert_eq!(below(100, 10).await, [99, 10, 9, 0]);
    assert_eq!(below(100, 2).await, [99, 10]);
    assert_eq!(below(1, 10).await, [0]);
    assert!(below(0, 10).await.is_empty());
    assert!(below(100, 0).await.is_empty());
    store.put_index(&tenant, &index_entry(100, 300)).await.expect("an entry");
    let latest = store.index_below(&tenant, TreeSize::new(101), 1).await.expect("entries");
    assert_eq!(latest, [index_entry(100, 300)]);
    for _ in 0..2 {
        store.drop_index(&tenant, LeafIndex::new(10)).await.expect("a drop");
        assert_eq!(below(u64::MAX, 10).await, [9, 0]);
    }
}

/// From a leaf on; what ends at a size or below goes, earliest first, in steps.
pub async fn the_index_is_read_forwards_and_forgotten_from_its_beginning(store: &dyn Heads, name: &str) {
    let tenant = tenant(&format!("{name}.forward"));
    let from = async |leaf, limit| {
        let entries = store.index_from(&tenant, LeafIndex::new(leaf), limit).await.expect("entries");
        entries.iter().map(|e| e.first.to_u64()).collect::<Vec<u64>>()
    };
    assert!(from(0, 10).await.is_empty());
    assert_eq!(store.forget_index(&tenant, TreeSize::new(9), 10).await.expect("nothing"), 0);
    for (first, end) in [(9, 10), (0, 4), (10, 99), (4, 9)] {
        store.put_index(&tenant, &index_entry(first, end)).await.expect("an entry");
    }
    assert_eq!(from(0, 10).await, [0, 4, 9, 10]);
    assert_eq!(from(4, 2).await, [4, 9]);
    assert_eq!(from(5, 10).await, [9, 10]);
    assert_eq!(from(11, 10).await, Vec::<u64>::new());
    assert_eq!(store.forget_index(&tenant, TreeSize::new(50), 1).await.expect("one"), 1);
    assert_eq!(from(0, 10).await, [4, 9, 10]);
    assert_eq!(store.forget_index(&tenant, TreeSize::new(98), 10).await.expect("two"), 2);
    assert_eq!(store.forget_index(&tenant, TreeSize::new(98), 10).await.expect("none"), 0);
    assert_eq!(from(0, 10).await, [10]);
}

/// Another generation of the log and a tenant whose name begins alike.
pub async fn logs_and_tenants_are_apart(store: &dyn Heads, name: &str) {
    let mut next = tenant_record(&format!("{name}.a"));
    next.log = LogNumber(1);
    let next = Tenant::on_record(next).expect("the sample's parts are valid");
    let tenants = [tenant(&format!("{name}.a")), next, tenant(&format!("{name}.a.b"))];
    for (n, tenant) in (0..).zip(&tenants) {
        assert!(store.advance(tenant, None, &head(n, n)).await.expect("an advance"));
        store.put_index(tenant, &index_entry(n, n + 1)).await.expect("an entry");
    }
    store.drop_index(&tenants[2], LeafIndex::ZERO).await.expect("a drop");
    for (n, tenant) in (0..).zip(&tenants) {
        assert_eq!(store.head(tenant).await.expect("a read"), Some(head(n, n)));
        let entries = store.index_below(tenant, TreeSize::new(9), 9).await.expect("entries");
        let own: &[_] = if n == 2 { &[] } else { &[index_entry(n, n + 1)] };
        assert_eq!(entries, own);
    }
}
