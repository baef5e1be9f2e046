//! What a route of a gateway leads to: the workloads behind a host, their labels and their port.

use std::collections::{BTreeMap, BTreeSet};

use istio::{ApiGateway, Meta, Service, ServiceEntry, TargetPort, VirtualService, full_host, is_visible};

use super::plaintext::{Plain, is_external, is_tls_mode_alone, of_service, of_service_entry};
use super::protocol::{NotHttp, of_entry_port, of_service_port};
use super::{Compiler, label_list};
use crate::compiled::Destination;

type Labels = BTreeMap<String, String>;

/// A destination, and what is asked of it while it is compiled.
pub(super) struct Found<'a> {
    pub(super) destination: Destination,
    /// Port of the service, which clients name.
    pub(super) port: u16,
    /// Whether it is outside of the mesh, where nobody enforces policies.
    pub(super) external: bool,
    /// What says that the gateway speaks plaintext to it.
    pub(super) plain: Option<Plain<'a>>,
    /// What says that its proxy does not take requests as HTTP.
    pub(super) not_http: Option<NotHttp<'a>>,
}

/// Workloads behind a host, as far as documents say.
struct Members {
    /// Labels of each kind of workload.
    labels: Vec<Labels>,
    /// Ports that they listen on; `None` is one that no document says.
    ports: BTreeSet<Option<u16>>,
}

impl<'a> Compiler<'a> {
    pub(super) fn destination(
        &self,
        api: &ApiGateway,
        from: &VirtualService,
        destination: &istio::Destination,
    ) -> Result<Found<'a>, String> {
        let host = full_host(&destination.host, &from.meta.namespace);
        let client = api.workload.namespace.as_str();
        let (service, entries) = self.destinations.find(&host);
        // Istio (`servicesExportedToNamespace`): a gateway knows the services that are exported to its namespace.
        let sees = |meta: &Meta, export_to: &[_]| is_visible(export_to, &meta.namespace, client);
        let visible = service.filter(|service| sees(&service.meta, &service.export_to()));
        let entries_seen: Vec<_> =
            entries.iter().filter(|entry| sees(&entry.meta, &entry.export_to)).copied().collect();
        let seen = usize::from(visible.is_some()) + entries_seen.len();
        if seen > 0 && seen < usize::from(service.is_some()) + entries.len() {
            // Istio merges the endpoints of a namespace's documents for a host, the hidden ones among them.
            return Err(format!(
                "the destination {host} is described by several documents, of which the gateway sees some and not all; \
                 leave one"
            ));
        }
        match (visible, entries_seen.as_slice()) {
            (None, []) if service.is_none() && entries.is_empty() => {
                Err(format!("the destination {host} is neither a Service nor a host of a ServiceEntry; add it"))
            }
            (None, []) => Err(format!(
                "the destination {host} is not exported to the namespace {client} of the gateway's workload, which cannot \
                 reach it; add the namespace to its `exportTo`"
            )),
            (Some(service), []) => self.service(host, service, destination.port),
            (None, [entry]) => self.service_entry(host, entry, destination.port),
            _ => Err(format!(
                "the destination {host} is described by several Service and ServiceEntry documents; \
                 leave one"
            )),
        }
    }

    fn service(&self, host: String, service: &'a Service, port: Option<u16>) -> Result<Found<'a>, String> {
        let wanted = |known: &&istio::ServicePort| port.is_none_or(|number| known.port == number);
        let found = one(service.ports.iter().filter(wanted))
            .ok_or_else(|| port_message(&host, port, service.ports.iter().map(|port| port.port)))?;
        // What the workload sees is the port that it listens on.
        let own = match &found.target_port {
            None => Some(found.port),
            Some(TargetPort::Number(number)) => Some(*number),
            Some(TargetPort::Name(_)) => None,
        };
        let namespace = service.meta.namespace.clone();
        if let Some(workload) = self.destinations.workload_entries(&namespace, &service.selector).next() {
            return Err(format!(
                "the destination {host} has a workload outside of Kubernetes, the WorkloadEntry at {}, which is not \
                 supported for an API: whether it is reached by mutual TLS, and at which port, would be a guess",
                workload.meta.origin
            ));
        }
        let members = Members { labels: vec![service.selector.clone()], ports: BTreeSet::from([own]) };
        Ok(Found {
            destination: self.of_members(host, namespace, Labels::new(), &members)?,
            port: found.port,
            external: false,
            plain: of_service(service),
            not_http: of_service_port(service, found),
        })
    }

    fn service_entry(&self, host: String, entry: &'a ServiceEntry, port: Option<u16>) -> Result<Found<'a>, String> {
        let wanted = |known: &&istio::Port| port.is_none_or(|number| known.number == number);
        let found = one(entry.ports.iter().filter(wanted))
            .ok_or_else(|| port_message(&host, port, entry.ports.iter().map(|port| port.number)))?;
        let own = entry.target_ports.get(&found.number).copied().unwrap_or(found.number);
        let mut members = Members { labels: Vec::new(), ports: BTreeSet::new() };
        if entry.workload_selector.is_some() {
            return Err(format!(
                "the destination {host} is a ServiceEntry with `workloadSelector`, which is not supported for an API: at \
                 which port its workloads listen, and whether they are reached by mutual TLS, would be a guess"
            ));
        }
        for endpoint in &entry.endpoints {
            if !is_tls_mode_alone(&endpoint.labels) {
                return Err(format!(
                    "the destination {host} is a ServiceEntry whose endpoints have `labels`, which is not supported for an \
                     API: write the labels of its workloads into its metadata"
                ));
            }
            members.labels.push(endpoint.labels.clone());
            members.ports.insert(Some(endpoint.ports.get(&found.name).copied().unwrap_or(own)));
        }
        if entry.endpoints.is_empty() {
            members.labels.push(Labels::new());
            members.ports.insert(Some(own));
        }
        let external = is_external(entry, &host);
        let namespace = entry.meta.namespace.clone();
        // The labels of the document stand for those of workloads that no document describes.
        let destination = self.of_members(host, namespace, entry.meta.labels.clone(), &members)?;
        // Policies with a selector would be passed over, as for a Service without one.
        if destination.labels.is_empty() {
            return Err(format!(
                "the destination {} is a ServiceEntry without labels, so that no policy could select it; \
                 add the labels of its workloads to its metadata",
                destination.host
            ));
        }
        Ok(Found {
            destination,
            port: found.number,
            external,
            plain: of_service_entry(entry),
            not_http: of_entry_port(entry, found),
        })
    }

    fn of_members(
        &self,
        host: String,
        namespace: String,
        common: Labels,
        members: &Members,
    ) -> Result<Destination, String> {
        let all: Vec<Labels> = members
            .labels
            .iter()
            .map(|labels| labels.iter().chain(&common).map(|(n, v)| (n.clone(), v.clone())).collect())
            .collect();
        if let Some((meta, _)) = self.selectors.of_some([&namespace, &self.resources.mesh.root_namespace], &all).first()
        {
            return Err(format!(
                "the destination {host} has several workloads, and the policy {}/{} at {} selects some of them and not all; \
                 an API cannot tell which of them a request comes to",
                meta.namespace, meta.name, meta.origin
            ));
        }
        let mut shared = all.first().cloned().unwrap_or_default();
        shared.retain(|name, value| all.iter().all(|labels| labels.get(name) == Some(value)));
        let port = if members.ports.len() == 1 { members.ports.first().copied().flatten() } else { None };
        Ok(Destination { host, namespace, labels: label_list(&shared), port, peer_unknown: false })
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
