//! Dev: everything in one process, and the lines to try it with.

use crate::show::{Failure, print};
use clap::Args;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use stele_adapters::witnesses::Witness;
use stele_local::{Runner, Settings, ShownKey};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// More keys, separated by commas or lines.
const KEYS_VARIABLE: &str = "STELE_DEV_KEY";

/// Runs everything on this machine: API, database, sealed log
#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// Where to listen; port 0 takes a free one
    #[arg(long, env = "STELE_LISTEN", default_value = "127.0.0.1:8787", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where to keep the data
    #[arg(long, env = "STELE_DATA", default_value = "./.stele", value_name = "DIR")]
    data: PathBuf,
    /// Keep nothing: all is gone at the end
    #[arg(long)]
    memory: bool,
    /// An API key to accept, exactly as given: a platform key, or one bound to a tenant; can be repeated [env:
    /// STELE_DEV_KEY, several separated by commas] [default: two keys, made at the first start]
    #[arg(long = "key", value_name = "STRING|TENANT:STRING")]
    keys: Vec<String>,
    /// A witness that is to cosign what is stated, as `stele witness` prints it; can be repeated
    #[arg(long = "witness", value_name = "URL VKEY")]
    witnesses: Vec<String>,
}

/// Runs it until Ctrl-C or SIGTERM.
pub(crate) fn run(args: &Dev) -> Result<(), Failure> {
    let keys = match args.keys.is_empty() {
        true => listed_keys(&std::env::var(KEYS_VARIABLE).unwrap_or_default()),
        false => args.keys.clone(),
    };
    let data = (!args.memory).then(|| args.data.clone());
    let witnesses = Witness::all(&args.witnesses.join("\n")).map_err(|e| Failure::of(&e))?;
    let settings = Settings { listen: args.listen, data: data.clone(), keys, witnesses };
    crate::runtime()?.block_on(async {
        // Before anything is started: a signal that comes early must not be lost.
        let stop = stopped().map_err(|e| Failure::could_not("listen for signals", e))?;
        let runner = Runner::start(settings).await.map_err(|e| explain(args.listen, &e))?;
        print(welcome(runner.address(), data.as_deref(), runner.keys()))?;
        runner.run(stop).await.map_err(|e| Failure::of(&e))?;
        print("stopped")
    })
}

fn listed_keys(text: &str) -> Vec<String> {
    text.split([',', '\n']).map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect()
}

/// Comes true with the first Ctrl-C or SIGTERM.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = Signal::recv(&mut interrupt) => {}
            _ = Signal::recv(&mut terminate) => {}
        }
    })
}

/// Why it does not start, and what to do.
fn explain(listen: SocketAddr, error: &stele::Error) -> Failure {
    let mut source = std::error::Error::source(error);
    while let Some(behind) = source {
        let kind = behind.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind == Some(io::ErrorKind::AddrInUse) {
            return Failure::CouldNot(format!(
                "`{listen}` is taken, perhaps by another `stele dev`: choose another with --listen, for instance \
                 --listen {}:0 for any free port",
                listen.ip()
            ));
        }
        source = behind.source();
    }
    Failure::of(error)
}

fn welcome(address: SocketAddr, data: Option<&Path>, keys: &[ShownKey]) -> String {
    let place = match data {
        Some(data) => format!("data in {}", data.display()),
        None => "data in memory only: all of it is gone at the end".to_owned(),
    };
    let mut text = format!("stele: listening on http://{address}, {place}\n\n");
    for key in keys {
        let whose = match &key.tenant {
            Some(tenant) => format!("key of {tenant}"),
            None => "platform key (any tenant)".to_owned(),
        };
        text.push_str(&format!("  {whose:26} {}\n", key.text));
    }
    if let Some(key) = keys.iter().find(|key| key.tenant.is_some()).or(keys.first()) {
        text.push_str(&lines_to_try(address, key));
    }
    text.push_str("\nCtrl-C stops it.");
    text
}

/// Three requests, ready to paste: send, search, checkpoint.
fn lines_to_try(address: SocketAddr, key: &ShownKey) -> String {
    // A key bound to a tenant implies it; a platform key must name it.
    let (member, query) = match key.tenant {
        Some(_) => ("", ""),
        None => (r#""tenant_id":"org_demo","#, "?tenant_id=org_demo"),
    };
    let event = format!(
        r#"{{{member}"actor":{{"id":"alice"}},"action":"invoice.deleted","resource":{{"type":"invoice","id":"inv_1"}}}}"#
    );
    let key = quoted(&format!("Authorization: Bearer {}", key.text));
    let url = format!("http://{address}/v1");
    format!(
        "\nTry, in another terminal:\n\n  curl -sw '\\n' {url}/events -H {key} -H 'Content-Type: application/json' -d '{event}'\n  \
         curl -sw '\\n' {} -H {key}\n  curl -sw '\\n' {} -H {key}\n",
        quoted(&format!("{url}/events{query}")),
        quoted(&format!("{url}/log/checkpoint{query}")),
    )
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_environment_come_by_comma_or_line() {
        assert_eq!(listed_keys(" a,org_a:b\n\nc, "), ["a", "org_a:b", "c"]);
        assert_eq!(listed_keys(""), [""; 0]);
    }

    #[test]
    fn the_welcome_names_address_data_keys_and_three_requests() {
        let address: SocketAddr = "127.0.0.1:8787".parse().unwrap();
        let platform = ShownKey { text: "it's".to_owned(), tenant: None };
        let bound = ShownKey { text: "k2".to_owned(), tenant: Some("org_a".to_owned()) };
        let text = welcome(address, Some(Path::new("./.stele")), &[platform.clone(), bound]);
        for part in ["http://127.0.0.1:8787", "./.stele", "it's", "k2", "key of org_a"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("  curl -sw ").count(), 3);
        assert!(!text.contains("tenant_id"), "a bound key implies its tenant: {text}");
        let text = welcome(address, None, &[platform]);
        assert!(text.contains(r"Bearer it'\''s'") && text.contains("?tenant_id=org_demo"), "{text}");
    }
}
