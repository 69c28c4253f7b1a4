//! Sealing one tenant's records: drop what is in the log, append the rest, commit, advance.

use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use stele::access::Tenant;
use stele::error::{Code, Error, Kind, Result};
use stele::id::{EventId, TenantId};
use stele::layout::{Object, ObjectKey};
use stele::limits;
use stele::ports::{Clock, Heads, LockedObjects, PutIfAbsent, Tenants};
use stele::public_key::SigningSeeds;
use stele::record::Record;
use stele::segment::{Head, HeadKey, IndexEntry, Segment, SegmentHeader};
use stele::tlog::checkpoint::Checkpoint;
use stele::tlog::hash::{Hash, LeafIndex};
use stele::tlog::tree::RightEdge;
use stele_adapters::parquet::{decode_segment, encode_segment};
use stele_adapters::places::Places;
pub(crate) use stele_adapters::retry::{ATTEMPTS_MAX, retrying};
use stele_adapters::witnesses::Witness;

/// What sealing is told from outside.
#[derive(Clone)]
pub struct SealSettings {
    /// The Ed25519 seeds checkpoints are signed with: logs are handed over to the newest.
    pub seeds: SigningSeeds,
    /// Who is asked to cosign what is stated.
    pub witnesses: Vec<Arc<Witness>>,
    /// How long after one checkpoint object the next is written; 0 writes one with every segment.
    pub publish_every_ms: u64,
}

/// Seals. Clients and caches live as long as it does: make one per cold start.
pub struct Seal {
    pub(crate) heads: Arc<dyn Heads>,
    pub(crate) objects: Arc<dyn LockedObjects>,
    pub(crate) tenants: Arc<dyn Tenants>,
    pub(crate) places: Arc<Places>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: SealSettings,
}

/// What became of one tenant's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Went into a segment now.
    pub sealed: u64,
    /// So many segments.
    pub segments: u64,
    /// Were in the log before, or twice in the batch.
    pub replayed: u64,
}

/// A segment that is committed, whoever wrote it.
pub(crate) struct Committed {
    pub(crate) header: SegmentHeader,
    pub(crate) entry: IndexEntry,
    pub(crate) ids: Vec<EventId>,
}

impl Seal {
    /// Over the stores it commits to.
    pub fn new(
        heads: Arc<dyn Heads>,
        objects: Arc<dyn LockedObjects>,
        tenants: Arc<dyn Tenants>,
        places: Arc<Places>,
        clock: Arc<dyn Clock>,
        settings: SealSettings,
    ) -> Seal {
        Seal { heads, objects, tenants, places, clock, settings }
    }

    /// Seals records of one tenant by its id; they come from the system's own stream, not from a request.
    pub(crate) async fn seal_of(&self, tenant: &TenantId, records: &[Record]) -> Result<Sealed> {
        let record = retrying(|| self.tenants.tenant(tenant)).await?;
        let record = record.ok_or_else(|| {
            Error::corrupt(
                format!("records of `{tenant}`"),
                "a tenant on record",
                "none (run `stele rebuild`)",
            )
        })?;
        self.seal(&Tenant::on_record(record)?, records).await
    }

    /// Brings records into the tenant's log, each exactly once, whatever happened to earlier attempts. On
    /// return they are in locked objects and every reader of the head finds them.
    pub async fn seal(&self, tenant: &Tenant, records: &[Record]) -> Result<Sealed> {
        let mut seen = HashSet::with_capacity(records.len());
        let mut waiting: Vec<&Record> = records.iter().filter(|r| seen.insert(r.id)).collect();
        if let Some(foreign) = waiting.iter().find(|r| &r.tenant != tenant.id()) {
            return Err(Error::corrupt("a batch", format!("records of `{}`", tenant.id()), &foreign.tenant));
        }
        waiting.sort_by_key(|r| (r.received_at, r.id));

        let mut outcome = Sealed::default();
        let mut head = self.trusted_head(tenant).await?;
        loop {
            if waiting.is_empty() {
                outcome.replayed = records.len() as u64 - outcome.sealed;
                return Ok(outcome);
            }
            let wanted: Vec<_> = waiting.iter().map(|r| (r.id, r.received_at)).collect();
            let placed = retrying(|| self.places.places_below(tenant, &head, &wanted)).await?;
            waiting.retain(|r| !placed.contains_key(&r.id));
            if waiting.is_empty() {
                continue;
            }
            let count = waiting.len().min(limits::SEGMENT_LEAVES_MAX);
            let (committed, ours) = self.commit(tenant, &head, &waiting[..count]).await?;
            if ours {
                outcome.sealed += count as u64;
                outcome.segments += 1;
            }
            let ids: HashSet<EventId> = committed.ids.iter().copied().collect();
            waiting.retain(|r| !ids.contains(&r.id));
            head = match self.advance(tenant, head, &committed).await? {
                Some(head) => head,
                None => self.trusted_head(tenant).await?,
            };
        }
    }

    /// Commits records as the next segment, or finds out which segment is there instead.
    async fn commit(&self, tenant: &Tenant, head: &Head, records: &[&Record]) -> Result<(Committed, bool)> {
        let records: Vec<Record> = records.iter().map(|r| (*r).clone()).collect();
        let mut after = head.edge.clone();
        after.extend(records.iter().map(|r| r.leaf_hash));
        let received_max = records.iter().map(|r| r.received_at).max().unwrap_or_default();
        let header = SegmentHeader {
            origin: tenant.origin().clone(),
            log: tenant.log(),
            before: head.edge.clone(),
            after,
            // Clocks of two sealers differ; the log's own time never runs backwards.
            sealed_at: self.clock.now().max(head.sealed_at),
            received_max: received_max.max(head.received_max),
            checkpoint_before: head.checkpoint.clone(),
        };
        let key = segment_key(tenant, header.first());
        let bytes = encode_segment(&header, &records)?;
        let retain_until = header.sealed_at.plus_days(limits::SEGMENT_LOCK_DAYS);

        for attempt in 1..=ATTEMPTS_MAX {
            // A crash right after this line leaves a committed segment that no index knows: whoever seals this
            // tenant next gets `Exists` and adopts it.
            match self.objects.put_if_absent(&key, bytes.clone(), retain_until).await {
                Ok(PutIfAbsent::Created(version)) => {
                    let segment = Segment { header, records };
                    return Ok((committed(segment, version, &bytes)?, true));
                }
                Ok(PutIfAbsent::Exists) => {}
                Err(error) if error.kind() == Kind::Unavailable && attempt < ATTEMPTS_MAX => {
                    tracing::warn!(%key, %error, "commit of unknown outcome");
                }
                Err(error) => return Err(error),
            }
            // Somebody was first, or our own answer got lost: what is there decides.
            if let Some((committed, stored)) = self.adopt(tenant, head, &key).await? {
                return Ok((committed, stored == bytes));
            }
        }
        // Taken, and yet not there to be read: trying on would spin, sealing again later may not.
        Err(Error::unavailable(format!("`{key}` is taken, but can't be read")))
    }

    /// Reads the segment at a key, if there is one, and checks that it follows the head.
    pub(crate) async fn adopt(
        &self,
        tenant: &Tenant,
        head: &Head,
        key: &ObjectKey,
    ) -> Result<Option<(Committed, Bytes)>> {
        let Some(stored) = retrying(|| self.objects.object(key)).await? else { return Ok(None) };
        let segment = decode_segment(tenant.id(), key.as_str(), stored.bytes.clone())?;
        let header = &segment.header;
        if &header.origin != tenant.origin() {
            return Err(Error::corrupt(key, format!("origin `{}`", tenant.origin()), &header.origin));
        }
        if header.before != head.edge {
            return Err(Error::corrupt(
                key,
                format!("a segment that follows root {}", head.edge.root()),
                format!("one that follows root {}", header.before.root()),
            ));
        }
        let committed = committed(segment, stored.version, &stored.bytes)?;
        Ok(Some((committed, stored.bytes)))
    }

    /// Makes a committed segment visible: index entry, checkpoint objects when due, then the head, in that
    /// order, so that whoever sees a size finds every segment below it. `None` when somebody else moved the
    /// head (or our own answer was lost): read it again and go on from there.
    pub(crate) async fn advance(
        &self,
        tenant: &Tenant,
        head: Head,
        committed: &Committed,
    ) -> Result<Option<Head>> {
        retrying(|| self.heads.put_index(tenant, &committed.entry)).await?;
        // A crash here leaves an entry above the head, which no walk from the head reads.
        self.places.remember(tenant, &committed.entry, &committed.ids);
        let header = &committed.header;
        let mut next = self.head_after(tenant, &head, header)?;
        if self.publishing_is_due(&next) {
            next.published = self.publish(tenant, &next, Some(&committed.entry)).await?;
        }
        let expected = (head.revision > 0).then_some(head.revision);
        for attempt in 1..=ATTEMPTS_MAX {
            match self.heads.advance(tenant, expected, &next).await {
                Ok(true) => return Ok(Some(next)),
                Ok(false) => return Ok(None),
                Err(error) if error.kind() == Kind::Unavailable && attempt < ATTEMPTS_MAX => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable(format!("advancing the head of `{}`", tenant.id())))
    }

    /// The head once a committed segment is in.
    pub(crate) fn head_after(&self, tenant: &Tenant, head: &Head, header: &SegmentHeader) -> Result<Head> {
        let same_month = month(header.sealed_at) == month(head.sealed_at);
        Ok(Head {
            revision: head.revision + 1,
            edge: header.after.clone(),
            checkpoint: self.checkpoint(tenant, &self.key_of(head), &header.after)?,
            key: head.key,
            sealed_at: header.sealed_at,
            received_max: header.received_max,
            validated_at: head.validated_at,
            published: head.published,
            month_base: if same_month { head.month_base } else { head.size() },
        })
    }

    /// The signed checkpoint of a tree. Only for a tree whose last segment is committed.
    pub(crate) fn checkpoint(&self, tenant: &Tenant, key: &HeadKey, edge: &RightEdge) -> Result<String> {
        let checkpoint = Checkpoint::new(tenant.origin().clone(), edge.size(), edge.root());
        checkpoint.sign(&self.signer(tenant, key)?).map_err(|e| {
            Error::new(Code::Internal, format!("signing the checkpoint of `{}`", tenant.id())).with_source(e)
        })
    }
}

pub(crate) fn segment_key(tenant: &Tenant, first: LeafIndex) -> ObjectKey {
    Object::Segment { tenant: tenant.id().clone(), log: tenant.log(), first }.key()
}

pub(crate) fn committed(segment: Segment, version: String, bytes: &[u8]) -> Result<Committed> {
    let entry = segment.entry(version, Hash::of(bytes))?;
    let ids = segment.records.iter().map(|r| r.id).collect();
    Ok(Committed { header: segment.header, entry, ids })
}

fn month(time: stele::time::Timestamp) -> [u8; 7] {
    let mut month = [0; 7];
    month.copy_from_slice(&time.day().to_bytes()[..7]);
    month
}
