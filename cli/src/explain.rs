//! `causeway explain`: which policies were looked at, what matched, and what would have to change.

use std::process::ExitCode;

use clap::Args;

use crate::session::SessionArgs;
use crate::terminal;

pub(crate) const EXAMPLES: &str = "Examples:
  causeway explain --config policies/ --requests requests.jsonl";

/// The options of `causeway explain`.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    #[command(flatten)]
    session: SessionArgs,
}

/// Runs `causeway explain`.
pub(crate) fn run(command: Explain) -> ExitCode {
    let Explain { session: _ } = command;
    terminal::failed("explain is not there yet")
}
