//! What is made for AWS, against an emulator of it (ministack): the contract of every port, and the scripts that check
//! templates, policies, queries and the deployed whole. Evidence of the protocol, not of durability.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use stele::ports::ExportLink;
use stele_adapters::aws::Aws;
use stele_adapters::contract;
use stele_adapters::dynamodb::DynamoStore;
use stele_adapters::s3::{LockMode, LockedBucket};
use stele_adapters::s3_exports::ExportBucket;
use stele_adapters::sqs::SqsQueue;

const STARTS_WITHIN: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The Python of a set of tools, which is installed if it is not there.
pub(crate) fn python(tools: &str) -> PathBuf {
    let output =
        Command::new(root().join("tests/tools")).arg(tools).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "`tests/tools {tools}` fails: Python 3 with venv is needed");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// An emulator that ends with the test.
struct Emulator {
    child: Child,
    endpoint: String,
    _folder: tempfile::TempDir,
}

impl Emulator {
    fn start() -> Emulator {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(python("aws"))
            .args(["-m", "ministack"])
            .envs([("BIND_HOST", "127.0.0.1"), ("IOT_MTLS_ENABLED", "0"), ("SFTP_ENABLED", "0")])
            .envs([("LAMBDA_EXECUTOR", "local"), ("GATEWAY_PORT", &*port.to_string())])
            .env("TMPDIR", folder.path())
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let emulator = Emulator { child, endpoint: format!("http://127.0.0.1:{port}"), _folder: folder };
        let began = Instant::now();
        while ureq::get(format!("{}/_ministack/health", emulator.endpoint)).call().is_err() {
            assert!(began.elapsed() < STARTS_WITHIN, "the emulator does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        emulator
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_adapters_for_aws_keep_the_contracts_of_their_ports() {
    let emulator = Emulator::start();
    let aws = Aws::emulated(&emulator.endpoint);

    for (bucket, mode) in [("locked", LockMode::Compliance), ("on-trial", LockMode::Governance)] {
        aws.s3().create_bucket().bucket(bucket).object_lock_enabled_for_bucket(true).send().await.unwrap();
        let objects = LockedBucket::new(aws.s3(), bucket, mode);
        contract::objects::locked_objects(&objects).await;
        contract::archive_objects::suite(&objects, tempfile::tempdir().unwrap().path()).await;
    }
    a_key_means_its_first_version(&aws).await;

    let created = aws.sqs().create_queue().queue_name("spill").send().await.unwrap();
    let queue = SqsQueue::new(aws.sqs(), created.queue_url.unwrap());
    contract::queues::suite(&queue, &queue, &queue).await;

    let store = DynamoStore::new(aws.dynamodb(), "events", "control");
    store.create_tables().await.unwrap();
    contract::hot::suite(&store, "a").await;
    contract::tenants::suite(&store, "a").await;
    contract::api_keys::suite(&store, "a").await;
    contract::heads::suite(&store, "a").await;
    contract::archive_index::suite(&store, "a").await;
    contract::policies::suite(&store, "a").await;
    contract::watermarks::suite(&store, "a").await;
    contract::refusals::suite(&store, "a").await;
    contract::exports::suite(&store, "a").await;

    aws.s3().create_bucket().bucket("exports").send().await.unwrap();
    let files = ExportBucket::new(aws.s3(), "exports");
    let spool = tempfile::tempdir().unwrap();
    contract::export_files::suite(&files, spool.path(), follow).await;
}

/// What a link's owner gets, with nothing but the link.
fn follow(link: ExportLink) -> Option<bytes::Bytes> {
    let ExportLink::Url(url) = link else { return None };
    let mut answer = ureq::get(url).call().ok()?;
    let name = answer.headers().get("content-disposition")?.to_str().ok()?.to_owned();
    assert_eq!(name, "attachment; filename=\"ab.csv\"");
    answer.body_mut().read_to_vec().ok().map(Into::into)
}

/// Two setups at once, and one more later, make one installation; a secret is unwrapped for its own purpose alone.
#[tokio::test(flavor = "multi_thread")]
async fn setup_makes_an_installations_secrets_once_and_locks_them() {
    use std::sync::Arc;
    use stele::ports::LockedObjects;
    use stele::public_key::{PublicKey, PublishedKeys};
    use stele_adapters::clock::SystemClock;
    use stele_adapters::secrets::{Purpose, Wrapping, stored};
    let emulator = Emulator::start();
    let aws = Aws::emulated(&emulator.endpoint);
    aws.s3().create_bucket().bucket("locked").object_lock_enabled_for_bucket(true).send().await.unwrap();
    let key = aws.kms().create_key().send().await.unwrap().key_metadata.unwrap().key_id;
    let objects = Arc::new(LockedBucket::new(aws.s3(), "locked", LockMode::Compliance));
    let wrapping = Wrapping::new(aws.kms());
    let setup = || stele_setup::Setup {
        objects: objects.clone(),
        wrapping: wrapping.clone(),
        key_id: key.clone(),
        clock: Arc::new(SystemClock),
    };
    let (one, other) = (setup(), setup());
    let (one, other) = tokio::join!(one.run(1), other.run(1));
    let (one, other, later) = (one.unwrap(), other.unwrap(), setup().run(1).await.unwrap());
    assert_eq!((&one, &one), (&other, &later));

    let master = wrapping.unwrapped_base64(Purpose::Master, &one.master_secret).await.unwrap();
    let seed = wrapping.unwrapped_base64(Purpose::Signing, &one.signing_seed).await.unwrap();
    assert_ne!(master, seed);
    assert!(wrapping.unwrapped_base64(Purpose::Signing, &one.master_secret).await.is_err());
    assert!(wrapping.unwrapped_base64(Purpose::Master, "not base64!").await.is_err());
    let wrapped = stored(Purpose::Signing, 1, &*objects).await.unwrap();
    assert_eq!(wrapping.unwrapped(Purpose::Signing, &wrapped).await.unwrap(), seed);

    let public = PublicKey::of_seed(&seed);
    let published = objects.object(&public.object_key()).await.unwrap().unwrap();
    assert_eq!(published.bytes, public.to_file(stele::public_key::Purpose::Checkpoints));
    let public_keys = PublishedKeys::parse(&one.public_keys).unwrap();
    for (purpose, key) in public_keys.all() {
        let published = objects.object(&key.object_key()).await.unwrap().unwrap();
        assert_eq!(published.bytes, key.to_file(purpose));
    }
    let names: Vec<String> = objects.list("", None, 10).await.unwrap().into_iter().map(|o| o.key).collect();
    assert_eq!((names.len(), public_keys.all().count()), (5, 3), "two secrets beside the keys: {names:?}");
    // A second signing key comes beside the first, which stays what it was.
    let two = PublishedKeys::parse(&setup().run(2).await.unwrap().public_keys).unwrap();
    assert_eq!((two.checkpoints.len(), two.checkpoints[0]), (2, public));
    assert_eq!(two.receipts, public_keys.receipts);
    assert!(published.retain_until.ms() > later_than_years(9), "locked for the longest class");
}

fn later_than_years(years: u64) -> u64 {
    use stele::ports::Clock;
    stele_adapters::clock::SystemClock.now().ms() + years * 365 * stele::time::DAY_MS
}

/// An event of up to a kilobyte is one write unit, and one more in each index: by the emulator's own count.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_kilobyte_takes_one_write_unit_and_one_per_index() {
    use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
    use stele::ports::{HotStore, Put};
    use stele::time::Timestamp;
    let emulator = Emulator::start();
    let aws = Aws::emulated(&emulator.endpoint);
    let store = DynamoStore::new(aws.dynamodb(), "events", "control");
    store.create_tables().await.unwrap();
    let tenant = contract::sample::tenant("acme");
    for (resource, units) in [(Some("inv_1"), 4.0), (None, 3.0)] {
        let ms = 1_767_225_600_000 + u64::from(resource.is_none());
        let record = contract::sample::record_by(&tenant, ms, 1, "user_1", resource, "invoice.deleted");
        let put = Put { record: record.clone(), expires: Timestamp::MAX, remember: None };
        store.put(&tenant, &put).await.unwrap();
        let stored = aws.dynamodb().scan().table_name("events").send().await.unwrap().items.unwrap();
        let is_it = |item: &&std::collections::HashMap<_, _>| {
            item.get("sk") == Some(&AttributeValue::S(record.id.to_string()))
        };
        let mut item = stored.iter().find(is_it).unwrap().clone();
        item.insert("sk".to_owned(), AttributeValue::S(format!("{}x", record.id)));
        let again = aws.dynamodb().put_item().table_name("events").set_item(Some(item));
        let again = again.return_consumed_capacity(ReturnConsumedCapacity::Indexes).send().await.unwrap();
        let consumed = again.consumed_capacity.unwrap();
        assert_eq!(consumed.capacity_units, Some(units), "{consumed:?}");
    }
}

/// Whoever has more rights than we can lay a delete marker and a new version over a locked one. What was locked stays
/// what the key means.
async fn a_key_means_its_first_version(aws: &Aws) {
    use stele::layout::ObjectKey;
    use stele::ports::LockedObjects;
    let bucket = LockedBucket::new(aws.s3(), "locked", LockMode::Compliance);
    let listed = bucket.list("segments/tenant_id=first/", None, 10).await.unwrap();
    let key = ObjectKey::parse(&listed[0].key).unwrap().key();
    let before = bucket.object(&key).await.unwrap().unwrap();
    let client = aws.s3();
    for _ in 0..2 {
        client.delete_object().bucket("locked").key(key.as_str()).send().await.unwrap();
        let body = aws_sdk_s3::primitives::ByteStream::from_static(b"forged");
        client.put_object().bucket("locked").key(key.as_str()).body(body).send().await.unwrap();
        let after = bucket.object(&key).await.unwrap().unwrap();
        assert_eq!((&after.bytes, &after.version), (&before.bytes, &before.version));
        assert_eq!(bucket.list("segments/tenant_id=first/", None, 10).await.unwrap(), listed);
    }
    // And no right at all removes it before its time.
    let version = &listed[0].version;
    let delete = client.delete_object().bucket("locked").key(key.as_str()).version_id(version);
    assert!(delete.bypass_governance_retention(true).send().await.is_err());
}

pub(crate) fn passes(command: &mut Command) {
    let output = command.current_dir(root()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    );
}

#[test]
fn templates_are_clean_and_each_policy_allows_what_is_needed_and_nothing_else() {
    passes(&mut Command::new(root().join("tests/infra/run")));
}

#[test]
fn every_named_query_answers_as_the_events_say() {
    let stele = crate::process::program();
    passes(Command::new(python("aws")).arg("tests/athena/check.py").arg("--stele").arg(stele));
}

#[test]
fn the_deployed_whole_takes_seals_and_proves_real_events_through_an_outage() {
    // The functions lie beside the program, built with it.
    let stele = crate::process::program();
    let functions = stele.parent().unwrap();
    let mut command = Command::new(python("aws"));
    passes(command.arg("tests/aws/e2e.py").arg("--functions").arg(functions).arg("--stele").arg(stele));
}
