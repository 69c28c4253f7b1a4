//! What a check found, and how to mend it.

use serde::Serialize;

/// Of many so many are named, the others counted.
const NAMED_MAX: usize = 5;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Ok,
    Problem,
    CouldNotCheck,
}

impl State {
    /// As people read it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Problem => "problem",
            State::CouldNotCheck => "could not check",
        }
    }
}

/// What was found. A problem says how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Outcome {
    pub(super) state: State,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

pub(super) fn ok(found: impl Into<String>) -> Outcome {
    Outcome { state: State::Ok, found: found.into(), mend: None }
}

pub(super) fn problem(found: impl Into<String>, mend: impl Into<String>) -> Outcome {
    Outcome { state: State::Problem, found: found.into(), mend: Some(mend.into()) }
}

pub(super) fn could_not_check(why: impl Into<String>) -> Outcome {
    Outcome { state: State::CouldNotCheck, found: why.into(), mend: None }
}

/// A check and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What part of the installation.
    pub(super) area: &'static str,
    pub(super) check: String,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// The findings of one part.
pub(super) struct Findings {
    area: &'static str,
    list: Vec<Finding>,
}

impl Findings {
    pub(super) fn of(area: &'static str) -> Findings {
        Findings { area, list: Vec::new() }
    }

    pub(super) fn add(&mut self, check: impl Into<String>, outcome: Outcome) {
        self.list.push(Finding { area: self.area, check: check.into(), outcome });
    }

    pub(super) fn into_list(self) -> Vec<Finding> {
        self.list
    }
}

/// The state of all: a problem outweighs what could not be checked, and nothing found is not green.
pub(super) fn overall(findings: &[Finding]) -> State {
    let any = |state| findings.iter().any(|finding| finding.outcome.state == state);
    if any(State::Problem) {
        State::Problem
    } else if any(State::CouldNotCheck) || findings.is_empty() {
        State::CouldNotCheck
    } else {
        State::Ok
    }
}

/// Some texts as one.
pub(super) fn listed(all: &[String]) -> String {
    let named = all.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    match all.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_counted_and_not_listed() {
        let all: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(listed(&all), "0; 1; 2; 3; 4; and 2 more");
    }
}
