//! How fast a log is verified, and in how much memory. `tests/verify/measure` runs it beside DuckDB; by itself:
//!
//! ```text
//! cargo bench -p stele-verify --bench verify -- make FOLDER 1000000
//! cargo bench -p stele-verify --bench verify -- run FOLDER
//! ```
//!
//! `make` seals that many events of one tenant and compacts them, with the functions that do it in earnest; `run` verifies what is there.
#![allow(clippy::print_stdout, reason = "it prints figures")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails is of no use")]

#[path = "../../adapters/src/parquet/sample.rs"]
#[allow(dead_code)]
mod sample;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use stele::access::{Secrets, TenantRecord};
use stele::errand::Errand;
use stele::id::TenantId;
use stele::layout::Object;
use stele::ports::{Clock, LockedObjects, Random, Tenants};
use stele::public_key::{PublishedKeys, SigningSeeds};
use stele::time::{DAY_MS, Timestamp};
use stele_adapters::clock::{ManualClock, SeededRandom};
use stele_adapters::folder::LockedFolder;
use stele_adapters::memory::MemoryStore;
use stele_adapters::places::Places;
use stele_compact::Compact;
use stele_seal::{Seal, SealSettings};
use stele_verify::{Evidence, Options, verify};

const TENANT: &str = "org_demo";
const SEGMENT_LEAVES: u64 = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", folder, events] => runtime.block_on(make(Path::new(folder), events.parse().unwrap())),
        ["run", folder] => runtime.block_on(run(Path::new(folder))),
        _ => println!("verify: say `make FOLDER EVENTS` or `run FOLDER`"),
    }
}

async fn make(folder: &Path, events: u64) {
    let begin = Timestamp::from_ms(1_780_000_000_000);
    let clock = Arc::new(ManualClock::new(begin));
    let store = Arc::new(MemoryStore::new());
    let objects = Arc::new(LockedFolder::open(folder, clock.clone()).unwrap());
    let seeds = SigningSeeds::one([7; 32]);
    let secrets = Secrets::new([3; 32]);
    for (purpose, key) in PublishedKeys::of(&seeds, &secrets.receipt_seed()).all() {
        let until = clock.now().plus_days(3_654);
        objects.put_if_absent(&key.object_key(), key.to_file(purpose).into(), until).await.unwrap();
    }
    let id = TenantId::parse(TENANT).unwrap();
    let origin = secrets.origin("stele.bench", &id, Default::default()).unwrap();
    store.create_tenant(&TenantRecord::new(&id, &origin, begin)).await.unwrap();
    let places = Arc::new(Places::new(store.clone(), store.clone(), objects.clone()));
    let settings = SealSettings { witnesses: Vec::new(), seeds: seeds.clone(), publish_every_ms: 0 };
    let seal = Seal::new(store.clone(), objects.clone(), store.clone(), places, clock.clone(), settings);
    let random = SeededRandom::new(1);
    let mut next = || {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    };
    let mut made = 0;
    while made < events {
        let end = (made + SEGMENT_LEAVES).min(events);
        let records: Vec<_> = (made..end).map(|n| sample::record(TENANT, n, &mut next)).collect();
        let latest = records.iter().map(|record| record.received_at).max().unwrap();
        clock.set(clock.now().max(latest));
        let outcome = seal.seal_all(records).await;
        assert!(outcome.unsealed.is_empty());
        made = end;
    }
    let spool = tempfile::tempdir().unwrap();
    let compact = Compact {
        heads: store.clone(),
        objects: objects.clone(),
        archive: objects.clone(),
        index: store.clone(),
        policies: store.clone(),
        tenants: store.clone(),
        clock: clock.clone(),
        seeds,
        spool: spool.path().to_owned(),
    };
    clock.advance_ms(2 * DAY_MS);
    let errand = Errand { close_today: true, ..Errand::to(id) };
    compact.visit(&errand, clock.now().plus_days(1)).await.unwrap();
    assert_eq!(seal.publish_idle().await.unwrap().failed, 0);
    clock.advance_ms(40 * DAY_MS);
    objects.run_lifecycle(clock.now()).await.unwrap();
    let mut last =
        objects.list("checkpoints/", None, 10_000).await.unwrap().into_iter().filter_map(|object| {
            match stele::layout::ObjectKey::parse(&object.key) {
                Some(parsed @ Object::Checkpoint { .. }) => Some(parsed.key()),
                _ => None,
            }
        });
    println!("{}", folder.join(last.next_back().unwrap().as_str()).display());
}

async fn run(folder: &Path) {
    let clock: Arc<dyn Clock> = Arc::new(stele_adapters::clock::SystemClock);
    let objects = Arc::new(LockedFolder::open_read_only(folder, clock).unwrap());
    let begun = Instant::now();
    let report = verify(&Evidence::of(objects), &Options::default(), &|_, _| {}).await.unwrap();
    let took = begun.elapsed().as_secs_f64();
    let proven: u64 = report.logs.iter().map(|log| log.leaves_proven).sum();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_owned();
    println!(
        "{} events, {:?}, {took:.2} s, {:.0} events/s, peak RSS {peak}",
        proven,
        report.verdict(),
        proven as f64 / took
    );
}
