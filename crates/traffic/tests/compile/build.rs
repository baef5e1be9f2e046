//! Documents by hand, and what they compile to.

use std::collections::BTreeMap;

use istio::{
    ClientTls, ClientTlsMode, Destination, DestinationRule, Endpoint, ExportTo, HttpAction, HttpMatch, HttpRoute,
    HttpRouteDestination, Location, Meta, Origin, Port, Resolution, Resources, Service, ServiceEntry, ServicePort,
    Subset, TrafficPolicy, VirtualService, WorkloadSelector,
};
use traffic::table::{Action, Cluster, Forward, Route, VirtualHost};
use traffic::{Rules, compile};

pub(crate) const NS: &str = "bookinfo";

pub(crate) fn meta(name: &str, namespace: &str) -> Meta {
    Meta {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        namespace_given: true,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        origin: Origin { file: "mesh.yaml".to_owned(), line: 7 },
    }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn selector(pairs: &[(&str, &str)]) -> WorkloadSelector {
    WorkloadSelector { match_labels: labels(pairs) }
}

pub(crate) fn port(number: u16, protocol: &str) -> Port {
    Port { number, name: format!("p{number}"), protocol: protocol.to_owned() }
}

pub(crate) fn endpoint(address: &str, pairs: &[(&str, &str)]) -> Endpoint {
    Endpoint { address: address.to_owned(), labels: labels(pairs), weight: 1, ..Endpoint::default() }
}

/// A service of the mesh behind one gateway, at port 9080.
pub(crate) fn entry(host: &str) -> ServiceEntry {
    ServiceEntry {
        meta: meta(host.split('.').next().unwrap_or(host), NS),
        hosts: vec![host.to_owned()],
        ports: vec![port(9080, "HTTP")],
        target_ports: BTreeMap::new(),
        location: Location::MeshInternal,
        resolution: Resolution::Dns,
        endpoints: vec![endpoint("eastwest.mesh.example", &[])],
        workload_selector: None,
        subject_alt_names: vec!["spiffe://cluster.local/ns/bookinfo/sa/ratings".to_owned()],
        export_to: Vec::new(),
    }
}

/// A host outside of the mesh, at port 80.
pub(crate) fn external(host: &str) -> ServiceEntry {
    ServiceEntry {
        location: Location::MeshExternal,
        ports: vec![port(80, "HTTP")],
        endpoints: Vec::new(),
        subject_alt_names: Vec::new(),
        ..entry(host)
    }
}

pub(crate) fn kubernetes(name: &str, port: u16) -> Service {
    let ports = vec![ServicePort {
        name: "http".to_owned(),
        port,
        protocol: "TCP".to_owned(),
        target_port: None,
        app_protocol: None,
    }];
    Service { meta: meta(name, NS), ports, selector: labels(&[("app", name)]) }
}

pub(crate) fn to(host: &str) -> Destination {
    Destination { host: host.to_owned(), subset: None, port: None }
}

pub(crate) fn subset_of(host: &str, subset: &str) -> Destination {
    Destination { subset: Some(subset.to_owned()), ..to(host) }
}

pub(crate) fn weighted(destination: Destination, weight: u32) -> HttpRouteDestination {
    HttpRouteDestination { destination, weight, headers: istio::HeaderOperations::default() }
}

pub(crate) fn http(action: HttpAction) -> HttpRoute {
    HttpRoute {
        name: String::new(),
        matches: Vec::new(),
        action,
        rewrite: None,
        timeout: None,
        retries: None,
        fault: None,
        mirrors: Vec::new(),
        headers: istio::HeaderOperations::default(),
        has_cors_policy: false,
    }
}

pub(crate) fn forward(destination: Destination) -> HttpRoute {
    http(HttpAction::Route(vec![weighted(destination, 0)]))
}

/// A route with a name and one match.
pub(crate) fn matching(name: &str, found: HttpMatch, destination: Destination) -> HttpRoute {
    HttpRoute { name: name.to_owned(), matches: vec![found], ..forward(destination) }
}

pub(crate) fn prefix(path: &str) -> HttpMatch {
    HttpMatch { uri: Some(istio::StringMatch::Prefix(path.to_owned())), ..HttpMatch::default() }
}

pub(crate) fn routes(name: &str, hosts: &[&str], http: Vec<HttpRoute>) -> VirtualService {
    VirtualService {
        meta: meta(name, NS),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        gateways: vec!["mesh".to_owned()],
        http,
        export_to: Vec::new(),
    }
}

pub(crate) fn rule(name: &str, host: &str, policy: TrafficPolicy) -> DestinationRule {
    DestinationRule {
        meta: meta(name, NS),
        host: host.to_owned(),
        traffic_policy: Some(policy),
        subsets: Vec::new(),
        export_to: Vec::new(),
        workload_selector: None,
    }
}

pub(crate) fn with_subset(name: &str, host: &str, subset: &str) -> DestinationRule {
    let subset = Subset { name: subset.to_owned(), labels: labels(&[("version", subset)]), traffic_policy: None };
    DestinationRule { subsets: vec![subset], ..rule(name, host, TrafficPolicy::default()) }
}

pub(crate) fn tls(mode: ClientTlsMode) -> TrafficPolicy {
    let tls = ClientTls { mode, sni: None, subject_alt_names: Vec::new(), ca_certificates: None };
    TrafficPolicy { tls: Some(tls), ..TrafficPolicy::default() }
}

pub(crate) fn only(namespace: &str) -> Vec<ExportTo> {
    vec![ExportTo::Namespace(namespace.to_owned())]
}

/// What was compiled, opened.
pub(crate) struct Opened {
    pub(crate) rules: Rules,
    pub(crate) warnings: Vec<String>,
}

pub(crate) fn opened(resources: &Resources) -> Opened {
    let compiled = compile(resources).expect("it compiles");
    Opened { rules: Rules::open(&compiled.section).expect("what was compiled opens"), warnings: compiled.warnings }
}

pub(crate) fn refused(resources: &Resources) -> Vec<String> {
    compile(resources).expect_err("it is refused")
}

impl Opened {
    /// The virtual host that a client of `namespace` with labels finds.
    pub(crate) fn host_for(&self, client: (&str, &[(&str, &str)]), host: &str, port: u16) -> Option<VirtualHost> {
        let labels: Vec<_> = client.1.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let view = self.rules.view(Some(client.0), &labels).unwrap();
        view.find(host, port).map(|index| self.rules.virtual_host(index).unwrap())
    }

    pub(crate) fn host(&self, host: &str, port: u16) -> VirtualHost {
        self.host_for((NS, &[]), host, port).unwrap_or_else(|| panic!("{host}:{port} is not known"))
    }

    pub(crate) fn knows(&self, host: &str, port: u16) -> bool {
        self.host_for((NS, &[]), host, port).is_some()
    }

    pub(crate) fn cluster_of(&self, route: &Route) -> Cluster {
        self.rules.cluster(forward_of(route).destinations[0].cluster).unwrap()
    }

    /// The cluster of the first destination of the only route.
    pub(crate) fn cluster(&self, host: &str, port: u16) -> Cluster {
        self.cluster_of(&self.host(host, port).routes[0])
    }

    pub(crate) fn cluster_for(&self, client: (&str, &[(&str, &str)]), host: &str, port: u16) -> Cluster {
        self.cluster_of(&self.host_for(client, host, port).unwrap().routes[0])
    }
}

pub(crate) fn forward_of(route: &Route) -> &Forward {
    match &route.action {
        Action::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}
