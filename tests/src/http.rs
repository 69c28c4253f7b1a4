//! The real runner in this process, spoken to over HTTP; and request/expectation scripts, which are how its
//! answers are written down.
//!
//! A script is a text file of exchanges. A line `---` stands between two of them; a line `### 422` ends a request
//! and begins what is expected: the status, the headers named in [`COMPARED`], and the body, laid out by
//! [`laid_out`]. A body `…` is not compared. Lines before a request that begin with `#` are for the reader; a line
//! `@sealed` repeats the request until no event of its answer waits to be sealed. `events/README.md` lists what may
//! stand in braces. With `STELE_BLESS=1` expectations are written instead of compared.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stele::routes::match_route;
use stele::time::Timestamp;
use stele_local::{Runner, Settings};

/// A platform key.
pub(crate) const ROOT: &str = "root";
/// A key bound to `org_demo`.
pub(crate) const DEMO: &str = "demo";
/// A key bound to `org_other`.
pub(crate) const OTHER: &str = "other";

/// Headers of an answer that scripts show and compare.
const COMPARED: [&str; 7] = [
    "content-type",
    "content-disposition",
    "idempotent-replayed",
    "preference-applied",
    "allow",
    "retry-after",
    "www-authenticate",
];
/// Members whose values are different each time and tell nothing.
const MASKED: [&str; 5] = ["request_id", "next_cursor", "next_since", "key", "key_id"];
/// Members that count what goes on beside the script.
const COUNTING: [&str; 2] = ["checked", "objects"];
/// How long sealing may take: what the runner promises.
pub(crate) const SEALED_WITHIN: Duration = Duration::from_secs(2);

/// A running service. It ends with the process.
pub(crate) struct Service {
    base: String,
    agent: ureq::Agent,
    documented: serde_json::Value,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("answers are UTF-8")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// With this status, or the test has failed.
    pub(crate) fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Service {
    /// Starts one, over a folder or in memory.
    pub(crate) fn start(data: Option<PathBuf>) -> Service {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
            runtime.block_on(async {
                let runner = Runner::start(Settings {
                    listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                    data,
                    keys: vec![ROOT.into(), format!("org_demo:{DEMO}"), format!("org_other:{OTHER}")],
                    witnesses: Vec::new(),
                })
                .await
                .expect("the runner starts");
                tell.send(runner.address()).expect("the test waits for the address");
                runner.run(std::future::pending()).await.expect("the runner runs");
            });
        });
        let address: SocketAddr = told.recv().expect("the runner tells its address");
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build();
        let mut service = Service {
            base: format!("http://{address}"),
            agent: ureq::Agent::new_with_config(config),
            documented: serde_json::Value::Null,
        };
        service.documented = service.get("", "/v1/openapi.json").expect(200).json();
        service
    }

    /// The base a client is pointed at, without `/v1`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request. Every answer must carry a `Request-Id` and be one that OpenAPI announces.
    pub(crate) fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{target}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = match body.as_ref() {
            [] => self.agent.run(request.body(()).expect("a request")),
            body => self.agent.run(request.body(body.to_vec()).expect("a request")),
        };
        let mut response = sent.unwrap_or_else(|e| panic!("{method} {target}: {e}"));
        let headers = response.headers().iter();
        let headers =
            headers.map(|(n, v)| (n.as_str().to_owned(), v.to_str().expect("plain headers").to_owned()));
        let answer = Answer {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: response.body_mut().with_config().limit(64 << 20).read_to_vec().expect("the whole body"),
        };
        assert!(
            answer.header("request-id").is_some_and(|id| !id.is_empty()),
            "{method} {target}: {answer:?}"
        );
        assert!(answer.status < 500, "{method} {target}: {}", answer.text());
        self.is_documented(method, target, &answer);
        answer
    }

    pub(crate) fn get(&self, key: &str, target: &str) -> Answer {
        self.send("GET", target, &[("authorization", &format!("Bearer {key}"))], "")
    }

    pub(crate) fn post(&self, key: &str, target: &str, body: impl AsRef<[u8]>) -> Answer {
        let key = format!("Bearer {key}");
        self.send("POST", target, &[("authorization", &key), ("content-type", "application/json")], body)
    }

    /// Asks until nothing in the answer waits to be sealed.
    pub(crate) fn get_sealed(&self, key: &str, target: &str) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.get(key, target);
            if !answer.text().contains("\"state\":\"recorded\"") || begun.elapsed() > SEALED_WITHIN {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// What OpenAPI says.
    pub(crate) fn documented(&self) -> &serde_json::Value {
        &self.documented
    }

    fn is_documented(&self, method: &str, target: &str, answer: &Answer) {
        let path = target.split('?').next().unwrap_or_default();
        let method = ureq::http::Method::from_bytes(method.as_bytes()).expect("a method");
        if self.documented.is_null() {
            return;
        }
        // A path or method we do not have is documented by its absence.
        let Ok((route, _)) = match_route(&method, path) else { return };
        let operation = &self.documented["paths"][route.template][method.as_str().to_ascii_lowercase()];
        let responses = &operation["responses"];
        let exact = &responses[answer.status.to_string()];
        let found = if exact.is_null() { &responses[format!("{}XX", answer.status / 100)] } else { exact };
        let found = match found["$ref"].as_str() {
            Some(reference) => {
                self.documented.pointer(reference.trim_start_matches('#')).expect("a reference")
            }
            None => found,
        };
        let kind = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        assert!(
            found["content"][kind].is_object(),
            "{method} {path}: {} {kind} is not in OpenAPI: {found}",
            answer.status
        );
    }
}

/// Runs all scripts of a folder and says how many there were.
pub(crate) fn run_scripts(service: &Service, folder: &Path) -> usize {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "http"))
        .collect();
    paths.sort();
    let bless = std::env::var_os("STELE_BLESS").is_some();
    let mut wrong = String::new();
    for path in &paths {
        let expected = fs::read_to_string(path).expect("a script is UTF-8");
        let found = run_script(service, &expected);
        if found == expected {
            continue;
        }
        if bless {
            fs::write(path, &found).expect("the script is written");
        } else {
            wrong.push_str(&format!("\n{}\n{}", path.display(), difference(&expected, &found)));
        }
    }
    assert!(wrong.is_empty(), "answers differ (STELE_BLESS=1 writes them down):{wrong}");
    paths.len()
}

/// The script with what was answered in place of what was expected.
fn run_script(service: &Service, script: &str) -> String {
    let mut answers: Vec<Answer> = Vec::new();
    let mut out = Vec::new();
    for exchange in script.split("\n---\n") {
        let (request, expected) = match exchange.split_once("\n### ") {
            Some((request, expected)) => (request, Some(expected)),
            None => (exchange, None),
        };
        let mut filled = Filled::default();
        let answer = send_text(service, &filled.fill(request, &answers), request);
        let mut found = format!("{}\n\n### {}", request.trim_end(), answer.status);
        let ignored = expected.is_some_and(|text| text.trim_end().ends_with("\n…"));
        for name in COMPARED.iter().filter(|_| !ignored) {
            if let Some(value) = answer.header(name) {
                found.push_str(&format!("\n{name}: {value}"));
            }
        }
        found.push_str("\n\n");
        match ignored {
            true => found.push('…'),
            false => found.push_str(filled.mask(&laid_out(answer.text())).trim_end()),
        }
        out.push(found + "\n");
        answers.push(answer);
    }
    out.join("\n---\n")
}

fn send_text(service: &Service, filled: &[u8], request: &str) -> Answer {
    let head_end = find(filled, b"\n\n").unwrap_or(filled.len());
    let head = std::str::from_utf8(&filled[..head_end]).expect("a head is UTF-8");
    let body = filled.get(head_end + 2..).unwrap_or_default().trim_ascii_end();
    let mut lines = head.lines().filter(|line| !line.starts_with(['#', '@']));
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).expect("a request line");
    let headers: Vec<(&str, &str)> =
        lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no header: `{line}`"))).collect();
    let begun = Instant::now();
    loop {
        let answer = service.send(method, target, &headers, body);
        let waits = request.lines().any(|line| line == "@sealed")
            && answer.text().contains("\"state\":\"recorded\"")
            && begun.elapsed() <= SEALED_WITHIN;
        if !waits {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// What stood in braces, and what it became.
#[derive(Default)]
struct Filled {
    values: Vec<(String, String)>,
    sent: Vec<u8>,
}

impl Filled {
    fn fill(&mut self, request: &str, answers: &[Answer]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = request;
        while let Some((before, after)) = rest.split_once("{{") {
            out.extend_from_slice(before.as_bytes());
            let (expression, after) = after.split_once("}}").expect("braces are closed");
            let words: Vec<&str> = expression.split(' ').collect();
            match words.as_slice() {
                ["repeat", text, times] => {
                    out.extend_from_slice(text.repeat(times.parse().expect("a count")).as_bytes());
                }
                ["events", count, bytes] => {
                    let filler = "x".repeat(bytes.parse().expect("a count"));
                    let event = format!(
                        r#"{{"actor": {{"id": "u"}}, "action": "dump.made", "description": "{filler}"}}"#
                    );
                    let events = vec![event; count.parse().expect("a count")];
                    out.extend_from_slice(events.join(", ").as_bytes());
                }
                ["bytes", hex @ ..] => {
                    out.extend(hex.iter().map(|hex| u8::from_str_radix(hex, 16).expect("two digits")));
                }
                [word] => {
                    let value = match word.strip_prefix("now") {
                        Some(distance) => moved(distance),
                        None => of_answer(word, answers),
                    };
                    out.extend_from_slice(value.as_bytes());
                    self.values.push((format!("{{{{{word}}}}}"), value));
                }
                _ => panic!("`{expression}` means nothing"),
            }
            rest = after;
        }
        out.extend_from_slice(rest.as_bytes());
        self.sent.clone_from(&out);
        // What an earlier answer gave and this one repeats is shown to be the same.
        for (at, answer) in answers.iter().enumerate().filter(|(_, answer)| answer.status == 201) {
            let Ok(json) = serde_json::from_slice::<serde_json::Value>(&answer.body) else { continue };
            for member in ["id", "receipt/leaf_hash"] {
                if let Some(value) = json.pointer(&format!("/{member}")).and_then(|v| v.as_str()) {
                    self.values.push((format!("{{{{{}/{member}}}}}", at + 1), value.to_owned()));
                }
            }
        }
        out
    }

    /// What is different each time, replaced by what it is.
    fn mask(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.values {
            text = text.replace(value, name);
        }
        // A signed receipt: what it says is tested where it is opened.
        while let Some(at) =
            text.find("\"stele.local/").filter(|at| text[*at..].contains("nstele receipt v1"))
        {
            let end = text[at + 1..].find('"').map_or(text.len(), |end| at + 1 + end + 1);
            text.replace_range(at..end, "\"{{receipt}}\"");
        }
        let shapes = [
            ("0000-00-00T00:00:00.000Z", "{{time}}"),
            ("evt_xxxxxxxx-xxxx-7xxx-xxxx-xxxxxxxxxxxx", "evt_{{uuid}}"),
            ("xxxxxxxx-xxxx-7xxx-xxxx-xxxxxxxxxxxx", "{{uuid}}"),
            (&"x".repeat(64), "{{hash}}"),
            ("hold_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "hold_{{hex}}"),
        ];
        for (shape, name) in shapes {
            let mut masked = String::new();
            let mut rest = text.as_str();
            while let Some(c) = rest.chars().next() {
                let part = rest.as_bytes().get(..shape.len()).unwrap_or_default();
                let fits = !part.is_empty()
                    && shape.bytes().zip(part).all(|(s, b)| match s {
                        b'0' => b.is_ascii_digit(),
                        b'x' => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
                        s => s == *b,
                    })
                    && find(&self.sent, part).is_none()
                    && !is_long_ago(part);
                match fits {
                    true => masked.push_str(name),
                    false => masked.push(c),
                }
                rest = &rest[if fits { shape.len() } else { c.len_utf8() }..];
            }
            text = masked;
        }
        text
    }
}

/// Whether this is a time that no server chose: an example's, the same each time.
fn is_long_ago(time: &[u8]) -> bool {
    let time = std::str::from_utf8(time).ok().and_then(|text| Timestamp::parse(text).ok());
    time.is_some_and(|time| time.to_string() < moved("-60d"))
}

/// `+10m`, `-31d`, or nothing: that far from now.
fn moved(distance: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis();
    let now = Timestamp::from_ms(u64::try_from(now).expect("it is before 2554"));
    let Some(unit) = distance.chars().last() else { return now.to_string() };
    let count: u64 = distance[1..distance.len() - 1].parse().expect("a count");
    let ms = count * if unit == 'd' { 86_400_000 } else { 60_000 };
    if distance.starts_with('-') { now.minus_ms(ms) } else { now.plus_ms(ms) }.to_string()
}

/// `1/next_cursor`: a member of the first exchange's answer.
fn of_answer(word: &str, answers: &[Answer]) -> String {
    let (number, pointer) = word.split_once('/').unwrap_or_else(|| panic!("`{word}` means nothing"));
    let number: usize = number.parse().unwrap_or_else(|_| panic!("`{word}` means nothing"));
    let value = answers[number - 1].json();
    match value.pointer(&format!("/{pointer}")) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => panic!("answer {number} has no `{pointer}`: {value}"),
    }
}

/// JSON with its members in their order, one line for what fits one; any other text as it is.
pub(crate) fn laid_out(text: &str) -> String {
    if !text.starts_with(['{', '[']) || serde_json::from_str::<&serde_json::value::RawValue>(text).is_err() {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut at = 0;
    lay_out(text, &mut at, 0, &mut out);
    out
}

const WIDTH: usize = 110;

/// One value of a text known to be JSON without white space.
fn lay_out(text: &str, at: &mut usize, indent: usize, out: &mut String) {
    let open = text.as_bytes()[*at];
    if !matches!(open, b'{' | b'[') {
        out.push_str(scalar(text, at));
        return;
    }
    *at += 1;
    let mut items = Vec::new();
    while !matches!(text.as_bytes()[*at], b'}' | b']') {
        if text.as_bytes()[*at] == b',' {
            *at += 1;
        }
        let mut item = String::new();
        if open == b'{' {
            let key = scalar(text, at);
            item.push_str(key);
            item.push_str(": ");
            *at += 1;
            if MASKED.contains(&key.trim_matches('"')) && text.as_bytes()[*at] == b'"' {
                let value = scalar(text, at);
                // The id of a key given at the start follows from the key; a request's in an event is its sender's.
                let own = key.trim_matches('"') == "request_id" && !value.starts_with("\"req_");
                item.push_str(if own || value.starts_with("\"given-") { value } else { "\"…\"" });
                items.push(item);
                continue;
            }
            if COUNTING.contains(&key.trim_matches('"')) && text.as_bytes()[*at].is_ascii_digit() {
                scalar(text, at);
                item.push_str("\"…\"");
                items.push(item);
                continue;
            }
        }
        lay_out(text, at, indent + 2, &mut item);
        items.push(item);
    }
    let close = if open == b'{' { '}' } else { ']' };
    *at += 1;
    let width: usize = items.iter().map(|item| item.chars().count() + 2).sum();
    out.push(open as char);
    if indent > 0 && indent + width <= WIDTH && items.iter().all(|item| !item.contains('\n'))
        || items.is_empty()
    {
        out.push_str(&items.join(", "));
    } else {
        let pad = " ".repeat(indent + 2);
        out.push_str(&format!("\n{pad}{}\n{}", items.join(&format!(",\n{pad}")), " ".repeat(indent)));
    }
    out.push(close);
}

fn scalar<'t>(text: &'t str, at: &mut usize) -> &'t str {
    let bytes = text.as_bytes();
    let start = *at;
    if bytes[start] == b'"' {
        *at += 1;
        while bytes[*at] != b'"' {
            *at += if bytes[*at] == b'\\' { 2 } else { 1 };
        }
        *at += 1;
    } else {
        while !matches!(bytes[*at], b',' | b'}' | b']') {
            *at += 1;
        }
    }
    &text[start..*at]
}

fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let same = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let shown = |lines: &[&str], mark: &str| -> String {
        lines.iter().skip(same).take(12).map(|line| format!("  {mark} {line}\n")).collect()
    };
    format!("  line {}:\n{}{}", same + 1, shown(&expected, "-"), shown(&found, "+"))
}

/// The one service of the files whose tests keep to tenants of their own.
pub(crate) fn shared() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| Service::start(None))
}
