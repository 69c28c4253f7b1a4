//! The alarms: there, heard, and silent.

use super::bucket::put_back;
use super::facts::{Alarm, Facts};
use super::finding::{Finding, Findings, Outcome, could_not_check, listed, ok, problem};

/// Those of infra/observability.yaml, by the words that end their names.
pub(super) const ALARMS: [&str; 34] = [
    "seal-late",
    "seal-behind",
    "seal-errors",
    "batches-failed",
    "batches-dropped",
    "records-parked",
    "parked-given-up",
    "ingest-errors",
    "ingest-throttled",
    "api-errors",
    "events-throttled",
    "control-throttled",
    "spill-old",
    "spill-given-up",
    "drain-errors",
    "events-refused",
    "query-errors",
    "query-throttled",
    "export-errors",
    "export-old",
    "export-given-up",
    "compact-errors",
    "compaction-given-up",
    "compaction-old",
    "archive-overdue",
    "reconcile-errors",
    "reconciliation-given-up",
    "reconciliation-old",
    "records-missing",
    "records-differing",
    "archive-lost",
    "tenant-behind",
    "days-unproven",
    "watchdog-errors",
];

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of("alarms");
    let absent = || problem("there are none", "deploy infra/observability.yaml");
    findings.add("all there", facts.alarms.judge(absent, |alarms| all_there(facts, alarms)));
    findings.add("heard", facts.alarms.judge(absent, |alarms| heard(&ours(facts, alarms))));
    let loud = facts.alarms.is().map(|alarms| in_alarm(facts, alarms)).unwrap_or_default();
    if loud.is_empty() {
        findings.add("silent", facts.alarms.judge(absent, |alarms| silent(&ours(facts, alarms))));
    }
    for (name, outcome) in loud {
        findings.add(name, outcome);
    }
    findings.into_list()
}

/// Another installation's name may begin with this one's.
fn ours<'a>(facts: &Facts, alarms: &'a [Alarm]) -> Vec<&'a Alarm> {
    let names: Vec<String> = ALARMS.iter().map(|what| facts.named(what)).collect();
    alarms.iter().filter(|alarm| names.contains(&alarm.name)).collect()
}

fn all_there(facts: &Facts, alarms: &[Alarm]) -> Outcome {
    let is_missing = |what: &&&str| !alarms.iter().any(|alarm| alarm.name == facts.named(what));
    let missing: Vec<String> = ALARMS.iter().filter(is_missing).map(|what| facts.named(what)).collect();
    match missing.is_empty() {
        true => ok(format!("{} of {}", ALARMS.len(), ALARMS.len())),
        false => problem(format!("missing: `{}`", missing.join("`, `")), "deploy infra/observability.yaml"),
    }
}

/// An alarm whose actions are off, or that has none, tells nobody.
fn heard(alarms: &[&Alarm]) -> Outcome {
    let mute: Vec<&str> =
        alarms.iter().filter(|alarm| !alarm.has_actions).map(|alarm| alarm.name.as_str()).collect();
    match (alarms.is_empty(), mute.is_empty()) {
        (true, _) => problem("there are none", "deploy infra/observability.yaml"),
        (_, true) => ok("each has an action, and actions are enabled"),
        (_, false) => problem(
            format!("these tell nobody: `{}`", mute.join("`, `")),
            format!(
                "`aws cloudwatch enable-alarm-actions --alarm-names {}`; if they have no action, {}",
                mute.join(" "),
                put_back("observability.yaml")
            ),
        ),
    }
}

fn in_alarm(facts: &Facts, alarms: &[Alarm]) -> Vec<(String, Outcome)> {
    let loud = ours(facts, alarms).into_iter().filter(|alarm| alarm.state == "ALARM");
    loud.map(|alarm| {
        let what = alarm.name.strip_prefix(&facts.named("")).unwrap_or(&alarm.name);
        // Each description ends in where the runbook says what to do.
        let runbook = alarm.description.rsplit(' ').next().filter(|word| word.contains('#'));
        let mend = runbook.map_or_else(|| format!("infra/runbook.md#{what}"), str::to_owned);
        (alarm.name.clone(), problem(format!("in ALARM: {}", alarm.reason), mend))
    })
    .collect()
}

fn silent(alarms: &[&Alarm]) -> Outcome {
    let unsure: Vec<String> =
        alarms.iter().filter(|alarm| alarm.state != "OK").map(|alarm| format!("`{}`", alarm.name)).collect();
    match (alarms.len(), unsure.len()) {
        (0, _) => problem("there are none", "deploy infra/observability.yaml"),
        (_, 0) => ok("none is in ALARM"),
        (all, n) => {
            could_not_check(format!("{n} of {all} are not judged by CloudWatch yet: {}", listed(&unsure)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Asked;
    use super::super::finding::State::{CouldNotCheck, Problem};
    use super::super::healthy::{expect, facts};
    use super::*;

    fn list(facts: &mut Facts) -> &mut Vec<Alarm> {
        match &mut facts.alarms {
            Asked::Is(list) => list,
            _ => panic!("they are listed"),
        }
    }

    #[test]
    fn the_list_is_that_of_the_template() {
        let template = include_str!("../../../../infra/observability.yaml");
        let named = template
            .lines()
            .filter_map(|line| line.trim().strip_prefix("AlarmName: !Sub \"${InstallationName}-"));
        let named: Vec<&str> = named.map(|rest| rest.trim_end_matches('"')).collect();
        for name in &named {
            assert!(ALARMS.contains(name), "`{name}` is in the template and not in the list");
        }
        for name in ALARMS {
            assert!(named.contains(&name), "`{name}` is in the list and not in the template");
        }
    }

    #[test]
    fn an_alarm_that_is_missing_or_mute_or_in_alarm_is_a_problem() {
        let mut facts = facts();
        list(&mut facts).retain(|alarm| alarm.name != "audit-spill-old");
        list(&mut facts)[0].state = "ALARM".to_owned();
        list(&mut facts)[1].has_actions = false;
        let found = examine(&facts);
        expect(&found, "all there", Problem, "missing: `audit-spill-old`");
        expect(&found, "heard", Problem, "`audit-seal-behind`");
        expect(&found, "audit-seal-late", Problem, "in ALARM: Threshold Crossed");
        let finding = found.iter().find(|finding| finding.check == "audit-seal-late").unwrap();
        assert_eq!(finding.outcome.mend.as_deref(), Some("infra/runbook.md#seal-late"));
        assert!(found.iter().all(|finding| finding.check != "silent"));
    }

    #[test]
    fn another_installations_alarms_are_not_ours() {
        let mut facts = facts();
        for alarm in list(&mut facts) {
            alarm.name = alarm.name.replace("audit-", "audit-test-");
            alarm.state = "ALARM".to_owned();
        }
        let found = examine(&facts);
        expect(&found, "all there", Problem, "missing");
        expect(&found, "heard", Problem, "none");
        expect(&found, "silent", Problem, "none");
    }

    #[test]
    fn an_alarm_without_a_judgement_says_nothing() {
        let mut facts = facts();
        list(&mut facts)[3].state = "INSUFFICIENT_DATA".to_owned();
        expect(
            &examine(&facts),
            "silent",
            CouldNotCheck,
            "1 of 34 are not judged by CloudWatch yet: `audit-batches-failed`",
        );
        facts.alarms = Asked::Unread("AccessDenied".to_owned());
        for check in ["all there", "heard", "silent"] {
            expect(&examine(&facts), check, CouldNotCheck, "AccessDenied");
        }
    }
}
