//! Send: one event, and its receipt.

use crate::client::Server;
use crate::show::{Failure, print};
use clap::Args;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use stele::json::Json;
use stele::limits::EVENT_BODY_BYTES_MAX;
use stele::ports::Random;
use stele_adapters::clock::SystemRandom;

/// Sends one event and prints the answer, receipt included
#[derive(Args, Debug)]
pub(crate) struct Send {
    /// A file with the event as JSON, or `-` for standard input
    #[arg(value_name = "EVENT.json")]
    file: PathBuf,
    #[command(flatten)]
    server: Server,
}

/// Runs it.
pub(crate) fn run(args: &Send) -> Result<(), Failure> {
    let body =
        read(&args.file).map_err(|e| Failure::could_not(format!("read `{}`", args.file.display()), e))?;
    let mut headers = vec![("content-type", "application/json")];
    let key = idempotency_key();
    if !has_id(&body) {
        headers.push(("idempotency-key", &key));
    }
    let client = args.server.client()?;
    let send = || client.post("/v1/events", &headers, body.clone());
    let answer = match send() {
        // By its id or the key it is one event, also if the first try was stored and only its answer lost.
        Err(Failure::CouldNot(_)) => send()?,
        done => done?,
    };
    let answer = answer.into_body()?;
    print(String::from_utf8_lossy(&answer).trim_end())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // One byte more than is taken, for the server to say what is wrong with it.
    let most = EVENT_BODY_BYTES_MAX as u64 + 1;
    let mut body = Vec::new();
    match path == Path::new("-") {
        true => io::stdin().lock().take(most).read_to_end(&mut body)?,
        false => File::open(path)?.take(most).read_to_end(&mut body)?,
    };
    Ok(body)
}

/// Whether an event says itself which one it is.
fn has_id(body: &[u8]) -> bool {
    Json::parse(body)
        .is_ok_and(|json| ["id", "external_id"].iter().any(|n| json.member(json.root(), n).is_some()))
}

fn idempotency_key() -> String {
    let mut random = [0; 16];
    SystemRandom.fill(&mut random);
    random.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_of_the_event_itself_counts() {
        assert!(has_id(br#"{"external_id":"x"}"#) && has_id(br#"{"id":"x"}"#));
        assert!(!has_id(br#"{"actor":{"id":"x"}}"#) && !has_id(b"[") && !has_id(b"1"));
    }
}
