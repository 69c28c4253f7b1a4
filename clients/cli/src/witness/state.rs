//! What a witness keeps: its key, the last checkpoint it cosigned of each log, and evidence against logs that have two histories.
//!
//! A record is on the disk for good before its cosignature leaves: a crash in between costs an answer, never the memory.

use crate::show::Failure;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use stele::ports::{Clock, Random};
use stele::public_key::PublicKey;
use stele::tlog::checkpoint::{Checkpoint, Origin};
use stele::tlog::cosignature::{Cosigner, CosignerKey};
use stele::tlog::hash::Hash;
use stele::tlog::note::{KeyName, Note, NoteSignature, VerifierKey};
use stele::tlog::witness::{AddCheckpoint, Recorded, Refusal};
use stele_adapters::clock::{SystemClock, SystemRandom};

const KEY: &str = "key";
const LOGS: &str = "logs";
const EVIDENCE: &str = "evidence";
/// Pieces of evidence that are kept: whoever sends them must not fill the disk.
const EVIDENCE_MAX: usize = 1_000;

/// The logs that are followed.
pub(super) struct Known {
    /// One by one.
    pub(super) logs: Vec<VerifierKey>,
    /// All of an installation: its log name and its keys.
    pub(super) installation: Option<(String, Vec<PublicKey>)>,
}

impl Known {
    fn keys_of(&self, origin: &Origin) -> Vec<VerifierKey> {
        let name = origin.key_name();
        let mut keys: Vec<VerifierKey> =
            self.logs.iter().filter(|key| key.name() == &name).cloned().collect();
        if let Some((log_name, public)) = &self.installation
            && origin.log_name() == log_name
        {
            keys.extend(public.iter().filter_map(|key| VerifierKey::new(name.clone(), &key.0)));
        }
        keys
    }
}

/// A witness's memory.
pub(super) struct State {
    folder: PathBuf,
    cosigner: Cosigner,
    known: Known,
    /// One checkpoint at a time: looking and writing must not be interrupted by another.
    turn: Mutex<()>,
    /// Held as long as the process lives: two of them would not see each other's records.
    _claim: File,
}

impl State {
    /// Opens the folder, and makes it with a new key if it is not there.
    pub(super) fn open(folder: &Path, name: KeyName, known: Known) -> Result<State, Failure> {
        let failed =
            |what: &str, e: io::Error| Failure::could_not(format!("{what} `{}`", folder.display()), e);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| failed("make", e))?;
        for part in [LOGS, EVIDENCE] {
            fs::create_dir_all(folder.join(part)).map_err(|e| failed("make", e))?;
        }
        let claim = File::create(folder.join("lock")).map_err(|e| failed("open", e))?;
        claim.try_lock().map_err(|e| {
            Failure::CouldNot(format!("another witness works in `{}` ({e})", folder.display()))
        })?;
        let seed = seed(folder).map_err(|e| failed("read the key in", e))?;
        Ok(State {
            folder: folder.to_owned(),
            cosigner: Cosigner::new(name, &seed),
            known,
            turn: Mutex::new(()),
            _claim: claim,
        })
    }

    /// What checks its cosignatures.
    pub(super) fn key(&self) -> &CosignerKey {
        self.cosigner.key()
    }

    /// Decides on a checkpoint; the cosignature, once the record is kept.
    pub(super) fn add(&self, request: &AddCheckpoint) -> io::Result<Result<NoteSignature, Refusal>> {
        let Ok(claimed) = Checkpoint::parse(request.checkpoint.text()) else {
            return Ok(Err(Refusal::UnknownLog));
        };
        let keys = self.known.keys_of(&claimed.origin);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path_of(&claimed.origin);
        let recorded = read_recorded(&path)?;
        match request.judge(&keys, recorded.as_ref()) {
            Ok(checkpoint) => {
                let seconds = SystemClock.now().ms() / 1000;
                let cosignature = self.cosigner.cosign(request.checkpoint.text(), seconds);
                let is_new = recorded.is_none_or(|recorded| recorded.size != checkpoint.size);
                if is_new {
                    write_durably(&path, request.checkpoint.to_string().as_bytes())?;
                }
                Ok(Ok(cosignature))
            }
            Err(refusal) => {
                if refusal.is_evidence() {
                    self.keep_evidence(request)?;
                }
                Ok(Err(refusal))
            }
        }
    }

    /// What it has seen, as text.
    pub(super) fn seen(&self) -> io::Result<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.folder.join(LOGS))? {
            let entry = entry?;
            if let Some((checkpoint, _)) = read_checkpoint(&entry.path())? {
                let modified: std::time::SystemTime = entry.metadata()?.modified()?;
                let seconds =
                    modified.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let at = stele::time::Timestamp::from_ms(seconds.saturating_mul(1000));
                lines.push(format!(
                    "{} {} {} {at}\n",
                    checkpoint.origin,
                    checkpoint.size,
                    checkpoint.root.to_base64()
                ));
            }
        }
        lines.sort();
        Ok(lines.concat())
    }

    fn path_of(&self, origin: &Origin) -> PathBuf {
        self.folder.join(LOGS).join(Hash::of(origin.as_str().as_bytes()).to_string())
    }

    /// A signed checkpoint that does not continue the one it has is worth keeping: the log itself signed it.
    fn keep_evidence(&self, request: &AddCheckpoint) -> io::Result<()> {
        let folder = self.folder.join(EVIDENCE);
        if fs::read_dir(&folder)?.count() < EVIDENCE_MAX {
            let text = request.to_string();
            let name = Hash::of(text.as_bytes()).to_string();
            write_durably(&folder.join(name), text.as_bytes())?;
        }
        Ok(())
    }
}

fn read_recorded(path: &Path) -> io::Result<Option<Recorded>> {
    Ok(read_checkpoint(path)?
        .map(|(checkpoint, _)| Recorded { size: checkpoint.size, root: checkpoint.root }))
}

/// A record. One that can't be read is an error: taken for none, it would let a log begin anew.
fn read_checkpoint(path: &Path) -> io::Result<Option<(Checkpoint, Note)>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let damaged = || io::Error::other(format!("the record `{}` is damaged", path.display()));
    let note = Note::parse(&bytes).map_err(|_| damaged())?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|_| damaged())?;
    Ok(Some((checkpoint, note)))
}

/// Writes a file so that it is there, whole, whatever happens from here on.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a file without a folder"))?;
    let under_way = path.with_extension("new");
    let mut file = File::create(&under_way)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&under_way, path)?;
    File::open(folder)?.sync_all()
}

fn seed(folder: &Path) -> io::Result<[u8; 32]> {
    let path = folder.join(KEY);
    match fs::read_to_string(&path) {
        Ok(text) => Hash::from_hex(text.trim())
            .map(|hash| *hash.as_bytes())
            .ok_or_else(|| io::Error::other("64 hexadecimal digits are expected")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            SystemRandom.fill(&mut seed);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            writeln!(file, "{}", Hash::from_bytes(seed))?;
            file.sync_all()?;
            File::open(folder)?.sync_all()?;
            Ok(seed)
        }
        Err(e) => Err(e),
    }
}
