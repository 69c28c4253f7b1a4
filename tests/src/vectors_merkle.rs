//! The published test vectors for Merkle proofs of the transparency-dev project: each says whether a proof
//! must verify. Those for subtrees are not ours to pass.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};
use stele::tlog::{Hash, LeafIndex, TreeSize, leaf_hash, verify_consistency, verify_inclusion};

/// Every vector below a folder, with its path.
fn vectors(kind: &str) -> Vec<(PathBuf, Value)> {
    let shared = crate::shared_data().expect("shared/data is absent: the Merkle vectors can't be checked");
    let mut found = Vec::new();
    let mut folders = vec![shared.join("merkle").join(kind)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("reading `{}`: {e}", folder.display()));
        for entry in entries {
            let path = entry.expect("a folder entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let bytes = fs::read(&path).expect("a vector can be read");
                let vector = serde_json::from_slice(&bytes);
                found.push((path.clone(), vector.unwrap_or_else(|e| panic!("`{}`: {e}", path.display()))));
            }
        }
    }
    found
}

fn number(vector: &Value, name: &str) -> u64 {
    vector[name].as_u64().unwrap_or_else(|| panic!("`{name}` is not a number"))
}

/// A hash of a vector. Some have another length than 32 bytes, as stand-ins for "any root" or as garbage; no
/// [`Hash`] has, so another hash stands in for them: equal for equal bytes, and of no use in any proof.
fn hash(value: &Value) -> Hash {
    let text = value.as_str().unwrap_or_else(|| panic!("`{value}` is not a text"));
    let bytes = STANDARD.decode(text).expect("vectors are base64");
    let read = Hash::from_base64(text);
    assert_eq!(read.is_some(), bytes.len() == 32, "{text}");
    read.unwrap_or_else(|| Hash::of(&bytes))
}

fn proof(vector: &Value) -> Vec<Hash> {
    match &vector["proof"] {
        Value::Null => Vec::new(),
        Value::Array(hashes) => hashes.iter().map(hash).collect(),
        other => panic!("`{other}` is not a proof"),
    }
}

/// Checks all vectors of a kind, and that there were some of each outcome.
fn check(kind: &str, verifies: impl Fn(&Value) -> bool) {
    let (mut accepted, mut refused) = (0, 0);
    for (path, vector) in vectors(kind) {
        let expected = !vector["wantErr"].as_bool().expect("`wantErr` is a boolean");
        assert_eq!(verifies(&vector), expected, "{}: {}", relative(&path), vector["desc"]);
        *(if expected { &mut accepted } else { &mut refused }) += 1;
    }
    assert!(accepted >= 5 && refused >= 50, "{kind}: only {accepted} accepted and {refused} refused");
}

fn relative(path: &Path) -> String {
    let parts: Vec<_> = path.iter().rev().take(3).map(|part| part.to_string_lossy()).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

#[test]
fn inclusion_vectors_verify_or_fail_as_published() {
    check("inclusion", |vector| {
        // One vector has an empty text for leaf and root: the stand-ins must differ, as a leaf and a root do.
        let leaf = vector["leafHash"].as_str().expect("`leafHash` is a text");
        let leaf_hash = Hash::from_base64(leaf).unwrap_or_else(|| leaf_hash(leaf.as_bytes()));
        let root = hash(&vector["root"]);
        let index = LeafIndex::new(number(vector, "leafIdx"));
        let size = TreeSize::new(number(vector, "treeSize"));
        verify_inclusion(&leaf_hash, index, size, &proof(vector), &root).is_ok()
    });
}

#[test]
fn consistency_vectors_verify_or_fail_as_published() {
    check("consistency", |vector| {
        let [size1, size2] = ["size1", "size2"].map(|name| TreeSize::new(number(vector, name)));
        let [root1, root2] = ["root1", "root2"].map(|name| hash(&vector[name]));
        verify_consistency(size1, size2, &proof(vector), &root1, &root2).is_ok()
    });
}
