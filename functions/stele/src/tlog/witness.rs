//! Witnesses (<https://c2sp.org/tlog-witness>): what is sent to one, and what one decides. A witness remembers of each log the
//! largest checkpoint it has cosigned, and cosigns nothing that did not grow out of it: then a log can't show two histories.

use super::checkpoint::Checkpoint;
use super::hash::{Hash, TreeSize, empty_root};
use super::note::{Note, NoteSignature, VerifierKey};
use super::proof::verify_consistency;
use std::fmt;

/// Hashes of a consistency proof at the most.
pub const PROOF_LINES_MAX: usize = 63;
/// Bytes of a request at the most.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// The media type of the size a witness has.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

/// A checkpoint on its way to a witness, with the proof that it grew out of the one the witness has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the one the witness has, as far as the sender knows.
    pub old: TreeSize,
    /// The consistency proof from there.
    pub proof: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: Note,
}

/// What a witness has of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The size it cosigned last.
    pub size: TreeSize,
    /// The root at that size.
    pub root: Hash,
}

impl Recorded {
    /// What a witness has of a log that it never cosigned: the tree without leaves, which every tree grows out of.
    pub fn nothing() -> Recorded {
        Recorded { size: TreeSize::ZERO, root: empty_root() }
    }
}

/// Why a witness does not cosign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a request.
    Malformed(&'static str),
    /// A log it does not know.
    UnknownLog,
    /// No signature of the log's.
    NotSigned,
    /// The old size is larger than the new one.
    OldIsLarger,
    /// It has another size than the sender thinks.
    OtherSize(TreeSize),
    /// Of this size it has another root: the log has two histories.
    OtherRoot(TreeSize),
    /// The proof does not lead from the one to the other.
    NotConsistent,
}

/// What a checkpoint that the log has signed, and the one that was cosigned before it, show together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Two roots of one size: the log has two histories.
    TwoRoots,
    /// Nobody has shown that the one grew out of the other.
    NoProof,
}

impl Refusal {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Refusal::Malformed(_) | Refusal::OldIsLarger => 400,
            Refusal::UnknownLog => 404,
            Refusal::NotSigned => 403,
            Refusal::OtherSize(_) | Refusal::OtherRoot(_) => 409,
            Refusal::NotConsistent => 422,
        }
    }

    /// What the signed checkpoint shows about its log, if it is worth keeping. A second root of one size can't be anybody's mistake
    /// but the log's; a proof that does not verify may be the sender's.
    pub const fn evidence(&self) -> Option<Evidence> {
        match self {
            Refusal::OtherRoot(_) => Some(Evidence::TwoRoots),
            Refusal::NotConsistent => Some(Evidence::NoProof),
            Refusal::Malformed(_)
            | Refusal::OldIsLarger
            | Refusal::OtherSize(_)
            | Refusal::UnknownLog
            | Refusal::NotSigned => None,
        }
    }

    /// The size it has, which the sender is told.
    pub const fn size(&self) -> Option<TreeSize> {
        match self {
            Refusal::OtherSize(size) | Refusal::OtherRoot(size) => Some(*size),
            Refusal::Malformed(_)
            | Refusal::OldIsLarger
            | Refusal::UnknownLog
            | Refusal::NotSigned
            | Refusal::NotConsistent => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Malformed(what) => write!(f, "not an add-checkpoint request: {what}"),
            Refusal::UnknownLog => f.write_str("this witness does not know the log"),
            Refusal::NotSigned => f.write_str("no valid signature of the log's key"),
            Refusal::OldIsLarger => f.write_str("the old size is larger than the checkpoint's"),
            Refusal::OtherSize(size) => write!(f, "the last checkpoint cosigned has size {size}"),
            Refusal::OtherRoot(size) => write!(f, "at size {size} another root was cosigned"),
            Refusal::NotConsistent => f.write_str("the consistency proof does not verify"),
        }
    }
}

impl AddCheckpoint {
    /// Parses a request, strictly.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<AddCheckpoint, Refusal> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(Refusal::Malformed("it is too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Refusal::Malformed("it is not UTF-8"))?;
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or(Refusal::Malformed("there is no empty line"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(TreeSize::parse);
        let old = old.ok_or(Refusal::Malformed("the first line is not `old <size>`"))?;
        let proof: Option<Vec<Hash>> = lines.map(Hash::from_base64).collect();
        let proof = proof.ok_or(Refusal::Malformed("a line of the proof is not a hash in base64"))?;
        if proof.len() > PROOF_LINES_MAX {
            return Err(Refusal::Malformed("the proof has more than 63 hashes"));
        }
        let checkpoint =
            Note::parse(checkpoint).map_err(|_| Refusal::Malformed("the checkpoint is no signed note"))?;
        Ok(AddCheckpoint { old, proof, checkpoint })
    }

    /// What a witness that trusts some keys for a log, and has this of it, decides. The checkpoint is what it then has.
    ///
    /// # Errors
    /// Why it does not cosign.
    pub fn judge(&self, keys: &[VerifierKey], recorded: Option<&Recorded>) -> Result<Checkpoint, Refusal> {
        if keys.is_empty() {
            return Err(Refusal::UnknownLog);
        }
        let checkpoint =
            Checkpoint::open(self.checkpoint.to_string(), keys).map_err(|_| Refusal::NotSigned)?;
        if self.old > checkpoint.size {
            return Err(Refusal::OldIsLarger);
        }
        let nothing = Recorded::nothing();
        let recorded = recorded.unwrap_or(&nothing);
        if self.old != recorded.size {
            return Err(Refusal::OtherSize(recorded.size));
        }
        // This holds of a log without leaves too, which has one root only.
        if recorded.size == checkpoint.size && recorded.root != checkpoint.root {
            return Err(Refusal::OtherRoot(recorded.size));
        }
        let is_consistent = match recorded.size {
            TreeSize::ZERO => self.proof.is_empty(),
            size => {
                let (proof, root) = (&self.proof, &recorded.root);
                verify_consistency(size, checkpoint.size, proof, root, &checkpoint.root).is_ok()
            }
        };
        if is_consistent { Ok(checkpoint) } else { Err(Refusal::NotConsistent) }
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", hash.to_base64()))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// The size in a witness's answer that it has another; `None` if there is none.
pub fn parse_size(answer: &str) -> Option<TreeSize> {
    TreeSize::parse(answer.strip_suffix('\n').unwrap_or(answer))
}

/// The signatures of a witness's answer; `None` if a line is none. Whether they are right is for the witness's key to say.
pub fn parse_cosignatures(checkpoint: &Note, answer: &str) -> Option<Vec<NoteSignature>> {
    let note = Note::parse(format!("{}\n{answer}", checkpoint.text())).ok()?;
    // An empty line in the answer would make what stands before it part of the text.
    (note.text() == checkpoint.text()).then(|| note.signatures().to_vec())
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::Origin;
    use super::super::hash::leaf_hash;
    use super::super::proof::consistency_proof;
    use super::super::tree::RightEdge;
    use super::*;
    use proptest::prelude::*;

    fn leaves(history: u64, count: u64) -> Vec<Hash> {
        (0..count)
            .map(|n| leaf_hash(&[n.to_be_bytes(), (history * (n / 5)).to_be_bytes()].concat()))
            .collect()
    }

    fn origin() -> Origin {
        Origin::parse("log.example/1").unwrap()
    }

    fn key() -> VerifierKey {
        origin().signer(&[1; 32]).verifier_key().clone()
    }

    fn checkpoint(leaves: &[Hash], seed: u8) -> Note {
        let mut edge = RightEdge::empty();
        edge.extend(leaves.iter().copied());
        let checkpoint = Checkpoint::new(origin(), edge.size(), edge.root());
        Note::parse(checkpoint.sign(&origin().signer(&[seed; 32])).unwrap()).unwrap()
    }

    fn request(history: u64, old: u64, new: u64) -> AddCheckpoint {
        let leaves = leaves(history, new);
        let proof = match old {
            0 => Vec::new(),
            _ => consistency_proof(&leaves, TreeSize::new(old), TreeSize::new(new)).unwrap_or_default(),
        };
        AddCheckpoint { old: TreeSize::new(old), proof, checkpoint: checkpoint(&leaves, 1) }
    }

    fn recorded(checkpoint: &Checkpoint) -> Recorded {
        Recorded { size: checkpoint.size, root: checkpoint.root }
    }

    #[test]
    fn a_log_is_followed_as_it_grows_and_in_no_other_way() {
        let keys = [key()];
        let first = request(0, 0, 7);
        assert_eq!(AddCheckpoint::parse(first.to_string().as_bytes()), Ok(first.clone()));
        let has = recorded(&first.judge(&keys, None).unwrap());
        let next = request(0, 7, 12);
        assert_eq!(AddCheckpoint::parse(next.to_string().as_bytes()), Ok(next.clone()));
        let has_next = recorded(&next.judge(&keys, Some(&has)).unwrap());
        assert!(request(0, 12, 12).judge(&keys, Some(&has_next)).is_ok());
        // Another history, a rollback, a gap, a stranger.
        assert_eq!(request(1, 7, 12).judge(&keys, Some(&has)), Err(Refusal::NotConsistent));
        assert_eq!(
            request(1, 12, 12).judge(&keys, Some(&has_next)),
            Err(Refusal::OtherRoot(TreeSize::new(12)))
        );
        assert_eq!(
            request(0, 0, 7).judge(&keys, Some(&has_next)),
            Err(Refusal::OtherSize(TreeSize::new(12)))
        );
        assert_eq!(request(0, 12, 7).judge(&keys, Some(&has_next)), Err(Refusal::OldIsLarger));
        assert_eq!(next.judge(&[], Some(&has)), Err(Refusal::UnknownLog));
        let stranger = AddCheckpoint { checkpoint: checkpoint(&leaves(0, 12), 2), ..next.clone() };
        assert_eq!(stranger.judge(&keys, Some(&has)), Err(Refusal::NotSigned));
        let with_proof = AddCheckpoint { proof: next.proof.clone(), ..request(0, 0, 7) };
        assert_eq!(with_proof.judge(&keys, None), Err(Refusal::NotConsistent));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = request(0, 7, 12).to_string();
        for bad in [
            good.replacen("old", "Old", 1),
            good.replacen("old 7", "old 07", 1),
            good.replacen('\n', "\nAAAA\n", 1),
            good.replacen("\n\n", "\n", 1),
            format!("old 7\n{}\n{good}", "qmkxJ9vsGDTjFLqzk0fMAcvd47wcBdzOMi0dzFNtN3Q=\n".repeat(64)),
            String::new(),
        ] {
            assert!(matches!(AddCheckpoint::parse(bad.as_bytes()), Err(Refusal::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn a_log_without_leaves_has_one_root() {
        let (keys, signer) = ([key()], origin().signer(&[1; 32]));
        let empty = |root| {
            let signed = Checkpoint::new(origin(), TreeSize::ZERO, root).sign(&signer).unwrap();
            AddCheckpoint { old: TreeSize::ZERO, proof: Vec::new(), checkpoint: Note::parse(signed).unwrap() }
        };
        let has = recorded(&empty(empty_root()).judge(&keys, None).unwrap());
        assert_eq!(has, Recorded::nothing());
        for has in [None, Some(&has)] {
            assert!(empty(empty_root()).judge(&keys, has).is_ok());
            let other = empty(leaf_hash(b"x")).judge(&keys, has);
            assert_eq!(other, Err(Refusal::OtherRoot(TreeSize::ZERO)));
            assert!(request(0, 0, 7).judge(&keys, has).is_ok());
        }
    }

    #[test]
    fn while_keys_change_either_of_them_counts() {
        let rotated = |seed| origin().signer(&[seed; 32]).verifier_key().clone();
        let (keys, leaves) = ([rotated(1), rotated(2)], leaves(0, 7));
        for seed in [1, 2] {
            let request = AddCheckpoint { checkpoint: checkpoint(&leaves, seed), ..request(0, 0, 7) };
            assert!(request.judge(&keys, None).is_ok());
        }
        let third = AddCheckpoint { checkpoint: checkpoint(&leaves, 3), ..request(0, 0, 7) };
        assert_eq!(third.judge(&keys, None), Err(Refusal::NotSigned));
        // Who else has signed does not matter.
        let own = checkpoint(&leaves, 1);
        let signatures = [own.signatures(), checkpoint(&leaves, 3).signatures()].concat();
        let both = Note::new(own.text().to_owned(), signatures).unwrap();
        assert!(AddCheckpoint { checkpoint: both, ..request(0, 0, 7) }.judge(&keys, None).is_ok());
    }

    #[test]
    fn no_request_with_a_changed_bit_is_accepted() {
        let keys = [key()];
        let has = recorded(&request(0, 0, 7).judge(&keys, None).unwrap());
        let good = request(0, 7, 12).to_string().into_bytes();
        let accepted = |bytes: &[u8]| {
            AddCheckpoint::parse(bytes).is_ok_and(|request| request.judge(&keys, Some(&has)).is_ok())
        };
        assert!(accepted(&good));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut changed = good.clone();
                changed[at] ^= 1 << bit;
                assert!(!accepted(&changed), "byte {at}, bit {bit}");
            }
            let (mut shorter, mut longer) = (good.clone(), good.clone());
            shorter.remove(at);
            longer.insert(at, good[at]);
            assert!(!accepted(&shorter) && !accepted(&longer) && !accepted(&good[..at]), "byte {at}");
        }
    }

    #[test]
    fn answers_are_read_as_they_are_written() {
        assert_eq!(parse_size("12\n"), Some(TreeSize::new(12)));
        for bad in ["", "\n", "+12\n", "012\n", "12\n\n", " 12\n", "18446744073709551616\n"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
        let note = checkpoint(&leaves(0, 7), 1);
        let lines = |count| format!("{}\n", note.signatures()[0]).repeat(count);
        assert_eq!(parse_cosignatures(&note, &lines(2)).map(|all| all.len()), Some(2));
        for bad in [
            String::new(),
            "cosigned\n".to_owned(),
            lines(1).trim_end().to_owned(),
            format!("\n{}", lines(1)),
        ] {
            assert_eq!(parse_cosignatures(&note, &bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_the_record_stays_one_history(steps in prop::collection::vec((0..2_u64, 0..30_u64, 0..30_u64), 1..40)) {
            let keys = [key()];
            let mut has: Option<Recorded> = None;
            for (history, old, new) in steps {
                if let Ok(checkpoint) = request(history, old, new).judge(&keys, has.as_ref()) {
                    if let Some(before) = &has {
                        prop_assert!(checkpoint.size >= before.size);
                        let of = |history| {
                            let mut edge = RightEdge::empty();
                            edge.extend(leaves(history, before.size.to_u64()));
                            edge.root()
                        };
                        // The checkpoint's own history has the recorded tree as its beginning.
                        prop_assert_eq!(of(history), before.root);
                    }
                    has = Some(recorded(&checkpoint));
                }
            }
        }
    }
}
