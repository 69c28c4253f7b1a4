//! A public key as a locked object: what an auditor without a pinned key starts from.

use crate::layout::{Object, ObjectKey};
use crate::tlog::hash::Hash;
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const ALGORITHM: &str = "Ed25519";

/// What a key signs. A signature counts for that alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// What a log commits to.
    Checkpoints,
    /// What was promised when an event was accepted.
    Receipts,
    /// That nothing came after a checkpoint until a time, as C2SP cosignatures.
    Statements,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Purpose; 3] = [Purpose::Checkpoints, Purpose::Receipts, Purpose::Statements];

    /// As published.
    pub const fn as_str(self) -> &'static str {
        match self {
            Purpose::Checkpoints => "checkpoints and manifests",
            Purpose::Receipts => "receipts",
            Purpose::Statements => "statements",
        }
    }

    /// From its name.
    pub fn parse(text: &str) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|purpose| purpose.as_str() == text)
    }

    /// In one word, for [`PublishedKeys::to_text`].
    const fn word(self) -> &'static str {
        match self {
            Purpose::Checkpoints => "checkpoints",
            Purpose::Receipts => "receipts",
            Purpose::Statements => "statements",
        }
    }
}

/// The public half of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    /// The file, byte for byte. Which checkpoint key signs from which size on is told in each log, where it changes.
    pub fn to_file(&self, purpose: Purpose) -> String {
        let file = File {
            algorithm: ALGORITHM.to_owned(),
            purpose: purpose.as_str().to_owned(),
            public_key: STANDARD.encode(self.0),
            from_size: 0,
        };
        let mut text = serde_json::to_string_pretty(&file).expect("texts and numbers always serialise");
        text.push('\n');
        text
    }

    /// Reads a file that [`PublicKey::to_file`] wrote, and no other.
    pub fn from_file(bytes: &[u8]) -> Option<(Purpose, PublicKey)> {
        let file: File = serde_json::from_slice(bytes).ok()?;
        let key = PublicKey(STANDARD.decode(file.public_key).ok()?.try_into().ok()?);
        let purpose = Purpose::parse(&file.purpose)?;
        (key.to_file(purpose).as_bytes() == bytes).then_some((purpose, key))
    }
}

/// The seeds of an installation's checkpoint keys, oldest first. Each log is handed over from one to the next on its own.
#[derive(Clone)]
pub struct SigningSeeds {
    seeds: Vec<[u8; 32]>,
}

impl SigningSeeds {
    /// From the oldest to the newest; `None` if there is none.
    pub fn new(seeds: Vec<[u8; 32]>) -> Option<SigningSeeds> {
        (!seeds.is_empty()).then_some(SigningSeeds { seeds })
    }

    /// A single one.
    pub fn one(seed: [u8; 32]) -> SigningSeeds {
        SigningSeeds { seeds: vec![seed] }
    }

    /// All of them, oldest first.
    pub fn all(&self) -> &[[u8; 32]] {
        &self.seeds
    }

    /// What logs of old were begun with.
    pub fn oldest(&self) -> &[u8; 32] {
        &self.seeds[0]
    }

    /// What logs are handed over to.
    pub fn newest(&self) -> &[u8; 32] {
        &self.seeds[self.seeds.len() - 1]
    }

    /// The seed of a public key.
    pub fn of(&self, public: &PublicKey) -> Option<&[u8; 32]> {
        self.seeds.iter().find(|seed| PublicKey::of_seed(seed) == *public)
    }

    /// The public keys, oldest first.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.seeds.iter().map(PublicKey::of_seed).collect()
    }
}

impl std::fmt::Debug for SigningSeeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SigningSeeds").field(&self.public_keys()).finish()
    }
}

/// All public keys of an installation, by what they sign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedKeys {
    /// For checkpoints and manifests, oldest first.
    pub checkpoints: Vec<PublicKey>,
    /// For receipts.
    pub receipts: Vec<PublicKey>,
    /// For statements.
    pub statements: Vec<PublicKey>,
}

impl PublishedKeys {
    /// Those of the seeds an installation has.
    pub fn of(signing: &SigningSeeds, receipt_seed: &[u8; 32]) -> PublishedKeys {
        let statement = |seed| PublicKey::of_seed(&statement_seed(seed));
        PublishedKeys {
            checkpoints: signing.public_keys(),
            receipts: vec![PublicKey::of_seed(receipt_seed)],
            statements: signing.all().iter().map(statement).collect(),
        }
    }

    /// Adds a key.
    pub fn push(&mut self, purpose: Purpose, key: PublicKey) {
        let keys = match purpose {
            Purpose::Checkpoints => &mut self.checkpoints,
            Purpose::Receipts => &mut self.receipts,
            Purpose::Statements => &mut self.statements,
        };
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    /// All of them in a line, as an installation's output and its functions' environment have them:
    /// `<purpose>:<base64>`, separated by commas.
    pub fn to_text(&self) -> String {
        let shown =
            |(purpose, key): (Purpose, PublicKey)| format!("{}:{}", purpose.word(), STANDARD.encode(key.0));
        self.all().map(shown).collect::<Vec<_>>().join(",")
    }

    /// Reads what [`PublishedKeys::to_text`] writes; spaces around commas don't matter.
    pub fn parse(text: &str) -> Option<PublishedKeys> {
        let mut keys = PublishedKeys::default();
        for part in text.split(',') {
            let (word, key) = part.trim().split_once(':')?;
            let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.word() == word)?;
            keys.push(purpose, PublicKey(STANDARD.decode(key).ok()?.try_into().ok()?));
        }
        Some(keys)
    }

    /// Each key with what it signs.
    pub fn all(&self) -> impl Iterator<Item = (Purpose, PublicKey)> + '_ {
        let checkpoints = self.checkpoints.iter().map(|key| (Purpose::Checkpoints, *key));
        let receipts = self.receipts.iter().map(|key| (Purpose::Receipts, *key));
        let statements = self.statements.iter().map(|key| (Purpose::Statements, *key));
        checkpoints.chain(receipts).chain(statements)
    }
}

/// The seed of the key that makes statements, from that of a checkpoint key: whoever may sign checkpoints may state them.
pub fn statement_seed(checkpoint_seed: &[u8; 32]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(checkpoint_seed).expect("HMAC takes keys of any length");
    mac.update(b"stele statement key v1");
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_reads_back_and_any_other_byte_is_refused() {
        let key = PublicKey::of_seed(&[7; 32]);
        for purpose in Purpose::ALL {
            let file = key.to_file(purpose);
            assert_eq!(PublicKey::from_file(file.as_bytes()), Some((purpose, key)));
            for at in 0..file.len() {
                let mut bad = file.clone().into_bytes();
                bad[at] ^= 1;
                let read = PublicKey::from_file(&bad);
                assert!(read.is_none_or(|(_, other)| other.object_key() != key.object_key()), "byte {at}");
            }
        }
    }

    #[test]
    fn published_keys_read_back_from_their_line() {
        let seeds = SigningSeeds::new(vec![[1; 32], [2; 32]]).unwrap();
        let keys = PublishedKeys::of(&seeds, &[3; 32]);
        let text = keys.to_text();
        assert!(text.starts_with("checkpoints:") && text.contains(",receipts:"), "{text}");
        assert_eq!(PublishedKeys::parse(&text), Some(keys.clone()));
        assert_eq!(PublishedKeys::parse(&format!(" {} ", text.replace(',', " , "))), Some(keys));
        for bad in
            ["", "checkpoints:", "checkpoints:AAAA", "witnesses:AAAA", &text[12..], "a.b/c+00000000+AAAA"]
        {
            assert_eq!(PublishedKeys::parse(bad), None, "{bad}");
        }
    }
}
