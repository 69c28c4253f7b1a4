//! Proofs out of what is stored: from segments, from the archive, and over leaves that have expired, they are those that the
//! leaves alone give. Receipts, statements, and a key that changes in the middle of a log.

use crate::archiving::at_last;
use crate::faults::{every_fault_of, numbered};
use crate::world::{GOVERNOR, HOUR_MS, SEED, Sending, World, at_once, event_with_id};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use std::collections::BTreeSet;
use stele::access::Tenant;
use stele::id::EventId;
use stele::layout::{self, Object, ObjectKey};
use stele::ports::{ArchiveIndex, Clock, Heads};
use stele::public_key::{PublicKey, Purpose};
use stele::receipt::Receipt;
use stele::segment::{Head, IndexEntry};
use stele::statement::Statement;
use stele::time::{DAY_MS, Timestamp};
use stele::tlog::checkpoint::Checkpoint;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele::tlog::key_change::{KeyChange, KeyHistory};
use stele::tlog::note::VerifierKey;
use stele::tlog::portable::PortableProof;
use stele::tlog::proof::{consistency_proof, inclusion_proof, verify_consistency, verify_inclusion};
use stele::tlog::tiles::TILE_LEAVES;
use stele::tlog::tree::RightEdge;
use stele::{Code, Kind};
use stele_adapters::parquet::decode_segment;
use stele_adapters::stored_tree::StoredTree;

const TENANT: &str = "org_acme";
const SECOND_SEED: [u8; 32] = [77; 32];

/// A log with a file that has expired, one that has not, and segments behind it.
struct Log {
    world: World,
    tenant: Tenant,
    /// All leaf hashes, those of expired leaves too.
    leaves: Vec<Hash>,
    /// How many of them have expired.
    expired: u64,
}

impl Log {
    fn new() -> Log {
        let world = World::new();
        at_once(world.publish_key());
        let seal = |sizes: &[u64]| {
            for size in sizes {
                world.sealed(TENANT, *size);
                world.clock.advance_ms(60_000);
            }
        };
        seal(&[1, 2, 300, 7, 150]);
        at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
        world.clock.advance_ms(300 * DAY_MS);
        seal(&[90, 256, 3, 200]);
        at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
        seal(&[5, 130, 1, 1, 240]);
        let tenant = world.tenant(TENANT);
        let leaves = leaf_hashes(&world, &tenant);
        world.clock.advance_ms(70 * DAY_MS);
        let gone = at_once(world.objects.expire(world.clock.now()));
        assert!(gone.iter().any(|key| key.starts_with(layout::ARCHIVE)), "{gone:?}");
        Log { tenant, leaves, expired: 460, world }
    }

    fn tree(&self) -> StoredTree {
        let store = self.world.store.clone();
        StoredTree::new(store.clone(), store, self.world.objects.clone())
    }

    fn head(&self) -> Head {
        self.world.head(&self.tenant).unwrap()
    }

    fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    fn edge(&self, size: u64) -> RightEdge {
        let mut edge = RightEdge::empty();
        edge.extend(self.leaves[..size as usize].iter().copied());
        edge
    }

    /// Holds every proof it can give against the one the leaves give.
    fn check(&self) {
        let (tree, head, size) = (self.tree(), self.head(), self.size());
        assert_eq!(head.edge, self.edge(size));
        for index in 0..size {
            let index = LeafIndex::new(index);
            let found = at_once(tree.inclusion(&self.tenant, &head, index));
            if index.to_u64() < self.expired {
                assert_eq!(found.unwrap_err().code(), Code::NotFound, "leaf {index}");
                continue;
            }
            let found = found.unwrap();
            let expected = inclusion_proof(&self.leaves, index, head.size()).unwrap();
            assert_eq!((found.leaf_hash, found.path), (self.leaves[index.to_u64() as usize], expected));
        }
        let step = 13;
        let mut proven = 0;
        for from in (1..=size).step_by(step) {
            for to in (from..=size).step_by(2 * step + 3).chain([size]) {
                let found =
                    at_once(tree.consistency(&self.tenant, &head, TreeSize::new(from), TreeSize::new(to)));
                let expected =
                    consistency_proof(&self.leaves, TreeSize::new(from), TreeSize::new(to)).unwrap();
                match found {
                    Ok(found) => {
                        assert_eq!(found, expected, "{from} to {to}");
                        proven += u64::from(from < self.expired);
                    }
                    Err(error) => {
                        assert_eq!(error.code(), Code::NotFound, "{error}");
                        assert!(from < self.expired, "{from} to {to}: {error}");
                    }
                }
            }
        }
        assert!(proven > 0, "over expired leaves too");
        for level in 0..3 {
            let span = TILE_LEAVES.pow(level);
            for index in 0..size.div_ceil(span * TILE_LEAVES) {
                let width = (size / span - index * TILE_LEAVES).min(TILE_LEAVES);
                for width in BTreeSet::from([1.min(width), width / 2, width]) {
                    if width == 0 {
                        continue;
                    }
                    let first = index * TILE_LEAVES * span;
                    let found = at_once(tree.tile(&self.tenant, level, index, width));
                    if level == 0 && first < self.expired {
                        assert_eq!(found.unwrap_err().code(), Code::NotFound);
                        continue;
                    }
                    let expected: Vec<Hash> =
                        (0..width).map(|at| self.subtree(first + at * span, span)).collect();
                    assert_eq!(found.unwrap(), expected, "level {level}, tile {index}, width {width}");
                }
            }
        }
    }

    /// The root of the subtree of so many leaves.
    fn subtree(&self, first: u64, leaves: u64) -> Hash {
        let mut edge = RightEdge::empty();
        edge.extend(self.leaves[first as usize..(first + leaves) as usize].iter().copied());
        edge.root()
    }
}

/// The leaf hashes of a log, by its objects.
pub(crate) fn leaf_hashes(world: &World, tenant: &Tenant) -> Vec<Hash> {
    let mut leaves = Vec::new();
    let prefix = layout::segments_of(tenant.id(), tenant.log());
    for object in at_once(world.objects.list(&prefix, None, 10_000)).unwrap() {
        let key = ObjectKey::parse(&object.key).unwrap().key();
        let stored = at_once(world.objects.object(&key)).unwrap().unwrap();
        let segment = decode_segment(tenant.id(), key.as_str(), stored.bytes).unwrap();
        let first = segment.header.first().to_u64() as usize;
        leaves.resize(leaves.len().max(first + segment.records.len()), Hash::from_bytes([0; 32]));
        for (record, at) in segment.records.iter().zip(first..) {
            leaves[at] = record.leaf_hash;
        }
    }
    for file in at_once(world.archive_files(tenant)) {
        let mut visit = |index: LeafIndex, record: &stele::record::Record| {
            leaves[index.to_u64() as usize] = record.leaf_hash;
        };
        at_once(crate::world::verified(&file, tenant.id(), &mut visit)).unwrap();
    }
    leaves
}

#[test]
fn proofs_from_what_is_stored_are_those_from_the_leaves() {
    Log::new().check();
}

/// Entries written before they held subtrees, and an index that was rebuilt: the objects say the same.
#[test]
fn proofs_do_not_need_the_hashes_the_indexes_keep() {
    let log = Log::new();
    let store = &log.world.store;
    for entry in at_once(store.index_from(&log.tenant, LeafIndex::ZERO, 10_000)).unwrap() {
        at_once(store.put_index(&log.tenant, &IndexEntry { subtrees: None, ..entry })).unwrap();
    }
    for entry in at_once(store.archived_from(&log.tenant, LeafIndex::ZERO, 10_000)).unwrap() {
        let bare = stele::archive::ArchiveEntry { range: None, ..entry };
        at_once(store.put_archived(&log.tenant, &bare)).unwrap();
    }
    log.check();

    at_once(log.world.rebuild().run(&|_| {})).unwrap();
    log.check();
}

/// An answer to a request with the governor's key.
fn ask(world: &World, path: &str, accept: &str) -> (StatusCode, Bytes) {
    let request = http::Request::get(path)
        .header("authorization", format!("Bearer {GOVERNOR}"))
        .header("accept", accept)
        .body(Bytes::new())
        .unwrap();
    let response = at_once(world.query().handle(request));
    (response.status(), response.into_body())
}

fn keys_of(world: &World, tenant: &Tenant) -> Vec<VerifierKey> {
    let keys = world.public_keys().checkpoints;
    keys.iter().map(|key| VerifierKey::new(tenant.origin().key_name(), &key.0).unwrap()).collect()
}

#[test]
fn a_proof_over_http_proves_the_event_to_whoever_has_the_key() {
    let log = Log::new();
    let (world, tenant) = (&log.world, &log.tenant);
    let keys = keys_of(world, tenant);
    let streamed = world.streamed();
    let mut proven = 0;
    for record in streamed.iter().step_by(17) {
        let path = format!("/v1/events/{}/proof?tenant_id={TENANT}", record.id.shown());
        let (status, text) = ask(world, &path, "*/*");
        let index = log.leaves.iter().position(|leaf| *leaf == record.leaf_hash).unwrap() as u64;
        if index < log.expired {
            assert_eq!(status, 404, "{text:?}");
            continue;
        }
        assert_eq!(status, 200, "{text:?}");
        let proof = PortableProof::parse(std::str::from_utf8(&text).unwrap()).unwrap();
        let checkpoint = proof.check(&record.leaf_hash, &keys).unwrap();
        assert_eq!((proof.index.to_u64(), checkpoint.size.to_u64()), (index, log.size()));

        let (status, json) = ask(world, &path, "application/json; q=0.9, text/html");
        assert_eq!(status, 200);
        let json: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["leaf"].as_str().unwrap().as_bytes(), record.leaf.as_bytes());
        assert_eq!(json["leaf_index"], index);
        let hash = |text: &Value| Hash::from_base64(text.as_str().unwrap()).unwrap();
        let path: Vec<Hash> = json["path"].as_array().unwrap().iter().map(hash).collect();
        let checkpoint = Checkpoint::open(json["checkpoint"].as_str().unwrap(), &keys).unwrap();
        verify_inclusion(&hash(&json["leaf_hash"]), proof.index, checkpoint.size, &path, &checkpoint.root)
            .unwrap();
        proven += 1;
    }
    assert!(proven > 20);

    // A client of tiles alone rebuilds the tree.
    let tile = |path: &str| {
        let (status, body) = ask(world, &format!("/v1/log/tile/{path}?tenant_id={TENANT}"), "*/*");
        (status == 200).then_some(body)
    };
    let last = log.size() / 256;
    let width = log.size() % 256;
    let leaves = tile(&format!("0/{last:03}.p/{width}")).unwrap();
    let expected: Vec<u8> =
        log.leaves[(last * 256) as usize..].iter().flat_map(|hash| *hash.as_bytes()).collect();
    assert_eq!(leaves, expected);
    let entries = tile(&format!("entries/{last:03}.p/{width}")).unwrap();
    let mut rest = &entries[..];
    for at in last * 256..log.size() {
        let (length, after) = rest.split_first_chunk().unwrap();
        let (leaf, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        assert_eq!(stele::tlog::hash::leaf_hash(leaf), log.leaves[at as usize]);
        rest = after;
    }
    assert!(rest.is_empty());
    for nothing in
        [format!("0/{last:03}"), format!("0/{last:03}.p/{}", width + 1), "0/1".to_owned(), "2/000".to_owned()]
    {
        assert_eq!(tile(&nothing), None, "{nothing}");
    }

    // Every published checkpoint is consistent with every later one.
    let mut published = Vec::new();
    let mut from = 0;
    loop {
        let (status, page) =
            ask(world, &format!("/v1/log/checkpoints?tenant_id={TENANT}&from_size={from}&limit=2"), "*/*");
        assert_eq!(status, 200);
        let page: Value = serde_json::from_slice(&page).unwrap();
        for one in page["checkpoints"].as_array().unwrap() {
            let checkpoint = Checkpoint::open(one["checkpoint"].as_str().unwrap(), &keys).unwrap();
            assert_eq!(checkpoint.size.to_u64(), one["size"]);
            let path = format!("/v1/log/checkpoint?tenant_id={TENANT}&size={}", checkpoint.size);
            assert_eq!(ask(world, &path, "*/*").1, one["checkpoint"].as_str().unwrap());
            published.push(checkpoint);
        }
        match page["next_from"].as_u64() {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(published.len(), 14);
    for (at, earlier) in published.iter().enumerate() {
        for later in &published[at..] {
            let path =
                format!("/v1/log/consistency?tenant_id={TENANT}&from={}&to={}", earlier.size, later.size);
            let (status, json) = ask(world, &path, "*/*");
            assert_eq!(status, 200, "{json:?}");
            let json: Value = serde_json::from_slice(&json).unwrap();
            let hash = |text: &Value| Hash::from_base64(text.as_str().unwrap()).unwrap();
            let proof: Vec<Hash> = json["proof"].as_array().unwrap().iter().map(hash).collect();
            verify_consistency(earlier.size, later.size, &proof, &earlier.root, &later.root).unwrap();
        }
    }
}

#[test]
fn every_receipt_is_a_signed_promise_that_was_kept() {
    let world = World::new();
    let ingest = world.ingest();
    let id = world.new_id();
    let body = event_with_id(TENANT, id);
    let key = PublicKey::of_seed(&stele::access::Secrets::new([3; 32]).receipt_seed());
    let note = |sending: &Sending, status: u16| {
        let response = at_once(ingest.handle(world.request(sending)));
        assert_eq!(response.status().as_u16(), status);
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        let receipt = if sending.batch { &body["results"][0]["receipt"] } else { &body["receipt"] };
        receipt["note"].as_str().unwrap().to_owned()
    };
    let first = note(&Sending::one(&body), 201);
    world.clock.advance_ms(5_000);
    assert_eq!(note(&Sending::one(&body), 200), first, "a replay has the first one's receipt");
    assert_eq!(note(&Sending::batch(&[body]), 200), first);
    let receipt = Receipt::open(&first, &[key.0]).unwrap();
    assert_eq!((receipt.tenant.as_str(), receipt.id, receipt.sealed_within_seconds), (TENANT, id, 60));
    let record = &world.streamed()[0];
    assert_eq!((receipt.leaf_hash, receipt.received_at), (record.leaf_hash, record.received_at));
    // Not with a key that signs something else.
    for (purpose, other) in world.public_keys().all().filter(|(purpose, _)| *purpose != Purpose::Receipts) {
        assert!(Receipt::open(&first, &[other.0]).is_err(), "{purpose:?}");
    }
    let sealer = world.sealer();
    at_once(world.deliver(&sealer, &world.streamed()));
    assert_eq!(&receipt.origin, world.tenant(TENANT).origin());
}

/// The statements of a tenant, by its objects.
fn statements(world: &World, tenant: &Tenant) -> Vec<Statement> {
    let keys = world.public_keys();
    let first = VerifierKey::new(tenant.origin().key_name(), &PublicKey::of_seed(&SEED).0).unwrap();
    let history = KeyHistory::beginning_with(first);
    let prefix = layout::statements_of(tenant.id(), tenant.log());
    let listed = at_once(world.objects.list(&prefix, None, 10_000)).unwrap();
    let open = |key: String| {
        let stored = at_once(world.objects.object(&ObjectKey::parse(&key).unwrap().key())).unwrap().unwrap();
        Statement::open(&stored.bytes, &history, &keys.statements).unwrap()
    };
    listed.into_iter().map(|object| open(object.key)).collect()
}

#[test]
fn every_log_is_stated_every_day_even_one_in_which_nothing_ever_happened() {
    let mut world = World::new();
    world.publish_every_ms = HOUR_MS;
    at_once(world.publish_key());
    world.sealed(TENANT, 3);
    let grant = stele::access::Grant::check(
        std::sync::Arc::new(stele_adapters::contract::sample::api_key("k")),
        stele::access::Scope::EventsWrite,
    )
    .unwrap();
    let empty = stele::id::TenantId::parse("org_empty").unwrap();
    let cache = world.query().tenants;
    at_once(cache.find_or_create(&grant, &empty)).unwrap();
    let sealer = world.sealer();
    let mut stated = 0;
    for _ in 0..3 * 24 {
        stated += at_once(sealer.publish_idle()).unwrap().stated;
        world.clock.advance_ms(HOUR_MS);
    }
    // Three days begun at noon are four by the calendar.
    assert_eq!(stated, 2 * 4);
    for (tenant, size) in [(TENANT, 3), ("org_empty", 0)] {
        let stated = statements(&world, &world.tenant(tenant));
        let days: BTreeSet<_> = stated.iter().map(|statement| statement.stated_at.day()).collect();
        assert_eq!((stated.len(), days.len()), (4, 4));
        assert!(stated.iter().all(|statement| statement.checkpoint.size.to_u64() == size));
    }
    world.sealed(TENANT, 2);
    world.clock.advance_ms(DAY_MS);
    at_once(sealer.publish_idle()).unwrap();
    let last = statements(&world, &world.tenant(TENANT)).pop().unwrap();
    assert_eq!(last.checkpoint.size.to_u64(), 5);
    let path = format!("/v1/log/statements?tenant_id={TENANT}&limit=3");
    let (status, page) = ask(&world, &path, "*/*");
    let page: Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(status, 200, "{page}");
    let next = page["next_after"].as_str().unwrap();
    let (_, rest) = ask(&world, &format!("{path}&after={next}"), "*/*");
    let rest: Value = serde_json::from_slice(&rest).unwrap();
    assert_eq!(rest["statements"].as_array().unwrap().len(), 2);
    assert_eq!(rest["statements"][1]["size"], 5);

    // A proof under what was stated, and witnessed if there are witnesses.
    let id = world.streamed()[0].id.shown();
    let (status, proof) =
        ask(&world, &format!("/v1/events/{id}/proof?tenant_id={TENANT}&checkpoint=stated"), "*/*");
    assert_eq!(status, 200, "{proof:?}");
    let text = std::str::from_utf8(&proof).unwrap();
    assert!(text.contains("log.example/statements"), "{text}");
    at_once(world.check());
}

#[test]
fn every_changed_bit_of_a_statement_or_a_change_of_key_is_refuted_where_it_lies() {
    let handover = Handover::new();
    let world = &handover.world;
    handover.seal(3);
    world.add_seed(SECOND_SEED);
    handover.seal(2);
    at_once(world.publish_key());
    at_once(world.sealer().publish_idle()).unwrap();
    let exhibit = at_once(crate::tamper::Exhibit::of(world.objects.as_ref()));
    let options = stele_verify::Options { pinned: vec![PublicKey::of_seed(&SEED)], ..Default::default() };
    assert_eq!(crate::tamper::report_on(&exhibit, &options).verdict(), stele_verify::Verdict::Proven);
    let keys: Vec<String> = exhibit.keys();
    let protected =
        |key: &&String| key.starts_with(layout::STATEMENTS) || key.starts_with(layout::KEY_CHANGES);
    let mut flipped = 0;
    for key in keys.iter().filter(protected) {
        for at in 0..exhibit.bytes(key).len() {
            let report = crate::tamper::report_on(&exhibit.flipped(key, at), &options);
            assert_eq!(report.verdict(), stele_verify::Verdict::Refuted, "byte {at} of `{key}`: {report:#?}");
            flipped += 1;
        }
    }
    assert!(flipped > 500, "{flipped}");
    // Without the word of the old key the new one is a stranger's.
    let change = keys.iter().find(|key| key.starts_with(layout::KEY_CHANGES)).unwrap();
    let report = crate::tamper::report_on(&exhibit.without(change), &options);
    assert_eq!(report.verdict(), stele_verify::Verdict::Refuted, "{report:#?}");
    let checks: BTreeSet<_> = report.logs[0].findings.iter().map(|finding| finding.check).collect();
    assert!(checks.contains(&stele_verify::Check::Signature), "{checks:?}");
    // A day of which nobody said anything shows, and refutes nothing.
    world.clock.advance_ms(2 * DAY_MS);
    at_once(world.sealer().publish_idle()).unwrap();
    let report = at_once(world.verify());
    assert_eq!(report.verdict(), stele_verify::Verdict::Proven);
    assert_eq!(report.logs[0].unstated.len(), 1);
}

/// The operator states that a log ended where it did not: the leaves that were sealed before show it, in segments and in the archive.
#[test]
fn a_statement_that_denies_what_was_sealed_is_refuted() {
    for is_archived in [false, true] {
        let world = World::new();
        at_once(world.publish_key());
        world.sealed(TENANT, 3);
        let tenant = world.tenant(TENANT);
        let earlier = world.head(&tenant).unwrap().checkpoint;
        world.clock.advance_ms(HOUR_MS);
        world.sealed(TENANT, 4);
        world.clock.advance_ms(DAY_MS);
        if is_archived {
            at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
            world.clock.advance_ms(40 * DAY_MS);
            at_once(world.objects.expire(world.clock.now()));
        }
        assert_eq!(at_once(world.verify()).verdict(), stele_verify::Verdict::Proven);
        let at = world.clock.now();
        let seed = stele::public_key::statement_seed(&SEED);
        let note = stele::statement::make(&earlier, &seed, at, &[]).unwrap();
        let hour = Timestamp::from_ms(at.ms() / HOUR_MS * HOUR_MS);
        let key = Object::Statement { tenant: tenant.id().clone(), log: tenant.log(), hour }.key();
        at_once(world.objects.put_if_absent(&key, note.into(), at.plus_days(4_000))).unwrap();
        let report = at_once(world.verify());
        let found = &report.logs[0].findings;
        assert_eq!(report.verdict(), stele_verify::Verdict::Refuted, "{is_archived}: {report:#?}");
        let denied = |finding: &stele_verify::Finding| finding.found.contains("nothing came after 3");
        assert!(found.iter().any(denied), "{is_archived}: {found:#?}");
    }
}

/// A log that is handed over between segments.
struct Handover {
    world: World,
}

impl Handover {
    fn new() -> Handover {
        Handover { world: World::new() }
    }

    /// Accepts an event, past all faults, and seals it.
    fn seal(&self, count: u64) {
        let world = &self.world;
        world.faults.pause();
        let ingest = world.ingest();
        let events: Vec<String> = (0..count).map(|_| event_with_id(TENANT, world.new_id())).collect();
        at_once(world.send(&ingest, &Sending::batch(&events)));
        let records = world.take_stream();
        world.faults.resume();
        at_last(|| async {
            let sealer = world.sealer();
            let outcome =
                sealer.handle(&stele_adapters::dynamodb::stream::lambda_event_of(&records, 0)).await?;
            match outcome.unsealed.into_iter().next() {
                None => Ok(()),
                Some(unsealed) => Err(unsealed.error),
            }
        });
        world.clock.advance_ms(60_000);
    }

    fn tell(&self) {
        let world = &self.world;
        self.seal(3);
        world.faults.pause();
        let old = world.sealer();
        world.add_seed(SECOND_SEED);
        world.faults.resume();
        self.seal(2);
        // Somebody who has not heard of the new key yet seals nothing, and breaks nothing.
        world.faults.pause();
        let ingest = world.ingest();
        at_once(world.send(&ingest, &Sending::one(event_with_id(TENANT, world.new_id()))));
        let waiting = world.take_stream();
        let outcome =
            at_once(old.handle(&stele_adapters::dynamodb::stream::lambda_event_of(&waiting, 0))).unwrap();
        assert_eq!(outcome.unsealed[0].error.kind(), Kind::Unavailable);
        at_once(world.deliver(&world.sealer(), &waiting));
        world.faults.resume();
        self.seal(1);
        world.faults.pause();
        self.check();
        world.faults.resume();
    }

    fn check(&self) {
        let world = &self.world;
        at_once(world.publish_key());
        let tenant = world.tenant(TENANT);
        let key = |seed| VerifierKey::new(tenant.origin().key_name(), &PublicKey::of_seed(seed).0).unwrap();
        let (old, new) = (key(&SEED), key(&SECOND_SEED));
        let listed = at_once(world.objects.list(layout::KEY_CHANGES, None, 10)).unwrap();
        let changes: Vec<KeyChange> = (listed.iter())
            .map(|object| {
                let key = ObjectKey::parse(&object.key).unwrap().key();
                let stored = at_once(world.objects.object(&key)).unwrap().unwrap();
                let opened = KeyChange::open(&stored.bytes, std::slice::from_ref(&old)).unwrap();
                assert!(opened.is_handed_over);
                opened.change
            })
            .collect();
        let [change] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!((change.from, change.public), (TreeSize::new(4), *new.public()));
        let head = world.head(&tenant).unwrap();
        let in_service = head.key.unwrap();
        assert_eq!(
            (in_service.public, in_service.from, in_service.is_told),
            (PublicKey::of_seed(&SECOND_SEED), change.from, true)
        );

        let mut history = KeyHistory::beginning_with(old.clone());
        assert!(history.follow(change));
        assert!(Checkpoint::open(&head.checkpoint, std::slice::from_ref(&new)).is_ok());
        let mut sizes = Vec::new();
        for object in at_once(world.objects.list(layout::CHECKPOINTS, None, 1000)).unwrap() {
            let Some(Object::Checkpoint { size, .. }) = ObjectKey::parse(&object.key) else { continue };
            let key = ObjectKey::parse(&object.key).unwrap().key();
            let text = at_once(world.objects.object(&key)).unwrap().unwrap().bytes;
            assert_eq!(history.open(&text).unwrap().size, size);
            let by = if size < change.from { &old } else { &new };
            assert!(Checkpoint::open(&text, std::slice::from_ref(by)).is_ok(), "size {size}");
            sizes.push(size.to_u64());
        }
        assert_eq!(sizes.last(), Some(&7));
        at_once(world.check());
        let (_, keys) = ask(world, &format!("/v1/log/keys?tenant_id={TENANT}"), "*/*");
        let keys: Value = serde_json::from_slice(&keys).unwrap();
        assert_eq!(keys[0]["vkey"], old.to_string());
        assert_eq!((&keys[0]["from_size"], &keys[0]["until_size"]), (&0.into(), &4.into()));
        assert_eq!((&keys[1]["vkey"], &keys[1]["from_size"]), (&new.to_string().into(), &4.into()));
    }
}

#[test]
fn a_log_changes_its_key_in_the_middle_and_whoever_trusts_the_old_one_can_follow() {
    let handover = Handover::new();
    handover.tell();
    // The database is lost after it: the objects say who signs.
    let world = &handover.world;
    let before = world.head(&world.tenant(TENANT)).unwrap();
    world.store.lose_caches();
    at_once(world.rebuild().run(&|_| {})).unwrap();
    let after = world.head(&world.tenant(TENANT)).unwrap();
    assert_eq!((&after.checkpoint, after.key), (&before.checkpoint, before.key));
    handover.check();
    // A new log begins with the new key, and has nothing to hand over.
    world.sealed("org_new", 1);
    let head = world.head(&world.tenant("org_new")).unwrap();
    assert_eq!(head.key.unwrap().from, TreeSize::ZERO);
    assert_eq!(at_once(world.objects.list(layout::KEY_CHANGES, None, 10)).unwrap().len(), 1);
    at_once(world.check());
    // Files of the archive are signed with what signs the log.
    for tenant in [TENANT, "org_new"] {
        at_once(world.compact(&world.compactor(), tenant, true)).unwrap();
    }
    at_once(world.check());
}

#[test]
fn every_call_of_a_handover_may_fail_in_every_way() {
    let handover = Handover::new();
    handover.tell();
    let calls = numbered(&handover.world.faults.take_log());
    let names: BTreeSet<&str> = calls.iter().map(|(call, _)| *call).collect();
    for needed in ["heads.advance", "objects.put_if_absent", "objects.list"] {
        assert!(names.contains(needed), "{names:?}");
    }
    every_fault_of(&calls, |plan| {
        let handover = Handover::new();
        plan(&handover.world);
        handover.tell();
    });
}

#[test]
fn an_id_that_is_not_there_or_not_sealed_has_no_proof() {
    let world = World::new();
    world.sealed(TENANT, 1);
    let ingest = world.ingest();
    let id = world.new_id();
    at_once(world.send(&ingest, &Sending::one(event_with_id(TENANT, id))));
    let proof =
        |id: EventId| ask(&world, &format!("/v1/events/{}/proof?tenant_id={TENANT}", id.shown()), "*/*");
    let (status, body) = proof(id);
    assert_eq!(status, 404);
    assert!(String::from_utf8_lossy(&body).contains("within 60 seconds"), "{body:?}");
    let (status, body) = proof(EventId::new(world.clock.now(), 1));
    assert_eq!(status, 404);
    assert!(String::from_utf8_lossy(&body).contains("no such event"), "{body:?}");
}
