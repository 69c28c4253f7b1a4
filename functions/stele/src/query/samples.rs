//! Random expressions and records that sometimes match them, for tests.

use super::expression::*;
use crate::id::EventId;
use crate::record::Record;
use crate::time::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// Times of sample records lie below this, in milliseconds.
pub(super) const MS_MAX: u64 = 1_500;

const ACTIONS: [&str; 4] = ["invoice.deleted", "invoice.item.added", "user.created", "user.role.granted"];
const IDS: [&str; 6] = ["u1", "u2", "alice@acme.com", "inv_1", "a b", "Ä\"\\(x)"];
const NAMES: [&str; 4] = ["Älice Ω", "Bob", "bob (admin)", "ΟΔΟΣ"];
const IPS: [&str; 7] = [
    "203.0.113.7",
    "::ffff:203.0.113.9",
    "2001:db8::1",
    "10.0.0.1",
    "nowhere",
    "1.2.3.04",
    "2001:db8:0:0:1::192.0.2.1",
];
const EMAILS: [&str; 3] = ["alice@acme.com", "Bob@Acme.COM", "u1"];

fn one<T: Clone + std::fmt::Debug + 'static>(of: &[T]) -> impl Strategy<Value = T> + use<T> {
    select(of.to_vec())
}

fn maybe(of: &'static [&'static str]) -> impl Strategy<Value = Option<&'static str>> {
    proptest::option::of(select(of))
}

fn scalar() -> impl Strategy<Value = Value> {
    one(&[
        json!("pro"),
        json!("enterprise"),
        json!("5"),
        json!(5),
        json!(-2.5),
        json!(true),
        json!(null),
        json!("Ünder DEEP"),
        json!("q\"uo:"),
        json!(1e-7),
        json!({"deep": ["red Bob"]}),
    ])
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![3 => scalar(), 1 => prop::collection::vec(scalar(), 0..3).prop_map(Value::Array)]
}

/// A record.
pub(super) fn records() -> impl Strategy<Value = Record> {
    let who = (one(&IDS), maybe(&NAMES), maybe(&EMAILS), one(&["user", "service", "api_key"]));
    let what = (
        one(&ACTIONS),
        one(&["success", "failure", "denied"]),
        maybe(&IDS),
        maybe(&NAMES),
        maybe(&["invoice", "user"]),
    );
    let context = (
        maybe(&IPS),
        maybe(&["Mozilla/5.0 (X11)", "curl/8"]),
        maybe(&["s1", "s2"]),
        maybe(&["Old plan", "ünder"]),
    );
    let change = (
        one(&["/plan", "plan", "/a~1b", "/role"]),
        proptest::option::of(value()),
        proptest::option::of(value()),
    );
    let more = (
        prop::collection::vec(change, 0..3),
        proptest::option::of((value(), value(), value())),
        maybe(&["Ünder description", "Bob did \"it\""]),
        maybe(&["ext-1"]),
    );
    (0..MS_MAX, any::<u128>(), 0_u64..500, who, what, context, more).prop_map(
        |(ms, random, later, (actor, name, email, kind), (action, outcome, resource, resource_name, resource_type), context, more)| {
            let at = Timestamp::from_ms(ms);
            let id = EventId::new(at, random % 4);
            let (ip, ua, session, reason) = context;
            let (changes, metadata, description, external) = more;
            let mut leaf = json!({
                "v": 1, "id": id.to_string(), "tenant_id": "acme", "key_id": "k1",
                "occurred_at": at.to_string(), "received_at": at.plus_ms(later).to_string(),
                "action": action, "outcome": outcome, "actor": {"id": actor, "type": kind},
            });
            let mut put = |object: &str, key: &str, value: Option<&str>| {
                if let Some(value) = value {
                    leaf[object][key] = json!(value);
                }
            };
            put("actor", "name", name);
            put("actor", "email", email);
            put("resource", "id", resource);
            put("resource", "name", resource_name);
            put("resource", "type", resource_type);
            put("context", "ip", ip);
            put("context", "user_agent", ua);
            put("context", "session_id", session);
            for (key, value) in [("reason", reason), ("description", description), ("external_id", external)] {
                if let Some(value) = value {
                    leaf[key] = json!(value);
                }
            }
            if !changes.is_empty() {
                let changes = changes.into_iter().map(|(path, before, after)| {
                    let mut change = json!({"path": path});
                    for (side, value) in [("before", before), ("after", after)] {
                        if let Some(value) = value {
                            change[side] = value;
                        }
                    }
                    change
                });
                leaf["changes"] = changes.collect();
            }
            if let Some((plan, nested, other)) = metadata {
                leaf["metadata"] = json!({"plan": plan, "a": {"b.c": nested, "0": "zero"}, "list": [other, "zero"], "x/y~": {"0": other}});
            }
            Record::from_leaf(crate::canonical::canonicalize(leaf.to_string().as_bytes()).unwrap()).unwrap()
        },
    )
}

fn moment() -> impl Strategy<Value = Moment> {
    (0..MS_MAX).prop_map(|ms| Moment::At(Timestamp::from_ms(ms)))
}

fn interval() -> impl Strategy<Value = Interval> {
    prop_oneof![
        moment().prop_map(|from| Interval { from: Some(from), until: None }),
        moment().prop_map(|until| Interval { from: None, until: Some(until) }),
        (moment(), moment()).prop_map(|(a, b)| Interval { from: Some(a.min(b)), until: Some(a.max(b)) }),
    ]
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let number = || one(&[-2.5, 0.0, 5.0, 7.5, 1e-7]).prop_map(|n| Number::new(n).unwrap());
    prop_oneof![
        (number(), any::<bool>()).prop_map(|from| Numbers { from: Some(from), until: None }),
        (number(), any::<bool>()).prop_map(|until| Numbers { from: None, until: Some(until) }),
        (number(), number())
            .prop_map(|(a, b)| Numbers { from: Some((a.min(b), true)), until: Some((a.max(b), true)) }),
    ]
}

fn network() -> impl Strategy<Value = Test> {
    let address =
        one(&["203.0.113.7", "10.0.0.1", "2001:db8::1", "::ffff:203.0.113.9", "::", "2001:db8:0:0:1::"]);
    (address, 0_u8..=128).prop_map(|(address, bits)| {
        let address: std::net::IpAddr = address.parse().unwrap();
        Test::Network(Network::new(address, bits).unwrap_or(Network::of(address)))
    })
}

/// A text test of a field, over these words.
fn text(field: Field, words: &'static [&'static str]) -> BoxedStrategy<Atom> {
    let folds = field.folds();
    let prose = field.is_prose();
    let action = field == Field::Action;
    (one(words), 0..6_u8, 1..5_usize)
        .prop_map(move |(word, kind, cut)| {
            let word = if folds { fold(word) } else { word.to_owned() };
            let part: String = word.chars().take(cut).collect();
            let test = match kind {
                0 => Test::Exists,
                1 => Test::Prefix(part),
                _ if prose => Test::Contains(part),
                2 if action => Test::Contains(part.replace('.', "")),
                _ => Test::Equals(word),
            };
            Atom { field: field.clone(), test }
        })
        .boxed()
}

/// A test of a JSON value.
fn json_test(field: Field) -> BoxedStrategy<Atom> {
    let test = prop_oneof![
        Just(Test::Exists),
        one(&["pro", "enterprise", "5", "-2.5", "true", "null", "zero", "1e-7", "q\"uo:"])
            .prop_map(|v| Test::Equals(v.to_owned())),
        one(&["p", "ent", "q\"", "5"]).prop_map(|v| Test::Prefix(v.to_owned())),
        numbers().prop_map(Test::Number),
    ];
    test.prop_map(move |test| Atom { field: field.clone(), test }).boxed()
}

/// A condition.
pub(super) fn atoms() -> impl Strategy<Value = Atom> {
    let id = (0..MS_MAX, 0_u128..4).prop_map(|(ms, random)| EventId::new(Timestamp::from_ms(ms), random));
    let atom = |field: Field| move |test| Atom { field: field.clone(), test };
    let metadata =
        one(&[&["plan"][..], &["a", "b.c"], &["a", "0"], &["list", "1"], &["x/y~", "0"], &["a"], &["no pe"]]);
    let change =
        (one(&["/plan", "/a~1b", "/role", "/x.before", "/no pe"]), one(&[Side::After, Side::Before]));
    prop_oneof![
        id.prop_map(Test::Id).prop_map(atom(Field::Id)),
        interval().prop_map(Test::Within).prop_map(atom(Field::Time)),
        interval().prop_map(Test::Within).prop_map(atom(Field::Received)),
        text(Field::Action, &ACTIONS),
        text(Field::ActorId, &IDS),
        text(Field::ActorEmail, &EMAILS),
        text(Field::ActorName, &NAMES),
        text(Field::ResourceId, &IDS),
        text(Field::ResourceName, &NAMES),
        text(Field::ResourceType, &["invoice", "user"]),
        one(&["success", "failure", "denied"])
            .prop_map(|v| Test::Equals(v.to_owned()))
            .prop_map(atom(Field::Outcome)),
        one(&["user", "service"]).prop_map(|v| Test::Equals(v.to_owned())).prop_map(atom(Field::ActorType)),
        text(Field::Key, &["k1", "k2"]),
        prop_oneof![1 => Just(Test::Exists), 5 => network()].prop_map(atom(Field::Ip)),
        text(Field::Reason, &["Old plan"]),
        text(Field::UserAgent, &["Mozilla", "curl/8"]),
        text(Field::Session, &["s1", "s2"]),
        text(Field::ExternalId, &["ext-1"]),
        text(Field::Description, &["Ünder", "\"it\""]),
        metadata
            .prop_flat_map(|keys| json_test(Field::Metadata(keys.iter().map(|k| (*k).to_owned()).collect()))),
        change.prop_flat_map(|(path, side)| json_test(Field::Changes { path: path.to_owned(), side })),
        one(&["/plan", "/role"]).prop_map(|path| Atom {
            field: Field::Changes { path: path.to_owned(), side: Side::Told },
            test: Test::Exists,
        }),
        one(&["bob", "ünder", "deleted", "οδο", "zero", "red", "OR", "AND", "-x", "q\"uo:", "plan"])
            .prop_map(|v| Atom { field: Field::Text, test: Test::Contains(fold(v)) }),
    ]
}

/// An expression.
pub(super) fn expressions() -> impl Strategy<Value = Expression> {
    let leaf = (atoms(), any::<bool>())
        .prop_map(|(atom, is)| if is { Expression::Is(atom) } else { Expression::Not(atom) });
    let states = one(&State::ALL).prop_map(|(_, state)| Expression::is(Field::State, Test::State(state)));
    let leaf = prop_oneof![20 => leaf, 1 => states];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let several = || prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            several().prop_map(Expression::all),
            several().prop_map(Expression::any),
            inner.clone().prop_map(Expression::negated),
        ]
    })
}

/// A record whose leaf says this and little else.
pub(super) fn record(ms: u64, random: u128) -> Record {
    let at = Timestamp::from_ms(ms);
    let id = EventId::new(at, random);
    let leaf = json!({
        "v": 1, "id": id.to_string(), "tenant_id": "acme", "key_id": "k",
        "occurred_at": at.to_string(), "received_at": at.plus_ms(5).to_string(),
        "action": "invoice.deleted", "actor": {"id": "u1", "type": "user"}, "outcome": "success",
        "metadata": {"a": [1.5, {"b": "Ünder DEEP"}], "plan": "pro"},
    });
    Record::from_leaf(crate::canonical::canonicalize(leaf.to_string().as_bytes()).unwrap()).unwrap()
}
