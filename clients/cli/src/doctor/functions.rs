//! The functions, and what calls them.

use super::bucket::put_back;
use super::facts::{Asked, Configuration, Facts, Trigger};
use super::finding::{Finding, Findings, Outcome, could_not_check, ok, problem};

/// Those of infra/api.yaml that run by themselves, by the words that end their names.
pub(super) const FUNCTIONS: [&str; 8] =
    ["ingest", "drain", "seal", "query", "compact", "reconcile", "export", "watchdog"];

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of("functions");
    for (what, function) in &facts.functions {
        let name = facts.named(what);
        let absent = || problem("there is no such function", "deploy infra/api.yaml");
        findings.add(
            name.clone(),
            function.configuration.judge(absent, |configuration| state(&name, configuration)),
        );
        findings.add(
            format!("{name}: concurrency"),
            function.concurrency.judge(absent, |reserved| concurrency(&name, *reserved)),
        );
    }
    let stream = facts.events.described.is().and_then(|table| table.stream_arn.clone());
    findings.add(
        format!("{} → seal", facts.named("events")),
        triggers(&facts.seal_triggers, |found| by_stream(found, stream.as_deref(), &facts.named("events"))),
    );
    for (queue, function, asked) in [
        ("parking", "seal", &facts.seal_triggers),
        ("spill", "drain", &facts.drain_triggers),
        ("compaction", "compact", &facts.compact_triggers),
        ("reconciliation", "reconcile", &facts.reconcile_triggers),
        ("exports", "export", &facts.export_triggers),
    ] {
        let source = format!(":{}", facts.named(queue));
        let by_queue =
            |found: &[Trigger]| one(found.iter().filter(|trigger| trigger.source.ends_with(&source)));
        findings.add(format!("{} → {function}", facts.named(queue)), triggers(asked, by_queue));
    }
    findings.into_list()
}

fn state(name: &str, function: &Configuration) -> Outcome {
    let because = match function.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    match (function.state.as_str(), function.last_update.as_str()) {
        ("Active", "Successful" | "") => ok("active"),
        ("Pending", _) | ("Active", "InProgress") => {
            could_not_check("it is being deployed: ask again in a minute")
        }
        ("Active", update) => {
            problem(format!("active, but its last update is `{update}`{because}"), "deploy again")
        }
        (state, _) => problem(
            format!("`{state}`{because}"),
            format!("`aws lambda get-function-configuration --function-name {name}` says more; deploy again"),
        ),
    }
}

/// Reserving none at all is how a function is stopped by hand.
fn concurrency(name: &str, reserved: Option<i32>) -> Outcome {
    match reserved {
        None => ok("none reserved"),
        Some(0) => problem(
            "it is stopped: 0 are reserved",
            format!("`aws lambda delete-function-concurrency --function-name {name}`"),
        ),
        Some(n) => ok(format!("{n} reserved")),
    }
}

fn triggers(asked: &Asked<Vec<Trigger>>, judge: impl FnOnce(&[Trigger]) -> Outcome) -> Outcome {
    asked.judge(none, |found| judge(found))
}

fn none() -> Outcome {
    problem("nothing calls it", put_back("api.yaml"))
}

/// The mapping must read the table's stream of today: a stream that was turned off and on again is another one.
fn by_stream(found: &[Trigger], stream: Option<&str>, table: &str) -> Outcome {
    let of_table = |trigger: &&Trigger| trigger.source.contains(&format!(":table/{table}/stream/"));
    match stream {
        Some(stream) if found.iter().any(|trigger| trigger.source == stream) => {
            one(found.iter().filter(|trigger| trigger.source == stream))
        }
        Some(stream) if found.iter().any(|trigger| of_table(&trigger)) => problem(
            "it reads a stream the table no longer writes to",
            format!("deploy infra/api.yaml with EventsStreamArn={stream}"),
        ),
        Some(_) => none(),
        None => match one(found.iter().filter(of_table)) {
            fine if fine.mend.is_none() => could_not_check("the table's stream is not known"),
            wrong => wrong,
        },
    }
}

fn one<'a>(found: impl Iterator<Item = &'a Trigger>) -> Outcome {
    let found: Vec<&Trigger> = found.collect();
    match found.as_slice() {
        [] => none(),
        [one] => enabled(one),
        several => problem(
            format!("{} mappings of the same source", several.len()),
            "delete those that infra/api.yaml did not make: `aws lambda list-event-source-mappings`",
        ),
    }
}

fn enabled(trigger: &Trigger) -> Outcome {
    let Trigger { id, state, last_result, .. } = trigger;
    match state.as_str() {
        "Enabled" if ["PROBLEM", "FAILED"].iter().any(|word| last_result.starts_with(word)) => problem(
            format!("enabled; the last result is `{last_result}`"),
            "see the function's log group, and infra/runbook.md",
        ),
        "Enabled" => ok("enabled"),
        "Creating" | "Enabling" | "Updating" => {
            could_not_check(format!("it is `{state}`: ask again in a minute"))
        }
        _ => problem(
            format!("`{state}`; the last result is `{last_result}`"),
            format!("`aws lambda update-event-source-mapping --uuid {id} --enabled`"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{CouldNotCheck, Ok, Problem};
    use super::super::healthy::{expect, facts};
    use super::*;

    fn first(asked: &mut Asked<Vec<Trigger>>) -> &mut Trigger {
        match asked {
            Asked::Is(list) => &mut list[0],
            _ => panic!("they are listed"),
        }
    }

    #[test]
    fn the_list_is_that_of_the_template() {
        let template = include_str!("../../../../infra/api.yaml");
        let named = template
            .lines()
            .filter_map(|line| line.trim().strip_prefix("FunctionName: !Sub \"${InstallationName}-"));
        let mut named: Vec<&str> = named.map(|rest| rest.trim_end_matches('"')).collect();
        // Deployments alone call it.
        named.retain(|name| *name != "setup");
        let mut ours = FUNCTIONS.to_vec();
        named.sort_unstable();
        ours.sort_unstable();
        assert_eq!(named, ours);
    }

    #[test]
    fn a_function_must_be_there_active_and_not_stopped() {
        let mut facts = facts();
        facts.functions[0].1.configuration = Asked::Absent("ResourceNotFoundException".to_owned());
        facts.functions[1].1.concurrency = Asked::Is(Some(0));
        let failed = |state: &str, update: &str| {
            let (state, last_update) = (state.to_owned(), update.to_owned());
            Asked::Is(Configuration { state, last_update, reason: "no role".to_owned() })
        };
        facts.functions[2].1.configuration = failed("Failed", "Successful");
        facts.functions[3].1.configuration = failed("Active", "Failed");
        let found = examine(&facts);
        expect(&found, "audit-ingest", Problem, "no such function");
        expect(&found, "audit-drain: concurrency", Problem, "stopped");
        expect(&found, "audit-seal", Problem, "`Failed`: no role");
        expect(&found, "audit-query", Problem, "last update is `Failed`");
        facts.functions[3].1.configuration = failed("Pending", "InProgress");
        facts.functions[1].1.concurrency = Asked::Is(Some(7));
        expect(&examine(&facts), "audit-query", CouldNotCheck, "being deployed");
        expect(&examine(&facts), "audit-drain: concurrency", Ok, "7 reserved");
    }

    #[test]
    fn a_trigger_must_be_there_and_enabled_and_work() {
        let mut facts = facts();
        first(&mut facts.seal_triggers).state = "Disabled".to_owned();
        first(&mut facts.drain_triggers).last_result = "PROBLEM: Function call failed".to_owned();
        let found = examine(&facts);
        expect(&found, "audit-events → seal", Problem, "`Disabled`");
        expect(&found, "audit-spill → drain", Problem, "PROBLEM: Function call failed");
        expect(&found, "audit-parking → seal", Ok, "enabled");
        expect(&found, "audit-reconciliation → reconcile", Ok, "enabled");
        facts.seal_triggers = Asked::Is(Vec::new());
        facts.drain_triggers = Asked::Unread("AccessDeniedException".to_owned());
        facts.compact_triggers = facts.reconcile_triggers.clone();
        let found = examine(&facts);
        expect(&found, "audit-events → seal", Problem, "nothing calls it");
        expect(&found, "audit-parking → seal", Problem, "nothing calls it");
        expect(&found, "audit-spill → drain", CouldNotCheck, "AccessDeniedException");
        expect(&found, "audit-compaction → compact", Problem, "nothing calls it");
    }

    #[test]
    fn a_mapping_of_an_old_stream_is_a_problem() {
        let mut facts = facts();
        first(&mut facts.seal_triggers).source =
            "arn:aws:dynamodb:eu-central-1:123456789012:table/audit-events/stream/2025".to_owned();
        expect(&examine(&facts), "audit-events → seal", Problem, "no longer writes to");
        facts.events.described = Asked::Unread("AccessDeniedException".to_owned());
        expect(&examine(&facts), "audit-events → seal", CouldNotCheck, "not known");
        first(&mut facts.seal_triggers).source = "arn:aws:sqs:eu-central-1:123456789012:x".to_owned();
        expect(&examine(&facts), "audit-events → seal", Problem, "nothing calls it");
    }

    #[test]
    fn two_mappings_of_a_queue_are_one_too_many() {
        let mut facts = facts();
        let again = first(&mut facts.drain_triggers).clone();
        facts.drain_triggers = Asked::Is(vec![again.clone(), again]);
        expect(&examine(&facts), "audit-spill → drain", Problem, "2 mappings");
    }
}
