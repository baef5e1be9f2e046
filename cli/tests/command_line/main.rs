//! The habits of a command line: help, completions, manual, JSON, exit status, colours, and a word about each slip.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods)]

mod colour;
mod completions;
mod exit_status;
mod help;
mod init;
mod json;
mod manual;
mod progress;
mod slips;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a program said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

/// The program, with nothing of this machine's environment but the path.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

fn finished(mut command: Command, input: &str) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who wants no input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs the program in `folder`.
fn causeway_in(folder: &Path, arguments: &[&str], input: &str) -> Said {
    let mut command = program();
    command.current_dir(folder).args(arguments);
    finished(command, input)
}

/// Runs the program in the checkout.
fn causeway(arguments: &[&str]) -> Said {
    causeway_in(&checkout(), arguments, "")
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A folder that looks like the checkout, and into which a test may write.
fn like_checkout() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["examples", "template.yaml"] {
        std::os::unix::fs::symlink(checkout().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// Whether `program` is there; a run that must not skip anything fails without it.
fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    assert!(
        found || !std::env::var("CAUSEWAY_REQUIRE_TIERS").is_ok_and(|value| value == "1"),
        "{program} is not installed"
    );
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}
