//! Whether what stands on a locked object is what policy says. It asks nobody: facts in, drift out, in words.

use std::fmt;
use stele::limits;
use stele::retention::{Class, LifecycleTag, ObjectState, Policy};
use stele::time::Timestamp;

/// An object's lifecycle tag as found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "aws"), allow(dead_code, reason = "a folder has only some of them"))]
pub(super) enum Tag {
    None,
    Ours(LifecycleTag),
    /// One that is none of ours, or several.
    Other(String),
}

impl Tag {
    /// Of an object's tags.
    #[cfg(feature = "aws")]
    pub(super) fn of(tags: &[(String, String)]) -> Tag {
        match tags {
            [] => Tag::None,
            [(key, value)] => match LifecycleTag::parse(key, value) {
                Some(tag) => Tag::Ours(tag),
                None => Tag::Other(format!("{key}={value}")),
            },
            several => {
                let texts: Vec<_> = several.iter().map(|(key, value)| format!("{key}={value}")).collect();
                Tag::Other(texts.join("&"))
            }
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tag::None => f.write_str("-"),
            Tag::Ours(LifecycleTag::Archived) => f.write_str("archived"),
            Tag::Ours(LifecycleTag::Hold) => f.write_str("hold"),
            Tag::Ours(LifecycleTag::Class(class)) => class.fmt(f),
            Tag::Other(text) => f.write_str(text),
        }
    }
}

/// Who keeps an object's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "aws"), allow(dead_code, reason = "a folder has only some of them"))]
pub(super) enum Mode {
    /// S3, against everybody.
    Compliance,
    /// S3, but whoever has the right to can lift it.
    Governance,
    /// The mode of a file.
    Folder,
    /// Nobody: it has no lock.
    Unlocked,
}

impl Mode {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Mode::Compliance => "COMPLIANCE",
            Mode::Governance => "GOVERNANCE",
            Mode::Folder => "folder",
            Mode::Unlocked => "unlocked",
        }
    }
}

/// What stands on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) mode: Mode,
    pub(super) retain_until: Timestamp,
    pub(super) hold: bool,
    pub(super) tag: Tag,
}

/// What policy says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A file of the archive, by the database.
    Archived { sealed_last: Timestamp, class: Class, hold: bool },
    /// A file of the archive, by what stands on it and in it.
    ArchivedByItself { sealed_last: Timestamp },
    /// A segment whose leaves are not in the archive.
    Waiting { sealed_at: Timestamp, hold: bool },
    /// A segment whose leaves are in the archive.
    Copied { sealed_at: Timestamp },
    /// A segment, by what stands on it and in it.
    SegmentByItself { sealed_at: Timestamp },
    /// What outlives leaves: checkpoints, manifests, tiles, keys, secrets.
    Proof,
    /// Nothing: nobody of us knows it.
    Nothing(String),
    /// It has gone since it was looked at.
    Gone,
}

/// What an object is not as policy says; empty if it is.
pub(super) fn drift(expected: &Expected, found: &Found, trial: bool, now: Timestamp) -> Vec<String> {
    let mut drift = Vec::new();
    match found.mode {
        Mode::Governance if !trial => {
            drift.push("its lock can be lifted (GOVERNANCE); a trial says --trial".to_owned());
        }
        Mode::Unlocked => drift.push("it is not locked".to_owned()),
        Mode::Compliance | Mode::Governance | Mode::Folder => {}
    }
    match expected {
        Expected::Archived { sealed_last, class, hold } => {
            let tag = if *hold { LifecycleTag::Hold } else { LifecycleTag::Class(*class) };
            let retain_until = sealed_last.plus_days(class.days());
            against(&mut drift, found, &Policy { retain_until, hold: *hold, tag: Some(tag) });
        }
        Expected::ArchivedByItself { sealed_last } => match &found.tag {
            Tag::Ours(LifecycleTag::Class(class)) => {
                let retain_until = sealed_last.plus_days(class.days());
                against(
                    &mut drift,
                    found,
                    &Policy { retain_until, hold: false, tag: Some(LifecycleTag::Class(*class)) },
                );
            }
            tag => {
                // Its class is not said anywhere: the shortest is what it has at least.
                let shortest = Class::all().next().unwrap_or_default();
                let retain_until = sealed_last.plus_days(shortest.days());
                let hold = *tag == Tag::Ours(LifecycleTag::Hold);
                let tag = Some(if hold { LifecycleTag::Hold } else { LifecycleTag::Class(shortest) });
                lock(&mut drift, found, retain_until);
                if !hold {
                    drift.push(format!("its tag is `{}` instead of its class", found.tag));
                }
                held(&mut drift, found.hold, tag == Some(LifecycleTag::Hold));
            }
        },
        Expected::Waiting { sealed_at, hold } => {
            let retain_until = sealed_at.plus_days(limits::SEGMENT_LOCK_DAYS);
            against(&mut drift, found, &Policy { retain_until, hold: *hold, tag: None });
            if found.retain_until < now {
                drift.push("its lock is over, and its events are not in the archive".to_owned());
            }
        }
        Expected::Copied { sealed_at } => {
            let retain_until = sealed_at.plus_days(limits::SEGMENT_LOCK_DAYS);
            against(
                &mut drift,
                found,
                &Policy { retain_until, hold: false, tag: Some(LifecycleTag::Archived) },
            );
        }
        Expected::SegmentByItself { sealed_at } => {
            lock(&mut drift, found, sealed_at.plus_days(limits::SEGMENT_LOCK_DAYS));
            match &found.tag {
                Tag::None if found.retain_until < now => {
                    drift.push("its lock is over, and it is not tagged as being in the archive".to_owned());
                }
                Tag::None => {}
                Tag::Ours(LifecycleTag::Archived) => held(&mut drift, found.hold, false),
                tag => drift.push(format!("its tag is `{tag}` instead of `archived` or none")),
            }
        }
        Expected::Proof => {
            if found.retain_until <= now {
                drift.push(format!("its lock is over since {}", found.retain_until));
            }
            if found.tag != Tag::None {
                drift.push(format!("its tag is `{}` instead of none: it is for good", found.tag));
            }
        }
        Expected::Nothing(why) => drift.push(why.clone()),
        Expected::Gone => {}
    }
    drift
}

fn against(drift: &mut Vec<String>, found: &Found, policy: &Policy) {
    lock(drift, found, policy.retain_until);
    held(drift, found.hold, policy.hold);
    let needed = policy.tag.map_or(Tag::None, Tag::Ours);
    if found.tag != needed {
        drift.push(format!("its tag is `{}` instead of `{needed}`", found.tag));
    }
}

fn lock(drift: &mut Vec<String>, found: &Found, retain_until: Timestamp) {
    let state = ObjectState { retain_until: found.retain_until, hold: false, tag: None };
    if !(Policy { retain_until, hold: false, tag: None }).lock_is_met_by(&state) {
        drift.push(format!("it is locked until {} instead of {retain_until}", found.retain_until));
    }
}

fn held(drift: &mut Vec<String>, is: bool, should: bool) {
    match (is, should) {
        (false, true) => drift.push("a legal hold covers it and is not on it".to_owned()),
        (true, false) => drift.push("a legal hold is on it and none covers it".to_owned()),
        (true, true) | (false, false) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u32) -> Timestamp {
        Timestamp::from_ms(0).plus_days(day)
    }

    fn found(until: u32, hold: bool, tag: Option<LifecycleTag>) -> Found {
        Found { mode: Mode::Compliance, retain_until: at(until), hold, tag: tag.map_or(Tag::None, Tag::Ours) }
    }

    fn class(days: u32) -> Class {
        Class::of_days(days).unwrap()
    }

    #[test]
    fn what_is_as_policy_says_has_no_drift_and_each_deviation_is_named() {
        let year = Some(LifecycleTag::Class(class(365)));
        let archived = |hold| Expected::Archived { sealed_last: at(100), class: class(365), hold };
        let waiting = |hold| Expected::Waiting { sealed_at: at(100), hold };
        let copied = Expected::Copied { sealed_at: at(100) };
        let (archived_by_itself, segment_by_itself) = (
            Expected::ArchivedByItself { sealed_last: at(100) },
            Expected::SegmentByItself { sealed_at: at(100) },
        );
        for (expected, found, drifts) in [
            (archived(false), found(465, false, year), vec![]),
            (archived(false), found(2_000, false, year), vec![]),
            (archived(false), found(464, false, year), vec!["locked until"]),
            (archived(false), found(465, true, year), vec!["none covers it"]),
            (archived(false), found(465, false, None), vec!["tag is `-` instead of `365`"]),
            (archived(true), found(465, true, Some(LifecycleTag::Hold)), vec![]),
            (archived(true), found(465, false, year), vec!["is not on it", "instead of `hold`"]),
            (waiting(false), found(135, false, None), vec![]),
            (waiting(true), found(135, false, None), vec!["is not on it"]),
            (waiting(false), found(134, false, None), vec!["locked until"]),
            (waiting(false), found(110, false, None), vec!["locked until", "not in the archive"]),
            (waiting(false), found(135, false, Some(LifecycleTag::Archived)), vec!["instead of `-`"]),
            (copied.clone(), found(135, false, Some(LifecycleTag::Archived)), vec![]),
            (copied.clone(), found(135, true, None), vec!["none covers", "instead of `archived`"]),
            (archived_by_itself.clone(), found(465, false, year), vec![]),
            (archived_by_itself.clone(), found(464, false, year), vec!["locked until"]),
            (archived_by_itself.clone(), found(465, true, Some(LifecycleTag::Hold)), vec![]),
            (archived_by_itself.clone(), found(465, false, None), vec!["instead of its class"]),
            (segment_by_itself.clone(), found(135, true, None), vec![]),
            (segment_by_itself.clone(), found(135, false, year), vec!["`archived` or none"]),
            (Expected::Proof, found(121, false, None), vec![]),
            (Expected::Proof, found(119, false, None), vec!["lock is over"]),
            (Expected::Nothing("nobody knows it".into()), found(999, false, None), vec!["nobody knows it"]),
        ] {
            let drift = drift(&expected, &found, false, at(120));
            assert_eq!(drift.len(), drifts.len(), "{expected:?} {found:?}: {drift:?}");
            for (is, part) in drift.iter().zip(drifts) {
                assert!(is.contains(part), "{expected:?} {found:?}: {drift:?}");
            }
        }
    }

    #[test]
    fn a_lock_that_can_be_lifted_is_for_trials_and_no_lock_for_nobody() {
        let governed = Found { mode: Mode::Governance, ..found(200, false, None) };
        assert_eq!(drift(&Expected::Proof, &governed, true, at(120)).len(), 0);
        assert_eq!(drift(&Expected::Proof, &governed, false, at(120)).len(), 1);
        let unlocked = Found { mode: Mode::Unlocked, ..found(0, false, None) };
        assert!(drift(&Expected::Proof, &unlocked, true, at(120))[0].contains("not locked"));
    }
}
