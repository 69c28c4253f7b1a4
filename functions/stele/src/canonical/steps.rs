//! Steps over JSON that stands in canonical form (RFC 8785) and keeps design §5's rules: one pass, no tape, nothing
//! copied.
//!
//! It knows one answer: this is such a text, beyond doubt. Whatever is not, or is rare enough to be left out (keys with
//! escapes), stops it, and is for [`crate::json::Json`] and the writer of canonical forms to judge and to name.

use super::write_number;
use crate::json::{Kind, number_rule, plain, utf16_order};
use crate::limits::JSON_DEPTH_MAX;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A text that is stepped over. Each step gives `None` where the text is not what was asked for, or not canonical: then
/// nothing more can be learnt from it.
pub(crate) struct Steps<'a> {
    text: &'a str,
    at: usize,
}

/// An object under way: what must stand before its next member.
pub(crate) struct Under(u8);

impl<'a> Steps<'a> {
    pub(crate) fn over(text: &'a [u8]) -> Option<Steps<'a>> {
        Some(Steps { text: std::str::from_utf8(text).ok()?, at: 0 })
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Steps over these bytes if they are next.
    #[inline(always)]
    fn skip(&mut self, next: &str) -> bool {
        let is_next = self.rest().starts_with(next.as_bytes());
        if is_next {
            self.at += next.len();
        }
        is_next
    }

    /// Begins an object, whose members are then asked for in their order.
    #[inline]
    pub(crate) fn object(&self) -> Under {
        Under(b'{')
    }

    /// Steps over a key, given with its quotes and its colon, if it is the next member's.
    #[inline(always)]
    pub(crate) fn member(&mut self, object: &mut Under, key: &str) -> bool {
        let is_next = match self.rest() {
            [before, rest @ ..] => *before == object.0 && rest.starts_with(key.as_bytes()),
            [] => false,
        };
        if is_next {
            self.at += 1 + key.len();
            object.0 = b',';
        }
        is_next
    }

    /// Ends an object that has members, all of which were asked for.
    #[inline]
    pub(crate) fn end(&mut self, object: Under) -> Option<()> {
        (object.0 == b',' && self.skip("}")).then_some(())
    }

    /// The characters of a string.
    #[inline]
    pub(crate) fn text(&mut self) -> Option<Cow<'a, str>> {
        match self.string()? {
            (between, false) => Some(Cow::Borrowed(between)),
            (between, true) => unescaped(between).map(Cow::Owned),
        }
    }

    /// Any array or any object, within one other, as it stands.
    pub(crate) fn raw(&mut self, kind: Kind) -> Option<&'a str> {
        let start = self.at;
        match (kind, self.peek()?) {
            (Kind::Array, b'[') | (Kind::Object, b'{') => self.value(1)?,
            _ => return None,
        }
        self.text.get(start..self.at)
    }

    /// A string: what stands between its quotes, and whether there are escapes in it.
    #[inline]
    fn string(&mut self) -> Option<(&'a str, bool)> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        let mut is_escaped = false;
        loop {
            let rest = bytes.get(at..)?;
            let ahead = plain(rest);
            at += ahead;
            match rest.get(ahead)? {
                b'"' => break,
                b'\\' => {
                    at += escape(&rest[ahead..])?;
                    is_escaped = true;
                }
                _ => return None,
            }
        }
        self.at = at + 1;
        Some((self.text.get(start..at)?, is_escaped))
    }

    /// A value inside so many containers.
    fn value(&mut self, containers: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' => self.members(containers),
            b'[' => self.items(containers),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.skip("true").then_some(()),
            b'f' => self.skip("false").then_some(()),
            b'n' => self.skip("null").then_some(()),
            _ => None,
        }
    }

    fn members(&mut self, containers: usize) -> Option<()> {
        if containers == JSON_DEPTH_MAX {
            return None;
        }
        self.at += 1;
        if self.skip("}") {
            return Some(());
        }
        let mut last: Option<&str> = None;
        loop {
            let (key, is_escaped) = self.string()?;
            let is_in_order = last.is_none_or(|last| utf16_order(last, key) == Ordering::Less);
            if is_escaped || key.starts_with('$') || !is_in_order || !self.skip(":") {
                return None;
            }
            last = Some(key);
            self.value(containers + 1)?;
            if !self.skip(",") {
                return self.skip("}").then_some(());
            }
        }
    }

    fn items(&mut self, containers: usize) -> Option<()> {
        if containers == JSON_DEPTH_MAX {
            return None;
        }
        self.at += 1;
        if self.skip("]") {
            return Some(());
        }
        loop {
            self.value(containers + 1)?;
            if !self.skip(",") {
                return self.skip("]").then_some(());
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        let is_numeric = |c: &&u8| matches!(c, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = self.rest().iter().take_while(is_numeric).count();
        let text = self.text.get(self.at..self.at + length)?;
        self.at += length;
        let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
        let is_plain = matches!(digits, [b'1'..=b'9', ..]) && digits.iter().all(u8::is_ascii_digit);
        if text == "0" || is_plain && digits.len() <= 15 {
            return Some(());
        }
        // The writer takes digits as they stand.
        if matches!(digits, [] | [b'0', b'0'..=b'9', ..]) {
            return None;
        }
        // All else is written as a number, so that a text that is the same is one too.
        let mut written = Vec::new();
        write_number(text, &mut written);
        (number_rule(text).is_none() && written == text.as_bytes()).then_some(())
    }
}

/// How long the escape is that some bytes begin with: RFC 8785 §3.2.2.2 knows one for each character that needs one, and
/// U+0000 is in no leaf.
#[inline]
fn escape(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(2),
        [_, b'u', b'0', b'0', high @ (b'0' | b'1'), low, ..] => {
            let low = match low {
                b'0'..=b'9' => low - b'0',
                b'a'..=b'f' => low - b'a' + 10,
                _ => return None,
            };
            let is_short = matches!((high - b'0') << 4 | low, 0 | 0x8..=0xa | 0xc | 0xd);
            (!is_short).then_some(6)
        }
        _ => None,
    }
}

/// The characters of a string whose escapes are canonical.
#[inline(never)]
fn unescaped(between: &str) -> Option<String> {
    let mut characters = String::with_capacity(between.len());
    let mut rest = between;
    while let Some((before, escape)) = rest.split_once('\\') {
        characters.push_str(before);
        let (c, length) = match escape.as_bytes().first()? {
            b'b' => ('\u{8}', 1),
            b'f' => ('\u{c}', 1),
            b'n' => ('\n', 1),
            b'r' => ('\r', 1),
            b't' => ('\t', 1),
            // Behind `u` and two zeros.
            b'u' => (char::from(u8::from_str_radix(escape.get(3..5)?, 16).ok()?), 5),
            c => (char::from(*c), 1),
        };
        characters.push(c);
        rest = escape.get(length..)?;
    }
    characters.push_str(rest);
    Some(characters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::canonicalize;
    use crate::json::Json;
    use proptest::prelude::*;

    fn is_canonical(text: &str) -> bool {
        let mut steps = Steps { text, at: 0 };
        steps.value(0).is_some() && steps.is_at_end()
    }

    /// The same by the reader and the writer.
    fn is_canonical_slowly(text: &str) -> bool {
        Json::parse(text.as_bytes()).is_ok_and(|_| canonicalize(text.as_bytes()).unwrap() == text.as_bytes())
    }

    #[test]
    fn what_is_canonical_passes_and_nothing_else() {
        let depth = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for good in [
            r#"{"":null,"a":[true,false,{},[]],"b":{"c":"\"\\\b\f\n\r\t\u0001\u000b\u001f/ü€😀"}}"#,
            "[0,-1,999999999999999,9007199254740991,0.5,-0.25,1e-7,123456789.125,5e-324]",
            "{\"\u{1f602}\":1,\"\u{fb33}\":2}",
            &depth(JSON_DEPTH_MAX),
        ] {
            assert!(is_canonical(good) && is_canonical_slowly(good), "{good}");
        }
        for bad in [
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"$a":1}"#,
            r#"{"a":1,}"#,
            r#"{"a":1 }"#,
            r#"{"a" :1}"#,
            r#"{,"a":1}"#,
            r#"{"a":1"#,
            r#"["a" ]"#,
            "[1,]",
            "[,1]",
            "[1 2]",
            r#""\/""#,
            r#""\u0000""#,
            r#""\u0008""#,
            r#""\u000A""#,
            r#""\u0041""#,
            r#""\ud83d\ude00""#,
            "\"\u{1}\"",
            "\"a",
            "01",
            "-0",
            "1.0",
            "1e3",
            "1.2.3",
            "--1",
            "9007199254740992",
            "0.30000000000000001",
            "tru",
            "nul",
            "True",
            "{\"\u{fb33}\":1,\"\u{1f602}\":2}",
            &depth(JSON_DEPTH_MAX + 1),
        ] {
            assert!(!is_canonical(bad) && !is_canonical_slowly(bad), "{bad}");
        }
    }

    #[test]
    fn members_are_asked_for_in_order() {
        let mut steps = Steps::over(br#"{"a":"\n","c":{"x":[1]}}"#).unwrap();
        let mut object = steps.object();
        assert!(steps.member(&mut object, "\"a\":"));
        assert_eq!(steps.text().unwrap(), "\n");
        assert!(!steps.member(&mut object, "\"b\":"));
        assert!(steps.member(&mut object, "\"c\":"));
        assert_eq!(steps.raw(Kind::Object), Some(r#"{"x":[1]}"#));
        assert!(steps.end(object).is_some() && steps.is_at_end());
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "\\PC{0,6}".prop_map(Into::into),
            "[\\x00-\\x20\"\\\\a-c]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[$a-cé-😀]{0,3}", inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn escapes_are_undone_as_the_reader_does(text in "[\\x01-\\x20\"\\\\a-cü😀]{0,12}") {
            let sent = canonicalize(serde_json::to_string(&text).unwrap().as_bytes()).unwrap();
            prop_assert_eq!(Steps::over(&sent).unwrap().text().unwrap(), text);
        }

        /// A text that passes is canonical; one that is passes, but for keys with escapes.
        #[test]
        fn it_agrees_with_reader_and_writer(value in value(), at: prop::sample::Index, with in "[\\[\\]{}:,\"0-9eE.+ \\\\utrn$-]?") {
            if let Ok(text) = canonicalize(value.to_string().as_bytes()) {
                let text = String::from_utf8(text).unwrap();
                prop_assert_eq!(is_canonical(&text), is_canonical_slowly(&text), "{}", text);
                let at = (at.index(text.len() + 1)..).find(|at| text.is_char_boundary(*at)).unwrap();
                let mut spoilt = text.clone();
                if let Some(c) = text[at..].chars().next() {
                    spoilt.replace_range(at..at + c.len_utf8(), &with);
                } else {
                    spoilt.push_str(&with);
                }
                let has_escaped_key = spoilt.contains('\\');
                let (quickly, slowly) = (is_canonical(&spoilt), is_canonical_slowly(&spoilt));
                prop_assert!(!quickly || slowly, "{}", spoilt);
                prop_assert!(quickly || !slowly || has_escaped_key, "{}", spoilt);
            }
        }
    }
}
