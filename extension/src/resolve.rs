//! From the endpoints of a cluster to addresses.

use std::net::SocketAddr;
use std::sync::Arc;

use platform::clock::Clock;
use traffic::table::{Cluster, Resolution};

use crate::config::ConnectTo;
use crate::reason::{Reason, Refusal};

/// Looks names up.
pub(crate) struct Resolver {
    connect_to: Vec<ConnectTo>,
    _clock: Arc<dyn Clock>,
}

/// The addresses of a cluster. As long as nothing changes it is the same `Arc`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses(pub(crate) Vec<Resolved>);

/// One address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The place of its endpoint in [`Cluster::endpoints`].
    pub(crate) endpoint: usize,
    /// Where to connect.
    pub(crate) address: SocketAddr,
}

impl Resolver {
    /// `runtime_api` is the host and port of Lambda's Runtime API, which no client can be let through to.
    pub(crate) fn new(connect_to: Vec<ConnectTo>, runtime_api: Option<String>, clock: Arc<dyn Clock>) -> Arc<Resolver> {
        let _ = runtime_api;
        Arc::new(Resolver { connect_to, _clock: clock })
    }

    /// The addresses of a cluster's endpoints; never empty. Not for [`Resolution::Original`].
    ///
    /// # Errors
    /// When no endpoint has an address.
    pub(crate) async fn endpoints(self: &Arc<Self>, cluster: &Cluster) -> Result<Arc<Addresses>, Refusal> {
        let mut found = Vec::new();
        let mut why = "found no endpoint, expected one".to_owned();
        for (index, endpoint) in cluster.endpoints.iter().enumerate() {
            match self.look_up(&endpoint.address, endpoint.port).await {
                Ok(addresses) => {
                    let most = if cluster.resolution == Resolution::StrictDns { usize::MAX } else { 1 };
                    found.extend(addresses.into_iter().take(most).map(|address| Resolved { endpoint: index, address }));
                }
                Err(error) => why = error,
            }
        }
        match found.is_empty() {
            true => Err(Refusal::new(Reason::UpstreamConnectFailed, why)),
            false => Ok(Arc::new(Addresses(found))),
        }
    }

    /// The addresses of the host that a client named, for [`Resolution::Original`].
    ///
    /// # Errors
    /// When there are none that a client may be let through to.
    pub(crate) async fn original(self: &Arc<Self>, host: &str, port: u16) -> Result<Arc<Addresses>, Refusal> {
        let found = self.look_up(host, port).await;
        let found = found.map_err(|why| Refusal::new(Reason::UpstreamConnectFailed, why))?;
        Ok(Arc::new(Addresses(found.into_iter().map(|address| Resolved { endpoint: 0, address }).collect())))
    }

    async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        if let Some(to) = self.connect_to.iter().find(|to| to.host == host && to.port == port) {
            return Ok(vec![to.address]);
        }
        let found = tokio::net::lookup_host((host, port)).await;
        found.map(Iterator::collect).map_err(|error| format!("cannot find the endpoint {host}:{port}: {error}"))
    }
}
