//! A report as one page to print: no scripts, nothing from elsewhere, every text escaped.

use crate::report::{Basis, Claim, Finding, LogReport, Report, Verdict};
use std::fmt::Write as _;
use stele::time::Timestamp;

const STYLE: &str = "\
body{font:15px/1.45 Georgia,serif;color:#111;max-width:50em;margin:2em auto;padding:0 1em}\
h1{font-size:1.5em;margin:0 0 .2em}h2{font-size:1.1em;margin:1.6em 0 .3em}\
.verdict{font:bold 1.3em/1.2 sans-serif;padding:.5em .7em;border:3px solid;display:inline-block;margin:.6em 0}\
.proven{color:#0b5d1e}.refuted{color:#a40000}.could-not-check{color:#7a5200}\
table{border-collapse:collapse;width:100%;margin:.4em 0}td,th{border:1px solid #999;padding:.25em .5em;text-align:left;vertical-align:top}\
th{background:#eee}code{font-size:.85em;overflow-wrap:anywhere}small{color:#444}\
@media print{body{margin:0;max-width:none}.verdict{break-inside:avoid}table,tr{break-inside:avoid}}";

/// What each claim says, and what it does not.
const MEANINGS: [(Claim, &str, &str, &str); 3] = [
    (
        Claim::Integrity,
        "Integrity",
        "Every byte read is the one that was signed: leaves hash to the root of the signed checkpoint, files to the hashes in signed manifests.",
        "That an event is true. Whoever sends events decides what they say.",
    ),
    (
        Claim::Completeness,
        "Completeness",
        "Of the leaves named none is missing, none is there twice, and none was put between others later.",
        "That everything that happened was sent.",
    ),
    (
        Claim::Freshness,
        "Freshness",
        "Until the time stated nothing had come after the last checkpoint: the operator signed that, and witnesses if any are named.",
        "Anything about the time after it.",
    ),
];

/// The page.
pub fn html(report: &Report, name: &str, made_at: Timestamp) -> String {
    let mut out = String::new();
    let verdict = report.verdict();
    // Writing to a text can't fail, here and below.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}: {name}</title><style>{STYLE}</style></head><body>\n<h1>Verification of an audit log</h1>\n\
         <p>of <code>{name}</code><br>made {made_at}</p>\n<p class=\"verdict {class}\">{title}</p>\n<p>{what}</p>\n",
        title = headline(verdict),
        name = Escaped(name),
        class = class(verdict),
        what = in_words(report, verdict),
    );
    let trust = match report.basis {
        Basis::PinnedKey => "Signatures were checked with a public key given by whoever ran the check.",
        Basis::KeyFromFolder => {
            "Signatures were checked with the public key that lies beside what it signs. That shows that all is of one hand, \
             not of whose: compare the key with one you got another way."
        }
    };
    let _ = writeln!(out, "<h2>Basis of trust</h2>\n<p>{trust}</p>");
    for log in &report.logs {
        log_section(&mut out, log);
    }
    findings(&mut out, &report.findings, &report.unchecked);
    out.push_str("<h2>What each claim says</h2>\n<table><tr><th>Claim</th><th>It says</th><th>It does not say</th></tr>\n");
    for (_, claim, says, not) in MEANINGS {
        let _ = writeln!(out, "<tr><td>{claim}</td><td>{says}</td><td>{not}</td></tr>");
    }
    out.push_str("</table>\n</body></html>\n");
    out
}

fn headline(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Proven => "PROVEN",
        Verdict::CouldNotCheck => "COULD NOT CHECK",
        Verdict::Refuted => "REFUTED",
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Proven => "proven",
        Verdict::CouldNotCheck => "could-not-check",
        Verdict::Refuted => "refuted",
    }
}

fn in_words(report: &Report, verdict: Verdict) -> String {
    let events: u64 = report.logs.iter().map(|log| log.leaves_proven).sum();
    let logs = report.logs.len();
    match verdict {
        Verdict::Proven => format!("All that was asked was checked and holds: {events} events in {logs} logs."),
        Verdict::CouldNotCheck => {
            "Nothing that was checked is wrong, but not all that was asked could be checked. This is not a proof.".to_owned()
        }
        Verdict::Refuted => "What is there is not what was signed. The places are named below.".to_owned(),
    }
}

fn log_section(out: &mut String, log: &LogReport) {
    let _ = writeln!(out, "<h2>Log of {} (generation {})</h2>\n<table>", Escaped(&log.tenant), log.log);
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(value));
    };
    row("Verdict", headline(log.verdict));
    row("Integrity", headline(log.integrity));
    row("Completeness", headline(log.completeness));
    let stated =
        log.stated_at.map_or_else(|| "nobody stated anything".to_owned(), |at| format!("as of {at}"));
    row("Freshness", &format!("{} ({stated})", headline(log.freshness)));
    row("Events proven", &log.leaves_proven.to_string());
    row("Events expired", &log.leaves_expired.to_string());
    row("Events nobody has signed yet", &log.leaves_unsigned.to_string());
    row("Origin", log.origin.as_deref().unwrap_or("unknown"));
    row("Root", log.root.as_deref().unwrap_or("none"));
    row(
        "Read",
        &format!(
            "{} archive files, {} tiles, {} segments, {} checkpoints, {} manifests, {} statements, {} key changes, {} saved checkpoints",
            log.archive_files,
            log.tiles,
            log.segments,
            log.checkpoints,
            log.manifests,
            log.statements,
            log.key_changes,
            log.saved_checkpoints
        ),
    );
    for witness in &log.witnesses {
        row("Cosigned by", witness);
    }
    for note in &log.notes {
        row("Note", note);
    }
    out.push_str("</table>\n");
    findings(out, &log.findings, &log.unchecked);
}

fn findings(out: &mut String, findings: &[Finding], unchecked: &[String]) {
    if !findings.is_empty() {
        out.push_str("<table><tr><th>Refuted by</th><th>Where</th><th>Expected</th><th>Found</th></tr>\n");
        for finding in findings {
            let _ = writeln!(
                out,
                "<tr><td>{:?}</td><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                finding.check,
                Escaped(&finding.at),
                Escaped(&finding.expected),
                Escaped(&finding.found)
            );
        }
        out.push_str("</table>\n");
    }
    if !unchecked.is_empty() {
        out.push_str("<p>Could not be checked:</p>\n<ul>\n");
        for why in unchecked {
            let _ = writeln!(out, "<li>{}</li>", Escaped(why));
        }
        out.push_str("</ul>\n");
    }
}

/// A text in a page: nothing in it is markup.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c if c.is_control() => f.write_str("\u{FFFD}"),
            c => std::fmt::Write::write_char(f, c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Check;
    use stele::id::TenantId;

    #[test]
    fn a_page_says_the_verdict_and_nothing_in_it_is_markup_of_others() {
        let mut report = Report::default();
        let page = html(&report, "<x>", Timestamp::default());
        assert!(page.contains("COULD NOT CHECK") && page.contains("&lt;x&gt;") && !page.contains("<x>"));
        let mut log = LogReport::new(&TenantId::parse("acme").unwrap(), Default::default());
        log.findings.push(Finding {
            check: Check::Root,
            at: "<script>".into(),
            expected: "a\u{1b}".into(),
            found: "\"b\"".into(),
        });
        log.judge(&Default::default());
        report.logs.push(log);
        let page = html(&report, "x", Timestamp::default());
        assert!(page.contains("REFUTED") && !page.contains("PROVEN<"), "{page}");
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;") && !page.contains('\u{1b}'));
        assert!(!page.contains("http"), "nothing is fetched");
    }
}
