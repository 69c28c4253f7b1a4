//! All that touches the world, behind the ports of the pure crate.
//!
//! Each port has an implementation for AWS or the local disk and one in memory, and all pass the suite in
//! [`contract`]. No rule of the domain lives here.

pub mod clock;
pub mod dynamodb;
pub mod parquet;
pub mod folder;
pub mod memory;
pub mod memory_objects;
pub mod faults;
pub mod contract;
pub mod places;
pub mod cache;
pub mod tenants;
pub mod authenticator;
pub mod http;
