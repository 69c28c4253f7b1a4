//! Cosignatures (<https://c2sp.org/tlog-cosignature>, Ed25519): a witness says that, at a time, a checkpoint was the
//! largest consistent one it had seen of a log. A log's own operator says by one that nothing came after a checkpoint.
//!
//! What a cosigner checked before it signed is its own affair: this makes and checks the signatures.

use super::hash::decode_hex;
use super::note::{KeyId, KeyName, Note, NoteSignature};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;

/// The signature type, a byte of the key id and of the key's text.
const COSIGNATURE: u8 = 0x04;
const TIMESTAMP_BYTES: usize = 8;

/// A cosigner's public key with its name. Its text is `<name>+<id>+<base64(0x04 ‖ public key)>`.
#[derive(Clone, PartialEq, Eq)]
pub struct CosignerKey {
    name: KeyName,
    id: KeyId,
    public: VerifyingKey,
}

impl CosignerKey {
    /// From a name and the 32 bytes of an Ed25519 public key; nothing if they are no such key, or one of the few with which
    /// anyone can sign.
    pub fn new(name: KeyName, public: &[u8; 32]) -> Option<CosignerKey> {
        let public = VerifyingKey::from_bytes(public).ok().filter(|public| !public.is_weak())?;
        Some(CosignerKey { id: key_id(&name, &public), name, public })
    }

    /// Parses the key's text. The id must be the key's own.
    pub fn parse(text: &str) -> Option<CosignerKey> {
        let [name, id, key] = text.splitn(3, '+').collect::<Vec<_>>().try_into().ok()?;
        let key: [u8; 33] = STANDARD.decode(key).ok()?.try_into().ok()?;
        let (kind, public) = key.split_first()?;
        let key = CosignerKey::new(KeyName::parse(name)?, public.try_into().ok()?)?;
        (*kind == COSIGNATURE && decode_hex(id)? == key.id.to_bytes()).then_some(key)
    }

    /// Its name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The 32 bytes of the public key.
    pub fn public(&self) -> &[u8; 32] {
        self.public.as_bytes()
    }

    /// When it cosigned a note's text, in seconds since 1970, by the latest of its signatures in it. `Ok(None)` if it has
    /// none there.
    ///
    /// # Errors
    /// A signature that claims to be this key's and is not.
    pub fn cosigned(&self, note: &Note) -> Result<Option<u64>, BadCosignature> {
        let mut latest = None;
        for signature in note.signatures() {
            if signature.name() == &self.name && signature.id() == self.id {
                let at = self.time_of(note.text(), signature).ok_or(BadCosignature(self.name.clone()))?;
                latest = latest.max(Some(at));
            }
        }
        Ok(latest)
    }

    fn time_of(&self, text: &str, signature: &NoteSignature) -> Option<u64> {
        let (time, bytes) = signature.bytes().split_first_chunk::<TIMESTAMP_BYTES>()?;
        let seconds = u64::from_be_bytes(*time);
        let signature = Signature::from_slice(bytes).ok().filter(|_| i64::try_from(seconds).is_ok())?;
        self.public.verify_strict(message(seconds, text).as_bytes(), &signature).ok()?;
        Some(seconds)
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = [COSIGNATURE; 33];
        key[1..].copy_from_slice(self.public.as_bytes());
        write!(f, "{}+{}+{}", self.name, self.id, STANDARD.encode(key))
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// A cosigner's private key with its name. Its `Debug` shows the public half only.
#[derive(Clone)]
pub struct Cosigner {
    key: CosignerKey,
    secret: SigningKey,
}

impl Cosigner {
    /// From a name and an Ed25519 seed. The message does not name the cosigner: a seed is for one cosigner only.
    pub fn new(name: KeyName, seed: &[u8; 32]) -> Cosigner {
        let secret = SigningKey::from_bytes(seed);
        let public = secret.verifying_key();
        Cosigner { key: CosignerKey { id: key_id(&name, &public), name, public }, secret }
    }

    /// What checks its cosignatures.
    pub fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// The cosignature of a note's text at a time in seconds since 1970.
    pub fn cosign(&self, text: &str, seconds: u64) -> NoteSignature {
        let signature = self.secret.sign(message(seconds, text).as_bytes());
        let bytes = [&seconds.to_be_bytes()[..], &signature.to_bytes()].concat();
        NoteSignature::new(self.key.name.clone(), self.key.id, bytes).expect("a signature has bytes")
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cosigner").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A cosignature that is not its cosigner's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCosignature(pub KeyName);

impl fmt::Display for BadCosignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the cosignature of `{}` is wrong", self.0)
    }
}

impl std::error::Error for BadCosignature {}

/// SHA-256(name ‖ 0x0A ‖ 0x04 ‖ public key), the first four bytes.
fn key_id(name: &KeyName, public: &VerifyingKey) -> KeyId {
    let hash = Sha256::new()
        .chain_update(name.as_str())
        .chain_update([b'\n', COSIGNATURE])
        .chain_update(public.as_bytes())
        .finalize();
    KeyId::from_bytes([hash[0], hash[1], hash[2], hash[3]])
}

fn message(seconds: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {seconds}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::{Checkpoint, Origin};
    use super::super::hash::{TreeSize, leaf_hash};
    use super::*;

    fn cosigned() -> (Cosigner, Note) {
        let origin = Origin::parse("log.example/1").unwrap();
        let checkpoint = Checkpoint::new(origin.clone(), TreeSize::new(7), leaf_hash(b"x"));
        let note = Note::parse(checkpoint.sign(&origin.signer(&[1; 32])).unwrap()).unwrap();
        let witness = Cosigner::new(KeyName::parse("witness.example/w1").unwrap(), &[2; 32]);
        let mut signatures = note.signatures().to_vec();
        signatures.push(witness.cosign(note.text(), 1_800_000_000));
        (witness, Note::new(note.text().to_owned(), signatures).unwrap())
    }

    #[test]
    fn a_cosignature_tells_who_and_when() {
        let (witness, note) = cosigned();
        assert_eq!(witness.key().cosigned(&note), Ok(Some(1_800_000_000)));
        let parsed = CosignerKey::parse(&witness.key().to_string()).unwrap();
        assert_eq!(&parsed, witness.key());
        let other = Cosigner::new(KeyName::parse("witness.example/w2").unwrap(), &[3; 32]);
        assert_eq!(other.key().cosigned(&note), Ok(None));
        let same_name = Cosigner::new(witness.key().name().clone(), &[3; 32]);
        assert_eq!(same_name.key().cosigned(&note), Ok(None), "another key of the same name");
    }

    #[test]
    fn of_several_the_latest_counts() {
        let (witness, note) = cosigned();
        let mut signatures = note.signatures().to_vec();
        signatures.push(witness.cosign(note.text(), 1_900_000_000));
        signatures.push(witness.cosign(note.text(), 1_700_000_000));
        let note = Note::new(note.text().to_owned(), signatures).unwrap();
        assert_eq!(witness.key().cosigned(&note), Ok(Some(1_900_000_000)));
    }

    #[test]
    fn every_changed_bit_of_a_cosignature_is_noticed() {
        let (witness, note) = cosigned();
        let good = note.signatures()[1].clone();
        for at in 0..good.bytes().len() {
            for bit in 0..8 {
                let mut bytes = good.bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let bad = NoteSignature::new(good.name().clone(), good.id(), bytes).unwrap();
                let note = Note::new(note.text().to_owned(), vec![bad]).unwrap();
                assert!(witness.key().cosigned(&note).is_err(), "byte {at}");
            }
        }
        let other_text = Note::new(note.text().replace("\n7\n", "\n8\n"), vec![good]).unwrap();
        assert!(witness.key().cosigned(&other_text).is_err());
    }

    #[test]
    fn the_id_of_a_key_is_computed_with_its_type() {
        let (witness, _) = cosigned();
        let public = witness.key().public();
        let hash = Sha256::digest([b"witness.example/w1\n\x04".as_slice(), public].concat());
        assert_eq!(witness.key().id().to_bytes(), hash[..4]);
        assert!(CosignerKey::parse(&witness.key().to_string().replace("w1", "w2")).is_none());
    }
}
