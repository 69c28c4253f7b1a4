//! What there is to say of a tenant's log as a whole: counts, the checkpoint, the keys that sign it.

use crate::Query;
use crate::listing::time;
use crate::scan::days;
use http::StatusCode;
use serde::Serialize;
use stele::access::{Grant, Tenant};
use stele::id::EventId;
use stele::ports::{IdRange, Order};
use stele::routes::Parameters;
use stele::segment::Head;
use stele::time::{Day, Timestamp};
use stele::tlog::hash::TreeSize;
use stele::tlog::note::VerifierKey;
use stele::{Code, Error, Result};
use stele_adapters::http::{Response, answer, json};

const TENANT: [&str; 2] = ["tenant_id", "organization_id"];
/// Records looked at to count what is not sealed yet.
const UNSEALED_SCANNED_MAX: usize = 10_000;
/// Records fetched at once for that.
const CHUNK: usize = 1_000;

#[derive(Serialize)]
struct Usage {
    plan: &'static str,
    events_this_month: u64,
    events_limit: Option<u64>,
    retention_days: u32,
    hot_days: u32,
    tree_size: u64,
    #[serde(serialize_with = "time")]
    as_of: Timestamp,
}

#[derive(Serialize)]
struct LogKey {
    /// The key in the form other C2SP tools read.
    vkey: String,
    name: String,
    algorithm: &'static str,
    purpose: &'static str,
    /// The first tree size it signs.
    from_size: u64,
}

impl Query {
    pub(crate) async fn usage(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&TENANT)?;
        let now = self.clock.now();
        let found = self.tenant(grant, parameters).await?;
        let retention = match &found {
            Some(tenant) => (tenant.record().class_days, tenant.record().hot_days),
            None => {
                let of_new = self.policies.platform_retention().await?;
                (of_new.class_days, of_new.hot_days)
            }
        };
        let mut usage = Usage {
            plan: "self-hosted",
            events_this_month: 0,
            events_limit: None,
            retention_days: retention.0,
            hot_days: retention.1,
            tree_size: 0,
            as_of: now,
        };
        if let Some(tenant) = found {
            let head = self.heads.head(&tenant).await?;
            let sealed = head.as_ref().map_or(0, |head| sealed_this_month(head, now));
            usage.events_this_month = sealed + self.unsealed(&tenant, head.as_ref(), now).await?;
            usage.tree_size = head.map_or(TreeSize::ZERO, |head| head.size()).to_u64();
        }
        Ok(json(StatusCode::OK, &usage))
    }

    /// How many records wait to be sealed: those received after all that is in the log. They lie on the days since
    /// then and on those of late arrivals since then; of very many, not all are counted.
    async fn unsealed(&self, tenant: &Tenant, head: Option<&Head>, now: Timestamp) -> Result<u64> {
        let month = month_of(now);
        let since = head.filter(|head| head.size() > TreeSize::ZERO).map(|head| head.received_max);
        let since_day = since.map_or(tenant.created_day(), Timestamp::day);
        let everything = IdRange {
            first: EventId::first_at(Timestamp::default()),
            last: EventId::last_at(Timestamp::MAX),
        };
        let late = self.hot.late_days(tenant, None).await?;
        let is_late =
            |day: &Day| late.iter().any(|(received, occurred)| occurred == day && *received >= since_day);
        let days = days(&*self.hot, tenant, everything, Order::Descending, now).await?;
        let (mut scanned, mut unsealed) = (0, 0);
        for day in days.into_iter().filter(|day| *day >= since_day || is_late(day)) {
            let first = EventId::first_at(day.start());
            let mut last = EventId::last_at(day.next().start().minus_ms(1));
            let mut seen = None;
            loop {
                let range = IdRange { first, last };
                let records = self.hot.day(tenant, day, range, Order::Descending, CHUNK).await?;
                let new: Vec<_> = records.iter().filter(|r| Some(r.id) != seen).collect();
                let waiting = |received: Timestamp| {
                    since.is_none_or(|since| received > since) && month_of(received) == month
                };
                unsealed += new.iter().filter(|r| waiting(r.received_at)).count() as u64;
                scanned += new.len();
                match records.last() {
                    Some(r) if records.len() >= CHUNK && scanned < UNSEALED_SCANNED_MAX => {
                        (last, seen) = (r.id, Some(r.id));
                    }
                    _ => break,
                }
            }
            if scanned >= UNSEALED_SCANNED_MAX {
                break;
            }
        }
        Ok(unsealed)
    }

    pub(crate) async fn checkpoint(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&TENANT)?;
        let none = || Error::new(Code::NotFound, "the log has no checkpoint yet: nothing is sealed");
        let tenant = self.tenant(grant, parameters).await?.ok_or_else(none)?;
        let head =
            self.heads.head(&tenant).await?.filter(|head| !head.checkpoint.is_empty()).ok_or_else(none)?;
        Ok(answer(StatusCode::OK, "text/plain; charset=utf-8", head.checkpoint))
    }

    pub(crate) async fn log_keys(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&TENANT)?;
        let Some(tenant) = self.tenant(grant, parameters).await? else {
            return Err(Error::new(Code::NotFound, "there is no log yet: it begins with the first event"));
        };
        // A key's name is the log's origin, so every log has its own text of the same key.
        let name = tenant.origin().key_name();
        let keys = self.public_keys.iter().map(|key| {
            let vkey = VerifierKey::new(name.clone(), &key.0)
                .ok_or_else(|| Error::new(Code::Internal, "a public key of ours is not an Ed25519 key"))?;
            Ok(LogKey {
                vkey: vkey.to_string(),
                name: name.to_string(),
                algorithm: "Ed25519",
                purpose: "checkpoints and manifests",
                from_size: 0,
            })
        });
        Ok(json(StatusCode::OK, &keys.collect::<Result<Vec<_>>>()?))
    }
}

fn sealed_this_month(head: &Head, now: Timestamp) -> u64 {
    if month_of(head.sealed_at) != month_of(now) {
        return 0;
    }
    head.size().to_u64().saturating_sub(head.month_base.to_u64())
}

/// `YYYY-MM`.
fn month_of(time: Timestamp) -> [u8; 7] {
    let [month @ .., _, _, _] = time.day().to_bytes();
    month
}
