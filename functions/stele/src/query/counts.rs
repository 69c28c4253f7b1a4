//! Counts as asked for: the values of a field, and a histogram over time.

use super::filter::Filter;
use super::request::{FILTERS, TENANT, filter, known, not_one_of, number, tenant_parameter};
use super::row::Column;
use crate::archive::Month;
use crate::error::{Code, Error, Result};
use crate::id::{EventId, TenantId};
use crate::limits;
use crate::ports::IdRange;
use crate::routes::{Parameters, Shown, bad_parameter};
use crate::time::{DAY_MS, Day, Timestamp};

/// The fields whose values are counted, named as in the filter language: those that files of the archive have a column of.
pub const FACETS: [(&str, Column); 13] = [
    ("action", Column::Action),
    ("outcome", Column::Outcome),
    ("reason", Column::Reason),
    ("actor.id", Column::ActorId),
    ("actor.type", Column::ActorType),
    ("actor.name", Column::ActorName),
    ("actor.email", Column::ActorEmail),
    ("resource.type", Column::ResourceType),
    ("resource.id", Column::ResourceId),
    ("resource.name", Column::ResourceName),
    ("ip", Column::Ip),
    ("ua", Column::UserAgent),
    ("key", Column::KeyId),
];

/// The values of a field with how often they come, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FacetRequest {
    /// The tenant named.
    pub tenant_id: Option<TenantId>,
    /// Of which records.
    pub filter: Filter,
    /// Which field.
    pub field: Column,
    /// How many values, the most frequent first.
    pub limit: usize,
}

/// The names of all filters and of more parameters.
const fn with_filters<const N: usize>(more: &[&'static str]) -> [&'static str; N] {
    let mut all = [""; N];
    let mut at = 0;
    while at < FILTERS.len() {
        all[at] = FILTERS[at];
        at += 1;
    }
    let mut extra = 0;
    while extra < TENANT.len() {
        all[at] = TENANT[extra];
        at += 1;
        extra += 1;
    }
    extra = 0;
    while extra < more.len() {
        all[at] = more[extra];
        at += 1;
        extra += 1;
    }
    all
}

impl FacetRequest {
    /// All its parameters.
    pub const PARAMETERS: [&'static str; FILTERS.len() + TENANT.len() + 1] = with_filters(&["limit"]);

    /// Reads them; `field` is out of the path.
    ///
    /// # Errors
    /// `not_found` for a field there is none of, `bad_parameter`, naming the parameter; `bad_filter` with the place in `q`.
    pub fn parse(field: &str, parameters: &Parameters, now: Timestamp) -> Result<FacetRequest> {
        let column = column(field).ok_or_else(|| {
            let names = FACETS.map(|(name, _)| format!("`{name}`")).join(", ");
            Error::new(Code::NotFound, format!("there is no facet `{}`; there are {names}", Shown(field)))
        })?;
        known(parameters, &FacetRequest::PARAMETERS)?;
        Ok(FacetRequest {
            tenant_id: tenant_parameter(parameters)?,
            filter: filter(parameters, now)?,
            field: column,
            limit: number(parameters, "limit", 1, limits::FACET_LIMIT_MAX)?
                .unwrap_or(limits::FACET_LIMIT_DEFAULT),
        })
    }
}

fn column(name: &str) -> Option<Column> {
    FACETS.iter().find(|(known, _)| *known == name).map(|(_, column)| *column)
}

/// The name of a field that is counted.
pub fn facet_name(column: Column) -> &'static str {
    FACETS.iter().find(|(_, known)| *known == column).map_or(column.name(), |(name, _)| name)
}

/// The length of a histogram's steps, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Months.
    Month,
}

impl Steps {
    const NAMES: [&'static str; 3] = ["hour", "day", "month"];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        Steps::NAMES[self as usize]
    }

    /// When the step began that a time lies in.
    pub fn start(self, time: Timestamp) -> Timestamp {
        match self {
            Steps::Hour => Timestamp::from_ms(time.ms() - time.ms() % (DAY_MS / 24)),
            Steps::Day => time.day().start(),
            Steps::Month => {
                let first = Day::parse(&format!("{}-01", Month::of(time)));
                first.map_or(time.day().start(), Day::start)
            }
        }
    }

    /// The start of the step that lies so many before that of a time.
    fn back(self, time: Timestamp, steps: u64) -> Timestamp {
        let start = self.start(time);
        match self {
            Steps::Hour => start.minus_ms(steps.saturating_mul(DAY_MS / 24)),
            Steps::Day => start.minus_ms(steps.saturating_mul(DAY_MS)),
            Steps::Month => {
                let back = |start: Timestamp| {
                    if start == Timestamp::default() { start } else { self.start(start.minus_ms(1)) }
                };
                (0..steps).fold(start, |start, _| back(start))
            }
        }
    }
}

/// A histogram, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsRequest {
    /// The tenant named.
    pub tenant_id: Option<TenantId>,
    /// Of which records.
    pub filter: Filter,
    /// In which steps.
    pub interval: Steps,
    /// Counted apart by the values of a field.
    pub group_by: Option<Column>,
}

impl StatsRequest {
    /// All its parameters.
    pub const PARAMETERS: [&'static str; FILTERS.len() + TENANT.len() + 2] =
        with_filters(&["interval", "group_by"]);

    /// Reads them.
    ///
    /// # Errors
    /// `bad_parameter`, naming the parameter.
    pub fn parse(parameters: &Parameters, now: Timestamp) -> Result<StatsRequest> {
        known(parameters, &StatsRequest::PARAMETERS)?;
        let interval = match parameters.one("interval")? {
            None | Some("day") => Steps::Day,
            Some("hour") => Steps::Hour,
            Some("month") => Steps::Month,
            Some(other) => return Err(not_one_of("interval", other, &Steps::NAMES)),
        };
        let group_by = match parameters.one("group_by")? {
            None => None,
            Some(name) => match column(name) {
                Some(column) => Some(column),
                None => return Err(not_one_of("group_by", name, &FACETS.map(|(name, _)| name))),
            },
        };
        Ok(StatsRequest {
            tenant_id: tenant_parameter(parameters)?,
            filter: filter(parameters, now)?,
            interval,
            group_by,
        })
    }

    /// The ids it is about: as many steps as it may have, unless it says from when on. `None` if there are none.
    ///
    /// # Errors
    /// `bad_parameter` if that would be more steps than it may have.
    pub fn range(&self, now: Timestamp) -> Result<Option<IdRange>> {
        let Some(range) = self.filter.range() else { return Ok(None) };
        let end = range.last.time().min(now.plus_ms(limits::FUTURE_MS_MAX));
        let earliest = self.interval.back(end, limits::STATS_INTERVALS_MAX - 1);
        match self.filter.from() {
            Some(from) if from < earliest => {
                let detail = format!(
                    "`from` is more than {} {}s before the end: ask for less, or for longer intervals",
                    limits::STATS_INTERVALS_MAX,
                    self.interval.as_str(),
                );
                Err(bad_parameter("from", "too_long", detail))
            }
            Some(_) => Ok(Some(range)),
            None => Ok(Some(IdRange { first: EventId::first_at(earliest).max(range.first), ..range })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(query: &str) -> Result<StatsRequest> {
        StatsRequest::parse(&Parameters::parse(query)?, at("2026-03-31T15:14:13.121Z"))
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_facet_is_of_a_field_there_is() {
        let facet = |field: &str, query: &str| {
            FacetRequest::parse(field, &Parameters::parse(query).unwrap(), Timestamp::default())
        };
        for (name, column) in FACETS {
            assert_eq!(facet(name, "").unwrap().field, column);
            assert!(column.is_archived() && facet_name(column) == name);
        }
        assert_eq!(facet("actor", "").unwrap_err().code(), Code::NotFound);
        assert_eq!(facet("action", "limit=201").unwrap_err().problems()[0].pointer, "limit");
        assert_eq!(facet("action", "cursor=x").unwrap_err().code(), Code::BadParameter);
        assert!(
            FacetRequest::PARAMETERS.iter().chain(&StatsRequest::PARAMETERS).all(|name| !name.is_empty())
        );
    }

    #[test]
    fn steps_begin_where_calendars_have_them() {
        let time = at("2026-03-31T15:14:13.121Z");
        let start = |interval: Steps| interval.start(time).to_string();
        assert_eq!(start(Steps::Hour), "2026-03-31T15:00:00.000Z");
        assert_eq!(start(Steps::Day), "2026-03-31T00:00:00.000Z");
        assert_eq!(start(Steps::Month), "2026-03-01T00:00:00.000Z");
        assert_eq!(Steps::Month.back(time, 14).to_string(), "2025-01-01T00:00:00.000Z");
        assert_eq!(Steps::Month.back(time, 100_000), Timestamp::default());
    }

    #[test]
    fn a_histogram_has_a_bounded_number_of_steps_and_says_so() {
        let now = at("2026-03-31T15:14:13.121Z");
        let range = |query: &str| stats(query).unwrap().range(now);
        let first = |query: &str| range(query).unwrap().unwrap().first.time();
        assert_eq!(first("interval=hour"), Steps::Hour.back(now, limits::STATS_INTERVALS_MAX - 1));
        assert_eq!(first("interval=hour&from=2026-03-01"), at("2026-03-01T00:00:00.000Z"));
        let refused = range("interval=hour&from=2025-03-01").unwrap_err();
        assert_eq!(refused.problems()[0].pointer, "from");
        assert!(range("interval=day&from=2025-03-01").is_ok());
        assert_eq!(stats("interval=week").unwrap_err().problems()[0].pointer, "interval");
        assert_eq!(stats("group_by=actor").unwrap_err().problems()[0].pointer, "group_by");
        assert_eq!(range("from=2026-03-02&to=2026-03-01").unwrap(), None);
    }
}
