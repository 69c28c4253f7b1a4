//! CPU time of accepting one event, stage by stage, beside a naive path over `serde_json::Value` in the same run.
//! `cargo bench -p stele --bench accept` prints microseconds per event: the least of several rounds, since what
//! else the machine does can only add.

#![allow(missing_docs, clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::time::Instant;
use stele::event::{Draft, Terms};
use stele::id::{EventId, TenantId};
use stele::json::Json;
use stele::time::Timestamp;
use stele::tlog::hash::leaf_hash;

const EVENTS: usize = 200;
const ROUNDS: usize = 300;

fn main() {
    let now = Timestamp::parse("2026-05-01T14:32:05.000Z").unwrap();
    let tenant = TenantId::parse("org_acme").unwrap();
    let bodies: Vec<Vec<u8>> = (0..EVENTS).map(|n| body(n, now)).collect();
    let bytes = bodies.iter().map(Vec::len).sum::<usize>() / EVENTS;
    let terms =
        Terms { tenant: &tenant, key_id: "key_7Q2", now, id_secret: &[7; 32], random: 42, oldest: None };

    // Both paths must do the same work: their leaves are compared before they are timed.
    for body in &bodies {
        let ours = Draft::parse(body).unwrap().accept(&terms).unwrap();
        let (leaf, hash) = naive(body, &terms);
        assert_eq!(String::from_utf8_lossy(&ours.record.leaf), String::from_utf8_lossy(&leaf));
        assert_eq!(*ours.record.leaf_hash.as_bytes(), hash);
    }
    let leaves: Vec<_> =
        bodies.iter().map(|body| Draft::parse(body).unwrap().accept(&terms).unwrap().record.leaf).collect();

    let read = least(&bodies, |body| black_box(Json::parse(body).unwrap().root()));
    let parse = least(&bodies, |body| black_box(Draft::parse(body).unwrap().warnings().len()));
    let accept = least(&bodies, |body| {
        black_box(Draft::parse(body).unwrap().accept(&terms).unwrap().record.leaf_hash)
    });
    let hash = least(&leaves, |leaf| black_box(leaf_hash(leaf)));
    let from_leaf =
        least(&leaves, |leaf| black_box(stele::record::Record::from_leaf(leaf.bytes().clone()).unwrap().id));
    let naive = least(&bodies, |body| black_box(naive(body, &terms).1));

    println!("{EVENTS} events of {bytes} bytes, µs per event, least of {ROUNDS} rounds");
    println!("  read JSON                       {read:6.2}");
    println!("  + validate                      {:6.2}", parse - read);
    println!("  + leaf, record                  {:6.2}", accept - parse - hash);
    println!("  + hash                          {hash:6.2}");
    println!("  = accept                        {accept:6.2}");
    println!("  naive (serde_json::Value)       {naive:6.2}");
    println!("  ratio                           {:6.2}", naive / accept);
    println!("  record from leaf                {from_leaf:6.2}");
}

fn least<T, R>(inputs: &[T], mut work: impl FnMut(&T) -> R) -> f64 {
    let mut least = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for input in inputs {
            black_box(work(input));
        }
        least = least.min(start.elapsed().as_secs_f64() * 1e6 / inputs.len() as f64);
    }
    least
}

fn body(n: usize, now: Timestamp) -> Vec<u8> {
    let occurred_at = now.minus_ms(n as u64 * 37);
    let id = EventId::new(occurred_at, n as u128 * 0x9e37_79b9_7f4a_7c15);
    let names = ["Alice Johnson", "Björn Ångström", "Chidi Anagonye", "D. \\\"Dee\\\" O'Neil"];
    let actions = ["invoice.deleted", "user.role.updated", "api_key.created", "document.shared"];
    format!(
        concat!(
            r#"{{"id":"{id}","tenant_id":"org_acme","occurred_at":"{at}","#,
            r#""actor":{{"type":"user","id":"user_{n:06}","name":"{name}","email":"user{n}@acme.example"}},"#,
            r#""action":"{action}","outcome":"success","#,
            r#""resource":{{"type":"invoice","id":"inv_{n}","name":"Invoice #{n}"}},"#,
            r#""changes":[{{"path":"/status","before":"open","after":"void"}},{{"path":"/total","before":120.5,"after":0}}],"#,
            r#""context":{{"ip":"203.0.113.{ip}","user_agent":"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) "#,
            r#"AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36","session_id":"sess_{n}","request_id":"req-{n}"}},"#,
            r#""description":"{name} changed invoice #{n}","#,
            r#""metadata":{{"plan":"pro","region":"eu-west-1","seats":{n},"beta":false}}}}"#,
        ),
        id = id.shown(),
        at = occurred_at,
        n = n,
        name = names[n % names.len()],
        action = actions[n % actions.len()],
        ip = n % 250,
    )
    .into_bytes()
}

/// What one would write first: a tree of owned values, checked, moved about, sorted and printed again.
fn naive(body: &[u8], terms: &Terms<'_>) -> (Vec<u8>, [u8; 32]) {
    let sent: Value = serde_json::from_slice(body).unwrap();
    let mut record = Map::new();
    let sent = sent.as_object().unwrap();
    for (key, value) in sent {
        if !value.is_null() {
            record.insert(key.clone(), value.clone());
        }
    }
    let actor = record.get("actor").and_then(Value::as_object).unwrap();
    assert!(actor.get("id").and_then(Value::as_str).is_some_and(|id| !id.is_empty() && id.len() <= 256));
    let action = record.get("action").and_then(Value::as_str).unwrap();
    let parts: Vec<&str> = action.split('.').collect();
    assert!((2..=5).contains(&parts.len()));
    assert!(parts.iter().all(|part| part.starts_with(|c: char| c.is_ascii_lowercase())
        && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')));
    let id = EventId::parse(record.get("id").and_then(Value::as_str).unwrap()).unwrap();
    let occurred_at = Timestamp::parse(record.get("occurred_at").and_then(Value::as_str).unwrap()).unwrap();
    assert_eq!(id.time(), occurred_at);
    check_keys(&Value::Object(record.clone()), 0);
    record.insert("id".to_owned(), json!(id.to_string()));
    record.insert("occurred_at".to_owned(), json!(occurred_at.to_string()));
    record.insert("received_at".to_owned(), json!(terms.now.to_string()));
    record.insert("key_id".to_owned(), json!(terms.key_id));
    record.insert("tenant_id".to_owned(), json!(terms.tenant.as_str()));
    record.insert("v".to_owned(), json!(1));
    let leaf = sorted(&Value::Object(record)).into_bytes();
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(&leaf);
    (leaf, hash.finalize().into())
}

fn check_keys(value: &Value, depth: usize) {
    assert!(depth <= 16);
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            assert!(!key.starts_with('$'));
            check_keys(value, depth + 1);
        }),
        Value::Array(items) => items.iter().for_each(|item| check_keys(item, depth + 1)),
        Value::String(text) => assert!(!text.contains('\0')),
        Value::Number(_) | Value::Null | Value::Bool(_) => {}
    }
}

fn sorted(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{}:{}", json!(key), sorted(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}
