//! Istio's own validation cases.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests are told by the environment where the vectors are")]

use std::path::{Path, PathBuf};

use istio::{SourceFile, parse};

/// The files of a folder of `istio/validation`; none when the vectors are absent and not required.
fn files(folder: &str) -> Vec<SourceFile> {
    let root = match std::env::var_os("CAUSEWAY_VECTORS") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
    };
    let folder = root.join("istio/validation").join(folder);
    if !folder.is_dir() {
        let required = std::env::var_os("CAUSEWAY_REQUIRE_VECTORS").is_some_and(|value| value == "1");
        assert!(!required, "{} is missing; CAUSEWAY_VECTORS says where the vectors are", folder.display());
        eprintln!("skipped: {} is missing; CAUSEWAY_VECTORS says where the vectors are", folder.display());
        return Vec::new();
    }
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
fn what_istio_accepts_is_accepted_or_not_supported_yet() {
    for file in files("valid") {
        for error in parse(&[file]).err().unwrap_or_default() {
            assert!(error.message.contains("is not supported yet"), "{error}");
        }
    }
}
