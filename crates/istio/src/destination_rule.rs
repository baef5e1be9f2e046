use std::collections::BTreeMap;
use std::time::Duration;

use crate::export_to::ExportTo;
use crate::meta::{Meta, WorkloadSelector};
use crate::percent::Percent;

/// `DestinationRule`: how the client side talks to a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DestinationRule {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// `host`, as written: resolve a short one with [`full_host`](crate::full_host).
    pub host: String,
    /// `trafficPolicy`.
    pub traffic_policy: Option<TrafficPolicy>,
    /// `subsets`, with distinct names.
    pub subsets: Vec<Subset>,
    /// `exportTo`: who sees it; empty means everybody.
    pub export_to: Vec<ExportTo>,
    /// `workloadSelector`: the clients that it is for; absent means all of them.
    pub workload_selector: Option<WorkloadSelector>,
}

/// `subsets[]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subset {
    /// `name`.
    pub name: String,
    /// `labels` that an endpoint must have; empty selects all of them.
    pub labels: BTreeMap<String, String>,
    /// `trafficPolicy`: each part of it replaces that of the rule.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// `trafficPolicy` of a [`DestinationRule`], a [`Subset`] or a port.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrafficPolicy {
    /// `loadBalancer`.
    pub load_balancer: Option<LoadBalancer>,
    /// `connectionPool`.
    pub connection_pool: Option<ConnectionPool>,
    /// `outlierDetection`.
    pub outlier_detection: Option<OutlierDetection>,
    /// `tls`.
    pub tls: Option<ClientTls>,
    /// `portLevelSettings`, by port number: "Traffic settings specified at the destination-level will not be inherited
    /// when overridden by port-level settings". Empty in the settings of a port.
    pub port_level_settings: BTreeMap<u16, TrafficPolicy>,
    /// `retryBudget`.
    pub retry_budget: Option<RetryBudget>,
}

/// `loadBalancer`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LoadBalancer {
    /// `simple` or `consistentHash`; absent means `LEAST_REQUEST`.
    pub policy: LoadBalancerPolicy,
    /// `localityLbSetting`.
    pub locality: Option<LocalityLb>,
    /// `warmup` (or the older `warmupDurationSecs`).
    pub warmup: Option<Warmup>,
}

/// `loadBalancer.simple` or `loadBalancer.consistentHash`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum LoadBalancerPolicy {
    /// `LEAST_REQUEST`, also `LEAST_CONN`, `UNSPECIFIED` and absent.
    #[default]
    LeastRequest,
    /// `ROUND_ROBIN`.
    RoundRobin,
    /// `RANDOM`.
    Random,
    /// `PASSTHROUGH`: to the address that the client named.
    Passthrough,
    /// `consistentHash`.
    ConsistentHash(ConsistentHash),
}

/// `consistentHash`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsistentHash {
    /// What is hashed.
    pub key: HashKey,
    /// `ringHash` (or the older `minimumRingSize`), the default, or `maglev`.
    pub table: HashTable,
}

/// What a [`ConsistentHash`] hashes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashKey {
    /// `httpHeaderName`, in lower case.
    Header(String),
    /// `httpCookie`.
    Cookie {
        /// `name`.
        name: String,
        /// `path`; absent means none.
        path: Option<String>,
        /// `ttl`: with one a missing cookie is made and set; 0 makes a session cookie. Absent makes none.
        ttl: Option<Duration>,
    },
    /// `useSourceIp`.
    SourceIp,
    /// `httpQueryParameterName`.
    QueryParameter(String),
}

/// How a [`ConsistentHash`] finds an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HashTable {
    /// `ringHash.minimumRingSize`; Istio's default is 1,024.
    Ring(u64),
    /// `maglev.tableSize`, a prime.
    Maglev(u64),
}

/// `localityLbSetting`. At most one of the three lists is not empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LocalityLb {
    /// `distribute`.
    pub distribute: Vec<Distribute>,
    /// `failover`: from a region to a region.
    pub failover: Vec<(String, String)>,
    /// `failoverPriority`: labels, in order, each `KEY` or `KEY=VALUE`.
    pub failover_priority: Vec<String>,
    /// `enabled`; absent means what the mesh says, and true without that.
    pub enabled: Option<bool>,
}

/// `distribute[]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Distribute {
    /// `from`: a locality, in which `*` may stand at the end.
    pub from: String,
    /// `to`: localities and their weights, which sum to 100.
    pub to: BTreeMap<String, u32>,
}

/// `warmup`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warmup {
    /// `duration`.
    pub duration: Duration,
    /// `minimumPercent`, 0 to 100; 10 when absent.
    pub minimum_percent: u32,
    /// `aggression`, above 0, in thousandths; 1,000 when absent.
    pub aggression_thousandths: u32,
}

/// `connectionPool`: absent fields have the defaults that their texts name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConnectionPool {
    /// `tcp.maxConnections`, at least 1; no limit.
    pub max_connections: Option<u32>,
    /// `tcp.connectTimeout`, at least 1 ms; 10 s.
    pub connect_timeout: Option<Duration>,
    /// `tcp.tcpKeepalive`; none.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `tcp.maxConnectionDuration`; no limit.
    pub max_connection_duration: Option<Duration>,
    /// `tcp.idleTimeout`; 1 h, 0 turns it off.
    pub tcp_idle_timeout: Option<Duration>,
    /// `http.http1MaxPendingRequests`, at least 1; no limit.
    pub max_pending_requests: Option<u32>,
    /// `http.http2MaxRequests`, at least 1: requests at a time, of HTTP/1.1 too; no limit.
    pub max_requests: Option<u32>,
    /// `http.maxRequestsPerConnection`, at least 1; no limit. 1 turns keep-alive off.
    pub max_requests_per_connection: Option<u32>,
    /// `http.maxRetries`: retries at a time; no limit.
    pub max_retries: Option<u32>,
    /// `http.idleTimeout`; 1 h.
    pub idle_timeout: Option<Duration>,
    /// `http.h2UpgradePolicy`.
    pub h2_upgrade_policy: Option<H2UpgradePolicy>,
    /// `http.useClientProtocol`.
    pub use_client_protocol: bool,
    /// `http.maxConcurrentStreams`; no limit of ours.
    pub max_concurrent_streams: Option<u32>,
}

/// `tcpKeepalive`; absent fields are the operating system's.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TcpKeepalive {
    /// `probes`.
    pub probes: Option<u32>,
    /// `time`.
    pub time: Option<Duration>,
    /// `interval`.
    pub interval: Option<Duration>,
}

/// `h2UpgradePolicy`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum H2UpgradePolicy {
    /// `DEFAULT`: what the mesh configuration says, which is not to upgrade.
    Default,
    /// `DO_NOT_UPGRADE`.
    DoNotUpgrade,
    /// `UPGRADE`: HTTP/2 to the service, whatever the client speaks.
    Upgrade,
}

/// `outlierDetection`: absent fields have the defaults that their texts name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OutlierDetection {
    /// `splitExternalLocalOriginErrors`; false.
    pub split_local_origin: bool,
    /// `consecutiveLocalOriginFailures`; 5. Counts only with the split.
    pub consecutive_local_origin_failures: Option<u32>,
    /// `consecutiveGatewayErrors`: 502, 503 and 504; off.
    pub consecutive_gateway_errors: Option<u32>,
    /// `consecutive5xxErrors`; 5, and 0 turns it off.
    pub consecutive_5xx_errors: Option<u32>,
    /// `interval`, at least 1 ms; 10 s.
    pub interval: Option<Duration>,
    /// `baseEjectionTime`, at least 1 ms; 30 s.
    pub base_ejection_time: Option<Duration>,
    /// `maxEjectionPercent`; 10.
    pub max_ejection_percent: Option<u32>,
    /// `minHealthPercent`; 0.
    pub min_health_percent: Option<u32>,
}

/// `retryBudget`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RetryBudget {
    /// `percent` of the requests in hand; 20 when absent.
    pub percent: Percent,
    /// `minRetryConcurrency`; 3 when absent.
    pub min_retry_concurrency: u32,
}

/// `trafficPolicy.tls`: the TLS that the client side originates.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientTls {
    /// `mode`.
    pub mode: ClientTlsMode,
    /// `sni`: server name to present instead of the one that Istio derives.
    pub sni: Option<String>,
    /// `subjectAltNames`: identities that the server may have; they replace those of the
    /// `ServiceEntry`. Empty means that those count.
    pub subject_alt_names: Vec<String>,
    /// `caCertificates`: a file of roots, with `SIMPLE`; absent means Mozilla's.
    pub ca_certificates: Option<String>,
}

/// `tls.mode` of a [`ClientTls`]. The reader refuses `MUTUAL`: its keys are files, and a function has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientTlsMode {
    /// `DISABLE`: plaintext.
    Disable,
    /// `SIMPLE`: TLS without a client certificate.
    Simple,
    /// `ISTIO_MUTUAL`: mutual TLS with the workload's own SVID.
    IstioMutual,
}
