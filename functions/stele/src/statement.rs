//! Statements: the operator's dated word that nothing came after a checkpoint. There is one for every log every day, even when
//! nothing happened, so that quiet, delayed and dropped can be told apart.
//!
//! A statement is the checkpoint as the log signed it, with a cosignature (<https://c2sp.org/tlog-cosignature>) of the key
//! `<log name>/statements` that carries the time, and with those of witnesses, if there are any. Any C2SP tool reads it.

use crate::public_key::PublicKey;
use crate::time::Timestamp;
use crate::tlog::checkpoint::{Checkpoint, Origin};
use crate::tlog::cosignature::{Cosigner, CosignerKey};
use crate::tlog::key_change::KeyHistory;
use crate::tlog::note::{KeyName, Note, NoteError, NoteSignature};

/// What follows a log's name in the name of the key that makes statements about it.
const KEY_SUFFIX: &str = "statements";

/// The name of the key that makes statements about the logs of an installation.
pub fn key_name(origin: &Origin) -> KeyName {
    KeyName::parse(&format!("{}/{KEY_SUFFIX}", origin.log_name()))
        .expect("an origin has the characters of a key name")
}

/// A checkpoint with the time until which nothing came after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What the log committed to.
    pub checkpoint: Checkpoint,
    /// When it was stated, in whole seconds.
    pub stated_at: Timestamp,
    /// The note, with the signatures of witnesses too.
    pub note: Note,
}

/// The note that states a checkpoint at a time.
///
/// # Errors
/// The checkpoint is no signed note, or has too many signatures.
pub fn make(
    checkpoint: &str,
    seed: &[u8; 32],
    at: Timestamp,
    witnesses: &[NoteSignature],
) -> Result<String, NoteError> {
    let note = Note::parse(checkpoint)?;
    let origin = note.text().lines().next().and_then(Origin::parse).ok_or(NoteError::NoKnownSignature)?;
    let stated = Cosigner::new(key_name(&origin), seed).cosign(note.text(), at.ms() / 1000);
    let signatures = note.signatures().iter().cloned().chain([stated]).chain(witnesses.iter().cloned());
    Ok(Note::new(note.text().to_owned(), signatures.collect())?.to_string())
}

impl Statement {
    /// Opens a statement: signed by a key of the log that may sign this size, and dated by one of the given keys for statements.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn open(
        bytes: impl AsRef<[u8]>,
        history: &KeyHistory,
        keys: &[PublicKey],
    ) -> Result<Statement, String> {
        let bytes = bytes.as_ref();
        let checkpoint = history.open(bytes).map_err(|error| error.to_string())?;
        let note = Note::parse(bytes).map_err(|error| error.to_string())?;
        let name = key_name(&checkpoint.origin);
        let mut latest = None;
        for key in keys.iter().filter_map(|key| CosignerKey::new(name.clone(), &key.0)) {
            latest = latest.max(key.cosigned(&note).map_err(|error| error.to_string())?);
        }
        let seconds = latest.ok_or_else(|| format!("no signature of `{name}` that is known"))?;
        let stated_at = seconds.checked_mul(1000).map(Timestamp::from_ms).filter(|at| *at <= Timestamp::MAX);
        let stated_at = stated_at.ok_or("a time beyond the year 9999")?;
        Ok(Statement { checkpoint, stated_at, note })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::public_key::statement_seed as seed;
    use crate::tlog::hash::{TreeSize, empty_root, leaf_hash};

    const SEED: [u8; 32] = [3; 32];

    fn stated(size: u64) -> (String, KeyHistory, PublicKey) {
        let origin = Origin::new("stele.example", "0123456789abcdef").unwrap();
        let root = if size == 0 { empty_root() } else { leaf_hash(b"x") };
        let signer = origin.signer(&SEED);
        let checkpoint = Checkpoint::new(origin, TreeSize::new(size), root).sign(&signer).unwrap();
        let at = Timestamp::from_ms(1_800_000_000_999);
        let text = make(&checkpoint, &seed(&SEED), at, &[]).unwrap();
        let history = KeyHistory::beginning_with(signer.verifier_key().clone());
        (text, history, PublicKey::of_seed(&seed(&SEED)))
    }

    #[test]
    fn a_statement_tells_when_even_of_an_empty_log() {
        for size in [0, 7] {
            let (text, history, key) = stated(size);
            let statement = Statement::open(&text, &history, &[key]).unwrap();
            assert_eq!(statement.checkpoint.size.to_u64(), size);
            assert_eq!(statement.stated_at, Timestamp::from_ms(1_800_000_000_000));
            assert!(Statement::open(&text, &history, &[]).is_err());
        }
    }

    #[test]
    fn every_changed_bit_of_a_statement_is_noticed() {
        let (text, history, key) = stated(7);
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1 << bit;
                assert!(Statement::open(&changed, &history, &[key]).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn the_key_for_statements_is_not_that_of_checkpoints() {
        assert_ne!(seed(&SEED), SEED);
        assert_ne!(PublicKey::of_seed(&seed(&SEED)), PublicKey::of_seed(&SEED));
    }
}
