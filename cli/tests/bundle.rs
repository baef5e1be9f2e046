//! `causeway bundle`, from the shell's side.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

fn bundle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_causeway")).arg("bundle").args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_examples_become_a_bundle_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mesh.bundle");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo");
    let output = bundle(&[examples.to_str().unwrap(), "-o", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let opened = platform::bundle::Bundle::open(&file).unwrap();
    authz::Policies::open(opened.section(platform::bundle::Section::Access).unwrap()).unwrap();
    extension::Routes::open(opened.section(platform::bundle::Section::Egress).unwrap()).unwrap();
}

#[test]
fn every_error_is_named_with_file_line_and_path_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::write(
        &policy,
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\nspec:\n  action: AUDITED\n  rulez: []\n",
    )
    .unwrap();
    let file = folder.path().join("mesh.bundle");
    std::fs::write(&file, "the old one").unwrap();
    let output = bundle(&[policy.to_str().unwrap(), "-o", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(
        said.contains("policy.yaml:6:") && said.contains("spec.action") && said.contains("expected `ALLOW`"),
        "{said}"
    );
    assert!(said.contains("policy.yaml:7:") && said.contains("rulez"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the old one");
}

#[test]
fn wrong_usage_says_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    let rows: [(&[&str], &str); 4] = [
        (&["/nonexistent", "-o", out], "cannot read /nonexistent"),
        (&[folder.path().to_str().unwrap(), "-o", out], "no .yaml or .yml file"),
        (&["-o", out], "PATH"),
        (&["/nonexistent"], "--output"),
    ];
    for (arguments, words) in rows {
        let output = bundle(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
    }
}
