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
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::ObjectLockMode;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use std::ops::Range;
use stele::layout::ObjectKey;
use stele::ports::{ListedObject, LockedObjects, PutIfAbsent, StoredObject};
use stele::time::Timestamp;
use stele::tlog::hash::Hash;
use stele::{Error, Result};

/// S3 gives at most so many versions at once.
const PAGE_VERSIONS: usize = 1_000;
const READING: &str = "reading a locked object";

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

/// A time as S3 takes it: whole seconds, never early.
fn lock_time(retain_until: Timestamp) -> DateTime {
    DateTime::from_secs(i64::try_from(retain_until.ms().div_ceil(1000)).unwrap_or(i64::MAX))
}

fn timestamp(time: &DateTime) -> Timestamp {
    Timestamp::from_ms(time.to_millis().ok().and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default())
}

/// Whether an answer says that there is no such version, rather than that it can't be read.
fn is_absent(error: &SdkError<GetObjectError>) -> bool {
    // A version that is not one of S3's at all is none of this bucket's.
    matches!(error.code(), Some("NoSuchKey" | "NoSuchVersion" | "InvalidArgument"))
        || error.raw_response().is_some_and(|answer| answer.status().as_u16() == 404)
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
        const DOING: &str = "writing a locked object";
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(Hash::of(&bytes).as_bytes()))
            .object_lock_mode(self.mode.to_sdk())
            .object_lock_retain_until_date(lock_time(retain_until))
            .body(ByteStream::from(bytes));
        // A crash before the answer leaves the object there, locked, or nothing; a retry is told that it exists.
        let error = match request.send().await {
            Ok(put) => match put.version_id {
                Some(version) => return Ok(PutIfAbsent::Created(version)),
                None => {
                    return Err(Error::corrupt(
                        format!("bucket `{}`", self.bucket),
                        "versioning, which Object Lock needs",
                        "none",
                    ));
                }
            },
            Err(error) => error,
        };
        if error.code() == Some("PreconditionFailed")
            || error.raw_response().is_some_and(|answer| answer.status().as_u16() == 412)
        {
            return Ok(PutIfAbsent::Exists);
        }
        Err(failed(DOING, error))
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
