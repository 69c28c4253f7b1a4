//! A batch's body, cut into its events, so that each can be accepted or refused alone.

use crate::error::{Code, Error, Result};
use crate::json::{problem, quoted, split_array};
use crate::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};

/// How a batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchForm {
    /// `{"events":[…]}`
    Json,
    /// One event per line; empty lines do not count.
    Ndjson,
}

impl BatchForm {
    /// By `Content-Type`: JSON unless it says otherwise.
    pub fn of(content_type: Option<&str>) -> BatchForm {
        let kind = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let lines =
            ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
        match lines.iter().any(|line| kind.eq_ignore_ascii_case(line)) {
            true => BatchForm::Ndjson,
            false => BatchForm::Json,
        }
    }
}

/// The raw texts of a batch's events. For `{"events":[…]}` the syntax of the whole is checked, since a text that
/// is not JSON has no parts; everything else is left to each event.
///
/// # Errors
/// `batch_too_large`, `malformed_json`, and `validation_failed` if there is no array `events` or something beside it.
pub fn batch_items(body: &[u8], form: BatchForm) -> Result<Vec<&[u8]>> {
    if body.len() > BATCH_BYTES_MAX {
        let detail = format!("a batch has at most {BATCH_BYTES_MAX} bytes, this one has {}", body.len());
        return Err(Error::new(Code::BatchTooLarge, detail));
    }
    match form {
        BatchForm::Json => json_items(body),
        BatchForm::Ndjson => {
            let lines = body.split(|c| *c == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
            let items: Vec<_> = lines.take(BATCH_EVENTS_MAX + 1).collect();
            match items.len() > BATCH_EVENTS_MAX {
                true => Err(too_many()),
                false => Ok(items),
            }
        }
    }
}

fn json_items(body: &[u8]) -> Result<Vec<&[u8]>> {
    let split = split_array(body, "events", BATCH_EVENTS_MAX)?;
    let refused = |pointer: String, code, detail: String| {
        Err(Error::new(Code::ValidationFailed, detail.clone())
            .with_problems(vec![problem(pointer, code, detail)]))
    };
    if split.too_many {
        return Err(too_many());
    }
    if split.repeated {
        let detail = "key `events` is there twice".to_owned();
        let problems = vec![problem("/events".to_owned(), "duplicate_key", detail.clone())];
        return Err(Error::new(Code::DuplicateKey, detail).with_problems(problems));
    }
    match (split.items, split.others.first()) {
        (None, _) => refused("/events".to_owned(), "required", "an array `events` is required".to_owned()),
        (Some(_), Some(other)) => {
            let detail = format!("a batch has no field {} beside `events`", quoted(other));
            refused(format!("/{}", other.replace('~', "~0").replace('/', "~1")), "unknown_field", detail)
        }
        (Some(items), None) => Ok(items),
    }
}

fn too_many() -> Error {
    Error::new(Code::BatchTooLarge, format!("a batch has at most {BATCH_EVENTS_MAX} events"))
}
