//! Query: a few lines of a tenant's log, newest first. Also its checkpoint.

use crate::client::Server;
use crate::import::tenant;
use crate::show::{Failure, note, print, table};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use stele::id::TenantId;
use stele::limits::PAGE_LIMIT_MAX;

/// Shows events, newest first
#[derive(Args, Debug)]
pub(crate) struct Query {
    /// Whose; a key bound to a tenant implies it
    #[arg(long, value_parser = tenant)]
    tenant: Option<TenantId>,
    /// Of this actor, by id; can be repeated
    #[arg(long, value_name = "ID")]
    actor: Vec<String>,
    /// With this action, or with `prefix.*`; can be repeated
    #[arg(long)]
    action: Vec<String>,
    /// With this text in action, names, ids, description or metadata
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// From this time on
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// How many at the most
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print whole events, as NDJSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Prints the current signed checkpoint; keep it for `stele verify --since`
#[derive(Args, Debug)]
pub(crate) struct Checkpoint {
    /// Whose log; a key bound to a tenant implies it
    #[arg(long, value_parser = tenant)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    server: Server,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Value>,
    #[serde(default)]
    next_cursor: Option<String>,
}

/// Runs `stele query`.
pub(crate) fn run(args: &Query) -> Result<(), Failure> {
    let client = args.server.client()?;
    let mut filters: Vec<(&str, &str)> = Vec::new();
    filters.extend(args.tenant.as_ref().map(|t| ("tenant_id", t.as_str())));
    filters.extend(args.actor.iter().map(|a| ("actor_id", a.as_str())));
    filters.extend(args.action.iter().map(|a| ("action", a.as_str())));
    let one = [("search", &args.search), ("from", &args.from), ("to", &args.to)];
    filters.extend(one.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))));

    let mut left = args.limit as usize;
    let mut cursor: Option<String> = None;
    let mut rows = vec![
        ["OCCURRED", "ACTOR", "ACTION", "RESOURCE", "OUTCOME", "STATE", "ID"].map(str::to_owned).to_vec(),
    ];
    loop {
        let limit = left.min(PAGE_LIMIT_MAX).to_string();
        let mut query = filters.clone();
        query.push(("limit", &limit));
        query.extend(cursor.as_deref().map(|c| ("cursor", c)));
        let page: Page = client.get("/v1/events", &query)?.into_json()?;
        for event in page.events.iter().take(left) {
            if args.json { print(event)? } else { rows.push(row(event)) }
        }
        left -= page.events.len().min(left);
        cursor = page.next_cursor;
        if left == 0 || cursor.is_none() {
            break;
        }
    }
    if args.json {
        return Ok(());
    }
    if rows.len() == 1 {
        note("no events found");
        return Ok(());
    }
    print(table(&rows))?;
    if cursor.is_some() {
        note(format!("there may be more: --limit {}", u64::from(args.limit) * 2));
    }
    Ok(())
}

fn row(event: &Value) -> Vec<String> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let either = |first: &str, second: &str| match text(first) {
        "" => text(second).to_owned(),
        text => text.to_owned(),
    };
    let resource = match (text("/resource/type"), text("/resource/id")) {
        ("", id) => id.to_owned(),
        (kind, id) => format!("{kind} {id}"),
    };
    vec![
        text("/occurred_at").to_owned(),
        either("/actor/email", "/actor/id"),
        text("/action").to_owned(),
        resource,
        text("/outcome").to_owned(),
        text("/integrity/state").to_owned(),
        text("/id").to_owned(),
    ]
}

/// Runs `stele checkpoint`.
pub(crate) fn checkpoint(args: &Checkpoint) -> Result<(), Failure> {
    let query = args.tenant.as_ref().map(|t| ("tenant_id", t.as_str()));
    let body = args.server.client()?.get("/v1/log/checkpoint", query.as_slice())?.into_body()?;
    let text = String::from_utf8(body).map_err(|e| Failure::could_not("understand the checkpoint", e))?;
    // The line feed at its end is part of a signed note.
    match text.strip_suffix('\n') {
        Some(text) => print(text),
        None => print(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_is_filled_from_what_is_there() {
        let event = json!({"id": "evt_1", "occurred_at": "t", "action": "a.b", "actor": {"id": "u", "email": "e"},
            "resource": {"type": "invoice", "id": "i"}, "integrity": {"state": "sealed"}});
        assert_eq!(row(&event), ["t", "e", "a.b", "invoice i", "", "sealed", "evt_1"]);
        assert_eq!(row(&json!(1)), ["", "", "", "", "", "", ""]);
    }
}
