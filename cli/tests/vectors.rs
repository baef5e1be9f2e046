//! Istio's own test cases, through the program. `CAUSEWAY_VECTORS` says where they are.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_causeway");

/// The folder of the vectors; `None`, with a message, when it is not there and need not be.
#[expect(clippy::disallowed_methods, reason = "where test data lies is no configuration of a program")]
fn folder() -> Option<PathBuf> {
    let beside = |up: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(up).join("shared/vectors");
    let folders = match std::env::var("CAUSEWAY_VECTORS") {
        Ok(folder) => vec![PathBuf::from(folder)],
        Err(_) => vec![beside("../.."), beside("..")],
    };
    let found = folders.iter().find(|folder| folder.join("check.py").is_file());
    if found.is_none() {
        let message = format!("no test vectors in {}; set CAUSEWAY_VECTORS", folders[0].display());
        assert!(std::env::var("CAUSEWAY_REQUIRE_VECTORS").as_deref() != Ok("1"), "{message}");
        eprintln!("skipped: {message}");
    }
    found.cloned()
}

fn cases(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs the program with `input` on standard input.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A refused configuration ends the program before it has read anything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Whether a configuration loads; what it said if not.
fn loads(path: &Path) -> Result<(), String> {
    let output = run(&["evaluate", "--mode", "istio", "--config", path.to_str().unwrap(), "--requests", "-"], "");
    match output.status.code() {
        Some(0) => Ok(()),
        Some(2) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        other => panic!("{}: {other:?}", path.display()),
    }
}

#[test]
fn request_suites() {
    let Some(folder) = folder() else { return };
    let output = Command::new("python3").arg(folder.join("check.py")).arg(PROGRAM).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.lines().last().is_some_and(|line| line.ends_with(" 0 failed") && !line.starts_with("0 ")), "{said}");
}

#[test]
fn path_normalization() {
    let Some(folder) = folder() else { return };
    let cases = cases(&folder.join("istio/normalize/cases.jsonl"));
    let mut wrong = Vec::new();
    for mode in ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] {
        let cases: Vec<&Value> = cases.iter().filter(|case| case["mode"] == mode).collect();
        assert!(!cases.is_empty(), "{mode}");
        let paths: Vec<&str> = cases.iter().map(|case| case["in"].as_str().unwrap()).collect();
        let output = run(&["normalize", "--mode", mode], &(paths.join("\n") + "\n"));
        let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), cases.len(), "{mode}");
        for (case, line) in cases.iter().zip(lines).filter(|(case, line)| case["out"] != **line) {
            wrong.push(format!("{}: {} should become {}, is {line}", case["id"], case["in"], case["out"]));
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn path_templates() {
    let Some(folder) = folder() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("policy.yaml");
    for case in cases(&folder.join("istio/path-templates/cases.jsonl")) {
        let policy = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: p, namespace: ns }}\n\
             spec: {{ rules: [{{ to: [{{ operation: {{ paths: [{}] }} }}] }}] }}\n",
            case["path"]
        );
        std::fs::write(&file, policy).unwrap();
        assert_eq!(Some(loads(&file).is_ok()), case["valid"].as_bool(), "{case}: {:?}", loads(&file));
    }
}

#[test]
fn validation() {
    let Some(folder) = folder() else { return };
    let mut seen = 0;
    for (kind, valid) in [("valid", true), ("invalid", false)] {
        for entry in std::fs::read_dir(folder.join("istio/validation").join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let loaded = loads(&path);
            assert_eq!(loaded.is_ok(), valid, "{}: {loaded:?}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 13);
}
