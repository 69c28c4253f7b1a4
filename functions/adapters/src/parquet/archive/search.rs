//! Searches a row group of a file of the archive: statistics and filters first, then one column after another for the rows that
//! are still in question, and leaves only where no column tells.
//!
//! In which order row groups are searched, and which rows end up in an answer, is not decided here.

use super::super::{
    ID, LEAF, LEAF_INDEX, OCCURRED_AT, RECEIVED_AT, TEXTS_FROM, column, contained, leaves_of, unreadable,
};
use super::layout::texts;
use super::reader::{ArchiveFile, Rows};
use arrow::array::{Array, DictionaryArray, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use parquet::bloom_filter::Sbbf;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use std::collections::HashMap;
use std::ops::Range;
use stele::id::EventId;
use stele::ports::{IdRange, Order};
use stele::query::{Bounds, Cell, Column, Filter, Nulls, Row, State};
use stele::record::{Leaf, Record};
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::{Error, Result};

/// Records kept beyond what is wanted, before the farthest are dropped.
const SLACK: usize = 1_024;
/// What stands for a row without a value.
const NO_VALUE: u32 = u32::MAX;

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Which events.
    pub filter: &'a Filter,
    /// Among these ids.
    pub range: IdRange,
    /// Nearest first in this order.
    pub order: Order,
    /// Only leaves of the tree of this size.
    pub below: TreeSize,
    /// How many at the most are of use.
    pub most: usize,
}

/// What a row group holds of it.
#[derive(Default)]
pub struct Hits {
    /// Rows that match by their columns, with the time of their event. Ids and leaf indexes were not looked at.
    pub rows: Vec<(Timestamp, usize)>,
    /// Records of rows of which only the leaf could tell.
    pub records: Vec<(Record, LeafIndex)>,
    /// From this id on records were dropped: they would have been too many.
    pub cut: Option<EventId>,
}

impl ArchiveFile {
    /// How many row groups it has.
    pub fn groups(&self) -> usize {
        self.firsts.len()
    }

    /// The ids a row group can hold, as its statistics say.
    pub fn group_range(&self, group: usize) -> Result<IdRange> {
        let (least, greatest) = self.occurred_at_of(group)?;
        let time = |ms: i64| {
            let ms = u64::try_from(ms).ok().filter(|ms| *ms <= Timestamp::MAX.ms());
            ms.map(Timestamp::from_ms).ok_or_else(|| Error::corrupt(self.at(), "a time", "another number"))
        };
        Ok(IdRange { first: EventId::first_at(time(least)?), last: EventId::last_at(time(greatest)?) })
    }

    /// The leaves of a row group.
    pub fn group_leaves(&self, group: usize) -> Range<u64> {
        self.leaves_of_group(group)
    }

    /// Bytes held of its end.
    pub fn end_bytes(&self) -> usize {
        self.tail.bytes.len()
    }

    /// What a row group holds of what is wanted.
    pub async fn search(&self, group: usize, wanted: &Wanted<'_>) -> Result<Hits> {
        let mut hits = Hits::default();
        let mut in_question = Vec::new();
        for Matching { row, time, told } in self.matching(group, wanted).await? {
            match told {
                true => hits.rows.push((time, row)),
                false => in_question.push(row),
            }
        }
        if !in_question.is_empty() {
            let mut nearest = Nearest { wanted, records: Vec::new(), cut: None };
            self.visit_records(group, &in_question, wanted, &mut |record, index| {
                // Most fail: only what stays is copied out of the page.
                if wanted.filter.judge(&record, Some(State::Archived))? == Some(true) {
                    nearest.put(record, index);
                }
                Ok(())
            })
            .await?;
            (hits.records, hits.cut) = (nearest.records, nearest.cut);
        }
        Ok(hits)
    }

    /// The records of rows, those of them that are wanted. Each is held against the filter once more.
    pub async fn records_at(
        &self,
        group: usize,
        rows: &[usize],
        wanted: &Wanted<'_>,
    ) -> Result<Vec<(Record, LeafIndex)>> {
        let mut sorted = rows.to_vec();
        sorted.sort_unstable();
        let mut records = Vec::with_capacity(rows.len());
        self.visit_records(group, &sorted, wanted, &mut |record, index| {
            if wanted.filter.judge(&record, Some(State::Archived))? == Some(true) {
                records.push((copied(record), index));
            }
            Ok(())
        })
        .await?;
        Ok(records)
    }

    /// Visits the time and one column, if any, of all rows that are wanted. No leaf is read unless the filter needs it.
    pub async fn values(
        &self,
        group: usize,
        of: Option<Column>,
        wanted: &Wanted<'_>,
        visit: &mut (dyn FnMut(Timestamp, Option<&str>) + Send),
    ) -> Result<()> {
        let mut matching = self.matching(group, wanted).await?;
        if matching.iter().any(|row| !row.told) {
            let in_question: Vec<usize> =
                matching.iter().filter(|row| !row.told).map(|row| row.row).collect();
            let mut held = Vec::new();
            let mut rows = in_question.iter().copied();
            let everything = Wanted { range: ALL, below: TreeSize::new(u64::MAX), ..*wanted };
            self.visit_records(group, &in_question, &everything, &mut |record, _| {
                let row = rows.next();
                if wanted.filter.judge(&record, Some(State::Archived))? == Some(true) {
                    held.extend(row);
                }
                Ok(())
            })
            .await?;
            matching.retain(|row| row.told || held.binary_search(&row.row).is_ok());
        }
        if self.leaves_of_group(group).end > wanted.below.to_u64() {
            let rows: Vec<usize> = matching.iter().map(|row| row.row).collect();
            let mut below = Vec::with_capacity(rows.len());
            self.visit(group, &rows, LEAF_INDEX, &mut |batch| {
                let indexes: &Int64Array = column(self.at(), batch, 0)?;
                below.extend(indexes.values().iter().map(|index| (*index as u64) < wanted.below.to_u64()));
                Ok(())
            })
            .await?;
            let mut below = below.into_iter();
            matching.retain(|_| below.next().unwrap_or(false));
        }
        let times = matching.iter().map(|row| row.time);
        let Some(of) = of else {
            times.for_each(|time| visit(time, None));
            return Ok(());
        };
        let rows: Vec<usize> = matching.iter().map(|row| row.row).collect();
        let place = place(of).ok_or_else(|| Error::corrupt(self.at(), "a column", "none"))?;
        let mut times = times;
        self.visit(group, &rows, place, &mut |batch| {
            for text in column::<StringArray>(self.at(), batch, 0)? {
                if let Some(time) = times.next() {
                    visit(time, text);
                }
            }
            Ok(())
        })
        .await
    }

    /// The rows that can match, by rising number.
    async fn matching(&self, group: usize, wanted: &Wanted<'_>) -> Result<Vec<Matching>> {
        let filter = wanted.filter;
        let range = self.group_range(group)?;
        let apart = range.last < wanted.range.first || range.first > wanted.range.last;
        let mut bounds = self.bounds(group, range);
        let nothing =
            apart || self.leaves_of_group(group).start >= wanted.below.to_u64() || !filter.may_match(&bounds);
        if nothing {
            return Ok(Vec::new());
        }
        let pruned_by = filter.expression().pruned_by();
        if pruned_by.contains(&Column::ResourceId) {
            bounds.resources = self.resources(group).await?;
            if !contained(self.at(), || Ok(filter.may_match(&bounds)))? {
                return Ok(Vec::new());
            }
        }
        let total = self.leaves_of_group(group);
        let mut rows: Vec<usize> = (0..(total.end - total.start) as usize).collect();
        if pruned_by.contains(&Column::ActorId) {
            self.keep_pages_of_actor(group, filter, &bounds, &mut rows).await?;
        }
        // One text after another, for the rows that are still in question.
        let mut known: Vec<Known> = Vec::new();
        let mut columns: Vec<Column> = filter.columns().into_iter().collect();
        columns.sort_unstable_by_key(|column| cost(*column));
        for column in columns.iter().copied() {
            let Some(place) = place(column) else { continue };
            if rows.is_empty() {
                break;
            }
            let kept = match known.is_empty() {
                true => {
                    let (first, kept) = self.first_known(group, &rows, column, place, filter).await?;
                    known.push(first);
                    kept
                }
                false => {
                    known.push(self.known(group, &rows, column, place).await?);
                    kept_of(filter, &known)
                }
            };
            let keep = |at: usize| kept[at];
            retain(&mut rows, keep);
            known.iter_mut().for_each(|known| retain(&mut known.codes, keep));
        }
        // Then times, which all need that are left.
        let times = self.times(group, &rows, OCCURRED_AT).await?;
        let received = match columns.contains(&Column::ReceivedAt) {
            true => Some(self.times(group, &rows, RECEIVED_AT).await?),
            false => None,
        };
        let in_range = wanted.range.first.time()..=wanted.range.last.time();
        let mut matching = Vec::with_capacity(rows.len());
        let mut codes = Vec::with_capacity(known.len());
        for (at, (row, time)) in rows.into_iter().zip(times).enumerate() {
            if !in_range.contains(&time) {
                continue;
            }
            codes.clear();
            codes.extend(known.iter().map(|known| known.codes[at]));
            let received = received.as_ref().map(|received| received[at]);
            match filter.holds_of(&KnownRow { known: &known, codes: &codes, time: Some(time), received }) {
                Some(false) => {}
                held => matching.push(Matching { row, time, told: held == Some(true) }),
            }
        }
        Ok(matching)
    }

    /// What statistics say of a row group.
    fn bounds(&self, group: usize, range: IdRange) -> GroupBounds<'_> {
        let actors = place(Column::ActorId).and_then(|place| {
            match self.metadata.row_group(group).column(place).statistics() {
                Some(Statistics::ByteArray(s)) => s.min_opt().zip(s.max_opt()),
                _ => None,
            }
        });
        let received = match self.metadata.row_group(group).column(RECEIVED_AT).statistics() {
            Some(Statistics::Int64(s)) => s.min_opt().copied().zip(s.max_opt().copied()),
            _ => None,
        };
        let time = |ms: i64| u64::try_from(ms).ok().map(Timestamp::from_ms);
        GroupBounds {
            actors: actors.map(|(least, greatest)| (least.data(), greatest.data())),
            received: received.and_then(|(least, greatest)| time(least).zip(time(greatest))),
            range,
            resources: None,
        }
    }

    /// The bloom filter of a row group's resources.
    async fn resources(&self, group: usize) -> Result<Option<Sbbf>> {
        let Some(place) = place(Column::ResourceId) else { return Ok(None) };
        let column = self.metadata.row_group(group).column(place);
        let span = column.bloom_filter_offset().zip(column.bloom_filter_length());
        let Some((Ok(start), Ok(length))) =
            span.map(|(start, length)| (u64::try_from(start), u64::try_from(length)))
        else {
            return Ok(None);
        };
        let range = start..start.saturating_add(length);
        let bytes = match self.tail.slice(&range) {
            Some(bytes) => bytes,
            None => self.source().read(range).await?,
        };
        let at = self.at();
        contained(at, || Sbbf::from_bytes(&bytes).map(Some).map_err(|e| unreadable(at, e)))
    }

    /// Leaves out the pages that can't hold what is asked for, by their actors.
    async fn keep_pages_of_actor(
        &self,
        group: usize,
        filter: &Filter,
        bounds: &GroupBounds<'_>,
        rows: &mut Vec<usize>,
    ) -> Result<()> {
        let Some(place) = place(Column::ActorId) else { return Ok(()) };
        let metadata = self.with_pages(group, &[place], &[place]).await?;
        let Some(pages) = metadata.page_index() else { return Ok(()) };
        let (Some(ColumnIndexMetaData::BYTE_ARRAY(extremes)), Some(places)) =
            (pages.column_index(group, place), pages.offset_index(group, place))
        else {
            return Ok(());
        };
        let firsts = places.page_locations().iter().map(|page| usize::try_from(page.first_row_index));
        let Ok(firsts) = firsts.collect::<std::result::Result<Vec<usize>, _>>() else { return Ok(()) };
        if extremes.num_pages() != firsts.len() as u64 {
            return Ok(());
        }
        let may_hold = |page: usize| {
            let actors = extremes.min_value(page).zip(extremes.max_value(page));
            filter.may_match(&PageBounds { group: bounds, actors, is_null: extremes.is_null_page(page) })
        };
        let kept: Vec<bool> = (0..firsts.len()).map(may_hold).collect();
        rows.retain(|row| {
            let page = firsts.partition_point(|first| first <= row);
            page == 0 || kept[page - 1]
        });
        Ok(())
    }

    /// The first column that is looked at, and which rows it leaves in question. Most are not, and nothing is kept of those.
    async fn first_known(
        &self,
        group: usize,
        rows: &[usize],
        of: Column,
        place: usize,
        filter: &Filter,
    ) -> Result<(Known, Vec<bool>)> {
        let mut known = Known { column: of, values: Vec::new(), codes: Vec::new() };
        let (mut codes, mut kept) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let mut numbers = HashMap::<String, u32>::new();
        self.visit_texts(
            group,
            rows,
            place,
            &mut |text| {
                let keep = filter.holds_of(&OnlyCell(of, text)) != Some(false);
                let code = match text {
                    Some(text) if keep => known.number(text, &mut numbers),
                    _ => NO_VALUE,
                };
                (code, keep)
            },
            &mut |(code, keep)| {
                codes.push(code);
                kept.push(keep);
            },
        )
        .await?;
        Ok((Known { codes, ..known }, kept))
    }

    /// A column of some rows.
    async fn known(&self, group: usize, rows: &[usize], of: Column, place: usize) -> Result<Known> {
        let mut known = Known { column: of, values: Vec::new(), codes: Vec::new() };
        let mut codes = Vec::with_capacity(rows.len());
        let mut numbers = HashMap::<String, u32>::new();
        self.visit_texts(
            group,
            rows,
            place,
            &mut |text| text.map_or(NO_VALUE, |text| known.number(text, &mut numbers)),
            &mut |code| codes.push(code),
        )
        .await?;
        Ok(Known { codes, ..known })
    }

    /// Visits a text column of some rows: with what is learned of each value, which is asked once for each dictionary that has it.
    async fn visit_texts<T: Copy + Send>(
        &self,
        group: usize,
        rows: &[usize],
        place: usize,
        learn: &mut (dyn FnMut(Option<&str>) -> T + Send),
        visit: &mut (dyn FnMut(T) + Send),
    ) -> Result<()> {
        let mut dictionary: Option<StringArray> = None;
        let (mut learned, mut of_none): (Vec<Option<T>>, Option<T>) = (Vec::new(), None);
        let Some(rows) = self.selected(group, rows) else { return Ok(()) };
        self.coded(group, place, rows, &mut |batch| {
            let coded: &DictionaryArray<Int32Type> = column(self.at(), batch, 0)?;
            let wrong = || Error::corrupt(self.at(), "a text", "another value");
            let values: &StringArray = coded.values().as_any().downcast_ref().ok_or_else(wrong)?;
            if !dictionary.as_ref().is_some_and(|before| is_same(before, values)) {
                learned.clear();
                learned.resize(values.len(), None);
                dictionary = Some(values.clone());
            }
            for key in coded.keys() {
                let Some(key) = key else {
                    visit(*of_none.get_or_insert_with(|| learn(None)));
                    continue;
                };
                let key = usize::try_from(key).map_err(|_| wrong())?;
                let place = learned.get_mut(key).ok_or_else(wrong)?;
                visit(*place.get_or_insert_with(|| learn(Some(values.value(key)))));
            }
            Ok(())
        })
        .await
    }

    async fn times(&self, group: usize, rows: &[usize], place: usize) -> Result<Vec<Timestamp>> {
        let mut times = Vec::with_capacity(rows.len());
        let wrong = || Error::corrupt(self.at(), "a time", "another number");
        self.visit(group, rows, place, &mut |batch| {
            for ms in column::<TimestampMillisecondArray>(self.at(), batch, 0)?.values() {
                let ms = u64::try_from(*ms).ok().filter(|ms| *ms <= Timestamp::MAX.ms()).ok_or_else(wrong)?;
                times.push(Timestamp::from_ms(ms));
            }
            Ok(())
        })
        .await?;
        Ok(times)
    }

    /// Visits one column of some rows.
    async fn visit(
        &self,
        group: usize,
        rows: &[usize],
        place: usize,
        visit: &mut (dyn FnMut(&arrow::array::RecordBatch) -> Result<()> + Send),
    ) -> Result<()> {
        match self.selected(group, rows) {
            Some(rows) => self.rows(group, &[place], rows, None, visit).await,
            None => Ok(()),
        }
    }

    /// These rows of a row group; nothing if there are none.
    fn selected<'r>(&self, group: usize, rows: &'r [usize]) -> Option<Rows<'r>> {
        let leaves = self.leaves_of_group(group);
        match rows.len() as u64 {
            0 => None,
            all if all == leaves.end - leaves.start => Some(Rows::All),
            _ => Some(Rows::These(rows)),
        }
    }

    /// Visits the records of rows that lie in the range and in the tree; their leaves share memory with what was read.
    async fn visit_records(
        &self,
        group: usize,
        rows: &[usize],
        wanted: &Wanted<'_>,
        visit: &mut (dyn FnMut(Record, LeafIndex) -> Result<()> + Send),
    ) -> Result<()> {
        let Some(selected) = self.selected(group, rows) else { return Ok(()) };
        let leaves = self.leaves_of_group(group);
        self.rows(group, &[LEAF, LEAF_INDEX], selected, None, &mut |batch| {
            let indexes: &Int64Array = column(self.at(), batch, 1)?;
            for (leaf, index) in leaves_of(column(self.at(), batch, 0)?).zip(indexes.values()) {
                let index = u64::try_from(*index).ok().filter(|index| leaves.contains(index));
                let index = index
                    .ok_or_else(|| Error::corrupt(self.at(), "a leaf index of the row group", "another"))?;
                if index >= wanted.below.to_u64() {
                    continue;
                }
                let record = Record::from_leaf(leaf).map_err(|e| {
                    let at = format_args!("{}: leaf {index}", self.at());
                    Error::corrupt(at, "a record", e.detail()).with_source(e)
                })?;
                if (wanted.range.first..=wanted.range.last).contains(&record.id) {
                    visit(record, LeafIndex::new(index))?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// All ids.
pub(super) const ALL: IdRange =
    IdRange { first: EventId::first_at(Timestamp::from_ms(0)), last: EventId::last_at(Timestamp::MAX) };

/// A column of the rows that are still in question: for each the number of its value.
struct Known {
    column: Column,
    values: Vec<String>,
    codes: Vec<u32>,
}

impl Known {
    /// The number of a value.
    fn number(&mut self, text: &str, numbers: &mut HashMap<String, u32>) -> u32 {
        if let Some(code) = numbers.get(text) {
            return *code;
        }
        let code = self.values.len() as u32;
        self.values.push(text.to_owned());
        numbers.insert(text.to_owned(), code);
        code
    }
}

/// Whether two arrays are one place in memory.
fn is_same(a: &StringArray, b: &StringArray) -> bool {
    let place =
        |array: &StringArray| (array.value_data().as_ptr(), array.value_offsets().as_ptr(), array.len());
    place(a) == place(b)
}

/// Which rows what is known leaves in question: rows with the same values are judged once.
fn kept_of(filter: &Filter, known: &[Known]) -> Vec<bool> {
    let mut said = HashMap::<Vec<u32>, bool>::new();
    let mut codes = Vec::with_capacity(known.len());
    let rows = known.first().map_or(0, |known| known.codes.len());
    let judged = (0..rows).map(|at| {
        codes.clear();
        codes.extend(known.iter().map(|known| known.codes[at]));
        if let Some(keep) = said.get(&codes) {
            return *keep;
        }
        let row = KnownRow { known, codes: &codes, time: None, received: None };
        let keep = filter.holds_of(&row) != Some(false);
        said.insert(codes.clone(), keep);
        keep
    });
    judged.collect()
}

/// A row of which one column was read.
struct OnlyCell<'a>(Column, Option<&'a str>);

impl Row for OnlyCell<'_> {
    fn cell(&self, column: Column) -> Cell<'_> {
        match column == self.0 {
            true => self.1.map_or(Cell::Null, Cell::Text),
            false => Cell::Unread,
        }
    }

    fn state(&self) -> Option<State> {
        Some(State::Archived)
    }
}

/// One of these rows.
struct KnownRow<'a> {
    known: &'a [Known],
    codes: &'a [u32],
    time: Option<Timestamp>,
    received: Option<Timestamp>,
}

impl Row for KnownRow<'_> {
    fn cell(&self, column: Column) -> Cell<'_> {
        let time = |time: Option<Timestamp>| time.map_or(Cell::Unread, Cell::Time);
        match column {
            Column::OccurredAt => time(self.time),
            Column::ReceivedAt => time(self.received),
            _ => match self.known.iter().zip(self.codes).find(|(known, _)| known.column == column) {
                Some((known, code)) => {
                    known.values.get(*code as usize).map_or(Cell::Null, |text| Cell::Text(text))
                }
                None => Cell::Unread,
            },
        }
    }

    fn state(&self) -> Option<State> {
        Some(State::Archived)
    }
}

/// A row that can match.
struct Matching {
    row: usize,
    time: Timestamp,
    /// Its columns tell that it does.
    told: bool,
}

/// What is known of a row group without reading its columns.
struct GroupBounds<'a> {
    actors: Option<(&'a [u8], &'a [u8])>,
    received: Option<(Timestamp, Timestamp)>,
    range: IdRange,
    resources: Option<Sbbf>,
}

impl Bounds for GroupBounds<'_> {
    fn texts(&self, column: Column) -> Option<(&[u8], &[u8])> {
        if column == Column::ActorId { self.actors } else { None }
    }

    fn times(&self, column: Column) -> Option<(Timestamp, Timestamp)> {
        match column {
            Column::OccurredAt => Some((self.range.first.time(), self.range.last.time())),
            Column::ReceivedAt => self.received,
            _ => None,
        }
    }

    fn ids(&self) -> Option<(EventId, EventId)> {
        Some((self.range.first, self.range.last))
    }

    fn bloom(&self, column: Column, value: &str) -> Option<bool> {
        match (column, &self.resources) {
            (Column::ResourceId, Some(resources)) => Some(resources.check(value)),
            _ => None,
        }
    }

    fn state(&self) -> Option<State> {
        Some(State::Archived)
    }
}

/// What is known of a page of actors, and so of these rows.
struct PageBounds<'a> {
    group: &'a GroupBounds<'a>,
    actors: Option<(&'a [u8], &'a [u8])>,
    is_null: bool,
}

impl Bounds for PageBounds<'_> {
    fn texts(&self, column: Column) -> Option<(&[u8], &[u8])> {
        if column == Column::ActorId { self.actors } else { None }
    }

    fn times(&self, column: Column) -> Option<(Timestamp, Timestamp)> {
        self.group.times(column)
    }

    fn ids(&self) -> Option<(EventId, EventId)> {
        self.group.ids()
    }

    fn nulls(&self, column: Column) -> Nulls {
        if column == Column::ActorId && self.is_null { Nulls::All } else { Nulls::Unknown }
    }

    fn bloom(&self, column: Column, value: &str) -> Option<bool> {
        self.group.bloom(column, value)
    }

    fn state(&self) -> Option<State> {
        self.group.state()
    }
}

/// The nearest of the records that match.
struct Nearest<'a> {
    wanted: &'a Wanted<'a>,
    records: Vec<(Record, LeafIndex)>,
    cut: Option<EventId>,
}

impl Nearest<'_> {
    fn put(&mut self, record: Record, index: LeafIndex) {
        let nearer = |a: &EventId, b: &EventId| match self.wanted.order {
            Order::Ascending => a < b,
            Order::Descending => a > b,
        };
        if self.cut.is_some_and(|cut| !nearer(&record.id, &cut)) {
            return;
        }
        self.records.push((copied(record), index));
        if self.records.len() > self.wanted.most.saturating_mul(2).saturating_add(SLACK) {
            match self.wanted.order {
                Order::Ascending => self.records.sort_unstable_by_key(|(record, _)| record.id),
                Order::Descending => {
                    self.records.sort_unstable_by_key(|(record, _)| std::cmp::Reverse(record.id));
                }
            }
            self.cut = self.records.get(self.wanted.most).map(|(record, _)| record.id);
            self.records.truncate(self.wanted.most);
        }
    }
}

/// With a leaf of its own: the page it shares memory with is a thousand times its size.
fn copied(record: Record) -> Record {
    let leaf = Leaf::new(Bytes::copy_from_slice(record.leaf.as_bytes()));
    Record { leaf, ..record }
}

fn retain<T>(values: &mut Vec<T>, keep: impl Fn(usize) -> bool) {
    let mut at = 0;
    values.retain(|_| {
        at += 1;
        keep(at - 1)
    });
}

/// Where a column of texts lies in a file of the archive.
fn place(column: Column) -> Option<usize> {
    match column {
        Column::Id => Some(ID),
        _ => texts().position(|text| text.name == column.name()).map(|place| TEXTS_FROM + place),
    }
}

/// By rising cost per row that is left out: those that lie together or are small come first, ids last.
fn cost(column: Column) -> usize {
    const ORDER: [Column; 9] = [
        Column::ActorId,
        Column::ResourceId,
        Column::Action,
        Column::Outcome,
        Column::ActorType,
        Column::ResourceType,
        Column::Reason,
        Column::KeyId,
        Column::Ip,
    ];
    let place = ORDER.iter().position(|known| *known == column);
    place.unwrap_or(ORDER.len() + usize::from(column == Column::Id))
}
