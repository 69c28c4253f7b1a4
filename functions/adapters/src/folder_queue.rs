//! A queue in a folder, for the local runner: a message is a file, on disk before it is acknowledged.
//!
//! Its name is the time it was sent and a random number; it is delivered until it is deleted, so that a crash anywhere
//! delivers it again.

use async_trait::async_trait;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stele::ports::{Backlog, Clock, Inbox, Outbox, Random};
use stele::spill::Delivered;
use stele::time::Timestamp;
use stele::{Error, Result};

const MESSAGE: &str = "message";

/// A folder of messages.
#[derive(Clone)]
pub struct FolderQueue {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl FolderQueue {
    /// Opens a folder, and makes it if it is not there.
    pub fn open(
        folder: impl Into<PathBuf>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<FolderQueue> {
        let folder = folder.into();
        let made = fs::create_dir_all(&folder)
            .and_then(|()| folder.canonicalize())
            .and_then(|folder| folder.parent().map_or(Ok(()), sync_dir));
        made.map_err(|e| unavailable("opening the queue's folder", e))?;
        Ok(FolderQueue { folder, clock, random })
    }

    /// Runs file I/O where it can block. If the caller goes away meanwhile, it is still done to its end.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        done.map_err(|e| Error::unavailable(doing).with_source(e))?.map_err(|e| unavailable(doing, e))
    }
}

fn unavailable(doing: &str, source: io::Error) -> Error {
    Error::unavailable(doing).with_source(source)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The names of messages, by rising time; what is half written has another ending.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(&format!(".{MESSAGE}")) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn read(folder: &Path, name: &str) -> io::Result<Delivered> {
    let odd = || io::Error::new(ErrorKind::InvalidData, format!("`{name}` is not the name of a message"));
    let id = name.strip_suffix(&format!(".{MESSAGE}")).ok_or_else(odd)?;
    let sent_ms = id.split('-').next().and_then(|ms| ms.parse().ok()).ok_or_else(odd)?;
    Ok(Delivered {
        id: id.to_owned(),
        receipt: name.to_owned(),
        sent_at: Timestamp::from_ms(sent_ms),
        body: fs::read_to_string(folder.join(name))?,
    })
}

#[async_trait]
impl Outbox for FolderQueue {
    async fn send(&self, message: String) -> Result<()> {
        let id = format!("{:020}-{:032x}", self.clock.now().ms(), self.random.bits());
        let write = move |folder: &Path| {
            let half_written = folder.join(format!("{id}.new"));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half_written)?;
            file.write_all(message.as_bytes())?;
            file.sync_all()?;
            // A crash before this line leaves a file that is no message, of an event that was not acknowledged.
            fs::rename(&half_written, folder.join(format!("{id}.{MESSAGE}")))?;
            sync_dir(folder)
        };
        self.blocking("queueing a message", write).await
    }
}

#[async_trait]
impl Backlog for FolderQueue {
    async fn waiting(&self) -> Result<bool> {
        self.blocking("asking how much waits in a queue", |folder| Ok(!names(folder)?.is_empty())).await
    }
}

#[async_trait]
impl Inbox for FolderQueue {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivered>> {
        let receive = move |folder: &Path| {
            names(folder)?.iter().take(limit).map(|name| read(folder, name)).collect::<io::Result<Vec<_>>>()
        };
        self.blocking("receiving messages", receive).await
    }

    async fn delete(&self, receipt: &str) -> Result<()> {
        let name = receipt.to_owned();
        let delete = move |folder: &Path| match fs::remove_file(folder.join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            // A deletion that a crash undoes delivers the message once more.
            _ => Ok(()),
        };
        self.blocking("deleting a message", delete).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SystemClock, SystemRandom};

    #[tokio::test]
    async fn a_folder_passes_the_suite_and_keeps_messages_when_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            FolderQueue::open(folder.path().join("q"), Arc::new(SystemClock), Arc::new(SystemRandom)).unwrap()
        };
        let queue = open();
        crate::contract::queues::suite(&queue, &queue, &queue).await;
        queue.send("kept".to_owned()).await.unwrap();
        fs::write(folder.path().join("q/half.new"), "torn").unwrap();
        let found = open().receive(10).await.unwrap();
        assert_eq!(found.iter().map(|m| m.body.as_str()).collect::<Vec<_>>(), ["kept"]);
    }
}
