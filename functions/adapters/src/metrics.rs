//! Metrics by CloudWatch's embedded metric format: a line of JSON on standard output, which costs no call.
//!
//! Names are the glossary's; the only dimension is the function, since each further one is billed.

use serde_json::{Map, Value, json};
use std::io::Write;
use std::sync::LazyLock;
use stele::time::Timestamp;

const NAMESPACE: &str = "Stele";

/// A metric's unit, in CloudWatch's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// A time.
    Milliseconds,
}

/// The line for some values.
pub fn line(function: &str, now: Timestamp, values: &[(&str, Unit, u64)]) -> String {
    let metrics: Vec<Value> = values
        .iter()
        .map(|(name, unit, _)| {
            let unit = match unit {
                Unit::Count => "Count",
                Unit::Milliseconds => "Milliseconds",
            };
            json!({"Name": name, "Unit": unit})
        })
        .collect();
    let mut line = Map::from_iter(values.iter().map(|(name, _, value)| ((*name).to_owned(), json!(value))));
    line.insert("Function".to_owned(), json!(function));
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now.ms(),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [["Function"]], "Metrics": metrics}],
        }),
    );
    Value::Object(line).to_string()
}

/// Reports values of this function, by its deployed name; those that are 0 are left out, and with them a line that would
/// say nothing.
pub fn report(now: Timestamp, values: &[(&str, Unit, u64)]) {
    static FUNCTION: LazyLock<String> =
        LazyLock::new(|| std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default());
    let values: Vec<_> = values.iter().copied().filter(|(_, _, value)| *value > 0).collect();
    if !values.is_empty() {
        // Nobody can be told if even this fails.
        let _ = writeln!(std::io::stdout().lock(), "{}", line(&FUNCTION, now, &values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_cloudwatch_takes() {
        let line = line(
            "seal",
            Timestamp::from_ms(5),
            &[("sealed", Unit::Count, 7), ("seal_lag_ms", Unit::Milliseconds, 9)],
        );
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["sealed"], &value["seal_lag_ms"], &value["Function"]),
            (&json!(7), &json!(9), &json!("seal"))
        );
        assert_eq!(value["_aws"]["Timestamp"], 5);
        let directive = &value["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "Stele");
        assert_eq!(directive["Metrics"][1], json!({"Name": "seal_lag_ms", "Unit": "Milliseconds"}));
    }
}
