//! An adapter over a few policies, a fake issuer on a real socket, and what Envoy would ask.

#![allow(dead_code, unreachable_pub, reason = "each test suite uses a part of it")]

#[path = "../../../tests/fixtures/issuer.rs"]
pub mod issuer;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use adapter::config::Workload;
use adapter::{Adapter, ApiKeyStore, Deps, Exchange, Place};
use authz::{ApiKey, ApiKeyRecord, CompileOptions, KeyState, Policies};
use envoy_types::ext_authz::v3::pb::{CheckRequest, CheckResponse, HttpResponse};
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{self, HttpRequest};
use identity::Secret;
use issuer::{Issuer, NOW};
use platform::clock::FixedClock;
use platform::jwks::JwksSource;
use platform::log::{Lines, Log};
use platform::store::{self, ApiKeys};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub const PEPPER: &str = "a pepper of the tests";

/// `JWKS` is the issuer's key set, `RULES` the rules of the one policy.
pub const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: issuer, namespace: istio-system }
spec:
  jwtRules:
    - issuer: https://issuer.bookinfo.example
      audiences: [bookinfo]
      jwks: 'JWKS'
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: { name: keys, namespace: istio-system }
spec: { issuer: https://issuer.bookinfo.example }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ratings, namespace: bookinfo }
spec:
  selector: { matchLabels: { app: ratings } }
  rules: RULES
";

/// Whoever has proven to be the client `reader`.
pub const READER: &str =
    "[{ from: [{ source: { requestPrincipals: ['https://issuer.bookinfo.example/client:reader'] } }] }]";

pub fn section(issuer: &Issuer, rules: &str) -> Vec<u8> {
    let text = POLICIES.replace("JWKS", &issuer.jwks()).replace("RULES", rules);
    let resources = istio::parse(&[istio::SourceFile { name: "policies.yaml".to_owned(), text }]).unwrap();
    authz::compile(&resources, &CompileOptions::default()).unwrap().section
}

pub fn policies(issuer: &Issuer, rules: &str) -> Policies {
    Policies::open(&section(issuer, rules)).unwrap()
}

pub fn place() -> Place {
    let labels = vec![("app".to_owned(), "ratings".to_owned())];
    let workload = Some(Workload { namespace: "bookinfo".to_owned(), labels });
    Place { workload, environment: Some("dev".to_owned()) }
}

pub fn deps(records: Arc<dyn ApiKeys>, clock: Arc<FixedClock>, log: Log) -> Deps {
    let secrets = platform::secrets::Embedded::default();
    secrets.put("pepper", PEPPER);
    let api_keys = Some(ApiKeyStore { records, secrets: Arc::new(secrets), pepper_id: "pepper".to_owned() });
    let jwks = Arc::new(JwksSource::new(clock.clone()));
    Deps { api_keys, jwks, revocations: Default::default(), rate_limits: None, clock, log }
}

pub fn key(seed: u8) -> String {
    ApiKey::generate("dev", &[seed; 48]).unwrap().text().expose().clone()
}

pub fn record(seed: u8, state: KeyState) -> ApiKeyRecord {
    let key = ApiKey::generate("dev", &[seed; 48]).unwrap();
    ApiKeyRecord {
        id: key.id().to_owned(),
        client_id: "reader".to_owned(),
        environment: "dev".to_owned(),
        hashes: vec![authz::api_key::hex(&key.hash(&Secret::new(PEPPER.as_bytes().to_vec())))],
        scope: "reviews.read".to_owned(),
        audiences: vec!["bookinfo".to_owned()],
        state,
        not_before: None,
        expires_at: None,
        ..ApiKeyRecord::default()
    }
}

/// An adapter with three good keys in its store.
pub struct World {
    pub adapter: Adapter,
    pub clock: Arc<FixedClock>,
    pub lines: Lines,
    pub store: Arc<store::Embedded>,
}

impl World {
    pub async fn new(issuer: &Issuer, exchange: impl FnOnce(Arc<FixedClock>) -> Option<Exchange>) -> Self {
        let store = Arc::new(store::Embedded::in_memory());
        for seed in 1..=3 {
            ApiKeys::put(&*store, &record(seed, KeyState::Active)).await.unwrap();
        }
        let (clock, (log, lines)) = (Arc::new(FixedClock::at(NOW)), Log::memory());
        let deps = deps(store.clone(), clock.clone(), log);
        let exchange = exchange(clock.clone());
        let adapter = Adapter::with_exchange(place(), policies(issuer, READER), deps, exchange).unwrap();
        Self { adapter, clock, lines, store }
    }

    pub async fn ask(&self, headers: &[(&str, &str)]) -> (Answer, Value) {
        self.lines.drain();
        let answer = Answer::from(self.adapter.check(check("/ratings/0", headers)).await);
        (answer, decision(&self.lines))
    }
}

pub fn decision(lines: &Lines) -> Value {
    let lines = lines.all();
    let mut found = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    found.find(|line| line["event"] == "decision").unwrap()
}

/// What Envoy's sidecar of `ratings` asks.
pub fn check(path: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let headers: HashMap<String, String> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let http = HttpRequest {
        id: "17".to_owned(),
        method: "GET".to_owned(),
        path: path.to_owned(),
        host: "ratings:9080".to_owned(),
        scheme: "http".to_owned(),
        headers,
        ..HttpRequest::default()
    };
    let request = attribute_context::Request { http: Some(http), ..Default::default() };
    CheckRequest { attributes: Some(AttributeContext { request: Some(request), ..AttributeContext::default() }) }
}

/// What Envoy is told.
#[derive(Debug)]
pub struct Answer {
    pub status: i32,
    pub set: HashMap<String, String>,
    pub removed: Vec<String>,
}

impl From<CheckResponse> for Answer {
    fn from(answer: CheckResponse) -> Self {
        match answer.http_response.unwrap() {
            HttpResponse::OkResponse(ok) => {
                let pair = |option: envoy_types::ext_authz::v3::pb::HeaderValueOption| {
                    assert_eq!(option.append_action, 2, "it replaces every line");
                    option.header.map(|header| (header.key, header.value)).unwrap()
                };
                let set: Vec<(String, String)> = ok.headers.into_iter().map(pair).collect();
                let count = set.len();
                let set: HashMap<String, String> = set.into_iter().collect();
                assert_eq!(set.len(), count, "no header twice");
                Self { status: 200, set, removed: ok.headers_to_remove }
            }
            HttpResponse::DeniedResponse(denied) => {
                Self { status: denied.status.unwrap().code, set: HashMap::new(), removed: Vec::new() }
            }
            HttpResponse::ErrorResponse(_) => panic!("an error response"),
        }
    }
}

/// What the fake issuer does with a request.
#[derive(Clone)]
pub enum Act {
    /// A status and a body.
    Answer(u16, String),
    /// Takes the request and says nothing.
    Silence,
    /// Hangs up.
    Cut,
    /// Answers once there is a permit.
    Hold(Arc<Semaphore>, String),
}

/// A token endpoint on a real socket.
pub struct Endpoint {
    pub address: SocketAddr,
    state: Arc<Mutex<(Act, Vec<String>)>>,
}

impl Endpoint {
    pub async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new((act, Vec::new())));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { address, state }
    }

    pub fn act(&self, act: Act) {
        self.state.lock().unwrap().0 = act;
    }

    /// Head and body of every request so far.
    pub fn visits(&self) -> Vec<String> {
        self.state.lock().unwrap().1.clone()
    }

    /// Waits for so many requests.
    pub async fn visited(&self, times: usize) {
        let all = async {
            while self.visits().len() < times {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), all).await.unwrap();
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<(Act, Vec<String>)>>) {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.trim().parse().unwrap() {
                break;
            }
        }
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let act = {
        let mut state = state.lock().unwrap();
        state.1.push(String::from_utf8(request).unwrap());
        state.0.clone()
    };
    let (status, body) = match act {
        Act::Answer(status, body) => (status, body),
        Act::Cut => return,
        Act::Silence => return std::future::pending().await,
        Act::Hold(semaphore, body) => {
            semaphore.acquire().await.unwrap().forget();
            (200, body)
        }
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
