//! A sidecar with an application behind it, and callers in front of it.
#![allow(dead_code, missing_docs, unreachable_pub, unused_imports)]

mod app;
mod signer;
mod stores;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use extension::config::{Inbound, InboundPort};
use extension::{BundleSource, Config, Deps, Extension};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::Leaf;
use identity::verify::SpiffeServerVerifier;
use istio::SourceFile;
use platform::bundle::{self, Section};
use platform::clock::{Clock, FixedClock};
use platform::jwks::JwksSettings;
use platform::log::{Lines, Log};
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::*;

pub use app::App;
pub use signer::{ISSUER, Signer};
pub use stores::{Published, Stores};

/// No test waits that long.
const LONG: Duration = Duration::from_secs(30);

/// What callers offer to an Istio sidecar.
const ISTIO: &[&str] = &["istio-http/1.1", "istio", "http/1.1"];

/// The policies of the workload; `APPLICATION_PORT` is its port.
pub const POLICIES: &str = "
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    trustDomain: cluster.local
    extensionProviders:
    - name: other
      envoyExtAuthzGrpc: {service: other.example, port: 9000}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allowed, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: reviews}}
  rules:
  - to: [{operation: {paths: [/public, /once]}}]
  - from: [{source: {principals: [cluster.local/ns/bookinfo/sa/bookinfo-productpage]}}]
    to: [{operation: {paths: [/known, /admin*, /echo, /ws, /slow, /custom]}}]
  - from: [{source: {namespaces: [friends]}}]
    to: [{operation: {paths: [/friends]}}]
  - from: [{source: {requestPrincipals: ['https://issuer.example/*']}}]
    to: [{operation: {paths: [/token]}}]
  - to: [{operation: {paths: [/port], ports: ['APPLICATION_PORT']}}]
  - to: [{operation: {paths: [/other-port], ports: ['1']}}]
  - to: [{operation: {paths: [/by-header]}}]
    when: [{key: 'request.headers[x-causeway-principal]', values: [admin]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: denied, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: reviews}}
  action: DENY
  rules: [{to: [{operation: {paths: [/admin*]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: asked, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: reviews}}
  action: CUSTOM
  provider: {name: other}
  rules: [{to: [{operation: {paths: [/custom]}}]}]
";

/// The sidecar.
pub struct Side {
    pub mesh: Arc<Mesh>,
    pub issuer: FakeIssuer,
    pub clock: Arc<FixedClock>,
    pub lines: Lines,
    /// Where others call.
    pub address: SocketAddr,
    health: SocketAddr,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    task: Mutex<Option<JoinHandle<Result<(), extension::Error>>>>,
    no_more: Arc<AtomicBool>,
}

fn config(app: &App, issuer: &str, bundle: Vec<u8>, change: impl FnOnce(&mut Inbound)) -> Config {
    let mut inbound = Inbound {
        ports: vec![InboundPort { port: 0, application: app.address, h2c: false }],
        listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        health_port: 0,
        drain_accept: Duration::ZERO,
        drain: Duration::from_secs(10),
        api_keys: None,
        jwks: JwksSettings::default(),
        revocations: None,
    };
    change(&mut inbound);
    let mut egress = egress(issuer, app.address);
    egress.bundle = BundleSource::Bytes(bundle);
    egress.workload.labels = vec![("app".to_owned(), "reviews".to_owned())];
    egress.inbound = Some(inbound);
    egress.life.environment = Some("dev".to_owned());
    egress.life.metrics = extension::config::Metrics::Prometheus(0);
    Config { port: 0, lambda: None, egress: Ok(egress) }
}

fn bundle(app: &App, documents: &str) -> Vec<u8> {
    let documents = documents.replace("APPLICATION_PORT", &app.address.port().to_string());
    let file = SourceFile { name: "mesh.yaml".to_owned(), text: format!("{YAML}{documents}") };
    let resources = istio::parse(&[file]).unwrap_or_else(|errors| panic!("{errors:?}"));
    let rules = traffic::compile(&resources).unwrap();
    let policies = authz::compile(&resources, &authz::CompileOptions::default()).unwrap_or_else(|e| panic!("{e:?}"));
    bundle::write(&[(Section::Access, &policies.section), (Section::Egress, &rules.section)]).unwrap()
}

impl Side {
    pub async fn start(app: &App, documents: &str, change: impl FnOnce(&mut Inbound)) -> Side {
        let side = Side::in_mood(app, documents, Mood::Good, change).await;
        side.ready().await;
        side
    }

    pub async fn in_mood(app: &App, documents: &str, mood: Mood, change: impl FnOnce(&mut Inbound)) -> Side {
        Side::with(app, documents, mood, change, |_| ()).await
    }

    /// One that is said to be of this namespace.
    pub async fn in_namespace(app: &App, documents: &str, namespace: &str) -> Side {
        let namespace = Some(namespace.to_owned());
        Side::with(app, documents, Mood::Good, |_| (), |egress| egress.workload.namespace = namespace).await
    }

    async fn with(
        app: &App,
        documents: &str,
        mood: Mood,
        change: impl FnOnce(&mut Inbound),
        change_all: impl FnOnce(&mut extension::Egress),
    ) -> Side {
        let mesh = Arc::new(Mesh::new());
        let clock = Arc::new(FixedClock::at(real_now()));
        let issuer = FakeIssuer::start(Arc::clone(&mesh), clock.clone() as Arc<dyn Clock>).await;
        issuer.set(mood);
        let (log, lines) = Log::memory();
        let mut config = config(app, &issuer.url, bundle(app, documents), change);
        change_all(config.egress.as_mut().unwrap());
        let deps = Deps { clock: clock.clone(), log };
        let bound = Extension::bind(config, deps).await.unwrap_or_else(|error| panic!("{error}"));
        let (address, health) = (bound.inbound()[0], bound.health().unwrap());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(bound.run(async {
            let _ = stopped.await;
        }));
        let (stop, task) = (Mutex::new(Some(stop)), Mutex::new(Some(task)));
        Side { mesh, issuer, clock, lines, address, health, stop, task, no_more: Arc::default() }
    }

    /// Why one does not start.
    pub async fn refused(app: &App, documents: &str, label: Option<(&str, &str)>) -> String {
        let mut config = config(app, "http://127.0.0.1:1", bundle(app, documents), |_| ());
        if let (Some((name, value)), Ok(egress)) = (label, &mut config.egress) {
            egress.workload.labels = vec![(name.to_owned(), value.to_owned())];
        }
        Side::error(config).await
    }

    /// The same with a bundle that is for callers alone.
    pub async fn without_policies(app: &App) -> String {
        Side::error(config(app, "http://127.0.0.1:1", bundle_bytes(), |_| ())).await
    }

    async fn error(config: Config) -> String {
        let clock = Arc::new(FixedClock::at(real_now()));
        let bound = Extension::bind(config, Deps { clock, log: Log::memory().0 }).await;
        let error = bound.err().expect("it must not start");
        assert_eq!(error.exit_status(), 64, "{error}");
        error.to_string()
    }

    pub async fn plain(&self, request: Request<Body>) -> Result<Answer, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        over_http1(stream, request).await
    }

    pub async fn secure(&self, id: &str, request: Request<Body>) -> Result<Answer, String> {
        self.shown(Some(self.mesh.certificate(params(id))), ISTIO, request).await
    }

    /// As a caller that shows this certificate and offers these names.
    pub async fn shown(
        &self,
        client: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        alpn: &[&str],
        request: Request<Body>,
    ) -> Result<Answer, String> {
        over_http1(self.calls("").connect(client, alpn).await?, request).await
    }

    /// The same in HTTP/2; trailers are headers that begin with `trailer-`.
    pub async fn shown_http2(
        &self,
        client: (CertificateDer<'static>, PrivateKeyDer<'static>),
        alpn: &[&str],
        request: Request<Body>,
    ) -> Result<Answer, String> {
        let stream = self.calls("").connect(Some(client), alpn).await?;
        let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, driver) = opened.map_err(|error| error.to_string())?;
        tokio::spawn(driver);
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        whole(response).await
    }

    /// Bytes as they are; the head of the answer, and what came with it.
    pub async fn raw(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = tokio::time::timeout(LONG, stream.read_buf(&mut answer)).await.unwrap();
            if read.unwrap_or(0) == 0 {
                break;
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Switches to a WebSocket, says something, and hears the answer; where nothing is switched, the status.
    pub async fn switched(&self, id: &str, path: &str, said: &str) -> String {
        let stream = self.calls(id).connect(Some(self.mesh.certificate(params(id))), ISTIO).await.unwrap();
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(driver.with_upgrades());
        let request = Request::get(path).header("host", "reviews").header("connection", "Upgrade");
        let request = request.header("upgrade", "websocket").body(text("")).unwrap();
        let response = sender.send_request(request).await.unwrap();
        if response.status() != 101 {
            return response.status().as_str().to_owned();
        }
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        heard
    }

    /// A connection that is kept.
    pub async fn kept(&self, id: &str) -> Kept {
        let stream = self.calls(id).connect(Some(self.mesh.certificate(params(id))), ISTIO).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let serial = Leaf::parse(&shown).unwrap().serial_hex;
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(driver);
        Kept { sender, serial }
    }

    /// What Prometheus reads.
    pub async fn metrics(&self) -> String {
        let address = self.events("metrics_listening")[0]["address"].as_str().unwrap().to_owned();
        let request = Request::get("/metrics").header("host", "a").body(text("")).unwrap();
        over_http1(TcpStream::connect(address).await.unwrap(), request).await.unwrap().body
    }

    pub fn calls(&self, id: &str) -> Calls {
        let (mesh, id, no_more) = (Arc::clone(&self.mesh), id.to_owned(), Arc::clone(&self.no_more));
        Calls { mesh, address: self.address, id, no_more }
    }

    pub async fn health(&self) -> (u16, String) {
        let request = Request::get("/healthz/ready").header("host", "a").body(text("")).unwrap();
        let answer = over_http1(TcpStream::connect(self.health).await.unwrap(), request).await.unwrap();
        (answer.status.as_u16(), answer.body)
    }

    pub async fn ready(&self) {
        self.healthy(200).await;
    }

    pub async fn draining(&self) {
        self.healthy(503).await;
        assert_eq!(self.health().await, (503, "draining\n".to_owned()));
    }

    async fn healthy(&self, status: u16) {
        self.asked(&format!("{status}"), |said| said.0 == status).await;
    }

    /// Returns when the health check says this.
    pub async fn says(&self, word: &str) {
        self.asked(word, |said| said.1 == format!("{word}\n")).await;
    }

    async fn asked(&self, expected: &str, is_it: impl Fn(&(u16, String)) -> bool) {
        let asked = async {
            while !is_it(&self.health().await) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(LONG, asked).await.is_ok(), "the health check never said {expected}");
    }

    /// SIGTERM.
    pub fn stop(&self) {
        self.stop.lock().unwrap().take().unwrap().send(()).unwrap();
    }

    pub fn no_more_load(&self) {
        self.no_more.store(true, Ordering::SeqCst);
    }

    pub fn has_ended(&self) -> bool {
        self.task.lock().unwrap().as_ref().unwrap().is_finished()
    }

    pub async fn ended(&self) {
        let task = self.task.lock().unwrap().take().unwrap();
        tokio::time::timeout(LONG, task).await.unwrap().unwrap().unwrap();
    }

    /// The log's lines of one kind.
    pub fn events(&self, event: &str) -> Vec<serde_json::Value> {
        let lines = self.lines.all();
        let lines = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["event"] == event).collect()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap().take() {
            task.abort();
        }
    }
}

pub struct Kept {
    sender: hyper::client::conn::http1::SendRequest<Body>,
    /// Of the certificate that the sidecar has shown.
    pub serial: String,
}

impl Kept {
    /// The status, or nothing where the connection has ended.
    pub async fn try_get(&mut self, path: &str) -> Option<u16> {
        let request = Request::get(path).header("host", "reviews").body(text("")).unwrap();
        self.sender.send_request(request).await.ok().map(|response| response.status().as_u16())
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub async fn get(&mut self, path: &str) -> u16 {
        let request = Request::get(path).header("host", "reviews").body(text("")).unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        self.sender.ready().await.unwrap();
        status
    }
}

/// Somebody who calls, in a task of its own.
#[derive(Clone)]
pub struct Calls {
    mesh: Arc<Mesh>,
    address: SocketAddr,
    id: String,
    no_more: Arc<AtomicBool>,
}

impl Calls {
    pub async fn connect(
        &self,
        client: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        alpn: &[&str],
    ) -> Result<TlsStream<TcpStream>, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = SpiffeServerVerifier::new(self.mesh.bundle(), vec![REVIEWS.parse().unwrap()]);
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match client {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        let name = "outbound_.9080_._.reviews.bookinfo.svc.cluster.local".try_into().unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| error.to_string())
    }

    async fn opened(&self, alpn: &[&str]) -> Result<TlsStream<TcpStream>, String> {
        self.connect(Some(self.mesh.certificate(params(&self.id))), alpn).await
    }

    pub async fn once(self, path: &'static str) -> Result<u16, String> {
        let request = Request::get(path).header("host", "reviews").body(text("")).unwrap();
        over_http1(self.opened(ISTIO).await?, request).await.map(|answer| answer.status.as_u16())
    }

    /// Calls until there is to be no more load: how many were answered, and what went wrong.
    pub async fn again_and_again(self, http2: bool) -> (usize, Vec<String>) {
        let (mut done, mut failed) = (0, Vec::new());
        while !self.no_more.load(Ordering::SeqCst) {
            let ended = match http2 {
                true => self.over_one_http2(&mut done).await,
                false => self.over_one_http1(&mut done).await,
            };
            if let Err(error) = ended {
                failed.push(error);
            }
        }
        (done, failed)
    }

    /// Until the connection is to be closed.
    async fn over_one_http1(&self, done: &mut usize) -> Result<(), String> {
        let stream = self.opened(ISTIO).await?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(driver);
        while !self.no_more.load(Ordering::SeqCst) {
            let request = Request::get("/known").header("host", "reviews").body(text("")).unwrap();
            let response = sender.send_request(request).await.map_err(|error| format!("{error:?}"))?;
            let closes = response.headers().get("connection").is_some_and(|value| value == "close");
            let answer = whole(response).await?;
            if answer.status != 200 {
                return Err(format!("{answer:?}"));
            }
            *done += 1;
            if closes || sender.ready().await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn over_one_http2(&self, done: &mut usize) -> Result<(), String> {
        let stream = self.opened(&["istio-h2", "istio", "h2"]).await?;
        let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, driver) = opened.map_err(|error| error.to_string())?;
        tokio::spawn(driver);
        while !self.no_more.load(Ordering::SeqCst) {
            let request = Request::get("http://reviews.bookinfo:9080/known").body(text("")).unwrap();
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                // GOAWAY: it was not sent.
                Err(mut error) => {
                    let unsent = error.take_message().is_some();
                    return if unsent { Ok(()) } else { Err(format!("{:?}", error.into_error())) };
                }
            };
            let answer = whole(response).await?;
            if answer.status != 200 {
                return Err(format!("{answer:?}"));
            }
            *done += 1;
        }
        Ok(())
    }
}

async fn over_http1(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> Result<Answer, String> {
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(driver);
    let response = tokio::time::timeout(LONG, sender.send_request(request)).await.expect("an answer in time");
    whole(response.map_err(|error| error.to_string())?).await
}

async fn whole(response: Response<Incoming>) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?;
    let mut headers = head.headers;
    for (name, value) in body.trailers().into_iter().flatten() {
        let name = format!("trailer-{name}");
        headers.insert(http::HeaderName::try_from(name).unwrap(), value.clone());
    }
    let body = String::from_utf8(body.to_bytes().to_vec()).map_err(|error| error.to_string())?;
    Ok(Answer { status: head.status, headers, body })
}
