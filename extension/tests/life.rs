//! The extension in the life of its function: deadlines, traces, snapshots, and what it shows of itself; and tokens by
//! destination.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::*;
use extension::config::{Grant, Metrics, TokenMode, TokenRule};
use extension::{BundleSource, Config, Deps, Egress, Extension, LambdaApi};
use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use platform::clock::{Clock, FixedClock};
use platform::log::{Lines, Log};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A function with the extension beside it, a mesh and an issuer.
struct Function {
    lambda: FakeLambda,
    server: MeshServer,
    issuer: FakeIssuer,
    address: SocketAddr,
    lines: Lines,
    /// What the extension's clock shows all the time, in milliseconds.
    now: u64,
    _task: Task,
}

impl Function {
    async fn start(snap_start: bool, change: impl FnOnce(&mut Egress)) -> Function {
        let mesh = Arc::new(Mesh::new());
        let server = MeshServer::start(&mesh, RATINGS).await;
        let now = real_now();
        let clock: Arc<dyn Clock> = Arc::new(FixedClock::at(now));
        let issuer = FakeIssuer::start(Arc::clone(&mesh), Arc::clone(&clock)).await;
        let lambda = FakeLambda::plain().await;
        let mut egress = egress(&issuer.url, server.address);
        change(&mut egress);
        let api =
            LambdaApi { address: lambda.address.clone(), name: "causeway".to_owned(), managed: false, snap_start };
        let config = Config { port: 0, lambda: Some(api), egress: Ok(egress) };
        let (log, lines) = Log::memory();
        let bound = Extension::bind(config, Deps { clock, log }).await.unwrap();
        let address = bound.address();
        let task = Task::spawn(async {
            bound.run(std::future::pending()).await.unwrap();
        });
        lambda.polled().await;
        Function { lambda, server, issuer, address, lines, now: now * 1_000, _task: task }
    }

    async fn invoke(&self, event: serde_json::Value) {
        self.lambda.send(event);
        self.lambda.polled().await;
    }

    async fn get(&self, path: &str) -> Answer {
        call(self.address, Request::get(format!("{URL}{path}")).body(text("")).unwrap()).await
    }
}

#[tokio::test]
async fn a_request_ends_before_its_invocation_does() {
    let function = Function::start(false, |_| ()).await;
    // A deadline that has passed, of the invocation before, limits nothing.
    function.invoke(serde_json::json!({"eventType": "INVOKE", "deadlineMs": 1})).await;
    assert_eq!(function.get("/").await.status, 200);
    function.server.set(Temper::Hangs);
    let deadline = function.now + 60_000;
    function.invoke(serde_json::json!({"eventType": "INVOKE", "deadlineMs": deadline})).await;
    let waiting = function.get("/");
    let next = async {
        until("the request is under way", || function.server.count() == 2).await;
        // The event of the request's own invocation comes late, and its deadline is the one that counts.
        let deadline = function.now + 200;
        function.invoke(serde_json::json!({"eventType": "INVOKE", "deadlineMs": deadline})).await;
    };
    let (answer, ()) = tokio::join!(waiting, next);
    assert!(answer.is(504, "upstream_timeout") && answer.body.contains("invocation"), "{answer:?}");
    let expected = function.server.seen()[1].headers["x-envoy-expected-rq-timeout-ms"].clone();
    let expected: u64 = expected.to_str().unwrap().parse().unwrap();
    assert!(expected <= 59_900, "{expected}");
}

/// The function is faster than its event, and so is the head of the answer.
#[tokio::test]
async fn an_answer_ends_with_an_invocation_whose_event_comes_later() {
    let function = Function::start(false, |_| ()).await;
    let stream = TcpStream::connect(function.address).await.unwrap();
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    let request = Request::get("/stuck").header("host", format!("{HOST}:9080")).body(text("")).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    let deadline = function.now + 200;
    function.invoke(serde_json::json!({"eventType": "INVOKE", "deadlineMs": deadline})).await;
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), body.frame()).await;
    assert!(ended.expect("the answer ends").unwrap().is_err());
    let line = || function.lines.all().into_iter().find(|line| line.contains("upstream_timeout"));
    until("the line is written", || line().is_some()).await;
}

#[tokio::test]
async fn what_no_proxy_leads_around_is_said_once() {
    let entry = |host: &str, more: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: {host}, namespace: bookinfo }}
spec:
  hosts: [{host}]
  resolution: DNS
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  endpoints: [{{ address: eastwest.mesh.example, ports: {{ http: 15443 }} }}]
  {more}
"
        )
    };
    let inside = "subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]\n  location: MESH_INTERNAL";
    let yaml = [
        YAML.to_owned(),
        entry("mesh.eu.amazonaws.com", inside),
        entry("s3.amazonaws.com", "location: MESH_EXTERNAL"),
        entry("details.mesh.example", inside),
    ];
    // Without the wrapper script nothing has been left out.
    let function = Function::start(false, |egress| {
        egress.life.no_proxy = ".SVC.cluster.local.,0.0.0.0/0,db.internal".to_owned();
    })
    .await;
    function.invoke(serde_json::json!({"eventType": "INVOKE", "deadlineMs": 1})).await;
    let said = || function.lines.all().into_iter().find(|line| line.contains(r#""event":"no_proxy""#));
    until("the line is written", || said().is_some()).await;
    let line: serde_json::Value = serde_json::from_str(&said().unwrap()).unwrap();
    // The function's own start may go through the script, so nothing is said to go around.
    assert_eq!(line["hosts"], serde_json::json!({}));
    assert!(line["detail"].as_str().unwrap().contains("would go around"), "{line}");
    assert_eq!(line["for_all"], serde_json::json!([".SVC.cluster.local.", "0.0.0.0/0"]));
    assert!(line["hint"].as_str().unwrap().contains("AWS_LAMBDA_EXEC_WRAPPER"), "{line}");

    let function = Function::start(false, |egress| {
        egress.bundle = BundleSource::Bytes(bundle_of(&yaml.concat()));
        egress.life.no_proxy = "*, .svc.cluster.local,ratings.bookinfo,.internal".to_owned();
        egress.life.wrapped = true;
    })
    .await;
    let said = || function.lines.all().into_iter().filter(|line| line.contains(r#""event":"no_proxy""#));
    for _ in 0..2 {
        function.invoke(serde_json::json!({"eventType": "INVOKE", "deadlineMs": 1})).await;
    }
    until("the line is written", || said().count() > 0).await;
    function.invoke(serde_json::json!({"eventType": "INVOKE", "deadlineMs": 1})).await;
    assert_eq!(function.get("/").await.status, 200);
    assert_eq!(said().count(), 1);
    let line: serde_json::Value = serde_json::from_str(&said().next().unwrap()).unwrap();
    let expected =
        serde_json::json!({(format!("{HOST}:9080")): "ratings.bookinfo", "mesh.eu.amazonaws.com:80": "amazonaws.com"});
    assert_eq!((&line["hosts"], &line["more"]), (&expected, &false.into()));
}

#[tokio::test]
async fn a_request_without_a_trace_belongs_to_its_invocation() {
    let function = Function::start(false, |_| ()).await;
    let value = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    let tracing = serde_json::json!({"type": "X-Amzn-Trace-Id", "value": value});
    let deadline = function.now + 60_000;
    function.invoke(serde_json::json!({"eventType": "INVOKE", "deadlineMs": deadline, "tracing": tracing})).await;
    assert_eq!(function.get("/").await.status, 200);
    let seen = function.server.seen().remove(0).headers;
    let line = function.lines.all().into_iter().rfind(|line| line.contains(r#""event":"egress""#)).unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let span = line["span_id"].as_str().unwrap();
    assert_eq!(line["trace_id"], "5759e988bd862e3fe1be46a994272793");
    assert_eq!(seen["traceparent"], format!("00-5759e988bd862e3fe1be46a994272793-{span}-01"));
    assert_eq!(seen["x-amzn-trace-id"], format!("Root=1-5759e988-bd862e3fe1be46a994272793;Parent={span};Sampled=1"));
}

#[tokio::test]
async fn nothing_is_made_before_the_first_invocation_of_a_snapshot() {
    let function = Function::start(true, |_| ()).await;
    let answer = function.get("/").await;
    assert!(answer.is(503, "identity_unavailable") && answer.body.contains("SnapStart"), "{answer:?}");
    assert_eq!(function.issuer.svids.load(Ordering::SeqCst), 0);
    assert!(function.issuer.tokens.lock().unwrap().is_empty());
    assert_eq!(function.server.connections(), 0);
    // The function may be ahead of its first invocation's event.
    let event = serde_json::json!({"eventType": "INVOKE", "deadlineMs": 1});
    let (answer, ()) = tokio::join!(function.get("/"), function.invoke(event));
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn the_metrics_of_an_invocation_are_written_with_the_next_one() {
    let function = Function::start(false, |egress| egress.life.metrics = Metrics::Emf).await;
    let invoke = || function.invoke(serde_json::json!({"eventType": "INVOKE", "deadlineMs": 1}));
    invoke().await;
    assert_eq!(function.get("/").await.status, 200);
    invoke().await;
    let line = || function.lines.all().into_iter().find(|line| line.contains("_aws") && line.contains("Requests"));
    until("the line is written", || line().is_some()).await;
    let line: serde_json::Value = serde_json::from_str(&line().unwrap()).unwrap();
    assert_eq!((&line["destination"], &line["class"], &line["Requests"]), (&HOST.into(), &"2xx".into(), &1.into()));
}

#[tokio::test]
async fn prometheus_asks_at_a_port_of_its_own() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let change = |egress: &mut Egress| egress.life.metrics = Metrics::Prometheus(0);
    let stage = Stage::with(&mesh, server.address, Mood::Good, change).await;
    assert_eq!(stage.get("/").await.status, 200);
    let line = stage.lines.all().into_iter().find(|line| line.contains("metrics_listening")).unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let mut stream = TcpStream::connect(line["address"].as_str().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    for expected in [
        format!("causeway_requests_total{{destination=\"{HOST}\",class=\"2xx\",reason=\"-\"}} 1"),
        r#"causeway_renewals_total{kind="identity",outcome="renewed"} 1"#.to_owned(),
        r#"causeway_renewals_total{kind="token",outcome="renewed"} 1"#.to_owned(),
    ] {
        assert!(answer.lines().any(|line| line == expected), "{expected}\n{answer}");
    }
}

/// A stage whose only service has a token of this mode.
async fn with_tokens(mood: Mood, mode: TokenMode) -> (MeshServer, Stage) {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let stage = Stage::with(&mesh, server.address, mood, |egress| {
        egress.audience = None;
        egress.scope = None;
        egress.tokens = vec![TokenRule { host: "*.bookinfo.svc.cluster.local".to_owned(), mode }];
    })
    .await;
    (server, stage)
}

fn exchange() -> TokenMode {
    TokenMode::Exchange(Grant { audience: "ratings".to_owned(), scope: Some("ratings.read".to_owned()) })
}

async fn of(stage: &Stage, caller: &str) -> Answer {
    let request = Request::get(format!("{URL}/")).header("authorization", format!("Bearer {caller}"));
    stage.call(request.body(text("")).unwrap()).await
}

#[tokio::test]
async fn the_callers_token_is_exchanged_once_for_each_caller() {
    let (server, stage) = with_tokens(Mood::Good, exchange()).await;
    for (caller, expected) in [("alice-secret", "2"), ("alice-secret", "2"), ("bob-secret", "3"), ("alice-secret", "2")]
    {
        assert_eq!(of(&stage, caller).await.status, 200);
        assert_eq!(server.seen().last().unwrap().headers["authorization"], format!("Bearer token-{expected}"));
    }
    let forms = stage.issuer.tokens.lock().unwrap().clone();
    assert_eq!(forms[0], "grant_type=client_credentials&audience=ratings", "the actor's own");
    for expected in [
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&",
        "&subject_token=alice-secret&",
        "&actor_token=token-1&",
        "&audience=ratings&scope=ratings.read",
    ] {
        assert!(forms[1].contains(expected), "{expected}: {}", forms[1]);
    }
    assert_eq!(forms.len(), 3);
    let said = stage.lines.all().join("\n");
    assert!(!said.contains("secret") && !said.contains("token-1") && !said.contains("token-2"), "{said}");
}

#[tokio::test]
async fn a_token_that_cannot_be_exchanged_is_refused_and_nothing_is_sent() {
    let (server, stage) = with_tokens(Mood::NoExchange, exchange()).await;
    let answer = of(&stage, "alice").await;
    assert!(answer.is(401, "token_refused"), "{answer:?}");
    assert_eq!(answer.headers["www-authenticate"], r#"Bearer error="invalid_token""#);
    // Never as itself, where nobody called.
    let answer = stage.get("/").await;
    assert!(answer.is(401, "token_refused"), "{answer:?}");
    assert_eq!(stage.issuer.tokens.lock().unwrap().len(), 1);
    assert_eq!(server.count(), 0);

    let (server, stage) = with_tokens(Mood::NoTokens, exchange()).await;
    let answer = of(&stage, "alice").await;
    assert!(answer.is(503, "token_unavailable"), "{answer:?}");
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn forwarding_and_none_never_ask_for_a_token() {
    for (mode, brought, expected) in [
        (TokenMode::Forward, true, Some("Bearer alice")),
        (TokenMode::Forward, false, None),
        (TokenMode::None, true, None),
        (TokenMode::None, false, None),
    ] {
        let (server, stage) = with_tokens(Mood::Good, mode.clone()).await;
        let answer = if brought { of(&stage, "alice").await } else { stage.get("/").await };
        assert_eq!(answer.status, 200);
        let seen = server.seen().remove(0).headers;
        let found = seen.get("authorization").map(|value| value.to_str().unwrap());
        assert_eq!(found, expected, "{mode:?}");
        assert!(stage.issuer.tokens.lock().unwrap().is_empty());
    }
}
