//! The way to a service: connections, pooled, and requests over them.
//!
//! A request takes an idle connection or makes one ([`dial`], [`tls`]), within the limits of its cluster ([`limits`]),
//! and gives it back when its answer has been read ([`pool`]). What a failure means is in [`explain`].

mod connect;
mod dial;
mod explain;
mod hop;
mod http1;
mod http2;
mod lease;
mod limits;
mod pool;
mod quick;
mod spare;
mod tls;
mod tunnel;
mod wire;

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use platform::clock::Clock;
use tokio::time::Instant;
use traffic::table::Pool;

use crate::body::{Download, Upload};
use crate::reason::{Reason, Refusal};
use crate::timer::Timer;

use dial::Known;
use hop::Why;
use limits::Service;
use pool::{Key, MAX_IDLE, MAX_IDLE_UNREPLAYABLE, Pools};
use tls::Configs;

pub(crate) use hop::{Exchange, Failed, FailedKind, Hop};
pub(crate) use lease::Lease;
pub(crate) use tunnel::{Tunnel, Upgrade};

/// An idle connection is looked at before it is used again after this long, on the wall clock: within it, the runtime
/// has seen the end of a connection as soon as we would.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// How long the application may leave its request's body unfinished without sending a byte of it: the default of
/// Envoy's `stream_idle_timeout`.
const MAX_STALL: Duration = Duration::from_secs(300);

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

/// Makes a request again.
pub(crate) type Again<'a> = dyn Fn() -> Request<Upload> + Sync + 'a;

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

    /// A timer for a request: that of the connection, where it has one.
    fn take_timer(&mut self) -> Timer {
        match self {
            Line::Http1(connection) => connection.timer.take().unwrap_or_default(),
            Line::Http2(_) => Timer::default(),
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

    /// The process has slept: idle connections that are too old go at once, or all of them when the clock was set back.
    /// How many went.
    pub(crate) fn thawed(&self, all: bool) -> usize {
        self.pools.age_out(self.clock.now(), all)
    }

    /// Sends `request` to the hop's endpoint, over a pooled connection if there is one. `again` makes the same request
    /// once more, if it has no body.
    ///
    /// # Errors
    /// When there is no answer. A request that a pooled connection lost because it was dead already has been sent
    /// again on a new one by then, once, if that could do no harm.
    pub(crate) async fn send(
        self: &Arc<Self>,
        hop: &Hop,
        mut request: Request<Upload>,
        again: &Again<'_>,
    ) -> Result<Exchange, Failed> {
        if let Err(why) = hop.check_identity(self.clock.unix()) {
            return Err(Failed::before(request, why));
        }
        let (key, pool) = (Key::of(hop), &hop.cluster.pool);
        let service = self.pools.service(hop.index);
        let Some(place) = service.begin(pool.max_requests) else {
            let why = overflow(hop, "requests at a time (http2MaxRequests)", pool.max_requests);
            return Err(Failed::before(request, why));
        };
        let is_repeatable = spare::is_repeatable(&request);
        request = prepare(hop, &key, request)?;
        let max_idle = if is_repeatable { MAX_IDLE } else { MAX_IDLE_UNREPLAYABLE };
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
                    let response = response.map(|body| Download::new(body, lease));
                    return Ok(Exchange { response, peer, reused });
                }
                // Connections die unseen in a freeze. One more try on a new one, if nothing of an answer has come and
                // the request does no more when it is sent twice.
                Err(Lost::NotSent(unsent, _)) if reused && tries == 0 => request = *unsent,
                Err(Lost::Silent(why)) if reused && tries == 0 => match is_repeatable {
                    true => request = prepare(hop, &want.key, again())?,
                    false => return Err(Failed::after(why)),
                },
                Err(Lost::NotSent(unsent, why)) => return Err(Failed::before(*unsent, why)),
                Err(Lost::Silent(why) | Lost::Broken(why)) => {
                    if let (FailedKind::RefusedStream, Line::Http2(stream)) = (why.0, &line) {
                        stream.refused(pool);
                    }
                    return Err(Failed::after(why));
                }
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
        let (pace, silence) = (request.body().pace(), self.silence(hop));
        let mut timer = line.take_timer();
        let sent = {
            let mut sending = pin!(line.send(request));
            loop {
                // Whose turn it is: while the application's body goes out, the service need not answer, and while nothing
                // of it comes, that is not the service's silence.
                let stalled = pace.as_ref().is_some_and(|pace| pace.is_stalled());
                let changed = async {
                    match &pace {
                        Some(pace) => pace.changed().await,
                        None => std::future::pending().await,
                    }
                };
                timer.set(Instant::now() + if stalled { MAX_STALL } else { silence });
                tokio::select! {
                    biased;
                    sent = &mut sending => break sent,
                    () = changed => {}
                    () = timer.over() => {
                        return Err(Lost::Broken(if stalled { stall() } else { silent(hop, silence) }));
                    }
                }
            }
        };
        if let Line::Http1(connection) = line {
            connection.timer = Some(timer);
        }
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

    /// How long a service may be silent before its answer begins.
    fn silence(&self, hop: &Hop) -> Duration {
        hop.patience.map_or(self.response_timeout, |patience| patience.max(self.response_timeout))
    }

    fn pooled(&self, want: &Want<'_>) -> Option<Line> {
        let pool = &want.hop.cluster.pool;
        match want.key.http2 {
            true => self.pools.begin(&want.key, pool, &want.service, &self.clock, want.max_idle).map(Line::Http2),
            false => self.pools.take(&want.key, pool, self.clock.now(), want.max_idle).map(Line::Http1),
        }
    }
}

/// Brings a request into the form of the hop's protocol.
fn prepare(hop: &Hop, key: &Key, mut request: Request<Upload>) -> Result<Request<Upload>, Failed> {
    if !key.http2 {
        http1::prepare(&mut request);
        return Ok(request);
    }
    http2::prepare(hop, request).map_err(|request| {
        let detail = format!("{}: found a request without a host, expected one", hop.cluster.host);
        Failed::before(*request, (FailedKind::Local, Refusal::new(Reason::RequestInvalid, detail)))
    })
}

fn silent(hop: &Hop, limit: Duration) -> Why {
    let detail = format!("{} did not begin to answer within {} ms", hop.cluster.host, limit.as_millis());
    (FailedKind::Timeout, Refusal::new(Reason::UpstreamTimeout, detail))
}

/// The application's fault: neither the endpoint's nor the service's.
fn stall() -> Why {
    let limit = MAX_STALL.as_secs();
    let detail = format!("nothing of the request's body came within {limit} s, expected the rest of it");
    (FailedKind::Local, Refusal::new(Reason::RequestTimeout, detail))
}

fn overflow(hop: &Hop, what: &str, most: u32) -> Why {
    let detail = format!("{} has all of the {most} {what} that it may have", hop.cluster.host);
    (FailedKind::Overflow, Refusal::new(Reason::TooManyConnections, detail))
}
