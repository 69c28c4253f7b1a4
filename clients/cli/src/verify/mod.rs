//! Verify: what the verifier found, told to people and to programs.
//!
//! It reads the locked objects and nothing else, and writes nothing.

mod single;

use crate::cloud::Place;
use crate::import::tenant;
use crate::show::{Clean, Failure, counted, note, print};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stele::id::TenantId;
use stele::ports::Clock;
use stele::public_key::{PublicKey, PublishedKeys, Purpose};
use stele::tlog::note::VerifierKey;
use stele::tlog::policy::Policy;
use stele_adapters::clock::SystemClock;
use stele_adapters::folder::LockedFolder;
use stele_verify::{Basis, Evidence, Finding, LogReport, Options, Report, Terms, Verdict};

/// Re-derives every hash, root, checkpoint and manifest from the sealed files alone
#[derive(Args, Debug)]
#[command(
    after_help = "Exit code: 0 proven, 1 refuted, 2 could not check.",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Verify {
    /// Data folder, or a copy of its `archive` that kept file times (`cp -a`): they are the locks
    #[arg(long, env = "STELE_DATA", default_value = "./.stele", value_name = "DIR")]
    data: PathBuf,
    /// Name of an installation in AWS, whose bucket is read instead of a folder
    #[arg(long, value_name = "NAME")]
    installation: Option<String>,
    #[command(flatten)]
    place: Place,
    /// A checkpoint saved earlier, which the log must still contain; can be repeated
    #[arg(long, value_name = "FILE")]
    since: Vec<PathBuf>,
    /// Only this tenant
    #[arg(long, value_parser = tenant)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    asked: Asked,
    #[command(subcommand)]
    single: Option<Single>,
}

/// What else than a whole log can be verified
#[derive(Subcommand, Debug)]
enum Single {
    Bundle(single::Bundle),
    Proof(single::Proof),
    Receipt(single::ReceiptArgs),
}

/// What a verdict is to rest on, and how it is told.
#[derive(Args, Debug)]
pub(crate) struct Asked {
    /// The public key to trust instead of the one that lies beside what it signs: a file, base64, or the installation's keys as
    /// the output `PublicKeys` tells them; can be repeated
    #[arg(long, value_name = "FILE|BASE64|KEYS")]
    public_key: Vec<String>,
    /// The latest statement that nothing came after must not be older: 26h, 2d
    #[arg(long, value_name = "AGE", value_parser = age)]
    max_age: Option<u64>,
    /// Witnesses that must have cosigned it: a policy as c2sp.org/tlog-policy has it
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Write the report as a page to print, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Asked {
    /// The keys to trust, by what they sign.
    fn pinned(&self) -> Result<PublishedKeys, Failure> {
        let mut pinned = PublishedKeys::default();
        for given in &self.public_key {
            for (purpose, key) in public_keys(given)? {
                pinned.push(purpose, key);
            }
        }
        if let Some(policy) = self.policy()? {
            for log in policy.logs() {
                pinned.push(Purpose::Checkpoints, PublicKey(*log.public()));
            }
        }
        Ok(pinned)
    }

    /// What to verify against.
    fn options(&self) -> Result<Options, Failure> {
        let pinned = self.pinned()?;
        Ok(Options {
            pinned: pinned.checkpoints,
            pinned_statements: pinned.statements,
            terms: self.terms()?,
            ..Options::default()
        })
    }

    fn policy(&self) -> Result<Option<Policy>, Failure> {
        let Some(path) = &self.policy else { return Ok(None) };
        let text = fs::read_to_string(path)
            .map_err(|e| Failure::could_not(format!("read the policy `{}`", path.display()), e))?;
        let policy = Policy::parse(&text)
            .map_err(|e| Failure::CouldNot(format!("the policy `{}`: {e}", path.display())))?;
        Ok(Some(policy))
    }

    fn terms(&self) -> Result<Terms, Failure> {
        Ok(Terms {
            now: Some(SystemClock.now()),
            max_age_ms: self.max_age,
            policy: self.policy()?,
            looked_for: None,
            is_at_rest: false,
        })
    }

    /// Tells a report, and gives its verdict.
    fn tell(&self, report: &Report, name: &str) -> Result<Verdict, Failure> {
        match self.json {
            true => print(as_json(report)?)?,
            false => print(as_text(report, name))?,
        }
        if let Some(path) = &self.html {
            let page = stele_verify::html(report, name, SystemClock.now());
            fs::write(path, page)
                .map_err(|e| Failure::could_not(format!("write the report `{}`", path.display()), e))?;
        }
        Ok(report.verdict())
    }
}

/// A duration: a number with `m`, `h` or `d`, in milliseconds.
fn age(text: &str) -> Result<u64, String> {
    let expected = || "give a number of minutes, hours or days: 90m, 26h, 2d".to_owned();
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(expected)?;
    let minutes = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        _ => return Err(expected()),
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(minutes * 60_000)).ok_or_else(expected)
}

/// Runs it; the verdict becomes the exit code.
pub(crate) fn run(args: &Verify) -> Result<Verdict, Failure> {
    match &args.single {
        Some(Single::Bundle(args)) => return single::bundle(args),
        Some(Single::Proof(args)) => return single::proof(args),
        Some(Single::Receipt(args)) => return single::receipt(args),
        None => {}
    }
    let options = Options {
        since: args.since.iter().map(|path| saved(path)).collect::<Result<_, _>>()?,
        tenant: args.tenant.clone(),
        ..args.asked.options()?
    };
    let runtime = crate::runtime()?;
    let (name, evidence) = match &args.installation {
        Some(installation) => runtime.block_on(bucket(installation, &args.place))?,
        None => folder(&args.data)?,
    };
    let bar = progress_bar();
    let progress = |checked, found| {
        bar.set_length(found);
        bar.set_position(checked);
    };
    let report = runtime.block_on(stele_verify::verify(&evidence, &options, &progress));
    bar.finish_and_clear();
    let report = report.map_err(|e| Failure::of(&e))?;
    args.asked.tell(&report, &name)
}

/// What is to be verified, and what it is called.
type Named = (String, Evidence);

fn folder(data: &Path) -> Result<Named, Failure> {
    let path = archive(data);
    let folder = LockedFolder::open_read_only(&path, Arc::new(SystemClock)).map_err(|e| {
        let (path, data) = (path.display(), data.display());
        let why = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
        Failure::CouldNot(format!(
            "`{path}` can't be read ({why}): is `{data}` the data folder? Give it with --data"
        ))
    })?;
    Ok((path.display().to_string(), Evidence::of(Arc::new(folder))))
}

#[cfg(feature = "aws")]
async fn bucket(installation: &str, place: &Place) -> Result<Named, Failure> {
    let cloud = crate::cloud::Cloud::open(installation, place).await?;
    Ok((cloud.bucket(), Evidence::of(Arc::new(cloud.objects()))))
}

#[cfg(not(feature = "aws"))]
async fn bucket(_: &str, _: &Place) -> Result<Named, Failure> {
    Err(crate::cloud::without_aws())
}

/// The write-once folder: of a data folder, or the one given itself.
pub(crate) fn archive(data: &Path) -> PathBuf {
    let inside = stele_local::archive(data);
    let is_archive = !inside.exists()
        && [stele::layout::SEGMENTS, stele::layout::ARCHIVE, stele::layout::PUBLIC_KEYS]
            .iter()
            .any(|prefix| data.join(prefix.trim_end_matches('/')).is_dir());
    if is_archive { data.to_owned() } else { inside }
}

fn saved(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|e| Failure::could_not(format!("read the checkpoint `{}`", path.display()), e))
}

/// The checkpoint keys of what was given: the output `PublicKeys` of an installation, which names what each key signs, or
/// one key.
fn public_keys(given: &str) -> Result<Vec<(Purpose, PublicKey)>, Failure> {
    match PublishedKeys::parse(given) {
        Some(keys) => Ok(keys.all().collect()),
        None => Ok(vec![public_key(given)?]),
    }
}

/// A public key in a file of ours, as a verifier key of C2SP, or as the base64 of its 32 bytes; in a file or as
/// it is.
fn public_key(given: &str) -> Result<(Purpose, PublicKey), Failure> {
    if let Some(key) = parse_public_key(given.as_bytes()) {
        return Ok(key);
    }
    match fs::read(given) {
        Ok(bytes) => parse_public_key(&bytes).ok_or_else(|| {
            Failure::CouldNot(format!(
                "`{}` has no public key in it: an Ed25519 key is expected",
                Clean(given)
            ))
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Failure::CouldNot(format!(
            "`{}` is neither a file nor a public key: give the 32 bytes of an Ed25519 key in base64",
            Clean(given)
        ))),
        Err(e) => Err(Failure::could_not(format!("read the public key `{}`", Clean(given)), e)),
    }
}

/// A key that does not say what it signs is one for checkpoints.
fn parse_public_key(bytes: &[u8]) -> Option<(Purpose, PublicKey)> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let raw = || STANDARD.decode(text).ok()?.try_into().ok().map(PublicKey);
    let c2sp = || VerifierKey::parse(text).ok().map(|key| PublicKey(*key.public()));
    PublicKey::from_file(bytes).or_else(|| raw().or_else(c2sp).map(|key| (Purpose::Checkpoints, key)))
}

fn progress_bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} objects  {eta} left");
    ProgressBar::new(0).with_style(style.expect("the template is well formed"))
}

/// The report, with the verdict over all that follows from it.
#[derive(Serialize)]
struct WithVerdict<'a> {
    verdict: Verdict,
    #[serde(flatten)]
    report: &'a Report,
}

fn as_json(report: &Report) -> Result<String, Failure> {
    let shown = WithVerdict { verdict: report.verdict(), report };
    serde_json::to_string_pretty(&shown).map_err(|e| Failure::could_not("write the report", e))
}

fn as_text(report: &Report, name: &str) -> String {
    let mut out = String::new();
    for log in &report.logs {
        log_text(&mut out, log);
    }
    findings_text(&mut out, "", &report.findings, &report.unchecked);
    if report.logs.is_empty() {
        // Writing to a text can't fail, here and below.
        let _ = writeln!(out, "`{name}` holds no log: nothing was checked");
    }
    let basis = match report.basis {
        Basis::PinnedKey => "the public key you gave",
        Basis::KeyFromFolder => {
            "the public key in the folder itself, which shows that all is of one hand, not of whose: to pin it, give \
             --public-key"
        }
    };
    let _ = writeln!(out, "trust: {basis}");
    let proven: u64 = report.logs.iter().map(|log| log.leaves_proven).sum();
    let count = |verdict| report.logs.iter().filter(|log| log.verdict == verdict).count() as u64;
    let _ = write!(
        out,
        "{}: {}, {}; {} proven, {} refuted, {} could not be checked",
        report.verdict().as_str().to_uppercase(),
        counted(report.logs.len() as u64, "log"),
        counted(proven, "event"),
        count(Verdict::Proven),
        count(Verdict::Refuted),
        count(Verdict::CouldNotCheck),
    );
    out
}

fn log_text(out: &mut String, log: &LogReport) {
    let generation = if log.log == 0 { String::new() } else { format!(" log {}", log.log) };
    let _ = write!(
        out,
        "{}{generation}: {}: {}, ",
        Clean(&log.tenant),
        log.verdict.as_str(),
        counted(log.leaves_proven, "event"),
    );
    if log.archive_files > 0 {
        let _ = write!(out, "{}, ", counted(log.archive_files, "archive file"));
    }
    let _ = write!(out, "{}, {}", counted(log.segments, "segment"), counted(log.checkpoints, "checkpoint"),);
    if let Some(root) = &log.root {
        let _ = write!(out, ", root {}", Clean(root));
    }
    if log.leaves_expired > 0 {
        let _ =
            write!(out, ", {} expired, whose hashes alone are left", counted(log.leaves_expired, "event"));
    }
    if log.leaves_unsigned > 0 {
        let _ = write!(out, ", {} not signed yet", counted(log.leaves_unsigned, "more event"));
    }
    if log.saved_checkpoints > 0 {
        let _ = write!(out, ", contains {}", counted(log.saved_checkpoints, "saved checkpoint"));
    }
    out.push('\n');
    let freshness = match (&log.stated_at, log.freshness) {
        (Some(at), Verdict::CouldNotCheck) => format!("nothing came after by {at}, as the operator states"),
        (Some(at), verdict) => format!("{} (stated at {at})", verdict.as_str()),
        (None, _) => "nobody states when nothing came after".to_owned(),
    };
    let (integrity, completeness) = (log.integrity.as_str(), log.completeness.as_str());
    let _ = writeln!(out, "  integrity: {integrity}; completeness: {completeness}; freshness: {freshness}");
    if log.key_changes > 0 {
        let _ = writeln!(out, "  signed by {} in turn", counted(log.key_changes + 1, "key"));
    }
    for witness in &log.witnesses {
        let _ = writeln!(out, "  cosigned by {}", Clean(witness));
    }
    for told in &log.notes {
        let _ = writeln!(out, "  note: {}", Clean(told));
    }
    findings_text(out, "  ", &log.findings, &log.unchecked);
}

fn findings_text(out: &mut String, indent: &str, findings: &[Finding], unchecked: &[String]) {
    for finding in findings {
        let Finding { at, expected, found, .. } = finding;
        let (at, expected, found) = (Clean(at), Clean(expected), Clean(found));
        let _ =
            writeln!(out, "{indent}refuted: {at}\n{indent}  expected {expected}\n{indent}  found    {found}");
    }
    for why in unchecked {
        let _ = writeln!(out, "{indent}could not check: {}", Clean(why));
    }
}

/// Says what a verdict other than proven means for whoever reads only the last line.
pub(crate) fn advise(verdict: Verdict) {
    match verdict {
        Verdict::Proven => {}
        Verdict::Refuted => note(
            "stele: the log is not what was signed; keep the folder as it is and look at the places named",
        ),
        Verdict::CouldNotCheck => note("stele: nothing wrong was found, but not everything could be checked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele::tlog::note::KeyName;

    #[test]
    fn a_public_key_is_read_in_every_form() {
        let key = PublicKey::of_seed(&[7; 32]);
        let c2sp = VerifierKey::new(KeyName::parse("example.com/log").unwrap(), &key.0).unwrap().to_string();
        for text in [
            key.to_file(stele::public_key::Purpose::Checkpoints),
            format!("{}\n", STANDARD.encode(key.0)),
            c2sp,
        ] {
            assert_eq!(parse_public_key(text.as_bytes()), Some((Purpose::Checkpoints, key)), "{text}");
        }
        for text in ["", "AAAA", "{}", "example.com/log+00000000+AAAA"] {
            assert_eq!(parse_public_key(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_line_of_an_installations_keys_is_read_as_it_is_shown() {
        let seeds = stele::public_key::SigningSeeds::one([7; 32]);
        let keys = PublishedKeys::of(&seeds, &[8; 32]);
        let read = public_keys(&keys.to_text()).unwrap_or_default();
        assert_eq!(read, keys.all().collect::<Vec<_>>());
    }

    #[test]
    fn nothing_found_is_not_green_and_a_finding_names_the_place() {
        let mut report = Report::default();
        assert!(as_text(&report, "x").contains("COULD NOT CHECK: 0 logs"));
        let finding = |text: &str| Finding {
            check: stele_verify::Check::Body,
            at: format!("{text}\u{1b}"),
            expected: "a".into(),
            found: "b".into(),
        };
        report.findings.push(finding("segments/0"));
        let text = as_text(&report, "x");
        assert!(text.contains("refuted: segments/0\u{FFFD}\n  expected a\n  found    b\n"), "{text}");
        assert!(text.contains("REFUTED"), "{text}");
        assert!(as_json(&report).unwrap().contains(r#""verdict": "refuted""#));
    }

    #[test]
    fn a_log_is_one_line_and_says_what_is_left_of_expired_events() {
        let mut log = LogReport::new(&TenantId::parse("acme").unwrap(), Default::default());
        (log.verdict, log.leaves_proven, log.segments, log.checkpoints) = (Verdict::Proven, 7, 2, 3);
        let mut text = String::new();
        log_text(&mut text, &log);
        let claims = "  integrity: could not check; completeness: could not check; freshness: nobody states when nothing came after\n";
        assert_eq!(text, format!("acme: proven: 7 events, 2 segments, 3 checkpoints\n{claims}"));
        (log.archive_files, log.tiles, log.leaves_expired) = (1, 2, 5);
        text.clear();
        log_text(&mut text, &log);
        let expired = "5 events expired, whose hashes alone are left";
        assert_eq!(
            text,
            format!("acme: proven: 7 events, 1 archive file, 2 segments, 3 checkpoints, {expired}\n{claims}")
        );
    }
}
