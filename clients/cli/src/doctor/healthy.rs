//! For tests: the facts of an installation that is as it should be, to be spoilt one by one.

use super::alarms::ALARMS;
use super::facts::*;
use super::finding::{Finding, State};
use super::functions::FUNCTIONS;
use stele::limits;
use stele::time::Timestamp;

/// 2026-05-01T12:00:00Z.
pub(super) const NOW: Timestamp = Timestamp::from_ms(1_777_636_800_000);

/// The policy as infra/stateful.yaml makes it for the installation `audit`.
pub(super) const POLICY: &str = include_str!("policy.json");

/// A check must have ended like that, and have found something with this text in it.
pub(super) fn expect(findings: &[Finding], check: &str, state: State, found: &str) {
    let of_check: Vec<&Finding> = findings.iter().filter(|finding| finding.check == check).collect();
    let [finding] = of_check.as_slice() else {
        panic!("`{check}` is there {} times: {findings:#?}", of_check.len())
    };
    let outcome = &finding.outcome;
    assert!(outcome.state == state && outcome.found.contains(found), "{outcome:?}");
    assert_eq!(outcome.mend.is_some(), state == State::Problem, "{outcome:?}");
}

pub(super) fn lock(mode: &str, until: Timestamp) -> Asked<Lock> {
    Asked::Is(Lock { mode: mode.to_owned(), until })
}

fn object(key: &str) -> Object {
    Object { key: key.to_owned(), lock: lock("COMPLIANCE", NOW.plus_days(30)) }
}

pub(super) fn rules() -> Vec<Rule> {
    let rule = |id: String, prefix: &str, tag: &str, value: String, days: u32| Rule {
        id,
        is_enabled: true,
        prefix: prefix.to_owned(),
        tags: vec![(tag.to_owned(), value)],
        is_narrowed: false,
        expires: Some(Expiry::Days(days as i32)),
    };
    let segments = rule("archived-segments".to_owned(), "segments/", "archived", "true".to_owned(), 36);
    let class = |days: &u32| rule(format!("class-{days}"), "archive/", "class", days.to_string(), days + 1);
    let leavings = Rule {
        id: "what-expiry-leaves".to_owned(),
        is_enabled: true,
        prefix: String::new(),
        tags: Vec::new(),
        is_narrowed: false,
        expires: None,
    };
    std::iter::once(segments).chain(limits::CLASSES_DAYS.iter().map(class)).chain([leavings]).collect()
}

/// Those of the bucket of exported files.
pub(super) fn exports_rules() -> Vec<Rule> {
    let rule = |id: &str, expires| Rule {
        id: id.to_owned(),
        is_enabled: true,
        prefix: String::new(),
        tags: Vec::new(),
        is_narrowed: false,
        expires,
    };
    vec![
        rule("seven-days", Some(Expiry::Days(limits::EXPORT_KEPT_DAYS as i32))),
        rule("nothing-is-left", None),
    ]
}

fn exports() -> ExportBucket {
    ExportBucket {
        public_access_block: Asked::Is([true; 4]),
        encryption: Asked::Is(vec!["AES256".to_owned()]),
        lifecycle: Asked::Is(exports_rules()),
    }
}

fn bucket() -> Bucket {
    Bucket {
        object_lock: Asked::Is(ObjectLock { is_enabled: true, default: Some(("COMPLIANCE".to_owned(), 35)) }),
        versioning: Asked::Is("Enabled".to_owned()),
        public_access_block: Asked::Is([true; 4]),
        encryption: Asked::Is(vec!["AES256".to_owned()]),
        policy: Asked::Is(POLICY.to_owned()),
        lifecycle: Asked::Is(rules()),
    }
}

const STREAM: &str = "arn:aws:dynamodb:eu-central-1:123456789012:table/audit-events/stream/2026";

fn table(indexes: &[&str], stream: Option<&str>) -> Table {
    let active = |name: &&str| ((*name).to_owned(), "ACTIVE".to_owned());
    Table {
        described: Asked::Is(Described {
            status: "ACTIVE".to_owned(),
            is_protected: true,
            stream: stream.map(str::to_owned),
            stream_arn: stream.map(|_| STREAM.to_owned()),
            indexes: indexes.iter().map(active).collect(),
        }),
        ttl: Asked::Is(Ttl { status: "ENABLED".to_owned(), attribute: "expires".to_owned() }),
        recovery: Asked::Is("ENABLED".to_owned()),
    }
}

pub(super) fn queue(name: &str) -> Queue {
    let arn = |name: &str| format!("arn:aws:sqs:eu-central-1:123456789012:{name}");
    Queue { arn: arn(name), waiting: 0, in_flight: 0, redrive: Some((arn(&format!("{name}-dead")), 1000)) }
}

fn pair(name: &str) -> QueuePair {
    let dead = Queue { redrive: None, ..queue(&format!("{name}-dead")) };
    QueuePair { queue: Asked::Is(queue(name)), dead: Asked::Is(dead) }
}

fn function() -> Function {
    let (state, last_update) = ("Active".to_owned(), "Successful".to_owned());
    Function {
        configuration: Asked::Is(Configuration { state, last_update, reason: String::new() }),
        concurrency: Asked::Is(None),
    }
}

fn trigger(source: &str) -> Trigger {
    Trigger {
        id: "0c1d".to_owned(),
        source: source.to_owned(),
        state: "Enabled".to_owned(),
        last_result: "OK".to_owned(),
    }
}

fn alarm(what: &&str) -> Alarm {
    Alarm {
        name: format!("audit-{what}"),
        state: "OK".to_owned(),
        reason: "Threshold Crossed: 1 datapoint".to_owned(),
        description: format!("Something is wrong. infra/runbook.md#{what}"),
        has_actions: true,
    }
}

fn log() -> Log {
    let key = "segments/tenant_id=acme/log=0/00000000000000000000.parquet";
    let checkpoint = "checkpoints/tenant_id=acme/log=0/00000000000000000100";
    Log {
        tenant: "acme".to_owned(),
        accepted: Asked::Is(vec![NOW.minus_ms(30_000)]),
        head: Asked::Is(Head {
            size: 100,
            sealed_at: NOW.minus_ms(20_000),
            received_max: NOW.minus_ms(30_000),
            published_size: 100,
            published_at: NOW.minus_ms(20_000),
        }),
        sample: Some(Sample {
            objects: vec![object(key), object(checkpoint)],
            in_log: Asked::Is((1, Vec::new())),
        }),
    }
}

/// Of the installation `audit`, where everything is as deployed.
pub(super) fn facts() -> Facts {
    Facts {
        name: "audit".to_owned(),
        account: "123456789012".to_owned(),
        region: "eu-central-1".to_owned(),
        now: NOW,
        trial: false,
        bucket: bucket(),
        exports: exports(),
        secrets: Asked::Is(vec![object("secrets/master.wrapped"), object("secrets/signing.wrapped")]),
        public_keys: Asked::Is(vec![object("keys/0a1b2c3d.json")]),
        events: table(&["by_actor", "by_resource", "by_action"], Some("NEW_IMAGE")),
        control: table(&[], None),
        key: Asked::Is(Key { state: "Enabled".to_owned() }),
        spill: pair("audit-spill"),
        parking: pair("audit-parking"),
        compaction: pair("audit-compaction"),
        reconciliation: pair("audit-reconciliation"),
        export: pair("audit-exports"),
        functions: FUNCTIONS.map(|name| (name, function())).into(),
        seal_triggers: Asked::Is(vec![
            trigger(STREAM),
            trigger("arn:aws:sqs:eu-central-1:123456789012:audit-parking"),
        ]),
        drain_triggers: Asked::Is(vec![trigger("arn:aws:sqs:eu-central-1:123456789012:audit-spill")]),
        compact_triggers: Asked::Is(vec![trigger("arn:aws:sqs:eu-central-1:123456789012:audit-compaction")]),
        reconcile_triggers: Asked::Is(vec![trigger(
            "arn:aws:sqs:eu-central-1:123456789012:audit-reconciliation",
        )]),
        export_triggers: Asked::Is(vec![trigger("arn:aws:sqs:eu-central-1:123456789012:audit-exports")]),
        alarms: Asked::Is(ALARMS.iter().map(alarm).collect()),
        tenants: Asked::Is(Tenants { looked_at: vec![log()], left_out: 0 }),
    }
}

/// Of one that nobody may look into.
pub(super) fn unread() -> Facts {
    fn no<T>() -> Asked<T> {
        Asked::Unread("AccessDenied".to_owned())
    }
    let table = || Table { described: no(), ttl: no(), recovery: no() };
    let pair = || QueuePair { queue: no(), dead: no() };
    let function = || Function { configuration: no(), concurrency: no() };
    Facts {
        bucket: Bucket {
            object_lock: no(),
            versioning: no(),
            public_access_block: no(),
            encryption: no(),
            policy: no(),
            lifecycle: no(),
        },
        exports: ExportBucket { public_access_block: no(), encryption: no(), lifecycle: no() },
        secrets: no(),
        public_keys: no(),
        events: table(),
        control: table(),
        key: no(),
        spill: pair(),
        parking: pair(),
        compaction: pair(),
        reconciliation: pair(),
        export: pair(),
        functions: FUNCTIONS.map(|name| (name, function())).into(),
        seal_triggers: no(),
        drain_triggers: no(),
        compact_triggers: no(),
        reconcile_triggers: no(),
        export_triggers: no(),
        alarms: no(),
        tenants: no(),
        ..facts()
    }
}
