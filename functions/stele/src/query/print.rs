//! Expressions as text: the canonical `q`, which reads back as the same expression, and their JSON.

use super::expression::{Atom, Expression, Field, Interval, Moment, Numbers, Side, Test};
use serde_json::{Value, json};
use std::fmt::{self, Display, Formatter, Write};

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Is(atom) => terms(f, std::slice::from_ref(&atom), false),
            Expression::Not(atom) => terms(f, std::slice::from_ref(&atom), true),
            Expression::All(parts) => all(f, parts),
            Expression::Any(parts) => any(f, parts),
        }
    }
}

fn all(f: &mut Formatter<'_>, parts: &[Expression]) -> fmt::Result {
    // A field that is named twice side by side would mean either; in brackets it means both.
    let mut named: Vec<String> = Vec::new();
    for (at, part) in runs(parts, true).into_iter().enumerate() {
        if at > 0 {
            f.write_char(' ')?;
        }
        let field = match part {
            [Expression::Is(atom)] => Some(&atom.field),
            [Expression::Any(parts)] => one_list(parts),
            _ => None,
        };
        let name = field.filter(|field| **field != Field::Text).map(name);
        let again = name.as_ref().is_some_and(|name| named.contains(name));
        named.extend(name);
        match part {
            [one] if again => write!(f, "({one})")?,
            [one] => one.fmt(f)?,
            several => terms(f, &atoms(several), true)?,
        }
    }
    Ok(())
}

fn any(f: &mut Formatter<'_>, parts: &[Expression]) -> fmt::Result {
    if one_list(parts).is_some() {
        return terms(f, &atoms(parts), false);
    }
    f.write_char('(')?;
    for (at, part) in runs(parts, false).into_iter().enumerate() {
        if at > 0 {
            f.write_str(" OR ")?;
        }
        match part {
            [one] => one.fmt(f)?,
            several => terms(f, &atoms(several), false)?,
        }
    }
    f.write_char(')')
}

/// Neighbours that can stand in one list: conditions on one field, negated ones of an "all", others of an "any".
fn runs(parts: &[Expression], negated: bool) -> Vec<&[Expression]> {
    parts.chunk_by(|a, b| listed(a, negated).is_some() && listed(a, negated) == listed(b, negated)).collect()
}

/// The field, if all of them can stand in one list.
fn one_list(parts: &[Expression]) -> Option<&Field> {
    let (first, rest) = parts.split_first()?;
    let field = listed(first, false)?;
    rest.iter().all(|part| listed(part, false) == Some(field)).then_some(field)
}

/// The field of what can stand in a list. Bounds in a list are refused if they cover everything; in brackets they are not.
fn listed(part: &Expression, negated: bool) -> Option<&Field> {
    let atom = match part {
        Expression::Is(atom) if !negated => atom,
        Expression::Not(atom) if negated => atom,
        _ => return None,
    };
    let listed = atom.field != Field::Text && !matches!(atom.test, Test::Within(_) | Test::Number(_));
    listed.then_some(&atom.field)
}

fn atoms(parts: &[Expression]) -> Vec<&Atom> {
    let atom = |part| match part {
        &Expression::Is(ref atom) | &Expression::Not(ref atom) => Some(atom),
        _ => None,
    };
    parts.iter().filter_map(atom).collect()
}

/// Conditions on one field, as `field:a,b`.
fn terms(f: &mut Formatter<'_>, atoms: &[&Atom], negated: bool) -> fmt::Result {
    if negated {
        f.write_char('-')?;
    }
    // Without a side, a star would ask for any change of the path.
    let after = atoms.iter().any(|atom| {
        atom.test == Test::Exists && matches!(atom.field, Field::Changes { side: Side::After, .. })
    });
    for (at, Atom { field, test }) in atoms.iter().enumerate() {
        if *field == Field::Text {
            if let Test::Contains(text) = test {
                f.write_str(&free_text(text))?;
            }
            continue;
        }
        match at {
            0 => write!(f, "{}{}:", name(field), if after { ".after" } else { "" })?,
            _ => f.write_char(',')?,
        }
        value(f, field, test)?;
    }
    Ok(())
}

/// A field as it is named before the colon.
pub(super) fn name(field: &Field) -> String {
    let mut name = field.name().to_owned();
    match field {
        Field::Metadata(keys) => {
            for key in keys {
                name.push('.');
                name.push_str(&path_part(key, &['.']));
            }
        }
        Field::Changes { path, side } => {
            name.push('.');
            let sided = path.ends_with(".before") || path.ends_with(".after");
            name.push_str(&if sided { quoted(path) } else { path_part(path, &[]) });
            if *side == Side::Before {
                name.push_str(".before");
            }
        }
        _ => {}
    }
    name
}

fn value(f: &mut Formatter<'_>, field: &Field, test: &Test) -> fmt::Result {
    match test {
        Test::Exists => f.write_char('*'),
        Test::Equals(text) | Test::Contains(text) => f.write_str(&shown(text)),
        Test::Prefix(text) => write!(f, "{}*", shown(text)),
        Test::Id(id) => f.write_str(&id.shown()),
        Test::Within(interval) => write!(f, "{interval}"),
        Test::Network(network) if network.is_single() => write!(f, "{}", network.address()),
        Test::Network(network) => write!(f, "{}/{}", network.address(), network.bits()),
        Test::Number(numbers) => write!(f, "{numbers}"),
        Test::State(state) => {
            debug_assert!(*field == Field::State, "only `is` tests a state");
            f.write_str(state.name())
        }
    }
}

impl Display for Interval {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.from, self.until) {
            (Some(Moment::Ago(ms)), None) if ms > 0 => write!(f, "{}", Moment::Ago(ms)),
            (Some(from), None) => write!(f, ">={from}"),
            (None, Some(until)) => write!(f, "<={until}"),
            (Some(from), Some(until)) => write!(f, "{from}..{until}"),
            (None, None) => f.write_char('*'),
        }
    }
}

impl Display for Moment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, char); 5] =
            [(604_800_000, 'w'), (86_400_000, 'd'), (3_600_000, 'h'), (60_000, 'm'), (1_000, 's')];
        match self {
            Moment::At(time) => time.fmt(f),
            Moment::Ago(0) => f.write_str("now"),
            Moment::Ago(ms) => {
                let unit = UNITS.iter().find(|(unit, _)| ms % unit == 0).unwrap_or(&UNITS[4]);
                write!(f, "-{}{}", ms / unit.0, unit.1)
            }
        }
    }
}

impl Display for Numbers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = |included: bool| if included { "=" } else { "" };
        match (self.from, self.until) {
            (Some((from, true)), Some((until, true))) => write!(f, "{}..{}", from.value(), until.value()),
            (Some((from, included)), _) => write!(f, ">{}{}", sign(included), from.value()),
            (None, Some((until, included))) => write!(f, "<{}{}", sign(included), until.value()),
            (None, None) => f.write_char('*'),
        }
    }
}

/// A value, in quotes if it needs them.
pub(super) fn shown(text: &str) -> String {
    let bare = !text.is_empty()
        && !text.starts_with(['<', '>'])
        && !text.contains("..")
        && !text.contains(|c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, '(' | ')' | ',' | '"' | '*')
        });
    if bare { text.to_owned() } else { quoted(text) }
}

/// Free text, in quotes unless it is a plain word.
fn free_text(text: &str) -> String {
    let bare = !text.is_empty()
        && !text.starts_with('-')
        && !["OR", "AND", "NOT"].contains(&text)
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '/'));
    if bare { text.to_owned() } else { quoted(text) }
}

/// A part of a field's path, in quotes if it needs them.
fn path_part(text: &str, ends: &[char]) -> String {
    let bare = !text.is_empty()
        && !text.contains(ends)
        && !text.contains(|c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, '(' | ')' | ',' | '"' | ':')
        });
    if bare { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

impl Expression {
    /// As JSON: `{"all": […]}`, `{"any": […]}`, `{"not": …}`, or a condition with `field`, `test` and what it tests
    /// against.
    pub fn to_json(&self) -> Value {
        match self {
            Expression::Is(atom) => atom_json(atom),
            Expression::Not(atom) => json!({"not": atom_json(atom)}),
            Expression::Any(parts) => {
                json!({"any": parts.iter().map(Expression::to_json).collect::<Vec<_>>()})
            }
            Expression::All(parts) => {
                json!({"all": parts.iter().map(Expression::to_json).collect::<Vec<_>>()})
            }
        }
    }
}

fn atom_json(Atom { field, test }: &Atom) -> Value {
    let mut out = json!({"field": field.name()});
    match field {
        Field::Changes { path, side } => {
            out["path"] = json!(path);
            if *side != Side::Told {
                out["side"] = json!(if *side == Side::Before { "before" } else { "after" });
            }
        }
        Field::Metadata(keys) => out["keys"] = json!(keys),
        _ => {}
    }
    let moment = |moment: Option<Moment>| moment.map(|moment| moment.to_string());
    let (name, value) = match test {
        Test::Exists => ("exists", Value::Null),
        Test::Equals(text) => ("equals", json!(text)),
        Test::Prefix(text) => ("prefix", json!(text)),
        Test::Contains(text) => ("contains", json!(text)),
        Test::Id(id) => ("equals", json!(id.shown())),
        Test::Within(interval) => {
            ("within", json!({"from": moment(interval.from), "until": moment(interval.until)}))
        }
        Test::Network(network) => {
            ("network", json!({"address": network.address().to_string(), "bits": network.bits()}))
        }
        Test::Number(numbers) => {
            let bound = |bound: Option<(super::expression::Number, bool)>| {
                bound.map(|(number, included)| json!({"number": number.value(), "included": included}))
            };
            ("number", json!({"from": bound(numbers.from), "until": bound(numbers.until)}))
        }
        Test::State(state) => ("state", json!(state.name())),
    };
    out["test"] = json!(name);
    if !value.is_null() {
        out["value"] = value;
    }
    out
}
