//! Asks AWS for the facts. Nothing is written, and no answer is judged: what could not be read is a fact too.

use super::alarms::ALARMS;
use super::facts::{
    Alarm, Asked, Bucket, Configuration, Described, Expiry, ExportBucket, Facts, Function, Head, Key, Lock,
    Log, Object, ObjectLock, Queue, QueuePair, Rule, Sample, Table, Tenants, Trigger, Ttl,
};
use super::functions::FUNCTIONS;
use super::logs::UNSEALED_MS_MAX;
use crate::cloud::Cloud;
use aws_sdk_lambda::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::LifecycleRule;
use serde::Deserialize;
use std::error::Error as StdError;
use std::sync::Arc;
use stele::access::{Tenant, TenantRecord};
use stele::id::{EventId, TenantId};
use stele::layout::{Object as LockedObject, PUBLIC_KEYS, WRAPPED_SECRETS, segments_of};
use stele::limits;
use stele::ports::{Clock, Heads, HotStore, IdRange, LockedObjects, Order, Tenants as _};
use stele::time::{Day, Timestamp};
use stele::tlog::hash::TreeSize;
use stele_adapters::clock::SystemClock;
use stele_adapters::dynamodb::DynamoStore;
use stele_adapters::places::Places;
use stele_adapters::s3::LockedBucket;
use tokio::task::JoinSet;

/// Tenants whose logs are looked at.
const TENANTS_MAX: usize = 1_000;
/// Of these so many at the same time.
const TENANTS_AT_ONCE: usize = 16;
const TENANTS_PAGE: usize = 200;
/// Newest events looked at, per tenant and day.
const EVENTS_PER_DAY: usize = 50;
/// Logs looked at closely: those sealed last.
const SAMPLED_LOGS: usize = 10;
/// Public keys and secrets looked at.
const KEYS_MAX: usize = 100;

/// All facts of an installation.
pub(super) async fn facts(cloud: &Cloud, trial: bool) -> Facts {
    let now = SystemClock.now();
    let (bucket, exports, secrets, public_keys, events, control) = tokio::join!(
        bucket(cloud),
        exports(cloud),
        locked_objects(cloud, WRAPPED_SECRETS),
        locked_objects(cloud, PUBLIC_KEYS),
        table(cloud, "events"),
        table(cloud, "control"),
    );
    let (spill, parking, compaction, reconciliation, export) = tokio::join!(
        queue_pair(cloud, "spill"),
        queue_pair(cloud, "parking"),
        queue_pair(cloud, "compaction"),
        queue_pair(cloud, "reconciliation"),
        queue_pair(cloud, "exports"),
    );
    let (seal_triggers, drain_triggers, compact_triggers, reconcile_triggers, export_triggers) = tokio::join!(
        triggers(cloud, "seal"),
        triggers(cloud, "drain"),
        triggers(cloud, "compact"),
        triggers(cloud, "reconcile"),
        triggers(cloud, "export"),
    );
    let (key, functions, alarms, tenants) =
        tokio::join!(key(cloud), functions(cloud), alarms(cloud), tenants(cloud, now));
    Facts {
        name: cloud.name.clone(),
        account: cloud.account.clone(),
        region: cloud.region.clone(),
        now,
        trial,
        bucket,
        exports,
        secrets,
        public_keys,
        events,
        control,
        key,
        spill,
        parking,
        compaction,
        reconciliation,
        export,
        functions,
        seal_triggers,
        drain_triggers,
        compact_triggers,
        reconcile_triggers,
        export_triggers,
        alarms,
        tenants,
    }
}

impl<T> Asked<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Asked<U> {
        match self {
            Asked::Is(answer) => Asked::Is(f(answer)),
            Asked::Absent(code) => Asked::Absent(code),
            Asked::Unread(code) => Asked::Unread(code),
        }
    }
}

/// An answer; some codes say that there is no such thing.
fn asked<T, E>(answer: Result<T, SdkError<E>>, absent: &[&str]) -> Asked<T>
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let error = match answer {
        Ok(answer) => return Asked::Is(answer),
        Err(error) => error,
    };
    let text = match (error.code(), error.raw_response()) {
        (Some(code), _) if absent.contains(&code) => return Asked::Absent(code.to_owned()),
        (Some(code), _) => match error.message() {
            Some(message) => format!("{code}: {message}"),
            None => code.to_owned(),
        },
        // An answer without a code is not one of the service's own.
        (None, Some(answer)) => format!("HTTP {}: {}", answer.status().as_u16(), last_word(&error)),
        (None, None) => last_word(&error),
    };
    Asked::Unread(text)
}

/// An answer through one of our ports, whose errors have the service's inside.
fn read<T>(answer: stele::Result<T>) -> Asked<T> {
    let error = match answer {
        Ok(answer) => return Asked::Is(answer),
        Err(error) => error,
    };
    let mut inner: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(link) = inner {
        if let Some(said) = link.downcast_ref::<ErrorMetadata>()
            && let Some(code) = said.code()
        {
            return Asked::Unread(format!("{code}: {}", said.message().unwrap_or("no message")));
        }
        inner = link.source();
    }
    Asked::Unread(match error.source() {
        Some(source) => format!("{}: {}", error.detail(), last_word(source)),
        None => error.detail().to_owned(),
    })
}

/// The last of an error's chain, which is what the service or the network said.
fn last_word(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}

// ---- the archive ----

const NO_BUCKET: &str = "NoSuchBucket";

async fn bucket(cloud: &Cloud) -> Bucket {
    let (object_lock, versioning, public_access_block, encryption, policy, lifecycle) = tokio::join!(
        object_lock(cloud),
        versioning(cloud),
        public_access_block(cloud, cloud.bucket()),
        encryption(cloud, cloud.bucket()),
        policy(cloud),
        lifecycle(cloud, cloud.bucket()),
    );
    Bucket { object_lock, versioning, public_access_block, encryption, policy, lifecycle }
}

async fn exports(cloud: &Cloud) -> ExportBucket {
    let name = format!("{}-exports-{}-{}", cloud.name, cloud.account, cloud.region);
    let (public_access_block, encryption, lifecycle) = tokio::join!(
        public_access_block(cloud, name.clone()),
        encryption(cloud, name.clone()),
        lifecycle(cloud, name),
    );
    ExportBucket { public_access_block, encryption, lifecycle }
}

async fn object_lock(cloud: &Cloud) -> Asked<ObjectLock> {
    let answer = cloud.aws.s3().get_object_lock_configuration().bucket(cloud.bucket()).send().await;
    asked(answer, &["ObjectLockConfigurationNotFoundError", NO_BUCKET]).map(|answer| {
        let lock = answer.object_lock_configuration;
        let is_enabled = lock.as_ref().and_then(|lock| lock.object_lock_enabled.as_ref());
        let is_enabled = is_enabled.is_some_and(|enabled| enabled.as_str() == "Enabled");
        let default =
            lock.and_then(|lock| lock.rule).and_then(|rule| rule.default_retention).map(|default| {
                let years = default.years.unwrap_or_default().saturating_mul(365);
                let mode = default.mode.map(|mode| mode.as_str().to_owned());
                (mode.unwrap_or_default(), default.days.unwrap_or(years))
            });
        ObjectLock { is_enabled, default }
    })
}

async fn versioning(cloud: &Cloud) -> Asked<String> {
    let answer = cloud.aws.s3().get_bucket_versioning().bucket(cloud.bucket()).send().await;
    asked(answer, &[NO_BUCKET])
        .map(|answer| answer.status.map(|status| status.as_str().to_owned()).unwrap_or_default())
}

async fn public_access_block(cloud: &Cloud, bucket: String) -> Asked<[bool; 4]> {
    let answer = cloud.aws.s3().get_public_access_block().bucket(bucket).send().await;
    asked(answer, &["NoSuchPublicAccessBlockConfiguration", NO_BUCKET]).map(|answer| {
        answer.public_access_block_configuration.map_or([false; 4], |block| {
            let settings = [
                block.block_public_acls,
                block.ignore_public_acls,
                block.block_public_policy,
                block.restrict_public_buckets,
            ];
            settings.map(Option::unwrap_or_default)
        })
    })
}

async fn encryption(cloud: &Cloud, bucket: String) -> Asked<Vec<String>> {
    let answer = cloud.aws.s3().get_bucket_encryption().bucket(bucket).send().await;
    asked(answer, &["ServerSideEncryptionConfigurationNotFoundError", NO_BUCKET]).map(|answer| {
        let rules = answer.server_side_encryption_configuration.map(|all| all.rules).unwrap_or_default();
        let defaults = rules.into_iter().filter_map(|rule| rule.apply_server_side_encryption_by_default);
        defaults.map(|default| default.sse_algorithm.as_str().to_owned()).collect()
    })
}

async fn policy(cloud: &Cloud) -> Asked<String> {
    let answer = cloud.aws.s3().get_bucket_policy().bucket(cloud.bucket()).send().await;
    asked(answer, &["NoSuchBucketPolicy", NO_BUCKET]).map(|answer| answer.policy.unwrap_or_default())
}

async fn lifecycle(cloud: &Cloud, bucket: String) -> Asked<Vec<Rule>> {
    let answer = cloud.aws.s3().get_bucket_lifecycle_configuration().bucket(bucket).send().await;
    let answer = asked(answer, &["NoSuchLifecycleConfiguration", NO_BUCKET]);
    answer.map(|answer| answer.rules().iter().map(lifecycle_rule).collect())
}

fn lifecycle_rule(rule: &LifecycleRule) -> Rule {
    let filter = rule.filter();
    let and = filter.and_then(|filter| filter.and());
    let prefix = filter.and_then(|filter| filter.prefix()).or(and.and_then(|and| and.prefix()));
    // Rules of an older form have their prefix beside the filter.
    #[allow(deprecated)]
    let prefix = prefix.or(rule.prefix());
    let tags = filter
        .and_then(|filter| filter.tag())
        .into_iter()
        .chain(and.map(|and| and.tags()).unwrap_or_default());
    // S3 answers with 0 where no size was given.
    let greater = |bytes: Option<i64>| bytes.is_some_and(|bytes| bytes > 0);
    let is_narrowed = greater(filter.and_then(|filter| filter.object_size_greater_than()))
        || greater(and.and_then(|and| and.object_size_greater_than()))
        || filter.and_then(|filter| filter.object_size_less_than()).is_some()
        || and.and_then(|and| and.object_size_less_than()).is_some();
    Rule {
        id: rule.id().unwrap_or_default().to_owned(),
        is_enabled: rule.status().as_str() == "Enabled",
        prefix: prefix.unwrap_or_default().to_owned(),
        tags: tags.map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect(),
        is_narrowed,
        expires: rule.expiration().and_then(|when| {
            match (when.days().filter(|days| *days > 0), when.date()) {
                (Some(days), _) => Some(Expiry::Days(days)),
                (None, Some(_)) => Some(Expiry::OnADate),
                (None, None) => None,
            }
        }),
    }
}

async fn locked_objects(cloud: &Cloud, prefix: &str) -> Asked<Vec<Object>> {
    let listed = match cloud.objects().list(prefix, None, KEYS_MAX).await {
        Ok(listed) => listed,
        Err(error) => return read(Err(error)),
    };
    let mut objects = Vec::with_capacity(listed.len());
    for object in listed {
        objects.push(lock(cloud, object.key, &object.version).await);
    }
    Asked::Is(objects)
}

/// The lock of a version. Headers of a read would leave it out for whoever may not see it; this call says so.
async fn lock(cloud: &Cloud, key: String, version: &str) -> Object {
    let (s3, bucket) = (cloud.aws.s3(), cloud.bucket());
    let answer = s3.get_object_retention().bucket(bucket).key(&key).version_id(version).send().await;
    let lock = asked(answer, &["NoSuchObjectLockConfiguration", "NoSuchKey", "NoSuchVersion"]);
    let lock = lock.map(|answer| {
        let retention = answer.retention;
        let until = retention.as_ref().and_then(|retention| retention.retain_until_date.as_ref());
        let until = until.and_then(|until| until.to_millis().ok()).and_then(|ms| u64::try_from(ms).ok());
        let mode = retention.and_then(|retention| retention.mode).map(|mode| mode.as_str().to_owned());
        Lock { mode: mode.unwrap_or_default(), until: Timestamp::from_ms(until.unwrap_or_default()) }
    });
    Object { key, lock }
}

// ---- tables, key, queues ----

const NO_RESOURCE: &str = "ResourceNotFoundException";

async fn table(cloud: &Cloud, what: &str) -> Table {
    let (dynamodb, name) = (cloud.aws.dynamodb(), cloud.named(what));
    let (described, ttl, recovery) = tokio::join!(
        dynamodb.describe_table().table_name(&name).send(),
        dynamodb.describe_time_to_live().table_name(&name).send(),
        dynamodb.describe_continuous_backups().table_name(&name).send(),
    );
    let described = asked(described, &[NO_RESOURCE]).map(|answer| {
        let table = answer.table;
        let stream = table.as_ref().and_then(|table| table.stream_specification.as_ref());
        let stream =
            stream.filter(|stream| stream.stream_enabled).and_then(|stream| stream.stream_view_type.as_ref());
        let stream = stream.map(|view| view.as_str().to_owned());
        let indexes = table.as_ref().map(|table| table.global_secondary_indexes()).unwrap_or_default();
        let indexes = indexes.iter().map(|index| {
            let status = index.index_status.as_ref().map(|status| status.as_str().to_owned());
            (index.index_name.clone().unwrap_or_default(), status.unwrap_or_default())
        });
        let status = table.as_ref().and_then(|table| table.table_status.as_ref());
        Described {
            status: status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
            is_protected: table
                .as_ref()
                .and_then(|table| table.deletion_protection_enabled)
                .unwrap_or_default(),
            stream,
            indexes: indexes.collect(),
            stream_arn: table.and_then(|table| table.latest_stream_arn),
        }
    });
    let ttl = asked(ttl, &[NO_RESOURCE]).map(|answer| {
        let described = answer.time_to_live_description;
        let status = described.as_ref().and_then(|ttl| ttl.time_to_live_status.as_ref());
        Ttl {
            status: status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
            attribute: described.and_then(|ttl| ttl.attribute_name).unwrap_or_default(),
        }
    });
    let recovery = asked(recovery, &["TableNotFoundException", NO_RESOURCE]).map(|answer| {
        let described = answer.continuous_backups_description;
        let recovery = described.and_then(|backups| backups.point_in_time_recovery_description);
        let status = recovery.and_then(|recovery| recovery.point_in_time_recovery_status);
        status.map(|status| status.as_str().to_owned()).unwrap_or_default()
    });
    Table { described, ttl, recovery }
}

async fn key(cloud: &Cloud) -> Asked<Key> {
    let answer = cloud.aws.kms().describe_key().key_id(format!("alias/{}", cloud.name)).send().await;
    asked(answer, &["NotFoundException"]).map(|answer| {
        let state = answer.key_metadata.and_then(|key| key.key_state);
        Key { state: state.map(|state| state.as_str().to_owned()).unwrap_or_default() }
    })
}

async fn queue_pair(cloud: &Cloud, what: &str) -> QueuePair {
    let dead = format!("{what}-dead");
    let (queue, dead) = tokio::join!(queue(cloud, what), queue(cloud, &dead));
    QueuePair { queue, dead }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Redrive {
    dead_letter_target_arn: String,
    /// A number, or a text with one in it.
    max_receive_count: serde_json::Value,
}

async fn queue(cloud: &Cloud, what: &str) -> Asked<Queue> {
    const ABSENT: [&str; 2] = ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"];
    let sqs = cloud.aws.sqs();
    let url = match asked(sqs.get_queue_url().queue_name(cloud.named(what)).send().await, &ABSENT) {
        Asked::Is(answer) => answer.queue_url.unwrap_or_default(),
        Asked::Absent(code) => return Asked::Absent(code),
        Asked::Unread(code) => return Asked::Unread(code),
    };
    let answer = sqs.get_queue_attributes().queue_url(url).attribute_names("All".into()).send().await;
    asked(answer, &ABSENT).map(|answer| {
        let attributes = answer.attributes.unwrap_or_default();
        let text = |name: &str| {
            attributes
                .iter()
                .find(|(attribute, _)| attribute.as_str() == name)
                .map(|(_, value)| value.as_str())
        };
        let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or_default();
        let redrive = text("RedrivePolicy").and_then(|policy| serde_json::from_str::<Redrive>(policy).ok());
        Queue {
            arn: text("QueueArn").unwrap_or_default().to_owned(),
            waiting: number("ApproximateNumberOfMessages"),
            in_flight: number("ApproximateNumberOfMessagesNotVisible")
                + number("ApproximateNumberOfMessagesDelayed"),
            redrive: redrive.map(|redrive| {
                let tries = redrive.max_receive_count.to_string();
                (redrive.dead_letter_target_arn, tries.trim_matches('"').parse().unwrap_or_default())
            }),
        }
    })
}

// ---- functions and alarms ----

async fn functions(cloud: &Cloud) -> Vec<(&'static str, Function)> {
    let lambda = aws_sdk_lambda::Client::new(&cloud.config);
    let mut found = Vec::new();
    for what in FUNCTIONS {
        let name = cloud.named(what);
        let (configuration, concurrency) = tokio::join!(
            lambda.get_function_configuration().function_name(&name).send(),
            lambda.get_function_concurrency().function_name(&name).send(),
        );
        let configuration = asked(configuration, &[NO_RESOURCE]).map(|answer| Configuration {
            state: answer.state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
            last_update: answer
                .last_update_status
                .map(|status| status.as_str().to_owned())
                .unwrap_or_default(),
            reason: answer.state_reason.or(answer.last_update_status_reason).unwrap_or_default(),
        });
        let concurrency =
            asked(concurrency, &[NO_RESOURCE]).map(|answer| answer.reserved_concurrent_executions);
        found.push((what, Function { configuration, concurrency }));
    }
    found
}

async fn triggers(cloud: &Cloud, function: &str) -> Asked<Vec<Trigger>> {
    let lambda = aws_sdk_lambda::Client::new(&cloud.config);
    let pages = lambda.list_event_source_mappings().function_name(cloud.named(function)).into_paginator();
    let all: Result<Vec<_>, _> = pages.items().send().collect().await;
    asked(all, &[NO_RESOURCE]).map(|mappings| {
        let trigger = |mapping: aws_sdk_lambda::types::EventSourceMappingConfiguration| Trigger {
            id: mapping.uuid.unwrap_or_default(),
            source: mapping.event_source_arn.unwrap_or_default(),
            state: mapping.state.unwrap_or_default(),
            last_result: mapping.last_processing_result.unwrap_or_default(),
        };
        mappings.into_iter().map(trigger).collect()
    })
}

async fn alarms(cloud: &Cloud) -> Asked<Vec<Alarm>> {
    let client = aws_sdk_cloudwatch::Client::new(&cloud.config);
    // A prefix would find those of installations whose name begins with this one's.
    let names = ALARMS.iter().map(|what| cloud.named(what)).collect();
    let answer = client.describe_alarms().set_alarm_names(Some(names)).max_records(100).send().await;
    asked(answer, &[]).map(|answer| {
        let alarm = |alarm: aws_sdk_cloudwatch::types::MetricAlarm| Alarm {
            has_actions: alarm.actions_enabled.unwrap_or_default() && !alarm.alarm_actions().is_empty(),
            name: alarm.alarm_name.unwrap_or_default(),
            state: alarm.state_value.map(|state| state.as_str().to_owned()).unwrap_or_default(),
            reason: alarm.state_reason.unwrap_or_default(),
            description: alarm.alarm_description.unwrap_or_default(),
        };
        answer.metric_alarms.unwrap_or_default().into_iter().map(alarm).collect()
    })
}

// ---- logs ----

/// A log with what a closer look needs.
struct Looked {
    log: Log,
    found: Option<(Tenant, stele::segment::Head)>,
    newest: Vec<(EventId, Timestamp)>,
}

async fn tenants(cloud: &Cloud, now: Timestamp) -> Asked<Tenants> {
    let store = Arc::new(cloud.store());
    let (records, left_out) = match on_record(&store).await {
        Ok(found) => found,
        Err(error) => return read(Err(error)),
    };
    let mut looked = Vec::with_capacity(records.len());
    for some in records.chunks(TENANTS_AT_ONCE) {
        let mut looking = JoinSet::new();
        for record in some {
            let (store, record) = (store.clone(), record.clone());
            looking.spawn(async move { look_at(&store, record, now).await });
        }
        looked.extend(looking.join_all().await);
    }
    // Those sealed last come first: their segments are sure to be locked still.
    let sealed_at = |looked: &Looked| looked.found.as_ref().map(|(_, head)| head.sealed_at);
    looked.sort_by_key(|looked| std::cmp::Reverse(sealed_at(looked)));
    let places = Places::new(store.clone(), store.clone(), Arc::new(cloud.objects()));
    let recent = now.minus_days(limits::SEGMENT_LOCK_DAYS - 1);
    for log in looked.iter_mut().take(SAMPLED_LOGS) {
        log.log.sample = match &log.found {
            Some((tenant, head)) if head.sealed_at > recent && head.size() > TreeSize::ZERO => {
                Some(closer(cloud, &store, &places, (tenant, head), &log.newest, now).await)
            }
            _ => None,
        };
    }
    let mut looked_at: Vec<Log> = looked.into_iter().map(|looked| looked.log).collect();
    looked_at.sort_by(|a, b| a.tenant.cmp(&b.tenant));
    Asked::Is(Tenants { looked_at, left_out })
}

/// The first tenants on record, and how many more there are.
async fn on_record(store: &DynamoStore) -> stele::Result<(Vec<TenantRecord>, u64)> {
    let (mut records, mut left_out, mut after) = (Vec::new(), 0, None::<TenantId>);
    loop {
        let page = store.tenants(after.as_ref(), TENANTS_PAGE).await?;
        after = page.last().and_then(|record| TenantId::parse(&record.tenant_id));
        let is_last = page.len() < TENANTS_PAGE || after.is_none();
        let room = TENANTS_MAX - records.len();
        left_out += page.len().saturating_sub(room) as u64;
        records.extend(page.into_iter().take(room));
        if is_last {
            return Ok((records, left_out));
        }
    }
}

async fn look_at(store: &DynamoStore, record: TenantRecord, now: Timestamp) -> Looked {
    let id = record.tenant_id.clone();
    let tenant = match Tenant::on_record(record) {
        Ok(tenant) => tenant,
        Err(error) => {
            let why = error.detail().to_owned();
            let log = Log {
                tenant: id,
                accepted: Asked::Unread(why.clone()),
                head: Asked::Unread(why),
                sample: None,
            };
            return Looked { log, found: None, newest: Vec::new() };
        }
    };
    // Events first: what is sealed between the two questions must not look as if it waited.
    let newest = read(newest_events(store, &tenant, now).await);
    let head = read(store.head(&tenant).await);
    let accepted = newest.clone().map(|events| events.into_iter().map(|(_, accepted)| accepted).collect());
    let found = head.is().cloned().flatten().map(|head| (tenant, head));
    let head = match head {
        Asked::Is(Some(head)) => Asked::Is(head_facts(&head)),
        Asked::Is(None) => Asked::Absent("no head".to_owned()),
        Asked::Absent(code) => Asked::Absent(code),
        Asked::Unread(code) => Asked::Unread(code),
    };
    let newest = newest.is().cloned().unwrap_or_default();
    Looked { log: Log { tenant: id, accepted, head, sample: None }, found, newest }
}

/// The newest events of today and yesterday: id, and when accepted.
async fn newest_events(
    store: &DynamoStore,
    tenant: &Tenant,
    now: Timestamp,
) -> stele::Result<Vec<(EventId, Timestamp)>> {
    // An event may say it happened a little after it was accepted.
    let latest = now.plus_ms(limits::FUTURE_MS_MAX).day();
    let mut newest = Vec::new();
    for day in std::iter::once(latest).chain(latest.previous()) {
        let records = store.day(tenant, day, all_of(day), Order::Descending, EVENTS_PER_DAY).await?;
        newest.extend(records.iter().map(|record| (record.id, record.received_at)));
    }
    Ok(newest)
}

fn all_of(day: Day) -> IdRange {
    let last = day.next().start().minus_ms(1);
    IdRange { first: EventId::first_at(day.start()), last: EventId::last_at(last) }
}

fn head_facts(head: &stele::segment::Head) -> Head {
    Head {
        size: head.size().to_u64(),
        sealed_at: head.sealed_at,
        received_max: head.received_max,
        published_size: head.published.size.to_u64(),
        published_at: head.published.at,
    }
}

/// The newest objects of a log, and whether its newest events are in it.
async fn closer(
    cloud: &Cloud,
    store: &DynamoStore,
    places: &Places,
    (tenant, head): (&Tenant, &stele::segment::Head),
    newest: &[(EventId, Timestamp)],
    now: Timestamp,
) -> Sample {
    let mut objects = vec![newest_segment(cloud, store, tenant, head).await];
    if head.published.size > TreeSize::ZERO {
        objects.push(newest_checkpoint(cloud, tenant, head).await);
    }
    let deadline = now.minus_ms(UNSEALED_MS_MAX);
    // What is newer than the head is looked at for all logs.
    let is_due =
        |(_, accepted): &&(EventId, Timestamp)| *accepted < deadline && *accepted <= head.received_max;
    let wanted: Vec<(EventId, Timestamp)> = newest.iter().filter(is_due).copied().collect();
    let in_log = read(places.places_below(tenant, head, &wanted).await).map(|found| {
        let missing = wanted.iter().filter(|(id, _)| !found.contains_key(id));
        (wanted.len() as u64, missing.map(|(id, accepted)| (id.to_string(), *accepted)).collect())
    });
    Sample { objects, in_log }
}

async fn newest_segment(
    cloud: &Cloud,
    store: &DynamoStore,
    tenant: &Tenant,
    head: &stele::segment::Head,
) -> Object {
    let unknown = |lock| Object { key: segments_of(tenant.id(), tenant.log()), lock };
    match store.index_below(tenant, head.size(), 1).await {
        Ok(entries) => match entries.into_iter().next() {
            Some(entry) => {
                let segment = LockedObject::Segment {
                    tenant: tenant.id().clone(),
                    log: tenant.log(),
                    first: entry.first,
                };
                lock(cloud, segment.key().to_string(), &entry.version).await
            }
            None => unknown(Asked::Absent("no entry in the segment index".to_owned())),
        },
        Err(error) => unknown(read(Err(error))),
    }
}

async fn newest_checkpoint(cloud: &Cloud, tenant: &Tenant, head: &stele::segment::Head) -> Object {
    let (id, log, size) = (tenant.id().clone(), tenant.log(), head.published.size);
    let key = LockedObject::Checkpoint { tenant: id, log, size }.key().to_string();
    let objects: LockedBucket = cloud.objects();
    match objects.list(&key, None, 1).await {
        Ok(listed) => match listed.into_iter().find(|object| object.key == key) {
            Some(object) => lock(cloud, key, &object.version).await,
            None => Object { key, lock: Asked::Absent("NoSuchKey".to_owned()) },
        },
        Err(error) => Object { key, lock: read(Err(error)) },
    }
}
