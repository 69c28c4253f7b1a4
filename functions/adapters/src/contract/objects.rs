//! What every store of locked objects must do. Deleting is no part of the port, and so no part of this.

use bytes::Bytes;
use futures_util::future::join_all;
use stele::access::LogNumber;
use stele::id::TenantId;
use stele::layout::{self, Object, ObjectKey};
use stele::ports::{LockedObjects, PutIfAbsent};
use stele::time::Timestamp;
use stele::tlog::hash::LeafIndex;

/// 2100-01-01, with milliseconds that a coarse file time has to round up.
const UNTIL: Timestamp = Timestamp::from_ms(4_102_444_800_123);

fn segment(tenant: &str, log: u32, first: u64) -> ObjectKey {
    let tenant = TenantId::parse(tenant).expect("the suite's tenants are well formed");
    Object::Segment { tenant, log: LogNumber(log), first: LeafIndex::new(first) }.key()
}

async fn put(store: &dyn LockedObjects, key: &ObjectKey, bytes: &'static [u8]) -> PutIfAbsent {
    store.put_if_absent(key, Bytes::from_static(bytes), UNTIL).await.expect("a put succeeds")
}

async fn keys(store: &dyn LockedObjects, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let found = store.list(prefix, after, limit).await.expect("a listing succeeds");
    found.into_iter().map(|object| object.key).collect()
}

/// Runs the whole suite on an empty store, and leaves objects behind.
///
/// # Panics
///
/// When the store breaks the contract.
pub async fn locked_objects(store: &dyn LockedObjects) {
    an_empty_store_has_nothing(store).await;
    the_first_put_wins_for_good(store).await;
    one_of_many_writers_wins(store).await;
    listings_are_in_order_and_go_on(store).await;
    a_version_is_read_whole_and_by_ranges(store).await;
    a_big_object_comes_back_whole(store).await;
}

async fn an_empty_store_has_nothing(store: &dyn LockedObjects) {
    assert!(store.object(&segment("nobody", 0, 0)).await.expect("a read succeeds").is_none());
    assert_eq!(keys(store, "", None, 10).await, Vec::<String>::new());
    assert_eq!(keys(store, layout::SEGMENTS, None, 10).await, Vec::<String>::new());
}

async fn the_first_put_wins_for_good(store: &dyn LockedObjects) {
    let key = segment("first", 0, 0);
    assert!(matches!(put(store, &key, b"one").await, PutIfAbsent::Created(version) if !version.is_empty()));
    for again in [&b"one"[..], b"two", b""] {
        assert_eq!(put(store, &key, again).await, PutIfAbsent::Exists);
    }
    let found = store.object(&key).await.expect("a read succeeds").expect("the object is there");
    assert_eq!(found.bytes, "one");
    assert!(found.retain_until >= UNTIL, "locked until {}", found.retain_until);

    let empty = segment("first", 0, 1);
    let PutIfAbsent::Created(version) = put(store, &empty, b"").await else {
        panic!("a free key was taken");
    };
    let found = store.object(&empty).await.expect("a read succeeds").expect("the object is there");
    assert_eq!((found.bytes.len(), found.version), (0, version));
}

async fn one_of_many_writers_wins(store: &dyn LockedObjects) {
    for round in 0..8 {
        let key = segment("race", 0, round);
        let writers = (0..16_u8).map(|writer| {
            let bytes = Bytes::from(vec![writer; 10_000]);
            store.put_if_absent(&key, bytes, UNTIL)
        });
        let mut winners = Vec::new();
        for (writer, outcome) in (0..16_u8).zip(join_all(writers).await) {
            match outcome.expect("a put succeeds") {
                PutIfAbsent::Created(version) => winners.push((writer, version)),
                PutIfAbsent::Exists => {}
            }
        }
        let [(winner, version)] = &winners[..] else {
            panic!("{} writers were told that they won", winners.len());
        };
        let found = store.object(&key).await.expect("a read succeeds").expect("the object is there");
        assert_eq!((&found.bytes[..], &found.version), (&vec![*winner; 10_000][..], version));
    }
}

async fn listings_are_in_order_and_go_on(store: &dyn LockedObjects) {
    // `-` and `.` come before the `/` that ends a tenant's folder, `0` and letters after it.
    let mut all = Vec::new();
    for tenant in ["l", "l-1", "l.1", "l0", "lz", "L"] {
        for (log, first) in [(0, 0), (0, 7), (1, 3), (10, 0), (2, 0)] {
            let key = segment(tenant, log, first);
            put(store, &key, b"x").await;
            all.push(key.to_string());
        }
    }
    all.sort();
    let prefix = format!("{}tenant_id=", layout::SEGMENTS);
    let of = |start: &str| -> Vec<String> {
        let start = format!("{prefix}{start}");
        all.iter().filter(|key| key.starts_with(&start)).cloned().collect()
    };

    // A prefix is a text: it may end inside a name, and names that go on count.
    for start in ["l", "l/", "l-", "l-1/log=1", "l/log=0/", "l/log=0/0000000000000000000", "L"] {
        assert_eq!(keys(store, &format!("{prefix}{start}"), None, 1000).await, of(start), "{start}");
    }
    let key = &of("l/")[0];
    assert_eq!(&keys(store, key, None, 10).await, std::slice::from_ref(key), "a whole key is a prefix");
    for nothing in ["no/", "l/log=0/x", "segments/../segments/tenant_id=l", "/", "..", "./", "a\0b/"] {
        assert_eq!(keys(store, nothing, None, 10).await, Vec::<String>::new(), "{nothing:?}");
    }

    // Pages of any size, joined, are the whole.
    let whole = of("l");
    for limit in [1, 2, 3, 7, whole.len(), whole.len() + 1] {
        let mut joined: Vec<String> = Vec::new();
        loop {
            let page = keys(store, &format!("{prefix}l"), joined.last().map(String::as_str), limit).await;
            assert!(page.len() <= limit);
            let short = page.len() < limit;
            joined.extend(page);
            if short {
                break;
            }
        }
        assert_eq!(joined, whole, "limit {limit}");
    }
    assert_eq!(keys(store, &prefix, None, 0).await, Vec::<String>::new());

    // `after` need not be a key, and may lie outside of the prefix.
    let prefix_l = format!("{prefix}l/");
    assert_eq!(keys(store, &prefix_l, Some("a"), 100).await, of("l/"));
    assert_eq!(keys(store, &prefix_l, Some("t"), 100).await, Vec::<String>::new());
    assert_eq!(keys(store, &prefix_l, Some(&format!("{prefix_l}log=1")), 100).await, of("l/")[2..]);
    assert_eq!(keys(store, &prefix_l, Some(&format!("{prefix_l}log=0/~")), 100).await, of("l/")[2..]);

    let sized = store.list(&prefix_l, None, 1).await.expect("a listing succeeds");
    assert_eq!(sized[0].bytes, 1);
}

async fn a_version_is_read_whole_and_by_ranges(store: &dyn LockedObjects) {
    let key = segment("versions", 0, 0);
    let PutIfAbsent::Created(version) = put(store, &key, b"0123456789").await else {
        panic!("a free key was taken");
    };
    let listed = store.list(key.as_str(), None, 1).await.expect("a listing succeeds");
    assert_eq!(listed[0].version, version);
    let found = store.version(&key, &version).await.expect("a read succeeds").expect("the version is there");
    assert_eq!((&found.bytes[..], &found.version), (&b"0123456789"[..], &version));
    assert!(found.retain_until >= UNTIL, "locked until {}", found.retain_until);
    for (range, bytes) in
        [(0..10, "0123456789"), (3..5, "34"), (9..10, "9"), (7..99, "789"), (10..12, ""), (4..4, "")]
    {
        let read = store.range(&key, &version, range.clone()).await.expect("a read succeeds");
        assert_eq!(read.expect("the version is there"), bytes, "{range:?}");
    }
    // Of another key's version, or none of anybody's, there is nothing under this one.
    for (key, version) in [(&key, "no-such-version"), (&segment("versions", 0, 1), version.as_str())] {
        assert!(store.version(key, version).await.expect("a read succeeds").is_none(), "{key} {version}");
        assert!(store.range(key, version, 0..1).await.expect("a read succeeds").is_none(), "{key} {version}");
    }
}

async fn a_big_object_comes_back_whole(store: &dyn LockedObjects) {
    let bytes: Vec<u8> =
        (0..6_u32 * 1024 * 1024).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let bytes = Bytes::from(bytes);
    let key = segment("big", 0, 0);
    let outcome = store.put_if_absent(&key, bytes.clone(), UNTIL).await.expect("a put succeeds");
    assert!(matches!(outcome, PutIfAbsent::Created(_)));
    let found = store.object(&key).await.expect("a read succeeds").expect("the object is there");
    assert!(found.bytes == bytes, "the bytes differ");
    let listed = store.list(key.as_str(), None, 1).await.expect("a listing succeeds");
    assert_eq!(listed[0].bytes, bytes.len() as u64);
}
