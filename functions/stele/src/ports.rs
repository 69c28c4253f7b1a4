//! What the system needs of the world, as small contracts. Each has at least two real implementations, and
//! both pass the same suite (`stele-adapters`, `contract`).
//!
//! Every call may fail with [`Code::Unavailable`](crate::Code::Unavailable). It then says nothing about whether
//! the call took effect: callers repeat it, or read.

use crate::access::{ApiKey, KeyHash, Tenant, TenantRecord};
use crate::archive::ArchiveEntry;
use crate::error::Result;
use crate::export::{Export, ExportKey, ExportedFile};
use crate::id::{EventId, TenantId};
use crate::layout::ObjectKey;
use crate::record::Record;
use crate::refusal::{Refusal, RefusalId};
use crate::retention::{Enforcement, LegalHold, LifecycleTag, ObjectState, PlatformRetention};
use crate::segment::{Head, IndexEntry};
use crate::spill::Delivered;
use crate::time::{Day, Timestamp};
use crate::tlog::hash::{Hash, LeafIndex, TreeSize};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now. It may stand still or jump back; nothing relies on its order but `received_at` bounds.
    fn now(&self) -> Timestamp;
}

/// Gives random bytes.
pub trait Random: Send + Sync {
    /// Fills the slice with unguessable bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// 128 random bits.
    fn bits(&self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_be_bytes(bytes)
    }
}

/// Which way a listing runs, by id, that is by (`occurred_at`, id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    /// Newest first.
    #[default]
    Descending,
    /// Oldest first.
    Ascending,
}

/// Ids from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The smallest.
    pub first: EventId,
    /// The largest.
    pub last: EventId,
}

/// An index of the hot store and the key to look up in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HotIndex {
    /// By `actor.id`.
    Actor(String),
    /// By `resource.id`.
    Resource(String),
    /// By `action`, whole.
    Action(String),
}

/// One record on its way into the hot store.
#[derive(Clone, Debug)]
pub struct Put {
    /// The record.
    pub record: Record,
    /// When the hot store may forget it.
    pub expires: Timestamp,
    /// A name to remember it by, for its sender's retries.
    pub remember: Option<Remember>,
}

/// A name under which a record's id is remembered for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remember {
    /// The name: unique among the tenant's remembered names, at most 512 bytes.
    pub name: String,
    /// Now, against which an earlier item's end is checked: TTL deletes late.
    pub now: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Remember {
    /// The name of an external id.
    pub fn external_id_name(external_id: &str) -> String {
        format!("ext:{external_id}")
    }

    /// The name of an `Idempotency-Key`.
    pub fn idempotency_key_name(key: &str) -> String {
        format!("key:{key}")
    }
}

/// What became of a put.
#[derive(Clone, Debug)]
pub enum PutOutcome {
    /// It is stored, durably; it was not there before.
    Stored,
    /// The id was there before, with this record; nothing was changed.
    Exists(Record),
    /// The name was remembered for another id, whose record this is; nothing was changed.
    Remembered(Record),
}

/// Recent records: DynamoDB's table of events.
#[async_trait]
pub trait HotStore: Send + Sync {
    /// Stores a record if its id is free (and its name, if it has one, is free or expired): atomic, durable on
    /// return, idempotent, one round trip when the id is free.
    async fn put(&self, tenant: &Tenant, put: &Put) -> Result<PutOutcome>;

    /// One record by id. Strongly consistent.
    async fn record(&self, tenant: &Tenant, id: EventId) -> Result<Option<Record>>;

    /// Records by id, at most 200 of them; what is not there is left out, the order is not kept.
    async fn records(&self, tenant: &Tenant, ids: &[EventId]) -> Result<Vec<Record>>;

    /// The records of one occurred day in a range of ids, in order, at most `limit`; fewer than `limit` means
    /// there are no more. Strongly consistent, all shards merged.
    async fn day(
        &self,
        tenant: &Tenant,
        day: Day,
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Record>>;

    /// The ids an index has in a range, in order, at most `limit`; fewer than `limit` means there are no more.
    /// Eventually consistent.
    async fn index(
        &self,
        tenant: &Tenant,
        index: &HotIndex,
        range: IdRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<EventId>>;

    /// Notes that records of `occurred` are received on `received`, another day. Idempotent; comes before the put.
    async fn mark_late(&self, tenant: &Tenant, received: Day, occurred: Day) -> Result<()>;

    /// The late days noted of some received days, as (received, occurred), in order.
    async fn late_days(&self, tenant: &Tenant, received: RangeInclusive<Day>) -> Result<Vec<(Day, Day)>>;
}

/// What the hot store may have forgotten, out of the log itself.
#[async_trait]
pub trait ColdStore: Send + Sync {
    /// The record of an id, if it is in the log and was received at `forgotten` or before (one received later may be
    /// found or not). Needed before an old id is accepted, so that no id is twice in a log.
    async fn forgotten_record(
        &self,
        tenant: &Tenant,
        id: EventId,
        forgotten: Timestamp,
    ) -> Result<Option<Record>>;
}

/// The tenants on record.
#[async_trait]
pub trait Tenants: Send + Sync {
    /// One tenant's record. Strongly consistent.
    async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>>;

    /// Creates a tenant unless there is one, and returns the one there is.
    async fn create_tenant(&self, record: &TenantRecord) -> Result<TenantRecord>;

    /// Tenants by rising id, after `after`, at most `limit`; fewer means there are no more.
    async fn tenants(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantRecord>>;
}

/// API keys at rest.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// The key with this hash, revoked ones too.
    async fn api_key(&self, hash: KeyHash) -> Result<Option<ApiKey>>;

    /// Stores a new key; its id and hash are random, so that nothing can be there before.
    async fn create_api_key(&self, hash: KeyHash, key: &ApiKey) -> Result<()>;

    /// All keys, in order of key id.
    async fn api_keys(&self) -> Result<Vec<ApiKey>>;

    /// Revokes a key by id, once and for good; `None` if there is none.
    async fn revoke_api_key(&self, key_id: &str, now: Timestamp) -> Result<Option<ApiKey>>;
}

/// Heads and the segment index: caches of what the locked objects say.
#[async_trait]
pub trait Heads: Send + Sync {
    /// The tenant's head. Strongly consistent.
    async fn head(&self, tenant: &Tenant) -> Result<Option<Head>>;

    /// Replaces the head if its revision is still `expected` (`None`: if there is none); says whether it was.
    async fn advance(&self, tenant: &Tenant, expected: Option<u64>, head: &Head) -> Result<bool>;

    /// Writes an entry, over an older one of the same first leaf.
    async fn put_index(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<()>;

    /// Entries whose first leaf lies below a size, latest first, at most `limit`. Strongly consistent.
    async fn index_below(&self, tenant: &Tenant, size: TreeSize, limit: usize) -> Result<Vec<IndexEntry>>;

    /// Entries from a leaf on, in order, at most `limit`; fewer means there are no more. Strongly consistent.
    async fn index_from(&self, tenant: &Tenant, from: LeafIndex, limit: usize) -> Result<Vec<IndexEntry>>;

    /// Drops entries that end at a size or below: those the archive's own index has taken the place of. Earliest
    /// first, so that a crash leaves no gap; at most `limit`, and says how many. Idempotent.
    async fn forget_index(&self, tenant: &Tenant, until: TreeSize, limit: usize) -> Result<usize>;

    /// Drops all entries from a leaf on: what a rebuild found not to be there. Idempotent.
    async fn drop_index(&self, tenant: &Tenant, from: LeafIndex) -> Result<()>;
}

/// What became of a put-if-absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutIfAbsent {
    /// The object is there, with our bytes, under this version.
    Created(String),
    /// There was one before; nothing was changed.
    Exists,
}

/// A locked object as read.
#[derive(Clone, Debug)]
pub struct StoredObject {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its version.
    pub version: String,
    /// Until when nobody can change or delete it.
    pub retain_until: Timestamp,
}

/// A locked object as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its first version.
    pub version: String,
    /// Its size.
    pub bytes: u64,
}

/// Write-once objects: an Object Lock bucket, or a folder that behaves like one. There is no call to delete, to
/// overwrite or to shorten a lock.
///
/// A key means its *first* version, whatever somebody with more rights than we have put over it: later versions and
/// delete markers are neither read nor listed.
#[async_trait]
pub trait LockedObjects: Send + Sync {
    /// Creates an object unless the key is taken: atomic against all other writers, durable on return, locked
    /// until `retain_until`.
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        retain_until: Timestamp,
    ) -> Result<PutIfAbsent>;

    /// Reads an object whole. Strongly consistent.
    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>>;

    /// Reads one version of an object whole; one request fewer than finding the first version. Strongly consistent.
    async fn version(&self, key: &ObjectKey, version: &str) -> Result<Option<StoredObject>>;

    /// Reads bytes `start..end` of a version, fewer where it ends before that; `None` if there is no such version.
    async fn range(&self, key: &ObjectKey, version: &str, range: Range<u64>) -> Result<Option<Bytes>>;

    /// Keys with a prefix, in order, after `after`, at most `limit`; fewer means there are no more. Strongly
    /// consistent.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>>;
}

/// A finished file on its way into an object, in a place only this process knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// Where it lies. It stays its maker's to remove.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Hash,
}

/// What compact may do with locked objects beyond [`LockedObjects`]: write large ones, lengthen locks, hold, tag. Still
/// nothing deletes, overwrites or unlocks.
#[async_trait]
pub trait ArchiveObjects: Send + Sync {
    /// Creates an object from a file, with its tag, unless the key is taken: atomic against all other writers, durable on
    /// return, locked until `retain_until`; the store checks the file's hash.
    async fn put_file_if_absent(
        &self,
        key: &ObjectKey,
        file: &Spooled,
        retain_until: Timestamp,
        tag: LifecycleTag,
    ) -> Result<PutIfAbsent>;

    /// What stands on a version; `None` if there is none. Strongly consistent.
    async fn state(&self, key: &ObjectKey, version: &str) -> Result<Option<ObjectState>>;

    /// Lengthens a lock. A lock that is longer already stays. Idempotent; `not_found` if there is no such version.
    async fn extend(&self, key: &ObjectKey, version: &str, retain_until: Timestamp) -> Result<()>;

    /// Sets a legal hold, or takes it off. Idempotent; `not_found` if there is no such version.
    async fn set_hold(&self, key: &ObjectKey, version: &str, on: bool) -> Result<()>;

    /// Sets an object's lifecycle tag in place of the one it has. Idempotent; `not_found` if there is no such version.
    async fn set_tag(&self, key: &ObjectKey, version: &str, tag: LifecycleTag) -> Result<()>;
}

/// The archive index: a cache of what the archive's files say, and the record of their classes.
#[async_trait]
pub trait ArchiveIndex: Send + Sync {
    /// Writes an entry, over an older one of the same first leaf.
    async fn put_archived(&self, tenant: &Tenant, entry: &ArchiveEntry) -> Result<()>;

    /// Entries whose first leaf lies below a size, latest first, at most `limit`. Strongly consistent.
    async fn archived_below(
        &self,
        tenant: &Tenant,
        size: TreeSize,
        limit: usize,
    ) -> Result<Vec<ArchiveEntry>>;

    /// Entries from a first leaf on, in order, at most `limit`; fewer means there are no more. Strongly consistent.
    async fn archived_from(
        &self,
        tenant: &Tenant,
        from: LeafIndex,
        limit: usize,
    ) -> Result<Vec<ArchiveEntry>>;

    /// Drops all entries from a leaf on: what a rebuild found not to be there. Idempotent.
    async fn drop_archived(&self, tenant: &Tenant, from: LeafIndex) -> Result<()>;
}

/// What was decided about retention and legal holds.
#[async_trait]
pub trait Policies: Send + Sync {
    /// What new tenants get; the defaults if nobody decided. Strongly consistent.
    async fn platform_retention(&self) -> Result<PlatformRetention>;

    /// Decides it. The last one stands.
    async fn set_platform_retention(&self, retention: &PlatformRetention) -> Result<()>;

    /// Replaces a tenant's record if it still is `expected`; says whether it was. Not for its id or origin.
    async fn replace_tenant(&self, expected: &TenantRecord, record: &TenantRecord) -> Result<bool>;

    /// Stores a new hold; its id is random. Repeating it changes nothing.
    async fn place_hold(&self, tenant: &Tenant, hold: &LegalHold) -> Result<()>;

    /// Releases a hold, once and for good: of two releases the first one stands. `enforcement` becomes the hold's. `None` if
    /// there is no such hold.
    async fn release_hold(
        &self,
        tenant: &Tenant,
        id: &str,
        now: Timestamp,
        by: &str,
        enforcement: u64,
    ) -> Result<Option<LegalHold>>;

    /// All holds of a tenant, released ones too, in order of id. Strongly consistent.
    async fn holds(&self, tenant: &Tenant) -> Result<Vec<LegalHold>>;

    /// Asks for a pass over all objects, after a change was stored, and returns the request's number, from 1. A lost
    /// answer may cost a number.
    async fn request_enforcement(&self, tenant: &Tenant) -> Result<u64>;

    /// How far the passes are; nothing requested yet is all zeros. Strongly consistent.
    async fn enforcement(&self, tenant: &Tenant) -> Result<Enforcement>;

    /// Writes down how far a pass is: everything but `requested`, which only grows by requests, and `done`, which never gets
    /// smaller.
    async fn save_enforcement(&self, tenant: &Tenant, enforcement: &Enforcement) -> Result<()>;
}

/// How far a tenant's records have been proven to be in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// Every record received on this day or before is in exactly one segment, as stored.
    pub through: Day,
    /// When that was found.
    pub at: Timestamp,
    /// What stands against the day after, for people; empty if nothing does.
    pub problems: Vec<String>,
}

/// Watermarks of reconciliation.
#[async_trait]
pub trait Watermarks: Send + Sync {
    /// The tenant's; `None` before its first day is reconciled.
    async fn reconciled(&self, tenant: &Tenant) -> Result<Option<Reconciled>>;

    /// Writes it, over an older one. A day never goes back: one further on stays, with its problems.
    async fn put_reconciled(&self, tenant: &Tenant, reconciled: &Reconciled) -> Result<()>;
}

/// The sending end of a durable queue of texts, each delivered at least once, in any order.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Queues a text of at most [`limits::MESSAGE_BYTES_MAX`](crate::limits::MESSAGE_BYTES_MAX) bytes: durable on
    /// return. Repeating it may queue it twice.
    async fn send(&self, message: String) -> Result<()>;
}

/// The receiving end of such a queue, where nobody else does the receiving: for the local runner and tests. On AWS
/// Lambda receives and deletes.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Some messages, at most `limit`, perhaps none though there are some. They stay until they are deleted, and may
    /// be delivered again until then.
    async fn receive(&self, limit: usize) -> Result<Vec<Delivered>>;

    /// Deletes a message by one of its deliveries. Idempotent.
    async fn delete(&self, receipt: &str) -> Result<()>;
}

/// Whether work waits in a queue.
#[async_trait]
pub trait Backlog: Send + Sync {
    /// Whether anything waits or is being worked on. It may lag behind by a minute.
    async fn waiting(&self) -> Result<bool>;
}

/// What was acknowledged before it was stored, and had to be refused when it was looked at.
#[async_trait]
pub trait Refusals: Send + Sync {
    /// Keeps a refusal. Idempotent: the message it is about names it.
    async fn refuse(&self, refusal: &Refusal) -> Result<()>;

    /// A tenant's refusals, latest first, before `before`, at most `limit`; fewer means there are no more.
    async fn refusals(
        &self,
        tenant: &Tenant,
        before: Option<&RefusalId>,
        limit: usize,
    ) -> Result<Vec<Refusal>>;

    /// Those of messages that no tenant could be found for.
    async fn unassigned_refusals(&self, before: Option<&RefusalId>, limit: usize) -> Result<Vec<Refusal>>;
}

/// The records of exports.
#[async_trait]
pub trait Exports: Send + Sync {
    /// Stores a new export and returns it. One of the same id is there already if this is repeated, and is returned as it
    /// is. So is the one that got `name` within [`limits::REMEMBERED_MS`](crate::limits::REMEMBERED_MS) before this
    /// one was created, whatever it is about: nothing is stored then.
    async fn create_export(&self, tenant: &Tenant, export: &Export, name: Option<&str>) -> Result<Export>;

    /// One export. Strongly consistent.
    async fn export(&self, tenant: &Tenant, id: &str) -> Result<Option<Export>>;

    /// Exports by falling id, which is latest first, below `before`, at most `limit`; fewer means there are no more. Strongly
    /// consistent.
    async fn exports(&self, tenant: &Tenant, before: Option<&str>, limit: usize) -> Result<Vec<Export>>;

    /// Replaces an export if its revision is still `expected`; says whether it was.
    async fn replace_export(&self, tenant: &Tenant, expected: u64, export: &Export) -> Result<bool>;
}

/// How an exported file can be got at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportLink {
    /// By whoever has this URL, for a while.
    Url(String),
    /// By this process alone: a file.
    File(PathBuf),
    /// By this process alone: in memory.
    Bytes(Bytes),
}

/// Exported files: a bucket, or a folder. They are copies, and go by themselves after a while.
#[async_trait]
pub trait ExportFiles: Send + Sync {
    /// Creates a file with what is told of it, unless the key is taken: atomic against all other writers, durable on return.
    /// Size and hash are those of `file`. Says whether it was created.
    async fn put_export(&self, key: &ExportKey, file: &Spooled, facts: &ExportedFile) -> Result<bool>;

    /// What is told of a file; `None` if there is none. Strongly consistent.
    async fn exported(&self, key: &ExportKey) -> Result<Option<ExportedFile>>;

    /// How to get at a file, under which name and as what it is saved; `None` if it is known to be gone. A link may outlive
    /// its file.
    async fn link(&self, key: &ExportKey, name: &str, media_type: &str) -> Result<Option<ExportLink>>;
}
