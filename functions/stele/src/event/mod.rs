//! Accepting: from a client's bytes to a record, or to all that is wrong with them (design §3–5).
//!
//! It needs a tenant, a time and randomness as values, and asks nobody: whether the key may write to the tenant,
//! whether the id is taken and what to do about its age is for the caller.

mod words;
mod checks;
mod fields;
mod leaf;
mod batch;

pub use batch::{BatchForm, batch_items};
pub(crate) use words::{ACTOR_TYPES, OUTCOMES};

use crate::error::{Code, Error, FieldProblem, Result};
use crate::id::{EventId, TenantId};
use crate::json::{Json, Kind, Rule, problem};
use crate::limits::{EVENT_BODY_BYTES_MAX, FUTURE_MS_MAX, LEAF_BYTES_MAX};
use crate::record::{Leaf, Record};
use crate::time::Timestamp;
use fields::{Fields, Text};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// An event as sent: well formed, normalised, not yet anybody's.
pub struct Draft<'a> {
    json: Json<'a>,
    fields: Fields,
    warnings: Vec<FieldProblem>,
}

/// What accepting needs beside the event.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'t> {
    /// Whose the event is, by the key.
    pub tenant: &'t TenantId,
    /// The key it came with.
    pub key_id: &'t str,
    /// The time it is received, and occurred unless it says otherwise.
    pub now: Timestamp,
    /// The tenant's secret, which keeps ids made from external ids unguessable.
    pub id_secret: &'t [u8; 32],
    /// Random bits for an event without an id.
    pub random: u128,
    /// The earliest time it may have occurred; `None` lifts the bound.
    pub oldest: Option<Timestamp>,
}

/// An accepted event, not yet stored.
#[derive(Debug)]
pub struct Accepted {
    /// The record.
    pub record: Record,
    /// What was odd about the event, but no reason to refuse it.
    pub warnings: Vec<FieldProblem>,
    /// The external id the event's id was made from, to be remembered.
    pub remember: Option<String>,
    /// The event said nothing of its time.
    pub occurred_at_defaulted: bool,
    /// Its time is out of bounds: an error unless it turns out to be a replay.
    pub out_of_range: Option<Error>,
}

impl<'a> Draft<'a> {
    /// Reads an event and checks all that needs no server state.
    ///
    /// # Errors
    /// `event_too_large`, `malformed_json`, `duplicate_key`, and `validation_failed` with every fault and its place.
    pub fn parse(body: &'a [u8]) -> Result<Draft<'a>> {
        if body.len() > EVENT_BODY_BYTES_MAX {
            let detail =
                format!("an event has at most {EVENT_BODY_BYTES_MAX} bytes, this one has {}", body.len());
            return Err(Error::new(Code::EventTooLarge, detail));
        }
        let json = Json::read(body)?;
        let mut problems = json.problems();
        // Fields are walked recursively: what is too deep is told for that alone.
        if json.broken().iter().any(|(_, rule)| *rule == Rule::Depth) {
            return Err(invalid(problems));
        }
        if json.kind(json.root()) != Kind::Object {
            let detail = format!("an event is an object, this is {}", json.kind(json.root()).noun());
            problems.push(problem(String::new(), "wrong_type", detail));
            return Err(invalid(problems));
        }
        let read = fields::read(&json);
        problems.extend(read.problems);
        match problems.is_empty() {
            true => Ok(Draft { json, fields: read.fields, warnings: read.warnings }),
            false => Err(invalid(problems)),
        }
    }

    /// The tenant it names.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.fields.tenant.as_ref()
    }

    /// The id it brings, if it is one of our kind.
    pub fn id(&self) -> Option<EventId> {
        self.fields.id
    }

    /// Its sender's own id.
    pub fn external_id(&self) -> Option<&str> {
        self.fields.external_id.and_then(|node| self.json.str(node))
    }

    /// When it occurred, if it says so, by a time or by its id.
    pub fn occurred_at(&self) -> Option<Timestamp> {
        self.fields.id.map(EventId::time).or(self.fields.occurred_at)
    }

    /// Its action, normalised.
    pub fn action(&self) -> &str {
        match &self.fields.action {
            Some(Text::Sent(node)) => self.json.str(*node).unwrap_or_default(),
            Some(Text::Made(text)) => text,
            None => "",
        }
    }

    /// What was odd about it, but no reason to refuse it.
    pub fn warnings(&self) -> &[FieldProblem] {
        &self.warnings
    }

    /// Makes it a record: fixes id and times, writes the leaf and hashes it.
    ///
    /// # Errors
    /// `insufficient_scope` if it names another tenant, `event_too_large` with the member that is.
    pub fn accept(&self, terms: &Terms<'_>) -> Result<Accepted> {
        if let Some(named) = self.tenant().filter(|named| *named != terms.tenant) {
            return Err(Error::new(
                Code::InsufficientScope,
                format!("the key may not write to tenant `{named}`"),
            ));
        }
        let sent_at = self.occurred_at();
        let occurred_at = sent_at.unwrap_or(terms.now);
        let mut remember = None;
        let id = match (self.fields.id, self.external_id()) {
            (Some(id), _) => id,
            (None, Some(external_id)) => {
                remember = Some(external_id.to_owned());
                EventId::new(occurred_at, external_bits(terms.id_secret, external_id))
            }
            (None, None) => EventId::new(occurred_at, terms.random),
        };
        let set = leaf::ServerSet {
            id,
            tenant: terms.tenant,
            occurred_at,
            received_at: terms.now,
            key_id: terms.key_id,
        };
        let bytes = leaf::write(&self.json, &self.fields, &set);
        if bytes.len() > LEAF_BYTES_MAX {
            return Err(too_large(&bytes));
        }
        let leaf = Leaf::new(bytes);
        let text = |node| self.json.str(node).map(str::to_owned);
        let record = Record {
            id,
            tenant: terms.tenant.clone(),
            occurred_at,
            received_at: terms.now,
            leaf_hash: leaf.hash(),
            leaf,
            actor_id: self.fields.actor.id.and_then(text).unwrap_or_default(),
            resource_id: self.fields.resource.id.and_then(text),
            action: self.action().to_owned(),
        };
        Ok(Accepted {
            record,
            warnings: self.warnings.clone(),
            remember,
            occurred_at_defaulted: sent_at.is_none(),
            out_of_range: self.out_of_range(occurred_at, terms),
        })
    }

    fn out_of_range(&self, occurred_at: Timestamp, terms: &Terms<'_>) -> Option<Error> {
        let detail = match terms.oldest {
            _ if occurred_at > terms.now.plus_ms(FUTURE_MS_MAX) => {
                format!("`{occurred_at}` is more than 5 minutes ahead of the server's time, `{}`", terms.now)
            }
            Some(oldest) if occurred_at < oldest => {
                format!("`{occurred_at}` is before `{oldest}`, the earliest time this key may write")
            }
            _ => return None,
        };
        let pointer = self.fields.time_at.map(|node| self.json.pointer(node)).unwrap_or_default();
        let problems = vec![problem(pointer, "timestamp_out_of_range", detail.clone())];
        Some(Error::new(Code::TimestampOutOfRange, detail).with_problems(problems))
    }
}

/// Whether two leaves say the same of an event: all top-level members but those the server sets, to which the
/// time and the id made from it belong when the event brought neither. What is no leaf has no content.
pub fn same_content(stored_leaf: &[u8], new_leaf: &[u8], occurred_at_defaulted: bool) -> bool {
    if stored_leaf == new_leaf {
        return true;
    }
    let (Ok(stored), Ok(new)) = (Json::parse(stored_leaf), Json::parse(new_leaf)) else { return false };
    let counts = |key: &str| match key {
        "received_at" | "key_id" => false,
        "id" | "occurred_at" => !occurred_at_defaulted,
        _ => true,
    };
    // Both are canonical: equal content is equal text, in equal order.
    let content = |json: &Json<'_>| -> Vec<(String, String)> {
        let members =
            json.members(json.root()).map(|(key, value)| (json.str(key).unwrap_or_default(), value));
        members
            .filter(|(key, _)| counts(key))
            .map(|(key, value)| (key.to_owned(), json.raw(value).to_owned()))
            .collect()
    };
    [&stored, &new].iter().all(|json| json.kind(json.root()) == Kind::Object)
        && content(&stored) == content(&new)
}

/// The first 74 bits of HMAC-SHA-256(the tenant's id secret, external id).
fn external_bits(id_secret: &[u8; 32], external_id: &str) -> u128 {
    let mut mac = Hmac::<Sha256>::new_from_slice(id_secret).expect("HMAC takes keys of any length");
    mac.update(external_id.as_bytes());
    let tag: [u8; 32] = mac.finalize().into_bytes().into();
    let first: [u8; 16] = tag[..16].try_into().expect("16 of 32 bytes");
    u128::from_be_bytes(first) >> (128 - 74)
}

fn invalid(problems: Vec<FieldProblem>) -> Error {
    let detail = match problems.as_slice() {
        [only] if only.pointer.is_empty() => only.detail.clone(),
        [only] => format!("{}: {}", only.pointer, only.detail),
        all => format!("{} faults in the event", all.len()),
    };
    Error::new(Code::ValidationFailed, detail).with_problems(problems)
}

fn too_large(leaf: &[u8]) -> Error {
    let largest = Json::read(leaf).ok().and_then(|json| {
        let sizes = json.members(json.root()).map(|(key, value)| (json.raw(value).len(), json.pointer(key)));
        sizes.max()
    });
    let mut detail =
        format!("the event as stored has at most {LEAF_BYTES_MAX} bytes, this one has {}", leaf.len());
    let mut problems = Vec::new();
    if let Some((size, pointer)) = largest {
        detail
            .push_str(&format!("; the largest member is `{}` with {size}", pointer.trim_start_matches('/')));
        problems.push(problem(pointer, "too_large", format!("{size} bytes")));
    }
    Error::new(Code::EventTooLarge, detail).with_problems(problems)
}

#[cfg(test)]
mod tests;
