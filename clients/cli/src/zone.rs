//! Time zones for people: UTC, a fixed offset, or this machine's own, read from its zone file (RFC 9636). Times stay what they
//! are; only how they are shown changes.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use stele::time::Timestamp;

/// Where zone files lie.
const FOLDER: &str = "/usr/share/zoneinfo";
const LOCAL: &str = "/etc/localtime";

/// Where times are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// Seconds east of Greenwich.
    Fixed(i64),
    /// By the rules of a place.
    Place(Rules),
}

/// From when on (in seconds since 1970) which offset holds, and what holds after the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    first: i64,
    changes: Vec<(i64, i64)>,
    after: Option<Footer>,
}

/// The rule for times behind the last change, as in `CET-1CEST,M3.5.0,M10.5.0/3`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Footer {
    standard: i64,
    summer: Option<(i64, Turn, Turn)>,
}

/// A day of each year and the second of it, by the clock that ends then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    day: TurnDay,
    seconds: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurnDay {
    /// Day of the year from 1, without 29 February.
    Julian(i64),
    /// Day of the year from 0.
    Zero(i64),
    /// Month, week (5: the last), weekday from Sunday.
    Month(i64, i64, i64),
}

/// Parses what `--tz` takes.
pub(crate) fn zone(text: &str) -> Result<Zone, String> {
    let bad = || {
        format!(
            "`{text}` is neither `utc`, `local`, an offset such as `+02:00`, nor a zone such as `Europe/Berlin`"
        )
    };
    match text {
        "utc" | "UTC" | "Z" => return Ok(Zone::Fixed(0)),
        "local" => return local().map_err(|e| format!("this machine's time zone can't be read: {e}")),
        _ => {}
    }
    if let Some(sign) =
        text.strip_prefix('+').map(|rest| (1, rest)).or(text.strip_prefix('-').map(|rest| (-1, rest)))
    {
        let (hours, minutes) = sign.1.split_once(':').unwrap_or((sign.1, "00"));
        let number = |text: &str, max: i64| {
            let digits = text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit());
            text.parse::<i64>().ok().filter(|n| digits && *n <= max)
        };
        let offset = number(hours, 23).zip(number(minutes, 59));
        return offset.map(|(h, m)| Zone::Fixed(sign.0 * (h * 3600 + m * 60))).ok_or_else(bad);
    }
    named(text).ok_or_else(bad)
}

/// This machine's zone: `TZ` where it is set, else the system's.
fn local() -> Result<Zone, String> {
    let named_by = std::env::var("TZ").ok().filter(|text| !text.is_empty());
    match named_by {
        Some(name) => {
            let name = name.strip_prefix(':').unwrap_or(&name);
            if let Some(zone) = named(name) {
                return Ok(zone);
            }
            let footer = Footer::parse(name).ok_or_else(|| format!("`TZ` is `{name}`"))?;
            Ok(Zone::Place(Rules { first: footer.standard, changes: Vec::new(), after: Some(footer) }))
        }
        None => match fs::read(LOCAL) {
            Ok(bytes) => rules(&bytes).map(Zone::Place).ok_or_else(|| format!("`{LOCAL}` is no zone file")),
            // A system without one lives in UTC.
            Err(_) => Ok(Zone::Fixed(0)),
        },
    }
}

/// A zone by its name, or by the path of its file.
fn named(name: &str) -> Option<Zone> {
    let path = match name.starts_with('/') {
        true => PathBuf::from(name),
        false => {
            let plain =
                name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'_' | b'-' | b'+'));
            if !plain || name.is_empty() {
                return None;
            }
            Path::new(FOLDER).join(name)
        }
    };
    rules(&fs::read(path).ok()?).map(Zone::Place)
}

impl Zone {
    /// Seconds east of Greenwich at a time.
    fn offset(&self, seconds: i64) -> i64 {
        match self {
            Zone::Fixed(offset) => *offset,
            Zone::Place(rules) => {
                let passed = rules.changes.partition_point(|(from, _)| *from <= seconds);
                match (passed, &rules.after) {
                    (passed, Some(footer)) if passed == rules.changes.len() => footer.offset(seconds),
                    (0, _) => rules.first,
                    (passed, _) => rules.changes[passed - 1].1,
                }
            }
        }
    }

    /// A time of ours (RFC 3339) as it reads there; any other text as it is.
    pub(crate) fn shown(&self, text: &str) -> String {
        let Ok(time) = Timestamp::parse(text) else { return text.to_owned() };
        let offset = self.offset((time.ms() / 1000) as i64);
        let there = match u64::try_from(offset * 1000) {
            Ok(ms) => time.plus_ms(ms),
            Err(_) => time.minus_ms(offset.unsigned_abs() * 1000),
        };
        let mut out = there.to_string();
        // `Z` says UTC.
        out.pop();
        match offset {
            0 => out.push('Z'),
            offset => {
                let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
                let _ = write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
            }
        }
        out
    }
}

/// Reads a zone file: of the second version, with 64-bit times, or the first.
fn rules(bytes: &[u8]) -> Option<Rules> {
    let first = Header::read(bytes)?;
    if first.version == 0 {
        return first.rules(bytes.get(44..)?, 4).map(|(rules, _)| rules);
    }
    let rest = bytes.get(44 + first.bytes(4)..)?;
    let (mut rules, end) = Header::read(rest)?.rules(rest.get(44..)?, 8)?;
    let footer = rest.get(44 + end..)?.strip_prefix(b"\n")?;
    let footer = footer.split(|c| *c == b'\n').next()?;
    rules.after = Footer::parse(std::str::from_utf8(footer).ok()?);
    Some(rules)
}

struct Header {
    version: u8,
    /// Of UT indicators, standard indicators, leap seconds, changes, types, characters.
    counts: [usize; 6],
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Header> {
        if bytes.get(..4)? != b"TZif" {
            return None;
        }
        let mut counts = [0; 6];
        for (at, count) in counts.iter_mut().enumerate() {
            let number = bytes.get(20 + 4 * at..24 + 4 * at)?;
            *count = u32::from_be_bytes(number.try_into().ok()?) as usize;
            if *count > 100_000 {
                return None;
            }
        }
        Some(Header { version: *bytes.get(4)?, counts })
    }

    /// What follows the header, with times of so many bytes.
    fn bytes(&self, width: usize) -> usize {
        let [ut, standard, leaps, changes, types, characters] = self.counts;
        changes * (width + 1) + types * 6 + characters + leaps * (width + 4) + standard + ut
    }

    fn rules(&self, bytes: &[u8], width: usize) -> Option<(Rules, usize)> {
        let [_, _, _, changes, types, _] = self.counts;
        let number = |bytes: &[u8]| {
            let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
            bytes.iter().fold(if negative { -1 } else { 0 }, |n: i64, b| n << 8 | i64::from(*b))
        };
        let kinds = bytes.get(changes * width..changes * (width + 1))?;
        let offsets = bytes.get(changes * (width + 1)..changes * (width + 1) + types * 6)?;
        let offset = |kind: usize| offsets.get(kind * 6..kind * 6 + 4).map(number);
        let times = bytes.get(..changes * width)?.chunks(width).map(number);
        let all = times.zip(kinds).map(|(time, kind)| Some((time, offset(usize::from(*kind))?)));
        Some((
            Rules { first: offset(0)?, changes: all.collect::<Option<_>>()?, after: None },
            self.bytes(width),
        ))
    }
}

impl Footer {
    /// Reads a rule of POSIX.
    fn parse(text: &str) -> Option<Footer> {
        let mut rest = text;
        name_of_zone(&mut rest)?;
        let standard = -clock(&mut rest)?;
        if rest.is_empty() {
            return Some(Footer { standard, summer: None });
        }
        name_of_zone(&mut rest)?;
        let summer = match rest.starts_with(',') {
            true => standard + 3600,
            false => -clock(&mut rest)?,
        };
        let mut turns = rest.strip_prefix(',')?.split(',').map(Turn::parse);
        let (begins, ends) = (turns.next()??, turns.next()??);
        turns.next().is_none().then_some(Footer { standard, summer: Some((summer, begins, ends)) })
    }

    fn offset(&self, seconds: i64) -> i64 {
        let Some((summer, begins, ends)) = self.summer else { return self.standard };
        let year = year_of(seconds + self.standard);
        let (begins, ends) = (begins.at(year) - self.standard, ends.at(year) - summer);
        let is_summer = match begins <= ends {
            true => (begins..ends).contains(&seconds),
            false => !(ends..begins).contains(&seconds),
        };
        if is_summer { summer } else { self.standard }
    }
}

fn name_of_zone(rest: &mut &str) -> Option<()> {
    let end = match rest.strip_prefix('<') {
        Some(quoted) => quoted.find('>')? + 2,
        None => rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len()),
    };
    *rest = rest.get(end..).filter(|_| end >= 3)?;
    Some(())
}

/// `[+-]h[:mm[:ss]]` in seconds.
fn clock(rest: &mut &str) -> Option<i64> {
    let end = rest.find(|c: char| !matches!(c, '0'..='9' | ':' | '+' | '-')).unwrap_or(rest.len());
    let (text, after) = rest.split_at(end);
    *rest = after;
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0;
    for (part, unit) in text.split(':').zip([3600, 60, 1]) {
        seconds += part.parse::<i64>().ok().filter(|n| (0..=167).contains(n))? * unit;
    }
    Some(sign * seconds)
}

impl Turn {
    fn parse(text: &str) -> Option<Turn> {
        let (day, mut time) = text.split_once('/').unwrap_or((text, "2"));
        let seconds = clock(&mut time)?;
        let number = |text: &str| text.parse::<i64>().ok();
        let day = match day.strip_prefix('M') {
            Some(parts) => {
                let mut parts = parts.split('.').map(number);
                TurnDay::Month(parts.next()??, parts.next()??, parts.next()??)
            }
            None => match day.strip_prefix('J') {
                Some(day) => TurnDay::Julian(number(day)?),
                None => TurnDay::Zero(number(day)?),
            },
        };
        Some(Turn { day, seconds })
    }

    /// In seconds since 1970 of a clock that does not turn.
    fn at(&self, year: i64) -> i64 {
        let day = match self.day {
            TurnDay::Julian(day) => first_of(year, 1) + day - 1 + i64::from(is_leap(year) && day >= 60),
            TurnDay::Zero(day) => first_of(year, 1) + day,
            TurnDay::Month(month, week, weekday) => {
                let first = first_of(year, month);
                // 1 January 1970 was a Thursday.
                let ahead = (weekday - (first + 4)).rem_euclid(7);
                let next = if month == 12 { first_of(year + 1, 1) } else { first_of(year, month + 1) };
                let mut day = first + ahead + 7 * (week - 1);
                while day >= next {
                    day -= 7;
                }
                day
            }
        };
        day * 86_400 + self.seconds
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && year % 100 != 0 || year % 400 == 0
}

/// Days since 1970 of the first of a month.
fn first_of(year: i64, month: i64) -> i64 {
    const DAYS: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400 - 477;
    let days = DAYS.get((month - 1) as usize).copied().unwrap_or_default();
    (year - 1970) * 365 + leaps + days + i64::from(is_leap(year) && month > 2)
}

fn year_of(seconds: i64) -> i64 {
    let days = seconds.div_euclid(86_400);
    let mut year = 1970 + days / 366;
    while first_of(year + 1, 1) <= days {
        year += 1;
    }
    year
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_names_are_zones() {
        for (text, offset) in [("utc", 0), ("+02:00", 7200), ("-05:30", -19_800), ("+02", 7200), ("Z", 0)] {
            assert_eq!(zone(text), Ok(Zone::Fixed(offset)), "{text}");
        }
        for bad in ["", "+2", "+24:00", "+02:60", "../../etc/passwd", "Nowhere/At_All", "+0a:00", "CET?"] {
            assert!(zone(bad).is_err(), "{bad}");
        }
        assert!(zone("local").is_ok());
    }

    #[test]
    fn times_are_shown_where_they_are_read() {
        let time = "2026-05-01T22:30:00.120Z";
        assert_eq!(Zone::Fixed(0).shown(time), time);
        assert_eq!(Zone::Fixed(7200).shown(time), "2026-05-02T00:30:00.120+02:00");
        assert_eq!(Zone::Fixed(-16_200).shown(time), "2026-05-01T18:00:00.120-04:30");
        assert_eq!(Zone::Fixed(7200).shown("soon"), "soon");
    }

    #[test]
    fn clocks_turn_by_the_rule_behind_the_last_change() {
        let berlin = Footer::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at =
            |footer: &Footer, text: &str| footer.offset((Timestamp::parse(text).unwrap().ms() / 1000) as i64);
        for (time, offset) in [
            ("2026-03-29T00:59:59Z", 3600),
            ("2026-03-29T01:00:00Z", 7200),
            ("2026-10-25T00:59:59Z", 7200),
            ("2026-10-25T01:00:00Z", 3600),
            ("2024-02-29T12:00:00Z", 3600),
            ("2100-07-01T00:00:00Z", 7200),
        ] {
            assert_eq!(at(&berlin, time), offset, "{time}");
        }
        let sydney = Footer::parse("AEST-10AEDT,M10.1.0,M4.1.0/3").unwrap();
        assert_eq!(at(&sydney, "2026-01-01T00:00:00Z"), 39_600);
        assert_eq!(at(&sydney, "2026-06-01T00:00:00Z"), 36_000);
        let fixed = Footer::parse("<+0545>-5:45").unwrap();
        assert_eq!(at(&fixed, "2026-06-01T00:00:00Z"), 20_700);
        let julian = Footer::parse("AAA3BBB,J60/0,300").unwrap();
        assert_eq!(at(&julian, "2024-03-01T03:00:00Z"), -7200);
        assert_eq!(at(&julian, "2024-03-01T02:59:59Z"), -10_800);
        for bad in [
            "",
            "C1",
            "CET",
            "CET-1CEST",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,M3,M4",
            "CET-1CEST,M3.5.0,M10.5.0,M1.1.1",
        ] {
            assert_eq!(Footer::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_zone_file_is_read_by_its_64_bit_part_and_its_footer() {
        // One change, at 1,000,000,000, from +1 h to +2 h; behind it the footer's rule.
        let part = |width: usize| {
            let mut bytes = b"TZif2".to_vec();
            bytes.extend([0; 15]);
            for count in [0_u32, 0, 0, 1, 2, 4] {
                bytes.extend(count.to_be_bytes());
            }
            bytes.extend(&1_000_000_000_i64.to_be_bytes()[8 - width..]);
            bytes.push(1);
            for offset in [3600_i32, 7200] {
                bytes.extend(offset.to_be_bytes());
                bytes.extend([0, 0]);
            }
            bytes.extend(b"ABC\0");
            bytes
        };
        let mut file = part(4);
        file.extend(part(8));
        file.extend(b"\nUTC0\n");
        let place = Zone::Place(rules(&file).unwrap());
        assert_eq!(place.offset(999_999_999), 3600);
        assert_eq!(place.offset(1_000_000_000), 0, "the footer holds behind the last change");
        for end in 0..file.len() - 1 {
            // Cut anywhere it is another zone or none, and nothing worse.
            let _ = rules(&file[..end]);
        }
        assert_eq!(rules(b"PK"), None);
    }
}
