//! The archive's settings: what makes a written object stay.

use super::facts::{Facts, ObjectLock};
use super::finding::{Finding, Findings, Outcome, ok, problem};
use stele::limits;

/// A setting can only have changed past CloudFormation, which a plain deployment does not look at.
pub(super) fn put_back(template: &str) -> String {
    format!(
        "have CloudFormation put it back: a change set of the stack of infra/{template} with `--deployment-mode \
         REVERT_DRIFT` and its parameters as they are; then find out in CloudTrail who changed it"
    )
}

pub(super) fn mend() -> String {
    put_back("stateful.yaml")
}

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let bucket = &facts.bucket;
    let mut findings = Findings::of("archive");
    findings.add("object lock", bucket.object_lock.judge(|| problem("off", mend()), object_lock));
    let default = |lock: &ObjectLock| default_lock(lock, facts.trial);
    findings.add("default lock", bucket.object_lock.judge(|| problem("none", mend()), default));
    findings.add(
        "versioning",
        bucket.versioning.judge(
            || problem("there is no such bucket", mend()),
            |status| match status.as_str() {
                "Enabled" => ok("enabled"),
                "" => problem("never enabled", mend()),
                other => problem(format!("`{other}`"), mend()),
            },
        ),
    );
    let public = bucket.public_access_block.judge(|| problem("nothing is blocked", mend()), public_access);
    findings.add("public access", public);
    findings.add(
        "encryption",
        bucket.encryption.judge(|| problem("none by default", mend()), |used| encryption(used)),
    );
    findings.into_list()
}

fn object_lock(lock: &ObjectLock) -> Outcome {
    match lock.is_enabled {
        true => ok("on"),
        false => problem("off", mend()),
    }
}

/// It only matters once the policy is gone; then it is all there is.
fn default_lock(lock: &ObjectLock, trial: bool) -> Outcome {
    let Some((mode, days)) = &lock.default else {
        return problem("none, should the policy be gone", mend());
    };
    let found = format!("{mode}, {days} days");
    let enough = u32::try_from(*days).is_ok_and(|days| days >= limits::SEGMENT_LOCK_DAYS);
    match mode.as_str() {
        "COMPLIANCE" if enough => ok(found),
        "GOVERNANCE" if enough && trial => ok(format!("{found} (trial mode)")),
        "GOVERNANCE" if enough => problem(format!("{found}: trial mode"), TRIAL_MEND),
        _ => problem(found, mend()),
    }
}

pub(super) const TRIAL_MEND: &str = "an administrator can remove what is locked in this mode: deploy with \
                                     LockMode=COMPLIANCE, or say --trial if this is one";

pub(super) fn public_access(blocked: &[bool; 4]) -> Outcome {
    const SETTINGS: [&str; 4] =
        ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
    let open: Vec<&str> =
        SETTINGS.iter().zip(blocked).filter(|(_, on)| !**on).map(|(name, _)| *name).collect();
    match open.is_empty() {
        true => ok("blocked in all four ways"),
        false => problem(format!("off: {}", open.join(", ")), mend()),
    }
}

pub(super) fn encryption(algorithms: &[String]) -> Outcome {
    match algorithms {
        [] => problem("none by default", mend()),
        all if all.iter().all(|one| one == "AES256") => ok("AES256, with keys of S3"),
        all => problem(
            format!("`{}`: whoever destroys the key destroys the evidence under it", all.join("`, `")),
            mend(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Asked;
    use super::super::finding::State::{CouldNotCheck, Ok, Problem};
    use super::super::healthy::{expect, facts};
    use super::*;

    #[test]
    fn every_setting_that_is_off_is_a_problem() {
        let mut facts = facts();
        facts.bucket.object_lock = Asked::Is(ObjectLock { is_enabled: false, default: None });
        facts.bucket.versioning = Asked::Is("Suspended".to_owned());
        facts.bucket.public_access_block = Asked::Is([true, true, false, true]);
        facts.bucket.encryption = Asked::Is(vec!["aws:kms".to_owned()]);
        let found = examine(&facts);
        expect(&found, "object lock", Problem, "off");
        expect(&found, "default lock", Problem, "none");
        expect(&found, "versioning", Problem, "`Suspended`");
        expect(&found, "public access", Problem, "off: BlockPublicPolicy");
        expect(&found, "encryption", Problem, "`aws:kms`");
    }

    #[test]
    fn a_setting_that_was_never_made_is_a_problem_and_one_that_may_not_be_read_is_unknown() {
        let mut facts = facts();
        facts.bucket.object_lock = Asked::Absent("ObjectLockConfigurationNotFoundError".to_owned());
        facts.bucket.public_access_block = Asked::Absent("NoSuchPublicAccessBlockConfiguration".to_owned());
        facts.bucket.versioning = Asked::Is(String::new());
        facts.bucket.encryption = Asked::Unread("AccessDenied".to_owned());
        let found = examine(&facts);
        expect(&found, "object lock", Problem, "off");
        expect(&found, "public access", Problem, "nothing is blocked");
        expect(&found, "versioning", Problem, "never enabled");
        expect(&found, "encryption", CouldNotCheck, "AccessDenied");
    }

    #[test]
    fn a_default_lock_that_can_be_lifted_is_for_trials() {
        let mut facts = facts();
        let lock = |mode: &str, days| ObjectLock { is_enabled: true, default: Some((mode.to_owned(), days)) };
        facts.bucket.object_lock = Asked::Is(lock("GOVERNANCE", 35));
        expect(&examine(&facts), "default lock", Problem, "trial mode");
        facts.trial = true;
        expect(&examine(&facts), "default lock", Ok, "trial mode");
        facts.bucket.object_lock = Asked::Is(lock("COMPLIANCE", 34));
        expect(&examine(&facts), "default lock", Problem, "34 days");
    }
}
