//! The Lambda function `key-issuer`.

use std::io::Write;
use std::process::ExitCode;

use key_issuer::KeyIssuer;
use lambda_runtime::{LambdaEvent, service_fn};
use platform::env::ProcessEnv;
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let issuer = match KeyIssuer::from_env(&ProcessEnv) {
        Ok(issuer) => issuer,
        Err(error) => return complain(&error.to_string(), platform::EXIT_USAGE),
    };
    let answer = |event: LambdaEvent<Value>| {
        let answer = issuer.handle(event.payload);
        async { answer.await.map_err(|error| error.to_string()) }
    };
    match lambda_runtime::run(service_fn(answer)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("the Lambda runtime failed: {error}"), 1),
    }
}

fn complain(message: &str, status: u8) -> ExitCode {
    // Where standard error is closed there is nowhere left to say it.
    let _ = writeln!(std::io::stderr(), "key-issuer: {message}");
    ExitCode::from(status)
}
