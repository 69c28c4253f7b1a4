//! Locked objects in an S3 bucket with Object Lock.
//!
//! A put carries `If-None-Match: *`, the SHA-256 of its bytes and its lock, so that object and lock come into being in
//! one step or not at all. Object Lock keeps versions, not keys: somebody with rights we do not have could lay a
//! new version or a delete marker over a key. Reading and listing therefore go by the first version of a key,
//! which is the one that was locked.

use crate::failure::failed;
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::operation::put_object::{PutObjectError, PutObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, DateTime, Length};
use aws_sdk_s3::types::{
    ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode, Tag, Tagging,
};
use aws_smithy_types::timeout::TimeoutConfig;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use std::ops::Range;
use std::time::Duration;
use stele::layout::ObjectKey;
use stele::ports::{ArchiveObjects, ListedObject, LockedObjects, PutIfAbsent, Spooled, StoredObject};
use stele::retention::{LifecycleTag, ObjectState};
use stele::time::Timestamp;
use stele::tlog::hash::Hash;
use stele::{Code, Error, Result};

/// S3 gives at most so many versions at once.
const PAGE_VERSIONS: usize = 1_000;
const READING: &str = "reading a locked object";
/// A file gets what any call gets, and a second for so many bytes.
const FILE_TIMEOUT_MIN: Duration = Duration::from_secs(10);
const FILE_BYTES_PER_SECOND_MIN: u64 = 4_000_000;

/// How objects are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LockMode {
    /// Nobody, root included, ends a lock early.
    #[default]
    Compliance,
    /// Whoever has the right to can: for trying things out.
    Governance,
}

impl LockMode {
    /// S3's own word.
    pub const fn as_str(self) -> &'static str {
        match self {
            LockMode::Compliance => "COMPLIANCE",
            LockMode::Governance => "GOVERNANCE",
        }
    }

    /// Parses it.
    pub fn parse(text: &str) -> Option<LockMode> {
        [LockMode::Compliance, LockMode::Governance].into_iter().find(|mode| mode.as_str() == text)
    }

    fn to_sdk(self) -> ObjectLockMode {
        match self {
            LockMode::Compliance => ObjectLockMode::Compliance,
            LockMode::Governance => ObjectLockMode::Governance,
        }
    }
}

/// Write-once objects in a bucket.
#[derive(Clone, Debug)]
pub struct LockedBucket {
    client: Client,
    bucket: String,
    mode: LockMode,
}

impl LockedBucket {
    /// In a bucket that has Object Lock.
    pub fn new(client: Client, bucket: impl Into<String>, mode: LockMode) -> LockedBucket {
        LockedBucket { client, bucket: bucket.into(), mode }
    }

    /// The first version of a key, whatever lies over it.
    async fn first_version(&self, key: &ObjectKey) -> Result<Option<String>> {
        let listed = self.list(key.as_str(), None, 1).await?;
        // Longer keys with this one as their beginning sort behind it.
        Ok(listed.into_iter().find(|object| object.key == key.as_str()).map(|object| object.version))
    }

    /// A put of what is not there yet, but for its bytes: object and lock come into being in one step.
    fn locked_put(&self, key: &ObjectKey, sha256: Hash, retain_until: Timestamp) -> PutObjectFluentBuilder {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(sha256.as_bytes()))
            .object_lock_mode(self.mode.to_sdk())
            .object_lock_retain_until_date(lock_time(retain_until))
    }

    /// What became of such a put. A crash before the answer leaves the object there, locked, or nothing; a retry is told
    /// that it exists.
    fn outcome(
        &self,
        doing: &'static str,
        answer: std::result::Result<PutObjectOutput, SdkError<PutObjectError>>,
    ) -> Result<PutIfAbsent> {
        let error = match answer {
            Ok(put) => {
                let versioning = "versioning, which Object Lock needs";
                let none = || Error::corrupt(format!("bucket `{}`", self.bucket), versioning, "none");
                return put.version_id.map(PutIfAbsent::Created).ok_or_else(none);
            }
            Err(error) => error,
        };
        if error.code() == Some("PreconditionFailed")
            || error.raw_response().is_some_and(|answer| answer.status().as_u16() == 412)
        {
            return Ok(PutIfAbsent::Exists);
        }
        Err(failed(doing, error))
    }

    /// The lock of a version; one without a lock has none of any length, and whichever mode is ours.
    async fn lock(&self, key: &ObjectKey, version: &str) -> Result<(Timestamp, ObjectLockRetentionMode)> {
        let request = self.client.get_object_retention().bucket(&self.bucket).key(key.as_str());
        let retention = match request.version_id(version).send().await {
            Ok(got) => got.retention,
            Err(error) if error.code() == Some("NoSuchObjectLockConfiguration") => None,
            Err(error) => return Err(failed_on(key, version, "reading an object's lock", error)),
        };
        let until = retention.as_ref().and_then(|lock| lock.retain_until_date.as_ref());
        let mode = retention.as_ref().and_then(|lock| lock.mode.clone());
        Ok((until.map(timestamp).unwrap_or_default(), mode.unwrap_or_else(|| self.mode.as_str().into())))
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: &str,
        range: Option<String>,
    ) -> std::result::Result<GetObjectOutput, SdkError<GetObjectError>> {
        let request = self.client.get_object().bucket(&self.bucket).key(key.as_str()).version_id(version);
        request.set_range(range).send().await
    }
}

/// How long a put of so many bytes may take.
pub(crate) fn file_timeout(bytes: u64) -> Duration {
    FILE_TIMEOUT_MIN + Duration::from_secs(bytes / FILE_BYTES_PER_SECOND_MIN)
}

/// A time as S3 takes it: whole seconds, never early.
fn lock_time(retain_until: Timestamp) -> DateTime {
    DateTime::from_secs(i64::try_from(retain_until.ms().div_ceil(1000)).unwrap_or(i64::MAX))
}

fn timestamp(time: &DateTime) -> Timestamp {
    Timestamp::from_ms(time.to_millis().ok().and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default())
}

/// Whether an answer says that there is no such version, rather than that it can't be read.
fn is_absent<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    // A version that is not one of S3's at all is none of this bucket's.
    matches!(error.code(), Some("NoSuchKey" | "NoSuchVersion" | "InvalidArgument"))
        || error.raw_response().is_some_and(|answer| answer.status().as_u16() == 404)
}

/// The error for what needs a version to be there.
fn failed_on<E>(key: &ObjectKey, version: &str, doing: &'static str, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match is_absent(&error) {
        true => Error::new(Code::NotFound, format!("no version `{version}` of `{key}`")).with_source(error),
        false => failed(doing, error),
    }
}

async fn collected(body: ByteStream) -> Result<Bytes> {
    let body = body.collect().await.map_err(|e| Error::unavailable(READING).with_source(e))?;
    Ok(body.into_bytes())
}

#[async_trait]
impl LockedObjects for LockedBucket {
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        retain_until: Timestamp,
    ) -> Result<PutIfAbsent> {
        let request = self.locked_put(key, Hash::of(&bytes), retain_until).body(ByteStream::from(bytes));
        self.outcome("writing a locked object", request.send().await)
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>> {
        match self.first_version(key).await? {
            Some(version) => self.version(key, &version).await,
            None => Ok(None),
        }
    }

    async fn version(&self, key: &ObjectKey, version: &str) -> Result<Option<StoredObject>> {
        let got = match self.get(key, version, None).await {
            Ok(got) => got,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(failed(READING, error)),
        };
        Ok(Some(StoredObject {
            retain_until: got.object_lock_retain_until_date.as_ref().map(timestamp).unwrap_or_default(),
            version: version.to_owned(),
            bytes: collected(got.body).await?,
        }))
    }

    async fn range(&self, key: &ObjectKey, version: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        // RFC 9110 §14.1.2: the last byte is included.
        let last = range.end.saturating_sub(1).max(range.start);
        match self.get(key, version, Some(format!("bytes={}-{last}", range.start))).await {
            Ok(_) if range.is_empty() => Ok(Some(Bytes::new())),
            Ok(got) if got.content_range.is_some() => collected(got.body).await.map(Some),
            // RFC 9110 §14.2: a server may answer with the whole.
            Ok(got) => {
                let whole = collected(got.body).await?;
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(whole.len());
                Ok(Some(whole.slice(at(range.start)..at(range.end))))
            }
            Err(error) if error.code() == Some("InvalidRange") => Ok(Some(Bytes::new())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed(READING, error)),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>> {
        let mut found: Vec<ListedObject> = Vec::new();
        let (mut key_marker, mut version_marker) = (after.map(str::to_owned), None);
        if limit == 0 || prefix.contains('\0') {
            return Ok(found);
        }
        loop {
            // One more than wanted shows that the last key has no further version.
            let page = (limit - found.len().min(limit) + 1).min(PAGE_VERSIONS);
            let request = self
                .client
                .list_object_versions()
                .bucket(&self.bucket)
                .prefix(prefix)
                .set_key_marker(key_marker)
                .set_version_id_marker(version_marker)
                // At most PAGE_VERSIONS, which an i32 holds.
                .max_keys(page as i32);
            let page = request.send().await.map_err(|e| failed("listing locked objects", e))?;
            for version in page.versions.unwrap_or_default() {
                let (Some(key), Some(id)) = (version.key, version.version_id) else { continue };
                if after.is_some_and(|after| key.as_str() <= after) {
                    continue;
                }
                let bytes = u64::try_from(version.size.unwrap_or_default()).unwrap_or_default();
                let object = ListedObject { key, version: id, bytes };
                // Versions of a key come latest first: the last one seen is the first one made.
                if found.last().is_some_and(|last| last.key == object.key) {
                    found.pop();
                }
                if found.len() == limit {
                    return Ok(found);
                }
                found.push(object);
            }
            if !page.is_truncated.unwrap_or_default() {
                return Ok(found);
            }
            (key_marker, version_marker) = (page.next_key_marker, page.next_version_id_marker);
        }
    }
}

#[async_trait]
impl ArchiveObjects for LockedBucket {
    async fn put_file_if_absent(
        &self,
        key: &ObjectKey,
        file: &Spooled,
        retain_until: Timestamp,
        tag: LifecycleTag,
    ) -> Result<PutIfAbsent> {
        const DOING: &str = "writing a locked object from a file";
        // By path: a retry opens it again.
        let body = ByteStream::read_from().path(&file.path).length(Length::Exact(file.bytes)).build().await;
        let body = body.map_err(|e| Error::new(Code::Internal, DOING).with_source(e))?;
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(file_timeout(file.bytes)).build();
        let request = self
            .locked_put(key, file.sha256, retain_until)
            // As a query string: of our tags' characters none needs escaping in one.
            .tagging(tag.to_string())
            .body(body)
            .customize()
            .config_override(aws_sdk_s3::config::Builder::new().timeout_config(timeouts));
        self.outcome(DOING, request.send().await)
    }

    async fn state(&self, key: &ObjectKey, version: &str) -> Result<Option<ObjectState>> {
        const DOING: &str = "reading what stands on a locked object";
        // First: the answer to a HEAD has no body that would tell a missing version from a bad request.
        let tags = self.client.get_object_tagging().bucket(&self.bucket).key(key.as_str());
        let tags = match tags.version_id(version).send().await {
            Ok(got) => got.tag_set,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(failed(DOING, error)),
        };
        let head = self.client.head_object().bucket(&self.bucket).key(key.as_str());
        let head = match head.version_id(version).send().await {
            Ok(head) => head,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(failed(DOING, error)),
        };
        Ok(Some(ObjectState {
            retain_until: head.object_lock_retain_until_date.as_ref().map(timestamp).unwrap_or_default(),
            hold: head.object_lock_legal_hold_status == Some(ObjectLockLegalHoldStatus::On),
            tag: lifecycle_tag(&tags),
        }))
    }

    async fn extend(&self, key: &ObjectKey, version: &str, retain_until: Timestamp) -> Result<()> {
        let (until, mode) = self.lock(key, version).await?;
        if until >= retain_until {
            return Ok(());
        }
        let lock =
            ObjectLockRetention::builder().mode(mode).retain_until_date(lock_time(retain_until)).build();
        let request = self.client.put_object_retention().bucket(&self.bucket).key(key.as_str());
        let Err(error) = request.version_id(version).retention(lock).send().await else {
            return Ok(());
        };
        // Somebody may have lengthened it meanwhile, and S3 does not shorten it.
        match self.lock(key, version).await? {
            (until, _) if until >= retain_until => Ok(()),
            _ => Err(failed_on(key, version, "lengthening an object's lock", error)),
        }
    }

    async fn set_hold(&self, key: &ObjectKey, version: &str, on: bool) -> Result<()> {
        let status = if on { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let request = self.client.put_object_legal_hold().bucket(&self.bucket).key(key.as_str());
        let answer = request.version_id(version).legal_hold(hold).send().await;
        answer.map(drop).map_err(|e| failed_on(key, version, "setting an object's legal hold", e))
    }

    async fn set_tag(&self, key: &ObjectKey, version: &str, tag: LifecycleTag) -> Result<()> {
        const DOING: &str = "setting an object's tag";
        let built = || -> std::result::Result<Tagging, aws_sdk_s3::error::BuildError> {
            Tagging::builder().tag_set(Tag::builder().key(tag.key()).value(tag.value()).build()?).build()
        };
        let tagging = built().map_err(|e| Error::new(Code::Internal, DOING).with_source(e))?;
        let request = self.client.put_object_tagging().bucket(&self.bucket).key(key.as_str());
        let answer = request.version_id(version).tagging(tagging).send().await;
        answer.map(drop).map_err(|e| failed_on(key, version, DOING, e))
    }
}

/// The lifecycle tag, if it is all that stands there: beside others it would not be what we set.
fn lifecycle_tag(tags: &[Tag]) -> Option<LifecycleTag> {
    match tags {
        [tag] => LifecycleTag::parse(&tag.key, &tag.value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_never_shorter_than_asked_for() {
        let until = Timestamp::from_ms(1_767_225_600_001);
        assert_eq!(lock_time(until).secs(), 1_767_225_601);
        assert!(timestamp(&lock_time(until)) >= until);
    }

    #[test]
    fn modes_come_back() {
        for mode in [LockMode::Compliance, LockMode::Governance] {
            assert_eq!(LockMode::parse(mode.as_str()), Some(mode));
        }
        assert_eq!(LockMode::parse("compliance"), None);
    }
}
