//! From the JSON a client sent to the fields of an event: aliases become their main fields, every rule that
//! needs no server state is checked, and what is unknown is kept. All faults are told, not just the first.

use super::checks::Reading;
use super::words::{
    ACTOR_TYPES, OUTCOMES, OWN_ACTIONS, is_action, is_word, suggest_action, suggest_epoch, suggest_time,
    suggest_word,
};
use crate::error::FieldProblem;
use crate::id::{EventId, TenantId};
use crate::json::{Json, Kind, Node, problem, push_token, quoted};
use crate::limits::JSON_DEPTH_MAX;
use crate::time::Timestamp;
use std::net::IpAddr;

/// A text as sent, or one made of what was sent.
pub(super) enum Text {
    Sent(Node),
    Made(String),
}

/// Who did something, or for whom.
#[derive(Default)]
pub(super) struct Party {
    pub(super) kind: &'static str,
    pub(super) id: Option<Node>,
    pub(super) name: Option<Node>,
    pub(super) email: Option<Node>,
    pub(super) reason: Option<Node>,
}

/// What something was done to.
#[derive(Clone, Copy, Default)]
pub(super) struct Thing {
    pub(super) id: Option<Node>,
    pub(super) kind: Option<Node>,
    pub(super) name: Option<Node>,
}

pub(super) struct Change {
    pub(super) path: Text,
    pub(super) before: Option<Node>,
    pub(super) after: Option<Node>,
}

#[derive(Default)]
pub(super) struct Context {
    pub(super) ip: Option<Node>,
    pub(super) user_agent: Option<Node>,
    pub(super) session_id: Option<Node>,
    pub(super) request_id: Option<Node>,
    pub(super) trace_id: Option<Node>,
}

/// An event's fields, as places in its JSON.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) id: Option<EventId>,
    /// The client's own kind of id.
    pub(super) external_id: Option<Node>,
    pub(super) tenant: Option<TenantId>,
    pub(super) occurred_at: Option<Timestamp>,
    /// Where the event's time was sent: a time field or the id.
    pub(super) time_at: Option<Node>,
    pub(super) action: Option<Text>,
    pub(super) outcome: &'static str,
    pub(super) reason: Option<Node>,
    pub(super) actor: Party,
    pub(super) resource: Thing,
    pub(super) related: Vec<Thing>,
    pub(super) on_behalf_of: Vec<Party>,
    pub(super) changes: Vec<Change>,
    pub(super) context: Context,
    pub(super) description: Option<Node>,
    pub(super) metadata: Option<Node>,
    /// `extra` as sent.
    pub(super) extra: Option<Node>,
    /// What else belongs there, by key, in canonical order.
    pub(super) unknown: Vec<(String, Node)>,
}

/// The members an event can have, aliases included.
#[derive(Default)]
struct Top {
    id: Option<Node>,
    external_id: Option<Node>,
    tenant_id: Option<Node>,
    organization_id: Option<Node>,
    occurred_at: Option<Node>,
    timestamp: Option<Node>,
    created: Option<Node>,
    action: Option<Node>,
    outcome: Option<Node>,
    reason: Option<Node>,
    actor: Option<Node>,
    actor_id: Option<Node>,
    actor_type: Option<Node>,
    actor_name: Option<Node>,
    actor_email: Option<Node>,
    resource: Option<Node>,
    resource_id: Option<Node>,
    resource_type: Option<Node>,
    resource_name: Option<Node>,
    target: Option<Node>,
    targets: Option<Node>,
    related: Option<Node>,
    on_behalf_of: Option<Node>,
    changes: Option<Node>,
    context: Option<Node>,
    ip_address: Option<Node>,
    user_agent: Option<Node>,
    description: Option<Node>,
    metadata: Option<Node>,
    extra: Option<Node>,
}

/// Names worth suggesting for a member we do not know.
const NAMES: [&str; 15] = [
    "id",
    "external_id",
    "tenant_id",
    "occurred_at",
    "action",
    "outcome",
    "reason",
    "actor",
    "resource",
    "related",
    "on_behalf_of",
    "changes",
    "context",
    "description",
    "metadata",
];

impl Top {
    #[inline]
    fn slot(&mut self, key: &str) -> Option<&mut Option<Node>> {
        Some(match key.as_bytes() {
            b"id" => &mut self.id,
            b"actor" => &mut self.actor,
            b"action" => &mut self.action,
            b"context" => &mut self.context,
            b"resource" => &mut self.resource,
            b"metadata" => &mut self.metadata,
            b"tenant_id" => &mut self.tenant_id,
            b"occurred_at" => &mut self.occurred_at,
            b"outcome" => &mut self.outcome,
            b"changes" => &mut self.changes,
            b"related" => &mut self.related,
            b"description" => &mut self.description,
            b"on_behalf_of" => &mut self.on_behalf_of,
            b"reason" => &mut self.reason,
            b"external_id" => &mut self.external_id,
            b"organization_id" => &mut self.organization_id,
            b"timestamp" => &mut self.timestamp,
            b"created" => &mut self.created,
            b"target" => &mut self.target,
            b"targets" => &mut self.targets,
            b"actor_id" => &mut self.actor_id,
            b"actor_type" => &mut self.actor_type,
            b"actor_name" => &mut self.actor_name,
            b"actor_email" => &mut self.actor_email,
            b"resource_id" => &mut self.resource_id,
            b"resource_type" => &mut self.resource_type,
            b"resource_name" => &mut self.resource_name,
            b"ip_address" => &mut self.ip_address,
            b"user_agent" => &mut self.user_agent,
            b"extra" => &mut self.extra,
            _ => return None,
        })
    }
}

fn is_server_set(key: &str) -> bool {
    matches!(
        key,
        "received_at"
            | "key_id"
            | "v"
            | "integrity"
            | "leaf_index"
            | "leaf_hash"
            | "tree_size"
            | "receipt"
            | "sealed_at"
    )
}

/// What reading an event gave.
pub(super) struct Read {
    pub(super) fields: Fields,
    pub(super) problems: Vec<FieldProblem>,
    pub(super) warnings: Vec<FieldProblem>,
}

/// Reads an object within the depth limit.
pub(super) fn read(json: &Json<'_>) -> Read {
    let mut reading = Reading { json, problems: Vec::new(), warnings: Vec::new(), unknown: Vec::new() };
    let fields = reading.event();
    Read { fields, problems: reading.problems, warnings: reading.warnings }
}

/// Where in the leaf an object will stand; names its unknown members under `extra`.
#[derive(Clone, Copy)]
struct Place(&'static str, Option<usize>);

impl Reading<'_, '_> {
    fn event(&mut self) -> Fields {
        let top = self.top();
        let mut fields = Fields { outcome: OUTCOMES[0], ..Fields::default() };
        self.identity(&top, &mut fields);
        fields.actor = self.actor(&top);
        self.resources(&top, &mut fields);
        fields.action = self.action(top.action, fields.resource.kind);
        if let Some(node) = top.outcome {
            fields.outcome = self.listed(node, &OUTCOMES);
        }
        fields.reason = self.string(top.reason);
        if let Some(node) = top.on_behalf_of {
            for (index, item) in self.array(node).into_iter().enumerate() {
                let slots = self.party(item, Place("on_behalf_of", Some(index)));
                let party = self.checked_party(slots);
                if party.id.is_none() && slots.id.is_none() && self.json.kind(item) == Kind::Object {
                    self.refuse_at(
                        format!("{}/id", self.json.pointer(item)),
                        "required",
                        "an id is required",
                    );
                }
                fields.on_behalf_of.push(party);
            }
        }
        if let Some(node) = top.changes {
            fields.changes = self.changes(node);
        }
        fields.metadata = self.object(top.metadata);
        fields.context = self.context(&top, fields.metadata);
        fields.description = self.string(top.description);
        fields.extra = self.object(top.extra);
        if !self.unknown.is_empty() {
            self.extra(fields.extra);
            fields.unknown = std::mem::take(&mut self.unknown);
        }
        fields
    }

    fn top(&mut self) -> Top {
        let json = self.json;
        let mut top = Top::default();
        for (key, value) in json.members(json.root()) {
            let name = json.str(key).unwrap_or_default();
            let null = json.kind(value) == Kind::Null;
            match top.slot(name) {
                Some(slot) if !null => *slot = Some(value),
                Some(_) => {}
                None if is_server_set(name) => {
                    let detail = format!("only the server sets `{name}`; it is ignored");
                    self.warnings.push(problem(json.pointer(key), "server_set", detail));
                }
                None if null => {}
                None => {
                    // Under `extra` it stands one level deeper than it was sent.
                    if json.height(value) + 2 > JSON_DEPTH_MAX {
                        let detail =
                            format!("nested deeper than {JSON_DEPTH_MAX} levels when kept under `extra`");
                        self.refuse(value, "depth", detail);
                    }
                    self.keep(name.to_owned(), name, value, suggest_word(name, &NAMES));
                }
            }
        }
        top
    }

    fn identity(&mut self, top: &Top, fields: &mut Fields) {
        let json = self.json;
        if let Some(node) = self.client_id(top.id) {
            match json.str(node).and_then(EventId::parse) {
                Some(id) => fields.id = Some(id),
                None => fields.external_id = Some(node),
            }
        }
        if let Some(node) = self.client_id(top.external_id) {
            fields.external_id = self.alias(Some(node), fields.external_id, "external_id");
        }

        let tenants = [top.tenant_id, top.organization_id].map(|node| self.string(node));
        if let Some(node) = self.alias(tenants[0], tenants[1], "tenant_id") {
            let text = json.str(node).unwrap_or_default();
            fields.tenant = TenantId::parse(text);
            if fields.tenant.is_none() {
                let detail =
                    format!("{} does not match `^[A-Za-z0-9][A-Za-z0-9_.-]{{0,127}}$`", quoted(text));
                self.refuse(node, "bad_tenant_id", detail);
            }
        }

        for node in [top.occurred_at, top.timestamp, top.created].into_iter().flatten() {
            let Some(time) = self.time(node) else { continue };
            match fields.occurred_at {
                Some(other) if other != time => self.contradicts(node, "occurred_at"),
                Some(_) => {}
                None => (fields.occurred_at, fields.time_at) = (Some(time), Some(node)),
            }
        }
        if let (Some(id), Some(node)) = (fields.id, top.id) {
            match fields.occurred_at {
                Some(time) if time != id.time() => {
                    let detail = format!("the id's time is `{}`, but the event's is `{time}`", id.time());
                    self.refuse(node, "id_time", detail);
                }
                Some(_) => {}
                None => fields.time_at = Some(node),
            }
        }
    }

    fn time(&mut self, node: Node) -> Option<Timestamp> {
        let json = self.json;
        let (detail, suggestion) = match (json.kind(node), json.str(node)) {
            (_, Some(text)) => match Timestamp::parse(text) {
                Ok(time) => return Some(time),
                Err(why) => (
                    format!("{} is {why}; RFC 3339 with an offset is needed", quoted(text)),
                    suggest_time(text, why),
                ),
            },
            (Kind::Number, _) => (
                format!("{} is a number; RFC 3339 with an offset is needed", quoted(json.raw(node))),
                json.raw(node).split('.').next().and_then(|whole| whole.parse().ok()).and_then(suggest_epoch),
            ),
            _ => {
                self.wrong_type(node, "a string");
                return None;
            }
        };
        self.refuse_with(node, "bad_time", detail, suggestion);
        None
    }

    fn actor(&mut self, top: &Top) -> Party {
        let mut slots = match top.actor {
            Some(node) => self.party(node, Place("actor", None)),
            None => PartySlots::default(),
        };
        slots.id = self.alias(slots.id, top.actor_id, "actor.id");
        slots.kind = self.alias(slots.kind, top.actor_type, "actor.type");
        slots.name = self.alias(slots.name, top.actor_name, "actor.name");
        slots.email = self.alias(slots.email, top.actor_email, "actor.email");
        let is_object = top.actor.is_none_or(|node| self.json.kind(node) == Kind::Object);
        if slots.id.is_none() && is_object {
            self.refuse_at("/actor/id".to_owned(), "required", "`actor.id` is required");
        }
        self.checked_party(slots)
    }

    fn party(&mut self, node: Node, place: Place) -> PartySlots {
        let json = self.json;
        let mut slots = PartySlots::default();
        if json.kind(node) != Kind::Object {
            let suggestion =
                (json.kind(node) == Kind::String).then(|| format!("{{\"id\":{}}}", json.raw(node)));
            let detail = format!("must be an object, is {}", json.kind(node).noun());
            self.refuse_with(node, "wrong_type", detail, suggestion);
            return slots;
        }
        for (key, value) in json.members(node) {
            let name = json.str(key).unwrap_or_default();
            let slot = match name {
                "id" => &mut slots.id,
                "type" => &mut slots.kind,
                "name" => &mut slots.name,
                "email" => &mut slots.email,
                "reason" if place.1.is_some() => &mut slots.reason,
                _ => {
                    self.unknown_in(place, name, value);
                    continue;
                }
            };
            *slot = self.present(value);
        }
        slots
    }

    fn checked_party(&mut self, slots: PartySlots) -> Party {
        Party {
            kind: slots.kind.map_or(ACTOR_TYPES[0], |node| self.listed(node, &ACTOR_TYPES)),
            id: self.client_id(slots.id),
            name: self.string(slots.name),
            email: self.string(slots.email),
            reason: self.string(slots.reason),
        }
    }

    fn resources(&mut self, top: &Top, fields: &mut Fields) {
        let mut main = match top.resource {
            Some(node) => self.thing(node, Place("resource", None)),
            None => Thing::default(),
        };
        let mut related = Vec::new();
        if let Some(node) = top.related {
            for (index, item) in self.array(node).into_iter().enumerate() {
                related.push((item, self.thing(item, Place("related", Some(index)))));
            }
        }
        for node in [top.target, top.targets].into_iter().flatten() {
            // Both spellings take one target or a list.
            let items = match self.json.kind(node) {
                Kind::Array => self.json.items(node).collect(),
                _ => vec![node],
            };
            for (index, item) in items.into_iter().enumerate() {
                if index == 0 {
                    let first = self.thing(item, Place("resource", None));
                    main = self.same_thing(main, first);
                } else {
                    let place = Place("related", Some(related.len()));
                    related.push((item, self.thing(item, place)));
                }
            }
        }
        let flat = Thing { id: top.resource_id, kind: top.resource_type, name: top.resource_name };
        main = self.same_thing(main, flat);
        let sent = top.resource.or(top.target).or(top.targets);
        fields.resource = self.checked_thing(sent, main);
        fields.related =
            related.into_iter().map(|(node, thing)| self.checked_thing(Some(node), thing)).collect();
    }

    fn same_thing(&mut self, main: Thing, alias: Thing) -> Thing {
        Thing {
            id: self.alias(main.id, alias.id, "resource.id"),
            kind: self.alias(main.kind, alias.kind, "resource.type"),
            name: self.alias(main.name, alias.name, "resource.name"),
        }
    }

    fn thing(&mut self, node: Node, place: Place) -> Thing {
        let json = self.json;
        let mut thing = Thing::default();
        if json.kind(node) != Kind::Object {
            self.wrong_type(node, "an object");
            return thing;
        }
        for (key, value) in json.members(node) {
            let name = json.str(key).unwrap_or_default();
            let slot = match name {
                "id" => &mut thing.id,
                "type" => &mut thing.kind,
                "name" => &mut thing.name,
                _ => {
                    self.unknown_in(place, name, value);
                    continue;
                }
            };
            *slot = self.present(value);
        }
        thing
    }

    fn checked_thing(&mut self, sent: Option<Node>, thing: Thing) -> Thing {
        let nameless = thing.id.is_none() && thing.kind.is_none();
        match sent {
            // What is not an object has been told already; an empty list of targets names nothing.
            Some(node) if nameless && self.json.kind(node) == Kind::Object => {
                self.refuse(node, "required", "an `id` or a `type` is required");
            }
            None if nameless && let Some(node) = thing.name => {
                self.refuse(node, "required", "a resource's `id` or `type` is required");
            }
            _ => {}
        }
        Thing {
            id: self.client_id(thing.id),
            kind: self.client_id(thing.kind),
            name: self.string(thing.name),
        }
    }

    fn action(&mut self, node: Option<Node>, resource_type: Option<Node>) -> Option<Text> {
        let json = self.json;
        let Some(node) = node else {
            self.refuse_at("/action".to_owned(), "required", "`action` is required");
            return None;
        };
        let node = self.string(Some(node))?;
        let text = json.str(node).unwrap_or_default();
        if text.starts_with(OWN_ACTIONS) {
            self.refuse(
                node,
                "reserved_action",
                format!("{} begins with `stele.`, which is reserved", quoted(text)),
            );
            return None;
        }
        if is_action(text) {
            return Some(Text::Sent(node));
        }
        let resource_type = resource_type.and_then(|node| json.str(node));
        if let (true, Some(kind)) = (is_word(text), resource_type) {
            let made = format!("{kind}.{text}");
            if is_action(&made) && !made.starts_with(OWN_ACTIONS) {
                return Some(Text::Made(made));
            }
        }
        let suggestion = suggest_action(text, resource_type);
        let detail = match is_word(text) && suggestion.is_none() {
            true => {
                format!("{} names no object; `<object>.<verb>` is needed, or a resource type", quoted(text))
            }
            false => {
                format!("{} does not match `^[a-z][a-z0-9_]*(\\.[a-z][a-z0-9_]*){{1,4}}$`", quoted(text))
            }
        };
        self.refuse_with(node, "bad_action", detail, suggestion);
        None
    }

    fn changes(&mut self, node: Node) -> Vec<Change> {
        let json = self.json;
        let mut changes = Vec::new();
        match json.kind(node) {
            Kind::Array => {
                for (index, item) in json.items(node).enumerate() {
                    if let Some(change) = self.change(item, None, index) {
                        changes.push(change);
                    }
                }
            }
            Kind::Object => {
                for (index, (key, item)) in json.members(node).enumerate() {
                    let mut path = String::new();
                    push_token(&mut path, json.str(key).unwrap_or_default());
                    if let Some(change) = self.change(item, Some(path), index) {
                        changes.push(change);
                    }
                }
            }
            _ => self.wrong_type(node, "an array, or an object by field"),
        }
        changes
    }

    /// One change; within `before` and `after` a null is a value.
    fn change(&mut self, item: Node, field: Option<String>, index: usize) -> Option<Change> {
        let json = self.json;
        if json.kind(item) != Kind::Object {
            self.wrong_type(item, "an object with `before` and `after`");
            return None;
        }
        let by_field = field.is_some();
        let (mut path, mut before, mut after, mut old, mut new) = (None, None, None, None, None);
        for (key, value) in json.members(item) {
            let name = json.str(key).unwrap_or_default();
            match name {
                "path" if !by_field => path = self.present(value),
                "before" => before = Some(value),
                "after" => after = Some(value),
                "old" => old = Some(value),
                "new" => new = Some(value),
                _ => self.unknown_in(Place("changes", Some(index)), name, value),
            }
        }
        let before = self.alias(before, old, "before");
        let after = self.alias(after, new, "after");
        let path = match (field, path) {
            (Some(made), _) => Text::Made(made),
            (None, Some(node)) => {
                let node = self.string(Some(node))?;
                let text = json.str(node).unwrap_or_default();
                if !text.is_empty() && !text.starts_with('/') {
                    let detail = format!("{} is not a JSON pointer; it is kept as it is", quoted(text));
                    let mut meant = String::new();
                    push_token(&mut meant, text);
                    let warning = problem(json.pointer(node), "not_a_pointer", detail);
                    self.warnings.push(FieldProblem { suggestion: Some(meant), ..warning });
                }
                Text::Sent(node)
            }
            (None, None) => {
                self.refuse_at(format!("{}/path", json.pointer(item)), "required", "`path` is required");
                return None;
            }
        };
        Some(Change { path, before, after })
    }

    fn context(&mut self, top: &Top, metadata: Option<Node>) -> Context {
        let json = self.json;
        let mut context = Context::default();
        if let Some(node) = self.object(top.context) {
            for (key, value) in json.members(node) {
                let name = json.str(key).unwrap_or_default();
                let slot = match name {
                    "ip" => &mut context.ip,
                    "user_agent" => &mut context.user_agent,
                    "session_id" => &mut context.session_id,
                    "request_id" => &mut context.request_id,
                    "trace_id" => &mut context.trace_id,
                    _ => {
                        self.unknown_in(Place("context", None), name, value);
                        continue;
                    }
                };
                *slot = self.present(value);
            }
        }
        context.ip = self.alias(context.ip, top.ip_address, "context.ip");
        context.user_agent = self.alias(context.user_agent, top.user_agent, "context.user_agent");
        if let Some(node) = metadata {
            for (key, value) in json.members(node) {
                let copied = json.str(value).is_some_and(|text| !text.is_empty());
                match json.str(key) {
                    Some("ip") if copied => context.ip = self.alias(context.ip, Some(value), "context.ip"),
                    Some("user_agent") if copied => {
                        context.user_agent =
                            self.alias(context.user_agent, Some(value), "context.user_agent");
                    }
                    _ => {}
                }
            }
        }
        context.ip = self.string(context.ip);
        context.user_agent = self.string(context.user_agent);
        context.session_id = self.client_id(context.session_id);
        context.request_id = self.client_id(context.request_id);
        context.trace_id = self.client_id(context.trace_id);
        if let Some(node) = context.ip {
            let text = json.str(node).unwrap_or_default();
            if text.parse::<IpAddr>().is_err() {
                let detail = format!("{} is not an IP address; it is kept as it is", quoted(text));
                self.warnings.push(problem(json.pointer(node), "bad_ip", detail));
            }
        }
        context
    }

    /// Puts unknown members in order and tells those whose place under `extra` is taken by another value.
    fn extra(&mut self, sent: Option<Node>) {
        let json = self.json;
        let mut unknown = std::mem::take(&mut self.unknown);
        unknown.sort_by(|a, b| crate::json::utf16_order(&a.0, &b.0));
        let mut kept: Vec<(String, Node)> = Vec::with_capacity(unknown.len());
        for (name, node) in unknown {
            let taken = match kept.last() {
                Some((last, node)) if *last == name => Some(*node),
                _ => sent.and_then(|sent| json.member(sent, &name)),
            };
            match taken {
                Some(other) if !self.same(other, node) => {
                    let detail = format!("{} under `extra` is taken by another value", quoted(&name));
                    self.refuse(node, "alias_contradicts", detail);
                }
                Some(_) => {}
                None => kept.push((name, node)),
            }
        }
        self.unknown = kept;
    }

    fn unknown_in(&mut self, place: Place, name: &str, value: Node) {
        if self.json.kind(value) == Kind::Null {
            return;
        }
        let mut kept = place.0.to_owned();
        if let Some(index) = place.1 {
            push_token(&mut kept, &index.to_string());
        }
        push_token(&mut kept, name);
        self.keep(kept, name, value, None);
    }

    fn keep(&mut self, kept: String, name: &str, value: Node, suggestion: Option<&str>) {
        let detail = format!("unknown field {}, kept under `extra`", quoted(name));
        let warning = problem(self.json.pointer(value), "unknown_field", detail);
        self.warnings.push(FieldProblem { suggestion: suggestion.map(str::to_owned), ..warning });
        self.unknown.push((kept, value));
    }
}

#[derive(Clone, Copy, Default)]
struct PartySlots {
    id: Option<Node>,
    kind: Option<Node>,
    name: Option<Node>,
    email: Option<Node>,
    reason: Option<Node>,
}
