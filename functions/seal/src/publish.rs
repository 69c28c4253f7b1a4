//! Checkpoint objects: the signed, locked milestones that outlive every database.

use crate::sealing::{Seal, retrying, segment_key};
use bytes::Bytes;
use stele::access::Tenant;
use stele::error::{Code, Error, Result};
use stele::layout::{Object, ObjectKey};
use stele::limits;
use stele::ports::PutIfAbsent;
use stele::segment::{Head, IndexEntry, Published};
use stele::time::Timestamp;
use stele::tlog::manifest::{Manifest, ManifestObject};

/// Entries of the index read at once.
const INDEX_PAGE: usize = 256;

impl Seal {
    pub(crate) fn publishing_is_due(&self, head: &Head) -> bool {
        let now = self.clock.now();
        // A publication in the future comes from a clock that was wrong: waiting for it could take years.
        let is_time =
            now < head.published.at || head.published.at.plus_ms(self.settings.publish_every_ms) <= now;
        head.size() > head.published.size && is_time
    }

    /// Writes the manifest of what is new since the last published size, then the checkpoint. `last` is the
    /// entry of the newest segment, which spares a read when it is all there is.
    pub(crate) async fn publish(
        &self,
        tenant: &Tenant,
        head: &Head,
        last: Option<&IndexEntry>,
    ) -> Result<Published> {
        let size = head.size();
        let now = self.clock.now();
        let manifest = Manifest {
            origin: tenant.origin().clone(),
            size,
            edge: head.edge.clone(),
            objects: self.new_objects(tenant, head, last).await?,
        };
        let signed = manifest.sign(&self.signer(tenant, &self.key_of(head))?).map_err(|e| {
            Error::new(Code::Internal, format!("signing the manifest of `{}`", tenant.id())).with_source(e)
        })?;
        let (id, log) = (tenant.id().clone(), tenant.log());
        let key = Object::Manifest { tenant: id.clone(), log, size }.key();
        // The lock counts from what it speaks of, should this clock be behind the one that sealed.
        let from = now.max(head.sealed_at);
        // Another writer's manifest of this size may reach further back; both are true, the first one stays.
        self.put(&key, signed, from).await?;
        // A crash here leaves a manifest without its checkpoint: the next publication covers it again.
        let key = Object::Checkpoint { tenant: id, log, size }.key();
        if !self.put(&key, head.checkpoint.clone(), from).await? {
            let stored = retrying(|| self.objects.object(&key)).await?;
            let stored = stored.ok_or_else(|| Error::unavailable(format!("reading `{key}`")))?;
            // Ed25519 is deterministic: of one size there is one text, or there are two histories.
            if stored.bytes != head.checkpoint.as_bytes() {
                return Err(Error::corrupt(
                    &key,
                    format!("root {}", head.edge.root()),
                    "a checkpoint of another history",
                ));
            }
        }
        Ok(Published { size, at: now })
    }

    async fn new_objects(
        &self,
        tenant: &Tenant,
        head: &Head,
        last: Option<&IndexEntry>,
    ) -> Result<Vec<ManifestObject>> {
        let since = head.published.size;
        let mut entries: Vec<IndexEntry> = last.into_iter().cloned().collect();
        let mut below = entries.first().map_or(head.size(), |e| e.first.size_before());
        while below > since {
            let page = retrying(|| self.heads.index_below(tenant, below, INDEX_PAGE)).await?;
            if page.is_empty() {
                return Err(Error::corrupt(
                    format!("segment index of `{}`", tenant.id()),
                    format!("an entry that ends at {below} (run `stele rebuild`)"),
                    "none",
                ));
            }
            for entry in page {
                if entry.end <= since {
                    break;
                }
                if entry.end != below {
                    return Err(Error::corrupt(
                        format!("segment index of `{}`", tenant.id()),
                        format!("an entry that ends at {below} (run `stele rebuild`)"),
                        format!("one that ends at {}", entry.end),
                    ));
                }
                below = entry.first.size_before();
                entries.push(entry);
            }
        }
        entries.reverse();
        let object = |entry: IndexEntry| ManifestObject {
            key: segment_key(tenant, entry.first).as_str().to_owned(),
            first: entry.first,
            end: entry.end,
            sha256: entry.sha256,
        };
        Ok(entries.into_iter().map(object).collect())
    }

    /// Writes a note that must be there afterwards; says whether it was written now.
    async fn put(&self, key: &ObjectKey, text: String, from: Timestamp) -> Result<bool> {
        let until = from.plus_days(limits::CHECKPOINT_LOCK_DAYS);
        let bytes = Bytes::from(text);
        let put = retrying(|| self.objects.put_if_absent(key, bytes.clone(), until)).await?;
        Ok(matches!(put, PutIfAbsent::Created(_)))
    }
}
