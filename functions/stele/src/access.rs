//! Who may do what: API keys, scopes, and the tenant as a capability.
//!
//! [`Tenant`] is what stores ask for. It is made in two ways only: from a [`Grant`], which only a checked API
//! key gives, or from the system's own records by seal, rebuild and reconcile. There is no third way, so a
//! request cannot name its way into another tenant's data.

use crate::error::{Code, Error, Result};
use crate::id::{EventId, TenantId};
use crate::limits;
use crate::time::{Day, Timestamp};
use crate::tlog::checkpoint::Origin;
use crate::tlog::hash::Hash;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident $text:literal;)*) => {
        /// What a key may do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Scope { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl Scope {
            /// All of them.
            pub const ALL: &'static [Scope] = &[$(Scope::$name,)*];

            /// As in requests and key records.
            pub const fn as_str(self) -> &'static str {
                match self { $(Scope::$name => $text,)* }
            }

            /// Parses its text.
            pub fn parse(text: &str) -> Option<Scope> {
                Scope::ALL.iter().copied().find(|s| s.as_str() == text)
            }
        }
    };
}

scopes! {
    /// Send events.
    EventsWrite "events:write";
    /// Search and export events.
    EventsRead "events:read";
    /// Send events older than the tenant's bound.
    EventsBackfill "events:backfill";
    /// Start exports.
    ExportsWrite "exports:write";
    /// Read proofs.
    ProofsRead "proofs:read";
    /// Change retention and legal holds.
    RetentionWrite "retention:write";
    /// Create and revoke keys.
    KeysWrite "keys:write";
    /// Create and change tenants.
    TenantsWrite "tenants:write";
    /// Mint viewer tokens.
    ViewerMint "viewer:mint";
}

/// The SHA-256 of a key's whole text: what is stored instead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// Of a key as sent.
    pub fn of(key: &str) -> KeyHash {
        KeyHash(Sha256::digest(key.as_bytes()).into())
    }
}

/// What is stored of an API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Public id, part of the key's text; it stands in every leaf the key sent.
    pub key_id: String,
    /// The tenant it is bound to; `None` is a platform key.
    #[serde(with = "tenant_text", default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// What people call it.
    #[serde(default)]
    pub name: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Milliseconds since 1970, once revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<u64>,
}

mod tenant_text {
    use crate::id::TenantId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &Option<TenantId>, s: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => s.serialize_some(id.as_str()),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<TenantId>, D::Error> {
        Option::<String>::deserialize(d)?
            .map(|text| TenantId::parse(&text).ok_or_else(|| D::Error::custom("not a tenant id")))
            .transpose()
    }
}

/// The text of a key: `stele_<env>_<key id>_<secret><crc>`.
pub struct KeyText {
    /// All of it: shown once, never stored.
    pub text: String,
    /// Its public part.
    pub key_id: String,
}

const KEY_PREFIX: &str = "stele_";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl KeyText {
    /// From an environment's name (letters and digits) and 40 random bytes: 8 make the key id, 32 the secret.
    pub fn new(env: &str, random: &[u8; 40]) -> KeyText {
        let key_id = base62(&random[..8], 11);
        let mut text = format!("{KEY_PREFIX}{env}_{key_id}_{}", base62(&random[8..], 43));
        let crc = crc32(text.as_bytes()).to_be_bytes();
        text.push_str(&base62(&crc, 6));
        KeyText { text, key_id }
    }

    /// Whether a text can be a key: one that begins like ours must carry its checksum. It filters typing
    /// errors before any store is asked; it proves nothing.
    pub fn is_plausible(text: &str) -> bool {
        if !text.starts_with(KEY_PREFIX) {
            return !text.is_empty();
        }
        text.is_ascii() && text.len() > KEY_PREFIX.len() + 6 && {
            let (body, crc) = text.split_at(text.len() - 6);
            base62(&crc32(body.as_bytes()).to_be_bytes(), 6) == crc
        }
    }
}

/// Big-endian bytes as so many base-62 digits; the count is chosen so that nothing is cut off.
fn base62(bytes: &[u8], digits: usize) -> String {
    let mut number = bytes.to_vec();
    let mut out = vec![b'0'; digits];
    for slot in out.iter_mut().rev() {
        let mut rest = 0_u32;
        for b in &mut number {
            let n = rest * 256 + u32::from(*b);
            *b = (n / 62) as u8;
            rest = n % 62;
        }
        *slot = BASE62[rest as usize];
    }
    String::from_utf8(out).expect("base-62 digits are ASCII")
}

/// CRC-32 (IEEE), bit by bit: it runs once per key check that misses the cache.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg()))
    })
}

/// A checked key's right to use one scope. Only [`Grant::check`] makes one.
#[derive(Clone, Debug)]
pub struct Grant {
    key: Arc<ApiKey>,
    scope: Scope,
}

impl Grant {
    /// Checks the scope. The key must come out of the store, looked up by its hash.
    pub fn check(key: Arc<ApiKey>, scope: Scope) -> Result<Grant> {
        if key.revoked_ms.is_some() {
            return Err(Error::new(Code::InvalidKey, "the API key has been revoked"));
        }
        if !key.scopes.contains(&scope) {
            return Err(Error::new(
                Code::InsufficientScope,
                format!("this needs the scope `{}`, which the key does not have", scope.as_str()),
            ));
        }
        Ok(Grant { key, scope })
    }

    /// The key's public id.
    pub fn key_id(&self) -> &str {
        &self.key.key_id
    }

    /// The scope that was checked.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether the same key may also do this.
    pub fn also(&self, scope: Scope) -> bool {
        self.key.scopes.contains(&scope)
    }

    /// The tenant the key is bound to.
    pub fn bound_tenant(&self) -> Option<&TenantId> {
        self.key.tenant.as_ref()
    }

    /// The tenant a request is about: the key's own, or the one a platform key names. Naming another tenant
    /// than the key's is refused alike whether that tenant exists or not.
    pub fn choose(&self, named: Option<&TenantId>, named_as: &str) -> Result<TenantId> {
        match (self.bound_tenant(), named) {
            (Some(own), Some(named)) if own != named => Err(Error::new(
                Code::InsufficientScope,
                format!("the key is bound to another tenant than `{named_as}` says"),
            )),
            (Some(own), _) => Ok(own.clone()),
            (None, Some(named)) => Ok(named.clone()),
            (None, None) => Err(Error::new(
                Code::BadParameter,
                format!("a platform key must say which tenant: send `{named_as}`"),
            )),
        }
    }
}

/// Which generation of a tenant's log: 0 unless a log had to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LogNumber(pub u32);

impl fmt::Display for LogNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// From an occurred day on, a tenant's records are spread over 2^`bits` partitions. Append-only: a record's
/// partition must stay a function of tenant and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shards {
    /// First occurred day, in days since 1970.
    pub from_day: u32,
    /// Power of two.
    pub bits: u8,
}

/// Records received before a time are kept for fewer days than those received since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShorterHot {
    /// The time, in milliseconds since 1970.
    pub before_ms: u64,
    /// The days.
    pub days: u32,
}

/// What is on record of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// Its id.
    pub tenant_id: String,
    /// When it came into being, in milliseconds since 1970.
    pub created_ms: u64,
    /// The origin of its log, `<log name>/<log id>`.
    pub origin: String,
    /// Generation of its log.
    #[serde(default)]
    pub log: LogNumber,
    /// Retention class, in days.
    pub class_days: u32,
    /// Files of the archive whose last segment was sealed before this time (in milliseconds since 1970) keep the class
    /// they have, whatever `class_days` says; 0 is all have at least that one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub class_from_ms: u64,
    /// Days the hot store keeps its records.
    pub hot_days: u32,
    /// What was accepted while `hot_days` was less.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shorter_hot: Vec<ShorterHot>,
    /// How many days back events may lie; `None` is no bound.
    pub past_days: Option<u32>,
    /// Shard schedule, by rising `from_day`; empty is one shard.
    #[serde(default)]
    pub shards: Vec<Shards>,
}

impl TenantRecord {
    /// A new tenant with the defaults.
    pub fn new(id: &TenantId, origin: &Origin, now: Timestamp) -> TenantRecord {
        TenantRecord {
            tenant_id: id.as_str().to_owned(),
            created_ms: now.ms(),
            origin: origin.as_str().to_owned(),
            log: LogNumber(0),
            class_days: limits::CLASS_DAYS_DEFAULT,
            class_from_ms: 0,
            hot_days: limits::HOT_DAYS_DEFAULT,
            shorter_hot: Vec::new(),
            past_days: Some(limits::PAST_DAYS_DEFAULT),
            shards: Vec::new(),
        }
    }

    /// What was received at this time or before, the hot store may have forgotten by `now`.
    pub fn forgotten(&self, now: Timestamp) -> Timestamp {
        let shorter = self.shorter_hot.iter();
        let shorter = shorter.map(|s| now.minus_days(s.days).min(Timestamp::from_ms(s.before_ms)));
        shorter.fold(now.minus_days(self.hot_days), Timestamp::max)
    }

    /// With other days of the hot store from `now` on. Records keep the days they were accepted with, so when days are
    /// added, it stays on record until when there were fewer: what is forgotten would otherwise pass for never received.
    pub fn with_hot_days(mut self, days: u32, now: Timestamp) -> TenantRecord {
        if days > self.hot_days {
            // Other processes may go by the record as it was for a while.
            let before_ms = now.plus_ms(limits::CACHE_MS_MAX).ms();
            self.shorter_hot.push(ShorterHot { before_ms, days: self.hot_days });
        }
        self.hot_days = days;
        let kept = now.minus_days(days).ms();
        self.shorter_hot.retain(|shorter| shorter.before_ms > kept && shorter.days < days);
        self
    }

    /// Checks that a record can take this one's place.
    ///
    /// # Errors
    /// `internal` if it has another id or origin: a log belongs to one tenant for good.
    pub fn check_successor(&self, record: &TenantRecord) -> Result<()> {
        match (&self.tenant_id, &self.origin) == (&record.tenant_id, &record.origin) {
            true => Ok(()),
            false => {
                let detail = format!("the record of `{}` can't become another tenant's", self.tenant_id);
                Err(Error::new(Code::Internal, detail))
            }
        }
    }
}

const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A tenant somebody has the right to work on: the capability every store call takes.
#[derive(Clone, Debug)]
pub struct Tenant(Arc<TenantFacts>);

#[derive(Debug)]
struct TenantFacts {
    id: TenantId,
    origin: Origin,
    record: TenantRecord,
}

impl Tenant {
    /// From a grant that covers the tenant on record.
    pub fn granted(grant: &Grant, record: TenantRecord) -> Result<Tenant> {
        let tenant = Tenant::on_record(record)?;
        match grant.bound_tenant() {
            Some(own) if own != tenant.id() => Err(Error::new(Code::NotFound, "no such tenant")),
            _ => Ok(tenant),
        }
    }

    /// From the system's own records: for seal, rebuild and reconcile, never for a request.
    pub fn on_record(record: TenantRecord) -> Result<Tenant> {
        let id = TenantId::parse(&record.tenant_id).ok_or_else(|| {
            Error::corrupt("tenant record", "a tenant id", format!("`{}`", record.tenant_id))
        })?;
        let origin = Origin::parse(&record.origin)
            .ok_or_else(|| Error::corrupt("tenant record", "an origin", format!("`{}`", record.origin)))?;
        Ok(Tenant(Arc::new(TenantFacts { id, origin, record })))
    }

    /// Its id.
    pub fn id(&self) -> &TenantId {
        &self.0.id
    }

    /// The origin of its log.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The generation of its log.
    pub fn log(&self) -> LogNumber {
        self.0.record.log
    }

    /// What is on record.
    pub fn record(&self) -> &TenantRecord {
        &self.0.record
    }

    /// The first day on which an event of it can have been received: that was told before the tenant was created, and by another
    /// clock.
    pub fn first_day(&self) -> Day {
        Timestamp::from_ms(self.record().created_ms).minus_ms(limits::FUTURE_MS_MAX).day()
    }

    /// The day it came into being.
    pub fn created_day(&self) -> Day {
        Timestamp::from_ms(self.0.record.created_ms).day()
    }

    /// How many partitions an occurred day has.
    pub fn shard_count(&self, day: Day) -> u32 {
        let schedule = self.0.record.shards.iter().rev();
        1 << schedule.into_iter().find(|s| s.from_day <= day.days()).map_or(0, |s| s.bits.min(16))
    }

    /// The partition of an id: its lowest bits, which are random (or a keyed hash) in every kind of id.
    pub fn shard_of(&self, id: EventId) -> u32 {
        (id.to_u128() as u32) & (self.shard_count(id.time().day()) - 1)
    }
}

/// Secrets of an installation, from which those of tenants follow: nothing in a database has to survive for a
/// repeated external id to find its event again.
#[derive(Clone)]
pub struct Secrets {
    master: [u8; 32],
}

impl Secrets {
    /// From 32 random bytes, kept outside the database.
    pub fn new(master: [u8; 32]) -> Secrets {
        Secrets { master }
    }

    fn derive(&self, purpose: &str, subject: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.master).expect("HMAC takes keys of any length");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(subject.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The key under which external ids become ids (design §4).
    pub fn id_secret(&self, tenant: &TenantId) -> [u8; 32] {
        self.derive("stele id secret v1", tenant.as_str())
    }

    /// The random bits of an event that has no id of its own but came with an `Idempotency-Key`: its retry gets
    /// the same ones.
    pub fn idempotent_bits(&self, tenant: &TenantId, key: &str) -> u128 {
        self.bits("stele idempotency key v1", tenant, key)
    }

    /// The random bits of an event without an id that came in a queue's message: the same at every delivery.
    pub fn message_bits(&self, tenant: &TenantId, message_id: &str) -> u128 {
        self.bits("stele message v1", tenant, message_id)
    }

    /// The id of a legal hold that was placed with an `Idempotency-Key`: its retry gets the same one.
    pub fn hold_bits(&self, tenant: &TenantId, key: &str) -> u128 {
        self.bits("stele legal hold v1", tenant, key)
    }

    /// What an export that was asked for with an `Idempotency-Key` is remembered by.
    pub fn export_name(&self, tenant: &TenantId, key: &str) -> String {
        format!("{:032x}", self.bits("stele export v1", tenant, key))
    }

    /// The random bits of an event of the log's own, by what it is about: the same however often it is made.
    pub fn own_event_bits(&self, tenant: &TenantId, name: &str) -> u128 {
        self.bits("stele own event v1", tenant, name)
    }

    /// The key under which reconcile sums leaves, so that nobody can choose leaves by what they add up to.
    pub fn reconcile_key(&self, tenant: &TenantId) -> [u8; 32] {
        self.derive("stele reconcile sum v1", tenant.as_str())
    }

    fn bits(&self, purpose: &str, tenant: &TenantId, name: &str) -> u128 {
        let bytes = self.derive(purpose, &format!("{tenant}/{name}"));
        bytes[..16].iter().fold(0, |bits, b| (bits << 8) | u128::from(*b))
    }

    /// The MAC by which drain knows ingest's messages.
    pub fn spill_mac(&self, message: &[u8]) -> [u8; 32] {
        self.spill_hmac(message).finalize().into_bytes().into()
    }

    /// Whether a MAC is that of a message, compared in constant time.
    pub fn spill_mac_fits(&self, message: &[u8], mac: &[u8]) -> bool {
        self.spill_hmac(message).verify_slice(mac).is_ok()
    }

    fn spill_hmac(&self, message: &[u8]) -> Hmac<Sha256> {
        let key = self.derive("stele spill v1", "");
        let mut hmac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
        hmac.update(message);
        hmac
    }

    /// The key that binds cursors to their tenant.
    pub fn cursor_secret(&self, tenant: &TenantId) -> [u8; 32] {
        self.derive("stele cursor secret v1", tenant.as_str())
    }

    /// The Ed25519 seed receipts are signed with: it can't sign checkpoints, whose seed does not follow from this secret.
    pub fn receipt_seed(&self) -> [u8; 32] {
        self.derive("stele receipt key v1", "")
    }

    /// The origin of a tenant's log. It says nothing of the tenant to whom the master secret is unknown.
    pub fn origin(&self, log_name: &str, tenant: &TenantId, log: LogNumber) -> Result<Origin> {
        let id = self.derive("stele log id v1", &format!("{tenant}/{log}"));
        let hex = Hash::from_bytes(id).to_string();
        Origin::parse(&format!("{log_name}/{}", &hex[..32]))
            .ok_or_else(|| Error::new(Code::Internal, format!("`{log_name}` cannot be a log's name")))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: Option<&str>, scopes: &[Scope]) -> Arc<ApiKey> {
        Arc::new(ApiKey {
            key_id: "k1".into(),
            tenant: tenant.map(|t| TenantId::parse(t).unwrap()),
            scopes: scopes.to_vec(),
            name: String::new(),
            created_ms: 0,
            revoked_ms: None,
        })
    }

    #[test]
    fn a_key_text_carries_its_checksum() {
        let key = KeyText::new("dev", &[7; 40]);
        assert!(KeyText::is_plausible(&key.text), "{}", key.text);
        for at in 6..key.text.len() {
            let mut bad = key.text.clone().into_bytes();
            bad[at] = if bad[at] == b'x' { b'y' } else { b'x' };
            assert!(!KeyText::is_plausible(std::str::from_utf8(&bad).unwrap()));
        }
        assert!(KeyText::is_plausible("any-other-text"));
        assert!(!KeyText::is_plausible("stele_"));
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_bound_key_cannot_name_another_tenant() {
        let grant = Grant::check(key(Some("acme"), &[Scope::EventsRead]), Scope::EventsRead).unwrap();
        let other = TenantId::parse("globex").unwrap();
        assert_eq!(grant.choose(Some(&other), "tenant_id").unwrap_err().code(), Code::InsufficientScope);
        assert_eq!(grant.choose(None, "tenant_id").unwrap().as_str(), "acme");
        let origin = Origin::parse("test/1").unwrap();
        let record = TenantRecord::new(&other, &origin, Timestamp::from_ms(0));
        assert_eq!(Tenant::granted(&grant, record).unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn a_scope_the_key_lacks_is_named() {
        let refused = Grant::check(key(None, &[Scope::EventsRead]), Scope::KeysWrite).unwrap_err();
        assert!(refused.detail().contains("`keys:write`"));
    }

    #[test]
    fn what_was_accepted_for_fewer_days_is_not_taken_for_kept() {
        let id = TenantId::parse("acme").unwrap();
        let at = |day: u32| Timestamp::from_ms(0).plus_days(day);
        let late = limits::CACHE_MS_MAX;
        let record = TenantRecord::new(&id, &Origin::parse("test/1").unwrap(), at(0));
        assert_eq!(record.forgotten(at(1_000)), at(910));
        let fewer = record.with_hot_days(40, at(1_000));
        assert_eq!((fewer.forgotten(at(1_000)), fewer.shorter_hot.len()), (at(960), 0));
        let more = fewer.with_hot_days(100, at(1_000));
        for (now, forgotten) in [
            (at(1_000), at(960)),
            (at(1_030), at(990)),
            // By then all is gone that was accepted for 40 days, and nothing of what came later.
            (at(1_050), at(1_000).plus_ms(late)),
            (at(1_100), at(1_000).plus_ms(late)),
            (at(1_101), at(1_001)),
        ] {
            assert_eq!(more.forgotten(now), forgotten, "{now}");
        }
        assert!(more.clone().with_hot_days(90, at(1_200)).shorter_hot.is_empty(), "no longer of use");
        assert_eq!(more.with_hot_days(35, at(1_001)).shorter_hot.len(), 0);
    }

    #[test]
    fn the_shard_follows_the_schedule_of_the_occurred_day() {
        let id = TenantId::parse("acme").unwrap();
        let origin = Origin::parse("test/1").unwrap();
        let mut record = TenantRecord::new(&id, &origin, Timestamp::from_ms(0));
        record.shards = vec![Shards { from_day: 10, bits: 1 }, Shards { from_day: 20, bits: 3 }];
        let tenant = Tenant::on_record(record).unwrap();
        for (day, count) in [(0, 1), (9, 1), (10, 2), (19, 2), (20, 8), (30, 8)] {
            let day = Day::from_days(day);
            assert_eq!(tenant.shard_count(day), count);
            assert!(tenant.shard_of(EventId::new(day.start(), u128::MAX)) == count - 1);
        }
    }
}
