//! A record: an event as accepted, with its leaf, the exact bytes that are hashed, stored and sealed. Everything
//! else about a record is read off those bytes; nothing here changes them.

use crate::canonical::{Steps, Under, write_canonical};
use crate::error::{Error, Result};
use crate::id::{EventId, TenantId};
use crate::json::{Json, Kind, Node, quoted};
use crate::time::Timestamp;
use crate::tlog::hash::{Hash, leaf_hash};
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;

/// A record's canonical bytes (RFC 8785). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Leaf(Bytes);

impl Leaf {
    /// Bytes that are taken for a leaf; [`Record::from_leaf`] checks them.
    pub fn new(bytes: impl Into<Bytes>) -> Leaf {
        Leaf(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to share.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// SHA-256(0x00 ‖ leaf), RFC 6962 §2.1.
    pub fn hash(&self) -> Hash {
        leaf_hash(&self.0)
    }
}

impl AsRef<[u8]> for Leaf {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::Deref for Leaf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Events are never logged, so a leaf shows only its size.
impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leaf({} bytes)", self.0.len())
    }
}

/// An accepted event: its leaf, and what stores index it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: EventId,
    /// Whose it is.
    pub tenant: TenantId,
    /// When it happened; the id's time.
    pub occurred_at: Timestamp,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// The evidence.
    pub leaf: Leaf,
    /// The leaf's hash.
    pub leaf_hash: Hash,
    /// `actor.id`.
    pub actor_id: String,
    /// `resource.id`.
    pub resource_id: Option<String>,
    /// `action`.
    pub action: String,
}

impl Record {
    /// From stored bytes, which must be exactly what accepting writes: the schema, in canonical form.
    ///
    /// # Errors
    /// `corrupt`, naming what is wrong.
    pub fn from_leaf(bytes: impl Into<Bytes>) -> Result<Record> {
        let leaf = Leaf::new(bytes);
        // A handle of its own, so that the columns can borrow from it.
        Record::of(leaf.clone(), Columns::checked(&leaf)?)
    }

    /// From a leaf and the columns that [`Columns::checked`] read from the same bytes.
    ///
    /// # Errors
    /// `corrupt` if the tenant's name is none.
    pub fn of(leaf: Leaf, columns: Columns<'_>) -> Result<Record> {
        let leaf_hash = leaf.hash();
        let Columns { id, tenant_id, occurred_at, received_at, .. } = columns;
        let tenant = TenantId::parse(&tenant_id).ok_or_else(|| corrupt("a tenant id", quoted(&tenant_id)))?;
        let (actor_id, action) = (columns.actor_id.into_owned(), columns.action.into_owned());
        let resource_id = columns.resource_id.map(Cow::into_owned);
        Ok(Record { id, tenant, occurred_at, received_at, leaf_hash, actor_id, resource_id, action, leaf })
    }

    /// The same event, received at another time: for one that waited in a queue before it was stored. Only the time
    /// of receipt changes, and with it the hash; never for a record that was acknowledged with a receipt.
    ///
    /// # Errors
    /// `corrupt`; never for a record that came out of accepting or [`Record::from_leaf`].
    pub fn received_again(&self, at: Timestamp) -> Result<Record> {
        let json = parsed(&self.leaf)?;
        // Behind the quote; all times have the same length.
        let start = json.member(json.root(), "received_at").map(|time| json.start(time) + 1);
        let mut bytes = self.leaf.to_vec();
        let time = at.to_bytes();
        start
            .and_then(|start| bytes.get_mut(start..start + time.len()))
            .ok_or_else(|| corrupt("`received_at`", "none"))?
            .copy_from_slice(&time);
        let leaf = Leaf::new(bytes);
        Ok(Record { received_at: at, leaf_hash: leaf.hash(), leaf, ..self.clone() })
    }

    /// The typed view of its leaf.
    ///
    /// # Errors
    /// `corrupt`; never for a record that came out of accepting or [`Record::from_leaf`].
    pub fn columns(&self) -> Result<Columns<'_>> {
        Columns::of(&self.leaf)
    }
}

/// A leaf's fields as columns: an index derived from the leaf. Texts are borrowed from it where they have no
/// escapes; what has no column of its own is there as the JSON it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns<'a> {
    /// `id`
    pub id: EventId,
    /// `tenant_id`
    pub tenant_id: Cow<'a, str>,
    /// `external_id`
    pub external_id: Option<Cow<'a, str>>,
    /// `occurred_at`
    pub occurred_at: Timestamp,
    /// `received_at`
    pub received_at: Timestamp,
    /// `key_id`
    pub key_id: Cow<'a, str>,
    /// `action`
    pub action: Cow<'a, str>,
    /// `outcome`
    pub outcome: Cow<'a, str>,
    /// `reason`
    pub reason: Option<Cow<'a, str>>,
    /// `actor.type`
    pub actor_type: Cow<'a, str>,
    /// `actor.id`
    pub actor_id: Cow<'a, str>,
    /// `actor.name`
    pub actor_name: Option<Cow<'a, str>>,
    /// `actor.email`
    pub actor_email: Option<Cow<'a, str>>,
    /// `resource.type`
    pub resource_type: Option<Cow<'a, str>>,
    /// `resource.id`
    pub resource_id: Option<Cow<'a, str>>,
    /// `resource.name`
    pub resource_name: Option<Cow<'a, str>>,
    /// `context.ip`
    pub ip: Option<Cow<'a, str>>,
    /// `context.user_agent`
    pub user_agent: Option<Cow<'a, str>>,
    /// `context.session_id`
    pub session_id: Option<Cow<'a, str>>,
    /// `context.request_id`
    pub request_id: Option<Cow<'a, str>>,
    /// `context.trace_id`
    pub trace_id: Option<Cow<'a, str>>,
    /// `description`
    pub description: Option<Cow<'a, str>>,
    /// `changes`, a JSON array.
    pub changes: Option<&'a str>,
    /// `metadata`, a JSON object.
    pub metadata: Option<&'a str>,
    /// `related`, a JSON array.
    pub related: Option<&'a str>,
    /// `on_behalf_of`, a JSON array.
    pub on_behalf_of: Option<&'a str>,
    /// `extra`, a JSON object.
    pub extra: Option<&'a str>,
}

impl<'a> Columns<'a> {
    /// Reads a leaf; that its form is canonical is [`Record::from_leaf`]'s to check.
    ///
    /// # Errors
    /// `corrupt`, naming what is wrong.
    pub fn of(leaf: &'a [u8]) -> Result<Columns<'a>> {
        Columns::from_json(&parsed(leaf)?)
    }

    /// Reads a leaf, which must be exactly what accepting writes but for the tenant's name: the schema, in canonical form.
    ///
    /// # Errors
    /// `corrupt`, naming what is wrong.
    pub fn checked(leaf: &'a [u8]) -> Result<Columns<'a>> {
        if let Some(columns) = Columns::canonical(leaf) {
            return Ok(columns);
        }
        // Rare, or wrong: this reading says what is.
        let json = parsed(leaf)?;
        let columns = Columns::from_json(&json)?;
        let mut canonical = Vec::with_capacity(leaf.len());
        write_canonical(&json, json.root(), &mut canonical);
        if canonical != leaf {
            return Err(corrupt("canonical JSON", "another form"));
        }
        Ok(columns)
    }

    /// Reads a leaf in one pass, as it is if all about it is right; `None` where it may not be, which is for the reading
    /// with a tape to tell. What both take they read alike.
    fn canonical(leaf: &'a [u8]) -> Option<Columns<'a>> {
        let mut at = Steps::over(leaf)?;
        let at = &mut at;
        let mut root = at.object();
        let root = &mut root;
        let action = required(at, root, "\"action\":")?;
        let mut actor = at.member(root, "\"actor\":").then(|| at.object())?;
        let actor_email = optional(at, &mut actor, "\"email\":")?;
        let actor_id = required(at, &mut actor, "\"id\":")?;
        let actor_name = optional(at, &mut actor, "\"name\":")?;
        let actor_type = required(at, &mut actor, "\"type\":")?;
        at.end(actor)?;
        let changes = raw(at, root, "\"changes\":", Kind::Array)?;
        let [mut ip, mut request_id, mut session_id, mut trace_id, mut user_agent] = [const { None }; 5];
        if at.member(root, "\"context\":") {
            let mut context = at.object();
            ip = optional(at, &mut context, "\"ip\":")?;
            request_id = optional(at, &mut context, "\"request_id\":")?;
            session_id = optional(at, &mut context, "\"session_id\":")?;
            trace_id = optional(at, &mut context, "\"trace_id\":")?;
            user_agent = optional(at, &mut context, "\"user_agent\":")?;
            at.end(context)?;
        }
        let description = optional(at, root, "\"description\":")?;
        let external_id = optional(at, root, "\"external_id\":")?;
        let extra = raw(at, root, "\"extra\":", Kind::Object)?;
        let id = EventId::from_canonical(&required(at, root, "\"id\":")?)?;
        let key_id = required(at, root, "\"key_id\":")?;
        let metadata = raw(at, root, "\"metadata\":", Kind::Object)?;
        let occurred_at = Timestamp::from_canonical(&required(at, root, "\"occurred_at\":")?)?;
        let on_behalf_of = raw(at, root, "\"on_behalf_of\":", Kind::Array)?;
        let outcome = required(at, root, "\"outcome\":")?;
        let reason = optional(at, root, "\"reason\":")?;
        let received_at = Timestamp::from_canonical(&required(at, root, "\"received_at\":")?)?;
        let related = raw(at, root, "\"related\":", Kind::Array)?;
        let [mut resource_id, mut resource_name, mut resource_type] = [const { None }; 3];
        if at.member(root, "\"resource\":") {
            let mut resource = at.object();
            resource_id = optional(at, &mut resource, "\"id\":")?;
            resource_name = optional(at, &mut resource, "\"name\":")?;
            resource_type = optional(at, &mut resource, "\"type\":")?;
            at.end(resource)?;
        }
        let tenant_id = required(at, root, "\"tenant_id\":")?;
        let is_whole = at.member(root, "\"v\":1}") && at.is_at_end();
        (is_whole && id.time() == occurred_at).then_some(Columns {
            id,
            tenant_id,
            external_id,
            occurred_at,
            received_at,
            key_id,
            action,
            outcome,
            reason,
            actor_type,
            actor_id,
            actor_name,
            actor_email,
            resource_type,
            resource_id,
            resource_name,
            ip,
            user_agent,
            session_id,
            request_id,
            trace_id,
            description,
            changes,
            metadata,
            related,
            on_behalf_of,
            extra,
        })
    }

    fn from_json(json: &Json<'a>) -> Result<Columns<'a>> {
        let root = Object::new(json, json.root(), "leaf", &ROOT)?;
        if json.raw(root.required("v")?) != "1" {
            return Err(corrupt("v 1", quoted(json.raw(root.required("v")?))));
        }
        let id = root.text("id")?;
        let id = match EventId::parse(&id) {
            Some(parsed) if parsed.to_bytes() == *id.as_bytes() => parsed,
            _ => return Err(corrupt("an event id", quoted(&id))),
        };
        let occurred_at = root.time("occurred_at")?;
        if id.time() != occurred_at {
            return Err(corrupt(format!("occurred_at {}", id.time()), occurred_at));
        }
        let actor = Object::new(json, root.required("actor")?, "actor", &["email", "id", "name", "type"])?;
        let resource = root.object("resource", &["id", "name", "type"])?;
        let context =
            root.object("context", &["ip", "request_id", "session_id", "trace_id", "user_agent"])?;
        Ok(Columns {
            id,
            tenant_id: root.text("tenant_id")?,
            external_id: root.optional_text("external_id")?,
            occurred_at,
            received_at: root.time("received_at")?,
            key_id: root.text("key_id")?,
            action: root.text("action")?,
            outcome: root.text("outcome")?,
            reason: root.optional_text("reason")?,
            actor_type: actor.text("type")?,
            actor_id: actor.text("id")?,
            actor_name: actor.optional_text("name")?,
            actor_email: actor.optional_text("email")?,
            resource_type: text_in(&resource, "type")?,
            resource_id: text_in(&resource, "id")?,
            resource_name: text_in(&resource, "name")?,
            ip: text_in(&context, "ip")?,
            user_agent: text_in(&context, "user_agent")?,
            session_id: text_in(&context, "session_id")?,
            request_id: text_in(&context, "request_id")?,
            trace_id: text_in(&context, "trace_id")?,
            description: root.optional_text("description")?,
            changes: root.raw("changes", Kind::Array)?,
            metadata: root.raw("metadata", Kind::Object)?,
            related: root.raw("related", Kind::Array)?,
            on_behalf_of: root.raw("on_behalf_of", Kind::Array)?,
            extra: root.raw("extra", Kind::Object)?,
        })
    }
}

/// The published record schema's members, in canonical order.
pub(crate) const ROOT: [&str; 19] = [
    "action",
    "actor",
    "changes",
    "context",
    "description",
    "external_id",
    "extra",
    "id",
    "key_id",
    "metadata",
    "occurred_at",
    "on_behalf_of",
    "outcome",
    "reason",
    "received_at",
    "related",
    "resource",
    "tenant_id",
    "v",
];

/// The values of an object's known members.
struct Object<'j, 'a, const N: usize> {
    json: &'j Json<'a>,
    name: &'static str,
    keys: &'static [&'static str; N],
    values: [Option<Node>; N],
}

impl<'j, 'a, const N: usize> Object<'j, 'a, N> {
    fn new(
        json: &'j Json<'a>,
        node: Node,
        name: &'static str,
        keys: &'static [&'static str; N],
    ) -> Result<Self> {
        if json.kind(node) != Kind::Object {
            return Err(corrupt(format!("`{name}` to be an object"), json.kind(node).noun()));
        }
        let mut values = [None; N];
        // Leaves are sorted as the schema is, so one pass over both finds all.
        let mut at = 0;
        for (key, value) in json.members(node) {
            let key = json.str(key).unwrap_or_default();
            match keys.iter().skip(at).position(|k| *k == key) {
                Some(steps) => {
                    at += steps;
                    values[at] = Some(value);
                    at += 1;
                }
                None => return Err(corrupt(format!("the members of `{name}` in order"), quoted(key))),
            }
        }
        Ok(Object { json, name, keys, values })
    }

    fn value(&self, key: &str) -> Option<Node> {
        self.keys.iter().position(|k| *k == key).and_then(|at| self.values[at])
    }

    fn required(&self, key: &str) -> Result<Node> {
        self.value(key).ok_or_else(|| corrupt(format!("`{key}` in `{}`", self.name), "none"))
    }

    fn optional_text(&self, key: &str) -> Result<Option<Cow<'a, str>>> {
        self.value(key).map(|node| self.text_at(key, node)).transpose()
    }

    fn text(&self, key: &str) -> Result<Cow<'a, str>> {
        self.text_at(key, self.required(key)?)
    }

    fn text_at(&self, key: &str, node: Node) -> Result<Cow<'a, str>> {
        let found = || self.json.kind(node).noun();
        self.json
            .cow(node)
            .ok_or_else(|| corrupt(format!("`{key}` in `{}` to be a string", self.name), found()))
    }

    fn time(&self, key: &str) -> Result<Timestamp> {
        let text = self.text(key)?;
        match Timestamp::parse(&text) {
            Ok(time) if time.to_bytes() == *text.as_bytes() => Ok(time),
            _ => Err(corrupt(format!("`{key}` to be a time in UTC with milliseconds"), quoted(&text))),
        }
    }

    fn raw(&self, key: &str, kind: Kind) -> Result<Option<&'a str>> {
        match self.value(key) {
            Some(node) if self.json.kind(node) == kind => Ok(Some(self.json.raw(node))),
            Some(node) => Err(corrupt(format!("`{key}` to be {}", kind.noun()), self.json.kind(node).noun())),
            None => Ok(None),
        }
    }

    fn object<const M: usize>(
        &self,
        key: &'static str,
        keys: &'static [&'static str; M],
    ) -> Result<Option<Object<'j, 'a, M>>> {
        self.value(key).map(|node| Object::new(self.json, node, key, keys)).transpose()
    }
}

/// The text of a member that must be there; `None` if it is not.
#[inline(always)]
fn required<'a>(at: &mut Steps<'a>, object: &mut Under, key: &str) -> Option<Cow<'a, str>> {
    if at.member(object, key) { at.text() } else { None }
}

/// The text of a member that may be there; `None` if it is something else than a text.
#[inline(always)]
fn optional<'a>(at: &mut Steps<'a>, object: &mut Under, key: &str) -> Option<Option<Cow<'a, str>>> {
    if at.member(object, key) { at.text().map(Some) } else { Some(None) }
}

/// An array or object that may be there; `None` if it is something else.
#[inline(always)]
fn raw<'a>(at: &mut Steps<'a>, object: &mut Under, key: &str, kind: Kind) -> Option<Option<&'a str>> {
    if at.member(object, key) { at.raw(kind).map(Some) } else { Some(None) }
}

fn text_in<'a, const N: usize>(
    object: &Option<Object<'_, 'a, N>>,
    key: &str,
) -> Result<Option<Cow<'a, str>>> {
    match object {
        Some(object) => object.optional_text(key),
        None => Ok(None),
    }
}

fn parsed(leaf: &[u8]) -> Result<Json<'_>> {
    Json::parse(leaf).map_err(|e| corrupt("a leaf", e.detail()).with_source(e))
}

fn corrupt(expected: impl fmt::Display, found: impl fmt::Display) -> Error {
    Error::corrupt("leaf", expected, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use proptest::prelude::*;

    const LEAF: &str = concat!(
        r#"{"action":"invoice.deleted","actor":{"id":"u\n1","type":"user"},"context":{"ip":"::1"},"#,
        r#""id":"019de3f4-1f00-7abc-9def-0123456789ab","key_id":"k","metadata":{"b":[1]},"#,
        r#""occurred_at":"2026-05-01T14:32:00.000Z","outcome":"success","received_at":"2026-05-01T14:32:05.250Z","#,
        r#""resource":{"id":"i"},"tenant_id":"org_acme","v":1}"#
    );

    #[test]
    fn a_leaf_is_read_as_record_and_columns() {
        let record = Record::from_leaf(LEAF.as_bytes().to_vec()).unwrap();
        assert_eq!(record.actor_id, "u\n1");
        assert_eq!(record.resource_id.as_deref(), Some("i"));
        assert_eq!(record.leaf_hash, leaf_hash(LEAF.as_bytes()));
        let columns = record.columns().unwrap();
        assert_eq!((columns.ip.as_deref(), columns.metadata), (Some("::1"), Some(r#"{"b":[1]}"#)));
        assert!(matches!(columns.action, Cow::Borrowed("invoice.deleted")));
        assert_eq!(format!("{:?}", record.leaf), format!("Leaf({} bytes)", LEAF.len()));
    }

    #[test]
    fn what_accepting_never_writes_is_corrupt() {
        for (from, to) in [
            ("\"v\":1", "\"v\":2"),
            ("\"v\":1", "\"v\":1 "),
            (",\"v\":1", ""),
            ("\"key_id\":\"k\",", ""),
            ("\"id\":\"i\"", "\"id\":7"),
            ("\"ip\"", "\"asn\":1,\"ip\""),
            ("\"action\"", "\"aaa\":1,\"action\""),
            ("019de3f4", "019DE3F4"),
            ("019de3f4", "019de3f5"),
            ("00.000Z", "00Z"),
            ("\\n1", "\\u000a1"),
            ("\"org_acme\"", "\"org/acme\""),
            ("{\"b\":[1]}", "{\"b\":[1.0]}"),
            ("{\"b\":[1]}", "[]"),
            ("{\"id\":\"u\\n1\",\"type\":\"user\"}", "\"u\""),
            ("}", ""),
        ] {
            let bad = LEAF.replacen(from, to, 1);
            assert_ne!(bad, LEAF);
            let error = Record::from_leaf(bad.into_bytes()).unwrap_err();
            assert_eq!(error.code(), Code::Corrupt, "{from} -> {to}: {error}");
        }
    }

    const FULL: &str = concat!(
        r#"{"action":"a.b","actor":{"email":"e","id":"i\"\u0001ü","name":"n","type":"t"},"changes":[{"after":null}],"#,
        r#""context":{"ip":"::1","request_id":"r","session_id":"s","trace_id":"t","user_agent":"u"},"description":"d","#,
        r#""external_id":"x","extra":{"z":1.5},"id":"019de3f4-1f00-7abc-9def-0123456789ab","key_id":"k","#,
        r#""metadata":{"b":[1],"c":{"d":-7}},"occurred_at":"2026-05-01T14:32:00.000Z","on_behalf_of":[{"id":"o"}],"#,
        r#""outcome":"success","reason":"y","received_at":"2026-05-01T14:32:05.250Z","related":[],"#,
        r#""resource":{"id":"i","name":"😀","type":"t"},"tenant_id":"org_acme","v":1}"#
    );

    /// The reading with a tape alone.
    fn with_a_tape(leaf: &[u8]) -> Result<Columns<'_>> {
        let json = parsed(leaf)?;
        let columns = Columns::from_json(&json)?;
        let mut canonical = Vec::new();
        write_canonical(&json, json.root(), &mut canonical);
        if canonical == leaf { Ok(columns) } else { Err(corrupt("canonical JSON", "another form")) }
    }

    #[test]
    fn both_readings_find_every_column() {
        for leaf in [LEAF, FULL] {
            let columns = Columns::canonical(leaf.as_bytes()).unwrap();
            assert_eq!(columns, with_a_tape(leaf.as_bytes()).unwrap());
        }
        let columns = Columns::canonical(FULL.as_bytes()).unwrap();
        assert_eq!((&*columns.actor_id, columns.resource_name.as_deref()), ("i\"\u{1}ü", Some("😀")));
        // Without any one member it is read the same way, or refused the same way.
        let json = Json::parse(FULL.as_bytes()).unwrap();
        for (key, value) in json.members(json.root()) {
            let member = format!("{}:{},", json.raw(key), json.raw(value));
            let without = FULL.replacen(&member, "", 1);
            assert_eq!(
                Columns::canonical(without.as_bytes()),
                with_a_tape(without.as_bytes()).ok(),
                "{member}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// What is changed anywhere is refused by both readings, or read alike by both.
        #[test]
        fn the_fast_reading_takes_nothing_that_the_other_refuses(
            full: bool,
            at: prop::sample::Index,
            cut in 0..3_usize,
            with in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"{}[]\",:\\0u\x01$ \xc3"[..])], 0..3),
        ) {
            let leaf = if full { FULL } else { LEAF }.as_bytes();
            let at = at.index(leaf.len());
            let mut changed = leaf.to_vec();
            changed.splice(at..(at + cut).min(leaf.len()), with);
            let (fast, other) = (Columns::canonical(&changed), with_a_tape(&changed));
            match (fast, other) {
                (Some(fast), Ok(other)) => prop_assert_eq!(fast, other),
                (Some(_), Err(e)) => prop_assert!(false, "{}: {}", String::from_utf8_lossy(&changed), e),
                (None, _) => {}
            }
        }
    }
}
