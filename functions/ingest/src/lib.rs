//! The ingest function: events in, receipts out.
//!
//! It answers 201 only after the hot store has the record durably, and 202 only after the queue has it. It knows
//! neither segments nor logs; sealing follows the hot store's stream.

mod accept;
mod batch;
mod body;
mod receipts;

pub use receipts::ReceiptSigner;

use std::sync::Arc;
use stele::error::{Code, Error, Result};
use stele::ports::Outbox;
use stele::routes::{Endpoint, match_route};
use stele_adapters::acceptor::Acceptor;
use stele_adapters::authenticator::Authenticator;
use stele_adapters::http::{Request, Response, refusal, request_id, with_request_id};

/// Answers requests that send events. Clients and caches live as long as it does: make one per cold start.
pub struct Ingest {
    /// What stores them.
    pub acceptor: Acceptor,
    /// Who sends.
    pub authenticator: Arc<Authenticator>,
    /// What signs receipts.
    pub receipts: ReceiptSigner,
    /// Where events wait that can't be stored at once, or that their sender will not wait for.
    pub spill: Arc<dyn Outbox>,
}

/// What became of the events of a request; an answer carries it among its extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stored now.
    pub accepted: u64,
    /// Stored before.
    pub replayed: u64,
    /// Put into the queue.
    pub queued: u64,
    /// Refused.
    pub rejected: u64,
}

impl Counts {
    /// Of an answer.
    pub fn of(response: &Response) -> Counts {
        response.extensions().get().copied().unwrap_or_default()
    }
}

impl Ingest {
    /// Answers one request. It never panics and always carries a `Request-Id`.
    pub async fn handle(&self, request: Request) -> Response {
        let request_id = request_id(&request, self.acceptor.random.as_ref());
        let (parts, body) = request.into_parts();
        let answer = match self.route(&parts, body, &request_id).await {
            Ok(response) => response,
            Err(error) => {
                let mut refusal = refusal(&parts, &error, &request_id);
                refusal.extensions_mut().insert(Counts { rejected: 1, ..Counts::default() });
                refusal
            }
        };
        with_request_id(answer, &request_id)
    }

    async fn route(
        &self,
        parts: &http::request::Parts,
        body: bytes::Bytes,
        request_id: &str,
    ) -> Result<Response> {
        let (route, _) = match_route(&parts.method, parts.uri.path())?;
        if let Some(query) = parts.uri.query().filter(|q| !q.is_empty()) {
            return Err(Error::new(
                Code::BadParameter,
                format!("`{}` takes no query parameters, `{query}` was sent", route.template),
            ));
        }
        let scope = route.scope.ok_or_else(|| Error::new(Code::NotFound, "no such path"))?;
        let grant = self.authenticator.grant(&parts.headers, scope).await?;
        match route.endpoint {
            Endpoint::SendEvent => self.send_event(&grant, parts, body).await,
            Endpoint::SendBatch => self.send_batch(&grant, parts, body, request_id).await,
            Endpoint::Validate => self.validate(&grant, parts, body),
            Endpoint::ListEvents
            | Endpoint::Stats
            | Endpoint::Facet
            | Endpoint::Export
            | Endpoint::CreateExport
            | Endpoint::Exports
            | Endpoint::ExportJob
            | Endpoint::ExportFile
            | Endpoint::Event
            | Endpoint::Tail
            | Endpoint::Feed
            | Endpoint::ParseFilter
            | Endpoint::Refused
            | Endpoint::Usage
            | Endpoint::EventProof
            | Endpoint::Checkpoint
            | Endpoint::Checkpoints
            | Endpoint::Statements
            | Endpoint::Consistency
            | Endpoint::Tile
            | Endpoint::LogKeys
            | Endpoint::Retention
            | Endpoint::SetRetention
            | Endpoint::PlaceHold
            | Endpoint::Holds
            | Endpoint::Hold
            | Endpoint::ReleaseHold
            | Endpoint::CreateApiKey
            | Endpoint::ApiKeys
            | Endpoint::RevokeApiKey
            | Endpoint::Health
            | Endpoint::OpenApi => Err(Error::new(Code::NotFound, "this function does not serve this path")),
        }
    }
}
