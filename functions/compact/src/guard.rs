//! Segments that wait too long: their locks end after 35 days, and so must not be waited out.

use crate::{Compact, PAGE};
use stele::access::Tenant;
use stele::error::Result;
use stele::layout::Object;
use stele::limits;
use stele_adapters::retry::retrying;

impl Compact {
    /// Lengthens the lock of every segment that should have been in the archive long ago; says how many there were. The
    /// archive is the cure, this gains the time for it.
    pub(crate) async fn lengthen_overdue(&self, tenant: &Tenant) -> Result<u64> {
        let now = self.clock.now();
        let due = now.minus_days(limits::ARCHIVE_OVERDUE_DAYS);
        let mut at = self.archived(tenant).await?;
        let mut overdue = 0;
        loop {
            let page = retrying(|| self.heads.index_from(tenant, at.next_index(), PAGE)).await?;
            let is_last = page.len() < PAGE;
            for segment in page {
                if segment.sealed_at > due {
                    return Ok(overdue);
                }
                let first = segment.first;
                let key = Object::Segment { tenant: tenant.id().clone(), log: tenant.log(), first }.key();
                let until = now.plus_days(limits::SEGMENT_LOCK_DAYS);
                retrying(|| self.archive.extend(&key, &segment.version, until)).await?;
                tracing::error!(tenant = %tenant.id(), %key, "a segment waits too long for the archive");
                overdue += 1;
                at = segment.end;
            }
            if is_last {
                return Ok(overdue);
            }
        }
    }
}
