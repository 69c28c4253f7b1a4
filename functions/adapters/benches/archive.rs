//! What a file of the archive costs: bytes per event, rows per CPU second, peak memory, and bytes read for typical
//! questions. `tests/archive/measure` runs it beside its peers; by itself:
//!
//! ```text
//! stele generate --events 1000000 --tenants 1 --ids --days 1 | cargo bench -p stele-adapters --bench archive -- write FILE
//! cargo bench -p stele-adapters --bench archive -- read FILE
//! ```
//!
//! `write` accepts the events on standard input, seals them 1,000 at a time and writes the segments as one file; only
//! what compaction does is timed. With a folder after FILE it keeps the leaves and segments there for others to read; with
//! `--level N` it compresses leaves at another level of ZSTD.
#![allow(clippy::print_stdout, reason = "it prints figures")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails is of no use")]

use arrow::array::{Array, BooleanArray, StringArray, TimestampMillisecondArray};
use async_trait::async_trait;
use bytes::Bytes;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, RowFilter, RowSelection};
use parquet::arrow::push_decoder::{ParquetPushDecoderBuilder, RowGroupSelection};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use stele::access::LogNumber;
use stele::event::{Draft, Terms};
use stele::id::{EventId, TenantId};
use stele::layout::{Object, ObjectKey};
use stele::ports::{ListedObject, LockedObjects, PutIfAbsent, StoredObject};
use stele::record::Record;
use stele::segment::SegmentHeader;
use stele::time::Timestamp;
use stele::tlog::checkpoint::Origin;
use stele::tlog::hash::LeafIndex;
use stele::tlog::tree::RightEdge;
use stele_adapters::clock::SeededRandom;
use stele_adapters::parquet::archive::{ArchiveFile, ArchiveWriter};
use stele_adapters::parquet::encode_segment;

const SEGMENT_LEAVES: usize = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", file] => write(Path::new(file), None, None),
        ["write", file, "--level", level] => write(Path::new(file), None, Some(level.parse().unwrap())),
        ["write", file, kept] => write(Path::new(file), Some(Path::new(kept)), None),
        ["read", file] => {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(read(Path::new(file)));
        }
        _ => println!("archive: say `write FILE [FOLDER]`, `write FILE --level N` or `read FILE`"),
    }
}

/// Seconds this thread, which is all there is, has been on a CPU.
fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    told.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn write(path: &Path, kept: Option<&Path>, level: Option<i32>) {
    let origin = Origin::parse("log.example/7c2e").unwrap();
    let random = SeededRandom::new(5);
    let _ = std::fs::remove_file(path);
    let mut leaves = kept.map(|folder| {
        std::fs::create_dir_all(folder.join("segments")).unwrap();
        BufWriter::new(File::create(folder.join("leaves.ndjson")).unwrap())
    });
    let (log, before, earliest) = (LogNumber(0), RightEdge::empty(), Timestamp::default());
    let writer = match level {
        None => ArchiveWriter::create(path, &origin, log, before, earliest),
        Some(level) => ArchiveWriter::create_at_level(path, &origin, log, before, earliest, level),
    };
    let mut writer = writer.unwrap();
    let (mut edge, mut received_max, mut cpu) = (RightEdge::empty(), Timestamp::default(), 0.0);
    let mut records: Vec<Record> = Vec::new();
    let mut lines = std::io::stdin().lock().lines();
    loop {
        let line = lines.next().map(|line| line.unwrap());
        if let Some(line) = &line {
            let record = accepted(line, &random);
            if let Some(leaves) = &mut leaves {
                leaves.write_all(record.leaf.as_bytes()).unwrap();
                leaves.write_all(b"\n").unwrap();
            }
            records.push(record);
        }
        if records.len() == SEGMENT_LEAVES || (line.is_none() && !records.is_empty()) {
            let before = edge.clone();
            edge.extend(records.iter().map(|record| record.leaf_hash));
            received_max = records.iter().map(|record| record.received_at).fold(received_max, Timestamp::max);
            let header = SegmentHeader {
                origin: origin.clone(),
                log: LogNumber(0),
                before,
                after: edge.clone(),
                sealed_at: received_max.plus_ms(1_500),
                received_max,
                checkpoint_before: String::new(),
            };
            let segment = encode_segment(&header, &records).unwrap();
            if let Some(folder) = kept {
                let name = format!("segments/{:020}.parquet", header.first().to_u64());
                std::fs::write(folder.join(name), &segment).unwrap();
            }
            let tenant = records[0].tenant.clone();
            records.clear();
            let began = cpu_seconds();
            writer.append(&tenant, "segment", segment).unwrap();
            cpu += cpu_seconds() - began;
        }
        if line.is_none() {
            break;
        }
    }
    if let Some(leaves) = leaves {
        leaves.into_inner().unwrap();
    }
    let began = cpu_seconds();
    let (spooled, header) = writer.finish().unwrap();
    cpu += cpu_seconds() - began;
    let rows = header.leaves() as f64;
    println!("rows {rows}");
    println!("bytes_per_event {:.2}", spooled.bytes as f64 / rows);
    println!("rows_per_cpu_second {:.0}", rows / cpu);
    println!("peak_mib {:.0}", peak_mib());
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&File::open(path).unwrap()).unwrap();
    let schema = metadata.file_metadata().schema_descr();
    for (place, column) in schema.columns().iter().enumerate() {
        let sizes = metadata.row_groups().iter().map(|group| group.column(place).compressed_size());
        println!("column {} {:.2}", column.name(), sizes.sum::<i64>() as f64 / rows);
    }
}

/// The record of an event that arrives within half a second, or, one in a hundred, within five minutes.
fn accepted(line: &str, random: &SeededRandom) -> Record {
    let draft = Draft::parse(line.as_bytes()).unwrap();
    let tenant = draft.tenant().unwrap().clone();
    let late = match random.next_u64() % 100 {
        0 => random.next_u64() % 300_000,
        _ => 30 + random.next_u64() % 400,
    };
    let terms = Terms {
        tenant: &tenant,
        key_id: "k7f3a9c2",
        now: draft.occurred_at().unwrap().plus_ms(late),
        id_secret: &[7; 32],
        random: u128::from(random.next_u64()) << 64 | u128::from(random.next_u64()),
        oldest: None,
    };
    draft.accept(&terms).unwrap().record
}

/// One object that counts what is read of it.
struct Counted {
    bytes: Bytes,
    ranges: Mutex<Vec<u64>>,
}

impl Counted {
    fn slice(&self, range: &Range<u64>) -> Bytes {
        self.ranges.lock().unwrap().push(range.end - range.start);
        self.bytes.slice(range.start as usize..range.end as usize)
    }

    /// How many reads and bytes there were since the last time.
    fn count(&self) -> (usize, u64) {
        let ranges = std::mem::take(&mut *self.ranges.lock().unwrap());
        (ranges.len(), ranges.iter().sum())
    }
}

#[async_trait]
impl LockedObjects for Counted {
    async fn put_if_absent(&self, _: &ObjectKey, _: Bytes, _: Timestamp) -> stele::Result<PutIfAbsent> {
        Ok(PutIfAbsent::Exists)
    }

    async fn object(&self, _: &ObjectKey) -> stele::Result<Option<StoredObject>> {
        Ok(None)
    }

    async fn version(&self, _: &ObjectKey, _: &str) -> stele::Result<Option<StoredObject>> {
        Ok(None)
    }

    async fn range(&self, _: &ObjectKey, _: &str, range: Range<u64>) -> stele::Result<Option<Bytes>> {
        Ok(Some(self.slice(&range)))
    }

    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> stele::Result<Vec<ListedObject>> {
        Ok(Vec::new())
    }
}

async fn read(path: &Path) {
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    let size = bytes.len() as u64;
    let file = Arc::new(Counted { bytes: bytes.clone(), ranges: Mutex::default() });
    let first = LeafIndex::ZERO;
    let month = stele::archive::Month::parse("2026-05").unwrap();
    let tenant = TenantId::parse("org").unwrap();
    let key = Object::Archive { tenant, log: LogNumber(0), month, first }.key();
    let open = || ArchiveFile::open(file.clone(), key.clone(), "1".to_owned(), size);
    let whole = open().await.unwrap();
    let ids = whole.ids(first, whole.header().end()).await.unwrap();
    let random = SeededRandom::new(3);
    let told = |what: &str, reads: usize, bytes: u64| {
        println!("{what} reads {reads} bytes {bytes} share {:.4}", bytes as f64 / size as f64);
    };
    let (mut most_reads, mut most_bytes) = (0, 0);
    for absent in [false, true] {
        for _ in 0..200 {
            let (id, index) = ids[(random.next_u64() % ids.len() as u64) as usize];
            let asked = if absent { EventId::new(id.time(), u128::from(random.next_u64())) } else { id };
            file.count();
            let found = open().await.unwrap().find(asked).await.unwrap();
            assert_eq!(found.map(|(record, index)| (record.id, index)), (!absent).then_some((id, index)));
            let (reads, bytes) = file.count();
            (most_reads, most_bytes) = (most_reads.max(reads), most_bytes.max(bytes));
        }
        told(if absent { "id_absent" } else { "id" }, most_reads, most_bytes);
        (most_reads, most_bytes) = (0, 0);
    }

    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(&bytes)
        .unwrap();
    let metadata = Arc::new(metadata);
    for column in ["actor_id", "resource_id"] {
        // By rising frequency; the middling one stands for half of all events above and below it.
        let mut counts: Vec<(usize, String)> =
            counted(&metadata, &bytes, column).into_iter().map(|(v, n)| (n, v)).collect();
        counts.sort();
        let total: usize = counts.iter().map(|(n, _)| n).sum();
        let mut sum = 0;
        let middling = counts.iter().find(|(n, _)| {
            sum += n;
            sum * 2 >= total
        });
        let name = column.trim_end_matches("_id");
        let middling = &middling.unwrap().1;
        let rare = &counts[0].1;
        for (what, value) in [("", middling.as_str()), ("_rare", rare), ("_absent", "zz_nobody")] {
            let (rows, reads, bytes) = scanned(&metadata, &file, Asked::Text(column, value));
            told(&format!("{name}{what} rows {rows}"), reads, bytes);
        }
    }
    let h = whole.header();
    let span = h.received_max.ms() - h.received_min.ms();
    let hour = h.received_min.ms() + span / 2;
    let (rows, reads, bytes) = scanned(&metadata, &file, Asked::Received(hour, hour + span / 24));
    told(&format!("twenty_fourth_of_the_time rows {rows}"), reads, bytes);
    let typical = [
        "occurred_at",
        "action",
        "outcome",
        "actor_type",
        "actor_id",
        "actor_name",
        "resource_type",
        "resource_id",
        "ip",
    ];
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    let bytes: i64 = columns
        .filter(|c| typical.contains(&c.column_path().string().as_str()))
        .map(|c| c.compressed_size())
        .sum();
    told("typical_columns", 0, bytes as u64);
}

fn counted(metadata: &Arc<ParquetMetaData>, bytes: &Bytes, column: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    let place = place(metadata, column);
    let mask = ProjectionMask::leaves(metadata.file_metadata().schema_descr(), [place]);
    let mut decoder = ParquetPushDecoderBuilder::try_new_decoder(Arc::clone(metadata))
        .unwrap()
        .with_projection(mask)
        .build()
        .unwrap();
    loop {
        match decoder.try_decode().unwrap() {
            DecodeResult::Data(batch) => {
                let texts = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap();
                texts.iter().flatten().for_each(|text| *counts.entry(text.to_owned()).or_default() += 1);
            }
            DecodeResult::NeedsData(ranges) => {
                let data = ranges.iter().map(|r| bytes.slice(r.start as usize..r.end as usize)).collect();
                decoder.push_ranges(ranges, data).unwrap();
            }
            DecodeResult::Finished => return counts,
        }
    }
}

fn place(metadata: &ParquetMetaData, column: &str) -> usize {
    let columns = metadata.file_metadata().schema_descr().columns().to_vec();
    columns.iter().position(|c| c.name() == column).unwrap()
}

enum Asked<'a> {
    Text(&'a str, &'a str),
    Received(u64, u64),
}

/// `SELECT *` with one condition, as an engine does it that prunes by statistics, bloom filters and page indexes, and
/// reads the other columns for the rows that are left: rows, reads and bytes.
fn scanned(metadata: &Arc<ParquetMetaData>, file: &Counted, asked: Asked<'_>) -> (usize, usize, u64) {
    file.count();
    // Footer and page indexes: what lies behind the last bloom filter or column.
    let data_ends = metadata.row_groups().iter().flat_map(|group| group.columns()).map(|column| {
        let filter = column.bloom_filter_offset().zip(column.bloom_filter_length());
        let (start, length) = column.byte_range();
        filter.map_or(0, |(start, length)| start as u64 + length as u64).max(start + length)
    });
    let end = data_ends.max().unwrap();
    file.slice(&(end..file.bytes.len() as u64));
    let (column, text) = match asked {
        Asked::Text(column, text) => (column, text),
        Asked::Received(..) => ("received_at", ""),
    };
    let place = place(metadata, column);
    let pages = metadata.page_index();
    let mut selections = Vec::new();
    for (n, group) in metadata.row_groups().iter().enumerate() {
        let chunk = group.column(place);
        let rows = group.num_rows() as usize;
        let mut selection = None;
        let pruned = match (&asked, chunk.statistics()) {
            (Asked::Received(from, to), Some(Statistics::Int64(s))) => {
                *s.max_opt().unwrap() < *from as i64 || *s.min_opt().unwrap() >= *to as i64
            }
            (Asked::Text(..), Some(Statistics::ByteArray(s))) => {
                s.max_opt().is_some_and(|max| max.data() < text.as_bytes())
                    || s.min_opt().is_some_and(|min| min.data() > text.as_bytes())
            }
            _ => false,
        };
        if pruned {
            continue;
        }
        if let Some((start, length)) = chunk.bloom_filter_offset().zip(chunk.bloom_filter_length()) {
            let read = file.slice(&(start as u64..start as u64 + length as u64));
            if !parquet::bloom_filter::Sbbf::from_bytes(&read).unwrap().check(&text) {
                continue;
            }
        }
        let index = pages.and_then(|pages| pages.column_index(n, place).zip(pages.offset_index(n, place)));
        if let Some((ColumnIndexMetaData::BYTE_ARRAY(index), offsets)) = index {
            let firsts: Vec<usize> =
                offsets.page_locations().iter().map(|page| page.first_row_index as usize).collect();
            let ends = firsts.iter().skip(1).copied().chain([rows]);
            let ranges = firsts.iter().copied().zip(ends).enumerate().filter(|(page, _)| {
                index.min_value(*page).is_none_or(|min| min <= text.as_bytes())
                    && index.max_value(*page).is_none_or(|max| max >= text.as_bytes())
            });
            let ranges: Vec<Range<usize>> = ranges.map(|(_, (from, to))| from..to).collect();
            if ranges.is_empty() {
                continue;
            }
            selection = Some(RowSelection::from_consecutive_ranges(ranges.into_iter(), rows));
        }
        selections.push(RowGroupSelection::new(n, selection));
    }
    if selections.is_empty() {
        let (reads, bytes) = file.count();
        return (0, reads, bytes);
    }
    let (wanted, times) = match asked {
        Asked::Text(_, text) => (text.to_owned(), None),
        Asked::Received(from, to) => (String::new(), Some(from as i64..to as i64)),
    };
    let schema = metadata.file_metadata().schema_descr();
    let predicate = ArrowPredicateFn::new(ProjectionMask::leaves(schema, [place]), move |batch| {
        let column = batch.column(0).as_any();
        Ok(match &times {
            None => {
                let texts = column.downcast_ref::<StringArray>().unwrap();
                BooleanArray::from_iter(texts.iter().map(|text| Some(text == Some(&wanted))))
            }
            Some(times) => {
                let found = column.downcast_ref::<TimestampMillisecondArray>().unwrap();
                BooleanArray::from_iter(
                    found.iter().map(|time| Some(time.is_some_and(|t| times.contains(&t)))),
                )
            }
        })
    });
    let mut decoder = ParquetPushDecoderBuilder::try_new_decoder(Arc::clone(metadata))
        .unwrap()
        .with_row_group_selections(selections)
        .with_row_filter(RowFilter::new(vec![Box::new(predicate)]))
        .build()
        .unwrap();
    let mut rows = 0;
    loop {
        match decoder.try_decode().unwrap() {
            DecodeResult::Data(batch) => rows += batch.num_rows(),
            DecodeResult::NeedsData(ranges) => {
                let data = ranges.iter().map(|range| file.slice(range)).collect();
                decoder.push_ranges(ranges, data).unwrap();
            }
            DecodeResult::Finished => break,
        }
    }
    let (reads, bytes) = file.count();
    (rows, reads, bytes)
}
