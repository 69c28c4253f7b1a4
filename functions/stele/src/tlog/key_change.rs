//! Key changes: a signed note by which a log's key hands over to the next, and which key therefore signs what.
//!
//! ```text
//! <origin>
//! stele key v1
//! <the first tree size the new key signs>
//! <the new public key: 32 bytes in base64>
//! ```
//!
//! Both keys sign it: the old one, so that whoever trusts it can go on, and the new one, so that nobody is handed a log
//! without knowing. A change without the old key's signature is one after a loss: it takes a new decision to trust.

use super::checkpoint::{Checkpoint, ORIGIN_LINE, Origin, SIZE_LINE};
use super::hash::TreeSize;
use super::note::{BodyError, Lines, Note, Signer, VerifierKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::fmt;

const VERSION: &str = "stele key v1";

/// A log's key hands over to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The log.
    pub origin: Origin,
    /// The first tree size the new key signs.
    pub from: TreeSize,
    /// The new public key.
    pub public: [u8; 32],
}

/// A key change with whose word it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedKeyChange {
    /// What changes.
    pub change: KeyChange,
    /// Whether one of the given keys signed it, beside the new one.
    pub is_handed_over: bool,
}

impl KeyChange {
    /// Parses the body, unsigned: nothing in it may be believed. To read a change, see [`KeyChange::open`].
    pub fn parse(text: &str) -> Result<KeyChange, BodyError> {
        let mut lines = Lines::of(text)?;
        let origin = lines.read(ORIGIN_LINE, Origin::parse)?;
        lines.read("`stele key v1`", |line| (line == VERSION).then_some(()))?;
        let from = lines.read(SIZE_LINE, TreeSize::parse)?;
        let public = lines.read("an Ed25519 public key", public_key)?;
        lines.end()?;
        Ok(KeyChange { origin, from, public })
    }

    /// The signed note: by the new key, and by the old one where it is still there. The same change by the same keys always
    /// gives the same bytes.
    ///
    /// # Errors
    /// The new signer is not the log's, or not of the key named.
    pub fn sign(&self, old: Option<&Signer>, new: &Signer) -> Result<String, BodyError> {
        let stranger = || BodyError::NotSignedByLog { origin: self.origin.to_string() };
        let is_ours = |signer: &Signer| signer.name().as_str() == self.origin.as_str();
        if new.verifier_key().public() != &self.public || ![Some(new), old].into_iter().flatten().all(is_ours)
        {
            return Err(stranger());
        }
        let mut signatures = Vec::new();
        for signer in old.into_iter().chain([new]) {
            signatures.extend_from_slice(signer.sign(self.to_string())?.signatures());
        }
        Ok(Note::new(self.to_string(), signatures)?.to_string())
    }

    /// Opens a signed change: the new key has signed it, and no signature of a given key in it is wrong.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(bytes: impl AsRef<[u8]>, old: &[VerifierKey]) -> Result<OpenedKeyChange, BodyError> {
        let note = Note::parse(bytes)?;
        let change = KeyChange::parse(note.text())?;
        let new = change.new_key()?;
        note.verify(std::slice::from_ref(&new))?;
        let known: Vec<VerifierKey> =
            old.iter().filter(|key| key.name() == new.name() && **key != new).cloned().collect();
        let has_old = |key: &VerifierKey| {
            note.signatures().iter().any(|made| made.name() == key.name() && made.id() == key.id())
        };
        let is_handed_over = if known.iter().any(has_old) { !note.verify(&known)?.is_empty() } else { false };
        Ok(OpenedKeyChange { change, is_handed_over })
    }

    /// The new key, under the log's name.
    ///
    /// # Errors
    /// The bytes are no key anybody may trust.
    pub fn new_key(&self) -> Result<VerifierKey, BodyError> {
        VerifierKey::new(self.origin.key_name(), &self.public)
            .ok_or_else(|| BodyError::NotSignedByLog { origin: self.origin.to_string() })
    }
}

/// The body, as it is signed.
impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{VERSION}\n{}\n{}\n", self.origin, self.from, STANDARD.encode(self.public))
    }
}

fn public_key(line: &str) -> Option<[u8; 32]> {
    let bytes: [u8; 32] = STANDARD.decode(line).ok()?.try_into().ok()?;
    (STANDARD.encode(bytes) == line).then_some(bytes)
}

/// Which key signs what of one log: each from a size on, the first from zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHistory {
    keys: Vec<(TreeSize, VerifierKey)>,
}

impl KeyHistory {
    /// Of a log that began with a key.
    pub fn beginning_with(key: VerifierKey) -> KeyHistory {
        KeyHistory { keys: vec![(TreeSize::ZERO, key)] }
    }

    /// Goes on with a change. `false`, and nothing changed, if it does not follow: not of this log, not after the
    /// last one, or the same key again.
    #[must_use]
    pub fn follow(&mut self, change: &KeyChange) -> bool {
        let Ok(key) = change.new_key() else { return false };
        let last = &self.keys[self.keys.len() - 1];
        if key.name() != last.1.name() || key == last.1 || change.from <= last.0 {
            return false;
        }
        self.keys.push((change.from, key));
        true
    }

    /// The keys, each with the first size it signs.
    pub fn keys(&self) -> &[(TreeSize, VerifierKey)] {
        &self.keys
    }

    /// The key in service at the end.
    pub fn last(&self) -> &VerifierKey {
        &self.keys[self.keys.len() - 1].1
    }

    /// The keys that may sign what is said of a size: the one in service there, and those that came later, which answer for
    /// everything before them. One that was replaced may say nothing of what came after it.
    pub fn at(&self, size: TreeSize) -> Vec<VerifierKey> {
        let retired = self.keys.iter().skip(1).take_while(|(from, _)| *from <= size).count();
        self.keys[retired..].iter().map(|(_, key)| key.clone()).collect()
    }

    /// Opens a checkpoint that is signed by a key that may sign it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(&self, bytes: impl AsRef<[u8]>) -> Result<Checkpoint, BodyError> {
        let bytes = bytes.as_ref();
        let claimed = Checkpoint::parse(Note::parse(bytes)?.text())?;
        Checkpoint::open(bytes, &self.at(claimed.size))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::leaf_hash;
    use super::*;

    fn origin() -> Origin {
        Origin::new("stele.example", "0123456789abcdef").unwrap()
    }

    fn signer(seed: u8) -> Signer {
        origin().signer(&[seed; 32])
    }

    fn change(from: u64, seed: u8) -> KeyChange {
        let public = *signer(seed).verifier_key().public();
        KeyChange { origin: origin(), from: TreeSize::new(from), public }
    }

    #[test]
    fn a_change_comes_back_with_whose_word_it_is() {
        let (old, new) = (signer(1), signer(2));
        let keys = [old.verifier_key().clone()];
        let both = change(7, 2).sign(Some(&old), &new).unwrap();
        assert_eq!(
            KeyChange::open(&both, &keys).unwrap(),
            OpenedKeyChange { change: change(7, 2), is_handed_over: true }
        );
        let stranger = [signer(3).verifier_key().clone()];
        assert!(!KeyChange::open(&both, &stranger).unwrap().is_handed_over);
        let alone = change(7, 2).sign(None, &new).unwrap();
        assert!(!KeyChange::open(&alone, &keys).unwrap().is_handed_over);
        assert!(change(7, 2).sign(Some(&old), &signer(3)).is_err());
        // The new key's own signature is no word of the old one.
        assert!(!KeyChange::open(&alone, &[new.verifier_key().clone()]).unwrap().is_handed_over);
    }

    #[test]
    fn every_changed_bit_of_a_change_is_noticed() {
        let (old, new) = (signer(1), signer(2));
        let keys = [old.verifier_key().clone()];
        let text = change(7, 2).sign(Some(&old), &new).unwrap();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1 << bit;
                let opened = KeyChange::open(&changed, &keys);
                assert!(opened.is_err() || !opened.unwrap().is_handed_over, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_key_that_was_replaced_signs_nothing_that_comes_after_it() {
        let mut history = KeyHistory::beginning_with(signer(1).verifier_key().clone());
        assert!(history.follow(&change(7, 2)));
        assert!(history.follow(&change(9, 3)));
        assert!(!history.follow(&change(9, 4)), "not after the last");
        assert!(!history.follow(&change(10, 3)), "the same key");
        let signed = |size: u64, seed: u8| {
            let checkpoint = Checkpoint::new(origin(), TreeSize::new(size), leaf_hash(b"x"));
            history.open(checkpoint.sign(&signer(seed)).unwrap()).is_ok()
        };
        for (size, seeds) in [
            (6, [true, true, true]),
            (7, [false, true, true]),
            (8, [false, true, true]),
            (9, [false, false, true]),
        ] {
            for (seed, expected) in [1, 2, 3].into_iter().zip(seeds) {
                assert_eq!(signed(size, seed), expected, "size {size}, key {seed}");
            }
        }
        assert!(!signed(1, 4));
    }
}
