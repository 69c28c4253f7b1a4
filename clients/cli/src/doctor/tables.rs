//! The two tables.

use super::bucket::mend;
use super::facts::{Described, Facts, Table, Ttl};
use super::finding::{Finding, Findings, Outcome, could_not_check, listed, ok, problem};

/// The attribute after whose seconds DynamoDB may delete an item.
const TTL: &str = "expires";
const INDEXES: [&str; 3] = ["by_actor", "by_resource", "by_action"];

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of("tables");
    for (what, table) in [("events", &facts.events), ("control", &facts.control)] {
        examine_one(&mut findings, &facts.named(what), table, what == "events");
    }
    findings.into_list()
}

fn examine_one(findings: &mut Findings, name: &str, table: &Table, is_of_events: bool) {
    let absent = || problem("there is no such table", "deploy infra/stateful.yaml, then `stele rebuild`");
    let mut add = |check: &str, outcome| findings.add(format!("{name}: {check}"), outcome);
    let described = &table.described;
    add("status", described.judge(absent, status));
    add("deletion protection", described.judge(absent, |table| protection(name, table)));
    match is_of_events {
        true => {
            add("stream", described.judge(absent, |table| stream(name, table)));
            add("indexes", described.judge(absent, indexes));
        }
        false => add("stream", described.judge(absent, |table| no_stream(name, table))),
    }
    add("time to live", table.ttl.judge(absent, |ttl| time_to_live(name, ttl, is_of_events)));
    add("point-in-time recovery", table.recovery.judge(absent, |status| recovery(name, status)));
}

fn status(table: &Described) -> Outcome {
    match table.status.as_str() {
        "ACTIVE" => ok("active"),
        "UPDATING" => ok("active, and being updated"),
        "CREATING" => could_not_check("it is being created"),
        other => {
            problem(format!("`{other}`"), "see what AWS says: `aws health describe-events`, or its support")
        }
    }
}

fn protection(name: &str, table: &Described) -> Outcome {
    match table.is_protected {
        true => ok("on"),
        false => problem(
            "off: anybody with the right to may delete it",
            format!("`aws dynamodb update-table --table-name {name} --deletion-protection-enabled`"),
        ),
    }
}

fn stream(name: &str, table: &Described) -> Outcome {
    match table.stream.as_deref() {
        Some("NEW_IMAGE") => ok("NEW_IMAGE"),
        Some(other) => problem(
            format!("it carries `{other}`, and sealing reads new images"),
            format!(
                "turn it off (`aws dynamodb update-table --table-name {name} --stream-specification \
                     StreamEnabled=false`) and on again as below, then deploy infra/api.yaml with the new stream: \
                     {}",
                turn_on(name)
            ),
        ),
        None => problem(
            "off: nothing is sealed",
            format!("{}, then deploy infra/api.yaml with the new stream", turn_on(name)),
        ),
    }
}

fn turn_on(name: &str) -> String {
    format!(
        "`aws dynamodb update-table --table-name {name} --stream-specification \
         StreamEnabled=true,StreamViewType=NEW_IMAGE`"
    )
}

/// Whoever can read a stream can read what is written, keys included.
fn no_stream(name: &str, table: &Described) -> Outcome {
    match table.stream {
        None => ok("none"),
        Some(_) => problem(
            "it has one, which nothing here reads",
            format!(
                "find out who does; `aws dynamodb update-table --table-name {name} --stream-specification \
                 StreamEnabled=false`"
            ),
        ),
    }
}

fn indexes(table: &Described) -> Outcome {
    let status =
        |name: &str| table.indexes.iter().find(|(index, _)| index == name).map(|(_, status)| status.as_str());
    let wrong: Vec<String> = INDEXES
        .iter()
        .filter_map(|name| match status(name) {
            Some("ACTIVE" | "UPDATING" | "CREATING" | "") => None,
            Some(status) => Some(format!("`{name}` is `{status}`")),
            None => Some(format!("`{name}` is missing")),
        })
        .collect();
    if !wrong.is_empty() {
        return problem(listed(&wrong), mend());
    }
    match INDEXES.iter().find(|name| matches!(status(name), Some("CREATING" | ""))) {
        Some(name) => could_not_check(format!("`{name}` is not active yet, or its status is not said")),
        None => ok(format!("{} active", INDEXES.join(", "))),
    }
}

fn time_to_live(name: &str, ttl: &Ttl, is_of_events: bool) -> Outcome {
    let turn_on = || {
        format!(
            "`aws dynamodb update-time-to-live --table-name {name} --time-to-live-specification \
             Enabled=true,AttributeName={TTL}`"
        )
    };
    match ttl.status.as_str() {
        "ENABLED" if ttl.attribute == TTL => ok(format!("on `{TTL}`")),
        "ENABLED" => problem(
            format!("on `{}`, which nothing writes", ttl.attribute),
            format!("turn it off, then {}", turn_on()),
        ),
        "ENABLING" => could_not_check("it is being turned on: ask again in an hour"),
        _ if is_of_events => problem(
            "off: nothing is ever forgotten, and all of it is paid for",
            format!(
                "infra/runbook.md#days-unproven: the watchdog turns it off while days are not proven; then {}",
                turn_on()
            ),
        ),
        _ => problem("off: nothing is ever forgotten, and all of it is paid for", turn_on()),
    }
}

fn recovery(name: &str, status: &str) -> Outcome {
    match status {
        "ENABLED" => ok("on"),
        _ => problem(
            "off: what is not sealed yet can't be restored",
            format!(
                "`aws dynamodb update-continuous-backups --table-name {name} \
                 --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true`"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Asked;
    use super::super::finding::State::{CouldNotCheck, Problem};
    use super::super::healthy::{expect, facts};
    use super::*;

    fn described(asked: &mut Asked<Described>) -> &mut Described {
        match asked {
            Asked::Is(described) => described,
            _ => panic!("it is described"),
        }
    }

    #[test]
    fn every_setting_that_is_off_is_a_problem() {
        let mut facts = facts();
        let events = described(&mut facts.events.described);
        events.status = "INACCESSIBLE_ENCRYPTION_CREDENTIALS".to_owned();
        events.is_protected = false;
        events.stream = None;
        events.indexes.retain(|(name, _)| name != "by_actor");
        events.indexes[0].1 = "DELETING".to_owned();
        facts.events.ttl = Asked::Is(Ttl { status: "DISABLED".to_owned(), attribute: String::new() });
        facts.events.recovery = Asked::Is("DISABLED".to_owned());
        let found = examine(&facts);
        expect(&found, "audit-events: status", Problem, "INACCESSIBLE");
        expect(&found, "audit-events: deletion protection", Problem, "off");
        expect(&found, "audit-events: stream", Problem, "off");
        expect(
            &found,
            "audit-events: indexes",
            Problem,
            "`by_actor` is missing; `by_resource` is `DELETING`",
        );
        expect(&found, "audit-events: time to live", Problem, "off");
        let ttl = found.iter().find(|finding| finding.check == "audit-events: time to live").unwrap();
        assert!(ttl.outcome.mend.as_ref().unwrap().contains("runbook.md#days-unproven"));
        expect(&found, "audit-events: point-in-time recovery", Problem, "off");
    }

    #[test]
    fn a_stream_carries_new_images_of_events_and_nothing_else() {
        let mut facts = facts();
        described(&mut facts.events.described).stream = Some("KEYS_ONLY".to_owned());
        described(&mut facts.control.described).stream = Some("NEW_IMAGE".to_owned());
        let found = examine(&facts);
        expect(&found, "audit-events: stream", Problem, "`KEYS_ONLY`");
        expect(&found, "audit-control: stream", Problem, "it has one");
    }

    #[test]
    fn an_index_that_is_being_made_is_unknown() {
        let mut facts = facts();
        for status in ["CREATING", ""] {
            described(&mut facts.events.described).indexes[2].1 = status.to_owned();
            expect(&examine(&facts), "audit-events: indexes", CouldNotCheck, "`by_action` is not active yet");
        }
    }

    #[test]
    fn time_to_live_goes_by_the_attribute_that_is_written() {
        let mut facts = facts();
        facts.control.ttl = Asked::Is(Ttl { status: "ENABLED".to_owned(), attribute: "ttl".to_owned() });
        expect(&examine(&facts), "audit-control: time to live", Problem, "on `ttl`");
        facts.control.ttl = Asked::Is(Ttl { status: "ENABLING".to_owned(), attribute: TTL.to_owned() });
        expect(&examine(&facts), "audit-control: time to live", CouldNotCheck, "turned on");
    }

    #[test]
    fn a_table_that_is_gone_is_a_problem_and_an_unreadable_one_is_unknown() {
        let mut facts = facts();
        facts.events.described = Asked::Absent("ResourceNotFoundException".to_owned());
        facts.control.recovery = Asked::Unread("AccessDeniedException".to_owned());
        let found = examine(&facts);
        expect(&found, "audit-events: status", Problem, "no such table");
        expect(&found, "audit-control: point-in-time recovery", CouldNotCheck, "AccessDeniedException");
    }
}
