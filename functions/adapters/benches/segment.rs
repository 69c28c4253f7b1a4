//! What a segment costs: bytes per event in the file, beside the leaves alone, and events per CPU second of
//! encoding and decoding. `cargo bench -p stele-adapters --bench segment`
#![allow(clippy::print_stdout, reason = "it prints figures")]

#[path = "../src/parquet/sample.rs"]
mod sample;

use std::time::Instant;
use stele::id::TenantId;
use stele::tlog::tree::RightEdge;
use stele_adapters::clock::SeededRandom;
use stele_adapters::parquet::{decode_ids, decode_leaves, decode_segment, encode_segment};

const TENANT: &str = "org_acme";

fn main() -> stele::Result<()> {
    let tenant = TenantId::parse(TENANT).expect("a tenant's name");
    println!(
        "{:>7} {:>9} {:>9} {:>10} {:>10} {:>10} {:>10}",
        "events", "leaf B", "file B", "encode/s", "decode/s", "leaves/s", "ids/s"
    );
    for count in [100, 1_000, 10_000] {
        let random = SeededRandom::new(1);
        let records = sample::records(TENANT, count, &mut || random.next_u64());
        let header = sample::header(RightEdge::empty(), &records);
        let file = encode_segment(&header, &records)?;
        let leaves: usize = records.iter().map(|record| record.leaf.as_bytes().len()).sum();
        println!(
            "{count:>7} {:>9.1} {:>9.1} {:>10.0} {:>10.0} {:>10.0} {:>10.0}",
            leaves as f64 / count as f64,
            file.len() as f64 / count as f64,
            per_second(count, || encode_segment(&header, &records).map(drop))?,
            per_second(count, || decode_segment(&tenant, "bench", file.clone()).map(drop))?,
            per_second(count, || decode_leaves("bench", file.clone()).map(drop))?,
            per_second(count, || decode_ids("bench", file.clone()).map(drop))?,
        );
    }
    Ok(())
}

/// Events per second of one thread that does nothing else: the best of some rounds of at least 20,000 events.
fn per_second(events: u64, mut work: impl FnMut() -> stele::Result<()>) -> stele::Result<f64> {
    let repeats = 20_000_u64.div_ceil(events);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..repeats {
            work()?;
        }
        best = best.min(start.elapsed().as_secs_f64() / (repeats * events) as f64);
    }
    Ok(1.0 / best)
}
