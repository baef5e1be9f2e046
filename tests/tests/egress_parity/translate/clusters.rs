//! Clusters, as `cluster_builder.go` and `cluster_traffic_policy.go` of `pilot/pkg/networking/core` make them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use istio::{
    ClientTlsMode, ConnectionPool, H2UpgradePolicy, HashTable, LoadBalancerPolicy, Location, OutlierDetection,
    Resources, ServiceEntry, TrafficPolicy,
};
use serde_json::{Map, Value, json};

use super::{cluster_name, policy_of, seconds};

const NO_LIMIT: u32 = u32::MAX;

pub(super) fn clusters(resources: &Resources, folder: &Path) -> Vec<Value> {
    let mut clusters = Vec::new();
    for entry in &resources.service_entries {
        for host in &entry.hosts {
            let rule = resources.destination_rules.iter().find(|rule| rule.host == *host);
            for port in &entry.ports {
                let subsets = rule.map_or(&[][..], |rule| rule.subsets.as_slice());
                let none = BTreeMap::new();
                let all = std::iter::once(("", &none));
                for (subset, labels) in all.chain(subsets.iter().map(|subset| (subset.name.as_str(), &subset.labels))) {
                    let policy = policy_of(host, subset, resources);
                    let place = (host.as_str(), port, subset);
                    clusters.push(cluster(entry, place, labels, &policy, folder));
                }
            }
        }
    }
    clusters
}

fn cluster(
    entry: &ServiceEntry,
    (host, port, subset): (&str, &istio::Port, &str),
    labels: &BTreeMap<String, String>,
    policy: &TrafficPolicy,
    folder: &Path,
) -> Value {
    let chosen = entry
        .endpoints
        .iter()
        .filter(|endpoint| labels.iter().all(|(name, value)| endpoint.labels.get(name) == Some(value)));
    let endpoints: Vec<Value> = chosen
        .map(|endpoint| {
            let number = endpoint.ports.get(&port.name).copied().unwrap_or(port.number);
            json!({"endpoint": {"address": {"socket_address": {"address": endpoint.address, "port_value": number}}}})
        })
        .collect();
    let name = cluster_name(host, port.number, subset);
    let pool = policy.connection_pool.clone().unwrap_or_default();
    let limit = |limit: Option<u32>| limit.filter(|limit| *limit > 0).unwrap_or(NO_LIMIT);
    let mut made = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(pool.connect_timeout.unwrap_or(Duration::from_secs(10))),
        "lb_policy": "LEAST_REQUEST",
        // Not istiod's, which leaves Envoy's second: health is seen at once, so that nobody need wait for it.
        "common_lb_config": {"update_merge_window": "0s"},
        "circuit_breakers": {"thresholds": [{
            "max_connections": limit(pool.max_connections),
            "max_pending_requests": limit(pool.max_pending_requests),
            "max_requests": limit(pool.max_requests),
            "max_retries": limit(pool.max_retries),
        }]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol(&port.protocol, &pool),
        },
    });
    match policy.load_balancer.as_ref().map(|balancer| &balancer.policy) {
        Some(LoadBalancerPolicy::RoundRobin) => made["lb_policy"] = json!("ROUND_ROBIN"),
        Some(LoadBalancerPolicy::Random) => made["lb_policy"] = json!("RANDOM"),
        Some(LoadBalancerPolicy::ConsistentHash(hash)) => match hash.table {
            HashTable::Ring(size) => {
                made["lb_policy"] = json!("RING_HASH");
                made["ring_hash_lb_config"] = json!({"minimum_ring_size": size});
            }
            HashTable::Maglev(size) => {
                made["lb_policy"] = json!("MAGLEV");
                made["maglev_lb_config"] = json!({"table_size": size});
            }
        },
        _ => {}
    }
    if let Some(detection) = &policy.outlier_detection {
        made["outlier_detection"] = outlier(detection);
        let least = detection.min_health_percent.unwrap_or(0);
        made["common_lb_config"]["healthy_panic_threshold"] = json!({"value": least});
    }
    let disabled = policy.tls.as_ref().is_some_and(|tls| tls.mode == ClientTlsMode::Disable);
    if entry.location == Location::MeshInternal && !disabled {
        made["transport_socket"] = mutual_tls(entry, (host, port.number, subset), folder);
    }
    made
}

fn protocol(named: &str, pool: &ConnectionPool) -> Value {
    let is_http2 = matches!(named, "HTTP2" | "GRPC") || pool.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade);
    let mut made = json!({"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"});
    if pool.use_client_protocol {
        made["use_downstream_protocol_config"] = json!({"http_protocol_options": {}, "http2_protocol_options": {}});
    } else if is_http2 {
        let mut options = Map::new();
        if let Some(streams) = pool.max_concurrent_streams.filter(|streams| *streams > 0) {
            options.insert("max_concurrent_streams".to_owned(), json!(streams));
        }
        made["explicit_http_config"] = json!({"http2_protocol_options": options});
    } else {
        made["explicit_http_config"] = json!({"http_protocol_options": {}});
    }
    let mut common = Map::new();
    if let Some(requests) = pool.max_requests_per_connection.filter(|requests| *requests > 0) {
        common.insert("max_requests_per_connection".to_owned(), json!(requests));
    }
    if let Some(idle) = pool.idle_timeout.or(pool.tcp_idle_timeout) {
        common.insert("idle_timeout".to_owned(), json!(seconds(idle)));
    }
    if !common.is_empty() {
        made["common_http_protocol_options"] = Value::Object(common);
    }
    made
}

/// `applyOutlierDetection`.
fn outlier(detection: &OutlierDetection) -> Value {
    let mut made = json!({"enforcing_success_rate": 0});
    for (count, field) in [
        (detection.consecutive_5xx_errors, "consecutive_5xx"),
        (detection.consecutive_gateway_errors, "consecutive_gateway_failure"),
    ] {
        if let Some(count) = count {
            made[field] = json!(count);
            made[format!("enforcing_{field}")] = json!(if count > 0 { 100 } else { 0 });
        }
    }
    for (time, field) in [(detection.interval, "interval"), (detection.base_ejection_time, "base_ejection_time")] {
        if let Some(time) = time {
            made[field] = json!(seconds(time));
        }
    }
    if let Some(percent) = detection.max_ejection_percent.filter(|percent| *percent > 0) {
        made["max_ejection_percent"] = json!(percent);
    }
    if detection.split_local_origin {
        made["split_external_local_origin_errors"] = json!(true);
        made["enforcing_local_origin_success_rate"] = json!(0);
        if let Some(count) = detection.consecutive_local_origin_failures.filter(|count| *count > 0) {
            made["consecutive_local_origin_failure"] = json!(count);
            made["enforcing_consecutive_local_origin_failure"] = json!(100);
        }
    }
    made
}

/// `buildUpstreamClusterTLSContext` for ISTIO_MUTUAL, with what istiod's ALPN filter makes of it for HTTP/1.1.
fn mutual_tls(entry: &ServiceEntry, (host, port, subset): (&str, u16, &str), folder: &Path) -> Value {
    let file = |name: &str| json!({"filename": folder.join(name).display().to_string()});
    let names = entry.subject_alt_names.iter().map(|name| json!({"san_type": "URI", "matcher": {"exact": name}}));
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": format!("outbound_.{port}_.{subset}_.{host}"),
            "common_tls_context": {
                "alpn_protocols": ["istio-http/1.1", "istio", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{"certificate_chain": file("client.pem"), "private_key": file("client.key")}],
                "validation_context": {
                    "trusted_ca": file("root.pem"),
                    "match_typed_subject_alt_names": names.collect::<Vec<Value>>(),
                },
            },
        },
    })
}
