//! Inclusion and consistency proofs (RFC 6962 §2.1.1 and §2.1.2, checked as in RFC 9162 §2.1.3.2 and
//! §2.1.4.2).
//!
//! Proofs are made from leaf hashes; where those come from is not known here. Whether a root may be trusted is
//! the checkpoint's matter: a proof only ties a leaf, or another root, to it.

use super::hash::{Hash, LeafIndex, TreeSize, empty_root, node_hash};
use std::fmt;

/// Why a proof can't be made, or proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofError {
    /// The tree has no such leaf.
    NoSuchLeaf {
        /// The leaf asked for.
        index: LeafIndex,
        /// The size of the tree.
        size: TreeSize,
    },
    /// Not the sizes of an earlier and a later tree. Nothing is consistent with the empty tree in any sense
    /// worth proving, so the earlier one has a leaf.
    NoSuchSizes {
        /// The earlier size.
        earlier: TreeSize,
        /// The later size.
        later: TreeSize,
    },
    /// More leaves are needed than were given.
    TooFewLeaves {
        /// How many are needed.
        expected: TreeSize,
        /// How many were given.
        found: TreeSize,
    },
    /// Not as many hashes as the proof must have.
    WrongLength {
        /// How many were given.
        found: usize,
    },
    /// The proof leads to another root.
    WrongRoot {
        /// The root of the checkpoint.
        expected: Hash,
        /// The root the proof leads to.
        found: Hash,
    },
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProofError::NoSuchLeaf { index, size } => {
                write!(f, "a tree of `{size}` leaves has no leaf `{index}`")
            }
            ProofError::NoSuchSizes { earlier, later } => {
                write!(f, "no consistency proof leads from size `{earlier}` to size `{later}`")
            }
            ProofError::TooFewLeaves { expected, found } => {
                write!(f, "`{expected}` leaf hashes are needed, found `{found}`")
            }
            ProofError::WrongLength { found } => {
                write!(f, "a proof of `{found}` hashes has the wrong length")
            }
            ProofError::WrongRoot { expected, found } => {
                write!(f, "the proof leads to root `{found}`, expected `{expected}`")
            }
        }
    }
}

impl std::error::Error for ProofError {}

/// The proof that the leaf at `index` is in the tree of the first `size` leaves, given at least these.
pub fn inclusion_proof(leaves: &[Hash], index: LeafIndex, size: TreeSize) -> Result<Vec<Hash>, ProofError> {
    if !size.contains(index) {
        return Err(ProofError::NoSuchLeaf { index, size });
    }
    let leaves = first_leaves(leaves, size)?;
    let mut proof = Vec::new();
    inclusion_path(leaves, index.to_u64() as usize, &mut proof);
    Ok(proof)
}

/// The proof that the tree of the first `earlier` leaves is a prefix of that of the first `later`, given at
/// least these. `earlier` is at least 1; between equal sizes the proof is empty.
pub fn consistency_proof(
    leaves: &[Hash],
    earlier: TreeSize,
    later: TreeSize,
) -> Result<Vec<Hash>, ProofError> {
    if earlier == TreeSize::ZERO || earlier > later {
        return Err(ProofError::NoSuchSizes { earlier, later });
    }
    let leaves = first_leaves(leaves, later)?;
    let mut proof = Vec::new();
    consistency_path(leaves, earlier.to_u64() as usize, true, &mut proof);
    Ok(proof)
}

/// Checks that the leaf with this hash is at `index` of the tree with this size and root.
pub fn verify_inclusion(
    leaf_hash: &Hash,
    index: LeafIndex,
    size: TreeSize,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    let Some(last) = size.last_index().filter(|_| size.contains(index)) else {
        return Err(ProofError::NoSuchLeaf { index, size });
    };
    let mut place = Place { node: index.to_u64(), last: last.to_u64() };
    let mut found = *leaf_hash;
    for sibling in proof {
        found = match place.climb() {
            None => return Err(ProofError::WrongLength { found: proof.len() }),
            Some(Side::Left) => node_hash(sibling, &found),
            Some(Side::Right) => node_hash(&found, sibling),
        };
    }
    finish(place, proof.len(), &[(root, found)])
}

/// Checks that the tree with the first size and root is a prefix of that with the second.
pub fn verify_consistency(
    earlier: TreeSize,
    later: TreeSize,
    proof: &[Hash],
    earlier_root: &Hash,
    later_root: &Hash,
) -> Result<(), ProofError> {
    let (Some(earlier_last), Some(later_last), true) =
        (earlier.last_index(), later.last_index(), earlier <= later)
    else {
        return Err(ProofError::NoSuchSizes { earlier, later });
    };
    let wrong_length = ProofError::WrongLength { found: proof.len() };
    if earlier == later {
        return match proof {
            [] if earlier_root == later_root => Ok(()),
            [] => Err(ProofError::WrongRoot { expected: *later_root, found: *earlier_root }),
            _ => Err(wrong_length),
        };
    }
    // The walk begins at the largest perfect subtree that ends where the earlier tree ends. When that is the
    // whole earlier tree, its root is known and not sent.
    let levels = earlier_last.to_u64().trailing_ones();
    let mut place = Place { node: earlier_last.to_u64() >> levels, last: later_last.to_u64() >> levels };
    let (start, rest) = if earlier.to_u64().is_power_of_two() {
        (earlier_root, proof)
    } else {
        proof.split_first().ok_or(wrong_length)?
    };
    let (mut earlier_found, mut later_found) = (*start, *start);
    for sibling in rest {
        match place.climb() {
            None => return Err(wrong_length),
            Some(Side::Left) => {
                earlier_found = node_hash(sibling, &earlier_found);
                later_found = node_hash(sibling, &later_found);
            }
            // What is to the right came after the earlier tree.
            Some(Side::Right) => later_found = node_hash(&later_found, sibling),
        }
    }
    finish(place, proof.len(), &[(earlier_root, earlier_found), (later_root, later_found)])
}

/// Where a sibling stands.
enum Side {
    Left,
    Right,
}

/// A node of one level of the tree, and the last node of that level.
#[derive(Clone, Copy)]
struct Place {
    node: u64,
    last: u64,
}

impl Place {
    /// Goes up to the next node that has a sibling below it, and says where that sibling stands. Nothing at
    /// the root.
    fn climb(&mut self) -> Option<Side> {
        if self.last == 0 {
            return None;
        }
        let side = if self.node & 1 == 1 || self.node == self.last { Side::Left } else { Side::Right };
        if let Side::Left = side {
            // The last node of a level without a sibling is carried up as it is. (The node is not 0: it is odd,
            // or the last of a level that has more than one.)
            let lone = self.node.trailing_zeros();
            self.node >>= lone;
            self.last >>= lone;
        }
        self.node >>= 1;
        self.last >>= 1;
        Some(side)
    }
}

/// The last step of both checks: at the root, and it is the right one.
fn finish(place: Place, length: usize, roots: &[(&Hash, Hash)]) -> Result<(), ProofError> {
    if place.last != 0 {
        return Err(ProofError::WrongLength { found: length });
    }
    match roots.iter().find(|(expected, found)| *expected != found) {
        None => Ok(()),
        Some(&(expected, found)) => Err(ProofError::WrongRoot { expected: *expected, found }),
    }
}

fn first_leaves(leaves: &[Hash], size: TreeSize) -> Result<&[Hash], ProofError> {
    let wanted = usize::try_from(size.to_u64()).ok();
    wanted
        .and_then(|wanted| leaves.get(..wanted))
        .ok_or(ProofError::TooFewLeaves { expected: size, found: TreeSize::new(leaves.len() as u64) })
}

/// The largest power of two below a number of at least 2.
fn split_of(leaves: usize) -> usize {
    1 << (leaves - 1).ilog2()
}

fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split_of(leaves.len()));
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// RFC 6962 §2.1.1, PATH(m, D[n]).
fn inclusion_path(leaves: &[Hash], index: usize, proof: &mut Vec<Hash>) {
    if leaves.len() < 2 {
        return;
    }
    let split = split_of(leaves.len());
    let (left, right) = leaves.split_at(split);
    if index < split {
        inclusion_path(left, index, proof);
        proof.push(root_of(right));
    } else {
        inclusion_path(right, index - split, proof);
        proof.push(root_of(left));
    }
}

/// RFC 6962 §2.1.2, SUBPROOF(m, D[n], b): `known` while the subtree is one the verifier has the root of.
fn consistency_path(leaves: &[Hash], earlier: usize, known: bool, proof: &mut Vec<Hash>) {
    if earlier == leaves.len() {
        if !known {
            proof.push(root_of(leaves));
        }
        return;
    }
    let split = split_of(leaves.len());
    let (left, right) = leaves.split_at(split);
    if earlier <= split {
        consistency_path(left, earlier, known, proof);
        proof.push(root_of(right));
    } else {
        consistency_path(right, earlier - split, false, proof);
        proof.push(root_of(left));
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::leaf_hash;
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    fn flipped(hash: &Hash, bit: usize) -> Hash {
        let mut bytes = *hash.as_bytes();
        bytes[bit / 8 % 32] ^= 1 << (bit % 8);
        Hash::from_bytes(bytes)
    }

    /// Every way to spoil a proof in one place.
    fn spoilt(proof: &[Hash], bit: usize) -> Vec<Vec<Hash>> {
        let mut all = Vec::new();
        for at in 0..proof.len() {
            let mut changed = proof.to_vec();
            changed[at] = flipped(&proof[at], bit);
            all.push(changed);
            let mut shorter = proof.to_vec();
            shorter.remove(at);
            all.push(shorter);
        }
        for at in 0..=proof.len() {
            let mut longer = proof.to_vec();
            longer.insert(at, proof.first().copied().unwrap_or_else(empty_root));
            all.push(longer);
        }
        all
    }

    #[test]
    fn every_proof_of_every_small_tree_verifies() {
        let all = leaves(40);
        for later in 1..=40_u64 {
            let (later_size, later_root) = (TreeSize::new(later), root_of(&all[..later as usize]));
            for n in 0..later {
                let (index, leaf) = (LeafIndex::new(n), &all[n as usize]);
                let proof = inclusion_proof(&all, index, later_size).unwrap();
                assert_eq!(verify_inclusion(leaf, index, later_size, &proof, &later_root), Ok(()));
                let (earlier, root) = (index.size_after(), root_of(&all[..=n as usize]));
                let proof = consistency_proof(&all, earlier, later_size).unwrap();
                assert_eq!(verify_consistency(earlier, later_size, &proof, &root, &later_root), Ok(()));
            }
        }
    }

    #[test]
    fn what_is_not_in_the_tree_has_no_proof() {
        let (all, root) = (leaves(3), root_of(&leaves(3)));
        let (three, four) = (TreeSize::new(3), TreeSize::new(4));
        let outside = LeafIndex::new(3);
        let no_leaf = ProofError::NoSuchLeaf { index: outside, size: three };
        assert_eq!(inclusion_proof(&all, outside, three), Err(no_leaf));
        assert_eq!(verify_inclusion(&all[0], outside, three, &[], &root), Err(no_leaf));
        let too_few = ProofError::TooFewLeaves { expected: four, found: three };
        assert_eq!(inclusion_proof(&all, outside, four), Err(too_few));
        assert_eq!(consistency_proof(&all, three, four), Err(too_few));
        for (earlier, later) in [(TreeSize::ZERO, three), (TreeSize::ZERO, TreeSize::ZERO), (four, three)] {
            let no_sizes = ProofError::NoSuchSizes { earlier, later };
            assert_eq!(consistency_proof(&all, earlier, later), Err(no_sizes));
            assert_eq!(verify_consistency(earlier, later, &[], &root, &root), Err(no_sizes));
        }
    }

    #[test]
    fn the_largest_numbers_are_an_error_and_no_panic() {
        let (hash, max) = (empty_root(), TreeSize::new(u64::MAX));
        for length in [0, 1, 63, 64, 65] {
            let proof = vec![hash; length];
            for index in [0, 1, 1 << 63, u64::MAX - 1, u64::MAX] {
                assert!(verify_inclusion(&hash, LeafIndex::new(index), max, &proof, &hash).is_err());
                assert!(
                    verify_consistency(TreeSize::new(index), max, &proof, &hash, &leaf_hash(b"")).is_err()
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn inclusion_is_proven_and_every_change_refused(
            size in 1..400_u64, at: prop::sample::Index, other: prop::sample::Index, bit in 0..256_usize,
        ) {
            let (all, count) = (leaves(size), TreeSize::new(size));
            let (at, root) = (at.index(all.len()), root_of(&all));
            let (leaf, index) = (&all[at], LeafIndex::new(at as u64));
            let proof = inclusion_proof(&all, index, count).unwrap();
            prop_assert_eq!(verify_inclusion(leaf, index, count, &proof, &root), Ok(()));
            prop_assert!(verify_inclusion(&flipped(leaf, bit), index, count, &proof, &root).is_err());
            prop_assert!(verify_inclusion(leaf, index, count, &proof, &flipped(&root, bit)).is_err());
            let other = LeafIndex::new(other.index(all.len()) as u64);
            prop_assert!(other == index || verify_inclusion(leaf, other, count, &proof, &root).is_err());
            for bad in spoilt(&proof, bit) {
                prop_assert!(verify_inclusion(leaf, index, count, &bad, &root).is_err());
            }
        }

        #[test]
        fn consistency_is_proven_and_every_change_refused(
            size in 1..400_u64, at: prop::sample::Index, bit in 0..256_usize,
        ) {
            let (all, later) = (leaves(size), TreeSize::new(size));
            let earlier = at.index(all.len()) + 1;
            let (root1, root2) = (root_of(&all[..earlier]), root_of(&all));
            let earlier = TreeSize::new(earlier as u64);
            let proof = consistency_proof(&all, earlier, later).unwrap();
            prop_assert_eq!(verify_consistency(earlier, later, &proof, &root1, &root2), Ok(()));
            prop_assert!(verify_consistency(earlier, later, &proof, &flipped(&root1, bit), &root2).is_err());
            prop_assert!(verify_consistency(earlier, later, &proof, &root1, &flipped(&root2, bit)).is_err());
            for bad in spoilt(&proof, bit) {
                prop_assert!(verify_consistency(earlier, later, &bad, &root1, &root2).is_err());
            }
        }

        #[test]
        fn any_proof_is_right_or_an_error(
            index: u64, size: u64, proof in prop::collection::vec(any::<[u8; 32]>(), 0..70),
        ) {
            let proof: Vec<Hash> = proof.into_iter().map(Hash::from_bytes).collect();
            let (size, root) = (TreeSize::new(size), empty_root());
            let _ = verify_inclusion(&root, LeafIndex::new(index), size, &proof, &root);
            let _ = verify_consistency(TreeSize::new(index), size, &proof, &root, &root);
        }
    }
}
