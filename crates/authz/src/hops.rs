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

/// The gateway workload, and those that its routes lead to.
pub(crate) fn workloads(gateway: &ArchivedApiGateway) -> impl Iterator<Item = Workload<'_>> {
    let routes = gateway.virtual_hosts.iter().flat_map(|virtual_host| virtual_host.routes.iter());
    let behind = routes.map(|route| Route { destination: &route.destination }.workload());
    std::iter::once(gateway_workload(gateway)).chain(behind)
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

    /// Whether both are the same workload by the same port.
    fn leads_to(self, other: Route<'_>) -> bool {
        let labels = |route: Route<'_>| -> Vec<(String, String)> {
            let labels = route.destination.labels.iter();
            labels.map(|label| (label.name.as_str().to_owned(), label.value.as_str().to_owned())).collect()
        };
        (self.host(), self.port(), self.peer_unknown(), self.destination.namespace.as_str())
            == (other.host(), other.port(), other.peer_unknown(), other.destination.namespace.as_str())
            && labels(self) == labels(other)
    }

    /// The fully qualified host of the destination.
    pub(crate) fn host(self) -> &'a str {
        self.destination.host.as_str()
    }

    /// Whether the gateway may speak plaintext to it.
    pub(crate) fn peer_unknown(self) -> bool {
        self.destination.peer_unknown
    }

    /// Port of the workload; `None` when the documents do not say which.
    pub(crate) fn port(self) -> Option<u16> {
        self.destination.port.as_ref().map(|port| port.to_native())
    }
}

/// As [`route`], for all requests of `area`; nothing where they do not go the same way.
pub(crate) fn route_of_all<'a>(
    gateway: &'a ArchivedApiGateway,
    host: Option<&str>,
    path: &str,
    area: Option<&Area<'_>>,
) -> Option<Route<'a>> {
    let Some(area) = area else { return route(gateway, host, path) };
    for route in virtual_host(gateway, host?)?.routes.iter() {
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

/// The route of `host` and `path` (with query): the most specific virtual host, in it the first match. An unknown host
/// is one of the domains of the `ApiGateway` document: all of them must lead to the same workload.
pub(crate) fn route<'a>(gateway: &'a ArchivedApiGateway, host: Option<&str>, path: &str) -> Option<Route<'a>> {
    let Some(host) = host else {
        let mut routes = gateway.domains.iter().map(|domain| route_of(gateway, domain.as_str(), path));
        let first = routes.next()??;
        return routes.all(|other| other.is_some_and(|other| other.leads_to(first))).then_some(first);
    };
    route_of(gateway, host, path)
}

fn route_of<'a>(gateway: &'a ArchivedApiGateway, host: &str, path: &str) -> Option<Route<'a>> {
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
pub(crate) fn unrouted(gateway: &ArchivedApiGateway, host: Option<&str>) -> UnroutedTrace {
    let covering = host.and_then(|host| virtual_host(gateway, host));
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

/// Istio's gateways ignore the port of the host when they look for a virtual host. As in Envoy (`getPortStart`) it is what
/// follows the last colon, whatever that is, unless an IPv6 address ends behind it.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_do_not_count() {
        let cases = [
            ("a.example", "a.example"),
            ("a.example:80", "a.example"),
            ("a.example:", "a.example"),
            // Else the virtual host `*` would be found instead.
            ("a.example:x", "a.example"),
            ("a.example:80:", "a.example:80"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("", ""),
            (":80", ""),
        ];
        for (host, expected) in cases {
            assert_eq!(without_port(host), expected, "{host}");
        }
    }
}
