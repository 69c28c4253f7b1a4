//! Records as a busy product writes them, from a seed: for tests and measurements. Also compiled into the
//! benchmark.

use serde_json::json;
use stele::access::LogNumber;
use stele::id::EventId;
use stele::record::Record;
use stele::segment::SegmentHeader;
use stele::time::Timestamp;
use stele::tlog::checkpoint::Origin;
use stele::tlog::tree::RightEdge;

const ACTIONS: [(&str, &str); 10] = [
    ("invoice.updated", "invoice"),
    ("user.login", "session"),
    ("document.viewed", "document"),
    ("document.shared", "document"),
    ("invoice.deleted", "invoice"),
    ("user.role.changed", "user"),
    ("api_key.created", "api_key"),
    ("project.member.added", "project"),
    ("export.started", "export"),
    ("settings.sso.enabled", "settings"),
];
const NAMES: [&str; 8] = ["Alice", "Bob", "Chiara", "Daniel", "Emre", "Fatima", "Grace", "Hiro"];
const AGENTS: [&str; 3] = [
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "acme-sdk-python/2.4.1",
];

/// The `n`-th record of a tenant; `random` gives 64 bits at a time.
pub(crate) fn record(tenant: &str, n: u64, random: &mut dyn FnMut() -> u64) -> Record {
    let mut below = |bound: u64| random() % bound;
    // The least of two draws: few actors do most.
    let actor = below(400).min(below(400));
    let (action, kind) = ACTIONS[below(10).min(below(10)) as usize];
    let resource = below(3_000).min(below(3_000));
    let name = format!("{} Nr{actor}", NAMES[actor as usize % NAMES.len()]);
    let occurred_at = Timestamp::from_ms(1_780_000_000_000 + n * 97 + below(90));
    let received_at = occurred_at.plus_ms(40 + below(200));
    let id = EventId::new(occurred_at, u128::from(below(u64::MAX)) << 64 | u128::from(below(u64::MAX)));
    // Members in the order of RFC 8785.
    let mut leaf = json!({
        "action": action,
        "actor": {"email": format!("user{actor}@example.com"), "id": format!("user_{actor:06}"), "name": name, "type": "user"},
        "changes": [{"after": format!("v{}", below(50)), "before": "open", "path": "/status"}],
        "context": {
            "ip": format!("203.0.113.{}", actor % 250),
            "request_id": format!("req_{:016x}", below(u64::MAX)),
            "session_id": format!("sess_{:08x}", actor * 7 + n / 2_000),
            "user_agent": AGENTS[actor as usize % AGENTS.len()],
        },
        "description": format!("{name} did {action} on {kind} {resource}"),
        "id": id.to_string(),
        "key_id": "k7f3a9c2",
        "metadata": {"plan": "pro", "region": "eu-central-1", "weight": below(1_000)},
        "occurred_at": occurred_at.to_string(),
        "outcome": if below(20) == 0 { "failure" } else { "success" },
        "received_at": received_at.to_string(),
        "resource": {"id": format!("{kind}_{resource}"), "name": format!("{kind} \"#{resource}\""), "type": kind},
        "tenant_id": tenant,
        "v": 1,
    });
    if n % 7 == 3 {
        let members = leaf.as_object_mut().expect("an object");
        for optional in ["changes", "context", "description", "resource"] {
            members.remove(optional);
        }
    }
    Record::from_leaf(leaf.to_string().into_bytes()).expect("the sample's leaves are leaves")
}

/// So many records.
pub(crate) fn records(tenant: &str, count: u64, random: &mut dyn FnMut() -> u64) -> Vec<Record> {
    (0..count).map(|n| record(tenant, n, random)).collect()
}

/// The header of a segment with these records, after a tree.
pub(crate) fn header(before: RightEdge, records: &[Record]) -> SegmentHeader {
    let mut after = before.clone();
    after.extend(records.iter().map(|record| record.leaf_hash));
    let received_max = records.iter().map(|record| record.received_at).max().unwrap_or_default();
    SegmentHeader {
        origin: Origin::parse("log.example/7c2e").expect("an origin"),
        log: LogNumber(0),
        before,
        after,
        sealed_at: received_max.plus_ms(1_500),
        received_max,
        checkpoint_before: "log.example/7c2e\n12\nAAAA\n\n\u{2014} log.example/7c2e BBBB\n".to_owned(),
    }
}
