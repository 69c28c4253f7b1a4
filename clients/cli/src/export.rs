//! Export: events of any number into a file, made by the server and fetched from there.
//!
//! A connection that breaks on the way is taken up where it broke; a command that was stopped, with `--resume`.

use crate::client::{Client, Server};
use crate::filters::Filters;
use crate::show::{Clean, Failure, counted, note, print};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use stele::export::Format;
use stele::ports::Random;
use stele::tlog::hash::Hash;
use stele_adapters::clock::SystemRandom;

/// Between two questions how far an export is: at first, and later.
const ASKED_FIRST: Duration = Duration::from_millis(200);
const ASKED_LATER: Duration = Duration::from_secs(3);
/// How often a download that breaks off is taken up without a byte having come.
const BROKEN_MAX: u32 = 5;
const BROKEN_PAUSE: Duration = Duration::from_secs(2);

/// Exports sealed events into a file
#[derive(Args, Debug)]
#[command(
    after_help = "Events of the last minute may not be sealed yet, and then are not in it: the answer says how far it \
    goes.\n`--since last` goes on where the last export of the same filters and format ended."
)]
pub(crate) struct Export {
    #[command(flatten)]
    filters: Filters,
    /// How it is written: csv, jsonl, parquet, ocsf, evidence
    #[arg(long, value_parser = format, required_unless_present = "resume")]
    format: Option<Format>,
    /// Of evidence: also all events in between, so that it can be seen that none was left out
    #[arg(long)]
    covering: bool,
    /// From this leaf on, or `last`: from where the last export of the same kind ended
    #[arg(long, value_parser = since, value_name = "last|LEAF")]
    since: Option<Value>,
    /// Go on with an export that was asked for before
    #[arg(long, value_name = "EXPORT", conflicts_with_all = ["format", "since", "covering"])]
    resume: Option<String>,
    /// The file to write; it must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    server: Server,
}

fn format(text: &str) -> Result<Format, String> {
    Format::parse(text).ok_or_else(|| {
        let names = Format::ALL.map(Format::as_str).join(", ");
        format!("there is no such format: it is one of {names}")
    })
}

fn since(text: &str) -> Result<Value, String> {
    match (text, text.parse::<u64>()) {
        ("last", _) => Ok(json!("last")),
        (_, Ok(leaf)) => Ok(json!(leaf)),
        _ => Err("it is `last` or a leaf index".to_owned()),
    }
}

/// An export as the server shows it.
#[derive(Deserialize)]
struct Shown {
    id: String,
    state: String,
    tree_size: u64,
    progress: Progress,
    file: Option<Made>,
    error: Option<Wrong>,
}

#[derive(Deserialize)]
struct Progress {
    done: u64,
    leaves: u64,
}

#[derive(Deserialize)]
struct Made {
    bytes: u64,
    sha256: String,
    events: u64,
    end: u64,
    expired: u64,
    url: Option<String>,
}

#[derive(Deserialize)]
struct Wrong {
    code: String,
    detail: String,
}

/// Runs it.
pub(crate) fn run(args: &Export) -> Result<(), Failure> {
    if args.out.exists() {
        return Err(Failure::CouldNot(format!("`{}` is there already", args.out.display())));
    }
    let client = args.server.client()?;
    let id = match &args.resume {
        Some(id) => id.clone(),
        None => ask(&client, args)?,
    };
    let part = part_of(&args.out);
    if args.resume.is_none() && part.exists() {
        let part = part.display();
        return Err(Failure::CouldNot(format!(
            "`{part}` is there already: it is what another export left, which `--resume` takes up; or remove it"
        )));
    }
    let made = wait(&client, args, &id)?;
    let file = made.file.as_ref().ok_or_else(|| strange("a finished export has no file"))?;
    download(&client, args, &made.id, file, &part)?;
    fs::rename(&part, &args.out).map_err(|e| Failure::could_not("name the file", e))?;
    if file.expired > 0 {
        note(format!("{} in between had expired", counted(file.expired, "event")));
    }
    if made.tree_size > file.end {
        let left = counted(made.tree_size - file.end, "event");
        note(format!("{left} at the end were under no signed checkpoint yet"));
    }
    print(format!(
        "{}: {}, {} bytes, SHA-256 {}; up to leaf {}, where `--since last` goes on",
        args.out.display(),
        counted(file.events, "event"),
        file.bytes,
        file.sha256,
        file.end
    ))
}

fn part_of(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn strange(what: &str) -> Failure {
    Failure::CouldNot(format!("the answer can't be understood: {what}"))
}

/// Asks for the export, and says which it is.
fn ask(client: &Client, args: &Export) -> Result<String, Failure> {
    // What can't be read is told before anything is asked.
    args.filters.filter()?;
    let mut filter = Map::new();
    for (name, value) in args.filters.pairs().into_iter().filter(|(name, _)| *name != "tenant_id") {
        let values = filter.entry(name).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(json!(value));
        }
    }
    let mut body = json!({"filter": filter, "since": args.since});
    if let Some(format) = args.format {
        body["format"] = json!(format);
    }
    if args.covering {
        body["covering"] = json!(true);
    }
    if let Some(tenant) = &args.filters.tenant {
        body["tenant_id"] = json!(tenant.as_str());
    }
    // So that one that is asked for twice is made once.
    let key = format!("{:032x}", SystemRandom.bits());
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let body = body.to_string().into_bytes();
    let answer = match client.post("/v1/exports", &headers, body.clone()) {
        Err(Failure::CouldNot(_)) => client.post("/v1/exports", &headers, body)?,
        answer => answer?,
    };
    let shown: Shown = answer.into_json()?;
    note(format!(
        "{} is asked for; stopped, it is taken up by `--resume {}`",
        Clean(&shown.id),
        Clean(&shown.id)
    ));
    Ok(shown.id)
}

fn look(client: &Client, args: &Export, id: &str) -> Result<Shown, Failure> {
    let mut path = "/v1/exports/".to_owned();
    crate::client::encode(&mut path, id);
    let query: Vec<(&str, &str)> =
        args.filters.tenant.iter().map(|tenant| ("tenant_id", tenant.as_str())).collect();
    client.get(&path, &query)?.into_json()
}

/// Waits until the export is made.
fn wait(client: &Client, args: &Export, id: &str) -> Result<Shown, Failure> {
    let bar = bar("{bar:30} {percent}%  leaf {human_pos} of {human_len}, {eta} left");
    let mut pause = ASKED_FIRST;
    loop {
        let shown = look(client, args, id)?;
        match (shown.state.as_str(), &shown.error) {
            ("done", _) => {
                bar.finish_and_clear();
                return Ok(shown);
            }
            ("failed", wrong) => {
                bar.finish_and_clear();
                let wrong = wrong.as_ref().ok_or_else(|| strange("a failed export has no reason"))?;
                return Err(Failure::Refused(format!("{}: {}", Clean(&wrong.code), Clean(&wrong.detail))));
            }
            _ => {
                bar.set_length(shown.progress.leaves);
                bar.set_position(shown.progress.done);
            }
        }
        sleep(pause);
        pause = (pause * 2).min(ASKED_LATER);
    }
}

/// Fetches the file, however often the connection breaks, and holds it against its hash.
fn download(client: &Client, args: &Export, id: &str, file: &Made, part: &Path) -> Result<(), Failure> {
    let bar = bar("{bar:30} {percent}%  {bytes} of {total_bytes}, {eta} left");
    bar.set_length(file.bytes);
    let mut out = File::options()
        .create(true)
        .append(true)
        .open(part)
        .map_err(|e| Failure::could_not("write the file", e))?;
    let mut broken = 0;
    loop {
        let there = part.metadata().map_err(|e| Failure::could_not("write the file", e))?.len();
        bar.set_position(there);
        if there >= file.bytes {
            break;
        }
        // A link is good for minutes: each time a new one.
        let url = look(client, args, id)?.file.and_then(|file| file.url).ok_or_else(|| {
            Failure::CouldNot("the file is kept no longer: ask for the export again".to_owned())
        })?;
        let mut reader = match client.download(&url, there) {
            Ok(reader) => reader,
            Err(failure @ Failure::Refused(_)) => return Err(failure),
            Err(failure) => {
                broken += 1;
                if broken > BROKEN_MAX {
                    return Err(failure);
                }
                sleep(BROKEN_PAUSE);
                continue;
            }
        };
        let came = copy(&mut reader, &mut out, &bar)?;
        broken = if came > 0 { 0 } else { broken + 1 };
        if broken > BROKEN_MAX {
            return Err(Failure::CouldNot(format!(
                "the connection breaks: go on with `--resume {}`",
                Clean(id)
            )));
        }
    }
    bar.finish_and_clear();
    out.sync_all().map_err(|e| Failure::could_not("write the file", e))?;
    let found = hash_of(part)?;
    if found != file.sha256 {
        // It would be taken up again otherwise.
        let _ = fs::remove_file(part);
        return Err(Failure::CouldNot(format!(
            "the file that came has SHA-256 {found}, not {}: it was removed, fetch it again with `--resume {}`",
            Clean(&file.sha256),
            Clean(id)
        )));
    }
    Ok(())
}

/// Copies until the end, or until the connection breaks; says how much came. Only a file that can't be written is an error.
fn copy(from: &mut dyn Read, to: &mut File, bar: &ProgressBar) -> Result<u64, Failure> {
    let (mut came, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => return Ok(came),
            Ok(n) => {
                to.write_all(&buffer[..n]).map_err(|e| Failure::could_not("write the file", e))?;
                came += n as u64;
                bar.inc(n as u64);
            }
        }
    }
}

fn hash_of(path: &Path) -> Result<String, Failure> {
    let failed = |e: io::Error| Failure::could_not("read the file that came", e);
    let mut file = File::open(path).map_err(failed)?;
    let (mut sha256, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(Hash::from_bytes(sha256.finalize().into()).to_string()),
            n => sha256.update(&buffer[..n]),
        }
    }
}

fn bar(template: &str) -> ProgressBar {
    match io::stderr().is_terminal() {
        true => {
            let style = ProgressStyle::with_template(template).expect("the template is well formed");
            ProgressBar::new(0).with_style(style)
        }
        false => ProgressBar::hidden(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_last_or_a_leaf() {
        assert_eq!(since("last"), Ok(json!("last")));
        assert_eq!(since("12"), Ok(json!(12)));
        for bad in ["", "first", "-1", "1.5"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hash_is_that_of_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"abc").unwrap();
        assert_eq!(hash_of(&path).unwrap(), Hash::of(b"abc").to_string());
        assert_eq!(part_of(&path), folder.path().join("x.part"));
    }
}
