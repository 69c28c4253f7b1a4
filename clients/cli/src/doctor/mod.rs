//! Doctor: whether a deployed installation is as it was deployed, and whether it keeps up.
//!
//! Facts are asked for first and judged then; what judges them asks nothing. It changes nothing, and does not prove
//! what the logs say: that is for `stele verify`.

#[cfg(feature = "aws")]
mod finding;
#[cfg(feature = "aws")]
mod facts;
#[cfg(feature = "aws")]
mod bucket;
#[cfg(feature = "aws")]
mod policy;
#[cfg(feature = "aws")]
mod lifecycle;
#[cfg(feature = "aws")]
mod objects;
#[cfg(feature = "aws")]
mod exports;
#[cfg(feature = "aws")]
mod tables;
#[cfg(feature = "aws")]
mod key;
#[cfg(feature = "aws")]
mod queues;
#[cfg(feature = "aws")]
mod functions;
#[cfg(feature = "aws")]
mod alarms;
#[cfg(feature = "aws")]
mod logs;
#[cfg(feature = "aws")]
mod ask;
#[cfg(feature = "aws")]
mod report;
#[cfg(all(feature = "aws", test))]
mod healthy;

use crate::cloud::Place;
use crate::show::Failure;
use clap::Args;
use std::process::ExitCode;

/// Checks an installation in AWS: locks, policies, tables, queues, functions, alarms, and how far the logs are
#[derive(Args, Debug)]
#[command(
    after_help = "Exit code: 0 all is well, 1 there is a problem, 2 there is none, but not everything could be \
                        checked."
)]
pub(crate) struct Doctor {
    /// Name of the installation
    #[arg(long, env = "STELE_INSTALLATION", default_value = "stele", value_name = "NAME")]
    installation: String,
    #[command(flatten)]
    place: Place,
    /// This is a trial: locks that an administrator can lift (LockMode=GOVERNANCE) are no problem
    #[arg(long)]
    trial: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it; the worst finding becomes the exit code.
#[cfg(feature = "aws")]
pub(crate) fn run(args: &Doctor) -> Result<ExitCode, Failure> {
    let facts = crate::runtime()?.block_on(async {
        let cloud = crate::cloud::Cloud::open(&args.installation, &args.place).await?;
        Ok::<_, Failure>(ask::facts(&cloud, args.trial).await)
    })?;
    let report = report::Report::of(&facts, examine(&facts));
    match args.json {
        true => crate::show::print(report.as_json()?)?,
        false => crate::show::print(report.as_text())?,
    }
    Ok(report.exit_code())
}

#[cfg(not(feature = "aws"))]
pub(crate) fn run(args: &Doctor) -> Result<ExitCode, Failure> {
    let Doctor { installation: _, place: _, trial: _, json: _ } = args;
    Err(crate::cloud::without_aws())
}

/// All checks.
#[cfg(feature = "aws")]
fn examine(facts: &facts::Facts) -> Vec<finding::Finding> {
    let checks: [fn(&facts::Facts) -> Vec<finding::Finding>; 11] = [
        bucket::examine,
        policy::examine,
        lifecycle::examine,
        objects::examine,
        exports::examine,
        tables::examine,
        key::examine,
        queues::examine,
        functions::examine,
        alarms::examine,
        logs::examine,
    ];
    checks.iter().flat_map(|check| check(facts)).collect()
}

#[cfg(all(feature = "aws", test))]
mod tests {
    use super::finding::{Finding, State, overall};
    use super::*;

    fn states(findings: &[Finding]) -> Vec<State> {
        findings.iter().map(|finding| finding.outcome.state).collect()
    }

    #[test]
    fn what_is_as_deployed_is_green_throughout() {
        let findings = examine(&healthy::facts());
        let wrong: Vec<&Finding> = findings.iter().filter(|f| f.outcome.state != State::Ok).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(overall(&findings), State::Ok);
    }

    #[test]
    fn no_two_checks_have_one_name() {
        let mut names: Vec<String> =
            examine(&healthy::facts()).into_iter().map(|finding| finding.check).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn what_may_not_be_read_is_never_green() {
        let findings = examine(&healthy::unread());
        let green: Vec<&Finding> =
            findings.iter().filter(|f| f.outcome.state != State::CouldNotCheck).collect();
        assert!(green.is_empty(), "{green:#?}");
        // The policy is one check when it can't be read, and one for each denial when it can.
        let (all, some) = (examine(&healthy::facts()), findings);
        let missing: Vec<&str> = all
            .iter()
            .map(|finding| finding.check.as_str())
            .filter(|check| {
                !check.starts_with("policy") && some.iter().all(|finding| finding.check != *check)
            })
            .collect();
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn nothing_found_is_not_green_and_a_problem_outweighs_the_rest() {
        assert_eq!(overall(&[]), State::CouldNotCheck);
        let mut facts = healthy::facts();
        facts.key = facts::Asked::Unread("AccessDenied".to_owned());
        assert_eq!(overall(&examine(&facts)), State::CouldNotCheck);
        facts.bucket.versioning = facts::Asked::Is("Suspended".to_owned());
        let findings = examine(&facts);
        assert_eq!(overall(&findings), State::Problem);
        assert!(states(&findings).contains(&State::CouldNotCheck));
    }
}
