//! The `causeway` command line: one module a subcommand, and the local stack that `demo`, `dev` and the end-to-end
//! tests share.

pub mod bundle;
pub mod demo;
pub mod dev;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One access policy and one identity for every service, in the mesh and outside it.
#[derive(Debug, Parser)]
#[command(name = "causeway", version, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start every part in one process and walk through the requests that explain the product
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::Demo),
    /// Keep the local stack up on fixed ports, print curl lines for it, and log decisions as they happen
    #[command(after_help = dev::EXAMPLES)]
    Dev(dev::Dev),
    /// Validate Istio YAML and compile it into the file that the Lambda programs read
    #[command(after_help = bundle::EXAMPLES)]
    Bundle(bundle::BundleCommand),
}

/// Runs one command. Its exit status: 0 done, 1 failed, 2 a refused configuration or wrong usage.
pub fn run(arguments: Arguments) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return terminal::failed(&format!("cannot start the async runtime: {error}")),
    };
    match arguments.command {
        Command::Demo(command) => runtime.block_on(demo::run(command)),
        Command::Dev(command) => runtime.block_on(dev::run(command)),
        Command::Bundle(command) => bundle::run(command),
    }
}
