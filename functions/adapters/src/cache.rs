//! A small bounded cache with an age limit, for keys and tenant settings.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use stele::time::Timestamp;

/// Values by key, none older than `age_ms_max`, at most `entries_max` of them.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    age_ms_max: u64,
    entries_max: usize,
    entries: Mutex<HashMap<K, (Timestamp, V)>>,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(age_ms_max: u64, entries_max: usize) -> Cache<K, V> {
        Cache { age_ms_max, entries_max, entries: Mutex::default() }
    }

    /// The value, unless it is too old or from the future: a clock that jumps back must not keep it for longer.
    pub(crate) fn fresh(&self, key: &K, now: Timestamp) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (stored, value) = entries.get(key)?;
        self.is_fresh(*stored, now).then(|| value.clone())
    }

    pub(crate) fn store(&self, key: K, value: V, now: Timestamp) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.entries_max && !entries.contains_key(&key) {
            entries.retain(|_, (stored, _)| self.is_fresh(*stored, now));
            // Still full: begin anew. Whoever uses a cache pays one read per key for it, at most once per fill.
            if entries.len() >= self.entries_max {
                entries.clear();
            }
        }
        entries.insert(key, (now, value));
    }

    pub(crate) fn forget_if(&self, matches: impl Fn(&K, &V) -> bool) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|key, (_, value)| !matches(key, value));
    }

    fn is_fresh(&self, stored: Timestamp, now: Timestamp) -> bool {
        stored <= now && now.ms() - stored.ms() < self.age_ms_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_age_and_their_number_is_bounded() {
        let cache = Cache::new(10, 2);
        let at = Timestamp::from_ms;
        cache.store(1, "a", at(100));
        assert_eq!(cache.fresh(&1, at(109)), Some("a"));
        assert_eq!(cache.fresh(&1, at(110)), None);
        assert_eq!(cache.fresh(&1, at(99)), None, "from the future");
        cache.store(2, "b", at(105));
        cache.store(3, "c", at(112));
        assert_eq!((cache.fresh(&2, at(112)), cache.fresh(&3, at(112))), (Some("b"), Some("c")));
        cache.store(4, "d", at(112));
        assert_eq!((cache.fresh(&2, at(112)), cache.fresh(&4, at(112))), (None, Some("d")));
        cache.forget_if(|key, _| *key == 4);
        assert_eq!(cache.fresh(&4, at(112)), None);
    }
}
