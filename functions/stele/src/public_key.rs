//! A public key as a locked object: what an auditor without a pinned key starts from.

use crate::layout::{Object, ObjectKey};
use crate::tlog::hash::Hash;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// What the key signs.
const PURPOSE: &str = "checkpoints and manifests";
const ALGORITHM: &str = "Ed25519";

/// The public half of a checkpoint key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    algorithm: String,
    purpose: String,
    public_key: String,
    from_size: u64,
}

impl PublicKey {
    /// The public key of a signing seed.
    pub fn of_seed(seed: &[u8; 32]) -> PublicKey {
        PublicKey(ed25519_dalek::SigningKey::from_bytes(seed).verifying_key().to_bytes())
    }

    /// Where it lies: under the first 16 hexadecimal digits of its SHA-256.
    pub fn object_key(&self) -> ObjectKey {
        let digits = Hash::of(&self.0).to_string();
        Object::PublicKey { key_id: digits[..16].to_owned() }.key()
    }

    /// The file, byte for byte.
    pub fn to_file(&self) -> String {
        let file = File {
            algorithm: ALGORITHM.to_owned(),
            purpose: PURPOSE.to_owned(),
            public_key: STANDARD.encode(self.0),
            from_size: 0,
        };
        let mut text = serde_json::to_string_pretty(&file).expect("texts and numbers always serialise");
        text.push('\n');
        text
    }

    /// Reads a file that [`PublicKey::to_file`] wrote, and no other.
    pub fn from_file(bytes: &[u8]) -> Option<PublicKey> {
        let file: File = serde_json::from_slice(bytes).ok()?;
        let key = PublicKey(STANDARD.decode(file.public_key).ok()?.try_into().ok()?);
        (key.to_file().as_bytes() == bytes).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_reads_back_and_any_other_byte_is_refused() {
        let key = PublicKey::of_seed(&[7; 32]);
        let file = key.to_file();
        assert_eq!(PublicKey::from_file(file.as_bytes()), Some(key));
        for at in 0..file.len() {
            let mut bad = file.clone().into_bytes();
            bad[at] ^= 1;
            let read = PublicKey::from_file(&bad);
            assert!(read.is_none_or(|other| other.object_key() != key.object_key()), "byte {at}");
        }
    }
}
