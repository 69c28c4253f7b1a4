//! Cursors: where a listing goes on, sealed for its tenant, filter and order.
//!
//! A cursor is not secret, it is only unforgeable: it holds nothing the page it came with does not show.

use super::filter::Filter;
use crate::access::Secrets;
use crate::error::{Code, Error, Result};
use crate::id::{EventId, TenantId};
use crate::limits;
use crate::ports::Order;
use crate::time::Timestamp;
use crate::tlog::hash::TreeSize;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// version ‖ issued at ‖ as of ‖ tree size ‖ proven until ‖ last id ‖ skip ‖ binding; then the MAC over them.
const BODY_BYTES: usize = 1 + 8 + 8 + 8 + 8 + 16 + 4 + 16;
const MAC_BYTES: usize = 32;
/// 1 had neither tree size nor proven time: it knew of the hot store alone.
const VERSION: u8 = 2;
/// version ‖ issued at ‖ floor ‖ binding ‖ marks; then the MAC over them.
const TAIL_BYTES: usize = 1 + 8 + 8 + 16 + 8 + 16;
const TAIL_VERSION: u8 = 129;

/// Where a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the listing began: cursors of one listing all end at the same time.
    pub issued_at: Timestamp,
    /// What was received later is not part of the listing.
    pub as_of: Timestamp,
    /// The log's size when the listing began: later leaves are not looked for in the log, but in the hot store.
    pub tree_size: TreeSize,
    /// What was received before was proven to be in that log when the listing began; 0 if nothing was.
    pub proven_until: Timestamp,
    /// The last id looked at; the page goes on behind it.
    pub last: EventId,
    /// Events still to be left out: what an `offset` asked for and an earlier, short page did not reach.
    pub skip: u32,
}

/// Where a tail goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailCursor {
    /// When it was made.
    pub issued_at: Timestamp,
    /// What was received before is done with.
    pub floor: Timestamp,
    /// Of those received since then these were shown up to this one, by time of receipt and id, if more were than can be remembered
    /// one by one.
    pub behind: Option<(Timestamp, EventId)>,
    /// Marks of those behind it that were shown, by [`TailCursor::mark`].
    pub shown: Vec<u64>,
}

impl TailCursor {
    /// What is remembered of an event: the random bits of its id's end.
    pub const fn mark(id: EventId) -> u64 {
        id.to_u128() as u64
    }

    /// Whether an event may still have to be shown.
    pub fn is_open(&self, received_at: Timestamp, id: EventId) -> bool {
        received_at >= self.floor && self.behind.is_none_or(|behind| (received_at, id) > behind)
    }
}

/// What seals the cursors of one listing.
pub struct CursorKey {
    secret: [u8; 32],
    binding: [u8; 16],
}

impl CursorKey {
    /// Of a tenant's listing with this filter and order.
    pub fn new(secrets: &Secrets, tenant: &TenantId, filter: &Filter, order: Order) -> CursorKey {
        CursorKey { secret: secrets.cursor_secret(tenant), binding: filter.binding(order) }
    }

    /// A cursor as sent.
    pub fn seal(&self, cursor: &Cursor) -> String {
        let mut bytes = Vec::with_capacity(BODY_BYTES + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend(cursor.issued_at.ms().to_be_bytes());
        bytes.extend(cursor.as_of.ms().to_be_bytes());
        bytes.extend(cursor.tree_size.to_u64().to_be_bytes());
        bytes.extend(cursor.proven_until.ms().to_be_bytes());
        bytes.extend(cursor.last.to_u128().to_be_bytes());
        bytes.extend(cursor.skip.to_be_bytes());
        bytes.extend(self.binding);
        let mac = self.mac(&bytes).finalize().into_bytes();
        bytes.extend(mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A cursor that came back.
    ///
    /// # Errors
    /// `bad_cursor` if it is not ours, not this tenant's, altered or too old: these look alike.
    /// `cursor_mismatch` if it is this tenant's, of a listing with another filter or order.
    pub fn open(&self, text: &str, now: Timestamp) -> Result<Cursor> {
        let bad =
            || Error::new(Code::BadCursor, "the cursor is not one of this listing's: begin again without it");
        let bytes: [u8; BODY_BYTES + MAC_BYTES] = Some(text)
            .filter(|text| text.len() <= 2 * (BODY_BYTES + MAC_BYTES))
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(bad)?;
        let (body, mac) = bytes.split_at(BODY_BYTES);
        // In constant time.
        self.mac(body).verify_slice(mac).map_err(|_| bad())?;
        let number = |at: usize, len: usize| {
            body[at..at + len].iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte))
        };
        let issued_at = Timestamp::from_ms(number(1, 8) as u64);
        let last = uuid_of(number(33, 16)).ok_or_else(bad)?;
        if body[0] != VERSION {
            return Err(bad());
        }
        if now > issued_at.plus_ms(limits::CURSOR_AGE_MS_MAX) {
            let detail = "the cursor is older than 24 hours: begin again without it";
            return Err(Error::new(Code::BadCursor, detail));
        }
        if body[53..] != self.binding {
            let detail = "the cursor belongs to a listing with another filter or order";
            return Err(Error::new(Code::CursorMismatch, detail));
        }
        Ok(Cursor {
            issued_at,
            as_of: Timestamp::from_ms(number(9, 8) as u64),
            tree_size: TreeSize::new(number(17, 8) as u64),
            proven_until: Timestamp::from_ms(number(25, 8) as u64),
            last,
            skip: number(49, 4) as u32,
        })
    }

    /// A cursor of a tail, as sent.
    pub fn seal_tail(&self, cursor: &TailCursor) -> String {
        let mut bytes = vec![TAIL_VERSION];
        bytes.extend(cursor.issued_at.ms().to_be_bytes());
        bytes.extend(cursor.floor.ms().to_be_bytes());
        bytes.extend(self.binding);
        let (received_at, id) = cursor.behind.map_or((0, 0), |(at, id)| (at.ms(), id.to_u128()));
        bytes.extend(received_at.to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes.extend(cursor.shown.iter().flat_map(|mark| mark.to_be_bytes()));
        let mac = self.mac(&bytes).finalize().into_bytes();
        bytes.extend(mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A cursor of a tail that came back.
    ///
    /// # Errors
    /// As [`CursorKey::open`].
    pub fn open_tail(&self, text: &str, now: Timestamp) -> Result<TailCursor> {
        let bad =
            || Error::new(Code::BadCursor, "the cursor is not one of this tail's: begin again without it");
        let bytes = Some(text)
            .filter(|text| text.len() <= 2 * (TAIL_BYTES + 8 * limits::TAIL_REMEMBERED_MAX + MAC_BYTES))
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .filter(|bytes| bytes.len() >= TAIL_BYTES + MAC_BYTES)
            .ok_or_else(bad)?;
        let (body, mac) = bytes.split_at(bytes.len() - MAC_BYTES);
        // In constant time.
        self.mac(body).verify_slice(mac).map_err(|_| bad())?;
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        if body[0] != TAIL_VERSION || !(body.len() - TAIL_BYTES).is_multiple_of(8) {
            return Err(bad());
        }
        let issued_at = Timestamp::from_ms(number(&body[1..9]));
        if now > issued_at.plus_ms(limits::CURSOR_AGE_MS_MAX) {
            let detail = "the cursor is older than 24 hours: begin again without it";
            return Err(Error::new(Code::BadCursor, detail));
        }
        if body[17..33] != self.binding {
            let detail = "the cursor belongs to a tail with another filter";
            return Err(Error::new(Code::CursorMismatch, detail));
        }
        Ok(TailCursor {
            issued_at,
            floor: Timestamp::from_ms(number(&body[9..17])),
            behind: uuid_of(u128::from(number(&body[41..49])) << 64 | u128::from(number(&body[49..57])))
                .map(|id| (Timestamp::from_ms(number(&body[33..41])), id)),
            shown: body[TAIL_BYTES..].chunks_exact(8).map(number).collect(),
        })
    }

    fn mac(&self, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(body);
        mac
    }
}

/// The id with these 128 bits, if there is one.
fn uuid_of(bits: u128) -> Option<EventId> {
    let time = Timestamp::from_ms((bits >> 80) as u64);
    let random = (bits >> 64 & 0xfff) << 62 | bits & ((1 << 62) - 1);
    Some(EventId::new(time, random)).filter(|id| id.to_u128() == bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::ListRequest;
    use crate::routes::Parameters;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn key(tenant: &str, query: &str) -> CursorKey {
        let request = ListRequest::parse(&Parameters::parse(query).unwrap(), NOW).unwrap();
        let tenant = TenantId::parse(tenant).unwrap();
        CursorKey::new(&Secrets::new([3; 32]), &tenant, &request.filter, request.order)
    }

    fn cursor(random: u128) -> Cursor {
        Cursor {
            issued_at: NOW,
            as_of: NOW.minus_ms(7),
            tree_size: TreeSize::new(77),
            proven_until: NOW.minus_ms(8),
            last: EventId::new(NOW.minus_ms(9), random),
            skip: 5,
        }
    }

    fn code(key: &CursorKey, text: &str, now: Timestamp) -> Code {
        key.open(text, now).unwrap_err().code()
    }

    #[test]
    fn a_cursor_of_another_tenant_is_bad_and_of_another_listing_a_mismatch() {
        let ours = key("acme", "actor_id=a&action=x.y");
        let text = ours.seal(&cursor(1));
        assert_eq!(code(&key("globex", "actor_id=a&action=x.y"), &text, NOW), Code::BadCursor);
        assert_eq!(code(&key("acme", "actor_id=b&action=x.y"), &text, NOW), Code::CursorMismatch);
        assert_eq!(code(&key("acme", "actor_id=a&action=x.y&order=asc"), &text, NOW), Code::CursorMismatch);
        // The same listing, said otherwise; the limit may change from page to page.
        let same = key("acme", "action=x.y&actor_id=a&actor_id=a&limit=7&order=desc");
        assert_eq!(same.open(&text, NOW).unwrap(), cursor(1));
    }

    #[test]
    fn a_cursor_ends_after_a_day() {
        let key = key("acme", "");
        let text = key.seal(&cursor(1));
        let day = NOW.plus_ms(limits::CURSOR_AGE_MS_MAX);
        assert_eq!(key.open(&text, day).unwrap(), cursor(1));
        assert_eq!(code(&key, &text, day.plus_ms(1)), Code::BadCursor);
    }

    #[test]
    fn every_altered_character_is_noticed() {
        let key = key("acme", "");
        let text = key.seal(&cursor(u128::MAX));
        for at in 0..text.len() {
            for replacement in ["A", "B", "=", "", "-A"] {
                let mut altered = text.clone();
                altered.replace_range(at..=at, replacement);
                if altered != text {
                    assert_eq!(code(&key, &altered, NOW), Code::BadCursor, "{altered}");
                }
            }
        }
    }

    #[test]
    fn bindings_do_not_run_into_each_other() {
        let binding = |query: &str| key("acme", query).binding;
        assert_ne!(binding("actor_id=ab"), binding("actor_id=a&actor_id=b"));
        assert_ne!(binding("actor_id=a"), binding("resource_id=a"));
        assert_ne!(binding("action=a.b"), binding("action=a.b.*"));
    }

    #[test]
    fn a_cursor_of_a_tail_is_as_well_sealed_and_never_one_of_a_listing() {
        let key = key("acme", "actor_id=a");
        let behind = Some((NOW.minus_ms(3), EventId::new(NOW, 9)));
        let tail = TailCursor { issued_at: NOW, floor: NOW.minus_ms(5), behind, shown: vec![7, u64::MAX] };
        let text = key.seal_tail(&tail);
        assert_eq!(key.open_tail(&text, NOW).unwrap(), tail);
        let code = |key: &CursorKey, text: &str| key.open_tail(text, NOW).unwrap_err().code();
        assert_eq!(code(&super::tests::key("globex", "actor_id=a"), &text), Code::BadCursor);
        assert_eq!(code(&super::tests::key("acme", "actor_id=b"), &text), Code::CursorMismatch);
        assert_eq!(code(&key, &key.seal(&cursor(1))), Code::BadCursor);
        assert_eq!(key.open(&text, NOW).unwrap_err().code(), Code::BadCursor);
        for at in 0..text.len() {
            let mut altered = text.clone();
            altered.replace_range(at..=at, if &text[at..=at] == "A" { "B" } else { "A" });
            assert_eq!(code(&key, &altered), Code::BadCursor, "{altered}");
        }
        assert!(key.open_tail(&text, NOW.plus_ms(limits::CURSOR_AGE_MS_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn sealed_cursors_open_and_any_text_is_refused(random: u128, text in "[A-Za-z0-9_-]{0,160}") {
            let key = key("acme", "");
            prop_assert_eq!(key.open(&key.seal(&cursor(random)), NOW).unwrap(), cursor(random));
            prop_assert_eq!(code(&key, &text, NOW), Code::BadCursor);
        }
    }
}
