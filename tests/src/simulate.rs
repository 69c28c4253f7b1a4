//! A seeded simulation: clients that retry, a stream and a queue that redeliver and reorder, sealers that race and
//! crash, stores that fail, a clock that jumps, heads that are set back. One thread, one seed, one trace.
//!
//! `STELE_SIM_SEED=7 cargo test -p stele-tests simulate::` runs one seed and prints its trace;
//! `STELE_SIM_SEEDS=100000` runs so many.

use crate::world::{
    HOUR_MS, NOON, Sending, World, at_once, event, event_with_external_id, event_with_id, until_stuck,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use stele::access::Tenant;
use stele::error::{Kind, Result};
use stele::id::EventId;
use stele::ports::{Clock, Inbox};
use stele::record::Record;
use stele::segment::Head;
use stele::spill::Delivered;
use stele::time::Timestamp;
use stele::tlog::hash::Hash;
use stele_adapters::clock::SeededRandom;
use stele_adapters::dynamodb::stream::lambda_event_of;
use stele_adapters::faults::Fault;
use stele_adapters::http::Response;
use stele_drain::{Drain, Drained};
use stele_ingest::Ingest;
use stele_seal::{BatchOutcome, Seal};

const SEEDS_DEFAULT: u64 = 1_000;
/// Turns after which nothing fails any more, so that every simulation ends.
const WILD_TURNS: u64 = 1_500;
/// Turns after which a simulation does not make progress.
const TURNS_MAX: u64 = 30_000;
/// Threads that run simulations.
const THREADS: usize = 2;
const TENANTS: [&str; 2] = ["org_acme", "org_globex"];

type Task = Pin<Box<dyn Future<Output = Done>>>;

/// Work under way.
enum Job {
    Request(Order),
    Batch(Vec<Record>),
    Message(Delivered),
}

enum Done {
    Answered(Response),
    Sealed(Result<BatchOutcome>),
    Drained(Result<Drained>),
}

/// A request and what may become of it.
#[derive(Clone, Debug)]
struct Order {
    sending: Sending,
    /// Another order has the same id and other content: one of them is refused.
    contested: bool,
    /// All that is ever stored for this order has one id.
    name: Option<String>,
}

struct Simulation {
    seed: u64,
    world: World,
    random: SeededRandom,
    ingest: Arc<Ingest>,
    drain: Arc<Drain>,
    sealers: Vec<Arc<Seal>>,
    orders: Vec<Order>,
    batches: Vec<Vec<Record>>,
    running: Vec<(Job, Task)>,
    heads: Vec<(Tenant, Head)>,
    names: BTreeMap<String, EventId>,
    latest: Timestamp,
    went_back: bool,
    skipped_a_day: bool,
    trace: String,
    redeliveries: u64,
    /// How often each message was handled.
    deliveries: BTreeMap<String, u64>,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let random = SeededRandom::new(seed);
        let mut world = World::new();
        world.paced = true;
        world.random = Arc::new(SeededRandom::new(random.next_u64()));
        world.publish_every_ms = [0, 0, HOUR_MS][random.next_u64() as usize % 3];
        let per_mille = [0, 10, 50, 150][random.next_u64() as usize % 4];
        world.faults.randomly(random.next_u64(), per_mille, &[Fault::Fail, Fault::DoneThenFail]);
        let sealers = (0..=random.next_u64() % 3).map(|_| world.sealer()).collect();
        let mut simulation = Simulation {
            seed,
            ingest: world.ingest(),
            drain: Arc::new(world.drain()),
            sealers,
            world,
            random,
            orders: Vec::new(),
            batches: Vec::new(),
            running: Vec::new(),
            heads: Vec::new(),
            names: BTreeMap::new(),
            latest: NOON,
            went_back: false,
            skipped_a_day: false,
            trace: String::new(),
            redeliveries: 0,
            deliveries: BTreeMap::new(),
        };
        simulation.draw_orders();
        simulation
    }

    fn below(&self, n: usize) -> usize {
        (self.random.next_u64() % n.max(1) as u64) as usize
    }

    fn chance(&self, per_mille: u64) -> bool {
        self.random.next_u64() % 1_000 < per_mille
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        writeln!(self.trace, "{what}").unwrap();
    }

    /// What clients will send.
    fn draw_orders(&mut self) {
        let tenants = 1 + self.below(TENANTS.len());
        for n in 0..4 + self.below(8) {
            let tenant = TENANTS[self.below(tenants)];
            let (ten_days, hour) =
                (self.world.clock.now().minus_days(10), self.world.clock.now().minus_ms(HOUR_MS));
            let id = EventId::new(
                if self.chance(300) { ten_days } else { hour },
                u128::from(self.random.next_u64()),
            );
            let order = |sending, name| Order { sending, contested: false, name };
            match self.below(8) {
                0 | 1 => {
                    let order = order(Sending::one(event_with_id(tenant, id)), Some(format!("id {id}")));
                    if self.chance(200) {
                        let other = event(tenant, &format!(r#""id":"{id}","outcome":"denied","#));
                        self.orders.push(Order { sending: Sending::one(other), contested: true, name: None });
                        self.orders.push(Order { contested: true, ..order });
                    } else {
                        self.orders.push(order);
                    }
                }
                2 => self.orders.push(order(
                    Sending::one(event_with_external_id(tenant, &format!("order-{n}"))),
                    Some(format!("external id {n}")),
                )),
                3 => self.orders.push(order(
                    Sending::one(event(tenant, "")).with_key(&format!("key-{n}")),
                    Some(format!("key {n}")),
                )),
                4 => self.orders.push(order(Sending::one(event(tenant, "")), None)),
                5 => {
                    let old = self.world.clock.now().minus_days(40 + n as u32);
                    let old = event(tenant, &format!(r#""id":"old-{n}","occurred_at":"{old}","#));
                    self.orders.push(order(Sending::one(old).backfilled(), Some(format!("backfilled {n}"))));
                }
                _ => {
                    let events: Vec<String> = (0..1 + self.below(6))
                        .map(|m| match self.below(3) {
                            0 => event_with_external_id(
                                TENANTS[self.below(tenants)],
                                &format!("batch-{n}-{m}"),
                            ),
                            1 => event(tenant, ""),
                            _ => {
                                event_with_id(tenant, EventId::new(hour, u128::from(self.random.next_u64())))
                            }
                        })
                        .collect();
                    self.orders.push(order(Sending::batch(&events), None));
                }
            }
            if self.chance(250)
                && let Some(last) = self.orders.last().cloned()
            {
                self.orders.push(last);
            }
            let respond_async = self.chance(200);
            if let Some(last) = self.orders.last_mut() {
                last.sending.respond_async = respond_async;
            }
        }
    }

    /// Runs to the end and checks; returns the trace.
    fn run(mut self) -> String {
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "no end in sight");
            let wild = turn < WILD_TURNS;
            if turn == WILD_TURNS {
                self.world.faults.clear();
            }
            self.start_work();
            if self.running.is_empty() {
                if !self.poll_stream() {
                    break;
                }
                continue;
            }
            match self.below(1_000) {
                0..12 if wild => self.crash(),
                12..16 if wild => self.ingest = self.world.ingest(),
                500..502 if wild => self.drain = Arc::new(self.world.drain()),
                16..20 if wild => {
                    let which = self.below(self.sealers.len());
                    self.sealers[which] = self.world.sealer();
                }
                20..24 if wild => self.jump(),
                24..32 => self.watch_heads(),
                32..37 if wild => self.set_head_back(),
                37..70 => {
                    self.poll_stream();
                }
                70..75 => self.redeliver(),
                _ => self.turn(),
            }
        }
        self.finish();
        self.trace
    }

    /// Starts what has room to run.
    fn start_work(&mut self) {
        let requests = self.running.iter().filter(|(job, _)| matches!(job, Job::Request(_))).count();
        if requests < 3 && !self.orders.is_empty() {
            let order = self.orders.swap_remove(self.below(self.orders.len()));
            let (ingest, request) = (self.ingest.clone(), self.world.request(&order.sending));
            let task = Box::pin(async move { Done::Answered(ingest.handle(request).await) });
            self.running.push((Job::Request(order), task));
        }
        self.start_draining();
        let sealing = self.running.iter().filter(|(job, _)| matches!(job, Job::Batch(_))).count();
        if sealing < self.sealers.len() && !self.batches.is_empty() {
            let mut batch = self.batches.swap_remove(self.below(self.batches.len()));
            if batch.len() > 1 && self.chance(200) {
                let rest = batch.split_off(1 + self.below(batch.len() - 1));
                self.batches.push(rest);
            }
            let sealer = self.sealers[self.below(self.sealers.len())].clone();
            let event = lambda_event_of(&batch, 0);
            let task = Box::pin(async move { Done::Sealed(sealer.handle(&event).await) });
            self.running.push((Job::Batch(batch), task));
        }
    }

    /// Lets drain handle a message, any of those that wait.
    fn start_draining(&mut self) {
        let running = self.running.iter().filter(|(job, _)| matches!(job, Job::Message(_))).count();
        let waiting = at_once(self.world.queue.receive(usize::MAX)).unwrap();
        if running < 2 && !waiting.is_empty() {
            let message = waiting[self.below(waiting.len())].clone();
            let (drain, delivered) = (self.drain.clone(), message.clone());
            let task = Box::pin(async move { Done::Drained(drain.handle(&delivered).await) });
            self.running.push((Job::Message(message), task));
        }
    }

    /// A message that was handled is deleted, or delivered again: up to five times.
    fn drained(&mut self, message: &Delivered, outcome: Result<Drained>) {
        self.note(format_args!("drained {} {outcome:?}", message.id));
        match outcome {
            Ok(_) => {
                let handled = self.deliveries.entry(message.id.clone()).or_insert(0);
                *handled += 1;
                let enough = *handled >= 5;
                if enough || self.chance(600) {
                    at_once(self.world.queue.delete(&message.receipt)).unwrap();
                }
            }
            Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
        }
    }

    /// Lets one task go on to its next call, or from its call to its answer.
    fn turn(&mut self) {
        let which = self.below(self.running.len());
        let mut ctx = Context::from_waker(Waker::noop());
        let done = match self.running[which].1.as_mut().poll(&mut ctx) {
            Poll::Pending => None,
            Poll::Ready(done) => Some(done),
        };
        for (call, fault) in self.world.faults.take_log() {
            self.note(format_args!("{which} {call} {fault:?}"));
        }
        if let Some(done) = done {
            let (job, _) = self.running.swap_remove(which);
            self.end(job, done);
        }
    }

    fn end(&mut self, job: Job, done: Done) {
        match (job, done) {
            (Job::Request(order), Done::Answered(response)) => self.answered(order, &response),
            (Job::Batch(batch), Done::Sealed(outcome)) => self.sealed(batch, outcome),
            (Job::Message(message), Done::Drained(outcome)) => self.drained(&message, outcome),
            _ => unreachable!("requests are answered, batches are sealed, messages are drained"),
        }
    }

    fn answered(&mut self, order: Order, response: &Response) {
        let answers = self.world.note(&order.sending, response);
        self.note(format_args!("answer {answers:?}"));
        let mut again = false;
        for answer in &answers {
            match (answer.status, &answer.receipt, &order.name) {
                (200 | 201, Some((id, _)), Some(name)) if !self.skipped_a_day => {
                    let first = *self.names.entry(name.clone()).or_insert(*id);
                    assert_eq!(first, *id, "{name} has two events");
                }
                // Queued, because it asked for that or because the store did not answer.
                (200..=202, ..) => {}
                (409, ..) => assert!(order.contested, "conflict for {:?}", order.sending),
                // Its time was in the future then.
                (422, ..) => assert!(self.went_back, "refused: {:?}", order.sending),
                (503, ..) => again = true,
                (status, ..) => panic!("{status} for {:?}: {:?}", order.sending, response.body()),
            }
        }
        if again {
            self.orders.push(order);
        }
    }

    fn sealed(&mut self, batch: Vec<Record>, outcome: Result<BatchOutcome>) {
        let outcome = outcome.unwrap_or_else(|error| panic!("a batch that can't be sealed: {error}"));
        let (sealed, replayed) = (outcome.sealed, outcome.replayed);
        self.note(format_args!("sealed {sealed} replayed {replayed} of {}", batch.len()));
        for unsealed in outcome.unsealed {
            assert_eq!(unsealed.error.kind(), Kind::Unavailable, "{}", unsealed.error);
            self.note(format_args!("parked {} of {}", unsealed.records.len(), unsealed.tenant));
            self.batches.push(unsealed.records);
        }
    }

    /// The process behind a task dies. Clients send again, the stream delivers again.
    fn crash(&mut self) {
        let which = self.below(self.running.len());
        let (job, _task_dropped_where_it_stands) = self.running.swap_remove(which);
        self.note(format_args!("crash of {which}"));
        match job {
            Job::Request(order) => self.orders.push(order),
            Job::Batch(batch) => self.batches.push(batch),
            // It stays in the queue until it is deleted.
            Job::Message(_) => {}
        }
    }

    fn jump(&mut self) {
        let now = self.world.clock.now();
        let then = match self.below(6) {
            0 => now.minus_ms(2 * HOUR_MS),
            1 => now.minus_ms(10 * 60 * 1000),
            2 => now.plus_ms(HOUR_MS * 3 / 2),
            3 if self.chance(100) => now.plus_ms(25 * HOUR_MS),
            _ => now.plus_ms(self.random.next_u64() % 60_000),
        };
        self.note(format_args!("clock {then}"));
        self.world.clock.set(then);
        self.latest = self.latest.max(then);
        self.went_back |= then < now;
        if then.ms() - now.ms().min(then.ms()) >= 24 * HOUR_MS {
            // Names are remembered for a day; what comes later under the same name is another event.
            self.skipped_a_day = true;
        }
    }

    fn watch_heads(&mut self) {
        for tenant in self.world.tenants() {
            if let Some(head) = self.world.head(&tenant) {
                self.heads.push((tenant, head));
            }
        }
    }

    /// An old copy of a head comes back, or it is lost.
    fn set_head_back(&mut self) {
        if self.heads.is_empty() {
            return;
        }
        let (tenant, head) = self.heads[self.below(self.heads.len())].clone();
        let head = (!self.chance(400)).then_some(head);
        let size = head.as_ref().map(Head::size);
        self.note(format_args!("head of {} is {size:?}", tenant.id()));
        self.world.store.force_head(&tenant, head);
    }

    /// The stream hands out what is new, in pieces.
    fn poll_stream(&mut self) -> bool {
        let mut records = self.world.take_stored();
        let any = !records.is_empty();
        while !records.is_empty() {
            let count = (1 + self.below(6)).min(records.len());
            self.batches.push(records.drain(..count).collect());
        }
        any
    }

    fn redeliver(&mut self) {
        let all = self.world.streamed();
        if all.is_empty() || self.redeliveries >= 8 {
            return;
        }
        self.redeliveries += 1;
        let batch: Vec<Record> = (0..1 + self.below(5)).map(|_| all[self.below(all.len())].clone()).collect();
        self.note(format_args!("redelivered {}", batch.len()));
        self.batches.push(batch);
    }

    /// Days later the stream is delivered once more from its beginning; then all must be well.
    fn finish(&mut self) {
        self.world.paced = false;
        self.world.faults.clear();
        assert!(at_once(self.world.queue.receive(1)).unwrap().is_empty(), "a message is left");
        let sealer = self.world.sealer();
        // The first day brings what is missing into the log, the second signs it where checkpoints are rare.
        for day in [1, 2] {
            self.world.clock.set(self.latest.plus_ms(day * 25 * HOUR_MS));
            at_once(self.world.deliver(&sealer, &self.world.streamed()));
        }
        until_stuck(self.world.check()).expect("a log whose end nobody has signed");
        let objects = at_once(self.world.objects.list("", None, 10_000)).unwrap();
        let keys: BTreeSet<_> = objects.iter().map(|o| (&o.key, o.bytes)).collect();
        let heads: Vec<_> =
            self.world.tenants().iter().map(|t| self.world.head(t).map(|h| h.checkpoint)).collect();
        writeln!(self.trace, "seed {} ends with {keys:?} {heads:?}", self.seed).unwrap();
    }
}

/// The trace, or how it failed.
fn simulate(seed: u64) -> std::result::Result<String, String> {
    catch_unwind(AssertUnwindSafe(|| Simulation::new(seed).run())).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{variable}` is `{text}`, not a number")))
}

#[test]
fn whatever_fails_nothing_is_lost_or_twice_and_everything_verifies() {
    if let Some(seed) = number("STELE_SIM_SEED") {
        println!("{}", Simulation::new(seed).run());
        return;
    }
    let seeds = number("STELE_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let next = AtomicU64::new(0);
    let failures: Vec<(u64, String)> = std::thread::scope(|scope| {
        let run = || {
            let mut failures = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= seeds {
                    return failures;
                }
                failures.extend(simulate(seed).err().map(|failure| (seed, failure)));
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (count, mut shown) = (failures.len(), failures);
    shown.sort();
    shown.truncate(5);
    let shown: Vec<String> = shown
        .iter()
        .map(|(seed, failure)| {
            format!("STELE_SIM_SEED={seed} cargo test -p stele-tests simulate:: -- --nocapture\n{failure}")
        })
        .collect();
    assert!(count == 0, "{count} of {seeds} seeds fail:\n{}", shown.join("\n\n"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut traces = BTreeSet::new();
    for seed in 0..20 {
        let [first, second] = [(); 2].map(|()| simulate(seed));
        assert_eq!(first, second, "STELE_SIM_SEED={seed}");
        traces.insert(first.map(|trace| Hash::of(trace.as_bytes()).to_string()));
    }
    assert_eq!(traces.len(), 20, "seeds that differ in nothing");
}
