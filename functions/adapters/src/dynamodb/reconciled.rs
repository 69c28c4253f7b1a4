//! A tenant's watermark of reconciliation.

use super::item::{Item, Reader, item, n, s};
use stele::access::Tenant;
use stele::ports::Reconciled;
use stele::time::Day;
use stele::{Code, Error, Result};

const KIND: &str = "table of control, watermark of reconciliation";
/// The day, `YYYY-MM-DD`, so that the order of texts is that of days.
pub(super) const THROUGH: &str = "through";

/// Its key.
pub(super) fn key(tenant: &Tenant) -> Item {
    item([("pk", s(format!("policy#{}", tenant.id()))), ("sk", s("reconciled"))])
}

/// The item.
pub(super) fn encode(tenant: &Tenant, reconciled: &Reconciled) -> Result<Item> {
    let problems = serde_json::to_string(&reconciled.problems)
        .map_err(|e| Error::new(Code::Internal, "writing a watermark").with_source(e))?;
    let mut item = key(tenant);
    item.insert(THROUGH.to_owned(), s(reconciled.through.to_string()));
    item.insert("at".to_owned(), n(reconciled.at.ms()));
    item.insert("problems".to_owned(), s(problems));
    Ok(item)
}

/// The watermark of an item.
pub(super) fn decode(item: &Item) -> Result<Reconciled> {
    let reader = Reader::new(KIND, item);
    let through = reader.s(THROUGH)?;
    Ok(Reconciled {
        through: Day::parse(through).map_err(|_| reader.corrupt(THROUGH, "a day", format!("`{through}`")))?,
        at: reader.time("at")?,
        problems: serde_json::from_str(reader.s("problems")?)
            .map_err(|e| reader.corrupt("problems", "a list of texts", e))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::tenant;
    use stele::time::Timestamp;

    #[test]
    fn watermarks_come_back() {
        for problems in [vec![], vec!["`evt_1` is missing".to_owned(), "ü".to_owned()]] {
            let (through, at) = (Day::from_days(20_500), Timestamp::from_ms(1_771_200_000_001));
            let reconciled = Reconciled { through, at, problems };
            assert_eq!(decode(&encode(&tenant("acme"), &reconciled).unwrap()).unwrap(), reconciled);
        }
    }
}
