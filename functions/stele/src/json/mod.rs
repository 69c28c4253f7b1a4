//! Our strict JSON reader (RFC 8259 with design §5's rules): one text becomes one flat tape of small slots that
//! point into the text; nothing is copied but strings with escapes.
//!
//! It reads and points; it knows nothing of events. Text that is not JSON, or has a key twice, is refused at
//! once. The other rules (depth, numbers, U+0000, surrogates, our keys) are noted with their place and reading
//! goes on, so that one answer can name them all; only [`Json::parse`], which refuses them, is public.

mod number;
mod reader;

pub(crate) use number::{Decimal, number_rule};
pub(crate) use reader::{plain, split_array};

use crate::error::{Code, Error, FieldProblem, Result};
use crate::limits::{INTEGER_MAX, JSON_DEPTH_MAX};
use reader::{Open, Reader, checked};
use std::borrow::Cow;
use std::cmp::Ordering;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// A number.
    Number,
    /// A string, or a member's key.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// For messages: "a string".
    pub const fn noun(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::True | Kind::False => "a boolean",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Array => "an array",
            Kind::Object => "an object",
        }
    }
}

/// A place on the tape. It means something only to the [`Json`] it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(u32);

/// A rule beyond RFC 8259 that a text breaks (design §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Depth,
    Nul,
    LoneSurrogate,
    NumberNotExact,
    IntegerTooLarge,
    NegativeZero,
    ReservedKey,
}

impl Rule {
    const fn code(self) -> &'static str {
        match self {
            Rule::Depth => "depth",
            Rule::Nul => "nul",
            Rule::LoneSurrogate => "lone_surrogate",
            Rule::NumberNotExact => "number_not_exact",
            Rule::IntegerTooLarge => "integer_too_large",
            Rule::NegativeZero => "negative_zero",
            Rule::ReservedKey => "reserved_key",
        }
    }
}

#[derive(Clone, Copy)]
struct Slot {
    kind: Kind,
    /// A string with escapes: `a..b` is its place among the unescaped ones.
    escaped: bool,
    /// Where it is in the text, quotes and brackets included.
    start: u32,
    end: u32,
    /// Of a container: the slot after its last.
    a: u32,
    b: u32,
}

/// One JSON text, read.
pub struct Json<'a> {
    text: &'a str,
    slots: Vec<Slot>,
    unescaped: String,
    broken: Vec<(Node, Rule)>,
}

impl<'a> Json<'a> {
    /// Reads one JSON text and holds it to all rules.
    ///
    /// # Errors
    /// `malformed_json` and `duplicate_key` with the place; `validation_failed` with every place where depth,
    /// numbers, U+0000, lone surrogates or keys beginning with `$` break a rule.
    pub fn parse(text: &'a [u8]) -> Result<Json<'a>> {
        let json = Json::read(text)?;
        match json.problems() {
            problems if problems.is_empty() => Ok(json),
            problems => {
                Err(Error::new(Code::ValidationFailed, "the JSON breaks a rule").with_problems(problems))
            }
        }
    }

    /// Reads one JSON text and notes the rules it breaks. A text noted as too deep must not be walked recursively.
    pub(crate) fn read(text: &'a [u8]) -> Result<Json<'a>> {
        let text = checked(text)?;
        let mut reader = Reader::new(text, true);
        let read = reader.text();
        let Reader { slots, unescaped, broken, open, duplicate, .. } = reader;
        let json = Json { text, slots, unescaped, broken };
        if let Err(wrong) = read {
            let pointer = json.pointer_at_end(&open);
            return Err(wrong.error(text, pointer));
        }
        if let Some(key) = duplicate {
            let detail = format!("key {} is there twice", quoted(json.str(key).unwrap_or_default()));
            let problem =
                problem(json.pointer(key), "duplicate_key", format!("{detail}, at byte {}", json.start(key)));
            return Err(Error::new(Code::DuplicateKey, detail).with_problems(vec![problem]));
        }
        Ok(json)
    }

    /// The value the text is.
    #[inline]
    pub fn root(&self) -> Node {
        Node(0)
    }

    /// What a value is.
    #[inline]
    pub fn kind(&self, node: Node) -> Kind {
        self.slot(node).kind
    }

    /// A value as it stands in the text.
    #[inline]
    pub fn raw(&self, node: Node) -> &'a str {
        let slot = self.slot(node);
        self.text.get(slot.start as usize..slot.end as usize).unwrap_or_default()
    }

    /// Where a value begins in the text, in bytes.
    pub fn start(&self, node: Node) -> usize {
        self.slot(node).start as usize
    }

    /// A string's (or key's) characters; `None` for other values.
    #[inline]
    pub fn str(&self, node: Node) -> Option<&str> {
        let slot = self.slot(node);
        (slot.kind == Kind::String).then(|| self.chars(slot))
    }

    /// A string's characters, borrowed from the text where it has no escapes; `None` for other values.
    pub fn cow(&self, node: Node) -> Option<Cow<'a, str>> {
        let slot = self.slot(node);
        (slot.kind == Kind::String).then(|| match slot.escaped {
            true => Cow::Owned(self.chars(slot).to_owned()),
            false => Cow::Borrowed(self.between_quotes(slot)),
        })
    }

    /// Whether a string has escapes in the text; without them, its raw text is its canonical form.
    #[inline]
    pub(crate) fn is_escaped(&self, node: Node) -> bool {
        self.slot(node).escaped
    }

    /// An object's members, key and value, in the order of the text; none for other values.
    #[inline]
    pub fn members(&self, node: Node) -> Members<'_, 'a> {
        let slot = self.slot(node);
        let end = if slot.kind == Kind::Object { slot.a } else { 0 };
        Members { json: self, at: node.0 + 1, end }
    }

    /// An object's members in RFC 8785 order.
    pub fn members_sorted(&self, node: Node) -> Vec<(Node, Node)> {
        let mut members: Vec<_> = self.members(node).collect();
        members.sort_unstable_by(|a, b| self.key_order(a.0, b.0));
        members
    }

    /// The order of two keys by RFC 8785.
    #[inline]
    pub(crate) fn key_order(&self, a: Node, b: Node) -> Ordering {
        utf16_order(self.chars(self.slot(a)), self.chars(self.slot(b)))
    }

    /// An array's items; none for other values.
    #[inline]
    pub fn items(&self, node: Node) -> Items<'_, 'a> {
        let slot = self.slot(node);
        let end = if slot.kind == Kind::Array { slot.a } else { 0 };
        Items { json: self, at: node.0 + 1, end }
    }

    /// A member of an object by key.
    pub fn member(&self, node: Node, key: &str) -> Option<Node> {
        self.members(node).find(|(name, _)| self.str(*name) == Some(key)).map(|(_, value)| value)
    }

    /// Levels of arrays and objects in a value: 0 for a string, 1 for `{}`.
    pub fn height(&self, node: Node) -> usize {
        let mut ends = Vec::new();
        let mut height = 0;
        for at in node.0..self.after(node) {
            while ends.last().is_some_and(|end| *end <= at) {
                ends.pop();
            }
            let slot = self.slot(Node(at));
            if matches!(slot.kind, Kind::Array | Kind::Object) {
                ends.push(slot.a);
                height = height.max(ends.len());
            }
        }
        height
    }

    /// The RFC 6901 pointer of a value; of a key, its member's.
    pub fn pointer(&self, node: Node) -> String {
        let mut pointer = String::new();
        let mut at = self.root();
        'down: while at != node {
            for (key, value) in self.members(at) {
                if node == key || node.0 < self.after(value) {
                    push_token(&mut pointer, self.chars(self.slot(key)));
                    if node == key {
                        break 'down;
                    }
                    at = value;
                    continue 'down;
                }
            }
            for (index, item) in self.items(at).enumerate() {
                if node.0 < self.after(item) {
                    push_token(&mut pointer, &index.to_string());
                    at = item;
                    continue 'down;
                }
            }
            break;
        }
        pointer
    }

    /// The rules it breaks, with their places.
    pub(crate) fn broken(&self) -> &[(Node, Rule)] {
        &self.broken
    }

    /// The rules it breaks, told to the sender.
    pub(crate) fn problems(&self) -> Vec<FieldProblem> {
        self.broken.iter().map(|(node, rule)| self.told(*node, *rule)).collect()
    }

    fn told(&self, node: Node, rule: Rule) -> FieldProblem {
        let shown = match self.str(node) {
            Some(text) => quoted(text),
            None => quoted(self.raw(node)),
        };
        let (what, suggestion) = match rule {
            Rule::Depth => (format!("nested deeper than {JSON_DEPTH_MAX} levels"), None),
            Rule::Nul => ("U+0000 is not allowed in a string".to_owned(), None),
            Rule::LoneSurrogate => ("half of a surrogate pair is not a character".to_owned(), None),
            Rule::NumberNotExact => (
                format!("number {shown} is not exactly a double"),
                (self.raw(node).len() <= 64).then(|| format!("\"{}\"", self.raw(node))),
            ),
            Rule::IntegerTooLarge => (
                format!("integer {shown} is beyond ±{INTEGER_MAX}"),
                (self.raw(node).len() <= 64).then(|| format!("\"{}\"", self.raw(node))),
            ),
            Rule::NegativeZero => (format!("{shown} is negative zero"), Some("0".to_owned())),
            Rule::ReservedKey => (format!("key {shown} begins with `$`, which is reserved"), None),
        };
        FieldProblem {
            suggestion,
            ..problem(self.pointer(node), rule.code(), format!("{what}, at byte {}", self.start(node)))
        }
    }

    /// Where a text broke off: the containers open there, as deep as a good text goes.
    fn pointer_at_end(&self, open: &[Open]) -> String {
        let mut pointer = String::new();
        for level in open.iter().take(JSON_DEPTH_MAX) {
            // The last slot of an object is a key when its value did not come about.
            let node = Node(level.node);
            if level.object {
                let mut at = node.0 + 1;
                let mut last = None;
                while (at as usize) < self.slots.len() {
                    last = Some(Node(at));
                    if at as usize + 1 >= self.slots.len() {
                        break;
                    }
                    at = self.after(Node(at + 1));
                }
                if let (Some(key), true) = (last, level.count > 0) {
                    push_token(&mut pointer, self.str(key).unwrap_or_default());
                }
            } else {
                push_token(&mut pointer, &level.count.saturating_sub(1).to_string());
            }
        }
        pointer
    }

    #[inline]
    fn slot(&self, node: Node) -> &Slot {
        &self.slots[node.0 as usize]
    }

    /// The slot after a value and all within. A container still open ends where the tape does.
    #[inline]
    fn after(&self, node: Node) -> u32 {
        let slot = self.slot(node);
        match slot.kind {
            Kind::Array | Kind::Object => slot.a,
            _ => node.0 + 1,
        }
    }

    #[inline]
    fn chars(&self, slot: &Slot) -> &str {
        match slot.escaped {
            true => self.unescaped.get(slot.a as usize..slot.b as usize).unwrap_or_default(),
            false => self.between_quotes(slot),
        }
    }

    #[inline]
    fn between_quotes(&self, slot: &Slot) -> &'a str {
        self.text.get(slot.start as usize + 1..slot.end as usize - 1).unwrap_or_default()
    }
}

/// An object's members. See [`Json::members`].
pub struct Members<'j, 'a> {
    json: &'j Json<'a>,
    at: u32,
    end: u32,
}

impl Iterator for Members<'_, '_> {
    type Item = (Node, Node);

    #[inline]
    fn next(&mut self) -> Option<(Node, Node)> {
        if self.at >= self.end {
            return None;
        }
        let (key, value) = (Node(self.at), Node(self.at + 1));
        self.at = self.json.after(value);
        Some((key, value))
    }
}

/// An array's items. See [`Json::items`].
pub struct Items<'j, 'a> {
    json: &'j Json<'a>,
    at: u32,
    end: u32,
}

impl Iterator for Items<'_, '_> {
    type Item = Node;

    #[inline]
    fn next(&mut self) -> Option<Node> {
        if self.at >= self.end {
            return None;
        }
        let item = Node(self.at);
        self.at = self.json.after(item);
        Some(item)
    }
}

/// RFC 8785 §3.2.3: by UTF-16 code units. UTF-8 orders alike, but for characters beyond U+FFFF, which UTF-16
/// begins with D800–DBFF, below E000–FFFF.
#[inline]
pub fn utf16_order(a: &str, b: &str) -> Ordering {
    match a.bytes().zip(b.bytes()).find(|(x, y)| x != y) {
        None => a.len().cmp(&b.len()),
        Some((0xee | 0xef, 0xf0..)) => Ordering::Greater,
        Some((0xf0.., 0xee | 0xef)) => Ordering::Less,
        Some((x, y)) => x.cmp(&y),
    }
}

/// Appends one reference token to an RFC 6901 pointer.
pub fn push_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    for c in token.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

/// A value of the sender's in back-ticks, cut to what a message can bear.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 64;
    let mut out = String::from("`");
    for (n, c) in text.chars().enumerate() {
        if n == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        match c.is_control() {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    out.push('`');
    out
}

pub(crate) fn problem(pointer: String, code: &'static str, detail: String) -> FieldProblem {
    FieldProblem { pointer, code, detail, suggestion: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn codes(text: &str) -> Vec<(String, &'static str)> {
        match Json::parse(text.as_bytes()) {
            Ok(_) => Vec::new(),
            Err(e) => e.problems().iter().map(|p| (p.pointer.clone(), p.code)).collect(),
        }
    }

    #[test]
    fn values_are_found_where_they_stand() {
        let text = r#" {"a/b":[1,{"~":"\u0078y"}], "c" : {} } "#;
        let json = Json::parse(text.as_bytes()).unwrap();
        let list = json.member(json.root(), "a/b").unwrap();
        let inner = json.items(list).nth(1).unwrap();
        let (key, value) = json.members(inner).next().unwrap();
        assert_eq!((json.str(key), json.str(value)), (Some("~"), Some("xy")));
        assert_eq!((json.pointer(value), json.pointer(key)), ("/a~1b/1/~0".into(), "/a~1b/1/~0".into()));
        assert_eq!((json.raw(value), json.raw(list)), (r#""\u0078y""#, r#"[1,{"~":"\u0078y"}]"#));
        assert_eq!(json.height(json.root()), 3);
        assert_eq!(json.members(json.root()).count(), 2);
        assert_eq!(json.items(json.root()).count(), 0);
        assert_eq!(json.raw(json.root()), text.trim());
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        for good in [
            "0",
            "-1",
            "1.0",
            "1.50",
            "100e-2",
            "0.0",
            "0e9",
            "9007199254740991",
            "-9007199254740991.0",
            "5e-324",
            "9007199254740991000e-3",
            "0.1",
            "1e15",
            "12345678901234e-20",
            "2.2250738585072014e-308",
            "0.30000000000000004",
            "9e15",
        ] {
            assert_eq!(codes(good), [], "{good}");
        }
        for (bad, code) in [
            ("-0", "negative_zero"),
            ("-0.000", "negative_zero"),
            ("-0e5", "negative_zero"),
            ("9007199254740992", "integer_too_large"),
            ("1e16", "integer_too_large"),
            ("1e99999999999999999999", "integer_too_large"),
            ("1e-99999999999999999999", "number_not_exact"),
            ("100000000000000000000000000000001", "integer_too_large"),
            ("0.1000000000000000055511151231257827", "number_not_exact"),
            ("0.3000000000000000444", "number_not_exact"),
            ("3e-324", "number_not_exact"),
            ("9007199254740991.5", "number_not_exact"),
        ] {
            assert_eq!(codes(bad), [(String::new(), code)], "{bad}");
        }
    }

    #[test]
    fn keys_are_compared_unescaped_in_small_objects_and_large() {
        assert_eq!(codes(r#"{"a":{"b":1,"c":2,"\u0062":3}}"#), [("/a/b".to_owned(), "duplicate_key")]);
        let many: Vec<String> = (0..5000).map(|n| format!("\"k{n}\":{n}")).collect();
        assert_eq!(codes(&format!("{{{}}}", many.join(","))), []);
        assert_eq!(codes(&format!("{{{},\"k7\":0}}", many.join(","))), [("/k7".to_owned(), "duplicate_key")]);
    }

    #[test]
    fn a_text_that_breaks_off_says_where() {
        for (text, pointer, at) in [
            (r#"{"a":[1,{"b":}]}"#, "/a/1/b", "byte 13"),
            (r#"{"a":tru}"#, "/a", "byte 5"),
            ("[1,2", "/1", "byte 4"),
            (r#"{"a":"x"#, "/a", "byte 7"),
            ("", "", "byte 0"),
            ("[\"\t\"]", "/0", "byte 2"),
        ] {
            let error = Json::parse(text.as_bytes()).err().unwrap();
            assert_eq!(error.code(), Code::MalformedJson);
            assert_eq!(error.problems()[0].pointer, pointer, "{text}");
            assert!(error.detail().contains(at), "{text}: {error}");
        }
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(codes(&nested(JSON_DEPTH_MAX)), []);
        assert_eq!(codes(&nested(JSON_DEPTH_MAX + 1)), [("/0".repeat(JSON_DEPTH_MAX), "depth")]);
        assert_eq!(codes(&nested(200_000)), [("/0".repeat(JSON_DEPTH_MAX), "depth")]);
    }

    proptest! {
        #[test]
        fn utf16_order_is_the_order_of_utf16(a: String, b: String) {
            prop_assert_eq!(utf16_order(&a, &b), a.encode_utf16().cmp(b.encode_utf16()));
        }

        #[test]
        fn strings_are_read_as_serde_reads_them(text: String, prefix in "[a-z]{0,9}") {
            let text = format!("{prefix}{}", text.replace('\0', ""));
            let sent = serde_json::to_string(&text).unwrap();
            let json = Json::parse(sent.as_bytes()).unwrap();
            prop_assert_eq!(json.str(json.root()), Some(text.as_str()));
            prop_assert_eq!(json.cow(json.root()).unwrap(), text);
        }

        #[test]
        fn what_is_json_is_what_serde_takes_for_json(text in "[\\[\\]{}:,\"0-9eE.+ \\\\utrn-]{0,12}") {
            let ours = !matches!(Json::parse(text.as_bytes()), Err(e) if e.code() == Code::MalformedJson);
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(_) => prop_assert!(ours, "{}", text),
                // serde_json refuses some of what our rules refuse, for which it has no other word.
                Err(e) => prop_assert!(!ours || e.to_string().contains("out of range") || text.contains("\\u")),
            }
        }
    }
}
