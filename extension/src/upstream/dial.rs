//! New connections: TCP, and TLS on it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::{SpiffeId, tls, verify};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use traffic::table::Pool;

use super::limits::Open;
use super::wire::{Link, Probe, Socket, Stats, Transport};
use super::{FailedKind, Hop, Why};
use crate::reason::{Reason, Refusal};

/// How long connecting may take where the configuration has Istio's default of 10 s or nothing. A black hole must not
/// hold a function that is billed by the millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The same for the TLS handshake on the connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// `connectTimeout` when nobody has set one.
const ISTIO_DEFAULT_MS: u64 = 10_000;

/// A new connection and what is known of it.
pub(super) struct Dialed {
    pub(super) transport: Transport,
    pub(super) known: Known,
}

/// What stays known of a connection while somebody else holds it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Who the server proved to be.
    pub(super) peer: Option<SpiffeId>,
    pub(super) stats: Arc<Stats>,
    pub(super) probe: Probe,
    /// When it was made.
    pub(super) born: SystemTime,
    /// The last second of the SVID that it was made with.
    pub(super) until: Option<SystemTime>,
}

impl Known {
    /// Whether a connection may have another request at `now`. A clock that was set back says nothing about the age:
    /// it may not.
    pub(super) fn is_young(&self, now: SystemTime, pool: &Pool) -> bool {
        let Ok(age) = now.duration_since(self.born) else { return false };
        let max = pool.max_connection_ms;
        self.until.is_none_or(|until| now <= until) && (max == 0 || age < Duration::from_millis(max))
    }
}

/// Connects to the hop's address and, with `protection`, shakes hands.
pub(super) async fn dial(
    hop: &Hop,
    protection: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    open: Open,
    now: SystemTime,
) -> Result<Dialed, Why> {
    let pool = &hop.cluster.pool;
    let begin = Instant::now();
    let whole = match pool.connect_timeout_ms {
        0 | ISTIO_DEFAULT_MS => None,
        // The operator's own: for both, as in Envoy.
        limit => Some(begin + Duration::from_millis(limit)),
    };
    let stream = connect(hop, begin, whole.unwrap_or(begin + CONNECT_TIMEOUT)).await?;
    prepare(&stream, pool);
    let socket = Socket::new(stream);
    let probe = socket.probe();
    let until = hop.credentials.as_ref().map(|credentials| {
        // The whole of the last second.
        SystemTime::UNIX_EPOCH + Duration::from_secs(credentials.svid().not_after().saturating_add(1))
    });
    let Some((config, name)) = protection else {
        let transport = Transport::new(Link::Plain(socket), open);
        let known = Known { peer: None, stats: transport.stats(), probe, born: now, until };
        return Ok(Dialed { transport, known });
    };
    let begin = Instant::now();
    let handshake = TlsConnector::from(config).connect(name, socket);
    let stream = match timeout_at(whole.unwrap_or(begin + HANDSHAKE_TIMEOUT), handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err((FailedKind::Tls, refuse_handshake(hop, &error))),
        Err(_) => {
            let limit = begin.elapsed().as_millis();
            let detail = format!("no TLS handshake with {} within {limit} ms", hop.cluster.host);
            return Err((FailedKind::Connect, Refusal::new(Reason::UpstreamTimeout, detail)));
        }
    };
    // With mutual TLS the verifier has accepted it, so it is there.
    let peer = match &hop.credentials {
        Some(_) => Some(verify::peer_id(stream.get_ref().1.peer_certificates()).ok_or_else(|| {
            let detail = format!("{} showed no certificate", hop.cluster.host);
            (FailedKind::Tls, Refusal::new(Reason::TlsFailed, detail))
        })?),
        None => None,
    };
    let transport = Transport::new(Link::Tls(Box::new(stream)), open);
    let known = Known { peer, stats: transport.stats(), probe, born: now, until };
    Ok(Dialed { transport, known })
}

async fn connect(hop: &Hop, begin: Instant, deadline: Instant) -> Result<TcpStream, Why> {
    let endpoint = &hop.endpoint;
    match timeout_at(deadline, TcpStream::connect(hop.address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            let detail = format!("cannot connect to the endpoint {endpoint}: {error}");
            let kind = if is_ours(&error) { FailedKind::Local } else { FailedKind::Connect };
            Err((kind, Refusal::new(Reason::UpstreamConnectFailed, detail)))
        }
        Err(_) => {
            let limit = (deadline - begin).as_millis();
            let detail = format!("no connection to the endpoint {endpoint} within {limit} ms");
            Err((FailedKind::Connect, Refusal::new(Reason::UpstreamTimeout, detail)))
        }
    }
}

/// Whether this machine has run out of something: Linux's `ENFILE`, `EMFILE`, `ENOMEM`, `EADDRNOTAVAIL`, `ENOBUFS`.
fn is_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24 | 12 | 99 | 105))
}

/// Options that make a connection better, and without which it is one too.
fn prepare(stream: &TcpStream, pool: &Pool) {
    // Small requests must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    if let Some((probes, time, interval)) = pool.keepalive {
        let mut keepalive = TcpKeepalive::new();
        if time > 0 {
            keepalive = keepalive.with_time(Duration::from_secs(time.into()));
        }
        if interval > 0 {
            keepalive = keepalive.with_interval(Duration::from_secs(interval.into()));
        }
        if probes > 0 {
            keepalive = keepalive.with_retries(probes);
        }
        let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
    }
}

fn refuse_handshake(hop: &Hop, error: &io::Error) -> Refusal {
    let host = &hop.cluster.host;
    match tls::peer_error(error) {
        Some(peer) if peer.is_identity() => Refusal::new(Reason::PeerIdentityMismatch, format!("{host}: {peer}")),
        Some(peer) => Refusal::new(Reason::TlsFailed, format!("{host}: {peer}")),
        None => {
            let hint = if hop.credentials.is_some() { " (does it speak mesh mutual TLS?)" } else { "" };
            Refusal::new(Reason::TlsFailed, format!("the TLS handshake with {host} failed: {error}{hint}"))
        }
    }
}
