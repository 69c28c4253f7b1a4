//! Verifiers of other people: Go's golang.org/x/mod/sumdb and filippo.io/torchwood, and the crates `signed_note` and `tlog_tiles`,
//! accept every proof, checkpoint and cosignature that is made here, out of a log with an archive and out of trees of any size, and
//! refuse each that was changed.

use crate::world::{Sending, World, at_once, event_with_id};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use stele::ports::Heads;
use stele::public_key::PublicKey;
use stele::tlog::checkpoint::{Checkpoint, Origin};
use stele::tlog::cosignature::{Cosigner, CosignerKey};
use stele::tlog::hash::{Hash, LeafIndex, TreeSize, leaf_hash};
use stele::tlog::note::{KeyName, Note, NoteSignature, VerifierKey};
use stele::tlog::portable::PortableProof;
use stele::tlog::proof::{consistency_proof, inclusion_proof, verify_consistency, verify_inclusion};
use stele::tlog::tile_path::{TileKind, TilePath};
use stele::tlog::tiles::TILE_LEAVES;
use stele::tlog::tree::RightEdge;
use stele_adapters::stored_tree::StoredTree;

const TENANT: &str = "org_acme";
const EVENTS: u64 = 10_000;
/// Changed ones for each kind: enough to hit every place of a proof.
const CHANGED: usize = 2_000;

/// Leaves of the largest tree that is proven without a log around it.
const LEAVES: u64 = 5_000;

/// A case for all verifiers.
#[derive(Clone)]
pub(crate) enum Case {
    Inclusion { size: u64, root: Hash, index: u64, leaf: Hash, proof: Vec<Hash> },
    Consistency { old: u64, old_root: Hash, size: u64, root: Hash, proof: Vec<Hash> },
    Checkpoint { vkey: String, note: String },
    Proof { vkey: String, leaf: Hash, text: String },
    Cosignature { vkey: String, note: String, seconds: u64 },
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
            Case::Proof { vkey, leaf, text } => VerifierKey::parse(vkey).is_ok_and(|key| {
                PortableProof::parse(text).is_ok_and(|proof| proof.check(leaf, &[key]).is_ok())
            }),
            Case::Cosignature { vkey, note, seconds } => CosignerKey::parse(vkey).is_some_and(|key| {
                Note::parse(note).is_ok_and(|note| key.cosigned(&note) == Ok(Some(*seconds)))
            }),
        }
    }

    /// What the crates `tlog_tiles` and `signed_note` say: nothing of cosignatures, which they do not know.
    fn crates(&self) -> Option<bool> {
        let hash = |hash: &Hash| tlog_tiles::Hash(*hash.as_bytes());
        let opened = |vkey: &str, note: &str| {
            let verifier = signed_note::StandardVerifier::new(vkey).ok()?;
            let verifiers = signed_note::VerifierList::new(vec![Box::new(verifier)]);
            let note = signed_note::Note::from_bytes(note.as_bytes()).ok()?;
            note.verify(&verifiers).ok().filter(|(known, _)| known.len() == 1)?;
            tlog_tiles::Checkpoint::from_bytes(note.text()).ok()
        };
        Some(match self {
            Case::Inclusion { size, root, index, leaf, proof } => {
                let proof: Vec<_> = proof.iter().map(hash).collect();
                tlog_tiles::check_record(&proof, *size, hash(root), *index, hash(leaf)).is_ok()
            }
            Case::Consistency { old, old_root, size, root, proof } => {
                let proof: Vec<_> = proof.iter().map(hash).collect();
                tlog_tiles::check_tree(&proof, *size, hash(root), *old, hash(old_root)).is_ok()
            }
            Case::Checkpoint { vkey, note } => opened(vkey, note).is_some(),
            Case::Proof { vkey, leaf, text } => {
                let checked = || {
                    let (head, checkpoint) = text.split_once("\n\n")?;
                    let (index, lines) =
                        head.strip_prefix("c2sp.org/tlog-proof@v1\nindex ")?.split_once('\n')?;
                    let proof: Result<Vec<_>, _> =
                        lines.split('\n').map(tlog_tiles::Hash::parse_hash).collect();
                    let (index, checkpoint) = (index.parse().ok()?, opened(vkey, checkpoint)?);
                    let (size, root) = (checkpoint.size(), *checkpoint.hash());
                    tlog_tiles::check_record(&proof.ok()?, size, root, index, hash(leaf)).ok()
                };
                checked().is_some()
            }
            Case::Cosignature { .. } => return None,
        })
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
            Case::Proof { vkey, leaf, text } => json!({
                "kind": "proof", "valid": valid, "vkey": vkey, "leaf": leaf.to_base64(), "proof_text": text,
            }),
            Case::Cosignature { vkey, note, seconds } => json!({
                "kind": "cosignature", "valid": valid, "vkey": vkey, "note": note, "time": seconds,
            }),
        }
    }

    /// The same with one bit changed, in one of its fields.
    fn changed(&self, random: &mut impl FnMut() -> u64) -> Case {
        let mut flip = |hash: &Hash| flipped(hash, random);
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
            Case::Proof { vkey, leaf, text } => {
                let mut proof = PortableProof::parse(text).unwrap();
                let (mut leaf, at) = (*leaf, random() as usize % (proof.path.len() + 3));
                match at {
                    0 => leaf = flipped(&leaf, random),
                    1 => proof.index = LeafIndex::new(proof.index.to_u64() ^ 1),
                    2 => proof.checkpoint = changed_note(&proof.checkpoint, 0, random),
                    _ => proof.path[at - 3] = flipped(&proof.path[at - 3], random),
                }
                Case::Proof { vkey: vkey.clone(), leaf, text: proof.to_string() }
            }
            Case::Cosignature { vkey, note, seconds } => {
                let note = changed_note(note, 1, random);
                Case::Cosignature { vkey: vkey.clone(), note, seconds: *seconds }
            }
        }
    }

    /// The same of the tree that is one larger, or of the leaf beside it: where that is as true, which the shape of a path alone may
    /// make it, all verifiers must say so.
    fn shifted(&self) -> Option<Case> {
        match self {
            Case::Inclusion { size, root, index, leaf, proof } => {
                let (size, index) = if size % 2 == 0 { (size + 1, *index) } else { (*size, index + 1) };
                Some(Case::Inclusion { size, root: *root, index, leaf: *leaf, proof: proof.clone() })
            }
            Case::Consistency { old, old_root, size, root, proof } => {
                let (old, size) = if size % 2 == 0 { (*old, size + 1) } else { (old + 1, *size) };
                Some(Case::Consistency { old, old_root: *old_root, size, root: *root, proof: proof.clone() })
            }
            Case::Checkpoint { .. } | Case::Proof { .. } | Case::Cosignature { .. } => None,
        }
    }
}

fn flipped(hash: &Hash, random: &mut impl FnMut() -> u64) -> Hash {
    let mut bytes = *hash.as_bytes();
    let bit = random() % 256;
    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    Hash::from_bytes(bytes)
}

/// A note with another size or root, or with one bit of one signature changed.
fn changed_note(note: &str, signature: usize, random: &mut impl FnMut() -> u64) -> String {
    let note = Note::parse(note).unwrap();
    let mut checkpoint = Checkpoint::parse(note.text()).unwrap();
    let mut signatures = note.signatures().to_vec();
    match random() % 4 {
        0 => checkpoint.size = TreeSize::new(checkpoint.size.to_u64() + 1),
        1 => checkpoint.root = flipped(&checkpoint.root, random),
        _ => {
            let made = &signatures[signature];
            let mut bytes = made.bytes().to_vec();
            let bit = random() % (8 * bytes.len() as u64);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            signatures[signature] = NoteSignature::new(made.name().clone(), made.id(), bytes).unwrap();
        }
    }
    Note::new(checkpoint.to_string(), signatures).unwrap().to_string()
}

/// The same numbers in every run.
fn numbers() -> impl FnMut() -> u64 {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Sees to it that we, and the crates, accept or refuse all cases.
fn judged_here(cases: &[Case], valid: bool) {
    for case in cases {
        assert_eq!(case.ours(), valid, "{}", case.json(valid));
        assert!(case.crates().is_none_or(|said| said == valid), "{}", case.json(valid));
    }
}

/// Sees to it that Go accepts and refuses as it should; what it counted. `None` where Go is not installed, which is said, and is an
/// error where `STELE_REQUIRE_GO` is set.
fn judged_by_go(cases: &[Value]) -> Option<String> {
    if !is_go_there() {
        assert!(
            std::env::var_os("STELE_REQUIRE_GO").is_none(),
            "STELE_REQUIRE_GO is set, and Go is not there"
        );
        eprintln!("NOT CHECKED: Go is not installed, so golang.org/x/mod/sumdb judged nothing");
        return None;
    }
    let said = go(cases);
    println!("golang.org/x/mod/sumdb:\n{said}");
    Some(said)
}

/// Shows everybody a checkpoint that a witness has cosigned at a time.
pub(crate) fn strangers_accept_the_cosignature(key: &CosignerKey, note: &Note, seconds: u64) {
    let case = Case::Cosignature { vkey: key.to_string(), note: note.to_string(), seconds };
    let later = Case::Cosignature { vkey: key.to_string(), note: note.to_string(), seconds: seconds + 1 };
    assert!(case.ours() && !later.ours());
    judged_by_go(&[case.json(true), later.json(false)]);
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
    let mut random = numbers();
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
                Case::Proof { .. } | Case::Cosignature { .. } => false,
            })
            .collect();
        for _ in 0..many {
            let case = of_kind[(random() % of_kind.len() as u64) as usize];
            wrong.push(case.changed(&mut random));
        }
    }
    judged_here(&cases, true);
    judged_here(&wrong, false);
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
    let Some(said) = judged_by_go(&lines) else { return };
    assert!(said.contains("inclusion: 10000 accepted, 2000 refused"), "{said}");
    assert!(said.contains("consistency: 1000 accepted, 2000 refused"), "{said}");
    assert!(said.contains("tiles: 6 accepted, 6 refused"), "{said}");
}

#[test]
fn strangers_judge_proofs_of_any_tree_as_we_do() {
    let mut random = numbers();
    let leaves: Vec<Hash> = (0..LEAVES).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    let mut edge = RightEdge::empty();
    let mut roots = vec![edge.root()];
    for leaf in &leaves {
        edge.append(*leaf);
        roots.push(edge.root());
    }
    let origin = Origin::new("log.example", "0123").unwrap();
    let signer = origin.signer(&[7; 32]);
    let witness = Cosigner::new(KeyName::parse("witness.example/w1").unwrap(), &[8; 32]);
    let mut kinds = [const { Vec::new() }; 4];
    // Small trees have all shapes; every second one is small.
    let mut size = |n: u64| random() % (if n.is_multiple_of(2) { 300 } else { LEAVES }) + 1;
    let sizes: Vec<(u64, u64)> = (0..10_000).map(|n| (size(n), size(n))).collect();
    for (n, (size, other)) in sizes.iter().enumerate() {
        let (index, at) = (other % size, TreeSize::new(*size));
        let (root, leaf) = (roots[*size as usize], leaves[index as usize]);
        let path = inclusion_proof(&leaves[..*size as usize], LeafIndex::new(index), at).unwrap();
        kinds[0].push(Case::Inclusion { size: *size, root, index, leaf, proof: path.clone() });
        if n < 1_000 {
            let (old, new) = (*size.min(other), *size.max(other));
            let proof =
                consistency_proof(&leaves[..new as usize], TreeSize::new(old), TreeSize::new(new)).unwrap();
            let (old_root, root) = (roots[old as usize], roots[new as usize]);
            kinds[1].push(Case::Consistency { old, old_root, size: new, root, proof });
        }
        if n < 500 && *size > 1 {
            let checkpoint = Checkpoint::new(origin.clone(), at, root).sign(&signer).unwrap();
            let signed = Note::parse(&checkpoint).unwrap();
            let seconds = 1_800_000_000 + n as u64;
            let signatures = [signed.signatures(), &[witness.cosign(signed.text(), seconds)]].concat();
            let note = Note::new(signed.text().to_owned(), signatures).unwrap().to_string();
            let text =
                PortableProof { extra: None, index: LeafIndex::new(index), path, checkpoint: note.clone() };
            let vkey = signer.verifier_key().to_string();
            kinds[2].push(Case::Proof { vkey, leaf, text: text.to_string() });
            kinds[3].push(Case::Cosignature { vkey: witness.key().to_string(), note, seconds });
        }
    }
    let mut lines = Vec::new();
    let mut agreed = [0, 0];
    for (cases, many) in kinds.iter().zip([CHANGED, CHANGED, 1_000, 1_000]) {
        // Between equal sizes there is no proof to change.
        let is_changeable =
            |case: &&Case| !matches!(case, Case::Consistency { old, size, .. } if old == size);
        let changeable: Vec<&Case> = cases.iter().filter(is_changeable).collect();
        let mut wrong = Vec::new();
        for _ in 0..many {
            let case = changeable[(random() % changeable.len() as u64) as usize];
            wrong.push(case.changed(&mut random));
        }
        judged_here(cases, true);
        judged_here(&wrong, false);
        lines.extend(cases.iter().map(|case| case.json(true)));
        lines.extend(wrong.iter().map(|case| case.json(false)));
        for shifted in cases.iter().take(CHANGED).filter_map(Case::shifted) {
            let valid = shifted.ours();
            assert_eq!(shifted.crates(), Some(valid), "{}", shifted.json(valid));
            lines.push(shifted.json(valid));
            agreed[usize::from(valid)] += 1;
        }
    }
    println!("shifted: {} refused, {} accepted by all", agreed[0], agreed[1]);
    let texts = kinds[2].len();
    let Some(said) = judged_by_go(&lines) else { return };
    assert!(texts > 450 && said.contains(&format!("proof: {texts} accepted, 1000 refused")), "{said}");
    assert!(said.contains(&format!("cosignature: {texts} accepted, 1000 refused")), "{said}");
    let all = |kind: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(kind)).unwrap();
        let numbers = line.split(' ').filter_map(|word| word.parse::<usize>().ok());
        numbers.sum::<usize>()
    };
    assert_eq!(all("inclusion: ") + all("consistency: "), 11_000 + 4 * CHANGED - 1_000, "{said}");
}
