//! Whether a head may be trusted: held against the stored objects at least once a day, because the keys of old
//! segments are free again after they expire and an old head must never commit there.

use crate::sealing::{ATTEMPTS_MAX, Seal, retrying, segment_key};
use stele::access::Tenant;
use stele::error::{Error, Kind, Result};
use stele::layout::{self, Object, ObjectKey};
use stele::limits;
use stele::segment::Head;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::tlog::manifest::Manifest;

/// Keys listed at once.
const LIST_PAGE: usize = 1_000;

impl Seal {
    /// The head, if it is trusted; else the head after it was held against the stored objects.
    pub(crate) async fn trusted_head(&self, tenant: &Tenant) -> Result<Head> {
        for _ in 0..ATTEMPTS_MAX {
            let now = self.clock.now();
            let head = match retrying(|| self.heads.head(tenant)).await? {
                // A head validated in the future comes from a clock that was wrong: it is not trusted either.
                Some(head)
                    if head.validated_at <= now
                        && head.validated_at.plus_ms(limits::HEAD_TRUST_MS) >= now =>
                {
                    head
                }
                stale => match self.revalidate(tenant, stale).await? {
                    Some(head) => head,
                    None => continue,
                },
            };
            let revision = head.revision;
            match self.handed_over(tenant, head).await? {
                Some(head) if head.revision == revision => return Ok(head),
                _ => {}
            }
        }
        Err(Error::unavailable(format!("the head of `{}` moves too fast to be validated", tenant.id())))
    }

    /// Walks from a head (or from nothing) to the end of what is stored, adopting every segment on the way.
    /// `None` when somebody else moved the head meanwhile.
    async fn revalidate(&self, tenant: &Tenant, stale: Option<Head>) -> Result<Option<Head>> {
        let now = self.clock.now();
        let expected = stale.as_ref().map(|h| h.revision);
        let mut head = stale.unwrap_or_else(|| Head { key: Some(self.first_key()), ..Head::empty(now) });
        if let Some(key) = head.key.as_mut().filter(|key| !key.is_told) {
            self.tell(tenant, key).await?;
            key.is_told = true;
        }
        if let Some(last) = head.size().last_index() {
            self.check_last_segment(tenant, &head, last).await?;
        }
        // From here on it counts as validated; every advance below carries that along.
        head.validated_at = now;
        let mut adopted = false;
        loop {
            let next = segment_key(tenant, head.size().next_index());
            let Some((committed, _)) = self.adopt(tenant, &head, &next).await? else { break };
            match self.advance(tenant, head, &committed).await? {
                Some(advanced) => head = advanced,
                None => return Ok(None),
            }
            adopted = true;
        }
        if !self.is_the_end(tenant, &head).await? {
            return Ok(None);
        }
        if adopted {
            return Ok(Some(head));
        }
        let mut validated = Head { revision: head.revision + 1, ..head };
        if self.publishing_is_due(&validated) {
            validated.published = self.publish(tenant, &validated, None).await?;
        }
        let moved = self.heads.advance(tenant, expected, &validated).await;
        match moved {
            Ok(true) => Ok(Some(validated)),
            Ok(false) => Ok(None),
            Err(error) if error.kind() == Kind::Unavailable => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The segment the head ends with must be there and end where the head says; or, if it has gone into the archive, the
    /// file that ends there must.
    async fn check_last_segment(&self, tenant: &Tenant, head: &Head, last: LeafIndex) -> Result<()> {
        let at = format!("head of `{}`", tenant.id());
        if let Some(edge) = retrying(|| self.places.archived_edge(tenant, head.size())).await? {
            return match edge == head.edge {
                true => Ok(()),
                false => {
                    Err(Error::corrupt(at, format!("root {} of the archive", edge.root()), head.edge.root()))
                }
            };
        }
        if retrying(|| self.places.is_archived(tenant, head.size())).await? {
            // All of it has expired; the signed manifest of its last file is what is left.
            return self.check_archive_manifest(tenant, head).await;
        }
        let entries = retrying(|| self.heads.index_below(tenant, head.size(), 1)).await?;
        let Some(entry) = entries.first().filter(|e| e.end == head.size()) else {
            return Err(Error::corrupt(at, format!("an index entry that holds leaf {last}"), "none"));
        };
        let key = segment_key(tenant, entry.first);
        let stored = retrying(|| self.objects.object(&key)).await?;
        let bytes = stored.ok_or_else(|| Error::corrupt(&key, "the head's last segment", "nothing"))?.bytes;
        let segment = stele_adapters::parquet::decode_segment(tenant.id(), key.as_str(), bytes)?;
        if segment.header.after != head.edge {
            return Err(Error::corrupt(
                at,
                format!("root {} of `{key}`", segment.header.after.root()),
                head.edge.root(),
            ));
        }
        Ok(())
    }

    async fn check_archive_manifest(&self, tenant: &Tenant, head: &Head) -> Result<()> {
        let (id, log) = (tenant.id().clone(), tenant.log());
        let key = Object::ArchiveManifest { tenant: id, log, size: head.size() }.key();
        let stored = retrying(|| self.objects.object(&key)).await?;
        let stored = stored.ok_or_else(|| Error::corrupt(&key, "the archive's last manifest", "nothing"))?;
        let manifest = Manifest::open(&stored.bytes, &self.own_keys(tenant.origin()))
            .map_err(|e| Error::corrupt(&key, "a signed manifest", e))?;
        match manifest.edge == head.edge {
            true => Ok(()),
            false => Err(Error::corrupt(&key, format!("root {}", head.edge.root()), manifest.edge.root())),
        }
    }

    /// Whether the log ends where the walk ended; `false` when others have gone on meanwhile. A segment or
    /// checkpoint further on means a hole before it, and committing into a hole would fork the log.
    pub(crate) async fn is_the_end(&self, tenant: &Tenant, head: &Head) -> Result<bool> {
        let (id, log) = (tenant.id(), tenant.log());
        for (prefix, after) in [
            (layout::segments_of(id, log), segment_key(tenant, head.size().next_index())),
            (
                layout::checkpoints_of(id, log),
                Object::Checkpoint { tenant: id.clone(), log, size: head.size() }.key(),
            ),
        ] {
            let beyond = retrying(|| self.objects.list(&prefix, Some(after.as_str()), LIST_PAGE)).await?;
            for object in beyond {
                let end = match ObjectKey::parse(&object.key) {
                    Some(Object::Segment { first, .. }) => first.size_after(),
                    Some(
                        Object::Checkpoint { size, .. }
                        | Object::Manifest { size, .. }
                        | Object::ArchiveManifest { size, .. },
                    ) => size,
                    Some(Object::Archive { first, .. } | Object::Tiles { first, .. }) => first.size_after(),
                    Some(
                        Object::KeyChange { .. }
                        | Object::Statement { .. }
                        | Object::PublicKey { .. }
                        | Object::WrappedSecret { .. },
                    )
                    | None => TreeSize::ZERO,
                };
                if end > head.size() {
                    let next = segment_key(tenant, head.size().next_index());
                    if retrying(|| self.objects.object(&next)).await?.is_some() {
                        return Ok(false);
                    }
                    return Err(Error::corrupt(
                        format!("log of `{id}`"),
                        format!("nothing beyond leaf {}", head.size()),
                        format!("`{}`", object.key),
                    ));
                }
            }
        }
        Ok(true)
    }
}
