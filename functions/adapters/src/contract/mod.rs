//! What every store must do, as suites that all implementations of a port pass: in memory, on the local disk, on
//! DynamoDB. A suite panics where a store breaks its contract; it uses names of its own, so a store may be shared.

pub mod sample;
pub mod hot;
pub mod tenants;
pub mod api_keys;
pub mod heads;
pub mod archive_index;
pub mod policies;
pub mod watermarks;
pub mod objects;
pub mod archive_objects;
pub mod queues;
pub mod refusals;
pub mod exports;
pub mod export_files;
