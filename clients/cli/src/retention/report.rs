//! The report: every locked object with its lock, class and hold, and where it is not as policy says.
//!
//! It goes through the objects page by page, however many there are, and changes nothing.

use super::judge::{Expected, Found, Mode, Tag, drift};
use super::policy::{Lookup, Missing};
use crate::cloud::Place;
use crate::import::tenant;
use crate::show::{Clean, Failure, counted, note, print};
use clap::Args;
use futures_util::stream::{self, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use stele::id::TenantId;
use stele::layout::{ARCHIVE, CHECKPOINTS, ObjectKey, SEGMENTS, TILES};
use stele::ports::{ArchiveObjects, Clock, ListedObject, LockedObjects};
use stele::time::Timestamp;
use stele_adapters::clock::SystemClock;
use stele_adapters::folder::LockedFolder;

/// Objects listed at once.
const PAGE: usize = 1_000;
/// Of these so many are looked at at the same time.
const AT_ONCE: usize = 16;

/// Lists every locked object with mode, lock, class and hold, and where it is not as policy says
#[derive(Args, Debug)]
#[command(
    after_help = "Exit code: 0 no drift, 1 drift, 2 could not check (nothing found, or something unreadable)."
)]
pub(super) struct Report {
    /// Data folder, or a copy of its `archive` that kept file times (`cp -a`): they are the locks
    #[arg(long, env = "STELE_DATA", default_value = "./.stele", value_name = "DIR")]
    data: PathBuf,
    /// Name of an installation in AWS, whose bucket is read instead of a folder
    #[arg(long, value_name = "NAME")]
    installation: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Only this tenant
    #[arg(long, value_parser = tenant)]
    tenant: Option<TenantId>,
    /// This is a trial: locks that an administrator can lift are no drift
    #[arg(long)]
    trial: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What is looked at, and by what it is judged.
struct Looked {
    name: String,
    objects: Arc<dyn LockedObjects>,
    states: States,
    lookup: Lookup,
    now: Timestamp,
    trial: bool,
}

/// Where what stands on objects is read.
enum States {
    Folder(LockedFolder),
    #[cfg(feature = "aws")]
    Bucket(crate::cloud::ObjectStates),
}

/// A line of the report.
#[derive(Serialize)]
struct Line {
    key: String,
    mode: Option<&'static str>,
    retain_until: Option<String>,
    class: Option<String>,
    hold: Option<bool>,
    drift: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

/// All lines in a few numbers.
#[derive(Default, Serialize)]
struct Summary {
    objects: u64,
    drift: u64,
    unreadable: u64,
    /// Where policy was looked up.
    policy: &'static str,
    /// Tenants whose objects are being held against a newer policy: some of their drift may be gone soon.
    passes_due: Vec<String>,
}

impl Summary {
    fn count(&mut self, line: &Line) {
        self.objects += 1;
        self.drift += u64::from(!line.drift.is_empty());
        self.unreadable += u64::from(line.unreadable.is_some());
    }

    /// 0 no drift, 1 drift, 2 could not check: nothing seen is never green.
    fn exit_code(&self) -> u8 {
        match (self.drift, self.objects, self.unreadable) {
            (1.., _, _) => 1,
            (0, 0, _) | (0, _, 1..) => 2,
            (0, _, 0) => 0,
        }
    }
}

/// Runs it.
pub(super) fn run(args: &Report) -> Result<ExitCode, Failure> {
    let code = crate::runtime()?.block_on(async {
        match &args.installation {
            Some(installation) => report(args, &installed(installation, args).await?).await,
            None => {
                // Whoever holds the database must outlive the report.
                let database = database(&args.data).await?;
                report(args, &local(args, database.as_ref())?).await
            }
        }
    })?;
    Ok(ExitCode::from(code))
}

/// The database of a data folder, if it has one and nobody else works in it.
async fn database(data: &Path) -> Result<Option<stele_local::Database>, Failure> {
    match stele_local::database(data).await {
        Ok(database) => Ok(database),
        Err(error) if error.code() == stele::Code::Unavailable => {
            note(format!("{}: policy is taken from the objects alone", error.detail()));
            Ok(None)
        }
        Err(error) => Err(Failure::of(&error)),
    }
}

fn local(args: &Report, database: Option<&stele_local::Database>) -> Result<Looked, Failure> {
    let path = crate::verify::archive(&args.data);
    let folder = LockedFolder::open_read_only(&path, Arc::new(SystemClock)).map_err(|e| {
        let (path, data) = (path.display(), args.data.display());
        let why = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
        Failure::CouldNot(format!(
            "`{path}` can't be read ({why}): is `{data}` the data folder? Give it with --data"
        ))
    })?;
    let objects: Arc<dyn LockedObjects> = Arc::new(folder.clone());
    Ok(Looked {
        name: path.display().to_string(),
        states: States::Folder(folder),
        lookup: Lookup::new(database.map(|database| database.store().clone()), objects.clone()),
        objects,
        now: SystemClock.now(),
        trial: args.trial,
    })
}

#[cfg(feature = "aws")]
async fn installed(installation: &str, args: &Report) -> Result<Looked, Failure> {
    let cloud = crate::cloud::Cloud::open(installation, &args.place).await?;
    let objects: Arc<dyn LockedObjects> = Arc::new(cloud.objects());
    Ok(Looked {
        name: cloud.bucket(),
        states: States::Bucket(cloud.states()),
        lookup: Lookup::new(Some(cloud.store()), objects.clone()),
        objects,
        now: SystemClock.now(),
        trial: args.trial,
    })
}

#[cfg(not(feature = "aws"))]
async fn installed(_: &str, _: &Report) -> Result<Looked, Failure> {
    Err(crate::cloud::without_aws())
}

async fn report(args: &Report, looked: &Looked) -> Result<u8, Failure> {
    let mut out = Output::begin(args.json)?;
    let bar = progress_bar();
    let has_database = looked.lookup.has_database();
    let policy = if has_database { "database" } else { "objects" };
    let mut summary = Summary { policy, ..Summary::default() };
    let mut seen = Seen::default();
    for prefix in prefixes(args.tenant.as_ref()) {
        let mut after: Option<String> = None;
        loop {
            let page = looked.objects.list(&prefix, after.as_deref(), PAGE).await;
            let page = page.map_err(|e| Failure::of(&e))?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|object| object.key.clone());
            let mut lines = stream::iter(page.iter().map(|object| looked.line(object))).buffered(AT_ONCE);
            while let Some(line) = lines.next().await {
                // What has gone since it was listed is not there.
                let Some(line) = line else { continue };
                seen.add(&line.key);
                summary.count(&line);
                out.line(&line)?;
                bar.set_message(counted(summary.objects, "object"));
            }
            if is_last {
                break;
            }
        }
    }
    let tenants = looked.lookup.tenants(args.tenant.as_ref()).await.map_err(|e| Failure::of(&e))?;
    for tenant in &tenants {
        let is_seen = |key: &str| seen.has(key);
        let unseen = looked.lookup.unseen(tenant, &is_seen).await.map_err(|e| Failure::of(&e))?;
        for missing in &unseen {
            if let Some(line) = looked.missing(missing).await {
                summary.count(&line);
                out.line(&line)?;
            }
        }
        if looked.lookup.is_pass_due(tenant).await.map_err(|e| Failure::of(&e))? {
            summary.passes_due.push(tenant.id().as_str().to_owned());
        }
    }
    bar.finish_and_clear();
    out.end(&summary, &looked.name)?;
    Ok(summary.exit_code())
}

/// Where objects lie: of one tenant, or all of them, whatever they are.
fn prefixes(tenant: Option<&TenantId>) -> Vec<String> {
    match tenant {
        None => vec![String::new()],
        Some(tenant) => {
            [ARCHIVE, CHECKPOINTS, SEGMENTS, TILES].map(|kind| format!("{kind}tenant_id={tenant}/")).into()
        }
    }
}

fn progress_bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is well formed"));
    bar
}

/// Keys that were seen, as numbers: a bucket may have millions.
#[derive(Default)]
struct Seen {
    hasher: RandomState,
    keys: HashSet<u64>,
}

impl Seen {
    fn add(&mut self, key: &str) {
        self.keys.insert(self.hasher.hash_one(key));
    }

    fn has(&self, key: &str) -> bool {
        self.keys.contains(&self.hasher.hash_one(key))
    }
}

impl Looked {
    /// The line of a listed object; `None` if it has gone since.
    async fn line(&self, object: &ListedObject) -> Option<Line> {
        let judged = match self.judged(object).await {
            // It may have been looked at between two steps of compact: what is wrong twice is wrong.
            Ok(Some((_, drift))) if !drift.is_empty() => {
                self.lookup.forget().await;
                self.judged(object).await
            }
            judged => judged,
        };
        let mut line = Line::new(&object.key);
        match judged {
            Ok(Some((found, drift))) => {
                line.drift = drift;
                if let Some(found) = found {
                    line.shows(&found);
                }
            }
            Ok(None) => return None,
            Err(error) => line.unreadable = Some(error),
        }
        Some(line)
    }

    /// What stands on an object and what of it is drift; `None` if it has gone.
    async fn judged(&self, object: &ListedObject) -> Result<Option<(Option<Found>, Vec<String>)>, String> {
        if !self.states.can_read(&object.key) {
            return Ok(Some((None, vec!["nobody of us writes such a key".to_owned()])));
        }
        let Some(found) = self.states.found(&object.key, &object.version).await? else { return Ok(None) };
        let expected = self.lookup.expected(object).await.map_err(|e| said(&e))?;
        if expected == Expected::Gone {
            return Ok(None);
        }
        let drift = drift(&expected, &found, self.trial, self.now);
        Ok(Some((Some(found), drift)))
    }

    /// The line of what the database knows and the listing does not; `None` if that is as it should be.
    async fn missing(&self, missing: &Missing) -> Option<Line> {
        let mut line = Line::new(&missing.key);
        match self.states.found(&missing.key, &missing.version).await {
            // It came into being while we listed.
            Ok(Some(_)) => return None,
            Ok(None) => {}
            Err(error) => {
                line.unreadable = Some(error);
                return Some(line);
            }
        }
        let is_over = missing.retain_until.is_some_and(|until| until <= self.now);
        match (is_over, missing.held) {
            // Gone as it should; reconcile has not seen it yet.
            (true, false) => return None,
            (true, true) => line.drift.push("it is gone, though a legal hold covers it".to_owned()),
            (false, _) => line.drift.push("it is gone before its time".to_owned()),
        }
        Some(line)
    }
}

/// What an error says to whoever runs the installation.
pub(super) fn said(error: &stele::Error) -> String {
    match Failure::of(error) {
        Failure::CouldNot(why) | Failure::Refused(why) => why,
        Failure::Closed => String::new(),
    }
}

impl States {
    /// Whether what stands on an object can be read by such a key.
    fn can_read(&self, key: &str) -> bool {
        match self {
            States::Folder(_) => ObjectKey::parse(key).is_some(),
            #[cfg(feature = "aws")]
            States::Bucket(_) => true,
        }
    }

    async fn found(&self, key: &str, version: &str) -> Result<Option<Found>, String> {
        match self {
            States::Folder(folder) => {
                let Some(object) = ObjectKey::parse(key) else { return Ok(None) };
                let state = folder.state(&object.key(), version).await.map_err(|e| said(&e))?;
                Ok(state.map(|state| Found {
                    mode: Mode::Folder,
                    retain_until: state.retain_until,
                    hold: state.hold,
                    tag: state.tag.map_or(Tag::None, Tag::Ours),
                }))
            }
            #[cfg(feature = "aws")]
            States::Bucket(states) => {
                let state = states.state(key, version).await?;
                Ok(state.map(|state| Found {
                    mode: match (state.mode.as_deref(), state.retain_until) {
                        (_, None) | (None, _) => Mode::Unlocked,
                        (Some("COMPLIANCE"), _) => Mode::Compliance,
                        (Some(_), _) => Mode::Governance,
                    },
                    retain_until: state.retain_until.unwrap_or_default(),
                    hold: state.hold,
                    tag: Tag::of(&state.tags),
                }))
            }
        }
    }
}

impl Line {
    fn new(key: &str) -> Line {
        Line {
            key: key.to_owned(),
            mode: None,
            retain_until: None,
            class: None,
            hold: None,
            drift: Vec::new(),
            unreadable: None,
        }
    }

    fn shows(&mut self, found: &Found) {
        self.mode = Some(found.mode.as_str());
        self.retain_until = Some(found.retain_until.to_string());
        self.class = (found.tag != Tag::None).then(|| found.tag.to_string());
        self.hold = Some(found.hold);
    }
}

/// What prints lines as they come.
enum Output {
    Text,
    Json { first: bool },
}

impl Output {
    fn begin(json: bool) -> Result<Output, Failure> {
        if !json {
            print(format!("{:<10}  {:<24}  {:<8}  {:<4}  KEY", "MODE", "RETAIN UNTIL", "CLASS", "HOLD"))?;
            return Ok(Output::Text);
        }
        print("{\"objects\":[")?;
        Ok(Output::Json { first: true })
    }

    fn line(&mut self, line: &Line) -> Result<(), Failure> {
        match self {
            Output::Json { first } => {
                let comma = if std::mem::take(first) { "" } else { "," };
                print(format!("{comma}{}", json(line)?))
            }
            Output::Text => {
                let text = |text: &Option<String>| Clean(text.as_deref().unwrap_or("-")).to_string();
                let (mode, hold) = (line.mode.unwrap_or("-"), line.hold.unwrap_or_default());
                let (until, class) = (text(&line.retain_until), text(&line.class));
                let hold = if hold { "on" } else { "-" };
                let mut shown =
                    format!("{mode:<10}  {until:<24}  {class:<8}  {hold:<4}  {}", Clean(&line.key));
                for drift in &line.drift {
                    shown.push_str(&format!("\n  drift: {}", Clean(drift)));
                }
                if let Some(why) = &line.unreadable {
                    shown.push_str(&format!("\n  could not check: {}", Clean(why)));
                }
                print(shown)
            }
        }
    }

    fn end(self, summary: &Summary, name: &str) -> Result<(), Failure> {
        if let Output::Json { .. } = self {
            return print(format!("],\"summary\":{}}}", json(summary)?));
        }
        if summary.objects == 0 {
            print(format!("`{name}` holds no object: nothing was checked"))?;
        }
        if !summary.passes_due.is_empty() {
            let tenants = summary.passes_due.join(", ");
            print(format!(
                "a pass over all objects is due for {}: drift may be on its way out",
                Clean(&tenants)
            ))?;
        }
        print(format!(
            "{}: {} with drift, {} could not be checked; policy by the {}",
            counted(summary.objects, "object"),
            summary.drift,
            summary.unreadable,
            summary.policy,
        ))
    }
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::could_not("write the report", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_seen_is_not_green_and_drift_is_louder_than_what_could_not_be_read() {
        for (objects, drift, unreadable, code) in
            [(0, 0, 0, 2), (5, 0, 0, 0), (5, 0, 1, 2), (5, 1, 1, 1), (5, 1, 0, 1)]
        {
            let summary = Summary { objects, drift, unreadable, ..Summary::default() };
            assert_eq!(summary.exit_code(), code);
        }
    }
}
