//! The cold store of a function that may not read the bucket: it asks one that may, by a synchronous invocation. It
//! happens for ids older than the hot window alone, so that its time does not count.

use crate::failure::failed;
use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use stele::access::Tenant;
use stele::id::EventId;
use stele::lookup::{Lookup, LookupAnswer};
use stele::ports::ColdStore;
use stele::record::Record;
use stele::time::Timestamp;
use stele::{Code, Error, Result};

const DOING: &str = "asking for an event the hot store may have forgotten";

/// Asks a function.
#[derive(Clone, Debug)]
pub struct ColdByFunction {
    client: Client,
    function: String,
}

impl ColdByFunction {
    /// By the function's name.
    pub fn new(client: Client, function: impl Into<String>) -> ColdByFunction {
        ColdByFunction { client, function: function.into() }
    }
}

#[async_trait]
impl ColdStore for ColdByFunction {
    async fn forgotten_record(
        &self,
        tenant: &Tenant,
        id: EventId,
        forgotten: Timestamp,
    ) -> Result<Option<Record>> {
        let lookup = Lookup { tenant: tenant.id().clone(), id, forgotten };
        let question = serde_json::to_vec(&lookup.to_message())
            .map_err(|e| Error::new(Code::Internal, DOING).with_source(e))?;
        let request = self.client.invoke().function_name(&self.function).payload(Blob::new(question));
        let answer = request.send().await.map_err(|e| failed(DOING, e))?;
        let payload = answer.payload.map(Blob::into_inner).unwrap_or_default();
        if let Some(error) = answer.function_error {
            let said = String::from_utf8_lossy(&payload).into_owned();
            return Err(Error::unavailable(format!("{DOING} failed: {error}")).with_source(said));
        }
        let answer: LookupAnswer =
            serde_json::from_slice(&payload).map_err(|e| Error::corrupt(DOING, "an answer", e))?;
        lookup.record(&answer)
    }
}
