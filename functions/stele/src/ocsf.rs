//! Records as events of the Open Cybersecurity Schema Framework, version 1.8.0, for SIEMs that read it.
//!
//! Which class an event is of follows from its action's words and its resource's type. What has no place in its class stands in
//! `unmapped` as it is in the leaf, so that nothing is lost. The rules of the classes used are a JSON Schema in
//! `tests/ocsf`, against which tests hold what is written here.

use crate::error::{Error, Result};
use crate::record::Record;
use crate::wire::Integrity;
use serde_json::{Map, Value, json};

/// The version of the schema.
pub const VERSION: &str = "1.8.0";

/// Verbs by what they do, in any class. The first list that has a verb counts.
const CREATED: &[&str] = &[
    "create",
    "created",
    "add",
    "added",
    "invite",
    "invited",
    "upload",
    "uploaded",
    "import",
    "imported",
    "register",
    "registered",
    "open",
    "opened",
    "placed",
    "send",
    "sent",
    "publish",
    "published",
];
const READ: &[&str] = &[
    "read",
    "view",
    "viewed",
    "get",
    "list",
    "listed",
    "access",
    "accessed",
    "download",
    "downloaded",
    "export",
    "exported",
    "search",
    "searched",
    "query",
    "queried",
];
const UPDATED: &[&str] = &[
    "update",
    "updated",
    "change",
    "changed",
    "edit",
    "edited",
    "modify",
    "modified",
    "set",
    "configured",
    "approve",
    "approved",
    "reject",
    "rejected",
    "close",
    "closed",
    "restore",
    "restored",
    "merge",
    "merged",
    "reset",
];
const DELETED: &[&str] = &[
    "delete",
    "deleted",
    "remove",
    "removed",
    "destroy",
    "destroyed",
    "purge",
    "purged",
    "archive",
    "archived",
    "expired",
    "revoke",
    "revoked",
    "cancel",
    "canceled",
    "cancelled",
    "released",
];
const MOVED: &[&str] = &["move", "moved", "rename", "renamed", "transfer", "transferred"];
const ENABLED: &[&str] = &["enable", "enabled"];
const DISABLED: &[&str] = &["disable", "disabled"];
const ACTIVATED: &[&str] = &["activate", "activated", "start", "started"];
const DEACTIVATED: &[&str] = &["deactivate", "deactivated", "stop", "stopped"];
const SUSPENDED: &[&str] = &["suspend", "suspended", "pause", "paused"];
const RESUMED: &[&str] = &["resume", "resumed", "unsuspended"];
const GRANTED: &[&str] =
    &["grant", "granted", "assign", "assigned", "add", "added", "attach", "attached", "create", "created"];
const REVOKED: &[&str] = &[
    "revoke",
    "revoked",
    "unassign",
    "unassigned",
    "remove",
    "removed",
    "detach",
    "detached",
    "delete",
    "deleted",
];
const LOGGED_ON: &[&str] = &[
    "login",
    "logon",
    "signin",
    "logged_in",
    "logged_on",
    "signed_in",
    "log_in",
    "sign_in",
    "login_failed",
    "authenticated",
];
const LOGGED_OFF: &[&str] =
    &["logout", "logoff", "signout", "logged_out", "logged_off", "signed_out", "log_out", "sign_out"];

const USERS: &[&str] = &["user", "account", "member", "person", "employee", "admin", "service_account"];
const GROUPS: &[&str] = &["group", "team", "user_group"];
const PRIVILEGES: &[&str] = &["role", "permission", "privilege", "access", "scope", "entitlement", "grant"];

/// Numbers of an activity that no other fits.
const OTHER: u64 = 99;

/// The class of an event, with what it must have.
struct Class {
    uid: u64,
    name: &'static str,
    activity: u64,
    members: Map<String, Value>,
    /// Whether the event's resource is among them.
    has_resource: bool,
}

impl Class {
    fn new(uid: u64, activity: Option<u64>, members: Value) -> Class {
        let name = match uid {
            3001 => "Account Change",
            3002 => "Authentication",
            3004 => "Entity Management",
            3005 => "User Access Management",
            3006 => "Group Management",
            _ => "API Activity",
        };
        let members = if let Value::Object(members) = members { members } else { Map::new() };
        Class { uid, name, activity: activity.unwrap_or(OTHER), members, has_resource: true }
    }

    fn with_resource(mut self, has_resource: bool) -> Class {
        self.has_resource = has_resource;
        self
    }
}

/// Writes a record as one OCSF event, without a line feed.
///
/// # Errors
/// `corrupt` if the leaf is none.
pub fn write_ocsf(record: &Record, integrity: Integrity, out: &mut Vec<u8>) -> Result<()> {
    let corrupt = |e| Error::corrupt(format!("leaf of `{}`", record.id), "JSON", e);
    let leaf: Map<String, Value> = serde_json::from_slice(record.leaf.as_bytes()).map_err(corrupt)?;
    let event = event(record, leaf, integrity);
    serde_json::to_writer(out, &event).map_err(corrupt)
}

fn event(record: &Record, mut leaf: Map<String, Value>, integrity: Integrity) -> Value {
    let outcome = taken(&mut leaf, "outcome").unwrap_or_else(|| "success".to_owned());
    let reason = taken(&mut leaf, "reason");
    let description = taken(&mut leaf, "description");
    let mut context = object(&mut leaf, "context");
    let [ip, user_agent, session, request, trace] =
        ["ip", "user_agent", "session_id", "request_id", "trace_id"].map(|name| taken(&mut context, name));
    let actor = Party::take(&mut leaf, "actor");
    let resource = Party::take(&mut leaf, "resource");
    let class = class_of(record, &leaf, &actor, &resource, ip.as_deref());

    let failed = outcome != "success";
    let mut metadata = json!({
        "version": VERSION,
        "product": {"name": "Stele", "vendor_name": "Stele", "version": env!("CARGO_PKG_VERSION")},
        "uid": record.id.shown(),
        "tenant_uid": record.tenant.as_str(),
        "event_code": record.action,
        "original_time": record.occurred_at.to_string(),
        "logged_time": record.received_at.ms(),
    });
    if let Integrity::Sealed { leaf_index, .. } | Integrity::Archived { leaf_index, .. } = integrity {
        metadata["sequence"] = json!(leaf_index.to_u64());
    }
    put(&mut metadata, "correlation_uid", trace.or(request.clone()));
    let mut event = json!({
        "class_uid": class.uid,
        "class_name": class.name,
        "category_uid": class.uid / 1000,
        "category_name": if class.uid / 1000 == 3 { "Identity & Access Management" } else { "Application Activity" },
        "activity_id": class.activity,
        "type_uid": class.uid * 100 + class.activity,
        "time": record.occurred_at.ms(),
        // Informational, or low: an audit trail tells, it does not rate.
        "severity_id": if failed { 2 } else { 1 },
        "status_id": if failed { 2 } else { 1 },
        "status": if failed { "Failure" } else { "Success" },
        "metadata": metadata,
        "actor": {"user": actor.user(), "app_uid": leaf.get("key_id").cloned().unwrap_or_default()},
    });
    if class.activity == OTHER {
        event["activity_name"] = json!(record.action);
    }
    if outcome == "denied" {
        event["status_code"] = json!(outcome);
    }
    put(&mut event, "status_detail", reason.or_else(|| failed.then(|| outcome.clone())));
    put(&mut event, "message", description);
    if let Some(session) = session {
        event["actor"]["session"] = json!({"uid": session});
    }
    if let Some(ip) = &ip {
        event["src_endpoint"] = json!({"ip": ip});
    }
    if user_agent.is_some() || request.is_some() {
        let mut http = json!({});
        put(&mut http, "user_agent", user_agent);
        put(&mut http, "uid", request);
        event["http_request"] = http;
    }
    for name in ["v", "id", "tenant_id", "occurred_at", "received_at", "action", "key_id"] {
        leaf.remove(name);
    }
    // A resource that is none of the class's own members.
    if resource.is_there() && !class.has_resource {
        match class.uid {
            3005 => event["resources"] = json!([resource.details()]),
            _ => {
                leaf.insert("resource".to_owned(), resource.details());
            }
        }
    }
    for (name, value) in class.members {
        event[name] = value;
    }
    for (name, rest) in [("context", context), ("actor", actor.rest), ("resource", resource.rest)] {
        if !rest.is_empty() {
            let there = leaf.entry(name).or_insert_with(|| json!({}));
            there.as_object_mut().into_iter().for_each(|there| there.extend(rest.clone()));
        }
    }
    if !leaf.is_empty() {
        event["unmapped"] = Value::Object(leaf);
    }
    event
}

/// Who acted, or what was acted upon.
struct Party {
    kind: Option<String>,
    id: Option<String>,
    name: Option<String>,
    email: Option<String>,
    /// What of it is no text, such as what is encrypted.
    rest: Map<String, Value>,
}

impl Party {
    fn take(from: &mut Map<String, Value>, name: &str) -> Party {
        let mut rest = object(from, name);
        let [kind, id, name, email] = ["type", "id", "name", "email"].map(|name| taken(&mut rest, name));
        Party { kind, id, name, email, rest }
    }

    fn is_there(&self) -> bool {
        self.id.is_some() || self.name.is_some() || self.kind.is_some()
    }

    fn is_one_of(&self, kinds: &[&str]) -> bool {
        self.kind.as_deref().is_some_and(|kind| kinds.contains(&kind.to_lowercase().as_str()))
    }

    /// An id or a name, which every object of the schema must have.
    fn named(&self) -> Value {
        let mut value = json!({});
        put(&mut value, "uid", self.id.clone());
        put(&mut value, "name", self.name.clone());
        if self.id.is_none() && self.name.is_none() {
            value["name"] = json!("unknown");
        }
        value
    }

    /// As a user.
    fn user(&self) -> Value {
        let mut user = self.named();
        put(&mut user, "email_addr", self.email.clone());
        let kind = self.kind.as_deref().unwrap_or("user");
        user["type_id"] = json!(match kind {
            "anonymous" => 0,
            "user" | "account" | "member" | "person" | "employee" | "support" => 1,
            "admin" => 2,
            "system" => 3,
            _ => OTHER,
        });
        user["type"] = json!(kind);
        user
    }

    /// As what was managed.
    fn entity(&self) -> Value {
        let mut entity = self.named();
        entity["type_id"] = json!(OTHER);
        entity["type"] = json!(self.kind.as_deref().unwrap_or("unknown"));
        entity
    }

    /// As what was affected, or as a group.
    fn details(&self) -> Value {
        let mut details = self.named();
        put(&mut details, "type", self.kind.clone());
        details
    }
}

fn class_of(
    record: &Record,
    leaf: &Map<String, Value>,
    actor: &Party,
    resource: &Party,
    ip: Option<&str>,
) -> Class {
    let words: Vec<&str> = record.action.split('.').collect();
    let verb = words.last().copied().unwrap_or_default();
    let is = |verbs: &[&str]| verbs.contains(&verb);
    let about = |nouns: &[&str]| words[..words.len() - 1].iter().any(|word| nouns.contains(word));
    let first_of = |list: &[(&[&str], u64)]| list.iter().find(|(verbs, _)| is(verbs)).map(|(_, id)| *id);

    let logged = first_of(&[(LOGGED_ON, 1), (LOGGED_OFF, 2)]);
    let session = words.contains(&"session") && (is(CREATED) || is(DELETED));
    if logged.is_some() || session {
        let is_user = resource.is_one_of(USERS);
        let user = if is_user { resource.user() } else { actor.user() };
        let activity = logged.or_else(|| first_of(&[(CREATED, 1), (DELETED, 2)]));
        let members = json!({"user": user, "service": {"name": record.tenant.as_str()}});
        return Class::new(3002, activity, members).with_resource(is_user);
    }
    // Of a user that is named as the resource or among what is related.
    if (about(PRIVILEGES) || resource.is_one_of(PRIVILEGES)) && (is(GRANTED) || is(REVOKED)) {
        let related = related(leaf);
        let user = if resource.is_one_of(USERS) {
            Some(resource)
        } else {
            related.iter().find(|one| one.is_one_of(USERS))
        };
        let is_privilege = |one: &&Party| one.is_one_of(PRIVILEGES);
        let what = [resource].into_iter().chain(&related).find(is_privilege);
        let name = |one: &Party| one.name.clone().or(one.id.clone());
        let privilege = what.and_then(name).unwrap_or_else(|| record.action.clone());
        let activity = first_of(&[(GRANTED, 1), (REVOKED, 2)]);
        if let Some(user) = user {
            let members = json!({"user": user.user(), "privileges": [privilege]});
            return Class::new(3005, activity, members).with_resource(resource.is_one_of(USERS));
        }
        if resource.is_one_of(GROUPS) {
            return Class::new(
                3006,
                activity,
                json!({"group": resource.details(), "privileges": [privilege]}),
            );
        }
    }
    if resource.is_one_of(GROUPS) {
        let related = related(leaf);
        let user = related.iter().find(|one| one.is_one_of(USERS));
        let joins = matches!(verb, "add" | "added" | "remove" | "removed") && user.is_some();
        let membership = joins || words.iter().any(|word| word.contains("member") || word.contains("user"));
        let activity = match (membership, is(CREATED), is(DELETED)) {
            (true, true, _) => Some(3),
            (true, _, true) => Some(4),
            (false, true, _) => Some(6),
            (false, _, true) => Some(5),
            _ => match verb {
                "member_added" | "user_added" => Some(3),
                "member_removed" | "user_removed" => Some(4),
                _ => None,
            },
        };
        let mut members = json!({"group": resource.details()});
        if let Some(user) = user {
            members["user"] = user.user();
        }
        return Class::new(3006, activity, members);
    }
    if resource.is_one_of(USERS) {
        let password = words.contains(&"password");
        let mfa = words.iter().any(|word| word.contains("mfa") || *word == "two_factor");
        let activity = match verb {
            "password_changed" => Some(3),
            "password_reset" => Some(4),
            "lock" | "locked" | "locked_out" => Some(9),
            "unlock" | "unlocked" => Some(12),
            "mfa_enabled" => Some(10),
            "mfa_disabled" => Some(11),
            _ if password && is(UPDATED) => Some(if verb == "reset" { 4 } else { 3 }),
            _ if mfa => first_of(&[(ENABLED, 10), (CREATED, 10), (DISABLED, 11), (DELETED, 11)]),
            _ => first_of(&[
                (CREATED, 1),
                (ENABLED, 2),
                (ACTIVATED, 2),
                (RESUMED, 2),
                (DISABLED, 5),
                (DEACTIVATED, 5),
                (SUSPENDED, 5),
                (DELETED, 6),
            ]),
        };
        // Reading somebody's account changes nothing about it.
        if activity.is_some() || !(is(READ) || is(UPDATED) || is(MOVED)) {
            return Class::new(3001, activity, json!({"user": resource.user()}));
        }
    }
    if resource.is_there() {
        let activity = first_of(&[
            (CREATED, 1),
            (READ, 2),
            (UPDATED, 3),
            (DELETED, 4),
            (MOVED, 5),
            (ENABLED, 8),
            (DISABLED, 9),
            (ACTIVATED, 10),
            (DEACTIVATED, 11),
            (SUSPENDED, 12),
            (RESUMED, 13),
        ]);
        return Class::new(3004, activity, json!({"entity": resource.entity()}));
    }
    let activity = first_of(&[(CREATED, 1), (READ, 2), (UPDATED, 3), (DELETED, 4)]);
    let mut members = json!({"api": {"operation": record.action}});
    if ip.is_none() {
        members["src_endpoint"] = json!({"name": "unknown"});
    }
    Class::new(6003, activity, members)
}

/// What an event is also about; it stays where it is.
fn related(leaf: &Map<String, Value>) -> Vec<Party> {
    let list = leaf.get("related").and_then(Value::as_array);
    let parties = list.into_iter().flatten().map(|one| {
        let mut holder = Map::from_iter([("one".to_owned(), one.clone())]);
        Party::take(&mut holder, "one")
    });
    parties.collect()
}

/// A text, taken out; what is none stays.
fn taken(from: &mut Map<String, Value>, name: &str) -> Option<String> {
    let text = from.get(name)?.as_str()?.to_owned();
    from.remove(name);
    Some(text).filter(|text| !text.is_empty())
}

/// An object, taken out; an empty one if there is none.
fn object(from: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match from.remove(name) {
        Some(Value::Object(members)) => members,
        Some(other) => {
            from.insert(name.to_owned(), other);
            Map::new()
        }
        None => Map::new(),
    }
}

fn put(into: &mut Value, name: &str, text: Option<String>) {
    if let Some(text) = text {
        into[name] = json!(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::canonicalize;
    use crate::id::EventId;
    use crate::time::Timestamp;
    use crate::tlog::hash::{LeafIndex, TreeSize};

    fn written(more: Value) -> Value {
        let at = Timestamp::from_ms(1_800_000_000_000);
        let id = EventId::new(at, 5);
        let mut leaf = json!({
            "v": 1, "id": id.to_string(), "tenant_id": "acme", "key_id": "k", "occurred_at": at.to_string(),
            "received_at": at.plus_ms(5).to_string(), "action": "thing.done", "outcome": "success",
            "actor": {"id": "u1", "type": "user", "name": "Ada"},
        });
        for (name, value) in more.as_object().unwrap() {
            leaf[name] = value.clone();
        }
        let record = Record::from_leaf(canonicalize(leaf.to_string().as_bytes()).unwrap()).unwrap();
        let integrity = Integrity::Sealed { leaf_index: LeafIndex::new(3), tree_size: TreeSize::new(9) };
        let mut out = Vec::new();
        write_ocsf(&record, integrity, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn the_class_follows_from_action_and_resource() {
        let alice = json!({"type": "user", "id": "u9", "name": "Alice"});
        let team = json!({"type": "team", "id": "t1"});
        let role = json!({"type": "role", "id": "admin"});
        for (action, resource, related, class, activity) in [
            ("user.login", Value::Null, Value::Null, 3002, 1),
            ("user.logged_out", alice.clone(), Value::Null, 3002, 2),
            ("session.created", Value::Null, Value::Null, 3002, 1),
            ("user.created", alice.clone(), Value::Null, 3001, 1),
            ("user.password.reset", alice.clone(), Value::Null, 3001, 4),
            ("user.password_changed", alice.clone(), Value::Null, 3001, 3),
            ("user.suspended", alice.clone(), Value::Null, 3001, 5),
            ("user.frobbed", alice.clone(), Value::Null, 3001, 99),
            ("user.viewed", alice.clone(), Value::Null, 3004, 2),
            ("role.granted", alice.clone(), json!([role]), 3005, 1),
            ("role.revoked", role.clone(), json!([alice]), 3005, 2),
            ("role.granted", team.clone(), json!([role]), 3006, 1),
            ("team.created", team.clone(), json!([alice]), 3006, 6),
            ("team.added", team.clone(), json!([alice]), 3006, 3),
            ("team.member.added", team.clone(), json!([alice]), 3006, 3),
            ("team.member.removed", team, Value::Null, 3006, 4),
            ("invoice.deleted", json!({"type": "invoice", "id": "i1"}), Value::Null, 3004, 4),
            ("invoice.frobbed", json!({"type": "invoice"}), Value::Null, 3004, 99),
            ("report.exported", Value::Null, Value::Null, 6003, 2),
            ("cron.ran", Value::Null, Value::Null, 6003, 99),
        ] {
            let mut more = json!({"action": action});
            if !resource.is_null() {
                more["resource"] = resource;
            }
            if !related.is_null() {
                more["related"] = related;
            }
            let event = written(more);
            assert_eq!(
                (&event["class_uid"], &event["activity_id"]),
                (&json!(class), &json!(activity)),
                "{event}"
            );
            assert_eq!(event["type_uid"], json!(class * 100 + activity));
            assert_eq!(event["category_uid"], json!(class / 1000));
        }
    }

    #[test]
    fn nothing_of_a_leaf_is_lost() {
        let event = written(json!({
            "outcome": "denied", "reason": "no right", "external_id": "x1", "description": "d",
            "actor": {"id": "u1", "type": "api_key", "name": "CI"},
            "resource": {"type": "invoice", "id": "i1"},
            "context": {"ip": "203.0.113.7", "user_agent": "ua", "session_id": "s", "request_id": "r", "trace_id": "t"},
            "changes": [{"path": "/a", "before": 1, "after": 1.5}], "metadata": {"plan": "pro"},
        }));
        assert_eq!(
            event["unmapped"],
            json!({"external_id": "x1", "changes": [{"path": "/a", "before": 1, "after": 1.5}],
                   "metadata": {"plan": "pro"}})
        );
        let metadata = &event["metadata"];
        assert_eq!((&metadata["sequence"], &metadata["correlation_uid"]), (&json!(3), &json!("t")));
        assert_eq!(metadata["original_time"], "2027-01-15T08:00:00.000Z");
        assert_eq!((&event["status_id"], &event["status_detail"]), (&json!(2), &json!("no right")));
        assert_eq!(event["src_endpoint"]["ip"], "203.0.113.7");
        assert_eq!((&event["message"], &event["http_request"]["uid"]), (&json!("d"), &json!("r")));
        assert_eq!(event["actor"]["user"]["type_id"], 99);
        assert_eq!(event["entity"], json!({"uid": "i1", "type": "invoice", "type_id": 99}));
    }
}
