//! From a gateway to the workload behind it.

use crate::compiled::{ArchivedApiGateway, ArchivedDestination, ArchivedUriMatch, ArchivedVirtualHost};
use crate::grants::{Area, Reach};
use crate::policies::{Labels, Workload};
use crate::request::path_only;
use crate::trace::{MAX_ROUTED, UnroutedTrace};

/// The gateway workload that an API plays: the first hop.
pub(crate) fn gateway_workload(gateway: &ArchivedApiGateway) -> Workload<'_> {
    Workload { namespace: gateway.namespace.as_str(), labels: Labels::Compiled(&gateway.labels) }
}

/// Where a gateway sends a request: the second hop.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    destination: &'a ArchivedDestination,
}

impl<'a> Route<'a> {
    pub(crate) fn workload(self) -> Workload<'a> {
        Workload { namespace: self.destination.namespace.as_str(), labels: Labels::Compiled(&self.destination.labels) }
    }

    /// The fully qualified host of the destination.
    pub(crate) fn host(self) -> &'a str {
        self.destination.host.as_str()
    }

    /// Port of the workload; `None` when the documents do not say which.
    pub(crate) fn port(self) -> Option<u16> {
        self.destination.port.as_ref().map(|port| port.to_native())
    }
}

/// As [`route`], for all requests of `area`; nothing where they do not go the same way.
pub(crate) fn route_of_all<'a>(
    gateway: &'a ArchivedApiGateway,
    host: &str,
    path: &str,
    area: Option<&Area<'_>>,
) -> Option<Route<'a>> {
    let Some(area) = area else { return route(gateway, host, path) };
    for route in virtual_host(gateway, host)?.routes.iter() {
        let matches = |reach| route.matches.is_empty() || route.matches.iter().any(|uri| area.uri(uri, reach));
        if matches(Reach::Every) {
            return Some(Route { destination: &route.destination });
        }
        if matches(Reach::Some) {
            return None;
        }
    }
    None
}

/// The route of `host` and `path` (with query): the most specific virtual host, in it the first match.
pub(crate) fn route<'a>(gateway: &'a ArchivedApiGateway, host: &str, path: &str) -> Option<Route<'a>> {
    let path = path_only(path);
    let virtual_host = virtual_host(gateway, host)?;
    let route = virtual_host.routes.iter().find(|route| {
        route.matches.is_empty()
            || route.matches.iter().any(|uri| match uri {
                ArchivedUriMatch::Any => true,
                ArchivedUriMatch::Exact(exact) => path == exact.as_str(),
                ArchivedUriMatch::Prefix(prefix) => path.starts_with(prefix.as_str()),
            })
    })?;
    Some(Route { destination: &route.destination })
}

fn virtual_host<'a>(gateway: &'a ArchivedApiGateway, host: &str) -> Option<&'a ArchivedVirtualHost> {
    let host = without_port(host).to_ascii_lowercase();
    let covering = gateway.virtual_hosts.iter().filter(|virtual_host| covers(virtual_host.host.as_str(), &host));
    covering.max_by_key(|virtual_host| specificity(virtual_host))
}

/// What the gateway routes instead of a request to `host` that it does not.
pub(crate) fn unrouted(gateway: &ArchivedApiGateway, host: &str) -> UnroutedTrace {
    let covering = virtual_host(gateway, host);
    let all: Vec<String> = match covering {
        None => gateway.virtual_hosts.iter().map(|virtual_host| format!("host {}", virtual_host.host)).collect(),
        Some(virtual_host) => {
            let matches = virtual_host.routes.iter().flat_map(|route| route.matches.iter());
            let paths = matches.map(|uri| match uri {
                ArchivedUriMatch::Any => "any path".to_owned(),
                ArchivedUriMatch::Exact(exact) => format!("path {exact}"),
                ArchivedUriMatch::Prefix(prefix) => format!("prefix {prefix}"),
            });
            paths.collect()
        }
    };
    let more = all.len().saturating_sub(MAX_ROUTED);
    UnroutedTrace {
        gateway: gateway.name.as_str().to_owned(),
        host: covering.map(|virtual_host| virtual_host.host.as_str().to_owned()),
        routed: all.into_iter().take(MAX_ROUTED).collect(),
        more,
    }
}

/// Envoy looks for the exact host first, then for the longest wildcard, then for `*`.
fn specificity(virtual_host: &ArchivedVirtualHost) -> (bool, usize) {
    let host = virtual_host.host.as_str();
    (!host.starts_with('*'), host.len())
}

/// Whether `host` (lower case, no port) is `pattern`: a host, `*.SUFFIX` or `*`.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        // `*.example.com` needs something in front of the dot.
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => host == pattern,
    }
}

/// Istio's gateways ignore the port of the host when they look for a virtual host.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}
