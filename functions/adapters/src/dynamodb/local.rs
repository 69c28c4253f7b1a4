//! Clients for a DynamoDB on this machine: plain HTTP, no account, short timeouts.

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use std::time::Duration;

const ATTEMPTS: u32 = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

fn http() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}

/// Emulators want some credentials; they open nothing.
fn credentials() -> Credentials {
    Credentials::new("local", "local", None, None, "local")
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS)
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build()
}

/// A DynamoDB client for an endpoint such as `http://127.0.0.1:8000`.
pub fn local_client(endpoint: &str) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("local"))
        .endpoint_url(endpoint)
        .credentials_provider(credentials())
        .http_client(http())
        .retry_config(retries())
        .timeout_config(timeouts());
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// A DynamoDB Streams client for the same kind of endpoint.
pub fn local_streams_client(endpoint: &str) -> aws_sdk_dynamodbstreams::Client {
    let config = aws_sdk_dynamodbstreams::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("local"))
        .endpoint_url(endpoint)
        .credentials_provider(credentials())
        .http_client(http())
        .retry_config(retries())
        .timeout_config(timeouts());
    aws_sdk_dynamodbstreams::Client::from_conf(config.build())
}
