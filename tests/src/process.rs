//! The program itself as a child process: started, asked over HTTP, killed, started again, and its folder read
//! back without it.
//!
//! Nothing here builds the program: `tests/run` does. A test that would drive an old build says so instead.

use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use stele::id::EventId;
use stele::layout::{self, Object, ObjectKey};
use stele::tlog::hash::LeafIndex;
use stele::tlog::tree::RightEdge;
use stele_adapters::parquet::decode_segment;

/// A platform key every started program accepts.
pub(crate) const KEY: &str = "root";
/// A slow machine that builds something beside the tests.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The program: `STELE_PROGRAM`, or the one beside the tests, which must be as new as its sources.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(given) = std::env::var_os("STELE_PROGRAM") {
            return PathBuf::from(given);
        }
        let tests = std::env::current_exe().expect("the tests are a file");
        let built = tests.parent().and_then(Path::parent).expect("tests lie in `deps`").join("stele");
        const BUILD: &str =
            "build it with `cargo build --workspace --features stele-cli/aws`, as tests/run does";
        let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        let made = modified(&built).unwrap_or_else(|| panic!("`{}` is missing: {BUILD}", built.display()));
        // Written by cargo: `program: source source …`, spaces in names with a backslash before them.
        let sources = fs::read_to_string(built.with_extension("d")).unwrap_or_default();
        let sources = sources.split_once(": ").map_or("", |(_, sources)| sources).replace("\\ ", "\0");
        for source in sources.split_whitespace().map(|source| PathBuf::from(source.replace('\0', " "))) {
            assert!(
                modified(&source).is_some_and(|m| m <= made),
                "`{}` is older than `{}`: {BUILD}",
                built.display(),
                source.display()
            );
        }
        built
    })
}

/// The program with arguments, and without what the environment may say to it.
pub(crate) fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STELE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    command(arguments).output().expect("the program starts")
}

/// What it ended with, and all it said: for messages and for looking into.
pub(crate) fn said(output: &Output) -> (Option<i32>, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// `stele verify` over a data folder: exit code and report.
pub(crate) fn verify(data: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut verify = command(["verify", "--data"]);
    said(&verify.arg(data).args(more).output().expect("the program starts"))
}

/// `stele dev` on a data folder and any free port, not yet ready.
pub(crate) fn spawn(data: &Path) -> Starting {
    let data = data.to_str().expect("the folder's name is UTF-8");
    spawn_with(&["--data", data, "--key", KEY])
}

/// `stele dev` with arguments, on any free port.
pub(crate) fn spawn_with(arguments: &[&str]) -> Starting {
    let mut dev = command(["dev", "--listen", "127.0.0.1:0"]);
    dev.args(arguments);
    spawn_as(dev)
}

fn spawn_as(mut dev: Command) -> Starting {
    let child = dev.stdout(Stdio::piped()).spawn().expect("the program starts");
    Starting { running: Running(child) }
}

/// Starts a `stele dev` put together elsewhere.
pub(crate) fn start_as(dev: Command) -> Stele {
    spawn_as(dev).ready()
}

/// Starts `stele dev` on a data folder.
pub(crate) fn start(data: &Path) -> Stele {
    spawn(data).ready()
}

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `stele dev` on its way up.
pub(crate) struct Starting {
    running: Running,
}

impl Starting {
    /// Waits until it answers.
    pub(crate) fn ready(mut self) -> Stele {
        let lines = lines(self.running.0.stdout.take().expect("it is piped"));
        let until = Instant::now() + READY_WITHIN;
        let mut welcome = String::new();
        while !welcome.ends_with("Ctrl-C stops it.\n") {
            let left = until.saturating_duration_since(Instant::now());
            let line = lines.recv_timeout(left);
            let line = line.unwrap_or_else(|e| panic!("`stele dev` is not ready ({e}); it said: {welcome}"));
            welcome.push_str(&line);
            welcome.push('\n');
        }
        let base = welcome.split_whitespace().find(|word| word.starts_with("http://"));
        let base = base.expect("the welcome names the address").trim_end_matches(',').to_owned();
        Stele { running: self.running, base, welcome }
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(self) {
        drop(self.running);
    }
}

/// Lines as they come, read to the end so that the pipe never fills.
fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens any more: go on reading.
            let _ = send.send(line);
        }
    });
    lines
}

/// A running `stele dev`.
pub(crate) struct Stele {
    running: Running,
    /// `http://127.0.0.1:<port>`.
    pub(crate) base: String,
    /// What it said when it was ready.
    pub(crate) welcome: String,
}

impl Stele {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.running.0.id()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(self) {
        drop(self.running);
    }

    /// Asks it to stop with SIGTERM, and waits until it has.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let told = Command::new("kill").args(["-TERM", &self.id().to_string()]).status();
        assert!(told.expect("there is a `kill`").success(), "it is there to be told");
        let until = Instant::now() + STOPPED_WITHIN;
        loop {
            if let Some(status) = self.running.0.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < until, "it does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// An HTTP client with connections of its own.
pub(crate) struct Client(ureq::Agent);

/// An answer's status and body.
pub(crate) type Answer = (u16, Value);

impl Client {
    pub(crate) fn new() -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_WITHIN))
            .proxy(None);
        Client(config.build().into())
    }

    /// `None`: no whole answer came.
    pub(crate) fn get(&self, url: &str) -> Option<Answer> {
        let request = self.0.get(url).header("authorization", format!("Bearer {KEY}"));
        answer(request.call().ok()?)
    }

    /// `None`: no whole answer came.
    pub(crate) fn post(&self, url: &str, idempotency_key: Option<&str>, body: &str) -> Option<Answer> {
        let mut request = self.0.post(url).header("authorization", format!("Bearer {KEY}"));
        request = request.header("content-type", "application/json");
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        answer(request.send(body).ok()?)
    }
}

fn answer(response: ureq::http::Response<ureq::Body>) -> Option<Answer> {
    let status = response.status().as_u16();
    let body = response.into_body().read_to_vec().ok()?;
    Some((status, serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{status} without JSON: {e}"))))
}

/// An event as the write-once folder has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) tenant: String,
    pub(crate) index: LeafIndex,
    pub(crate) leaf_hash: String,
}

/// All that is sealed, by the segments of a data folder alone: without holes, nothing twice.
pub(crate) fn sealed(data: &Path) -> BTreeMap<EventId, Sealed> {
    let archive = stele_local::archive(data);
    let mut files = Vec::new();
    files_below(&archive.join(layout::SEGMENTS), &mut files);
    // In the order of their keys, which is that of logs and leaves.
    files.sort();
    let mut found = BTreeMap::new();
    let mut edges = BTreeMap::<String, RightEdge>::new();
    for path in files {
        let key = path.strip_prefix(&archive).expect("it is below").to_str().expect("keys are ASCII");
        let Some(Object::Segment { tenant, first, .. }) = ObjectKey::parse(key) else {
            panic!("`{key}` is no segment")
        };
        let segment = decode_segment(&tenant, key, fs::read(&path).expect("it can be read").into());
        let segment = segment.unwrap_or_else(|e| panic!("{e}"));
        let edge = edges.entry(tenant.to_string()).or_insert_with(RightEdge::empty);
        assert_eq!(first, edge.size().next_index(), "`{key}` leaves a hole");
        for (n, record) in (0..).zip(&segment.records) {
            let index = first.plus(n).expect("logs are short");
            let leaf_hash = record.leaf_hash.to_string();
            let before = found.insert(record.id, Sealed { tenant: tenant.to_string(), index, leaf_hash });
            assert_eq!(before, None, "`{}` is sealed twice, again in `{key}`", record.id);
            edge.append(record.leaf_hash);
        }
        assert_eq!(segment.header.end(), edge.size(), "`{key}`");
    }
    found
}

/// All files below a folder, which need not be there.
pub(crate) fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("entries can be read").path();
        if path.is_dir() { files_below(&path, files) } else { files.push(path) }
    }
}

/// Waits for something that comes by itself, such as sealing.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + READY_WITHIN;
    while !is_so() {
        assert!(Instant::now() < until, "in vain waited until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
