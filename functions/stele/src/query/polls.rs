//! Feed and tail as asked for: what somebody who keeps asking wants to see next.

use super::filter::Filter;
use super::request::{FILTERS, TENANT, filter, known, number, tenant_parameter};
use crate::error::Result;
use crate::id::TenantId;
use crate::limits;
use crate::routes::{Parameters, Shown, bad_parameter};
use crate::time::Timestamp;
use crate::tlog::hash::{LeafIndex, TreeSize};

/// Sealed events in leaf order, from a leaf on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedRequest {
    /// The tenant named.
    pub tenant_id: Option<TenantId>,
    /// Which events; the others are passed over.
    pub filter: Filter,
    /// How many leaves are seen already.
    pub seen: TreeSize,
    /// How many at the most.
    pub limit: usize,
    /// How long to wait for something new, in seconds.
    pub wait_seconds: usize,
}

/// Events as they are received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailRequest {
    /// The tenant named.
    pub tenant_id: Option<TenantId>,
    /// Which events; the others are passed over.
    pub filter: Filter,
    /// The cursor of the answer before; none for the newest events.
    pub since: Option<String>,
    /// How many at the most.
    pub limit: usize,
    /// How long to wait for something new, in seconds.
    pub wait_seconds: usize,
}

const fn names(own: [&'static str; 3]) -> [&'static str; FILTERS.len() + 5] {
    let mut all = [""; FILTERS.len() + 5];
    let mut at = 0;
    while at < FILTERS.len() {
        all[at] = FILTERS[at];
        at += 1;
    }
    [all[at], all[at + 1], all[at + 2], all[at + 3], all[at + 4]] =
        [TENANT[0], TENANT[1], own[0], own[1], own[2]];
    all
}

impl FeedRequest {
    /// All its parameters.
    pub const PARAMETERS: [&'static str; FILTERS.len() + 5] = names(["after", "limit", "wait"]);

    /// Reads them, as asked at a time.
    ///
    /// # Errors
    /// `bad_parameter`, naming the parameter; `bad_filter` with the place in `q`.
    pub fn parse(parameters: &Parameters, now: Timestamp) -> Result<FeedRequest> {
        known(parameters, &FeedRequest::PARAMETERS)?;
        let after = match parameters.one("after")? {
            None => None,
            Some(text) => {
                let digits = text.len() <= 18 && text.bytes().all(|c| c.is_ascii_digit());
                let index = text.parse().ok().filter(|_| digits).map(LeafIndex::new);
                Some(index.ok_or_else(|| {
                    let detail = format!(
                        "`{}` in `after` is not a leaf index: send the `next_after` of the answer before, or nothing to begin with",
                        Shown(text)
                    );
                    bad_parameter("after", "bad_value", detail)
                })?)
            }
        };
        Ok(FeedRequest {
            tenant_id: tenant_parameter(parameters)?,
            filter: filter(parameters, now)?,
            seen: after.map_or(TreeSize::ZERO, LeafIndex::size_after),
            limit: number(parameters, "limit", 1, limits::FEED_LIMIT_MAX)?
                .unwrap_or(limits::FEED_LIMIT_DEFAULT),
            wait_seconds: wait(parameters)?,
        })
    }
}

impl TailRequest {
    /// All its parameters.
    pub const PARAMETERS: [&'static str; FILTERS.len() + 5] = names(["since", "limit", "wait"]);

    /// Reads them, as asked at a time.
    ///
    /// # Errors
    /// `bad_parameter`, naming the parameter; `bad_filter` with the place in `q`.
    pub fn parse(parameters: &Parameters, now: Timestamp) -> Result<TailRequest> {
        known(parameters, &TailRequest::PARAMETERS)?;
        Ok(TailRequest {
            tenant_id: tenant_parameter(parameters)?,
            filter: filter(parameters, now)?,
            since: parameters.one("since")?.map(str::to_owned),
            limit: number(parameters, "limit", 1, limits::PAGE_LIMIT_MAX)?
                .unwrap_or(limits::PAGE_LIMIT_DEFAULT),
            wait_seconds: wait(parameters)?,
        })
    }
}

fn wait(parameters: &Parameters) -> Result<usize> {
    Ok(number(parameters, "wait", 0, limits::POLL_WAIT_SECONDS_MAX)?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    #[test]
    fn a_feed_goes_on_behind_the_leaf_that_was_seen_last() {
        let feed = |query: &str| FeedRequest::parse(&Parameters::parse(query).unwrap(), NOW);
        let first = feed("").unwrap();
        assert_eq!((first.seen, first.limit, first.wait_seconds), (TreeSize::ZERO, 200, 0));
        let next = feed("after=0&limit=1000&wait=20&q=action:x.y&outcome=denied").unwrap();
        assert_eq!((next.seen.to_u64(), next.limit, next.wait_seconds), (1, 1000, 20));
        assert_eq!(next.filter.asked().to_string(), "action:x.y outcome:denied");
        for bad in [
            "after=-1",
            "after=x",
            "after=1.5",
            "after=99999999999999999999",
            "wait=21",
            "limit=0",
            "order=asc",
            "cursor=x",
        ] {
            assert!(feed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tail_begins_with_the_newest_or_behind_its_cursor() {
        let tail = |query: &str| TailRequest::parse(&Parameters::parse(query).unwrap(), NOW);
        assert_eq!(tail("").unwrap().since, None);
        assert_eq!(tail("since=abc&wait=5").unwrap().since.as_deref(), Some("abc"));
        assert!(tail("after=1").is_err() && tail("since=").is_err());
    }
}
