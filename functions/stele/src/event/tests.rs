//! What is accepted, as which leaf, and what is refused, where and why.

use super::*;
use crate::canonical::canonicalize;
use crate::tlog::hash::leaf_hash;
use proptest::prelude::*;
use serde_json::{Value, json};

const ID: &str = "evt_019de3f4-1f00-7abc-9def-0123456789ab";

fn tenant() -> TenantId {
    TenantId::parse("org_acme").unwrap()
}

fn now() -> Timestamp {
    Timestamp::parse("2026-05-01T14:32:05.000Z").unwrap()
}

fn accept(body: &str) -> Result<Accepted> {
    let tenant = tenant();
    let terms =
        Terms { tenant: &tenant, key_id: "key_1", now: now(), id_secret: &[7; 32], random: 99, oldest: None };
    Draft::parse(body.as_bytes())?.accept(&terms)
}

fn leaf(body: &str) -> Value {
    let accepted = accept(body).unwrap_or_else(|e| panic!("{body}: {e}"));
    serde_json::from_slice(&accepted.record.leaf).unwrap()
}

/// Pointer, code and suggestion of each problem.
fn refused(body: &str) -> Vec<(String, &'static str, Option<String>)> {
    let error = Draft::parse(body.as_bytes()).err().unwrap_or_else(|| panic!("accepted: {body}"));
    error.problems().iter().map(|p| (p.pointer.clone(), p.code, p.suggestion.clone())).collect()
}

fn with(more: &str) -> String {
    format!(r#"{{"actor":{{"id":"u1"}},"action":"user.login",{more}}}"#)
}

/// A leaf without what the server sets.
fn content(body: &str) -> Value {
    let mut leaf = leaf(body);
    for key in ["id", "occurred_at", "received_at", "key_id", "tenant_id", "v"] {
        leaf.as_object_mut().unwrap().remove(key);
    }
    leaf
}

struct Golden {
    name: &'static str,
    text: &'static str,
}

const GOLDEN: [Golden; 5] = [
    Golden { name: "full", text: include_str!("../golden/full.json") },
    Golden { name: "minimal", text: include_str!("../golden/minimal.json") },
    Golden { name: "flat_aliases", text: include_str!("../golden/flat_aliases.json") },
    Golden { name: "external_id", text: include_str!("../golden/external_id.json") },
    Golden { name: "escapes_numbers_extra", text: include_str!("../golden/escapes_numbers_extra.json") },
];

#[test]
fn golden_events_become_the_golden_leaves() {
    for Golden { name, text } in GOLDEN {
        let golden: Value = serde_json::from_str(text).unwrap();
        let field = |key: &str| golden[key].as_str().unwrap_or_else(|| panic!("{name}: no `{key}`"));
        let tenant = TenantId::parse(field("tenant_id")).unwrap();
        let secret = crate::tlog::hash::Hash::from_hex(field("id_secret")).unwrap();
        let terms = Terms {
            tenant: &tenant,
            key_id: field("key_id"),
            now: Timestamp::parse(field("received_at")).unwrap(),
            id_secret: secret.as_bytes(),
            random: field("random").parse().unwrap(),
            oldest: None,
        };
        let accepted = Draft::parse(field("input").as_bytes()).unwrap().accept(&terms).unwrap();
        assert_eq!(String::from_utf8_lossy(&accepted.record.leaf), field("leaf"), "{name}");
        assert_eq!(accepted.record.leaf_hash.to_string(), field("leaf_hash"), "{name}");
        let read = Record::from_leaf(field("leaf").as_bytes().to_vec()).unwrap();
        assert_eq!(read, accepted.record, "{name}");
    }
}

#[test]
fn each_alias_is_its_main_field() {
    let resource = r#""resource":{"type":"invoice","id":"i1","name":"n"}"#;
    for (alias, main) in [
        (r#""target":{"type":"invoice","id":"i1","name":"n"}"#, resource),
        (r#""targets":[{"type":"invoice","id":"i1","name":"n"}]"#, resource),
        (r#""resource_type":"invoice","resource_id":"i1","resource_name":"n""#, resource),
        (r#""resource":{"id":"i1"},"resource_type":"invoice","target":{"id":"i1","name":"n"}"#, resource),
        (
            r#""related":[{"id":"a"}],"targets":[{"id":"i1"},{"id":"b"}]"#,
            r#""resource":{"id":"i1"},"related":[{"id":"a"},{"id":"b"}]"#,
        ),
        (r#""ip_address":"::1","user_agent":"x""#, r#""context":{"ip":"::1","user_agent":"x"}"#),
        (
            r#""metadata":{"ip":"::1","user_agent":"x"}"#,
            r#""context":{"ip":"::1","user_agent":"x"},"metadata":{"ip":"::1","user_agent":"x"}"#,
        ),
        (r#""metadata":{"ip":7,"user_agent":null}"#, r#""metadata":{"user_agent":null,"ip":7}"#),
        (
            r#""changes":{"a/b":{"old":1,"after":null},"c":{}}"#,
            r#""changes":[{"path":"/a~1b","before":1,"after":null},{"path":"/c"}]"#,
        ),
        (
            r#""changes":[{"path":"/x","old":[null],"new":2}]"#,
            r#""changes":[{"path":"/x","before":[null],"after":2}]"#,
        ),
        (r#""outcome":null,"reason":null,"context":{"ip":null},"related":[]"#, r#""outcome":"success""#),
        (r#""id":"order-7""#, r#""external_id":"order-7""#),
        (r#""extra":{}"#, r#""outcome":"success""#),
    ] {
        assert_eq!(content(&with(alias)), content(&with(main)), "{alias}");
    }
    let flat =
        r#"{"actor_id":"u1","actor_type":"service","actor_name":"n","actor_email":"e","action":"a.b"}"#;
    let nested = r#"{"actor":{"id":"u1","type":"service","name":"n","email":"e"},"action":"a.b"}"#;
    assert_eq!(content(flat), content(nested));
    for alias in ["timestamp", "created", "occurred_at"] {
        let leaf = leaf(&with(&format!(
            r#""{alias}":"2026-05-01T16:32:00.1239+02:00","organization_id":"org_acme""#
        )));
        assert_eq!(leaf["occurred_at"], "2026-05-01T14:32:00.123Z");
    }
    let bare = r#"{"actor_id":"u1","action":"deleted","target":{"type":"invoice"}}"#;
    assert_eq!(leaf(bare)["action"], "invoice.deleted");
}

#[test]
fn each_fault_is_told_with_its_place() {
    let long = "x".repeat(257);
    for (more, pointer, code, suggestion) in [
        (r#""tenant_id":"a/b""#, "/tenant_id", "bad_tenant_id", None),
        (r#""tenant_id":"a","organization_id":"b""#, "/organization_id", "alias_contradicts", None),
        (
            r#""occurred_at":"2026-05-01T14:32:00Z","created":"2026-05-01T14:32:01Z""#,
            "/created",
            "alias_contradicts",
            None,
        ),
        (r#""timestamp":"2026-05-01T14:32:00""#, "/timestamp", "bad_time", Some("2026-05-01T14:32:00.000Z")),
        (r#""timestamp":1777645920""#, "", "malformed_json", None),
        (r#""timestamp":1777645920"#, "/timestamp", "bad_time", Some("2026-05-01T14:32:00.000Z")),
        (r#""actor_id":"u2""#, "/actor_id", "alias_contradicts", None),
        (r#""actor_type":"User""#, "/actor_type", "unknown_value", Some("user")),
        (r#""outcome":"failed""#, "/outcome", "unknown_value", Some("failure")),
        (r#""outcome":1"#, "/outcome", "wrong_type", None),
        (r#""id":"""#, "/id", "bad_id", None),
        (r#""id":17"#, "/id", "wrong_type", Some("\"17\"")),
        (r#""id":"a\nb""#, "/id", "bad_id", None),
        (&format!(r#""external_id":"{long}""#), "/external_id", "bad_id", None),
        (r#""id":"a","external_id":"b""#, "/id", "alias_contradicts", None),
        (&format!(r#""id":"{ID}","timestamp":"2026-05-01T14:32:00.001Z""#), "/id", "id_time", None),
        (r#""resource":{}"#, "/resource", "required", None),
        (r#""resource":"inv""#, "/resource", "wrong_type", None),
        (r#""resource_name":"n""#, "/resource_name", "required", None),
        (r#""related":[{"id":"a"},{"name":"b"}]"#, "/related/1", "required", None),
        (r#""related":{"id":"a"}"#, "/related", "wrong_type", None),
        (r#""targets":[{"id":"a"},{"id":""}]"#, "/targets/1/id", "bad_id", None),
        (r#""resource":{"id":"a"},"target":{"id":"b"}"#, "/target/id", "alias_contradicts", None),
        (r#""on_behalf_of":[{"type":"support"}]"#, "/on_behalf_of/0/id", "required", None),
        (r#""on_behalf_of":["x"]"#, "/on_behalf_of/0", "wrong_type", Some(r#"{"id":"x"}"#)),
        (r#""changes":[{"before":1}]"#, "/changes/0/path", "required", None),
        (r#""changes":{"a":[1,2]}"#, "/changes/a", "wrong_type", None),
        (r#""changes":{"a":{"before":1,"old":2}}"#, "/changes/a/old", "alias_contradicts", None),
        (r#""context":{"ip":"::1"},"ip_address":"::2""#, "/ip_address", "alias_contradicts", None),
        (r#""context":{"ip":"::1"},"metadata":{"ip":"::2"}"#, "/metadata/ip", "alias_contradicts", None),
        (r#""context":{"session_id":"a\u007f"}"#, "/context/session_id", "bad_id", None),
        (r#""metadata":[1]"#, "/metadata", "wrong_type", None),
        (r#""metadata":{"a":{"$enc":1}}"#, "/metadata/a/$enc", "reserved_key", None),
        (r#""$x":1"#, "/$x", "reserved_key", None),
        (
            r#""metadata":{"a":[1,0.1000000000000000055]}"#,
            "/metadata/a/1",
            "number_not_exact",
            Some("\"0.1000000000000000055\""),
        ),
        (r#""metadata":{"a":1e400}"#, "/metadata/a", "integer_too_large", Some("\"1e400\"")),
        (r#""metadata":{"a":1e-400}"#, "/metadata/a", "number_not_exact", Some("\"1e-400\"")),
        (
            r#""metadata":{"a":9007199254740992}"#,
            "/metadata/a",
            "integer_too_large",
            Some("\"9007199254740992\""),
        ),
        (r#""metadata":{"a":-0.0}"#, "/metadata/a", "negative_zero", Some("0")),
        (r#""metadata":{"a":"\u0000"}"#, "/metadata/a", "nul", None),
        (r#""metadata":{"a":"\ud800x"}"#, "/metadata/a", "lone_surrogate", None),
        (r#""metadata":{"a":1,"\u0061":2}"#, "/metadata/a", "duplicate_key", None),
        (r#""extra":{"foo":1},"foo":2"#, "/foo", "alias_contradicts", None),
        (r#""extra":1"#, "/extra", "wrong_type", None),
    ] {
        let expected = vec![(pointer.to_owned(), code, suggestion.map(str::to_owned))];
        let mut found = refused(&with(more));
        if code == "malformed_json" {
            found[0].0.clear();
        }
        assert_eq!(found, expected, "{more}");
    }
}

#[test]
fn actions_that_are_none_are_refused_with_what_was_meant() {
    for (action, code, suggestion) in [
        ("userDeleted", "bad_action", Some("user.deleted")),
        ("delete-user", "bad_action", Some("user.delete")),
        ("User.Created", "bad_action", Some("user.created")),
        ("deleted", "bad_action", None),
        ("", "bad_action", None),
        ("stele.key.created", "reserved_action", None),
        ("a.b.c.d.e.f", "bad_action", Some("a.b.c.d.e_f")),
    ] {
        let body = format!(r#"{{"actor_id":"u","action":"{action}"}}"#);
        assert_eq!(refused(&body), vec![("/action".to_owned(), code, suggestion.map(str::to_owned))]);
    }
    let own = r#"{"actor_id":"u","action":"deleted","resource_type":"stele"}"#;
    assert_eq!(refused(own)[0].1, "bad_action");
}

#[test]
fn all_faults_are_told_at_once() {
    let body = r#"{"action":"X","occurred_at":"?","metadata":{"n":-0},"resource":{"name":"r"}}"#;
    let mut found: Vec<_> = refused(body).into_iter().map(|(pointer, code, _)| (pointer, code)).collect();
    found.sort();
    let expected = [
        ("/action", "bad_action"),
        ("/actor/id", "required"),
        ("/metadata/n", "negative_zero"),
        ("/occurred_at", "bad_time"),
        ("/resource", "required"),
    ];
    assert_eq!(found, expected.map(|(pointer, code)| (pointer.to_owned(), code)));
}

#[test]
fn what_is_no_event_is_refused() {
    for (body, status, code) in [
        ("", 400, "malformed_json"),
        ("{", 400, "malformed_json"),
        ("{}{}", 400, "malformed_json"),
        ("\u{feff}{}", 400, "malformed_json"),
        (r#"{"a":1,"a":1}"#, 400, "duplicate_key"),
        ("[]", 422, "wrong_type"),
        ("7", 422, "wrong_type"),
        ("{}", 422, "required"),
    ] {
        let error = Draft::parse(body.as_bytes()).err().unwrap();
        assert_eq!((error.code().status(), error.problems()[0].code), (status, code), "{body}");
    }
    assert_eq!(Draft::parse(b"\"\xff\"").err().unwrap().code(), Code::MalformedJson);
    let deep = with(&format!(r#""metadata":{}1{}"#, r#"{"a":"#.repeat(16), "}".repeat(16)));
    assert_eq!(refused(&deep)[0].1, "depth");
    let unknown = with(&format!(r#""foo":{}{}"#, "[".repeat(15), "]".repeat(15)));
    assert_eq!(refused(&unknown), vec![("/foo".to_owned(), "depth", None)]);
    let endless = "[".repeat(EVENT_BODY_BYTES_MAX);
    assert_eq!(Draft::parse(endless.as_bytes()).err().unwrap().code(), Code::MalformedJson);
}

#[test]
fn the_unknown_is_kept_and_the_servers_own_is_ignored_with_a_warning() {
    let body = with(
        r#""foo":{"a":null},"received_at":"x","v":2,"related":[{"id":"r","rank":1}],"target":{"id":"t","kind":"k"},
           "context":{"ip":"nowhere","asn":5},"extra":{"bar":[null]},"gone":null,"changes":[{"path":"status"}]"#,
    );
    let accepted = accept(&body).unwrap();
    let found: Vec<_> = accepted.warnings.iter().map(|w| (w.pointer.as_str(), w.code)).collect();
    for expected in [
        ("/foo", "unknown_field"),
        ("/received_at", "server_set"),
        ("/v", "server_set"),
        ("/related/0/rank", "unknown_field"),
        ("/target/kind", "unknown_field"),
        ("/context/asn", "unknown_field"),
        ("/context/ip", "bad_ip"),
        ("/changes/0/path", "not_a_pointer"),
    ] {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    assert_eq!(found.len(), 8);
    let leaf: Value = serde_json::from_slice(&accepted.record.leaf).unwrap();
    let extra = json!({"foo": {"a": null}, "related/0/rank": 1, "resource/kind": "k", "context/asn": 5, "bar": [null]});
    assert_eq!(leaf["extra"], extra);
    assert_eq!(leaf["context"]["ip"], "nowhere");
}

#[test]
fn ids_come_from_the_client_its_external_id_or_chance() {
    let own = accept(&with(&format!(r#""id":"{}""#, ID.to_uppercase().replacen("EVT_", "", 1)))).unwrap();
    assert_eq!(own.record.id.shown(), ID);
    assert_eq!(own.record.occurred_at, own.record.id.time());
    assert!(!own.occurred_at_defaulted && own.remember.is_none());

    let body = with(r#""id":"order-7","timestamp":"2026-05-01T14:00:00Z""#);
    let (one, two) = (accept(&body).unwrap(), accept(&body).unwrap());
    assert_eq!(one.record.leaf, two.record.leaf);
    assert_eq!(one.remember.as_deref(), Some("order-7"));
    assert_eq!(one.record.occurred_at.to_string(), "2026-05-01T14:00:00.000Z");
    // Worked out with another program's HMAC-SHA-256.
    assert_eq!(one.record.id.to_string(), "019de3d6-d300-70dd-b412-2383591bb801");
    assert_ne!(external_bits(&[8; 32], "order-7"), external_bits(&[7; 32], "order-7"));

    let neither = accept(&with(r#""outcome":"denied""#)).unwrap();
    assert_eq!(neither.record.id, EventId::new(now(), 99));
    assert!(neither.occurred_at_defaulted);
}

#[test]
fn a_time_out_of_bounds_is_told_beside_the_record() {
    let tenant = tenant();
    let terms = Terms {
        tenant: &tenant,
        key_id: "k",
        now: now(),
        id_secret: &[0; 32],
        random: 0,
        oldest: Some(now().minus_days(30)),
    };
    for (at, fits) in [
        (now().plus_ms(FUTURE_MS_MAX), true),
        (now().plus_ms(FUTURE_MS_MAX + 1), false),
        (now().minus_days(30), true),
        (now().minus_days(30).minus_ms(1), false),
    ] {
        let body = with(&format!(r#""created":"{at}""#));
        let accepted = Draft::parse(body.as_bytes()).unwrap().accept(&terms).unwrap();
        assert_eq!(accepted.out_of_range.is_none(), fits, "{at}");
        if let Some(error) = accepted.out_of_range {
            assert_eq!(
                (error.code(), error.problems()[0].pointer.as_str()),
                (Code::TimestampOutOfRange, "/created")
            );
        }
    }
}

#[test]
fn another_tenants_event_is_refused() {
    assert_eq!(accept(&with(r#""tenant_id":"other""#)).unwrap_err().code(), Code::InsufficientScope);
}

#[test]
fn a_leaf_too_large_names_its_largest_member() {
    let body = with(&format!(r#""metadata":{{"a":"{}"}}"#, "x".repeat(LEAF_BYTES_MAX)));
    let error = accept(&body).unwrap_err();
    assert_eq!(error.code(), Code::EventTooLarge);
    assert!(error.detail().contains("`metadata` with 65543"), "{error}");
    let rest = accept(&with(r#""metadata":{"a":""}"#)).unwrap().record.leaf.len();
    let fits = with(&format!(r#""metadata":{{"a":"{}"}}"#, "x".repeat(LEAF_BYTES_MAX - rest)));
    assert_eq!(accept(&fits).unwrap().record.leaf.len(), LEAF_BYTES_MAX);
}

#[test]
fn same_content_looks_past_what_the_server_sets() {
    let tenant = tenant();
    let make = |body: &str, ms: u64, key_id: &str| {
        let now = now().plus_ms(ms);
        let terms =
            Terms { tenant: &tenant, key_id, now, id_secret: &[7; 32], random: u128::from(ms), oldest: None };
        Draft::parse(body.as_bytes()).unwrap().accept(&terms).unwrap().record.leaf
    };
    let timed = with(r#""id":"a","timestamp":"2026-05-01T14:00:00Z""#);
    assert!(same_content(&make(&timed, 0, "k1"), &make(&timed, 9, "k2"), false));
    let untimed = with(r#""id":"a""#);
    assert!(!same_content(&make(&untimed, 0, "k"), &make(&untimed, 9, "k"), false));
    assert!(same_content(&make(&untimed, 0, "k"), &make(&untimed, 9, "k"), true));
    let other = with(r#""id":"a","reason":"r""#);
    assert!(!same_content(&make(&untimed, 0, "k"), &make(&other, 9, "k"), true));
    assert!(!same_content(b"", &make(&other, 9, "k"), true));
}

#[test]
fn a_batch_is_cut_into_its_events() {
    let body = br#" {"events" : [ {"a":1,"a":[2]} , 7,"x\"]" ] } "#;
    let items = batch_items(body, BatchForm::Json).unwrap();
    assert_eq!(items, [&b"{\"a\":1,\"a\":[2]}"[..], b"7", b"\"x\\\"]\""]);
    assert!(batch_items(br#"{"events":[]}"#, BatchForm::Json).unwrap().is_empty());
    let items = batch_items(b"{\"a\":1}\r\n\n not json \n{}", BatchForm::Ndjson).unwrap();
    assert_eq!(items, [&b"{\"a\":1}"[..], b"not json", b"{}"]);
    for (body, code) in [
        (r#"{"events":[}"#, Code::MalformedJson),
        (r#"{"events":[1,]}"#, Code::MalformedJson),
        (r#"{"events":[1]"#, Code::MalformedJson),
        (r#"{"events":[1],"events":[2]}"#, Code::DuplicateKey),
        (r#"{"events":{}}"#, Code::ValidationFailed),
        (r#"{"events":[],"x":1}"#, Code::ValidationFailed),
        ("[1]", Code::ValidationFailed),
    ] {
        assert_eq!(batch_items(body.as_bytes(), BatchForm::Json).unwrap_err().code(), code, "{body}");
    }
    let many = format!(r#"{{"events":[{}1]}}"#, "1,".repeat(500));
    assert_eq!(batch_items(many.as_bytes(), BatchForm::Json).unwrap_err().code(), Code::BatchTooLarge);
    let many = "1\n".repeat(501);
    assert_eq!(batch_items(many.as_bytes(), BatchForm::Ndjson).unwrap_err().code(), Code::BatchTooLarge);
    assert_eq!(BatchForm::of(Some("application/x-ndjson; charset=utf-8")), BatchForm::Ndjson);
}

/// What must hold of anything accepted.
fn check_accepted(accepted: &Accepted) {
    let record = &accepted.record;
    assert_eq!(canonicalize(&record.leaf).unwrap(), *record.leaf, "the leaf is canonical");
    assert_eq!(leaf_hash(&record.leaf), record.leaf_hash);
    assert_eq!(Record::from_leaf(record.leaf.bytes().clone()).unwrap(), *record);
    // The columns equal the leaf, read by another program.
    let leaf: Value = serde_json::from_slice(&record.leaf).unwrap();
    let columns = record.columns().unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    for (column, value) in [
        (Some(columns.tenant_id), &leaf["tenant_id"]),
        (Some(columns.key_id), &leaf["key_id"]),
        (Some(columns.action), &leaf["action"]),
        (Some(columns.outcome), &leaf["outcome"]),
        (columns.external_id, &leaf["external_id"]),
        (columns.reason, &leaf["reason"]),
        (Some(columns.actor_type), &leaf["actor"]["type"]),
        (Some(columns.actor_id), &leaf["actor"]["id"]),
        (columns.actor_name, &leaf["actor"]["name"]),
        (columns.actor_email, &leaf["actor"]["email"]),
        (columns.resource_type, &leaf["resource"]["type"]),
        (columns.resource_id, &leaf["resource"]["id"]),
        (columns.resource_name, &leaf["resource"]["name"]),
        (columns.ip, &leaf["context"]["ip"]),
        (columns.user_agent, &leaf["context"]["user_agent"]),
        (columns.session_id, &leaf["context"]["session_id"]),
        (columns.request_id, &leaf["context"]["request_id"]),
        (columns.trace_id, &leaf["context"]["trace_id"]),
        (columns.description, &leaf["description"]),
    ] {
        assert_eq!(column.map(|c| c.into_owned()), text(value));
    }
    for (column, value) in [
        (columns.changes, &leaf["changes"]),
        (columns.metadata, &leaf["metadata"]),
        (columns.related, &leaf["related"]),
        (columns.on_behalf_of, &leaf["on_behalf_of"]),
        (columns.extra, &leaf["extra"]),
    ] {
        assert_eq!(column.map(|c| serde_json::from_str(c).unwrap()).unwrap_or(Value::Null), *value);
    }
    // Sent again as an event, the leaf says the same.
    let tenant = record.tenant.clone();
    let terms =
        Terms { tenant: &tenant, key_id: "again", now: now(), id_secret: &[1; 32], random: 5, oldest: None };
    let again = Draft::parse(&record.leaf).unwrap().accept(&terms).unwrap();
    assert_eq!(again.record.id, record.id);
    assert!(same_content(&record.leaf, &again.record.leaf, false));
}

fn try_accept(body: &[u8]) {
    let tenant = tenant();
    let terms =
        Terms { tenant: &tenant, key_id: "k\"1", now: now(), id_secret: &[7; 32], random: 3, oldest: None };
    if let Ok(accepted) = Draft::parse(body).and_then(|draft| draft.accept(&terms)) {
        check_accepted(&accepted);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        // Decimals short enough for serde_json to read exactly; all doubles are in `canonical`'s tests.
        (any::<i32>(), 0..6).prop_map(|(n, places)| json!(f64::from(n) / 10_f64.powi(places))),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("2026-05-01T14:32:00Z")),
        Just(json!(ID)),
        Just(json!("user.login")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any_key(), inner, 0..4).prop_map(|m| m.into_iter().collect()),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    let known = vec![
        "id",
        "external_id",
        "tenant_id",
        "occurred_at",
        "timestamp",
        "actor",
        "actor_id",
        "actor_name",
        "action",
        "outcome",
        "reason",
        "resource",
        "resource_id",
        "resource_type",
        "target",
        "targets",
        "related",
        "on_behalf_of",
        "changes",
        "before",
        "after",
        "old",
        "path",
        "context",
        "ip",
        "ip_address",
        "user_agent",
        "session_id",
        "description",
        "metadata",
        "extra",
        "type",
        "name",
        "email",
        "received_at",
        "actor/x",
    ];
    prop_oneof![8 => prop::sample::select(known).prop_map(str::to_owned), 2 => "\\PC{0,6}"]
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        try_accept(&bytes);
        let _ = batch_items(&bytes, BatchForm::Json);
        let _ = batch_items(&bytes, BatchForm::Ndjson);
        let _ = canonicalize(&bytes);
        let _ = crate::record::Columns::of(&bytes);
    }

    #[test]
    fn any_members_are_an_event_or_an_error(
        members in prop::collection::btree_map(any_key(), any_json(), 0..8),
        spaced: bool,
    ) {
        let mut event: serde_json::Map<String, Value> = members.into_iter().collect();
        event.insert("actor".to_owned(), json!({"id": "u", "dept": 1}));
        event.insert("action".to_owned(), json!("a.b"));
        let text = match spaced {
            true => serde_json::to_string_pretty(&event),
            false => serde_json::to_string(&event),
        };
        try_accept(text.unwrap().as_bytes());
    }

    #[test]
    fn a_good_event_with_one_byte_changed_is_an_event_or_an_error(at in 0_usize..2000, byte: u8, cut: bool) {
        let golden: Value = serde_json::from_str(GOLDEN[0].text).unwrap();
        let mut body = golden["input"].as_str().unwrap().as_bytes().to_vec();
        let at = at % body.len();
        match cut {
            true => body.truncate(at),
            false => body[at] = byte,
        }
        try_accept(&body);
    }

    #[test]
    fn metadata_of_an_accepted_event_is_what_was_sent(value in any_json()) {
        let body = with(&format!(r#""metadata":{{"x":{value}}}"#));
        if let Ok(accepted) = accept(&body) {
            let leaf: Value = serde_json::from_slice(&accepted.record.leaf).unwrap();
            prop_assert!(same_value(&leaf["metadata"]["x"], &value), "{value} became {}", leaf["metadata"]["x"]);
        }
    }
}

/// Equality that takes `1.0` for `1`.
fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_value(a, b)))
        }
        (a, b) => a == b,
    }
}
