//! Causeway's extension: a Lambda layer's external extension, or a plain process beside an ECS task.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use extension::{Config, Deps, config, run, terminated};
use mimalloc::MiMalloc;
use platform::env::ProcessEnv;

/// A request makes some fifty allocations, a few of them of several kilobytes: with the C library's allocator they are a
/// fifth of the time that it takes outside of the kernel.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // One thread: the function needs the rest of the machine.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start: {error}"), 1),
    };
    let config = Config::from_env(&ProcessEnv).named(&file_name());
    let ended = runtime.block_on(run(config, Deps::system(), terminated()));
    // Dropped, it would wait for a look-up of a host name that nobody answers, long past the time to leave.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), error.exit_status()),
    }
}

fn complain(message: &str, status: u8) -> ExitCode {
    // Where standard error is closed there is nowhere left to say it.
    let _ = writeln!(std::io::stderr(), "extension: {message}");
    ExitCode::from(status)
}

/// Lambda knows an extension by the name of its file.
fn file_name() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().and_then(|name| name.to_str());
    name.unwrap_or(config::DEFAULT_NAME).to_owned()
}
