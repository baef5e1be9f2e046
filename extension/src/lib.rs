//! The egress proxy of a legacy Lambda or ECS task: plain HTTP comes in on a loopback port, mutual TLS with the
//! workload's own SPIFFE identity and an access token goes out to the mesh. In ECS it also guards the application's own
//! ports: `inbound`.
//!
//! Whatever cannot be done is answered with a reason word in the header `x-causeway-reason`, and nothing is ever sent
//! to the mesh in the clear. In Lambda the function lives on whatever happens here.
//!
//! [`Extension::bind`] gives a [`Bound`] that knows its address; [`Bound::run`] serves until the end. The program and
//! the local stack drive the same two.

mod access_log;
mod affinity;
mod answer;
mod body;
mod bypass;
mod cluster;
mod deadline;
mod door;
mod drain;
mod exchange;
mod grpc_time;
mod headers;
// Without the feature: the same names, of which there is nothing.
#[cfg_attr(not(feature = "inbound"), path = "no_inbound.rs")]
mod inbound;
mod intercept;
mod issuer;
mod json;
mod keepalive;
mod local;
mod metrics;
mod mirror;
mod no_proxy;
mod outgoing;
mod parts;
mod passage;
mod proxy;
mod random;
mod refresh;
mod relay;
mod renewal;
mod resolve;
mod retry;
mod routes;
mod sniff;
mod target;
mod thaw;
mod timer;
mod token;
mod tokens;
mod trace;
mod tunnel;
mod upgrade;
// Whether a connection had served before is known, and read by nobody yet.
#[allow(dead_code)]
mod upstream;
mod wishes;

pub mod config;
pub mod lifecycle;
pub mod listener;
pub mod reason;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use identity::TrustDomain;
use platform::bundle::{Bundle, Section};
use platform::clock::{Clock, SystemClock};
use platform::log::Log;
use tokio::net::TcpListener;
use tokio::sync::watch;
use traffic::Rules;
use traffic::table::{Listener, Name};

pub use config::{BundleSource, Config, ConnectTo, Egress, LambdaApi, ServiceListener, Workload};
pub use reason::Reason;

use cluster::Clusters;
use config::Https;
use deadline::Invocation;
use door::Door;
use drain::Cut;
use intercept::Intercept;
use issuer::Issuer;
use lifecycle::{Event, LifecycleError};
use metrics::{Metrics, scrape};
use mirror::Mirrors;
use no_proxy::Exceptions;
use parts::Parts;
use proxy::Proxy;
use refresh::Refresh;
use renewal::SvidSource;
use resolve::{Belongs, Resolver};
use routes::Hosts;
use thaw::Watch;
use tokens::Tokens;
use upstream::Upstream;

/// What the extension takes from the outside world.
#[derive(Clone)]
pub struct Deps {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where access log and events go.
    pub log: Log,
}

impl Deps {
    /// The machine's clock and standard output.
    pub fn system() -> Deps {
        Deps { clock: Arc::new(SystemClock), log: Log::stdout() }
    }
}

/// Why the extension does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used. (In Lambda this is no error: requests are answered 503 with the reason.)
    #[error("{0}")]
    Configuration(String),
    /// The port cannot be bound.
    #[error("cannot listen on 127.0.0.1:{port}: {source}; set CAUSEWAY_PROXY_PORT to a free port")]
    Port {
        /// The port.
        port: u16,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The port of a service cannot be bound.
    #[error(
        "cannot listen on {address}: {source}; the port is from CAUSEWAY_LISTENERS or a Sidecar's egress listener, and must be free"
    )]
    ServicePort {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A port of the inbound side cannot be bound.
    #[error("cannot listen on {address}: {source}; set CAUSEWAY_INBOUND and CAUSEWAY_HEALTH_PORT to free ports")]
    InboundPort {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The Extensions API failed.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
}

impl Error {
    /// The exit status of the program: 64 for what the operator has to change, 1 otherwise.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Configuration(_) | Error::Port { .. } | Error::ServicePort { .. } | Error::InboundPort { .. } => {
                platform::EXIT_USAGE
            }
            Error::Lifecycle(_) => 1,
        }
    }
}

/// The extension, before it has a port.
#[derive(Clone, Copy, Debug)]
pub struct Extension;

impl Extension {
    /// Binds the loopback port and prepares everything that needs no network. Requests that arrive from here on wait
    /// in the listener's queue.
    ///
    /// # Errors
    /// When the port cannot be bound; in a plain process also when the configuration cannot be used.
    pub async fn bind(config: Config, deps: Deps) -> Result<Bound, Error> {
        let (parts, doors) = match prepare(&config, &deps) {
            Ok((parts, doors)) => (Ok(parts), doors),
            Err(problem) => (Err(problem), Vec::new()),
        };
        if let (Err(problem), None) = (&parts, &config.lambda) {
            return Err(Error::Configuration(problem.clone()));
        }
        let port = config.port;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(|source| Error::Port { port, source })?;
        let address = listener.local_addr().map_err(|source| Error::Port { port, source })?;
        // With the port in hand: a second process must not replace what the first one has written.
        let parts = parts.and_then(|parts| match &parts.intercept {
            Some(intercept) => intercept.publish(&deps.log).map(|()| parts),
            None => Ok(parts),
        });
        if let (Err(problem), None) = (&parts, &config.lambda) {
            return Err(Error::Configuration(problem.clone()));
        }
        let (mut listeners, mut services) = (vec![(listener, Door::Proxy)], Vec::new());
        for (address, service) in doors {
            match listen(address).await {
                Ok((listener, address)) => {
                    services.push(address);
                    listeners.push((listener, Door::Service(Arc::new(service))));
                }
                Err(source) if config.lambda.is_none() => return Err(Error::ServicePort { address, source }),
                // The function must live on, and what calls the other ports has them.
                Err(source) => {
                    let error = Error::ServicePort { address, source };
                    deps.log.write(&serde_json::json!({ "event": "not_listening", "error": error.to_string() }));
                }
            }
        }
        let inbound = match (&parts, &config.egress, &config.lambda) {
            (Ok(parts), Ok(egress), None) => match &egress.inbound {
                Some(inbound) => {
                    let own = services.iter().chain([&address]).map(SocketAddr::port);
                    let own: Vec<u16> = own.chain(parts.metrics.as_ref().and_then(|metrics| metrics.port())).collect();
                    Some(inbound::Bound::new(inbound, egress, &own, parts, &deps).await?)
                }
                None => None,
            },
            _ => None,
        };
        deps.log.write(&serde_json::json!({
            "event": "start",
            "address": address.to_string(),
            "lambda": config.lambda.is_some(),
            "services": services.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "routes": parts.as_ref().map_or(0, |parts| parts.hosts.len()),
            "error": parts.as_ref().err(),
        }));
        let proxy = Arc::new(Proxy { parts, clock: deps.clock, log: deps.log, cut: Cut::default() });
        let excepted = Excepted::of(&config);
        Ok(Bound { listeners, address, services, proxy, lambda: config.lambda, inbound, excepted })
    }
}

/// The extension with its port.
pub struct Bound {
    listeners: Vec<(TcpListener, Door)>,
    address: SocketAddr,
    services: Vec<SocketAddr>,
    proxy: Arc<Proxy>,
    lambda: Option<LambdaApi>,
    inbound: Option<inbound::Bound>,
    excepted: Option<Excepted>,
}

impl Bound {
    /// Where applications reach the proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where applications reach the services that have ports of their own: those of `Sidecar`s first, then those of
    /// [`Egress::listeners`].
    pub fn services(&self) -> &[SocketAddr] {
        &self.services
    }

    /// Where others call the application, in the order of [`config::Inbound::ports`].
    pub fn inbound(&self) -> &[SocketAddr] {
        self.inbound.as_ref().map_or(&[], inbound::Bound::addresses)
    }

    /// Where the health check of the inbound side is.
    pub fn health(&self) -> Option<SocketAddr> {
        self.inbound.as_ref().map(inbound::Bound::health_address)
    }

    /// Serves until `shutdown` or, in Lambda, the SHUTDOWN event; then finishes the requests in hand, bounded.
    ///
    /// # Errors
    /// When the Extensions API fails.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let (stop, stopped) = watch::channel(false);
        let mut serving = tokio::spawn(listener::serve(self.listeners, Arc::clone(&self.proxy), stopped));
        let inbound = self.inbound.map(inbound::Bound::serve);
        let life = Arc::new(Living {
            proxy: Arc::clone(&self.proxy),
            bypasses: bypass::Seen::default(),
            excepted: self.excepted,
        });
        let _scrapes = life.scraped().await;
        // What outlives a freeze is written by events, the rest by a timer.
        let timed = self.lambda.as_ref().is_none_or(|api| api.managed);
        let _writing = timed.then(|| life.written_regularly());
        if timed {
            life.report_exceptions();
        }
        let ended = match &self.lambda {
            // Lambda starts the function's runtime once all extensions have registered: the port is open by now, and
            // the first SVID comes while the runtime starts.
            Some(api) => tokio::select! {
                ended = lifecycle::live(api, &self.proxy.log, |event| life.on(event)) => ended,
                () = shutdown => Ok(()),
            },
            None => {
                self.proxy.start_if_due();
                shutdown.await;
                Ok(())
            }
        };
        // Before the way out is closed: what is in hand may still have calls to make.
        let answered = match inbound {
            Some(inbound) => inbound.drained().await,
            None => true,
        };
        let drain = if self.lambda.is_some() { drain::LAMBDA } else { drain::PROCESS };
        stop.send_replace(true);
        let served = drain::ends_within(&mut serving, drain).await;
        if !served {
            // What is cut off now is counted, and has its lines, before the last metrics are written.
            self.proxy.cut.now();
            drain::ends_within(&mut serving, drain::GONE).await;
        }
        let finished = served && answered;
        if self.lambda.is_some() {
            life.bypasses.look();
            life.bypasses.report(&self.proxy.log);
        }
        life.write();
        // Without `finished`, requests were still in hand, and have been cut off.
        self.proxy.log.write(&serde_json::json!({ "event": "end", "finished": finished }));
        Ok(ended?)
    }
}

/// What the extension does beside answering requests.
struct Living {
    proxy: Arc<Proxy>,
    bypasses: bypass::Seen,
    excepted: Option<Excepted>,
}

/// What the function calls directly, in Lambda: elsewhere this environment is not the application's.
struct Excepted {
    list: String,
    /// By the wrapper script, which leaves some of it out.
    wrapped: bool,
    namespace: Option<String>,
    exceptions: Exceptions,
}

impl Excepted {
    fn of(config: &Config) -> Option<Excepted> {
        let egress = config.egress.as_ref().ok().filter(|_| config.lambda.is_some())?;
        let (list, wrapped) = (egress.life.no_proxy.clone(), egress.life.wrapped);
        let namespace = egress.workload.namespace.clone();
        Some(Excepted { list, wrapped, namespace, exceptions: Exceptions::default() })
    }
}

impl Living {
    /// An event of the function's life. Nothing waits here: the next event is asked for afterwards.
    fn on(self: &Arc<Self>, event: Event<'_>) {
        if let (Ok(parts), Event::Invoke { deadline, tracing, request_id }) = (&self.proxy.parts, event) {
            parts.invocation.begin(deadline, tracing, request_id);
            // Later, while the function runs: it would delay the call for the next event.
            let living = Arc::clone(self);
            tokio::spawn(async move {
                living.bypasses.look();
                living.report_exceptions();
                living.write();
            });
        }
        self.proxy.start_if_due();
    }

    /// Says what `no_proxy` leads around the extension.
    fn report_exceptions(&self) {
        if let (Ok(parts), Some(excepted)) = (&self.proxy.parts, &self.excepted) {
            let Excepted { list, wrapped, namespace, exceptions } = excepted;
            exceptions.report((list, *wrapped), parts, namespace.as_deref(), &self.proxy.log);
        }
    }

    /// Writes the metrics that have come since the last time.
    fn write(&self) {
        if let Ok(parts) = &self.proxy.parts
            && let Some(metrics) = &parts.metrics
        {
            metrics.write(parts.totals(), &self.proxy.log, self.proxy.clock.now());
        }
    }

    /// Writes them again and again, until it is dropped.
    fn written_regularly(self: &Arc<Self>) -> Ends {
        let living = Arc::clone(self);
        Ends(tokio::spawn(async move {
            loop {
                tokio::time::sleep(metrics::EVERY).await;
                living.write();
            }
        }))
    }

    /// Answers Prometheus, if it is to, until it is dropped. A port that cannot be had is no reason to end.
    async fn scraped(&self) -> Option<Ends> {
        let parts = Arc::clone(self.proxy.parts.as_ref().ok()?);
        let metrics = parts.metrics.clone()?;
        match scrape::bind(metrics.port()?).await {
            Ok(listener) => {
                let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
                self.proxy.log.write(&serde_json::json!({ "event": "metrics_listening", "address": address }));
                let text = move || metrics.text(parts.totals());
                Some(Ends(tokio::spawn(scrape::serve(listener, text))))
            }
            Err(error) => {
                self.proxy.log.write(&serde_json::json!({
                    "event": "metrics_not_listening",
                    "error": format!("{error}; set CAUSEWAY_METRICS_PORT to a free port"),
                }));
                None
            }
        }
    }
}

/// Ends its task when it is dropped.
struct Ends(tokio::task::JoinHandle<()>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Binds and runs. In Lambda a port that cannot be bound is logged, and the extension goes on asking for events: its
/// absence would take the function down, while this way only the calls to the mesh fail.
///
/// # Errors
/// As [`Extension::bind`] and [`Bound::run`].
pub async fn run(config: Config, deps: Deps, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let (lambda, log) = (config.lambda.clone(), deps.log.clone());
    match (Extension::bind(config, deps).await, lambda) {
        (Ok(bound), _) => bound.run(shutdown).await,
        (Err(error), None) => Err(error),
        (Err(error), Some(api)) => {
            log.write(&serde_json::json!({ "event": "not_listening", "error": error.to_string() }));
            tokio::select! {
                ended = lifecycle::live(&api, &log, |_| ()) => Ok(ended?),
                () = shutdown => Ok(()),
            }
        }
    }
}

/// Asks the health check of a process on this machine, at `port`: what the argument `--health` does. Blocks for some
/// seconds at most.
///
/// # Errors
/// Why it is not ready, or does not answer.
pub fn health(port: u16) -> Result<(), String> {
    inbound::health::ask(port)
}

/// Ends with SIGTERM or SIGINT. The handlers are in place when this returns the future: a task that is stopped in the
/// moment in which its ports open still ends in order. Must be called within a Tokio runtime.
pub fn terminated() -> impl Future<Output = ()> + Send {
    use tokio::signal::unix::{SignalKind, signal};
    let handlers = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut term), Ok(mut int)) = handlers else {
            // Without a handler the signal itself ends the process.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => (),
            _ = int.recv() => (),
        }
    }
}

/// A port of a service, and what is behind it.
type ServicePort = (SocketAddr, Listener);

/// What requests need, and the ports of services.
fn prepare(config: &Config, deps: &Deps) -> Result<(Arc<Parts>, Vec<ServicePort>), String> {
    let parts = parts(config, deps)?;
    let doors = doors(config, &parts.hosts)?;
    Ok((parts, doors))
}

/// The ports of services: what `Sidecar`s say, and what the environment adds.
fn doors(config: &Config, hosts: &Hosts) -> Result<Vec<ServicePort>, String> {
    let mut doors = Vec::new();
    for listener in hosts.view.listeners() {
        let ip = listener.address.parse().ok().filter(IpAddr::is_loopback);
        let ip = ip.ok_or_else(|| {
            format!("found an egress listener on {:?}, expected a loopback address", listener.address)
        })?;
        doors.push((SocketAddr::new(ip, listener.port), listener));
    }
    let added = config.egress.as_ref().map_or(&[][..], |egress| &egress.listeners);
    for ServiceListener { port, host, service_port } in added {
        let index = hosts.view.find(host, *service_port).ok_or_else(|| {
            format!(
                "CAUSEWAY_LISTENERS names {host}:{service_port}, expected a host and port of the configuration that this workload may see"
            )
        })?;
        let name = Name { host: host.clone(), port: *service_port, virtual_host: index };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        doors.push((address, Listener { address: address.ip().to_string(), port: *port, names: vec![name] }));
    }
    Ok(doors)
}

async fn listen(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn parts(config: &Config, deps: &Deps) -> Result<Arc<Parts>, String> {
    let egress = config.egress.as_ref().map_err(|error| error.to_string())?;
    let rules = open(&egress.bundle)?;
    let trust_domain: TrustDomain =
        rules.trust_domain().parse().map_err(|error| format!("the bundle's trust domain: {error}"))?;
    if let Some(expected) = &egress.trust_domain
        && *expected != trust_domain
    {
        return Err(format!(
            "CAUSEWAY_TRUST_DOMAIN is {expected}, but the bundle was made for {trust_domain}; set the one that the mesh has"
        ));
    }
    let Workload { namespace, labels, locality } = egress.workload.clone();
    let mesh = Belongs::of(rules.clone());
    let hosts = Hosts::new(rules.clone(), namespace.as_deref(), labels.clone())?;
    let clock = &deps.clock;
    let clusters = Clusters::new(rules, locality, labels, Arc::clone(clock), deps.log.clone());
    let issuer = Arc::new(Issuer::new(egress, Arc::clone(clock)));
    let tokens = Tokens::new(egress, &issuer, clock, &deps.log);
    // Only there is nothing running between two invocations.
    let freezes = config.lambda.as_ref().is_some_and(|api| !api.managed);
    let snap_start = config.lambda.as_ref().is_some_and(|api| api.snap_start);
    let source = SvidSource::new(issuer, trust_domain, Arc::clone(clock), deps.log.clone());
    let runtime_api = config.lambda.as_ref().map(|api| api.address.clone());
    let intercept = intercept(egress, &hosts, config.lambda.as_ref(), clock)?;
    Ok(Arc::new(Parts {
        hosts,
        clusters,
        identity: Refresh::new(source, Arc::clone(clock)),
        tokens,
        upstream: Arc::new(Upstream::new(Arc::clone(clock), egress.response_timeout)),
        resolver: Resolver::new(egress.connect_to.clone(), runtime_api, mesh, Arc::clone(clock)),
        mirrors: Mirrors::new(deps.log.clone()),
        wait: egress.identity_wait,
        invocation: Invocation::new(Arc::clone(clock), egress.life.deadline_margin, snap_start, freezes),
        watch: Watch::new(freezes),
        metrics: Metrics::new(&egress.life),
        intercept,
    }))
}

fn intercept(
    egress: &Egress,
    hosts: &Hosts,
    lambda: Option<&LambdaApi>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Intercept>, String> {
    let Https::Intercept { ca_file } = &egress.https else { return Ok(None) };
    // The application reads the certificate before the snapshot is made, so the key would have to be in it, and be the
    // same in every environment.
    if lambda.is_some_and(|api| api.snap_start) {
        return Err("found CAUSEWAY_HTTPS=intercept with SnapStart, expected one of them: the key of the certificate authority would be in the snapshot".to_owned());
    }
    let namespace = egress.workload.namespace.as_deref();
    Intercept::new(&hosts.view, namespace, ca_file.clone(), lambda.is_some(), Arc::clone(clock)).map(Some)
}

fn open(source: &BundleSource) -> Result<Rules, String> {
    let bundle = match source {
        BundleSource::File(path) => Bundle::open(path),
        BundleSource::Bytes(bytes) => Bundle::from_bytes(bytes.clone()),
    };
    let bundle = bundle.map_err(|error| error.to_string())?;
    let section = bundle.shared_section(Section::Egress).map_err(|error| error.to_string())?;
    Rules::open_shared(section).map_err(|error| error.to_string())
}
