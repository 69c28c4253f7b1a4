//! The archive: what was sealed becomes large files, policy stands on every object, days are proven, and what has expired
//! is gone and told. Stories over the real functions, every call of theirs failed in every way.

use crate::faults::{TRIES_MAX, every_fault_of, numbered};
use crate::world::{GOVERNOR, NOON, Sending, World, at_once, event_with_id, until_stuck};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeSet;
use stele::access::Tenant;
use stele::archive::ArchiveEntry;
use stele::error::{Kind, Result};
use stele::id::EventId;
use stele::layout::{self, Object, ObjectKey};
use stele::ports::{ArchiveIndex, Clock, Heads, Policies, Tenants, Watermarks};
use stele::retention::{LegalHold, LifecycleTag, Policy, TimesOfLeaves, is_held};
use stele::time::{DAY_MS, Timestamp};
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele_compact::Visit;

/// Repeats until it is done: a failure that passes is tried again, an answer that never comes is a dead process.
pub(crate) fn at_last<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> T {
    for _ in 0..TRIES_MAX {
        match until_stuck(attempt()) {
            Some(Ok(done)) => return done,
            Some(Err(error)) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
            None => {}
        }
    }
    panic!("never done");
}

pub(crate) fn hold(id: &str, from: Option<Timestamp>, to: Option<Timestamp>, enforcement: u64) -> LegalHold {
    LegalHold {
        id: format!("hold_{id:0>32}"),
        from_ms: from.map(Timestamp::ms),
        to_ms: to.map(Timestamp::ms),
        reason: "case 7".to_owned(),
        placed_ms: 0,
        placed_by: "key".to_owned(),
        enforcement,
        released_ms: None,
        released_by: None,
    }
}

impl World {
    /// Accepts events of a tenant, now, and seals them as one segment.
    pub(crate) fn sealed(&self, tenant: &str, count: u64) {
        let (ingest, sealer) = (self.ingest(), self.sealer());
        let events: Vec<String> = (0..count).map(|_| event_with_id(tenant, self.new_id())).collect();
        for events in events.chunks(500) {
            let answers = at_once(self.send(&ingest, &Sending::batch(events)));
            assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
        }
        at_once(self.seal_stream(&sealer));
    }

    /// Places a hold as the API does, past all faults.
    pub(crate) fn place(&self, tenant: &str, id: &str, from: Option<Timestamp>, to: Option<Timestamp>) {
        let tenant = self.tenant(tenant);
        let requested = at_once(self.store.enforcement(&tenant)).unwrap().requested;
        at_once(self.store.place_hold(&tenant, &hold(id, from, to, requested + 1))).unwrap();
        at_once(self.store.request_enforcement(&tenant)).unwrap();
    }

    /// Releases it.
    pub(crate) fn release(&self, tenant: &str, id: &str) {
        let tenant = self.tenant(tenant);
        let requested = at_once(self.store.enforcement(&tenant)).unwrap().requested;
        let id = hold(id, None, None, 0).id;
        let now = self.clock.now();
        let released = at_once(self.store.release_hold(&tenant, &id, now, "key", requested + 1)).unwrap();
        assert!(released.is_some_and(|hold| !hold.is_open()));
        at_once(self.store.request_enforcement(&tenant)).unwrap();
    }

    /// Decides a tenant's class.
    pub(crate) fn classify(&self, tenant: &str, days: u32) {
        let tenant = self.tenant(tenant);
        let mut record = tenant.record().clone();
        record.class_days = days;
        assert!(at_once(self.store.replace_tenant(tenant.record(), &record)).unwrap());
        at_once(self.store.request_enforcement(&tenant)).unwrap();
    }

    pub(crate) fn archive_entries(&self, tenant: &Tenant) -> Vec<ArchiveEntry> {
        at_once(self.store.archived_from(tenant, LeafIndex::ZERO, usize::MAX)).unwrap()
    }

    /// Every object of a tenant has the lock, hold and tag that policy says.
    pub(crate) fn check_policy(&self, id: &str) {
        let tenant = self.tenant(id);
        let holds = at_once(self.store.holds(&tenant)).unwrap();
        let mut archived = TreeSize::ZERO;
        for entry in self.archive_entries(&tenant) {
            archived = entry.end;
            let (id, log) = (tenant.id().clone(), tenant.log());
            let key = Object::Archive { tenant: id, log, month: entry.month(), first: entry.first }.key();
            let state = at_once(self.objects.state(&key, &entry.version)).unwrap();
            let Some(state) = state else {
                assert!(entry.retain_until() <= self.clock.now(), "`{key}` is gone too early");
                continue;
            };
            let times =
                TimesOfLeaves::new((entry.received_min, entry.received_max), (entry.id_min, entry.id_max));
            let held = is_held(&holds, &times);
            let tag = if held { LifecycleTag::Hold } else { LifecycleTag::Class(entry.class) };
            let policy = Policy { retain_until: entry.retain_until(), hold: held, tag: Some(tag) };
            assert!(policy.is_met_by(&state), "`{key}`: {policy:?}, {state:?}");
        }
        for object in
            at_once(self.objects.list(&layout::segments_of(tenant.id(), tenant.log()), None, 100_000))
                .unwrap()
        {
            let Some(parsed @ Object::Segment { first, .. }) = ObjectKey::parse(&object.key) else {
                panic!("{}", object.key)
            };
            let state = at_once(self.objects.state(&parsed.key(), &object.version)).unwrap().unwrap();
            let tag = (first.size_before() < archived).then_some(LifecycleTag::Archived);
            assert_eq!(state.tag, tag, "`{}`", object.key);
            if tag.is_some() {
                assert!(!state.hold, "`{}` is in the archive, and held there", object.key);
            }
        }
    }
}

/// A tenant's year in short: two files, a hold, a longer class, segments that go.
struct Story {
    world: World,
}

impl Story {
    fn new() -> Story {
        Story { world: World::new() }
    }

    fn compact(&self, tenant: &str, close_today: bool) -> Visit {
        at_last(|| async {
            let compact = self.world.compactor();
            self.world.compact(&compact, tenant, close_today).await
        })
    }

    fn tell(&self) {
        let world = &self.world;
        let pass = |days: u64| world.clock.advance_ms(days * DAY_MS);
        world.faults.pause();
        for tenant in ["org_acme", "org_globex"] {
            for _ in 0..3 {
                world.sealed(tenant, 2);
                world.clock.advance_ms(60_000);
            }
        }
        world.faults.resume();
        self.compact("org_acme", true);
        world.faults.pause();
        world.check_policy("org_acme");
        world.sealed("org_acme", 3);
        world.place("org_acme", "1", None, Some(NOON.plus_ms(DAY_MS / 2)));
        world.classify("org_acme", 731);
        world.faults.resume();
        self.compact("org_acme", false);
        world.faults.pause();
        world.check_policy("org_acme");
        pass(8);
        world.faults.resume();
        // The oldest waits a week by now, without being told that the day is over.
        for tenant in ["org_acme", "org_globex"] {
            self.compact(tenant, false);
        }
        world.faults.pause();
        world.check_policy("org_acme");
        world.check_policy("org_globex");
        world.release("org_acme", "1");
        world.sealed("org_acme", 1);
        pass(22);
        world.faults.resume();
        // The archive was out for three weeks: the lock of what waits is lengthened first.
        self.compact("org_acme", false);
        world.faults.pause();
        world.check_policy("org_acme");
        pass(20);
        let gone = at_once(world.objects.expire(world.clock.now()));
        assert!(gone.iter().all(|key| key.starts_with(layout::SEGMENTS)), "{gone:?}");
        world.faults.resume();
        // The log is led on, though the segment its head ends with is gone.
        world.faults.pause();
        world.sealed("org_acme", 1);
        world.check_policy("org_acme");
        at_once(world.check());
    }
}

#[test]
fn every_call_of_compact_may_fail_in_every_way() {
    let story = Story::new();
    story.tell();
    let calls = numbered(&story.world.faults.take_log());
    let names: BTreeSet<&str> = calls.iter().map(|(call, _)| *call).collect();
    let expected = [
        "tenants.tenant",
        "heads.head",
        "heads.index_from",
        "heads.index_below",
        "archive_index.archived_below",
        "archive_index.archived_from",
        "archive_index.put_archived",
        "archive_objects.put_file_if_absent",
        "archive_objects.state",
        "archive_objects.extend",
        "archive_objects.set_tag",
        "archive_objects.set_hold",
        "policies.enforcement",
        "policies.save_enforcement",
        "policies.holds",
        "objects.version",
        "objects.range",
        "objects.list",
        "objects.object",
        "objects.put_if_absent",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    every_fault_of(&calls, |plan| {
        let story = Story::new();
        plan(&story.world);
        story.tell();
    });
}

/// Asks over HTTP until there is an answer that is not "try again"; an answer that never comes is a dead process.
pub(crate) fn ask(
    world: &World,
    method: &str,
    path: &str,
    idempotency_key: Option<&str>,
    body: &str,
) -> Value {
    let mut query = world.query();
    for _ in 0..TRIES_MAX {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {GOVERNOR}"))
            .header("content-type", "application/json");
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Bytes::from(body.to_owned())).unwrap();
        match until_stuck(query.handle(request)) {
            Some(response) if response.status().is_success() => {
                return serde_json::from_slice(response.body()).unwrap();
            }
            Some(response) => assert_eq!(response.status(), 503, "{:?}", response.body()),
            None => query = world.query(),
        }
    }
    panic!("no answer to {method} {path}");
}

/// Decided over HTTP: a longer class, a hold, its release; then carried out.
fn decisions(plan: &dyn Fn(&World)) -> World {
    let world = World::new();
    world.sealed("org_acme", 4);
    at_once(world.compact(&world.compactor(), "org_acme", true)).unwrap();
    world.faults.take_log();
    plan(&world);
    ask(&world, "PUT", "/v1/retention?tenant_id=org_acme", None, r#"{"class_days":731}"#);
    let hold = r#"{"tenant_id":"org_acme","reason":"case 7"}"#;
    let hold = ask(&world, "POST", "/v1/legal-holds", Some("case-7"), hold);
    let hold = format!("/v1/legal-holds/{}?tenant_id=org_acme", hold["id"].as_str().unwrap());
    world.faults.pause();
    at_once(world.compact(&world.compactor(), "org_acme", false)).unwrap();
    world.check_policy("org_acme");
    world.faults.resume();
    assert_eq!(ask(&world, "GET", &hold, None, "")["state"], "in_force");
    ask(&world, "DELETE", &hold, None, "");
    world.faults.pause();
    at_once(world.compact(&world.compactor(), "org_acme", false)).unwrap();
    at_once(world.seal_stream(&world.sealer()));
    world.check_policy("org_acme");
    at_once(world.check());
    let tenant = world.tenant("org_acme");
    assert_eq!(tenant.record().class_days, 731);
    assert_eq!(world.archive_entries(&tenant)[0].class.days(), 731);
    let holds = at_once(world.store.holds(&tenant)).unwrap();
    assert!(holds.len() == 1 && !holds[0].is_open(), "{holds:?}");
    let streamed = world.streamed();
    let told = |action| streamed.iter().filter(|record| record.action == action).count();
    assert_eq!((told("stele.legal_hold.placed"), told("stele.legal_hold.released")), (1, 1));
    assert!(told("stele.retention.changed") >= 1);
    world
}

#[test]
fn every_call_of_retention_and_legal_holds_may_fail_in_every_way() {
    let calls = numbered(&decisions(&|_| {}).faults.take_log());
    assert!(calls.iter().any(|(call, _)| *call == "policies.place_hold"), "{calls:?}");
    every_fault_of(&calls, |plan| {
        decisions(plan);
    });
}

#[test]
fn a_file_is_found_by_two_compactors_at_once_and_stored_once() {
    let mut world = World::new();
    world.paced = true;
    world.sealed("org_acme", 5);
    world.clock.advance_ms(1_000);
    world.sealed("org_acme", 5);
    let (one, other) = (world.compactor(), world.compactor());
    let both = async {
        tokio::join!(world.compact(&one, "org_acme", true), world.compact(&other, "org_acme", true))
    };
    let (one, other) = at_once(both);
    one.unwrap();
    other.unwrap();
    assert_eq!(world.archive_entries(&world.tenant("org_acme")).len(), 1);
    world.check_policy("org_acme");
    at_once(world.check());
}

#[test]
fn another_compactors_file_with_another_end_is_adopted() {
    let world = World::new();
    world.sealed("org_acme", 5);
    let compact = world.compactor();
    at_once(world.compact(&compact, "org_acme", true)).unwrap();
    // Its index entry is lost, and more waits by now: the key is taken by the shorter file.
    let tenant = world.tenant("org_acme");
    at_once(world.store.drop_archived(&tenant, LeafIndex::ZERO)).unwrap();
    world.sealed("org_acme", 4);
    at_once(world.compact(&compact, "org_acme", true)).unwrap();
    let ends: Vec<u64> = world.archive_entries(&tenant).iter().map(|entry| entry.end.to_u64()).collect();
    assert_eq!(ends, [5, 9]);
    world.check_policy("org_acme");
    at_once(world.check());
}

#[test]
fn a_segment_that_is_not_what_the_index_says_stops_the_archive() {
    let world = World::new();
    world.sealed("org_acme", 5);
    let tenant = world.tenant("org_acme");
    let mut entry = at_once(world.store.index_below(&tenant, TreeSize::new(9), 1)).unwrap().remove(0);
    entry.sha256 = stele::tlog::hash::Hash::of(b"another file");
    at_once(world.store.put_index(&tenant, &entry)).unwrap();
    let error = at_once(world.compact(&world.compactor(), "org_acme", true)).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(world.archive_entries(&tenant).is_empty());
    assert!(at_once(world.objects.list(layout::ARCHIVE, None, 9)).unwrap().is_empty());
}

#[test]
fn a_replay_finds_its_event_in_the_archive_when_nothing_else_is_left() {
    let world = World::new();
    let id = EventId::new(NOON, 9);
    let ingest = world.ingest();
    at_once(world.send(&ingest, &Sending::one(event_with_id("org_acme", id))));
    at_once(world.seal_stream(&world.sealer()));
    at_once(world.compact(&world.compactor(), "org_acme", true)).unwrap();
    let now = world.clock.advance_ms(100 * DAY_MS);
    world.store.sweep(now);
    at_once(world.objects.expire(now));
    assert!(at_once(world.objects.list(layout::SEGMENTS, None, 9)).unwrap().is_empty());
    let again =
        at_once(world.send(&world.ingest(), &Sending::one(event_with_id("org_acme", id)).backfilled()));
    assert_eq!(again[0].status, 200);
    at_once(world.check());
}

#[test]
fn a_database_is_rebuilt_from_an_archive_whose_segments_are_gone() {
    let mut world = World::new();
    for tenant in ["org_acme", "org_globex"] {
        world.sealed(tenant, 7);
    }
    world.classify("org_acme", 731);
    for tenant in ["org_acme", "org_globex"] {
        at_once(world.compact(&world.compactor(), tenant, true)).unwrap();
    }
    let now = world.clock.advance_ms(40 * DAY_MS);
    at_once(world.objects.expire(now));
    world.sealed("org_acme", 3);
    let before = world.archive_entries(&world.tenant("org_acme"));
    world.lose_database();
    let rebuilt = at_once(world.rebuild().run(&|_| {})).unwrap();
    assert_eq!((rebuilt.tenants, rebuilt.files, rebuilt.segments, rebuilt.records), (2, 2, 1, 17));
    let tenant = world.tenant("org_acme");
    assert_eq!(world.archive_entries(&tenant), before);
    assert_eq!(tenant.record().class_days, 731);
    world.sealed("org_acme", 1);
    world.sealed("org_globex", 1);
    world.check_policy("org_acme");
    at_once(world.check());
}

#[test]
fn days_are_proven_and_what_is_missing_is_sealed() {
    let world = World::new();
    let ingest = world.ingest();
    world.sealed("org_acme", 4);
    // The stream lost this one.
    at_once(world.send(&ingest, &Sending::one(event_with_id("org_acme", world.new_id()))));
    world.take_stream();
    world.clock.advance_ms(DAY_MS);
    let tenant = world.tenant("org_acme");
    let until = world.clock.now().plus_days(1);
    let reconcile = world.reconciler();
    let first = at_once(reconcile.reconcile(tenant.id(), until)).unwrap();
    assert!(!first.current);
    at_once(world.seal_parked(&world.sealer()));
    let second = at_once(reconcile.reconcile(tenant.id(), until)).unwrap();
    assert!(second.current);
    let through = at_once(world.store.reconciled(&tenant)).unwrap().unwrap().through;
    assert_eq!(through, NOON.day());
    at_once(world.check());
    assert!(at_once(world.store.tenant(tenant.id())).unwrap().is_some());
}
