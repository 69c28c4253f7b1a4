//! Repeating calls that may be repeated while a store does not answer. The SDK waits and repeats too; this is for the rest.

use stele::error::{Kind, Result};

/// How often one call is tried before its failure is told.
pub const ATTEMPTS_MAX: u32 = 8;

/// Repeats a call that may be repeated while the store does not answer.
///
/// # Errors
/// The call's own, the last one.
pub async fn retrying<T, F>(mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut attempt = 1;
    loop {
        match call().await {
            Err(error) if error.kind() == Kind::Unavailable && attempt < ATTEMPTS_MAX => attempt += 1,
            outcome => return outcome,
        }
    }
}
