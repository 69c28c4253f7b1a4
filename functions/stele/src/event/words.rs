//! The words of an event that have a form or a list, and what somebody who missed it probably meant. A
//! suggestion is only ever made when it would itself be accepted.

use crate::limits::ID_BYTES_MAX;
use crate::time::{TimeError, Timestamp};

/// `actor.type`, the default first.
pub(crate) const ACTOR_TYPES: [&str; 7] =
    ["user", "api_key", "service", "system", "ai_agent", "support", "anonymous"];
/// `outcome`, the default first.
pub(crate) const OUTCOMES: [&str; 3] = ["success", "failure", "denied"];
/// Parts of an action.
const PARTS_MAX: usize = 5;
/// Actions beginning so are the log's own.
pub(super) const OWN_ACTIONS: &str = "stele.";

/// Whether a text is an action: `^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){1,4}$`, at most 256 bytes (it is a key of
/// the hot store's index).
pub(super) fn is_action(text: &str) -> bool {
    let (mut parts, mut begins) = (1, true);
    for c in text.bytes() {
        match (begins, c) {
            (_, b'a'..=b'z') => begins = false,
            (false, b'0'..=b'9' | b'_') => {}
            (false, b'.') => (parts, begins) = (parts + 1, true),
            _ => return false,
        }
    }
    !begins && (2..=PARTS_MAX).contains(&parts) && text.len() <= ID_BYTES_MAX
}

/// Whether a text is one part of an action.
pub(super) fn is_word(text: &str) -> bool {
    let b = text.as_bytes();
    b.first().is_some_and(u8::is_ascii_lowercase)
        && b.iter().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Verbs that stand first in names like `delete-user`.
const VERBS: [&str; 40] = [
    "accept",
    "activate",
    "add",
    "approve",
    "archive",
    "assign",
    "cancel",
    "change",
    "close",
    "create",
    "deactivate",
    "delete",
    "disable",
    "download",
    "edit",
    "enable",
    "export",
    "get",
    "grant",
    "import",
    "invite",
    "list",
    "lock",
    "merge",
    "move",
    "open",
    "publish",
    "read",
    "reject",
    "remove",
    "rename",
    "reset",
    "restore",
    "revoke",
    "send",
    "share",
    "unlock",
    "update",
    "upload",
    "view",
];

/// The action somebody probably meant.
pub(super) fn suggest_action(text: &str, resource_type: Option<&str>) -> Option<String> {
    let parts: Vec<Vec<String>> =
        text.split(['.', ':', '/']).map(words).filter(|words| !words.is_empty()).collect();
    let suggestion = match parts.as_slice() {
        [] => return None,
        [words] => match words.as_slice() {
            [verb] => format!("{}.{verb}", self::words(resource_type?).join("_")),
            [verb, object @ ..] if VERBS.contains(&verb.as_str()) => format!("{}.{verb}", object.join("_")),
            [object, verb @ ..] => format!("{object}.{}", verb.join("_")),
            [] => return None,
        },
        parts => {
            let (first, rest) = parts.split_at(parts.len().min(PARTS_MAX - 1));
            let mut joined: Vec<String> = first.iter().map(|words| words.join("_")).collect();
            if !rest.is_empty() {
                joined.push(rest.concat().join("_"));
            }
            joined.join(".")
        }
    };
    (is_action(&suggestion) && suggestion != text && !suggestion.starts_with(OWN_ACTIONS))
        .then_some(suggestion)
}

/// The words of `userDeleted`, `HTTPRequest`, `delete-user`, in lower case.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let chars: Vec<char> = text.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at));
        let next = chars.get(at + 1);
        let begins = c.is_ascii_uppercase()
            && (before.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                || before.is_some_and(char::is_ascii_uppercase)
                    && next.is_some_and(char::is_ascii_lowercase));
        if (begins || !c.is_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The listed word somebody probably meant: the same but for case and punctuation, nearly the same, or with the
/// same beginning.
pub(super) fn suggest_word<'w>(text: &str, list: &[&'w str]) -> Option<&'w str> {
    const LENGTH_MAX: usize = 32;
    if text.len() > LENGTH_MAX {
        return None;
    }
    let plain = |text: &str| -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let meant = plain(text);
    let near = list.iter().map(|word| (distance(&meant, &plain(word)), *word)).min_by_key(|(d, _)| *d);
    match near {
        Some((d, word)) if d <= meant.len() / 3 => return Some(word),
        _ => {}
    }
    let begins = |word: &&&str| meant.len() >= 3 && word.as_bytes().get(..3) == meant.get(..3);
    list.iter().find(begins).copied()
}

/// Levenshtein's distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = cost;
        }
    }
    row[b.len()]
}

/// The time somebody probably meant by a text that is none.
pub(super) fn suggest_time(text: &str, why: TimeError) -> Option<String> {
    const LENGTH_MAX: usize = 40;
    let text = text.trim();
    if text.len() > LENGTH_MAX || !text.is_ascii() {
        return None;
    }
    let tried = match why {
        TimeError::NoOffset => format!("{text}Z"),
        TimeError::Form if text.len() == 10 && text.as_bytes()[4] == b'-' => format!("{text}T00:00:00Z"),
        TimeError::Form => {
            if let Ok(number) = text.parse::<u64>() {
                return suggest_epoch(number);
            }
            text.replacen(' ', "T", 1).replace(" UTC", "Z").replace(' ', "").replace(',', ".")
        }
        TimeError::NoSuchTime | TimeError::OutOfRange => return None,
    };
    [tried.clone(), format!("{tried}Z"), format!("{tried}:00")]
        .iter()
        .find_map(|tried| Timestamp::parse(tried).ok())
        .map(|time| time.to_string())
}

/// The time of a count of seconds or milliseconds since 1970.
pub(super) fn suggest_epoch(number: u64) -> Option<String> {
    // As milliseconds this is March 1973, as seconds the year 5138.
    const MILLISECONDS_FROM: u64 = 100_000_000_000;
    let ms = if number < MILLISECONDS_FROM { number * 1000 } else { number };
    (ms <= Timestamp::MAX.ms()).then(|| Timestamp::from_ms(ms).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn near_misses_get_the_action_that_was_meant() {
        for (sent, resource_type, meant) in [
            ("userDeleted", None, Some("user.deleted")),
            ("delete-user", None, Some("user.delete")),
            ("User.Created", None, Some("user.created")),
            ("user:login_failed", None, Some("user.login_failed")),
            ("user_deleted", None, Some("user.deleted")),
            ("HTTPRequest.Sent", None, Some("http_request.sent")),
            ("Deleted", Some("Invoice"), Some("invoice.deleted")),
            ("Deleted", None, None),
            ("a.b.c.d.e.f", None, Some("a.b.c.d.e_f")),
            ("stele.keys-created", None, None),
            ("löschen.Datei", None, None),
            ("…", None, None),
        ] {
            assert_eq!(suggest_action(sent, resource_type).as_deref(), meant, "{sent}");
        }
    }

    #[test]
    fn near_misses_get_the_word_that_was_meant() {
        for (sent, meant) in [("SUCCESS", "success"), ("succeeded", "success"), ("failed", "failure")] {
            assert_eq!(suggest_word(sent, &OUTCOMES), Some(meant));
        }
        assert_eq!(suggest_word("API-Key", &ACTOR_TYPES), Some("api_key"));
        assert_eq!(suggest_word("zebra", &ACTOR_TYPES), None);
    }

    #[test]
    fn near_misses_get_the_time_that_was_meant() {
        for (sent, meant) in [
            ("2026-05-01", Some("2026-05-01T00:00:00.000Z")),
            ("2026-05-01T14:32:00", Some("2026-05-01T14:32:00.000Z")),
            ("2026-05-01 14:32:00+02:00", Some("2026-05-01T12:32:00.000Z")),
            ("2026-05-01 14:32:00 UTC", Some("2026-05-01T14:32:00.000Z")),
            ("1777645920", Some("2026-05-01T14:32:00.000Z")),
            ("1777645920000", Some("2026-05-01T14:32:00.000Z")),
            ("yesterday", None),
            ("2026-02-30T00:00:00Z", None),
        ] {
            let why = Timestamp::parse(sent).unwrap_err();
            assert_eq!(suggest_time(sent, why).as_deref(), meant, "{sent}");
        }
    }

    proptest! {
        #[test]
        fn suggestions_can_be_sent(text in "\\PC{0,30}", resource_type in proptest::option::of("\\PC{0,10}")) {
            if let Some(action) = suggest_action(&text, resource_type.as_deref()) {
                prop_assert!(is_action(&action));
            }
            let _ = suggest_word(&text, &ACTOR_TYPES);
            let _ = suggest_time(&text, TimeError::Form);
        }
    }
}
