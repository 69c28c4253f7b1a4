//! Records as lines of CSV (RFC 4180), for spreadsheets: safe to open, nothing left out of a cell.
//!
//! `changes` and `metadata` stand in it as the JSON they are in the leaf.

use crate::error::Result;
use crate::record::Record;
use crate::wire::Integrity;
use std::borrow::Cow;

/// The columns of a CSV export.
pub const CSV_COLUMNS: [&str; 20] = [
    "id",
    "occurred_at",
    "received_at",
    "tenant_id",
    "action",
    "outcome",
    "reason",
    "actor_type",
    "actor_id",
    "actor_name",
    "actor_email",
    "resource_type",
    "resource_id",
    "resource_name",
    "ip",
    "user_agent",
    "description",
    "changes",
    "metadata",
    "leaf_index",
];

/// The first line of a CSV export.
pub fn csv_header(out: &mut Vec<u8>) {
    csv_line(CSV_COLUMNS.map(Cow::Borrowed), out);
}

/// A record as a line of CSV (RFC 4180).
///
/// # Errors
/// `corrupt` if the leaf is none.
pub fn csv_row(record: &Record, integrity: Integrity, out: &mut Vec<u8>) -> Result<()> {
    let columns = record.columns()?;
    let optional = |text: Option<Cow<'_, str>>| text.unwrap_or_default().into_owned();
    csv_line(
        [
            record.id.shown(),
            record.occurred_at.to_string(),
            record.received_at.to_string(),
            record.tenant.to_string(),
            columns.action.into_owned(),
            columns.outcome.into_owned(),
            optional(columns.reason),
            columns.actor_type.into_owned(),
            columns.actor_id.into_owned(),
            optional(columns.actor_name),
            optional(columns.actor_email),
            optional(columns.resource_type),
            optional(columns.resource_id),
            optional(columns.resource_name),
            optional(columns.ip),
            optional(columns.user_agent),
            optional(columns.description),
            columns.changes.unwrap_or_default().to_owned(),
            columns.metadata.unwrap_or_default().to_owned(),
            match integrity {
                Integrity::Recorded => String::new(),
                Integrity::Sealed { leaf_index, .. } | Integrity::Archived { leaf_index, .. } => {
                    leaf_index.to_string()
                }
            },
        ]
        .map(Cow::Owned),
        out,
    );
    Ok(())
}

/// A line of cells in the order of [`CSV_COLUMNS`], none of which a spreadsheet takes for a formula.
pub fn csv_line(cells: [Cow<'_, str>; CSV_COLUMNS.len()], out: &mut Vec<u8>) {
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_cell(out, cell);
    }
    out.extend_from_slice(b"\r\n");
}

/// A cell that would be a formula in a spreadsheet gets an apostrophe before it, which makes it text there. So does what would
/// be one in a spreadsheet that ends cells at semicolons or tabs, or does not know that a quoted cell may have lines: there it would
/// begin a cell of its own.
fn write_cell(out: &mut Vec<u8>, cell: &str) {
    let quoted = cell.bytes().any(|c| matches!(c, b'"' | b',' | b'\r' | b'\n'));
    if quoted {
        out.push(b'"');
    }
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']) {
        out.push(b'\'');
    }
    for (at, byte) in cell.bytes().enumerate() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
        if matches!(byte, b';' | b'\t' | b'\r' | b'\n') {
            // Quotes may be taken off there, and blanks passed over.
            let next = cell[at + 1..].trim_start_matches([' ', '"']);
            if next.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) {
                out.push(b'\'');
            }
        }
    }
    if quoted {
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::samples::record;
    use proptest::prelude::*;

    fn cell(text: &str) -> String {
        let mut out = Vec::new();
        write_cell(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    /// Reads what RFC 4180 says, and nothing else.
    fn read_cell(text: &str) -> String {
        match text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
            Some(inner) => inner.replace("\"\"", "\""),
            None => text.to_owned(),
        }
    }

    #[test]
    fn cells_are_never_formulas() {
        for (text, written) in [
            ("=1+1", "'=1+1"),
            ("+49", "'+49"),
            ("-1", "'-1"),
            ("@x", "'@x"),
            ("\tx", "'\tx"),
            ("\rx", "\"'\rx\""),
            ("=\"a\",b", "\"'=\"\"a\"\",b\""),
            ("a=b", "a=b"),
            ("＝1+1", "'＝1+1"),
            ("Mozilla/5.0 (X11; Linux)", "Mozilla/5.0 (X11; Linux)"),
            ("x;=1+1", "x;'=1+1"),
            ("x; \"=1+1", "\"x;' \"\"=1+1\""),
            ("x\t-1", "x\t'-1"),
            ("x\n@y", "\"x\n'@y\""),
            ("x\r\n\r=1", "\"x\r\n\r'=1\""),
            ("", ""),
        ] {
            assert_eq!(cell(text), written);
        }
    }

    #[test]
    fn a_row_has_the_published_columns() {
        let (mut out, record) = (Vec::new(), record(1500, 9));
        csv_header(&mut out);
        csv_row(&record, Integrity::Recorded, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines[0], CSV_COLUMNS.join(","));
        assert!(lines[1].starts_with(&format!("{},1970-01-01T00:00:01.500Z,", record.id.shown())), "{text}");
        assert!(lines[1].ends_with(r#""{""a"":[1.5,{""b"":""Ünder DEEP""}],""plan"":""pro""}","#), "{text}");
    }

    proptest! {
        #[test]
        fn cells_come_back_and_only_formulas_are_changed(text in "[=+@\\-\"',;\r\n\tA-Za-z ]{0,12}") {
            let read = read_cell(&cell(&text));
            let ends = [';', '\t', '\r', '\n'];
            // Whoever ends cells there meets none that begins like a formula.
            for (at, part) in read.split(ends).enumerate() {
                let begun = if at == 0 { part } else { part.trim_start_matches([' ', '"']) };
                prop_assert!(!begun.starts_with(['=', '+', '-', '@']), "{read:?}");
            }
            // And nothing but those apostrophes was put in.
            let mut asked = text.chars().peekable();
            for c in read.chars() {
                let is_asked = asked.next_if_eq(&c).is_some();
                prop_assert!(is_asked || c == '\'', "{read:?} for {text:?}");
            }
            prop_assert_eq!(asked.next(), None);
            if !text.contains(ends) && !text.starts_with(['=', '+', '-', '@']) {
                prop_assert_eq!(read, text);
            }
        }
    }
}
