//! Witness: a small server that a customer or auditor runs, so that a log can't show them one history and somebody else another.
//! It speaks c2sp.org/tlog-witness, keeps one checkpoint per log, and never forgets one.

mod state;

use crate::show::{Failure, note, print};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::Args;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use state::{Known, State};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use stele::public_key::PublicKey;
use stele::tlog::note::{KeyName, VerifierKey};
use stele::tlog::policy::Policy;
use stele::tlog::witness::{AddCheckpoint, SIZE_CONTENT_TYPE};
use stele_local::listener::{Answers, serve};

const TEXT: &str = "text/plain; charset=utf-8";

/// Cosigns checkpoints of logs that only ever grow: run it where the operator of the log has no say
#[derive(Args, Debug)]
#[command(
    after_help = "Give what it prints to the operator of the log, and keep the line for your policy file."
)]
pub(crate) struct Witness {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8788", env = "STELE_WITNESS_LISTEN")]
    listen: SocketAddr,
    /// Folder for its key and for what it has seen; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "./.stele-witness")]
    data: PathBuf,
    /// Its name, such as witness.example/w1: it stands in every cosignature
    #[arg(long)]
    name: String,
    /// A log to follow, by its vkey; can be repeated
    #[arg(long, value_name = "VKEY")]
    log: Vec<String>,
    /// Logs to follow: the `log` lines of a policy (c2sp.org/tlog-policy)
    #[arg(long, value_name = "FILE")]
    logs: Option<PathBuf>,
    /// All logs of an installation: its log name, with its public keys
    #[arg(long, value_name = "NAME", requires = "public_key")]
    log_name: Option<String>,
    /// A public key of that installation, in base64; can be repeated
    #[arg(long, value_name = "BASE64", requires = "log_name")]
    public_key: Vec<String>,
}

/// Runs it until it is stopped.
pub(crate) fn run(args: &Witness) -> Result<(), Failure> {
    let name = KeyName::parse(&args.name)
        .ok_or_else(|| Failure::CouldNot("a witness's name has no spaces and no plus signs".to_owned()))?;
    let known = known(args)?;
    let state = State::open(&args.data, name, known)?;
    let runtime = crate::runtime()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen)
            .await
            .map_err(|e| Failure::could_not(format!("listen on {}", args.listen), e))?;
        let address = listener.local_addr().map_err(|e| Failure::could_not("ask for the address", e))?;
        print(format!(
            "stele: witness on http://{address}, data in {}\n\n  its key          {}\n  for a policy     witness w {} http://{address}\n  for the operator http://{address} {}",
            args.data.display(),
            state.key(),
            state.key(),
            state.key(),
        ))?;
        note("Ctrl-C stops it.");
        let stop = async {
            let _interrupted = tokio::signal::ctrl_c().await;
        };
        serve(listener, Arc::new(Server { state: Arc::new(state) }), stop).await;
        Ok(())
    })
}

/// Which logs it follows.
fn known(args: &Witness) -> Result<Known, Failure> {
    let mut logs = Vec::new();
    for text in &args.log {
        logs.push(VerifierKey::parse(text).map_err(|e| Failure::CouldNot(e.to_string()))?);
    }
    if let Some(path) = &args.logs {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Failure::could_not(format!("read `{}`", path.display()), e))?;
        let policy = Policy::parse(&text)
            .map_err(|e| Failure::CouldNot(format!("the policy `{}`: {e}", path.display())))?;
        logs.extend_from_slice(policy.logs());
    }
    let keys = args.public_key.iter().map(|text| {
        let bytes = STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(PublicKey)
            .ok_or_else(|| Failure::CouldNot(format!("`{text}` is no public key: 32 bytes in base64")))
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    if logs.is_empty() && keys.is_empty() {
        return Err(Failure::CouldNot(
            "a witness needs a log to follow: give --log, --logs, or --log-name and --public-key".to_owned(),
        ));
    }
    Ok(Known { logs, installation: args.log_name.clone().map(|name| (name, keys)) })
}

struct Server {
    state: Arc<State>,
}

impl Answers for Server {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/add-checkpoint") => self.add_checkpoint(request.body().clone()).await,
            (&Method::GET, "/") => {
                let key = self.state.key();
                answer(200, TEXT, format!("a witness as c2sp.org/tlog-witness has it\n{key}\n"))
            }
            (&Method::GET, "/logs") => match self.state.seen() {
                Ok(seen) => answer(200, TEXT, seen),
                Err(error) => broken(&error),
            },
            (_, "/add-checkpoint" | "/" | "/logs") => answer(405, TEXT, "another method is needed\n"),
            _ => answer(404, TEXT, "there is /add-checkpoint, /logs and /\n"),
        }
    }
}

impl Server {
    async fn add_checkpoint(&self, body: Bytes) -> Response<Bytes> {
        let state = self.state.clone();
        // Writing a file to the disk for good takes its time.
        let done = tokio::task::spawn_blocking(move || {
            let request = AddCheckpoint::parse(&body);
            request.map_or_else(|refusal| Ok(Err(refusal)), |request| state.add(&request))
        });
        match done.await {
            Ok(Ok(Ok(cosignature))) => answer(200, TEXT, format!("{cosignature}\n")),
            Ok(Ok(Err(refusal))) => match refusal.size() {
                Some(size) => answer(refusal.status(), SIZE_CONTENT_TYPE, format!("{size}\n")),
                None => answer(refusal.status(), TEXT, format!("{refusal}\n")),
            },
            Ok(Err(error)) => broken(&error),
            Err(_) => broken(&std::io::Error::other("the request was not worked off")),
        }
    }
}

fn broken(error: &std::io::Error) -> Response<Bytes> {
    note(format!("stele: {error}"));
    answer(500, TEXT, "the witness could not keep its record: nothing was cosigned\n")
}

fn answer(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
