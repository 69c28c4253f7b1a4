//! SIGKILL at any moment under load: what was acknowledged is there, once, sealed and proven.
//!
//! Killing a process does not lose what the operating system holds for the disk; that every acknowledgement
//! waits for the disk is for the stores' own tests to say.

use crate::process::{self, Client, Sealed, Stele};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stele::id::EventId;
use stele::ports::Clock;
use stele_adapters::clock::{SeededRandom, SystemClock};

const CLIENTS: u64 = 4;
const TENANTS: u64 = 3;
/// Every so many kills there is one while it starts.
const EARLY_EVERY: u64 = 4;
/// Answered requests a client remembers, to send them again.
const ANSWERED_MAX: usize = 64;

/// A request that is sent until it is acknowledged.
#[derive(Clone)]
pub(crate) struct Request {
    path: &'static str,
    idempotency_key: Option<String>,
    body: String,
}

impl Request {
    /// One event.
    pub(crate) fn one(body: String) -> Request {
        Request { path: "/v1/events", idempotency_key: None, body }
    }

    /// Several.
    pub(crate) fn batch(events: &[String]) -> Request {
        Request {
            path: "/v1/events/batch",
            idempotency_key: None,
            body: format!(r#"{{"events":[{}]}}"#, events.join(",")),
        }
    }

    /// Whether every event in it has an id that says its time, so that it is known for good.
    pub(crate) fn has_ids_of_ours(&self) -> bool {
        let events = self.body.matches("\"actor\":").count();
        let of_ours =
            self.body.matches("\"id\":\"evt_").count() + self.body.matches("\"occurred_at\":").count();
        events == of_ours
    }
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    /// Told to come again.
    NotNow,
    /// No answer: whether it is stored nobody knows.
    Down,
}

/// A client's memory: what it was promised, and what it still has to send.
pub(crate) struct Sender {
    name: u64,
    chance: SeededRandom,
    sent: u64,
    /// Requests without an answer.
    waiting: Vec<Request>,
    answered: Vec<Request>,
    /// Leaf hashes by id, of all receipts.
    pub(crate) receipts: BTreeMap<EventId, String>,
    /// Requests that were answered as replays although no earlier answer had come: stored, the answer lost.
    lost_answers: u64,
}

impl Sender {
    pub(crate) fn new(name: u64, seed: u64) -> Sender {
        let chance = SeededRandom::new(seed ^ name.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (waiting, answered) = (Vec::new(), Vec::new());
        Sender { name, chance, sent: 0, waiting, answered, receipts: BTreeMap::new(), lost_answers: 0 }
    }

    fn below(&self, n: u64) -> u64 {
        self.chance.next_u64() % n
    }

    /// An event: with an id of our kind, or of its sender's, with or without a time; or without any id.
    fn event(&mut self, kind: u64) -> String {
        self.sent += 1;
        let (now, name) = (SystemClock.now(), format!("c{}-{}", self.name, self.sent));
        let id = match kind {
            0 => {
                let random = u128::from(self.chance.next_u64()) << 64 | u128::from(self.chance.next_u64());
                format!(r#""id":"{}","#, EventId::new(now, random).shown())
            }
            1 => format!(r#""id":"{name}","#),
            2 => format!(r#""id":"{name}","occurred_at":"{now}","#),
            _ => String::new(),
        };
        format!(
            r#"{{{id}"tenant_id":"org_{}","actor":{{"id":"user_{}"}},"action":"invoice.deleted","metadata":{{"name":"{name}"}}}}"#,
            self.below(TENANTS),
            self.below(10)
        )
    }

    /// The next new request.
    pub(crate) fn request(&mut self) -> Request {
        if self.below(3) == 0 {
            let count = 1 + self.below(25);
            let events: Vec<String> = (0..count).map(|n| self.event(n % 3)).collect();
            return Request::batch(&events);
        }
        let kind = self.below(4);
        let mut request = Request::one(self.event(kind));
        request.idempotency_key = (kind == 3).then(|| format!("key-{}-{}", self.name, self.sent));
        request
    }

    /// Sends until it is told to stop or nobody answers.
    fn send_until(&mut self, base: &str, stop: &AtomicBool) {
        let client = Client::new();
        while !stop.load(Ordering::Relaxed) {
            let (request, waited) = match self.below(8) {
                0..=3 if !self.waiting.is_empty() => {
                    let n = self.below(self.waiting.len() as u64) as usize;
                    (self.waiting.swap_remove(n), true)
                }
                // An answer came, and yet it is sent again.
                4 if !self.answered.is_empty() => {
                    let n = self.below(self.answered.len() as u64) as usize;
                    (self.answered.swap_remove(n), false)
                }
                _ => (self.request(), false),
            };
            match self.send(&client, base, &request, waited) {
                Outcome::Acknowledged => {
                    if self.answered.len() == ANSWERED_MAX {
                        self.answered.swap_remove(0);
                    }
                    self.answered.push(request);
                }
                Outcome::NotNow => self.waiting.push(request),
                Outcome::Down => {
                    self.waiting.push(request);
                    return;
                }
            }
        }
    }

    /// Sends what waits for its acknowledgement.
    fn send_waiting(&mut self, base: &str) {
        let client = Client::new();
        let until = Instant::now() + Duration::from_secs(60);
        while let Some(request) = self.waiting.pop() {
            if self.send(&client, base, &request, true) != Outcome::Acknowledged {
                assert!(Instant::now() < until, "`{}` is not acknowledged", request.body);
                self.waiting.push(request);
            }
        }
    }

    /// Sends a request once.
    fn send(&mut self, client: &Client, base: &str, request: &Request, waited: bool) -> Outcome {
        let url = format!("{base}{}", request.path);
        let Some((status, body)) = client.post(&url, request.idempotency_key.as_deref(), &request.body)
        else {
            return Outcome::Down;
        };
        let empty = Vec::new();
        let items: Vec<(u64, &Value)> = match request.path {
            "/v1/events/batch" if status == 200 => body["results"].as_array().unwrap_or(&empty).iter(),
            _ => std::slice::from_ref(&body).iter(),
        }
        .map(|item| (item["status"].as_u64().unwrap_or(u64::from(status)), item))
        .collect();
        let mut outcome = Outcome::Acknowledged;
        let mut replays = 0;
        for (status, item) in items {
            match status {
                200 | 201 => {
                    let id = EventId::parse(item["id"].as_str().unwrap()).unwrap();
                    let hash = item["receipt"]["leaf_hash"].as_str().unwrap().to_owned();
                    let first = self.receipts.entry(id).or_insert_with(|| hash.clone());
                    assert_eq!(*first, hash, "two receipts for `{}`", request.body);
                    replays += u64::from(status == 200);
                }
                429 | 500.. => outcome = Outcome::NotNow,
                _ => panic!("{status} for `{}`: {item}", request.body),
            }
        }
        self.lost_answers += u64::from(waited && replays > 0);
        outcome
    }

    /// Sends new requests, which must all be acknowledged.
    pub(crate) fn send_all(&mut self, stele: &Stele, requests: impl IntoIterator<Item = Request>) {
        self.waiting.extend(requests);
        self.send_waiting(&stele.base);
    }

    /// Reads every event it holds a receipt for until it is sealed, and holds the program to the receipt.
    pub(crate) fn read_back(&self, stele: &Stele) {
        let client = Client::new();
        for (id, hash) in &self.receipts {
            process::eventually("an acknowledged event is sealed", || {
                // Receipts of batches do not name the tenant, so all are asked.
                let found = (0..TENANTS).find_map(|tenant| {
                    let url = format!("{}/v1/events/{}?tenant_id=org_{tenant}", stele.base, id.shown());
                    client.get(&url).filter(|(status, _)| *status == 200)
                });
                let (_, event) = found.unwrap_or_else(|| panic!("`{id}` was acknowledged and can't be read"));
                let integrity = &event["integrity"];
                assert_eq!(integrity["leaf_hash"].as_str(), Some(hash.as_str()), "`{id}`");
                integrity["state"] == "sealed"
            });
        }
    }
}

/// What is sealed is exactly what was acknowledged, and the verifier proves it.
pub(crate) fn check(
    data: &std::path::Path,
    receipts: &BTreeMap<EventId, String>,
) -> BTreeMap<EventId, Sealed> {
    let sealed = process::sealed(data);
    for (id, hash) in receipts {
        let found = sealed.get(id).unwrap_or_else(|| panic!("`{id}` was acknowledged and is not sealed"));
        assert_eq!(&found.leaf_hash, hash, "`{id}` is sealed with another leaf than in its receipt");
    }
    let strangers: Vec<_> = sealed.keys().filter(|id| !receipts.contains_key(id)).collect();
    assert!(strangers.is_empty(), "sealed, but never acknowledged: {strangers:?}");
    let (code, report) = process::verify(data, &[]);
    assert_eq!(code, Some(0), "{report}");
    sealed
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{name}` is a number, not `{text}`")))
}

#[test]
fn killed_under_load_nothing_acknowledged_is_lost_and_nothing_is_twice() {
    let kills = variable("STELE_KILLS").unwrap_or(20);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = variable("STELE_KILL_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    println!("{kills} kills; the same moments again: STELE_KILL_SEED={seed}");
    let (chance, began) = (SeededRandom::new(seed), Instant::now());
    let below = |n: u64| chance.next_u64() % n;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut senders: Vec<Sender> = (0..CLIENTS).map(|name| Sender::new(name, seed)).collect();
    let mut early = 0;
    for n in 0..kills {
        if n % EARLY_EVERY == EARLY_EVERY - 1 {
            let starting = process::spawn(data);
            std::thread::sleep(Duration::from_millis(below(400)));
            starting.kill();
            early += 1;
        }
        let stele = process::start(data);
        let stop = AtomicBool::new(false);
        let base = stele.base.clone();
        std::thread::scope(|scope| {
            for sender in &mut senders {
                scope.spawn(|| sender.send_until(&base, &stop));
            }
            std::thread::sleep(Duration::from_millis(50 + below(1_000)));
            stele.kill();
            stop.store(true, Ordering::Relaxed);
        });
    }
    let stele = process::start(data);
    std::thread::scope(|scope| {
        for sender in &mut senders {
            scope.spawn(|| {
                sender.send_waiting(&stele.base);
                sender.read_back(&stele);
            });
        }
    });
    assert!(stele.stop().success());
    let lost: u64 = senders.iter().map(|sender| sender.lost_answers).sum();
    let receipts = senders.into_iter().flat_map(|sender| sender.receipts).collect();
    let sealed = check(data, &receipts);
    println!(
        "{kills} kills under load and {early} at the start: {} events acknowledged, all sealed once; {lost} requests \
         were stored whose answer was lost; {:.1} s",
        sealed.len(),
        began.elapsed().as_secs_f64()
    );
}

#[test]
fn stopped_by_sigterm_nothing_is_left_unsealed() {
    let folder = tempfile::tempdir().unwrap();
    let mut sender = Sender::new(9, 1);
    for _ in 0..3 {
        let stele = process::start(folder.path());
        let requests: Vec<Request> = (0..20).map(|_| sender.request()).collect();
        sender.send_all(&stele, requests);
        assert!(stele.stop().success());
        check(folder.path(), &sender.receipts);
    }
}

#[test]
fn killed_while_archiving_nothing_is_lost_twice_or_locked_too_short() {
    let kills = variable("STELE_KILLS").unwrap_or(20) / 2;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = variable("STELE_KILL_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    println!("{kills} kills; the same moments again: STELE_KILL_SEED={seed}");
    let chance = SeededRandom::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut sender = Sender::new(7, seed);
    for _ in 0..kills {
        let stele = process::start(data);
        let requests: Vec<Request> = (0..8).map(|_| sender.request()).collect();
        sender.send_all(&stele, requests);
        assert!(stele.stop().success());
        let mut archive = process::command(["archive", "--close-today", "--data"]);
        let mut archive = archive.arg(data).spawn().expect("the program starts");
        std::thread::sleep(Duration::from_millis(chance.next_u64() % 600));
        // It may have ended by then.
        let _ = archive.kill();
        archive.wait().expect("a child that was started");
    }
    let data_name = data.to_str().expect("the folder's name is UTF-8");
    let (code, text) = process::said(&process::run(["archive", "--close-today", "--data", data_name]));
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = process::said(&process::run(["archive", "--close-today", "--data", data_name]));
    assert!(code == Some(0) && text.contains("archived 0 events in 0 files"), "{text}");
    check(data, &sender.receipts);
    let (code, text) = process::said(&process::run(["retention", "report", "--data", data_name]));
    assert_eq!(code, Some(0), "{text}");
}
