//! `causeway explain`, from the shell's side.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const API: &str = "https://api.bookinfo.example";
/// A token of nobody's, for the tests that nothing of it is shown.
const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5ib29raW5mby5leGFtcGxlIiwic3ViIjoiYSIsImV4cCI6OTk5OTk5OTk5OX0.c2VjcmV0c2VjcmV0";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo")
}

fn explain(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.arg("explain").arg("--config").arg(examples()).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses its options reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ratings(id: &str) -> Value {
    json!({"id": id, "method": "GET", "host": "ratings", "path": "/ratings/1",
        "workload": {"namespace": "bookinfo", "labels": {"app": "ratings"}}})
}

fn event(path: &str) -> Value {
    json!({
        "version": "2.0", "type": "REQUEST", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "routeArn": "arn:aws:execute-api:eu-central-1:123456789012:abc/$default/GET/x",
        "headers": {"host": "api.bookinfo.example", "authorization": format!("Bearer {TOKEN}")},
        "requestContext": {"apiId": "none", "stage": "$default", "domainName": "api.bookinfo.example",
            "requestId": "r1", "http": {"method": "GET", "path": path, "sourceIp": "203.0.113.7"}},
    })
}

#[test]
fn a_denial_is_explained_with_exit_0_from_each_way_in() {
    let request = ratings("a").to_string();
    let by_argument = explain(&["--request", &request], "");
    let by_input = explain(&["--requests", "-"], &request);
    let laid_out = explain(&["--requests", "-"], &serde_json::to_string_pretty(&ratings("a")).unwrap());
    for output in [&by_argument, &by_input, &laid_out] {
        assert!(output.status.success(), "{}", err(output));
        assert!(
            out(output).starts_with("denied 403 no_credential at the workload bookinfo (app=ratings): "),
            "{}",
            out(output)
        );
    }
    assert_eq!(out(&by_argument), out(&by_input));
    let curl = explain(&["--workload", "bookinfo/app=ratings", "--curl", "curl http://ratings/ratings/1"], "");
    assert!(out(&curl).contains("GET http://ratings/ratings/1"), "{}", out(&curl));
}

#[test]
fn one_of_several_requests_can_be_picked() {
    let input = format!("{}\n{}\n", ratings("a"), ratings("b"));
    let both = out(&explain(&["--requests", "-", "--json"], &input));
    let ids = |text: &str| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect()
    };
    assert_eq!(ids(&both), ["a", "b"]);
    assert_eq!(ids(&out(&explain(&["--requests", "-", "--json", "--id", "b"], &input))), ["b"]);
    let none = explain(&["--requests", "-", "--id", "c"], &input);
    assert_eq!(none.status.code(), Some(1));
    assert!(err(&none).contains("no request with the id c"), "{}", err(&none));
}

#[test]
fn the_json_has_what_evaluate_says_and_the_way_to_it() {
    let output = explain(&["--json", "--request", &ratings("a").to_string()], "");
    let said: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(said["allowed"], false);
    assert_eq!(said["status"], 403);
    assert_eq!(said["reason"], "no_credential");
    assert_eq!(said["hop"], "workload");
    for field in ["policy", "principal", "upstream_headers", "detail", "presented", "trace", "nearest", "hints"] {
        assert!(said.get(field).is_some(), "{field}: {said}");
    }
}

#[test]
fn an_event_is_judged_as_the_authorizer_would() {
    let refused = explain(&["--event", "-"], &event("/a//b").to_string());
    assert!(refused.status.success(), "{}", err(&refused));
    let text = out(&refused);
    assert!(
        text.starts_with("denied 403 path_not_canonical before any policy was asked: path has an empty segment"),
        "{text}"
    );
    let unknown = out(&explain(&["--event", "-"], &event("/reviews/1").to_string()));
    assert!(unknown.contains("gateway_unknown") || unknown.contains("at the "), "{unknown}");
    let broken = out(&explain(&["--event", "-", "--json"], "{\"version\":\"2.0\"}"));
    let said: Value = serde_json::from_str(&broken).unwrap();
    assert_eq!((&said["reason"], &said["allowed"]), (&json!("request_invalid"), &json!(false)));
}

/// The same reasons as those of the authorizer's own test, `authorizer/tests/examples.rs`.
#[test]
fn every_example_event_is_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/events");
    let apis = folder.join("apis.yaml");
    for (name, reason) in [
        ("http-1.0", "no_credential"),
        ("http-2.0", "no_credential"),
        ("http-2.0-mtls", "denied_no_match"),
        ("http-2.0-stage", "token_malformed"),
        ("rest-request", "no_credential"),
        ("rest-request-mtls", "denied_no_match"),
        ("rest-token", "token_malformed"),
        ("websocket-connect", "no_credential"),
    ] {
        let file = folder.join(format!("{name}.json"));
        let arguments = ["--config", apis.to_str().unwrap(), "--event", file.to_str().unwrap()];
        let said = explain(&[&arguments[..], &["--json", "--now", "1795176000"]].concat(), "");
        let said: Value = serde_json::from_str(&out(&said)).unwrap_or_else(|_| panic!("{name}: {}", err(&said)));
        assert_eq!((&said["reason"], &said["allowed"]), (&json!(reason), &json!(false)), "{name}: {said}");
        let page = explain(&arguments, "");
        assert!(out(&page).starts_with("denied "), "{name}: {}", out(&page));
    }
}

#[test]
fn no_credential_is_ever_shown() {
    let key = "cwk_dev_abcdefghijkl0123456789012345678901234567890123";
    let line = format!(
        "curl {API}/productpage?access_token={TOKEN} -H 'Authorization: Bearer {TOKEN}' -H 'x-api-key: {key}' -b 'session=hunter2' -H 'X-Note: {TOKEN}'"
    );
    for options in [&["--curl", &line][..], &["--json", "--all", "--curl", &line]] {
        let output = explain(options, "");
        assert!(output.status.success(), "{}", err(&output));
        let (out, err) = (out(&output), err(&output));
        for text in [&out, &err] {
            for secret in ["eyJ", "c2VjcmV0", "abcdefghijkl0123456789", "hunter2"] {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_says_so_without_quoting() {
    let wrong: [(&[&str], i32, &str); 8] = [
        (&["--curl", "curl --frobnicate https://a/"], 2, "--frobnicate is not known"),
        (&["--curl", "wget https://a/"], 2, "does not begin with the word curl"),
        (&["--workload", "/x", "--curl", "curl https://a/"], 2, "--workload: expected"),
        (&["--request", "{\"id\":\"x\",\"method\":\"GET\"}"], 1, "the request \"x\" cannot be read"),
        (&["--request", ""], 1, "no request in the input"),
        (&["--requests", "/nonexistent"], 1, "cannot read /nonexistent"),
        (&["--event", "/nonexistent"], 1, "cannot read /nonexistent"),
        (&[], 2, "--curl"),
    ];
    for (arguments, code, words) in wrong {
        let output = explain(arguments, "");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(words), "{arguments:?}: {}", err(&output));
    }
}
