//! What holds for the whole installation: what new tenants get, as JSON.

use super::item::{Item, Reader, item, s};
use stele::retention::PlatformRetention;
use stele::{Code, Error, Result};

const KIND: &str = "table of control, settings of retention";

/// Its key.
pub(super) fn key() -> Item {
    item([("pk", s("settings")), ("sk", s("retention"))])
}

/// The item.
pub(super) fn encode(retention: &PlatformRetention) -> Result<Item> {
    let json = serde_json::to_string(retention)
        .map_err(|e| Error::new(Code::Internal, "writing the settings of retention").with_source(e))?;
    let mut item = key();
    item.insert("json".to_owned(), s(json));
    Ok(item)
}

/// The settings of an item.
pub(super) fn decode(item: &Item) -> Result<PlatformRetention> {
    let reader = Reader::new(KIND, item);
    serde_json::from_str(reader.s("json")?).map_err(|e| reader.corrupt("json", "settings of retention", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back() {
        let retention = PlatformRetention { class_days: 365, hot_days: 40 };
        assert_eq!(decode(&encode(&retention).unwrap()).unwrap(), retention);
    }
}
