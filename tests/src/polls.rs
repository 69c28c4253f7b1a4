//! Those who keep asking: the feed gives every sealed event once and in order while events arrive, are sealed, archived and
//! expire between two polls; the tail shows what is received, each event once.

use crate::world::{GOVERNOR, HOUR_MS, Sending, World, at_once, leaves_of};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use stele::id::EventId;
use stele::ports::{Clock, HotStore, Put};
use stele::record::Record;
use stele::time::Timestamp;
use stele_query::Query;

const TENANT: &str = "org_feed";

fn request(path: &str) -> stele_adapters::http::Request {
    let key = format!("Bearer {GOVERNOR}");
    http::Request::get(path).header("authorization", key).body(Bytes::new()).unwrap()
}

fn asked(query: &Query, path: &str) -> (u16, Value) {
    let response = at_once(query.handle(request(path)));
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
}

fn page(query: &Query, path: &str) -> Value {
    let (status, page) = asked(query, path);
    assert_eq!(status, 200, "{path}: {page}");
    page
}

fn event(world: &World, n: u64) -> String {
    let action = ["invoice.deleted", "user.created"][(n % 2) as usize];
    let id = EventId::new(world.clock.now().minus_ms(n % 5 * HOUR_MS), u128::from(world.random.next_u64()));
    format!(
        r#"{{"tenant_id":"{TENANT}","id":"{}","action":"{action}","actor":{{"id":"u{}"}},"metadata":{{"n":{n}}}}}"#,
        id.shown(),
        n % 3
    )
}

/// Somebody who polls the feed.
struct Poller {
    filter: &'static str,
    after: Option<u64>,
    seen: Vec<(u64, String, Value)>,
    expired: Vec<(u64, u64)>,
}

impl Poller {
    fn new(filter: &'static str) -> Poller {
        Poller { filter, after: None, seen: Vec::new(), expired: Vec::new() }
    }

    /// One poll; says whether it has caught up.
    fn poll(&mut self, query: &Query, limit: u64) -> bool {
        let after = self.after.map(|after| format!("&after={after}")).unwrap_or_default();
        let page = page(query, &format!("/v1/feed?tenant_id={TENANT}&limit={limit}{after}{}", self.filter));
        let next = page["next_after"].as_u64();
        assert!(next >= self.after, "{page}");
        if let Some(expired) = page["expired"].as_object() {
            let (from, to) = (expired["from"].as_u64().unwrap(), expired["to"].as_u64().unwrap());
            assert_eq!(
                from,
                self.after.map_or(0, |after| after + 1),
                "a gap begins where the last answer ended"
            );
            assert!(from <= to && Some(to) <= next, "{page}");
            self.expired.push((from, to));
        }
        let events = page["events"].as_array().unwrap();
        assert!(events.len() as u64 <= limit);
        for event in events {
            let index = event["integrity"]["leaf_index"].as_u64().unwrap();
            assert!(self.seen.last().is_none_or(|(last, ..)| *last < index), "leaf {index} comes again");
            assert!(Some(index) > self.after && Some(index) <= next, "leaf {index} outside its answer");
            self.seen.push((index, event["id"].as_str().unwrap().to_owned(), event.clone()));
        }
        let size = page["tree_size"].as_u64().unwrap();
        let caught_up = page["caught_up"].as_bool().unwrap();
        assert_eq!(caught_up, next.map_or(0, |next| next + 1) == size, "{page}");
        self.after = next;
        caught_up
    }
}

#[test]
fn a_feed_gives_every_leaf_once_while_everything_goes_on_between_polls() {
    for seed in 0..12 {
        let world = World::new();
        let roll = stele_adapters::clock::SeededRandom::new(seed);
        let below = |n: u64| roll.next_u64() % n;
        let (ingest, sealer) = (world.ingest(), world.sealer());
        let mut all = Poller::new("");
        let mut some = Poller::new("&q=action:user.*+-metadata.n:%3E40&actor_id=u1&actor_id=u2");
        let mut n = 0;
        for _ in 0..60 {
            match below(6) {
                0 | 1 => {
                    let events: Vec<String> = (0..=below(25)).map(|more| event(&world, n + more)).collect();
                    n += events.len() as u64;
                    let answers = at_once(world.send(&ingest, &Sending::batch(&events)));
                    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
                }
                2 => {
                    at_once(world.seal_stream(&sealer));
                }
                3 if n > 0 => {
                    at_once(world.compact(&world.compactor(), TENANT, below(2) == 0)).unwrap();
                }
                4 => {
                    world.clock.advance_ms(1 + below(5 * HOUR_MS));
                }
                _ => {}
            }
            if n > 0 {
                // A cold process each time, or the same one.
                let query = world.query();
                for _ in 0..=below(2) {
                    all.poll(&query, 1 + below(30));
                    some.poll(&query, 1 + below(8));
                }
            }
        }
        at_once(world.seal_stream(&sealer));
        let query = world.query();
        while !all.poll(&query, 1_000) {}
        while !some.poll(&query, 1) {}
        assert!(all.expired.is_empty() && some.expired.is_empty());

        // All leaves, without a gap.
        assert!(all.seen.iter().zip(0..).all(|((index, ..), n)| *index == n), "seed {seed}");
        let size = world.head(&world.tenant(TENANT)).unwrap().size().to_u64();
        assert_eq!(all.seen.len() as u64, size);
        assert_eq!(world.acknowledged().len() as u64, size, "seed {seed}");
        // Those a filter asks for, neither more nor fewer.
        let wanted: Vec<u64> = all
            .seen
            .iter()
            .filter(|(_, _, event)| {
                event["action"] == "user.created"
                    && event["metadata"]["n"].as_u64().unwrap() <= 40
                    && event["actor"]["id"] != "u0"
            })
            .map(|(index, ..)| *index)
            .collect();
        assert_eq!(some.seen.iter().map(|(index, ..)| *index).collect::<Vec<_>>(), wanted, "seed {seed}");
        // From anywhere.
        for after in [0, size / 2, size - 1] {
            let page = page(&query, &format!("/v1/feed?tenant_id={TENANT}&after={after}&limit=1"));
            let first = page["events"].get(0).map(|event| event["integrity"]["leaf_index"].as_u64().unwrap());
            assert_eq!(first, Some(after + 1).filter(|next| *next < size));
        }
        let (status, problem) = asked(&query, &format!("/v1/feed?tenant_id={TENANT}&after={size}"));
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &Value::from("after")));
    }
}

#[test]
fn a_feed_agrees_with_the_log_and_says_where_each_event_lies() {
    let world = World::new();
    world.sealed(TENANT, 30);
    at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
    world.sealed(TENANT, 12);
    let query = world.query();
    let mut all = Poller::new("");
    while !all.poll(&query, 7) {}
    let stored = at_once(leaves_of(&world, TENANT));
    let fed: BTreeSet<_> = all.seen.iter().map(|(index, id, _)| (*index, id.clone())).collect();
    let expected: BTreeSet<_> = stored.iter().map(|(index, id)| (index.to_u64(), id.shown())).collect();
    assert_eq!(fed, expected);
    for (filter, count) in
        [("&q=is:archived", 30), ("&q=is:sealed", 42), ("&q=is:recorded", 0), ("&q=-is:archived", 12)]
    {
        let mut some = Poller::new(filter);
        while !some.poll(&query, 1_000) {}
        assert_eq!(some.seen.len(), count, "{filter}");
        assert_eq!(some.after, Some(41), "what is passed over is done with");
    }
    // What one event shows is what it shows elsewhere.
    let shown = page(&query, &format!("/v1/events/{}?tenant_id={TENANT}", all.seen[3].1));
    assert_eq!(all.seen[3].2, shown);
}

#[test]
fn a_feed_tells_what_has_expired_and_goes_on_behind_it() {
    let world = World::new();
    world.sealed(TENANT, 20);
    world.classify(TENANT, 90);
    at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
    world.clock.advance_ms(100 * 24 * HOUR_MS);
    world.sealed(TENANT, 5);
    at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
    world.sealed(TENANT, 5);
    let gone = at_once(world.objects.expire(world.clock.now()));
    assert!(gone.iter().any(|key| key.starts_with("archive/")), "{gone:?}");
    // Whether or not anybody has written it down.
    for reconciled in [false, true] {
        if reconciled {
            let until = world.clock.now().plus_days(1);
            let tenant = world.tenant(TENANT);
            at_once(world.reconciler().reconcile(tenant.id(), until)).unwrap();
            assert!(world.archive_entries(&tenant).iter().any(|entry| entry.expired.is_some()));
        }
        let query = world.query();
        let mut all = Poller::new("");
        while !all.poll(&query, 4) {}
        assert_eq!(all.expired, [(0, 19)]);
        assert!(all.seen.iter().map(|(index, ..)| *index).take(10).eq(20..30));
        // In the middle of it, too.
        let mut late = Poller::new("");
        late.after = Some(7);
        late.poll(&query, 1);
        assert_eq!((late.expired.as_slice(), late.seen[0].0), ([(8, 19)].as_slice(), 20));
    }
}

#[tokio::test]
async fn a_poll_waits_for_something_new_and_no_longer() {
    let world = World::new();
    world.sealed(TENANT, 3);
    let query = world.query();
    let path = |wait: u32| format!("/v1/feed?tenant_id={TENANT}&after=2&wait={wait}");
    let begun = Instant::now();
    let response = query.handle(request(&path(1))).await;
    let page: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!((page["events"].as_array().unwrap().len(), page["next_after"].as_u64()), (0, Some(2)));
    assert!(begun.elapsed() >= Duration::from_millis(900), "it did not wait");
    // On one thread: who waits must let others work.
    let (response, ()) = tokio::join!(query.handle(request(&path(20))), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.sealed(TENANT, 1);
    });
    let page: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(page["events"][0]["integrity"]["leaf_index"], 3);
    assert!(begun.elapsed() < Duration::from_secs(15), "it waited on although there was news");
}

/// Somebody who follows the tail.
struct Follower {
    filter: &'static str,
    since: Option<String>,
    seen: Vec<String>,
}

impl Follower {
    fn new(filter: &'static str) -> Follower {
        Follower { filter, since: None, seen: Vec::new() }
    }

    fn poll(&mut self, query: &Query, limit: u64) -> Value {
        let since = self.since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let path = format!("/v1/events/tail?tenant_id={TENANT}&limit={limit}{since}{}", self.filter);
        let page = page(query, &path);
        for event in page["events"].as_array().unwrap() {
            let id = event["id"].as_str().unwrap().to_owned();
            assert!(!self.seen.contains(&id), "`{id}` comes again");
            self.seen.push(id);
        }
        self.since = Some(page["next_since"].as_str().unwrap().to_owned());
        page
    }
}

#[test]
fn a_tail_shows_what_is_received_once_and_in_that_order() {
    let world = World::new();
    let ingest = world.ingest();
    let send = |count: u64, from: u64| {
        let events: Vec<String> = (0..count)
            .map(|n| {
                let id = EventId::new(
                    world.clock.now().minus_ms(n % 7 * 100),
                    u128::from(world.random.next_u64()),
                );
                format!(
                    r#"{{"tenant_id":"{TENANT}","id":"{}","action":"a.b","actor":{{"id":"u{}"}}}}"#,
                    id.shown(),
                    (from + n) % 2
                )
            })
            .collect();
        let answers = at_once(world.send(&ingest, &Sending::batch(&events)));
        answers.into_iter().map(|answer| answer.receipt.unwrap().0.shown()).collect::<Vec<_>>()
    };
    let mut sent = send(40, 0);
    world.clock.advance_ms(HOUR_MS);
    sent.extend(send(3, 0));
    let query = world.query();
    let mut tail = Follower::new("");
    let first = tail.poll(&query, 10);
    assert_eq!(first["events"].as_array().unwrap().len(), 10, "the newest to begin with");
    assert!(sent[40..].iter().all(|id| tail.seen[7..].contains(id)), "the newest are the last");
    tail.seen.clear();

    let mut ones = Follower::new("&q=actor:u1");
    ones.poll(&query, 1);
    ones.seen.clear();
    sent.clear();
    for round in 0..30 {
        sent.extend(send(round % 9, round));
        world.clock.advance_ms(round % 4 * 1_700);
        tail.poll(&query, 5);
        ones.poll(&query, 2);
    }
    for _ in 0..60 {
        tail.poll(&query, 5);
        ones.poll(&query, 2);
    }
    assert_eq!(BTreeSet::from_iter(&tail.seen), BTreeSet::from_iter(&sent));
    let of_one: Vec<&String> = tail
        .seen
        .iter()
        .filter(|id| {
            let id = EventId::parse(id).unwrap();
            at_once(world.store.record(&world.tenant(TENANT), id)).unwrap().unwrap().actor_id == "u1"
        })
        .collect();
    assert_eq!(BTreeSet::from_iter(ones.seen.iter()), BTreeSet::from_iter(of_one));
}

#[test]
fn a_tail_does_not_lose_what_takes_seconds_to_be_seen() {
    let world = World::new();
    world.sealed(TENANT, 1);
    let query = world.query();
    let mut tail = Follower::new("");
    tail.poll(&query, 50);
    tail.seen.clear();
    // Received five seconds ago, and stored only now.
    world.clock.advance_ms(60_000);
    tail.poll(&query, 50);
    let tenant = world.tenant(TENANT);
    let record = |ago: u64, random: u128| {
        let at = world.clock.now().minus_ms(ago);
        let id = EventId::new(at, random);
        let leaf = format!(
            r#"{{"action":"a.b","actor":{{"id":"u","type":"user"}},"id":"{id}","key_id":"k","occurred_at":"{at}","outcome":"success","received_at":"{at}","tenant_id":"{TENANT}","v":1}}"#
        );
        Record::from_leaf(leaf.into_bytes()).unwrap()
    };
    for (ago, random) in [(5_000, 1), (9_000, 2)] {
        let put = Put { record: record(ago, random), expires: Timestamp::MAX, remember: None };
        at_once(world.store.put(&tenant, &put)).unwrap();
        tail.poll(&query, 50);
        tail.poll(&query, 50);
    }
    assert_eq!(tail.seen.len(), 2);
}

#[test]
fn a_tail_shows_all_of_batches_that_are_larger_than_what_a_cursor_remembers() {
    for limit in [50, 100, 200] {
        let world = World::new();
        world.sealed(TENANT, 1);
        let query = world.query();
        let mut tail = Follower::new("");
        tail.poll(&query, limit);
        tail.seen.clear();
        world.clock.advance_ms(60_000);
        tail.poll(&query, limit);
        let mut sent = BTreeSet::new();
        let ingest = world.ingest();
        // All events of a batch are received at one time; the second comes in the middle of following the first.
        for polls in [2, 40] {
            let events: Vec<String> = (0..500).map(|n| event(&world, 5 * n)).collect();
            let answers = at_once(world.send(&ingest, &Sending::batch(&events)));
            sent.extend(answers.into_iter().map(|answer| answer.receipt.unwrap().0.shown()));
            for _ in 0..polls {
                world.clock.advance_ms(150);
                let page = tail.poll(&query, limit);
                assert_eq!(page["complete"], true, "{}", page["caught_up"]);
            }
        }
        assert_eq!(BTreeSet::from_iter(tail.seen), sent, "{limit}");
    }
}

#[test]
fn pages_end_before_an_answer_is_larger_than_the_gateway_lets_through() {
    const GATEWAY_BYTES: usize = 6 * 1024 * 1024 - 64 * 1024;
    let world = World::new();
    let ingest = world.ingest();
    // Each quote is two bytes of the event, and four of the answer as the gateway takes it.
    let text = "\\\"".repeat(25_000);
    let events: Vec<String> = (0..90)
        .map(|n| {
            format!(
                r#"{{"tenant_id":"{TENANT}","id":"{}","action":"a.b","actor":{{"id":"u{n}"}},"metadata":{{"text":"{text}"}}}}"#,
                world.new_id().shown()
            )
        })
        .collect();
    for events in events.chunks(45) {
        assert!(at_once(world.send(&ingest, &Sending::batch(events))).iter().all(|a| a.status == 201));
    }
    at_once(world.seal_stream(&world.sealer()));
    let query = world.query();
    for (path, next, parameter) in [
        ("/v1/events?limit=200", "next_cursor", "cursor"),
        ("/v1/feed?limit=200", "next_after", "after"),
        ("/v1/events/tail?limit=200", "next_since", "since"),
    ] {
        let (mut seen, mut pages, mut go_on) = (BTreeSet::new(), 0, String::new());
        while seen.len() < 90 {
            let response = at_once(query.handle(request(&format!("{path}&tenant_id={TENANT}{go_on}"))));
            let escaped = stele::wire::escaped_bytes(response.body());
            assert!(response.status() == 200 && escaped < GATEWAY_BYTES, "{path}: {escaped} bytes");
            let page: Value = serde_json::from_slice(response.body()).unwrap();
            let events = page["events"].as_array().unwrap();
            assert!(!events.is_empty(), "{path} ends after {} of 90", seen.len());
            assert!(events.iter().all(|event| seen.insert(event["id"].as_str().unwrap().to_owned())));
            let told = page[next].as_str().map_or_else(|| page[next].to_string(), str::to_owned);
            (go_on, pages) = (format!("&{parameter}={told}"), pages + 1);
            if path.starts_with("/v1/events/tail") {
                // Its first answer is the newest, and no more.
                break;
            }
        }
        assert!(pages > 1 || path.starts_with("/v1/events/tail"), "{path}");
    }
}

#[test]
fn what_was_received_before_its_tenant_was_created_is_listed() {
    let world = World::new();
    let midnight = world.clock.now().day().next().start();
    world.clock.set(midnight.plus_ms(20));
    world.sealed(TENANT, 1);
    let at = midnight.minus_ms(10);
    let id = EventId::new(at, 1);
    let leaf = format!(
        r#"{{"action":"a.b","actor":{{"id":"u","type":"user"}},"id":"{id}","key_id":"k","occurred_at":"{at}","outcome":"success","received_at":"{at}","tenant_id":"{TENANT}","v":1}}"#
    );
    let record = Record::from_leaf(leaf.into_bytes()).unwrap();
    let put = Put { record, expires: Timestamp::MAX, remember: None };
    at_once(world.store.put(&world.tenant(TENANT), &put)).unwrap();
    let listed = page(&world.query(), &format!("/v1/events?tenant_id={TENANT}"));
    assert_eq!(listed["events"].as_array().unwrap().len(), 2, "{listed}");
    assert!(listed["searched"]["from"].as_str().unwrap() <= at.to_string().as_str(), "{listed}");
}

#[test]
fn a_tail_goes_on_only_with_its_own_cursor() {
    let world = World::new();
    world.sealed(TENANT, 3);
    world.sealed("org_other", 3);
    let query = world.query();
    let mut tail = Follower::new("");
    tail.poll(&query, 50);
    let since = tail.since.unwrap();
    let code = |path: String| {
        let (status, problem) = asked(&query, &path);
        (status, problem["code"].as_str().unwrap().to_owned())
    };
    let bad = (400, "bad_cursor".to_owned());
    assert_eq!(code(format!("/v1/events/tail?tenant_id=org_other&since={since}")), bad);
    assert_eq!(code(format!("/v1/events/tail?tenant_id={TENANT}&since={since}x")), bad);
    assert_eq!(code(format!("/v1/events?tenant_id={TENANT}&cursor={since}")), bad);
    let other = code(format!("/v1/events/tail?tenant_id={TENANT}&since={since}&q=a"));
    assert_eq!(other, (400, "cursor_mismatch".to_owned()));
}

#[test]
fn a_listing_with_is_knows_where_events_stand() {
    let world = World::new();
    world.sealed(TENANT, 6);
    at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
    world.sealed(TENANT, 4);
    let ingest = world.ingest();
    let answers = at_once(world.send(&ingest, &Sending::one(event(&world, 1))));
    assert_eq!(answers[0].status, 201);
    let query = world.query();
    for (q, count) in [
        ("is:archived", 6),
        ("is:sealed", 10),
        ("is:recorded", 1),
        ("-is:sealed", 1),
        ("is:sealed+-is:archived", 4),
        ("is:recorded,archived", 7),
    ] {
        let mut found = 0;
        let mut path = format!("/v1/events?tenant_id={TENANT}&limit=3&q={q}");
        loop {
            let page = page(&query, &path);
            found += page["events"].as_array().unwrap().len();
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/v1/events?tenant_id={TENANT}&limit=3&q={q}&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(found, count, "{q}");
    }
}
