//! Statements: the dated, locked word, for every log and day, that nothing came after a checkpoint.
//!
//! Without them a log that is quiet looks like one whose news is held back. A day without a statement is a day of which
//! nobody said anything: that shows, and can't be made up for later, because the object's name is its hour and its lock
//! begins when it is written.

use crate::sealing::{Seal, retrying};
use bytes::Bytes;
use std::sync::Arc;
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
use stele::tlog::note::{Note, NoteSignature};
use stele_adapters::witnesses::{Answer, Witness};

/// Statements of one day at the most.
const HOURS: usize = 25;
/// How often a witness is asked for one cosignature.
const ASKED_MAX: usize = 4;

/// The latest statement there is.
struct Last {
    hour: Timestamp,
    /// What it speaks of, and its note: known only where witnesses are to be asked.
    size: TreeSize,
    note: Option<Note>,
}

impl Last {
    fn has(&self, witness: &Witness) -> bool {
        let key = witness.key();
        self.note.as_ref().is_some_and(|note| {
            note.signatures().iter().any(|made| made.name() == key.name() && made.id() == key.id())
        })
    }
}

impl Seal {
    /// States how far a log is, if nobody has today; says whether it was done now. What is in the log by then is under the
    /// statement: it is made from a head read after the time it carries.
    pub(crate) async fn state_if_due(&self, tenant: &Tenant) -> Result<bool> {
        let now = self.clock.now();
        let last = self.last_statement(tenant, now).await?;
        if last.as_ref().is_some_and(|last| last.hour == hour_of(now)) {
            return Ok(false); // An hour has one name.
        }
        let wants_more = |last: &Last| self.settings.witnesses.iter().any(|witness| !last.has(witness));
        let is_stated = last.is_some();
        let head = retrying(|| self.heads.head(tenant)).await?;
        let head = match head {
            // A head that a restore set back must not deny what is sealed.
            Some(_) => Some(self.trusted_head(tenant).await?),
            None => None,
        };
        // Where there are witnesses, they are shown every hour what is new, and again what they have missed.
        let size = head.as_ref().map_or(TreeSize::ZERO, Head::size);
        let is_due = last.is_none_or(|last| {
            !self.settings.witnesses.is_empty()
                && size > TreeSize::ZERO
                && (last.size != size || wants_more(&last))
        });
        if !is_due {
            return Ok(false);
        }
        let checkpoint = self.checkpoint_to_state(tenant, head.as_ref())?;
        let cosigned = match &head {
            Some(head) if head.size() > TreeSize::ZERO => self.cosigned(tenant, head).await?,
            _ => Vec::new(),
        };
        if is_stated && cosigned.is_empty() {
            return Ok(false);
        }
        let text =
            statement::make(&checkpoint, &statement_seed(self.settings.seeds.newest()), now, &cosigned);
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

    /// The latest statement of the day.
    async fn last_statement(&self, tenant: &Tenant, now: Timestamp) -> Result<Option<Last>> {
        let (id, log) = (tenant.id(), tenant.log());
        let last_of_yesterday =
            Object::Statement { tenant: id.clone(), log, hour: hour_of(now.day().start().minus_ms(1)) }.key();
        let prefix = layout::statements_of(id, log);
        let later = retrying(|| self.objects.list(&prefix, Some(last_of_yesterday.as_str()), HOURS)).await?;
        let Some(parsed @ Object::Statement { hour, .. }) =
            later.last().and_then(|last| ObjectKey::parse(&last.key))
        else {
            return Ok(None);
        };
        let mut last = Last { hour, size: TreeSize::ZERO, note: None };
        if !self.settings.witnesses.is_empty() {
            let key = parsed.key();
            let stored = retrying(|| self.objects.object(&key)).await?;
            last.note = stored.and_then(|stored| Note::parse(&stored.bytes).ok());
            let checkpoint = last.note.as_ref().and_then(|note| Checkpoint::parse(note.text()).ok());
            last.size = checkpoint.map_or(TreeSize::ZERO, |checkpoint| checkpoint.size);
        }
        Ok(Some(last))
    }

    /// What the witnesses sign of a head; one that does not answer is passed over, and asked again in an hour.
    async fn cosigned(&self, tenant: &Tenant, head: &Head) -> Result<Vec<NoteSignature>> {
        let mut signatures = Vec::new();
        let note = Note::parse(&head.checkpoint)
            .map_err(|e| Error::corrupt(format!("head of `{}`", tenant.id()), "a signed checkpoint", e))?;
        for witness in &self.settings.witnesses {
            match self.ask(witness, tenant, head, &note).await {
                Ok(signature) => signatures.push(signature),
                Err(error) => {
                    tracing::warn!(tenant = %tenant.id(), witness = %witness.key().name(), %error, "not witnessed");
                }
            }
        }
        Ok(signatures)
    }

    async fn ask(
        &self,
        witness: &Arc<Witness>,
        tenant: &Tenant,
        head: &Head,
        note: &Note,
    ) -> Result<NoteSignature> {
        // It tells which size it has, if it has one: the first answer is often that.
        let mut old = TreeSize::ZERO;
        for _ in 0..ASKED_MAX {
            let proof = match old {
                TreeSize::ZERO => Vec::new(),
                old => self.places.tree().consistency(tenant, head, old, head.size()).await?,
            };
            match witness.add_checkpoint(old, proof, note).await? {
                Answer::Cosigned(signature) => return Ok(signature),
                Answer::Has(size) if size > head.size() => {
                    return Err(Error::unavailable(format!(
                        "it has seen size {size}, we are at {}",
                        head.size()
                    )));
                }
                Answer::Has(size) => old = size,
            }
        }
        Err(Error::unavailable("its size changes as fast as it is asked"))
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
