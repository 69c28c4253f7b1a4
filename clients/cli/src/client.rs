//! HTTP to a server: one request, one answer, and how refusals read.
//!
//! It does not decide what may be sent again: who calls knows whether a request is idempotent.

use crate::show::{Clean, Failure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use ureq::http::{HeaderMap, Method, Request};

const CONNECT: Duration = Duration::from_secs(5);
/// A batch may wait for many slow writes of a local disk.
const ANSWER: Duration = Duration::from_secs(120);
/// Longest answer read: an export and some more.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Which server, and as whom.
#[derive(Args, Clone, Debug)]
pub(crate) struct Server {
    /// Where the API is
    #[arg(long, env = "STELE_URL", default_value = "http://127.0.0.1:8787", value_name = "URL")]
    url: String,
    /// API key [default: on this machine, the platform key of `stele dev`]
    #[arg(long, env = "STELE_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Data folder of `stele dev`, to find its key
    #[arg(long, env = "STELE_DATA", default_value = "./.stele", value_name = "DIR")]
    data: PathBuf,
}

/// A server that can be asked.
pub(crate) struct Client {
    agent: ureq::Agent,
    /// For files, which take as long as they take.
    downloads: ureq::Agent,
    base: String,
    key: String,
}

/// What a server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// A refusal as `application/problem+json` says it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Problem {
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) detail: String,
    #[serde(default)]
    pub(crate) retryable: bool,
    #[serde(default)]
    pub(crate) errors: Vec<Place>,
}

/// One place of an event, and what is odd about it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Place {
    #[serde(default)]
    pub(crate) pointer: String,
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) suggestion: Option<String>,
}

impl Server {
    /// Prepares to ask it. Nothing is sent yet.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let base = base(&self.url)?;
        let local = is_local(base);
        let key = match &self.key {
            Some(key) => key.clone(),
            // Its own key stays on its own machine.
            None if local => self.dev_key()?,
            None => {
                let text = format!("`{base}` needs an API key: give it with --key or STELE_KEY");
                return Err(Failure::CouldNot(text));
            }
        };
        if key.is_empty() || !key.bytes().all(|c| c.is_ascii_graphic()) {
            let text = "an API key is one or more visible ASCII characters: check --key or STELE_KEY";
            return Err(Failure::CouldNot(text.to_owned()));
        }
        let agent = |whole: Option<Duration>| -> ureq::Agent {
            let config = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .timeout_connect(Some(CONNECT))
                .timeout_recv_response(Some(ANSWER))
                .timeout_global(whole)
                .user_agent(concat!("stele/", env!("CARGO_PKG_VERSION")));
            // A proxy of the environment does not lead to this machine.
            let config = if local { config.proxy(None) } else { config };
            config.build().into()
        };
        Ok(Client { agent: agent(Some(ANSWER)), downloads: agent(None), base: base.to_owned(), key })
    }

    fn dev_key(&self) -> Result<String, Failure> {
        let keys = stele_local::secrets::dev_keys(&self.data).map_err(|e| Failure::of(&e))?;
        keys.into_iter().find(|key| key.tenant.is_none()).map(|key| key.text).ok_or_else(|| {
            let data = self.data.display();
            Failure::CouldNot(format!(
                "no API key: give one with --key or STELE_KEY, or the folder of `stele dev` with --data (`{data}` \
                 has none)"
            ))
        })
    }
}

/// The server's address without what every path begins with.
fn base(url: &str) -> Result<&str, Failure> {
    let base = url.trim_end_matches('/');
    let base = base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/');
    let rest = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://")).unwrap_or_default();
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '@');
    if rest.is_empty() || rest.contains(strange) {
        let url = Clean(url);
        return Err(Failure::CouldNot(format!(
            "`{url}` is no address: it looks like `http://127.0.0.1:8787`"
        )));
    }
    Ok(base)
}

/// Whether an address is on this machine.
fn is_local(base: &str) -> bool {
    let host = base.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Client {
    /// Asks for something.
    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Failure> {
        self.send(Method::GET, path, query, &[], Vec::new())
    }

    /// Sends something.
    pub(crate) fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        self.send(Method::POST, path, &[], headers, body)
    }

    /// Puts something in place of what there is, in JSON.
    pub(crate) fn put(&self, path: &str, query: &[(&str, &str)], body: Vec<u8>) -> Result<Answer, Failure> {
        self.send(Method::PUT, path, query, &[("content-type", "application/json")], body)
    }

    /// Removes something.
    pub(crate) fn delete(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Failure> {
        self.send(Method::DELETE, path, query, &[], Vec::new())
    }

    /// Reads a file from a byte on, at a path of this server or at a link it gave. Only this server sees the key.
    pub(crate) fn download(&self, url: &str, from: u64) -> Result<Box<dyn std::io::Read>, Failure> {
        let request = match url.starts_with('/') {
            true => Request::get(format!("{}{url}", self.base))
                .header("authorization", format!("Bearer {}", self.key)),
            false => Request::get(url),
        };
        let request = if from > 0 { request.header("range", format!("bytes={from}-")) } else { request };
        let unreachable =
            |why: ureq::Error| Failure::CouldNot(format!("the file does not come ({why}): try again"));
        let done = request.body(()).map_err(ureq::Error::from).and_then(|r| self.downloads.run(r));
        let (parts, body) = done.map_err(unreachable)?.into_parts();
        match (parts.status.as_u16(), from) {
            (200, 0) | (206, _) => Ok(Box::new(body.into_reader())),
            (200, _) => Err(Failure::Refused(
                "the server sends files only whole: remove what came and begin anew".to_owned(),
            )),
            (status @ 400..=499, _) => {
                Err(Failure::Refused(format!("the server answered {status} to the request for the file")))
            }
            (status, _) => {
                Err(Failure::CouldNot(format!("the server answered {status} to the request for the file")))
            }
        }
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let mut url = format!("{}{path}", self.base);
        for (at, (name, value)) in query.iter().enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            encode(&mut url, value);
        }
        let authorization = format!("Bearer {}", self.key);
        let mut request = Request::builder().method(&method).uri(url).header("authorization", authorization);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let unreachable = |why: ureq::Error| {
            let base = &self.base;
            Failure::CouldNot(format!(
                "`{base}` does not answer ({why}): is `stele dev` running? Or give --url"
            ))
        };
        let done = match method == Method::POST || method == Method::PUT {
            true => request.body(body).map_err(ureq::Error::from).and_then(|r| self.agent.run(r)),
            false => request.body(()).map_err(ureq::Error::from).and_then(|r| self.agent.run(r)),
        };
        let (parts, mut body) = done.map_err(unreachable)?.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(unreachable)?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

/// Percent-encodes a value of a query or a part of a path (RFC 3986 §2.3).
pub(crate) fn encode(out: &mut String, value: &str) {
    for b in value.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(b as char),
            b => {
                // Writing to a text can't fail.
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
}

impl Answer {
    /// The body, if the answer is a success; else what the server said.
    pub(crate) fn into_body(self) -> Result<Vec<u8>, Failure> {
        match self.status {
            200..=299 => Ok(self.body),
            400..=499 => Err(Failure::Refused(self.refusal())),
            _ => Err(Failure::CouldNot(self.refusal())),
        }
    }

    /// The body as JSON.
    pub(crate) fn into_json<T: for<'de> Deserialize<'de>>(self) -> Result<T, Failure> {
        let body = self.into_body()?;
        serde_json::from_slice(&body).map_err(|e| Failure::could_not("understand the answer", e))
    }

    /// What a refusal says.
    pub(crate) fn problem(&self) -> Option<Problem> {
        serde_json::from_slice(&self.body).ok().filter(|p: &Problem| !p.code.is_empty())
    }

    fn refusal(&self) -> String {
        match self.problem() {
            Some(problem) => problem.to_string(),
            None => {
                let body = String::from_utf8_lossy(&self.body);
                let start: String = body.trim().chars().take(200).collect();
                let body = Clean(&start);
                format!("the server answered {}: is it a Stele server? {body}", self.status)
            }
        }
    }
}

impl std::fmt::Display for Problem {
    /// `code: detail`, and a line for each place.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", Clean(&self.code), Clean(&self.detail))?;
        for place in &self.errors {
            write!(f, "\n  {place}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pointer = if self.pointer.is_empty() { "(the whole)" } else { &self.pointer };
        write!(f, "{}: {}", Clean(pointer), Clean(&self.detail))?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; send `{}`", Clean(suggestion)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_may_end_in_v1_and_must_be_one() {
        for url in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"] {
            assert_eq!(base(url).unwrap(), "http://h:1");
        }
        assert_eq!(base("https://h/stage").unwrap(), "https://h/stage");
        for url in ["", "h:1", "ftp://h", "http://", "http://a b", "http://h?x=1", "http://k@h"] {
            assert!(base(url).is_err(), "{url}");
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        for here in ["http://localhost:1", "http://127.0.0.1", "http://127.1.2.3:5/x", "http://[::1]:8787"] {
            assert!(is_local(here), "{here}");
        }
        for there in ["http://localhost.example.com", "http://127.0.0.1.example.com", "http://10.0.0.1:1"] {
            assert!(!is_local(there), "{there}");
        }
    }

    #[test]
    fn values_are_encoded() {
        let mut out = String::new();
        encode(&mut out, "a.b*&ä ~");
        assert_eq!(out, "a.b%2A%26%C3%A4%20~");
    }

    #[test]
    fn a_refusal_names_its_places_and_what_to_send() {
        let body = br#"{"code":"validation_failed","detail":"a rule","errors":[{"pointer":"/action",
            "code":"bad_action","detail":"`x` is no action","suggestion":"user.x"}]}"#;
        let answer = Answer { status: 422, headers: HeaderMap::new(), body: body.to_vec() };
        let Err(Failure::Refused(text)) = answer.into_body() else { panic!("it is refused") };
        assert_eq!(text, "validation_failed: a rule\n  /action: `x` is no action; send `user.x`");
    }
}
