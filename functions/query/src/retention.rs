//! `/v1/retention`: how long what is kept, what a change would do and cost, and what of it nobody can undo.
//!
//! It changes what is on record. Lengthening locks, and tagging, is compact's work.

use crate::Query;
use crate::body::{Faults, members};
use crate::policy::{Governed, Sums, shown};
use crate::prices;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use stele::access::{Grant, Tenant, TenantRecord};
use stele::id::{EventId, TenantId};
use stele::own_event::{By, OwnEvent};
use stele::query::tenant_parameter;
use stele::retention::{Class, PlatformRetention};
use stele::routes::{Parameters, Shown, bad_parameter};
use stele::time::Timestamp;
use stele::{Code, Error, Result, limits};
use stele_adapters::http::{Response, json as json_answer};

const TENANT: [&str; 2] = ["tenant_id", "organization_id"];
/// Changes of one tenant's record at the same time are rare: so many in a row are not.
const TRIES_MAX: usize = 8;

/// What is decided about a tenant, or about tenants to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Retained {
    class_days: u32,
    hot_days: u32,
}

impl From<&TenantRecord> for Retained {
    fn from(record: &TenantRecord) -> Retained {
        Retained { class_days: record.class_days, hot_days: record.hot_days }
    }
}

impl From<PlatformRetention> for Retained {
    fn from(platform: PlatformRetention) -> Retained {
        Retained { class_days: platform.class_days, hot_days: platform.hot_days }
    }
}

/// What a class holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum AppliesTo {
    /// What is archived already, and later.
    All,
    /// What is archived from now on.
    New,
}

#[derive(Serialize)]
struct Shape<'a> {
    tenant_id: Option<&'a str>,
    #[serde(flatten)]
    retained: Retained,
    classes_days: [u32; limits::CLASSES_DAYS.len()],
    #[serde(flatten)]
    of_tenant: Option<OfTenant>,
}

#[derive(Serialize)]
struct OfTenant {
    archive: Archive,
    by_class: Vec<OfClass>,
    legal_holds_open: usize,
    enforcement: Pass,
}

#[derive(Serialize, Default)]
struct Archive {
    #[serde(flatten)]
    sums: Sums,
    earliest_expiry: Option<String>,
    latest_expiry: Option<String>,
}

#[derive(Serialize)]
struct OfClass {
    class_days: u32,
    #[serde(flatten)]
    sums: Sums,
}

#[derive(Serialize)]
struct Pass {
    complete: bool,
    checked: u64,
    extended: u64,
    objects: u64,
}

#[derive(Serialize)]
struct Change<'a> {
    tenant_id: Option<&'a str>,
    before: Retained,
    after: Retained,
    preview: bool,
    effect: Effect,
    cannot_be_undone: Vec<String>,
}

#[derive(Serialize)]
struct Effect {
    applies_to: AppliesTo,
    locks_lengthened: Sums,
    until: Option<String>,
    storage_usd_per_month_added: f64,
    requests_usd: f64,
    estimate: &'static str,
}

/// What a body asks for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    class: Option<Class>,
    hot_days: Option<u32>,
    applies_to: Option<AppliesTo>,
}

impl Query {
    pub(crate) async fn retention(&self, grant: &Grant, parameters: &Parameters) -> Result<Response> {
        parameters.only(&TENANT)?;
        let named = tenant_parameter(parameters)?;
        if grant.bound_tenant().is_none() && named.is_none() {
            let retained = self.policies.platform_retention().await?.into();
            return Ok(answered(None, retained, None));
        }
        let id = grant.choose(named.as_ref(), "tenant_id")?;
        let (retained, of_tenant) = match self.tenant_now(grant, &id).await? {
            Some(tenant) => (Retained::from(tenant.record()), self.of_tenant(&tenant).await?),
            None => (self.policies.platform_retention().await?.into(), OfTenant::nothing()),
        };
        Ok(answered(Some(&id), retained, Some(of_tenant)))
    }

    pub(crate) async fn set_retention(
        &self,
        grant: &Grant,
        parameters: &Parameters,
        body: &[u8],
    ) -> Result<Response> {
        parameters.only(&["tenant_id", "organization_id", "preview"])?;
        let preview = match parameters.one("preview")? {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                let detail = format!("`{}` in `preview` is neither `true` nor `false`", Shown(other));
                return Err(bad_parameter("preview", "bad_value", detail));
            }
        };
        let wanted = Wanted::parse(body)?;
        let named = tenant_parameter(parameters)?;
        if grant.bound_tenant().is_none() && named.is_none() {
            return self.set_platform_retention(wanted, preview).await;
        }
        let id = grant.choose(named.as_ref(), "tenant_id")?;
        let Some(tenant) = self.tenant_now(grant, &id).await? else {
            // A bound key's tenant that has no event yet: it comes into being, but not for a preview.
            if preview {
                let before = self.policies.platform_retention().await?.into();
                let (after, applies_to) = wanted.decide(before)?;
                let effect = Effect::none(applies_to);
                let cannot_be_undone = for_good(wanted, before, after, &effect, &Governed::default());
                let id = Some(id.as_str());
                return Ok(changed(Change {
                    tenant_id: id,
                    before,
                    after,
                    preview,
                    effect,
                    cannot_be_undone,
                }));
            }
            let tenant = self.tenants.find_or_create(grant, &id).await?;
            return self.change_retention(grant, tenant, wanted, false).await;
        };
        self.change_retention(grant, tenant, wanted, preview).await
    }

    async fn change_retention(
        &self,
        grant: &Grant,
        mut tenant: Tenant,
        wanted: Wanted,
        preview: bool,
    ) -> Result<Response> {
        let governed = self.governed(&tenant).await?;
        let now = self.clock.now();
        let mut tries = 0;
        let (before, after, applies_to, record) = loop {
            let before = Retained::from(tenant.record());
            let (after, applies_to) = wanted.decide(before)?;
            let record = wanted.record(tenant.record(), after, applies_to, now);
            if preview
                || record == *tenant.record()
                || self.policies.replace_tenant(tenant.record(), &record).await?
            {
                break (before, after, applies_to, record);
            }
            tries += 1;
            if tries == TRIES_MAX {
                return Err(Error::unavailable("the tenant's record is being changed by others"));
            }
            let gone = || Error::new(Code::NotFound, "there is no such tenant");
            tenant = self.tenants.find_now(grant, &tenant.id().clone()).await?.ok_or_else(gone)?;
        };
        let effect = Effect::of(&governed, &record, applies_to);
        let cannot_be_undone = for_good(wanted, before, after, &effect, &governed);
        if !preview {
            let gone = || Error::unavailable("the tenant's record is not there");
            let id = tenant.id().clone();
            let tenant = self.tenants.find_now(grant, &id).await?.ok_or_else(gone)?;
            self.put_own_event(
                &tenant,
                &OwnEvent {
                    id: EventId::new(now, self.random.bits()),
                    tenant: &id,
                    received_at: now,
                    by: By::Key(grant.key_id()),
                    action: "stele.retention.changed",
                    resource: ("retention", id.as_str()),
                    description: described(before, after, applies_to),
                    metadata: Map::from_iter([
                        ("before".to_owned(), json!(before)),
                        ("after".to_owned(), json!(after)),
                        ("applies_to".to_owned(), json!(applies_to)),
                        ("locks_lengthened".to_owned(), json!(effect.locks_lengthened)),
                    ]),
                },
            )
            .await?;
            // Also when nothing is left to change: an earlier request may have come no further than the record.
            if wanted.class.is_some() && record.class_from_ms == 0 {
                self.ask_for_another_pass(&tenant).await?;
            }
        }
        let tenant_id = Some(tenant.id().as_str());
        Ok(changed(Change { tenant_id, before, after, preview, effect, cannot_be_undone }))
    }

    async fn set_platform_retention(&self, wanted: Wanted, preview: bool) -> Result<Response> {
        if wanted.applies_to == Some(AppliesTo::All) {
            let mut faults = Faults::default();
            let detail =
                "what new tenants get changes nothing for those there are: name one with `tenant_id`";
            faults.problem_with("/applies_to", "contradiction", detail.to_owned(), Some("new".to_owned()));
            faults.refuse("nothing was changed")?;
        }
        let before = Retained::from(self.policies.platform_retention().await?);
        let (after, _) = Wanted { applies_to: Some(AppliesTo::New), ..wanted }.decide(before)?;
        if !preview {
            let retention = PlatformRetention { class_days: after.class_days, hot_days: after.hot_days };
            self.policies.set_platform_retention(&retention).await?;
        }
        let effect = Effect::none(AppliesTo::New);
        let cannot_be_undone = for_good(wanted, before, after, &effect, &Governed::default());
        Ok(changed(Change { tenant_id: None, before, after, preview, effect, cannot_be_undone }))
    }

    /// The tenant as it is on record now. To a platform key one that is not there is a 404.
    pub(crate) async fn tenant_now(&self, grant: &Grant, id: &TenantId) -> Result<Option<Tenant>> {
        let found = self.tenants.find_now(grant, id).await?;
        if found.is_none() && grant.bound_tenant().is_none() {
            return Err(Error::new(Code::NotFound, format!("there is no tenant `{id}`")));
        }
        Ok(found)
    }

    async fn of_tenant(&self, tenant: &Tenant) -> Result<OfTenant> {
        let governed = self.governed(tenant).await?;
        let holds = self.policies.holds(tenant).await?;
        let enforcement = self.policies.enforcement(tenant).await?;
        let (mut archive, mut classes) = (Archive::default(), BTreeMap::<u32, Sums>::new());
        for entry in &governed.files {
            archive.sums.add(entry);
            classes.entry(entry.class.days()).or_default().add(entry);
        }
        let expiries = || governed.files.iter().map(|entry| entry.retain_until());
        archive.earliest_expiry = expiries().min().map(|time| time.to_string());
        archive.latest_expiry = expiries().max().map(|time| time.to_string());
        Ok(OfTenant {
            archive,
            by_class: classes.into_iter().map(|(class_days, sums)| OfClass { class_days, sums }).collect(),
            legal_holds_open: holds.iter().filter(|hold| hold.is_open()).count(),
            enforcement: Pass {
                complete: !enforcement.is_due(),
                checked: enforcement.checked,
                extended: enforcement.extended,
                objects: governed.objects(),
            },
        })
    }
}

fn answered(id: Option<&TenantId>, retained: Retained, of_tenant: Option<OfTenant>) -> Response {
    let tenant_id = id.map(TenantId::as_str);
    json_answer(StatusCode::OK, &Shape { tenant_id, retained, classes_days: limits::CLASSES_DAYS, of_tenant })
}

fn changed(change: Change<'_>) -> Response {
    json_answer(StatusCode::OK, &change)
}

impl OfTenant {
    fn nothing() -> OfTenant {
        OfTenant {
            archive: Archive::default(),
            by_class: Vec::new(),
            legal_holds_open: 0,
            enforcement: Pass { complete: true, checked: 0, extended: 0, objects: 0 },
        }
    }
}

impl Effect {
    fn none(applies_to: AppliesTo) -> Effect {
        Effect {
            applies_to,
            locks_lengthened: Sums::default(),
            until: None,
            storage_usd_per_month_added: 0.0,
            requests_usd: 0.0,
            estimate: prices::BASIS,
        }
    }

    /// What the pass under the new record will do.
    fn of(governed: &Governed, record: &TenantRecord, applies_to: AppliesTo) -> Effect {
        let mut effect = Effect::none(applies_to);
        let mut until = None;
        for entry in &governed.files {
            let class = entry.class_needed(record);
            if class > entry.class {
                effect.locks_lengthened.add(entry);
                until = until.max(Some(entry.sealed_last.plus_days(class.days())));
                effect.storage_usd_per_month_added += prices::storage(entry, class);
                effect.requests_usd += prices::lengthening(entry, class);
            }
        }
        if applies_to == AppliesTo::All {
            effect.requests_usd += prices::looking(governed.objects());
        }
        effect.until = until.map(|time| time.to_string());
        // More decimals would pretend to know more.
        let rounded = |usd: f64| (usd * 1e6).round() / 1e6;
        effect.storage_usd_per_month_added = rounded(effect.storage_usd_per_month_added);
        effect.requests_usd = rounded(effect.requests_usd);
        effect
    }
}

impl Wanted {
    fn parse(body: &[u8]) -> Result<Wanted> {
        let members = members(body)?;
        let mut wanted = Wanted { class: None, hot_days: None, applies_to: None };
        let mut faults = Faults::default();
        for (name, value) in &members {
            match name.as_str() {
                "class_days" => match days(value).and_then(Class::of_days) {
                    Some(class) => wanted.class = Some(class),
                    None => {
                        let (detail, next) = not_a_class(value);
                        faults.problem_with("/class_days", "bad_value", detail, next);
                    }
                },
                "hot_days" => {
                    let range = limits::HOT_DAYS_MIN..=limits::HOT_DAYS_MAX;
                    match days(value).filter(|days| range.contains(days)) {
                        Some(days) => wanted.hot_days = Some(days),
                        None => {
                            let (least, most) = (limits::HOT_DAYS_MIN, limits::HOT_DAYS_MAX);
                            let detail = format!("`hot_days` must be a number from {least} to {most}");
                            faults.problem("/hot_days", "bad_value", detail);
                        }
                    }
                }
                "applies_to" => match value.as_str() {
                    Some("all") => wanted.applies_to = Some(AppliesTo::All),
                    Some("new") => wanted.applies_to = Some(AppliesTo::New),
                    _ => {
                        let detail = "`applies_to` must be `all` or `new`".to_owned();
                        faults.problem("/applies_to", "bad_value", detail);
                    }
                },
                other => faults.unknown_field(other),
            }
        }
        if !members.contains_key("class_days") && !members.contains_key("hot_days") && faults.is_empty() {
            faults.problem("/class_days", "required", "say `class_days`, `hot_days` or both".to_owned());
        }
        if wanted.applies_to.is_some() && !members.contains_key("class_days") && faults.is_empty() {
            let detail =
                "`applies_to` is said of `class_days`; `hot_days` holds for what is received from now on";
            faults.problem("/applies_to", "contradiction", detail.to_owned());
        }
        faults.refuse("nothing was changed")?;
        Ok(wanted)
    }

    /// What is then decided.
    ///
    /// # Errors
    /// `retention_cannot_shorten`.
    fn decide(self, before: Retained) -> Result<(Retained, AppliesTo)> {
        let after = Retained {
            class_days: self.class.map_or(before.class_days, Class::days),
            hot_days: self.hot_days.unwrap_or(before.hot_days),
        };
        let longer = after.class_days > before.class_days;
        if after.class_days < before.class_days && self.applies_to == Some(AppliesTo::All) {
            let (from, to) = (before.class_days, after.class_days);
            let detail = format!(
                "what is archived is locked for {from} days in compliance mode, which nobody can shorten to {to}; \
                 with `applies_to` `new` the shorter class holds for what is archived from now on"
            );
            return Err(Error::new(Code::RetentionCannotShorten, detail.clone()).with_problems(vec![
                stele::error::FieldProblem {
                    pointer: "/applies_to".to_owned(),
                    code: "cannot_shorten",
                    detail,
                    suggestion: Some("new".to_owned()),
                },
            ]));
        }
        let applies_to = self.applies_to.unwrap_or(if longer { AppliesTo::All } else { AppliesTo::New });
        Ok((after, applies_to))
    }

    /// The tenant's record then.
    fn record(
        self,
        before: &TenantRecord,
        after: Retained,
        applies_to: AppliesTo,
        now: Timestamp,
    ) -> TenantRecord {
        let mut record = before.clone();
        match applies_to {
            AppliesTo::All => record.class_from_ms = 0,
            AppliesTo::New if after.class_days != before.class_days => record.class_from_ms = now.ms(),
            AppliesTo::New => {}
        }
        record.class_days = after.class_days;
        match after.hot_days == before.hot_days {
            true => record,
            false => record.with_hot_days(after.hot_days, now),
        }
    }
}

fn days(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|days| u32::try_from(days).ok())
}

/// Why it is none, and the next longer one.
fn not_a_class(value: &Value) -> (String, Option<String>) {
    let classes = limits::CLASSES_DAYS.map(|days| days.to_string()).join(", ");
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let next = days(value).and_then(Class::at_least).map(|class| class.to_string());
    (format!("`{}` is not a class; the classes are {classes} days", Shown(&text)), next)
}

fn described(before: Retained, after: Retained, applies_to: AppliesTo) -> String {
    let whom = match applies_to {
        AppliesTo::All => "all files",
        AppliesTo::New => "new files",
    };
    format!(
        "retention class {} days for {whom} (it was {}), {} days in the database (they were {})",
        after.class_days, before.class_days, after.hot_days, before.hot_days
    )
}

/// What nobody can take back, in plain sentences.
fn for_good(
    wanted: Wanted,
    before: Retained,
    after: Retained,
    effect: &Effect,
    governed: &Governed,
) -> Vec<String> {
    let mut sentences = Vec::new();
    let lengthened = effect.locks_lengthened;
    if let Some(until) = &effect.until {
        sentences.push(format!(
            "The locks of {} archived files with {} events are lengthened, the last of them until {until}: until then \
             nobody can delete them or shorten that, not even the account's root user.",
            lengthened.files, lengthened.events
        ));
    }
    if wanted.class.is_some() {
        sentences.push(format!(
            "Each file archived from now on is locked for {} days after its events were sealed; changing the class again \
             shortens no lock that has been set.",
            after.class_days
        ));
    }
    let latest = governed.files.iter().map(|entry| entry.retain_until()).max();
    if let Some(latest) = latest.filter(|_| after.class_days < before.class_days) {
        sentences.push(format!(
            "What is archived already keeps the longer locks it has, the last of them until {}.",
            shown(latest.ms())
        ));
    }
    sentences
}
