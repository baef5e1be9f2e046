//! The documents in Envoy's words, as istiod says them to a sidecar for its outbound requests. It reads the documents
//! with the reader that the extension's compiler has, and shares nothing else with it.

mod clusters;
mod routes;

use std::path::Path;
use std::time::Duration;

use istio::{Percent, Resources, TrafficPolicy};
use serde_json::{Value, json};

use clusters::clusters;
use routes::virtual_hosts;

/// The whole configuration. `folder` holds the certificates of this workload.
pub(crate) fn configuration(resources: &Resources, folder: &Path) -> Value {
    let manager = |trusting: bool| {
        let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound",
        "codec_type": "AUTO",
        "use_remote_address": false,
        "normalize_path": true,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "stream_idle_timeout": "0s",
        "proxy_100_continue": true,
        "http_filters": [
            {"name": "envoy.filters.http.fault", "typed_config": {"@type": FAULT}},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            },
        ],
        "route_config": {
            "name": "outbound",
            "validate_clusters": false,
            "max_direct_response_body_size_bytes": 1024 * 1024,
            "virtual_hosts": virtual_hosts(resources),
        },
        });
        if trusting {
            manager["use_remote_address"] = json!(true);
            manager["internal_address_config"] =
                json!({"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]});
        }
        manager
    };
    // By default istiod's listeners believe nothing that `x-envoy-...` says; with `PILOT_SIDECAR_USE_REMOTE_ADDRESS`
    // they believe the application.
    let listeners = [("outbound", false), ("trusting", true)].map(|(name, trusting)| {
        json!({
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager(trusting)},
            ]}],
        })
    });
    json!({
        "node": {"id": "parity", "cluster": "parity"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "listeners": listeners,
            "clusters": clusters(resources, folder),
        },
    })
}

const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";

fn cluster_name(host: &str, port: u16, subset: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// `trafficPolicy` of the subset before that of the rule, field by field.
fn policy_of(host: &str, subset: &str, resources: &Resources) -> TrafficPolicy {
    let Some(rule) = resources.destination_rules.iter().find(|rule| rule.host == host) else {
        return TrafficPolicy::default();
    };
    let whole = rule.traffic_policy.clone().unwrap_or_default();
    let own = rule.subsets.iter().find(|known| known.name == subset).and_then(|known| known.traffic_policy.clone());
    let own = own.unwrap_or_default();
    TrafficPolicy {
        load_balancer: own.load_balancer.or(whole.load_balancer),
        connection_pool: own.connection_pool.or(whole.connection_pool),
        outlier_detection: own.outlier_detection.or(whole.outlier_detection),
        tls: own.tls.or(whole.tls),
        retry_budget: own.retry_budget.or(whole.retry_budget),
        ..TrafficPolicy::default()
    }
}

fn fraction(percent: Percent) -> Value {
    json!({"numerator": percent.millionths(), "denominator": "MILLION"})
}

fn seconds(time: Duration) -> String {
    format!("{}.{:09}s", time.as_secs(), time.subsec_nanos())
}
