//! What is refused, and with which words: every file of `events/invalid` gets exactly the answer it shows, and
//! every code there is has a file.

use crate::http::{run_scripts, shared};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use stele::Code;

/// Codes without a file, and why.
const WITHOUT_FILE: [(Code, &str); 5] = [
    (Code::ExpiredToken, "belongs to viewer tokens, which are not there yet"),
    (Code::RateLimited, "the local runner limits nobody"),
    (Code::Internal, "a fault of ours: no request makes one"),
    (Code::Corrupt, "needs damaged storage: see the tamper tests"),
    (Code::Unavailable, "needs a store that fails: see the fault tests"),
];

/// Sources that find fault with places of a request.
const SOURCES: [&str; 17] = [
    "functions/stele/src/event/mod.rs",
    "functions/stele/src/event/batch.rs",
    "functions/stele/src/event/checks.rs",
    "functions/stele/src/event/fields.rs",
    "functions/stele/src/json/mod.rs",
    "functions/stele/src/json/reader.rs",
    "functions/stele/src/query/parse.rs",
    "functions/stele/src/query/request.rs",
    "functions/stele/src/bundle.rs",
    "functions/stele/src/routes.rs",
    "functions/adapters/src/acceptor.rs",
    "functions/query/src/body.rs",
    "functions/query/src/filter.rs",
    "functions/query/src/keys.rs",
    "functions/query/src/retention.rs",
    "functions/query/src/holds.rs",
    "functions/query/src/exports.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_invalid_request_gets_exactly_the_answer_written_down() {
    let files = run_scripts(shared(), &root().join("events/invalid"));
    assert!(files >= 50, "only {files} files");
}

#[test]
fn every_code_and_every_rule_has_a_file() {
    let mut shown = String::new();
    for folder in ["events/invalid", "tests/scripts"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            shown.push_str(&fs::read_to_string(entry.unwrap().path()).unwrap());
        }
    }
    let missing = |code: &str| !shown.contains(&format!("\"code\": \"{code}\""));
    for code in Code::ALL {
        let excused = WITHOUT_FILE.iter().any(|(without, _)| without == code);
        assert_eq!(missing(code.as_str()), excused, "`{}`", code.as_str());
    }
    let mut rules = BTreeSet::new();
    for source in SOURCES {
        let text = fs::read_to_string(root().join(source)).unwrap();
        let text = text.split("\n#[cfg(test)]").next().unwrap();
        let found = rules_of(text);
        assert!(!found.is_empty(), "no rule found in {source}: has it moved?");
        rules.extend(found);
    }
    assert!(rules.len() >= 30, "{rules:?}");
    let without: Vec<_> = rules.iter().filter(|rule| missing(rule)).collect();
    assert!(without.is_empty(), "no file shows {without:?}");
}

/// The codes a source gives to places of a request: second arguments of the functions that make them, and arms
/// of a `code` function.
fn rules_of(source: &str) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    let is_code = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
    let calls = [
        "refuse(",
        "refuse_with(",
        "refuse_at(",
        "refused(",
        "problem(",
        "problem_with(",
        "bad_parameter(",
        "wrong(",
    ];
    for call in calls {
        for (at, _) in source.match_indices(call) {
            if let Some(second) = second_argument(&source[at + call.len()..])
                && let Some(code) = second.strip_prefix('"').and_then(|s| s.strip_suffix('"'))
                && is_code(code)
            {
                rules.insert(code.to_owned());
            }
        }
    }
    for part in source.split("code: \"").skip(1).chain(source.split("Rule::").skip(1).filter_map(arm)) {
        let code = part.split('"').next().unwrap_or_default();
        if is_code(code) {
            rules.insert(code.to_owned());
        }
    }
    rules
}

fn arm(text: &str) -> Option<&str> {
    text.split_once(" => \"")
        .filter(|(name, _)| name.bytes().all(|c| c.is_ascii_alphabetic()))
        .map(|(_, code)| code)
}

fn second_argument(text: &str) -> Option<&str> {
    let (mut depth, mut in_string, mut start) = (0, false, None);
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth > 0 => depth -= 1,
            ',' | ')' if depth == 0 => match start {
                None if c == ',' => start = Some(at + 1),
                None => return None,
                Some(start) => return text.get(start..at).map(str::trim),
            },
            _ => {}
        }
    }
    None
}
