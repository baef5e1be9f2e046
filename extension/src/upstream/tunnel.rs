//! Bytes both ways, over the hop's protection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use identity::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::Dialed;
use super::limits::Place;
use super::pool::Key;
use super::tls::Spoken;
use super::{Exchange, Failed, FailedKind, Hop, Lease, Line, Lost, Upstream, Why, http1, overflow};
use crate::body::{Download, Upload};
use crate::reason::{Reason, Refusal};

/// Both directions of a connection. Shutting one down leaves the other one open.
pub(crate) struct Tunnel {
    stream: Box<dyn Stream>,
    /// The identity that the server proved; none without mutual TLS.
    pub(crate) peer: Option<SpiffeId>,
    _place: Option<Place>,
}

/// A connection of any kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What became of a request to switch protocols.
pub(crate) enum Upgrade {
    /// 101: the head of the answer and the connection.
    Switched(Response<()>, Tunnel),
    /// Another answer.
    Refused(Exchange),
}

impl Upstream {
    /// A connection of its own to the hop's endpoint.
    ///
    /// # Errors
    /// As [`Upstream::send`], when there is no connection.
    pub(crate) async fn tunnel(self: &Arc<Self>, hop: &Hop) -> Result<Tunnel, Failed> {
        let dialed = self.alone(hop, Spoken::Bytes).await.map_err(Failed::after)?;
        Ok(Tunnel { peer: dialed.known.peer, stream: Box::new(dialed.transport), _place: None })
    }

    /// Sends a request with `Connection: upgrade` and `Upgrade`, over a connection of its own.
    ///
    /// # Errors
    /// As [`Upstream::send`]; for a cluster that is spoken to in HTTP/2, which has no `Upgrade` (RFC 9113 8.6).
    pub(crate) async fn upgrade(self: &Arc<Self>, hop: &Hop, mut request: Request<Upload>) -> Result<Upgrade, Failed> {
        if hop.speaks_http2() {
            let detail = format!("{} is spoken to in HTTP/2, expected HTTP/1.1 for an upgrade", hop.cluster.host);
            let refusal = Refusal::new(Reason::WebsocketUnsupported, detail);
            return Err(Failed::before(request, (FailedKind::Local, refusal)));
        }
        let (pool, service) = (&hop.cluster.pool, self.pools.service(hop.index));
        let Some(place) = service.begin(pool.max_requests) else {
            let why = overflow(hop, "requests at a time (http2MaxRequests)", pool.max_requests);
            return Err(Failed::before(request, why));
        };
        let opened = match self.alone(hop, Spoken::Http1).await {
            Ok(dialed) => http1::open_to_upgrade(hop, dialed).await,
            Err(why) => Err(why),
        };
        let mut line = match opened {
            Ok(connection) => Line::Http1(connection),
            Err(why) => return Err(Failed::before(request, why)),
        };
        let peer = line.known().peer.clone();
        http1::prepare(&mut request);
        let mut response = match self.exchange(hop, &mut line, request).await {
            Ok(response) => response,
            Err(Lost::NotSent(unsent, why)) => return Err(Failed::before(*unsent, why)),
            Err(Lost::Silent(why) | Lost::Broken(why)) => return Err(Failed::after(why)),
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (upstream, key) = (Arc::clone(self), Key::of(hop));
            let lease = Lease { upstream, key, service, line, again: false, _place: place };
            let response = response.map(|body| Download::new(body, lease));
            return Ok(Upgrade::Refused(Exchange { response, peer, reused: false }));
        }
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(|error| {
            let detail = format!("{} gave no connection with its 101: {error}", hop.cluster.host);
            Failed::after((FailedKind::Protocol, Refusal::new(Reason::UpstreamProtocolError, detail)))
        })?;
        let stream = Box::new(TokioIo::new(upgraded));
        Ok(Upgrade::Switched(response.map(|_| ()), Tunnel { stream, peer, _place: Some(place) }))
    }

    /// A connection that no other request will use.
    async fn alone(&self, hop: &Hop, spoken: Spoken) -> Result<Dialed, Why> {
        hop.check_identity(self.clock.unix())?;
        let (pool, service) = (&hop.cluster.pool, self.pools.service(hop.index));
        let (key, now) = (Key::of(hop), self.clock.now());
        let open = || self.pools.open(&key, pool, &service, now);
        let open = open().or_else(|| self.pools.make_way(&key, now, Duration::ZERO).then(open).flatten());
        let open = open.ok_or_else(|| overflow(hop, "connections (tcp.maxConnections)", pool.max_connections))?;
        self.dial(hop, spoken, open).await
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
