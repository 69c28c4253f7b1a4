//! Expressions over whole records: what the record says itself, then the columns of its leaf, then what has no column. The
//! leaf is read once at the most, and only if nothing cheaper decides.

use super::expression::{Atom, Expression, Field, Number, Side, State, Test};
use super::row::RecordRow;
use crate::error::{Error, Result};
use crate::json::{Json, Kind, Node};
use crate::record::{Columns, Record};

impl Expression {
    /// Whether it admits a record that stands there; `None` only where that is not known and matters.
    pub(super) fn holds_of_record(&self, record: &Record, state: Option<State>) -> Result<Option<bool>> {
        let row = RecordRow { record, state };
        if let Some(holds) = self.holds_of(&row) {
            return Ok(Some(holds));
        }
        let columns = record.columns()?;
        let mut leaf = Leaf { columns: &columns, metadata: None, changes: None };
        self.evaluate(&mut |atom| match (&atom.field, state) {
            (Field::State, None) => Ok(None),
            (Field::State, Some(_)) => Ok(atom.holds_of(&row)),
            _ => leaf.holds(atom).map(Some),
        })
    }
}

/// A leaf, read as far as was needed.
struct Leaf<'a> {
    columns: &'a Columns<'a>,
    metadata: Option<Json<'a>>,
    changes: Option<Json<'a>>,
}

impl<'a> Leaf<'a> {
    fn holds(&mut self, atom: &Atom) -> Result<bool> {
        if let Some(holds) = atom.holds_of(self.columns) {
            return Ok(holds);
        }
        Ok(match &atom.field {
            Field::Text => self.metadata()?.is_some_and(|json| has_text(json, json.root(), atom)),
            Field::Metadata(keys) => self.metadata()?.is_some_and(|json| {
                let value = keys.iter().try_fold(json.root(), |value, key| json.member(value, key));
                value.is_some_and(|value| holds_of_value(json, value, atom))
            }),
            Field::Changes { path, side } => self.changes()?.is_some_and(|json| {
                json.items(json.root()).any(|change| {
                    let told = json.member(change, "path").and_then(|path| json.str(path));
                    told.is_some_and(|told| is_path(told, path))
                        && match side {
                            Side::Told => true,
                            Side::Before => side_holds(json, change, "before", atom),
                            Side::After => side_holds(json, change, "after", atom),
                        }
                })
            }),
            // All others are columns.
            _ => false,
        })
    }

    fn metadata(&mut self) -> Result<Option<&Json<'a>>> {
        read(&mut self.metadata, self.columns.metadata)
    }

    fn changes(&mut self) -> Result<Option<&Json<'a>>> {
        read(&mut self.changes, self.columns.changes)
    }
}

fn read<'r, 'a>(read: &'r mut Option<Json<'a>>, text: Option<&'a str>) -> Result<Option<&'r Json<'a>>> {
    if let (None, Some(text)) = (&read, text) {
        let json = Json::parse(text.as_bytes());
        *read =
            Some(json.map_err(|e| Error::corrupt("a part of a leaf", "JSON", e.detail()).with_source(e))?);
    }
    Ok(read.as_ref())
}

/// Whether a change's path is the one asked for: not every sender writes the slash.
fn is_path(told: &str, asked: &str) -> bool {
    told == asked || asked.strip_prefix('/') == Some(told)
}

fn side_holds(json: &Json<'_>, change: Node, side: &str, atom: &Atom) -> bool {
    json.member(change, side).is_some_and(|value| holds_of_value(json, value, atom))
}

/// Whether a test holds of a JSON value, or of one in a list of them.
fn holds_of_value(json: &Json<'_>, value: Node, atom: &Atom) -> bool {
    match (&atom.test, json.kind(value)) {
        (Test::Exists, kind) => kind != Kind::Null,
        (_, Kind::Array) => json.items(value).any(|item| holds_of_scalar(json, item, atom)),
        _ => holds_of_scalar(json, value, atom),
    }
}

fn holds_of_scalar(json: &Json<'_>, value: Node, atom: &Atom) -> bool {
    match (&atom.test, json.kind(value)) {
        (test, Kind::String) => json.str(value).is_some_and(|text| test.holds(&atom.field, text)),
        (Test::Equals(text), Kind::Number) => {
            Number::parse(text).is_some_and(|number| json.raw(value).parse() == Ok(number.value()))
        }
        (Test::Number(numbers), Kind::Number) => {
            json.raw(value).parse().is_ok_and(|number| numbers.contains(number))
        }
        (Test::Equals(text), Kind::True | Kind::False | Kind::Null) => json.raw(value) == text,
        _ => false,
    }
}

/// Whether free text stands in a string of a JSON value, at any depth.
fn has_text(json: &Json<'_>, value: Node, atom: &Atom) -> bool {
    match json.kind(value) {
        Kind::String => json.str(value).is_some_and(|text| atom.test.holds(&atom.field, text)),
        Kind::Array => json.items(value).any(|item| has_text(json, item, atom)),
        Kind::Object => json.members(value).any(|(_, member)| has_text(json, member, atom)),
        Kind::Null | Kind::True | Kind::False | Kind::Number => false,
    }
}
