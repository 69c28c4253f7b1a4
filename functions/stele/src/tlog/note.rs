//! Signed notes (<https://c2sp.org/signed-note>): a text, an empty line, and lines with signatures.
//!
//! Only Ed25519 signatures (type 0x01) are made and checked; others, as of witnesses, are carried along as
//! unknown. What the text means is not known here: see [`super::checkpoint`] and [`super::manifest`].

use super::hash::decode_hex;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

/// Bytes of a signed note at the most.
pub const NOTE_BYTES_MAX: usize = 1 << 20;
/// Signatures of a note at the most.
pub const NOTE_SIGNATURES_MAX: usize = 100;

/// The signature type of Ed25519, a byte of the key id and of the key's text.
const ED25519: u8 = 0x01;
const SIGNATURE_LINE_START: &str = "— ";

/// The name of a key: not empty, without spaces, plus signs and control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Arc<str>);

impl KeyName {
    /// Parses a name.
    pub fn parse(text: &str) -> Option<KeyName> {
        let fits = !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && c >= ' ' && c != '+');
        fits.then(|| KeyName(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

/// The short id of a key: it only says which key to try, never that a signature is right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 4]);

impl KeyId {
    /// From its four bytes.
    pub const fn from_bytes(bytes: [u8; 4]) -> KeyId {
        KeyId(bytes)
    }

    /// Its four bytes.
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0
    }

    /// SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key), the first four bytes.
    fn of(name: &KeyName, public: &VerifyingKey) -> KeyId {
        let hash = Sha256::new()
            .chain_update(name.as_str())
            .chain_update([b'\n', ED25519])
            .chain_update(public.as_bytes())
            .finalize();
        KeyId([hash[0], hash[1], hash[2], hash[3]])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// A public key with its name. Its text is the one other C2SP tools read:
/// `<name>+<id>+<base64(0x01 ‖ public key)>`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    id: KeyId,
    public: VerifyingKey,
}

impl VerifierKey {
    /// From a name and the 32 bytes of an Ed25519 public key (RFC 8032). Nothing if the bytes are no such key,
    /// or one of the few with which anyone can sign.
    pub fn new(name: KeyName, public: &[u8; 32]) -> Option<VerifierKey> {
        let public = VerifyingKey::from_bytes(public).ok().filter(|public| !public.is_weak())?;
        Some(VerifierKey { id: KeyId::of(&name, &public), name, public })
    }

    /// Parses the key's text. The id must be the key's own.
    pub fn parse(text: &str) -> Result<VerifierKey, NoteError> {
        let read = || {
            // The base64 may have plus signs of its own.
            let [name, id, key] = text.splitn(3, '+').collect::<Vec<_>>().try_into().ok()?;
            let key: [u8; 33] = STANDARD.decode(key).ok()?.try_into().ok()?;
            let (ED25519, public) = key.split_first().map(|(kind, rest)| (*kind, rest))? else {
                return None;
            };
            let key = VerifierKey::new(KeyName::parse(name)?, public.try_into().ok()?)?;
            (decode_hex(id)? == key.id.0).then_some(key)
        };
        read().ok_or_else(|| NoteError::VerifierKey(shortened(text)))
    }

    /// Its name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The 32 bytes of the public key.
    pub fn public(&self) -> &[u8; 32] {
        self.public.as_bytes()
    }

    fn made(&self, signature: &NoteSignature) -> bool {
        self.id == signature.id && self.name == signature.name
    }

    fn verifies(&self, text: &str, signature: &NoteSignature) -> bool {
        // Strict: a signature has one form only, so nobody can make a second one out of it.
        Signature::from_slice(&signature.bytes)
            .is_ok_and(|signature| self.public.verify_strict(text.as_bytes(), &signature).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = [ED25519; 33];
        key[1..].copy_from_slice(self.public.as_bytes());
        write!(f, "{}+{}+{}", self.name, self.id, STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// A private key with its name. Its `Debug` shows the public half only.
#[derive(Clone)]
pub struct Signer {
    key: VerifierKey,
    secret: SigningKey,
}

impl Signer {
    /// From a name and an Ed25519 seed (RFC 8032). One seed serves any number of names.
    pub fn new(name: KeyName, seed: &[u8; 32]) -> Signer {
        let secret = SigningKey::from_bytes(seed);
        let public = secret.verifying_key();
        Signer { key: VerifierKey { id: KeyId::of(&name, &public), name, public }, secret }
    }

    /// What checks its signatures.
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.key
    }

    /// Its name.
    pub fn name(&self) -> &KeyName {
        &self.key.name
    }

    /// The note of a text with this one signature. The same text always gives the same note.
    pub fn sign(&self, text: impl Into<String>) -> Result<Note, NoteError> {
        let text = text.into();
        let bytes = self.secret.sign(text.as_bytes()).to_bytes().to_vec();
        let signature = NoteSignature { name: self.key.name.clone(), id: self.key.id, bytes };
        Note::new(text, vec![signature])
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A signature as it stands in a note: nothing is known of it but its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: KeyName,
    id: KeyId,
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// From its parts; nothing if there are no signature bytes.
    pub fn new(name: KeyName, id: KeyId, bytes: Vec<u8>) -> Option<NoteSignature> {
        (!bytes.is_empty()).then_some(NoteSignature { name, id, bytes })
    }

    /// The name of the key it claims.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The id of the key it claims.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The signature, without the key id.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Parses a line, without its newline.
    fn parse(line: &str) -> Option<NoteSignature> {
        let (name, base64) = line.strip_prefix(SIGNATURE_LINE_START)?.split_once(' ')?;
        let bytes = STANDARD.decode(base64).ok()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        NoteSignature::new(KeyName::parse(name)?, KeyId(*id), bytes.to_vec())
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id.0, self.bytes.as_slice()].concat();
        write!(f, "{SIGNATURE_LINE_START}{} {}", self.name, STANDARD.encode(bytes))
    }
}

/// A text with at least one signature, in the right form. Its text must not be used before
/// [`Note::verify`] has found a signature right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// From its parts: what this accepts, [`Note::parse`] reads back from its print.
    pub fn new(text: String, signatures: Vec<NoteSignature>) -> Result<Note, NoteError> {
        if let Some(c) = forbidden_in(&text) {
            return Err(NoteError::ControlCharacter(c));
        }
        if !text.ends_with('\n') {
            return Err(NoteError::TextEnd);
        }
        if !(1..=NOTE_SIGNATURES_MAX).contains(&signatures.len()) {
            return Err(NoteError::SignatureCount(signatures.len()));
        }
        let note = Note { text, signatures };
        match note.to_string().len() {
            0..=NOTE_BYTES_MAX => Ok(note),
            bytes => Err(NoteError::TooLarge(bytes)),
        }
    }

    /// Parses a note, strictly: each note has exactly one text, the one printed.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Note, NoteError> {
        let bytes = bytes.as_ref();
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLarge(bytes.len()));
        }
        let all = std::str::from_utf8(bytes).map_err(|e| NoteError::NotUtf8(e.valid_up_to()))?;
        if let Some(c) = forbidden_in(all) {
            return Err(NoteError::ControlCharacter(c));
        }
        let last_empty_line = all.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, block) = (&all[..=last_empty_line], &all[last_empty_line + 2..]);
        let lines = block.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let count = lines.split('\n').count();
        if count > NOTE_SIGNATURES_MAX {
            return Err(NoteError::SignatureCount(count));
        }
        let signatures = lines
            .split('\n')
            .map(|line| NoteSignature::parse(line).ok_or_else(|| NoteError::SignatureLine(shortened(line))))
            .collect::<Result<_, _>>()?;
        Ok(Note { text: text.to_owned(), signatures })
    }

    /// The text, with its final newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, right or wrong.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// The given keys that have signed the text, each once, in the order of the signatures. Signatures of
    /// other keys are ignored; a wrong one of a given key spoils the note, whatever else it has.
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let mut signed: Vec<&VerifierKey> = Vec::new();
        for signature in &self.signatures {
            let mut candidates = keys.iter().filter(|key| key.made(signature)).peekable();
            if candidates.peek().is_none() {
                continue;
            }
            // Two keys of one name and one id are possible, if hardly by accident: either may have signed.
            let key = candidates.find(|key| key.verifies(&self.text, signature));
            let key = key.ok_or_else(|| NoteError::BadSignature(signature.name.clone(), signature.id))?;
            if !signed.contains(&key) {
                signed.push(key);
            }
        }
        if signed.is_empty() { Err(NoteError::NoKnownSignature) } else { Ok(signed) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str("\n")?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

/// Why a note, or a key's text, is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoteError {
    /// More bytes than a note may have.
    TooLarge(usize),
    /// Not UTF-8, from this byte on.
    NotUtf8(usize),
    /// An ASCII control character other than newline.
    ControlCharacter(char),
    /// The text does not end in a newline.
    TextEnd,
    /// No empty line, or no whole line after it.
    NoSignatures,
    /// None, or more than a note may have.
    SignatureCount(usize),
    /// A line after the last empty line that is no signature.
    SignatureLine(String),
    /// A signature of a known key that is not right.
    BadSignature(KeyName, KeyId),
    /// No signature is of a known key.
    NoKnownSignature,
    /// Not the text of an Ed25519 verifier key.
    VerifierKey(String),
}

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoteError::TooLarge(bytes) => {
                write!(f, "a note of `{bytes}` bytes, at most `{NOTE_BYTES_MAX}` are read")
            }
            NoteError::NotUtf8(at) => write!(f, "the note is not UTF-8 at byte `{at}`"),
            NoteError::ControlCharacter(c) => {
                write!(f, "the note has the control character `U+{:04X}`", u32::from(*c))
            }
            NoteError::TextEnd => f.write_str("the text of the note does not end in a newline"),
            NoteError::NoSignatures => f.write_str("the note has no signatures after an empty line"),
            NoteError::SignatureCount(count) => {
                write!(f, "the note has `{count}` signatures, not 1 to `{NOTE_SIGNATURES_MAX}`")
            }
            NoteError::SignatureLine(line) => write!(f, "`{line}` is not the line of a signature"),
            NoteError::BadSignature(name, id) => {
                write!(f, "the signature of key `{name}` with id `{id}` is wrong")
            }
            NoteError::NoKnownSignature => f.write_str("the note has no signature of a known key"),
            NoteError::VerifierKey(text) => write!(f, "`{text}` is not an Ed25519 verifier key"),
        }
    }
}

impl std::error::Error for NoteError {}

/// Why a signed body, as a checkpoint or a manifest, is not accepted, or can't be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The note around it.
    Note(NoteError),
    /// A line is not what it must be.
    Line {
        /// Which, from 1.
        line: usize,
        /// What it must be.
        expected: &'static str,
        /// The line, cut short if it is long.
        found: String,
    },
    /// The key of the log itself, named as its origin, has not signed it or can't.
    NotSignedByLog {
        /// The log.
        origin: String,
    },
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Note(e) => e.fmt(f),
            BodyError::Line { line, expected, found } => {
                write!(f, "line {line}: expected {expected}, found `{found}`")
            }
            BodyError::NotSignedByLog { origin } => write!(f, "not signed by the key of log `{origin}`"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BodyError::Note(e) => Some(e),
            BodyError::Line { .. } | BodyError::NotSignedByLog { .. } => None,
        }
    }
}

impl From<NoteError> for BodyError {
    fn from(e: NoteError) -> BodyError {
        BodyError::Note(e)
    }
}

/// The lines of a body, read one after the other.
pub(crate) struct Lines<'t> {
    lines: std::iter::Peekable<std::str::Split<'t, char>>,
    line: usize,
}

impl<'t> Lines<'t> {
    /// The lines of a text that ends in a newline.
    pub(crate) fn of(text: &'t str) -> Result<Lines<'t>, BodyError> {
        let lines = text.strip_suffix('\n').ok_or(NoteError::TextEnd)?;
        Ok(Lines { lines: lines.split('\n').peekable(), line: 0 })
    }

    /// Whether there are no more.
    pub(super) fn at_end(&mut self) -> bool {
        self.lines.peek().is_none()
    }

    /// Sees to it that no line is left.
    pub(crate) fn end(&mut self) -> Result<(), BodyError> {
        match self.lines.peek() {
            None => Ok(()),
            Some(line) => {
                Err(BodyError::Line { line: self.line + 1, expected: "the end", found: shortened(line) })
            }
        }
    }

    /// Reads the next line.
    pub(crate) fn read<T>(
        &mut self,
        expected: &'static str,
        parse: impl FnOnce(&'t str) -> Option<T>,
    ) -> Result<T, BodyError> {
        self.line += 1;
        let found = self.lines.next().unwrap_or_default();
        let wrong = || BodyError::Line { line: self.line, expected, found: shortened(found) };
        parse(found).ok_or_else(wrong)
    }
}

/// Signs a body, if the signer is the one of the log: key name = origin.
pub(super) fn sign_body(text: String, origin: &str, signer: &Signer) -> Result<String, BodyError> {
    if signer.name().as_str() != origin {
        return Err(BodyError::NotSignedByLog { origin: origin.to_owned() });
    }
    Ok(signer.sign(text)?.to_string())
}

/// Opens a note, reads its body, and sees to it that the log named there has signed it.
pub(super) fn open_body<T>(
    bytes: &[u8],
    keys: &[VerifierKey],
    parse: impl FnOnce(&str) -> Result<T, BodyError>,
    origin: impl FnOnce(&T) -> &str,
) -> Result<T, BodyError> {
    let note = Note::parse(bytes)?;
    let signed_by = note.verify(keys)?;
    let body = parse(note.text())?;
    // One seed signs for many logs, and the key name is not part of what is signed: without this, a signature
    // could be moved under the name of another log that the caller knows.
    let origin = origin(&body);
    if signed_by.iter().any(|key| key.name().as_str() == origin) {
        return Ok(body);
    }
    Err(BodyError::NotSignedByLog { origin: origin.to_owned() })
}

/// The first character that no note may have.
pub(super) fn forbidden_in(text: &str) -> Option<char> {
    text.chars().find(|c| *c < ' ' && *c != '\n')
}

/// For messages: the beginning of a text that may be long.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(200) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // The example of Go's golang.org/x/mod/sumdb/note.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn signer(name: &str, seed: u8) -> Signer {
        Signer::new(KeyName::parse(name).unwrap(), &[seed; 32])
    }

    fn keys(signers: &[&Signer]) -> Vec<VerifierKey> {
        signers.iter().map(|s| s.verifier_key().clone()).collect()
    }

    #[test]
    fn the_example_of_another_implementation_verifies() {
        let key = VerifierKey::parse(KEY).unwrap();
        assert_eq!(key.to_string(), KEY);
        let note = Note::parse(NOTE).unwrap();
        assert_eq!(note.to_string(), NOTE);
        assert_eq!(note.verify(std::slice::from_ref(&key)), Ok(vec![&key]));
        let bad = Note::parse(NOTE.replace("problem,", "problem.")).unwrap();
        assert_eq!(
            bad.verify(std::slice::from_ref(&key)),
            Err(NoteError::BadSignature(key.name.clone(), key.id))
        );
    }

    #[test]
    fn texts_that_are_no_key_are_refused() {
        for bad in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a3",
            "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumanm+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n",
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10Q=",
        ] {
            assert!(matches!(VerifierKey::parse(bad), Err(NoteError::VerifierKey(_))), "{bad}");
        }
        // The neutral element: any text has a signature under it.
        let mut weak = [0; 32];
        weak[0] = 1;
        assert_eq!(VerifierKey::new(KeyName::parse("weak").unwrap(), &weak), None);
    }

    #[test]
    fn names_have_no_spaces_and_no_plus() {
        for good in ["a", "example.com/log", "PeterNeumann", "größe", "—"] {
            assert!(KeyName::parse(good).is_some(), "{good}");
        }
        for bad in ["", " ", "a b", "a+b", "a\u{a0}b", "a\u{3000}", "a\u{2028}b", "a\nb", "a\u{0}", "a\u{85}"]
        {
            assert_eq!(KeyName::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn notes_of_another_form_are_refused() {
        let line = NOTE.rsplit_once("\n\n").unwrap().1;
        let many = format!("text\n\n{}", line.repeat(101));
        let (start, base64) = line.trim_end().rsplit_once(' ').unwrap();
        for (bad, why) in [
            (String::new(), NoteError::NoSignatures),
            ("text\n".into(), NoteError::NoSignatures),
            ("text\n\n".into(), NoteError::NoSignatures),
            (format!("\n{line}"), NoteError::NoSignatures),
            (NOTE.trim_end().to_owned(), NoteError::NoSignatures),
            (format!("{NOTE}\n"), NoteError::NoSignatures),
            (NOTE.replace('\n', "\r\n"), NoteError::ControlCharacter('\r')),
            (NOTE.replace("you", "\t"), NoteError::ControlCharacter('\t')),
            (format!("{NOTE}text\n"), NoteError::SignatureLine("text".into())),
            (
                NOTE.replace("— ", "- "),
                NoteError::SignatureLine(shortened(&line.trim_end().replace('—', "-"))),
            ),
            (format!("text\n\n{start}\n"), NoteError::SignatureLine(start.into())),
            (format!("text\n\n{start} \n"), NoteError::SignatureLine(format!("{start} "))),
            // A key id without a signature, and white space after one.
            (format!("text\n\n{start} x08gow==\n"), NoteError::SignatureLine(format!("{start} x08gow=="))),
            (format!("text\n\n{start} {base64} \n"), NoteError::SignatureLine(format!("{start} {base64} "))),
            (many, NoteError::SignatureCount(101)),
            ("x".repeat(NOTE_BYTES_MAX + 1), NoteError::TooLarge(NOTE_BYTES_MAX + 1)),
        ] {
            assert_eq!(Note::parse(&bad), Err(why), "{}", shortened(&bad));
        }
        assert_eq!(Note::parse(b"te\xffxt\n\n"), Err(NoteError::NotUtf8(2)));
        let stray = base64.replace("AM=", "AN=");
        assert!(Note::parse(format!("text\n\n{start} {stray}\n")).is_err());
        assert!(Note::parse(format!("text\n\n{}", line.repeat(100))).is_ok());
    }

    #[test]
    fn what_can_not_be_read_back_is_not_signed() {
        let signer = signer("a", 1);
        assert_eq!(signer.sign("text"), Err(NoteError::TextEnd));
        assert_eq!(signer.sign(""), Err(NoteError::TextEnd));
        assert_eq!(signer.sign("te\0xt\n"), Err(NoteError::ControlCharacter('\0')));
        assert_eq!(Note::new("text\n".into(), Vec::new()), Err(NoteError::SignatureCount(0)));
        let large = "x".repeat(NOTE_BYTES_MAX - 1) + "\n";
        assert!(matches!(signer.sign(large), Err(NoteError::TooLarge(_))));
    }

    #[test]
    fn a_known_wrong_signature_spoils_a_note_and_an_unknown_one_does_not() {
        let (a, b, other_a) = (signer("a", 1), signer("b", 2), signer("a", 3));
        let [by_a, by_b, wrong] = [(&a, "x\n"), (&b, "x\n"), (&b, "y\n")]
            .map(|(signer, text)| signer.sign(text).unwrap().signatures[0].clone());
        let note = |signatures: &[&NoteSignature]| {
            Note::new("x\n".into(), signatures.iter().map(|s| (*s).clone()).collect()).unwrap()
        };
        let both = keys(&[&a, &b]);
        assert_eq!(note(&[&by_a, &by_b, &by_a]).verify(&both), Ok(vec![&both[0], &both[1]]));
        assert_eq!(note(&[&by_a, &wrong]).verify(&both[..1]), Ok(vec![&both[0]]));
        let spoilt = NoteError::BadSignature(b.name().clone(), b.key.id);
        for signatures in [[&by_a, &wrong], [&wrong, &by_a], [&by_b, &wrong]] {
            assert_eq!(note(&signatures).verify(&both), Err(spoilt.clone()));
        }
        // The same name with another key is another key, and another type of signature is another id.
        assert_eq!(note(&[&by_a]).verify(&keys(&[&other_a])), Err(NoteError::NoKnownSignature));
        assert_eq!(note(&[&by_a]).verify(&[]), Err(NoteError::NoKnownSignature));
        let mut short = by_a.clone();
        short.bytes.pop();
        assert!(matches!(note(&[&short]).verify(&both), Err(NoteError::BadSignature(..))));
    }

    #[test]
    fn a_signer_never_shows_its_secret() {
        let signer = signer("a", 7);
        let shown = format!("{signer:?} {signer:#?}");
        assert!(shown.contains(&signer.verifier_key().to_string()));
        assert!(!shown.contains("7, 7") && !shown.contains("0707") && !shown.contains("secret"), "{shown}");
    }

    fn signatures() -> impl Strategy<Value = Vec<NoteSignature>> {
        let bytes = prop::collection::vec(any::<u8>(), 1..80);
        let signature = ("[^\\s+\\x00-\\x1f]{1,12}", any::<[u8; 4]>(), bytes)
            .prop_filter_map("a key name", |(name, id, bytes)| {
                NoteSignature::new(KeyName::parse(&name)?, KeyId(id), bytes)
            });
        prop::collection::vec(signature, 1..5)
    }

    proptest! {
        #[test]
        fn printed_notes_parse_back(text in "([^\\x00-\\x1f]|\n){0,60}\n", signatures in signatures()) {
            let note = Note::new(text, signatures).unwrap();
            prop_assert_eq!(Note::parse(note.to_string()), Ok(note));
        }

        #[test]
        fn parsed_notes_print_back(text in "([a—+ \n=\r]|— a AAAAAAA=\n|\n\n){0,30}") {
            if let Ok(note) = Note::parse(&text) {
                prop_assert_eq!(note.to_string(), text);
            }
        }

        #[test]
        fn any_bytes_are_a_note_or_an_error(bytes: Vec<u8>) {
            let _ = Note::parse(&bytes);
            let _ = VerifierKey::parse(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn verifier_keys_parse_back(name in "[^\\s+\\x00-\\x1f]{1,12}", seed: [u8; 32]) {
            let Some(name) = KeyName::parse(&name) else { return Ok(()) };
            let key = Signer::new(name, &seed).verifier_key().clone();
            prop_assert_eq!(VerifierKey::parse(&key.to_string()), Ok(key));
        }
    }
}
