//! Which files, row groups and pages can't hold what an expression asks for, by what is stored about their columns. It errs to
//! one side only: what may match is never left out.

use super::expression::{Atom, Expression, Field, State, Test};
use super::row::{Cell, Column};
use crate::id::EventId;
use crate::time::Timestamp;

/// What is known of a set of rows without reading them: statistics, bloom filters. Every answer may be "not known".
pub trait Bounds {
    /// Bytes that no text of the column is below, and bytes that none is above, in the order of bytes. They may be texts of
    /// the column or shortened ones. `None` if not known, or if all are null.
    fn texts(&self, column: Column) -> Option<(&[u8], &[u8])> {
        let _ = column;
        None
    }

    /// The same for `occurred_at` and `received_at`.
    fn times(&self, column: Column) -> Option<(Timestamp, Timestamp)> {
        let _ = column;
        None
    }

    /// The same for ids. They begin with `occurred_at`, so that they bound that, too.
    fn ids(&self) -> Option<(EventId, EventId)> {
        None
    }

    /// Whether rows lack a value in a column.
    fn nulls(&self, column: Column) -> Nulls {
        let _ = column;
        Nulls::Unknown
    }

    /// What a bloom filter says of a value: `Some(false)` if it is certainly in no row.
    fn bloom(&self, column: Column, value: &str) -> Option<bool> {
        let _ = (column, value);
        None
    }

    /// Where all of them stand, if they all stand there.
    fn state(&self) -> Option<State> {
        None
    }
}

/// How many rows of a set lack a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// Not known.
    Unknown,
    /// None of them.
    None,
    /// At least one, or one at least may.
    Some,
    /// All of them.
    All,
}

/// Whether a condition may hold of a row of a set, and whether it may not hold of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct May {
    hold: bool,
    fail: bool,
}

const UNKNOWN: May = May { hold: true, fail: true };

impl Expression {
    /// Whether a row that is admitted may be among these. False is certain.
    pub fn may_match(&self, bounds: &(impl Bounds + ?Sized)) -> bool {
        self.may(bounds).hold
    }

    fn may(&self, bounds: &(impl Bounds + ?Sized)) -> May {
        match self {
            Expression::Is(atom) => atom.may(bounds),
            Expression::Not(atom) => {
                let May { hold, fail } = atom.may(bounds);
                May { hold: fail, fail: hold }
            }
            Expression::Any(parts) => parts.iter().fold(May { hold: false, fail: true }, |all, part| {
                let May { hold, fail } = part.may(bounds);
                May { hold: all.hold || hold, fail: all.fail && fail }
            }),
            Expression::All(parts) => parts.iter().fold(May { hold: true, fail: false }, |all, part| {
                let May { hold, fail } = part.may(bounds);
                May { hold: all.hold && hold, fail: all.fail || fail }
            }),
        }
    }

    /// The columns by whose least and greatest values or bloom filters it can be told that nothing matches.
    pub fn pruned_by(&self) -> std::collections::BTreeSet<Column> {
        let mut columns = std::collections::BTreeSet::new();
        self.visit(&mut |atom| {
            let told = match atom.test {
                Test::Equals(_) | Test::Prefix(_) => !atom.field.folds(),
                Test::Within(_) | Test::Id(_) | Test::Exists => true,
                Test::Contains(_) | Test::Network(_) | Test::Number(_) | Test::State(_) => false,
            };
            columns.extend(atom.field.column().filter(|_| told));
        });
        columns
    }
}

impl Atom {
    fn may(&self, bounds: &(impl Bounds + ?Sized)) -> May {
        if let (Field::State, Test::State(asked)) = (&self.field, &self.test) {
            return bounds.state().map_or(UNKNOWN, |stands| certain(asked.includes(stands)));
        }
        let Some(column) = self.field.column() else { return UNKNOWN };
        let nulls = bounds.nulls(column);
        if nulls == Nulls::All {
            return certain(false);
        }
        // Of rows without a value nothing holds.
        let null = nulls != Nulls::None;
        let may = match (&self.test, column) {
            (Test::Exists, _) => May { hold: true, fail: false },
            (Test::Within(interval), _) => {
                let times = bounds.times(column).or_else(|| {
                    let (first, last) = bounds.ids().filter(|_| column == Column::OccurredAt)?;
                    Some((first.time(), last.time()))
                });
                let (from, until) = interval.bounds();
                times.map_or(UNKNOWN, |(least, greatest)| May {
                    hold: from.max(least) <= until.min(greatest),
                    fail: least < from || until < greatest,
                })
            }
            (Test::Id(id), _) => {
                let within = bounds.ids().map(|(least, greatest)| May {
                    hold: (least..=greatest).contains(id),
                    fail: least != *id || greatest != *id,
                });
                within.unwrap_or_else(|| self.may_text(bounds, column, id.to_string().as_bytes()))
            }
            (Test::Equals(text), _) if !self.field.folds() => self.may_text(bounds, column, text.as_bytes()),
            (Test::Prefix(prefix), _) if !self.field.folds() => {
                bounds.texts(column).map_or(UNKNOWN, |(least, greatest)| {
                    let prefix = prefix.as_bytes();
                    May {
                        // Up to the greatest text there is some with the prefix, and from the least on.
                        hold: prefix <= greatest && (least <= prefix || least.starts_with(prefix)),
                        fail: !(least.starts_with(prefix) && greatest.starts_with(prefix)),
                    }
                })
            }
            (_, _) => {
                // One value only: then it is as good as read.
                let one = bounds.texts(column).filter(|(least, greatest)| least == greatest);
                let one = one.and_then(|(text, _)| std::str::from_utf8(text).ok());
                let holds = one.and_then(|text| self.holds_of_cell(&Cell::Text(text)));
                holds.map_or(UNKNOWN, certain)
            }
        };
        May { hold: may.hold, fail: may.fail || null }
    }

    fn may_text(&self, bounds: &(impl Bounds + ?Sized), column: Column, text: &[u8]) -> May {
        let within = bounds.texts(column).map_or(UNKNOWN, |(least, greatest)| May {
            hold: least <= text && text <= greatest,
            fail: least != text || greatest != text,
        });
        let there = || std::str::from_utf8(text).ok().and_then(|text| bounds.bloom(column, text));
        match within.hold && there() == Some(false) {
            true => certain(false),
            false => within,
        }
    }
}

const fn certain(holds: bool) -> May {
    May { hold: holds, fail: !holds }
}
