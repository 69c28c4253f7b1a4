//! Errands: what a schedule asks compact and reconcile to do, one message per tenant. A tenant's name is nearly all they
//! say, since what is to be done follows from what is stored; a message too many costs a look.

use crate::error::{Code, Error, Result};
use crate::id::TenantId;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A visit to a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// Whose objects are to be looked at.
    pub tenant: TenantId,
    /// The day under way counts as closed: what waits is compacted now, into smaller files than need be.
    pub close_today: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    #[serde(borrow)]
    tenant_id: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    close_today: bool,
}

impl Errand {
    /// The usual one.
    pub fn to(tenant: TenantId) -> Errand {
        Errand { tenant, close_today: false }
    }

    /// As a queue's message.
    pub fn message(&self) -> String {
        let text = Text { tenant_id: self.tenant.as_str().into(), close_today: self.close_today };
        serde_json::to_string(&text).expect("two plain members are JSON")
    }

    /// From a queue's message.
    ///
    /// # Errors
    /// `corrupt` for anything else.
    pub fn parse(message: &str) -> Result<Errand> {
        let text: Option<Text<'_>> = serde_json::from_str(message).ok();
        let errand = text.and_then(|text| {
            let tenant = TenantId::parse(&text.tenant_id)?;
            Some(Errand { tenant, close_today: text.close_today })
        });
        errand.ok_or_else(|| Error::new(Code::Corrupt, "an errand's message names no tenant"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errands_come_back() {
        let errand = Errand::to(TenantId::parse("org_acme-1.x").unwrap());
        assert_eq!(errand.message(), r#"{"tenant_id":"org_acme-1.x"}"#);
        for errand in [Errand { close_today: true, ..errand.clone() }, errand] {
            assert_eq!(Errand::parse(&errand.message()).unwrap(), errand);
        }
        for bad in ["", "{}", r#"{"tenant_id":"../x"}"#, r#"{"tenant_id":"a","b":1}"#, "[]"] {
            assert!(Errand::parse(bad).is_err(), "{bad}");
        }
    }
}
