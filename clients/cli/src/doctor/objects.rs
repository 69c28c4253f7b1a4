//! Locks of stored objects: the wrapped secrets, the public key, and the newest of some logs.

use super::bucket::{TRIAL_MEND, mend};
use super::facts::{Asked, Facts, Lock, Object};
use super::finding::{Finding, Findings, Outcome, State, could_not_check, ok, problem};
use crate::show::counted;
use stele::layout::{PUBLIC_KEYS, WRAPPED_SECRETS};
use stele::time::Timestamp;

/// The secrets an installation has: functions/adapters/src/secrets.rs makes them.
const SECRETS: [&str; 2] = ["master", "signing"];
const SET_UP_AGAIN: &str = "deploy infra/api.yaml with another SecretsVersion: setup makes what is missing; its log \
                            group says why it did not";

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of("objects");
    for purpose in SECRETS {
        let key = format!("{WRAPPED_SECRETS}{purpose}.wrapped");
        let stored = facts.secrets.judge(
            || problem("there are no secrets", SET_UP_AGAIN),
            |stored| match stored.iter().find(|object| object.key == key) {
                Some(object) => locked(object, facts),
                None => problem("it is not there", SET_UP_AGAIN),
            },
        );
        findings.add(key, stored);
    }
    let none = || problem("there is none: nobody can verify a checkpoint", SET_UP_AGAIN);
    let keys = facts.public_keys.judge(none, |keys| match keys.is_empty() {
        true => none(),
        false => all_locked(keys.iter(), facts),
    });
    findings.add(format!("{PUBLIC_KEYS} (public keys)"), keys);
    findings.add("newest of some logs", newest(facts));
    findings.into_list()
}

/// The newest segment and checkpoint of the logs that were looked at closely.
fn newest(facts: &Facts) -> Outcome {
    let Asked::Is(tenants) = &facts.tenants else { return could_not_check("the tenants can't be listed") };
    let samples: Vec<&Object> = tenants
        .looked_at
        .iter()
        .filter_map(|log| log.sample.as_ref())
        .flat_map(|sample| &sample.objects)
        .collect();
    match samples.is_empty() {
        // A segment's lock ends after that time, when it is in the archive.
        true => could_not_check("no log was sealed in the last 35 days"),
        false => all_locked(samples.into_iter(), facts),
    }
}

/// The first that is not locked speaks for all.
fn all_locked<'a>(objects: impl Iterator<Item = &'a Object>, facts: &Facts) -> Outcome {
    let judged: Vec<Outcome> = objects.map(|object| locked(object, facts)).collect();
    let count = judged.len() as u64;
    let of = |state| judged.iter().filter(move |outcome| outcome.state == state);
    for state in [State::Problem, State::CouldNotCheck] {
        if let Some(first) = of(state).next() {
            let mut first = first.clone();
            if count > 1 {
                first.found = format!("{} of {count}: {}", of(state).count(), first.found);
            }
            return first;
        }
    }
    match judged.first() {
        Some(only) if count == 1 => only.clone(),
        _ => ok(format!("{}, each locked", counted(count, "object"))),
    }
}

fn locked(object: &Object, facts: &Facts) -> Outcome {
    let key = &object.key;
    match &object.lock {
        Asked::Is(lock) => lock_of(key, lock, facts),
        Asked::Absent(code) if code.starts_with("NoSuchObjectLock") => {
            problem(format!("`{key}` is not locked"), mend())
        }
        Asked::Absent(code) => problem(
            format!("`{key}` is not there ({code})"),
            format!("`stele verify --installation {}` says what is missing", facts.name),
        ),
        Asked::Unread(code) => could_not_check(format!("{code} (`{key}`)")),
    }
}

fn lock_of(key: &str, lock: &Lock, facts: &Facts) -> Outcome {
    let found = format!("`{key}` is locked in {} until {}", lock.mode, day(lock.until));
    if lock.until <= facts.now {
        return problem(
            format!("the lock of `{key}` ended on {}", day(lock.until)),
            format!(
                "lengthen it: `aws s3api put-object-retention --bucket {} --key {key} --retention \
                 Mode=COMPLIANCE,RetainUntilDate=…`, with the role the bucket policy allows",
                facts.archive(),
            ),
        );
    }
    match lock.mode.as_str() {
        "COMPLIANCE" => ok(found),
        "GOVERNANCE" if facts.trial => ok(format!("{found} (trial mode)")),
        "GOVERNANCE" => problem(format!("{found}: trial mode"), TRIAL_MEND),
        _ => problem(found, mend()),
    }
}

fn day(time: Timestamp) -> String {
    time.day().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{CouldNotCheck, Ok, Problem};
    use super::super::healthy::{NOW, expect, facts, lock};
    use super::*;

    #[test]
    fn secrets_and_a_public_key_must_be_there_and_locked() {
        let mut facts = facts();
        facts.secrets = Asked::Is(vec![Object {
            key: "secrets/master.wrapped".to_owned(),
            lock: lock("COMPLIANCE", NOW.minus_ms(1)),
        }]);
        facts.public_keys = Asked::Is(Vec::new());
        let found = examine(&facts);
        expect(&found, "secrets/master.wrapped", Problem, "ended on 2026-05-01");
        expect(&found, "secrets/signing.wrapped", Problem, "not there");
        expect(&found, "keys/ (public keys)", Problem, "there is none");
        let unlocked = Asked::Absent("NoSuchObjectLockConfiguration".to_owned());
        facts.public_keys = Asked::Is(vec![Object { key: "keys/ab.json".to_owned(), lock: unlocked }]);
        expect(&examine(&facts), "keys/ (public keys)", Problem, "`keys/ab.json` is not locked");
        facts.public_keys = Asked::Unread("AccessDenied".to_owned());
        expect(&examine(&facts), "keys/ (public keys)", CouldNotCheck, "AccessDenied");
    }

    #[test]
    fn a_lock_that_can_be_lifted_is_for_trials() {
        const CHECK: &str = "newest of some logs";
        let mut facts = facts();
        let Asked::Is(tenants) = &mut facts.tenants else { panic!("they are there") };
        let sample = tenants.looked_at[0].sample.as_mut().unwrap();
        sample.objects[0].lock = lock("GOVERNANCE", NOW.plus_days(30));
        expect(&examine(&facts), CHECK, Problem, "1 of 2: `segments/");
        facts.trial = true;
        expect(&examine(&facts), CHECK, Ok, "2 objects, each locked");
    }

    #[test]
    fn a_segment_that_is_gone_is_a_problem_and_none_at_all_is_unknown() {
        const CHECK: &str = "newest of some logs";
        let mut facts = facts();
        let Asked::Is(tenants) = &mut facts.tenants else { panic!("they are there") };
        let objects = &mut tenants.looked_at[0].sample.as_mut().unwrap().objects;
        objects[0].lock = Asked::Absent("NoSuchVersion".to_owned());
        expect(&examine(&facts), CHECK, Problem, "is not there (NoSuchVersion)");
        let Asked::Is(tenants) = &mut facts.tenants else { panic!("they are there") };
        tenants.looked_at[0].sample.as_mut().unwrap().objects[0].lock =
            Asked::Unread("AccessDenied".to_owned());
        expect(&examine(&facts), CHECK, CouldNotCheck, "1 of 2: AccessDenied");
        let Asked::Is(tenants) = &mut facts.tenants else { panic!("they are there") };
        tenants.looked_at[0].sample = None;
        expect(&examine(&facts), CHECK, CouldNotCheck, "no log was sealed");
        facts.tenants = Asked::Unread("AccessDeniedException".to_owned());
        expect(&examine(&facts), CHECK, CouldNotCheck, "can't be listed");
    }
}
