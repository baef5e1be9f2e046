//! The world around the extension, played on real sockets: a mesh CA, an issuer, a mesh server and Lambda.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod frames;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use extension::config::{Https, Life};
use extension::{BundleSource, Config, ConnectTo, Deps, Egress, Extension, Workload};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use identity::{Svid, TrustBundle, tls, verify};
use istio::SourceFile;
use platform::aws::{AwsConfig, Credentials};
use platform::bundle::{self, Section};
use platform::clock::{Clock, FixedClock};
use platform::log::{Lines, Log};
use platform::sigv4;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_rustls::TlsAcceptor;

pub const REVIEWS: &str = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews";
pub const RATINGS: &str = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings";
pub const OTHER: &str = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-productpage";
pub const HOST: &str = "ratings.bookinfo.svc.cluster.local";
pub const URL: &str = "http://ratings.bookinfo.svc.cluster.local:9080";
pub const GATEWAY: &str = "eastwest.mesh.example";
pub const LIFE: u64 = 3_600;

pub type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

pub fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

/// Runs a task and ends it on drop.
pub struct Task(JoinHandle<()>);

impl Task {
    pub fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(tokio::spawn(future))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub fn real_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// The certificate authority of a mesh, in the present: in a handshake the TLS library asks the real clock.
pub struct Mesh {
    root: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Mesh {
    pub fn new() -> Mesh {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "mesh root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = at(real_now() - 86_400);
        params.not_after = at(real_now() + 86_400 * 30);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        Mesh { root, issuer: Issuer::new(params, key) }
    }

    pub fn root_pem(&self) -> &str {
        &self.root
    }

    pub fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem("cluster.local".parse().unwrap(), self.root.as_bytes()).unwrap()
    }

    pub fn svid(&self, id: &str) -> Svid {
        let (certificate, key) = self.certificate(params(id));
        Svid::from_der(vec![certificate], key).unwrap()
    }

    pub fn certificate(&self, params: CertificateParams) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// What the issuer does with a CSR: takes the key, ignores the names.
    pub fn sign(&self, csr: &str, params: CertificateParams) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        request.params = params;
        request.signed_by(&self.issuer).unwrap().pem()
    }
}

pub fn params(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = at(real_now() - 60);
    params.not_after = at(real_now() + LIFE);
    params
}

pub fn at(unix: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(unix).unwrap()).unwrap()
}

/// How the issuer answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Good,
    Down,
    /// Signs with another root than it names.
    OtherRoot,
    /// Hands out a certificate that is over.
    Expired,
    /// Hands out an identity of another trust domain.
    OtherTrustDomain,
    /// Hands out this identity.
    Named(&'static str),
    /// SVIDs, but no tokens.
    NoTokens,
    /// Exchanges no token.
    NoExchange,
    /// Answers once it is in another mood.
    Slow,
    /// Hands out certificates for so many seconds.
    Brief(u64),
    /// Certifies another key than the one that it was sent.
    OtherKey,
    /// Answers everything with this status and body.
    Says(u16, &'static str),
}

pub struct FakeIssuer {
    pub url: String,
    pub mood: Arc<Mutex<Mood>>,
    pub svids: Arc<AtomicUsize>,
    pub tokens: Arc<Mutex<Vec<String>>>,
    /// Who signs, and which roots are named: the mesh that it was started for, at first.
    authority: Arc<Mutex<(Arc<Mesh>, String)>>,
    _task: Task,
}

impl FakeIssuer {
    pub async fn start(mesh: Arc<Mesh>, clock: Arc<dyn Clock>) -> FakeIssuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (mood, svids, tokens) = (Arc::new(Mutex::new(Mood::Good)), Arc::<AtomicUsize>::default(), Arc::default());
        let authority = Arc::new(Mutex::new((Arc::clone(&mesh), mesh.root_pem().to_owned())));
        let door = Door {
            url: url.clone(),
            authority: Arc::clone(&authority),
            stranger: Arc::new(Mesh::new()),
            clock,
            mood: Arc::clone(&mood),
            svids: Arc::clone(&svids),
            tokens: Arc::clone(&tokens),
        };
        let task = Task::spawn(serve_plain(listener, move |request| door.clone().answer(request)));
        FakeIssuer { url, mood, svids, tokens, authority, _task: task }
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// From now on `signer` signs, and `roots` (PEM) are named as the mesh's.
    pub fn rotate(&self, signer: &Arc<Mesh>, roots: String) {
        *self.authority.lock().unwrap() = (Arc::clone(signer), roots);
    }
}

#[derive(Clone)]
struct Door {
    url: String,
    authority: Arc<Mutex<(Arc<Mesh>, String)>>,
    stranger: Arc<Mesh>,
    clock: Arc<dyn Clock>,
    mood: Arc<Mutex<Mood>>,
    svids: Arc<AtomicUsize>,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl Door {
    async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        while *self.mood.lock().unwrap() == Mood::Slow {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Down => return status(503),
            Mood::Says(status, body) => return Response::builder().status(status).body(text(body)).unwrap(),
            _ => {}
        }
        let headers: Vec<(String, String)> =
            head.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
        let url = format!("{}{}", self.url, head.uri);
        let signed = sigv4::Request { method: head.method.as_str(), url: &url, headers: &headers, body: &body };
        let secret = |key: &str| (key == "AKIDREVIEWS").then(|| "reviews-secret".to_owned().into());
        if let Err(error) = sigv4::verify(signed, "lambda", secret, self.clock.now()) {
            return Response::builder().status(403).body(text(error.to_string())).unwrap();
        }
        match (head.method, head.uri.path()) {
            (Method::POST, "/v1/svid") => self.svid(mood, &body),
            (Method::POST, "/oauth2/token") if mood == Mood::NoTokens => status(400),
            (Method::POST, "/oauth2/token")
                if mood == Mood::NoExchange && String::from_utf8_lossy(&body).contains("token-exchange") =>
            {
                Response::builder().status(400).body(text(r#"{"error":"invalid_request"}"#)).unwrap()
            }
            (Method::POST, "/oauth2/token") => {
                let mut tokens = self.tokens.lock().unwrap();
                tokens.push(String::from_utf8(body.to_vec()).unwrap());
                let token = format!("token-{}", tokens.len());
                json(&serde_json::json!({"access_token": token, "token_type": "Bearer", "expires_in": 600}))
            }
            _ => status(404),
        }
    }

    fn svid(&self, mood: Mood, body: &[u8]) -> Response<Body> {
        self.svids.fetch_add(1, Ordering::SeqCst);
        let request: serde_json::Value = serde_json::from_slice(body).unwrap();
        let csr = request["csr"].as_str().unwrap();
        let mut id = REVIEWS;
        if mood == Mood::OtherTrustDomain {
            id = "spiffe://other.example/ns/bookinfo/sa/bookinfo-reviews";
        }
        if let Mood::Named(other) = mood {
            id = other;
        }
        let mut params = params(id);
        // Its end by the extension's clock; its begin stays in the present, which is what the mesh server asks for.
        params.not_after = at(self.clock.unix() + LIFE);
        if mood == Mood::Expired {
            params.not_before = at(real_now() - 7_200);
            params.not_after = at(real_now() - 3_600);
        }
        if let Mood::Brief(seconds) = mood {
            params.not_after = at(self.clock.unix() + seconds);
        }
        let (mesh, roots) = self.authority.lock().unwrap().clone();
        let signer = if mood == Mood::OtherRoot { &self.stranger } else { &mesh };
        let other = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap());
        let other = other.unwrap().pem().unwrap();
        let leaf = signer.sign(if mood == Mood::OtherKey { &other } else { csr }, params);
        json(&serde_json::json!({
            "chain": [leaf, mesh.root_pem()],
            "bundle": roots,
            "spiffe_id": id,
            "expires_at": real_now() + LIFE,
        }))
    }
}

pub fn status(code: u16) -> Response<Body> {
    Response::builder().status(code).body(text("")).unwrap()
}

fn json(value: &serde_json::Value) -> Response<Body> {
    Response::builder().header("content-type", "application/json").body(text(value.to_string())).unwrap()
}

/// What the mesh server saw of a request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: String,
    pub headers: HeaderMap,
    pub peer: Option<String>,
    /// Which connection, from 1.
    pub connection: usize,
}

/// What a server does with every request, whatever its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// By its path.
    Even,
    /// Reads the body and answers this.
    Answers(u16),
    /// The same for so many requests.
    AnswersTimes(u16, usize),
    /// Ends the connection without a word.
    Cuts,
    /// Is silent.
    Hangs,
}

/// What a server notes and does.
#[derive(Clone)]
pub struct Scribe {
    seen: Arc<Mutex<Vec<Seen>>>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
    temper: Arc<Mutex<Temper>>,
}

impl Scribe {
    fn new() -> Scribe {
        Scribe { seen: Arc::default(), bodies: Arc::default(), temper: Arc::new(Mutex::new(Temper::Even)) }
    }

    async fn answer(self, request: Request<Incoming>, before: usize) -> Result<Response<Body>, Silence> {
        let temper = {
            let mut temper = self.temper.lock().unwrap();
            let now = *temper;
            if let Temper::AnswersTimes(status, times) = now {
                *temper = if times > 1 { Temper::AnswersTimes(status, times - 1) } else { Temper::Even };
            }
            now
        };
        match temper {
            Temper::Cuts => return Err(Silence),
            Temper::Hangs => std::future::pending().await,
            Temper::Answers(code) | Temper::AnswersTimes(code, _) => {
                let body = request.into_body().collect().await.map_err(|_| Silence)?.to_bytes();
                self.bodies.lock().unwrap().push(body);
                return Ok(status(code));
            }
            Temper::Even => {}
        }
        if request.uri().path() == "/collect" {
            let body = request.into_body().collect().await.map_err(|_| Silence)?.to_bytes();
            let length = body.len();
            self.bodies.lock().unwrap().push(body);
            return Ok(Response::new(text(length.to_string())));
        }
        behave(request, before).await
    }
}

/// A server that speaks plain HTTP.
pub struct PlainServer {
    pub address: SocketAddr,
    scribe: Scribe,
    _task: Task,
}

impl PlainServer {
    pub async fn start() -> PlainServer {
        PlainServer::at("127.0.0.1:0").await
    }

    pub async fn at(address: &str) -> PlainServer {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, scribe) = (listener.local_addr().unwrap(), Scribe::new());
        let shared = scribe.clone();
        let task = Task::spawn(serve_plain(listener, move |request: Request<Incoming>| {
            let scribe = shared.clone();
            async move {
                scribe.seen.lock().unwrap().push(Seen {
                    method: request.method().clone(),
                    uri: request.uri().to_string(),
                    headers: request.headers().clone(),
                    peer: None,
                    connection: 0,
                });
                scribe.answer(request, 0).await.unwrap_or_else(|_| status(500))
            }
        }));
        PlainServer { address, scribe, _task: task }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.scribe.seen.lock().unwrap().clone()
    }
}

/// A server behind mesh mutual TLS.
pub struct MeshServer {
    pub address: SocketAddr,
    scribe: Scribe,
    names: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    acceptor: Arc<Mutex<TlsAcceptor>>,
    open: Arc<Mutex<Vec<AbortHandle>>>,
    _task: Task,
}

impl MeshServer {
    /// One that shows `id` and asks for a client of the same mesh.
    pub async fn start(mesh: &Mesh, id: &str) -> MeshServer {
        let config = tls::server_config(&mesh.svid(id), &mesh.bundle(), &["istio-http/1.1"]).unwrap();
        MeshServer::with(config).await
    }

    pub async fn with(config: Arc<rustls::ServerConfig>) -> MeshServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (scribe, names, connections) = (Scribe::new(), Arc::default(), Arc::<AtomicUsize>::default());
        let (acceptor, open) = (Arc::new(Mutex::new(TlsAcceptor::from(config))), Arc::default());
        let task = Task::spawn(serve_mesh(
            listener,
            Arc::clone(&acceptor),
            scribe.clone(),
            Arc::clone(&names),
            (Arc::clone(&connections), Arc::clone(&open)),
        ));
        MeshServer { address, scribe, names, connections, acceptor, open, _task: task }
    }

    /// New connections get this.
    pub fn present(&self, config: Arc<rustls::ServerConfig>) {
        *self.acceptor.lock().unwrap() = TlsAcceptor::from(config);
    }

    /// Ends all connections without a word.
    pub fn cut(&self) {
        self.open.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.scribe.seen.lock().unwrap().clone()
    }

    /// How many requests have come.
    pub fn count(&self) -> usize {
        self.scribe.seen.lock().unwrap().len()
    }

    /// The bodies that were read as a whole.
    pub fn bodies(&self) -> Vec<Bytes> {
        self.scribe.bodies.lock().unwrap().clone()
    }

    pub fn set(&self, temper: Temper) {
        *self.scribe.temper.lock().unwrap() = temper;
    }

    pub fn server_names(&self) -> Vec<String> {
        self.names.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve_mesh(
    listener: TcpListener,
    acceptor: Arc<Mutex<TlsAcceptor>>,
    scribe: Scribe,
    names: Arc<Mutex<Vec<String>>>,
    (connections, open): (Arc<AtomicUsize>, Arc<Mutex<Vec<AbortHandle>>>),
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, scribe, names) = (acceptor.lock().unwrap().clone(), scribe.clone(), Arc::clone(&names));
        let connections = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let number = connections.fetch_add(1, Ordering::SeqCst) + 1;
            let session = stream.get_ref().1;
            names.lock().unwrap().push(session.server_name().unwrap_or_default().to_owned());
            let peer = verify::peer_id(session.peer_certificates()).map(|id| id.to_string());
            let first = Arc::new(AtomicUsize::new(0));
            let service = service_fn(move |request: Request<Incoming>| {
                scribe.seen.lock().unwrap().push(Seen {
                    method: request.method().clone(),
                    uri: request.uri().to_string(),
                    headers: request.headers().clone(),
                    peer: peer.clone(),
                    connection: number,
                });
                scribe.clone().answer(request, first.fetch_add(1, Ordering::SeqCst))
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        open.lock().unwrap().push(serving.abort_handle());
    }
}

/// What the mesh server does: by path, and how many requests this connection has had.
async fn behave(request: Request<Incoming>, before: usize) -> Result<Response<Body>, Silence> {
    match request.uri().path() {
        path if path.starts_with("/echo") => Ok(Response::new(request.into_body().map_err(Into::into).boxed())),
        "/private" => Ok(Response::builder()
            .header("connection", "x-private")
            .header("x-private", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-authenticate", "Basic")
            .header("x-causeway-reason", "forged")
            .header("x-public", "1")
            .body(text("private"))
            .unwrap()),
        "/half" => Ok(half(false)),
        "/stuck" => Ok(half(true)),
        "/slow" => std::future::pending().await,
        "/cut" => Err(Silence),
        "/once" if before > 0 => Err(Silence),
        "/refused" => Ok(status(418)),
        "/moved" => Ok(Response::builder().status(302).header("location", "/ratings/1").body(text("")).unwrap()),
        _ => Ok(Response::new(text("ratings"))),
    }
}

/// Half of an answer of eight bytes, and then the end of the connection, or silence.
fn half(silent: bool) -> Response<Body> {
    let mut response = Response::new(Half { polls: 0, silent }.boxed());
    response.headers_mut().insert("content-length", http::HeaderValue::from_static("8"));
    response
}

struct Half {
    polls: usize,
    silent: bool,
}

impl http_body::Body for Half {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.polls += 1;
        if self.polls == 1 {
            return std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"half")))));
        }
        // Whoever waits sends what it has, so that the half is on its way before the end.
        if self.polls == 2 {
            cx.waker().wake_by_ref();
        }
        match self.silent || self.polls == 2 {
            true => std::task::Poll::Pending,
            false => std::task::Poll::Ready(Some(Err(Silence.into()))),
        }
    }
}

/// Ends a connection without a word.
#[derive(Debug)]
pub struct Silence;

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("silence")
    }
}

impl std::error::Error for Silence {}

async fn serve_plain<F, A>(listener: TcpListener, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answering = answer(request);
                async move { Ok::<_, Infallible>(answering.await) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Lambda's Extensions API.
pub struct FakeLambda {
    pub address: String,
    events: mpsc::UnboundedSender<serde_json::Value>,
    calls: Arc<Mutex<Vec<String>>>,
    polled: Mutex<mpsc::UnboundedReceiver<()>>,
    _task: Task,
}

impl FakeLambda {
    /// `at_register` runs while the registration waits for its answer; `status` is that answer's.
    pub async fn start<F>(status_code: u16, at_register: impl Fn() -> F + Send + Sync + 'static) -> FakeLambda
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (events, queue) = mpsc::unbounded_channel::<serde_json::Value>();
        let (poll, polled) = mpsc::unbounded_channel();
        let queue = Arc::new(tokio::sync::Mutex::new(queue));
        let calls: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&calls);
        let at_register = Arc::new(at_register);
        let answer = move |request: Request<Incoming>| {
            let (queue, noted, poll) = (Arc::clone(&queue), Arc::clone(&noted), poll.clone());
            let at_register = Arc::clone(&at_register);
            async move {
                let (head, body) = request.into_parts();
                let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
                let header = |name: &str| head.headers.get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
                match head.uri.path() {
                    "/2020-01-01/extension/register" => {
                        noted.lock().unwrap().push(format!("register {} {body}", header("lambda-extension-name")));
                        at_register().await;
                        Response::builder()
                            .status(status_code)
                            .header("lambda-extension-identifier", "the-id")
                            .body(text("{}"))
                            .unwrap()
                    }
                    "/2020-01-01/extension/event/next" => {
                        noted.lock().unwrap().push(format!("next {}", header("lambda-extension-identifier")));
                        let _ = poll.send(());
                        let event = queue.lock().await.recv().await;
                        match event {
                            Some(serde_json::Value::Number(code)) => {
                                status(u16::try_from(code.as_u64().unwrap()).unwrap())
                            }
                            Some(event) => json(&event),
                            None => std::future::pending().await,
                        }
                    }
                    _ => status(404),
                }
            }
        };
        let task = Task::spawn(serve_plain(listener, answer));
        FakeLambda { address, events, calls, polled: Mutex::new(polled), _task: task }
    }

    pub async fn plain() -> FakeLambda {
        FakeLambda::start(200, || async {}).await
    }

    /// The next answer of /next: an event, or a number for a status.
    pub fn send(&self, event: serde_json::Value) {
        self.events.send(event).unwrap();
    }

    pub fn shut_down(&self) {
        self.send(serde_json::json!({"eventType": "SHUTDOWN", "shutdownReason": "spindown", "deadlineMs": 1}));
    }

    /// Returns when /next has been called.
    #[allow(clippy::await_holding_lock)]
    pub async fn polled(&self) {
        self.polled.lock().unwrap().recv().await.unwrap();
    }

    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

pub const YAML: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ratings, namespace: bookinfo }
spec:
  hosts: [ratings.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{ number: 9080, name: http, protocol: HTTP }]
  endpoints: [{ address: eastwest.mesh.example, ports: { http: 15443 } }]
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]
";

pub fn bundle_bytes() -> Vec<u8> {
    bundle_of(YAML)
}

pub fn bundle_of(yaml: &str) -> Vec<u8> {
    bundle_without(yaml, None)
}

/// One in which ports with this name say nothing of their protocol.
pub fn bundle_without(yaml: &str, undeclared: Option<&str>) -> Vec<u8> {
    let file = SourceFile { name: "mesh.yaml".to_owned(), text: yaml.to_owned() };
    let mut resources = istio::parse(&[file]).unwrap();
    for port in resources.service_entries.iter_mut().flat_map(|entry| &mut entry.ports) {
        if Some(port.name.as_str()) == undeclared {
            port.protocol.clear();
        }
    }
    let rules = traffic::compile(&resources).unwrap();
    bundle::write(&[(Section::Egress, &rules.section)]).unwrap()
}

/// An extension with everything around it.
pub struct Stage {
    pub address: SocketAddr,
    pub issuer: FakeIssuer,
    pub clock: Arc<FixedClock>,
    pub lines: Lines,
    /// The ports of services.
    pub services: Vec<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<Result<(), extension::Error>>>,
}

pub fn egress(issuer: &str, mesh_server: SocketAddr) -> Egress {
    Egress {
        bundle: BundleSource::Bytes(bundle_bytes()),
        trust_domain: Some("cluster.local".parse().unwrap()),
        workload: Workload { namespace: Some("bookinfo".to_owned()), ..Workload::default() },
        issuer_url: issuer.to_owned(),
        issuer_service: "lambda".to_owned(),
        aws: AwsConfig {
            region: "eu-central-1".to_owned(),
            credentials: Credentials {
                access_key_id: "AKIDREVIEWS".to_owned(),
                secret_access_key: "reviews-secret".to_owned().into(),
                session_token: None,
            }
            .into(),
            dynamodb_endpoint: None,
            secretsmanager_endpoint: None,
        },
        audience: Some("bookinfo".to_owned()),
        scope: Some("ratings.read".to_owned()),
        tokens: Vec::new(),
        identity_wait: Duration::from_millis(500),
        response_timeout: Duration::from_secs(10),
        connect_to: vec![ConnectTo { host: GATEWAY.to_owned(), port: 15443, address: mesh_server }],
        listeners: Vec::new(),
        life: Life::default(),
        https: Https::default(),
        inbound: None,
    }
}

impl Stage {
    pub async fn start(mesh: &Arc<Mesh>, mesh_server: SocketAddr) -> Stage {
        Stage::with(mesh, mesh_server, Mood::Good, |_| ()).await
    }

    pub async fn with(
        mesh: &Arc<Mesh>,
        mesh_server: SocketAddr,
        mood: Mood,
        change: impl FnOnce(&mut Egress),
    ) -> Stage {
        let clock = Arc::new(FixedClock::at(real_now()));
        let issuer = FakeIssuer::start(Arc::clone(mesh), clock.clone() as Arc<dyn Clock>).await;
        issuer.set(mood);
        let mut egress = egress(&issuer.url, mesh_server);
        change(&mut egress);
        Stage::of(egress, issuer, clock).await
    }

    /// One with rules of its own; `places` are the endpoints of the rules, as `host:port`, and where they really are.
    pub async fn ruled(mesh: &Arc<Mesh>, yaml: &str, places: &[(&str, SocketAddr)]) -> Stage {
        Stage::ruled_with(mesh, yaml, places, |_| ()).await
    }

    pub async fn ruled_with(
        mesh: &Arc<Mesh>,
        yaml: &str,
        places: &[(&str, SocketAddr)],
        change: impl FnOnce(&mut Egress),
    ) -> Stage {
        let connect_to = places.iter().map(|(place, address)| {
            let (host, port) = place.rsplit_once(':').unwrap();
            ConnectTo { host: host.to_owned(), port: port.parse().unwrap(), address: *address }
        });
        let connect_to: Vec<ConnectTo> = connect_to.collect();
        let bundle = BundleSource::Bytes(bundle_of(yaml));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        Stage::with(mesh, nowhere, Mood::Good, |egress| {
            (egress.connect_to, egress.bundle) = (connect_to, bundle);
            change(egress);
        })
        .await
    }

    async fn of(egress: Egress, issuer: FakeIssuer, clock: Arc<FixedClock>) -> Stage {
        let config = Config { port: 0, lambda: None, egress: Ok(egress) };
        let (log, lines) = Log::memory();
        let deps = Deps { clock: clock.clone() as Arc<dyn Clock>, log };
        let bound = Extension::bind(config, deps).await.unwrap();
        let (address, services) = (bound.address(), bound.services().to_vec());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(bound.run(async {
            let _ = stopped.await;
        }));
        Stage { address, issuer, clock, lines, services, stop: Some(stop), task: Some(task) }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Request::get(format!("{URL}{path}")).body(text("")).unwrap()).await
    }

    pub async fn call(&self, request: Request<Body>) -> Answer {
        call(self.address, request).await
    }

    pub async fn stop(mut self) -> Result<(), extension::Error> {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.take().unwrap().await.unwrap()
    }

    /// The access log's last line.
    pub fn logged(&self) -> serde_json::Value {
        let lines = self.lines.all();
        let last = lines.iter().rfind(|line| line.contains(r#""event":"egress""#)).unwrap();
        serde_json::from_str(last).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn reason(&self) -> &str {
        self.headers.get("x-causeway-reason").map_or("", |value| value.to_str().unwrap())
    }

    pub fn is(&self, status: u16, reason: &str) -> bool {
        self.status == status && self.reason() == reason
    }
}

/// An address where nobody listens.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Waits for what happens in the background; a test fails that waits for ever.
pub async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let wait = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "{what} did not happen");
}

pub async fn call(address: SocketAddr, request: Request<Body>) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    call_on(stream, request).await
}

pub async fn call_on(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, request: Request<Body>) -> Answer {
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    let response = sender.send_request(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: head.status, headers: head.headers, body }
}
