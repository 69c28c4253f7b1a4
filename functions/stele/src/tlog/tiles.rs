//! Tiles: the hashes that outlive the leaves of one file of the archive.
//!
//! They are the hashes of all subtrees of 256 leaves that end in the file (level 1 of C2SP's tlog-tiles, 0.125 bytes per
//! leaf), and the compact ranges between the sizes of the checkpoints that were published in it. With those of all
//! files they give every consistency proof between locked checkpoints, and what an inclusion proof needs of
//! leaves that are gone. Nothing in them is signed: whatever is made of them is held against a checkpoint.
//!
//! ```text
//! <origin>
//! stele tiles v1
//! <the size before the first leaf, and each size where a range ends, with spaces between>
//!
//! <hashes of 32 bytes: those of the ranges, then level 1>
//! ```
//!
//! How many hashes there are follows from the sizes.

use super::checkpoint::{ORIGIN_LINE, Origin};
use super::hash::{Hash, TreeSize};
use super::note::{BodyError, Lines};
use super::range::{CompactRange, LeafHashes, hash_count};
use super::tree::RightEdge;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;

/// Leaves below one hash of level 1.
pub const TILE_LEAVES: u64 = 256;

const VERSION: &str = "stele tiles v1";
const SIZES_LINE: &str = "rising sizes of a tree";
const HASH_BYTES: usize = 32;

/// The tiles of one file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiles {
    origin: Origin,
    /// At least one; each begins where the one before ends. Only the first may be empty, and then it is alone.
    ranges: Vec<CompactRange>,
    level_1: Vec<Hash>,
}

impl Tiles {
    /// The log.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The size before the file's first leaf.
    pub fn first(&self) -> TreeSize {
        self.ranges.first().expect("tiles have a range").first()
    }

    /// The size the file ends at.
    pub fn end(&self) -> TreeSize {
        self.ranges.last().expect("tiles have a range").end()
    }

    /// The ranges of the file's leaves, each from one size to the next: the file's beginning, checkpoints, its end.
    pub fn ranges(&self) -> &[CompactRange] {
        &self.ranges
    }

    /// The sizes between its beginning and its end where it is cut.
    pub fn cuts(&self) -> impl Iterator<Item = TreeSize> + '_ {
        self.ranges.iter().skip(1).map(CompactRange::first)
    }

    /// The hashes of the subtrees of 256 leaves whose last leaf is in the file, from left to right.
    pub fn level_1(&self) -> &[Hash] {
        &self.level_1
    }

    /// Which subtree of 256 leaves of the whole tree the first hash of level 1 is of, counted from 0.
    pub fn level_1_index_of_first(&self) -> u64 {
        self.first().to_u64() / TILE_LEAVES
    }

    /// As stored. The same tiles always give the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let ends = self.ranges.iter().map(CompactRange::end).filter(|end| *end > self.first());
        let mut head = format!("{}\n{VERSION}\n{}", self.origin, self.first());
        ends.for_each(|end| head.push_str(&format!(" {end}")));
        head.push_str("\n\n");
        let mut bytes = head.into_bytes();
        let hashes = self.ranges.iter().flat_map(CompactRange::hashes).chain(self.level_1.iter().copied());
        hashes.for_each(|hash| bytes.extend_from_slice(hash.as_bytes()));
        bytes
    }

    /// Parses what [`Tiles::to_bytes`] gave, and nothing else. Nothing in it may be believed.
    ///
    /// # Errors
    /// Which line of the head is wrong, or that there are more or fewer hashes than the sizes say.
    pub fn parse(bytes: &[u8]) -> Result<Tiles, TilesError> {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").ok_or(TilesError::NoHead)?;
        let head = std::str::from_utf8(&bytes[..=end]).map_err(|_| TilesError::NoHead)?;
        let mut lines = Lines::of(head)?;
        let origin = lines.read(ORIGIN_LINE, Origin::parse)?;
        lines.read("`stele tiles v1`", |line| (line == VERSION).then_some(()))?;
        let sizes = lines.read(SIZES_LINE, parse_sizes)?;
        if !lines.at_end() {
            lines.read("an empty line", |_| None::<()>)?;
        }
        let [first, ends @ ..] = sizes.as_slice() else { return Err(TilesError::NoHead) };
        let end_of_all = ends.last().unwrap_or(first);
        let level_1 = end_of_all.to_u64() / TILE_LEAVES - first.to_u64() / TILE_LEAVES;
        // Counted before anything is set aside for them: a short file may claim any number.
        let spans: Vec<(TreeSize, TreeSize)> = sizes.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let counts: Vec<usize> = spans.iter().map(|(a, b)| hash_count(*a, *b)).collect();
        let body = &bytes[end + 2..];
        let expected = u128::from(level_1) + counts.iter().map(|count| *count as u128).sum::<u128>();
        if body.len() as u128 != expected * HASH_BYTES as u128 {
            return Err(TilesError::Hashes { expected, bytes: body.len() });
        }
        let mut hashes = body.chunks_exact(HASH_BYTES).map(|chunk| {
            Hash::from_bytes(chunk.try_into().expect("chunks of 32 bytes are as long as a hash"))
        });
        let mut range = |(span, count): (&(TreeSize, TreeSize), &usize)| {
            CompactRange::from_parts(span.0, span.1, hashes.by_ref().take(*count).collect())
        };
        let ranges: Option<Vec<CompactRange>> = spans.iter().zip(&counts).map(&mut range).collect();
        let mut ranges = ranges.expect("as many hashes were taken as the range has");
        if ranges.is_empty() {
            ranges.push(CompactRange::empty(*first));
        }
        Ok(Tiles { origin, ranges, level_1: hashes.collect() })
    }
}

/// Sizes, each larger than the one before and none beyond what a log can have.
fn parse_sizes(line: &str) -> Option<Vec<TreeSize>> {
    let sizes: Option<Vec<TreeSize>> = line.split(' ').map(TreeSize::parse).collect();
    let fits = |sizes: &Vec<TreeSize>| {
        sizes.is_sorted_by(|a, b| a < b)
            && sizes.last().is_some_and(|last| i64::try_from(last.to_u64()).is_ok())
    };
    sizes.filter(fits)
}

/// Why bytes are no tiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TilesError {
    /// They do not begin with a text that ends in an empty line.
    NoHead,
    /// A line of the head is not what it must be.
    Head(BodyError),
    /// There are not as many hashes as the sizes say.
    Hashes {
        /// How many they say.
        expected: u128,
        /// How many bytes there are instead.
        bytes: usize,
    },
}

impl fmt::Display for TilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TilesError::NoHead => f.write_str("no text that ends in an empty line"),
            TilesError::Head(e) => e.fmt(f),
            TilesError::Hashes { expected, bytes } => {
                write!(f, "`{bytes}` bytes of hashes where the sizes ask for `{expected}` hashes of 32")
            }
        }
    }
}

impl std::error::Error for TilesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TilesError::Head(e) => Some(e),
            TilesError::NoHead | TilesError::Hashes { .. } => None,
        }
    }
}

impl From<BodyError> for TilesError {
    fn from(e: BodyError) -> TilesError {
        TilesError::Head(e)
    }
}

/// The range between two sizes, out of the tiles of files that follow each other, in order. `None` where tiles are missing
/// or are not cut at these sizes.
pub fn range_between(tiles: &[Tiles], first: TreeSize, end: TreeSize) -> Option<CompactRange> {
    let mut between = CompactRange::empty(first);
    let ranges = tiles.iter().flat_map(Tiles::ranges);
    for range in ranges.skip_while(|range| range.first() < first).take_while(|range| range.end() <= end) {
        between.join(range)?;
    }
    (between.end() == end).then_some(between)
}

/// Makes tiles leaf by leaf.
pub struct TilesBuilder {
    origin: Origin,
    before: RightEdge,
    cuts: BTreeSet<TreeSize>,
    ranges: Vec<CompactRange>,
    /// The subtree of 256 leaves under way, up to `part`.
    subtree: CompactRange,
    /// What came since the last cut, and since the subtree began: each leaf is hashed into this alone.
    part: CompactRange,
    level_1: Vec<Hash>,
}

impl TilesBuilder {
    /// For the leaves after a tree, cut at these sizes: those of the checkpoints that lie within.
    pub fn new(origin: Origin, before: RightEdge, cuts: BTreeSet<TreeSize>) -> TilesBuilder {
        let ranges = vec![CompactRange::empty(before.size())];
        let subtree = before.to_range().since(before.size().to_u64() / TILE_LEAVES * TILE_LEAVES);
        let part = CompactRange::empty(before.size());
        TilesBuilder { origin, before, cuts, ranges, subtree, part, level_1: Vec::new() }
    }

    /// Appends a leaf by its hash.
    pub fn append(&mut self, leaf: Hash) {
        self.cut(self.part.end());
        self.part.append(leaf);
        self.end_tile();
    }

    /// Begins another range where one is to be cut.
    fn cut(&mut self, at: TreeSize) {
        if self.cuts.contains(&at) {
            self.end_part();
            if self.ranges.last().is_some_and(|range| range.first() != at) {
                self.ranges.push(CompactRange::empty(at));
            }
        }
    }

    /// Ends the subtree of 256 leaves if it is complete.
    fn end_tile(&mut self) {
        if self.part.end().to_u64().is_multiple_of(TILE_LEAVES) {
            self.end_part();
            // Complete, it is one perfect subtree.
            self.level_1.extend(self.subtree.hashes());
            self.subtree = CompactRange::empty(self.part.end());
        }
    }

    /// Appends leaves by their hashes; `None` if others follow.
    #[must_use]
    pub fn append_all(&mut self, leaves: &LeafHashes) -> Option<()> {
        if self.part.end() != leaves.first() {
            return None;
        }
        while self.part.end() < leaves.end() {
            let at = self.part.end();
            self.cut(at);
            let tile_end = TreeSize::new((at.to_u64() / TILE_LEAVES + 1) * TILE_LEAVES);
            let cut = self.cuts.range((Bound::Excluded(at), Bound::Unbounded)).next().copied();
            let to = leaves.end().min(tile_end).min(cut.unwrap_or(tile_end));
            self.part.join(&leaves.range(at, to)?)?;
            self.end_tile();
        }
        Some(())
    }

    fn end_part(&mut self) {
        let end = self.part.end();
        let part = std::mem::replace(&mut self.part, CompactRange::empty(end));
        for whole in self.ranges.last_mut().into_iter().chain([&mut self.subtree]) {
            whole.join(&part).expect("a part begins where the one before ended");
        }
    }

    /// The tree so far.
    pub fn edge(&self) -> RightEdge {
        let parts = self.ranges.iter().chain([&self.part]);
        let edge = parts
            .filter(|range| range.end() > range.first())
            .try_fold(self.before.clone(), |edge, range| edge.followed_by(range));
        edge.expect("ranges follow each other")
    }

    /// The tiles.
    pub fn finish(mut self) -> Tiles {
        self.end_part();
        Tiles { origin: self.origin, ranges: self.ranges, level_1: self.level_1 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::leaf_hash;
    use super::super::proof;
    use super::super::range::consistency_proof_from;
    use super::*;
    use proptest::prelude::*;

    fn origin() -> Origin {
        Origin::new("stele.example", "0123456789abcdef").unwrap()
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    fn edge(leaves: &[Hash], size: u64) -> RightEdge {
        let mut edge = RightEdge::empty();
        edge.extend(leaves[..size as usize].iter().copied());
        edge
    }

    /// The tiles of a file with the leaves `[first, end)`.
    fn tiles(leaves: &[Hash], first: u64, end: u64, cuts: &[u64]) -> Tiles {
        let cuts = cuts.iter().copied().map(TreeSize::new).collect();
        let mut builder = TilesBuilder::new(origin(), edge(leaves, first), cuts);
        let mut by_parts = TilesBuilder::new(origin(), edge(leaves, first), builder.cuts.clone());
        leaves[first as usize..end as usize].iter().for_each(|leaf| builder.append(*leaf));
        assert_eq!(builder.edge(), edge(leaves, end));
        for (part, number) in leaves[first as usize..end as usize].chunks(701).zip(0..) {
            let part = LeafHashes::new(TreeSize::new(first + number * 701), part.to_vec());
            by_parts.append_all(&part).unwrap();
            assert_eq!(by_parts.append_all(&part).is_none(), !part.leaves().is_empty());
        }
        let tiles = builder.finish();
        assert_eq!(by_parts.finish(), tiles);
        tiles
    }

    // The hashes were made by a program of its own from RFC 6962: leaf 255, leaves 256 and 257, leaves 0 to 255.
    const GOLDEN_HEAD: &str = "stele.example/0123456789abcdef\nstele tiles v1\n255 256 258\n\n";
    const GOLDEN_HASHES: [&str; 3] = [
        "1d88c0c66be52ad2fa6e9b6966bb09dda269314aace45bf16085f4ccf3ef3a45",
        "eaa811e1e7ba1703087327895fea70f1772e52808d82045456edc6ec17a26d4a",
        "15e2dd4973ae44de8c8cf3048fd98d17adaaea6287f4e0606a55a643617408c0",
    ];

    #[test]
    fn the_bytes_of_tiles_do_not_change() {
        let tiles = tiles(&leaves(258), 255, 258, &[256, 300]);
        let hashes = GOLDEN_HASHES.map(|hex| *Hash::from_hex(hex).unwrap().as_bytes()).concat();
        let golden = [GOLDEN_HEAD.as_bytes(), &hashes].concat();
        assert_eq!(tiles.to_bytes(), golden);
        assert_eq!(Tiles::parse(&golden), Ok(tiles.clone()));
        assert_eq!((tiles.first(), tiles.end()), (TreeSize::new(255), TreeSize::new(258)));
        assert_eq!(tiles.cuts().collect::<Vec<_>>(), [TreeSize::new(256)]);
        assert_eq!(tiles.level_1_index_of_first(), 0);
    }

    #[test]
    fn every_changed_bit_gives_other_tiles_or_none() {
        let tiles = tiles(&leaves(520), 250, 520, &[256, 257, 300]);
        let bytes = tiles.to_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                match Tiles::parse(&changed) {
                    Ok(other) => {
                        assert_ne!(other, tiles, "byte {at}");
                        assert_eq!(other.to_bytes(), changed, "byte {at}");
                    }
                    Err(why) => assert!(!why.to_string().is_empty()),
                }
            }
            assert!(Tiles::parse(&bytes[..at]).is_err(), "cut at byte {at}");
        }
        assert!(Tiles::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn heads_of_another_form_are_refused() {
        let hash = [7; 32];
        let read = |sizes: &str, hashes: usize| {
            let head = format!("{}\n{VERSION}\n{sizes}\n\n", origin());
            Tiles::parse(&[head.as_bytes(), &hash.repeat(hashes)].concat())
        };
        assert!(read("0 1", 1).is_ok());
        assert!(read("5", 0).is_ok(), "no leaves, no hashes");
        for (sizes, hashes) in [
            ("", 0),
            ("0  1", 1),
            ("0 1 ", 1),
            ("00 1", 1),
            ("1 1", 0),
            ("2 1", 0),
            ("0 1", 0),
            ("0 1", 2),
            ("0 256", 1),
            ("0 1\nmore", 1),
            ("0 9223372036854775807", 63),
            ("0 9223372036854775808", 1),
            ("0 18446744073709551615", 64),
        ] {
            assert!(read(sizes, hashes).is_err(), "`{sizes}`");
        }
        for head in ["", "\n\n", "x\n\n", "stele.example/0\nstele tiles v2\n0\n\n"] {
            assert!(Tiles::parse(head.as_bytes()).is_err(), "{head:?}");
        }
    }

    #[test]
    fn large_files_cost_a_fifth_of_a_byte_per_leaf() {
        // As of a day with a checkpoint every hour.
        let leaves = leaves(200_000);
        let cuts: Vec<u64> = (1..24).map(|hour| hour * 8_222).collect();
        let bytes = tiles(&leaves, 0, 200_000, &cuts).to_bytes().len();
        assert!(bytes * 5 <= leaves.len(), "{bytes} bytes");
    }

    #[test]
    fn nothing_is_told_of_sizes_without_a_cut_or_of_files_that_are_missing() {
        let leaves = leaves(60);
        let [a, b, c] =
            [tiles(&leaves, 0, 20, &[7]), tiles(&leaves, 20, 40, &[30]), tiles(&leaves, 40, 60, &[])];
        let all = [a.clone(), b.clone(), c.clone()];
        let between =
            |tiles: &[Tiles], first, end| range_between(tiles, TreeSize::new(first), TreeSize::new(end));
        assert!(between(&all, 7, 60).is_some());
        assert_eq!(between(&all, 7, 7), Some(CompactRange::empty(TreeSize::new(7))));
        for (first, end) in [(6, 60), (0, 41), (0, 61), (61, 62), (30, 20)] {
            assert_eq!(between(&all, first, end), None, "{first} {end}");
        }
        assert_eq!(between(&[a, c], 0, 60), None);
        assert_eq!(between(&[b], 0, 40), None);
    }

    proptest! {
        #[test]
        fn tiles_of_files_that_follow_each_other_speak_for_their_leaves(
            size in 1..1_500_u64,
            ends in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let leaves = leaves(size);
            let sizes = |indexes: Vec<prop::sample::Index>| -> BTreeSet<u64> {
                indexes.into_iter().map(|index| index.index(size as usize) as u64).collect()
            };
            let (ends, cuts) = (sizes(ends), sizes(cuts));
            let bounds: Vec<u64> = BTreeSet::from_iter(ends.iter().copied().chain([0, size])).into_iter().collect();
            let cut_list: Vec<u64> = cuts.iter().copied().collect();
            let files: Vec<Tiles> =
                bounds.windows(2).map(|pair| tiles(&leaves, pair[0], pair[1], &cut_list)).collect();

            let mut level_1 = 0;
            for file in &files {
                prop_assert_eq!(&Tiles::parse(&file.to_bytes()).unwrap(), file);
                prop_assert_eq!(file.level_1_index_of_first(), level_1);
                for hash in file.level_1() {
                    let below = &leaves[(level_1 * TILE_LEAVES) as usize..((level_1 + 1) * TILE_LEAVES) as usize];
                    prop_assert_eq!(*hash, edge(below, TILE_LEAVES).root());
                    level_1 += 1;
                }
            }
            prop_assert_eq!(level_1, size / TILE_LEAVES);

            let known: Vec<u64> = BTreeSet::from_iter(cuts.into_iter().chain(bounds)).into_iter().collect();
            for (place, first) in known.iter().enumerate() {
                for end in &known[place..] {
                    let range = range_between(&files, TreeSize::new(*first), TreeSize::new(*end)).unwrap();
                    let before = edge(&leaves, *first);
                    prop_assert_eq!(before.followed_by(&range), Some(edge(&leaves, *end)));
                    let expected = proof::consistency_proof(&leaves, TreeSize::new(*first), TreeSize::new(*end));
                    let proof = consistency_proof_from(&before, &range);
                    if *first > 0 {
                        prop_assert_eq!(proof, Some(expected.unwrap()));
                    }
                }
            }
        }

        #[test]
        fn any_bytes_are_tiles_or_not(
            head in "(stele.example/a\nstele tiles v1\n)?[0-9 ]{0,30}(\n\n)?\\PC{0,20}",
            more in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let bytes = [head.as_bytes(), &more].concat();
            if let Ok(tiles) = Tiles::parse(&bytes) {
                prop_assert_eq!(tiles.to_bytes(), bytes);
            }
        }
    }
}
