//! The world around the way to a service: a mesh CA and servers of both protocols.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::{Credentials, Store, Svid, TrustBundle, tls, verify};
use platform::clock::{Clock, FixedClock};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use traffic::table::IstioMutual;
pub(super) use traffic::table::{Cluster, Pool, Protocol, Tls};

use super::super::*;
pub(super) use super::scripts::{says, script};
use crate::body::BoxError;

pub(super) const REVIEWS: &str = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews";
pub(super) const RATINGS: &str = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings";
pub(super) const SNI: &str = "outbound_.9080_._.ratings.bookinfo.svc.cluster.local";
pub(super) const LIFE: u64 = 3_600;
/// Long enough for anything that comes at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

pub(super) fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn at(unix: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(unix).unwrap()).unwrap()
}

/// A certificate authority, in the present: in a handshake the TLS library asks the real clock.
pub(super) struct Mesh {
    pub(super) root: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Mesh {
    pub(super) fn new() -> Mesh {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "mesh root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = at(now() - 86_400);
        params.not_after = at(now() + 86_400);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        Mesh { root, issuer: Issuer::new(params, key) }
    }

    pub(super) fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem("cluster.local".parse().unwrap(), self.root.as_bytes()).unwrap()
    }

    pub(super) fn leaf(&self, name: SanType) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![name];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = at(now() - 60);
        params.not_after = at(now() + LIFE);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    pub(super) fn svid(&self, id: &str) -> Svid {
        let (certificate, key) = self.leaf(SanType::URI(id.try_into().unwrap()));
        Svid::from_der(vec![certificate], key).unwrap()
    }

    /// A mesh server, whose choice of the offered protocols is none of our business.
    pub(super) fn server(&self, id: &str) -> Arc<ServerConfig> {
        let alpn = ["istio-http/1.1", "istio-h2", "istio-peer-exchange"];
        tls::server_config(&self.svid(id), &self.bundle(), &alpn).unwrap()
    }

    /// A server outside of the mesh.
    pub(super) fn outside(&self, name: &str, alpn: &[&str]) -> Arc<ServerConfig> {
        let (certificate, key) = self.leaf(SanType::DnsName(name.try_into().unwrap()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A caller in the mesh.
pub(super) struct World {
    pub(super) mesh: Mesh,
    pub(super) clock: Arc<FixedClock>,
    pub(super) upstream: Arc<Upstream>,
    store: Store,
    credentials: Mutex<Arc<Credentials>>,
}

impl World {
    pub(super) fn new() -> World {
        World::with(PATIENCE)
    }

    pub(super) fn with(response_timeout: Duration) -> World {
        let mesh = Mesh::new();
        let clock = Arc::new(FixedClock::at(now()));
        let upstream = Arc::new(Upstream::new(clock.clone() as Arc<dyn Clock>, response_timeout));
        let store = Store::new();
        let credentials = Mutex::new(store.publish(mesh.svid(REVIEWS), mesh.bundle(), now()).unwrap());
        World { mesh, clock, upstream, store, credentials }
    }

    /// A new SVID.
    pub(super) fn renew(&self) {
        let renewed = self.store.publish(self.mesh.svid(REVIEWS), self.mesh.bundle(), now()).unwrap();
        *self.credentials.lock().unwrap() = renewed;
    }

    pub(super) fn hop(&self, address: SocketAddr, protocol: Protocol) -> Hop {
        self.limited(address, protocol, Pool::default())
    }

    pub(super) fn limited(&self, address: SocketAddr, protocol: Protocol, pool: Pool) -> Hop {
        let mutual = IstioMutual { sni: SNI.to_owned(), expected: vec![RATINGS.to_owned()] };
        let cluster =
            Cluster { host: "ratings".into(), protocol, tls: Tls::IstioMutual(mutual), pool, ..Cluster::default() };
        Hop {
            cluster: Arc::new(cluster),
            index: 0,
            address,
            endpoint: address.to_string().into(),
            credentials: Some(Arc::clone(&self.credentials.lock().unwrap())),
            server_name: "ratings".to_owned(),
            http2: false,
            patience: None,
        }
    }

    pub(super) async fn get(&self, hop: &Hop, path: &str) -> Result<Answer, Failed> {
        self.call(hop, get(path)).await
    }

    /// Sends it, as a caller does that has no other copy of it than this one.
    pub(super) async fn send_once(&self, hop: &Hop, request: Request<Upload>) -> Result<Exchange, Failed> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let headers = request.headers().clone();
        let again = || {
            let mut again = Request::new(Upload::Empty);
            (*again.method_mut(), *again.uri_mut()) = (method.clone(), uri.clone());
            *again.headers_mut() = headers.clone();
            again
        };
        self.upstream.send(hop, request, &again).await
    }

    pub(super) async fn call(&self, hop: &Hop, request: Request<Upload>) -> Result<Answer, Failed> {
        let exchange = tokio::time::timeout(2 * PATIENCE, self.send_once(hop, request)).await.expect("an answer")?;
        Ok(Answer::read(exchange).await)
    }
}

pub(super) fn get(path: &str) -> Request<Upload> {
    Request::get(path).header("host", "ratings:9080").body(Upload::Empty).unwrap()
}

pub(super) fn post(path: &str, body: Upload) -> Request<Upload> {
    Request::post(path).header("host", "ratings:9080").body(body).unwrap()
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) reused: bool,
    pub(super) peer: Option<String>,
}

impl Answer {
    pub(super) async fn read(exchange: Exchange) -> Answer {
        let (status, reused) = (exchange.response.status().as_u16(), exchange.reused);
        let whole = exchange.response.into_body().collect().await.unwrap();
        let trailers = whole.trailers().cloned();
        let body = String::from_utf8(whole.to_bytes().to_vec()).unwrap();
        Answer { status, body, trailers, reused, peer: exchange.peer.map(|peer| peer.to_string()) }
    }
}

/// What the server saw of a request.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) connection: usize,
    pub(super) uri: String,
    pub(super) headers: HeaderMap,
    pub(super) client: Option<String>,
}

/// Server name and chosen protocol of a connection.
type Hello = (Option<String>, Option<String>);

/// A server; what it does depends on the path.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
    hellos: Arc<Mutex<Vec<Hello>>>,
    /// One for each request to `/wait`.
    pub(super) release: Arc<tokio::sync::Semaphore>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(config: Option<Arc<ServerConfig>>, http2: bool) -> Server {
        Server::with_streams(config, http2, None).await
    }

    /// With a limit of streams in its SETTINGS.
    pub(super) async fn with_streams(config: Option<Arc<ServerConfig>>, http2: bool, streams: Option<u32>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, seen) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<Seen>>>::default());
        let hellos = Arc::<Mutex<Vec<Hello>>>::default();
        let release = Arc::new(tokio::sync::Semaphore::new(0));
        let parts = (Arc::clone(&connections), Arc::clone(&seen), Arc::clone(&hellos), Arc::clone(&release));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let ((connections, seen, hellos, release), config) = (parts.clone(), config.clone());
                tokio::spawn(async move {
                    let number = connections.fetch_add(1, Ordering::SeqCst) + 1;
                    let Some(config) = config else {
                        let service = Service { number, client: None, seen, release, before: Arc::default() };
                        return service.serve(stream, http2, streams).await;
                    };
                    let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
                    let session = stream.get_ref().1;
                    let alpn = session.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap());
                    hellos.lock().unwrap().push((session.server_name().map(str::to_owned), alpn));
                    let client = verify::peer_id(session.peer_certificates()).map(|id| id.to_string());
                    let service = Service { number, client, seen, release, before: Arc::default() };
                    service.serve(stream, http2, streams).await;
                });
            }
        });
        Server { address, connections, seen, hellos, release, task }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Which connection each request came on.
    pub(super) fn used(&self) -> Vec<usize> {
        self.seen().iter().map(|seen| seen.connection).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn hellos(&self) -> Vec<Hello> {
        self.hellos.lock().unwrap().clone()
    }

    /// Returns when so many requests have come.
    pub(super) async fn has_seen(&self, requests: usize) {
        until(|| self.seen.lock().unwrap().len() >= requests).await;
    }
}

/// Returns when `done`.
pub(super) async fn until(done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it happens");
}

#[derive(Clone)]
struct Service {
    number: usize,
    client: Option<String>,
    seen: Arc<Mutex<Vec<Seen>>>,
    release: Arc<tokio::sync::Semaphore>,
    before: Arc<AtomicUsize>,
}

impl Service {
    async fn serve<T>(self, stream: T, http2: bool, streams: Option<u32>)
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| self.clone().answer(request));
        let stream = TokioIo::new(stream);
        let _ = match http2 {
            true => {
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                builder.max_concurrent_streams(streams).serve_connection(stream, service).await
            }
            false => hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await,
        };
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        self.seen.lock().unwrap().push(Seen {
            connection: self.number,
            uri: request.uri().to_string(),
            headers: request.headers().clone(),
            client: self.client.clone(),
        });
        let before = self.before.fetch_add(1, Ordering::SeqCst);
        match request.uri().path() {
            "/wait" => {
                self.release.acquire().await?.forget();
                Ok(Response::new(text("waited")))
            }
            "/echo" => Ok(Response::new(request.into_body().map_err(Into::into).boxed_unsync())),
            // Answers when it has read all of the body.
            "/read" => Ok(Response::new(text(request.into_body().collect().await?.to_bytes()))),
            // Ends the connection at its second request, without a word.
            "/once" if before > 0 => Err("silence".into()),
            "/never" => std::future::pending().await,
            "/part" => {
                let body = futures([Ok(Bytes::from_static(b"part"))], true);
                Ok(Response::builder().header("content-length", "100").body(body)?)
            }
            _ => Ok(Response::new(text("ratings"))),
        }
    }
}

/// A body of these parts; `hangs` at its end, or ends.
pub(super) fn futures(parts: impl IntoIterator<Item = Result<Bytes, BoxError>>, hangs: bool) -> Body {
    Parts { parts: parts.into_iter().collect(), hangs }.boxed_unsync()
}

struct Parts {
    parts: std::collections::VecDeque<Result<Bytes, BoxError>>,
    hangs: bool,
}

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        match (self.parts.pop_front(), self.hangs) {
            (Some(part), _) => std::task::Poll::Ready(Some(part.map(http_body::Frame::data))),
            (None, true) => std::task::Poll::Pending,
            (None, false) => std::task::Poll::Ready(None),
        }
    }
}
