//! Expressions over rows of which only typed columns are known: what can be decided without the leaf. For Parquet's row
//! filters, and for the first look at a record.

use super::expression::{Atom, Expression, Field, State, Test};
use crate::id::EventId;
use crate::record::{Columns, Record};
use crate::time::Timestamp;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::convert::Infallible;

/// A typed column of segments and of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// `id`
    Id,
    /// `occurred_at`
    OccurredAt,
    /// `received_at`
    ReceivedAt,
    /// `action`
    Action,
    /// `outcome`
    Outcome,
    /// `reason`
    Reason,
    /// `actor_type`
    ActorType,
    /// `actor_id`
    ActorId,
    /// `actor_name`
    ActorName,
    /// `actor_email`
    ActorEmail,
    /// `resource_type`
    ResourceType,
    /// `resource_id`
    ResourceId,
    /// `resource_name`
    ResourceName,
    /// `ip`
    Ip,
    /// `user_agent`
    UserAgent,
    /// `key_id`
    KeyId,
    /// `session_id`; not in the archive.
    SessionId,
    /// `request_id`; not in the archive.
    RequestId,
    /// `trace_id`; not in the archive.
    TraceId,
    /// `external_id`; not in the archive.
    ExternalId,
    /// `description`; not in the archive.
    Description,
}

/// What a row has in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The file has no such column, or it was not read.
    Unread,
    /// Nothing.
    Null,
    /// A text; of the column `id`, without a prefix.
    Text(&'a str),
    /// A time: of `occurred_at` and `received_at`.
    Time(Timestamp),
    /// An id, where it is at hand as one.
    Id(EventId),
}

/// A row by its typed columns.
pub trait Row {
    /// What it has in a column.
    fn cell(&self, column: Column) -> Cell<'_>;

    /// Where the event stands, if that is known: a row of a segment below the archived size is archived, too.
    fn state(&self) -> Option<State> {
        None
    }
}

impl Column {
    /// Its name in the files.
    pub const fn name(self) -> &'static str {
        match self {
            Column::Id => "id",
            Column::OccurredAt => "occurred_at",
            Column::ReceivedAt => "received_at",
            Column::Action => "action",
            Column::Outcome => "outcome",
            Column::Reason => "reason",
            Column::ActorType => "actor_type",
            Column::ActorId => "actor_id",
            Column::ActorName => "actor_name",
            Column::ActorEmail => "actor_email",
            Column::ResourceType => "resource_type",
            Column::ResourceId => "resource_id",
            Column::ResourceName => "resource_name",
            Column::Ip => "ip",
            Column::UserAgent => "user_agent",
            Column::KeyId => "key_id",
            Column::SessionId => "session_id",
            Column::RequestId => "request_id",
            Column::TraceId => "trace_id",
            Column::ExternalId => "external_id",
            Column::Description => "description",
        }
    }

    /// Whether files of the archive have it, too; segments have all.
    pub const fn is_archived(self) -> bool {
        !matches!(
            self,
            Column::SessionId
                | Column::RequestId
                | Column::TraceId
                | Column::ExternalId
                | Column::Description
        )
    }
}

impl Field {
    /// The column that holds it, if there is one.
    pub fn column(&self) -> Option<Column> {
        Some(match self {
            Field::Id => Column::Id,
            Field::Time => Column::OccurredAt,
            Field::Received => Column::ReceivedAt,
            Field::Action => Column::Action,
            Field::ActorId => Column::ActorId,
            Field::ResourceId => Column::ResourceId,
            Field::Outcome => Column::Outcome,
            Field::ActorType => Column::ActorType,
            Field::ResourceType => Column::ResourceType,
            Field::Key => Column::KeyId,
            Field::Ip => Column::Ip,
            Field::ActorEmail => Column::ActorEmail,
            Field::ActorName => Column::ActorName,
            Field::ResourceName => Column::ResourceName,
            Field::Reason => Column::Reason,
            Field::UserAgent => Column::UserAgent,
            Field::Session => Column::SessionId,
            Field::Request => Column::RequestId,
            Field::Trace => Column::TraceId,
            Field::ExternalId => Column::ExternalId,
            Field::Description => Column::Description,
            Field::State | Field::Changes { .. } | Field::Metadata(_) | Field::Text => return None,
        })
    }

    /// Whether there are conditions on it that only the leaf decides, however many columns are read.
    pub fn needs_leaf(&self) -> bool {
        matches!(self, Field::Changes { .. } | Field::Metadata(_) | Field::Text)
    }
}

/// The columns that free text looks at, beside metadata.
pub(super) const TEXT_COLUMNS: [Column; 6] = [
    Column::Action,
    Column::ActorId,
    Column::ActorName,
    Column::ResourceId,
    Column::ResourceName,
    Column::Description,
];

impl Atom {
    /// Whether it holds of a row; `None` if the columns don't say.
    pub fn holds_of(&self, row: &(impl Row + ?Sized)) -> Option<bool> {
        if let (Field::State, Test::State(asked)) = (&self.field, &self.test) {
            return row.state().map(|stands| asked.includes(stands));
        }
        match self.field.column() {
            Some(column) => self.holds_of_cell(&row.cell(column)),
            None if self.field == Field::Text => {
                let found = TEXT_COLUMNS.iter().any(|column| match row.cell(*column) {
                    Cell::Text(text) => self.test.holds(&self.field, text),
                    _ => false,
                });
                // It may stand in metadata, which is no column.
                found.then_some(true)
            }
            None => None,
        }
    }

    /// Whether it holds of a cell of its field's column.
    pub fn holds_of_cell(&self, cell: &Cell<'_>) -> Option<bool> {
        Some(match (cell, &self.test) {
            (Cell::Unread, _) => return None,
            (Cell::Null, _) => false,
            (_, Test::Exists) => true,
            (Cell::Time(time), Test::Within(interval)) => interval.contains(*time),
            (Cell::Time(_), _) => false,
            (Cell::Id(id), Test::Id(asked)) => id == asked,
            (Cell::Id(_), _) => false,
            (Cell::Text(text), test) => test.holds(&self.field, text),
        })
    }
}

impl Expression {
    /// Whether a row is admitted; `None` if its columns don't decide that and the leaf must be read.
    pub fn holds_of(&self, row: &(impl Row + ?Sized)) -> Option<bool> {
        let held: Result<_, Infallible> = self.evaluate(&mut |atom| Ok(atom.holds_of(row)));
        match held {
            Ok(held) => held,
        }
    }

    /// The columns that conditions look at, in the order of [`Column`].
    pub fn columns(&self) -> BTreeSet<Column> {
        let mut columns = BTreeSet::new();
        self.visit(&mut |atom| match atom.field.column() {
            Some(column) => columns.extend([column]),
            None if atom.field == Field::Text => columns.extend(TEXT_COLUMNS),
            None => {}
        });
        columns
    }
}

/// What a record says without a look into its leaf.
pub(super) struct RecordRow<'a> {
    pub(super) record: &'a Record,
    pub(super) state: Option<State>,
}

impl Row for RecordRow<'_> {
    fn cell(&self, column: Column) -> Cell<'_> {
        match column {
            Column::Id => Cell::Id(self.record.id),
            Column::OccurredAt => Cell::Time(self.record.occurred_at),
            Column::ReceivedAt => Cell::Time(self.record.received_at),
            Column::Action => Cell::Text(&self.record.action),
            Column::ActorId => Cell::Text(&self.record.actor_id),
            Column::ResourceId => self.record.resource_id.as_deref().map_or(Cell::Null, Cell::Text),
            _ => Cell::Unread,
        }
    }

    fn state(&self) -> Option<State> {
        self.state
    }
}

impl Row for Columns<'_> {
    fn cell(&self, column: Column) -> Cell<'_> {
        fn text<'c>(text: &'c Option<Cow<'_, str>>) -> Cell<'c> {
            text.as_deref().map_or(Cell::Null, Cell::Text)
        }
        match column {
            Column::Id => Cell::Id(self.id),
            Column::OccurredAt => Cell::Time(self.occurred_at),
            Column::ReceivedAt => Cell::Time(self.received_at),
            Column::Action => Cell::Text(&self.action),
            Column::Outcome => Cell::Text(&self.outcome),
            Column::Reason => text(&self.reason),
            Column::ActorType => Cell::Text(&self.actor_type),
            Column::ActorId => Cell::Text(&self.actor_id),
            Column::ActorName => text(&self.actor_name),
            Column::ActorEmail => text(&self.actor_email),
            Column::ResourceType => text(&self.resource_type),
            Column::ResourceId => text(&self.resource_id),
            Column::ResourceName => text(&self.resource_name),
            Column::Ip => text(&self.ip),
            Column::UserAgent => text(&self.user_agent),
            Column::KeyId => Cell::Text(&self.key_id),
            Column::SessionId => text(&self.session_id),
            Column::RequestId => text(&self.request_id),
            Column::TraceId => text(&self.trace_id),
            Column::ExternalId => text(&self.external_id),
            Column::Description => text(&self.description),
        }
    }
}
