//! The leaf: RFC 8785 of exactly the published record schema (design §5), written in one pass in key order,
//! straight from the places the fields stand in.

use super::fields::{Change, Fields, Party, Text, Thing};
use crate::canonical::{Writer, write_str};
use crate::id::{EventId, TenantId};
use crate::json::{Json, Node, utf16_order};
use crate::time::Timestamp;

/// What the server adds to an event's fields.
pub(super) struct ServerSet<'t> {
    pub(super) id: EventId,
    pub(super) tenant: &'t TenantId,
    pub(super) occurred_at: Timestamp,
    pub(super) received_at: Timestamp,
    pub(super) key_id: &'t str,
}

pub(super) fn write(json: &Json<'_>, fields: &Fields, set: &ServerSet<'_>) -> Vec<u8> {
    let size = json.raw(json.root()).len() + set.key_id.len() + 256;
    let mut out = Out { json, writer: Writer::default(), bytes: Vec::with_capacity(size) };
    out.record(fields, set);
    out.bytes
}

struct Out<'j, 'a> {
    json: &'j Json<'a>,
    writer: Writer,
    bytes: Vec<u8>,
}

impl Out<'_, '_> {
    fn record(&mut self, fields: &Fields, set: &ServerSet<'_>) {
        self.put("{\"action\":");
        match &fields.action {
            Some(action) => self.text(action),
            None => self.put("\"\""),
        }
        self.put(",\"actor\":");
        self.party(&fields.actor);
        if !fields.changes.is_empty() {
            self.put(",\"changes\":");
            self.list(&fields.changes, Self::change);
        }
        let context = &fields.context;
        self.object(
            ",\"context\":",
            [
                ("\"ip\":", context.ip),
                ("\"request_id\":", context.request_id),
                ("\"session_id\":", context.session_id),
                ("\"trace_id\":", context.trace_id),
                ("\"user_agent\":", context.user_agent),
            ],
        );
        self.member(",\"description\":", fields.description);
        self.member(",\"external_id\":", fields.external_id);
        self.extra(fields);
        self.put(",\"id\":\"");
        self.bytes.extend_from_slice(&set.id.to_bytes());
        self.put("\",\"key_id\":");
        write_str(set.key_id, &mut self.bytes);
        self.member(",\"metadata\":", fields.metadata);
        self.put(",\"occurred_at\":\"");
        self.bytes.extend_from_slice(&set.occurred_at.to_bytes());
        self.put("\"");
        if !fields.on_behalf_of.is_empty() {
            self.put(",\"on_behalf_of\":");
            self.list(&fields.on_behalf_of, Self::party);
        }
        self.put(",\"outcome\":\"");
        self.put(fields.outcome);
        self.put("\"");
        self.member(",\"reason\":", fields.reason);
        self.put(",\"received_at\":\"");
        self.bytes.extend_from_slice(&set.received_at.to_bytes());
        self.put("\"");
        if !fields.related.is_empty() {
            self.put(",\"related\":");
            self.list(&fields.related, |out, thing| out.object("", thing_members(thing)));
        }
        self.object(",\"resource\":", thing_members(&fields.resource));
        self.put(",\"tenant_id\":\"");
        self.put(set.tenant.as_str());
        self.put("\",\"v\":1}");
    }

    #[inline]
    fn put(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    #[inline]
    fn value(&mut self, node: Node) {
        self.writer.write(self.json, node, &mut self.bytes);
    }

    fn text(&mut self, text: &Text) {
        match text {
            Text::Sent(node) => self.value(*node),
            Text::Made(text) => write_str(text, &mut self.bytes),
        }
    }

    #[inline]
    fn member(&mut self, key: &str, node: Option<Node>) {
        if let Some(node) = node {
            self.put(key);
            self.value(node);
        }
    }

    /// An object of such members as there are, after its key; nothing if there are none.
    fn object<const N: usize>(&mut self, key: &str, members: [(&str, Option<Node>); N]) {
        let mut before = "{";
        for (name, node) in members {
            let Some(node) = node else { continue };
            if before == "{" {
                self.put(key);
            }
            self.put(before);
            self.put(name);
            self.value(node);
            before = ",";
        }
        if before == "," {
            self.put("}");
        }
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.put("[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.put(",");
            }
            write(self, item);
        }
        self.put("]");
    }

    fn party(&mut self, party: &Party) {
        self.put("{");
        for (name, node) in [
            ("\"email\":", party.email),
            ("\"id\":", party.id),
            ("\"name\":", party.name),
            ("\"reason\":", party.reason),
        ] {
            if let Some(node) = node {
                self.put(name);
                self.value(node);
                self.put(",");
            }
        }
        self.put("\"type\":\"");
        self.put(party.kind);
        self.put("\"}");
    }

    fn change(&mut self, change: &Change) {
        self.put("{");
        for (name, node) in [("\"after\":", change.after), ("\"before\":", change.before)] {
            if let Some(node) = node {
                self.put(name);
                self.value(node);
                self.put(",");
            }
        }
        self.put("\"path\":");
        self.text(&change.path);
        self.put("}");
    }

    fn extra(&mut self, fields: &Fields) {
        let json = self.json;
        let sent = fields.extra.filter(|node| json.members(*node).next().is_some());
        if fields.unknown.is_empty() {
            return self.member(",\"extra\":", sent);
        }
        let mut members: Vec<(&str, Node)> =
            fields.unknown.iter().map(|(name, node)| (name.as_str(), *node)).collect();
        let sent = sent.into_iter().flat_map(|node| json.members(node));
        members.extend(sent.map(|(key, value)| (json.str(key).unwrap_or_default(), value)));
        members.sort_unstable_by(|a, b| utf16_order(a.0, b.0));
        self.put(",\"extra\":");
        let mut before = "{";
        for (name, node) in members {
            self.put(before);
            write_str(name, &mut self.bytes);
            self.put(":");
            self.value(node);
            before = ",";
        }
        self.put("}");
    }
}

fn thing_members(thing: &Thing) -> [(&'static str, Option<Node>); 3] {
    [("\"id\":", thing.id), ("\"name\":", thing.name), ("\"type\":", thing.kind)]
}
