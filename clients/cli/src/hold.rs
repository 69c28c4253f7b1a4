//! Hold: place, list and release legal holds.

use crate::client::{Server, encode};
use crate::import::tenant;
use crate::show::{Clean, Failure, note, print, table};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use stele::id::TenantId;
use stele::ports::Random;
use stele_adapters::clock::SystemRandom;

const PATH: &str = "/v1/legal-holds";
const STATES: [&str; 4] = ["applying", "in_force", "releasing", "released"];

/// Places, lists and releases legal holds
#[derive(Args, Debug)]
pub(crate) struct Hold {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Keeps everything that occurred or was received in a range of time until the hold is released
    Place {
        /// Whose; a key bound to a tenant implies it
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// First time, included: RFC 3339 or a UTC day; without it from the beginning
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Last time, excluded; without it what is still to come is held too
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
        /// Why: a case, a matter, a request; it stands in the tenant's log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Makes a repeated command place no second hold [default: a new one]
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Lists holds, open ones first
    List {
        /// Whose; a key bound to a tenant implies it
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// Only those in this state; can be repeated
        #[arg(long = "state", value_parser = STATES)]
        states: Vec<String>,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Releases a hold for good: what it covers goes when its class is over
    Release {
        /// Its id, as listed
        id: String,
        /// Whose; a key bound to a tenant implies it
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Serialize)]
struct NewHold<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    reason: &'a str,
}

#[derive(Deserialize)]
struct Listed {
    legal_holds: Vec<ListedHold>,
}

#[derive(Deserialize)]
struct ListedHold {
    id: String,
    state: String,
    from: Option<String>,
    to: Option<String>,
    placed_at: String,
    #[serde(default)]
    reason: String,
    progress: Progress,
}

#[derive(Deserialize)]
struct Progress {
    checked: u64,
    objects: u64,
}

/// Runs it.
pub(crate) fn run(args: &Hold) -> Result<(), Failure> {
    match &args.command {
        Command::Place { tenant, from, to, reason, idempotency_key, server } => {
            let hold = NewHold {
                tenant_id: tenant.as_ref().map(TenantId::as_str),
                from: from.as_deref(),
                to: to.as_deref(),
                reason,
            };
            let key = idempotency_key.clone().unwrap_or_else(|| format!("hold-{:032x}", SystemRandom.bits()));
            let body = serde_json::to_vec(&hold).map_err(|e| Failure::could_not("write the request", e))?;
            let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
            let answer = server.client()?.post(PATH, &headers, body);
            let placed = answer.and_then(crate::client::Answer::into_json::<ListedHold>);
            if let Err(Failure::CouldNot(_)) = &placed {
                note(format!("whether it was placed is not known; to try again: --idempotency-key {key}"));
            }
            let placed = placed?;
            print(Clean(&placed.id))?;
            note(progress(&placed));
            Ok(())
        }
        Command::List { tenant, states, json, server } => {
            let mut query: Vec<(&str, &str)> = states.iter().map(|state| ("state", state.as_str())).collect();
            query.extend(named(tenant.as_ref()));
            let answer = server.client()?.get(PATH, &query)?;
            if *json {
                return print(String::from_utf8_lossy(&answer.into_body()?));
            }
            let listed: Listed = answer.into_json()?;
            match listed.legal_holds.is_empty() {
                true => print("no holds"),
                false => print(table(&rows(&listed.legal_holds))),
            }
        }
        Command::Release { id, tenant, server } => {
            let mut path = format!("{PATH}/");
            encode(&mut path, id);
            let query: Vec<_> = named(tenant.as_ref()).into_iter().collect();
            let released: ListedHold = server.client()?.delete(&path, &query)?.into_json()?;
            print(format!("`{}` is released for good", Clean(&released.id)))?;
            note(progress(&released));
            Ok(())
        }
    }
}

fn named(tenant: Option<&TenantId>) -> Option<(&str, &str)> {
    tenant.map(|t| ("tenant_id", t.as_str()))
}

fn progress(hold: &ListedHold) -> String {
    let Progress { checked, objects } = hold.progress;
    let state = Clean(&hold.state);
    format!("{state}: {checked} of {objects} objects; `stele hold list` says when all of them are done")
}

fn rows(holds: &[ListedHold]) -> Vec<Vec<String>> {
    let header = ["HOLD", "STATE", "OBJECTS", "FROM", "TO", "PLACED", "REASON"].map(str::to_owned).to_vec();
    let end = |time: &Option<String>| time.clone().unwrap_or_else(|| "(open)".to_owned());
    let row = |hold: &ListedHold| {
        let objects = format!("{}/{}", hold.progress.checked, hold.progress.objects);
        let (from, to) = (end(&hold.from), end(&hold.to));
        let (id, state, placed) = (hold.id.clone(), hold.state.clone(), hold.placed_at.clone());
        vec![id, state, objects, from, to, placed, hold.reason.clone()]
    };
    std::iter::once(header).chain(holds.iter().map(row)).collect()
}
