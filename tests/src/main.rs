//! One binary with all integration tests: they drive the real handlers and end by re-deriving everything from
//! stored bytes.

#![allow(missing_docs)]
// In a test a panic is the answer.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod tidy;
mod vectors_merkle;
mod paced;
mod world;
mod simulate;
mod faults;
mod archiving;
mod years;
mod polls;
mod proofs;
mod bundles;
mod exports;
mod ocsf;
mod strangers;
mod spill;
mod parking;
mod races;
mod tamper;
mod archived;
mod search;
mod rebuild;
mod vectors_jcs;
mod vectors_json;
mod fuzz;
mod http;
mod invalid;
mod api;
mod python_client;
mod json_suite;

mod aws;
mod readers;
mod filters;
mod process;
mod witness;
mod kill;
mod lost;
mod cli;

use std::path::PathBuf;

/// The data for tests that lies beside the project; `None` where it is absent.
pub fn shared_data() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    folder.is_dir().then_some(folder)
}
