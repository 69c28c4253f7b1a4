//! Files of the archive: the leaves of many segments in one Parquet file, laid out for questions about months and for one
//! record out of a million. The same segments give the same file.
//!
//! A row group holds leaves of one aligned block of 2^15 (one subtree of the log) without a gap. Inside it rows are
//! ordered by actor, so that one actor's rows lie together; `leaf_index` says where each belongs. Of the segments' columns
//! those are left out that differ from event to event: the leaf has them.
//!
//! Retention, locks and what becomes of the file are not decided here.

mod layout;
mod reader;
mod search;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{ArchiveFile, Keep, VerifiedLeaves};
pub use search::{Hits, Wanted};
pub use writer::ArchiveWriter;

/// Leaves of an aligned block; no row group crosses one.
pub const BLOCK_LEAVES: u64 = 1 << 15;
