//! Visits to a tenant over stores in memory, with a real sealer: what is proven, what is found, and that every call may
//! fail in every way.

use crate::{CLOSED_AFTER_MS, NEVER_COMPARED, Reconcile, Reconciliation};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use stele::access::{Secrets, Tenant};
use stele::archive::ArchiveEntry;
use stele::error::{Code, Result};
use stele::id::EventId;
use stele::layout::{self, Object, ObjectKey};
use stele::limits;
use stele::ports::{
    ArchiveIndex, ArchiveObjects, Clock, Heads, HotStore, IdRange, Inbox, LockedObjects, Order, Outbox, Put,
    PutIfAbsent, Reconciled, Spooled, Tenants, Watermarks,
};
use stele::public_key::SigningSeeds;
use stele::record::{Columns, Record};
use stele::retention::{Class, LifecycleTag};
use stele::segment::{Head, Segment, SegmentHeader};
use stele::time::{DAY_MS, Day, Timestamp};
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele::tlog::manifest::Manifest;
use stele::tlog::tree::RightEdge;
use stele_adapters::clock::ManualClock;
use stele_adapters::contract::sample;
use stele_adapters::faults::{Fault, FaultPlan, Faulty};
use stele_adapters::memory::MemoryStore;
use stele_adapters::memory_objects::MemoryObjects;
use stele_adapters::memory_queue::MemoryQueue;
use stele_adapters::parquet::archive::ArchiveWriter;
use stele_adapters::parquet::{decode_leaves, encode_segment};
use stele_adapters::places::Places;
use stele_seal::{Seal, SealSettings};

/// 2026-05-01T12:00:00Z.
const NOON: Timestamp = Timestamp::from_ms(1_777_636_800_000);
const HOUR_MS: u64 = 60 * 60 * 1000;
/// More visits than any story needs.
const VISITS_MAX: usize = 20;

fn day(n: u32) -> Day {
    Day::from_days(NOON.day().days() + n)
}

/// So many days after the first one's noon.
fn noon(n: u32) -> Timestamp {
    NOON.plus_days(n)
}

/// When a day can be reconciled.
fn after(n: u32) -> Timestamp {
    day(n + 1).start().plus_ms(CLOSED_AFTER_MS)
}

struct World {
    store: Arc<MemoryStore>,
    objects: Arc<MemoryObjects>,
    parking: Arc<MemoryQueue>,
    compaction: Arc<MemoryQueue>,
    clock: Arc<ManualClock>,
    faults: FaultPlan,
    tenant: Tenant,
}

impl World {
    fn new() -> World {
        let clock = Arc::new(ManualClock::new(NOON));
        let mut record = sample::tenant_record("org_acme");
        record.created_ms = NOON.ms();
        let store = Arc::new(MemoryStore::new());
        at_once(store.create_tenant(&record)).unwrap();
        World {
            store,
            objects: Arc::new(MemoryObjects::new()),
            parking: Arc::new(MemoryQueue::new(clock.clone())),
            compaction: Arc::new(MemoryQueue::new(clock.clone())),
            clock,
            faults: FaultPlan::none(),
            tenant: Tenant::on_record(record).unwrap(),
        }
    }

    /// A cold start.
    fn reconcile(&self) -> Reconcile {
        let store = Arc::new(Faulty::new(self.store.clone(), &self.faults));
        let objects = Arc::new(Faulty::new(self.objects.clone(), &self.faults));
        Reconcile {
            hot: store.clone(),
            heads: store.clone(),
            objects: objects.clone(),
            locks: objects.clone(),
            archive: store.clone(),
            watermarks: store.clone(),
            tenants: store.clone(),
            cold: Arc::new(self.places()),
            parking: Arc::new(Faulty::new(self.parking.clone(), &self.faults)),
            compaction: Arc::new(Faulty::new(self.compaction.clone(), &self.faults)),
            clock: self.clock.clone(),
            secrets: Secrets::new([3; 32]),
        }
    }

    fn places(&self) -> Places {
        Places::new(self.store.clone(), self.store.clone(), self.objects.clone())
    }

    fn sealer(&self) -> Seal {
        let settings = SealSettings {
            witnesses: Vec::new(),
            seeds: SigningSeeds::one([7; 32]),
            publish_every_ms: HOUR_MS,
        };
        let places = Arc::new(self.places());
        Seal::new(
            self.store.clone(),
            self.objects.clone(),
            self.store.clone(),
            places,
            self.clock.clone(),
            settings,
        )
    }

    /// Stores a record as accepting does.
    fn accept(&self, occurred_at: Timestamp, received_at: Timestamp, random: u128) -> Record {
        let record = sample::record(&self.tenant, occurred_at.ms(), random);
        let record = record.received_again(received_at).unwrap();
        self.put(&record);
        record
    }

    fn put(&self, record: &Record) {
        let (received, occurred) = (record.received_at.day(), record.occurred_at.day());
        if received != occurred {
            at_once(self.store.mark_late(&self.tenant, received, occurred)).unwrap();
        }
        let expires = record.received_at.plus_days(self.tenant.record().hot_days);
        let put = Put { record: record.clone(), expires, remember: None };
        at_once(self.store.put(&self.tenant, &put)).unwrap();
    }

    fn seal(&self, records: &[Record]) {
        let outcome = at_once(self.sealer().seal_all(records.to_vec()));
        assert!(outcome.unsealed.is_empty(), "{:?}", outcome.unsealed);
    }

    /// Seals what the stream carries.
    fn seal_stream(&self) {
        self.seal(&self.store.take_stream());
    }

    /// Seals what is parked, and says how many records that were.
    fn seal_parked(&self) -> usize {
        let messages = at_once(self.parking.receive(usize::MAX)).unwrap();
        let done = at_once(self.sealer().handle_parked(&messages));
        assert!(done.failed.is_empty());
        let parked = messages.iter().map(|message| {
            at_once(self.parking.delete(&message.receipt)).unwrap();
            stele::parking::records(&message.body).unwrap().len()
        });
        parked.sum()
    }

    fn visit_until(&self, deadline: Timestamp) -> Option<Result<Reconciliation>> {
        until_stuck(self.reconcile().reconcile(self.tenant.id(), deadline))
    }

    fn visit_at(&self, now: Timestamp) -> Reconciliation {
        self.clock.set(now);
        self.visit_until(Timestamp::MAX).unwrap().unwrap()
    }

    fn reconciled(&self) -> Option<Reconciled> {
        at_once(self.store.reconciled(&self.tenant)).unwrap()
    }

    fn through(&self) -> Day {
        self.reconciled().unwrap().through
    }

    fn head(&self) -> Head {
        at_once(self.store.head(&self.tenant)).unwrap().unwrap()
    }

    /// Commits a segment with these records, whatever is in the log: what no sealer does.
    fn seal_blindly(&self, records: &[Record]) {
        let head = self.head();
        let mut after = head.edge.clone();
        after.extend(records.iter().map(|record| record.leaf_hash));
        let received_max = records.iter().map(|record| record.received_at).max().unwrap();
        let header = SegmentHeader {
            origin: self.tenant.origin().clone(),
            log: self.tenant.log(),
            before: head.edge.clone(),
            after: after.clone(),
            sealed_at: self.clock.now().max(head.sealed_at),
            received_max: received_max.max(head.received_max),
            checkpoint_before: head.checkpoint.clone(),
        };
        let bytes = encode_segment(&header, records).unwrap();
        let key = crate::leaves::segment_key(&self.tenant, header.first());
        let until = header.sealed_at.plus_days(limits::SEGMENT_LOCK_DAYS);
        let put = at_once(self.objects.put_if_absent(&key, bytes.clone(), until)).unwrap();
        let PutIfAbsent::Created(version) = put else { panic!("`{key}` is taken") };
        let head = Head { edge: after, received_max: header.received_max, ..head };
        let entry = Segment { header, records: records.to_vec() }.entry(version, Hash::of(&bytes)).unwrap();
        at_once(self.store.put_index(&self.tenant, &entry)).unwrap();
        self.store.force_head(&self.tenant, Some(head));
    }

    fn segments(&self) -> Vec<stele::segment::IndexEntry> {
        at_once(self.store.index_from(&self.tenant, LeafIndex::ZERO, usize::MAX)).unwrap()
    }

    /// Makes a file of the archive of all segments that wait, with its manifest, as compact does, and tags them.
    fn archive(&self, class: u32) -> ArchiveEntry {
        let archived = at_once(self.store.archived_below(&self.tenant, TreeSize::new(u64::MAX), 1)).unwrap();
        let from = archived.first().map_or(LeafIndex::ZERO, |entry| entry.end.next_index());
        let running = archived.first().map_or(Timestamp::default(), |entry| entry.running_received_max);
        let waiting = at_once(self.store.index_from(&self.tenant, from, usize::MAX)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (origin, log) = (self.tenant.origin(), self.tenant.log());
        let mut writer = None;
        for segment in &waiting {
            let key = crate::leaves::segment_key(&self.tenant, segment.first);
            let stored = at_once(self.objects.object(&key)).unwrap().unwrap();
            let (header, _) = decode_leaves(key.as_str(), stored.bytes.clone()).unwrap();
            let create = || {
                ArchiveWriter::create(
                    &folder.path().join("file"),
                    origin,
                    log,
                    header.before.clone(),
                    running,
                )
            };
            let writer = writer.get_or_insert_with(|| create().unwrap());
            writer.append(self.tenant.id(), key.as_str(), stored.bytes).unwrap();
        }
        let (file, header) = writer.unwrap().finish().unwrap();
        let class = Class::of_days(class).unwrap();
        let entry = header.entry(file.bytes, "1".to_owned(), file.sha256, class);
        let (key, tag) = (archive_key(&self.tenant, &entry), LifecycleTag::Class(class));
        let put = self.objects.put_file_if_absent(&key, &file, entry.retain_until(), tag);
        assert_eq!(at_once(put).unwrap(), PutIfAbsent::Created("1".to_owned()));
        let (size, edge) = (header.end(), header.after.clone());
        let manifest = Manifest { origin: origin.clone(), size, edge, objects: Vec::new() };
        let signed = manifest.sign(&origin.signer(&[7; 32])).unwrap();
        let key = Object::ArchiveManifest { tenant: self.tenant.id().clone(), log, size }.key();
        at_once(self.objects.put_if_absent(&key, signed.into(), Timestamp::MAX)).unwrap();
        at_once(self.store.put_archived(&self.tenant, &entry)).unwrap();
        for segment in &waiting {
            let key = crate::leaves::segment_key(&self.tenant, segment.first);
            at_once(self.objects.set_tag(&key, &segment.version, LifecycleTag::Archived)).unwrap();
        }
        entry
    }

    /// Makes a file of the archive of all segments.
    fn archive_for_real(&self) {
        let folder = tempfile::tempdir().unwrap();
        let (origin, log) = (self.tenant.origin(), self.tenant.log());
        let path = folder.path().join("file");
        let mut writer =
            ArchiveWriter::create(&path, origin, log, RightEdge::empty(), Timestamp::default()).unwrap();
        for segment in self.segments() {
            let key = crate::leaves::segment_key(&self.tenant, segment.first);
            let stored = at_once(self.objects.object(&key)).unwrap().unwrap();
            writer.append(self.tenant.id(), key.as_str(), stored.bytes).unwrap();
        }
        let (file, header) = writer.finish().unwrap();
        let entry = header.entry(file.bytes, "1".to_owned(), file.sha256, Class::default());
        let (key, tag) = (archive_key(&self.tenant, &entry), LifecycleTag::Class(entry.class));
        let put = self.objects.put_file_if_absent(&key, &file, entry.retain_until(), tag);
        assert_eq!(at_once(put).unwrap(), PutIfAbsent::Created("1".to_owned()));
        at_once(self.store.put_archived(&self.tenant, &entry)).unwrap();
    }

    fn put_file(&self, key: &ObjectKey, until: Timestamp, class: Class) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"file").unwrap();
        let spooled = Spooled { path: file.path().to_owned(), bytes: 4, sha256: Hash::of(b"file") };
        let put = self.objects.put_file_if_absent(key, &spooled, until, LifecycleTag::Class(class));
        let PutIfAbsent::Created(version) = at_once(put).unwrap() else { panic!("`{key}` is taken") };
        version
    }

    fn run_lifecycle(&self) {
        at_once(self.objects.run_lifecycle(self.clock.now())).unwrap();
    }

    fn entries(&self) -> Vec<ArchiveEntry> {
        at_once(self.store.archived_from(&self.tenant, LeafIndex::ZERO, usize::MAX)).unwrap()
    }

    /// The records of the log by id; no id is in it twice.
    fn log(&self) -> BTreeMap<EventId, Record> {
        let prefix = layout::segments_of(self.tenant.id(), self.tenant.log());
        let mut log = BTreeMap::new();
        for object in at_once(self.objects.list(&prefix, None, usize::MAX)).unwrap() {
            let key = ObjectKey::parse(&object.key).unwrap().key();
            let stored = at_once(self.objects.object(&key)).unwrap().unwrap();
            for leaf in decode_leaves(key.as_str(), stored.bytes).unwrap().1 {
                let record = Record::from_leaf(leaf).unwrap();
                let id = record.id;
                assert!(log.insert(id, record).is_none(), "`{id}` is in the log twice");
            }
        }
        log
    }

    /// Events of the log's own in the hot store.
    fn own_events(&self) -> Vec<Record> {
        let all = IdRange { first: EventId::first_at(NOON), last: EventId::last_at(Timestamp::MAX) };
        let days: BTreeSet<Day> =
            at_once(self.store.late_days(&self.tenant, Day::from_days(0)..=Day::from_days(100_000)))
                .unwrap()
                .into_iter()
                .map(|(_, day)| day)
                .collect();
        let own = days.into_iter().flat_map(|day| {
            at_once(self.store.day(&self.tenant, day, all, Order::Ascending, usize::MAX)).unwrap()
        });
        own.filter(|record| record.action.starts_with("stele.")).collect()
    }

    fn errands(&self) -> Vec<String> {
        let waiting = at_once(self.compaction.receive(usize::MAX)).unwrap();
        waiting.into_iter().map(|message| message.body).collect()
    }
}

fn archive_key(tenant: &Tenant, entry: &ArchiveEntry) -> ObjectKey {
    crate::leaves::archive_key(tenant, entry)
}

/// Runs a future over stores in memory; `None` when it waits for an answer that never comes.
fn until_stuck<T>(future: impl Future<Output = T>) -> Option<T> {
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let mut future = pin!(future);
    while woken.0.swap(false, Ordering::SeqCst) {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(done);
        }
    }
    None
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    until_stuck(future).expect("nothing in memory makes anybody wait")
}

/// A visit in which all is as it should be.
fn quiet(days: u64) -> Reconciliation {
    Reconciliation { days, current: true, ..Reconciliation::default() }
}

#[test]
fn a_day_is_proven_once_it_is_closed() {
    let world = World::new();
    for n in 0..3 {
        world.accept(NOON, NOON.plus_ms(1_000), n);
    }
    world.seal_stream();
    assert_eq!(world.visit_at(after(0).minus_ms(1)), quiet(0), "a clock may be an hour late");
    assert_eq!(world.reconciled(), None);
    assert_eq!(world.visit_at(after(0)), quiet(1));
    let expected = Reconciled { through: day(0), at: after(0), problems: Vec::new() };
    assert_eq!(world.reconciled(), Some(expected.clone()));
    assert_eq!(world.visit_at(after(0).plus_ms(HOUR_MS)), quiet(0));
    assert_eq!(world.reconciled(), Some(expected), "nothing new is not written down");
    assert_eq!(world.visit_at(after(1)), quiet(1), "a day without events is proven too");
    assert!(world.errands().is_empty() && world.seal_parked() == 0);
}

#[test]
fn a_tenant_that_is_not_on_record_is_told() {
    let world = World::new();
    let nobody = stele::id::TenantId::parse("nobody").unwrap();
    let error = at_once(world.reconcile().reconcile(&nobody, Timestamp::MAX)).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

#[test]
fn late_arrivals_belong_to_the_day_they_are_received_on() {
    let world = World::new();
    world.accept(NOON.minus_days(20), NOON, 1);
    world.accept(NOON, noon(1), 2);
    world.accept(day(1).start().plus_ms(5), day(0).start().plus_ms(DAY_MS - 1), 3);
    world.seal_stream();
    let unsealed = world.accept(NOON.minus_days(20), NOON.plus_ms(1), 4);
    let visit = world.visit_at(after(1));
    assert_eq!((visit.days, visit.missing, visit.current), (0, 1, false));
    assert_eq!(world.through(), day(0).previous().unwrap(), "the first day is open");
    assert_eq!(world.seal_parked(), 1);
    assert!(world.log().contains_key(&unsealed.id));
    assert_eq!(world.visit_at(after(1)), quiet(2));
}

#[test]
fn a_missing_record_is_handed_to_sealing_and_the_next_visit_proves_the_day() {
    let world = World::new();
    for n in 0..5 {
        world.accept(NOON.plus_ms(n), NOON.plus_ms(1_000), u128::from(n));
    }
    let stream = world.store.take_stream();
    world.seal(&stream[..4]);
    for again in 0..2 {
        let visit = world.visit_at(after(0).plus_ms(again));
        let expected = Reconciliation { missing: 1, ..Reconciliation::default() };
        assert_eq!(visit, expected);
        let problems = world.reconciled().unwrap().problems;
        assert_eq!(problems, [format!("{}: 1 records are not in the log yet", day(0))]);
    }
    assert_eq!(world.seal_parked(), 2, "handed over twice");
    assert_eq!(world.log().len(), 5);
    assert_eq!(world.visit_at(after(0).plus_ms(2)), quiet(1));
    assert_eq!(world.reconciled().unwrap().problems, Vec::<String>::new());
}

#[test]
fn one_missing_among_thousands_is_found_whatever_page_it_is_on() {
    let world = World::new();
    // Pages end within a millisecond, at an hour's end, and at the day's.
    let mut records = Vec::new();
    for n in 0..2_300 {
        records.push(world.accept(NOON.plus_ms(u64::from(n > 1_500)), NOON.plus_ms(2_000), n));
    }
    for n in 0..1_900_u64 {
        let at = day(0).start().plus_ms(13 * HOUR_MS + n * 20_000);
        records.push(world.accept(at, at.plus_ms(500), 1));
    }
    for missing in [0, 999, 1_000, 2_299, 2_300, 4_199] {
        let world = world_with(&records);
        let sealed: Vec<Record> =
            records.iter().enumerate().filter(|(n, _)| *n != missing).map(|(_, r)| r.clone()).collect();
        world.seal(&sealed);
        assert_eq!(world.visit_at(after(0)).missing, 1);
        let parked = at_once(world.parking.receive(9)).unwrap();
        let parked = stele::parking::records(&parked[0].body).unwrap();
        assert_eq!(parked, [records[missing].clone()]);
        world.seal_parked();
        assert_eq!(world.visit_at(after(0)), quiet(1));
    }
}

fn world_with(records: &[Record]) -> World {
    let world = World::new();
    records.iter().for_each(|record| world.put(record));
    world.store.take_stream();
    world
}

/// The same id with another leaf.
fn another(world: &World, record: &Record, received_at: Timestamp) -> Record {
    let (ms, random) = (record.occurred_at.ms(), record.id.to_u128());
    let random = ((random >> 64) & 0xfff) << 62 | (random & ((1 << 62) - 1));
    let other = sample::record_by(&world.tenant, ms, random, "mallory", None, "invoice.deleted");
    assert_eq!(other.id, record.id);
    other.received_again(received_at).unwrap()
}

#[test]
fn a_record_that_is_another_in_the_log_is_told_and_never_sealed_beside_it() {
    for (received, visits) in [(NOON.plus_ms(1_000), after(0)), (noon(1), after(1)), (noon(2), after(2))] {
        let world = World::new();
        let stored = world.accept(NOON, NOON.plus_ms(1_000), 1);
        world.accept(NOON, NOON.plus_ms(1_000), 2);
        let mut records = world.store.take_stream();
        records[0] = another(&world, &stored, received);
        world.clock.set(received);
        world.seal(&records);
        for _ in 0..2 {
            let visit = world.visit_at(visits);
            assert!(visit.differing > 0 && visit.missing == 0 && !visit.current, "{visit:?}");
            assert_eq!(world.seal_parked(), 0);
            assert_eq!(world.through(), day(0).previous().unwrap());
        }
        let told = format!("{}: 1 ids differ between hot store and log", day(0));
        assert!(world.reconciled().unwrap().problems.contains(&told));
    }
}

#[test]
fn a_record_that_is_in_the_log_twice_is_told() {
    for received in [NOON.plus_ms(1_000), noon(1)] {
        let world = World::new();
        let stored = world.accept(NOON, NOON.plus_ms(1_000), 1);
        world.seal_stream();
        let again =
            if received.day() == day(0) { stored.clone() } else { another(&world, &stored, received) };
        world.seal_blindly(&[again]);
        let visit = world.visit_at(after(1));
        assert_eq!((visit.missing, visit.current), (0, false));
        assert!(visit.differing > 0, "{visit:?}");
    }
}

#[test]
fn an_outage_of_many_days_is_made_up_for_in_one_visit() {
    let world = World::new();
    for n in 0..9_u32 {
        for random in 0..10 {
            world.accept(noon(n), noon(n).plus_ms(1_000), random);
            world.accept(noon(n).minus_days(3), noon(n).plus_ms(1_000), random + 100);
        }
        if n == 4 {
            world.seal_stream();
        }
    }
    world.store.take_stream();
    let visit = world.visit_at(after(8));
    assert_eq!((visit.days, visit.missing, visit.current, visit.behind), (5, 80, false, false));
    assert_eq!(world.through(), day(4));
    assert_eq!(world.seal_parked(), 80);
    assert_eq!(world.visit_at(after(8)), quiet(4));
    assert_eq!(world.log().len(), 180);
    // Nobody has come for more than a week.
    world.accept(noon(9), noon(9).plus_ms(1_000), 1);
    let visit = world.visit_at(after(17));
    assert_eq!((visit.days, visit.missing, visit.behind), (0, 1, true));
}

/// A clock that shows a minute more each time.
struct Ticking(ManualClock);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        self.0.advance_ms(60_000)
    }
}

#[test]
fn a_deadline_ends_a_visit_between_days_and_the_next_one_goes_on() {
    let world = World::new();
    for n in 0..6 {
        world.accept(noon(n), noon(n), 1);
    }
    world.seal_stream();
    let (mut days, mut visits) = (0, 0);
    loop {
        let now = after(5);
        let clock = Arc::new(Ticking(ManualClock::new(now)));
        let reconcile = Reconcile { clock, ..world.reconcile() };
        let visit = at_once(reconcile.reconcile(world.tenant.id(), now.plus_ms(5 * 60_000))).unwrap();
        days += visit.days;
        visits += 1;
        assert_eq!(world.through().days() + 1, day(0).days() + days as u32);
        assert_eq!(visit.cut_short, visit.progressed() && !visit.current, "{visit:?}");
        if !visit.cut_short {
            break;
        }
    }
    assert_eq!((days, visits), (6, 3));
}

#[test]
fn days_the_hot_store_has_forgotten_are_never_said_to_be_proven() {
    let world = World::new();
    world.accept(NOON, NOON, 1);
    world.seal_stream();
    let hot_days = world.tenant.record().hot_days;
    let now = after(hot_days + 9);
    world.store.sweep(now);
    assert_eq!(world.visit_at(now), Reconciliation { overdue: 1, ..quiet(u64::from(hot_days) - 1) });
    let reconciled = world.reconciled().unwrap();
    assert_eq!(reconciled.through, day(hot_days + 9));
    let said =
        format!("{NEVER_COMPARED}{} to {}, of which the hot store has forgotten records", day(0), day(10));
    assert_eq!(reconciled.problems, std::slice::from_ref(&said));
    world.visit_at(after(hot_days + 10));
    assert_eq!(world.reconciled().unwrap().problems, [said], "it stays said");
}

#[test]
fn records_of_the_log_that_the_hot_store_lost_are_told_but_prove_nothing_wrong() {
    let world = World::new();
    let records: Vec<Record> = (0..4).map(|n| world.accept(NOON, NOON.plus_ms(n), u128::from(n))).collect();
    world.seal_stream();
    let lost = World::new();
    records[..2].iter().for_each(|record| lost.put(record));
    let lost = World { objects: world.objects.clone(), ..lost };
    lost.seal(&records);
    let visit = lost.visit_at(after(0));
    assert_eq!(visit, Reconciliation { forgotten: 2, ..quiet(1) });
    let told = format!("{}: 2 records of the log are not in the hot store", day(0));
    assert_eq!(lost.reconciled().unwrap().problems, [told]);
}

#[test]
fn a_damaged_segment_stops_its_day_and_not_the_others() {
    let world = World::new();
    world.accept(NOON, NOON, 1);
    world.seal_stream();
    world.accept(noon(1), noon(1), 2);
    let first = crate::leaves::segment_key(&world.tenant, LeafIndex::ZERO);
    assert!(world.objects.forge(&first, Bytes::from_static(b"else")));
    let visit = world.visit_at(after(1));
    assert_eq!((visit.faults, visit.missing, visit.days), (1, 1, 0));
    let problems = world.reconciled().unwrap().problems;
    assert!(problems[0].starts_with(&day(0).to_string()) && problems[0].contains("SHA-256"), "{problems:?}");
}

#[test]
fn what_waits_too_long_gets_an_errand_and_then_a_longer_lock() {
    let world = World::new();
    for n in 0..3 {
        world.clock.set(noon(n));
        world.accept(noon(n), noon(n), 1);
        world.seal_stream();
    }
    world.visit_at(noon(8));
    assert!(world.errands().is_empty(), "a week it may wait, and a day for compact to come by");
    world.visit_at(noon(8).plus_ms(1));
    assert_eq!(world.errands(), [r#"{"tenant_id":"org_acme"}"#]);
    let locks = || -> Vec<Timestamp> {
        let segments = world.segments();
        let state = |entry: &stele::segment::IndexEntry| {
            let key = crate::leaves::segment_key(&world.tenant, entry.first);
            at_once(world.objects.state(&key, &entry.version)).unwrap().unwrap().retain_until
        };
        segments.iter().map(state).collect()
    };
    let before = locks();
    assert_eq!(world.visit_at(noon(21)).overdue, 0);
    assert_eq!(locks(), before);
    let visit = world.visit_at(noon(22).plus_ms(1));
    assert_eq!((visit.overdue, visit.lost), (2, 0));
    let longer = noon(22).plus_ms(1).plus_days(limits::SEGMENT_LOCK_DAYS);
    assert_eq!(locks(), [longer, longer, before[2]]);
    world.visit_at(noon(25));
    assert_eq!(locks()[0], longer, "not each day again");
    world.visit_at(noon(30));
    assert_eq!(locks()[0], noon(30).plus_days(limits::SEGMENT_LOCK_DAYS));
    world.objects.lose(&crate::leaves::segment_key(&world.tenant, LeafIndex::ZERO));
    let visit = world.visit_at(noon(30));
    assert_eq!((visit.overdue, visit.lost), (3, 1));
    assert!(world.reconciled().unwrap().problems[0].contains("gone and not archived"));
}

#[test]
fn entries_of_segments_that_are_gone_are_forgotten_behind_the_archive() {
    let world = World::new();
    for n in [0, 1, 20] {
        world.clock.set(noon(n));
        world.accept(noon(n), noon(n), 1);
        world.seal_stream();
        if n == 1 {
            world.archive(365);
        }
    }
    let visit_on = |n| {
        world.clock.set(noon(n));
        world.run_lifecycle();
        world.visit_at(noon(n));
        world.segments().iter().map(|entry| entry.first.to_u64()).collect::<Vec<_>>()
    };
    assert_eq!(visit_on(34), [0, 1, 2]);
    assert_eq!(visit_on(36), [0, 1, 2], "a day for whoever has read the index");
    assert_eq!(visit_on(37), [1, 2]);
    assert_eq!(visit_on(60), [2], "what waits stays");
}

#[test]
fn days_whose_segments_are_gone_are_compared_with_the_archive() {
    for (gone, missing) in [(1, None), (2, None), (3, None), (3, Some(1))] {
        let world = World::new();
        let mut stored = Vec::new();
        for n in 0..3_u32 {
            world.clock.set(noon(n));
            let records = (0..40).map(|random| world.accept(noon(n), noon(n).plus_ms(1_000), random));
            stored.extend(records.collect::<Vec<_>>());
            let stream = world.store.take_stream();
            world.seal(&stream[..if missing == Some(n) { 39 } else { 40 }]);
        }
        world.archive_for_real();
        // Of the last one the index alone is left, of those before not even that.
        let segments = world.segments();
        for segment in &segments[..gone] {
            assert!(world.objects.lose(&crate::leaves::segment_key(&world.tenant, segment.first)));
        }
        let end = segments[gone - 1].first.size_before();
        at_once(world.store.forget_index(&world.tenant, end, 9)).unwrap();
        let visit = world.visit_at(after(2));
        assert_eq!((visit.faults, visit.differing, visit.forgotten, visit.lost), (0, 0, 0, 0));
        assert_eq!((visit.missing, visit.days), if missing.is_some() { (1, 1) } else { (0, 3) });
        let parked = at_once(world.parking.receive(9)).unwrap();
        let parked: Vec<Record> =
            parked.iter().flat_map(|m| stele::parking::records(&m.body).unwrap()).collect();
        let expected: Vec<Record> =
            missing.map(|n| stored[n as usize * 40 + 39].clone()).into_iter().collect();
        assert_eq!(parked, expected);
    }
}

#[test]
fn a_hole_between_segments_and_archive_is_told() {
    let world = World::new();
    for n in 0..2 {
        world.clock.set(noon(n));
        world.accept(noon(n), noon(n), 1);
        world.seal_stream();
    }
    at_once(world.store.forget_index(&world.tenant, TreeSize::new(1), 9)).unwrap();
    let visit = world.visit_at(after(0));
    assert_eq!((visit.faults, visit.days), (1, 0));
    assert!(world.reconciled().unwrap().problems[0].contains("run `stele rebuild`"));
}

#[test]
fn a_file_that_expired_is_recorded_with_an_event_in_the_log() {
    let world = World::new();
    world.accept(NOON, NOON, 1);
    world.seal_stream();
    let entry = world.archive(90);
    let key = archive_key(&world.tenant, &entry);
    world.clock.set(noon(80));
    world.accept(noon(80), noon(80), 2);
    world.seal_stream();
    world.clock.set(entry.retain_until().minus_ms(1));
    world.run_lifecycle();
    assert_eq!(world.visit_at(entry.retain_until().minus_ms(1)).expired, 0);
    let gone = entry.retain_until().plus_days(2);
    world.clock.set(gone);
    world.run_lifecycle();
    world.store.sweep(gone);
    assert_eq!(world.visit_at(gone).expired, 1);
    assert_eq!(world.entries(), [ArchiveEntry { expired: Some(gone), ..entry.clone() }]);
    let events = world.own_events();
    let columns = Columns::of(&events[0].leaf).unwrap();
    assert_eq!((events.len(), columns.action.as_ref()), (1, "stele.archive.expired"));
    assert_eq!(columns.occurred_at, entry.retain_until().plus_days(1));
    assert_eq!(columns.resource_id.as_deref(), Some(key.as_str()));
    let metadata = columns.metadata.unwrap();
    for said in ["\"class_days\":90", "\"events\":1", "\"last_leaf_index\":0", &entry.sha256.to_string()] {
        assert!(metadata.contains(said), "{said}: {metadata}");
    }
    assert_eq!(world.visit_at(gone.plus_ms(1)).expired, 0);
    world.seal_stream();
    assert_eq!(world.own_events(), events);
    assert!(world.log().contains_key(&events[0].id));
}

#[test]
fn a_file_that_went_before_its_time_is_told_every_day() {
    let world = World::new();
    world.accept(NOON, NOON, 1);
    world.seal_stream();
    let entry = world.archive(90);
    world.objects.lose(&archive_key(&world.tenant, &entry));
    for n in [1, 2] {
        let visit = world.visit_at(noon(n));
        assert_eq!((visit.lost, visit.expired, visit.days), (1, 0, 1));
        assert!(world.reconciled().unwrap().problems[0].contains("before their time"));
    }
    assert_eq!(world.entries(), [entry]);
}

#[test]
fn a_file_without_an_entry_is_told_and_harmless() {
    let world = World::new();
    for n in 0..2 {
        world.accept(noon(n), noon(n), 1);
        world.clock.set(noon(n));
        world.seal_stream();
        world.archive(90);
    }
    let (tenant, log) = (world.tenant.id().clone(), world.tenant.log());
    let until = noon(500);
    for (month, first) in [("2026-04", 7), ("2026-05", 9)] {
        let month = stele::archive::Month::parse(month).unwrap();
        let first = LeafIndex::new(first);
        let key = Object::Archive { tenant: tenant.clone(), log, month, first }.key();
        world.put_file(&key, until, Class::default());
    }
    let visit = world.visit_at(noon(1));
    assert_eq!((visit.unindexed, visit.lost, visit.faults), (2, 0, 0));
}

#[test]
fn an_event_of_long_ago_is_not_put_a_second_time() {
    let world = World::new();
    world.accept(NOON, NOON, 1);
    world.seal_stream();
    let entry = world.archive(90);
    let gone = entry.retain_until().plus_days(2);
    world.clock.set(gone);
    world.objects.lose(&archive_key(&world.tenant, &entry));
    world.faults.on("archive_index.put_archived", 0, Fault::Fail);
    let failed = world.visit_until(Timestamp::MAX).unwrap().unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    world.seal_stream();
    assert_eq!(world.log().len(), 2);
    // Nobody comes until the hot store has forgotten the event.
    let late = gone.plus_days(world.tenant.record().hot_days + 5);
    world.store.sweep(late);
    assert_eq!(world.visit_at(late).expired, 1);
    assert_eq!(world.entries()[0].expired, Some(late));
    assert!(world.store.take_stream().is_empty(), "it is in the log");
}

#[test]
fn every_tenant_gets_an_errand() {
    let world = World::new();
    for n in 0..2_345 {
        at_once(world.store.create_tenant(&sample::tenant_record(&format!("t{n}")))).unwrap();
    }
    let queue = MemoryQueue::new(world.clock.clone());
    assert_eq!(at_once(world.reconcile().plan(&queue)).unwrap(), 2_346);
    let sent = at_once(queue.receive(usize::MAX)).unwrap();
    let tenants: BTreeSet<String> = sent
        .iter()
        .map(|m| stele::errand::Errand::parse(&m.body).unwrap().tenant.as_str().to_owned())
        .collect();
    assert_eq!(tenants.len(), 2_346);
    let silent: Faulty<dyn Outbox> = Faulty::new(Arc::new(queue), &world.faults);
    world.faults.on("outbox.send", 7, Fault::Fail);
    assert!(at_once(world.reconcile().plan(&silent)).is_err());
}

/// A tenant with something of everything: days proven, a day with a missing record, a file that expired, segments that wait
/// too long.
fn eventful() -> World {
    let world = World::new();
    world.accept(NOON, NOON, 1);
    world.seal_stream();
    let entry = world.archive(90);
    let gone = entry.retain_until().plus_days(2);
    let recently = gone.minus_days(25);
    for (at, random) in [(recently.minus_days(1), 2), (recently, 3)] {
        world.clock.set(at);
        world.accept(at, at, random);
        world.seal_stream();
    }
    world.accept(recently.minus_days(2), recently, 4);
    world.store.take_stream();
    world.clock.set(gone);
    world.run_lifecycle();
    world.store.sweep(gone);
    let through = gone.minus_days(26).day();
    let reconciled = Reconciled { through, at: recently, problems: Vec::new() };
    at_once(world.store.put_reconciled(&world.tenant, &reconciled)).unwrap();
    world
}

/// Visits and seals until all is well, then holds everything against what must be.
fn live_happily(world: &World) {
    for visit in 0.. {
        assert!(visit < VISITS_MAX, "it never ends");
        let visited = world.visit_until(Timestamp::MAX);
        let sealed = world.store.take_stream();
        world.seal(&sealed);
        world.seal_parked();
        match visited {
            Some(Ok(done)) if done.current => {
                assert_eq!((done.lost, done.faults, done.differing, done.forgotten), (0, 0, 0, 0));
                break;
            }
            Some(Ok(_)) | None => {}
            Some(Err(error)) => assert_eq!(error.code(), Code::Unavailable, "{error}"),
        }
    }
    world.faults.clear();
    world.seal_stream();
    world.seal_parked();
    let now = world.clock.now();
    assert_eq!(world.entries()[0].expired, Some(now));
    let events = world.own_events();
    assert_eq!(events.len(), 1, "exactly one event");
    let log = world.log();
    assert_eq!(log.len(), 4, "the three records that are kept, and the event");
    assert_eq!(log.get(&events[0].id), Some(&events[0]));
    assert_eq!(world.through(), now.minus_ms(CLOSED_AFTER_MS).day().previous().unwrap());
    assert_eq!(world.segments()[0].first, LeafIndex::new(1), "the first segment is gone and forgotten");
    let waiting = &world.segments()[0];
    let key = crate::leaves::segment_key(&world.tenant, waiting.first);
    let lock = at_once(world.objects.state(&key, &waiting.version)).unwrap().unwrap().retain_until;
    assert_eq!(lock, now.plus_days(limits::SEGMENT_LOCK_DAYS));
    assert!(!world.errands().is_empty());
    // Another visit changes nothing.
    let quiet = world.visit_until(Timestamp::MAX).unwrap().unwrap();
    assert_eq!((quiet.expired, quiet.missing, quiet.days), (0, 0, 0));
    assert!(world.store.take_stream().is_empty());
}

#[test]
fn every_call_of_a_visit_may_fail_in_every_way() {
    let world = eventful();
    live_happily(&world);
    let mut counts = BTreeMap::new();
    let mut calls = Vec::new();
    for (call, _) in world.faults.take_log() {
        let count = counts.entry(call).or_insert(0_u64);
        calls.push((call, *count));
        *count += 1;
    }
    let names: BTreeSet<&str> = counts.keys().copied().collect();
    let expected = [
        "archive_index.archived_below",
        "archive_index.archived_from",
        "archive_index.put_archived",
        "archive_objects.extend",
        "archive_objects.state",
        "heads.forget_index",
        "heads.head",
        "heads.index_below",
        "heads.index_from",
        "hot.day",
        "hot.late_days",
        "hot.mark_late",
        "hot.put",
        "objects.list",
        "objects.version",
        "outbox.send",
        "tenants.tenant",
        "watermarks.put_reconciled",
        "watermarks.reconciled",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    for (call, nth) in calls {
        for fault in Fault::ALL {
            for times in [1, 2] {
                let world = eventful();
                (0..times).for_each(|more| {
                    world.faults.on(call, nth + more, fault);
                });
                let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live_happily(&world)));
                assert!(told.is_ok(), "fails after {call} no. {nth}: {fault:?}, {times} times");
            }
        }
    }
}
