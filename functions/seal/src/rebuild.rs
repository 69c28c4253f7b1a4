//! Rebuild: the whole database from the locked objects alone.
//!
//! It restores tenants, both indexes, heads and, within the hot window, the records themselves. It cannot restore what was
//! never sealed, API keys, legal holds' reasons, or settings a tenant changed: those are in no locked object. The class of
//! each file it reads off the file's own tag and lock.

use crate::keys::Keys;
use crate::sealing::{Seal, retrying, segment_key};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stele::access::{LogNumber, Tenant, TenantRecord};
use stele::archive::{ArchiveEntry, Month};
use stele::error::{Error, Result};
use stele::id::{EventId, TenantId};
use stele::layout::{self, Object, ObjectKey};
use stele::limits;
use stele::ports::{ArchiveIndex, ArchiveObjects, HotStore, ListedObject, Put, PutOutcome, Remember};
use stele::record::Record;
use stele::retention::{Class, LifecycleTag};
use stele::segment::{Head, Published, Segment};
use stele::time::{DAY_MS, Day, Timestamp};
use stele::tlog::checkpoint::Origin;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize};
use stele::tlog::manifest::Manifest;
use stele::tlog::range::CompactRange;
use stele::tlog::tiles::{Tiles, range_between};
use stele_adapters::parquet::archive::{ArchiveFile, Keep};
use stele_adapters::parquet::decode_segment;

/// Keys listed at once.
const LIST_PAGE: usize = 1_000;
/// Records put back at the same time.
const PUTS_AT_ONCE: usize = 16;

/// Rebuilds a database.
pub struct Rebuild {
    seal: Arc<Seal>,
    hot: Arc<dyn HotStore>,
    index: Arc<dyn ArchiveIndex>,
    archive: Arc<dyn ArchiveObjects>,
}

/// What a rebuild has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Logs whose heads stand again.
    pub tenants: u64,
    /// Files of the archive whose headers were read.
    pub files: u64,
    /// Segments read and checked.
    pub segments: u64,
    /// Records put back into the hot store.
    pub records: u64,
    /// Records in the segments that the hot store would have forgotten by now.
    pub forgotten: u64,
}

impl Rebuild {
    /// With the sealer whose stores are to be filled, the hot store and the archive's index, and the archive.
    pub fn new(
        seal: Arc<Seal>,
        hot: Arc<dyn HotStore>,
        index: Arc<dyn ArchiveIndex>,
        archive: Arc<dyn ArchiveObjects>,
    ) -> Rebuild {
        Rebuild { seal, hot, index, archive }
    }

    /// Restores everything; stops at the first object that is not what it must be. `progress` hears of every
    /// segment. It can be run again at any time, also over a database that is only partly lost.
    pub async fn run(&self, progress: &(dyn Fn(&Rebuilt) + Sync)) -> Result<Rebuilt> {
        let mut rebuilt = Rebuilt::default();
        for (tenant, log) in self.logs().await? {
            self.rebuild_log(&tenant, log, &mut rebuilt, progress).await?;
            rebuilt.tenants += 1;
        }
        Ok(rebuilt)
    }

    /// The latest log of every tenant that has segments, files of the archive, or checkpoints of what has expired.
    async fn logs(&self) -> Result<BTreeMap<TenantId, LogNumber>> {
        let mut logs = BTreeMap::new();
        for prefix in [layout::SEGMENTS, layout::ARCHIVE, layout::CHECKPOINTS] {
            for object in self.listed(prefix).await? {
                let (tenant, log) = match ObjectKey::parse(&object.key) {
                    Some(
                        Object::Segment { tenant, log, .. }
                        | Object::Archive { tenant, log, .. }
                        | Object::ArchiveManifest { tenant, log, .. },
                    ) => (tenant, log),
                    _ => continue,
                };
                let latest = logs.entry(tenant).or_insert(log);
                *latest = log.max(*latest);
            }
        }
        Ok(logs)
    }

    async fn listed(&self, prefix: &str) -> Result<Vec<ListedObject>> {
        let mut all: Vec<ListedObject> = Vec::new();
        loop {
            let after = all.last().map(|object| object.key.clone());
            let objects = &self.seal.objects;
            let page = retrying(|| objects.list(prefix, after.as_deref(), LIST_PAGE)).await?;
            let is_last = page.len() < LIST_PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    async fn rebuild_log(
        &self,
        id: &TenantId,
        log: LogNumber,
        rebuilt: &mut Rebuilt,
        progress: &(dyn Fn(&Rebuilt) + Sync),
    ) -> Result<()> {
        let seal = &self.seal;
        let tenant = self.tenant(id, log).await?;
        let before = retrying(|| seal.heads.head(&tenant)).await?;
        let now = seal.clock.now();
        let mut head = Head { revision: before.as_ref().map_or(1, |h| h.revision + 1), ..Head::empty(now) };
        let keys = seal.history(&tenant).await?;
        let mut late = BTreeSet::new();
        self.rebuild_archive(&tenant, &keys, &mut head, &mut late, rebuilt, progress).await?;
        loop {
            let key = segment_key(&tenant, head.size().next_index());
            let Some((found, bytes)) = seal.adopt(&tenant, &head, &key).await? else { break };
            let segment = decode_segment(id, key.as_str(), bytes)?;
            self.restore_records(&tenant, &segment, &mut late, rebuilt).await?;
            retrying(|| seal.heads.put_index(&tenant, &found.entry)).await?;
            head.key = Some(keys.at(found.header.end()));
            head = Head { revision: head.revision, ..seal.head_after(&tenant, &head, &found.header)? };
            rebuilt.segments += 1;
            progress(rebuilt);
        }
        head.key = Some(keys.last());
        // Entries of a longer index that was lost with its segments would lead readers to nothing.
        retrying(|| seal.heads.drop_index(&tenant, head.size().next_index())).await?;
        let moved = || {
            Error::unavailable(format!(
                "the log of `{id}` moved during the rebuild: stop sealing, then run it again"
            ))
        };
        if !seal.is_the_end(&tenant, &head).await? {
            return Err(moved());
        }
        if seal.publishing_is_due(&head) {
            head.published = seal.publish(&tenant, &head, None).await?;
        }
        let expected = before.map(|h| h.revision);
        if retrying(|| seal.heads.advance(&tenant, expected, &head)).await? {
            return Ok(());
        }
        // The answer of our own write may have been lost: what stands there now tells.
        match retrying(|| seal.heads.head(&tenant)).await? {
            Some(found) if found.edge == head.edge => Ok(()),
            _ => Err(moved()),
        }
    }

    /// The tenant on record, or one made from what its first segment says.
    async fn tenant(&self, id: &TenantId, log: LogNumber) -> Result<Tenant> {
        let seal = &self.seal;
        if let Some(record) = retrying(|| seal.tenants.tenant(id)).await? {
            return Tenant::on_record(record);
        }
        let (origin, created, class) = self.beginning(id, log).await?;
        let record =
            TenantRecord { log, class_days: class.days(), ..TenantRecord::new(id, &origin, created) };
        Tenant::on_record(retrying(|| seal.tenants.create_tenant(&record)).await?)
    }

    /// What is left of a log's beginning: its origin, when it began as far as that is known, and the class it had last.
    async fn beginning(&self, id: &TenantId, log: LogNumber) -> Result<(Origin, Timestamp, Class)> {
        let seal = &self.seal;
        let files = self.listed(&layout::archive_of(id, log)).await?;
        if let (Some(first), Some(last)) = (files.first(), files.last()) {
            let (first, last) = (self.open(first).await?, self.open(last).await?);
            let class = self.class_of(&last).await?;
            return Ok((first.header().origin.clone(), first.header().received_min, class));
        }
        let segments = self.listed(&layout::segments_of(id, log)).await?;
        if let Some(first) = segments.first()
            && let Some(key) = ObjectKey::parse(&first.key).map(|object| object.key())
            && let Some(stored) = retrying(|| seal.objects.object(&key)).await?
        {
            let segment = decode_segment(id, key.as_str(), stored.bytes.clone())?;
            let created = segment.entry(stored.version, Hash::of(&stored.bytes))?.received_min;
            return Ok((segment.header.origin, created, Class::default()));
        }
        // Everything has expired: its manifests say whose it was.
        let (manifest, _) = self.last_manifest(id, log).await?.ok_or_else(|| {
            Error::corrupt(format!("log {log} of `{id}`"), "a segment, a file or a manifest", "none")
        })?;
        Ok((manifest.origin, seal.clock.now(), Class::default()))
    }

    /// The latest manifest of the archive. It is signed by us, or it is not believed.
    async fn last_manifest(&self, id: &TenantId, log: LogNumber) -> Result<Option<(Manifest, ObjectKey)>> {
        let mut latest = None;
        for object in self.listed(&layout::checkpoints_of(id, log)).await? {
            if let Some(manifest @ Object::ArchiveManifest { .. }) = ObjectKey::parse(&object.key) {
                latest = Some(manifest.key());
            }
        }
        let Some(key) = latest else { return Ok(None) };
        let stored = retrying(|| self.seal.objects.object(&key)).await?;
        let stored = stored.ok_or_else(|| Error::corrupt(&key, "the object that is listed", "nothing"))?;
        let unsigned = |e| Error::corrupt(&key, "a manifest signed with this installation's key", e);
        let text = std::str::from_utf8(&stored.bytes).unwrap_or_default();
        let body = text.find("\n\n").map_or(text, |end| &text[..=end]);
        let origin = Manifest::parse(body).map_err(unsigned)?.origin;
        let manifest = Manifest::open(&stored.bytes, &self.seal.own_keys(&origin)).map_err(unsigned)?;
        Ok(Some((manifest, key)))
    }

    async fn open(&self, object: &ListedObject) -> Result<ArchiveFile> {
        let key = ObjectKey::parse(&object.key).map(|object| object.key());
        let key = key.ok_or_else(|| Error::corrupt(&object.key, "a key of ours", "another"))?;
        let objects = &self.seal.objects;
        retrying(|| ArchiveFile::open(objects.clone(), key.clone(), object.version.clone(), object.bytes))
            .await
    }

    /// The class of a file, by its tag, or by how long it is locked.
    async fn class_of(&self, file: &ArchiveFile) -> Result<Class> {
        let state = retrying(|| self.archive.state(file.key(), file.version())).await?;
        let state =
            state.ok_or_else(|| Error::corrupt(file.key(), "the object that is listed", "nothing"))?;
        if let Some(LifecycleTag::Class(class)) = state.tag {
            return Ok(class);
        }
        let kept_ms = state.retain_until.ms().saturating_sub(file.header().sealed_last.ms());
        let days = u32::try_from(kept_ms / DAY_MS).unwrap_or(u32::MAX);
        Ok(Class::all()
            .filter(|class| class.days() <= days)
            .last()
            .unwrap_or_else(|| Class::at_least(0).unwrap_or_default()))
    }

    /// The archive's files, from the first that is left on: their index, and the head at their end.
    async fn rebuild_archive(
        &self,
        tenant: &Tenant,
        keys: &Keys,
        head: &mut Head,
        late: &mut BTreeSet<(Day, Day)>,
        rebuilt: &mut Rebuilt,
        progress: &(dyn Fn(&Rebuilt) + Sync),
    ) -> Result<()> {
        let seal = &self.seal;
        let (id, log) = (tenant.id(), tenant.log());
        let mut end = TreeSize::ZERO;
        let statements = self.listed(&layout::checkpoints_of(id, log)).await?;
        let on_record: BTreeSet<TreeSize> = statements
            .iter()
            .filter_map(|object| match ObjectKey::parse(&object.key) {
                Some(Object::ArchiveManifest { size, .. }) => Some(size),
                _ => None,
            })
            .collect();
        for object in self.listed(&layout::archive_of(id, log)).await? {
            let file = self.open(&object).await?;
            let header = file.header();
            if !on_record.contains(&header.end()) {
                // Compact did not come further with its last file: its segments are all there, and it will find the file.
                break;
            }
            if &header.origin != tenant.origin() {
                return Err(Error::corrupt(
                    &object.key,
                    format!("origin `{}`", tenant.origin()),
                    &header.origin,
                ));
            }
            if end == TreeSize::ZERO && header.first() > LeafIndex::ZERO {
                self.remember_expired(tenant, header.first().size_before(), header.sealed_first).await?;
            } else if header.before != head.edge {
                return Err(Error::corrupt(
                    &object.key,
                    format!("a file that follows root {}", head.edge.root()),
                    format!("one that follows root {}", header.before.root()),
                ));
            }
            let now = seal.clock.now();
            let hot_days = tenant.record().hot_days;
            let (kept, sha256) = if header.received_max.plus_days(hot_days) > now {
                let mut records: Vec<Record> = Vec::new();
                let is_hot: Keep = Arc::new(move |columns| columns.received_at.plus_days(hot_days) > now);
                let sha256 = file
                    .verify(id, is_hot, &mut |leaves| {
                        records.extend(leaves.kept.iter().map(|(_, record)| record.clone()));
                        Ok(())
                    })
                    .await?;
                (records, sha256)
            } else {
                (Vec::new(), file.read_back().await?.0)
            };
            rebuilt.forgotten += header.leaves() - kept.len() as u64;
            self.restore_all(tenant, &kept, late, rebuilt).await?;
            let class = self.class_of(&file).await?;
            let range = self.range_of(tenant, header.first()).await?;
            let entry =
                ArchiveEntry { range, ..header.entry(object.bytes, object.version.clone(), sha256, class) };
            retrying(|| self.index.put_archived(tenant, &entry)).await?;
            let month_base = if Month::of(head.sealed_at) == header.month() {
                head.month_base
            } else {
                header.before.size()
            };
            *head = Head {
                edge: header.after.clone(),
                checkpoint: seal.checkpoint(tenant, &keys.at(header.end()), &header.after)?,
                sealed_at: header.sealed_last,
                received_max: header.running_received_max,
                month_base,
                // The file's manifest was written before it went on record: what is new begins behind it.
                published: Published { size: header.end(), at: Timestamp::default() },
                ..head.clone()
            };
            end = header.end();
            rebuilt.files += 1;
            progress(rebuilt);
        }
        retrying(|| self.index.drop_archived(tenant, end.next_index())).await?;
        if end == TreeSize::ZERO && self.listed(&layout::segments_of(id, log)).await?.is_empty() {
            // All of it has expired: the last manifest of the archive says where the log goes on.
            if let Some((manifest, _)) = self.last_manifest(id, log).await? {
                let now = seal.clock.now();
                self.remember_expired(tenant, manifest.size, now).await?;
                *head = Head {
                    checkpoint: seal.checkpoint(tenant, &keys.at(manifest.size), &manifest.edge)?,
                    edge: manifest.edge,
                    sealed_at: now,
                    received_max: now,
                    month_base: manifest.size,
                    published: Published { size: manifest.size, at: Timestamp::default() },
                    ..head.clone()
                };
            }
        }
        Ok(())
    }

    /// The hashes of a file's leaves' subtrees, as its tiles have them; without tiles proofs read the file.
    async fn range_of(&self, tenant: &Tenant, first: LeafIndex) -> Result<Option<CompactRange>> {
        let key = Object::Tiles { tenant: tenant.id().clone(), log: tenant.log(), first }.key();
        let Some(stored) = retrying(|| self.seal.objects.object(&key)).await? else { return Ok(None) };
        let tiles =
            Tiles::parse(&stored.bytes).map_err(|e| Error::corrupt(&key, "tiles as they were written", e))?;
        Ok(range_between(std::slice::from_ref(&tiles), tiles.first(), tiles.end()))
    }

    /// One entry for all that has expired at a log's beginning: what it held, nobody can say any more.
    async fn remember_expired(&self, tenant: &Tenant, end: TreeSize, until: Timestamp) -> Result<()> {
        let nobody = EventId::new(Timestamp::default(), 0);
        let entry = ArchiveEntry {
            first: LeafIndex::ZERO,
            end,
            sealed_first: Timestamp::default(),
            sealed_last: Timestamp::default(),
            received_min: Timestamp::default(),
            received_max: Timestamp::default(),
            running_received_max: until,
            id_min: nobody,
            id_max: nobody,
            bytes: 0,
            version: String::new(),
            sha256: Hash::from_bytes([0; 32]),
            class: Class::default(),
            expired: Some(self.seal.clock.now()),
            range: None,
        };
        retrying(|| self.index.put_archived(tenant, &entry)).await
    }

    async fn restore_records(
        &self,
        tenant: &Tenant,
        segment: &Segment,
        late: &mut BTreeSet<(Day, Day)>,
        rebuilt: &mut Rebuilt,
    ) -> Result<()> {
        let now = self.seal.clock.now();
        let hot_days = tenant.record().hot_days;
        let kept = segment.records.iter().filter(|r| r.received_at.plus_days(hot_days) > now);
        let kept: Vec<Record> = kept.cloned().collect();
        rebuilt.forgotten += (segment.records.len() - kept.len()) as u64;
        self.restore_all(tenant, &kept, late, rebuilt).await
    }

    async fn restore_all(
        &self,
        tenant: &Tenant,
        kept: &[Record],
        late: &mut BTreeSet<(Day, Day)>,
        rebuilt: &mut Rebuilt,
    ) -> Result<()> {
        let now = self.seal.clock.now();
        for record in kept {
            let days = (record.received_at.day(), record.occurred_at.day());
            if days.0 != days.1 && late.insert(days) {
                retrying(|| self.hot.mark_late(tenant, days.0, days.1)).await?;
            }
        }
        stream::iter(kept.iter().map(|record| self.restore(tenant, record, now)))
            .buffer_unordered(PUTS_AT_ONCE)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await?;
        rebuilt.records += kept.len() as u64;
        Ok(())
    }

    async fn restore(&self, tenant: &Tenant, record: &Record, now: Timestamp) -> Result<()> {
        let until = record.received_at.plus_ms(limits::REMEMBERED_MS);
        let external_id = record.columns()?.external_id.map(|id| id.into_owned());
        let put = Put {
            record: record.clone(),
            expires: record.received_at.plus_days(tenant.record().hot_days),
            remember: external_id.filter(|_| until > now).map(|id| Remember {
                name: Remember::external_id_name(&id),
                now,
                until,
            }),
        };
        match retrying(|| self.hot.put(tenant, &put)).await? {
            PutOutcome::Stored => Ok(()),
            PutOutcome::Exists(there) | PutOutcome::Remembered(there) if there.leaf == record.leaf => Ok(()),
            PutOutcome::Exists(there) | PutOutcome::Remembered(there) => Err(Error::corrupt(
                format!("event `{}` of `{}`", record.id, tenant.id()),
                format!("leaf {} as sealed", record.leaf_hash),
                format!("leaf {}", there.leaf_hash),
            )),
        }
    }
}
