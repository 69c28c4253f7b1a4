//! Clients for AWS inside a Lambda: made once per cold start, all over one HTTP client.
//!
//! Credentials are those of the function's role, which Lambda puts into the environment. `AWS_ENDPOINT_URL` and
//! `AWS_ENDPOINT_URL_<SERVICE>` lead elsewhere, as in the AWS command line: to an emulator, or a VPC endpoint.
//! TLS is rustls over ring: aws-lc collects jitter entropy for some 40 ms of CPU in every cold start.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::{BehaviorVersion, SharedAsyncSleep, SharedHttpClient};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Several megabytes may have to come.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// A caller waits: what DynamoDB does not take at once goes onto the queue.
const QUICK_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const ATTEMPTS: u32 = 3;

/// What clients are made from.
#[derive(Clone, Debug)]
pub struct Aws {
    config: SdkConfig,
    variable: fn(&str) -> Option<String>,
}

/// HTTP as all clients speak it.
pub fn http_client() -> SharedHttpClient {
    #[cfg(not(feature = "sdk-default-tls"))]
    let mode = CryptoMode::Ring;
    #[cfg(feature = "sdk-default-tls")]
    let mode = CryptoMode::AwsLc;
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(mode)).build_https()
}

impl Aws {
    /// From the environment of a Lambda.
    pub fn from_environment() -> Aws {
        let variable: fn(&str) -> Option<String> =
            |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let credentials = Credentials::new(
            variable("AWS_ACCESS_KEY_ID").unwrap_or_default(),
            variable("AWS_SECRET_ACCESS_KEY").unwrap_or_default(),
            variable("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        Aws { config: configured(credentials, region), variable }
    }

    /// An emulator of all services on this machine, such as `http://127.0.0.1:4566`: for tests.
    pub fn emulated(endpoint: &str) -> Aws {
        let credentials = Credentials::new("test", "test", None, None, "emulated");
        let config = configured(credentials, Some("us-east-1".to_owned()));
        Aws::from_config(config.into_builder().endpoint_url(endpoint).build())
    }

    /// From a configuration that was found elsewhere: a person's profile, say.
    pub fn from_config(config: SdkConfig) -> Aws {
        Aws { config, variable: |_| None }
    }

    fn endpoint(&self, service: &str) -> Option<String> {
        (self.variable)(&format!("AWS_ENDPOINT_URL_{service}"))
            .or_else(|| (self.variable)("AWS_ENDPOINT_URL"))
            .or_else(|| self.config.endpoint_url().map(str::to_owned))
    }

    /// DynamoDB.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let mut config = aws_sdk_dynamodb::config::Builder::from(&self.config);
        config.set_endpoint_url(self.endpoint("DYNAMODB"));
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// DynamoDB for a function whose caller waits: two short attempts.
    pub fn quick_dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let mut config = aws_sdk_dynamodb::config::Builder::from(&self.config);
        config.set_endpoint_url(self.endpoint("DYNAMODB"));
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(QUICK_ATTEMPT_TIMEOUT)
            .build();
        let retries = RetryConfig::standard().with_max_attempts(2).with_initial_backoff(FIRST_BACKOFF);
        aws_sdk_dynamodb::Client::from_conf(config.timeout_config(timeouts).retry_config(retries).build())
    }

    /// S3. An endpoint of one's own is addressed by path: its host name has no name for every bucket.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let endpoint = self.endpoint("S3");
        let by_path = endpoint.is_some();
        let mut config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(by_path);
        config.set_endpoint_url(endpoint);
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// SQS.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        let mut config = aws_sdk_sqs::config::Builder::from(&self.config);
        config.set_endpoint_url(self.endpoint("SQS"));
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    /// Lambda.
    pub fn lambda(&self) -> aws_sdk_lambda::Client {
        let mut config = aws_sdk_lambda::config::Builder::from(&self.config);
        config.set_endpoint_url(self.endpoint("LAMBDA"));
        aws_sdk_lambda::Client::from_conf(config.build())
    }

    /// KMS.
    pub fn kms(&self) -> aws_sdk_kms::Client {
        let mut config = aws_sdk_kms::config::Builder::from(&self.config);
        config.set_endpoint_url(self.endpoint("KMS"));
        aws_sdk_kms::Client::from_conf(config.build())
    }
}

/// What all clients have in common.
fn configured(credentials: Credentials, region: Option<String>) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(region.map(Region::new))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(http_client())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_BACKOFF))
        .timeout_config(timeouts)
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .time_source(SharedTimeSource::new(SystemTimeSource::new()))
        .build()
}
