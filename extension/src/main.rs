//! Causeway's extension: a Lambda layer's external extension, or a plain process beside an ECS task.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use extension::{Config, Deps, config, run, terminated};
use platform::env::ProcessEnv;

/// One thread: the function needs the rest of the machine.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let config = Config::from_env(&ProcessEnv).named(&file_name());
    match run(config, Deps::system(), terminated()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "extension: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

/// Lambda knows an extension by the name of its file.
fn file_name() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().and_then(|name| name.to_str());
    name.unwrap_or(config::DEFAULT_NAME).to_owned()
}
