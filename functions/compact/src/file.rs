//! One file of the archive: read the segments, check them against the log, write, read back, go on record.

use crate::Compact;
use crate::enforce::{archive_key, class_of, segment_key};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stele::access::Tenant;
use stele::archive::{ArchiveEntry, ArchiveHeader};
use stele::error::{Code, Error, Result};
use stele::layout::{self, Object, ObjectKey};
use stele::limits;
use stele::ports::{PutIfAbsent, Spooled};
use stele::retention::LifecycleTag;
use stele::segment::IndexEntry;
use stele::tlog::hash::{Hash, TreeSize};
use stele::tlog::manifest::{Manifest, ManifestObject};
use stele::tlog::note::{Signer, VerifierKey};
use stele::tlog::range::CompactRange;
use stele::tlog::tiles::{Tiles, TilesBuilder, range_between};
use stele::tlog::tree::RightEdge;
use stele_adapters::parquet::archive::{ArchiveFile, ArchiveWriter};
use stele_adapters::retry::retrying;

/// Segments fetched ahead of the one that is being read.
const FETCHED_AHEAD: usize = 4;
/// Objects listed at once.
const LIST_PAGE: usize = 1_000;
/// Tells the files of one process apart.
static SPOOLED: AtomicU64 = AtomicU64::new(0);

/// A file in the spool folder, removed when it is done with.
struct SpoolFile(PathBuf);

impl SpoolFile {
    fn new(folder: &Path) -> SpoolFile {
        let n = SPOOLED.fetch_add(1, Ordering::Relaxed);
        SpoolFile(folder.join(format!("archive-{}-{n}.parquet", std::process::id())))
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        // It may never have come into being.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A file as written, not yet stored.
struct Written {
    file: Spooled,
    header: ArchiveHeader,
    tiles: Tiles,
}

impl Compact {
    /// Rolls whole segments, which follow the archive's end, into a file. On return it is stored, read back and on record.
    pub(crate) async fn roll(&self, tenant: &Tenant, segments: &[IndexEntry]) -> Result<ArchiveEntry> {
        let spool = SpoolFile::new(&self.spool);
        let written = self.write(tenant, segments, &spool).await?;
        let class = class_of(tenant)?;
        let entry = written.header.entry(written.file.bytes, String::new(), written.file.sha256, class);
        let key = archive_key(tenant, &entry);
        // The shortest class may be over before the file is written; the bucket takes no lock that short.
        let least = self.clock.now().plus_days(limits::ARCHIVE_LOCK_DAYS_MIN);
        let retain_until = self.lock_of(&entry, class).max(least);
        let tag = LifecycleTag::Class(class);
        // A crash right after this line leaves a file that is not on record: the next visit finds it at the same key.
        let put =
            retrying(|| self.archive.put_file_if_absent(&key, &written.file, retain_until, tag)).await?;
        let (version, bytes) = match put {
            PutIfAbsent::Created(version) => (version, written.file.bytes),
            PutIfAbsent::Exists => self.stored(&key).await?,
        };
        let file = self.open(&key, &version, bytes).await?;
        if file.header().end() != written.header.end() {
            // Somebody was first and took more segments, or fewer: that file it is.
            let end = file.header().end();
            drop(spool);
            return self.adopt(tenant, &key, &file, version, bytes, end).await;
        }
        self.check_stored(&key, &file, &written.header)?;
        let (sha256, edge) = file.read_back().await?;
        let is_ours = sha256 == written.file.sha256;
        if edge != written.header.after || (bytes == written.file.bytes && !is_ours) {
            return Err(differs(&key, &written.header.after, &edge));
        }
        self.record(tenant, &key, written, version, bytes, sha256).await
    }

    /// Puts a file on record that somebody else stored, after it was held against the segments.
    async fn adopt(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        file: &ArchiveFile,
        version: String,
        bytes: u64,
        end: TreeSize,
    ) -> Result<ArchiveEntry> {
        let waiting = self.waiting(tenant).await?;
        let segments: Vec<IndexEntry> =
            waiting.into_iter().take_while(|segment| segment.end <= end).collect();
        if segments.last().is_none_or(|last| last.end != end) {
            return Err(Error::corrupt(
                key,
                "a file that ends where a segment ends",
                format!("one that ends at {end}"),
            ));
        }
        let spool = SpoolFile::new(&self.spool);
        let written = self.write(tenant, &segments, &spool).await?;
        self.check_stored(key, file, &written.header)?;
        let (sha256, edge) = file.read_back().await?;
        if edge != written.header.after {
            return Err(differs(key, &written.header.after, &edge));
        }
        self.record(tenant, key, written, version, bytes, sha256).await
    }

    /// What is left once the file is stored and proven: tiles, manifest, index. Each may be there already.
    async fn record(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        written: Written,
        version: String,
        bytes: u64,
        sha256: Hash,
    ) -> Result<ArchiveEntry> {
        let Written { header, tiles: written_tiles, .. } = written;
        let (id, log) = (tenant.id().clone(), tenant.log());
        let tiles_key = Object::Tiles { tenant: id.clone(), log, first: header.first() }.key();
        let tiles = self.put_or_read(&tiles_key, written_tiles.to_bytes().into()).await?;
        let object = |key: &ObjectKey, sha256| ManifestObject {
            key: key.as_str().to_owned(),
            first: header.first(),
            end: header.end(),
            sha256,
        };
        let manifest = Manifest {
            origin: header.origin.clone(),
            size: header.end(),
            edge: header.after.clone(),
            objects: vec![object(key, sha256), object(&tiles_key, Hash::of(&tiles))],
        };
        let signed = manifest.sign(&self.signer(tenant).await?).map_err(|e| {
            Error::new(Code::Internal, format!("signing the manifest of `{key}`")).with_source(e)
        })?;
        let manifest_key = Object::ArchiveManifest { tenant: id, log, size: header.end() }.key();
        let stored = self.put_or_read(&manifest_key, signed.clone().into()).await?;
        // Ed25519 is deterministic: another text speaks of another file, or is signed with the key before this one.
        let is_ours = stored == signed.as_bytes()
            || Manifest::open(&stored, &self.own_keys(tenant)).is_ok_and(|stored| stored == manifest);
        if !is_ours {
            return Err(Error::corrupt(&manifest_key, format!("the manifest of `{key}`"), "another"));
        }
        let range = all_of(&written_tiles);
        let entry = ArchiveEntry { range, ..header.entry(bytes, version, sha256, class_of(tenant)?) };
        // A crash before this line: the next visit writes the file anew, finds it stored, and comes here again.
        retrying(|| self.index.put_archived(tenant, &entry)).await?;
        tracing::info!(tenant = %tenant.id(), %key, leaves = entry.leaves(), bytes, "archived");
        Ok(entry)
    }

    fn own_keys(&self, tenant: &Tenant) -> Vec<VerifierKey> {
        let own = |seed| tenant.origin().signer(seed).verifier_key().clone();
        self.seeds.all().iter().map(own).collect()
    }

    /// What signs for a log: the seed of the key its head names. A file's end may lie far behind a change of key, whose
    /// new key answers for what came before it too.
    async fn signer(&self, tenant: &Tenant) -> Result<Signer> {
        let head = retrying(|| self.heads.head(tenant)).await?;
        let key = head.and_then(|head| head.key).filter(|key| key.is_told);
        let seed = match key {
            Some(key) => self.seeds.of(&key.public),
            None => Some(self.seeds.oldest()),
        };
        let seed = seed.ok_or_else(|| {
            Error::unavailable(format!(
                "the log of `{}` is signed with a newer key than this process has",
                tenant.id()
            ))
        })?;
        Ok(tenant.origin().signer(seed))
    }

    /// Stores a small object, locked as long as proofs are, or gives what is there.
    async fn put_or_read(&self, key: &ObjectKey, bytes: Bytes) -> Result<Bytes> {
        let until = self.clock.now().plus_days(limits::CHECKPOINT_LOCK_DAYS);
        match retrying(|| self.objects.put_if_absent(key, bytes.clone(), until)).await? {
            PutIfAbsent::Created(_) => Ok(bytes),
            PutIfAbsent::Exists => {
                let stored = retrying(|| self.objects.object(key)).await?;
                Ok(stored
                    .ok_or_else(|| Error::unavailable(format!("`{key}` is taken, but can't be read")))?
                    .bytes)
            }
        }
    }

    /// The version and size of an object that is there.
    async fn stored(&self, key: &ObjectKey) -> Result<(String, u64)> {
        let listed = retrying(|| self.objects.list(key.as_str(), None, 1)).await?;
        let object = listed.into_iter().find(|object| object.key == key.as_str());
        object
            .map(|object| (object.version, object.bytes))
            .ok_or_else(|| Error::unavailable(format!("`{key}` is taken, but not listed")))
    }

    async fn open(&self, key: &ObjectKey, version: &str, bytes: u64) -> Result<ArchiveFile> {
        retrying(|| ArchiveFile::open(Arc::clone(&self.objects), key.clone(), version.to_owned(), bytes))
            .await
    }

    fn check_stored(&self, key: &ObjectKey, file: &ArchiveFile, header: &ArchiveHeader) -> Result<()> {
        let stored = file.header();
        match stored.origin == header.origin && stored.before == header.before && stored.after == header.after
        {
            true => Ok(()),
            false => Err(differs(key, &header.after, &stored.after)),
        }
    }

    /// Reads segments, holds each against the index and the tree, and writes their rows.
    async fn write(&self, tenant: &Tenant, segments: &[IndexEntry], spool: &SpoolFile) -> Result<Written> {
        let Some(first) = segments.first() else {
            return Err(Error::new(Code::Internal, "a file of the archive needs a segment"));
        };
        let (before, running) = self.tree_before(tenant, first).await?;
        let cuts = self.checkpoint_sizes(tenant, segments).await?;
        let mut tiles = TilesBuilder::new(tenant.origin().clone(), before.clone(), cuts);
        let mut writer = ArchiveWriter::create(&spool.0, tenant.origin(), tenant.log(), before, running)?;
        let fetches: Vec<_> = segments.iter().map(|segment| self.segment(tenant, segment).boxed()).collect();
        let mut fetched = stream::iter(fetches).buffered(FETCHED_AHEAD);
        while let Some((key, bytes)) = fetched.try_next().await? {
            // Decoding and compressing is work without waiting: let others on this thread have their turn between.
            let (_, hashes) = writer.append(tenant.id(), key.as_str(), bytes)?;
            hashes.into_iter().for_each(|hash| tiles.append(hash));
            tokio::task::yield_now().await;
        }
        let (file, header) = writer.finish()?;
        if tiles.edge() != header.after {
            return Err(Error::new(Code::Internal, "tiles and file do not hold the same leaves"));
        }
        Ok(Written { file, header, tiles: tiles.finish() })
    }

    /// The tree before a segment as the archive's last file says, and the latest `received_at` in it.
    async fn tree_before(
        &self,
        tenant: &Tenant,
        first: &IndexEntry,
    ) -> Result<(RightEdge, stele::time::Timestamp)> {
        let Some(last) = self.last_entry(tenant).await? else {
            return Ok((RightEdge::empty(), stele::time::Timestamp::default()));
        };
        // The segment's own header says it too, and is checked against this by the writer.
        let segment = self.segment(tenant, first).await?;
        let (header, _) = stele_adapters::parquet::decode_ids(segment.0.as_str(), segment.1)?;
        let size = last.end;
        if header.before.size() != size {
            return Err(Error::corrupt(
                &segment.0,
                format!("a segment that begins at {size}"),
                header.before.size(),
            ));
        }
        let key = Object::ArchiveManifest { tenant: tenant.id().clone(), log: tenant.log(), size }.key();
        let stored = retrying(|| self.objects.object(&key)).await?;
        let stored = stored
            .ok_or_else(|| Error::corrupt(&key, "the manifest of the archive's last file", "nothing"))?;
        let manifest = Manifest::open(&stored.bytes, &self.own_keys(tenant))
            .map_err(|e| Error::corrupt(&key, "a signed manifest", e))?;
        if manifest.edge != header.before {
            return Err(differs(&segment.0, &manifest.edge, &header.before));
        }
        Ok((manifest.edge, last.running_received_max))
    }

    /// A segment's bytes, held against the hash the index has of them.
    async fn segment(&self, tenant: &Tenant, entry: &IndexEntry) -> Result<(ObjectKey, Bytes)> {
        let key = segment_key(tenant, entry);
        let stored = retrying(|| self.objects.version(&key, &entry.version)).await?;
        let bytes = stored
            .ok_or_else(|| Error::corrupt(&key, "a segment that is not in the archive yet", "nothing"))?
            .bytes;
        match Hash::of(&bytes) == entry.sha256 {
            true => Ok((key, bytes)),
            false => Err(Error::corrupt(&key, format!("SHA-256 {}", entry.sha256), Hash::of(&bytes))),
        }
    }

    /// Sizes within the segments that a locked checkpoint speaks of: there the tiles are cut.
    async fn checkpoint_sizes(&self, tenant: &Tenant, segments: &[IndexEntry]) -> Result<BTreeSet<TreeSize>> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Ok(BTreeSet::new());
        };
        let prefix = layout::checkpoints_of(tenant.id(), tenant.log());
        let at = |size| Object::Checkpoint { tenant: tenant.id().clone(), log: tenant.log(), size }.key();
        let mut after = at(first.first.size_before()).as_str().to_owned();
        let mut sizes = BTreeSet::new();
        loop {
            let page = retrying(|| self.objects.list(&prefix, Some(&after), LIST_PAGE)).await?;
            let is_last = page.len() < LIST_PAGE;
            for object in page {
                after.clone_from(&object.key);
                match ObjectKey::parse(&object.key) {
                    Some(Object::Checkpoint { size, .. } | Object::Manifest { size, .. })
                        if size < last.end =>
                    {
                        sizes.insert(size);
                    }
                    Some(Object::Checkpoint { .. } | Object::Manifest { .. }) => return Ok(sizes),
                    _ => {}
                }
            }
            if is_last {
                return Ok(sizes);
            }
        }
    }
}

/// The range of all leaves that tiles speak of.
fn all_of(tiles: &Tiles) -> Option<CompactRange> {
    range_between(std::slice::from_ref(tiles), tiles.first(), tiles.end())
}

fn differs(key: &ObjectKey, expected: &RightEdge, found: &RightEdge) -> Error {
    let shown = |edge: &RightEdge| format!("root {} of size {}", edge.root(), edge.size());
    Error::corrupt(key, shown(expected), shown(found))
}
