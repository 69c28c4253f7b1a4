//! All that touches the world, behind the ports of the pure crate.
//!
//! Each port has an implementation for AWS or the local disk and one in memory, and all pass the suite in
//! [`contract`]. No rule of the domain lives here.

mod failure;
pub mod retry;
pub mod clock;
#[cfg(feature = "aws")]
pub mod settings;
#[cfg(feature = "aws")]
pub mod aws;
pub mod dynamodb;
#[cfg(feature = "aws")]
pub mod s3;
#[cfg(feature = "aws")]
pub mod s3_exports;
#[cfg(feature = "aws")]
pub mod sqs;
#[cfg(feature = "aws")]
pub mod secrets;
pub mod parquet;
mod lifecycle;
pub mod folder;
pub mod folder_queue;
pub mod folder_exports;
pub mod memory;
pub mod memory_objects;
pub mod memory_queue;
pub mod memory_exports;
pub mod faults;
pub mod contract;
pub mod stored_tree;
pub mod places;
pub mod sealed;
pub mod cold_search;
pub mod bundle;
pub mod witnesses;
pub mod cache;
pub mod tenants;
pub mod authenticator;
pub mod acceptor;
pub mod http;
#[cfg(feature = "aws")]
pub mod metrics;
#[cfg(feature = "aws")]
pub mod cold_by_function;
#[cfg(feature = "aws")]
pub mod lambda;
