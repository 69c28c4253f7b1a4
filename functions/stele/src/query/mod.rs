//! What a listing asks for and what its answers need: query parameters, filters, cursors, CSV.
//!
//! Where the records come from is not known here: the query function plans over stores, this module says which
//! records belong, in which order, and how they are written. A filter is one [`Expression`], whether it came as parameters or
//! as `q`; [`Filter`] is what others ask about records, rows and files.

mod expression;
mod print;
mod parse;
mod row;
mod pruning;
mod leaf;
mod plan;
mod filter;
mod sql;
mod cursor;
mod request;
mod counts;
mod merge;
mod polls;
mod explain;
mod csv;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use counts::{FACETS, FacetRequest, StatsRequest, Steps, facet_name};
pub use csv::{CSV_COLUMNS, csv_header, csv_line, csv_row};
pub use cursor::{Cursor, CursorKey, TailCursor};
pub use explain::{ParsedFilter, explain};
pub use expression::{
    Atom, Expression, Field, Interval, Moment, Network, Number, Numbers, Side, State, Test, fold,
};
pub use filter::Filter;
pub use merge::{Merge, ROWS_AT_ONCE, Step, nearest_of};
pub use parse::parse as parse_filter;
pub use polls::{FeedRequest, TailRequest};
pub use pruning::{Bounds, Nulls};
pub use request::{ExportFormat, ExportRequest, ListRequest, Start, filter, tenant_parameter};
pub use row::{Cell, Column, Row};
pub use sql::{Dialect, Parameter, Sql};
