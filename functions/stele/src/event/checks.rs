//! Checks of single values, and how a fault is told: what reading any field of an event needs.

use super::words::suggest_word;
use crate::canonical::write_canonical;
use crate::error::FieldProblem;
use crate::id::is_client_id;
use crate::json::{Json, Kind, Node, problem, quoted};

/// An event being read: its JSON, and what was found so far.
pub(super) struct Reading<'j, 'a> {
    pub(super) json: &'j Json<'a>,
    pub(super) problems: Vec<FieldProblem>,
    pub(super) warnings: Vec<FieldProblem>,
    pub(super) unknown: Vec<(String, Node)>,
}

impl Reading<'_, '_> {
    /// A value unless it is null.
    #[inline]
    pub(super) fn present(&self, node: Node) -> Option<Node> {
        (self.json.kind(node) != Kind::Null).then_some(node)
    }

    /// The main field, filled from its alias.
    #[inline]
    pub(super) fn alias(&mut self, main: Option<Node>, alias: Option<Node>, name: &str) -> Option<Node> {
        if let (Some(main), Some(alias)) = (main, alias)
            && !self.same(main, alias)
        {
            self.contradicts(alias, name);
        }
        main.or(alias)
    }

    pub(super) fn same(&self, a: Node, b: Node) -> bool {
        if let (Some(a), Some(b)) = (self.json.str(a), self.json.str(b)) {
            return a == b;
        }
        let [a, b] = [a, b].map(|node| {
            let mut bytes = Vec::new();
            write_canonical(self.json, node, &mut bytes);
            bytes
        });
        a == b
    }

    #[inline]
    pub(super) fn string(&mut self, node: Option<Node>) -> Option<Node> {
        let node = node?;
        if self.json.kind(node) == Kind::String {
            return Some(node);
        }
        self.wrong_type(node, "a string");
        None
    }

    #[inline]
    pub(super) fn client_id(&mut self, node: Option<Node>) -> Option<Node> {
        let node = node?;
        if matches!(self.json.kind(node), Kind::Number) {
            let suggestion = Some(format!("\"{}\"", self.json.raw(node))).filter(|text| text.len() <= 64);
            self.refuse_with(node, "wrong_type", "must be a string, is a number".to_owned(), suggestion);
            return None;
        }
        let node = self.string(Some(node))?;
        let text = self.json.str(node).unwrap_or_default();
        // Printable ASCII of the right length is the rule's common case, seen at a glance.
        // Without a way out of the loop it runs on whole vectors.
        let plain = matches!(text.len(), 1..=64)
            && text.bytes().fold(true, |plain, c| plain & matches!(c, 0x20..=0x7e));
        if plain || is_client_id(text) {
            return Some(node);
        }
        let detail = match text.len() {
            0 => "an id must not be empty".to_owned(),
            257.. => format!("an id has at most 256 bytes, this one has {}", text.len()),
            _ => format!("{} has control characters", quoted(text)),
        };
        self.refuse(node, "bad_id", detail);
        None
    }

    pub(super) fn object(&mut self, node: Option<Node>) -> Option<Node> {
        let node = node?;
        if self.json.kind(node) == Kind::Object {
            return Some(node);
        }
        self.wrong_type(node, "an object");
        None
    }

    pub(super) fn array(&mut self, node: Node) -> Vec<Node> {
        if self.json.kind(node) != Kind::Array {
            self.wrong_type(node, "an array");
        }
        self.json.items(node).collect()
    }

    /// The listed word a string is; the default stands in for what is refused.
    pub(super) fn listed(&mut self, node: Node, list: &'static [&'static str]) -> &'static str {
        let Some(node) = self.string(Some(node)) else { return list[0] };
        let text = self.json.str(node).unwrap_or_default();
        if let Some(word) = list.iter().find(|word| **word == text) {
            return word;
        }
        let detail = format!("{} is none of {}", quoted(text), list.join(", "));
        self.refuse_with(node, "unknown_value", detail, suggest_word(text, list).map(str::to_owned));
        list[0]
    }

    pub(super) fn wrong_type(&mut self, node: Node, wanted: &str) {
        self.refuse(node, "wrong_type", format!("must be {wanted}, is {}", self.json.kind(node).noun()));
    }

    pub(super) fn contradicts(&mut self, node: Node, main: &str) {
        let detail =
            format!("{} contradicts `{main}`", quoted(self.json.str(node).unwrap_or(self.json.raw(node))));
        self.refuse(node, "alias_contradicts", detail);
    }

    pub(super) fn refuse(&mut self, node: Node, code: &'static str, detail: impl Into<String>) {
        self.refuse_with(node, code, detail.into(), None);
    }

    pub(super) fn refuse_at(&mut self, pointer: String, code: &'static str, detail: &str) {
        self.problems.push(problem(pointer, code, detail.to_owned()));
    }

    #[cold]
    pub(super) fn refuse_with(
        &mut self,
        node: Node,
        code: &'static str,
        detail: String,
        suggestion: Option<String>,
    ) {
        let refused = problem(self.json.pointer(node), code, detail);
        self.problems.push(FieldProblem { suggestion, ..refused });
    }
}
