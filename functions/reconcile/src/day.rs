//! One closed day: whether every record received on it is in the log exactly once, as it was accepted.
//!
//! First both sides are summed, hour by hour; that is all there is to do for nearly every day of nearly every tenant. Hours
//! that differ are then looked at id by id, in slices of bounded size.

use crate::Reconcile;
use crate::hot::{Hour, HourSums};
use crate::leaves::Wanted;
use crate::sum::SumKey;
use std::collections::BTreeMap;
use stele::access::Tenant;
use stele::error::Result;
use stele::id::EventId;
use stele::ports::IdRange;
use stele::record::{Columns, Record};
use stele::time::{Day, Timestamp};
use stele::tlog::hash::{Hash, leaf_hash};
use stele::{limits, parking};

/// Ids, with their hashes, that are looked at together: 48 bytes each.
const SLICE_IDS: u64 = 200_000;
/// Ids of a day that are looked up in the hot store one by one, because the log has them and the day has not. When the
/// table of events was lost it would be all of them.
const LOOK_UPS_MAX: usize = 20_000;
/// Ids looked up at once.
const LOOK_UP_PAGE: usize = 200;
/// Ids named in one line of the log.
const NAMED_MAX: usize = 50;
/// How much earlier than its time an event can have been received: clients' clocks run ahead by what is allowed, ours by what
/// a clock that is looked after may.
const DATED_AHEAD_MS_MAX: u64 = limits::FUTURE_MS_MAX + crate::CLOSED_AFTER_MS;

/// What was found of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Records that are not in the log: handed to sealing.
    pub(crate) missing: u64,
    /// Ids whose record is in the log as another, or more than once.
    pub(crate) differing: u64,
    /// Records in the log that the hot store has not.
    pub(crate) forgotten: u64,
}

/// Ids looked at together.
struct Slice(Vec<IdRange>);

impl Slice {
    fn contains(&self, id: EventId) -> bool {
        let at = self.0.partition_point(|range| range.last < id);
        self.0.get(at).is_some_and(|range| range.first <= id)
    }
}

/// A leaf that the log has.
struct Copy {
    id: EventId,
    hash: Hash,
}

/// What is wrong in a slice.
#[derive(Default)]
struct Found {
    missing: Vec<EventId>,
    differing: Vec<EventId>,
    /// In the log, received on the day, and not among the day's records.
    unknown: Vec<(EventId, Hash)>,
}

impl Reconcile {
    /// Compares a day, and hands to sealing what the log has not.
    pub(crate) async fn compare_day(&self, tenant: &Tenant, day: Day) -> Result<Verdict> {
        let key = SumKey::new(self.secrets.reconcile_key(tenant.id()));
        // In this order: what is sealed meanwhile was in the hot store before.
        let hot = self.hot_sums(tenant, day, &key).await?;
        let sealed = self.sealed_sums(tenant, day, &key).await?;
        let mut verdict = Verdict::default();
        let mut look_ups = LOOK_UPS_MAX;
        for slice in slices(&hot, &sealed) {
            let found = self.compare_slice(tenant, day, &slice).await?;
            verdict.missing += found.missing.len() as u64;
            self.park(tenant, day, &slice, &found.missing).await?;
            let mut differing = found.differing;
            let (asked, unasked) = found.unknown.split_at(found.unknown.len().min(look_ups));
            look_ups -= asked.len();
            let before = differing.len();
            self.look_up(tenant, asked, &mut differing).await?;
            verdict.forgotten += (asked.len() - (differing.len() - before) + unasked.len()) as u64;
            verdict.differing += differing.len() as u64;
            tell(tenant, day, &differing);
        }
        Ok(verdict)
    }

    async fn sealed_sums(&self, tenant: &Tenant, day: Day, key: &SumKey) -> Result<HourSums> {
        let mut sums = HourSums::new();
        let wanted = Wanted {
            received: day.start()..=crate::end_of(day),
            ids: EventId::first_at(Timestamp::default())..=EventId::last_at(Timestamp::MAX),
        };
        let add = &mut |leaf: &[u8]| {
            let columns = Columns::of(leaf)?;
            if columns.received_at.day() == day {
                sums.entry(Hour::of(columns.id)).or_default().add(key, &leaf_hash(leaf));
            }
            Ok(())
        };
        self.visit_leaves(tenant, &wanted, add).await?;
        Ok(sums)
    }

    /// Holds the day's records of a slice against all copies the log has of them, whenever those were received.
    async fn compare_slice(&self, tenant: &Tenant, day: Day, slice: &Slice) -> Result<Found> {
        let mut hot: Vec<(EventId, Hash)> = Vec::new();
        for range in &slice.0 {
            let mut pages = self.hot_pages(tenant, *range);
            while let Some(page) = pages.next().await? {
                hot.extend(of_day(&page, day).map(|record| (record.id, record.leaf.hash())));
            }
        }
        let copies = self.copies(tenant, day, slice, &hot).await?;
        let mut copies = copies.chunk_by(|a, b| a.id == b.id).peekable();
        let mut found = Found::default();
        for (id, hash) in &hot {
            while let Some(unknown) = copies.next_if(|copies| copies[0].id < *id) {
                found.note_unknown(unknown);
            }
            match copies.next_if(|copies| copies[0].id == *id) {
                None => found.missing.push(*id),
                Some([copy]) if copy.hash == *hash => {}
                Some(_) => found.differing.push(*id),
            }
        }
        copies.for_each(|unknown| found.note_unknown(unknown));
        Ok(found)
    }

    /// The leaves of the log that are about a slice, by id.
    async fn copies(
        &self,
        tenant: &Tenant,
        day: Day,
        slice: &Slice,
        hot: &[(EventId, Hash)],
    ) -> Result<Vec<Copy>> {
        let (Some(first), Some(last)) = (slice.0.first(), slice.0.last()) else { return Ok(Vec::new()) };
        let earliest = first.first.time().minus_ms(DATED_AHEAD_MS_MAX).min(day.start());
        let wanted = Wanted { received: earliest..=Timestamp::MAX, ids: first.first..=last.last };
        let mut copies = Vec::new();
        let keep = &mut |leaf: &[u8]| {
            let columns = Columns::of(leaf)?;
            let (id, of_day) = (columns.id, columns.received_at.day() == day);
            if slice.contains(id) && (of_day || hot.binary_search_by_key(&id, |(id, _)| *id).is_ok()) {
                copies.push(Copy { id, hash: leaf_hash(leaf) });
            }
            Ok(())
        };
        self.visit_leaves(tenant, &wanted, keep).await?;
        copies.sort_unstable_by_key(|copy| copy.id);
        Ok(copies)
    }

    /// Hands records to sealing, which drops those that are in the log by then. Being told twice costs it a look.
    async fn park(&self, tenant: &Tenant, day: Day, slice: &Slice, missing: &[EventId]) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        for range in &slice.0 {
            let mut pages = self.hot_pages(tenant, *range);
            while let Some(page) = pages.next().await? {
                let is_missing = |record: &&Record| missing.binary_search(&record.id).is_ok();
                let records: Vec<Record> = of_day(&page, day).filter(is_missing).cloned().collect();
                for (message, _) in parking::messages(&records) {
                    // A crash right after this line leaves them parked; the day stays open until they are in the log.
                    self.parking.send(message).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether the hot store has ids of the log on another day: then with another record.
    async fn look_up(
        &self,
        tenant: &Tenant,
        ids: &[(EventId, Hash)],
        differing: &mut Vec<EventId>,
    ) -> Result<()> {
        for page in ids.chunks(LOOK_UP_PAGE) {
            let hashes: BTreeMap<EventId, Hash> = page.iter().copied().collect();
            let records = self.hot.records(tenant, &hashes.keys().copied().collect::<Vec<_>>()).await?;
            let other = records.iter().filter(|record| hashes.get(&record.id) != Some(&record.leaf.hash()));
            differing.extend(other.map(|record| record.id));
        }
        Ok(())
    }
}

impl Found {
    /// Copies of an id that the day's records don't have; the log received them on the day.
    fn note_unknown(&mut self, copies: &[Copy]) {
        match copies {
            [copy] => self.unknown.push((copy.id, copy.hash)),
            copies => self.differing.extend(copies.first().map(|copy| copy.id)),
        }
    }
}

fn of_day(records: &[Record], day: Day) -> impl Iterator<Item = &Record> {
    records.iter().filter(move |record| record.received_at.day() == day)
}

/// The hours that differ, put together or cut so that each slice has about as many ids as fit.
fn slices(hot: &HourSums, sealed: &HourSums) -> Vec<Slice> {
    let mut hours: Vec<Hour> = hot.keys().chain(sealed.keys()).copied().collect();
    hours.sort_unstable();
    hours.dedup();
    let (mut slices, mut ranges, mut ids) = (Vec::new(), Vec::new(), 0);
    for hour in hours.into_iter().filter(|hour| hot.get(hour) != sealed.get(hour)) {
        let count = |sums: &HourSums| sums.get(&hour).map_or(0, |sum| sum.count());
        let of_hour = count(hot).max(count(sealed));
        if ids + of_hour > SLICE_IDS && !ranges.is_empty() {
            slices.push(Slice(std::mem::take(&mut ranges)));
            ids = 0;
        }
        let parts = of_hour.div_ceil(SLICE_IDS).max(1);
        if parts > 1 {
            slices.extend(hour.parts(parts).map(|part| Slice(vec![part])));
        } else {
            ranges.extend(hour.parts(1));
            ids += of_hour;
        }
    }
    slices.extend((!ranges.is_empty()).then_some(Slice(ranges)));
    slices
}

/// Names ids that differ: ids alone, events are never logged.
fn tell(tenant: &Tenant, day: Day, differing: &[EventId]) {
    if !differing.is_empty() {
        let shown: Vec<String> = differing.iter().take(NAMED_MAX).map(|id| id.shown()).collect();
        tracing::error!(
            tenant = %tenant.id(), %day, count = differing.len(), ids = shown.join(" "),
            "ids differ between hot store and log"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sum::Sum;

    fn sums(hours: &[(u64, u64)]) -> HourSums {
        let key = SumKey::new([1; 32]);
        let mut sums = HourSums::new();
        for (hour, count) in hours {
            let mut sum = Sum::default();
            sum.add(&key, &Hash::of(&hour.to_be_bytes()));
            // Doubling counts fast.
            while sum.count() < *count {
                let twice = sum;
                sum.add_all(&twice);
            }
            sums.insert(Hour::of(EventId::first_at(Timestamp::from_ms(hour * 3_600_000))), sum);
        }
        sums
    }

    #[test]
    fn only_hours_that_differ_are_looked_at_in_slices_of_bounded_size() {
        let hot = sums(&[(1, 1), (2, 64), (3, 131_072), (4, 131_072), (5, 1 << 20), (6, 1)]);
        let sealed = sums(&[(1, 1), (6, 2), (7, 1)]);
        let slices = slices(&hot, &sealed);
        let hours: Vec<Vec<u64>> = slices
            .iter()
            .map(|slice| slice.0.iter().map(|range| range.first.time().ms() / 3_600_000).collect())
            .collect();
        let expected = [vec![vec![2, 3], vec![4]], vec![vec![5]; 6], vec![vec![6, 7]]].concat();
        assert_eq!(hours, expected);
        for slice in &slices {
            for range in &slice.0 {
                assert!(slice.contains(range.first) && slice.contains(range.last));
                assert!(!slice.contains(range.last.next().unwrap()) || slice.0.len() > 1);
            }
        }
    }
}
