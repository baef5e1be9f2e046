//! What a gateway routes at all: its servers, and the `VirtualService` documents for them.

use std::collections::BTreeSet;

use istio::{ApiGateway, Gateway, HttpRoute, Resources, ServerTlsMode, VirtualService, full_host, is_visible};

use super::route::matches_of_gateway;
use crate::hops::covers;

/// The routes of `service` that are for the gateway which `api` plays, each with its index: none when it names another
/// gateway, or is not exported to this one. Those of which it cannot be told, which [`compile`](super::compile) refuses,
/// are among them.
pub fn routes_for<'a>(
    resources: &Resources,
    api: &ApiGateway,
    service: &'a VirtualService,
) -> Vec<(usize, &'a HttpRoute)> {
    let seen = is_visible(&service.export_to, &service.meta.namespace, &api.workload.namespace);
    if !seen || !service.gateways.contains(&api.gateway) {
        return Vec::new();
    }
    let port = find_gateway(resources, &api.gateway).and_then(port_of);
    let is_for = |route: &HttpRoute| !matches!(matches_of_gateway(route, api, port), Ok(None));
    service.http.iter().enumerate().filter(|(_, route)| is_for(route)).collect()
}

/// The hosts, in lower case, that the gateway which `api` plays routes by `service`; wildcards may be among them.
pub fn routed_hosts(resources: &Resources, api: &ApiGateway, service: &VirtualService) -> Vec<String> {
    match find_gateway(resources, &api.gateway) {
        Some(gateway) if !routes_for(resources, api, service).is_empty() => hosts_in_common(gateway, service),
        _ => Vec::new(),
    }
}

/// The gateway of this name, `NAMESPACE/NAME`.
pub(super) fn find_gateway<'a>(resources: &'a Resources, name: &str) -> Option<&'a Gateway> {
    let (namespace, name) = name.split_once('/')?;
    let mut gateways = resources.gateways.iter();
    gateways.find(|gateway| gateway.meta.namespace == namespace && gateway.meta.name == name)
}

/// The port that an API plays; `None` where there are several.
pub(super) fn port_of(gateway: &Gateway) -> Option<u16> {
    let ports: BTreeSet<u16> = played_servers(gateway).map(|server| server.port.number).collect();
    if ports.len() == 1 { ports.first().copied() } else { None }
}

/// Servers that end HTTP at the gateway. What passes through encrypted has no HTTP routes.
pub(super) fn http_servers(gateway: &Gateway) -> impl Iterator<Item = &istio::Server> {
    gateway.servers.iter().filter(|server| {
        let http = ["HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB"]
            .iter()
            .any(|protocol| server.port.protocol.eq_ignore_ascii_case(protocol));
        let ended = server.tls.as_ref().is_none_or(|tls| match tls.mode {
            ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => true,
            ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => false,
        });
        http && ended
    })
}

/// Those that an API plays: clients reach it by TLS alone, and a server for plain HTTP beside is not what it plays.
fn played_servers(gateway: &Gateway) -> impl Iterator<Item = &istio::Server> {
    let encrypted = http_servers(gateway).any(|server| server.tls.is_some());
    http_servers(gateway).filter(move |server| server.tls.is_some() || !encrypted)
}

/// The hosts that both the gateway's servers and the `VirtualService` have, in lower case. "VirtualService
/// hosts must match one or more hosts of the Gateway's servers"; the narrower of two wildcards counts.
pub(super) fn hosts_in_common(gateway: &Gateway, service: &VirtualService) -> Vec<String> {
    let mut common = Vec::new();
    for host in &service.hosts {
        let host = full_host(host, &service.meta.namespace).to_ascii_lowercase();
        for server in played_servers(gateway).flat_map(|server| &server.hosts) {
            let (namespace, served) = server.split_once('/').unwrap_or(("*", server));
            let visible = match namespace {
                "*" => true,
                "." => service.meta.namespace == gateway.meta.namespace,
                named => service.meta.namespace == named,
            };
            let served = served.to_ascii_lowercase();
            let narrower = if includes(&served, &host) {
                host.clone()
            } else if includes(&host, &served) {
                served
            } else {
                continue;
            };
            if visible && !common.contains(&narrower) {
                common.push(narrower);
            }
        }
    }
    common
}

/// Whether every host of `inner` is one of `outer`; both may be wildcards.
fn includes(outer: &str, inner: &str) -> bool {
    match (outer.strip_prefix('*'), inner.strip_prefix('*')) {
        (Some(outer), Some(inner)) => inner.ends_with(outer),
        (None, Some(_)) => false,
        (_, None) => covers(outer, inner),
    }
}
