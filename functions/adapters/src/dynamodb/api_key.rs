//! An API key, found by the hash of its text, and the entry by which keys are listed and revoked by id.

use super::item::{Item, Reader, item, s};
use stele::access::{ApiKey, KeyHash};
use stele::tlog::hash::Hash;
use stele::{Code, Error, Result};

const KIND: &str = "table of control, API key";
const LISTED: &str = "table of control, listed API key";
/// The partition of the listing.
pub(super) const LISTING: &str = "keys";

fn hex(hash: KeyHash) -> String {
    Hash::from_bytes(hash.0).to_string()
}

/// Its key.
pub(super) fn key(hash: KeyHash) -> Item {
    item([("pk", s(format!("key#{}", hex(hash)))), ("sk", s("key"))])
}

/// The item.
pub(super) fn encode(hash: KeyHash, api_key: &ApiKey) -> Result<Item> {
    let json = serde_json::to_string(api_key)
        .map_err(|e| Error::new(Code::Internal, "writing an API key").with_source(e))?;
    let mut item = key(hash);
    item.insert("json".to_owned(), s(json));
    Ok(item)
}

/// The API key of an item.
pub(super) fn decode(item: &Item) -> Result<ApiKey> {
    let reader = Reader::new(KIND, item);
    serde_json::from_str(reader.s("json")?).map_err(|e| reader.corrupt("json", "an API key", e))
}

/// The key of a listing's entry.
pub(super) fn listed_key(key_id: &str) -> Item {
    item([("pk", s(LISTING)), ("sk", s(key_id))])
}

/// A listing's entry.
pub(super) fn encode_listed(hash: KeyHash, key_id: &str) -> Item {
    let mut item = listed_key(key_id);
    item.insert("hash".to_owned(), s(hex(hash)));
    item
}

/// The hash in a listing's entry.
pub(super) fn decode_listed(item: &Item) -> Result<KeyHash> {
    let reader = Reader::new(LISTED, item);
    let text = reader.s("hash")?;
    let hash =
        Hash::from_hex(text).ok_or_else(|| reader.corrupt("hash", "64 hexadecimal digits", "others"))?;
    Ok(KeyHash(*hash.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::api_key;

    #[test]
    fn keys_and_their_listing_come_back() {
        let (hash, api_key) = (KeyHash::of("some text"), api_key("k1"));
        assert_eq!(decode(&encode(hash, &api_key).unwrap()).unwrap(), api_key);
        assert_eq!(decode_listed(&encode_listed(hash, "k1")).unwrap(), hash);
    }
}
