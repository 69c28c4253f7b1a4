//! Import: events from files to the API, in batches, and what became of each.
//!
//! Every event goes out with an id, the client's or one made from the line itself, so that whatever is sent twice
//! (a batch whose answer was lost, the whole file next week) is stored once. Without a time of its own an event's
//! id is remembered for a day only: give events times.

use crate::client::{Answer, Client, Place, Problem, Server};
use crate::items::{Found, Item, Items};
use crate::show::{Clean, Failure, counted, note, print};
use clap::Args;
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stele::id::TenantId;
use stele::json::{Json, Kind};
use stele::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, EVENT_BODY_BYTES_MAX};

const BATCH: &str = "/v1/events/batch";
/// Refused events shown; the rest is counted.
const SHOWN_MAX: u64 = 20;
/// Events shown that were stored with warnings; the rest is counted.
const WARNED_MAX: u64 = 5;
/// Bytes of a file read at once.
const READ_BYTES: usize = 256 * 1024;
/// How often it says how far it is where there is no bar to see.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// A batch is sent so often before it is given up: for about half a minute.
const ATTEMPTS: u32 = 9;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Sends files of events: NDJSON, a JSON array, `{"events":[…]}`, or one event; packed if they end in `.gz`
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// Files, folders of *.json and *.ndjson, or `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The tenant of events that name none
    #[arg(long, value_parser = tenant)]
    tenant: Option<TenantId>,
    /// Events sent at once
    #[arg(long, default_value_t = 100, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=BATCH_EVENTS_MAX as i64))]
    batch: u16,
    /// Write every refused event's place and reasons here, as NDJSON
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
}

/// A tenant's id as an argument.
pub(crate) fn tenant(text: &str) -> Result<TenantId, String> {
    TenantId::parse(text)
        .ok_or_else(|| "a tenant id is 1 to 128 letters, digits, `_`, `.` and `-`".to_owned())
}

/// Runs it.
pub(crate) fn run(args: &Import) -> Result<(), Failure> {
    let files = expand(&args.files)?;
    let mut sending = Sending::new(args, &files)?;
    for (file, path) in files.iter().enumerate() {
        sending.file(file, path)?;
    }
    sending.flush()?;
    sending.finish()
}

/// The files meant: folders stand for the events in them, in the order of their names.
fn expand(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in given {
        if is_stdin(path) || !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let read = |e| Failure::could_not(format!("read the folder `{}`", path.display()), e);
        let entries = path.read_dir().map_err(read)?.collect::<io::Result<Vec<_>>>().map_err(read)?;
        let mut inside: Vec<PathBuf> =
            entries.into_iter().map(|entry| entry.path()).filter(|p| is_events(p)).collect();
        if inside.is_empty() {
            let path = path.display();
            return Err(Failure::CouldNot(format!("`{path}` has no *.json, *.ndjson or *.jsonl in it")));
        }
        inside.sort();
        files.append(&mut inside);
    }
    Ok(files)
}

fn is_events(path: &Path) -> bool {
    let name = unpacked_name(path);
    path.is_file() && [".json", ".ndjson", ".jsonl"].iter().any(|end| name.ends_with(end))
}

/// Whether every line is an event, by the name alone.
fn is_lines(path: &Path) -> bool {
    let name = unpacked_name(path);
    name.ends_with(".ndjson") || name.ends_with(".jsonl")
}

fn unpacked_name(path: &Path) -> String {
    let name = path.to_string_lossy().to_lowercase();
    name.strip_suffix(".gz").unwrap_or(&name).to_owned()
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    file: usize,
    line: u64,
}

/// One event to be sent.
struct Pending {
    origin: Origin,
    text: Vec<u8>,
}

#[derive(Deserialize)]
struct BatchAnswer {
    results: Vec<ItemAnswer>,
}

#[derive(Deserialize)]
struct ItemAnswer {
    index: usize,
    status: u16,
    #[serde(default)]
    error: Option<Problem>,
    #[serde(default)]
    warnings: Vec<Place>,
}

#[derive(Default)]
struct Counts {
    accepted: u64,
    replayed: u64,
    refused: u64,
    /// Events of which it is not known whether they are stored.
    unknown: u64,
    warned: u64,
}

impl Counts {
    fn total(&self) -> u64 {
        self.accepted + self.replayed + self.refused + self.unknown
    }
}

struct Sending<'a> {
    files: &'a [PathBuf],
    tenant: Option<&'a TenantId>,
    client: Client,
    batch_events: usize,
    batch: Vec<Pending>,
    batch_bytes: usize,
    refused_file: Option<(PathBuf, BufWriter<File>)>,
    counts: Counts,
    progress: Progress,
}

impl<'a> Sending<'a> {
    fn new(args: &'a Import, files: &'a [PathBuf]) -> Result<Sending<'a>, Failure> {
        let refused_file = match &args.refused {
            None => None,
            Some(path) => match File::create(path) {
                Ok(file) => Some((path.clone(), BufWriter::new(file))),
                Err(e) => return Err(Failure::could_not(format!("write `{}`", path.display()), e)),
            },
        };
        Ok(Sending {
            files,
            tenant: args.tenant.as_ref(),
            client: args.server.client()?,
            batch_events: usize::from(args.batch),
            batch: Vec::new(),
            batch_bytes: 0,
            refused_file,
            counts: Counts::default(),
            progress: Progress::new(files),
        })
    }

    fn file(&mut self, file: usize, path: &Path) -> Result<(), Failure> {
        let read = |e| Failure::could_not(format!("read `{}`", path.display()), e);
        let mut items =
            Items::new(open(path, &self.progress.bar).map_err(read)?, is_lines(path)).map_err(read)?;
        let mut identify = Identify::new(self.tenant);
        while let Some(Item { line, found }) = items.next().map_err(read)? {
            let origin = Origin { file, line };
            match found {
                Found::Text(text) => match identify.event(&text) {
                    Ok(text) => self.push(Pending { origin, text })?,
                    Err(error) => self.refuse(origin, &problem_of(&error))?,
                },
                Found::TooLong(bytes) => {
                    let detail =
                        format!("an event has at most {EVENT_BODY_BYTES_MAX} bytes, this one has {bytes}");
                    self.refuse(origin, &local("event_too_large", detail))?;
                }
                Found::Unfinished => {
                    self.refuse(origin, &local("malformed_json", "the file ends too early"))?
                }
                Found::Beyond => {
                    self.refuse(origin, &local("malformed_json", "something follows the array"))?
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, pending: Pending) -> Result<(), Failure> {
        // A line feed each.
        if self.batch_bytes + pending.text.len() + 1 > BATCH_BYTES_MAX {
            self.flush()?;
        }
        self.batch_bytes += pending.text.len() + 1;
        self.batch.push(pending);
        if self.batch.len() >= self.batch_events { self.flush() } else { Ok(()) }
    }

    /// Sends what is waiting, again and again what is not decided.
    fn flush(&mut self) -> Result<(), Failure> {
        let mut left = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        for attempt in 1..=ATTEMPTS {
            if left.is_empty() {
                break;
            }
            let (why, wait) = match self.send(&left) {
                Ok(answer) if answer.status == 200 => {
                    left = self.take_in(left, answer)?;
                    ("an event could not be stored for now".to_owned(), None)
                }
                Ok(answer) if answer.status == 429 || answer.status >= 500 => {
                    let wait = retry_after(&answer);
                    (
                        answer
                            .problem()
                            .map_or(format!("the server answers {}", answer.status), |p| p.to_string()),
                        wait,
                    )
                }
                Ok(answer) => {
                    let refused = answer.into_json::<BatchAnswer>().err();
                    let text = "the answer is none to a batch: is it a Stele server?".to_owned();
                    return Err(self.stopped(refused.unwrap_or(Failure::CouldNot(text))));
                }
                Err(Failure::CouldNot(why)) => (why, None),
                Err(other) => return Err(other),
            };
            if left.is_empty() {
                break;
            }
            if attempt == ATTEMPTS {
                self.counts.unknown += left.len() as u64;
                return Err(self.stopped(Failure::CouldNot(why)));
            }
            let pause = wait.unwrap_or_else(|| pause(attempt));
            if attempt > 1 {
                self.progress.say(format!("{why}; again in {} s", pause.as_secs_f64()));
            }
            std::thread::sleep(pause);
        }
        self.progress.count(&self.counts);
        Ok(())
    }

    fn send(&self, events: &[Pending]) -> Result<Answer, Failure> {
        let body = events.iter().flat_map(|e| e.text.iter().chain(b"\n")).copied().collect();
        self.client.post(BATCH, &[("content-type", "application/x-ndjson")], body)
    }

    /// Counts what became of each event of a batch, and returns those to be sent again.
    fn take_in(&mut self, sent: Vec<Pending>, answer: Answer) -> Result<Vec<Pending>, Failure> {
        let mut results: Vec<Option<ItemAnswer>> = sent.iter().map(|_| None).collect();
        for result in answer.into_json::<BatchAnswer>()?.results {
            if let Some(slot) = results.get_mut(result.index) {
                *slot = Some(result);
            }
        }
        let mut again = Vec::new();
        for (pending, result) in sent.into_iter().zip(results) {
            let Some(result) = result else {
                again.push(pending);
                continue;
            };
            let problem = result.error.unwrap_or_default();
            if matches!(result.status, 200..=299) && !result.warnings.is_empty() {
                self.warn(pending.origin, &result.warnings);
            }
            match result.status {
                200 => self.counts.replayed += 1,
                201 | 202 => self.counts.accepted += 1,
                429 | 500.. if problem.retryable => again.push(pending),
                _ => self.refuse(pending.origin, &problem)?,
            }
        }
        Ok(again)
    }

    fn warn(&mut self, origin: Origin, warnings: &[Place]) {
        self.counts.warned += 1;
        if self.counts.warned <= WARNED_MAX {
            let (file, line) = (self.files[origin.file].to_string_lossy(), origin.line);
            for warning in warnings {
                self.progress.say(format!("{}:{line}: warning: {warning}", Clean(&file)));
            }
        }
    }

    fn refuse(&mut self, origin: Origin, problem: &Problem) -> Result<(), Failure> {
        self.counts.refused += 1;
        let file = self.files[origin.file].to_string_lossy();
        if self.counts.refused <= SHOWN_MAX {
            self.progress.say(format!("{}:{}: {problem}", Clean(&file), origin.line));
        }
        let Some((path, out)) = &mut self.refused_file else { return Ok(()) };
        let line = RefusedLine { file: &file, line: origin.line, problem };
        let written = serde_json::to_writer(&mut *out, &line)
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"));
        written.map_err(|e| Failure::could_not(format!("write `{}`", path.display()), e))
    }

    /// Why it ended before its time, with what was done until then.
    fn stopped(&mut self, failure: Failure) -> Failure {
        self.progress.bar.finish_and_clear();
        let done = self.summary();
        let and = |why| {
            format!("{why}\nstopped after {done}; import again when it is mended: nothing is stored twice")
        };
        match failure {
            Failure::Refused(why) => Failure::Refused(and(why)),
            Failure::CouldNot(why) => Failure::CouldNot(and(why)),
            Failure::Closed => Failure::Closed,
        }
    }

    fn summary(&self) -> String {
        let Counts { accepted, replayed, refused, unknown, warned } = &self.counts;
        let mut text = format!(
            "{}: {accepted} accepted, {replayed} replayed, {refused} refused",
            counted(self.counts.total(), "event")
        );
        if *unknown > 0 {
            text.push_str(&format!(", {unknown} undecided"));
        }
        if *warned > 0 {
            text.push_str(&format!(", {warned} with warnings"));
        }
        text
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.progress.bar.finish_and_clear();
        if let Some((path, out)) = &mut self.refused_file {
            out.flush().map_err(|e| Failure::could_not(format!("write `{}`", path.display()), e))?;
        }
        let seconds = self.progress.since.elapsed().as_secs_f64();
        let rate = self.counts.total() as f64 / seconds.max(0.001);
        print(format!("{} ({seconds:.1} s, {rate:.0}/s)", self.summary()))?;
        let refused = self.counts.refused;
        if refused == 0 {
            return Ok(());
        }
        let more = refused.saturating_sub(SHOWN_MAX);
        Err(Failure::Refused(match (&self.refused_file, more) {
            (Some((path, _)), _) => format!("the refused events are in `{}`", path.display()),
            (None, 0) => {
                "mend the refused events and import again: what is stored is not stored twice".to_owned()
            }
            (None, more) => {
                format!("{more} more refused events are not shown: see them all with --refused FILE")
            }
        }))
    }
}

/// A refused event in the file of refused ones.
#[derive(Serialize)]
struct RefusedLine<'a> {
    file: &'a str,
    line: u64,
    #[serde(flatten)]
    problem: &'a Problem,
}

fn problem_of(error: &stele::Error) -> Problem {
    let places = error.problems().iter().map(|p| Place {
        pointer: p.pointer.clone(),
        code: p.code.to_owned(),
        detail: p.detail.clone(),
        suggestion: p.suggestion.clone(),
    });
    Problem { errors: places.collect(), ..local(error.code().as_str(), error.detail()) }
}

fn local(code: &str, detail: impl Into<String>) -> Problem {
    Problem { code: code.to_owned(), detail: detail.into(), ..Problem::default() }
}

fn pause(attempt: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << (attempt - 1).min(16)).min(LONGEST_PAUSE)
}

/// What the server asks for, within reason.
fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(FIRST_PAUSE, Duration::from_secs(60)))
}

fn open(path: &Path, bar: &ProgressBar) -> io::Result<Box<dyn BufRead>> {
    if is_stdin(path) {
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, bar.wrap_read(io::stdin().lock()))));
    }
    let file = bar.wrap_read(File::open(path)?);
    Ok(match path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz")) {
        true => {
            let unpacked = MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, file));
            Box::new(BufReader::with_capacity(READ_BYTES, unpacked))
        }
        false => Box::new(BufReader::with_capacity(READ_BYTES, file)),
    })
}

/// Gives events of one file their ids. Counts equal lines of that file only, so that files can be imported
/// together or one by one.
struct Identify<'a> {
    tenant: Option<&'a TenantId>,
    /// How often a line, by the first half of its hash, has been there.
    seen: HashMap<[u8; 16], u64>,
}

impl<'a> Identify<'a> {
    fn new(tenant: Option<&'a TenantId>) -> Identify<'a> {
        Identify { tenant, seen: HashMap::new() }
    }

    /// The event as sent, on one line. What can't be read goes out as it is, to be refused where all rules are
    /// known, unless it has several lines and so could not be told from several events.
    fn event(&mut self, text: &[u8]) -> stele::Result<Vec<u8>> {
        let json = match Json::parse(text) {
            Ok(json) if json.kind(json.root()) == Kind::Object => json,
            Err(error) if text.contains(&b'\n') => return Err(error),
            Ok(_) | Err(_) => return Ok(text.to_vec()),
        };
        let root = json.root();
        let mut added = String::new();
        let member = |name| json.member(root, name);
        let stated = |name| member(name).filter(|node| json.kind(*node) != Kind::Null);
        let named = stated("tenant_id").or_else(|| stated("organization_id")).and_then(|node| json.str(node));
        let tenant = named.or(self.tenant.map(TenantId::as_str)).unwrap_or_default();
        // A null `external_id` can't be there a second time; whoever writes it wants none.
        if stated("id").is_none() && member("external_id").is_none() {
            let nth = self.nth(tenant, text);
            added.push_str(&format!(r#""external_id":"{}","#, external_id(tenant, text, nth)));
        }
        if let (None, Some(tenant)) = (member("tenant_id").or(member("organization_id")), self.tenant) {
            added.push_str(&format!(r#""tenant_id":"{tenant}","#));
        }
        let inside = json.start(root) + 1;
        if json.members(root).next().is_none() {
            added.pop();
        }
        let mut out = Vec::with_capacity(text.len() + added.len());
        out.extend_from_slice(&text[..inside]);
        out.extend_from_slice(added.as_bytes());
        out.extend_from_slice(&text[inside..]);
        // Outside of strings they are white space, and inside they would not have been read.
        out.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        Ok(out)
    }

    fn nth(&mut self, tenant: &str, text: &[u8]) -> u64 {
        let hash = Sha256::new().chain_update(tenant).chain_update([0]).chain_update(text).finalize();
        let (half, _) = hash.split_first_chunk().expect("a SHA-256 is longer than its half");
        let count = self.seen.entry(*half).or_default();
        *count += 1;
        *count
    }
}

/// The external id of a line without one: the SHA-256, in hexadecimal, of tenant, line and which of the identical
/// lines it is (from 1), each ended by a zero byte, which none of them can have.
pub(crate) fn external_id(tenant: &str, line: &[u8], nth: u64) -> String {
    let mut hash = Sha256::new();
    for part in [tenant.as_bytes(), line, nth.to_string().as_bytes()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// How far it is: a bar on a terminal, a line now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    since: Instant,
    said: Instant,
    is_terminal: bool,
}

impl Progress {
    fn new(files: &[PathBuf]) -> Progress {
        let now = Instant::now();
        let is_terminal = io::stderr().is_terminal();
        let size = |path: &PathBuf| path.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
        let bytes = files.iter().map(size).sum::<Option<u64>>();
        let (bar, template) = match bytes {
            _ if !is_terminal => (ProgressBar::hidden(), "{msg}"),
            Some(bytes) => (ProgressBar::new(bytes), "{bar:30} {percent:>3} %  {msg}  {eta} left"),
            None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}"),
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the templates are well formed"));
        Progress { bar, since: now, said: now, is_terminal }
    }

    fn count(&mut self, counts: &Counts) {
        let Counts { accepted, replayed, refused, .. } = counts;
        let text = format!("{accepted} accepted, {replayed} replayed, {refused} refused");
        if self.is_terminal {
            self.bar.set_message(text);
        } else if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            note(text);
        }
    }

    /// A line that stays.
    fn say(&self, text: String) {
        self.bar.suspend(|| note(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele::event::Draft;

    fn sent(identify: &mut Identify<'_>, text: &str) -> String {
        String::from_utf8(identify.event(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn an_external_id_is_a_function_of_tenant_line_and_count() {
        // printf 'org_a\0{"a":1}\0%s\0' 1 | sha256sum
        let id = external_id("org_a", br#"{"a":1}"#, 1);
        assert_eq!(id, "8a36355a4f35c3f6da7e1ea8ff55782c570465efdf2280da1f12cd15e0b48053");
        assert_ne!(id, external_id("org_b", br#"{"a":1}"#, 1));
        assert_ne!(id, external_id("org_a", br#"{"a":1}"#, 2));
        assert_ne!(id, external_id("org_a", br#"{"a":2}"#, 1));
    }

    #[test]
    fn equal_lines_get_ids_of_their_own_and_the_same_ones_next_time() {
        let line = r#"{"tenant_id":"org_a","action":"a.b"}"#;
        let (mut once, mut again) = (Identify::new(None), Identify::new(None));
        let first = sent(&mut once, line);
        let second = sent(&mut once, line);
        assert_ne!(first, second);
        assert_eq!(first, sent(&mut again, line));
        assert_eq!(second, sent(&mut again, line));
        let id = external_id("org_a", line.as_bytes(), 1);
        assert_eq!(first, format!(r#"{{"external_id":"{id}",{}"#, &line[1..]));
    }

    #[test]
    fn what_the_client_says_stays() {
        let tenant = TenantId::parse("org_a").unwrap();
        let mut identify = Identify::new(Some(&tenant));
        for whole in [
            r#"{"id":"x","tenant_id":"b"}"#,
            r#"{"external_id":"x","organization_id":"b"}"#,
            r#"{"external_id":null,"tenant_id":null}"#,
            r#"[1]"#,
            r#""text""#,
            r#"{"a":1,}"#,
        ] {
            assert_eq!(sent(&mut identify, whole), whole);
        }
        assert_eq!(sent(&mut identify, r#" {"id":"x"}"#), r#" {"tenant_id":"org_a","id":"x"}"#);
        let id = external_id("org_a", b"{}", 1);
        assert_eq!(sent(&mut identify, "{}"), format!(r#"{{"external_id":"{id}","tenant_id":"org_a"}}"#));
    }

    #[test]
    fn an_event_of_several_lines_becomes_one_or_is_refused() {
        let mut identify = Identify::new(None);
        assert_eq!(sent(&mut identify, "{\r\n\"id\":\"x\"\n}"), "{  \"id\":\"x\" }");
        assert!(identify.event(b"{\"id\":\"x\ny\"}").is_err());
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(1), FIRST_PAUSE);
        assert_eq!(pause(2), FIRST_PAUSE * 2);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn the_sample_events_are_good_and_without_warnings() {
        let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
        let files = expand(&[events.join("valid"), events.join("batch.ndjson")]).unwrap();
        let mut count = 0;
        for path in &files {
            let mut items = Items::new(BufReader::new(File::open(path).unwrap()), is_lines(path)).unwrap();
            let mut identify = Identify::new(None);
            while let Some(item) = items.next().unwrap() {
                let Found::Text(text) = item.found else { panic!("{}: {item:?}", path.display()) };
                let sent = identify.event(&text).unwrap();
                let draft = Draft::parse(&sent).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                assert_eq!(draft.warnings(), [], "{}", path.display());
                count += 1;
            }
        }
        assert_eq!(count, files.len() - 1 + 10);
    }

    #[test]
    fn names_tell_the_form() {
        assert!(is_lines(Path::new("a.NDJSON")) && is_lines(Path::new("a.jsonl.gz")));
        assert!(!is_lines(Path::new("a.json")) && !is_lines(Path::new("-")));
    }
}
