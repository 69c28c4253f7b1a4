//! Receipts: a signed note about an event that was accepted, with the promise that it will be in the log soon. One whose event
//! is not under a checkpoint by then is evidence against the operator.
//!
//! ```text
//! <origin of the log>
//! stele receipt v1
//! <tenant>
//! <id of the event>
//! <leaf hash in base64>
//! <received_at>
//! sealed within <n> seconds
//! ```
//!
//! The key is not the log's: its name is `<log name>/receipts`, and it signs nothing else. Without the last line the receipt
//! would be no promise; without the tenant and the origin it could be held against another log.

use crate::id::{EventId, TenantId};
use crate::time::Timestamp;
use crate::tlog::checkpoint::Origin;
use crate::tlog::hash::Hash;
use crate::tlog::note::{BodyError, KeyName, Lines, Note, Signer, VerifierKey};
use std::fmt;

const VERSION: &str = "stele receipt v1";
/// What follows a log's name in the name of the key that signs receipts about it.
const KEY_SUFFIX: &str = "receipts";

/// What was promised about an event when it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The log it will be in.
    pub origin: Origin,
    /// Whose log that is.
    pub tenant: TenantId,
    /// The event.
    pub id: EventId,
    /// The hash of its leaf.
    pub leaf_hash: Hash,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// How many seconds after that it will be under a signed checkpoint.
    pub sealed_within_seconds: u64,
}

/// The name of the key that signs receipts about the logs of an installation.
pub fn key_name(origin: &Origin) -> KeyName {
    KeyName::parse(&format!("{}/{KEY_SUFFIX}", origin.log_name()))
        .expect("an origin has the characters of a key name")
}

impl Receipt {
    /// When the promise is due.
    pub fn due(&self) -> Timestamp {
        self.received_at.plus_ms(self.sealed_within_seconds.saturating_mul(1000))
    }

    /// Parses the body, unsigned: nothing in it may be believed. To read a receipt, see [`Receipt::open`].
    ///
    /// # Errors
    /// The line that is not in form.
    pub fn parse(text: &str) -> Result<Receipt, BodyError> {
        let mut lines = Lines::of(text)?;
        let origin = lines.read("an origin", Origin::parse)?;
        lines.read("`stele receipt v1`", |line| (line == VERSION).then_some(()))?;
        let receipt = Receipt {
            origin,
            tenant: lines.read("a tenant", TenantId::parse)?,
            id: lines.read("the id of an event", |line| {
                EventId::parse(line).filter(|id| id.to_string() == line)
            })?,
            leaf_hash: lines.read("a leaf hash", Hash::from_base64)?,
            received_at: lines
                .read("a time", |line| Timestamp::parse(line).ok().filter(|t| t.to_string() == line))?,
            sealed_within_seconds: lines.read("`sealed within <n> seconds`", seconds)?,
        };
        lines.end()?;
        Ok(receipt)
    }

    /// The signed note. The same receipt always gives the same bytes.
    ///
    /// # Errors
    /// The signer is not the one for receipts about this log.
    pub fn sign(&self, signer: &Signer) -> Result<String, BodyError> {
        if signer.name() != &key_name(&self.origin) {
            return Err(BodyError::NotSignedByLog { origin: self.origin.to_string() });
        }
        Ok(signer.sign(self.to_string())?.to_string())
    }

    /// Opens a signed receipt: one of the given keys of this name has signed it, and nobody else.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(bytes: impl AsRef<[u8]>, keys: &[[u8; 32]]) -> Result<Receipt, BodyError> {
        let note = Note::parse(bytes)?;
        let receipt = Receipt::parse(note.text())?;
        let name = key_name(&receipt.origin);
        let keys: Vec<VerifierKey> =
            keys.iter().filter_map(|key| VerifierKey::new(name.clone(), key)).collect();
        note.verify(&keys)?;
        match note.signatures() {
            [_] => Ok(receipt),
            _ => Err(BodyError::NotSignedByLog { origin: receipt.origin.to_string() }),
        }
    }
}

/// The body, as it is signed.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Receipt { origin, tenant, id, leaf_hash, received_at, sealed_within_seconds } = self;
        write!(f, "{origin}\n{VERSION}\n{tenant}\n{id}\n{}\n{received_at}\n", leaf_hash.to_base64())?;
        writeln!(f, "sealed within {sealed_within_seconds} seconds")
    }
}

fn seconds(line: &str) -> Option<u64> {
    let digits = line.strip_prefix("sealed within ")?.strip_suffix(" seconds")?;
    let seconds: u64 = digits.parse().ok()?;
    (seconds.to_string() == digits).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::hash::leaf_hash;

    fn receipt() -> (Receipt, Signer) {
        let receipt = Receipt {
            origin: Origin::new("stele.example", "0123456789abcdef").unwrap(),
            tenant: TenantId::parse("acme").unwrap(),
            id: EventId::new(Timestamp::from_ms(1_777_645_920_000), 5),
            leaf_hash: leaf_hash(b"x"),
            received_at: Timestamp::from_ms(1_777_645_920_123),
            sealed_within_seconds: 60,
        };
        let signer = Signer::new(key_name(&receipt.origin), &[4; 32]);
        (receipt, signer)
    }

    const GOLDEN: &str = "stele.example/0123456789abcdef\nstele receipt v1\nacme\n019de3f3-4900-7000-8000-000000000005\n\
        qmkxJ9vsGDTjFLqzk0fMAcvd47wcBdzOMi0dzFNtN3Q=\n2026-05-01T14:32:00.123Z\nsealed within 60 seconds\n";

    #[test]
    fn the_bytes_of_a_receipt_do_not_change() {
        let (receipt, signer) = receipt();
        let expected =
            GOLDEN.replace("qmkxJ9vsGDTjFLqzk0fMAcvd47wcBdzOMi0dzFNtN3Q=", &leaf_hash(b"x").to_base64());
        let expected = expected.replace("019de3f3-4900-7000-8000-000000000005", &receipt.id.to_string());
        assert_eq!(receipt.to_string(), expected);
        let signed = receipt.sign(&signer).unwrap();
        assert!(signed.starts_with(&format!("{expected}\n— stele.example/receipts ")), "{signed}");
        assert_eq!(Receipt::open(&signed, &[*signer.verifier_key().public()]).unwrap(), receipt);
        assert_eq!(receipt.due(), receipt.received_at.plus_ms(60_000));
    }

    #[test]
    fn every_changed_bit_of_a_receipt_is_noticed() {
        let (receipt, signer) = receipt();
        let (text, key) = (receipt.sign(&signer).unwrap(), *signer.verifier_key().public());
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1 << bit;
                assert!(Receipt::open(&changed, &[key]).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn the_logs_own_key_signs_no_receipts() {
        let (receipt, signer) = receipt();
        assert!(receipt.sign(&receipt.origin.signer(&[4; 32])).is_err());
        let signed = receipt.sign(&signer).unwrap();
        assert!(Receipt::open(&signed, &[[9; 32]]).is_err());
        assert!(Receipt::open(&signed, &[]).is_err());
    }
}
