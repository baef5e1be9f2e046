//! The program, stopped and continued as Lambda freezes and thaws an environment, between invocations and within one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use http::Request;
use platform::clock::SystemClock;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// Longer than any stall of a running process that is no thaw.
const NAP: Duration = Duration::from_millis(1_200);

/// After it, a request that could not be sent again takes no connection from before.
const LONG_NAP: Duration = Duration::from_millis(2_200);

struct Function {
    lambda: FakeLambda,
    server: MeshServer,
    issuer: FakeIssuer,
    address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Function {
    async fn start(mood: Mood) -> Function {
        let mesh = Arc::new(Mesh::new());
        let server = MeshServer::start(&mesh, RATINGS).await;
        let issuer = FakeIssuer::start(Arc::clone(&mesh), Arc::new(SystemClock)).await;
        issuer.set(mood);
        let lambda = FakeLambda::plain().await;
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("mesh.bundle");
        std::fs::write(&bundle, bundle_bytes()).unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);
        let child = Command::new(env!("CARGO_BIN_EXE_extension"))
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", &lambda.address)
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "AKIDREVIEWS")
            .env("AWS_SECRET_ACCESS_KEY", "reviews-secret")
            .env("CAUSEWAY_SVID_URL", &issuer.url)
            .env("CAUSEWAY_BUNDLE", &bundle)
            .env("CAUSEWAY_PROXY_PORT", address.port().to_string())
            .env("CAUSEWAY_IDENTITY_WAIT_MS", "10000")
            .env("CAUSEWAY_CONNECT_TO", format!("{GATEWAY}:15443={}", server.address))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        lambda.polled().await;
        let function = Function { lambda, server, issuer, address, child, _folder: folder };
        function.invoke().await;
        function
    }

    /// An invocation, as the extension hears of it.
    async fn invoke(&self) {
        self.lambda.send(serde_json::json!({"eventType": "INVOKE", "deadlineMs": (real_now() + 600) * 1_000}));
        self.lambda.polled().await;
    }

    async fn get(&self, path: &str) -> Answer {
        call(self.address, Request::get(format!("{URL}{path}")).body(text("")).unwrap()).await
    }

    async fn post(&self, body: &'static str) -> Answer {
        call(self.address, Request::post(format!("{URL}/collect")).body(text(body)).unwrap()).await
    }

    async fn freeze(&self) {
        self.signal("STOP").await;
        let stat = format!("/proc/{}/stat", self.child.id().unwrap());
        until("the process stands still", || {
            // PID (NAME) STATE …
            let stat = std::fs::read_to_string(&stat).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('T')
        })
        .await;
    }

    async fn thaw(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().await.unwrap().success());
    }

    /// Ends it, and returns what it says about that. (The lines of requests that are cut off come after it.)
    async fn shut_down(self) -> String {
        self.lambda.shut_down();
        let output = self.child.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(0));
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().find(|line| line.contains(r#""event":"end""#)).unwrap().to_owned()
    }
}

/// Lambda stops the process between invocations. Meanwhile the service ends its connections; whoever comes next does not
/// notice. Every request arrives once.
#[tokio::test]
async fn no_request_is_lost_in_the_freezes_between_invocations() {
    let function = Function::start(Mood::Good).await;
    for cycle in 0..5 {
        assert_eq!(function.get("/").await.status, 200, "cycle {cycle}");
        let posted = function.post("once").await;
        assert_eq!((posted.status.as_u16(), posted.body.as_str()), (200, "4"), "cycle {cycle}");
        function.freeze().await;
        if cycle % 2 == 0 {
            function.server.cut();
        }
        tokio::time::sleep(if cycle == 1 { NAP } else { LONG_NAP }).await;
        function.thaw().await;
        // The function may be faster than the event.
        let (got, posted, ()) = tokio::join!(function.get("/"), function.post("ahead"), function.invoke());
        assert_eq!((got.status.as_u16(), posted.body.as_str()), (200, "5"), "cycle {cycle}: {got:?} {posted:?}");
    }
    assert_eq!(function.server.count(), 4 * 5);
    assert_eq!(function.server.bodies().len(), 2 * 5);
    assert_eq!(function.shut_down().await, r#"{"event":"end","finished":true}"#);
}

/// An application may call out and not wait: its environment is frozen in the middle of the request.
#[tokio::test]
async fn a_freeze_in_the_middle_of_a_request_loses_nothing() {
    let function = Function::start(Mood::Good).await;
    for cut in [false, true] {
        // Connections of before, so that the requests to come are not the first on theirs.
        assert_eq!(function.get("/").await.status, 200);
        function.server.set(Temper::Hangs);
        let before = function.server.count();
        let waiting = tokio::spawn(call(function.address, Request::get(format!("{URL}/")).body(text("")).unwrap()));
        until("the service has the request", || function.server.count() == before + 1).await;
        function.freeze().await;
        function.server.set(Temper::Even);
        if cut {
            function.server.cut();
        }
        // One that comes while nobody is awake waits in the listener's queue.
        let queued = TcpStream::connect(function.address).await;
        assert!(queued.is_ok());
        tokio::time::sleep(NAP).await;
        function.thaw().await;
        function.invoke().await;
        if !cut {
            // The service has said nothing so far; now it ends the connection, long after the thaw.
            function.server.cut();
        }
        let answer = waiting.await.unwrap();
        assert_eq!(answer.status, 200, "cut while frozen: {cut}: {answer:?}");
        assert_eq!(function.server.count(), before + 2, "sent again once");
    }
    function.shut_down().await;
}

#[tokio::test]
async fn an_svid_that_ended_in_a_freeze_is_never_shown() {
    const SECONDS: u64 = 4;
    let function = Function::start(Mood::Brief(SECONDS)).await;
    assert_eq!(function.get("/").await.status, 200);
    function.freeze().await;
    let (svids, connections) = (function.issuer.svids.load(Ordering::SeqCst), function.server.connections());
    let over = real_now() + SECONDS + 1;
    until("the SVID is over", || real_now() > over).await;
    // The issuer is down when the process wakes up: nothing goes out with the old one, not on an open connection either.
    function.issuer.set(Mood::Down);
    let before = function.server.count();
    function.thaw().await;
    let (answer, ()) = tokio::join!(function.get("/"), function.invoke());
    assert!(answer.is(503, "identity_unavailable"), "{answer:?}");
    assert_eq!((function.server.count(), function.server.connections()), (before, connections));

    function.issuer.set(Mood::Good);
    assert_eq!(function.get("/").await.status, 200);
    assert!(function.issuer.svids.load(Ordering::SeqCst) > svids);
    assert_eq!(function.server.connections(), connections + 1, "a new SVID means a new connection");
    function.shut_down().await;
}

/// Even when requests hang at services and more come in, the end is near.
#[tokio::test]
async fn shutdown_ends_it_under_load() {
    let function = Function::start(Mood::Good).await;
    assert_eq!(function.get("/").await.status, 200);
    function.server.set(Temper::Hangs);
    let before = function.server.count();
    let load: Vec<_> = (0..50)
        .map(|_| {
            let request = Request::get(format!("{URL}/")).body(text("")).unwrap();
            tokio::spawn(call(function.address, request))
        })
        .collect();
    until("the requests are under way", || function.server.count() == before + 50).await;
    // None of them ever has an answer: without a bound this would not return. How long it may take is held by the test of
    // the drain, on a clock that no slow machine can stretch.
    let ended = tokio::time::timeout(Duration::from_secs(10), function.shut_down()).await;
    assert_eq!(ended.as_deref(), Ok(r#"{"event":"end","finished":false}"#));
    load.iter().for_each(|request| request.abort());
}
