//! The filter language: the text `q` read as an expression. What is wrong with it is told with its place and, where
//! there is one, with what was probably meant.
//!
//! ```text
//! query  := clause*                          side by side: all of them
//! clause := ("-" | "NOT ")? ( "(" query (" OR " query)* ")" | term | text )
//! term   := field ":" value ("," value)*     listed, and a field that is named twice: any of them
//! value  := (">" | ">=" | "<" | "<=")? atom | atom ".." atom | prefix "*" | "*"
//! ```

use super::expression::{
    Expression, Field, Interval, Moment, Network, Number, Numbers, Side, State, Test, fold,
};
use super::print::{name as printed_name, shown};
use crate::error::{Code, Error, FieldProblem, Position, Result};
use crate::event::{ACTOR_TYPES, OUTCOMES};
use crate::id::EventId;
use crate::json::push_token;
use crate::limits;
use crate::routes::{Shown, distance};
use crate::time::{DAY_MS, Day, TimeError, Timestamp};
use std::net::IpAddr;

/// Every field that has no path, as it can be named, and which it is; `actor` is either of two.
const FIELDS: [(&str, Field); 24] = [
    ("action", Field::Action),
    ("actor", Field::ActorId),
    ("actor.id", Field::ActorId),
    ("actor.type", Field::ActorType),
    ("actor.name", Field::ActorName),
    ("actor.email", Field::ActorEmail),
    ("resource", Field::ResourceId),
    ("resource.id", Field::ResourceId),
    ("resource.type", Field::ResourceType),
    ("resource.name", Field::ResourceName),
    ("outcome", Field::Outcome),
    ("reason", Field::Reason),
    ("ip", Field::Ip),
    ("ua", Field::UserAgent),
    ("session", Field::Session),
    ("request", Field::Request),
    ("trace", Field::Trace),
    ("id", Field::Id),
    ("external_id", Field::ExternalId),
    ("key", Field::Key),
    ("description", Field::Description),
    ("time", Field::Time),
    ("received", Field::Received),
    ("is", Field::State),
];

/// Names that others use, and ours.
const OTHER_NAMES: [(&str, &str); 16] = [
    ("user", "actor"),
    ("user_id", "actor"),
    ("email", "actor.email"),
    ("name", "actor.name"),
    ("type", "resource.type"),
    ("target", "resource"),
    ("event", "action"),
    ("verb", "action"),
    ("result", "outcome"),
    ("status", "outcome"),
    ("date", "time"),
    ("timestamp", "time"),
    ("occurred_at", "time"),
    ("created", "time"),
    ("user_agent", "ua"),
    ("state", "is"),
];

/// Reads a filter.
///
/// # Errors
/// `bad_filter` with the place and, where there is one, a suggestion.
pub fn parse(text: &str) -> Result<Expression> {
    let mut parser = Parser { text, at: 0, depth: 0, conditions: 0 };
    if text.len() > limits::FILTER_BYTES_MAX {
        let mut end = limits::FILTER_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let detail = format!("the filter is longer than {} bytes", limits::FILTER_BYTES_MAX);
        return Err(parser.wrong(end, "filter_too_long", detail, None));
    }
    let all = parser.query()?;
    match parser.peek() {
        None => Ok(all),
        Some(')') => Err(parser.syntax(parser.at, "this bracket was never opened", None)),
        Some(_) => {
            let detail = "`OR` stands in brackets only, so that it is plain how far it reaches";
            let whole = (text.len() <= 200).then(|| format!("({})", text.trim()));
            Err(parser.syntax(parser.at, detail, whole))
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    conditions: usize,
}

/// An atom as written.
#[derive(Clone)]
struct Written {
    at: usize,
    text: String,
    quoted: bool,
}

/// A value as written.
enum Value {
    Any(usize),
    Prefix(Written),
    Compared { above: bool, included: bool, with: Written },
    Range(Written, Written),
    Is(Written),
}

/// What a field may be compared by.
struct Named {
    at: usize,
    /// As it was written.
    text: String,
    field: Field,
    /// `actor`, which is an id or an e-mail address.
    either: bool,
    /// Of changes: `.after` was said.
    sided: bool,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, what: char) -> bool {
        let there = self.peek() == Some(what);
        if there {
            self.at += what.len_utf8();
        }
        there
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Whether a word stands here alone.
    fn at_word(&self, word: &str) -> bool {
        let behind = self.rest().strip_prefix(word).map(|rest| rest.chars().next());
        behind.is_some_and(|next| next.is_none_or(|c| c.is_whitespace() || matches!(c, '(' | ')')))
    }

    /// Clauses up to a closing bracket, an `OR`, or the end.
    fn query(&mut self) -> Result<Expression> {
        let mut parts = Vec::new();
        let mut fields: Vec<Repeated> = Vec::new();
        loop {
            self.space();
            if self.peek().is_none_or(|c| c == ')') || self.at_word("OR") {
                break;
            }
            let begun = self.at;
            if self.at_word("AND") {
                let detail = "conditions side by side must all hold: leave `AND` out";
                return Err(self.syntax(begun, detail, Some("\"AND\"".to_owned())));
            }
            let negated = if self.at_word("NOT") {
                self.at += "NOT".len();
                self.space();
                true
            } else {
                self.take('-')
            };
            let part = match self.peek() {
                None => {
                    return Err(self.syntax(begun, "nothing follows what negates it", None));
                }
                Some(c) if negated && (c.is_whitespace() || matches!(c, ')' | '-') || self.at_word("OR")) => {
                    return Err(self.syntax(begun, "nothing follows what negates it", None));
                }
                Some('(') => self.group()?,
                Some('"') => self.free_text()?,
                Some(_) => match self.named()? {
                    None => self.free_text()?,
                    Some(named) => {
                        let term = self.term(named)?;
                        if negated {
                            self.either(term)?
                        } else {
                            // A field that is named twice means either.
                            match fields.iter_mut().find(|before| before.key == term.key) {
                                Some(before) => before.values.extend(term.values),
                                None => fields.push(term),
                            }
                            continue;
                        }
                    }
                },
            };
            parts.push(if negated { part.negated() } else { part });
        }
        for repeated in fields {
            parts.push(self.either(repeated)?);
        }
        Ok(Expression::all(parts))
    }

    /// Values of one field, any of which may hold. Opposite bounds that overlap would hold for everything, which is not
    /// what anybody wants who writes them side by side.
    fn either(&self, repeated: Repeated) -> Result<Expression> {
        let Repeated { at, name, values, .. } = repeated;
        for (lower, lower_text) in &values {
            for (upper, upper_text) in &values {
                if covers_all(lower, upper) {
                    let detail = format!(
                        "values of one field mean either, and one of these two bounds of `{}` always holds",
                        Shown(&name)
                    );
                    let meant = format!("({name}:{lower_text}) ({name}:{upper_text})");
                    return Err(self.wrong(at, "contradiction", detail, Some(meant)));
                }
            }
        }
        Ok(Expression::any(values.into_iter().map(|(condition, _)| condition)))
    }

    fn group(&mut self) -> Result<Expression> {
        let begun = self.at;
        self.at += 1;
        self.depth += 1;
        if self.depth > limits::FILTER_DEPTH_MAX {
            let detail = format!("brackets are nested deeper than {} levels", limits::FILTER_DEPTH_MAX);
            return Err(self.wrong(begun, "filter_too_deep", detail, None));
        }
        let mut alternatives = Vec::new();
        loop {
            self.space();
            let from = self.at;
            if self.peek() == Some(')') || self.at_word("OR") {
                return Err(self.syntax(from, "a condition is missing here", None));
            }
            alternatives.push(self.query()?);
            match self.peek() {
                Some(')') => break,
                Some(_) => self.at += "OR".len(),
                None => return Err(self.syntax(begun, "this bracket is never closed", None)),
            }
        }
        self.at += 1;
        self.depth -= 1;
        self.ends("a bracket")?;
        Ok(Expression::any(alternatives))
    }

    /// After a clause comes a space, a bracket that closes, or the end.
    fn ends(&self, what: &str) -> Result<()> {
        match self.peek() {
            None | Some(')') => Ok(()),
            Some(c) if c.is_whitespace() => Ok(()),
            Some(c) => {
                let detail = format!("`{}` follows {what} without a space", Shown(&c.to_string()));
                Err(self.syntax(self.at, detail, None))
            }
        }
    }

    fn free_text(&mut self) -> Result<Expression> {
        let written = self.written(&[','])?;
        if !written.quoted {
            if let Some(star) = written.text.find('*') {
                let detail = "text is found anywhere, so that a star has no meaning in it: leave it out, or quote the text";
                let without = written.text.replace('*', "");
                let meant = (!without.is_empty()).then_some(without);
                return Err(self.syntax(written.at + star, detail, meant));
            }
            if self.peek() == Some(',') {
                let detail = "a comma lists values of a field; text with a comma in it is quoted";
                return Err(self.syntax(self.at, detail, None));
            }
        }
        self.ends("a text")?;
        self.count(written.at)?;
        Ok(Expression::is(Field::Text, Test::Contains(fold(&written.text))))
    }

    fn count(&mut self, at: usize) -> Result<()> {
        self.conditions += 1;
        if self.conditions > limits::FILTER_CONDITIONS_MAX {
            let detail = format!("the filter has more than {} conditions", limits::FILTER_CONDITIONS_MAX);
            return Err(self.wrong(at, "too_many_conditions", detail, None));
        }
        Ok(())
    }

    /// A quoted text, or characters up to a space, a bracket, a quote or one of `ends`.
    fn written(&mut self, ends: &[char]) -> Result<Written> {
        let begun = self.at;
        if self.take('"') {
            let mut text = String::new();
            loop {
                let at = self.at;
                let Some(c) = self.peek() else {
                    return Err(self.syntax(begun, "this quote is never closed", None));
                };
                self.at += c.len_utf8();
                match c {
                    '"' => break,
                    '\\' => match self.peek() {
                        Some(c @ ('"' | '\\')) => {
                            self.at += 1;
                            text.push(c);
                        }
                        _ => {
                            let detail = "in quotes, a backslash stands before a quote or a backslash only";
                            return Err(self.syntax(at, detail, Some("\\\\".to_owned())));
                        }
                    },
                    c => text.push(c),
                }
            }
            if text.is_empty() {
                return Err(self.syntax(begun, "there is nothing between these quotes", None));
            }
            return Ok(Written { at: begun, text, quoted: true });
        }
        let rest = self.rest();
        let is_end = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"') || ends.contains(&c);
        let end = rest.find(is_end).unwrap_or(rest.len());
        self.at += end;
        Ok(Written { at: begun, text: rest[..end].to_owned(), quoted: false })
    }

    /// A field and its colon, if one stands here.
    fn named(&mut self) -> Result<Option<Named>> {
        let begun = self.at;
        let rest = self.rest();
        let is_end = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | ',' | ':');
        let end = rest.find(is_end).unwrap_or(rest.len());
        let head = &rest[..end];
        let field = match head.split_once('.').map_or(head, |(first, _)| first) {
            "metadata" if head.contains('.') => self.metadata_field()?,
            "changes" if head.contains('.') => self.changes_field()?,
            _ if !rest[end..].starts_with(':') => return Ok(None),
            "metadata" | "changes" if !head.contains('.') => {
                let example = if head == "metadata" { "metadata.plan" } else { "changes./plan" };
                let detail = format!("`{head}` needs to be told which one: `{example}`");
                return Err(self.wrong(begun, "unknown_field", detail, Some(example.to_owned())));
            }
            _ => {
                self.at += end;
                let Some((_, field)) = FIELDS.iter().find(|(name, _)| *name == head) else {
                    return Err(self.unknown_field(begun, head));
                };
                (field.clone(), false)
            }
        };
        let (field, sided) = field;
        if !self.take(':') {
            // `metadata.plan` without a colon is text.
            let whole = self.text.get(begun..self.at).unwrap_or_default();
            if whole.contains('"') {
                let detail = format!("`:` and a value are missing after `{}`", Shown(whole));
                return Err(self.syntax(self.at, detail, None));
            }
            self.at = begun;
            return Ok(None);
        }
        let text = self.text.get(begun..self.at - 1).unwrap_or_default().to_owned();
        Ok(Some(Named { at: begun, either: text == "actor", text, field, sided }))
    }

    fn metadata_field(&mut self) -> Result<(Field, bool)> {
        self.at += "metadata".len();
        let mut keys = Vec::new();
        while self.take('.') {
            let key = self.written(&['.', ':', ','])?;
            if key.text.is_empty() {
                return Err(self.syntax(key.at, "a key of metadata is missing here", None));
            }
            keys.push(key.text);
        }
        Ok((Field::Metadata(keys), false))
    }

    fn changes_field(&mut self) -> Result<(Field, bool)> {
        self.at += "changes.".len();
        let begun = self.at;
        let mut sided = None;
        let mut path = String::new();
        if self.peek() == Some('/') {
            let mut pointer = self.written(&[':', ','])?.text;
            for (suffix, side) in [(".before", Side::Before), (".after", Side::After)] {
                if let Some(shorter) = pointer.strip_suffix(suffix) {
                    (pointer, sided) = (shorter.to_owned(), Some(side));
                    break;
                }
            }
            path = pointer;
        } else {
            let mut parts = Vec::new();
            loop {
                let part = self.written(&['.', ':', ','])?;
                if part.text.is_empty() {
                    return Err(self.syntax(part.at, "a path into what changed is missing here", None));
                }
                parts.push(part);
                if !self.take('.') {
                    break;
                }
            }
            if parts.len() > 1
                && let Some(last) = parts.last().filter(|last| !last.quoted)
            {
                sided = match last.text.as_str() {
                    "before" => Some(Side::Before),
                    "after" => Some(Side::After),
                    _ => None,
                };
                if sided.is_some() {
                    parts.pop();
                }
            }
            match parts.as_slice() {
                [one] if one.quoted && one.text.starts_with('/') => path.clone_from(&one.text),
                parts => parts.iter().for_each(|part| push_token(&mut path, &part.text)),
            }
        }
        if path == "/" || path.is_empty() {
            return Err(self.syntax(begun, "a path into what changed is missing here", None));
        }
        Ok((Field::Changes { path, side: sided.unwrap_or(Side::After) }, sided.is_some()))
    }

    fn unknown_field(&self, at: usize, head: &str) -> Error {
        let other = OTHER_NAMES.iter().find(|(name, _)| *name == head).map(|(_, ours)| *ours);
        let lower = head.to_lowercase();
        let near = FIELDS.iter().map(|(name, _)| (distance(&lower, name), *name)).min();
        let near = near.filter(|(distance, name)| distance * 3 <= name.len()).map(|(_, name)| name);
        let meant = other.or(near);
        if head.is_empty() {
            return self.syntax(at, "a field is missing before this colon", None);
        }
        let detail = match meant {
            Some(_) => format!("there is no field `{}`", Shown(head)),
            None => format!("there is no field `{}`; text with a colon in it is quoted", Shown(head)),
        };
        self.wrong(at, "unknown_field", detail, meant.map(str::to_owned))
    }

    /// The values behind a field's colon.
    fn term(&mut self, named: Named) -> Result<Repeated> {
        let mut values = Vec::new();
        loop {
            let begun = self.at;
            let value = self.value(&named)?;
            self.count(begun)?;
            let condition = self.condition(&named, value)?;
            values.push((condition, self.text.get(begun..self.at).unwrap_or_default().to_owned()));
            if !self.take(',') {
                break;
            }
        }
        self.ends("a value")?;
        let key = if named.either { "actor".to_owned() } else { printed_name(&named.field) };
        Ok(Repeated { at: named.at, key, name: named.text, values })
    }

    fn value(&mut self, named: &Named) -> Result<Value> {
        let begun = self.at;
        let comparison = [(">=", true, true), (">", true, false), ("<=", false, true), ("<", false, false)]
            .into_iter()
            .find(|(sign, ..)| self.rest().starts_with(sign));
        if let Some((sign, above, included)) = comparison {
            self.at += sign.len();
            let with = self.atom(named)?;
            if self.rest().starts_with("..")
                || self.peek() == Some('*')
                || with.text.contains("..") && !with.quoted
            {
                let detail = format!("`{sign}` compares with one value, not with a range or a prefix");
                return Err(self.syntax(begun, detail, None));
            }
            return Ok(Value::Compared { above, included, with });
        }
        if self.peek() == Some('*') {
            self.at += 1;
            return Ok(Value::Any(begun));
        }
        let mut first = self.atom(named)?;
        if !first.quoted
            && let Some(dots) = first.text.find("..")
        {
            // What is behind them is read anew: it may be quoted.
            self.at = first.at + dots;
            first.text.truncate(dots);
        }
        if self.rest().starts_with("..") {
            let dots = self.at;
            self.at += 2;
            let last = if self.peek().is_none_or(|c| c.is_whitespace() || matches!(c, ')' | ',')) {
                None
            } else {
                Some(self.atom(named)?)
            };
            return match (first.text.is_empty(), last) {
                (false, Some(last)) => Ok(Value::Range(first, last)),
                (false, None) => {
                    let meant = format!("{}:>={}", named.text, shown(&first.text));
                    Err(self.syntax(dots, "a range has a value on both sides of `..`", Some(meant)))
                }
                (true, Some(last)) => {
                    let meant = format!("{}:<={}", named.text, shown(&last.text));
                    Err(self.syntax(dots, "a range has a value on both sides of `..`", Some(meant)))
                }
                (true, None) => Err(self.syntax(dots, "a range has a value on both sides of `..`", None)),
            };
        }
        if first.quoted && self.take('*') {
            return Ok(Value::Prefix(first));
        }
        if !first.quoted
            && let Some(star) = first.text.find('*')
        {
            if star + 1 < first.text.len() {
                let detail = "a star ends a prefix; elsewhere it is quoted";
                let meant = format!("{}:{}", named.text, shown(&first.text));
                return Err(self.syntax(first.at + star, detail, Some(meant)));
            }
            first.text.truncate(star);
            return Ok(Value::Prefix(first));
        }
        Ok(Value::Is(first))
    }

    /// A value's text, which must not be empty and must end where a value can.
    fn atom(&mut self, named: &Named) -> Result<Written> {
        let begun = self.at;
        let written = self.written(&[','])?;
        if written.text.is_empty() {
            let detail = format!(
                "a value is missing after `{}:`; `-{}:*` finds events without one",
                Shown(&named.text),
                Shown(&named.text)
            );
            return Err(self.syntax(begun, detail, None));
        }
        let in_range = !written.quoted && written.text.ends_with("..");
        if self.peek() == Some('(') || self.peek() == Some('"') && !in_range {
            let detail = "a value with a bracket or a quote in it is quoted as a whole";
            return Err(self.syntax(self.at, detail, None));
        }
        Ok(written)
    }

    /// One value of a field as a condition.
    fn condition(&self, named: &Named, value: Value) -> Result<Expression> {
        let field = named.field.clone();
        let one = |test| Ok(Expression::is(named.field.clone(), test));
        if let Value::Any(at) = value {
            return match field {
                Field::State => Err(self.bad_value(
                    at,
                    named,
                    "*",
                    "is not one of `recorded`, `sealed`, `archived`",
                    None,
                )),
                Field::Changes { path, side: Side::After } if !named.sided => {
                    Ok(Expression::is(Field::Changes { path, side: Side::Told }, Test::Exists))
                }
                _ => one(Test::Exists),
            };
        }
        match field {
            Field::Time | Field::Received => one(Test::Within(self.interval(named, value)?)),
            Field::Metadata(_) | Field::Changes { .. } => match value {
                Value::Compared { above, included, with } => {
                    let bound = Some((self.number(named, &with)?, included));
                    let (from, until) = if above { (bound, None) } else { (None, bound) };
                    one(Test::Number(Numbers { from, until }))
                }
                Value::Range(from, until) => {
                    let numbers = [self.number(named, &from)?, self.number(named, &until)?];
                    if numbers[0] > numbers[1] {
                        return Err(self.backwards(named, &from, &until));
                    }
                    let [from, until] = numbers.map(|number| Some((number, true)));
                    one(Test::Number(Numbers { from, until }))
                }
                Value::Prefix(prefix) => one(Test::Prefix(prefix.text)),
                Value::Is(whole) => one(Test::Equals(whole.text)),
                Value::Any(_) => one(Test::Exists),
            },
            _ => {
                let (written, prefix) = match value {
                    Value::Is(whole) => (whole, false),
                    Value::Prefix(prefix) => (prefix, true),
                    Value::Compared { with, .. } | Value::Range(with, _) => {
                        let detail = "takes no comparison and no range: only `time`, `received`, `metadata` and `changes` do";
                        return Err(self.bad_value(with.at, named, &with.text, detail, None));
                    }
                    Value::Any(_) => return one(Test::Exists),
                };
                self.text_condition(named, &written, prefix)
            }
        }
    }

    fn text_condition(&self, named: &Named, written: &Written, prefix: bool) -> Result<Expression> {
        let field = named.field.clone();
        let text = written.text.as_str();
        let no_prefix = |what: &str| {
            let detail = format!("takes {what}, not the beginning of one");
            self.bad_value(written.at, named, &format!("{text}*"), &detail, None)
        };
        let test = match field {
            Field::Id if prefix => return Err(no_prefix("a whole id")),
            Field::Id => match EventId::parse(text) {
                Some(id) => Test::Id(id),
                None => {
                    let detail = "is not an event's id, such as `evt_019de3f4-1f00-7abc-9def-0123456789ab`; ids of your own are `external_id`";
                    return Err(self.bad_value(written.at, named, text, detail, None));
                }
            },
            Field::State if prefix => return Err(no_prefix("a whole word")),
            Field::State => match State::ALL.iter().find(|(name, _)| *name == text) {
                Some((_, state)) => Test::State(*state),
                None => return Err(self.not_one_of(named, written, &State::ALL.map(|(name, _)| name))),
            },
            Field::Ip if prefix => {
                let detail = "takes a whole address or a network, such as `203.0.113.0/24`";
                let octets = text.trim_end_matches('.');
                let parts = octets.split('.').count();
                let padded = format!("{octets}{}", ".0".repeat(4_usize.saturating_sub(parts)));
                let meant = (parts < 4 && padded.parse::<IpAddr>().is_ok())
                    .then(|| format!("ip:{padded}/{}", 8 * parts));
                return Err(self.bad_value(written.at, named, &format!("{text}*"), detail, meant));
            }
            Field::Ip => Test::Network(self.network(named, written)?),
            Field::Outcome if !prefix && !OUTCOMES.contains(&text) => {
                return Err(self.not_one_of(named, written, &OUTCOMES));
            }
            Field::ActorType if !prefix && !ACTOR_TYPES.contains(&text) => {
                return Err(self.not_one_of(named, written, &ACTOR_TYPES));
            }
            Field::Action if !prefix => action_test(text),
            _ if named.either => {
                let test = |text: String| if prefix { Test::Prefix(text) } else { Test::Equals(text) };
                let id = Expression::is(Field::ActorId, test(text.to_owned()));
                let address = Expression::is(Field::ActorEmail, test(fold(text)));
                // An address has an @; what has none can be looked up as an id alone.
                return Ok(if prefix || text.contains('@') { Expression::any([id, address]) } else { id });
            }
            _ => {
                let text = if field.folds() { fold(text) } else { text.to_owned() };
                match prefix {
                    true => Test::Prefix(text),
                    false if field.is_prose() => Test::Contains(text),
                    false => Test::Equals(text),
                }
            }
        };
        Ok(Expression::is(field, test))
    }

    fn network(&self, named: &Named, written: &Written) -> Result<Network> {
        let text = written.text.as_str();
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let network = address.parse::<IpAddr>().ok().and_then(|address| match bits {
            None => Some(Network::of(address)),
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|c| c.is_ascii_digit()) => {
                Network::new(address, bits.parse().ok()?)
            }
            Some(_) => None,
        });
        network.ok_or_else(|| {
            let detail = "is neither an address nor a network, such as `203.0.113.0/24`";
            self.bad_value(written.at, named, text, detail, None)
        })
    }

    fn number(&self, named: &Named, written: &Written) -> Result<Number> {
        Number::parse(&written.text).ok_or_else(|| {
            let detail = "is not a number: only numbers are compared here";
            self.bad_value(written.at, named, &written.text, detail, None)
        })
    }

    fn interval(&self, named: &Named, value: Value) -> Result<Interval> {
        let at = |time: Timestamp| Some(Moment::At(time));
        // What nothing is earlier or later than: an interval without a time in it.
        let never = Interval { from: at(Timestamp::from_ms(1)), until: at(Timestamp::default()) };
        Ok(match value {
            Value::Is(written) => match self.span(named, &written)? {
                (Moment::Ago(ms), _) => Interval { from: Some(Moment::Ago(ms)), until: None },
                (from, until) => Interval { from: Some(from), until: Some(until) },
            },
            Value::Compared { above: true, included: true, with } => {
                Interval { from: Some(self.span(named, &with)?.0), until: None }
            }
            Value::Compared { above: false, included: true, with } => {
                Interval { from: None, until: Some(self.span(named, &with)?.1) }
            }
            Value::Compared { above: true, with, .. } => match self.span(named, &with)?.1 {
                Moment::At(Timestamp::MAX) => never,
                Moment::At(last) => Interval { from: at(last.plus_ms(1)), until: None },
                // A millisecond more or less has no meaning there.
                ago @ Moment::Ago(_) => Interval { from: Some(ago), until: None },
            },
            Value::Compared { with, .. } => match self.span(named, &with)?.0 {
                Moment::At(first) if first == Timestamp::default() => never,
                Moment::At(first) => Interval { from: None, until: at(first.minus_ms(1)) },
                ago @ Moment::Ago(_) => Interval { from: None, until: Some(ago) },
            },
            Value::Range(first, last) => {
                let (from, until) = (self.span(named, &first)?.0, self.span(named, &last)?.1);
                let backwards = match (from, until) {
                    (Moment::At(from), Moment::At(until)) => from > until,
                    (Moment::Ago(from), Moment::Ago(until)) => from < until,
                    _ => false,
                };
                if backwards {
                    return Err(self.backwards(named, &first, &last));
                }
                Interval { from: Some(from), until: Some(until) }
            }
            Value::Prefix(prefix) => {
                let text = format!("{}*", prefix.text);
                let shorter = prefix.text.trim_end_matches(['-', 'T', ' ']);
                let meant = span_of(shorter).is_ok().then(|| format!("{}:{shorter}", named.text));
                let detail = "takes a time, a day, a month or a year, not the beginning of one";
                return Err(self.bad_value(prefix.at, named, &text, detail, meant));
            }
            Value::Any(_) => Interval { from: None, until: None },
        })
    }

    /// First and last millisecond of what is written as a time.
    fn span(&self, named: &Named, written: &Written) -> Result<(Moment, Moment)> {
        let text = written.text.as_str();
        span_of(text).map_err(|why| {
            let meant = match why {
                TimeError::NoOffset => Some(format!("{text}Z")),
                _ if ago(&format!("-{text}")).is_some() => Some(format!("-{text}")),
                _ if ago(&text.replacen('+', "-", 1)).is_some() => Some(text.replacen('+', "-", 1)),
                _ => None,
            };
            let form = "`-7d` (s, m, h, d, w), `2026-05-01`, `2026-05`, `2026`, or a time with an offset";
            let detail = format!("is {why}: write {form}");
            self.bad_value(written.at, named, text, &detail, meant)
        })
    }

    fn backwards(&self, named: &Named, from: &Written, until: &Written) -> Error {
        let meant = format!("{}:{}..{}", named.text, shown(&until.text), shown(&from.text));
        let range = format!("{}..{}", from.text, until.text);
        self.bad_value(from.at, named, &range, "ends before it begins", Some(meant))
    }

    fn not_one_of(&self, named: &Named, written: &Written, known: &[&str]) -> Error {
        let lower = written.text.to_lowercase();
        let near = known.iter().map(|known| (distance(&lower, known), *known)).min();
        let near = near.filter(|(distance, known)| distance * 2 <= known.len()).map(|(_, near)| near);
        let begins = |known: &str| known.get(..3).is_some_and(|begun| lower.starts_with(begun));
        let begun = known.iter().find(|known| known.starts_with(&lower) || begins(known));
        let choices = known.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
        let meant = begun.copied().or(near).map(|near| format!("{}:{near}", named.text));
        self.bad_value(written.at, named, &written.text, &format!("is not one of {choices}"), meant)
    }

    fn bad_value(&self, at: usize, named: &Named, value: &str, what: &str, meant: Option<String>) -> Error {
        let detail = format!("`{}` in `{}` {what}", Shown(value), Shown(&named.text));
        self.wrong(at, "bad_value", detail, meant)
    }

    fn syntax(&self, at: usize, detail: impl Into<String>, meant: Option<String>) -> Error {
        self.wrong(at, "syntax", detail.into(), meant)
    }

    fn wrong(&self, at: usize, code: &'static str, detail: String, suggestion: Option<String>) -> Error {
        let before = self.text.get(..at).unwrap_or(self.text);
        let position = Position { offset: before.len(), column: before.chars().count() + 1 };
        let detail = format!("{detail}, at character {}", position.column);
        let problem = FieldProblem { pointer: "q".to_owned(), code, detail: detail.clone(), suggestion };
        Error::new(Code::BadFilter, detail).with_problems(vec![problem]).with_position(position)
    }
}

/// What was said of one field side by side.
struct Repeated {
    at: usize,
    /// Equal for what counts as one field.
    key: String,
    /// As it was written.
    name: String,
    values: Vec<(Expression, String)>,
}

/// Whether one is a lower bound, the other an upper one, and nothing lies between.
fn covers_all(lower: &Expression, upper: &Expression) -> bool {
    let (Expression::Is(lower), Expression::Is(upper)) = (lower, upper) else { return false };
    match (&lower.test, &upper.test) {
        (
            Test::Within(Interval { from: Some(from), until: None }),
            Test::Within(Interval { from: None, until: Some(until) }),
        ) => match (from, until) {
            (Moment::At(from), Moment::At(until)) => from <= until,
            (Moment::Ago(from), Moment::Ago(until)) => from >= until,
            _ => true,
        },
        (
            Test::Number(Numbers { from: Some((from, _)), until: None }),
            Test::Number(Numbers { from: None, until: Some((until, _)) }),
        ) => from <= until,
        _ => false,
    }
}

/// What an action is to be: one whole, or a part of one, since no action is without a dot.
pub(super) fn action_test(text: &str) -> Test {
    match text.contains('.') {
        true => Test::Equals(text.to_owned()),
        false => Test::Contains(fold(text)),
    }
}

/// First and last millisecond of a time, a day, a month, a year, or so long ago.
fn span_of(text: &str) -> std::result::Result<(Moment, Moment), TimeError> {
    if text == "now" {
        return Ok((Moment::Ago(0), Moment::Ago(0)));
    }
    if let Some(ms) = ago(text) {
        return Ok((Moment::Ago(ms), Moment::Ago(ms)));
    }
    let days =
        |first: Day, last: Day| Ok((Moment::At(first.start()), Moment::At(last.start().plus_ms(DAY_MS - 1))));
    match text.len() {
        4 => days(Day::parse(&format!("{text}-01-01"))?, Day::parse(&format!("{text}-12-31"))?),
        7 => {
            let first = Day::parse(&format!("{text}-01"))?;
            let last = (28..=31).rev().find_map(|day| Day::parse(&format!("{text}-{day}")).ok());
            days(first, last.ok_or(TimeError::NoSuchTime)?)
        }
        10 => Day::parse(text).and_then(|day| days(day, day)),
        _ => Timestamp::parse(text).map(|time| (Moment::At(time), Moment::At(time))),
    }
}

/// `-7d` in milliseconds.
fn ago(text: &str) -> Option<u64> {
    let rest = text.strip_prefix('-')?;
    let unit = rest.chars().last()?;
    let number = &rest[..rest.len() - unit.len_utf8()];
    let ms: u64 = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => DAY_MS,
        'w' => 7 * DAY_MS,
        _ => return None,
    };
    let digits = matches!(number.len(), 1..=9) && number.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| number.parse::<u64>().ok()).flatten().map(|number| number * ms)
}
