//! `stele`.
fn main() {}
