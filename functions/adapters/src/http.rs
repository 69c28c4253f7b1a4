//! Requests and answers as all functions see them: whole bodies, JSON, problems, request ids.
//!
//! Where a request comes from (API Gateway, a local listener) is the concern of whoever calls a handler; what
//! the paths are is said in [`stele::routes`].

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode, Uri};
use serde::Serialize;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use stele::ports::Random;
use stele::problem::{self, Problem};
use stele::routes::{self, Parameters};
use stele::{Error, Kind, Result};

/// A request with its whole body.
pub type Request = http::Request<Bytes>;
/// An answer with its whole body.
pub type Response = http::Response<Bytes>;

/// A part of a file as the body of an answer, in its extensions: the answer's own body is empty then, and whoever serves it
/// reads the file as it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileBody {
    /// The file.
    pub path: PathBuf,
    /// Which bytes of it.
    pub range: Range<u64>,
}

/// The header a request id travels in, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Seconds to wait before a retry, when nothing better is known.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// An answer of any media type. Answers hold audit data: no cache may keep them.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer in JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => answer(status, "application/json", body),
        Err(source) => problem(
            &Error::new(stele::Code::Internal, "the answer could not be written").with_source(source),
            "",
        ),
    }
}

/// An error as an answer. Errors of ours are logged here, with what lies behind them; events never are.
pub fn problem(error: &Error, request_id: &str) -> Response {
    match error.kind() {
        Kind::Internal | Kind::Corrupt => {
            tracing::error!(request_id, error = %Chain(error), "request failed");
        }
        Kind::Unavailable | Kind::Overloaded => {
            tracing::warn!(request_id, error = %Chain(error), "request turned away");
        }
        Kind::Invalid | Kind::Unauthorized | Kind::NotFound | Kind::Conflict => {}
    }
    let status = StatusCode::from_u16(error.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(status, problem::CONTENT_TYPE, Problem::new(error, request_id).to_json());
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The answer to a request that failed: [`problem()`], and for a method its path does not have, the `Allow` header
/// that RFC 9110 §15.5.6 demands.
pub fn refusal(request: &http::request::Parts, error: &Error, request_id: &str) -> Response {
    let mut response = problem(error, request_id);
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && let Ok(allowed) = HeaderValue::try_from(routes::allowed(request.uri.path()))
    {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

/// Puts the request id on an answer.
pub fn with_request_id(mut response: Response, request_id: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The id a request goes by in answers and logs: the one it brings, if that is short and plain, or a new one.
pub fn request_id(request: &Request, random: &dyn Random) -> String {
    let brought = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let plain = |id: &&str| {
        matches!(id.len(), 1..=64)
            && id.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    match brought.filter(plain) {
        Some(id) => id.to_owned(),
        None => format!("req_{:032x}", random.bits()),
    }
}

/// The query string, decoded strictly.
///
/// # Errors
/// `bad_parameter`.
pub fn parameters(uri: &Uri) -> Result<Parameters> {
    Parameters::parse(uri.query().unwrap_or_default())
}

/// An error with everything that lies behind it, in one line, for the log only.
struct Chain<'a>(&'a Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the error's own text: places of a request may quote the event.
        write!(f, "{}: {}", self.0.code().as_str(), self.0.detail())?;
        let mut source = self.0.source();
        while let Some(inner) = source {
            write!(f, ": {inner}")?;
            source = inner.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele::Code;

    struct Sevens;

    impl Random for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn request(id: Option<&str>) -> Request {
        let mut request = Request::new(Bytes::new());
        if let Some(id) = id {
            request.headers_mut().insert(REQUEST_ID, HeaderValue::from_str(id).unwrap());
        }
        request
    }

    #[test]
    fn a_plain_request_id_is_kept_and_any_other_replaced() {
        assert_eq!(request_id(&request(Some("abc-1")), &Sevens), "abc-1");
        for id in [None, Some("a b"), Some("<script>"), Some(""), Some(&*"x".repeat(65))] {
            assert_eq!(request_id(&request(id), &Sevens), format!("req_{}", "07".repeat(16)));
        }
    }

    #[test]
    fn refusals_carry_the_headers_their_status_demands() {
        let unavailable = problem(&Error::unavailable("the hot store does not answer"), "r");
        assert_eq!(unavailable.headers()[RETRY_AFTER], "1");
        assert_eq!(unavailable.headers()[CONTENT_TYPE], "application/problem+json");
        let unknown = problem(&Error::new(Code::InvalidKey, "unknown"), "r");
        assert_eq!(unknown.headers()[WWW_AUTHENTICATE], "Bearer");
        let (parts, _) = http::Request::put("/v1/events").body(()).unwrap().into_parts();
        let refused = refusal(&parts, &Error::new(Code::MethodNotAllowed, "no"), "r");
        assert_eq!(refused.headers()[ALLOW], "POST, GET");
    }

    #[test]
    fn the_log_sees_the_sources_and_not_the_places() {
        let inner = Error::unavailable("inner").with_source(std::io::Error::other("innermost"));
        let error = Error::new(Code::Internal, "outer").with_source(inner).with_problems(vec![
            stele::error::FieldProblem {
                pointer: "/a".into(),
                code: "x",
                detail: "secret".into(),
                suggestion: None,
            },
        ]);
        assert_eq!(Chain(&error).to_string(), "internal: outer: unavailable: inner: innermost");
    }
}
