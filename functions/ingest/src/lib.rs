//! The ingest function: events in, receipts out.
//!
//! It answers 201 only after the hot store has the record durably. It knows neither segments nor logs; sealing
//! follows the hot store's stream.

mod accept;
mod batch;
mod body;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stele::access::Secrets;
use stele::error::{Code, Error, Result};
use stele::id::TenantId;
use stele::ports::{Clock, HotStore, Random};
use stele::routes::{Endpoint, match_route};
use stele::time::Day;
use stele_adapters::authenticator::Authenticator;
use stele_adapters::http::{Request, Response, refusal, request_id, with_request_id};
use stele_adapters::places::Places;
use stele_adapters::tenants::TenantCache;

/// Accepts events. Clients and caches live as long as it does: make one per cold start.
pub struct Ingest {
    /// Where records go.
    pub hot: Arc<dyn HotStore>,
    /// Whether an id older than the hot window is in the log already.
    pub places: Arc<Places>,
    /// Who sends.
    pub authenticator: Arc<Authenticator>,
    /// Whose they are.
    pub tenants: Arc<TenantCache>,
    /// The time of receipt.
    pub clock: Arc<dyn Clock>,
    /// The random bits of ids.
    pub random: Arc<dyn Random>,
    /// The secrets under which external ids become ids.
    pub secrets: Secrets,
    /// The late days this process has noted, so that each is written once.
    pub noted: NotedDays,
}

/// Late days already noted: (tenant, received, occurred).
#[derive(Default)]
pub struct NotedDays(Mutex<HashSet<(TenantId, Day, Day)>>);

/// Noted days kept; beyond it all are forgotten and noted again, which is idempotent.
const NOTED_MAX: usize = 100_000;

impl NotedDays {
    pub(crate) fn contains(&self, tenant: &TenantId, received: Day, occurred: Day) -> bool {
        self.locked().contains(&(tenant.clone(), received, occurred))
    }

    pub(crate) fn insert(&self, tenant: &TenantId, received: Day, occurred: Day) {
        let mut noted = self.locked();
        if noted.len() >= NOTED_MAX {
            noted.clear();
        }
        noted.insert((tenant.clone(), received, occurred));
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<(TenantId, Day, Day)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ingest {
    /// Answers one request. It never panics and always carries a `Request-Id`.
    pub async fn handle(&self, request: Request) -> Response {
        let request_id = request_id(&request, self.random.as_ref());
        let (parts, body) = request.into_parts();
        let answer = match self.route(&parts, body, &request_id).await {
            Ok(response) => response,
            Err(error) => refusal(&parts, &error, &request_id),
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
            | Endpoint::Export
            | Endpoint::Event
            | Endpoint::Usage
            | Endpoint::Checkpoint
            | Endpoint::LogKeys
            | Endpoint::CreateApiKey
            | Endpoint::ApiKeys
            | Endpoint::RevokeApiKey
            | Endpoint::Health
            | Endpoint::OpenApi => Err(Error::new(Code::NotFound, "this function does not serve this path")),
        }
    }
}
