//! Compact on AWS Lambda: settings, clients, run. A schedule asks for a plan; a queue brings errands, one at a time.

use aws_lambda_events::event::sqs::SqsEvent;
use futures_util::FutureExt;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use stele::errand::Errand;
use stele::ports::{Clock, Outbox};
use stele::time::Timestamp;
use stele_adapters::aws::Aws;
use stele_adapters::clock::SystemClock;
use stele_adapters::dynamodb::DynamoStore;
use stele_adapters::lambda;
use stele_adapters::metrics::{Unit, report};
use stele_adapters::s3::{LockMode, LockedBucket};
use stele_adapters::secrets::Wrapping;
use stele_adapters::settings::{self, Settings};
use stele_adapters::sqs::SqsQueue;
use stele_compact::{Compact, Visit};

/// No new file is begun in the last minutes of a run: one takes a minute or two.
const LEFT_FOR_A_FILE_MS: u64 = 4 * 60 * 1000;

/// What the environment says.
struct Environment {
    control_table: String,
    bucket: String,
    lock_mode: LockMode,
    compaction_queue_url: String,
    signing_seed: String,
}

fn environment() -> stele::Result<Environment> {
    let mut from = Settings::new(&settings::variable);
    let environment = Environment {
        control_table: from.text(settings::CONTROL_TABLE),
        bucket: from.text(settings::ARCHIVE_BUCKET),
        lock_mode: from.lock_mode(),
        compaction_queue_url: from.text(settings::COMPACTION_QUEUE_URL),
        signing_seed: from.text(settings::SIGNING_SEED),
    };
    from.finish().map(|()| environment)
}

async fn wired() -> stele::Result<(Compact, SqsQueue)> {
    let settings = environment()?;
    let aws = Aws::from_environment();
    let seeds = Wrapping::new(aws.kms()).signing_seeds(&settings.signing_seed).await?;
    // The table of events is none of its business.
    let store = Arc::new(DynamoStore::new(aws.dynamodb(), "", &settings.control_table));
    let objects = Arc::new(LockedBucket::new(aws.s3(), settings.bucket, settings.lock_mode));
    let compact = Compact {
        heads: store.clone(),
        objects: objects.clone(),
        archive: objects,
        index: store.clone(),
        policies: store.clone(),
        tenants: store,
        clock: Arc::new(SystemClock),
        seeds,
        spool: std::env::temp_dir(),
    };
    Ok((compact, SqsQueue::new(aws.sqs(), settings.compaction_queue_url)))
}

/// What calls.
#[derive(Deserialize)]
#[serde(untagged)]
enum Trigger {
    Errands(SqsEvent),
    Schedule(#[expect(dead_code, reason = "that it came is all it says")] Schedule),
}

/// The input of the hourly schedule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Schedule {
    #[serde(rename = "stele_plan")]
    _plan: bool,
}

/// Runs an errand; what it leaves unfinished becomes another one.
async fn run(compact: &Compact, queue: &SqsQueue, message: &str, until: Timestamp) -> stele::Result<Visit> {
    let errand = Errand::parse(message)?;
    let visit = compact.visit(&errand, until).await?;
    if visit.unfinished {
        queue.send(errand.message()).await?;
    }
    Ok(visit)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda::start_logging();
    let (compact, queue) = &wired().await?;
    let handle = |event: LambdaEvent<Trigger>| async move {
        let until = Timestamp::from_ms(event.context.deadline).minus_ms(LEFT_FOR_A_FILE_MS);
        let (mut total, mut failed) = (Visit::default(), Vec::new());
        match event.payload {
            Trigger::Schedule(_) => {
                let planned = compact.plan(queue).await?;
                if planned.failed > 0 {
                    // Lambda tries again, and its error count is what the alarm watches.
                    return Err(format!("{} tenants could not be looked at", planned.failed).into());
                }
            }
            Trigger::Errands(event) => {
                for message in lambda::messages_from(event) {
                    match AssertUnwindSafe(run(compact, queue, &message.body, until)).catch_unwind().await {
                        Ok(Ok(visit)) => {
                            total.archived += visit.archived;
                            total.files += visit.files;
                            total.overdue += visit.overdue;
                            total.enforced += visit.enforced;
                        }
                        Ok(Err(error)) => {
                            tracing::error!(message = message.id, %error, "an errand has to be run again");
                            failed.push(message.id);
                        }
                        Err(_) => {
                            tracing::error!(message = message.id, "an errand panicked");
                            failed.push(message.id);
                        }
                    }
                }
            }
        }
        let values = [
            ("archived", Unit::Count, total.archived),
            ("files", Unit::Count, total.files),
            ("overdue", Unit::Count, total.overdue),
            ("enforced", Unit::Count, total.enforced),
        ];
        report(SystemClock.now(), &values);
        Ok::<_, Error>(lambda::failures(failed))
    };
    lambda_runtime::run(service_fn(handle)).await
}
