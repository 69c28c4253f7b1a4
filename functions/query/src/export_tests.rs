//! Tests of exports over HTTP, against the memory store: what a request is held to, and who sees what.

use crate::tests::{World, now};
use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use stele::export::{Claiming, ExportErrand, ExportedFile};
use stele::limits;
use stele::ports::{Exports, Inbox};
use stele::tlog::hash::Hash;
use stele_adapters::http::Response;

impl World {
    async fn sent(&self, key: &str, method: &str, path: &str, body: Value, name: Option<&str>) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("authorization", format!("Bearer {key}"));
        if let Some(name) = name {
            request = request.header("idempotency-key", name);
        }
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        self.query.handle(request.body(body).unwrap()).await
    }

    async fn post(&self, key: &str, body: Value) -> Response {
        self.sent(key, "POST", "/v1/exports", body, None).await
    }

    async fn got(&self, key: &str, path: &str) -> Response {
        self.sent(key, "GET", path, Value::Null, None).await
    }

    async fn errands_to_export(&self) -> Vec<ExportErrand> {
        let messages = self.exporting.receive(99).await.unwrap();
        messages.iter().map(|message| ExportErrand::parse(&message.body).unwrap()).collect()
    }
}

fn body(response: &Response) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

#[tokio::test]
async fn an_export_is_queued_told_of_in_the_log_and_found_by_its_own_tenant_alone() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    world.tenant("globex").await;
    let made = world.post("acme-key", json!({"format": "csv", "filter": {"actor_id": ["b", "a"]}})).await;
    assert_eq!(made.status(), StatusCode::ACCEPTED, "{made:?}");
    let export = body(&made);
    let id = export["id"].as_str().unwrap();
    assert_eq!(made.headers()["location"], format!("/v1/exports/{id}"));
    assert_eq!(export["filter"], json!({"actor_id": ["a", "b"]}));
    assert_eq!(
        (&export["state"], &export["tree_size"], &export["file"]),
        (&json!("queued"), &json!(0), &Value::Null)
    );
    let errands = world.errands_to_export().await;
    assert_eq!(errands, [ExportErrand { tenant: tenant.id().clone(), export: id.to_owned() }]);
    let told = world.store.take_stream();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].action, "stele.export.created");
    assert_eq!(told[0].resource_id.as_deref(), Some(id));

    let path = format!("/v1/exports/{id}");
    assert_eq!(body(&world.got("acme-key", &path).await), export);
    let listed = body(&world.got("acme-key", "/v1/exports").await);
    assert_eq!(listed, json!({"exports": [export], "next_cursor": null}));
    assert_eq!(body(&world.got("globex-key", "/v1/exports").await)["exports"], json!([]));
    for (key, path) in [
        ("globex-key", path.clone()),
        ("globex-key", format!("{path}/file")),
        ("platform", format!("{path}?tenant_id=globex")),
        ("acme-key", "/v1/exports/exp_0".to_owned()),
        ("acme-key", "/v1/exports/exp_00000000000000000000000000000000".to_owned()),
        ("acme-key", format!("{path}/file")),
    ] {
        assert_eq!(world.got(key, &path).await.status(), StatusCode::NOT_FOUND, "{key} {path}");
    }
    assert_eq!(world.got("acme-reader", &path).await.status(), StatusCode::FORBIDDEN);
    let platform = body(&world.got("platform", &format!("{path}?tenant_id=acme")).await);
    assert_eq!(platform["id"], export["id"]);
}

#[tokio::test]
async fn a_repeated_request_answers_with_the_first_ones_export() {
    let world = World::new();
    world.tenant("acme").await;
    let ask = async |body: Value| world.sent("acme-key", "POST", "/v1/exports", body, Some("k")).await;
    let first = ask(json!({"format": "jsonl", "since": 0})).await;
    world.clock.set(now().plus_ms(9));
    let again = ask(json!({"format": "jsonl", "since": 0})).await;
    assert_eq!((first.status(), again.status()), (StatusCode::ACCEPTED, StatusCode::OK));
    assert_eq!(body(&first), body(&again));
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(world.store.take_stream().len(), 1, "it is told once");
    let other = ask(json!({"format": "csv", "since": 0})).await;
    assert_eq!((other.status(), &body(&other)["code"]), (StatusCode::CONFLICT, &json!("event_conflict")));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_by_place() {
    let world = World::new();
    world.tenant("acme").await;
    for (request, status, pointer) in [
        (json!({}), 422, "/format"),
        (json!({"format": "xml"}), 422, "/format"),
        (json!({"format": "csv", "since": "first"}), 422, "/since"),
        (json!({"format": "csv", "since": -1}), 422, "/since"),
        (json!({"format": "csv", "since": 1}), 422, "/since"),
        (json!({"format": "csv", "covering": true}), 422, "/covering"),
        (json!({"format": "evidence", "covering": 1}), 422, "/covering"),
        (json!({"format": "csv", "filter": []}), 422, "/filter"),
        (json!({"format": "csv", "filter": {"actor_id": 7}}), 422, "/filter/actor_id"),
        (json!({"format": "csv", "filter": {"actor_id": []}}), 422, "/filter/actor_id"),
        (json!({"format": "csv", "filter": {"limit": "7"}}), 400, "limit"),
        (json!({"format": "csv", "filter": {"actr_id": "7"}}), 400, "actr_id"),
        (json!({"format": "csv", "tenant": "acme"}), 422, "/tenant"),
        (json!({"format": "csv", "tenant_id": "a/b"}), 422, "/tenant_id"),
    ] {
        let refused = world.post("acme-key", request.clone()).await;
        assert_eq!(refused.status().as_u16(), status, "{request}");
        assert_eq!(body(&refused)["errors"][0]["pointer"], pointer, "{request}");
    }
    let foreign = world.post("acme-key", json!({"format": "csv", "tenant_id": "globex"})).await;
    assert!(foreign.status().is_client_error());
    let nobody = world.post("platform", json!({"format": "csv", "tenant_id": "nobody"})).await;
    assert_eq!(nobody.status(), StatusCode::NOT_FOUND);
    assert!(world.errands_to_export().await.is_empty() && world.store.take_stream().is_empty());
}

#[tokio::test]
async fn an_errand_that_was_lost_is_sent_again_by_whoever_looks() {
    let world = World::new();
    world.tenant("acme").await;
    let made = body(&world.post("acme-key", json!({"format": "csv"})).await);
    let path = format!("/v1/exports/{}", made["id"].as_str().unwrap());
    for (after, errands) in [(0, 1), (limits::EXPORT_LEASE_MS - 1, 1), (limits::EXPORT_LEASE_MS, 2)] {
        world.clock.set(now().plus_ms(after));
        world.got("acme-key", &path).await;
        world.got("acme-key", &path).await;
        assert_eq!(world.errands_to_export().await.len(), errands, "after {after} ms");
    }
}

#[tokio::test]
async fn a_finished_export_has_a_link_while_its_file_is_kept_and_the_next_goes_on_there() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    let made = body(&world.post("acme-key", json!({"format": "csv"})).await);
    let id = made["id"].as_str().unwrap();
    let export = world.store.export(&tenant, id).await.unwrap().unwrap();
    let Claiming::Claimed(claimed) = export.claim("w", now()) else { panic!("nobody has it") };
    let spool = tempfile::tempdir().unwrap();
    let path = spool.path().join("x");
    std::fs::write(&path, b"0123456789").unwrap();
    let spooled = stele::ports::Spooled { path, bytes: 10, sha256: Hash::of(b"0123456789") };
    let sha256 = spooled.sha256.to_string();
    let file = ExportedFile { bytes: 10, sha256, events: 1, first: 0, end: 7, expired: 0 };
    stele::ports::ExportFiles::put_export(&*world.files, &export.key(tenant.id()), &spooled, &file)
        .await
        .unwrap();
    assert!(world.store.replace_export(&tenant, 0, &claimed.finished(file, now())).await.unwrap());

    let shown = body(&world.got("acme-key", &format!("/v1/exports/{id}")).await);
    let url = shown["file"]["url"].as_str().unwrap();
    assert_eq!((shown["state"].as_str(), url), (Some("done"), &*format!("/v1/exports/{id}/file")));
    let whole = world.got("acme-key", url).await;
    assert_eq!((whole.status(), &whole.body()[..]), (StatusCode::OK, &b"0123456789"[..]));
    for (range, status, bytes) in [
        ("bytes=4-", 206, "456789"),
        ("bytes=0-3", 206, "0123"),
        ("bytes=10-", 200, "0123456789"),
        ("bytes=-3", 200, "0123456789"),
        ("lines=1-", 200, "0123456789"),
    ] {
        let request = Request::get(url).header("authorization", "Bearer acme-key").header("range", range);
        let part = world.query.handle(request.body(Bytes::new()).unwrap()).await;
        assert_eq!((part.status().as_u16(), &part.body()[..]), (status, bytes.as_bytes()), "{range}");
        assert_eq!(part.headers().contains_key("content-range"), status == 206);
    }
    let since = async |body_: Value| body(&world.post("acme-key", body_).await)["first"].clone();
    assert_eq!(since(json!({"format": "csv", "since": "last"})).await, 7);
    assert_eq!(since(json!({"format": "jsonl", "since": "last"})).await, 0, "another format");
    let other = json!({"format": "csv", "since": "last", "filter": {"actor_id": "a"}});
    assert_eq!(since(other).await, 0, "another filter");

    world.clock.set(now().plus_days(limits::EXPORT_KEPT_DAYS));
    let shown = body(&world.got("acme-key", &format!("/v1/exports/{id}")).await);
    assert_eq!((&shown["file"]["url"], &shown["file"]["events"]), (&Value::Null, &json!(1)));
    assert_eq!(world.got("acme-key", url).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(since(json!({"format": "csv", "since": "last"})).await, 7, "it is still known where it ended");
}

#[tokio::test]
async fn exports_are_listed_in_pages() {
    let world = World::new();
    world.tenant("acme").await;
    let mut made = Vec::new();
    for n in 0..5 {
        world.clock.set(now().plus_ms(n));
        made.push(body(&world.post("acme-key", json!({"format": "csv"})).await)["id"].clone());
    }
    made.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = body(&world.got("acme-key", &format!("/v1/exports?limit=2{cursor}")).await);
        seen.extend(page["exports"].as_array().unwrap().iter().map(|export| export["id"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, made);
    for bad in ["limit=0", "limit=101", "limit=x", "cursor=x", "offset=1"] {
        let refused = world.got("acme-key", &format!("/v1/exports?{bad}")).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
}
