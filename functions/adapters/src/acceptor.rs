//! Accepting, as far as it needs stores: whose an event is, whether it was there before, and the one put that makes it
//! durable. `ingest` and `drain` share it, so that an event that waited in a queue is stored like any other.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stele::access::{Grant, Scope, Secrets, Tenant};
use stele::error::{Code, Error, FieldProblem, Kind, Result};
use stele::event::{Accepted, Draft, Terms, same_content};
use stele::id::TenantId;
use stele::limits;
use stele::ports::{Clock, ColdStore, HotStore, Put, PutOutcome, Random, Remember};
use stele::record::Record;
use stele::spill::Spilled;
use stele::time::{Day, Timestamp};
use stele::tlog::checkpoint::Origin;

use crate::tenants::TenantCache;

/// Accepts events. Clients and caches live as long as it does: make one per cold start.
pub struct Acceptor {
    /// Where records go.
    pub hot: Arc<dyn HotStore>,
    /// Whether an id older than the hot window is in the log already.
    pub cold: Arc<dyn ColdStore>,
    /// Whose they are.
    pub tenants: Arc<TenantCache>,
    /// The time of receipt.
    pub clock: Arc<dyn Clock>,
    /// The random bits of ids.
    pub random: Arc<dyn Random>,
    /// The secrets under which external ids become ids.
    pub secrets: Secrets,
    /// The late days this process has noted, so that each is written once.
    pub noted: NotedDays,
}

/// Late days already noted: (tenant, received, occurred).
#[derive(Default)]
pub struct NotedDays(Mutex<HashSet<(TenantId, Day, Day)>>);

/// Noted days kept; beyond it all are forgotten and noted again, which is idempotent.
const NOTED_MAX: usize = 100_000;

impl NotedDays {
    fn contains(&self, tenant: &TenantId, received: Day, occurred: Day) -> bool {
        self.locked().contains(&(tenant.clone(), received, occurred))
    }

    fn insert(&self, tenant: &TenantId, received: Day, occurred: Day) {
        let mut noted = self.locked();
        if noted.len() >= NOTED_MAX {
            noted.clear();
        }
        noted.insert((tenant.clone(), received, occurred));
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<(TenantId, Day, Day)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of an event beside what it says.
#[derive(Clone, Copy)]
pub struct Sending<'a> {
    /// Under which right.
    pub grant: &'a Grant,
    /// When it was sent: its time, unless it says otherwise.
    pub now: Timestamp,
    /// A name its sender gave the request.
    pub idempotency_key: Option<&'a str>,
    /// The message it came in, from which missing bits of its id follow.
    pub message_id: Option<&'a str>,
}

/// An event on its way into the hot store: its id, time and content are fixed.
pub struct Arrival {
    /// The record to store.
    pub record: Record,
    /// The name to remember it by.
    pub name: Option<String>,
    /// The event said nothing of its time.
    pub occurred_at_defaulted: bool,
    /// What was odd about it, but no reason to refuse it.
    pub warnings: Vec<FieldProblem>,
    /// Its time is out of bounds: refused unless it is a replay.
    pub out_of_range: Option<Error>,
    /// Its tenant; `None` while the store of tenants does not answer.
    tenant: Option<Tenant>,
    /// Why there is no tenant.
    unavailable: Option<Error>,
}

/// A stored event's receipt.
pub struct Receipt {
    /// What is stored.
    pub record: Record,
    /// The log it is or will be in.
    pub origin: Origin,
    /// It was there before.
    pub replayed: bool,
    /// What was odd about the event.
    pub warnings: Vec<FieldProblem>,
}

impl Arrival {
    /// As a message for the queue, where nothing stands against queueing it: what is out of bounds is taken only if
    /// it is a replay, which only the store can tell.
    pub fn to_spilled(&self) -> Option<Spilled> {
        self.out_of_range.is_none().then(|| Spilled {
            record: self.record.clone(),
            name: self.name.clone(),
            occurred_at_defaulted: self.occurred_at_defaulted,
        })
    }

    /// From a message of ingest's, received now.
    pub fn of_spilled(spilled: Spilled, tenant: Tenant, now: Timestamp) -> Result<Arrival> {
        Ok(Arrival {
            record: spilled.record.received_again(now)?,
            name: spilled.name,
            occurred_at_defaulted: spilled.occurred_at_defaulted,
            warnings: Vec::new(),
            out_of_range: None,
            tenant: Some(tenant),
            unavailable: None,
        })
    }

    /// The same event, received at another time.
    pub fn received_again(self, now: Timestamp) -> Result<Arrival> {
        Ok(Arrival { record: self.record.received_again(now)?, ..self })
    }
}

impl Acceptor {
    /// Makes an event a record of the grant's tenant. A tenant comes into being if it is not on record yet.
    ///
    /// # Errors
    /// What is wrong with the event; `unavailable` where only the tenant's record could tell.
    pub async fn arrival(&self, sending: Sending<'_>, draft: &Draft<'_>) -> Result<Arrival> {
        let id = tenant_of(sending.grant, draft)?;
        let (tenant, unavailable) = match self.tenants.find_or_create(sending.grant, &id).await {
            Ok(tenant) => (Some(tenant), None),
            Err(error) if is_passing(&error) => (None, Some(error)),
            Err(error) => return Err(error),
        };
        let past_days = tenant.as_ref().map_or(Some(limits::PAST_DAYS_DEFAULT), |t| t.record().past_days);
        let oldest = match past_days {
            Some(days) if !sending.grant.also(Scope::EventsBackfill) => Some(sending.now.minus_days(days)),
            _ => None,
        };
        let accepted = self.apply(draft, sending, &id, oldest)?;
        let Accepted { record, warnings, remember, occurred_at_defaulted, out_of_range } = accepted;
        let name = match (remember, sending.idempotency_key) {
            (Some(_), Some(_)) => return Err(two_names()),
            (Some(external_id), None) => Some(Remember::external_id_name(&external_id)),
            (None, Some(key)) => Some(Remember::idempotency_key_name(key)),
            (None, None) => None,
        };
        Ok(Arrival { record, name, occurred_at_defaulted, warnings, out_of_range, tenant, unavailable })
    }

    /// The event as a record, without asking any store.
    ///
    /// # Errors
    /// What is wrong with the event.
    pub fn apply(
        &self,
        draft: &Draft<'_>,
        sending: Sending<'_>,
        tenant: &TenantId,
        oldest: Option<Timestamp>,
    ) -> Result<Accepted> {
        draft.accept(&Terms {
            tenant,
            key_id: sending.grant.key_id(),
            now: sending.now,
            id_secret: &self.secrets.id_secret(tenant),
            random: match (sending.idempotency_key, sending.message_id) {
                (Some(key), _) => self.secrets.idempotent_bits(tenant, key),
                (None, Some(message)) => self.secrets.message_bits(tenant, message),
                (None, None) => self.random.bits(),
            },
            oldest,
        })
    }

    /// Stores an event, or finds that it was stored before.
    ///
    /// # Errors
    /// `event_conflict`, `timestamp_out_of_range`; `unavailable`, after which it may be stored or not.
    pub async fn store(&self, arrival: Arrival) -> Result<Receipt> {
        let Arrival { record, name, occurred_at_defaulted, warnings, out_of_range, tenant, unavailable } =
            arrival;
        let Some(tenant) = tenant else {
            return Err(unavailable.unwrap_or_else(|| Error::unavailable("finding the tenant")));
        };
        let now = record.received_at;
        // What was received until then the hot store may have forgotten; it may have been dated ahead.
        let forgotten = tenant.record().forgotten(now);
        if record.occurred_at <= forgotten.plus_ms(limits::FUTURE_MS_MAX)
            && was_there(&tenant, forgotten)
            && let Some(stored) = self.cold.forgotten_record(&tenant, record.id, forgotten).await?
        {
            return replay(&tenant, stored, &record, occurred_at_defaulted, warnings);
        }
        if let Some(out_of_range) = out_of_range {
            // A retry may come when its event has grown too old: what is stored stays acknowledged.
            return match self.hot.record(&tenant, record.id).await? {
                Some(stored) => replay(&tenant, stored, &record, occurred_at_defaulted, warnings),
                None => Err(out_of_range),
            };
        }
        self.note_late_day(&tenant, &record).await?;
        let put = Put {
            expires: now.plus_days(tenant.record().hot_days),
            remember: name.map(|name| Remember { name, now, until: now.plus_ms(limits::REMEMBERED_MS) }),
            record,
        };
        // A crash right after this line leaves a stored record without an answer: the retry finds it.
        let outcome = self.hot.put(&tenant, &put).await?;
        let record = put.record;
        match outcome {
            PutOutcome::Stored => {
                Ok(Receipt { record, origin: tenant.origin().clone(), replayed: false, warnings })
            }
            PutOutcome::Exists(stored) | PutOutcome::Remembered(stored) => {
                replay(&tenant, stored, &record, occurred_at_defaulted, warnings)
            }
        }
    }

    /// Notes, once per process, that records of another day than today's are received: reconcile and listings
    /// find them by that. It comes before the put, so that no record is ever without its note.
    async fn note_late_day(&self, tenant: &Tenant, record: &Record) -> Result<()> {
        let (received, occurred) = (record.received_at.day(), record.occurred_at.day());
        if received == occurred || self.noted.contains(tenant.id(), received, occurred) {
            return Ok(());
        }
        self.hot.mark_late(tenant, received, occurred).await?;
        self.noted.insert(tenant.id(), received, occurred);
        Ok(())
    }
}

/// Whether a tenant can have anything from then. Its first event is received a little before it is made, by a clock that
/// may differ.
fn was_there(tenant: &Tenant, then: Timestamp) -> bool {
    Timestamp::from_ms(tenant.record().created_ms).minus_ms(limits::FUTURE_MS_MAX) <= then
}

/// Whether an error may be gone a moment later: then an event that is in order can wait.
pub fn is_passing(error: &Error) -> bool {
    match error.kind() {
        Kind::Unavailable | Kind::Overloaded => true,
        Kind::Invalid
        | Kind::Unauthorized
        | Kind::NotFound
        | Kind::Conflict
        | Kind::Corrupt
        | Kind::Internal => false,
    }
}

/// The tenant of an event: the key's, or the one the event names.
///
/// # Errors
/// `validation_failed` where neither says, `insufficient_scope` where they differ.
pub fn tenant_of(grant: &Grant, draft: &Draft<'_>) -> Result<TenantId> {
    if grant.bound_tenant().is_none() && draft.tenant().is_none() {
        return Err(Error::new(Code::ValidationFailed, "the event names no tenant").with_problems(vec![
            FieldProblem {
                pointer: "/tenant_id".to_owned(),
                code: "required",
                detail: "a platform key must say whose event this is".to_owned(),
                suggestion: None,
            },
        ]));
    }
    grant.choose(draft.tenant(), "tenant_id")
}

/// The original receipt, if the content is the same.
fn replay(
    tenant: &Tenant,
    stored: Record,
    sent: &Record,
    occurred_at_defaulted: bool,
    warnings: Vec<FieldProblem>,
) -> Result<Receipt> {
    if same_content(stored.leaf.as_bytes(), sent.leaf.as_bytes(), occurred_at_defaulted) {
        return Ok(Receipt { record: stored, origin: tenant.origin().clone(), replayed: true, warnings });
    }
    Err(Error::new(
        Code::EventConflict,
        format!(
            "`{}` was accepted at {} with other content: another event needs another id",
            stored.id.shown(),
            stored.received_at
        ),
    ))
}

fn two_names() -> Error {
    Error::new(
        Code::BadParameter,
        "an event with an id of your own is remembered by that id: leave `Idempotency-Key` out",
    )
}
