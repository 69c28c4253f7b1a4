//! Exported files in an S3 bucket. They are not locked: they are copies, and a lifecycle rule removes them.
//!
//! A file is one PUT with `If-None-Match: *`, with what is told of it in its metadata, so that both are there at once.

use crate::failure::failed;
use crate::s3::file_timeout;
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_smithy_types::timeout::TimeoutConfig;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::time::Duration;
use stele::export::{ExportKey, ExportedFile};
use stele::ports::{ExportFiles, ExportLink, Spooled};
use stele::{Code, Error, Result, limits};

/// Exported files in a bucket.
#[derive(Clone, Debug)]
pub struct ExportBucket {
    client: Client,
    bucket: String,
}

impl ExportBucket {
    /// In a bucket of their own.
    pub fn new(client: Client, bucket: impl Into<String>) -> ExportBucket {
        ExportBucket { client, bucket: bucket.into() }
    }
}

#[async_trait]
impl ExportFiles for ExportBucket {
    async fn put_export(&self, key: &ExportKey, file: &Spooled, facts: &ExportedFile) -> Result<bool> {
        const DOING: &str = "writing an export";
        // By path: a retry opens it again.
        let body = ByteStream::read_from().path(&file.path).length(Length::Exact(file.bytes)).build().await;
        let body = body.map_err(|e| Error::new(Code::Internal, DOING).with_source(e))?;
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(file_timeout(file.bytes)).build();
        let mut request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(file.sha256.as_bytes()))
            .body(body);
        for (name, value) in facts.facts() {
            request = request.metadata(name, value);
        }
        let request =
            request.customize().config_override(aws_sdk_s3::config::Builder::new().timeout_config(timeouts));
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error)
                if error.code() == Some("PreconditionFailed")
                    || error.raw_response().is_some_and(|answer| answer.status().as_u16() == 412) =>
            {
                Ok(false)
            }
            Err(error) => Err(failed(DOING, error)),
        }
    }

    async fn exported(&self, key: &ExportKey) -> Result<Option<ExportedFile>> {
        let request = self.client.head_object().bucket(&self.bucket).key(key.as_str());
        let head = match request.send().await {
            Ok(head) => head,
            // The answer to a HEAD has no body that would say more.
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 404) => {
                return Ok(None);
            }
            Err(error) => return Err(failed("looking for an export", error)),
        };
        let bytes = u64::try_from(head.content_length.unwrap_or_default()).unwrap_or_default();
        let metadata = head.metadata.unwrap_or_default();
        ExportedFile::of_facts(key, bytes, |name| metadata.get(name).map(String::as_str)).map(Some)
    }

    /// Made from this process's own credentials, without asking S3: the link ends with them, if that is sooner.
    async fn link(&self, key: &ExportKey, name: &str, media_type: &str) -> Result<Option<ExportLink>> {
        const DOING: &str = "making a link to an export";
        let seconds = Duration::from_secs(u64::from(limits::EXPORT_LINK_SECONDS));
        let signing = PresigningConfig::expires_in(seconds)
            .map_err(|e| Error::new(Code::Internal, DOING).with_source(e))?;
        // A name with anything else in it would have to be quoted.
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .response_content_type(media_type)
            .response_content_disposition(format!("attachment; filename=\"{name}\""));
        let signed = request.presigned(signing).await.map_err(|e| failed(DOING, e))?;
        Ok(Some(ExportLink::Url(signed.uri().to_owned())))
    }
}
