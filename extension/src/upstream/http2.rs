//! HTTP/2 to a service: one connection for all requests, and another one when its streams are used up.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use platform::clock::Clock;
use traffic::table::{Pool, Tls};

use super::dial::{Dialed, Known};
use super::explain::explain;
use super::http1::MAX_ANSWER_HEAD_BYTES;
use super::limits::Service;
use super::wire::Sight;
use super::{Hop, LOOK_AFTER, Why};
use crate::body::Upload;

/// What one answer may have on its way to us: enough for 100 Mbit/s at a round trip of 20 ms.
const STREAM_WINDOW: u32 = 256 * 1_024;

/// The same for all answers of a connection.
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;

/// Requests at a time until the server's SETTINGS say otherwise. RFC 9113 6.5.2 recommends no less than 100 to it.
const FIRST_STREAMS: u32 = 100;

/// What of a request's body waits to be sent.
const SEND_BUFFER: usize = 64 * 1_024;

/// A connection with requests in hand that has been quiet for this long is asked whether it is alive.
const PING_IN_MESH: Duration = Duration::from_secs(20);

/// The same outside of the mesh: gRPC's servers end a connection that pings more often than every five minutes.
const PING_OUTSIDE: Duration = Duration::from_secs(301);

/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that requests share.
pub(super) struct Connection {
    sender: SendRequest<Upload>,
    known: Known,
    settings: Arc<Settings>,
    /// Requests that have been sent on it.
    used: AtomicU32,
    /// Requests in hand.
    active: AtomicU32,
    /// Since when there is none.
    idle_since: Mutex<SystemTime>,
    /// It takes no more.
    retired: AtomicBool,
}

impl Connection {
    /// Whether it can ever take a request again. A connection that cannot ends with its last request.
    pub(super) fn is_open(&self, now: SystemTime, pool: &Pool) -> bool {
        let most = pool.max_requests_per_connection;
        !self.retired.load(Ordering::Acquire)
            && !self.sender.is_closed()
            && !self.known.stats.ended()
            && self.known.is_young(now, pool)
            && (most == 0 || self.used.load(Ordering::Acquire) < most)
    }

    /// Whether it may be left to a request that wants nothing older. With a request in hand it is in use; else as
    /// HTTP/1.1, but for bytes that have come, which may well be a PING.
    pub(super) fn is_fresh(&self, now: SystemTime, max_idle: Duration) -> bool {
        if self.active.load(Ordering::Acquire) > 0 {
            return true;
        }
        let since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(idle) = now.duration_since(since) else { return false };
        idle <= max_idle && (idle < LOOK_AFTER || self.known.probe.look() != Sight::Dead)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.active.load(Ordering::Acquire) == 0
    }

    pub(super) fn idle_since(&self) -> SystemTime {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more requests.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// A place for one more request, within the configuration's limit and the one of the server's SETTINGS.
    pub(super) fn begin(
        self: &Arc<Self>,
        pool: &Pool,
        service: &Arc<Service>,
        clock: &Arc<dyn Clock>,
    ) -> Option<Stream> {
        let configured = match pool.max_concurrent_streams {
            0 => u32::MAX,
            most => most,
        };
        let most = configured.min(self.settings.max_streams.load(Ordering::Acquire));
        let next = |now: u32| (now < most).then(|| now + 1);
        self.active.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()?;
        let before = self.used.fetch_add(1, Ordering::AcqRel);
        let (connection, service, clock) = (Arc::clone(self), Arc::clone(service), Arc::clone(clock));
        Some(Stream { connection, service, clock, reused: before > 0 })
    }
}

/// What the server's SETTINGS say. The library's driver knows it, and looks when it is polled: with each request, and
/// when it is nudged.
struct Settings {
    max_streams: AtomicU32,
    driver: Mutex<Option<Waker>>,
}

impl Settings {
    fn remember(&self, driver: &Waker) {
        let mut held = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut() {
            Some(held) => held.clone_from(driver),
            None => *held = Some(driver.clone()),
        }
    }

    fn nudge(&self) {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

/// A request's place on a connection.
pub(super) struct Stream {
    pub(super) connection: Arc<Connection>,
    service: Arc<Service>,
    clock: Arc<dyn Clock>,
    /// Whether the connection had had requests before.
    pub(super) reused: bool,
}

impl Stream {
    pub(super) fn known(&self) -> &Known {
        &self.connection.known
    }

    /// The server did not take the request. The next one goes over another connection, if the cluster may have one
    /// beside the requests that are in hand here.
    pub(super) fn refused(&self, pool: &Pool) {
        if pool.max_connections == 0 || self.connection.active.load(Ordering::Acquire) <= 1 {
            self.connection.retire();
        }
    }

    pub(super) async fn send(
        &self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        let sent = self.connection.sender.clone().try_send_request(request).await;
        if !self.reused {
            // RFC 9113 3.4: the server's SETTINGS are its first frame, so they are there by now.
            self.connection.settings.nudge();
        }
        sent
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let connection = &self.connection;
        *connection.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.now();
        connection.active.fetch_sub(1, Ordering::AcqRel);
        self.service.tell();
    }
}

/// Makes a connection speak.
pub(super) async fn open(hop: &Hop, dialed: Dialed) -> Result<Arc<Connection>, Why> {
    let Dialed { transport, known } = dialed;
    let in_mesh = matches!(hop.cluster.tls, Tls::IstioMutual(_));
    let opened = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .initial_max_send_streams(FIRST_STREAMS as usize)
        .max_header_list_size(MAX_ANSWER_HEAD_BYTES as u32)
        .keep_alive_interval(if in_mesh { PING_IN_MESH } else { PING_OUTSIDE })
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(transport))
        .await;
    let (sender, driver) = opened.map_err(|error| explain(hop, &error, &known.stats))?;
    let settings = Arc::new(Settings { max_streams: AtomicU32::new(FIRST_STREAMS), driver: Mutex::default() });
    let told = Arc::clone(&settings);
    tokio::spawn(async move {
        let mut driver = pin!(driver);
        poll_fn(|cx| {
            told.remember(cx.waker());
            let polled = driver.as_mut().poll(cx);
            let most = u32::try_from(driver.current_max_send_streams()).unwrap_or(u32::MAX);
            told.max_streams.store(most, Ordering::Release);
            // The error belongs to the requests that it failed.
            polled.map(|_| ())
        })
        .await;
    });
    let idle_since = Mutex::new(known.born);
    let (used, active, retired) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
    Ok(Arc::new(Connection { sender, known, settings, used, active, idle_since, retired }))
}

/// Brings a request into the form of this protocol: the host in `:authority`, and none of the fields that belong to a
/// connection, which RFC 9113 8.2.2 forbids. Without a host it comes back as it is.
pub(super) fn prepare(hop: &Hop, mut request: Request<Upload>) -> Result<Request<Upload>, Box<Request<Upload>>> {
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let Some(authority) = named.or_else(|| request.uri().authority().cloned()) else { return Err(Box::new(request)) };
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    // The scheme is the client's, as in Envoy; a server outside of the mesh may want to see its own.
    let scheme = match &hop.cluster.tls {
        Tls::Simple(_) => Scheme::HTTPS,
        Tls::IstioMutual(_) | Tls::Plaintext => Scheme::HTTP,
    };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    let Ok(uri) = uri else { return Err(Box::new(request)) };
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.remove(HOST);
    headers.remove(TRANSFER_ENCODING);
    for name in ["connection", "keep-alive", "proxy-connection", "upgrade"] {
        headers.remove(HeaderName::from_static(name));
    }
    headers.remove(TE);
    if is_grpc(headers) {
        // gRPC's servers may take a request without it for one from a proxy that loses trailers.
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
