//! `/v1/legal-holds`: placing, listing and releasing legal holds, and how far each is carried to the objects it covers.
//!
//! It changes what is on record. Setting holds on objects, and taking them off, is compact's work.

use crate::Query;
use crate::body::{Faults, members};
use crate::policy::{Progress, shown};
use http::header::HeaderValue;
use http::request::Parts;
use http::{HeaderName, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use stele::access::{Grant, Tenant};
use stele::id::{EventId, TenantId};
use stele::own_event::{By, OwnEvent};
use stele::query::tenant_parameter;
use stele::retention::{Enforcement, LegalHold};
use stele::routes::{Parameters, PathParameters, Shown, bad_parameter};
use stele::time::{Day, TimeError, Timestamp};
use stele::{Code, Error, Result, limits};
use stele_adapters::http::{Response, json as json_answer};

const TENANT: [&str; 2] = ["tenant_id", "organization_id"];

const IDEMPOTENCY_KEY: &str = "idempotency-key";
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Passes a change asks for. A pass reads the holds when it begins, and one that began before the change was stored may
/// go by a number another change asked for between our reading of the numbers and the storing. The second number from
/// there is behind that, too.
const PASSES: u64 = 2;

/// How far a hold is carried to the objects it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// On record, not on every object yet.
    Applying,
    /// On every object.
    InForce,
    /// Released on record, not off every object yet.
    Releasing,
    /// Off every object that no other hold covers.
    Released,
}

impl State {
    const ALL: [(&'static str, State); 4] = [
        ("applying", State::Applying),
        ("in_force", State::InForce),
        ("releasing", State::Releasing),
        ("released", State::Released),
    ];

    fn of(hold: &LegalHold, enforcement: &Enforcement) -> State {
        match (hold.is_open(), enforcement.done >= hold.enforcement) {
            (true, false) => State::Applying,
            (true, true) => State::InForce,
            (false, false) => State::Releasing,
            (false, true) => State::Released,
        }
    }

    const fn is_under_way(self) -> bool {
        matches!(self, State::Applying | State::Releasing)
    }
}

#[derive(Serialize)]
struct HoldJson<'a> {
    id: &'a str,
    tenant_id: &'a str,
    from: Option<String>,
    to: Option<String>,
    reason: &'a str,
    placed_at: String,
    placed_by: &'a str,
    released_at: Option<String>,
    released_by: Option<&'a str>,
    state: State,
    progress: Progress,
}

#[derive(Serialize)]
struct Listed<'a> {
    legal_holds: Vec<HoldJson<'a>>,
}

/// How far the passes are.
struct Carried {
    enforcement: Enforcement,
    objects: u64,
}

impl Carried {
    fn shown<'a>(&self, tenant: &'a TenantId, hold: &'a LegalHold) -> HoldJson<'a> {
        let state = State::of(hold, &self.enforcement);
        HoldJson {
            id: &hold.id,
            tenant_id: tenant.as_str(),
            from: hold.from_ms.map(shown),
            to: hold.to_ms.map(shown),
            reason: &hold.reason,
            placed_at: shown(hold.placed_ms),
            placed_by: &hold.placed_by,
            released_at: hold.released_ms.map(shown),
            released_by: hold.released_by.as_deref(),
            state,
            progress: match state.is_under_way() {
                true => Progress::new(&self.enforcement, self.objects),
                false => Progress::whole(self.objects),
            },
        }
    }
}

/// What a body asks for.
struct Wanted {
    tenant: Option<TenantId>,
    from_ms: Option<u64>,
    to_ms: Option<u64>,
    reason: String,
}

impl Query {
    pub(crate) async fn place_hold(
        &self,
        grant: &Grant,
        parts: &Parts,
        parameters: &Parameters,
        body: &[u8],
    ) -> Result<Response> {
        parameters.only(&[])?;
        let key = idempotency_key(parts)?;
        let wanted = Wanted::parse(body)?;
        let id = grant.choose(wanted.tenant.as_ref(), "tenant_id")?;
        let tenant = match self.tenant_now(grant, &id).await? {
            Some(tenant) => tenant,
            None => self.tenants.find_or_create(grant, &id).await?,
        };
        let bits = match &key {
            Some(key) => self.secrets.hold_bits(&id, key),
            None => self.random.bits(),
        };
        let hold_id = format!("hold_{bits:032x}");
        let before = self.hold_of(&tenant, &hold_id).await?;
        let replayed = before.is_some();
        let hold = match before {
            Some(hold) => hold,
            None => {
                let hold = LegalHold {
                    id: hold_id,
                    from_ms: wanted.from_ms,
                    to_ms: wanted.to_ms,
                    reason: wanted.reason.clone(),
                    placed_ms: self.clock.now().ms(),
                    placed_by: grant.key_id().to_owned(),
                    enforcement: self.next_number(&tenant).await?,
                    released_ms: None,
                    released_by: None,
                };
                // From here on whoever records an object of the archive finds it. A crash leaves it `applying` until
                // somebody repeats the request or looks at it.
                let placed = self.policies.place_hold(&tenant, &hold).await;
                match self.hold_of(&tenant, &hold.id).await? {
                    // With a key somebody may have been faster by a moment: theirs stands.
                    Some(stored) => stored,
                    None => placed.map(|()| hold)?,
                }
            }
        };
        if !wanted.is(&hold) {
            let detail =
                format!("the `Idempotency-Key` has placed `{}`, with another range or reason", hold.id);
            return Err(Error::new(Code::LegalHoldActive, detail));
        }
        self.see_through(&tenant, &hold).await?;
        let carried = self.carried(&tenant).await?;
        let status = if replayed { StatusCode::OK } else { StatusCode::CREATED };
        let mut response = json_answer(status, &carried.shown(tenant.id(), &hold));
        if replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        Ok(response)
    }

    pub(crate) async fn holds(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&["tenant_id", "organization_id", "state"])?;
        let states = parameters.all("state").map(|text| {
            let known = State::ALL.into_iter().find(|(name, _)| *name == text);
            known.map(|(_, state)| state).ok_or_else(|| {
                let names = State::ALL.map(|(name, _)| format!("`{name}`")).join(", ");
                let detail = format!("`{}` in `state` is not one of {names}", Shown(text));
                bad_parameter("state", "bad_value", detail)
            })
        });
        let states = states.collect::<Result<Vec<_>>>()?;
        let id = grant.choose(tenant_parameter(parameters)?.as_ref(), "tenant_id")?;
        let Some(tenant) = self.tenant_now(grant, &id).await? else {
            return Ok(json_answer(StatusCode::OK, &Listed { legal_holds: Vec::new() }));
        };
        let mut holds = self.policies.holds(&tenant).await?;
        let carried = self.carried_after_mending(&tenant, &holds).await?;
        holds.sort_by_key(|hold| (!hold.is_open(), std::cmp::Reverse(hold.placed_ms)));
        let asked_for =
            |hold: &&LegalHold| states.is_empty() || states.contains(&State::of(hold, &carried.enforcement));
        let legal_holds = holds.iter().filter(asked_for).map(|hold| carried.shown(&id, hold)).collect();
        Ok(json_answer(StatusCode::OK, &Listed { legal_holds }))
    }

    pub(crate) async fn hold(
        &self,
        grant: &Grant,
        path: &PathParameters,
        parameters: &Parameters,
    ) -> Result<Response> {
        parameters.only(&TENANT)?;
        let (tenant, hold) = self.found(grant, path, parameters).await?;
        let carried = self.carried_after_mending(&tenant, std::slice::from_ref(&hold)).await?;
        Ok(json_answer(StatusCode::OK, &carried.shown(tenant.id(), &hold)))
    }

    pub(crate) async fn release_hold(
        &self,
        grant: &Grant,
        path: &PathParameters,
        parameters: &Parameters,
    ) -> Result<Response> {
        parameters.only(&TENANT)?;
        let (tenant, hold) = self.found(grant, path, parameters).await?;
        let hold = match hold.is_open() {
            false => hold,
            true => {
                let (now, number) = (self.clock.now(), self.next_number(&tenant).await?);
                let released =
                    self.policies.release_hold(&tenant, &hold.id, now, grant.key_id(), number).await?;
                released.ok_or_else(unknown)?
            }
        };
        self.see_through(&tenant, &hold).await?;
        let carried = self.carried(&tenant).await?;
        Ok(json_answer(StatusCode::OK, &carried.shown(tenant.id(), &hold)))
    }

    /// The hold a path names. Unknown, foreign and malformed ids look alike.
    async fn found(
        &self,
        grant: &Grant,
        path: &PathParameters,
        parameters: &Parameters,
    ) -> Result<(Tenant, LegalHold)> {
        let id = grant.choose(tenant_parameter(parameters)?.as_ref(), "tenant_id")?;
        let tenant = self.tenant_now(grant, &id).await?.ok_or_else(unknown)?;
        let hold = self.hold_of(&tenant, path.value("id")).await?.ok_or_else(unknown)?;
        Ok((tenant, hold))
    }

    async fn hold_of(&self, tenant: &Tenant, id: &str) -> Result<Option<LegalHold>> {
        Ok(self.policies.holds(tenant).await?.into_iter().find(|hold| hold.id == id))
    }

    /// The pass after which a change that is about to be stored is on every object.
    async fn next_number(&self, tenant: &Tenant) -> Result<u64> {
        Ok(self.policies.enforcement(tenant).await?.requested + PASSES)
    }

    /// What follows from a hold on record: its event in the log, and the passes. Repeating it changes nothing.
    async fn see_through(&self, tenant: &Tenant, hold: &LegalHold) -> Result<()> {
        let range = match (hold.from_ms.map(shown), hold.to_ms.map(shown)) {
            (None, None) => "of all time".to_owned(),
            (Some(from), None) => format!("from {from} on"),
            (None, Some(to)) => format!("before {to}"),
            (Some(from), Some(to)) => format!("from {from} to {to}"),
        };
        let metadata = Map::from_iter([
            ("from".to_owned(), json!(hold.from_ms.map(shown))),
            ("to".to_owned(), json!(hold.to_ms.map(shown))),
            ("reason".to_owned(), json!(hold.reason)),
        ]);
        let (action, at, by, what) = match (hold.released_ms, &hold.released_by) {
            (Some(at), by) => ("stele.legal_hold.released", at, by.as_deref(), "released"),
            (None, _) => ("stele.legal_hold.placed", hold.placed_ms, None, "placed"),
        };
        let bits = self.secrets.own_event_bits(tenant.id(), &format!("{action}/{}", hold.id));
        self.put_own_event(
            tenant,
            &OwnEvent {
                id: EventId::new(Timestamp::from_ms(at), bits),
                tenant: tenant.id(),
                received_at: self.clock.now().max(Timestamp::from_ms(at)),
                by: By::Key(by.unwrap_or(&hold.placed_by)),
                action,
                resource: ("legal_hold", &hold.id),
                description: format!("legal hold on events {range} {what}"),
                metadata,
            },
        )
        .await?;
        self.ask_for_pass(tenant, hold.enforcement).await
    }

    async fn carried(&self, tenant: &Tenant) -> Result<Carried> {
        let objects = self.governed(tenant).await?.objects();
        Ok(Carried { enforcement: self.policies.enforcement(tenant).await?, objects })
    }

    /// The same, and where a request came no further than its hold, the rest of it is done now: nobody else would.
    async fn carried_after_mending(&self, tenant: &Tenant, holds: &[LegalHold]) -> Result<Carried> {
        let carried = self.carried(tenant).await?;
        let broken = |hold: &&LegalHold| hold.enforcement > carried.enforcement.requested;
        let broken: Vec<&LegalHold> = holds.iter().filter(broken).collect();
        if broken.is_empty() {
            return Ok(carried);
        }
        for hold in broken {
            self.see_through(tenant, hold).await?;
        }
        let enforcement = self.policies.enforcement(tenant).await?;
        Ok(Carried { enforcement, ..carried })
    }
}

fn unknown() -> Error {
    Error::new(Code::NotFound, "there is no such legal hold")
}

pub(crate) fn idempotency_key(parts: &Parts) -> Result<Option<String>> {
    let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().map(|t| t.trim().trim_matches('"')).unwrap_or_default();
    let most = limits::IDEMPOTENCY_KEY_BYTES_MAX;
    match matches!(text.len(), 1..=limits::IDEMPOTENCY_KEY_BYTES_MAX) {
        true => Ok(Some(text.to_owned())),
        false => Err(Error::new(
            Code::BadParameter,
            format!("`Idempotency-Key` must be 1 to {most} visible ASCII characters"),
        )),
    }
}

impl Wanted {
    fn parse(body: &[u8]) -> Result<Wanted> {
        let members = members(body)?;
        let mut wanted = Wanted { tenant: None, from_ms: None, to_ms: None, reason: String::new() };
        let mut faults = Faults::default();
        for (name, value) in &members {
            match (name.as_str(), value) {
                ("tenant_id" | "from" | "to", Value::Null) => {}
                ("tenant_id", Value::String(text)) => match TenantId::parse(text) {
                    Some(id) => wanted.tenant = Some(id),
                    None => faults.problem(
                        "/tenant_id",
                        "bad_value",
                        format!("`{}` cannot be a tenant's id", Shown(text)),
                    ),
                },
                ("tenant_id", _) => {
                    faults.problem("/tenant_id", "bad_value", "`tenant_id` must be a string".to_owned());
                }
                ("from" | "to", value) => match value.as_str().map(time) {
                    Some(Ok(time)) if name == "from" => wanted.from_ms = Some(time.ms()),
                    Some(Ok(time)) => wanted.to_ms = Some(time.ms()),
                    _ => {
                        let text = value.to_string();
                        let text = Shown(value.as_str().unwrap_or(&text)).to_string();
                        let detail = format!(
                            "`{text}` in `{name}` is no time: send RFC 3339 with an offset, or a UTC day as \
                             `2026-05-01`"
                        );
                        faults.problem(format!("/{name}"), "bad_time", detail);
                    }
                },
                ("reason", Value::String(text)) if text.len() <= limits::HOLD_REASON_BYTES_MAX => {
                    wanted.reason = text.trim().to_owned();
                }
                ("reason", Value::String(_)) => {
                    let most = limits::HOLD_REASON_BYTES_MAX;
                    let detail = format!("`reason` is longer than {most} bytes");
                    faults.problem("/reason", "too_long", detail);
                }
                ("reason", _) => {
                    faults.problem("/reason", "bad_value", "`reason` must be a string".to_owned());
                }
                (other, _) => faults.unknown_field(other),
            }
        }
        if wanted.reason.is_empty() && (!members.contains_key("reason") || faults.is_empty()) {
            let detail = "`reason` must say why: a case, a matter, a request".to_owned();
            faults.problem("/reason", "required", detail);
        }
        if let (Some(from), Some(to)) = (wanted.from_ms, wanted.to_ms)
            && from >= to
        {
            let detail = "`to` is excluded and must lie behind `from`".to_owned();
            faults.problem("/to", "contradiction", detail);
        }
        faults.refuse("no hold was placed")?;
        Ok(wanted)
    }

    /// Whether a hold is the one asked for.
    fn is(&self, hold: &LegalHold) -> bool {
        (self.from_ms, self.to_ms, &self.reason) == (hold.from_ms, hold.to_ms, &hold.reason)
    }
}

/// RFC 3339, or the beginning of a UTC day.
fn time(text: &str) -> std::result::Result<Timestamp, TimeError> {
    match text.len() {
        10 => Day::parse(text).map(Day::start),
        _ => Timestamp::parse(text),
    }
}
