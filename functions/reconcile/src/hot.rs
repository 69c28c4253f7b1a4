//! What the hot store has of a day: the records received on it, in the partitions of the days they occurred on.

use crate::Reconcile;
use crate::sum::{Sum, SumKey};
use futures_util::{FutureExt, StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use stele::access::Tenant;
use stele::error::{Error, Result};
use stele::id::EventId;
use stele::ports::{HotStore, IdRange, Order};
use stele::record::Record;
use stele::time::{DAY_MS, Day, Timestamp};

/// Records fetched at once.
const HOT_PAGE: usize = 1_000;
/// Hours of a large day read at the same time.
const HOURS_AT_ONCE: usize = 4;
const HOUR_MS: u64 = 60 * 60 * 1000;
const HOURS_OF_DAY: u64 = DAY_MS / HOUR_MS;

/// An hour in which events occurred, counted from 1970: sums are kept by it, so that one fault is looked for in an hour and
/// not in everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hour(u64);

impl Hour {
    /// The hour of an id.
    pub(crate) fn of(id: EventId) -> Hour {
        Hour(id.time().ms() / HOUR_MS)
    }

    fn of_day(day: Day) -> impl Iterator<Item = Hour> {
        let first = day.start().ms() / HOUR_MS;
        (first..first + HOURS_OF_DAY).map(Hour)
    }

    /// All ids of it, in so many parts of the same length.
    pub(crate) fn parts(self, count: u64) -> impl Iterator<Item = IdRange> {
        let at = move |part: u64| self.0 * HOUR_MS + HOUR_MS * part / count;
        (0..count).filter(move |part| at(*part) < at(part + 1)).map(move |part| IdRange {
            first: EventId::first_at(Timestamp::from_ms(at(part))),
            last: EventId::last_at(Timestamp::from_ms(at(part + 1) - 1)),
        })
    }
}

/// Sums by hour.
pub(crate) type HourSums = BTreeMap<Hour, Sum>;

impl Reconcile {
    /// Sums of the records received on a day.
    pub(crate) async fn hot_sums(&self, tenant: &Tenant, received: Day, key: &SumKey) -> Result<HourSums> {
        let late = self.hot.late_days(tenant, received..=received).await?;
        let occurred: BTreeSet<Day> =
            late.into_iter().map(|(_, occurred)| occurred).chain([received]).collect();
        let mut sums = HourSums::new();
        for day in occurred {
            let whole =
                IdRange { first: EventId::first_at(day.start()), last: EventId::last_at(crate::end_of(day)) };
            let page = self.hot.day(tenant, day, whole, Order::Ascending, HOT_PAGE).await?;
            add(&mut sums, key, received, &page);
            // Most tenants' days are one page; the rest of a large one is read hour by hour, several at a time.
            let Some(next) = page.last().filter(|_| page.len() == HOT_PAGE).and_then(|last| last.id.next())
            else {
                continue;
            };
            let hours: Vec<_> = Hour::of_day(day)
                .flat_map(|hour| hour.parts(1))
                .filter(|range| range.last >= next)
                .map(|range| {
                    let range = IdRange { first: range.first.max(next), ..range };
                    async move {
                        let (mut sums, mut pages) = (HourSums::new(), self.hot_pages(tenant, range));
                        while let Some(page) = pages.next().await? {
                            add(&mut sums, key, received, &page);
                        }
                        Ok::<_, Error>(sums)
                    }
                    .boxed()
                })
                .collect();
            let mut hours = stream::iter(hours).buffer_unordered(HOURS_AT_ONCE);
            while let Some(of_hour) = hours.next().await {
                for (hour, sum) in of_hour? {
                    sums.entry(hour).or_default().add_all(&sum);
                }
            }
        }
        Ok(sums)
    }

    /// The records of a range of ids that lies within one day.
    pub(crate) fn hot_pages<'a>(&'a self, tenant: &'a Tenant, range: IdRange) -> HotPages<'a> {
        HotPages { hot: &*self.hot, tenant, rest: Some(range) }
    }
}

/// Records of the hot store, in order, page by page.
pub(crate) struct HotPages<'a> {
    hot: &'a dyn HotStore,
    tenant: &'a Tenant,
    rest: Option<IdRange>,
}

impl HotPages<'_> {
    /// The next page; `None` behind the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Record>>> {
        let Some(range) = self.rest else { return Ok(None) };
        let day = range.first.time().day();
        let page = self.hot.day(self.tenant, day, range, Order::Ascending, HOT_PAGE).await?;
        let next = page.last().filter(|_| page.len() == HOT_PAGE).and_then(|last| last.id.next());
        self.rest = next.filter(|next| *next <= range.last).map(|first| IdRange { first, ..range });
        Ok(Some(page))
    }
}

/// Adds those records of a page that were received on a day. The hash is that of the bytes stored, whatever else the store
/// may say.
fn add(sums: &mut HourSums, key: &SumKey, received: Day, records: &[Record]) {
    for record in records.iter().filter(|record| record.received_at.day() == received) {
        sums.entry(Hour::of(record.id)).or_default().add(key, &record.leaf.hash());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_hour_cover_it_without_overlapping() {
        let hour = Hour::of(EventId::first_at(Timestamp::from_ms(1_777_636_800_000)));
        for count in [1, 2, 7, 3_600_001] {
            let parts: Vec<IdRange> = hour.parts(count).collect();
            assert_eq!(parts.len() as u64, count.min(HOUR_MS));
            assert!(parts.windows(2).all(|pair| pair[0].last.next() == Some(pair[1].first)));
            assert_eq!(Hour::of(parts[0].first), hour);
            assert_eq!(parts[0].first, EventId::first_at(Timestamp::from_ms(1_777_636_800_000)));
            assert_eq!(parts[parts.len() - 1].last.time().ms(), 1_777_636_800_000 + HOUR_MS - 1);
        }
    }
}
