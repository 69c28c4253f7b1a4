//! The log of a local run: warnings and errors, on standard error, as lines.
//!
//! It keeps no spans and no levels below warnings: what goes on is in the answers; this is what goes wrong.

use crate::show::Clean;
use std::fmt::{Debug, Write as _};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Begins to log.
pub(crate) fn start() {
    // An error says that a log is kept already, which is all that is wanted.
    let _ = tracing::subscriber::set_global_default(Lines);
}

struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Errors order below warnings. What our libraries' libraries say is for those who debug them.
        *metadata.level() <= Level::WARN && metadata.target().starts_with("stele")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().as_str().to_ascii_lowercase());
        event.record(&mut line);
        crate::show::note(Clean(&line.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a text can't fail.
        let _ = match field.name() {
            "message" => write!(self.0, ": {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
