//! What an error of the SDK means to a caller. Its text goes into the source, for the log, and is never shown.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use std::error::Error as StdError;
use stele::{Code, Error};

/// Codes that say "later", or leave open whether it was done.
const TRANSIENT: [&str; 18] = [
    "ConditionalRequestConflict",
    "InternalServerError",
    "InternalError",
    "KeyUnavailableException",
    "KMSInternalException",
    "LimitExceededException",
    "OperationAborted",
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionConflictException",
    "TransactionInProgressException",
    "Throttling",
];

/// The public error for a failed call: unavailable when it may work later or may have worked, else a fault of ours.
pub(crate) fn failed<E>(doing: &str, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let code = match &error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            Code::Unavailable
        }
        SdkError::ServiceError(service) => {
            let transient = service.err().code().is_some_and(|code| TRANSIENT.contains(&code));
            if transient || service.raw().status().is_server_error() {
                Code::Unavailable
            } else {
                Code::Internal
            }
        }
        // A request that could not be built will not be built later. The type may grow: what is unknown is ours.
        _ => Code::Internal,
    };
    Error::new(code, format!("{doing} failed")).with_source(error)
}
