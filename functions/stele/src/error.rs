//! The one public error: what went wrong, for whom, and what the caller can do about it.

use std::{error::Error as StdError, fmt};

/// What a caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mend the request.
    Invalid,
    /// Send a valid key, or one with the scope.
    Unauthorized,
    /// It is not there, or not yours.
    NotFound,
    /// What is stored says otherwise.
    Conflict,
    /// Slow down.
    Overloaded,
    /// Try again: nothing is known to be wrong with the request, and what was done is unknown.
    Unavailable,
    /// Stored bytes are not what they must be: stop and look.
    Corrupt,
    /// A fault of ours.
    Internal,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $status:literal $kind:ident $title:literal;)*) => {
        /// The stable code of an error, as in `problem+json`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All of them, for the contract and its tests.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as sent.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The HTTP status it is answered with.
            pub const fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// What the caller can do.
            pub const fn kind(self) -> Kind {
                match self { $(Code::$name => Kind::$kind,)* }
            }

            /// A few words for people.
            pub const fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The body is not one JSON text.
    MalformedJson "malformed_json" 400 Invalid "Not JSON";
    /// An object has one key twice.
    DuplicateKey "duplicate_key" 400 Invalid "Duplicate key";
    /// A query parameter or header is unknown or has a wrong value.
    BadParameter "bad_parameter" 400 Invalid "Bad parameter";
    /// A filter expression is wrong.
    BadFilter "bad_filter" 400 Invalid "Bad filter";
    /// The cursor is not one of ours, or too old.
    BadCursor "bad_cursor" 400 Invalid "Bad cursor";
    /// The cursor belongs to another listing.
    CursorMismatch "cursor_mismatch" 400 Invalid "Cursor of another listing";
    /// No `Authorization` header.
    MissingKey "missing_key" 401 Unauthorized "Missing API key";
    /// The key is unknown, revoked or mistyped.
    InvalidKey "invalid_key" 401 Unauthorized "Invalid API key";
    /// The token's time is over.
    ExpiredToken "expired_token" 401 Unauthorized "Expired token";
    /// The key may not do this.
    InsufficientScope "insufficient_scope" 403 Unauthorized "Insufficient scope";
    /// It is not there, or belongs to others.
    NotFound "not_found" 404 NotFound "Not found";
    /// The path is known, the method is not.
    MethodNotAllowed "method_not_allowed" 405 Invalid "Method not allowed";
    /// The id is taken by other content.
    EventConflict "event_conflict" 409 Conflict "Event conflict";
    /// A lock in S3 can't be shortened, by nobody.
    RetentionCannotShorten "retention_cannot_shorten" 409 Conflict "Retention cannot be shortened";
    /// The request contradicts a legal hold that was placed before.
    LegalHoldActive "legal_hold_active" 409 Conflict "Legal hold active";
    /// The event is too large.
    EventTooLarge "event_too_large" 413 Invalid "Event too large";
    /// The batch is too large.
    BatchTooLarge "batch_too_large" 413 Invalid "Batch too large";
    /// The export is too large to be answered at once.
    ExportTooLarge "export_too_large" 413 Invalid "Export too large";
    /// The body is of a type or encoding we do not read.
    UnsupportedMediaType "unsupported_media_type" 415 Invalid "Unsupported media type";
    /// The event breaks a rule; `errors` says which.
    ValidationFailed "validation_failed" 422 Invalid "Validation failed";
    /// The event is too old or too far in the future.
    TimestampOutOfRange "timestamp_out_of_range" 422 Invalid "Timestamp out of range";
    /// Too many requests.
    RateLimited "rate_limited" 429 Overloaded "Rate limited";
    /// A fault of ours.
    Internal "internal" 500 Internal "Internal error";
    /// Stored bytes are not what they must be.
    Corrupt "corrupt" 500 Corrupt "Stored data is corrupt";
    /// A store does not answer.
    Unavailable "unavailable" 503 Unavailable "Unavailable";
}

impl Code {
    /// Whether the same request may be sent again unchanged.
    pub const fn retryable(self) -> bool {
        match self.kind() {
            Kind::Overloaded | Kind::Unavailable => true,
            Kind::Invalid
            | Kind::Unauthorized
            | Kind::NotFound
            | Kind::Conflict
            | Kind::Corrupt
            | Kind::Internal => false,
        }
    }
}

/// One thing wrong with one place of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// RFC 6901 pointer into the body as sent; for a parameter, its name.
    pub pointer: String,
    /// Stable code of the rule.
    pub code: &'static str,
    /// What is wrong, lower case, no full stop.
    pub detail: String,
    /// What to send instead.
    pub suggestion: Option<String>,
}

/// A place in a text of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Bytes before it.
    pub offset: usize,
    /// Characters before it, and one.
    pub column: usize,
}

/// An error with its code, a message that is safe to show, and what lies behind it.
#[derive(Debug)]
pub struct Error {
    code: Code,
    detail: String,
    problems: Vec<FieldProblem>,
    position: Option<Position>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A result with the public error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with a message safe to show: lower case, no full stop, offending value in back-ticks.
    pub fn new(code: Code, detail: impl Into<String>) -> Error {
        Error { code, detail: detail.into(), problems: Vec::new(), position: None, source: None }
    }

    /// Stored bytes are not what they must be: where, what was expected, what was found.
    pub fn corrupt(at: impl fmt::Display, expected: impl fmt::Display, found: impl fmt::Display) -> Error {
        Error::new(Code::Corrupt, format!("{at}: expected {expected}, found {found}"))
    }

    /// A store did not answer, or not in a way that says what it did.
    pub fn unavailable(doing: impl Into<String>) -> Error {
        Error::new(Code::Unavailable, doing)
    }

    /// With places of the request.
    pub fn with_problems(mut self, problems: Vec<FieldProblem>) -> Error {
        self.problems = problems;
        self
    }

    /// With the place in the text that its one problem is about.
    pub fn with_position(mut self, position: Position) -> Error {
        self.position = Some(position);
        self
    }

    /// With what lies behind it; logged, never shown.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What the caller can do.
    pub fn kind(&self) -> Kind {
        self.code.kind()
    }

    /// The message that is safe to show.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The place in the text that its one problem is about.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The places of the request.
    pub fn problems(&self) -> &[FieldProblem] {
        &self.problems
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)?;
        for p in &self.problems {
            write!(f, "; {}: {}", p.pointer, p.detail)?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}
