//! How the hot store answers an expression: which ids can be meant, and which index lookups hold all of them.

use super::expression::{Atom, Expression, Field, Test};
use crate::id::EventId;
use crate::ports::{HotIndex, IdRange};
use crate::time::Timestamp;

/// Lookups beyond this are no better than reading day by day.
const LOOKUPS_MAX: usize = 100;

impl Expression {
    /// First and last `occurred_at` that are admitted at the most; the first is the later one if none is.
    pub(super) fn times(&self) -> (Timestamp, Timestamp) {
        const ALL: (Timestamp, Timestamp) = (Timestamp::from_ms(0), Timestamp::MAX);
        match self {
            Expression::Is(Atom { field: Field::Time, test: Test::Within(interval) }) => interval.bounds(),
            Expression::Is(_) | Expression::Not(_) => ALL,
            Expression::All(parts) => parts.iter().fold(ALL, |all, part| {
                let (first, last) = part.times();
                (all.0.max(first), all.1.min(last))
            }),
            Expression::Any(parts) => parts.iter().fold((ALL.1, ALL.0), |all, part| {
                let (first, last) = part.times();
                (all.0.min(first), all.1.max(last))
            }),
        }
    }

    /// The ids that are admitted at the most; `None` if there are none.
    pub(super) fn ids(&self) -> Option<IdRange> {
        let (first, last) = self.times();
        let mut ids = IdRange { first: EventId::first_at(first), last: EventId::last_at(last) };
        for part in self.conjuncts() {
            if let Expression::Is(Atom { test: Test::Id(id), .. }) = part {
                ids = IdRange { first: ids.first.max(*id), last: ids.last.min(*id) };
            }
        }
        (first <= last && ids.first <= ids.last).then_some(ids)
    }

    /// The index lookups that together hold all it admits; `None` if no index does. The rarest kind of value wins, then
    /// the fewest lookups.
    pub(super) fn lookups(&self) -> Option<Vec<HotIndex>> {
        match self {
            Expression::Is(Atom { field, test: Test::Equals(text) }) => match field {
                Field::ResourceId => Some(vec![HotIndex::Resource(text.clone())]),
                Field::ActorId => Some(vec![HotIndex::Actor(text.clone())]),
                Field::Action => Some(vec![HotIndex::Action(text.clone())]),
                _ => None,
            },
            Expression::Is(_) | Expression::Not(_) => None,
            Expression::Any(parts) => {
                let mut all = Vec::new();
                for part in parts {
                    for lookup in part.lookups()? {
                        if !all.contains(&lookup) {
                            all.push(lookup);
                        }
                    }
                }
                (matches!(all.len(), 1..=LOOKUPS_MAX)).then_some(all)
            }
            Expression::All(parts) => parts
                .iter()
                .filter_map(Expression::lookups)
                .min_by_key(|lookups| (rank(lookups), lookups.len())),
        }
    }

    /// Whether [`Expression::lookups`], within [`Expression::ids`], hold nothing but what it admits.
    pub(super) fn is_answered_by_lookups(&self) -> bool {
        let mut lookups = 0;
        self.conjuncts().iter().all(|part| match part {
            Expression::Is(Atom { field: Field::Time, test: Test::Within(_) }) => true,
            part => {
                lookups += 1;
                part.is_lookup()
            }
        }) && lookups == 1
    }

    fn is_lookup(&self) -> bool {
        match self {
            Expression::Is(Atom { field, test: Test::Equals(_) }) => {
                matches!(field, Field::ResourceId | Field::ActorId | Field::Action)
            }
            Expression::Is(_) | Expression::Not(_) | Expression::All(_) => false,
            Expression::Any(parts) => parts.iter().all(Expression::is_lookup),
        }
    }
}

/// How common the commonest kind of value among them is.
fn rank(lookups: &[HotIndex]) -> u8 {
    let rank = |lookup: &HotIndex| match lookup {
        HotIndex::Resource(_) => 0,
        HotIndex::Actor(_) => 1,
        HotIndex::Action(_) => 2,
    };
    lookups.iter().map(rank).max().unwrap_or(0)
}
