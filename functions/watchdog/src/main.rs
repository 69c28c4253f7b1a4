//! Watchdog on AWS Lambda: settings, client, run. That it is called is all it is told: the alarm's text says nothing it needs.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use stele::ports::Clock;
use stele_adapters::aws::Aws;
use stele_adapters::clock::SystemClock;
use stele_adapters::lambda;
use stele_adapters::metrics::{Unit, report};
use stele_adapters::settings::{self, Settings};
use stele_watchdog::{Stopped, stop_forgetting};

fn events_table() -> stele::Result<String> {
    let mut from = Settings::new(&settings::variable);
    let events_table = from.text(settings::EVENTS_TABLE);
    from.finish().map(|()| events_table)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda::start_logging();
    let (client, table) = (&Aws::from_environment().dynamodb(), &events_table()?);
    let handle = |_: LambdaEvent<Value>| async move {
        // A failure is an error of the function, and Lambda calls again.
        match stop_forgetting(client, table).await? {
            Stopped::Now => {
                tracing::error!(
                    table,
                    "the hot store forgets nothing any more: reconcile has not succeeded for days"
                );
                report(SystemClock.now(), &[("ttl_stopped", Unit::Count, 1)]);
            }
            Stopped::Before => tracing::warn!(table, "the hot store forgot nothing before"),
        }
        Ok::<_, Error>(())
    };
    lambda_runtime::run(service_fn(handle)).await
}
