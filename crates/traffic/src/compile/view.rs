//! What the workloads of each namespace see: one view for all that see the same.

use std::collections::BTreeSet;

use istio::{ExportTo, Meta, OutboundTrafficMode, Resources, Sidecar, SidecarEgress, VirtualService, is_visible};

use super::cluster::{Client, Clusters};
use super::egress::Filter;
use super::hosts::{Hosts, Names, Scope};
use super::labels::{Labels, MAX_CONDITIONS, combinations, listed, selects};
use super::registry::Registry;
use super::report::Report;
use super::{hostname, matches};
use crate::table::{Listener, Outbound, View};

/// All views: those of namespaces with rules of their own, and at the end those of every other one. Of each the view
/// for most labels goes first.
pub(super) fn views<'a, 'r>(
    resources: &'a Resources,
    clusters: &mut Clusters<'a, 'r>,
    hosts: &mut Hosts<'a, 'r>,
    report: &mut Report,
) -> Vec<View> {
    let registry = hosts.registry();
    let mut common = of_namespace("", resources, clusters, hosts, report);
    let mut views = Vec::new();
    for namespace in namespaces(resources, registry) {
        let own = of_namespace(&namespace, resources, clusters, hosts, report);
        let is_common = own.len() == common.len()
            && own.iter().zip(&common).all(|(own, common)| View { namespace: String::new(), ..own.clone() } == *common);
        if !is_common {
            views.extend(own);
        }
    }
    views.append(&mut common);
    views
}

/// How many hosts and ports can be called by anybody.
pub(super) fn destinations(views: &[View]) -> usize {
    let names = views.iter().flat_map(|view| {
        let of_listeners = view.listeners.iter().flat_map(|listener| &listener.names);
        view.names.iter().chain(&view.wildcards).chain(of_listeners)
    });
    names.map(|name| (name.host.as_str(), name.port)).collect::<BTreeSet<_>>().len()
}

fn of_namespace<'a, 'r>(
    namespace: &str,
    resources: &'a Resources,
    clusters: &mut Clusters<'a, 'r>,
    hosts: &mut Hosts<'a, 'r>,
    report: &mut Report,
) -> Vec<View> {
    let conditions = conditions(namespace, resources, hosts);
    if conditions.len() > MAX_CONDITIONS {
        let found = conditions.len();
        report.problem(format!(
            "found {found} different label selectors for clients of the namespace {namespace:?}, expected at most {MAX_CONDITIONS}"
        ));
        return vec![View { namespace: namespace.to_owned(), ..View::default() }];
    }
    let unions = combinations(&conditions);
    unions.iter().map(|labels| view(Client { namespace, labels }, resources, clusters, hosts, report)).collect()
}

fn view<'a, 'r>(
    client: Client<'_>,
    resources: &'a Resources,
    clusters: &mut Clusters<'a, 'r>,
    hosts: &mut Hosts<'a, 'r>,
    report: &mut Report,
) -> View {
    let sidecar = sidecar_of(client, resources);
    let mode = sidecar.and_then(|sidecar| sidecar.outbound_traffic_policy).or(resources.mesh.outbound_traffic_policy);
    let mut view = View {
        namespace: client.namespace.to_owned(),
        labels: listed(client.labels),
        outbound: match mode {
            Some(OutboundTrafficMode::AllowAny) => Outbound::AllowAny,
            Some(OutboundTrafficMode::RegistryOnly) | None => Outbound::RegistryOnly,
        },
        ..View::default()
    };
    let egress: &[SidecarEgress] = sidecar.map_or(&[], |sidecar| &sidecar.egress);
    let everything = vec!["*/*".to_owned()];
    // "If egress not set, setup a default listener".
    let open = if egress.is_empty() { Some(&everything) } else { None };
    // "We hit a catchall listener": the first one is the only one.
    let catch_all = egress.iter().find(|egress| egress.port.is_none()).map(|egress| &egress.hosts);
    if let Some(seen) = open.or(catch_all) {
        let scope = scope(client, seen, None, hosts);
        let names = hosts.names(client, &scope, clusters, report);
        (view.names, view.wildcards) = (names.exact, names.wildcards);
    }
    for egress in egress {
        let Some(port) = &egress.port else { continue };
        // "If Port's protocol is proxy protocol (HTTP_PROXY) ... the egress listener is used as generic egress http
        // proxy".
        let is_proxy = port.protocol.eq_ignore_ascii_case("http_proxy");
        let scope = scope(client, &egress.hosts, (!is_proxy).then_some(port.number), hosts);
        let Names { mut exact, wildcards } = hosts.names(client, &scope, clusters, report);
        exact.extend(wildcards);
        exact.sort_by(|one, other| (&one.host, one.port).cmp(&(&other.host, other.port)));
        let address = egress.bind.clone().filter(|bind| !bind.is_empty()).unwrap_or_else(|| "127.0.0.1".to_owned());
        view.listeners.push(Listener { address, port: port.number, names: exact });
    }
    view
}

/// What a listener sees: Istio's `convertIstioListenerToWrapper`.
fn scope(client: Client<'_>, seen: &[String], port: Option<u16>, hosts: &Hosts<'_, '_>) -> Scope {
    let registry = hosts.registry();
    let filter = Filter::new(seen.iter().map(String::as_str), client.namespace);
    let is_seen = |place: &usize| {
        let service = &registry.services[*place];
        registry.is_visible(*place, client.namespace) && filter.has_service(service.namespace, &service.host)
    };
    let visible: Vec<usize> = (0..registry.services.len()).filter(is_seen).collect();
    let services = registry.of_each_host(&visible, client.namespace);
    // Those of the client's namespace alone first, then those that name it, then those for all.
    let rank = |service: &VirtualService| {
        let words = &service.export_to;
        let is_public = words.is_empty() || words.contains(&ExportTo::All);
        (is_public, service.meta.namespace != client.namespace)
    };
    let of_client = |place: &usize| {
        let (service, names) = &hosts.services[*place];
        is_visible(&service.export_to, &service.meta.namespace, client.namespace)
            && filter.has_routes(&service.meta.namespace, names)
    };
    let mut routes: Vec<usize> = (0..hosts.services.len()).filter(of_client).collect();
    routes.sort_by_key(|place| match rank(hosts.services[*place].0) {
        (true, _) => 2,
        (false, is_other) => u8::from(is_other),
    });
    Scope::new(registry, &services, routes, port)
}

/// The `Sidecar` of a client: "sidecars with selectors are put in front", then the one for the whole namespace, then
/// the root namespace's.
fn sidecar_of<'a>(client: Client<'_>, resources: &'a Resources) -> Option<&'a Sidecar> {
    let of = |namespace: &'_ str| {
        let namespace = namespace.to_owned();
        resources.sidecars.iter().filter(move |sidecar| sidecar.meta.namespace == namespace)
    };
    let selecting = of(client.namespace).find(|sidecar| {
        sidecar.workload_selector.as_ref().is_some_and(|selector| selects(&selector.match_labels, client.labels))
    });
    let general = |namespace| of(namespace).find(|sidecar| sidecar.workload_selector.is_none());
    selecting.or_else(|| general(client.namespace)).or_else(|| general(&resources.mesh.root_namespace))
}

/// The selectors that make a difference to workloads of a namespace.
fn conditions(namespace: &str, resources: &Resources, hosts: &Hosts<'_, '_>) -> BTreeSet<Labels> {
    let of_sidecars = resources.sidecars.iter().map(|sidecar| (&sidecar.meta, &sidecar.workload_selector));
    let of_rules = resources.destination_rules.iter().map(|rule| (&rule.meta, &rule.workload_selector));
    let selectors = of_sidecars.chain(of_rules).filter(|(meta, _)| meta.namespace == namespace);
    let mut conditions: BTreeSet<Labels> =
        selectors.filter_map(|(_, selector)| selector.as_ref().map(|selector| selector.match_labels.clone())).collect();
    for (service, _) in &hosts.services {
        if is_visible(&service.export_to, &service.meta.namespace, namespace) {
            conditions.extend(matches::decisive_labels(service));
        }
    }
    conditions.remove(&Labels::new());
    conditions
}

/// The namespaces whose clients may see something else than those of every other one.
fn namespaces(resources: &Resources, registry: &Registry<'_>) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut exported = |meta: &Meta, words: &[ExportTo]| {
        if words.is_empty() || words.contains(&ExportTo::All) {
            return;
        }
        found.insert(meta.namespace.clone());
        found.extend(words.iter().filter_map(|word| match word {
            ExportTo::Namespace(name) => Some(name.clone()),
            ExportTo::All | ExportTo::Own | ExportTo::Nobody => None,
        }));
    };
    resources.virtual_services.iter().for_each(|service| exported(&service.meta, &service.export_to));
    resources.destination_rules.iter().for_each(|rule| exported(&rule.meta, &rule.export_to));
    resources.service_entries.iter().for_each(|entry| exported(&entry.meta, &entry.export_to));
    let matches = resources.virtual_services.iter().flat_map(|service| &service.http).flat_map(|http| &http.matches);
    found.extend(matches.filter_map(|found| found.source_namespace.clone()));
    found.extend(resources.sidecars.iter().map(|sidecar| sidecar.meta.namespace.clone()));
    found.extend(registry.contested());
    // A rule that only its own namespace looks for first: for hosts of other namespaces, or for some workloads.
    for rule in &resources.destination_rules {
        let host = hostname::full(&rule.host, &rule.meta.namespace);
        if rule.workload_selector.is_some() || !registry.is_only_of(&host, &rule.meta.namespace) {
            found.insert(rule.meta.namespace.clone());
        }
    }
    let has_dot =
        |sidecar: &&Sidecar| sidecar.egress.iter().flat_map(|egress| &egress.hosts).any(|host| host.contains("./"));
    let root = &resources.mesh.root_namespace;
    if resources.sidecars.iter().filter(|sidecar| sidecar.meta.namespace == *root).any(|sidecar| has_dot(&sidecar)) {
        found.extend(registry.services.iter().map(|service| service.namespace.to_owned()));
        found.extend(resources.virtual_services.iter().map(|service| service.meta.namespace.clone()));
    }
    found.remove("");
    found
}
