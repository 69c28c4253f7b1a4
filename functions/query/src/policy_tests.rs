//! Retention and legal holds over memory stores, from request to answer: what is stored, what goes into the log, and
//! what a request that broke off leaves for the next.

use crate::tests::{World, now};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use stele::access::{Tenant, TenantRecord};
use stele::archive::ArchiveEntry;
use stele::errand::Errand;
use stele::id::EventId;
use stele::limits;
use stele::ports::{ArchiveIndex, Heads, Inbox, Policies, Reconciled, Tenants, Watermarks};
use stele::record::Record;
use stele::retention::{Class, Enforcement, LegalHold};
use stele::segment::{Head, IndexEntry};
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele_adapters::faults::{Fault, FaultPlan, Faulty};
use stele_adapters::http::Response;

const NOT_KEYS: [&str; 2] = ["globex-key", "acme-reader"];

impl World {
    async fn asked(&self, method: Method, path: &str, key: &str, body: &Value) -> (StatusCode, Value) {
        shown(&self.send(method, path, key, &body.to_string()).await)
    }

    async fn place(&self, body: &Value, idempotency_key: Option<&str>) -> (StatusCode, Value) {
        let mut request = http::Request::post("/v1/legal-holds").header("authorization", "Bearer acme-key");
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        shown(&self.query.handle(request.body(body.to_string().into()).unwrap()).await)
    }

    /// What a pass of compact leaves behind, with nothing to do on the way.
    async fn pass(&self, tenant: &Tenant) {
        let mut pass = self.store.enforcement(tenant).await.unwrap();
        (pass.started, pass.done, pass.checked) = (pass.requested, pass.requested, 3);
        self.store.save_enforcement(tenant, &pass).await.unwrap();
    }

    async fn record(&self, tenant: &Tenant) -> TenantRecord {
        self.store.tenant(tenant.id()).await.unwrap().unwrap()
    }

    /// The events of the log's own, oldest first.
    async fn own_events(&self) -> Vec<Value> {
        let page = self.page("action=stele.*&order=asc").await;
        page["events"].as_array().unwrap().clone()
    }

    async fn errands(&self) -> Vec<Errand> {
        let sent = self.errands.receive(100).await.unwrap();
        sent.iter().map(|message| Errand::parse(&message.body).unwrap()).collect()
    }
}

fn shown(response: &Response) -> (StatusCode, Value) {
    (response.status(), serde_json::from_slice(response.body()).unwrap())
}

fn file(first: u64, end: u64, sealed_last: Timestamp, class: u32) -> ArchiveEntry {
    let id = EventId::new(sealed_last, 1);
    ArchiveEntry {
        first: LeafIndex::new(first),
        end: TreeSize::new(end),
        sealed_first: sealed_last,
        sealed_last,
        received_min: sealed_last,
        received_max: sealed_last,
        running_received_max: sealed_last,
        id_min: id,
        id_max: id,
        bytes: 1 << 30,
        version: "1".into(),
        sha256: Hash::of(b""),
        class: Class::of_days(class).unwrap(),
        expired: None,
        range: None,
    }
}

/// Two files of the archive, one that has expired, and a segment.
async fn fill(world: &World, tenant: &Tenant) {
    let (old, new) = (now().minus_days(40), now().minus_days(5));
    for entry in [
        ArchiveEntry { expired: Some(now()), ..file(0, 10, now().minus_days(400), 365) },
        file(10, 110, old, 365),
        file(110, 310, new, 731),
    ] {
        world.store.put_archived(tenant, &entry).await.unwrap();
    }
    let archived = file(310, 320, now(), 365);
    let segment = IndexEntry {
        first: archived.first,
        end: archived.end,
        received_min: now(),
        received_max: now(),
        running_received_max: now(),
        id_min: archived.id_min,
        id_max: archived.id_max,
        sealed_at: now(),
        version: "1".into(),
        sha256: Hash::of(b""),
        subtrees: None,
    };
    world.store.put_index(tenant, &segment).await.unwrap();
}

#[tokio::test]
async fn retention_is_shown_with_what_is_locked_until_when() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    let (status, shown) = world.read("/v1/retention", "platform").await;
    assert_eq!(status, StatusCode::OK);
    let platform =
        json!({"tenant_id": null, "class_days": 365, "hot_days": 90, "classes_days": limits::CLASSES_DAYS});
    assert_eq!(shown, platform);
    fill(&world, &tenant).await;
    let (status, shown) = world.read("/v1/retention", "acme-reader").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        shown["archive"],
        json!({
            "files": 2, "events": 300, "bytes": 1_u64 << 31,
            "earliest_expiry": now().minus_days(40).plus_days(365).to_string(),
            "latest_expiry": now().minus_days(5).plus_days(731).to_string(),
        })
    );
    assert_eq!(
        shown["by_class"],
        json!([
            {"class_days": 365, "files": 1, "events": 100, "bytes": 1 << 30},
            {"class_days": 731, "files": 1, "events": 200, "bytes": 1 << 30},
        ])
    );
    assert_eq!(shown["enforcement"], json!({"complete": true, "checked": 0, "extended": 0, "objects": 3}));
    assert_eq!((&shown["tenant_id"], &shown["legal_holds_open"]), (&json!("acme"), &json!(0)));

    assert_eq!(world.read("/v1/retention?tenant_id=nobody", "platform").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.read("/v1/retention?tenant_id=globex", "acme-key").await.0, StatusCode::FORBIDDEN);
    assert_eq!(world.read("/v1/retention?class=1", "acme-key").await.0, StatusCode::BAD_REQUEST);
    let (status, empty) = world.read("/v1/retention", "globex-key").await;
    assert_eq!((status, &empty["archive"]["files"]), (StatusCode::OK, &json!(0)), "no event yet");
}

#[tokio::test]
async fn a_longer_class_is_previewed_and_then_holds_for_all_that_is_archived() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    fill(&world, &tenant).await;
    let before = world.record(&tenant).await;
    let longer = json!({"class_days": 731});
    let (status, preview) = world.asked(Method::PUT, "/v1/retention?preview=true", "acme-key", &longer).await;
    assert_eq!(status, StatusCode::OK, "{preview}");
    assert_eq!(world.record(&tenant).await, before);
    assert_eq!(world.store.enforcement(&tenant).await.unwrap(), Enforcement::default());
    assert_eq!((world.own_events().await.len(), world.errands().await.len()), (0, 0));

    let effect = &preview["effect"];
    assert_eq!(effect["locks_lengthened"], json!({"files": 1, "events": 100, "bytes": 1 << 30}));
    assert_eq!(effect["until"], now().minus_days(40).plus_days(731).to_string());
    assert_eq!(
        (&effect["applies_to"], &effect["storage_usd_per_month_added"]),
        (&json!("all"), &json!(0.004))
    );
    // Two writes for the file and three reads for each of three objects.
    assert_eq!(effect["requests_usd"], json!(0.000_014));
    assert!(effect["estimate"].as_str().unwrap().contains("us-east-1"));
    let sentences = preview["cannot_be_undone"].as_array().unwrap();
    assert!(sentences[0].as_str().unwrap().contains("1 archived files with 100 events"), "{sentences:?}");

    let (status, done) = world.asked(Method::PUT, "/v1/retention", "acme-key", &longer).await;
    assert_eq!(status, StatusCode::OK);
    for member in ["before", "after", "effect", "cannot_be_undone"] {
        assert_eq!(done[member], preview[member], "{member}");
    }
    assert_eq!((&preview["preview"], &done["preview"]), (&json!(true), &json!(false)));
    let record = world.record(&tenant).await;
    assert_eq!((record.class_days, record.class_from_ms), (731, 0));
    assert_eq!(file(0, 1, now().minus_days(40), 365).class_needed(&record).days(), 731);
    assert_eq!(world.store.enforcement(&tenant).await.unwrap().requested, 1);
    assert_eq!(world.errands().await, [Errand::to(tenant.id().clone())]);
    assert_eq!(world.read("/v1/retention", "acme-key").await.1["enforcement"]["complete"], false);
    assert_eq!(world.read("/v1/usage", "acme-key").await.1["retention_days"], 731);

    let events = world.own_events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0]["action"], &events[0]["actor"]["id"]),
        (&json!("stele.retention.changed"), &json!("key-acme"))
    );
    assert_eq!(events[0]["metadata"]["before"], json!({"class_days": 365, "hot_days": 90}));
    assert_eq!(events[0]["metadata"]["after"], json!({"class_days": 731, "hot_days": 90}));
}

#[tokio::test]
async fn a_shorter_class_holds_for_later_files_only_and_a_longer_one_may() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    fill(&world, &tenant).await;
    let put = async |body: Value| world.asked(Method::PUT, "/v1/retention", "acme-key", &body).await;
    let (status, refused) = put(json!({"class_days": 180, "applies_to": "all"})).await;
    assert_eq!((status, &refused["code"]), (StatusCode::CONFLICT, &json!("retention_cannot_shorten")));
    assert_eq!(refused["errors"][0]["suggestion"], "new");
    assert_eq!(world.record(&tenant).await.class_days, 365);

    let (status, shorter) = put(json!({"class_days": 180})).await;
    assert_eq!((status, &shorter["effect"]["applies_to"]), (StatusCode::OK, &json!("new")));
    assert_eq!(shorter["effect"]["locks_lengthened"]["files"], 0);
    assert!(shorter["cannot_be_undone"][1].as_str().unwrap().contains("keeps the longer locks"), "{shorter}");
    assert_eq!(world.store.enforcement(&tenant).await.unwrap().requested, 0, "nothing is to be carried out");

    // A class for later files leaves alone what has been archived under a shorter one.
    let (_, longer) = put(json!({"class_days": 2557, "applies_to": "new"})).await;
    assert_eq!(longer["effect"]["locks_lengthened"]["files"], 0);
    let record = world.record(&tenant).await;
    assert_eq!(file(0, 1, now().minus_days(1), 180).class_needed(&record).days(), 180);
    assert_eq!(file(0, 1, now().plus_days(1), 180).class_needed(&record).days(), 2557);
    // Said again for all, it holds for all.
    let (_, all) = put(json!({"class_days": 2557, "applies_to": "all"})).await;
    assert_eq!(all["effect"]["locks_lengthened"]["files"], 2);
    assert_eq!(file(0, 1, now().minus_days(1), 180).class_needed(&world.record(&tenant).await).days(), 2557);
    assert_eq!(world.own_events().await.len(), 3);
}

#[tokio::test]
async fn what_new_tenants_get_is_the_platforms_to_decide() {
    let world = World::new();
    world.tenant("acme").await;
    let wanted = json!({"class_days": 2192, "hot_days": 40});
    let (status, change) = world.asked(Method::PUT, "/v1/retention?preview=true", "platform", &wanted).await;
    assert_eq!((status, &change["after"]), (StatusCode::OK, &wanted));
    assert_eq!(world.read("/v1/retention", "platform").await.1["class_days"], 365);
    let (status, change) = world.asked(Method::PUT, "/v1/retention", "platform", &wanted).await;
    assert_eq!((status, &change["tenant_id"]), (StatusCode::OK, &Value::Null));
    assert_eq!(world.read("/v1/retention", "platform").await.1["class_days"], 2192);
    let (status, refused) = world
        .asked(Method::PUT, "/v1/retention", "platform", &json!({"class_days": 365, "applies_to": "all"}))
        .await;
    assert_eq!(
        (status, &refused["errors"][0]["pointer"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("/applies_to"))
    );
    assert_eq!(world.record(&world.tenant("globex").await).await.class_days, 2192);
    assert_eq!(world.record(&world.tenant("acme").await).await.class_days, 365, "the others keep theirs");

    // A shorter class for tenants to come shortens nothing.
    let (status, _) = world.asked(Method::PUT, "/v1/retention", "platform", &json!({"class_days": 90})).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_preview_for_a_tenant_without_events_brings_none_into_being() {
    let world = World::new();
    let wanted = json!({"class_days": 731});
    let (status, _) = world.asked(Method::PUT, "/v1/retention?preview=true", "acme-key", &wanted).await;
    assert_eq!(status, StatusCode::OK);
    assert!(world.store.tenants(None, 10).await.unwrap().is_empty());
    let (status, _) = world.asked(Method::PUT, "/v1/retention", "acme-key", &wanted).await;
    assert_eq!((status, world.store.tenants(None, 10).await.unwrap()[0].class_days), (StatusCode::OK, 731));
}

#[tokio::test]
async fn a_retention_that_can_not_be_is_refused_place_by_place() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    let before = world.record(&tenant).await;
    for (body, pointer, code, suggestion) in [
        (json!({"class_days": 400}), "/class_days", "bad_value", json!("731")),
        (json!({"class_days": 4000}), "/class_days", "bad_value", Value::Null),
        (json!({"class_days": "365"}), "/class_days", "bad_value", Value::Null),
        (json!({"hot_days": 34}), "/hot_days", "bad_value", Value::Null),
        (json!({"hot_days": 3654}), "/hot_days", "bad_value", Value::Null),
        (json!({"class_days": 365, "applies_to": "some"}), "/applies_to", "bad_value", Value::Null),
        (json!({"hot_days": 40, "applies_to": "all"}), "/applies_to", "contradiction", Value::Null),
        (json!({}), "/class_days", "required", Value::Null),
        (json!({"class": 365}), "/class", "unknown_field", Value::Null),
    ] {
        let (status, refused) = world.asked(Method::PUT, "/v1/retention", "acme-key", &body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {refused}");
        let error = &refused["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!(pointer), &json!(code)), "{body}");
        assert_eq!(error["suggestion"], suggestion, "{body}");
    }
    let fine = json!({"class_days": 731});
    for (path, key, status) in [
        ("/v1/retention?preview=yes", "acme-key", StatusCode::BAD_REQUEST),
        ("/v1/retention?tenant_id=acme", "globex-key", StatusCode::FORBIDDEN),
        ("/v1/retention?tenant_id=nobody", "platform", StatusCode::NOT_FOUND),
        ("/v1/retention", "acme-reader", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(world.asked(Method::PUT, path, key, &fine).await.0, status, "{path} {key}");
    }
    assert_eq!(world.record(&tenant).await, before);
}

#[tokio::test]
async fn a_hold_is_placed_carried_out_listed_and_released() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    fill(&world, &tenant).await;
    let wanted = json!({"from": "2026-05-01", "to": "2026-06-01T00:00:00+02:00", "reason": " case 7 "});
    let (status, placed) = world.place(&wanted, None).await;
    assert_eq!(status, StatusCode::CREATED, "{placed}");
    let id = placed["id"].as_str().unwrap();
    assert!(id.len() == 37 && id.starts_with("hold_"), "{id}");
    assert_eq!(placed["from"], "2026-05-01T00:00:00.000Z");
    assert_eq!(placed["to"], "2026-05-31T22:00:00.000Z");
    assert_eq!((&placed["reason"], &placed["state"]), (&json!("case 7"), &json!("applying")));
    assert_eq!(placed["progress"], json!({"checked": 0, "objects": 3}));
    assert_eq!((&placed["placed_by"], &placed["released_at"]), (&json!("key-acme"), &Value::Null));
    assert_eq!(world.errands().await, [Errand::to(tenant.id().clone())]);
    assert_eq!(world.read("/v1/retention", "acme-key").await.1["legal_holds_open"], 1);

    let path = format!("/v1/legal-holds/{id}");
    world.pass(&tenant).await;
    let (_, held) = world.read(&path, "acme-key").await;
    assert_eq!((&held["state"], &held["progress"]["checked"]), (&json!("in_force"), &json!(3)));

    world.clock.advance_ms(1_000);
    let (status, released) = world.asked(Method::DELETE, &path, "acme-key", &Value::Null).await;
    assert_eq!((status, &released["state"]), (StatusCode::OK, &json!("releasing")));
    assert_eq!(released["released_by"], "key-acme");
    world.clock.advance_ms(1_000);
    assert_eq!(
        world.asked(Method::DELETE, &path, "acme-key", &Value::Null).await,
        (status, released.clone())
    );
    let requested = world.store.enforcement(&tenant).await.unwrap().requested;
    world.pass(&tenant).await;
    let (_, over) = world.asked(Method::DELETE, &path, "acme-key", &Value::Null).await;
    assert_eq!((&over["state"], &over["released_at"]), (&json!("released"), &released["released_at"]));
    assert_eq!(
        world.store.enforcement(&tenant).await.unwrap().requested,
        requested,
        "no pass for a repetition"
    );

    let (_, second) = world.place(&json!({"reason": "case 8"}), None).await;
    let listed = async |query: &str| {
        let (status, listed) = world.read(&format!("/v1/legal-holds{query}"), "acme-key").await;
        assert_eq!(status, StatusCode::OK, "{listed}");
        let holds = listed["legal_holds"].as_array().unwrap().iter();
        holds.map(|hold| hold["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let second = second["id"].as_str().unwrap();
    assert_eq!(listed("").await, [second, id], "open ones first");
    assert_eq!(listed("?state=released").await, [id]);
    assert_eq!(listed("?state=applying&state=in_force").await, [second]);
    assert_eq!(world.read("/v1/legal-holds?state=open", "acme-key").await.0, StatusCode::BAD_REQUEST);

    let events = world.own_events().await;
    let actions: Vec<_> = events.iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["stele.legal_hold.placed", "stele.legal_hold.released", "stele.legal_hold.placed"]);
    assert_eq!(events[0]["metadata"]["reason"], "case 7");
    assert_eq!(
        (&events[1]["resource"]["id"], &events[1]["occurred_at"]),
        (&json!(id), &released["released_at"])
    );
}

#[tokio::test]
async fn holds_of_others_are_not_there() {
    let world = World::new();
    world.tenant("acme").await;
    world.tenant("globex").await;
    let (_, placed) = world.place(&json!({"reason": "case 7"}), None).await;
    let path = format!("/v1/legal-holds/{}", placed["id"].as_str().unwrap());
    let mut answers = Vec::new();
    for method in [Method::GET, Method::DELETE] {
        for (path, key) in [
            (path.as_str(), "globex-key"),
            ("/v1/legal-holds/hold_0", "globex-key"),
            ("/v1/legal-holds/%00", "globex-key"),
        ] {
            let (status, mut refused) = world.asked(method.clone(), path, key, &Value::Null).await;
            assert_eq!(status, StatusCode::NOT_FOUND);
            refused.as_object_mut().unwrap().remove("request_id");
            answers.push(refused);
        }
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert_eq!(world.read("/v1/legal-holds", "globex-key").await.1["legal_holds"], json!([]));
    for (path, key, status) in [
        ("/v1/legal-holds", "platform", StatusCode::BAD_REQUEST),
        ("/v1/legal-holds?tenant_id=nobody", "platform", StatusCode::NOT_FOUND),
        ("/v1/legal-holds?tenant_id=acme", "platform", StatusCode::OK),
        ("/v1/legal-holds?tenant_id=acme", "globex-key", StatusCode::FORBIDDEN),
        ("/v1/legal-holds", "acme-reader", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(world.read(path, key).await.0, status, "{path} {key}");
    }
    for key in NOT_KEYS {
        let body = json!({"tenant_id": "acme", "reason": "x"});
        let (status, _) = world.asked(Method::POST, "/v1/legal-holds", key, &body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{key}");
    }
    let nobody = json!({"tenant_id": "nobody", "reason": "x"});
    assert_eq!(
        world.asked(Method::POST, "/v1/legal-holds", "platform", &nobody).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(world.read(&path, "acme-key").await.1["state"], "applying", "it is untouched");
}

#[tokio::test]
async fn a_hold_that_can_not_be_is_refused_place_by_place() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    for (body, pointer, code) in [
        (json!({}), "/reason", "required"),
        (json!({"reason": "  "}), "/reason", "required"),
        (json!({"reason": 7}), "/reason", "bad_value"),
        (json!({"reason": "x".repeat(limits::HOLD_REASON_BYTES_MAX + 1)}), "/reason", "too_long"),
        (json!({"reason": "x", "from": "yesterday"}), "/from", "bad_time"),
        (json!({"reason": "x", "to": "2026-05-01T00:00:00"}), "/to", "bad_time"),
        (json!({"reason": "x", "to": 5}), "/to", "bad_time"),
        (json!({"reason": "x", "from": "2026-05-01", "to": "2026-05-01"}), "/to", "contradiction"),
        (json!({"reason": "x", "tenant_id": "a/b"}), "/tenant_id", "bad_value"),
        (json!({"reason": "x", "until": "2026-05-01"}), "/until", "unknown_field"),
    ] {
        let (status, refused) = world.place(&body, None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {refused}");
        let error = &refused["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!(pointer), &json!(code)), "{body}");
    }
    assert_eq!(world.place(&json!({"reason": "x"}), Some("")).await.0, StatusCode::BAD_REQUEST);
    assert!(world.store.holds(&tenant).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_repeated_request_places_one_hold_and_completes_what_broke_off() {
    let mut world = World::new();
    let tenant = world.tenant("acme").await;
    let (plan, wanted) = (FaultPlan::none(), json!({"reason": "case 7"}));
    world.query.hot = Arc::new(Faulty::new(world.store.clone(), &plan));
    plan.on("hot.put", 0, Fault::Fail);
    let (status, refused) = world.place(&wanted, Some("k")).await;
    assert_eq!((status, &refused["retryable"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(true)));
    assert_eq!(world.store.holds(&tenant).await.unwrap().len(), 1, "the hold comes first");
    assert_eq!(world.own_events().await.len(), 0);

    world.clock.advance_ms(24 * 3_600_000);
    for _ in 0..2 {
        let (status, placed) = world.place(&wanted, Some("k")).await;
        assert_eq!((status, &placed["placed_at"]), (StatusCode::OK, &json!(now().to_string())));
        assert_eq!(world.own_events().await.len(), 1);
    }
    assert_eq!(world.store.holds(&tenant).await.unwrap().len(), 1);
    let enforcement = world.store.enforcement(&tenant).await.unwrap();
    assert_eq!(enforcement.requested, world.store.holds(&tenant).await.unwrap()[0].enforcement);

    let (status, other) = world.place(&json!({"reason": "case 8"}), Some("k")).await;
    assert_eq!((status, &other["code"]), (StatusCode::CONFLICT, &json!("legal_hold_active")));
    assert_eq!(world.place(&wanted, Some("other")).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_hold_nobody_asked_a_pass_for_gets_one_from_who_looks_at_it() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    let hold = LegalHold {
        id: format!("hold_{:032x}", 5),
        from_ms: None,
        to_ms: None,
        reason: "case 7".into(),
        placed_ms: now().ms(),
        placed_by: "key-acme".into(),
        enforcement: 2,
        released_ms: None,
        released_by: None,
    };
    world.store.place_hold(&tenant, &hold).await.unwrap();
    // A pass for something else, asked for before: it may have begun before the hold was there.
    world.store.request_enforcement(&tenant).await.unwrap();
    world.pass(&tenant).await;
    let (_, listed) = world.read("/v1/legal-holds", "acme-key").await;
    assert_eq!(listed["legal_holds"][0]["state"], "applying");
    assert_eq!(world.store.enforcement(&tenant).await.unwrap().requested, 2);
    assert_eq!((world.own_events().await.len(), world.errands().await.len()), (1, 1));
    world.pass(&tenant).await;
    let (_, listed) = world.read("/v1/legal-holds", "acme-key").await;
    assert_eq!(listed["legal_holds"][0]["state"], "in_force");
    assert_eq!(world.errands().await.len(), 1, "nothing is left to do");
}

#[tokio::test]
async fn listings_say_how_far_the_archive_reaches_and_what_is_proven() {
    let world = World::new();
    let tenant = world.tenant("acme").await;
    let records: Vec<Record> = (0..3_u64)
        .map(|n| {
            let at = now().minus_ms(10_000 - n * 1_000);
            let leaf = json!({
                "v": 1, "id": EventId::new(at, 9).to_string(), "tenant_id": "acme", "key_id": "k",
                "occurred_at": at.to_string(), "received_at": at.to_string(), "action": "user.created",
                "actor": {"id": "u1", "type": "user"}, "outcome": "success",
            });
            Record::from_leaf(stele::canonical::canonicalize(leaf.to_string().as_bytes()).unwrap()).unwrap()
        })
        .collect();
    let mut head = Head::empty(now());
    for record in &records {
        world.put(&tenant, record).await;
        head.edge.append(record.leaf_hash);
    }
    (head.sealed_at, head.received_max) = (now(), records[2].received_at);
    world.store.force_head(&tenant, Some(head.clone()));
    for (first, end) in [(0_u64, 2_u64), (2, 3)] {
        let some = &records[first as usize..end as usize];
        let last = some[some.len() - 1].received_at;
        let entry = IndexEntry {
            first: LeafIndex::new(first),
            end: TreeSize::new(end),
            received_min: some[0].received_at,
            received_max: last,
            running_received_max: last,
            id_min: some[0].id,
            id_max: some[some.len() - 1].id,
            sealed_at: now(),
            version: "1".into(),
            sha256: Hash::of(b""),
            subtrees: None,
        };
        world.store.put_index(&tenant, &entry).await.unwrap();
        world.query.places.remember(&tenant, &entry, &some.iter().map(|r| r.id).collect::<Vec<_>>());
    }
    let page = world.page("").await;
    assert_eq!(
        (&page["watermarks"]["archived"], &page["watermarks"]["verified"]),
        (&Value::Null, &Value::Null)
    );

    let archived = ArchiveEntry { running_received_max: records[1].received_at, ..file(0, 2, now(), 365) };
    world.store.put_archived(&tenant, &archived).await.unwrap();
    let reconciled = Reconciled { through: now().minus_days(1).day(), at: now(), problems: Vec::new() };
    world.store.put_reconciled(&tenant, &reconciled).await.unwrap();
    let page = world.page("").await;
    assert_eq!(page["watermarks"]["archived"], records[1].received_at.to_string());
    assert_eq!(page["watermarks"]["verified"], now().day().start().to_string());
    let states: Vec<_> =
        page["events"].as_array().unwrap().iter().map(|e| &e["integrity"]["state"]).collect();
    assert_eq!(states, ["sealed", "archived", "archived"]);
    assert_eq!(page["events"][1]["integrity"]["leaf_index"], 1);
}
