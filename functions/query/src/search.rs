//! The search behind listings and exports: hot store, waiting segments and archive as one sequence by (`occurred_at`, id).
//!
//! Events from the **divide** on are looked for in the hot store alone, which has all of them. Older ones come out of the log,
//! and out of the hot store where they are not proven to be in it: late ones, and those that wait to be sealed. So a page
//! of recent events costs no read of an object. What was found twice is one event, and the copy with a leaf index counts.
//!
//! It stops at its budget, and then says up to where everything was looked at.

use crate::Query;
use crate::scan::{Late, Scan, ScanOf};
use futures_util::future::{join_all, try_join, try_join_all};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use stele::access::Tenant;
use stele::archive::ArchiveEntry;
use stele::id::EventId;
use stele::ports::{IdRange, Order};
use stele::query::{Bounds, Cell, Column, Cursor, Filter, Merge, ROWS_AT_ONCE, Row, State, Step};
use stele::record::Record;
use stele::segment::{Head, IndexEntry};
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::{Code, Error, Result, limits};
use stele_adapters::cold_search::{Holder, unless_gone};
use stele_adapters::parquet::archive::{ArchiveFile, Hits, Wanted};

/// Leaves the archive must have in a range before a filter without an index is looked up in it rather than in the hot store,
/// which reads as many whole records at once.
const ARCHIVED_LEAVES_MIN: u64 = 500;

/// A record with its leaf index where the log told it.
pub(crate) struct Found {
    pub(crate) record: Record,
    pub(crate) leaf_index: Option<LeafIndex>,
}

/// The point in log and time a listing began at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    /// Later leaves are not looked for in the log.
    pub(crate) tree_size: TreeSize,
    /// The latest `received_at` in the log of that size, or later.
    pub(crate) received_max: Timestamp,
    /// What was received before is proven to be in that log.
    pub(crate) proven_until: Timestamp,
}

/// What a search asks for.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) order: Order,
    /// Where an earlier page ended.
    pub(crate) cursor: Option<Cursor>,
    /// How many records are of use.
    pub(crate) wanted: usize,
    /// Records of the hot store it may look at.
    pub(crate) scanned_max: usize,
    /// Only these ids, whatever else the filter admits.
    pub(crate) within: Option<IdRange>,
}

/// Events that are counted: the time of each, and the number of its value.
#[derive(Default)]
pub(crate) struct Part {
    pub(crate) events: Vec<(Timestamp, u32)>,
    /// By number; `None` for events that have none.
    pub(crate) values: Vec<Option<String>>,
    numbers: HashMap<Option<String>, u32>,
}

impl Part {
    fn add(&mut self, time: Timestamp, value: Option<&str>) {
        let number = match self.events.last() {
            // Rows are sorted: a value often follows itself.
            Some((_, number)) if self.values[*number as usize].as_deref() == value => *number,
            _ => {
                let value = value.map(str::to_owned);
                let next = self.values.len() as u32;
                let number = *self.numbers.entry(value.clone()).or_insert(next);
                if number == next {
                    self.values.push(value);
                }
                number
            }
        };
        self.events.push((time, number));
    }
}

enum Source<'a> {
    /// The hot store; whether it is for late events only.
    Hot(Box<Scan<'a>>),
    /// Everything before the divide.
    Old(IdRange),
    File(Arc<ArchiveEntry>),
    Group(Arc<ArchiveFile>, usize),
    Segment(Arc<IndexEntry>),
}

struct RowAt {
    file: Arc<ArchiveFile>,
    group: usize,
    row: usize,
}

/// What reading a source gave.
enum Read<'a> {
    Hot {
        scan: Box<Scan<'a>>,
        records: Vec<Record>,
        scanned: usize,
        ended: bool,
    },
    Old {
        sources: Vec<(EventId, Source<'a>)>,
        earliest: Option<Timestamp>,
        begins_late: bool,
    },
    Sources(Vec<(EventId, Source<'a>)>),
    Group(Arc<ArchiveFile>, usize, Hits),
    Records(Vec<(Record, LeafIndex)>),
    Part(Part),
    /// An object is not there any more.
    Gone,
}

/// What a source is read for.
#[derive(Clone, Copy)]
enum For {
    /// Its records.
    Records,
    /// A field of its events, or their number.
    Counting(Option<Column>),
}

/// A search under way.
pub(crate) struct Search<'a> {
    query: &'a Query,
    tenant: &'a Tenant,
    question: Question<'a>,
    /// Of what is left of the filter's range the part before the divide: the log is searched for nothing else.
    old: Option<IdRange>,
    merge: Merge<Source<'a>, RowAt, Found>,
    snapshot: Option<Snapshot>,
    /// The head of that log, where the search itself read it.
    head: Option<Head>,
    scanned: usize,
    at_once: usize,
    begun: Timestamp,
    read_before: u64,
    start: Option<EventId>,
    /// The log was looked into.
    went_cold: bool,
    /// Something that could hold events is gone, its retention being over.
    pub(crate) gone: bool,
    /// The earliest time of anything in the log, once it was looked into.
    pub(crate) earliest: Option<Timestamp>,
}

impl<'a> Search<'a> {
    /// Begins, or goes on behind a cursor.
    pub(crate) async fn new(
        query: &'a Query,
        tenant: &'a Tenant,
        question: Question<'a>,
        now: Timestamp,
    ) -> Result<Search<'a>> {
        let order = question.order;
        let range = question.filter.range().and_then(|range| match question.cursor.map(|c| c.last) {
            None => Some(range),
            // Behind the last one, which is not part of it.
            Some(last) => match order {
                Order::Descending => Some(IdRange { last: last.previous()?.min(range.last), ..range }),
                Order::Ascending => Some(IdRange { first: last.next()?.max(range.first), ..range }),
            },
        });
        let range = range.map(|range| match question.within {
            Some(within) => {
                IdRange { first: range.first.max(within.first), last: range.last.min(within.last) }
            }
            None => range,
        });
        let range = range.filter(|range| range.first <= range.last);
        let snapshot = question.cursor.map(|cursor| Snapshot {
            tree_size: cursor.tree_size,
            received_max: cursor.as_of,
            proven_until: cursor.proven_until,
        });
        let mut search = Search {
            query,
            tenant,
            question,
            old: None,
            merge: Merge::new(order, question.wanted),
            snapshot,
            head: None,
            scanned: 0,
            at_once: 1,
            begun: now,
            read_before: query.cold.read().0,
            start: range.map(|range| nearest(order, range)),
            went_cold: false,
            gone: false,
            earliest: None,
        };
        if let Some(range) = range {
            search.divide(range, now).await?;
        }
        Ok(search)
    }

    /// Says which events come from where.
    async fn divide(&mut self, range: IdRange, now: Timestamp) -> Result<()> {
        let order = self.question.order;
        let divide = self.divide_at(range, now).await?;
        let (old, recent) = match divide {
            None => (None, Some(range)),
            Some(divide) => (
                divide.previous().map(|last| IdRange { last: last.min(range.last), ..range }),
                Some(IdRange { first: divide.max(range.first), ..range }),
            ),
        };
        let some = |range: &IdRange| range.first <= range.last;
        if let Some(recent) = recent.filter(some) {
            let scan = self.scan(recent, None, now).await?;
            self.merge.source(nearest(order, recent), Source::Hot(Box::new(scan)));
        }
        self.old = old.filter(some);
        if let Some(old) = self.old {
            self.merge.source(nearest(order, old), Source::Old(old));
        }
        Ok(())
    }

    /// The first id the hot store alone is asked for; `None` if it has everything.
    async fn divide_at(&mut self, range: IdRange, now: Timestamp) -> Result<Option<EventId>> {
        let record = self.tenant.record();
        let forgotten = record.forgotten(now);
        // It forgets by `received_at`, which is at most so much before `occurred_at`.
        let kept = match record.created_ms >= forgotten.ms() {
            true => None,
            false => Some(EventId::first_at(forgotten.plus_ms(limits::FUTURE_MS_MAX + 1))),
        };
        let filter = self.question.filter;
        let is_of_times = |column| matches!(column, &Column::OccurredAt | &Column::Id);
        let is_plain =
            filter.columns().iter().all(is_of_times) && !filter.needs_leaf(true) && !filter.needs_state();
        if is_plain || !filter.best_index().is_empty() {
            return Ok(kept);
        }
        // No index helps: what the archive has is found there by columns, a hundred times cheaper than record by record.
        let snapshot = match self.snapshot {
            Some(snapshot) => snapshot,
            None => self.begin_snapshot().await?,
        };
        let last = self.query.archive.archived_below(self.tenant, snapshot.tree_size, 1).await?;
        let archived = last.first().map_or(Timestamp::default(), |last| last.received_max);
        let proven = EventId::first_at(snapshot.proven_until.min(archived.day().start()));
        if kept.is_some_and(|kept| kept >= proven) || proven <= range.first {
            return Ok(kept);
        }
        let holders = self.query.cold.holders(self.tenant, snapshot.tree_size).await?;
        let hot_from = kept.unwrap_or(range.first).max(range.first);
        let spared = holders.iter().filter(|holder| {
            matches!(holder, Holder::File(_))
                && holder.range().last >= hot_from
                && holder.range().first < proven
        });
        Ok(match spared.map(Holder::leaves).sum::<u64>() >= ARCHIVED_LEAVES_MIN {
            true => Some(proven),
            false => kept,
        })
    }

    /// Reads where the log is. What is proven is read first: it must be in the log of the size that is read then.
    async fn begin_snapshot(&mut self) -> Result<Snapshot> {
        let reconciled = self.query.watermarks.reconciled(self.tenant).await?;
        let head = self.query.heads.head(self.tenant).await?;
        let snapshot = Snapshot {
            tree_size: head.as_ref().map_or(TreeSize::ZERO, Head::size),
            received_max: head.as_ref().map_or(Timestamp::default(), |head| head.received_max),
            proven_until: reconciled.map_or(Timestamp::default(), |r| r.through.next().start()),
        };
        (self.snapshot, self.head) = (Some(snapshot), head);
        Ok(snapshot)
    }

    async fn scan(&self, range: IdRange, late: Option<Late>, now: Timestamp) -> Result<Scan<'a>> {
        let of = ScanOf {
            filter: self.question.filter,
            order: self.question.order,
            range,
            as_of: self.question.cursor.map(|cursor| cursor.as_of),
            late,
        };
        Scan::new(&*self.query.hot, self.tenant, of, now).await
    }

    /// The point it began at, if it had to find that out, or goes on from.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        self.snapshot
    }

    /// The first id that was not looked at; `None` at the end.
    pub(crate) fn frontier(&self) -> Option<EventId> {
        self.merge.frontier()
    }

    /// Goes on until there is something final; nothing at the end, when all that is wanted was given, and when the budget
    /// is spent.
    pub(crate) async fn next(&mut self) -> Result<Vec<Found>> {
        loop {
            let found = self.merge.take_final();
            if !found.is_empty() {
                return Ok(found.into_iter().map(|(_, found)| found).collect());
            }
            if self.is_spent()? {
                return Ok(Vec::new());
            }
            match self.merge.next(self.at_once) {
                Step::Done => return Ok(Vec::new()),
                Step::Read(rows) if rows.len() > ROWS_AT_ONCE => self.tell_apart(rows).await?,
                Step::Read(rows) => self.read_rows(rows).await?,
                Step::Open(sources) => {
                    self.at_once = (self.at_once * 2).min(self.at_once_max());
                    for read in self.open(sources, For::Records).await? {
                        self.put(read);
                    }
                }
            }
        }
    }

    /// Goes on counting: what some sources hold, each event once over all calls; nothing at the end and when the budget is spent.
    pub(crate) async fn count(&mut self, field: Option<Column>) -> Result<Option<Vec<Part>>> {
        if self.is_spent()? {
            return Ok(None);
        }
        // A count has no records and no rows: it opens everything, nearest first.
        let Step::Open(sources) = self.merge.next(self.at_once) else { return Ok(None) };
        self.at_once = (self.at_once * 2).min(self.at_once_max());
        let mut parts = Vec::new();
        for read in self.open(sources, For::Counting(field)).await? {
            match read {
                Read::Part(part) => parts.push(part),
                Read::Hot { scan, records, scanned, ended } => {
                    parts.push(self.part_of_hot(&scan, &records, field).await?);
                    self.put(Read::Hot { scan, records: Vec::new(), scanned, ended });
                }
                other => self.put(other),
            }
        }
        Ok(Some(parts))
    }

    /// Of late records those alone that are not in the log: the others are counted there.
    async fn part_of_hot(&self, scan: &Scan<'_>, records: &[Record], field: Option<Column>) -> Result<Part> {
        let sealed = match &self.head {
            Some(head) if scan.is_late() => {
                let wanted: Vec<_> = records.iter().map(|r| (r.id, r.received_at)).collect();
                self.query.places.places_below(self.tenant, head, &wanted).await?
            }
            _ => HashMap::new(),
        };
        let mut part = Part::default();
        for record in records.iter().filter(|record| !sealed.contains_key(&record.id)) {
            add_record(&mut part, record, field)?;
        }
        Ok(part)
    }

    /// How many sources may be open at once, for memory's sake.
    fn at_once_max(&self) -> usize {
        match self.question.filter.needs_leaf(true) {
            true => limits::SEARCH_LARGE_READS_AT_ONCE,
            false => limits::SEARCH_READS_AT_ONCE,
        }
    }

    /// Whether its budget is spent. It never stops where it began: a cursor must get further.
    fn is_spent(&self) -> Result<bool> {
        let ms = self.query.clock.now().ms().saturating_sub(self.begun.ms());
        let bytes = self.query.cold.read().0.saturating_sub(self.read_before);
        let moved = self.merge.frontier() != self.start;
        if !moved && ms >= limits::SEARCH_STUCK_MS_MAX {
            return Err(Error::new(
                Code::Unavailable,
                "the search gets no further within its time: narrow it down by time, actor, resource or action",
            ));
        }
        Ok(moved
            && (self.scanned >= self.question.scanned_max
                || ms >= limits::SEARCH_MS_MAX
                || bytes >= limits::SEARCH_BYTES_MAX))
    }

    async fn open(&mut self, sources: Vec<Source<'a>>, what: For) -> Result<Vec<Read<'a>>> {
        if !self.went_cold && sources.iter().any(|source| matches!(source, Source::Old(_))) {
            self.went_cold = true;
            if self.snapshot.is_none() {
                self.begin_snapshot().await?;
            }
        }
        let below = self.snapshot.map_or(TreeSize::ZERO, |snapshot| snapshot.tree_size);
        let this = &*self;
        try_join_all(sources.into_iter().map(|source| this.read(source, what, below))).await
    }

    fn wanted(&self, below: TreeSize) -> Wanted<'a> {
        let nothing = IdRange {
            first: EventId::last_at(Timestamp::MAX),
            last: EventId::first_at(Timestamp::default()),
        };
        Wanted {
            filter: self.question.filter,
            range: self.old.unwrap_or(nothing),
            order: self.question.order,
            below,
            most: self.merge.wanted(),
        }
    }

    async fn read(&self, source: Source<'a>, what: For, below: TreeSize) -> Result<Read<'a>> {
        let (cold, tenant) = (&self.query.cold, self.tenant);
        match source {
            Source::Hot(mut scan) => {
                let before = scan.scanned();
                let step = scan.step(false).await?;
                let scanned = scan.scanned() - before;
                let ended = step.is_none();
                let records = self.decided(step.map_or_else(Vec::new, |step| step.records)).await?;
                Ok(Read::Hot { scan, records, scanned, ended })
            }
            Source::Old(range) => self.old_sources(range, below).await,
            Source::File(entry) => {
                let Some(file) = cold.file(tenant, &entry).await? else { return Ok(Read::Gone) };
                let sources = self.groups_of(&file, below)?;
                // Of a small file the only row group is searched at once.
                match &sources[..] {
                    [(_, Source::Group(_, group))] => self.search_group(file, *group, what, below).await,
                    _ => Ok(Read::Sources(sources)),
                }
            }
            Source::Group(file, group) => self.search_group(file, group, what, below).await,
            Source::Segment(entry) => match cold.segment(tenant, &entry, &self.wanted(below)).await? {
                Some(records) => match what {
                    For::Records => Ok(Read::Records(records)),
                    For::Counting(field) => {
                        let mut part = Part::default();
                        for (record, _) in &records {
                            add_record(&mut part, record, field)?;
                        }
                        Ok(Read::Part(part))
                    }
                },
                None => match cold.file_instead(tenant, &entry).await? {
                    Some(file) => {
                        let range = IdRange { first: entry.id_min, last: entry.id_max };
                        Ok(Read::Sources(vec![(self.nearest_in(range), Source::File(file))]))
                    }
                    None => Ok(Read::Gone),
                },
            },
        }
    }

    /// Those of the hot store's records that belong also where only their place in the log tells.
    async fn decided(&self, records: Vec<Record>) -> Result<Vec<Record>> {
        let filter = self.question.filter;
        if !filter.needs_state() || records.is_empty() {
            return Ok(records);
        }
        let found = records.into_iter().map(|record| Found { record, leaf_index: None }).collect();
        let mut decided = Vec::new();
        for (record, integrity) in self.query.placed(self.tenant, found).await?.records {
            if filter.judge(&record, Some(integrity.into()))? == Some(true) {
                decided.push(record);
            }
        }
        Ok(decided)
    }

    async fn search_group(
        &self,
        file: Arc<ArchiveFile>,
        group: usize,
        what: For,
        below: TreeSize,
    ) -> Result<Read<'a>> {
        let wanted = self.wanted(below);
        match what {
            For::Records => {
                let hits = unless_gone(file.search(group, &wanted).await)?;
                Ok(hits.map_or(Read::Gone, |hits| Read::Group(file, group, hits)))
            }
            For::Counting(field) => {
                let mut part = Part::default();
                let visited =
                    file.values(group, field, &wanted, &mut |time, value| part.add(time, value)).await;
                Ok(unless_gone(visited)?.map_or(Read::Gone, |()| Read::Part(part)))
            }
        }
    }

    fn groups_of(&self, file: &Arc<ArchiveFile>, below: TreeSize) -> Result<Vec<(EventId, Source<'a>)>> {
        let mut sources = Vec::new();
        for group in 0..file.groups() {
            let range = file.group_range(group)?;
            if file.group_leaves(group).start < below.to_u64() && self.overlaps(range) {
                sources.push((self.nearest_in(range), Source::Group(Arc::clone(file), group)));
            }
        }
        Ok(sources)
    }

    async fn old_sources(&self, range: IdRange, below: TreeSize) -> Result<Read<'a>> {
        let proven_until = self.snapshot.map_or(Timestamp::default(), |snapshot| snapshot.proven_until);
        let late = Late { received_from: proven_until };
        let (scan, holders) =
            try_join(self.scan(range, Some(late), self.begun), self.query.cold.holders(self.tenant, below))
                .await?;
        let order = self.question.order;
        let mut sources = vec![(nearest(order, range), Source::Hot(Box::new(scan)))];
        let earliest = holders.iter().map(|holder| holder.range().first.time()).min();
        let begins_late = holders.first().is_some_and(|holder| holder.first() > LeafIndex::ZERO);
        for holder in holders {
            let held = holder.range();
            let filter = self.question.filter;
            if held.first > range.last || held.last < range.first || !filter.may_match(&HolderBounds(&holder))
            {
                continue;
            }
            let within = IdRange { first: held.first.max(range.first), last: held.last.min(range.last) };
            let source = match holder {
                Holder::File(entry) => Source::File(entry),
                Holder::Segment(entry) => Source::Segment(entry),
            };
            sources.push((nearest(order, within), source));
        }
        Ok(Read::Old { sources, earliest, begins_late })
    }

    fn put(&mut self, read: Read<'a>) {
        let prefer_placed = |new: &Found, old: &Found| new.leaf_index.is_some() && old.leaf_index.is_none();
        match read {
            Read::Hot { scan, records, scanned, ended } => {
                self.scanned += scanned;
                for record in records {
                    self.merge.record(record.id, Found { record, leaf_index: None }, prefer_placed);
                }
                let next = scan.frontier().and_then(|frontier| match self.question.order {
                    Order::Ascending => frontier.next(),
                    Order::Descending => frontier.previous(),
                });
                if !ended {
                    // A walk that has not begun yet has no frontier: it is where it was.
                    let next = next.unwrap_or_else(|| nearest(self.question.order, scan.range()));
                    self.merge.source(next, Source::Hot(scan));
                }
            }
            Read::Old { sources, earliest, begins_late } => {
                self.earliest = earliest;
                self.gone |= begins_late;
                sources.into_iter().for_each(|(nearest, source)| self.merge.source(nearest, source));
            }
            Read::Sources(sources) => {
                sources.into_iter().for_each(|(nearest, source)| self.merge.source(nearest, source));
            }
            Read::Group(file, group, hits) => {
                for (time, row) in hits.rows {
                    self.merge.row(time, RowAt { file: Arc::clone(&file), group, row });
                }
                for (record, index) in hits.records {
                    let found = Found { record, leaf_index: Some(index) };
                    self.merge.record(found.record.id, found, prefer_placed);
                }
                if let Some(cut) = hits.cut {
                    self.merge.cut(cut);
                }
            }
            Read::Records(records) => {
                for (record, index) in records {
                    let found = Found { record, leaf_index: Some(index) };
                    self.merge.record(found.record.id, found, prefer_placed);
                }
            }
            // Whoever counts takes them.
            Read::Part(_) => {}
            Read::Gone => self.gone = true,
        }
    }

    /// Learns the ids of rows of one time, which are far more than are wanted: so that only the nearest are read.
    async fn tell_apart(&mut self, rows: Vec<RowAt>) -> Result<()> {
        let reads = by_group(rows).into_iter().map(|((_, group), (file, rows))| async move {
            let ids = unless_gone(file.ids_at(group, rows).await)?;
            Ok::<_, Error>((file, group, ids))
        });
        for (file, group, ids) in try_join_all(reads).await? {
            match ids {
                Some(ids) => ids.into_iter().for_each(|(row, id)| {
                    self.merge.row_of(id, RowAt { file: Arc::clone(&file), group, row });
                }),
                None => self.put(Read::Gone),
            }
        }
        Ok(())
    }

    /// Reads the records of rows, those of one row group together.
    async fn read_rows(&mut self, rows: Vec<RowAt>) -> Result<()> {
        let below = self.snapshot.map_or(TreeSize::ZERO, |snapshot| snapshot.tree_size);
        let wanted = self.wanted(below);
        let reads = by_group(rows).into_iter().map(|((_, group), (file, rows))| async move {
            unless_gone(file.records_at(group, &rows, &wanted).await)
        });
        for read in join_all(reads).await {
            self.put(read?.map_or(Read::Gone, Read::Records));
        }
        Ok(())
    }

    /// How many more there are, as far as the hot store alone can tell: up to `most`, and whether that is all. What is wanted
    /// was found; nothing else is asked of this search.
    pub(crate) async fn count_rest(&mut self, most: usize) -> Result<(usize, bool)> {
        let (held, sources) = self.merge.take_rest();
        let mut count = held;
        let mut exact = true;
        for source in sources {
            let Source::Hot(mut scan) = source else {
                exact = false;
                continue;
            };
            if self.went_cold {
                exact = false;
                continue;
            }
            loop {
                if count > most || self.scanned >= self.question.scanned_max {
                    exact = false;
                    break;
                }
                let before = scan.scanned();
                let Some(step) = scan.step(true).await? else { break };
                self.scanned += scan.scanned() - before;
                count += match self.question.filter.needs_state() {
                    true => self.decided(step.records).await?.len(),
                    false => step.matched,
                };
            }
        }
        Ok((count, exact))
    }

    fn overlaps(&self, range: IdRange) -> bool {
        self.old.is_some_and(|own| own.first <= range.last && range.first <= own.last)
    }

    /// Where the nearest of a range can lie.
    fn nearest_in(&self, range: IdRange) -> EventId {
        let own = self.old.unwrap_or(range);
        let within = IdRange { first: range.first.max(own.first), last: range.last.min(own.last) };
        nearest(self.question.order, within)
    }
}

/// What the indexes say of a file or segment.
struct HolderBounds<'a>(&'a Holder);

impl Bounds for HolderBounds<'_> {
    fn times(&self, column: Column) -> Option<(Timestamp, Timestamp)> {
        let range = self.0.range();
        match column {
            Column::OccurredAt => Some((range.first.time(), range.last.time())),
            Column::ReceivedAt => Some(self.0.received()),
            _ => None,
        }
    }

    fn ids(&self) -> Option<(EventId, EventId)> {
        let range = self.0.range();
        Some((range.first, range.last))
    }

    fn state(&self) -> Option<State> {
        Some(match self.0 {
            Holder::File(_) => State::Archived,
            Holder::Segment(_) => State::Sealed,
        })
    }
}

/// Rows of each row group, by the file's first leaf and the group's number.
fn by_group(rows: Vec<RowAt>) -> BTreeMap<(u64, usize), (Arc<ArchiveFile>, Vec<usize>)> {
    let mut by_group: BTreeMap<_, (Arc<ArchiveFile>, Vec<usize>)> = BTreeMap::new();
    for RowAt { file, group, row } in rows {
        let key = (file.header().first().to_u64(), group);
        by_group.entry(key).or_insert_with(|| (file, Vec::new())).1.push(row);
    }
    by_group
}

fn add_record(part: &mut Part, record: &Record, field: Option<Column>) -> Result<()> {
    match field {
        None => part.add(record.occurred_at, None),
        Some(field) => {
            let columns = record.columns()?;
            let value = match columns.cell(field) {
                Cell::Text(value) => Some(value),
                _ => None,
            };
            part.add(record.occurred_at, value);
        }
    }
    Ok(())
}

fn nearest(order: Order, range: IdRange) -> EventId {
    match order {
        Order::Ascending => range.first,
        Order::Descending => range.last,
    }
}
