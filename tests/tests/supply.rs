//! What `make supply` writes of the programs: each package that is shipped stands in the SBOM and in the text of licences,
//! the C libraries inside packages too, and nothing else does.

#![allow(clippy::print_stderr)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use e2e::{path, root};
use serde_json::Value;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The script, with the programs of a folder before all others.
fn materials(output: &Path, programs: &[&str], tools: &Path) -> Result<Output, String> {
    let mut command = Command::new("python3");
    command.arg(root().join("tests/tools/materials")).arg(output).args(programs);
    command.env("PATH", format!("{}:{}", tools.display(), path())).output().map_err(text)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn what_is_shipped_stands_in_both_files_and_nothing_else() -> Result<(), String> {
    let tools = root().join(".tools/supply/bin");
    if !["cargo-about", "cargo-cyclonedx"].iter().all(|tool| tools.join(tool).exists()) {
        // Building them takes longer than all other tests, so no tier demands them.
        eprintln!("skipped: {} has no cargo-about and cargo-cyclonedx; `make supply` builds them", tools.display());
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(text)?;
    let output = materials(folder.path(), &["authorizer", "extension"], &tools)?;
    assert!(output.status.success(), "{}", said(&output));

    for (program, library, of_others) in
        [("authorizer", "aws-lc", ["mimalloc", "rcgen"]), ("extension", "mimalloc", ["lambda_runtime", "tonic"])]
    {
        let read = |kind: &str| std::fs::read_to_string(folder.path().join(format!("{program}.{kind}"))).map_err(text);
        let (sbom, licences) = (read("cdx.json")?, read("licenses.txt")?);
        assert!(!sbom.contains(&root().display().to_string()), "{program}: the SBOM names the checkout");
        let bom: Value = serde_json::from_str(&sbom).map_err(text)?;
        let parts = bom["components"].as_array().ok_or("no components")?;
        let inner = parts.iter().filter_map(|part| part["components"].as_array()).flatten();
        let names: BTreeSet<&str> = parts.iter().chain(inner).filter_map(|part| part["name"].as_str()).collect();
        assert!(names.contains(library), "{program}: {names:?}");
        // Packages of other programs, and the second crypto stack, which the lock file has and no program.
        for other in of_others.iter().chain(&["ring", "proptest"]) {
            assert!(!names.contains(other), "{program}: {other} is in its SBOM");
            assert!(!licences.contains(&format!("\n  {other} ")), "{program}: {other} is in its licences");
        }
        // The notices of the C libraries, which no manifest of a package has.
        let c = if library == "mimalloc" { "Microsoft Corporation, Daan Leijen" } else { "the fiat-crypto authors" };
        assert!(licences.contains(c), "{program}: nothing of {c}");
    }
    Ok(())
}

#[test]
fn a_package_that_a_tool_leaves_out_ends_it() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    // Tools that know of one package.
    let sbom = r#"{"metadata":{"component":{"bom-ref":"a","name":"authorizer","version":"0.1.0"}},"components":[],
        "dependencies":[]}"#;
    for (name, does) in [
        ("cargo-cyclonedx", format!("cat > authorizer/sbom.json <<'END'\n{sbom}\nEND\n")),
        ("cargo-about", "echo '  authorizer 0.1.0'\n".to_owned()),
    ] {
        let tool = folder.path().join(name);
        std::fs::write(&tool, format!("#!/bin/sh\n{does}")).map_err(text)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&tool, mode).map_err(text)?;
    }
    let output = materials(&folder.path().join("out"), &["authorizer"], folder.path())?;
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    for file in ["SBOM", "text of licences"] {
        for package in ["aws-lc-sys", "serde_json", "lambda_runtime"] {
            let found = said.lines().any(|line| {
                line.starts_with(&format!("materials: authorizer: {package} "))
                    && line.ends_with(&format!("its {file}"))
            });
            assert!(found, "{package}, {file}: {said}");
        }
    }
    assert!(!said.contains("authorizer 0.1.0 is not"), "{said}");
    Ok(())
}
