//! Eight years by a clock that is moved: a tenant of every class, holds placed and released, classes changed, sealing and
//! compaction out for days. After every step exactly those objects are there that a small model of the policy says, and
//! twice a year all that is left verifies, back to the oldest checkpoint anybody saved.

use crate::world::{HOUR_MS, SEED, Sending, World, at_once, event_with_id, leaves_of, verified};
use std::collections::{BTreeMap, BTreeSet};
use stele::access::Tenant;
use stele::id::EventId;
use stele::layout::{self, Object};
use stele::limits;
use stele::ports::{ArchiveIndex, Clock, Policies};
use stele::public_key::PublicKey;
use stele::record::Record;
use stele::time::{DAY_MS, Timestamp};
use stele::tlog::hash::LeafIndex;
use stele_adapters::parquet::archive::ArchiveFile;
use stele_verify::{Options, Verdict, verify};

const YEARS: u64 = 8;
/// Days of one step; `STELE_LONG` takes them one by one.
const STEP_DAYS: u64 = 4;

/// What the model knows of a file of the archive.
#[derive(Debug)]
struct File {
    end: u64,
    sealed_last: Timestamp,
    class: u32,
    /// Earliest and latest time of its events: occurred and received are the same here, but for the log's own.
    times: (Timestamp, Timestamp),
    gone: bool,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    open: bool,
}

/// What the model knows of a tenant.
struct Known {
    id: String,
    class: u32,
    files: BTreeMap<u64, File>,
    /// Segments by first leaf: end, when sealed, until when locked.
    segments: BTreeMap<u64, (u64, Timestamp, Timestamp)>,
    holds: BTreeMap<String, Hold>,
    /// Checkpoints an auditor saved.
    saved: Vec<String>,
    expired: u64,
}

impl Known {
    fn archived(&self) -> u64 {
        self.files.last_key_value().map_or(0, |(_, file)| file.end)
    }

    fn is_held(&self, times: (Timestamp, Timestamp)) -> bool {
        self.holds.values().any(|hold| {
            hold.open && hold.from.is_none_or(|from| times.1 >= from) && hold.to.is_none_or(|to| times.0 < to)
        })
    }
}

/// Chance, the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

struct Years {
    world: World,
    chance: Chance,
    tenants: Vec<Known>,
    /// Acknowledged events: tenant, leaf hash.
    acknowledged: BTreeMap<EventId, (usize, String)>,
    /// Those of them that were found in a file when it was new.
    archived: BTreeSet<EventId>,
    holds_placed: u64,
}

impl Years {
    fn new() -> Years {
        let mut world = World::new();
        world.publish_every_ms = HOUR_MS;
        at_once(world.publish_key());
        let mut years = Years {
            world,
            chance: Chance(8),
            tenants: Vec::new(),
            acknowledged: BTreeMap::new(),
            archived: BTreeSet::new(),
            holds_placed: 0,
        };
        for class in limits::CLASSES_DAYS {
            let id = format!("org_{class}");
            years.tenants.push(Known {
                id: id.clone(),
                class,
                files: BTreeMap::new(),
                segments: BTreeMap::new(),
                holds: BTreeMap::new(),
                saved: Vec::new(),
                expired: 0,
            });
            let at = years.tenants.len() - 1;
            years.accept(at, 1);
            years.seal();
            years.world.classify(&id, class);
        }
        years
    }

    fn tenant(&self, at: usize) -> Tenant {
        self.world.tenant(&self.tenants[at].id)
    }

    fn accept(&mut self, at: usize, count: u64) {
        let events: Vec<String> =
            (0..count).map(|_| event_with_id(&self.tenants[at].id, self.world.new_id())).collect();
        for answer in at_once(self.world.send(&self.world.ingest(), &Sending::batch(&events))) {
            let (id, hash) = answer.receipt.expect("a store that never fails");
            self.acknowledged.insert(id, (at, hash));
        }
    }

    /// Seals what the stream carries, and takes note of the segments.
    fn seal(&mut self) {
        at_once(self.world.seal_stream(&self.world.sealer()));
        self.note_segments();
    }

    fn note_segments(&mut self) {
        for at in 0..self.tenants.len() {
            let tenant = self.tenant(at);
            let known = self.tenants[at].segments.last_key_value().map_or(0, |(_, (end, ..))| *end);
            let entries = at_once(stele::ports::Heads::index_from(
                self.world.store.as_ref(),
                &tenant,
                LeafIndex::new(known.max(self.tenants[at].archived())),
                usize::MAX,
            ));
            for entry in entries.unwrap() {
                let sealed_at = entry.sealed_at;
                assert!(sealed_at <= self.world.clock.now());
                let segment = (entry.end.to_u64(), sealed_at, sealed_at.plus_days(limits::SEGMENT_LOCK_DAYS));
                self.tenants[at].segments.insert(entry.first.to_u64(), segment);
            }
        }
    }

    /// Segments that wait for three weeks are locked for longer.
    fn note_overdue(&mut self, at: usize) {
        let now = self.world.clock.now();
        let archived = self.tenants[at].archived();
        for (first, (_, sealed_at, locked)) in &mut self.tenants[at].segments {
            if *first >= archived && sealed_at.plus_days(limits::ARCHIVE_OVERDUE_DAYS) <= now {
                *locked = (*locked).max(now.plus_days(limits::SEGMENT_LOCK_DAYS));
            }
        }
    }

    fn compact(&mut self, at: usize) {
        self.note_overdue(at);
        let id = self.tenants[at].id.clone();
        at_once(self.world.compact(&self.world.compactor(), &id, false)).unwrap();
        let tenant = self.tenant(at);
        let from = LeafIndex::new(self.tenants[at].archived());
        for entry in at_once(self.world.store.archived_from(&tenant, from, usize::MAX)).unwrap() {
            let (first, end) = (entry.first.to_u64(), entry.end.to_u64());
            assert_eq!(first, self.tenants[at].archived(), "files follow each other");
            let last = self.tenants[at].segments.values().find(|(segment_end, ..)| *segment_end == end);
            let file = File {
                end,
                sealed_last: last.expect("a file ends where a segment ends").1,
                class: self.tenants[at].class,
                times: (
                    entry.received_min.min(entry.id_min.time()),
                    entry.received_max.max(entry.id_max.time()),
                ),
                gone: false,
            };
            self.tenants[at].files.insert(first, file);
            let files = at_once(self.world.archive_files(&tenant));
            let stored = files.iter().find(|stored| stored.header().first() == entry.first).unwrap();
            let ids = self.check_receipts(at, &tenant, stored);
            self.archived.extend(ids);
        }
        let class = self.tenants[at].class;
        for file in self.tenants[at].files.values_mut().filter(|file| !file.gone) {
            file.class = file.class.max(class);
        }
    }

    fn reconcile(&mut self, at: usize) {
        let tenant = self.tenant(at);
        let until = self.world.clock.now().plus_days(1);
        at_once(self.world.reconciler().reconcile(tenant.id(), until)).unwrap();
        self.note_overdue(at);
        self.seal();
        at_once(self.world.seal_parked(&self.world.sealer()));
        self.note_segments();
    }

    /// Lets go what lifecycle rules let go, in the store and in the model, and compares.
    fn expire(&mut self) {
        let now = self.world.clock.now();
        at_once(self.world.objects.expire(now));
        let mut expected = BTreeSet::new();
        for at in 0..self.tenants.len() {
            let tenant = self.tenant(at);
            let known = &mut self.tenants[at];
            let held: Vec<bool> = known.files.values().map(|file| known.is_held(file.times)).collect();
            for (file, held) in known.files.values_mut().zip(held) {
                if !file.gone && !held && file.sealed_last.plus_days(file.class) <= now {
                    file.gone = true;
                    known.expired += 1;
                }
            }
            let archived = known.archived();
            known.segments.retain(|first, (_, _, locked)| *first >= archived || *locked > now);
            let (id, log) = (tenant.id().clone(), tenant.log());
            let of = |first: &u64| LeafIndex::new(*first);
            for first in known.segments.keys() {
                let object = Object::Segment { tenant: id.clone(), log, first: of(first) };
                expected.insert(object.key().as_str().to_owned());
            }
            let there: Vec<&u64> =
                known.files.iter().filter(|(_, file)| !file.gone).map(|(first, _)| first).collect();
            let entries =
                at_once(self.world.store.archived_from(&tenant, LeafIndex::ZERO, usize::MAX)).unwrap();
            for first in there {
                let entry = entries.iter().find(|entry| entry.first.to_u64() == *first).unwrap();
                let month = entry.month();
                let object = Object::Archive { tenant: id.clone(), log, month, first: of(first) };
                expected.insert(object.key().as_str().to_owned());
            }
        }
        let mut found = BTreeSet::new();
        for prefix in [layout::SEGMENTS, layout::ARCHIVE] {
            let listed = at_once(self.world.objects.list(prefix, None, 1_000_000)).unwrap();
            found.extend(listed.into_iter().map(|object| object.key));
        }
        let missing: Vec<_> = expected.difference(&found).collect();
        let surplus: Vec<_> = found.difference(&expected).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "at {now}: missing {missing:?}, surplus {surplus:?}"
        );
    }

    /// Somebody decides something: a hold, a release, another class.
    fn decide(&mut self) {
        let at = self.chance.below(self.tenants.len() as u64) as usize;
        let tenant = self.tenant(at);
        let now = self.world.clock.now();
        let open: Vec<String> =
            self.tenants[at].holds.iter().filter(|(_, hold)| hold.open).map(|(id, _)| id.clone()).collect();
        match self.chance.below(4) {
            0 => {
                self.holds_placed += 1;
                let id = self.holds_placed.to_string();
                let from = now.minus_days(self.chance.below(400) as u32);
                let to = (self.chance.below(2) == 0).then(|| from.plus_days(60));
                let from = (self.chance.below(4) > 0).then_some(from);
                self.world.place(&self.tenants[at].id, &id, from, to);
                self.tenants[at].holds.insert(id, Hold { from, to, open: true });
            }
            1 | 2 if !open.is_empty() => {
                let id = &open[self.chance.below(open.len() as u64) as usize];
                self.world.release(&self.tenants[at].id, id);
                self.tenants[at].holds.get_mut(id).unwrap().open = false;
            }
            _ => {
                let class = limits::CLASSES_DAYS[self.chance.below(8) as usize];
                if class != self.tenants[at].class && self.chance.below(3) == 0 {
                    self.world.classify(&self.tenants[at].id, class);
                    self.tenants[at].class = class;
                }
            }
        }
        assert!(at_once(self.world.store.enforcement(&tenant)).is_ok());
    }

    fn save_checkpoints(&mut self) {
        for at in 0..self.tenants.len() {
            if let Some(head) = self.world.head(&self.tenant(at)) {
                self.tenants[at].saved.push(head.checkpoint);
            }
        }
    }

    /// All that is left verifies, and every leaf that is left is the one its receipt says.
    fn verify(&self) {
        let idle = at_once(self.world.sealer().publish_idle()).unwrap();
        assert_eq!(idle.failed, 0);
        let since = self.tenants.iter().flat_map(|known| known.saved.clone()).collect();
        let options = Options { pinned: vec![PublicKey::of_seed(&SEED)], since, ..Options::default() };
        let report =
            at_once(verify(&crate::tamper::evidence_of(self.world.objects.clone()), &options, &|_, _| {}))
                .unwrap();
        assert_eq!(report.verdict(), Verdict::Proven, "{report:#?}");
        for at in 0..self.tenants.len() {
            let tenant = self.tenant(at);
            let known = &self.tenants[at];
            let log = report.logs.iter().find(|log| log.tenant == known.id).unwrap();
            let gone = known.files.iter().filter(|(_, file)| file.gone);
            let gone: u64 = gone.map(|(first, file)| file.end - first).sum();
            assert_eq!(log.leaves_expired, gone, "{}", known.id);
            for file in at_once(self.world.archive_files(&tenant)) {
                self.check_receipts(at, &tenant, &file);
            }
        }
    }

    /// Every event of a file that somebody holds a receipt for is its tenant's, with the receipt's leaf hash; gives their ids.
    fn check_receipts(&self, at: usize, tenant: &Tenant, file: &ArchiveFile) -> Vec<EventId> {
        let mut ids = Vec::new();
        let mut visit = |_, record: &Record| {
            if let Some(receipt) = self.acknowledged.get(&record.id) {
                assert_eq!(receipt, &(at, record.leaf_hash.to_string()), "`{}`", record.id);
                ids.push(record.id);
            }
        };
        at_once(verified(file, tenant.id(), &mut visit)).unwrap();
        ids
    }
}

#[test]
fn eight_years_hold_what_policy_says_at_every_step() {
    let step = if std::env::var_os("STELE_LONG").is_some() { 1 } else { STEP_DAYS };
    let mut years = Years::new();
    let begin = years.world.clock.now().day().start();
    let (mut sealing_back, mut compaction_back) = (0, 0);
    for day in (1..YEARS * 365).step_by(step as usize) {
        // By day: events, sealed as they come unless sealing is out.
        years.world.clock.set(begin.plus_ms(day * DAY_MS + 10 * 3_600_000));
        for at in 0..years.tenants.len() {
            let count = years.chance.below(4);
            if count > 0 {
                years.accept(at, count);
            }
        }
        if day >= sealing_back {
            years.seal();
            if years.chance.below(60) == 0 {
                sealing_back = day + 3 + years.chance.below(10);
            }
        } else if years.chance.below(2) == 0 {
            // The stream forgets after a day: only reconciliation finds these.
            years.world.take_stream();
        }
        if years.chance.below(20 / step) == 0 {
            years.decide();
        }
        // By night: the schedules.
        years.world.clock.set(begin.plus_ms((day + 1) * DAY_MS + 2 * 3_600_000));
        for at in 0..years.tenants.len() {
            years.reconcile(at);
        }
        if day >= compaction_back {
            for at in 0..years.tenants.len() {
                years.compact(at);
            }
        }
        if day % 30 < step {
            years.save_checkpoints();
        }
        if day % 183 < step {
            // Before more goes: all that has gone is told in the log by now.
            years.verify();
        }
        if day >= compaction_back {
            years.expire();
            if years.chance.below(200) == 0 {
                compaction_back = day + 25;
            }
        }
        let now = years.world.clock.now();
        years.world.store.sweep(now);
    }
    // The last night's are told the night after.
    years.world.clock.advance_ms(DAY_MS);
    for at in 0..years.tenants.len() {
        years.reconcile(at);
    }
    years.verify();
    let mut found = years.archived.clone();
    for known in &years.tenants {
        let waiting = at_once(leaves_of(&years.world, &known.id));
        found.extend(waiting.into_iter().map(|(_, id)| id));
    }
    let lost: Vec<_> = years.acknowledged.keys().filter(|id| !found.contains(id)).collect();
    assert!(lost.is_empty(), "acknowledged, and never in a file or a segment: {lost:?}");
    let told =
        years.world.streamed().iter().filter(|record| record.action == "stele.archive.expired").count();
    let expired: u64 = years.tenants.iter().map(|known| known.expired).sum();
    assert!(expired > 100, "{expired}");
    assert_eq!(told as u64, expired, "each is told once");
}
