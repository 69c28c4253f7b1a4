//! Policies (<https://c2sp.org/tlog-policy>): which logs are known, which witnesses, and how many of them must have cosigned
//! a checkpoint for it to count.
//!
//! In one point it takes more than the specification: logs may share a public key if their names differ, as those of one
//! installation do. Two witnesses never may, since each would count.

use super::cosignature::CosignerKey;
use super::note::{Note, VerifierKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Lines of a policy at the most.
const LINES_MAX: usize = 1_000;
/// The quorum that asks for nobody.
const NONE: &str = "none";

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    witnesses: Vec<Witness>,
    groups: BTreeMap<String, Group>,
    quorum: String,
}

/// A witness as a policy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its name in the policy.
    pub name: String,
    /// Its key.
    pub key: CosignerKey,
    /// Where it takes checkpoints.
    pub url: Option<String>,
}

#[derive(Clone, Debug)]
struct Group {
    needed: usize,
    members: Vec<String>,
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for PolicyError {}

/// What a policy says of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether enough witnesses have cosigned.
    pub is_satisfied: bool,
    /// Who has, and when by their own clock, in seconds since 1970.
    pub cosigned: Vec<(String, u64)>,
    /// Who has not.
    pub absent: Vec<String>,
    /// Whose cosignature is claimed and wrong.
    pub bad: Vec<String>,
}

impl Judged {
    /// Each witness that has cosigned, with the time.
    pub fn shown(&self) -> Vec<String> {
        let shown = |(name, seconds): &(String, u64)| {
            let at = crate::time::Timestamp::from_ms(seconds.saturating_mul(1000));
            format!("{name} at {at}")
        };
        self.cosigned.iter().map(shown).collect()
    }

    /// Who has not, in one line.
    pub fn missing(&self) -> String {
        self.absent.join(", ")
    }
}

impl Policy {
    /// Parses a policy.
    ///
    /// # Errors
    /// The first line that is wrong, and why.
    pub fn parse(text: &str) -> Result<Policy, PolicyError> {
        let mut policy = Policy {
            logs: Vec::new(),
            witnesses: Vec::new(),
            groups: BTreeMap::new(),
            quorum: String::new(),
        };
        let mut grouped = BTreeSet::new();
        let mut last = 0;
        for (line, at) in text.split('\n').zip(1..) {
            last = at;
            let wrong = |why: String| PolicyError { line: at, why };
            if at > LINES_MAX {
                return Err(wrong(format!("more than {LINES_MAX} lines")));
            }
            if let Some(c) = line.chars().find(|c| (*c < ' ' && *c != '\t') || *c == '\u{7f}') {
                return Err(wrong(format!("the control character U+{:04X}", c as u32)));
            }
            let items: Vec<&str> = line.split([' ', '\t']).filter(|item| !item.is_empty()).collect();
            match items.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["log", key] | ["log", key, _] => {
                    let key = VerifierKey::parse(key).map_err(|e| wrong(e.to_string()))?;
                    if policy.logs.iter().any(|log| log.public() == key.public() && log.name() == key.name())
                    {
                        return Err(wrong("a log that is there already".to_owned()));
                    }
                    policy.logs.push(key);
                }
                ["witness", name, key] | ["witness", name, key, _] => {
                    policy.free(name).map_err(wrong)?;
                    let parsed = CosignerKey::parse(key)
                        .ok_or_else(|| wrong(format!("`{key}` is no key of a witness (type 0x04)")))?;
                    if policy.witnesses.iter().any(|witness| witness.key.public() == parsed.public()) {
                        return Err(wrong("a witness whose key is there already".to_owned()));
                    }
                    let url = items.get(3).map(|url| (*url).to_owned());
                    policy.witnesses.push(Witness { name: (*name).to_owned(), key: parsed, url });
                }
                ["group", name, needed, members @ ..] if !members.is_empty() => {
                    policy.free(name).map_err(wrong)?;
                    for member in members {
                        policy.defined(member).map_err(wrong)?;
                        if !grouped.insert((*member).to_owned()) {
                            return Err(wrong(format!("`{member}` is a member already")));
                        }
                    }
                    let needed = match *needed {
                        "any" => Some(1),
                        "all" => Some(members.len()),
                        digits => digits.parse().ok().filter(|n: &usize| n.to_string() == digits),
                    };
                    let needed = needed.filter(|n| (1..=members.len()).contains(n)).ok_or_else(|| {
                        wrong(format!("a group needs `any`, `all` or a number from 1 to {}", members.len()))
                    })?;
                    let members = members.iter().map(|member| (*member).to_owned()).collect();
                    policy.groups.insert((*name).to_owned(), Group { needed, members });
                }
                ["quorum", name] => {
                    if !policy.quorum.is_empty() {
                        return Err(wrong("a second quorum".to_owned()));
                    }
                    if *name != NONE {
                        policy.defined(name).map_err(wrong)?;
                    }
                    policy.quorum = (*name).to_owned();
                }
                [first, ..] => {
                    return Err(wrong(format!(
                        "`{first}` begins no line of this form: there are `log <vkey> [<url>]`, `witness <name> <vkey> [<url>]`, \
                         `group <name> <any|all|k> <name>…` and `quorum <name|none>`"
                    )));
                }
            }
        }
        match policy.quorum.is_empty() {
            true => Err(PolicyError { line: last, why: "no line `quorum <name|none>`".to_owned() }),
            false => Ok(policy),
        }
    }

    /// The logs it knows.
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// The witnesses it knows.
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Whether it asks for any witness at all.
    pub fn asks_for_witnesses(&self) -> bool {
        self.quorum != NONE
    }

    /// What it says of a signed checkpoint. Whether the log has signed it is not its question.
    pub fn judge(&self, note: &Note) -> Judged {
        let (mut cosigned, mut absent, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        for witness in &self.witnesses {
            match witness.key.cosigned(note) {
                Ok(Some(seconds)) => cosigned.push((witness.name.clone(), seconds)),
                Ok(None) => absent.push(witness.name.clone()),
                Err(error) => bad.push(error.to_string()),
            }
        }
        let have: BTreeSet<&str> = cosigned.iter().map(|(name, _)| name.as_str()).collect();
        let is_satisfied = self.quorum == NONE || self.holds(&self.quorum, &have);
        Judged { is_satisfied, cosigned, absent, bad }
    }

    fn holds(&self, name: &str, have: &BTreeSet<&str>) -> bool {
        match self.groups.get(name) {
            // Members stand above their group, so that this ends.
            Some(group) => {
                group.members.iter().filter(|member| self.holds(member, have)).count() >= group.needed
            }
            None => have.contains(name),
        }
    }

    fn is_known(&self, name: &str) -> bool {
        self.groups.contains_key(name) || self.witnesses.iter().any(|witness| witness.name == name)
    }

    fn free(&self, name: &str) -> Result<(), String> {
        match name == NONE || self.is_known(name) {
            true => Err(format!("the name `{name}` is taken")),
            false => Ok(()),
        }
    }

    fn defined(&self, name: &str) -> Result<(), String> {
        match self.is_known(name) {
            true => Ok(()),
            false => Err(format!("no witness or group `{name}` above this line")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::{Checkpoint, Origin};
    use super::super::cosignature::Cosigner;
    use super::super::hash::{TreeSize, leaf_hash};
    use super::super::note::KeyName;
    use super::*;

    fn witness(n: u8) -> Cosigner {
        Cosigner::new(KeyName::parse(&format!("witness.example/w{n}")).unwrap(), &[n; 32])
    }

    fn policy(rest: &str) -> Result<Policy, PolicyError> {
        let witnesses: String =
            (1..=4).map(|n| format!("witness W{n} {} https://w{n}.example\n", witness(n).key())).collect();
        Policy::parse(&format!("# a comment\n{witnesses}\n{rest}"))
    }

    fn cosigned_by(witnesses: &[u8]) -> Note {
        let origin = Origin::parse("log.example/1").unwrap();
        let checkpoint = Checkpoint::new(origin.clone(), TreeSize::new(7), leaf_hash(b"x"));
        let note = Note::parse(checkpoint.sign(&origin.signer(&[9; 32])).unwrap()).unwrap();
        let more = witnesses.iter().map(|n| witness(*n).cosign(note.text(), 1_800_000_000));
        let signatures = note.signatures().iter().cloned().chain(more).collect();
        Note::new(note.text().to_owned(), signatures).unwrap()
    }

    #[test]
    fn a_quorum_is_as_many_as_it_says_of_those_it_names() {
        let nested = policy("group X 2 W1 W2 W3\ngroup all-of-it all X W4\nquorum all-of-it\n").unwrap();
        for (by, holds) in [
            (&[][..], false),
            (&[1, 2], false),
            (&[1, 4], false),
            (&[1, 3, 4], true),
            (&[1, 2, 3, 4], true),
            (&[2, 2, 4], false),
        ] {
            let judged = nested.judge(&cosigned_by(by));
            assert_eq!(judged.is_satisfied, holds, "{by:?}");
            assert_eq!(judged.cosigned.len() + judged.absent.len(), 4);
        }
        assert!(policy("quorum none").unwrap().judge(&cosigned_by(&[])).is_satisfied);
        let one = policy("quorum W2").unwrap();
        assert!(one.judge(&cosigned_by(&[2])).is_satisfied && !one.judge(&cosigned_by(&[1])).is_satisfied);
    }

    #[test]
    fn a_wrong_cosignature_is_told_and_does_not_count() {
        let good = cosigned_by(&[1]);
        let other = cosigned_by(&[2]);
        let moved = super::super::note::NoteSignature::new(
            witness(1).key().name().clone(),
            witness(1).key().id(),
            other.signatures()[1].bytes().to_vec(),
        );
        let forged =
            Note::new(good.text().to_owned(), vec![good.signatures()[0].clone(), moved.unwrap()]).unwrap();
        let judged = policy("quorum W1").unwrap().judge(&forged);
        assert!(!judged.is_satisfied && judged.bad.len() == 1, "{judged:?}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (rest, line) in [
            ("group X 3 W1 W2\nquorum X", 7),
            ("group X 0 W1\nquorum X", 7),
            ("group X 01 W1\nquorum X", 7),
            ("group X any\nquorum X", 7),
            ("group X any W9\nquorum X", 7),
            ("group X any W1\ngroup Y any W1\nquorum Y", 8),
            ("group none any W1\nquorum none", 7),
            ("group W1 any W2\nquorum W1", 7),
            ("quorum Y\ngroup Y any W1", 7),
            ("quorum W1\nquorum W2", 8),
            ("log nonsense\nquorum none", 7),
            ("watch W1", 7),
            ("", 7),
        ] {
            assert_eq!(policy(rest).unwrap_err().line, line, "{rest}");
        }
        let twice = format!("witness A {0}\nwitness B {0}\nquorum A", witness(1).key());
        assert_eq!(Policy::parse(&twice).unwrap_err().line, 2);
    }
}
