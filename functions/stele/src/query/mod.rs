//! What a listing asks for and what its answers need: query parameters, filters, cursors, CSV.
//!
//! Where the records come from is not known here: the query function plans over stores, this module says which
//! records belong, in which order, and how they are written.

mod cursor;
mod filter;
mod request;
mod csv;
mod counts;
mod merge;

pub use counts::{FacetRequest, Interval, StatsRequest};
pub use csv::{CSV_COLUMNS, csv_header, csv_row};
pub use cursor::{Cursor, CursorKey};
pub use filter::{Column, Filter, Row};
pub use merge::{Merge, Step, nearest_of};
pub use request::{ExportFormat, ExportRequest, ListRequest, Start, tenant_parameter};
