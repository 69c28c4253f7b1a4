//! Rebuild: the whole database from the locked objects alone.
//!
//! It restores tenants, segment index, heads and, within the hot window, the records themselves. It cannot
//! restore what was never sealed, API keys, or settings a tenant changed: those are in no locked object.

use crate::sealing::{Seal, retrying, segment_key};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stele::access::{LogNumber, Tenant, TenantRecord};
use stele::error::{Error, Result};
use stele::id::TenantId;
use stele::layout::{self, Object, ObjectKey};
use stele::limits;
use stele::ports::{HotStore, Put, PutOutcome, Remember};
use stele::record::Record;
use stele::segment::{Head, Segment};
use stele::time::{Day, Timestamp};
use stele::tlog::hash::{Hash, LeafIndex};
use stele_adapters::parquet::decode_segment;

/// Keys listed at once.
const LIST_PAGE: usize = 1_000;
/// Records put back at the same time.
const PUTS_AT_ONCE: usize = 16;

/// Rebuilds a database.
pub struct Rebuild {
    seal: Arc<Seal>,
    hot: Arc<dyn HotStore>,
}

/// What a rebuild has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Logs whose heads stand again.
    pub tenants: u64,
    /// Segments read and checked.
    pub segments: u64,
    /// Records put back into the hot store.
    pub records: u64,
    /// Records in the segments that the hot store would have forgotten by now.
    pub forgotten: u64,
}

impl Rebuild {
    /// With the sealer whose stores are to be filled and the hot store.
    pub fn new(seal: Arc<Seal>, hot: Arc<dyn HotStore>) -> Rebuild {
        Rebuild { seal, hot }
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

    /// The latest log of every tenant that has segments.
    async fn logs(&self) -> Result<BTreeMap<TenantId, LogNumber>> {
        let mut logs = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let objects = &self.seal.objects;
            let page = retrying(|| objects.list(layout::SEGMENTS, after.as_deref(), LIST_PAGE)).await?;
            for object in &page {
                if let Some(Object::Segment { tenant, log, .. }) = ObjectKey::parse(&object.key) {
                    let latest = logs.entry(tenant).or_insert(log);
                    *latest = log.max(*latest);
                }
            }
            match page.last() {
                Some(last) if page.len() == LIST_PAGE => after = Some(last.key.clone()),
                _ => return Ok(logs),
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
        let mut late = BTreeSet::new();
        loop {
            let key = segment_key(&tenant, head.size().next_index());
            let Some((found, bytes)) = seal.adopt(&tenant, &head, &key).await? else { break };
            let segment = decode_segment(id, key.as_str(), bytes)?;
            self.restore_records(&tenant, &segment, &mut late, rebuilt).await?;
            retrying(|| seal.heads.put_index(&tenant, &found.entry)).await?;
            head = Head { revision: head.revision, ..seal.head_after(&tenant, &head, &found.header)? };
            rebuilt.segments += 1;
            progress(rebuilt);
        }
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
        let first = Object::Segment { tenant: id.clone(), log, first: LeafIndex::ZERO }.key();
        let stored = retrying(|| seal.objects.object(&first)).await?;
        let stored = stored.ok_or_else(|| Error::corrupt(&first, "the log's first segment", "nothing"))?;
        let segment = decode_segment(id, first.as_str(), stored.bytes.clone())?;
        let created = segment.entry(stored.version, Hash::of(&stored.bytes))?.received_min;
        let record = TenantRecord { log, ..TenantRecord::new(id, &segment.header.origin, created) };
        Tenant::on_record(retrying(|| seal.tenants.create_tenant(&record)).await?)
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
        let (kept, forgotten): (Vec<&Record>, Vec<&Record>) =
            segment.records.iter().partition(|r| r.received_at.plus_days(hot_days) > now);
        rebuilt.forgotten += forgotten.len() as u64;
        for record in &kept {
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
