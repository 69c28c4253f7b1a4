//! The right edge of a tree: all that is needed to append to it and to know its root.
//!
//! It holds no leaves and proves nothing about them; proofs are made from leaf hashes in [`super::proof`].

use super::hash::{Hash, TreeSize, empty_root, node_hash};

/// The compact range of a tree: the roots of its perfect subtrees, largest first. One hash for each bit that
/// is set in the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RightEdge {
    size: TreeSize,
    hashes: Vec<Hash>,
}

/// Sizes beyond this are not read: leaf indexes are stored as signed 64-bit integers. It also keeps `append`
/// from ever overflowing.
const SIZE_MAX: u64 = i64::MAX as u64;

impl RightEdge {
    /// The edge of the tree without leaves.
    pub const fn empty() -> RightEdge {
        RightEdge { size: TreeSize::ZERO, hashes: Vec::new() }
    }

    /// From what [`RightEdge::size`] and [`RightEdge::hashes`] gave. Nothing if the number of hashes does not
    /// fit the size, or no log can be that long.
    pub fn from_parts(size: TreeSize, hashes: Vec<Hash>) -> Option<RightEdge> {
        let fits = size.to_u64() <= SIZE_MAX && hashes.len() == size.to_u64().count_ones() as usize;
        fits.then_some(RightEdge { size, hashes })
    }

    /// How many leaves the tree has.
    pub const fn size(&self) -> TreeSize {
        self.size
    }

    /// The roots of the perfect subtrees, largest first.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Appends a leaf by its hash: one hash on average, one per level at the most.
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Like adding one in binary: each trailing one is a perfect subtree that the new leaf completes.
        for _ in 0..self.size.to_u64().trailing_ones() {
            let left = self.hashes.pop().expect("one hash for each bit set in the size");
            hash = node_hash(&left, &hash);
        }
        self.hashes.push(hash);
        self.size = self.size.plus(1).expect("2^63 leaves can't be appended");
    }

    /// The root of the tree (RFC 6962 §2.1).
    pub fn root(&self) -> Hash {
        let from_the_right = self.hashes.iter().rev().copied();
        from_the_right.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }
}

impl Extend<Hash> for RightEdge {
    fn extend<I: IntoIterator<Item = Hash>>(&mut self, leaves: I) {
        leaves.into_iter().for_each(|leaf| self.append(leaf));
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::leaf_hash;
    use super::*;
    use proptest::prelude::*;

    /// The definition, word for word: split at the largest power of two below n.
    fn merkle_tree_hash(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let mut split = 1;
                while split * 2 < leaves.len() {
                    split *= 2;
                }
                node_hash(&merkle_tree_hash(&leaves[..split]), &merkle_tree_hash(&leaves[split..]))
            }
        }
    }

    #[test]
    fn every_small_tree_has_the_root_of_its_definition() {
        let leaves: Vec<Hash> = (0..300_u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut edge = RightEdge::empty();
        for size in 0..=leaves.len() {
            assert_eq!(edge.root(), merkle_tree_hash(&leaves[..size]), "size {size}");
            assert_eq!(edge.size().to_u64(), size as u64);
            assert_eq!(edge.hashes().len(), size.count_ones() as usize);
            edge.extend(leaves.get(size).copied());
        }
    }

    #[test]
    fn an_edge_that_does_not_fit_its_size_is_refused() {
        let hash = empty_root();
        for (size, hashes) in [(0, 1), (1, 0), (5, 1), (5, 3), (u64::MAX, 64), (1 << 63, 1)] {
            assert_eq!(RightEdge::from_parts(TreeSize::new(size), vec![hash; hashes]), None, "{size}");
        }
        let mut largest = RightEdge::from_parts(TreeSize::new(SIZE_MAX), vec![hash; 63]).unwrap();
        largest.append(hash);
        assert_eq!(largest.hashes().len(), 1);
    }

    proptest! {
        #[test]
        fn appending_goes_on_from_stored_parts(
            leaves in prop::collection::vec(any::<[u8; 32]>(), 0..200),
            stop: prop::sample::Index,
        ) {
            let leaves: Vec<Hash> = leaves.into_iter().map(Hash::from_bytes).collect();
            let stop = stop.index(leaves.len() + 1);
            let mut edge = RightEdge::empty();
            edge.extend(leaves[..stop].iter().copied());
            let mut again = RightEdge::from_parts(edge.size(), edge.hashes().to_vec()).unwrap();
            prop_assert_eq!(&again, &edge);
            again.extend(leaves[stop..].iter().copied());
            prop_assert_eq!(again.root(), merkle_tree_hash(&leaves));
        }
    }
}
