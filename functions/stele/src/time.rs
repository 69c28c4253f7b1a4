//! Time as the log knows it: UTC milliseconds, and days. Parsing and printing of RFC 3339, nothing else;
//! the clock is elsewhere.

use std::fmt;

/// A day in milliseconds.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Milliseconds since 1970-01-01T00:00:00Z, at most 9999-12-31T23:59:59.999Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

/// A UTC day, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Day(u32);

const TIMESTAMP_MAX: u64 = 253_402_300_799_999;

/// Why a text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeError {
    /// Not `YYYY-MM-DDThh:mm:ss[.fff](Z|±hh:mm)`.
    Form,
    /// A time without `Z` or `±hh:mm`.
    NoOffset,
    /// The form is right, but there is no such day or hour.
    NoSuchTime,
    /// Before 1970 or after 9999.
    OutOfRange,
}

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeError::Form => "not an RFC 3339 time",
            TimeError::NoOffset => "a time without an offset",
            TimeError::NoSuchTime => "no such time",
            TimeError::OutOfRange => "before 1970 or after 9999",
        })
    }
}

impl std::error::Error for TimeError {}

impl Timestamp {
    /// The latest time that can be written with four digits of year.
    pub const MAX: Timestamp = Timestamp(TIMESTAMP_MAX);

    /// From milliseconds since 1970; later than 9999 is cut to 9999.
    pub const fn from_ms(ms: u64) -> Timestamp {
        Timestamp(if ms > TIMESTAMP_MAX { TIMESTAMP_MAX } else { ms })
    }

    /// Milliseconds since 1970.
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// The UTC day it falls on.
    pub const fn day(self) -> Day {
        Day((self.0 / DAY_MS) as u32)
    }

    /// So many milliseconds later.
    pub const fn plus_ms(self, ms: u64) -> Timestamp {
        Timestamp::from_ms(self.0.saturating_add(ms))
    }

    /// So many milliseconds earlier, 1970 at the earliest.
    pub const fn minus_ms(self, ms: u64) -> Timestamp {
        Timestamp(self.0.saturating_sub(ms))
    }

    /// So many days later.
    pub const fn plus_days(self, days: u32) -> Timestamp {
        self.plus_ms(days as u64 * DAY_MS)
    }

    /// So many days earlier.
    pub const fn minus_days(self, days: u32) -> Timestamp {
        self.minus_ms(days as u64 * DAY_MS)
    }

    /// Parses RFC 3339 with an offset; digits beyond the millisecond are cut off.
    pub fn parse(text: &str) -> Result<Timestamp, TimeError> {
        let b = text.as_bytes();
        if b.len() < 19 || b[10] != b'T' && b[10] != b't' || b[13] != b':' || b[16] != b':' {
            return Err(TimeError::Form);
        }
        let days = days_of(&b[..10])?;
        let (hour, minute, second) = (digits(&b[11..13])?, digits(&b[14..16])?, digits(&b[17..19])?);
        if hour > 23 || minute > 59 || second > 59 {
            return Err(TimeError::NoSuchTime);
        }
        let mut at = 19;
        let mut ms = 0;
        if b.get(at) == Some(&b'.') {
            let fraction = b[20..].iter().take_while(|c| c.is_ascii_digit()).count();
            if fraction == 0 {
                return Err(TimeError::Form);
            }
            for place in 0..3 {
                ms = ms * 10 + if place < fraction { i64::from(b[20 + place] - b'0') } else { 0 };
            }
            at = 20 + fraction;
        }
        let offset_minutes = match &b[at..] {
            [] => return Err(TimeError::NoOffset),
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
                if hours > 23 || minutes > 59 {
                    return Err(TimeError::NoSuchTime);
                }
                (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
            }
            _ => return Err(TimeError::Form),
        };
        let minutes = days * 1440 + hour * 60 + minute - offset_minutes;
        let total = (minutes * 60 + second) * 1000 + ms;
        match u64::try_from(total) {
            Ok(total) if total <= TIMESTAMP_MAX => Ok(Timestamp(total)),
            _ => Err(TimeError::OutOfRange),
        }
    }

    /// Parses what [`Timestamp::to_bytes`] gave, and nothing else.
    pub fn from_canonical(text: &str) -> Option<Timestamp> {
        // Where all else has its place, what is left can only be digits.
        let b: &[u8; 24] = text.as_bytes().try_into().ok()?;
        let has_form =
            b[10] == b'T' && b[19] == b'.' && b[23] == b'Z' && b[20..23].iter().all(u8::is_ascii_digit);
        if has_form { Timestamp::parse(text).ok() } else { None }
    }

    /// `2026-05-01T14:32:00.000Z`, always 24 bytes.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut out = *b"0000-00-00T00:00:00.000Z";
        out[..10].copy_from_slice(&self.day().to_bytes());
        let ms = self.0 % DAY_MS;
        put_digits(&mut out[11..13], ms / 3_600_000);
        put_digits(&mut out[14..16], ms / 60_000 % 60);
        put_digits(&mut out[17..19], ms / 1000 % 60);
        put_digits(&mut out[20..23], ms % 1000);
        out
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.to_bytes()).expect("digits and punctuation are ASCII"))
    }
}

impl Day {
    /// From days since 1970.
    pub const fn from_days(days: u32) -> Day {
        Day(days)
    }

    /// Days since 1970.
    pub const fn days(self) -> u32 {
        self.0
    }

    /// Its first millisecond.
    pub const fn start(self) -> Timestamp {
        Timestamp::from_ms(self.0 as u64 * DAY_MS)
    }

    /// The day after.
    pub const fn next(self) -> Day {
        Day(self.0 + 1)
    }

    /// The day before, if there is one.
    pub const fn previous(self) -> Option<Day> {
        match self.0 {
            0 => None,
            days => Some(Day(days - 1)),
        }
    }

    /// Parses `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Result<Day, TimeError> {
        u32::try_from(days_of(text.as_bytes())?).map(Day).map_err(|_| TimeError::OutOfRange)
    }

    /// `2026-05-01`, always 10 bytes.
    pub fn to_bytes(self) -> [u8; 10] {
        let (year, month, day) = civil_from_days(i64::from(self.0));
        let mut out = *b"0000-00-00";
        put_digits(&mut out[..4], year as u64);
        put_digits(&mut out[5..7], month as u64);
        put_digits(&mut out[8..10], day as u64);
        out
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.to_bytes()).expect("digits and punctuation are ASCII"))
    }
}

fn digits(text: &[u8]) -> Result<i64, TimeError> {
    text.iter().try_fold(0, |n, c| match c {
        b'0'..=b'9' => Ok(n * 10 + i64::from(c - b'0')),
        _ => Err(TimeError::Form),
    })
}

fn put_digits(out: &mut [u8], mut n: u64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

fn days_of(date: &[u8]) -> Result<i64, TimeError> {
    if date.len() != 10 || date[4] != b'-' || date[7] != b'-' {
        return Err(TimeError::Form);
    }
    let (year, month, day) = (digits(&date[..4])?, digits(&date[5..7])?, digits(&date[8..])?);
    if !(1..=12).contains(&month) || day < 1 {
        return Err(TimeError::NoSuchTime);
    }
    let days = days_from_civil(year, month, day);
    // A day past the month's end counts into the next month and comes back as another date.
    if civil_from_days(days) != (year, month, day) { Err(TimeError::NoSuchTime) } else { Ok(days) }
}

/// Days since 1970 of a proleptic Gregorian date, with years that begin in March so that the leap day is last.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + (month <= 2) as i64, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_and_fractions_become_utc_milliseconds() {
        for (text, utc) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
            ("2026-05-01T14:32:00.1239+02:00", "2026-05-01T12:32:00.123Z"),
            ("2024-02-29t23:59:59.9-00:30", "2024-03-01T00:29:59.900Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), utc);
        }
    }

    #[test]
    fn what_is_not_a_time_says_why() {
        for (text, why) in [
            ("2026-05-01", TimeError::Form),
            ("2026-05-01T14:32:00", TimeError::NoOffset),
            ("2026-05-01 14:32:00Z", TimeError::Form),
            ("2026-02-29T14:32:00Z", TimeError::NoSuchTime),
            ("2026-05-01T24:00:00Z", TimeError::NoSuchTime),
            ("2026-05-01T23:59:60Z", TimeError::NoSuchTime),
            ("1969-12-31T23:59:59Z", TimeError::OutOfRange),
            ("1714573920", TimeError::Form),
            ("2026-05-01T14:32:00.Z", TimeError::Form),
        ] {
            assert_eq!(Timestamp::parse(text), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_has_one_canonical_text(ms in 0..=TIMESTAMP_MAX, at in 0..24_usize, c in "[0-9TtZz:.+-]") {
            let mut text = Timestamp::from_ms(ms).to_string();
            prop_assert_eq!(Timestamp::from_canonical(&text), Some(Timestamp::from_ms(ms)));
            text.replace_range(at..=at, &c);
            let slowly = Timestamp::parse(&text).ok().filter(|time| time.to_bytes() == text.as_bytes());
            prop_assert_eq!(Timestamp::from_canonical(&text), slowly);
        }

        #[test]
        fn printed_times_parse_back(ms in 0..=TIMESTAMP_MAX) {
            let t = Timestamp::from_ms(ms);
            prop_assert_eq!(Timestamp::parse(&t.to_string()), Ok(t));
            prop_assert_eq!(Day::parse(&t.day().to_string()), Ok(t.day()));
        }

        #[test]
        fn any_text_is_a_time_or_an_error(text in "\\PC{0,40}") {
            let _ = Timestamp::parse(&text);
            let _ = Day::parse(&text);
        }
    }
}
