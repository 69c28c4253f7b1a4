//! What was acknowledged and had to be refused later, by tenant and in the order of sending.

use super::item::{Item, Reader, item, s};
use stele::id::TenantId;
use stele::refusal::{Refusal, RefusalFacts, RefusalId};
use stele::{Code, Error, Result};

const KIND: &str = "table of control, refusal";
/// The partition of what no tenant could be found for.
pub(super) const UNASSIGNED: &str = "refused";

/// The partition of a tenant's refusals.
pub(super) fn partition(tenant: Option<&TenantId>) -> String {
    match tenant {
        Some(tenant) => format!("{UNASSIGNED}#{tenant}"),
        None => UNASSIGNED.to_owned(),
    }
}

/// The item.
pub(super) fn encode(refusal: &Refusal) -> Result<Item> {
    let json = serde_json::to_string(&refusal.facts)
        .map_err(|e| Error::new(Code::Internal, "writing a refusal").with_source(e))?;
    let pk = s(partition(refusal.tenant.as_ref()));
    Ok(item([("pk", pk), ("sk", s(refusal.id.as_str())), ("json", s(json))]))
}

/// The refusal of an item, which must be of the tenant whose partition was read.
pub(super) fn decode(tenant: Option<&TenantId>, item: &Item) -> Result<Refusal> {
    let reader = Reader::new(KIND, item);
    let (pk, sk) = (reader.s("pk")?, reader.s("sk")?);
    if pk != partition(tenant) {
        return Err(reader.corrupt("pk", &format!("`{}`", partition(tenant)), format!("`{pk}`")));
    }
    let facts: RefusalFacts =
        serde_json::from_str(reader.s("json")?).map_err(|e| reader.corrupt("json", "a refusal", e))?;
    let id = RefusalId::parse(sk)
        .ok_or_else(|| reader.corrupt("sk", "a time and a message", format!("`{sk}`")))?;
    Ok(Refusal { id, tenant: tenant.cloned(), facts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::refusals::sample;
    use crate::contract::sample::tenant;

    #[test]
    fn a_refusal_comes_back_to_its_own_tenant_only() {
        let (acme, globex) = (tenant("acme"), tenant("globex"));
        for refusal in [sample(Some(&acme), 1), sample(None, 1)] {
            let item = encode(&refusal).unwrap();
            assert_eq!(decode(refusal.tenant.as_ref(), &item).unwrap(), refusal);
            assert_eq!(decode(Some(globex.id()), &item).unwrap_err().code(), Code::Corrupt);
        }
    }
}
