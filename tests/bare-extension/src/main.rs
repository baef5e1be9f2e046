//! The least that a Lambda extension can be: it registers and waits. `make bench` compares the start of the real one with
//! it; it is never shipped.

use lambda_extension::{Error, LambdaEvent, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(nothing)).await
}

async fn nothing(_: LambdaEvent) -> Result<(), Error> {
    Ok(())
}
