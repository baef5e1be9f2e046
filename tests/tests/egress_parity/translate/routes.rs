//! Routes, as `pilot/pkg/networking/core/route/route.go` makes them.

use istio::{
    AbortStatus, ConsistentHash, Destination, HashKey, HeaderChanges, HttpAction, HttpFault, HttpMatch, HttpRetry,
    HttpRoute, LoadBalancerPolicy, RedirectPort, Resources, StringMatch, TrafficPolicy, VirtualService,
};
use serde_json::{Value, json};

use super::{FAULT, cluster_name, fraction, policy_of, seconds};

/// A virtual host for each port of each service, and one that refuses all others (`REGISTRY_ONLY`).
pub(super) fn virtual_hosts(resources: &Resources) -> Vec<Value> {
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
            let mut action = match &redirect.prefix_rewrite {
                Some(prefix) if !prefix.is_empty() => json!({"prefix_rewrite": prefix}),
                _ => json!({"path_redirect": redirect.uri.clone().unwrap_or_default()}),
            };
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
                // Since 1.28, where `DISABLE_SHADOW_HOST_SUFFIX` is true by default.
                "disable_shadow_host_suffix_append": true,
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
        hashes.extend(hash_policy(&only.destination, resources));
    } else {
        let mut weighted = Vec::new();
        for one in destinations.iter().filter(|one| one.weight > 0) {
            let mut cluster = json!({"name": destination(&one.destination, port), "weight": one.weight});
            if let Some(host) = add_headers(&mut cluster, &one.headers.request, &one.headers.response) {
                cluster["host_rewrite_literal"] = json!(host);
            }
            weighted.push(cluster);
            hashes.extend(hash_policy(&one.destination, resources));
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
fn hash_policy(to: &Destination, resources: &Resources) -> Option<Value> {
    let policy = policy_of(&to.host, to.subset.as_deref().unwrap_or_default(), resources);
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
