//! Connections that carry something else than requests of HTTP/1.1: CONNECT, WebSocket, HTTP/2, and ports of services.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use common::*;
use extension::config::{Metrics, TokenMode, TokenRule};
use extension::{BundleSource, Config, Deps, Egress, Extension, LambdaApi, ServiceListener};
use http::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::{tls, verify};
use platform::clock::{Clock, FixedClock};
use platform::log::{Lines, Log};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const DB: &str = "db.bookinfo.svc.cluster.local";
const DB_ENDPOINT: &str = "db.mesh.example:15443";
const RATINGS_ENDPOINT: &str = "eastwest.mesh.example:15443";

/// `ratings`, a service of HTTP, and `db`, one of TCP.
fn services() -> String {
    format!(
        "{YAML}---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: db, namespace: bookinfo }}
spec:
  hosts: [{DB}]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{{ number: 5432, name: tcp, protocol: TCP }}]
  endpoints: [{{ address: db.mesh.example, ports: {{ tcp: 15443 }} }}]
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]
"
    )
}

/// What a server of bytes behind mesh mutual TLS does.
#[derive(Clone, Copy, PartialEq)]
enum Plays {
    /// Reads to the end, and then answers with what it has read.
    Echo,
    /// Reads a head, writes this one, and goes on as [`Plays::Echo`].
    Head(&'static str),
}

#[derive(Default)]
struct Heard {
    heads: Vec<String>,
    peers: Vec<String>,
}

/// Such a server.
struct Bytes {
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    _task: Task,
}

impl Bytes {
    async fn start(mesh: &Mesh, id: &str, plays: Plays) -> Bytes {
        let alpn = if plays == Plays::Echo { "istio-peer-exchange" } else { "istio-http/1.1" };
        let acceptor = TlsAcceptor::from(tls::server_config(&mesh.svid(id), &mesh.bundle(), &[alpn]).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Heard>>::default());
        let shared = Arc::clone(&heard);
        let task = Task::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, heard) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let peer = verify::peer_id(stream.get_ref().1.peer_certificates()).unwrap().to_string();
                    heard.lock().unwrap().peers.push(peer);
                    if let Plays::Head(answer) = plays {
                        let head = head_of(&mut stream).await;
                        heard.lock().unwrap().heads.push(head);
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                    let mut read = b"echo:".to_vec();
                    let _ = stream.read_to_end(&mut read).await;
                    let _ = stream.write_all(&read).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Bytes { address, heard, _task: task }
    }
}

/// Reads a head of HTTP/1.1 and nothing behind it.
async fn head_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap() == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

async fn say(address: SocketAddr, head: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = head_of(&mut stream).await;
    (answer, stream)
}

async fn connect(stage: &Stage, target: &str) -> (String, TcpStream) {
    say(stage.address, &format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n")).await
}

/// Sends a question, ends this side, and reads the answer to its end.
async fn converse(mut stream: TcpStream, question: &str) -> String {
    stream.write_all(question.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Sends bytes that are not passed on: the end is all there is, or a reset for what nobody reads.
async fn refused(mut stream: TcpStream, bytes: &str) {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{bytes:?}: {}", answer.escape_ascii());
}

/// HTTP at `ratings`, bytes at `db`.
async fn scene() -> (MeshServer, Bytes, Stage) {
    let mesh = Arc::new(Mesh::new());
    let ratings = MeshServer::start(&mesh, RATINGS).await;
    let db = Bytes::start(&mesh, RATINGS, Plays::Echo).await;
    let places = [(RATINGS_ENDPOINT, ratings.address), (DB_ENDPOINT, db.address)];
    let ports = |egress: &mut Egress| {
        let port = |host: &str, service_port| ServiceListener { port: 0, host: host.to_owned(), service_port };
        egress.listeners = vec![port(HOST, 9080), port(DB, 5432)];
    };
    let stage = Stage::ruled_with(&mesh, &services(), &places, ports).await;
    (ratings, db, stage)
}

/// Waits for the line of a tunnel, which is written at its end.
async fn logged_with(stage: &Stage, what: &str) -> serde_json::Value {
    let find =
        || stage.lines.all().into_iter().rfind(|line| line.contains(r#""event":"egress""#) && line.contains(what));
    until("the log line", || find().is_some()).await;
    serde_json::from_str(&find().unwrap()).unwrap()
}

#[tokio::test]
async fn bytes_go_to_the_mesh_with_our_identity() {
    let (_ratings, db, stage) = scene().await;
    let (answer, stream) = connect(&stage, &format!("{DB}:5432")).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("content-length"), "{answer}");
    assert_eq!(converse(stream, "question").await, "echo:question");
    assert_eq!(db.heard.lock().unwrap().peers, [REVIEWS]);
    let (old, stream) = say(stage.address, &format!("CONNECT {DB}:5432 HTTP/1.0\r\n\r\n")).await;
    assert!(old.contains(" 200 "), "{old}");
    assert_eq!(converse(stream, "question").await, "echo:question");
    let line = logged_with(&stage, DB).await;
    assert_eq!((line["method"].as_str(), line["response_code"].as_u64()), (Some("CONNECT"), Some(200)));
    assert_eq!((line["bytes_received"].as_u64(), line["bytes_sent"].as_u64()), (Some(8), Some(13)));
    assert_eq!((line["peer"].as_str(), line["attempts"].as_u64()), (Some(RATINGS), Some(1)));
    stage.stop().await.unwrap();
}

#[tokio::test]
async fn there_is_no_tunnel_without_an_identity_or_to_another_one() {
    let mesh = Arc::new(Mesh::new());
    let db = Bytes::start(&mesh, OTHER, Plays::Echo).await;
    let stage = Stage::ruled(&mesh, &services(), &[(DB_ENDPOINT, db.address)]).await;
    let (answer, _) = connect(&stage, &format!("{DB}:5432")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("peer_identity_mismatch"), "{answer}");

    let stage = Stage::with(&mesh, db.address, Mood::Down, |egress| {
        egress.bundle = BundleSource::Bytes(bundle_of(&services()));
        egress.connect_to[0].host = "db.mesh.example".to_owned();
    })
    .await;
    let (answer, _) = connect(&stage, &format!("{DB}:5432")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("identity_unavailable"), "{answer}");
}

#[tokio::test]
async fn http_in_a_tunnel_is_routed_as_without() {
    let (ratings, _db, stage) = scene().await;
    let target = format!("{HOST}:9080");
    let (answer, stream) = connect(&stage, &target).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let request = Request::get("/ratings/1").header("host", &target).body(text("")).unwrap();
    assert_eq!(call_on(stream, request).await.body, "ratings");

    // As gRPC's clients do: HTTP/2 at once.
    let (_, stream) = connect(&stage, &target).await;
    let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, driver) = opened.unwrap();
    tokio::spawn(driver);
    let request = Request::get(format!("http://{target}/ratings/2")).version(Version::HTTP_2);
    let answer = sender.send_request(request.body(text("")).unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));

    for (seen, path) in ratings.seen().iter().zip(["/ratings/1", "/ratings/2"]) {
        assert_eq!((seen.uri.as_str(), seen.peer.as_deref()), (path, Some(REVIEWS)));
        assert_eq!(seen.headers["authorization"], "Bearer token-1");
        assert_eq!(seen.headers["host"], target);
    }
    assert_eq!(ratings.count(), 2);

    // A tunnel in a tunnel is none.
    let (_, mut stream) = connect(&stage, &target).await;
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    let answer = head_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 501 ") && answer.contains("connect_unsupported"), "{answer}");
}

/// The same as [`scene`] in Lambda.
struct Sandbox {
    ratings: MeshServer,
    _db: Bytes,
    _issuer: FakeIssuer,
    lambda: FakeLambda,
    address: SocketAddr,
    lines: Lines,
    /// What the extension's clock shows all the time, in seconds.
    now: u64,
    task: tokio::task::JoinHandle<()>,
}

impl Sandbox {
    async fn start(change: impl FnOnce(&mut Egress)) -> Sandbox {
        let mesh = Arc::new(Mesh::new());
        let ratings = MeshServer::start(&mesh, RATINGS).await;
        let db = Bytes::start(&mesh, RATINGS, Plays::Echo).await;
        let now = real_now();
        let clock: Arc<dyn Clock> = Arc::new(FixedClock::at(now));
        let issuer = FakeIssuer::start(Arc::clone(&mesh), Arc::clone(&clock)).await;
        let lambda = FakeLambda::plain().await;
        let mut egress = egress(&issuer.url, ratings.address);
        egress.bundle = BundleSource::Bytes(bundle_of(&services()));
        let mut to_db = egress.connect_to[0].clone();
        (to_db.host, to_db.address) = ("db.mesh.example".to_owned(), db.address);
        egress.connect_to.push(to_db);
        change(&mut egress);
        let api = LambdaApi {
            address: lambda.address.clone(),
            name: "causeway".to_owned(),
            managed: false,
            snap_start: false,
        };
        let config = Config { port: 0, lambda: Some(api), egress: Ok(egress) };
        let (log, lines) = Log::memory();
        let bound = Extension::bind(config, Deps { clock, log }).await.unwrap();
        let address = bound.address();
        let task = tokio::spawn(async {
            bound.run(std::future::pending()).await.unwrap();
        });
        lambda.polled().await;
        Sandbox { ratings, _db: db, _issuer: issuer, lambda, address, lines, now, task }
    }

    async fn invoke(&self, millis: u64, more: serde_json::Value) {
        let mut event = serde_json::json!({"eventType": "INVOKE", "deadlineMs": self.now * 1_000 + millis});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.lambda.send(event);
        self.lambda.polled().await;
    }

    async fn open(&self, target: &str, fields: &str) -> TcpStream {
        let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{fields}\r\n");
        let (answer, stream) = say(self.address, &head).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        stream
    }

    /// The lines of this event, in order, and their places among all.
    fn lines(&self, event: &str) -> Vec<(usize, serde_json::Value)> {
        let event = format!(r#""event":"{event}""#);
        let all = self.lines.all().into_iter().enumerate().filter(|(_, line)| line.contains(&event));
        all.map(|(place, line)| (place, serde_json::from_str(&line).unwrap())).collect()
    }
}

#[tokio::test]
async fn a_request_in_a_tunnel_ends_before_its_invocation_does_and_bytes_do_not() {
    let sandbox = Sandbox::start(|_| ()).await;
    let none = || serde_json::json!({});
    sandbox.invoke(60_000, none()).await;
    let bytes = sandbox.open(&format!("{DB}:5432"), "").await;
    let target = format!("{HOST}:9080");
    let stream = sandbox.open(&target, "").await;
    sandbox.ratings.set(Temper::Hangs);
    let waiting = call_on(stream, Request::get("/ratings/1").header("host", &target).body(text("")).unwrap());
    let next = async {
        until("the request is under way", || sandbox.ratings.count() == 1).await;
        sandbox.invoke(200, none()).await;
    };
    let (answer, ()) = tokio::join!(waiting, next);
    assert!(answer.is(504, "upstream_timeout") && answer.body.contains("invocation"), "{answer:?}");
    assert_eq!(converse(bytes, "question").await, "echo:question");
}

#[tokio::test]
async fn a_tunnel_says_which_invocation_and_trace_it_is_of() {
    let sandbox = Sandbox::start(|egress| {
        egress.listeners = vec![ServiceListener { port: 0, host: DB.to_owned(), service_port: 5_432 }];
    })
    .await;
    let tracing = serde_json::json!({"value": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"});
    let id = "3da1f2dc-3222-475e-9205-e2e6c6318895";
    sandbox.invoke(60_000, serde_json::json!({"requestId": id, "tracing": tracing})).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let own = format!("x-request-id: own\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n");
    for (fields, request_id, trace_id) in [("", id, "5759e988bd862e3fe1be46a994272793"), (own.as_str(), "own", trace)] {
        let before = sandbox.lines("egress").len();
        let stream = sandbox.open(&format!("{DB}:5432"), fields).await;
        assert_eq!(converse(stream, "question").await, "echo:question");
        until("the line", || sandbox.lines("egress").len() > before).await;
        let (_, line) = sandbox.lines("egress").pop().unwrap();
        assert_eq!((&line["request_id"], &line["trace_id"]), (&request_id.into(), &trace_id.into()), "{line}");
        assert!(line["span_id"].is_string(), "{line}");
    }
    // At a port of its own there is nobody else to say it.
    let start = sandbox.lines("start").pop().unwrap().1;
    let stream = TcpStream::connect(start["services"][0].as_str().unwrap()).await.unwrap();
    assert_eq!(converse(stream, "question").await, "echo:question");
    until("the line", || sandbox.lines("egress").len() == 3).await;
    assert_eq!(sandbox.lines("egress")[2].1["request_id"], id);
}

/// What SHUTDOWN cuts off is in the log and in the metrics before the last metrics are written.
#[tokio::test]
async fn what_is_cut_off_at_the_end_is_counted_before_the_end() {
    let mut sandbox = Sandbox::start(|egress| egress.life.metrics = Metrics::Emf).await;
    sandbox.invoke(60_000, serde_json::json!({})).await;
    let mut bytes = sandbox.open(&format!("{DB}:5432"), "").await;
    bytes.write_all(b"question").await.unwrap();
    let target = format!("{HOST}:9080");
    sandbox.ratings.set(Temper::Hangs);
    let get = || Request::get("/ratings/1").header("host", &target).body(text("")).unwrap();
    let mut waiting = Vec::new();
    // As it is, in a tunnel, and over HTTP/2.
    let plain = TcpStream::connect(sandbox.address).await.unwrap();
    for stream in [plain, sandbox.open(&target, "").await] {
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(driver);
        waiting.push(tokio::spawn(sender.send_request(get())));
    }
    let stream = TcpStream::connect(sandbox.address).await.unwrap();
    let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, driver) = opened.unwrap();
    tokio::spawn(driver);
    let shared = Request::get(format!("http://{target}/ratings/2")).version(Version::HTTP_2).body(text("")).unwrap();
    waiting.push(tokio::spawn(sender.send_request(shared)));
    until("the requests are under way", || sandbox.ratings.count() == 3).await;
    let before = sandbox.lines("egress").len();
    sandbox.lambda.shut_down();
    (&mut sandbox.task).await.unwrap();

    let lines = sandbox.lines("egress").split_off(before);
    assert_eq!(lines.len(), 4, "{lines:?}");
    let (_, tunnel) = lines.iter().find(|(_, line)| line["method"] == "CONNECT").unwrap();
    assert_eq!((&tunnel["bytes_received"], &tunnel["response_code"]), (&8.into(), &200.into()), "{tunnel}");
    assert!(tunnel["detail"].as_str().unwrap().contains("the extension ended"), "{tunnel}");
    let all = sandbox.lines.all();
    let (end, said) = sandbox.lines("end").pop().unwrap();
    assert_eq!((end, &said["finished"]), (all.len() - 1, &false.into()));
    let last = lines.iter().map(|(place, _)| *place).max().unwrap();
    let metrics = all.iter().enumerate().skip(last).filter(|(_, line)| line.contains("_aws"));
    let metrics: Vec<serde_json::Value> = metrics.map(|(_, line)| serde_json::from_str(line).unwrap()).collect();
    let of = |host: &str| -> u64 {
        let of_host = metrics.iter().filter(|line| line["destination"] == host);
        of_host.filter_map(|line| line["Requests"].as_u64()).sum()
    };
    assert_eq!((of(HOST), of(DB)), (3, 1), "{metrics:?}");
}

/// The same of a connection at a port of TCP whose service has not answered yet.
#[tokio::test]
async fn what_is_just_connecting_at_the_end_has_its_line_before_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let mut sandbox = Sandbox::start(|egress| {
        egress.listeners = vec![ServiceListener { port: 0, host: DB.to_owned(), service_port: 5_432 }];
        egress.connect_to[1].address = address;
    })
    .await;
    sandbox.invoke(60_000, serde_json::json!({})).await;
    let start = sandbox.lines("start").pop().unwrap().1;
    let _client = TcpStream::connect(start["services"][0].as_str().unwrap()).await.unwrap();
    let _server = silent.accept().await.unwrap();
    sandbox.lambda.shut_down();
    (&mut sandbox.task).await.unwrap();
    let (line, end) = (sandbox.lines("egress").pop().unwrap(), sandbox.lines("end").pop().unwrap());
    assert!(line.0 < end.0, "{line:?} {end:?}");
    assert_eq!((&line.1["method"], line.1["detail"].is_string()), (&"CONNECT".into(), true), "{line:?}");
    assert_eq!(end.0, sandbox.lines.all().len() - 1);
}

#[tokio::test]
async fn tls_in_a_tunnel_to_http_is_refused() {
    let (ratings, _db, stage) = scene().await;
    let (answer, mut stream) = connect(&stage, &format!("{HOST}:9080")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    stream.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
    let mut alert = [0; 7];
    stream.read_exact(&mut alert).await.unwrap();
    assert_eq!(alert, [0x15, 3, 1, 0, 2, 2, 49]);
    let line = logged_with(&stage, "https_unsupported").await;
    assert!(line["detail"].as_str().unwrap().contains(HOST), "{line}");
    assert_eq!(ratings.connections(), 0);
}

/// `guess`, a service whose port says nothing of its protocol, with these documents more.
async fn guessing(more: &str, change: impl FnOnce(&mut Egress)) -> (Bytes, Stage) {
    let guess = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: guess, namespace: bookinfo }
spec:
  hosts: [guess.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{ number: 7000, name: some, protocol: HTTP }]
  endpoints: [{ address: db.mesh.example, ports: { some: 15443 } }]
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]
";
    let mesh = Arc::new(Mesh::new());
    let server = Bytes::start(&mesh, RATINGS, Plays::Echo).await;
    let yaml = format!("{}{guess}{more}", services());
    let stage = Stage::ruled_with(&mesh, &yaml, &[(DB_ENDPOINT, server.address)], |egress| {
        egress.bundle = BundleSource::Bytes(bundle_without(&yaml, Some("some")));
        change(egress);
    })
    .await;
    (server, stage)
}

const GUESS: &str = "guess.bookinfo.svc.cluster.local:7000";

#[tokio::test]
async fn bytes_do_not_go_to_a_service_of_http() {
    let (ratings, _db, stage) = scene().await;
    let target = format!("{HOST}:9080");
    for bytes in ["\x00\x01question", "PING\r\n", "GET key\r\n"] {
        let (_, stream) = connect(&stage, &target).await;
        refused(stream, bytes).await;
    }
    let line = logged_with(&stage, "request_invalid").await;
    assert!(line["detail"].as_str().unwrap().contains(HOST), "{line}");
    assert_eq!(ratings.connections(), 0);
    // An empty line is skipped by many servers of HTTP, and so it is here.
    let (_, mut stream) = connect(&stage, &target).await;
    let head = format!("\r\nGET /a/../ratings/1 HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = head_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = &ratings.seen()[0];
    assert_eq!((seen.uri.as_str(), seen.headers["authorization"].to_str().unwrap()), ("/ratings/1", "Bearer token-1"));
}

#[tokio::test]
async fn bytes_go_to_a_port_without_a_protocol_where_no_rule_is_passed_by() {
    let (server, stage) = guessing("", |_| ()).await;
    let (_, stream) = connect(&stage, GUESS).await;
    assert_eq!(converse(stream, "\x00question").await, "echo:\x00question");
    assert_eq!(server.heard.lock().unwrap().peers, [REVIEWS]);

    let routes = |http: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: guess, namespace: bookinfo }}
spec:
  hosts: [guess.bookinfo.svc.cluster.local]
  http:
{http}"
        )
    };
    let to = "route: [{ destination: { host: guess.bookinfo.svc.cluster.local } }]";
    for http in [
        format!("  - {to}\n    headers: {{ request: {{ remove: [x-secret] }} }}"),
        "  - route: [{ destination: { host: guess.bookinfo.svc.cluster.local }, headers: { request: { remove: [x] } } }]"
            .to_owned(),
        format!("  - {to}\n    rewrite: {{ uri: /b }}"),
        format!("  - {to}\n    fault: {{ abort: {{ httpStatus: 503, percentage: {{ value: 100 }} }} }}"),
        format!("  - {to}\n    mirror: {{ host: {HOST} }}"),
        format!("  - match: [{{ uri: {{ prefix: /admin }} }}]\n    directResponse: {{ status: 403 }}\n  - {to}"),
    ] {
        let (server, stage) = guessing(&routes(&http), |_| ()).await;
        let (_, stream) = connect(&stage, GUESS).await;
        refused(stream, "\x00question").await;
        assert!(server.heard.lock().unwrap().peers.is_empty(), "{http}");
    }
    let (server, stage) = guessing("", |egress| {
        let rule = TokenRule { host: "guess.bookinfo.svc.cluster.local".to_owned(), mode: TokenMode::None };
        egress.tokens = vec![rule];
    })
    .await;
    let (_, stream) = connect(&stage, GUESS).await;
    refused(stream, "\x00question").await;
    assert!(server.heard.lock().unwrap().peers.is_empty());
}

/// A port of HTTP whose route leads to a port of bytes is one of HTTP.
#[tokio::test]
async fn the_port_that_was_called_says_what_is_spoken() {
    let mesh = Arc::new(Mesh::new());
    let server = Bytes::start(&mesh, RATINGS, Plays::Echo).await;
    let yaml = format!(
        "{}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: ratings, namespace: bookinfo }}
spec:
  hosts: [{HOST}]
  http: [{{ route: [{{ destination: {{ host: {DB}, port: {{ number: 5432 }} }} }}] }}]
",
        services()
    );
    let stage = Stage::ruled(&mesh, &yaml, &[(DB_ENDPOINT, server.address)]).await;
    let (_, stream) = connect(&stage, &format!("{HOST}:9080")).await;
    refused(stream, "\x00question").await;
    assert!(server.heard.lock().unwrap().peers.is_empty());
}

#[tokio::test]
async fn metrics_count_requests_and_what_opened_but_not_how_long_a_tunnel_lasts() {
    let mesh = Arc::new(Mesh::new());
    let ratings = MeshServer::start(&mesh, RATINGS).await;
    let db = Bytes::start(&mesh, RATINGS, Plays::Echo).await;
    let places = [(RATINGS_ENDPOINT, ratings.address), (DB_ENDPOINT, db.address)];
    let stage = Stage::ruled_with(&mesh, &services(), &places, |egress| {
        let port = ServiceListener { port: 0, host: DB.to_owned(), service_port: 5432 };
        (egress.listeners, egress.life.metrics) = (vec![port], Metrics::Prometheus(0));
    })
    .await;
    let opened = TcpStream::connect(stage.services[0]).await.unwrap();
    until("the connection", || !db.heard.lock().unwrap().peers.is_empty()).await;
    let target = format!("{HOST}:9080");
    let (_, stream) = connect(&stage, &target).await;
    let request = Request::get("/ratings/1").header("host", &target).body(text("")).unwrap();
    assert_eq!(call_on(stream, request).await.status, 200);
    // An hour of a tunnel.
    stage.clock.advance(std::time::Duration::from_secs(3_600));
    assert_eq!(converse(opened, "question").await, "echo:question");
    logged_with(&stage, DB).await;
    let listening = stage.lines.all().into_iter().find(|line| line.contains("metrics_listening")).unwrap();
    let listening: serde_json::Value = serde_json::from_str(&listening).unwrap();
    let address: SocketAddr = listening["address"].as_str().unwrap().parse().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).await.unwrap();
    assert!(metrics.contains(DB) && metrics.contains(HOST), "{metrics}");
    assert!(!metrics.contains(r#"service="-""#), "{metrics}");
    let sums = metrics.lines().filter(|line| line.contains("_sum")).filter(|line| line.contains(DB));
    let sums: Vec<f64> = sums.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    assert!(!sums.is_empty() && sums.iter().all(|sum| *sum < 3_000.0), "{metrics}");
}

#[tokio::test]
async fn a_tunnel_that_cannot_be_is_refused_by_name() {
    let (_ratings, db, stage) = scene().await;
    let db_target = format!("{DB}:5432");
    for (target, fields, expected) in [
        ("unknown.example:443", "", "unknown_host"),
        (&format!("{DB}:5433"), "", "unknown_host"),
        ("169.254.169.254:80", "", "unknown_host"),
        (DB, "", "request_invalid"),
        (&db_target, "content-length: 4\r\n", "request_invalid"),
        (&db_target, "transfer-encoding: chunked\r\n", "request_invalid"),
    ] {
        let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{fields}\r\n");
        let (answer, _) = say(stage.address, &head).await;
        assert!(answer.contains(&format!("x-causeway-reason: {expected}")), "{target} {fields}: {answer}");
    }
    assert!(db.heard.lock().unwrap().peers.is_empty());
}

#[tokio::test]
async fn a_host_that_nobody_names_gets_a_blind_tunnel_where_any_is_allowed() {
    let open = "---
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |-
    outboundTrafficPolicy: { mode: ALLOW_ANY }
";
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = echo.local_addr().unwrap();
    let _task = Task::spawn(async move {
        loop {
            let (mut stream, _) = echo.accept().await.unwrap();
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.unwrap();
            stream.write_all(&read).await.unwrap();
        }
    });
    let mesh = Arc::new(Mesh::new());
    let yaml = format!("{}{open}", services());
    let stage = Stage::ruled(&mesh, &yaml, &[("outside.example:443", address)]).await;
    let (answer, stream) = connect(&stage, "outside.example:443").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(converse(stream, "opaque").await, "opaque");
    let line = logged_with(&stage, "outside.example").await;
    assert_eq!(line["upstream_cluster"].as_str(), Some("PassthroughCluster"));
    assert!(line.get("peer").is_none());
    // Neither this machine nor what is on its link: only the network.
    for target in [format!("{address}"), "169.254.169.254:80".to_owned(), "[::1]:80".to_owned()] {
        let (answer, _) = connect(&stage, &target).await;
        assert!(answer.contains("destination_forbidden"), "{target}: {answer}");
    }
}

const UPGRADE: &str =
    "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\nsec-websocket-version: 13\r\n";

async fn upgrading(plays: &'static str) -> (Bytes, Stage) {
    let mesh = Arc::new(Mesh::new());
    let server = Bytes::start(&mesh, RATINGS, Plays::Head(plays)).await;
    let stage = Stage::start(&mesh, server.address).await;
    (server, stage)
}

#[tokio::test]
async fn a_websocket_goes_through_with_identity_and_token() {
    let (server, stage) = upgrading(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: WebSocket\r\nsec-websocket-accept: y\r\nx-causeway-reason: forged\r\n\r\n",
    )
    .await;
    let head = format!("GET {URL}/chat?room=1 HTTP/1.1\r\nhost: x\r\n{UPGRADE}\r\n");
    let (answer, stream) = say(stage.address, &head).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("upgrade: websocket") && answer.contains("sec-websocket-accept: y"), "{answer}");
    assert!(!answer.contains("x-causeway-reason"), "{answer}");
    assert_eq!(converse(stream, "frames").await, "echo:frames");
    {
        let heard = server.heard.lock().unwrap();
        let sent = &heard.heads[0];
        assert!(sent.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{sent}");
        for field in
            ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: x", "authorization: Bearer token-1"]
        {
            assert_eq!(sent.matches(field).count(), 1, "{field}: {sent}");
        }
        assert_eq!(heard.peers, [REVIEWS]);
    }
    let line = logged_with(&stage, "/chat").await;
    assert_eq!((line["response_code"].as_u64(), line["bytes_received"].as_u64()), (Some(101), Some(6)));
}

#[tokio::test]
async fn other_protocols_are_switched_to_at_ports_of_tcp_alone() {
    const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other/1\r\n\r\n";
    let asking = |url: &str, upgrade: &str| {
        format!("GET {url}/chat HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n\r\n")
    };
    let (server, stage) = upgrading(SWITCHED).await;
    for upgrade in ["other/1", "h2c, other/1", "a, b"] {
        let (answer, _) = say(stage.address, &asking(URL, upgrade)).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("upgrade_unsupported"), "{upgrade}: {answer}");
    }
    assert!(server.heard.lock().unwrap().peers.is_empty());

    let mesh = Arc::new(Mesh::new());
    let server = Bytes::start(&mesh, RATINGS, Plays::Head(SWITCHED)).await;
    let stage = Stage::ruled(&mesh, &services(), &[(DB_ENDPOINT, server.address)]).await;
    let (answer, stream) = say(stage.address, &asking(&format!("http://{DB}:5432"), "other/1")).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert_eq!(converse(stream, "frames").await, "echo:frames");
}

/// What is said of this connection alone is no wish: HTTP/2 in the clear is not switched to behind the routes.
#[tokio::test]
async fn a_switch_to_http2_is_left_out() {
    let (ratings, _db, stage) = scene().await;
    let request = Request::get(format!("{URL}/ratings/1")).header("connection", "Upgrade, HTTP2-Settings");
    let request = request.header("upgrade", "h2c").header("http2-settings", "AAMAAABk").body(text("")).unwrap();
    assert_eq!(stage.call(request).await.status, 200);
    let seen = &ratings.seen()[0].headers;
    assert!(!seen.contains_key("upgrade") && !seen.contains_key("http2-settings"), "{seen:?}");
}

#[tokio::test]
async fn a_service_that_does_not_switch_is_heard_as_any_other() {
    let (_server, stage) = upgrading("HTTP/1.1 418 Teapot\r\ncontent-length: 3\r\n\r\ntea").await;
    let head = format!("GET {URL}/chat HTTP/1.1\r\nhost: x\r\n{UPGRADE}\r\n");
    let (answer, mut stream) = say(stage.address, &head).await;
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
    let mut body = [0; 3];
    stream.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"tea");
}

#[tokio::test]
async fn a_service_that_switches_to_something_else_is_cut_off() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n\r\n",
    ] {
        let (_server, stage) = upgrading(answer).await;
        let head = format!("GET {URL}/chat HTTP/1.1\r\nhost: x\r\n{UPGRADE}\r\n");
        let (answer, _) = say(stage.address, &head).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream_protocol_error"), "{answer}");
    }
}

#[tokio::test]
async fn http2_is_taken_by_prior_knowledge() {
    let (ratings, _db, stage) = scene().await;
    let stream = TcpStream::connect(stage.address).await.unwrap();
    let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, driver) = opened.unwrap();
    tokio::spawn(driver);
    for (path, expected) in [("/ratings/1", 200), ("/refused", 418)] {
        let request = Request::post(format!("{URL}{path}")).version(Version::HTTP_2);
        let request = request.header("cookie", "a=1").header("cookie", "b=2").body(text("hello")).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status().as_u16(), expected);
    }
    let seen = ratings.seen();
    assert_eq!((seen[0].headers["host"].to_str().unwrap(), seen[0].peer.as_deref()), (&URL[7..], Some(REVIEWS)));
    let cookies: Vec<_> = seen[0].headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2"]);
    let request = Request::connect(format!("{DB}:5432")).version(Version::HTTP_2).body(text("")).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.headers()["x-causeway-reason"], "connect_unsupported");
    assert_eq!(logged_with(&stage, "/refused").await["protocol"].as_str(), Some("HTTP/2"));
}

#[tokio::test]
async fn a_service_can_have_a_port_of_its_own() {
    let (ratings, db, stage) = scene().await;
    let [http, tcp] = stage.services[..] else { panic!("{:?}", stage.services) };
    assert!(http.ip().is_loopback() && tcp.ip().is_loopback());
    for (host, expected) in [
        (http.to_string(), format!("{HOST}:9080")),
        ("any.example".to_owned(), "any.example".to_owned()),
        (HOST.to_owned(), HOST.to_owned()),
        ("ratings:9080".to_owned(), "ratings:9080".to_owned()),
        ("RATINGS.bookinfo.svc.".to_owned(), "RATINGS.bookinfo.svc.".to_owned()),
    ] {
        let request = Request::get("/ratings/1").header("host", &host).body(text("")).unwrap();
        assert_eq!(call(http, request).await.status, 200, "{host}");
        assert_eq!(ratings.seen().last().unwrap().headers["host"], expected);
    }
    assert_eq!(ratings.seen()[0].headers["authorization"], "Bearer token-1");
    // What is meant for another service, as the token in it.
    let asked = ratings.count();
    for host in [&format!("{DB}:5432"), DB, "db", "details.bookinfo", "details.other.svc.cluster.local:9080"] {
        let request =
            Request::get("/").header("host", host).header("authorization", "Bearer x").body(text("")).unwrap();
        let answer = call(http, request).await;
        assert!(answer.is(502, "unknown_host"), "{host}: {answer:?}");
    }
    assert_eq!(ratings.count(), asked);
    let (answer, _) = say(http, &format!("CONNECT {DB}:5432 HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    assert!(answer.contains("connect_unsupported"), "{answer}");

    let stream = TcpStream::connect(tcp).await.unwrap();
    assert_eq!(converse(stream, "question").await, "echo:question");
    assert_eq!(db.heard.lock().unwrap().peers, [REVIEWS]);
    stage.stop().await.unwrap();
}

#[tokio::test]
async fn a_port_for_an_unknown_service_stops_the_start() {
    let mut egress = egress("http://127.0.0.1:1", nobody().await);
    egress.listeners = vec![ServiceListener { port: 0, host: "unknown".to_owned(), service_port: 80 }];
    let config = Config { port: 0, lambda: None, egress: Ok(egress) };
    let error = Extension::bind(config, Deps::system()).await.err().unwrap().to_string();
    assert!(error.contains("CAUSEWAY_LISTENERS") && error.contains("unknown:80"), "{error}");
}

/// A connection of HTTP/2 with one request, octet by octet: libraries do not write what must not be.
fn http2_with(fields: &[(&str, &str)]) -> Vec<u8> {
    let authority = &URL[7..];
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", "/ratings/1")];
    let mut block = Vec::new();
    for (name, value) in pseudo.iter().chain(fields) {
        // RFC 7541 6.2.2: a literal field without indexing, with a new name.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS without any, then HEADERS with END_STREAM and END_HEADERS for stream 1.
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes()[1..]);
    bytes.extend_from_slice(&[1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    bytes
}

/// The kind of the first frame that says what became of the request: HEADERS, RST_STREAM or GOAWAY.
async fn verdict(address: SocketAddr, sent: &[u8]) -> u8 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if matches!(head[3], 1 | 3 | 7) {
            return head[3];
        }
    }
}

#[tokio::test]
async fn http2_with_fields_of_a_connection_is_malformed() {
    let (ratings, _db, stage) = scene().await;
    // RFC 9113 8.2.1 and 8.2.2.
    for field in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("X-Upper", "a"),
        ("x", "a\r\nhost: b"),
        ("x\r\ny", "a"),
        (":path", "/other"),
        (":unknown", "a"),
        ("content-length", "5"),
    ] {
        let kind = verdict(stage.address, &http2_with(&[field])).await;
        assert!(matches!(kind, 3 | 7), "{field:?}: frame of kind {kind}");
    }
    assert_eq!(ratings.count(), 0);
    assert_eq!(verdict(stage.address, &http2_with(&[("te", "trailers"), ("x", "a")])).await, 1);
    assert_eq!(ratings.count(), 1);
    assert!(!ratings.seen()[0].headers.contains_key("te"));
}
