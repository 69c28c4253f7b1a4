//! The record of an export, as JSON with its revision beside it. And the name an export was asked for under.

use super::item::{Item, Reader, item, n, s};
use stele::access::Tenant;
use stele::export::Export;
use stele::{Code, Error, Result, limits};

const KIND: &str = "table of control, export";
const NAME_KIND: &str = "table of control, name of an export";
/// By which it is replaced.
pub(super) const REVISION: &str = "revision";
/// When a name was given.
pub(super) const GIVEN: &str = "given";

/// The partition of a tenant's exports.
pub(super) fn partition(tenant: &Tenant) -> String {
    format!("exports#{}", tenant.id())
}

/// Its key.
pub(super) fn key(tenant: &Tenant, id: &str) -> Item {
    item([("pk", s(partition(tenant))), ("sk", s(id))])
}

/// The item.
pub(super) fn encode(tenant: &Tenant, export: &Export) -> Result<Item> {
    let json = serde_json::to_string(export)
        .map_err(|e| Error::new(Code::Internal, "writing an export").with_source(e))?;
    let mut item = key(tenant, &export.id);
    item.insert("json".to_owned(), s(json));
    item.insert(REVISION.to_owned(), n(export.revision));
    Ok(item)
}

/// The export of an item.
pub(super) fn decode(item: &Item) -> Result<Export> {
    let reader = Reader::new(KIND, item);
    let export: Export =
        serde_json::from_str(reader.s("json")?).map_err(|e| reader.corrupt("json", "an export", e))?;
    let (sk, revision) = (reader.s("sk")?, reader.n(REVISION)?);
    if export.id != sk || export.revision != revision {
        let found = format!("revision {} of `{}`", export.revision, export.id);
        return Err(reader.corrupt("json", &format!("revision {revision} of `{sk}`"), found));
    }
    Ok(export)
}

/// The key of a name.
pub(super) fn name_key(tenant: &Tenant, name: &str) -> Item {
    item([("pk", s(format!("export-names#{}", tenant.id()))), ("sk", s(name))])
}

/// The item of a name. Its end is checked by whoever writes; the table's TTL only cleans up.
pub(super) fn encode_name(tenant: &Tenant, name: &str, export: &Export) -> Item {
    let mut item = name_key(tenant, name);
    item.insert("id".to_owned(), s(&export.id));
    item.insert(GIVEN.to_owned(), n(export.created_ms));
    item.insert("expires".to_owned(), n((export.created_ms + limits::REMEMBERED_MS).div_ceil(1000)));
    item
}

/// The id a name stands for.
pub(super) fn decode_name(item: &Item) -> Result<String> {
    let reader = Reader::new(NAME_KIND, item);
    Ok(reader.s("id")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::{export, tenant};

    #[test]
    fn exports_and_names_come_back() {
        let (tenant, export) = (tenant("acme"), export(1));
        assert_eq!(decode(&encode(&tenant, &export).unwrap()).unwrap(), export);
        assert_eq!(decode_name(&encode_name(&tenant, "x", &export)).unwrap(), export.id);
    }

    #[test]
    fn an_export_under_another_ones_id_or_revision_is_corrupt() {
        for (name, value) in [("sk", s("exp_0")), (REVISION, n(7))] {
            let mut item = encode(&tenant("acme"), &export(1)).unwrap();
            item.insert(name.into(), value);
            assert_eq!(decode(&item).unwrap_err().code(), Code::Corrupt);
        }
    }
}
