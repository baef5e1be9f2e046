//! The way to a service: connections, pooled, and requests over them.
//!
//! A request takes an idle connection or makes one ([`dial`], [`tls`]), within the limits of its cluster ([`limits`]),
//! and gives it back when its answer has been read ([`pool`]). What a failure means is in [`explain`].

mod dial;
mod explain;
mod http1;
mod http2;
mod limits;
mod pool;
mod spare;
mod tls;
mod tunnel;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use identity::{Credentials, SpiffeId};
use platform::clock::Clock;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use traffic::table::{Cluster, Pool, Protocol, Tls};

use crate::body::{Download, Upload};
use crate::reason::{Reason, Refusal};

use dial::{Known, dial};
use limits::{Open, Place, Service};
use pool::{Join, Key, MAX_IDLE, MAX_IDLE_UNREPLAYABLE, Pools};
use tls::{Configs, Spoken};

#[allow(unused_imports)]
pub(crate) use tunnel::{Tunnel, Upgrade};

/// An idle connection is looked at before it is used again after this long, on the wall clock: within it, the runtime
/// has seen the end of a connection as soon as we would.
const LOOK_AFTER: Duration = Duration::from_millis(100);

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

impl Hop {
    fn generation(&self) -> u64 {
        match (&self.cluster.tls, &self.credentials) {
            (Tls::IstioMutual(_), Some(credentials)) => credentials.generation(),
            _ => 0,
        }
    }

    fn speaks_http2(&self) -> bool {
        match self.cluster.protocol {
            Protocol::Http2 => true,
            Protocol::Client => self.http2,
            Protocol::Http1 | Protocol::Tcp => false,
        }
    }

    /// A cluster in the mesh without an identity is an error, never a reason to leave it out.
    fn check_identity(&self, now: u64) -> Result<(), Why> {
        let why = match (&self.cluster.tls, &self.credentials) {
            (Tls::IstioMutual(_), None) => "there is no SVID",
            (Tls::IstioMutual(_), Some(credentials)) if now > credentials.svid().not_after() => "the SVID is over",
            _ => return Ok(()),
        };
        Err((FailedKind::Tls, tls::no_identity(self, why)))
    }
}

/// Kind and words of a failure.
type Why = (FailedKind, Refusal);

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

impl Failed {
    fn before(request: Request<Upload>, (kind, refusal): Why) -> Failed {
        Failed { kind, unsent: Some(Box::new(request)), refusal }
    }

    fn after((kind, refusal): Why) -> Failed {
        Failed { kind, unsent: None, refusal }
    }
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

/// What became of a request on one connection.
enum Lost {
    /// No byte of it was sent; here it is again.
    NotSent(Box<Request<Upload>>, Why),
    /// The connection ended before a byte of the answer.
    Silent(Why),
    /// It may have been processed, or the service has said that it was not.
    Broken(Why),
}

/// Sends requests to endpoints.
pub(crate) struct Upstream {
    clock: Arc<dyn Clock>,
    response_timeout: Duration,
    pools: Pools,
    configs: Configs,
}

/// What a request looks for.
struct Want<'a> {
    hop: &'a Hop,
    key: Key,
    service: Arc<Service>,
    /// How long its connection may have been idle.
    max_idle: Duration,
}

/// A connection of either protocol, for one request.
enum Line {
    Http1(http1::Connection),
    Http2(http2::Stream),
}

impl Line {
    fn known(&self) -> &Known {
        match self {
            Line::Http1(connection) => &connection.known,
            Line::Http2(stream) => stream.known(),
        }
    }

    fn is_reused(&self) -> bool {
        match self {
            Line::Http1(connection) => connection.used > 0,
            Line::Http2(stream) => stream.reused,
        }
    }

    /// Whether the cluster lets its connection have another request after this one.
    fn is_for_more(&self, pool: &Pool) -> bool {
        match self {
            Line::Http1(connection) => {
                pool.max_requests_per_connection == 0 || connection.used < pool.max_requests_per_connection
            }
            // It looks itself.
            Line::Http2(_) => true,
        }
    }

    async fn send(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        match self {
            Line::Http1(connection) => connection.sender.try_send_request(request).await,
            Line::Http2(stream) => stream.send(request).await,
        }
    }
}

impl Upstream {
    /// `response_timeout` is how long a service may be silent before its answer begins.
    pub(crate) fn new(clock: Arc<dyn Clock>, response_timeout: Duration) -> Upstream {
        Upstream { clock, response_timeout, pools: Pools::default(), configs: Configs::default() }
    }

    /// Sends `request` to the hop's endpoint, over a pooled connection if there is one.
    ///
    /// # Errors
    /// When there is no answer. A request that a pooled connection lost because it was dead already has been sent
    /// again on a new one by then, once, if that could do no harm.
    pub(crate) async fn send(self: &Arc<Self>, hop: &Hop, request: Request<Upload>) -> Result<Exchange, Failed> {
        if let Err(why) = hop.check_identity(self.clock.unix()) {
            return Err(Failed::before(request, why));
        }
        let (key, pool) = (Key::of(hop), &hop.cluster.pool);
        let service = self.pools.service(hop.index);
        let Some(place) = service.begin(pool.max_requests) else {
            let why = overflow(hop, "requests at a time (http2MaxRequests)", pool.max_requests);
            return Err(Failed::before(request, why));
        };
        let prepared = match key.http2 {
            true => http2::prepare(hop, request),
            false => Ok(http1::prepare(request)),
        };
        let mut request = prepared.map_err(|request| {
            let detail = format!("{}: found a request without a host, expected one", hop.cluster.host);
            Failed::before(request, (FailedKind::Protocol, Refusal::new(Reason::RequestInvalid, detail)))
        })?;
        let mut spare = spare::spare(&request);
        let max_idle = if spare.is_some() { MAX_IDLE } else { MAX_IDLE_UNREPLAYABLE };
        let want = Want { hop, key, service, max_idle };
        let mut line = match self.pooled(&want) {
            Some(line) => line,
            None => match self.fresh(&want).await {
                Ok(line) => line,
                Err(why) => return Err(Failed::before(request, why)),
            },
        };
        let mut tries = 0;
        loop {
            let (reused, peer) = (line.is_reused(), line.known().peer.clone());
            match self.exchange(hop, &mut line, request).await {
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    let detail = format!("{} switched protocols although nobody had asked for it", hop.cluster.host);
                    let refusal = Refusal::new(Reason::UpstreamProtocolError, detail);
                    return Err(Failed::after((FailedKind::Protocol, refusal)));
                }
                Ok(response) => {
                    let again = line.is_for_more(pool);
                    let Want { key, service, .. } = want;
                    let lease = Lease { upstream: Arc::clone(self), key, service, line, again, _place: place };
                    let response = response.map(|body| Download::new(body, Some(lease)));
                    return Ok(Exchange { response, peer, reused });
                }
                // Connections die unseen in a freeze. One more try on a new one, if nothing of an answer has come and
                // the request does no more when it is sent twice.
                Err(Lost::NotSent(unsent, _)) if reused && tries == 0 => request = *unsent,
                Err(Lost::Silent(why)) if reused && tries == 0 => match spare.take() {
                    Some(spare) => request = spare,
                    None => return Err(Failed::after(why)),
                },
                Err(Lost::NotSent(unsent, why)) => return Err(Failed::before(*unsent, why)),
                Err(Lost::Silent(why) | Lost::Broken(why)) => return Err(Failed::after(why)),
            }
            if let Line::Http2(stream) = &line {
                self.pools.retire(&want.key, &stream.connection);
            }
            drop(line);
            tries += 1;
            line = match self.fresh(&want).await {
                Ok(line) => line,
                Err(why) => return Err(Failed::before(request, why)),
            };
        }
    }

    async fn exchange(&self, hop: &Hop, line: &mut Line, request: Request<Upload>) -> Result<Response<Incoming>, Lost> {
        let stats = Arc::clone(&line.known().stats);
        let before = stats.received();
        if let Line::Http1(connection) = line {
            connection.used += 1;
        }
        let progress = request.body().progress();
        let mut sending = pin!(line.send(request));
        let sent = loop {
            let progressed = async {
                match &progress {
                    Some(progress) => progress.notified().await,
                    None => std::future::pending().await,
                }
            };
            // The limit is on silence: while the application's body goes out, the service need not answer.
            tokio::select! {
                biased;
                sent = &mut sending => break sent,
                () = progressed => {}
                () = tokio::time::sleep(self.response_timeout) => return Err(Lost::Broken(self.silence(hop))),
            }
        };
        match sent {
            Ok(response) => Ok(response),
            Err(mut error) => {
                let (kind, refusal) = explain::explain(hop, error.error(), &stats);
                let silent = stats.received() == before && matches!(kind, FailedKind::Reset { .. });
                Err(match error.take_message() {
                    Some(unsent) if kind == FailedKind::Tls => Lost::NotSent(Box::new(unsent), (kind, refusal)),
                    Some(unsent) => Lost::NotSent(Box::new(unsent), (FailedKind::Reset { sent: false }, refusal)),
                    None if silent => Lost::Silent((kind, refusal)),
                    None => Lost::Broken((kind, refusal)),
                })
            }
        }
    }

    fn silence(&self, hop: &Hop) -> Why {
        let limit = self.response_timeout.as_millis();
        let detail = format!("{} did not begin to answer within {limit} ms", hop.cluster.host);
        (FailedKind::Timeout, Refusal::new(Reason::UpstreamTimeout, detail))
    }

    fn pooled(&self, want: &Want<'_>) -> Option<Line> {
        let pool = &want.hop.cluster.pool;
        match want.key.http2 {
            true => self.pools.begin(&want.key, pool, &want.service, &self.clock, want.max_idle).map(Line::Http2),
            false => self.pools.take(&want.key, pool, self.clock.now(), want.max_idle).map(Line::Http1),
        }
    }

    /// A new connection; at the limit of the cluster, the next one that becomes free.
    async fn fresh(self: &Arc<Self>, want: &Want<'_>) -> Result<Line, Why> {
        let (hop, pool) = (want.hop, &want.hop.cluster.pool);
        let Some(_queued) = want.service.queue(pool.max_pending) else {
            return Err(overflow(
                hop,
                "requests that wait for a connection (http1MaxPendingRequests)",
                pool.max_pending,
            ));
        };
        let deadline = Instant::now() + self.response_timeout;
        let mut waited = false;
        loop {
            let mut freed = pin!(want.service.freed());
            freed.as_mut().enable();
            if waited && let Some(line) = self.pooled(want) {
                return Ok(line);
            }
            let now = self.clock.now();
            if want.key.http2 {
                match self.pools.join(&want.key, pool, &want.service, now) {
                    Join::Wait(landed) => landing(hop, landed).await?,
                    Join::Lead(tell, landed, open) => {
                        self.spawn_http2(want, tell, open);
                        landing(hop, landed).await?;
                    }
                    Join::Full => self.free(hop, freed, deadline).await?,
                }
            } else {
                match self.pools.open(&want.key, pool, &want.service, now) {
                    Some(open) => {
                        let dialed = self.dial(hop, Spoken::Http1, open).await?;
                        return http1::open(hop, dialed).await.map(Line::Http1);
                    }
                    None => self.free(hop, freed, deadline).await?,
                }
            }
            waited = true;
        }
    }

    async fn free(&self, hop: &Hop, freed: impl Future<Output = ()>, deadline: Instant) -> Result<(), Why> {
        timeout_at(deadline, freed).await.map_err(|_| {
            let most = hop.cluster.pool.max_connections;
            let limit = self.response_timeout.as_millis();
            let host = &hop.cluster.host;
            let detail = format!("none of the {most} connections to {host} became free within {limit} ms");
            (FailedKind::Timeout, Refusal::new(Reason::UpstreamTimeout, detail))
        })
    }

    /// In a task of its own: whoever began it may go away while others wait for it.
    fn spawn_http2(self: &Arc<Self>, want: &Want<'_>, tell: watch::Sender<pool::Landed>, open: Open) {
        let (this, hop, key) = (Arc::clone(self), want.hop.clone(), want.key.clone());
        tokio::spawn(async move {
            let made = match this.dial(&hop, Spoken::Http2, open).await {
                Ok(dialed) => http2::open(&hop, dialed).await,
                Err(why) => Err(why),
            };
            this.pools.land(&key, made.as_ref().ok().cloned());
            tell.send_replace(Some(made.map(|_| ())));
        });
    }

    async fn dial(&self, hop: &Hop, spoken: Spoken, open: Open) -> Result<dial::Dialed, Why> {
        let protection = self.configs.protection(hop, spoken).map_err(|refusal| (FailedKind::Tls, refusal))?;
        dial(hop, protection, open, self.clock.now()).await
    }

    fn put_back(self: &Arc<Self>, key: Key, service: Arc<Service>, mut connection: http1::Connection) {
        if connection.sender.is_ready() {
            self.pools.put_back(&key, connection, self.clock.now());
            return service.tell();
        }
        // An error below: the service has closed the connection. Otherwise the request's body is still on its way, or
        // the connection's task has not come round yet.
        let this = Arc::clone(self);
        if let (false, Ok(runtime)) = (connection.sender.is_closed(), Handle::try_current()) {
            runtime.spawn(async move {
                if connection.sender.ready().await.is_ok() {
                    this.pools.put_back(&key, connection, this.clock.now());
                    service.tell();
                }
            });
        }
    }
}

/// Waits for the HTTP/2 connection that somebody makes.
async fn landing(hop: &Hop, mut landed: watch::Receiver<pool::Landed>) -> Result<(), Why> {
    match landed.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone()) {
        Some(outcome) => outcome,
        None => {
            let detail = format!("{}: the connection was given up", hop.cluster.host);
            Err((FailedKind::Connect, Refusal::new(Reason::UpstreamConnectFailed, detail)))
        }
    }
}

fn overflow(hop: &Hop, what: &str, most: u32) -> Why {
    let detail = format!("{} has all of the {most} {what} that its DestinationRule allows", hop.cluster.host);
    (FailedKind::Overflow, Refusal::new(Reason::TooManyConnections, detail))
}

/// What an answer holds until it has been read.
pub(crate) struct Lease {
    upstream: Arc<Upstream>,
    key: Key,
    service: Arc<Service>,
    line: Line,
    /// Whether the connection may have another request.
    again: bool,
    _place: Place,
}

impl Lease {
    /// The answer has been read to its end: the connection is free.
    pub(crate) fn finish(self) {
        let Lease { upstream, key, service, line, again, _place } = self;
        if let (Line::Http1(connection), true) = (line, again) {
            upstream.put_back(key, service, connection);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).field("again", &self.again).finish_non_exhaustive()
    }
}
