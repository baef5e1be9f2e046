//! What `make supply` writes of a program: each package that is shipped stands in the SBOM and in the text of licences,
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
    let output = materials(folder.path(), &["extension"], &tools)?;
    assert!(output.status.success(), "{}", said(&output));

    let read = |kind: &str| std::fs::read_to_string(folder.path().join(format!("extension.{kind}"))).map_err(text);
    let (sbom, licences) = (read("cdx.json")?, read("licenses.txt")?);
    assert!(!sbom.contains(&root().display().to_string()), "the SBOM names the checkout");
    let bom: Value = serde_json::from_str(&sbom).map_err(text)?;
    let parts = bom["components"].as_array().ok_or("no components")?;
    let inner = parts.iter().filter_map(|part| part["components"].as_array()).flatten();
    let names: BTreeSet<&str> = parts.iter().chain(inner).filter_map(|part| part["name"].as_str()).collect();
    for library in ["aws-lc", "aws-lc-sys", "libmimalloc-sys", "mimalloc", "serde_derive"] {
        assert!(names.contains(library), "{library}: {names:?}");
    }
    // Packages of other programs and of tests, and a second crypto stack, which the lock file has and no program.
    for other in ["lambda_runtime", "proptest", "ring", "tonic"] {
        assert!(!names.contains(other), "{other} is in the SBOM");
        assert!(!licences.contains(&format!("\n  {other} ")), "{other} is in the licences");
    }
    // Notices of the C libraries, and a package's own one, beside the foreign one below it.
    for notice in
        ["Microsoft Corporation, Daan Leijen", "the fiat-crypto authors", "Tokio Contributors", "Mathijs van de Nes"]
    {
        assert!(licences.contains(notice), "nothing of {notice}");
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
