//! The KMS key that wraps the secrets: without it nothing is accepted or sealed any more.

use super::facts::{Facts, Key};
use super::finding::{Finding, Findings, Outcome, could_not_check, ok, problem};

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let alias = format!("alias/{}", facts.name);
    let absent =
        || problem("there is no such key", format!("deploy infra/stateful.yaml; `{alias}` names its key"));
    let outcome = facts.key.judge(absent, |key| state(&alias, key));
    let mut findings = Findings::of("key");
    findings.add(alias, outcome);
    findings.into_list()
}

fn state(alias: &str, key: &Key) -> Outcome {
    let id = format!("$(aws kms describe-key --key-id {alias} --query KeyMetadata.KeyId --output text)");
    match key.state.as_str() {
        "Enabled" => ok("enabled"),
        "Disabled" => problem("disabled", format!("`aws kms enable-key --key-id {id}`")),
        "PendingDeletion" => problem(
            "about to be deleted, and the secrets with it",
            format!(
                "now: `aws kms cancel-key-deletion --key-id {id}`, then `aws kms enable-key` with the same id"
            ),
        ),
        "Creating" | "Updating" => could_not_check(format!("it is `{}`", key.state)),
        other => problem(format!("`{other}`"), format!("see `aws kms describe-key --key-id {alias}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Asked;
    use super::super::finding::State::{CouldNotCheck, Problem};
    use super::super::healthy::{expect, facts};
    use super::*;

    #[test]
    fn a_key_that_can_not_be_used_is_a_problem() {
        let mut facts = facts();
        for (state, found) in [
            ("Disabled", "disabled"),
            ("PendingDeletion", "about to be deleted"),
            ("Unavailable", "`Unavailable`"),
        ] {
            facts.key = Asked::Is(Key { state: state.to_owned() });
            expect(&examine(&facts), "alias/audit", Problem, found);
        }
        facts.key = Asked::Absent("NotFoundException".to_owned());
        expect(&examine(&facts), "alias/audit", Problem, "no such key");
        facts.key = Asked::Unread("AccessDeniedException".to_owned());
        expect(&examine(&facts), "alias/audit", CouldNotCheck, "AccessDeniedException");
    }
}
