//! The application's own side of the mesh, in a sidecar: what calls it comes in here, and only what the policies allow
//! goes on to it.
//!
//! Callers prove who they are by mutual TLS, where `PeerAuthentication` asks for it; the same `authz` decides as at API
//! Gateway. Whatever cannot be done is refused: without policies the process does not start, without an identity no
//! handshake ends, and no call reaches the application unjudged.

mod application;
mod body;
mod connection;
mod exchange;
pub(crate) mod health;
mod ids;
mod judge;
mod line;
mod proof;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use authz::{Policies, Target};
use identity::TrustDomain;
use platform::bundle::{Bundle, Section};
use platform::clock::Clock;
use platform::front::{self, Front};
use platform::log::Log;
use platform::revocations::RevocationsSetup;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::{BundleSource, Egress};
use crate::drain::{self, Cut};
use crate::metrics::Metrics;
use crate::parts::Parts;
use crate::{Deps, Error, config};
use application::Application;
use connection::Port;
use tls::Tls;

/// The most requests at a time.
const MAX_REQUESTS: usize = 1_024;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It is not near.
    Serving,
    /// Calls are taken, and callers asked to go elsewhere.
    Draining,
    /// No new connection is taken; requests in hand are finished.
    Stopping,
}

/// What calls need.
pub(crate) struct Inbound {
    front: Front,
    /// This workload.
    target: Target,
    /// The headers that the policies make out of claims.
    outputs: Vec<String>,
    tls: Tls,
    clock: Arc<dyn Clock>,
    log: Log,
    phase: watch::Receiver<Phase>,
    /// Ends what is in hand when the time for it is over.
    cut: Cut,
    /// Places for requests.
    requests: Arc<Semaphore>,
    /// Somebody found no place for a connection.
    crowd: Notify,
    metrics: Option<Arc<Metrics>>,
}

impl Inbound {
    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Returns when the end has come this far (or nobody is left to say so).
    async fn reached(&self, phase: Phase) {
        let _ = self.phase.clone().wait_for(|now| *now >= phase).await;
    }
}

/// The inbound side with its ports.
pub(crate) struct Bound {
    inbound: Arc<Inbound>,
    phase: watch::Sender<Phase>,
    ports: Vec<(TcpListener, Arc<Port>)>,
    health: TcpListener,
    addresses: Vec<SocketAddr>,
    health_address: SocketAddr,
    drain_accept: Duration,
    drain: Duration,
}

impl Bound {
    /// Reads the policies and binds the ports. `own` are the ports where this process listens for the application.
    ///
    /// # Errors
    /// When the policies cannot be used or leave everything open, or a port cannot be had.
    pub(crate) async fn new(
        config: &config::Inbound,
        egress: &Egress,
        own: &[u16],
        parts: &Parts,
        deps: &Deps,
    ) -> Result<Bound, Error> {
        // Others would call out with the workload's own identity.
        let ours = |one: &&config::InboundPort| own.contains(&one.application.port());
        if let Some(one) = config.ports.iter().find(ours) {
            let found = format!("CAUSEWAY_INBOUND leads to {}, expected a port of the application", one.application);
            return Err(Error::Configuration(format!("{found}: this one is the sidecar's own way out")));
        }
        let (front, target, aliases) = open(config, egress, deps).map_err(Error::Configuration)?;
        let namespace = egress.workload.namespace.clone().unwrap_or_default();
        let (phase, seen) = watch::channel(Phase::Serving);
        let (mut ports, mut addresses) = (Vec::new(), Vec::new());
        for one in &config.ports {
            let (listener, address) = listen(SocketAddr::new(config.listen, one.port)).await?;
            let mode = match &target {
                Target::Workload { namespace, labels, .. } => {
                    front.policies().peer_mode(namespace, labels, one.application.port())
                }
                // There is no other; and if there were, nobody would come in without proof.
                Target::ApiGateway { .. } => authz::PeerMode::Strict,
            };
            deps.log.write(&serde_json::json!({
                "event": "inbound_listening",
                "address": address.to_string(),
                "application": one.application.to_string(),
                "mtls": format!("{mode:?}").to_uppercase(),
            }));
            let application = Application::new(one.application, one.h2c);
            ports.push((listener, Arc::new(Port { mode, application })));
            addresses.push(address);
        }
        let (health, health_address) = listen(SocketAddr::new(config.listen, config.health_port)).await?;
        let inbound = Arc::new(Inbound {
            outputs: front.policies().output_headers(),
            front,
            target,
            tls: Tls::new(Arc::clone(&parts.identity), egress.identity_wait, namespace, aliases, deps.log.clone()),
            clock: Arc::clone(&deps.clock),
            log: deps.log.clone(),
            phase: seen,
            cut: Cut::default(),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            crowd: Notify::new(),
            metrics: parts.metrics.clone(),
        });
        let (drain_accept, drain) = (config.drain_accept, config.drain);
        Ok(Bound { inbound, phase, ports, health, addresses, health_address, drain_accept, drain })
    }

    /// Where others call.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the health check is.
    pub(crate) fn health_address(&self) -> SocketAddr {
        self.health_address
    }

    /// Begins to serve.
    pub(crate) fn serve(self) -> Serving {
        // Unreadable where there is no /proc: then the library's own limit holds.
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let most = crate::listener::connections_within(&limits);
        let places = Arc::new(Semaphore::new(most as usize));
        let mut accepting = JoinSet::new();
        for (listener, port) in self.ports {
            accepting.spawn(connection::accept(listener, port, Arc::clone(&self.inbound), Arc::clone(&places)));
        }
        let health = tokio::spawn(health::serve(self.health, Arc::clone(&self.inbound)));
        Serving {
            accepting,
            health: crate::Ends(health),
            cut: self.inbound.cut.clone(),
            phase: self.phase,
            places,
            most,
            drain_accept: self.drain_accept,
            drain: self.drain,
        }
    }
}

/// The inbound side at work.
pub(crate) struct Serving {
    accepting: JoinSet<()>,
    /// It answers until the end: 503, from when that begins.
    health: crate::Ends,
    cut: Cut,
    phase: watch::Sender<Phase>,
    places: Arc<Semaphore>,
    most: u32,
    drain_accept: Duration,
    drain: Duration,
}

impl Serving {
    /// Ends, and loses nothing on the way: says that it is not ready, serves until the others have seen it, takes no
    /// more connections, and finishes the requests in hand. False where these took longer than they may: then they are cut
    /// off, and have their lines.
    pub(crate) async fn drained(mut self) -> bool {
        let ends = tokio::time::Instant::now() + self.drain;
        self.phase.send_replace(Phase::Draining);
        // What has come in the last moment of it needs some time, too.
        tokio::time::sleep(self.drain_accept.min(self.drain / 2)).await;
        self.phase.send_replace(Phase::Stopping);
        let finished = tokio::time::timeout_at(ends, async {
            while self.accepting.join_next().await.is_some() {}
            // All places free: all connections ended.
            let _ = self.places.acquire_many(self.most).await;
        });
        let finished = finished.await.is_ok();
        if !finished {
            self.cut.now();
            drain::ends_within(self.places.acquire_many(self.most), drain::GONE).await;
        }
        drop(self.health);
        finished
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::InboundPort { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// The gate, this workload, and the mesh's other names.
fn open(config: &config::Inbound, egress: &Egress, deps: &Deps) -> Result<(Front, Target, Vec<TrustDomain>), String> {
    let bundle = match &egress.bundle {
        BundleSource::File(path) => Bundle::open(path),
        BundleSource::Bytes(bytes) => Bundle::from_bytes(bytes.clone()),
    };
    let bundle = bundle.map_err(|error| error.to_string())?;
    let section = bundle.section(Section::Access).map_err(|error| error.to_string())?;
    let policies = Policies::open(section).map_err(|error| error.to_string())?;
    let policies = policies.with_keys_fetched_at(bundle.made_at());
    let namespace =
        egress.workload.namespace.clone().ok_or("CAUSEWAY_NAMESPACE is not set, and CAUSEWAY_INBOUND is")?;
    let labels = egress.workload.labels.clone();
    // Istio's rule is to allow everything then that nothing denies, and it is also what comes of a misspelt namespace or
    // label. A DENY policy for the whole mesh would apply all the same, and be no sign that the others do.
    if !policies.is_closed(&namespace, &labels) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        return Err(format!(
            "no AuthorizationPolicy of the bundle with the action ALLOW applies to the workload {} of namespace \
             {namespace}, so everything would be allowed that is not denied: correct CAUSEWAY_NAMESPACE and \
             CAUSEWAY_LABELS, or write one that says so (rules: [{{}}])",
            labels.join(",")
        ));
    }
    let aliases = policies
        .trust_domain_aliases()
        .map(|alias| alias.parse().map_err(|error| format!("the bundle's trust domain alias {alias:?}: {error}")));
    let aliases = aliases.collect::<Result<Vec<TrustDomain>, String>>()?;
    let revocations = RevocationsSetup::new(config.revocations.clone(), &bundle).map_err(|error| error.to_string())?;
    let surroundings = front::Deps::in_aws(config.api_keys.as_ref(), config.jwks.clone(), deps.log.clone());
    let surroundings = front::Deps { revocations, clock: Arc::clone(&deps.clock), ..surroundings };
    let front = Front::new(policies, surroundings).map_err(|error| error.to_string())?;
    let target = Target::Workload { namespace, labels, environment: egress.life.environment.clone() };
    Ok((front, target, aliases))
}
