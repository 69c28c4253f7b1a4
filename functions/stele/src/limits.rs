//! Every limit in one place. A number a user can run into is named in the error that enforces it.

/// Bytes of a leaf: C2SP entry bundles carry a 16-bit length.
pub const LEAF_BYTES_MAX: usize = 65_535;
/// Bytes of the body of one event: a leaf at its largest, with room for white space and escapes.
pub const EVENT_BODY_BYTES_MAX: usize = 512 * 1024;
/// Events of one batch.
pub const BATCH_EVENTS_MAX: usize = 500;
/// Bytes of the body of a batch, after decompression.
pub const BATCH_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Nesting of an event's JSON.
pub const JSON_DEPTH_MAX: usize = 16;
/// Bytes of an id of the client's making: event, actor, resource.
pub const ID_BYTES_MAX: usize = 256;
/// Largest integer every reader agrees on (RFC 8785, I-JSON).
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// How far ahead of our clock an event may say it happened.
pub const FUTURE_MS_MAX: u64 = 5 * 60 * 1000;
/// How far back an event may say it happened, unless the tenant or the key allows more.
pub const PAST_DAYS_DEFAULT: u32 = 30;
/// How long an `Idempotency-Key` or external id is remembered.
pub const REMEMBERED_MS: u64 = 24 * 60 * 60 * 1000;
/// Bytes of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// Bytes of a filter in the filter language.
pub const FILTER_BYTES_MAX: usize = 4 * 1024;
/// Brackets within brackets of a filter.
pub const FILTER_DEPTH_MAX: usize = 16;
/// Conditions of a filter: each costs work for every record looked at.
pub const FILTER_CONDITIONS_MAX: usize = 100;

/// Events of a page, unless asked otherwise.
pub const PAGE_LIMIT_DEFAULT: usize = 50;
/// Events of a page at the most.
pub const PAGE_LIMIT_MAX: usize = 200;
/// Deepest `offset`.
pub const OFFSET_MAX: usize = 10_000;
/// `total` is exact up to here.
pub const TOTAL_EXACT_MAX: usize = 10_000;
/// Records one page may look at before it is cut short with a cursor.
pub const PAGE_SCANNED_MAX: usize = 20_000;
/// Milliseconds one page, export or count may search before it is cut short.
pub const SEARCH_MS_MAX: u64 = 8_000;
/// Milliseconds after which a search that has not got any further is given up.
pub const SEARCH_STUCK_MS_MAX: u64 = 20_000;
/// Bytes one page, export or count may read from the log before it is cut short.
pub const SEARCH_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Small range reads under way at once for one search, and files looked into at once where columns tell: on S3 a search takes as
/// long as its reads wait for each other.
pub const SEARCH_READS_AT_ONCE: usize = 32;
/// Large range reads and whole segments under way at once, and files looked into at once where leaves have to be read.
pub const SEARCH_LARGE_READS_AT_ONCE: usize = 8;
/// Different values a count may come across before it is cut short.
pub const FACET_VALUES_MAX: usize = 100_000;
/// Values of a facet, unless asked otherwise.
pub const FACET_LIMIT_DEFAULT: usize = 20;
/// Values of a facet at the most.
pub const FACET_LIMIT_MAX: usize = 200;
/// Intervals of a histogram.
pub const STATS_INTERVALS_MAX: u64 = 1_100;
/// Values a histogram is grouped by; the rest is counted together.
pub const STATS_GROUPS_MAX: usize = 20;
/// How long a cursor can be used.
pub const CURSOR_AGE_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Events of one answer of the feed, unless asked otherwise; and the most.
pub const FEED_LIMIT_DEFAULT: usize = 200;
/// Events of one answer of the feed at the most.
pub const FEED_LIMIT_MAX: usize = 1_000;
/// Leaves that one answer of the feed may look at.
pub const FEED_SCANNED_MAX: u64 = 50_000;
/// Bytes of events in one answer of the feed or the tail, about: API Gateway lets 6 MB through.
pub const POLL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of events, escaped as API Gateway wants them, after which a page of a listing ends.
pub const PAGE_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Seconds that a poll may wait for something new.
pub const POLL_WAIT_SECONDS_MAX: usize = 20;
/// Records that one answer of the tail may look at.
pub const TAIL_SCANNED_MAX: usize = 10_000;
/// How long an event may take from its receipt until the tail can see it, and still be shown.
pub const TAIL_OVERLAP_MS: u64 = 10_000;
/// How long before its receipt an event may have happened for the tail to show it.
pub const TAIL_LATE_MS: u64 = 60_000;
/// Events of the overlap that a cursor of the tail remembers, so that none is shown twice.
pub const TAIL_REMEMBERED_MAX: usize = 256;

/// Events of a synchronous export.
pub const EXPORT_EVENTS_MAX: usize = 10_000;
/// Bytes of a synchronous export.
pub const EXPORT_BYTES_MAX: usize = 5 * 1024 * 1024;

/// How long a worker has an export to itself, from when it last said how far it is.
pub const EXPORT_LEASE_MS: u64 = 5 * 60 * 1000;
/// How often an export is begun before it is given up.
pub const EXPORT_ATTEMPTS_MAX: u32 = 5;
/// Bytes of an exported file: what S3 takes in one request.
pub const EXPORT_FILE_BYTES_MAX: u64 = 5 << 30;
/// Days an exported file is kept.
pub const EXPORT_KEPT_DAYS: u32 = 7;
/// Seconds a link to an exported file is good for.
pub const EXPORT_LINK_SECONDS: u32 = 15 * 60;
/// Exports of a page at the most.
pub const EXPORTS_LIMIT_MAX: usize = 100;

/// Bytes of a message of a queue: SQS's limit when its size attribute is left alone.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Refusals of a page, unless asked otherwise; and the most.
pub const REFUSALS_LIMIT_MAX: usize = 100;

/// Seconds from a receipt until the event is under a signed checkpoint, as receipts promise.
pub const SEALED_WITHIN_SECONDS: u64 = 60;
/// Leaves of one segment.
pub const SEGMENT_LEAVES_MAX: usize = 10_000;
/// Days a segment is locked.
pub const SEGMENT_LOCK_DAYS: u32 = 35;
/// Days a checkpoint object is locked in the first instance: the longest class and one.
pub const CHECKPOINT_LOCK_DAYS: u32 = 3_654;
/// Days the hot store keeps a record by default.
pub const HOT_DAYS_DEFAULT: u32 = 90;
/// Days the hot store keeps a record at least.
pub const HOT_DAYS_MIN: u32 = 35;
/// Days the hot store keeps a record at most: as many as the longest class.
pub const HOT_DAYS_MAX: u32 = 3_653;
/// Retention class by default, in days.
pub const CLASS_DAYS_DEFAULT: u32 = 365;
/// The retention classes, in days.
pub const CLASSES_DAYS: [u32; 8] = [90, 180, 365, 731, 1096, 2192, 2557, 3653];
/// How long a head is trusted before it is held against the stored objects again.
pub const HEAD_TRUST_MS: u64 = 24 * 60 * 60 * 1000;
/// How long keys and tenant settings may be cached in a process.
pub const CACHE_MS_MAX: u64 = 60 * 1000;

/// Leaves of a file of the archive: beyond it a file is due at once.
pub const ARCHIVE_FILE_LEAVES: u64 = 1_000_000;
/// A closed day with so many leaves waiting is a file of its own.
pub const ARCHIVE_DAY_LEAVES_MIN: u64 = 5_000;
/// Fewer leaves wait so many days at most.
pub const ARCHIVE_WAIT_DAYS_MAX: u32 = 7;
/// Days a file of the archive is locked at least, from when it is written: the bucket takes no shorter lock there, and a
/// file may be written late.
pub const ARCHIVE_LOCK_DAYS_MIN: u32 = 56;
/// Days after which a segment that is not in the archive has its lock lengthened, and raises an alarm.
pub const ARCHIVE_OVERDUE_DAYS: u32 = 21;
/// Days without a reconciled day after which the hot store stops forgetting.
pub const RECONCILE_MISSED_DAYS_MAX: u32 = 7;
/// Bytes of a legal hold's reason.
pub const HOLD_REASON_BYTES_MAX: usize = 1_024;
