//! A bundle's events as a Parquet file: the exact bytes of each leaf and its audit path, and columns that repeat what the
//! leaf says for people and engines that search. Reading believes none of it: whoever reads holds it against a checkpoint.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Int64Builder, ListBuilder, RecordBatch,
    StringBuilder, TimestampMillisecondBuilder,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::ChunkReader;
use parquet::schema::types::ColumnPath;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use stele::bundle::EVENTS;
use stele::record::{Columns, Record};
use stele::tlog::hash::{Hash, LeafIndex};
use stele::{Code, Error, Result};

/// Rows of a row group: their audit paths then share most hashes within one dictionary.
const GROUP_ROWS: usize = 8_192;
/// Rows turned into columns at once. A leaf has at most 64 KiB.
const BATCH_ROWS: usize = 1_024;
const ZSTD_LEVEL: i32 = 9;
/// Texts of the leaf that are repeated as columns.
const TEXTS: [Text; 8] = [
    ("action", |c| Some(&c.action)),
    ("outcome", |c| Some(&c.outcome)),
    ("actor_type", |c| Some(&c.actor_type)),
    ("actor_id", |c| Some(&c.actor_id)),
    ("actor_name", |c| c.actor_name.as_deref()),
    ("resource_type", |c| c.resource_type.as_deref()),
    ("resource_id", |c| c.resource_id.as_deref()),
    ("resource_name", |c| c.resource_name.as_deref()),
];

type Text = (&'static str, for<'a> fn(&'a Columns<'a>) -> Option<&'a str>);

/// An event of a bundle.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where it is in the log.
    pub index: LeafIndex,
    /// Whether it is one of those that were asked for.
    pub matches: bool,
    /// The leaf, byte for byte.
    pub leaf: Bytes,
    /// The hashes from its sibling up.
    pub path: Vec<Hash>,
}

fn schema() -> SchemaRef {
    let time = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new("leaf_index", DataType::Int64, false),
        Field::new("id", DataType::Utf8, false),
        Field::new("occurred_at", time(), false),
        Field::new("received_at", time(), false),
    ];
    fields.extend(TEXTS.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true)));
    fields.push(Field::new("matches", DataType::Boolean, false));
    fields.push(Field::new("leaf", DataType::Binary, false));
    fields.push(Field::new(
        "proof",
        DataType::List(Arc::new(Field::new("hash", DataType::Binary, false))),
        false,
    ));
    Arc::new(Schema::new(fields))
}

fn properties() -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(failed)?;
    let mut properties = WriterProperties::builder()
        .set_created_by("stele".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(GROUP_ROWS));
    for name in ["leaf", "id", "leaf_index", "occurred_at", "received_at"] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    Ok(properties.build())
}

/// Writes the events of a bundle, in the order of leaves.
pub(super) struct RowWriter<W: Write + Send> {
    parquet: ArrowWriter<W>,
    held: Vec<Row>,
}

impl<W: Write + Send> RowWriter<W> {
    /// Into a file.
    pub(super) fn new(out: W) -> Result<RowWriter<W>> {
        let options = ArrowWriterOptions::new().with_properties(properties()?).with_skip_arrow_metadata(true);
        let parquet = ArrowWriter::try_new_with_options(out, schema(), options).map_err(failed)?;
        Ok(RowWriter { parquet, held: Vec::new() })
    }

    /// Appends an event.
    pub(super) fn push(&mut self, row: Row) -> Result<()> {
        self.held.push(row);
        if self.held.len() == BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if !self.held.is_empty() {
            let batch = batch_of(&self.held)?;
            self.parquet.write(&batch).map_err(failed)?;
            self.held.clear();
        }
        Ok(())
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.parquet.close().map_err(failed)?;
        Ok(())
    }
}

fn batch_of(rows: &[Row]) -> Result<RecordBatch> {
    let mut index = Int64Builder::new();
    let mut id = StringBuilder::new();
    let (mut occurred, mut received) =
        (TimestampMillisecondBuilder::new(), TimestampMillisecondBuilder::new());
    let mut texts: Vec<StringBuilder> = TEXTS.iter().map(|_| StringBuilder::new()).collect();
    let mut matches = BooleanBuilder::new();
    let mut leaf = BinaryBuilder::new();
    let field = Arc::new(Field::new("hash", DataType::Binary, false));
    let mut proof = ListBuilder::new(BinaryBuilder::new()).with_field(field);
    for row in rows {
        let columns = Columns::of(&row.leaf)?;
        index.append_value(row.index.to_u64() as i64);
        id.append_value(columns.id.to_string());
        occurred.append_value(columns.occurred_at.ms() as i64);
        received.append_value(columns.received_at.ms() as i64);
        for (builder, (_, of)) in texts.iter_mut().zip(TEXTS) {
            builder.append_option(of(&columns));
        }
        matches.append_value(row.matches);
        leaf.append_value(&row.leaf);
        row.path.iter().for_each(|hash| proof.values().append_value(hash.as_bytes()));
        proof.append(true);
    }
    let utc = |mut times: TimestampMillisecondBuilder| times.finish().with_timezone("UTC");
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(index.finish()),
        Arc::new(id.finish()),
        Arc::new(utc(occurred)),
        Arc::new(utc(received)),
    ];
    columns.extend(texts.into_iter().map(|mut text| Arc::new(text.finish()) as ArrayRef));
    columns.push(Arc::new(matches.finish()));
    columns.push(Arc::new(leaf.finish()));
    columns.push(Arc::new(proof.finish()));
    RecordBatch::try_new(schema(), columns).map_err(failed)
}

/// Reads the events of a bundle, in the order of the file, and holds every column against its leaf.
///
/// # Errors
/// `corrupt` for a file that is none, or a column that says something else than its leaf.
pub fn read_rows(
    file: impl ChunkReader + 'static,
    visit: &mut dyn FnMut(Row, Record) -> Result<()>,
) -> Result<()> {
    // The library panics on some damaged files.
    let reading = AssertUnwindSafe(|| read_all(file, visit));
    match catch_unwind(reading) {
        Ok(read) => read,
        Err(_) => Err(Error::corrupt(EVENTS, "a Parquet file", "one that can't be read")),
    }
}

fn read_all(
    file: impl ChunkReader + 'static,
    visit: &mut dyn FnMut(Row, Record) -> Result<()>,
) -> Result<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
    let found: Vec<(String, DataType)> = builder
        .schema()
        .fields()
        .iter()
        .map(|field| (field.name().clone(), field.data_type().clone()))
        .collect();
    let expected = schema();
    let names = expected.fields().iter().map(|field| field.name().clone());
    if found.iter().map(|(name, _)| name.clone()).ne(names) {
        return Err(Error::corrupt(EVENTS, "the columns of a bundle", "others"));
    }
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(unreadable)?;
    for batch in reader {
        let batch = batch.map_err(unreadable)?;
        let rows = rows_of(&batch)
            .ok_or_else(|| Error::corrupt(EVENTS, "columns of the types of a bundle", "others"))?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            let at =
                |e: Error| Error::corrupt(format!("{EVENTS}: leaf {}", row.index), "a record", e.detail());
            records.push(Record::from_leaf(row.leaf.clone()).map_err(at)?);
        }
        // Made again from the leaves alone, the columns must be the same.
        let again = batch_of(&rows)?;
        for (name, (found, expected)) in
            expected.fields().iter().zip(batch.columns().iter().zip(again.columns()))
        {
            if found.to_data() != expected.to_data() {
                let at = format!("{EVENTS}: column `{}`", name.name());
                return Err(Error::corrupt(at, "what the leaves say", "something else"));
            }
        }
        for (row, record) in rows.into_iter().zip(records) {
            visit(row, record)?;
        }
    }
    Ok(())
}

fn rows_of(batch: &RecordBatch) -> Option<Vec<Row>> {
    let column = |name: &str| batch.column_by_name(name).filter(|column| column.null_count() == 0);
    let indexes = column("leaf_index")?.as_primitive_opt::<Int64Type>()?;
    column("occurred_at")?.as_primitive_opt::<TimestampMillisecondType>()?;
    let matches = column("matches")?.as_boolean_opt()?;
    let leaves = column("leaf")?.as_binary_opt::<i32>()?;
    let proofs = column("proof")?.as_list_opt::<i32>()?;
    let mut rows = Vec::with_capacity(batch.num_rows());
    for at in 0..batch.num_rows() {
        let path = proofs.value(at);
        let path = path.as_binary_opt::<i32>().filter(|path| path.null_count() == 0)?;
        let path: Option<Vec<Hash>> =
            path.iter().map(|hash| Some(Hash::from_bytes(hash?.try_into().ok()?))).collect();
        rows.push(Row {
            index: LeafIndex::new(u64::try_from(indexes.value(at)).ok()?),
            matches: matches.value(at),
            leaf: Bytes::copy_from_slice(leaves.value(at)),
            path: path?,
        });
    }
    Some(rows)
}

fn failed(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::Internal, "writing the events of a bundle").with_source(e)
}

fn unreadable(e: impl std::error::Error) -> Error {
    Error::corrupt(EVENTS, "a Parquet file", e)
}
