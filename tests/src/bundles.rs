//! Evidence bundles: what they hold is proven, from segments, from the archive and behind expired leaves; whatever is changed in
//! them is found; and an operator who lies is caught by the check of that name.

use crate::proofs::leaf_hashes;
use crate::world::{GOVERNOR, HOUR_MS, SEED, Sending, World, at_once};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stele::access::LogNumber;
use stele::bundle::{BundleInfo, BundleRequest};
use stele::id::{EventId, TenantId};
use stele::layout::{self, Object, ObjectKey};
use stele::ports::{Clock, LockedObjects};
use stele::public_key::PublicKey;
use stele::receipt::Receipt;
use stele::time::DAY_MS;
use stele::tlog::checkpoint::Checkpoint;
use stele::tlog::hash::{Hash, TreeSize};
use stele::tlog::note::Note;
use stele_adapters::bundle::write_bundle;
use stele_adapters::memory_objects::MemoryObjects;
use stele_verify::{
    Check, LogReport, Options, ProofFile, ReceiptEvidence, Report, Terms, Verdict, judge_receipt,
    verify_bundle, verify_proof,
};

const TENANT: &str = "org_acme";

fn event_of(world: &World, tenant: &str, actor: u64, action: u64) -> String {
    let id: EventId = world.new_id();
    format!(
        r#"{{"id":"{}","tenant_id":"{tenant}","actor":{{"id":"u{actor}","name":"Ünï {actor}"}},"action":"invoice.a{action}","resource":{{"type":"invoice","id":"i{action}"}},"metadata":{{"n":{actor}}}}}"#,
        id.shown()
    )
}

/// Seals so many events of a few actors.
fn seal(world: &World, count: u64) {
    let ingest = world.ingest();
    let events: Vec<String> = (0..count).map(|n| event_of(world, TENANT, n % 5, n % 3)).collect();
    for events in events.chunks(500) {
        let answers = at_once(world.send(&ingest, &Sending::batch(events)));
        assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    }
    at_once(world.seal_stream(&world.sealer()));
    world.clock.advance_ms(60_000);
}

fn bundle(world: &World, folder: &Path, name: &str, request: &BundleRequest) -> stele::Result<PathBuf> {
    let path = folder.join(name);
    let tenant = TenantId::parse(TENANT).unwrap();
    let written = at_once(write_bundle(
        world.objects.clone(),
        &tenant,
        LogNumber::default(),
        request,
        world.clock.now(),
        None,
        None,
        &path,
        &|_, _| {},
    ))?;
    assert_eq!(written.bytes, fs::metadata(&path).unwrap().len());
    assert_eq!(written.sha256, Hash::of(&fs::read(&path).unwrap()));
    Ok(path)
}

fn options(world: &World) -> Options {
    Options { pinned: vec![PublicKey::of_seed(&SEED)], terms: terms(world), ..Options::default() }
}

fn terms(world: &World) -> Terms {
    Terms { now: Some(world.clock.now()), ..Terms::default() }
}

fn verified(path: &Path, options: &Options) -> Report {
    verify_bundle(path, options, &mut |_, _| {}).unwrap().report
}

fn request(filter: &[(&str, &str)], covering: bool) -> BundleRequest {
    let filter = filter.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    BundleRequest { filter: filter.collect(), covering, ..BundleRequest::default() }
}

/// A log with an expired file, one that is left, and segments.
fn mixed() -> World {
    let world = World::new();
    at_once(world.publish_key());
    for count in [1, 40, 300, 7] {
        seal(&world, count);
    }
    at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
    world.clock.advance_ms(330 * DAY_MS);
    for count in [20, 256, 3] {
        seal(&world, count);
    }
    at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
    world.clock.advance_ms(40 * DAY_MS);
    at_once(world.objects.expire(world.clock.now()));
    for count in [5, 1, 130] {
        seal(&world, count);
    }
    world
}

#[test]
fn every_kind_of_request_is_proven_and_says_what_it_is_complete_in() {
    let world = mixed();
    at_once(world.sealer().publish_idle()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let leaves = leaf_hashes(&world, &world.tenant(TENANT)).len() as u64;
    for (at, (filter, covering)) in [
        (&[][..], false),
        (&[][..], true),
        (&[("actor_id", "u3")], false),
        (&[("actor_id", "u3")], true),
        (&[("action", "invoice.a1"), ("actor_id", "u2"), ("actor_id", "u4")], false),
        (&[("search", "ünï 2")], false),
    ]
    .into_iter()
    .enumerate()
    {
        let path = bundle(&world, folder.path(), &format!("{at}.zip"), &request(filter, covering)).unwrap();
        let report = verified(&path, &options(&world));
        let log = &report.logs[0];
        let is_complete = covering || filter.is_empty();
        assert!(log.findings.is_empty(), "{log:#?}");
        assert_eq!(log.integrity, Verdict::Proven, "{filter:?}: {log:#?}");
        let complete = if is_complete { Verdict::Proven } else { Verdict::CouldNotCheck };
        assert_eq!((log.completeness, report.verdict()), (complete, complete), "{filter:?}: {log:#?}");
        assert!(log.stated_at.is_some(), "the statement covers all of it");
        let info = info(&path);
        assert_eq!((info.expired, info.tree_size), (348, leaves));
        if covering || filter.is_empty() {
            assert_eq!(log.leaves_proven, info.end - info.first);
        }
        let mut fresh = options(&world);
        fresh.terms.max_age_ms = Some(HOUR_MS);
        // Who stated it is proven by a pinned key alone.
        let by_nobody = verified(&path, &fresh);
        assert_eq!(by_nobody.logs[0].freshness, Verdict::CouldNotCheck);
        assert!(by_nobody.logs[0].notes.iter().any(|note| note.contains("pin that too")), "{by_nobody:#?}");
        fresh.pinned_statements = vec![PublicKey::of_seed(&[1; 32])];
        assert_caught(&verified(&path, &fresh), Check::Statement);
        fresh.pinned_statements = world.public_keys().statements;
        assert_eq!(verified(&path, &fresh).logs[0].freshness, Verdict::Proven);
        fresh.terms.now = Some(world.clock.now().plus_days(2));
        let stale = verified(&path, &fresh);
        assert_eq!(
            (stale.logs[0].freshness, stale.verdict()),
            (Verdict::CouldNotCheck, Verdict::CouldNotCheck)
        );
        // Without a pinned key all is of one hand, and the report says so.
        let unpinned = Options { terms: terms(&world), ..Options::default() };
        let report = verified(&path, &unpinned);
        assert_eq!((report.verdict(), report.basis), (complete, stele_verify::Basis::KeyFromFolder));
        // With another key it is nothing.
        let stranger = Options { pinned: vec![PublicKey::of_seed(&[99; 32])], ..options(&world) };
        assert_caught(&verified(&path, &stranger), Check::Signature);
    }
    let nothing = bundle(&world, folder.path(), "none.zip", &request(&[("actor_id", "nobody")], false));
    let error = nothing.unwrap_err();
    assert!(error.detail().contains("348 of the log have expired"), "{error}");
    assert!(bundle(&world, folder.path(), "bad.zip", &request(&[("nonsense", "x")], false)).is_err());
    // Nothing else is left behind.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
}

fn info(path: &Path) -> BundleInfo {
    let mut unpacked = stele_adapters::bundle::Unpacked::open(path).unwrap();
    BundleInfo::parse(&unpacked.entry(stele::bundle::INFO).unwrap()).unwrap()
}

fn assert_caught(report: &Report, check: Check) {
    let found: BTreeSet<Check> =
        report.logs.iter().flat_map(|log| &log.findings).chain(&report.findings).map(|f| f.check).collect();
    assert_eq!(report.verdict(), Verdict::Refuted, "{report:#?}");
    assert!(found.contains(&check), "{check:?} is not among {found:?}: {report:#?}");
}

/// Flips bits of a file and holds that it is refuted each time.
fn flip(path: &Path, options: &Options, flips: impl Iterator<Item = (usize, u8)>) -> u64 {
    let good = fs::read(path).unwrap();
    let bad = path.with_extension("bad");
    let mut count = 0;
    for (at, bit) in flips {
        let mut changed = good.clone();
        changed[at] ^= 1 << bit;
        fs::write(&bad, &changed).unwrap();
        let report = verify_bundle(&bad, options, &mut |_, _| {}).unwrap().report;
        assert_eq!(report.verdict(), Verdict::Refuted, "byte {at}, bit {bit}: {report:#?}");
        count += 1;
    }
    count
}

/// Files that went in the middle or altogether leave gaps: what is left is proven across them.
#[test]
fn what_is_left_is_proven_across_gaps() {
    let objects = Arc::new(MemoryObjects::new());
    let world = World::over(objects.clone(), World::new().clock);
    at_once(world.publish_key());
    for counts in [&[90][..], &[300, 7], &[20, 256, 3], &[600]] {
        for count in counts {
            seal(&world, *count);
        }
        at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
        world.clock.advance_ms(DAY_MS);
    }
    world.clock.advance_ms(40 * DAY_MS);
    at_once(world.objects.expire(world.clock.now()));
    seal(&world, 5);
    at_once(world.sealer().publish_idle()).unwrap();
    let tenant = TenantId::parse(TENANT).unwrap();
    let listed =
        at_once(objects.list(&layout::archive_of(&tenant, LogNumber::default()), None, 100)).unwrap();
    let files: Vec<ObjectKey> = listed
        .iter()
        .filter_map(|object| ObjectKey::parse(&object.key))
        .filter(|object| matches!(object, Object::Archive { .. }))
        .map(|object| object.key())
        .collect();
    assert_eq!(files.len(), 4, "{files:?}");
    let folder = tempfile::tempdir().unwrap();
    // The second; the first too; the last, so that only segments follow what is left; all of them.
    for (at, (gone, expired)) in
        [(&[1_usize][..], 307), (&[0], 397), (&[3], 997), (&[2], 1_276)].into_iter().enumerate()
    {
        for file in gone {
            assert!(objects.lose(&files[*file]));
        }
        for covering in [false, true] {
            let asked = request(&[("actor_id", "u3")], covering);
            let made = bundle(&world, folder.path(), &format!("{at}.zip"), &asked);
            if covering && at % 2 == 0 {
                // Nobody can hand over all of a range that has gone in part.
                let told = if at == 0 { "leaves 90 to 397" } else { "leaves 676 to 1276" };
                assert!(made.unwrap_err().detail().contains(told));
                continue;
            }
            let path = made.unwrap_or_else(|error| panic!("{at}, {covering}: {error}"));
            let report = verified(&path, &options(&world));
            assert_eq!(info(&path).expired, expired);
            assert!(report.logs[0].findings.is_empty(), "{at}: {report:#?}");
            assert_eq!(report.logs[0].integrity, Verdict::Proven, "{at}: {report:#?}");
            assert_eq!(report.logs[0].completeness == Verdict::Proven, covering, "{at}: {report:#?}");
        }
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 4, "nothing half written is left: {left:?}");
}

#[test]
fn every_changed_bit_of_a_small_bundle_is_refuted() {
    let world = World::new();
    at_once(world.publish_key());
    seal(&world, 4);
    seal(&world, 2);
    at_once(world.sealer().publish_idle()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(&world, folder.path(), "small.zip", &request(&[("actor_id", "u1")], true)).unwrap();
    let options = options(&world);
    assert_eq!(verified(&path, &options).verdict(), Verdict::Proven);
    let bytes = fs::metadata(&path).unwrap().len() as usize;
    let flips = (0..bytes).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    // All of them take half a minute; in the normal run every byte is changed in one bit.
    let count = match std::env::var_os("STELE_LONG") {
        Some(_) => flip(&path, &options, flips),
        None => flip(&path, &options, (0..bytes).map(|at| (at, (at % 8) as u8))),
    };
    println!("{count} changes of {bytes} bytes, all refuted");
    for cut in [0, 1, bytes / 2, bytes - 1] {
        let shorter = path.with_extension("cut");
        fs::write(&shorter, &fs::read(&path).unwrap()[..cut]).unwrap();
        assert_eq!(verified(&shorter, &options).verdict(), Verdict::Refuted, "cut at {cut}");
    }
    let mut longer = fs::read(&path).unwrap();
    longer.push(0);
    fs::write(path.with_extension("long"), longer).unwrap();
    assert_eq!(verified(&path.with_extension("long"), &options).verdict(), Verdict::Refuted);
}

#[test]
fn random_changed_bits_of_a_large_bundle_are_refuted() {
    let world = mixed();
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(&world, folder.path(), "large.zip", &request(&[], false)).unwrap();
    let options = options(&world);
    assert_eq!(verified(&path, &options).verdict(), Verdict::Proven);
    let bytes = fs::metadata(&path).unwrap().len();
    let many = if std::env::var_os("STELE_LONG").is_some() { 20_000 } else { 500 };
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    flip(&path, &options, (0..many).map(|_| ((random() % bytes) as usize, (random() % 8) as u8)));
}

/// Packs other contents, with right hashes, as a liar would.
fn repacked(path: &Path, change: &dyn Fn(&str, Vec<u8>) -> Vec<u8>) -> PathBuf {
    let mut unpacked = stele_adapters::bundle::Unpacked::open(path).unwrap();
    let entries: Vec<(&str, Vec<u8>)> = stele::bundle::ENTRIES[..6]
        .iter()
        .map(|name| (*name, change(name, unpacked.entry(name).unwrap())))
        .collect();
    let out = path.with_extension("lie");
    stele_adapters::bundle::pack_entries(&out, &entries).unwrap();
    out
}

#[test]
fn a_liar_is_caught_by_the_check_of_that_name() {
    let world = World::new();
    at_once(world.publish_key());
    seal(&world, 30);
    seal(&world, 10);
    let folder = tempfile::tempdir().unwrap();
    let all = bundle(&world, folder.path(), "all.zip", &request(&[("actor_id", "u1")], true)).unwrap();
    let some = bundle(&world, folder.path(), "some.zip", &request(&[("actor_id", "u1")], false)).unwrap();
    let options = options(&world);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let lie = |path: &Path, entry: &'static str, from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        repacked(path, &move |name, bytes| match name == entry {
            true => {
                let changed = text(bytes.clone()).replace(&from, &to);
                assert_ne!(changed.as_bytes(), bytes, "{from}");
                changed.into_bytes()
            }
            false => bytes,
        })
    };
    // Repacked as it is, it still is what it was.
    assert_eq!(verified(&repacked(&all, &|_, bytes| bytes), &options).verdict(), Verdict::Proven);
    // The events of a selection, passed off as all of a range: one out of N is missing.
    let some_events = {
        let mut unpacked = stele_adapters::bundle::Unpacked::open(&some).unwrap();
        unpacked.entry(stele::bundle::EVENTS).unwrap()
    };
    let omitted = repacked(&all, &|name, bytes| {
        if name == stele::bundle::EVENTS { some_events.clone() } else { bytes }
    });
    assert_caught(&verified(&omitted, &options), Check::Contiguity);
    assert_caught(&verified(&omitted, &options), Check::Count);
    let counts = lie(&all, "bundle.json", "\"matches\": 8", "\"matches\": 7");
    assert_caught(&verified(&counts, &options), Check::Count);
    let other = lie(&all, "bundle.json", "\"u1\"", "\"u2\"");
    assert_caught(&verified(&other, &options), Check::Filter);
    let tenant = lie(&all, "bundle.json", "org_acme", "org_evil");
    assert_caught(&verified(&tenant, &options), Check::Origin);
    // A checkpoint signed with an unknown key, its public half put beside it.
    let stranger = [66; 32];
    let forged = repacked(&all, &|name, bytes| match name {
        "checkpoint.txt" => {
            let note = Note::parse(&bytes).unwrap();
            let checkpoint = Checkpoint::parse(note.text()).unwrap();
            let signer = checkpoint.origin.signer(&stranger);
            checkpoint.sign(&signer).unwrap().into_bytes()
        }
        _ => bytes,
    });
    assert_caught(&verified(&forged, &options), Check::Signature);
    let unpinned = Options { terms: terms(&world), ..Options::default() };
    assert_caught(&verified(&forged, &unpinned), Check::Signature);
    // A log rolled back, or another history: of the size that was saved there is another root.
    let forked = World::new();
    at_once(forked.publish_key());
    seal(&forked, 40);
    let saved = forked.head(&forked.tenant(TENANT)).unwrap().checkpoint;
    let since = Options { since: vec![saved], ..options.clone() };
    assert_caught(&verified(&all, &since), Check::SavedCheckpoint);
    let honest = world.head(&world.tenant(TENANT)).unwrap().checkpoint;
    let since = Options { since: vec![honest], ..options.clone() };
    assert_eq!(verified(&all, &since).verdict(), Verdict::Proven);
    // What an auditor reads and runs is nobody's to change.
    let sql = lie(&all, "verify.sql", "'FAILED'", "'ok'");
    assert_caught(&verified(&sql, &options), Check::Container);
    let readme = lie(&all, "README.txt", "You need not trust", "Trust");
    assert_caught(&verified(&readme, &options), Check::Container);
    // A part of the log, passed off as all of it.
    let range = BundleRequest { from_leaf: Some(3), until_leaf: Some(20), ..BundleRequest::default() };
    let part = bundle(&world, folder.path(), "part.zip", &range).unwrap();
    assert_eq!(verified(&part, &options).verdict(), Verdict::Proven);
    assert_caught(
        &verified(&lie(&part, "bundle.json", "\"from_leaf\": 3", "\"from_leaf\": 2"), &options),
        Check::Count,
    );
    assert_caught(
        &verified(&lie(&part, "bundle.json", "\"until_leaf\": 20", "\"until_leaf\": 21"), &options),
        Check::Count,
    );
    assert_caught(
        &verified(&lie(&part, "bundle.json", ",\n    \"until_leaf\": 20", ""), &options),
        Check::Count,
    );
    // An event that was changed in one letter.
    let events = repacked(&all, &|name, mut bytes| {
        if name == stele::bundle::EVENTS {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
        }
        bytes
    });
    assert_eq!(verified(&events, &options).verdict(), Verdict::Refuted);
}

#[test]
fn a_key_that_changed_is_followed_in_a_bundle_too() {
    let world = World::new();
    at_once(world.publish_key());
    seal(&world, 5);
    world.add_seed([45; 32]);
    seal(&world, 5);
    at_once(world.publish_key());
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(&world, folder.path(), "a.zip", &request(&[], false)).unwrap();
    for pinned in [vec![], vec![[7; 32]], vec![[45; 32]], vec![[7; 32], [45; 32]]] {
        let pinned: Vec<_> = pinned.iter().map(PublicKey::of_seed).collect();
        let report = verified(&path, &Options { pinned, terms: terms(&world), ..Options::default() });
        assert_eq!(report.verdict(), Verdict::Proven, "{report:#?}");
    }
    let stranger = Options { pinned: vec![PublicKey::of_seed(&[46; 32])], ..Options::default() };
    assert_eq!(verified(&path, &stranger).verdict(), Verdict::Refuted);
}

#[test]
fn a_proof_and_a_receipt_say_kept_broken_or_could_not_check() {
    let world = World::new();
    at_once(world.publish_key());
    let ingest = world.ingest();
    let body = event_of(&world, TENANT, 1, 1);
    let response = at_once(ingest.handle(world.request(&Sending::one(body))));
    let answer: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    let note = answer["receipt"]["note"].as_str().unwrap();
    let keys = world.public_keys();
    let receipt = Receipt::open(note, &[keys.receipts[0].0]).unwrap();
    let lost = world.take_stream();
    seal(&world, 3);
    world.clock.advance_ms(DAY_MS);
    at_once(world.sealer().publish_idle()).unwrap();
    let report = |evidence: &ReceiptEvidence, options: &Options| {
        judge_receipt(note, &keys.receipts, &at_once(world.verify()), evidence, options)
    };
    let opts = options(&world);
    // The operator sealed others and not this one: the statement of a day later says that nothing came after them.
    let of_log = at_once(world.verify());
    let stated_at = of_log.logs[0].stated_at;
    assert!(stated_at.is_some());
    assert_caught(&report(&ReceiptEvidence::Absent(stated_at), &opts), Check::Receipt);
    for too_early in [None, Some(receipt.received_at)] {
        assert_eq!(report(&ReceiptEvidence::Absent(too_early), &opts).verdict(), Verdict::CouldNotCheck);
    }
    let unknown = ReceiptEvidence::Unknown("some expired".to_owned());
    assert_eq!(report(&unknown, &opts).verdict(), Verdict::CouldNotCheck);
    assert_caught(&report(&ReceiptEvidence::Sealed(Hash::of(b"other")), &opts), Check::Receipt);
    at_once(world.deliver(&world.sealer(), &lost));
    let mut looking = options(&world);
    looking.terms.looked_for = Some(receipt.id);
    let of_log = at_once(stele_verify::verify(
        &crate::tamper::evidence_of(world.objects.clone()),
        &looking,
        &|_, _| {},
    ))
    .unwrap();
    let (found, is_signed) = of_log.logs[0].found.unwrap();
    assert!(is_signed);
    assert_eq!(report(&ReceiptEvidence::Sealed(found), &opts).verdict(), Verdict::Proven);
    // Found in another log, or nowhere; under no checkpoint; not seen by the witnesses that were asked for; in a log of which not
    // all could be checked: none of it is a promise kept or broken.
    let judged = |change: &dyn Fn(&mut LogReport)| {
        let mut of_log = of_log.clone();
        of_log.logs.iter_mut().for_each(change);
        let evidence = of_log.logs.first().map(ReceiptEvidence::of_log).unwrap();
        judge_receipt(note, &keys.receipts, &of_log, &evidence, &opts).verdict()
    };
    assert_eq!(judged(&|_| {}), Verdict::Proven);
    let nowhere =
        judge_receipt(note, &keys.receipts, &Report::default(), &ReceiptEvidence::Sealed(found), &opts);
    assert_eq!(nowhere.verdict(), Verdict::CouldNotCheck);
    for change in [
        (&|log: &mut LogReport| log.origin = Some("log.example/other".to_owned())) as &dyn Fn(&mut LogReport),
        &|log| log.found = Some((found, false)),
        &|log| log.unmet = Some("a witness".to_owned()),
        &|log| {
            log.found = None;
            log.unchecked.push("a gap".to_owned());
        },
    ] {
        assert_eq!(judged(change), Verdict::CouldNotCheck);
    }
    assert_eq!(judged(&|log| log.found = None), Verdict::Refuted, "all of it was seen, and it is not there");
    // A key for statements is believed by itself, too.
    let stranger = Options { pinned_statements: vec![PublicKey::of_seed(&[1; 32])], ..Options::default() };
    let evidence = crate::tamper::evidence_of(world.objects.clone());
    assert_caught(
        &at_once(stele_verify::verify(&evidence, &stranger, &|_, _| {})).unwrap(),
        Check::Statement,
    );
    for at in 0..note.len() {
        let mut changed = note.as_bytes().to_vec();
        changed[at] ^= 1;
        let changed = String::from_utf8_lossy(&changed).into_owned();
        let judged = judge_receipt(&changed, &keys.receipts, &of_log, &ReceiptEvidence::Sealed(found), &opts);
        assert_eq!(judged.verdict(), Verdict::Refuted, "byte {at}");
    }

    // The proof of the same event, as text and as JSON.
    let proof = |accept: &str| {
        let path = format!("/v1/events/{}/proof?tenant_id={TENANT}", receipt.id.shown());
        let request = http::Request::get(path)
            .header("authorization", format!("Bearer {GOVERNOR}"))
            .header("accept", accept)
            .body(bytes::Bytes::new())
            .unwrap();
        let response = at_once(world.query().handle(request));
        String::from_utf8(response.into_body().to_vec()).unwrap()
    };
    let (text, json) = (proof("*/*"), proof("application/json"));
    let with_event = ProofFile::parse(&json).unwrap();
    assert_eq!(verify_proof(&with_event, &opts).verdict(), Verdict::Proven);
    let mut alone = ProofFile::parse(&text).unwrap();
    assert_eq!(verify_proof(&alone, &opts).verdict(), Verdict::CouldNotCheck, "without the event");
    alone.leaf = Some(lost[0].leaf.as_bytes().to_vec());
    assert_eq!(verify_proof(&alone, &opts).verdict(), Verdict::Proven);
    let unpinned = Options { terms: terms(&world), ..Options::default() };
    assert_eq!(verify_proof(&alone, &unpinned).verdict(), Verdict::CouldNotCheck, "without a key");
    for form in [&text, &json] {
        for at in 0..form.len() {
            for bit in [0, 3, 6] {
                let mut changed = form.as_bytes().to_vec();
                changed[at] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(changed) else { continue };
                let Ok(mut file) = ProofFile::parse(&changed) else { continue };
                if file.leaf.is_none() {
                    file.leaf = Some(lost[0].leaf.as_bytes().to_vec());
                }
                let verdict = verify_proof(&file, &opts).verdict();
                assert_eq!(verdict, Verdict::Refuted, "byte {at}, bit {bit}: {changed}");
            }
        }
    }
}

#[test]
fn duckdb_alone_proves_a_bundle_and_finds_what_was_changed_in_it() {
    let python = crate::aws::python("readers");
    let world = mixed();
    let folder = tempfile::tempdir().unwrap();
    for (name, request) in
        [("some", request(&[("actor_id", "u3")], false)), ("all", request(&[("actor_id", "u3")], true))]
    {
        let path = bundle(&world, folder.path(), &format!("{name}.zip"), &request).unwrap();
        let mut unpacked = stele_adapters::bundle::Unpacked::open(&path).unwrap();
        let unzipped = folder.path().join(name);
        fs::create_dir(&unzipped).unwrap();
        for entry in stele::bundle::ENTRIES {
            fs::write(unzipped.join(entry), unpacked.entry(entry).unwrap()).unwrap();
        }
        let run = || {
            let code = "import duckdb,sys\n\
                c=duckdb.connect()\n\
                bad=[]\n\
                for s in duckdb.extract_statements(open('verify.sql').read()):\n\
                \x20 r=c.execute(s)\n\
                \x20 for row in (r.fetchall() if r.description else []):\n\
                \x20  if len(row)==3:\n\
                \x20   print(row)\n\
                \x20   bad+=[row] if row[1]!='ok' else []\n\
                sys.exit(1 if bad else 0)\n";
            let output = std::process::Command::new(&python)
                .args(["-c", code])
                .current_dir(&unzipped)
                .output()
                .unwrap();
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            (output.status.code(), said)
        };
        let (code, said) = run();
        assert_eq!((code, said.matches("'ok'").count()), (Some(0), 4), "{said}");
        // Another root, another size, a smaller claim: refuted.
        let good = fs::read_to_string(unzipped.join("checkpoint.txt")).unwrap();
        let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
        lines[2] = Hash::of(b"x").to_base64();
        fs::write(unzipped.join("checkpoint.txt"), lines.join("\n")).unwrap();
        assert_eq!(run().0, Some(1), "another root");
        fs::write(unzipped.join("checkpoint.txt"), good).unwrap();
        let index = fs::read_to_string(unzipped.join("bundle.json")).unwrap();
        fs::write(unzipped.join("bundle.json"), index.replace("\"leaves\": ", "\"leaves\": 1")).unwrap();
        assert_eq!(run().0, Some(1), "another count");
        fs::write(unzipped.join("bundle.json"), &index).unwrap();
        // One row of the events forged, also by nothing at all where something should be.
        let events = fs::read(unzipped.join("events.parquet")).unwrap();
        for forged in [
            "NULL AS outcome",
            "NULL AS id",
            "'u9' AS actor_id",
            "NULL AS proof",
            "[]::BLOB[] AS proof",
            "NULL AS leaf",
            "leaf || ' '::BLOB AS leaf",
            "NULL AS leaf_index",
            "NULL AS occurred_at",
        ] {
            fs::write(unzipped.join("good.parquet"), &events).unwrap();
            let (value, column) = forged.split_once(" AS ").unwrap();
            let code = format!(
                "import duckdb\n\
                 c=duckdb.connect()\n\
                 c.execute(\"COPY (SELECT * REPLACE (CASE WHEN leaf_index = (SELECT max(leaf_index) FROM 'good.parquet') THEN {value} ELSE {column} END AS {column}) \
                 FROM 'good.parquet') TO 'events.parquet' (FORMAT parquet)\")\n"
            );
            let made = std::process::Command::new(&python)
                .args(["-c", &code])
                .current_dir(&unzipped)
                .output()
                .unwrap();
            assert!(made.status.success(), "{forged}: {}", String::from_utf8_lossy(&made.stderr));
            let (code, said) = run();
            assert_eq!(code, Some(1), "{forged}: {said}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_requests_over_random_logs_are_proven(
        sizes in prop::collection::vec(1..300_u64, 1..5),
        archived in 0..4_usize,
        actor in 0..6_u64,
        covering: bool,
        action in prop::option::of(0..4_u64),
    ) {
        let world = World::new();
        at_once(world.publish_key());
        for (at, size) in sizes.iter().enumerate() {
            seal(&world, *size);
            if at + 1 == archived {
                at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let (actor, action) = (format!("u{actor}"), action.map(|n| format!("invoice.a{n}")));
        let mut filter = vec![("actor_id", actor.as_str())];
        filter.extend(action.as_deref().map(|action| ("action", action)));
        match bundle(&world, folder.path(), "a.zip", &request(&filter, covering)) {
            Ok(path) => {
                let report = verified(&path, &options(&world));
                let log = &report.logs[0];
                prop_assert!(log.findings.is_empty(), "{:#?}", log);
                prop_assert_eq!(log.integrity, Verdict::Proven);
                let is_whole = log.leaves_proven == sizes.iter().sum::<u64>();
                prop_assert_eq!(log.completeness == Verdict::Proven, covering || is_whole);
                let matching = world.streamed().iter().filter(|record| {
                    record.actor_id == actor && action.as_ref().is_none_or(|action| *record.action == **action)
                }).count() as u64;
                prop_assert_eq!(info(&path).matches, matching);
            }
            Err(error) => prop_assert!(error.detail().contains("no sealed event matches"), "{}", error),
        }
    }
}

#[test]
fn a_small_bundle_comes_over_http_and_a_large_one_is_refused() {
    let world = mixed();
    let folder = tempfile::tempdir().unwrap();
    let ask = |query: &str| {
        let request =
            http::Request::get(format!("/v1/events/export?format=evidence&tenant_id={TENANT}{query}"))
                .header("authorization", format!("Bearer {GOVERNOR}"))
                .body(bytes::Bytes::new())
                .unwrap();
        let response = at_once(world.query().handle(request));
        (response.status().as_u16(), response.into_body())
    };
    for (query, complete) in [
        ("", Verdict::Proven),
        ("&actor_id=u3", Verdict::CouldNotCheck),
        ("&actor_id=u3&covering=true", Verdict::Proven),
    ] {
        let (status, body) = ask(query);
        assert_eq!(status, 200, "{body:?}");
        let path = folder.path().join("a.zip");
        fs::write(&path, &body).unwrap();
        let report = verified(&path, &options(&world));
        assert_eq!(
            (report.logs[0].integrity, report.logs[0].completeness),
            (Verdict::Proven, complete),
            "{report:#?}"
        );
    }
    assert_eq!(ask("&actor_id=nobody").0, 404);
    assert_eq!(ask("&covering=maybe").0, 400);
    let few = stele_adapters::bundle::BundleLimits { leaves: 10, read: 1_000, bytes: 1 << 20 };
    for limits in [
        few,
        stele_adapters::bundle::BundleLimits { leaves: 1_000, read: 100, ..few },
        stele_adapters::bundle::BundleLimits { leaves: 1_000, bytes: 1_000, ..few },
    ] {
        let path = folder.path().join("large.zip");
        let tenant = TenantId::parse(TENANT).unwrap();
        let refused = at_once(write_bundle(
            world.objects.clone(),
            &tenant,
            LogNumber::default(),
            &request(&[], false),
            world.clock.now(),
            None,
            Some(limits),
            &path,
            &|_, _| {},
        ));
        assert_eq!(refused.unwrap_err().code(), stele::Code::ExportTooLarge);
        assert!(!path.exists());
    }
}

#[test]
fn an_archived_object_of_another_tenant_is_in_no_bundle() {
    let world = World::new();
    at_once(world.publish_key());
    seal(&world, 3);
    world.sealed("org_other", 3);
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(&world, folder.path(), "a.zip", &request(&[], false)).unwrap();
    assert!(!String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("org_other"));
    let listed = at_once(world.objects.list(layout::CHECKPOINTS, None, 100)).unwrap();
    let of_log = listed.iter().filter(|object| {
        matches!(ObjectKey::parse(&object.key), Some(Object::Checkpoint { tenant, .. }) if tenant.as_str() == TENANT)
    });
    assert_eq!(of_log.count(), 1);
    assert_eq!(info(&path).tree_size, TreeSize::new(3).to_u64());
}

/// A segment that landed after the last locked checkpoint is signed by nobody yet.
#[test]
fn a_bundle_ends_where_what_is_signed_ends() {
    let mut world = World::new();
    at_once(world.publish_key());
    world.publish_every_ms = DAY_MS;
    seal(&world, 7);
    let later = world.clock.now();
    seal(&world, 5);
    let folder = tempfile::tempdir().unwrap();
    for (name, covering) in [("all.zip", false), ("covering.zip", true)] {
        let path = bundle(&world, folder.path(), name, &request(&[], covering)).unwrap();
        let info = info(&path);
        assert_eq!((info.first, info.end, info.tree_size, info.matches), (0, 7, 7, 7));
        let report = verified(&path, &options(&world));
        assert_eq!(report.verdict(), Verdict::Proven, "{report:#?}");
    }
    let unsigned = request(&[("from", &later.to_string())], false);
    let refused = bundle(&world, folder.path(), "none.zip", &unsigned).unwrap_err();
    assert!(refused.detail().contains("leaf 7 is under no checkpoint yet"), "{refused}");
    // Once it is signed it is there.
    world.publish_every_ms = 0;
    seal(&world, 1);
    let path = bundle(&world, folder.path(), "rest.zip", &unsigned).unwrap();
    assert_eq!((info(&path).first, info(&path).end), (7, 13));
    // And a range of leaves is kept to.
    let range = BundleRequest { from_leaf: Some(5), until_leaf: Some(9), ..BundleRequest::default() };
    let path = bundle(&world, folder.path(), "range.zip", &range).unwrap();
    assert_eq!((info(&path).first, info(&path).end, info(&path).matches), (5, 9, 4));
    assert_eq!(verified(&path, &options(&world)).verdict(), Verdict::Proven);
}
