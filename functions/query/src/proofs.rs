//! Proofs: what anybody with a log's public key can check without trusting whoever answers.
//!
//! All of it is made from what is stored, and held against a signed checkpoint before it is handed out.

use crate::Query;
use http::StatusCode;
use http::header::ACCEPT;
use http::request::Parts;
use serde::Serialize;
use stele::access::{Grant, Scope, Tenant};
use stele::id::EventId;
use stele::layout::hour_of;
use stele::limits;
use stele::public_key::PublicKey;
use stele::routes::{Parameters, PathParameters, bad_parameter};
use stele::segment::Head;
use stele::statement::Statement;
use stele::time::Timestamp;
use stele::tlog::checkpoint::Checkpoint;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::tlog::key_change::{KeyChange, KeyHistory};
use stele::tlog::note::Note;
use stele::tlog::portable::PortableProof;
use stele::tlog::tile_path::{TileKind, TilePath};
use stele::{Code, Error, Result};
use stele_adapters::http::{Response, answer, json};

const TENANT: [&str; 2] = ["tenant_id", "organization_id"];
const TEXT: &str = "text/plain; charset=utf-8";
/// Checkpoints or statements of a page, unless asked otherwise; and the most.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 200;

#[derive(Serialize)]
struct ProofJson {
    id: String,
    leaf_index: u64,
    tree_size: u64,
    leaf_hash: String,
    /// The leaf itself, byte for byte, for a key that may read events.
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf: Option<String>,
    path: Vec<String>,
    checkpoint: String,
}

#[derive(Serialize)]
struct ConsistencyJson {
    from: u64,
    to: u64,
    proof: Vec<String>,
}

#[derive(Serialize)]
struct CheckpointsJson {
    checkpoints: Vec<CheckpointJson>,
    /// The size the next page begins at.
    next_from: Option<u64>,
}

#[derive(Serialize)]
struct CheckpointJson {
    size: u64,
    checkpoint: String,
}

#[derive(Serialize)]
struct StatementsJson {
    statements: Vec<StatementJson>,
    /// What `after` must be for the next page.
    next_after: Option<String>,
}

#[derive(Serialize)]
struct StatementJson {
    stated_at: String,
    size: u64,
    statement: String,
}

/// A log with leaves, as its head has it.
struct Log {
    tenant: Tenant,
    head: Head,
}

impl Query {
    pub(crate) async fn event_proof(
        &self,
        grant: &Grant,
        parts: &Parts,
        path: &PathParameters,
        parameters: &Parameters,
    ) -> Result<Response> {
        parameters.only(&["tenant_id", "organization_id", "checkpoint"])?;
        let is_stated = match parameters.one("checkpoint")? {
            None | Some("latest") => false,
            Some("stated") => true,
            Some(_) => {
                return Err(bad_parameter(
                    "checkpoint",
                    "unknown_value",
                    "`checkpoint` is `latest` or `stated`",
                ));
            }
        };
        let as_json = wants_json(parts);
        let unknown = || Error::new(Code::NotFound, "there is no such event");
        let id = EventId::parse(path.value("id")).ok_or_else(unknown)?;
        let tenant = self.tenant(grant, parameters).await?.ok_or_else(unknown)?;
        let head = self.heads.head(&tenant).await?;
        let recent = self.hot.record(&tenant, id).await?;
        let placed = match &recent {
            Some(record) => {
                let wanted = [(record.id, record.received_at)];
                let places = self.places.places(&tenant, &wanted).await?;
                places.get(&id).map(|index| (record.clone(), *index))
            }
            None => self.places.sealed(&tenant, id, self.clock.now()).await?,
        };
        let (record, index) = match (placed, recent) {
            (Some(placed), _) => placed,
            (None, Some(_)) => return Err(not_sealed_yet()),
            (None, None) => return Err(unknown()),
        };
        let head = head.filter(|head| head.size().contains(index)).ok_or_else(not_sealed_yet)?;
        let log = Log { tenant, head };
        let (checkpoint, under) = match is_stated {
            false => (log.head.checkpoint.clone(), log.head.clone()),
            true => self.stated(&log, index).await?,
        };
        let inclusion = self.tree.inclusion(&log.tenant, &under, index).await?;
        if inclusion.leaf_hash != record.leaf_hash {
            let at = format!("leaf {index} of `{}`", log.tenant.id());
            return Err(Error::corrupt(at, record.leaf_hash, inclusion.leaf_hash));
        }
        if !as_json {
            let proof = PortableProof { extra: None, index, path: inclusion.path, checkpoint };
            return Ok(answer(StatusCode::OK, TEXT, proof.to_string()));
        }
        let leaf = grant.also(Scope::EventsRead).then(|| record.leaf.as_bytes().to_vec());
        let leaf = leaf.map(String::from_utf8).transpose();
        Ok(json(
            StatusCode::OK,
            &ProofJson {
                id: record.id.shown(),
                leaf_index: index.to_u64(),
                tree_size: under.size().to_u64(),
                leaf_hash: inclusion.leaf_hash.to_base64(),
                leaf: leaf.map_err(|e| Error::new(Code::Internal, "a leaf is not UTF-8").with_source(e))?,
                path: inclusion.path.iter().map(|hash| hash.to_base64()).collect(),
                checkpoint,
            },
        ))
    }

    /// The latest statement that covers a leaf, and the head as it was at its size.
    async fn stated(&self, log: &Log, index: LeafIndex) -> Result<(String, Head)> {
        let none = || {
            Error::new(
                Code::NotFound,
                "no statement covers the event yet: one is made every day; `checkpoint=latest` has a proof now",
            )
        };
        // One is made each day: the latest lies in these hours, unless nobody stated anything for as long.
        let now = self.clock.now();
        let since = hour_of(now).minus_days(3);
        let listed = self.tree.statements(&log.tenant, Some(since), PAGE_MAX).await?;
        let (_, text) = listed.last().ok_or_else(none)?;
        let corrupt = |e: &dyn std::fmt::Display| Error::corrupt("the latest statement", "a signed note", e);
        let note = Note::parse(text).map_err(|e| corrupt(&e))?;
        let stated = Checkpoint::parse(note.text()).map_err(|e| corrupt(&e))?;
        let size = stated.size;
        if !size.contains(index) {
            return Err(none());
        }
        let edge = self.tree.edge(&log.tenant, &log.head, size).await?;
        if edge.root() != stated.root {
            let at = format!("the latest statement of `{}`", log.tenant.id());
            return Err(Error::corrupt(at, format!("root {}", edge.root()), format!("root {}", stated.root)));
        }
        Ok((note.to_string(), Head { edge, ..log.head.clone() }))
    }

    pub(crate) async fn checkpoint(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&["tenant_id", "organization_id", "size"])?;
        let size = size_parameter(parameters, "size")?;
        let log = self.log(grant, parameters).await?;
        let Some(size) = size else {
            return Ok(answer(StatusCode::OK, TEXT, log.head.checkpoint));
        };
        if size == log.head.size() {
            return Ok(answer(StatusCode::OK, TEXT, log.head.checkpoint));
        }
        let (found, _) = self.tree.checkpoints(&log.tenant, size, 1).await?;
        match found.into_iter().find(|(found, _)| *found == size) {
            Some((_, text)) => Ok(answer(StatusCode::OK, TEXT, text)),
            None => Err(Error::new(
                Code::NotFound,
                format!(
                    "no checkpoint of size {size} was published: `GET /v1/log/checkpoints` lists those there are"
                ),
            )),
        }
    }

    pub(crate) async fn checkpoints(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&["tenant_id", "organization_id", "from_size", "limit"])?;
        let from = size_parameter(parameters, "from_size")?.unwrap_or_default();
        let limit = limit_parameter(parameters)?;
        let log = self.log(grant, parameters).await?;
        let (found, next) = self.tree.checkpoints(&log.tenant, from, limit).await?;
        let shown = found.into_iter().map(|(size, text)| {
            Ok(CheckpointJson { size: size.to_u64(), checkpoint: text_of(text.to_vec())? })
        });
        let checkpoints = shown.collect::<Result<_>>()?;
        Ok(json(StatusCode::OK, &CheckpointsJson { checkpoints, next_from: next.map(TreeSize::to_u64) }))
    }

    pub(crate) async fn statements(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&["tenant_id", "organization_id", "after", "limit"])?;
        let after = parameters.one("after")?.map(|text| {
            Timestamp::parse(text)
                .map_err(|error| bad_parameter("after", "bad_time", format!("`after` is no time: {error}")))
        });
        let after = after.transpose()?;
        let limit = limit_parameter(parameters)?;
        let none = || Error::new(Code::NotFound, "there is no log yet: it begins with the first event");
        let tenant = self.tenant(grant, parameters).await?.ok_or_else(none)?;
        let found = self.tree.statements(&tenant, after, limit).await?;
        let next_after = found.last().filter(|_| found.len() == limit).map(|(hour, _)| hour.to_string());
        let history = self.histories(&tenant).await?;
        let mut statements = Vec::new();
        for (hour, text) in found {
            let opened = history
                .iter()
                .find_map(|history| Statement::open(&text, history, &self.public_keys.statements).ok());
            let opened = opened.ok_or_else(|| {
                Error::corrupt(format!("the statement of {hour}"), "one that is signed", "another")
            })?;
            statements.push(StatementJson {
                stated_at: opened.stated_at.to_string(),
                size: opened.checkpoint.size.to_u64(),
                statement: text_of(text.to_vec())?,
            });
        }
        Ok(json(StatusCode::OK, &StatementsJson { statements, next_after }))
    }

    /// Which keys may have signed a log: its own history, and, for what was stated of it before its first leaf, each published
    /// key.
    async fn histories(&self, tenant: &Tenant) -> Result<Vec<KeyHistory>> {
        let keys = self.tree.keys(tenant, &self.public_keys.checkpoints).await?;
        let mut all = Vec::new();
        if let Some((_, first)) = keys.first() {
            let mut history = KeyHistory::beginning_with(first.clone());
            for (from, key) in &keys[1..] {
                let change =
                    KeyChange { origin: tenant.origin().clone(), from: *from, public: *key.public() };
                if !history.follow(&change) {
                    let at = format!("keys of the log of `{}`", tenant.id());
                    return Err(Error::corrupt(
                        at,
                        "changes that follow each other",
                        format!("one at {from}"),
                    ));
                }
            }
            all.push(history);
        }
        let of = |key: &PublicKey| {
            stele::tlog::note::VerifierKey::new(tenant.origin().key_name(), &key.0)
                .map(KeyHistory::beginning_with)
        };
        all.extend(self.public_keys.checkpoints.iter().filter_map(of));
        Ok(all)
    }

    pub(crate) async fn consistency(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&["tenant_id", "organization_id", "from", "to"])?;
        let from = size_parameter(parameters, "from")?;
        let to = size_parameter(parameters, "to")?;
        let from =
            from.ok_or_else(|| bad_parameter("from", "required", "`from` is the smaller tree size"))?;
        if from == TreeSize::ZERO {
            return Err(bad_parameter(
                "from",
                "too_small",
                "`from` is at least 1: every tree grew out of the empty one",
            ));
        }
        let log = self.log(grant, parameters).await?;
        let to = to.unwrap_or(log.head.size());
        if to > log.head.size() || from > to {
            let what =
                format!("`from` and `to` are rising tree sizes up to {}, that of the log", log.head.size());
            let name = if to > log.head.size() { "to" } else { "from" };
            return Err(bad_parameter(name, "too_large", what));
        }
        let proof = self.tree.consistency(&log.tenant, &log.head, from, to).await?;
        let proof = proof.iter().map(|hash| hash.to_base64()).collect();
        Ok(json(StatusCode::OK, &ConsistencyJson { from: from.to_u64(), to: to.to_u64(), proof }))
    }

    pub(crate) async fn tile(
        &self,
        grant: &Grant,
        path: &PathParameters,
        parameters: &Parameters,
    ) -> Result<Response> {
        parameters.only(&TENANT)?;
        let unknown = || Error::new(Code::NotFound, "there is no such tile");
        let tile = TilePath::parse(path.value("tile")).ok_or_else(unknown)?;
        if tile.kind == TileKind::Entries && !grant.also(Scope::EventsRead) {
            return Err(Error::new(
                Code::InsufficientScope,
                "entries are events: the key needs the scope `events:read` beside `proofs:read`",
            ));
        }
        let log = self.log(grant, parameters).await?;
        // A partial tile is one the log has had as its last, or has as part of a larger one.
        tile.end().filter(|end| *end <= log.head.size().to_u64()).ok_or_else(unknown)?;
        let body = match tile.kind {
            TileKind::Hashes { level } => {
                let hashes = self.tree.tile(&log.tenant, level, tile.index, tile.width).await?;
                hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
            }
            TileKind::Entries => {
                let first = tile.index * stele::tlog::tiles::TILE_LEAVES;
                let end = TreeSize::new(first + tile.width);
                let mut body = Vec::new();
                for leaf in self.tree.leaves(&log.tenant, TreeSize::new(first), end).await? {
                    let length = u16::try_from(leaf.len()).map_err(|_| {
                        Error::corrupt(
                            "a leaf",
                            format!("at most {} bytes", limits::LEAF_BYTES_MAX),
                            leaf.len(),
                        )
                    })?;
                    body.extend_from_slice(&length.to_be_bytes());
                    body.extend_from_slice(&leaf);
                }
                body
            }
        };
        Ok(answer(StatusCode::OK, "application/octet-stream", body))
    }

    async fn log(&self, grant: &Grant, parameters: &Parameters) -> Result<Log> {
        let none = || Error::new(Code::NotFound, "the log has no checkpoint yet: nothing is sealed");
        let tenant = self.tenant(grant, parameters).await?.ok_or_else(none)?;
        let head = self.heads.head(&tenant).await?.filter(|head| !head.checkpoint.is_empty());
        Ok(Log { tenant, head: head.ok_or_else(none)? })
    }
}

fn not_sealed_yet() -> Error {
    Error::new(
        Code::NotFound,
        format!(
            "the event is accepted and not under a checkpoint yet: its proof is there within {} seconds",
            limits::SEALED_WITHIN_SECONDS
        ),
    )
}

/// The `.tlog-proof` is the default: it is what other programs read.
fn wants_json(parts: &Parts) -> bool {
    let accepted = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    })
}

fn size_parameter(parameters: &Parameters, name: &str) -> Result<Option<TreeSize>> {
    let Some(text) = parameters.one(name)? else { return Ok(None) };
    match TreeSize::parse(text) {
        Some(size) => Ok(Some(size)),
        None => {
            Err(bad_parameter(name, "bad_value", format!("`{name}` is a tree size: a whole number from 0")))
        }
    }
}

fn limit_parameter(parameters: &Parameters) -> Result<usize> {
    let Some(text) = parameters.one("limit")? else { return Ok(PAGE_DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
    limit.ok_or_else(|| {
        bad_parameter("limit", "bad_value", format!("`limit` is a number from 1 to {PAGE_MAX}"))
    })
}

fn text_of(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|e| Error::new(Code::Corrupt, "a signed note is not UTF-8").with_source(e))
}
