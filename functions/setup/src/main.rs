//! Setup on AWS Lambda: settings, clients, run, and the answer to CloudFormation.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use std::sync::Arc;
use stele_adapters::aws::Aws;
use stele_adapters::clock::SystemClock;
use stele_adapters::lambda;
use stele_adapters::s3::LockedBucket;
use stele_adapters::secrets::Wrapping;
use stele_adapters::settings::{self, Settings};
use stele_setup::{Installed, ResourceRequest, Setup};

fn wired() -> stele::Result<Setup> {
    let mut from = Settings::new(&settings::variable);
    let (bucket, mode) = (from.text(settings::ARCHIVE_BUCKET), from.lock_mode());
    let key_id = from.text(settings::KMS_KEY_ID);
    from.finish()?;
    let aws = Aws::from_environment();
    Ok(Setup {
        objects: Arc::new(LockedBucket::new(aws.s3(), bucket, mode)),
        wrapping: Wrapping::new(aws.kms()),
        key_id,
        clock: Arc::new(SystemClock),
    })
}

async fn outcome(request: &ResourceRequest) -> stele::Result<Option<Installed>> {
    match request.request_type.as_str() {
        "Delete" => Ok(None),
        _ => wired()?.run(request.signing_keys()?).await.map(Some),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda::start_logging();
    let handle = |event: LambdaEvent<ResourceRequest>| async move {
        let request = event.payload;
        let outcome = outcome(&request).await;
        if let Err(error) = &outcome {
            // What lies behind it is for the log; CloudFormation is told the message that is safe to show.
            tracing::error!(error = ?error, "setting up failed");
        }
        // Whatever went wrong is told too: a stack that hears nothing waits for an hour.
        let body = serde_json::to_vec(&request.answer(outcome))?;
        let url = request.response_url;
        let told = tokio::task::spawn_blocking(move || ureq::put(&url).content_type("").send(&body[..]));
        told.await??;
        Ok::<_, Error>(())
    };
    lambda_runtime::run(service_fn(handle)).await
}
