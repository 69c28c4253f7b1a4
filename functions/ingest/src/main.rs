//! Ingest on AWS Lambda: settings, clients, run.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use std::sync::Arc;
use stele::access::Secrets;
use stele_adapters::acceptor::{Acceptor, NotedDays};
use stele_adapters::authenticator::Authenticator;
use stele_adapters::aws::Aws;
use stele_adapters::clock::{SystemClock, SystemRandom};
use stele_adapters::cold_by_function::ColdByFunction;
use stele_adapters::dynamodb::DynamoStore;
use stele_adapters::lambda;
use stele_adapters::metrics::{Unit, report};
use stele_adapters::secrets::{Purpose, Wrapping};
use stele_adapters::settings::{self, Settings};
use stele_adapters::sqs::SqsQueue;
use stele_adapters::tenants::TenantCache;
use stele_ingest::{Counts, Ingest, ReceiptSigner};

/// What the environment says.
struct Environment {
    events_table: String,
    control_table: String,
    query_function: String,
    spill_queue_url: String,
    log_name: String,
    master_secret: String,
}

fn environment() -> stele::Result<Environment> {
    let mut from = Settings::new(&settings::variable);
    let environment = Environment {
        events_table: from.text(settings::EVENTS_TABLE),
        control_table: from.text(settings::CONTROL_TABLE),
        query_function: from.text(settings::QUERY_FUNCTION),
        spill_queue_url: from.text(settings::SPILL_QUEUE_URL),
        log_name: from.text(settings::LOG_NAME),
        master_secret: from.text(settings::MASTER_SECRET),
    };
    from.finish().map(|()| environment)
}

async fn wired() -> stele::Result<Ingest> {
    let settings = environment()?;
    let aws = Aws::from_environment();
    let master = Wrapping::new(aws.kms()).unwrapped_base64(Purpose::Master, &settings.master_secret).await?;
    let secrets = Secrets::new(master);
    let clock = Arc::new(SystemClock);
    let store =
        Arc::new(DynamoStore::new(aws.quick_dynamodb(), &settings.events_table, &settings.control_table));
    let tenants = TenantCache::new(store.clone(), clock.clone(), secrets.clone(), settings.log_name);
    Ok(Ingest {
        receipts: ReceiptSigner::new(&secrets),
        authenticator: Arc::new(Authenticator::new(store.clone(), clock.clone())),
        acceptor: Acceptor {
            hot: store,
            cold: Arc::new(ColdByFunction::new(aws.lambda(), settings.query_function)),
            tenants: Arc::new(tenants),
            clock,
            random: Arc::new(SystemRandom),
            secrets,
            noted: NotedDays::default(),
        },
        spill: Arc::new(SqsQueue::new(aws.sqs(), settings.spill_queue_url)),
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda::start_logging();
    let ingest = &wired().await?;
    let answer = |event: LambdaEvent<_>| async move {
        let answered = lambda::answer(event.payload, |request| async {
            let response = ingest.handle(request).await;
            let counts = Counts::of(&response);
            let values = [
                ("accepted", Unit::Count, counts.accepted),
                ("replayed", Unit::Count, counts.replayed),
                ("spilled", Unit::Count, counts.queued),
                ("rejected", Unit::Count, counts.rejected),
            ];
            report(ingest.acceptor.clock.now(), &values);
            response
        });
        Ok::<_, Error>(answered.await)
    };
    lambda_runtime::run(service_fn(answer)).await
}
