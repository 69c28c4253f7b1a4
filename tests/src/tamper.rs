//! What an attacker with the run of the storage can do to it, byte by byte and file by file, and that the
//! verifier names the place each time.
//!
//! `STELE_LONG=1` changes every single byte; else large files are sampled.

use crate::world::{SEED, Sending, World, event_with_id};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;
use stele::error::Result;
use stele::id::EventId;
use stele::layout::{self, Object, ObjectKey};
use stele::ports::{ArchiveObjects, Clock, ListedObject, LockedObjects, PutIfAbsent, Spooled, StoredObject};
use stele::public_key::PublicKey;
use stele::retention::{LifecycleTag, ObjectState};
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele_adapters::clock::ManualClock;
use stele_adapters::folder::LockedFolder;
use stele_verify::{Evidence, Options, Report, Verdict, verify};

const TENANTS: [&str; 3] = ["org_acme", "org_globex", "org_initech"];
const SEGMENTS: u64 = 3;
const EVENTS_PER_SEGMENT: u64 = 3;
/// Files up to this size are changed at every byte.
pub(crate) const SMALL_BYTES: usize = 2_000;
/// In larger ones, every so many bytes are passed over. Prime, so that all offsets in a page are met.
pub(crate) const STEP: usize = 131;
pub(crate) const THREADS: usize = 2;

/// Objects as somebody handed them over: anything may have been done to them.
#[derive(Clone, Default)]
pub(crate) struct Exhibit(pub(crate) BTreeMap<String, (Bytes, Timestamp)>);

#[async_trait]
impl LockedObjects for Exhibit {
    async fn put_if_absent(&self, key: &ObjectKey, _: Bytes, _: Timestamp) -> Result<PutIfAbsent> {
        panic!("`{key}` is written into an exhibit")
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>> {
        let found = self.0.get(key.as_str()).cloned();
        Ok(found.map(|(bytes, retain_until)| StoredObject { bytes, version: "1".to_owned(), retain_until }))
    }

    async fn version(&self, key: &ObjectKey, _: &str) -> Result<Option<StoredObject>> {
        self.object(key).await
    }

    async fn range(&self, key: &ObjectKey, _: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let found = self.object(key).await?;
        Ok(found.map(|object| object.bytes.slice(range.start as usize..range.end as usize)))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>> {
        let own = self
            .0
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
        let listed = own.map(|(key, (bytes, _))| ListedObject {
            key: key.clone(),
            version: "1".to_owned(),
            bytes: bytes.len() as u64,
        });
        Ok(listed.take(limit).collect())
    }
}

/// Locks as they are told with the objects themselves. Nothing can be changed through it.
pub(crate) struct Locks(pub(crate) Arc<dyn LockedObjects>);

#[async_trait]
impl ArchiveObjects for Locks {
    async fn put_file_if_absent(
        &self,
        key: &ObjectKey,
        _: &Spooled,
        _: Timestamp,
        _: LifecycleTag,
    ) -> Result<PutIfAbsent> {
        panic!("`{key}` is written by a reader")
    }

    async fn state(&self, key: &ObjectKey, version: &str) -> Result<Option<ObjectState>> {
        let found = self.0.version(key, version).await?;
        Ok(found.map(|object| ObjectState { retain_until: object.retain_until, hold: false, tag: None }))
    }

    async fn extend(&self, key: &ObjectKey, _: &str, _: Timestamp) -> Result<()> {
        panic!("the lock of `{key}` is lengthened by a reader")
    }

    async fn set_hold(&self, key: &ObjectKey, _: &str, _: bool) -> Result<()> {
        panic!("`{key}` is held by a reader")
    }

    async fn set_tag(&self, key: &ObjectKey, _: &str, _: LifecycleTag) -> Result<()> {
        panic!("`{key}` is tagged by a reader")
    }
}

/// What there is to verify of a store.
pub(crate) fn evidence_of(objects: Arc<dyn LockedObjects>) -> Evidence {
    Evidence { states: Arc::new(Locks(objects.clone())), objects }
}

impl Exhibit {
    /// Everything a store holds.
    pub(crate) async fn of(objects: &dyn LockedObjects) -> Exhibit {
        let mut exhibit = Exhibit::default();
        for listed in objects.list("", None, 10_000).await.unwrap() {
            let key = ObjectKey::parse(&listed.key).unwrap().key();
            let stored = objects.object(&key).await.unwrap().unwrap();
            exhibit.0.insert(listed.key, (stored.bytes, stored.retain_until));
        }
        exhibit
    }

    fn evidence(&self) -> Evidence {
        evidence_of(Arc::new(self.clone()))
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(crate) fn bytes(&self, key: &str) -> Bytes {
        self.0[key].0.clone()
    }

    /// With other bytes in one object, under the old lock.
    pub(crate) fn with(&self, key: &str, bytes: impl Into<Bytes>) -> Exhibit {
        let mut changed = self.clone();
        let lock = self.0.get(key).map_or(Timestamp::MAX, |(_, lock)| *lock);
        changed.0.insert(key.to_owned(), (bytes.into(), lock));
        changed
    }

    pub(crate) fn without(&self, key: &str) -> Exhibit {
        let mut changed = self.clone();
        changed.0.remove(key).unwrap();
        changed
    }

    pub(crate) fn flipped(&self, key: &str, at: usize) -> Exhibit {
        let mut bytes = self.bytes(key).to_vec();
        bytes[at] ^= 1 << (at % 8);
        self.with(key, bytes)
    }
}

/// Runs what waits for timers at most.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

pub(crate) fn report_on(exhibit: &Exhibit, options: &Options) -> Report {
    block_on(verify(&exhibit.evidence(), options, &|_, _| {})).unwrap()
}

/// Everything found, in or outside of a log.
fn places(report: &Report) -> Vec<&str> {
    let all = report.logs.iter().flat_map(|log| &log.findings).chain(&report.findings);
    all.map(|finding| finding.at.as_str()).collect()
}

pub(crate) fn assert_refuted_at(report: &Report, key: &str, what: &str) {
    assert_eq!(report.verdict(), Verdict::Refuted, "{what}: {report:#?}");
    assert!(
        places(report).iter().any(|at| at.starts_with(key)),
        "{what} is not found at `{key}`: {report:#?}"
    );
}

/// Three tenants with some segments each, written by the real handlers into a locked folder.
async fn install(folder: &Path) -> Exhibit {
    let clock = Arc::new(ManualClock::new(crate::world::NOON));
    let world = World::over(Arc::new(LockedFolder::open(folder, clock.clone()).unwrap()), clock);
    world.publish_key().await;
    let (ingest, sealer) = (world.ingest(), world.sealer());
    for _ in 0..SEGMENTS {
        world.clock.advance_ms(1_000);
        for tenant in TENANTS {
            let id = || EventId::new(world.clock.now(), u128::from(world.random.next_u64()));
            let events: Vec<String> = (0..EVENTS_PER_SEGMENT).map(|_| event_with_id(tenant, id())).collect();
            let answers = world.send(&ingest, &Sending::batch(&events)).await;
            assert!(answers.iter().all(|a| a.status == 201), "{answers:?}");
        }
        world.seal_stream(&sealer).await;
    }
    world.check().await;
    Exhibit::of(world.objects.as_ref()).await
}

fn installed() -> Exhibit {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let exhibit = runtime.block_on(install(folder.path()));
    assert_eq!(exhibit.0.len() as u64, TENANTS.len() as u64 * SEGMENTS * 3 + 3, "three public keys");
    assert_eq!(report_on(&exhibit, &Options::default()).verdict(), Verdict::Proven);
    exhibit
}

pub(crate) fn is_key_file(key: &str) -> bool {
    key.starts_with(layout::PUBLIC_KEYS)
}

/// Only the tenant a key belongs to: the others are as they were.
fn of_tenant(key: &str) -> Options {
    let tenant = match ObjectKey::parse(key) {
        Some(
            Object::Segment { tenant, .. }
            | Object::Checkpoint { tenant, .. }
            | Object::Archive { tenant, .. }
            | Object::Tiles { tenant, .. }
            | Object::ArchiveManifest { tenant, .. }
            | Object::Manifest { tenant, .. },
        ) => Some(tenant),
        Some(
            Object::KeyChange { .. }
            | Object::Statement { .. }
            | Object::PublicKey { .. }
            | Object::WrappedSecret { .. },
        )
        | None => None,
    };
    Options { tenant, ..Options::default() }
}

fn object_key(tenant: &str, object: impl FnOnce(stele::id::TenantId) -> Object) -> String {
    object(stele::id::TenantId::parse(tenant).unwrap()).key().as_str().to_owned()
}

fn segment(tenant: &str, nth: u64) -> String {
    let first = LeafIndex::new(nth * EVENTS_PER_SEGMENT);
    object_key(tenant, |tenant| Object::Segment { tenant, log: Default::default(), first })
}

fn checkpoint(tenant: &str, nth: u64) -> String {
    let size = TreeSize::new(nth * EVENTS_PER_SEGMENT);
    object_key(tenant, |tenant| Object::Checkpoint { tenant, log: Default::default(), size })
}

fn manifest(tenant: &str, nth: u64) -> String {
    format!("{}.manifest", checkpoint(tenant, nth))
}

#[test]
fn a_changed_bit_in_any_log_file_is_found_at_that_file() {
    let exhibit = installed();
    let every_byte = std::env::var_os("STELE_LONG").is_some();
    let mut flips = Vec::new();
    for key in exhibit.keys().into_iter().filter(|key| !is_key_file(key)) {
        let length = exhibit.bytes(&key).len();
        let step = if every_byte || length <= SMALL_BYTES { 1 } else { STEP };
        // The last bytes of a Parquet file say where all the others are.
        let tail = length.saturating_sub(64)..length;
        flips.extend((0..length).step_by(step).chain(tail).map(|at| (key.clone(), at)));
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((key, at)) = flips.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let report = report_on(&exhibit.flipped(key, *at), &of_tenant(key));
                    assert_refuted_at(&report, key, &format!("byte {at} of `{key}`"));
                }
            });
        }
    });
    println!("{} bits flipped", flips.len());
}

#[test]
fn a_changed_bit_in_the_key_file_is_never_proven_and_does_not_matter_to_who_pinned_the_key() {
    let exhibit = installed();
    let key = PublicKey::of_seed(&SEED).object_key().as_str().to_owned();
    let length = exhibit.bytes(&key).len();
    // Without a key the verifier waits a moment for one to be written; all of them wait at the same time.
    let local = tokio::task::LocalSet::new();
    let shared = Rc::new((exhibit.clone(), key.clone()));
    block_on(local.run_until(async {
        let mut waiting = tokio::task::JoinSet::new();
        for at in 0..length {
            let shared = shared.clone();
            waiting.spawn_local(async move {
                let (exhibit, key) = shared.as_ref();
                let options =
                    Options { tenant: stele::id::TenantId::parse(TENANTS[0]), ..Options::default() };
                let report =
                    verify(&exhibit.flipped(key, at).evidence(), &options, &|_, _| {}).await.unwrap();
                assert_ne!(report.verdict(), Verdict::Proven, "byte {at}: {report:#?}");
            });
        }
        while let Some(done) = waiting.join_next().await {
            done.unwrap();
        }
    }));
    let pinned = Options { pinned: vec![PublicKey::of_seed(&SEED)], ..Options::default() };
    assert_refuted_at(&report_on(&exhibit.flipped(&key, 9), &pinned), &key, "a changed key file");
    assert_eq!(report_on(&exhibit.without(&key), &pinned).verdict(), Verdict::Proven);
    assert_eq!(report_on(&exhibit.without(&key), &Options::default()).verdict(), Verdict::CouldNotCheck);
    let foreign = Options { pinned: vec![PublicKey::of_seed(&[8; 32])], ..Options::default() };
    assert_ne!(report_on(&exhibit, &foreign).verdict(), Verdict::Proven);
}

#[test]
fn a_removed_file_is_missed() {
    let exhibit = installed();
    for key in exhibit.keys().into_iter().filter(|key| !is_key_file(key)) {
        let report = report_on(&exhibit.without(&key), &of_tenant(&key));
        if TENANTS.iter().any(|tenant| key == checkpoint(tenant, SEGMENTS)) {
            // As after a crash just before it was written: nothing is wrong, but nobody signed the end.
            assert_eq!(report.verdict(), Verdict::CouldNotCheck, "{report:#?}");
            assert_eq!(report.logs[0].leaves_unsigned, EVENTS_PER_SEGMENT);
            continue;
        }
        assert_refuted_at(&report, &key, &format!("`{key}` removed"));
    }
}

#[test]
fn a_file_cut_short_or_grown_is_found() {
    let exhibit = installed();
    for key in exhibit.keys() {
        let bytes = exhibit.bytes(&key);
        let mut grown = bytes.to_vec();
        grown.push(b'\n');
        for changed in
            [bytes.slice(..0), bytes.slice(..bytes.len() / 2), bytes.slice(..bytes.len() - 1), grown.into()]
        {
            let length = changed.len();
            // Whose key it is does not matter to how a log file is changed, but spares the wait for a key.
            let options = Options { pinned: vec![PublicKey::of_seed(&SEED)], ..of_tenant(&key) };
            let report = report_on(&exhibit.with(&key, changed), &options);
            assert_refuted_at(&report, &key, &format!("`{key}` with {length} of {} bytes", bytes.len()));
        }
    }
}

#[test]
fn two_files_in_each_others_place_are_both_found() {
    let exhibit = installed();
    let keys = exhibit.keys();
    let options = Options { pinned: vec![PublicKey::of_seed(&SEED)], ..Options::default() };
    for (n, a) in keys.iter().enumerate() {
        for b in &keys[n + 1..] {
            let swapped = exhibit.with(a, exhibit.bytes(b)).with(b, exhibit.bytes(a));
            let report = report_on(&swapped, &options);
            for key in [a, b] {
                assert_refuted_at(&report, key, &format!("`{a}` and `{b}` swapped"));
            }
        }
    }
}

#[test]
fn an_added_file_is_found() {
    let exhibit = installed();
    let [acme, globex, _] = TENANTS;
    let copies = [
        (segment(acme, 0), segment(acme, SEGMENTS), "a segment at the next index"),
        (segment(acme, SEGMENTS - 1), segment(acme, SEGMENTS), "the last segment at the next index"),
        (segment(acme, 1), segment(globex, SEGMENTS), "a segment at the next index of another tenant"),
        (segment(acme, 1), segment("org_new", 0), "a segment as another tenant's first"),
        (checkpoint(acme, 1), checkpoint(globex, 4), "a checkpoint of another tenant"),
        (manifest(acme, 1), manifest(globex, 4), "a manifest of another tenant"),
        (checkpoint(acme, 1), format!("{}0", checkpoint(acme, 1)), "a name that is none of ours"),
    ];
    for (from, to, what) in copies {
        let report = report_on(&exhibit.with(&to, exhibit.bytes(&from)), &Options::default());
        assert_refuted_at(&report, &to, what);
    }
    let between = segment(acme, 0).replace("0.parquet", "1.parquet");
    let report = report_on(&exhibit.with(&between, exhibit.bytes(&segment(acme, 0))), &Options::default());
    assert_refuted_at(&report, &between, "a segment that overlaps another");
    for stranger in ["segments/planted", "notes.txt", "keys/planted.json"] {
        let report = report_on(&exhibit.with(stranger, "x"), &Options::default());
        assert_refuted_at(&report, stranger, "a stranger");
    }
}

#[test]
fn one_segment_over_another_is_found_where_it_lies() {
    let exhibit = installed();
    let [acme, globex, _] = TENANTS;
    for (from, to) in [(segment(acme, 0), segment(acme, 1)), (segment(acme, 1), segment(globex, 1))] {
        let report = report_on(&exhibit.with(&to, exhibit.bytes(&from)), &Options::default());
        assert_refuted_at(&report, &to, &format!("`{from}` over `{to}`"));
    }
}

#[test]
fn an_end_cut_off_without_a_trace_is_caught_by_a_saved_checkpoint_and_by_nothing_else() {
    let exhibit = installed();
    let acme = TENANTS[0];
    let saved = String::from_utf8(exhibit.bytes(&checkpoint(acme, SEGMENTS)).to_vec()).unwrap();
    let cut = exhibit
        .without(&segment(acme, SEGMENTS - 1))
        .without(&checkpoint(acme, SEGMENTS))
        .without(&manifest(acme, SEGMENTS));
    let since = Options { since: vec![saved], ..Options::default() };

    let whole = report_on(&exhibit, &since);
    assert_eq!(whole.verdict(), Verdict::Proven);
    assert_eq!(whole.logs[0].saved_checkpoints, 1);

    let alone = report_on(&cut, &Options::default());
    assert_eq!(alone.verdict(), Verdict::Proven);
    assert_eq!(alone.logs[0].leaves_proven, (SEGMENTS - 1) * EVENTS_PER_SEGMENT, "proven is what is there");

    assert_refuted_at(&report_on(&cut, &since), &segment(acme, SEGMENTS - 1), "an end cut off");
    let mut gone = exhibit.clone();
    gone.0.retain(|key, _| !key.contains(acme));
    assert_refuted_at(&report_on(&gone, &since), "saved checkpoint", "a log that is gone altogether");
}

#[test]
fn a_lock_that_ends_too_early_is_found() {
    let exhibit = installed();
    for key in exhibit.keys().into_iter().filter(|key| !is_key_file(key)) {
        let mut changed = exhibit.clone();
        let (_, lock) = changed.0.get_mut(&key).unwrap();
        *lock = lock.minus_days(1);
        let report = report_on(&changed, &of_tenant(&key));
        assert_refuted_at(&report, &key, &format!("the lock of `{key}` a day too short"));
    }
}

#[test]
fn nothing_at_all_is_not_proven() {
    let report = report_on(&Exhibit::default(), &Options::default());
    assert_eq!(report.verdict(), Verdict::CouldNotCheck);
}

/// The same in a folder, whose locks are file times: what a person with a text editor would do.
#[test]
fn a_changed_bit_in_a_folder_is_found_at_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let exhibit = runtime.block_on(install(folder.path()));
    let clock = Arc::new(ManualClock::new(crate::world::NOON));
    for key in exhibit.keys() {
        let path = folder.path().join(&key);
        let (bytes, lock) = &exhibit.0[&key];
        let write = |bytes: &[u8]| {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&path, bytes).unwrap();
            let time = UNIX_EPOCH + std::time::Duration::from_millis(lock.ms());
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        };
        let options = Options { pinned: vec![PublicKey::of_seed(&SEED)], ..of_tenant(&key) };
        let report = || {
            let folder = LockedFolder::open_read_only(folder.path(), clock.clone()).unwrap();
            runtime.block_on(verify(&evidence_of(Arc::new(folder)), &options, &|_, _| {})).unwrap()
        };
        write(&exhibit.flipped(&key, bytes.len() / 2).bytes(&key));
        assert_refuted_at(&report(), &key, "a bit in the middle");
        write(bytes);
        assert_eq!(report().verdict(), Verdict::Proven, "`{key}` as it was");
    }
}
