//! Witnesses: a real `stele witness`, spoken to as its specification says, killed between requests, asked by our own sealing,
//! and held to by the verifier.

use crate::process;
use crate::strangers::strangers_accept_the_cosignature;
use crate::world::{HOUR_MS, World, at_once};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use stele::ports::Clock;
use stele::tlog::checkpoint::{Checkpoint, Origin};
use stele::tlog::cosignature::CosignerKey;
use stele::tlog::hash::{Hash, TreeSize, leaf_hash};
use stele::tlog::note::Note;
use stele::tlog::policy::Policy;
use stele::tlog::proof::consistency_proof;
use stele::tlog::tree::RightEdge;
use stele::tlog::witness::{AddCheckpoint, parse_cosignatures};
use stele_adapters::witnesses::Witness;
use stele_verify::{Options, Terms, Verdict, verify};

const LOG_NAME: &str = "log.example";

struct Running {
    child: Child,
    url: String,
    key: CosignerKey,
}

impl Running {
    fn start(data: &Path, public_key: &str) -> Running {
        let mut child =
            process::command(["witness", "--listen", "127.0.0.1:0", "--name", "witness.example/w1"])
                .args(["--log-name", LOG_NAME, "--public-key", public_key, "--data"])
                .arg(data)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut url = None;
        for line in lines.map_while(Result::ok) {
            if let Some(rest) = line.trim().strip_prefix("for the operator ") {
                url =
                    rest.split_once(' ').map(|(url, key)| (url.to_owned(), CosignerKey::parse(key).unwrap()));
                break;
            }
        }
        let (url, key) = url.expect("the witness says where it is");
        Running { child, url, key }
    }

    fn post(&self, body: &str) -> (u16, String, String) {
        post(&self.url, body).expect("the witness answers")
    }

    /// Gone, without a word: kill -9.
    fn kill(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that fails leaves no witness behind.
        let _gone_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// `None` if no whole answer came.
fn post(url: &str, body: &str) -> Option<(u16, String, String)> {
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let agent: ureq::Agent = config.into();
    let mut response = agent.post(format!("{url}/add-checkpoint")).send(body).ok()?;
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    Some((response.status().as_u16(), kind, response.body_mut().read_to_string().ok()?))
}

fn leaves(history: u64, count: u64) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(&[n, history * (n / 4)].map(u64::to_be_bytes).concat())).collect()
}

fn request(history: u64, old: u64, new: u64) -> AddCheckpoint {
    let origin = Origin::new(LOG_NAME, "0123").unwrap();
    let leaves = leaves(history, new);
    let mut edge = RightEdge::empty();
    edge.extend(leaves.iter().copied());
    let note =
        Checkpoint::new(origin.clone(), edge.size(), edge.root()).sign(&origin.signer(&[7; 32])).unwrap();
    let proof = match old {
        0 => Vec::new(),
        _ => consistency_proof(&leaves, TreeSize::new(old), TreeSize::new(new)).unwrap_or_default(),
    };
    AddCheckpoint { old: TreeSize::new(old), proof, checkpoint: Note::parse(note).unwrap() }
}

fn public_key() -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(stele::public_key::PublicKey::of_seed(&[7; 32]).0)
}

#[test]
fn a_witness_follows_one_history_through_kills_and_keeps_evidence_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let witness = Running::start(folder.path(), &public_key());
    let cosigned = |witness: &Running, request: &AddCheckpoint| {
        let (status, _, body) = witness.post(&request.to_string());
        assert_eq!(status, 200, "{body}");
        let signatures = parse_cosignatures(&request.checkpoint, &body).unwrap();
        let note = Note::new(request.checkpoint.text().to_owned(), signatures).unwrap();
        let seconds = witness.key.cosigned(&note).unwrap().unwrap();
        strangers_accept_the_cosignature(&witness.key, &note, seconds);
    };
    cosigned(&witness, &request(0, 0, 6));
    let key = witness.key.clone();
    witness.kill();
    let witness = Running::start(folder.path(), &public_key());
    assert_eq!(witness.key, key, "it is the same witness");
    for (request, status, kind, body) in [
        (request(0, 0, 9), 409, "text/x.tlog.size", "6\n"),
        (request(1, 6, 9), 422, "text/plain; charset=utf-8", ""),
        (request(1, 6, 6), 409, "text/x.tlog.size", "6\n"),
        (request(0, 6, 5), 400, "text/plain; charset=utf-8", ""),
    ] {
        let answer = witness.post(&request.to_string());
        assert_eq!((answer.0, answer.1.as_str()), (status, kind), "{answer:?}");
        assert!(body.is_empty() || answer.2 == body, "{answer:?}");
    }
    assert_eq!(witness.post("old 0\n\nnonsense").0, 400);
    let unknown = request(0, 0, 3).to_string().replace("log.example/0123", "log.elsewhere/0123");
    assert_eq!(witness.post(&unknown).0, 404);
    let forged = request(0, 6, 9).to_string().replace("AA", "AB");
    assert!(matches!(witness.post(&forged).0, 400 | 403 | 422));
    let mut evidence: Vec<String> = std::fs::read_dir(folder.path().join("evidence"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    evidence.sort();
    let kinds: Vec<_> = evidence.iter().map(|name| (&name[..8], name.rsplit_once('.').unwrap().1)).collect();
    let kept = ["cosigned", "request"];
    assert_eq!(kinds[..2], kept.map(|end| ("no-proof", end)), "{evidence:?}");
    assert_eq!(kinds[kinds.len() - 2..], kept.map(|end| ("two-root", end)), "{evidence:?}");
    // Of many that race from the same size, one is first, and all others are told where it is then.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let sent: Vec<_> = (7..15_u64)
            .map(|n| {
                let witness = &witness;
                scope.spawn(move || witness.post(&request(0, 6, n).to_string()).0)
            })
            .collect();
        sent.into_iter().map(|sent| sent.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 409)));
    let mut listed = ureq::get(format!("{}/logs", witness.url)).call().unwrap();
    let listed = listed.body_mut().read_to_string().unwrap();
    assert!(listed.starts_with("log.example/0123 "), "{listed}");
    let mut second = process::command(["witness", "--listen", "127.0.0.1:0", "--name", "witness.example/w1"])
        .args(["--log-name", LOG_NAME, "--public-key", &public_key(), "--data"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(
        second.wait().unwrap().code(),
        Some(2),
        "two in one folder would not see each other's records"
    );
    witness.kill();
}

#[test]
fn a_witness_killed_at_any_moment_remembers_what_it_has_cosigned() {
    let folder = tempfile::tempdir().unwrap();
    let mut cosigned = 0;
    for round in 0..20 {
        let witness = Running::start(folder.path(), &public_key());
        let (status, _, body) = witness.post(&request(0, 0, cosigned + 1).to_string());
        let mut at: u64 = if status == 200 { cosigned + 1 } else { body.trim_end().parse().unwrap() };
        assert!(at == cosigned || at == cosigned + 1, "it has {at}, and had cosigned {cosigned}");
        let url = witness.url.clone();
        let sender = std::thread::spawn(move || {
            while let Some((status, _, body)) = post(&url, &request(0, at, at + 1).to_string()) {
                assert_eq!(status, 200, "{body}");
                at += 1;
            }
            at
        });
        std::thread::sleep(std::time::Duration::from_millis(7 * round));
        witness.kill();
        cosigned = sender.join().unwrap();
    }
    assert!(cosigned > 20, "{cosigned} were cosigned in all rounds");
    let witness = Running::start(folder.path(), &public_key());
    assert_eq!(
        witness.post(&request(1, cosigned, cosigned + 1).to_string()).0 / 100,
        4,
        "one history to the end"
    );
    let listed =
        ureq::get(format!("{}/logs", witness.url)).call().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!(listed.lines().count(), 1, "{listed}");
}

#[test]
fn what_is_stated_is_cosigned_by_witnesses_and_the_policy_decides() {
    let folder = tempfile::tempdir().unwrap();
    let witness = Running::start(folder.path(), &public_key());
    let mut world = World::new();
    at_once(world.publish_key());
    world.witnesses = Witness::all(&format!("{} {}", witness.url, witness.key)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let state = |world: &World| {
        let done = runtime.block_on(world.sealer().publish_idle()).unwrap();
        assert_eq!(done.failed, 0);
        done.stated
    };
    world.sealed("org_acme", 5);
    assert_eq!(state(&world), 1);
    assert_eq!(state(&world), 0, "the hour has its statement");
    world.clock.advance_ms(HOUR_MS);
    assert_eq!(state(&world), 0, "nothing is new");
    world.sealed("org_acme", 8);
    assert_eq!(state(&world), 1, "what is new is witnessed within the hour");
    let policy = |text: &str| Policy::parse(text).unwrap();
    let one = policy(&format!("witness W {}\nquorum W\n", witness.key));
    let report = |policy: &Policy| {
        let terms = Terms { now: Some(world.clock.now()), policy: Some(policy.clone()), ..Terms::default() };
        let options = Options { terms, ..Options::default() };
        let evidence = crate::tamper::evidence_of(world.objects.clone());
        runtime.block_on(verify(&evidence, &options, &|_, _| {})).unwrap()
    };
    let proven = report(&one);
    assert_eq!(proven.verdict(), Verdict::Proven, "{proven:#?}");
    assert!(proven.logs[0].witnesses[0].starts_with("W at "), "{:?}", proven.logs[0].witnesses);
    let other = stele::tlog::cosignature::Cosigner::new(
        stele::tlog::note::KeyName::parse("witness.example/w2").unwrap(),
        &[9; 32],
    );
    let both =
        policy(&format!("witness A {}\nwitness B {}\ngroup g all A B\nquorum g\n", witness.key, other.key()));
    assert_eq!(report(&both).verdict(), Verdict::CouldNotCheck);
    let any =
        policy(&format!("witness A {}\nwitness B {}\ngroup g 1 A B\nquorum g\n", witness.key, other.key()));
    assert_eq!(report(&any).verdict(), Verdict::Proven);
    // The same operator shows the witness another history of the same log: it is refused, and the log is not witnessed.
    let mut forked = World::new();
    at_once(forked.publish_key());
    forked.witnesses.clone_from(&world.witnesses);
    forked.sealed("org_acme", 20);
    let _ = runtime.block_on(forked.sealer().publish_idle()).unwrap();
    let terms = Terms { policy: Some(one.clone()), ..Terms::default() };
    let options = Options { terms, ..Options::default() };
    let evidence = crate::tamper::evidence_of(forked.objects.clone());
    let report = runtime.block_on(verify(&evidence, &options, &|_, _| {})).unwrap();
    assert_eq!(report.verdict(), Verdict::CouldNotCheck, "{report:#?}");
    assert!(std::fs::read_dir(folder.path().join("evidence")).unwrap().count() > 0);
    // A witness that is gone costs its cosignature, not the log.
    witness.kill();
    world.clock.advance_ms(24 * HOUR_MS);
    world.sealed("org_acme", 1);
    assert_eq!(state(&world), 1);
}
