//! `causeway lint`: what is accepted and is likely not what was meant.

use std::process::ExitCode;

use clap::Args;

use crate::configuration::ConfigurationArgs;
use crate::terminal;

pub(crate) const EXAMPLES: &str = "Examples:
  causeway lint --config policies/";

/// The options of `causeway lint`.
#[derive(Args, Debug)]
pub(crate) struct Lint {
    #[command(flatten)]
    configuration: ConfigurationArgs,
}

/// Runs `causeway lint`.
pub(crate) fn run(command: Lint) -> ExitCode {
    let Lint { configuration: _ } = command;
    terminal::failed("lint is not there yet")
}
