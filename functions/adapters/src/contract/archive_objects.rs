//! What every store of locked objects must do for compact. Lifecycle rules are no part of the port; for the stores that
//! have them in code, [`Lifecycle`] says what must go and what must stay.

use bytes::Bytes;
use futures_util::future::join_all;
use std::path::Path;
use stele::Code;
use stele::access::LogNumber;
use stele::archive::Month;
use stele::id::TenantId;
use stele::layout::{self, Object, ObjectKey};
use stele::ports::{ArchiveObjects, LockedObjects, PutIfAbsent, Spooled};
use stele::retention::{Class, LifecycleTag, ObjectState};
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, LeafIndex};

/// 2100-01-01, with milliseconds that a coarse store has to round up.
const UNTIL: Timestamp = Timestamp::from_ms(4_102_444_800_123);
/// A gigabyte has to go in one piece too; this is what a suite can afford.
const BIG_BYTES: u32 = 9 * 1024 * 1024;

fn archive(tenant: &str, first: u64) -> ObjectKey {
    let tenant = TenantId::parse(tenant).expect("the suite's tenants are well formed");
    let month = Month::parse("2026-05").expect("a month");
    Object::Archive { tenant, log: LogNumber(0), month, first: LeafIndex::new(first) }.key()
}

fn segment(tenant: &str, first: u64) -> ObjectKey {
    let tenant = TenantId::parse(tenant).expect("the suite's tenants are well formed");
    Object::Segment { tenant, log: LogNumber(0), first: LeafIndex::new(first) }.key()
}

fn class(days: u32) -> LifecycleTag {
    LifecycleTag::Class(Class::of_days(days).expect("one of the classes"))
}

fn spooled(folder: &Path, name: &str, bytes: &[u8]) -> Spooled {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("the suite's folder can be written to");
    Spooled { path, bytes: bytes.len() as u64, sha256: Hash::of(bytes) }
}

fn created(outcome: PutIfAbsent) -> String {
    match outcome {
        PutIfAbsent::Created(version) => version,
        PutIfAbsent::Exists => panic!("a free key was taken"),
    }
}

async fn state<T: ArchiveObjects>(store: &T, key: &ObjectKey, version: &str) -> ObjectState {
    store.state(key, version).await.expect("a read succeeds").expect("the version is there")
}

/// Whether a lock is what was asked for: never shorter, and longer by less than a second.
fn lasts(state: &ObjectState, until: Timestamp) -> bool {
    state.retain_until >= until && state.retain_until < until.plus_ms(1000)
}

/// Runs the whole suite, spooling into a folder, and leaves objects behind.
///
/// # Panics
///
/// When the store breaks the contract.
pub async fn suite<T: LockedObjects + ArchiveObjects>(store: &T, folder: &Path) {
    a_file_becomes_an_object_with_lock_and_tag_once(store, folder).await;
    one_of_many_writers_wins_with_its_tag(store, folder).await;
    a_file_that_is_not_what_it_says_is_not_stored(store, folder).await;
    locks_get_longer_never_shorter(store).await;
    holds_and_tags_are_set_and_taken_off(store).await;
    what_is_not_there_is_not_found(store).await;
}

async fn a_file_becomes_an_object_with_lock_and_tag_once<T>(store: &T, folder: &Path)
where
    T: LockedObjects + ArchiveObjects,
{
    let big: Vec<u8> = (0..BIG_BYTES).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (first, bytes) in (0..).zip([&b"leaves"[..], b"", &big]) {
        let (key, file) = (archive("file", first), spooled(folder, "file", bytes));
        let put = store.put_file_if_absent(&key, &file, UNTIL, class(90)).await.expect("a put succeeds");
        let version = created(put);
        let found = store.version(&key, &version).await.expect("a read succeeds").expect("it is there");
        assert!(found.bytes == bytes, "the bytes differ");
        let before = state(store, &key, &version).await;
        assert!(lasts(&before, UNTIL) && before.retain_until == found.retain_until, "{before:?}");
        assert_eq!((before.hold, before.tag), (false, Some(class(90))));
        assert!(file.path.exists(), "it is its maker's to remove");

        // Neither the same again nor another changes anything.
        let other = spooled(folder, "other", b"others");
        for file in [&file, &other] {
            let put = store.put_file_if_absent(&key, file, UNTIL.plus_days(1), class(180)).await;
            assert_eq!(put.expect("a put succeeds"), PutIfAbsent::Exists);
        }
        let put = store.put_if_absent(&key, Bytes::from_static(b"x"), UNTIL.plus_days(1)).await;
        assert_eq!(put.expect("a put succeeds"), PutIfAbsent::Exists);
        let found = store.object(&key).await.expect("a read succeeds").expect("it is there");
        assert!(found.bytes == bytes && found.version == version, "it was replaced");
        assert_eq!(state(store, &key, &version).await, before);
    }
    let listed = store.list("", None, 1000).await.expect("a listing succeeds");
    let ours = listed.iter().filter(|object| object.key.contains("tenant_id=file/"));
    let keys = [0, 1, 2].map(|first| archive("file", first).to_string());
    assert!(ours.map(|object| &object.key).eq(&keys), "three objects and nothing beside them");
    assert!(listed.iter().all(|object| ObjectKey::parse(&object.key).is_some()), "{listed:?}");
}

async fn one_of_many_writers_wins_with_its_tag<T>(store: &T, folder: &Path)
where
    T: LockedObjects + ArchiveObjects,
{
    let tags: Vec<LifecycleTag> = Class::all().map(LifecycleTag::Class).collect();
    for round in 0..4 {
        let key = archive("race", round);
        let files: Vec<(Spooled, LifecycleTag)> = (0..16_u8)
            .map(|n| {
                let file = spooled(folder, &format!("race{n}"), &vec![n; 10_000]);
                (file, tags[usize::from(n) % tags.len()])
            })
            .collect();
        let puts = files.iter().map(|(file, tag)| store.put_file_if_absent(&key, file, UNTIL, *tag));
        let outcomes = join_all(puts).await;
        let won = (0_u8..).zip(outcomes).filter_map(|(n, outcome)| match outcome.expect("a put succeeds") {
            PutIfAbsent::Created(version) => Some((n, version)),
            PutIfAbsent::Exists => None,
        });
        let won: Vec<(u8, String)> = won.collect();
        let [(winner, version)] = &won[..] else {
            panic!("{} writers were told that they won", won.len());
        };
        let found = store.version(&key, version).await.expect("a read succeeds").expect("it is there");
        assert_eq!(found.bytes, vec![*winner; 10_000]);
        assert_eq!(state(store, &key, version).await.tag, Some(files[usize::from(*winner)].1));
    }
}

async fn a_file_that_is_not_what_it_says_is_not_stored<T>(store: &T, folder: &Path)
where
    T: LockedObjects + ArchiveObjects,
{
    let key = archive("wrong", 0);
    let whole = spooled(folder, "wrong", b"leaves");
    let hash = Spooled { sha256: Hash::of(b"others"), ..whole.clone() };
    let absent = Spooled { path: folder.join("no such file"), ..whole };
    for file in [&hash, &absent] {
        assert!(store.put_file_if_absent(&key, file, UNTIL, class(180)).await.is_err(), "{file:?}");
        assert!(store.object(&key).await.expect("a read succeeds").is_none(), "{file:?}");
    }
    // What failed does not stand in the way of what is right.
    let file = spooled(folder, "wrong", b"leaves");
    let put = store.put_file_if_absent(&key, &file, UNTIL, class(365)).await.expect("a put succeeds");
    assert_eq!(state(store, &key, &created(put)).await.tag, Some(class(365)));
}

async fn locks_get_longer_never_shorter<T: LockedObjects + ArchiveObjects>(store: &T) {
    let key = segment("longer", 0);
    let put = store.put_if_absent(&key, Bytes::from_static(b"leaves"), UNTIL).await;
    let version = created(put.expect("a put succeeds"));
    let first = state(store, &key, &version).await;
    assert!(lasts(&first, UNTIL) && !first.hold && first.tag.is_none(), "{first:?}");
    let longer = UNTIL.plus_days(35);
    for (asked, then) in [(UNTIL.minus_days(1), UNTIL), (longer, longer), (longer, longer), (UNTIL, longer)] {
        store.extend(&key, &version, asked).await.expect("an extension succeeds");
        let state = state(store, &key, &version).await;
        assert!(lasts(&state, then), "{state:?} after {asked}");
        let read = store.version(&key, &version).await.expect("a read succeeds").expect("it is there");
        assert_eq!(read.retain_until, state.retain_until);
    }
}

async fn holds_and_tags_are_set_and_taken_off<T: LockedObjects + ArchiveObjects>(store: &T) {
    let key = segment("changes", 0);
    let put = store.put_if_absent(&key, Bytes::from_static(b"leaves"), UNTIL).await;
    let version = created(put.expect("a put succeeds"));
    let mut expected = state(store, &key, &version).await;
    let tags = [class(180), LifecycleTag::Hold, LifecycleTag::Archived, class(2557)];
    for (on, tag) in [true, true, false, true, false, false].into_iter().zip(tags.into_iter().cycle()) {
        store.set_hold(&key, &version, on).await.expect("a hold is set or taken off");
        expected.hold = on;
        assert_eq!(state(store, &key, &version).await, expected);
        for _ in 0..2 {
            store.set_tag(&key, &version, tag).await.expect("a tag is set");
            expected.tag = Some(tag);
            assert_eq!(state(store, &key, &version).await, expected);
        }
    }
    let longer = UNTIL.plus_days(1);
    store.set_hold(&key, &version, true).await.expect("a hold is set");
    store.extend(&key, &version, longer).await.expect("an extension succeeds");
    let state = state(store, &key, &version).await;
    assert!(lasts(&state, longer) && state.hold && state.tag == expected.tag, "{state:?}");
    let read = store.version(&key, &version).await.expect("a read succeeds").expect("it is there");
    assert_eq!(read.bytes, "leaves");
}

async fn what_is_not_there_is_not_found<T: LockedObjects + ArchiveObjects>(store: &T) {
    let key = segment("absent", 0);
    let put = store.put_if_absent(&key, Bytes::from_static(b"leaves"), UNTIL).await;
    let version = created(put.expect("a put succeeds"));
    for (key, version) in [(&key, "no-such-version"), (&segment("absent", 1), version.as_str())] {
        assert_eq!(store.state(key, version).await.expect("a read succeeds"), None, "{key} {version}");
        let refusals = [
            store.extend(key, version, UNTIL).await,
            store.set_hold(key, version, true).await,
            store.set_hold(key, version, false).await,
            store.set_tag(key, version, class(90)).await,
        ];
        for refused in refusals {
            assert_eq!(refused.expect_err("there is none").code(), Code::NotFound, "{key} {version}");
        }
    }
}

/// Objects of every kind a lifecycle rule knows or must leave alone.
#[derive(Debug)]
pub struct Lifecycle {
    /// Those that go once their locks are over.
    pub goes: Vec<ObjectKey>,
    /// Those that stay.
    pub stays: Vec<ObjectKey>,
}

impl Lifecycle {
    /// Puts them, locked until then.
    pub async fn prepare<T: LockedObjects + ArchiveObjects>(store: &T, until: Timestamp) -> Lifecycle {
        let (archived, kept) = (Some(LifecycleTag::Archived), Some(LifecycleTag::Hold));
        let tiles = |first| {
            let tenant = TenantId::parse("rules").expect("a tenant id");
            Object::Tiles { tenant, log: LogNumber(0), first: LeafIndex::new(first) }.key()
        };
        let (mut goes, mut stays) = (Vec::new(), Vec::new());
        for (key, tag, hold, days, is_over) in [
            (segment("rules", 0), archived, false, 0, true),
            (segment("rules", 1), archived, true, 0, false),
            (segment("rules", 2), archived, false, 1, false),
            (segment("rules", 3), None, false, 0, false),
            (segment("rules", 4), Some(class(180)), false, 0, false),
            (archive("rules", 0), Some(class(180)), false, 0, true),
            (archive("rules", 1), Some(class(2557)), false, 0, true),
            (archive("rules", 2), Some(class(180)), true, 0, false),
            (archive("rules", 3), kept, false, 0, false),
            (archive("rules", 4), archived, false, 0, false),
            (tiles(0), Some(class(180)), false, 0, false),
        ] {
            let put = store.put_if_absent(&key, Bytes::from_static(b"x"), until.plus_days(days)).await;
            let version = created(put.expect("a put succeeds"));
            store.set_hold(&key, &version, hold).await.expect("a hold is set");
            if let Some(tag) = tag {
                store.set_tag(&key, &version, tag).await.expect("a tag is set");
            }
            if is_over { goes.push(key) } else { stays.push(key) }
        }
        goes.sort();
        stays.sort();
        Lifecycle { goes, stays }
    }

    /// Checks that those that go are gone, were named, and that nothing else is.
    pub async fn check<T: LockedObjects + ArchiveObjects>(&self, store: &T, removed: &[String]) {
        let mut removed = removed.to_vec();
        removed.sort();
        assert!(removed.iter().eq(self.goes.iter().map(ObjectKey::as_str)), "{removed:?}");
        let mut left = Vec::new();
        for prefix in [layout::ARCHIVE, layout::SEGMENTS, layout::TILES] {
            let prefix = format!("{prefix}tenant_id=rules/");
            left.extend(store.list(&prefix, None, 100).await.expect("a listing succeeds"));
        }
        assert!(left.iter().map(|o| o.key.as_str()).eq(self.stays.iter().map(ObjectKey::as_str)), "{left:?}");
    }
}
