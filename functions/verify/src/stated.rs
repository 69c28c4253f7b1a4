//! Statements: until when nothing came after a checkpoint, in the operator's own word.

use crate::log::{LogCheck, Stated};
use crate::report::Check;
use crate::{Terms, list_all};
use std::collections::BTreeSet;
use stele::error::Result;
use stele::layout::{self, Object, ObjectKey, hour_of};
use stele::limits;
use stele::statement::Statement;
use stele::time::{Day, Timestamp};
use stele::tlog::checkpoint::Checkpoint;
use stele::tlog::hash::TreeSize;
use stele::tlog::key_change::KeyHistory;
use stele::tlog::note::Note;

/// How far clocks of two processes of one installation may differ: what was sealed so shortly before a statement may be missing
/// in it.
const CLOCKS_DIFFER_MS: u64 = 5 * 60 * 1000;
/// Days that are named one by one.
const DAYS_NAMED_MAX: usize = 5;

impl LogCheck<'_> {
    /// Reads the statements of the log. What is wrong with one is told when the walk is over.
    pub(crate) async fn read_statements(&mut self) -> Result<()> {
        let prefix = layout::statements_of(&self.tenant, self.log);
        let mut stated = Vec::new();
        for object in list_all(&*self.evidence.objects, &prefix).await? {
            let Some(parsed @ Object::Statement { .. }) = ObjectKey::parse(&object.key) else { continue };
            let key = parsed.key();
            let Some(stored) = self.evidence.objects.version(&key, &object.version).await? else {
                self.find(Check::Missing, &key, "the object that is listed", "nothing");
                continue;
            };
            let claimed =
                Note::parse(&stored.bytes).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
            let size = claimed.map_or(TreeSize::ZERO, |checkpoint| checkpoint.size);
            stated.push(Stated { key, size, bytes: stored.bytes, retain_until: stored.retain_until });
        }
        self.walked.stated = stated;
        Ok(())
    }

    /// Holds statements against the walk and against each other.
    pub(crate) fn check_stated(&mut self) {
        let stated = std::mem::take(&mut self.walked.stated);
        let mut days = BTreeSet::<Day>::new();
        self.report.statements = 0;
        self.report.stated_at = None;
        self.report.unstated.clear();
        self.report.notes.clear();
        let mut before = (TreeSize::ZERO, Timestamp::default());
        let mut last = None;
        if self.public_keys.statements.is_empty() && !stated.is_empty() {
            self.report
                .notes
                .push("no public key for statements is known: none of them was looked at".to_owned());
            self.walked.stated = stated;
            return;
        }
        for one in &stated {
            let statement = match self.open_statement(one) {
                Ok(statement) => statement,
                Err(error) => {
                    self.find(Check::Statement, &one.key, "a statement with valid signatures", error);
                    continue;
                }
            };
            let at = statement.stated_at;
            if Some(hour_of(at)) != hour_named(&one.key) {
                self.find(Check::Statement, &one.key, "a statement of the hour its name says", at);
            }
            if statement.checkpoint.size < before.0 || at < before.1 {
                let expected = format!("size {} or more, after {}", before.0, before.1);
                self.find(
                    Check::Statement,
                    &one.key,
                    expected,
                    format!("size {} at {at}", statement.checkpoint.size),
                );
            }
            before = (statement.checkpoint.size.max(before.0), at.max(before.1));
            self.check_lock(&one.key, at.plus_days(limits::CHECKPOINT_LOCK_DAYS), one.retain_until);
            // The walk may have ended before what a running log has stated since.
            if statement.checkpoint.size <= self.walked.edge.size() || self.terms.is_at_rest {
                self.holds(one.key.as_str(), &statement.checkpoint);
            }
            let denied = self.walked.sealed.range(statement.checkpoint.size..).find(|(end, sealed_at)| {
                **end > statement.checkpoint.size && sealed_at.plus_ms(CLOCKS_DIFFER_MS) < at
            });
            if let Some((end, sealed_at)) = denied.map(|(end, sealed_at)| (*end, *sealed_at)) {
                let expected = format!("that the log had {end} leaves, the last sealed at {sealed_at}");
                let found = format!("that nothing came after {} by {at}", statement.checkpoint.size);
                self.find(Check::Statement, &one.key, expected, found);
            }
            days.insert(at.day());
            self.report.statements += 1;
            last = Some(statement);
        }
        if let (Some(first), Some(end)) = (days.first().copied(), days.last().copied()) {
            let missing = (first.days()..end.days()).map(Day::from_days).filter(|day| !days.contains(day));
            self.report.unstated = missing.map(|day| day.to_string()).collect();
            if !self.report.unstated.is_empty() {
                let shown =
                    self.report.unstated.iter().take(DAYS_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
                let more = if self.report.unstated.len() > DAYS_NAMED_MAX { ", …" } else { "" };
                self.report.notes.push(format!(
                    "nobody stated anything on {} of {} days: {shown}{more}",
                    self.report.unstated.len(),
                    end.days() - first.days() + 1
                ));
            }
        }
        if let Some(statement) = &last {
            self.report.stated_at = Some(statement.stated_at);
            self.report.stated_size = Some(statement.checkpoint.size.to_u64());
        }
        self.check_witnesses(last.as_ref());
        self.walked.stated = stated;
    }

    /// Whether there is nothing of the log but statements.
    pub(crate) fn is_stated_only(&self) -> bool {
        let walked = &self.walked;
        !walked.stated.is_empty()
            && walked.segments.is_empty()
            && walked.archive.is_empty()
            && walked.tiles.is_empty()
            && walked.edge.size() == TreeSize::ZERO
    }

    fn check_witnesses(&mut self, last: Option<&Statement>) {
        let Some(policy) = &self.terms.policy else { return };
        self.report.unmet = None;
        let Some(last) = last else {
            self.unmet("no statement is there that witnesses could have cosigned".to_owned());
            return;
        };
        let judged = policy.judge(&last.note);
        for bad in &judged.bad {
            self.find(Check::Witness, "the latest statement", "valid cosignatures", bad);
        }
        self.report.witnesses = judged.shown();
        if !judged.is_satisfied && judged.bad.is_empty() {
            self.unmet(format!(
                "the witnesses the policy asks for have not cosigned the latest statement: {}",
                judged.missing()
            ));
        }
    }

    fn unmet(&mut self, why: String) {
        self.report.unmet = Some(why.clone());
        self.miss(why);
    }

    fn open_statement(&self, one: &Stated) -> std::result::Result<Statement, String> {
        let keys = &self.public_keys.statements;
        if let Some(history) = self.walked.trust.history()
            && one.size > TreeSize::ZERO
        {
            return Statement::open(&one.bytes, history, keys);
        }
        // Before its first leaf a log has no key of its own yet.
        let mut error = "no public key is known to check it with".to_owned();
        let origin = Note::parse(&one.bytes).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
        let origin = origin.ok_or("not a checkpoint")?.origin;
        for key in &self.public_keys.checkpoints {
            let Some(key) = stele::tlog::note::VerifierKey::new(origin.key_name(), &key.0) else { continue };
            match Statement::open(&one.bytes, &KeyHistory::beginning_with(key), keys) {
                Ok(statement) => return Ok(statement),
                Err(found) => error = found,
            }
        }
        Err(error)
    }
}

fn hour_named(key: &ObjectKey) -> Option<Timestamp> {
    match ObjectKey::parse(key.as_str())? {
        Object::Statement { hour, .. } => Some(hour),
        _ => None,
    }
}

impl Terms {
    /// Whether a log stated so long ago is fresh enough; `None` if nobody asked.
    pub(crate) fn is_fresh(&self, stated_at: Option<Timestamp>) -> Option<bool> {
        let (now, max_age_ms) = (self.now?, self.max_age_ms?);
        Some(stated_at.is_some_and(|at| at.plus_ms(max_age_ms) >= now))
    }
}
