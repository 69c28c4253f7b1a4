//! The whole system in one process over stores that can be made to fail, and the check every scenario ends in:
//! nothing acknowledged is missing, nothing is in the log twice, and everything follows from stored bytes.

use crate::paced::Paced;
use crate::tamper::evidence_of;
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use stele::access::{ApiKey, KeyHash, KeyText, Scope, Secrets, Tenant};
use stele::errand::Errand;
use stele::id::{EventId, TenantId};
use stele::layout::{self, Object, ObjectKey};
use stele::ports::{ApiKeys, ArchiveIndex, ArchiveObjects, Clock, Heads, Inbox, LockedObjects, Tenants};
use stele::public_key::{PublishedKeys, SigningSeeds};
use stele::record::Record;
use stele::segment::{Head, IndexEntry};
use stele::time::Timestamp;
use stele::tlog::checkpoint::Checkpoint;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele::tlog::note::VerifierKey;
use stele::tlog::tree::RightEdge;
use stele_adapters::acceptor::{Acceptor, NotedDays};
use stele_adapters::authenticator::Authenticator;
use stele_adapters::clock::{ManualClock, SeededRandom};
use stele_adapters::cold_search::ColdSearch;
use stele_adapters::dynamodb::stream::lambda_event_of;
use stele_adapters::faults::{FaultPlan, Faulty};
use stele_adapters::folder::LockedFolder;
use stele_adapters::http::{Request, Response};
use stele_adapters::memory::MemoryStore;
use stele_adapters::memory_exports::MemoryExports;
use stele_adapters::memory_objects::MemoryObjects;
use stele_adapters::memory_queue::MemoryQueue;
use stele_adapters::parquet::archive::ArchiveFile;
use stele_adapters::parquet::decode_segment;
use stele_adapters::places::Places;
use stele_adapters::stored_tree::StoredTree;
use stele_adapters::tenants::TenantCache;
use stele_compact::{Compact, Visit};
use stele_drain::Drain;
use stele_export::Exporter;
use stele_ingest::{Ingest, ReceiptSigner};
use stele_query::Query;
use stele_reconcile::Reconcile;
use stele_seal::{BatchOutcome, Rebuild, Seal, SealSettings};
use stele_verify::{Options, Report, Verdict, verify};

/// 2026-05-01T12:00:00Z.
pub(crate) const NOON: Timestamp = Timestamp::from_ms(1_777_636_800_000);
pub(crate) const HOUR_MS: u64 = 60 * 60 * 1000;
/// The text of a key with every scope.
pub(crate) const GOVERNOR: &str = "governor";
/// What checkpoints are signed with.
pub(crate) const SEED: [u8; 32] = [7; 32];

/// Locked objects with all that may be done with them, and what lifecycle rules do to them.
#[async_trait]
pub(crate) trait Locked: LockedObjects + ArchiveObjects {
    /// Removes what may go at a time.
    async fn expire(&self, now: Timestamp) -> Vec<String>;
}

#[async_trait]
impl Locked for MemoryObjects {
    async fn expire(&self, now: Timestamp) -> Vec<String> {
        self.run_lifecycle(now).await.unwrap()
    }
}

#[async_trait]
impl Locked for LockedFolder {
    async fn expire(&self, now: Timestamp) -> Vec<String> {
        self.run_lifecycle(now).await.unwrap()
    }
}

/// The system.
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) objects: Arc<dyn Locked>,
    /// Errands to compact.
    pub(crate) errands: Arc<MemoryQueue>,
    /// What reconciliation found missing.
    pub(crate) parking: Arc<MemoryQueue>,
    /// Exports that are to be made, and their files.
    pub(crate) to_export: Arc<MemoryQueue>,
    pub(crate) files: Arc<MemoryExports>,
    /// Files under way.
    pub(crate) spool: tempfile::TempDir,
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) random: Arc<SeededRandom>,
    /// How the calls of ingest, sealers and rebuild fail, and all of them that were made.
    pub(crate) faults: FaultPlan,
    /// Whether each call gives way before and after.
    pub(crate) paced: bool,
    seeds: std::sync::Mutex<Vec<[u8; 32]>>,
    /// Who is asked to cosign what is stated.
    pub(crate) witnesses: Vec<Arc<stele_adapters::witnesses::Witness>>,
    pub(crate) publish_every_ms: u64,
    known: Mutex<Known>,
}

/// What the outside has seen of the system.
#[derive(Default)]
struct Known {
    /// Leaf hashes clients hold a receipt for.
    acknowledged: BTreeMap<EventId, String>,
    /// Ids clients were told while their events waited in the queue.
    queued: BTreeSet<EventId>,
    /// What the hot store's stream has carried.
    streamed: BTreeMap<EventId, Record>,
}

/// A request of a client's.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) body: String,
    pub(crate) batch: bool,
    pub(crate) idempotency_key: Option<String>,
    /// Whether the key may write as far back as it likes.
    pub(crate) backfill: bool,
    /// Whether it asks for an answer before its events are stored.
    pub(crate) respond_async: bool,
}

impl Sending {
    /// One event.
    pub(crate) fn one(event: impl Into<String>) -> Sending {
        Sending {
            body: event.into(),
            batch: false,
            idempotency_key: None,
            backfill: false,
            respond_async: false,
        }
    }

    /// Several.
    pub(crate) fn batch(events: &[String]) -> Sending {
        Sending { batch: true, ..Sending::one(format!(r#"{{"events":[{}]}}"#, events.join(","))) }
    }

    pub(crate) fn with_key(self, key: &str) -> Sending {
        Sending { idempotency_key: Some(key.to_owned()), ..self }
    }

    pub(crate) fn backfilled(self) -> Sending {
        Sending { backfill: true, ..self }
    }

    pub(crate) fn respond_async(self) -> Sending {
        Sending { respond_async: true, ..self }
    }

    /// Whether an event that waits under an id will be stored under that id: not if its sender has another name for
    /// it, which may stand for another id by then.
    fn fixes(&self, id: EventId) -> bool {
        let named = self.idempotency_key.is_some()
            || ["order-", "batch-", "old-"]
                .iter()
                .any(|name| self.body.contains(&format!(r#""id":"{name}"#)));
        !named || self.body.contains(&id.to_string())
    }
}

/// An event's JSON; `more` is further members, each with a comma after it.
pub(crate) fn event(tenant: &str, more: &str) -> String {
    format!(
        r#"{{"tenant_id":"{tenant}",{more}"action":"invoice.deleted","actor":{{"id":"user_1","name":"Ada"}},"resource":{{"type":"invoice","id":"inv_1"}}}}"#
    )
}

/// An event that brings an id of our kind.
pub(crate) fn event_with_id(tenant: &str, id: EventId) -> String {
    event(tenant, &format!(r#""id":"{}","#, id.shown()))
}

/// An event that brings an id of its sender's kind.
pub(crate) fn event_with_external_id(tenant: &str, external_id: &str) -> String {
    event(tenant, &format!(r#""id":"{external_id}","#))
}

/// What one event was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Id and leaf hash, if it is stored.
    pub(crate) receipt: Option<(EventId, String)>,
    /// Id, if it waits in the queue.
    pub(crate) queued: Option<EventId>,
}

pub(crate) fn platform_key(backfill: bool) -> (String, ApiKey) {
    let text = KeyText::new("test", &[u8::from(backfill); 40]);
    let mut scopes = vec![Scope::EventsWrite, Scope::EventsRead];
    scopes.extend(backfill.then_some(Scope::EventsBackfill));
    let key = ApiKey {
        key_id: text.key_id,
        tenant: None,
        scopes,
        name: "test".to_owned(),
        created_ms: 0,
        revoked_ms: None,
    };
    (text.text, key)
}

impl World {
    /// In memory, at noon.
    pub(crate) fn new() -> World {
        World::over(Arc::new(MemoryObjects::new()), Arc::new(ManualClock::new(NOON)))
    }

    /// Over locked objects that are there already, or are elsewhere than in memory.
    pub(crate) fn over(objects: Arc<dyn Locked>, clock: Arc<ManualClock>) -> World {
        let world = World {
            store: Arc::new(MemoryStore::new()),
            objects,
            errands: Arc::new(MemoryQueue::new(clock.clone())),
            parking: Arc::new(MemoryQueue::new(clock.clone())),
            to_export: Arc::new(MemoryQueue::new(clock.clone())),
            files: Arc::new(MemoryExports::new()),
            spool: tempfile::tempdir().unwrap(),
            queue: Arc::new(MemoryQueue::new(clock.clone())),
            clock,
            random: Arc::new(SeededRandom::new(1)),
            faults: FaultPlan::none(),
            paced: false,
            seeds: std::sync::Mutex::new(vec![SEED]),
            witnesses: Vec::new(),
            publish_every_ms: 0,
            known: Mutex::default(),
        };
        world.install();
        world
    }

    /// Loses the whole database. API keys are made anew, as a person would.
    pub(crate) fn lose_database(&mut self) {
        self.store = Arc::new(MemoryStore::new());
        self.install();
    }

    fn install(&self) {
        for backfill in [false, true] {
            let (text, key) = platform_key(backfill);
            at_once(self.store.create_api_key(KeyHash::of(&text), &key)).unwrap();
        }
    }

    /// The seeds there are: the first, and those that were added.
    pub(crate) fn seeds(&self) -> SigningSeeds {
        SigningSeeds::new(self.seeds.lock().unwrap().clone()).unwrap()
    }

    /// Adds a signing key, to which every process that starts from now on hands logs over.
    pub(crate) fn add_seed(&self, seed: [u8; 32]) {
        self.seeds.lock().unwrap().push(seed);
    }

    /// The public keys of all of it.
    pub(crate) fn public_keys(&self) -> PublishedKeys {
        PublishedKeys::of(&self.seeds(), &Secrets::new([3; 32]).receipt_seed())
    }

    /// Stores the public keys as the runner does.
    pub(crate) async fn publish_key(&self) {
        let until = self.clock.now().plus_days(3_654);
        for (purpose, key) in self.public_keys().all() {
            self.objects.put_if_absent(&key.object_key(), key.to_file(purpose).into(), until).await.unwrap();
        }
    }

    fn stores(&self) -> Arc<Paced<Faulty<MemoryStore>>> {
        let inner = Arc::new(Faulty::new(self.store.clone(), &self.faults));
        Arc::new(Paced { pace: self.paced, inner })
    }

    fn locked(&self) -> Arc<Paced<Faulty<dyn Locked>>> {
        let inner = Arc::new(Faulty::new(self.objects.clone(), &self.faults));
        Arc::new(Paced { pace: self.paced, inner })
    }

    /// A cold start of ingest.
    pub(crate) fn ingest(&self) -> Arc<Ingest> {
        Arc::new(Ingest {
            receipts: ReceiptSigner::new(&Secrets::new([3; 32])),
            acceptor: self.acceptor(),
            authenticator: Arc::new(Authenticator::new(self.stores(), self.clock.clone())),
            spill: Arc::new(Paced {
                pace: self.paced,
                inner: Arc::new(Faulty::new(self.queue.clone(), &self.faults)),
            }),
        })
    }

    /// A cold start of drain.
    pub(crate) fn drain(&self) -> Drain {
        Drain {
            acceptor: self.acceptor(),
            authenticator: Arc::new(Authenticator::new(self.stores(), self.clock.clone())),
            refusals: self.stores(),
        }
    }

    fn acceptor(&self) -> Acceptor {
        let (stores, secrets) = (self.stores(), Secrets::new([3; 32]));
        let tenants = TenantCache::new(stores.clone(), self.clock.clone(), secrets.clone(), "log.example");
        Acceptor {
            hot: stores.clone(),
            cold: Arc::new(Places::new(stores.clone(), stores, self.locked())),
            tenants: Arc::new(tenants),
            clock: self.clock.clone(),
            random: self.random.clone(),
            secrets,
            noted: NotedDays::default(),
        }
    }

    /// A cold start of a sealer.
    pub(crate) fn sealer(&self) -> Arc<Seal> {
        let (stores, locked) = (self.stores(), self.locked());
        let places = Arc::new(Places::new(stores.clone(), stores.clone(), locked.clone()));
        let settings = SealSettings {
            witnesses: self.witnesses.clone(),
            seeds: self.seeds(),
            publish_every_ms: self.publish_every_ms,
        };
        Arc::new(Seal::new(stores.clone(), locked, stores, places, self.clock.clone(), settings))
    }

    /// A rebuild of the database.
    pub(crate) fn rebuild(&self) -> Rebuild {
        Rebuild::new(self.sealer(), self.stores(), self.stores(), self.locked())
    }

    /// A cold start of query, with a key that may decide about retention.
    pub(crate) fn query(&self) -> Query {
        let (stores, secrets) = (self.stores(), Secrets::new([3; 32]));
        let authenticator = Authenticator::new(stores.clone(), self.clock.clone());
        let governor = ApiKey { scopes: Scope::ALL.to_vec(), ..platform_key(false).1 };
        let tenants = TenantCache::new(stores.clone(), self.clock.clone(), secrets.clone(), "log.example");
        let errands = Arc::new(Faulty::new(self.errands.clone(), &self.faults));
        Query {
            hot: stores.clone(),
            heads: stores.clone(),
            archive: stores.clone(),
            watermarks: stores.clone(),
            policies: stores.clone(),
            compaction: Arc::new(Paced { pace: self.paced, inner: errands }),
            exports: stores.clone(),
            export_files: self.export_files(),
            exporting: self.exporting(),
            tree: Arc::new(StoredTree::new(stores.clone(), stores.clone(), self.locked())),
            cold: Arc::new(ColdSearch::new(stores.clone(), stores.clone(), self.locked())),
            places: Arc::new(Places::new(stores.clone(), stores.clone(), self.locked())),
            keys: stores.clone(),
            refusals: stores,
            backlogs: Vec::new(),
            authenticator: Arc::new(authenticator.with_given(KeyHash::of(GOVERNOR), governor)),
            tenants: Arc::new(tenants),
            clock: self.clock.clone(),
            random: self.random.clone(),
            secrets,
            public_keys: self.public_keys(),
            env: "test".to_owned(),
        }
    }

    fn export_files(&self) -> Arc<Paced<Faulty<MemoryExports>>> {
        let inner = Arc::new(Faulty::new(self.files.clone(), &self.faults));
        Arc::new(Paced { pace: self.paced, inner })
    }

    fn exporting(&self) -> Arc<Paced<Faulty<MemoryQueue>>> {
        let inner = Arc::new(Faulty::new(self.to_export.clone(), &self.faults));
        Arc::new(Paced { pace: self.paced, inner })
    }

    /// A cold start of export.
    pub(crate) fn exporter(&self) -> Exporter {
        let stores = self.stores();
        Exporter {
            exports: stores.clone(),
            files: self.export_files(),
            tenants: stores.clone(),
            heads: stores.clone(),
            archive: stores,
            objects: self.locked(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            spool: self.spool.path().to_owned(),
        }
    }

    /// A cold start of compact.
    pub(crate) fn compactor(&self) -> Compact {
        let stores = self.stores();
        Compact {
            heads: stores.clone(),
            objects: self.locked(),
            archive: self.locked(),
            index: stores.clone(),
            policies: stores.clone(),
            tenants: stores,
            clock: self.clock.clone(),
            seeds: self.seeds(),
            spool: self.spool.path().to_owned(),
        }
    }

    /// A cold start of reconcile.
    pub(crate) fn reconciler(&self) -> Reconcile {
        let stores = self.stores();
        Reconcile {
            hot: stores.clone(),
            heads: stores.clone(),
            objects: self.locked(),
            locks: self.locked(),
            archive: stores.clone(),
            watermarks: stores.clone(),
            tenants: stores.clone(),
            parking: self.parking.clone(),
            compaction: self.errands.clone(),
            clock: self.clock.clone(),
            secrets: Secrets::new([3; 32]),
            cold: Arc::new(Places::new(stores.clone(), stores, self.locked())),
        }
    }

    /// Visits a tenant until nothing is due.
    pub(crate) async fn compact(
        &self,
        compact: &Compact,
        tenant: &str,
        close_today: bool,
    ) -> stele::Result<Visit> {
        let errand = Errand { close_today, ..Errand::to(TenantId::parse(tenant).unwrap()) };
        compact.visit(&errand, self.clock.now().plus_days(1)).await
    }

    /// Seals what reconciliation found missing.
    pub(crate) async fn seal_parked(&self, sealer: &Seal) {
        let messages = at_once(self.parking.receive(usize::MAX)).unwrap();
        let done = sealer.handle_parked(&messages).await;
        for message in messages.iter().filter(|message| !done.failed.contains(&message.id)) {
            at_once(self.parking.delete(&message.receipt)).unwrap();
        }
    }

    /// A tenant on record.
    pub(crate) fn tenant(&self, id: &str) -> Tenant {
        let id = TenantId::parse(id).unwrap();
        Tenant::on_record(at_once(self.store.tenant(&id)).unwrap().unwrap()).unwrap()
    }

    /// All tenants on record.
    pub(crate) fn tenants(&self) -> Vec<Tenant> {
        let records = at_once(self.store.tenants(None, 1_000)).unwrap();
        records.into_iter().map(|record| Tenant::on_record(record).unwrap()).collect()
    }

    /// A tenant's head, past all faults.
    pub(crate) fn head(&self, tenant: &Tenant) -> Option<Head> {
        at_once(self.store.head(tenant)).unwrap()
    }

    /// An id at the present moment.
    pub(crate) fn new_id(&self) -> EventId {
        EventId::new(self.clock.now(), u128::from(self.random.next_u64()))
    }

    /// The request as it arrives.
    pub(crate) fn request(&self, sending: &Sending) -> Request {
        let path = if sending.batch { "/v1/events/batch" } else { "/v1/events" };
        let (key, _) = platform_key(sending.backfill);
        let mut request = http::Request::post(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        if let Some(key) = &sending.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if sending.respond_async {
            request = request.header("prefer", "wait=5, respond-async");
        }
        request.body(Bytes::from(sending.body.clone())).unwrap()
    }

    /// Reads an answer and holds the system to every receipt in it.
    pub(crate) fn note(&self, sending: &Sending, response: &Response) -> Vec<Answer> {
        let status = response.status().as_u16();
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        let answers: Vec<Answer> = match body["results"].as_array() {
            Some(results) => {
                results.iter().map(|item| answer(item["status"].as_u64().unwrap() as u16, item)).collect()
            }
            None => vec![answer(status, &body)],
        };
        let queued = answers.iter().filter_map(|answer| answer.queued);
        self.known().queued.extend(queued.filter(|id| sending.fixes(*id)));
        for (id, hash) in answers.iter().filter_map(|answer| answer.receipt.as_ref()) {
            let mut known = self.known();
            let first = known.acknowledged.entry(*id).or_insert_with(|| hash.clone());
            assert_eq!(first, hash, "two receipts for `{id}`, sent as {sending:?}");
        }
        answers
    }

    /// Sends once.
    pub(crate) async fn send(&self, ingest: &Ingest, sending: &Sending) -> Vec<Answer> {
        let response = ingest.handle(self.request(sending)).await;
        self.note(sending, &response)
    }

    /// Stores what waits in the queue, past all faults.
    pub(crate) fn drain_queue(&self) {
        let secrets = Secrets::new([3; 32]);
        let tenants = TenantCache::new(self.store.clone(), self.clock.clone(), secrets, "log.example");
        let drain = Drain {
            acceptor: Acceptor {
                hot: self.store.clone(),
                cold: Arc::new(Places::new(self.store.clone(), self.store.clone(), self.objects.clone())),
                tenants: Arc::new(tenants),
                ..self.acceptor()
            },
            authenticator: Arc::new(Authenticator::new(self.store.clone(), self.clock.clone())),
            refusals: self.store.clone(),
        };
        for message in at_once(self.queue.receive(usize::MAX)).unwrap() {
            at_once(drain.handle(&message)).unwrap();
            at_once(self.queue.delete(&message.receipt)).unwrap();
        }
    }

    /// What the stream carries since the last call, what waited in the queue included.
    pub(crate) fn take_stream(&self) -> Vec<Record> {
        self.drain_queue();
        self.take_stored()
    }

    /// What the stream carries since the last call.
    pub(crate) fn take_stored(&self) -> Vec<Record> {
        let records = self.store.take_stream();
        let mut known = self.known();
        for record in &records {
            known.streamed.entry(record.id).or_insert_with(|| record.clone());
        }
        records
    }

    /// All the stream ever carried.
    pub(crate) fn streamed(&self) -> Vec<Record> {
        self.take_stored();
        self.known().streamed.values().cloned().collect()
    }

    /// Ids and leaf hashes of all receipts.
    pub(crate) fn acknowledged(&self) -> BTreeMap<EventId, String> {
        self.known().acknowledged.clone()
    }

    /// Delivers records to a sealer as Lambda would, and demands that all of them are in the log then.
    pub(crate) async fn deliver(&self, sealer: &Seal, records: &[Record]) -> BatchOutcome {
        let outcome = sealer.handle(&lambda_event_of(records, 0)).await.unwrap();
        let unsealed =
            outcome.unsealed.iter().map(|u| format!("`{}`: {}", u.tenant, u.error)).collect::<Vec<_>>();
        assert!(unsealed.is_empty(), "{unsealed:?}");
        outcome
    }

    /// Delivers what the stream carries.
    pub(crate) async fn seal_stream(&self, sealer: &Seal) -> BatchOutcome {
        let records = self.take_stream();
        self.deliver(sealer, &records).await
    }

    /// Verifies what is stored with the right key.
    pub(crate) async fn verify(&self) -> Report {
        let options = Options { pinned: self.public_keys().checkpoints, ..Options::default() };
        verify(&evidence_of(self.objects.clone()), &options, &|_, _| {}).await.unwrap()
    }

    /// Everything acknowledged or streamed is in the log exactly once, with the receipt's leaf; nothing else is;
    /// segments follow on one another, index and heads say the same, and the verifier proves it.
    pub(crate) async fn check(&self) {
        self.take_stream();
        let mut logged = BTreeMap::<EventId, Hash>::new();
        for tenant in self.tenants() {
            let end = self.check_log(&tenant, &mut logged).await;
            self.check_head(&tenant, &end);
        }
        self.check_known(&logged);
        if !logged.is_empty() {
            let report = self.verify().await;
            assert_eq!(report.verdict(), Verdict::Proven, "{report:#?}");
            let proven: u64 = report.logs.iter().map(|log| log.leaves_proven).sum();
            assert_eq!(proven, logged.len() as u64);
        }
    }

    fn check_known(&self, logged: &BTreeMap<EventId, Hash>) {
        let known = self.known();
        for (id, hash) in &known.acknowledged {
            let found = logged.get(id).unwrap_or_else(|| panic!("`{id}` was acknowledged and is in no log"));
            assert_eq!(
                &found.to_string(),
                hash,
                "`{id}` is in the log with another leaf than in its receipt"
            );
        }
        for (id, record) in &known.streamed {
            assert_eq!(
                logged.get(id),
                Some(&record.leaf_hash),
                "`{id}` was stored and is not sealed as it was"
            );
        }
        for id in &known.queued {
            assert!(logged.contains_key(id), "`{id}` was taken into the queue and is in no log");
        }
        let strangers: Vec<_> = logged.keys().filter(|id| !known.streamed.contains_key(id)).collect();
        assert!(strangers.is_empty(), "in the log, but never stored: {strangers:?}");
    }

    /// Walks a tenant's archive and the segments behind it; returns the index as it should be and the tree they grow. A
    /// segment that is in the archive too must say the same.
    async fn check_log(&self, tenant: &Tenant, logged: &mut BTreeMap<EventId, Hash>) -> Walked {
        let mut walked = Walked { edge: RightEdge::empty(), entries: Vec::new(), archived: TreeSize::ZERO };
        let mut leaves = BTreeMap::<u64, (EventId, Hash)>::new();
        for file in self.archive_files(tenant).await {
            let header = file.header().clone();
            if header.first() > LeafIndex::ZERO && walked.archived == TreeSize::ZERO {
                walked.edge = header.before.clone();
            }
            assert_eq!(header.before, walked.edge, "`{}` leaves a hole or overlaps", file.key());
            let mut visit = |index: LeafIndex, record: &Record| {
                leaves.insert(index.to_u64(), (record.id, record.leaf_hash));
            };
            verified(&file, tenant.id(), &mut visit).await.unwrap();
            let own = leaves.range(header.first().to_u64()..header.end().to_u64());
            for (_, (id, hash)) in own {
                let before = logged.insert(*id, *hash);
                assert_eq!(before, None, "`{id}` is in the log twice, again in `{}`", file.key());
                walked.edge.append(*hash);
            }
            assert_eq!(walked.edge, header.after, "`{}`", file.key());
            walked.archived = header.end();
        }
        let prefix = layout::segments_of(tenant.id(), tenant.log());
        for object in self.objects.list(&prefix, None, 100_000).await.unwrap() {
            let Some(parsed @ Object::Segment { first, .. }) = ObjectKey::parse(&object.key) else {
                panic!("`{}` among the segments", object.key);
            };
            let stored = self.objects.object(&parsed.key()).await.unwrap().unwrap();
            let sha256 = Hash::of(&stored.bytes);
            let segment = decode_segment(tenant.id(), &object.key, stored.bytes).unwrap();
            if first.size_before() < walked.archived {
                for (record, index) in segment.records.iter().zip(first.to_u64()..) {
                    // It may have outlived the file, which expired.
                    if let Some(leaf) = leaves.get(&index) {
                        assert_eq!(leaf, &(record.id, record.leaf_hash), "leaf {index} of `{}`", object.key);
                    }
                }
                continue;
            }
            assert_eq!(first, walked.edge.size().next_index(), "`{}` leaves a hole or overlaps", object.key);
            for record in &segment.records {
                let before = logged.insert(record.id, record.leaf_hash);
                assert_eq!(before, None, "`{}` is in the log twice, again in `{}`", record.id, object.key);
                walked.edge.append(record.leaf_hash);
            }
            walked.entries.push(segment.entry(stored.version, sha256).unwrap());
        }
        walked
    }

    /// The files of a tenant's archive, in order.
    pub(crate) async fn archive_files(&self, tenant: &Tenant) -> Vec<ArchiveFile> {
        let prefix = layout::archive_of(tenant.id(), tenant.log());
        let mut files = Vec::new();
        for object in self.objects.list(&prefix, None, 100_000).await.unwrap() {
            let key = ObjectKey::parse(&object.key).unwrap().key();
            let objects: Arc<dyn LockedObjects> = self.objects.clone();
            files.push(ArchiveFile::open(objects, key, object.version, object.bytes).await.unwrap());
        }
        files
    }

    fn check_head(&self, tenant: &Tenant, walked: &Walked) {
        let (id, size) = (tenant.id(), walked.edge.size());
        let mut entries =
            at_once(self.store.index_below(tenant, TreeSize::new(u64::MAX), usize::MAX)).unwrap();
        entries.reverse();
        entries.retain(|entry| entry.end > walked.archived);
        assert_eq!(entries, walked.entries, "segment index of `{id}`");
        let archived = at_once(self.store.archived_from(tenant, LeafIndex::ZERO, usize::MAX)).unwrap();
        let end = archived.last().map_or(TreeSize::ZERO, |entry| entry.end);
        assert_eq!(end, walked.archived, "archive index of `{id}`");
        let Some(head) = self.head(tenant) else {
            assert_eq!(size, TreeSize::ZERO, "`{id}` has a log and no head");
            return;
        };
        assert_eq!(head.edge, walked.edge, "head of `{id}`");
        if size > TreeSize::ZERO {
            let name = tenant.origin().key_name();
            let keys = self.public_keys().checkpoints;
            let keys: Vec<_> =
                keys.iter().map(|key| VerifierKey::new(name.clone(), &key.0).unwrap()).collect();
            let checkpoint = Checkpoint::open(&head.checkpoint, &keys).unwrap();
            assert_eq!(
                (checkpoint.size, checkpoint.root),
                (size, walked.edge.root()),
                "checkpoint of `{id}`"
            );
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log as its objects alone tell it.
struct Walked {
    edge: RightEdge,
    /// Where the archive ends.
    archived: TreeSize,
    /// What the index should say of the segments behind it.
    entries: Vec<IndexEntry>,
}

fn answer(status: u16, body: &Value) -> Answer {
    let id = || EventId::parse(body["id"].as_str().unwrap()).unwrap();
    let receipt = matches!(status, 200 | 201)
        .then(|| (id(), body["receipt"]["leaf_hash"].as_str().unwrap().to_owned()));
    Answer { status, receipt, queued: (status == 202).then(id) }
}

/// Where a tenant's leaves are, by the segments: for tests that ask after one of them.
pub(crate) async fn leaves_of(world: &World, tenant: &str) -> BTreeSet<(LeafIndex, EventId)> {
    let tenant = world.tenant(tenant);
    let prefix = layout::segments_of(tenant.id(), tenant.log());
    let mut leaves = BTreeSet::new();
    for object in world.objects.list(&prefix, None, 10_000).await.unwrap() {
        let key = ObjectKey::parse(&object.key).unwrap().key();
        let stored = world.objects.object(&key).await.unwrap().unwrap();
        let segment = decode_segment(tenant.id(), key.as_str(), stored.bytes).unwrap();
        let first = segment.header.first();
        leaves.extend(segment.records.iter().zip(0..).map(|(record, n)| (first.plus(n).unwrap(), record.id)));
    }
    leaves
}

/// Runs a future that only waits for what is in memory. `None` when it waits for something that never comes:
/// the caller has given up then, and the future is dropped where it stood.
pub(crate) fn until_stuck<T>(future: impl Future<Output = T>) -> Option<T> {
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let mut future = pin!(future);
    while woken.0.swap(false, Ordering::SeqCst) {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(done);
        }
    }
    None
}

/// Runs a future that is done at once.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    until_stuck(future).expect("nothing in memory makes anybody wait")
}

/// Verifies a file of the archive, and shows every record in it.
pub(crate) async fn verified(
    file: &ArchiveFile,
    tenant: &TenantId,
    visit: &mut (dyn FnMut(LeafIndex, &Record) + Send),
) -> stele::Result<Hash> {
    file.verify(tenant, Arc::new(|_| true), &mut |leaves| {
        leaves.kept.iter().for_each(|(index, record)| visit(*index, record));
        Ok(())
    })
    .await
}
