//! What the tests share: servers that stop when dropped, functions that remember their events, and a raw client.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use platform::clock::FixedClock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::dev::gateway::{
    Authorizer, Bound, FunctionError, FunctionUrl, FunctionUrlConfig, Gateway, GatewayConfig, InProcess, Integration,
    Invoker, Route,
};

/// 2026-11-20T16:32:00Z
pub(super) const NOW: u64 = 1_795_192_320;

/// A running server.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

pub(super) fn start(bound: Bound) -> Served {
    let (stop, stopped) = oneshot::channel::<()>();
    let address = bound.address();
    tokio::spawn(bound.run(async {
        let _ = stopped.await;
    }));
    Served { address, _stop: stop }
}

pub(super) async fn serve(config: GatewayConfig) -> Served {
    start(Gateway::bind(config, loopback()).await.unwrap())
}

pub(super) async fn serve_url(config: FunctionUrlConfig) -> Served {
    start(FunctionUrl::bind(config, loopback()).await.unwrap())
}

pub(super) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A function that remembers the events it got.
#[derive(Clone)]
pub(super) struct Function {
    pub(super) invoker: Arc<dyn Invoker>,
    pub(super) events: Arc<Mutex<Vec<Value>>>,
    calls: Arc<AtomicUsize>,
}

impl Function {
    pub(super) fn new(answer: impl Fn(&Value) -> Result<Value, FunctionError> + Send + Sync + 'static) -> Self {
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let calls: Arc<AtomicUsize> = Arc::default();
        let (seen, counted) = (Arc::clone(&events), Arc::clone(&calls));
        let invoker = InProcess::function(move |event| {
            counted.fetch_add(1, Ordering::SeqCst);
            let result = answer(&event);
            seen.lock().unwrap().push(event);
            async move { result }
        });
        Self { invoker, events, calls }
    }

    /// Always returns `payload`.
    pub(super) fn returning(payload: Value) -> Self {
        Self::new(move |_| Ok(payload.clone()))
    }

    /// Always fails with `message`.
    pub(super) fn failing(message: &'static str) -> Self {
        Self::new(move |_| Err(FunctionError { error_type: "Error".to_owned(), error_message: message.to_owned() }))
    }

    /// Answers with the event that it got, as the body.
    pub(super) fn echo() -> Self {
        Self::new(|event| Ok(json!({"statusCode": 200, "body": event.to_string()})))
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(super) fn last_event(&self) -> Value {
        self.events.lock().unwrap().last().cloned().unwrap()
    }
}

/// An API with the stage `$default` and `routes`, all answered by `integration` and open.
pub(super) fn api(routes: &[&str], integration: &Function) -> GatewayConfig {
    let mut config = GatewayConfig::new("api1", "$default");
    config.clock = Arc::new(FixedClock::at(NOW));
    config.routes = routes.iter().map(|key| Route::new(*key, "backend")).collect();
    config.integrations = vec![Integration::new("backend", Arc::clone(&integration.invoker))];
    config
}

/// The same, all guarded by one authorizer.
pub(super) fn guarded_api(
    routes: &[&str],
    authorizer: &Function,
    adjust: impl FnOnce(&mut Authorizer),
) -> GatewayConfig {
    let mut config = api(routes, &Function::echo());
    config.routes = config.routes.into_iter().map(|route| route.guarded_by("guard")).collect();
    let mut guard = Authorizer::new("guard", Arc::clone(&authorizer.invoker));
    adjust(&mut guard);
    config.authorizers = vec![guard];
    config
}

/// What a client got.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Reply {
    /// The values of a header, in order.
    pub(super) fn header(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Status and the gateway's own message.
    pub(super) fn refusal(&self) -> (u16, Value) {
        (self.status, self.json())
    }
}

/// Sends `request` byte for byte and reads until the server closes.
pub(super) async fn raw(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses a request early may close before it has read all of it.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// A request with the headers given beside `Host`.
pub(super) async fn send(server: &Served, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let host = if headers.iter().any(|(name, _)| *name == "Host") {
        String::new()
    } else {
        format!("Host: {}\r\n", server.address)
    };
    let mut request = format!("{method} {target} HTTP/1.1\r\n{host}Connection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    raw(server.address, &[request.as_bytes(), body].concat()).await
}

pub(super) async fn get(server: &Served, target: &str, headers: &[(&str, &str)]) -> Reply {
    send(server, "GET", target, headers, b"").await
}
