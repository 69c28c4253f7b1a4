//! Policy onto objects: locks as long as the class, holds where an open one covers, tags as lifecycle rules need them.
//!
//! It only ever adds protection, but for two things: a hold that was released is taken off, and a segment whose leaves are
//! in the archive is tagged for its lifecycle rule, both after the archive's own file is as policy wants it.

use crate::{Compact, Visit};
use stele::access::Tenant;
use stele::archive::ArchiveEntry;
use stele::error::{Code, Error, Result};
use stele::layout::{Object, ObjectKey};
use stele::limits;
use stele::ports::ArchiveObjects;
use stele::retention::{Class, Enforcement, LegalHold, LifecycleTag, ObjectState, TimesOfLeaves, is_held};
use stele::segment::IndexEntry;
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele_adapters::retry::retrying;

/// What was changed on one object.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    extended: bool,
    held: bool,
    released: bool,
}

impl Compact {
    /// Carries the newest policy to every object, if that is due; `false` if time ran out before.
    pub(crate) async fn enforce(&self, tenant: &Tenant, until: Timestamp, visit: &mut Visit) -> Result<bool> {
        loop {
            let mut pass = retrying(|| self.policies.enforcement(tenant)).await?;
            if !pass.is_due() {
                return Ok(true);
            }
            if pass.started != pass.requested {
                // Policy changed since the pass under way began, if there is one: all objects anew.
                pass = Enforcement {
                    requested: pass.requested,
                    started: pass.requested,
                    done: pass.done,
                    ..Enforcement::default()
                };
            }
            // Read after the request's number: a later change asks for a pass of its own.
            let (tenant, holds) = self.policy(tenant).await?;
            if !self.pass(&tenant, &holds, &mut pass, until, visit).await? {
                return Ok(false);
            }
            pass.done = pass.started;
            retrying(|| self.policies.save_enforcement(&tenant, &pass)).await?;
        }
    }

    /// The tenant as it is on record now, and its holds.
    async fn policy(&self, tenant: &Tenant) -> Result<(Tenant, Vec<LegalHold>)> {
        let tenant = self.tenant(tenant.id()).await?;
        let holds = retrying(|| self.policies.holds(&tenant)).await?;
        Ok((tenant, holds))
    }

    /// One pass over all objects, from where it was left.
    async fn pass(
        &self,
        tenant: &Tenant,
        holds: &[LegalHold],
        pass: &mut Enforcement,
        until: Timestamp,
        visit: &mut Visit,
    ) -> Result<bool> {
        let count = |pass: &mut Enforcement, visit: &mut Visit, changed: Changed| {
            pass.checked += 1;
            pass.extended += u64::from(changed.extended);
            pass.held += u64::from(changed.held);
            pass.released += u64::from(changed.released);
            visit.enforced += 1;
        };
        loop {
            let entries = self.entries_from(tenant, LeafIndex::new(pass.next_leaf)).await?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                if self.clock.now() >= until {
                    retrying(|| self.policies.save_enforcement(tenant, pass)).await?;
                    return Ok(false);
                }
                pass.next_leaf = entry.end.to_u64();
                if entry.expired.is_none() {
                    let changed = self.hold_against_policy(tenant, entry, holds).await?;
                    count(pass, visit, changed);
                }
            }
            // A crash before this line costs looking at a page of objects again.
            retrying(|| self.policies.save_enforcement(tenant, pass)).await?;
        }
        let mut at = self.archived(tenant).await?.max(TreeSize::new(pass.next_leaf));
        loop {
            let segments = retrying(|| self.heads.index_from(tenant, at.next_index(), crate::PAGE)).await?;
            if segments.is_empty() {
                return Ok(true);
            }
            for segment in segments {
                if self.clock.now() >= until {
                    retrying(|| self.policies.save_enforcement(tenant, pass)).await?;
                    return Ok(false);
                }
                at = segment.end;
                pass.next_leaf = at.to_u64();
                let key = segment_key(tenant, &segment);
                let wanted = is_held(holds, &times_of_segment(&segment));
                let changed = match self.state(&key, &segment.version).await? {
                    Some(state) => self.hold_as(&key, &segment.version, &state, wanted).await?,
                    None => Changed::default(),
                };
                count(pass, visit, changed);
            }
        }
    }

    /// Holds one file against policy, and writes down the class it then has.
    async fn hold_against_policy(
        &self,
        tenant: &Tenant,
        mut entry: ArchiveEntry,
        holds: &[LegalHold],
    ) -> Result<Changed> {
        let key = archive_key(tenant, &entry);
        let Some(state) = self.state(&key, &entry.version).await? else {
            // Its retention over, it is gone, or reconcile tells.
            return Ok(Changed::default());
        };
        let class = entry.class_needed(tenant.record());
        let mut changed = Changed::default();
        let needed = self.lock_of(&entry, class);
        if state.retain_until.plus_ms(999) < needed {
            retrying(|| self.archive.extend(&key, &entry.version, needed)).await?;
            changed.extended = true;
        }
        if class != entry.class {
            // A crash here leaves a longer lock than is on record: the next pass gets here again.
            entry.class = class;
            retrying(|| self.index.put_archived(tenant, &entry)).await?;
        }
        let held = is_held(holds, &times_of_file(&entry));
        let tag = if held { LifecycleTag::Hold } else { LifecycleTag::Class(class) };
        if held {
            let set = self.hold_as(&key, &entry.version, &state, true).await?;
            changed.held = set.held;
        }
        if state.tag != Some(tag) {
            retrying(|| self.archive.set_tag(&key, &entry.version, tag)).await?;
        }
        if !held {
            // After the tag: the rule of its class then holds again.
            let set = self.hold_as(&key, &entry.version, &state, false).await?;
            changed.released = set.released;
        }
        Ok(changed)
    }

    /// The lock a file needs: its class from its latest leaf on, if that is not over already.
    pub(crate) fn lock_of(&self, entry: &ArchiveEntry, class: Class) -> Timestamp {
        entry.sealed_last.plus_days(class.days())
    }

    async fn state(&self, key: &ObjectKey, version: &str) -> Result<Option<ObjectState>> {
        retrying(|| self.archive.state(key, version)).await
    }

    async fn hold_as(
        &self,
        key: &ObjectKey,
        version: &str,
        state: &ObjectState,
        wanted: bool,
    ) -> Result<Changed> {
        if state.hold == wanted {
            return Ok(Changed::default());
        }
        retrying(|| self.archive.set_hold(key, version, wanted)).await?;
        Ok(Changed { held: wanted, released: !wanted, ..Changed::default() })
    }

    /// Whether a file's segments are tagged already: the last one is tagged last.
    pub(crate) async fn is_settled(&self, tenant: &Tenant, entry: &ArchiveEntry) -> Result<bool> {
        let Some(segment) = self.last_segment(tenant, entry).await? else { return Ok(true) };
        let state = self.state(&segment_key(tenant, &segment), &segment.version).await?;
        Ok(state.is_none_or(|state| state.tag == Some(LifecycleTag::Archived)))
    }

    async fn last_segment(&self, tenant: &Tenant, entry: &ArchiveEntry) -> Result<Option<IndexEntry>> {
        let below = retrying(|| self.heads.index_below(tenant, entry.end, 1)).await?;
        Ok(below.into_iter().find(|segment| segment.end == entry.end))
    }

    /// Brings a file that is on record under policy, and gives its segments to their lifecycle rule.
    pub(crate) async fn settle(&self, tenant: &Tenant, entry: ArchiveEntry) -> Result<()> {
        if entry.expired.is_some() || self.is_settled(tenant, &entry).await? {
            return Ok(());
        }
        // Read after the file went on record. A hold that was placed before is seen here; one that is placed later finds
        // the file on record.
        let (tenant, holds) = self.policy(tenant).await?;
        let tenant = &tenant;
        let end = entry.end;
        let mut at = entry.first;
        if self.state(&archive_key(tenant, &entry), &entry.version).await?.is_none() {
            return Err(Error::corrupt(archive_key(tenant, &entry), "the file on record", "nothing"));
        }
        self.hold_against_policy(tenant, entry, &holds).await?;
        loop {
            let segments = retrying(|| self.heads.index_from(tenant, at, crate::PAGE)).await?;
            let segments: Vec<IndexEntry> = segments.into_iter().take_while(|s| s.end <= end).collect();
            let Some(last) = segments.last() else { return Ok(()) };
            at = last.end.next_index();
            for segment in &segments {
                let key = segment_key(tenant, segment);
                if !holds.is_empty() {
                    // The file is held in its place.
                    self.on_segment(self.archive.as_ref(), &key, segment, false).await?;
                }
                self.on_segment(self.archive.as_ref(), &key, segment, true).await?;
            }
        }
    }

    /// Takes the hold off a segment, or tags it as archived; one that is gone needs neither.
    async fn on_segment(
        &self,
        archive: &dyn ArchiveObjects,
        key: &ObjectKey,
        segment: &IndexEntry,
        tag: bool,
    ) -> Result<()> {
        let done = match tag {
            true => retrying(|| archive.set_tag(key, &segment.version, LifecycleTag::Archived)).await,
            false => retrying(|| archive.set_hold(key, &segment.version, false)).await,
        };
        match done {
            Err(error) if error.code() == Code::NotFound => Ok(()),
            done => done,
        }
    }
}

/// The class a tenant's new files get.
pub(crate) fn class_of(tenant: &Tenant) -> Result<Class> {
    let days = tenant.record().class_days;
    Class::of_days(days).ok_or_else(|| {
        Error::corrupt(
            format!("tenant record of `{}`", tenant.id()),
            format!("a class of {:?} days", limits::CLASSES_DAYS),
            format!("one of {days}"),
        )
    })
}

pub(crate) fn archive_key(tenant: &Tenant, entry: &ArchiveEntry) -> ObjectKey {
    let (id, log) = (tenant.id().clone(), tenant.log());
    Object::Archive { tenant: id, log, month: entry.month(), first: entry.first }.key()
}

pub(crate) fn segment_key(tenant: &Tenant, entry: &IndexEntry) -> ObjectKey {
    Object::Segment { tenant: tenant.id().clone(), log: tenant.log(), first: entry.first }.key()
}

fn times_of_file(entry: &ArchiveEntry) -> TimesOfLeaves {
    TimesOfLeaves::new((entry.received_min, entry.received_max), (entry.id_min, entry.id_max))
}

fn times_of_segment(entry: &IndexEntry) -> TimesOfLeaves {
    TimesOfLeaves::new((entry.received_min, entry.received_max), (entry.id_min, entry.id_max))
}
