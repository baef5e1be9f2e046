//! `DestinationRule` as YAML.

use istio::*;

use crate::printer::{data, flag};
use crate::traffic_printer::{duration, export_to, networking, number, share};
use crate::yaml::{Yaml, fields, list, plain, text, texts};

pub(crate) fn destination_rule(rule: &DestinationRule) -> Yaml {
    let DestinationRule { meta, host, traffic_policy, subsets, export_to, workload_selector } = rule;
    let subset = |subset: &Subset| {
        let Subset { name, labels, traffic_policy } = subset;
        let policy = traffic_policy.as_ref().map(self::traffic_policy);
        fields([("name", Some(text(name))), ("labels", data(labels)), ("trafficPolicy", policy)])
    };
    let selector = workload_selector.as_ref();
    let spec = fields([
        ("host", Some(text(host))),
        ("trafficPolicy", traffic_policy.as_ref().map(self::traffic_policy)),
        ("subsets", list(subsets, subset)),
        ("exportTo", self::export_to(export_to)),
        ("workloadSelector", selector.map(|selector| fields([("matchLabels", data(&selector.match_labels))]))),
    ]);
    networking("DestinationRule", meta, spec)
}

fn traffic_policy(policy: &TrafficPolicy) -> Yaml {
    let TrafficPolicy { load_balancer, connection_pool, outlier_detection, tls, port_level_settings, retry_budget } =
        policy;
    let of_port = |port: u16, policy: &TrafficPolicy| {
        let Yaml::Fields(mut entries) = traffic_policy(policy) else { unreachable!("it prints fields") };
        entries.push(("port".to_owned(), fields([("number", number(port))])));
        Yaml::Fields(entries)
    };
    let ports: Vec<_> = port_level_settings.iter().map(|(port, policy)| of_port(*port, policy)).collect();
    let budget = retry_budget.as_ref().map(|RetryBudget { percent, min_retry_concurrency }| {
        fields([("percent", Some(share(*percent))), ("minRetryConcurrency", number(min_retry_concurrency))])
    });
    fields([
        ("loadBalancer", load_balancer.as_ref().map(self::load_balancer)),
        ("connectionPool", connection_pool.as_ref().map(self::connection_pool)),
        ("outlierDetection", outlier_detection.as_ref().map(self::outlier_detection)),
        ("tls", tls.as_ref().map(client_tls)),
        ("portLevelSettings", (!ports.is_empty()).then_some(Yaml::List(ports))),
        ("retryBudget", budget),
    ])
}

fn load_balancer(balancer: &LoadBalancer) -> Yaml {
    let LoadBalancer { policy, locality, warmup } = balancer;
    let (simple, hash) = match policy {
        LoadBalancerPolicy::LeastRequest => (None, None),
        LoadBalancerPolicy::RoundRobin => (Some("ROUND_ROBIN"), None),
        LoadBalancerPolicy::Random => (Some("RANDOM"), None),
        LoadBalancerPolicy::Passthrough => (Some("PASSTHROUGH"), None),
        LoadBalancerPolicy::ConsistentHash(hash) => (None, Some(consistent_hash(hash))),
    };
    let warmup = warmup.as_ref().map(|Warmup { duration: time, minimum_percent, aggression_thousandths }| {
        let aggression = format!("{}.{:03}", aggression_thousandths / 1_000, aggression_thousandths % 1_000);
        fields([
            ("duration", duration(Some(*time))),
            ("minimumPercent", number(minimum_percent)),
            ("aggression", number(aggression)),
        ])
    });
    fields([
        ("simple", simple.map(text)),
        ("consistentHash", hash),
        ("localityLbSetting", locality.as_ref().map(locality_lb)),
        ("warmup", warmup),
    ])
}

fn consistent_hash(hash: &ConsistentHash) -> Yaml {
    let ConsistentHash { key, table } = hash;
    let key = match key {
        HashKey::Header(name) => ("httpHeaderName", Some(text(name))),
        HashKey::Cookie { name, path, ttl } => {
            let path = path.as_deref().map(text);
            ("httpCookie", Some(fields([("name", Some(text(name))), ("path", path), ("ttl", duration(*ttl))])))
        }
        HashKey::SourceIp => ("useSourceIp", flag(true)),
        HashKey::QueryParameter(name) => ("httpQueryParameterName", Some(text(name))),
    };
    let table = match table {
        HashTable::Ring(size) => ("ringHash", Some(fields([("minimumRingSize", number(size))]))),
        HashTable::Maglev(size) => ("maglev", Some(fields([("tableSize", number(size))]))),
    };
    fields([key, table])
}

pub(crate) fn locality_lb(locality: &LocalityLb) -> Yaml {
    let LocalityLb { distribute, failover, failover_priority, enabled } = locality;
    let part = |Distribute { from, to }: &Distribute| {
        let to = to.iter().map(|(name, weight)| (name.clone(), plain(weight))).collect();
        fields([("from", Some(text(from))), ("to", Some(Yaml::Data(to)))])
    };
    fields([
        ("distribute", list(distribute, part)),
        (
            "failover",
            list(failover, |(from, to): &(String, String)| {
                fields([("from", Some(text(from))), ("to", Some(text(to)))])
            }),
        ),
        ("failoverPriority", texts(failover_priority)),
        ("enabled", enabled.map(plain)),
    ])
}

fn connection_pool(pool: &ConnectionPool) -> Yaml {
    let ConnectionPool {
        max_connections,
        connect_timeout,
        tcp_keepalive,
        max_connection_duration,
        tcp_idle_timeout,
        max_pending_requests,
        max_requests,
        max_requests_per_connection,
        max_retries,
        idle_timeout,
        h2_upgrade_policy,
        use_client_protocol,
        max_concurrent_streams,
    } = pool;
    let keepalive = tcp_keepalive.as_ref().map(|TcpKeepalive { probes, time, interval }| {
        fields([("probes", probes.map(plain)), ("time", duration(*time)), ("interval", duration(*interval))])
    });
    let tcp = fields([
        ("maxConnections", max_connections.map(plain)),
        ("connectTimeout", duration(*connect_timeout)),
        ("tcpKeepalive", keepalive),
        ("maxConnectionDuration", duration(*max_connection_duration)),
        ("idleTimeout", duration(*tcp_idle_timeout)),
    ]);
    let upgrade = h2_upgrade_policy.map(|policy| {
        text(match policy {
            H2UpgradePolicy::Default => "DEFAULT",
            H2UpgradePolicy::DoNotUpgrade => "DO_NOT_UPGRADE",
            H2UpgradePolicy::Upgrade => "UPGRADE",
        })
    });
    let http = fields([
        ("http1MaxPendingRequests", max_pending_requests.map(plain)),
        ("http2MaxRequests", max_requests.map(plain)),
        ("maxRequestsPerConnection", max_requests_per_connection.map(plain)),
        ("maxRetries", max_retries.map(plain)),
        ("idleTimeout", duration(*idle_timeout)),
        ("h2UpgradePolicy", upgrade),
        ("useClientProtocol", flag(*use_client_protocol)),
        ("maxConcurrentStreams", max_concurrent_streams.map(plain)),
    ]);
    fields([("tcp", Some(tcp)), ("http", Some(http))])
}

fn outlier_detection(detection: &OutlierDetection) -> Yaml {
    let OutlierDetection {
        split_local_origin,
        consecutive_local_origin_failures,
        consecutive_gateway_errors,
        consecutive_5xx_errors,
        interval,
        base_ejection_time,
        max_ejection_percent,
        min_health_percent,
    } = detection;
    fields([
        ("splitExternalLocalOriginErrors", flag(*split_local_origin)),
        ("consecutiveLocalOriginFailures", consecutive_local_origin_failures.map(plain)),
        ("consecutiveGatewayErrors", consecutive_gateway_errors.map(plain)),
        ("consecutive5xxErrors", consecutive_5xx_errors.map(plain)),
        ("interval", duration(*interval)),
        ("baseEjectionTime", duration(*base_ejection_time)),
        ("maxEjectionPercent", max_ejection_percent.map(plain)),
        ("minHealthPercent", min_health_percent.map(plain)),
    ])
}

fn client_tls(tls: &ClientTls) -> Yaml {
    let ClientTls { mode, sni, subject_alt_names, ca_certificates } = tls;
    let mode = match mode {
        ClientTlsMode::Disable => "DISABLE",
        ClientTlsMode::Simple => "SIMPLE",
        ClientTlsMode::IstioMutual => "ISTIO_MUTUAL",
    };
    fields([
        ("mode", Some(text(mode))),
        ("sni", sni.as_deref().map(text)),
        ("subjectAltNames", texts(subject_alt_names)),
        ("caCertificates", ca_certificates.as_deref().map(text)),
    ])
}
