//! How a destination is reached, in words.

use serde::Serialize;
use traffic::table::{
    BalancePolicy, Cluster, HashKey, LocalityPolicy, Outlier, Pool, Protocol, Resolution, RetryOn, RetryPolicy, Tls,
};
use traffic::{Rules, locality};

use super::question::Question;

/// A destination and how it is reached.
#[derive(Debug, Serialize)]
pub(crate) struct DestinationSaid {
    /// Of the requests.
    pub(crate) percent: f64,
    /// Istio's name of it.
    pub(crate) cluster: String,
    pub(crate) protocol: &'static str,
    pub(crate) tls: TlsSaid,
    pub(crate) resolution: &'static str,
    /// Those of the lowest priority number first.
    pub(crate) endpoints: Vec<EndpointSaid>,
    pub(crate) balance: String,
    pub(crate) locality: String,
    /// Empty when it is off.
    pub(crate) outlier: Vec<String>,
    pub(crate) pool: Vec<String>,
    pub(crate) request_headers: Vec<String>,
    pub(crate) response_headers: Vec<String>,
}

/// How the connection is protected.
#[derive(Debug, Default, Serialize)]
pub(crate) struct TlsSaid {
    /// `ISTIO_MUTUAL`, `SIMPLE` or `DISABLE`.
    pub(crate) mode: &'static str,
    pub(crate) sni: Option<String>,
    /// Who may answer: SPIFFE IDs, or names.
    pub(crate) expected: Vec<String>,
    pub(crate) alpn: Vec<&'static str>,
    /// The file of roots of `SIMPLE`.
    pub(crate) roots: Option<String>,
}

/// Where it is.
#[derive(Debug, Serialize)]
pub(crate) struct EndpointSaid {
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) priority: u32,
    /// 0 gets nothing.
    pub(crate) weight: u32,
    pub(crate) locality: String,
}

/// When a request is sent again.
#[derive(Debug, Serialize)]
pub(crate) struct RetrySaid {
    pub(crate) attempts: u32,
    pub(crate) on: Vec<&'static str>,
    pub(crate) statuses: Vec<u16>,
    /// 0 is the route's.
    pub(crate) per_try_timeout_ms: u64,
    pub(crate) backoff_ms: u64,
    pub(crate) avoids_previous_hosts: bool,
    pub(crate) remote_localities: bool,
}

/// A cluster with a share of the requests.
pub(crate) fn destination(rules: &Rules, index: u32, percent: f64, question: &Question) -> Option<DestinationSaid> {
    let cluster = rules.cluster(index)?;
    Some(DestinationSaid {
        percent,
        cluster: cluster.name.clone(),
        protocol: protocol(cluster.protocol),
        tls: tls(&cluster),
        resolution: match cluster.resolution {
            Resolution::Static => "STATIC",
            Resolution::StrictDns => "DNS",
            Resolution::LogicalDns => "DNS_ROUND_ROBIN",
            Resolution::Original => "NONE",
        },
        endpoints: endpoints(&cluster, question),
        balance: balance(&cluster),
        locality: near(&cluster.balance.locality),
        outlier: cluster.outlier.as_ref().map(outlier).unwrap_or_default(),
        pool: pool(&cluster.pool),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
    })
}

/// `retries`.
pub(crate) fn retries(policy: &RetryPolicy) -> RetrySaid {
    RetrySaid {
        attempts: policy.attempts,
        on: policy.on.iter().map(|on| word(*on)).collect(),
        statuses: policy.statuses.clone(),
        per_try_timeout_ms: policy.per_try_timeout_ms,
        backoff_ms: policy.backoff_ms,
        avoids_previous_hosts: policy.avoids_previous_hosts,
        remote_localities: policy.remote_localities,
    }
}

/// Milliseconds as a person writes them.
pub(crate) fn time(ms: u64) -> String {
    match ms {
        0 => "none".to_owned(),
        ms if ms.is_multiple_of(3_600_000) => format!("{} h", ms / 3_600_000),
        ms if ms.is_multiple_of(60_000) => format!("{} min", ms / 60_000),
        ms if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "HTTP/1.1",
        Protocol::Http2 => "HTTP/2",
        Protocol::Client => "the client's",
        Protocol::Tcp => "TCP",
    }
}

fn tls(cluster: &Cluster) -> TlsSaid {
    match &cluster.tls {
        Tls::Plaintext => TlsSaid { mode: "DISABLE", ..TlsSaid::default() },
        Tls::IstioMutual(mutual) => TlsSaid {
            mode: "ISTIO_MUTUAL",
            sni: Some(mutual.sni.clone()),
            expected: mutual.expected.clone(),
            alpn: match cluster.protocol {
                Protocol::Http1 => vec!["istio-http/1.1", "istio", "http/1.1"],
                Protocol::Http2 => vec!["istio-h2", "istio", "h2"],
                Protocol::Tcp => vec!["istio-peer-exchange", "istio"],
                Protocol::Client => Vec::new(),
            },
            roots: None,
        },
        Tls::Simple(simple) => TlsSaid {
            mode: "SIMPLE",
            sni: Some(simple.sni.clone()).filter(|sni| !sni.is_empty()),
            expected: simple.names.clone(),
            alpn: match cluster.protocol {
                Protocol::Http2 => vec!["h2"],
                Protocol::Http1 => vec!["http/1.1"],
                Protocol::Tcp | Protocol::Client => Vec::new(),
            },
            roots: Some(simple.roots.clone()).filter(|roots| !roots.is_empty()),
        },
    }
}

fn endpoints(cluster: &Cluster, question: &Question) -> Vec<EndpointSaid> {
    let places = locality::assign(&cluster.balance.locality, &question.locality, &question.labels, &cluster.endpoints);
    let mut said: Vec<EndpointSaid> = cluster
        .endpoints
        .iter()
        .zip(places)
        .map(|(endpoint, place)| {
            let parts = [&endpoint.locality.region, &endpoint.locality.zone, &endpoint.locality.subzone];
            let known: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
            EndpointSaid {
                address: endpoint.address.clone(),
                port: endpoint.port,
                priority: place.priority,
                weight: place.weight,
                locality: known.join("/"),
            }
        })
        .collect();
    said.sort_by_key(|endpoint| endpoint.priority);
    said
}

fn balance(cluster: &Cluster) -> String {
    let policy = match &cluster.balance.policy {
        _ if cluster.resolution == Resolution::Original => "PASSTHROUGH".to_owned(),
        BalancePolicy::LeastRequest => "LEAST_REQUEST".to_owned(),
        BalancePolicy::RoundRobin => "ROUND_ROBIN".to_owned(),
        BalancePolicy::Random => "RANDOM".to_owned(),
        BalancePolicy::Hash(key, _) => match key {
            HashKey::Header(name) => format!("consistent hash of the header {name}"),
            HashKey::Cookie(name, _, _) => format!("consistent hash of the cookie {name}"),
            HashKey::SourceIp => "consistent hash of the client's address".to_owned(),
            HashKey::Query(name) => format!("consistent hash of the query parameter {name}"),
        },
    };
    match &cluster.balance.warmup {
        Some(warmup) => format!("{policy}, warm-up {}", time(warmup.duration_ms)),
        None => policy,
    }
}

fn near(policy: &LocalityPolicy) -> String {
    match policy {
        LocalityPolicy::Off => "off".to_owned(),
        LocalityPolicy::Failover(regions) if regions.is_empty() => "the nearest first".to_owned(),
        LocalityPolicy::Failover(regions) => {
            let to: Vec<String> = regions.iter().map(|(from, to)| format!("{from} to {to}")).collect();
            format!("the nearest first, failover {}", to.join(", "))
        }
        LocalityPolicy::FailoverPriority(labels) => format!("by the labels {}", labels.join(", ")),
        LocalityPolicy::Distribute(shares) => {
            let from: Vec<&str> = shares.iter().map(|share| share.0.as_str()).collect();
            format!("distributed from {}", from.join(", "))
        }
    }
}

fn outlier(outlier: &Outlier) -> Vec<String> {
    let count = |count: u32, what: &str| (count > 0).then(|| format!("{count} {what} in a row"));
    let counts = [
        count(outlier.consecutive_5xx, "5xx"),
        count(outlier.consecutive_gateway, "of 502, 503 and 504"),
        count(outlier.consecutive_local, "failures to connect"),
    ];
    let mut said: Vec<String> = counts.into_iter().flatten().collect();
    said.push(format!("out for {} to {}", time(outlier.base_ejection_ms), time(outlier.max_ejection_ms)));
    said.push(format!("at most {} %", outlier.max_ejection_percent));
    said
}

fn pool(pool: &Pool) -> Vec<String> {
    let limit = |limit: u32, what: &str| (limit > 0).then(|| format!("{limit} {what}"));
    let limits = [
        Some(format!("connect timeout {}", time(pool.connect_timeout_ms))),
        Some(format!("idle timeout {}", time(pool.idle_timeout_ms))),
        (pool.max_connection_ms > 0).then(|| format!("connections live {}", time(pool.max_connection_ms))),
        limit(pool.max_connections, "connections"),
        limit(pool.max_pending, "waiting requests"),
        limit(pool.max_requests, "requests"),
        limit(pool.max_retries, "retries").filter(|_| pool.retry_budget.is_none()),
        pool.retry_budget.map(|(share, least)| {
            format!("retries {} % of the requests, at least {least}", f64::from(share) / 10_000.0)
        }),
        limit(pool.max_requests_per_connection, "requests a connection"),
        limit(pool.max_concurrent_streams, "streams a connection"),
    ];
    limits.into_iter().flatten().collect()
}

fn word(on: RetryOn) -> &'static str {
    match on {
        RetryOn::Status5xx => "5xx",
        RetryOn::GatewayError => "gateway-error",
        RetryOn::Reset => "reset",
        RetryOn::ResetBeforeRequest => "reset-before-request",
        RetryOn::ConnectFailure => "connect-failure",
        RetryOn::EnvoyRatelimited => "envoy-ratelimited",
        RetryOn::Retriable4xx => "retriable-4xx",
        RetryOn::RefusedStream => "refused-stream",
        RetryOn::RetriableStatusCodes => "retriable-status-codes",
        RetryOn::GrpcCancelled => "cancelled",
        RetryOn::GrpcDeadlineExceeded => "deadline-exceeded",
        RetryOn::GrpcInternal => "internal",
        RetryOn::GrpcResourceExhausted => "resource-exhausted",
        RetryOn::GrpcUnavailable => "unavailable",
    }
}
