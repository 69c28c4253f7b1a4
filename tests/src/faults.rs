//! The fault table: every call to a store that ingest, drain, seal and rebuild make, failed in every way a remote call
//! can fail. The calls are those observed when nothing fails, so that a new one is in the table by itself.
//! And what the calls cost: how many of them an event takes.

use crate::world::{
    HOUR_MS, NOON, Sending, World, at_once, event, event_with_external_id, event_with_id, until_stuck,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use stele::error::Kind;
use stele::id::EventId;
use stele::ports::{Clock, Inbox, Refusals};
use stele::record::Record;
use stele::time::DAY_MS;
use stele_adapters::dynamodb::stream::lambda_event_of;
use stele_adapters::faults::{CALLS, Fault};
use stele_drain::Drain;
use stele_ingest::Ingest;
use stele_seal::Seal;

/// Threads that work through a table.
const THREADS: usize = 2;
/// More often than anybody tries again within one request or batch.
const PERSISTENT: u64 = 9;
/// More often than any story needs to come through.
pub(crate) const TRIES_MAX: usize = 20;

/// A client and a stream that never give up.
struct Story {
    world: World,
    ingest: Arc<Ingest>,
    drain: Drain,
    sealer: Arc<Seal>,
}

impl Story {
    fn new() -> Story {
        let world = World::new();
        Story { ingest: world.ingest(), drain: world.drain(), sealer: world.sealer(), world }
    }

    /// Sends until there is an answer that is not "try again"; an answer that never comes is a dead process.
    fn send(&mut self, sending: &Sending) -> Vec<u16> {
        for _ in 0..TRIES_MAX {
            match until_stuck(self.world.send(&self.ingest, sending)) {
                Some(answers) if answers.iter().all(|a| a.status != 503) => {
                    return answers.iter().map(|a| a.status).collect();
                }
                Some(_) => {}
                None => self.ingest = self.world.ingest(),
            }
        }
        panic!("no answer to {sending:?}");
    }

    fn accept(&mut self, sending: &Sending) {
        let statuses = self.send(sending);
        // What can't be stored at once goes onto the queue.
        assert!(statuses.iter().all(|s| matches!(s, 200..=202)), "{statuses:?} for {sending:?}");
    }

    /// Sends what is answered so when nothing fails, and is queued when a store fails.
    fn expect(&mut self, sending: &Sending, status: u16) {
        let statuses = self.send(sending);
        assert!(statuses == [status] || statuses == [202], "{statuses:?} for {sending:?}");
    }

    /// Handles what waits in the queue until nothing does; a message is delivered twice.
    fn drain_queue(&mut self) {
        for _ in 0..TRIES_MAX {
            let waiting = at_once(self.world.queue.receive(usize::MAX)).unwrap();
            if waiting.is_empty() {
                return;
            }
            for message in waiting {
                match until_stuck(async {
                    self.drain.handle(&message).await?;
                    self.drain.handle(&message).await
                }) {
                    Some(Ok(_)) => at_once(self.world.queue.delete(&message.receipt)).unwrap(),
                    Some(Err(error)) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
                    None => self.drain = self.world.drain(),
                }
            }
        }
        panic!("a message that is never handled");
    }

    /// Delivers until the batch is sealed.
    fn deliver(&mut self, records: &[Record]) {
        for _ in 0..TRIES_MAX {
            match until_stuck(self.sealer.handle(&lambda_event_of(records, 0))) {
                Some(outcome) => {
                    let outcome = outcome.unwrap();
                    for unsealed in &outcome.unsealed {
                        assert_eq!(unsealed.error.kind(), Kind::Unavailable, "{}", unsealed.error);
                    }
                    if outcome.unsealed.is_empty() {
                        return;
                    }
                }
                None => self.sealer = self.world.sealer(),
            }
        }
        panic!("a batch that is never sealed");
    }

    fn seal_stream(&mut self) {
        let records = self.world.take_stream();
        self.deliver(&records);
    }

    fn redeliver_all(&mut self) {
        let records = self.world.streamed();
        self.deliver(&records);
    }

    /// Events under all kinds of names, from first contact to beyond the hot store's memory.
    fn tell(&mut self) {
        let first = EventId::new(NOON, 1);
        self.accept(&Sending::one(event_with_id("org_acme", first)));
        self.accept(&Sending::one(event("org_acme", "")).with_key("key-1"));
        self.accept(&Sending::one(event_with_external_id("org_acme", "order-1")));
        self.accept(&Sending::batch(&[
            event_with_external_id("org_acme", "order-2"),
            event_with_id("org_globex", EventId::new(NOON, 2)),
            event_with_external_id("org_globex", "order-2"),
        ]));
        self.accept(&Sending::one(event_with_id("org_acme", EventId::new(NOON.minus_days(10), 3))));
        // What waits in the queue: new, of a new tenant, named, known already, in conflict with what is known.
        let other = event("org_acme", &format!(r#""id":"{}","description":"other","#, first.shown()));
        for queued in [
            event_with_id("org_acme", EventId::new(NOON, 20)),
            event_with_id("org_initech", EventId::new(NOON.minus_days(2), 21)),
            event_with_external_id("org_acme", "order-3"),
            event_with_id("org_acme", first),
            other,
        ] {
            assert_eq!(self.send(&Sending::one(queued).respond_async()), [202]);
        }
        self.drain_queue();
        let refused = at_once(self.world.store.refusals(&self.world.tenant("org_acme"), None, 100)).unwrap();
        assert!(refused.iter().any(|refusal| refusal.facts.code == "event_conflict"), "{refused:?}");
        self.seal_stream();
        self.world.clock.advance_ms(1_000);
        self.accept(&Sending::one(event_with_id("org_acme", EventId::new(NOON, 4))));
        self.seal_stream();
        // What is delivered again meets a sealer that knows nothing.
        self.sealer = self.world.sealer();
        self.redeliver_all();
        // The head is too old to be trusted.
        self.world.clock.advance_ms(25 * HOUR_MS);
        self.accept(&Sending::one(event_with_id("org_acme", EventId::new(NOON, 5))));
        self.seal_stream();
        // The head is lost, and the sealer with it.
        self.world.store.force_head(&self.world.tenant("org_acme"), None);
        self.sealer = self.world.sealer();
        self.accept(&Sending::one(event_with_id("org_acme", EventId::new(NOON, 6))));
        self.seal_stream();
        // A retry that comes when the event is too old to be new.
        self.world.clock.advance_ms(40 * DAY_MS);
        self.expect(&Sending::one(event_with_id("org_acme", first)), 200);
        // The hot store has forgotten, the log has not.
        let now = self.world.clock.advance_ms(60 * DAY_MS);
        self.world.store.sweep(now);
        self.expect(&Sending::one(event_with_id("org_acme", first)), 200);
        let other = event("org_acme", &format!(r#""id":"{}","description":"other","#, first.shown()));
        self.expect(&Sending::one(other).backfilled(), 409);
        self.accept(&Sending::one(event_with_id("org_acme", EventId::new(NOON, 7))).backfilled());
        self.seal_stream();
        until_stuck(self.world.check()).expect("a log whose end nobody has signed");
    }
}

/// A call, by its name and how many of that name came before.
pub(crate) type Call = (&'static str, u64);

pub(crate) fn numbered(log: &[(&'static str, Fault)]) -> Vec<Call> {
    let mut counts = BTreeMap::new();
    let number = |(call, _): &(&'static str, Fault)| {
        let count = counts.entry(*call).or_insert(0);
        *count += 1;
        (*call, *count - 1)
    };
    log.iter().map(number).collect()
}

/// Runs a story once per call, way to fail and number of times.
pub(crate) fn every_fault_of(calls: &[Call], story: impl Fn(&dyn Fn(&World)) + Sync) {
    let mut rows = Vec::new();
    for call in calls {
        for fault in Fault::ALL {
            let ends_by_itself = matches!(fault, Fault::Fail | Fault::DoneThenFail);
            let times = if ends_by_itself { &[1, 2, PERSISTENT][..] } else { &[1, 2] };
            rows.extend(times.iter().map(|times| (*call, fault, *times)));
        }
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(((call, nth), fault, times)) = rows.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let row = format!("{call} no. {nth}: {fault:?}, {times} times");
                    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        story(&|world| {
                            for more in 0..*times {
                                world.faults.on(call, nth + more, *fault);
                            }
                        });
                    }));
                    assert!(told.is_ok(), "fails after {row}");
                }
            });
        }
    });
}

#[test]
fn every_call_of_ingest_drain_and_seal_may_fail_in_every_way() {
    let mut story = Story::new();
    story.tell();
    let calls = numbered(&story.world.faults.take_log());
    let names: BTreeSet<&str> = calls.iter().map(|(call, _)| *call).collect();
    let expected = [
        "hot.put",
        "hot.record",
        "hot.mark_late",
        "tenants.tenant",
        "tenants.create_tenant",
        "api_keys.api_key",
        "archive_index.archived_below",
        "heads.head",
        "heads.advance",
        "heads.put_index",
        "heads.index_below",
        "objects.put_if_absent",
        "objects.object",
        "objects.version",
        "objects.list",
        "outbox.send",
        "policies.platform_retention",
        "refusals.refuse",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    assert!(names.iter().all(|name| CALLS.contains(name)));
    every_fault_of(&calls, |plan| {
        let mut story = Story::new();
        plan(&story.world);
        story.tell();
    });
}

/// A sealed history whose database is lost.
fn after_the_loss() -> World {
    let mut story = Story::new();
    story.tell();
    let mut world = story.world;
    world.clock.set(NOON.plus_ms(2 * HOUR_MS));
    world.lose_database();
    world.faults.take_log();
    world
}

#[test]
fn every_call_of_rebuild_may_fail_in_every_way() {
    let rebuild = |plan: &dyn Fn(&World)| {
        let mut world = after_the_loss();
        // Counted from here on: a plan that begins anew.
        world.faults = Default::default();
        plan(&world);
        for _ in 0..TRIES_MAX {
            match until_stuck(world.rebuild().run(&|_| {})) {
                Some(Ok(_)) => break,
                Some(Err(error)) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
                None => {}
            }
        }
        let calls = numbered(&world.faults.take_log());
        world.faults.clear();
        let (sealer, ingest) = (world.sealer(), world.ingest());
        until_stuck(world.seal_stream(&sealer)).unwrap();
        let again = Sending::one(event_with_external_id("org_acme", "order-1"));
        assert_eq!(until_stuck(world.send(&ingest, &again)).unwrap()[0].status, 200);
        until_stuck(world.check()).unwrap();
        calls
    };
    every_fault_of(&rebuild(&|_| {}), |plan| {
        rebuild(plan);
    });
}

/// The calls made by something, by name.
fn calls_of(world: &World, doing: impl Future) -> Vec<(&'static str, u64)> {
    world.faults.take_log();
    at_once(doing);
    let mut counts = BTreeMap::new();
    for (call, _) in world.faults.take_log() {
        *counts.entry(call).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

#[test]
fn accepting_an_event_costs_one_call() {
    let world = World::new();
    let ingest = world.ingest();
    let cost = |sending: Sending| calls_of(&world, world.send(&ingest, &sending));
    let id = |n| EventId::new(NOON, n);
    let new_tenant = [
        ("api_keys.api_key", 1),
        ("hot.put", 1),
        ("policies.platform_retention", 1),
        ("tenants.create_tenant", 1),
        ("tenants.tenant", 1),
    ];
    assert_eq!(cost(Sending::one(event_with_id("org_acme", id(1)))), new_tenant, "a tenant's first event");

    let one = [("hot.put", 1)];
    assert_eq!(cost(Sending::one(event_with_id("org_acme", id(2)))), one, "an id of our kind");
    assert_eq!(cost(Sending::one(event("org_acme", ""))), one, "no id");
    assert_eq!(cost(Sending::one(event_with_external_id("org_acme", "order-1"))), one, "an external id");
    assert_eq!(cost(Sending::one(event("org_acme", "")).with_key("key-1")), one, "an `Idempotency-Key`");
    assert_eq!(cost(Sending::one(event_with_id("org_acme", id(2)))), one, "a replay");
    assert_eq!(
        cost(Sending::one(event_with_external_id("org_acme", "order-1"))),
        one,
        "a replay by external id"
    );
    assert_eq!(cost(Sending::one("{}")), [], "what is refused");

    let batch: Vec<String> = (10..60).map(|n| event_with_id("org_acme", id(n))).collect();
    assert_eq!(cost(Sending::batch(&batch)), [("hot.put", 50)], "a batch of 50");

    let late = |n| Sending::one(event_with_id("org_acme", EventId::new(NOON.minus_days(3), n)));
    assert_eq!(cost(late(1)), [("hot.mark_late", 1), ("hot.put", 1)], "the first of a late day");
    assert_eq!(cost(late(2)), one, "the second of a late day");

    let cold = world.ingest();
    let cost = calls_of(&world, world.send(&cold, &Sending::one(event_with_id("org_acme", id(3)))));
    assert_eq!(cost, [("api_keys.api_key", 1), ("hot.put", 1), ("tenants.tenant", 1)], "a cold start");
}

#[test]
fn sealing_a_batch_costs_the_same_for_one_event_and_for_five_hundred() {
    for (publish_every_ms, puts, title) in
        [(0, 3, "with a checkpoint each time"), (HOUR_MS, 1, "between checkpoints")]
    {
        let mut world = World::new();
        world.publish_every_ms = publish_every_ms;
        let (ingest, sealer) = (world.ingest(), world.sealer());
        let mut n = 0;
        let mut batch = |count| {
            world.clock.advance_ms(1);
            let events: Vec<String> = (n..n + count)
                .map(|n| event_with_id("org_acme", EventId::new(world.clock.now(), n)))
                .collect();
            n += count;
            at_once(world.send(&ingest, &Sending::batch(&events)));
            world.take_stream()
        };
        let first = batch(1);
        at_once(world.deliver(&sealer, &first));
        for count in [1, 500] {
            let records = batch(count);
            let cost = calls_of(&world, world.deliver(&sealer, &records));
            let expected = [
                ("heads.advance", 1),
                ("heads.head", 1),
                ("heads.put_index", 1),
                ("objects.put_if_absent", puts),
                ("tenants.tenant", 1),
            ];
            assert_eq!(cost, expected, "{count} events {title}");
            let cost = calls_of(&world, world.deliver(&sealer, &records));
            let reads = [("heads.head", 1), ("heads.index_below", 1), ("tenants.tenant", 1)];
            assert_eq!(cost, reads, "{count} events delivered again {title}");
        }
    }
}
