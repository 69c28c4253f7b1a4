//! Load on the program as a child process, over HTTP with connections that are kept: accepted events per second
//! and how long a request takes, for single events and batches, on a file and in memory.
//!
//! It measures the program as it was built (`STELE_PROGRAM`, else the one beside this) on the machine it shares
//! with its own clients; each row is bounded by a time and a number of events. Arguments: `--seconds N`,
//! `--events N`, `--file`, `--memory`.

#![allow(missing_docs, clippy::print_stdout)]

#[allow(dead_code)]
#[path = "../src/process.rs"]
mod process;

use crate::process::{KEY, Stele};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use stele::id::EventId;
use stele::ports::Clock;
use stele_adapters::clock::{SeededRandom, SystemClock};

const BATCH: u64 = 100;
const TENANTS: u64 = 10;
/// Requests before those that count: caches fill, tenants come into being.
const WARM_UP: u64 = 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|a| a == name);
    let number = |name: &str, default: u64| {
        let value = arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
        value.map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name} takes a number, not `{v}`")))
    };
    let (seconds, events) = (number("--seconds", 5), number("--events", 50_000));
    let both = has("--file") == has("--memory");
    println!(
        "program {}; {} CPUs shared with the clients; a row ends after {seconds} s or {events} events",
        process::program().display(),
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    println!("store   connections  events/request  events  events/s  p50 ms  p99 ms  (of a request)");
    for (store, wanted) in [("file", both || has("--file")), ("memory", both || has("--memory"))] {
        if !wanted {
            continue;
        }
        for connections in [1, 16] {
            for batch in [1, BATCH] {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let data = folder.path().to_str().expect("its name is UTF-8");
                let place = if store == "file" { vec!["--data", data] } else { vec!["--memory"] };
                let stele = process::spawn_with(&[&place[..], &["--key", KEY]].concat()).ready();
                let row = load(&stele, connections, batch, Duration::from_secs(seconds), events);
                println!("{store:6}  {connections:11}  {batch:14}  {row}");
            }
        }
    }
}

/// Sends on so many connections until the time or the events are used up.
fn load(stele: &Stele, connections: u64, batch: u64, time: Duration, events: u64) -> String {
    let accepted = AtomicU64::new(0);
    let warm = Sender::new(stele, 99, batch);
    warm.run(WARM_UP, &AtomicU64::new(0), u64::MAX, Instant::now() + time);
    let began = Instant::now();
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..connections)
            .map(|n| {
                let sender = Sender::new(stele, n, batch);
                let accepted = &accepted;
                scope.spawn(move || sender.run(u64::MAX, accepted, events, began + time))
            })
            .collect();
        senders.into_iter().flat_map(|s| s.join().expect("a sender")).collect()
    });
    let (seconds, accepted) = (began.elapsed().as_secs_f64(), accepted.into_inner());
    took.sort_unstable();
    let quantile = |q: usize| took[(took.len() - 1) * q / 100].as_secs_f64() * 1_000.0;
    let rate = accepted as f64 / seconds;
    format!("{accepted:6}  {rate:8.0}  {:6.2}  {:6.2}", quantile(50), quantile(99))
}

/// One connection, spoken to without a library: the client should cost little beside the server.
struct Sender {
    stream: TcpStream,
    name: u64,
    batch: u64,
}

impl Sender {
    fn new(stele: &Stele, name: u64, batch: u64) -> Sender {
        let address = stele.base.trim_start_matches("http://");
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket option");
        Sender { stream, name, batch }
    }

    fn run(mut self, requests: u64, accepted: &AtomicU64, events: u64, until: Instant) -> Vec<Duration> {
        let chance = SeededRandom::new(self.name + 1);
        let (mut took, mut answer) = (Vec::new(), Vec::new());
        for _ in 0..requests {
            if Instant::now() >= until || accepted.load(Ordering::Relaxed) >= events {
                break;
            }
            let request = self.request(&chance);
            let began = Instant::now();
            self.stream.write_all(&request).expect("it reads");
            self.read(&mut answer);
            took.push(began.elapsed());
            let text = String::from_utf8_lossy(&answer);
            let whole = match self.batch {
                1 => text.starts_with("HTTP/1.1 201 "),
                n => text.contains(&format!(r#""accepted":{n},"#)),
            };
            assert!(whole, "not all accepted: {text}");
            accepted.fetch_add(self.batch, Ordering::Relaxed);
        }
        took
    }

    fn request(&self, chance: &SeededRandom) -> Vec<u8> {
        let events: Vec<String> = (0..self.batch).map(|_| event(chance)).collect();
        let (path, body) = match self.batch {
            1 => ("/v1/events", events.concat()),
            _ => ("/v1/events/batch", format!(r#"{{"events":[{}]}}"#, events.join(","))),
        };
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// Reads one answer, head and body.
    fn read(&mut self, answer: &mut Vec<u8>) {
        answer.clear();
        let mut buffer = [0; 64 * 1024];
        let mut whole = usize::MAX;
        while answer.len() < whole {
            let n = self.stream.read(&mut buffer).expect("it answers");
            assert!(n > 0, "it hung up");
            answer.extend_from_slice(&buffer[..n]);
            if whole == usize::MAX {
                let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.and_then(|l| l.parse().ok()).expect("it says how long it is");
                whole = end + 4 + length;
            }
        }
    }
}

/// About 750 bytes, with an id as SDKs give it.
fn event(chance: &SeededRandom) -> String {
    let (a, b) = (chance.next_u64(), chance.next_u64());
    let id = EventId::new(SystemClock.now(), u128::from(a) << 64 | u128::from(b)).shown();
    let (tenant, user, invoice) = (a % TENANTS, a % 97, b % 9_973);
    format!(
        r#"{{"id":"{id}","tenant_id":"org_{tenant}","actor":{{"type":"user","id":"user_{user:08}","name":"Alice Johnson","email":"user{user}@example.com"}},"action":"invoice.deleted","outcome":"success","resource":{{"type":"invoice","id":"inv_{invoice:08}","name":"Invoice #{invoice}"}},"changes":[{{"path":"/status","before":"open","after":"void"}}],"context":{{"ip":"203.0.113.{}","user_agent":"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36","session_id":"ses_{a:016x}","request_id":"req_{b:016x}"}},"description":"Alice deleted invoice #{invoice}","metadata":{{"plan":"pro","region":"eu-central-1","duration_ms":{}}}}}"#,
        a % 250,
        b % 900,
    )
}
