//! `CAUSEWAY_HTTPS=intercept`: the application's TLS ends at the extension, for services that somebody has named alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use extension::config::Https;
use extension::{BundleSource, Config, Deps, Egress, Extension, LambdaApi};
use http::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use platform::clock::SystemClock;
use platform::log::Log;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// `ratings`, whose https calls take a route of their own, and `db`, which does not speak HTTP.
const RULES: &str = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: ratings, namespace: bookinfo }
spec:
  hosts: [ratings.bookinfo.svc.cluster.local]
  http:
  - name: secure
    match: [{ scheme: { exact: https }, uri: { prefix: / } }]
    headers: { request: { set: { x-seen: '%REQ(:scheme)%' } } }
    route: [{ destination: { host: ratings.bookinfo.svc.cluster.local } }]
  - name: plain
    route: [{ destination: { host: ratings.bookinfo.svc.cluster.local } }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: db, namespace: bookinfo }
spec:
  hosts: [db.bookinfo.svc.cluster.local]
  location: MESH_EXTERNAL
  resolution: DNS
  ports:
  - { number: 5432, name: tcp, protocol: TCP }
  - { number: 5433, name: tls, protocol: TLS }
  - { number: 443, name: https, protocol: HTTPS }
  endpoints: [{ address: db.example }]
";

const ANY: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |-
    outboundTrafficPolicy: { mode: ALLOW_ANY }
";

const TARGET: &str = "ratings.bookinfo.svc.cluster.local:9080";

struct Scene {
    server: MeshServer,
    stage: Stage,
    folder: TempDir,
}

impl Scene {
    /// With these places beside `ratings`.
    async fn with(more: &str, places: &[(&str, SocketAddr)]) -> Scene {
        let mesh = Arc::new(Mesh::new());
        let server = MeshServer::start(&mesh, RATINGS).await;
        let folder = tempfile::tempdir().unwrap();
        let mut all = vec![("eastwest.mesh.example:15443", server.address)];
        all.extend(places);
        let ca_file = folder.path().join("ca.pem");
        let yaml = format!("{YAML}{RULES}{more}");
        let stage = Stage::ruled_with(&mesh, &yaml, &all, |egress| {
            egress.https = Https::Intercept { ca_file };
            egress.bundle = BundleSource::Bytes(bundle_without(&yaml, Some("web")));
        })
        .await;
        Scene { server, stage, folder }
    }

    async fn start() -> Scene {
        Scene::with("", &[]).await
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    async fn secure(&self, target: &str, name: &str, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = tunnel(self.stage.address, target).await.unwrap();
        speak_tls(stream, &self.ca_file(), name, alpn).await
    }

    async fn logged_with(&self, what: &str) -> serde_json::Value {
        let find = || self.stage.lines.all().into_iter().rfind(|line| line.contains(what));
        until(what, || find().is_some()).await;
        serde_json::from_str(&find().unwrap()).unwrap()
    }
}

/// A tunnel, or the answer that there is none.
async fn tunnel(proxy: SocketAddr, target: &str) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    if head.starts_with("HTTP/1.1 200 ") { Ok(stream) } else { Err(head) }
}

async fn speak_tls(
    stream: TcpStream,
    roots: &Path,
    name: &str,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(roots).unwrap() {
        store.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config)).connect(name.to_owned().try_into().unwrap(), stream).await
}

fn get(path: &str, host: &str) -> Request<Body> {
    Request::get(path).header("host", host).body(text("")).unwrap()
}

#[tokio::test]
async fn requests_in_tls_are_routed_as_https() {
    let scene = Scene::start().await;
    for alpn in [&["http/1.1"][..], &[]] {
        let stream = scene.secure(TARGET, HOST, alpn).await.unwrap();
        assert_eq!(call_on(stream, get("/ratings/1", TARGET)).await.body, "ratings");
    }
    let stream = scene.secure(TARGET, HOST, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, driver) = opened.unwrap();
    tokio::spawn(driver);
    let request = Request::get(format!("https://{TARGET}/ratings/2")).version(Version::HTTP_2);
    assert_eq!(sender.send_request(request.body(text("")).unwrap()).await.unwrap().status(), 200);
    // The short names of the mesh, as `View::find` has them.
    let stream = scene.secure("ratings:9080", "ratings", &[]).await.unwrap();
    assert_eq!(call_on(stream, get("/ratings/3", "ratings:9080")).await.body, "ratings");

    let seen = scene.server.seen();
    assert_eq!(seen.len(), 4);
    for seen in &seen {
        assert_eq!(seen.peer.as_deref(), Some(REVIEWS));
        assert_eq!(
            (&seen.headers["authorization"], &seen.headers["x-seen"], &seen.headers["x-forwarded-proto"]),
            (&"Bearer token-1".parse().unwrap(), &"https".parse().unwrap(), &"https".parse().unwrap())
        );
    }
    assert_eq!(scene.logged_with("/ratings/3").await["route_name"], "secure");
    // Without TLS the same service has the other route.
    assert_eq!(scene.stage.get("/ratings/4").await.body, "ratings");
    assert!(!scene.server.seen()[4].headers.contains_key("x-seen"));
    assert_eq!(scene.stage.logged()["route_name"], "plain");
}

#[tokio::test]
async fn a_websocket_in_tls_asks_the_service_as_any_other() {
    let scene = Scene::start().await;
    let stream = scene.secure(TARGET, HOST, &["http/1.1"]).await.unwrap();
    let request = Request::get("/chat").header("host", TARGET).header("connection", "upgrade");
    let request = request.header("upgrade", "websocket").body(text("")).unwrap();
    // This service has no use for it, and says so.
    assert_eq!(call_on(stream, request).await.body, "ratings");
    assert_eq!(scene.server.seen()[0].headers["upgrade"], "websocket");
}

#[tokio::test]
async fn a_certificate_is_for_one_host_and_so_are_the_requests() {
    let scene = Scene::start().await;
    for (host, expected) in [
        (TARGET, 200),
        ("RATINGS.bookinfo.svc.cluster.local.", 200),
        (HOST, 200),
        ("reviews:9080", 400),
        ("ratings.bookinfo.svc.cluster.local:80", 400),
    ] {
        let stream = scene.secure(TARGET, HOST, &[]).await.unwrap();
        let answer = call_on(stream, get("/ratings/1", host)).await;
        assert_eq!(answer.status, expected, "{host}: {answer:?}");
        assert_eq!(answer.reason(), if expected == 200 { "" } else { "request_invalid" }, "{host}");
    }
    let stream = scene.secure(TARGET, HOST, &[]).await.unwrap();
    let answer = call_on(stream, get(&format!("http://{TARGET}/"), TARGET)).await;
    assert!(answer.is(400, "request_invalid"), "{answer:?}");
    // Another name in TLS than in the tunnel.
    let refused = scene.secure(TARGET, "db.bookinfo.svc.cluster.local", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    let line = scene.logged_with("https_unsupported").await;
    assert!(line["detail"].as_str().unwrap().contains("db.bookinfo"), "{line}");
    assert_eq!(scene.server.count(), 3);
}

#[tokio::test]
async fn an_application_that_trusts_somebody_else_is_said_in_the_log() {
    let scene = Scene::start().await;
    let other = scene.folder.path().join("other.pem");
    std::fs::write(&other, Mesh::new().root_pem()).unwrap();
    let stream = tunnel(scene.stage.address, TARGET).await.unwrap();
    assert!(speak_tls(stream, &other, HOST, &[]).await.is_err());
    let line = scene.logged_with("https_unsupported").await;
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("ca.pem") && detail.contains(HOST) && detail.contains("UnknownCA"), "{detail}");
    let mut stream = tunnel(scene.stage.address, TARGET).await.unwrap();
    stream.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(scene.server.connections(), 0);
}

/// A server with a certificate of its own that answers every connection with `secret`.
async fn stranger(name: &str) -> (SocketAddr, String, Task) {
    let mesh = Mesh::new();
    let mut parameters = params(REVIEWS);
    parameters.subject_alt_names = vec![rcgen::SanType::DnsName(name.to_owned().try_into().unwrap())];
    let (certificate, key) = mesh.certificate(parameters);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let task = Task::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.write_all(b"secret").await;
            let _ = stream.shutdown().await;
        }
    });
    (address, mesh.root_pem().to_owned(), task)
}

#[tokio::test]
async fn hosts_that_nobody_names_are_never_read() {
    let refusing = Scene::start().await;
    let refused = tunnel(refusing.stage.address, "outside.example:443").await.unwrap_err();
    assert!(refused.contains("x-causeway-reason: unknown_host"), "{refused}");

    // The application sees the server's own certificate, and our authority is not asked.
    let (outside, outside_root, _task) = stranger("outside.example").await;
    let (db, db_root, _task) = stranger("db.bookinfo.svc.cluster.local").await;
    let mut places = vec![("outside.example:443", outside)];
    places.extend(["db.example:5432", "db.example:5433", "db.example:443"].map(|place| (place, db)));
    let allowing = Scene::with(ANY, &places).await;
    // A port without HTTP, though named, is not read either.
    let ports = ["5432", "5433", "443"].map(|port| format!("db.bookinfo.svc.cluster.local:{port}"));
    let ports = ports.iter().map(|target| (target.as_str(), "db.bookinfo.svc.cluster.local", &db_root));
    for (target, name, root) in ports.chain([("outside.example:443", "outside.example", &outside_root)]) {
        let roots = allowing.folder.path().join("root.pem");
        std::fs::write(&roots, root).unwrap();
        let stream = tunnel(allowing.stage.address, target).await.unwrap();
        let mut stream = speak_tls(stream, &roots, name, &[]).await.unwrap();
        let mut read = String::new();
        stream.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "secret", "{target}");
    }
}

/// What the application has encrypted goes on encrypted, or not at all.
#[tokio::test]
async fn https_never_goes_on_in_plaintext() {
    let rules = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: partner, namespace: bookinfo }
spec:
  hosts: [api.partner.example]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{ number: 443, name: web, protocol: HTTP }, { number: 8443, name: http, protocol: HTTP }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: plain, namespace: bookinfo }
spec:
  hosts: [plain.partner.example]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{ number: 80, name: http, protocol: HTTP }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: shop, namespace: bookinfo }
spec:
  hosts: [shop.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{ number: 9080, name: http, protocol: HTTP }]
  endpoints: [{ address: eastwest.mesh.example, ports: { http: 15443 } }]
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop, namespace: bookinfo }
spec:
  hosts: [shop.bookinfo.svc.cluster.local]
  http:
  - match: [{ uri: { prefix: /out } }]
    route: [{ destination: { host: plain.partner.example, port: { number: 80 } } }]
  - route: [{ destination: { host: shop.bookinfo.svc.cluster.local } }]
    mirrors: [{ destination: { host: plain.partner.example, port: { number: 80 } } }]
";
    let (partner, root, _task) = stranger("api.partner.example").await;
    let plain = PlainServer::start().await;
    let places = [
        ("api.partner.example:443", partner),
        ("api.partner.example:8443", plain.address),
        ("plain.partner.example:80", plain.address),
    ];
    let scene = Scene::with(rules, &places).await;
    // A port without a declared protocol: the application's TLS is the partner's, as beside a sidecar of Istio.
    let roots = scene.folder.path().join("root.pem");
    std::fs::write(&roots, root).unwrap();
    let stream = tunnel(scene.stage.address, "api.partner.example:443").await.unwrap();
    let mut stream = speak_tls(stream, &roots, "api.partner.example", &[]).await.unwrap();
    let mut read = String::new();
    stream.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "secret");
    // One that is declared to be HTTP.
    let refused = scene.secure("api.partner.example:8443", "api.partner.example", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    let line = scene.logged_with("https_unsupported").await;
    assert!(line["detail"].as_str().unwrap().contains("in the clear"), "{line}");

    let (target, name) = ("shop.bookinfo.svc.cluster.local:9080", "shop.bookinfo.svc.cluster.local");
    let stream = scene.secure(target, name, &[]).await.unwrap();
    let answer = call_on(stream, get("/out", target)).await;
    assert!(answer.is(403, "destination_forbidden") && answer.body.contains("plain.partner"), "{answer:?}");
    let stream = scene.secure(target, name, &[]).await.unwrap();
    assert_eq!(call_on(stream, get("/in?secure", target)).await.status, 200);
    // Without TLS the copy goes out, and it is the first one.
    let request = Request::get(format!("http://{target}/in?clear")).body(text("")).unwrap();
    assert_eq!(scene.stage.call(request).await.status, 200);
    until("the copy", || !plain.seen().is_empty()).await;
    assert_eq!(plain.seen()[0].uri, "/in?clear");
}

fn config(egress: Egress, lambda: Option<LambdaApi>) -> Config {
    Config { port: 0, lambda, egress: Ok(egress) }
}

async fn intercepting(ca_file: PathBuf) -> Egress {
    let mut egress = egress("http://127.0.0.1:1", nobody().await);
    egress.bundle = BundleSource::Bytes(bundle_of(YAML));
    egress.https = Https::Intercept { ca_file };
    egress
}

fn api(lambda: &FakeLambda, snap_start: bool) -> LambdaApi {
    LambdaApi { address: lambda.address.clone(), name: "causeway".to_owned(), managed: false, snap_start }
}

#[tokio::test]
async fn the_certificate_is_there_before_the_functions_runtime_starts() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let (watched, (found, mut finds)) = (ca_file.clone(), tokio::sync::mpsc::unbounded_channel());
    // Lambda starts the runtime once the registration has its answer.
    let lambda = FakeLambda::start(200, move || {
        let _ = found.send(std::fs::read_to_string(&watched).unwrap_or_default());
        async {}
    })
    .await;
    let (log, lines) = Log::memory();
    let deps = Deps { clock: Arc::new(SystemClock), log };
    let bound = Extension::bind(config(intercepting(ca_file).await, Some(api(&lambda, false))), deps).await.unwrap();
    let _task = Task::spawn(async {
        bound.run(std::future::pending()).await.unwrap();
    });
    let pem = finds.recv().await.unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----") && !pem.contains("PRIVATE"), "{pem}");
    let line = lines.all().into_iter().find(|line| line.contains(r#""event":"https""#)).unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let life = line["not_after"].as_u64().unwrap() - real_now();
    assert!((29 * 86_400..=30 * 86_400).contains(&life), "{line}");
}

#[tokio::test]
async fn there_is_no_authority_in_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let lambda = FakeLambda::plain().await;
    let egress = intercepting(ca_file.clone()).await;
    let bound = Extension::bind(config(egress, Some(api(&lambda, true))), Deps::system()).await.unwrap();
    let address = bound.address();
    let _task = Task::spawn(async {
        bound.run(std::future::pending()).await.unwrap();
    });
    let answer = call(address, get(&format!("{URL}/"), "x")).await;
    assert!(answer.is(503, "configuration_invalid") && answer.body.contains("SnapStart"), "{answer:?}");
    assert!(!ca_file.exists());
}

#[tokio::test]
async fn a_certificate_that_cannot_be_written_is_a_wrong_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("not/there.pem");
    let refused = Extension::bind(config(intercepting(nowhere.clone()).await, None), Deps::system()).await;
    let said = refused.err().unwrap().to_string();
    assert!(said.contains("CAUSEWAY_CA_FILE") && said.contains("there.pem"), "{said}");
    // A function lives on.
    let lambda = FakeLambda::plain().await;
    let config = config(intercepting(nowhere).await, Some(api(&lambda, false)));
    let bound = Extension::bind(config, Deps::system()).await.unwrap();
    let address = bound.address();
    let _task = Task::spawn(async {
        bound.run(std::future::pending()).await.unwrap();
    });
    let answer = call(address, get(&format!("{URL}/"), "x")).await;
    assert!(answer.is(503, "configuration_invalid") && answer.body.contains("CAUSEWAY_CA_FILE"), "{answer:?}");
    let refused = tunnel(address, TARGET).await.unwrap_err();
    assert!(refused.contains("configuration_invalid"), "{refused}");
}

#[tokio::test]
async fn two_starts_have_two_authorities() {
    let (one, other) = (Scene::start().await, Scene::start().await);
    let stream = tunnel(one.stage.address, TARGET).await.unwrap();
    assert!(speak_tls(stream, &other.ca_file(), HOST, &[]).await.is_err());
}
