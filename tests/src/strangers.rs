//! Verifiers of other people: Go's golang.org/x/mod/sumdb and the crates `signed_note` and `tlog_tiles` accept every proof and
//! checkpoint that is made here, out of a log with an archive, and refuse each that was changed.

use crate::world::{Sending, World, at_once, event_with_id};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use stele::ports::Heads;
use stele::public_key::PublicKey;
use stele::tlog::checkpoint::Checkpoint;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele::tlog::note::VerifierKey;
use stele::tlog::proof::{verify_consistency, verify_inclusion};
use stele::tlog::tile_path::{TileKind, TilePath};
use stele::tlog::tiles::TILE_LEAVES;
use stele_adapters::stored_tree::StoredTree;

const TENANT: &str = "org_acme";
const EVENTS: u64 = 10_000;
/// Changed ones for each kind: enough to hit every place of a proof.
const CHANGED: usize = 2_000;

/// A case for all verifiers.
enum Case {
    Inclusion { size: u64, root: Hash, index: u64, leaf: Hash, proof: Vec<Hash> },
    Consistency { old: u64, old_root: Hash, size: u64, root: Hash, proof: Vec<Hash> },
    Checkpoint { vkey: String, note: String },
}

impl Case {
    fn ours(&self) -> bool {
        match self {
            Case::Inclusion { size, root, index, leaf, proof } => {
                verify_inclusion(leaf, LeafIndex::new(*index), TreeSize::new(*size), proof, root).is_ok()
            }
            Case::Consistency { old, old_root, size, root, proof } => {
                verify_consistency(TreeSize::new(*old), TreeSize::new(*size), proof, old_root, root).is_ok()
            }
            Case::Checkpoint { vkey, note } => {
                VerifierKey::parse(vkey).is_ok_and(|key| Checkpoint::open(note, &[key]).is_ok())
            }
        }
    }

    /// What the crates `tlog_tiles` and `signed_note` say.
    fn crates(&self) -> bool {
        let hash = |hash: &Hash| tlog_tiles::Hash(*hash.as_bytes());
        match self {
            Case::Inclusion { size, root, index, leaf, proof } => {
                let proof: Vec<_> = proof.iter().map(hash).collect();
                tlog_tiles::check_record(&proof, *size, hash(root), *index, hash(leaf)).is_ok()
            }
            Case::Consistency { old, old_root, size, root, proof } => {
                let proof: Vec<_> = proof.iter().map(hash).collect();
                tlog_tiles::check_tree(&proof, *size, hash(root), *old, hash(old_root)).is_ok()
            }
            Case::Checkpoint { vkey, note } => {
                let Ok(verifier) = signed_note::StandardVerifier::new(vkey) else { return false };
                let verifiers = signed_note::VerifierList::new(vec![Box::new(verifier)]);
                signed_note::Note::from_bytes(note.as_bytes()).is_ok_and(|note| {
                    note.verify(&verifiers).is_ok_and(|(known, _)| known.len() == 1)
                        && tlog_tiles::Checkpoint::from_bytes(note.text()).is_ok()
                })
            }
        }
    }

    fn json(&self, valid: bool) -> Value {
        let all = |hashes: &[Hash]| hashes.iter().map(|hash| hash.to_base64()).collect::<Vec<_>>();
        match self {
            Case::Inclusion { size, root, index, leaf, proof } => json!({
                "kind": "inclusion", "valid": valid, "size": size, "root": root.to_base64(), "index": index,
                "leaf": leaf.to_base64(), "proof": all(proof),
            }),
            Case::Consistency { old, old_root, size, root, proof } => json!({
                "kind": "consistency", "valid": valid, "old": old, "old_root": old_root.to_base64(), "size": size,
                "root": root.to_base64(), "proof": all(proof),
            }),
            Case::Checkpoint { vkey, note } => {
                json!({"kind": "checkpoint", "valid": valid, "vkey": vkey, "note": note})
            }
        }
    }

    /// The same with one bit changed, in one of its fields.
    fn changed(&self, random: &mut impl FnMut() -> u64) -> Case {
        let mut flip = |hash: &Hash| {
            let mut bytes = *hash.as_bytes();
            let bit = random() % 256;
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            Hash::from_bytes(bytes)
        };
        match self {
            Case::Inclusion { size, root, index, leaf, proof } => {
                let (mut root, mut leaf, mut proof, mut index) = (*root, *leaf, proof.clone(), *index);
                match index as usize % (proof.len() + 3) {
                    0 => root = flip(&root),
                    1 => leaf = flip(&leaf),
                    2 => index ^= 1,
                    at => proof[at - 3] = flip(&proof[at - 3]),
                }
                Case::Inclusion { size: *size, root, index, leaf, proof }
            }
            Case::Consistency { old, old_root, size, root, proof } => {
                let (mut root, mut old_root, mut proof) = (*root, *old_root, proof.clone());
                match *old as usize % (proof.len() + 2) {
                    0 => root = flip(&root),
                    1 => old_root = flip(&old_root),
                    at => proof[at - 2] = flip(&proof[at - 2]),
                }
                Case::Consistency { old: *old, old_root, size: *size, root, proof }
            }
            Case::Checkpoint { vkey, note } => {
                let mut bytes = note.clone().into_bytes();
                let at = (random() % bytes.len() as u64) as usize;
                // A digit or letter for another: it stays a text.
                bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
                let note = String::from_utf8(bytes).unwrap_or_else(|_| "7".to_owned());
                Case::Checkpoint { vkey: vkey.clone(), note }
            }
        }
    }
}

/// Gives cases to the Go program, which ends with 0 if it judges all as expected.
fn go(cases: &[Value]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    let build = tempfile::tempdir().unwrap();
    let program = build.path().join("strangers");
    let built = Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(&folder).output();
    let built = built.expect("Go is installed: https://go.dev/dl");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _stopped_reading_early = writer.join().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn is_go_there() -> bool {
    Command::new("go").arg("version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn strangers_accept_every_proof_and_refuse_every_changed_one() {
    let world = World::new();
    let mut sealed = 0;
    let mut sizes = vec![700, 1, 299, 2_000, 56, 1_000].into_iter().cycle();
    let (ingest, sealer) = (world.ingest(), world.sealer());
    while sealed < EVENTS {
        let count = u64::min(sizes.next().unwrap(), EVENTS - sealed);
        let events: Vec<String> = (0..count).map(|_| event_with_id(TENANT, world.new_id())).collect();
        for events in events.chunks(500) {
            at_once(world.send(&ingest, &Sending::batch(events)));
        }
        at_once(world.seal_stream(&sealer));
        sealed += count;
        world.clock.advance_ms(60_000);
        if sealed == 4_000 || sealed > 7_000 && sealed < 8_000 {
            at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
        }
    }
    let tenant = world.tenant(TENANT);
    let head = at_once(world.store.head(&tenant)).unwrap().unwrap();
    let tree = StoredTree::new(world.store.clone(), world.store.clone(), world.objects.clone());
    let (size, root) = (head.size().to_u64(), head.edge.root());
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut cases = Vec::new();
    // Every event, which are ten thousand.
    for index in 0..size {
        let found = at_once(tree.inclusion(&tenant, &head, LeafIndex::new(index))).unwrap();
        cases.push(Case::Inclusion { size, root, index, leaf: found.leaf_hash, proof: found.path });
    }
    let mut pairs = 0;
    while pairs < 1_000 {
        let (a, b) = (random() % size + 1, random() % size + 1);
        let (old, new) = (a.min(b), a.max(b));
        let edge = |at| at_once(tree.edge(&tenant, &head, TreeSize::new(at))).unwrap().root();
        let proof =
            at_once(tree.consistency(&tenant, &head, TreeSize::new(old), TreeSize::new(new))).unwrap();
        cases.push(Case::Consistency { old, old_root: edge(old), size: new, root: edge(new), proof });
        pairs += 1;
    }
    let key =
        VerifierKey::new(tenant.origin().key_name(), &PublicKey::of_seed(&crate::world::SEED).0).unwrap();
    let (published, next) = at_once(tree.checkpoints(&tenant, TreeSize::ZERO, 1_000)).unwrap();
    assert!(published.len() > 10 && next.is_none());
    let notes = published.iter().map(|(_, text)| String::from_utf8(text.to_vec()).unwrap());
    for note in notes.chain([head.checkpoint.clone()]) {
        cases.push(Case::Checkpoint { vkey: key.to_string(), note });
    }
    let mut wrong = Vec::new();
    for (kind, many) in [(0, CHANGED), (1, CHANGED), (2, 300)] {
        let of_kind: Vec<&Case> = cases
            .iter()
            .filter(|case| match case {
                Case::Inclusion { .. } => kind == 0,
                // Between equal sizes there is no proof to change.
                Case::Consistency { old, size, .. } => kind == 1 && old != size,
                Case::Checkpoint { .. } => kind == 2,
            })
            .collect();
        for _ in 0..many {
            let case = of_kind[(random() % of_kind.len() as u64) as usize];
            wrong.push(case.changed(&mut random));
        }
    }
    for case in &cases {
        assert!(case.ours(), "{}", case.json(true));
        assert!(case.crates(), "{}", case.json(true));
    }
    for case in &wrong {
        assert!(!case.ours(), "{}", case.json(false));
        assert!(!case.crates(), "{}", case.json(false));
    }
    println!("tlog_tiles and signed_note: {} accepted, {} refused", cases.len(), wrong.len());

    let mut lines: Vec<Value> = cases.iter().map(|case| case.json(true)).collect();
    lines.extend(wrong.iter().map(|case| case.json(false)));
    // And a client that reads tiles alone.
    let mut tiles = serde_json::Map::new();
    for level in 0..2 {
        let entries = size / TILE_LEAVES.pow(level);
        for index in 0..entries.div_ceil(TILE_LEAVES) {
            let width = (entries - index * TILE_LEAVES).min(TILE_LEAVES);
            let hashes = at_once(tree.tile(&tenant, level, index, width)).unwrap();
            let bytes: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
            let name = TilePath { kind: TileKind::Hashes { level }, index, width };
            tiles.insert(name.to_string(), STANDARD.encode(bytes).into());
        }
    }
    for index in [0, 1, 255, 256, 4_000, size - 1] {
        let Case::Inclusion { leaf, .. } = &cases[index as usize] else { panic!("the first are inclusions") };
        let case = |root: Hash, valid: bool| {
            json!({"kind": "tiles", "valid": valid, "size": size, "root": root.to_base64(), "tiles": tiles,
                   "index": index, "leaf": leaf.to_base64()})
        };
        lines.push(case(root, true));
        lines.push(case(Hash::of(b"another"), false));
    }
    if !is_go_there() {
        assert!(
            std::env::var_os("STELE_REQUIRE_GO").is_none(),
            "STELE_REQUIRE_GO is set, and Go is not there"
        );
        eprintln!("NOT CHECKED: Go is not installed, so golang.org/x/mod/sumdb judged nothing");
        return;
    }
    let said = go(&lines);
    println!("golang.org/x/mod/sumdb:\n{said}");
    assert!(said.contains("inclusion: 10000 accepted, 2000 refused"), "{said}");
    assert!(said.contains("consistency: 1000 accepted, 2000 refused"), "{said}");
    assert!(said.contains("tiles: 6 accepted, 6 refused"), "{said}");
}
