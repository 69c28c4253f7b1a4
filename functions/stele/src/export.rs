//! Export jobs: what was asked for, how far it is, and who works on it. An export covers leaves of the log, so that what it
//! holds is fixed when it is asked for, whenever and however often it is made.
//!
//! The record of an export is changed only from what was read, so that of two deliveries of one errand one works on it. The
//! name of its file follows from the record, which is there before the file is: whoever goes on after a crash finds either
//! no file or the one there is.

use crate::error::{Code, Error, Result};
use crate::id::TenantId;
use crate::limits;
use crate::time::Timestamp;
use crate::tlog::hash::Hash;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// How an export's file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// RFC 4180, safe to open in a spreadsheet.
    Csv,
    /// One JSON object per line, as `GET /v1/events` shows it.
    #[serde(rename = "jsonl")]
    JsonLines,
    /// Typed columns and the leaf, with the columns segments have.
    Parquet,
    /// One OCSF event per line.
    Ocsf,
    /// An evidence bundle.
    Evidence,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 5] =
        [Format::Csv, Format::JsonLines, Format::Parquet, Format::Ocsf, Format::Evidence];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::JsonLines => "jsonl",
            Format::Parquet => "parquet",
            Format::Ocsf => "ocsf",
            Format::Evidence => "evidence",
        }
    }

    /// Parses its name.
    pub fn parse(text: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.as_str() == text)
    }

    /// What its files end in.
    pub const fn extension(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::JsonLines => "jsonl",
            Format::Parquet => "parquet",
            Format::Ocsf => "ocsf.jsonl",
            Format::Evidence => "zip",
        }
    }

    /// Their media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::JsonLines | Format::Ocsf => "application/x-ndjson",
            Format::Parquet => "application/vnd.apache.parquet",
            Format::Evidence => "application/zip",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is exported. Two of the same are one series: each may begin where the one before ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// How it is written.
    pub format: Format,
    /// Filters by the names they have in `GET /v1/events`, sorted, each once.
    pub filter: Vec<(String, String)>,
    /// Of evidence: also the events in between, so that it can be seen that none was left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub covering: bool,
}

impl Selection {
    /// With its filters in their one order.
    pub fn new(format: Format, mut filter: Vec<(String, String)>, covering: bool) -> Selection {
        filter.sort_unstable();
        filter.dedup();
        Selection { format, filter, covering }
    }
}

/// Where an export was asked to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Since {
    /// At the beginning of the log.
    #[default]
    Beginning,
    /// Where the last finished one of the same series ended.
    Last,
    /// At this leaf.
    Leaf(u64),
}

/// How far an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody has begun it, or whoever did gave it back.
    Queued,
    /// Somebody works on it.
    Running,
    /// Its file is there.
    Done,
    /// It can't be made, and why is told.
    Failed,
}

impl State {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Done => "done",
            State::Failed => "failed",
        }
    }

    /// Whether nothing more comes of it.
    pub const fn is_final(self) -> bool {
        matches!(self, State::Done | State::Failed)
    }
}

/// Who works on an export, and until when nobody else does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The worker, by a random name.
    pub by: String,
    /// When others may take it, in milliseconds since 1970.
    pub until_ms: u64,
}

/// An exported file. What is told here beside its size and hash travels with the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedFile {
    /// Bytes of it.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Events in it.
    pub events: u64,
    /// Leaf index of the first leaf looked at.
    pub first: u64,
    /// The tree size it ends at.
    pub end: u64,
    /// Leaves in between that had expired.
    pub expired: u64,
}

/// Why an export can't be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A code, as problems have it.
    pub code: String,
    /// What is wrong, and what to do.
    pub detail: String,
}

/// An export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Its id; ids rise with time.
    pub id: String,
    /// Counts changes, for compare-and-swap.
    pub revision: u64,
    /// When it was asked for, in milliseconds since 1970.
    pub created_ms: u64,
    /// With which API key.
    pub created_by: String,
    /// What is exported.
    pub selection: Selection,
    /// Where it was asked to begin.
    pub since: Since,
    /// Leaf index of the first leaf looked at.
    pub first: u64,
    /// The tree size it ends at: the log's when it was asked for.
    pub end: u64,
    /// How much of the log was in the archive by then.
    pub archived: u64,
    /// The latest `received_at` in the log by then, in milliseconds since 1970; 0 for an empty log.
    pub sealed_ms: u64,
    /// When its errand was sent last, in milliseconds since 1970.
    pub sent_ms: u64,
    /// How far it is.
    pub state: State,
    /// How often it was begun.
    pub attempts: u32,
    /// Leaves done.
    pub done: u64,
    /// Who works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// When nothing more came of it, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// Its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<ExportedFile>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What came of an attempt to begin an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claiming {
    /// It is to be worked on, once this has taken the record's place.
    Claimed(Box<Export>),
    /// It was begun too often; this has to take the record's place.
    GivenUp(Box<Export>),
    /// Somebody else works on it until then, unless more is heard.
    Busy(Timestamp),
    /// Nothing is left to do.
    Over,
}

const ID_PREFIX: &str = "exp_";
const RANDOM_BITS: u32 = 80;

impl Export {
    /// An id, from when it is made and random bits.
    pub fn id(at: Timestamp, random: u128) -> String {
        let random = random & ((1 << RANDOM_BITS) - 1);
        format!("{ID_PREFIX}{:032x}", u128::from(at.ms()) << RANDOM_BITS | random)
    }

    /// Whether a text can be an export's id.
    pub fn is_id(text: &str) -> bool {
        let digits = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        text.strip_prefix(ID_PREFIX).is_some_and(|rest| rest.len() == 32 && rest.bytes().all(digits))
    }

    /// Leaves to do.
    pub fn leaves(&self) -> u64 {
        self.end.saturating_sub(self.first)
    }

    /// The key of its file.
    pub fn key(&self, tenant: &TenantId) -> ExportKey {
        let extension = self.selection.format.extension();
        ExportKey(format!("{EXPORTS}tenant_id={tenant}/{}.{extension}", self.id))
    }

    /// What its file is called where it is saved.
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.id, self.selection.format.extension())
    }

    /// Until when its file is kept.
    pub fn kept_until(&self) -> Option<Timestamp> {
        let finished = Timestamp::from_ms(self.finished_ms.filter(|_| self.state == State::Done)?);
        Some(finished.plus_days(limits::EXPORT_KEPT_DAYS))
    }

    /// Whether nobody has been heard of for so long that its errand may be lost.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        let heard = self.claim.as_ref().map_or(0, |claim| claim.until_ms).max(self.sent_ms);
        !self.state.is_final() && now >= Timestamp::from_ms(heard).plus_ms(limits::EXPORT_LEASE_MS)
    }

    /// As it is after its errand was sent.
    pub fn sent(&self, now: Timestamp) -> Export {
        Export { sent_ms: now.ms(), ..self.next() }
    }

    /// Begins it in the name of a worker.
    pub fn claim(&self, by: &str, now: Timestamp) -> Claiming {
        match (&self.claim, self.state) {
            (_, State::Done | State::Failed) => Claiming::Over,
            (Some(claim), State::Running) if claim.until_ms > now.ms() => {
                Claiming::Busy(Timestamp::from_ms(claim.until_ms))
            }
            _ if self.attempts >= limits::EXPORT_ATTEMPTS_MAX => Claiming::GivenUp(Box::new(self.failed(
                Code::Internal.as_str(),
                format!("it was begun {} times and never came to its end: narrow it down", self.attempts),
                now,
            ))),
            _ => Claiming::Claimed(Box::new(Export {
                state: State::Running,
                attempts: self.attempts + 1,
                done: 0,
                claim: Some(lease(by, now)),
                ..self.next()
            })),
        }
    }

    /// As it is once so many leaves are done: its worker has it for longer.
    pub fn progressed(&self, done: u64, now: Timestamp) -> Export {
        let by = self.claim.as_ref().map_or("", |claim| claim.by.as_str());
        Export { done, claim: Some(lease(by, now)), ..self.next() }
    }

    /// As it is when its worker gives it back, for others to begin again.
    pub fn given_back(&self) -> Export {
        Export { state: State::Queued, claim: None, ..self.next() }
    }

    /// As it is with its file.
    pub fn finished(&self, file: ExportedFile, now: Timestamp) -> Export {
        Export {
            state: State::Done,
            done: self.leaves(),
            claim: None,
            finished_ms: Some(now.ms()),
            file: Some(file),
            failure: None,
            ..self.next()
        }
    }

    /// As it is when it can't be made.
    pub fn failed(&self, code: &str, detail: String, now: Timestamp) -> Export {
        Export {
            state: State::Failed,
            claim: None,
            finished_ms: Some(now.ms()),
            failure: Some(Failure { code: code.to_owned(), detail }),
            ..self.next()
        }
    }

    fn next(&self) -> Export {
        Export { revision: self.revision + 1, ..self.clone() }
    }
}

fn lease(by: &str, now: Timestamp) -> Claim {
    Claim { by: by.to_owned(), until_ms: now.plus_ms(limits::EXPORT_LEASE_MS).ms() }
}

/// Where exported files lie.
pub const EXPORTS: &str = "exports/";

/// The key of an exported file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportKey(String);

impl ExportKey {
    /// As stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ExportedFile {
    /// What stands beside a file of this size and hash.
    pub fn facts(&self) -> [(&'static str, String); 5] {
        [
            ("sha256", self.sha256.clone()),
            ("events", self.events.to_string()),
            ("first", self.first.to_string()),
            ("end", self.end.to_string()),
            ("expired", self.expired.to_string()),
        ]
    }

    /// Reads that again.
    ///
    /// # Errors
    /// `corrupt` if one is missing or is no number.
    pub fn of_facts<'a>(
        at: &ExportKey,
        bytes: u64,
        fact: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<ExportedFile> {
        let number = |name: &str| {
            let read = fact(name).and_then(|text| text.parse::<u64>().ok());
            read.ok_or_else(|| Error::corrupt(at, format!("a number `{name}` beside it"), "none"))
        };
        let sha256 = fact("sha256").filter(|text| Hash::from_hex(text).is_some());
        Ok(ExportedFile {
            bytes,
            sha256: sha256.ok_or_else(|| Error::corrupt(at, "its SHA-256 beside it", "none"))?.to_owned(),
            events: number("events")?,
            first: number("first")?,
            end: number("end")?,
            expired: number("expired")?,
        })
    }
}

/// What asks a worker to make an export. A message too many costs a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportErrand {
    /// Whose.
    pub tenant: TenantId,
    /// Its id.
    pub export: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrandText<'a> {
    #[serde(borrow)]
    tenant_id: Cow<'a, str>,
    #[serde(borrow)]
    export_id: Cow<'a, str>,
}

impl ExportErrand {
    /// As a queue's message.
    pub fn message(&self) -> String {
        let text = ErrandText { tenant_id: self.tenant.as_str().into(), export_id: (&self.export).into() };
        serde_json::to_string(&text).expect("two texts are JSON")
    }

    /// From a queue's message.
    ///
    /// # Errors
    /// `corrupt` for anything else.
    pub fn parse(message: &str) -> Result<ExportErrand> {
        let text: Option<ErrandText<'_>> = serde_json::from_str(message).ok();
        let errand = text.filter(|text| Export::is_id(&text.export_id)).and_then(|text| {
            let tenant = TenantId::parse(&text.tenant_id)?;
            Some(ExportErrand { tenant, export: text.export_id.into_owned() })
        });
        errand.ok_or_else(|| Error::new(Code::Corrupt, "an errand's message names no export"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn export() -> Export {
        Export {
            id: Export::id(NOW, 7),
            revision: 0,
            created_ms: NOW.ms(),
            created_by: "k1".to_owned(),
            selection: Selection::new(Format::Csv, Vec::new(), false),
            since: Since::Beginning,
            first: 10,
            end: 30,
            archived: 5,
            sealed_ms: 1,
            sent_ms: NOW.ms(),
            state: State::Queued,
            attempts: 0,
            done: 0,
            claim: None,
            finished_ms: None,
            file: None,
            failure: None,
        }
    }

    fn file() -> ExportedFile {
        let sha256 = Hash::of(b"x").to_string();
        ExportedFile { bytes: 9, sha256, events: 2, first: 10, end: 30, expired: 1 }
    }

    fn claimed(claiming: Claiming) -> Export {
        match claiming {
            Claiming::Claimed(export) => *export,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ids_rise_with_time_and_others_are_told_apart() {
        let later = Export::id(NOW.plus_ms(1), 0);
        assert!(Export::id(NOW, u128::MAX) < later && Export::is_id(&later), "{later}");
        for bad in ["", "exp_", "exp_0", "hold_00000000000000000000000000000000", &later.to_uppercase()] {
            assert!(!Export::is_id(bad), "{bad}");
        }
    }

    #[test]
    fn one_worker_has_it_until_its_lease_ends() {
        let begun = claimed(export().claim("a", NOW));
        assert_eq!((begun.state, begun.attempts, begun.revision), (State::Running, 1, 1));
        let until = NOW.plus_ms(limits::EXPORT_LEASE_MS);
        assert_eq!(begun.claim("b", until.minus_ms(1)), Claiming::Busy(until));
        let further = begun.progressed(12, until.minus_ms(1));
        assert_eq!(further.claim("b", until), Claiming::Busy(until.plus_ms(limits::EXPORT_LEASE_MS - 1)));
        let taken = claimed(begun.claim("b", until));
        assert_eq!((taken.attempts, taken.done), (2, 0));
        assert_eq!(claimed(begun.given_back().claim("b", NOW)).attempts, 2);
    }

    #[test]
    fn it_is_given_up_in_the_end_with_a_reason_and_nothing_is_begun_after_an_end() {
        let often = Export { attempts: limits::EXPORT_ATTEMPTS_MAX, ..export() };
        let Claiming::GivenUp(given_up) = often.claim("a", NOW) else { panic!("it was begun again") };
        assert!(given_up.failure.as_ref().is_some_and(|failure| failure.detail.contains("5 times")));
        let done = claimed(export().claim("a", NOW)).finished(file(), NOW);
        for over in [*given_up, done.clone()] {
            assert_eq!(over.claim("b", NOW.plus_days(1)), Claiming::Over);
            assert!(!over.is_overdue(NOW.plus_days(1)));
        }
        assert_eq!(done.kept_until(), Some(NOW.plus_days(7)));
        assert_eq!(done.done, 20);
    }

    #[test]
    fn an_errand_that_is_not_heard_of_is_overdue() {
        let lease = limits::EXPORT_LEASE_MS;
        assert!(!export().is_overdue(NOW.plus_ms(lease - 1)) && export().is_overdue(NOW.plus_ms(lease)));
        let begun = claimed(export().claim("a", NOW));
        assert!(!begun.is_overdue(NOW.plus_ms(lease)) && begun.is_overdue(NOW.plus_ms(2 * lease)));
        assert!(!begun.sent(NOW.plus_ms(2 * lease)).is_overdue(NOW.plus_ms(2 * lease)));
    }

    #[test]
    fn what_is_selected_has_one_spelling() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let one = Selection::new(Format::Ocsf, vec![pair("b", "2"), pair("a", "1"), pair("b", "2")], false);
        assert_eq!(one, Selection::new(Format::Ocsf, vec![pair("a", "1"), pair("b", "2")], false));
        for format in Format::ALL {
            assert_eq!(Format::parse(format.as_str()), Some(format));
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
        }
    }

    #[test]
    fn records_errands_and_facts_come_back() {
        let tenant = TenantId::parse("org_acme-1.x").unwrap();
        let done = claimed(export().claim("a", NOW)).finished(file(), NOW);
        for export in
            [export(), claimed(export().claim("a", NOW)), done, Export { since: Since::Leaf(3), ..export() }]
        {
            let text = serde_json::to_string(&export).unwrap();
            assert_eq!(serde_json::from_str::<Export>(&text).unwrap(), export, "{text}");
        }
        let errand = ExportErrand { tenant: tenant.clone(), export: export().id };
        assert_eq!(ExportErrand::parse(&errand.message()).unwrap(), errand);
        for bad in ["", "{}", r#"{"tenant_id":"a","export_id":"../x"}"#, "[]"] {
            assert!(ExportErrand::parse(bad).is_err(), "{bad}");
        }
        let key = export().key(&tenant);
        assert_eq!(key.as_str(), format!("exports/tenant_id=org_acme-1.x/{}.csv", export().id));
        let facts = file().facts();
        let fact = |name: &str| facts.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        assert_eq!(ExportedFile::of_facts(&key, 9, fact).unwrap(), file());
        assert!(ExportedFile::of_facts(&key, 9, |name| fact(name).filter(|_| name != "end")).is_err());
    }
}
