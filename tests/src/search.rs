//! One search over hot store, segments and archive: whatever lies where, and whatever happens between two pages, a listing gives
//! what going through all events one by one gives, each once and in order; and so do counts.

use crate::world::{GOVERNOR, HOUR_MS, Sending, World, at_once, leaves_of};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stele::id::EventId;
use stele::ports::{Clock, HotStore, Policies};
use stele::record::Record;
use stele::time::{DAY_MS, Timestamp};
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele_adapters::clock::ManualClock;
use stele_query::Query;

/// Whether an event is asked for, by plain rules.
type Holds = Box<dyn Fn(&Value) -> bool>;

const TENANT: &str = "org_search";
const ACTIONS: [&str; 6] = [
    "invoice.deleted",
    "invoice.created",
    "invoice.item.added",
    "role.granted",
    "user.login",
    "plan.changed",
];
const OUTCOMES: [&str; 3] = ["success", "failure", "denied"];

/// Chance, the same in every run of a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    fn is(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// A clock by which every look costs time, so that budgets are spent.
struct Ticking {
    inner: Arc<ManualClock>,
    ticks: AtomicU64,
    ms: u64,
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let ticks = self.ticks.fetch_add(1, Ordering::Relaxed);
        self.inner.now().plus_ms(ticks * self.ms)
    }
}

/// What a search can find.
struct Present {
    /// What it must find.
    kept: BTreeSet<EventId>,
    /// Events whose object has expired and whose record has not yet, their retention being over: a search may find them, and
    /// one that does not must say that something can be missing.
    fading: BTreeSet<EventId>,
}

impl Present {
    fn contains(&self, id: &EventId) -> bool {
        self.kept.contains(id) || self.fading.contains(id)
    }
}

struct Run {
    world: World,
    chance: Chance,
    /// Everything that was ever stored.
    all: BTreeMap<EventId, Value>,
    /// What the stream carried and is not sealed yet.
    pending: Vec<Record>,
    listed: usize,
    pages: usize,
    short_pages: usize,
}

impl Run {
    fn new(seed: u64) -> Run {
        let world = World::new();
        let mut run = Run {
            world,
            chance: Chance(seed),
            all: BTreeMap::new(),
            pending: Vec::new(),
            listed: 0,
            pages: 0,
            short_pages: 0,
        };
        run.send(3);
        let tenant = run.world.tenant(TENANT);
        let mut record = tenant.record().clone();
        record.hot_days = 35;
        record.class_days = 90;
        assert!(at_once(run.world.store.replace_tenant(tenant.record(), &record)).unwrap());
        run
    }

    fn note(&mut self) {
        for record in self.world.take_stored() {
            let event = serde_json::from_slice(record.leaf.as_bytes()).unwrap();
            self.all.insert(record.id, event);
            self.pending.push(record);
        }
    }

    /// Events of all kinds: now, late, backfilled, and many at one time.
    fn send(&mut self, count: u64) {
        let now = self.world.clock.now();
        let mut events = Vec::new();
        let same = now.minus_ms(self.chance.below(HOUR_MS));
        for _ in 0..count {
            let chance = &mut self.chance;
            let at = match chance.below(12) {
                0 => now.minus_ms(chance.below(30 * DAY_MS)),
                1 => now.minus_ms(chance.below(900 * DAY_MS)),
                2 => now.plus_ms(chance.below(4 * 60 * 1000)),
                3..6 => same,
                _ => now.minus_ms(chance.below(60_000)),
            };
            // Few different ones of each, so that filters meet.
            let random = u128::from(chance.below(1 << 31)) << 40 | u128::from(chance.below(1 << 31));
            let mut event = json!({
                "tenant_id": TENANT,
                "id": EventId::new(at, random).shown(),
                "action": chance.one(&ACTIONS),
                "outcome": chance.one(&OUTCOMES),
                "actor": {"id": format!("user_{}", chance.below(7)), "type": chance.one(&["user", "service"])},
            });
            if !chance.is(4) {
                let kind = chance.one(&["invoice", "role"]);
                event["resource"] = json!({"type": kind, "id": format!("{kind}_{}", chance.below(40))});
            }
            if chance.is(2) {
                event["context"] = json!({"ip": format!("203.0.113.{}", chance.below(5))});
            }
            if chance.is(3) {
                event["metadata"] = json!({"plan": chance.one(&["Pro", "Basic", "enterprise"])});
            }
            if chance.is(3) {
                event["actor"]["name"] = json!(chance.one(&["Ada Lovelace", "Grace Hopper"]));
            }
            events.push(event.to_string());
        }
        for events in events.chunks(400) {
            let sending = Sending::batch(events).backfilled();
            let answers = at_once(self.world.send(&self.world.ingest(), &sending));
            assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
        }
        self.note();
    }

    fn seal(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            at_once(self.world.deliver(&self.world.sealer(), &pending));
        }
        self.note();
    }

    fn compact(&mut self) {
        let close_today = self.chance.is(2);
        at_once(self.world.compact(&self.world.compactor(), TENANT, close_today)).unwrap();
        self.note();
    }

    fn reconcile(&mut self) {
        let tenant = self.world.tenant(TENANT);
        let until = self.world.clock.now().plus_days(1);
        at_once(self.world.reconciler().reconcile(tenant.id(), until)).unwrap();
        self.note();
        at_once(self.world.seal_parked(&self.world.sealer()));
        self.note();
    }

    fn wait(&mut self, most_ms: u64) {
        let ms = 60_000 + self.chance.below(most_ms);
        self.world.clock.advance_ms(ms);
    }

    /// Something goes on, as it does; says whether events may have been forgotten.
    fn step(&mut self) -> bool {
        let what = self.chance.below(8);
        match what {
            0..3 => {
                let count = 1 + self.chance.below(60);
                self.send(count);
            }
            3..5 => self.seal(),
            5 => {
                self.seal();
                self.compact();
            }
            6 => {
                self.seal();
                self.reconcile();
            }
            _ => self.world.store.sweep(self.world.clock.now()),
        }
        what == 7
    }

    /// What a search can find now: what lies in an object or is still to be sealed, and what the hot store has.
    fn present(&self) -> Present {
        let tenant = self.world.tenant(TENANT);
        let mut kept: BTreeSet<EventId> =
            at_once(leaves_of(&self.world, TENANT)).into_iter().map(|(_, id)| id).collect();
        for file in at_once(self.world.archive_files(&tenant)) {
            let end = TreeSize::new(u64::MAX);
            kept.extend(at_once(file.ids(LeafIndex::ZERO, end)).unwrap().into_iter().map(|(id, _)| id));
        }
        let is_hot = |id: &EventId| at_once(self.world.store.record(&tenant, *id)).unwrap().is_some();
        kept.extend(self.pending.iter().map(|record| record.id).filter(is_hot));
        let fading = self.all.keys().filter(|id| !kept.contains(id)).copied().filter(is_hot).collect();
        Present { kept, fading }
    }

    /// A question in the API's words, and who answers to it.
    fn question(&mut self) -> (String, Holds) {
        let now = self.world.clock.now();
        let mut query = String::new();
        let mut tests: Vec<Holds> = Vec::new();
        let chance = &mut self.chance;
        let some = |values: Vec<String>, pointer: &'static str| -> Box<dyn Fn(&Value) -> bool> {
            Box::new(move |event| {
                let text = event.pointer(pointer).and_then(Value::as_str);
                text.is_some_and(|text| values.iter().any(|value| value == text))
            })
        };
        let mut parts: Vec<(&str, &'static str, Vec<String>)> = Vec::new();
        if chance.is(4) {
            let ids = (0..=chance.below(2)).map(|_| format!("user_{}", chance.below(8))).collect();
            parts.push(("actor_id", "/actor/id", ids));
        }
        if chance.is(5) {
            let ids = (0..=chance.below(2)).map(|_| format!("invoice_{}", chance.below(42))).collect();
            parts.push(("resource_id", "/resource/id", ids));
        }
        if chance.is(5) {
            parts.push(("outcome", "/outcome", vec![chance.one(&OUTCOMES).to_owned()]));
        }
        if chance.is(6) {
            parts.push((
                "resource_type",
                "/resource/type",
                vec![chance.one(&["invoice", "role"]).to_owned()],
            ));
        }
        if chance.is(8) {
            parts.push(("ip", "/context/ip", vec![format!("203.0.113.{}", chance.below(6))]));
        }
        for (name, pointer, values) in parts {
            values.iter().for_each(|value| query.push_str(&format!("&{name}={value}")));
            tests.push(some(values, pointer));
        }
        let exact = chance.one(&ACTIONS).to_owned();
        match chance.below(12) {
            0 | 1 => {
                query.push_str(&format!("&action={exact}"));
                tests.push(Box::new(move |event| event["action"] == exact.as_str()));
            }
            2 => {
                query.push_str("&action=invoice.*");
                tests.push(Box::new(|event| event["action"].as_str().unwrap().starts_with("invoice.")));
            }
            3 => {
                query.push_str(&format!("&action={exact}&action=invoice.*"));
                tests.push(Box::new(move |event| {
                    event["action"] == exact.as_str()
                        || event["action"].as_str().unwrap().starts_with("invoice.")
                }));
            }
            _ => {}
        }
        if chance.is(8) {
            query.push_str("&search=enterprise");
            tests.push(Box::new(|event| event["metadata"]["plan"] == "enterprise"));
        }
        if chance.is(8) {
            query.push_str("&actor_name=grace");
            tests.push(Box::new(|event| event["actor"]["name"] == "Grace Hopper"));
        }
        if chance.is(3) {
            let days = [3, 40, 130, 900][chance.below(4) as usize];
            let from = now.minus_ms(chance.below(days * DAY_MS));
            query.push_str(&format!("&from={from}"));
            let from = from.to_string();
            tests.push(Box::new(move |event| event["occurred_at"].as_str().unwrap() >= from.as_str()));
        }
        if chance.is(3) {
            let days = [3, 40, 130, 900][chance.below(4) as usize];
            let to = now.minus_ms(chance.below(days * DAY_MS));
            query.push_str(&format!("&to={to}"));
            let to = to.to_string();
            tests.push(Box::new(move |event| event["occurred_at"].as_str().unwrap() < to.as_str()));
        }
        (query, Box::new(move |event| tests.iter().all(|test| test(event))))
    }

    fn query(&mut self) -> Query {
        let mut query = self.world.query();
        if self.chance.is(4) {
            query.clock =
                Arc::new(Ticking { inner: self.world.clock.clone(), ticks: AtomicU64::new(0), ms: 1_500 });
        }
        query
    }

    /// Lists everything a question is about, page by page, while other things go on.
    fn list(&mut self) {
        let (question, admits) = self.question();
        let ascending = self.chance.is(2);
        let order = if ascending { "asc" } else { "desc" };
        let present = self.present();
        let mut expected: Vec<EventId> = self
            .all
            .iter()
            .filter(|(id, event)| present.contains(id) && admits(event))
            .map(|(id, _)| *id)
            .collect();
        if !ascending {
            expected.reverse();
        }
        let mut listed: Vec<EventId> = Vec::new();
        // Its pages may lack these, also those whose last copy goes while it is under way, and must say so.
        let mut ended = present.fading.clone();
        let mut cursor = None::<String>;
        let mut before = None::<EventId>;
        let mut query = self.query();
        for page_number in 0.. {
            assert!(page_number < 3_000, "{question} never ends");
            let limit = [1, 2, 7, 50, 200][self.chance.below(5) as usize];
            let start = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
            let path = format!("/v1/events?tenant_id={TENANT}&order={order}&limit={limit}{question}{start}");
            let page = get(&query, &path);
            let events = page["events"].as_array().unwrap();
            for event in events {
                let id = EventId::parse(event["id"].as_str().unwrap()).unwrap();
                assert!(
                    before.is_none_or(|before| if ascending { before < id } else { before > id }),
                    "`{id}` is out of order in {path}"
                );
                before = Some(id);
                let leaf = &self.all[&id];
                assert_eq!(event["received_at"], leaf["received_at"], "{path}");
                listed.push(id);
            }
            self.pages += 1;
            let searched = &page["searched"];
            let next = page["next_cursor"].as_str().map(str::to_owned);
            if next.is_some() && events.len() < limit {
                self.short_pages += 1;
                assert_eq!(searched["complete"], false, "a short page is not complete: {path}");
            }
            // What was searched is what the page can speak of: all of it that is expected was listed by now.
            let (from, to) = (searched["from"].as_str().unwrap(), searched["to"].as_str().unwrap());
            // Of the millisecond a page ends in, the next one has the rest.
            let ended_in = before.map(EventId::time);
            for id in expected.iter().filter(|id| Some(id.time()) != ended_in) {
                let time = id.time().to_string();
                if from < time.as_str() && time.as_str() < to && !listed.contains(id) {
                    if ended.contains(id) && searched["complete"] == false {
                        continue;
                    }
                    panic!("`{id}` at {time} lies in {searched} of {path} and was not listed");
                }
            }
            let Some(next) = next else { break };
            cursor = Some(next);
            if listed.len() < 400 && self.chance.is(2) {
                self.wait(20 * 60_000);
                if self.step() {
                    let present = self.present();
                    ended.extend(expected.iter().filter(|id| !present.kept.contains(id)));
                }
            }
            if self.chance.is(3) {
                self.world.clock.advance_ms(60_000);
                query = self.query();
            }
        }
        expected.retain(|id| !ended.contains(id) || listed.contains(id));
        assert_eq!(listed.len(), expected.len(), "{question} {order}");
        assert_eq!(listed, expected, "{question} {order}");
        self.listed += listed.len();
    }

    /// Counts what a question is about, by values and over time. What is told must be exact for the times it is told for.
    fn count(&mut self) {
        const FIELDS: [(&str, &str); 6] = [
            ("action", "/action"),
            ("actor.id", "/actor/id"),
            ("resource.type", "/resource/type"),
            ("outcome", "/outcome"),
            ("ip", "/context/ip"),
            ("actor.name", "/actor/name"),
        ];
        let (question, admits) = self.question();
        let present = self.present();
        let query = self.query();
        let (field, pointer) = FIELDS[self.chance.below(6) as usize];
        let value_of = |event: &Value| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let expected = |answer: &Value| {
            let bound = |name: &str| answer["searched"][name].as_str().unwrap().to_owned();
            let (from, to) = (bound("from"), bound("to"));
            let within = |event: &Value| {
                let time = event["occurred_at"].as_str().unwrap();
                from.as_str() <= time && time < to.as_str()
            };
            let all = self.all.iter().filter(|(_, event)| admits(event) && within(event));
            let of = |ids: &BTreeSet<EventId>| {
                let found = all.clone().filter(|(id, _)| ids.contains(id));
                found.map(|(_, event)| event).collect::<Vec<_>>()
            };
            if !of(&present.fading).is_empty() {
                // They may be counted or not.
                assert_eq!(answer["searched"]["complete"], false, "{answer}");
                return None;
            }
            if answer["searched"]["complete"] == true {
                assert!(!answer["watermarks"].is_null());
            }
            Some(of(&present.kept))
        };

        let path = format!("/v1/facets/{field}?tenant_id={TENANT}&limit=200{question}");
        let facet = get(&query, &path);
        let mut counts: BTreeMap<Option<String>, u64> = BTreeMap::new();
        let Some(events) = expected(&facet) else { return };
        for event in events {
            *counts.entry(value_of(event)).or_default() += 1;
        }
        assert_eq!(facet["total"], counts.values().sum::<u64>(), "{path}: {facet}");
        assert_eq!(facet["missing"], counts.get(&None).copied().unwrap_or(0), "{path}");
        let told: BTreeMap<Option<String>, u64> = facet["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| (value["value"].as_str().map(str::to_owned), value["count"].as_u64().unwrap()))
            .collect();
        counts.remove(&None);
        assert_eq!(told, counts, "{path}");

        let interval = ["hour", "day", "month"][self.chance.below(3) as usize];
        let group = if self.chance.is(2) { format!("&group_by={field}") } else { String::new() };
        let path = format!("/v1/events/stats?tenant_id={TENANT}&interval={interval}{group}{question}");
        let (status, stats) = ask(&query, &path);
        if status == 400 {
            assert_eq!(stats["errors"][0]["pointer"], "from", "{path}: {stats}");
            return;
        }
        let Some(events) = expected(&stats) else { return };
        let length = match interval {
            "hour" => 13,
            "day" => 10,
            _ => 7,
        };
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for event in &events {
            *counts.entry(event["occurred_at"].as_str().unwrap()[..length].to_owned()).or_default() += 1;
        }
        let buckets = stats["buckets"].as_array().unwrap();
        let told = buckets.iter().map(|bucket| {
            (bucket["start"].as_str().unwrap()[..length].to_owned(), bucket["count"].as_u64().unwrap())
        });
        assert_eq!(told.collect::<BTreeMap<_, _>>(), counts, "{path}");
        if !group.is_empty() {
            let mut groups: BTreeMap<String, u64> = BTreeMap::new();
            for (value, count) in buckets.iter().flat_map(|bucket| bucket["groups"].as_object().unwrap()) {
                *groups.entry(value.clone()).or_default() += count.as_u64().unwrap();
            }
            let mut expected: BTreeMap<String, u64> = BTreeMap::new();
            events
                .iter()
                .filter_map(|event| value_of(event))
                .for_each(|value| *expected.entry(value).or_default() += 1);
            assert_eq!(groups, expected, "{path}");
        }
    }

    /// Each event by its id, wherever it lies.
    fn by_id(&mut self) {
        let query = self.world.query();
        let present = self.present();
        let ids: Vec<EventId> = self.all.keys().copied().collect();
        for id in ids.iter().filter(|_| self.chance.is(20)) {
            let response = ask(&query, &format!("/v1/events/{}?tenant_id={TENANT}", id.shown()));
            assert_eq!(response.0 == 200, present.contains(id), "`{id}`: {}", response.1);
            if response.0 == 200 {
                assert_eq!(response.1["id"], id.shown());
            }
        }
        let other = EventId::new(ids[ids.len() / 2].time(), 77);
        assert_eq!(ask(&query, &format!("/v1/events/{}?tenant_id={TENANT}", other.shown())).0, 404);
    }
}

fn ask(query: &Query, path: &str) -> (u16, Value) {
    let request = http::Request::get(path).header("authorization", format!("Bearer {GOVERNOR}"));
    let response = at_once(query.handle(request.body(Bytes::new()).unwrap()));
    let body = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
    (response.status().as_u16(), body)
}

fn get(query: &Query, path: &str) -> Value {
    let (status, body) = ask(query, path);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Half a year of one tenant, with questions on the way.
fn half_a_year(seed: u64) -> Run {
    let mut run = Run::new(seed);
    for day in 0..36 {
        for _ in 0..1 + run.chance.below(4) {
            run.step();
            run.wait(DAY_MS);
        }
        run.wait(6 * DAY_MS);
        // What is never sealed would be forgotten: no installation is left like that.
        if day % 4 == 3 {
            run.seal();
            run.reconcile();
            run.world.store.sweep(run.world.clock.now());
        }
        if run.chance.is(6) {
            // As the lifecycle rules do it: a day after the lock, so that nobody tells of it ahead of time.
            at_once(run.world.objects.expire(run.world.clock.now().minus_days(1)));
        }
        if day > 4 {
            for _ in 0..2 {
                run.list();
                run.count();
            }
        }
        if day % 9 == 8 {
            run.by_id();
        }
    }
    run
}

#[test]
fn any_mixture_of_stores_lists_what_a_walk_over_everything_lists() {
    let seeds: usize = if std::env::var_os("STELE_LONG").is_some() { 40 } else { 2 };
    let (mut listed, mut pages, mut short_pages) = (0, 0, 0);
    for seed in 1..=seeds {
        eprintln!("seed {seed}");
        let run = half_a_year(seed as u64);
        listed += run.listed;
        pages += run.pages;
        short_pages += run.short_pages;
    }
    // On average, so that a seed with few pages is one among others.
    assert!(listed > 500 * seeds && pages > 200 * seeds, "{listed} events on {pages} pages");
    assert!(short_pages >= seeds, "hardly ever was a budget spent");
}

#[test]
fn thousands_of_archived_events_of_one_millisecond_are_listed_in_order() {
    let mut run = Run::new(11);
    let at = run.world.clock.now().day().start();
    let ids: Vec<String> = (0..3_000_u128).map(|n| EventId::new(at, n * 7_919 % 3_001).shown()).collect();
    for (round, ids) in ids.chunks(500).enumerate() {
        let event = |id: &String| {
            format!(
                r#"{{"tenant_id":"{TENANT}","id":"{id}","action":"a.b{round}","actor":{{"id":"u{round}"}}}}"#
            )
        };
        let events: Vec<String> = ids.iter().map(event).collect();
        let sending = Sending::batch(&events).backfilled();
        let answers = at_once(run.world.send(&run.world.ingest(), &sending));
        assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    }
    run.note();
    run.seal();
    at_once(run.world.compact(&run.world.compactor(), TENANT, true)).unwrap();
    run.world.clock.advance_ms(80 * DAY_MS);
    run.world.store.sweep(run.world.clock.now());
    let query = run.world.query();
    for (order, filter, count) in [("asc", "", 3_000), ("desc", "", 3_000), ("desc", "&action=a.b2", 500)] {
        let mut listed: Vec<String> = Vec::new();
        let mut cursor = String::new();
        loop {
            let range = format!("from={at}&to={}", at.plus_ms(1));
            let path =
                format!("/v1/events?tenant_id={TENANT}&limit=200&order={order}&{range}{filter}{cursor}");
            let page = get(&query, &path);
            listed.extend(
                page["events"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let mut sorted = listed.clone();
        sorted.sort();
        sorted.dedup();
        if order == "desc" {
            sorted.reverse();
        }
        assert!(listed == sorted && listed.len() == count, "{order}{filter}: {} events", listed.len());
    }
}

#[test]
fn a_cursor_is_good_for_its_own_listing_and_for_a_day() {
    let mut run = Run::new(7);
    run.send(40);
    let query = run.world.query();
    let start = format!("/v1/events?tenant_id={TENANT}&limit=5&outcome=success");
    let page = get(&query, &start);
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    at_once(run.world.send(&run.world.ingest(), &Sending::one(crate::world::event("org_other", ""))));
    let refused = |path: &str| {
        let (status, problem) = ask(&query, path);
        assert_eq!(status, 400, "{path}: {problem}");
        problem["code"].as_str().unwrap().to_owned()
    };
    let other = format!("/v1/events?tenant_id=org_other&limit=5&outcome=success&cursor={cursor}");
    assert_eq!(refused(&other), "bad_cursor");
    for listing in ["outcome=denied", "outcome=success&order=asc", "outcome=success&from=2026-01-01"] {
        let path = format!("/v1/events?tenant_id={TENANT}&{listing}&cursor={cursor}");
        assert_eq!(refused(&path), "cursor_mismatch");
    }
    for at in [0, 12, 20, 30, 44, 60, cursor.len() - 1] {
        let mut altered = cursor.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        if altered != cursor {
            assert_eq!(refused(&format!("{start}&cursor={altered}")), "bad_cursor");
        }
    }
    assert_eq!(ask(&query, &format!("{start}&cursor={cursor}")).0, 200);
    run.world.clock.advance_ms(25 * HOUR_MS);
    assert_eq!(refused(&format!("{start}&cursor={cursor}")), "bad_cursor");
}
