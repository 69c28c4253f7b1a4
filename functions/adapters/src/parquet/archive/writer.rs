//! Writes a file of the archive, segment by segment. Memory holds one row group.

use super::super::{
    BATCH_ROWS, ID, LEAF, LEAF_INDEX, RECEIVED_AT, SegmentFile, column, contained, header, id_of,
};
use super::BLOCK_LEAVES;
use super::layout::{ARROW_SCHEMA, LEAF_ZSTD_LEVEL, ROW_GROUP_LEAF_BYTES, copied, place_of, properties};
use arrow::array::{
    Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::compute::interleave;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::ZstdLevel;
use parquet::errors::ParquetError;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stele::access::LogNumber;
use stele::archive::ArchiveHeader;
use stele::id::{EventId, TenantId};
use stele::ports::Spooled;
use stele::segment::SegmentHeader;
use stele::time::Timestamp;
use stele::tlog::checkpoint::Origin;
use stele::tlog::hash::{Hash, leaf_hash};
use stele::tlog::tree::RightEdge;
use stele::{Code, Error, Result};

/// A file of the archive that is being written. One that is dropped before [`ArchiveWriter::finish`], or that failed
/// to append, leaves a file that nobody reads as one of ours: it has no footer.
pub struct ArchiveWriter {
    path: PathBuf,
    parquet: ArrowWriter<HashedFile>,
    origin: Origin,
    log: LogNumber,
    before: RightEdge,
    edge: RightEdge,
    sealed: Option<(Timestamp, Timestamp)>,
    received: Extremes<Timestamp>,
    ids: Extremes<EventId>,
    running_received_max: Timestamp,
    /// Rows of the row group to come, in leaf order.
    held: Vec<RecordBatch>,
    held_leaf_bytes: usize,
}

impl ArchiveWriter {
    /// Begins a file at `path`, where there must be none, for the leaves after `before`. `running_received_max` is the
    /// latest `received_at` of all leaves before.
    pub fn create(
        path: &Path,
        origin: &Origin,
        log: LogNumber,
        before: RightEdge,
        running_received_max: Timestamp,
    ) -> Result<ArchiveWriter> {
        ArchiveWriter::create_at_level(path, origin, log, before, running_received_max, LEAF_ZSTD_LEVEL)
    }

    /// The same with leaves compressed at another level of ZSTD: for measuring. Files that are kept have one level, or
    /// the same segments would give different bytes.
    pub fn create_at_level(
        path: &Path,
        origin: &Origin,
        log: LogNumber,
        before: RightEdge,
        running_received_max: Timestamp,
        leaf_zstd_level: i32,
    ) -> Result<ArchiveWriter> {
        let level = ZstdLevel::try_new(leaf_zstd_level).map_err(failed)?;
        let file = File::create_new(path)
            .map_err(|e| Error::new(Code::Internal, format!("create `{}`", path.display())).with_source(e))?;
        let options = ArrowWriterOptions::new()
            .with_properties(properties(level))
            .with_schema_root("stele".to_owned())
            .with_skip_arrow_metadata(true);
        let file = HashedFile { file, bytes: 0, sha256: Sha256::new() };
        let parquet =
            ArrowWriter::try_new_with_options(file, Arc::clone(&ARROW_SCHEMA), options).map_err(failed)?;
        Ok(ArchiveWriter {
            path: path.to_owned(),
            parquet,
            origin: origin.clone(),
            log,
            edge: before.clone(),
            before,
            sealed: None,
            received: None,
            ids: None,
            running_received_max,
            held: Vec::new(),
            held_leaf_bytes: 0,
        })
    }

    /// Appends a whole segment, and returns what it says of itself and its leaf hashes in leaf order. The bytes are the
    /// segment's file, which the caller has held against the hash the index or a manifest has of it; `key` names it.
    ///
    /// The header must be the next one of the log, and the leaves must grow the tree it tells: they are hashed as they are
    /// stored. Columns are copied; that they equal the leaf was checked when the file's hash was signed, and
    /// [`ArchiveFile::verify`](super::ArchiveFile::verify) checks it again.
    ///
    /// # Errors
    /// `corrupt` for a segment that is not what it must be; the file is of no use then.
    pub fn append(
        &mut self,
        tenant: &TenantId,
        key: &str,
        segment: Bytes,
    ) -> Result<(SegmentHeader, Vec<Hash>)> {
        contained(key, || {
            let file = SegmentFile::open(key, segment)?;
            file.is_at_home(tenant)?;
            self.check_next(key, &file.header)?;
            let mut hashes = Vec::with_capacity(file.leaves);
            let mut received = None;
            let copied = ProjectionMask::leaves(file.metadata.parquet_schema(), copied());
            file.rows(Some(copied), |batch| self.take_rows(key, batch, &mut hashes, &mut received))?;
            if self.edge != file.header.after {
                return Err(Error::corrupt(
                    key,
                    format!("root {}", file.header.after.root()),
                    format!("root {}", self.edge.root()),
                ));
            }
            let latest = received.map_or(self.running_received_max, |(_, latest)| latest);
            self.running_received_max = self.running_received_max.max(latest);
            if file.header.received_max != self.running_received_max {
                return Err(Error::corrupt(
                    key,
                    format!("received_max {}", self.running_received_max),
                    file.header.received_max,
                ));
            }
            let sealed_at = file.header.sealed_at;
            self.sealed = Some((self.sealed.map_or(sealed_at, |(first, _)| first), sealed_at));
            Ok((file.header, hashes))
        })
    }

    fn check_next(&self, key: &str, header: &SegmentHeader) -> Result<()> {
        let differs = |what: &str, expected: String, found: String| {
            Err(Error::corrupt(key, format!("{what} `{expected}`"), format!("`{found}`")))
        };
        if header.origin != self.origin {
            return differs("origin", self.origin.to_string(), header.origin.to_string());
        }
        if header.log != self.log {
            return differs("log", self.log.to_string(), header.log.to_string());
        }
        if header.before != self.edge {
            let told = |edge: &RightEdge| format!("{} leaves with root {}", edge.size(), edge.root());
            return differs("a tree before of", told(&self.edge), told(&header.before));
        }
        match self.sealed {
            Some((_, last)) if header.sealed_at < last => {
                differs("sealed_at not before", last.to_string(), header.sealed_at.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Takes rows of a segment: hashes their leaves, notes what the header will say, and holds them until their row
    /// group is complete.
    fn take_rows(
        &mut self,
        key: &str,
        batch: &RecordBatch,
        hashes: &mut Vec<Hash>,
        received: &mut Extremes<Timestamp>,
    ) -> Result<()> {
        let first = self.edge.size().to_u64();
        let indexes: &Int64Array = column(key, batch, LEAF_INDEX)?;
        for (index, found) in (first..).zip(indexes.values()) {
            if u64::try_from(*found) != Ok(index) {
                return Err(Error::corrupt(key, format!("leaf_index {index}"), found));
            }
        }
        for id in column::<StringArray>(key, batch, ID)?.iter().map(Option::unwrap_or_default) {
            widen(&mut self.ids, id_of(key, id)?);
        }
        for time in column::<TimestampMillisecondArray>(key, batch, RECEIVED_AT)?.values() {
            let ms = u64::try_from(*time).map_err(|_| Error::corrupt(key, "a time", time))?;
            widen(received, Timestamp::from_ms(ms));
            widen(&mut self.received, Timestamp::from_ms(ms));
        }
        let leaf: &BinaryArray = column(key, batch, LEAF)?;
        for leaf in leaf.iter().map(Option::unwrap_or_default) {
            let hash = leaf_hash(leaf);
            self.edge.append(hash);
            hashes.push(hash);
        }
        let ends = leaf.value_offsets();
        let mut from = 0;
        while from < batch.num_rows() {
            let index = first + from as u64;
            let in_block = (BLOCK_LEAVES - index % BLOCK_LEAVES) as usize;
            let most = in_block.min(batch.num_rows() - from);
            // At least one row; all that fit.
            let room = ROW_GROUP_LEAF_BYTES.saturating_sub(self.held_leaf_bytes);
            let fit =
                ends[from + 1..=from + most].iter().take_while(|end| (**end - ends[from]) as usize <= room);
            let rows = fit.count().max(1);
            self.held.push(batch.slice(from, rows));
            self.held_leaf_bytes += (ends[from + rows] - ends[from]) as usize;
            from += rows;
            if rows == in_block || rows < most {
                self.write_row_group(key)?;
            }
        }
        Ok(())
    }

    /// Writes what is held as one row group.
    fn write_row_group(&mut self, key: &str) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        self.held_leaf_bytes = 0;
        let order = order(key, &held)?;
        let internal = |e| Error::new(Code::Internal, "write a file of the archive").with_source(e);
        for rows in order.chunks(BATCH_ROWS) {
            let columns: std::result::Result<Vec<ArrayRef>, _> = (0..ARROW_SCHEMA.fields().len())
                .map(|place| {
                    let parts: Vec<&dyn Array> = held.iter().map(|batch| &**batch.column(place)).collect();
                    interleave(&parts, rows)
                })
                .collect();
            let columns = columns.map_err(internal)?;
            let batch = RecordBatch::try_new(Arc::clone(&ARROW_SCHEMA), columns).map_err(internal)?;
            self.parquet.write(&batch).map_err(failed)?;
        }
        self.parquet.flush().map_err(failed)
    }

    /// Writes what remains and the footer. The file is whole then, and its SHA-256 was computed on the way; that it
    /// outlives a loss of power is the business of whoever stores it.
    pub fn finish(mut self) -> Result<(Spooled, ArchiveHeader)> {
        if !self.held.is_empty() {
            self.write_row_group("spool")?;
        }
        let (Some((sealed_first, sealed_last)), Some((received_min, received_max)), Some((id_min, id_max))) =
            (self.sealed, self.received, self.ids)
        else {
            return Err(Error::new(Code::Internal, "finish a file of the archive: it has no leaves"));
        };
        let header = ArchiveHeader {
            origin: self.origin,
            log: self.log,
            before: self.before,
            after: self.edge,
            sealed_first,
            sealed_last,
            received_min,
            received_max,
            running_received_max: self.running_received_max,
            id_min,
            id_max,
        };
        for pair in header::encode_archive(&header) {
            self.parquet.append_key_value_metadata(pair);
        }
        let file = self.parquet.into_inner().map_err(failed)?;
        let sha256 = Hash::from_bytes(file.sha256.finalize().into());
        Ok((Spooled { path: self.path, bytes: file.bytes, sha256 }, header))
    }
}

fn failed(e: ParquetError) -> Error {
    Error::new(Code::Internal, "write a file of the archive").with_source(e)
}

/// The least and the greatest, once there is one.
type Extremes<T> = Option<(T, T)>;

fn widen<T: Ord + Copy>(extremes: &mut Extremes<T>, value: T) {
    let (least, greatest) = extremes.unwrap_or((value, value));
    *extremes = Some((least.min(value), greatest.max(value)));
}

/// The order of the rows of some batches: by actor and action, and in leaf order, which is that of receipt, within.
/// One actor's rows lie together, and leaves that begin alike.
fn order(key: &str, batches: &[RecordBatch]) -> Result<Vec<(usize, usize)>> {
    // Pairs are numbered as they come; then the numbers are ranked.
    let mut numbers: HashMap<(Option<&str>, Option<&str>), usize> = HashMap::new();
    let mut pairs = Vec::new();
    for batch in batches {
        let actors: &StringArray = column(key, batch, place_of("actor_id"))?;
        let actions: &StringArray = column(key, batch, place_of("action"))?;
        for pair in actors.iter().zip(actions) {
            let next = numbers.len();
            pairs.push(*numbers.entry(pair).or_insert(next));
        }
    }
    let mut counts = vec![0; numbers.len()];
    pairs.iter().for_each(|pair| counts[*pair] += 1);
    let mut ranked: Vec<_> = numbers.into_iter().collect();
    ranked.sort_unstable();
    let mut next_place = vec![0; ranked.len()];
    let mut sum = 0;
    for (_, pair) in ranked {
        next_place[pair] = sum;
        sum += counts[pair];
    }
    let mut order = vec![(0, 0); pairs.len()];
    let rows =
        batches.iter().enumerate().flat_map(|(n, batch)| (0..batch.num_rows()).map(move |row| (n, row)));
    for (row, pair) in rows.zip(pairs) {
        order[next_place[pair]] = row;
        next_place[pair] += 1;
    }
    Ok(order)
}

/// A file that counts and hashes what is written to it.
struct HashedFile {
    file: File,
    bytes: u64,
    sha256: Sha256,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        self.sha256.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
