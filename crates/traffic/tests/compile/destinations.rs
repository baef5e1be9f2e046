//! Where destinations are, how they are protected and what is spoken to them.

use istio::{
    ClientTls, ClientTlsMode, Endpoint, Location, Resolution, Resources, ServiceEntry, TrafficPolicy, WorkloadEntry,
};
use traffic::table::{self, Cluster, IstioMutual, Protocol, Simple, Tls};

use crate::build::*;

const RATINGS: &str = "ratings.bookinfo.svc.cluster.local";
const SAN: &str = "spiffe://cluster.local/ns/bookinfo/sa/ratings";

fn with(entry: ServiceEntry, policy: Option<TrafficPolicy>) -> Resources {
    let rules = policy.map(|policy| rule("ratings", RATINGS, policy)).into_iter().collect();
    Resources { service_entries: vec![entry], destination_rules: rules, ..Resources::default() }
}

fn cluster(entry: ServiceEntry, policy: Option<TrafficPolicy>) -> Cluster {
    let port = entry.ports[0].number;
    opened(&with(entry, policy)).cluster(RATINGS, port)
}

fn error(entry: ServiceEntry, policy: Option<TrafficPolicy>) -> String {
    let errors = refused(&with(entry, policy));
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    error.clone()
}

fn mutual(cluster: &Cluster) -> &IstioMutual {
    match &cluster.tls {
        Tls::IstioMutual(mutual) => mutual,
        other => panic!("{other:?}"),
    }
}

#[test]
fn inside_the_mesh_it_is_mutual_tls_with_or_without_a_rule() {
    for policy in [None, Some(TrafficPolicy::default()), Some(tls(ClientTlsMode::IstioMutual))] {
        let cluster = cluster(entry(RATINGS), policy);
        assert_eq!(mutual(&cluster).sni, format!("outbound_.9080_._.{RATINGS}"));
        assert_eq!(mutual(&cluster).expected, [SAN]);
        assert_eq!(cluster.name, format!("outbound|9080||{RATINGS}"));
    }
}

#[test]
fn nothing_goes_to_the_mesh_without_an_identity() {
    for mode in [ClientTlsMode::Disable, ClientTlsMode::Simple] {
        let text = error(entry(RATINGS), Some(tls(mode)));
        assert!(text.starts_with("mesh.yaml:7: DestinationRule ratings: "), "{text}");
        assert!(text.contains("expected ISTIO_MUTUAL"), "{text}");
    }
}

#[test]
fn outside_of_the_mesh_it_is_what_the_rule_says_and_plaintext_without() {
    assert_eq!(cluster(external(RATINGS), None).tls, Tls::Plaintext);
    assert_eq!(cluster(external(RATINGS), Some(tls(ClientTlsMode::Disable))).tls, Tls::Plaintext);
    let plain = cluster(external(RATINGS), Some(tls(ClientTlsMode::Simple)));
    assert_eq!(plain.tls, Tls::Simple(Simple::default()));
    let settings = ClientTls {
        mode: ClientTlsMode::Simple,
        sni: Some("api.example".to_owned()),
        subject_alt_names: vec!["a.example".to_owned()],
        ca_certificates: Some("/etc/roots.pem".to_owned()),
    };
    let named = cluster(external(RATINGS), Some(TrafficPolicy { tls: Some(settings), ..TrafficPolicy::default() }));
    let wanted = Simple {
        sni: "api.example".to_owned(),
        names: vec!["a.example".to_owned()],
        roots: "/etc/roots.pem".to_owned(),
    };
    assert_eq!(named.tls, Tls::Simple(wanted));
    // The entry's names count where the rule has none.
    let entry = ServiceEntry { subject_alt_names: vec!["b.example".to_owned()], ..external(RATINGS) };
    let Tls::Simple(simple) = cluster(entry, Some(tls(ClientTlsMode::Simple))).tls else { panic!() };
    assert_eq!(simple.names, ["b.example"]);
}

#[test]
fn the_rules_names_replace_those_of_the_entry() {
    let own = ClientTls {
        mode: ClientTlsMode::IstioMutual,
        sni: Some("ratings.example".to_owned()),
        subject_alt_names: vec!["spiffe://cluster.local/ns/a/sa/b".to_owned()],
        ca_certificates: None,
    };
    let cluster = cluster(entry(RATINGS), Some(TrafficPolicy { tls: Some(own), ..TrafficPolicy::default() }));
    assert_eq!(mutual(&cluster).sni, "ratings.example");
    assert_eq!(mutual(&cluster).expected, ["spiffe://cluster.local/ns/a/sa/b"]);
}

#[test]
fn service_accounts_of_endpoints_are_identities_and_aliases_count() {
    let of = |account: Option<&str>| Endpoint {
        service_account: account.map(str::to_owned),
        ..endpoint("gateway.example", &[])
    };
    let entry = ServiceEntry {
        subject_alt_names: Vec::new(),
        endpoints: vec![of(Some("one")), of(Some("two"))],
        ..entry(RATINGS)
    };
    let mut resources = with(entry.clone(), None);
    resources.mesh.trust_domain_aliases = vec!["old.example".to_owned()];
    let cluster = opened(&resources).cluster(RATINGS, 9080);
    let wanted = [
        "spiffe://cluster.local/ns/bookinfo/sa/one",
        "spiffe://cluster.local/ns/bookinfo/sa/two",
        "spiffe://old.example/ns/bookinfo/sa/one",
        "spiffe://old.example/ns/bookinfo/sa/two",
    ];
    assert_eq!(mutual(&cluster).expected, wanted);
    // One of them without an account could be anybody.
    let partly = ServiceEntry { endpoints: vec![of(Some("one")), of(None)], ..entry };
    assert!(error(partly, None).contains("an expected identity is required"));
}

#[test]
fn an_identity_is_required_and_must_be_one_of_the_mesh() {
    let with_names = |names: &[&str]| ServiceEntry {
        subject_alt_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..entry(RATINGS)
    };
    for (names, said) in [
        (&[][..], "an expected identity is required"),
        (&["ratings.example"], "\"ratings.example\""),
        (&["spiffe://other.example/ns/a/sa/b"], "trust domain cluster.local"),
    ] {
        let text = error(with_names(names), None);
        assert!(text.starts_with("mesh.yaml:7: ServiceEntry ratings: ") && text.contains(said), "{text}");
    }
    // So it is where mutual TLS is asked for outside of the mesh.
    assert!(error(external(RATINGS), Some(tls(ClientTlsMode::IstioMutual))).contains("identity is required"));
}

#[test]
fn endpoints_have_their_ports_weights_and_places() {
    let one = Endpoint {
        ports: [("p9080".to_owned(), 15443)].into(),
        locality: "eu/eu-1/a".to_owned(),
        weight: 3,
        network: "n1".to_owned(),
        ..endpoint("Gateway.Example", &[("x", "y")])
    };
    let two = Endpoint { weight: 0, ..endpoint("10.0.0.1", &[("istio-locality", "us.us-2")]) };
    let entry = ServiceEntry { endpoints: vec![one, two], target_ports: [(9080, 8080)].into(), ..entry(RATINGS) };
    let cluster = cluster(entry, None);
    assert_eq!(cluster.resolution, table::Resolution::StrictDns);
    let [one, two] = cluster.endpoints.as_slice() else { panic!("{:?}", cluster.endpoints) };
    assert_eq!((one.address.as_str(), one.port, one.weight), ("gateway.example", 15443, 3));
    assert_eq!((two.address.as_str(), two.port, two.weight), ("10.0.0.1", 8080, 1));
    let place = |endpoint: &table::Endpoint| {
        let table::Locality { region, zone, subzone } = endpoint.locality.clone();
        format!("{region}/{zone}/{subzone}")
    };
    assert_eq!((place(one), place(two)), ("eu/eu-1/a".to_owned(), "us/us-2/".to_owned()));
    for label in ["topology.kubernetes.io/zone=eu-1", "topology.istio.io/network=n1", "x=y"] {
        let (name, value) = label.split_once('=').unwrap();
        assert!(one.labels.contains(&(name.to_owned(), value.to_owned())), "{label}");
    }
}

#[test]
fn without_endpoints_the_host_itself_is_looked_up() {
    let entry = ServiceEntry { endpoints: Vec::new(), target_ports: [(9080, 80)].into(), ..entry(RATINGS) };
    let cluster = cluster(entry, None);
    assert_eq!((cluster.endpoints[0].address.as_str(), cluster.endpoints[0].port), (RATINGS, 80));
}

#[test]
fn workload_entries_are_endpoints_of_what_selects_them() {
    let workload = |name: &str, namespace: &str, pairs: &[(&str, &str)]| WorkloadEntry {
        meta: meta(name, namespace),
        endpoint: Endpoint { service_account: Some(name.to_owned()), ..endpoint("10.0.0.1", pairs) },
    };
    let mut labelled = workload("b", NS, &[("app", "other")]);
    labelled.meta.labels = labels(&[("app", "ratings")]);
    let entry = ServiceEntry {
        endpoints: Vec::new(),
        workload_selector: Some(selector(&[("app", "ratings")])),
        subject_alt_names: Vec::new(),
        resolution: Resolution::Static,
        ..entry(RATINGS)
    };
    let mut resources = with(entry, None);
    resources.workload_entries = vec![
        workload("a", NS, &[("app", "ratings")]),
        labelled,
        workload("c", "other", &[("app", "ratings")]),
        workload("d", NS, &[]),
    ];
    let cluster = opened(&resources).cluster(RATINGS, 9080);
    assert_eq!(cluster.endpoints.len(), 2);
    let wanted = ["spiffe://cluster.local/ns/bookinfo/sa/a", "spiffe://cluster.local/ns/bookinfo/sa/b"];
    assert_eq!(mutual(&cluster).expected, wanted);
    // Nobody is selected: the host is there, and nothing can be reached.
    resources.workload_entries.clear();
    let opened = opened(&resources);
    assert!(opened.cluster(RATINGS, 9080).endpoints.is_empty());
    assert!(opened.warnings.iter().any(|warning| warning.contains("no WorkloadEntry is selected")));
}

#[test]
fn endpoints_that_cannot_be_are_refused() {
    let with_endpoints = |resolution, addresses: &[&str]| ServiceEntry {
        resolution,
        endpoints: addresses.iter().map(|address| endpoint(address, &[])).collect(),
        ..entry(RATINGS)
    };
    let target = ServiceEntry { target_ports: [(9080, 1)].into(), ..with_endpoints(Resolution::None, &[]) };
    for (entry, said) in [
        (with_endpoints(Resolution::Static, &["a.example"]), "expected an IP address with resolution STATIC"),
        (with_endpoints(Resolution::Static, &[]), "expected at least one with resolution STATIC"),
        (with_endpoints(Resolution::Dns, &["unix:///x"]), "expected an IP address or a DNS name"),
        (with_endpoints(Resolution::Dns, &[""]), "expected an IP address or a DNS name"),
        (with_endpoints(Resolution::None, &["10.0.0.1"]), "with resolution NONE"),
        (with_endpoints(Resolution::DnsRoundRobin, &["a", "b"]), "at most one with resolution DNS_ROUND_ROBIN"),
        (target, "targetPort is not supported with resolution NONE"),
    ] {
        let text = error(entry, None);
        assert!(text.starts_with("mesh.yaml:7: ServiceEntry ratings: spec.") && text.contains(said), "{text}");
    }
    let wild = ServiceEntry { endpoints: Vec::new(), ..external("*.example.com") };
    assert!(refused(&with(wild, None))[0].contains("a wildcard cannot be looked up"));
    let wild = ServiceEntry { hosts: vec!["*.example.com".to_owned()], ..entry("*.example.com") };
    assert!(refused(&with(wild, None))[0].contains("which no server name stands for"));
    let name = refused(&with(ServiceEntry { hosts: vec!["a..b".to_owned()], ..entry(RATINGS) }, None));
    assert!(name[0].contains("found the host \"a..b\""), "{name:?}");
}

#[test]
fn what_is_spoken_follows_the_port_and_the_rule() {
    let of = |protocol: &str, pool: istio::ConnectionPool| {
        let policy = TrafficPolicy { connection_pool: Some(pool), ..TrafficPolicy::default() };
        cluster(ServiceEntry { ports: vec![port(9080, protocol)], ..entry(RATINGS) }, Some(policy)).protocol
    };
    let plain = istio::ConnectionPool::default;
    for (protocol, wanted) in [
        ("HTTP", Protocol::Http1),
        ("HTTP2", Protocol::Http2),
        ("GRPC", Protocol::Http2),
        ("grpc-web", Protocol::Http2),
        ("TCP", Protocol::Tcp),
        ("TLS", Protocol::Tcp),
        ("HTTPS", Protocol::Tcp),
        ("MONGO", Protocol::Tcp),
        ("", Protocol::Client),
    ] {
        assert_eq!(of(protocol, plain()), wanted, "{protocol}");
    }
    let upgrade = || istio::ConnectionPool { h2_upgrade_policy: Some(istio::H2UpgradePolicy::Upgrade), ..plain() };
    assert_eq!(of("HTTP", upgrade()), Protocol::Http2);
    assert_eq!(of("TCP", upgrade()), Protocol::Tcp);
    assert_eq!(of("HTTP", istio::ConnectionPool { use_client_protocol: true, ..upgrade() }), Protocol::Client);
}

#[test]
fn ports_of_services_are_known_by_their_app_protocol_or_their_name() {
    let of = |number: u16, name: &str, app_protocol: Option<&str>| {
        let mut service = kubernetes("reviews", number);
        service.ports[0].name = name.to_owned();
        service.ports[0].app_protocol = app_protocol.map(str::to_owned);
        let resources = Resources {
            service_entries: vec![ServiceEntry { ports: vec![port(number, "HTTP")], ..entry(RATINGS) }],
            services: vec![service],
            virtual_services: vec![routes("reviews", &["reviews"], vec![forward(to("ratings"))])],
            ..Resources::default()
        };
        // The service exists inside of the cluster only. Routes of HTTP, which a port of bytes has none of, lead elsewhere.
        let host = opened(&resources).host_for((NS, &[]), "reviews.bookinfo", number);
        host.map_or(Protocol::Tcp, |host| host.protocol)
    };
    // Istio's `ConvertProtocol`; its table of tests has the same.
    for (number, name, app_protocol, wanted) in [
        (80, "http", None, Protocol::Http1),
        (80, "HTTP-api", None, Protocol::Http1),
        (80, "http_proxy", None, Protocol::Http1),
        (80, "grpc-api", None, Protocol::Http2),
        (80, "grpc-web", None, Protocol::Http2),
        (80, "gRPC-web-x", None, Protocol::Http2),
        (80, "grpc-webs", None, Protocol::Http2),
        (80, "http2", None, Protocol::Http2),
        (80, "tcp-a", None, Protocol::Tcp),
        (80, "https", None, Protocol::Tcp),
        (80, "redis-1", None, Protocol::Tcp),
        (80, "some", None, Protocol::Client),
        (80, "", None, Protocol::Client),
        (80, "httpx", None, Protocol::Client),
        // What is known to begin with the server, unless something is said.
        (25, "", None, Protocol::Tcp),
        (53, "dns", None, Protocol::Tcp),
        (3306, "some", None, Protocol::Tcp),
        (27017, "some-x", None, Protocol::Tcp),
        (27017, "http", None, Protocol::Http1),
        (3306, "http", Some("some"), Protocol::Tcp),
        // The application's protocol goes before the name.
        (80, "tcp", Some("http"), Protocol::Http1),
        (80, "http", Some("tcp"), Protocol::Tcp),
        (80, "http", Some("grpc"), Protocol::Http2),
        (80, "http", Some("GRPC-Web"), Protocol::Http2),
        (80, "tcp", Some("kubernetes.io/h2c"), Protocol::Http2),
        (80, "tcp", Some("kubernetes.io/ws"), Protocol::Http1),
        (80, "http", Some("kubernetes.io/wss"), Protocol::Tcp),
        (80, "http", Some("HTTP-x"), Protocol::Http1),
        // An unknown one is no error, and the name does not count.
        (80, "http", Some("example.com/own"), Protocol::Client),
        (80, "http", Some(""), Protocol::Client),
        (80, "kubernetes.io/h2c", None, Protocol::Client),
    ] {
        assert_eq!(of(number, name, app_protocol), wanted, "{number} {name:?} {app_protocol:?}");
    }
    // A ServiceEntry says its protocol, and neither its name nor its number counts.
    let entry = |number: u16, name: &str| {
        let mut entry = ServiceEntry { ports: vec![port(number, "")], ..entry(RATINGS) };
        entry.ports[0].name = name.to_owned();
        cluster(entry, None).protocol
    };
    assert_eq!((entry(3306, "some"), entry(9080, "http")), (Protocol::Client, Protocol::Client));
}

#[test]
fn a_port_of_bytes_has_one_route_without_anything() {
    let entry = ServiceEntry { ports: vec![port(5432, "TCP")], ..entry(RATINGS) };
    let mut resources = with(entry, None);
    resources.virtual_services = vec![routes("r", &["ratings"], vec![matching("a", prefix("/a"), to("ratings"))])];
    let opened = opened(&resources);
    let host = opened.host(RATINGS, 5432);
    let [route] = host.routes.as_slice() else { panic!("{host:?}") };
    assert!(route.matches.is_empty());
    assert_eq!((route.retry.attempts, route.timeout_ms), (0, 0));
    assert_eq!(opened.cluster(RATINGS, 5432).protocol, Protocol::Tcp);
}

#[test]
fn passthrough_goes_to_what_the_client_named() {
    let balancer =
        istio::LoadBalancer { policy: istio::LoadBalancerPolicy::Passthrough, ..istio::LoadBalancer::default() };
    let policy = TrafficPolicy { load_balancer: Some(balancer), ..TrafficPolicy::default() };
    let found = cluster(ServiceEntry { location: Location::MeshExternal, ..entry(RATINGS) }, Some(policy));
    assert_eq!((found.resolution, found.endpoints.len()), (table::Resolution::Original, 0));
}
