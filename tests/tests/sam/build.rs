//! `make sam` builds for the processor that `ARCH` names, and builds nothing where Rust lacks its standard library.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use e2e::{path, root, tier, tool};

use crate::{Outcome, said, script, text};

/// `make` with these arguments, and with the programs of a folder before all others.
fn make(arguments: &[&str], programs: &Path) -> Result<Output, String> {
    let mut command = Command::new("make");
    // The tools are there, or the test is skipped; nothing is to be installed by it.
    command.args(["--no-print-directory", "-o", "tools"]).args(arguments).current_dir(root());
    command.env("PATH", format!("{}:{}", programs.display(), path())).env("HOME", programs);
    command.env_remove("MAKEFLAGS").env_remove("ARCH").output().map_err(text)
}

/// A folder with a `rustc` that has no standard library for anything.
fn without_targets() -> Result<tempfile::TempDir, String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let rustc = folder.path().join("rustc");
    std::fs::write(&rustc, "#!/bin/sh\necho /nonexistent/lib\n").map_err(text)?;
    std::fs::set_permissions(&rustc, std::fs::Permissions::from_mode(0o755)).map_err(text)?;
    Ok(folder)
}

#[test]
fn the_programs_are_built_for_the_processor_that_is_asked_for() -> Outcome {
    let folder = tempfile::tempdir().map_err(text)?;
    for target in ["build-Authorizer", "build-KeyIssuer", "build-UsagePlansFunction", "build-ExtensionLayer"] {
        for (arch, triple) in [
            (None, "--target x86_64-unknown-linux-gnu.2.26"),
            (Some("ARCH=x86_64"), "--target x86_64-unknown-linux-gnu.2.26"),
            (Some("ARCH=arm64"), "--target aarch64-unknown-linux-gnu.2.26"),
        ] {
            let arguments: Vec<&str> = ["-n", target, "ARTIFACTS_DIR=/artifacts"].into_iter().chain(arch).collect();
            let output = make(&arguments, folder.path())?;
            assert!(said(&output).contains(triple), "{target} {arch:?}: {}", said(&output));
        }
    }
    let output = make(&["-n", "build-Authorizer", "ARTIFACTS_DIR=/artifacts", "ARCH=mips"], folder.path())?;
    assert!(!output.status.success() && said(&output).contains("ARCH is mips; expected"), "{}", said(&output));
    Ok(())
}

#[test]
fn a_processor_that_rust_cannot_build_for_is_skipped_with_a_message() -> Outcome {
    if !tier::available(&[&tool("sam"), &tool("cargo-lambda")]) {
        return Ok(());
    }
    let programs = without_targets()?;
    let output = make(&["sam", "ARCH=arm64"], programs.path())?;
    assert!(output.status.success(), "{}", said(&output));
    let expected = "skipped the build for arm64: Rust has no standard library for it; `rustup target add aarch64";
    assert!(said(&output).contains(expected), "{}", said(&output));

    // Asked for by `sam build` alone, an artefact that is missing must stop the deployment.
    let artifacts = format!("ARTIFACTS_DIR={}", programs.path().display());
    let output = make(&["build-Authorizer", &artifacts, "ARCH=arm64"], programs.path())?;
    assert!(!output.status.success() && said(&output).contains("cannot build for arm64"), "{}", said(&output));
    assert!(!programs.path().join("bootstrap").exists());
    Ok(())
}

#[test]
fn each_environment_of_samconfig_builds_validates_and_deploys_its_own_stack() -> Outcome {
    if !tier::available(&[&tool("python3")]) {
        return Ok(());
    }
    let template = root().join("template.yaml");
    let config = std::fs::read_to_string(root().join("samconfig.toml")).map_err(text)?;
    let folder = tempfile::tempdir().map_err(text)?;
    let path = folder.path().join("samconfig.toml");
    for (old, new, finding) in [
        ("", "", ""),
        ("EnvironmentName=prod", "EnvironmentName=Prod", "shared-services deploys causeway with"),
        ("EnvironmentName=dev\"", "EnvironmentName=dev Other=1\"", "default gives the parameter Other '1'"),
        ("parallel = false", "parallel = true", "default builds with"),
        ("lint = true", "lint = false", "default validates without lint"),
        ("\"CAPABILITY_IAM\"", "\"CAPABILITY_NAMED_IAM\"", "default deploys unasked, or with"),
        ("[dev.", "[test.", "the environments are"),
    ] {
        std::fs::write(&path, config.replacen(old, new, if old == "[dev." { 3 } else { 1 })).map_err(text)?;
        let output = script("samconfig.py", &[], &[path.clone(), template.clone()])?;
        assert_eq!(output.status.success(), finding.is_empty(), "{old}: {}", said(&output));
        assert!(said(&output).contains(finding), "{old}: {}", said(&output));
    }
    Ok(())
}
