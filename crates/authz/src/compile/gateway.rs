//! `ApiGateway`: the gateway that an API plays, its routes, and the workloads behind them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use istio::{Gateway, HeaderOperations, HttpAction, ServerTlsMode, TargetPort, VirtualService, full_host};

use super::{Compiler, label_list};
use crate::compiled::{ApiGateway, Destination, Label, Route, UriMatch, VirtualHost};
use crate::hops::covers;

impl<'a> Compiler<'a> {
    pub(super) fn api_gateway(&mut self, gateway: &istio::ApiGateway) -> ApiGateway {
        let meta = &gateway.meta;
        let (port, mutual_tls, virtual_hosts) = match self.find_gateway(&gateway.gateway) {
            Some(played) => {
                if !played.selector.selects(&gateway.workload.labels) {
                    self.error(
                        meta,
                        format!(
                            "the Gateway {} at {} does not select a workload with these labels",
                            gateway.gateway, played.meta.origin
                        ),
                    );
                }
                let demands =
                    |server: &istio::Server| server.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::Mutual);
                let mutual_tls = http_servers(played).any(demands);
                if mutual_tls && !http_servers(played).all(demands) {
                    // An event does not say which of them the request would have come to.
                    self.error(
                        meta,
                        format!(
                            "the Gateway {} at {} has servers with tls.mode MUTUAL and others, and an API cannot tell \
                             them apart; write a Gateway and an ApiGateway for each",
                            gateway.gateway, played.meta.origin
                        ),
                    );
                }
                // Clients reach an API by TLS alone: a server for plain HTTP beside is not what it plays.
                let encrypted = http_servers(played).any(|server| server.tls.is_some());
                let ports: BTreeSet<u16> = http_servers(played)
                    .filter(|server| server.tls.is_some() || !encrypted)
                    .map(|server| server.port.number)
                    .collect();
                let port = if ports.len() == 1 { ports.first().copied() } else { None };
                (port, mutual_tls, self.virtual_hosts(&gateway.gateway, played))
            }
            None => {
                let name = &gateway.gateway;
                self.error(meta, format!("there is no Gateway {name}; add it or name another"));
                (None, false, Vec::new())
            }
        };
        let labels = label_list(&gateway.workload.labels);
        let what = format!("the workload of the ApiGateway {}/{}", meta.namespace, meta.name);
        self.check_selectors(what, &gateway.workload.namespace, &labels);
        ApiGateway {
            name: format!("{}/{}", meta.namespace, meta.name),
            api_id: gateway.api_id.clone(),
            stage: gateway.stage.clone(),
            domains: gateway.domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            base_path: gateway.base_path.clone(),
            environment: gateway.environment.clone(),
            namespace: gateway.workload.namespace.clone(),
            labels,
            principal: gateway.workload.principal(&self.resources.mesh.trust_domain),
            port,
            mutual_tls,
            virtual_hosts,
        }
    }

    fn find_gateway(&self, name: &str) -> Option<&'a Gateway> {
        let (namespace, name) = name.split_once('/')?;
        let gateways = &self.resources.gateways;
        gateways.iter().find(|g| g.meta.namespace == namespace && g.meta.name == name)
    }

    fn virtual_hosts(&mut self, name: &str, gateway: &Gateway) -> Vec<VirtualHost> {
        let resources = self.resources;
        let mut hosts: Vec<(String, &VirtualService)> = Vec::new();
        let mut known: HashMap<String, &VirtualService> = HashMap::new();
        for service in &resources.virtual_services {
            if !service.gateways.iter().any(|gateway| gateway == name) {
                continue;
            }
            for host in hosts_in_common(gateway, service) {
                match known.get(&host) {
                    Some(other) if other.meta != service.meta => {
                        let origin = &other.meta.origin;
                        self.error(
                            &service.meta,
                            format!(
                                "the host {host} of the gateway {name} is also routed by the \
                                 VirtualService at {origin}, and merging them is not supported \
                                 yet; write one VirtualService"
                            ),
                        );
                    }
                    Some(_) => {}
                    None => {
                        known.insert(host.clone(), service);
                        hosts.push((host, service));
                    }
                }
            }
        }
        hosts.into_iter().map(|(host, service)| VirtualHost { host, routes: self.routes(service) }).collect()
    }

    fn routes(&mut self, service: &VirtualService) -> Vec<Route> {
        let mut routes = Vec::new();
        for (index, route) in service.http.iter().enumerate() {
            let matches = uri_matches(route);
            let only = only_destination(route);
            match only.and_then(|only| Ok((matches?, self.destination(service, only)?))) {
                Ok((matches, destination)) => {
                    let what = format!("workloads of the destination {}", destination.host);
                    if !self.selected.contains(&what) {
                        self.check_mutual_tls(&destination);
                    }
                    self.check_selectors(what, &destination.namespace, &destination.labels);
                    routes.push(Route { matches, destination });
                }
                Err(message) => {
                    let error = super::at(&service.meta, format!("spec.http[{index}]: {message}"));
                    // The routes of a host are looked at once for each host, and for each API.
                    if !self.errors.contains(&error) {
                        self.errors.push(error);
                    }
                }
            }
        }
        routes
    }

    /// A document says some of the labels of its workloads, not all of them. A policy that shares one and needs another
    /// would be passed over here, and could be enforced in the mesh.
    fn check_selectors(&mut self, what: String, namespace: &str, own: &[Label]) {
        if self.selected.contains(&what) {
            return;
        }
        let own: BTreeMap<&str, &str> = own.iter().map(|label| (label.name.as_str(), label.value.as_str())).collect();
        let namespaces = [namespace, self.resources.mesh.root_namespace.as_str()];
        let mut messages = Vec::new();
        // Only a document that shares a label with its value can share one and contradict none.
        for (meta, selector) in self.selectors.sharing_a_label(namespaces, &own) {
            let (shared, unknown): (Vec<_>, Vec<_>) =
                selector.match_labels.iter().partition(|(name, _)| own.contains_key(name.as_str()));
            let agree = shared.iter().all(|(name, value)| own.get(name.as_str()) == Some(&value.as_str()));
            if !agree || unknown.is_empty() {
                continue;
            }
            let unknown: Vec<&str> = unknown.iter().map(|(name, _)| name.as_str()).collect();
            let message = format!(
                "it may select {what}, whose document does not say the label {}; add it there, or leave it out here",
                unknown.join(" and ")
            );
            messages.push((meta, message));
        }
        for (meta, message) in messages {
            self.error(meta, message);
        }
        // One that shares no label is most likely about other workloads. Where no document has them, that cannot be told.
        let resources = self.resources;
        let doubtful: Vec<_> = (self.selectors.of_unknown_workloads(resources).iter())
            .filter(|(meta, _)| namespaces.contains(&meta.namespace.as_str()))
            .filter(|(meta, _)| !self.doubted.contains(&meta.origin))
            .filter(|(_, selector)| !selector.match_labels.keys().any(|name| own.contains_key(name.as_str())))
            .copied()
            .collect();
        for (meta, selector) in doubtful {
            let labels: Vec<String> =
                selector.match_labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let message = format!(
                "no Service, ServiceEntry or ApiGateway has workloads with {}, so it is passed over everywhere here; if it \
                 is for {what}, add the labels there",
                labels.join(" and "),
            );
            self.warn(meta, message);
            self.doubted.insert(&meta.origin);
        }
        self.selected.insert(what);
    }

    fn destination(&self, from: &VirtualService, destination: &istio::Destination) -> Result<Destination, String> {
        let host = full_host(&destination.host, &from.meta.namespace);
        let (service, entries) = self.destinations.find(&host);
        match (service, entries) {
            (None, []) => {
                Err(format!("the destination {host} is neither a Service nor a host of a ServiceEntry; add it"))
            }
            (Some(service), []) => {
                let wanted = |port: &&istio::ServicePort| destination.port.is_none_or(|number| port.port == number);
                let port = one(service.ports.iter().filter(wanted))
                    .ok_or_else(|| port_message(&host, destination.port, service.ports.iter().map(|port| port.port)))?;
                Ok(Destination {
                    host,
                    namespace: service.meta.namespace.clone(),
                    labels: label_list(&service.selector),
                    // What the workload sees is the port that it listens on.
                    port: match &port.target_port {
                        None => Some(port.port),
                        Some(TargetPort::Number(number)) => Some(*number),
                        Some(TargetPort::Name(_)) => None,
                    },
                })
            }
            // Policies with a selector would be passed over, as for a Service without one.
            (None, [entry]) if entry.meta.labels.is_empty() => Err(format!(
                "the destination {host} is a ServiceEntry without labels, so that no policy could select it; \
                 add the labels of its workloads to its metadata"
            )),
            (None, [entry]) => {
                let wanted = |port: &&istio::Port| destination.port.is_none_or(|number| port.number == number);
                let port = one(entry.ports.iter().filter(wanted))
                    .ok_or_else(|| port_message(&host, destination.port, entry.ports.iter().map(|port| port.number)))?;
                let seen: BTreeSet<u16> = entry
                    .endpoints
                    .iter()
                    .map(|endpoint| endpoint.ports.get(&port.name).copied().unwrap_or(port.number))
                    .collect();
                let seen_port = match (seen.len(), seen.first()) {
                    (0, _) => Some(port.number),
                    (1, first) => first.copied(),
                    _ => None,
                };
                Ok(Destination {
                    host,
                    namespace: entry.meta.namespace.clone(),
                    // Endpoints have no labels of their own yet: the entry's stand for them.
                    labels: label_list(&entry.meta.labels),
                    port: seen_port,
                })
            }
            _ => Err(format!(
                "the destination {host} is described by several Service and ServiceEntry documents; \
                 leave one"
            )),
        }
    }
}

fn port_message(host: &str, port: Option<u16>, known: impl Iterator<Item = u16>) -> String {
    const MOST: usize = 8;
    let mut known: Vec<String> = known.map(|port| port.to_string()).collect();
    if known.len() > MOST {
        known.truncate(MOST);
        known.push("…".to_owned());
    }
    let known = known.join(", ");
    match (port, known.is_empty()) {
        (_, true) => format!("the destination {host} has no port at all; add one to its document"),
        (Some(port), false) => format!("the destination {host} has no port {port}; it has {known}"),
        (None, false) => format!("the destination {host} has several ports, {known}; name one"),
    }
}

fn one<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// Servers that end HTTP at the gateway. What passes through encrypted has no HTTP routes.
fn http_servers(gateway: &Gateway) -> impl Iterator<Item = &istio::Server> {
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

/// The hosts that both the gateway's servers and the `VirtualService` have, in lower case. "VirtualService
/// hosts must match one or more hosts of the Gateway's servers"; the narrower of two wildcards counts.
fn hosts_in_common(gateway: &Gateway, service: &VirtualService) -> Vec<String> {
    let mut common = Vec::new();
    for host in &service.hosts {
        let host = full_host(host, &service.meta.namespace).to_ascii_lowercase();
        for server in http_servers(gateway).flat_map(|server| &server.hosts) {
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

/// The only destination of a route: what else a route can do with a request is not done at an API, whose integration is
/// chosen by API Gateway.
fn only_destination(route: &istio::HttpRoute) -> Result<&istio::Destination, String> {
    let HttpAction::Route(destinations) = &route.action else {
        return Err("an API cannot answer by itself: expected `route` with a destination".to_owned());
    };
    let [only] = destinations.as_slice() else {
        return Err(format!(
            "weighted routes are not supported for an API: expected one destination, found {}",
            destinations.len()
        ));
    };
    let has_fault = route.fault.is_some();
    let changes = [&route.headers, &only.headers];
    let changes_headers = changes.iter().any(|headers| **headers != HeaderOperations::default());
    let named = [
        (route.rewrite.is_some(), "rewrite"),
        (has_fault, "fault"),
        (!route.mirrors.is_empty(), "mirrors"),
        (changes_headers, "headers"),
        (route.has_cors_policy, "corsPolicy"),
        (only.destination.subset.is_some(), "route[0].destination.subset"),
    ];
    match named.iter().find(|(has, _)| *has) {
        Some((_, name)) => Err(format!("`{name}` is not supported for an API, whose requests API Gateway forwards")),
        None => Ok(&only.destination),
    }
}

fn uri_matches(route: &istio::HttpRoute) -> Result<Vec<UriMatch>, String> {
    let one = |only: &istio::HttpMatch| {
        let rest = istio::HttpMatch { name: String::new(), uri: None, ..only.clone() };
        if rest != istio::HttpMatch::default() {
            return Err("a match by anything but `uri` is not supported for an API".to_owned());
        }
        match &only.uri {
            None => Ok(UriMatch::Any),
            Some(istio::StringMatch::Exact(text)) => Ok(UriMatch::Exact(text.clone())),
            Some(istio::StringMatch::Prefix(text)) => Ok(UriMatch::Prefix(text.clone())),
            Some(istio::StringMatch::Regex(_) | istio::StringMatch::Present) => {
                Err("`uri.regex` is not supported for an API; use `exact` or `prefix`".to_owned())
            }
        }
    };
    route.matches.iter().map(one).collect()
}
