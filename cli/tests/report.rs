//! `causeway report` as a program: what it reads, and with which status it ends.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

const ALLOWED: &str = r#"{"ts":"2026-11-20T12:00:00.000Z","event":"decision","allowed":true,"status":200,"reason":"allowed_by_policy","policy":"p","principal":"i/a","client_id":"a","method":"GET","path":"/","host":"h"}"#;
const DENIED: &str = r#"{"ts":"2026-11-20T12:00:01.000Z","event":"decision","allowed":false,"status":403,"reason":"denied_no_match","policy":null,"principal":"i/a","client_id":"a","method":"GET","path":"/","host":"h"}"#;
const SHADOW: &str = r#"{"ts":"2026-11-20T12:00:02.000Z","event":"decision","allowed":true,"shadow":true,"status":200,"reason":"denied_no_match","policy":null,"principal":"i/a","client_id":"a","method":"GET","path":"/","host":"h"}"#;

fn report(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.arg("report").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever refuses the arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn the_status_says_whether_the_service_may_be_enforced() {
    for (input, status) in [
        (ALLOWED.to_owned(), 0),
        (format!("{ALLOWED}\n{DENIED}"), 0),
        (format!("{ALLOWED}\nSTART RequestId: 1\n{SHADOW}\n"), 1),
        (ALLOWED.replace("\"policy\"", "\"dry_run_deny\":\"r\",\"policy\""), 1),
        (String::new(), 2),
        ("START RequestId: 1\n".to_owned(), 2),
    ] {
        for arguments in [&["-"][..], &["--json", "-"]] {
            let output = report(arguments, &input);
            assert_eq!(output.status.code(), Some(status), "{input}: {output:?}");
            assert_eq!(output.stdout.is_empty(), status == 2, "{input}: {output:?}");
        }
    }
    for arguments in [&["/no/such/file"][..], &[], &["--no-such", "-"]] {
        assert_eq!(report(arguments, "").status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn several_files_are_one_report() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    std::fs::write(&one, SHADOW).unwrap();
    std::fs::write(&other, format!("{SHADOW}\n{DENIED}\n")).unwrap();
    let output = report(&["--json", one.to_str().unwrap(), other.to_str().unwrap(), "-"], ALLOWED);
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert_eq!((&lines[0]["verdict"], &lines[0]["count"]), (&"would_deny".into(), &2.into()), "{printed}");
    assert_eq!(lines[2]["summary"]["decisions"], 4, "{printed}");
}

/// The steps of docs/migration.md, on the local stack.
#[tokio::test]
async fn a_service_of_the_local_stack_in_shadow_mode() {
    let until = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
    let until = platform::clock::rfc3339(until);
    let until = format!("{}Z", until.split('.').next().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(["dev", "--any-port"]).stdout(Stdio::piped());
    command.env("CAUSEWAY_SHADOW_WORKLOADS", "bookinfo/app=productpage").env("CAUSEWAY_SHADOW_UNTIL", &until);
    let mut dev = Dev(command.spawn().unwrap());
    let said = BufReader::new(dev.0.stdout.take().unwrap());
    let mut said = said.lines().map(Result::unwrap);
    let api = loop {
        let line = said.next().unwrap();
        if let Some(rest) = line.strip_suffix("/productpage").and_then(|line| line.rsplit_once("http://")) {
            break rest.1.parse().unwrap();
        }
    };
    let mut log = String::new();
    for (path, authorization, status) in [
        ("/productpage", None, 200),
        ("/productpage", Some("Bearer x"), 200),
        ("/productpage/..//x", None, 403),
        ("/reviews/0", None, 401),
    ] {
        let headers = [("host", "api.bookinfo.example"), ("authorization", authorization.unwrap_or("none"))];
        let answer = causeway::dev::http::send(api, "GET", path, &headers, "").await.unwrap();
        assert_eq!(answer.status, status, "{path}");
        let decided = said.by_ref().find(|line| line.contains("\"decision\"") && line.contains("authorizer")).unwrap();
        log.push_str(&decided);
        log.push('\n');
    }
    let output = report(&["--json", "-"], &log);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let summary: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let sums = ["decisions", "would_deny", "denied"].map(|name| summary["summary"][name].as_u64().unwrap());
    assert_eq!(sums, [4, 2, 2], "{printed}");

    // An end that is too far away, or a half of the two, is refused.
    for (workloads, until) in [("*", "9999-12-31T00:00:00Z"), ("*", ""), ("", until.as_str())] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.args(["dev", "--any-port"]).stdout(Stdio::null());
        command.env("CAUSEWAY_SHADOW_WORKLOADS", workloads).env("CAUSEWAY_SHADOW_UNTIL", until);
        assert_eq!(command.output().unwrap().status.code(), Some(2), "{workloads} {until}");
    }
}

/// Ends with the test, however that ends.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
