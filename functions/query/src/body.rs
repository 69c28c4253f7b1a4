//! Bodies of administrative requests: one small JSON object, read strictly; and what is wrong with it, place by place.

use serde_json::{Map, Value};
use stele::error::FieldProblem;
use stele::json::Json;
use stele::routes::Shown;
use stele::{Code, Error, Result};

const BYTES_MAX: usize = 16 * 1024;

/// The members of a body.
pub(crate) fn members(body: &[u8]) -> Result<Map<String, Value>> {
    if body.len() > BYTES_MAX {
        return Err(Error::new(Code::MalformedJson, "the body is larger than 16 KiB"));
    }
    // The strict reader says where a text breaks off, and takes no key twice.
    Json::parse(body)?;
    let body: Value = serde_json::from_slice(body)
        .map_err(|e| Error::new(Code::MalformedJson, "the body is not JSON").with_source(e))?;
    match body {
        Value::Object(members) => Ok(members),
        _ => Err(Error::new(Code::MalformedJson, "the body is not a JSON object")),
    }
}

/// What is wrong with a body.
#[derive(Default)]
pub(crate) struct Faults(Vec<FieldProblem>);

impl Faults {
    /// Notes one fault.
    pub(crate) fn problem(&mut self, pointer: impl Into<String>, code: &'static str, detail: String) {
        self.0.push(FieldProblem { pointer: pointer.into(), code, detail, suggestion: None });
    }

    /// The same, with what to send instead.
    pub(crate) fn problem_with(
        &mut self,
        pointer: impl Into<String>,
        code: &'static str,
        detail: String,
        suggestion: Option<String>,
    ) {
        self.0.push(FieldProblem { pointer: pointer.into(), code, detail, suggestion });
    }

    /// Notes a member nobody reads.
    pub(crate) fn unknown_field(&mut self, name: &str) {
        let mut pointer = String::new();
        stele::json::push_token(&mut pointer, name);
        self.problem(pointer, "unknown_field", format!("there is no field `{}`", Shown(name)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses the request if there is any.
    pub(crate) fn refuse(self, detail: &str) -> Result<()> {
        match self.is_empty() {
            true => Ok(()),
            false => Err(Error::new(Code::ValidationFailed, detail).with_problems(self.0)),
        }
    }
}
