//! Statements: the dated, locked word, for every log and day, that nothing came after a checkpoint.
//!
//! Without them a log that is quiet looks like one whose news is held back. A day without a statement is a day of which
//! nobody said anything: that shows, and can't be made up for later, because the object's name is its hour and its lock
//! begins when it is written.

use crate::sealing::{Seal, retrying};
use bytes::Bytes;
use stele::access::Tenant;
use stele::error::{Code, Error, Result};
use stele::layout::{self, Object, ObjectKey, hour_of};
use stele::limits;
use stele::public_key::statement_seed;
use stele::segment::Head;
use stele::statement;
use stele::time::Timestamp;
use stele::tlog::checkpoint::Checkpoint;
use stele::tlog::hash::{TreeSize, empty_root};

impl Seal {
    /// States how far a log is, if nobody has today; says whether it was done now. What is in the log by then is under the
    /// statement: it is made from a head read after the time it carries.
    pub(crate) async fn state_if_due(&self, tenant: &Tenant) -> Result<bool> {
        let now = self.clock.now();
        if self.is_stated(tenant, now).await? {
            return Ok(false);
        }
        let head = retrying(|| self.heads.head(tenant)).await?;
        let head = match head {
            // A head that a restore set back must not deny what is sealed.
            Some(_) => Some(self.trusted_head(tenant).await?),
            None => None,
        };
        let checkpoint = self.checkpoint_to_state(tenant, head.as_ref())?;
        let text = statement::make(&checkpoint, &statement_seed(self.settings.seeds.newest()), now, &[]);
        let text = text.map_err(|e| {
            Error::new(Code::Internal, format!("stating the log of `{}`", tenant.id())).with_source(e)
        })?;
        let (id, log) = (tenant.id().clone(), tenant.log());
        let key = Object::Statement { tenant: id, log, hour: hour_of(now) }.key();
        let until = now.plus_days(limits::CHECKPOINT_LOCK_DAYS);
        let bytes = Bytes::from(text);
        // Of two in one hour the first stands; both are true.
        retrying(|| self.objects.put_if_absent(&key, bytes.clone(), until)).await?;
        Ok(true)
    }

    async fn is_stated(&self, tenant: &Tenant, now: Timestamp) -> Result<bool> {
        let (id, log) = (tenant.id(), tenant.log());
        let last_of_yesterday =
            Object::Statement { tenant: id.clone(), log, hour: hour_of(now.day().start().minus_ms(1)) }.key();
        let prefix = layout::statements_of(id, log);
        let later = retrying(|| self.objects.list(&prefix, Some(last_of_yesterday.as_str()), 1)).await?;
        Ok(later.iter().any(|object| matches!(ObjectKey::parse(&object.key), Some(Object::Statement { .. }))))
    }

    fn checkpoint_to_state(&self, tenant: &Tenant, head: Option<&Head>) -> Result<String> {
        match head {
            Some(head) if head.size() > TreeSize::ZERO => Ok(head.checkpoint.clone()),
            // A log without leaves has a checkpoint too (RFC 6962: the hash of nothing).
            _ => {
                let key = head.map_or_else(|| self.first_key(), |head| self.key_of(head));
                let empty = Checkpoint::new(tenant.origin().clone(), TreeSize::ZERO, empty_root());
                empty.sign(&self.signer(tenant, &key)?).map_err(|e| {
                    Error::new(Code::Internal, format!("signing the checkpoint of `{}`", tenant.id()))
                        .with_source(e)
                })
            }
        }
    }
}
