//! Whether an id is in a log once. It has to hold every id of the log: 22 bytes for each leaf, which is the largest part of
//! what verifying needs.

use stele::id::EventId;
use stele::tlog::hash::LeafIndex;

/// The ids of a log, each with its leaf's index. In bytes, most significant first, so that they lie without gaps and sort
/// as numbers do.
#[derive(Default)]
pub(crate) struct Ids(Vec<([u8; 16], [u8; 6])>);

impl Ids {
    /// Adds a leaf's id. No log holds 2^48 leaves.
    pub(crate) fn push(&mut self, id: EventId, index: LeafIndex) {
        let [_, _, index @ ..] = index.to_u64().to_be_bytes();
        self.0.push((id.to_u128().to_be_bytes(), index));
    }

    /// Leaves whose id is that of an earlier leaf, at most so many.
    pub(crate) fn repeated(&mut self, limit: usize) -> Vec<LeafIndex> {
        self.0.sort_unstable();
        let pairs = self.0.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        let index =
            |[a, b, c, d, e, f]: [u8; 6]| LeafIndex::new(u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
        pairs.map(|pair| index(pair[1].1)).take(limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele::time::Timestamp;

    #[test]
    fn a_repeated_id_is_found_at_its_later_leaves() {
        let mut ids = Ids::default();
        let id = |n| EventId::new(Timestamp::from_ms(7), n);
        for (index, n) in [5, 3, 5, 9, 3, 5].into_iter().enumerate() {
            ids.push(id(n), LeafIndex::new(index as u64 + (1 << 40)));
        }
        let repeated: Vec<u64> = ids.repeated(10).iter().map(|index| index.to_u64() - (1 << 40)).collect();
        assert_eq!(repeated, [4, 2, 5]);
        assert_eq!(ids.repeated(2).len(), 2);
        ids.push(id(1), LeafIndex::new(0));
        ids.push(id(1), LeafIndex::new(1));
        assert_eq!(ids.repeated(10).len(), 4);
        assert_eq!(size_of::<([u8; 16], [u8; 6])>(), 22);
    }
}
