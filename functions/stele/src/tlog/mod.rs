//! The transparency log: one append-only Merkle tree per log (RFC 6962), the notes that are signed about it
//! (C2SP signed-note, tlog-checkpoint), and the proofs a stranger checks.
//!
//! It says nothing of what a leaf holds, where anything is stored, or who may sign: seeds and keys come in as
//! values.

pub mod hash;
pub mod tree;
pub mod note;
pub mod checkpoint;
pub mod key_change;
pub mod manifest;
pub mod proof;
pub mod range;
pub mod tiles;
pub mod levels;
pub mod tile_path;
pub mod portable;
pub mod cosignature;
pub mod policy;
pub mod witness;

pub use checkpoint::{Checkpoint, Origin};
pub use hash::{Hash, LeafIndex, TreeSize, empty_root, leaf_hash, node_hash};
pub use key_change::{KeyChange, KeyHistory};
pub use manifest::{Manifest, ManifestObject};
pub use note::{BodyError, KeyId, KeyName, Note, NoteError, NoteSignature, Signer, VerifierKey};
pub use proof::{ProofError, consistency_proof, inclusion_proof, verify_consistency, verify_inclusion};
pub use tiles::{Tiles, TilesBuilder, TilesError};
pub use tree::RightEdge;
