//! The reading itself: RFC 8259's grammar without recursion, one pass, and the rules of design §5 on the way.

use super::number::number_rule;
use super::{Kind, Node, Rule, Slot, problem, quoted};
use crate::error::{Code, Error, Result};
use crate::limits::JSON_DEPTH_MAX;

/// Broken rules noted per text; one more tells the sender nothing new.
const BROKEN_MAX: usize = 32;
/// Objects of up to so many members are searched for a repeated key as they grow, larger ones sorted at their end.
const MEMBERS_COMPARED_MAX: u32 = 32;

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

/// How many bytes come before the first that is a quote, a backslash or a control character, 8 at a time.
#[inline]
pub(crate) fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut skipped = 0;
    for chunk in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("chunks_exact gives 8 bytes"));
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        // The lowest set bit is exact: borrows only run upwards.
        let special = (word.wrapping_sub(ONES * 0x20) & !word
            | quote.wrapping_sub(ONES) & !quote
            | backslash.wrapping_sub(ONES) & !backslash)
            & HIGH;
        if special != 0 {
            return skipped + (special.trailing_zeros() / 8) as usize;
        }
        skipped += 8;
    }
    skipped + bytes[skipped..].iter().take_while(|c| !matches!(c, b'"' | b'\\' | 0..0x20)).count()
}

pub(super) fn checked(text: &[u8]) -> Result<&str> {
    let wrong = match std::str::from_utf8(text) {
        Ok(text) if text.starts_with('\u{feff}') => Wrong { at: 0, what: "a byte order mark is not allowed" },
        Ok(text) if u32::try_from(text.len()).is_err() => Wrong { at: 0, what: "the text is too long" },
        Ok(text) => return Ok(text),
        Err(e) => Wrong { at: e.valid_up_to(), what: "invalid UTF-8" },
    };
    Err(wrong.error("", String::new()))
}

/// Why a text is not JSON, and where.
pub(super) struct Wrong {
    at: usize,
    what: &'static str,
}

impl Wrong {
    pub(super) fn error(self, text: &str, pointer: String) -> Error {
        let found = match text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!(", found {}", quoted(c.encode_utf8(&mut [0; 4]))),
            None if !text.is_empty() => ", found the end".to_owned(),
            None => String::new(),
        };
        let detail = format!("{} at byte {}{found}", self.what, self.at);
        Error::new(Code::MalformedJson, detail.clone()).with_problems(vec![problem(
            pointer,
            "malformed_json",
            detail,
        )])
    }
}

pub(super) struct Open {
    pub(super) node: u32,
    pub(super) object: bool,
    /// Values begun in it.
    pub(super) count: u32,
    /// One bit per key, by a small hash: a bit that is free proves the key new.
    keys: u64,
}

pub(super) struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Whether a tape is made; without, only the syntax is checked.
    keep: bool,
    pub(super) slots: Vec<Slot>,
    pub(super) unescaped: String,
    pub(super) broken: Vec<(Node, Rule)>,
    pub(super) open: Vec<Open>,
    pub(super) duplicate: Option<Node>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, keep: bool) -> Reader<'a> {
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

    pub(super) fn text(&mut self) -> std::result::Result<(), Wrong> {
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

    fn split(
        &mut self,
        name: &str,
        items_max: usize,
        split: &mut Split<'a>,
    ) -> std::result::Result<(), Wrong> {
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
        let again =
            keys.windows(2).find(|pair| self.chars(pair[0]) == self.chars(pair[1])).map(|pair| pair[1]);
        if let Some(key) = again {
            self.duplicate = self.worth_naming(key);
        }
    }

    fn worth_naming(&self, key: usize) -> Option<Node> {
        (self.open.len() <= JSON_DEPTH_MAX).then_some(Node(key as u32))
    }

    #[inline]
    fn after_value(&self, at: usize) -> usize {
        match self.slots[at].kind {
            Kind::Array | Kind::Object => self.slots[at].a as usize,
            _ => at + 1,
        }
    }

    #[inline]
    fn chars(&self, at: usize) -> &str {
        let slot = &self.slots[at];
        match slot.escaped {
            true => &self.unescaped[slot.a as usize..slot.b as usize],
            false => &self.text[slot.start as usize + 1..slot.end as usize - 1],
        }
    }

    #[inline]
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

    /// Steps over what needs no look: all but quotes, backslashes and control characters.
    #[inline]
    fn skip_plain(&mut self) {
        self.at += plain(&self.bytes[self.at..]);
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

    #[inline]
    fn digits(&mut self) -> std::result::Result<usize, Wrong> {
        let count = self.bytes[self.at..].iter().take_while(|c| c.is_ascii_digit()).count();
        self.at += count;
        match count {
            0 => Err(self.wrong("expected a digit")),
            count => Ok(count),
        }
    }

    #[inline]
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
