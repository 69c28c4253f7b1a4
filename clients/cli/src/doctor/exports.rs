//! The bucket of exported files: private, under keys of S3, and emptied by itself.

use super::bucket::{encryption, mend, public_access};
use super::facts::{Expiry, Facts, Rule};
use super::finding::{Finding, Findings, Outcome, ok, problem};
use stele::limits;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let exports = &facts.exports;
    let absent = || problem("there is no such bucket", "deploy infra/stateful.yaml");
    let mut findings = Findings::of("exports");
    findings.add(
        "exports: public access",
        exports.public_access_block.judge(|| problem("nothing is blocked", mend()), public_access),
    );
    findings.add("exports: encryption", exports.encryption.judge(absent, |used| encryption(used)));
    findings.add("exports: files go", exports.lifecycle.judge(absent, |rules| files_go(rules)));
    findings.into_list()
}

fn files_go(rules: &[Rule]) -> Outcome {
    let everything =
        |rule: &&Rule| rule.is_enabled && rule.prefix.is_empty() && rule.tags.is_empty() && !rule.is_narrowed;
    let days = rules.iter().filter(everything).filter_map(|rule| match rule.expires {
        Some(Expiry::Days(days)) => u32::try_from(days).ok(),
        Some(Expiry::OnADate) | None => None,
    });
    match days.min() {
        Some(limits::EXPORT_KEPT_DAYS) => ok(format!("after {} days", limits::EXPORT_KEPT_DAYS)),
        Some(days) => problem(format!("after {days} days, and the API tells another time"), mend()),
        None => problem("never: copies of events pile up", mend()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Asked;
    use super::super::finding::State::{CouldNotCheck, Problem};
    use super::super::healthy::{expect, facts};
    use super::*;

    #[test]
    fn a_bucket_that_is_open_or_keeps_files_is_a_problem() {
        let mut facts = facts();
        facts.exports.public_access_block = Asked::Is([true, false, true, true]);
        facts.exports.encryption = Asked::Is(vec!["aws:kms".to_owned()]);
        facts.exports.lifecycle = Asked::Is(Vec::new());
        let found = examine(&facts);
        expect(&found, "exports: public access", Problem, "off: IgnorePublicAcls");
        expect(&found, "exports: encryption", Problem, "`aws:kms`");
        expect(&found, "exports: files go", Problem, "never");
        facts.exports.lifecycle = Asked::Unread("AccessDenied".to_owned());
        expect(&examine(&facts), "exports: files go", CouldNotCheck, "AccessDenied");
        let mut rules = super::super::healthy::exports_rules();
        rules[0].expires = Some(Expiry::Days(30));
        facts.exports.lifecycle = Asked::Is(rules);
        expect(&examine(&facts), "exports: files go", Problem, "after 30 days");
    }
}
