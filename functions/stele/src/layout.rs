//! Keys of locked objects: built here, parsed here, nowhere else.

use crate::access::LogNumber;
use crate::archive::Month;
use crate::id::TenantId;
use crate::time::Timestamp;
use crate::tlog::hash::{LeafIndex, TreeSize};
use std::fmt;

/// What a locked object is, which is all its key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// Leaves from `first` on. No date in the key: two writers on two sides of midnight must collide.
    Segment {
        /// Whose.
        tenant: TenantId,
        /// Of which log.
        log: LogNumber,
        /// The first leaf's index.
        first: LeafIndex,
    },
    /// Leaves from `first` on, in the archive. The month is that of `first`'s segment, so that two writers collide here too.
    Archive {
        /// Whose.
        tenant: TenantId,
        /// Of which log.
        log: LogNumber,
        /// The month its first segment was sealed in.
        month: Month,
        /// The first leaf's index.
        first: LeafIndex,
    },
    /// The hashes that outlive the leaves of the archive's file with the same first leaf.
    Tiles {
        /// Whose.
        tenant: TenantId,
        /// Of which log.
        log: LogNumber,
        /// The first leaf's index.
        first: LeafIndex,
    },
    /// The signed checkpoint of a size.
    Checkpoint {
        /// Whose.
        tenant: TenantId,
        /// Of which log.
        log: LogNumber,
        /// Of which tree size.
        size: TreeSize,
    },
    /// The signed list of a file of the archive and its tiles, at the size the file ends at.
    ArchiveManifest {
        /// Whose.
        tenant: TenantId,
        /// Of which log.
        log: LogNumber,
        /// Of which tree size.
        size: TreeSize,
    },
    /// The signed list of what is new at a size.
    Manifest {
        /// Whose.
        tenant: TenantId,
        /// Of which log.
        log: LogNumber,
        /// Of which tree size.
        size: TreeSize,
    },
    /// The signed word that a log's key changes, at the first size the new one signs.
    KeyChange {
        /// Whose.
        tenant: TenantId,
        /// Of which log.
        log: LogNumber,
        /// From which tree size on.
        size: TreeSize,
    },
    /// A checkpoint with the signed word that nothing came after it until a time, and with what witnesses signed of it.
    Statement {
        /// Whose.
        tenant: TenantId,
        /// Of which log.
        log: LogNumber,
        /// The hour in which it was made, by its beginning.
        hour: Timestamp,
    },
    /// A public key with its purpose, as a JSON text.
    PublicKey {
        /// The key's id in hexadecimal.
        key_id: String,
    },
    /// A secret of the installation, encrypted under a key that is not in the bucket: whoever has both can rebuild.
    WrappedSecret {
        /// What it is for: lower-case letters and digits.
        purpose: String,
    },
}

/// The key of a locked object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// As stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the key names; `None` for a key we would not have made.
    pub fn parse(text: &str) -> Option<Object> {
        let object = parse(text)?;
        (object.key().0 == text).then_some(object)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where all segments lie.
pub const SEGMENTS: &str = "segments/";
/// Where the archive lies.
pub const ARCHIVE: &str = "archive/";
/// Where the hashes that outlive leaves lie.
pub const TILES: &str = "tiles/";
/// Where all checkpoints and manifests lie.
pub const CHECKPOINTS: &str = "checkpoints/";
/// Where the changes of logs' keys lie.
pub const KEY_CHANGES: &str = "key-changes/";
/// Where statements lie.
pub const STATEMENTS: &str = "statements/";
/// Where public keys lie.
pub const PUBLIC_KEYS: &str = "keys/";
/// Where wrapped secrets lie.
pub const WRAPPED_SECRETS: &str = "secrets/";

/// The prefix of a log's segments.
pub fn segments_of(tenant: &TenantId, log: LogNumber) -> String {
    format!("{SEGMENTS}tenant_id={tenant}/log={log}/")
}

/// The prefix of a log's files in the archive. Months rise with leaves, so that the order of keys is that of leaves.
pub fn archive_of(tenant: &TenantId, log: LogNumber) -> String {
    format!("{ARCHIVE}tenant_id={tenant}/log={log}/")
}

/// The prefix of a log's tiles.
pub fn tiles_of(tenant: &TenantId, log: LogNumber) -> String {
    format!("{TILES}tenant_id={tenant}/log={log}/")
}

/// The prefix of a log's checkpoints and manifests.
pub fn checkpoints_of(tenant: &TenantId, log: LogNumber) -> String {
    format!("{CHECKPOINTS}tenant_id={tenant}/log={log}/")
}

/// The prefix of the changes of a log's key.
pub fn key_changes_of(tenant: &TenantId, log: LogNumber) -> String {
    format!("{KEY_CHANGES}tenant_id={tenant}/log={log}/")
}

/// The prefix of a log's statements. Their order is that of time.
pub fn statements_of(tenant: &TenantId, log: LogNumber) -> String {
    format!("{STATEMENTS}tenant_id={tenant}/log={log}/")
}

/// Characters of an hour in a key: `2026-05-01T14`.
const HOUR_CHARACTERS: usize = 13;

/// The beginning of the hour a time lies in.
pub fn hour_of(time: Timestamp) -> Timestamp {
    const HOUR_MS: u64 = 60 * 60 * 1000;
    Timestamp::from_ms(time.ms() / HOUR_MS * HOUR_MS)
}

impl Object {
    /// Its key. Numbers have 20 digits, so that the order of keys is the order of numbers.
    pub fn key(&self) -> ObjectKey {
        ObjectKey(match self {
            Object::Segment { tenant, log, first } => {
                format!("{}{:020}.parquet", segments_of(tenant, *log), first.to_u64())
            }
            Object::Archive { tenant, log, month, first } => {
                format!("{}month={month}/{:020}.parquet", archive_of(tenant, *log), first.to_u64())
            }
            Object::Tiles { tenant, log, first } => {
                format!("{}{:020}.tiles", tiles_of(tenant, *log), first.to_u64())
            }
            Object::Checkpoint { tenant, log, size } => {
                format!("{}{:020}", checkpoints_of(tenant, *log), size.to_u64())
            }
            Object::ArchiveManifest { tenant, log, size } => {
                format!("{}{:020}.archive.manifest", checkpoints_of(tenant, *log), size.to_u64())
            }
            Object::Manifest { tenant, log, size } => {
                format!("{}{:020}.manifest", checkpoints_of(tenant, *log), size.to_u64())
            }
            Object::KeyChange { tenant, log, size } => {
                format!("{}{:020}.key", key_changes_of(tenant, *log), size.to_u64())
            }
            Object::Statement { tenant, log, hour } => {
                let hour = hour.to_string();
                format!("{}{}.checkpoint", statements_of(tenant, *log), &hour[..HOUR_CHARACTERS])
            }
            Object::PublicKey { key_id } => format!("{PUBLIC_KEYS}{key_id}.json"),
            Object::WrappedSecret { purpose } => format!("{WRAPPED_SECRETS}{purpose}.wrapped"),
        })
    }
}

fn parse(text: &str) -> Option<Object> {
    if let Some(rest) = text.strip_prefix(SEGMENTS) {
        let (tenant, log, name) = log_path(rest)?;
        let first = LeafIndex::new(number(name.strip_suffix(".parquet")?)?);
        return Some(Object::Segment { tenant, log, first });
    }
    if let Some(rest) = text.strip_prefix(ARCHIVE) {
        let (tenant, log, rest) = log_path(rest)?;
        let (month, name) = rest.strip_prefix("month=")?.split_once('/')?;
        let first = LeafIndex::new(number(name.strip_suffix(".parquet")?)?);
        return Some(Object::Archive { tenant, log, month: Month::parse(month)?, first });
    }
    if let Some(rest) = text.strip_prefix(TILES) {
        let (tenant, log, name) = log_path(rest)?;
        let first = LeafIndex::new(number(name.strip_suffix(".tiles")?)?);
        return Some(Object::Tiles { tenant, log, first });
    }
    if let Some(rest) = text.strip_prefix(CHECKPOINTS) {
        let (tenant, log, name) = log_path(rest)?;
        if let Some(size) = name.strip_suffix(".archive.manifest") {
            return Some(Object::ArchiveManifest { tenant, log, size: TreeSize::new(number(size)?) });
        }
        return Some(match name.strip_suffix(".manifest") {
            Some(size) => Object::Manifest { tenant, log, size: TreeSize::new(number(size)?) },
            None => Object::Checkpoint { tenant, log, size: TreeSize::new(number(name)?) },
        });
    }
    if let Some(rest) = text.strip_prefix(KEY_CHANGES) {
        let (tenant, log, name) = log_path(rest)?;
        let size = TreeSize::new(number(name.strip_suffix(".key")?)?);
        return Some(Object::KeyChange { tenant, log, size });
    }
    if let Some(rest) = text.strip_prefix(STATEMENTS) {
        let (tenant, log, name) = log_path(rest)?;
        let hour = name.strip_suffix(".checkpoint").filter(|hour| hour.len() == HOUR_CHARACTERS)?;
        let hour = Timestamp::parse(&format!("{hour}:00:00.000Z")).ok()?;
        return Some(Object::Statement { tenant, log, hour });
    }
    if let Some(rest) = text.strip_prefix(WRAPPED_SECRETS) {
        let purpose = rest.strip_suffix(".wrapped")?;
        let fits =
            !purpose.is_empty() && purpose.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        return fits.then(|| Object::WrappedSecret { purpose: purpose.to_owned() });
    }
    let key_id = text.strip_prefix(PUBLIC_KEYS)?.strip_suffix(".json")?;
    let fits = !key_id.is_empty() && key_id.bytes().all(|c| c.is_ascii_alphanumeric());
    fits.then(|| Object::PublicKey { key_id: key_id.to_owned() })
}

fn log_path(rest: &str) -> Option<(TenantId, LogNumber, &str)> {
    let (tenant, rest) = rest.strip_prefix("tenant_id=")?.split_once('/')?;
    let (log, name) = rest.strip_prefix("log=")?.split_once('/')?;
    Some((TenantId::parse(tenant)?, LogNumber(log.parse().ok()?), name))
}

fn number(digits: &str) -> Option<u64> {
    (digits.len() == 20 && digits.bytes().all(|c| c.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_parse_back(tenant in "[A-Za-z0-9][A-Za-z0-9_.-]{0,30}", log: u32, n: u64) {
            let tenant = TenantId::parse(&tenant).unwrap();
            let log = LogNumber(log);
            for object in [
                Object::Segment { tenant: tenant.clone(), log, first: LeafIndex::new(n) },
                Object::Archive {
                    tenant: tenant.clone(),
                    log,
                    month: Month::of(crate::time::Timestamp::from_ms(n % 4_000_000_000_000)),
                    first: LeafIndex::new(n),
                },
                Object::Tiles { tenant: tenant.clone(), log, first: LeafIndex::new(n) },
                Object::Checkpoint { tenant: tenant.clone(), log, size: TreeSize::new(n) },
                Object::ArchiveManifest { tenant: tenant.clone(), log, size: TreeSize::new(n) },
                Object::Manifest { tenant: tenant.clone(), log, size: TreeSize::new(n) },
                Object::KeyChange { tenant: tenant.clone(), log, size: TreeSize::new(n) },
                Object::Statement {
                    tenant: tenant.clone(),
                    log,
                    hour: hour_of(Timestamp::from_ms(n % 4_000_000_000_000)),
                },
            ] {
                prop_assert_eq!(ObjectKey::parse(object.key().as_str()), Some(object));
            }
        }

        #[test]
        fn any_text_is_a_key_or_not(text in "(segments/|archive/|tiles/|checkpoints/|key-changes/|statements/|keys/|secrets/)?(tenant_id=)?\\PC{0,60}") {
            let _ = ObjectKey::parse(&text);
        }
    }

    #[test]
    fn a_key_we_would_not_have_made_is_nobodys() {
        for bad in [
            "segments/tenant_id=a/log=00/00000000000000000000.parquet",
            "segments/tenant_id=a/log=0/0.parquet",
            "segments/tenant_id=../log=0/00000000000000000000.parquet",
            "segments/tenant_id=a/log=0/x/00000000000000000000.parquet",
            "archive/tenant_id=a/log=0/00000000000000000000.parquet",
            "archive/tenant_id=a/log=0/month=2026-13/00000000000000000000.parquet",
            "tiles/tenant_id=a/log=0/00000000000000000000",
            "statements/tenant_id=a/log=0/2026-05-01T24.checkpoint",
            "statements/tenant_id=a/log=0/2026-05-01.checkpoint",
            "keys/../x.json",
            "secrets/.wrapped",
            "secrets/../x.wrapped",
        ] {
            assert_eq!(ObjectKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wrapped_secret_is_named_by_its_purpose() {
        let secret = Object::WrappedSecret { purpose: "signing".to_owned() };
        assert_eq!(secret.key().as_str(), "secrets/signing.wrapped");
        assert_eq!(ObjectKey::parse("secrets/signing.wrapped"), Some(secret));
    }
}
