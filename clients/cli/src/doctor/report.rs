//! Findings, as people and as programs read them.

use super::facts::Facts;
use super::finding::{Finding, State, overall};
use crate::show::{Clean, Failure};
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;

#[derive(Serialize)]
pub(super) struct Report {
    state: State,
    installation: String,
    account: String,
    region: String,
    checked_at: String,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn of(facts: &Facts, findings: Vec<Finding>) -> Report {
        Report {
            state: overall(&findings),
            installation: facts.name.clone(),
            account: facts.account.clone(),
            region: facts.region.clone(),
            checked_at: facts.now.to_string(),
            findings,
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.state {
            State::Ok => 0,
            State::Problem => 1,
            State::CouldNotCheck => 2,
        })
    }

    pub(super) fn as_json(&self) -> Result<String, Failure> {
        serde_json::to_string_pretty(self).map_err(|e| Failure::could_not("write the findings", e))
    }

    pub(super) fn as_text(&self) -> String {
        let mut out = String::new();
        let (mut area, mut mended) = ("", None);
        for finding in &self.findings {
            // Writing to a text can't fail, here and below.
            if finding.area != area {
                area = finding.area;
                let _ = writeln!(out, "{area}");
            }
            let outcome = &finding.outcome;
            let state = outcome.state.as_str();
            let _ = writeln!(out, "  {state:<15}  {}: {}", Clean(&finding.check), Clean(&outcome.found));
            if let Some(mend) = &outcome.mend {
                let text = if mended == Some(mend) { "as above" } else { mend };
                let _ = writeln!(out, "                   mend: {}", Clean(text));
                mended = Some(mend);
            }
        }
        let count = |state| self.findings.iter().filter(|finding| finding.outcome.state == state).count();
        let problems = match count(State::Problem) {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        let _ = write!(
            out,
            "{}: `{}` in {}, account {}, at {}: {} ok, {problems}, {} could not be checked",
            self.state.as_str().to_uppercase(),
            Clean(&self.installation),
            self.region,
            self.account,
            self.checked_at,
            count(State::Ok),
            count(State::CouldNotCheck),
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Asked;
    use super::super::{examine, healthy};
    use super::*;

    fn report(facts: &Facts) -> Report {
        Report::of(facts, examine(facts))
    }

    #[test]
    fn a_problem_is_shown_with_how_to_mend_it_and_nothing_a_terminal_obeys() {
        let mut facts = healthy::facts();
        facts.bucket.versioning = Asked::Is("Sus\u{1b}pended".to_owned());
        let text = report(&facts).as_text();
        assert!(text.starts_with("archive\n  ok               object lock: on\n"), "{text}");
        let line = "  problem          versioning: `Sus\u{FFFD}pended`\n                   mend: have CloudFormation";
        assert!(text.contains(line), "{text}");
        let end = text.lines().last().unwrap_or_default();
        assert!(
            end.starts_with("PROBLEM: `audit` in eu-central-1, account 123456789012, at 2026-05-01T"),
            "{end}"
        );
        assert!(end.ends_with(" ok, 1 problem, 0 could not be checked"), "{end}");
    }

    #[test]
    fn json_has_the_state_of_all_and_of_each() {
        let json = report(&healthy::unread()).as_json().unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["state"], "could_not_check");
        let first = &json["findings"][0];
        assert_eq!(first["area"], "archive");
        assert_eq!(first["check"], "object lock");
        assert_eq!(first["state"], "could_not_check");
        assert_eq!(first["found"], "AccessDenied");
        assert!(first.get("mend").is_none());
    }

    #[test]
    fn the_exit_code_tells_the_three_apart() {
        let mut facts = healthy::facts();
        assert_eq!(report(&facts).exit_code(), ExitCode::from(0));
        facts.key = Asked::Unread("AccessDenied".to_owned());
        assert_eq!(report(&facts).exit_code(), ExitCode::from(2));
        facts.key = Asked::Absent("NotFoundException".to_owned());
        assert_eq!(report(&facts).exit_code(), ExitCode::from(1));
    }
}
