//! From an `Authorization` header to a [`Grant`]: the only way into a tenant's data for a request.
//!
//! It keeps no sessions and knows no tenants; it says which key somebody holds and whether that key has a scope.

use crate::cache::Cache;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::collections::HashMap;
use std::sync::Arc;
use stele::access::{ApiKey, Grant, KeyHash, KeyText, Scope};
use stele::ports::{ApiKeys, Clock};
use stele::{Code, Error, Result, limits};

/// Unknown keys are forgotten sooner, so that a key made a moment ago works.
const UNKNOWN_MS_MAX: u64 = 5_000;
/// Keys remembered. Known and unknown ones are kept apart: guesses cannot push out what is in use.
const ENTRIES_MAX: usize = 4_096;

/// Checks API keys.
pub struct Authenticator {
    keys: Arc<dyn ApiKeys>,
    clock: Arc<dyn Clock>,
    given: HashMap<KeyHash, Arc<ApiKey>>,
    known: Cache<KeyHash, Arc<ApiKey>>,
    unknown: Cache<KeyHash, ()>,
}

impl Authenticator {
    /// Over the keys at rest.
    pub fn new(keys: Arc<dyn ApiKeys>, clock: Arc<dyn Clock>) -> Authenticator {
        Authenticator {
            keys,
            clock,
            given: HashMap::new(),
            known: Cache::new(limits::CACHE_MS_MAX, ENTRIES_MAX),
            unknown: Cache::new(UNKNOWN_MS_MAX, ENTRIES_MAX),
        }
    }

    /// Accepts one more key, exactly as given: it is in no store and need not look like ours.
    pub fn with_given(mut self, hash: KeyHash, key: ApiKey) -> Authenticator {
        self.given.insert(hash, Arc::new(key));
        self
    }

    /// The right to use a scope, from the request's headers.
    pub async fn grant(&self, headers: &HeaderMap, scope: Scope) -> Result<Grant> {
        self.grant_to(bearer(headers)?, scope).await
    }

    /// The same, from a key's text.
    pub async fn grant_to(&self, key: &str, scope: Scope) -> Result<Grant> {
        Grant::check(self.key(key).await?, scope)
    }

    /// Forgets a key that was just revoked. Other processes still take it for [`limits::CACHE_MS_MAX`].
    pub fn forget_revoked(&self, key_id: &str) {
        self.known.forget_if(|_, key| key.key_id == key_id);
    }

    /// A key is compared by looking up its SHA-256. How long a lookup takes can tell at most how much of the
    /// *hash* of a guess agrees with a stored hash, which does not help to find a text with that hash: comparing
    /// in constant time, which is what counts for comparisons of the secret itself, is inherent here.
    async fn key(&self, text: &str) -> Result<Arc<ApiKey>> {
        let hash = KeyHash::of(text);
        if let Some(key) = self.given.get(&hash) {
            return Ok(key.clone());
        }
        let now = self.clock.now();
        if let Some(key) = self.known.fresh(&hash, now) {
            return Ok(key);
        }
        if !KeyText::is_plausible(text) {
            return Err(Error::new(Code::InvalidKey, "the API key is mistyped: its checksum is wrong"));
        }
        if self.unknown.fresh(&hash, now).is_none() {
            if let Some(key) = self.keys.api_key(hash).await? {
                let key = Arc::new(key);
                self.known.store(hash, key.clone(), now);
                return Ok(key);
            }
            self.unknown.store(hash, (), now);
        }
        Err(Error::new(Code::InvalidKey, "there is no such API key"))
    }
}

/// The key in `Authorization: Bearer <key>` (RFC 6750 §2.1; the scheme in any case, RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Result<&str> {
    const HOW: &str = "send it as `Authorization: Bearer <key>`";
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value,
        (None, _) => {
            return Err(Error::new(Code::MissingKey, format!("the API key is missing: {HOW}")));
        }
        (Some(_), Some(_)) => {
            return Err(Error::new(Code::InvalidKey, "there is more than one `Authorization` header"));
        }
    };
    // Bytes, not `to_str`: a key given on the command line may hold any character.
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| Error::new(Code::InvalidKey, "the `Authorization` header is not UTF-8"))?;
    let (scheme, key) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Error::new(Code::MissingKey, format!("the API key is missing: {HOW}")));
    }
    match key.trim_start() {
        "" => Err(Error::new(Code::MissingKey, format!("the API key is empty: {HOW}"))),
        key => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use http::HeaderValue;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use stele::id::TenantId;
    use stele::time::Timestamp;

    #[derive(Default)]
    struct World {
        keys: Vec<(KeyHash, ApiKey)>,
        now: AtomicU64,
        lookups: AtomicUsize,
    }

    impl Clock for World {
        fn now(&self) -> Timestamp {
            Timestamp::from_ms(self.now.load(Ordering::Relaxed))
        }
    }

    #[async_trait]
    impl ApiKeys for World {
        async fn api_key(&self, hash: KeyHash) -> Result<Option<ApiKey>> {
            self.lookups.fetch_add(1, Ordering::Relaxed);
            Ok(self.keys.iter().find(|(h, _)| *h == hash).map(|(_, key)| key.clone()))
        }
        async fn create_api_key(&self, _: KeyHash, _: &ApiKey) -> Result<()> {
            Ok(())
        }
        async fn api_keys(&self) -> Result<Vec<ApiKey>> {
            Ok(Vec::new())
        }
        async fn revoke_api_key(&self, _: &str, _: Timestamp) -> Result<Option<ApiKey>> {
            Ok(None)
        }
    }

    fn api_key(id: &str) -> ApiKey {
        ApiKey {
            key_id: id.into(),
            tenant: TenantId::parse("acme"),
            scopes: vec![Scope::EventsRead],
            name: String::new(),
            created_ms: 0,
            revoked_ms: None,
        }
    }

    fn headers(value: &str) -> HeaderMap {
        [(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap())].into_iter().collect()
    }

    async fn code(authenticator: &Authenticator, value: &str) -> std::result::Result<String, Code> {
        let grant = authenticator.grant(&headers(value), Scope::EventsRead).await;
        grant.map(|g| g.key_id().to_owned()).map_err(|e| e.code())
    }

    #[tokio::test]
    async fn keys_are_looked_up_once_a_minute_and_guesses_less_often() {
        let text = KeyText::new("dev", &[7; 40]).text;
        let world = Arc::new(World { keys: vec![(KeyHash::of(&text), api_key("k"))], ..World::default() });
        let authenticator = Authenticator::new(world.clone(), world.clone());
        let good = format!("bEaReR   {text}");
        for (now, lookups) in [(0, 1), (59_999, 1), (60_000, 2)] {
            world.now.store(now, Ordering::Relaxed);
            assert_eq!(code(&authenticator, &good).await, Ok("k".into()));
            assert_eq!(world.lookups.load(Ordering::Relaxed), lookups, "at {now}");
        }
        for (now, lookups) in [(60_000, 3), (64_999, 3), (65_000, 4)] {
            world.now.store(now, Ordering::Relaxed);
            assert_eq!(code(&authenticator, "Bearer guessed").await, Err(Code::InvalidKey));
            assert_eq!(world.lookups.load(Ordering::Relaxed), lookups, "at {now}");
        }
        let mistyped = format!("{good}x");
        assert_eq!(code(&authenticator, &mistyped).await, Err(Code::InvalidKey));
        assert_eq!(world.lookups.load(Ordering::Relaxed), 4, "a wrong checksum asks no store");
        authenticator.forget_revoked("k");
        assert_eq!(code(&authenticator, &good).await, Ok("k".into()));
        assert_eq!(world.lookups.load(Ordering::Relaxed), 5);
    }

    #[tokio::test]
    async fn a_given_key_is_taken_as_it_is() {
        let world = Arc::new(World::default());
        let odd = "stele_not ours ü";
        let authenticator =
            Authenticator::new(world.clone(), world.clone()).with_given(KeyHash::of(odd), api_key("given"));
        assert_eq!(code(&authenticator, &format!("Bearer {odd}")).await, Ok("given".into()));
        assert_eq!(world.lookups.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_missing_is_said() {
        let world = Arc::new(World::default());
        let authenticator = Authenticator::new(world.clone(), world);
        for bad in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(code(&authenticator, bad).await, Err(Code::MissingKey), "{bad}");
        }
        let refused = authenticator.grant(&HeaderMap::new(), Scope::EventsRead).await.unwrap_err();
        assert_eq!(refused.code(), Code::MissingKey);
        let mut twice = headers("Bearer a");
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        let refused = authenticator.grant(&twice, Scope::EventsRead).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidKey);
    }
}
