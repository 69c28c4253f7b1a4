//! Filters as a whole: text and expression are one, and every way to ask about records gives the same answer.

use super::samples::{MS_MAX, expressions, records};
use super::*;
use crate::error::{Code, Error};
use crate::id::EventId;
use crate::ports::HotIndex;
use crate::record::Record;
use crate::routes::Parameters;
use crate::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_ms(1_780_000_000_000);

fn canonical(q: &str) -> String {
    parse_filter(q).unwrap_or_else(|e| panic!("{q}: {e}")).to_string()
}

fn refused(q: &str) -> Error {
    match parse_filter(q) {
        Ok(read) => panic!("`{q}` was read as `{read}`"),
        Err(e) => e,
    }
}

#[test]
fn text_becomes_canonical_text() {
    for (q, expected) in [
        ("", ""),
        ("action:invoice.deleted", "action:invoice.deleted"),
        ("  action:b.b,a.a ", "action:a.a,b.b"),
        ("action:b.b action:a.a", "action:a.a,b.b"),
        ("(action:b.b) action:a.a", "action:a.a (action:b.b)"),
        ("action:deleted", "action:deleted"),
        ("action:invoice.*", "action:invoice.*"),
        ("-action:a.a,b.b", "-action:a.a,b.b"),
        ("NOT action:a.a NOT action:b.b", "-action:a.a,b.b"),
        ("-(action:a.a actor:u1)", "(-action:a.a OR -actor.id:u1)"),
        ("actor:u1", "actor.id:u1"),
        ("actor:A@x.org", "(actor.id:A@x.org OR actor.email:a@x.org)"),
        ("actor:al*", "(actor.id:al* OR actor.email:al*)"),
        ("actor.name:\"Alice J\"", "actor.name:\"alice j\""),
        ("(actor:u1 OR resource:r1 outcome:denied)", "(actor.id:u1 OR resource.id:r1 outcome:denied)"),
        ("ip:203.0.113.77/24", "ip:203.0.113.0/24"),
        ("ip:::ffff:1.2.3.4", "ip:1.2.3.4"),
        ("ip:2001:db8::/32,::1", "ip:::1,2001:db8::/32"),
        ("time:-7d", "time:-1w"),
        ("time:-36h..-1d", "time:-36h..-1d"),
        ("time:>=now", "time:>=now"),
        ("time:<-30d", "time:<=-30d"),
        ("time:2026-05-01", "time:2026-05-01T00:00:00.000Z..2026-05-01T23:59:59.999Z"),
        ("time:2024-02", "time:2024-02-01T00:00:00.000Z..2024-02-29T23:59:59.999Z"),
        ("time:2021", "time:2021-01-01T00:00:00.000Z..2021-12-31T23:59:59.999Z"),
        ("time:>2026-05-01", "time:>=2026-05-02T00:00:00.000Z"),
        ("time:<2026-05-01", "time:<=2026-04-30T23:59:59.999Z"),
        ("time:2026-05-01T12:00:00+02:00", "time:2026-05-01T10:00:00.000Z..2026-05-01T10:00:00.000Z"),
        ("changes./plan:enterprise", "changes./plan:enterprise"),
        ("changes.plan.after:x", "changes./plan:x"),
        ("changes.address.city.before:x", "changes./address/city.before:x"),
        ("changes./plan:*", "changes./plan:*"),
        ("changes./plan.after:*", "changes./plan.after:*"),
        ("changes.\"/x.before\":y", "changes.\"/x.before\":y"),
        ("metadata.a.\"b.c\":x", "metadata.a.\"b.c\":x"),
        ("metadata.n:>5", "metadata.n:>5"),
        ("metadata.n:1..5.50", "metadata.n:1..5.5"),
        ("metadata.n:<1,>5", "(metadata.n:<1 OR metadata.n:>5)"),
        ("metadata.v:\"1..5\"", "metadata.v:\"1..5\""),
        ("metadata.v:\"a\\\"b\\\\\"*", "metadata.v:\"a\\\"b\\\\\"*"),
        ("Bob \"free text\" -x", "bob \"free text\" -x"),
        ("is:sealed -is:archived", "is:sealed -is:archived"),
        ("id:evt_019DE3F4-1f00-7abc-9def-0123456789ab", "id:evt_019de3f4-1f00-7abc-9def-0123456789ab"),
        ("-reason:* ua:curl", "ua:curl -reason:*"),
        ("metadata.plan text", "metadata.plan text"),
    ] {
        assert_eq!(canonical(q), expected, "{q}");
        assert_eq!(canonical(expected), expected, "{q}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_was_meant() {
    for (q, column, code, meant) in [
        ("actr:u1", 1, "unknown_field", Some("actor")),
        ("x timestamp:2026", 3, "unknown_field", Some("time")),
        ("http://x", 1, "unknown_field", None),
        ("metadata:x", 1, "unknown_field", Some("metadata.plan")),
        ("changes:x", 1, "unknown_field", Some("changes./plan")),
        (":x", 1, "syntax", None),
        ("outcome:fail", 9, "bad_value", Some("outcome:failure")),
        ("ä outcome:succes", 11, "bad_value", Some("outcome:success")),
        ("actor.type:robot", 12, "bad_value", None),
        ("is:seled", 4, "bad_value", Some("is:sealed")),
        ("is:*", 4, "bad_value", None),
        ("ip:203.0.113.*", 4, "bad_value", Some("ip:203.0.113.0/24")),
        ("ip:1.2.3.4/33", 4, "bad_value", None),
        ("ip:1.2.3.4/+8", 4, "bad_value", None),
        ("id:u1", 4, "bad_value", None),
        ("id:evt_019*", 4, "bad_value", None),
        ("time:7d", 6, "bad_value", Some("-7d")),
        ("time:2026-13-01", 6, "bad_value", None),
        ("time:2026-05-01T10:00:00", 6, "bad_value", Some("2026-05-01T10:00:00Z")),
        ("time:2026-05*", 6, "bad_value", Some("time:2026-05")),
        ("time:2026-06..2026-05", 6, "bad_value", Some("time:2026-05..2026-06")),
        ("time:-1d..-7d", 6, "bad_value", Some("time:-7d..-1d")),
        ("time:2026..", 10, "syntax", Some("time:>=2026")),
        ("time:..2026", 6, "syntax", Some("time:<=2026")),
        ("time:>=2026-01 time:<2026-02", 1, "contradiction", Some("(time:>=2026-01) (time:<2026-02)")),
        ("metadata.n:>5,<7", 1, "contradiction", Some("(metadata.n:>5) (metadata.n:<7)")),
        ("metadata.n:>abc", 13, "bad_value", None),
        ("actor:>u1", 8, "bad_value", None),
        ("actor:a..b", 7, "bad_value", None),
        ("action:in*ce.x", 10, "syntax", Some("action:\"in*ce.x\"")),
        ("action:", 8, "syntax", None),
        ("action:a.a,", 12, "syntax", None),
        ("action:a.a, b.b", 12, "syntax", None),
        ("action:f(x)", 9, "syntax", None),
        ("resource:\"a\"b", 13, "syntax", None),
        ("\"never", 1, "syntax", None),
        ("x \"\"", 3, "syntax", None),
        ("\"a\\n\"", 3, "syntax", Some("\\\\")),
        ("foo*", 4, "syntax", Some("foo")),
        ("a,b", 2, "syntax", None),
        ("a OR b", 3, "syntax", Some("(a OR b)")),
        ("a AND b", 3, "syntax", Some("\"AND\"")),
        ("(a OR b", 1, "syntax", None),
        ("a)", 2, "syntax", None),
        ("()", 2, "syntax", None),
        ("(a OR )", 7, "syntax", None),
        ("(a)b", 4, "syntax", None),
        ("a -", 3, "syntax", None),
        ("- a", 1, "syntax", None),
        ("--a", 1, "syntax", None),
        ("NOT", 1, "syntax", None),
        ("metadata.a..b:x", 12, "syntax", None),
        ("changes./:x", 9, "syntax", None),
    ] {
        let e = refused(q);
        let problem = &e.problems()[0];
        let told = (e.position().unwrap().column, problem.code, problem.suggestion.as_deref());
        assert_eq!(told, (column, code, meant), "{q}: {e}");
        assert_eq!((e.code(), problem.pointer.as_str()), (Code::BadFilter, "q"));
        assert!(e.detail().ends_with(&format!("at character {column}")), "{e}");
    }
}

#[test]
fn limits_have_their_own_words() {
    let long = format!("\"{}\"", "ä".repeat(2_100));
    let e = refused(&long);
    assert_eq!((e.problems()[0].code, e.position().unwrap().offset), ("filter_too_long", 4_095));
    let deep = format!("{}a{}", "(".repeat(17), ")".repeat(17));
    assert_eq!(
        (refused(&deep).problems()[0].code, refused(&deep).position().unwrap().column),
        ("filter_too_deep", 17)
    );
    let many = vec!["a"; 101].join(" ");
    assert_eq!(refused(&many).problems()[0].code, "too_many_conditions");
    let listed = format!("action:{}", vec!["a.b"; 101].join(","));
    assert_eq!(refused(&listed).problems()[0].code, "too_many_conditions");
}

fn filter_of(query: &str) -> Filter {
    filter(&Parameters::parse(query).unwrap(), NOW).unwrap()
}

#[test]
fn parameters_and_q_are_one_language() {
    for (parameters, q) in [
        ("actor_id=u1&actor_id=u2&action=x.y", "action:x.y actor.id:u2,u1"),
        ("actor_name=ALI", "actor.name:ali"),
        ("action=invoice.*&outcome=denied", "outcome:denied action:invoice.*"),
        ("action=DEL", "action:del"),
        ("search=a+b&search=C", "(\"a b\" OR c)"),
        ("from=2026-05-01&to=2026-06-01", "time:2026-05"),
        ("ip=203.0.113.7", "ip:203.0.113.7/32"),
        ("resource_type=t&resource_id=r", "resource:r resource.type:t"),
    ] {
        let read = filter_of(parameters);
        assert_eq!(read, Filter::new(parse_filter(q).unwrap(), NOW), "{parameters}");
        let bound = read.binding(crate::ports::Order::Ascending);
        let encoded: String = q.bytes().map(|b| format!("%{b:02X}")).collect();
        assert_eq!(bound, filter_of(&format!("q={encoded}")).binding(crate::ports::Order::Ascending));
        assert_ne!(bound, read.binding(crate::ports::Order::Descending));
    }
    // Both together must hold.
    assert_eq!(filter_of("q=action:x.y&actor_id=u").asked().to_string(), "action:x.y actor.id:u");
    assert_eq!(filter_of("from=2026-01-02&to=2026-01-02").range(), None);
    assert_eq!(filter_of("to=1970-01-01").range(), None);
}

#[test]
fn a_relative_time_is_bound_as_asked_and_moves_with_the_question() {
    let week = filter_of("q=time:-7d");
    let later = week.at(NOW.plus_days(1));
    assert_eq!(week.from(), Some(NOW.minus_days(7)));
    assert_eq!(later.from(), Some(NOW.minus_days(6)));
    let order = crate::ports::Order::Descending;
    assert_eq!(week.binding(order), later.binding(order));
    assert!(week.is_relative() && !filter_of("q=time:2026").is_relative());
}

#[test]
fn the_rarest_index_is_taken_wherever_it_holds_everything() {
    let index = |q: &str| Filter::new(parse_filter(q).unwrap(), NOW).best_index();
    let actor = |id: &str| HotIndex::Actor(id.to_owned());
    let resource = |id: &str| HotIndex::Resource(id.to_owned());
    assert_eq!(index("actor:a resource:r action:x.y"), [resource("r")]);
    assert_eq!(index("actor:b,a action:x.y"), [actor("a"), actor("b")]);
    assert_eq!(index("(actor:a OR resource:r) outcome:denied"), [actor("a"), resource("r")]);
    assert_eq!(index("(actor:a outcome:denied OR resource:r -ip:1.1.1.1)"), [actor("a"), resource("r")]);
    assert_eq!(index("(actor:a OR outcome:denied)"), []);
    assert_eq!(index("-actor:a action:x.y"), [HotIndex::Action("x.y".to_owned())]);
    assert_eq!(index("actor:a@x.org"), []);
    assert_eq!(index("actor:a*"), []);
    let answered = |q: &str| Filter::new(parse_filter(q).unwrap(), NOW).is_answered_by_index();
    assert!(answered("actor:a,b time:-7d") && answered("(actor:a OR resource:r)"));
    assert!(
        !answered("actor:a action:x.y") && !answered("time:-7d") && !answered("") && !answered("actor:a x")
    );
}

#[test]
fn explaining_tells_all_ways() {
    let tenant = crate::id::TenantId::parse("org'x").or(crate::id::TenantId::parse("org_acme")).unwrap();
    let told = explain("action:invoice.deleted changes./plan:o'x time:-7d", &tenant, NOW).unwrap();
    assert_eq!(told.canonical, "time:-1w action:invoice.deleted changes./plan:o'x");
    assert_eq!(told.plan["hot_store"]["lookups"][0], json!({"index": "action", "value": "invoice.deleted"}));
    assert_eq!(told.plan["reads_leaf"], json!(true));
    assert_eq!(told.plan["pruned_by"], json!(["occurred_at", "action"]));
    for sql in [&told.athena, &told.duckdb] {
        let text = sql["sql"].as_str().unwrap();
        assert_eq!(
            text.matches('?').count() - text.matches("\":?'").count(),
            sql["parameters"].as_array().unwrap().len()
        );
        assert!(!text.contains("invoice.deleted") && !text.contains("org_acme"), "{text}");
        assert!(text.contains("WHERE tenant_id = ?"));
    }
    assert_eq!(told.athena["parameters"][0], "'org_acme'");
    assert_eq!(told.athena["parameters"].as_array().unwrap().last().unwrap(), "'o''x'");
    assert!(explain("a:b", &tenant, NOW).is_err());
    assert_eq!(explain(" ", &tenant, NOW).unwrap().canonical, "");
}

/// The same rules said over the JSON, as plainly as possible.
fn naive(expression: &Expression, leaf: &Value, state: State) -> bool {
    match expression {
        Expression::Is(atom) => naive_atom(atom, leaf, state),
        Expression::Not(atom) => !naive_atom(atom, leaf, state),
        Expression::Any(parts) => parts.iter().any(|part| naive(part, leaf, state)),
        Expression::All(parts) => parts.iter().all(|part| naive(part, leaf, state)),
    }
}

fn naive_atom(Atom { field, test }: &Atom, leaf: &Value, state: State) -> bool {
    let pointer = match field {
        Field::State => {
            return match test {
                Test::State(State::Recorded) => state == State::Recorded,
                Test::State(State::Sealed) => state != State::Recorded,
                _ => state == State::Archived,
            };
        }
        Field::Metadata(keys) => {
            let mut value = leaf.get("metadata");
            for key in keys {
                value = value.and_then(|value| value.as_object()).and_then(|object| object.get(key));
            }
            return value.is_some_and(|value| naive_value(test, value));
        }
        Field::Changes { path, side } => {
            let changes = leaf["changes"].as_array().cloned().unwrap_or_default();
            return changes.iter().any(|change| {
                let told = change["path"].as_str().unwrap();
                (told == path || format!("/{told}") == *path)
                    && match side {
                        Side::Told => true,
                        Side::Before => change.get("before").is_some_and(|value| naive_value(test, value)),
                        Side::After => change.get("after").is_some_and(|value| naive_value(test, value)),
                    }
            });
        }
        Field::Text => {
            let Test::Contains(part) = test else { panic!("{test:?}") };
            let mut texts = Vec::new();
            for pointer in
                ["/action", "/actor/id", "/actor/name", "/resource/id", "/resource/name", "/description"]
            {
                texts.extend(leaf.pointer(pointer).cloned());
            }
            strings(leaf.get("metadata").unwrap_or(&Value::Null), &mut texts);
            return texts.iter().any(|text| fold(text.as_str().unwrap()).contains(part));
        }
        Field::Id => "/id",
        Field::Time => "/occurred_at",
        Field::Received => "/received_at",
        Field::Action => "/action",
        Field::ActorId => "/actor/id",
        Field::ResourceId => "/resource/id",
        Field::Outcome => "/outcome",
        Field::ActorType => "/actor/type",
        Field::ResourceType => "/resource/type",
        Field::Key => "/key_id",
        Field::Ip => "/context/ip",
        Field::ActorEmail => "/actor/email",
        Field::ActorName => "/actor/name",
        Field::ResourceName => "/resource/name",
        Field::Reason => "/reason",
        Field::UserAgent => "/context/user_agent",
        Field::Session => "/context/session_id",
        Field::Request => "/context/request_id",
        Field::Trace => "/context/trace_id",
        Field::ExternalId => "/external_id",
        Field::Description => "/description",
    };
    let Some(text) = leaf.pointer(pointer).and_then(Value::as_str) else { return false };
    let compared = if field.folds() { fold(text) } else { text.to_owned() };
    match test {
        Test::Exists => true,
        Test::Equals(other) => compared == *other,
        Test::Prefix(other) => compared.starts_with(other),
        Test::Contains(other) => compared.contains(other),
        Test::Id(id) => id.to_string() == text,
        Test::Within(interval) => interval.contains(Timestamp::parse(text).unwrap()),
        Test::Network(network) => text.parse().is_ok_and(|ip: std::net::IpAddr| {
            let bits = |ip: std::net::IpAddr| match ip.to_canonical() {
                std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
                std::net::IpAddr::V6(v6) => v6.to_bits(),
            };
            let free = if network.address().is_ipv4() { 32 } else { 128 } - u32::from(network.bits());
            (bits(ip) ^ bits(network.address())).checked_shr(free).unwrap_or(0) == 0
        }),
        Test::Number(_) | Test::State(_) => false,
    }
}

fn naive_value(test: &Test, value: &Value) -> bool {
    let scalar = |value: &Value| match (test, value) {
        (Test::Equals(text), Value::String(value)) => value == text,
        (Test::Prefix(text), Value::String(value)) => value.starts_with(text),
        (Test::Equals(text), Value::Number(value)) => {
            text.parse().is_ok_and(|number: f64| Some(number) == value.as_f64())
        }
        (Test::Number(numbers), Value::Number(value)) => numbers.contains(value.as_f64().unwrap()),
        (Test::Equals(text), Value::Bool(true)) => text == "true",
        (Test::Equals(text), Value::Bool(false)) => text == "false",
        (Test::Equals(text), Value::Null) => text == "null",
        _ => false,
    };
    match (test, value) {
        (Test::Exists, value) => !value.is_null(),
        (_, Value::Array(items)) => items.iter().any(scalar),
        (_, value) => scalar(value),
    }
}

fn strings(value: &Value, into: &mut Vec<Value>) {
    match value {
        Value::String(_) => into.push(value.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
        Value::Object(members) => members.values().for_each(|member| strings(member, into)),
        _ => {}
    }
}

/// Some of a record's columns.
struct Read<'a> {
    columns: crate::record::Columns<'a>,
    read: u32,
    state: Option<State>,
}

impl Row for Read<'_> {
    fn cell(&self, column: Column) -> Cell<'_> {
        if self.read >> (column as u32) & 1 == 0 { Cell::Unread } else { self.columns.cell(column) }
    }

    fn state(&self) -> Option<State> {
        self.state
    }
}

/// What a file would tell of some records: exact, shortened, or nothing, by column.
struct Told {
    texts: std::collections::BTreeMap<Column, (Vec<u8>, Vec<u8>)>,
    nulls: std::collections::BTreeMap<Column, Nulls>,
    values: std::collections::BTreeMap<Column, Vec<String>>,
    times: std::collections::BTreeMap<Column, (Timestamp, Timestamp)>,
    ids: Option<(EventId, EventId)>,
    state: Option<State>,
}

const COLUMNS: [Column; 21] = [
    Column::Id,
    Column::OccurredAt,
    Column::ReceivedAt,
    Column::Action,
    Column::Outcome,
    Column::Reason,
    Column::ActorType,
    Column::ActorId,
    Column::ActorName,
    Column::ActorEmail,
    Column::ResourceType,
    Column::ResourceId,
    Column::ResourceName,
    Column::Ip,
    Column::UserAgent,
    Column::KeyId,
    Column::SessionId,
    Column::RequestId,
    Column::TraceId,
    Column::ExternalId,
    Column::Description,
];

impl Told {
    fn of(records: &[Record], state: State, mut what: u128) -> Told {
        let mut told = Told {
            texts: Default::default(),
            nulls: Default::default(),
            values: Default::default(),
            times: Default::default(),
            ids: None,
            state: (what & 1 == 0).then_some(state),
        };
        what >>= 1;
        let mut choice = || {
            let chosen = what & 7;
            what >>= 3;
            chosen
        };
        if choice() > 3 {
            let ids = || records.iter().map(|record| record.id);
            told.ids = ids().min().zip(ids().max());
        }
        for column in COLUMNS {
            let columns: Vec<_> = records.iter().map(|record| record.columns().unwrap()).collect();
            let mut texts: Vec<String> = Vec::new();
            let mut times = Vec::new();
            let mut nulls = 0;
            for row in &columns {
                match row.cell(column) {
                    Cell::Null => nulls += 1,
                    Cell::Text(text) => texts.push(text.to_owned()),
                    Cell::Id(id) => texts.push(id.to_string()),
                    Cell::Time(time) => times.push(time),
                    Cell::Unread => panic!("all columns are there"),
                }
            }
            let chosen = choice();
            if chosen & 1 == 1 {
                let known = match nulls {
                    0 => Nulls::None,
                    n if n == records.len() => Nulls::All,
                    _ => Nulls::Some,
                };
                told.nulls.insert(column, known);
            }
            if chosen & 2 == 2 {
                if let Some(bounds) = times.iter().min().copied().zip(times.iter().max().copied()) {
                    told.times.insert(column, bounds);
                }
                if let (Some(least), Some(greatest)) = (texts.iter().min(), texts.iter().max()) {
                    let (mut least, mut greatest) =
                        (least.clone().into_bytes(), greatest.clone().into_bytes());
                    if chosen & 4 == 4 {
                        least.truncate(2);
                        if greatest.len() > 2 && greatest[1] < 0xff {
                            greatest.truncate(2);
                            greatest[1] += 1;
                        }
                    }
                    told.texts.insert(column, (least, greatest));
                }
            }
            if chosen & 4 == 4 {
                told.values.insert(column, texts);
            }
        }
        told
    }
}

impl Bounds for Told {
    fn texts(&self, column: Column) -> Option<(&[u8], &[u8])> {
        self.texts.get(&column).map(|(least, greatest)| (least.as_slice(), greatest.as_slice()))
    }

    fn times(&self, column: Column) -> Option<(Timestamp, Timestamp)> {
        self.times.get(&column).copied()
    }

    fn ids(&self) -> Option<(EventId, EventId)> {
        self.ids
    }

    fn nulls(&self, column: Column) -> Nulls {
        self.nulls.get(&column).copied().unwrap_or(Nulls::Unknown)
    }

    fn bloom(&self, column: Column, value: &str) -> Option<bool> {
        // One value in seven is found though it is not there.
        self.values.get(&column).map(|texts| texts.iter().any(|text| text == value) || value.len() % 7 == 3)
    }

    fn state(&self) -> Option<State> {
        self.state
    }
}

fn states() -> impl Strategy<Value = State> {
    proptest::sample::select(State::ALL.map(|(_, state)| state).to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn printed_expressions_read_back(expression in expressions()) {
        let text = expression.to_string();
        let read = parse_filter(&text);
        prop_assert!(read.is_ok(), "{} {:?}", text, read);
        prop_assert_eq!(read.unwrap(), expression, "{}", text);
    }

    #[test]
    fn a_record_is_judged_as_the_plain_rules_judge_it(
        expression in expressions(), record in records(), state in states(), read: u32,
    ) {
        let filter = Filter::new(expression, NOW);
        let leaf = serde_json::from_slice(record.leaf.as_bytes()).unwrap();
        let admitted = naive(filter.expression(), &leaf, state);
        prop_assert_eq!(filter.judge(&record, Some(state)).unwrap(), Some(admitted), "{} {}", filter.asked(), leaf);
        // What is not known never makes a wrong answer.
        let unplaced = filter.judge(&record, None).unwrap();
        prop_assert!(unplaced.is_none_or(|holds| holds == admitted));
        prop_assert!(unplaced.is_some() || filter.needs_state());
        for (read, state) in [(read, None), (u32::MAX, Some(state))] {
            let row = Read { columns: record.columns().unwrap(), read, state };
            let judged = filter.holds_of(&row);
            prop_assert!(judged.is_none_or(|holds| holds == admitted), "{} {}", filter.asked(), leaf);
            prop_assert!(judged.is_some() || read != u32::MAX || filter.needs_leaf(false));
        }
        // What is admitted lies in the range, and in an index if one is chosen.
        if admitted {
            let range = filter.range().unwrap();
            prop_assert!((range.first..=range.last).contains(&record.id));
            prop_assert!(filter.from().is_none_or(|from| from <= record.occurred_at));
            prop_assert!(filter.to().is_none_or(|to| record.occurred_at < to));
        }
        let lookups = filter.best_index();
        let held = lookups.iter().any(|lookup| match lookup {
            HotIndex::Actor(id) => *id == record.actor_id,
            HotIndex::Resource(id) => Some(id) == record.resource_id.as_ref(),
            HotIndex::Action(action) => *action == record.action,
        });
        prop_assert!(!admitted || held || lookups.is_empty());
        if filter.is_answered_by_index() {
            let within = filter.range().is_some_and(|range| (range.first..=range.last).contains(&record.id));
            prop_assert_eq!(admitted, held && within);
        }
    }

    #[test]
    fn what_may_match_is_never_pruned(
        expression in expressions(), records in prop::collection::vec(records(), 1..5), state in states(), told: u128,
    ) {
        let filter = Filter::new(expression, NOW);
        let any = records.iter().any(|record| filter.judge(record, Some(state)).unwrap() == Some(true));
        let bounds = Told::of(&records, state, told);
        prop_assert!(filter.may_match(&bounds) || !any, "{}", filter.asked());
    }

    #[test]
    fn any_text_is_read_or_refused_within_it(
        text in "(\\PC{0,40}|[-a-z:\"*.,()<>=/ OR\\\\0-9]{0,40}|((NOT |-)?(action|time|metadata\\.a|changes\\./x|is|ip|x):?[-a-z0-9*.,\"<>=]{0,8}[ )(]?){0,5})",
    ) {
        match parse_filter(&text) {
            Ok(read) => prop_assert_eq!(parse_filter(&read.to_string()).unwrap(), read),
            Err(e) => {
                let position = e.position().unwrap();
                prop_assert!(text.is_char_boundary(position.offset) && position.offset <= text.len());
                prop_assert_eq!(position.column, text[..position.offset].chars().count() + 1);
                prop_assert_eq!(e.code(), Code::BadFilter);
            }
        }
    }
}

#[test]
fn pruning_prunes() {
    struct One;
    impl Bounds for One {
        fn texts(&self, column: Column) -> Option<(&[u8], &[u8])> {
            match column {
                Column::ActorId => Some((b"b", b"d")),
                Column::Outcome => Some((b"success", b"success")),
                _ => None,
            }
        }
        fn times(&self, column: Column) -> Option<(Timestamp, Timestamp)> {
            (column == Column::OccurredAt).then(|| (Timestamp::from_ms(100), Timestamp::from_ms(MS_MAX)))
        }
        fn nulls(&self, column: Column) -> Nulls {
            if column == Column::Reason { Nulls::All } else { Nulls::None }
        }
        fn bloom(&self, column: Column, value: &str) -> Option<bool> {
            (column == Column::ResourceId).then_some(value == "r1")
        }
    }
    for (q, may) in [
        ("actor:a", false),
        ("actor:c", true),
        ("actor.id:e*", false),
        ("actor.id:d*", true),
        ("(actor:a OR actor:c)", true),
        ("(actor:a OR actor:e)", false),
        ("actor:c resource:r2", false),
        ("resource:r1,r2", true),
        ("outcome:denied", false),
        ("-outcome:success", false),
        ("-outcome:denied", true),
        ("reason:x", false),
        ("-reason:x", true),
        ("reason:*", false),
        ("-action:*", false),
        ("time:<=1970-01-01T00:00:00.099Z", false),
        ("time:>=1970-01-01T00:00:00.100Z", true),
        ("-time:1970", false),
        ("anything", true),
        ("metadata.x:y", true),
    ] {
        assert_eq!(Filter::new(parse_filter(q).unwrap(), NOW).may_match(&One), may, "{q}");
    }
}
