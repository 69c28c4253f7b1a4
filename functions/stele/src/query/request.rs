//! Listings and exports as asked for in a query string, with every rule of the parameters.

use super::expression::{Expression, Field, Interval, Moment, Network, Test, fold};
use super::filter::Filter;
use super::parse::{action_test, parse};
use crate::error::{Code, Error, FieldProblem, Result};
use crate::event::OUTCOMES;
use crate::id::TenantId;
use crate::limits;
use crate::ports::Order;
use crate::routes::{Parameters, Shown, bad_parameter};
use crate::time::{Day, TimeError, Timestamp};
use std::net::IpAddr;

type TimeResult = std::result::Result<Timestamp, TimeError>;

/// Values a request may give over all filters: each costs work for every record looked at.
const VALUES_MAX: usize = 100;
/// Bytes of one value.
const VALUE_BYTES_MAX: usize = 1024;

pub(super) const FILTERS: [&str; 13] = [
    "q",
    "from",
    "to",
    "start_date",
    "end_date",
    "actor_id",
    "actor_name",
    "action",
    "resource_type",
    "resource_id",
    "outcome",
    "ip",
    "search",
];
pub(super) const TENANT: [&str; 2] = ["tenant_id", "organization_id"];

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// After so many events.
    Offset(usize),
    /// Where an earlier page ended.
    Cursor(String),
}

/// A page of a listing as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// The tenant named.
    pub tenant_id: Option<TenantId>,
    /// Which records.
    pub filter: Filter,
    /// In which order.
    pub order: Order,
    /// How many at the most.
    pub limit: usize,
    /// From where.
    pub start: Start,
}

impl ListRequest {
    /// All its parameters.
    pub const PARAMETERS: [&'static str; 19] = {
        let mut all = [""; 19];
        let mut at = 0;
        while at < FILTERS.len() {
            all[at] = FILTERS[at];
            at += 1;
        }
        [all[13], all[14], all[15], all[16], all[17], all[18]] =
            [TENANT[0], TENANT[1], "order", "limit", "cursor", "offset"];
        all
    };

    /// Reads them, as asked at a time.
    ///
    /// # Errors
    /// `bad_parameter`, naming the parameter; `bad_filter` with the place in `q`.
    pub fn parse(parameters: &Parameters, now: Timestamp) -> Result<ListRequest> {
        known(parameters, &ListRequest::PARAMETERS)?;
        let cursor = parameters.one("cursor")?;
        let offset = number(parameters, "offset", 0, limits::OFFSET_MAX)?;
        let start = match (cursor, offset) {
            (Some(_), Some(_)) => {
                let detail = "`cursor` and `offset` exclude each other: the cursor says where to go on";
                return Err(bad_parameter("offset", "contradiction", detail));
            }
            (Some(cursor), None) => Start::Cursor(cursor.to_owned()),
            (None, offset) => Start::Offset(offset.unwrap_or(0)),
        };
        Ok(ListRequest {
            tenant_id: tenant_parameter(parameters)?,
            filter: filter(parameters, now)?,
            order: order(parameters)?,
            limit: number(parameters, "limit", 1, limits::PAGE_LIMIT_MAX)?
                .unwrap_or(limits::PAGE_LIMIT_DEFAULT),
            start,
        })
    }
}

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ExportFormat {
    /// A plain JSON list.
    #[default]
    Json,
    /// One JSON object per line.
    JsonLines,
    /// RFC 4180.
    Csv,
    /// An evidence bundle: sealed events with what proves them.
    Evidence,
}

/// An export as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRequest {
    /// The tenant named.
    pub tenant_id: Option<TenantId>,
    /// Which records.
    pub filter: Filter,
    /// In which order.
    pub order: Order,
    /// How they are written.
    pub format: ExportFormat,
    /// Of a bundle: also the events in between, so that it can be seen that none was left out.
    pub covering: bool,
}

impl ExportRequest {
    /// All its parameters.
    pub const PARAMETERS: [&'static str; 18] = {
        let mut all = [""; 18];
        let mut at = 0;
        while at < 16 {
            all[at] = ListRequest::PARAMETERS[at];
            at += 1;
        }
        all[16] = "format";
        all[17] = "covering";
        all
    };

    /// Reads them, as asked at a time.
    ///
    /// # Errors
    /// `bad_parameter`, naming the parameter; `bad_filter` with the place in `q`.
    pub fn parse(parameters: &Parameters, now: Timestamp) -> Result<ExportRequest> {
        known(parameters, &ExportRequest::PARAMETERS)?;
        let format = match parameters.one("format")? {
            None | Some("json") => ExportFormat::Json,
            Some("jsonl") => ExportFormat::JsonLines,
            Some("csv") => ExportFormat::Csv,
            Some("evidence") => ExportFormat::Evidence,
            Some(other) => return Err(not_one_of("format", other, &["csv", "jsonl", "json", "evidence"])),
        };
        let covering = match parameters.one("covering")? {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(not_one_of("covering", other, &["true", "false"])),
        };
        if covering && format != ExportFormat::Evidence {
            let detail = "`covering` is for `format=evidence`";
            return Err(bad_parameter("covering", "contradiction", detail));
        }
        Ok(ExportRequest {
            tenant_id: tenant_parameter(parameters)?,
            filter: filter(parameters, now)?,
            order: order(parameters)?,
            format,
            covering,
        })
    }
}

/// The tenant a request names, under either name.
///
/// # Errors
/// `bad_parameter` if it is not a tenant's name, or if the two names contradict each other.
pub fn tenant_parameter(parameters: &Parameters) -> Result<Option<TenantId>> {
    let read = |name: &'static str| match parameters.one(name)? {
        None => Ok(None),
        Some(text) => TenantId::parse(text).map(Some).ok_or_else(|| {
            bad_parameter(name, "bad_value", format!("`{}` in `{name}` cannot be a tenant's id", Shown(text)))
        }),
    };
    match (read(TENANT[0])?, read(TENANT[1])?) {
        (Some(a), Some(b)) if a != b => {
            let detail = "`tenant_id` and `organization_id` are one parameter and contradict each other";
            Err(bad_parameter(TENANT[1], "contradiction", detail))
        }
        (a, b) => Ok(a.or(b)),
    }
}

pub(super) fn known(parameters: &Parameters, names: &[&str]) -> Result<()> {
    parameters.only(names)?;
    if parameters.pairs().len() > VALUES_MAX {
        let detail = format!("there are more than {VALUES_MAX} parameters");
        return Err(Error::new(Code::BadParameter, detail));
    }
    // `q` has a limit of its own.
    // A filter and the cursor of a tail have bounds of their own.
    let too_long = |name: &str, value: &str| !["q", "since"].contains(&name) && value.len() > VALUE_BYTES_MAX;
    match parameters.pairs().iter().find(|(name, value)| value.is_empty() || too_long(name, value)) {
        None => Ok(()),
        Some((name, value)) if value.is_empty() => Err(bad_parameter(
            name,
            "empty",
            format!("`{name}` is empty: leave it out, or say what to look for"),
        )),
        Some((name, _)) => {
            Err(bad_parameter(name, "too_long", format!("`{name}` is longer than {VALUE_BYTES_MAX} bytes")))
        }
    }
}

/// All filters of a query string as one, as asked at a time.
///
/// # Errors
/// `bad_parameter`, naming the parameter; `bad_filter` with the place in `q`.
pub fn filter(parameters: &Parameters, now: Timestamp) -> Result<Filter> {
    let any = |name: &'static str, field: Field, test: &dyn Fn(&str) -> Result<Test>| {
        let tests: Vec<Test> = parameters.all(name).map(test).collect::<Result<_>>()?;
        Ok(match tests.is_empty() {
            true => Expression::EVERYTHING,
            false => Expression::any(tests.into_iter().map(|test| Expression::is(field.clone(), test))),
        })
    };
    let exact = |text: &str| Ok(Test::Equals(text.to_owned()));
    let part = |text: &str| Ok(Test::Contains(fold(text)));
    let outcome = |text: &str| match OUTCOMES.contains(&text) {
        true => exact(text),
        false => Err(not_one_of("outcome", text, &OUTCOMES)),
    };
    let address = |text: &str| match text.parse::<IpAddr>() {
        Ok(address) => Ok(Test::Network(Network::of(address))),
        Err(_) => {
            let detail = format!("`{}` in `ip` is not an IP address", Shown(text));
            Err(bad_parameter("ip", "bad_value", detail))
        }
    };
    let from = either(parameters, "from", "start_date", from_time, start_date)?;
    let to = either(parameters, "to", "end_date", from_time, end_date)?;
    let asked = match parameters.one("q")? {
        Some(text) => parse(text)?,
        None => Expression::EVERYTHING,
    };
    let all = [
        any("outcome", Field::Outcome, &outcome)?,
        any("ip", Field::Ip, &address)?,
        between(from, to),
        any("actor_id", Field::ActorId, &exact)?,
        any("actor_name", Field::ActorName, &part)?,
        any("action", Field::Action, &action)?,
        any("resource_type", Field::ResourceType, &exact)?,
        any("resource_id", Field::ResourceId, &exact)?,
        any("search", Field::Text, &part)?,
        asked,
    ];
    Ok(Filter::new(Expression::all(all), now))
}

/// Times from one on up to another, which is excluded.
fn between(from: Option<Timestamp>, to: Option<Timestamp>) -> Expression {
    let within = |from: Option<Timestamp>, until: Option<Timestamp>| {
        let interval = Interval { from: from.map(Moment::At), until: until.map(Moment::At) };
        Expression::is(Field::Time, Test::Within(interval))
    };
    match (from, to) {
        (None, None) => Expression::EVERYTHING,
        (from, None) => within(from, None),
        // Nothing is before 1970.
        (_, Some(to)) if to == Timestamp::default() => within(Some(Timestamp::from_ms(1)), Some(to)),
        (Some(from), Some(to)) if from >= to => {
            Expression::all([within(Some(from), None), within(None, Some(to.minus_ms(1)))])
        }
        (from, Some(to)) => within(from, Some(to.minus_ms(1))),
    }
}

fn action(text: &str) -> Result<Test> {
    let (whole, prefix) = match text.strip_suffix(".*") {
        Some(prefix) => (prefix, true),
        None => (text, false),
    };
    if whole.contains('*') || whole.is_empty() {
        let detail =
            format!("`{}` in `action`: a star can only end a prefix, as in `invoice.*`", Shown(text));
        return Err(bad_parameter("action", "bad_value", detail));
    }
    Ok(if prefix { Test::Prefix(format!("{whole}.")) } else { action_test(whole) })
}

fn order(parameters: &Parameters) -> Result<Order> {
    match parameters.one("order")? {
        None | Some("desc") => Ok(Order::Descending),
        Some("asc") => Ok(Order::Ascending),
        Some(other) => Err(not_one_of("order", other, &["desc", "asc"])),
    }
}

/// One of two names for the same bound, each with its own reading.
fn either(
    parameters: &Parameters,
    name: &'static str,
    other: &'static str,
    read: fn(&str) -> TimeResult,
    read_other: fn(&str) -> TimeResult,
) -> Result<Option<Timestamp>> {
    let parse = |name: &'static str, text: &str, read: fn(&str) -> TimeResult| {
        read(text).map_err(|why| {
            let hint = if text.contains(' ') { "; a `+` in a query string is written `%2B`" } else { "" };
            let form = "send RFC 3339 with an offset, or `YYYY-MM-DD`";
            bad_parameter(name, "bad_value", format!("`{}` in `{name}` is {why}: {form}{hint}", Shown(text)))
        })
    };
    match (parameters.one(name)?, parameters.one(other)?) {
        (Some(_), Some(_)) => {
            let detail = format!("`{name}` and `{other}` are the same bound: send one of them");
            Err(bad_parameter(other, "contradiction", detail))
        }
        (Some(text), None) => parse(name, text, read).map(Some),
        (None, Some(text)) => parse(other, text, read_other).map(Some),
        (None, None) => Ok(None),
    }
}

fn from_time(text: &str) -> TimeResult {
    if text.len() == 10 { Day::parse(text).map(Day::start) } else { Timestamp::parse(text) }
}

/// As [`from_time`]; a time without an offset is UTC, since that is what clients of this parameter send.
fn start_date(text: &str) -> TimeResult {
    match from_time(text) {
        Err(TimeError::NoOffset) => from_time(&format!("{text}Z")),
        read => read,
    }
}

/// The first moment after what is included: of a day, the next day; of a time, the next millisecond.
fn end_date(text: &str) -> TimeResult {
    Ok(if text.len() == 10 { Day::parse(text)?.next().start() } else { start_date(text)?.plus_ms(1) })
}

pub(super) fn number(
    parameters: &Parameters,
    name: &'static str,
    min: usize,
    max: usize,
) -> Result<Option<usize>> {
    let Some(text) = parameters.one(name)? else { return Ok(None) };
    // Digits only: `parse` alone would take a plus sign.
    let digits = text.len() <= 10 && text.bytes().all(|c| c.is_ascii_digit());
    match text.parse::<usize>() {
        Ok(n) if digits && (min..=max).contains(&n) => Ok(Some(n)),
        _ => {
            let detail = format!("`{}` in `{name}` is not a number from {min} to {max}", Shown(text));
            Err(bad_parameter(name, "bad_value", detail))
        }
    }
}

pub(super) fn not_one_of(name: &str, value: &str, known: &[&str]) -> Error {
    let lower = value.to_lowercase();
    let near = known
        .iter()
        .find(|k| k.get(..3).is_some_and(|begun| lower.starts_with(begun)) || k.starts_with(&lower));
    let choices = known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    let detail = format!("`{}` in `{name}` is not one of {choices}", Shown(value));
    Error::new(Code::BadParameter, detail.clone()).with_problems(vec![FieldProblem {
        pointer: name.to_owned(),
        code: "bad_value",
        detail,
        suggestion: near.map(|k| (*k).to_owned()),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    #[test]
    fn a_value_that_is_none_is_told_with_those_that_are() {
        let known = ["action", "ip", "ua"];
        let told = |value: &str| not_one_of("group_by", value, &known).problems()[0].suggestion.clone();
        assert_eq!(told("country"), None);
        assert_eq!((told("actor"), told("i")), (Some("action".to_owned()), Some("ip".to_owned())));
    }

    fn list(query: &str) -> Result<ListRequest> {
        ListRequest::parse(&Parameters::parse(query)?, NOW)
    }

    #[test]
    fn a_request_without_parameters_is_the_first_page_newest_first() {
        let request = list("").unwrap();
        assert_eq!((request.limit, request.order), (50, Order::Descending));
        assert_eq!((request.start, request.filter), (Start::Offset(0), Filter::default()));
    }

    #[test]
    fn every_parameter_is_known_to_its_reader() {
        assert!(
            ListRequest::PARAMETERS.iter().chain(&ExportRequest::PARAMETERS).all(|name| !name.is_empty())
        );
        for name in ListRequest::PARAMETERS {
            let refused = list(&format!("{name}=")).unwrap_err();
            assert_eq!((refused.code(), refused.problems()[0].code), (Code::BadParameter, "empty"), "{name}");
        }
    }

    #[test]
    fn bounds_are_days_or_times_and_an_end_date_is_included() {
        let bounds = |query: &str| {
            let filter = list(query).unwrap().filter;
            (filter.from().map(|t| t.to_string()), filter.to().map(|t| t.to_string()))
        };
        let day = |text: &str| Some(format!("{text}T00:00:00.000Z"));
        assert_eq!(bounds("from=2026-05-01&to=2026-05-02"), (day("2026-05-01"), day("2026-05-02")));
        assert_eq!(
            bounds("start_date=2026-05-01&end_date=2026-05-02"),
            (day("2026-05-01"), day("2026-05-03"))
        );
        let at = Some("2026-05-01T10:00:00.001Z".to_owned());
        assert_eq!(bounds("end_date=2026-05-01T10:00:00"), (None, at.clone()));
        assert_eq!(bounds("end_date=2026-05-01T12:00:00%2B02:00"), (None, at));
        assert!(list("from=2026-05-01T10:00:00").unwrap_err().detail().contains("without an offset"));
        assert!(list("from=2026-05-01T10:00:00+02:00").unwrap_err().detail().contains("%2B"));
    }

    #[test]
    fn what_contradicts_itself_or_is_out_of_bounds_names_the_parameter() {
        for (query, name) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=%2B5", "limit"),
            ("limit=5&limit=5", "limit"),
            ("offset=10001", "offset"),
            ("cursor=x&offset=0", "offset"),
            ("order=up", "order"),
            ("outcome=fail", "outcome"),
            ("ip=203.0.113.0/24", "ip"),
            ("action=*", "action"),
            ("action=in*ce.x", "action"),
            ("action=.*", "action"),
            ("from=yesterday", "from"),
            ("from=2026-05-01&start_date=2026-05-01", "start_date"),
            ("tenant_id=a&organization_id=b", "organization_id"),
            ("tenant_id=_a", "tenant_id"),
            ("actor=u1", "actor"),
        ] {
            let refused = list(query).unwrap_err();
            assert_eq!(refused.code(), Code::BadParameter, "{query}");
            assert_eq!(refused.problems()[0].pointer, name, "{query}");
        }
        let refused = list("outcome=fail").unwrap_err();
        assert_eq!(refused.problems()[0].suggestion.as_deref(), Some("failure"));
        assert!(list("tenant_id=a&organization_id=a").is_ok());
    }

    #[test]
    fn an_export_has_a_format_and_no_pages() {
        let export = |query: &str| ExportRequest::parse(&Parameters::parse(query).unwrap(), NOW);
        assert_eq!(export("").unwrap().format, ExportFormat::Json);
        assert_eq!(export("format=csv&actor_id=u").unwrap().format, ExportFormat::Csv);
        for bad in ["format=xml", "limit=5", "cursor=x", "offset=1"] {
            assert_eq!(export(bad).unwrap_err().code(), Code::BadParameter, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read_or_refused(name in 0..ListRequest::PARAMETERS.len(), value in "\\PC{0,30}") {
            let pair = (ListRequest::PARAMETERS[name].to_owned(), value);
            let _ = ListRequest::parse(&Parameters::from_pairs(vec![pair]), NOW);
        }
    }
}
