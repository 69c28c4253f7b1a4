//! Portable inclusion proofs (<https://c2sp.org/tlog-proof>): a leaf's index, the hashes up to the root, and the checkpoint, as
//! one text that needs nothing but the leaf and a public key to be checked.
//!
//! Stele puts no extra data into them: the leaf is the record, which whoever asks has.

use super::checkpoint::Checkpoint;
use super::hash::{Hash, LeafIndex};
use super::note::{BodyError, VerifierKey};
use super::proof::{ProofError, verify_inclusion};
use std::fmt;

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// A path has at most one hash for each bit of an index.
const HASHES_MAX: usize = 63;

/// A proof that a leaf is in the tree of a checkpoint. Nothing in it may be believed before [`PortableProof::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortableProof {
    /// The extra data, as base64, if the proof has any: nobody vouches for it.
    pub extra: Option<String>,
    /// The leaf's index.
    pub index: LeafIndex,
    /// The hashes from the leaf's sibling up.
    pub path: Vec<Hash>,
    /// The signed checkpoint, with all its signatures.
    pub checkpoint: String,
}

/// Why a proof is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortableError {
    /// Not in the form of a proof; says at which line, from 1.
    Form(usize),
    /// The checkpoint is not the log's.
    Checkpoint(BodyError),
    /// The hashes do not lead to the checkpoint's root.
    Proof(ProofError),
}

impl fmt::Display for PortableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortableError::Form(line) => write!(f, "line {line} is not as c2sp.org/tlog-proof has it"),
            PortableError::Checkpoint(error) => write!(f, "the checkpoint: {error}"),
            PortableError::Proof(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PortableError {}

impl PortableProof {
    /// Parses a proof, strictly: each proof has exactly one text.
    ///
    /// # Errors
    /// The line that is not in form.
    pub fn parse(text: &str) -> Result<PortableProof, PortableError> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(PortableError::Form(1))?;
        let mut lines = head.split('\n').zip(1..).peekable();
        lines.next().filter(|(line, _)| *line == HEADER).ok_or(PortableError::Form(1))?;
        let extra = lines.next_if(|(line, _)| line.starts_with("extra "));
        let extra = extra.map(|(line, _)| line["extra ".len()..].to_owned());
        let (line, at) = lines.next().ok_or(PortableError::Form(2))?;
        let index = line.strip_prefix("index ").and_then(LeafIndex::parse).ok_or(PortableError::Form(at))?;
        let mut path = Vec::new();
        for (line, at) in lines {
            path.push(
                Hash::from_base64(line).filter(|_| path.len() < HASHES_MAX).ok_or(PortableError::Form(at))?,
            );
        }
        Ok(PortableProof { extra, index, path, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that a leaf with this hash is in the tree of a checkpoint that is the log's own, signed with one of the keys.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, leaf: &Hash, keys: &[VerifierKey]) -> Result<Checkpoint, PortableError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, keys).map_err(PortableError::Checkpoint)?;
        verify_inclusion(leaf, self.index, checkpoint.size, &self.path, &checkpoint.root)
            .map_err(PortableError::Proof)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for PortableProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {extra}")?;
        }
        writeln!(f, "index {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", hash.to_base64()))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::Origin;
    use super::super::hash::{TreeSize, leaf_hash};
    use super::super::proof::inclusion_proof;
    use super::super::tree::RightEdge;
    use super::*;

    const SEED: [u8; 32] = [5; 32];

    fn proof(size: u64, index: u64) -> (Hash, PortableProof, Vec<VerifierKey>) {
        let leaves: Vec<Hash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut edge = RightEdge::empty();
        edge.extend(leaves.iter().copied());
        let origin = Origin::parse("log.example/1").unwrap();
        let signer = origin.signer(&SEED);
        let checkpoint = Checkpoint::new(origin, TreeSize::new(size), edge.root()).sign(&signer).unwrap();
        let index = LeafIndex::new(index);
        let path = inclusion_proof(&leaves, index, TreeSize::new(size)).unwrap();
        let proof = PortableProof { extra: None, index, path, checkpoint };
        (leaves[index.to_u64() as usize], proof, vec![signer.verifier_key().clone()])
    }

    #[test]
    fn proofs_come_back_and_prove() {
        for (size, index) in [(1, 0), (2, 1), (7, 6), (8, 3), (1_000, 999)] {
            let (leaf, proof, keys) = proof(size, index);
            let text = proof.to_string();
            let parsed = PortableProof::parse(&text).unwrap();
            assert_eq!(parsed, proof);
            assert_eq!(parsed.to_string(), text);
            assert_eq!(parsed.check(&leaf, &keys).unwrap().size.to_u64(), size);
            assert!(parsed.check(&leaf_hash(b"another"), &keys).is_err());
        }
        let (_, mut with_extra, _) = proof(3, 1);
        with_extra.extra = Some("YQ==".to_owned());
        assert_eq!(PortableProof::parse(&with_extra.to_string()).unwrap(), with_extra);
    }

    #[test]
    fn every_changed_bit_of_a_proof_is_noticed() {
        let (leaf, proof, keys) = proof(5, 2);
        let text = proof.to_string();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1 << bit;
                let proven = String::from_utf8(changed)
                    .ok()
                    .and_then(|text| PortableProof::parse(&text).ok())
                    .is_some_and(|proof| proof.check(&leaf, &keys).is_ok());
                assert!(!proven, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn texts_of_another_form_are_refused() {
        let (_, proof, _) = proof(5, 2);
        let good = proof.to_string();
        for (bad, line) in [
            (good.replace("@v1", "@v2"), 1),
            (good.replace("index 2", "index 02"), 2),
            (good.replace("index", "Index"), 2),
            (good.replace("\nindex", "\n\nindex"), 2),
            (good.replacen("=\n", "\n", 1), 3),
        ] {
            assert_eq!(PortableProof::parse(&bad), Err(PortableError::Form(line)), "{bad}");
        }
    }
}
