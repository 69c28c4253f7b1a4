//! `/v1/api-keys`: making, listing and revoking keys. A key's text is shown once, when it is made.
//!
//! Nobody gets more rights by it: a key hands on only scopes it has, and a bound key only its own tenant.

use crate::Query;
use crate::body::{Faults, members};
use crate::listing::time;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use stele::access::{ApiKey, Grant, KeyHash, KeyText, Scope};
use stele::id::TenantId;
use stele::query::tenant_parameter;
use stele::routes::{Parameters, PathParameters, Shown};
use stele::time::Timestamp;
use stele::{Code, Error, Result};
use stele_adapters::http::{Response, json};

const TENANT: [&str; 2] = ["tenant_id", "organization_id"];
const NAME_CHARS_MAX: usize = 100;

#[derive(Serialize)]
struct KeyAnswer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    key_id: &'a str,
    tenant_id: Option<&'a str>,
    scopes: &'a [Scope],
    name: &'a str,
    #[serde(serialize_with = "time")]
    created_at: Timestamp,
    revoked_at: Option<String>,
}

impl<'a> KeyAnswer<'a> {
    fn new(key: &'a ApiKey, text: Option<&'a str>) -> KeyAnswer<'a> {
        KeyAnswer {
            key: text,
            key_id: &key.key_id,
            tenant_id: key.tenant.as_ref().map(TenantId::as_str),
            scopes: &key.scopes,
            name: &key.name,
            created_at: Timestamp::from_ms(key.created_ms),
            revoked_at: key.revoked_ms.map(|ms| Timestamp::from_ms(ms).to_string()),
        }
    }
}

/// What a body may ask for.
struct Wanted {
    tenant: Option<TenantId>,
    scopes: Vec<Scope>,
    name: String,
}

impl Query {
    pub(crate) async fn create_api_key(
        &self,
        grant: &Grant,
        parameters: &Parameters,
        body: &[u8],
    ) -> Result<Response> {
        parameters.only(&[])?;
        let wanted = Wanted::parse(body)?;
        let tenant = match (grant.bound_tenant(), &wanted.tenant) {
            (None, None) => None,
            (_, named) => Some(grant.choose(named.as_ref(), "tenant_id")?),
        };
        if let Some(scope) = wanted.scopes.iter().find(|scope| !grant.also(**scope)) {
            let detail =
                format!("a key cannot hand on the scope `{}`, which it does not have", scope.as_str());
            return Err(Error::new(Code::InsufficientScope, detail));
        }
        let mut random = [0; 40];
        self.random.fill(&mut random);
        let text = KeyText::new(&self.env, &random);
        let key = ApiKey {
            key_id: text.key_id,
            tenant,
            scopes: wanted.scopes,
            name: wanted.name,
            created_ms: self.clock.now().ms(),
            revoked_ms: None,
        };
        self.keys.create_api_key(KeyHash::of(&text.text), &key).await?;
        Ok(json(StatusCode::CREATED, &KeyAnswer::new(&key, Some(&text.text))))
    }

    pub(crate) async fn api_keys(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&TENANT)?;
        let named = tenant_parameter(parameters)?;
        let only = match (grant.bound_tenant(), &named) {
            (None, None) => None,
            (_, named) => Some(grant.choose(named.as_ref(), "tenant_id")?),
        };
        let keys = self.keys.api_keys().await?;
        let visible = keys.iter().filter(|key| only.is_none() || key.tenant == only);
        let shown: Vec<_> = visible.map(|key| KeyAnswer::new(key, None)).collect();
        Ok(json(StatusCode::OK, &serde_json::json!({"api_keys": shown})))
    }

    pub(crate) async fn revoke_api_key(
        &self,
        grant: &Grant,
        path: &PathParameters,
        parameters: &Parameters,
    ) -> Result<Response> {
        parameters.only(&[])?;
        let unknown = || Error::new(Code::NotFound, "there is no such API key");
        let id = path.value("key_id");
        let keys = self.keys.api_keys().await?;
        let own =
            |key: &&ApiKey| grant.bound_tenant().is_none() || key.tenant.as_ref() == grant.bound_tenant();
        keys.iter().filter(own).find(|key| key.key_id == id).ok_or_else(unknown)?;
        let key = self.keys.revoke_api_key(id, self.clock.now()).await?.ok_or_else(unknown)?;
        self.authenticator.forget_revoked(id);
        Ok(json(StatusCode::OK, &KeyAnswer::new(&key, None)))
    }
}

impl Wanted {
    fn parse(body: &[u8]) -> Result<Wanted> {
        let members = members(body)?;
        let mut wanted = Wanted { tenant: None, scopes: Vec::new(), name: String::new() };
        let mut faults = Faults::default();
        for (name, value) in &members {
            match (name.as_str(), value) {
                ("tenant_id" | "name", Value::Null) => {}
                ("tenant_id", Value::String(text)) => match TenantId::parse(text) {
                    Some(id) => wanted.tenant = Some(id),
                    None => faults.problem(
                        "/tenant_id",
                        "bad_value",
                        format!("`{}` cannot be a tenant's id", Shown(text)),
                    ),
                },
                ("name", Value::String(text)) if text.chars().count() <= NAME_CHARS_MAX => {
                    wanted.name = text.clone();
                }
                ("scopes", Value::Array(items)) => {
                    for (at, item) in items.iter().enumerate() {
                        match item.as_str().and_then(Scope::parse) {
                            Some(scope) if wanted.scopes.contains(&scope) => {}
                            Some(scope) => wanted.scopes.push(scope),
                            None => faults.problem(format!("/scopes/{at}"), "bad_value", not_a_scope(item)),
                        }
                    }
                }
                ("tenant_id" | "name", _) => faults.problem(
                    format!("/{name}"),
                    "bad_value",
                    format!("`{name}` must be a string of at most {NAME_CHARS_MAX} characters"),
                ),
                ("scopes", _) => {
                    faults.problem("/scopes", "bad_value", "`scopes` must be a list of scopes".into());
                }
                (other, _) => faults.unknown_field(other),
            }
        }
        if !members.contains_key("scopes") || wanted.scopes.is_empty() && faults.is_empty() {
            faults.problem("/scopes", "required", "`scopes` must name at least one scope".to_owned());
        }
        faults.refuse("no key was made")?;
        Ok(wanted)
    }
}

fn not_a_scope(item: &Value) -> String {
    let known = Scope::ALL.iter().map(|scope| format!("`{}`", scope.as_str())).collect::<Vec<_>>().join(", ");
    format!("`{}` is not one of {known}", Shown(item.as_str().unwrap_or("that")))
}
