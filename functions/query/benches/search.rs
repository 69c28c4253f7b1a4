//! What a search over years of an archive costs: time, ranges, bytes, memory. `tests/search/measure` runs it beside DuckDB; by
//! itself:
//!
//! ```text
//! stele generate --events 10000000 --tenants 1 --ids --days 1096 | cargo bench -p stele-query --bench search -- make FOLDER
//! cargo bench -p stele-query --bench search -- ask FOLDER '/v1/events?actor_id=u_1'
//! cargo bench -p stele-query --bench search -- export FOLDER csv INTO
//! ```
//!
//! `make` accepts the events on standard input, seals them and writes files of the archive where compaction would. `ask` answers
//! one request by the function's own handler: nothing is cached when it begins. With `STELE_BENCH_LATENCY_MS` each of its reads takes so
//! long, as a store's far away would. `export` asks for a file of everything and makes it, as
//! the export function does.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints figures")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails is of no use")]

use async_trait::async_trait;
use bytes::Bytes;
use std::io::BufRead;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stele::access::{ApiKey, KeyHash, LogNumber, Scope, Secrets, Tenant, TenantRecord};
use stele::archive::next_file_end;
use stele::event::{Draft, Terms};
use stele::export::ExportErrand;
use stele::id::TenantId;
use stele::layout::{self, Object, ObjectKey};
use stele::ports::{
    ArchiveIndex, ArchiveObjects, Clock, ExportFiles, ListedObject, LockedObjects, PutIfAbsent, StoredObject,
    Tenants,
};
use stele::public_key::{PublishedKeys, SigningSeeds};
use stele::record::Record;
use stele::retention::{Class, LifecycleTag};
use stele::segment::{Head, IndexEntry, SegmentHeader};
use stele::time::{Day, Timestamp};
use stele::tlog::checkpoint::Origin;
use stele::tlog::hash::Hash;
use stele::tlog::tree::RightEdge;
use stele_adapters::authenticator::Authenticator;
use stele_adapters::clock::{ManualClock, SeededRandom, SystemClock};
use stele_adapters::cold_search::ColdSearch;
use stele_adapters::folder::LockedFolder;
use stele_adapters::folder_exports::ExportFolder;
use stele_adapters::memory::MemoryStore;
use stele_adapters::memory_exports::MemoryExports;
use stele_adapters::memory_queue::MemoryQueue;
use stele_adapters::parquet::archive::{ArchiveFile, ArchiveWriter};
use stele_adapters::parquet::encode_segment;
use stele_adapters::places::Places;
use stele_adapters::stored_tree::StoredTree;
use stele_adapters::tenants::TenantCache;
use stele_export::{Exporter, Outcome};
use stele_query::Query;

const SEGMENT_LEAVES: usize = 1_000;
const ORIGIN: &str = "log.example/7c2e";
const KEY: &str = "reader";
/// Events after which it says how far it is.
const PROGRESS: u64 = 500_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    // As on Lambda.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", folder] => runtime.block_on(make(Path::new(folder))),
        ["ask", folder, path] => runtime.block_on(ask(Path::new(folder), path)),
        ["export", folder, format, into] => {
            runtime.block_on(export(Path::new(folder), format, Path::new(into)));
        }
        _ => println!("search: say `make FOLDER`, `ask FOLDER PATH` or `export FOLDER FORMAT INTO`"),
    }
}

/// Segments that wait for their file.
struct Waiting {
    entries: Vec<IndexEntry>,
    segments: Vec<Bytes>,
}

async fn make(folder: &Path) {
    let objects = LockedFolder::open(folder, Arc::new(ManualClock::new(Timestamp::default()))).unwrap();
    let random = SeededRandom::new(5);
    let (origin, log) = (Origin::parse(ORIGIN).unwrap(), LogNumber(0));
    let mut edge = RightEdge::empty();
    let mut archived = (RightEdge::empty(), Timestamp::default());
    let mut received_max = Timestamp::default();
    let mut waiting = Waiting { entries: Vec::new(), segments: Vec::new() };
    let mut records: Vec<Record> = Vec::new();
    let mut lines = std::io::stdin().lock().lines();
    let (mut events, mut bytes, mut files, begun) = (0_u64, 0, 0, Instant::now());
    let mut today: Option<Day> = None;
    let mut tenant: Option<TenantId> = None;
    let spool = folder.join("spool.parquet");
    loop {
        let record = lines.next().map(|line| accepted(&line.unwrap(), &random));
        let day = record.as_ref().map(|record| record.received_at.max(received_max).day());
        let is_over = day != today;
        tenant = tenant.or_else(|| record.as_ref().map(|record| record.tenant.clone()));
        if !records.is_empty() && (is_over || records.len() == SEGMENT_LEAVES) {
            let before = edge.clone();
            edge.extend(records.iter().map(|record| record.leaf_hash));
            received_max = records.iter().map(|record| record.received_at).fold(received_max, Timestamp::max);
            let header = SegmentHeader {
                origin: origin.clone(),
                log,
                before,
                after: edge.clone(),
                sealed_at: received_max,
                received_max,
                checkpoint_before: String::new(),
            };
            let segment = encode_segment(&header, &records).unwrap();
            let of = stele::segment::Segment { header, records: std::mem::take(&mut records) };
            waiting.entries.push(of.entry(String::new(), Hash::of(b"")).unwrap());
            waiting.segments.push(segment);
        }
        if is_over {
            // What compaction would find due at midnight, and at the very end everything.
            let now = day.map_or(received_max.plus_days(8), Day::start);
            while let Some(end) = next_file_end(&waiting.entries, now) {
                let count = waiting.entries.partition_point(|entry| entry.end <= end);
                let tenant = tenant.clone().unwrap();
                let _ = std::fs::remove_file(&spool);
                let mut writer =
                    ArchiveWriter::create(&spool, &origin, log, archived.0.clone(), archived.1).unwrap();
                waiting.entries.drain(..count);
                for segment in waiting.segments.drain(..count) {
                    writer.append(&tenant, "segment", segment).unwrap();
                }
                let (spooled, header) = writer.finish().unwrap();
                archived = (header.after.clone(), header.running_received_max);
                bytes += spooled.bytes;
                files += 1;
                let key = Object::Archive { tenant, log, month: header.month(), first: header.first() }.key();
                let until = Timestamp::from_ms(0).plus_days(365);
                let tag = LifecycleTag::Class(Class::default());
                objects.put_file_if_absent(&key, &spooled, until, tag).await.unwrap();
            }
            today = day;
        }
        let Some(record) = record else { break };
        records.push(record);
        events += 1;
        if events.is_multiple_of(PROGRESS) {
            let rate = events as f64 / begun.elapsed().as_secs_f64();
            eprintln!("{events} events in {files} files, {bytes} bytes, {rate:.0} events/s");
        }
    }
    let _ = std::fs::remove_file(&spool);
    println!("{events} events, {files} files, {bytes} bytes");
}

fn accepted(line: &str, random: &SeededRandom) -> Record {
    let draft = Draft::parse(line.as_bytes()).unwrap();
    let tenant = draft.tenant().unwrap().clone();
    let late = 30 + random.next_u64() % 400;
    let terms = Terms {
        tenant: &tenant,
        key_id: "k7f3a9c2",
        now: draft.occurred_at().unwrap().plus_ms(late),
        id_secret: &[7; 32],
        random: u128::from(random.next_u64()) << 64 | u128::from(random.next_u64()),
        oldest: None,
    };
    draft.accept(&terms).unwrap().record
}

/// An archive with its index, as after a rebuild, and the function over it.
struct Opened {
    store: Arc<MemoryStore>,
    objects: Arc<LockedFolder>,
    clock: Arc<ManualClock>,
    tenant: Tenant,
    cold: Arc<ColdSearch>,
    query: Query,
}

/// Objects as far away as `STELE_BENCH_LATENCY_MS` says: each read takes so long.
struct Distant {
    inner: Arc<LockedFolder>,
    latency: Duration,
}

impl Distant {
    fn of(inner: Arc<LockedFolder>) -> Arc<dyn LockedObjects> {
        let ms = std::env::var("STELE_BENCH_LATENCY_MS").map_or(0, |ms| ms.parse().unwrap());
        match ms {
            0 => inner,
            ms => Arc::new(Distant { inner, latency: Duration::from_millis(ms) }),
        }
    }
}

#[async_trait]
impl LockedObjects for Distant {
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        retain_until: Timestamp,
    ) -> stele::Result<PutIfAbsent> {
        self.inner.put_if_absent(key, bytes, retain_until).await
    }

    async fn object(&self, key: &ObjectKey) -> stele::Result<Option<StoredObject>> {
        tokio::time::sleep(self.latency).await;
        self.inner.object(key).await
    }

    async fn version(&self, key: &ObjectKey, version: &str) -> stele::Result<Option<StoredObject>> {
        tokio::time::sleep(self.latency).await;
        self.inner.version(key, version).await
    }

    async fn range(&self, key: &ObjectKey, version: &str, range: Range<u64>) -> stele::Result<Option<Bytes>> {
        tokio::time::sleep(self.latency).await;
        self.inner.range(key, version, range).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> stele::Result<Vec<ListedObject>> {
        self.inner.list(prefix, after, limit).await
    }
}

async fn open(folder: &Path, export_files: Arc<dyn ExportFiles>) -> Opened {
    let store = Arc::new(MemoryStore::new());
    let objects = Arc::new(LockedFolder::open_read_only(folder, Arc::new(SystemClock)).unwrap());
    let first = objects.list(layout::ARCHIVE, None, 1).await.unwrap();
    let Some(Object::Archive { tenant: id, .. }) = first.first().and_then(|o| ObjectKey::parse(&o.key))
    else {
        panic!("no archive in `{}`: `make` one first", folder.display());
    };
    let origin = Origin::parse(ORIGIN).unwrap();
    let record = TenantRecord::new(&id, &origin, Timestamp::default());
    let tenant = Tenant::on_record(store.create_tenant(&record).await.unwrap()).unwrap();
    let mut end = None;
    for object in objects.list(&layout::archive_of(&id, tenant.log()), None, usize::MAX).await.unwrap() {
        let key = ObjectKey::parse(&object.key).unwrap().key();
        let shared: Arc<dyn LockedObjects> = objects.clone();
        let file = ArchiveFile::open(shared, key, object.version.clone(), object.bytes).await.unwrap();
        let header = file.header().clone();
        let entry = header.entry(object.bytes, object.version, Hash::of(b""), Class::default());
        store.put_archived(&tenant, &entry).await.unwrap();
        end = Some(header);
    }
    let end = end.expect("a file");
    // All of it was forgotten long ago.
    let clock = Arc::new(ManualClock::new(end.received_max.plus_days(100)));
    let mut head = Head::empty(clock.now());
    (head.edge, head.received_max) = (end.after.clone(), end.running_received_max);
    store.force_head(&tenant, Some(head));

    let secrets = Secrets::new([5; 32]);
    let key = ApiKey {
        key_id: KEY.to_owned(),
        tenant: Some(id.clone()),
        scopes: Scope::ALL.to_vec(),
        name: KEY.to_owned(),
        created_ms: 0,
        revoked_ms: None,
    };
    let authenticator = Authenticator::new(store.clone(), clock.clone()).with_given(KeyHash::of(KEY), key);
    let tenants = TenantCache::new(store.clone(), clock.clone(), secrets.clone(), "log.example");
    let distant = Distant::of(objects.clone());
    let cold = Arc::new(ColdSearch::new(store.clone(), store.clone(), distant));
    let query = Query {
        hot: store.clone(),
        heads: store.clone(),
        archive: store.clone(),
        watermarks: store.clone(),
        policies: store.clone(),
        compaction: Arc::new(MemoryQueue::new(clock.clone())),
        exports: store.clone(),
        export_files,
        exporting: Arc::new(MemoryQueue::new(clock.clone())),
        tree: Arc::new(StoredTree::new(store.clone(), store.clone(), objects.clone())),
        cold: cold.clone(),
        places: Arc::new(Places::new(store.clone(), store.clone(), objects.clone())),
        keys: store.clone(),
        refusals: store.clone(),
        backlogs: Vec::new(),
        authenticator: Arc::new(authenticator),
        tenants: Arc::new(tenants),
        // A budget is of real time.
        clock: Arc::new(Running { from: clock.now(), begun: Instant::now() }),
        random: Arc::new(SeededRandom::new(1)),
        secrets,
        public_keys: PublishedKeys::of(&SigningSeeds::one([7; 32]), &[8; 32]),
        env: "bench".into(),
    };
    Opened { store, objects, clock, tenant, cold, query }
}

async fn ask(folder: &Path, path: &str) {
    let Opened { cold, query, .. } = open(folder, Arc::new(MemoryExports::new())).await;
    let request = http::Request::get(path).header("authorization", format!("Bearer {KEY}"));
    let request = request.body(Bytes::new()).unwrap();
    let (begun, cpu_before) = (Instant::now(), cpu_ms());
    let response = query.handle(request).await;
    let (ms, cpu) = (begun.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu_before);
    let (bytes, reads) = cold.read();
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    let events = body["events"].as_array().map_or(1, Vec::len);
    println!(
        "{}",
        serde_json::json!({
            "status": response.status().as_u16(), "ms": ms, "cpu_ms": cpu, "bytes": bytes, "reads": reads, "peak": peak(),
            "events": events, "more": !body["next_cursor"].is_null(), "searched": body["searched"],
            "total": body["total"],
        })
    );
}

async fn export(folder: &Path, format: &str, into: &Path) {
    let files = Arc::new(ExportFolder::open(into).unwrap());
    let Opened { store, objects, clock, tenant, query, .. } = open(folder, files.clone()).await;
    let body = format!(r#"{{"tenant_id":"{}","format":"{format}"}}"#, tenant.id());
    let request = http::Request::post("/v1/exports").header("authorization", format!("Bearer {KEY}"));
    let response = query.handle(request.body(Bytes::from(body)).unwrap()).await;
    let answer: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    let export = answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    let exporter = Exporter {
        exports: store.clone(),
        files,
        tenants: store.clone(),
        heads: store.clone(),
        archive: store,
        objects,
        clock: Arc::new(Running { from: clock.now(), begun: Instant::now() }),
        random: Arc::new(SeededRandom::new(1)),
        spool: into.to_owned(),
    };
    let errand = ExportErrand { tenant: tenant.id().clone(), export };
    let begun = Instant::now();
    let outcome = exporter.handle(&errand, clock.now().plus_days(1)).await.unwrap();
    let Outcome::Done(file) = outcome else { panic!("{outcome:?}") };
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{} events, {} bytes, {took:.1} s, {:.0} events/s, peak RSS {}",
        file.events,
        file.bytes,
        file.events as f64 / took,
        peak()
    );
}

/// The most memory this process ever had.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned()
}

/// Milliseconds all threads of this process have been on a CPU, but for those that ended.
fn cpu_ms() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let told =
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
    told.filter_map(|told| told.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e6
}

/// The time as it was, going on.
struct Running {
    from: Timestamp,
    begun: Instant,
}

impl Clock for Running {
    fn now(&self) -> Timestamp {
        self.from.plus_ms(self.begun.elapsed().as_millis() as u64)
    }
}
