//! Locked objects in memory: for the simulation, for faults and for `stele dev --memory`. Keeps nothing.
//!
//! It has no clock: nothing here is ever deleted, so that a lock has nothing to forbid.

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};
use stele::Result;
use stele::layout::ObjectKey;
use stele::ports::{ListedObject, LockedObjects, PutIfAbsent, StoredObject};
use stele::time::Timestamp;

/// The version of every object: a key has one version, for good.
const VERSION: &str = "1";

/// Write-once objects in memory.
#[derive(Debug, Default)]
pub struct MemoryObjects {
    objects: Mutex<BTreeMap<String, (Bytes, Timestamp)>>,
}

impl MemoryObjects {
    /// None yet.
    pub fn new() -> MemoryObjects {
        MemoryObjects::default()
    }

    /// Each map operation is whole by itself, so that a panic elsewhere can't leave half of one.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Bytes, Timestamp)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LockedObjects for MemoryObjects {
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        retain_until: Timestamp,
    ) -> Result<PutIfAbsent> {
        let mut objects = self.lock();
        if objects.contains_key(key.as_str()) {
            return Ok(PutIfAbsent::Exists);
        }
        objects.insert(key.as_str().to_owned(), (bytes, retain_until));
        Ok(PutIfAbsent::Created(VERSION.to_owned()))
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>> {
        let found = self.lock().get(key.as_str()).cloned();
        Ok(found.map(|(bytes, retain_until)| StoredObject {
            bytes,
            version: VERSION.to_owned(),
            retain_until,
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
            .map(|(key, (bytes, _))| ListedObject {
                key: key.clone(),
                version: VERSION.to_owned(),
                bytes: bytes.len() as u64,
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_passes_the_suite() {
        crate::contract::objects::locked_objects(&MemoryObjects::new()).await;
    }
}
