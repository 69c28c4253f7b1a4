//! Sealing as Lambda calls it: what can't be sealed is parked, what can be neither comes again, and no fault costs other
//! records than its own.

use crate::world::{HOUR_MS, NOON, Sending, World, at_once, event_with_id};
use aws_lambda_events::event::dynamodb::Event;
use std::sync::Arc;
use stele::id::EventId;
use stele::ports::{Inbox, LockedObjects};
use stele::record::Record;
use stele_adapters::clock::SystemClock;
use stele_adapters::dynamodb::stream::lambda_event_of;
use stele_adapters::faults::{Fault, Faulty};
use stele_adapters::memory_queue::MemoryQueue;
use stele_seal::IdlePublished;

const TENANTS: [&str; 3] = ["org_acme", "org_globex", "org_initech"];

/// Stored records of three tenants, in turn.
fn stored(world: &World, count: u128) -> Vec<Record> {
    let ingest = world.ingest();
    for n in 0..count {
        let event = event_with_id(TENANTS[n as usize % TENANTS.len()], EventId::new(NOON, n));
        at_once(world.send(&ingest, &Sending::one(event)));
    }
    world.take_stream()
}

fn parking(world: &World) -> Arc<MemoryQueue> {
    Arc::new(MemoryQueue::new(world.clock.clone()))
}

fn place(event: &Event, at: usize) -> String {
    event.records[at].change.sequence_number.clone().unwrap()
}

#[test]
fn one_tenants_failure_parks_its_records_and_the_others_are_sealed() {
    let world = World::new();
    let records = stored(&world, 9);
    let (sealer, queue) = (world.sealer(), parking(&world));
    // The head of one tenant can't be read, however often: all of its records are parked, and no other's.
    for nth in 0..50 {
        world.faults.on("heads.head", nth, Fault::Fail);
    }
    let event = lambda_event_of(&records, 1);
    let done = at_once(sealer.handle_stream(&event, &*queue));
    assert_eq!((done.sealed, done.parked), (0, 9));
    assert!(done.failed.is_empty(), "{:?}", done.failed);
    // Some are sealed meanwhile by other means; parked messages then bring the rest, once each.
    world.faults.clear();
    let acme: Vec<Record> = records.iter().filter(|r| r.tenant.as_str() == "org_acme").cloned().collect();
    at_once(world.deliver(&sealer, &acme));
    let waiting = at_once(queue.receive(100)).unwrap();
    assert_eq!(waiting.len(), 3, "a message for each tenant");
    let done = at_once(sealer.handle_parked(&waiting));
    assert_eq!((done.sealed, done.segments, done.failed.len()), (6, 2, 0));
    at_once(world.check());
}

#[test]
fn of_several_tenants_only_the_one_that_fails_is_parked() {
    let world = World::new();
    let records = stored(&world, 6);
    let (sealer, queue) = (world.sealer(), parking(&world));
    // Tenants are sealed in the order of their names; each reads its head once.
    for nth in 1..9 {
        world.faults.on("heads.head", nth, Fault::Fail);
    }
    let done = at_once(sealer.handle_stream(&lambda_event_of(&records, 1), &*queue));
    assert_eq!((done.sealed, done.parked), (4, 2));
    world.faults.clear();
    // As long as it can't be sealed its message comes again; then it is, once.
    for nth in 0..9 {
        world.faults.on("objects.put_if_absent", nth, Fault::Fail);
    }
    let waiting = at_once(queue.receive(100)).unwrap();
    let done = at_once(sealer.handle_parked(&waiting));
    assert_eq!(done.failed, [waiting[0].id.clone()]);
    world.faults.clear();
    let done = at_once(sealer.handle_parked(&waiting));
    assert_eq!((done.sealed, done.failed.len()), (2, 0));
    assert_eq!(at_once(sealer.handle_parked(&waiting)).sealed, 0, "delivered again");
    at_once(world.check());
}

#[test]
fn what_can_not_be_parked_comes_again_by_its_place_in_the_stream() {
    let world = World::new();
    let records = stored(&world, 6);
    let (sealer, queue) = (world.sealer(), parking(&world));
    for nth in 1..9 {
        world.faults.on("heads.head", nth, Fault::Fail);
    }
    world.faults.on("outbox.send", 0, Fault::Fail);
    let event = lambda_event_of(&records, 1);
    let faulty = Faulty::new(queue.clone(), &world.faults);
    let done = at_once(sealer.handle_stream(&event, &faulty));
    let unsealed: Vec<String> =
        (0..6).filter(|at| records[*at].tenant.as_str() == TENANTS[1]).map(|at| place(&event, at)).collect();
    assert_eq!((done.sealed, done.parked, done.failed), (4, 0, unsealed));
    world.faults.clear();
    // Lambda brings everything from the first of them on.
    let again = lambda_event_of(&records[1..], 2);
    let done = at_once(sealer.handle_stream(&again, &faulty));
    assert_eq!((done.sealed, done.failed.len()), (2, 0));
    at_once(world.check());
}

#[test]
fn a_log_that_went_quiet_gets_its_checkpoint_by_the_schedule() {
    let mut world = World::new();
    world.publish_every_ms = HOUR_MS;
    let sealer = world.sealer();
    let checkpoints = |world: &World| {
        let all = at_once(world.objects.list("checkpoints/", None, 1_000)).unwrap();
        all.iter().filter(|object| !object.key.ends_with(".manifest")).count()
    };
    for minute in 0..2 {
        stored(&world, 3);
        world.clock.advance_ms(60_000 * minute);
        let late = world.ingest();
        for (at, tenant) in TENANTS.iter().enumerate() {
            let id = EventId::new(NOON, 100 + u128::from(minute) * 10 + at as u128);
            at_once(world.send(&late, &Sending::one(event_with_id(tenant, id))));
        }
        at_once(world.deliver(&sealer, &world.streamed()));
    }
    assert_eq!(checkpoints(&world), 3, "one for each tenant, and none for what came within the hour");
    let stated = IdlePublished { stated: 3, ..IdlePublished::default() };
    assert_eq!(at_once(sealer.publish_idle()).unwrap(), stated, "no checkpoint is due yet");
    assert_eq!(at_once(sealer.publish_idle()).unwrap(), IdlePublished::default(), "and the day is stated");
    world.clock.advance_ms(HOUR_MS);
    // A call that fails costs one log its turn; the next call mends that.
    for nth in 0..8 {
        world.faults.on("objects.put_if_absent", nth, Fault::Fail);
    }
    let first = at_once(world.sealer().publish_idle()).unwrap();
    assert_eq!((first.published, first.failed), (2, 1));
    world.faults.clear();
    let second = at_once(world.sealer().publish_idle()).unwrap();
    assert_eq!((second.published, second.failed), (1, 0));
    assert_eq!(at_once(sealer.publish_idle()).unwrap(), IdlePublished::default());
    assert_eq!(checkpoints(&world), 6);
    at_once(world.check());
}

#[test]
fn a_change_that_is_no_record_costs_itself_alone() {
    let world = World::new();
    let records = stored(&world, 6);
    let mut event = lambda_event_of(&records, 1);
    let mut torn = event.records[2].clone();
    let leaf = serde_dynamo::AttributeValue::B(b"{\"v\":1}".to_vec());
    let mut image = torn.change.new_image.clone().into_inner();
    image.insert("leaf".to_owned(), leaf);
    torn.change.new_image = image.into();
    torn.change.sequence_number = Some("torn".to_owned());
    event.records.insert(3, torn);
    let queue = parking(&world);
    let done = at_once(world.sealer().handle_stream(&event, &*queue));
    assert_eq!((done.sealed, done.failed), (6, vec!["torn".to_owned()]));
    assert_eq!(done.oldest, Some(NOON));
    at_once(world.check());
    // A parked message that can't be read comes again until it is given up; it holds up no other.
    let garbled = stele::spill::Delivered {
        id: "g".to_owned(),
        receipt: "g".to_owned(),
        sent_at: NOON,
        body: "{}".to_owned(),
    };
    assert_eq!(at_once(world.sealer().handle_parked(&[garbled])).failed, ["g"]);
}

#[test]
fn a_panic_in_one_tenants_sealing_costs_that_tenants_records() {
    let world = World::new();
    let records = stored(&world, 6);
    let sealer = stele_seal::Seal::new(
        world.store.clone(),
        Arc::new(PanicsFor("org_globex", world.objects.clone())),
        world.store.clone(),
        Arc::new(stele_adapters::places::Places::new(
            world.store.clone(),
            world.store.clone(),
            world.objects.clone(),
        )),
        Arc::new(SystemClock),
        stele_seal::SealSettings {
            witnesses: Vec::new(),
            seeds: stele::public_key::SigningSeeds::one(crate::world::SEED),
            publish_every_ms: 0,
        },
    );
    let queue = parking(&world);
    let done = at_once(sealer.handle_stream(&lambda_event_of(&records, 1), &*queue));
    assert_eq!((done.sealed, done.parked, done.failed.len()), (4, 2, 0));
    at_once(world.sealer().handle_parked(&at_once(queue.receive(10)).unwrap()));
    at_once(world.check());
}

/// A bucket whose client panics at the objects of one tenant.
struct PanicsFor(&'static str, Arc<dyn LockedObjects>);

#[async_trait::async_trait]
impl LockedObjects for PanicsFor {
    async fn put_if_absent(
        &self,
        key: &stele::layout::ObjectKey,
        bytes: bytes::Bytes,
        retain_until: stele::time::Timestamp,
    ) -> stele::Result<stele::ports::PutIfAbsent> {
        assert!(!key.as_str().contains(self.0), "as planned");
        self.1.put_if_absent(key, bytes, retain_until).await
    }

    async fn object(
        &self,
        key: &stele::layout::ObjectKey,
    ) -> stele::Result<Option<stele::ports::StoredObject>> {
        self.1.object(key).await
    }

    async fn version(
        &self,
        key: &stele::layout::ObjectKey,
        version: &str,
    ) -> stele::Result<Option<stele::ports::StoredObject>> {
        self.1.version(key, version).await
    }

    async fn range(
        &self,
        key: &stele::layout::ObjectKey,
        version: &str,
        range: std::ops::Range<u64>,
    ) -> stele::Result<Option<bytes::Bytes>> {
        self.1.range(key, version, range).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> stele::Result<Vec<stele::ports::ListedObject>> {
        self.1.list(prefix, after, limit).await
    }
}
