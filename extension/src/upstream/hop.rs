//! Where a request goes, and what comes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use identity::{Credentials, SpiffeId};
use traffic::table::{Cluster, Protocol, Tls};

use super::tls;
use crate::body::{Download, Upload};
use crate::reason::Refusal;

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
    pub(crate) endpoint: Arc<str>,
    /// Who we are; there exactly for [`Tls::IstioMutual`].
    pub(crate) credentials: Option<Arc<Credentials>>,
    /// The request's host, for [`Tls::Simple`] without a server name; empty for all others.
    pub(crate) server_name: String,
    /// Whether the client speaks HTTP/2, for a cluster that follows it.
    pub(crate) http2: bool,
    /// How long the route itself lets the service be silent, where it says so: that counts if it is longer than what
    /// counts everywhere.
    pub(crate) patience: Option<Duration>,
}

impl Hop {
    /// Whether the name that the server has to prove is the request's host.
    pub(crate) fn is_named_by_request(cluster: &Cluster) -> bool {
        matches!(&cluster.tls, Tls::Simple(simple) if simple.sni.is_empty())
    }

    pub(super) fn generation(&self) -> u64 {
        match (&self.cluster.tls, &self.credentials) {
            (Tls::IstioMutual(_), Some(credentials)) => credentials.generation(),
            _ => 0,
        }
    }

    pub(super) fn speaks_http2(&self) -> bool {
        match self.cluster.protocol {
            Protocol::Http2 => true,
            Protocol::Client => self.http2,
            Protocol::Http1 | Protocol::Tcp => false,
        }
    }

    /// A cluster in the mesh without an identity is an error, never a reason to leave it out.
    pub(super) fn check_identity(&self, now: u64) -> Result<(), Why> {
        let why = match (&self.cluster.tls, &self.credentials) {
            (Tls::IstioMutual(_), None) => "there is no SVID",
            (Tls::IstioMutual(_), Some(credentials)) if now > credentials.svid().not_after() => "the SVID is over",
            _ => return Ok(()),
        };
        Err((FailedKind::Local, tls::no_identity(self, why)))
    }
}

/// Kind and words of a failure.
pub(super) type Why = (FailedKind, Refusal);

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
    /// The request, when no byte of it was sent, or when it does no more if it is sent twice. Its host may have moved
    /// between address and header field, as the protocol wants it; [`Upstream::send`] takes either.
    ///
    /// [`Upstream::send`]: super::Upstream::send
    pub(crate) unsent: Option<Box<Request<Upload>>>,
    /// For the application, should this be the last try.
    pub(crate) refusal: Refusal,
}

impl Failed {
    pub(super) fn before(request: Request<Upload>, (kind, refusal): Why) -> Failed {
        Failed { kind, unsent: Some(Box::new(request)), refusal }
    }

    pub(super) fn after((kind, refusal): Why) -> Failed {
        Failed { kind, unsent: None, refusal }
    }
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailedKind {
    /// On this side, before or while anything went out: our configuration, our limits, the application. It says
    /// nothing about the endpoint, and another one would not help.
    Local,
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
