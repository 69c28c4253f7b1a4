//! The drain function: what waits in the spill queue goes into the hot store, by the same put as any other event.
//!
//! A message may come any number of times and in any order; its id and time are fixed by what it holds, so that only
//! the first one stores something. What has to be refused after all is kept with its reason, never dropped; what
//! can't be decided now is left in the queue.

use std::sync::Arc;
use stele::access::Scope;
use stele::error::{Kind, Result};
use stele::event::Draft;
use stele::id::TenantId;
use stele::ports::Refusals;
use stele::refusal::{Refusal, RefusalFacts, RefusalId};
use stele::spill::{Delivered, Direct, Message};
use stele_adapters::acceptor::{Acceptor, Arrival, Sending, tenant_of};
use stele_adapters::authenticator::Authenticator;

/// Drains the queue. Clients and caches live as long as it does: make one per cold start.
pub struct Drain {
    /// What stores events.
    pub acceptor: Acceptor,
    /// Who sends messages that ingest did not write.
    pub authenticator: Arc<Authenticator>,
    /// Where refusals are kept.
    pub refusals: Arc<dyn Refusals>,
}

/// What became of a message. In each case it can be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Its event is stored now.
    Stored,
    /// Its event was stored before.
    Replayed,
    /// Its event is refused, and the refusal kept.
    Refused,
}

/// What of a message a refusal needs.
struct About {
    tenant: Option<TenantId>,
    event_id: Option<String>,
    event: String,
}

impl Drain {
    /// Handles one message.
    ///
    /// # Errors
    /// Where nothing could be decided: the message has to come again.
    pub async fn handle(&self, message: &Delivered) -> Result<Drained> {
        let mut about = About { tenant: None, event_id: None, event: without_keys(&message.body) };
        let error = match self.store(message, &mut about).await {
            Ok(drained) => return Ok(drained),
            Err(error) => error,
        };
        match error.kind() {
            Kind::Invalid | Kind::Unauthorized | Kind::NotFound | Kind::Conflict => {}
            Kind::Overloaded | Kind::Unavailable | Kind::Corrupt | Kind::Internal => return Err(error),
        }
        let now = self.acceptor.clock.now();
        let refusal = Refusal {
            id: RefusalId::new(message.sent_at, &message.id),
            tenant: about.tenant,
            facts: RefusalFacts::new(&error, about.event_id, about.event, now),
        };
        // A crash right after this line delivers the message again, whose refusal is then there already.
        self.refusals.refuse(&refusal).await?;
        Ok(Drained::Refused)
    }

    async fn store(&self, message: &Delivered, about: &mut About) -> Result<Drained> {
        let arrival = match Message::parse(&message.body, &self.acceptor.secrets)? {
            Message::Record(spilled) => {
                about.tenant = Some(spilled.record.tenant.clone());
                about.event = String::from_utf8_lossy(spilled.record.leaf.as_bytes()).into_owned();
                let tenant = self.acceptor.tenants.find_or_create_for(&spilled).await?;
                Arrival::of_spilled(*spilled, tenant, self.acceptor.clock.now())?
            }
            Message::Direct(direct) => self.direct(message, &direct, about).await?,
        };
        about.event_id = Some(arrival.record.id.shown());
        let receipt = self.acceptor.store(arrival).await?;
        Ok(if receipt.replayed { Drained::Replayed } else { Drained::Stored })
    }

    /// An app's own message: its key is checked like that of a request, a missing time is the message's, and missing
    /// bits come from the message's id.
    async fn direct(&self, message: &Delivered, direct: &Direct<'_>, about: &mut About) -> Result<Arrival> {
        about.event = direct.event.get().to_owned();
        let grant = self.authenticator.grant_to(&direct.api_key, Scope::EventsWrite).await?;
        if let Some(bound) = grant.bound_tenant() {
            about.tenant = Some(bound.clone());
            // A tenant that is on record can read what is refused to it.
            self.acceptor.tenants.find_or_create(&grant, bound).await?;
        }
        let draft = Draft::parse(direct.event.get().as_bytes())?;
        about.tenant = Some(tenant_of(&grant, &draft)?);
        let sending = Sending {
            grant: &grant,
            now: message.sent_at,
            idempotency_key: None,
            message_id: Some(&message.id),
        };
        let arrival = self.acceptor.arrival(sending, &draft).await?;
        arrival.received_again(self.acceptor.clock.now())
    }
}

/// A text with what looks like API keys of ours taken out: what is kept of a message nobody can read must not hold a
/// secret.
fn without_keys(text: &str) -> String {
    const BEGINNING: &str = "stele_";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGINNING) {
        let (before, from) = rest.split_at(at + BEGINNING.len());
        out.push_str(before);
        let end = from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(from.len());
        if end > 0 {
            out.push('…');
        }
        rest = &from[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_out_of_what_is_kept() {
        assert_eq!(
            without_keys(r#"{"api_key":"stele_dev_abc_DEF123","x":"stele_","y":"a stele_b c"}"#),
            r#"{"api_key":"stele_…","x":"stele_","y":"a stele_… c"}"#
        );
        assert_eq!(without_keys("stele"), "stele");
    }
}
