//! With the database lost, or its heads: from the locked objects alone the log goes on where it was, and every
//! client that asks again hears what it heard before.

use crate::tamper::Exhibit;
use crate::world::{
    HOUR_MS, NOON, Sending, World, at_once, event, event_with_external_id, event_with_id, leaves_of,
    until_stuck,
};
use std::sync::Arc;
use stele::error::Kind;
use stele::id::EventId;
use stele::layout::ObjectKey;
use stele::ports::{Clock, LockedObjects};
use stele::segment::Head;
use stele::time::DAY_MS;
use stele_adapters::clock::ManualClock;
use stele_adapters::memory_objects::MemoryObjects;
use stele_seal::Rebuilt;

/// Requests under names that outlive the database.
fn named() -> Vec<Sending> {
    vec![
        Sending::one(event_with_id("org_acme", EventId::new(NOON, 1))),
        Sending::one(event_with_external_id("org_acme", "order-1")),
        Sending::batch(&[
            event_with_id("org_acme", EventId::new(NOON.minus_days(3), 2)),
            event_with_external_id("org_globex", "order-1"),
        ]),
        Sending::one(event("org_globex", r#""id":"order-2","occurred_at":"2026-05-01T09:00:00Z","#)),
    ]
}

/// A world in which all of these were sent, each request a segment of its own.
fn sealed(sendings: &[Sending]) -> World {
    let world = World::new();
    let (ingest, sealer) = (world.ingest(), world.sealer());
    for sending in sendings {
        world.clock.advance_ms(1_000);
        let answers = at_once(world.send(&ingest, sending));
        assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
        at_once(world.seal_stream(&sealer));
    }
    at_once(world.check());
    world
}

fn rebuild(world: &World) -> Rebuilt {
    at_once(world.rebuild().run(&|_| {})).unwrap()
}

/// Sends one more event to each tenant and seals it.
fn go_on(world: &World) {
    let (ingest, sealer) = (world.ingest(), world.sealer());
    for tenant in world.tenants() {
        let answers =
            at_once(world.send(&ingest, &Sending::one(event_with_id(tenant.id().as_str(), world.new_id()))));
        assert_eq!(answers[0].status, 201);
    }
    at_once(world.seal_stream(&sealer));
}

#[test]
fn after_a_lost_database_what_is_sent_again_is_a_replay_and_the_log_goes_on_without_a_fork() {
    let mut world = sealed(&named());
    let before = world.acknowledged();
    world.lose_database();
    assert!(world.tenants().is_empty());
    let rebuilt = rebuild(&world);
    assert_eq!(rebuilt, Rebuilt { tenants: 2, files: 0, segments: 5, records: 5, forgotten: 0 });
    // What is restored comes over the stream like anything stored, and is in the log already.
    let delivered = at_once(world.seal_stream(&world.sealer()));
    assert_eq!((delivered.sealed, delivered.replayed), (0, 5));
    at_once(world.check());

    let ingest = world.ingest();
    for sending in named() {
        for answer in at_once(world.send(&ingest, &sending)) {
            assert_eq!(answer.status, 200, "{sending:?}");
            let (id, hash) = answer.receipt.unwrap();
            assert_eq!(before.get(&id), Some(&hash));
        }
    }
    go_on(&world);
    at_once(world.check());
    assert_eq!(at_once(leaves_of(&world, "org_acme")).len(), 4);
}

#[test]
fn events_that_were_stored_and_not_sealed_are_accepted_as_new_when_sent_again() {
    let mut world = sealed(&named());
    let unsealed = Sending::one(event_with_id("org_acme", EventId::new(NOON, 9)));
    assert_eq!(at_once(world.send(&world.ingest(), &unsealed))[0].status, 201);
    let acknowledged = world.acknowledged();
    world.lose_database();
    rebuild(&world);
    let again = at_once(world.send(&world.ingest(), &unsealed)).remove(0);
    assert_eq!(again.status, 201, "what was in no locked object is gone with the database");
    assert_eq!(acknowledged.get(&again.receipt.as_ref().unwrap().0), Some(&again.receipt.unwrap().1));
    at_once(world.seal_stream(&world.sealer()));
    at_once(world.check());
}

#[test]
fn a_rebuild_can_be_run_again_at_any_time() {
    let mut world = sealed(&named());
    world.lose_database();
    let first = rebuild(&world);
    let leaves = at_once(leaves_of(&world, "org_acme"));
    assert_eq!(rebuild(&world), first);
    at_once(world.seal_stream(&world.sealer()));
    at_once(world.check());
    // And over a database that is whole.
    go_on(&world);
    rebuild(&world);
    go_on(&world);
    rebuild(&world);
    at_once(world.seal_stream(&world.sealer()));
    at_once(world.check());
    assert_eq!(at_once(leaves_of(&world, "org_acme")).len(), leaves.len() + 2);
}

#[test]
fn a_rebuild_leaves_out_what_the_hot_store_would_have_forgotten_and_no_id_comes_twice() {
    let mut world = sealed(&named());
    world.clock.advance_ms(100 * DAY_MS);
    world.lose_database();
    assert_eq!(rebuild(&world), Rebuilt { tenants: 2, files: 0, segments: 5, records: 0, forgotten: 5 });
    let ingest = world.ingest();
    let sending = Sending::one(event_with_id("org_acme", EventId::new(NOON, 1)));
    let answer = &at_once(world.send(&ingest, &sending.backfilled()))[0];
    assert_eq!(answer.status, 200, "what the log holds is a replay");
    let id = format!(r#""id":"{}","description":"other","#, EventId::new(NOON, 1).shown());
    let other = Sending::one(event("org_acme", &id)).backfilled();
    assert_eq!(at_once(world.send(&ingest, &other))[0].status, 409, "and other content a conflict");
    go_on(&world);
    at_once(world.check());
}

#[test]
fn an_event_dated_ahead_is_a_replay_when_it_comes_back_after_the_hot_store_forgot_it() {
    let ahead =
        Sending::one(event_with_id("org_acme", EventId::new(NOON.plus_ms(4 * 60 * 1000), 1))).backfilled();
    let world = sealed(std::slice::from_ref(&ahead));
    for minutes in [0, 1, 3, 5] {
        let received = NOON.plus_ms(1_000);
        world.clock.set(received.plus_days(90).plus_ms(minutes * 60 * 1000));
        world.store.sweep(world.clock.now());
        let status = at_once(world.send(&world.ingest(), &ahead))[0].status;
        assert_eq!(status, 200, "{minutes} minutes after the hot store forgot it");
    }
    go_on(&world);
    at_once(world.check());
}

/// A log that went on for two days, and its head at the end of the first.
fn two_days() -> (World, Head) {
    let world = sealed(&named());
    let old = world.head(&world.tenant("org_acme")).unwrap();
    for _ in 0..2 {
        world.clock.advance_ms(HOUR_MS);
        go_on(&world);
    }
    (world, old)
}

#[test]
fn a_head_that_is_lost_or_set_back_makes_no_fork_and_no_event_twice() {
    for hours in [0, 23, 25, 49] {
        for lost in [false, true] {
            let (world, old) = two_days();
            world.clock.advance_ms(hours * HOUR_MS);
            world.store.force_head(&world.tenant("org_acme"), (!lost).then(|| old.clone()));
            let streamed = world.streamed();
            let sealer = world.sealer();
            go_on(&world);
            // Half of it again, by a sealer that has been running and by one that has not.
            at_once(world.deliver(&sealer, &streamed[streamed.len() / 2..]));
            at_once(world.deliver(&world.sealer(), &streamed));
            until_stuck(world.check())
                .unwrap_or_else(|| panic!("{hours} hours, lost: {lost}: unsigned leaves"));
        }
    }
}

#[test]
fn a_head_that_is_set_back_under_a_running_sealer_makes_no_fork() {
    let (world, old) = two_days();
    let (ingest, sealer) = (world.ingest(), world.sealer());
    let tenant = world.tenant("org_acme");
    for n in 0..6 {
        world.clock.advance_ms(HOUR_MS);
        at_once(world.send(&ingest, &Sending::one(event_with_id("org_acme", world.new_id()))));
        at_once(world.seal_stream(&sealer));
        world.store.force_head(&tenant, (n % 2 == 0).then(|| old.clone()));
    }
    at_once(world.deliver(&sealer, &world.streamed()));
    at_once(world.check());
}

#[test]
fn a_lost_segment_index_is_told_and_comes_back_with_a_rebuild() {
    let (world, old) = two_days();
    world.store.lose_caches();
    world.store.force_head(&world.tenant("org_acme"), Some(old));
    let sealer = world.sealer();
    let streamed = world.streamed();
    let outcome = at_once(sealer.seal_all(streamed.clone()));
    let error = &outcome.unsealed.first().expect("a hole in the index goes unnoticed").error;
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(error.to_string().contains("stele rebuild"), "{error}");
    rebuild(&world);
    at_once(world.deliver(&world.sealer(), &streamed));
    at_once(world.check());
}

#[test]
fn a_log_whose_middle_is_gone_is_not_gone_on_with() {
    let (world, _) = two_days();
    let whole = at_once(Exhibit::of(world.objects.as_ref()));
    let gone =
        whole.0.keys().filter(|key| key.starts_with("segments/tenant_id=org_acme/")).nth(2).unwrap().clone();
    let objects = MemoryObjects::new();
    for (key, (bytes, lock)) in whole.without(&gone).0 {
        at_once(objects.put_if_absent(&ObjectKey::parse(&key).unwrap().key(), bytes, lock)).unwrap();
    }
    let clock = Arc::new(ManualClock::new(world.clock.now()));
    let streamed = world.streamed();
    let broken = World::over(Arc::new(objects), clock);

    let error = at_once(broken.rebuild().run(&|_| {})).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(error.to_string().contains("nothing beyond leaf"), "{error}");

    // The database is there, but its head must be validated: a sealer stops too.
    let tenant = broken.tenant("org_acme");
    broken.store.force_head(&tenant, None);
    let own: Vec<_> = streamed.into_iter().filter(|record| &record.tenant == tenant.id()).collect();
    let error = at_once(broken.sealer().seal(&tenant, &own)).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    let report = at_once(broken.verify());
    let places: Vec<_> =
        report.logs.iter().flat_map(|log| &log.findings).map(|finding| &finding.at).collect();
    assert!(places.contains(&&gone), "{places:?}");
}
