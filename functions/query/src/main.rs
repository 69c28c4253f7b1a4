//! Query on AWS Lambda: settings, clients, run.

use aws_lambda_events::event::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stele::access::Secrets;
use stele::lookup::{Lookup, LookupAnswer, LookupMessage};
use stele::ports::Clock;
use stele::public_key::PublishedKeys;
use stele_adapters::authenticator::Authenticator;
use stele_adapters::aws::Aws;
use stele_adapters::clock::{SystemClock, SystemRandom};
use stele_adapters::cold_search::ColdSearch;
use stele_adapters::dynamodb::DynamoStore;
use stele_adapters::lambda;
use stele_adapters::metrics::{Unit, report};
use stele_adapters::places::Places;
use stele_adapters::s3::{LockMode, LockedBucket};
use stele_adapters::s3_exports::ExportBucket;
use stele_adapters::secrets::{Purpose, Wrapping};
use stele_adapters::settings::{self, Settings};
use stele_adapters::sqs::SqsQueue;
use stele_adapters::stored_tree::StoredTree;
use stele_adapters::tenants::TenantCache;
use stele_query::Query;

/// What the environment says.
struct Environment {
    events_table: String,
    control_table: String,
    bucket: String,
    queue_urls: [String; 2],
    compaction_queue_url: String,
    export_queue_url: String,
    export_bucket: String,
    log_name: String,
    env: String,
    master_secret: String,
    public_keys: PublishedKeys,
}

fn environment() -> stele::Result<Environment> {
    let mut from = Settings::new(&settings::variable);
    let environment = Environment {
        events_table: from.text(settings::EVENTS_TABLE),
        control_table: from.text(settings::CONTROL_TABLE),
        bucket: from.text(settings::ARCHIVE_BUCKET),
        queue_urls: [settings::SPILL_QUEUE_URL, settings::PARKING_QUEUE_URL].map(|name| from.text(name)),
        compaction_queue_url: from.text(settings::COMPACTION_QUEUE_URL),
        export_queue_url: from.text(settings::EXPORT_QUEUE_URL),
        export_bucket: from.text(settings::EXPORT_BUCKET),
        log_name: from.text(settings::LOG_NAME),
        env: from.env(),
        master_secret: from.text(settings::MASTER_SECRET),
        public_keys: from.public_keys(),
    };
    from.finish().map(|()| environment)
}

async fn wired() -> stele::Result<Query> {
    let settings = environment()?;
    let aws = Aws::from_environment();
    let master = Wrapping::new(aws.kms()).unwrapped_base64(Purpose::Master, &settings.master_secret).await?;
    let secrets = Secrets::new(master);
    let clock = Arc::new(SystemClock);
    let store = Arc::new(DynamoStore::new(aws.dynamodb(), &settings.events_table, &settings.control_table));
    let objects = Arc::new(LockedBucket::new(aws.s3(), settings.bucket, LockMode::default()));
    let tenants = TenantCache::new(store.clone(), clock.clone(), secrets.clone(), settings.log_name);
    let queues = settings.queue_urls.map(|url| Arc::new(SqsQueue::new(aws.sqs(), url)) as _);
    Ok(Query {
        hot: store.clone(),
        heads: store.clone(),
        archive: store.clone(),
        watermarks: store.clone(),
        policies: store.clone(),
        compaction: Arc::new(SqsQueue::new(aws.sqs(), settings.compaction_queue_url)),
        exports: store.clone(),
        export_files: Arc::new(ExportBucket::new(aws.s3(), settings.export_bucket)),
        exporting: Arc::new(SqsQueue::new(aws.sqs(), settings.export_queue_url)),
        tree: Arc::new(StoredTree::new(store.clone(), store.clone(), objects.clone())),
        cold: Arc::new(ColdSearch::new(store.clone(), store.clone(), objects.clone())),
        places: Arc::new(Places::new(store.clone(), store.clone(), objects)),
        keys: store.clone(),
        refusals: store.clone(),
        backlogs: queues.into(),
        authenticator: Arc::new(Authenticator::new(store, clock.clone())),
        tenants: Arc::new(tenants),
        clock,
        random: Arc::new(SystemRandom),
        secrets,
        public_keys: settings.public_keys,
        env: settings.env,
    })
}

/// Who calls: ingest with a question, or a client through API Gateway, whose envelope is never taken for one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Trigger {
    Lookup(LookupMessage),
    Request(Box<ApiGatewayV2httpRequest>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Lookup(LookupAnswer),
    Response(Box<ApiGatewayV2httpResponse>),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda::start_logging();
    let query = &wired().await?;
    let answer = |event: LambdaEvent<Trigger>| async move {
        Ok::<_, Error>(match event.payload {
            Trigger::Lookup(message) => {
                let lookup = Lookup::from_message(&message).ok_or("the question names no event")?;
                Answer::Lookup(LookupAnswer::of(query.lookup(&lookup).await?.as_ref()))
            }
            Trigger::Request(request) => {
                let answered = lambda::answer(*request, |request| query.handle(request)).await;
                report(SystemClock.now(), &[("requests", Unit::Count, 1)]);
                Answer::Response(Box::new(answered))
            }
        })
    };
    lambda_runtime::run(service_fn(answer)).await
}
