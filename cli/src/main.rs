//! The `causeway` program: see `causeway --help`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    causeway::run(causeway::Arguments::parse())
}
