//! The `causeway` command line: one module a subcommand, and the local stack that `demo`, `dev` and the end-to-end
//! tests share.

pub mod bundle;
mod clients;
mod configuration;
pub mod demo;
pub mod dev;
mod evaluate;
mod exit;
mod explain;
mod explain_egress;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod init;
mod issuer;
mod keys;
mod lint;
mod manual;
mod normalize;
mod report;
mod request_line;
mod revocations;
mod session;
mod template;
mod terminal;
mod token;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// One access policy and one identity for every service, in the mesh and outside it.
#[derive(Debug, Parser)]
#[command(name = "causeway", version, propagate_version = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// When the output has colours; `auto`: where it is a terminal, and NO_COLOR is not set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto")]
    color: terminal::Color,
}

const EXAMPLES: &str = "Examples:
  causeway demo
  causeway init orders --service orders --namespace shop --host api.shop.example
  causeway lint examples/bookinfo
  causeway explain --config examples/bookinfo --curl 'curl https://api.bookinfo.example/admin'
  causeway bundle examples/bookinfo -o mesh.bundle

Results go to standard output, everything else to standard error. Exit status: 0 done; 1 failed; 2 the command line or the
configuration is refused. docs/commands.md is what scripts may rely on.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start every part in one process and walk through the requests that explain the product
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::Demo),
    /// Keep the local stack up on fixed ports, print curl lines for it, and log decisions as they happen
    #[command(after_help = dev::EXAMPLES)]
    Dev(dev::Dev),
    /// Decide about requests, one JSON object a line in and out
    #[command(after_help = evaluate::EXAMPLES)]
    Evaluate(evaluate::Evaluate),
    /// Show, leaf by leaf, why a request is allowed or denied
    #[command(after_help = explain::EXAMPLES)]
    Explain(Box<explain::Explain>),
    /// Show where a workload's request would go and why, without sending anything
    #[command(after_help = explain_egress::EXAMPLES)]
    ExplainEgress(Box<explain_egress::ExplainEgress>),
    /// Find what is accepted and is likely not what was meant
    #[command(after_help = lint::EXAMPLES)]
    Lint(lint::Lint),
    /// Print what a mesh makes of request paths
    #[command(after_help = normalize::EXAMPLES)]
    Normalize(normalize::Normalize),
    /// Make, rotate and revoke API keys, and look at signing keys
    #[command(after_help = keys::EXAMPLES)]
    Keys(keys::Keys),
    /// Make and change OAuth clients
    #[command(after_help = clients::EXAMPLES)]
    Clients(clients::Clients),
    /// Look at tokens
    #[command(after_help = token::EXAMPLES)]
    Token(token::Token),
    /// Write a commented starter configuration for a service
    #[command(after_help = init::EXAMPLES)]
    Init(init::Init),
    /// Read decision lines, and say what would be denied or was, by policy and caller
    #[command(after_help = report::EXAMPLES)]
    Report(report::ReportCommand),
    /// Validate Istio YAML and compile it into the file that the Lambda programs read
    #[command(after_help = bundle::EXAMPLES)]
    Bundle(bundle::BundleCommand),
    /// Print the script with which a shell completes commands and options
    #[command(after_help = manual::COMPLETIONS_EXAMPLES)]
    Completions(manual::Completions),
    /// Print a manual page, or write all of them into a folder
    #[command(after_help = manual::MAN_EXAMPLES)]
    Man(manual::Pages),
}

/// The command line: its commands, options and help.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs one command. Its exit status: 0 done, 1 failed, 2 a refused configuration or wrong usage.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let program = command().color(usage::color(&arguments).choice());
    let matches = match program.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return usage::said(&error),
    };
    let Arguments { command, color } = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => return usage::said(&error),
    };
    terminal::begin(color, usage::is_json(&matches));
    terminal::finished(match command {
        Command::Demo(command) => asynchronously(demo::run(command)),
        Command::Dev(command) => asynchronously(dev::run(command)),
        Command::Evaluate(command) => evaluate::run(command),
        Command::Explain(command) => explain::run(*command),
        Command::ExplainEgress(command) => explain_egress::run(*command),
        Command::Lint(command) => lint::run(command),
        Command::Normalize(command) => normalize::run(command),
        Command::Keys(command) => keys::run(command),
        Command::Clients(command) => clients::run(command),
        Command::Token(command) => token::run(command),
        Command::Init(command) => init::run(command),
        Command::Report(command) => report::run(command),
        Command::Bundle(command) => bundle::run(command),
        Command::Completions(command) => manual::completions(&command),
        Command::Man(command) => manual::pages(&command),
    })
}

fn asynchronously(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => terminal::failed(&format!("cannot start the async runtime: {error}")),
    }
}
