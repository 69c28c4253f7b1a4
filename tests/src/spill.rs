//! The spill queue: what is acknowledged with 202 is stored once, however often and in whatever order it is delivered,
//! or is refused where its sender can read why.

use crate::world::{
    NOON, Sending, World, at_once, event, event_with_external_id, event_with_id, platform_key,
};
use std::collections::BTreeSet;
use stele::access::{ApiKey, KeyHash, KeyText, Scope, Secrets};
use stele::id::{EventId, TenantId};
use stele::ports::{ApiKeys, HotStore, Inbox, Outbox, Refusals};
use stele::refusal::Refusal;
use stele::spill::{Delivered, Spilled};
use stele_adapters::clock::SeededRandom;
use stele_adapters::faults::Fault;
use stele_drain::Drained;

/// Every write of an event fails for so long.
const OUTAGE_CALLS: u64 = 10_000;

fn outage(world: &World, fault: Fault) {
    for nth in 0..OUTAGE_CALLS {
        world.faults.on("hot.put", nth, fault);
    }
}

/// Delivers what waits one to five times each, shuffled, and deletes it.
fn deliver_shuffled(world: &World, seed: u64) -> Vec<Drained> {
    let random = SeededRandom::new(seed);
    let below = |n: usize| (random.next_u64() % n as u64) as usize;
    let waiting = at_once(world.queue.receive(usize::MAX)).unwrap();
    let mut deliveries: Vec<&Delivered> =
        waiting.iter().flat_map(|message| std::iter::repeat_n(message, 1 + below(5))).collect();
    for at in (1..deliveries.len()).rev() {
        deliveries.swap(at, below(at + 1));
    }
    let drain = world.drain();
    let drained = deliveries.into_iter().map(|message| at_once(drain.handle(message)).unwrap()).collect();
    for message in &waiting {
        at_once(world.queue.delete(&message.receipt)).unwrap();
    }
    drained
}

fn seal_and_check(world: &World) {
    at_once(world.seal_stream(&world.sealer()));
    at_once(world.check());
}

#[test]
fn while_the_store_refuses_writes_events_are_queued_and_none_is_lost_or_doubled() {
    for (seed, fault) in [(1, Fault::Fail), (2, Fault::DoneThenFail), (3, Fault::Fail)] {
        let world = World::new();
        outage(&world, fault);
        let ingest = world.ingest();
        let mut sent = Vec::new();
        for n in 0..40_u128 {
            sent.push(Sending::one(match n % 4 {
                0 => event_with_id("org_acme", EventId::new(NOON, n)),
                1 => event_with_external_id("org_globex", &format!("order-{n}")),
                2 => event("org_acme", ""),
                _ => event_with_id("org_initech", EventId::new(NOON.minus_days(3), n)),
            }));
        }
        let batch: Vec<String> =
            (100..150).map(|n| event_with_id("org_acme", EventId::new(NOON, n))).collect();
        sent.push(Sending::batch(&batch));
        for sending in &sent {
            let answers = at_once(world.send(&ingest, sending));
            assert!(answers.iter().all(|answer| answer.status == 202), "{answers:?}");
            world.clock.advance_ms(7);
        }
        world.faults.clear();
        let drained = deliver_shuffled(&world, seed);
        assert!(drained.iter().all(|drained| *drained != Drained::Refused));
        let stored = drained.iter().filter(|drained| **drained == Drained::Stored).count();
        assert_eq!(
            stored,
            if fault == Fault::Fail { 90 } else { 0 },
            "what was done is found, not done again"
        );
        seal_and_check(&world);
        // A client that repeats itself gets the receipt it was promised.
        for sending in sent.iter().filter(|sending| !sending.body.contains(r#""id":"order-"#)) {
            let answers = at_once(world.send(&ingest, sending));
            let anonymous = !sending.body.contains("evt_");
            assert!(answers.iter().all(|answer| answer.status == 200 || anonymous), "{answers:?}");
        }
        seal_and_check(&world);
    }
}

#[test]
fn an_event_whose_sender_will_not_wait_is_stored_by_drain_with_its_own_time_of_receipt() {
    let world = World::new();
    let ingest = world.ingest();
    let id = EventId::new(NOON, 1);
    let sending = Sending::one(event_with_id("org_acme", id)).respond_async();
    let response = at_once(ingest.handle(world.request(&sending)));
    assert_eq!(response.status(), 202);
    assert_eq!(response.headers()["preference-applied"], "respond-async");
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body, serde_json::json!({"success": true, "id": id.shown()}));
    world.note(&sending, &response);
    assert!(at_once(world.store.record(&world.tenant("org_acme"), id)).unwrap().is_none());
    let later = world.clock.advance_ms(60_000);
    assert_eq!(deliver_shuffled(&world, 1)[0], Drained::Stored);
    let record = at_once(world.store.record(&world.tenant("org_acme"), id)).unwrap().unwrap();
    assert_eq!((record.received_at, record.occurred_at), (later, NOON));
    seal_and_check(&world);
}

#[test]
fn a_store_that_hangs_behind_a_refused_event_does_not_turn_it_into_an_accepted_one() {
    let world = World::new();
    let ingest = world.ingest();
    // Too old, and whether it is a replay nobody can tell: it is not taken.
    world.faults.on("hot.record", 0, Fault::Fail);
    let old = Sending::one(event_with_id("org_acme", EventId::new(NOON.minus_days(60), 1))).respond_async();
    assert_eq!(at_once(world.send(&ingest, &old))[0].status, 503);
    assert_eq!(at_once(world.send(&ingest, &old))[0].status, 422);
    assert!(at_once(world.queue.receive(1)).unwrap().is_empty());
    // Nor is anything taken that the queue did not take.
    world.faults.on("outbox.send", 0, Fault::Fail);
    let new = Sending::one(event_with_id("org_acme", EventId::new(NOON, 2))).respond_async();
    assert_eq!(at_once(world.send(&ingest, &new))[0].status, 503);
}

#[test]
fn of_two_contents_under_one_id_the_queued_one_is_refused_where_its_tenant_can_read_it() {
    let world = World::new();
    let ingest = world.ingest();
    let id = EventId::new(NOON, 1);
    let other = event("org_acme", &format!(r#""id":"{}","description":"other","#, id.shown()));
    assert_eq!(at_once(world.send(&ingest, &Sending::one(other.clone()).respond_async()))[0].status, 202);
    assert_eq!(at_once(world.send(&ingest, &Sending::one(event_with_id("org_acme", id))))[0].status, 201);
    let drained = deliver_shuffled(&world, 4);
    assert!(drained.iter().all(|drained| *drained == Drained::Refused), "{drained:?}");
    let refused = at_once(world.store.refusals(&world.tenant("org_acme"), None, 10)).unwrap();
    let [refusal] = &refused[..] else { panic!("one message, one refusal: {refused:?}") };
    assert_eq!(
        (refusal.facts.code.as_str(), refusal.facts.event_id.as_deref()),
        ("event_conflict", Some(&*id.shown()))
    );
    assert!(refusal.facts.event.contains(r#""description":"other""#), "what was sent is kept");
    seal_and_check(&world);
}

fn key_of(world: &World, tenant: &str, scopes: &[Scope]) -> String {
    let text = KeyText::new("test", &[tenant.len() as u8 + scopes.len() as u8; 40]);
    let key = ApiKey {
        key_id: text.key_id,
        tenant: TenantId::parse(tenant),
        scopes: scopes.to_vec(),
        name: String::new(),
        created_ms: 0,
        revoked_ms: None,
    };
    at_once(world.store.create_api_key(KeyHash::of(&text.text), &key)).unwrap();
    text.text
}

fn send_directly(world: &World, key: &str, event: &str) -> Vec<Drained> {
    at_once(world.queue.send(format!(r#"{{"api_key":"{key}","event":{event}}}"#))).unwrap();
    world.clock.advance_ms(90_000);
    deliver_shuffled(world, 9)
}

fn unassigned(world: &World) -> Vec<Refusal> {
    at_once(world.store.unassigned_refusals(None, 100)).unwrap()
}

#[test]
fn an_app_may_send_to_the_queue_itself_and_every_delivery_means_the_same_event() {
    let world = World::new();
    let key = key_of(&world, "org_acme", &[Scope::EventsWrite]);
    let event = r#"{"actor":{"id":"job_7","type":"service"},"action":"invoice.deleted"}"#;
    let drained = send_directly(&world, &key, event);
    assert_eq!(drained.iter().filter(|drained| **drained == Drained::Stored).count(), 1, "{drained:?}");
    let [record] = &world.take_stored()[..] else { panic!("one event") };
    assert_eq!((record.occurred_at, record.tenant.as_str()), (NOON, "org_acme"));
    assert_eq!(record.received_at, NOON.plus_ms(90_000), "received when it was stored");
    at_once(world.deliver(&world.sealer(), std::slice::from_ref(record)));
    at_once(world.check());
    assert!(unassigned(&world).is_empty());
}

#[test]
fn a_message_speaks_for_no_tenant_without_its_key() {
    let world = World::new();
    let acme = key_of(&world, "org_acme", &[Scope::EventsWrite]);
    let reader = key_of(&world, "org_reader", &[Scope::EventsRead]);
    let (platform, _) = platform_key(false);
    let event = |tenant: &str| {
        format!(r#"{{"tenant_id":"{tenant}","actor":{{"id":"a"}},"action":"invoice.deleted"}}"#)
    };
    for (key, event, code, tenant) in [
        (acme.as_str(), event("org_globex"), "insufficient_scope", Some("org_acme")),
        (&reader, event("org_reader"), "insufficient_scope", None),
        ("stele_test_unknown_key", event("org_acme"), "invalid_key", None),
        (
            &platform,
            r#"{"actor":{"id":"a"},"action":"invoice.deleted"}"#.to_owned(),
            "validation_failed",
            None,
        ),
        (&acme, r#"{"actor":{},"action":"x"}"#.to_owned(), "validation_failed", Some("org_acme")),
    ] {
        let drained = send_directly(&world, key, &event);
        assert!(drained.iter().all(|drained| *drained == Drained::Refused), "{code}: {drained:?}");
        let id = tenant.and_then(TenantId::parse);
        let newest = unassigned(&world).into_iter().next();
        if id.is_none() {
            let newest = newest.expect("it is kept");
            assert_eq!(newest.facts.code, code);
            assert!(!newest.facts.event.contains(key), "a key is never kept");
        }
    }
    // A record that ingest did not write, under a guessed MAC.
    let ingest = world.ingest();
    at_once(world.send(&ingest, &Sending::one(event("org_globex")).respond_async()));
    let [message] = &at_once(world.queue.receive(10)).unwrap()[..] else { panic!("one message") };
    let forger = Secrets::new([9; 32]);
    let stele::spill::Message::Record(spilled) =
        stele::spill::Message::parse(&message.body, &ingest.acceptor.secrets).unwrap()
    else {
        panic!("a record")
    };
    at_once(world.queue.delete(&message.receipt)).unwrap();
    let forged = Spilled::to_message(&spilled, &forger);
    at_once(world.queue.send(forged)).unwrap();
    assert!(deliver_shuffled(&world, 1).iter().all(|drained| *drained == Drained::Refused));
    assert_eq!(unassigned(&world)[0].facts.code, "invalid_key");
    let stored: BTreeSet<_> = world.take_stored().into_iter().map(|record| record.tenant).collect();
    assert!(stored.is_empty(), "{stored:?}");
}

#[test]
fn what_is_no_message_at_all_is_kept_without_its_keys() {
    let world = World::new();
    let (platform, _) = platform_key(false);
    at_once(world.queue.send(format!("{{\"api_key\":\"{platform}\",\"event\":"))).unwrap();
    assert!(deliver_shuffled(&world, 1).iter().all(|drained| *drained == Drained::Refused));
    let kept = &unassigned(&world)[0].facts;
    assert_eq!(
        (kept.code.as_str(), kept.event.as_str()),
        ("malformed_json", "{\"api_key\":\"stele_…\",\"event\":")
    );
}
