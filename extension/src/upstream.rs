//! The way to a service: mutual TLS connections, pooled, and requests over them.

mod tunnel;

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use identity::{Credentials, SpiffeId, tls, verify};
use platform::clock::Clock;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use traffic::table::{Cluster, Tls};

use crate::body::{Download, Upload};
use crate::endpoint;
use crate::reason::{Reason, Refusal};
use crate::retry;

#[allow(unused_imports)]
pub(crate) use tunnel::{Tunnel, Upgrade};

/// What a sidecar must see offered to take the connection for HTTP/1.1 in mesh mutual TLS. Which of them it picks says
/// nothing: the protocol is HTTP/1.1 by configuration.
const ALPN: [&str; 3] = ["istio-http/1.1", "istio", "http/1.1"];

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection may lie idle, on the wall clock: a network's memory of it is not much longer.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// The same for a request that cannot be replayed. A connection that died in a freeze would fail it.
const MAX_IDLE_UNREPLAYABLE: Duration = Duration::from_secs(2);

/// The most idle connections to one destination.
const MAX_IDLE_PER_DESTINATION: usize = 32;

/// The most idle connections in all. (An execution environment has 1,024 file descriptors.)
const MAX_IDLE_IN_ALL: usize = 128;

/// The most header fields of an answer.
const MAX_ANSWER_HEADERS: usize = 200;

/// Where one try goes.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    /// What is known of the service.
    pub(crate) cluster: Arc<Cluster>,
    /// The place of the cluster in its table.
    pub(crate) index: u32,
    /// Where to connect.
    pub(crate) address: SocketAddr,
    /// Host and port of the endpoint, for logs and health.
    pub(crate) endpoint: String,
    /// Who we are; there exactly for [`Tls::IstioMutual`].
    pub(crate) credentials: Option<Arc<Credentials>>,
    /// The request's host, for [`Tls::Simple`] without a server name.
    pub(crate) server_name: String,
    /// Whether the client speaks HTTP/2, for a cluster that follows it.
    pub(crate) http2: bool,
}

/// Sends requests to endpoints.
pub(crate) struct Upstream {
    clock: Arc<dyn Clock>,
    response_timeout: Duration,
    idle_permits: Arc<Semaphore>,
    slots: Mutex<HashMap<Key, Slot>>,
}

type Key = (u32, SocketAddr);

/// An answer and who gave it.
pub(crate) struct Exchange {
    pub(crate) response: Response<Download>,
    /// The identity that the server proved; none without mutual TLS.
    pub(crate) peer: Option<SpiffeId>,
    /// Whether the connection had served other requests before.
    pub(crate) reused: bool,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) kind: FailedKind,
    /// The request as it was, when no byte of it was sent.
    pub(crate) unsent: Option<Box<Request<Upload>>>,
    /// For the application, should this be the last try.
    pub(crate) refusal: Refusal,
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailedKind {
    /// No connection.
    Connect,
    /// No TLS handshake, or the wrong peer.
    Tls,
    /// The service did not process it (REFUSED_STREAM, or GOAWAY before it).
    RefusedStream,
    /// A limit of the cluster was reached.
    Overflow,
    /// The connection ended before the answer began.
    Reset {
        /// Whether something of the request may have been processed.
        sent: bool,
    },
    /// No answer in time.
    Timeout,
    /// The answer is not HTTP.
    Protocol,
}

/// What belongs to one destination and one SVID. A new SVID replaces all of it.
struct Slot {
    generation: u64,
    tls: Arc<ClientConfig>,
    idle: Vec<Idle>,
}

struct Idle {
    connection: Connection,
    since: SystemTime,
    _permit: OwnedSemaphorePermit,
}

struct Connection {
    sender: SendRequest<Upload>,
    peer: SpiffeId,
    /// Bytes that the service has sent so far.
    received: Arc<AtomicU64>,
}

/// What became of a request on one connection.
enum Lost {
    /// No byte of it was sent; here it is again.
    NotSent(Box<Request<Upload>>, Refusal),
    /// The connection ended before a byte of the answer.
    Silent(Refusal),
    /// It may have been processed.
    Broken(FailedKind, Refusal),
}

impl Upstream {
    pub(crate) fn new(clock: Arc<dyn Clock>, response_timeout: Duration) -> Upstream {
        Upstream {
            clock,
            response_timeout,
            idle_permits: Arc::new(Semaphore::new(MAX_IDLE_IN_ALL)),
            slots: Mutex::default(),
        }
    }

    /// Sends `request` to the hop's endpoint, over a pooled connection if there is one.
    pub(crate) async fn send(self: &Arc<Self>, hop: &Hop, mut request: Request<Upload>) -> Result<Exchange, Failed> {
        let credentials = match &hop.credentials {
            Some(credentials) => Arc::clone(credentials),
            None => return Err(Failed::before(FailedKind::Tls, request, no_identity(hop))),
        };
        let mut spare = retry::spare(&request);
        let max_idle = if spare.is_some() { MAX_IDLE } else { MAX_IDLE_UNREPLAYABLE };
        if let Some(connection) = self.take(hop, &credentials, max_idle) {
            match self.exchange(hop, &credentials, connection, request, true).await {
                Ok(exchange) => return Ok(exchange),
                Err(Lost::NotSent(unsent, _)) => request = *unsent,
                Err(Lost::Silent(refusal)) => match spare.take() {
                    Some(spare) => request = spare,
                    None => return Err(Failed { kind: FailedKind::Reset { sent: true }, unsent: None, refusal }),
                },
                Err(Lost::Broken(kind, refusal)) => return Err(Failed { kind, unsent: None, refusal }),
            }
        }
        let connection = match self.open(hop, &credentials).await {
            Ok(connection) => connection,
            Err((kind, refusal)) => return Err(Failed::before(kind, request, refusal)),
        };
        match self.exchange(hop, &credentials, connection, request, false).await {
            Ok(exchange) => Ok(exchange),
            Err(Lost::NotSent(unsent, refusal)) => {
                Err(Failed::before(FailedKind::Reset { sent: false }, *unsent, refusal))
            }
            Err(Lost::Silent(refusal)) => Err(Failed { kind: FailedKind::Reset { sent: true }, unsent: None, refusal }),
            Err(Lost::Broken(kind, refusal)) => Err(Failed { kind, unsent: None, refusal }),
        }
    }

    async fn exchange(
        self: &Arc<Self>,
        hop: &Hop,
        credentials: &Credentials,
        mut connection: Connection,
        request: Request<Upload>,
        reused: bool,
    ) -> Result<Exchange, Lost> {
        let before = connection.received.load(Ordering::Acquire);
        let progress = request.body().progress().unwrap_or_default();
        let sending = connection.sender.try_send_request(request);
        tokio::pin!(sending);
        let sent = loop {
            // The limit is on silence: while the application's body goes out, the service need not answer.
            tokio::select! {
                biased;
                sent = &mut sending => break sent,
                () = progress.notified() => {}
                () = tokio::time::sleep(self.response_timeout) => {
                    let limit = self.response_timeout.as_millis();
                    let detail = format!("{} did not begin to answer within {limit} ms", hop.cluster.host);
                    return Err(Lost::Broken(FailedKind::Timeout, Refusal::new(Reason::UpstreamTimeout, detail)));
                }
            }
        };
        match sent {
            Ok(response) => {
                let peer = Some(connection.peer.clone());
                self.put_back((hop.index, hop.address), credentials.generation(), connection);
                Ok(Exchange { response: response.map(Download::new), peer, reused })
            }
            Err(mut error) => {
                let (kind, refusal) = explain(hop, error.error());
                Err(match error.take_message() {
                    Some(unsent) => Lost::NotSent(Box::new(unsent), refusal),
                    None if connection.received.load(Ordering::Acquire) == before => Lost::Silent(refusal),
                    None => Lost::Broken(kind, refusal),
                })
            }
        }
    }

    async fn open(&self, hop: &Hop, credentials: &Credentials) -> Result<Connection, (FailedKind, Refusal)> {
        let (config, sni) = self.tls(hop, credentials).map_err(|refusal| (FailedKind::Tls, refusal))?;
        let stream = endpoint::connect(hop.address, &hop.endpoint).await;
        let stream = stream.map_err(|refusal| (FailedKind::Connect, refusal))?;
        let handshake = TlsConnector::from(config).connect(sni, stream);
        let stream = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err((FailedKind::Tls, refuse_handshake(hop, &error))),
            Err(_) => {
                let limit = HANDSHAKE_TIMEOUT.as_millis();
                let detail = format!("no TLS handshake with {} within {limit} ms", hop.cluster.host);
                return Err((FailedKind::Connect, Refusal::new(Reason::UpstreamTimeout, detail)));
            }
        };
        // The verifier has accepted it, so it is there.
        let Some(peer) = verify::peer_id(stream.get_ref().1.peer_certificates()) else {
            let detail = format!("{} showed no certificate", hop.cluster.host);
            return Err((FailedKind::Tls, Refusal::new(Reason::TlsFailed, detail)));
        };
        let received = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: stream, received: Arc::clone(&received) };
        let (sender, driver) = http1::Builder::new()
            .max_headers(MAX_ANSWER_HEADERS)
            .handshake(TokioIo::new(counted))
            .await
            .map_err(|error| explain(hop, &error))?;
        // Its end is seen through the sender; the error belongs to the request that it failed.
        tokio::spawn(async move {
            let _ = driver.await;
        });
        Ok(Connection { sender, peer, received })
    }

    /// One configuration for each destination and SVID, as a session must never outlive either.
    fn tls(&self, hop: &Hop, credentials: &Credentials) -> Result<(Arc<ClientConfig>, ServerName<'static>), Refusal> {
        let failed = |why: String| Refusal::new(Reason::TlsFailed, format!("{}: {why}", hop.cluster.host));
        let Tls::IstioMutual(mutual) = &hop.cluster.tls else {
            return Err(failed("found another protection than mutual TLS, which is not supported yet".to_owned()));
        };
        let sni = ServerName::try_from(mutual.sni.clone()).map_err(|error| failed(error.to_string()))?;
        let key = (hop.index, hop.address);
        let mut slots = self.lock();
        if let Some(slot) = slots.get(&key)
            && slot.generation == credentials.generation()
        {
            return Ok((Arc::clone(&slot.tls), sni));
        }
        let expected: Result<Vec<SpiffeId>, _> = mutual.expected.iter().map(|id| id.parse()).collect();
        let expected = expected.map_err(|error| failed(error.to_string()))?;
        let config = tls::client_config(credentials.svid(), credentials.bundle(), &expected, &ALPN)
            .map_err(|error| failed(error.to_string()))?;
        let slot = Slot { generation: credentials.generation(), tls: Arc::clone(&config), idle: Vec::new() };
        // A request that began before a renewal must not bring the older identity back.
        if slots.get(&key).is_none_or(|held| held.generation < slot.generation) {
            slots.insert(key, slot);
        }
        Ok((config, sni))
    }

    fn take(&self, hop: &Hop, credentials: &Credentials, max_idle: Duration) -> Option<Connection> {
        let now = self.clock.now();
        let mut slots = self.lock();
        let key = (hop.index, hop.address);
        let slot = slots.get_mut(&key)?;
        if slot.generation != credentials.generation() {
            if slot.generation < credentials.generation() {
                slots.remove(&key);
            }
            return None;
        }
        slot.idle.retain(|idle| idle.is_usable(now, MAX_IDLE));
        // The youngest one: it is the most likely to be alive, and the others can age out.
        if !slot.idle.last()?.is_usable(now, max_idle) {
            return None;
        }
        slot.idle.pop().map(|idle| idle.connection)
    }

    /// Puts the connection back when its answer has been read to the end.
    fn put_back(self: &Arc<Self>, key: Key, generation: u64, mut connection: Connection) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            // An error: the answer was dropped half-way, or the service has closed the connection.
            if connection.sender.ready().await.is_err() {
                return;
            }
            let since = this.clock.now();
            let mut slots = this.lock();
            let Some(permit) = this.idle_permit(&mut slots, since) else { return };
            if let Some(slot) = slots.get_mut(&key)
                && slot.generation == generation
                && slot.idle.len() < MAX_IDLE_PER_DESTINATION
            {
                slot.idle.push(Idle { connection, since, _permit: permit });
            }
        });
    }

    fn idle_permit(&self, slots: &mut HashMap<Key, Slot>, now: SystemTime) -> Option<OwnedSemaphorePermit> {
        let ask = || Arc::clone(&self.idle_permits).try_acquire_owned().ok();
        ask().or_else(|| {
            for slot in slots.values_mut() {
                slot.idle.retain(|idle| idle.is_usable(now, MAX_IDLE));
            }
            ask()
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn is_usable(&self, now: SystemTime, max_idle: Duration) -> bool {
        // A clock that was set back says nothing about the age: not usable.
        let young = now.duration_since(self.since).is_ok_and(|age| age <= max_idle);
        young && self.connection.sender.is_ready()
    }
}

impl Failed {
    fn before(kind: FailedKind, request: Request<Upload>, refusal: Refusal) -> Failed {
        Failed { kind, unsent: Some(Box::new(request)), refusal }
    }
}

fn no_identity(hop: &Hop) -> Refusal {
    let detail = format!("{}: there is no SVID and without one nothing is sent to the mesh", hop.cluster.host);
    Refusal::new(Reason::IdentityUnavailable, detail)
}

fn refuse_handshake(hop: &Hop, error: &io::Error) -> Refusal {
    let host = &hop.cluster.host;
    match tls::peer_error(error) {
        Some(peer) if peer.is_identity() => Refusal::new(Reason::PeerIdentityMismatch, format!("{host}: {peer}")),
        Some(peer) => Refusal::new(Reason::TlsFailed, format!("{host}: {peer}")),
        None => Refusal::new(
            Reason::TlsFailed,
            format!("the TLS handshake with {host} failed: {error} (does it speak mesh mutual TLS?)"),
        ),
    }
}

fn explain(hop: &Hop, error: &hyper::Error) -> (FailedKind, Refusal) {
    let host = &hop.cluster.host;
    let mut cause = error.source();
    while let Some(inner) = cause {
        // In TLS 1.3 a server refuses our certificate after the handshake looks done to us: with its first answer.
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && let Some(rustls::Error::AlertReceived(alert)) = io.get_ref().and_then(|e| e.downcast_ref())
        {
            let detail = format!("{host} refused our certificate: TLS alert {alert:?}");
            return (FailedKind::Tls, Refusal::new(Reason::TlsFailed, detail));
        }
        cause = inner.source();
    }
    let refusal = Refusal::new(Reason::UpstreamProtocolError, format!("{host} gave no whole HTTP answer: {error}"));
    (FailedKind::Protocol, refusal)
}

/// Counts the bytes that come in, so that "no byte of an answer" is a fact and not a guess.
struct Counted<T> {
    inner: T,
    received: Arc<AtomicU64>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        self.received.fetch_add(read as u64, Ordering::Release);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
