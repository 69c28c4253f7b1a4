//! Verifying what somebody was handed: a bundle, a proof, a receipt.

use super::{Asked, folder, progress_bar};
use crate::show::{Clean, Failure};
use clap::{ArgGroup, Args};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use stele::receipt::Receipt;
use stele::time::Timestamp;
use stele::tlog::note::Note;
use stele_adapters::bundle::published_keys;
use stele_verify::{
    Basis, Options, ProofFile, ReceiptEvidence, Report, Terms, Verdict, judge_receipt, verify_bundle,
    verify_proof,
};

/// Checks an evidence bundle, without network and without trusting whoever made it
#[derive(Args, Debug)]
pub(crate) struct Bundle {
    /// The bundle
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A checkpoint saved earlier: of the same size it must have the same root; can be repeated
    #[arg(long, value_name = "FILE")]
    since: Vec<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

/// Checks the proof that one event is in a log
#[derive(Args, Debug)]
pub(crate) struct Proof {
    /// A .tlog-proof, or the JSON that `GET /v1/events/{id}/proof` answers
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The event's leaf, byte for byte, if it is not in the JSON
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

/// Checks that what was promised when an event was accepted has been kept
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("where").args(["data", "bundle"])))]
pub(crate) struct Receipt_ {
    /// The signed receipt, or the JSON that `POST /v1/events` answered
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Data folder with the log the event should be in
    #[arg(long, value_name = "DIR", default_value = "./.stele")]
    data: PathBuf,
    /// A bundle it should be in, instead
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The public key for receipts, instead of the published one; can be repeated
    #[arg(long, value_name = "FILE|BASE64")]
    receipt_key: Vec<String>,
    #[command(flatten)]
    asked: Asked,
}

pub(crate) use Receipt_ as ReceiptArgs;

fn text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|e| Failure::could_not(format!("read `{}`", path.display()), e))
}

/// Runs `stele verify bundle`.
pub(super) fn bundle(args: &Bundle) -> Result<Verdict, Failure> {
    let options = Options {
        since: args.since.iter().map(|path| text(path)).collect::<Result<_, _>>()?,
        ..args.asked.options()?
    };
    let bar = progress_bar();
    let verified = verify_bundle(&args.file, &options, &mut |_, _| bar.inc(1));
    bar.finish_and_clear();
    let verified = verified.map_err(|e| Failure::of(&e))?;
    args.asked.tell(&verified.report, &args.file.display().to_string())
}

/// Runs `stele verify proof`.
pub(super) fn proof(args: &Proof) -> Result<Verdict, Failure> {
    let options = args.asked.options()?;
    let mut file = match ProofFile::parse(&text(&args.file)?) {
        Ok(file) => file,
        Err(error) => {
            let report = Report::refuted(&args.file.display().to_string(), &error);
            return args.asked.tell(&report, &args.file.display().to_string());
        }
    };
    if let Some(path) = &args.event {
        let bytes =
            fs::read(path).map_err(|e| Failure::could_not(format!("read `{}`", path.display()), e))?;
        // A newline at the end is an editor's, never a leaf's.
        file.leaf = Some(bytes.strip_suffix(b"\n").unwrap_or(&bytes).to_vec());
    }
    args.asked.tell(&verify_proof(&file, &options), &args.file.display().to_string())
}

#[derive(Deserialize)]
struct Answer {
    receipt: AnsweredReceipt,
}

#[derive(Deserialize)]
struct AnsweredReceipt {
    note: String,
}

/// Runs `stele verify receipt`.
pub(super) fn receipt(args: &ReceiptArgs) -> Result<Verdict, Failure> {
    let mut note = text(&args.file)?;
    if note.trim_start().starts_with('{') {
        let answer: Answer = serde_json::from_str(&note).map_err(|e| {
            Failure::CouldNot(format!("`{}` has no signed receipt: {e}", args.file.display()))
        })?;
        note = answer.receipt.note;
    }
    // Unsigned so far: it only says where to look.
    let claimed = Note::parse(&note).ok().and_then(|note| Receipt::parse(note.text()).ok());
    let Some(claimed) = claimed else {
        return Err(Failure::CouldNot(format!(
            "`{}` is no signed receipt",
            Clean(&args.file.display().to_string())
        )));
    };
    let mut given = args.asked.pinned()?.receipts;
    for key in &args.receipt_key {
        given.push(super::public_key(key)?.1);
    }
    let options = args.asked.options()?;
    let terms = Terms { looked_for: Some(claimed.id), ..options.terms };
    let options = Options { terms, tenant: Some(claimed.tenant.clone()), ..options };
    let (of_log, keys, evidence) = match &args.bundle {
        Some(path) => in_bundle(path, &claimed, &options)?,
        None => in_folder(&args.data, &claimed, &options)?,
    };
    let is_given = !given.is_empty();
    let keys = if is_given { given } else { keys };
    let mut report = judge_receipt(&note, &keys, &of_log, &evidence, &options);
    if !is_given {
        // The log's own key may be pinned: who signed the receipt still rests on what lay beside it.
        report.basis = Basis::KeyFromFolder;
    }
    args.asked.tell(&report, &args.file.display().to_string())
}

type Looked = (Report, Vec<stele::public_key::PublicKey>, ReceiptEvidence);

fn in_folder(data: &Path, claimed: &Receipt, options: &Options) -> Result<Looked, Failure> {
    let (_, evidence) = folder(data)?;
    let runtime = crate::runtime()?;
    let bar = progress_bar();
    let progress = |checked, found| {
        bar.set_length(found);
        bar.set_position(checked);
    };
    let report = runtime.block_on(stele_verify::verify(&evidence, options, &progress));
    bar.finish_and_clear();
    let report = report.map_err(|e| Failure::of(&e))?;
    let keys = runtime.block_on(published_keys(&*evidence.objects)).map_err(|e| Failure::of(&e))?;
    let log = report.logs.iter().find(|log| log.origin.as_deref() == Some(claimed.origin.as_str()));
    let found = match log {
        None => ReceiptEvidence::Unknown(format!("there is no log `{}` here", claimed.origin)),
        Some(log) => ReceiptEvidence::of_log(log),
    };
    Ok((report, keys.receipts, found))
}

fn in_bundle(path: &Path, claimed: &Receipt, options: &Options) -> Result<Looked, Failure> {
    let mut hash = None;
    let mut visit = |_, record: &stele::record::Record| {
        if record.id == claimed.id {
            hash = Some(record.leaf_hash);
        }
    };
    let verified = verify_bundle(path, options, &mut visit).map_err(|e| Failure::of(&e))?;
    let stated_at: Option<Timestamp> = verified.report.logs.first().and_then(|log| log.stated_at);
    let is_its_log = verified.info.as_ref().is_some_and(|info| {
        info.origin == claimed.origin.as_str() && info.tenant_id == claimed.tenant.as_str()
    });
    let found = match hash {
        _ if !is_its_log => {
            ReceiptEvidence::Unknown(format!("the bundle is not one of log `{}`", claimed.origin))
        }
        Some(hash) => ReceiptEvidence::Sealed(hash),
        None if verified.is_whole => ReceiptEvidence::Absent(stated_at),
        None => ReceiptEvidence::Unknown(
            "the event is not in the bundle, which does not hold the whole log".to_owned(),
        ),
    };
    Ok((verified.report, verified.keys.receipts, found))
}
