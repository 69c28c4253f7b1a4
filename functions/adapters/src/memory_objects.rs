//! Locked objects in memory: for the simulation, for faults and for `stele dev --memory`. Keeps nothing.
//!
//! It has no clock: nothing here goes unless [`MemoryObjects::run_lifecycle`] is told what time it is.

use crate::lifecycle;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};
use stele::layout::ObjectKey;
use stele::ports::{ArchiveObjects, ListedObject, LockedObjects, PutIfAbsent, Spooled, StoredObject};
use stele::retention::{LifecycleTag, ObjectState};
use stele::time::Timestamp;
use stele::tlog::hash::Hash;
use stele::{Code, Error, Result};

/// The version of every object: a key has one version, for good.
const VERSION: &str = "1";

/// Write-once objects in memory.
#[derive(Debug, Default)]
pub struct MemoryObjects {
    objects: Mutex<BTreeMap<String, Kept>>,
}

#[derive(Debug)]
struct Kept {
    bytes: Bytes,
    state: ObjectState,
}

impl MemoryObjects {
    /// None yet.
    pub fn new() -> MemoryObjects {
        MemoryObjects::default()
    }

    /// Removes what the bucket's lifecycle rules remove in the cloud, and says what it was.
    pub async fn run_lifecycle(&self, now: Timestamp) -> Result<Vec<String>> {
        let over = |key: &String, kept: &mut Kept| lifecycle::is_over(key, &kept.state, now);
        Ok(self.lock().extract_if(.., over).map(|(key, _)| key).collect())
    }

    /// Loses an object, whatever its lock: for tests. Says whether it was there.
    pub fn lose(&self, key: &ObjectKey) -> bool {
        self.lock().remove(key.as_str()).is_some()
    }

    /// Lays other bytes in an object's place, whatever its lock: for tests. Says whether it was there.
    pub fn forge(&self, key: &ObjectKey, bytes: Bytes) -> bool {
        self.lock().get_mut(key.as_str()).map(|kept| kept.bytes = bytes).is_some()
    }

    fn put(&self, key: &ObjectKey, bytes: Bytes, state: ObjectState) -> PutIfAbsent {
        let mut objects = self.lock();
        if objects.contains_key(key.as_str()) {
            return PutIfAbsent::Exists;
        }
        objects.insert(key.as_str().to_owned(), Kept { bytes, state });
        PutIfAbsent::Created(VERSION.to_owned())
    }

    fn change(&self, key: &ObjectKey, version: &str, to: impl FnOnce(&mut ObjectState)) -> Result<()> {
        match self.lock().get_mut(key.as_str()) {
            Some(kept) if version == VERSION => to(&mut kept.state),
            _ => return Err(no_such_version(key, version)),
        }
        Ok(())
    }

    /// Each map operation is whole by itself, so that a panic elsewhere can't leave half of one.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_such_version(key: &ObjectKey, version: &str) -> Error {
    Error::new(Code::NotFound, format!("no version `{version}` of `{key}`"))
}

#[async_trait]
impl LockedObjects for MemoryObjects {
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        retain_until: Timestamp,
    ) -> Result<PutIfAbsent> {
        Ok(self.put(key, bytes, ObjectState { retain_until, hold: false, tag: None }))
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>> {
        Ok(self.lock().get(key.as_str()).map(|kept| StoredObject {
            bytes: kept.bytes.clone(),
            version: VERSION.to_owned(),
            retain_until: kept.state.retain_until,
        }))
    }

    async fn version(&self, key: &ObjectKey, version: &str) -> Result<Option<StoredObject>> {
        Ok(self.object(key).await?.filter(|object| object.version == version))
    }

    async fn range(&self, key: &ObjectKey, version: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let found = self.version(key, version).await?;
        Ok(found.map(|object| {
            let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(object.bytes.len());
            object.bytes.slice(at(range.start)..at(range.end).max(at(range.start)))
        }))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let objects = self.lock();
        let found = objects.range::<str, _>((from, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(found
            .map(|(key, kept)| ListedObject {
                key: key.clone(),
                version: VERSION.to_owned(),
                bytes: kept.bytes.len() as u64,
            })
            .collect())
    }
}

#[async_trait]
impl ArchiveObjects for MemoryObjects {
    async fn put_file_if_absent(
        &self,
        key: &ObjectKey,
        file: &Spooled,
        retain_until: Timestamp,
        tag: LifecycleTag,
    ) -> Result<PutIfAbsent> {
        const DOING: &str = "reading a spool file";
        // Blocking: simulations run without a runtime that could take it elsewhere.
        let bytes = std::fs::read(&file.path).map_err(|e| Error::unavailable(DOING).with_source(e))?;
        if Hash::of(&bytes) != file.sha256 {
            return Err(Error::new(Code::Internal, format!("the file for `{key}` does not have its hash")));
        }
        Ok(self.put(key, bytes.into(), ObjectState { retain_until, hold: false, tag: Some(tag) }))
    }

    async fn state(&self, key: &ObjectKey, version: &str) -> Result<Option<ObjectState>> {
        let state = self.lock().get(key.as_str()).map(|kept| kept.state);
        Ok(state.filter(|_| version == VERSION))
    }

    async fn extend(&self, key: &ObjectKey, version: &str, retain_until: Timestamp) -> Result<()> {
        self.change(key, version, |state| state.retain_until = state.retain_until.max(retain_until))
    }

    async fn set_hold(&self, key: &ObjectKey, version: &str, on: bool) -> Result<()> {
        self.change(key, version, |state| state.hold = on)
    }

    async fn set_tag(&self, key: &ObjectKey, version: &str, tag: LifecycleTag) -> Result<()> {
        self.change(key, version, |state| state.tag = Some(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::archive_objects;

    #[tokio::test]
    async fn memory_passes_the_suites() {
        let store = MemoryObjects::new();
        crate::contract::objects::locked_objects(&store).await;
        archive_objects::suite(&store, tempfile::tempdir().unwrap().path()).await;
    }

    #[tokio::test]
    async fn what_the_rules_say_is_over_goes_and_nothing_else() {
        let store = MemoryObjects::new();
        let until = Timestamp::from_ms(1_900_000_000_000);
        let lifecycle = archive_objects::Lifecycle::prepare(&store, until).await;
        assert_eq!(store.run_lifecycle(until.minus_ms(1)).await.unwrap(), Vec::<String>::new());
        lifecycle.check(&store, &store.run_lifecycle(until).await.unwrap()).await;
        assert!(store.lose(&lifecycle.stays[0]) && !store.lose(&lifecycle.stays[0]));
    }
}
