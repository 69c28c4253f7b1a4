//! Query: a tenant's events, newest first, as a table or for other programs. Also its checkpoint.

use crate::client::{Client, Server};
use crate::filters::Filters;
use crate::import::tenant;
use crate::show::{Clean, Failure, note, print, table};
use crate::zone::{Zone, zone};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::io::{self, Write};
use stele::id::TenantId;
use stele::limits::PAGE_LIMIT_MAX;
use stele::query::{CSV_COLUMNS, csv_header, csv_line};

/// Shows events, newest first
#[derive(Args, Debug)]
pub(crate) struct Query {
    #[command(flatten)]
    filters: Filters,
    /// How many at the most
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// All of them, page after page
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Which come first
    #[arg(long, value_enum, default_value_t = Order::Desc)]
    order: Order,
    /// How they are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Print whole events, as NDJSON: the same as `--format jsonl`
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Where the table's times are: `utc`, `local`, `+02:00`, or a zone such as `Europe/Berlin`
    #[arg(long, default_value = "utc", value_parser = zone, allow_hyphen_values = true, value_name = "ZONE")]
    tz: Zone,
    /// Show what the filter says, how it is answered, and its SQL; ask nothing else
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Desc,
    Asc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    /// One JSON list
    Json,
    /// One JSON object per line
    Jsonl,
    /// RFC 4180, safe to open in a spreadsheet
    Csv,
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
    #[serde(default)]
    searched: Searched,
}

#[derive(Default, Deserialize)]
struct Searched {
    #[serde(default)]
    from: String,
    #[serde(default)]
    complete: Option<bool>,
}

/// Runs `stele query`.
pub(crate) fn run(args: &Query) -> Result<(), Failure> {
    let filter = args.filters.filter()?;
    let client = args.server.client()?;
    if args.explain {
        return explain(args, &client, &filter.asked().to_string());
    }
    let mut asked = args.filters.pairs();
    if args.order == Order::Asc {
        asked.push(("order", "asc"));
    }
    let format = if args.json { Format::Jsonl } else { args.format };
    let mut out = Printed { format, zone: &args.tz, events: 0, widths: Vec::new() };
    let mut left = if args.all { usize::MAX } else { args.limit as usize };
    let mut cursor: Option<String> = None;
    let mut incomplete = None;
    loop {
        let limit = left.min(PAGE_LIMIT_MAX).to_string();
        let mut query = asked.clone();
        query.push(("limit", &limit));
        query.extend(cursor.as_deref().map(|c| ("cursor", c)));
        let page: Page = client.get("/v1/events", &query)?.into_json()?;
        let taken = page.events.len().min(left);
        out.page(&page.events[..taken])?;
        left -= taken;
        cursor = page.next_cursor;
        if page.searched.complete == Some(false) && cursor.is_none() {
            incomplete = Some(page.searched.from);
        }
        if left == 0 || cursor.is_none() {
            break;
        }
    }
    out.end()?;
    if format == Format::Table {
        if out.events == 0 {
            note("no events found");
        }
        if cursor.is_some() {
            note(format!("there may be more: --limit {}, or --all", u64::from(args.limit) * 2));
        }
    }
    if let Some(from) = incomplete {
        note(format!("something may be missing: not all since {} could be searched", Clean(&from)));
    }
    Ok(())
}

/// Events on their way to standard output.
struct Printed<'a> {
    format: Format,
    zone: &'a Zone,
    events: usize,
    /// Of the table's columns, as the first page has them.
    widths: Vec<usize>,
}

const HEADINGS: [&str; 7] = ["OCCURRED", "ACTOR", "ACTION", "RESOURCE", "OUTCOME", "STATE", "ID"];

impl Printed<'_> {
    fn page(&mut self, events: &[Value]) -> Result<(), Failure> {
        let first = self.events == 0;
        self.events += events.len();
        match self.format {
            Format::Jsonl => events.iter().try_for_each(print),
            Format::Json => {
                let mut out = io::stdout().lock();
                for (at, event) in events.iter().enumerate() {
                    write!(out, "{}\n{event}", if first && at == 0 { "[" } else { "," })?;
                }
                Ok(out.flush()?)
            }
            Format::Csv => {
                let mut lines = Vec::new();
                if first && !events.is_empty() {
                    csv_header(&mut lines);
                }
                for event in events {
                    csv_line(cells(event), &mut lines);
                }
                let mut out = io::stdout().lock();
                out.write_all(&lines)?;
                Ok(out.flush()?)
            }
            Format::Table if events.is_empty() => Ok(()),
            Format::Table => {
                let mut rows: Vec<Vec<String>> = Vec::new();
                if first {
                    rows.push(HEADINGS.map(str::to_owned).to_vec());
                }
                rows.extend(events.iter().map(|event| row(event, self.zone)));
                if first {
                    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
                    self.widths = (0..HEADINGS.len()).map(|column| width(column).unwrap_or(0)).collect();
                }
                // Later pages stand under the first one.
                for row in &mut rows {
                    for (cell, width) in row.iter_mut().zip(&self.widths).take(HEADINGS.len() - 1) {
                        let missing = width.saturating_sub(cell.chars().count());
                        cell.extend(std::iter::repeat_n(' ', missing));
                    }
                }
                print(table(&rows))
            }
        }
    }

    fn end(&self) -> Result<(), Failure> {
        match (self.format, self.events) {
            (Format::Json, 0) => print("[]"),
            (Format::Json, _) => print("\n]"),
            (Format::Csv, 0) => {
                let mut lines = Vec::new();
                csv_header(&mut lines);
                Ok(io::stdout().lock().write_all(&lines)?)
            }
            _ => Ok(()),
        }
    }
}

/// An event's cells of a CSV line, in the order of the API's own export.
fn cells(event: &Value) -> [Cow<'_, str>; CSV_COLUMNS.len()] {
    CSV_COLUMNS.map(|column| {
        let pointer = match column {
            "actor_type" => "/actor/type",
            "actor_id" => "/actor/id",
            "actor_name" => "/actor/name",
            "actor_email" => "/actor/email",
            "resource_type" => "/resource/type",
            "resource_id" => "/resource/id",
            "resource_name" => "/resource/name",
            "ip" => "/context/ip",
            "user_agent" => "/context/user_agent",
            "leaf_index" => "/integrity/leaf_index",
            plain => return cell(event.get(plain)),
        };
        cell(event.pointer(pointer))
    })
}

fn cell(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other) => Cow::Owned(other.to_string()),
    }
}

/// What becomes of the filter.
fn explain(args: &Query, client: &Client, q: &str) -> Result<(), Failure> {
    let tenant = args.filters.tenant.as_ref().map(|tenant| ("tenant_id", tenant.as_str()));
    let body = json!({ "q": q }).to_string().into_bytes();
    let mut path = "/v1/filter:parse".to_owned();
    if let Some((name, value)) = tenant {
        path.push_str(&format!("?{name}="));
        crate::client::encode(&mut path, value);
    }
    let answer = client.post(&path, &[("content-type", "application/json")], body)?;
    let explained: Value = answer.into_json()?;
    if args.json || args.format != Format::Table {
        return print(&explained);
    }
    let text =
        |pointer: &str| explained.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |pointer: &str| {
        let all = explained.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        all.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect::<Vec<_>>()
    };
    let or = |text: String, none: &str| if text.is_empty() { none.to_owned() } else { text };
    let hot = match text("/plan/hot_store/by").as_str() {
        "index" => {
            let lookups = explained.pointer("/plan/hot_store/lookups").and_then(Value::as_array);
            let shown = lookups.into_iter().flatten().map(|lookup| {
                let of = |name: &str| lookup[name].as_str().unwrap_or_default().to_owned();
                format!("{} {}", of("index"), of("value"))
            });
            format!("index: {}", shown.collect::<Vec<_>>().join(", "))
        }
        _ => "day by day".to_owned(),
    };
    let leaf = match explained.pointer("/plan/reads_leaf").and_then(Value::as_bool) {
        Some(true) => "columns and events",
        _ => "columns alone",
    };
    let times = (or(text("/plan/from"), "the beginning"), or(text("/plan/to"), "now"));
    for (name, value) in [
        ("filter", or(text("/canonical"), "(everything)")),
        ("time", format!("from {} to {}", times.0, times.1)),
        ("database", hot),
        ("archive", format!("decided by {leaf}: {}", or(list("/plan/columns").join(", "), "none"))),
        ("left out by", or(list("/plan/pruned_by").join(", "), "nothing: every file in that time is read")),
    ] {
        print(format!("{name:<12} {}", Clean(&value)))?;
    }
    for (name, pointer) in [("Athena", "/athena"), ("DuckDB", "/duckdb")] {
        print(format!("\n{name}:"))?;
        for line in text(&format!("{pointer}/sql")).lines() {
            print(format!("  {}", Clean(line)))?;
        }
        let parameters = list(&format!("{pointer}/parameters")).join("  ");
        print(format!("  with: {}", Clean(&parameters)))?;
    }
    Ok(())
}

/// An event's cells of the table.
pub(crate) fn row(event: &Value, zone: &Zone) -> Vec<String> {
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
        zone.shown(text("/occurred_at")),
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

    #[test]
    fn a_row_is_filled_from_what_is_there() {
        let event = json!({"id": "evt_1", "occurred_at": "2026-05-01T22:30:00.000Z", "action": "a.b",
            "actor": {"id": "u", "email": "e"},
            "resource": {"type": "invoice", "id": "i"}, "integrity": {"state": "sealed", "leaf_index": 7},
            "changes": [{"path": "/a", "after": 1}], "tenant_id": "t", "outcome": "success"});
        let cells_of = |zone| row(&event, &zone);
        assert_eq!(
            cells_of(Zone::Fixed(7200)),
            ["2026-05-02T00:30:00.000+02:00", "e", "a.b", "invoice i", "success", "sealed", "evt_1"]
        );
        assert_eq!(row(&json!(1), &Zone::Fixed(0)), ["", "", "", "", "", "", ""]);
        let line = cells(&event).join("|");
        assert_eq!(
            line,
            r#"evt_1|2026-05-01T22:30:00.000Z||t|a.b|success|||u||e|invoice|i|||||[{"after":1,"path":"/a"}]||7"#
        );
    }
}
