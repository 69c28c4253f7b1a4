//! Exported files in a folder. Each is a folder of its own with the file and what is told of it, which gets its name by one
//! `rename(2)`: that refuses to replace a folder that is not empty, so that both appear at once or somebody was faster.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stele::export::{EXPORTS, ExportKey, ExportedFile};
use stele::ports::{ExportFiles, ExportLink, Spooled};
use stele::{Error, Result};

/// Where files are put together before they get their names.
const TEMPORARY: &str = ".tmp";
/// What is told of a file, beside it.
const FACTS: &str = "facts.json";
const FILE: &str = "file";

/// Exported files in a folder.
#[derive(Clone, Debug)]
pub struct ExportFolder {
    root: Arc<PathBuf>,
    counter: Arc<AtomicU64>,
}

#[derive(Serialize, Deserialize)]
struct Facts(Vec<(String, String)>);

impl ExportFolder {
    /// Opens a folder that nobody else writes to, creates it if it is not there, and removes what a crash left half
    /// written. Blocks; meant for start-up.
    pub fn open(root: impl Into<PathBuf>) -> Result<ExportFolder> {
        let root = root.into();
        let opened = (|| {
            let temporary = root.join(TEMPORARY);
            if_found(fs::remove_dir_all(&temporary))?;
            fs::create_dir_all(&temporary)
        })();
        opened.map_err(|e| failed("open the folder of exports", e))?;
        Ok(ExportFolder { root: Arc::new(root), counter: Arc::default() })
    }

    /// Removes files that are older than that, and says how many.
    pub async fn remove_older(&self, age: Duration) -> Result<u64> {
        self.blocking("remove old exports", move |folder| folder.remove(age)).await
    }

    fn remove(&self, age: Duration) -> io::Result<u64> {
        let mut removed = 0;
        for tenant in fs::read_dir(&*self.root)? {
            let tenant = tenant?;
            if tenant.file_name() == TEMPORARY || !tenant.file_type()?.is_dir() {
                continue;
            }
            for export in fs::read_dir(tenant.path())? {
                let export = export?;
                // A clock that was set back makes nothing old.
                let old = export.metadata()?.modified()?.elapsed().is_ok_and(|elapsed| elapsed >= age);
                if old {
                    fs::remove_dir_all(export.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn path(&self, key: &ExportKey) -> PathBuf {
        // A key is made by `export` alone: relative, and without `.` or `..`.
        self.root.join(key.as_str().trim_start_matches(EXPORTS))
    }

    fn put(&self, key: &ExportKey, file: &Spooled, facts: &ExportedFile) -> io::Result<bool> {
        let path = self.path(key);
        if path.try_exists()? {
            return Ok(false);
        }
        let parent = path.parent().ok_or(ErrorKind::InvalidFilename)?;
        fs::create_dir_all(parent)?;
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(TEMPORARY).join(n.to_string());
        fs::create_dir(&temporary)?;
        let put = (|| {
            let own = temporary.join(FILE);
            // The same file under a second name, where the disk is the same.
            if fs::hard_link(&file.path, &own).is_err() {
                fs::copy(&file.path, &own)?;
            }
            File::open(&own)?.sync_all()?;
            let facts = facts.facts().map(|(name, value)| (name.to_owned(), value));
            let text = serde_json::to_vec(&Facts(facts.to_vec()))?;
            fs::write(temporary.join(FACTS), text)?;
            File::open(temporary.join(FACTS))?.sync_all()?;
            sync(&temporary)?;
            match fs::rename(&temporary, &path) {
                Ok(()) => sync(parent).map(|()| true),
                Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                    Ok(false)
                }
                Err(e) => Err(e),
            }
        })();
        if !matches!(put, Ok(true)) {
            // What stays is removed at the next start.
            let _ = fs::remove_dir_all(&temporary);
        }
        put
    }

    fn told(&self, key: &ExportKey) -> io::Result<Option<ExportedFile>> {
        let path = self.path(key);
        let Some(text) = if_found(fs::read(path.join(FACTS)))? else { return Ok(None) };
        let Facts(facts) = serde_json::from_slice(&text)?;
        let bytes = fs::metadata(path.join(FILE))?.len();
        let fact = |name: &str| facts.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        ExportedFile::of_facts(key, bytes, fact).map(Some).map_err(io::Error::other)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&ExportFolder) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = self.clone();
        match tokio::task::spawn_blocking(move || work(&folder)).await {
            Ok(done) => done.map_err(|e| failed(doing, e)),
            Err(stopped) => Err(Error::unavailable(doing).with_source(stopped)),
        }
    }
}

fn failed(doing: &str, error: io::Error) -> Error {
    error.downcast().unwrap_or_else(|error| Error::unavailable(doing).with_source(error))
}

fn if_found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[async_trait]
impl ExportFiles for ExportFolder {
    async fn put_export(&self, key: &ExportKey, file: &Spooled, facts: &ExportedFile) -> Result<bool> {
        let (key, file, facts) = (key.clone(), file.clone(), facts.clone());
        self.blocking("write an export", move |folder| folder.put(&key, &file, &facts)).await
    }

    async fn exported(&self, key: &ExportKey) -> Result<Option<ExportedFile>> {
        let key = key.clone();
        self.blocking("read an export", move |folder| folder.told(&key)).await
    }

    async fn link(&self, key: &ExportKey, _name: &str, _media_type: &str) -> Result<Option<ExportLink>> {
        let path = self.path(key).join(FILE);
        self.blocking("look for an export", move |_| Ok(path.try_exists()?.then_some(ExportLink::File(path))))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::export_files;
    use crate::contract::sample::{export, tenant};
    use stele::tlog::hash::Hash;

    fn read(link: ExportLink) -> Option<bytes::Bytes> {
        match link {
            ExportLink::File(path) => fs::read(path).ok().map(Into::into),
            ExportLink::Url(_) | ExportLink::Bytes(_) => None,
        }
    }

    #[tokio::test]
    async fn a_folder_keeps_the_contract() {
        let (folder, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        export_files::suite(&ExportFolder::open(folder.path()).unwrap(), spool.path(), read).await;
    }

    #[tokio::test]
    async fn old_files_go_and_what_a_crash_left_too() {
        let folder = tempfile::tempdir().unwrap();
        let exports = ExportFolder::open(folder.path().join("e")).unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"x").unwrap();
        let file = Spooled { path, bytes: 1, sha256: Hash::of(b"x") };
        let facts = ExportedFile {
            bytes: 1,
            sha256: file.sha256.to_string(),
            events: 1,
            first: 0,
            end: 1,
            expired: 0,
        };
        let key = export(1).key(tenant("acme").id());
        assert!(exports.put_export(&key, &file, &facts).await.unwrap());
        fs::create_dir(folder.path().join("e/.tmp/9")).unwrap();
        let exports = ExportFolder::open(folder.path().join("e")).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("e/.tmp")).unwrap().count(), 0);
        assert_eq!(exports.remove_older(Duration::from_secs(60)).await.unwrap(), 0);
        assert!(exports.exported(&key).await.unwrap().is_some());
        assert_eq!(exports.remove_older(Duration::ZERO).await.unwrap(), 1);
        assert_eq!(exports.exported(&key).await.unwrap(), None);
        assert_eq!(exports.link(&key, "x", "text/csv").await.unwrap(), None);
    }
}
