//! What every check looks at: the documents, the workloads that they tell of, and which policy reaches which.

use std::collections::{BTreeMap, BTreeSet};

use istio::{
    Action, ApiGateway, AuthorizationPolicy, Meta, MtlsMode, RequestAuthentication, Resources, TargetPort,
    WorkloadSelector, full_host,
};

use super::fields::{Field, fields};
use super::finding::Place;

/// A workload that the documents tell of.
#[derive(Debug)]
pub(super) struct Workload<'a> {
    /// As a person would say it, such as `Service shop/web`.
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) meta: &'a Meta,
    pub(super) namespace: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    /// Ports that it listens on; absent when a document leaves one open.
    pub(super) ports: Option<BTreeSet<u16>>,
    /// Whether an `ApiGateway` plays it.
    pub(super) is_gateway: bool,
    /// Hosts that it is called by.
    hosts: Vec<String>,
}

/// An `ApiGateway` with what it leads to.
#[derive(Debug)]
pub(super) struct Api<'a> {
    pub(super) document: &'a ApiGateway,
    /// Index of its own workload.
    pub(super) workload: usize,
    /// Indices of the workloads that its routes lead to, each once.
    pub(super) destinations: Vec<usize>,
}

/// An `AuthorizationPolicy`, with its lists of values and the workloads that it selects.
#[derive(Debug)]
pub(super) struct Policy<'a> {
    pub(super) document: &'a AuthorizationPolicy,
    pub(super) fields: Vec<Field<'a>>,
    /// Indices of the known workloads.
    pub(super) workloads: Vec<usize>,
}

impl<'a> Policy<'a> {
    pub(super) fn meta(&self) -> &'a Meta {
        &self.document.meta
    }

    pub(super) fn action(&self) -> Action {
        self.document.action
    }

    pub(super) fn at(&self, path: impl Into<String>) -> Place<'a> {
        Place::new("AuthorizationPolicy", &self.document.meta, path)
    }

    pub(super) fn is_enforced(&self) -> bool {
        !self.document.dry_run
    }

    /// The lists of one rule.
    pub(super) fn rule(&self, index: usize) -> impl Iterator<Item = &Field<'a>> {
        self.fields.iter().filter(move |field| field.rule == index)
    }
}

/// Everything that checks look at.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) resources: &'a Resources,
    pub(super) mode: authz::Mode,
    pub(super) workloads: Vec<Workload<'a>>,
    pub(super) apis: Vec<Api<'a>>,
    pub(super) policies: Vec<Policy<'a>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(resources: &'a Resources, mode: authz::Mode) -> Self {
        let mut context =
            Self { resources, mode, workloads: workloads(resources), apis: Vec::new(), policies: Vec::new() };
        context.apis = context.find_apis();
        context.policies = resources
            .authorization_policies
            .iter()
            .map(|document| Policy {
                document,
                fields: fields(document),
                workloads: context.selected(&document.meta, document.selector.as_ref(), &document.target_refs),
            })
            .collect();
        context
    }

    /// Indices of the known workloads that a resource reaches: by namespace and selector, and never by targetRefs.
    pub(super) fn selected(
        &self,
        meta: &Meta,
        selector: Option<&WorkloadSelector>,
        target_refs: &[istio::TargetRef],
    ) -> Vec<usize> {
        if !target_refs.is_empty() {
            return Vec::new();
        }
        let reached = |workload: &Workload<'_>| {
            (self.is_root(meta) || meta.namespace == workload.namespace)
                && selector.is_none_or(|selector| selector.selects(workload.labels))
        };
        self.workloads.iter().enumerate().filter(|(_, workload)| reached(workload)).map(|(index, _)| index).collect()
    }

    pub(super) fn is_root(&self, meta: &Meta) -> bool {
        meta.namespace == self.resources.mesh.root_namespace
    }

    pub(super) fn authentications_of(
        &self,
        workload: usize,
    ) -> impl Iterator<Item = &'a RequestAuthentication> + use<'_, 'a> {
        self.resources.request_authentications.iter().filter(move |document| {
            self.selected(&document.meta, document.selector.as_ref(), &document.target_refs).contains(&workload)
        })
    }

    /// Whether two resources may reach the same workload. Where no known workload decides, their labels do: they may
    /// unless they contradict one another.
    pub(super) fn overlap(
        &self,
        (a, a_selector): (&Meta, Option<&WorkloadSelector>),
        (b, b_selector): (&Meta, Option<&WorkloadSelector>),
    ) -> bool {
        let reached = self.selected(a, a_selector, &[]);
        if !reached.is_empty() {
            let others = self.selected(b, b_selector, &[]);
            return reached.iter().any(|workload| others.contains(workload));
        }
        let near = a.namespace == b.namespace || self.is_root(a) || self.is_root(b);
        let contradict = match (a_selector, b_selector) {
            (Some(a), Some(b)) => {
                a.match_labels.iter().any(|(name, value)| b.match_labels.get(name).is_some_and(|other| other != value))
            }
            _ => false,
        };
        near && !contradict
    }

    /// The rules for tokens that may apply where `policy` does, each with its document.
    pub(super) fn token_rules(
        &self,
        policy: &Policy<'_>,
    ) -> impl Iterator<Item = (&'a RequestAuthentication, usize, &'a istio::JwtRule)> + use<'_, 'a> {
        let scope = (policy.document.meta.clone(), policy.document.selector.clone());
        self.resources
            .request_authentications
            .iter()
            .filter(move |document| {
                document.target_refs.is_empty()
                    && self.overlap((&scope.0, scope.1.as_ref()), (&document.meta, document.selector.as_ref()))
            })
            .flat_map(|document| {
                document.jwt_rules.iter().enumerate().map(move |(index, rule)| (document, index, rule))
            })
    }

    /// The documents for API keys that may apply where `policy` does.
    pub(super) fn key_rules(&self, policy: &Policy<'_>) -> Vec<&'a istio::ApiKeyAuthentication> {
        let scope = (&policy.document.meta, policy.document.selector.as_ref());
        let keys = self.resources.api_key_authentications.iter();
        keys.filter(|keys| self.overlap(scope, (&keys.meta, keys.selector.as_ref()))).collect()
    }

    /// Issuers that tokens and keys may have where `policy` applies; absent when a rule takes any.
    pub(super) fn issuers(&self, policy: &Policy<'_>) -> Option<BTreeSet<&'a str>> {
        let mut issuers: BTreeSet<&str> = self.token_rules(policy).map(|(_, _, rule)| rule.issuer.as_str()).collect();
        issuers.extend(self.key_rules(policy).iter().map(|keys| keys.issuer.as_str()));
        (!issuers.contains("")).then_some(issuers)
    }

    /// Whether a known workload accepts plaintext at one of its ports; the narrowest `PeerAuthentication` says so.
    pub(super) fn accepts_plaintext(&self, workload: usize) -> bool {
        let Some(known) = self.workloads.get(workload) else { return true };
        let mode = |wanted: &dyn Fn(&istio::PeerAuthentication) -> bool| {
            let mut documents = self.resources.peer_authentications.iter().filter(|document| wanted(document));
            documents.find(|document| document.mode != MtlsMode::Unset).map(|document| document.mode)
        };
        let is_narrow = |selector: &Option<WorkloadSelector>| {
            selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty())
        };
        let own = |document: &istio::PeerAuthentication| document.meta.namespace == known.namespace;
        let selects = |document: &istio::PeerAuthentication| {
            let selects = document.selector.as_ref().is_some_and(|selector| selector.selects(known.labels));
            own(document) && is_narrow(&document.selector) && selects
        };
        let found = mode(&selects)
            .or_else(|| mode(&|document| own(document) && !is_narrow(&document.selector)))
            .or_else(|| mode(&|document| self.is_root(&document.meta) && !is_narrow(&document.selector)));
        let elsewhere = found != Some(MtlsMode::Strict);
        // "Port specific mutual TLS settings. These only apply when a workload selector is specified."
        let mut at_ports: BTreeMap<u16, MtlsMode> = BTreeMap::new();
        for document in self.resources.peer_authentications.iter().filter(|document| selects(document)) {
            for (port, mode) in document.port_level.iter().filter(|(_, mode)| **mode != MtlsMode::Unset) {
                at_ports.entry(*port).or_insert(*mode);
            }
        }
        match known.ports.as_ref().filter(|ports| !ports.is_empty()) {
            Some(ports) => {
                ports.iter().any(|port| at_ports.get(port).map_or(elsewhere, |mode| *mode != MtlsMode::Strict))
            }
            None => elsewhere || at_ports.values().any(|mode| *mode != MtlsMode::Strict),
        }
    }

    /// Namespaces that some document tells a workload of.
    pub(super) fn namespaces(&self) -> BTreeSet<&str> {
        self.workloads.iter().map(|workload| workload.namespace).collect()
    }

    /// Workloads that routes of an API lead to, each once.
    pub(super) fn is_destination(&self, workload: usize) -> bool {
        self.apis.iter().any(|api| api.destinations.contains(&workload))
    }

    fn find_apis(&self) -> Vec<Api<'a>> {
        let resources = self.resources;
        let api = |document: &'a ApiGateway| {
            let workload = self.workloads.iter().position(|workload| {
                workload.is_gateway
                    && workload.namespace == document.workload.namespace
                    && *workload.labels == document.workload.labels
            })?;
            let routed =
                resources.virtual_services.iter().filter(|service| service.gateways.contains(&document.gateway));
            let mut destinations = Vec::new();
            for service in routed {
                for route in &service.http {
                    let host = full_host(&route.destination.host, &service.meta.namespace);
                    let found = self
                        .workloads
                        .iter()
                        .position(|workload| workload.hosts.iter().any(|own| own.eq_ignore_ascii_case(&host)));
                    destinations.extend(found.filter(|found| !destinations.contains(found)));
                }
            }
            Some(Api { document, workload, destinations })
        };
        resources.api_gateways.iter().filter_map(api).collect()
    }
}

fn workloads(resources: &Resources) -> Vec<Workload<'_>> {
    let mut workloads: Vec<Workload<'_>> = Vec::new();
    for service in &resources.services {
        let ports: Option<BTreeSet<u16>> = service
            .ports
            .iter()
            .map(|port| match &port.target_port {
                None => Some(port.port),
                Some(TargetPort::Number(number)) => Some(*number),
                Some(TargetPort::Name(_)) => None,
            })
            .collect();
        workloads.push(Workload {
            name: format!("Service {}/{}", service.meta.namespace, service.meta.name),
            kind: "Service",
            meta: &service.meta,
            namespace: &service.meta.namespace,
            labels: &service.selector,
            ports,
            is_gateway: false,
            hosts: vec![full_host(&service.meta.name, &service.meta.namespace)],
        });
    }
    // Without labels no selector can mean it, and it is another name of a Service as often as not.
    for entry in resources.service_entries.iter().filter(|entry| !entry.meta.labels.is_empty()) {
        workloads.push(Workload {
            name: format!("ServiceEntry {}/{}", entry.meta.namespace, entry.meta.name),
            kind: "ServiceEntry",
            meta: &entry.meta,
            namespace: &entry.meta.namespace,
            labels: &entry.meta.labels,
            ports: None,
            is_gateway: false,
            hosts: entry.hosts.clone(),
        });
    }
    for api in &resources.api_gateways {
        let known = |workload: &Workload<'_>| {
            workload.is_gateway
                && workload.namespace == api.workload.namespace
                && *workload.labels == api.workload.labels
        };
        if !workloads.iter().any(known) {
            workloads.push(Workload {
                name: format!("gateway workload of ApiGateway {}/{}", api.meta.namespace, api.meta.name),
                kind: "ApiGateway",
                meta: &api.meta,
                namespace: &api.workload.namespace,
                labels: &api.workload.labels,
                ports: gateway_ports(resources, api),
                is_gateway: true,
                hosts: Vec::new(),
            });
        }
    }
    workloads
}

fn gateway_ports(resources: &Resources, api: &ApiGateway) -> Option<BTreeSet<u16>> {
    let (namespace, name) = api.gateway.split_once('/')?;
    let mut gateways = resources.gateways.iter();
    let gateway = gateways.find(|gateway| gateway.meta.namespace == namespace && gateway.meta.name == name)?;
    Some(gateway.servers.iter().map(|server| server.port.number).collect())
}
