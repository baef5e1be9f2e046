//! The program itself: its exit status, its one line, its signals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::Stdio;

use common::FakeLambda;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_extension");

fn program(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What a start needs, but for a bundle.
const GOOD: [(&str, &str); 4] = [
    ("CAUSEWAY_SVID_URL", "http://127.0.0.1:1"),
    ("AWS_REGION", "eu-central-1"),
    ("AWS_ACCESS_KEY_ID", "AKIDREVIEWS"),
    ("AWS_SECRET_ACCESS_KEY", "hunter2"),
];

#[tokio::test]
async fn a_plain_process_with_a_bad_configuration_exits_64_with_one_line() {
    let bad_port = [&GOOD[..], &[("CAUSEWAY_PROXY_PORT", "many")]].concat();
    let no_bundle = [&GOOD[..], &[("CAUSEWAY_BUNDLE", "/does/not/exist.bundle")]].concat();
    for (variables, expected) in [
        (&[][..], "CAUSEWAY_SVID_URL"),
        (&bad_port[..], "CAUSEWAY_PROXY_PORT"),
        (&no_bundle[..], "/does/not/exist.bundle"),
    ] {
        let output = program(variables).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.starts_with("extension: ") && said.contains(expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn in_lambda_it_registers_by_its_file_name_and_exits_0_at_shutdown() {
    let lambda = FakeLambda::plain().await;
    // No bundle, no issuer: the function must live all the same.
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    drop(taken);
    let variables = [("AWS_LAMBDA_RUNTIME_API", lambda.address.as_str()), ("CAUSEWAY_PROXY_PORT", port.as_str())];
    let mut child = program(&variables).stdout(Stdio::piped()).spawn().unwrap();
    lambda.polled().await;
    assert_eq!(lambda.calls()[0], r#"register extension {"events":["INVOKE","SHUTDOWN"]}"#);
    lambda.shut_down();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_plain_process_ends_with_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("mesh.bundle");
    std::fs::write(&bundle, common::bundle_bytes()).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    drop(taken);
    let more = [("CAUSEWAY_BUNDLE", bundle.to_str().unwrap()), ("CAUSEWAY_PROXY_PORT", port.as_str())];
    let mut child = program(&[&GOOD[..], &more].concat()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = lines.next_line().await.unwrap().unwrap();
    assert!(
        started.contains(r#""event":"start""#) && started.contains(&port) && !started.contains("hunter2"),
        "{started}"
    );
    // The first fetch of an identity fails, nobody being there; by then the signal's handler is in place.
    let failed = lines.next_line().await.unwrap().unwrap();
    assert!(failed.contains(r#""state":"failed""#), "{failed}");
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().unwrap().success());
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

/// With very many connections of the application open, more are turned away, and Lambda's events are still asked for.
#[tokio::test]
async fn too_many_connections_do_not_take_the_function_down() {
    let lambda = FakeLambda::plain().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 256; exec \"$0\"", PROGRAM])
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", &lambda.address)
        .env("CAUSEWAY_PROXY_PORT", address.port().to_string())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    lambda.polled().await;
    let mut open = Vec::new();
    for _ in 0..300 {
        open.push(TcpStream::connect(address).await.unwrap());
    }
    let mut answer = String::new();
    open.last_mut().unwrap().read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("too_many_connections"), "{answer}");
    for _ in 0..2 {
        lambda.send(serde_json::json!({"eventType": "INVOKE"}));
        lambda.polled().await;
    }
    lambda.shut_down();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}
