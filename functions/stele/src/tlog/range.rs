//! Compact ranges: the perfect subtrees that leaves `[first, end)` of a tree are made of. What is left of leaves that
//! are gone: ranges that follow each other join, and a right edge and the range after it give every later root and
//! the proof that the one tree grew out of the other.

use super::hash::{Hash, TreeSize, node_hash};
use super::tree::RightEdge;

/// The level of the subtrees that [`Subtrees`] does not merge further: 256 leaves, as one tile of level 0.
const TILE_LEVEL: u32 = 8;
const TILE_LEAVES: u64 = 1 << TILE_LEVEL;

/// The hashes of the largest aligned perfect subtrees of `[first, end)`, from left to right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactRange {
    first: TreeSize,
    end: TreeSize,
    nodes: Vec<Node>,
}

/// The root of a perfect subtree: its leaves are `index << level .. (index + 1) << level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    level: u32,
    index: u64,
    hash: Hash,
}

impl Node {
    fn first(&self) -> u64 {
        self.index << self.level
    }
}

impl CompactRange {
    /// The range without leaves that begins at a size.
    pub const fn empty(at: TreeSize) -> CompactRange {
        CompactRange { first: at, end: at, nodes: Vec::new() }
    }

    /// From what [`CompactRange::hashes`] gave; `None` if their number does not fit.
    pub fn from_parts(first: TreeSize, end: TreeSize, hashes: Vec<Hash>) -> Option<CompactRange> {
        let places = places(first.to_u64(), end.to_u64())?;
        if places.len() != hashes.len() {
            return None;
        }
        let nodes = places.into_iter().zip(hashes).map(|((level, index), hash)| Node { level, index, hash });
        Some(CompactRange { first, end, nodes: nodes.collect() })
    }

    /// Where it begins.
    pub const fn first(&self) -> TreeSize {
        self.first
    }

    /// Where it ends.
    pub const fn end(&self) -> TreeSize {
        self.end
    }

    /// The subtrees' roots, from left to right.
    pub fn hashes(&self) -> impl Iterator<Item = Hash> + '_ {
        self.nodes.iter().map(|node| node.hash)
    }

    /// Appends a leaf by its hash.
    pub fn append(&mut self, leaf: Hash) {
        let index = self.end.to_u64();
        self.end = self.end.plus(1).expect("2^63 leaves can't be appended");
        self.push(Node { level: 0, index, hash: leaf });
    }

    /// Appends the range that follows; `None`, and nothing changed, if another does.
    #[must_use]
    pub fn join(&mut self, next: &CompactRange) -> Option<()> {
        if next.first != self.end {
            return None;
        }
        for node in &next.nodes {
            self.push(*node);
        }
        self.end = next.end;
        Some(())
    }

    /// Appends the root of the perfect subtree of `1 << level` leaves that comes next; `None`, and nothing changed, where none of
    /// that level begins.
    #[must_use]
    pub fn append_subtree(&mut self, level: u32, hash: Hash) -> Option<()> {
        let leaves = 1_u64.checked_shl(level)?;
        let at = self.end.to_u64();
        if !at.is_multiple_of(leaves) {
            return None;
        }
        self.end = self.end.plus(leaves)?;
        self.push(Node { level, index: at >> level, hash });
        Some(())
    }

    /// The part of it that begins at a size where one of its subtrees begins, or that is its end.
    pub(super) fn since(&self, size: u64) -> CompactRange {
        let nodes = self.nodes.iter().filter(|node| node.first() >= size).copied().collect();
        CompactRange { first: TreeSize::new(size), end: self.end, nodes }
    }

    /// The part of it that begins at a size; `None` where none of its subtrees begins there.
    pub fn ending_from(&self, size: TreeSize) -> Option<CompactRange> {
        let begins = self.nodes.iter().any(|node| node.first() == size.to_u64());
        begins.then(|| self.since(size.to_u64()))
    }

    /// Adds a node at the end and merges what it completes.
    fn push(&mut self, mut node: Node) {
        while node.index % 2 == 1
            && let Some(left) = self.nodes.last().copied()
            && left.level == node.level
            && left.index + 1 == node.index
        {
            self.nodes.pop();
            node = Node {
                level: node.level + 1,
                index: node.index / 2,
                hash: node_hash(&left.hash, &node.hash),
            };
        }
        self.nodes.push(node);
    }

    /// The hash of a node, where this range holds it whole or in parts: the subtree over the leaves
    /// `index << level ..`, cut off at the range's end as the tree of that size has it.
    fn cut_off(&self, first: u64) -> Option<Hash> {
        let from = self.nodes.iter().position(|node| node.first() == first)?;
        self.nodes[from..].iter().rev().map(|node| node.hash).reduce(|right, left| node_hash(&left, &right))
    }

    /// The hash of the perfect subtree at a level and index, if this range holds it.
    fn perfect(&self, level: u32, index: u64) -> Option<Hash> {
        self.nodes.iter().find(|node| (node.level, node.index) == (level, index)).map(|node| node.hash)
    }
}

impl RightEdge {
    /// The edge as the range from the first leaf.
    pub fn to_range(&self) -> CompactRange {
        CompactRange::from_parts(TreeSize::ZERO, self.size(), self.hashes().to_vec())
            .expect("an edge has one hash for each bit of its size")
    }

    /// The edge after a range that follows it; `None` if another does.
    pub fn followed_by(&self, range: &CompactRange) -> Option<RightEdge> {
        let mut whole = self.to_range();
        whole.join(range)?;
        RightEdge::from_parts(whole.end, whole.nodes.into_iter().map(|node| node.hash).collect())
    }
}

/// The roots of the perfect subtrees of at most 256 leaves that leaves `[first, end)` are made of, from left to right: a
/// compact range that can still be cut wherever a tile of 256 leaves begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subtrees {
    first: TreeSize,
    end: TreeSize,
    hashes: Vec<Hash>,
}

impl Subtrees {
    /// Of these leaves, by their hashes.
    pub fn of(first: TreeSize, leaves: impl IntoIterator<Item = Hash>) -> Subtrees {
        let mut hashes = Vec::new();
        let mut under_way = CompactRange::empty(first);
        for leaf in leaves {
            under_way.append(leaf);
            if under_way.end.to_u64().is_multiple_of(1 << TILE_LEVEL) {
                hashes.extend(under_way.hashes());
                under_way = CompactRange::empty(under_way.end);
            }
        }
        hashes.extend(under_way.hashes());
        Subtrees { first, end: under_way.end, hashes }
    }

    /// From what [`Subtrees::hashes`] gave; `None` if their number does not fit.
    pub fn from_parts(first: TreeSize, end: TreeSize, hashes: Vec<Hash>) -> Option<Subtrees> {
        let count = places_to(first.to_u64(), end.to_u64(), TILE_LEVEL)?.len();
        (count == hashes.len()).then_some(Subtrees { first, end, hashes })
    }

    /// The roots, from left to right.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The range between two sizes within; `None` unless each is where this begins or ends, or a multiple of 256.
    pub fn part(&self, first: TreeSize, end: TreeSize) -> Option<CompactRange> {
        let mut part = CompactRange::empty(first);
        let places = places_to(self.first.to_u64(), self.end.to_u64(), TILE_LEVEL)?;
        for ((level, index), hash) in places.into_iter().zip(&self.hashes) {
            let at = index << level;
            if (first.to_u64()..end.to_u64()).contains(&at) && at == part.end.to_u64() {
                part.append_subtree(level, *hash)?;
            }
        }
        (part.end == end).then_some(part)
    }
}

/// The hashes of leaves that follow each other, and the roots of the subtrees of 256 that lie whole among them: any range within
/// takes as many hashes as if it were short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafHashes {
    first: TreeSize,
    leaves: Vec<Hash>,
    /// Of the subtrees from the first that begins among the leaves.
    subtrees: Vec<Hash>,
}

impl LeafHashes {
    /// Of these leaves, by their hashes.
    pub fn new(first: TreeSize, leaves: Vec<Hash>) -> LeafHashes {
        let skipped = first.to_u64().next_multiple_of(TILE_LEAVES) - first.to_u64();
        let whole = leaves.get(skipped as usize..).unwrap_or_default().chunks_exact(TILE_LEAVES as usize);
        let subtrees = whole.map(|leaves| perfect_root(leaves.to_vec())).collect();
        LeafHashes { first, leaves, subtrees }
    }

    /// The size before the first of them.
    pub const fn first(&self) -> TreeSize {
        self.first
    }

    /// The size after the last of them.
    pub fn end(&self) -> TreeSize {
        self.first.plus(self.leaves.len() as u64).expect("leaves are counted in 64 bits")
    }

    /// The hashes of the leaves, in order.
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// The range between two sizes; `None` where leaves of it are not here.
    pub fn range(&self, from: TreeSize, to: TreeSize) -> Option<CompactRange> {
        if from < self.first || to > self.end() || from > to {
            return None;
        }
        let first_subtree = self.first.to_u64().div_ceil(TILE_LEAVES);
        let mut range = CompactRange::empty(from);
        while range.end < to {
            let at = range.end.to_u64();
            let is_whole = at.is_multiple_of(TILE_LEAVES) && to.to_u64() - at >= TILE_LEAVES;
            if is_whole {
                let root = self.subtrees.get((at / TILE_LEAVES - first_subtree) as usize)?;
                range.append_subtree(TILE_LEVEL, *root)?;
            } else {
                range.append(*self.leaves.get((at - self.first.to_u64()) as usize)?);
            }
        }
        Some(range)
    }
}

/// The root over a power of two of nodes.
fn perfect_root(mut nodes: Vec<Hash>) -> Hash {
    while nodes.len() > 1 {
        for at in 0..nodes.len() / 2 {
            nodes[at] = node_hash(&nodes[2 * at], &nodes[2 * at + 1]);
        }
        nodes.truncate(nodes.len() / 2);
    }
    nodes[0]
}

/// The consistency proof from a tree to what it became by a range (RFC 6962 §2.1.2). `None` if the range does not follow,
/// or the earlier tree is empty.
pub fn consistency_proof_from(earlier: &RightEdge, range: &CompactRange) -> Option<Vec<Hash>> {
    let (old, new) = (earlier.size().to_u64(), range.end.to_u64());
    if old == 0 || range.first != earlier.size() {
        return None;
    }
    if old == new {
        return Some(Vec::new());
    }
    // The smallest perfect subtree at the old tree's right edge: all above it on the way to the root is new.
    let left = earlier.to_range();
    let mut node = *left.nodes.last()?;
    let mut proof = Vec::new();
    if !old.is_power_of_two() {
        proof.push(node.hash);
    }
    climb(&mut node, new, &mut proof, &left, range)?;
    Some(proof)
}

/// The inclusion proof of a leaf in the tree of `[0, before ‖ own ‖ after)`, where `own` are the leaf hashes of `[before, …)`
/// (RFC 6962 §2.1.1). `None` if the parts do not follow each other or do not hold the leaf.
pub fn inclusion_proof_from(
    before: &RightEdge,
    own: &[Hash],
    after: &CompactRange,
    leaf: super::hash::LeafIndex,
) -> Option<Vec<Hash>> {
    let place = usize::try_from(leaf.to_u64().checked_sub(before.size().to_u64())?).ok()?;
    own.get(place)?;
    let mut left = before.to_range();
    own[..place].iter().for_each(|hash| left.append(*hash));
    let mut right = CompactRange::empty(leaf.size_after());
    own[place + 1..].iter().for_each(|hash| right.append(*hash));
    right.join(after)?;
    let mut proof = Vec::new();
    let mut node = Node { level: 0, index: leaf.to_u64(), hash: own[place] };
    climb(&mut node, right.end.to_u64(), &mut proof, &left, &right)?;
    Some(proof)
}

/// The inclusion proof of a leaf, given all leaves before it and all after it (RFC 6962 §2.1.1). `None` if the ranges are not those.
pub fn inclusion_proof_between(before: &CompactRange, leaf: Hash, after: &CompactRange) -> Option<Vec<Hash>> {
    let index = before.end.to_u64();
    if before.first != TreeSize::ZERO || after.first.to_u64() != index.checked_add(1)? {
        return None;
    }
    let mut proof = Vec::new();
    let mut node = Node { level: 0, index, hash: leaf };
    climb(&mut node, after.end.to_u64(), &mut proof, before, after)?;
    Some(proof)
}

/// Collects the siblings from a node up to the root of a tree of `size` leaves.
fn climb(
    node: &mut Node,
    size: u64,
    proof: &mut Vec<Hash>,
    left: &CompactRange,
    right: &CompactRange,
) -> Option<()> {
    while node.level < 63 && (1_u64 << node.level) < size {
        if node.index % 2 == 1 {
            proof.push(left.perfect(node.level, node.index - 1)?);
        } else {
            let sibling = Node { index: node.index + 1, ..*node };
            if sibling.first() < size {
                let hash = match right.perfect(sibling.level, sibling.index) {
                    Some(hash) => hash,
                    None => right.cut_off(sibling.first())?,
                };
                proof.push(hash);
            }
        }
        *node = Node { level: node.level + 1, index: node.index / 2, hash: node.hash };
    }
    Some(())
}

/// How many hashes the range between two sizes has; none if the sizes are no range's.
pub(super) fn hash_count(first: TreeSize, end: TreeSize) -> usize {
    places(first.to_u64(), end.to_u64()).map_or(0, |places| places.len())
}

/// Levels and indexes of the perfect subtrees of `[first, end)`.
fn places(first: u64, end: u64) -> Option<Vec<(u32, u64)>> {
    places_to(first, end, 63)
}

/// The same, with none above a level.
fn places_to(first: u64, end: u64, level_max: u32) -> Option<Vec<(u32, u64)>> {
    let mut places = Vec::new();
    let mut at = first;
    if end < first || end > i64::MAX as u64 {
        return None;
    }
    while at < end {
        let aligned = if at == 0 { 63 } else { at.trailing_zeros() };
        let level = aligned.min((end - at).ilog2()).min(level_max);
        places.push((level, at >> level));
        at += 1 << level;
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::super::hash::{LeafIndex, leaf_hash};
    use super::super::proof;
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    fn range(leaves: &[Hash], first: u64, end: u64) -> CompactRange {
        let mut range = CompactRange::empty(TreeSize::new(first));
        leaves[first as usize..end as usize].iter().for_each(|hash| range.append(*hash));
        range
    }

    fn edge(leaves: &[Hash], size: u64) -> RightEdge {
        let mut edge = RightEdge::empty();
        edge.extend(leaves[..size as usize].iter().copied());
        edge
    }

    #[test]
    fn ranges_join_however_they_were_cut() {
        let leaves = leaves(70);
        for (a, b, c) in [(0, 1, 2), (0, 64, 70), (3, 3, 9), (5, 6, 70), (7, 40, 41), (31, 33, 64)] {
            let mut joined = range(&leaves, a, b);
            joined.join(&range(&leaves, b, c)).unwrap();
            assert_eq!(joined, range(&leaves, a, c));
            let hashes = joined.hashes().collect();
            assert_eq!(
                CompactRange::from_parts(TreeSize::new(a), TreeSize::new(c), hashes),
                Some(joined.clone())
            );
            assert_eq!(edge(&leaves, a).followed_by(&joined), Some(edge(&leaves, c)));
            assert!(joined.join(&range(&leaves, a, b)).is_none() || a == c || b == a);
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_no_range() {
        for (first, end, count) in [(0, 3, 1), (0, 3, 3), (3, 2, 0), (1, 4, 1), (0, u64::MAX, 64)] {
            let parts = CompactRange::from_parts(TreeSize::new(first), TreeSize::new(end), leaves(count));
            assert_eq!(parts, None, "{first} {end} {count}");
        }
    }

    proptest! {
        #[test]
        fn any_range_of_leaf_hashes_is_that_of_the_leaves(first in 0..1_200_u64, count in 0..1_200_u64, from in 0..1_300_u64, length in 0..1_300_u64) {
            let all = leaves(first + count);
            let held = LeafHashes::new(TreeSize::new(first), all[first as usize..].to_vec());
            let (from, to) = (first + from, first + from + length);
            let found = held.range(TreeSize::new(from), TreeSize::new(to));
            let expected = (to <= first + count).then(|| range(&all, from, to));
            prop_assert_eq!(found, expected);
            prop_assert_eq!(held.end().to_u64(), first + count);
            prop_assert_eq!(held.range(TreeSize::new(first.wrapping_sub(1)), held.end()), None);
        }

        #[test]
        fn proofs_from_ranges_are_those_from_leaves(size in 1..300_u64, a: prop::sample::Index, b: prop::sample::Index, c: prop::sample::Index) {
            let leaves = leaves(size);
            let earlier = a.index(size as usize) as u64 + 1;
            let proof = consistency_proof_from(&edge(&leaves, earlier), &range(&leaves, earlier, size));
            let expected = proof::consistency_proof(&leaves, TreeSize::new(earlier), TreeSize::new(size)).unwrap();
            prop_assert_eq!(proof, Some(expected));

            let leaf = a.index(size as usize) as u64;
            let first = b.index(leaf as usize + 1) as u64;
            let end = leaf + 1 + c.index((size - leaf) as usize) as u64;
            let found = inclusion_proof_from(
                &edge(&leaves, first),
                &leaves[first as usize..end as usize],
                &range(&leaves, end, size),
                LeafIndex::new(leaf),
            );
            let expected = proof::inclusion_proof(&leaves, LeafIndex::new(leaf), TreeSize::new(size)).unwrap();
            prop_assert_eq!(found, Some(expected.clone()));
            let between = inclusion_proof_between(&range(&leaves, 0, leaf), leaves[leaf as usize], &range(&leaves, leaf + 1, size));
            prop_assert_eq!(between, Some(expected));
        }

        #[test]
        fn subtrees_can_be_cut_at_tiles(size in 1..1_500_u64, a: prop::sample::Index, b: prop::sample::Index) {
            let leaves = leaves(size);
            let first = a.index(size as usize) as u64;
            let subtrees = Subtrees::of(TreeSize::new(first), leaves[first as usize..].iter().copied());
            let again = Subtrees::from_parts(TreeSize::new(first), TreeSize::new(size), subtrees.hashes().to_vec());
            prop_assert_eq!(again.as_ref(), Some(&subtrees));
            let mut cuts: Vec<u64> = (first..=size).filter(|at| at % 256 == 0).collect();
            cuts.extend([first, size]);
            cuts.sort_unstable();
            let from = b.index(cuts.len());
            for to in from..cuts.len() {
                let part = subtrees.part(TreeSize::new(cuts[from]), TreeSize::new(cuts[to]));
                prop_assert_eq!(part, Some(range(&leaves, cuts[from], cuts[to])));
            }
            let off = first + 1 + b.index(300) as u64;
            if off < size && !off.is_multiple_of(256) && subtrees.part(TreeSize::new(off), TreeSize::new(size)).is_some() {
                prop_assert!(off.trailing_zeros() < 8, "a smaller subtree may begin there: {}", off);
            }
        }
    }
}
