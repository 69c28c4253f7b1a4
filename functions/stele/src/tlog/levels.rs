//! All audit paths of one tree, from the hashes of its subtrees of 256 leaves: what a bulk of proofs is made from. It holds two
//! hashes for each 256 leaves; the leaf hashes of one subtree come in with each question.

use super::hash::{Hash, LeafIndex, TreeSize, node_hash};
use super::range::{CompactRange, inclusion_proof_between};
use super::tiles::TILE_LEAVES;

/// The tree of a size.
pub struct Levels {
    size: TreeSize,
    /// From 256 leaves up: the roots of all perfect subtrees of each level.
    levels: Vec<Vec<Hash>>,
    /// The leaves behind the last whole subtree of 256.
    tail: Vec<Hash>,
}

impl Levels {
    /// From the roots of its whole subtrees of 256 leaves, and the hashes of the leaves behind them; `None` if their number
    /// does not fit.
    pub fn new(size: TreeSize, level_1: Vec<Hash>, tail: Vec<Hash>) -> Option<Levels> {
        let fits = level_1.len() as u64 == size.to_u64() / TILE_LEAVES
            && tail.len() as u64 == size.to_u64() % TILE_LEAVES;
        let mut levels = vec![level_1];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let pairs = below.as_chunks::<2>().0;
            levels.push(pairs.iter().map(|[left, right]| node_hash(left, right)).collect());
        }
        fits.then_some(Levels { size, levels, tail })
    }

    /// How many leaves it has.
    pub const fn size(&self) -> TreeSize {
        self.size
    }

    /// The root.
    pub fn root(&self) -> Option<Hash> {
        match self.size.to_u64() {
            0 => Some(super::hash::empty_root()),
            _ => self.rest(0),
        }
    }

    /// The audit path of a leaf, given the leaf hashes of the subtree of 256 it lies in, as many as the tree has. `None` if they
    /// are not as many, or the tree has no such leaf.
    pub fn path(&self, leaf: LeafIndex, subtree: &[Hash]) -> Option<Vec<Hash>> {
        let number = leaf.to_u64() / TILE_LEAVES;
        let within = (leaf.to_u64() % TILE_LEAVES) as usize;
        if number == self.levels[0].len() as u64 {
            return self.path_in_tail(number, within, subtree);
        }
        if subtree.len() as u64 != TILE_LEAVES || number > self.levels[0].len() as u64 {
            return None;
        }
        let mut path = Vec::with_capacity(40);
        let mut hashes = subtree.to_vec();
        let mut at = within;
        while hashes.len() > 1 {
            path.push(hashes[at ^ 1]);
            hashes = hashes.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
            at /= 2;
        }
        let mut index = number;
        let mut leaves = TILE_LEAVES;
        for level in 0.. {
            if index == 0 && leaves >= self.size.to_u64() {
                break;
            }
            if index % 2 == 1 {
                path.push(*self.levels.get(level)?.get(index as usize - 1)?);
            } else if (index + 1).checked_mul(leaves)? < self.size.to_u64() {
                let whole = self.levels.get(level).and_then(|level| level.get(index as usize + 1));
                match whole {
                    Some(whole) => path.push(*whole),
                    None => path.push(self.rest((index + 1) * leaves)?),
                }
            }
            index /= 2;
            leaves = leaves.checked_mul(2)?;
        }
        Some(path)
    }

    fn path_in_tail(&self, number: u64, within: usize, subtree: &[Hash]) -> Option<Vec<Hash>> {
        if subtree != self.tail {
            return None;
        }
        let mut before = CompactRange::empty(TreeSize::ZERO);
        let mut at = 0;
        for (level, roots) in self.levels.iter().enumerate().rev() {
            let leaves = TILE_LEAVES << level;
            if at + leaves <= number * TILE_LEAVES {
                before.append_subtree(8 + level as u32, *roots.get((at / leaves) as usize)?)?;
                at += leaves;
            }
        }
        self.tail.get(..within)?.iter().for_each(|hash| before.append(*hash));
        let index = LeafIndex::new(number * TILE_LEAVES + within as u64);
        let mut after = CompactRange::empty(index.size_after());
        self.tail.get(within + 1..)?.iter().for_each(|hash| after.append(*hash));
        inclusion_proof_between(&before, *self.tail.get(within)?, &after)
    }

    /// The hash over all leaves from one on that a large subtree begins with, up to the tree's end.
    fn rest(&self, first: u64) -> Option<Hash> {
        let mut parts = Vec::new();
        let mut at = first;
        for (level, roots) in self.levels.iter().enumerate().rev() {
            let leaves = TILE_LEAVES << level;
            while at.is_multiple_of(leaves) && at + leaves <= self.size.to_u64() {
                parts.push(*roots.get((at / leaves) as usize)?);
                at += leaves;
            }
        }
        let mut tail = CompactRange::empty(TreeSize::new(at));
        self.tail.iter().for_each(|hash| tail.append(*hash));
        parts.extend(tail.hashes());
        parts.into_iter().rev().reduce(|right, left| node_hash(&left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::leaf_hash;
    use super::super::proof::inclusion_proof;
    use super::super::tree::RightEdge;
    use super::*;

    fn root(leaves: &[Hash]) -> Hash {
        let mut edge = RightEdge::empty();
        edge.extend(leaves.iter().copied());
        edge.root()
    }

    #[test]
    fn every_path_is_the_one_made_from_the_leaves() {
        let all: Vec<Hash> = (0..3_000_u64).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        for size in [1, 2, 255, 256, 257, 511, 512, 513, 767, 768, 1_024, 1_025, 1_300, 2_047, 2_560, 2_999] {
            let leaves = &all[..size];
            let (blocks, tail) = leaves.as_chunks::<256>();
            let level_1 = blocks.iter().map(|block| root(block)).collect();
            let levels = Levels::new(TreeSize::new(size as u64), level_1, tail.to_vec()).unwrap();
            assert_eq!(levels.root(), Some(root(leaves)), "size {size}");
            for leaf in (0..size).step_by(7).chain([size - 1]) {
                let block = leaf / 256 * 256;
                let subtree = &leaves[block..(block + 256).min(size)];
                let index = LeafIndex::new(leaf as u64);
                let expected = inclusion_proof(leaves, index, levels.size()).unwrap();
                assert_eq!(levels.path(index, subtree), Some(expected), "leaf {leaf} of {size}");
                assert_eq!(levels.path(index, &subtree[1..]), None);
            }
            assert_eq!(levels.path(LeafIndex::new(size as u64), &[]), None);
        }
    }

    #[test]
    fn hashes_that_do_not_fit_the_size_are_no_tree() {
        assert!(Levels::new(TreeSize::new(300), Vec::new(), Vec::new()).is_none());
        assert!(Levels::new(TreeSize::new(0), Vec::new(), Vec::new()).unwrap().root().is_some());
    }
}
