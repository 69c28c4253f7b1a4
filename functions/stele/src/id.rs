//! Identities: tenants and events. Parsed once, then carried as types.

use crate::limits::ID_BYTES_MAX;
use crate::time::Timestamp;
use std::{fmt, sync::Arc};

/// A tenant's name, well formed and nothing more: whoever holds one has proved nothing. Stores ask for a
/// [`crate::access::Tenant`], which only authentication and the system's own records can make.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Parses `^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`.
    pub fn parse(text: &str) -> Option<TenantId> {
        let fits = matches!(text.len(), 1..=128)
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'));
        fits.then(|| TenantId(text.into()))
    }

    /// The name as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

/// A UUIDv7 (RFC 9562 §5.7) whose 48-bit time is the event's `occurred_at`. Its order is the order of
/// listings: by `occurred_at`, then by the random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(u128);

const VERSION_AND_VARIANT: u128 = (0x7 << 76) | (0b10 << 62);
const VERSION_AND_VARIANT_MASK: u128 = (0xf << 76) | (0b11 << 62);

/// Where the digits of an id stand between its hyphens.
const DIGIT_PLACES: [usize; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 19, 20, 21, 22, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35,
];

/// What lower-case hexadecimal digits are worth; 0xf0 for all other bytes.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [0xf0; 256];
    let mut value = 0;
    while value < 16 {
        nibbles[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    nibbles
};

impl EventId {
    /// From a time and 74 random bits (the low 74 of `random`).
    pub const fn new(time: Timestamp, random: u128) -> EventId {
        let rand_a = (random >> 62) & 0xfff;
        let rand_b = random & ((1 << 62) - 1);
        EventId(((time.ms() as u128) << 80) | VERSION_AND_VARIANT | (rand_a << 64) | rand_b)
    }

    /// The smallest id of a millisecond.
    pub const fn first_at(time: Timestamp) -> EventId {
        EventId::new(time, 0)
    }

    /// The largest id of a millisecond.
    pub const fn last_at(time: Timestamp) -> EventId {
        EventId::new(time, u128::MAX)
    }

    /// Parses 32 hexadecimal digits, hyphenated, in either case, with or without `evt_`; only version 7.
    pub fn parse(text: &str) -> Option<EventId> {
        let b = text.strip_prefix("evt_").unwrap_or(text).as_bytes();
        if b.len() != 36 {
            return None;
        }
        let mut value = 0_u128;
        for (place, c) in b.iter().enumerate() {
            if matches!(place, 8 | 13 | 18 | 23) {
                if *c != b'-' {
                    return None;
                }
            } else {
                value = (value << 4) | u128::from((*c as char).to_digit(16)?);
            }
        }
        EventId::from_u128(value)
    }

    /// Parses what [`EventId::to_bytes`] gave, and nothing else.
    pub fn from_canonical(text: &str) -> Option<EventId> {
        let digits: &[u8; 36] = text.as_bytes().try_into().ok()?;
        let mut halves = [0_u64; 2];
        let mut wrong = 0;
        for (half, places) in halves.iter_mut().zip([&DIGIT_PLACES[..16], &DIGIT_PLACES[16..]]) {
            for place in places {
                let nibble = NIBBLES[usize::from(digits[*place])];
                wrong |= nibble;
                *half = *half << 4 | u64::from(nibble & 0xf);
            }
        }
        let value = u128::from(halves[0]) << 64 | u128::from(halves[1]);
        let fits = wrong & 0xf0 == 0 && [8, 13, 18, 23].iter().all(|place| digits[*place] == b'-');
        if fits { EventId::from_u128(value) } else { None }
    }

    /// The smallest id above this one, if there is one.
    pub fn next(self) -> Option<EventId> {
        let random = ((self.0 >> 64) & 0xfff) << 62 | (self.0 & ((1 << 62) - 1));
        match random + 1 {
            next if next < 1 << 74 => Some(EventId::new(self.time(), next)),
            _ if self.time() < Timestamp::MAX => Some(EventId::first_at(self.time().plus_ms(1))),
            _ => None,
        }
    }

    /// From what [`EventId::to_u128`] gave.
    pub fn from_u128(bits: u128) -> Option<EventId> {
        let fits = bits & VERSION_AND_VARIANT_MASK == VERSION_AND_VARIANT
            && bits >> 80 <= u128::from(Timestamp::MAX.ms());
        fits.then_some(EventId(bits))
    }

    /// The largest id below this one, if there is one.
    pub fn previous(self) -> Option<EventId> {
        let random = ((self.0 >> 64) & 0xfff) << 62 | (self.0 & ((1 << 62) - 1));
        match random.checked_sub(1) {
            Some(previous) => Some(EventId::new(self.time(), previous)),
            None if self.time() > Timestamp::default() => Some(EventId::last_at(self.time().minus_ms(1))),
            None => None,
        }
    }

    /// When the event occurred.
    pub const fn time(self) -> Timestamp {
        Timestamp::from_ms((self.0 >> 80) as u64)
    }

    /// The 128 bits, most significant first.
    pub const fn to_u128(self) -> u128 {
        self.0
    }

    /// Lower case, hyphenated, without a prefix: as leaves and stores hold it.
    pub fn to_bytes(self) -> [u8; 36] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut out = [b'-'; 36];
        let mut shift = 128;
        for (place, slot) in out.iter_mut().enumerate() {
            if !matches!(place, 8 | 13 | 18 | 23) {
                shift -= 4;
                *slot = HEX[(self.0 >> shift) as usize & 0xf];
            }
        }
        out
    }

    /// As people see it: `evt_` and the id.
    pub fn shown(self) -> String {
        format!("evt_{self}")
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.to_bytes()).expect("hexadecimal digits are ASCII"))
    }
}

/// Whether a text can be an id of the client's making: 1 to 256 bytes, no control characters.
pub fn is_client_id(text: &str) -> bool {
    matches!(text.len(), 1..=ID_BYTES_MAX) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tenant_names_are_paths_and_keys() {
        for good in ["a", "org_acme", "0.a-b_C", &"x".repeat(128)] {
            assert!(TenantId::parse(good).is_some(), "{good}");
        }
        for bad in ["", "_a", ".a", "..", "a/b", "a b", "ä", "a=b", &"x".repeat(129)] {
            assert!(TenantId::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn other_versions_of_uuid_are_not_event_ids() {
        assert!(EventId::parse("evt_01980000-0000-7000-8000-000000000000").is_some());
        assert!(EventId::parse("01980000-0000-4000-8000-000000000000").is_none());
        assert!(EventId::parse("01980000-0000-7000-c000-000000000000").is_none());
        assert!(EventId::parse("0198000000007000800000000000000000000").is_none());
    }

    proptest! {
        #[test]
        fn an_id_has_one_canonical_text(ms in 0..=Timestamp::MAX.ms() * 2, random: u128, at in 0..36_usize, c in "[0-9a-gA-F-]") {
            let mut text = EventId::new(Timestamp::from_ms(ms), random).to_string();
            text.replace_range(at..=at, &c);
            let slowly = EventId::parse(&text).filter(|id| id.to_bytes() == text.as_bytes());
            prop_assert_eq!(EventId::from_canonical(&text), slowly);
            prop_assert_eq!(EventId::from_canonical(&text[1..]), None);
        }

        #[test]
        fn ids_parse_back_and_keep_their_time(ms in 0..=Timestamp::MAX.ms(), random: u128) {
            let id = EventId::new(Timestamp::from_ms(ms), random);
            prop_assert_eq!(EventId::parse(&id.to_string()), Some(id));
            prop_assert_eq!(EventId::parse(&id.shown().to_uppercase().replacen("EVT_", "evt_", 1)), Some(id));
            prop_assert_eq!(EventId::from_canonical(&id.to_string()), Some(id));
            prop_assert_eq!(id.time().ms(), ms);
            prop_assert!(id.next().is_none_or(|next| id < next && next.time() >= id.time()));
            prop_assert_eq!(EventId::last_at(id.time()).next().map(EventId::time), (id.time() < Timestamp::MAX).then(|| id.time().plus_ms(1)));
            prop_assert!(EventId::first_at(id.time()) <= id && id <= EventId::last_at(id.time()));
        }

        #[test]
        fn order_of_ids_is_order_of_time_then_text(a: (u32, u128), b: (u32, u128)) {
            let [a, b] = [a, b].map(|(ms, r)| EventId::new(Timestamp::from_ms(u64::from(ms)), r));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}
