//! The local stand-in for the queue of exports and for the lifecycle of their files: it makes exports as they are asked for, and
//! lets files go after their days. What a stop or a crash cut off is found again at the next start.

use std::sync::Arc;
use std::time::Duration;
use stele::access::Tenant;
use stele::error::Result;
use stele::export::ExportErrand;
use stele::id::TenantId;
use stele::limits;
use stele::ports::{Clock, Exports, Inbox, Outbox, Tenants};
use stele::time::{DAY_MS, Timestamp};
use stele_adapters::folder_exports::ExportFolder;
use stele_export::{Exporter, Outcome};
use tokio::sync::watch;

/// How often errands are looked for.
const EVERY: Duration = Duration::from_millis(250);
/// How often old files are looked for.
const CLEAN_EVERY_MS: u64 = 60 * 60 * 1000;
/// One export gives others their turn after so long at the latest: it fails then, and says so.
const TURN_MS: u64 = 24 * 60 * 60 * 1000;
/// Errands received at once.
const ERRANDS: usize = 4;
/// Tenants and exports listed at once.
const PAGE: usize = 100;

pub(crate) struct Exporting {
    pub(crate) exporter: Exporter,
    pub(crate) exports: Arc<dyn Exports>,
    pub(crate) tenants: Arc<dyn Tenants>,
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) inbox: Arc<dyn Inbox>,
    /// Where files lie, if not in memory.
    pub(crate) folder: Option<ExportFolder>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Exporting {
    /// Works until told to stop. An export under way is begun again at the next start.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        if let Err(error) = self.send_unfinished().await {
            tracing::warn!(%error, "unfinished exports were not found: looking at one begins it again");
        }
        let mut cleaned: Option<Timestamp> = None;
        while !*stop.borrow() {
            let now = self.clock.now();
            if cleaned.is_none_or(|at| at.plus_ms(CLEAN_EVERY_MS) <= now || now < at) {
                cleaned = Some(now);
                self.clean().await;
            }
            tokio::select! {
                worked = self.work() => if let Err(error) = worked {
                    tracing::warn!(%error, "an export failed, and is begun again when it is looked at");
                },
                _ = stop.changed() => {}
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// Runs the errands that wait. Each is taken off first: one that fails is sent again by whoever looks at its export.
    async fn work(&self) -> Result<()> {
        for message in self.inbox.receive(ERRANDS).await? {
            let errand = ExportErrand::parse(&message.body)?;
            self.inbox.delete(&message.receipt).await?;
            let until = self.clock.now().plus_ms(TURN_MS);
            match self.exporter.handle(&errand, until).await? {
                Outcome::Done(_) | Outcome::Failed | Outcome::Over => {}
                // Its worker ended with an earlier process, and its claim ends soon: until then, later.
                Outcome::Busy => self.outbox.send(message.body).await?,
            }
        }
        Ok(())
    }

    async fn send_unfinished(&self) -> Result<()> {
        let mut after: Option<TenantId> = None;
        loop {
            let records = self.tenants.tenants(after.as_ref(), PAGE).await?;
            let is_last = records.len() < PAGE;
            for record in records {
                let tenant = Tenant::on_record(record)?;
                self.send_unfinished_of(&tenant).await?;
                after = Some(tenant.id().clone());
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn send_unfinished_of(&self, tenant: &Tenant) -> Result<()> {
        let mut before: Option<String> = None;
        loop {
            let page = self.exports.exports(tenant, before.as_deref(), PAGE).await?;
            for export in page.iter().filter(|export| !export.state.is_final()) {
                // Nobody else works in this folder: whoever had it is gone.
                let given_back = export.given_back();
                self.exports.replace_export(tenant, export.revision, &given_back).await?;
                let errand = ExportErrand { tenant: tenant.id().clone(), export: export.id.clone() };
                self.outbox.send(errand.message()).await?;
            }
            if page.len() < PAGE {
                return Ok(());
            }
            before = page.last().map(|last| last.id.clone());
        }
    }

    async fn clean(&self) {
        let Some(folder) = &self.folder else { return };
        let age = Duration::from_millis(u64::from(limits::EXPORT_KEPT_DAYS) * DAY_MS);
        match folder.remove_older(age).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "old exports removed"),
            Err(error) => tracing::warn!(%error, "removing old exports failed, trying again in an hour"),
        }
    }
}
