//! From the endpoints of a cluster to addresses.
//!
//! Names are looked up by the operating system, in a thread of their own, and kept for a short time. Nothing runs
//! between requests: a request that finds an old entry starts the next look-up, and uses what is there as long as it
//! is not too old.

mod belongs;
mod cache;
mod earlier;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use platform::BoxFuture;
use platform::clock::Clock;
use platform::https::{Reach, canonical_address};
use traffic::table::{Cluster, Endpoint, Resolution, Tls};

use crate::config::ConnectTo;
use crate::reason::{Reason, Refusal};
pub(crate) use belongs::Belongs;
use cache::Cache;

/// The most addresses of one name.
const MAX_ADDRESSES: usize = 64;

/// How long a cluster is told the same without another look.
const MOMENT: Duration = Duration::from_secs(1);

/// Turns a name into addresses, without their ports.
pub(crate) trait Lookup: Send + Sync {
    fn lookup(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
pub(crate) struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Looks names up.
pub(crate) struct Resolver {
    connect_to: Vec<ConnectTo>,
    /// The host of Lambda's Runtime API.
    runtime_api: Option<String>,
    cache: Arc<Cache>,
    /// What each cluster was told last, by its place in the table.
    told: Mutex<HashMap<u32, Told>>,
}

struct Told {
    addresses: Arc<Addresses>,
    at: SystemTime,
    version: u64,
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
    /// `runtime_api` is the host and port of Lambda's Runtime API, which no client may be let through to; `mesh` is
    /// what no name leads to in the clear that a client chooses.
    pub(crate) fn new(
        connect_to: Vec<ConnectTo>,
        runtime_api: Option<String>,
        mesh: Belongs,
        clock: Arc<dyn Clock>,
    ) -> Arc<Resolver> {
        Resolver::with(connect_to, runtime_api, mesh, clock, Arc::new(SystemLookup))
    }

    pub(crate) fn with(
        connect_to: Vec<ConnectTo>,
        runtime_api: Option<String>,
        mesh: Belongs,
        clock: Arc<dyn Clock>,
        lookup: Arc<dyn Lookup>,
    ) -> Arc<Resolver> {
        let runtime_api = runtime_api.map(|address| host_of(&address).to_ascii_lowercase());
        let cache = Cache::new(clock, lookup, mesh);
        Arc::new(Resolver { connect_to, runtime_api, cache, told: Mutex::default() })
    }

    /// The addresses of a cluster's endpoints; never empty. Not for [`Resolution::Original`].
    ///
    /// Without a name among them, or with names that were looked up a moment ago, it does not wait; and for some of
    /// them only a moment, once others have an address. `index` is the cluster's place in its table.
    ///
    /// # Errors
    /// When no endpoint has an address that a request may go to.
    pub(crate) async fn endpoints(self: &Arc<Self>, index: u32, cluster: &Cluster) -> Result<Arc<Addresses>, Refusal> {
        let (version, now) = (self.cache.version(), self.cache.now());
        if let Some(told) = self.lock().get(&index)
            && (cluster.resolution == Resolution::Static || told.is_valid(version, now))
        {
            return Ok(Arc::clone(&told.addresses));
        }
        let lookups = cluster.endpoints.iter().map(|endpoint| self.endpoint(endpoint, cluster));
        let mut found = Vec::with_capacity(cluster.endpoints.len());
        let mut why = Refusal::new(Reason::UpstreamConnectFailed, "found no endpoint, expected one");
        for (endpoint, looked_up) in enough(lookups).await.into_iter().enumerate() {
            match looked_up {
                // The next request asks again.
                None => {}
                Some(Ok(addresses)) => {
                    let most = match cluster.resolution {
                        // Envoy, LOGICAL_DNS: "only uses the first IP address returned".
                        Resolution::LogicalDns => 1,
                        _ => MAX_ADDRESSES,
                    };
                    found.extend(addresses.into_iter().take(most).map(|address| Resolved { endpoint, address }));
                }
                Some(Err(error)) => why = error,
            }
        }
        match found.is_empty() {
            true => Err(Refusal { detail: format!("{}: {}", cluster.host, why.detail), ..why }),
            false => Ok(self.tell(index, Addresses(found), version, now)),
        }
    }

    /// The addresses of one endpoint. Outside of the mesh, where nobody has to prove who he is, a name that the operator
    /// has given must not become this machine's own services or the cloud's metadata service because whoever answers
    /// for it in the DNS says so (DNS rebinding). That it does not become the mesh either is the operator's word, as of
    /// hosts whose addresses are the client's to find: he may share a load balancer with the mesh.
    async fn endpoint(self: &Arc<Self>, endpoint: &Endpoint, cluster: &Cluster) -> Result<Vec<SocketAddr>, Refusal> {
        let (name, port) = (endpoint.address.as_str(), endpoint.port);
        let refused = |why: String| Refusal::new(Reason::UpstreamConnectFailed, why);
        let found = self.look_up(name, port).await.map_err(refused)?;
        let given = self.is_led(name, port) || bare(name).parse::<IpAddr>().is_ok() || is_local(name);
        if given || matches!(cluster.tls, Tls::IstioMutual(_)) {
            return Ok(found);
        }
        self.reachable(name, found)
    }

    /// The addresses of the host that a client named, for [`Resolution::Original`].
    ///
    /// The client is this function, and what it can reach through here must be no more than the network gives it: not
    /// this machine's loopback services, the metadata services of the cloud or Lambda's Runtime API. Where the operator
    /// has not named the host it is not the mesh either, whatever the DNS calls it: a sidecar that is PERMISSIVE would
    /// answer. A `ServiceEntry` is the operator's word that the host is none of the mesh's.
    ///
    /// # Errors
    /// When there are none that a client may be let through to.
    pub(crate) async fn original(
        self: &Arc<Self>,
        host: &str,
        port: u16,
        named: bool,
    ) -> Result<Arc<Addresses>, Refusal> {
        let refused = |why: String| Refusal::new(Reason::UpstreamConnectFailed, why);
        let name = bare(host).to_ascii_lowercase();
        let led = self.is_led(&name, port);
        if !led && self.runtime_api.as_deref() == Some(name.as_str()) {
            let detail = format!("{host} is the host of Lambda's Runtime API, which is not for proxied calls");
            return Err(Refusal::new(Reason::DestinationForbidden, detail));
        }
        let mut found = self.look_up(&name, port).await.map_err(refused)?;
        if !led {
            found = self.reachable(host, found)?;
            if !named {
                found = self.outside(host, found)?;
            }
        }
        Ok(Arc::new(Addresses(found.into_iter().map(|address| Resolved { endpoint: 0, address }).collect())))
    }

    /// Those of the addresses of `host` that calls may go to, of which there must be one.
    fn reachable(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refusal> {
        allowed(host, found, |address| self.check(address))
    }

    /// Those that are not the mesh's.
    fn outside(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refusal> {
        allowed(host, found, |address| match self.cache.is_of_mesh(address) {
            true => Err(
                "an address of the mesh, now or within the last 48 hours, which a ServiceEntry for the host would allow",
            ),
            false => Ok(()),
        })
    }

    /// Whether the operator has said where this is.
    fn is_led(&self, host: &str, port: u16) -> bool {
        self.connect_to.iter().any(|to| to.host == host && to.port == port)
    }

    fn check(&self, address: IpAddr) -> Result<(), &'static str> {
        let plain = canonical_address(address);
        if plain.is_loopback() {
            return Err("a loopback address");
        }
        if self.runtime_api.as_ref().and_then(|api| api.parse::<IpAddr>().ok()).map(canonical_address) == Some(plain) {
            return Err("the address of Lambda's Runtime API");
        }
        Reach::Private.check(address)
    }

    /// The addresses of one endpoint. What is an address already costs nothing.
    async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        if let Some(to) = self.connect_to.iter().find(|to| to.host == host && to.port == port) {
            return Ok(vec![to.address]);
        }
        if let Ok(address) = bare(host).parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found = self.cache.get(host).await;
        let found = found.map_err(|error| format!("cannot find the endpoint {host}:{port}: {error}"))?;
        Ok(found.iter().map(|address| SocketAddr::new(*address, port)).collect())
    }

    fn tell(&self, index: u32, found: Addresses, version: u64, at: SystemTime) -> Arc<Addresses> {
        let mut told = self.lock();
        if let Some(held) = told.get_mut(&index)
            && *held.addresses == found
        {
            (held.at, held.version) = (at, version);
            return Arc::clone(&held.addresses);
        }
        let addresses = Arc::new(found);
        told.insert(index, Told { addresses: Arc::clone(&addresses), at, version });
        addresses
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// What was told a moment ago is told again without looking at each name.
    fn is_valid(&self, version: u64, now: SystemTime) -> bool {
        self.version == version && now.duration_since(self.at).is_ok_and(|age| age < MOMENT)
    }
}

/// Those of the addresses of `host` that pass `check`, of which there must be one.
fn allowed(
    host: &str,
    mut found: Vec<SocketAddr>,
    check: impl Fn(IpAddr) -> Result<(), &'static str>,
) -> Result<Vec<SocketAddr>, Refusal> {
    let mut problem = format!("{host} has no address");
    found.retain(|address| match check(address.ip()) {
        Ok(()) => true,
        Err(kind) => {
            problem = format!("{host} is {}, {kind}, which is not for proxied calls", address.ip());
            false
        }
    });
    match found.is_empty() {
        true => Err(Refusal::new(Reason::DestinationForbidden, problem)),
        false => Ok(found),
    }
}

/// All at the same time; those that take longer than a moment are left out once there is one that is good.
async fn enough<T, E, F>(futures: impl Iterator<Item = F>) -> Vec<Option<F::Output>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    let mut moment = pin!(tokio::time::sleep(cache::GRACE));
    std::future::poll_fn(|cx| {
        let (mut ready, mut good) = (true, false);
        for (future, done) in &mut waiting {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(output) => *done = Some(output),
                    Poll::Pending => ready = false,
                }
            }
            good |= matches!(done, Some(Ok(_)));
        }
        // Its time is only counted when somebody waits.
        let over = !ready && moment.as_mut().poll(cx).is_ready();
        if ready || (good && over) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().map(|(_, done)| done).collect()
}

/// RFC 6761 6.3: "name resolution APIs and libraries SHOULD recognize localhost names as special and SHOULD always return
/// the IP loopback address": whoever writes this name means it.
fn is_local(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn host_of(address: &str) -> &str {
    bare(address.rsplit_once(':').map_or(address, |(host, _)| host))
}

/// Without the brackets of an IPv6 address and the dot at the end of a name.
fn bare(host: &str) -> &str {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
