//! What there is to say of a tenant's log as a whole: counts, the checkpoint, the keys that sign it.

use crate::Query;
use crate::listing::time;
use crate::scan::days;
use http::StatusCode;
use serde::Serialize;
use stele::access::{Grant, Tenant};
use stele::id::EventId;
use stele::ports::{IdRange, Order};
use stele::public_key::Purpose;
use stele::routes::Parameters;
use stele::segment::Head;
use stele::time::{Day, Timestamp};
use stele::tlog::cosignature::CosignerKey;
use stele::tlog::hash::TreeSize;
use stele::tlog::note::{KeyName, VerifierKey};
use stele::{Code, Error, Result};
use stele::{receipt, statement};
use stele_adapters::http::{Response, json};

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
    /// The first tree size it signs, for a key that signs checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_size: Option<u64>,
    /// The first tree size it signs no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    until_size: Option<u64>,
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
        let since_day = since.map_or(tenant.first_day(), Timestamp::day);
        let everything = IdRange {
            first: EventId::first_at(Timestamp::default()),
            last: EventId::last_at(Timestamp::MAX),
        };
        let ahead = now.plus_ms(stele::limits::FUTURE_MS_MAX).day();
        let late = self.hot.late_days(tenant, since_day..=ahead.max(since_day)).await?;
        let is_late = |day: &Day| late.iter().any(|(_, occurred)| occurred == day);
        let days = days(&*self.hot, tenant, everything, Order::Descending, None, now).await?;
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

    pub(crate) async fn log_keys(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&TENANT)?;
        let Some(tenant) = self.tenant(grant, parameters).await? else {
            return Err(Error::new(Code::NotFound, "there is no log yet: it begins with the first event"));
        };
        let keys = self.tree.keys(&tenant, &self.public_keys.checkpoints).await?;
        let mut shown: Vec<LogKey> = Vec::new();
        for (at, (from, key)) in keys.iter().enumerate() {
            shown.push(LogKey {
                vkey: key.to_string(),
                // A key's name is the log's origin, so every log has its own text of the same key.
                name: key.name().to_string(),
                algorithm: "Ed25519",
                purpose: Purpose::Checkpoints.as_str(),
                from_size: Some(from.to_u64()),
                until_size: keys.get(at + 1).map(|(next, _)| next.to_u64()),
            });
        }
        let other = |vkey: Option<String>, name: KeyName, purpose: Purpose| {
            let vkey =
                vkey.ok_or_else(|| Error::new(Code::Internal, "a public key of ours is not an Ed25519 key"))?;
            Ok::<_, Error>(LogKey {
                vkey,
                name: name.to_string(),
                algorithm: "Ed25519",
                purpose: purpose.as_str(),
                from_size: None,
                until_size: None,
            })
        };
        for key in &self.public_keys.receipts {
            let name = receipt::key_name(tenant.origin());
            let vkey = VerifierKey::new(name.clone(), &key.0).map(|key| key.to_string());
            shown.push(other(vkey, name, Purpose::Receipts)?);
        }
        for key in &self.public_keys.statements {
            let name = statement::key_name(tenant.origin());
            let vkey = CosignerKey::new(name.clone(), &key.0).map(|key| key.to_string());
            shown.push(other(vkey, name, Purpose::Statements)?);
        }
        Ok(json(StatusCode::OK, &shown))
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
