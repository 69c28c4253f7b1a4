//! Whether an id is in a log once. The ids of all its leaves have to be held against each other, however many there are:
//! memory holds a fixed number of them, the others lie in sorted runs in a temporary file (22 bytes for each leaf, and only where
//! there are more than that number), which are read side by side in the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use stele::error::{Code, Error, Result};
use stele::id::EventId;
use stele::tlog::hash::LeafIndex;

/// Ids that memory holds: 11 MiB.
const HELD_MAX: usize = 1 << 19;
/// Ids of a run that are read at once when runs are merged, at the most.
const READ_MAX: usize = 4_096;
/// Bytes of an id and of the index of its leaf. No log holds 2^48 leaves.
const ID_BYTES: usize = 16;
const ENTRY_BYTES: usize = ID_BYTES + 6;

/// An id and its leaf's index. In bytes, most significant first, so that they lie without gaps.
type Entry = [u8; ENTRY_BYTES];

/// The ids of a log, each with its leaf's index.
pub(crate) struct Ids {
    held: Vec<Entry>,
    held_max: usize,
    /// How many ids each run in the file has, in the order they lie there.
    runs: Vec<usize>,
    /// It has no name and is gone with the process.
    file: Option<File>,
}

impl Default for Ids {
    fn default() -> Ids {
        Ids::holding(HELD_MAX)
    }
}

impl Ids {
    fn holding(held_max: usize) -> Ids {
        Ids { held: Vec::new(), held_max, runs: Vec::new(), file: None }
    }

    /// Adds a leaf's id.
    ///
    /// # Errors
    /// `internal` if the temporary file can't be written.
    pub(crate) fn push(&mut self, id: EventId, index: LeafIndex) -> Result<()> {
        if self.held.len() == self.held_max {
            self.spill().map_err(failed)?;
        }
        let mut entry = [0; ENTRY_BYTES];
        entry[..ID_BYTES].copy_from_slice(&id.to_u128().to_be_bytes());
        entry[ID_BYTES..].copy_from_slice(&index.to_u64().to_be_bytes()[2..]);
        self.held.push(entry);
        Ok(())
    }

    /// Ids of leaves that are an earlier leaf's too, at most so many, by id and leaf.
    ///
    /// # Errors
    /// `internal` if the temporary file can't be read.
    pub(crate) fn repeated(&mut self, limit: usize) -> Result<Vec<(EventId, LeafIndex)>> {
        sort(&mut self.held);
        let mut repeated = Repeated { found: Vec::new(), last: None, limit };
        match &mut self.file {
            None => self.held.iter().for_each(|entry| repeated.see(entry)),
            Some(file) => merge(file, &self.runs, &self.held, &mut repeated).map_err(failed)?,
        }
        Ok(repeated.found)
    }

    /// Writes what memory holds to the end of the file, as a run of its own.
    fn spill(&mut self) -> io::Result<()> {
        sort(&mut self.held);
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        file.seek(SeekFrom::End(0))?;
        file.write_all(self.held.as_flattened())?;
        self.runs.push(self.held.len());
        self.held.clear();
        Ok(())
    }
}

fn failed(e: io::Error) -> Error {
    let detail = "keep the ids of a large log in a temporary file; name a folder with room for 22 bytes per event in `TMPDIR`";
    Error::new(Code::Internal, detail).with_source(e)
}

fn id_of(entry: &Entry) -> u128 {
    let (id, _) = entry.split_first_chunk().expect("an entry begins with an id");
    u128::from_be_bytes(*id)
}

fn index_of(entry: &Entry) -> u64 {
    entry[ID_BYTES..].iter().fold(0, |index, byte| index << 8 | u64::from(*byte))
}

fn sort(entries: &mut [Entry]) {
    entries.sort_unstable_by(|a, b| id_of(a).cmp(&id_of(b)).then_with(|| index_of(a).cmp(&index_of(b))));
}

/// What was found so far of entries that come sorted.
struct Repeated {
    found: Vec<(EventId, LeafIndex)>,
    last: Option<u128>,
    limit: usize,
}

impl Repeated {
    fn see(&mut self, entry: &Entry) {
        let id = id_of(entry);
        if self.last == Some(id) && self.found.len() < self.limit {
            self.found.extend(EventId::from_u128(id).map(|id| (id, LeafIndex::new(index_of(entry)))));
        }
        self.last = Some(id);
    }
}

/// A run as far as it was read: what of it is in memory, and how many entries are left where in the file.
struct Run {
    read: std::vec::IntoIter<Entry>,
    at: u64,
    left: usize,
}

impl Run {
    fn next(&mut self, file: &mut File) -> io::Result<Option<Entry>> {
        if let Some(entry) = self.read.next() {
            return Ok(Some(entry));
        }
        let mut entries = vec![[0; ENTRY_BYTES]; self.left.min(READ_MAX)];
        if entries.is_empty() {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(self.at))?;
        file.read_exact(entries.as_flattened_mut())?;
        self.at += (entries.len() * ENTRY_BYTES) as u64;
        self.left -= entries.len();
        self.read = entries.into_iter();
        Ok(self.read.next())
    }
}

/// Sees all entries of the file's runs and of one that memory holds, in their order.
fn merge(file: &mut File, runs: &[usize], held: &[Entry], repeated: &mut Repeated) -> io::Result<()> {
    let mut at = 0;
    let mut merged: Vec<Run> = Vec::with_capacity(runs.len());
    for length in runs {
        merged.push(Run { read: Vec::new().into_iter(), at, left: *length });
        at += (length * ENTRY_BYTES) as u64;
    }
    let mut held = held.iter();
    // By number of run; that behind the last is what memory holds.
    let mut next = |run: usize| match merged.get_mut(run) {
        Some(run) => run.next(file),
        None => Ok(held.next().copied()),
    };
    let mut heap = BinaryHeap::new();
    for run in 0..=runs.len() {
        heap.extend(next(run)?.map(|entry| Reverse((entry, run))));
    }
    while let Some(mut least) = heap.peek_mut() {
        let Reverse((entry, run)) = *least;
        repeated.see(&entry);
        match next(run)? {
            // In place: most often the same run goes on.
            Some(entry) => *least = Reverse((entry, run)),
            None => drop(std::collections::binary_heap::PeekMut::pop(least)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele::time::Timestamp;

    fn id(n: u128) -> EventId {
        EventId::new(Timestamp::from_ms(7), n)
    }

    #[test]
    fn a_repeated_id_is_found_at_its_later_leaves() {
        for held_max in [1, 2, 3, 5, 6, 100] {
            let mut ids = Ids::holding(held_max);
            for (index, n) in [5, 3, 5, 9, 3, 5].into_iter().enumerate() {
                ids.push(id(n), LeafIndex::new(index as u64 + (1 << 40))).unwrap();
            }
            let repeated: Vec<_> = ids.repeated(10).unwrap();
            let expected = [(3, 4), (5, 2), (5, 5)];
            assert_eq!(repeated, expected.map(|(n, index)| (id(n), LeafIndex::new(index + (1 << 40)))));
            assert_eq!(ids.repeated(2).unwrap().len(), 2);
            // It goes on after a look.
            ids.push(id(1), LeafIndex::new(0)).unwrap();
            ids.push(id(1), LeafIndex::new(1)).unwrap();
            assert_eq!(ids.repeated(10).unwrap().len(), 4, "{held_max}");
        }
    }

    #[test]
    fn runs_longer_than_what_is_read_at_once_are_merged_whole() {
        let count = 5 * READ_MAX as u64 + 17;
        // Each id once, in an order far from theirs, and then some again.
        let mut ids = Ids::holding(2 * READ_MAX + 3);
        for n in 0..count {
            ids.push(id(u128::from(n * 7_919 % count)), LeafIndex::new(n)).unwrap();
        }
        assert_eq!(ids.repeated(10).unwrap(), []);
        for (n, again) in [(count, 0), (count + 1, 12_345), (count + 2, count - 1)] {
            ids.push(id(u128::from(again)), LeafIndex::new(n)).unwrap();
        }
        let expected = [(0, count), (12_345, count + 1), (count - 1, count + 2)];
        assert_eq!(ids.repeated(10).unwrap(), expected.map(|(n, at)| (id(n.into()), LeafIndex::new(at))));
    }
}
