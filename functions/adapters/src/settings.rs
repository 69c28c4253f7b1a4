//! Settings of deployed functions, from the environment: the one home of the variables' names. All that is wrong is
//! told at once, by name, with what is expected.

use crate::s3::LockMode;
use stele::public_key::PublishedKeys;
use stele::{Code, Error, Result};

/// Table of events.
pub const EVENTS_TABLE: &str = "STELE_EVENTS_TABLE";
/// Table for everything else.
pub const CONTROL_TABLE: &str = "STELE_CONTROL_TABLE";
/// Bucket of locked objects.
pub const ARCHIVE_BUCKET: &str = "STELE_ARCHIVE_BUCKET";
/// Bucket of exported files.
pub const EXPORT_BUCKET: &str = "STELE_EXPORT_BUCKET";
/// Function that reads the log for those that may not.
pub const QUERY_FUNCTION: &str = "STELE_QUERY_FUNCTION";
/// Queue of what could not be stored at once.
pub const SPILL_QUEUE_URL: &str = "STELE_SPILL_QUEUE_URL";
/// Queue of what could not be sealed.
pub const PARKING_QUEUE_URL: &str = "STELE_PARKING_QUEUE_URL";
/// Queue of tenants whose logs are to be compared with the hot store.
pub const RECONCILIATION_QUEUE_URL: &str = "STELE_RECONCILIATION_QUEUE_URL";
/// Queue of tenants whose segments are to go into the archive.
pub const COMPACTION_QUEUE_URL: &str = "STELE_COMPACTION_QUEUE_URL";
/// Queue of exports that are to be made.
pub const EXPORT_QUEUE_URL: &str = "STELE_EXPORT_QUEUE_URL";
/// KMS key that wraps secrets.
pub const KMS_KEY_ID: &str = "STELE_KMS_KEY_ID";
/// Name of the logs; their origins are this, a slash and a random id.
pub const LOG_NAME: &str = "STELE_LOG_NAME";
/// Stands in the text of API keys.
pub const ENV: &str = "STELE_ENV";
/// Object Lock mode.
pub const LOCK_MODE: &str = "STELE_LOCK_MODE";
/// Seconds between checkpoint objects of a log.
pub const PUBLISH_EVERY_SECONDS: &str = "STELE_PUBLISH_EVERY_SECONDS";
/// The wrapped master secret.
pub const MASTER_SECRET: &str = "STELE_MASTER_SECRET";
/// The wrapped seed of the checkpoint key.
pub const SIGNING_SEED: &str = "STELE_SIGNING_SEED";
/// The public keys checkpoints are signed with.
pub const PUBLIC_KEYS: &str = "STELE_PUBLIC_KEYS";

/// Witnesses that are asked to cosign, `<url> <key>` each, separated by newlines or semicolons; may be absent.
pub const WITNESSES: &str = "STELE_WITNESSES";

const PUBLISH_EVERY_SECONDS_MAX: u64 = 24 * 60 * 60;

/// Reads variables and collects what is wrong with them.
pub struct Settings<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    wrong: Vec<String>,
}

impl<'a> Settings<'a> {
    /// Of an environment.
    pub fn new(variable: &'a dyn Fn(&str) -> Option<String>) -> Settings<'a> {
        Settings { variable, wrong: Vec::new() }
    }

    /// A text, not empty.
    pub fn text(&mut self, name: &str) -> String {
        match (self.variable)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()) {
            Some(value) => value,
            None => {
                self.wrong.push(format!("`{name}` is not set"));
                String::new()
            }
        }
    }

    fn read<T: Default>(&mut self, name: &str, expected: &str, read: impl Fn(&str) -> Option<T>) -> T {
        let value = self.text(name);
        if value.is_empty() {
            return T::default();
        }
        read(&value).unwrap_or_else(|| {
            // A secret set in the wrong place must not end in a log: what was found is not shown.
            self.wrong.push(format!("`{name}` must be {expected}"));
            T::default()
        })
    }

    /// [`ENV`].
    pub fn env(&mut self) -> String {
        self.read(ENV, "1 to 20 letters and digits", |value| {
            let fits = value.len() <= 20 && value.bytes().all(|c| c.is_ascii_alphanumeric());
            fits.then(|| value.to_owned())
        })
    }

    /// [`LOCK_MODE`].
    pub fn lock_mode(&mut self) -> LockMode {
        self.read(LOCK_MODE, "COMPLIANCE or GOVERNANCE", LockMode::parse)
    }

    /// [`PUBLISH_EVERY_SECONDS`], in milliseconds.
    pub fn publish_every_ms(&mut self) -> u64 {
        let expected = format!("a number from 0 to {PUBLISH_EVERY_SECONDS_MAX}");
        let seconds: u64 = self.read(PUBLISH_EVERY_SECONDS, &expected, |value| {
            value.parse().ok().filter(|seconds| *seconds <= PUBLISH_EVERY_SECONDS_MAX)
        });
        seconds * 1000
    }

    /// [`PUBLIC_KEYS`], as [`PublishedKeys::to_text`] writes them.
    pub fn public_keys(&mut self) -> PublishedKeys {
        let expected = "public keys as `<purpose>:<base64>`, separated by commas";
        self.read(PUBLIC_KEYS, expected, PublishedKeys::parse)
    }

    /// Whether all was as it must be.
    ///
    /// # Errors
    /// `internal`, with everything that is wrong.
    pub fn finish(self) -> Result<()> {
        match self.wrong.is_empty() {
            true => Ok(()),
            false => Err(Error::new(
                Code::Internal,
                format!("the function's environment is not what it must be: {}", self.wrong.join("; ")),
            )),
        }
    }
}

/// A variable of this process's environment.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele::public_key::SigningSeeds;

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_no_value_is_shown() {
        let environment = |name: &str| match name {
            LOCK_MODE => Some("compliance".to_owned()),
            PUBLISH_EVERY_SECONDS => Some("1h".to_owned()),
            PUBLIC_KEYS => Some("c2VjcmV0".to_owned()),
            ENV => Some("live".to_owned()),
            _ => None,
        };
        let mut settings = Settings::new(&environment);
        settings.text(EVENTS_TABLE);
        assert_eq!(settings.env(), "live");
        settings.lock_mode();
        settings.publish_every_ms();
        settings.public_keys();
        let text = settings.finish().unwrap_err().to_string();
        for name in [EVENTS_TABLE, LOCK_MODE, PUBLISH_EVERY_SECONDS, PUBLIC_KEYS] {
            assert!(text.contains(name), "{name}: {text}");
        }
        assert!(!text.contains(ENV) && !text.contains("c2Vj"), "{text}");
    }

    #[test]
    fn public_keys_are_read() {
        let keys = PublishedKeys::of(&SigningSeeds::one([7; 32]), &[8; 32]);
        let environment = |_: &str| Some(keys.to_text());
        let mut settings = Settings::new(&environment);
        assert_eq!(settings.public_keys(), keys);
        settings.finish().unwrap();
    }
}
