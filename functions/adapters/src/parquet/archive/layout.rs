//! Which columns a file of the archive has and how each is stored: encodings, compression, pages, statistics. Every number
//! was measured (ARCHITECTURE.md, "The archive's file"); `cargo bench -p stele-adapters --bench archive` measures it again.

use super::super::{CREATED_BY, TEXTS, TEXTS_FROM, Text, Values, arrow_schema, as_dictionaries, as_views};
use arrow::datatypes::SchemaRef;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use std::sync::LazyLock;

/// The schema as Parquet prints it. Changing it is a decision: old files keep the old one.
pub(super) const SCHEMA: &str = include_str!("../../golden/archive.schema");

/// Of the leaf, which is three quarters of the file: the highest that leaves compaction more than half as fast as a
/// database that does the same.
pub(super) const LEAF_ZSTD_LEVEL: i32 = 10;
/// Of all else.
const ZSTD_LEVEL: i32 = 3;
/// Of ids: a higher one finds repetitions in them that cost more than they save.
const ID_ZSTD_LEVEL: i32 = 1;
/// Bytes of a page of leaves before compression: one is read for one record. Half of it costs 2 % more bytes.
const LEAF_PAGE_BYTES: usize = 448 * 1024;
/// Rows of a page of actors, by which others know which pages of the other columns to read.
const ACTOR_PAGE_ROWS: usize = 2_048;
/// Rows of a page of leaf indexes: one is read for one record.
const LEAF_INDEX_PAGE_ROWS: usize = 4_096;
/// Rows of a page of those other columns that are large. The rest have one page each: where pages lie is told in the end
/// of the file, too, which is read for every record.
const PAGE_ROWS: usize = 8_192;
const PAGED: [&str; 7] = ["id", "occurred_at", "received_at", "action", "resource_id", "resource_name", "ip"];
/// Rows after which the writer looks whether a page is full.
const WRITE_BATCH_ROWS: usize = 128;
/// Of a block's resources, so many per hundred are taken for one that is not there.
const BLOOM_FALSE_POSITIVES: f64 = 0.05;

/// Bytes of leaves held back at the most before they become a row group, whatever their number.
pub(super) const ROW_GROUP_LEAF_BYTES: usize = 32 * 1024 * 1024;

/// The text columns that files of the archive have. Those that differ from event to event are not among them: leaf and
/// column would each hold what can't be compressed.
pub(super) fn texts() -> impl Iterator<Item = &'static Text> {
    TEXTS.iter().filter(|text| text.values == Values::Repeated)
}

pub(super) static ARROW_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| arrow_schema(texts()));

/// The same for whoever looks for some values of a text.
pub(super) static CODED_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| as_dictionaries(&ARROW_SCHEMA));

/// The same for whoever reads all of them.
pub(super) static VIEW_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| as_views(&ARROW_SCHEMA));

/// Positions of the archive's columns in a segment, in order.
pub(super) fn copied() -> impl Iterator<Item = usize> {
    let texts = (TEXTS_FROM..).zip(&TEXTS).filter(|(_, text)| text.values == Values::Repeated);
    (0..TEXTS_FROM).chain(texts.map(|(place, _)| place))
}

/// Position of a text column in the archive.
pub(super) fn place_of(name: &str) -> usize {
    TEXTS_FROM + texts().position(|text| text.name == name).expect("asked for by the name of a column")
}

pub(super) fn properties(leaf_zstd_level: ZstdLevel) -> WriterProperties {
    let column = |name: &str| ColumnPath::from(name);
    let zstd = |level| Compression::ZSTD(ZstdLevel::try_new(level).expect("a level of ZSTD"));
    let mut properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        // What every engine reads; the encodings below are named one by one.
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(zstd(ZSTD_LEVEL))
        .set_column_compression(column("leaf"), Compression::ZSTD(leaf_zstd_level))
        .set_column_compression(column("id"), zstd(ID_ZSTD_LEVEL))
        .set_write_batch_size(WRITE_BATCH_ROWS)
        .set_data_page_row_count_limit(super::BLOCK_LEAVES as usize)
        .set_column_data_page_row_count_limit(column("actor_id"), ACTOR_PAGE_ROWS)
        .set_column_data_page_row_count_limit(column("leaf_index"), LEAF_INDEX_PAGE_ROWS)
        .set_column_data_page_size_limit(column("leaf"), LEAF_PAGE_BYTES)
        // The writer of the archive says where row groups end.
        .set_max_row_group_row_count(None)
        .set_max_row_group_bytes(None)
        // Only where they let a reader skip something: each is 31 times in the footer of a million leaves.
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(column("actor_id"), EnabledStatistics::Page)
        // Resources lie everywhere in a block. One that is not there is told by these, in less than a tenth of the bytes
        // of the dictionaries. They fold to what the block has.
        .set_column_bloom_filter_enabled(column("resource_id"), true)
        .set_column_bloom_filter_max_ndv(column("resource_id"), super::BLOCK_LEAVES)
        .set_column_bloom_filter_fpp(column("resource_id"), BLOOM_FALSE_POSITIVES);
    for name in PAGED {
        properties = properties.set_column_data_page_row_count_limit(column(name), PAGE_ROWS);
    }
    for name in ["leaf_index", "id", "occurred_at", "received_at"] {
        properties = properties.set_column_statistics_enabled(column(name), EnabledStatistics::Chunk);
    }
    for name in ["leaf_index", "occurred_at", "received_at"] {
        properties = properties
            .set_column_dictionary_enabled(column(name), false)
            .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    for name in ["leaf", "id"] {
        properties = properties
            .set_column_dictionary_enabled(column(name), false)
            .set_column_encoding(column(name), Encoding::DELTA_LENGTH_BYTE_ARRAY);
    }
    properties.build()
}
