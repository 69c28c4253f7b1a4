//! What we write as OCSF, held against the rules of the published schema, version 1.8.0, for the classes we use. They are in
//! `tests/ocsf/1.8.0.schema.json`, written down by hand from the schema's own definitions of classes and objects.
//!
//! The validator knows the few words of JSON Schema that file uses, and refuses any other, so that no rule is passed over.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

/// The schema.
pub(crate) struct Schema(Value);

/// Words that rule nothing.
const NOTES: [&str; 4] = ["$schema", "$comment", "title", "$defs"];

impl Schema {
    pub(crate) fn read() -> Schema {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ocsf/1.8.0.schema.json");
        Schema(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    /// What is wrong with an event, by place.
    pub(crate) fn faults(&self, event: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.check(&self.0, event, "", &mut faults);
        let number = |name: &str| event[name].as_u64().unwrap_or_default();
        if number("type_uid") != number("class_uid") * 100 + number("activity_id") {
            faults.push("/type_uid: not that of class and activity".to_owned());
        }
        faults
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        let mut faults = Vec::new();
        self.check(schema, value, "", &mut faults);
        faults.is_empty()
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let rules = schema.as_object().unwrap_or_else(|| panic!("a schema at {at} is an object"));
        for (word, rule) in rules {
            let is_fine = match word.as_str() {
                note if NOTES.contains(&note) => true,
                "$ref" => {
                    let target = rule.as_str().and_then(|text| text.strip_prefix('#')).unwrap();
                    let target = self.0.pointer(target).unwrap_or_else(|| panic!("no `{target}`"));
                    self.check(target, value, at, faults);
                    true
                }
                "type" => match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    other => panic!("a type `{other}`"),
                },
                "const" => value == rule,
                "enum" => rule.as_array().unwrap().contains(value),
                "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
                "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap()),
                "minItems" => {
                    value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap())
                }
                "required" => {
                    let missing = |name: &&Value| value.get(name.as_str().unwrap()).is_none();
                    match (value.is_object(), rule.as_array().unwrap().iter().find(missing)) {
                        (true, Some(name)) => {
                            faults.push(format!("{at}: has no {name}"));
                            true
                        }
                        _ => true,
                    }
                }
                "properties" => {
                    for (name, rule) in rule.as_object().unwrap() {
                        if let Some(member) = value.get(name) {
                            self.check(rule, member, &format!("{at}/{name}"), faults);
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    assert_eq!(rule, &Value::Bool(false), "only that nothing else is there");
                    let known = rules.get("properties").and_then(Value::as_object).unwrap();
                    let stranger = value
                        .as_object()
                        .and_then(|members| members.keys().find(|name| !known.contains_key(*name)));
                    if let Some(stranger) = stranger {
                        faults.push(format!("{at}: has `{stranger}`, which the class does not know"));
                    }
                    true
                }
                "items" => {
                    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{at}/{n}"), faults);
                    }
                    true
                }
                "anyOf" => rule.as_array().unwrap().iter().any(|one| self.fits(one, value)),
                "allOf" => {
                    rule.as_array().unwrap().iter().for_each(|one| self.check(one, value, at, faults));
                    true
                }
                "if" => {
                    if self.fits(rule, value) {
                        self.check(&rules["then"], value, at, faults);
                    }
                    true
                }
                "then" => true,
                other => panic!("the validator does not know `{other}`"),
            };
            if !is_fine {
                faults.push(format!("{at}: not {word} {rule}, but {value}"));
            }
        }
    }

    /// The classes it has rules for.
    pub(crate) fn classes(&self) -> BTreeSet<u64> {
        let classes = self.0["properties"]["class_uid"]["enum"].as_array().unwrap();
        classes.iter().map(|class| class.as_u64().unwrap()).collect()
    }
}

/// An event as we write it, for a leaf with these members.
fn written(more: &Value) -> Value {
    use stele::id::EventId;
    use stele::time::Timestamp;
    use stele::tlog::hash::{LeafIndex, TreeSize};
    use stele::wire::Integrity;
    let at = Timestamp::from_ms(1_800_000_000_000);
    let id = EventId::new(at, 5);
    let mut leaf = serde_json::json!({
        "v": 1, "id": id.to_string(), "tenant_id": "acme", "key_id": "k", "occurred_at": at.to_string(),
        "received_at": at.plus_ms(5).to_string(), "action": "thing.done", "outcome": "success",
        "actor": {"id": "u1", "type": "user"},
    });
    for (name, value) in more.as_object().unwrap() {
        leaf[name] = value.clone();
    }
    let leaf = stele::canonical::canonicalize(leaf.to_string().as_bytes()).unwrap();
    let record = stele::record::Record::from_leaf(leaf).unwrap();
    let integrity = Integrity::Archived { leaf_index: LeafIndex::new(3), tree_size: TreeSize::new(9) };
    let mut out = Vec::new();
    stele::ocsf::write_ocsf(&record, integrity, &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

/// Every verb with every kind of resource, with and without what may be there.
#[test]
fn whatever_an_event_is_it_is_valid_ocsf() {
    use serde_json::json;
    let schema = Schema::read();
    let user = json!({"type": "user", "id": "u9", "name": "Älice"});
    let resources = [
        Value::Null,
        user.clone(),
        json!({"type": "user"}),
        json!({"type": "team", "name": "t"}),
        json!({"type": "role", "id": "r"}),
        json!({"type": "invoice", "id": "i", "name": "Ünï"}),
        json!({"id": "x"}),
    ];
    let verbs = [
        "created",
        "viewed",
        "updated",
        "deleted",
        "moved",
        "enabled",
        "disabled",
        "activated",
        "deactivated",
        "suspended",
        "resumed",
        "granted",
        "revoked",
        "login",
        "logged_out",
        "locked",
        "unlocked",
        "password_reset",
        "password_changed",
        "mfa_enabled",
        "mfa_disabled",
        "member_added",
        "added",
        "removed",
        "reset",
        "ran",
    ];
    let mut seen = BTreeSet::new();
    let mut count = 0;
    for resource in &resources {
        for noun in ["user", "role", "team.member", "invoice", "session", "user.password", "user.mfa"] {
            for verb in verbs {
                for full in [false, true] {
                    let mut more = Map::from_iter([("action".to_owned(), json!(format!("{noun}.{verb}")))]);
                    if !resource.is_null() {
                        more.insert("resource".to_owned(), resource.clone());
                    }
                    if full {
                        more.extend(json!({
                            "outcome": "denied", "reason": "r", "description": "d", "external_id": "e",
                            "actor": {"id": "svc", "type": "service", "name": "n", "email": "a@b"},
                            "related": [user, {"type": "role", "id": "admin"}],
                            "on_behalf_of": [{"id": "s", "type": "support", "reason": "x"}],
                            "context": {"ip": "203.0.113.7", "user_agent": "u", "session_id": "s", "request_id": "r",
                                        "trace_id": "t"},
                            "changes": [{"path": "/a", "before": null, "after": 1.5}],
                            "metadata": {"a": [1, {"b": "c"}]}, "extra": {"z": true},
                        }).as_object().unwrap().clone());
                    }
                    let event = written(&Value::Object(more));
                    let faults = schema.faults(&event);
                    assert!(faults.is_empty(), "{faults:#?}\n{event:#}");
                    seen.insert(event["class_uid"].as_u64().unwrap());
                    count += 1;
                }
            }
        }
    }
    assert_eq!(seen, schema.classes(), "every class with rules is written, and no other");
    assert!(count > 2_000);
}

/// The rules are rules: what lacks or has what they speak of is found.
#[test]
fn an_event_that_breaks_a_rule_is_found() {
    use serde_json::json;
    let schema = Schema::read();
    let good = [
        written(&json!({"action": "invoice.deleted", "resource": {"type": "invoice", "id": "i"}})),
        written(&json!({"action": "user.login"})),
        written(&json!({"action": "cron.ran"})),
    ];
    for event in &good {
        assert_eq!(schema.faults(event), Vec::<String>::new());
        for name in
            ["class_uid", "category_uid", "activity_id", "type_uid", "severity_id", "time", "metadata"]
        {
            let mut bad = event.clone();
            bad.as_object_mut().unwrap().remove(name);
            assert!(!schema.faults(&bad).is_empty(), "without {name}");
            bad[name] = json!("x");
            assert!(!schema.faults(&bad).is_empty(), "with a text for {name}");
        }
        for (name, value) in [("entity", json!({})), ("severity_id", json!(7)), ("stranger", json!(1))] {
            let mut bad = event.clone();
            bad[name] = value;
            assert!(!schema.faults(&bad).is_empty(), "with another {name}");
        }
    }
    for (event, name) in good.iter().zip(["entity", "user", "api"]) {
        let mut bad = event.clone();
        bad.as_object_mut().unwrap().remove(name);
        assert!(!schema.faults(&bad).is_empty(), "without {name}");
    }
}
