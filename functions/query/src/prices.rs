//! What S3 takes for keeping archive files longer: the few prices a preview needs. `infra/prices.json` is where they
//! come from and `stele cost` the full bill; a test holds the two together.

use stele::archive::ArchiveEntry;
use stele::retention::Class;

/// On what the amounts rest.
pub(crate) const BASIS: &str = "an estimate: list prices of us-east-1 as of 2026-08-16, first tier and without \
                                tax; storage is by the month, from the day the old lock would have ended";

/// S3 Standard, a GB and month.
const STANDARD: f64 = 0.023;
/// S3 Glacier Instant Retrieval, a GB and month.
const GLACIER: f64 = 0.004;
/// A thousand PUTs: one lengthens a lock, one sets a tag.
const PUTS: f64 = 0.005;
/// A thousand GETs: lock, hold and tag of an object are read by three.
const GETS: f64 = 0.000_4;
/// A thousand moves to Glacier Instant Retrieval.
const MOVES: f64 = 0.02;

/// Classes from this one on move to Glacier Instant Retrieval, by the lifecycle rules of `infra/stateful.yaml`.
const GLACIER_CLASS_DAYS: u32 = 365;
/// Smaller objects stay in S3 Standard.
const GLACIER_BYTES_MIN: u64 = 128 * 1024;
const GB: f64 = (1_u64 << 30) as f64;

fn moves(class: Class, bytes: u64) -> bool {
    class.days() >= GLACIER_CLASS_DAYS && bytes >= GLACIER_BYTES_MIN
}

/// US dollars a month for keeping a file beyond the lock it has.
pub(crate) fn storage(entry: &ArchiveEntry, class: Class) -> f64 {
    let price = if moves(class, entry.bytes) { GLACIER } else { STANDARD };
    entry.bytes as f64 / GB * price
}

/// US dollars, once, for lengthening a file's lock.
pub(crate) fn lengthening(entry: &ArchiveEntry, class: Class) -> f64 {
    let moved = moves(class, entry.bytes) && !moves(entry.class, entry.bytes);
    (2.0 * PUTS + if moved { MOVES } else { 0.0 }) / 1_000.0
}

/// US dollars, once, for looking at so many objects.
pub(crate) fn looking(objects: u64) -> f64 {
    objects as f64 * 3.0 * GETS / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn prices_are_those_of_the_price_list() {
        let list: Value = serde_json::from_str(include_str!("../../../infra/prices.json")).unwrap();
        let price = |name: &str| list["regions"]["us-east-1"][name]["usd"].as_f64().unwrap();
        let known = [
            ("s3_standard", STANDARD),
            ("s3_glacier", GLACIER),
            ("s3_writes", PUTS),
            ("s3_reads", GETS),
            ("s3_transitions", MOVES),
        ];
        for (name, ours) in known {
            assert_eq!(price(name), ours, "{name}");
        }
        assert!(BASIS.contains(list["date"].as_str().unwrap()));
        let assumed = |name: &str| list["assumptions"][name]["value"].as_u64().unwrap();
        assert_eq!(assumed("glacier_class_days"), u64::from(GLACIER_CLASS_DAYS));
        assert_eq!(assumed("glacier_file_bytes"), GLACIER_BYTES_MIN);
    }
}
