//! The listening side, shared by the gateway and the function URLs.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use platform::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::config::ConfigError;

pub(super) type Body = Full<Bytes>;

/// Answers requests.
pub(super) trait Handler: Send + Sync {
    fn handle<'a>(&'a self, request: Request<Incoming>, peer: SocketAddr) -> BoxFuture<'a, Response<Body>>;
}

/// A server whose address is taken, not yet answering.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    handler: Arc<dyn Handler>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Its configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its address cannot be had.
    #[error("cannot listen on {address}: {source}; choose another port")]
    Address {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Connections at one time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1_024;
/// How long a client may take over a request's head.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// The longest head that is read at all; what is over API Gateway's own limit is refused after reading.
const MAX_HEAD: usize = 64 * 1024;
/// How long open requests may take after the shutdown.
const DRAIN_TIME: Duration = Duration::from_secs(5);

impl Bound {
    pub(super) async fn bind(handler: Arc<dyn Handler>, address: SocketAddr) -> Result<Self, BindError> {
        let wrong = |source| BindError::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        Ok(Self { listener, address, handler })
    }

    /// Where it listens, with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` completes, then lets open requests finish for at most 5 s.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let (stop, stopping) = watch::channel(());
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                () = &mut shutdown => break,
                accepted = accepted => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer)) => {
                    let (handler, stopping) = (Arc::clone(&self.handler), stopping.clone());
                    connections.spawn(async move {
                        serve(stream, peer, handler, stopping).await;
                        drop(permit);
                    });
                }
                // Out of file descriptors, or a client that left early: neither is a reason to stop, and the former no reason to spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        drop(self.listener);
        drop(stop);
        let drained = async { while connections.join_next().await.is_some() {} };
        // What is left then is dropped with the set.
        let _ = tokio::time::timeout(DRAIN_TIME, drained).await;
    }
}

/// How long one request took, for the access log.
#[expect(clippy::disallowed_types, reason = "a duration inside one request, on a machine that is never frozen")]
pub(super) struct Stopwatch(std::time::Instant);

#[expect(clippy::disallowed_types, reason = "a duration inside one request, on a machine that is never frozen")]
impl Stopwatch {
    pub(super) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(super) fn micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, handler: Arc<dyn Handler>, mut stopping: watch::Receiver<()>) {
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, std::convert::Infallible>(handler.handle(request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        // A connection's failure is the client's: it left, or did not speak HTTP (hyper has answered that).
        _ = connection.as_mut() => return,
        // The sender is only ever dropped.
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
