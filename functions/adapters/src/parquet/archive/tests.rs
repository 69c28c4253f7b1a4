//! Files of the archive hold exactly the segments they were made of, in whatever way they are read, and nothing that is
//! not one is taken for one.

use super::super::{encode_segment, sample};
use super::*;
use crate::clock::SeededRandom;
use crate::memory_objects::MemoryObjects;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::ZstdLevel;
use proptest::prelude::*;
use std::sync::Arc;
use stele::archive::ArchiveHeader;
use stele::id::{EventId, TenantId};
use stele::layout::{Object, ObjectKey};
use stele::ports::{LockedObjects, Spooled};
use stele::record::Record;
use stele::segment::SegmentHeader;
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize, leaf_hash};
use stele::tlog::tree::RightEdge;
use stele::{Code, Result};

const TENANT: &str = "org_acme";
const KEY: &str = "some/key";

fn tenant() -> TenantId {
    TenantId::parse(TENANT).unwrap()
}

/// Segments that follow each other, as files and as records.
struct Segments {
    before: RightEdge,
    files: Vec<(SegmentHeader, Bytes)>,
    records: Vec<Record>,
}

fn segments(seed: u64, before: u64, sizes: &[u64]) -> Segments {
    let random = SeededRandom::new(seed);
    let mut edge = RightEdge::empty();
    edge.extend((0..before).map(|n| leaf_hash(&n.to_be_bytes())));
    let mut segments = Segments { before: edge.clone(), files: Vec::new(), records: Vec::new() };
    let mut received_max = Timestamp::default();
    for size in sizes {
        let records = sample::records(TENANT, *size, &mut || random.next_u64());
        let mut header = sample::header(edge, &records);
        received_max = received_max.max(header.received_max);
        header.received_max = received_max;
        header.sealed_at = received_max.plus_ms(1_500);
        edge = header.after.clone();
        segments.files.push((header.clone(), encode_segment(&header, &records).unwrap()));
        segments.records.extend(records);
    }
    segments
}

/// Writes an archive file, and returns it with its bytes.
fn write(segments: &Segments) -> Result<(Spooled, ArchiveHeader, Bytes)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let header = &segments.files[0].0;
    let mut writer = ArchiveWriter::create(
        &path,
        &header.origin,
        header.log,
        segments.before.clone(),
        Timestamp::default(),
    )?;
    let mut hashes = Vec::new();
    for (header, file) in &segments.files {
        let (found, new) = writer.append(&tenant(), KEY, file.clone())?;
        assert_eq!(found, *header);
        hashes.extend(new);
    }
    assert_eq!(hashes, segments.records.iter().map(|r| r.leaf_hash).collect::<Vec<_>>());
    let (spooled, header) = writer.finish()?;
    let bytes = Bytes::from(std::fs::read(&path).unwrap());
    assert_eq!((spooled.bytes, spooled.sha256), (bytes.len() as u64, Hash::of(&bytes)));
    Ok((spooled, header, bytes))
}

fn all() -> Keep {
    Arc::new(|_| true)
}

fn key(header: &ArchiveHeader) -> ObjectKey {
    Object::Archive { tenant: tenant(), log: header.log, month: header.month(), first: header.first() }.key()
}

async fn open(header: &ArchiveHeader, bytes: Bytes) -> Result<ArchiveFile> {
    let objects = MemoryObjects::new();
    let size = bytes.len() as u64;
    objects.put_if_absent(&key(header), bytes, Timestamp::MAX).await.unwrap();
    ArchiveFile::open(Arc::new(objects), key(header), "1".to_owned(), size).await
}

/// All that can be read of a file is what its segments held.
async fn check(segments: &Segments, looked_up: usize) {
    let (spooled, header, bytes) = write(segments).unwrap();
    let file = open(&header, bytes).await.unwrap();
    assert_eq!(*file.header(), header);
    let first = header.first();

    let mut seen = Vec::new();
    let sha256 = file
        .verify(&tenant(), all(), &mut |leaves| {
            assert_eq!(leaves.hashes.first().to_u64(), first.to_u64() + seen.len() as u64);
            let indexes = leaves.kept.iter().map(|(index, _)| index.to_u64());
            assert!(indexes.eq(leaves.hashes.first().to_u64()..leaves.hashes.end().to_u64()));
            let received = || leaves.kept.iter().map(|(_, record)| record.received_at);
            assert_eq!(Some(leaves.received), received().min().zip(received().max()));
            assert!(leaves.kept.iter().map(|(_, record)| record.id).eq(leaves.ids.iter().copied()));
            let hashes = leaves.kept.iter().map(|(_, record)| record.leaf_hash);
            assert!(hashes.eq(leaves.hashes.leaves().iter().copied()));
            seen.extend(leaves.kept.iter().map(|(_, record)| record.clone()));
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(sha256, spooled.sha256);
    assert_eq!(seen, segments.records);
    assert_eq!(file.read_back().await.unwrap(), (spooled.sha256, header.after.clone()));

    let count = segments.records.len() as u64;
    for skip in [0, 1, count / 2, count - 1, count] {
        let mut leaves = Vec::new();
        let from = first.plus(skip).unwrap();
        file.leaves(from, &mut |index, part| {
            assert_eq!(index.to_u64(), from.to_u64() + leaves.len() as u64);
            leaves.extend(part);
            Ok(())
        })
        .await
        .unwrap();
        let expected: Vec<Bytes> =
            segments.records[skip as usize..].iter().map(|r| r.leaf.bytes().clone()).collect();
        assert_eq!(leaves, expected);
    }

    let place = |n: usize| first.plus(n as u64).unwrap();
    for (from, to) in [(0, count), (count / 3, count / 2), (count - 1, count), (1, 1)] {
        let mut ids = file.ids(place(from as usize), place(to as usize).size_before()).await.unwrap();
        ids.sort_by_key(|(_, index)| *index);
        let all = segments.records.iter().enumerate();
        let expected = all
            .map(|(n, r)| (r.id, place(n)))
            .filter(|(_, i)| (from..to).contains(&(i.to_u64() - first.to_u64())));
        assert_eq!(ids, expected.collect::<Vec<_>>());
    }

    for n in (0..segments.records.len()).step_by(segments.records.len().div_ceil(looked_up)) {
        let record = &segments.records[n];
        assert_eq!(file.find(record.id).await.unwrap(), Some((record.clone(), place(n))));
        let other = EventId::new(record.occurred_at, 7);
        assert_eq!(file.find(other).await.unwrap(), None);
    }
    for elsewhere in [EventId::new(Timestamp::from_ms(1), 7), EventId::new(Timestamp::MAX, 7)] {
        assert_eq!(file.find(elsewhere).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_file_holds_what_its_segments_held() {
    check(&segments(1, 0, &[1]), 1).await;
    check(&segments(2, 5, &[300, 1, 77]), 40).await;
}

#[tokio::test]
async fn row_groups_end_with_the_blocks_of_the_log() {
    let before = BLOCK_LEAVES - 700;
    let segments = segments(3, before, &[1_500]);
    let (_, header, bytes) = write(&segments).unwrap();
    let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    let rows: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [700, 800]);
    assert_eq!(header.leaves(), 1_500);
    check(&segments, 9).await;
}

/// Large events of one millisecond: memory is bounded by bytes, and an id is told from others of its time.
#[tokio::test]
async fn row_groups_end_before_their_leaves_fill_the_memory() {
    let random = SeededRandom::new(17);
    let at = Timestamp::from_ms(1_780_000_000_000);
    let records: Vec<Record> = (0..640)
        .map(|n| {
            let leaf = serde_json::json!({
                "action": "file.uploaded",
                "actor": {"id": format!("u{}", n % 3), "type": "user"},
                "id": EventId::new(at, random.next_u64().into()).to_string(),
                "key_id": "k7f3a9c2",
                "metadata": {"text": "x".repeat(60_000)},
                "occurred_at": at.to_string(),
                "outcome": "success",
                "received_at": at.plus_ms(n).to_string(),
                "tenant_id": TENANT,
                "v": 1,
            });
            Record::from_leaf(leaf.to_string().into_bytes()).unwrap()
        })
        .collect();
    let header = sample::header(RightEdge::empty(), &records);
    let file = encode_segment(&header, &records).unwrap();
    let segments = Segments { before: RightEdge::empty(), files: vec![(header, file)], records };
    let (_, _, bytes) = write(&segments).unwrap();
    let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    let rows: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    check(&segments, 5).await;
}

#[test]
fn the_same_segments_have_the_same_bytes() {
    let segments = segments(4, 3, &[200, 300]);
    assert_eq!(write(&segments).unwrap().2, write(&segments).unwrap().2);
}

#[test]
fn the_schema_is_the_golden_one_and_only_what_prunes_has_statistics() {
    let (_, _, bytes) = write(&segments(5, 0, &[50])).unwrap();
    let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    super::super::check_schema(KEY, layout::SCHEMA, metadata.file_metadata().schema()).unwrap();
    assert_eq!(metadata.file_metadata().created_by(), Some("stele"));
    let with = |has: fn(&parquet::file::metadata::ColumnChunkMetaData) -> bool| -> Vec<String> {
        let columns = metadata.row_group(0).columns().iter().filter(|column| has(column));
        columns.map(|column| column.column_path().string()).collect()
    };
    assert_eq!(
        with(|c| c.statistics().is_some()),
        ["leaf_index", "id", "occurred_at", "received_at", "actor_id"]
    );
    assert_eq!(with(|c| c.column_index_range().is_some()), ["actor_id"]);
    assert_eq!(with(|c| c.offset_index_range().is_none()), [""; 0]);
    assert_eq!(with(|c| c.bloom_filter_offset().is_some()), ["resource_id"]);
}

fn refused(segments: &Segments) -> String {
    let error = write(segments).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Code::Corrupt, "{error}");
    error.detail().to_owned()
}

#[test]
fn a_segment_that_is_not_the_next_one_is_refused() {
    let whole = || segments(6, 9, &[20, 30, 40]);
    let mut gap = whole();
    gap.files.remove(1);
    let detail = refused(&gap);
    assert!(
        detail.contains("a tree before of `29 leaves") && detail.contains("found `59 leaves"),
        "{detail}"
    );
    let mut other = whole();
    other.before = RightEdge::empty();
    assert!(refused(&other).contains("a tree before"));
    for change in [
        |h: &mut SegmentHeader| h.log = stele::access::LogNumber(1),
        |h: &mut SegmentHeader| {
            h.origin = stele::tlog::checkpoint::Origin::parse("log.example/other").unwrap()
        },
        |h: &mut SegmentHeader| h.sealed_at = Timestamp::default(),
        |h: &mut SegmentHeader| h.received_max = h.received_max.plus_ms(1),
    ] {
        let mut changed = whole();
        let (header, file) = &mut changed.files[2];
        change(header);
        *file = encode_segment(header, &changed.records[50..]).unwrap();
        refused(&changed);
    }
}

#[test]
fn leaves_that_do_not_grow_the_tree_are_refused() {
    let mut segments = segments(7, 2, &[20, 30]);
    let mut swapped = segments.records[20..].to_vec();
    swapped.swap(3, 4);
    segments.files[1].1 = encode_segment(&segments.files[1].0, &swapped).unwrap();
    assert!(refused(&segments).contains("root"));
}

#[test]
fn a_file_without_leaves_is_not_finished_and_one_that_is_there_is_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let header = segments(8, 0, &[1]).files[0].0.clone();
    let create =
        || ArchiveWriter::create(&path, &header.origin, header.log, RightEdge::empty(), Timestamp::default());
    let writer = create().unwrap();
    assert!(create().is_err());
    assert_eq!(writer.finish().map(|_| ()).unwrap_err().code(), Code::Internal);
}

#[tokio::test]
async fn a_file_of_somebody_else_is_corrupt() {
    let (_, header, bytes) = write(&segments(9, 0, &[5])).unwrap();
    let file = open(&header, bytes).await.unwrap();
    let other = TenantId::parse("org_other").unwrap();
    let error = file.verify(&other, all(), &mut |_| Ok(())).await.unwrap_err();
    assert_eq!(error.code(), Code::Corrupt);
    assert!(error.detail().contains("tenant_id"), "{error}");
}

/// Writes any columns under a header, as one who tampers would.
fn forge(header: &ArchiveHeader, bytes: &Bytes, change: impl Fn(usize, ArrayRef) -> ArrayRef) -> Bytes {
    let reader = ParquetRecordBatchReader::try_new(bytes.clone(), 10_000).unwrap();
    let honest: Vec<RecordBatch> = reader.map(|batch| batch.unwrap()).collect();
    let columns = honest[0].columns().iter().cloned().enumerate().map(|(n, column)| change(n, column));
    let schema = Arc::clone(&layout::ARROW_SCHEMA);
    let forged = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
    let level = ZstdLevel::try_new(1).unwrap();
    let pairs = super::super::header::encode_archive(header);
    let properties = layout::properties(level).into_builder().set_key_value_metadata(Some(pairs)).build();
    let options = ArrowWriterOptions::new()
        .with_properties(properties)
        .with_schema_root("stele".to_owned())
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options).unwrap();
    writer.write(&forged).unwrap();
    writer.into_inner().unwrap().into()
}

#[tokio::test]
async fn a_column_that_differs_from_its_leaf_is_corrupt_and_named() {
    let (_, header, bytes) = write(&segments(15, 40, &[9])).unwrap();
    let honest = open(&header, forge(&header, &bytes, |_, column| column)).await.unwrap();
    honest.verify(&tenant(), all(), &mut |_| Ok(())).await.unwrap();
    for (place, field) in layout::ARROW_SCHEMA.fields().iter().enumerate().skip(1) {
        let forged =
            forge(&header, &bytes, |n, column| match column.as_any().downcast_ref::<StringArray>() {
                _ if n != place => column,
                Some(texts) => {
                    let changed =
                        texts.iter().enumerate().map(|(row, text)| if row == 3 { Some("x") } else { text });
                    Arc::new(changed.collect::<StringArray>())
                }
                None => {
                    let changed = |n: usize, value: i64| value + i64::from(n == 3);
                    match column.as_any().downcast_ref::<Int64Array>() {
                        Some(numbers) => Arc::new(Int64Array::from_iter_values(
                            numbers.values().iter().enumerate().map(|(n, value)| changed(n, *value)),
                        )),
                        None => {
                            let times = column.as_any().downcast_ref::<TimestampMillisecondArray>().unwrap();
                            let times =
                                times.values().iter().enumerate().map(|(n, value)| changed(n, *value));
                            Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC"))
                        }
                    }
                }
            });
        let file = open(&header, forged).await.unwrap();
        let error = file.verify(&tenant(), all(), &mut |_| Ok(())).await.unwrap_err();
        assert_eq!(error.code(), Code::Corrupt);
        let name = field.name();
        assert!(error.detail().contains(name) || error.detail().contains("leaf index"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_header_that_says_something_else_of_its_leaves_is_corrupt() {
    let (_, header, bytes) = write(&segments(16, 4, &[9])).unwrap();
    for change in [
        |h: &mut ArchiveHeader| h.received_min = Timestamp::default(),
        |h: &mut ArchiveHeader| h.received_max = h.received_max.plus_ms(1),
        |h: &mut ArchiveHeader| h.running_received_max = Timestamp::default(),
        |h: &mut ArchiveHeader| h.id_min = EventId::first_at(Timestamp::default()),
        |h: &mut ArchiveHeader| h.id_max = EventId::last_at(Timestamp::MAX),
        |h: &mut ArchiveHeader| h.sealed_first = Timestamp::MAX,
        |h: &mut ArchiveHeader| h.after.append(leaf_hash(b"another")),
        |h: &mut ArchiveHeader| h.before = RightEdge::empty(),
    ] {
        let mut changed = header.clone();
        change(&mut changed);
        let result = match open(&header, forge(&changed, &bytes, |_, column| column)).await {
            Ok(file) => file.verify(&tenant(), all(), &mut |_| Ok(())).await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert_eq!(result.unwrap_err().code(), Code::Corrupt);
    }
}

#[tokio::test]
async fn a_version_that_is_gone_is_not_found_and_a_size_that_is_wrong_is_corrupt() {
    let (_, header, bytes) = write(&segments(10, 0, &[5])).unwrap();
    let size = bytes.len() as u64;
    let objects = Arc::new(MemoryObjects::new());
    objects.put_if_absent(&key(&header), bytes, Timestamp::MAX).await.unwrap();
    let opened = ArchiveFile::open(objects.clone(), key(&header), "2".to_owned(), size).await;
    assert_eq!(opened.map(|_| ()).unwrap_err().code(), Code::NotFound);
    for size in [size - 1, size + 1, 0, u64::MAX] {
        let opened = ArchiveFile::open(objects.clone(), key(&header), "1".to_owned(), size).await;
        assert_eq!(opened.map(|_| ()).unwrap_err().code(), Code::Corrupt, "{size}");
    }
}

#[tokio::test]
async fn a_segment_is_no_file_of_the_archive_nor_the_other_way_round() {
    let segments = segments(11, 0, &[5]);
    let (_, header, bytes) = write(&segments).unwrap();
    assert_eq!(
        open(&header, segments.files[0].1.clone()).await.map(|_| ()).unwrap_err().code(),
        Code::Corrupt
    );
    let read = super::super::decode_leaves(KEY, bytes);
    assert_eq!(read.map(|_| ()).unwrap_err().code(), Code::Corrupt);
}

#[tokio::test]
async fn reading_can_move_between_threads() {
    let segments = segments(12, 0, &[9]);
    let (spooled, header, bytes) = write(&segments).unwrap();
    let file = open(&header, bytes).await.unwrap();
    let id = segments.records[3].id;
    let read = tokio::spawn(async move {
        file.ids(LeafIndex::ZERO, TreeSize::new(9)).await.unwrap();
        file.leaves(LeafIndex::ZERO, &mut |_, _| Ok(())).await.unwrap();
        assert!(file.find(id).await.unwrap().is_some());
        file.read_back().await.unwrap();
        file.verify(&tenant(), all(), &mut |_| Ok(())).await.unwrap()
    });
    assert_eq!(read.await.unwrap(), spooled.sha256);
}

/// What a broken file may do: be found out by whoever reads all of it. The rest may read what is there, but lives.
async fn check_broken(spooled: &Spooled, header: &ArchiveHeader, segments: &Segments, bytes: Vec<u8>) {
    let same = Hash::of(&bytes) == spooled.sha256;
    let found = |error: stele::Error| assert_eq!(error.code(), Code::Corrupt, "{error}");
    let file = match open(header, bytes.into()).await {
        Ok(file) => file,
        Err(error) => return found(error),
    };
    match file.verify(&tenant(), all(), &mut |_| Ok(())).await {
        Ok(sha256) => assert_eq!(sha256 == spooled.sha256, same),
        Err(error) => found(error),
    }
    match file.read_back().await {
        Ok((sha256, _)) => assert_eq!(sha256 == spooled.sha256, same),
        Err(error) => found(error),
    }
    if let Err(error) = file.leaves(LeafIndex::ZERO, &mut |_, _| Ok(())).await {
        found(error);
    }
    if let Err(error) = file.ids(LeafIndex::ZERO, header.end()).await {
        found(error);
    }
    match file.find(segments.records[0].id).await {
        Ok(_) => {}
        Err(error) => found(error),
    }
}

#[tokio::test]
async fn a_changed_byte_is_found() {
    let segments = segments(13, 3, &[5, 4]);
    let (spooled, header, bytes) = write(&segments).unwrap();
    let random = SeededRandom::new(99);
    for at in 0..bytes.len() {
        for flip in [0xff, (random.next_u64() % 255 + 1) as u8] {
            // Of the many bytes, chance takes a third; those of the end, which says where all others are, all of them.
            if random.next_u64().is_multiple_of(3) || at + 600 > bytes.len() {
                let mut changed = bytes.to_vec();
                changed[at] ^= flip;
                check_broken(&spooled, &header, &segments, changed).await;
            }
        }
    }
}

#[tokio::test]
async fn a_cut_or_patched_file_is_found() {
    let segments = segments(14, 0, &[8]);
    let (spooled, header, bytes) = write(&segments).unwrap();
    let random = SeededRandom::new(7);
    let below = |bound: usize| (random.next_u64() % bound as u64) as usize;
    for _ in 0..1_000 {
        let mut changed = bytes.to_vec();
        let (from, to) = (below(bytes.len()), below(bytes.len()));
        let length = below(24).min(bytes.len() - from.max(to));
        match below(4) {
            0 => changed.copy_within(from..from + length, to),
            1 => drop(changed.drain(from..from + length)),
            2 => changed.truncate(from),
            _ => changed[from..from + length].fill(random.next_u64() as u8),
        }
        check_broken(&spooled, &header, &segments, changed).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn columns_equal_their_leaves_and_all_comes_back(
        seed: u64,
        before in 0..2_000_u64,
        sizes in prop::collection::vec(1..120_u64, 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(&segments(seed, before, &sizes), 10));
    }
}

/// What a search of all row groups finds, each row read.
async fn searched(file: &ArchiveFile, wanted: &Wanted<'_>) -> Vec<(EventId, LeafIndex)> {
    let mut found = Vec::new();
    for group in 0..file.groups() {
        let hits = file.search(group, wanted).await.unwrap();
        assert_eq!(hits.cut, None);
        let rows: Vec<usize> = hits.rows.iter().map(|(_, row)| *row).collect();
        let records = file.records_at(group, &rows, wanted).await.unwrap();
        for (record, index) in hits.records.into_iter().chain(records) {
            found.push((record.id, index));
        }
    }
    found.sort_unstable();
    found
}

#[tokio::test]
async fn a_search_finds_what_a_look_at_every_record_finds() {
    // Across the boundary of a block.
    let segments = segments(9, BLOCK_LEAVES - 700, &[300, 900, 600]);
    let (_, header, bytes) = write(&segments).unwrap();
    let file = open(&header, bytes).await.unwrap();
    assert_eq!(file.groups(), 2);
    let all = &segments.records;
    let (first, middle) = (header.first(), &all[all.len() / 2]);
    let resource = middle.resource_id.clone().unwrap();
    let of_everything = [
        String::new(),
        format!("actor_id={}", middle.actor_id),
        "actor_id=nobody".to_owned(),
        "actor_id=user_000001&actor_id=user_000007".to_owned(),
        format!("resource_id={resource}"),
        "resource_id=none".to_owned(),
        "action=invoice.*&outcome=failure".to_owned(),
        "actor_name=alice&resource_type=invoice".to_owned(),
        format!("from={}", middle.occurred_at),
        format!("to={}&outcome=failure", middle.occurred_at),
        format!("q=received:<{}", middle.received_at),
        format!("q=(actor:{} OR resource:{resource}) -outcome:failure", middle.actor_id),
        "q=-actor:user_000001 metadata.weight:>990".to_owned(),
        "q=-resource.type:* ".to_owned(),
        "q=(outcome:failure metadata.weight:<100 OR action:user.login)".to_owned(),
        "search=invoice".to_owned(),
        format!("q=id:{}", middle.id),
        format!("q=(id:{} OR id:{})", middle.id, all[3].id),
        "q=is:archived outcome:failure".to_owned(),
        "q=is:recorded".to_owned(),
    ];
    for (query, below) in of_everything.iter().flat_map(|query| {
        [u64::MAX, header.end().to_u64() - 250, BLOCK_LEAVES, first.to_u64() + 10].map(|below| (query, below))
    }) {
        let query = query.replace(' ', "%20").replace('<', "%3C").replace('>', "%3E");
        let parameters = stele::routes::Parameters::parse(&query).unwrap();
        let filter = stele::query::filter(&parameters, Timestamp::MAX).unwrap();
        let below = TreeSize::new(below);
        let is_wanted = |index: &LeafIndex, record: &Record| {
            below.contains(*index)
                && filter.judge(record, Some(stele::query::State::Archived)).unwrap() == Some(true)
        };
        let indexed: Vec<(LeafIndex, &Record)> =
            all.iter().zip(0..).map(|(record, n)| (first.plus(n).unwrap(), record)).collect();
        let expected = indexed.iter().filter(|(index, record)| is_wanted(index, record));
        let mut ids: Vec<_> = expected.clone().map(|(index, record)| (record.id, *index)).collect();
        ids.sort_unstable();
        let wanted = Wanted {
            filter: &filter,
            range: super::search::ALL,
            order: stele::ports::Order::Descending,
            below,
            most: usize::MAX,
        };
        assert_eq!(searched(&file, &wanted).await, ids, "{query} below {below}");

        let mut values = Vec::new();
        for group in 0..file.groups() {
            let mut visit =
                |time: Timestamp, value: Option<&str>| values.push((time, value.map(str::to_owned)));
            file.values(group, Some(stele::query::Column::ActorId), &wanted, &mut visit).await.unwrap();
        }
        let mut actors: Vec<_> =
            expected.map(|(_, record)| (record.occurred_at, Some(record.actor_id.clone()))).collect();
        actors.sort_unstable();
        values.sort_unstable();
        assert_eq!(values, actors, "{query} below {below}");
    }
}

#[tokio::test]
async fn of_many_records_that_only_leaves_tell_the_nearest_are_kept() {
    let segments = segments(4, 0, &[2_000]);
    let (_, header, bytes) = write(&segments).unwrap();
    let file = open(&header, bytes).await.unwrap();
    let parameters = stele::routes::Parameters::parse("q=metadata.plan:pro").unwrap();
    let filter = stele::query::filter(&parameters, Timestamp::MAX).unwrap();
    let mut ids: Vec<EventId> = segments.records.iter().map(|record| record.id).collect();
    ids.sort_unstable();
    for order in [stele::ports::Order::Ascending, stele::ports::Order::Descending] {
        let wanted =
            Wanted { filter: &filter, range: super::search::ALL, order, below: header.end(), most: 5 };
        let hits = file.search(0, &wanted).await.unwrap();
        let cut = hits.cut.expect("more than are kept");
        let mut found: Vec<EventId> = hits.records.iter().map(|(record, _)| record.id).collect();
        found.sort_unstable();
        let nearer: Vec<EventId> = match order {
            stele::ports::Order::Ascending => ids.iter().copied().filter(|id| *id < cut).collect(),
            stele::ports::Order::Descending => ids.iter().copied().filter(|id| *id > cut).collect(),
        };
        assert!(nearer.len() >= 5);
        found.retain(|id| nearer.contains(id));
        assert_eq!(found, nearer, "nothing before the cut is left out");
    }
}
