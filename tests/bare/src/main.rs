//! The least that an authorizer can be: it allows everything. `make bench` compares the starts and answers of the real
//! one with it; it is never shipped.

use std::convert::Infallible;

use lambda_runtime::{Error, LambdaEvent, Runtime, service_fn};
use serde::Serialize;
use serde::de::IgnoredAny;

/// The simple response of payload format 2.0.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    is_authorized: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Runtime::new(service_fn(answer)).run().await
}

async fn answer(_: LambdaEvent<IgnoredAny>) -> Result<Answer, Infallible> {
    Ok(Answer { is_authorized: true })
}
