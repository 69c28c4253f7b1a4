//! Cost: what an installation costs a month, from a price list in the repository.
//!
//! infra/cost.md writes the formula out, infra/prices.json holds every number in it. It asks no server and
//! knows no discounts: it is for deciding, not for book-keeping.

use crate::show::{Failure, print, table};
use clap::{Args, value_parser};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stele::limits;

const PRICE_LIST: &str = include_str!("../../../infra/prices.json");

const DAY_SECONDS: f64 = 86_400.0;
/// 730 hours, as AWS itself reckons.
const MONTH_DAYS: f64 = 365.0 / 12.0;
/// What AWS means by KB, MB and GB.
const KB: f64 = 1024.0;
const GB: f64 = KB * KB * KB;
/// Bytes of an HTTP API's request that are billed as one.
const REQUEST_BYTES: f64 = 512.0 * KB;
/// Bytes of a write unit and of a (strongly consistent) read unit.
const WRITE_BYTES: f64 = KB;
const READ_BYTES: f64 = 4.0 * KB;

/// Of what can be counted: beyond any installation, and still exact.
const MANY: u64 = 1_000_000_000_000;
const LEAF_BYTES: i64 = limits::LEAF_BYTES_MAX as i64;
const HOT_DAYS: i64 = limits::HOT_DAYS_MIN as i64;
const BATCH_EVENTS: i64 = limits::BATCH_EVENTS_MAX as i64;

/// Says what an installation would cost a month, by service
#[derive(Args, Clone, Debug)]
pub(crate) struct Cost {
    /// How many events are sent
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=MANY))]
    events_per_day: u64,
    /// Average size of an event's leaf
    #[arg(long, default_value_t = 750, value_name = "B")]
    #[arg(value_parser = value_parser!(u32).range(1..=LEAF_BYTES))]
    avg_bytes: u32,
    /// The retention class
    #[arg(long, default_value_t = limits::CLASS_DAYS_DEFAULT, value_name = "DAYS", value_parser = class)]
    retention: u32,
    /// How many tenants send events on a day
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = value_parser!(u64).range(1..=MANY))]
    tenants: u64,
    /// How many days the hot store keeps an event
    #[arg(long, default_value_t = limits::HOT_DAYS_DEFAULT, value_name = "DAYS")]
    #[arg(value_parser = value_parser!(u32).range(HOT_DAYS..=3_653))]
    hot_days: u32,
    /// How many events come in one request
    #[arg(long, default_value_t = 1, value_name = "N")]
    #[arg(value_parser = value_parser!(u32).range(1..=BATCH_EVENTS))]
    batch: u32,
    /// How many pages of events are read
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = value_parser!(u64).range(0..=MANY))]
    queries_per_day: u64,
    /// What Athena scans a month
    #[arg(long, default_value_t = 0, value_name = "GB", value_parser = value_parser!(u64).range(0..=MANY))]
    athena_gb: u64,
    /// Which month of operation [default: the first in which as much is removed as is stored]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_200))]
    month: Option<u32>,
    /// Whose prices
    #[arg(long, default_value = "us-east-1", value_name = "REGION")]
    region: String,
    /// As JSON, with every price and assumption
    #[arg(long)]
    json: bool,
}

fn class(text: &str) -> Result<u32, String> {
    let classes = limits::CLASSES_DAYS;
    text.parse().ok().filter(|days| classes.contains(days)).ok_or_else(|| {
        format!("there is no such class; the classes are {} days", classes.map(|d| d.to_string()).join(", "))
    })
}

/// Runs it.
pub(crate) fn run(args: &Cost) -> Result<(), Failure> {
    let list = PriceList::read()?;
    let bill = Bill::new(args, &list)?;
    match args.json {
        true => print(bill.to_json()?),
        false => print(bill.to_text()),
    }
}

// ---- the price list ----

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceList {
    about: String,
    date: String,
    currency: String,
    assumptions: Assumptions,
    regions: BTreeMap<String, Prices>,
}

impl PriceList {
    fn read() -> Result<PriceList, Failure> {
        serde_json::from_str(PRICE_LIST).map_err(|e| Failure::could_not("read the price list", e))
    }

    fn prices(&self, region: &str) -> Result<&Prices, Failure> {
        self.regions.get(region).ok_or_else(|| {
            let known: Vec<&str> = self.regions.keys().map(String::as_str).collect();
            let known = known.join(" and ");
            Failure::CouldNot(format!(
                "there are no prices of `{region}` in infra/prices.json, only of {known}"
            ))
        })
    }
}

/// What a thing costs.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Price {
    usd: f64,
    /// So many units cost that.
    per: f64,
    /// The unit's plural.
    unit: String,
    /// The service's code in the AWS Price List.
    source: String,
    /// The day it was last found to be right; `None`: it is from memory.
    checked: Option<String>,
    note: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prices {
    api_gateway_requests: Price,
    lambda_requests: Price,
    lambda_gb_seconds: Price,
    dynamodb_writes: Price,
    dynamodb_reads: Price,
    dynamodb_storage: Price,
    dynamodb_recovery: Price,
    s3_writes: Price,
    s3_reads: Price,
    s3_transitions: Price,
    s3_standard: Price,
    s3_glacier: Price,
    sqs_requests: Price,
    kms_keys: Price,
    kms_requests: Price,
    cloudwatch_ingestion: Price,
    cloudwatch_storage: Price,
    cloudwatch_metrics: Price,
    cloudwatch_alarms: Price,
    cloudwatch_dashboards: Price,
    athena_scans: Price,
    transfer_out: Price,
}

/// A number that the formula takes for granted; its meaning stands beside it in the price list.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Assumption {
    value: f64,
    basis: Basis,
    note: String,
}

/// How we know it.
#[derive(Clone, Copy, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Basis {
    Assumed,
    Measured,
    /// It follows from our code or templates.
    Counted,
    /// AWS says so.
    Documented,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Assumptions {
    size_spread: Assumption,
    item_bytes: Assumption,
    indexes: Assumption,
    index_item_bytes: Assumption,
    stored_item_bytes: Assumption,
    ttl_late_days: Assumption,

    ingest_memory_mb: Assumption,
    ingest_request_ms: Assumption,
    ingest_event_ms: Assumption,
    ingest_put_ms: Assumption,
    ingest_puts_at_once: Assumption,
    ingest_reads_per_minute: Assumption,

    window_seconds: Assumption,
    stream_batch_records: Assumption,
    stream_batch_bytes: Assumption,
    stream_record_bytes: Assumption,
    stream_shards: Assumption,
    stream_shard_gb: Assumption,
    seal_memory_mb: Assumption,
    seal_batch_ms: Assumption,
    seal_segment_ms: Assumption,
    seal_event_ms: Assumption,
    seal_tenants_at_once: Assumption,
    segment_control_writes: Assumption,
    segment_control_reads: Assumption,
    segment_fixed_bytes: Assumption,
    segment_bytes_per_leaf_byte: Assumption,
    archive_bytes_per_leaf_byte: Assumption,
    segment_days: Assumption,
    control_entry_bytes: Assumption,

    publish_seconds: Assumption,
    publication_puts: Assumption,
    publication_reads: Assumption,
    publication_bytes: Assumption,
    manifest_line_bytes: Assumption,
    revalidation_lists: Assumption,
    revalidation_gets: Assumption,
    revalidation_writes: Assumption,

    archive_events: Assumption,
    archive_day_events: Assumption,
    archive_wait_days: Assumption,
    archive_puts: Assumption,
    archive_gets: Assumption,
    archive_control_writes: Assumption,
    archive_extra_days: Assumption,
    archive_gb_seconds_per_million_events: Assumption,
    compact_memory_mb: Assumption,
    compact_looks: Assumption,
    look_reads: Assumption,
    look_gets: Assumption,
    compact_visits: Assumption,
    visit_index_looks: Assumption,
    reconcile_memory_mb: Assumption,
    reconcile_visits: Assumption,
    visit_ms: Assumption,
    visit_requests: Assumption,
    visit_reads: Assumption,
    reconcile_lists: Assumption,
    reconcile_writes: Assumption,
    segment_tag_puts: Assumption,
    segment_archive_gets: Assumption,
    segment_forget_writes: Assumption,
    glacier_class_days: Assumption,
    glacier_after_days: Assumption,
    glacier_file_bytes: Assumption,

    query_memory_mb: Assumption,
    query_ms: Assumption,
    query_reads: Assumption,
    query_segments: Assumption,
    query_response_bytes: Assumption,
    response_bytes: Assumption,
    receipt_bytes: Assumption,

    log_access_bytes: Assumption,
    log_platform_bytes: Assumption,
    log_metrics_bytes: Assumption,
    log_days: Assumption,
    log_stored_part: Assumption,
    metrics: Assumption,
    daily_metrics: Assumption,
    daily_metric_hours: Assumption,
    alarms: Assumption,
    dashboards: Assumption,

    polled_queues: Assumption,
    pollers: Assumption,
    poll_seconds: Assumption,
    keys: Assumption,
    cold_starts_per_day: Assumption,
}

// ---- the formula, in the order of infra/cost.md ----

/// A month of operation, in days since the first event.
#[derive(Clone, Copy, Debug)]
struct Month {
    from: f64,
    to: f64,
}

impl Month {
    fn nth(n: u32) -> Month {
        Month { from: f64::from(n - 1) * MONTH_DAYS, to: f64::from(n) * MONTH_DAYS }
    }

    /// The first month in which nothing is stored any more without as much being removed.
    fn steady(args: &Cost, a: &Assumptions) -> u32 {
        let days = [archive_days(args, a), hot_days(args, a), a.segment_days.value, a.log_days.value];
        1 + (days.into_iter().fold(0.0, f64::max) / MONTH_DAYS).ceil() as u32
    }

    /// Days' worth that is there, on average over the month, of what comes evenly and is kept for `days`.
    fn kept(self, days: f64) -> f64 {
        let sum = |t: f64| if t <= days { t * t / 2.0 } else { days * t - days * days / 2.0 };
        (sum(self.to) - sum(self.from)) / MONTH_DAYS
    }

    /// The same for what is never removed.
    fn kept_for_good(self) -> f64 {
        (self.from + self.to) / 2.0
    }

    /// Days' worth that reaches an age within the month.
    fn reaching(self, age: f64) -> f64 {
        (self.to - age).max(0.0) - (self.from - age).max(0.0)
    }
}

fn archive_days(args: &Cost, a: &Assumptions) -> f64 {
    f64::from(args.retention) + a.archive_extra_days.value
}

fn hot_days(args: &Cost, a: &Assumptions) -> f64 {
    f64::from(args.hot_days) + a.ttl_late_days.value
}

/// How many of `slots` have something in them, if things fall into them evenly and by chance.
fn occupied(slots: f64, things: f64) -> f64 {
    -slots * (-things / slots).exp_m1()
}

/// Billed units of `unit` bytes on average, if sizes lie evenly from `low` to `high`.
fn mean_units(low: f64, high: f64, unit: f64) -> f64 {
    if high <= low {
        return (low / unit).ceil();
    }
    // The integral of the rounded-up size from 0.
    let sum = |size: f64| {
        let whole = (size / unit).floor();
        unit * whole * (whole + 1.0) / 2.0 + (size - whole * unit) * (whole + 1.0)
    };
    (sum(high) - sum(low)) / (high - low)
}

/// Which part of the files, and which part of their bytes, is in files of at least `limit` bytes.
fn part_from(limit: f64, low: f64, high: f64) -> (f64, f64) {
    if low >= limit {
        (1.0, 1.0)
    } else if high <= limit {
        (0.0, 0.0)
    } else {
        let squares = high * high - low * low;
        ((high - limit) / (high - low), (high * high - limit * limit) / squares)
    }
}

/// What happens on a day, and what is stored in the month.
struct Load {
    events: f64,
    requests: f64,
    queries: f64,
    /// Tenants with at least one event.
    active: f64,
    table_units: f64,
    item_bytes: f64,
    table_gb: f64,
    index_gb: f64,
    control_gb: f64,
    /// Minutes with a request, over all tenants.
    minutes: f64,
    seal_batches: f64,
    segments: f64,
    publications: f64,
    files: f64,
    files_to_glacier: f64,
    /// Looks at tenants by compact's plan, visits by compact, and entries of the segment index that these read.
    looks: f64,
    compact_visits: f64,
    entries_read: f64,
    reconcile_visits: f64,
    standard_gb: f64,
    glacier_gb: f64,
    log_bytes: f64,
}

impl Load {
    fn new(args: &Cost, a: &Assumptions, month: Month) -> Load {
        let (events, tenants, queries) =
            (args.events_per_day as f64, args.tenants as f64, args.queries_per_day as f64);
        let (leaf, each) = (f64::from(args.avg_bytes), events / tenants);
        let requests = events / f64::from(args.batch);
        let (low, high) = (1.0 - a.size_spread.value, 1.0 + a.size_spread.value);

        let item_bytes = leaf + a.item_bytes.value;
        let hot = events * month.kept(hot_days(args, a)) / GB;
        let table_gb = hot * (item_bytes + a.stored_item_bytes.value);
        let index_gb = hot * a.indexes.value * (a.index_item_bytes.value + a.stored_item_bytes.value);

        // A tenant's day lies in one shard; each shard's records are handed to seal window by window, or
        // batch by batch when they come faster.
        let shards = a.stream_shards.value.max((table_gb / a.stream_shard_gb.value).ceil()).min(tenants);
        let record = leaf * 4.0 / 3.0 + a.stream_record_bytes.value;
        let batch = a.stream_batch_records.value.min(a.stream_batch_bytes.value / record);
        let windows = (DAY_SECONDS / a.window_seconds.value).max(events / shards / batch);
        let seal_batches = shards * occupied(windows, events / shards);
        let segments = tenants * occupied(windows, each);
        let publications = tenants * occupied(DAY_SECONDS / a.publish_seconds.value, each);

        let files_each = (1.0 / a.archive_wait_days.value)
            .max((each / a.archive_day_events.value).min(1.0))
            .max(each / a.archive_events.value);
        let files = tenants * files_each.min(each);
        // Most visits come when nearly all of a file waits.
        let compact_visits = files * a.compact_visits.value;
        let entries_read = a.compact_visits.value * segments * a.visit_index_looks.value;
        let reconcile_visits = tenants * a.reconcile_visits.value;

        let archive =
            events * leaf * a.archive_bytes_per_leaf_byte.value + files * a.segment_fixed_bytes.value;
        let file = archive / files;
        let (files_part, bytes_part) = match f64::from(args.retention) >= a.glacier_class_days.value {
            true => part_from(a.glacier_file_bytes.value, file * low, file * high),
            false => (0.0, 0.0),
        };
        let all = archive * month.kept(archive_days(args, a));
        let young = archive * month.kept(a.glacier_after_days.value);
        let glacier = bytes_part * (all - young).max(0.0);

        let sealed =
            segments * a.segment_fixed_bytes.value + events * leaf * a.segment_bytes_per_leaf_byte.value;
        let proofs = (publications + files) * a.publication_bytes.value
            + (segments + files) * a.manifest_line_bytes.value;
        let standard =
            all - glacier + sealed * month.kept(a.segment_days.value) + proofs * month.kept_for_good();

        let visits = compact_visits + reconcile_visits;
        let runs = seal_batches + visits + a.compact_looks.value + a.reconcile_visits.value;
        let invocations = requests + queries + runs;
        let index_days = segments * month.kept(a.segment_days.value) + files * month.kept_for_good();
        Load {
            events,
            requests,
            queries,
            active: tenants * occupied(1.0, each),
            table_units: mean_units(
                leaf * low + a.item_bytes.value,
                leaf * high + a.item_bytes.value,
                WRITE_BYTES,
            ),
            item_bytes,
            table_gb,
            index_gb,
            control_gb: index_days * a.control_entry_bytes.value / GB,
            minutes: tenants * occupied(DAY_SECONDS / 60.0, requests / tenants),
            seal_batches,
            segments,
            publications,
            files,
            files_to_glacier: files * files_part,
            looks: tenants * a.compact_looks.value,
            compact_visits,
            entries_read,
            reconcile_visits,
            standard_gb: standard / GB,
            glacier_gb: glacier / GB,
            log_bytes: (requests + queries) * a.log_access_bytes.value
                + invocations * a.log_metrics_bytes.value
                + runs * a.log_platform_bytes.value,
        }
    }

    fn visits(&self) -> f64 {
        self.compact_visits + self.reconcile_visits
    }

    /// GB-seconds of a day.
    fn gb_seconds(&self, args: &Cost, a: &Assumptions) -> f64 {
        let gb_seconds = |ms: f64, memory_mb: &Assumption| ms / 1000.0 * memory_mb.value / KB;
        let seal_ms = self.seal_batches * a.seal_batch_ms.value
            + self.seal_batches.max(self.segments / a.seal_tenants_at_once.value) * a.seal_segment_ms.value
            + self.events * a.seal_event_ms.value;
        gb_seconds(self.requests * ingest_ms(args, a), &a.ingest_memory_mb)
            + gb_seconds(seal_ms, &a.seal_memory_mb)
            + gb_seconds(self.queries * a.query_ms.value, &a.query_memory_mb)
            + gb_seconds(self.compact_visits * a.visit_ms.value, &a.compact_memory_mb)
            + gb_seconds(self.reconcile_visits * a.visit_ms.value, &a.reconcile_memory_mb)
            + self.events / 1e6 * a.archive_gb_seconds_per_million_events.value
    }
}

/// What a request to ingest is billed, in whole milliseconds.
fn ingest_ms(args: &Cost, a: &Assumptions) -> f64 {
    let batch = f64::from(args.batch);
    let waits = (batch / a.ingest_puts_at_once.value).ceil() * a.ingest_put_ms.value;
    (a.ingest_request_ms.value + batch * a.ingest_event_ms.value + waits).ceil()
}

/// How often empty queues are asked on a day.
fn polls(a: &Assumptions) -> f64 {
    a.polled_queues.value * a.pollers.value * DAY_SECONDS / a.poll_seconds.value
}

/// A line of the bill.
struct Line<'a> {
    service: &'static str,
    what: &'static str,
    /// Units in the month.
    amount: f64,
    price: &'a Price,
}

impl<'a> Line<'a> {
    fn cents(&self) -> u64 {
        cents(self.amount / self.price.per * self.price.usd)
    }

    fn to_json(&self) -> LineJson<'a> {
        LineJson {
            service: self.service,
            what: self.what,
            amount: (self.amount * 1000.0).round() / 1000.0,
            usd: Usd(self.cents()),
            price: self.price,
        }
    }
}

fn lines<'a>(args: &Cost, a: &Assumptions, prices: &'a Prices, load: &Load, month: Month) -> Vec<Line<'a>> {
    let line = |service, what, amount, price| Line { service, what, amount, price };
    let daily = |service, what, a_day: f64, price| line(service, what, a_day * MONTH_DAYS, price);
    let (p, l) = (prices, load);

    let http =
        l.requests * (f64::from(args.batch) * f64::from(args.avg_bytes) / REQUEST_BYTES).ceil() + l.queries;
    let writes = l.events * (l.table_units + a.indexes.value)
        + l.segments * (a.segment_control_writes.value + a.segment_forget_writes.value)
        + l.files * a.archive_control_writes.value
        + l.reconcile_visits * a.reconcile_writes.value
        + l.active * a.revalidation_writes.value;
    let reads = l.minutes * a.ingest_reads_per_minute.value
        + l.segments * a.segment_control_reads.value
        + l.publications * a.publication_reads.value
        + l.queries * a.query_reads.value
        + l.visits() * a.visit_reads.value
        + l.looks * a.look_reads.value
        + (l.entries_read + l.segments) * a.control_entry_bytes.value / READ_BYTES
        + l.events * l.item_bytes / READ_BYTES;
    let puts = l.segments * (1.0 + a.segment_tag_puts.value)
        + l.publications * a.publication_puts.value
        + l.files * a.archive_puts.value
        + l.reconcile_visits * a.reconcile_lists.value
        + l.active * a.revalidation_lists.value;
    let gets = l.segments * a.segment_archive_gets.value
        + l.files * a.archive_gets.value
        + l.looks * a.look_gets.value
        + l.active * a.revalidation_gets.value
        + l.queries * a.query_segments.value;
    let sqs = polls(a) + l.visits() * a.visit_requests.value;
    let metrics = a.metrics.value + a.daily_metrics.value * a.daily_metric_hours.value / 24.0;
    let plans = a.compact_looks.value + a.reconcile_visits.value;
    let invocations = l.requests + l.seal_batches + l.queries + l.visits() + plans;
    let out = l.requests * a.response_bytes.value
        + l.events * a.receipt_bytes.value
        + l.queries * a.query_response_bytes.value;

    let mut lines = vec![
        daily("API Gateway", "requests", http, &p.api_gateway_requests),
        daily("Lambda", "requests", invocations, &p.lambda_requests),
        daily("Lambda", "computing time", l.gb_seconds(args, a), &p.lambda_gb_seconds),
        daily("DynamoDB", "writes", writes, &p.dynamodb_writes),
        daily("DynamoDB", "reads", reads, &p.dynamodb_reads),
        line("DynamoDB", "storage", l.table_gb + l.index_gb + l.control_gb, &p.dynamodb_storage),
        line("DynamoDB", "point-in-time recovery", l.table_gb + l.control_gb, &p.dynamodb_recovery),
        daily("S3", "writes and lists", puts, &p.s3_writes),
        daily("S3", "reads", gets, &p.s3_reads),
        line("S3", "storage, Standard", l.standard_gb, &p.s3_standard),
        line("S3", "storage, Glacier Instant Retrieval", l.glacier_gb, &p.s3_glacier),
        line(
            "S3",
            "moves to Glacier",
            l.files_to_glacier * month.reaching(a.glacier_after_days.value),
            &p.s3_transitions,
        ),
        daily("SQS", "requests", sqs, &p.sqs_requests),
        line("KMS", "keys", a.keys.value, &p.kms_keys),
        daily("KMS", "requests", a.cold_starts_per_day.value, &p.kms_requests),
        daily("CloudWatch", "logs written", l.log_bytes / GB, &p.cloudwatch_ingestion),
        line(
            "CloudWatch",
            "logs kept",
            l.log_bytes * a.log_stored_part.value * month.kept(a.log_days.value) / GB,
            &p.cloudwatch_storage,
        ),
        line("CloudWatch", "metrics", metrics, &p.cloudwatch_metrics),
        line("CloudWatch", "alarms", a.alarms.value, &p.cloudwatch_alarms),
        line("CloudWatch", "dashboards", a.dashboards.value, &p.cloudwatch_dashboards),
        line("Athena", "scans", args.athena_gb as f64, &p.athena_scans),
        daily("Data transfer", "answers to the internet", out / GB, &p.transfer_out),
    ];
    lines.retain(|line| line.amount > 0.0);
    lines
}

// ---- the bill ----

struct Bill<'a> {
    args: &'a Cost,
    list: &'a PriceList,
    month: u32,
    load: Load,
    lines: Vec<Line<'a>>,
}

impl<'a> Bill<'a> {
    fn new(args: &'a Cost, list: &'a PriceList) -> Result<Bill<'a>, Failure> {
        let bytes = u64::from(args.batch) * u64::from(args.avg_bytes);
        if bytes > limits::BATCH_BYTES_MAX as u64 {
            return Err(Failure::CouldNot(format!(
                "{} events of {} bytes are {} bytes; a request may have {}",
                args.batch,
                grouped(u64::from(args.avg_bytes)),
                grouped(bytes),
                grouped(limits::BATCH_BYTES_MAX as u64)
            )));
        }
        let (prices, a) = (list.prices(&args.region)?, &list.assumptions);
        let month = args.month.unwrap_or_else(|| Month::steady(args, a));
        let load = Load::new(args, a, Month::nth(month));
        let lines = lines(args, a, prices, &load, Month::nth(month));
        Ok(Bill { args, list, month, load, lines })
    }

    /// The sum of what is printed, so that it adds up.
    fn total_cents(&self) -> u64 {
        self.lines.iter().map(Line::cents).sum()
    }

    fn events(&self) -> f64 {
        self.load.events * MONTH_DAYS
    }

    fn per_million_cents(&self) -> u64 {
        (self.total_cents() as f64 / self.events() * 1e6).round() as u64
    }

    /// The services in order, with their sums.
    fn services(&self) -> Vec<(&'static str, u64)> {
        let mut services: Vec<(&'static str, u64)> = Vec::new();
        for line in &self.lines {
            match services.last_mut() {
                Some((service, sum)) if *service == line.service => *sum += line.cents(),
                _ => services.push((line.service, line.cents())),
            }
        }
        services
    }

    fn to_text(&self) -> String {
        let amounts: Vec<String> = self.lines.iter().map(|line| amount(line.amount)).collect();
        let width = amounts.iter().map(String::len).max().unwrap_or(0);
        let mut rows = vec![["a month", "", "", "USD"].map(str::to_owned).to_vec()];
        for (service, sum) in self.services() {
            rows.push(vec![service.to_owned(), String::new(), String::new(), dollars(sum)]);
            for (line, amount) in self.lines.iter().zip(&amounts).filter(|(line, _)| line.service == service)
            {
                let amount = format!("{amount:>width$} {}", line.price.unit);
                rows.push(vec![format!("  {}", line.what), amount, dollars(line.cents())]);
            }
        }
        rows.push(vec!["total".to_owned(), String::new(), String::new(), dollars(self.total_cents())]);
        rows.push(vec![
            "per million events".to_owned(),
            String::new(),
            String::new(),
            dollars(self.per_million_cents()),
        ]);
        align_right(&mut rows, 2);
        align_right(&mut rows, 3);
        let assumed: Vec<String> = self.assumed().iter().map(|text| format!("* {text}")).collect();
        format!("{}\n\n{}", table(&rows), assumed.join("\n"))
    }

    /// What was taken for granted, in plain words.
    fn assumed(&self) -> Vec<String> {
        let (args, a, load) = (self.args, &self.list.assumptions, &self.load);
        let leaf = f64::from(args.avg_bytes);
        let size = |part: f64| grouped((leaf * part).round() as u64);
        let sent = match args.batch {
            1 => "Each comes in a request of its own".to_owned(),
            n => format!("{n} come in one request"),
        };
        let tenants = match args.tenants {
            1 => "one tenant".to_owned(),
            n => format!("{} tenants", grouped(n)),
        };
        let times = [&a.ingest_event_ms, &a.ingest_put_ms, &a.seal_batch_ms, &a.seal_segment_ms];
        let basis = match times.iter().all(|time| time.basis == Basis::Measured) {
            true => "measured",
            false => "assumed, not measured",
        };
        let steady = match self.month >= Month::steady(args, a) {
            true => {
                "as much is removed as is stored, but for checkpoints and the archive's index, which stay"
            }
            false => "what is stored still grows",
        };
        vec![
            format!(
                "List prices of {} as of {}, the first tier's. Free tiers, discounts, tax and support are \
                 not counted.",
                args.region, self.list.date
            ),
            format!("Month {} of operation: {steady}.", self.month),
            format!("{} events a month come evenly, day and night, from {tenants}.", amount(self.events())),
            format!("{sent}, with an id and without an Idempotency-Key."),
            format!(
                "Leaves have {} to {} bytes: an event takes {:.2} write units, and one in each of {} \
                 indexes.",
                size(1.0 - a.size_spread.value),
                size(1.0 + a.size_spread.value),
                load.table_units,
                a.indexes.value
            ),
            format!(
                "Segments a day: {}, checkpoints: {}, archive files: {}. Kept {} days hot, {} days archived.",
                amount(load.segments),
                amount(load.publications),
                amount(load.files),
                args.hot_days,
                grouped(u64::from(args.retention))
            ),
            format!(
                "Ingest is billed {} ms at {} MB, seal {} ms a batch and {} ms a segment at {} MB; {basis}.",
                ingest_ms(args, a),
                a.ingest_memory_mb.value,
                a.seal_batch_ms.value,
                a.seal_segment_ms.value,
                a.seal_memory_mb.value,
            ),
            format!(
                "Compact and reconcile visit tenants {} times a day; archived bytes per event: {}.",
                amount(load.visits()),
                amount((leaf * a.archive_bytes_per_leaf_byte.value).round())
            ),
            format!(
                "Lambda reads the stream for nothing. The queues are mostly empty, and asked {} times a day all \
                 the same.",
                amount(polls(a))
            ),
            format!(
                "{} pages are read a day, by {} read units each.",
                grouped(args.queries_per_day),
                a.query_reads.value
            ),
            "Every number stands in infra/prices.json, the formula in infra/cost.md.".to_owned(),
        ]
    }

    fn to_json(&self) -> Result<String, Failure> {
        let bill = BillJson {
            region: &self.args.region,
            date: &self.list.date,
            currency: &self.list.currency,
            month: self.month,
            events: self.events().round() as u64,
            services: self.services().into_iter().map(|(service, sum)| (service, Usd(sum))).collect(),
            lines: self.lines.iter().map(Line::to_json).collect(),
            total: Usd(self.total_cents()),
            per_million_events: Usd(self.per_million_cents()),
            assumed: self.assumed(),
            about: &self.list.about,
            assumptions: &self.list.assumptions,
        };
        serde_json::to_string_pretty(&bill).map_err(|e| Failure::could_not("write the bill", e))
    }
}

#[derive(Serialize)]
struct BillJson<'a> {
    region: &'a str,
    date: &'a str,
    currency: &'a str,
    month: u32,
    events: u64,
    services: BTreeMap<&'static str, Usd>,
    lines: Vec<LineJson<'a>>,
    total: Usd,
    per_million_events: Usd,
    assumed: Vec<String>,
    about: &'a str,
    assumptions: &'a Assumptions,
}

#[derive(Serialize)]
struct LineJson<'a> {
    service: &'static str,
    what: &'static str,
    amount: f64,
    usd: Usd,
    price: &'a Price,
}

/// Cents, written as dollars: the nearest number to a decimal of two places is printed as just that.
struct Usd(u64);

impl Serialize for Usd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 100.0)
    }
}

fn cents(usd: f64) -> u64 {
    (usd * 100.0).round() as u64
}

/// `1,234.56`.
fn dollars(cents: u64) -> String {
    format!("{}.{:02}", grouped(cents / 100), cents % 100)
}

/// `1,234,567`.
fn grouped(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        _ => format!("{},{:03}", grouped(n / 1_000), n % 1_000),
    }
}

/// Three or four digits and a power of a thousand.
fn amount(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{} M", grouped((n / 1e6).round() as u64)),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} k", n / 1e3),
        n if n >= 100.0 || n.fract() == 0.0 => grouped(n.round() as u64),
        n if n >= 0.01 || n == 0.0 => format!("{n:.2}"),
        _ => "< 0.01".to_owned(),
    }
}

/// Fills a column up from the left.
fn align_right(rows: &mut [Vec<String>], column: usize) {
    let width = rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    for cell in rows.iter_mut().filter_map(|row| row.get_mut(column)) {
        *cell = format!("{cell:>width$}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use stele::time::Day;

    /// The command as it is typed.
    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        cost: Cost,
    }

    fn typed(line: &str) -> Cost {
        Typed::parse_from(std::iter::once("cost").chain(line.split_whitespace())).cost
    }

    fn list() -> PriceList {
        PriceList::read().unwrap()
    }

    fn total(line: &str) -> u64 {
        Bill::new(&typed(line), &list()).unwrap().total_cents()
    }

    fn text(line: &str) -> String {
        Bill::new(&typed(line), &list()).unwrap().to_text()
    }

    fn file(path: &str) -> String {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    #[test]
    fn the_price_list_says_what_a_price_is_for_and_when_it_was_right() {
        let list: serde_json::Value = serde_json::from_str(PRICE_LIST).unwrap();
        let is_day = |value: &serde_json::Value| Day::parse(value.as_str().unwrap()).is_ok();
        assert!(is_day(&list["date"]));
        assert_eq!(list["currency"], "USD");
        for (region, prices) in list["regions"].as_object().unwrap() {
            for (name, price) in prices.as_object().unwrap() {
                assert!(
                    price["usd"].as_f64() > Some(0.0) && price["per"].as_f64() >= Some(1.0),
                    "{region} {name}"
                );
                assert_ne!(price["source"], "", "{region} {name}");
                match &price["checked"] {
                    serde_json::Value::Null => assert_ne!(price["note"], "", "{region} {name}"),
                    day => assert!(is_day(day), "{region} {name}"),
                }
            }
        }
        for (name, assumption) in list["assumptions"].as_object().unwrap() {
            assert!(assumption["value"].as_f64() >= Some(0.0), "{name}");
            assert_ne!(assumption["note"], "", "{name}");
        }
    }

    #[test]
    fn a_name_too_many_or_too_few_in_the_price_list_is_an_error() {
        for (from, to) in [
            (r#""indexes":"#, r#""indices":"#),
            (r#""currency":"#, r#""more": 1, "currency":"#),
            (r#""basis": "counted""#, r#""basis": "guessed""#),
        ] {
            assert!(serde_json::from_str::<PriceList>(&PRICE_LIST.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn a_million_events_a_day_cost_what_they_cost_by_hand() {
        let (args, list) = (typed("--events-per-day 1000000 --month 14"), list());
        let bill = Bill::new(&args, &list).unwrap();

        // One tenant with 347 events in a window of 30 s: none of 2,880 windows, 1,440 minutes and 24 hours
        // is empty, and a million events a day are one archive file. Month 14 goes from day 395.4 on, so
        // all that is kept for 367 days or less is there whole; of what stays for good, 410.6 days' worth.
        let (days, forever) = (30.416_666_67, 410.625);
        // Leaves of 375 to 1,125 bytes make items of 557 to 1,307: 283 of 750 need a second unit.
        let units = 1.0 + 283.0 / 750.0;
        let gb = 1_073_741_824.0;
        let table_gb = 1e6 * (750.0 + 182.0 + 100.0) * 92.0 / gb;
        let index_gb = 1e6 * 3.0 * (97.0 + 100.0) * 92.0 / gb;
        let control_gb = (2_880.0 * 37.0 + 1.0 * forever) * 400.0 / gb;
        let archive = 1e6 * 750.0 * 0.167 + 10_000.0;
        let segments = 1e6 * 750.0 * 0.278 + 2_880.0 * 10_000.0;
        let proofs = 25.0 * 1_000.0 + 2_881.0 * 130.0;
        // In GB-seconds: 2 + 1 + 5 ms at 512 MB; at 1 GB 20 + 100 ms a batch of one segment, 0.05 ms an
        // event and 60 ms a page.
        let (ingest, seal, query) = (1e6 * 0.008 * 0.5, 2_880.0 * 0.120 + 1e6 * 0.000_05, 100.0 * 0.060);
        // Compact is sent 12 times a day and reads 2,880 entries twice; reconcile is sent once; 25 plans do that.
        let (visits, plans, entries) = (13.0, 25.0, 24.0 * 2_880.0);
        let log_bytes = 1_000_100.0 * 310.0 + 1_003_018.0 * 215.0 + (2_880.0 + visits + plans) * 420.0;
        let by_hand = [
            ("API Gateway requests", 1_000_100.0 * days * 1.00e-6),
            ("Lambda requests", (1e6 + 2_880.0 + 100.0 + visits + plans) * days * 0.20e-6),
            (
                "Lambda computing time",
                (ingest + seal + query + 100.0 + visits * 0.100) * days * 0.000_013_333_4,
            ),
            ("DynamoDB writes", (1e6 * (units + 3.0) + 3.0 * 2_880.0 + 1.0 + 1.0 + 1.0) * days * 0.625e-6),
            (
                "DynamoDB reads",
                (2.0 * 1_440.0
                    + 2.0 * 2_880.0
                    + 19.0 * 24.0
                    + 230.0 * 100.0
                    + 8.0 * visits
                    + 5.0 * 24.0
                    + (entries + 2_880.0) * 400.0 / 4_096.0
                    + 1e6 * 932.0 / 4_096.0)
                    * days
                    * 0.125e-6,
            ),
            ("DynamoDB storage", (table_gb + index_gb + control_gb) * 0.25),
            ("DynamoDB point-in-time recovery", (table_gb + control_gb) * 0.20),
            ("S3 writes and lists", (2.0 * 2_880.0 + 2.0 * 24.0 + 3.0 + 2.0 + 4.0) * days * 0.005e-3),
            ("S3 reads", (2.0 * 2_880.0 + 3.0 + 3.0 * 24.0 + 1.0 + 2_000.0) * days * 0.000_4e-3),
            ("S3 storage, Standard", (archive * 90.0 + segments * 37.0 + proofs * forever) / gb * 0.023),
            ("S3 storage, Glacier Instant Retrieval", archive * 277.0 / gb * 0.004),
            ("S3 moves to Glacier", days * 0.02e-3),
            ("SQS requests", (5.0 * 5.0 * 4_320.0 + 3.0 * visits) * days * 0.40e-6),
            ("KMS keys", 1.00),
            ("KMS requests", 100.0 * days * 0.03e-4),
            ("CloudWatch logs written", log_bytes / gb * days * 0.50),
            ("CloudWatch logs kept", log_bytes / gb * 0.15 * 30.0 * 0.03),
            ("CloudWatch metrics", (17.0 + 8.0 * 2.0 / 24.0) * 0.30),
            ("CloudWatch alarms", 34.0 * 0.10),
            ("CloudWatch dashboards", 3.00),
            (
                "Data transfer answers to the internet",
                1e6 * (400.0 + 250.0) * days / gb * 0.09 + 100.0 * 40_000.0 * days / gb * 0.09,
            ),
        ];
        let billed: Vec<_> =
            bill.lines.iter().map(|l| (format!("{} {}", l.service, l.what), dollars(l.cents()))).collect();
        let by_hand: Vec<_> =
            by_hand.into_iter().map(|(name, usd)| (name.to_owned(), format!("{usd:.2}"))).collect();
        assert_eq!(billed, by_hand);
    }

    #[test]
    fn what_comes_seldom_fills_few_slots() {
        // Two events a day into 2,880 windows: two, but for the chance of falling together.
        assert!((occupied(2_880.0, 2.0) - 1.999_3).abs() < 0.000_1);
        assert!((occupied(2_880.0, 2_880.0) - 1_820.5).abs() < 0.1);
        assert!((occupied(24.0, 1e6) - 24.0).abs() < 1e-9);
    }

    #[test]
    fn units_are_averaged_over_sizes() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(mean_units(1_024.0, 1_024.0, 1_024.0), 1.0);
        near(mean_units(1_025.0, 1_025.0, 1_024.0), 2.0);
        near(mean_units(100.0, 1_000.0, 1_024.0), 1.0);
        near(mean_units(512.0, 1_536.0, 1_024.0), 1.5);
        near(mean_units(0.0, 3_072.0, 1_024.0), 2.0);
    }

    #[test]
    fn a_month_holds_what_came_and_is_not_gone() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(Month::nth(1).kept(1_000.0), MONTH_DAYS / 2.0);
        near(Month::nth(3).kept_for_good(), MONTH_DAYS * 2.5);
        near(Month::nth(5).kept(90.0), 90.0);
        near(Month::nth(5).reaching(90.0), MONTH_DAYS);
        near(Month::nth(2).reaching(90.0), 0.0);
        near(Month::nth(3).reaching(90.0), 3.0 * MONTH_DAYS - 90.0);
    }

    #[test]
    fn more_never_costs_less() {
        let rising = |name: &str, values: &[u64], rest: &str| {
            let totals: Vec<u64> = values.iter().map(|n| total(&format!("--{name} {n} {rest}"))).collect();
            assert!(totals.is_sorted(), "--{name} {values:?} {rest}: {totals:?}");
        };
        // Steps of a tenth, from one event a day to some billions.
        let events: Vec<u64> = (0..240).map(|n| 1.1_f64.powi(n).round() as u64).collect();
        for rest in [
            "",
            "--tenants 1000",
            "--tenants 100000 --retention 3653",
            "--avg-bytes 65535 --retention 2557 --month 3",
            "--batch 500 --tenants 7 --region eu-central-1 --retention 90",
        ] {
            rising("events-per-day", &events, rest);
        }
        let sizes: Vec<u64> = (1..100).map(|n| n * 661).collect();
        let months: Vec<u64> = (1..130).collect();
        for events in [1_000, 1_000_000] {
            let rest = format!("--events-per-day {events}");
            rising("avg-bytes", &sizes, &rest);
            rising("month", &months, &format!("{rest} --tenants 50"));
            rising("tenants", &[1, 2, 5, 100, 10_000, 1_000_000], &rest);
            rising("hot-days", &[35, 36, 90, 91, 180, 365], &format!("{rest} --month 40"));
            rising("queries-per-day", &[0, 1, 100, 10_000_000], &rest);
            rising("athena-gb", &[0, 1, 1_000_000], &rest);
        }
    }

    #[test]
    fn sums_add_up_and_json_says_the_same() {
        let (args, list) = (typed("--events-per-day 123456 --tenants 40 --athena-gb 300"), list());
        let bill = Bill::new(&args, &list).unwrap();
        let json: serde_json::Value = serde_json::from_str(&bill.to_json().unwrap()).unwrap();
        let sum = |values: Vec<f64>| values.iter().map(|usd| (usd * 100.0).round() as u64).sum::<u64>();
        let services = json["services"].as_object().unwrap().values();
        assert_eq!(sum(services.map(|usd| usd.as_f64().unwrap()).collect()), bill.total_cents());
        let lines = json["lines"].as_array().unwrap().iter();
        assert_eq!(sum(lines.map(|line| line["usd"].as_f64().unwrap()).collect()), bill.total_cents());
        assert!(bill.to_text().contains(&dollars(bill.total_cents())));
        assert_eq!(json["services"]["Athena"], 1.46);
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |line: &str| match Bill::new(&typed(line), &list()) {
            Err(Failure::CouldNot(why)) => why,
            _ => panic!("{line} is no mistake"),
        };
        assert_eq!(
            refused("--events-per-day 1 --region eu-west-1"),
            "there are no prices of `eu-west-1` in infra/prices.json, only of eu-central-1 and us-east-1"
        );
        assert_eq!(
            refused("--events-per-day 1 --batch 500 --avg-bytes 20000"),
            "500 events of 20,000 bytes are 10,000,000 bytes; a request may have 5,242,880"
        );
        let class = class("100").unwrap_err();
        assert!(class.ends_with("the classes are 90, 180, 365, 731, 1096, 2192, 2557, 3653 days"), "{class}");
        for line in
            ["", "--events-per-day 0", "--events-per-day 1 --retention 7", "--events-per-day 1 --month 0"]
        {
            assert!(
                Typed::try_parse_from(std::iter::once("cost").chain(line.split_whitespace())).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.001, 0.5, 12.0, 99.994, 2_880.0, 30_416.7, 30_416_666.7, 4.2e9].map(amount);
        assert_eq!(shown, ["0", "< 0.01", "0.50", "12", "99.99", "2,880", "30.4 k", "30.42 M", "4,200 M"]);
        assert_eq!([5, 100, 123_456_789].map(dollars), ["0.05", "1.00", "1,234,567.89"]);
    }

    #[test]
    fn the_documentation_shows_what_the_program_prints() {
        let documentation = file("infra/cost.md");
        let mut shown = 0;
        for block in documentation.split("\n```\n").skip(1).step_by(2) {
            let (line, output) = block.split_once('\n').unwrap_or((block, ""));
            let Some(line) = line.strip_prefix("$ stele cost ") else { continue };
            let printed = text(line);
            assert_eq!(output, printed, "infra/cost.md should show:\n{printed}");
            shown += 1;
        }
        for row in documentation.lines().filter_map(|line| line.strip_prefix("| `--events-per-day ")) {
            let cells: Vec<&str> = row.split(" | ").collect();
            let args = typed(&format!("--events-per-day {}", cells[0].trim_end_matches('`')));
            let list = list();
            let bill = Bill::new(&args, &list).unwrap();
            let printed = [dollars(bill.total_cents()), dollars(bill.per_million_cents())];
            assert_eq!(printed, [cells[1], cells[2].trim_end_matches(" |")], "{row}");
            shown += 1;
        }
        assert!(shown > 2, "infra/cost.md shows too little");
    }

    #[test]
    fn what_is_counted_is_what_the_templates_say() {
        let (api, observability) = (file("infra/api.yaml"), file("infra/observability.yaml"));
        let a = list().assumptions;
        let value = |after: &str, name: &str| {
            let rest = api.split_once(&format!("\n{after}:\n")).unwrap_or_else(|| panic!("no {after}")).1;
            let rest =
                rest.split_once(&format!(" {name}: ")).unwrap_or_else(|| panic!("{after} has no {name}")).1;
            rest.lines().next().unwrap().parse::<f64>().unwrap()
        };
        for (assumption, after, name) in [
            (&a.ingest_memory_mb, "  IngestFunction", "MemorySize"),
            (&a.seal_memory_mb, "  SealFunction", "MemorySize"),
            (&a.query_memory_mb, "  QueryFunction", "MemorySize"),
            (&a.compact_memory_mb, "  CompactFunction", "MemorySize"),
            (&a.reconcile_memory_mb, "  ReconcileFunction", "MemorySize"),
            (&a.log_days, "  LogRetentionDays", "Default"),
            (&a.publish_seconds, "  PublishEverySeconds", "Default"),
            (&a.window_seconds, "  StreamMapping", "MaximumBatchingWindowInSeconds"),
            (&a.stream_batch_records, "  StreamMapping", "BatchSize"),
        ] {
            assert_eq!(assumption.value, value(after, name), "{after} {name}, infra/prices.json");
        }
        let count =
            |kind: &str| observability.matches(&format!("Type: AWS::CloudWatch::{kind}\n")).count() as f64;
        assert_eq!(a.alarms.value, count("Alarm"), "alarms, infra/prices.json");
        assert_eq!(a.dashboards.value, count("Dashboard"), "dashboards, infra/prices.json");
        let polled = api.matches("EventSourceArn: !GetAtt ").count() as f64;
        assert_eq!(a.polled_queues.value, polled, "polled queues, infra/prices.json");
    }
}
