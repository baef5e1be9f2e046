//! The program itself: its exit status, its one line, its signals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::FakeLambda;
use platform::bundle::{self, Section};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
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

/// What says 200 is healthy, and nothing else.
#[tokio::test]
async fn the_program_asks_the_health_check_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let answers = ["200 OK\r\n\r\nready\n", "503 Service Unavailable\r\n\r\ndraining\n"];
    let serving = tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            // To its end: what is left unread would turn the answer into a reset.
            while !asked.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
            }
            assert!(asked.starts_with(b"GET /healthz/ready HTTP/1.1\r\n"));
            stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
        }
    });
    let ask = |argument: &'static str| program(&[("CAUSEWAY_HEALTH_PORT", &port)]).arg(argument).output();
    assert_eq!(ask("--health").await.unwrap().status.code(), Some(0));
    let not_ready = ask("--health").await.unwrap();
    assert_eq!(not_ready.status.code(), Some(1));
    assert_eq!(String::from_utf8(not_ready.stderr).unwrap(), "extension: not ready: draining\n");
    serving.await.unwrap();
    let nobody = ask("--health").await.unwrap();
    assert!(nobody.status.code() == Some(1) && String::from_utf8(nobody.stderr).unwrap().contains("no answer"));
    assert_eq!(ask("--heath").await.unwrap().status.code(), Some(64));
}

/// The inbound side from the environment: its ports open, its limits hold, and it is not ready without an identity.
#[tokio::test]
async fn a_sidecar_guards_the_ports_that_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.bundle");
    let policy = "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: own, namespace: bookinfo}
spec: {selector: {matchLabels: {app: reviews}}, rules: [{to: [{operation: {paths: [/public]}}]}]}
";
    let file = istio::SourceFile { name: "mesh.yaml".to_owned(), text: format!("{}{policy}", common::YAML) };
    let resources = istio::parse(&[file]).unwrap();
    let policies = authz::compile(&resources, &authz::CompileOptions::default()).unwrap();
    let rules = traffic::compile(&resources).unwrap();
    let sections = [(Section::Access, &policies.section[..]), (Section::Egress, &rules.section[..])];
    std::fs::write(&path, bundle::write(&sections).unwrap()).unwrap();
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let ports: Vec<u16> = taken.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    drop(taken);
    let [proxy, inbound, health] = [ports[0], ports[1], ports[2]].map(|port| port.to_string());
    let guarded = format!("{inbound}=127.0.0.1:1");
    let more = [
        ("CAUSEWAY_BUNDLE", path.to_str().unwrap()),
        ("CAUSEWAY_PROXY_PORT", &proxy),
        ("CAUSEWAY_INBOUND", &guarded),
        ("CAUSEWAY_HEALTH_PORT", &health),
        ("CAUSEWAY_NAMESPACE", "bookinfo"),
        ("CAUSEWAY_LABELS", "app=reviews"),
        ("CAUSEWAY_DRAIN_ACCEPT_SECONDS", "0"),
    ];
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 256; exec \"$0\"", PROGRAM])
        .env_clear()
        .envs(GOOD)
        .envs(more)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let listening = lines.next_line().await.unwrap().unwrap();
    assert!(listening.contains("inbound_listening") && listening.contains(r#""mtls":"PERMISSIVE""#), "{listening}");
    while !lines.next_line().await.unwrap().unwrap().contains(r#""state":"failed""#) {}

    let ready = program(&[("CAUSEWAY_HEALTH_PORT", &health)]).arg("--health").output().await.unwrap();
    let said = String::from_utf8(ready.stderr).unwrap();
    assert_eq!((ready.status.code(), said.as_str()), (Some(1), "extension: not ready: identity_unavailable\n"));

    let address = format!("127.0.0.1:{inbound}");
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(TcpStream::connect(&address).await.unwrap());
    }
    let mut answer = String::new();
    open.last_mut().unwrap().read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("too_many_connections"), "{answer}");
    drop(open);

    // One that is let in, and one that is not.
    for (path, expected) in [("/public", "upstream_connect_failed"), ("/", "denied")] {
        let mut answer = String::new();
        // The places of those before are free in a moment.
        while answer.is_empty() || answer.contains("too_many_connections") {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n");
            answer.clear();
            stream.write_all(request.as_bytes()).await.unwrap();
            // One that is turned away may be reset for what it has sent.
            let _ = stream.read_to_string(&mut answer).await;
        }
        assert!(answer.contains(expected), "{path}: {answer}");
    }

    // Strangers who were refused cannot keep all the places with what they do not use any more.
    let ask = async || {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let mut answer = [0; 12];
        let asked = async {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: reviews\r\n\r\n").await?;
            stream.read_exact(&mut answer).await
        };
        // One that is turned away may be reset for what it has sent.
        (asked.await.is_ok() && answer == *b"HTTP/1.1 403").then_some(stream)
    };
    let mut idle = Vec::new();
    while let Some(stream) = ask().await {
        idle.push(stream);
    }
    let served = async {
        while ask().await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(std::time::Duration::from_secs(60), served).await.is_ok(), "{} idle", idle.len());

    // The sidecar's own way out is no application: others would call in its name.
    let looped = format!("{inbound}=127.0.0.1:{proxy}");
    let variables = more.map(|(name, value)| (name, if name == "CAUSEWAY_INBOUND" { looped.as_str() } else { value }));
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().unwrap().success());
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    let mut looped = program(&[&GOOD[..], &variables].concat());
    let output =
        tokio::time::timeout(std::time::Duration::from_secs(30), looped.output()).await.expect("it must not start");
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(64) && said.contains("the sidecar's own way out"), "{said}");
}

#[tokio::test]
async fn a_signal_that_comes_before_anybody_waits_is_not_lost() {
    let ended = extension::terminated();
    let own = std::process::id().to_string();
    // Without the handlers in place it ends this process.
    assert!(Command::new("kill").args(["-TERM", &own]).status().await.unwrap().success());
    tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
}
