//! The program itself: what stops its start, in one line and with exit status 64, and how it ends.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use platform::bundle::{Section, write};

fn start(variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_adapter")).env_clear().envs(variables.iter().copied()).output().unwrap()
}

fn bundle(folder: &tempfile::TempDir) -> String {
    let text = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: closed, namespace: bookinfo }
spec: {}
";
    let resources = istio::parse(&[istio::SourceFile { name: "p".to_owned(), text: text.to_owned() }]).unwrap();
    let section = authz::compile(&resources, &authz::CompileOptions::default()).unwrap().section;
    let path = folder.path().join("mesh.bundle");
    std::fs::write(&path, write(&[(Section::Access, section.as_slice())]).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_bad_start_is_one_line_that_names_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let good = bundle(&folder);
    let text = folder.path().join("text");
    std::fs::write(&text, "hello").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (variables, named) in [
        (vec![("CAUSEWAY_BUNDLE", "/does/not/exist")], "/does/not/exist"),
        (vec![("CAUSEWAY_BUNDLE", text.to_str().unwrap())], "CAUSEWAY"),
        (vec![("CAUSEWAY_BUNDLE", &good), ("CAUSEWAY_ADAPTER_ADDRESS", &taken)], taken.as_str()),
        (vec![("CAUSEWAY_BUNDLE", &good), ("CAUSEWAY_ADAPTER_ADDRESS", "9191")], "CAUSEWAY_ADAPTER_ADDRESS"),
        (vec![("CAUSEWAY_BUNDLE", &good), ("CAUSEWAY_WORKLOAD_NAMESPACE", "x")], "CAUSEWAY_WORKLOAD_LABELS"),
        (
            // A misspelt namespace has no policies, and without one everything would be allowed.
            vec![
                ("CAUSEWAY_BUNDLE", &good),
                ("CAUSEWAY_WORKLOAD_NAMESPACE", "bookinfoo"),
                ("CAUSEWAY_WORKLOAD_LABELS", "app=ratings"),
            ],
            "app=ratings of namespace bookinfoo",
        ),
    ] {
        let output = start(&variables);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(named), "expected {named} in {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn it_says_where_it_listens_and_ends_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_adapter"))
        .env_clear()
        .envs([("CAUSEWAY_BUNDLE", bundle(&folder).as_str()), ("CAUSEWAY_ADAPTER_ADDRESS", "127.0.0.1:0")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["event"], "listening");
    std::net::TcpStream::connect(line["address"].as_str().unwrap()).unwrap();
    assert!(Command::new("kill").arg(program.id().to_string()).status().unwrap().success());
    assert_eq!(program.wait().unwrap().code(), Some(0));
}
