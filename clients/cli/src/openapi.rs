//! OpenAPI: the description of the API, generated from the code.

use crate::show::{Failure, print};
use clap::Args;

/// Prints the API's description (OpenAPI 3.1)
#[derive(Args, Debug)]
pub(crate) struct OpenApi {}

/// Runs it.
pub(crate) fn run(OpenApi {}: &OpenApi) -> Result<(), Failure> {
    print(String::from_utf8_lossy(&stele::openapi::document()).trim_end())
}
