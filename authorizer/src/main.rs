//! The Lambda function: reads its configuration and the bundle, and polls the runtime. Nothing else happens before the
//! first request: no network, no TLS set-up, no random numbers.

use std::process::ExitCode;

use platform::env::ProcessEnv;
use platform::log::Log;

fn main() -> ExitCode {
    let log = Log::stdout();
    platform::panics::quiet_panics(&log);
    authorizer::run(&ProcessEnv, log).unwrap_or_else(|error| refuse(&error))
}

#[allow(clippy::print_stderr, reason = "the one line that says why the program does not start")]
fn refuse(error: &authorizer::Error) -> ExitCode {
    eprintln!("authorizer: {error}");
    ExitCode::from(platform::EXIT_USAGE)
}
