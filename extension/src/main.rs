//! Causeway's extension: a Lambda layer's external extension, or a plain process beside an ECS task.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use extension::{Config, Deps, config, run, terminated};
use mimalloc::MiMalloc;
use platform::env::{Env, ProcessEnv, Reader};

/// A request makes some fifty allocations, a few of them of several kilobytes: with the C library's allocator they are a
/// fifth of the time that it takes outside of the kernel.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Lambda starts extensions without arguments; whatever comes there, the function must live.
    if let (Some(argument), Ok(None)) = (std::env::args().nth(1), ProcessEnv.get("AWS_LAMBDA_RUNTIME_API")) {
        return asked(&argument);
    }
    // One thread: the function needs the rest of the machine.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start: {error}"), 1),
    };
    let config = Config::from_env(&ProcessEnv).named(&file_name());
    let ended = runtime.block_on(async { run(config, Deps::system(), terminated()).await });
    // Dropped, it would wait for a look-up of a host name that nobody answers, long past the time to leave.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), error.exit_status()),
    }
}

/// `--health`: the container's health check, in an image without a shell.
fn asked(argument: &str) -> ExitCode {
    if argument != "--health" {
        let message = format!("found the argument {argument:?}, expected --health or none");
        return complain(&message, platform::EXIT_USAGE);
    }
    let env = ProcessEnv;
    let port = Reader::new(&env).number("CAUSEWAY_HEALTH_PORT", u64::from(config::HEALTH_PORT), 1, u64::from(u16::MAX));
    let port = port.map(|port| u16::try_from(port).unwrap_or(config::HEALTH_PORT));
    match port.map_err(|error| error.to_string()).and_then(extension::health) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => complain(&why, 1),
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
