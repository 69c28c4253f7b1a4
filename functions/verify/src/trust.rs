//! Which keys are believed: those that were pinned or found, of which a log is signed by one at a time, and those it was
//! handed over to.

use crate::list_all;
use crate::log::LogCheck;
use crate::report::Check;
use stele::error::Result;
use stele::layout::{self, Object, ObjectKey};
use stele::ports::ListedObject;
use stele::public_key::PublicKey;
use stele::tlog::checkpoint::{Checkpoint, Origin};
use stele::tlog::key_change::{KeyChange, KeyHistory};
use stele::tlog::note::{BodyError, Note, VerifierKey};

/// The keys of one log.
#[derive(Default)]
pub(crate) struct Trust {
    /// All that may have signed anything of it.
    all: Vec<VerifierKey>,
    /// Which one signs which sizes, once a checkpoint told the first.
    history: Option<KeyHistory>,
}

impl Trust {
    /// Begins with the keys that are believed without anybody's word.
    pub(crate) fn begin(&mut self, origin: &Origin, believed: &[PublicKey]) {
        if self.all.is_empty() {
            let of = |public: &PublicKey| VerifierKey::new(origin.key_name(), &public.0);
            self.all = believed.iter().filter_map(of).collect();
        }
    }

    /// All keys.
    pub(crate) fn all(&self) -> &[VerifierKey] {
        &self.all
    }

    /// Which key signs which sizes.
    pub(crate) fn history(&self) -> Option<&KeyHistory> {
        self.history.as_ref()
    }

    /// Opens a checkpoint that is signed by the key that may sign it.
    pub(crate) fn open(&self, bytes: &[u8]) -> std::result::Result<Checkpoint, BodyError> {
        match &self.history {
            Some(history) => history.open(bytes),
            None => Checkpoint::open(bytes, &self.all),
        }
    }
}

impl LogCheck<'_> {
    /// Learns which key signs which sizes: the first by the first checkpoint there is, the others by signed changes.
    pub(crate) async fn learn_keys(&mut self, statements: &[ListedObject]) -> Result<()> {
        if self.walked.trust.history.is_none() {
            self.learn_first(statements).await?;
        }
        let prefix = layout::key_changes_of(&self.tenant, self.log);
        self.report.key_changes = 0;
        for object in list_all(&*self.evidence.objects, &prefix).await? {
            let Some(parsed @ Object::KeyChange { size, .. }) = ObjectKey::parse(&object.key) else {
                continue;
            };
            let key = parsed.key();
            let Some(stored) = self.evidence.objects.version(&key, &object.version).await? else {
                self.find(Check::Missing, &key, "the object that is listed", "nothing");
                continue;
            };
            let opened = match KeyChange::open(&stored.bytes, self.walked.trust.all()) {
                Ok(opened) => opened,
                Err(error) => {
                    self.find(Check::Key, &key, "a change of key that the new key signed", error);
                    continue;
                }
            };
            if opened.change.from != size {
                self.find(
                    Check::Key,
                    &key,
                    format!("a change at size {size}"),
                    format!("one at {}", opened.change.from),
                );
                continue;
            }
            self.follow(&key, &opened.change, &stored.bytes);
        }
        Ok(())
    }

    fn follow(&mut self, key: &ObjectKey, change: &KeyChange, bytes: &[u8]) {
        let Ok(new) = change.new_key() else {
            self.find(Check::Key, key, "a key that may be trusted", "another");
            return;
        };
        let Some(history) = self.walked.trust.history.as_mut() else {
            self.miss(format!("`{key}`: no checkpoint says which key the log began with"));
            return;
        };
        if history.keys().iter().any(|(from, known)| *from == change.from && *known == new) {
            self.report.key_changes += 1;
            return; // Followed when the log was walked before.
        }
        // The one it is taken over from must have signed, not just any that is known.
        let last = history.last().clone();
        let is_handed_over =
            KeyChange::open(bytes, std::slice::from_ref(&last)).is_ok_and(|opened| opened.is_handed_over);
        let is_believed = self.walked.trust.all.contains(&new);
        if !is_handed_over && !is_believed {
            self.find(
                Check::Key,
                key,
                format!("a change that the key `{}` signed", last.id()),
                "one that it did not",
            );
            return;
        }
        if !history.follow(change) {
            self.find(
                Check::Key,
                key,
                "a change that follows the one before it",
                format!("one at size {}", change.from),
            );
            return;
        }
        if !is_handed_over {
            self.miss(format!(
                "`{key}`: the key before did not sign the change; that it is the same log rests on both keys"
            ));
        }
        if !is_believed {
            self.walked.trust.all.push(new);
        }
        self.report.key_changes += 1;
    }

    async fn learn_first(&mut self, statements: &[ListedObject]) -> Result<()> {
        for object in statements {
            let Some(parsed @ Object::Checkpoint { .. }) = ObjectKey::parse(&object.key) else { continue };
            let stored = self.evidence.objects.version(&parsed.key(), &object.version).await?;
            let Some(stored) = stored else { continue }; // Told with the statements.
            let claimed =
                Note::parse(&stored.bytes).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
            let Some(claimed) = claimed else { continue };
            let mut trust = Trust::default();
            trust.begin(&claimed.origin, &self.public_keys.checkpoints);
            let by = trust
                .all
                .iter()
                .find(|key| Checkpoint::open(&stored.bytes, std::slice::from_ref(key)).is_ok());
            if let Some(by) = by.cloned() {
                trust.history = Some(KeyHistory::beginning_with(by));
                self.walked.trust = trust;
                return Ok(());
            }
        }
        Ok(())
    }
}
