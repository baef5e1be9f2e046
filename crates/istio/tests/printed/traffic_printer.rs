//! The kinds of traffic rules as YAML.

use std::collections::BTreeMap;
use std::time::Duration;

use istio::*;

use crate::printer::{data, document, flag};
use crate::yaml::{Yaml, fields, list, plain, text, texts};

/// One YAML document for each resource of traffic.
pub(crate) fn documents(resources: &Resources) -> Vec<Yaml> {
    let mut all: Vec<Yaml> = resources.virtual_services.iter().map(virtual_service).collect();
    all.extend(resources.destination_rules.iter().map(crate::policy_printer::destination_rule));
    all.extend(resources.service_entries.iter().map(service_entry));
    all.extend(resources.workload_entries.iter().map(workload_entry));
    all.extend(resources.sidecars.iter().map(sidecar));
    all
}

pub(crate) fn networking(kind: &str, meta: &Meta, spec: Yaml) -> Yaml {
    document("networking.istio.io/v1", kind, meta, spec)
}

pub(crate) fn duration(value: Option<Duration>) -> Option<Yaml> {
    value.map(|value| text(&format!("{}ms", value.as_millis())))
}

pub(crate) fn export_to(words: &[ExportTo]) -> Option<Yaml> {
    list(words, |word| {
        text(match word {
            ExportTo::All => "*",
            ExportTo::Own => ".",
            ExportTo::Nobody => "~",
            ExportTo::Namespace(name) => name,
        })
    })
}

pub(crate) fn word(value: &str) -> Option<Yaml> {
    (!value.is_empty()).then(|| text(value))
}

pub(crate) fn number(value: impl ToString) -> Option<Yaml> {
    Some(plain(value))
}

/// Its text has up to four digits behind the point, as YAML's number.
pub(crate) fn share(percent: Percent) -> Yaml {
    let millionths = percent.millionths();
    plain(format!("{}.{:04}", millionths / 10_000, millionths % 10_000))
}

fn percentage(percent: Percent) -> Option<Yaml> {
    Some(fields([("value", Some(share(percent)))]))
}

fn virtual_service(rule: &VirtualService) -> Yaml {
    let VirtualService { meta, hosts, gateways, http, export_to } = rule;
    let spec = fields([
        ("hosts", texts(hosts)),
        ("gateways", texts(gateways)),
        ("http", list(http, http_route)),
        ("exportTo", self::export_to(export_to)),
    ]);
    networking("VirtualService", meta, spec)
}

fn http_route(route: &HttpRoute) -> Yaml {
    let HttpRoute { name, matches, action, rewrite, timeout, retries, fault, mirrors, headers, has_cors_policy } =
        route;
    let mirror = |mirror: &HttpMirror| {
        fields([("destination", Some(destination(&mirror.destination))), ("percentage", percentage(mirror.percentage))])
    };
    fields([
        ("name", word(name)),
        ("match", list(matches, http_match)),
        ("route", if let HttpAction::Route(routes) = action { list(routes, weighted) } else { None }),
        ("redirect", if let HttpAction::Redirect(redirect) = action { Some(self::redirect(redirect)) } else { None }),
        ("directResponse", if let HttpAction::DirectResponse(direct) = action { Some(answer(direct)) } else { None }),
        ("rewrite", rewrite.as_ref().map(self::rewrite)),
        ("timeout", duration(*timeout)),
        ("retries", retries.as_ref().map(http_retry)),
        ("fault", fault.as_ref().map(self::fault)),
        ("mirrors", list(mirrors, mirror)),
        ("headers", header_operations(headers)),
        ("corsPolicy", has_cors_policy.then(|| fields([]))),
    ])
}

fn http_match(only: &HttpMatch) -> Yaml {
    let HttpMatch {
        name,
        uri,
        ignore_uri_case,
        scheme,
        method,
        authority,
        headers,
        without_headers,
        query_params,
        port,
        source_labels,
        source_namespace,
        gateways,
    } = only;
    let strings = |map: &BTreeMap<String, StringMatch>| {
        let entries = map.iter().map(|(name, value)| (name.clone(), string_match(value)));
        (!map.is_empty()).then(|| Yaml::Data(entries.collect()))
    };
    fields([
        ("name", word(name)),
        ("uri", uri.as_ref().map(string_match)),
        ("ignoreUriCase", flag(*ignore_uri_case)),
        ("scheme", scheme.as_ref().map(string_match)),
        ("method", method.as_ref().map(string_match)),
        ("authority", authority.as_ref().map(string_match)),
        ("headers", strings(headers)),
        ("withoutHeaders", strings(without_headers)),
        ("queryParams", strings(query_params)),
        ("port", port.map(plain)),
        ("sourceLabels", data(source_labels)),
        ("sourceNamespace", source_namespace.as_deref().map(text)),
        ("gateways", texts(gateways)),
    ])
}

fn string_match(value: &StringMatch) -> Yaml {
    match value {
        StringMatch::Exact(value) => fields([("exact", Some(text(value)))]),
        StringMatch::Prefix(value) => fields([("prefix", Some(text(value)))]),
        StringMatch::Regex(value) => fields([("regex", Some(text(value)))]),
        StringMatch::Present => fields([]),
    }
}

fn weighted(route: &HttpRouteDestination) -> Yaml {
    let HttpRouteDestination { destination, weight, headers } = route;
    fields([
        ("destination", Some(self::destination(destination))),
        ("weight", number(weight)),
        ("headers", header_operations(headers)),
    ])
}

fn destination(destination: &Destination) -> Yaml {
    let Destination { host, subset, port } = destination;
    fields([
        ("host", Some(text(host))),
        ("subset", subset.as_deref().map(text)),
        ("port", port.map(|port| fields([("number", number(port))]))),
    ])
}

fn header_operations(operations: &HeaderOperations) -> Option<Yaml> {
    let changes = |changes: &HeaderChanges| {
        let HeaderChanges { set, add, remove } = changes;
        fields([("set", data(set)), ("add", data(add)), ("remove", texts(remove))])
    };
    let HeaderOperations { request, response } = operations;
    let given = |of: &HeaderChanges| (*of != HeaderChanges::default()).then(|| changes(of));
    (*operations != HeaderOperations::default())
        .then(|| fields([("request", given(request)), ("response", given(response))]))
}

fn redirect(redirect: &HttpRedirect) -> Yaml {
    let HttpRedirect { uri, prefix_rewrite, authority, port, scheme, code } = redirect;
    let derived = match port {
        Some(RedirectPort::FromProtocolDefault) => Some(text("FROM_PROTOCOL_DEFAULT")),
        Some(RedirectPort::FromRequestPort) => Some(text("FROM_REQUEST_PORT")),
        Some(RedirectPort::Number(_)) | None => None,
    };
    fields([
        ("uri", uri.as_deref().map(text)),
        ("prefixRewrite", prefix_rewrite.as_deref().map(text)),
        ("authority", authority.as_deref().map(text)),
        ("port", if let Some(RedirectPort::Number(port)) = port { number(port) } else { None }),
        ("derivePort", derived),
        ("scheme", scheme.as_deref().map(text)),
        ("redirectCode", number(code)),
    ])
}

fn answer(answer: &HttpDirectResponse) -> Yaml {
    let HttpDirectResponse { status, body } = answer;
    let body = match std::str::from_utf8(body) {
        Ok("") => None,
        Ok(body) => Some(fields([("string", Some(text(body)))])),
        // The strategy has one that is no text.
        Err(_) => Some(fields([("bytes", Some(text("/w==")))])),
    };
    fields([("status", number(status)), ("body", body)])
}

fn rewrite(rewrite: &HttpRewrite) -> Yaml {
    let HttpRewrite { uri, uri_regex, authority } = rewrite;
    let regex = uri_regex.as_ref().map(|RegexRewrite { pattern, substitution }| {
        fields([("match", Some(text(pattern))), ("rewrite", Some(text(substitution)))])
    });
    fields([
        ("uri", uri.as_deref().map(text)),
        ("uriRegexRewrite", regex),
        ("authority", authority.as_deref().map(text)),
    ])
}

pub(crate) fn http_retry(retry: &HttpRetry) -> Yaml {
    let HttpRetry {
        attempts,
        per_try_timeout,
        retry_on,
        retry_remote_localities,
        retry_ignore_previous_hosts,
        backoff,
    } = retry;
    fields([
        ("attempts", number(attempts)),
        ("perTryTimeout", duration(*per_try_timeout)),
        ("retryOn", word(&retry_on.join(","))),
        ("retryRemoteLocalities", retry_remote_localities.map(plain)),
        ("retryIgnorePreviousHosts", retry_ignore_previous_hosts.map(plain)),
        ("backoff", duration(*backoff)),
    ])
}

fn fault(fault: &HttpFault) -> Yaml {
    let HttpFault { delay, abort } = fault;
    let delay = delay.as_ref().map(|FaultDelay { percentage: percent, fixed_delay }| {
        fields([("percentage", percentage(*percent)), ("fixedDelay", duration(Some(*fixed_delay)))])
    });
    let abort = abort.as_ref().map(|FaultAbort { percentage: percent, status }| {
        let (http, grpc) = match status {
            AbortStatus::Http(status) => (number(status), None),
            AbortStatus::Grpc(status) => (None, Some(text(["OK", "CANCELLED", "UNKNOWN"][usize::from(*status)]))),
        };
        fields([("percentage", percentage(*percent)), ("httpStatus", http), ("grpcStatus", grpc)])
    });
    fields([("delay", delay), ("abort", abort)])
}

fn service_entry(entry: &ServiceEntry) -> Yaml {
    let ServiceEntry {
        meta,
        hosts,
        ports,
        target_ports,
        location,
        resolution,
        endpoints,
        workload_selector,
        subject_alt_names,
        export_to,
    } = entry;
    let spec = fields([
        ("hosts", texts(hosts)),
        ("ports", list(ports, |port| self::port(port, target_ports.get(&port.number).copied()))),
        ("location", (*location == Location::MeshInternal).then(|| text("MESH_INTERNAL"))),
        (
            "resolution",
            match resolution {
                Resolution::None => None,
                Resolution::Dns => Some(text("DNS")),
                Resolution::DnsRoundRobin => Some(text("DNS_ROUND_ROBIN")),
                Resolution::Static => Some(text("STATIC")),
            },
        ),
        ("endpoints", list(endpoints, endpoint)),
        ("workloadSelector", workload_selector.as_ref().map(selector)),
        ("subjectAltNames", texts(subject_alt_names)),
        ("exportTo", self::export_to(export_to)),
    ]);
    networking("ServiceEntry", meta, spec)
}

fn port(port: &Port, target: Option<u16>) -> Yaml {
    let Port { number, name, protocol } = port;
    fields([
        ("number", self::number(number)),
        ("name", word(name)),
        ("protocol", Some(text(protocol))),
        ("targetPort", target.map(plain)),
    ])
}

fn selector(selector: &WorkloadSelector) -> Yaml {
    fields([("labels", data(&selector.match_labels))])
}

fn endpoint(endpoint: &Endpoint) -> Yaml {
    let Endpoint { address, ports, labels, locality, weight, network, service_account } = endpoint;
    let ports = ports.iter().map(|(name, port)| (name.clone(), plain(port)));
    let ports: Vec<_> = ports.collect();
    fields([
        ("address", Some(text(address))),
        ("ports", (!ports.is_empty()).then_some(Yaml::Data(ports))),
        ("labels", data(labels)),
        ("locality", word(locality)),
        ("weight", number(weight)),
        ("network", word(network)),
        ("serviceAccount", service_account.as_deref().map(text)),
    ])
}

fn workload_entry(entry: &WorkloadEntry) -> Yaml {
    networking("WorkloadEntry", &entry.meta, endpoint(&entry.endpoint))
}

fn sidecar(sidecar: &Sidecar) -> Yaml {
    let Sidecar { meta, workload_selector, egress, outbound_traffic_policy } = sidecar;
    let listener = |listener: &SidecarEgress| {
        let SidecarEgress { port, bind, hosts } = listener;
        fields([
            ("port", port.as_ref().map(|port| self::port(port, None))),
            ("bind", bind.as_deref().map(text)),
            ("hosts", texts(hosts)),
        ])
    };
    let spec = fields([
        ("workloadSelector", workload_selector.as_ref().map(selector)),
        ("egress", list(egress, listener)),
        ("outboundTrafficPolicy", outbound_traffic_policy.map(outbound)),
    ]);
    networking("Sidecar", meta, spec)
}

pub(crate) fn outbound(mode: OutboundTrafficMode) -> Yaml {
    let mode = match mode {
        OutboundTrafficMode::RegistryOnly => "REGISTRY_ONLY",
        OutboundTrafficMode::AllowAny => "ALLOW_ANY",
    };
    fields([("mode", Some(text(mode)))])
}
