//! Selected records as a Parquet file with the columns of a segment: for exports. It has no header, and proves nothing.

use super::{ARROW_SCHEMA, BATCH_ROWS, PROPERTIES, batch};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use std::io::Write;
use std::sync::Arc;
use stele::record::Record;
use stele::tlog::hash::LeafIndex;
use stele::{Code, Error, Result};

/// Rows of a row group: memory holds one, compressed.
const GROUP_ROWS: usize = 1 << 15;

/// A file under way.
pub struct RowsWriter<W: Write + Send> {
    parquet: ArrowWriter<W>,
    indexes: Vec<u64>,
    held: Vec<Record>,
}

fn failed(e: parquet::errors::ParquetError) -> Error {
    Error::new(Code::Internal, "write rows as Parquet").with_source(e)
}

impl<W: Write + Send> RowsWriter<W> {
    /// Into a file.
    pub fn new(out: W) -> Result<RowsWriter<W>> {
        let properties = PROPERTIES.clone().into_builder().set_max_row_group_row_count(Some(GROUP_ROWS));
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_schema_root("stele".to_owned())
            .with_skip_arrow_metadata(true);
        let parquet =
            ArrowWriter::try_new_with_options(out, Arc::clone(&ARROW_SCHEMA), options).map_err(failed)?;
        Ok(RowsWriter { parquet, indexes: Vec::new(), held: Vec::new() })
    }

    /// Appends a record.
    pub fn push(&mut self, index: LeafIndex, record: Record) -> Result<()> {
        self.indexes.push(index.to_u64());
        self.held.push(record);
        if self.held.len() == BATCH_ROWS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let batch = batch(self.indexes.drain(..), &self.held)?;
        self.held.clear();
        self.parquet.write(&batch).map_err(failed)
    }

    /// Ends the file, which may have no rows, and gives back what it was written to.
    pub fn finish(mut self) -> Result<W> {
        if !self.held.is_empty() {
            self.write()?;
        }
        self.parquet.into_inner().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parquet::sample::records;
    use crate::parquet::{SCHEMA, check_schema, column, leaves_of};
    use arrow::array::{BinaryArray, Int64Array};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn written(records: &[(u64, Record)]) -> Bytes {
        let mut writer = RowsWriter::new(Vec::new()).unwrap();
        for (index, record) in records {
            writer.push(LeafIndex::new(*index), record.clone()).unwrap();
        }
        writer.finish().unwrap().into()
    }

    #[test]
    fn selected_records_have_the_columns_of_a_segment_and_their_own_places() {
        let mut seed = 7_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed >> 11
        };
        let all = records("acme", 2_500, &mut random);
        let selected: Vec<(u64, Record)> = (0..).zip(all).filter(|(index, _)| index % 2 == 1).collect();
        let bytes = written(&selected);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        check_schema("rows", SCHEMA, reader.metadata().file_metadata().schema()).unwrap();
        let mut read: Vec<(u64, Bytes)> = Vec::new();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let leaves: &BinaryArray = column("rows", &batch, 0).unwrap();
            let indexes: &Int64Array = column("rows", &batch, 1).unwrap();
            read.extend(indexes.values().iter().map(|index| *index as u64).zip(leaves_of(leaves)));
        }
        let expected: Vec<(u64, Bytes)> =
            selected.iter().map(|(index, record)| (*index, record.leaf.bytes().clone())).collect();
        assert_eq!(read, expected);
        assert!(written(&[]).starts_with(b"PAR1"), "without rows it is a file too");
    }
}
