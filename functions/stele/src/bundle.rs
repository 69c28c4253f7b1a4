//! Evidence bundles: what a customer hands to an auditor, in one file. What its parts are called and what its index says; how
//! events lie in it and how it is packed is the adapter's business.
//!
//! A bundle is a ZIP file without compression of these entries, in this order:
//!
//! ```text
//! README.txt       for the auditor
//! bundle.json      what this is: [`BundleInfo`]
//! checkpoint.txt   the signed checkpoint all proofs lead to, with the statement's and witnesses' cosignatures if there are any
//! keys.json        public keys and changes of the log's key: [`BundleKeys`]
//! verify.sql       checks the events with DuckDB alone
//! events.parquet   the events, each with its leaf and its audit path
//! SHA256SUMS       of all other entries, as `sha256sum -c` reads it
//! ```

use crate::error::{Code, Error, FieldProblem, Result};
use crate::id::TenantId;
use crate::public_key::{PublicKey, PublishedKeys, Purpose};
use crate::query::{Filter, ListRequest};
use crate::routes::Parameters;
use crate::time::Timestamp;
use crate::tlog::hash::LeafIndex;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// Names of the entries, in their order.
pub const ENTRIES: [&str; 7] = [README, INFO, CHECKPOINT, KEYS, SQL, EVENTS, SUMS];
/// The auditor's page.
pub const README: &str = "README.txt";
/// What the bundle is.
pub const INFO: &str = "bundle.json";
/// The signed checkpoint.
pub const CHECKPOINT: &str = "checkpoint.txt";
/// Public keys.
pub const KEYS: &str = "keys.json";
/// The queries.
pub const SQL: &str = "verify.sql";
/// The events.
pub const EVENTS: &str = "events.parquet";
/// Hashes of the others.
pub const SUMS: &str = "SHA256SUMS";

/// The queries for DuckDB.
pub const VERIFY_SQL: &str = include_str!("bundle/verify.sql");
/// What an auditor reads first.
pub const README_TEXT: &str = include_str!("bundle/README.txt");

const VERSION: u32 = 1;

/// What a bundle is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleRequest {
    /// Filters by the names they have in `GET /v1/events`, in the order given; without any, everything.
    #[serde(default)]
    pub filter: Vec<(String, String)>,
    /// Also all events between the first and the last that match, so that it can be seen that none was left out.
    #[serde(default)]
    pub covering: bool,
    /// Only leaves from this index on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_leaf: Option<u64>,
    /// Only leaves below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_leaf: Option<u64>,
}

impl BundleRequest {
    /// Whether a leaf lies in the range that was asked for.
    pub fn spans(&self, index: LeafIndex) -> bool {
        self.from_leaf.is_none_or(|from| from <= index.to_u64())
            && self.until_leaf.is_none_or(|until| index.to_u64() < until)
    }

    /// Whether all events from the first to the last are in it.
    pub fn covers_all(&self) -> bool {
        self.covering || self.filter.is_empty()
    }

    /// The filter, as asked when the bundle was made.
    ///
    /// # Errors
    /// `bad_parameter` or `bad_filter`, naming what is wrong.
    pub fn filter(&self, made_at: Timestamp) -> Result<Filter> {
        const NOT_HERE: [&str; 6] = ["tenant_id", "organization_id", "order", "limit", "cursor", "offset"];
        if let Some((name, _)) = self.filter.iter().find(|(name, _)| NOT_HERE.contains(&name.as_str())) {
            return Err(crate::routes::bad_parameter(
                name,
                "unknown_parameter",
                format!("`{name}` is no filter"),
            ));
        }
        let parameters = Parameters::from_pairs(self.filter.clone());
        let filter = ListRequest::parse(&parameters, made_at)?.filter;
        if filter.needs_state() {
            let detail = "`is` has no place in a bundle: where an event stood can't be seen from it later";
            let problem = FieldProblem {
                pointer: "q".to_owned(),
                code: "not_provable",
                detail: detail.to_owned(),
                suggestion: None,
            };
            return Err(Error::new(Code::BadFilter, detail).with_problems(vec![problem]));
        }
        Ok(filter)
    }
}

/// The index of a bundle. It claims; what it claims is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleInfo {
    /// Of this form: 1.
    pub version: u32,
    /// Whose events.
    pub tenant_id: String,
    /// Which of the tenant's logs.
    pub log: u32,
    /// The log's origin.
    pub origin: String,
    /// The size of the tree the proofs lead to.
    pub tree_size: u64,
    /// Its root, in base64.
    pub root: String,
    /// What was asked for.
    pub request: BundleRequest,
    /// Index of the first leaf in it.
    pub first: u64,
    /// The end of the leaves in it: one more than the last index.
    pub end: u64,
    /// How many leaves are in it.
    pub leaves: u64,
    /// How many of them match the filter.
    pub matches: u64,
    /// Leaves of the log that have expired: no bundle can hold them.
    pub expired: u64,
    /// When it was made.
    pub made_at: String,
}

impl BundleInfo {
    /// Of the present form.
    pub const VERSION: u32 = VERSION;

    /// The text.
    pub fn to_text(&self) -> String {
        pretty(self)
    }

    /// Reads a text that [`BundleInfo::to_text`] wrote, and no other.
    ///
    /// # Errors
    /// `corrupt`, with what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<BundleInfo> {
        let info: BundleInfo = read(INFO, bytes)?;
        if info.version != VERSION {
            let told = format!("a bundle of version {} needs a newer program", info.version);
            return Err(Error::new(Code::Corrupt, told));
        }
        if TenantId::parse(&info.tenant_id).is_none() {
            return Err(Error::corrupt(INFO, "a tenant's id", "another text"));
        }
        same(INFO, &info.to_text(), bytes)?;
        Ok(info)
    }
}

/// The keys of a bundle. They prove that all is of one hand; whose, only a key from elsewhere can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleKeys {
    keys: Vec<KeyEntry>,
    /// Signed changes of the log's key, in order.
    pub key_changes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    purpose: String,
    algorithm: String,
    public_key: String,
}

const ALGORITHM: &str = "Ed25519";

impl BundleKeys {
    /// From what an installation publishes.
    pub fn new(published: &PublishedKeys, key_changes: Vec<String>) -> BundleKeys {
        let entry = |(purpose, key): (Purpose, PublicKey)| KeyEntry {
            purpose: purpose.as_str().to_owned(),
            algorithm: ALGORITHM.to_owned(),
            public_key: STANDARD.encode(key.0),
        };
        BundleKeys { keys: published.all().map(entry).collect(), key_changes }
    }

    /// The keys, by what they sign.
    ///
    /// # Errors
    /// `corrupt` if one is no key.
    pub fn published(&self) -> Result<PublishedKeys> {
        let mut published = PublishedKeys::default();
        for entry in &self.keys {
            let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.as_str() == entry.purpose);
            let key = STANDARD.decode(&entry.public_key).ok().and_then(|bytes| bytes.try_into().ok());
            match (purpose, key, entry.algorithm.as_str()) {
                (Some(purpose), Some(key), ALGORITHM) => published.push(purpose, PublicKey(key)),
                _ => return Err(Error::corrupt(KEYS, "public keys with what they sign", "another entry")),
            }
        }
        Ok(published)
    }

    /// The text.
    pub fn to_text(&self) -> String {
        pretty(self)
    }

    /// Reads a text that [`BundleKeys::to_text`] wrote, and no other.
    ///
    /// # Errors
    /// `corrupt`, with what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<BundleKeys> {
        let keys: BundleKeys = read(KEYS, bytes)?;
        same(KEYS, &keys.to_text(), bytes)?;
        Ok(keys)
    }
}

fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("texts and numbers always serialise");
    text.push('\n');
    text
}

fn read<'a, T: Deserialize<'a>>(at: &str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::corrupt(at, "JSON of the form bundles have", e))
}

fn same(at: &str, expected: &str, found: &[u8]) -> Result<()> {
    match expected.as_bytes() == found {
        true => Ok(()),
        false => Err(Error::corrupt(at, "the one spelling of what it says", "another")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::public_key::SigningSeeds;

    fn info() -> BundleInfo {
        BundleInfo {
            version: 1,
            tenant_id: "acme".to_owned(),
            log: 0,
            origin: "stele.example/0123".to_owned(),
            tree_size: 9,
            root: "AAAA".to_owned(),
            request: BundleRequest {
                filter: vec![("actor_id".to_owned(), "u1".to_owned())],
                covering: true,
                until_leaf: Some(8),
                ..BundleRequest::default()
            },
            first: 2,
            end: 8,
            leaves: 6,
            matches: 2,
            expired: 0,
            made_at: "2026-05-01T00:00:00.000Z".to_owned(),
        }
    }

    #[test]
    fn index_and_keys_come_back_and_have_one_spelling() {
        let text = info().to_text();
        assert_eq!(BundleInfo::parse(text.as_bytes()).unwrap(), info());
        let keys =
            BundleKeys::new(&PublishedKeys::of(&SigningSeeds::one([1; 32]), &[2; 32]), vec!["x".to_owned()]);
        let keys_text = keys.to_text();
        assert_eq!(BundleKeys::parse(keys_text.as_bytes()).unwrap(), keys);
        assert_eq!(keys.published().unwrap(), PublishedKeys::of(&SigningSeeds::one([1; 32]), &[2; 32]));
        for bad in [
            text.replace("  ", " "),
            text.replace("\"version\": 1", "\"version\": 2"),
            text.replace("acme", "a/b"),
        ] {
            assert!(BundleInfo::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(BundleKeys::parse(keys_text.trim_end().as_bytes()).is_err());
    }

    #[test]
    fn a_request_has_the_filters_of_a_listing_and_nothing_else_of_it() {
        let request = |name: &str, value: &str| BundleRequest {
            filter: vec![(name.to_owned(), value.to_owned())],
            ..BundleRequest::default()
        };
        assert!(request("action", "invoice.*").filter(Timestamp::default()).is_ok());
        for (name, value) in
            [("limit", "5"), ("tenant_id", "acme"), ("nonsense", "x"), ("from", "x"), ("cursor", "x")]
        {
            assert!(request(name, value).filter(Timestamp::default()).is_err(), "{name}");
        }
    }

    #[test]
    fn the_page_for_auditors_names_every_entry() {
        for entry in ENTRIES {
            assert!(README_TEXT.contains(entry), "{entry}");
        }
        assert!(README_TEXT.is_ascii() && !README_TEXT.contains("  \n"));
    }
}
