//! Retention: classes, the tags that drive lifecycle rules, legal holds, and what policy says of an object.

use crate::error::{Code, Error, Result};
use crate::id::EventId;
use crate::limits;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A retention class: so many days an object of the archive is locked, counted from its latest `sealed_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(u32);

impl Class {
    /// One of the classes there are, by its days.
    pub fn of_days(days: u32) -> Option<Class> {
        limits::CLASSES_DAYS.contains(&days).then_some(Class(days))
    }

    /// All of them, shortest first.
    pub fn all() -> impl Iterator<Item = Class> {
        limits::CLASSES_DAYS.into_iter().map(Class)
    }

    /// The shortest class that keeps at least so many days; `None` beyond the longest.
    pub fn at_least(days: u32) -> Option<Class> {
        Class::all().find(|class| class.0 >= days)
    }

    /// Its days.
    pub const fn days(self) -> u32 {
        self.0
    }
}

impl Default for Class {
    fn default() -> Class {
        Class(limits::CLASS_DAYS_DEFAULT)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The tag that decides which lifecycle rule an object is under. An object has one of them or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LifecycleTag {
    /// `archived=true`: a segment whose leaves are in the archive goes when its lock ends.
    Archived,
    /// `class=<days>`: a file of the archive goes a day after its class.
    Class(Class),
    /// `class=hold`: no rule.
    Hold,
}

impl LifecycleTag {
    /// The tag's key.
    pub const fn key(self) -> &'static str {
        match self {
            LifecycleTag::Archived => "archived",
            LifecycleTag::Class(_) | LifecycleTag::Hold => "class",
        }
    }

    /// The tag's value.
    pub fn value(self) -> String {
        match self {
            LifecycleTag::Archived => "true".to_owned(),
            LifecycleTag::Class(class) => class.to_string(),
            LifecycleTag::Hold => "hold".to_owned(),
        }
    }

    /// Reads a tag; `None` for one that is none of ours.
    pub fn parse(key: &str, value: &str) -> Option<LifecycleTag> {
        match (key, value) {
            ("archived", "true") => Some(LifecycleTag::Archived),
            ("class", "hold") => Some(LifecycleTag::Hold),
            ("class", days) => {
                let class = days.parse().ok().and_then(Class::of_days)?;
                (class.to_string() == days).then_some(LifecycleTag::Class(class))
            }
            _ => None,
        }
    }
}

impl fmt::Display for LifecycleTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key(), self.value())
    }
}

/// What stands on a locked object besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectState {
    /// Until when nobody can change or delete it.
    pub retain_until: Timestamp,
    /// Under legal hold: nobody can change or delete it however long that takes.
    pub hold: bool,
    /// Its lifecycle tag, if it has one.
    pub tag: Option<LifecycleTag>,
}

/// What policy says an object's state should be. A lock may be longer than that, never shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The lock it needs at least.
    pub retain_until: Timestamp,
    /// Whether an open hold covers it.
    pub hold: bool,
    /// The tag it needs.
    pub tag: Option<LifecycleTag>,
}

impl Policy {
    /// Whether an object is as it should be. Locks are kept in whole seconds.
    pub fn is_met_by(&self, state: &ObjectState) -> bool {
        self.lock_is_met_by(state) && self.hold == state.hold && self.tag == state.tag
    }

    /// Whether its lock is long enough.
    pub fn lock_is_met_by(&self, state: &ObjectState) -> bool {
        state.retain_until.plus_ms(999) >= self.retain_until
    }
}

/// A legal hold: nothing of a time range goes while it is open, whatever its class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegalHold {
    /// Its id, `hold_` and 32 hexadecimal digits, random.
    pub id: String,
    /// The first moment it covers, in milliseconds since 1970; `None` from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<u64>,
    /// The first moment it no longer covers; `None` is without end, and covers what is still to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ms: Option<u64>,
    /// Why: a case, a matter, a request.
    pub reason: String,
    /// When it was placed.
    pub placed_ms: u64,
    /// With which API key.
    pub placed_by: String,
    /// The enforcement after which it is on every object it covers.
    pub enforcement: u64,
    /// When it was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_ms: Option<u64>,
    /// With which API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_by: Option<String>,
}

/// Times of the leaves of an object: what a hold's range is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimesOfLeaves {
    /// Earliest and latest `received_at`.
    pub received: (Timestamp, Timestamp),
    /// Earliest and latest `occurred_at`, which are the times of the smallest and largest id.
    pub occurred: (Timestamp, Timestamp),
}

impl TimesOfLeaves {
    /// From what index entries have.
    pub fn new(received: (Timestamp, Timestamp), ids: (EventId, EventId)) -> TimesOfLeaves {
        TimesOfLeaves { received, occurred: (ids.0.time(), ids.1.time()) }
    }
}

impl LegalHold {
    /// Whether it is in force.
    pub fn is_open(&self) -> bool {
        self.released_ms.is_none()
    }

    /// Releases it, if it is open.
    pub fn release(&mut self, now: Timestamp, by: &str, enforcement: u64) {
        if self.is_open() {
            self.released_ms = Some(now.ms());
            self.released_by = Some(by.to_owned());
            self.enforcement = enforcement;
        }
    }

    /// Checks that what is placed under this one's id is this one again, whatever became of it since.
    ///
    /// # Errors
    /// `internal`: ids are random.
    pub fn check_repeated(&self, again: &LegalHold) -> Result<()> {
        let placed = |hold: &LegalHold| LegalHold {
            enforcement: 0,
            released_ms: None,
            released_by: None,
            ..hold.clone()
        };
        match placed(self) == placed(again) {
            true => Ok(()),
            false => Err(Error::new(Code::Internal, format!("the id `{}` is another hold's", self.id))),
        }
    }

    /// Whether it covers leaves of these times: an event is in its range if it occurred or was received in it.
    pub fn covers(&self, times: &TimesOfLeaves) -> bool {
        let overlaps = |(least, greatest): (Timestamp, Timestamp)| {
            self.from_ms.is_none_or(|from| greatest.ms() >= from)
                && self.to_ms.is_none_or(|to| least.ms() < to)
        };
        overlaps(times.received) || overlaps(times.occurred)
    }
}

/// Whether any open hold covers leaves of these times.
pub fn is_held(holds: &[LegalHold], times: &TimesOfLeaves) -> bool {
    holds.iter().any(|hold| hold.is_open() && hold.covers(times))
}

/// How far the newest policy has been carried to a tenant's objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// Counts changes of policy: each asks for one pass over all objects.
    pub requested: u64,
    /// The request the pass under way began for.
    pub started: u64,
    /// The latest request every object has been held against.
    pub done: u64,
    /// The pass under way goes on at this leaf.
    pub next_leaf: u64,
    /// Objects the pass has held against policy.
    pub checked: u64,
    /// Locks it lengthened.
    pub extended: u64,
    /// Holds it set.
    pub held: u64,
    /// Holds it took off.
    pub released: u64,
}

impl Enforcement {
    /// Whether a pass is wanted or under way.
    pub fn is_due(&self) -> bool {
        self.done < self.requested
    }
}

/// What holds for tenants that have nothing of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformRetention {
    /// The class new tenants get, in days.
    pub class_days: u32,
    /// Days the hot store keeps records of new tenants.
    pub hot_days: u32,
}

impl Default for PlatformRetention {
    fn default() -> PlatformRetention {
        PlatformRetention { class_days: limits::CLASS_DAYS_DEFAULT, hot_days: limits::HOT_DAYS_DEFAULT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_back() {
        let classes = Class::all().map(LifecycleTag::Class);
        for tag in classes.chain([LifecycleTag::Archived, LifecycleTag::Hold]) {
            assert_eq!(LifecycleTag::parse(tag.key(), &tag.value()), Some(tag));
        }
        for (key, value) in [("class", "91"), ("class", "0365"), ("archived", "false"), ("other", "true")] {
            assert_eq!(LifecycleTag::parse(key, value), None);
        }
    }

    #[test]
    fn a_hold_covers_what_occurred_or_was_received_in_its_range() {
        let ms = Timestamp::from_ms;
        let times = TimesOfLeaves { received: (ms(100), ms(200)), occurred: (ms(10), ms(150)) };
        let hold = |from_ms, to_ms| LegalHold {
            id: "hold_1".into(),
            from_ms,
            to_ms,
            reason: "a case".into(),
            placed_ms: 0,
            placed_by: "k".into(),
            enforcement: 1,
            released_ms: None,
            released_by: None,
        };
        for (from, to, covered) in [
            (None, None, true),
            (Some(200), None, true),
            (Some(201), None, false),
            (None, Some(10), false),
            (None, Some(11), true),
            (Some(50), Some(60), true),
        ] {
            assert_eq!(hold(from, to).covers(&times), covered, "{from:?} {to:?}");
            let released = LegalHold { released_ms: Some(1), ..hold(from, to) };
            assert!(!is_held(&[released], &times));
        }
    }

    #[test]
    fn a_lock_in_whole_seconds_is_long_enough() {
        let policy = Policy { retain_until: Timestamp::from_ms(10_500), hold: false, tag: None };
        let state = |ms| ObjectState { retain_until: Timestamp::from_ms(ms), hold: false, tag: None };
        assert!(policy.is_met_by(&state(11_000)) && policy.is_met_by(&state(10_000)));
        assert!(!policy.is_met_by(&state(9_000)));
    }
}
