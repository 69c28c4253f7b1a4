//! Keys: create, list and revoke API keys; change the key that checkpoints are signed with.

use crate::client::{Server, encode};
use crate::cloud::Place;
use crate::import::tenant;
use crate::show::{Clean, Failure, note, print, table};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use stele::access::Scope;
use stele::id::TenantId;

const PATH: &str = "/v1/api-keys";

/// Creates, lists and revokes API keys, and changes the key of checkpoints
#[derive(Args, Debug)]
pub(crate) struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Makes a key and prints it: it is shown this once
    Create {
        /// What people call it
        #[arg(long)]
        name: String,
        /// The tenant it is bound to; without one it is a platform key
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// What it may do; can be repeated [default: events:write, events:read, proofs:read]
        #[arg(long = "scope", value_parser = scope, value_name = "SCOPE")]
        scopes: Vec<Scope>,
        #[command(flatten)]
        server: Server,
    },
    /// Lists the keys, without their texts
    List {
        /// Only those of this tenant
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        server: Server,
    },
    /// Makes the first key of an installation in AWS, past its API: with every scope, for any tenant
    Bootstrap {
        /// What people call it
        #[arg(long)]
        name: String,
        /// Name of the installation
        #[arg(long, env = "STELE_INSTALLATION", default_value = "stele", value_name = "NAME")]
        installation: String,
        /// Stands in the key's text: letters and digits
        #[arg(long = "environment", default_value = "live", value_parser = environment, value_name = "WORD")]
        env: String,
        #[command(flatten)]
        place: Place,
    },
    /// Adds a checkpoint key to a data folder: `stele dev` hands every log over to it at its next start, for good
    Rotate {
        /// Data folder; nobody may work in it meanwhile
        #[arg(long, env = "STELE_DATA", default_value = "./.stele", value_name = "DIR")]
        data: PathBuf,
    },
    /// Revokes a key for good
    Revoke {
        /// Its id, as listed
        key_id: String,
        #[command(flatten)]
        server: Server,
    },
}

/// What most applications need.
const SCOPES: [Scope; 3] = [Scope::EventsWrite, Scope::EventsRead, Scope::ProofsRead];

fn scope(text: &str) -> Result<Scope, String> {
    let all = || Scope::ALL.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
    Scope::parse(text).ok_or_else(|| format!("there are {}", all()))
}

#[derive(Serialize)]
struct NewKey<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    scopes: Vec<&'a str>,
}

#[derive(Deserialize)]
struct CreatedKey {
    key: String,
    key_id: String,
}

#[derive(Deserialize)]
struct ListedKeys {
    api_keys: Vec<ListedKey>,
}

#[derive(Deserialize)]
struct ListedKey {
    key_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    tenant_id: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    revoked_at: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &Keys) -> Result<(), Failure> {
    match &args.command {
        Command::Create { name, tenant, scopes, server } => {
            let scopes = if scopes.is_empty() { &SCOPES[..] } else { scopes };
            let scopes = scopes.iter().map(|s| s.as_str()).collect();
            let key = NewKey { name, tenant_id: tenant.as_ref().map(TenantId::as_str), scopes };
            let body = serde_json::to_vec(&key).map_err(|e| Failure::could_not("write the request", e))?;
            let answer = server.client()?.post(PATH, &[("content-type", "application/json")], body)?;
            let created: CreatedKey = answer.into_json()?;
            print(Clean(&created.key))?;
            let id = Clean(&created.key_id);
            note(format!("keep it now, it is not shown again; to revoke it: stele keys revoke {id}"));
            Ok(())
        }
        Command::List { tenant, server } => {
            let query = tenant.as_ref().map(|t| ("tenant_id", t.as_str()));
            let listed: ListedKeys = server.client()?.get(PATH, query.as_slice())?.into_json()?;
            print(table(&rows(&listed.api_keys)))
        }
        Command::Bootstrap { name, installation, env, place } => bootstrap(name, installation, env, place),
        Command::Rotate { data } => {
            let keys = stele_local::add_checkpoint_key(data).map_err(|e| Failure::of(&e))?;
            print(format!(
                "there are {keys} checkpoint keys now; each log is handed over to the newest when something is sealed in it next, \
                 by a note that both keys sign (`GET /v1/log/keys`)"
            ))
        }
        Command::Revoke { key_id, server } => {
            let mut path = format!("{PATH}/");
            encode(&mut path, key_id);
            server.client()?.delete(&path, &[])?.into_body()?;
            print(format!("`{key_id}` is revoked; within a minute nobody accepts it any more"))
        }
    }
}

#[cfg(feature = "aws")]
fn bootstrap(name: &str, installation: &str, env: &str, place: &Place) -> Result<(), Failure> {
    let (key, key_id) = crate::runtime()?.block_on(async {
        let cloud = crate::cloud::Cloud::open(installation, place).await?;
        cloud.bootstrap_key(env, name).await.map_err(|e| Failure::of(&e))
    })?;
    print(key)?;
    note(format!("keep it now, it is not shown again; to revoke it: stele keys revoke {key_id}"));
    Ok(())
}

#[cfg(not(feature = "aws"))]
fn bootstrap(_: &str, _: &str, _: &str, _: &Place) -> Result<(), Failure> {
    Err(crate::cloud::without_aws())
}

/// What may stand in a key's text.
fn environment(text: &str) -> Result<String, String> {
    let fits = matches!(text.len(), 1..=20) && text.bytes().all(|c| c.is_ascii_alphanumeric());
    if fits { Ok(text.to_owned()) } else { Err("1 to 20 letters and digits are expected".to_owned()) }
}

fn rows(keys: &[ListedKey]) -> Vec<Vec<String>> {
    let header = ["KEY ID", "TENANT", "CREATED", "STATE", "NAME", "SCOPES"].map(str::to_owned).to_vec();
    let row = |key: &ListedKey| {
        let tenant = key.tenant_id.clone().unwrap_or_else(|| "(platform)".to_owned());
        let state = if key.revoked_at.is_some() { "revoked" } else { "valid" };
        let created = key.created_at.clone().unwrap_or_default();
        vec![key.key_id.clone(), tenant, created, state.to_owned(), key.name.clone(), key.scopes.join(" ")]
    };
    std::iter::once(header).chain(keys.iter().map(row)).collect()
}
