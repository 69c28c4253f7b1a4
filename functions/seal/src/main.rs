//! Seal on AWS Lambda: settings, clients, run. It is triggered by the stream of the table of events, by the parking queue,
//! and every hour for logs that went quiet.

use aws_lambda_events::event::{dynamodb, sqs::SqsEvent};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use std::sync::Arc;
use stele::ports::Clock;
use stele_adapters::aws::Aws;
use stele_adapters::clock::SystemClock;
use stele_adapters::dynamodb::DynamoStore;
use stele_adapters::lambda;
use stele_adapters::metrics::{Unit, report};
use stele_adapters::places::Places;
use stele_adapters::s3::{LockMode, LockedBucket};
use stele_adapters::secrets::Wrapping;
use stele_adapters::settings::{self, Settings};
use stele_adapters::sqs::SqsQueue;
use stele_adapters::witnesses::Witness;
use stele_seal::{Seal, SealSettings};

/// What the environment says.
struct Environment {
    control_table: String,
    bucket: String,
    lock_mode: LockMode,
    parking_queue_url: String,
    publish_every_ms: u64,
    signing_seed: String,
    witnesses: Vec<Arc<Witness>>,
}

fn environment() -> stele::Result<Environment> {
    let mut from = Settings::new(&settings::variable);
    let witnesses = Witness::all(&settings::variable(settings::WITNESSES).unwrap_or_default())?;
    let environment = Environment {
        witnesses,
        control_table: from.text(settings::CONTROL_TABLE),
        bucket: from.text(settings::ARCHIVE_BUCKET),
        lock_mode: from.lock_mode(),
        parking_queue_url: from.text(settings::PARKING_QUEUE_URL),
        publish_every_ms: from.publish_every_ms(),
        signing_seed: from.text(settings::SIGNING_SEED),
    };
    from.finish().map(|()| environment)
}

async fn wired() -> stele::Result<(Seal, SqsQueue)> {
    let settings = environment()?;
    let aws = Aws::from_environment();
    let wrapping = Wrapping::new(aws.kms());
    let seeds = wrapping.signing_seeds(&settings.signing_seed).await?;
    // Sealing reads the events off their stream: the table of events is none of its business.
    let store = Arc::new(DynamoStore::new(aws.dynamodb(), "", &settings.control_table));
    let objects = Arc::new(LockedBucket::new(aws.s3(), settings.bucket, settings.lock_mode));
    let places = Arc::new(Places::new(store.clone(), store.clone(), objects.clone()));
    let sealing =
        SealSettings { seeds, witnesses: settings.witnesses, publish_every_ms: settings.publish_every_ms };
    let seal = Seal::new(store.clone(), objects, store, places, Arc::new(SystemClock), sealing);
    Ok((seal, SqsQueue::new(aws.sqs(), settings.parking_queue_url)))
}

/// What calls: an event of the one kind does not read as one of the other, whose members it lacks.
#[derive(Deserialize)]
#[serde(untagged)]
enum Trigger {
    Stream(dynamodb::Event),
    Parked(SqsEvent),
    Schedule(#[expect(dead_code, reason = "that it came is all it says")] Schedule),
}

/// The input of the hourly schedule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Schedule {
    #[serde(rename = "stele_publish")]
    _publish: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda::start_logging();
    let (seal, parking) = &wired().await?;
    let handle = |event: LambdaEvent<Trigger>| async move {
        let done = match event.payload {
            Trigger::Stream(event) => seal.handle_stream(&event, parking).await,
            Trigger::Parked(event) => seal.handle_parked(&lambda::messages_from(event)).await,
            Trigger::Schedule(_) => {
                let done = seal.publish_idle().await?;
                report(
                    SystemClock.now(),
                    &[("published", Unit::Count, done.published), ("stated", Unit::Count, done.stated)],
                );
                if done.failed > 0 {
                    // Lambda tries again, and its error count is what the alarm watches.
                    return Err(format!("{} logs have no checkpoint at their end yet", done.failed).into());
                }
                return Ok(lambda::failures(Vec::new()));
            }
        };
        let now = SystemClock.now();
        let lag =
            done.oldest.filter(|_| done.sealed > 0).map_or(0, |oldest| now.ms().saturating_sub(oldest.ms()));
        let values = [
            ("sealed", Unit::Count, done.sealed),
            ("segments", Unit::Count, done.segments),
            ("parked", Unit::Count, done.parked),
            ("seal_lag_ms", Unit::Milliseconds, lag),
        ];
        report(now, &values);
        Ok::<_, Error>(lambda::failures(done.failed))
    };
    lambda_runtime::run(service_fn(handle)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_adapters::dynamodb::stream::record_of;

    fn sample(name: &str) -> Trigger {
        let path = format!("{}/../../events/lambda/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn each_trigger_is_read_as_what_it_is() {
        let Trigger::Stream(event) = sample("stream") else { panic!("a batch of the stream") };
        let records: Vec<_> = event.records.iter().filter_map(|change| record_of(change).unwrap()).collect();
        let tenants: Vec<_> = records.iter().map(|record| record.tenant.as_str()).collect();
        assert_eq!((event.records.len(), tenants), (3, vec!["org_acme", "org_globex"]));
        let Trigger::Parked(event) = sample("parking") else { panic!("messages of the parking queue") };
        assert!(matches!(serde_json::from_str(r#"{"stele_publish":true}"#), Ok(Trigger::Schedule(_))));
        assert!(serde_json::from_str::<Trigger>(r#"{"something":"else"}"#).is_err());
        let messages = lambda::messages_from(event);
        assert_eq!(stele::parking::records(&messages[0].body).unwrap(), records[..1]);
    }
}
