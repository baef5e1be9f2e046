//! The SAM template beyond what `template.rs` reads off it: under every choice of its parameters, made in moto, built for
//! either processor, and invoked in Docker.

mod build;
mod local;
mod stack;
mod variants;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::{root, tool};

pub(crate) type Outcome = Result<(), String>;

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A script of `tests/fixtures/template/`, run by the pinned Python.
pub(crate) fn script(name: &str, arguments: &[&str], templates: &[PathBuf]) -> Result<Output, String> {
    let mut command = Command::new(tool("python3"));
    command.arg(root().join("tests/fixtures/template").join(name)).args(arguments).args(templates);
    command.output().map_err(text)
}

/// A text of the template, what it is replaced by, and how a script names that.
pub(crate) type Mistake = (&'static str, &'static str, &'static str);

/// Runs a script over the template with each of these mistakes, and demands that it finds every one.
pub(crate) fn each_is_found(name: &str, arguments: &[&str], mistakes: &[Mistake]) -> Outcome {
    let template = std::fs::read_to_string(root().join("template.yaml")).map_err(text)?;
    let folder = tempfile::tempdir().map_err(text)?;
    let mut paths = Vec::new();
    for (number, (old, new, _)) in mistakes.iter().enumerate() {
        assert!(template.contains(old), "the template has no {old:?} to replace");
        let path = folder.path().join(format!("{number}.yaml"));
        std::fs::write(&path, template.replacen(old, new, 1)).map_err(text)?;
        paths.push(path);
    }
    let output = script(name, arguments, &paths)?;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (path, (old, _, finding)) in paths.iter().zip(mistakes) {
        let start = format!("{}: ", path.display());
        let found = said.lines().any(|line| line.starts_with(&start) && line.contains(finding));
        assert!(found, "replacing {old:?} should be found as {finding:?}; found was:\n{said}");
    }
    Ok(())
}

/// A folder for what the SAM CLI and cfn-lint keep at home.
pub(crate) fn sam(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(tool("sam"));
    command.args(arguments).current_dir(root()).env("HOME", folder);
    command.env("SAM_CLI_TELEMETRY", "0").env("AWS_DEFAULT_REGION", "eu-central-1");
    command.env("AWS_ACCESS_KEY_ID", "AKIDLOCAL").env("AWS_SECRET_ACCESS_KEY", "local-secret");
    command
}
