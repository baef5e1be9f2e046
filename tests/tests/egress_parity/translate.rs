//! The documents in Envoy's words, as istiod says them to a sidecar for its outbound requests
//! (`pilot/pkg/networking/core/route/route.go`, `cluster_traffic_policy.go`, `listener.go`). It reads the documents with
//! the reader that the extension's compiler has, and shares nothing else with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use istio::{
    AbortStatus, ClientTlsMode, ConnectionPool, ConsistentHash, Destination, H2UpgradePolicy, HashKey, HashTable,
    HeaderChanges, HttpAction, HttpFault, HttpMatch, HttpRetry, HttpRoute, LoadBalancerPolicy, Location,
    OutlierDetection, Percent, RedirectPort, Resources, ServiceEntry, StringMatch, TrafficPolicy, VirtualService,
};
use serde_json::{Map, Value, json};

const NO_LIMIT: u32 = u32::MAX;

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
    // By default istiod's listeners believe nothing that `x-envoy-...` says; with `PILOT_SIDECAR_USE_REMOTE_ADDRESS` they
    // believe the application.
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

// ---- routes (route.go)

/// A virtual host for each port of each service, and one that refuses all others (`REGISTRY_ONLY`).
fn virtual_hosts(resources: &Resources) -> Vec<Value> {
    let mut hosts = Vec::new();
    for entry in &resources.service_entries {
        for (host, port) in entry.hosts.iter().flat_map(|host| entry.ports.iter().map(move |port| (host, port.number)))
        {
            let mut domains = vec![format!("{host}:{port}"), format!("{host}.:{port}")];
            // The port that a client leaves out.
            if port == 80 {
                domains.extend([host.clone(), format!("{host}.")]);
            }
            let service = resources.virtual_services.iter().find(|service| service.hosts.contains(host));
            let routes = match service {
                Some(service) => routes(service, port, resources),
                None => {
                    let mut route = json!({
                        "match": {"prefix": "/"},
                        "route": {"cluster": cluster_name(host, port, ""), "timeout": "0s", "max_grpc_timeout": "0s"},
                    });
                    route["route"]["retry_policy"] = retry_policy(None, false);
                    vec![route]
                }
            };
            hosts.push(json!({
                "name": format!("{host}:{port}"),
                "domains": domains,
                "routes": routes,
                "include_request_attempt_count": true,
            }));
        }
    }
    hosts.push(json!({
        "name": "block_all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 502}}],
        "include_request_attempt_count": true,
    }));
    hosts
}

/// `BuildHTTPRoutesForVirtualService`.
fn routes(service: &VirtualService, port: u16, resources: &Resources) -> Vec<Value> {
    let mut routes = Vec::new();
    for http in &service.http {
        let no_match = HttpMatch::default();
        let matches = if http.matches.is_empty() { vec![&no_match] } else { http.matches.iter().collect() };
        for one in matches.into_iter().filter(|one| one.port.is_none_or(|wanted| wanted == port)) {
            let mut route = route(http, port, resources);
            route["match"] = route_match(one);
            routes.push(route);
        }
    }
    routes
}

/// `TranslateRoute`.
fn route(http: &HttpRoute, port: u16, resources: &Resources) -> Value {
    let mut route = json!({"name": http.name});
    let mut authority = add_headers(&mut route, &http.headers.request, &http.headers.response);
    match &http.action {
        HttpAction::Redirect(redirect) => {
            let mut action = json!({"path_redirect": redirect.uri.clone().unwrap_or_default()});
            if let Some(host) = &redirect.authority {
                action["host_redirect"] = json!(host);
            }
            let scheme = redirect.scheme.as_deref().unwrap_or("http");
            if redirect.scheme.is_some() {
                action["scheme_redirect"] = json!(scheme);
            }
            let number = match redirect.port {
                Some(RedirectPort::Number(number)) => Some(number),
                Some(RedirectPort::FromRequestPort) => Some(port),
                Some(RedirectPort::FromProtocolDefault) | None => None,
            };
            if let Some(number) = number.filter(|number| !matches!((number, scheme), (80, "http") | (443, "https"))) {
                action["port_redirect"] = json!(number);
            }
            action["response_code"] = json!(match redirect.code {
                302 => "FOUND",
                303 => "SEE_OTHER",
                307 => "TEMPORARY_REDIRECT",
                308 => "PERMANENT_REDIRECT",
                _ => "MOVED_PERMANENTLY",
            });
            route["redirect"] = action;
        }
        HttpAction::DirectResponse(direct) => {
            route["direct_response"] = json!({"status": direct.status});
            if !direct.body.is_empty() {
                route["direct_response"]["body"] = json!({"inline_string": String::from_utf8_lossy(&direct.body)});
            }
        }
        HttpAction::Route(_) => {
            let action = route_action(http, port, resources, &mut route, &mut authority);
            route["route"] = action;
        }
    }
    if let Some(fault) = &http.fault {
        route["typed_per_filter_config"] = json!({"envoy.filters.http.fault": injected(fault)});
    }
    route
}

/// `applyHTTPRouteDestination`.
fn route_action(
    http: &HttpRoute,
    port: u16,
    resources: &Resources,
    route: &mut Value,
    authority: &mut Option<String>,
) -> Value {
    let timeout = http.timeout.unwrap_or_default();
    let mut action = json!({"timeout": seconds(timeout), "max_grpc_timeout": seconds(timeout)});
    if let Some(rewrite) = &http.rewrite {
        if let Some(regex) = &rewrite.uri_regex {
            action["regex_rewrite"] = json!({"pattern": {"regex": regex.pattern}, "substitution": regex.substitution});
        } else if let Some(uri) = rewrite.uri.as_ref().filter(|uri| !uri.is_empty()) {
            action["prefix_rewrite"] = json!(uri);
        }
        if rewrite.authority.is_some() {
            authority.clone_from(&rewrite.authority);
        }
    }
    if !http.mirrors.is_empty() {
        let mirrors = http.mirrors.iter().filter(|mirror| mirror.percentage.millionths() > 0);
        let mirrors = mirrors.map(|mirror| {
            json!({
                "cluster": destination(&mirror.destination, port),
                "runtime_fraction": {"default_value": fraction(mirror.percentage)},
                "trace_sampled": false,
                // Newer versions of istiod leave the suffix away (`DISABLE_SHADOW_HOST_SUFFIX`), which this
                // implementation does not follow yet.
                "disable_shadow_host_suffix_append": false,
            })
        });
        action["request_mirror_policies"] = mirrors.collect();
    }
    let HttpAction::Route(destinations) = &http.action else { return action };
    let mut hashes: Vec<Value> = Vec::new();
    if let [only] = destinations.as_slice() {
        action["cluster"] = json!(destination(&only.destination, port));
        let theirs = add_headers(route, &only.headers.request, &only.headers.response);
        if authority.is_none() {
            *authority = theirs;
        }
        hashes.extend(hash_policy(&only.destination, port, resources));
    } else {
        let mut weighted = Vec::new();
        for one in destinations.iter().filter(|one| one.weight > 0) {
            let mut cluster = json!({"name": destination(&one.destination, port), "weight": one.weight});
            if let Some(host) = add_headers(&mut cluster, &one.headers.request, &one.headers.response) {
                cluster["host_rewrite_literal"] = json!(host);
            }
            weighted.push(cluster);
            hashes.extend(hash_policy(&one.destination, port, resources));
        }
        action["weighted_clusters"] = json!({"clusters": weighted});
    }
    if let Some(host) = authority {
        action["host_rewrite_literal"] = json!(host);
    }
    let is_hashed = destinations.len() == 1 && !hashes.is_empty();
    if !hashes.is_empty() {
        action["hash_policy"] = json!(hashes);
    }
    let policy = retry_policy(http.retries.as_ref(), is_hashed);
    if !policy.is_null() {
        action["retry_policy"] = policy;
    }
    action
}

/// `TranslateHeadersOperations`; gives the Host that they set.
fn add_headers(to: &mut Value, request: &HeaderChanges, response: &HeaderChanges) -> Option<String> {
    let mut authority = None;
    for (changes, side) in [(request, "request"), (response, "response")] {
        let (add, remove) = (format!("{side}_headers_to_add"), format!("{side}_headers_to_remove"));
        let mut added = to[&add].as_array().cloned().unwrap_or_default();
        let mut removed = to[&remove].as_array().cloned().unwrap_or_default();
        let kinds =
            [(&changes.set, "OVERWRITE_IF_EXISTS_OR_ADD"), (&changes.add, "APPEND_IF_EXISTS_OR_ADD")].into_iter();
        for (name, value, action) in
            kinds.flat_map(|(fields, action)| fields.iter().map(move |(name, value)| (name, value, action)))
        {
            if name.eq_ignore_ascii_case("host") || name == ":authority" {
                if side == "request" && (authority.is_none() || action.starts_with("OVERWRITE")) {
                    authority = Some(value.clone());
                }
                continue;
            }
            added.push(json!({"header": {"key": name, "value": value}, "append_action": action}));
        }
        removed.extend(changes.remove.iter().filter(|name| !name.eq_ignore_ascii_case("host")).map(|name| json!(name)));
        if !added.is_empty() {
            to[&add] = json!(added);
        }
        if !removed.is_empty() {
            to[&remove] = json!(removed);
        }
    }
    authority
}

/// `TranslateRouteMatch`.
fn route_match(one: &HttpMatch) -> Value {
    let mut made = match &one.uri {
        None | Some(StringMatch::Present) => json!({"prefix": "/"}),
        Some(StringMatch::Exact(path)) => json!({"path": path}),
        Some(StringMatch::Prefix(prefix)) => json!({"prefix": prefix}),
        Some(StringMatch::Regex(regex)) => json!({"safe_regex": {"regex": regex}}),
    };
    made["case_sensitive"] = json!(!one.ignore_uri_case);
    let mut headers: Vec<Value> = one.headers.iter().map(|(name, wanted)| header(name, wanted)).collect();
    for (name, unwanted) in &one.without_headers {
        let mut matcher = header(name, unwanted);
        matcher["invert_match"] = json!(true);
        if *unwanted != StringMatch::Present {
            matcher["treat_missing_header_as_empty"] = json!(true);
        }
        headers.push(matcher);
    }
    for (name, wanted) in [(":method", &one.method), (":authority", &one.authority), (":scheme", &one.scheme)] {
        headers.extend(wanted.as_ref().map(|wanted| header(name, wanted)));
    }
    if !headers.is_empty() {
        made["headers"] = json!(headers);
    }
    let parameters = one.query_params.iter().map(|(name, wanted)| match wanted {
        StringMatch::Present => json!({"name": name, "present_match": true}),
        wanted => json!({"name": name, "string_match": string(wanted)}),
    });
    let parameters: Vec<Value> = parameters.collect();
    if !parameters.is_empty() {
        made["query_parameters"] = json!(parameters);
    }
    made
}

fn header(name: &str, wanted: &StringMatch) -> Value {
    match wanted {
        StringMatch::Present => json!({"name": name, "present_match": true}),
        wanted => json!({"name": name, "string_match": string(wanted)}),
    }
}

fn string(wanted: &StringMatch) -> Value {
    match wanted {
        StringMatch::Exact(text) => json!({"exact": text}),
        StringMatch::Prefix(text) => json!({"prefix": text}),
        StringMatch::Regex(regex) => json!({"safe_regex": {"regex": regex}}),
        StringMatch::Present => json!({"safe_regex": {"regex": ".*"}}),
    }
}

/// `ConvertPolicy`, with `EXCLUDE_UNSAFE_503_FROM_DEFAULT_RETRY` as it is by default: no status is named.
fn retry_policy(policy: Option<&HttpRetry>, is_hashed: bool) -> Value {
    let previous = json!([{
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
        },
    }]);
    let mut made = json!({
        "num_retries": 2,
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
        "host_selection_retry_max_attempts": 5,
    });
    if !is_hashed {
        made["retry_host_predicate"] = previous.clone();
    }
    let Some(policy) = policy else { return made };
    if policy.attempts == 0 {
        return Value::Null;
    }
    made["num_retries"] = json!(policy.attempts);
    if !policy.retry_on.is_empty() {
        let words = policy.retry_on.iter().flat_map(|words| words.split(',')).map(str::trim);
        let (codes, mut words): (Vec<&str>, Vec<&str>) = words.partition(|word| word.parse::<u16>().is_ok());
        if !codes.is_empty() {
            if !words.contains(&"retriable-status-codes") {
                words.push("retriable-status-codes");
            }
            made["retriable_status_codes"] = codes.iter().filter_map(|code| code.parse::<u16>().ok()).collect();
        }
        made["retry_on"] = json!(words.join(","));
    }
    if let Some(timeout) = policy.per_try_timeout {
        made["per_try_timeout"] = json!(seconds(timeout));
    }
    match policy.retry_ignore_previous_hosts {
        Some(true) => made["retry_host_predicate"] = previous,
        Some(false) => made["retry_host_predicate"] = json!([]),
        None => {}
    }
    if let Some(base) = policy.backoff {
        made["retry_back_off"] = json!({"base_interval": seconds(base)});
    }
    made
}

/// `TranslateFault`.
fn injected(fault: &HttpFault) -> Value {
    let mut made = json!({"@type": FAULT});
    if let Some(delay) = &fault.delay {
        made["delay"] = json!({"percentage": fraction(delay.percentage), "fixed_delay": seconds(delay.fixed_delay)});
    }
    if let Some(abort) = &fault.abort {
        made["abort"] = json!({"percentage": fraction(abort.percentage)});
        match abort.status {
            AbortStatus::Http(status) => made["abort"]["http_status"] = json!(status),
            AbortStatus::Grpc(status) => made["abort"]["grpc_status"] = json!(status),
        }
    }
    made
}

/// `ConsistentHashToHashPolicy`.
fn hash_policy(to: &Destination, port: u16, resources: &Resources) -> Option<Value> {
    let policy = policy_of(&to.host, to.port.unwrap_or(port), to.subset.as_deref().unwrap_or_default(), resources);
    let hash = consistent_hash(&policy)?;
    Some(match &hash.key {
        HashKey::Header(name) => json!({"header": {"header_name": name}}),
        HashKey::Cookie { name, path, ttl } => {
            let mut cookie = json!({"name": name, "path": path.clone().unwrap_or_default()});
            if let Some(ttl) = ttl {
                cookie["ttl"] = json!(seconds(*ttl));
            }
            json!({"cookie": cookie})
        }
        HashKey::SourceIp => json!({"connection_properties": {"source_ip": true}}),
        HashKey::QueryParameter(name) => json!({"query_parameter": {"name": name}}),
    })
}

fn consistent_hash(policy: &TrafficPolicy) -> Option<&ConsistentHash> {
    match &policy.load_balancer.as_ref()?.policy {
        LoadBalancerPolicy::ConsistentHash(hash) => Some(hash),
        _ => None,
    }
}

fn destination(to: &Destination, port: u16) -> String {
    cluster_name(&to.host, to.port.unwrap_or(port), to.subset.as_deref().unwrap_or_default())
}

fn cluster_name(host: &str, port: u16, subset: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

// ---- clusters (cluster_builder.go, cluster_traffic_policy.go)

fn clusters(resources: &Resources, folder: &Path) -> Vec<Value> {
    let mut clusters = Vec::new();
    for entry in &resources.service_entries {
        for host in &entry.hosts {
            let rule = resources.destination_rules.iter().find(|rule| rule.host == *host);
            for port in &entry.ports {
                let subsets = rule.map_or(&[][..], |rule| rule.subsets.as_slice());
                let none = BTreeMap::new();
                let all = std::iter::once(("", &none));
                for (subset, labels) in all.chain(subsets.iter().map(|subset| (subset.name.as_str(), &subset.labels))) {
                    let policy = policy_of(host, port.number, subset, resources);
                    let place = (host.as_str(), port, subset);
                    clusters.push(cluster(entry, place, labels, &policy, folder));
                }
            }
        }
    }
    clusters
}

/// `trafficPolicy` of the subset before that of the rule, field by field.
fn policy_of(host: &str, _port: u16, subset: &str, resources: &Resources) -> TrafficPolicy {
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

fn fraction(percent: Percent) -> Value {
    json!({"numerator": percent.millionths(), "denominator": "MILLION"})
}

fn seconds(time: Duration) -> String {
    format!("{}.{:09}s", time.as_secs(), time.subsec_nanos())
}
