//! Retention: what is kept how long, changing it, and the report over every locked object.

mod judge;
mod report;
mod policy;

use crate::client::{Client, Server};
use crate::import::tenant;
use crate::show::{Clean, Failure, counted, note, print};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::process::ExitCode;
use stele::id::TenantId;
use stele::limits;
use stele::retention::Class;

const PATH: &str = "/v1/retention";

/// Shows and changes how long what is kept, and reports on every locked object
#[derive(Args, Debug)]
pub(crate) struct Retention {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Prints a tenant's retention; without a tenant, what new tenants get
    Show {
        /// Whose; a key bound to a tenant implies it
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        server: Server,
    },
    /// Says what a change does, costs and makes irrevocable; with --yes, changes it
    Set {
        /// Whose; without a tenant, what new tenants get
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// Days an archived file is locked
        #[arg(long = "class", value_name = "DAYS", value_parser = class, required_unless_present = "hot_days")]
        class_days: Option<u32>,
        /// Days the database keeps an event
        #[arg(long, value_name = "DAYS")]
        hot_days: Option<u32>,
        /// Whether the class holds for what is archived already [default: a longer one does]
        #[arg(long, value_parser = ["all", "new"])]
        applies_to: Option<String>,
        /// Change it: what is locked then stays locked
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        server: Server,
    },
    Report(report::Report),
}

fn class(text: &str) -> Result<u32, String> {
    text.parse().ok().and_then(Class::of_days).map(Class::days).ok_or_else(|| {
        let classes = limits::CLASSES_DAYS.map(|days| days.to_string()).join(", ");
        format!("there is no such class; the classes are {classes} days")
    })
}

#[derive(Serialize)]
struct NewRetention<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    class_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hot_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applies_to: Option<&'a str>,
}

/// Runs it; only the report has an exit code of its own.
pub(crate) fn run(args: &Retention) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Show { tenant, server } => {
            let query = tenant.as_ref().map(|t| ("tenant_id", t.as_str()));
            let shown: Value = server.client()?.get(PATH, query.as_slice())?.into_json()?;
            print(pretty(&shown)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Set { tenant, class_days, hot_days, applies_to, yes, server } => {
            let wanted = NewRetention {
                class_days: *class_days,
                hot_days: *hot_days,
                applies_to: applies_to.as_deref(),
            };
            set(&server.client()?, tenant.as_ref(), &wanted, *yes)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Report(args) => report::run(args),
    }
}

fn set(
    client: &Client,
    tenant: Option<&TenantId>,
    wanted: &NewRetention<'_>,
    yes: bool,
) -> Result<(), Failure> {
    let body = serde_json::to_vec(wanted).map_err(|e| Failure::could_not("write the request", e))?;
    let mut query: Vec<(&str, &str)> = tenant.map(|t| ("tenant_id", t.as_str())).into_iter().collect();
    if !yes {
        query.push(("preview", "true"));
    }
    let change: Value = client.put(PATH, &query, body)?.into_json()?;
    print(changed(&change))?;
    if !yes {
        note("nothing was changed; the same with --yes changes it");
    }
    Ok(())
}

/// A change in a few lines.
fn changed(change: &Value) -> String {
    let number = |pointer: &str| change.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let usd = |name: &str| change["effect"][name].as_f64().unwrap_or_default();
    let mut out = String::new();
    for (name, what) in [("class_days", "class"), ("hot_days", "days in the database")] {
        let (before, after) = (number(&format!("/before/{name}")), number(&format!("/after/{name}")));
        // Writing to a text can't fail, here and below.
        let _ = match before == after {
            true => writeln!(out, "{what}: {after}, as before"),
            false => writeln!(out, "{what}: {after} instead of {before}"),
        };
    }
    let lengthened = |name: &str| number(&format!("/effect/locks_lengthened/{name}"));
    if lengthened("files") > 0 {
        let until = change["effect"]["until"].as_str().unwrap_or_default();
        let (files, events, bytes) = (lengthened("files"), lengthened("events"), lengthened("bytes"));
        let _ = writeln!(
            out,
            "locks lengthened: {}, {}, {bytes} bytes, the last until {}",
            counted(files, "file"),
            counted(events, "event"),
            Clean(until)
        );
        let (storage, requests) = (usd("storage_usd_per_month_added"), usd("requests_usd"));
        let basis = change["effect"]["estimate"].as_str().unwrap_or_default();
        let _ =
            writeln!(out, "cost: {storage:.4} USD a month more, {requests:.4} USD once ({})", Clean(basis));
    }
    for sentence in change["cannot_be_undone"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "can't be undone: {}", Clean(sentence.as_str().unwrap_or_default()));
    }
    out.truncate(out.trim_end().len());
    out
}

fn pretty(value: &Value) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|e| Failure::could_not("write the answer", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_says_what_can_not_be_undone() {
        let change = json!({
            "before": {"class_days": 365, "hot_days": 90},
            "after": {"class_days": 2557, "hot_days": 90},
            "effect": {
                "locks_lengthened": {"files": 2, "events": 30, "bytes": 4096}, "until": "2033-05-01T00:00:00.000Z",
                "storage_usd_per_month_added": 0.5, "requests_usd": 0.00002, "estimate": "us-east-1",
            },
            "cannot_be_undone": ["Locks are\u{1b} lengthened."],
        });
        let text = changed(&change);
        for part in [
            "class: 2557 instead of 365",
            "database: 90, as before",
            "2 files, 30 events",
            "0.5000 USD a month",
            "can't be undone: Locks are\u{FFFD} lengthened.",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
