//! Segments as Parquet files: the exact bytes of each leaf, and typed columns beside them for engines that
//! search. The same input gives the same file. The archive's files, with the same columns, are in [`archive`].
//!
//! The columns are an index derived from the leaves. Reading holds every one of them against its leaf, the
//! leaves against the tree in the header, and believes nothing else; whether the header is the log's is for
//! checkpoints and manifests to say. `tenant_id` is in the leaf and in the path only, and leaf hashes follow
//! from the leaves.
//!
//! Parquet's page checksums are not written: the library can't, and the hashes above cover more.

mod header;
pub mod rows;
pub mod archive;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BinaryViewArray, Int64Array, RecordBatch, StringArray,
    StringBuilder, StringViewArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::printer::print_schema;
use parquet::schema::types::ColumnPath;
use std::iter::repeat;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use stele::id::{EventId, TenantId};
use stele::layout::{Object, ObjectKey};
use stele::record::{Columns, Leaf, Record};
use stele::segment::{Segment, SegmentHeader};
use stele::time::Timestamp;
use stele::tlog::hash::LeafIndex;
use stele::{Code, Error, Result};

/// The schema as Parquet prints it. Changing it is a decision: old files keep the old one.
const SCHEMA: &str = include_str!("../golden/segment.schema");
/// What the file says wrote it: fixed, so that a new release does not change a segment's bytes.
const CREATED_BY: &str = "stele";
const ZSTD_LEVEL: i32 = 3;
/// Rows that are turned into columns at once. A leaf has at most 64 KiB, so that no array nears 2 GiB.
const BATCH_ROWS: usize = 1024;

/// Positions of the columns that are no texts of the event; those follow in the order of [`TEXTS`].
const LEAF: usize = 0;
const LEAF_INDEX: usize = 1;
const ID: usize = 2;
const OCCURRED_AT: usize = 3;
const RECEIVED_AT: usize = 4;
const TEXTS_FROM: usize = 5;

/// How a text column is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    /// Few different ones.
    Repeated,
    /// One for some events in a row. Not in the archive.
    Session,
    /// Mostly different ones. Not in the archive.
    Unique,
}

/// A column that is a text of the leaf.
struct Text {
    name: &'static str,
    values: Values,
    nullable: bool,
    of: for<'a> fn(&'a Columns<'a>) -> Option<&'a str>,
}

/// A text that every event has.
macro_rules! required {
    ($name:ident, $values:ident) => {
        Text { name: stringify!($name), values: Values::$values, nullable: false, of: |c| Some(&c.$name) }
    };
}

/// A text that an event may lack, or that may be encrypted and then is null.
macro_rules! nullable {
    ($name:ident, $values:ident) => {
        Text { name: stringify!($name), values: Values::$values, nullable: true, of: |c| c.$name.as_deref() }
    };
}

/// The text columns, in order.
static TEXTS: [Text; 18] = [
    required!(action, Repeated),
    required!(outcome, Repeated),
    nullable!(reason, Repeated),
    required!(actor_type, Repeated),
    Text { name: "actor_id", values: Values::Repeated, nullable: true, of: |c| Some(&c.actor_id) },
    nullable!(actor_name, Repeated),
    nullable!(actor_email, Repeated),
    nullable!(resource_type, Repeated),
    nullable!(resource_id, Repeated),
    nullable!(resource_name, Repeated),
    nullable!(ip, Repeated),
    nullable!(user_agent, Repeated),
    nullable!(session_id, Session),
    nullable!(request_id, Unique),
    nullable!(trace_id, Unique),
    nullable!(external_id, Unique),
    required!(key_id, Repeated),
    nullable!(description, Unique),
];

/// Below so many bytes of leaves only those are compressed: each compressed column costs a ZSTD context, which a
/// few values never pay back.
const COMPRESSED_THROUGHOUT_BYTES: usize = 32 * 1024;

static ARROW_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| arrow_schema(TEXTS.iter()));

/// The columns of a file with some of the texts.
fn arrow_schema(texts: impl Iterator<Item = &'static Text>) -> SchemaRef {
    let time = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new("leaf", DataType::Binary, false),
        Field::new("leaf_index", DataType::Int64, false),
        Field::new("id", DataType::Utf8, false),
        Field::new("occurred_at", time(), false),
        Field::new("received_at", time(), false),
    ];
    fields.extend(texts.map(|text| Field::new(text.name, DataType::Utf8, text.nullable)));
    Arc::new(Schema::new(fields))
}

/// How the columns of a schema are read where all of them are: texts as views into what was decompressed, so that nothing is
/// copied, least of all the leaves.
fn as_views(schema: &Schema) -> SchemaRef {
    let view = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            DataType::Binary => DataType::BinaryView,
            other => other.clone(),
        };
        field.as_ref().clone().with_data_type(data_type)
    };
    Arc::new(Schema::new(schema.fields().iter().map(view).collect::<Vec<_>>()))
}

/// How the columns of a schema are read where few values come again and again: texts as places in a dictionary.
fn as_dictionaries(schema: &Schema) -> SchemaRef {
    let coded = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::Utf8 => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            other => other.clone(),
        };
        field.as_ref().clone().with_data_type(data_type)
    };
    Arc::new(Schema::new(schema.fields().iter().map(coded).collect::<Vec<_>>()))
}

static VIEW_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| as_views(&ARROW_SCHEMA));

static PROPERTIES: LazyLock<WriterProperties> = LazyLock::new(|| {
    let column = |name: &str| ColumnPath::from(name);
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("3 is a level of ZSTD");
    let mut properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        // What every engine reads; the encodings below are named one by one.
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        // One row group: a segment is read whole, or pruned by its pages.
        .set_max_row_group_row_count(None)
        .set_max_row_group_bytes(None)
        // The least and greatest leaf say nothing.
        .set_column_statistics_enabled(column("leaf"), EnabledStatistics::None);
    for name in ["leaf", "id"] {
        properties = properties
            .set_column_dictionary_enabled(column(name), false)
            .set_column_encoding(column(name), Encoding::PLAIN);
    }
    for name in ["leaf_index", "occurred_at", "received_at"] {
        properties = properties
            .set_column_dictionary_enabled(column(name), false)
            .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    for text in TEXTS.iter().filter(|text| text.values == Values::Unique) {
        properties = properties
            .set_column_dictionary_enabled(column(text.name), false)
            .set_column_encoding(column(text.name), Encoding::PLAIN);
    }
    properties.build()
});

/// Encodes a segment. The records must be those the header counts, in leaf order; nothing else of the header is
/// checked here.
pub fn encode_segment(header: &SegmentHeader, records: &[Record]) -> Result<Bytes> {
    let first = header.first();
    if records.is_empty() || first.leaves_until(header.end()) != Some(records.len() as u64) {
        let detail =
            format!("encode a segment: leaves {first} to {} are not {} records", header.end(), records.len());
        return Err(Error::new(Code::Internal, detail));
    }
    let failed = |e| Error::new(Code::Internal, "encode a segment").with_source(e);
    let mut properties = PROPERTIES.clone().into_builder();
    if records.iter().map(|r| r.leaf.as_bytes().len()).sum::<usize>() < COMPRESSED_THROUGHOUT_BYTES {
        properties = properties.set_compression(Compression::UNCOMPRESSED).set_column_compression(
            ColumnPath::from("leaf"),
            PROPERTIES.compression(&ColumnPath::from("leaf")),
        );
    }
    let options = ArrowWriterOptions::new()
        .with_properties(properties.set_key_value_metadata(Some(header::encode(header))).build())
        .with_schema_root("stele".to_owned())
        .with_skip_arrow_metadata(true);
    let mut writer =
        ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&ARROW_SCHEMA), options).map_err(failed)?;
    for (records, number) in records.chunks(BATCH_ROWS).zip(0..) {
        let first = first.to_u64() + number * BATCH_ROWS as u64;
        writer.write(&batch(first.., records)?).map_err(failed)?;
    }
    writer.into_inner().map(Bytes::from).map_err(failed)
}

/// Records as columns, with their leaf indexes.
fn batch(indexes: impl IntoIterator<Item = u64>, records: &[Record]) -> Result<RecordBatch> {
    let leaf_bytes = records.iter().map(|record| record.leaf.as_bytes().len()).sum();
    let mut leaves = BinaryBuilder::with_capacity(records.len(), leaf_bytes);
    let mut ids = StringBuilder::with_capacity(records.len(), records.len() * 36);
    let mut texts: Vec<StringBuilder> = TEXTS.iter().map(|_| StringBuilder::new()).collect();
    for record in records {
        leaves.append_value(record.leaf.as_bytes());
        let id = record.id.to_bytes();
        ids.append_value(std::str::from_utf8(&id).expect("hexadecimal digits are ASCII"));
        let columns = Columns::of(&record.leaf)?;
        for (text, builder) in TEXTS.iter().zip(&mut texts) {
            builder.append_option((text.of)(&columns));
        }
    }
    // No leaf index and no time is beyond 2^63.
    let indexes =
        Int64Array::from_iter_values(indexes.into_iter().take(records.len()).map(|index| index as i64));
    let times = |of: fn(&Record) -> Timestamp| {
        let times = records.iter().map(|record| of(record).ms() as i64);
        TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC")
    };
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(leaves.finish()),
        Arc::new(indexes),
        Arc::new(ids.finish()),
        Arc::new(times(|record| record.occurred_at)),
        Arc::new(times(|record| record.received_at)),
    ];
    arrays.extend(texts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
    RecordBatch::try_new(Arc::clone(&ARROW_SCHEMA), arrays)
        .map_err(|e| Error::new(Code::Internal, "encode a segment").with_source(e))
}

/// Decodes a segment and checks all that it says: the schema, the header, each leaf, each column of it, and the
/// tree they grow. Whatever differs is [`Code::Corrupt`] and names the place, which is `key`.
pub fn decode_segment(tenant: &TenantId, key: &str, bytes: Bytes) -> Result<Segment> {
    contained(key, || {
        let file = SegmentFile::open(key, bytes)?;
        file.is_at_home(tenant)?;
        let mut records = Vec::new();
        file.rows(None, |batch| {
            let columns = StoredColumns::of(key, TEXTS.iter(), batch)?;
            for row in 0..batch.num_rows() {
                let index = file.header.first().plus(records.len() as u64);
                let index = index.ok_or_else(|| Error::corrupt(key, "a leaf index", "one beyond 2^64"))?;
                records.push(columns.record(tenant, key, index, row)?);
            }
            Ok(())
        })?;
        let segment = Segment { header: file.header, records };
        segment.check(key)?;
        Ok(segment)
    })
}

/// Reads the header and the leaves alone. Their number and the schema are checked; the leaves themselves and
/// the tree are the caller's to check.
pub fn decode_leaves(key: &str, bytes: Bytes) -> Result<(SegmentHeader, Vec<Bytes>)> {
    contained(key, || {
        let file = SegmentFile::open(key, bytes)?;
        let mut leaves = Vec::new();
        file.rows(Some(file.only(LEAF)), |batch| {
            leaves.extend(leaves_of(column(key, batch, 0)?));
            Ok(())
        })?;
        Ok((file.header, leaves))
    })
}

/// The values of a leaf column, which share its memory.
fn leaves_of(column: &BinaryArray) -> impl Iterator<Item = Bytes> {
    let values = Bytes::from_owner(column.values().clone());
    column.value_offsets().windows(2).map(move |pair| values.slice(pair[0] as usize..pair[1] as usize))
}

/// Reads the header and the ids alone, in leaf order: enough to tell what is sealed. They are not held against
/// their leaves.
pub fn decode_ids(key: &str, bytes: Bytes) -> Result<(SegmentHeader, Vec<EventId>)> {
    contained(key, || {
        let file = SegmentFile::open(key, bytes)?;
        let mut ids = Vec::new();
        file.rows(Some(file.only(ID)), |batch| {
            for id in column::<StringArray>(key, batch, 0)?.iter().map(Option::unwrap_or_default) {
                ids.push(id_of(key, id)?);
            }
            Ok(())
        })?;
        Ok((file.header, ids))
    })
}

fn id_of(key: &str, text: &str) -> Result<EventId> {
    EventId::parse(text).ok_or_else(|| Error::corrupt(key, "an id", format!("`{text}`")))
}

/// Runs a decoder. The Parquet library answers most broken files with an error and some with a panic; a broken
/// file is not a fault of ours, and its reader must live to say so.
fn contained<T>(key: &str, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(done) => done,
        Err(_) => Err(Error::corrupt(key, "a Parquet file", "one that stops its reader")),
    }
}

fn unreadable(key: &str, e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::corrupt(key, "a Parquet file", format!("one that can't be read: {e}")).with_source(e)
}

/// A segment's file whose footer has been read and found to be ours.
struct SegmentFile<'a> {
    key: &'a str,
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
    header: SegmentHeader,
    leaves: usize,
}

impl<'a> SegmentFile<'a> {
    fn open(key: &'a str, bytes: Bytes) -> Result<SegmentFile<'a>> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load(&bytes, options).map_err(|e| unreadable(key, e))?;
        let parquet = metadata.metadata();
        let file = parquet.file_metadata();
        check_schema(key, SCHEMA, file.schema())?;
        let header = header::decode(key, file.key_value_metadata())?;
        let leaves = header.first().leaves_until(header.end()).unwrap_or_default();
        let rows: Vec<i64> = parquet.row_groups().iter().map(|group| group.num_rows()).collect();
        match (&rows[..], usize::try_from(leaves)) {
            ([rows], Ok(leaves)) if *rows == leaves as i64 && file.num_rows() == *rows => {
                Ok(SegmentFile { key, bytes, metadata, header, leaves })
            }
            _ => Err(Error::corrupt(key, format!("one row group of {leaves} rows"), format!("{rows:?}"))),
        }
    }

    /// Checks that a key which is a segment's is this segment's.
    fn is_at_home(&self, tenant: &TenantId) -> Result<()> {
        let here =
            Object::Segment { tenant: tenant.clone(), log: self.header.log, first: self.header.first() };
        match ObjectKey::parse(self.key) {
            Some(named) if named != here => {
                Err(Error::corrupt(self.key, "the segment its key names", format!("`{}`", here.key())))
            }
            _ => Ok(()),
        }
    }

    fn only(&self, column: usize) -> ProjectionMask {
        ProjectionMask::leaves(self.metadata.parquet_schema(), [column])
    }

    /// Reads all rows, of some columns or, with texts as views, of all; checks that they are as many as the header says.
    fn rows(
        &self,
        columns: Option<ProjectionMask>,
        mut visit: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let (metadata, columns) = match columns {
            Some(columns) => (self.metadata.clone(), columns),
            None => {
                let options = ArrowReaderOptions::new().with_schema(Arc::clone(&VIEW_SCHEMA));
                let metadata = ArrowReaderMetadata::try_new(Arc::clone(self.metadata.metadata()), options);
                (metadata.map_err(|e| unreadable(self.key, e))?, ProjectionMask::all())
            }
        };
        let reader: ParquetRecordBatchReader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), metadata)
                .with_projection(columns)
                .with_batch_size(BATCH_ROWS)
                .build()
                .map_err(|e| unreadable(self.key, e))?;
        let mut rows = 0;
        for batch in reader {
            let batch = batch.map_err(|e| unreadable(self.key, e))?;
            rows += batch.num_rows();
            visit(&batch)?;
        }
        if rows == self.leaves {
            Ok(())
        } else {
            Err(Error::corrupt(self.key, format!("{} rows", self.leaves), rows))
        }
    }
}

/// A schema as text, the form in which it is compared.
fn schema_text(schema: &parquet::schema::types::Type) -> String {
    let mut text = Vec::new();
    print_schema(&mut text, schema);
    String::from_utf8_lossy(&text).into_owned()
}

/// Checks that a file has the columns it must have.
fn check_schema(key: &str, expected: &str, schema: &parquet::schema::types::Type) -> Result<()> {
    let schema = schema_text(schema);
    if schema == expected {
        return Ok(());
    }
    let lines = expected.lines().map(Some).chain(repeat(None)).zip(schema.lines());
    let other = lines.into_iter().find(|(ours, found)| *ours != Some(*found));
    let other = other.map_or("fewer columns", |(_, found)| found.trim());
    Err(Error::corrupt(key, "the schema of our files", format!("`{other}`")))
}

fn column<'a, T: 'static>(key: &str, batch: &'a RecordBatch, place: usize) -> Result<&'a T> {
    let column = batch.columns().get(place).and_then(|column| column.as_any().downcast_ref());
    column.ok_or_else(|| Error::corrupt(key, format!("column {place} of its type"), "another"))
}

/// All columns of some rows, of a segment or of a file of the archive, as views.
struct StoredColumns<'a> {
    leaf: &'a BinaryViewArray,
    leaf_index: &'a Int64Array,
    id: &'a StringViewArray,
    occurred_at: &'a TimestampMillisecondArray,
    received_at: &'a TimestampMillisecondArray,
    texts: Vec<(&'static Text, &'a StringViewArray)>,
}

impl<'a> StoredColumns<'a> {
    fn of(
        key: &str,
        texts: impl Iterator<Item = &'static Text>,
        batch: &'a RecordBatch,
    ) -> Result<StoredColumns<'a>> {
        let texts = (TEXTS_FROM..).zip(texts).map(|(place, text)| Ok((text, column(key, batch, place)?)));
        Ok(StoredColumns {
            leaf: column(key, batch, LEAF)?,
            leaf_index: column(key, batch, LEAF_INDEX)?,
            id: column(key, batch, ID)?,
            occurred_at: column(key, batch, OCCURRED_AT)?,
            received_at: column(key, batch, RECEIVED_AT)?,
            texts: texts.collect::<Result<_>>()?,
        })
    }

    /// The leaf of a row, which must be the tenant's, at that index, and what each column says.
    fn checked(
        &self,
        tenant: &TenantId,
        key: &str,
        index: LeafIndex,
        row: usize,
    ) -> Result<(&'a [u8], Columns<'a>)> {
        let leaf = self.leaf.value(row);
        let columns = Columns::checked(leaf).map_err(|e| no_record(key, index, e))?;
        self.hold(&columns, tenant, index, row).map_err(|(column, expected, found)| {
            let expected = format!("{column} `{expected}`");
            Error::corrupt(format_args!("{key}: leaf {index}"), expected, format!("`{found}`"))
        })?;
        Ok((leaf, columns))
    }

    /// The same as a record, with a leaf that shares no memory with the page it was read from.
    fn record(&self, tenant: &TenantId, key: &str, index: LeafIndex, row: usize) -> Result<Record> {
        let (leaf, columns) = self.checked(tenant, key, index, row)?;
        record_of(key, index, leaf, columns)
    }

    /// Holds the columns of a row against those of its leaf: which differs, what the leaf says and what it says.
    #[inline]
    fn hold(
        &self,
        columns: &Columns<'_>,
        tenant: &TenantId,
        index: LeafIndex,
        row: usize,
    ) -> std::result::Result<(), (&'static str, String, String)> {
        if columns.tenant_id != tenant.as_str() {
            return Err(("tenant_id", tenant.to_string(), columns.tenant_id.to_string()));
        }
        let numbers = [
            ("leaf_index", index.to_u64(), self.leaf_index.value(row)),
            ("occurred_at", columns.occurred_at.ms(), self.occurred_at.value(row)),
            ("received_at", columns.received_at.ms(), self.received_at.value(row)),
        ];
        for (column, expected, found) in numbers {
            if u64::try_from(found) != Ok(expected) {
                return Err((column, expected.to_string(), found.to_string()));
            }
        }
        if EventId::from_canonical(self.id.value(row)) != Some(columns.id) {
            return Err(("id", columns.id.to_string(), self.id.value(row).to_owned()));
        }
        for (text, stored) in &self.texts {
            let expected = (text.of)(columns);
            let found = stored.is_valid(row).then(|| stored.value(row));
            if expected != found {
                let shown = |value: Option<&str>| value.unwrap_or("(null)").to_owned();
                return Err((text.name, shown(expected), shown(found)));
            }
        }
        Ok(())
    }
}

/// The record of a leaf that was checked.
fn record_of(key: &str, index: LeafIndex, leaf: &[u8], columns: Columns<'_>) -> Result<Record> {
    Record::of(Leaf::new(Bytes::copy_from_slice(leaf)), columns).map_err(|e| no_record(key, index, e))
}

fn no_record(key: &str, index: LeafIndex, e: Error) -> Error {
    Error::corrupt(format_args!("{key}: leaf {index}"), "a record", e.detail()).with_source(e)
}
