//! Stele's pure library: values in, values out.
//!
//! It decides *what*: which events are accepted and as which bytes, how leaves become a log, what a
//! checkpoint says, which objects exist under which keys. It does no I/O and knows no clock, randomness,
//! environment, cloud or async runtime; `stele-adapters` knows those.
//!
//! The `mod` lines are a table of contents: a module uses only what stands above it.

pub mod limits;
pub mod error;
pub mod time;
pub mod id;
pub mod json;
pub mod canonical;
pub mod tlog;
pub mod receipt;
pub mod record;
pub mod event;
pub mod wire;
pub mod access;
pub mod public_key;
pub mod statement;
pub mod segment;
pub mod retention;
pub mod archive;
pub mod layout;
pub mod own_event;
pub mod errand;
pub mod refusal;
pub mod spill;
pub mod parking;
pub mod lookup;
pub mod export;
pub mod ports;
pub mod problem;
pub mod routes;
pub mod query;
pub mod ocsf;
pub mod bundle;
pub mod openapi;

pub use error::{Code, Error, Kind, Result};
