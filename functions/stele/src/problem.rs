//! Errors as RFC 9457 `application/problem+json`: the one shape every refusal has, whichever function sends it.
//!
//! It shows what [`Error`] calls safe to show, and nothing of what lies behind it. Headers that go with some
//! statuses (`Retry-After`, `Allow`) are the HTTP adapter's business.

use crate::error::{Error, FieldProblem, Kind, Position};
use serde::{Serialize, Serializer};

/// Its media type.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Before the code, in `type`: a name, not an address, since nothing is published there.
pub const TYPE_PREFIX: &str = "urn:stele:problem:";

/// What is told of stored data that is not what it must be. The evidence is for the log: it names keys of ours.
const CORRUPT_DETAIL: &str =
    "what is stored for this request is damaged; it has been logged under the request id";

/// An error as a client sees it.
#[derive(Debug, Serialize)]
pub struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    retryable: bool,
    errors: Vec<Place<'a>>,
    error: String,
}

#[derive(Debug, Serialize)]
struct Place<'a> {
    pointer: &'a str,
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggestion: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<PlaceInText>,
}

/// Where in the text that a problem is about.
#[derive(Debug, Serialize)]
struct PlaceInText {
    offset: usize,
    column: usize,
}

impl<'a> Problem<'a> {
    /// Of a whole request.
    pub fn new(error: &'a Error, request_id: &'a str) -> Problem<'a> {
        Problem { request_id: Some(request_id), ..Problem::of_item(error) }
    }

    /// Of one item of a batch: the answer it stands in carries the request id.
    pub fn of_item(error: &'a Error) -> Problem<'a> {
        let code = error.code();
        let detail = if error.kind() == Kind::Corrupt { CORRUPT_DETAIL } else { error.detail() };
        Problem {
            kind: format!("{TYPE_PREFIX}{}", code.as_str()),
            title: code.title(),
            status: code.status(),
            detail,
            code: code.as_str(),
            request_id: None,
            retryable: code.retryable(),
            errors: error.problems().iter().map(|problem| Place::new(problem, error.position())).collect(),
            error: one_line(detail, error.problems()),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers always serialise")
    }
}

impl<'a> Place<'a> {
    fn new(problem: &'a FieldProblem, position: Option<Position>) -> Place<'a> {
        Place {
            pointer: &problem.pointer,
            code: problem.code,
            detail: &problem.detail,
            suggestion: problem.suggestion.as_deref(),
            position: position.map(|Position { offset, column }| PlaceInText { offset, column }),
        }
    }
}

/// For clients that show one string: what is wrong, the first place where, and what was probably meant; nothing
/// twice.
fn one_line(detail: &str, problems: &[FieldProblem]) -> String {
    let Some(first) = problems.first() else { return detail.to_owned() };
    let mut line = if first.detail.starts_with(detail) && first.pointer.starts_with('/') {
        format!("{}: {}", first.pointer, first.detail)
    } else if detail.contains(&first.detail) {
        detail.to_owned()
    } else {
        format!("{detail}: {}: {}", first.pointer, first.detail)
    };
    if let Some(suggestion) = first.suggestion.as_deref().filter(|meant| !line.contains(*meant)) {
        line.push_str(&format!("; did you mean `{suggestion}`?"));
    }
    line
}

/// An error serialises as the problem of an item, so that results of a batch can hold errors.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Problem::of_item(self).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use serde_json::{Value, json};

    fn shown(error: &Error) -> Value {
        serde_json::from_slice(&Problem::new(error, "req_1").to_json()).unwrap()
    }

    #[test]
    fn a_problem_has_the_published_shape() {
        let error = Error::new(Code::ValidationFailed, "the event breaks a rule").with_problems(vec![
            FieldProblem {
                pointer: "/action".into(),
                code: "bad_action",
                detail: "`userDeleted` is not an action".into(),
                suggestion: Some("user.deleted".into()),
            },
            FieldProblem {
                pointer: "/actor/id".into(),
                code: "missing",
                detail: "it is required".into(),
                suggestion: None,
            },
        ]);
        assert_eq!(
            shown(&error),
            json!({
                "type": "urn:stele:problem:validation_failed",
                "title": "Validation failed",
                "status": 422,
                "detail": "the event breaks a rule",
                "code": "validation_failed",
                "request_id": "req_1",
                "retryable": false,
                "errors": [
                    {"pointer": "/action", "code": "bad_action", "detail": "`userDeleted` is not an action",
                     "suggestion": "user.deleted"},
                    {"pointer": "/actor/id", "code": "missing", "detail": "it is required"},
                ],
                "error": "the event breaks a rule: /action: `userDeleted` is not an action; did you mean `user.deleted`?",
            })
        );
    }

    #[test]
    fn what_lies_behind_is_not_shown() {
        let error =
            Error::unavailable("the hot store does not answer").with_source("10.0.0.1 refused".to_owned());
        let text = shown(&error).to_string();
        assert!(!text.contains("10.0.0.1"), "{text}");
        assert_eq!(shown(&error)["retryable"], json!(true));
        let text = shown(&Error::corrupt("segments/tenant_id=a", "root x", "root y")).to_string();
        assert!(!text.contains("segments/"), "{text}");
    }

    #[test]
    fn every_code_has_an_error_status_and_a_name_of_its_own() {
        for (at, code) in Code::ALL.iter().enumerate() {
            assert!((400..600).contains(&code.status()), "{code:?}");
            assert!(Code::ALL[..at].iter().all(|other| other.as_str() != code.as_str()), "{code:?}");
        }
    }
}
