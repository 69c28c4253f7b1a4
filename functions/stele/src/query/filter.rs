//! Which records a listing is about: the one form of all parameters and of `q`, ready to be asked about records, rows and
//! files.

use super::expression::{Expression, Field, Moment, State, Test};
use super::pruning::Bounds;
use super::row::{Column, Row};
use crate::error::{Code, Error, Result};
use crate::ports::{HotIndex, IdRange, Order};
use crate::record::Record;
use crate::time::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// A filter. It answers:
///
/// * [`matches`](Filter::matches) and [`judge`](Filter::judge) of a record;
/// * [`holds_of`](Filter::holds_of) of a row by its typed columns, as far as they say;
/// * [`may_match`](Filter::may_match) of a set of rows by its statistics;
/// * [`range`](Filter::range) and [`best_index`](Filter::best_index) for the hot store.
///
/// Relative times stand for the time it was made for; [`Filter::at`] makes the same filter for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// As it was asked for.
    asked: Expression,
    /// With times instead of "so long ago".
    expression: Expression,
}

impl Default for Filter {
    /// Everything.
    fn default() -> Filter {
        Filter { asked: Expression::EVERYTHING, expression: Expression::EVERYTHING }
    }
}

impl Filter {
    /// An expression asked at a time.
    pub fn new(asked: Expression, now: Timestamp) -> Filter {
        Filter { expression: asked.at(now), asked }
    }

    /// The same, as if asked at another time: for the later pages of a listing, whose cursor says when it began.
    pub fn at(&self, now: Timestamp) -> Filter {
        Filter::new(self.asked.clone(), now)
    }

    /// This filter and another one.
    pub fn and(&self, other: &Filter) -> Filter {
        Filter {
            asked: Expression::all([self.asked.clone(), other.asked.clone()]),
            expression: Expression::all([self.expression.clone(), other.expression.clone()]),
        }
    }

    /// As it was asked for; what it prints reads back as the same filter.
    pub fn asked(&self) -> &Expression {
        &self.asked
    }

    /// With all times fixed.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// Whether it admits everything.
    pub fn is_everything(&self) -> bool {
        self.expression == Expression::EVERYTHING
    }

    /// From which `occurred_at` on, included, if it says so.
    pub fn from(&self) -> Option<Timestamp> {
        let (from, _) = self.expression.times();
        (from > Timestamp::default()).then_some(from)
    }

    /// Until which `occurred_at`, excluded, if it says so.
    pub fn to(&self) -> Option<Timestamp> {
        let (_, until) = self.expression.times();
        (until < Timestamp::MAX).then(|| until.plus_ms(1))
    }

    /// The ids it can admit; `None` if there are none.
    pub fn range(&self) -> Option<IdRange> {
        self.expression.ids()
    }

    /// The index lookups that together hold every record it admits; empty if only the days themselves do.
    /// Of several indexes the one taken is that of the rarest kind of value.
    pub fn best_index(&self) -> Vec<HotIndex> {
        self.expression.lookups().unwrap_or_default()
    }

    /// Whether [`Filter::best_index`] within [`Filter::range`] holds nothing but what it admits, so that counting needs no
    /// records.
    pub fn is_answered_by_index(&self) -> bool {
        self.expression.is_answered_by_lookups()
    }

    /// Whether it asks where events stand, so that [`Filter::matches`] can't answer.
    pub fn needs_state(&self) -> bool {
        self.expression.has(|atom| atom.field == Field::State)
    }

    /// Whether some rows can be decided by their leaf only, even if all columns of the kind of file are at hand.
    pub fn needs_leaf(&self, archived: bool) -> bool {
        self.expression.has(|atom| {
            let unread = |column: Column| archived && !column.is_archived();
            atom.field.needs_leaf() || atom.field.column().is_some_and(unread)
        })
    }

    /// The typed columns its conditions look at.
    pub fn columns(&self) -> BTreeSet<Column> {
        self.expression.columns()
    }

    /// Whether it admits a record, wherever that stands.
    ///
    /// # Errors
    /// `corrupt` if the record's leaf is none; `internal` if it [needs the state](Filter::needs_state) and that matters:
    /// then [`Filter::judge`] is the one to ask.
    pub fn matches(&self, record: &Record) -> Result<bool> {
        self.judge(record, None)?.ok_or_else(|| {
            Error::new(Code::Internal, "a filter with `is:` was asked about a record without its place")
        })
    }

    /// Whether it admits a record that stands there; `None` only where that is not known and matters.
    ///
    /// # Errors
    /// `corrupt` if the record's leaf is none.
    pub fn judge(&self, record: &Record, state: Option<State>) -> Result<Option<bool>> {
        self.expression.holds_of_record(record, state)
    }

    /// Whether it admits a row; `None` if the columns that were read don't say, so that the leaf must.
    pub fn holds_of(&self, row: &(impl Row + ?Sized)) -> Option<bool> {
        self.expression.holds_of(row)
    }

    /// Whether it may admit one of a set of rows. False is certain.
    pub fn may_match(&self, bounds: &(impl Bounds + ?Sized)) -> bool {
        self.expression.may_match(bounds)
    }

    /// Which listing this is, for its cursors: equal for filters that say the same, in the same order. Relative times are
    /// bound as they were asked for.
    pub(super) fn binding(&self, order: Order) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(if order == Order::Descending { "desc\n" } else { "asc\n" });
        hash.update(self.asked.to_string());
        let mut binding = [0; 16];
        binding.copy_from_slice(&hash.finalize()[..16]);
        binding
    }

    /// Whether what it admits changes with time.
    pub fn is_relative(&self) -> bool {
        self.asked.has(|atom| match atom.test {
            Test::Within(interval) => {
                [interval.from, interval.until].iter().any(|moment| matches!(moment, Some(Moment::Ago(_))))
            }
            _ => false,
        })
    }
}
