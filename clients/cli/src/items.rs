//! Events out of a file, one after the other, without ever holding more than one: NDJSON, a JSON array,
//! `{"events":[…]}`, or JSON texts one after the other.
//!
//! It finds where an event begins and ends, and no more: whether it is JSON at all is asked elsewhere.

use std::io::{self, BufRead, Chain, Cursor, Read};
use stele::limits::EVENT_BODY_BYTES_MAX;

/// How much is looked at to tell the form of a file whose name does not.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One event of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// The line it begins on, from 1.
    pub(crate) line: u64,
    /// What is there.
    pub(crate) found: Found,
}

/// What stands where an event should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its bytes, without white space around them.
    Text(Vec<u8>),
    /// So many bytes: more than any event has.
    TooLong(u64),
    /// The file ends within it, or within the array.
    Unfinished,
    /// Something follows the array.
    Beyond,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Lines,
    Texts,
    Array,
    /// The array of `{"events":[…]}`.
    Member,
    Ended,
}

/// The events of a file.
pub(crate) struct Items<R> {
    input: Chain<Cursor<Vec<u8>>, R>,
    form: Form,
    line: u64,
}

impl<R: BufRead> Items<R> {
    /// Of a file; `lines` where its name says that every line is an event.
    pub(crate) fn new(mut input: R, lines: bool) -> io::Result<Items<R>> {
        let mut head = Vec::new();
        while head.len() < HEAD_BYTES_MAX && !is_telling(&head) {
            let buffer = input.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let taken = match buffer.iter().position(|b| *b == b'\n') {
                Some(end) => end + 1,
                None => buffer.len(),
            };
            head.extend_from_slice(&buffer[..taken]);
            input.consume(taken);
        }
        if head.starts_with(BYTE_ORDER_MARK) {
            head.drain(..BYTE_ORDER_MARK.len());
        }
        let (form, skipped) = if lines { (Form::Lines, 0) } else { form(&head) };
        let line = 1 + head[..skipped].iter().filter(|b| **b == b'\n').count() as u64;
        head.drain(..skipped);
        Ok(Items { input: Cursor::new(head).chain(input), form, line })
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> io::Result<Option<Item>> {
        match self.form {
            Form::Lines => self.next_line(),
            Form::Texts => self.next_text(false),
            Form::Array | Form::Member => self.next_text(true),
            Form::Ended => Ok(None),
        }
    }

    fn next_line(&mut self) -> io::Result<Option<Item>> {
        loop {
            let (line, mut text) = (self.line, Text::default());
            let mut ended = false;
            while !ended {
                let buffer = self.input.fill_buf()?;
                if buffer.is_empty() {
                    break;
                }
                let end = buffer.iter().position(|b| *b == b'\n');
                ended = end.is_some();
                let taken = end.map_or(buffer.len(), |end| end + 1);
                text.extend(&buffer[..taken]);
                self.input.consume(taken);
            }
            self.line += 1;
            if text.bytes == 0 {
                return Ok(None);
            }
            let found = text.found();
            if found != Found::Text(Vec::new()) {
                return Ok(Some(Item { line, found }));
            }
        }
    }

    fn next_text(&mut self, in_array: bool) -> io::Result<Option<Item>> {
        let first = loop {
            match self.peek()? {
                None if in_array => return Ok(Some(self.end(Found::Unfinished))),
                None => return Ok(None),
                Some(b'\n') => self.line += 1,
                Some(b' ' | b'\t' | b'\r') => {}
                Some(b',') if in_array => {}
                Some(b']') if in_array => {
                    self.input.consume(1);
                    return self.after_array();
                }
                Some(first) => break first,
            }
            self.input.consume(1);
        };
        let (line, mut text) = (self.line, Text::default());
        let mut scan = Scan::default();
        let is_scalar = !matches!(first, b'{' | b'[' | b'"');
        loop {
            let Some(b) = self.peek()? else {
                if is_scalar {
                    break;
                }
                self.form = Form::Ended;
                return Ok(Some(Item { line, found: Found::Unfinished }));
            };
            if is_scalar && matches!(b, b',' | b']' | b' ' | b'\t' | b'\r' | b'\n') {
                // A bracket too many is an event of its own, so that reading goes on.
                if text.bytes > 0 {
                    break;
                }
            }
            self.input.consume(1);
            self.line += u64::from(b == b'\n');
            text.extend(&[b]);
            scan.step(b);
            if !is_scalar && scan.is_whole() {
                break;
            }
        }
        Ok(Some(Item { line, found: text.found() }))
    }

    /// Nothing may follow the array but the end of the object it is in.
    fn after_array(&mut self) -> io::Result<Option<Item>> {
        let mut open = self.form == Form::Member;
        loop {
            match self.peek()? {
                None if open => return Ok(Some(self.end(Found::Unfinished))),
                None => {
                    self.form = Form::Ended;
                    return Ok(None);
                }
                Some(b'\n') => self.line += 1,
                Some(b' ' | b'\t' | b'\r') => {}
                Some(b'}') if open => open = false,
                Some(_) => return Ok(Some(self.end(Found::Beyond))),
            }
            self.input.consume(1);
        }
    }

    fn end(&mut self, found: Found) -> Item {
        self.form = Form::Ended;
        Item { line: self.line, found }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.input.fill_buf()?.first().copied())
    }
}

/// Bytes of an event, kept as long as they can be one.
#[derive(Default)]
struct Text {
    kept: Vec<u8>,
    bytes: u64,
}

impl Text {
    fn extend(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        // Two more than an event may have: the end of its line.
        let room = (EVENT_BODY_BYTES_MAX + 2).saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn found(self) -> Found {
        let text = self.kept.trim_ascii();
        if self.bytes > self.kept.len() as u64 || text.len() > EVENT_BODY_BYTES_MAX {
            return Found::TooLong(self.bytes);
        }
        Found::Text(text.to_vec())
    }
}

/// How deep in brackets, and whether in a string.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    fn step(&mut self, b: u8) {
        match b {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn is_whole(&self) -> bool {
        self.depth == 0 && !self.in_string
    }
}

/// Whether the head of a file is enough to tell its form.
fn is_telling(head: &[u8]) -> bool {
    let text = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head).trim_ascii();
    match text.first() {
        Some(b'{') => head.ends_with(b"\n") && !is_beginning_of_events(text),
        Some(_) => true,
        None => false,
    }
}

/// The form of a file by its head, and how many bytes stand before its first event.
fn form(head: &[u8]) -> (Form, usize) {
    let start = head.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(head.len());
    match head.get(start) {
        Some(b'[') => return (Form::Array, start + 1),
        Some(b'{') => {}
        _ => return (Form::Lines, 0),
    }
    if let Some(length) = events_prefix(&head[start..]) {
        return (Form::Member, start + length);
    }
    let first = head[start..].split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii_end();
    let mut scan = Scan::default();
    first.iter().for_each(|b| scan.step(*b));
    // A torn first line of NDJSON rarely ends in a place where a JSON text is broken into lines.
    match !scan.is_whole() && matches!(first.last(), Some(b'{' | b'[' | b',' | b':')) {
        true => (Form::Texts, 0),
        false => (Form::Lines, 0),
    }
}

const EVENTS: [&[u8]; 4] = [b"{", b"\"events\"", b":", b"["];

/// The bytes up to and with the bracket in `{"events":[`.
fn events_prefix(text: &[u8]) -> Option<usize> {
    let mut rest = text;
    for token in EVENTS {
        rest = rest.trim_ascii_start().strip_prefix(token)?;
    }
    Some(text.len() - rest.len())
}

/// Whether a text may still turn out to begin with `{"events":[`.
fn is_beginning_of_events(text: &[u8]) -> bool {
    let mut rest = text;
    for token in EVENTS {
        rest = rest.trim_ascii_start();
        match rest.strip_prefix(token) {
            Some(after) => rest = after,
            None => return rest.is_empty(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn read(text: &str, lines: bool) -> Vec<(u64, String)> {
        // Small buffers: an event must not depend on where a read ends.
        let mut items = Items::new(BufReader::with_capacity(3, text.as_bytes()), lines).unwrap();
        let mut all = Vec::new();
        while let Some(item) = items.next().unwrap() {
            let shown = match item.found {
                Found::Text(text) => String::from_utf8(text).unwrap(),
                other => format!("{other:?}"),
            };
            all.push((item.line, shown));
        }
        all
    }

    fn items(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
    }

    #[test]
    fn every_form_gives_its_events_with_their_lines() {
        let two = items(&[(1, r#"{"a":1}"#), (3, r#"{"a":"}\"]"}"#)]);
        assert_eq!(read("{\"a\":1}\r\n\n{\"a\":\"}\\\"]\"}", false), two);
        assert_eq!(read("[{\"a\":1},\n\n{\"a\":\"}\\\"]\"}]\n", false), two);
        assert_eq!(read("{\"events\" : [{\"a\":1}\n,\n{\"a\":\"}\\\"]\"}] }", false), two);
        assert_eq!(read("\u{feff}{\"a\":1}\n \n{\"a\":\"}\\\"]\"}\n", false), two);
        assert_eq!(
            read("{\n\"a\":1\n}\n{\"b\":[2]}", false),
            items(&[(1, "{\n\"a\":1\n}"), (4, "{\"b\":[2]}")])
        );
        assert_eq!(read("{\n\"events\":\n[\n{}]}", false), items(&[(4, "{}")]));
        for empty in ["", " \n\n", "[]", "{\"events\":[]}"] {
            assert_eq!(read(empty, false), [], "{empty}");
        }
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let torn = "{\"a\":\n{\"b\":1}\n[\nx";
        assert_eq!(read(torn, true), items(&[(1, "{\"a\":"), (2, "{\"b\":1}"), (3, "["), (4, "x")]));
        assert_eq!(read("{\"a\":1\n{\"b\":1}", false), items(&[(1, "{\"a\":1"), (2, "{\"b\":1}")]));
    }

    #[test]
    fn what_ends_too_early_or_too_late_is_told() {
        assert_eq!(read("[{}", false), items(&[(1, "{}"), (1, "Unfinished")]));
        assert_eq!(read("[{},{\"a\":", false), items(&[(1, "{}"), (1, "Unfinished")]));
        assert_eq!(read("{\"events\":[{}]", false), items(&[(1, "{}"), (1, "Unfinished")]));
        assert_eq!(read("{\"events\":[{}],\"more\":1}", false), items(&[(1, "{}"), (1, "Beyond")]));
        assert_eq!(read("[1, x,\"s\"]", false), items(&[(1, "1"), (1, "x"), (1, "\"s\"")]));
        assert_eq!(read("{\n}\n]\n}", false), items(&[(1, "{\n}"), (3, "]"), (4, "}")]));
    }

    #[test]
    fn a_line_too_long_is_passed_over() {
        let long = format!("{{\"a\":\"{}\"}}\n{{}}\n", "x".repeat(EVENT_BODY_BYTES_MAX));
        assert_eq!(read(&long, true), items(&[(1, &format!("TooLong({})", long.len() - 3)), (2, "{}")]));
    }
}
