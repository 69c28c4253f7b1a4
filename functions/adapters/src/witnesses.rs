//! Witnesses on the network: checkpoints are sent to them, cosignatures come back (c2sp.org/tlog-witness).
//!
//! A witness that does not answer costs its cosignature, never the log's progress.

use std::sync::Arc;
use std::time::Duration;
use stele::tlog::cosignature::CosignerKey;
use stele::tlog::hash::{Hash, TreeSize};
use stele::tlog::note::{Note, NoteSignature};
use stele::tlog::witness::{AddCheckpoint, parse_cosignatures, parse_size};
use stele::{Code, Error, Result};

/// How long a witness may take.
const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// A witness: where it takes checkpoints, and the key it cosigns with.
#[derive(Clone)]
pub struct Witness {
    url: String,
    key: CosignerKey,
    agent: ureq::Agent,
}

/// What a witness answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has cosigned.
    Cosigned(NoteSignature),
    /// It has another size of the log.
    Has(TreeSize),
}

impl Witness {
    /// The witnesses of a text: one per line, `<url> <key of the witness>`. Empty lines are passed over.
    ///
    /// # Errors
    /// `internal`, naming the line.
    pub fn all(text: &str) -> Result<Vec<Arc<Witness>>> {
        let lines = text.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty());
        let witness = |line: &str| {
            let (url, key) = line.split_once(' ')?;
            let is_url = url.starts_with("https://") || url.starts_with("http://");
            let key = CosignerKey::parse(key.trim()).filter(|_| is_url)?;
            let config = ureq::Agent::config_builder()
                .timeout_global(Some(WITHIN))
                .http_status_as_error(false)
                .build();
            Some(Arc::new(Witness { url: url.trim_end_matches('/').to_owned(), key, agent: config.into() }))
        };
        lines
            .map(|line| {
                witness(line).ok_or_else(|| {
                    let expected = "a witness is a line `<url> <key as its vkey>`";
                    Error::new(Code::Internal, format!("{expected}, found `{line}`"))
                })
            })
            .collect()
    }

    /// Its key.
    pub fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// Sends a checkpoint that grew out of the size the witness has.
    ///
    /// # Errors
    /// `unavailable` if it does not answer, or not as a witness does.
    pub async fn add_checkpoint(
        self: &Arc<Self>,
        old: TreeSize,
        proof: Vec<Hash>,
        checkpoint: &Note,
    ) -> Result<Answer> {
        let body = AddCheckpoint { old, proof, checkpoint: checkpoint.clone() }.to_string();
        let witness = self.clone();
        let asked = tokio::task::spawn_blocking(move || witness.ask(body)).await;
        let (status, answer) = asked
            .map_err(|e| Error::new(Code::Internal, "asking a witness").with_source(e))?
            .map_err(|e| Error::unavailable(format!("asking the witness `{}`: {e}", self.key.name())))?;
        let odd = || {
            Error::unavailable(format!(
                "the witness `{}` answered {status}: {}",
                self.key.name(),
                shown(&answer)
            ))
        };
        match status {
            200 => {
                let signatures = parse_cosignatures(checkpoint, &answer).ok_or_else(odd)?;
                let is_its = |signature: &&NoteSignature| {
                    signature.name() == self.key.name() && signature.id() == self.key.id()
                };
                let signature = signatures.iter().find(is_its).cloned().ok_or_else(odd)?;
                // It must be a cosignature of this checkpoint, not just be named so.
                let note =
                    Note::new(checkpoint.text().to_owned(), vec![signature.clone()]).map_err(|_| odd())?;
                match self.key.cosigned(&note) {
                    Ok(Some(_)) => Ok(Answer::Cosigned(signature)),
                    _ => Err(odd()),
                }
            }
            409 => parse_size(&answer).map(Answer::Has).ok_or_else(odd),
            _ => Err(odd()),
        }
    }

    fn ask(&self, body: String) -> std::result::Result<(u16, String), ureq::Error> {
        let mut response = self.agent.post(format!("{}/add-checkpoint", self.url)).send(body)?;
        let status = response.status().as_u16();
        let answer = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?;
        Ok((status, answer))
    }
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness").field("url", &self.url).field("key", &self.key).finish_non_exhaustive()
    }
}

fn shown(answer: &str) -> String {
    answer.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
