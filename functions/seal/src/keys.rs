//! Which key signs a log, and how a log is handed over to a newer one.
//!
//! A log changes its key at a size: the old key signs up to there, the new one beyond, and a locked object signed by both says
//! so. Sealing goes on meanwhile: a sealer that does not have the new key yet can't advance a head that names it.

use crate::sealing::{Seal, retrying};
use bytes::Bytes;
use stele::access::Tenant;
use stele::error::{Code, Error, Kind, Result};
use stele::layout::{self, Object, ObjectKey};
use stele::limits;
use stele::ports::PutIfAbsent;
use stele::public_key::PublicKey;
use stele::segment::{Head, HeadKey};
use stele::tlog::checkpoint::{Checkpoint, Origin};
use stele::tlog::hash::TreeSize;
use stele::tlog::key_change::KeyChange;
use stele::tlog::note::{Signer, VerifierKey};

const LIST_PAGE: usize = 1_000;

impl Seal {
    /// The key of a log that begins now.
    pub(crate) fn first_key(&self) -> HeadKey {
        let public = PublicKey::of_seed(self.settings.seeds.newest());
        HeadKey { public, from: TreeSize::ZERO, is_told: true }
    }

    /// The key that signs a log.
    pub(crate) fn key_of(&self, head: &Head) -> HeadKey {
        head.key.unwrap_or_else(|| {
            let public = PublicKey::of_seed(self.settings.seeds.oldest());
            HeadKey { public, from: TreeSize::ZERO, is_told: true }
        })
    }

    /// What signs for a log with a head's key.
    pub(crate) fn signer(&self, tenant: &Tenant, key: &HeadKey) -> Result<Signer> {
        let seed = self.settings.seeds.of(&key.public).ok_or_else(|| {
            Error::unavailable(format!(
                "the log of `{}` is signed with a newer key than this process has",
                tenant.id()
            ))
        })?;
        if !key.is_told {
            return Err(Error::new(Code::Internal, "a key was to sign before its log was told of it"));
        }
        Ok(tenant.origin().signer(seed))
    }

    /// All keys of this installation, under a log's name.
    pub(crate) fn own_keys(&self, origin: &Origin) -> Vec<VerifierKey> {
        self.settings.seeds.all().iter().map(|seed| origin.signer(seed).verifier_key().clone()).collect()
    }

    /// Hands a log over to the newest key, if it is not signed with that already. The head as it is then; `None` when somebody
    /// else moved it meanwhile.
    pub(crate) async fn handed_over(&self, tenant: &Tenant, head: Head) -> Result<Option<Head>> {
        let key = self.key_of(&head);
        let newest = PublicKey::of_seed(self.settings.seeds.newest());
        if !key.is_told {
            self.tell(tenant, &key).await?;
            let told = Head { key: Some(HeadKey { is_told: true, ..key }), ..head };
            return self.moved(tenant, told).await;
        }
        // A key this process does not know is a newer one: whoever has it goes on.
        if key.public == newest || self.settings.seeds.of(&key.public).is_none() {
            return Ok(Some(head));
        }
        // First the head, so that nobody signs a larger size with the old key any more; then the word of both keys; and only
        // then a signature of the new one. A crash in between is mended by whoever reads the head next.
        let after_head = TreeSize::new(head.size().to_u64() + 1);
        let from = after_head.max(TreeSize::new(key.from.to_u64() + 1));
        let next = Head { key: Some(HeadKey { public: newest, from, is_told: false }), ..head };
        self.moved(tenant, next).await
    }

    async fn moved(&self, tenant: &Tenant, head: Head) -> Result<Option<Head>> {
        let expected = Some(head.revision).filter(|revision| *revision > 0);
        let next = Head { revision: head.revision + 1, ..head };
        match self.heads.advance(tenant, expected, &next).await {
            Ok(true) => Ok(Some(next)),
            Ok(false) => Ok(None),
            Err(error) if error.kind() == Kind::Unavailable => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the locked word that a log's key changes.
    pub(crate) async fn tell(&self, tenant: &Tenant, key: &HeadKey) -> Result<()> {
        let (id, log) = (tenant.id().clone(), tenant.log());
        let seeds = &self.settings.seeds;
        let new = seeds.of(&key.public).ok_or_else(|| {
            Error::unavailable(format!("the next key of the log of `{id}` is not known to this process"))
        })?;
        let change = KeyChange { origin: tenant.origin().clone(), from: key.from, public: key.public.0 };
        let history = self.history(tenant).await?;
        let old = seeds.of(&history.at(TreeSize::new(key.from.to_u64().saturating_sub(1))).public);
        let signer = |seed: &[u8; 32]| tenant.origin().signer(seed);
        let text = change.sign(old.map(signer).as_ref(), &signer(new)).map_err(|e| {
            Error::new(Code::Internal, format!("signing the change of the key of `{id}`")).with_source(e)
        })?;
        let object = Object::KeyChange { tenant: id, log, size: key.from }.key();
        let until = self.clock.now().plus_days(limits::CHECKPOINT_LOCK_DAYS);
        let bytes = Bytes::from(text);
        let put = retrying(|| self.objects.put_if_absent(&object, bytes.clone(), until)).await?;
        if put == PutIfAbsent::Exists {
            let stored = retrying(|| self.objects.object(&object)).await?;
            let stored = stored.ok_or_else(|| Error::unavailable(format!("reading `{object}`")))?;
            if stored.bytes != bytes {
                return Err(Error::corrupt(
                    &object,
                    format!("a change to the key `{:?}`", key.public),
                    "another",
                ));
            }
        }
        Ok(())
    }

    /// Which key signed what of a log, as its locked objects say.
    pub(crate) async fn history(&self, tenant: &Tenant) -> Result<Keys> {
        let prefix = layout::key_changes_of(tenant.id(), tenant.log());
        let mut changes = Vec::new();
        for object in retrying(|| self.objects.list(&prefix, None, LIST_PAGE)).await? {
            let Some(parsed @ Object::KeyChange { .. }) = ObjectKey::parse(&object.key) else { continue };
            let key = parsed.key();
            let stored = retrying(|| self.objects.object(&key)).await?;
            let stored = stored.ok_or_else(|| Error::unavailable(format!("reading `{key}`")))?;
            let opened = KeyChange::open(&stored.bytes, &[])
                .map_err(|e| Error::corrupt(&key, "a change of key", e))?;
            changes.push(opened.change);
        }
        Ok(Keys { first: self.key_of_beginning(tenant).await?, changes })
    }

    /// The key a log began with: the one of its first checkpoint, or the newest if it has none yet.
    async fn key_of_beginning(&self, tenant: &Tenant) -> Result<PublicKey> {
        let seeds = &self.settings.seeds;
        if let [only] = seeds.all() {
            return Ok(PublicKey::of_seed(only));
        }
        let (id, log) = (tenant.id(), tenant.log());
        let prefix = layout::checkpoints_of(id, log);
        for object in retrying(|| self.objects.list(&prefix, None, LIST_PAGE)).await? {
            let Some(parsed @ Object::Checkpoint { .. }) = ObjectKey::parse(&object.key) else { continue };
            let key = parsed.key();
            let stored = retrying(|| self.objects.object(&key)).await?;
            let stored = stored.ok_or_else(|| Error::unavailable(format!("reading `{key}`")))?;
            let by = seeds.all().iter().find(|seed| {
                let signer = tenant.origin().signer(seed);
                Checkpoint::open(&stored.bytes, std::slice::from_ref(signer.verifier_key())).is_ok()
            });
            let by =
                by.ok_or_else(|| Error::corrupt(&key, "a checkpoint signed with a key of ours", "another"))?;
            return Ok(PublicKey::of_seed(by));
        }
        Ok(PublicKey::of_seed(seeds.newest()))
    }
}

/// Which key signed what of a log.
pub(crate) struct Keys {
    first: PublicKey,
    changes: Vec<KeyChange>,
}

impl Keys {
    /// The key in service at a size.
    pub(crate) fn at(&self, size: TreeSize) -> HeadKey {
        match self.changes.iter().rfind(|change| change.from <= size) {
            Some(change) => HeadKey { public: PublicKey(change.public), from: change.from, is_told: true },
            None => HeadKey { public: self.first, from: TreeSize::ZERO, is_told: true },
        }
    }

    /// The key that signs what comes next.
    pub(crate) fn last(&self) -> HeadKey {
        self.at(self.changes.last().map_or(TreeSize::ZERO, |change| change.from))
    }
}
