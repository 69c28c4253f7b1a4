//! The local runner: the same handlers as on AWS, in one process and one data folder.
//!
//! `DATA/dynamodb.sqlite` is the database, `DATA/archive` the write-once folder, `DATA/spill` the queue of what waits,
//! `DATA/spool` room for files under way, `DATA/exports` exported files, `DATA/secrets` what must never be lost. It adds nothing to what the handlers do: it
//! listens, feeds the stream to seal, keeps the schedules, and stops cleanly.

pub mod dynoxide;
pub mod secrets;
pub mod listener;
mod draining;
mod sealing;
mod archiving;
mod exporting;

pub use crate::archiving::Round;
use crate::archiving::{Archiving, Locked};
use crate::draining::Draining;
use crate::dynoxide::EmbeddedDynamo;
use crate::exporting::Exporting;
use crate::listener::Functions;
use crate::sealing::{ForgettingGuard, Sealing};
use bytes::Bytes;
use std::fs::{File, TryLockError};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stele::access::{ApiKey, KeyHash, Scope};
use stele::error::{Code, Error, Result};
use stele::id::TenantId;
use stele::limits;
use stele::ports::{ArchiveObjects, Backlog, Clock, ExportFiles, Inbox, LockedObjects, Outbox, Random};
use stele::tlog::hash::Hash;
use stele_adapters::acceptor::{Acceptor, NotedDays};
use stele_adapters::authenticator::Authenticator;
use stele_adapters::clock::{SystemClock, SystemRandom};
use stele_adapters::cold_search::ColdSearch;
use stele_adapters::dynamodb::DynamoStore;
use stele_adapters::folder::LockedFolder;
use stele_adapters::folder_exports::ExportFolder;
use stele_adapters::folder_queue::FolderQueue;
use stele_adapters::memory_exports::MemoryExports;
use stele_adapters::memory_objects::MemoryObjects;
use stele_adapters::memory_queue::MemoryQueue;
use stele_adapters::places::Places;
use stele_adapters::stored_tree::StoredTree;
use stele_adapters::tenants::TenantCache;
use stele_adapters::witnesses::Witness;
use stele_compact::Compact;
use stele_drain::Drain;
use stele_export::Exporter;
use stele_ingest::{Ingest, ReceiptSigner};
use stele_query::Query;
use stele_reconcile::Reconcile;
use stele_seal::{Rebuild, Rebuilt, Seal, SealSettings};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The name of local logs; origins are this, a slash and a random id.
const LOG_NAME: &str = "stele.local";
/// The database, in the data folder.
const DATABASE: &str = "dynamodb.sqlite";

/// How to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The data folder; `None` keeps everything in memory.
    pub data: Option<PathBuf>,
    /// Keys to accept, exactly as given: `STRING` for a platform key, `TENANT:STRING` for one of a tenant.
    pub keys: Vec<String>,
    /// Who is asked to cosign what is stated.
    pub witnesses: Vec<Arc<Witness>>,
}

/// A key the runner accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownKey {
    /// Its text.
    pub text: String,
    /// The tenant it is bound to; none is a platform key.
    pub tenant: Option<String>,
}

/// A running Stele.
pub struct Runner {
    address: SocketAddr,
    keys: Vec<ShownKey>,
    listener: TcpListener,
    functions: Arc<Functions>,
    stop: Stop,
    draining: JoinHandle<()>,
    archiving: JoinHandle<()>,
    exporting: JoinHandle<()>,
    sealing: JoinHandle<()>,
    /// Keeps other processes out of the data folder.
    _claim: Option<File>,
}

/// Tells the tasks beside the listener to end.
struct Stop {
    draining: watch::Sender<bool>,
    archiving: watch::Sender<bool>,
    exporting: watch::Sender<bool>,
    sealing: watch::Sender<bool>,
}

/// The spill queue's three ends.
struct Queue {
    outbox: Arc<dyn Outbox>,
    inbox: Arc<dyn Inbox>,
    backlog: Arc<dyn Backlog>,
}

/// Where exported files lie.
enum ExportedFiles {
    Folder(ExportFolder),
    Memory(Arc<MemoryExports>),
}

impl ExportedFiles {
    fn open(data: Option<&Path>) -> Result<ExportedFiles> {
        Ok(match data {
            Some(data) => ExportedFiles::Folder(ExportFolder::open(data.join("exports"))?),
            None => ExportedFiles::Memory(Arc::new(MemoryExports::new())),
        })
    }

    fn port(&self) -> Arc<dyn ExportFiles> {
        match self {
            ExportedFiles::Folder(folder) => Arc::new(folder.clone()),
            ExportedFiles::Memory(files) => files.clone(),
        }
    }
}

/// The write-once folder of a data folder.
pub fn archive(data: &Path) -> PathBuf {
    data.join("archive")
}

impl ShownKey {
    /// Reads a key as given on the command line. What stands before the first colon is a tenant if it can be one.
    pub fn parse(given: &str) -> Result<ShownKey> {
        let key = match given.split_once(':') {
            Some((tenant, text)) if TenantId::parse(tenant).is_some() => {
                ShownKey { text: text.to_owned(), tenant: Some(tenant.to_owned()) }
            }
            _ => ShownKey { text: given.to_owned(), tenant: None },
        };
        if key.text.is_empty() || !key.text.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(Error::new(
                Code::BadParameter,
                "a key is one or more visible ASCII characters, as `STRING` or `TENANT:STRING`",
            ));
        }
        Ok(key)
    }

    fn record(&self, now_ms: u64) -> (KeyHash, ApiKey) {
        let hash = KeyHash::of(&self.text);
        let digits = Hash::from_bytes(hash.0).to_string();
        let key = ApiKey {
            // The public part of a key is what may stand in a leaf; of a given key that is its hash's beginning.
            key_id: format!("given-{}", &digits[..12]),
            tenant: self.tenant.as_deref().and_then(TenantId::parse),
            scopes: Scope::ALL.to_vec(),
            name: "given at the start".to_owned(),
            created_ms: now_ms,
            revoked_ms: None,
        };
        (hash, key)
    }
}

/// The stores of a data folder (or of memory) and what works on them.
struct Installation {
    claim: Option<File>,
    dynamo: Arc<EmbeddedDynamo>,
    objects: Arc<dyn LockedObjects>,
    archive: Arc<dyn ArchiveObjects>,
    locked: Locked,
    /// Where files of the archive are written before they are stored.
    spool: PathBuf,
    /// Errands to compact, and what reconciliation finds missing. A restart loses neither: both are found again.
    errands: Arc<MemoryQueue>,
    parking: Arc<MemoryQueue>,
    /// Exports that are to be made; those that are not finished are found at the next start.
    to_export: Arc<MemoryQueue>,
    stored: secrets::Stored,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// Makes the data folder and claims it for this process; the claim ends with the file, so with any end of the
/// process.
fn claim(data: &Path) -> Result<File> {
    let failed = |doing: &str, e: std::io::Error| {
        Error::new(Code::Internal, format!("{doing} `{}`: {e}", data.display())).with_source(e)
    };
    std::fs::create_dir_all(data).map_err(|e| failed("making", e))?;
    let file = File::create(data.join("in-use")).map_err(|e| failed("claiming", e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            Code::Unavailable,
            format!(
                "another stele works in `{}`: stop it, or name another folder with --data",
                data.display()
            ),
        )),
        Err(TryLockError::Error(e)) => Err(failed("claiming", e)),
    }
}

impl Installation {
    async fn open(data: Option<&Path>) -> Result<Installation> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let claim = data.map(claim).transpose()?;
        let (locked, stored, database) = match data {
            Some(data) => {
                let folder = LockedFolder::open(archive(data), clock.clone())?;
                let has_data = !folder.list(stele::layout::PUBLIC_KEYS, None, 1).await?.is_empty();
                let stored = secrets::open(data, random.as_ref(), has_data)?;
                (Locked::Folder(Arc::new(folder)), stored, Some(data.join(DATABASE)))
            }
            None => {
                (Locked::Memory(Arc::new(MemoryObjects::new())), secrets::unstored(random.as_ref()), None)
            }
        };
        let (objects, archive): (Arc<dyn LockedObjects>, Arc<dyn ArchiveObjects>) = match &locked {
            Locked::Folder(folder) => (folder.clone(), folder.clone()),
            Locked::Memory(objects) => (objects.clone(), objects.clone()),
        };
        let spool = spool(data)?;
        let until = clock.now().plus_days(limits::CHECKPOINT_LOCK_DAYS);
        for (purpose, key) in stored.public_keys().all() {
            objects.put_if_absent(&key.object_key(), Bytes::from(key.to_file(purpose)), until).await?;
        }
        let dynamo = Arc::new(EmbeddedDynamo::start(database.as_deref()).await?);
        let errands = Arc::new(MemoryQueue::new(clock.clone()));
        let parking = Arc::new(MemoryQueue::new(clock.clone()));
        let to_export = Arc::new(MemoryQueue::new(clock.clone()));
        Ok(Installation {
            claim,
            dynamo,
            objects,
            archive,
            locked,
            spool,
            errands,
            parking,
            to_export,
            stored,
            clock,
            random,
        })
    }

    fn queue(&self, data: Option<&Path>) -> Result<Queue> {
        Ok(match data {
            Some(data) => {
                let queue = FolderQueue::open(data.join("spill"), self.clock.clone(), self.random.clone())?;
                let queue = Arc::new(queue);
                Queue { outbox: queue.clone(), inbox: queue.clone(), backlog: queue }
            }
            None => {
                let queue = Arc::new(MemoryQueue::new(self.clock.clone()));
                Queue { outbox: queue.clone(), inbox: queue.clone(), backlog: queue }
            }
        })
    }

    fn places(&self) -> Arc<Places> {
        let store = Arc::new(self.dynamo.store().clone());
        Arc::new(Places::new(store.clone(), store, self.objects.clone()))
    }

    fn archiving(&self, guard: ForgettingGuard) -> Archiving {
        let store = Arc::new(self.dynamo.store().clone());
        Archiving {
            compact: Compact {
                heads: store.clone(),
                objects: self.objects.clone(),
                archive: self.archive.clone(),
                index: store.clone(),
                policies: store.clone(),
                tenants: store.clone(),
                clock: self.clock.clone(),
                seeds: self.stored.seeds.clone(),
                spool: self.spool.clone(),
            },
            reconcile: Reconcile {
                hot: store.clone(),
                heads: store.clone(),
                objects: self.objects.clone(),
                locks: self.archive.clone(),
                archive: store.clone(),
                watermarks: store.clone(),
                tenants: store.clone(),
                parking: self.parking.clone(),
                compaction: self.errands.clone(),
                clock: self.clock.clone(),
                secrets: self.stored.secrets.clone(),
                cold: self.places(),
            },
            locked: self.locked.clone(),
            errands: self.errands.clone(),
            inbox: self.errands.clone(),
            tenants: store.clone(),
            watermarks: store,
            guard,
            clock: self.clock.clone(),
        }
    }

    fn exporting(&self, files: &ExportedFiles) -> Exporting {
        let store = Arc::new(self.dynamo.store().clone());
        Exporting {
            exporter: Exporter {
                exports: store.clone(),
                files: files.port(),
                tenants: store.clone(),
                heads: store.clone(),
                archive: store.clone(),
                objects: self.objects.clone(),
                clock: self.clock.clone(),
                random: self.random.clone(),
                spool: self.spool.clone(),
            },
            exports: store.clone(),
            tenants: store,
            outbox: self.to_export.clone(),
            inbox: self.to_export.clone(),
            folder: match files {
                ExportedFiles::Folder(folder) => Some(folder.clone()),
                ExportedFiles::Memory(_) => None,
            },
            clock: self.clock.clone(),
        }
    }

    fn seal(&self, witnesses: Vec<Arc<Witness>>) -> Arc<Seal> {
        let store = Arc::new(self.dynamo.store().clone());
        Arc::new(Seal::new(
            store.clone(),
            self.objects.clone(),
            store,
            self.places(),
            self.clock.clone(),
            SealSettings { witnesses, seeds: self.stored.seeds.clone(), publish_every_ms: 0 },
        ))
    }
}

impl Runner {
    /// Opens the stores, binds the address and begins to seal; requests are answered once it runs.
    pub async fn start(settings: Settings) -> Result<Runner> {
        let random = SystemRandom;
        let listener = TcpListener::bind(settings.listen).await.map_err(|e| {
            Error::new(Code::Internal, format!("listening on {}: {e}", settings.listen)).with_source(e)
        })?;
        let address = listener
            .local_addr()
            .map_err(|e| Error::new(Code::Internal, "asking for the address").with_source(e))?;
        let installation = Installation::open(settings.data.as_deref()).await?;
        let keys = if settings.keys.is_empty() {
            let keys = secrets::dev_keys_or_new(settings.data.as_deref(), &random)?;
            keys.into_iter().map(|k| ShownKey { text: k.text, tenant: k.tenant }).collect()
        } else {
            settings.keys.iter().map(|given| ShownKey::parse(given)).collect::<Result<Vec<_>>>()?
        };

        let store = Arc::new(installation.dynamo.store().clone());
        let (clock, random) = (installation.clock.clone(), installation.random.clone());
        let secrets = installation.stored.secrets.clone();
        let mut authenticator = Authenticator::new(store.clone(), clock.clone());
        for key in &keys {
            let (hash, record) = key.record(clock.now().ms());
            authenticator = authenticator.with_given(hash, record);
        }
        let authenticator = Arc::new(authenticator);
        let tenants = Arc::new(TenantCache::new(store.clone(), clock.clone(), secrets.clone(), LOG_NAME));
        let places = installation.places();
        let acceptor = || Acceptor {
            hot: store.clone(),
            cold: places.clone(),
            tenants: tenants.clone(),
            clock: clock.clone(),
            random: random.clone(),
            secrets: secrets.clone(),
            noted: NotedDays::default(),
        };
        let queue = installation.queue(settings.data.as_deref())?;
        let ingest = Ingest {
            receipts: ReceiptSigner::new(&secrets),
            acceptor: acceptor(),
            authenticator: authenticator.clone(),
            spill: queue.outbox,
        };
        let drain =
            Drain { acceptor: acceptor(), authenticator: authenticator.clone(), refusals: store.clone() };
        let exported = ExportedFiles::open(settings.data.as_deref())?;
        let query = Query {
            hot: store.clone(),
            heads: store.clone(),
            archive: store.clone(),
            watermarks: store.clone(),
            policies: store.clone(),
            compaction: installation.errands.clone(),
            exports: store.clone(),
            export_files: exported.port(),
            exporting: installation.to_export.clone(),
            keys: store.clone(),
            refusals: store.clone(),
            backlogs: vec![queue.backlog],
            tree: Arc::new(StoredTree::new(store.clone(), store.clone(), installation.objects.clone())),
            cold: Arc::new(ColdSearch::new(store.clone(), store.clone(), installation.objects.clone())),
            places: places.clone(),
            tenants: tenants.clone(),
            authenticator,
            clock: clock.clone(),
            random: random.clone(),
            secrets: secrets.clone(),
            public_keys: installation.stored.public_keys(),
            env: "local".to_owned(),
        };
        let (stop, stopped) = watch::channel(false);
        let guard = ForgettingGuard::default();
        let archiving = installation.archiving(guard.clone());
        let exporting = installation.exporting(&exported);
        let sealing = Sealing {
            parking: installation.parking.clone(),
            guard,
            dynamo: installation.dynamo.clone(),
            seal: installation.seal(settings.witnesses),
            clock: clock.clone(),
            sealed_through: settings.data.as_ref().map(|d| d.join("sealed-through")),
        };
        let functions = Arc::new(Functions { ingest, query });
        let draining = tokio::spawn(Draining { drain, inbox: queue.inbox }.run(stopped));
        let (stop_sealing, stopped) = watch::channel(false);
        let sealing = tokio::spawn(sealing.run(stopped));
        let (stop_archiving, stopped) = watch::channel(false);
        let archiving = tokio::spawn(archiving.run(stopped));
        let (stop_exporting, stopped) = watch::channel(false);
        let exporting = tokio::spawn(exporting.run(stopped));
        let stop = Stop {
            draining: stop,
            archiving: stop_archiving,
            exporting: stop_exporting,
            sealing: stop_sealing,
        };
        let claim = installation.claim;
        Ok(Runner {
            address,
            keys,
            listener,
            functions,
            stop,
            draining,
            archiving,
            exporting,
            sealing,
            _claim: claim,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The keys it accepts.
    pub fn keys(&self) -> &[ShownKey] {
        &self.keys
    }

    /// Answers requests until told to stop; then finishes those under way and seals what is accepted.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        listener::serve(self.listener, self.functions, shutdown).await;
        // Nobody listens when a task has ended early, which waiting for it tells. What is drained last is sealed too.
        let _told = self.stop.archiving.send(true);
        self.archiving
            .await
            .map_err(|e| Error::new(Code::Internal, "archiving ended early").with_source(e))?;
        let _told = self.stop.exporting.send(true);
        self.exporting
            .await
            .map_err(|e| Error::new(Code::Internal, "exporting ended early").with_source(e))?;
        let _told = self.stop.draining.send(true);
        self.draining.await.map_err(|e| Error::new(Code::Internal, "draining ended early").with_source(e))?;
        let _told = self.stop.sealing.send(true);
        self.sealing.await.map_err(|e| Error::new(Code::Internal, "sealing ended early").with_source(e))
    }
}

/// The database of a data folder, opened to look into it; nobody else works in the folder meanwhile.
pub struct Database {
    dynamo: EmbeddedDynamo,
    _claim: File,
}

impl Database {
    /// All ports on it.
    pub fn store(&self) -> &DynamoStore {
        self.dynamo.store()
    }
}

/// Opens the database of a data folder; `None` if it has none.
///
/// # Errors
/// `unavailable` while somebody works in the folder.
pub async fn database(data: &Path) -> Result<Option<Database>> {
    let file = data.join(DATABASE);
    if !file.exists() {
        return Ok(None);
    }
    let _claim = claim(data)?;
    Ok(Some(Database { dynamo: EmbeddedDynamo::start(Some(&file)).await?, _claim }))
}

/// Adds a checkpoint key to a data folder, and says how many there are then. Logs are handed over at the next start.
///
/// # Errors
/// `unavailable` while somebody works in the folder.
pub fn add_checkpoint_key(data: &Path) -> Result<usize> {
    let _claim = claim(data)?;
    secrets::add_seed(data, &SystemRandom)
}

/// Restores the database of a data folder from its write-once folder alone.
pub async fn rebuild(data: &Path, progress: &(dyn Fn(&Rebuilt) + Sync)) -> Result<Rebuilt> {
    let installation = Installation::open(Some(data)).await?;
    let store = Arc::new(installation.dynamo.store().clone());
    let archive = installation.archive.clone();
    Rebuild::new(installation.seal(Vec::new()), store.clone(), store, archive).run(progress).await
}

/// Does once, for all tenants of a data folder, what the schedules do: compacts, reconciles, lets expire what may go.
/// `close_today` takes the day under way for closed.
pub async fn archive_once(data: &Path, close_today: bool) -> Result<Round> {
    let installation = Installation::open(Some(data)).await?;
    installation.archiving(ForgettingGuard::default()).round(close_today).await
}

/// Makes the folder for files under way, and empties it of what a crash left.
fn spool(data: Option<&Path>) -> Result<PathBuf> {
    let folder = match data {
        Some(data) => data.join("spool"),
        None => std::env::temp_dir().join(format!("stele-spool-{}", std::process::id())),
    };
    let emptied = match std::fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => std::fs::create_dir_all(&folder),
    };
    let failed = |e| Error::new(Code::Internal, format!("making `{}`", folder.display())).with_source(e);
    emptied.map_err(failed)?;
    Ok(folder)
}
