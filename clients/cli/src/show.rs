//! What commands print, and how they end.
//!
//! Every text from elsewhere (events, answers, files) goes through [`Clean`]: a name in an audit log may be an
//! attack on the terminal it is read in.

use std::fmt::{self, Display, Write as _};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Why a command did not do what it was asked to. The text says what to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was done, and the answer is no: an event was refused, a log refuted.
    Refused(String),
    /// It could not be done: wrong usage, an unreachable server, an unreadable file.
    CouldNot(String),
    /// Whoever read our output has read enough.
    Closed,
}

impl Failure {
    /// The exit code: 1 refused, 2 could not.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Refused(_) => ExitCode::from(1),
            Failure::CouldNot(_) => ExitCode::from(2),
            Failure::Closed => ExitCode::SUCCESS,
        }
    }

    /// That something could not be done, and why.
    pub(crate) fn could_not(doing: impl Display, why: impl Display) -> Failure {
        Failure::CouldNot(format!("could not {doing}: {why}"))
    }

    /// An error of the library, with what lies behind it: here the operator is the one who asks.
    pub(crate) fn of(error: &stele::Error) -> Failure {
        let mut text = error.detail().to_owned();
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            // Writing to a text can't fail.
            let _ = write!(text, ": {error}");
            source = error.source();
        }
        for place in error.problems() {
            let _ = write!(text, "\n  {}: {}", place.pointer, place.detail);
        }
        Failure::CouldNot(text)
    }
}

impl From<io::Error> for Failure {
    /// Of writing to our own output.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::could_not("write the output", error),
        }
    }
}

/// Prints to standard output, at once.
pub(crate) fn print(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Says something beside the output. If nobody listens, that is no failure.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A text from elsewhere, without what a terminal would obey.
pub(crate) struct Clean<'a>(pub(crate) &'a str);

impl Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            f.write_char(if is_command(c) { '\u{FFFD}' } else { c })?;
        }
        Ok(())
    }
}

/// Whether a terminal obeys a character instead of showing it: controls, and marks that reorder what follows.
fn is_command(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Rows in columns as wide as their widest cell; the last column is not filled up.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        for (column, cell) in row.iter().enumerate() {
            let cell = Clean(cell).to_string();
            match column + 1 == row.len() {
                true => out.push_str(&cell),
                false => {
                    let _ = write!(out, "{cell:<width$}  ", width = widths[column]);
                }
            }
        }
    }
    out
}

/// `1 event`, `2 events`.
pub(crate) fn counted(n: u64, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_give_orders_to_the_terminal() {
        assert_eq!(Clean("a\u{1b}[2Jb\u{202e}c\nd").to_string(), "a\u{FFFD}[2Jb\u{FFFD}c\u{FFFD}d");
    }

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["äöü".to_owned(), "c".to_owned()]];
        assert_eq!(table(&rows), "a    bb\näöü  c");
        assert_eq!(table(&[]), "");
    }
}
