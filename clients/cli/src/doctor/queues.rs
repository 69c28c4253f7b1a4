//! The queues: what waits in them, and what was given up.

use super::bucket::put_back;
use super::facts::{Facts, Queue, QueuePair};
use super::finding::{Finding, Findings, Outcome, ok, problem};
use crate::show::counted;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of("queues");
    let pairs = [
        ("spill", "drain", "spill-given-up", &facts.spill),
        ("parking", "seal", "parked-given-up", &facts.parking),
        ("compaction", "compact", "compaction-given-up", &facts.compaction),
        ("reconciliation", "reconcile", "reconciliation-given-up", &facts.reconciliation),
        ("exports", "export", "export-given-up", &facts.export),
    ];
    for (what, function, anchor, pair) in pairs {
        examine_pair(&mut findings, facts, what, (function, anchor), pair);
    }
    findings.into_list()
}

fn examine_pair(
    findings: &mut Findings,
    facts: &Facts,
    what: &str,
    (function, anchor): (&str, &str),
    pair: &QueuePair,
) {
    let (name, dead) = (facts.named(what), facts.named(&format!("{what}-dead")));
    let absent = || problem("there is no such queue", "deploy infra/api.yaml");
    findings.add(name.clone(), pair.queue.judge(absent, |queue| ok(waiting(queue))));
    findings.add(format!("{name}: redrive"), pair.queue.judge(absent, |queue| redrive(queue, &dead)));
    findings.add(dead, pair.dead.judge(absent, |queue| given_up(queue, &facts.named(function), anchor)));
}

/// What waits is no problem in itself: the alarms say when it waits for too long.
fn waiting(queue: &Queue) -> String {
    match (queue.waiting, queue.in_flight) {
        (0, 0) => "empty".to_owned(),
        (waiting, in_flight) => {
            format!(
                "about {} waiting, {in_flight} being worked on or tried again",
                counted(waiting, "message")
            )
        }
    }
}

fn redrive(queue: &Queue, dead: &str) -> Outcome {
    match &queue.redrive {
        Some((target, tries)) if target.rsplit(':').next() == Some(dead) => {
            ok(format!("to `{dead}` after {}", counted(*tries, "try").replace("trys", "tries")))
        }
        Some((target, _)) => problem(format!("to `{target}`"), put_back("api.yaml")),
        None => problem("none: what can't be worked on is lost in the end", put_back("api.yaml")),
    }
}

/// Events there were not stored or not sealed, though they were acknowledged; errands there were not run.
fn given_up(queue: &Queue, function: &str, anchor: &str) -> Outcome {
    match queue.waiting + queue.in_flight {
        0 => ok("empty"),
        n => problem(
            format!("about {} given up", counted(n, "message")),
            format!(
                "infra/runbook.md#{anchor}: mend what the log group `/aws/lambda/{function}` complains of, then `aws \
                 sqs start-message-move-task --source-arn {}`",
                queue.arn
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Asked;
    use super::super::finding::State::{CouldNotCheck, Ok, Problem};
    use super::super::healthy::{expect, facts, queue};
    use super::*;

    #[test]
    fn what_waits_is_said_and_what_was_given_up_is_a_problem() {
        let mut facts = facts();
        facts.spill.queue = Asked::Is(Queue { waiting: 7, in_flight: 1, ..queue("audit-spill") });
        facts.spill.dead = Asked::Is(Queue { waiting: 1, ..queue("audit-spill-dead") });
        let found = examine(&facts);
        expect(&found, "audit-spill", Ok, "about 7 messages waiting, 1 being worked on");
        expect(&found, "audit-spill: redrive", Ok, "after 1000 tries");
        expect(&found, "audit-spill-dead", Problem, "about 1 message given up");
        expect(&found, "audit-parking-dead", Ok, "empty");
        facts.compaction.dead = Asked::Is(Queue { waiting: 2, ..queue("audit-compaction-dead") });
        let found = examine(&facts);
        expect(&found, "audit-compaction-dead", Problem, "about 2 messages given up");
        let finding = found.iter().find(|finding| finding.check == "audit-compaction-dead").unwrap();
        assert!(finding.outcome.mend.as_ref().unwrap().contains("runbook.md#compaction-given-up"));
    }

    #[test]
    fn what_fails_must_end_in_the_dead_letter_queue() {
        let mut facts = facts();
        facts.parking.queue = Asked::Is(Queue { redrive: None, ..queue("audit-parking") });
        expect(&examine(&facts), "audit-parking: redrive", Problem, "none");
        let redrive = Some(("arn:aws:sqs:eu-central-1:123456789012:other-dead".to_owned(), 5));
        facts.parking.queue = Asked::Is(Queue { redrive, ..queue("audit-parking") });
        expect(&examine(&facts), "audit-parking: redrive", Problem, "other-dead");
    }

    #[test]
    fn a_queue_that_is_gone_is_a_problem_and_an_unreadable_one_is_unknown() {
        let mut facts = facts();
        facts.spill.queue = Asked::Absent("QueueDoesNotExist".to_owned());
        facts.parking.dead = Asked::Unread("AccessDenied".to_owned());
        let found = examine(&facts);
        expect(&found, "audit-spill", Problem, "no such queue");
        expect(&found, "audit-parking-dead", CouldNotCheck, "AccessDenied");
    }
}
