//! Reads a file of the archive by ranges: its end first, then only what is asked for.
//!
//! Each reading says what it checks. What none of them can: whether the header is the log's, which is for checkpoints
//! and manifests to say.

use super::super::{
    ID, LEAF, LEAF_INDEX, OCCURRED_AT, StoredColumns, check_schema, column, contained, header, id_of,
    leaves_of, record_of, unreadable,
};
use super::BLOCK_LEAVES;
use super::layout::{CODED_SCHEMA, SCHEMA, VIEW_SCHEMA, texts};
use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder, RowGroupSelection};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMask, PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder, RowGroupMetaData,
};
use parquet::file::statistics::Statistics;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;
use stele::archive::ArchiveHeader;
use stele::id::{EventId, TenantId};
use stele::layout::ObjectKey;
use stele::ports::LockedObjects;
use stele::record::{Columns, Record};
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize, leaf_hash};
use stele::tlog::range::LeafHashes;
use stele::tlog::tree::RightEdge;
use stele::{Code, Error, Result};

/// Read from a file's end at first, at the most: the footer and the places of pages, for a file of a million leaves.
const TAIL_BYTES: u64 = 108 * 1024;
/// Of these the part that every file has, and that of each row group.
const TAIL_FILE_BYTES: u64 = 8 * 1024;
const TAIL_GROUP_BYTES: u64 = 3_400;
/// Bytes of a row group of a block of leaves, at least: by them the end of a file tells how many it has.
const GROUP_BYTES_MIN: u64 = 4_000_000;
/// Ranges with so little between them are read at once.
const GAP_BYTES: u64 = 16 * 1024;
/// Ranges of one file under way at once.
const RANGES_AT_ONCE: usize = 8;
/// Row groups worked off side by side when a file is verified, at the most: memory holds one more.
const THREADS_MAX: usize = 8;
/// Rows decoded at once.
const BATCH_ROWS: usize = 1024;

/// A file of the archive, read by ranges.
#[derive(Clone)]
pub struct ArchiveFile {
    objects: Arc<dyn LockedObjects>,
    key: ObjectKey,
    version: String,
    bytes: u64,
    pub(super) tail: Held,
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) header: ArchiveHeader,
    /// Index of the first leaf of each row group.
    pub(super) firsts: Arc<[u64]>,
}

/// Which records are wanted whole, by their columns.
pub type Keep = Arc<dyn Fn(&Columns<'_>) -> bool + Send + Sync>;

/// Leaves of a file that follow each other and were verified.
pub struct VerifiedLeaves {
    /// Their hashes.
    pub hashes: LeafHashes,
    /// Their ids, in the same order.
    pub ids: Vec<EventId>,
    /// When the first and the last of them to come was received.
    pub received: (Timestamp, Timestamp),
    /// The records that were to be kept, in leaf order.
    pub kept: Vec<(LeafIndex, Record)>,
}

/// Bytes of the file that were read, and where they begin.
#[derive(Clone)]
pub(super) struct Held {
    start: u64,
    pub(super) bytes: Bytes,
}

impl Held {
    pub(super) fn slice(&self, range: &Range<u64>) -> Option<Bytes> {
        let start = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (start <= end && end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}

impl ArchiveFile {
    /// Reads the end of a version of an object that has so many bytes, and checks what it says of itself: the schema, the
    /// header, and that the row groups hold the leaves it counts.
    ///
    /// # Errors
    /// `corrupt` if there is no such version, or it is no file of the archive.
    pub async fn open(
        objects: Arc<dyn LockedObjects>,
        key: ObjectKey,
        version: String,
        bytes: u64,
    ) -> Result<ArchiveFile> {
        let source = Source { objects: &*objects, key: &key, version: &version, bytes };
        let tail = TAIL_FILE_BYTES + (bytes / GROUP_BYTES_MIN + 1) * TAIL_GROUP_BYTES;
        let start = bytes.saturating_sub(tail.min(TAIL_BYTES));
        let tail = Held { start, bytes: source.read(start..bytes).await? };
        let at = key.as_str();
        let mut decoder = ParquetMetaDataPushDecoder::try_new(bytes)
            .map_err(|e| unreadable(at, e))?
            .with_page_index_policy(PageIndexPolicy::Skip);
        let metadata = loop {
            match contained(at, || decoder.try_decode().map_err(|e| unreadable(at, e)))? {
                DecodeResult::Data(metadata) => break metadata,
                DecodeResult::NeedsData(ranges) => {
                    let data = source.fetch(&ranges, &tail).await?;
                    decoder.push_ranges(ranges, data).map_err(|e| unreadable(at, e))?;
                }
                DecodeResult::Finished => return Err(Error::corrupt(at, "a footer", "none")),
            }
        };
        let file = metadata.file_metadata();
        check_schema(at, SCHEMA, file.schema())?;
        let header = header::decode_archive(at, file.key_value_metadata())?;
        let firsts = firsts(at, &header, metadata.row_groups())?;
        let (metadata, firsts) = (Arc::new(metadata), firsts.into());
        Ok(ArchiveFile { tail, metadata, header, firsts, bytes, objects, key, version })
    }

    /// Its key.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it says of itself.
    pub fn header(&self) -> &ArchiveHeader {
        &self.header
    }

    /// The leaves of the row group that holds one: its first, and where it ends.
    pub fn group_around(&self, leaf: LeafIndex) -> Option<(LeafIndex, TreeSize)> {
        let groups = (0..self.firsts.len()).map(|group| self.leaves_of_group(group));
        let group = groups.into_iter().find(|leaves| leaves.contains(&leaf.to_u64()))?;
        Some((LeafIndex::new(group.start), TreeSize::new(group.end)))
    }

    /// Ids with their leaf indexes of the leaves from `first` up to, not including, `end`, in any order. Neither is held
    /// against the leaf.
    pub async fn ids(&self, first: LeafIndex, end: TreeSize) -> Result<Vec<(EventId, LeafIndex)>> {
        let wanted = first.to_u64()..end.to_u64();
        let mut ids = Vec::new();
        for group in 0..self.firsts.len() {
            let leaves = self.leaves_of_group(group);
            if leaves.end <= wanted.start || leaves.start >= wanted.end {
                continue;
            }
            let mut slots = Slots::new(self.at(), leaves);
            self.rows(group, &[LEAF_INDEX, ID], Rows::All, None, &mut |batch| {
                let texts: &StringArray = column(self.at(), batch, 1)?;
                let indexes: &Int64Array = column(self.at(), batch, 0)?;
                for (index, text) in indexes.values().iter().zip(texts) {
                    slots.put(*index, id_of(self.at(), text.unwrap_or_default())?)?;
                }
                Ok(())
            })
            .await?;
            let found = slots.complete()?.into_iter().map(|(index, id)| (id, index));
            ids.extend(found.filter(|(_, index)| wanted.contains(&index.to_u64())));
        }
        Ok(ids)
    }

    /// The record with an id and its leaf index, if it is here. The leaf is a record with that id; that it is in the log is
    /// for a proof to say.
    ///
    /// It takes at most three ranges after [`ArchiveFile::open`] where times follow receipt: the times of one row group, one
    /// page of leaves, one of leaf indexes.
    pub async fn find(&self, id: EventId) -> Result<Option<(Record, LeafIndex)>> {
        if !(self.header.id_min..=self.header.id_max).contains(&id) {
            return Ok(None);
        }
        let time = id.time().ms() as i64;
        for group in 0..self.firsts.len() {
            let (least, greatest) = self.occurred_at_of(group)?;
            if !(least..=greatest).contains(&time) {
                continue;
            }
            let mut rows = Vec::new();
            let mut row = 0;
            self.rows(group, &[OCCURRED_AT], Rows::All, None, &mut |batch| {
                let times: &TimestampMillisecondArray = column(self.at(), batch, 0)?;
                let found = times.values().iter().enumerate().filter(|(_, found)| **found == time);
                rows.extend(found.map(|(n, _)| row + n));
                row += batch.num_rows();
                Ok(())
            })
            .await?;
            // Of several at the same time the id column says which, so that no more than one page of leaves is read.
            if rows.len() > 1 {
                rows = self.rows_with_id(group, id, &rows).await?;
            }
            for row in rows {
                if let Some(found) = self.record_at(group, row, id).await? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The ids of rows of a row group, as its column says.
    pub async fn ids_at(&self, group: usize, mut rows: Vec<usize>) -> Result<Vec<(usize, EventId)>> {
        rows.sort_unstable();
        let mut remaining = rows.iter();
        let mut ids = Vec::with_capacity(rows.len());
        self.rows(group, &[ID], Rows::These(&rows), None, &mut |batch| {
            for (text, row) in column::<StringArray>(self.at(), batch, 0)?.iter().zip(&mut remaining) {
                ids.push((*row, id_of(self.at(), text.unwrap_or_default())?));
            }
            Ok(())
        })
        .await?;
        Ok(ids)
    }

    /// Those of the rows that have the id.
    async fn rows_with_id(&self, group: usize, id: EventId, rows: &[usize]) -> Result<Vec<usize>> {
        let id = id.to_string();
        let mut remaining = rows.iter();
        let mut found = Vec::new();
        self.rows(group, &[ID], Rows::These(rows), None, &mut |batch| {
            let ids = column::<StringArray>(self.at(), batch, 0)?.iter();
            found.extend(ids.zip(&mut remaining).filter(|(text, _)| *text == Some(&id)).map(|(_, row)| *row));
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// The record of a row, if it has the id.
    async fn record_at(&self, group: usize, row: usize, id: EventId) -> Result<Option<(Record, LeafIndex)>> {
        let mut found = None;
        self.rows(group, &[LEAF, LEAF_INDEX], Rows::These(&[row]), None, &mut |batch| {
            let indexes: &Int64Array = column(self.at(), batch, 1)?;
            let leaf = leaves_of(column(self.at(), batch, 0)?).next();
            found = leaf.zip(indexes.values().first().copied());
            Ok(())
        })
        .await?;
        let (leaf, index) = found.ok_or_else(|| Error::corrupt(self.at(), "a row", "none"))?;
        // The page it shares memory with is a thousand times its size.
        let record = Record::from_leaf(Bytes::copy_from_slice(&leaf)).map_err(|e| {
            Error::corrupt(format_args!("{}: leaf {index}", self.at()), "a record", e.detail()).with_source(e)
        })?;
        let index = u64::try_from(index).ok().filter(|index| self.leaves_of_group(group).contains(index));
        let index =
            index.ok_or_else(|| Error::corrupt(self.at(), "a leaf index of the row group", "another"))?;
        Ok((record.id == id).then_some((record, LeafIndex::new(index))))
    }

    /// Visits the leaves from `from` on in leaf order, at most a block at a time, with the index of the first of each part.
    /// Nothing is checked but that each index is there once.
    pub async fn leaves(
        &self,
        from: LeafIndex,
        visit: &mut (dyn FnMut(LeafIndex, Vec<Bytes>) -> Result<()> + Send),
    ) -> Result<()> {
        for group in 0..self.firsts.len() {
            let leaves = self.leaves_of_group(group);
            if leaves.end <= from.to_u64() {
                continue;
            }
            let first = from.to_u64().max(leaves.start);
            let skip = (first - leaves.start) as usize;
            let mut slots = Slots::new(self.at(), leaves);
            self.rows(group, &[LEAF, LEAF_INDEX], Rows::All, None, &mut |batch| {
                self.put_leaves(batch, &mut slots)
            })
            .await?;
            let leaves = slots.complete()?.into_iter().skip(skip).map(|(_, leaf)| leaf).collect();
            visit(LeafIndex::new(first), leaves)?;
        }
        Ok(())
    }

    /// The leaves of a range, in order; it reads the blocks they lie in. Nothing is checked but that each index is there once.
    pub async fn leaves_between(&self, first: LeafIndex, end: TreeSize) -> Result<Vec<Bytes>> {
        let wanted = first.to_u64()..end.to_u64();
        let mut found = Vec::new();
        for group in 0..self.firsts.len() {
            let leaves = self.leaves_of_group(group);
            if leaves.end <= wanted.start || leaves.start >= wanted.end {
                continue;
            }
            let mut slots = Slots::new(self.at(), leaves);
            self.rows(group, &[LEAF, LEAF_INDEX], Rows::All, None, &mut |batch| {
                self.put_leaves(batch, &mut slots)
            })
            .await?;
            let leaves = slots.complete()?.into_iter();
            found.extend(leaves.filter(|(index, _)| wanted.contains(&index.to_u64())).map(|(_, leaf)| leaf));
        }
        Ok(found)
    }

    /// Reads the whole file and checks all of it: that every leaf is the tenant's and every column what its leaf says, the tree
    /// the leaves grow, and what header and statistics say of them. Visits what was verified in leaf order, at most a block at a
    /// time, with the records `keep` asks for, and returns the SHA-256 of the file as read. Memory holds a few row groups as
    /// they are stored, and of their leaves no more than ids and hashes.
    pub async fn verify(
        &self,
        tenant: &TenantId,
        keep: Keep,
        visit: &mut (dyn FnMut(&VerifiedLeaves) -> Result<()> + Send),
    ) -> Result<Hash> {
        let at = self.at();
        let mut edge = self.header.before.clone();
        let mut received: Option<(Timestamp, Timestamp)> = None;
        let mut ids: Option<(EventId, EventId)> = None;
        let mut reading = WholeReading::new();
        // Row groups are read and hashed in turn here and worked off side by side, one more than there are processors, so
        // that none of these waits for the file.
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        let at_once = threads.min(THREADS_MAX) + 1;
        let mut working = Working::default();
        let mut next = 0;
        loop {
            while next < self.firsts.len() && working.0.len() < at_once {
                let held = reading.next(self, next).await?;
                working.begin(self, tenant, next, held, &keep);
                next += 1;
            }
            let Some(Work { group, held, thread }) = working.0.pop_front() else { break };
            let leaves = match thread.join().ok().flatten() {
                Some(worked) => worked?,
                // It asks for bytes beyond what its metadata say: those have to be waited for.
                None => self.verified(tenant, group, &held, &keep).await?,
            };
            let range = leaves.hashes.range(leaves.hashes.first(), leaves.hashes.end());
            let next = range.and_then(|range| edge.followed_by(&range));
            edge = next.ok_or_else(|| Error::corrupt(at, "row groups that follow each other", "others"))?;
            for time in [leaves.received.0, leaves.received.1] {
                widen(&mut received, time);
            }
            leaves.ids.iter().for_each(|id| widen(&mut ids, *id));
            visit(&leaves)?;
        }
        self.check_tree(&edge)?;
        let (received, ids) =
            (received.unwrap_or_default(), ids.unwrap_or((self.header.id_min, self.header.id_min)));
        let h = &self.header;
        for (name, told, found) in [
            ("received_min", h.received_min.to_string(), received.0.to_string()),
            ("received_max", h.received_max.to_string(), received.1.to_string()),
            ("id_min", h.id_min.to_string(), ids.0.to_string()),
            ("id_max", h.id_max.to_string(), ids.1.to_string()),
        ] {
            if told != found {
                return Err(Error::corrupt(at, format!("{name} `{found}`"), format!("`{told}`")));
            }
        }
        if h.sealed_first > h.sealed_last || h.running_received_max < h.received_max {
            return Err(Error::corrupt(at, "times in order", "others in its header"));
        }
        reading.finish(self).await
    }

    /// Verifies the leaves of a row group: each column is held against its leaf.
    async fn verified(
        &self,
        tenant: &TenantId,
        group: usize,
        held: &Held,
        keep: &Keep,
    ) -> Result<VerifiedLeaves> {
        let at = self.at();
        let first = TreeSize::new(self.leaves_of_group(group).start);
        let mut slots = Slots::new(at, self.leaves_of_group(group));
        let mut received: Option<(Timestamp, Timestamp)> = None;
        let mut occurred: Option<(i64, i64)> = None;
        let mut kept = Vec::new();
        self.columns_of(group, As::AllViews, Rows::All, Some(held), &mut |batch| {
            let columns = StoredColumns::of(at, texts(), batch)?;
            for (row, stored) in columns.leaf_index.values().iter().enumerate() {
                let index = LeafIndex::new(u64::try_from(*stored).unwrap_or(u64::MAX));
                let (leaf, found) = columns.checked(tenant, at, index, row)?;
                slots.put(*stored, (found.id, leaf_hash(leaf)))?;
                widen(&mut received, found.received_at);
                widen(&mut occurred, found.occurred_at.ms() as i64);
                if keep(&found) {
                    kept.push((index, record_of(at, index, leaf, found)?));
                }
            }
            Ok(())
        })
        .await?;
        // A look-up by id believes these.
        if occurred != Some(self.occurred_at_of(group)?) {
            return Err(Error::corrupt(at, "the extremes of occurred_at", "others in its statistics"));
        }
        kept.sort_unstable_by_key(|(index, _)| *index);
        let (ids, hashes) = slots.complete()?.into_iter().map(|(_, leaf)| leaf).unzip();
        let hashes = LeafHashes::new(first, hashes);
        Ok(VerifiedLeaves { hashes, ids, received: received.unwrap_or_default(), kept })
    }

    /// Reads the whole file for what compaction must know before it lets go of the segments: the SHA-256 of the file as
    /// stored, and the tree its leaves grow, which is the header's. Columns are not looked at.
    pub async fn read_back(&self) -> Result<(Hash, RightEdge)> {
        let mut edge = self.header.before.clone();
        let mut reading = WholeReading::new();
        for group in 0..self.firsts.len() {
            let held = reading.next(self, group).await?;
            let mut slots = Slots::new(self.at(), self.leaves_of_group(group));
            self.rows(group, &[LEAF, LEAF_INDEX], Rows::All, Some(&held), &mut |batch| {
                let indexes: &Int64Array = column(self.at(), batch, 1)?;
                for (leaf, index) in leaves_of(column(self.at(), batch, 0)?).zip(indexes.values()) {
                    slots.put(*index, leaf_hash(&leaf))?;
                }
                Ok(())
            })
            .await?;
            edge.extend(slots.complete()?.into_iter().map(|(_, hash)| hash));
        }
        self.check_tree(&edge)?;
        Ok((reading.finish(self).await?, edge))
    }

    fn check_tree(&self, edge: &RightEdge) -> Result<()> {
        if *edge == self.header.after {
            return Ok(());
        }
        let (expected, found) = (self.header.after.root(), edge.root());
        Err(Error::corrupt(self.at(), format!("root {expected}"), format!("root {found}")))
    }

    pub(super) fn at(&self) -> &str {
        self.key.as_str()
    }

    pub(super) fn source(&self) -> Source<'_> {
        Source { objects: &*self.objects, key: &self.key, version: &self.version, bytes: self.bytes }
    }

    pub(super) fn leaves_of_group(&self, group: usize) -> Range<u64> {
        let end = self.firsts.get(group + 1).copied().unwrap_or(self.header.end().to_u64());
        self.firsts[group]..end
    }

    fn put_leaves(&self, batch: &RecordBatch, slots: &mut Slots<'_, Bytes>) -> Result<()> {
        let indexes: &Int64Array = column(self.at(), batch, 1)?;
        let leaves = leaves_of(column(self.at(), batch, 0)?);
        indexes.values().iter().zip(leaves).try_for_each(|(index, leaf)| slots.put(*index, leaf))
    }

    /// The least and the greatest `occurred_at` of a row group, as its statistics say.
    pub(super) fn occurred_at_of(&self, group: usize) -> Result<(i64, i64)> {
        let extremes = match self.metadata.row_group(group).column(OCCURRED_AT).statistics() {
            Some(Statistics::Int64(s)) => s.min_opt().copied().zip(s.max_opt().copied()),
            _ => None,
        };
        extremes.ok_or_else(|| Error::corrupt(self.at(), "the extremes of occurred_at", "none"))
    }

    /// Visits columns of a row group's rows, in the file's order. `held` are bytes that were read already. Their number is
    /// checked.
    pub(super) async fn rows(
        &self,
        group: usize,
        columns: &[usize],
        rows: Rows<'_>,
        held: Option<&Held>,
        visit: &mut (dyn FnMut(&RecordBatch) -> Result<()> + Send),
    ) -> Result<()> {
        self.columns_of(group, As::Values(columns), rows, held, visit).await
    }

    /// The same of one text, as places in dictionaries.
    pub(super) async fn coded(
        &self,
        group: usize,
        text: usize,
        rows: Rows<'_>,
        visit: &mut (dyn FnMut(&RecordBatch) -> Result<()> + Send),
    ) -> Result<()> {
        self.columns_of(group, As::Coded(&[text]), rows, None, visit).await
    }

    async fn columns_of(
        &self,
        group: usize,
        read: As<'_>,
        rows: Rows<'_>,
        held: Option<&Held>,
        visit: &mut (dyn FnMut(&RecordBatch) -> Result<()> + Send),
    ) -> Result<()> {
        let at = self.at();
        let held = held.unwrap_or(&self.tail);
        let columns = match read {
            As::Values(columns) | As::Coded(columns) => Some(columns),
            As::AllViews => None,
        };
        let total = self.metadata.row_group(group).num_rows() as usize;
        let (selection, expected) = match rows {
            Rows::All => (None, total),
            Rows::These(rows) => {
                let ranges = rows.iter().map(|row| *row..*row + 1);
                (Some(RowSelection::from_consecutive_ranges(ranges, total)), rows.len())
            }
        };
        let metadata = match selection {
            Some(_) => self.with_pages(group, columns.unwrap_or_default(), &[]).await?,
            None => Arc::clone(&self.metadata),
        };
        let build = || -> std::result::Result<ParquetPushDecoder, ParquetError> {
            let options = ArrowReaderOptions::new();
            let options = match read {
                As::Values(_) => options.with_skip_arrow_metadata(true),
                As::Coded(_) => options.with_schema(Arc::clone(&CODED_SCHEMA)),
                As::AllViews => options.with_schema(Arc::clone(&VIEW_SCHEMA)),
            };
            let metadata = ArrowReaderMetadata::try_new(metadata, options)?;
            let projection = match columns {
                Some(columns) => ProjectionMask::leaves(metadata.parquet_schema(), columns.iter().copied()),
                None => ProjectionMask::all(),
            };
            ParquetPushDecoderBuilder::new_with_metadata(metadata)
                .with_projection(projection)
                .with_batch_size(BATCH_ROWS)
                .with_row_group_selections(vec![RowGroupSelection::new(group, selection)])
                .build()
        };
        let mut decoder = contained(at, || build().map_err(|e| unreadable(at, e)))?;
        let mut seen = 0;
        loop {
            match contained(at, || decoder.try_decode().map_err(|e| unreadable(at, e)))? {
                DecodeResult::Data(batch) => {
                    seen += batch.num_rows();
                    visit(&batch)?;
                }
                DecodeResult::NeedsData(ranges) => {
                    let data = self.source().fetch(&ranges, held).await?;
                    decoder.push_ranges(ranges, data).map_err(|e| unreadable(at, e))?;
                }
                DecodeResult::Finished if seen == expected => return Ok(()),
                DecodeResult::Finished => return Err(Error::corrupt(at, format!("{expected} rows"), seen)),
            }
        }
    }

    /// The footer with the places of the pages of some columns of a row group, and for some the least and the greatest value
    /// of each page.
    pub(super) async fn with_pages(
        &self,
        group: usize,
        columns: &[usize],
        extremes: &[usize],
    ) -> Result<Arc<ParquetMetaData>> {
        let at = self.at();
        let mask =
            |columns: &[usize]| ColumnChunkMask::row_groups_and_columns([group], columns.iter().copied());
        let policy = if extremes.is_empty() { PageIndexPolicy::Skip } else { PageIndexPolicy::Optional };
        let mut decoder =
            ParquetMetaDataPushDecoder::try_new_with_metadata(self.bytes, (*self.metadata).clone())
                .map_err(|e| unreadable(at, e))?
                .with_column_index_policy(policy)
                .with_column_index_mask(mask(extremes))
                .with_offset_index_policy(PageIndexPolicy::Optional)
                .with_offset_index_mask(mask(columns));
        loop {
            match contained(at, || decoder.try_decode().map_err(|e| unreadable(at, e)))? {
                DecodeResult::Data(metadata) => return Ok(Arc::new(metadata)),
                DecodeResult::NeedsData(ranges) => {
                    let data = self.source().fetch(&ranges, &self.tail).await?;
                    decoder.push_ranges(ranges, data).map_err(|e| unreadable(at, e))?;
                }
                DecodeResult::Finished => return Err(Error::corrupt(at, "a page index", "none")),
            }
        }
    }
}

/// Row groups that are being worked off, in their order.
#[derive(Default)]
struct Working(VecDeque<Work>);

struct Work {
    group: usize,
    held: Held,
    /// Nothing if it would have to wait for more bytes.
    thread: JoinHandle<Option<Result<VerifiedLeaves>>>,
}

impl Working {
    fn begin(&mut self, file: &ArchiveFile, tenant: &TenantId, group: usize, held: Held, keep: &Keep) {
        let (file, tenant, keep, bytes) = (file.clone(), tenant.clone(), Arc::clone(keep), held.clone());
        let work = move || file.verified(&tenant, group, &bytes, &keep).now_or_never();
        self.0.push_back(Work { group, held, thread: std::thread::spawn(work) });
    }
}

/// Whoever gives up waits for what is under way: it is not to go on unseen.
impl Drop for Working {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|work| drop(work.thread.join()));
    }
}

/// Which columns are read, and as what.
#[derive(Clone, Copy)]
enum As<'a> {
    /// These, each row's value.
    Values(&'a [usize]),
    /// These, texts as places in dictionaries.
    Coded(&'a [usize]),
    /// All, texts as views.
    AllViews,
}

/// Which rows of a row group.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    All,
    /// By rising number.
    These(&'a [usize]),
}

/// Checks that row groups hold the leaves the header counts, none of them across a block, and says where each begins.
fn firsts(at: &str, header: &ArchiveHeader, groups: &[RowGroupMetaData]) -> Result<Vec<u64>> {
    let wrong =
        || Error::corrupt(at, format!("row groups of {} leaves in their blocks", header.leaves()), "others");
    let mut first = header.first().to_u64();
    let mut firsts = Vec::with_capacity(groups.len());
    for group in groups {
        let rows = u64::try_from(group.num_rows()).map_err(|_| wrong())?;
        if rows == 0 || rows > BLOCK_LEAVES - first % BLOCK_LEAVES {
            return Err(wrong());
        }
        firsts.push(first);
        first = first.checked_add(rows).ok_or_else(wrong)?;
    }
    if first == header.end().to_u64() { Ok(firsts) } else { Err(wrong()) }
}

fn widen<T: Ord + Copy>(extremes: &mut Option<(T, T)>, value: T) {
    let (least, greatest) = extremes.unwrap_or((value, value));
    *extremes = Some((least.min(value), greatest.max(value)));
}

/// Values of a row group by leaf index, each of which must come once.
struct Slots<'a, T> {
    at: &'a str,
    leaves: Range<u64>,
    values: Vec<Option<T>>,
}

impl<'a, T> Slots<'a, T> {
    fn new(at: &'a str, leaves: Range<u64>) -> Slots<'a, T> {
        // At most a block, as the row groups were found to be.
        let count = (leaves.end - leaves.start) as usize;
        Slots { at, leaves, values: std::iter::repeat_with(|| None).take(count).collect() }
    }

    fn put(&mut self, index: i64, value: T) -> Result<()> {
        let place = u64::try_from(index).ok().and_then(|index| index.checked_sub(self.leaves.start));
        match place.and_then(|place| self.values.get_mut(usize::try_from(place).ok()?)) {
            Some(slot) if slot.is_none() => {
                *slot = Some(value);
                Ok(())
            }
            _ => Err(Error::corrupt(
                self.at,
                format!("each leaf index of {} to {} once", self.leaves.start, self.leaves.end),
                index,
            )),
        }
    }

    /// All of them in leaf order.
    fn complete(self) -> Result<Vec<(LeafIndex, T)>> {
        let values = (self.leaves.start..).zip(self.values);
        let values = values.map(|(index, value)| {
            let value = value.ok_or_else(|| Error::corrupt(self.at, format!("leaf {index}"), "none"))?;
            Ok((LeafIndex::new(index), value))
        });
        values.collect()
    }
}

/// The object, by ranges.
pub(super) struct Source<'a> {
    objects: &'a dyn LockedObjects,
    key: &'a ObjectKey,
    version: &'a str,
    bytes: u64,
}

impl Source<'_> {
    /// Exactly these bytes.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let at = self.key.as_str();
        if range.start > range.end || range.end > self.bytes {
            return Err(Error::corrupt(
                at,
                format!("a range within {} bytes", self.bytes),
                format!("{range:?}"),
            ));
        }
        let read = self.objects.range(self.key, self.version, range.clone()).await?;
        let gone = || Error::new(Code::NotFound, format!("`{at}` has no version `{}`", self.version));
        let read = read.ok_or_else(gone)?;
        match read.len() as u64 == range.end - range.start {
            true => Ok(read),
            false => Err(Error::corrupt(at, format!("bytes {range:?}"), format!("{} bytes", read.len()))),
        }
    }

    /// The bytes of each range: out of what is held, else read, neighbours at once.
    async fn fetch(&self, ranges: &[Range<u64>], held: &Held) -> Result<Vec<Bytes>> {
        let mut missing: Vec<Range<u64>> =
            ranges.iter().filter(|range| held.slice(range).is_none()).cloned().collect();
        missing.sort_unstable_by_key(|range| range.start);
        let mut joined: Vec<Range<u64>> = Vec::new();
        for range in missing {
            match joined.last_mut() {
                Some(last) if range.start <= last.end.saturating_add(GAP_BYTES) => {
                    last.end = last.end.max(range.end);
                }
                _ => joined.push(range),
            }
        }
        let reads = joined.into_iter().map(|range| async move {
            Ok::<_, Error>(Held { start: range.start, bytes: self.read(range).await? })
        });
        let mut read: Vec<Held> = stream::iter(reads).buffered(RANGES_AT_ONCE).try_collect().await?;
        read.push(held.clone());
        let slice = |range: &Range<u64>| {
            let found = read.iter().find_map(|held| held.slice(range));
            found.ok_or_else(|| Error::corrupt(self.key.as_str(), "a range", format!("{range:?}")))
        };
        ranges.iter().map(slice).collect()
    }
}

/// Reads a file from its first byte to its last, a row group at a time, and hashes it.
struct WholeReading {
    at: u64,
    sha256: Sha256,
}

impl WholeReading {
    fn new() -> WholeReading {
        WholeReading { at: 0, sha256: Sha256::new() }
    }

    /// All bytes up to the end of a row group.
    async fn next(&mut self, file: &ArchiveFile, group: usize) -> Result<Held> {
        let columns = file.metadata.row_group(group).columns();
        // The library panics where a column can't lie.
        let end = columns
            .iter()
            .map(|column| contained(file.at(), || Ok(column.byte_range())))
            .try_fold(self.at, |end, range| {
                range.map(|(start, length)| end.max(start.saturating_add(length)))
            })?;
        self.read(file, end).await
    }

    async fn read(&mut self, file: &ArchiveFile, end: u64) -> Result<Held> {
        let bytes = file.source().read(self.at..end).await?;
        self.sha256.update(&bytes);
        let held = Held { start: self.at, bytes };
        self.at = end;
        Ok(held)
    }

    /// What is left, and the hash of it all.
    async fn finish(mut self, file: &ArchiveFile) -> Result<Hash> {
        self.read(file, file.bytes).await?;
        Ok(Hash::from_bytes(self.sha256.finalize().into()))
    }
}
