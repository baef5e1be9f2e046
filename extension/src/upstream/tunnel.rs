//! Bytes both ways, over the hop's protection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use identity::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Exchange, Failed, FailedKind, Hop, Upstream};
use crate::body::Upload;
use crate::reason::{Reason, Refusal};

/// Both directions of a connection. Shutting one down leaves the other one open.
pub(crate) struct Tunnel {
    pub(super) stream: Box<dyn Stream>,
    /// The identity that the server proved; none without mutual TLS.
    pub(crate) peer: Option<SpiffeId>,
}

/// A connection of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What became of a request to switch protocols.
pub(crate) enum Upgrade {
    /// 101: the head of the answer and the connection.
    Switched(Response<()>, Tunnel),
    /// Another answer.
    Refused(Exchange),
}

#[allow(dead_code, clippy::unused_async)]
impl Upstream {
    /// A connection of its own to the hop's endpoint.
    ///
    /// # Errors
    /// As [`Upstream::send`], when there is no connection.
    pub(crate) async fn tunnel(self: &Arc<Self>, hop: &Hop) -> Result<Tunnel, Failed> {
        let detail = format!("{}: tunnels are not supported yet", hop.cluster.host);
        Err(Failed {
            kind: FailedKind::Connect,
            unsent: None,
            refusal: Refusal::new(Reason::ConnectUnsupported, detail),
        })
    }

    /// Sends a request with `Connection: upgrade` and `Upgrade`, over a connection of its own.
    ///
    /// # Errors
    /// As [`Upstream::send`].
    pub(crate) async fn upgrade(self: &Arc<Self>, hop: &Hop, request: Request<Upload>) -> Result<Upgrade, Failed> {
        let detail = format!("{}: upgrades are not supported yet", hop.cluster.host);
        let refusal = Refusal::new(Reason::WebsocketUnsupported, detail);
        Err(Failed { kind: FailedKind::Protocol, unsent: Some(Box::new(request)), refusal })
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
