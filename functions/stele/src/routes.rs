//! The HTTP surface: which method and path is which endpoint, what scope it needs, which function serves it;
//! and how paths and query strings are read. Router, handlers and OpenAPI all follow this one table.
//!
//! It answers nothing: handlers do.

use crate::access::Scope;
use crate::error::{Code, Error, FieldProblem, Result};
use http::Method;
use std::fmt;

/// What a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Send one event.
    SendEvent,
    /// Send many.
    SendBatch,
    /// Check events without storing them.
    Validate,
    /// Search.
    ListEvents,
    /// Search, as a file.
    Export,
    /// How many events when.
    Stats,
    /// How often which value of a field comes.
    Facet,
    /// What was just received.
    Tail,
    /// Ask for an export.
    CreateExport,
    /// List exports.
    Exports,
    /// One export, how far it is, and the way to its file.
    ExportJob,
    /// An export's file.
    ExportFile,
    /// One event by id.
    Event,
    /// Sealed events in leaf order.
    Feed,
    /// What becomes of a filter.
    ParseFilter,
    /// What was acknowledged with 202 and refused later.
    Refused,
    /// Counts.
    Usage,
    /// The proof that an event is in the log.
    EventProof,
    /// The signed checkpoint.
    Checkpoint,
    /// The checkpoints that were published.
    Checkpoints,
    /// The statements that nothing came after a checkpoint.
    Statements,
    /// The proof that one tree grew out of another.
    Consistency,
    /// A tile of the tree, or of its leaves.
    Tile,
    /// The keys checkpoints are signed with.
    LogKeys,
    /// How long what is kept.
    Retention,
    /// Change that.
    SetRetention,
    /// Place a legal hold.
    PlaceHold,
    /// List legal holds.
    Holds,
    /// One legal hold.
    Hold,
    /// Release a legal hold.
    ReleaseHold,
    /// Make an API key.
    CreateApiKey,
    /// List API keys.
    ApiKeys,
    /// Revoke an API key.
    RevokeApiKey,
    /// Whether the service runs.
    Health,
    /// This surface, described.
    OpenApi,
}

/// The function that serves an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// Accepts events.
    Ingest,
    /// Answers everything else.
    Query,
}

/// One line of the table.
#[derive(Debug)]
pub struct Route {
    /// What it leads to.
    pub endpoint: Endpoint,
    /// Its method.
    pub method: Method,
    /// Its path, with parameters in braces.
    pub template: &'static str,
    /// The scope it needs; `None` is open to all.
    pub scope: Option<Scope>,
    /// Who serves it.
    pub function: Function,
    /// What it is for, in one line.
    pub summary: &'static str,
}

const fn route(
    endpoint: Endpoint,
    method: Method,
    template: &'static str,
    scope: Option<Scope>,
    function: Function,
    summary: &'static str,
) -> Route {
    Route { endpoint, method, template, scope, function, summary }
}

/// All routes. Of two that fit a path, the earlier one counts: fixed segments stand before parameters.
pub static ROUTES: &[Route] = {
    use Endpoint::*;
    use Function::*;
    use Scope::*;
    &[
        route(SendEvent, Method::POST, "/v1/events", Some(EventsWrite), Ingest, "Send one event"),
        route(
            SendBatch,
            Method::POST,
            "/v1/events/batch",
            Some(EventsWrite),
            Ingest,
            "Send up to 500 events",
        ),
        route(
            Validate,
            Method::POST,
            "/v1/events/validate",
            Some(EventsWrite),
            Ingest,
            "Check an event without storing it",
        ),
        route(ListEvents, Method::GET, "/v1/events", Some(EventsRead), Query, "Search events"),
        route(
            Export,
            Method::GET,
            "/v1/events/export",
            Some(EventsRead),
            Query,
            "Search events, as CSV, JSON Lines or a JSON list",
        ),
        route(
            Stats,
            Method::GET,
            "/v1/events/stats",
            Some(EventsRead),
            Query,
            "How many events in each hour, day or month",
        ),
        route(
            Facet,
            Method::GET,
            "/v1/facets/{field}",
            Some(EventsRead),
            Query,
            "The values of a field, and how often each comes",
        ),
        route(
            Tail,
            Method::GET,
            "/v1/events/tail",
            Some(EventsRead),
            Query,
            "Events as they are received, seconds old",
        ),
        route(
            CreateExport,
            Method::POST,
            "/v1/exports",
            Some(ExportsWrite),
            Query,
            "Ask for an export of any size",
        ),
        route(Exports, Method::GET, "/v1/exports", Some(ExportsWrite), Query, "List exports, latest first"),
        route(
            ExportJob,
            Method::GET,
            "/v1/exports/{id}",
            Some(ExportsWrite),
            Query,
            "One export, how far it is, and a link to its file",
        ),
        route(
            ExportFile,
            Method::GET,
            "/v1/exports/{id}/file",
            Some(ExportsWrite),
            Query,
            "The file of an export, or a redirection to it",
        ),
        route(Event, Method::GET, "/v1/events/{id}", Some(EventsRead), Query, "One event with its integrity"),
        route(
            EventProof,
            Method::GET,
            "/v1/events/{id}/proof",
            Some(ProofsRead),
            Query,
            "The proof that an event is in the log",
        ),
        route(
            Feed,
            Method::GET,
            "/v1/feed",
            Some(EventsRead),
            Query,
            "Sealed events in leaf order, from any leaf on; nothing is ever skipped",
        ),
        route(
            ParseFilter,
            Method::POST,
            "/v1/filter:parse",
            Some(EventsRead),
            Query,
            "What a filter says, how it is answered, and its SQL; or where it is wrong",
        ),
        route(
            Refused,
            Method::GET,
            "/v1/refused",
            Some(EventsRead),
            Query,
            "What was acknowledged with 202 and had to be refused later",
        ),
        route(
            Usage,
            Method::GET,
            "/v1/usage",
            Some(EventsRead),
            Query,
            "Counts of this month, and retention",
        ),
        route(
            Checkpoint,
            Method::GET,
            "/v1/log/checkpoint",
            Some(ProofsRead),
            Query,
            "The log's latest signed checkpoint, or one that was published",
        ),
        route(
            Checkpoints,
            Method::GET,
            "/v1/log/checkpoints",
            Some(ProofsRead),
            Query,
            "The checkpoints that were published, smallest first",
        ),
        route(
            Statements,
            Method::GET,
            "/v1/log/statements",
            Some(ProofsRead),
            Query,
            "Dated statements that nothing came after a checkpoint, earliest first",
        ),
        route(
            Consistency,
            Method::GET,
            "/v1/log/consistency",
            Some(ProofsRead),
            Query,
            "The proof that the log of one size grew out of that of a smaller one",
        ),
        route(
            Tile,
            Method::GET,
            "/v1/log/tile/{tile+}",
            Some(ProofsRead),
            Query,
            "A tile of hashes or entries, as c2sp.org/tlog-tiles has them",
        ),
        route(
            LogKeys,
            Method::GET,
            "/v1/log/keys",
            Some(ProofsRead),
            Query,
            "The public keys of the log, and what each signs",
        ),
        route(
            Retention,
            Method::GET,
            "/v1/retention",
            Some(EventsRead),
            Query,
            "How long what is kept, and what is locked until when",
        ),
        route(
            SetRetention,
            Method::PUT,
            "/v1/retention",
            Some(RetentionWrite),
            Query,
            "Change how long what is kept, or preview what that does",
        ),
        route(
            PlaceHold,
            Method::POST,
            "/v1/legal-holds",
            Some(RetentionWrite),
            Query,
            "Place a legal hold on a range of time",
        ),
        route(Holds, Method::GET, "/v1/legal-holds", Some(RetentionWrite), Query, "List legal holds"),
        route(
            Hold,
            Method::GET,
            "/v1/legal-holds/{id}",
            Some(RetentionWrite),
            Query,
            "One legal hold and how far it is carried",
        ),
        route(
            ReleaseHold,
            Method::DELETE,
            "/v1/legal-holds/{id}",
            Some(RetentionWrite),
            Query,
            "Release a legal hold for good",
        ),
        route(CreateApiKey, Method::POST, "/v1/api-keys", Some(KeysWrite), Query, "Make an API key"),
        route(ApiKeys, Method::GET, "/v1/api-keys", Some(KeysWrite), Query, "List API keys"),
        route(
            RevokeApiKey,
            Method::DELETE,
            "/v1/api-keys/{key_id}",
            Some(KeysWrite),
            Query,
            "Revoke an API key for good",
        ),
        route(Health, Method::GET, "/v1/health", None, Query, "Whether the service runs"),
        route(OpenApi, Method::GET, "/v1/openapi.json", None, Query, "This description"),
    ]
};

impl Endpoint {
    /// Its line of the table.
    pub fn route(self) -> &'static Route {
        ROUTES
            .iter()
            .find(|r| r.endpoint == self)
            .expect("every endpoint has a line; a test holds them together")
    }
}

/// The parameters of a path, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathParameters(Vec<(&'static str, String)>);

impl PathParameters {
    /// One of them; empty for a name the template does not have.
    pub fn value(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| v)
    }
}

/// Finds the route of a request: 404 for a path we do not have, 405 for a method it does not have (then
/// [`allowed`] says which it has).
pub fn match_route(method: &Method, path: &str) -> Result<(&'static Route, PathParameters)> {
    let mut path_known = false;
    for route in ROUTES {
        if let Some(parameters) = match_template(route.template, path) {
            if route.method == *method {
                return Ok((route, parameters));
            }
            path_known = true;
        }
    }
    let (method, shown) = (Shown(method.as_str()), Shown(path));
    Err(if path_known {
        let allowed = allowed(path);
        Error::new(Code::MethodNotAllowed, format!("`{shown}` has no `{method}`; it has `{allowed}`"))
    } else {
        Error::new(Code::NotFound, format!("there is no `{shown}`"))
    })
}

/// The methods a path has, as in an `Allow` header; empty for a path we do not have.
pub fn allowed(path: &str) -> String {
    let fitting = ROUTES.iter().filter(|r| match_template(r.template, path).is_some());
    fitting.map(|r| r.method.as_str()).collect::<Vec<_>>().join(", ")
}

fn match_template(template: &'static str, path: &str) -> Option<PathParameters> {
    let mut parameters = Vec::new();
    let mut segments = path.split('/');
    for part in template.split('/') {
        let segment = segments.next()?;
        match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            // The last one, and all that follows it.
            Some(name) if name.ends_with('+') => {
                let rest: Vec<&str> = [segment].into_iter().chain(segments).collect();
                parameters.push((name.trim_end_matches('+'), percent_decode(&rest.join("/"), false)?));
                return Some(PathParameters(parameters));
            }
            Some(name) if !segment.is_empty() => parameters.push((name, percent_decode(segment, false)?)),
            Some(_) => return None,
            None if part == segment => {}
            None => return None,
        }
    }
    segments.next().is_none().then_some(PathParameters(parameters))
}

/// Names and values of a query string, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query string: `%xx` must be well formed and make UTF-8, `+` is a space as forms send it.
    pub fn parse(query: &str) -> Result<Parameters> {
        let parts = query.split('&').filter(|part| !part.is_empty());
        let pairs = parts.map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match (percent_decode(name, true), percent_decode(value, true)) {
                (Some(name), Some(value)) => Ok((name, value)),
                _ => Err(Error::new(
                    Code::BadParameter,
                    format!("`{}` in the query string is not percent-encoded UTF-8", Shown(part)),
                )),
            }
        });
        pairs.collect::<Result<_>>().map(Parameters)
    }

    /// From decoded pairs.
    pub fn from_pairs(pairs: Vec<(String, String)>) -> Parameters {
        Parameters(pairs)
    }

    /// All of them.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses any other name than these: a filter that is silently ignored gives a wrong answer.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(unknown_parameter(name, known)),
        }
    }

    /// The values of a name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The one value of a name; several are refused.
    pub fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(bad_parameter(name, "repeated", format!("`{name}` can be given only once"))),
            (Some(""), None) => Err(bad_parameter(name, "empty", format!("`{name}` is empty"))),
            (value, None) => Ok(value),
        }
    }
}

/// A 400 about one parameter.
pub fn bad_parameter(name: &str, code: &'static str, detail: impl Into<String>) -> Error {
    let detail = detail.into();
    let place = FieldProblem { pointer: name.to_owned(), code, detail: detail.clone(), suggestion: None };
    Error::new(Code::BadParameter, detail).with_problems(vec![place])
}

fn unknown_parameter(name: &str, known: &[&str]) -> Error {
    let shown = Shown(name).to_string();
    let nearest = known.iter().map(|k| (distance(name, k), *k)).min().filter(|(d, k)| *d <= k.len() / 2);
    let detail = match nearest {
        Some((_, near)) => format!("there is no parameter `{shown}`; did you mean `{near}`?"),
        None => format!("there is no parameter `{shown}`; there are {}", listed(known)),
    };
    Error::new(Code::BadParameter, detail.clone()).with_problems(vec![FieldProblem {
        pointer: shown,
        code: "unknown_parameter",
        detail,
        suggestion: nearest.map(|(_, near)| near.to_owned()),
    }])
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "none here".to_owned();
    }
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// Levenshtein's distance, over the first bytes: names are short.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (&a.as_bytes()[..a.len().min(40)], b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Decodes `%xx`; `None` if one is malformed or the bytes are not UTF-8.
fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    let hex = |c: Option<u8>| c.and_then(|c| (c as char).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => (hex(bytes.next())? * 16 + hex(bytes.next())?) as u8,
            b'+' if plus_is_space => b' ',
            b => b,
        });
    }
    String::from_utf8(out).ok()
}

/// A text of the caller's as a message shows it: cut, and without control characters.
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHARS_MAX: usize = 100;
        for c in self.0.chars().take(CHARS_MAX) {
            fmt::Write::write_char(f, if c.is_control() || c == '`' { '\u{FFFD}' } else { c })?;
        }
        if self.0.chars().nth(CHARS_MAX).is_some() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(method: Method, path: &str) -> std::result::Result<Endpoint, Code> {
        match_route(&method, path).map(|(route, _)| route.endpoint).map_err(|e| e.code())
    }

    #[test]
    fn fixed_segments_win_over_parameters() {
        assert_eq!(endpoint(Method::GET, "/v1/events/export"), Ok(Endpoint::Export));
        assert_eq!(endpoint(Method::GET, "/v1/events/evt_1"), Ok(Endpoint::Event));
        let (_, parameters) = match_route(&Method::GET, "/v1/events/a%20b").unwrap();
        assert_eq!(parameters.value("id"), "a b");
        assert_eq!(parameters.value("other"), "");
    }

    #[test]
    fn unknown_paths_are_404_and_unknown_methods_405_with_the_known_ones() {
        let unknown =
            ["/", "", "/v1", "/v2/events", "/v1/events/", "/v1/events/a/b", "/v1/events/%zz", "/v1//events"];
        for path in unknown {
            assert_eq!(endpoint(Method::GET, path), Err(Code::NotFound), "{path}");
        }
        assert_eq!(endpoint(Method::PUT, "/v1/events"), Err(Code::MethodNotAllowed));
        assert_eq!(allowed("/v1/events"), "POST, GET");
        assert_eq!(allowed("/nowhere"), "");
    }

    #[test]
    fn every_route_is_reached_by_its_own_template_and_only_once() {
        for (at, route) in ROUTES.iter().enumerate() {
            let path = route.template.replace(['{', '}', '+'], "");
            assert_eq!(endpoint(route.method.clone(), &path), Ok(route.endpoint));
            assert_eq!(route.endpoint.route().template, route.template);
            assert!(ROUTES[..at].iter().all(|r| r.endpoint != route.endpoint));
            assert_eq!(route.scope.is_none(), matches!(route.endpoint, Endpoint::Health | Endpoint::OpenApi));
        }
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_the_nearest_known_one() {
        let known = ["actor_id", "action", "limit"];
        let refused = Parameters::parse("actorid=1").unwrap().only(&known).unwrap_err();
        assert_eq!(refused.problems()[0].suggestion.as_deref(), Some("actor_id"));
        let refused = Parameters::parse("completely_else=1").unwrap().only(&known).unwrap_err();
        assert!(refused.detail().contains("`actor_id`, `action`, `limit`"), "{refused}");
        assert!(Parameters::parse("limit=1&limit=2").unwrap().only(&known).is_ok());
        assert!(Parameters::parse("limit=1&limit=2").unwrap().one("limit").is_err());
        assert!(Parameters::parse("limit=").unwrap().one("limit").is_err());
    }

    #[test]
    fn query_strings_are_decoded_strictly_and_in_order() {
        let read = Parameters::parse("a=1&b=x+y%2B%C3%A4&a=2&&c").unwrap();
        assert_eq!(read.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(read.one("b").unwrap(), Some("x y+ä"));
        assert_eq!(read.all("c").collect::<Vec<_>>(), [""]);
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff", "%=1", "a=%+1"] {
            assert_eq!(Parameters::parse(bad).unwrap_err().code(), Code::BadParameter, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_request_line_has_a_route_or_an_error(path in "(/v1)?(/events)?\\PC{0,40}", query in "\\PC{0,60}") {
            let _ = match_route(&Method::GET, &path);
            if let Ok(read) = Parameters::parse(&query) {
                let _ = read.only(&["from", "to"]);
            }
        }

        #[test]
        fn encoded_values_come_back(value in "\\PC{0,40}") {
            let encoded: String = value.bytes().map(|b| format!("%{b:02X}")).collect();
            let read = Parameters::parse(&format!("a={encoded}")).unwrap();
            prop_assert_eq!(read.all("a").collect::<Vec<_>>(), [value.as_str()]);
        }
    }
}
