//! The archive: what one of its files says besides its leaves, what the archive index remembers of it, and which
//! waiting segments become the next file. How a file is laid out in Parquet is the adapter's business.

use crate::access::{LogNumber, TenantRecord};
use crate::error::{Error, Result};
use crate::id::EventId;
use crate::limits;
use crate::retention::Class;
use crate::segment::IndexEntry;
use crate::time::{Day, Timestamp};
use crate::tlog::checkpoint::Origin;
use crate::tlog::hash::{Hash, LeafIndex, TreeSize};
use crate::tlog::range::CompactRange;
use crate::tlog::tree::RightEdge;
use std::fmt;

/// A month, as partitions are named: `2026-05`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month([u8; 7]);

impl Month {
    /// The month of a time, in UTC.
    pub fn of(time: Timestamp) -> Month {
        let mut month = [0; 7];
        month.copy_from_slice(&time.day().to_bytes()[..7]);
        Month(month)
    }

    /// Parses what it prints.
    pub fn parse(text: &str) -> Option<Month> {
        let day = Day::parse(&format!("{text}-01")).ok()?;
        let month = Month::of(day.start());
        (month.as_str() == text).then_some(month)
    }

    /// Its first millisecond.
    pub fn start(self) -> Timestamp {
        let first = Day::parse(&format!("{self}-01"));
        first.expect("every month has a first day").start()
    }

    /// `YYYY-MM`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits and a hyphen are ASCII")
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a file of the archive says of itself: enough for anybody who finds it to go on from it without a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveHeader {
    /// The log's origin.
    pub origin: Origin,
    /// Its generation.
    pub log: LogNumber,
    /// The tree before the first leaf.
    pub before: RightEdge,
    /// The tree after the last leaf.
    pub after: RightEdge,
    /// When its first segment was sealed.
    pub sealed_first: Timestamp,
    /// When its last segment was sealed.
    pub sealed_last: Timestamp,
    /// The earliest `received_at` in it.
    pub received_min: Timestamp,
    /// The latest `received_at` in it.
    pub received_max: Timestamp,
    /// The latest `received_at` in it and all before it.
    pub running_received_max: Timestamp,
    /// The smallest id in it.
    pub id_min: EventId,
    /// The largest id in it.
    pub id_max: EventId,
}

impl ArchiveHeader {
    /// Index of its first leaf.
    pub fn first(&self) -> LeafIndex {
        self.before.size().next_index()
    }

    /// The tree size it ends at.
    pub fn end(&self) -> TreeSize {
        self.after.size()
    }

    /// How many leaves it holds.
    pub fn leaves(&self) -> u64 {
        self.end().to_u64() - self.first().to_u64()
    }

    /// The month of the partition it lies in.
    pub fn month(&self) -> Month {
        Month::of(self.sealed_first)
    }

    /// Its entry in the archive index.
    pub fn entry(&self, bytes: u64, version: String, sha256: Hash, class: Class) -> ArchiveEntry {
        ArchiveEntry {
            first: self.first(),
            end: self.end(),
            sealed_first: self.sealed_first,
            sealed_last: self.sealed_last,
            received_min: self.received_min,
            received_max: self.received_max,
            running_received_max: self.running_received_max,
            id_min: self.id_min,
            id_max: self.id_max,
            bytes,
            version,
            sha256,
            class,
            expired: None,
            range: None,
        }
    }
}

/// One line of the archive index. A cache: it can be made again from the files, but for the class, which the object's
/// tag and lock say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// Index of its first leaf.
    pub first: LeafIndex,
    /// The tree size it ends at.
    pub end: TreeSize,
    /// When its first segment was sealed.
    pub sealed_first: Timestamp,
    /// When its last segment was sealed: its class counts from here.
    pub sealed_last: Timestamp,
    /// The earliest `received_at` in it.
    pub received_min: Timestamp,
    /// The latest `received_at` in it.
    pub received_max: Timestamp,
    /// The latest `received_at` in it and all before it.
    pub running_received_max: Timestamp,
    /// The smallest id in it.
    pub id_min: EventId,
    /// The largest id in it.
    pub id_max: EventId,
    /// Bytes of the file.
    pub bytes: u64,
    /// The object's version.
    pub version: String,
    /// SHA-256 of the file.
    pub sha256: Hash,
    /// The class its lock keeps: it gets longer, never shorter.
    pub class: Class,
    /// When the object was found to be gone, its retention being over.
    pub expired: Option<Timestamp>,
    /// The hashes of its leaves' subtrees, from which proofs are made. `None` where only the tiles have them.
    pub range: Option<CompactRange>,
}

impl ArchiveEntry {
    /// How many leaves it holds.
    pub fn leaves(&self) -> u64 {
        self.end.to_u64() - self.first.to_u64()
    }

    /// The month of the partition it lies in.
    pub fn month(&self) -> Month {
        Month::of(self.sealed_first)
    }

    /// Until when its class keeps it.
    pub fn retain_until(&self) -> Timestamp {
        self.sealed_last.plus_days(self.class.days())
    }

    /// The class policy says it has: the tenant's where that is longer and holds for it, else its own.
    pub fn class_needed(&self, tenant: &TenantRecord) -> Class {
        let of_tenant = Class::of_days(tenant.class_days);
        let holds = self.sealed_last.ms() >= tenant.class_from_ms;
        of_tenant.filter(|_| holds).map_or(self.class, |class| class.max(self.class))
    }

    /// Whether a record received then can be in it.
    pub fn may_hold(&self, id: EventId, received_at: Timestamp) -> bool {
        (self.received_min..=self.received_max).contains(&received_at)
            && (self.id_min..=self.id_max).contains(&id)
    }
}

/// The size at which the next file of the archive ends, given the segments that wait, in order and from the first one on
/// without a gap; `None` if none is due. A file holds whole segments of one month, of at most about a million leaves: of
/// a closed day where that has enough of them, else of at most a week.
///
/// `waiting` may be cut off behind a million leaves; what comes after them changes nothing.
pub fn next_file_end(waiting: &[IndexEntry], now: Timestamp) -> Option<TreeSize> {
    let oldest = waiting.first()?;
    let month = Month::of(oldest.sealed_at);
    let of_month: Vec<&IndexEntry> =
        waiting.iter().take_while(|segment| Month::of(segment.sealed_at) == month).collect();
    let leaves_until = |segment: &IndexEntry| segment.end.to_u64() - oldest.first.to_u64();
    if let Some(over) =
        of_month.iter().position(|segment| leaves_until(segment) >= limits::ARCHIVE_FILE_LEAVES)
    {
        let fits = leaves_until(of_month[over]) == limits::ARCHIVE_FILE_LEAVES || over == 0;
        return Some(of_month[if fits { over } else { over - 1 }].end);
    }
    let closed: Vec<&IndexEntry> =
        of_month.into_iter().filter(|segment| segment.sealed_at.day() < now.day()).collect();
    let last_of_its_day = |place: usize| {
        closed.get(place + 1).is_none_or(|next| next.sealed_at.day() > closed[place].sealed_at.day())
    };
    let enough = (0..closed.len()).find(|place| {
        last_of_its_day(*place) && leaves_until(closed[*place]) >= limits::ARCHIVE_DAY_LEAVES_MIN
    });
    if let Some(place) = enough {
        // Days too small for files of their own go along, but no more than a week of them.
        let week = oldest.sealed_at.day().days() + limits::ARCHIVE_WAIT_DAYS_MAX;
        if closed[place].sealed_at.day().days() < week {
            return Some(closed[place].end);
        }
    }
    if oldest.sealed_at.plus_days(limits::ARCHIVE_WAIT_DAYS_MAX) > now {
        return None;
    }
    let week = oldest.sealed_at.day().days() + limits::ARCHIVE_WAIT_DAYS_MAX;
    closed.iter().rev().find(|segment| segment.sealed_at.day().days() < week).map(|segment| segment.end)
}

/// Checks that archive entries follow each other from `at` on, without a gap.
///
/// # Errors
/// `corrupt`, with what to do.
pub fn check_sequence(of: &str, at: TreeSize, entries: &[ArchiveEntry]) -> Result<TreeSize> {
    entries.iter().try_fold(at, |at, entry| match entry.first.size_before() == at {
        true => Ok(entry.end),
        false => Err(Error::corrupt(
            format!("archive index of `{of}`"),
            format!("an entry that begins at {at} (run `stele rebuild`)"),
            format!("one that begins at {}", entry.first),
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn waiting(segments: &[(&str, u64)]) -> Vec<IndexEntry> {
        let mut end = 0;
        let entry = |(sealed_at, leaves): &(&str, u64)| {
            let first = end;
            end += leaves;
            let sealed_at = at(sealed_at);
            let id = EventId::new(sealed_at, 0);
            IndexEntry {
                first: LeafIndex::new(first),
                end: TreeSize::new(end),
                received_min: sealed_at,
                received_max: sealed_at,
                running_received_max: sealed_at,
                id_min: id,
                id_max: id,
                sealed_at,
                version: "1".to_owned(),
                sha256: Hash::of(b""),
                subtrees: None,
            }
        };
        segments.iter().map(entry).collect()
    }

    fn end(segments: &[(&str, u64)], now: &str) -> Option<u64> {
        next_file_end(&waiting(segments), at(now)).map(TreeSize::to_u64)
    }

    const D1: &str = "2026-05-01T10:00:00.000Z";
    const D2: &str = "2026-05-02T10:00:00.000Z";
    const D3: &str = "2026-05-03T10:00:00.000Z";

    #[test]
    fn a_closed_day_with_enough_leaves_is_a_file() {
        assert_eq!(end(&[(D1, 5_000)], "2026-05-01T23:59:59.999Z"), None);
        assert_eq!(end(&[(D1, 5_000)], "2026-05-02T00:00:00.000Z"), Some(5_000));
        assert_eq!(end(&[(D1, 4_999)], "2026-05-02T00:00:00.000Z"), None);
        assert_eq!(end(&[(D1, 3_000), (D1, 3_000), (D2, 9_000)], "2026-05-03T00:00:00.000Z"), Some(6_000));
        assert_eq!(end(&[(D1, 3_000), (D2, 3_000), (D3, 1)], D3), Some(6_000), "two small days");
    }

    #[test]
    fn few_leaves_wait_a_week() {
        assert_eq!(end(&[(D1, 3)], "2026-05-08T09:59:59.999Z"), None);
        assert_eq!(end(&[(D1, 3)], "2026-05-08T10:00:00.000Z"), Some(3));
        let nine_days = [(D1, 3), (D3, 3), ("2026-05-09T10:00:00.000Z", 3)];
        assert_eq!(end(&nine_days, "2026-05-20T00:00:00.000Z"), Some(6), "never more than a week's");
    }

    #[test]
    fn a_million_leaves_are_a_file_at_once() {
        assert_eq!(end(&[(D1, 600_000), (D1, 400_000), (D1, 1)], D1), Some(1_000_000));
        assert_eq!(end(&[(D1, 600_000), (D1, 500_000)], D1), Some(600_000));
        assert_eq!(end(&[(D1, 600_000), (D1, 399_999)], D1), None);
        assert_eq!(end(&[(D1, 2_000_000)], D1), Some(2_000_000), "a segment is never cut");
    }

    #[test]
    fn a_file_is_of_one_month() {
        let segments = [("2026-05-31T10:00:00.000Z", 10), ("2026-06-01T10:00:00.000Z", 9_000)];
        assert_eq!(end(&segments, "2026-06-02T00:00:00.000Z"), None, "the few of May wait their week");
        assert_eq!(end(&segments, "2026-06-07T10:00:00.000Z"), Some(10));
    }

    #[test]
    fn months_are_read_as_printed() {
        assert_eq!(Month::parse("2026-05").map(|m| m.to_string()), Some("2026-05".to_owned()));
        for bad in ["2026-13", "2026-5", "2026-05-01", "", "26-05"] {
            assert_eq!(Month::parse(bad), None, "{bad}");
        }
    }
}
