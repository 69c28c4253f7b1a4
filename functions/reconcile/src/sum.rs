//! The sum of a multiset of leaves: two sides that see their leaves in any order, and never both at once, tell by 40
//! bytes whether they saw the same ones.
//!
//! A leaf's term is SHA-256(key ‖ leaf hash) as a number, and terms are added modulo 2^256; beside the sum stands the
//! count. Addition forgets the order and keeps multiplicity, which XOR would not. For leaves that are what they are by
//! accident, a fault goes unnoticed with a probability of 2^-256. For leaves that somebody chooses, the key matters:
//! sums of plain hashes fall to Wagner's generalised birthday attack (2002, against AdHash) with far less than 2^128
//! work, given enough leaves to choose from. Under a key that never leaves the system they can't be aimed at.
//!
//! Even so it only finds faults. What proves to strangers that a log was not changed is the log's own tree.

use stele::tlog::hash::Hash;

/// The key of the terms.
#[derive(Clone)]
pub(crate) struct SumKey([u8; 32]);

impl SumKey {
    /// From 32 secret bytes.
    pub(crate) fn new(key: [u8; 32]) -> SumKey {
        SumKey(key)
    }

    fn term(&self, leaf: &Hash) -> [u64; 4] {
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        block[32..].copy_from_slice(leaf.as_bytes());
        let term = Hash::of(&block);
        let mut words = [0; 4];
        // Least significant first, as the carry runs.
        for (word, bytes) in words.iter_mut().zip(term.as_bytes().rchunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, b| word << 8 | u64::from(*b));
        }
        words
    }
}

/// Count and sum of a multiset of leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    count: u64,
    total: [u64; 4],
}

impl Sum {
    /// Adds a leaf.
    pub(crate) fn add(&mut self, key: &SumKey, leaf: &Hash) {
        self.count += 1;
        self.add_words(key.term(leaf));
    }

    /// Adds all of another multiset.
    pub(crate) fn add_all(&mut self, other: &Sum) {
        self.count += other.count;
        self.add_words(other.total);
    }

    /// How many leaves it is of.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    fn add_words(&mut self, words: [u64; 4]) {
        let mut carry = false;
        for (total, word) in self.total.iter_mut().zip(words) {
            let (sum, first) = total.overflowing_add(word);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            *total = sum;
            carry = first || second;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> SumKey {
        SumKey::new([7; 32])
    }

    fn sum_of(leaves: &[u8]) -> Sum {
        let mut sum = Sum::default();
        leaves.iter().for_each(|leaf| sum.add(&key(), &Hash::of(&[*leaf])));
        sum
    }

    #[test]
    fn a_carry_runs_through_all_words_and_out() {
        let mut sum = Sum { count: 0, total: [u64::MAX; 4] };
        sum.add_words([1, 0, 0, 0]);
        assert_eq!(sum.total, [0; 4]);
        let mut sum = Sum { count: 0, total: [u64::MAX, 5, u64::MAX, 0] };
        sum.add_words([u64::MAX, u64::MAX, 0, 1]);
        assert_eq!(sum.total, [u64::MAX - 1, 5, 0, 2]);
    }

    #[test]
    fn terms_are_big_endian_numbers_under_the_key() {
        let leaf = Hash::of(b"leaf");
        let term = Hash::of(&[[7; 32], *leaf.as_bytes()].concat());
        let last = u64::from_be_bytes(term.as_bytes()[24..].try_into().unwrap());
        assert_eq!(key().term(&leaf)[0], last);
        assert_ne!(SumKey::new([8; 32]).term(&leaf), key().term(&leaf));
    }

    proptest! {
        #[test]
        fn sums_are_equal_exactly_for_equal_multisets(
            a in prop::collection::vec(0..6_u8, 0..8),
            b in prop::collection::vec(0..6_u8, 0..8),
        ) {
            let sorted = |leaves: &[u8]| {
                let mut leaves = leaves.to_vec();
                leaves.sort_unstable();
                leaves
            };
            prop_assert_eq!(sum_of(&a) == sum_of(&b), sorted(&a) == sorted(&b));
            let mut both = sum_of(&a);
            both.add_all(&sum_of(&b));
            prop_assert_eq!(both, sum_of(&[a, b].concat()));
        }
    }
}
