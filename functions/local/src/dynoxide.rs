//! DynamoDB inside this process: dynoxide on an SQLite file or in memory, served on the loopback and spoken to
//! through the AWS SDK like the real one, Streams included.
//!
//! Dynoxide keeps SQLite in WAL mode with `synchronous = FULL`, SQLite's default: each commit is flushed to the
//! disk before it is answered. It never deletes stream rows and finds the next sequence number by reading all of
//! them, so that writes would slow down with every event. Two things are therefore done beside it, on a connection
//! of our own to the same database: an index over the stream, and [`EmbeddedDynamo::trim_stream`].

use aws_lambda_events::event::dynamodb::Event;
use aws_sdk_dynamodbstreams::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use dynoxide::Database;
use rusqlite::{Connection, params};
use std::error::Error as StdError;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use stele::{Code, Error, Result};
use stele_adapters::dynamodb::{DynamoStore, local_client, local_streams_client, stream};
use tokio::sync::oneshot;

const EVENTS_TABLE: &str = "stele-events";
const CONTROL_TABLE: &str = "stele-control";

/// Serves dynoxide's questions "what is the next number" and "what comes after" without reading the whole stream.
/// The expression is the one its queries use.
const STREAM_INDEX: &str = "CREATE INDEX IF NOT EXISTS stele_stream_order
    ON _stream_records (table_name, CAST(sequence_number AS INTEGER))";
/// Rows deleted in one transaction: a write waits for one of them at most.
const TRIM_ROWS: usize = 500;
const TRIM: &str = "DELETE FROM _stream_records WHERE id IN (
    SELECT id FROM _stream_records WHERE table_name = ?1 AND CAST(sequence_number AS INTEGER) < ?2
    ORDER BY CAST(sequence_number AS INTEGER) LIMIT ?3)";
/// What dynoxide adds to a stored sequence number before it shows it.
const SEQUENCE_OFFSET: u128 = 100_000_000_000_000_000_000;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// GetRecords gives at most so many.
const STREAM_RECORDS_MAX: usize = 1000;

/// A running DynamoDB. Dropping it stops the server; what is acknowledged is on the disk already.
pub struct EmbeddedDynamo {
    store: DynamoStore,
    streams: aws_sdk_dynamodbstreams::Client,
    endpoint: String,
    database: Database,
    /// Our own connection. In memory it is also what keeps the data alive.
    beside: Arc<Mutex<Connection>>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

fn internal(doing: &'static str) -> impl Fn(Box<dyn StdError + Send + Sync>) -> Error {
    move |e| Error::new(Code::Internal, doing).with_source(e)
}

impl EmbeddedDynamo {
    /// Opens a database file, or one in memory, serves it and creates the tables that are missing.
    pub async fn start(path: Option<&Path>) -> Result<EmbeddedDynamo> {
        let opening = internal("opening the DynamoDB file");
        let name = match path {
            Some(path) => path
                .to_str()
                .ok_or_else(|| {
                    Error::new(Code::Internal, format!("the path `{}` is not UTF-8", path.display()))
                })?
                .to_owned(),
            None => memory_name()?,
        };
        let database = Database::new(&name).map_err(|e| opening(e.into()))?;
        let beside = open_beside(&name).map_err(|e| opening(e.into()))?;

        let serving = internal("serving DynamoDB on the loopback");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| serving(e.into()))?;
        let endpoint = format!("http://{}", listener.local_addr().map_err(|e| serving(e.into()))?);
        listener.set_nonblocking(true).map_err(|e| serving(e.into()))?;
        let (stop, stopped) = oneshot::channel();
        let served = database.clone();
        let serve = move || {
            if let Err(error) = serve_until(listener, served, stopped) {
                tracing::error!(%error, "the DynamoDB server ended");
            }
        };
        let server =
            Builder::new().name("dynoxide".to_owned()).spawn(serve).map_err(|e| serving(e.into()))?;

        let store = DynamoStore::new(local_client(&endpoint), EVENTS_TABLE, CONTROL_TABLE);
        let streams = local_streams_client(&endpoint);
        let beside = Arc::new(Mutex::new(beside));
        let (stop, server) = (Some(stop), Some(server));
        let dynamo = EmbeddedDynamo { store, streams, endpoint, database, beside, stop, server };
        dynamo.store.create_tables().await?;
        Ok(dynamo)
    }

    /// The ports on it.
    pub fn store(&self) -> &DynamoStore {
        &self.store
    }

    /// Where it listens, as `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A reader of the events' stream.
    pub async fn stream_reader(&self) -> Result<StreamReader> {
        StreamReader::open(self.streams.clone()).await
    }

    /// Deletes expired items and says how many. DynamoDB does it by itself; here somebody has to ask.
    pub async fn sweep_ttl(&self) -> Result<usize> {
        let database = self.database.clone();
        let sweeping = internal("sweeping expired items");
        let swept = tokio::task::spawn_blocking(move || database.sweep_ttl()).await;
        swept.map_err(|e| sweeping(e.into()))?.map_err(|e| sweeping(e.into()))
    }

    /// Deletes the stream's rows before a sequence number that was read and need not be read again; returns how
    /// many. The row of that number stays, so that later numbers stay above it even if the clock jumps back.
    pub async fn trim_stream(&self, before: &str) -> Result<usize> {
        let stored = before.parse::<u128>().ok().and_then(|n| n.checked_sub(SEQUENCE_OFFSET));
        let stored = stored
            .and_then(|n| i64::try_from(n).ok())
            .ok_or_else(|| Error::new(Code::Internal, format!("`{before}` is not a sequence number")))?;
        let mut deleted = 0;
        loop {
            let rows = self
                .beside("trimming the stream", move |connection| {
                    connection.prepare_cached(TRIM)?.execute(params![EVENTS_TABLE, stored, TRIM_ROWS as i64])
                })
                .await?;
            deleted += rows;
            if rows < TRIM_ROWS {
                return Ok(deleted);
            }
        }
    }

    /// Loses the whole stream, as 24 hours without a reader do on AWS: for tests of what then finds the unsealed.
    pub async fn lose_stream(&self) -> Result<usize> {
        self.beside("deleting the stream", |connection| {
            connection.execute("DELETE FROM _stream_records WHERE table_name = ?1", params![EVENTS_TABLE])
        })
        .await
    }

    async fn beside<T: Send + 'static>(
        &self,
        doing: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = self.beside.clone();
        let failed = internal(doing);
        let ran = tokio::task::spawn_blocking(move || {
            // SQLite rolls back what a panic interrupts.
            run(&connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        ran.await.map_err(|e| failed(e.into()))?.map_err(|e| failed(e.into()))
    }

    /// Stops the server: lets running requests finish, takes no new ones.
    pub async fn stop(mut self) {
        self.stop.take();
        if let Some(server) = self.server.take() {
            // Idle connections of our own clients close when those go; a thread that hangs is left behind.
            let joined = tokio::task::spawn_blocking(move || server.join());
            let _ended_or_given_up = tokio::time::timeout(BUSY_TIMEOUT, joined).await;
        }
    }
}

/// Runs the server on a thread of its own: dynoxide waits for the disk inside its handlers, which must not keep
/// those of the runner from answering. One thread is enough, as it does one thing at a time anyway.
fn serve_until(
    listener: TcpListener,
    database: Database,
    stopped: oneshot::Receiver<()>,
) -> std::result::Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| e.to_string())?.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| e.to_string())?;
        let stopped = async {
            let _sent_or_dropped = stopped.await;
        };
        dynoxide::server::serve_with_shutdown(listener, database, stopped).await
    })
}

/// A name under which two connections of this process, and no other, share a database in memory.
fn memory_name() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Code::Internal, "naming a database in memory").with_source(e.to_string()))?;
    Ok(format!("file:/stele-{:016x}?vfs=memdb", u64::from_be_bytes(bytes)))
}

fn open_beside(name: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(name)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch(STREAM_INDEX)?;
    Ok(connection)
}

/// Reads the events' stream in order from wherever a reader left off.
#[derive(Clone, Debug)]
pub struct StreamReader {
    client: aws_sdk_dynamodbstreams::Client,
    stream_arn: String,
    shard_id: String,
    /// Where the last read ended: its sequence number, and the iterator that goes on from it.
    next: Option<(Option<String>, String)>,
}

/// Some of the stream.
#[derive(Debug)]
pub struct StreamRead {
    /// The changes, as Lambda would hand them over; empty at the stream's end.
    pub event: Event,
    /// The sequence number to read on from: the last one read, or where this read began.
    pub last: Option<String>,
}

/// Why the stream can't be read.
#[derive(Debug)]
pub enum StreamError {
    /// What should come next is no longer there: begin at the oldest (`None`) and look for what was missed.
    Trimmed(Error),
    /// Anything else; reading again may work.
    Failed(Error),
}

impl From<StreamError> for Error {
    fn from(error: StreamError) -> Error {
        match error {
            StreamError::Trimmed(error) | StreamError::Failed(error) => error,
        }
    }
}

fn failed<E>(doing: &str, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    Error::unavailable(format!("{doing} failed")).with_source(error)
}

impl StreamReader {
    async fn open(client: aws_sdk_dynamodbstreams::Client) -> Result<StreamReader> {
        const DOING: &str = "finding the events' stream";
        let missing = || Error::new(Code::Internal, format!("table `{EVENTS_TABLE}` has no stream"));
        let listed = client.list_streams().table_name(EVENTS_TABLE).send().await;
        let streams = listed.map_err(|e| failed(DOING, e))?.streams.unwrap_or_default();
        let stream_arn = streams.into_iter().find_map(|s| s.stream_arn).ok_or_else(missing)?;
        let described = client.describe_stream().stream_arn(&stream_arn).send().await;
        let described = described.map_err(|e| failed(DOING, e))?.stream_description;
        // Dynoxide has one shard per stream and never splits it.
        let shards = described.and_then(|d| d.shards).unwrap_or_default();
        let shard_id = shards.into_iter().find_map(|s| s.shard_id).ok_or_else(missing)?;
        Ok(StreamReader { client, stream_arn, shard_id, next: None })
    }

    /// The changes after a sequence number, or from the oldest that is kept; at most `limit`.
    pub async fn read(
        &mut self,
        after: Option<&str>,
        limit: usize,
    ) -> std::result::Result<StreamRead, StreamError> {
        let iterator = match self.next.take() {
            Some((last, iterator)) if last.as_deref() == after => iterator,
            _ => self.iterator(after).await?,
        };
        // At most 1,000, which an i32 holds.
        let limit = limit.clamp(1, STREAM_RECORDS_MAX) as i32;
        let answer = self.client.get_records().shard_iterator(iterator).limit(limit).send().await;
        let answer = answer.map_err(|e| {
            let trimmed = e
                .as_service_error()
                .is_some_and(|e| e.is_expired_iterator_exception() || e.is_trimmed_data_access_exception());
            stream_error("reading the events' stream", trimmed, e)
        })?;
        let event =
            stream::lambda_event_from(answer.records.unwrap_or_default()).map_err(StreamError::Failed)?;
        let last = event.records.last().and_then(|change| change.change.sequence_number.clone());
        let last = last.or_else(|| after.map(str::to_owned));
        self.next = answer.next_shard_iterator.map(|iterator| (last.clone(), iterator));
        Ok(StreamRead { event, last })
    }

    async fn iterator(&self, after: Option<&str>) -> std::result::Result<String, StreamError> {
        const DOING: &str = "finding a place in the events' stream";
        let kind = match after {
            Some(_) => ShardIteratorType::AfterSequenceNumber,
            None => ShardIteratorType::TrimHorizon,
        };
        let request = self
            .client
            .get_shard_iterator()
            .stream_arn(&self.stream_arn)
            .shard_id(&self.shard_id)
            .shard_iterator_type(kind)
            .set_sequence_number(after.map(str::to_owned));
        let answer = request.send().await.map_err(|e| {
            let trimmed = e.as_service_error().is_some_and(|e| e.is_trimmed_data_access_exception());
            stream_error(DOING, trimmed, e)
        })?;
        answer
            .shard_iterator
            .ok_or_else(|| StreamError::Failed(Error::unavailable(format!("{DOING} gave none"))))
    }
}

fn stream_error<E>(doing: &str, trimmed: bool, error: SdkError<E>) -> StreamError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let error = failed(doing, error);
    if trimmed { StreamError::Trimmed(error) } else { StreamError::Failed(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use stele::ports::{HotStore, Put, PutOutcome, Tenants};
    use stele::time::Timestamp;
    use stele_adapters::contract::sample::{record, tenant, tenant_record};
    use stele_adapters::contract::{
        api_keys, archive_index, exports, heads, hot, policies, refusals, tenants, watermarks,
    };

    const START_MS: u64 = 1_767_225_600_000;

    async fn contracts(dynamo: &EmbeddedDynamo) {
        hot::suite(dynamo.store(), "d").await;
        tenants::suite(dynamo.store(), "d").await;
        api_keys::suite(dynamo.store(), "d").await;
        heads::suite(dynamo.store(), "d").await;
        archive_index::suite(dynamo.store(), "d").await;
        policies::suite(dynamo.store(), "d").await;
        watermarks::suite(dynamo.store(), "d").await;
        refusals::suite(dynamo.store(), "d").await;
        exports::suite(dynamo.store(), "d").await;
    }

    async fn put(dynamo: &EmbeddedDynamo, n: u64, expires: Timestamp) {
        let tenant = tenant("acme");
        let put = Put { record: record(&tenant, START_MS + n, 1), expires, remember: None };
        dynamo.store().put(&tenant, &put).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn in_memory_it_keeps_the_contracts() {
        contracts(&EmbeddedDynamo::start(None).await.unwrap()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_a_file_it_keeps_the_contracts_and_the_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dynamo.sqlite");
        let dynamo = EmbeddedDynamo::start(Some(&path)).await.unwrap();
        contracts(&dynamo).await;
        dynamo.store().create_tenant(&tenant_record("kept")).await.unwrap();
        dynamo.stop().await;
        let dynamo = EmbeddedDynamo::start(Some(&path)).await.unwrap();
        let kept = tenant("kept");
        let there = dynamo.store().tenant(kept.id()).await.unwrap();
        assert_eq!(there.as_ref(), Some(kept.record()));
    }

    #[tokio::test]
    async fn a_file_is_written_ahead_and_fully_synchronous() {
        let folder = tempfile::tempdir().unwrap();
        let dynamo = EmbeddedDynamo::start(Some(&folder.path().join("dynamo.sqlite"))).await.unwrap();
        let setting = async |pragma: &'static str| {
            let read = move |c: &Connection| c.query_row(pragma, [], |row| row.get::<_, String>(0));
            dynamo.beside("a test", read).await.unwrap()
        };
        assert_eq!(setting("SELECT journal_mode FROM pragma_journal_mode").await, "wal");
        // A connection's own setting; neither dynoxide's nor ours is ever changed from the library's default.
        assert_eq!(setting("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").await, "2");
    }

    #[tokio::test]
    async fn the_stream_needs_no_full_read() {
        let dynamo = EmbeddedDynamo::start(None).await.unwrap();
        for sql in [
            "SELECT COALESCE(MAX(CAST(sequence_number AS INTEGER)), 0) + 1 FROM _stream_records \
             WHERE table_name = 't'",
            "SELECT event_name FROM _stream_records WHERE table_name = 't' AND shard_id = 's' \
             AND CAST(sequence_number AS INTEGER) > 5 ORDER BY CAST(sequence_number AS INTEGER) ASC LIMIT 9",
        ] {
            let plan = dynamo.beside("a test", move |c| {
                c.query_row(&format!("EXPLAIN QUERY PLAN {sql}"), [], |row| row.get::<_, String>(3))
            });
            let plan = plan.await.unwrap();
            assert!(plan.starts_with("SEARCH") && plan.contains("stele_stream_order"), "{plan}");
        }
    }

    #[tokio::test]
    async fn the_stream_is_read_on_from_any_place_and_trimmed() {
        let dynamo = EmbeddedDynamo::start(None).await.unwrap();
        let mut reader = dynamo.stream_reader().await.unwrap();
        let empty = reader.read(None, 10).await.unwrap();
        assert!(empty.event.records.is_empty() && empty.last.is_none());
        for n in 0..25 {
            put(&dynamo, n, Timestamp::MAX).await;
        }
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            // Every other read is another reader's, as after a restart.
            let mut fresh = dynamo.stream_reader().await.unwrap();
            let reader = if seen.len() % 20 == 0 { &mut reader } else { &mut fresh };
            let read = reader.read(after.as_deref(), 10).await.unwrap();
            if read.event.records.is_empty() {
                assert_eq!(read.last, after);
                break;
            }
            seen.extend(read.event.records.iter().map(|c| stream::record_of(c).unwrap().unwrap().id));
            after = read.last;
        }
        let expected: Vec<_> = (0..25).map(|n| record(&tenant("acme"), START_MS + n, 1).id).collect();
        assert_eq!(seen, expected);

        let last = after.unwrap();
        assert_eq!(dynamo.trim_stream(&last).await.unwrap(), 24);
        assert_eq!(dynamo.trim_stream(&last).await.unwrap(), 0);
        put(&dynamo, 30, Timestamp::MAX).await;
        let read = reader.read(Some(&last), 10).await.unwrap();
        assert_eq!(read.event.records.len(), 1);
        assert!(read.last.unwrap() > last);
        assert!(dynamo.trim_stream("12").await.is_err());
        assert_eq!(dynamo.lose_stream().await.unwrap(), 2);
        assert!(reader.read(None, 10).await.unwrap().event.records.is_empty());
        assert!(matches!(reader.read(Some("x"), 10).await, Err(StreamError::Failed(_))));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn trimming_beside_writers_disturbs_neither() {
        let folder = tempfile::tempdir().unwrap();
        for path in [None, Some(folder.path().join("dynamo.sqlite"))] {
            let dynamo = EmbeddedDynamo::start(path.as_deref()).await.unwrap();
            let tenant = tenant("acme");
            let puts = futures_util::future::join_all((0..4).map(|writer| {
                let (dynamo, tenant) = (&dynamo, &tenant);
                async move {
                    for n in 0..25 {
                        let record = record(tenant, START_MS + writer * 100 + n, 1);
                        let put = Put { record, expires: Timestamp::MAX, remember: None };
                        let outcome = dynamo.store().put(tenant, &put).await.unwrap();
                        assert!(matches!(outcome, PutOutcome::Stored), "{outcome:?}");
                    }
                }
            }));
            let trims = async {
                let (mut reader, mut after, mut seen) = (dynamo.stream_reader().await.unwrap(), None, 0);
                while seen < 100 {
                    let read = reader.read(after.as_deref(), 10).await.unwrap();
                    seen += read.event.records.len();
                    after = read.last;
                    if let Some(last) = &after {
                        dynamo.trim_stream(last).await.unwrap();
                    }
                }
                seen
            };
            let (_, seen) = futures_util::future::join(puts, trims).await;
            assert_eq!(seen, 100);
        }
    }

    #[tokio::test]
    async fn a_sweep_deletes_what_has_expired_and_the_stream_says_so() {
        let dynamo = EmbeddedDynamo::start(None).await.unwrap();
        put(&dynamo, 1, Timestamp::from_ms(1000)).await;
        put(&dynamo, 2, Timestamp::MAX).await;
        assert_eq!(dynamo.sweep_ttl().await.unwrap(), 1);
        let read = dynamo.stream_reader().await.unwrap().read(None, 10).await.unwrap();
        let names: Vec<&str> = read.event.records.iter().map(|c| c.event_name.as_str()).collect();
        assert_eq!(names, ["INSERT", "INSERT", "REMOVE"]);
        let brought = read.event.records.iter().filter_map(|c| stream::record_of(c).unwrap());
        assert_eq!(brought.map(|r| r.id).collect::<BTreeSet<_>>().len(), 2);
    }
}
