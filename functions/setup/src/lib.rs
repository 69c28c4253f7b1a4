//! The setup function: what an installation needs before its first request, made once. CloudFormation calls it as a
//! custom resource when the stack is created or changed.
//!
//! It makes the wrapped secrets and publishes the public key, each as a locked object and only if it is not there; what
//! it answers becomes the other functions' environment. It never deletes: when the stack goes, the bucket stays.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stele::access::Secrets;
use stele::ports::{Clock, LockedObjects};
use stele::public_key::PublishedKeys;
use stele::{Code, Error, Result, limits};
use stele_adapters::secrets::{Purpose, Wrapping};

/// The id CloudFormation knows the resource by: one and the same for good, so that nothing is ever replaced.
const PHYSICAL_RESOURCE_ID: &str = "stele-secrets";

/// Sets an installation up.
pub struct Setup {
    /// Where secrets and keys are kept.
    pub objects: Arc<dyn LockedObjects>,
    /// What wraps them.
    pub wrapping: Wrapping,
    /// The KMS key it wraps with.
    pub key_id: String,
    /// From when they are locked.
    pub clock: Arc<dyn Clock>,
}

/// What the other functions are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Installed {
    /// The wrapped master secret, in base64.
    pub master_secret: String,
    /// The wrapped seeds of the checkpoint keys, oldest first, in base64, separated by commas.
    pub signing_seed: String,
    /// The public keys, each as `<purpose>:<base64>`, separated by commas.
    pub public_keys: String,
}

impl Setup {
    /// Makes what is missing, and says what there is. Idempotent: a crash on the way is mended by the next call.
    /// `signing_keys` is how many checkpoint keys there are to be in all: one more hands every log over to a new one.
    pub async fn run(&self, signing_keys: u32) -> Result<Installed> {
        let wrapped = async |purpose, generation| {
            self.wrapping.stored_or_new(purpose, generation, &self.key_id, &*self.objects, &*self.clock).await
        };
        let master = wrapped(Purpose::Master, 1).await?;
        let mut signing = Vec::new();
        for generation in 1..=signing_keys.max(1) {
            signing.push(STANDARD.encode(wrapped(Purpose::Signing, generation).await?));
        }
        let signing_seed = signing.join(",");
        let seeds = self.wrapping.signing_seeds(&signing_seed).await?;
        let secrets = Secrets::new(self.wrapping.unwrapped(Purpose::Master, &master).await?);
        let keys = PublishedKeys::of(&seeds, &secrets.receipt_seed());
        let until = self.clock.now().plus_days(limits::CHECKPOINT_LOCK_DAYS);
        for (purpose, key) in keys.all() {
            self.objects.put_if_absent(&key.object_key(), Bytes::from(key.to_file(purpose)), until).await?;
        }
        Ok(Installed { master_secret: STANDARD.encode(master), signing_seed, public_keys: keys.to_text() })
    }
}

/// What CloudFormation asks of a custom resource.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResourceRequest {
    /// `Create`, `Update` or `Delete`.
    pub request_type: String,
    /// Where the answer is to be put.
    #[serde(rename = "ResponseURL")]
    pub response_url: String,
    stack_id: String,
    request_id: String,
    logical_resource_id: String,
    #[serde(default)]
    resource_properties: ResourceProperties,
}

/// What the template says of the resource.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ResourceProperties {
    /// CloudFormation sends numbers as texts.
    #[serde(default)]
    signing_keys: Option<String>,
}

/// Checkpoint keys of an installation at the most.
const SIGNING_KEYS_MAX: u32 = 20;

/// What CloudFormation is answered.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResourceAnswer {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    physical_resource_id: &'static str,
    stack_id: String,
    request_id: String,
    logical_resource_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Installed>,
}

impl ResourceRequest {
    /// How many checkpoint keys there are to be in all.
    ///
    /// # Errors
    /// Not a number from 1 to 20.
    pub fn signing_keys(&self) -> Result<u32> {
        let Some(given) = &self.resource_properties.signing_keys else { return Ok(1) };
        let keys = given.parse().ok().filter(|keys| (1..=SIGNING_KEYS_MAX).contains(keys));
        keys.ok_or_else(|| {
            Error::new(Code::Internal, format!("`SigningKeys` must be a number from 1 to {SIGNING_KEYS_MAX}"))
        })
    }

    /// The answer to this request.
    pub fn answer(&self, outcome: Result<Option<Installed>>) -> ResourceAnswer {
        let (status, reason, data) = match outcome {
            Ok(data) => ("SUCCESS", None, data),
            Err(error) => ("FAILED", Some(error.to_string()), None),
        };
        ResourceAnswer {
            status,
            reason,
            physical_resource_id: PHYSICAL_RESOURCE_ID,
            stack_id: self.stack_id.clone(),
            request_id: self.request_id.clone(),
            logical_resource_id: self.logical_resource_id.clone(),
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_says_whose_it_is_and_what_there_is() {
        let request: ResourceRequest = serde_json::from_value(json!({
            "RequestType": "Create", "ResponseURL": "http://127.0.0.1/x", "StackId": "s", "RequestId": "r",
            "LogicalResourceId": "l", "ResourceType": "Custom::SteleSecrets", "ResourceProperties": {"Version": "1", "SigningKeys": "2"},
        }))
        .unwrap();
        assert_eq!(request.signing_keys().unwrap(), 2);
        let installed =
            Installed { master_secret: "m".into(), signing_seed: "s".into(), public_keys: "p".into() };
        let answer = serde_json::to_value(request.answer(Ok(Some(installed)))).unwrap();
        assert_eq!(
            answer,
            json!({
                "Status": "SUCCESS", "PhysicalResourceId": "stele-secrets", "StackId": "s", "RequestId": "r",
                "LogicalResourceId": "l", "Data": {"MasterSecret": "m", "SigningSeed": "s", "PublicKeys": "p"},
            })
        );
        let failed = request.answer(Err(stele::Error::unavailable("making a secret failed")));
        let failed = serde_json::to_value(failed).unwrap();
        assert_eq!(
            (&failed["Status"], &failed["Reason"]),
            (&json!("FAILED"), &json!("unavailable: making a secret failed"))
        );
    }
}
