//! Which hosts a client can name at which ports, and their routes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use istio::{MeshConfig, Resources, VirtualService};

use super::cluster::{Client, Clusters};
use super::registry::{Registry, Source};
use super::report::Report;
use super::route::{self, Made, Place, World};
use super::{hostname, matches, retry};
use crate::route::Routes;
use crate::table::{Action, Forward, Name, Protocol, RetryPolicy, Route, VirtualHost, Weighted};

/// The port of hosts that are no service (Istio's `BuildSidecarOutboundVirtualHosts`).
const HTTP_PORT: u16 = 80;

const KIND: &str = "VirtualService";

/// All virtual hosts so far: views share them.
#[derive(Debug)]
pub(super) struct Hosts<'a, 'r> {
    mesh: &'a MeshConfig,
    registry: &'r Registry<'a>,
    /// Those for clients inside the mesh, with their full hosts.
    pub(super) services: Vec<(&'a VirtualService, Vec<String>)>,
    table: Vec<VirtualHost>,
    known: HashMap<(String, u16), Vec<u32>>,
}

/// What one listener sees.
#[derive(Debug, Default)]
pub(super) struct Scope {
    services: HashMap<String, Vec<usize>>,
    /// Places in [`Hosts::services`], in order of precedence.
    routes: Vec<usize>,
    /// The only port, where the listener has one.
    port: Option<u16>,
}

/// The names of a listener: exact ones, and the suffixes of wildcards.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) exact: Vec<Name>,
    pub(super) wildcards: Vec<Name>,
}

impl Scope {
    pub(super) fn new(registry: &Registry<'_>, services: &[usize], routes: Vec<usize>, port: Option<u16>) -> Scope {
        let mut by_host: HashMap<String, Vec<usize>> = HashMap::new();
        for service in services {
            by_host.entry(registry.services[*service].host.clone()).or_default().push(*service);
        }
        Scope { services: by_host, routes, port }
    }

    /// The documents for a host.
    pub(super) fn services_of(&self, host: &str) -> &[usize] {
        self.services.get(host).map_or(&[], Vec::as_slice)
    }
}

/// The services at one port, by host.
type AtPort = BTreeMap<String, usize>;

/// Which `VirtualService` has a host, the first of each; wildcards by suffix.
#[derive(Debug, Default)]
struct Owners {
    exact: HashMap<String, usize>,
    wildcard: HashMap<String, usize>,
}

impl<'a, 'r> Hosts<'a, 'r> {
    pub(super) fn new(resources: &'a Resources, registry: &'r Registry<'a>) -> Hosts<'a, 'r> {
        let is_for_mesh = |service: &&VirtualService| service.gateways.iter().any(|gateway| gateway == matches::MESH);
        let full = |service: &'a VirtualService| {
            let hosts = service.hosts.iter().map(|host| hostname::full(host, &service.meta.namespace));
            (service, hosts.collect())
        };
        Hosts {
            mesh: &resources.mesh,
            registry,
            services: resources.virtual_services.iter().filter(is_for_mesh).map(full).collect(),
            table: Vec::new(),
            known: HashMap::new(),
        }
    }

    pub(super) fn registry(&self) -> &'r Registry<'a> {
        self.registry
    }

    pub(super) fn into_table(self) -> Vec<VirtualHost> {
        self.table
    }

    /// As Istio's `BuildSidecarVirtualHostWrapper`, for every port.
    pub(super) fn names(
        &mut self,
        client: Client<'_>,
        scope: &Scope,
        clusters: &mut Clusters<'a, 'r>,
        report: &mut Report,
    ) -> Names {
        let mut by_port: BTreeMap<u16, AtPort> = BTreeMap::new();
        for (host, services) in &scope.services {
            for service in services {
                for port in self.registry.services[*service].ports.keys() {
                    by_port.entry(*port).or_default().entry(host.clone()).or_insert(*service);
                }
            }
        }
        match scope.port {
            Some(port) => by_port.retain(|known, _| *known == port),
            None => drop(by_port.entry(HTTP_PORT).or_default()),
        }
        let owners = self.owners(scope);
        let mut names = Names::default();
        for (port, services) in &by_port {
            let mut at = AtOnePort {
                client,
                scope,
                owners: &owners,
                port: *port,
                services,
                clusters: &mut *clusters,
                report: &mut *report,
                taken: HashMap::new(),
                routed: HashSet::new(),
            };
            let found = self.at_port(&mut at);
            for name in found {
                match name.host.strip_prefix('*') {
                    Some(suffix) => names.wildcards.push(Name { host: suffix.to_owned(), ..name }),
                    None => names.exact.push(name),
                }
            }
        }
        names.exact.sort_by(|one, other| (&one.host, one.port).cmp(&(&other.host, other.port)));
        names.wildcards.sort_by(|one, other| {
            (other.host.len(), &one.host, one.port).cmp(&(one.host.len(), &other.host, other.port))
        });
        names
    }

    fn owners(&self, scope: &Scope) -> Owners {
        let mut owners = Owners::default();
        for place in &scope.routes {
            for host in &self.services[*place].1 {
                match hostname::wildcard(host) {
                    Some(suffix) => owners.wildcard.entry(suffix.to_owned()).or_insert(*place),
                    None => owners.exact.entry(host.clone()).or_insert(*place),
                };
            }
        }
        owners
    }

    fn at_port(&mut self, at: &mut AtOnePort<'_, 'a, 'r>) -> Vec<Name> {
        let mut names = Vec::new();
        for place in &at.scope.routes {
            let (service, hosts) = &self.services[*place];
            let service = *service;
            // "only select virtualServices that matches a service", but for the port of HTTP.
            if at.port != HTTP_PORT && !at.overlaps(hosts) {
                continue;
            }
            let (foreign, matched) = at.split(*place, hosts);
            let has_http = matched.iter().any(|host| at.is_http(self.registry, host));
            if !has_http && at.port != HTTP_PORT {
                continue;
            }
            let mut made: [Option<Made>; 2] = [None, None];
            for (host, is_service) in
                foreign.iter().map(|host| (host, false)).chain(matched.iter().map(|host| (host, true)))
            {
                if is_service && !at.is_http(self.registry, host) {
                    continue;
                }
                let is_foreign = !is_service && at.scope.services_of(host).is_empty();
                let made = made[usize::from(is_foreign)].get_or_insert_with(|| {
                    let place = Place { service, client: at.client, port: at.port, is_foreign };
                    let mut made = route::routes(&place, &mut at.world(self.mesh, self.registry));
                    // What is used is made once here, so that nothing is found wrong later.
                    let used = VirtualHost { port: at.port, routes: made.routes.clone(), ..VirtualHost::default() };
                    made.errors.extend(Routes::new(used, &[]).err().map(|problem| format!("spec.http: {problem}")));
                    made
                });
                if made.routes.is_empty() {
                    made.errors.drain(..).for_each(|problem| at.report.error(&service.meta, KIND, &problem));
                    continue;
                }
                if let Some(name) = self.routed(service, host, is_service, made, at) {
                    names.push(name);
                }
            }
        }
        let rest = at.services.iter().filter(|(host, _)| !at.routed.contains(*host));
        let rest: Vec<(String, usize)> = rest.map(|(host, service)| (host.clone(), *service)).collect();
        for (host, service) in rest {
            names.extend(self.unrouted(&host, service, at));
        }
        names
    }

    /// A host with the routes of a `VirtualService`, unless an older one has it, or nothing can be reached.
    fn routed(
        &mut self,
        service: &'a VirtualService,
        host: &str,
        is_service: bool,
        made: &mut Made,
        at: &mut AtOnePort<'_, 'a, 'r>,
    ) -> Option<Name> {
        if let Err(problem) = hostname::check(host) {
            at.report.error(&service.meta, KIND, &format!("spec.hosts: {problem}"));
            return None;
        }
        if is_service {
            at.routed.insert(host.to_owned());
        }
        if let Some(older) = at.taken.get(host).copied() {
            if std::ptr::eq(older, &service.meta) {
                return None;
            }
            let text = format!(
                "spec.hosts: found {host}, which VirtualService {} ({}) has already: for clients in the mesh Istio takes the older alone, and this one is not used",
                older.name, older.origin
            );
            at.report.warn(&service.meta, KIND, &text);
            return None;
        }
        let documents = at.scope.services_of(host);
        let is_entry = documents.iter().any(|place| matches!(self.registry.services[*place].source, Source::Entry(..)));
        let is_kept = made.is_alive || (is_service && is_entry);
        if !is_kept {
            if documents.is_empty() {
                let text =
                    format!("{host} is left out: none of its destinations can be reached from outside of the cluster");
                at.report.warn(&service.meta, KIND, &text);
            }
            return None;
        }
        for problem in made.errors.drain(..) {
            at.report.error(&service.meta, KIND, &problem);
        }
        for text in made.warnings.drain(..) {
            at.report.warn(&service.meta, KIND, &text);
        }
        at.taken.insert(host.to_owned(), &service.meta);
        let protocol = at.protocol(self.registry, host);
        let virtual_host = VirtualHost { host: host.to_owned(), port: at.port, protocol, routes: made.routes.clone() };
        Some(Name { host: host.to_owned(), port: at.port, virtual_host: self.intern(virtual_host) })
    }

    /// A service without routes, or of another protocol than HTTP.
    fn unrouted(&mut self, host: &str, service: usize, at: &mut AtOnePort<'_, 'a, 'r>) -> Option<Name> {
        let of = &self.registry.services[service];
        if matches!(of.source, Source::Kubernetes(_)) || at.taken.contains_key(host) {
            return None;
        }
        let is_http = at.is_http(self.registry, host);
        let cluster = at.clusters.of_service(&at.client, service, at.port, at.report);
        if !at.clusters.is_alive(cluster) {
            let (meta, kind) = of.document();
            at.report.warn(meta, kind, &at.clusters.unreachable(service, at.port));
        }
        let default = self.mesh.default_http_retry_policy.as_ref();
        let retry = match retry::policy(default, false, 0) {
            Ok((policy, _)) if is_http => policy,
            Ok(_) => RetryPolicy::default(),
            Err(problem) => {
                at.report.problem(format!("the mesh configuration: defaultHttpRetryPolicy.retryOn: {problem}"));
                RetryPolicy::default()
            }
        };
        let forward = Forward {
            destinations: vec![Weighted { cluster, weight: 1, ..Weighted::default() }],
            ..Forward::default()
        };
        let route = Route { name: host.to_owned(), action: Action::Forward(forward), retry, ..Route::default() };
        let protocol = at.protocol(self.registry, host);
        let virtual_host = VirtualHost { host: host.to_owned(), port: at.port, protocol, routes: vec![route] };
        Some(Name { host: host.to_owned(), port: at.port, virtual_host: self.intern(virtual_host) })
    }

    fn intern(&mut self, virtual_host: VirtualHost) -> u32 {
        let places = self.known.entry((virtual_host.host.clone(), virtual_host.port)).or_default();
        let known = places.iter().find(|place| {
            let known = usize::try_from(**place).ok().and_then(|place| self.table.get(place));
            known == Some(&virtual_host)
        });
        if let Some(known) = known {
            return *known;
        }
        let index = u32::try_from(self.table.len()).unwrap_or(u32::MAX);
        places.push(index);
        self.table.push(virtual_host);
        index
    }
}

/// The work at one port.
struct AtOnePort<'w, 'a, 'r> {
    client: Client<'w>,
    scope: &'w Scope,
    owners: &'w Owners,
    port: u16,
    services: &'w AtPort,
    clusters: &'w mut Clusters<'a, 'r>,
    report: &'w mut Report,
    /// By the document that has it.
    taken: HashMap<String, &'a istio::Meta>,
    /// Services that a `VirtualService` speaks for.
    routed: HashSet<String>,
}

impl<'a, 'r> AtOnePort<'_, 'a, 'r> {
    fn world(&mut self, mesh: &'a MeshConfig, registry: &'r Registry<'a>) -> World<'_, 'a, 'r> {
        World { mesh, registry, clusters: &mut *self.clusters, scope: self.scope, report: &mut *self.report }
    }

    fn is_http(&self, registry: &Registry<'_>, host: &str) -> bool {
        let service = self.services.get(host).map(|service| &registry.services[*service]);
        service.and_then(|service| service.ports.get(&self.port)).is_some_and(super::registry::Port::is_http)
    }

    /// What is spoken to a host at this port; HTTP to what is no service.
    fn protocol(&self, registry: &Registry<'_>, host: &str) -> Protocol {
        let service = self.services.get(host).map(|service| &registry.services[*service]);
        let port = service.and_then(|service| service.ports.get(&self.port));
        port.map_or(Protocol::Http1, |port| port.protocol)
    }

    /// The hosts of a `VirtualService` that are no service at this port, and the services that it speaks for (Istio's
    /// `separateVSHostsAndServices`): those that it names, and those under a wildcard of it that no other one has a
    /// more specific host for.
    fn split(&self, place: usize, hosts: &[String]) -> (Vec<String>, BTreeSet<String>) {
        let mut foreign = Vec::new();
        let mut matched = BTreeSet::new();
        for host in hosts {
            if hostname::wildcard(host).is_none() {
                if self.services.contains_key(host) {
                    matched.insert(host.clone());
                } else {
                    foreign.push(host.clone());
                }
                continue;
            }
            let mut has_any = false;
            for service in self.services.keys().filter(|service| hostname::overlap(service, host)) {
                has_any = true;
                if self.owner(service) == Some(place) {
                    matched.insert(service.clone());
                }
            }
            if !has_any {
                foreign.push(host.clone());
            }
        }
        (foreign, matched)
    }

    /// The `VirtualService` with the most specific host for a service.
    fn owner(&self, service: &str) -> Option<usize> {
        let exact = if hostname::wildcard(service).is_some() { None } else { self.owners.exact.get(service) };
        let wildcard = || hostname::suffixes(service).find_map(|suffix| self.owners.wildcard.get(suffix));
        exact.or_else(wildcard).copied()
    }

    /// Whether a service has one of the hosts, or a wildcard of one covers the other.
    fn overlaps(&self, hosts: &[String]) -> bool {
        // Wildcards sort before all names.
        let wild = || self.services.keys().take_while(|known| hostname::wildcard(known).is_some());
        hosts.iter().any(|host| match hostname::wildcard(host) {
            Some(_) => self.services.keys().any(|known| hostname::overlap(known, host)),
            None => self.services.contains_key(host) || wild().any(|known| hostname::overlap(known, host)),
        })
    }
}
