//! In which order the sources of a listing are read, and when what was found is final.
//!
//! A source is anything that holds events of a listing and says where its nearest one can lie: a file, a row group, a segment, a
//! stretch of the hot store. Opening it gives nearer sources, **rows** (known to match, by their time alone) and
//! whole records. A record is final when nothing that is still unread can lie before it. How sources are read is not known here.

use crate::id::EventId;
use crate::ports::Order;
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// Candidates kept beyond what is wanted, before the farthest are dropped.
const SLACK: usize = 1_024;
/// Rows read at once, unless more are of one time.
pub const ROWS_AT_ONCE: usize = 512;

/// A distance from where the listing begins: by it, what lies nearer comes first in either order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u128);

impl Rank {
    fn of(order: Order, id: EventId) -> Rank {
        match order {
            Order::Ascending => Rank(id.to_u128()),
            Order::Descending => Rank(u128::MAX - id.to_u128()),
        }
    }
}

/// The id of a millisecond that comes first in an order.
pub fn nearest_of(order: Order, time: Timestamp) -> EventId {
    match order {
        Order::Ascending => EventId::first_at(time),
        Order::Descending => EventId::last_at(time),
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<S, R> {
    /// Read these sources, and give back what they hold.
    Open(Vec<S>),
    /// Read these rows, and give back their records.
    Read(Vec<R>),
    /// Nothing unread can change what is wanted.
    Done,
}

/// A merge of sources `S`, rows `R` and records `T` into one order.
pub struct Merge<S, R, T> {
    order: Order,
    /// Records its caller still wants.
    wanted: usize,
    /// By rank, and within it as they came.
    sources: BTreeMap<(Rank, u64), (EventId, S)>,
    rows: BTreeMap<(Rank, u64), (EventId, R)>,
    found: BTreeMap<Rank, (EventId, T)>,
    /// From here on candidates were dropped: they would have been too many.
    cut: Option<(Rank, EventId)>,
    next_number: u64,
    /// More than this many are held before it is tried to drop some.
    held_max: usize,
}

impl<S, R, T> Merge<S, R, T> {
    /// Of nothing yet; its caller wants so many records.
    pub fn new(order: Order, wanted: usize) -> Merge<S, R, T> {
        Merge {
            order,
            wanted,
            sources: BTreeMap::new(),
            rows: BTreeMap::new(),
            found: BTreeMap::new(),
            cut: None,
            next_number: 0,
            held_max: 0,
        }
    }

    /// Adds a source that holds nothing before `nearest`.
    pub fn source(&mut self, nearest: EventId, source: S) {
        let rank = Rank::of(self.order, nearest);
        if !self.is_cut(rank) {
            let number = self.number();
            self.sources.insert((rank, number), (nearest, source));
        }
    }

    /// Adds a row that matches, of an event at this time.
    pub fn row(&mut self, time: Timestamp, row: R) {
        let nearest = nearest_of(self.order, time);
        let rank = Rank::of(self.order, nearest);
        if !self.is_cut(rank) {
            let number = self.number();
            self.rows.insert((rank, number), (nearest, row));
            self.drop_farthest();
        }
    }

    /// Adds a row of which the id is known.
    pub fn row_of(&mut self, id: EventId, row: R) {
        let rank = Rank::of(self.order, id);
        if !self.is_cut(rank) {
            let number = self.number();
            self.rows.insert((rank, number), (id, row));
            self.drop_farthest();
        }
    }

    /// Adds a record. Of two with one id `better` says whether the second takes the first one's place.
    pub fn record(&mut self, id: EventId, record: T, better: impl FnOnce(&T, &T) -> bool) {
        let rank = Rank::of(self.order, id);
        if self.is_cut(rank) {
            return;
        }
        match self.found.get(&rank) {
            Some((_, before)) if !better(&record, before) => {}
            _ => {
                self.found.insert(rank, (id, record));
                self.drop_farthest();
            }
        }
    }

    /// Says that events from this one on were left out by the reader of a source.
    pub fn cut(&mut self, from: EventId) {
        let rank = Rank::of(self.order, from);
        if !self.is_cut(rank) {
            self.cut = Some((rank, from));
            self.sources.split_off(&(rank, 0));
            self.rows.split_off(&(rank, 0));
            self.found.split_off(&rank);
        }
    }

    /// What to do next. `at_once` bounds the sources given.
    pub fn next(&mut self, at_once: usize) -> Step<S, R> {
        if self.wanted == 0 {
            return Step::Done;
        }
        let source = self.sources.keys().next().map(|(rank, _)| *rank);
        // What lies behind the last record that is wanted does not matter.
        let last_found = self.found.keys().nth(self.wanted - 1).copied();
        let matters = |rank: Rank| last_found.is_none_or(|last| rank <= last);
        let is_next = |rank: Rank| source.is_none_or(|source| rank < source) && matters(rank);
        if let Some((first, _)) = self.rows.keys().next().copied().filter(|(rank, _)| is_next(*rank)) {
            let before = self.found.range(..first).count();
            let room = (self.wanted - before.min(self.wanted)).clamp(1, ROWS_AT_ONCE);
            let mut taken: Vec<(Rank, u64)> = Vec::new();
            for (rank, number) in self.rows.keys().copied() {
                // Rows of one time belong together: which of them comes first, only their ids tell.
                let tied = taken.last().is_some_and(|(last, _)| *last == rank);
                if !is_next(rank) || (taken.len() >= room && !tied) {
                    break;
                }
                taken.push((rank, number));
            }
            let rows = taken.iter().filter_map(|key| self.rows.remove(key)).map(|(_, row)| row);
            return Step::Read(rows.collect());
        }
        let candidates = self.found.keys().copied().chain(self.rows.keys().map(|(rank, _)| *rank));
        let mut candidates: Vec<Rank> = candidates.collect();
        let last = match candidates.len() >= self.wanted {
            true => Some(*candidates.select_nth_unstable(self.wanted - 1).1),
            false => None,
        };
        let mut opened: Vec<(Rank, u64)> = Vec::new();
        for (rank, number) in self.sources.keys().copied().take(at_once.max(1)) {
            // The nearest is always read: without it nothing becomes final.
            if !opened.is_empty() && last.is_some_and(|last| rank > last) {
                break;
            }
            if !matters(rank) {
                break;
            }
            opened.push((rank, number));
        }
        if opened.is_empty() {
            return Step::Done;
        }
        let sources = opened.iter().filter_map(|key| self.sources.remove(key)).map(|(_, source)| source);
        Step::Open(sources.collect())
    }

    /// Takes out the records that are final, in order; as many fewer are wanted then.
    pub fn take_final(&mut self) -> Vec<(EventId, T)> {
        let mut taken = Vec::new();
        let unread = self.unread().map(|(rank, _)| rank);
        while self.wanted > 0
            && let Some(entry) = self.found.first_entry()
            && unread.is_none_or(|unread| *entry.key() < unread)
        {
            taken.push(entry.remove());
            self.wanted -= 1;
        }
        taken
    }

    /// The first id that can still come: everything before it was looked at, and what was found there was taken out.
    /// `None` at the listing's end.
    pub fn frontier(&self) -> Option<EventId> {
        let found = self.found.iter().next().map(|(rank, (id, _))| (*rank, *id));
        [found, self.unread()].into_iter().flatten().min_by_key(|(rank, _)| *rank).map(|(_, id)| id)
    }

    /// The nearest of what was not read.
    fn unread(&self) -> Option<(Rank, EventId)> {
        let source = self.sources.iter().next().map(|((rank, _), (id, _))| (*rank, *id));
        let row = self.rows.iter().next().map(|((rank, _), (id, _))| (*rank, *id));
        [source, row, self.cut].into_iter().flatten().min_by_key(|(rank, _)| *rank)
    }

    /// Gives up: how many records and rows are held, and the sources that were not read.
    pub fn take_rest(&mut self) -> (usize, Vec<S>) {
        let held = self.held();
        self.rows.clear();
        self.found.clear();
        (held, std::mem::take(&mut self.sources).into_values().map(|(_, source)| source).collect())
    }

    /// How many records are still wanted.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Records and rows held.
    pub fn held(&self) -> usize {
        self.rows.len() + self.found.len()
    }

    fn is_cut(&self, rank: Rank) -> bool {
        self.cut.is_some_and(|(cut, _)| rank >= cut)
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Keeps memory bounded: of far more candidates than are wanted the farthest go, and the listing ends before them.
    fn drop_farthest(&mut self) {
        let enough = self.wanted.saturating_mul(2).saturating_add(SLACK);
        if self.held() <= enough.max(self.held_max) {
            return;
        }
        let ranked = self.rows.iter().map(|((rank, _), (id, _))| (*rank, *id));
        let mut ranked: Vec<(Rank, EventId)> =
            ranked.chain(self.found.iter().map(|(rank, (id, _))| (*rank, *id))).collect();
        let at = self.wanted.min(ranked.len() - 1);
        let (_, (last, _), behind) = ranked.select_nth_unstable_by_key(at, |(rank, _)| *rank);
        // Rows of one time stay or go together.
        let last = *last;
        if let Some((_, first)) = behind.iter().filter(|(rank, _)| *rank > last).min_by_key(|(rank, _)| *rank)
        {
            self.cut(*first);
        }
        // Where most are of one time none can go: it is tried again once there are many more.
        self.held_max = if self.held() > enough { self.held() * 2 } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, VecDeque};

    fn id(ms: u64, random: u64) -> EventId {
        EventId::new(Timestamp::from_ms(ms), u128::from(random))
    }

    /// A source as the tests have it: rows by time, or whole records, and sources inside it.
    #[derive(Clone, Debug)]
    enum Held {
        Rows(Vec<EventId>),
        Records(Vec<EventId>),
        Nested(Vec<Held>),
        /// Read in parts of so many.
        Stream(VecDeque<EventId>, usize),
    }

    fn nearest(order: Order, held: &Held) -> Option<EventId> {
        let ids: Box<dyn Iterator<Item = EventId> + '_> = match held {
            Held::Rows(ids) => {
                let times = ids.iter().map(|id| nearest_of(order, id.time()));
                Box::new(times)
            }
            Held::Records(ids) => Box::new(ids.iter().copied()),
            Held::Nested(all) => Box::new(all.iter().filter_map(|held| nearest(order, held))),
            Held::Stream(ids, _) => return ids.front().copied(),
        };
        match order {
            Order::Ascending => ids.min(),
            Order::Descending => ids.max(),
        }
    }

    fn listed(
        order: Order,
        sources: &[Held],
        wanted: usize,
        at_once: usize,
    ) -> (Vec<EventId>, Option<EventId>) {
        let mut merge: Merge<Held, EventId, EventId> = Merge::new(order, wanted);
        for held in sources {
            if let Some(first) = nearest(order, held) {
                merge.source(first, held.clone());
            }
        }
        let mut listed = Vec::new();
        loop {
            listed.extend(merge.take_final().into_iter().map(|(id, _)| id));
            match merge.next(at_once) {
                Step::Done => return (listed, merge.frontier()),
                Step::Read(rows) => rows.into_iter().for_each(|id| merge.record(id, id, |_, _| false)),
                Step::Open(sources) => {
                    for held in sources {
                        match held {
                            Held::Rows(ids) => ids.into_iter().for_each(|id| merge.row(id.time(), id)),
                            Held::Records(ids) => {
                                ids.into_iter().for_each(|id| merge.record(id, id, |_, _| false));
                            }
                            Held::Nested(all) => {
                                for held in all {
                                    if let Some(first) = nearest(order, &held) {
                                        merge.source(first, held);
                                    }
                                }
                            }
                            Held::Stream(mut ids, at_once) => {
                                let part: Vec<_> = ids.drain(..at_once.min(ids.len())).collect();
                                part.into_iter().for_each(|id| merge.record(id, id, |_, _| false));
                                if let Some(first) = ids.front().copied() {
                                    merge.source(first, Held::Stream(ids, at_once));
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_source_that_can_hold_nothing_nearer_is_not_opened() {
        let mut merge: Merge<&str, (), ()> = Merge::new(Order::Descending, 1);
        merge.source(id(9, 0), "near");
        merge.source(id(5, 0), "far");
        assert_eq!(merge.next(8), Step::Open(vec!["near", "far"]), "nothing is known yet");
        let mut merge: Merge<&str, (), ()> = Merge::new(Order::Descending, 1);
        merge.source(id(9, 0), "near");
        merge.source(id(5, 0), "far");
        assert_eq!(merge.next(1), Step::Open(vec!["near"]));
        merge.record(id(7, 0), (), |_, _| false);
        assert_eq!(merge.take_final().len(), 1);
        assert_eq!(merge.next(8), Step::Done);
        assert_eq!(merge.frontier(), Some(id(5, 0)));
    }

    #[test]
    fn of_two_copies_the_better_one_stays_and_comes_once() {
        let mut merge: Merge<(), (), u32> = Merge::new(Order::Ascending, 5);
        for copy in [1, 3, 2] {
            merge.record(id(1, 1), copy, |new, old| new > old);
        }
        assert_eq!(merge.take_final(), vec![(id(1, 1), 3)]);
        assert_eq!(merge.frontier(), None);
    }

    #[test]
    fn a_record_waits_for_a_row_of_its_time() {
        let mut merge: Merge<(), u32, ()> = Merge::new(Order::Descending, 1);
        merge.record(id(5, 1), (), |_, _| false);
        merge.row(Timestamp::from_ms(5), 7);
        assert!(merge.take_final().is_empty());
        assert_eq!(merge.next(8), Step::Read(vec![7]));
        merge.record(id(5, 9), (), |_, _| false);
        assert_eq!(merge.take_final(), vec![(id(5, 9), ())]);
    }

    #[test]
    fn far_too_many_candidates_are_cut_and_the_listing_ends_before_them() {
        let mut merge: Merge<(), u64, ()> = Merge::new(Order::Ascending, 10);
        for ms in (0..5_000).rev() {
            merge.row(Timestamp::from_ms(ms), ms);
        }
        assert!(merge.held() <= 2 * 10 + SLACK);
        let mut listed = 0;
        loop {
            listed += merge.take_final().len();
            match merge.next(8) {
                Step::Read(rows) => rows.iter().for_each(|ms| merge.record(id(*ms, 0), (), |_, _| false)),
                _ => break,
            }
        }
        assert_eq!(listed, 10);
        assert_eq!(merge.frontier(), Some(id(10, 0)));
    }

    fn some_ids() -> impl Strategy<Value = Vec<EventId>> {
        proptest::collection::vec((0..30_u64, 0..4_u64).prop_map(|(ms, random)| id(ms, random)), 0..12)
    }

    fn held() -> impl Strategy<Value = Held> {
        let leaf = prop_oneof![
            some_ids().prop_map(Held::Rows),
            some_ids().prop_map(Held::Records),
            (some_ids(), 1..4_usize).prop_map(|(ids, at_once)| Held::Stream(ids.into(), at_once)),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| proptest::collection::vec(inner, 0..3).prop_map(Held::Nested))
    }

    /// Streams come sorted, as the hot store gives them.
    fn sorted(order: Order, held: Held) -> Held {
        match held {
            Held::Stream(ids, at_once) => {
                let mut ids: Vec<_> = ids.into();
                ids.sort();
                if order == Order::Descending {
                    ids.reverse();
                }
                Held::Stream(ids.into(), at_once)
            }
            Held::Nested(all) => Held::Nested(all.into_iter().map(|held| sorted(order, held)).collect()),
            other => other,
        }
    }

    fn all_ids(held: &Held, all: &mut BTreeSet<EventId>) {
        match held {
            Held::Rows(ids) | Held::Records(ids) => all.extend(ids),
            Held::Stream(ids, _) => all.extend(ids),
            Held::Nested(inner) => inner.iter().for_each(|held| all_ids(held, all)),
        }
    }

    proptest! {
        #[test]
        fn any_sources_give_what_sorting_everything_gives(
            sources in proptest::collection::vec(held(), 0..6),
            wanted in 1..40_usize,
            at_once in 1..9_usize,
            ascending: bool,
        ) {
            let order = if ascending { Order::Ascending } else { Order::Descending };
            let sources: Vec<_> = sources.into_iter().map(|held| sorted(order, held)).collect();
            let mut all = BTreeSet::new();
            sources.iter().for_each(|held| all_ids(held, &mut all));
            let mut expected: Vec<EventId> = all.into_iter().collect();
            if order == Order::Descending {
                expected.reverse();
            }
            let (listed, frontier) = listed(order, &sources, wanted, at_once);
            prop_assert_eq!(&listed[..], &expected[..wanted.min(expected.len())]);
            // Nothing is left out between what was listed and where it goes on.
            match frontier {
                Some(frontier) => {
                    let behind = expected.get(wanted).copied();
                    let rank = |id| Rank::of(order, id);
                    prop_assert!(behind.is_none_or(|next| rank(frontier) <= rank(next)));
                    prop_assert!(listed.last().is_none_or(|last| rank(*last) < rank(frontier)));
                }
                None => prop_assert!(expected.len() <= wanted),
            }
        }
    }
}
