//! Strict reading of items: every attribute has the type and form we wrote, or the item is corrupt and the error
//! says where. It knows no kind of item.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::HashMap;
use std::fmt;
use stele::id::EventId;
use stele::time::Timestamp;
use stele::tlog::hash::{Hash, TreeSize};
use stele::{Error, Result};

/// An item as the SDK has it.
pub(super) type Item = HashMap<String, AttributeValue>;

/// A string attribute.
pub(super) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number attribute.
pub(super) fn n(number: impl fmt::Display) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// A binary attribute.
pub(super) fn b(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// Hashes, one after the other.
pub(super) fn hashes(hashes: impl IntoIterator<Item = Hash>) -> AttributeValue {
    b(hashes.into_iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<u8>>())
}

/// The hashes of bytes that [`hashes`] wrote; `None` if some byte is left over.
pub(super) fn hashes_of(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (chunks, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| chunks.iter().copied().map(Hash::from_bytes).collect())
}

/// An item under construction.
pub(super) fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An item being read, with the words for where it stands.
pub(super) struct Reader<'a> {
    kind: &'static str,
    item: &'a Item,
}

impl<'a> Reader<'a> {
    /// `kind` names table and kind of item.
    pub(super) fn new(kind: &'static str, item: &'a Item) -> Reader<'a> {
        Reader { kind, item }
    }

    /// What is wrong with an attribute. Values are shown only where they are ours and short, never payloads.
    pub(super) fn corrupt(&self, name: &str, expected: &str, found: impl fmt::Display) -> Error {
        Error::corrupt(format!("{}, attribute `{name}`", self.kind), expected, found)
    }

    fn wrong_type(&self, name: &str, expected: &str) -> Error {
        self.corrupt(name, expected, if self.item.contains_key(name) { "another type" } else { "nothing" })
    }

    /// A string.
    pub(super) fn s(&self, name: &str) -> Result<&'a str> {
        match self.item.get(name) {
            Some(AttributeValue::S(text)) => Ok(text),
            _ => Err(self.wrong_type(name, "a string")),
        }
    }

    /// Bytes.
    pub(super) fn b(&self, name: &str) -> Result<&'a [u8]> {
        match self.item.get(name) {
            Some(AttributeValue::B(bytes)) => Ok(bytes.as_ref()),
            _ => Err(self.wrong_type(name, "bytes")),
        }
    }

    /// A whole number from 0.
    pub(super) fn n(&self, name: &str) -> Result<u64> {
        match self.item.get(name) {
            Some(AttributeValue::N(digits)) => {
                digits.parse().map_err(|_| self.corrupt(name, "a whole number from 0", format!("`{digits}`")))
            }
            _ => Err(self.wrong_type(name, "a number")),
        }
    }

    /// A time in milliseconds.
    pub(super) fn time(&self, name: &str) -> Result<Timestamp> {
        let ms = self.n(name)?;
        let time = Timestamp::from_ms(ms);
        if time.ms() == ms {
            Ok(time)
        } else {
            Err(self.corrupt(name, "milliseconds before the year 10000", format!("`{ms}`")))
        }
    }

    /// A tree size.
    pub(super) fn size(&self, name: &str) -> Result<TreeSize> {
        self.n(name).map(TreeSize::new)
    }

    /// An event id.
    pub(super) fn event_id(&self, name: &str) -> Result<EventId> {
        let text = self.s(name)?;
        EventId::parse(text).ok_or_else(|| self.corrupt(name, "an event id", format!("`{text}`")))
    }

    /// Hashes, one after the other.
    pub(super) fn hashes(&self, name: &str) -> Result<Vec<Hash>> {
        let bytes = self.b(name)?;
        hashes_of(bytes).ok_or_else(|| self.corrupt(name, "whole hashes", format!("{} bytes", bytes.len())))
    }

    /// A hash.
    pub(super) fn hash(&self, name: &str) -> Result<Hash> {
        let bytes = self.b(name)?;
        let fixed = <[u8; 32]>::try_from(bytes);
        fixed
            .map(Hash::from_bytes)
            .map_err(|_| self.corrupt(name, "32 bytes", format!("{} bytes", bytes.len())))
    }
}
