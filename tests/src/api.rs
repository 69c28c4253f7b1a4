//! The HTTP contract (its everyday side): scripts for single conversations, and what takes more than a few
//! requests to see: pages, filters, exports, sealing, the description of it all.

use crate::http::{ROOT, SEALED_WITHIN, Service, run_scripts, shared};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;
use stele::routes::ROUTES;
use stele::tlog::checkpoint::Checkpoint;
use stele::tlog::hash::TreeSize;
use stele::tlog::note::VerifierKey;

/// Events of the tenant `pages`.
const PAGED: usize = 450;

#[test]
fn every_script_gets_exactly_the_answers_written_down() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    assert!(run_scripts(shared(), &scripts) >= 10);
}

/// A service with one tenant of [`PAGED`] events, one per second before a fixed moment of yesterday, in lots of
/// equal times; sent in three batches. No test adds to that tenant what its listings could show.
fn paged() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(filled)
}

fn filled() -> Service {
    let service = Service::start(None);
    let begin = yesterday();
    let events: Vec<Value> = (0..PAGED)
        .map(|n| {
            let action = ["invoice.deleted", "invoice.item.added", "user.login_failed"][n % 3];
            let (outcome, kind) = (["success", "failure"][n % 2], ["invoice", "user"][n % 2]);
            json!({
                "tenant_id": "pages",
                "occurred_at": begin.plus_ms(n as u64 / 3 * 1000).to_string(),
                "actor": {"id": format!("u{}", n % 7), "name": format!("Näme {}", n % 5)},
                "action": action,
                "outcome": outcome,
                "resource": {"type": kind, "id": format!("r{}", n % 90), "name": "=1+1"},
                "context": {"ip": format!("203.0.113.{}", n % 4)},
                "description": format!("number {n}, \"quoted\"\nand broken"),
                "metadata": {"n": n, "tags": [format!("Tag{}", n % 11)]},
            })
        })
        .collect();
    for batch in events.chunks(PAGED / 3) {
        let answer = service.post(ROOT, "/v1/events/batch", json!({"events": batch}).to_string()).expect(200);
        assert_eq!(answer.json()["accepted"], batch.len());
    }
    service.get_sealed(ROOT, "/v1/events?tenant_id=pages&limit=200&order=asc").expect(200);
    service.get_sealed(ROOT, "/v1/events?tenant_id=pages&limit=200").expect(200);
    service
}

fn yesterday() -> stele::time::Timestamp {
    static AT: OnceLock<stele::time::Timestamp> = OnceLock::new();
    *AT.get_or_init(|| {
        let now = stele_adapters::clock::SystemClock;
        stele::ports::Clock::now(&now).minus_days(1).day().start()
    })
}

fn numbers(page: &Value) -> Vec<usize> {
    let events = page["events"].as_array().unwrap();
    events.iter().map(|event| event["metadata"]["n"].as_u64().unwrap() as usize).collect()
}

/// All pages of a listing.
fn walk(query: &str) -> Vec<usize> {
    walk_of(paged(), query)
}

fn walk_of(service: &Service, query: &str) -> Vec<usize> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            service.get(ROOT, &format!("/v1/events?tenant_id=pages&{query}{cursor}")).expect(200).json();
        assert_eq!(page["total"].is_null(), !cursor.is_empty(), "{query}");
        assert_eq!(page["searched"]["complete"], true, "{query}");
        found.extend(numbers(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[test]
fn pages_by_cursor_hold_every_event_once_in_both_orders() {
    let oldest_first = walk("order=asc&limit=37");
    let mut newest_first = walk("order=desc&limit=200");
    newest_first.reverse();
    assert_eq!(oldest_first, newest_first);
    assert_eq!(oldest_first.iter().collect::<BTreeSet<_>>().len(), PAGED);
    let seconds: Vec<usize> = oldest_first.iter().map(|n| n / 3).collect();
    assert!(seconds.is_sorted());
}

#[test]
fn pages_by_offset_are_the_same_listing_with_its_total() {
    let all = walk("limit=200");
    let default = paged().get(ROOT, "/v1/events?tenant_id=pages").expect(200).json();
    assert_eq!((numbers(&default).len(), &default["limit"], &default["offset"]), (50, &json!(50), &json!(0)));
    for (limit, offset) in [(1, 0), (200, 0), (7, 100), (200, 300), (10, 449), (10, 450), (10, 10_000)] {
        let target = format!("/v1/events?tenant_id=pages&limit={limit}&offset={offset}");
        let page = paged().get(ROOT, &target).expect(200).json();
        let wanted: Vec<usize> = all.iter().skip(offset).take(limit).copied().collect();
        assert_eq!(numbers(&page), wanted, "{target}");
        assert_eq!((&page["total"], &page["total_is"]), (&json!(PAGED), &json!("exact")), "{target}");
        assert_eq!(page["next_cursor"].is_null(), offset + limit >= PAGED, "{target}");
    }
}

#[test]
fn every_filter_admits_what_it_says_and_nothing_else() {
    let at = |seconds: u64| yesterday().plus_ms(seconds * 1000).to_string();
    let day = yesterday().to_string()[..10].to_owned();
    type Admits = Box<dyn Fn(usize) -> bool>;
    let cases: Vec<(String, Admits)> = vec![
        (format!("from={}", at(100)), Box::new(|n| n / 3 >= 100)),
        (format!("to={}", at(100)), Box::new(|n| n / 3 < 100)),
        (format!("from={}&to={}", at(10), at(11)), Box::new(|n| n / 3 == 10)),
        (format!("start_date={}&end_date={}", at(10), at(11)), Box::new(|n| matches!(n / 3, 10 | 11))),
        (format!("start_date={day}&end_date={day}"), Box::new(|_| true)),
        (format!("to={day}"), Box::new(|_| false)),
        ("actor_id=u3".into(), Box::new(|n| n % 7 == 3)),
        ("actor_id=u3&actor_id=u4".into(), Box::new(|n| matches!(n % 7, 3 | 4))),
        ("actor_id=u".into(), Box::new(|_| false)),
        ("actor_name=N%C3%84ME+2".into(), Box::new(|n| n % 5 == 2)),
        ("action=invoice.deleted".into(), Box::new(|n| n % 3 == 0)),
        ("action=invoice.*".into(), Box::new(|n| n % 3 < 2)),
        ("action=invoice".into(), Box::new(|n| n % 3 < 2)),
        ("action=LOGIN".into(), Box::new(|n| n % 3 == 2)),
        ("action=invoice.item".into(), Box::new(|_| false)),
        ("action=invoice.deleted&action=user.*".into(), Box::new(|n| n % 3 != 1)),
        ("resource_type=user".into(), Box::new(|n| n % 2 == 1)),
        ("resource_id=r17".into(), Box::new(|n| n % 90 == 17)),
        ("outcome=failure".into(), Box::new(|n| n % 2 == 1)),
        ("outcome=denied".into(), Box::new(|_| false)),
        ("ip=203.0.113.2".into(), Box::new(|n| n % 4 == 2)),
        ("search=tag7".into(), Box::new(|n| n % 11 == 7)),
        ("search=NUMBER+44,".into(), Box::new(|n| n == 44)),
        (
            "actor_id=u1&outcome=failure&action=invoice.*".into(),
            Box::new(|n| n % 7 == 1 && n % 2 == 1 && n % 3 < 2),
        ),
        ("organization_id=pages&resource_id=r1&actor_id=u1".into(), Box::new(|n| n % 90 == 1 && n % 7 == 1)),
    ];
    for (query, admits) in cases {
        let mut found = walk(&format!("limit=90&{query}"));
        found.sort_unstable();
        let wanted: Vec<usize> = (0..PAGED).filter(|n| admits(*n)).collect();
        assert_eq!(found, wanted, "{query}");
        let page =
            paged().get(ROOT, &format!("/v1/events?tenant_id=pages&limit=1&{query}")).expect(200).json();
        assert_eq!(page["total"], wanted.len(), "{query}");
    }
}

#[test]
fn a_listing_shows_nothing_that_came_after_its_first_page() {
    let service = shared();
    let send = |n: usize| {
        let event = json!({"tenant_id": "snapshot", "actor": {"id": "u"}, "action": "a.b", "metadata": {"n": n},
                           "occurred_at": yesterday().plus_ms(n as u64).to_string()});
        service.post(ROOT, "/v1/events", event.to_string()).expect(201);
    };
    (0..20).for_each(|n| send(2 * n));
    for order in ["asc", "desc"] {
        let mut found = Vec::new();
        let mut target = format!("/v1/events?tenant_id=snapshot&limit=6&order={order}");
        let mut odd = if order == "asc" { 1 } else { 101 };
        let before = service.get(ROOT, &target).expect(200).json()["total"].as_u64().unwrap();
        loop {
            let page = service.get(ROOT, &target).expect(200).json();
            found.extend(numbers(&page));
            // Behind, among and before what was read.
            for n in [odd, odd + 30, odd + 60] {
                send(n);
            }
            odd += 2;
            match page["next_cursor"].as_str() {
                Some(next) => {
                    target = format!("/v1/events?tenant_id=snapshot&limit=6&order={order}&cursor={next}");
                }
                None => break,
            }
        }
        assert_eq!(found.len() as u64, before, "{order}: {found:?}");
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "{order}");
    }
}

#[test]
fn exports_hold_the_whole_listing_in_each_format() {
    // One of its own: each export is an event of the tenant's log, which other tests' listings would show.
    let service = filled();
    let wanted = walk_of(&service, "limit=200&outcome=failure");
    let export = |format: &str| {
        let answer = service
            .get(ROOT, &format!("/v1/events/export?tenant_id=pages&outcome=failure&format={format}"))
            .expect(200);
        (answer.text().to_owned(), answer.header("content-type").unwrap().to_owned())
    };
    let (list, kind) = export("json");
    assert_eq!(kind, "application/json");
    let mut list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(numbers(&json!({"events": list})), wanted);
    // The log grows by what each export says of itself.
    let settled = |event: &mut Value| event["integrity"]["tree_size"] = Value::Null;
    list.as_array_mut().unwrap().iter_mut().for_each(settled);

    let (lines, kind) = export("jsonl");
    assert_eq!(kind, "application/x-ndjson");
    let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter_mut().for_each(settled);
    assert_eq!(Value::Array(lines), list);

    let (csv, kind) = export("csv");
    assert!(kind.starts_with("text/csv"));
    let rows = rows_of(&csv);
    assert_eq!(
        rows[0].join(","),
        "id,occurred_at,received_at,tenant_id,action,outcome,reason,actor_type,actor_id,actor_name,actor_email,\
         resource_type,resource_id,resource_name,ip,user_agent,description,changes,metadata,leaf_index"
    );
    assert_eq!(rows.len(), wanted.len() + 1);
    for ((row, event), n) in rows[1..].iter().zip(list.as_array().unwrap()).zip(wanted) {
        let column = |name: &str| row[rows[0].iter().position(|column| column == name).unwrap()].as_str();
        assert_eq!(row.len(), rows[0].len());
        assert_eq!(column("id"), event["id"]);
        assert_eq!(column("actor_name"), event["actor"]["name"]);
        assert_eq!(column("description"), format!("number {n}, \"quoted\"\nand broken"));
        assert_eq!(column("resource_name"), "'=1+1", "a spreadsheet must not compute it");
        assert_eq!(serde_json::from_str::<Value>(column("metadata")).unwrap(), event["metadata"]);
        assert_eq!(column("leaf_index"), event["integrity"]["leaf_index"].to_string());
        assert_eq!((column("reason"), column("changes")), ("", ""));
    }
}

/// RFC 4180, for texts that keep to it.
fn rows_of(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => quoted = !quoted,
            c if quoted => cell.push(c),
            ',' => row.push(std::mem::take(&mut cell)),
            '\r' if chars.peek() == Some(&'\n') => {
                chars.next();
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    assert!(row.is_empty() && cell.is_empty() && !quoted, "the last line has its end");
    rows
}

#[test]
fn an_event_is_sealed_within_two_seconds_under_a_checkpoint_anyone_can_check() {
    let service = shared();
    let event = r#"{"tenant_id":"sealing","actor":{"id":"u"},"action":"a.b"}"#;
    let sent = service.post(ROOT, "/v1/events", event).expect(201).json();
    let begun = Instant::now();
    let target = format!("/v1/events/{}?tenant_id=sealing", sent["id"].as_str().unwrap());
    let sealed = service.get_sealed(ROOT, &target).expect(200).json();
    assert!(begun.elapsed() <= SEALED_WITHIN);
    let integrity = &sealed["integrity"];
    assert_eq!((&integrity["state"], &integrity["leaf_index"]), (&json!("sealed"), &json!(0)));
    assert_eq!(integrity["leaf_hash"], sent["receipt"]["leaf_hash"]);
    assert_eq!(sealed["received_at"], sent["receipt"]["received_at"]);

    let keys = service.get(ROOT, "/v1/log/keys?tenant_id=sealing").expect(200).json();
    let key = VerifierKey::parse(keys[0]["vkey"].as_str().unwrap()).unwrap();
    let note = service.get(ROOT, "/v1/log/checkpoint?tenant_id=sealing").expect(200);
    let checkpoint = Checkpoint::open(&note.body, &[key]).expect("the signature is good");
    // RFC 6962: the root of a tree of one leaf is that leaf's hash.
    assert_eq!(
        (checkpoint.size, checkpoint.root.to_string().into()),
        (TreeSize::new(1), integrity["leaf_hash"].clone())
    );
}

#[test]
fn a_batch_may_be_gzip_and_five_hundred_events() {
    let events: Vec<Value> = (0..500)
        .map(|n| json!({"tenant_id": "gzip", "external_id": format!("g-{n}"), "actor": {"id": "u"}, "action": "a.b"}))
        .collect();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(json!({"events": events}).to_string().as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let headers = [
        ("authorization", "Bearer root"),
        ("content-encoding", "gzip"),
        ("content-type", "application/json"),
    ];
    let first = shared().send("POST", "/v1/events/batch", &headers, &packed).expect(200).json();
    assert_eq!((&first["accepted"], &first["rejected"]), (&json!(500), &json!(0)));
    let again = shared().send("POST", "/v1/events/batch", &headers, &packed).expect(200).json();
    assert_eq!((&again["accepted"], &again["replayed"]), (&json!(0), &json!(500)));
    for (first, again) in
        first["results"].as_array().unwrap().iter().zip(again["results"].as_array().unwrap())
    {
        assert_eq!((&first["id"], &first["receipt"]), (&again["id"], &again["receipt"]));
    }
}

#[test]
fn of_two_events_with_one_id_in_a_batch_the_first_is_stored() {
    let event = |n: usize, description: &str| {
        json!({"tenant_id": "twins", "external_id": format!("t-{n}"),
               "actor": {"id": "u"}, "action": "a.b", "description": description})
    };
    let events: Vec<Value> = (0..40).flat_map(|n| [event(n, "first"), event(n, "second")]).collect();
    let body = json!({"events": events}).to_string();
    let headers = [("authorization", "Bearer root"), ("content-type", "application/json")];
    let answer = shared().send("POST", "/v1/events/batch", &headers, body).expect(200).json();
    let status = |item: &Value| item["status"].as_u64().unwrap();
    for pair in answer["results"].as_array().unwrap().chunks(2) {
        assert_eq!((status(&pair[0]), status(&pair[1])), (201, 409), "{pair:?}");
    }
}

#[test]
fn a_request_goes_by_the_id_it_brings() {
    let named = |id: &str| {
        let answer = shared().send("GET", "/v1/nowhere", &[("request-id", id)], "").expect(404);
        let header = answer.header("request-id").unwrap().to_owned();
        assert_eq!(answer.json()["request_id"], header);
        header
    };
    assert_eq!(named("order-417_a"), "order-417_a");
    assert!(named("<script>").starts_with("req_"));
    assert_ne!(named("a b"), named("a b"));
}

#[test]
fn openapi_names_every_route_and_no_other() {
    let document = shared().documented();
    assert_eq!(document["openapi"], "3.1.0");
    let mut named = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            named.insert((method.to_ascii_uppercase(), path.clone()));
        }
    }
    let routes: BTreeSet<_> =
        ROUTES.iter().map(|r| (r.method.to_string(), r.template.replace('+', ""))).collect();
    assert_eq!(named, routes);
}
