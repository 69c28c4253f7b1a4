//! What becomes of a filter, told: its parts, its canonical text, how it is answered, and its SQL.

use super::expression::Expression;
use super::filter::Filter;
use super::row::Column;
use super::sql::{Dialect, Sql};
use crate::error::Result;
use crate::id::TenantId;
use crate::ports::{HotIndex, Order};
use crate::time::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

/// A filter, explained.
#[derive(Clone, Debug, Serialize)]
pub struct ParsedFilter {
    /// The same filter as everybody writes it.
    pub canonical: String,
    /// Its parts.
    pub ast: Value,
    /// How it is answered.
    pub plan: Value,
    /// As SQL for Athena. Parameters are literals, as `--execution-parameters` takes them.
    pub athena: Value,
    /// As SQL for DuckDB. Parameters are values.
    pub duckdb: Value,
}

/// Explains a filter of a tenant, as asked at a time.
///
/// # Errors
/// `bad_filter` with the place.
pub fn explain(q: &str, tenant: &TenantId, now: Timestamp) -> Result<ParsedFilter> {
    let asked = match q.trim() {
        "" => Expression::EVERYTHING,
        _ => super::parse::parse(q)?,
    };
    let filter = Filter::new(asked, now);
    let lookups: Vec<Value> = filter
        .best_index()
        .iter()
        .map(|lookup| match lookup {
            HotIndex::Actor(value) => json!({"index": "actor", "value": value}),
            HotIndex::Resource(value) => json!({"index": "resource", "value": value}),
            HotIndex::Action(value) => json!({"index": "action", "value": value}),
        })
        .collect();
    let names = |columns: &dyn Fn(&Column) -> bool, of: std::collections::BTreeSet<Column>| {
        of.into_iter().filter(columns).map(Column::name).collect::<Vec<_>>()
    };
    let sql = |dialect| Sql::of(&filter, tenant, Order::Descending, dialect);
    let (athena, duckdb) = (sql(Dialect::Athena), sql(Dialect::DuckDb));
    let literals: Vec<String> = athena.parameters.iter().map(|p| p.literal()).collect();
    let values: Vec<&str> = duckdb.parameters.iter().map(|p| p.0.as_str()).collect();
    Ok(ParsedFilter {
        canonical: filter.asked().to_string(),
        ast: filter.asked().to_json(),
        plan: json!({
            "from": filter.from().map(|time| time.to_string()),
            "to": filter.to().map(|time| time.to_string()),
            "matches_nothing": filter.range().is_none(),
            "hot_store": if lookups.is_empty() { json!({"by": "days"}) } else { json!({"by": "index", "lookups": lookups}) },
            "columns": names(&|column| column.is_archived(), filter.columns()),
            "pruned_by": names(&|column| column.is_archived(), filter.expression().pruned_by()),
            "reads_leaf": filter.needs_leaf(true),
        }),
        athena: json!({"sql": athena.text, "parameters": literals}),
        duckdb: json!({"sql": duckdb.text, "parameters": values}),
    })
}
