//! Manifests: a signed note that lists new objects of a log, with the leaves each holds and the hash of its
//! file.
//!
//! ```text
//! <origin>
//! stele manifest v1
//! <tree size>
//! <right edge: hashes in base64, largest subtree first, or `-`>
//! <key> <first leaf index> <end> <SHA-256 of the file in base64>
//! ```
//!
//! The last line comes once for each object, in the order of the list. The second line is no tree size, so that
//! no manifest can be taken for a checkpoint. Which objects are listed when is for those who seal and compact.

use super::checkpoint::{ORIGIN_LINE, Origin, SIZE_LINE};
use super::hash::{Hash, LeafIndex, TreeSize};
use super::note::{BodyError, Lines, Signer, VerifierKey, open_body, sign_body};
use super::tree::RightEdge;
use std::{collections::BTreeSet, fmt};

const VERSION: &str = "stele manifest v1";
const EMPTY_EDGE: &str = "-";
const OBJECT_LINE: &str = "an object with its leaves and hash, once, within the tree";

/// New objects of a log at a tree size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The log.
    pub origin: Origin,
    /// How many leaves it has; the edge's own size.
    pub size: TreeSize,
    /// The right edge at that size: from it follows the root.
    pub edge: RightEdge,
    /// The objects, each key once.
    pub objects: Vec<ManifestObject>,
}

/// A stored object that holds the leaves [first, end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestObject {
    /// Its key: without spaces and control characters.
    pub key: String,
    /// The first leaf it holds.
    pub first: LeafIndex,
    /// The end of its leaves: after the first, and not beyond the tree.
    pub end: TreeSize,
    /// SHA-256 of the file.
    pub sha256: Hash,
}

impl ManifestObject {
    fn parse(line: &str) -> Option<ManifestObject> {
        let [key, first, end, sha256] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        Some(ManifestObject {
            key: key.to_owned(),
            first: LeafIndex::parse(first)?,
            end: TreeSize::parse(end)?,
            sha256: Hash::from_base64(sha256)?,
        })
    }

    fn fits(&self, size: TreeSize) -> bool {
        let key_fits =
            !self.key.is_empty() && self.key.chars().all(|c| !c.is_whitespace() && !c.is_control());
        key_fits && self.end.contains(self.first) && self.end <= size
    }
}

impl fmt::Display for ManifestObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.key, self.first, self.end, self.sha256.to_base64())
    }
}

impl Manifest {
    /// Parses the body, unsigned: nothing in it may be believed. To read a manifest, see [`Manifest::open`].
    pub fn parse(text: &str) -> Result<Manifest, BodyError> {
        let mut lines = Lines::of(text)?;
        let origin = lines.read(ORIGIN_LINE, Origin::parse)?;
        lines.read("`stele manifest v1`", |line| (line == VERSION).then_some(()))?;
        let size = lines.read(SIZE_LINE, TreeSize::parse)?;
        let edge = lines.read("the right edge of a tree of this size", |line| parse_edge(size, line))?;
        let mut objects = Vec::new();
        let mut keys = BTreeSet::new();
        while !lines.at_end() {
            objects.push(lines.read(OBJECT_LINE, |line| {
                let key = line.split(' ').next()?;
                ManifestObject::parse(line).filter(|object| object.fits(size) && keys.insert(key))
            })?);
        }
        Ok(Manifest { origin, size, edge, objects })
    }

    /// The signed note. The same manifest always gives the same bytes. A manifest that could not be read back
    /// is not signed.
    pub fn sign(&self, signer: &Signer) -> Result<String, BodyError> {
        let mut keys = BTreeSet::new();
        let misfit = self.objects.iter().position(|o| !o.fits(self.size) || !keys.insert(&o.key));
        if let Some(at) = misfit {
            let found = self.objects[at].to_string().escape_debug().to_string();
            return Err(BodyError::Line { line: at + 5, expected: OBJECT_LINE, found });
        }
        if self.edge.size() != self.size {
            let found = self.edge.size().to_string();
            return Err(BodyError::Line {
                line: 4,
                expected: "the right edge of a tree of this size",
                found,
            });
        }
        sign_body(self.to_string(), self.origin.as_str(), signer)
    }

    /// Opens a signed manifest: a note with no wrong signature of a known key, and a right one of the log's own
    /// key, which is one of those given.
    pub fn open(bytes: impl AsRef<[u8]>, keys: &[VerifierKey]) -> Result<Manifest, BodyError> {
        open_body(bytes.as_ref(), keys, Manifest::parse, |manifest| manifest.origin.as_str())
    }
}

fn parse_edge(size: TreeSize, line: &str) -> Option<RightEdge> {
    let hashes = match line {
        EMPTY_EDGE => Vec::new(),
        _ => line.split(' ').map(Hash::from_base64).collect::<Option<_>>()?,
    };
    RightEdge::from_parts(size, hashes)
}

/// The body, as it is signed.
impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hashes: Vec<String> = self.edge.hashes().iter().map(|hash| hash.to_base64()).collect();
        let edge = if hashes.is_empty() { EMPTY_EDGE.to_owned() } else { hashes.join(" ") };
        write!(f, "{}\n{VERSION}\n{}\n{edge}\n", self.origin, self.size)?;
        self.objects.iter().try_for_each(|object| writeln!(f, "{object}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::Checkpoint;
    use super::super::hash::leaf_hash;
    use super::super::note::NoteError;
    use super::*;
    use proptest::prelude::*;

    const SEED: [u8; 32] = [7; 32];

    fn edge(size: u64) -> RightEdge {
        let mut edge = RightEdge::empty();
        edge.extend((0..size).map(|n| leaf_hash(&n.to_be_bytes())));
        edge
    }

    fn object(key: &str, first: u64, end: u64) -> ManifestObject {
        let sha256 = Hash::of(key.as_bytes());
        ManifestObject { key: key.to_owned(), first: LeafIndex::new(first), end: TreeSize::new(end), sha256 }
    }

    fn manifest(size: u64, objects: Vec<ManifestObject>) -> Manifest {
        let origin = Origin::new("stele.example", "0123456789abcdef").unwrap();
        Manifest { origin, size: TreeSize::new(size), edge: edge(size), objects }
    }

    fn golden() -> Manifest {
        let objects = [("segments/a/00.parquet", 0, 2), ("segments/a/02.parquet", 2, 3)];
        manifest(3, objects.map(|(key, first, end)| object(key, first, end)).to_vec())
    }

    // Made by a program of its own from RFC 8032, RFC 6962 and the page above.
    const GOLDEN: &str = "\
        stele.example/0123456789abcdef\n\
        stele manifest v1\n\
        3\n\
        p9kYlLYfv0Y3jYjj4bH3rvOVMsUEtIS9MVUdFeCgnf8= 2B9ReB7rj0ag4RLobKM1iWzMEs7gDmz89Yo1ARKd/CQ=\n\
        segments/a/00.parquet 0 2 mHya5gfRixziOrl/CP67io6A/gw3qevttU9EQgFcGSQ=\n\
        segments/a/02.parquet 2 3 U1TX/dcq7+0OvaDaqjT2Gej8uYKELHWy6OP0uQrp3mQ=\n\
        \n\
        — stele.example/0123456789abcdef C+mm8y9jjFeP0c18pwSacKjkciI8UZYsXGhW1EL3WUUbXOiHwW1eJBMBKNTuYlWeiVQzdN/XmJBSndm8p/pfr+HAAgk=\n\
        ";

    #[test]
    fn the_bytes_of_a_manifest_do_not_change() {
        let signer = golden().origin.signer(&SEED);
        let keys = [signer.verifier_key().clone()];
        assert_eq!(golden().sign(&signer).unwrap(), GOLDEN);
        assert_eq!(Manifest::open(GOLDEN, &keys), Ok(golden()));
        assert!(matches!(Checkpoint::open(GOLDEN, &keys), Err(BodyError::Line { line: 2, .. })));
        let empty = manifest(0, Vec::new());
        assert_eq!(empty.to_string(), "stele.example/0123456789abcdef\nstele manifest v1\n0\n-\n");
        assert_eq!(Manifest::open(empty.sign(&signer).unwrap(), &keys), Ok(empty));
    }

    #[test]
    fn every_changed_byte_of_a_manifest_is_noticed() {
        let keys = [golden().origin.signer(&SEED).verifier_key().clone()];
        for at in 0..GOLDEN.len() {
            for bit in 0..8 {
                let mut changed = GOLDEN.as_bytes().to_vec();
                changed[at] ^= 1 << bit;
                assert!(Manifest::open(&changed, &keys).is_err(), "byte {at}");
            }
            assert!(Manifest::open(&GOLDEN.as_bytes()[..at], &keys).is_err(), "byte {at}");
        }
    }

    #[test]
    fn bodies_of_another_form_are_refused() {
        let good = golden().to_string();
        let last = good.lines().last().unwrap();
        let edge_line = good.lines().nth(3).unwrap();
        for (bad, line) in [
            (good.replace("stele.example/", ""), 1),
            (good.replace("manifest v1", "manifest v2"), 2),
            (good.replace("\n3\n", "\n03\n"), 3),
            (good.replace("\n3\n", "\n4\n"), 4),
            (good.replace("\n3\n", "\n18446744073709551615\n"), 4),
            (good.replace(edge_line, "-"), 4),
            (good.replace(edge_line, ""), 4),
            (good.replace(edge_line, &edge_line.replace(' ', "  ")), 4),
            (format!("{good}\n"), 7),
            (format!("{good}{last}\n"), 7),
            (format!("{good}x 0 1\n"), 7),
            (format!("{good}{}\n", object("x", 1, 1)), 7),
            (format!("{good}{}\n", object("x", 2, 1)), 7),
            (format!("{good}{}\n", object("x", 2, 4)), 7),
            (format!("{good}{}\n", object("", 0, 1)), 7),
            (format!("{good}{}\n", object("a b", 0, 1)), 7),
            (format!("{good}{}\n", object("a\rb", 0, 1)), 7),
            (format!("{good}{} \n", object("x", 0, 1)), 7),
            (format!("{good}{}\n", object("x", 0, 1).to_string().replace(" 0 ", " 00 ")), 7),
        ] {
            match Manifest::parse(&bad) {
                Err(BodyError::Line { line: found, .. }) => assert_eq!(found, line, "{bad}"),
                other => panic!("{bad}: {other:?}"),
            }
        }
        assert_eq!(Manifest::parse(good.trim_end()), Err(NoteError::TextEnd.into()));
    }

    #[test]
    fn a_manifest_that_would_not_read_back_is_not_signed() {
        let signer = golden().origin.signer(&SEED);
        let refused_at = |manifest: Manifest| match manifest.sign(&signer) {
            Err(BodyError::Line { line, .. }) => line,
            other => panic!("{other:?}"),
        };
        for bad in [
            object("a b", 0, 1),
            object("a\nb", 0, 1),
            object("", 0, 1),
            object("x", 0, 4),
            object("x", 1, 1),
        ] {
            assert_eq!(refused_at(manifest(3, vec![object("good", 0, 3), bad])), 6);
        }
        assert_eq!(refused_at(manifest(3, vec![object("x", 0, 1), object("x", 1, 2)])), 6);
        assert_eq!(refused_at(Manifest { size: TreeSize::new(2), ..manifest(3, Vec::new()) }), 4);
        let many = (0..12_000).map(|n| object(&format!("{n:040}"), 0, 1)).collect();
        let too_large = manifest(1, many).sign(&signer);
        assert!(matches!(too_large, Err(BodyError::Note(NoteError::TooLarge(_)))));
    }

    proptest! {
        #[test]
        fn signed_manifests_open_again(
            size in 1..300_u64,
            objects in prop::collection::btree_map("[!-~]{1,30}", (any::<prop::sample::Index>(), any::<[u8; 32]>()), 0..5),
            seed: [u8; 32],
        ) {
            let objects = objects.into_iter().map(|(key, (first, sha256))| {
                let (first, sha256) = (first.index(size as usize) as u64, Hash::from_bytes(sha256));
                ManifestObject { sha256, ..object(&key, first, size) }
            });
            let manifest = manifest(size, objects.collect());
            let signer = manifest.origin.signer(&seed);
            let signed = manifest.sign(&signer).unwrap();
            prop_assert_eq!(Manifest::open(signed, &[signer.verifier_key().clone()]), Ok(manifest));
        }
    }
}
