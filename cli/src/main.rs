//! The `causeway` program: see `causeway --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    causeway::run(std::env::args_os())
}
