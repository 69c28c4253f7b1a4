//! The archive's bucket policy, by what it means: whether a call is denied to everybody, whatever the statements are
//! called and however they are cut.
//!
//! A statement with one more condition than expected denies less, and does not count.

use super::bucket::{TRIAL_MEND, mend};
use super::facts::{Asked, Facts};
use super::finding::{Finding, Findings, Outcome, could_not_check, ok, problem};
use serde_json::Value;
use stele::limits;

/// A part of the bucket: a key as it might be, the days its objects are locked for when they arrive, who writes there, and
/// who may lengthen locks there.
struct Place {
    prefix: &'static str,
    key: &'static str,
    lock_days: u32,
    writers: &'static [&'static str],
    lockers: &'static [&'static str],
}

/// S3 counts whole days of what remains: a lock of n days may have n - 1 left when it arrives.
const PROOF_DAYS: u32 = limits::CHECKPOINT_LOCK_DAYS - 1;

const PLACES: [Place; 8] = [
    Place {
        prefix: "segments/",
        key: "segments/tenant_id=any/log=0/00000000000000000007.parquet",
        lock_days: limits::SEGMENT_LOCK_DAYS - 1,
        writers: &["seal"],
        lockers: &["seal", "compact", "reconcile"],
    },
    Place {
        prefix: "checkpoints/",
        key: "checkpoints/tenant_id=any/log=0/00000000000000000007",
        lock_days: PROOF_DAYS,
        writers: &["seal", "compact"],
        lockers: &["seal", "compact"],
    },
    Place {
        prefix: "archive/",
        key: "archive/tenant_id=any/log=0/month=2026-01/00000000000000000007.parquet",
        // A class counts from sealing, and a segment may wait for as long as it is locked.
        lock_days: limits::CLASSES_DAYS[0] - limits::SEGMENT_LOCK_DAYS,
        writers: &["compact"],
        lockers: &["compact"],
    },
    Place {
        prefix: "tiles/",
        key: "tiles/tenant_id=any/log=0/00000000000000000007.tiles",
        lock_days: PROOF_DAYS,
        writers: &["compact"],
        lockers: &["compact"],
    },
    Place {
        prefix: "key-changes/",
        key: "key-changes/tenant_id=any/log=0/00000000000000000007.key",
        lock_days: PROOF_DAYS,
        writers: &["seal"],
        lockers: &["seal"],
    },
    Place {
        prefix: "statements/",
        key: "statements/tenant_id=any/log=0/2026-05-01T14.checkpoint",
        lock_days: PROOF_DAYS,
        writers: &["seal"],
        lockers: &["seal"],
    },
    Place {
        prefix: "keys/",
        key: "keys/0a1b2c3d.json",
        lock_days: PROOF_DAYS,
        writers: &["setup"],
        lockers: &["setup"],
    },
    Place {
        prefix: "secrets/",
        key: "secrets/signing.wrapped",
        lock_days: PROOF_DAYS,
        writers: &["setup"],
        lockers: &["setup"],
    },
];

const PUTS: [&str; 2] = ["s3:PutObject", "s3:PutObjectRetention"];

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of("archive");
    match &facts.bucket.policy {
        Asked::Is(text) => match Policy::parse(text) {
            Some(policy) => all_denials(&mut findings, &policy, facts),
            None => findings.add("policy", could_not_check("the policy can't be understood")),
        },
        Asked::Absent(_) => {
            findings.add("policy", problem("there is none: only the locks themselves still hold", mend()));
        }
        Asked::Unread(code) => findings.add("policy", could_not_check(code.clone())),
    }
    findings.into_list()
}

fn all_denials(findings: &mut Findings, policy: &Policy, facts: &Facts) {
    let bucket = facts.archive();
    let open = |actions: &[&str], when: &When| policy.open_places(&bucket, actions, &|_, tests| when(tests));

    let deletes = open(&["s3:DeleteObject", "s3:DeleteObjectVersion"], &<[Test]>::is_empty);
    findings.add("policy: deletes", denied(&deletes, "denied to everybody"));

    let overwriting = open(&["s3:PutObject"], &|tests| says(tests, "Null", "s3:if-none-match", "true"));
    findings.add("policy: overwriting", denied(&overwriting, "a put without If-None-Match is denied"));

    let insists_on =
        |mode: &str| open(&PUTS, &|tests| says(tests, "StringNotEquals", "s3:object-lock-mode", mode));
    findings.add(
        "policy: lock mode",
        lock_mode(&insists_on("COMPLIANCE"), &insists_on("GOVERNANCE"), facts.trial),
    );

    // A lock may be lengthened by little; shortened it can't be.
    let short = policy.open_places(&bucket, &["s3:PutObject"], &|place, tests| {
        only(tests, &["NumericLessThan"], "s3:object-lock-remaining-retention-days")
            .is_some_and(|values| least(values) >= Some(place.lock_days))
    });
    findings.add("policy: short locks", denied(&short, "a put with a lock that is too short is denied"));

    findings.add("policy: tls", tls(policy, &bucket));

    let foreign = |tests: &[Test]| says(tests, "StringNotEquals", "aws:PrincipalAccount", &facts.account);
    let foreign = open(&["s3:GetObject", "s3:PutObject"], &foreign);
    findings.add("policy: other accounts", denied(&foreign, "denied"));

    findings.add("policy: writers", writers(policy, facts, &bucket));

    let marks = ["s3:PutObjectTagging", "s3:PutObjectVersionTagging", "s3:PutObjectLegalHold"];
    let tagging = open(&marks, &|tests| only_roles(tests, facts, &["compact"]));
    let fine = "tags, which lifecycle goes by, and legal holds are denied to everybody but `compact`";
    findings.add("policy: tags", denied(&tagging, fine));
}

/// Nothing open is fine.
fn denied(open: &[&str], fine: &str) -> Outcome {
    match open.is_empty() {
        true => ok(fine),
        false => problem(format!("not denied in `{}`", open.join("`, `")), mend()),
    }
}

/// By where it does not insist on the one mode, and where not on the other.
fn lock_mode(compliance: &[&str], governance: &[&str], trial: bool) -> Outcome {
    match (compliance.is_empty(), governance.is_empty()) {
        (false, true) if trial => ok("a put that is not locked in GOVERNANCE is denied (trial mode)"),
        (false, true) => problem("it insists on GOVERNANCE: trial mode", TRIAL_MEND),
        _ => denied(compliance, "a put that is not locked in COMPLIANCE is denied"),
    }
}

fn tls(policy: &Policy, bucket: &str) -> Outcome {
    let in_the_clear = |tests: &[Test]| says(tests, "Bool", "aws:SecureTransport", "false");
    let on_objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"];
    let open = policy.open_places(bucket, &on_objects, &|_, tests| in_the_clear(tests));
    let on_bucket = ["s3:ListBucket", "s3:PutBucketPolicy"];
    match open.is_empty() && policy.denies_all(&on_bucket, bucket, &in_the_clear) {
        true => ok("anything without it is denied"),
        false => problem("not everything without TLS is denied", mend()),
    }
}

fn writers(policy: &Policy, facts: &Facts, bucket: &str) -> Outcome {
    let foreign = |place: &Place, tests: &[Test]| only_roles(tests, facts, place.writers);
    let mut open = policy.open_places(bucket, &["s3:PutObject"], &foreign);
    let locking = |place: &Place, tests: &[Test]| only_roles(tests, facts, place.lockers);
    open.extend(policy.open_places(bucket, &["s3:PutObjectRetention"], &locking));
    open.dedup();
    if !policy.denies_all(&["s3:PutObject"], &format!("{bucket}/elsewhere/x"), &<[Test]>::is_empty) {
        open.push("anything else");
    }
    match open.is_empty() {
        true => ok("each prefix is written and locked by its own functions alone, and nothing beside them"),
        false => problem(format!("others may write or lock in `{}`", open.join("`, `")), mend()),
    }
}

/// Whether a statement spares these roles of the installation alone.
fn only_roles(tests: &[Test], facts: &Facts, roles: &[&str]) -> bool {
    let operators = ["ArnNotEquals", "ArnNotLike", "StringNotEquals"];
    only(tests, &operators, "aws:PrincipalArn").is_some_and(|values| {
        values.iter().all(|arn| {
            let role = arn.split_once(&format!(":iam::{}:role/", facts.account)).map(|(_, role)| role);
            role.is_some_and(|role| roles.iter().any(|one| role == facts.named(one)))
        })
    })
}

// ---- a policy ----

struct Policy {
    /// The denials to everybody.
    denials: Vec<Denial>,
}

struct Denial {
    actions: Vec<String>,
    resources: Vec<String>,
    /// All resources but these.
    other_than: Vec<String>,
    tests: Vec<Test>,
}

/// One line of a statement's condition.
struct Test {
    operator: String,
    key: String,
    values: Vec<String>,
}

/// Whether a condition is as expected.
type When<'a> = dyn Fn(&[Test]) -> bool + 'a;

impl Policy {
    fn parse(text: &str) -> Option<Policy> {
        let policy: Value = serde_json::from_str(text).ok()?;
        let statements = match policy.get("Statement")? {
            Value::Array(list) => list.iter().collect(),
            one => vec![one],
        };
        Some(Policy { denials: statements.into_iter().filter_map(Denial::parse).collect() })
    }

    /// The places where not each of these actions is denied to everybody by a statement with such a condition.
    fn open_places(
        &self,
        bucket: &str,
        actions: &[&str],
        when: &dyn Fn(&Place, &[Test]) -> bool,
    ) -> Vec<&'static str> {
        let is_open = |place: &&Place| {
            !self.denies_all(actions, &format!("{bucket}/{}", place.key), &|tests| when(place, tests))
        };
        PLACES.iter().filter(is_open).map(|place| place.prefix).collect()
    }

    /// Whether each action on a resource is denied to everybody by a statement with such a condition.
    fn denies_all(&self, actions: &[&str], resource: &str, when: &When<'_>) -> bool {
        actions.iter().all(|action| {
            self.denials.iter().any(|denial| denial.is_about(action, resource) && when(&denial.tests))
        })
    }
}

impl Denial {
    /// A statement, if it denies something to everybody. `NotAction` is not understood, so it does not count.
    fn parse(statement: &Value) -> Option<Denial> {
        let member = |name| statement.get(name).map(texts).unwrap_or_default();
        let principal = statement.get("Principal")?;
        let everybody = principal == "*" || principal.get("AWS").is_some_and(|who| all_are(&texts(who), "*"));
        if statement.get("Effect")? != "Deny" || !everybody {
            return None;
        }
        let mut tests = Vec::new();
        for (operator, keys) in statement.get("Condition").and_then(Value::as_object).into_iter().flatten() {
            for (key, values) in keys.as_object()? {
                tests.push(Test { operator: operator.clone(), key: key.clone(), values: texts(values) });
            }
        }
        let (resources, other_than) = (member("Resource"), member("NotResource"));
        Some(Denial { actions: member("Action"), resources, other_than, tests })
    }

    fn is_about(&self, action: &str, resource: &str) -> bool {
        // The part of an ARN before the bucket only names the partition.
        let about = |pattern: &String| {
            let pattern = pattern.split_once(":::").map_or(pattern.as_str(), |(_, rest)| rest);
            fits(pattern, resource)
        };
        let action = action.to_ascii_lowercase();
        self.actions.iter().any(|pattern| fits(&pattern.to_ascii_lowercase(), &action))
            && match self.resources.is_empty() {
                false => self.resources.iter().any(about),
                true => !self.other_than.is_empty() && !self.other_than.iter().any(about),
            }
    }
}

/// One text or many; numbers and truth values are texts to IAM.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Bool(_) | Value::Number(_) => vec![value.to_string()],
        Value::Null | Value::Object(_) => Vec::new(),
    }
}

fn all_are(values: &[String], expected: &str) -> bool {
    !values.is_empty() && values.iter().all(|value| value == expected)
}

fn least(values: &[String]) -> Option<u32> {
    values.iter().map(|value| value.parse().unwrap_or(0)).min()
}

/// Whether a condition consists of this one line.
fn says(tests: &[Test], operator: &str, key: &str, value: &str) -> bool {
    only(tests, &[operator], key).is_some_and(|values| all_are(values, value))
}

/// The values of a condition that consists of this one line.
fn only<'a>(tests: &'a [Test], operators: &[&str], key: &str) -> Option<&'a [String]> {
    match tests {
        [test] if test.key.eq_ignore_ascii_case(key) && operators.contains(&test.operator.as_str()) => {
            Some(&test.values)
        }
        _ => None,
    }
}

/// Whether a text fits a pattern of IAM: `*` stands for any text, `?` for any one character.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` is, and where its text ends so far.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, end)) => {
                    star = Some((at, end + 1));
                    (p, t) = (at + 1, end + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{CouldNotCheck, Ok, Problem};
    use super::super::healthy::{POLICY, expect, facts};
    use super::*;

    fn of(policy: &str) -> Vec<Finding> {
        let mut facts = facts();
        facts.bucket.policy = Asked::Is(policy.to_owned());
        examine(&facts)
    }

    /// The deployed policy without the statements of a name.
    fn without(sid: &str) -> Vec<Finding> {
        let mut policy: Value = serde_json::from_str(POLICY).unwrap();
        let statements = policy["Statement"].as_array_mut().unwrap();
        let before = statements.len();
        statements.retain(|statement| statement["Sid"] != sid);
        assert_eq!(statements.len(), before - 1, "{sid}");
        of(&policy.to_string())
    }

    fn problems(found: &[Finding]) -> Vec<&str> {
        found.iter().filter(|f| f.outcome.state != Ok).map(|f| f.check.as_str()).collect()
    }

    #[test]
    fn each_statement_that_is_missing_is_missed() {
        for (sid, check) in [
            ("OnlyOverTls", "policy: tls"),
            ("OnlyThisAccount", "policy: other accounts"),
            ("NothingIsDeleted", "policy: deletes"),
            ("NothingIsOverwritten", "policy: overwriting"),
            ("NothingIsUnlocked", "policy: lock mode"),
            ("SegmentsAreLockedFor35Days", "policy: short locks"),
            ("ArchiveIsLockedForTheShortestClass", "policy: short locks"),
            ("ProofsAreLockedForTheLongestClass", "policy: short locks"),
            ("OnlySealWritesTheLog", "policy: writers"),
            ("OnlySealCompactAndReconcileLockTheLog", "policy: writers"),
            ("OnlySealAndCompactPublish", "policy: writers"),
            ("OnlyCompactWritesTheArchive", "policy: writers"),
            ("OnlySetupWritesKeys", "policy: writers"),
            ("NothingElseIsWritten", "policy: writers"),
            ("OnlyCompactTagsAndHolds", "policy: tags"),
        ] {
            assert_eq!(problems(&without(sid)), [check], "{sid}");
        }
        assert_eq!(problems(&of(POLICY)), [""; 0]);
    }

    #[test]
    fn names_do_not_matter_and_meaning_does() {
        assert_eq!(problems(&of(&POLICY.replace(r#""Sid": ""#, r#""Sid": "X"#))), [""; 0]);
        for (from, to, check) in [
            // Denies somebody only.
            (
                r#""Sid": "NothingIsDeleted", "Effect": "Deny", "Principal": "*""#,
                r#""Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}"#,
                "policy: deletes",
            ),
            // Denies a part.
            ("s3:DeleteObject*", "s3:DeleteObject", "policy: deletes"),
            // Denies the contrary.
            (r#""s3:if-none-match": "true""#, r#""s3:if-none-match": "false""#, "policy: overwriting"),
            (
                r#"{"s3:object-lock-mode": "COMPLIANCE"}"#,
                r#"{"s3:object-lock-mode": ["COMPLIANCE", "GOVERNANCE"]}"#,
                "policy: lock mode",
            ),
            // A day less.
            (r#""34""#, r#""33""#, "policy: short locks"),
            (r#""3653""#, r#""3652""#, "policy: short locks"),
            // One condition more denies less.
            (
                r#"{"Null": {"s3:if-none-match": "true"}}"#,
                r#"{"Null": {"s3:if-none-match": "true", "aws:userid": "true"}}"#,
                "policy: overwriting",
            ),
            // Somebody else's role.
            ("123456789012:role/audit-setup", "123456789012:role/other-setup", "policy: writers"),
            ("123456789012:role/audit-seal", "123456789012:role/*", "policy: writers"),
            // Whoever writes without a need to.
            (
                r#""aws:PrincipalArn": "arn:aws:iam::123456789012:role/audit-seal""#,
                r#""aws:PrincipalArn": ["arn:aws:iam::123456789012:role/audit-seal", "arn:aws:iam::123456789012:role/audit-compact"]"#,
                "policy: writers",
            ),
            ("\"s3:PutObjectVersionTagging\", ", "", "policy: tags"),
            (
                "\"aws:PrincipalAccount\": \"123456789012\"",
                "\"aws:PrincipalAccount\": \"210987654321\"",
                "policy: other accounts",
            ),
        ] {
            let changed = POLICY.replace(from, to);
            assert_ne!(changed, POLICY, "{from}");
            assert_eq!(problems(&of(&changed)), [check], "{to}");
        }
    }

    #[test]
    fn a_policy_of_trials_is_for_trials() {
        let mut facts = facts();
        facts.bucket.policy = Asked::Is(POLICY.replace("\"COMPLIANCE\"", "\"GOVERNANCE\""));
        expect(&examine(&facts), "policy: lock mode", Problem, "trial mode");
        facts.trial = true;
        expect(&examine(&facts), "policy: lock mode", Ok, "trial mode");
    }

    #[test]
    fn no_policy_is_a_problem_and_an_unreadable_one_is_unknown() {
        let mut facts = facts();
        facts.bucket.policy = Asked::Absent("NoSuchBucketPolicy".to_owned());
        expect(&examine(&facts), "policy", Problem, "there is none");
        facts.bucket.policy = Asked::Unread("AccessDenied".to_owned());
        expect(&examine(&facts), "policy", CouldNotCheck, "AccessDenied");
        facts.bucket.policy = Asked::Is("{}".to_owned());
        expect(&examine(&facts), "policy", CouldNotCheck, "understood");
    }

    #[test]
    fn patterns_fit_as_in_iam() {
        for (pattern, text) in
            [("*", ""), ("a*c", "abbc"), ("a?c", "abc"), ("s3:*", "s3:getobject"), ("a**", "a")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("a*c", "abb"), ("a?c", "ac"), ("a", "ab"), ("*b", "a")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }
}
