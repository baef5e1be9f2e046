//! Functions under the Runtime Interface Emulator, played by a socket that answers as the emulator was seen to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::harness::{Function, api, get, guarded_api, serve};
use crate::dev::gateway::{FunctionError, InvokeError, InvokeOutcome, Invoker, Rie};

/// How long an event takes.
const BUSY: Duration = Duration::from_millis(10);

/// An emulator that answers every event with `answer`; the real one crashes when it is called while it is busy.
struct Emulator {
    url: String,
    requests: Arc<std::sync::Mutex<Vec<(String, Value)>>>,
    worst: Arc<AtomicUsize>,
    calls: watch::Receiver<usize>,
}

impl Emulator {
    /// `answer` waits for `gate` to be true.
    async fn start(answer: &'static str, gate: watch::Receiver<bool>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, worst) = (Arc::<std::sync::Mutex<Vec<_>>>::default(), Arc::new(AtomicUsize::new(0)));
        let (called, calls) = watch::channel(0);
        let (kept, busy, most) = (Arc::clone(&requests), Arc::new(AtomicUsize::new(0)), Arc::clone(&worst));
        tokio::spawn(async move {
            let called = Arc::new(called);
            while let Ok((mut stream, _)) = listener.accept().await {
                let (kept, busy, most, mut gate, called) =
                    (Arc::clone(&kept), Arc::clone(&busy), Arc::clone(&most), gate.clone(), Arc::clone(&called));
                tokio::spawn(async move {
                    let request = read_request(&mut stream).await;
                    most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    kept.lock().unwrap().push(request);
                    called.send_modify(|calls| *calls += 1);
                    gate.wait_for(|&open| open).await.unwrap();
                    // Long enough for a second call to arrive meanwhile, if there is one.
                    tokio::time::sleep(BUSY).await;
                    busy.fetch_sub(1, Ordering::SeqCst);
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { url, requests, worst, calls }
    }
}

async fn read_request(stream: &mut TcpStream) -> (String, Value) {
    let mut text = String::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: usize = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").and_then(|n| n.parse().ok()))
                .unwrap();
            if body.len() >= length {
                return (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap());
            }
        }
    }
}

/// An address where nothing listens any more.
async fn gone() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn open() -> watch::Receiver<bool> {
    watch::channel(true).1
}

/// "aws-lambda-rie" answers failures with 200 and the error as the body.
const UNAUTHORIZED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 50\r\n\r\n{\"errorMessage\": \"Unauthorized\", \"errorType\": \"E\"}";
const EXIT: &str = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 62\r\n\r\n{\"errorType\":\"Runtime.ExitError\",\"errorMessage\":\"exit status 3\"}";
const TIMEOUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\nTask timed out after 3.00 seconds";

#[tokio::test]
async fn the_emulators_answers_are_told_apart() {
    let error = |error_type: &str, error_message: &str| FunctionError {
        error_type: error_type.to_owned(),
        error_message: error_message.to_owned(),
    };
    let cases = [
        (UNAUTHORIZED, InvokeOutcome::FunctionError(error("E", "Unauthorized"))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\"a\"", InvokeOutcome::Payload(json!("a"))),
        (TIMEOUT, InvokeOutcome::FunctionError(error("Sandbox.Timedout", "Task timed out after 3.00 seconds"))),
        (
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 36\r\n\r\n{\"errorType\":\"X\",\"errorMessage\":\"Y\"} ",
            InvokeOutcome::FunctionError(error("X", "Y")),
        ),
    ];
    for (answer, expected) in cases {
        let emulator = Emulator::start(answer, open()).await;
        assert_eq!(Rie::new(&emulator.url).unwrap().invoke(json!({"a": 1})).await.unwrap(), expected);
        assert_eq!(
            *emulator.requests.lock().unwrap(),
            [("POST /2015-03-31/functions/function/invocations HTTP/1.1".to_owned(), json!({"a": 1}))]
        );
    }
}

#[tokio::test]
async fn an_emulator_that_is_gone_or_talks_nonsense_is_named() {
    let url = gone().await;
    let error = Rie::new(&url).unwrap().invoke(json!({})).await.unwrap_err();
    assert!(matches!(error, InvokeError::Unreachable { .. }));
    let address = url.trim_start_matches("http://");
    assert!(error.to_string().starts_with(&format!("cannot reach the function at {address}: ")), "{error}");

    let emulator = Emulator::start("SSH-2.0-x\r\n\r\n", open()).await;
    assert!(matches!(Rie::new(&emulator.url).unwrap().invoke(json!({})).await, Err(InvokeError::Broken { .. })));
    let emulator = Emulator::start("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", open()).await;
    assert!(matches!(Rie::new(&emulator.url).unwrap().invoke(json!({})).await, Err(InvokeError::BadAnswer { .. })));
}

/// An execution environment handles one event at a time, and the emulator is one: calls wait for each other.
#[tokio::test]
async fn one_sandbox_gets_one_event_at_a_time() {
    let emulator = Emulator::start("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", open()).await;
    let rie = Rie::new(&emulator.url).unwrap();
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let rie = rie.clone();
            tokio::spawn(async move { rie.invoke(json!(n)).await.unwrap() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), InvokeOutcome::Payload(json!({})));
    }
    assert_eq!(emulator.worst.load(Ordering::SeqCst), 1);
    assert_eq!(emulator.requests.lock().unwrap().len(), 8);
}

/// A caller that gives up does not free the sandbox: the next event waits until the emulator has answered.
#[tokio::test]
async fn a_call_that_was_given_up_still_occupies_the_sandbox() {
    let (gate, gated) = watch::channel(false);
    let mut emulator = Emulator::start("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", gated).await;
    let rie = Rie::new(&emulator.url).unwrap();
    let first = rie.clone();
    let given_up = tokio::spawn(async move { first.invoke(json!(1)).await });
    emulator.calls.wait_for(|&calls| calls == 1).await.unwrap();
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    let second = tokio::spawn(async move { rie.invoke(json!(2)).await });
    let too_early = tokio::time::timeout(5 * BUSY, emulator.calls.wait_for(|&calls| calls == 2)).await.is_ok();
    assert!(!too_early, "the sandbox is still busy with the first event");
    gate.send(true).unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(emulator.worst.load(Ordering::SeqCst), 1);
}

/// The whole way: client, gateway, authorizer and function under emulators.
#[tokio::test]
async fn the_gateway_drives_emulators() {
    let authorizer = Emulator::start(ALLOW, open()).await;
    let backend =
        Emulator::start("HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{\"statusCode\":418,\"x\":10}", open()).await;
    let mut config = guarded_api(&["GET /a"], &Function::echo(), |_| {});
    config.authorizers[0].invoker = Arc::new(Rie::new(&authorizer.url).unwrap());
    config.integrations[0].invoker = Arc::new(Rie::new(&backend.url).unwrap());
    let server = serve(config).await;
    assert_eq!(get(&server, "/a", &[]).await.status, 418);
    assert_eq!(authorizer.requests.lock().unwrap()[0].1["routeKey"], "GET /a");
    assert_eq!(backend.requests.lock().unwrap()[0].1["requestContext"]["authorizer"], json!({"lambda": null}));

    for (answer, status) in [(UNAUTHORIZED, 401), (EXIT, 500), (TIMEOUT, 500)] {
        let emulator = Emulator::start(answer, open()).await;
        let mut config = guarded_api(&["GET /a"], &Function::echo(), |_| {});
        config.authorizers[0].invoker = Arc::new(Rie::new(&emulator.url).unwrap());
        config.authorizers[0].timeout = Duration::from_secs(5);
        assert_eq!(get(&serve(config).await, "/a", &[]).await.status, status, "{answer}");
    }

    // An integration that cannot be reached: "If API Gateway doesn't have permission to invoke your function, clients receive a 500
    // Internal Server Error" is the nearest that is documented.
    let mut config = api(&["GET /a"], &Function::echo());
    config.integrations[0].invoker = Arc::new(Rie::new(&gone().await).unwrap());
    assert_eq!(
        get(&serve(config).await, "/a", &[]).await.refusal(),
        (500, json!({"message": "Internal Server Error"}))
    );
}

const ALLOW: &str = "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"isAuthorized\": true}";
