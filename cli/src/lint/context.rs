//! What every check looks at: the documents, the workloads that they tell of, and which policy reaches which.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use istio::{
    Action, ApiGateway, AuthorizationPolicy, Meta, MtlsMode, RequestAuthentication, Resources, TargetPort,
    WorkloadSelector, full_host,
};

use super::fields::{Field, fields};
use super::finding::Place;
use super::reach::{Reach, Scope};

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

impl Api<'_> {
    /// `NAMESPACE/NAME` of the document.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.document.meta.namespace, self.document.meta.name)
    }
}

/// An `AuthorizationPolicy`, with its lists of values and the workloads that it selects.
#[derive(Debug)]
pub(super) struct Policy<'a> {
    pub(super) document: &'a AuthorizationPolicy,
    pub(super) fields: Vec<Field<'a>>,
    pub(super) scope: Scope<'a>,
    /// Indices of the known workloads, ascending; none for a policy with targetRefs.
    pub(super) workloads: Rc<[usize]>,
    /// Indices of the `RequestAuthentication`s that may apply where it does.
    authentications: Rc<[usize]>,
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
    reach: Reach<'a>,
    /// Of each `RequestAuthentication`.
    pub(super) token_scopes: Vec<Scope<'a>>,
    /// Of each `ApiKeyAuthentication`.
    pub(super) key_scopes: Vec<Scope<'a>>,
    /// Indices of the policies that reach a workload, for each workload.
    reaching: Vec<Vec<usize>>,
    /// Indices of the `RequestAuthentication`s without targetRefs that reach a workload, for each workload.
    authenticating: Vec<Vec<usize>>,
    /// Workloads that routes of an API lead to.
    destinations: BTreeSet<usize>,
}

impl<'a> Context<'a> {
    pub(super) fn new(resources: &'a Resources, mode: authz::Mode) -> Self {
        let workloads = workloads(resources);
        let apis = find_apis(resources, &workloads);
        let reach = Reach::new(&resources.mesh.root_namespace, &workloads);
        let scope = |meta, selector| reach.scope(&workloads, meta, selector);
        let tokens = &resources.request_authentications;
        let token_scopes: Vec<Scope<'a>> =
            tokens.iter().map(|document| scope(&document.meta, document.selector.as_ref())).collect();
        let keys = resources.api_key_authentications.iter();
        let key_scopes = keys.map(|document| scope(&document.meta, document.selector.as_ref())).collect();

        let mut authentications: HashMap<usize, Rc<[usize]>> = HashMap::new();
        let policy = |document: &'a AuthorizationPolicy| {
            let scope = scope(&document.meta, document.selector.as_ref());
            let workloads = if document.target_refs.is_empty() { Rc::clone(&scope.workloads) } else { Rc::default() };
            let found = authentications.entry(scope.id).or_insert_with(|| {
                let near = token_scopes.iter().zip(tokens).enumerate();
                near.filter(|(_, (other, document))| document.target_refs.is_empty() && scope.overlaps(other))
                    .map(|(index, _)| index)
                    .collect()
            });
            Policy { document, fields: fields(document), authentications: Rc::clone(found), scope, workloads }
        };
        let policies: Vec<Policy<'a>> = resources.authorization_policies.iter().map(policy).collect();

        let reaching = inverse(workloads.len(), policies.iter().map(|policy| &policy.workloads[..]));
        let reached = |(scope, document): (&'_ Scope<'a>, &RequestAuthentication)| {
            if document.target_refs.is_empty() { Rc::clone(&scope.workloads) } else { Rc::default() }
        };
        let reached: Vec<Rc<[usize]>> = token_scopes.iter().zip(tokens).map(reached).collect();
        let authenticating = inverse(workloads.len(), reached.iter().map(|workloads| &workloads[..]));
        let destinations = apis.iter().flat_map(|api| api.destinations.iter().copied()).collect();
        Self {
            resources,
            mode,
            workloads,
            apis,
            policies,
            reach,
            token_scopes,
            key_scopes,
            reaching,
            authenticating,
            destinations,
        }
    }

    /// What a resource reaches by namespace and selector.
    pub(super) fn scope(&self, meta: &'a Meta, selector: Option<&'a WorkloadSelector>) -> Scope<'a> {
        self.reach.scope(&self.workloads, meta, selector)
    }

    /// The workloads that the namespace of a resource lets it reach.
    pub(super) fn near(&self, meta: &Meta) -> Vec<&Workload<'a>> {
        self.reach.near(meta).iter().filter_map(|index| self.workloads.get(*index)).collect()
    }

    /// The policies that reach a workload, in the order of the documents.
    pub(super) fn policies_of(&self, workload: usize) -> impl Iterator<Item = &Policy<'a>> {
        let found = self.reaching.get(workload).into_iter().flatten();
        found.filter_map(|index| self.policies.get(*index))
    }

    pub(super) fn is_root(&self, meta: &Meta) -> bool {
        meta.namespace == self.resources.mesh.root_namespace
    }

    pub(super) fn authentications_of(&self, workload: usize) -> impl Iterator<Item = &'a RequestAuthentication> {
        let found = self.authenticating.get(workload).into_iter().flatten();
        found.filter_map(|index| self.resources.request_authentications.get(*index))
    }

    /// The rules for tokens that may apply where `policy` does, each with its document.
    pub(super) fn token_rules(
        &self,
        policy: &Policy<'_>,
    ) -> impl Iterator<Item = (&'a RequestAuthentication, usize, &'a istio::JwtRule)> {
        let documents = policy.authentications.iter().filter_map(|at| self.resources.request_authentications.get(*at));
        documents.flat_map(|document| {
            document.jwt_rules.iter().enumerate().map(move |(index, rule)| (document, index, rule))
        })
    }

    /// The documents for API keys that may apply where `policy` does.
    pub(super) fn key_rules(&self, policy: &Policy<'_>) -> Vec<&'a istio::ApiKeyAuthentication> {
        let keys = self.key_scopes.iter().zip(&self.resources.api_key_authentications);
        keys.filter(|(scope, _)| policy.scope.overlaps(scope)).map(|(_, keys)| keys).collect()
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
        // Of several the oldest counts, which files do not tell: any of them may.
        let mode = |wanted: &dyn Fn(&istio::PeerAuthentication) -> bool| {
            let documents = self.resources.peer_authentications.iter().filter(|document| wanted(document));
            let modes = documents.map(|document| document.mode).filter(|mode| *mode != MtlsMode::Unset);
            modes.min_by_key(|mode| *mode == MtlsMode::Strict)
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
                let known = at_ports.entry(*port).or_insert(*mode);
                if *mode != MtlsMode::Strict {
                    *known = *mode;
                }
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

    /// Whether routes of an API lead to the workload.
    pub(super) fn is_destination(&self, workload: usize) -> bool {
        self.destinations.contains(&workload)
    }
}

/// Which of `lists` hold each index below `length`.
fn inverse<'l>(length: usize, lists: impl Iterator<Item = &'l [usize]>) -> Vec<Vec<usize>> {
    let mut inverse = vec![Vec::new(); length];
    for (at, list) in lists.enumerate() {
        for index in list {
            inverse.get_mut(*index).into_iter().for_each(|holders| holders.push(at));
        }
    }
    inverse
}

fn find_apis<'a>(resources: &'a Resources, workloads: &[Workload<'a>]) -> Vec<Api<'a>> {
    let mut by_host: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, workload) in workloads.iter().enumerate() {
        for host in &workload.hosts {
            by_host.entry(host.to_ascii_lowercase()).or_default().push(index);
        }
    }
    let api = |document: &'a ApiGateway| {
        let workload = workloads.iter().position(|workload| {
            workload.is_gateway
                && workload.namespace == document.workload.namespace
                && *workload.labels == document.workload.labels
        })?;
        let mut seen = BTreeSet::new();
        let hosts = resources.virtual_services.iter().flat_map(|service| {
            let routes = authz::compile::routes_for(resources, document, service).into_iter();
            let destinations = routes.flat_map(|(_, route)| route.destinations());
            destinations.map(|destination| full_host(&destination.host, &service.meta.namespace))
        });
        let destinations = hosts
            .filter_map(|host| by_host.get(&host.to_ascii_lowercase()))
            .flatten()
            .copied()
            .filter(|found| seen.insert(*found))
            .collect();
        Some(Api { document, workload, destinations })
    };
    resources.api_gateways.iter().filter_map(api).collect()
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
    for entry in &resources.service_entries {
        for (name, labels) in labels_of(entry) {
            workloads.push(Workload {
                name,
                kind: "ServiceEntry",
                meta: &entry.meta,
                namespace: &entry.meta.namespace,
                labels,
                ports: None,
                is_gateway: false,
                hosts: entry.hosts.clone(),
            });
        }
    }
    for entry in &resources.workload_entries {
        workloads.push(Workload {
            name: format!("WorkloadEntry {}/{}", entry.meta.namespace, entry.meta.name),
            kind: "WorkloadEntry",
            meta: &entry.meta,
            namespace: &entry.meta.namespace,
            labels: &entry.endpoint.labels,
            ports: None,
            is_gateway: false,
            hosts: Vec::new(),
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

/// The labels that workloads of `entry` may have, each with a name for them. Without labels no selector can mean it, and
/// it is another name of a Service as often as not.
fn labels_of(entry: &istio::ServiceEntry) -> Vec<(String, &BTreeMap<String, String>)> {
    let name = format!("ServiceEntry {}/{}", entry.meta.namespace, entry.meta.name);
    let selected = entry.workload_selector.iter().map(|selector| &selector.match_labels);
    let whole = [&entry.meta.labels].into_iter().chain(selected).map(|labels| (name.clone(), labels));
    let endpoints = entry.endpoints.iter().enumerate();
    let endpoints = endpoints.map(|(index, endpoint)| (format!("{name}, endpoints[{index}]"), &endpoint.labels));
    let mut found: Vec<(String, &BTreeMap<String, String>)> = Vec::new();
    for (name, labels) in whole.chain(endpoints) {
        // Whether an endpoint takes mutual TLS tells no workloads apart.
        let tells = labels.keys().any(|name| name != "security.istio.io/tlsMode");
        if tells && found.iter().all(|(_, known)| *known != labels) {
            found.push((name, labels));
        }
    }
    found
}

fn gateway_ports(resources: &Resources, api: &ApiGateway) -> Option<BTreeSet<u16>> {
    let (namespace, name) = api.gateway.split_once('/')?;
    let mut gateways = resources.gateways.iter();
    let gateway = gateways.find(|gateway| gateway.meta.namespace == namespace && gateway.meta.name == name)?;
    // Clients reach an API by TLS alone, as the gate sees it.
    let encrypted = gateway.servers.iter().any(|server| server.tls.is_some());
    let servers = gateway.servers.iter().filter(|server| server.tls.is_some() || !encrypted);
    Some(servers.map(|server| server.port.number).collect())
}
