//! Locked objects in a folder that behaves like an Object Lock bucket: what is there is whole, is never
//! overwritten and stays until its retention ends. A key is a path below the folder.
//!
//! An object comes into being by one `link(2)` of a finished file. Until then it is a file below `.tmp`; from
//! then on it is there with its bytes, its read-only mode and its retention, all in one. The retention is the
//! file's modification time, which lies in the future: WORM filers keep it in a file time too, and so it can't
//! be lost or torn apart from the file. Legal hold and lifecycle tag may change and have no place in a file's times:
//! they stand in a small file under the same key below `.state`, which is replaced as a whole. Without one an object has
//! neither.
//!
//! It holds against us and against crashes. It does not hold against whoever owns the files, as no local disk
//! does; that is what `stele verify` and saved checkpoints are for.

use crate::clock::timestamp;
use crate::lifecycle;
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{self, File, FileTimes, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use stele::layout::ObjectKey;
use stele::ports::{ArchiveObjects, Clock, ListedObject, LockedObjects, PutIfAbsent, Spooled, StoredObject};
use stele::retention::{LifecycleTag, ObjectState};
use stele::time::Timestamp;
use stele::tlog::hash::Hash;
use stele::{Code, Error, Result};

/// The version of every object: a key has one version, for good.
const VERSION: &str = "1";
/// Where files are written before they are linked to their names.
const TEMPORARY: &str = ".tmp";
/// Below [`TEMPORARY`]: held shared by every process that writes here, so that none cleans up after another.
const IN_USE: &str = "in-use";
/// Below [`TEMPORARY`]: held by whoever gives an object its name, changes what stands on it, or deletes it.
const CHANGING: &str = "changing";
/// Where holds and tags are kept.
const STATE: &str = ".state";
/// Read and write for nobody but the reader.
const READ_ONLY: u32 = 0o444;
/// How much of a file is copied at a time.
const COPY_BYTES: usize = 256 * 1024;
/// How many objects a lifecycle run looks at between two listings.
const LIFECYCLE_PAGE: usize = 1000;

/// What became of an attempt to delete an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It is gone.
    Deleted,
    /// There was none.
    Absent,
    /// It is locked until then and was left alone.
    Locked(Timestamp),
    /// It is under legal hold and was left alone.
    Held,
}

/// What stands on an object besides its retention.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted {
    hold: bool,
    /// As `key=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
}

impl Noted {
    fn tag(&self) -> Option<LifecycleTag> {
        let (key, value) = self.tag.as_deref()?.split_once('=')?;
        LifecycleTag::parse(key, value)
    }
}

/// Write-once objects in a folder.
#[derive(Clone)]
pub struct LockedFolder {
    folder: Arc<Folder>,
}

struct Folder {
    root: PathBuf,
    clock: Arc<dyn Clock>,
    /// Names temporary files, together with the process id.
    counter: AtomicU64,
    /// Folders whose own entry in their parent is known to be on disk.
    durable: Mutex<HashSet<PathBuf>>,
    /// Taken together with the lock on [`CHANGING`], which only keeps processes apart.
    changing: Mutex<()>,
    /// `None` in a folder opened for reading.
    claim: Option<Claim>,
}

/// What a process that writes here has open.
struct Claim {
    /// The lock that says so, until the process ends.
    _in_use: File,
    changing: File,
}

/// The right to change what stands on objects, until it is dropped.
struct Changing<'a> {
    _mutex: MutexGuard<'a, ()>,
    file: &'a File,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // If that fails the lock ends with the process; until then this process alone can change anything.
        let _ = self.file.unlock();
    }
}

impl LockedFolder {
    /// Opens a folder for writing, creates it if it is not there, and removes what a crash left half written.
    /// Blocks; meant for start-up.
    pub fn open(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<LockedFolder> {
        let root = path.into();
        let claim = claim(&root).map_err(|e| failed("open the folder of locked objects", e))?;
        Ok(LockedFolder::new(root, clock, Some(claim)))
    }

    /// Opens a folder to read it, and changes nothing in it: it may be a copy on a read-only disk.
    pub fn open_read_only(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<LockedFolder> {
        let root = path.into();
        fs::read_dir(&root).map_err(|e| failed("open the folder of locked objects", e))?;
        Ok(LockedFolder::new(root, clock, None))
    }

    fn new(root: PathBuf, clock: Arc<dyn Clock>, claim: Option<Claim>) -> LockedFolder {
        LockedFolder {
            folder: Arc::new(Folder {
                root,
                clock,
                counter: AtomicU64::new(0),
                durable: Mutex::default(),
                changing: Mutex::default(),
                claim,
            }),
        }
    }

    /// Deletes an object whose retention is over and that is not under legal hold.
    pub async fn expire(&self, key: &ObjectKey) -> Result<Expiry> {
        let key = key.clone();
        self.blocking("delete an expired object", true, move |folder| folder.expire(&key)).await
    }

    /// Deletes what the bucket's lifecycle rules delete in the cloud, and says what it was. The folder's own clock has the
    /// last word. A crash on the way leaves the rest for the next run.
    pub async fn run_lifecycle(&self, now: Timestamp) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for prefix in lifecycle::PREFIXES {
            let mut after: Option<String> = None;
            loop {
                let page = self.list(prefix, after.as_deref(), LIFECYCLE_PAGE).await?;
                for object in &page {
                    // A file that is none of ours has no tag.
                    let Some(key) = ObjectKey::parse(&object.key).map(|object| object.key()) else {
                        continue;
                    };
                    let state = self.state(&key, VERSION).await?;
                    let is_over = state.is_some_and(|state| lifecycle::is_over(key.as_str(), &state, now));
                    if is_over && self.expire(&key).await? == Expiry::Deleted {
                        removed.push(key.as_str().to_owned());
                    }
                }
                match page.last() {
                    Some(last) if page.len() == LIFECYCLE_PAGE => after = Some(last.key.clone()),
                    _ => break,
                }
            }
        }
        Ok(removed)
    }

    /// Changes what stands on a version, which has to be there.
    async fn change(
        &self,
        doing: &'static str,
        key: &ObjectKey,
        version: &str,
        work: impl FnOnce(&Folder, &ObjectKey) -> io::Result<bool> + Send + 'static,
    ) -> Result<()> {
        let own = key.clone();
        if version == VERSION && self.blocking(doing, true, move |folder| work(folder, &own)).await? {
            return Ok(());
        }
        Err(Error::new(Code::NotFound, format!("no version `{version}` of `{key}`")))
    }

    /// Runs file I/O where it can block. If the caller goes away meanwhile, it is still done to its end.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        writes: bool,
        work: impl FnOnce(&Folder) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        if writes && self.folder.claim.is_none() {
            return Err(Error::new(Code::Internal, format!("{doing}: the folder was opened for reading")));
        }
        let folder = Arc::clone(&self.folder);
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        match done {
            Ok(done) => done.map_err(|e| failed(doing, e)),
            Err(stopped) => Err(Error::unavailable(doing).with_source(stopped)),
        }
    }
}

#[async_trait]
impl LockedObjects for LockedFolder {
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        retain_until: Timestamp,
    ) -> Result<PutIfAbsent> {
        let key = key.clone();
        let doing = "write a locked object";
        self.blocking(doing, true, move |folder| folder.put_if_absent(&key, &bytes, retain_until)).await
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>> {
        let key = key.clone();
        self.blocking("read a locked object", false, move |folder| folder.object(&key)).await
    }

    async fn version(&self, key: &ObjectKey, version: &str) -> Result<Option<StoredObject>> {
        match version == VERSION {
            true => self.object(key).await,
            false => Ok(None),
        }
    }

    async fn range(&self, key: &ObjectKey, version: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        if version != VERSION {
            return Ok(None);
        }
        let key = key.clone();
        self.blocking("read a locked object", false, move |folder| folder.range(&key, range)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let work = move |folder: &Folder| folder.list(&prefix, after.as_deref().unwrap_or(""), limit);
        self.blocking("list locked objects", false, work).await
    }
}

#[async_trait]
impl ArchiveObjects for LockedFolder {
    async fn put_file_if_absent(
        &self,
        key: &ObjectKey,
        file: &Spooled,
        retain_until: Timestamp,
        tag: LifecycleTag,
    ) -> Result<PutIfAbsent> {
        let (key, file) = (key.clone(), file.clone());
        let work = move |folder: &Folder| folder.put_file_if_absent(&key, &file, retain_until, tag);
        self.blocking("write a locked object from a file", true, work).await
    }

    async fn state(&self, key: &ObjectKey, version: &str) -> Result<Option<ObjectState>> {
        if version != VERSION {
            return Ok(None);
        }
        let key = key.clone();
        self.blocking("read what stands on a locked object", false, move |folder| folder.state(&key)).await
    }

    async fn extend(&self, key: &ObjectKey, version: &str, retain_until: Timestamp) -> Result<()> {
        let work = move |folder: &Folder, key: &ObjectKey| folder.extend(key, retain_until);
        self.change("lengthen an object's retention", key, version, work).await
    }

    async fn set_hold(&self, key: &ObjectKey, version: &str, on: bool) -> Result<()> {
        let work = move |folder: &Folder, key: &ObjectKey| folder.change_noted(key, |noted| noted.hold = on);
        self.change("set an object's legal hold", key, version, work).await
    }

    async fn set_tag(&self, key: &ObjectKey, version: &str, tag: LifecycleTag) -> Result<()> {
        let tag = Some(tag.to_string());
        let work = move |folder: &Folder, key: &ObjectKey| folder.change_noted(key, |noted| noted.tag = tag);
        self.change("set an object's tag", key, version, work).await
    }
}

/// An error of ours that came through I/O is itself; any other may go away.
fn failed(doing: &str, error: io::Error) -> Error {
    error.downcast().unwrap_or_else(|error| Error::unavailable(doing).with_source(error))
}

/// Creates the folder, takes the lock of its users, and cleans up if there is no other user.
fn claim(root: &Path) -> io::Result<Claim> {
    let temporary = root.join(TEMPORARY);
    fs::create_dir_all(&temporary)?;
    sync_dir(root)?;
    if let Some(parent) = root.canonicalize()?.parent() {
        sync_dir(parent)?;
    }
    let in_use = File::options().create(true).append(true).open(temporary.join(IN_USE))?;
    match in_use.try_lock() {
        Ok(()) => {
            // Nobody else writes here, and the lock dies with its process: all of this is a crash's.
            for entry in fs::read_dir(&temporary)? {
                let entry = entry?;
                if entry.file_name() != IN_USE {
                    fs::remove_file(entry.path())?;
                }
            }
            in_use.unlock()?;
        }
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    in_use.lock_shared()?;
    // From here on nobody cleans up, and this file is the same for all.
    let changing = File::options().create(true).append(true).open(temporary.join(CHANGING))?;
    Ok(Claim { _in_use: in_use, changing })
}

/// Makes the names in a folder durable.
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A retention as a file time, rounded up to the second for disks that keep no more.
fn file_time(retain_until: Timestamp) -> FileTimes {
    let time = UNIX_EPOCH + Duration::from_secs(retain_until.ms().div_ceil(1000));
    FileTimes::new().set_modified(time)
}

/// The retention of an object's file.
fn retention(file: &File) -> io::Result<Timestamp> {
    Ok(timestamp(file.metadata()?.modified()?))
}

/// `None` where there is no such file.
fn if_found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A file below `.tmp`, removed when it is done with: by then it has its name, or never will.
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl Folder {
    fn path(&self, key: &ObjectKey) -> PathBuf {
        // A key is made by `layout` alone: relative, and without `.` or `..`.
        self.root.join(key.as_str())
    }

    fn put_if_absent(
        &self,
        key: &ObjectKey,
        bytes: &[u8],
        retain_until: Timestamp,
    ) -> io::Result<PutIfAbsent> {
        let path = self.path(key);
        let parent = path.parent().ok_or(ErrorKind::InvalidFilename)?;
        if path.try_exists()? {
            return self.exists(parent);
        }
        let temporary = self.locked_temporary(bytes, retain_until)?;
        self.name(temporary, key, None)
    }

    fn put_file_if_absent(
        &self,
        key: &ObjectKey,
        file: &Spooled,
        retain_until: Timestamp,
        tag: LifecycleTag,
    ) -> io::Result<PutIfAbsent> {
        let path = self.path(key);
        if path.try_exists()? {
            return self.exists(path.parent().ok_or(ErrorKind::InvalidFilename)?);
        }
        let temporary = self.locked_temporary(File::open(&file.path)?, retain_until)?;
        // The copy is checked: it is what becomes the object.
        let mut copy = File::open(&temporary.path)?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; COPY_BYTES]);
        loop {
            match copy.read(&mut buffer)? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        if Hash::from_bytes(hash.finalize().into()) != file.sha256 {
            let detail = format!("the file for `{key}` does not have its hash");
            return Err(io::Error::other(Error::new(Code::Internal, detail)));
        }
        self.name(temporary, key, Some(&Noted { hold: false, tag: Some(tag.to_string()) }))
    }

    /// Gives a finished file its name unless that is taken, and what is noted of it before that.
    fn name(&self, file: Temporary, key: &ObjectKey, noted: Option<&Noted>) -> io::Result<PutIfAbsent> {
        let path = self.path(key);
        let parent = path.parent().ok_or(ErrorKind::InvalidFilename)?;
        // A crash here leaves empty folders, which nobody lists.
        self.make_durable(parent)?;
        let changing = self.changing()?;
        if path.try_exists()? {
            return self.exists(parent);
        }
        // A crash after this leaves what is noted of an object that is not there; whoever writes the object next writes
        // it anew.
        match noted {
            Some(noted) => self.note(key, noted)?,
            None => self.forget_noted(key)?,
        }
        // A crash here leaves a temporary file, which the next start removes.
        match fs::hard_link(&file.path, &path) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return self.exists(parent),
            Err(e) => return Err(e),
        }
        drop(changing);
        // A crash here, or a failure below, leaves the whole object or nothing; the caller was told neither.
        sync_dir(parent)?;
        Ok(PutIfAbsent::Created(VERSION.to_owned()))
    }

    /// Whoever is told of an object builds on it, so its name must be on disk even if its writer has not yet
    /// come to that.
    fn exists(&self, parent: &Path) -> io::Result<PutIfAbsent> {
        self.make_durable(parent)?;
        sync_dir(parent)?;
        Ok(PutIfAbsent::Exists)
    }

    /// A new file to write to.
    fn temporary(&self) -> io::Result<(File, Temporary)> {
        let folder = self.root.join(TEMPORARY);
        loop {
            let n = self.counter.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}-{n}", std::process::id()));
            match File::create_new(&path) {
                Ok(file) => return Ok((file, Temporary { path })),
                // Of another process with our id, in another container.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// A file that lacks nothing but its name, on disk.
    fn locked_temporary(&self, mut bytes: impl Read, retain_until: Timestamp) -> io::Result<Temporary> {
        let (mut file, temporary) = self.temporary()?;
        io::copy(&mut bytes, &mut file)?;
        file.set_permissions(Permissions::from_mode(READ_ONLY))?;
        // Last: writing sets it too.
        file.set_times(file_time(retain_until))?;
        file.sync_all()?;
        Ok(temporary)
    }

    fn changing(&self) -> io::Result<Changing<'_>> {
        let file = &self.claim.as_ref().ok_or(ErrorKind::ReadOnlyFilesystem)?.changing;
        let mutex = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        file.lock()?;
        Ok(Changing { _mutex: mutex, file })
    }

    fn noted_path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(STATE).join(key.as_str())
    }

    fn noted(&self, key: &ObjectKey) -> io::Result<Noted> {
        let Some(json) = if_found(fs::read(self.noted_path(key)))? else {
            return Ok(Noted::default());
        };
        serde_json::from_slice(&json).map_err(|e| {
            let found = Error::corrupt(format!("`{STATE}/{key}`"), "a hold and a tag as JSON", "other bytes");
            io::Error::other(found.with_source(e))
        })
    }

    /// Replaces what is noted of an object: before or after a crash it is the old or the new, whole.
    fn note(&self, key: &ObjectKey, noted: &Noted) -> io::Result<()> {
        let path = self.noted_path(key);
        let parent = path.parent().ok_or(ErrorKind::InvalidFilename)?;
        self.make_durable(parent)?;
        let (mut file, temporary) = self.temporary()?;
        file.write_all(&serde_json::to_vec(noted)?)?;
        file.sync_all()?;
        fs::rename(&temporary.path, &path)?;
        sync_dir(parent)
    }

    fn forget_noted(&self, key: &ObjectKey) -> io::Result<()> {
        if_found(fs::remove_file(self.noted_path(key))).map(drop)
    }

    /// Whether there is such an object, whose noted state then is changed.
    fn change_noted(&self, key: &ObjectKey, to: impl FnOnce(&mut Noted)) -> io::Result<bool> {
        let _changing = self.changing()?;
        if !self.path(key).try_exists()? {
            return Ok(false);
        }
        let mut noted = self.noted(key)?;
        to(&mut noted);
        // Even if it was so already: the call that made it so may have failed before it was durable.
        self.note(key, &noted)?;
        Ok(true)
    }

    fn state(&self, key: &ObjectKey) -> io::Result<Option<ObjectState>> {
        let Some(file) = if_found(File::open(self.path(key)))? else {
            return Ok(None);
        };
        let (retain_until, noted) = (retention(&file)?, self.noted(key)?);
        Ok(Some(ObjectState { retain_until, hold: noted.hold, tag: noted.tag() }))
    }

    /// Creates a folder and those above it, and sees to it that their names are on disk: once per process, for
    /// another process may have created one and not come further.
    fn make_durable(&self, folder: &Path) -> io::Result<()> {
        if folder == self.root || self.durable().contains(folder) {
            return Ok(());
        }
        let parent = folder.parent().ok_or(ErrorKind::InvalidFilename)?;
        self.make_durable(parent)?;
        match fs::create_dir(folder) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        sync_dir(parent)?;
        self.durable().insert(folder.to_owned());
        Ok(())
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &ObjectKey) -> io::Result<Option<StoredObject>> {
        let Some(mut file) = if_found(File::open(self.path(key)))? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let retain_until = retention(&file)?;
        Ok(Some(StoredObject { bytes: bytes.into(), version: VERSION.to_owned(), retain_until }))
    }

    fn range(&self, key: &ObjectKey, range: Range<u64>) -> io::Result<Option<Bytes>> {
        let Some(mut file) = if_found(File::open(self.path(key)))? else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = Vec::new();
        file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)?;
        Ok(Some(bytes.into()))
    }

    fn expire(&self, key: &ObjectKey) -> io::Result<Expiry> {
        let path = self.path(key);
        let _changing = self.changing()?;
        let Some(file) = if_found(File::open(&path))? else {
            return Ok(Expiry::Absent);
        };
        let retain_until = retention(&file)?;
        if self.clock.now() < retain_until {
            return Ok(Expiry::Locked(retain_until));
        }
        if self.noted(key)?.hold {
            return Ok(Expiry::Held);
        }
        fs::remove_file(&path)?;
        sync_dir(path.parent().ok_or(ErrorKind::InvalidFilename)?)?;
        // A crash here leaves what was noted of it, which says nothing of anything.
        self.forget_noted(key)?;
        Ok(Expiry::Deleted)
    }

    fn extend(&self, key: &ObjectKey, retain_until: Timestamp) -> io::Result<bool> {
        let _changing = self.changing()?;
        let Some(file) = if_found(File::open(self.path(key)))? else {
            return Ok(false);
        };
        if retain_until > retention(&file)? {
            // The owner of a file may set its times without the right to write to it.
            file.set_times(file_time(retain_until))?;
        }
        // Even if it was long enough: the call that made it so may have failed before this.
        file.sync_all()?;
        Ok(true)
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> io::Result<Vec<ListedObject>> {
        let mut listing = Listing { prefix, after, limit, found: Vec::new() };
        // No key has such parts, so that a prefix can't lead out of the folder or to what is not an object.
        let (folder, _) = prefix.rsplit_once('/').unwrap_or_default();
        let strange = |part: &str| matches!(part, "" | "." | ".." | TEMPORARY | STATE) || part.contains('\0');
        if !prefix.contains('/') {
            listing.visit(&self.root, "")?;
        } else if !folder.split('/').any(strange) {
            listing.visit(&self.root.join(folder), &format!("{folder}/"))?;
        }
        Ok(listing.found)
    }
}

/// A walk in the order of keys.
struct Listing<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<ListedObject>,
}

impl Listing<'_> {
    /// Lists what is below a folder, whose key is empty or ends in `/`.
    fn visit(&mut self, folder: &Path, folder_key: &str) -> io::Result<()> {
        let Some(entries) = if_found(fs::read_dir(folder))? else {
            return Ok(());
        };
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours; it is shown as well as it can be, not hidden.
            let name = entry.file_name();
            let mut key = format!("{folder_key}{}", name.to_string_lossy());
            let is_folder = entry.file_type()?.is_dir();
            if is_folder {
                if [TEMPORARY, STATE].contains(&key.as_str()) {
                    continue;
                }
                // Sorted as it goes on in keys: `a-b/` comes before `a/`.
                key.push('/');
            }
            let in_prefix = key.starts_with(self.prefix) || is_folder && self.prefix.starts_with(&key);
            let is_after = key.as_str() > self.after || is_folder && self.after.starts_with(&key);
            if in_prefix && is_after {
                keys.push((key, is_folder, entry));
            }
        }
        keys.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
        for (key, is_folder, entry) in keys {
            if self.found.len() >= self.limit {
                break;
            }
            if is_folder {
                self.visit(&entry.path(), &key)?;
            } else if let Some(metadata) = if_found(entry.metadata())? {
                self.found.push(ListedObject { key, version: VERSION.to_owned(), bytes: metadata.len() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::contract::archive_objects;
    use std::os::unix::fs::MetadataExt;
    use stele::access::LogNumber;
    use stele::id::TenantId;
    use stele::layout::{self, Object};
    use stele::tlog::hash::LeafIndex;

    fn key(first: u64) -> ObjectKey {
        let tenant = TenantId::parse("org_acme").unwrap();
        Object::Segment { tenant, log: LogNumber(0), first: LeafIndex::new(first) }.key()
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn open(dir: &tempfile::TempDir) -> (LockedFolder, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(at(1_800_000_000_000)));
        (LockedFolder::open(dir.path().join("archive"), clock.clone()).unwrap(), clock)
    }

    async fn put(folder: &LockedFolder, key: &ObjectKey, until: Timestamp) -> PutIfAbsent {
        folder.put_if_absent(key, Bytes::from_static(b"leaves"), until).await.unwrap()
    }

    #[tokio::test]
    async fn the_folder_passes_the_suite() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = open(&dir);
        crate::contract::objects::locked_objects(&folder).await;
        archive_objects::suite(&folder, dir.path()).await;
        let left = fs::read_dir(dir.path().join("archive/.tmp")).unwrap();
        let mut left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [CHANGING, IN_USE]);
    }

    #[tokio::test]
    async fn two_openers_of_one_folder_have_one_winner() {
        let dir = tempfile::tempdir().unwrap();
        let ((a, _), (b, _)) = (open(&dir), open(&dir));
        for first in 0..20 {
            let key = key(first);
            let outcomes = [put(&a, &key, at(0)), put(&b, &key, at(0))];
            let outcomes = futures_util::future::join_all(outcomes).await;
            assert_eq!(outcomes.iter().filter(|o| **o != PutIfAbsent::Exists).count(), 1);
        }
    }

    #[tokio::test]
    async fn objects_are_read_only_files_with_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = open(&dir);
        put(&folder, &key(0), at(1_900_000_000_001)).await;
        let metadata = fs::metadata(dir.path().join("archive").join(key(0).as_str())).unwrap();
        assert_eq!(metadata.mode() & 0o777, READ_ONLY);
        assert_eq!(metadata.nlink(), 1);
        assert_eq!(metadata.mtime(), 1_900_000_001, "rounded up, never down");
    }

    #[tokio::test]
    async fn an_object_is_deleted_after_its_retention_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, clock) = open(&dir);
        let until = at(1_900_000_000_000);
        put(&folder, &key(0), until).await;
        assert_eq!(folder.expire(&key(1)).await.unwrap(), Expiry::Absent);
        for now in [0, until.ms() - 1] {
            clock.set(at(now));
            assert_eq!(folder.expire(&key(0)).await.unwrap(), Expiry::Locked(until));
        }
        assert!(folder.object(&key(0)).await.unwrap().is_some());
        clock.set(until);
        assert_eq!(folder.expire(&key(0)).await.unwrap(), Expiry::Deleted);
        assert!(folder.object(&key(0)).await.unwrap().is_none());
        assert!(matches!(put(&folder, &key(0), until).await, PutIfAbsent::Created(_)));
    }

    #[tokio::test]
    async fn a_retention_gets_longer_never_shorter_and_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = open(&dir);
        let (short, long) = (at(1_900_000_000_000), at(2_000_000_000_000));
        put(&folder, &key(0), short).await;
        for until in [long, short] {
            folder.extend(&key(0), VERSION, until).await.unwrap();
        }
        drop(folder);
        let (folder, clock) = open(&dir);
        assert_eq!(folder.object(&key(0)).await.unwrap().unwrap().retain_until, long);
        clock.set(short);
        assert_eq!(folder.expire(&key(0)).await.unwrap(), Expiry::Locked(long));
    }

    #[tokio::test]
    async fn what_the_rules_say_is_over_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, clock) = open(&dir);
        let until = at(1_900_000_000_000);
        let lifecycle = archive_objects::Lifecycle::prepare(&folder, until).await;
        let none = Vec::<String>::new();
        assert_eq!(folder.run_lifecycle(until).await.unwrap(), none, "the folder's own clock decides");
        clock.set(until);
        assert_eq!(folder.run_lifecycle(until.minus_ms(1)).await.unwrap(), none);
        lifecycle.check(&folder, &folder.run_lifecycle(until).await.unwrap()).await;
        assert_eq!(folder.run_lifecycle(until).await.unwrap(), none);
        let noted = |key: &ObjectKey| dir.path().join("archive/.state").join(key.as_str()).exists();
        assert!(!lifecycle.goes.iter().any(noted), "what was noted of it goes with it");
    }

    #[tokio::test]
    async fn a_hold_outlives_retention_and_process() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = open(&dir);
        let until = at(1_900_000_000_000);
        put(&folder, &key(0), until).await;
        folder.set_hold(&key(0), VERSION, true).await.unwrap();
        folder.set_tag(&key(0), VERSION, LifecycleTag::Archived).await.unwrap();
        drop(folder);
        let (folder, clock) = open(&dir);
        clock.set(until.plus_days(1));
        assert_eq!(folder.expire(&key(0)).await.unwrap(), Expiry::Held);
        folder.set_hold(&key(0), VERSION, false).await.unwrap();
        assert_eq!(folder.run_lifecycle(clock.now()).await.unwrap(), [key(0).as_str()]);
    }

    #[tokio::test]
    async fn what_is_noted_of_an_object_that_never_came_to_be_counts_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = open(&dir);
        for first in 0..2 {
            let noted = dir.path().join("archive/.state").join(key(first).as_str());
            fs::create_dir_all(noted.parent().unwrap()).unwrap();
            fs::write(noted, br#"{"hold":true,"tag":"archived=true"}"#).unwrap();
        }
        assert_eq!(folder.state(&key(0), VERSION).await.unwrap(), None);
        put(&folder, &key(0), at(1_900_000_000_000)).await;
        let state = folder.state(&key(0), VERSION).await.unwrap().unwrap();
        assert_eq!((state.hold, state.tag), (false, None));
        let (path, bytes) = (dir.path().join("spooled"), b"leaves");
        fs::write(&path, bytes).unwrap();
        let file = Spooled { path, bytes: 6, sha256: Hash::of(bytes) };
        folder.put_file_if_absent(&key(1), &file, at(0), LifecycleTag::Hold).await.unwrap();
        let state = folder.state(&key(1), VERSION).await.unwrap().unwrap();
        assert_eq!((state.hold, state.tag), (false, Some(LifecycleTag::Hold)));
    }

    #[tokio::test]
    async fn a_state_nobody_can_read_is_an_error_and_keeps_its_object() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = open(&dir);
        put(&folder, &key(0), at(0)).await;
        folder.set_tag(&key(0), VERSION, LifecycleTag::Archived).await.unwrap();
        fs::write(dir.path().join("archive/.state").join(key(0).as_str()), b"{").unwrap();
        assert_eq!(folder.state(&key(0), VERSION).await.unwrap_err().code(), Code::Corrupt);
        assert_eq!(folder.expire(&key(0)).await.unwrap_err().code(), Code::Corrupt);
        assert!(folder.object(&key(0)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn what_a_crash_left_is_removed_unless_another_process_may_be_writing_it() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = open(&dir);
        let left = dir.path().join("archive/.tmp/1-0");
        fs::write(&left, b"half").unwrap();
        fs::set_permissions(&left, Permissions::from_mode(READ_ONLY)).unwrap();
        let (second, _) = open(&dir);
        assert!(left.exists(), "the first opener still writes");
        assert!(folder.list("", None, 10).await.unwrap().is_empty(), "not an object");
        drop((folder, second));
        let (folder, _) = open(&dir);
        assert!(!left.exists());
        assert!(matches!(put(&folder, &key(0), at(0)).await, PutIfAbsent::Created(_)));
    }

    #[tokio::test]
    async fn a_folder_opened_for_reading_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        assert!(LockedFolder::open_read_only(dir.path().join("none"), clock.clone()).is_err());
        let copy = dir.path().join("copy");
        let path = copy.join(key(0).as_str());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"leaves").unwrap();
        let folder = LockedFolder::open_read_only(&copy, clock).unwrap();
        assert_eq!(folder.object(&key(0)).await.unwrap().unwrap().bytes, "leaves");
        assert_eq!(folder.list(layout::SEGMENTS, None, 9).await.unwrap().len(), 1);
        assert!(folder.put_if_absent(&key(1), Bytes::new(), at(0)).await.is_err());
        assert!(folder.expire(&key(0)).await.is_err());
        assert!(!copy.join(TEMPORARY).exists());
    }

    #[tokio::test]
    async fn a_file_that_is_none_of_ours_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = open(&dir);
        put(&folder, &key(0), at(0)).await;
        fs::write(dir.path().join("archive/segments/planted"), b"x").unwrap();
        let listed = folder.list("", None, 9).await.unwrap();
        assert_eq!(
            listed.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(),
            ["segments/planted", key(0).as_str()]
        );
    }
}
