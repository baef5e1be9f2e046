//! The gRPC server: Envoy's `Authorization` service and the standard health service on one port.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::ext_authz::v3::pb::{Authorization, AuthorizationServer, CheckRequest, CheckResponse};
use platform::metrics::scrape;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Request, Response, Status};

use crate::reload::Watch;
use crate::{Adapter, Error};

/// The largest `CheckRequest`, in bytes: 64 KiB of headers, and room for Envoy's own attributes, such as a
/// client certificate. A larger one is an error to Envoy, which denies.
const MAX_MESSAGE: usize = 96 * 1024;
/// Checks that run at a time; one more is an error to Envoy, which denies.
const MAX_CHECKS: usize = 1_024;
/// Checks at a time on one of Envoy's connections.
const MAX_STREAMS: u32 = 256;
/// How long a check may take in all; Envoy's own limit is usually shorter.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that does not answer a ping for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long a shutdown waits for the checks that are under way.
const DRAIN: Duration = Duration::from_secs(5);

/// An adapter with its port, which nobody else can have any more. Envoy's first connection may already be waiting.
#[derive(Debug)]
pub struct Bound {
    adapter: Adapter,
    address: SocketAddr,
    incoming: TcpIncoming,
    scrapes: Option<TcpListener>,
    watch: Option<Watch>,
}

impl Bound {
    pub(crate) fn new(address: SocketAddr, adapter: Adapter) -> Result<Self, Error> {
        let bind = |source: std::io::Error| Error::Bind { address, source };
        let incoming = TcpIncoming::bind(address).map_err(bind)?.with_nodelay(Some(true));
        let address = incoming.local_addr().map_err(bind)?;
        Ok(Self { adapter, address, incoming, scrapes: None, watch: None })
    }

    /// Prometheus is answered too, at the same IP address and this port; with port 0, any free one. Must be called
    /// within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::BindMetrics`].
    pub fn with_prometheus(self, port: u16) -> Result<Self, Error> {
        let address = SocketAddr::new(self.address.ip(), port);
        let bind = |source: std::io::Error| Error::BindMetrics { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        Ok(Self { scrapes: Some(TcpListener::from_std(listener).map_err(bind)?), ..self })
    }

    /// Where Prometheus is answered.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.scrapes.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    pub(crate) fn with_watch(self, watch: Option<Watch>) -> Self {
        Self { watch, ..self }
    }

    /// The address that is listened on; with port 0 asked for, the port that was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is ready, then finishes what is under way (five seconds at most).
    ///
    /// # Errors
    /// The listener failed.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        // The signal handlers are the caller's future; what is announced here can already be reached.
        self.adapter.announce(self.address, self.metrics_address());
        let mut aside = JoinSet::new();
        if let Some(listener) = self.scrapes {
            let adapter = self.adapter.clone();
            aside.spawn(scrape::serve(listener, move || adapter.metrics()));
        }
        if let Some(watch) = self.watch {
            aside.spawn(watch.run(self.adapter.clone()));
        }
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<AuthorizationServer<Checks>>().await;
        let checks = Checks { adapter: self.adapter, running: Arc::new(Semaphore::new(MAX_CHECKS)) };
        let checks = AuthorizationServer::new(checks)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let stopping = Arc::new(tokio::sync::Notify::new());
        let stopped = stopping.clone();
        let serving = Server::builder()
            .timeout(CHECK_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_max_header_list_size(16 * 1024)
            .add_service(health_service)
            .add_service(checks)
            .serve_with_incoming_shutdown(self.incoming, async move {
                shutdown.await;
                // "not serving" first, so that a load balancer that asks looks elsewhere while we drain.
                health.set_not_serving::<AuthorizationServer<Checks>>().await;
                stopped.notify_one();
            });
        let serving = std::pin::pin!(serving);
        let overdue = async {
            stopping.notified().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = serving => served.map_err(Error::Serve),
            // Envoy keeps its connections open, so a drain need not end by itself.
            () = overdue => Ok(()),
        }
    }
}

/// The gRPC service.
#[derive(Clone)]
struct Checks {
    adapter: Adapter,
    running: Arc<Semaphore>,
}

#[tonic::async_trait]
impl Authorization for Checks {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let Ok(_permit) = self.running.clone().try_acquire_owned() else {
            self.adapter.count_overload();
            // An error, not a denial: Envoy counts it as such, and denies (`failure_mode_allow` is off).
            return Err(Status::resource_exhausted("too many checks at a time"));
        };
        Ok(Response::new(self.adapter.check(request.into_inner()).await))
    }
}
