//! Expressions as SQL over the archive's table (`infra/athena`), for Athena and for DuckDB. Every value is a parameter: nothing
//! that a user wrote is ever part of the text. The tenant is always the first one.
//!
//! What has no column is read out of `leaf`, where the two engines have functions of their own.

use super::expression::{Atom, Expression, Field, Interval, Network, Number, Numbers, Side, State, Test};
use super::filter::Filter;
use super::row::{Column, TEXT_COLUMNS};
use crate::archive::Month;
use crate::id::TenantId;
use crate::json::push_token;
use crate::ports::Order;
use crate::time::Timestamp;

/// Whose SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Athena (Trino). A `?` is bound by `--execution-parameters`, each a literal: see [`Parameter::literal`].
    Athena,
    /// DuckDB, over a view `events` of the archive's files with `hive_partitioning`.
    DuckDb,
}

/// What a `?` stands for: always a text, which the query casts where it needs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter(pub String);

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sql {
    /// The text.
    pub text: String,
    /// The values of its `?`, in order; the tenant is the first.
    pub parameters: Vec<Parameter>,
}

/// What an answer has of each event.
const SELECTED: [&str; 15] = [
    "leaf_index",
    "id",
    "occurred_at",
    "received_at",
    "action",
    "outcome",
    "reason",
    "actor_type",
    "actor_id",
    "actor_name",
    "actor_email",
    "resource_type",
    "resource_id",
    "resource_name",
    "ip",
];

/// A string or a key with its colon, in canonical JSON.
const JSON_STRINGS: &str = r#"'"(?:[^"\\]|\\.)*":?'"#;

impl Parameter {
    /// As a literal of SQL, which is what Athena's API takes.
    pub fn literal(&self) -> String {
        format!("'{}'", self.0.replace('\'', "''"))
    }
}

impl Sql {
    /// The archived events of a tenant that a filter admits.
    pub fn of(filter: &Filter, tenant: &TenantId, order: Order, dialect: Dialect) -> Sql {
        let mut query = Query { dialect, text: String::new(), parameters: Vec::new() };
        query.put("SELECT\n");
        for column in SELECTED {
            query.put(&format!("  {column},\n"));
        }
        let leaf = query.leaf();
        query.put(&format!("  {leaf} AS event\nFROM events\nWHERE tenant_id = "));
        query.bind(tenant.as_str());
        // A file lies under the month in which its first event was sealed, which is at most minutes before an event of it
        // occurred: the month before is more than enough.
        if let Some(from) = filter.from() {
            query.put("\n  AND month >= ");
            let month = Month::of(Month::of(from).start().minus_ms(1));
            query.bind(month.as_str());
        }
        for part in filter.expression().conjuncts() {
            query.put("\n  AND ");
            query.expression(part);
        }
        let direction = if order == Order::Descending { " DESC" } else { "" };
        query.put(&format!("\nORDER BY occurred_at{direction}, id{direction}"));
        Sql { text: query.text, parameters: query.parameters }
    }
}

struct Query {
    dialect: Dialect,
    text: String,
    parameters: Vec<Parameter>,
}

impl Query {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn bind(&mut self, value: &str) {
        self.text.push('?');
        self.parameters.push(Parameter(value.to_owned()));
    }

    fn by(&self, athena: &str, duckdb: &str) -> String {
        match self.dialect {
            Dialect::Athena => athena.to_owned(),
            Dialect::DuckDb => duckdb.to_owned(),
        }
    }

    fn leaf(&self) -> String {
        self.by("from_utf8(leaf)", "decode(leaf)")
    }

    fn expression(&mut self, expression: &Expression) {
        let (parts, between) = match expression {
            Expression::Is(atom) => return self.atom(atom),
            Expression::Not(atom) => {
                self.put("NOT ");
                return self.atom(atom);
            }
            Expression::Any(parts) if parts.is_empty() => return self.put("FALSE"),
            Expression::All(parts) if parts.is_empty() => return self.put("TRUE"),
            Expression::Any(parts) => (parts, " OR "),
            Expression::All(parts) => (parts, " AND "),
        };
        self.put("(");
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                self.put(between);
            }
            self.expression(part);
        }
        self.put(")");
    }

    /// A condition that is true or false, never null: so that its opposite holds where it does not.
    fn atom(&mut self, atom: &Atom) {
        match (&atom.field, &atom.test) {
            // All there is here is archived.
            (Field::State, Test::State(asked)) => {
                self.put(if asked.includes(State::Archived) { "TRUE" } else { "FALSE" });
            }
            (Field::Text, test) => self.free_text(test),
            (Field::Metadata(keys), test) => {
                self.put("coalesce(");
                self.json_value(test, &|query| query.metadata_value(keys));
                self.put(", FALSE)");
            }
            (Field::Changes { path, side }, test) => self.change(path, *side, test),
            (field, test) => {
                let Some(column) = field.column() else { return self.put("FALSE") };
                self.put("coalesce(");
                self.column(field, &column_text(self, column), test);
                self.put(", FALSE)");
            }
        }
    }

    fn column(&mut self, field: &Field, column: &str, test: &Test) {
        let compared = if field.folds() { format!("lower({column})") } else { column.to_owned() };
        match test {
            Test::Exists => self.put(&format!("{column} IS NOT NULL")),
            Test::Equals(text) => {
                self.put(&format!("{compared} = "));
                self.bind(text);
            }
            Test::Id(id) => {
                self.put(&format!("{compared} = "));
                self.bind(&id.to_string());
            }
            Test::Prefix(text) => {
                self.put(&format!("starts_with({compared}, "));
                self.bind(text);
                self.put(")");
            }
            Test::Contains(text) => {
                self.put(&format!("strpos({compared}, "));
                self.bind(text);
                self.put(") > 0");
            }
            Test::Within(interval) => self.interval(column, interval),
            Test::Network(network) => self.network(column, network),
            Test::Number(_) | Test::State(_) => self.put("FALSE"),
        }
    }

    fn interval(&mut self, column: &str, interval: &Interval) {
        let (from, until) = interval.bounds();
        self.put(&format!("{column} BETWEEN "));
        self.time(from);
        self.put(" AND ");
        self.time(until);
    }

    fn time(&mut self, time: Timestamp) {
        let text = time.to_string();
        let kind = self.by("timestamp(3)", "TIMESTAMPTZ");
        self.put("CAST(");
        self.bind(&match self.dialect {
            Dialect::Athena => text.replace('T', " ").replace('Z', ""),
            Dialect::DuckDb => text,
        });
        self.put(&format!(" AS {kind})"));
    }

    fn network(&mut self, column: &str, network: &Network) {
        match self.dialect {
            Dialect::Athena => {
                self.put("contains(");
                self.bind(&format!("{}/{}", network.address(), network.bits()));
                // It takes an address with a zone for one, which no network can hold.
                self.put(&format!(
                    ", TRY_CAST(CASE WHEN strpos({column}, '%') = 0 THEN {column} END AS ipaddress))"
                ));
            }
            Dialect::DuckDb => {
                // As 32 hexadecimal digits, which compare as the addresses do.
                let (first, last) = network.mapped();
                self.put(&format!("{} BETWEEN ", hexadecimal(column)));
                self.bind(&format!("{first:032x}"));
                self.put(" AND ");
                self.bind(&format!("{last:032x}"));
            }
        }
    }

    fn free_text(&mut self, test: &Test) {
        let Test::Contains(part) = test else { return self.put("FALSE") };
        self.put("(");
        for column in TEXT_COLUMNS {
            self.put("coalesce(");
            self.column(&Field::Text, &column_text(self, column), test);
            self.put(", FALSE) OR ");
        }
        // Its strings as they stand in the JSON, keys told by their colon.
        let (all, lambda, unescaped) = match self.dialect {
            Dialect::Athena => (
                "any_match(regexp_extract_all(json_format(json_extract(from_utf8(leaf), '$.metadata')), ",
                "s -> ",
                "json_extract_scalar(s, '$')",
            ),
            Dialect::DuckDb => (
                "(len(list_filter(regexp_extract_all(CAST(json_extract(decode(leaf), '$.metadata') AS VARCHAR), ",
                "lambda s: ",
                "json_extract_string(s, '$')",
            ),
        };
        self.put(&format!("coalesce({all}{JSON_STRINGS}), {lambda}CASE WHEN substr(s, length(s)) = ':' THEN FALSE ELSE strpos(lower({unescaped}), "));
        self.bind(part);
        let end = self.by(" END)", " END)) > 0)");
        self.put(&format!(") > 0{end}, FALSE))"));
    }

    /// The value under keys of metadata, from object to object.
    fn metadata_value(&mut self, keys: &[String]) {
        match self.dialect {
            Dialect::Athena => {
                for _ in keys {
                    self.put("element_at(TRY_CAST(");
                }
                self.put("json_extract(from_utf8(leaf), '$.metadata')");
                for key in keys {
                    self.put(" AS map(varchar, json)), ");
                    self.bind(key);
                    self.put(")");
                }
            }
            Dialect::DuckDb => {
                self.put("CASE WHEN TRUE");
                let mut pointer = "/metadata".to_owned();
                for key in keys {
                    // Else it could be the place in a list.
                    if key.bytes().all(|c| c.is_ascii_digit()) {
                        self.put(" AND json_type(json_extract(decode(leaf), ");
                        self.bind(&pointer);
                        self.put(")) = 'OBJECT'");
                    }
                    push_token(&mut pointer, key);
                }
                self.put(" THEN json_extract(decode(leaf), ");
                self.bind(&pointer);
                self.put(") END");
            }
        }
    }

    fn change(&mut self, path: &str, side: Side, test: &Test) {
        let (any, lambda, told, end) = match self.dialect {
            Dialect::Athena => (
                "any_match(CAST(json_extract(from_utf8(leaf), '$.changes') AS array(json)), ",
                "c -> ",
                "json_extract_scalar(c, '$.path')",
                ")",
            ),
            Dialect::DuckDb => (
                "(len(list_filter(CAST(json_extract(decode(leaf), '$.changes') AS JSON[]), ",
                "lambda c: ",
                "json_extract_string(c, '$.path')",
                ")) > 0)",
            ),
        };
        self.put(&format!("coalesce({any}{lambda}{told} IN ("));
        self.bind(path);
        self.put(", ");
        self.bind(path.strip_prefix('/').unwrap_or(path));
        self.put(")");
        let side = match side {
            Side::Told => None,
            Side::Before => Some("json_extract(c, '$.before')"),
            Side::After => Some("json_extract(c, '$.after')"),
        };
        if let Some(value) = side {
            self.put(" AND coalesce(");
            self.json_value(test, &|query| query.put(value));
            self.put(", FALSE)");
        }
        self.put(&format!("{end}, FALSE)"));
    }

    /// A test of a JSON value, or of one in a list of them.
    fn json_value(&mut self, test: &Test, value: &dyn Fn(&mut Query)) {
        let text = self.by("json_format(", "CAST(");
        let text_end = self.by(")", " AS VARCHAR)");
        if *test == Test::Exists {
            self.put(&text);
            value(self);
            return self.put(&format!("{text_end} <> 'null'"));
        }
        let (any, list, one, lambda, end) = match self.dialect {
            Dialect::Athena => ("any_match(", " AS array(json)) ELSE ARRAY[", "] END, ", "v -> ", ")"),
            Dialect::DuckDb => {
                ("(len(list_filter(", " AS JSON[]) ELSE [", "] END, ", "lambda v: ", ")) > 0)")
            }
        };
        // A null in a list becomes none; where there is no value at all there must be none either.
        let nulls = *test == Test::Equals("null".to_owned());
        if nulls {
            self.put("(");
            value(self);
            self.put(" IS NOT NULL AND ");
        }
        self.put(&format!("{any}CASE WHEN substr({text}"));
        value(self);
        self.put(&format!("{text_end}, 1, 1) = '[' THEN CAST("));
        value(self);
        self.put(list);
        value(self);
        self.put(&format!("{one}{lambda}"));
        self.scalar(test);
        self.put(end);
        if nulls {
            self.put(")");
        }
    }

    /// A test of the scalar `v`.
    fn scalar(&mut self, test: &Test) {
        let text = self.by("json_format(v)", "CAST(v AS VARCHAR)");
        let string = self.by("json_extract_scalar(v, '$')", "json_extract_string(v, '$')");
        let is_string = format!("substr({text}, 1, 1) = '\"'");
        // What is not a number is null.
        let number = format!("TRY_CAST({text} AS double)");
        match test {
            Test::Equals(equal) => {
                self.put(&format!("({is_string} AND {string} = "));
                self.bind(equal);
                if let Some(number_asked) = Number::parse(equal) {
                    self.put(&format!(" OR {number} = "));
                    self.number(number_asked);
                }
                if ["true", "false", "null"].contains(&equal.as_str()) {
                    self.put(&format!(" OR {text} = "));
                    self.bind(equal);
                }
                if equal == "null" {
                    self.put(" OR v IS NULL");
                }
                self.put(")");
            }
            Test::Prefix(prefix) => {
                self.put(&format!("({is_string} AND starts_with({string}, "));
                self.bind(prefix);
                self.put("))");
            }
            Test::Number(Numbers { from, until }) => {
                self.put("(TRUE");
                for (bound, signs) in [(from, [" > ", " >= "]), (until, [" < ", " <= "])] {
                    if let Some((bound, included)) = bound {
                        self.put(&format!(" AND {number}{}", signs[usize::from(*included)]));
                        self.number(*bound);
                    }
                }
                self.put(")");
            }
            _ => self.put("FALSE"),
        }
    }

    fn number(&mut self, number: Number) {
        self.put("CAST(");
        self.bind(&number.value().to_string());
        self.put(" AS double)");
    }
}

/// A column, or what stands for it in the archive.
fn column_text(query: &Query, column: Column) -> String {
    let path = match column {
        Column::SessionId => "context.session_id",
        Column::RequestId => "context.request_id",
        Column::TraceId => "context.trace_id",
        Column::ExternalId => "external_id",
        Column::Description => "description",
        column => return column.name().to_owned(),
    };
    query.by(
        &format!("json_extract_scalar(from_utf8(leaf), '$.{path}')"),
        &format!("json_extract_string(decode(leaf), '$.{path}')"),
    )
}

/// DuckDB knows addresses by an extension only; this is an address as 32 hexadecimal digits, IPv4 mapped, and null where a
/// column has none. A list of one binds what is needed more than once.
fn hexadecimal(column: &str) -> String {
    const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    const GROUP: &str = "[0-9a-fA-F]{1,4}";
    let v4 = format!("{OCTET}(\\.{OCTET}){{3}}");
    let groups = format!("{GROUP}(:{GROUP})*");
    let pair = |text: &str, first: u8| {
        let octet = |n: u8| format!("CAST(split_part({text}, '.', {n}) AS INTEGER)");
        format!("{} * 256 + {}", octet(first), octet(first + 1))
    };
    let tail = "regexp_extract(a, '[0-9.]+$')";
    // A dotted end becomes two groups, and a dotted address a mapped one.
    let dotted = |before: &str, text: &str| {
        format!("{before} || printf('%x:%x', {}, {})", pair(text, 1), pair(text, 3))
    };
    let spelled = format!(
        "CASE WHEN regexp_full_match(a, '{v4}') THEN {} WHEN regexp_full_match(a, '.*:{v4}') THEN {} ELSE a END",
        dotted("'::ffff:'", "a"),
        dotted("regexp_extract(a, '^(.*:)', 1)", tail),
    );
    let padded =
        |list: &str| format!("array_to_string(list_transform({list}, lambda g: lpad(lower(g), 4, '0')), '')");
    let side = |n: u8| format!("list_filter(string_split(split_part(s, '::', {n}), ':'), lambda g: g <> '')");
    let (left, right) = (side(1), side(2));
    let free = format!("8 - len({left}) - len({right})");
    let digits = format!(
        "CASE WHEN regexp_full_match(s, '({GROUP}:){{7}}{GROUP}') THEN {} \
         WHEN regexp_full_match(s, '({groups})?::({groups})?') AND {free} > 0 \
         THEN {} || repeat('0000', {free}) || {} END",
        padded("string_split(s, ':')"),
        padded(&left),
        padded(&right),
    );
    format!("list_transform(list_transform([{column}], lambda a: {spelled}), lambda s: {digits})[1]")
}
