//! Reconcile on AWS Lambda: settings, clients, run. A schedule makes it send one errand per tenant onto its own queue, whose
//! messages then trigger it.

use aws_lambda_events::event::sqs::SqsEvent;
use futures_util::FutureExt;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use stele::access::Secrets;
use stele::errand::Errand;
use stele::ports::{Clock, Outbox};
use stele::time::Timestamp;
use stele_adapters::aws::Aws;
use stele_adapters::clock::SystemClock;
use stele_adapters::dynamodb::DynamoStore;
use stele_adapters::lambda;
use stele_adapters::metrics::{Unit, report};
use stele_adapters::places::Places;
use stele_adapters::s3::{LockMode, LockedBucket};
use stele_adapters::secrets::{Purpose, Wrapping};
use stele_adapters::settings::{self, Settings};
use stele_adapters::sqs::SqsQueue;
use stele_reconcile::{Reconcile, Reconciliation};

/// What is left to a step that began just before the deadline.
const LAST_STEP_MS: u64 = 5 * 60 * 1000;

/// What the environment says.
struct Environment {
    events_table: String,
    control_table: String,
    bucket: String,
    lock_mode: LockMode,
    reconciliation_queue_url: String,
    compaction_queue_url: String,
    parking_queue_url: String,
    master_secret: String,
}

fn environment() -> stele::Result<Environment> {
    let mut from = Settings::new(&settings::variable);
    let environment = Environment {
        events_table: from.text(settings::EVENTS_TABLE),
        control_table: from.text(settings::CONTROL_TABLE),
        bucket: from.text(settings::ARCHIVE_BUCKET),
        lock_mode: from.lock_mode(),
        reconciliation_queue_url: from.text(settings::RECONCILIATION_QUEUE_URL),
        compaction_queue_url: from.text(settings::COMPACTION_QUEUE_URL),
        parking_queue_url: from.text(settings::PARKING_QUEUE_URL),
        master_secret: from.text(settings::MASTER_SECRET),
    };
    from.finish().map(|()| environment)
}

async fn wired() -> stele::Result<(Reconcile, SqsQueue)> {
    let settings = environment()?;
    let aws = Aws::from_environment();
    let master = Wrapping::new(aws.kms()).unwrapped_base64(Purpose::Master, &settings.master_secret).await?;
    let store = Arc::new(DynamoStore::new(aws.dynamodb(), &settings.events_table, &settings.control_table));
    let objects = Arc::new(LockedBucket::new(aws.s3(), settings.bucket, settings.lock_mode));
    let reconcile = Reconcile {
        hot: store.clone(),
        heads: store.clone(),
        objects: objects.clone(),
        locks: objects.clone(),
        archive: store.clone(),
        watermarks: store.clone(),
        tenants: store.clone(),
        cold: Arc::new(Places::new(store.clone(), store, objects)),
        parking: Arc::new(SqsQueue::new(aws.sqs(), settings.parking_queue_url)),
        compaction: Arc::new(SqsQueue::new(aws.sqs(), settings.compaction_queue_url)),
        clock: Arc::new(SystemClock),
        secrets: Secrets::new(master),
    };
    Ok((reconcile, SqsQueue::new(aws.sqs(), settings.reconciliation_queue_url)))
}

/// What calls: an event of the one kind does not read as one of the other, whose members it lacks.
#[derive(Deserialize)]
#[serde(untagged)]
enum Trigger {
    Errands(SqsEvent),
    Schedule(#[expect(dead_code, reason = "that it came is all it says")] Schedule),
}

/// The input of the daily schedule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Schedule {
    #[serde(rename = "stele_plan")]
    _plan: bool,
}

/// Runs one errand, to its end or to where the next one goes on.
async fn run(
    reconcile: &Reconcile,
    queue: &dyn Outbox,
    errand: &str,
    deadline: Timestamp,
) -> stele::Result<()> {
    let tenant = Errand::parse(errand)?.tenant;
    let done = reconcile.reconcile(&tenant, deadline).await?;
    tracing::info!(%tenant, ?done, "reconciled");
    report_visit(&done);
    if done.cut_short && done.progressed() {
        // A crash right after this line brings this errand again too, which costs a look.
        return queue.send(errand.to_owned()).await;
    }
    match (done.cut_short, done.faults) {
        (false, 0) => Ok(()),
        (true, _) => Err(stele::Error::unavailable(format!("no step of `{tenant}` ends in time"))),
        (false, faults) => Err(stele::Error::new(
            stele::Code::Corrupt,
            format!("{faults} parts of the visit to `{tenant}` met what can't be: see the lines before"),
        )),
    }
}

fn report_visit(done: &Reconciliation) {
    let values = [
        ("reconciled", Unit::Count, u64::from(done.current)),
        ("behind", Unit::Count, u64::from(done.behind)),
        ("missing", Unit::Count, done.missing),
        ("differing", Unit::Count, done.differing),
        ("forgotten", Unit::Count, done.forgotten),
        ("overdue", Unit::Count, done.overdue),
        ("expired", Unit::Count, done.expired),
        ("lost", Unit::Count, done.lost),
    ];
    report(SystemClock.now(), &values);
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda::start_logging();
    let (reconcile, queue) = &wired().await?;
    let handle = |event: LambdaEvent<Trigger>| async move {
        let deadline = Timestamp::from_ms(event.context.deadline).minus_ms(LAST_STEP_MS);
        let errands = match event.payload {
            Trigger::Errands(event) => lambda::messages_from(event),
            Trigger::Schedule(_) => {
                let sent = reconcile.plan(queue).await?;
                tracing::info!(sent, "errands sent");
                if sent == 0 {
                    // Nothing stands against an installation without tenants; silence would stop its forgetting.
                    report(SystemClock.now(), &[("reconciled", Unit::Count, 1)]);
                }
                return Ok(lambda::failures(Vec::new()));
            }
        };
        let mut failed = Vec::new();
        for message in errands {
            let ran = AssertUnwindSafe(run(reconcile, queue, &message.body, deadline)).catch_unwind().await;
            match ran {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(message = message.id, %error, "an errand has to come again");
                    failed.push(message.id);
                }
                Err(_) => {
                    tracing::error!(message = message.id, "running an errand panicked");
                    failed.push(message.id);
                }
            }
        }
        Ok::<_, Error>(lambda::failures(failed))
    };
    lambda_runtime::run(service_fn(handle)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trigger_is_read_as_what_it_is() {
        let queued =
            r#"{"Records":[{"messageId":"m1","body":"{\"tenant_id\":\"org_acme\"}","attributes":{}}]}"#;
        let Trigger::Errands(event) = serde_json::from_str(queued).unwrap() else { panic!("an errand") };
        let messages = lambda::messages_from(event);
        assert_eq!(Errand::parse(&messages[0].body).unwrap().tenant.as_str(), "org_acme");
        assert!(matches!(serde_json::from_str(r#"{"stele_plan":true}"#), Ok(Trigger::Schedule(_))));
        assert!(serde_json::from_str::<Trigger>(r#"{"something":"else"}"#).is_err());
    }
}
