//! Verifying one proof, or one receipt.

use crate::Options;
use crate::bundle::find;
use crate::report::{Basis, Check, LogReport, Report, Verdict};
use serde::Deserialize;
use stele::access::LogNumber;
use stele::error::{Error, Result};
use stele::id::TenantId;
use stele::public_key::PublicKey;
use stele::receipt::Receipt;
use stele::record::Record;
use stele::time::Timestamp;
use stele::tlog::checkpoint::{Checkpoint, Origin};
use stele::tlog::hash::{Hash, LeafIndex, leaf_hash};
use stele::tlog::note::{Note, VerifierKey};
use stele::tlog::portable::PortableProof;
use stele::tlog::proof::verify_inclusion;

/// A proof as it comes, with the event it is of as far as that came too.
pub struct ProofFile {
    /// The proof.
    pub proof: PortableProof,
    /// The leaf, byte for byte.
    pub leaf: Option<Vec<u8>>,
    /// The leaf hash that is claimed.
    pub leaf_hash: Option<Hash>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofJson {
    id: String,
    leaf_index: u64,
    tree_size: u64,
    leaf_hash: String,
    #[serde(default)]
    leaf: Option<String>,
    path: Vec<String>,
    checkpoint: String,
}

impl ProofFile {
    /// Reads a `.tlog-proof`, or the JSON that the API answers.
    ///
    /// # Errors
    /// `corrupt` for any other text.
    pub fn parse(text: &str) -> Result<ProofFile> {
        if !text.trim_start().starts_with('{') {
            let proof =
                PortableProof::parse(text).map_err(|e| Error::corrupt("the proof", "a .tlog-proof", e))?;
            return Ok(ProofFile { proof, leaf: None, leaf_hash: None });
        }
        let wrong = |what: &str| Error::corrupt("the proof", "JSON as the API answers it", what);
        let json: ProofJson = serde_json::from_str(text).map_err(|e| wrong(&e.to_string()))?;
        let hash = |text: &String| Hash::from_base64(text).ok_or_else(|| wrong("a hash that is none"));
        let leaf = json.leaf.map(String::into_bytes);
        if let Some(leaf) = &leaf {
            let record = Record::from_leaf(leaf.clone()).map_err(|e| wrong(e.detail()))?;
            if json.id != record.id.shown() {
                return Err(wrong("an `id` that is not the leaf's"));
            }
        }
        let size = Note::parse(&json.checkpoint).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
        if size.is_none_or(|checkpoint| json.tree_size != checkpoint.size.to_u64()) {
            return Err(wrong("a `tree_size` that is not the checkpoint's"));
        }
        Ok(ProofFile {
            proof: PortableProof {
                extra: None,
                index: LeafIndex::new(json.leaf_index),
                path: json.path.iter().map(hash).collect::<Result<_>>()?,
                checkpoint: json.checkpoint,
            },
            leaf,
            leaf_hash: Some(hash(&json.leaf_hash)?),
        })
    }
}

/// Verifies a proof. Without a pinned key nothing says whose the checkpoint is: then it could not be checked.
pub fn verify_proof(file: &ProofFile, options: &Options) -> Report {
    let (mut report, mut log) = begun(options);
    let claimed =
        Note::parse(&file.proof.checkpoint).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
    let Some(claimed) = claimed else {
        find(&mut log, Check::Signature, "the proof", "a checkpoint", "another text");
        return ended(report, log, options);
    };
    log.origin = Some(claimed.origin.to_string());
    let keys = keys_of(&claimed.origin, &options.pinned);
    if keys.is_empty() {
        log.unchecked
            .push("there is no public key to check the checkpoint with: give --public-key".to_owned());
    }
    let of_leaf = file.leaf.as_deref().map(leaf_hash);
    if let (Some(of_leaf), Some(told)) = (of_leaf, file.leaf_hash)
        && of_leaf != told
    {
        find(
            &mut log,
            Check::Proof,
            "the event",
            format!("leaf hash {}", told.to_base64()),
            of_leaf.to_base64(),
        );
    }
    let Some(hash) = of_leaf.or(file.leaf_hash) else {
        log.unchecked
            .push("the event itself is not there: give --event, or its JSON with the proof".to_owned());
        return ended(report, log, options);
    };
    let inclusion = verify_inclusion(&hash, file.proof.index, claimed.size, &file.proof.path, &claimed.root);
    if let Err(error) = inclusion {
        find(
            &mut log,
            Check::Proof,
            format!("leaf {}", file.proof.index),
            "an audit path to the checkpoint's root",
            error,
        );
    }
    if !keys.is_empty() {
        match Checkpoint::open(&file.proof.checkpoint, &keys) {
            Ok(_) => log.checkpoints = 1,
            Err(error) => {
                find(&mut log, Check::Signature, "the checkpoint", "a valid signature of a known key", error)
            }
        }
    }
    if let Some(policy) = &options.terms.policy
        && let Ok(note) = Note::parse(&file.proof.checkpoint)
    {
        let judged = policy.judge(&note);
        for bad in &judged.bad {
            find(&mut log, Check::Witness, "the checkpoint", "valid cosignatures", bad);
        }
        log.witnesses = judged.shown();
        if !judged.is_satisfied {
            log.unchecked
                .push(format!("the witnesses the policy asks for have not cosigned: {}", judged.missing()));
        }
    }
    if let Some(record) = file.leaf.clone().and_then(|leaf| Record::from_leaf(leaf).ok()) {
        record.tenant.as_str().clone_into(&mut log.tenant);
        log.notes.push(format!(
            "event {} is leaf {} of {}",
            record.id.shown(),
            file.proof.index,
            claimed.size
        ));
    } else {
        log.notes.push(format!(
            "only the hash of the event was given: it is leaf {} of {}",
            file.proof.index, claimed.size
        ));
    }
    log.root = Some(claimed.root.to_base64());
    log.leaves_proven = 1;
    report.basis = if options.pinned.is_empty() { Basis::KeyFromFolder } else { Basis::PinnedKey };
    ended(report, log, options)
}

/// What is known about the event a receipt is of.
pub enum Evidence {
    /// It is in the log, with this leaf.
    Sealed(Hash),
    /// It is not in the log, all of which was seen as it was at a time; `None` if nobody knows when that was.
    Absent(Option<Timestamp>),
    /// Not all of the log was seen.
    Unknown(String),
}

impl Evidence {
    /// What a log that was verified tells of the event that was looked for in it.
    pub fn of_log(log: &LogReport) -> Evidence {
        match log.found {
            Some((hash, true)) => Evidence::Sealed(hash),
            // A leaf that nobody has signed yet is no kept promise.
            Some((_, false)) => Evidence::Unknown("the event's leaf is under no checkpoint yet".to_owned()),
            None if log.leaves_expired > 0 => {
                Evidence::Unknown(format!("{} leaves of the log have expired", log.leaves_expired))
            }
            // That leaves at the end are not signed yet takes nothing from having seen them.
            None if log.unchecked.len() > usize::from(log.leaves_unsigned > 0) => Evidence::Unknown(format!(
                "the event was not found, and not all of the log could be checked: {}",
                log.unchecked.join("; ")
            )),
            None => Evidence::Absent(log.stated_at.max(log.sealed_at)),
        }
    }
}

/// Holds a receipt against what became of its event. `of_log` is the report on the log or bundle it was looked for in.
pub fn judge_receipt(
    text: &str,
    receipt_keys: &[PublicKey],
    of_log: &Report,
    evidence: &Evidence,
    options: &Options,
) -> Report {
    let (mut report, mut log) = begun(options);
    report.basis = of_log.basis;
    let keys: Vec<[u8; 32]> = receipt_keys.iter().map(|key| key.0).collect();
    let receipt = match Receipt::open(text, &keys) {
        Ok(receipt) => receipt,
        Err(error) if keys.is_empty() => {
            log.unchecked.push(format!("no public key for receipts is known: {error}"));
            return ended(report, log, options);
        }
        Err(error) => {
            find(&mut log, Check::Receipt, "the receipt", "a valid signature of a key for receipts", error);
            return ended(report, log, options);
        }
    };
    receipt.tenant.as_str().clone_into(&mut log.tenant);
    log.origin = Some(receipt.origin.to_string());
    for other in &of_log.logs {
        if other.origin.as_deref() == log.origin.as_deref() {
            log.root.clone_from(&other.root);
            log.stated_at = other.stated_at;
        }
    }
    let of_its_log = of_log.logs.iter().find(|other| other.origin.as_deref() == log.origin.as_deref());
    let Some(of_its_log) = of_its_log else {
        log.unchecked.push(match evidence {
            Evidence::Unknown(why) => why.clone(),
            Evidence::Sealed(_) | Evidence::Absent(_) => {
                format!("there is no log `{}` to look for the event in", receipt.origin)
            }
        });
        return ended(report, log, options);
    };
    // A log that is refuted decides nothing, and says so itself; one that could not be checked to its end may decide.
    if of_its_log.verdict == Verdict::Refuted {
        log.unchecked.push("the log the event was looked for in is refuted: verify that first".to_owned());
        return ended(report, log, options);
    }
    log.unchecked.extend(of_its_log.unmet.clone());
    let (id, due) = (receipt.id.shown(), receipt.due());
    match evidence {
        Evidence::Sealed(hash) if *hash == receipt.leaf_hash => {
            log.leaves_proven = 1;
            log.notes.push(format!("kept: event {id} is in the log as it was acknowledged"));
        }
        Evidence::Sealed(hash) => find(
            &mut log,
            Check::Receipt,
            format!("event {id}"),
            format!("leaf hash {}, as acknowledged", receipt.leaf_hash.to_base64()),
            format!("{}: this is evidence against the operator", hash.to_base64()),
        ),
        Evidence::Absent(Some(seen)) if *seen > due => find(
            &mut log,
            Check::Receipt,
            format!("event {id}"),
            format!("that it is in the log by {due}, as was promised"),
            format!("a log without it at {seen}: this is evidence against the operator"),
        ),
        Evidence::Absent(Some(seen)) => {
            log.unchecked.push(format!("the event is promised by {due}; the log was seen as of {seen}"));
        }
        Evidence::Absent(None) => {
            log.unchecked.push(format!("the event is promised by {due}; nobody states of when the log is"));
        }
        Evidence::Unknown(why) => log.unchecked.push(why.clone()),
    }
    ended(report, log, options)
}

fn keys_of(origin: &Origin, pinned: &[PublicKey]) -> Vec<VerifierKey> {
    pinned.iter().filter_map(|key| VerifierKey::new(origin.key_name(), &key.0)).collect()
}

fn begun(options: &Options) -> (Report, LogReport) {
    let basis = if options.pinned.is_empty() { Basis::KeyFromFolder } else { Basis::PinnedKey };
    let unknown = TenantId::parse("unknown").expect("a plain word is a tenant's id");
    let mut log = LogReport::new(&unknown, LogNumber(0));
    log.stated_by = options.stated_by();
    (Report { basis, ..Report::default() }, log)
}

/// One event is complete in itself.
fn ended(mut report: Report, mut log: LogReport, options: &Options) -> Report {
    log.judge(&options.terms);
    report.logs.push(log);
    report
}
