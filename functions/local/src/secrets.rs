//! The installation's secrets on disk: `DATA/secrets`, readable by its owner alone.
//!
//! What lies here is what a lost database can't bring back: the key checkpoints are signed with, the secret
//! from which ids and cursors follow, and the keys for trying things out.

use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use stele::access::{KeyText, Secrets};
use stele::error::{Code, Error, Result};
use stele::ports::Random;
use stele::public_key::{PublishedKeys, SigningSeeds};

const MASTER: &str = "master";
const SIGNING_SEED: &str = "signing-seed";
const DEV_KEYS: &str = "dev-keys.json";

/// A key to try things out with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevKey {
    /// Its text.
    pub text: String,
    /// The tenant it is bound to; none is a platform key.
    pub tenant: Option<String>,
}

/// All secrets of a data folder.
pub struct Stored {
    /// From which those of tenants follow.
    pub secrets: Secrets,
    /// The Ed25519 seeds checkpoints are signed with.
    pub seeds: SigningSeeds,
}

impl Stored {
    /// The public keys of what is signed here.
    pub fn public_keys(&self) -> PublishedKeys {
        PublishedKeys::of(&self.seeds, &self.secrets.receipt_seed())
    }
}

/// Secrets that are never written down: for `--memory`.
pub fn unstored(random: &dyn Random) -> Stored {
    let (mut master, mut signing_seed) = ([0; 32], [0; 32]);
    random.fill(&mut master);
    random.fill(&mut signing_seed);
    Stored { secrets: Secrets::new(master), seeds: SigningSeeds::one(signing_seed) }
}

/// Reads the secrets of a data folder, and makes those that are missing. `has_data` says that the folder holds a
/// log already: then a missing secret is an error, since a new one would start a second history.
pub fn open(data: &Path, random: &dyn Random, has_data: bool) -> Result<Stored> {
    let folder = folder(data)?;
    let secret = |name: &str| -> Result<[u8; 32]> {
        let path = folder.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => unhex(text.trim())
                .ok_or_else(|| Error::corrupt(path.display(), "64 hexadecimal digits", "something else")),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !has_data => {
                let mut bytes = [0; 32];
                random.fill(&mut bytes);
                let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                write_new(&path, text.as_bytes()).map_err(|e| failed("writing", &path, e))?;
                Ok(bytes)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::new(
                Code::Internal,
                format!("`{}` is missing, but there is a log that needs it: put it back", path.display()),
            )),
            Err(e) => Err(failed("reading", &path, e)),
        }
    };
    let master = secret(MASTER)?;
    let mut seeds = vec![secret(SIGNING_SEED)?];
    while folder.join(later_seed(seeds.len() + 1)).exists() {
        seeds.push(secret(&later_seed(seeds.len() + 1))?);
    }
    let seeds = SigningSeeds::new(seeds)
        .ok_or_else(|| Error::new(Code::Internal, "a data folder has at least one signing seed"))?;
    Ok(Stored { secrets: Secrets::new(master), seeds })
}

/// The file of a later seed; the first one has no number.
fn later_seed(generation: usize) -> String {
    format!("{SIGNING_SEED}-{generation}")
}

/// Makes one more seed to sign checkpoints with, and says how many there are then. Logs are handed over to it by whoever
/// seals next.
pub fn add_seed(data: &Path, random: &dyn Random) -> Result<usize> {
    let there = open(data, random, true)?.seeds.all().len();
    let path = folder(data)?.join(later_seed(there + 1));
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    write_new(&path, text.as_bytes()).map_err(|e| failed("writing", &path, e))?;
    Ok(there + 1)
}

/// The keys for trying things out, if the folder has any.
pub fn dev_keys(data: &Path) -> Result<Vec<DevKey>> {
    let path = data.join("secrets").join(DEV_KEYS);
    match fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(path.display(), "a list of keys", e))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(failed("reading", &path, e)),
    }
}

/// The keys for trying things out: those there are, or a platform key and one for `org_demo`, made now.
pub fn dev_keys_or_new(data: Option<&Path>, random: &dyn Random) -> Result<Vec<DevKey>> {
    if let Some(data) = data {
        let keys = dev_keys(data)?;
        if !keys.is_empty() {
            return Ok(keys);
        }
    }
    let key = |tenant: Option<&str>| {
        let mut bytes = [0; 40];
        random.fill(&mut bytes);
        DevKey { text: KeyText::new("dev", &bytes).text, tenant: tenant.map(str::to_owned) }
    };
    let keys = vec![key(None), key(Some("org_demo"))];
    if let Some(data) = data {
        let path = folder(data)?.join(DEV_KEYS);
        let bytes = serde_json::to_vec_pretty(&keys).expect("texts always serialise");
        write_new(&path, &bytes).map_err(|e| failed("writing", &path, e))?;
    }
    Ok(keys)
}

fn folder(data: &Path) -> Result<PathBuf> {
    let folder = data.join("secrets");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|e| failed("making", &folder, e))?;
    Ok(folder)
}

/// Writes a file that is either there as a whole after a crash, or not at all.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let half_written = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half_written)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&half_written, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::new(Code::Internal, format!("{doing} `{}`: {error}", path.display())).with_source(error)
}
