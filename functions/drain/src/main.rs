//! Drain on AWS Lambda: settings, clients, run. What could not be decided is told to SQS, which brings it again.

use aws_lambda_events::event::sqs::SqsEvent;
use futures_util::FutureExt;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use stele::access::Secrets;
use stele::ports::Clock;
use stele_adapters::acceptor::{Acceptor, NotedDays};
use stele_adapters::authenticator::Authenticator;
use stele_adapters::aws::Aws;
use stele_adapters::clock::{SystemClock, SystemRandom};
use stele_adapters::dynamodb::DynamoStore;
use stele_adapters::lambda;
use stele_adapters::metrics::{Unit, report};
use stele_adapters::places::Places;
use stele_adapters::s3::{LockMode, LockedBucket};
use stele_adapters::secrets::{Purpose, Wrapping};
use stele_adapters::settings::{self, Settings};
use stele_adapters::tenants::TenantCache;
use stele_drain::{Drain, Drained};

/// What the environment says.
struct Environment {
    events_table: String,
    control_table: String,
    bucket: String,
    log_name: String,
    master_secret: String,
}

fn environment() -> stele::Result<Environment> {
    let mut from = Settings::new(&settings::variable);
    let environment = Environment {
        events_table: from.text(settings::EVENTS_TABLE),
        control_table: from.text(settings::CONTROL_TABLE),
        bucket: from.text(settings::ARCHIVE_BUCKET),
        log_name: from.text(settings::LOG_NAME),
        master_secret: from.text(settings::MASTER_SECRET),
    };
    from.finish().map(|()| environment)
}

async fn wired() -> stele::Result<Drain> {
    let settings = environment()?;
    let aws = Aws::from_environment();
    let master = Wrapping::new(aws.kms()).unwrapped_base64(Purpose::Master, &settings.master_secret).await?;
    let secrets = Secrets::new(master);
    let clock = Arc::new(SystemClock);
    let store = Arc::new(DynamoStore::new(aws.dynamodb(), &settings.events_table, &settings.control_table));
    let objects = Arc::new(LockedBucket::new(aws.s3(), settings.bucket, LockMode::default()));
    let tenants = TenantCache::new(store.clone(), clock.clone(), secrets.clone(), settings.log_name);
    Ok(Drain {
        authenticator: Arc::new(Authenticator::new(store.clone(), clock.clone())),
        refusals: store.clone(),
        acceptor: Acceptor {
            hot: store.clone(),
            cold: Arc::new(Places::new(store.clone(), store, objects)),
            tenants: Arc::new(tenants),
            clock,
            random: Arc::new(SystemRandom),
            secrets,
            noted: NotedDays::default(),
        },
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda::start_logging();
    let drain = &wired().await?;
    let handle = |event: LambdaEvent<SqsEvent>| async move {
        let (mut stored, mut replayed, mut refused, mut failed) = (0, 0, 0, Vec::new());
        for message in lambda::messages_from(event.payload) {
            match AssertUnwindSafe(drain.handle(&message)).catch_unwind().await {
                Ok(Ok(Drained::Stored)) => stored += 1,
                Ok(Ok(Drained::Replayed)) => replayed += 1,
                Ok(Ok(Drained::Refused)) => refused += 1,
                Ok(Err(error)) => {
                    tracing::warn!(message = message.id, %error, "a message has to come again");
                    failed.push(message.id);
                }
                Err(_) => {
                    tracing::error!(message = message.id, "handling a message panicked");
                    failed.push(message.id);
                }
            }
        }
        let values = [
            ("drained", Unit::Count, stored),
            ("replayed", Unit::Count, replayed),
            ("refused", Unit::Count, refused),
        ];
        report(SystemClock.now(), &values);
        Ok::<_, Error>(lambda::failures(failed))
    };
    lambda_runtime::run(service_fn(handle)).await
}
