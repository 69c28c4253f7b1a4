//! Our strict JSON reader (RFC 8259 with design §5's rules): one text becomes one flat tape of small slots that
//! point into the text; nothing is copied but strings with escapes.
//!
//! It reads and points; it knows nothing of events. Text that is not JSON, or has a key twice, is refused at
//! once. The other rules (depth, numbers, U+0000, surrogates, our keys) are noted with their place and reading
//! goes on, so that one answer can name them all; only [`Json::parse`], which refuses them, is public.

use crate::error::{Code, Error, FieldProblem, Result};
use crate::limits::{INTEGER_MAX, JSON_DEPTH_MAX};
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

/// Broken rules noted per text; one more tells the sender nothing new.
const BROKEN_MAX: usize = 32;
/// Objects of up to so many members are searched for a repeated key as they grow, larger ones sorted at their end.
const MEMBERS_COMPARED_MAX: u32 = 32;

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
            problems => Err(Error::new(Code::ValidationFailed, "the JSON breaks a rule").with_problems(problems)),
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
            let problem = problem(json.pointer(key), "duplicate_key", format!("{detail}, at byte {}", json.start(key)));
            return Err(Error::new(Code::DuplicateKey, detail).with_problems(vec![problem]));
        }
        Ok(json)
    }

    /// The value the text is.
    pub fn root(&self) -> Node {
        Node(0)
    }

    /// What a value is.
    pub fn kind(&self, node: Node) -> Kind {
        self.slot(node).kind
    }

    /// A value as it stands in the text.
    pub fn raw(&self, node: Node) -> &'a str {
        let slot = self.slot(node);
        self.text.get(slot.start as usize..slot.end as usize).unwrap_or_default()
    }

    /// Where a value begins in the text, in bytes.
    pub fn start(&self, node: Node) -> usize {
        self.slot(node).start as usize
    }

    /// A string's (or key's) characters; `None` for other values.
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
    pub(crate) fn is_escaped(&self, node: Node) -> bool {
        self.slot(node).escaped
    }

    /// An object's members, key and value, in the order of the text; none for other values.
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
    pub(crate) fn key_order(&self, a: Node, b: Node) -> Ordering {
        utf16_order(self.chars(self.slot(a)), self.chars(self.slot(b)))
    }

    /// An array's items; none for other values.
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

    fn slot(&self, node: Node) -> &Slot {
        &self.slots[node.0 as usize]
    }

    /// The slot after a value and all within. A container still open ends where the tape does.
    fn after(&self, node: Node) -> u32 {
        let slot = self.slot(node);
        match slot.kind {
            Kind::Array | Kind::Object => slot.a,
            _ => node.0 + 1,
        }
    }

    fn chars(&self, slot: &Slot) -> &str {
        match slot.escaped {
            true => self.unescaped.get(slot.a as usize..slot.b as usize).unwrap_or_default(),
            false => self.between_quotes(slot),
        }
    }

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

/// Splits an object of the form `{"<name>":[…]}` into the raw texts of the array's items, checking their syntax
/// and nothing else, so that an item that breaks a rule can fail alone.
pub(crate) fn split_array<'a>(text: &'a [u8], name: &str, items_max: usize) -> Result<Split<'a>> {
    let text = checked(text)?;
    let mut reader = Reader::new(text, false);
    let mut split = Split { items: None, others: Vec::new(), repeated: false, too_many: false };
    reader.split(name, items_max, &mut split).map_err(|wrong| wrong.error(text, String::new()))?;
    Ok(split)
}

/// What [`split_array`] found.
pub(crate) struct Split<'a> {
    /// The array's items; `None` if there is no such array.
    pub(crate) items: Option<Vec<&'a [u8]>>,
    /// Keys of other members, as they stand in the text.
    pub(crate) others: Vec<&'a str>,
    /// The array is there twice.
    pub(crate) repeated: bool,
    /// There are more items than asked for; the rest is left out.
    pub(crate) too_many: bool,
}

fn checked(text: &[u8]) -> Result<&str> {
    let wrong = match std::str::from_utf8(text) {
        Ok(text) if text.starts_with('\u{feff}') => Wrong { at: 0, what: "a byte order mark is not allowed" },
        Ok(text) if u32::try_from(text.len()).is_err() => Wrong { at: 0, what: "the text is too long" },
        Ok(text) => return Ok(text),
        Err(e) => Wrong { at: e.valid_up_to(), what: "invalid UTF-8" },
    };
    Err(wrong.error("", String::new()))
}

/// Why a text is not JSON, and where.
struct Wrong {
    at: usize,
    what: &'static str,
}

impl Wrong {
    fn error(self, text: &str, pointer: String) -> Error {
        let found = match text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!(", found {}", quoted(c.encode_utf8(&mut [0; 4]))),
            None if !text.is_empty() => ", found the end".to_owned(),
            None => String::new(),
        };
        let detail = format!("{} at byte {}{found}", self.what, self.at);
        Error::new(Code::MalformedJson, detail.clone())
            .with_problems(vec![problem(pointer, "malformed_json", detail)])
    }
}

struct Open {
    node: u32,
    object: bool,
    /// Values begun in it.
    count: u32,
    /// One bit per key, by a small hash: a bit that is free proves the key new.
    keys: u64,
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Whether a tape is made; without, only the syntax is checked.
    keep: bool,
    slots: Vec<Slot>,
    unescaped: String,
    broken: Vec<(Node, Rule)>,
    open: Vec<Open>,
    duplicate: Option<Node>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, keep: bool) -> Reader<'a> {
        let slots = if keep { Vec::with_capacity((text.len() / 9 + 8).min(1 << 14)) } else { Vec::new() };
        Reader {
            text,
            bytes: text.as_bytes(),
            at: 0,
            keep,
            slots,
            unescaped: String::new(),
            broken: Vec::new(),
            open: Vec::with_capacity(JSON_DEPTH_MAX),
            duplicate: None,
        }
    }

    fn text(&mut self) -> std::result::Result<(), Wrong> {
        self.value()?;
        self.end()
    }

    fn end(&mut self) -> std::result::Result<(), Wrong> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("expected the end of the text")),
        }
    }

    /// One value with all within it, without recursion: depth is the sender's choice.
    fn value(&mut self) -> std::result::Result<(), Wrong> {
        let floor = self.open.len();
        'value: loop {
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(b'{') => {
                    self.begin(Kind::Object);
                    if self.peek() != Some(b'}') {
                        self.key()?;
                        continue 'value;
                    }
                    self.close();
                }
                Some(b'[') => {
                    self.begin(Kind::Array);
                    if self.peek() != Some(b']') {
                        self.count();
                        continue 'value;
                    }
                    self.close();
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal("true", Kind::True)?,
                Some(b'f') => self.literal("false", Kind::False)?,
                Some(b'n') => self.literal("null", Kind::Null)?,
                _ => return Err(self.wrong("expected a value")),
            }
            // After a value: what is open decides.
            loop {
                if self.open.len() == floor {
                    return Ok(());
                }
                let object = self.open.last().is_some_and(|top| top.object);
                match (self.peek(), object) {
                    (Some(b','), true) => {
                        self.at += 1;
                        self.key()?;
                        continue 'value;
                    }
                    (Some(b','), false) => {
                        self.at += 1;
                        self.count();
                        continue 'value;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => self.close(),
                    (_, true) => return Err(self.wrong("expected `,` or `}`")),
                    (_, false) => return Err(self.wrong("expected `,` or `]`")),
                }
            }
        }
    }

    fn split(&mut self, name: &str, items_max: usize, split: &mut Split<'a>) -> std::result::Result<(), Wrong> {
        if self.peek() != Some(b'{') {
            self.value()?;
            return self.end();
        }
        self.at += 1;
        let mut more = self.peek() != Some(b'}');
        while more {
            if self.peek() != Some(b'"') {
                return Err(self.wrong("expected a key"));
            }
            let start = self.at + 1;
            self.string()?;
            let key = self.text.get(start..self.at - 1).unwrap_or_default();
            if self.peek() != Some(b':') {
                return Err(self.wrong("expected `:`"));
            }
            self.at += 1;
            if key == name && self.peek() == Some(b'[') {
                split.repeated |= split.items.is_some();
                let mut items = Vec::new();
                self.at += 1;
                let mut more_items = self.peek() != Some(b']');
                while more_items {
                    self.peek();
                    let start = self.at;
                    self.value()?;
                    match items.len() < items_max {
                        true => items.push(&self.bytes[start..self.at]),
                        false => split.too_many = true,
                    }
                    more_items = self.comma_or(b']', "expected `,` or `]`")?;
                }
                self.at += 1;
                split.items = Some(items);
            } else {
                self.value()?;
                split.others.push(key);
            }
            more = self.comma_or(b'}', "expected `,` or `}`")?;
        }
        self.at += 1;
        self.end()
    }

    fn comma_or(&mut self, close: u8, what: &'static str) -> std::result::Result<bool, Wrong> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(c) if c == close => Ok(false),
            _ => Err(self.wrong(what)),
        }
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    #[inline]
    fn count(&mut self) {
        if let Some(top) = self.open.last_mut() {
            top.count += 1;
        }
    }

    #[inline]
    fn push(&mut self, kind: Kind, escaped: bool, start: usize, a: usize, b: usize) {
        if self.keep {
            // `checked` refused texts of which a position would not fit.
            let (start, end, a, b) = (start as u32, self.at as u32, a as u32, b as u32);
            self.slots.push(Slot { kind, escaped, start, end, a, b });
        }
    }

    fn note(&mut self, rule: Rule) {
        // What lies too deep is refused for that; its own faults would only make pointers long.
        if self.keep && self.broken.len() < BROKEN_MAX && self.open.len() <= JSON_DEPTH_MAX {
            self.broken.push((Node(self.slots.len() as u32), rule));
        }
    }

    #[inline]
    fn begin(&mut self, kind: Kind) {
        let node = self.slots.len() as u32;
        if self.open.len() == JSON_DEPTH_MAX {
            self.note(Rule::Depth);
        }
        self.open.push(Open { node, object: kind == Kind::Object, count: 0, keys: 0 });
        let start = self.at;
        self.at += 1;
        // Until it is closed a container reaches beyond the tape's end.
        self.push(kind, false, start, u32::MAX as usize, 0);
    }

    #[inline]
    fn close(&mut self) {
        self.at += 1;
        let Some(top) = self.open.pop() else { return };
        if !self.keep {
            return;
        }
        let after = self.slots.len() as u32;
        let slot = &mut self.slots[top.node as usize];
        slot.end = self.at as u32;
        slot.a = after;
        if top.object && top.count > MEMBERS_COMPARED_MAX && self.duplicate.is_none() {
            self.find_duplicate(top.node);
        }
    }

    /// A key and its colon.
    #[inline]
    fn key(&mut self) -> std::result::Result<(), Wrong> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("expected a key"));
        }
        let key = self.slots.len();
        self.string()?;
        self.count();
        if self.keep {
            self.check_key(key);
        }
        if self.peek() != Some(b':') {
            return Err(self.wrong("expected `:`"));
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn check_key(&mut self, key: usize) {
        let chars = self.chars(key).as_bytes();
        let (first, last) = (chars.first().copied().unwrap_or(0), chars.last().copied().unwrap_or(0));
        let hash = chars.len().wrapping_add(usize::from(first) * 7).wrapping_add(usize::from(last) * 13);
        let bit = 1_u64 << (hash & 63);
        if first == b'$' && self.broken.len() < BROKEN_MAX && self.open.len() <= JSON_DEPTH_MAX {
            self.broken.push((Node(key as u32), Rule::ReservedKey));
        }
        let Some(top) = self.open.last_mut() else { return };
        let seen = top.keys & bit != 0;
        top.keys |= bit;
        let (node, count) = (top.node, top.count);
        if seen && count <= MEMBERS_COMPARED_MAX && self.duplicate.is_none() {
            let mut at = node as usize + 1;
            while at < key {
                if self.chars(at) == self.chars(key) {
                    self.duplicate = self.worth_naming(key);
                    break;
                }
                at = self.after_value(at + 1);
            }
        }
    }

    #[cold]
    fn find_duplicate(&mut self, node: u32) {
        let mut keys = Vec::new();
        let mut at = node as usize + 1;
        while at < self.slots.len() {
            keys.push(at);
            at = self.after_value(at + 1);
        }
        keys.sort_by(|a, b| self.chars(*a).cmp(self.chars(*b)));
        let again = keys.windows(2).find(|pair| self.chars(pair[0]) == self.chars(pair[1])).map(|pair| pair[1]);
        if let Some(key) = again {
            self.duplicate = self.worth_naming(key);
        }
    }

    fn worth_naming(&self, key: usize) -> Option<Node> {
        (self.open.len() <= JSON_DEPTH_MAX).then_some(Node(key as u32))
    }

    fn after_value(&self, at: usize) -> usize {
        match self.slots[at].kind {
            Kind::Array | Kind::Object => self.slots[at].a as usize,
            _ => at + 1,
        }
    }

    fn chars(&self, at: usize) -> &str {
        let slot = &self.slots[at];
        match slot.escaped {
            true => &self.unescaped[slot.a as usize..slot.b as usize],
            false => &self.text[slot.start as usize + 1..slot.end as usize - 1],
        }
    }

    fn literal(&mut self, word: &'static str, kind: Kind) -> std::result::Result<(), Wrong> {
        let start = self.at;
        if !self.bytes[start..].starts_with(word.as_bytes()) {
            return Err(self.wrong("expected a value"));
        }
        self.at += word.len();
        self.push(kind, false, start, 0, 0);
        Ok(())
    }

    #[inline]
    fn string(&mut self) -> std::result::Result<(), Wrong> {
        let start = self.at;
        self.at += 1;
        self.skip_plain();
        if self.bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            self.push(Kind::String, false, start, 0, 0);
            return Ok(());
        }
        self.string_escaped(start)
    }

    /// Steps over what needs no look: all but quotes, backslashes and control characters, 8 bytes at a time.
    #[inline]
    fn skip_plain(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let rest = &self.bytes[self.at..];
        let mut skipped = 0;
        for chunk in rest.chunks_exact(8) {
            let word = u64::from_le_bytes(chunk.try_into().expect("chunks_exact gives 8 bytes"));
            let quote = word ^ (ONES * b'"' as u64);
            let backslash = word ^ (ONES * b'\\' as u64);
            // The lowest set bit is exact: borrows only run upwards.
            let special = (word.wrapping_sub(ONES * 0x20) & !word
                | quote.wrapping_sub(ONES) & !quote
                | backslash.wrapping_sub(ONES) & !backslash)
                & HIGH;
            if special != 0 {
                self.at += skipped + (special.trailing_zeros() / 8) as usize;
                return;
            }
            skipped += 8;
        }
        let tail = &rest[skipped..];
        let plain = tail.iter().take_while(|c| !matches!(c, b'"' | b'\\' | 0..0x20)).count();
        self.at += skipped + plain;
    }

    #[inline(never)]
    fn string_escaped(&mut self, start: usize) -> std::result::Result<(), Wrong> {
        let from = self.unescaped.len();
        let mut copied = start + 1;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    let here = self.at;
                    self.copy(copied, here);
                    self.escape()?;
                    copied = self.at;
                }
                Some(_) => return Err(self.wrong("expected a control character to be escaped")),
                None => return Err(self.wrong("expected the end of a string")),
            }
            self.skip_plain();
        }
        let here = self.at;
        self.copy(copied, here);
        self.at += 1;
        let to = self.unescaped.len();
        self.push(Kind::String, true, start, from, to);
        Ok(())
    }

    fn copy(&mut self, from: usize, to: usize) {
        if self.keep {
            // Both ends stand beside ASCII characters.
            self.unescaped.push_str(self.text.get(from..to).unwrap_or_default());
        }
    }

    fn escape(&mut self) -> std::result::Result<(), Wrong> {
        let c = match self.bytes.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.unit(self.at + 2)?;
                self.at += 6;
                let c = match unit {
                    0 => {
                        self.note(Rule::Nul);
                        '\0'
                    }
                    0xd800..=0xdbff => self.pair(unit)?,
                    unit => char::from_u32(unit).unwrap_or_else(|| {
                        self.note(Rule::LoneSurrogate);
                        char::REPLACEMENT_CHARACTER
                    }),
                };
                if self.keep {
                    self.unescaped.push(c);
                }
                return Ok(());
            }
            _ => {
                self.at += 1;
                return Err(self.wrong("expected an escape"));
            }
        };
        self.at += 2;
        if self.keep {
            self.unescaped.push(c);
        }
        Ok(())
    }

    /// The character a high surrogate begins.
    fn pair(&mut self, high: u32) -> std::result::Result<char, Wrong> {
        if self.bytes[self.at..].starts_with(b"\\u") {
            let low = self.unit(self.at + 2)?;
            if matches!(low, 0xdc00..=0xdfff) {
                self.at += 6;
                let c = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
        self.note(Rule::LoneSurrogate);
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn unit(&mut self, at: usize) -> std::result::Result<u32, Wrong> {
        let digits = self.bytes.get(at..at + 4).unwrap_or_default();
        let unit = digits.iter().try_fold(0, |n, c| Some(n << 4 | (*c as char).to_digit(16)?));
        match unit {
            Some(unit) if digits.len() == 4 => Ok(unit),
            _ => {
                self.at = at;
                Err(self.wrong("expected four hexadecimal digits"))
            }
        }
    }

    fn digits(&mut self) -> std::result::Result<usize, Wrong> {
        let count = self.bytes[self.at..].iter().take_while(|c| c.is_ascii_digit()).count();
        self.at += count;
        match count {
            0 => Err(self.wrong("expected a digit")),
            count => Ok(count),
        }
    }

    fn number(&mut self) -> std::result::Result<(), Wrong> {
        let start = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        let first = self.bytes.get(self.at).copied();
        let digits = match first {
            // RFC 8259 §6: no leading zeros; a digit after 0 is then not what was expected.
            Some(b'0') => {
                self.at += 1;
                1
            }
            _ => self.digits()?,
        };
        let mut plain = true;
        if self.bytes.get(self.at) == Some(&b'.') {
            plain = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            plain = false;
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let negative_zero = first == Some(b'0') && self.bytes[start] == b'-';
        // Integers of up to 15 digits are what they say.
        if self.keep && !(plain && digits <= 15 && !negative_zero) {
            let text = self.text.get(start..self.at).unwrap_or_default();
            if let Some(rule) = number_rule(text) {
                self.note(rule);
            }
        }
        self.push(Kind::Number, false, start, 0, 0);
        Ok(())
    }

    #[cold]
    fn wrong(&self, what: &'static str) -> Wrong {
        Wrong { at: self.at, what }
    }
}

/// A decimal number without its noise: `0.<digits> × 10^point`, digits neither beginning nor ending with a zero.
/// Zero has no digits.
pub(crate) struct Decimal {
    pub(crate) negative: bool,
    pub(crate) digits: [u8; Decimal::DIGITS_MAX],
    pub(crate) count: usize,
    pub(crate) point: i64,
    /// There were more digits than any double's shortest form has.
    pub(crate) cut: bool,
}

impl Decimal {
    /// One more than the 17 a double's shortest form can have.
    pub(crate) const DIGITS_MAX: usize = 18;

    /// Of a number by RFC 8259's grammar (or Rust's `{:e}`).
    pub(crate) fn of(text: &str) -> Decimal {
        let mut decimal =
            Decimal { negative: false, digits: [b'0'; Self::DIGITS_MAX], count: 0, point: 0, cut: false };
        let mut fraction = false;
        // Zeros are held back until a digit follows: those at the end do not count.
        let mut zeros = 0_usize;
        let mut exponent = "";
        for (at, c) in text.bytes().enumerate() {
            match c {
                b'-' => decimal.negative = true,
                b'.' => fraction = true,
                b'0'..=b'9' => {
                    let leading = decimal.count == 0 && c == b'0';
                    decimal.point += match (fraction, leading) {
                        (false, false) => 1,
                        (true, true) => -1,
                        (false, true) | (true, false) => 0,
                    };
                    if c == b'0' {
                        zeros += usize::from(!leading);
                        continue;
                    }
                    let place = decimal.count + zeros;
                    match decimal.digits.get_mut(place) {
                        Some(slot) => {
                            *slot = c;
                            decimal.count = place + 1;
                        }
                        None => decimal.cut = true,
                    }
                    zeros = 0;
                }
                _ => {
                    exponent = text.get(at + 1..).unwrap_or_default();
                    break;
                }
            }
        }
        let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
        if !exponent.is_empty() {
            // More than any i64 is more than any double.
            let huge = if exponent.starts_with('-') { i64::MIN / 4 } else { i64::MAX / 4 };
            let exponent = exponent.parse::<i64>().unwrap_or(huge).clamp(i64::MIN / 4, i64::MAX / 4);
            decimal.point += exponent;
        }
        decimal
    }

    /// Whether it is zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.count == 0 && !self.cut
    }

    /// Whether a double's shortest form is certain to be these digits: any 15 digits survive the way through a
    /// double and back, so two decimals that short never share one.
    pub(crate) fn is_short(&self) -> bool {
        !self.cut && self.count <= 15 && (-290..=290).contains(&self.point)
    }

    fn same(&self, other: &Decimal) -> bool {
        self.digits[..self.count] == other.digits[..other.count]
            && self.point == other.point
            && self.negative == other.negative
    }
}

/// The rule a number breaks, if any.
fn number_rule(text: &str) -> Option<Rule> {
    let decimal = Decimal::of(text);
    if decimal.is_zero() {
        return decimal.negative.then_some(Rule::NegativeZero);
    }
    if !decimal.cut && decimal.count as i64 <= decimal.point {
        // Integral. 2^53 − 1 has 16 digits.
        if decimal.point > 16 {
            return Some(Rule::IntegerTooLarge);
        }
        let digits = decimal.digits[..decimal.count].iter().chain(std::iter::repeat(&b'0'));
        let value = digits.take(decimal.point as usize).fold(0, |n, c| n * 10 + u64::from(c - b'0'));
        return (value > INTEGER_MAX).then_some(Rule::IntegerTooLarge);
    }
    if decimal.is_short() {
        return None;
    }
    if decimal.cut {
        return Some(if decimal.point > 16 { Rule::IntegerTooLarge } else { Rule::NumberNotExact });
    }
    let exact = match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value != 0.0 => decimal.same(&Decimal::of(&format!("{value:e}"))),
        _ => false,
    };
    (!exact).then_some(Rule::NumberNotExact)
}
