//! What AWS says of an installation, in our own words: made by asking, or by hand in tests.
//!
//! Nothing here judges. A fact that could not be read stays one that could not be read.

use super::finding::{Outcome, could_not_check};
use stele::time::Timestamp;

/// An answer, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked<T> {
    Is(T),
    /// The service says that there is no such thing; with its code.
    Absent(String),
    /// Not allowed, not reachable, not supported: with the service's code.
    Unread(String),
}

impl<T> Asked<T> {
    /// Judges an answer; what could not be read is never more than that.
    pub(super) fn judge(&self, absent: impl FnOnce() -> Outcome, is: impl FnOnce(&T) -> Outcome) -> Outcome {
        match self {
            Asked::Is(answer) => is(answer),
            Asked::Absent(_) => absent(),
            Asked::Unread(code) => could_not_check(code.clone()),
        }
    }

    pub(super) fn is(&self) -> Option<&T> {
        match self {
            Asked::Is(answer) => Some(answer),
            Asked::Absent(_) | Asked::Unread(_) => None,
        }
    }
}

/// All that is examined.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) account: String,
    pub(super) region: String,
    pub(super) now: Timestamp,
    /// Whether locks may be of the trial kind.
    pub(super) trial: bool,
    pub(super) bucket: Bucket,
    pub(super) exports: ExportBucket,
    pub(super) secrets: Asked<Vec<Object>>,
    pub(super) public_keys: Asked<Vec<Object>>,
    pub(super) events: Table,
    pub(super) control: Table,
    pub(super) key: Asked<Key>,
    pub(super) spill: QueuePair,
    pub(super) parking: QueuePair,
    pub(super) compaction: QueuePair,
    pub(super) reconciliation: QueuePair,
    pub(super) export: QueuePair,
    /// By the word that ends their name.
    pub(super) functions: Vec<(&'static str, Function)>,
    pub(super) seal_triggers: Asked<Vec<Trigger>>,
    pub(super) drain_triggers: Asked<Vec<Trigger>>,
    pub(super) compact_triggers: Asked<Vec<Trigger>>,
    pub(super) reconcile_triggers: Asked<Vec<Trigger>>,
    pub(super) export_triggers: Asked<Vec<Trigger>>,
    pub(super) alarms: Asked<Vec<Alarm>>,
    pub(super) tenants: Asked<Tenants>,
}

impl Facts {
    /// The name of one of its tables, queues, functions or roles.
    pub(super) fn named(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    pub(super) fn archive(&self) -> String {
        format!("{}-archive-{}-{}", self.name, self.account, self.region)
    }
}

/// The archive's settings.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) object_lock: Asked<ObjectLock>,
    /// `Enabled`, `Suspended`, or nothing when it never was.
    pub(super) versioning: Asked<String>,
    /// Block ACLs, ignore ACLs, block policies, restrict buckets.
    pub(super) public_access_block: Asked<[bool; 4]>,
    /// The algorithms of default encryption.
    pub(super) encryption: Asked<Vec<String>>,
    /// The policy's text.
    pub(super) policy: Asked<String>,
    pub(super) lifecycle: Asked<Vec<Rule>>,
}

/// The settings of the bucket of exported files.
#[derive(Clone, Debug)]
pub(super) struct ExportBucket {
    /// Block ACLs, ignore ACLs, block policies, restrict buckets.
    pub(super) public_access_block: Asked<[bool; 4]>,
    /// The algorithms of default encryption.
    pub(super) encryption: Asked<Vec<String>>,
    pub(super) lifecycle: Asked<Vec<Rule>>,
}

#[derive(Clone, Debug)]
pub(super) struct ObjectLock {
    pub(super) is_enabled: bool,
    /// Mode and days of what is written without a lock of its own.
    pub(super) default: Option<(String, i32)>,
}

/// A rule of lifecycle.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) is_enabled: bool,
    pub(super) prefix: String,
    pub(super) tags: Vec<(String, String)>,
    /// Whether it only holds for some sizes.
    pub(super) is_narrowed: bool,
    pub(super) expires: Option<Expiry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Days(i32),
    OnADate,
}

/// A stored object's lock.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) lock: Asked<Lock>,
}

#[derive(Clone, Debug)]
pub(super) struct Lock {
    pub(super) mode: String,
    pub(super) until: Timestamp,
}

/// A table and what is asked about it apart.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) described: Asked<Described>,
    pub(super) ttl: Asked<Ttl>,
    /// The status of point-in-time recovery.
    pub(super) recovery: Asked<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) status: String,
    pub(super) is_protected: bool,
    /// What the stream carries, if it is on.
    pub(super) stream: Option<String>,
    pub(super) stream_arn: Option<String>,
    /// Name and status.
    pub(super) indexes: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(super) struct Ttl {
    pub(super) status: String,
    pub(super) attribute: String,
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) state: String,
}

/// A queue and its dead-letter queue.
#[derive(Clone, Debug)]
pub(super) struct QueuePair {
    pub(super) queue: Asked<Queue>,
    pub(super) dead: Asked<Queue>,
}

#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) arn: String,
    pub(super) waiting: u64,
    /// Being worked on, or waiting for the next try.
    pub(super) in_flight: u64,
    /// Where what fails ends, and after how many tries.
    pub(super) redrive: Option<(String, u64)>,
}

#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) configuration: Asked<Configuration>,
    /// Reserved concurrency, if some is.
    pub(super) concurrency: Asked<Option<i32>>,
}

#[derive(Clone, Debug)]
pub(super) struct Configuration {
    pub(super) state: String,
    pub(super) last_update: String,
    /// Why it is in that state, where AWS says so.
    pub(super) reason: String,
}

/// What calls a function.
#[derive(Clone, Debug)]
pub(super) struct Trigger {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) state: String,
    pub(super) last_result: String,
}

#[derive(Clone, Debug)]
pub(super) struct Alarm {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) description: String,
    pub(super) has_actions: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Tenants {
    pub(super) looked_at: Vec<Log>,
    pub(super) left_out: u64,
}

/// How far one tenant's log is.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) tenant: String,
    /// When the newest events in the hot store were accepted.
    pub(super) accepted: Asked<Vec<Timestamp>>,
    pub(super) head: Asked<Head>,
    /// Asked of some tenants only.
    pub(super) sample: Option<Sample>,
}

#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) size: u64,
    pub(super) sealed_at: Timestamp,
    /// When the latest event in the log was accepted.
    pub(super) received_max: Timestamp,
    pub(super) published_size: u64,
    pub(super) published_at: Timestamp,
}

/// A closer look at one log.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// The newest segment, and the newest checkpoint if there is one.
    pub(super) objects: Vec<Object>,
    /// How many of the newest events were looked for in the log, and those that are not in it: id and when accepted.
    pub(super) in_log: Asked<(u64, Vec<(String, Timestamp)>)>,
}
