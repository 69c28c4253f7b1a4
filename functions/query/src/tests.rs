//! The handler over memory stores, from request to answer.

use crate::Query;
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use stele::access::{ApiKey, Grant, KeyHash, Scope, Secrets, Tenant};
use stele::canonical::canonicalize;
use stele::id::{EventId, TenantId};
use stele::limits;
use stele::ports::{Clock, Heads, HotStore, Inbox, Outbox, Put, Refusals};
use stele::public_key::{PublishedKeys, SigningSeeds};
use stele::record::Record;
use stele::segment::{Head, IndexEntry};
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, LeafIndex};
use stele_adapters::authenticator::Authenticator;
use stele_adapters::clock::{ManualClock, SeededRandom};
use stele_adapters::cold_search::ColdSearch;
use stele_adapters::contract::refusals;
use stele_adapters::http::{REQUEST_ID, Request, Response};
use stele_adapters::memory::MemoryStore;
use stele_adapters::memory_exports::MemoryExports;
use stele_adapters::memory_objects::MemoryObjects;
use stele_adapters::memory_queue::MemoryQueue;
use stele_adapters::places::Places;
use stele_adapters::stored_tree::StoredTree;
use stele_adapters::tenants::TenantCache;

const HOUR: u64 = 3_600_000;

/// Listeners run the handler on several threads: its future must be able to move between them.
fn is_send<T: Send>(value: T) -> T {
    value
}

pub(crate) struct World {
    pub(crate) query: Query,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<ManualClock>,
    queue: Arc<MemoryQueue>,
    pub(crate) errands: Arc<MemoryQueue>,
    pub(crate) files: Arc<MemoryExports>,
    pub(crate) exporting: Arc<MemoryQueue>,
}

pub(crate) fn now() -> Timestamp {
    Timestamp::parse("2026-05-20T12:00:00Z").unwrap()
}

fn key(tenant: Option<&str>, scopes: &[Scope]) -> ApiKey {
    ApiKey {
        key_id: format!("key-{}", tenant.unwrap_or("platform")),
        tenant: tenant.map(|t| TenantId::parse(t).unwrap()),
        scopes: scopes.to_vec(),
        name: String::new(),
        created_ms: 0,
        revoked_ms: None,
    }
}

impl World {
    pub(crate) fn new() -> World {
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(ManualClock::new(now().minus_days(10)));
        let secrets = Secrets::new([5; 32]);
        let queue = Arc::new(MemoryQueue::new(clock.clone()));
        let errands = Arc::new(MemoryQueue::new(clock.clone()));
        let mut authenticator = Authenticator::new(store.clone(), clock.clone());
        for (text, tenant) in [("platform", None), ("acme-key", Some("acme")), ("globex-key", Some("globex"))]
        {
            authenticator = authenticator.with_given(KeyHash::of(text), key(tenant, Scope::ALL));
        }
        let reader = key(Some("acme"), &[Scope::EventsRead, Scope::KeysWrite]);
        let authenticator = authenticator.with_given(KeyHash::of("acme-reader"), reader);
        let tenants = TenantCache::new(store.clone(), clock.clone(), secrets.clone(), "log.example");
        let objects = Arc::new(MemoryObjects::new());
        let files = Arc::new(MemoryExports::new());
        let exporting = Arc::new(MemoryQueue::new(clock.clone()));
        let query = Query {
            hot: store.clone(),
            heads: store.clone(),
            archive: store.clone(),
            watermarks: store.clone(),
            policies: store.clone(),
            compaction: errands.clone(),
            exports: store.clone(),
            export_files: files.clone(),
            exporting: exporting.clone(),
            tree: Arc::new(StoredTree::new(store.clone(), store.clone(), objects.clone())),
            cold: Arc::new(ColdSearch::new(store.clone(), store.clone(), objects.clone())),
            places: Arc::new(Places::new(store.clone(), store.clone(), objects)),
            keys: store.clone(),
            refusals: store.clone(),
            backlogs: vec![queue.clone()],
            authenticator: Arc::new(authenticator),
            tenants: Arc::new(tenants),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            secrets,
            public_keys: PublishedKeys::of(&SigningSeeds::one([7; 32]), &[8; 32]),
            env: "test".into(),
        };
        World { query, store, clock, queue, errands, files, exporting }
    }

    pub(crate) async fn tenant(&self, id: &str) -> Tenant {
        let grant = Grant::check(Arc::new(key(None, Scope::ALL)), Scope::EventsWrite).unwrap();
        let tenant = self.query.tenants.find_or_create(&grant, &TenantId::parse(id).unwrap()).await.unwrap();
        self.clock.set(now());
        tenant
    }

    /// Stores a record as ingest does: the marker of a late arrival first.
    pub(crate) async fn put(&self, tenant: &Tenant, record: &Record) {
        let (received, occurred) = (record.received_at.day(), record.occurred_at.day());
        if received != occurred {
            self.store.mark_late(tenant, received, occurred).await.unwrap();
        }
        let put = Put { record: record.clone(), expires: Timestamp::MAX, remember: None };
        self.store.put(tenant, &put).await.unwrap();
    }

    pub(crate) async fn send(&self, method: Method, path: &str, key: &str, body: &str) -> Response {
        let request: Request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, format!("Bearer {key}"))
            .body(Bytes::from(body.to_owned()))
            .unwrap();
        is_send(self.query.handle(request)).await
    }

    pub(crate) async fn read(&self, path: &str, key: &str) -> (StatusCode, Value) {
        let response = self.send(Method::GET, path, key, "").await;
        assert!(response.headers().contains_key(REQUEST_ID));
        (response.status(), serde_json::from_slice(response.body()).unwrap())
    }

    pub(crate) async fn page(&self, query: &str) -> Value {
        let (status, page) = self.read(&format!("/v1/events?{query}"), "acme-key").await;
        assert_eq!(status, StatusCode::OK, "{query}: {page}");
        page
    }

    /// All pages of a listing, by cursor.
    async fn all(&self, query: &str, limit: usize) -> Vec<String> {
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.page(&format!("{query}&limit={limit}{cursor}")).await;
            ids.extend(ids_of(&page));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    }
}

fn ids_of(page: &Value) -> Vec<String> {
    page["events"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect()
}

fn record(tenant: &Tenant, occurred: Timestamp, received: Timestamp, n: usize) -> Record {
    let id = EventId::new(occurred, (n as u128) << 40 | 9);
    let one = |words: &[&'static str], at: usize| words[at % words.len()];
    let leaf = json!({
        "v": 1, "id": id.to_string(), "tenant_id": tenant.id().as_str(), "key_id": "k",
        "occurred_at": occurred.to_string(), "received_at": received.to_string(),
        "action": one(&["invoice.deleted", "user.created", "invoice.item.added"], n),
        "actor": {"id": one(&["u1", "u2", "u3", "u4"], n / 2), "type": "user", "name": "=Alice, \"A\""},
        "resource": {"type": "invoice", "id": one(&["i1", "i2", "i3", "i4", "i5"], n)},
        "outcome": one(&["success", "failure"], n / 3),
        "metadata": {"n": 0.1},
    });
    Record::from_leaf(canonicalize(leaf.to_string().as_bytes()).unwrap()).unwrap()
}

/// Records of nine days, some of them late by days, several per millisecond, and one from long ago.
async fn fill(world: &World, tenant: &Tenant, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    for n in 0..count {
        let occurred = now().minus_ms((n as u64 * 7919 / 3 * 3) % (9 * 24 * HOUR));
        let received = if n % 11 == 0 { now() } else { occurred.plus_ms(20) };
        records.push(record(tenant, occurred, received.max(occurred), n));
    }
    records.push(record(tenant, now().minus_days(400), now(), 0));
    for record in &records {
        world.put(tenant, record).await;
    }
    records.sort_by_key(|r| std::cmp::Reverse(r.id));
    records
}

#[tokio::test]
async fn pages_by_cursor_or_offset_show_what_a_plain_filter_shows() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    let records = fill(&world, &tenant, 700).await;
    type Admits = fn(&Record) -> bool;
    let cases: &[(&str, Admits)] = &[
        ("", |_| true),
        ("actor_id=u1", |r| r.actor_id == "u1"),
        ("actor_id=u1&actor_id=u3", |r| r.actor_id == "u1" || r.actor_id == "u3"),
        ("action=user.created", |r| r.action == "user.created"),
        ("action=user.created&resource_id=i2", |r| {
            r.action == "user.created" && r.resource_id.as_deref() == Some("i2")
        }),
        ("action=invoice.*", |r| r.action.starts_with("invoice.")),
        ("action=DELET", |r| r.action.contains("delet")),
        ("search=ALICE&actor_id=u2", |r| r.actor_id == "u2"),
        ("resource_id=nothing", |_| false),
        ("from=2026-05-15&to=2026-05-17T06:00:00Z", |r| {
            (Timestamp::parse("2026-05-15T00:00:00Z").unwrap()
                ..Timestamp::parse("2026-05-17T06:00:00Z").unwrap())
                .contains(&r.occurred_at)
        }),
        ("end_date=2026-05-16&actor_id=u4", |r| {
            r.actor_id == "u4" && r.occurred_at < Timestamp::parse("2026-05-17T00:00:00Z").unwrap()
        }),
    ];
    for (query, admits) in cases {
        let mut expected: Vec<String> = records.iter().filter(|r| admits(r)).map(|r| r.id.shown()).collect();
        let first = world.page(query).await;
        assert_eq!(first["total"], expected.len(), "{query}");
        assert_eq!(first["total_is"], "exact");
        assert_eq!((&first["limit"], &first["offset"]), (&json!(50), &json!(0)));
        assert_eq!(first["searched"]["complete"], true, "{query}: {}", first["searched"]);
        for limit in [7, 200] {
            assert_eq!(world.all(query, limit).await, expected, "{query} by {limit}");
        }
        let middle = world.page(&format!("{query}&offset=5&limit=3")).await;
        assert_eq!(ids_of(&middle), expected.iter().skip(5).take(3).cloned().collect::<Vec<_>>(), "{query}");
        expected.reverse();
        assert_eq!(world.all(&format!("{query}&order=asc"), 33).await, expected, "{query} rising");
    }
    let page = world.page("limit=1&offset=700").await;
    assert_eq!(page["events"][0]["occurred_at"], "2025-04-15T12:00:00.000Z", "late by more than a year");
    assert_eq!(page["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_listing_is_a_snapshot_and_its_cursors_belong_to_it() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    world.tenant("globex").await;
    let records = fill(&world, &tenant, 40).await;
    let first = world.page("limit=10").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    for n in 100..110 {
        world.put(&tenant, &record(&tenant, now().minus_days(2), now().plus_ms(1000), n)).await;
    }
    let second = world.page(&format!("limit=200&cursor={cursor}")).await;
    let expected: Vec<String> = records[10..].iter().map(|r| r.id.shown()).collect();
    assert_eq!(ids_of(&second), expected);
    assert_eq!((&second["total"], &second["limit"]), (&Value::Null, &Value::Null), "only without a cursor");

    let code = async |path: String, key: &str| {
        let (status, problem) = world.read(&path, key).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {problem}");
        problem["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(format!("/v1/events?cursor={cursor}&order=asc"), "acme-key").await, "cursor_mismatch");
    assert_eq!(code(format!("/v1/events?cursor={cursor}"), "globex-key").await, "bad_cursor");
    assert_eq!(code(format!("/v1/events?cursor={cursor}&tenant_id=globex"), "platform").await, "bad_cursor");
    assert_eq!(code("/v1/events?cursor=abc".into(), "acme-key").await, "bad_cursor");
    assert_eq!(code(format!("/v1/events?cursor={cursor}&offset=1"), "acme-key").await, "bad_parameter");
    world.clock.advance_ms(limits::CURSOR_AGE_MS_MAX + 1);
    assert_eq!(code(format!("/v1/events?cursor={cursor}"), "acme-key").await, "bad_cursor");
}

#[tokio::test]
async fn a_search_that_finds_little_is_cut_short_and_says_so() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    let count = limits::PAGE_SCANNED_MAX + 1_000;
    for n in 0..count {
        let occurred = now().minus_ms(n as u64 * 100);
        world.put(&tenant, &record(&tenant, occurred, occurred, n)).await;
    }
    world.put(&tenant, &record(&tenant, now().minus_days(9), now().minus_days(9), 12)).await;
    let first = world.page("actor_name=alice&to=2026-05-12").await;
    assert_eq!((first["events"].as_array().unwrap().len(), &first["next_cursor"]), (1, &Value::Null));

    let first = world.page("search=nowhere").await;
    assert_eq!((ids_of(&first).len(), first["searched"]["complete"].as_bool()), (0, Some(false)));
    assert_eq!(first["total_is"], "at_least");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = world.page(&format!("search=nowhere&cursor={cursor}")).await;
    assert_eq!((&second["next_cursor"], &second["searched"]["complete"]), (&Value::Null, &json!(true)));

    let counted = world.page("limit=1").await;
    assert_eq!((&counted["total"], &counted["total_is"]), (&json!(10_000), &json!("at_least")));
    let (status, problem) = world.read("/v1/events/export", "acme-key").await;
    assert_eq!((status, &problem["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("export_too_large")));
    assert!(problem["detail"].as_str().unwrap().contains("POST /v1/exports"));
    let usage = world.read("/v1/usage", "acme-key").await.1;
    assert!(usage["events_this_month"].as_u64().unwrap() >= 10_000, "{usage}");
}

#[tokio::test]
async fn what_belongs_to_others_is_not_there() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    world.tenant("globex").await;
    let record = record(&tenant, now(), now(), 1);
    world.put(&tenant, &record).await;
    for id in [record.id.shown(), record.id.to_string()] {
        let (status, event) = world.read(&format!("/v1/events/{id}"), "acme-key").await;
        assert_eq!((status, event["id"].as_str()), (StatusCode::OK, Some(&*record.id.shown())));
        assert_eq!(event["organization_id"], "acme");
        assert_eq!(event["timestamp"], "2026-05-20T12:00:00.000Z");
        assert_eq!(event["integrity"]["state"], "recorded");
    }
    let mut answers = Vec::new();
    let unknown = EventId::new(now(), 77).shown();
    for (id, key) in [
        (record.id.shown(), "globex-key"),
        (unknown, "acme-key"),
        ("nonsense".to_owned(), "acme-key"),
        ("%00".to_owned(), "acme-key"),
    ] {
        let (status, mut problem) = world.read(&format!("/v1/events/{id}"), key).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        problem.as_object_mut().unwrap().remove("request_id");
        answers.push(problem);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");

    let (_, page) = world.read("/v1/events", "globex-key").await;
    assert_eq!((&page["events"], &page["total"]), (&json!([]), &json!(0)));
    let (status, _) = world.read("/v1/events?tenant_id=acme", "globex-key").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, problem) = world.read("/v1/events", "platform").await;
    assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("bad_parameter")));
    let (status, page) = world.read("/v1/events?organization_id=acme", "platform").await;
    assert_eq!((status, page["total"].as_u64()), (StatusCode::OK, Some(1)));
    let (status, _) = world.read("/v1/events?tenant_id=nobody", "platform").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_sealed_event_shows_its_place_and_counts_once() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    let sealed: Vec<Record> =
        (0..3).map(|n| record(&tenant, now().minus_ms(5_000), now().minus_ms(4_000), n)).collect();
    let waiting = record(&tenant, now(), now(), 9);
    let mut head = Head::empty(now());
    for record in sealed.iter().chain([&waiting]) {
        world.put(&tenant, record).await;
    }
    let (status, _) = world.read("/v1/log/checkpoint", "acme-key").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (_, usage) = world.read("/v1/usage", "acme-key").await;
    assert_eq!(usage["events_this_month"], 4);

    sealed.iter().for_each(|record| head.edge.append(record.leaf_hash));
    (head.sealed_at, head.received_max) = (now().minus_ms(1_000), now().minus_ms(4_000));
    head.checkpoint = "a signed note\n".into();
    world.store.force_head(&tenant, Some(head.clone()));
    let ids: Vec<EventId> = sealed.iter().map(|r| r.id).collect();
    let entry = IndexEntry {
        first: LeafIndex::ZERO,
        end: head.size(),
        received_min: head.received_max,
        received_max: head.received_max,
        running_received_max: head.received_max,
        id_min: *ids.iter().min().unwrap(),
        id_max: *ids.iter().max().unwrap(),
        sealed_at: head.sealed_at,
        version: "1".into(),
        sha256: Hash::of(b""),
        subtrees: None,
    };
    world.store.put_index(&tenant, &entry).await.unwrap();
    world.query.places.remember(&tenant, &entry, &ids);

    let page = world.page("").await;
    assert_eq!(page["watermarks"]["sealed"], "2026-05-20T11:59:56.000Z");
    assert_eq!(page["watermarks"]["archived"], Value::Null);
    for event in page["events"].as_array().unwrap() {
        let at = sealed.iter().position(|r| event["id"] == r.id.shown());
        let integrity = &event["integrity"];
        assert_eq!(integrity["state"], if at.is_some() { "sealed" } else { "recorded" });
        assert_eq!(integrity["leaf_index"].as_u64(), at.map(|at| at as u64));
        assert_eq!(integrity["tree_size"].as_u64(), at.map(|_| 3));
    }
    let (_, usage) = world.read("/v1/usage", "acme-key").await;
    assert_eq!((&usage["events_this_month"], &usage["tree_size"]), (&json!(4), &json!(3)));
    assert_eq!((&usage["plan"], &usage["retention_days"]), (&json!("self-hosted"), &json!(365)));
    let note = world.send(Method::GET, "/v1/log/checkpoint", "acme-key", "").await;
    assert_eq!(note.body(), "a signed note\n");
    assert!(note.headers()[CONTENT_TYPE].to_str().unwrap().starts_with("text/plain"));
    let (_, keys) = world.read("/v1/log/keys", "acme-key").await;
    assert_eq!(keys[0]["name"], tenant.origin().as_str());
    assert!(keys[0]["vkey"].as_str().unwrap().starts_with(tenant.origin().as_str()));
}

#[tokio::test]
async fn exports_are_lists_lines_or_csv() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    let records = fill(&world, &tenant, 20).await;
    let (_, list) = world.read("/v1/events/export", "acme-key").await;
    assert_eq!(list.as_array().unwrap().len(), records.len());
    assert_eq!(list[0]["id"], records[0].id.shown());
    let lines = world.send(Method::GET, "/v1/events/export?format=jsonl&order=asc", "acme-key", "").await;
    let text = std::str::from_utf8(lines.body()).unwrap();
    // The first export is an event of the log's own by now.
    assert_eq!(text.lines().count(), records.len() + 1);
    assert_eq!(text.matches("\"action\":\"stele.export.created\"").count(), 1);
    assert!(text.contains("\"metadata\":{\"n\":0.1}"), "numbers are shown as they were stored");
    let csv = world.send(Method::GET, "/v1/events/export?format=csv&actor_id=u1", "acme-key", "").await;
    assert!(csv.headers()[CONTENT_TYPE].to_str().unwrap().contains("text/csv"));
    let text = std::str::from_utf8(csv.body()).unwrap();
    let rows = records.iter().filter(|r| r.actor_id == "u1").count();
    assert_eq!(text.split_terminator("\r\n").count(), rows + 1);
    assert!(text.contains(",\"'=Alice, \"\"A\"\"\","), "{text}");
    let empty = world.send(Method::GET, "/v1/events/export", "globex-key", "").await;
    assert_eq!(empty.body(), "[]");
}

#[tokio::test]
async fn keys_hand_on_only_what_they_have_and_only_their_tenants() {
    let world = World::new();
    world.tenant("acme").await;
    let post = async |key: &str, body: &str| {
        let response = world.send(Method::POST, "/v1/api-keys", key, body).await;
        (response.status(), serde_json::from_slice::<Value>(response.body()).unwrap())
    };
    let (status, made) = post("acme-reader", r#"{"scopes":["events:read"],"name":"dashboard"}"#).await;
    assert_eq!((status, &made["tenant_id"]), (StatusCode::CREATED, &json!("acme")));
    let (text, id) = (made["key"].as_str().unwrap(), made["key_id"].as_str().unwrap());
    assert!(text.starts_with("stele_test_"));
    assert_eq!(world.read("/v1/events", text).await.0, StatusCode::OK);
    assert_eq!(world.read("/v1/api-keys", text).await.0, StatusCode::FORBIDDEN);

    let (status, problem) = post("acme-reader", r#"{"scopes":["events:write"]}"#).await;
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("insufficient_scope")));
    let (status, _) = post("acme-key", r#"{"scopes":["events:read"],"tenant_id":"globex"}"#).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, problem) = post("platform", r#"{"scopes":["events:raed"],"tenant":"x"}"#).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let pointers: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|e| &e["pointer"]).collect();
    assert_eq!(pointers, ["/scopes/0", "/tenant"]);
    for bad in [
        "",
        "[]",
        "{",
        "{}",
        r#"{"scopes":[]}"#,
        r#"{"scopes":"x"}"#,
        r#"{"scopes":["events:read"],"name":1}"#,
    ] {
        assert!(post("platform", bad).await.0.is_client_error(), "{bad}");
    }

    let (_, listed) = world.read("/v1/api-keys", "acme-reader").await;
    assert_eq!(listed["api_keys"].as_array().unwrap().len(), 1);
    assert_eq!(listed["api_keys"][0]["key"], Value::Null, "the text is never shown again");
    let path = format!("/v1/api-keys/{id}");
    assert_eq!(world.send(Method::DELETE, &path, "globex-key", "").await.status(), StatusCode::NOT_FOUND);
    let (_, foreign) = world.read("/v1/api-keys", "globex-key").await;
    assert_eq!(foreign["api_keys"], json!([]));
    assert_eq!(world.send(Method::DELETE, &path, "acme-reader", "").await.status(), StatusCode::OK);
    assert_eq!(world.read("/v1/events", text).await.0, StatusCode::UNAUTHORIZED, "revoked at once");
}

proptest! {
    #[test]
    fn any_request_is_answered_and_never_with_a_fault_of_ours(
        path in "/v1/(events|events/export|events/[a-z0-9_%-]{0,40}|usage|log/keys|api-keys|retention|legal-holds|legal-holds/[a-z0-9_%-]{0,40}|[a-z/]{0,20})",
        query in "((from|to|action|search|limit|offset|cursor|ip|tenant_id|format|preview|state|x)=[!-~&&[^#]]{0,20}&){0,4}",
        key in "(acme-key|platform|[ -~]{0,20})",
        body in "(\\PC{0,40}|\\{\"(scopes|class_days|hot_days|reason|from)\":(\"?\\PC{0,20}\"?|[0-9]{1,12})\\})",
        method in 0..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let method = [Method::GET, Method::POST, Method::DELETE, Method::PUT][method].clone();
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{path}?{query}"))
            .header(AUTHORIZATION, format!("Bearer {key}"))
            .body(Bytes::from(body));
        if let Ok(request) = request
            && !(request.method() == Method::POST && path.starts_with("/v1/events"))
        {
            let answered = runtime.block_on(async {
                let world = World::new();
                let tenant = world.tenant("acme").await;
                fill(&world, &tenant, 3).await;
                world.query.handle(request).await
            });
            prop_assert!(answered.status().as_u16() < 500, "{path}?{query}: {:?}", answered.body());
        }
    }
}

#[tokio::test]
async fn requests_that_lead_nowhere_say_why() {
    let world = World::new();
    for (path, status) in [
        ("/v1/nothing", StatusCode::NOT_FOUND),
        ("/v1/health?x=1", StatusCode::BAD_REQUEST),
        ("/v1/events?actorid=u1", StatusCode::BAD_REQUEST),
        ("/v1/events?actor_id=%zz", StatusCode::BAD_REQUEST),
        ("/v1/usage?limit=5", StatusCode::BAD_REQUEST),
    ] {
        let (answered, problem) = world.read(path, "acme-key").await;
        assert_eq!((answered, problem["status"].as_u64()), (status, Some(status.as_u16().into())), "{path}");
    }
    assert_eq!(world.read("/v1/events", "wrong").await.0, StatusCode::UNAUTHORIZED);
    let refused = world.send(Method::PUT, "/v1/events", "acme-key", "").await;
    assert_eq!(
        (refused.status(), &refused.headers()[ALLOW]),
        (StatusCode::METHOD_NOT_ALLOWED, &"POST, GET".parse().unwrap())
    );
    assert_eq!(world.read("/v1/health", "").await, (StatusCode::OK, json!({"status": "ok"})));
    assert_eq!(world.read("/v1/openapi.json", "").await.1["openapi"], "3.1.0");
    // A key whose tenant has no event yet finds nothing, and is told so without an error.
    let (status, page) = world.read("/v1/events", "acme-key").await;
    assert_eq!((status, &page["events"], &page["next_cursor"]), (StatusCode::OK, &json!([]), &Value::Null));
    assert_eq!(world.read("/v1/usage", "acme-key").await.1["events_this_month"], 0);
    assert_eq!(world.clock.now(), now().minus_days(10));
}

#[tokio::test]
async fn a_search_says_that_it_may_be_incomplete_while_events_wait() {
    let world = World::new();
    world.tenant("acme").await;
    let complete = async || world.read("/v1/events", "acme-key").await.1["searched"]["complete"].clone();
    assert_eq!(complete().await, true);
    world.queue.send("x".to_owned()).await.unwrap();
    assert_eq!(complete().await, false);
    world.queue.delete("m-1").await.unwrap();
    assert_eq!(complete().await, true);
}

#[tokio::test]
async fn refusals_are_listed_to_their_own_tenant_in_pages_and_the_rest_to_platform_keys() {
    let world = World::new();
    let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
    for n in 0..3 {
        world.store.refuse(&refusals::sample(Some(&acme), n)).await.unwrap();
    }
    world.store.refuse(&refusals::sample(Some(&globex), 7)).await.unwrap();
    world.store.refuse(&refusals::sample(None, 8)).await.unwrap();
    let listed = async |path: &str, key: &str| {
        let (status, page) = world.read(path, key).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let ids =
            page["refused"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()[25..].to_owned());
        (ids.collect::<Vec<_>>(), page["next_cursor"].as_str().map(|c| c.replace('#', "%23")))
    };
    let (first, cursor) = listed("/v1/refused?limit=2", "acme-key").await;
    assert_eq!(first, ["m2", "m1"]);
    let (rest, end) = listed(&format!("/v1/refused?limit=2&cursor={}", cursor.unwrap()), "acme-key").await;
    assert_eq!((rest, end), (vec!["m0".to_owned()], None));
    assert_eq!(listed("/v1/refused?tenant_id=globex", "platform").await.0, ["m7"]);
    assert_eq!(listed("/v1/refused", "platform").await.0, ["m8"]);
    assert_eq!(world.read("/v1/refused?tenant_id=globex", "acme-key").await.0, StatusCode::FORBIDDEN);
    for (path, code) in [
        ("/v1/refused?limit=0", "bad_parameter"),
        ("/v1/refused?limit=101", "bad_parameter"),
        ("/v1/refused?cursor=x", "bad_cursor"),
        ("/v1/refused?offset=1", "bad_parameter"),
    ] {
        assert_eq!(world.read(path, "acme-key").await.1["code"], code, "{path}");
    }
    let (_, page) = world.read("/v1/refused?limit=1", "acme-key").await;
    let shown = &page["refused"][0];
    assert_eq!((&shown["code"], &shown["event_id"]), (&json!("event_conflict"), &json!("evt_1")));
    assert_eq!(shown["event"], "{\"a\":\"ü\"}");
}
