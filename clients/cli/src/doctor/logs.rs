//! How far the logs are: whether everything accepted is sealed, and everything sealed is published.
//!
//! What the hot store holds is held against the head of each log. That shows what waits at the end of a log; whether one
//! event in the middle was left out is looked up for some logs only, since it means reading segments. `stele verify`
//! then proves what the log itself says.

use super::facts::{Asked, Facts, Head, Log, Tenants};
use super::finding::{Finding, Findings, Outcome, could_not_check, listed, ok, problem};
use crate::show::counted;
use std::fmt::Write as _;
use stele::time::Timestamp;

/// Sealing promises a minute; this long is wrong by any measure.
pub(super) const UNSEALED_MS_MAX: u64 = 5 * 60 * 1000;
/// Publishing is due each hour at most.
const UNPUBLISHED_MS_MAX: u64 = 2 * 60 * 60 * 1000;

const NOTHING_ACCEPTED: &str = "no tenant is on record: nothing was accepted yet";
const NOTHING_TO_LOOK_FOR: &str = "no event of today or yesterday to look for";

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of("logs");
    let tenants = &facts.tenants;
    let none = || could_not_check(NOTHING_ACCEPTED);
    findings.add("tenants", tenants.judge(none, looked_at));
    findings.add("sealed", tenants.judge(none, |tenants| sealed(facts, tenants)));
    findings.add("nothing left out", tenants.judge(none, |tenants| nothing_left_out(facts, tenants)));
    findings.add("published", tenants.judge(none, |tenants| published(facts, tenants)));
    findings.into_list()
}

fn looked_at(tenants: &Tenants) -> Outcome {
    let count = tenants.looked_at.len() as u64;
    let sealed_to =
        tenants.looked_at.iter().filter_map(|log| log.head.is()).map(|head| head.received_max).max();
    let watermark = match sealed_to {
        Some(to) => format!("the newest sealed event was accepted at {to}"),
        None => "nothing is sealed".to_owned(),
    };
    match (count, tenants.left_out) {
        (0, _) => could_not_check(NOTHING_ACCEPTED),
        (_, 0) => ok(format!("{} looked at; {watermark}", counted(count, "tenant"))),
        (_, left_out) => {
            let all = counted(count + left_out, "tenant");
            could_not_check(format!("{left_out} of {all} were left out; {watermark}"))
        }
    }
}

/// What is wrong with some logs, and what kept others from being looked at.
#[derive(Default)]
struct Tally {
    wrong: Vec<String>,
    unread: Vec<String>,
    /// How many could be judged.
    judged: u64,
}

impl Tally {
    fn outcome(
        self,
        mend: impl FnOnce() -> String,
        nothing: &str,
        fine: impl FnOnce(u64) -> String,
    ) -> Outcome {
        if !self.wrong.is_empty() {
            let mut found = listed(&self.wrong);
            if let Some(why) = self.unread.first() {
                // Writing to a text can't fail.
                let _ = write!(
                    found,
                    "; {} could not be looked at: {why}",
                    counted(self.unread.len() as u64, "log")
                );
            }
            return problem(found, mend());
        }
        match (self.unread.is_empty(), self.judged) {
            (false, _) => could_not_check(listed(&self.unread)),
            (true, 0) => could_not_check(nothing),
            (true, judged) => ok(fine(judged)),
        }
    }
}

/// The head; a log without one is as far as nothing.
fn head_of(log: &Log) -> Result<Option<&Head>, String> {
    match &log.head {
        Asked::Is(head) => Ok(Some(head)),
        Asked::Absent(_) => Ok(None),
        Asked::Unread(code) => Err(format!("{code} (the head of `{}`)", log.tenant)),
    }
}

fn sealed(facts: &Facts, tenants: &Tenants) -> Outcome {
    let (mut tally, mut seen) = (Tally::default(), 0);
    for log in &tenants.looked_at {
        let (accepted, head) = match (&log.accepted, head_of(log)) {
            (Asked::Is(accepted), Ok(head)) => (accepted, head),
            (Asked::Absent(why) | Asked::Unread(why), _) => {
                tally.unread.push(format!("{why} (the events of `{}`)", log.tenant));
                continue;
            }
            (_, Err(why)) => {
                tally.unread.push(why);
                continue;
            }
        };
        seen += accepted.len() as u64;
        tally.judged += u64::from(!accepted.is_empty());
        tally.wrong.extend(late(facts.now, accepted, head).map(|late| format!("`{}`: {late}", log.tenant)));
    }
    let mend = || {
        format!(
            "infra/runbook.md#seal-late: look into the log group `/aws/lambda/{}`, what calls it, the queue `{}` and \
             the bucket of failed batches",
            facts.named("seal"),
            facts.named("parking"),
        )
    };
    tally.outcome(mend, NOTHING_TO_LOOK_FOR, |_| {
        format!("of the {} looked at none waits for more than 5 minutes", counted(seen, "newest event"))
    })
}

/// What was accepted long ago, and after all that is in the log.
fn late(now: Timestamp, accepted: &[Timestamp], head: Option<&Head>) -> Option<String> {
    let deadline = now.minus_ms(UNSEALED_MS_MAX);
    let is_sealed = |accepted: Timestamp| head.is_some_and(|head| accepted <= head.received_max);
    let late = || accepted.iter().copied().filter(|accepted| *accepted < deadline && !is_sealed(*accepted));
    let oldest = late().min()?;
    let count = counted(late().count() as u64, "event");
    let to = match head {
        Some(head) => format!("the log ends at {}", head.received_max),
        None => "nothing is".to_owned(),
    };
    Some(format!("{count} or more not sealed since {oldest} ({}); {to}", ago(now, oldest)))
}

/// An event whose batch was given up lies behind later ones that are sealed.
fn nothing_left_out(facts: &Facts, tenants: &Tenants) -> Outcome {
    let mut tally = Tally::default();
    for log in &tenants.looked_at {
        match log.sample.as_ref().map(|sample| &sample.in_log) {
            None | Some(Asked::Absent(_)) => {}
            Some(Asked::Unread(code)) => {
                tally.unread.push(format!("{code} (the segments of `{}`)", log.tenant))
            }
            Some(Asked::Is((looked_for, missing))) => {
                tally.judged += looked_for;
                tally.wrong.extend(missing.iter().map(|(id, accepted)| {
                    format!(
                        "`{}`: `{id}`, accepted at {accepted}, is not in the log, and later ones are",
                        log.tenant
                    )
                }));
            }
        }
    }
    let mend = || {
        format!(
            "infra/runbook.md#batches-failed: it was given up by the stream or is parked; look into the bucket \
             `{}-failed-{}-{}` and the queue `{}`",
            facts.name,
            facts.account,
            facts.region,
            facts.named("parking"),
        )
    };
    let nothing = "no event of today or yesterday, older than 5 minutes, to look for";
    tally.outcome(mend, nothing, |looked_for| {
        format!("{} of some logs are all in a segment", counted(looked_for, "newest event"))
    })
}

fn published(facts: &Facts, tenants: &Tenants) -> Outcome {
    let mut tally = Tally::default();
    for log in &tenants.looked_at {
        match head_of(log) {
            Err(why) => tally.unread.push(why),
            Ok(None) => {}
            Ok(Some(head)) => {
                tally.judged += 1;
                if let Some(since) = unpublished_since(head)
                    && since.plus_ms(UNPUBLISHED_MS_MAX) < facts.now
                {
                    let leaves = counted(head.size.saturating_sub(head.published_size), "event");
                    tally.wrong.push(format!(
                        "`{}`: {leaves} beyond the last locked checkpoint since {since} ({})",
                        log.tenant,
                        ago(facts.now, since)
                    ));
                }
            }
        }
    }
    let mend = || {
        format!(
            "the next event of the tenant publishes a checkpoint when it is sealed; if it does not, look into the log \
             group `/aws/lambda/{}`",
            facts.named("seal")
        )
    };
    tally.outcome(mend, "nothing is sealed yet", |logs| {
        format!("{}, none with a checkpoint that has waited for more than 2 hours", counted(logs, "log"))
    })
}

/// Since when a log has leaves that no locked checkpoint covers. The last sealing is a time it surely had; when that was
/// long after the last publication, sealing should have published, and it counts from there.
fn unpublished_since(head: &Head) -> Option<Timestamp> {
    if head.size <= head.published_size {
        return None;
    }
    let overdue = head.published_at.plus_ms(UNPUBLISHED_MS_MAX) < head.sealed_at;
    Some(if overdue && head.published_size > 0 { head.published_at } else { head.sealed_at })
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    match now.ms().saturating_sub(then.ms()) / 60_000 {
        minutes if minutes < 120 => format!("{} ago", counted(minutes, "minute")),
        minutes if minutes < 48 * 60 => format!("{} ago", counted(minutes / 60, "hour")),
        minutes => format!("{} ago", counted(minutes / (24 * 60), "day")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Sample;
    use super::super::finding::State::{CouldNotCheck, Ok, Problem};
    use super::super::healthy::{NOW, expect, facts};
    use super::*;

    const MINUTE: u64 = 60_000;

    fn tenants(facts: &mut Facts) -> &mut Tenants {
        match &mut facts.tenants {
            Asked::Is(tenants) => tenants,
            _ => panic!("they are there"),
        }
    }

    fn log(facts: &mut Facts) -> &mut Log {
        &mut tenants(facts).looked_at[0]
    }

    fn head(facts: &mut Facts) -> &mut Head {
        match &mut log(facts).head {
            Asked::Is(head) => head,
            _ => panic!("it is there"),
        }
    }

    #[test]
    fn an_event_that_waits_for_more_than_five_minutes_is_a_problem() {
        let mut facts = facts();
        log(&mut facts).accepted = Asked::Is(vec![NOW.minus_ms(4 * MINUTE), NOW.minus_ms(6 * MINUTE)]);
        head(&mut facts).received_max = NOW.minus_ms(5 * MINUTE);
        expect(&examine(&facts), "sealed", Ok, "of the 2 newest events looked at none waits");
        head(&mut facts).received_max = NOW.minus_ms(7 * MINUTE);
        expect(
            &examine(&facts),
            "sealed",
            Problem,
            "`acme`: 1 event or more not sealed since 2026-05-01T11:54",
        );
        log(&mut facts).head = Asked::Absent("none".to_owned());
        expect(&examine(&facts), "sealed", Problem, "nothing is");
    }

    #[test]
    fn without_an_event_to_look_for_nothing_is_shown() {
        let mut facts = facts();
        log(&mut facts).accepted = Asked::Is(Vec::new());
        expect(&examine(&facts), "sealed", CouldNotCheck, "no event of today or yesterday");
        log(&mut facts).sample = None;
        expect(&examine(&facts), "nothing left out", CouldNotCheck, "no event");
        log(&mut facts).head = Asked::Absent("none".to_owned());
        expect(&examine(&facts), "published", CouldNotCheck, "nothing is sealed");
        tenants(&mut facts).looked_at.clear();
        for check in ["tenants", "sealed", "nothing left out", "published"] {
            expect(&examine(&facts), check, CouldNotCheck, "");
        }
    }

    #[test]
    fn an_event_behind_those_that_are_sealed_is_a_problem() {
        let mut facts = facts();
        let missing = vec![("0196-x".to_owned(), NOW.minus_ms(60 * MINUTE))];
        let in_log = Asked::Is((50, missing));
        log(&mut facts).sample = Some(Sample { objects: Vec::new(), in_log });
        expect(&examine(&facts), "nothing left out", Problem, "`0196-x`, accepted at 2026-05-01T11:00");
    }

    #[test]
    fn a_checkpoint_that_is_not_published_for_two_hours_is_a_problem() {
        let mut facts = facts();
        head(&mut facts).published_size = 90;
        expect(&examine(&facts), "published", Ok, "1 log");
        // Nothing was sealed since, so nothing published it.
        head(&mut facts).sealed_at = NOW.minus_ms(121 * MINUTE);
        expect(&examine(&facts), "published", Problem, "`acme`: 10 events beyond the last locked checkpoint");
        // Sealing goes on and publishing does not.
        head(&mut facts).sealed_at = NOW;
        head(&mut facts).published_at = NOW.minus_ms(121 * MINUTE);
        expect(&examine(&facts), "published", Problem, "`acme`: 10 events");
    }

    #[test]
    fn what_was_left_out_or_could_not_be_read_is_not_green() {
        let mut facts = facts();
        tenants(&mut facts).left_out = 20;
        let found =
            "20 of 21 tenants were left out; the newest sealed event was accepted at 2026-05-01T11:59:30";
        expect(&examine(&facts), "tenants", CouldNotCheck, found);
        let mut second = log(&mut facts).clone();
        second.accepted = Asked::Unread("ThrottlingException".to_owned());
        second.head = Asked::Unread("ThrottlingException".to_owned());
        second.sample = Some(Sample { objects: Vec::new(), in_log: Asked::Unread("SlowDown".to_owned()) });
        tenants(&mut facts).looked_at.push(second);
        let found = examine(&facts);
        expect(&found, "sealed", CouldNotCheck, "ThrottlingException (the events of `acme`)");
        expect(&found, "published", CouldNotCheck, "ThrottlingException (the head of `acme`)");
        expect(&found, "nothing left out", CouldNotCheck, "SlowDown");
        // Beside a problem it is still said.
        head(&mut facts).received_max = NOW.minus_ms(60 * MINUTE);
        log(&mut facts).accepted = Asked::Is(vec![NOW.minus_ms(50 * MINUTE)]);
        let found = "since 2026-05-01T11:10:00.000Z (50 minutes ago); the log ends at 2026-05-01T11:00:00.000Z; 1 log \
                     could not be looked at: ThrottlingException";
        expect(&examine(&facts), "sealed", Problem, found);
        facts.tenants = Asked::Unread("AccessDeniedException".to_owned());
        expect(&examine(&facts), "sealed", CouldNotCheck, "AccessDeniedException");
    }
}
