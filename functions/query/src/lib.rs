//! The query function.
