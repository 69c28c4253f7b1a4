//! The verifier over a log whose older leaves are in the archive: what is proven when files have expired, and that nothing
//! can be done to files of the archive, tiles and their manifests that is not found.

use crate::tamper::{Exhibit, Locks, SMALL_BYTES, STEP, THREADS, assert_refuted_at, is_key_file, report_on};
use crate::world::{NOON, SEED, Sending, World, at_once, event_with_id};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Map;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use stele::access::Tenant;
use stele::error::Result;
use stele::id::EventId;
use stele::layout::{self, Object, ObjectKey};
use stele::limits;
use stele::own_event::{By, OwnEvent};
use stele::ports::{Clock, ListedObject, LockedObjects, PutIfAbsent, StoredObject};
use stele::public_key::PublicKey;
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele::tlog::manifest::{Manifest, ManifestObject};
use stele::tlog::tiles::{Tiles, TilesBuilder};
use stele::tlog::tree::RightEdge;
use stele_adapters::parquet::archive::ArchiveWriter;
use stele_adapters::parquet::decode_segment;
use stele_verify::{Evidence, Options, Report, Verdict, verify};

const TENANT: &str = "org_acme";
/// Segments of one file of the archive.
const OF_A_FILE: usize = 3;
const FILES: usize = 3;
/// Segments that wait for the next one.
const WAITING: usize = 2;
const CLASS_DAYS: u32 = 90;

/// A log of which all but the newest segments are in the archive.
struct Archived {
    exhibit: Exhibit,
    tenant: Tenant,
    events: u64,
}

impl Archived {
    /// So many events in each segment; the segments of the last file are still there.
    fn new(events: u64) -> Archived {
        Archived::with(events, &[])
    }

    /// With a last segment that says of some files that they have expired.
    fn with(events: u64, expired: &[usize]) -> Archived {
        let world = World::new();
        at_once(world.publish_key());
        let (ingest, sealer) = (world.ingest(), world.sealer());
        for _ in 0..FILES * OF_A_FILE + WAITING {
            world.clock.advance_ms(60_000);
            let id = || EventId::new(world.clock.now(), u128::from(world.random.next_u64()));
            let bodies: Vec<String> = (0..events).map(|_| event_with_id(TENANT, id())).collect();
            let answers = at_once(world.send(&ingest, &Sending::batch(&bodies)));
            assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
            at_once(world.seal_stream(&sealer));
        }
        at_once(world.check());
        let tenant = world.tenant(TENANT);
        let names = Archived { exhibit: Exhibit::default(), tenant, events };
        let says = |file: &usize| {
            let key = names.file(*file);
            let event = OwnEvent {
                id: EventId::new(world.clock.now(), *file as u128),
                tenant: names.tenant.id(),
                received_at: world.clock.now(),
                by: By::System,
                action: "stele.archive.expired",
                resource: ("archive_file", &key),
                description: "events expired".to_owned(),
                metadata: Map::new(),
            };
            event.record().unwrap()
        };
        world.clock.advance_ms(60_000);
        let said: Vec<_> = expired.iter().map(says).collect();
        if !said.is_empty() {
            at_once(world.deliver(&sealer, &said));
        }
        let mut archived = Archived { exhibit: at_once(Exhibit::of(world.objects.as_ref())), ..names };
        for file in 0..FILES {
            archived.compact(file);
        }
        for segment in 0..(FILES - 1) * OF_A_FILE {
            archived.exhibit = archived.exhibit.without(&archived.segment(segment));
        }
        archived
    }

    /// Writes a file of the archive as compact does.
    fn compact(&mut self, file: usize) {
        let (tenant, log) = (self.tenant.id().clone(), self.tenant.log());
        let folder = tempfile::tempdir().unwrap();
        let segments: Vec<(String, Bytes)> = (file * OF_A_FILE..(file + 1) * OF_A_FILE)
            .map(|nth| (self.segment(nth), self.exhibit.bytes(&self.segment(nth))))
            .collect();
        let header_of =
            |(key, bytes): &(String, Bytes)| decode_segment(&tenant, key, bytes.clone()).unwrap().header;
        let before = header_of(&segments[0]).before;
        let running = match file {
            0 => Timestamp::default(),
            _ => {
                let key = self.segment(file * OF_A_FILE - 1);
                header_of(&(key.clone(), self.exhibit.bytes(&key))).received_max
            }
        };
        let origin = self.tenant.origin();
        let path = folder.path().join("file");
        let mut writer = ArchiveWriter::create(&path, origin, log, before.clone(), running).unwrap();
        let cuts: BTreeSet<TreeSize> = self
            .exhibit
            .0
            .keys()
            .filter_map(|key| match ObjectKey::parse(key)? {
                Object::Checkpoint { size, .. } => Some(size),
                _ => None,
            })
            .collect();
        let mut tiles = TilesBuilder::new(origin.clone(), before, cuts);
        for (key, bytes) in &segments {
            let (_, hashes) = writer.append(&tenant, key, bytes.clone()).unwrap();
            hashes.into_iter().for_each(|hash| tiles.append(hash));
        }
        let (spooled, header) = writer.finish().unwrap();
        let bytes = Bytes::from(std::fs::read(&spooled.path).unwrap());
        let (first, end) = (header.first(), header.end());
        let archive = Object::Archive { tenant: tenant.clone(), log, month: header.month(), first };
        let archive = archive.key().as_str().to_owned();
        assert_eq!(archive, self.file(file));
        let proofs_until = header.sealed_last.plus_days(limits::CHECKPOINT_LOCK_DAYS);
        let tiles = Bytes::from(tiles.finish().to_bytes());
        let listed = |key: &str, bytes: &[u8]| ManifestObject {
            key: key.to_owned(),
            first,
            end,
            sha256: Hash::of(bytes),
        };
        let objects = vec![listed(&archive, &bytes), listed(&self.tiles(file), &tiles)];
        self.put(&self.tiles(file), tiles, proofs_until);
        self.put(&archive, bytes, header.sealed_last.plus_days(CLASS_DAYS));
        self.sign(header.after, objects, proofs_until);
    }

    fn put(&mut self, key: &str, bytes: Bytes, lock: Timestamp) {
        self.exhibit.0.insert(key.to_owned(), (bytes, lock));
    }

    fn sign(&mut self, edge: RightEdge, objects: Vec<ManifestObject>, lock: Timestamp) {
        let origin = self.tenant.origin().clone();
        let signer = origin.signer(&SEED);
        let manifest = Manifest { origin, size: edge.size(), edge, objects };
        let (tenant, log) = (self.tenant.id().clone(), self.tenant.log());
        let key = Object::ArchiveManifest { tenant, log, size: manifest.size }.key();
        self.put(key.as_str(), manifest.sign(&signer).unwrap().into(), lock);
    }

    fn segment(&self, nth: usize) -> String {
        let first = LeafIndex::new(nth as u64 * self.events);
        self.key(|tenant, log| Object::Segment { tenant, log, first })
    }

    fn file(&self, nth: usize) -> String {
        let first = LeafIndex::new(nth as u64 * self.of_a_file());
        let month = stele::archive::Month::of(NOON);
        self.key(|tenant, log| Object::Archive { tenant, log, month, first })
    }

    fn tiles(&self, nth: usize) -> String {
        let first = LeafIndex::new(nth as u64 * self.of_a_file());
        self.key(|tenant, log| Object::Tiles { tenant, log, first })
    }

    /// The signed list of the nth file.
    fn manifest(&self, nth: usize) -> String {
        let size = TreeSize::new((nth as u64 + 1) * self.of_a_file());
        self.key(|tenant, log| Object::ArchiveManifest { tenant, log, size })
    }

    fn checkpoint(&self, size: u64) -> String {
        let size = TreeSize::new(size);
        self.key(|tenant, log| Object::Checkpoint { tenant, log, size })
    }

    fn key(&self, object: impl FnOnce(stele::id::TenantId, stele::access::LogNumber) -> Object) -> String {
        object(self.tenant.id().clone(), self.tenant.log()).key().as_str().to_owned()
    }

    /// Leaves of a file.
    fn of_a_file(&self) -> u64 {
        OF_A_FILE as u64 * self.events
    }

    /// Leaves of the log, but for those that say what expired.
    fn leaves(&self) -> u64 {
        FILES as u64 * self.of_a_file() + WAITING as u64 * self.events
    }

    fn without(&self, keys: &[String]) -> Exhibit {
        keys.iter().fold(self.exhibit.clone(), |exhibit, key| exhibit.without(key))
    }

    fn without_files(&self, files: Range<usize>) -> Exhibit {
        self.without(&files.map(|nth| self.file(nth)).collect::<Vec<_>>())
    }
}

fn pinned() -> Options {
    Options { pinned: vec![PublicKey::of_seed(&SEED)], ..Options::default() }
}

fn assert_counts(report: &Report, verdict: Verdict, proven: u64, expired: u64) {
    assert_eq!(report.verdict(), verdict, "{report:#?}");
    let log = &report.logs[0];
    assert_eq!((log.leaves_proven, log.leaves_expired), (proven, expired), "{report:#?}");
}

#[test]
fn a_log_that_is_mostly_in_the_archive_is_proven() {
    let log = Archived::new(3);
    let report = report_on(&log.exhibit, &pinned());
    assert_counts(&report, Verdict::Proven, log.leaves(), 0);
    let found = &report.logs[0];
    assert_eq!((found.archive_files, found.tiles, found.segments), (3, 3, (OF_A_FILE + WAITING) as u64));
    let statements = FILES * OF_A_FILE + WAITING;
    assert_eq!((found.checkpoints, found.manifests), (statements as u64, (statements + FILES) as u64));
}

#[test]
fn files_that_expired_from_the_beginning_on_leave_the_rest_proven() {
    let log = Archived::new(3);
    let saved = String::from_utf8(log.exhibit.bytes(&log.checkpoint(6)).to_vec()).unwrap();
    let options = Options { since: vec![saved], ..pinned() };
    for gone in 1..FILES {
        let expired = gone as u64 * log.of_a_file();
        let report = report_on(&log.without_files(0..gone), &options);
        assert_counts(&report, Verdict::Proven, log.leaves() - expired, expired);
        assert_eq!(report.logs[0].saved_checkpoints, 1, "a checkpoint among leaves that are gone");
    }
    // With the segments that only waited for their own lock to end.
    let mut keys: Vec<String> = (0..FILES).map(|nth| log.file(nth)).collect();
    keys.extend((0..OF_A_FILE).map(|nth| log.segment((FILES - 1) * OF_A_FILE + nth)));
    let report = report_on(&log.without(&keys), &options);
    let expired = FILES as u64 * log.of_a_file();
    assert_counts(&report, Verdict::Proven, log.leaves() - expired, expired);
    // And with those that nobody archived: then hashes are all there is.
    keys.extend((0..WAITING).map(|nth| log.segment(FILES * OF_A_FILE + nth)));
    let mut bare = log.without(&keys);
    assert_eq!(report_on(&bare, &options).verdict(), Verdict::Refuted, "leaves that were signed are missing");
    bare.0.retain(|key, _| match ObjectKey::parse(key) {
        Some(Object::Checkpoint { size, .. } | Object::Manifest { size, .. }) => size.to_u64() <= expired,
        _ => true,
    });
    assert_counts(&report_on(&bare, &options), Verdict::CouldNotCheck, 0, expired);
}

#[test]
fn a_changed_bit_in_the_archive_is_found_at_its_object() {
    let log = Archived::new(3);
    let every_byte = std::env::var_os("STELE_LONG").is_some();
    let whole = &log.exhibit;
    let expired = log.without_files(0..1);
    let mut flips = Vec::new();
    for (exhibit, kind) in [(whole, "whole"), (&expired, "expired")] {
        for key in exhibit.keys().into_iter().filter(|key| !is_key_file(key)) {
            let is_archives = key.starts_with(layout::ARCHIVE)
                || key.starts_with(layout::TILES)
                || key.ends_with(".archive.manifest");
            if kind == "expired" && !(is_archives && key.contains(&format!("{:020}", 0))) {
                continue; // As in the whole.
            }
            let length = exhibit.bytes(&key).len();
            let step = if every_byte || (length <= SMALL_BYTES && is_archives) { 1 } else { STEP };
            let tail = length.saturating_sub(if is_archives { 64 } else { 0 })..length;
            flips.extend((0..length).step_by(step).chain(tail).map(|at| (exhibit, key.clone(), at)));
        }
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((exhibit, key, at)) = flips.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let report = report_on(&exhibit.flipped(key, *at), &pinned());
                    assert_refuted_at(&report, key, &format!("byte {at} of `{key}`"));
                }
            });
        }
    });
    println!("{} bits flipped", flips.len());
}

#[test]
fn what_is_removed_is_missed_unless_its_time_may_be_over() {
    let log = Archived::new(3);
    let newest = FILES - 1;
    for key in log.exhibit.keys().into_iter().filter(|key| !is_key_file(key)) {
        let report = report_on(&log.exhibit.without(&key), &pinned());
        let archived_segments = (0..OF_A_FILE).map(|nth| log.segment(newest * OF_A_FILE + nth));
        if key == log.file(0) {
            assert_counts(&report, Verdict::Proven, log.leaves() - log.of_a_file(), log.of_a_file());
        } else if archived_segments.into_iter().any(|segment| segment == key) {
            assert_counts(&report, Verdict::Proven, log.leaves(), 0);
        } else if key == log.manifest(newest) {
            // As after a crash just before it was written.
            assert_counts(&report, Verdict::Proven, log.leaves(), 0);
        } else if key == log.checkpoint(log.leaves()) {
            assert_eq!(report.verdict(), Verdict::CouldNotCheck, "{report:#?}");
        } else {
            assert_refuted_at(&report, &key, &format!("`{key}` removed"));
        }
    }
}

#[test]
fn a_file_that_is_gone_from_the_middle_is_missed_unless_the_log_says_that_it_expired() {
    for (said, verdict) in
        [(vec![], Verdict::Refuted), (vec![0], Verdict::Refuted), (vec![1], Verdict::Proven)]
    {
        let log = Archived::with(3, &said);
        let exhibit = log.exhibit.without(&log.file(1));
        let report = report_on(&exhibit, &pinned());
        if verdict == Verdict::Refuted {
            assert_refuted_at(&report, &log.file(1), "a file in the middle");
            assert_eq!(report.logs[0].leaves_expired, 0);
            continue;
        }
        let (leaves, expired) = (log.leaves() + said.len() as u64, log.of_a_file());
        assert_counts(&report, Verdict::Proven, leaves - expired, expired);
        // What leads over it must be whole all the same.
        let tampered = exhibit.flipped(&log.tiles(1), exhibit.bytes(&log.tiles(1)).len() - 40);
        assert_refuted_at(&report_on(&tampered, &pinned()), &log.tiles(1), "tiles in the middle");
    }
}

#[test]
fn an_expired_part_that_nothing_leads_over_is_not_proven() {
    let log = Archived::new(3);
    let end = log.of_a_file();
    // Without the list of file and tiles: nobody has signed what is in the tiles.
    let exhibit = log.without(&[log.file(0), log.manifest(0)]);
    assert_counts(&report_on(&exhibit, &pinned()), Verdict::Proven, log.leaves() - end, end);
    let exhibit = exhibit.without(&log.tiles(0));
    // The checkpoint at its end leads over it, but those inside are about leaves nobody knows.
    let report = report_on(&exhibit, &pinned());
    assert_counts(&report, Verdict::CouldNotCheck, log.leaves() - end, end);
    assert_eq!(report.logs[0].unchecked.len(), 4, "two checkpoints and their manifests: {report:#?}");
    let mut bare = exhibit;
    bare.0.retain(|key, _| match ObjectKey::parse(key) {
        Some(Object::Checkpoint { size, .. } | Object::Manifest { size, .. }) => size.to_u64() > end,
        _ => true,
    });
    let report = report_on(&bare, &pinned());
    assert_ne!(report.verdict(), Verdict::Proven, "{report:#?}");
    assert_eq!(report.logs[0].leaves_expired, 0);
}

#[test]
fn forged_tiles_of_an_expired_file_are_found_by_the_checkpoints_among_its_leaves() {
    let log = Archived::new(3);
    let exhibit = log.without(&[log.file(0), log.manifest(0)]);
    let tiles = Tiles::parse(&exhibit.bytes(&log.tiles(0))).unwrap();
    let forged = tiles.to_bytes();
    let hashes: usize = tiles.ranges().iter().map(|range| range.hashes().count()).sum();
    for nth in 0..hashes {
        let at = forged.len() - 32 * (nth + 1);
        let report = report_on(&exhibit.flipped(&log.tiles(0), at), &pinned());
        assert_refuted_at(&report, &log.tiles(0), &format!("hash {nth} from the end"));
    }
}

#[test]
fn tiles_with_subtrees_are_held_against_the_leaves() {
    let log = Archived::new(100);
    let report = report_on(&log.exhibit, &pinned());
    assert_counts(&report, Verdict::Proven, log.leaves(), 0);
    let tiles = Tiles::parse(&log.exhibit.bytes(&log.tiles(newest())).clone()).unwrap();
    assert_eq!((tiles.level_1_index_of_first(), tiles.level_1().len()), (2, 1));
    // Unsigned, as just before the manifest is written, only the leaves can tell.
    let unsigned = log.exhibit.without(&log.manifest(newest()));
    let last = log.exhibit.bytes(&log.tiles(newest())).len() - 1;
    let report = report_on(&unsigned.flipped(&log.tiles(newest()), last), &pinned());
    assert_refuted_at(&report, &log.tiles(newest()), "a hash of level 1");
}

const fn newest() -> usize {
    FILES - 1
}

#[test]
fn locks_that_are_too_short_and_objects_in_a_wrong_place_are_found() {
    let log = Archived::new(3);
    for key in log.exhibit.keys().into_iter().filter(|key| !is_key_file(key)) {
        let mut changed = log.exhibit.clone();
        let (_, lock) = changed.0.get_mut(&key).unwrap();
        *lock = lock.minus_days(1);
        assert_refuted_at(&report_on(&changed, &pinned()), &key, "a lock a day too short");
        let (_, lock) = changed.0.get_mut(&key).unwrap();
        *lock = lock.plus_days(365);
        assert_eq!(report_on(&changed, &pinned()).verdict(), Verdict::Proven, "`{key}` with a longer lock");
    }
    let kinds = [
        (0..FILES).map(|nth| log.file(nth)).collect::<Vec<_>>(),
        (0..FILES).map(|nth| log.tiles(nth)).collect(),
        (0..FILES).map(|nth| log.manifest(nth)).collect(),
    ];
    for keys in kinds {
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            let (a, b) = (&keys[a], &keys[b]);
            let swapped = log.exhibit.with(a, log.exhibit.bytes(b)).with(b, log.exhibit.bytes(a));
            for key in [a, b] {
                assert_refuted_at(&report_on(&swapped, &pinned()), key, &format!("`{a}` and `{b}` swapped"));
            }
        }
    }
    let other_month = log.file(1).replace("month=2026-05", "month=2026-06");
    let report = report_on(&log.exhibit.with(&other_month, log.exhibit.bytes(&log.file(1))), &pinned());
    assert_refuted_at(&report, &other_month, "a file for the second time");
    let moved = log.exhibit.without(&log.file(1)).with(&other_month, log.exhibit.bytes(&log.file(1)));
    assert_refuted_at(&report_on(&moved, &pinned()), &other_month, "a file in another month");
    let stray = log.tiles(1).replace("9.tiles", "8.tiles");
    let report = report_on(&log.exhibit.with(&stray, log.exhibit.bytes(&log.tiles(1))), &pinned());
    assert_refuted_at(&report, &stray, "tiles without a file");
}

#[test]
fn segments_go_on_where_a_file_was_removed_before_its_segments() {
    let log = Archived::new(3);
    // The file is missed, though its leaves are there.
    let report = report_on(&log.exhibit.without(&log.file(newest())), &pinned());
    assert_refuted_at(&report, &log.file(newest()), "the newest file");
    assert_eq!(report.logs[0].leaves_proven, log.leaves());
}

/// Objects some of which come into being while they are being looked at.
struct Growing {
    exhibit: Exhibit,
    late: BTreeSet<String>,
    /// Whether the late ones are there.
    grown: AtomicBool,
}

#[async_trait]
impl LockedObjects for Growing {
    async fn put_if_absent(&self, key: &ObjectKey, _: Bytes, _: Timestamp) -> Result<PutIfAbsent> {
        panic!("`{key}` is written into an exhibit")
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>> {
        self.exhibit.object(key).await
    }

    async fn version(&self, key: &ObjectKey, version: &str) -> Result<Option<StoredObject>> {
        if key.as_str().starts_with(layout::SEGMENTS) {
            self.grown.store(true, Ordering::SeqCst);
        }
        self.exhibit.version(key, version).await
    }

    async fn range(&self, key: &ObjectKey, version: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.exhibit.range(key, version, range).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>> {
        let grown = self.grown.load(Ordering::SeqCst);
        let mut all = self.exhibit.list(prefix, after, limit).await?;
        all.retain(|object| grown || !self.late.contains(&object.key));
        Ok(all)
    }
}

#[test]
fn a_file_that_is_written_while_its_segments_are_walked_is_held_against_them() {
    let log = Archived::new(3);
    let late = BTreeSet::from([
        log.file(newest()),
        log.tiles(newest()),
        log.manifest(newest()),
        log.checkpoint(log.leaves()),
    ]);
    let verdict_of = |exhibit: Exhibit| {
        let objects: Arc<dyn LockedObjects> =
            Arc::new(Growing { exhibit, late: late.clone(), grown: AtomicBool::new(false) });
        let evidence = Evidence { states: Arc::new(Locks(objects.clone())), objects };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(verify(&evidence, &pinned(), &|_, _| {})).unwrap()
    };
    let report = verdict_of(log.exhibit.clone());
    assert_counts(&report, Verdict::Proven, log.leaves(), 0);
    assert_eq!(report.logs[0].archive_files, FILES as u64);
    for key in [log.file(newest()), log.tiles(newest())] {
        let middle = log.exhibit.bytes(&key).len() / 2;
        assert_refuted_at(&verdict_of(log.exhibit.flipped(&key, middle)), &key, "a late file");
    }
}
