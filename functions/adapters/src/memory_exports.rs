//! Exported files in memory: for tests, and for a runner that keeps nothing.

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use stele::export::{ExportKey, ExportedFile};
use stele::ports::{ExportFiles, ExportLink, Spooled};
use stele::{Error, Result};

/// Exported files in memory.
#[derive(Debug, Default)]
pub struct MemoryExports {
    files: Mutex<BTreeMap<ExportKey, (Bytes, ExportedFile)>>,
}

impl MemoryExports {
    /// None at first.
    pub fn new() -> MemoryExports {
        MemoryExports::default()
    }

    /// All keys there are.
    pub fn keys(&self) -> Vec<ExportKey> {
        self.lock().keys().cloned().collect()
    }

    /// Removes all files, as time does.
    pub fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ExportKey, (Bytes, ExportedFile)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ExportFiles for MemoryExports {
    async fn put_export(&self, key: &ExportKey, file: &Spooled, facts: &ExportedFile) -> Result<bool> {
        let bytes = std::fs::read(&file.path)
            .map_err(|e| Error::unavailable("read a spooled export").with_source(e))?;
        let mut files = self.lock();
        let is_free = !files.contains_key(key);
        files.entry(key.clone()).or_insert((bytes.into(), facts.clone()));
        Ok(is_free)
    }

    async fn exported(&self, key: &ExportKey) -> Result<Option<ExportedFile>> {
        Ok(self.lock().get(key).map(|(_, facts)| facts.clone()))
    }

    async fn link(&self, key: &ExportKey, _name: &str, _media_type: &str) -> Result<Option<ExportLink>> {
        Ok(self.lock().get(key).map(|(bytes, _)| ExportLink::Bytes(bytes.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_contract() {
        let spool = tempfile::tempdir().unwrap();
        let read = |link| match link {
            ExportLink::Bytes(bytes) => Some(bytes),
            ExportLink::Url(_) | ExportLink::File(_) => None,
        };
        crate::contract::export_files::suite(&MemoryExports::new(), spool.path(), read).await;
    }
}
