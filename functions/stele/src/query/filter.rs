//! Which records a listing is about. Different terms must all hold, of several values of one term any.

use crate::error::{Error, Result};
use crate::id::EventId;
use crate::ports::{HotIndex, IdRange, Order};
use crate::record::{Columns, Record};
use crate::time::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::net::IpAddr;

/// What an `action` value means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ActionTerm {
    /// `invoice.deleted`
    Exact(String),
    /// `invoice.*`, without the star
    Prefix(String),
    /// a value without a dot, in lower case
    Contains(String),
}

/// The terms of a filter; what is empty does not filter. Values are sorted and distinct, so that filters that
/// mean the same are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
    pub(super) actor_ids: Vec<String>,
    pub(super) actor_names: Vec<String>,
    pub(super) actions: Vec<ActionTerm>,
    pub(super) resource_types: Vec<String>,
    pub(super) resource_ids: Vec<String>,
    pub(super) outcomes: Vec<String>,
    pub(super) ips: Vec<IpAddr>,
    pub(super) searches: Vec<String>,
}

impl Filter {
    /// From when on, included.
    pub fn from(&self) -> Option<Timestamp> {
        self.from
    }

    /// Until when, excluded.
    pub fn to(&self) -> Option<Timestamp> {
        self.to
    }

    /// The ids its times admit; `None` if there are none.
    pub fn range(&self) -> Option<IdRange> {
        let first = EventId::first_at(self.from.unwrap_or_default());
        let last = match self.to {
            None => Timestamp::MAX,
            Some(to) if to == Timestamp::default() => return None,
            Some(to) => to.minus_ms(1),
        };
        let last = EventId::last_at(last);
        (first <= last).then_some(IdRange { first, last })
    }

    /// The index lookups that together hold every record it admits; empty if only the days themselves do.
    /// Of several indexes the one taken is that of the rarest kind of value.
    pub fn best_index(&self) -> Vec<HotIndex> {
        if !self.resource_ids.is_empty() {
            return self.resource_ids.iter().cloned().map(HotIndex::Resource).collect();
        }
        if !self.actor_ids.is_empty() {
            return self.actor_ids.iter().cloned().map(HotIndex::Actor).collect();
        }
        // One value that is not exact can match any action: then the index does not hold them all.
        let exact = self.actions.iter().map(|term| match term {
            ActionTerm::Exact(action) => Some(HotIndex::Action(action.clone())),
            ActionTerm::Prefix(_) | ActionTerm::Contains(_) => None,
        });
        exact.collect::<Option<_>>().unwrap_or_default()
    }

    /// Whether [`Filter::best_index`] holds nothing but what it admits, so that counting needs no records.
    pub fn is_answered_by_index(&self) -> bool {
        let exact = self.actions.iter().all(|term| matches!(term, ActionTerm::Exact(_)));
        let indexed = [!self.resource_ids.is_empty(), !self.actor_ids.is_empty(), !self.actions.is_empty()];
        indexed.iter().filter(|used| **used).count() == 1 && exact && !self.needs_columns()
    }

    /// Whether it admits a record.
    ///
    /// # Errors
    /// `corrupt` if the record's leaf is none.
    pub fn matches(&self, record: &Record) -> Result<bool> {
        // What stands in the record itself comes first: most records fail here, and no leaf is parsed for them.
        let resource_id = record.resource_id.as_deref();
        let quick = self.from.is_none_or(|from| from <= record.occurred_at)
            && self.to.is_none_or(|to| record.occurred_at < to)
            && any(&self.actor_ids, |id| *id == record.actor_id)
            && any(&self.resource_ids, |id| Some(id.as_str()) == resource_id)
            && any(&self.actions, |term| term.matches(&record.action));
        if !quick || !self.needs_columns() {
            return Ok(quick);
        }
        let columns = record.columns()?;
        let ip = || columns.ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
        Ok(any(&self.outcomes, |outcome| *outcome == columns.outcome)
            && any(&self.resource_types, |kind| Some(kind.as_str()) == columns.resource_type.as_deref())
            && (self.ips.is_empty() || ip().is_some_and(|ip| self.ips.contains(&ip)))
            && (self.actor_names.is_empty() || {
                let name = columns.actor_name.as_deref().map(str::to_lowercase);
                name.is_some_and(|name| self.actor_names.iter().any(|part| name.contains(part)))
            })
            && (self.searches.is_empty() || self.finds(&columns)?))
    }

    fn needs_columns(&self) -> bool {
        !(self.outcomes.is_empty()
            && self.resource_types.is_empty()
            && self.ips.is_empty()
            && self.actor_names.is_empty()
            && self.searches.is_empty())
    }

    /// Over action, ids and names of actor and resource, description, and the strings of metadata.
    fn finds(&self, columns: &Columns<'_>) -> Result<bool> {
        let hit = |text: &str| {
            let text = text.to_lowercase();
            self.searches.iter().any(|part| text.contains(part))
        };
        let texts = [
            Some(&columns.action),
            Some(&columns.actor_id),
            columns.actor_name.as_ref(),
            columns.resource_id.as_ref(),
            columns.resource_name.as_ref(),
            columns.description.as_ref(),
        ];
        if texts.into_iter().flatten().map(Cow::as_ref).any(hit) {
            return Ok(true);
        }
        let Some(metadata) = columns.metadata else { return Ok(false) };
        let metadata = serde_json::from_str(metadata)
            .map_err(|e| Error::corrupt("metadata of a leaf", "JSON", "something else").with_source(e))?;
        Ok(any_string(&metadata, &hit))
    }

    /// Which listing this is, for its cursors: equal for filters that mean the same in the same order.
    pub(super) fn binding(&self, order: Order) -> [u8; 16] {
        let mut hash = Sha256::new();
        let mut field = |name: &str, values: &mut dyn Iterator<Item = String>| {
            for value in values {
                hash.update((name.len() as u64).to_be_bytes());
                hash.update(name);
                hash.update((value.len() as u64).to_be_bytes());
                hash.update(value);
            }
        };
        let descending = order == Order::Descending;
        field("order", &mut std::iter::once(if descending { "desc" } else { "asc" }.to_owned()));
        field("from", &mut self.from.iter().map(ToString::to_string));
        field("to", &mut self.to.iter().map(ToString::to_string));
        field("actor_id", &mut self.actor_ids.iter().cloned());
        field("actor_name", &mut self.actor_names.iter().cloned());
        field("action", &mut self.actions.iter().map(ActionTerm::text));
        field("resource_type", &mut self.resource_types.iter().cloned());
        field("resource_id", &mut self.resource_ids.iter().cloned());
        field("outcome", &mut self.outcomes.iter().cloned());
        field("ip", &mut self.ips.iter().map(ToString::to_string));
        field("search", &mut self.searches.iter().cloned());
        let mut binding = [0; 16];
        binding.copy_from_slice(&hash.finalize()[..16]);
        binding
    }
}

/// A text of an event that stores keep as a column of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    /// `actor.id`
    ActorId,
    /// `resource.id`
    ResourceId,
    /// `action`
    Action,
    /// `outcome`
    Outcome,
    /// `actor.type`
    ActorType,
    /// `resource.type`
    ResourceType,
    /// `context.ip`
    Ip,
    /// `actor.name`
    ActorName,
    /// `actor.email`
    ActorEmail,
    /// `resource.name`
    ResourceName,
    /// `context.user_agent`
    UserAgent,
    /// `key_id`
    KeyId,
    /// `reason`
    Reason,
}

impl Column {
    /// All of them.
    pub const ALL: [Column; 13] = [
        Column::Action,
        Column::Outcome,
        Column::ActorId,
        Column::ActorType,
        Column::ActorName,
        Column::ActorEmail,
        Column::ResourceType,
        Column::ResourceId,
        Column::ResourceName,
        Column::Ip,
        Column::UserAgent,
        Column::Reason,
        Column::KeyId,
    ];

    /// Its name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Column::ActorId => "actor.id",
            Column::ResourceId => "resource.id",
            Column::Action => "action",
            Column::Outcome => "outcome",
            Column::ActorType => "actor.type",
            Column::ResourceType => "resource.type",
            Column::Ip => "ip",
            Column::ActorName => "actor.name",
            Column::ActorEmail => "actor.email",
            Column::ResourceName => "resource.name",
            Column::UserAgent => "ua",
            Column::KeyId => "key_id",
            Column::Reason => "reason",
        }
    }

    /// What an event has there.
    pub fn of<'a>(self, columns: &'a Columns<'_>) -> Option<&'a str> {
        match self {
            Column::ActorId => Some(&columns.actor_id),
            Column::ResourceId => columns.resource_id.as_deref(),
            Column::Action => Some(&columns.action),
            Column::Outcome => Some(&columns.outcome),
            Column::ActorType => Some(&columns.actor_type),
            Column::ResourceType => columns.resource_type.as_deref(),
            Column::Ip => columns.ip.as_deref(),
            Column::ActorName => columns.actor_name.as_deref(),
            Column::ActorEmail => columns.actor_email.as_deref(),
            Column::ResourceName => columns.resource_name.as_deref(),
            Column::UserAgent => columns.user_agent.as_deref(),
            Column::KeyId => Some(&columns.key_id),
            Column::Reason => columns.reason.as_deref(),
        }
    }
}

/// The columns of one event, as far as they are known.
pub trait Row {
    /// A column's text: `None` if it was not read, `Some(None)` if the event has none.
    fn text(&self, column: Column) -> Option<Option<&str>>;
}

impl Filter {
    /// The columns its terms can be judged by, without what only the whole event tells.
    pub fn columns(&self) -> Vec<Column> {
        let used = [
            (Column::ActorId, !self.actor_ids.is_empty()),
            (Column::ResourceId, !self.resource_ids.is_empty()),
            (Column::Action, !self.actions.is_empty()),
            (Column::Outcome, !self.outcomes.is_empty()),
            (Column::ResourceType, !self.resource_types.is_empty()),
            (Column::Ip, !self.ips.is_empty()),
            (Column::ActorName, !self.actor_names.is_empty()),
        ];
        used.into_iter().filter(|(_, used)| *used).map(|(column, _)| column).collect()
    }

    /// What its terms say of a row, its time aside: `None` if the columns that are known do not tell.
    pub fn judge(&self, row: &dyn Row) -> Option<bool> {
        let known = |column, holds: &dyn Fn(&str) -> bool| {
            row.text(column).map(|text: Option<&str>| text.is_some_and(holds))
        };
        let terms = [
            (self.actor_ids.is_empty(), known(Column::ActorId, &|id| self.actor_ids.iter().any(|a| a == id))),
            (
                self.resource_ids.is_empty(),
                known(Column::ResourceId, &|id| self.resource_ids.iter().any(|r| r == id)),
            ),
            (
                self.actions.is_empty(),
                known(Column::Action, &|action| self.actions.iter().any(|a| a.matches(action))),
            ),
            (self.outcomes.is_empty(), known(Column::Outcome, &|o| self.outcomes.iter().any(|x| x == o))),
            (
                self.resource_types.is_empty(),
                known(Column::ResourceType, &|kind| self.resource_types.iter().any(|x| x == kind)),
            ),
            (
                self.ips.is_empty(),
                known(Column::Ip, &|ip| ip.parse().is_ok_and(|ip: IpAddr| self.ips.contains(&ip))),
            ),
            (
                self.actor_names.is_empty(),
                known(Column::ActorName, &|name| {
                    let name = name.to_lowercase();
                    self.actor_names.iter().any(|part| name.contains(part))
                }),
            ),
            (self.searches.is_empty(), None),
        ];
        let said = terms.iter().map(|(unused, said)| if *unused { Some(true) } else { *said });
        said.fold(Some(true), |all, said| match (all, said) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        })
    }

    /// The texts of which a column must have one for an event to match; `None` if it may have any.
    pub fn one_of(&self, column: Column) -> Option<Vec<&str>> {
        let texts = match column {
            Column::ActorId => &self.actor_ids,
            Column::ResourceId => &self.resource_ids,
            Column::Outcome => &self.outcomes,
            Column::ResourceType => &self.resource_types,
            _ => return None,
        };
        (!texts.is_empty()).then(|| texts.iter().map(String::as_str).collect())
    }

    /// Whether nothing but times is asked for.
    pub fn is_empty(&self) -> bool {
        self.columns().is_empty() && self.searches.is_empty()
    }
}

impl ActionTerm {
    fn matches(&self, action: &str) -> bool {
        match self {
            ActionTerm::Exact(exact) => action == exact,
            ActionTerm::Prefix(prefix) => action.starts_with(prefix),
            // Actions are lower case by their grammar.
            ActionTerm::Contains(part) => action.contains(part),
        }
    }

    fn text(&self) -> String {
        match self {
            ActionTerm::Exact(action) => action.clone(),
            ActionTerm::Prefix(prefix) => format!("{prefix}*"),
            ActionTerm::Contains(part) => format!("*{part}*"),
        }
    }
}

fn any<T>(values: &[T], holds: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(holds)
}

fn any_string(value: &Value, hit: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => hit(text),
        Value::Array(items) => items.iter().any(|item| any_string(item, hit)),
        Value::Object(members) => members.values().any(|member| any_string(member, hit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::query::request::ListRequest;
    use crate::routes::Parameters;
    use proptest::prelude::*;
    use serde_json::json;

    fn one(words: &[&'static str], at: usize) -> &'static str {
        words[at % words.len()]
    }

    /// A record whose leaf says this; `parts` index into small vocabularies.
    pub(in crate::query) fn record(ms: u64, random: u128, parts: [usize; 6]) -> Record {
        let at = Timestamp::from_ms(ms);
        let id = EventId::new(at, random);
        let mut leaf = json!({
            "v": 1, "id": id.to_string(), "tenant_id": "acme", "key_id": "k",
            "occurred_at": at.to_string(), "received_at": at.plus_ms(5).to_string(),
            "action": one(&["invoice.deleted", "invoice.item.added", "user.created"], parts[0]),
            "actor": {"id": one(&["u1", "u2"], parts[1]), "type": "user"},
            "outcome": one(&["success", "failure"], parts[2]),
        });
        if parts[1] > 2 {
            leaf["actor"]["name"] = json!(one(&["Älice Ω", "Bob"], parts[1]));
        }
        if parts[3] % 3 < 2 {
            leaf["resource"] = json!({"id": one(&["inv_1", "u1", ""], parts[3]), "type": one(&["invoice", "user", ""], parts[3])});
        }
        if parts[4].is_multiple_of(2) {
            leaf["context"] = json!({"ip": one(&["203.0.113.7", "2001:db8::1"], parts[4] / 2)});
        }
        if parts[5].is_multiple_of(3) {
            leaf["metadata"] = json!({"a": [1.5, {"b": "Ünder DEEP"}], "plan": "pro"});
        }
        Record::from_leaf(crate::canonical::canonicalize(leaf.to_string().as_bytes()).unwrap()).unwrap()
    }

    fn filter(query: &str) -> Filter {
        ListRequest::parse(&Parameters::parse(query).unwrap()).unwrap().filter
    }

    /// The same rules, said over the JSON as slowly and plainly as possible.
    fn naive(query: &str, leaf: &Value) -> bool {
        let parameters = Parameters::parse(query).unwrap();
        let mut names: Vec<&str> = parameters.pairs().iter().map(|(n, _)| n.as_str()).collect();
        names.dedup();
        let text = |pointer: &str| leaf.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        names.iter().all(|name| {
            parameters.all(name).any(|v| match *name {
                "actor_id" => text("/actor/id").as_deref() == Some(v),
                "resource_id" => text("/resource/id").as_deref() == Some(v),
                "resource_type" => text("/resource/type").as_deref() == Some(v),
                "outcome" => text("/outcome").as_deref() == Some(v),
                "ip" => text("/context/ip").as_deref() == Some(v),
                "actor_name" => {
                    text("/actor/name").is_some_and(|n| n.to_lowercase().contains(&v.to_lowercase()))
                }
                "action" => {
                    let action = text("/action").unwrap();
                    match v.strip_suffix('*') {
                        Some(prefix) => action.starts_with(prefix),
                        None if v.contains('.') => action == v,
                        None => action.contains(&v.to_lowercase()),
                    }
                }
                "from" => {
                    Timestamp::parse(v).unwrap() <= Timestamp::parse(&text("/occurred_at").unwrap()).unwrap()
                }
                "to" => {
                    Timestamp::parse(v).unwrap() > Timestamp::parse(&text("/occurred_at").unwrap()).unwrap()
                }
                "search" => {
                    let v = v.to_lowercase();
                    let fields = [
                        "/action",
                        "/actor/id",
                        "/actor/name",
                        "/resource/id",
                        "/metadata/plan",
                        "/metadata/a/1/b",
                    ];
                    fields.iter().any(|f| text(f).is_some_and(|t| t.to_lowercase().contains(&v)))
                }
                other => panic!("no rule for {other}"),
            })
        })
    }

    const TERMS: [&str; 20] = [
        "actor_id=u1",
        "actor_id=u2",
        "actor_name=%C3%84LI",
        "actor_name=bob",
        "action=invoice.deleted",
        "action=user.created",
        "action=invoice.*",
        "action=DEL",
        "resource_type=user",
        "resource_type=invoice",
        "resource_id=inv_1",
        "resource_id=u1",
        "outcome=failure",
        "outcome=success",
        "ip=203.0.113.7",
        "ip=2001:db8::1",
        "search=u1",
        "search=%C3%BCNDER+deep",
        "from=1970-01-01T00:00:00.500Z",
        "to=1970-01-01T00:00:00.900Z",
    ];

    proptest! {
        #[test]
        fn a_filter_admits_what_the_plain_rules_admit(
            ms in 0_u64..1500, random: u128, parts: [u8; 6],
            mut terms in proptest::sample::subsequence(TERMS.to_vec(), 0..5),
        ) {
            terms.sort_unstable();
            let record = record(ms, random, parts.map(usize::from));
            let query = terms.join("&");
            let leaf = serde_json::from_slice(record.leaf.as_bytes()).unwrap();
            let admitted = filter(&query).matches(&record).unwrap();
            prop_assert_eq!(admitted, naive(&query, &leaf), "{} over {}", query, leaf);
            // What is admitted lies in the range, and in an index if one is chosen.
            if admitted {
                let range = filter(&query).range().unwrap();
                prop_assert!((range.first..=range.last).contains(&record.id));
                let lookups = filter(&query).best_index();
                let held = lookups.iter().any(|lookup| match lookup {
                    HotIndex::Actor(id) => *id == record.actor_id,
                    HotIndex::Resource(id) => Some(id) == record.resource_id.as_ref(),
                    HotIndex::Action(action) => *action == record.action,
                });
                prop_assert!(held || lookups.is_empty());
            }
        }
    }

    #[test]
    fn the_rarest_index_is_taken_and_an_inexact_action_takes_none() {
        let index = |query: &str| filter(query).best_index();
        assert_eq!(index("actor_id=a&resource_id=r&action=x.y"), [HotIndex::Resource("r".into())]);
        assert_eq!(
            index("actor_id=b&action=x.y&actor_id=a"),
            ["a", "b"].map(|id| HotIndex::Actor(id.to_owned()))
        );
        assert_eq!(index("action=x.y"), [HotIndex::Action("x.y".into())]);
        assert_eq!(index("action=x.y&action=x.*"), []);
        assert!(filter("action=x.y&from=2026-01-01").is_answered_by_index());
        assert!(!filter("action=x.y&search=z").is_answered_by_index());
        assert!(!filter("action=x.y&actor_id=a").is_answered_by_index());
        assert!(!filter("action=x.*").is_answered_by_index());
        assert!(!filter("").is_answered_by_index());
    }

    #[test]
    fn a_range_without_time_in_it_is_none() {
        assert_eq!(filter("from=2026-01-02&to=2026-01-02").range(), None);
        assert_eq!(filter("to=1970-01-01").range(), None);
        assert!(filter("").range().is_some());
    }
}
