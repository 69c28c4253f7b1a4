//! `POST /v1/filter:parse`: a filter explained before it is used. It reads no event.

use crate::Query;
use crate::body::{Faults, members};
use http::StatusCode;
use serde_json::Value;
use stele::Result;
use stele::access::Grant;
use stele::query::{explain, tenant_parameter};
use stele::routes::Parameters;
use stele_adapters::http::{Response, json};

impl Query {
    pub(crate) fn parse_filter(
        &self,
        grant: &Grant,
        parameters: &Parameters,
        body: &[u8],
    ) -> Result<Response> {
        parameters.only(&["tenant_id", "organization_id"])?;
        let tenant = grant.choose(tenant_parameter(parameters)?.as_ref(), "tenant_id")?;
        let (mut q, mut faults) = (None, Faults::default());
        for (name, value) in members(body)? {
            match (name.as_str(), value) {
                ("q", Value::String(text)) => q = Some(text),
                ("q", _) => faults.problem("/q", "wrong_type", "`q` must be a string".to_owned()),
                (other, _) => faults.unknown_field(other),
            }
        }
        if q.is_none() && faults.is_empty() {
            faults.problem("/q", "required", "`q` is required".to_owned());
        }
        faults.refuse("the filter can't be read")?;
        Ok(json(StatusCode::OK, &explain(&q.unwrap_or_default(), &tenant, self.clock.now())?))
    }
}
