//! Fuzzing on stable Rust: committed corpora, mutated at random for a while. Whatever comes out must be accepted
//! or refused, never a panic, and what is accepted must survive being read again.
//!
//! `STELE_FUZZ_SECONDS` says for how long (default 5), `STELE_FUZZ_SEED` repeats a run: the seed is printed, and
//! so is the input at fault.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stele::canonical::canonicalize;
use stele::event::{BatchForm, Draft, Terms, batch_items, same_content};
use stele::id::TenantId;
use stele::record::Record;
use stele::time::Timestamp;
use stele::tlog::note::Note;

/// Longest input, far from every limit on size, so that time goes into forms.
const INPUT_BYTES_MAX: usize = 4096;
/// Accepted inputs kept as a base for others.
const KEPT_MAX: usize = 256;

const EVENT_TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "-0",
    "1e400",
    "9007199254740992",
    "0.1",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\u0024",
    "\"$enc\":",
    "\u{feff}",
    "\u{10ffff}",
    "\"id\":",
    "\"id\":\"order-7\",",
    "\"external_id\":\"x\",",
    "\"tenant_id\":\"org_acme\",",
    "\"timestamp\":\"2026-05-01T14:32:00Z\",",
    "\"created\":1,",
    "\"actor_id\":\"u\",",
    "\"actor\":{},",
    "\"target\":",
    "\"targets\":[",
    "\"resource_type\":\"t\",",
    "\"changes\":{",
    "\"before\":",
    "\"old\":",
    "\"after\":",
    "\"path\":",
    "\"context\":{",
    "\"ip\":\"::1\",",
    "\"metadata\":{",
    "\"extra\":{",
    "\"action\":\"deleted\",",
    "\"foo\":[[[[[[[[",
    "\"a/b~c\":1,",
    "\"events\":[",
];

const NOTE_TOKENS: &[&str] =
    &["\n", "\n\n", "— ", "—", " ", "+", "\0", "\r\n", "\t", "\u{feff}", "=", "==", "AAAA", "— x AQIDBA==\n"];

#[test]
fn mutated_events_are_accepted_or_refused_and_what_is_accepted_reads_back() {
    fuzz_event(seed(), duration());
}

#[test]
fn mutated_notes_are_read_or_refused_and_what_is_read_prints_as_it_was() {
    fuzz_note(seed(), duration());
}

/// Fuzzes accepting.
pub(crate) fn fuzz_event(seed: u64, duration: Duration) {
    let tenant = TenantId::parse("org_acme").expect("a tenant id");
    run("event", EVENT_TOKENS, seed, duration, |input| {
        let terms = Terms {
            tenant: &tenant,
            key_id: "key_1",
            now: Timestamp::from_ms(1_777_645_925_000),
            id_secret: &[7; 32],
            random: 9,
            oldest: None,
        };
        for form in [BatchForm::Json, BatchForm::Ndjson] {
            let _ = batch_items(input, form);
        }
        if let Ok(canonical) = canonicalize(input) {
            assert_eq!(canonicalize(&canonical).expect("canonical JSON is JSON"), canonical);
        }
        let Ok(accepted) = Draft::parse(input).and_then(|draft| draft.accept(&terms)) else { return false };
        let record = accepted.record;
        assert_eq!(
            canonicalize(&record.leaf).expect("a leaf is JSON"),
            *record.leaf,
            "the leaf is canonical"
        );
        assert_eq!(Record::from_leaf(record.leaf.bytes().clone()).expect("a leaf reads back"), record);
        let again =
            Draft::parse(&record.leaf).and_then(|draft| draft.accept(&terms)).expect("a leaf can be sent");
        assert!(same_content(&record.leaf, &again.record.leaf, false), "a leaf sent again says the same");
        true
    });
}

/// Fuzzes notes.
pub(crate) fn fuzz_note(seed: u64, duration: Duration) {
    run("note", NOTE_TOKENS, seed, duration, |input| {
        let Ok(note) = Note::parse(input) else { return false };
        assert_eq!(note.to_string().as_bytes(), input, "a note has one text");
        assert_eq!(Note::parse(note.to_string()).as_ref(), Ok(&note));
        let rebuilt = Note::new(note.text().to_owned(), note.signatures().to_vec());
        assert_eq!(rebuilt.as_ref(), Ok(&note));
        true
    });
}

fn run(corpus: &str, tokens: &[&str], seed: u64, duration: Duration, check: impl Fn(&[u8]) -> bool) {
    let mut inputs = read_corpus(corpus);
    let committed = inputs.len();
    let mut random = Random(seed);
    let (mut tried, mut accepted) = (0_u64, 0_u64);
    let start = Instant::now();
    let mut next = inputs.clone().into_iter();
    while tried < committed as u64 || start.elapsed() < duration {
        let input = next.next().unwrap_or_else(|| mutated(&inputs, tokens, &mut random));
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&input)));
        let kept = match outcome {
            Ok(kept) => kept,
            Err(_) => panic!("seed {seed}, {corpus} {tried}: `{}`", input.escape_ascii()),
        };
        tried += 1;
        accepted += u64::from(kept);
        if kept && random.below(8) == 0 {
            if inputs.len() < committed + KEPT_MAX {
                inputs.push(input);
            } else {
                let place = committed + random.below(KEPT_MAX);
                inputs[place] = input;
            }
        }
    }
    eprintln!("{corpus}: seed {seed}, {tried} inputs, {accepted} accepted");
    assert!(accepted > 0, "the {corpus} corpus has nothing that is accepted: this checks too little");
}

fn mutated(inputs: &[Vec<u8>], tokens: &[&str], random: &mut Random) -> Vec<u8> {
    let mut bytes = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(16)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            5 => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(200)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let token = tokens[random.below(tokens.len())];
                let end = if random.below(2) == 0 { at } else { end };
                bytes.splice(at..end, token.bytes());
            }
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn read_corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    // In order of name, so that a seed repeats a run.
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
}

fn duration() -> Duration {
    Duration::from_secs(number("STELE_FUZZ_SECONDS").unwrap_or(5))
}

fn seed() -> u64 {
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    number("STELE_FUZZ_SEED").unwrap_or_else(by_clock)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is not a number")))
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}
