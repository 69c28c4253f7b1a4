//! Hashes of the tree (RFC 6962 §2.1), and the two numbers of a log: a position and a count.
//!
//! Leaves and inner nodes are hashed under different prefixes, so that neither can be taken for the other.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::block_api::compress256;
use sha2::{Digest, Sha256};
use std::fmt;

const LEAF_PREFIX: [u8; 1] = [0];
const NODE_PREFIX: [u8; 1] = [1];
const BLOCK_BYTES: usize = 64;
/// FIPS 180-4 §5.3.3.
const SHA_256_BEGINNING: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// From its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Hash {
        Hash(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The plain SHA-256 of some bytes, as of a file: no prefix, never a leaf or a node.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    /// Standard base64 with padding, 44 characters.
    pub fn to_base64(self) -> String {
        STANDARD.encode(self.0)
    }

    /// Parses what [`Hash::to_base64`] prints, and nothing else: padded, no stray bits.
    pub fn from_base64(text: &str) -> Option<Hash> {
        // The length is looked at first, so that a long text costs nothing.
        if text.len() != 44 {
            return None;
        }
        STANDARD.decode(text).ok()?.try_into().ok().map(Hash)
    }

    /// Parses 64 lower-case hexadecimal digits, as printed.
    pub fn from_hex(text: &str) -> Option<Hash> {
        decode_hex(text).map(Hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// Bytes from exactly twice as many lower-case hexadecimal digits.
pub(super) fn decode_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (slot, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *slot = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

/// The hash of a leaf: SHA-256(0x00 ‖ leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update(LEAF_PREFIX).chain_update(leaf).finalize().into())
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // 65 bytes, a bit and their length: two blocks, whatever the hashes are.
    let mut blocks = [[0; BLOCK_BYTES]; 2];
    let flat = blocks.as_flattened_mut();
    flat[0] = NODE_PREFIX[0];
    flat[1..33].copy_from_slice(&left.0);
    flat[33..65].copy_from_slice(&right.0);
    flat[65] = 0x80;
    flat[2 * BLOCK_BYTES - 2..].copy_from_slice(&(65_u16 * 8).to_be_bytes());
    let mut state = SHA_256_BEGINNING;
    compress256(&mut state, &blocks);
    hash_of(&state)
}

fn hash_of(state: &[u32; 8]) -> Hash {
    let mut hash = [0; 32];
    for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    Hash(hash)
}

/// The root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Hash::of(&[])
}

/// The position of a leaf in its log, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeafIndex(u64);

/// How many leaves a tree has. Also the end of a range of leaves: the first index that is not in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreeSize(u64);

impl LeafIndex {
    /// The first position.
    pub const ZERO: LeafIndex = LeafIndex(0);

    /// From a number.
    pub const fn new(index: u64) -> LeafIndex {
        LeafIndex(index)
    }

    /// The number.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The size of the tree whose last leaf this is. A log never holds 2^64 leaves: there it stays at the most.
    pub const fn size_after(self) -> TreeSize {
        TreeSize(self.0.saturating_add(1))
    }

    /// The size of the tree that holds every leaf before this one.
    pub const fn size_before(self) -> TreeSize {
        TreeSize(self.0)
    }

    /// The position so many leaves later, unless there is none.
    pub const fn plus(self, leaves: u64) -> Option<LeafIndex> {
        match self.0.checked_add(leaves) {
            Some(index) => Some(LeafIndex(index)),
            None => None,
        }
    }

    /// How many leaves there are from here up to, not including, the end; nothing if the end is before.
    pub const fn leaves_until(self, end: TreeSize) -> Option<u64> {
        end.0.checked_sub(self.0)
    }

    /// Parses a decimal number without sign or leading zeros.
    pub fn parse(text: &str) -> Option<LeafIndex> {
        parse_decimal(text).map(LeafIndex)
    }
}

impl TreeSize {
    /// The size of the tree without leaves.
    pub const ZERO: TreeSize = TreeSize(0);

    /// From a number.
    pub const fn new(size: u64) -> TreeSize {
        TreeSize(size)
    }

    /// The number.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The position the next leaf gets.
    pub const fn next_index(self) -> LeafIndex {
        LeafIndex(self.0)
    }

    /// The position of the last leaf, if there is one.
    pub const fn last_index(self) -> Option<LeafIndex> {
        match self.0.checked_sub(1) {
            Some(index) => Some(LeafIndex(index)),
            None => None,
        }
    }

    /// The size after so many more leaves, unless there is none.
    pub const fn plus(self, leaves: u64) -> Option<TreeSize> {
        match self.0.checked_add(leaves) {
            Some(size) => Some(TreeSize(size)),
            None => None,
        }
    }

    /// Whether a tree of this size has the leaf.
    pub const fn contains(self, index: LeafIndex) -> bool {
        index.0 < self.0
    }

    /// Parses a decimal number without sign or leading zeros.
    pub fn parse(text: &str) -> Option<TreeSize> {
        parse_decimal(text).map(TreeSize)
    }
}

/// One text per number: no sign, no leading zeros.
fn parse_decimal(text: &str) -> Option<u64> {
    let digits = text.as_bytes();
    let canonical = digits == b"0" || digits.first().is_some_and(|c| matches!(c, b'1'..=b'9'));
    if canonical && digits.iter().all(u8::is_ascii_digit) { text.parse().ok() } else { None }
}

impl fmt::Display for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leaf {}", self.0)
    }
}

impl fmt::Display for TreeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for TreeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "size {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hashes_are_those_of_rfc_6962() {
        // The empty tree, and the one empty leaf, of the reference implementation's test data.
        let empty_leaf = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(
            empty_root().to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(leaf_hash(b"").to_string(), empty_leaf);
        let pair = [[1].as_slice(), leaf_hash(b"a").as_bytes(), leaf_hash(b"b").as_bytes()].concat();
        assert_eq!(node_hash(&leaf_hash(b"a"), &leaf_hash(b"b")), Hash::of(&pair));
    }

    #[test]
    fn only_the_canonical_text_of_a_hash_is_read() {
        let zero = Hash::from_bytes([0; 32]);
        let base64 = zero.to_base64();
        assert_eq!(Hash::from_base64(&base64), Some(zero));
        // Stray bits, no padding, url alphabet, white space, another length.
        let stray = base64.replace("A=", "B=");
        for bad in
            [stray.as_str(), &base64[..43], &base64.replacen('A', "-", 1), &format!("{base64}\n"), "AAAA"]
        {
            assert_eq!(Hash::from_base64(bad), None, "{bad}");
        }
        let hex = leaf_hash(b"").to_string();
        assert_eq!(Hash::from_hex(&hex.to_uppercase()), None);
        assert_eq!(Hash::from_hex(&hex[1..]), None);
    }

    #[test]
    fn only_the_canonical_text_of_a_number_is_read() {
        assert_eq!(TreeSize::parse("0"), Some(TreeSize::ZERO));
        assert_eq!(TreeSize::parse("18446744073709551615"), Some(TreeSize::new(u64::MAX)));
        for bad in ["", "00", "01", "+1", "-1", " 1", "1 ", "1_0", "18446744073709551616", "١"] {
            assert_eq!(TreeSize::parse(bad), None, "{bad}");
            assert_eq!(LeafIndex::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn position_and_count_convert_without_being_mixed_up() {
        let size = TreeSize::new(7);
        assert_eq!(size.next_index().size_before(), size);
        assert_eq!(size.last_index().map(LeafIndex::size_after), Some(size));
        assert!(!size.contains(size.next_index()) && size.contains(LeafIndex::new(6)));
        assert_eq!(LeafIndex::new(3).leaves_until(size), Some(4));
        assert_eq!(LeafIndex::new(8).leaves_until(size), None);
        assert_eq!(TreeSize::ZERO.last_index(), None);
        assert_eq!(TreeSize::new(u64::MAX).plus(1), None);
        assert_eq!(LeafIndex::new(u64::MAX).plus(1), None);
    }

    proptest! {
        #[test]
        fn nodes_are_hashed_by_their_definition(left: [u8; 32], right: [u8; 32]) {
            let definition = [[1].as_slice(), &left, &right].concat();
            prop_assert_eq!(node_hash(&Hash(left), &Hash(right)), Hash::of(&definition));
        }

        #[test]
        fn printed_hashes_and_numbers_parse_back(bytes: [u8; 32], n: u64) {
            let hash = Hash::from_bytes(bytes);
            prop_assert_eq!(Hash::from_base64(&hash.to_base64()), Some(hash));
            prop_assert_eq!(Hash::from_hex(&hash.to_string()), Some(hash));
            prop_assert_eq!(TreeSize::parse(&n.to_string()), Some(TreeSize::new(n)));
        }
    }
}
