//! Checkpoints (<https://c2sp.org/tlog-checkpoint>): what a log commits to at a size, signed.
//!
//! Only checkpoints of our own logs are read: the origin has our form and is the name of the log's key.

use super::hash::{Hash, TreeSize};
use super::note::{BodyError, KeyName, Lines, Signer, VerifierKey, forbidden_in, open_body, sign_body};
use std::{fmt, sync::Arc};

/// The name of a log: `<log name>/<random log id>`, fixed at its creation, the same as the name of its key. It
/// says nothing of the tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Arc<str>);

impl Origin {
    /// From the name of the logs of an installation and the id of this one. The id has no slash.
    pub fn new(log_name: &str, log_id: &str) -> Option<Origin> {
        if log_id.contains('/') { None } else { Origin::parse(&format!("{log_name}/{log_id}")) }
    }

    /// Parses an origin. The id is what follows the last slash.
    pub fn parse(text: &str) -> Option<Origin> {
        let (log_name, log_id) = text.rsplit_once('/')?;
        let fits = !log_name.is_empty() && !log_id.is_empty() && KeyName::parse(text).is_some();
        fits.then(|| Origin(text.into()))
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The random id.
    pub fn log_id(&self) -> &str {
        self.0.rsplit_once('/').expect("an origin has a slash").1
    }

    /// The name all logs of the installation share.
    pub fn log_name(&self) -> &str {
        self.0.rsplit_once('/').expect("an origin has a slash").0
    }

    /// The name of the key that signs for the log.
    pub fn key_name(&self) -> KeyName {
        KeyName::parse(&self.0).expect("an origin has the characters of a key name")
    }

    /// The signer of this log, from the seed that all logs share.
    pub fn signer(&self, seed: &[u8; 32]) -> Signer {
        Signer::new(self.key_name(), seed)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

/// The size and root of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: Origin,
    /// How many leaves it has.
    pub size: TreeSize,
    /// The root of the tree of these leaves.
    pub root: Hash,
    /// Further lines, opaque: not empty, no control characters. We write none.
    pub extensions: Vec<String>,
}

pub(super) const ORIGIN_LINE: &str = "an origin";
pub(super) const SIZE_LINE: &str = "a tree size";

fn is_extension(line: &str) -> bool {
    !line.is_empty() && !line.contains('\n') && forbidden_in(line).is_none()
}

impl Checkpoint {
    /// A checkpoint without extensions.
    pub fn new(origin: Origin, size: TreeSize, root: Hash) -> Checkpoint {
        Checkpoint { origin, size, root, extensions: Vec::new() }
    }

    /// Parses the body, unsigned: nothing in it may be believed. To read a checkpoint, see
    /// [`Checkpoint::open`].
    pub fn parse(text: &str) -> Result<Checkpoint, BodyError> {
        let mut lines = Lines::of(text)?;
        let mut checkpoint = Checkpoint::new(
            lines.read(ORIGIN_LINE, Origin::parse)?,
            lines.read(SIZE_LINE, TreeSize::parse)?,
            lines.read("a root hash", Hash::from_base64)?,
        );
        while !lines.at_end() {
            let line = lines.read("an extension", |line| is_extension(line).then(|| line.to_owned()))?;
            checkpoint.extensions.push(line);
        }
        Ok(checkpoint)
    }

    /// The signed note. The same checkpoint always gives the same bytes.
    pub fn sign(&self, signer: &Signer) -> Result<String, BodyError> {
        if let Some(at) = self.extensions.iter().position(|line| !is_extension(line)) {
            let found = self.extensions[at].escape_debug().to_string();
            return Err(BodyError::Line { line: at + 4, expected: "an extension", found });
        }
        sign_body(self.to_string(), self.origin.as_str(), signer)
    }

    /// Opens a signed checkpoint: a note with no wrong signature of a known key, and a right one of the log's
    /// own key, which is one of those given. Which size and which log the caller expects is for the caller to
    /// compare.
    pub fn open(bytes: impl AsRef<[u8]>, keys: &[VerifierKey]) -> Result<Checkpoint, BodyError> {
        open_body(bytes.as_ref(), keys, Checkpoint::parse, |checkpoint| checkpoint.origin.as_str())
    }
}

/// The body, as it is signed.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, self.root.to_base64())?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::{empty_root, leaf_hash};
    use super::super::note::{Note, NoteError};
    use super::*;
    use proptest::prelude::*;

    const SEED: [u8; 32] = [7; 32];

    fn origin(log_id: &str) -> Origin {
        Origin::new("stele.example", log_id).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint::new(origin("0123456789abcdef"), TreeSize::new(1), leaf_hash(b"golden"))
    }

    // Made by a program of its own from RFC 8032, RFC 6962 and the C2SP pages.
    const GOLDEN: &str = "\
        stele.example/0123456789abcdef\n\
        1\n\
        LjKrDVhqK0Trv8FNvfXJENgfBwgDcI3iNKDK2Y2T4B0=\n\
        \n\
        — stele.example/0123456789abcdef C+mm8zTLx2+WuiSDCjDhXhwF3Nu4uqMXcLfFQWWSXnpXL60iXHHG/A4IEQZfiGS3Wwikudn7gw0Q5OkJlUArdCZjzw4=\n\
        ";

    #[test]
    fn the_bytes_of_a_checkpoint_do_not_change() {
        let signer = checkpoint().origin.signer(&SEED);
        assert_eq!(
            signer.verifier_key().to_string(),
            "stele.example/0123456789abcdef+0be9a6f3+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
        );
        assert_eq!(checkpoint().sign(&signer).unwrap(), GOLDEN);
        assert_eq!(Checkpoint::open(GOLDEN, &[signer.verifier_key().clone()]), Ok(checkpoint()));
    }

    #[test]
    fn every_changed_byte_of_a_checkpoint_is_noticed() {
        let keys = [checkpoint().origin.signer(&SEED).verifier_key().clone()];
        let bytes = GOLDEN.as_bytes();
        for at in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let mut changed = bytes.to_vec();
                changed[at] = value;
                assert_eq!(Checkpoint::open(&changed, &keys).is_ok(), value == bytes[at], "byte {at}");
            }
            let mut shorter = bytes.to_vec();
            shorter.remove(at);
            assert!(Checkpoint::open(&shorter, &keys).is_err(), "byte {at}");
            let mut longer = bytes.to_vec();
            longer.insert(at, bytes[at]);
            assert!(Checkpoint::open(&longer, &keys).is_err(), "byte {at}");
            assert!(Checkpoint::open(&bytes[..at], &keys).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_signature_can_not_be_moved_to_another_log() {
        let (ours, other) = (checkpoint(), origin("fedcba9876543210"));
        let (signer, other_signer) = (ours.origin.signer(&SEED), other.signer(&SEED));
        let refused = BodyError::NotSignedByLog { origin: ours.origin.to_string() };
        assert_eq!(ours.sign(&other_signer), Err(refused.clone()));
        // The seed is the same, so the signature is right under the other name too.
        let moved = other_signer.sign(ours.to_string()).unwrap().to_string();
        let keys = [signer, other_signer].map(|signer| signer.verifier_key().clone());
        assert_eq!(Checkpoint::open(&moved, &keys), Err(refused));
        assert!(Note::parse(&moved).unwrap().verify(&keys).is_ok());
        assert_eq!(Checkpoint::open(GOLDEN, &keys[1..]), Err(NoteError::NoKnownSignature.into()));
    }

    #[test]
    fn bodies_of_another_form_are_refused() {
        let good = checkpoint().to_string();
        let root = leaf_hash(b"golden").to_base64();
        for (bad, line) in [
            (good.replace("stele.example/", ""), 1),
            (good.replace("/0123456789abcdef", "/"), 1),
            (good.replace(".example", " example"), 1),
            (good.replace("\n1\n", "\n01\n"), 2),
            (good.replace("\n1\n", "\n+1\n"), 2),
            (good.replace("\n1\n", "\n-1\n"), 2),
            (good.replace("\n1\n", "\n\n"), 2),
            (good.replace("\n1\n", "\n18446744073709551616\n"), 2),
            (good.replace(&root, &root[..43]), 3),
            (good.replace(&root, &root[..40]), 3),
            (good.replace(&root, &format!("{root} ")), 3),
            (good.replace(&root, &leaf_hash(b"golden").to_string()), 3),
            ("stele.example/a\n1\n".into(), 3),
            (format!("{good}\n"), 4),
            (format!("{good}extension\n\n"), 5),
            (format!("{good}exten\tsion\n"), 4),
        ] {
            match Checkpoint::parse(&bad) {
                Err(BodyError::Line { line: found, .. }) => assert_eq!(found, line, "{bad}"),
                other => panic!("{bad}: {other:?}"),
            }
        }
        assert_eq!(Checkpoint::parse(good.trim_end()), Err(NoteError::TextEnd.into()));
    }

    #[test]
    fn an_extension_that_would_not_read_back_is_not_signed() {
        let mut checkpoint = checkpoint();
        let signer = checkpoint.origin.signer(&SEED);
        for bad in ["", "a\nb", "a\rb"] {
            checkpoint.extensions = vec!["good".into(), bad.into()];
            assert!(matches!(checkpoint.sign(&signer), Err(BodyError::Line { line: 5, .. })), "{bad:?}");
        }
    }

    #[test]
    fn an_origin_is_a_name_and_an_id() {
        assert_eq!(Origin::parse("a.example/logs/x").unwrap().log_id(), "x");
        for bad in ["", "a", "/", "a/", "/a", "a b/c", "a+b/c", "a/b\n"] {
            assert_eq!(Origin::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Origin::new("a", "b/c"), None);
        assert_eq!(Checkpoint::new(origin("a"), TreeSize::ZERO, empty_root()).to_string().lines().count(), 3);
    }

    proptest! {
        #[test]
        fn signed_checkpoints_open_again(
            log_id in "[a-z0-9]{1,20}", size: u64, root: [u8; 32], seed: [u8; 32],
            extensions in prop::collection::vec("[^\\x00-\\x1f]{1,20}", 0..3),
        ) {
            let (size, root) = (TreeSize::new(size), Hash::from_bytes(root));
            let checkpoint = Checkpoint { origin: origin(&log_id), size, root, extensions };
            let signer = checkpoint.origin.signer(&seed);
            let signed = checkpoint.sign(&signer).unwrap();
            prop_assert_eq!(Checkpoint::open(signed, &[signer.verifier_key().clone()]), Ok(checkpoint));
        }

        #[test]
        fn parsed_bodies_print_back(text in "a/b\n[0-9]{1,3}\n(A{43}=|A{44})\n([a ]|\n){0,6}") {
            if let Ok(checkpoint) = Checkpoint::parse(&text) {
                prop_assert_eq!(checkpoint.to_string(), text);
            }
        }
    }
}
