//! The way to a service: mutual TLS connections, pooled, and requests over them.

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use identity::{Credentials, SpiffeId, tls, verify};
use platform::clock::Clock;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::body::Upload;
use crate::endpoint::Dialer;
use crate::reason::{Reason, Refusal};
use crate::retry;
use crate::routes::Destination;

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

/// Sends requests to destinations.
pub(crate) struct Upstream {
    dialer: Dialer,
    clock: Arc<dyn Clock>,
    response_timeout: Duration,
    next_endpoint: AtomicUsize,
    idle_permits: Arc<Semaphore>,
    /// By the destination's index.
    slots: Mutex<HashMap<usize, Slot>>,
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

/// An answer and who gave it.
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    pub(crate) peer: SpiffeId,
}

/// What became of a request that got no answer.
enum Failed {
    /// No byte of it was sent; here it is again.
    NotSent(Box<Request<Upload>>, Refusal),
    /// The connection ended before a byte of the answer.
    Silent(Refusal),
    /// It may have been processed.
    Broken(Refusal),
}

impl Upstream {
    pub(crate) fn new(dialer: Dialer, clock: Arc<dyn Clock>, response_timeout: Duration) -> Upstream {
        Upstream {
            dialer,
            clock,
            response_timeout,
            next_endpoint: AtomicUsize::new(0),
            idle_permits: Arc::new(Semaphore::new(MAX_IDLE_IN_ALL)),
            slots: Mutex::default(),
        }
    }

    /// Sends `request` to `destination` with the identity of `credentials`, over a pooled connection if there is one.
    pub(crate) async fn send(
        self: &Arc<Self>,
        destination: &Destination,
        credentials: &Credentials,
        mut request: Request<Upload>,
        progress: &Notify,
    ) -> Result<Exchange, Refusal> {
        let mut spare = retry::spare(&request);
        let max_idle = if spare.is_some() { MAX_IDLE } else { MAX_IDLE_UNREPLAYABLE };
        if let Some(connection) = self.take(destination, credentials, max_idle) {
            match self.exchange(destination, credentials, connection, request, progress).await {
                Ok(exchange) => return Ok(exchange),
                Err(Failed::NotSent(unsent, _)) => request = *unsent,
                Err(Failed::Silent(refusal)) => request = spare.take().ok_or(refusal)?,
                Err(Failed::Broken(refusal)) => return Err(refusal),
            }
        }
        let connection = self.open(destination, credentials).await?;
        match self.exchange(destination, credentials, connection, request, progress).await {
            Ok(exchange) => Ok(exchange),
            Err(Failed::NotSent(_, refusal) | Failed::Silent(refusal) | Failed::Broken(refusal)) => Err(refusal),
        }
    }

    async fn exchange(
        self: &Arc<Self>,
        destination: &Destination,
        credentials: &Credentials,
        mut connection: Connection,
        request: Request<Upload>,
        progress: &Notify,
    ) -> Result<Exchange, Failed> {
        let before = connection.received.load(Ordering::Acquire);
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
                    let detail = format!("{} did not begin to answer within {limit} ms", destination.host);
                    return Err(Failed::Broken(Refusal::new(Reason::UpstreamTimeout, detail)));
                }
            }
        };
        match sent {
            Ok(response) => {
                let peer = connection.peer.clone();
                self.put_back(destination.index, credentials.generation(), connection);
                Ok(Exchange { response, peer })
            }
            Err(mut error) => {
                let refusal = explain(destination, error.error());
                Err(match error.take_message() {
                    Some(unsent) => Failed::NotSent(Box::new(unsent), refusal),
                    None if connection.received.load(Ordering::Acquire) == before => Failed::Silent(refusal),
                    None => Failed::Broken(refusal),
                })
            }
        }
    }

    async fn open(&self, destination: &Destination, credentials: &Credentials) -> Result<Connection, Refusal> {
        let config = self.tls(destination, credentials)?;
        let first = self.next_endpoint.fetch_add(1, Ordering::Relaxed);
        let stream = self.dialer.connect(&destination.endpoints, first).await?;
        let handshake = TlsConnector::from(config).connect(destination.sni.clone(), stream);
        let stream = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(refuse_handshake(destination, &error)),
            Err(_) => {
                let limit = HANDSHAKE_TIMEOUT.as_millis();
                let detail = format!("no TLS handshake with {} within {limit} ms", destination.host);
                return Err(Refusal::new(Reason::UpstreamTimeout, detail));
            }
        };
        // The verifier has accepted it, so it is there.
        let Some(peer) = verify::peer_id(stream.get_ref().1.peer_certificates()) else {
            return Err(Refusal::new(Reason::TlsFailed, format!("{} showed no certificate", destination.host)));
        };
        let received = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: stream, received: Arc::clone(&received) };
        let (sender, driver) = http1::Builder::new()
            .max_headers(MAX_ANSWER_HEADERS)
            .handshake(TokioIo::new(counted))
            .await
            .map_err(|error| explain(destination, &error))?;
        // Its end is seen through the sender; the error belongs to the request that it failed.
        tokio::spawn(async move {
            let _ = driver.await;
        });
        Ok(Connection { sender, peer, received })
    }

    /// One configuration for each destination and SVID, as a session must never outlive either.
    fn tls(&self, destination: &Destination, credentials: &Credentials) -> Result<Arc<ClientConfig>, Refusal> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(&destination.index)
            && slot.generation == credentials.generation()
        {
            return Ok(Arc::clone(&slot.tls));
        }
        let config = tls::client_config(credentials.svid(), credentials.bundle(), &destination.expected, &ALPN)
            .map_err(|error| Refusal::new(Reason::TlsFailed, error.to_string()))?;
        let slot = Slot { generation: credentials.generation(), tls: Arc::clone(&config), idle: Vec::new() };
        // A request that began before a renewal must not bring the older identity back.
        if slots.get(&destination.index).is_none_or(|held| held.generation < slot.generation) {
            slots.insert(destination.index, slot);
        }
        Ok(config)
    }

    fn take(&self, destination: &Destination, credentials: &Credentials, max_idle: Duration) -> Option<Connection> {
        let now = self.clock.now();
        let mut slots = self.lock();
        let slot = slots.get_mut(&destination.index)?;
        if slot.generation != credentials.generation() {
            if slot.generation < credentials.generation() {
                slots.remove(&destination.index);
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
    fn put_back(self: &Arc<Self>, index: usize, generation: u64, mut connection: Connection) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            // An error: the answer was dropped half-way, or the service has closed the connection.
            if connection.sender.ready().await.is_err() {
                return;
            }
            let since = this.clock.now();
            let mut slots = this.lock();
            let Some(permit) = this.idle_permit(&mut slots, since) else { return };
            if let Some(slot) = slots.get_mut(&index)
                && slot.generation == generation
                && slot.idle.len() < MAX_IDLE_PER_DESTINATION
            {
                slot.idle.push(Idle { connection, since, _permit: permit });
            }
        });
    }

    fn idle_permit(&self, slots: &mut HashMap<usize, Slot>, now: SystemTime) -> Option<OwnedSemaphorePermit> {
        let ask = || Arc::clone(&self.idle_permits).try_acquire_owned().ok();
        ask().or_else(|| {
            for slot in slots.values_mut() {
                slot.idle.retain(|idle| idle.is_usable(now, MAX_IDLE));
            }
            ask()
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Slot>> {
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

fn refuse_handshake(destination: &Destination, error: &io::Error) -> Refusal {
    match tls::peer_error(error) {
        Some(peer) if peer.is_identity() => {
            Refusal::new(Reason::PeerIdentityMismatch, format!("{}: {peer}", destination.host))
        }
        Some(peer) => Refusal::new(Reason::TlsFailed, format!("{}: {peer}", destination.host)),
        None => Refusal::new(
            Reason::TlsFailed,
            format!("the TLS handshake with {} failed: {error} (does it speak mesh mutual TLS?)", destination.host),
        ),
    }
}

fn explain(destination: &Destination, error: &hyper::Error) -> Refusal {
    let mut cause = error.source();
    while let Some(inner) = cause {
        // In TLS 1.3 a server refuses our certificate after the handshake looks done to us: with its first answer.
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && let Some(rustls::Error::AlertReceived(alert)) = io.get_ref().and_then(|e| e.downcast_ref())
        {
            let detail = format!("{} refused our certificate: TLS alert {alert:?}", destination.host);
            return Refusal::new(Reason::TlsFailed, detail);
        }
        cause = inner.source();
    }
    Refusal::new(Reason::UpstreamProtocolError, format!("{} gave no whole HTTP answer: {error}", destination.host))
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
