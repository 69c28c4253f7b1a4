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
use stele::tlog::witness::{AddCheckpoint, Evidence, Recorded, Refusal};
use stele_adapters::clock::{SystemClock, SystemRandom};

const KEY: &str = "key";
const LOGS: &str = "logs";
const EVIDENCE: &str = "evidence";
/// Ends the names of files that are under way. One that is left over was interrupted, and nothing was answered for it.
const UNDER_WAY: &str = "new";
/// Pieces of evidence that are kept of each kind: whoever sends them must not fill the disk, and proofs that somebody else has broken
/// must not push out what only the log itself can have signed.
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
        sync(folder).map_err(|e| failed("make", e))?;
        let claim = File::create(folder.join("lock")).map_err(|e| failed("open", e))?;
        claim.try_lock().map_err(|e| {
            Failure::CouldNot(format!("another witness works in `{}` ({e})", folder.display()))
        })?;
        for part in [folder, &folder.join(LOGS), &folder.join(EVIDENCE)] {
            remove_under_way(part).map_err(|e| failed("tidy", e))?;
        }
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
        let before = read_checkpoint(&path)?;
        let recorded = before.as_ref().map(|(has, _)| Recorded { size: has.size, root: has.root });
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
                if let Some(kind) = refusal.evidence() {
                    self.keep_evidence(kind, request, before.map(|(_, note)| note))?;
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
            if entry.file_name().to_str().and_then(Hash::from_hex).is_none() {
                continue;
            }
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

    /// Keeps a signed checkpoint that does not continue the cosigned one, as it was sent, with the cosigned one beside it: that
    /// record goes on as the log grows, and only the two together show anything. One of each pair is enough.
    fn keep_evidence(
        &self,
        kind: Evidence,
        request: &AddCheckpoint,
        cosigned: Option<Note>,
    ) -> io::Result<()> {
        let kind = match kind {
            Evidence::TwoRoots => "two-roots",
            Evidence::NoProof => "no-proof",
        };
        let cosigned = cosigned.map(|note| note.to_string()).unwrap_or_default();
        // The signed text only: anybody may add signatures of keys nobody knows.
        let pair = format!("{}\n{cosigned}", request.checkpoint.text());
        let stem = format!("{kind}-{}", Hash::of(pair.as_bytes()));
        let folder = self.folder.join(EVIDENCE);
        let mut kept = 0;
        for entry in fs::read_dir(&folder)? {
            let name = entry?.file_name();
            let is_of_kind = |name: &str| name.starts_with(kind) && name.ends_with(".request");
            kept += usize::from(name.to_str().is_some_and(is_of_kind));
        }
        let path = folder.join(&stem).with_extension("request");
        if kept >= EVIDENCE_MAX || path.exists() {
            return Ok(());
        }
        if !cosigned.is_empty() {
            write_durably(&path.with_extension("cosigned"), cosigned.as_bytes())?;
        }
        write_durably(&path, request.to_string().as_bytes())
    }
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

/// Writes a file so that it is there, whole, whatever happens from here on. A crash before the renaming leaves what was there before,
/// and a file under way.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a file without a folder"))?;
    let under_way = path.with_extension(UNDER_WAY);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&under_way)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&under_way, path)?;
    sync(folder)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn remove_under_way(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == UNDER_WAY) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Its key: made, and on the disk whole, the first time.
fn seed(folder: &Path) -> io::Result<[u8; 32]> {
    let path = folder.join(KEY);
    match fs::read_to_string(&path) {
        Ok(text) => Hash::from_hex(text.trim())
            .map(|hash| *hash.as_bytes())
            .ok_or_else(|| io::Error::other("64 hexadecimal digits are expected")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            SystemRandom.fill(&mut seed);
            write_durably(&path, format!("{}\n", Hash::from_bytes(seed)).as_bytes())?;
            Ok(seed)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele::tlog::hash::{TreeSize, leaf_hash};
    use stele::tlog::proof::consistency_proof;
    use stele::tlog::tree::RightEdge;

    const SEED: [u8; 32] = [3; 32];

    fn open(folder: &Path) -> State {
        let installation = Some(("log.example".to_owned(), vec![PublicKey::of_seed(&SEED)]));
        let name = KeyName::parse("witness.example/w1").unwrap();
        State::open(folder, name, Known { logs: Vec::new(), installation }).unwrap()
    }

    fn request(history: u64, old: u64, new: u64) -> AddCheckpoint {
        let leaves: Vec<Hash> =
            (0..new).map(|n| leaf_hash(&[n, history * (n / 4)].map(u64::to_be_bytes).concat())).collect();
        let mut edge = RightEdge::empty();
        edge.extend(leaves.iter().copied());
        let origin = Origin::new("log.example", "a").unwrap();
        let signer = origin.signer(&SEED);
        let note = Checkpoint::new(origin, edge.size(), edge.root()).sign(&signer).unwrap();
        let (old, new) = (TreeSize::new(old), TreeSize::new(new));
        let proof = match old {
            TreeSize::ZERO => Vec::new(),
            _ => consistency_proof(&leaves, old, new).unwrap_or_default(),
        };
        AddCheckpoint { old, proof, checkpoint: Note::parse(note).unwrap() }
    }

    fn evidence(folder: &Path, kind: &str, end: &str) -> Vec<String> {
        let names = fs::read_dir(folder.join(EVIDENCE)).unwrap().map(|entry| entry.unwrap().path());
        let of_kind = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(kind) && name.ends_with(end)
        };
        names.filter(of_kind).map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn what_a_crash_left_half_written_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path());
        let key = state.key().clone();
        state.add(&request(0, 0, 6)).unwrap().unwrap();
        let path = state.path_of(&Origin::new("log.example", "a").unwrap());
        let (left, half_key) =
            (path.with_extension(UNDER_WAY), folder.path().join(KEY).with_extension(UNDER_WAY));
        fs::write(&left, "log.exa").unwrap();
        assert!(state.seen().unwrap().starts_with("log.example/a 6 "), "another request is writing");
        drop(state);
        fs::write(&half_key, "12").unwrap();
        let state = open(folder.path());
        assert_eq!(state.key(), &key);
        assert!(!left.exists() && !half_key.exists());
        state.add(&request(0, 6, 9)).unwrap().unwrap();
        assert!(state.seen().unwrap().starts_with("log.example/a 9 "));
        // A record that is damaged is no record to begin anew from.
        fs::write(&path, "log.exa").unwrap();
        assert!(state.add(&request(1, 0, 4)).is_err() && state.add(&request(0, 9, 12)).is_err());
    }

    #[test]
    fn evidence_is_both_checkpoints_and_stays_when_the_log_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path());
        state.add(&request(0, 0, 6)).unwrap().unwrap();
        let (cosigned, forked) = (request(0, 0, 6).checkpoint.to_string(), request(1, 6, 6));
        for _ in 0..3 {
            assert_eq!(state.add(&forked).unwrap(), Err(Refusal::OtherRoot(TreeSize::new(6))));
        }
        state.add(&request(0, 6, 9)).unwrap().unwrap();
        assert_eq!(evidence(folder.path(), "two-roots", ".request"), [forked.to_string()]);
        assert_eq!(evidence(folder.path(), "two-roots", ".cosigned"), [cosigned]);
    }

    #[test]
    fn proofs_that_anybody_can_break_leave_room_for_evidence() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path());
        state.add(&request(0, 0, 6)).unwrap().unwrap();
        for n in 0..50_u64 {
            let broken = AddCheckpoint { proof: vec![leaf_hash(&n.to_be_bytes())], ..request(0, 6, 9) };
            assert_eq!(state.add(&broken).unwrap(), Err(Refusal::NotConsistent));
        }
        assert_eq!(evidence(folder.path(), "no-proof", ".request").len(), 1, "one of each pair is enough");
        for n in 0..EVIDENCE_MAX {
            fs::write(folder.path().join(EVIDENCE).join(format!("no-proof-{n}.request")), "").unwrap();
        }
        assert_eq!(state.add(&request(1, 6, 9)).unwrap(), Err(Refusal::NotConsistent));
        assert!(evidence(folder.path(), "no-proof", ".request").len() <= EVIDENCE_MAX + 1);
        assert!(state.add(&request(1, 6, 6)).unwrap().is_err());
        assert_eq!(evidence(folder.path(), "two-roots", ".request").len(), 1);
    }

    #[test]
    fn only_the_owner_reads_the_key() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let _state = open(folder.path());
        let mode = fs::metadata(folder.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
