//! Segments survive the round trip, and nothing that is not one is taken for one.

use super::*;
use crate::clock::SeededRandom;
use proptest::prelude::*;
use stele::access::LogNumber;
use stele::tlog::hash::{Hash, leaf_hash};
use stele::tlog::tree::RightEdge;

const TENANT: &str = "org_acme";

fn tenant() -> TenantId {
    TenantId::parse(TENANT).unwrap()
}

fn tree(leaves: u64) -> RightEdge {
    let mut edge = RightEdge::empty();
    edge.extend((0..leaves).map(|n| leaf_hash(&n.to_be_bytes())));
    edge
}

fn sample(seed: u64, before: u64, count: u64) -> (SegmentHeader, Vec<Record>) {
    let random = SeededRandom::new(seed);
    let records = sample::records(TENANT, count, &mut || random.next_u64());
    (sample::header(tree(before), &records), records)
}

fn decode(bytes: Bytes) -> Result<Segment> {
    decode_segment(&tenant(), "some/key", bytes)
}

fn is_corrupt(result: Result<Segment>) -> String {
    let error = result.map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Code::Corrupt, "{error}");
    error.detail().to_owned()
}

/// Writes any columns under any metadata, as one who tampers would.
fn forge(header: &SegmentHeader, records: &[Record], change: impl Fn(usize, ArrayRef) -> ArrayRef) -> Bytes {
    let honest = batch(header.first().to_u64().., records).unwrap();
    let columns = honest.columns().iter().cloned().enumerate().map(|(n, column)| change(n, column));
    let forged = RecordBatch::try_new(Arc::clone(&ARROW_SCHEMA), columns.collect()).unwrap();
    let properties = WriterProperties::builder().set_key_value_metadata(Some(header::encode(header)));
    let options = ArrowWriterOptions::new()
        .with_properties(properties.build())
        .with_schema_root("stele".to_owned())
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), forged.schema(), options).unwrap();
    writer.write(&forged).unwrap();
    writer.into_inner().unwrap().into()
}

#[test]
fn the_schema_is_the_golden_one() {
    let (header, records) = sample(1, 0, 3);
    let bytes = encode_segment(&header, &records).unwrap();
    let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).unwrap();
    let file = metadata.metadata().file_metadata();
    assert_eq!(schema_text(file.schema()), SCHEMA);
    assert_eq!(file.created_by(), Some("stele"));
    let names = file.key_value_metadata().unwrap().iter().map(|pair| pair.key.as_str());
    assert!(names.clone().all(|name| name.starts_with("stele.")), "{:?}", names.collect::<Vec<_>>());
}

#[test]
fn every_column_has_page_locations_and_all_but_the_leaf_have_statistics() {
    let (header, records) = sample(1, 0, 100);
    let bytes = encode_segment(&header, &records).unwrap();
    let options =
        ArrowReaderOptions::new().with_page_index_policy(parquet::file::metadata::PageIndexPolicy::Required);
    let metadata = ArrowReaderMetadata::load(&bytes, options).unwrap();
    for (place, column) in metadata.metadata().row_group(0).columns().iter().enumerate() {
        assert!(column.offset_index_range().is_some());
        assert_eq!(column.column_index_range().is_some(), place != LEAF, "{}", column.column_path());
        assert!(column.bloom_filter_offset().is_none());
    }
}

#[test]
fn the_same_segment_has_the_same_bytes() {
    let (header, records) = sample(2, 5, 300);
    assert_eq!(encode_segment(&header, &records).unwrap(), encode_segment(&header, &records).unwrap());
}

#[test]
fn a_header_that_counts_other_leaves_is_not_encoded() {
    let (header, records) = sample(3, 5, 4);
    for wrong in [&records[..3], &[]] {
        assert_eq!(encode_segment(&header, wrong).unwrap_err().code(), Code::Internal);
    }
}

#[test]
fn a_segment_longer_than_a_batch_comes_back_whole() {
    let (header, records) = sample(4, 1_000, BATCH_ROWS as u64 * 2 + 17);
    let bytes = encode_segment(&header, &records).unwrap();
    let segment = decode(bytes.clone()).unwrap();
    assert_eq!((&segment.header, &segment.records), (&header, &records));
    let leaves = decode_leaves("some/key", bytes.clone()).unwrap();
    let expected: Vec<Bytes> = records.iter().map(|r| r.leaf.bytes().clone()).collect();
    assert_eq!(leaves, (header.clone(), expected));
    let ids = decode_ids("some/key", bytes).unwrap();
    assert_eq!(ids, (header, records.iter().map(|r| r.id).collect()));
}

#[test]
fn a_segment_of_somebody_else_or_from_elsewhere_is_corrupt() {
    let (header, records) = sample(5, 7, 3);
    let bytes = encode_segment(&header, &records).unwrap();
    let other = TenantId::parse("org_other").unwrap();
    let detail = is_corrupt(decode_segment(&other, "some/key", bytes.clone()));
    assert!(detail.contains("some/key: leaf 7: expected tenant_id `org_other`"), "{detail}");
    let at = |tenant: TenantId, log: u32, first: u64| {
        let first = LeafIndex::new(first);
        Object::Segment { tenant, log: LogNumber(log), first }.key().to_string()
    };
    assert!(decode_segment(&tenant(), &at(tenant(), 0, 7), bytes.clone()).is_ok());
    for elsewhere in [at(tenant(), 0, 8), at(tenant(), 1, 7), at(other, 0, 7)] {
        is_corrupt(decode_segment(&tenant(), &elsewhere, bytes.clone()));
    }
}

#[test]
fn a_column_that_differs_from_its_leaf_is_corrupt_and_named() {
    let (header, records) = sample(6, 40, 9);
    let honest = forge(&header, &records, |_, column| column);
    assert_eq!(decode(honest).unwrap().records, records, "other encodings of the same columns are fine");
    let names: Vec<String> = ARROW_SCHEMA.fields().iter().map(|field| field.name().clone()).collect();
    for (place, name) in names.iter().enumerate().skip(1) {
        let forged = forge(&header, &records, |n, column| {
            if n != place {
                return column;
            }
            match column.data_type() {
                DataType::Utf8 => {
                    let texts = column.as_any().downcast_ref::<StringArray>().unwrap();
                    let changed =
                        texts.iter().enumerate().map(|(row, text)| if row == 8 { Some("x") } else { text });
                    Arc::new(changed.collect::<StringArray>())
                }
                DataType::Int64 => {
                    let numbers = column.as_any().downcast_ref::<Int64Array>().unwrap();
                    let changed = numbers.values().iter().enumerate().map(|(row, n)| n + i64::from(row == 8));
                    Arc::new(Int64Array::from_iter_values(changed))
                }
                _ => {
                    let times = column.as_any().downcast_ref::<TimestampMillisecondArray>().unwrap();
                    let changed = times.values().iter().enumerate().map(|(row, n)| n - i64::from(row == 8));
                    Arc::new(TimestampMillisecondArray::from_iter_values(changed).with_timezone("UTC"))
                }
            }
        });
        let detail = is_corrupt(decode(forged));
        assert!(detail.starts_with(&format!("some/key: leaf 48: expected {name} `")), "{detail}");
    }
}

#[test]
fn a_null_is_not_an_empty_text() {
    let (header, records) = sample(7, 0, 4);
    let forged = forge(&header, &records, |n, column| match column.as_any().downcast_ref::<StringArray>() {
        Some(texts) if n > ID => {
            Arc::new(texts.iter().map(|t| Some(t.unwrap_or(""))).collect::<StringArray>())
        }
        _ => column,
    });
    assert!(is_corrupt(decode(forged)).contains("(null)"));
}

#[test]
fn another_leaf_of_the_tenant_in_its_place_is_corrupt() {
    let (header, records) = sample(8, 3, 5);
    for (a, b) in [(0, 1), (0, 4)] {
        let mut swapped = records.clone();
        swapped.swap(a, b);
        let detail = is_corrupt(decode(encode_segment(&header, &swapped).unwrap()));
        assert!(detail.contains("root"), "{detail}");
    }
    let (_, others) = sample(9, 3, 5);
    is_corrupt(decode(encode_segment(&header, &others).unwrap()));
}

#[test]
fn a_leaf_that_is_no_record_is_corrupt_and_named() {
    let (header, records) = sample(10, 0, 3);
    let forged = forge(&header, &records, |n, column| {
        if n == LEAF { Arc::new(BinaryArray::from_vec(vec![b"{}", b"", b"\xff"])) } else { column }
    });
    assert!(is_corrupt(decode(forged)).starts_with("some/key: leaf 0: expected a record"));
}

#[test]
fn another_schema_is_corrupt() {
    let schema = Arc::new(Schema::new(vec![Field::new("leaf", DataType::Binary, false)]));
    let column: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"{}"]));
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, vec![column]).unwrap()).unwrap();
    let detail = is_corrupt(decode(writer.into_inner().unwrap().into()));
    assert!(detail.contains("the schema of our files"), "{detail}");
}

#[test]
fn a_header_is_read_back_only_as_it_was_spelled() {
    let (header, _) = sample(11, 6, 5);
    let pairs = header::encode(&header);
    assert_eq!(header::decode("k", Some(&pairs)).unwrap(), header);
    for place in 0..pairs.len() {
        let mut changed = pairs.clone();
        changed[place].value = changed[place].value.take().map(|value| format!("{value} "));
        assert!(header::decode("k", Some(&changed)).is_err(), "{}", pairs[place].key);
        let mut missing = pairs.clone();
        missing.remove(place);
        assert!(header::decode("k", Some(&missing)).is_err());
        let mut twice = pairs.clone();
        twice.insert(place, pairs[place].clone());
        assert!(header::decode("k", Some(&twice)).is_err());
    }
    assert!(header::decode("k", None).is_err());
}

/// What a broken file may do: be found out, or make no difference.
fn check_broken(header: &SegmentHeader, records: &[Record], bytes: Vec<u8>) {
    let bytes = Bytes::from(bytes);
    match decode(bytes.clone()) {
        Ok(segment) => assert_eq!((&segment.header, &segment.records[..]), (header, records)),
        Err(error) => assert_eq!(error.code(), Code::Corrupt, "{error}"),
    }
    let _ = decode_leaves("some/key", bytes.clone());
    let _ = decode_ids("some/key", bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn segments_come_back_as_they_were(seed: u64, before in 0..2_000_u64, count in 1..200_u64) {
        let (header, records) = sample(seed, before, count);
        let segment = decode(encode_segment(&header, &records).unwrap()).unwrap();
        prop_assert_eq!(segment.header, header);
        prop_assert_eq!(segment.records, records);
    }

    #[test]
    fn any_bytes_are_a_segment_or_corrupt(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut framed = b"PAR1".to_vec();
        framed.extend(&bytes);
        framed.extend((bytes.len() as u32).to_le_bytes());
        framed.extend(b"PAR1");
        for bytes in [bytes, framed] {
            prop_assert_eq!(decode(bytes.into()).unwrap_err().code(), Code::Corrupt);
        }
    }
}

#[test]
fn a_changed_byte_is_found_or_makes_no_difference() {
    let (header, records) = sample(12, 3, 5);
    let bytes = encode_segment(&header, &records).unwrap().to_vec();
    let random = SeededRandom::new(99);
    for at in 0..bytes.len() {
        // All bits, and a value of its own for each byte.
        for flip in [0xff, (random.next_u64() % 255 + 1) as u8] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            check_broken(&header, &records, changed);
        }
    }
}

#[test]
fn a_cut_or_patched_file_is_found_or_makes_no_difference() {
    let (header, records) = sample(13, 0, 8);
    let bytes = encode_segment(&header, &records).unwrap().to_vec();
    let random = SeededRandom::new(7);
    for end in 0..bytes.len() {
        is_corrupt(decode(bytes[..end].to_vec().into()));
    }
    for _ in 0..3_000 {
        let mut changed = bytes.clone();
        let below = |bound: usize| (random.next_u64() % bound as u64) as usize;
        let (from, to) = (below(bytes.len()), below(bytes.len()));
        let length = below(24).min(bytes.len() - from.max(to));
        match below(3) {
            0 => changed.copy_within(from..from + length, to),
            1 => drop(changed.drain(from..from + length)),
            _ => changed[from..from + length].fill(random.next_u64() as u8),
        }
        check_broken(&header, &records, changed);
    }
}

#[test]
fn a_file_hash_is_of_the_file_and_a_root_of_the_leaves() {
    let (header, records) = sample(14, 0, 2);
    let bytes = encode_segment(&header, &records).unwrap();
    let entry = decode(bytes.clone()).unwrap().entry("1".to_owned(), Hash::of(&bytes)).unwrap();
    assert_eq!((entry.first, entry.end), (header.first(), header.end()));
    let both = stele::tlog::hash::node_hash(&leaf_hash(records[0].leaf.as_bytes()), &records[1].leaf_hash);
    assert_eq!(header.after.root(), both);
}
