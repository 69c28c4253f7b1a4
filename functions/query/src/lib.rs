//! The query function: everything but sending events. It searches hot store and log as one, says where records lie in
//! their log, takes orders for exports, and administers API keys, retention and legal holds.
//!
//! It never writes a head or an object, and no event but the log's own: what was changed about a tenant stands in its log. Where requests come from is its caller's concern.

mod scan;
mod search;
mod listing;
mod counts;
mod filter;
mod feed;
mod tail;
mod log;
mod proofs;
mod body;
mod keys;
mod prices;
mod policy;
mod retention;
mod holds;
mod exports;
mod export;
mod refused;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod export_tests;

use crate::search::Found;
use http::StatusCode;
use http::request::Parts;
use std::sync::Arc;
use stele::access::{Grant, Secrets, Tenant};
use stele::id::EventId;
use stele::lookup::Lookup;
use stele::openapi;
use stele::ports::{
    ApiKeys, ArchiveIndex, Backlog, Clock, ColdStore, ExportFiles, Exports, Heads, HotStore, Outbox,
    Policies, Random, Refusals, Watermarks,
};
use stele::public_key::PublishedKeys;
use stele::query::tenant_parameter;
use stele::record::Record;
use stele::routes::{Endpoint, Parameters, PathParameters, Route, match_route};
use stele::tlog::hash::TreeSize;
use stele::{Code, Error, Result};
use stele_adapters::authenticator::Authenticator;
use stele_adapters::cold_search::ColdSearch;
use stele_adapters::http::{
    Request, Response, answer, json, parameters, refusal, request_id, with_request_id,
};
use stele_adapters::places::Places;
use stele_adapters::stored_tree::StoredTree;
use stele_adapters::tenants::TenantCache;

/// Answers reads. Its fields are all it can reach.
pub struct Query {
    /// Recent records.
    pub hot: Arc<dyn HotStore>,
    /// How far each log has got.
    pub heads: Arc<dyn Heads>,
    /// Which files of the archive there are.
    pub archive: Arc<dyn ArchiveIndex>,
    /// How far each log has been proven.
    pub watermarks: Arc<dyn Watermarks>,
    /// What was decided about retention and legal holds.
    pub policies: Arc<dyn Policies>,
    /// Where compact gets its errands from.
    pub compaction: Arc<dyn Outbox>,
    /// The records of exports.
    pub exports: Arc<dyn Exports>,
    /// Exported files.
    pub export_files: Arc<dyn ExportFiles>,
    /// Where the export function gets its errands from.
    pub exporting: Arc<dyn Outbox>,
    /// Where records lie in their log.
    pub places: Arc<Places>,
    /// What is sealed, to be searched.
    pub cold: Arc<ColdSearch>,
    /// The log's tree, for proofs.
    pub tree: Arc<StoredTree>,
    /// API keys at rest.
    pub keys: Arc<dyn ApiKeys>,
    /// What was refused after it was acknowledged.
    pub refusals: Arc<dyn Refusals>,
    /// Queues in which events may wait that are acknowledged and not yet found.
    pub backlogs: Vec<Arc<dyn Backlog>>,
    /// Who asks.
    pub authenticator: Arc<Authenticator>,
    /// About whom.
    pub tenants: Arc<TenantCache>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for request ids and new keys.
    pub random: Arc<dyn Random>,
    /// What cursors are sealed with.
    pub secrets: Secrets,
    /// The public keys of what is signed.
    pub public_keys: PublishedKeys,
    /// Stands in the text of new API keys: letters and digits.
    pub env: String,
}

impl Query {
    /// Answers any request; what it does not serve is a problem like any other.
    pub async fn handle(&self, request: Request) -> Response {
        let request_id = request_id(&request, &*self.random);
        let (parts, body) = request.into_parts();
        let response = match self.answer(&parts, &body).await {
            Ok(response) => response,
            Err(error) => refusal(&parts, &error, &request_id),
        };
        with_request_id(response, &request_id)
    }

    /// Answers a question of another function of the installation: it comes by a right to invoke, not by an API key.
    pub async fn lookup(&self, lookup: &Lookup) -> Result<Option<Record>> {
        match self.tenants.on_record(&lookup.tenant).await? {
            Some(tenant) => self.places.forgotten_record(&tenant, lookup.id, lookup.forgotten).await,
            None => Ok(None),
        }
    }

    async fn answer(&self, parts: &Parts, body: &[u8]) -> Result<Response> {
        let (route, path) = match_route(&parts.method, parts.uri.path())?;
        let parameters = parameters(&parts.uri)?;
        match route.endpoint {
            Endpoint::ListEvents => self.list(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::Export => self.export(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::CreateExport => {
                self.create_export(&self.granted(route, parts).await?, parts, &parameters, body).await
            }
            Endpoint::Exports => self.list_exports(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::ExportJob => {
                self.export_job(&self.granted(route, parts).await?, &path, &parameters).await
            }
            Endpoint::ExportFile => {
                self.export_file(&self.granted(route, parts).await?, parts, &path, &parameters).await
            }
            Endpoint::Event => self.event(&self.granted(route, parts).await?, &path, &parameters).await,
            Endpoint::Stats => self.stats(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::Facet => self.facet(&self.granted(route, parts).await?, &path, &parameters).await,
            Endpoint::Feed => self.feed(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::Tail => self.tail(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::ParseFilter => self.parse_filter(&self.granted(route, parts).await?, &parameters, body),
            Endpoint::Refused => self.refused(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::Usage => self.usage(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::Checkpoint => self.checkpoint(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::EventProof => {
                self.event_proof(&self.granted(route, parts).await?, parts, &path, &parameters).await
            }
            Endpoint::Checkpoints => self.checkpoints(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::Statements => self.statements(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::Consistency => self.consistency(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::Tile => self.tile(&self.granted(route, parts).await?, &path, &parameters).await,
            Endpoint::LogKeys => self.log_keys(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::Retention => self.retention(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::SetRetention => {
                self.set_retention(&self.granted(route, parts).await?, &parameters, body).await
            }
            Endpoint::PlaceHold => {
                self.place_hold(&self.granted(route, parts).await?, parts, &parameters, body).await
            }
            Endpoint::Holds => self.holds(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::Hold => self.hold(&self.granted(route, parts).await?, &path, &parameters).await,
            Endpoint::ReleaseHold => {
                self.release_hold(&self.granted(route, parts).await?, &path, &parameters).await
            }
            Endpoint::CreateApiKey => {
                self.create_api_key(&self.granted(route, parts).await?, &parameters, body).await
            }
            Endpoint::ApiKeys => self.api_keys(&self.granted(route, parts).await?, &parameters).await,
            Endpoint::RevokeApiKey => {
                self.revoke_api_key(&self.granted(route, parts).await?, &path, &parameters).await
            }
            Endpoint::Health => {
                parameters.only(&[])?;
                Ok(json(StatusCode::OK, &serde_json::json!({"status": "ok"})))
            }
            Endpoint::OpenApi => {
                parameters.only(&[])?;
                Ok(answer(StatusCode::OK, "application/json", openapi::document()))
            }
            Endpoint::SendEvent | Endpoint::SendBatch | Endpoint::Validate => Err(Error::new(
                Code::Internal,
                "a request for the ingest function came to the query function",
            )),
        }
    }

    async fn granted(&self, route: &Route, parts: &Parts) -> Result<Grant> {
        match route.scope {
            Some(scope) => self.authenticator.grant(&parts.headers, scope).await,
            None => Err(Error::new(Code::Internal, "an open route asked for a key")),
        }
    }

    async fn event(&self, grant: &Grant, path: &PathParameters, parameters: &Parameters) -> Result<Response> {
        parameters.only(&["tenant_id", "organization_id"])?;
        // Unknown, foreign and malformed ids look alike: an answer must not say what others have.
        let unknown = || Error::new(Code::NotFound, "there is no such event");
        let tenant = self.tenant(grant, parameters).await?.ok_or_else(unknown)?;
        let id = EventId::parse(path.value("id")).ok_or_else(unknown)?;
        let found = match self.hot.record(&tenant, id).await? {
            Some(record) => Some(Found { record, leaf_index: None }),
            // What the hot store has forgotten, or lost, is in the log.
            None => {
                let head = self.heads.head(&tenant).await?;
                let size = head.map_or(TreeSize::ZERO, |head| head.size());
                let found = self.cold.find(&tenant, size, id).await?;
                found.map(|(record, index)| Found { record, leaf_index: Some(index) })
            }
        };
        let placed = self.placed(&tenant, vec![found.ok_or_else(unknown)?]).await?;
        let (record, integrity) = placed.records.first().ok_or_else(unknown)?;
        let mut event = Vec::new();
        stele::wire::write_event(record, *integrity, &mut event)?;
        Ok(answer(StatusCode::OK, "application/json", event))
    }

    /// The tenant a read is about: `None` if the key's own has no event yet.
    async fn tenant(&self, grant: &Grant, parameters: &Parameters) -> Result<Option<Tenant>> {
        let named = tenant_parameter(parameters)?;
        let id = grant.choose(named.as_ref(), "tenant_id")?;
        let found = self.tenants.find(grant, &id).await?;
        if found.is_none() && grant.bound_tenant().is_none() {
            return Err(Error::new(Code::NotFound, format!("there is no tenant `{id}`")));
        }
        Ok(found)
    }
}
