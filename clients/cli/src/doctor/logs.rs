//! How far the logs are: whether everything accepted is sealed, and everything sealed is published.
//!
//! What the hot store holds is held against the head of each log. That shows what waits at the end of a log; whether one
//! event in the middle was left out is looked up for some logs only, since it means reading segments. `stele verify`
//! then proves what the log itself says.

use super::facts::{Asked, Facts, Head, Log, Tenants};
use super::finding::{Finding, Findings, Outcome, could_not_check, ok, problem};
use crate::show::counted;
use stele::time::Timestamp;

/// Sealing promises a minute; this long is wrong by any measure.
pub(super) const UNSEALED_MS_MAX: u64 = 5 * 60 * 1000;
/// Publishing is due each hour at most.
const UNPUBLISHED_MS_MAX: u64 = 2 * 60 * 60 * 1000;
/// So many are named, the others counted.
const NAMED_MAX: usize = 5;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of("logs");
    let tenants = &facts.tenants;
    let none = || could_not_check("no tenant is on record: nothing was accepted yet");
    findings.add("tenants", tenants.judge(none, looked_at));
    findings.add("sealed", tenants.judge(none, |tenants| sealed(facts, tenants)));
    findings.add("nothing left out", tenants.judge(none, |tenants| nothing_left_out(facts, tenants)));
    findings.add("published", tenants.judge(none, |tenants| published(facts, tenants)));
    findings.into_list()
}

fn looked_at(tenants: &Tenants) -> Outcome {
    let count = tenants.looked_at.len() as u64;
    match (count, tenants.left_out) {
        (0, _) => could_not_check("no tenant is on record: nothing was accepted yet"),
        (_, 0) => ok(format!("{} looked at", counted(count, "tenant"))),
        (_, left_out) => {
            could_not_check(format!("{} of {} were left out", left_out, counted(count + left_out, "tenant")))
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
            return problem(listed(&self.wrong), mend());
        }
        match (self.unread.is_empty(), self.judged) {
            (false, _) => could_not_check(listed(&self.unread)),
            (true, 0) => could_not_check(nothing),
            (true, judged) => ok(fine(judged)),
        }
    }
}

fn listed(all: &[String]) -> String {
    let named = all.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    match all.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named}; and {more} more"),
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

/// What was accepted after all that is in the log.
fn unsealed<'a>(log: &'a Log, head: Option<&Head>) -> impl Iterator<Item = Timestamp> + 'a {
    let sealed_to = head.map(|head| head.received_max);
    let accepted = log.accepted.is().into_iter().flatten().copied();
    accepted.filter(move |accepted| sealed_to.is_none_or(|sealed_to| *accepted > sealed_to))
}

fn sealed(facts: &Facts, tenants: &Tenants) -> Outcome {
    let deadline = facts.now.minus_ms(UNSEALED_MS_MAX);
    let mut tally = Tally::default();
    let (mut seen, mut sealed_to) = (0_u64, None::<Timestamp>);
    for log in &tenants.looked_at {
        if let Asked::Unread(code) = &log.accepted {
            tally.unread.push(format!("{code} (the events of `{}`)", log.tenant));
            continue;
        }
        let head = match head_of(log) {
            Ok(head) => head,
            Err(why) => {
                tally.unread.push(why);
                continue;
            }
        };
        seen += log.accepted.is().map_or(0, Vec::len) as u64;
        tally.judged += u64::from(log.accepted.is().is_some_and(|accepted| !accepted.is_empty()));
        sealed_to = sealed_to.max(head.map(|head| head.received_max));
        let late: Vec<Timestamp> = unsealed(log, head).filter(|accepted| *accepted < deadline).collect();
        if let Some(oldest) = late.iter().min() {
            let count = counted(late.len() as u64, "event");
            let sealed_to = head.map_or_else(
                || "nothing is".to_owned(),
                |head| format!("the log is to {}", head.received_max),
            );
            tally.wrong.push(format!(
                "`{}`: {count} or more not sealed since {oldest} ({}), {sealed_to}",
                log.tenant,
                ago(facts.now, *oldest)
            ));
        }
    }
    let mend = || {
        format!(
            "infra/runbook.md#seal-late: look into the log group `/aws/lambda/{}`, the trigger above, the queue \
             `{}` and the bucket of failed batches",
            facts.named("seal"),
            facts.named("parking"),
        )
    };
    let nothing = match sealed_to {
        Some(to) => {
            format!("no event of today or yesterday to look for; the newest sealed one was accepted at {to}")
        }
        None => "no event of today or yesterday to look for, and nothing is sealed".to_owned(),
    };
    tally.outcome(mend, &nothing, |_| {
        let to = sealed_to.map_or_else(|| "nothing yet".to_owned(), |to| to.to_string());
        format!(
            "of the {} looked at none waits for more than 5 minutes; the newest sealed one was accepted at {to}",
            counted(seen, "newest event")
        )
    })
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
    tally.outcome(mend, "no event of today or yesterday to look for", |looked_for| {
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

/// Since when a log has leaves no locked checkpoint covers: known exactly when the last sealing is all there is to
/// publish, else not earlier than the last publication.
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
        expect(&examine(&facts), "tenants", CouldNotCheck, "20 of 21 tenants were left out");
        let mut second = log(&mut facts).clone();
        second.accepted = Asked::Unread("ThrottlingException".to_owned());
        second.head = Asked::Unread("ThrottlingException".to_owned());
        second.sample = Some(Sample { objects: Vec::new(), in_log: Asked::Unread("SlowDown".to_owned()) });
        tenants(&mut facts).looked_at.push(second);
        let found = examine(&facts);
        expect(&found, "sealed", CouldNotCheck, "ThrottlingException (the events of `acme`)");
        expect(&found, "published", CouldNotCheck, "ThrottlingException (the head of `acme`)");
        expect(&found, "nothing left out", CouldNotCheck, "SlowDown");
        facts.tenants = Asked::Unread("AccessDeniedException".to_owned());
        expect(&examine(&facts), "sealed", CouldNotCheck, "AccessDeniedException");
    }

    #[test]
    fn many_are_counted_and_not_listed() {
        let all: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(listed(&all), "0; 1; 2; 3; 4; and 2 more");
    }
}
