//! The Deployment next to the mesh: reads its configuration and the bundle, binds its port, serves until SIGTERM.

use std::process::ExitCode;

use adapter::{Adapter, Config, Deps, Error};
use platform::env::ProcessEnv;
use platform::log::Log;
use platform::metrics::Output;

#[tokio::main]
async fn main() -> ExitCode {
    let log = Log::stdout();
    platform::panics::quiet_panics(&log);
    match run(log).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
    }
}

async fn run(log: Log) -> Result<(), Error> {
    let config = Config::from_env(&ProcessEnv)?;
    let log = match &config.metrics {
        Output::Emf(emf) => log.with_metrics(Some(emf.clone())),
        Output::Off | Output::Prometheus(_) => log,
    };
    let deps = Deps::in_aws(config.api_keys.as_ref(), config.jwks.clone(), log);
    let bound = Adapter::bind(config, deps)?;
    bound.run(adapter::terminated()).await
}

#[allow(clippy::print_stderr, reason = "the one line that says why the program does not run")]
fn refuse(error: &Error) -> ExitCode {
    eprintln!("adapter: {error}");
    ExitCode::from(error.exit_code())
}
