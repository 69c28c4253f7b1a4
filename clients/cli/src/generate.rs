//! Generate: events that look like those of a SaaS, for load, demos and tests.
//!
//! The same arguments give the same bytes on every machine: chance comes from a seed, shares of tenants from
//! whole numbers, and time from `--until`. Names and addresses are made up or reserved for documentation.

use crate::show::Failure;
use clap::Args;
use std::fmt::Display;
use std::io::{self, Write};
use stele::id::EventId;
use stele::ports::Clock;
use stele::time::{Day, Timestamp};
use stele_adapters::clock::SystemClock;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Prints made-up events as NDJSON: many tenants, few of them large
#[derive(Args, Clone, Debug)]
pub(crate) struct Generate {
    /// How many events
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    events: u64,
    /// How many tenants, the n-th of which has an n-th of the first one's events
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tenants: u32,
    /// The same seed and --until give the same events
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Over how many days they happened, evenly
    #[arg(long, default_value_t = 7, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=3_653))]
    days: u32,
    /// When the last one happened [default: the last midnight, UTC]
    #[arg(long, value_name = "TIME", value_parser = until)]
    until: Option<Timestamp>,
    /// Give every event an id (a UUIDv7), as our SDKs do
    #[arg(long)]
    ids: bool,
}

fn until(text: &str) -> Result<Timestamp, String> {
    let day = Day::parse(text).map(Day::start);
    day.or_else(|_| Timestamp::parse(text))
        .map_err(|_| "give a day or a time with an offset, as in `2026-05-01T14:32:00Z`".to_owned())
}

/// Runs it.
pub(crate) fn run(args: &Generate) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + 4096);
    let until = args.until.unwrap_or_else(|| SystemClock.now().day().start());
    let mut events = Events::new(args, until);
    while events.write_next(&mut chunk) {
        if chunk.len() >= CHUNK_BYTES {
            out.write_all(&chunk)?;
            chunk.clear();
        }
    }
    out.write_all(&chunk)?;
    Ok(out.flush()?)
}

/// SplitMix64: a counter, mixed. Good enough to look like chance, and the same everywhere.
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0; the bias is below n / 2^64.
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// Below `n`, small numbers more often.
    fn low(&mut self, n: u64) -> u64 {
        self.below(n).min(self.below(n)).min(self.below(n))
    }

    fn one_of<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[self.below(list.len() as u64) as usize]
    }

    fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

/// What happens to a kind of thing: type, prefix of its ids, what it is called, verbs, fields that change.
struct Things {
    kind: &'static str,
    prefix: &'static str,
    called: &'static str,
    verbs: &'static [&'static str],
    /// A field and values it can have, as JSON.
    fields: &'static [(&'static str, &'static [&'static str])],
}

const THINGS: &[Things] = &[
    Things {
        kind: "invoice",
        prefix: "inv",
        called: "Invoice #",
        verbs: &["created", "updated", "sent", "voided", "paid"],
        fields: &[
            ("status", &[r#""draft""#, r#""open""#, r#""paid""#, r#""void""#]),
            ("amount_cents", &["129900", "4900", "89000", "1250000"]),
            ("due_on", &[r#""2026-06-30""#, r#""2026-07-31""#]),
        ],
    },
    Things {
        kind: "document",
        prefix: "doc",
        called: "Document ",
        verbs: &["created", "updated", "shared", "downloaded", "deleted"],
        fields: &[
            ("title", &[r#""Roadmap""#, r#""Roadmap (final)""#, r#""Quarterly review""#]),
            ("visibility", &[r#""private""#, r#""team""#, r#""public""#]),
        ],
    },
    Things {
        kind: "user",
        prefix: "usr",
        called: "User ",
        verbs: &["invited", "updated", "suspended", "role_changed", "mfa_enabled"],
        fields: &[
            ("role", &[r#""member""#, r#""admin""#, r#""owner""#, r#""viewer""#]),
            ("mfa", &["true", "false"]),
            ("groups", &[r#"["staff"]"#, r#"["staff","finance"]"#, r#"["staff","on-call"]"#]),
        ],
    },
    Things {
        kind: "project",
        prefix: "prj",
        called: "Project ",
        verbs: &["created", "updated", "archived", "transferred"],
        fields: &[
            ("name", &[r#""Apollo""#, r#""Borealis""#, r#""Café Zürich""#]),
            ("archived", &["true", "false"]),
        ],
    },
    Things {
        kind: "api_key",
        prefix: "key",
        called: "Key ",
        verbs: &["created", "rotated", "revoked"],
        fields: &[
            ("scopes", &[r#"["read"]"#, r#"["read","write"]"#]),
            ("expires_on", &["null", r#""2027-01-01""#]),
        ],
    },
    Things {
        kind: "session",
        prefix: "ses",
        called: "Session ",
        verbs: &["created", "ended", "refreshed"],
        fields: &[],
    },
];

const FIRST: &[&str] = &[
    "Alice", "Bruno", "Chiara", "Dmitri", "Elif", "Farid", "Grace", "Hiro", "Inés", "Jonas", "Kofi", "Léa",
    "Mina", "Noor", "Olga", "Priya",
];
const LAST: &[&str] = &[
    "Adeyemi",
    "Bergström",
    "Costa",
    "Dubois",
    "Eriksen",
    "Fischer",
    "García",
    "Hansen",
    "Ivanova",
    "Johnson",
    "Kim",
    "Lopez",
    "Müller",
    "Nakamura",
    "Okafor",
    "Petrov",
];
const AGENTS: &[&str] = &[
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:125.0) Gecko/20100101 Firefox/125.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1",
    "acme-terraform/1.8.2 (+https://registry.example.com; linux_amd64)",
    "python-requests/2.32.3",
];
const PLANS: &[&str] = &["free", "team", "pro", "enterprise"];
const REGIONS: &[&str] = &["eu-central-1", "us-east-1", "ap-southeast-2"];
const SOURCES: &[&str] = &["web", "api", "mobile", "cli"];
const REASONS: &[&str] =
    &["insufficient permissions", "approval is missing", "rate limit of the plan reached"];

/// The events, one after the other, in the order of their times.
struct Events<'a> {
    args: &'a Generate,
    chance: Chance,
    /// Rising sums of the tenants' shares.
    shares: Vec<u64>,
    next: u64,
    first_ms: u64,
    span_ms: u64,
}

impl<'a> Events<'a> {
    fn new(args: &'a Generate, until: Timestamp) -> Events<'a> {
        let span_ms = (u64::from(args.days) * DAY_MS).min(until.ms());
        // Zipf's law with exponent 1, in whole numbers: floating point may differ between machines.
        let mut sum = 0;
        let share = |rank| {
            sum += (1_u64 << 40) / rank;
            sum
        };
        let shares = (1..=u64::from(args.tenants)).map(share).collect();
        Events { args, chance: Chance(args.seed), shares, next: 0, first_ms: until.ms() - span_ms, span_ms }
    }

    /// When the next event happened: evenly, with chance within its own part of the span.
    fn time(&mut self) -> Timestamp {
        let at = |n: u64| (u128::from(self.span_ms) * u128::from(n) / u128::from(self.args.events)) as u64;
        let (begin, end) = (at(self.next), at(self.next + 1));
        Timestamp::from_ms(self.first_ms + begin + self.chance.below((end - begin).max(1)))
    }

    /// Appends the next event and a line feed; `false` if there is none.
    fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        if self.next >= self.args.events {
            return false;
        }
        let time = self.time();
        self.next += 1;
        let c = &mut self.chance;
        let drawn = c.below(*self.shares.last().expect("there is at least one tenant"));
        let tenant = self.shares.partition_point(|sum| *sum <= drawn) as u64;
        let things = c.one_of(THINGS);
        let verb = c.one_of(things.verbs);
        let thing = c.low(5_000);
        let (resource, resource_name) = (tag(tenant, thing, things.kind.len() as u64), 1_000 + thing);

        put(out, "{");
        if self.args.ids {
            let random = u128::from(c.next()) << 64 | u128::from(c.next());
            write(out, format_args!(r#""id":"evt_{}","#, EventId::new(time, random)));
        }
        write(out, format_args!(r#""tenant_id":"org_{tenant:05}","occurred_at":"{time}","#));
        let actor = self.write_actor(out, tenant);
        let c = &mut self.chance;
        write(out, format_args!(r#","action":"{}.{verb}""#, things.kind));
        match c.below(50) {
            0 => write(out, format_args!(r#","outcome":"denied","reason":"{}""#, c.one_of(REASONS))),
            1 => put(out, r#","outcome":"failure","reason":"upstream timed out""#),
            _ => put(out, r#","outcome":"success""#),
        }
        let Things { kind, prefix, called, fields, .. } = things;
        write(
            out,
            format_args!(
                r#","resource":{{"type":"{kind}","id":"{prefix}_{resource:016x}","name":"{called}{resource_name}"}}"#
            ),
        );
        if matches!(*verb, "updated" | "role_changed" | "paid" | "voided") {
            write_changes(c, out, fields);
        }
        write(
            out,
            format_args!(
                r#","context":{{"ip":"{}","user_agent":"{}","session_id":"ses_{:016x}","request_id":"req_{:016x}","trace_id":"{:016x}{:016x}"}}"#,
                Ip(c.next()),
                AGENTS[actor as usize % AGENTS.len()],
                tag(tenant, actor, c.low(8)),
                c.next(),
                c.next(),
                c.next(),
            ),
        );
        write(
            out,
            format_args!(
                r#","description":"{} {} {called}{resource_name}","metadata":{{"plan":"{}","region":"{}","source":"{}","app_version":"4.{}.{}","duration_ms":{}"#,
                FIRST[actor as usize % FIRST.len()],
                verb,
                PLANS[tenant as usize % PLANS.len()],
                REGIONS[tenant as usize % REGIONS.len()],
                c.one_of(SOURCES),
                c.below(30),
                c.below(10),
                5 + c.low(2_000),
            ),
        );
        if c.percent(30) {
            write(out, format_args!(r#","feature_flags":["new-editor","billing-v{}"]"#, 1 + c.below(3)));
        }
        if c.percent(20) {
            write(
                out,
                format_args!(r#","ticket":"SUP-{}","approved_by":"usr_{:016x}""#, c.below(9_000), c.next()),
            );
        }
        put(out, "}}\n");
        true
    }

    /// Writes who did it, and returns which of the tenant's users it is.
    fn write_actor(&mut self, out: &mut Vec<u8>, tenant: u64) -> u64 {
        let c = &mut self.chance;
        // Larger tenants have more users.
        let user = c.low(10 + 2_000 / (tenant + 1));
        let id = tag(tenant, user, 0);
        let (first, last) = (FIRST[user as usize % FIRST.len()], LAST[(id % LAST.len() as u64) as usize]);
        match c.below(20) {
            0 => write(
                out,
                format_args!(
                    r#""actor":{{"type":"service","id":"svc_{:04x}","name":"billing worker"}}"#,
                    id & 0xffff
                ),
            ),
            1 => write(
                out,
                format_args!(
                    concat!(
                        r#""actor":{{"type":"ai_agent","id":"agent_{:04x}","name":"Assistant"}},"#,
                        r#""on_behalf_of":[{{"type":"user","id":"usr_{:016x}","name":"{} {}"}}]"#
                    ),
                    id & 0xffff,
                    id,
                    first,
                    last
                ),
            ),
            _ => write(
                out,
                format_args!(
                    r#""actor":{{"type":"user","id":"usr_{id:016x}","name":"{first} {last}","email":"u{user}@org{tenant:05}.example.com"}}"#
                ),
            ),
        }
        user
    }
}

/// One or two fields with their values before and after.
fn write_changes(c: &mut Chance, out: &mut Vec<u8>, fields: &[(&str, &[&str])]) {
    if fields.is_empty() {
        return;
    }
    let first = c.below(fields.len() as u64) as usize;
    let count = if c.percent(30) { fields.len().min(2) } else { 1 };
    put(out, r#","changes":["#);
    for at in 0..count {
        let (name, values) = fields[(first + at) % fields.len()];
        let before = c.below(values.len() as u64) as usize;
        let after = values[(before + 1) % values.len()];
        let comma = if at > 0 { "," } else { "" };
        write(
            out,
            format_args!(r#"{comma}{{"path":"/{name}","before":{},"after":{after}}}"#, values[before]),
        );
    }
    put(out, "]");
}

/// A stable number for something of a tenant's.
fn tag(tenant: u64, thing: u64, kind: u64) -> u64 {
    Chance(tenant << 40 ^ thing << 8 ^ kind).next()
}

/// An address of the ranges for documentation (RFC 5737, RFC 3849).
struct Ip(u64);

impl Display for Ip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, kind, ..] = self.0.to_le_bytes();
        match kind {
            0..80 => write!(f, "192.0.2.{a}"),
            80..160 => write!(f, "198.51.100.{a}"),
            160..240 => write!(f, "203.0.113.{a}"),
            240.. => write!(f, "2001:db8::{b:x}:{c:x}"),
        }
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a growing buffer takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};
    use stele::event::Draft;

    fn args(seed: u64, ids: bool) -> Generate {
        Generate { events: 3_000, tenants: 50, seed, days: 3, until: None, ids }
    }

    fn all(args: &Generate) -> Vec<u8> {
        let mut out = Vec::new();
        let mut events = Events::new(args, Timestamp::parse("2026-05-01T00:00:00Z").unwrap());
        while events.write_next(&mut out) {}
        out
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
        assert_eq!(all(&args(1, true)), all(&args(1, true)));
        assert_ne!(all(&args(1, false)), all(&args(2, false)));
    }

    #[test]
    fn every_event_is_accepted_without_a_warning() {
        for ids in [false, true] {
            let out = all(&args(7, ids));
            let lines: Vec<&[u8]> = out.trim_ascii_end().split(|b| *b == b'\n').collect();
            assert_eq!(lines.len(), 3_000);
            for line in &lines {
                let draft =
                    Draft::parse(line).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(line)));
                assert_eq!(draft.warnings(), [], "{}", String::from_utf8_lossy(line));
            }
            let average = out.len() / lines.len();
            assert!((650..850).contains(&average), "{average} bytes");
        }
    }

    #[test]
    fn times_rise_within_the_days_and_tenants_follow_zipf() {
        let out = String::from_utf8(all(&args(3, true))).unwrap();
        let (mut times, mut tenants, mut ids) = (Vec::new(), HashMap::<String, u32>::new(), HashSet::new());
        for line in out.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            times.push(event["occurred_at"].as_str().unwrap().to_owned());
            *tenants.entry(event["tenant_id"].as_str().unwrap().to_owned()).or_default() += 1;
            assert!(ids.insert(event["id"].as_str().unwrap().to_owned()));
        }
        assert!(times.is_sorted());
        assert!(times[0].starts_with("2026-04-28T00:0") && times[2_999].starts_with("2026-04-30T23:5"));
        // Of 50 tenants, the first has 1 / H(50) = 22 % and the second half of it.
        assert!((560..780).contains(&tenants["org_00000"]), "{}", tenants["org_00000"]);
        assert!((270..400).contains(&tenants["org_00001"]), "{}", tenants["org_00001"]);
        assert!(tenants.len() > 45);
    }

    #[test]
    fn no_events_and_the_earliest_times_are_fine() {
        let none = Generate { events: 0, ..args(1, false) };
        assert_eq!(all(&none), b"");
        let early = args(1, true);
        let mut out = Vec::new();
        assert!(Events::new(&early, Timestamp::from_ms(0)).write_next(&mut out));
    }
}
