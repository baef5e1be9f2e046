//! The compiled form of Istio's traffic rules: the egress section of a bundle.
//!
//! [`crate::compile()`] writes it, with every short name resolved, every default filled in and every rule merged;
//! [`crate::open`] reads it. Times are in milliseconds, shares in millionths, names of headers in lower case.

use rkyv::{Archive, Deserialize, Serialize};

/// The version of the types in this file. Another one is refused.
pub const VERSION: u16 = 3;

/// Everything.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Table {
    /// [`VERSION`].
    pub version: u16,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// What becomes of a path before routes and services see it.
    pub path_normalization: PathNormalization,
    /// What workloads see; the last one is for those that no other is for.
    pub views: Vec<View>,
    /// Named by views.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Named by routes and listeners.
    pub clusters: Vec<Cluster>,
    /// The hosts of every service of the mesh (`*.` may lead one) and the addresses and names of their endpoints, whoever
    /// may see them: none is ever called in plaintext. In lower case, sorted.
    pub mesh: Vec<String>,
}

/// `pathNormalization.normalization` of the mesh.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum PathNormalization {
    /// Nothing.
    None,
    /// RFC 3986, section 6.2.2, and backslashes become slashes.
    #[default]
    Base,
    /// As [`Base`](Self::Base), and repeated slashes become one.
    MergeSlashes,
    /// As [`MergeSlashes`](Self::MergeSlashes), after escaped slashes and backslashes were decoded.
    DecodeAndMergeSlashes,
}

/// What the workloads of a namespace see: `exportTo`, `Sidecar` and the order of precedence of rules are applied.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct View {
    /// The namespace; empty in the view for every other one.
    pub namespace: String,
    /// Labels that the workload must have, of a `Sidecar` with a selector: such views stand before those without.
    pub labels: Vec<(String, String)>,
    /// What becomes of other hosts.
    pub outbound: Outbound,
    /// Exact names, sorted by host and port.
    pub names: Vec<Name>,
    /// Names such as `*.example.com`, as `.example.com`; the longest first.
    pub wildcards: Vec<Name>,
    /// Listeners of their own.
    pub listeners: Vec<Listener>,
}

/// What becomes of a host that is not in a [`View`].
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Outbound {
    /// Refused.
    #[default]
    RegistryOnly,
    /// Forwarded as it is, in plaintext or as an opaque tunnel, without identity and token.
    AllowAny,
}

/// A host and a port that a client may name.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Name {
    /// In lower case.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Index in [`Table::virtual_hosts`].
    pub virtual_host: u32,
}

/// A port of its own for one service or some: an egress listener of a `Sidecar`.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Listener {
    /// A loopback address.
    pub address: String,
    /// The port.
    pub port: u16,
    /// The names that can be called here; with a single one, a request for any Host is for it.
    pub names: Vec<Name>,
}

/// The routes of a host at a port. A request that matches none is answered 404, as Envoy does.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct VirtualHost {
    /// The host, for logs.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What the port's document says is spoken there: [`Protocol::Tcp`] is bytes, and [`Protocol::Client`] nothing.
    pub protocol: Protocol,
    /// In order: the first that matches is taken. For a port of another protocol than HTTP there is one, without
    /// matches, whose action is a forward.
    pub routes: Vec<Route>,
}

/// Requests of one kind and what becomes of them.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Route {
    /// The name of the `http` route, or the host where there is none.
    pub name: String,
    /// One must match; empty: all.
    pub matches: Vec<Match>,
    /// What is done.
    pub action: Action,
    /// Done to the request before it is forwarded, and to its answer.
    pub headers: HeaderOps,
    /// Injected failures.
    pub fault: Option<Fault>,
    /// Copies.
    pub mirrors: Vec<Mirror>,
    /// For the whole request with its retries; 0 is none.
    pub timeout_ms: u64,
    /// `attempts` of 0: no retries.
    pub retry: RetryPolicy,
}

/// All of it must match.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Match {
    /// The path without the query.
    pub uri: Option<StringMatch>,
    /// Without case, for exact and prefix.
    pub ignore_uri_case: bool,
    /// The scheme, always `http` here.
    pub scheme: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// The Host with its port, as the client wrote it.
    pub authority: Option<StringMatch>,
    /// By name in lower case; one of several values must match.
    pub headers: Vec<(String, StringMatch)>,
    /// None may match; an absent header is compared as an empty one (Istio's `treat_missing_header_as_empty`).
    pub without_headers: Vec<(String, StringMatch)>,
    /// By name, with case.
    pub query: Vec<(String, StringMatch)>,
    /// Labels of the calling workload.
    pub source_labels: Vec<(String, String)>,
}

/// How a string is compared.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum StringMatch {
    /// Equal.
    Exact(String),
    /// Begins with it.
    Prefix(String),
    /// The whole string matches.
    Regex(String),
    /// There.
    Present,
}

/// What is done with a request.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Action {
    /// Sent on.
    Forward(Forward),
    /// Answered with a redirect.
    Redirect(Redirect),
    /// Answered.
    Direct(Direct),
}

impl Default for Action {
    fn default() -> Action {
        Action::Forward(Forward::default())
    }
}

/// Where requests are sent on to.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Forward {
    /// At least one; the weights of several sum to more than 0.
    pub destinations: Vec<Weighted>,
    /// Changes of path and authority.
    pub rewrite: Rewrite,
}

/// An answer that no service gives.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Direct {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// One of the destinations of a route.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Weighted {
    /// Index in [`Table::clusters`].
    pub cluster: u32,
    /// Its share of the sum of all.
    pub weight: u32,
    /// As [`Route::headers`], for this destination; applied before those of the route, as Envoy does.
    pub headers: HeaderOps,
}

/// Changes of path and authority.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rewrite {
    /// Replaces the prefix that matched, or the whole path.
    pub uri: Option<String>,
    /// Pattern and substitution (`\1`) for the path.
    pub uri_regex: Option<(String, String)>,
    /// Replaces the Host.
    pub authority: Option<String>,
}

/// A redirect; absent parts stay as they are.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Redirect {
    /// The path.
    pub uri: Option<String>,
    /// What replaces the matched prefix, instead.
    pub prefix_rewrite: Option<String>,
    /// The host.
    pub authority: Option<String>,
    /// The port.
    pub port: RedirectPort,
    /// The scheme.
    pub scheme: Option<String>,
    /// 301, 302, 303, 307 or 308.
    pub code: u16,
}

/// The port of a [`Redirect`].
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum RedirectPort {
    /// As Envoy: the request's, unless the scheme changes from its default port.
    #[default]
    Unchanged,
    /// This one.
    Number(u16),
    /// The scheme's.
    FromProtocolDefault,
    /// The request's.
    FromRequestPort,
}

/// Changes of headers.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct HeaderOps {
    /// Of the request.
    pub request: HeaderChanges,
    /// Of the answer.
    pub response: HeaderChanges,
}

/// Names in lower case.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct HeaderChanges {
    /// Replaced.
    pub set: Vec<(String, String)>,
    /// Appended.
    pub add: Vec<(String, String)>,
    /// Removed.
    pub remove: Vec<String>,
}

/// Failures that are injected on purpose.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Fault {
    /// Millionths of the requests, and milliseconds.
    pub delay: Option<(u32, u64)>,
    /// Millionths of the requests, and the answer.
    pub abort: Option<(u32, AbortStatus)>,
}

/// What an abort answers.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum AbortStatus {
    /// A status of HTTP.
    Http(u16),
    /// A status of gRPC.
    Grpc(u16),
}

/// A copy of the requests, whose answers nobody reads.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Mirror {
    /// Index in [`Table::clusters`].
    pub cluster: u32,
    /// Millionths of the requests.
    pub share: u32,
}

/// When a request is sent again.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RetryPolicy {
    /// How often at most; 0 turns retries off.
    pub attempts: u32,
    /// For one try until its answer begins; 0 is the route's.
    pub per_try_timeout_ms: u64,
    /// The words of Envoy's `retry_on` and `retry_grpc_on` without the statuses.
    pub on: Vec<RetryOn>,
    /// `retriable-status-codes`.
    pub statuses: Vec<u16>,
    /// The base of the back-off.
    pub backoff_ms: u64,
    /// Whether a retry goes to another endpoint, where there is one.
    pub avoids_previous_hosts: bool,
    /// Whether retries may go to localities of a lower priority.
    pub remote_localities: bool,
}

/// A condition of Envoy's `x-envoy-retry-on` or `x-envoy-retry-grpc-on`.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum RetryOn {
    /// `5xx`
    Status5xx,
    /// `gateway-error`
    GatewayError,
    /// `reset`
    Reset,
    /// `reset-before-request`
    ResetBeforeRequest,
    /// `connect-failure`
    ConnectFailure,
    /// `envoy-ratelimited`
    EnvoyRatelimited,
    /// `retriable-4xx`
    Retriable4xx,
    /// `refused-stream`
    RefusedStream,
    /// `retriable-status-codes`
    RetriableStatusCodes,
    /// `cancelled`
    GrpcCancelled,
    /// `deadline-exceeded`
    GrpcDeadlineExceeded,
    /// `internal`
    GrpcInternal,
    /// `resource-exhausted`
    GrpcResourceExhausted,
    /// `unavailable`
    GrpcUnavailable,
}

/// The endpoints of a host, a port and a subset, and how they are reached: what Envoy calls a cluster.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Cluster {
    /// `outbound|PORT|SUBSET|HOST`, as Istio names it.
    pub name: String,
    /// The host.
    pub host: String,
    /// The port of the service.
    pub port: u16,
    /// The subset; empty without one.
    pub subset: String,
    /// What is spoken to it.
    pub protocol: Protocol,
    /// How the connection is protected.
    pub tls: Tls,
    /// How endpoints become addresses.
    pub resolution: Resolution,
    /// Where it is; empty with [`Resolution::Original`].
    pub endpoints: Vec<Endpoint>,
    /// How one is chosen.
    pub balance: Balance,
    /// When one is left out.
    pub outlier: Option<Outlier>,
    /// Limits.
    pub pool: Pool,
}

/// What is spoken to a cluster.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: ports of protocol HTTP2, GRPC and GRPC-WEB, and `h2UpgradePolicy: UPGRADE`.
    Http2,
    /// `useClientProtocol`: what the client speaks.
    Client,
    /// Bytes.
    Tcp,
}

/// How a connection is protected.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Tls {
    /// Not at all: only for hosts outside of the mesh (`MESH_EXTERNAL`).
    #[default]
    Plaintext,
    /// Mutual TLS with the workload's SVID.
    IstioMutual(IstioMutual),
    /// TLS without a client certificate, to a host outside of the mesh.
    Simple(Simple),
}

/// Mutual TLS with the workload's SVID.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct IstioMutual {
    /// The server name.
    pub sni: String,
    /// SPIFFE IDs that may answer; never empty.
    pub expected: Vec<String>,
}

/// TLS without a client certificate.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Simple {
    /// The server name; empty: the request's host.
    pub sni: String,
    /// DNS names or URIs that the certificate may have; empty: the server name.
    pub names: Vec<String>,
    /// A file of roots; empty: Mozilla's.
    pub roots: String,
}

/// How endpoints become addresses.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Resolution {
    /// They are addresses.
    #[default]
    Static,
    /// Names are looked up, and every address of a name is an endpoint.
    StrictDns,
    /// Names are looked up, and the first address is taken.
    LogicalDns,
    /// The host that the client named, looked up as it is.
    Original,
}

/// Where a service is reached.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Endpoint {
    /// An address or a name, in lower case.
    pub address: String,
    /// The port.
    pub port: u16,
    /// At least 1.
    pub weight: u32,
    /// Region, zone and subzone; empty ones are unknown.
    pub locality: Locality,
    /// Labels, for `failoverPriority`.
    pub labels: Vec<(String, String)>,
}

/// Where something is.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Locality {
    /// The region.
    pub region: String,
    /// The zone in it.
    pub zone: String,
    /// The part of the zone.
    pub subzone: String,
}

/// How an endpoint is chosen.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Balance {
    /// The algorithm.
    pub policy: BalancePolicy,
    /// Preference of near endpoints.
    pub locality: LocalityPolicy,
    /// Slow start.
    pub warmup: Option<Warmup>,
}

/// The algorithm.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum BalancePolicy {
    /// The less busy of two.
    #[default]
    LeastRequest,
    /// In turns.
    RoundRobin,
    /// Any.
    Random,
    /// By a hash.
    Hash(HashKey, HashTable),
}

/// What is hashed.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum HashKey {
    /// A header.
    Header(String),
    /// A cookie: its name, its path, and with a time to live in seconds (0: for the session) one is made and set.
    Cookie(String, String, Option<u64>),
    /// The address of the client: always loopback here, so always one endpoint.
    SourceIp,
    /// A query parameter.
    Query(String),
}

/// How a hash leads to an endpoint.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum HashTable {
    /// A ring of at least so many points.
    Ring(u64),
    /// Maglev with a table of this size.
    Maglev(u64),
}

/// Preference of near endpoints. Without outlier detection there is no failover ("traffic will never failover"); shares
/// by locality need none.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum LocalityPolicy {
    /// None.
    #[default]
    Off,
    /// The nearest first, and from a region to the region that stands beside it.
    Failover(Vec<(String, String)>),
    /// By labels that agree, in order: `KEY` or `KEY=VALUE`.
    FailoverPriority(Vec<String>),
    /// From a locality (`*` at its end) to localities with weights that sum to 100.
    Distribute(Vec<(String, Vec<(String, u32)>)>),
}

/// Slow start of new endpoints.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Warmup {
    /// How long.
    pub duration_ms: u64,
    /// Percent of the weight to begin with.
    pub minimum_percent: u32,
    /// How steep, in thousandths.
    pub aggression_thousandths: u32,
}

/// When an endpoint is left out. A count of 0 is off.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Outlier {
    /// 5xx in a row.
    pub consecutive_5xx: u32,
    /// 502, 503 and 504 in a row.
    pub consecutive_gateway: u32,
    /// Failures to connect, resets and timeouts in a row; without `split` they count as 5xx.
    pub consecutive_local: u32,
    /// Whether local failures are counted apart.
    pub split: bool,
    /// Between two looks at ejected endpoints.
    pub interval_ms: u64,
    /// The first ejection.
    pub base_ejection_ms: u64,
    /// The longest one.
    pub max_ejection_ms: u64,
    /// Percent of the endpoints that may be ejected.
    pub max_ejection_percent: u32,
    /// With fewer healthy endpoints than this all of them are used; 0 never.
    pub min_health_percent: u32,
}

/// Limits of the connections to a cluster; 0 is none.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pool {
    /// Connections.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending: u32,
    /// Requests at a time.
    pub max_requests: u32,
    /// Retries at a time.
    pub max_retries: u32,
    /// `retryBudget`, instead of `max_retries`: millionths of the requests in hand, and at least so many.
    pub retry_budget: Option<(u32, u32)>,
    /// Requests of one connection.
    pub max_requests_per_connection: u32,
    /// Streams of one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// To connect and to shake hands.
    pub connect_timeout_ms: u64,
    /// A connection without a request.
    pub idle_timeout_ms: u64,
    /// A connection in all.
    pub max_connection_ms: u64,
    /// Keep-alive of TCP: probes, seconds until the first, seconds between; 0 is the system's.
    pub keepalive: Option<(u32, u32, u32)>,
}
