//! The archive's lifecycle: everything expires after its class, and nothing else expires.
//!
//! What lies under a delete marker or a newer version is not looked at: removing it is what such a rule is for, and a lock
//! outweighs every rule.

use super::bucket::mend;
use super::facts::{Expiry, Facts, Rule};
use super::finding::{Finding, Findings, Outcome, listed, ok, problem};
use stele::layout::{ARCHIVE, SEGMENTS};
use stele::limits;

/// What a rule makes expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Segments,
    Class(u32),
    Other,
}

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of("archive");
    let lifecycle = &facts.bucket.lifecycle;
    let none = || problem("there are no rules: nothing expires", mend());
    findings.add("lifecycle: classes", lifecycle.judge(none, |rules| classes(&expiring(rules))));
    findings.add("lifecycle: segments", lifecycle.judge(none, |rules| segments(&expiring(rules))));
    findings.add("lifecycle: nothing else", lifecycle.judge(none, |rules| others(&expiring(rules))));
    findings.into_list()
}

fn expiring(rules: &[Rule]) -> Vec<(&Rule, Kind)> {
    rules
        .iter()
        .filter(|rule| rule.is_enabled && rule.expires.is_some())
        .map(|rule| (rule, kind(rule)))
        .collect()
}

fn kind(rule: &Rule) -> Kind {
    let value = |name: &str| rule.tags.iter().find(|(tag, _)| tag == name).map(|(_, value)| value.as_str());
    if rule.prefix.starts_with(SEGMENTS) && value("archived") == Some("true") {
        return Kind::Segments;
    }
    let class = value("class").and_then(|days| days.parse().ok());
    match class.filter(|days| limits::CLASSES_DAYS.contains(days)) {
        Some(days) if rule.prefix.starts_with(ARCHIVE) => Kind::Class(days),
        _ => Kind::Other,
    }
}

/// Whether a rule waits for longer than so many days.
fn waits(rule: &Rule, days: u32) -> bool {
    matches!(rule.expires, Some(Expiry::Days(n)) if u32::try_from(n).is_ok_and(|n| n > days))
}

/// Whether a rule holds for all objects of a prefix with the one tag.
fn is_whole(rule: &Rule, prefix: &str) -> bool {
    rule.prefix == prefix && rule.tags.len() == 1 && !rule.is_narrowed
}

fn classes(rules: &[(&Rule, Kind)]) -> Outcome {
    let wrong: Vec<String> = limits::CLASSES_DAYS.iter().filter_map(|days| class(rules, *days)).collect();
    match wrong.is_empty() {
        true => {
            ok(format!("{} classes, each with a rule that waits for its end", limits::CLASSES_DAYS.len()))
        }
        false => problem(listed(&wrong), mend()),
    }
}

/// What is wrong with one class.
fn class(rules: &[(&Rule, Kind)], days: u32) -> Option<String> {
    let of_class: Vec<&Rule> =
        rules.iter().filter(|(_, kind)| *kind == Kind::Class(days)).map(|(rule, _)| *rule).collect();
    match of_class.as_slice() {
        [rule] if !is_whole(rule, ARCHIVE) => {
            Some(format!("the rule `{}` holds only for a part of class {days}", rule.id))
        }
        [rule] if !waits(rule, days) => Some(format!("the rule `{}` does not wait for {days} days", rule.id)),
        [_] => None,
        [] => Some(format!("no rule for class {days}")),
        several => Some(format!("{} rules for class {days}", several.len())),
    }
}

fn segments(rules: &[(&Rule, Kind)]) -> Outcome {
    let of_segments: Vec<&Rule> =
        rules.iter().filter(|(_, kind)| *kind == Kind::Segments).map(|(rule, _)| *rule).collect();
    if let Some(early) = of_segments.iter().find(|rule| !waits(rule, limits::SEGMENT_LOCK_DAYS)) {
        let days = limits::SEGMENT_LOCK_DAYS;
        return problem(format!("the rule `{}` does not wait for {days} days", early.id), mend());
    }
    match of_segments.iter().any(|rule| is_whole(rule, SEGMENTS)) {
        true => ok("only what is tagged archived=true expires, after its lock"),
        false => problem("archived segments never expire", mend()),
    }
}

fn others(rules: &[(&Rule, Kind)]) -> Outcome {
    let others: Vec<String> = rules
        .iter()
        .filter(|(_, kind)| *kind == Kind::Other)
        .map(|(rule, _)| match rule.tags.is_empty() {
            true => format!("the rule `{}` expires what is not tagged", rule.id),
            false => format!("the rule `{}` expires what is of no class", rule.id),
        })
        .collect();
    match others.is_empty() {
        true => ok("no rule expires what is not archived or of no class"),
        false => problem(listed(&others), format!("disable it now, and {}", mend())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Asked;
    use super::super::finding::State::{Ok, Problem};
    use super::super::healthy::{expect, facts, rules};
    use super::*;

    fn with(change: impl FnOnce(&mut Vec<Rule>)) -> Vec<Finding> {
        let mut facts = facts();
        let mut rules = rules();
        change(&mut rules);
        facts.bucket.lifecycle = Asked::Is(rules);
        examine(&facts)
    }

    fn rule<'a>(rules: &'a mut [Rule], id: &str) -> &'a mut Rule {
        rules.iter_mut().find(|rule| rule.id == id).unwrap()
    }

    #[test]
    fn every_class_has_one_rule_that_waits_for_its_end() {
        const CHECK: &str = "lifecycle: classes";
        expect(&with(|rules| rules.retain(|r| r.id != "class-731")), CHECK, Problem, "no rule for class 731");
        expect(&with(|rules| rule(rules, "class-90").is_enabled = false), CHECK, Problem, "class 90");
        let early = with(|rules| rule(rules, "class-365").expires = Some(Expiry::Days(365)));
        expect(&early, CHECK, Problem, "`class-365` does not wait for 365 days");
        let on_a_date = with(|rules| rule(rules, "class-365").expires = Some(Expiry::OnADate));
        expect(&on_a_date, CHECK, Problem, "does not wait");
        let twice = with(|rules| {
            let again = rule(rules, "class-180").clone();
            rules.push(again);
        });
        expect(&twice, CHECK, Problem, "2 rules for class 180");
        let narrowed = with(|rules| rule(rules, "class-180").is_narrowed = true);
        expect(&narrowed, CHECK, Problem, "a part of class 180");
        let deeper = with(|rules| rule(rules, "class-180").prefix = "archive/tenant_id=a/".to_owned());
        expect(&deeper, CHECK, Problem, "a part of class 180");
    }

    #[test]
    fn segments_expire_only_when_they_are_archived_and_unlocked() {
        const CHECK: &str = "lifecycle: segments";
        expect(
            &with(|rules| rules.retain(|r| !r.prefix.starts_with(SEGMENTS))),
            CHECK,
            Problem,
            "never expire",
        );
        let early = with(|rules| rule(rules, "archived-segments").expires = Some(Expiry::Days(35)));
        expect(&early, CHECK, Problem, "does not wait for 35 days");
        let untagged = with(|rules| rule(rules, "archived-segments").tags.clear());
        expect(&untagged, CHECK, Problem, "never expire");
        expect(
            &untagged,
            "lifecycle: nothing else",
            Problem,
            "`archived-segments` expires what is not tagged",
        );
    }

    #[test]
    fn nothing_without_a_class_expires() {
        const CHECK: &str = "lifecycle: nothing else";
        let all = Rule {
            id: "tidy-up".to_owned(),
            is_enabled: true,
            prefix: String::new(),
            tags: Vec::new(),
            is_narrowed: false,
            expires: Some(Expiry::Days(5000)),
        };
        let held = Rule { tags: vec![("class".to_owned(), "hold".to_owned())], ..all.clone() };
        let anywhere = Rule { tags: vec![("class".to_owned(), "90".to_owned())], ..all.clone() };
        for (rule, found) in [(all.clone(), "not tagged"), (held, "of no class"), (anywhere, "of no class")] {
            expect(&with(|rules| rules.push(rule)), CHECK, Problem, found);
        }
        expect(&with(|rules| rules.push(Rule { is_enabled: false, ..all })), CHECK, Ok, "");
    }

    #[test]
    fn no_rules_at_all_are_no_success() {
        for found in [with(Vec::clear), {
            let mut facts = facts();
            facts.bucket.lifecycle = Asked::Absent("NoSuchLifecycleConfiguration".to_owned());
            examine(&facts)
        }] {
            expect(&found, "lifecycle: classes", Problem, "");
            expect(&found, "lifecycle: segments", Problem, "");
        }
    }
}
