//! Tail: what is happening, as it is received, until somebody stops it.

use crate::client::{Client, Problem, Server};
use crate::filters::Filters;
use crate::query::row;
use crate::show::{Clean, Failure, note, print};
use crate::zone::{Zone, zone};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{HashSet, VecDeque};
use std::io::{self, IsTerminal};
use std::thread::sleep;
use std::time::Duration;

/// Shows events as they are received
#[derive(Args, Debug)]
pub(crate) struct Tail {
    #[command(flatten)]
    filters: Filters,
    /// How many of the latest to begin with
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Print whole events, as NDJSON
    #[arg(long)]
    json: bool,
    /// Where times are: `utc`, `local`, `+02:00`, or a zone such as `Europe/Berlin`
    #[arg(long, default_value = "local", value_parser = zone, allow_hyphen_values = true, value_name = "ZONE")]
    tz: Zone,
    /// Print what is there and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Value>,
    next_since: String,
    caught_up: bool,
    complete: bool,
}

/// Longest wait before a server that does not answer is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Seconds that an answer may wait for something new.
const WAIT: &str = "20";
/// Events of an answer while following.
const LIMIT: &str = "200";
/// Ids of events shown that are kept, so that none is shown again after a new beginning.
const SHOWN_MAX: usize = 10_000;

/// Runs `stele tail`.
pub(crate) fn run(args: &Tail) -> Result<(), Failure> {
    args.filters.filter()?;
    let client = args.server.client()?;
    let is_terminal = io::stdout().is_terminal();
    let colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let mut shown = Shown::default();
    let mut since: Option<String> = None;
    let mut pause = Duration::ZERO;
    let mut told_incomplete = false;
    loop {
        let page = match ask(args, &client, since.as_deref()) {
            Ok(page) => page,
            // The cursor is older than a day, or the server has other secrets: begin again, and show nothing twice.
            Err(Refusal { code: Some(code), .. }) if since.is_some() && code == "bad_cursor" => {
                since = None;
                continue;
            }
            Err(Refusal { failure, lasting, .. }) if lasting || args.once => return Err(failure),
            Err(Refusal { failure, .. }) => {
                if pause.is_zero()
                    && let Failure::CouldNot(why) | Failure::Refused(why) = failure
                {
                    note(format!("stele: {why}; trying again"));
                }
                pause = (pause * 2).clamp(Duration::from_secs(1), PAUSE_MAX);
                sleep(pause);
                continue;
            }
        };
        if !pause.is_zero() {
            note("stele: following again");
            pause = Duration::ZERO;
        }
        if !page.complete && !told_incomplete {
            note("stele: more is received than this can show; `GET /v1/feed` has all of it");
            told_incomplete = true;
        }
        for event in &page.events {
            if shown.is_new(event) {
                match args.json {
                    true => print(event)?,
                    false => print(line(event, &args.tz, colours))?,
                }
            }
        }
        since = Some(page.next_since);
        if args.once && page.caught_up {
            return Ok(());
        }
    }
}

/// Why there is no page.
struct Refusal {
    failure: Failure,
    code: Option<String>,
    /// Asking again would not help.
    lasting: bool,
}

fn ask(args: &Tail, client: &Client, since: Option<&str>) -> Result<Page, Refusal> {
    let limit = args.limit.to_string();
    let mut query = args.filters.pairs();
    query.push(("limit", if since.is_some() { LIMIT } else { &limit }));
    query.push(("wait", if args.once || since.is_none() { "0" } else { WAIT }));
    query.extend(since.map(|since| ("since", since)));
    let unreachable = |failure| Refusal { failure, code: None, lasting: false };
    let answer = client.get("/v1/events/tail", &query).map_err(unreachable)?;
    let status = answer.status;
    let code = answer.problem().map(|problem: Problem| problem.code);
    // Of the answers that refuse, only these pass.
    let lasting = (400..500).contains(&status) && status != 429;
    answer.into_json().map_err(|failure| Refusal { failure, code, lasting })
}

/// What was shown lately.
#[derive(Default)]
struct Shown {
    order: VecDeque<String>,
    ids: HashSet<String>,
}

impl Shown {
    /// Whether an event was not shown before; from now on it was.
    fn is_new(&mut self, event: &Value) -> bool {
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        if !self.ids.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > SHOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// An event on one line. Colours are for what is looked for: who failed at what.
fn line(event: &Value, zone: &Zone, colours: bool) -> String {
    let [time, actor, action, resource, outcome, ..] = &row(event, zone)[..] else { return String::new() };
    let clean = |text: &str| Clean(text).to_string();
    let paint = |code: &str, text: &str| match colours && !text.is_empty() {
        true => format!("\u{1b}[{code}m{}\u{1b}[0m", clean(text)),
        false => clean(text),
    };
    let outcome = match outcome.as_str() {
        "success" => String::new(),
        other => paint("31", other),
    };
    let text = event["description"].as_str().or(event["reason"].as_str()).unwrap_or_default();
    let parts =
        [paint("2", time), paint("36", actor), paint("1", action), clean(resource), outcome, clean(text)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_shows_what_failed_and_gives_no_orders() {
        let event = json!({"id": "evt_1", "occurred_at": "2026-05-01T22:30:00.000Z", "action": "a.b",
            "actor": {"id": "u\u{1b}[2J"}, "outcome": "denied", "reason": "no"});
        let utc = Zone::Fixed(0);
        assert_eq!(line(&event, &utc, false), "2026-05-01T22:30:00.000Z  u\u{FFFD}[2J  a.b  denied  no");
        assert!(line(&event, &utc, true).contains("\u{1b}[31mdenied\u{1b}[0m"));
        assert!(!line(&json!({"outcome": "success"}), &utc, true).contains("success"));
    }

    #[test]
    fn nothing_is_shown_twice() {
        let mut shown = Shown::default();
        let event = |n: usize| json!({"id": format!("evt_{n}")});
        assert!(shown.is_new(&event(0)) && !shown.is_new(&event(0)));
        for n in 1..=SHOWN_MAX {
            assert!(shown.is_new(&event(n)));
        }
        assert_eq!((shown.order.len(), shown.ids.len()), (SHOWN_MAX, SHOWN_MAX));
        assert!(!shown.is_new(&event(SHOWN_MAX)));
    }
}
