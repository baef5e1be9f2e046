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
        "requestContext": {"apiId": "bookinfo", "stage": "$default", "domainName": "api.bookinfo.example",
            "requestId": "r1", "http": {"method": "GET", "path": path, "sourceIp": "203.0.113.7"}},
    })
}

#[test]
fn what_the_authorizer_cannot_read_is_a_verdict_too() {
    let output = explain(&["--event", "-"], r#"{"a":1}"#);
    assert!(output.status.success(), "{}", err(&output));
    assert!(out(&output).starts_with("denied 400 request_invalid"), "{}", out(&output));
    let output = explain(&["--event", "/nonexistent"], "");
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
}

#[test]
fn a_workload_that_no_document_has_is_asked_about() {
    let to = |workload: &str| out(&explain(&["--workload", workload, "--curl", "curl http://ratings/"], ""));
    let text = to("bookinfo/app=ratingz");
    assert!(text.contains("no Service of bookinfo has these labels (it has app=productpage, "), "{text}");
    let text = to("bookinfos/app=ratings");
    assert!(text.contains("no Service of the namespace bookinfos is known"), "{text}");
}

#[test]
fn a_remedy_is_said_once() {
    let event = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/events/http-2.0.json");
    // The example's own API is in a document of its own.
    let event = std::fs::read_to_string(event).unwrap().replace("bookinfo1", "bookinfo");
    let text = out(&explain(&["--event", "-"], &event));
    assert_eq!(text.matches("for rule 0 of istio-system/gateway-clients").count(), 1, "{text}");
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
    let mut other = event("/reviews/1");
    other["requestContext"]["apiId"] = json!("other");
    let unknown = out(&explain(&["--event", "-"], &other.to_string()));
    assert!(unknown.starts_with("denied 403 gateway_unknown"), "{unknown}");
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
    let line = ["--curl", "curl http://ratings/"];
    let wrong: [(&[&str], i32, &str); 14] = [
        (&["--event", "-", "--workload", "bookinfo/app=ratings"], 2, "--workload"),
        (&["--event", "-", "--peer", "cluster.local/ns/a/sa/b"], 2, "--peer"),
        (&["--request", "{}", "--source-ip", "10.0.0.1"], 2, "--source-ip"),
        (&["--requests", "-", "--workload", "bookinfo"], 2, "--workload"),
        (&[line[0], line[1], "--peer", "spiffe://cluster.local/ns/a/sa/b"], 2, "--peer: expected TRUST_DOMAIN"),
        (&[line[0], line[1], "--peer", ""], 2, "--peer: expected TRUST_DOMAIN"),
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

/// What explain says of a GET of `/a` at the workload `app: web` of `shop`, under `policies`.
fn at_web(policies: &str, more: Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), policies).unwrap();
    let mut request = json!({"id": 1, "method": "GET", "host": "web", "path": "/a",
        "workload": {"namespace": "shop", "labels": {"app": "web"}}});
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.arg("explain").arg("--config").arg(folder.path()).args(["--request", &request.to_string()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    out(&output)
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

/// A provider that is asked about everything, and tokens that somebody reads.
fn with_provider() -> String {
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |-\n    \
                extensionProviders:\n    - {name: p, envoyExtAuthzGrpc: {service: p.shop.svc.cluster.local, port: 9191}}\n\
                ---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: t, namespace: shop}\n\
                spec: {jwtRules: [{issuer: iss, jwksUri: 'https://iss.example/jwks.json'}]}\n";
    format!("{mesh}{}", policy("ask", "{action: CUSTOM, provider: {name: p}, rules: [{}]}"))
}

#[test]
fn what_a_provider_said_is_what_its_mark_says() {
    let bearer = json!([["authorization", format!("Bearer {TOKEN}")]]);
    let denied = at_web(&with_provider(), json!({"custom": {"p": "deny"}, "headers": bearer}));
    assert!(denied.starts_with("denied 403 denied_by_provider"), "{denied}");
    assert!(denied.contains("✗ CUSTOM ") && !denied.contains("no RequestAuthentication applies"), "{denied}");
    let allowed = at_web(&with_provider(), json!({"custom": {"p": "allow"}}));
    assert!(allowed.starts_with("allowed 200"), "{allowed}");
    assert!(allowed.contains("✓ CUSTOM ") && allowed.contains("let the request pass"), "{allowed}");
    assert!(!allowed.contains('✗'), "{allowed}");
}

#[test]
fn an_empty_allow_policy_is_no_obstacle_to_what_another_allows() {
    let both = format!("{}{}", policy("allow-nothing", "{}"), policy("all", "{rules: [{}]}"));
    let allowed = at_web(&both, json!({}));
    assert!(allowed.starts_with("allowed 200") && !allowed.contains('✗'), "{allowed}");
    assert!(allowed.contains("– ALLOW shop/allow-nothing: has no rules: it allows nothing itself"), "{allowed}");
    let denied = at_web(&policy("allow-nothing", "{}"), json!({}));
    assert!(denied.contains("✗ ALLOW shop/allow-nothing: has no rules: it denies everything"), "{denied}");
}

#[test]
fn what_a_request_leaves_out_is_told_from_what_nobody_knows() {
    let by_address = policy("office", "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}");
    let without = at_web(&by_address, json!({}));
    assert!(without.contains("source.ip is not given in the request, so this ALLOW rule never matches"), "{without}");
    assert!(without.contains("from  ? ipBlocks: is not given in the request, wanted 10.0.0.0/8"), "{without}");
    assert!(!without.contains("cannot be known"), "{without}");
    let with = at_web(&by_address, json!({"source": {"ip": "10.1.1.1"}}));
    assert!(with.starts_with("allowed 200"), "{with}");
}

#[test]
fn several_ways_are_alternatives() {
    let two = policy("closed", "{action: DENY, rules: [{to: [{operation: {hosts: [web], paths: [/a]}}]}]}");
    let text = at_web(&two, json!({}));
    assert!(text.contains(" if (one of these is enough)\n"), "{text}");
    let one = policy("closed", "{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}");
    let text = at_web(&one, json!({}));
    assert!(text.contains(" if\n  • the method were not GET"), "{text}");
}

#[test]
fn where_no_credential_is_read_none_is_missed() {
    let tokens_only = policy("p", "{rules: [{from: [{source: {requestPrincipals: [\"*\"]}}]}]}");
    let text = at_web(&tokens_only, json!({}));
    assert!(text.starts_with("denied 403 denied_no_match"), "{text}");
    assert!(text.contains("read credentials at all: no RequestAuthentication applies to it"), "{text}");
}
