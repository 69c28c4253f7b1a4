//! The filter language against the world: SQL made from filters answers what the filters themselves admit.

use crate::aws::python;
use crate::readers::{accepted, write_archive};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use stele::id::TenantId;
use stele::ports::{Order, Random};
use stele::query::{Dialect, Filter, Parameter, Sql, State, parse_filter};
use stele::record::Record;
use stele::time::Timestamp;
use stele_adapters::clock::SeededRandom;

const EVENTS: usize = 600;
const FILTERS: usize = 300;
const SEED: u64 = 20_260_501;

/// Numbers that follow from a seed.
struct Dice(SeededRandom);

impl Dice {
    fn below(&self, n: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_be_bytes(bytes) % n as u64) as usize
    }

    fn one<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn maybe<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        (self.below(3) > 0).then(|| self.one(of))
    }
}

fn value(dice: &Dice) -> Value {
    let scalars = [
        json!("pro"),
        json!("enterprise"),
        json!("5"),
        json!(5),
        json!(-2.5),
        json!(1e-7),
        json!(true),
        json!(null),
        json!("Ünder DEEP"),
        json!("q\"uo:\\ '?"),
        json!({"deep": ["red Bob:"]}),
        json!({"b.c": "zero", "0": "one", "a/b~": [5, "x"]}),
        json!(["zero", 5, null]),
        json!([]),
    ];
    dice.one(&scalars).clone()
}

/// Events with a bit of everything.
fn events(dice: &Dice) -> String {
    let names = ["Älice Ω", "Bob", "bob (admin)", "ΟΔΟΣ", "İnan", "50% _off"];
    let ips = [
        "203.0.113.7",
        "::ffff:203.0.113.9",
        "::ffff:cb00:7109",
        "2001:db8::1",
        "2001:DB8:0:0:1::",
        "10.0.0.1",
        "nowhere",
        "1.2.3.04",
        "256.1.1.1",
        "2001:db8:0:0:1::192.0.2.1",
        "1:2:3:4:5:6:7::8",
        "1::2::3",
        "::",
        "fe80::1%eth0",
    ];
    let mut lines = String::new();
    for n in 0..EVENTS {
        let at = Timestamp::parse("2026-05-01T00:00:00Z").unwrap().plus_ms(dice.below(3 * 86_400_000) as u64);
        let mut event = json!({
            "occurred_at": at.to_string(),
            "action": dice.one(&["invoice.deleted", "invoice.item.added", "user.created", "user.role.granted"]),
            "outcome": dice.one(&["success", "failure", "denied"]),
            "actor": {"id": dice.one(&["u1", "u2", "alice@acme.com", "a b", "o'neil"]), "type": dice.one(&["user", "service"])},
        });
        let mut put = |object: &str, key: &str, value: Option<&&str>| {
            if let Some(value) = value {
                event[object][key] = json!(value);
            }
        };
        put("actor", "name", dice.maybe(&names));
        put("actor", "email", dice.maybe(&["alice@acme.com", "Bob@Acme.COM"]));
        if let Some(id) = dice.maybe(&["inv_1", "inv_2", "u1", "Ä\"(x)"]) {
            put("resource", "id", Some(id));
            put("resource", "type", Some(dice.one(&["invoice", "user"])));
            put("resource", "name", dice.maybe(&names));
        }
        put("context", "ip", dice.maybe(&ips));
        put("context", "user_agent", dice.maybe(&["Mozilla/5.0 (X11)", "curl/8"]));
        put("context", "session_id", dice.maybe(&["s1", "s2"]));
        put("context", "trace_id", dice.maybe(&["t'1"]));
        if let Some(text) = dice.maybe(&["Old plan", "ünder"]) {
            event["reason"] = json!(text);
        }
        if let Some(text) = dice.maybe(&["Ünder description", "Bob did \"it\""]) {
            event["description"] = json!(text);
        }
        if dice.below(2) == 0 {
            let change = |path: &str| json!({"path": path, "before": value(dice), "after": value(dice)});
            event["changes"] = json!([change(dice.one::<&str>(&["/plan", "plan", "/a~1b"])), {"path": "/role", "after": value(dice)}]);
        }
        if dice.below(3) > 0 {
            event["metadata"] = json!({
                "plan": value(dice), "a": value(dice), "list": ["zero", value(dice)], "n": n, "x:y (z)": value(dice),
                "'; DROP": "'; DROP TABLE events; --",
            });
        }
        lines.push_str(&format!("{event}\n"));
    }
    lines
}

const TERMS: [&str; 84] = [
    "action:invoice.deleted",
    "action:invoice.*",
    "action:deleted",
    "action:user.created,user.role.granted",
    "actor:u1",
    "actor:alice@acme.com",
    "actor:a*",
    "actor:o'neil",
    "actor.email:BOB@acme.com",
    "actor.email:*",
    "actor.name:bob",
    "actor.name:ΟΔΟ",
    "actor.name:\"50% _\"",
    "actor.name:älice*",
    "actor.name:inan",
    "actor.type:service",
    "resource:inv_1",
    "resource:inv_1,inv_2",
    "resource:\"Ä\\\"(x)\"",
    "resource.id:inv*",
    "resource.id:*",
    "resource.type:user",
    "resource.name:bob",
    "outcome:failure",
    "outcome:success,denied",
    "reason:PLAN",
    "reason:*",
    "ua:mozilla",
    "ua:\"5.0 (x11)\"",
    "session:s1",
    "session:*",
    "trace:t'1",
    "request:*",
    "key:k7*",
    "key:other",
    "description:\"did \\\"it\"",
    "external_id:*",
    "ip:203.0.113.7",
    "ip:203.0.113.0/24",
    "ip:10.0.0.0/8",
    "ip:2001:db8::/32",
    "ip:2001:db8:0:0:1::/80",
    "ip:::/0",
    "ip:0.0.0.0/0",
    "ip:::/128",
    "ip:1:2:3:4::/64",
    "ip:*",
    "time:2026-05-02",
    "time:>2026-05-02T12:00:00Z",
    "time:<2026-05-01T06:00:00Z",
    "time:2026-04..2026-05-01",
    "time:2027",
    "received:>=2026-05-03",
    "id:evt_019de3f4-1f00-7abc-9def-0123456789ab",
    "is:archived",
    "is:sealed",
    "is:recorded",
    "changes./plan:enterprise",
    "changes.plan:pro",
    "changes./plan.before:5",
    "changes./plan:true",
    "changes./plan:null",
    "changes./plan:*",
    "changes./plan.after:*",
    "changes./role.before:*",
    "changes./plan:>0",
    "changes./a~1b:-3..6",
    "changes./plan:ent*",
    "changes./none:*",
    "metadata.plan:pro,enterprise",
    "metadata.plan:5",
    "metadata.plan:null",
    "metadata.plan:*",
    "metadata.plan:\"q\\\"uo:\\\\ '?\"",
    "metadata.plan:<0",
    "metadata.a.\"b.c\":zero",
    "metadata.a.0:one",
    "metadata.list.0:zero",
    "metadata.list:zero",
    "metadata.a.\"a/b~\":x",
    "metadata.\"x:y (z)\":pro",
    "metadata.n:100..200",
    "metadata.n:1*",
    "metadata.\"'; DROP\":\"'; DROP*\"",
];

const TEXTS: [&str; 14] = [
    "bob",
    "ünder",
    "deleted",
    "οδο",
    "zero",
    "red",
    "\"bob:\"",
    "plan",
    "\"q\\\"uo\"",
    "\"drop table\"",
    "inan",
    "u1",
    "\"did \\\"it\"",
    "5",
];

/// First each term alone and negated; then filters of up to four, some of them negated, some in brackets.
fn filter(dice: &Dice, n: usize) -> String {
    let term = |dice: &Dice| match dice.below(6) {
        0 => (*dice.one(&TEXTS)).to_owned(),
        _ => (*dice.one(&TERMS)).to_owned(),
    };
    let all = TERMS.len() + TEXTS.len();
    let known = |n: usize| TERMS.iter().chain(&TEXTS).nth(n % all).map(|term| (*term).to_owned()).unwrap();
    match n {
        n if n < all => known(n),
        n if n < 2 * all => format!("-{}", known(n)),
        _ => {
            let clause = |dice: &Dice| {
                let minus = if dice.below(4) == 0 { "-" } else { "" };
                match dice.below(3) {
                    0 => format!("{minus}({} OR {} -{})", term(dice), term(dice), term(dice)),
                    _ => format!("{minus}({})", term(dice)),
                }
            };
            (0..=dice.below(3)).map(|_| clause(dice)).collect::<Vec<_>>().join(" ")
        }
    }
}

/// What a program in Python prints that is given queries.
fn answers(command: &mut Command, queries: &Value) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut child = command.current_dir(root).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(queries.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Queries as the program for a dialect takes them.
fn queries(filters: &[Filter], tenant: &str, dialect: Dialect) -> Vec<Value> {
    let tenant = TenantId::parse(tenant).unwrap();
    let query = |filter| {
        let sql = Sql::of(filter, &tenant, Order::Ascending, dialect);
        assert!(!sql.text.contains("DROP") && !sql.text.contains("acme"), "{}", sql.text);
        assert_eq!(sql.parameters[0].0, tenant.as_str());
        let texts: Vec<&String> = sql.parameters.iter().map(|parameter| &parameter.0).collect();
        let literals: Vec<String> = sql.parameters.iter().map(Parameter::literal).collect();
        json!({"sql": sql.text, "parameters": texts, "literals": literals})
    };
    filters.iter().map(query).collect()
}

/// Six hundred events in an archive, many filters, and what each of them admits.
struct Asked {
    folder: tempfile::TempDir,
    filters: Vec<Filter>,
    expected: Vec<Vec<u64>>,
}

impl Asked {
    fn new() -> Asked {
        let dice = Dice(SeededRandom::new(SEED));
        let records: Vec<Record> = accepted(&events(&dice));
        assert_eq!(records.len(), EVENTS);
        let folder = tempfile::tempdir().unwrap();
        let month = folder.path().join("bucket/archive/tenant_id=org_acme/log=0/month=2026-05");
        fs::create_dir_all(&month).unwrap();
        write_archive(&month.join("00000000000000000000.parquet"), &records);
        let now = Timestamp::parse("2026-06-01T00:00:00Z").unwrap();
        let mut filters: Vec<Filter> =
            (0..FILTERS).map(|n| Filter::new(parse_filter(&filter(&dice, n)).unwrap(), now)).collect();
        filters.push(Filter::default());
        let admitted = |filter: &Filter| {
            let is_admitted = |record| filter.judge(record, Some(State::Archived)).unwrap() == Some(true);
            let mut admitted: Vec<_> =
                records.iter().zip(0..).filter(|(record, _)| is_admitted(record)).collect();
            admitted.sort_by_key(|(record, _)| record.id);
            admitted.into_iter().map(|(_, index)| index).collect()
        };
        let expected: Vec<Vec<u64>> = filters.iter().map(admitted).collect();
        let sizes: std::collections::BTreeSet<_> = expected.iter().map(Vec::len).collect();
        assert!(sizes.len() > 60, "the filters hardly differ: {sizes:?}");
        Asked { folder, filters, expected }
    }

    /// All of them, and one of another tenant, which has nothing.
    fn queries(&self, dialect: Dialect) -> Value {
        let mut all = queries(&self.filters, "org_acme", dialect);
        all.extend(queries(&[Filter::default()], "org_other", dialect));
        json!(all)
    }

    fn check(&self, mut answers: Vec<Value>) {
        assert_eq!(answers.pop(), Some(json!([])), "another tenant's query finds events");
        assert_eq!(answers.len(), self.filters.len());
        let mut wrong = Vec::new();
        for ((filter, answer), expected) in self.filters.iter().zip(&answers).zip(&self.expected) {
            match serde_json::from_value::<Vec<u64>>(answer.clone()) {
                Ok(answer) if answer == *expected => {}
                Ok(answer) => {
                    let (only_sql, only_filter) = (missing(&answer, expected), missing(expected, &answer));
                    wrong.push(format!(
                        "{}: SQL alone {only_sql:?}, filter alone {only_filter:?}",
                        filter.asked()
                    ));
                }
                Err(_) => wrong.push(format!("{}: {answer}", filter.asked())),
            }
        }
        assert!(wrong.is_empty(), "seed {SEED}, {} differ:\n{}", wrong.len(), wrong.join("\n"));
    }
}

/// Some of those of one list that another lacks.
fn missing(of: &[u64], other: &[u64]) -> Vec<u64> {
    of.iter().copied().filter(|index| !other.contains(index)).take(5).collect()
}

#[test]
fn sql_over_the_archive_answers_what_the_filter_admits() {
    let asked = Asked::new();
    let mut command = Command::new(python("readers"));
    command.arg("tests/archive/sql.py").arg(asked.folder.path().join("bucket/archive"));
    asked.check(answers(&mut command, &asked.queries(Dialect::DuckDb)));
}

/// A Java that Trino runs on: `JAVA_HOME`'s, or one of those installed where Linux has them.
fn java_home() -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|entry| entry.path());
    std::env::var_os("JAVA_HOME").map(PathBuf::from).into_iter().chain(installed).find(|home| {
        let told = Command::new(home.join("bin/java")).arg("-version").output();
        told.is_ok_and(|told| String::from_utf8_lossy(&told.stderr).contains(" version \"25"))
    })
}

#[test]
fn sql_for_athena_answers_the_same_on_its_engine() {
    if std::env::var_os("STELE_LONG").is_none() {
        return;
    }
    let Some(java) = java_home() else {
        eprintln!("NOT CHECKED: Java 25 is not installed, so Trino has answered no filter");
        return;
    };
    let asked = Asked::new();
    let mut command = Command::new(python("aws"));
    command.arg("tests/athena/filters.py").arg(asked.folder.path()).env("JAVA_HOME", java);
    asked.check(answers(&mut command, &asked.queries(Dialect::Athena)));
}

#[test]
fn every_filter_of_the_documentation_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let (readme, page) = (read("README.md"), read("functions/query/FILTERS.md"));
    let mut filters: Vec<&str> =
        readme.split("--q '").skip(1).map(|rest| rest.split('\'').next().unwrap()).collect();
    assert!(filters.len() >= 3, "{filters:?}");
    filters.push(page.split("```\n").nth(1).unwrap().trim());
    // Code in the page that has a colon is a term, unless it is a name, a part of JSON or an address.
    let spans = page.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2));
    filters.extend(spans.filter(|span| {
        span.split_once(':').is_some_and(|(field, _)| {
            let field = field.trim_start_matches(['-', '(']);
            ["metadata", "changes", "is", "time"].contains(&field.split('.').next().unwrap_or_default())
        })
    }));
    for filter in &filters {
        parse_filter(filter).unwrap_or_else(|e| panic!("`{filter}`: {e}"));
    }
    assert!(filters.len() >= 6, "{filters:?}");
}
