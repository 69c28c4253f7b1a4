//! Export on AWS Lambda: settings, clients, run. A queue brings errands, one at a time.

use aws_lambda_events::event::sqs::SqsEvent;
use futures_util::FutureExt;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use stele::export::ExportErrand;
use stele::ports::Clock;
use stele::time::Timestamp;
use stele_adapters::aws::Aws;
use stele_adapters::clock::{SystemClock, SystemRandom};
use stele_adapters::dynamodb::DynamoStore;
use stele_adapters::lambda;
use stele_adapters::metrics::{Unit, report};
use stele_adapters::s3::{LockMode, LockedBucket};
use stele_adapters::s3_exports::ExportBucket;
use stele_adapters::settings::{self, Settings};
use stele_export::{Exporter, Outcome};

/// No more leaves are read in the last minutes of a run: a large file takes some of them to be put, and the record has to be
/// written.
const LEFT_FOR_THE_PUT_MS: u64 = 3 * 60 * 1000;

/// What the environment says.
struct Environment {
    control_table: String,
    archive_bucket: String,
    export_bucket: String,
}

fn environment() -> stele::Result<Environment> {
    let mut from = Settings::new(&settings::variable);
    let environment = Environment {
        control_table: from.text(settings::CONTROL_TABLE),
        archive_bucket: from.text(settings::ARCHIVE_BUCKET),
        export_bucket: from.text(settings::EXPORT_BUCKET),
    };
    from.finish().map(|()| environment)
}

fn wired() -> stele::Result<Exporter> {
    let settings = environment()?;
    let aws = Aws::from_environment();
    // The table of events is none of its business.
    let store = Arc::new(DynamoStore::new(aws.dynamodb(), "", &settings.control_table));
    Ok(Exporter {
        exports: store.clone(),
        files: Arc::new(ExportBucket::new(aws.s3(), settings.export_bucket)),
        tenants: store.clone(),
        heads: store.clone(),
        archive: store,
        objects: Arc::new(LockedBucket::new(aws.s3(), settings.archive_bucket, LockMode::default())),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        spool: std::env::temp_dir(),
    })
}

async fn run(exporter: &Exporter, message: &str, until: Timestamp) -> stele::Result<Outcome> {
    exporter.handle(&ExportErrand::parse(message)?, until).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda::start_logging();
    let exporter = &wired()?;
    let handle = |event: LambdaEvent<SqsEvent>| async move {
        let until = Timestamp::from_ms(event.context.deadline).minus_ms(LEFT_FOR_THE_PUT_MS);
        let (mut done, mut events, mut failures, mut again) = (0, 0, 0, Vec::new());
        for message in lambda::messages_from(event.payload) {
            match AssertUnwindSafe(run(exporter, &message.body, until)).catch_unwind().await {
                Ok(Ok(Outcome::Done(file))) => {
                    done += 1;
                    events += file.events;
                }
                Ok(Ok(Outcome::Failed)) => failures += 1,
                Ok(Ok(Outcome::Over)) => {}
                // Others may crash: then this delivery is the one that counts.
                Ok(Ok(Outcome::Busy)) => again.push(message.id),
                Ok(Err(error)) => {
                    tracing::error!(message = message.id, %error, "an export has to be begun again");
                    again.push(message.id);
                }
                Err(_) => {
                    tracing::error!(message = message.id, "an export panicked");
                    again.push(message.id);
                }
            }
        }
        let values = [
            ("exports", Unit::Count, done),
            ("exported", Unit::Count, events),
            ("exports_failed", Unit::Count, failures),
        ];
        report(SystemClock.now(), &values);
        Ok::<_, Error>(lambda::failures(again))
    };
    lambda_runtime::run(service_fn(handle)).await
}
