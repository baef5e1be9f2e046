//! `ApiGateway`: the gateway that an API plays, its routes, and the workloads behind them.

use std::collections::{BTreeMap, HashMap};

use istio::{Gateway, ServerTlsMode, VirtualService};

use super::route::{matches_of_gateway, only_destination, uri_matches};
use super::routed::{find_gateway, hosts_in_common, http_servers, port_of};
use super::{Compiler, label_list};
use crate::compiled::{ApiGateway, Label, Route, VirtualHost};

impl<'a> Compiler<'a> {
    pub(super) fn api_gateway(&mut self, gateway: &istio::ApiGateway) -> ApiGateway {
        let meta = &gateway.meta;
        let (port, mutual_tls, virtual_hosts) = match find_gateway(self.resources, &gateway.gateway) {
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
                let port = port_of(played);
                (port, mutual_tls, self.virtual_hosts(gateway, port, played))
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

    fn virtual_hosts(&mut self, api: &istio::ApiGateway, port: Option<u16>, gateway: &Gateway) -> Vec<VirtualHost> {
        let resources = self.resources;
        let name = &api.gateway;
        let mut hosts: Vec<(String, &VirtualService)> = Vec::new();
        let mut known: HashMap<String, &VirtualService> = HashMap::new();
        // Each server with TLS has routes of its own in the mesh, chosen by SNI: what one lacks no other one takes.
        let several = http_servers(gateway).filter(|server| server.tls.is_some()).count() > 1;
        for service in &resources.virtual_services {
            if !service.gateways.iter().any(|gateway| gateway == name) {
                continue;
            }
            if !self.sees(api, service, several) {
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
        let mut routed = Vec::new();
        for (host, service) in hosts {
            match self.routes(api, port, service) {
                Some(routes) => routed.push(VirtualHost { host, routes }),
                // A virtual host without routes takes its requests and leads nowhere.
                None if several => routed.push(VirtualHost { host, routes: Vec::new() }),
                None => {}
            }
        }
        routed
    }

    /// Istio (`VirtualServicesForGateway`): a gateway gets the rules that are exported to the namespace of its workload.
    /// Others route nothing.
    fn sees(&mut self, api: &istio::ApiGateway, service: &VirtualService, several: bool) -> bool {
        let namespace = api.workload.namespace.as_str();
        let sees = istio::is_visible(&service.export_to, &service.meta.namespace, namespace);
        if !sees && several {
            let message = format!(
                "its `exportTo` hides it from the namespace {namespace} of the workload of the gateway {}, which has several \
                 servers with TLS: whether another one takes its requests, as the mesh decides by SNI, is not supported; \
                 leave the gateway out",
                api.gateway
            );
            self.error(&service.meta, message);
        } else if !sees {
            let message = format!(
                "its `exportTo` hides it from the namespace {namespace} of the workload of the gateway {}, which it names; \
                 it routes nothing there",
                api.gateway
            );
            let warning = super::at(&service.meta, message);
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        sees
    }

    /// Nothing when none of the routes is for this gateway: Istio makes no virtual host then, and one for a wider host
    /// may take the request.
    fn routes(&mut self, api: &istio::ApiGateway, port: Option<u16>, service: &VirtualService) -> Option<Vec<Route>> {
        let mut routes = Vec::new();
        let mut applies = false;
        for (index, route) in service.http.iter().enumerate() {
            let found = matches_of_gateway(route, api, port).and_then(|matches| {
                let Some(matches) = matches else { return Ok(None) };
                let matches = uri_matches(&matches)?;
                Ok(Some((matches, self.destination(api, service, only_destination(route)?)?)))
            });
            match found {
                Ok(None) => continue,
                Ok(Some((matches, mut found))) => {
                    if !found.external {
                        found.destination.peer_unknown = self.check_mutual_tls(api, &found);
                        self.check_protocol(&found);
                    }
                    let destination = found.destination;
                    let what = format!("workloads of the destination {}", destination.host);
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
            applies = true;
        }
        applies.then_some(routes)
    }

    /// A document says some of the labels of its workloads, not all of them. A policy that shares one and needs another
    /// would be passed over here, and could be enforced in the mesh.
    fn check_selectors(&mut self, what: String, namespace: &str, own: &[Label]) {
        // Two APIs may see other documents of the same host.
        if !self.selected.insert(format!("{what} of {namespace} with {own:?}")) {
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
    }
}
