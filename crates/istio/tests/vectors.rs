//! Istio's own validation cases.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests are told by the environment where the vectors are")]

use std::path::{Path, PathBuf};

use istio::{SourceFile, parse};

/// Istio's part of the vectors; `None` when they are absent and not required.
fn root() -> Option<PathBuf> {
    let root = match std::env::var_os("CAUSEWAY_VECTORS") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
    };
    let root = root.join("istio");
    if root.is_dir() {
        return Some(root);
    }
    let required = std::env::var_os("CAUSEWAY_REQUIRE_VECTORS").is_some_and(|value| value == "1");
    assert!(!required, "{} is missing; CAUSEWAY_VECTORS says where the vectors are", root.display());
    eprintln!("skipped: {} is missing; CAUSEWAY_VECTORS says where the vectors are", root.display());
    None
}

/// The files of a folder of `validation`.
fn files(folder: &str) -> Vec<SourceFile> {
    let Some(folder) = root().map(|root| root.join("validation").join(folder)) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    let read = |path: &PathBuf| SourceFile {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        text: std::fs::read_to_string(path).unwrap(),
    };
    paths.iter().map(read).collect()
}

#[test]
fn what_istio_refuses_is_refused() {
    for file in files("invalid") {
        let name = file.name.clone();
        assert!(parse(&[file]).is_err(), "{name} was accepted");
    }
}

#[test]
fn what_istio_accepts_is_accepted() {
    for file in files("valid") {
        let name = file.name.clone();
        assert_eq!(parse(&[file]).err(), None, "{name}");
    }
}

#[test]
fn path_templates_are_accepted_as_by_istio() {
    let Some(root) = root().map(|root| root.join("path-templates/cases.jsonl")) else {
        return;
    };
    let cases = std::fs::read_to_string(root).unwrap();
    assert!(!cases.trim().is_empty());
    for case in cases.lines() {
        let case: serde_json::Value = serde_json::from_str(case).unwrap();
        for field in ["paths", "notPaths"] {
            // JSON's strings are YAML's.
            let text = format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a}}\n\
                 spec: {{rules: [{{to: [{{operation: {{{field}: [{}]}}}}]}}]}}\n",
                case["path"]
            );
            let read = parse(&[SourceFile { name: "f".to_owned(), text }]);
            assert_eq!(read.is_ok(), case["valid"].as_bool().unwrap(), "{case}: {read:?}");
        }
    }
}

/// The policies of every suite of requests.
#[test]
fn the_policies_of_the_suites_are_accepted() {
    let Some(root) = root() else {
        return;
    };
    let mut suites = 0;
    for entry in root.read_dir().unwrap() {
        let path = entry.unwrap().path().join("policies.yaml");
        if path.is_file() {
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(parse(&[SourceFile { name: path.display().to_string(), text }]).err(), None);
            suites += 1;
        }
    }
    assert!(suites > 0);
}
