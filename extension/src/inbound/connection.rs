//! A caller's connection: mutual TLS or plaintext, as the mesh says, and HTTP/1.1 or HTTP/2 in it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use authz::PeerMode;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::application::Application;
use super::tls::Proven;
use super::{Inbound, Phase, exchange};
use crate::keepalive::{Busy, HEAD, Timed};
use crate::listener::{Duplex, MAX_HEAD_BYTES, MAX_HEADERS};
use crate::reason::{self, Reason};
use crate::sniff::{self, Spoken};

/// How long a connection may wait for the next request: longer than load balancers keep theirs (60 s by default), so
/// that they, who know what they are about to send, end it.
const IDLE: Duration = Duration::from_secs(600);

/// How long a connection may still be unused once places have become scarce: strangers could take all of them for
/// [`IDLE`] otherwise, with one refused request each.
const UNUSED: Duration = Duration::from_secs(5);

/// How long before the end of its caller's certificate a connection takes its last request, in seconds: whoever renews
/// in time has a new one by then.
const BEFORE_EXPIRY: u64 = 60;

/// How often the clock on the wall is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(5);

/// How long a caller of HTTP/2 may keep a connection on which it has nothing more to do, once it was asked to go.
const LINGER: Duration = Duration::from_secs(30);

/// When a silent connection is asked whether its caller is still there.
const PROBE: Duration = Duration::from_secs(60);

/// The pause after a connection could not be accepted, as when there is no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The most requests at a time on a connection of HTTP/2.
const MAX_STREAMS: u32 = 256;

/// What one request may have on its way to us in HTTP/2, and all of a connection.
const STREAM_WINDOW: u32 = 256 * 1_024;
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;

/// What of an answer waits to be sent in HTTP/2.
const SEND_BUFFER: usize = 64 * 1_024;

/// The first byte of TLS: a record of the kind `handshake` (RFC 8446 5.1). No request of HTTP begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// A port that is guarded.
pub(crate) struct Port {
    /// Who may come how.
    pub(crate) mode: PeerMode,
    pub(crate) application: Arc<Application>,
}

/// Who calls, and what for.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) address: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
    /// `None` is plaintext.
    pub(crate) proven: Option<Arc<Proven>>,
    /// The application's port, which is the workload's to the policies.
    pub(crate) port: u16,
    pub(crate) application: Arc<Application>,
    pub(crate) busy: Busy,
    /// The connection's place among all of them.
    pub(crate) place: Arc<OwnedSemaphorePermit>,
}

/// Takes connections until there is an end to it.
pub(crate) async fn accept(listener: TcpListener, port: Arc<Port>, inbound: Arc<Inbound>, places: Arc<Semaphore>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = inbound.reached(Phase::Stopping) => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                inbound.log.write(&serde_json::json!({ "event": "accept_failed", "error": error.to_string() }));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let _ = stream.set_nodelay(true);
                // Without it, a caller that has vanished would keep its place for as long as its request has no answer.
                let keepalive = TcpKeepalive::new().with_time(PROBE).with_interval(PROBE / 4);
                let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                let (cut, port, inbound) = (inbound.cut.clone(), Arc::clone(&port), Arc::clone(&inbound));
                tokio::spawn(async move { cut.bounds(begin(stream, address, port, inbound, place)).await });
            }
            Err(_) => {
                inbound.crowd.notify_waiters();
                // Whoever speaks TLS can be told nothing.
                match port.mode {
                    PeerMode::Strict => drop(stream),
                    _ => drop(tokio::spawn(turn_away(stream))),
                }
            }
        }
    }
}

async fn begin(
    stream: TcpStream,
    address: SocketAddr,
    port: Arc<Port>,
    inbound: Arc<Inbound>,
    place: OwnedSemaphorePermit,
) {
    let mut caller = Caller {
        address,
        local: stream.local_addr().ok(),
        proven: None,
        port: port.application.address().port(),
        application: Arc::clone(&port.application),
        busy: Busy::default(),
        place: Arc::new(place),
    };
    let speaks_tls = match port.mode {
        PeerMode::Strict => true,
        PeerMode::Disable => false,
        PeerMode::Permissive => {
            let looked = tokio::select! {
                looked = tokio::time::timeout(HEAD, begins_with_tls(&stream)) => looked,
                () = inbound.reached(Phase::Stopping) => return,
            };
            match looked {
                Ok(Some(tls)) => tls,
                // It has said nothing.
                _ => return,
            }
        }
    };
    if !speaks_tls {
        return http(stream, caller, inbound).await;
    }
    let shaken = tokio::select! {
        shaken = inbound.tls.accept(stream) => shaken,
        () = inbound.reached(Phase::Stopping) => return,
    };
    match shaken {
        Ok((stream, proven)) => {
            caller.proven = Some(Arc::new(proven));
            http(stream, caller, inbound).await;
        }
        Err(error) => inbound.log.write(&serde_json::json!({
            "event": "inbound_refused",
            "source": address.to_string(),
            "error": error,
        })),
    }
}

/// What the first byte says, which stays where it is; `None` when there is none.
async fn begins_with_tls(stream: &TcpStream) -> Option<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) => Some(first[0] == TLS_HANDSHAKE),
        _ => None,
    }
}

async fn http<S: Duplex + 'static>(stream: S, caller: Caller, inbound: Arc<Inbound>) {
    let looking = sniff::look(Timed::idle_for(stream, caller.busy.clone(), IDLE), sniff::of_http);
    let looked = tokio::select! {
        // What has come is looked at first: there may be a whole request.
        biased;
        looked = looking => looked,
        () = leaves(&inbound, &caller.busy, caller.proven.as_deref(), Phase::Stopping) => return,
    };
    // An error is the caller's: it went away, or took too long.
    let Ok((spoken, mut stream)) = looked else { return };
    let (busy, proven) = (caller.busy.clone(), caller.proven.clone());
    let service = {
        let inbound = Arc::clone(&inbound);
        service_fn(move |request| {
            let (inbound, caller) = (Arc::clone(&inbound), caller.clone());
            let busy = caller.busy.begin();
            async move { Ok::<_, Infallible>(exchange::answer(inbound, caller, request, busy).await) }
        })
    };
    if spoken == Some(Spoken::Http2) {
        stream.get_mut().share();
        let connection = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // What begins after this is refused with an error that says that it was not processed.
        let leaving = if inbound.phase() == Phase::Serving { Phase::Draining } else { Phase::Stopping };
        tokio::select! {
            _ = &mut connection => {}
            () = leaves(&inbound, &busy, proven.as_deref(), leaving) => {
                connection.as_mut().graceful_shutdown();
                // A caller that does not answer would be asked for ever.
                tokio::select! {
                    _ = &mut connection => {}
                    () = lingers(&busy) => {}
                }
            }
        }
        return;
    }
    let connection = http1::Builder::new()
        // Instead of the library's own limit, see `keepalive`.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    // While the others look elsewhere, answers say `Connection: close`: to close an idle connection here would lose the
    // request that is on its way in it.
    tokio::select! {
        _ = &mut connection => {}
        () = leaves(&inbound, &busy, proven.as_deref(), Phase::Stopping) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Returns when a connection is to take no more requests: the end has come so far, its caller's certificate runs out, or
/// places are scarce and nobody uses this one.
async fn leaves(inbound: &Inbound, busy: &Busy, proven: Option<&Proven>, phase: Phase) {
    tokio::select! {
        () = inbound.reached(phase) => {}
        () = runs_out(inbound, proven) => {}
        () = unused(inbound, busy) => {}
    }
}

/// Returns shortly before the caller's certificate proves nothing any more.
async fn runs_out(inbound: &Inbound, proven: Option<&Proven>) {
    let Some(Proven { until, .. }) = proven else { return std::future::pending().await };
    let left = || until.saturating_sub(inbound.clock.unix());
    // Of one that is about to end, most of what is left.
    let margin = BEFORE_EXPIRY.min(left() / 10);
    while left() > margin {
        tokio::time::sleep(LOOK.min(Duration::from_secs(left() - margin))).await;
    }
}

/// Returns when places have become scarce, and there was no request for a while since.
async fn unused(inbound: &Inbound, busy: &Busy) {
    loop {
        inbound.crowd.notified().await;
        let begun = busy.begun();
        tokio::time::sleep(UNUSED).await;
        if !busy.is_busy() && busy.begun() == begun {
            return;
        }
    }
}

/// Returns when there has been nothing to do for a while.
async fn lingers(busy: &Busy) {
    loop {
        let begun = busy.begun();
        tokio::time::sleep(LINGER).await;
        if !busy.is_busy() && busy.begun() == begun {
            return;
        }
    }
}

/// One connection too many: an answer instead of silence, and no more work than that.
async fn turn_away(mut stream: TcpStream) {
    let reason = Reason::TooManyConnections;
    let head = format!(
        "HTTP/1.1 {} Service Unavailable\r\n{}: {}\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        reason.status().as_u16(),
        reason::HEADER,
        reason.as_str()
    );
    // Whoever does not read it has left.
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        stream.write_all(head.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}
