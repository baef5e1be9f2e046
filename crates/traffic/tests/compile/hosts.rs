//! Which hosts there are, and at which ports.

use istio::{ExportTo, Resolution, Resources, ServiceEntry, VirtualService};
use traffic::table::{self, Outbound};

use crate::build::*;

const RATINGS: &str = "ratings.bookinfo.svc.cluster.local";

#[test]
fn an_entry_is_a_host_at_its_ports() {
    let opened = opened(&Resources { service_entries: vec![entry(RATINGS)], ..Resources::default() });
    assert_eq!(opened.rules.trust_domain(), "cluster.local");
    for host in ["Ratings.bookinfo.svc.cluster.local.", "ratings.bookinfo.svc", "ratings.bookinfo", "ratings"] {
        assert!(opened.knows(host, 9080), "{host}");
    }
    assert!(!opened.knows(RATINGS, 80));
    // A short name is a service of the client's own namespace.
    assert!(opened.host_for(("other", &[]), "ratings", 9080).is_none());
    assert!(opened.host_for(("other", &[]), "ratings.bookinfo", 9080).is_some());
    let view = opened.rules.view(None, &[]).unwrap();
    assert_eq!(view.names(), [(RATINGS.to_owned(), 9080)]);
    assert!(view.find("ratings", 9080).is_none());
    assert_eq!(view.outbound(), Outbound::RegistryOnly);
}

#[test]
fn a_wildcard_covers_what_no_exact_host_does_the_longest_first() {
    let wildcard = |host: &str| ServiceEntry { resolution: Resolution::None, ..external(host) };
    let resources = Resources {
        service_entries: vec![wildcard("*.example.com"), wildcard("*.api.example.com"), external("a.api.example.com")],
        ..Resources::default()
    };
    let opened = opened(&resources);
    for (asked, found) in [
        ("a.api.example.com", "a.api.example.com"),
        ("b.api.example.com", "*.api.example.com"),
        ("api.example.com", "*.example.com"),
        ("x.y.example.com", "*.example.com"),
    ] {
        assert_eq!(opened.host(asked, 80).host, found, "{asked}");
    }
    assert!(!opened.knows("example.com", 80));
    assert!(!opened.knows("b.api.example.com", 81));
    assert_eq!(opened.cluster("x.example.com", 80).resolution, table::Resolution::Original);
}

/// Every service behind an API is one, and no mistake: nothing is said.
#[test]
fn a_service_of_the_cluster_alone_is_left_out() {
    let resources = Resources {
        service_entries: vec![entry(RATINGS)],
        services: vec![kubernetes("ratings", 9080), kubernetes("reviews", 9080), kubernetes("details", 9080)],
        ..Resources::default()
    };
    let opened = opened(&resources);
    assert!(opened.knows(RATINGS, 9080) && !opened.knows("reviews.bookinfo.svc.cluster.local", 9080));
    assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
}

#[test]
fn a_service_of_the_cluster_is_there_when_its_routes_lead_elsewhere() {
    let resources = Resources {
        service_entries: vec![entry(RATINGS)],
        services: vec![kubernetes("reviews", 9080)],
        virtual_services: vec![routes("reviews", &["reviews"], vec![forward(to("ratings"))])],
        ..Resources::default()
    };
    let opened = opened(&resources);
    assert_eq!(opened.cluster("reviews.bookinfo", 9080).host, RATINGS);
}

#[test]
fn a_host_that_is_no_service_is_at_port_80() {
    let service = routes("shop", &["shop.example", "*.shop.example"], vec![forward(to("ratings"))]);
    let resources =
        Resources { service_entries: vec![entry(RATINGS)], virtual_services: vec![service], ..Resources::default() };
    let opened = opened(&resources);
    for host in ["shop.example", "a.shop.example"] {
        // "If a service exposes only a single port it is not required to explicitly select the port."
        assert_eq!(opened.cluster(host, 80).name, format!("outbound|9080||{RATINGS}"));
        assert!(!opened.knows(host, 9080), "{host}");
    }
}

#[test]
fn hosts_beside_a_service_are_at_its_ports() {
    let service = routes("ratings", &["ratings", "old.example"], vec![forward(to("ratings"))]);
    let resources =
        Resources { service_entries: vec![entry(RATINGS)], virtual_services: vec![service], ..Resources::default() };
    let opened = opened(&resources);
    assert_eq!(opened.cluster("old.example", 9080).host, RATINGS);
    // The service has no port 80, and nothing names another one there.
    assert!(!opened.knows(RATINGS, 80));
}

#[test]
fn of_two_for_one_host_the_first_counts_and_the_second_is_named() {
    let first = routes("first", &["ratings"], vec![matching("first", prefix("/a"), to("ratings"))]);
    let second = routes("second", &["ratings"], vec![forward(to("ratings"))]);
    let resources = Resources {
        service_entries: vec![entry(RATINGS)],
        virtual_services: vec![first, second],
        ..Resources::default()
    };
    let opened = opened(&resources);
    let host = opened.host(RATINGS, 9080);
    assert_eq!(host.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["first"]);
    assert!(
        opened.warnings.iter().any(|warning| warning.starts_with("mesh.yaml:7: VirtualService second: spec.hosts"))
    );
}

#[test]
fn a_host_twice_in_one_document_is_there_once() {
    let twice = routes("r", &["ratings", RATINGS, "x.example", "X.example"], vec![forward(to("ratings"))]);
    let resources =
        Resources { service_entries: vec![entry(RATINGS)], virtual_services: vec![twice], ..Resources::default() };
    let opened = opened(&resources);
    let names = opened.rules.view(None, &[]).unwrap().names();
    let wanted = [(RATINGS, 9080), ("x.example", 80), ("x.example", 9080)];
    assert_eq!(names, wanted.map(|(host, port)| (host.to_owned(), port)));
    assert!(opened.warnings.iter().all(|warning| !warning.contains("already")), "{:?}", opened.warnings);
}

#[test]
fn the_most_specific_wildcard_speaks_for_a_service() {
    let of = |name: &str, host: &str| routes(name, &[host], vec![HttpNamed(name).forward()]);
    let resources = Resources {
        service_entries: vec![entry(RATINGS), entry("reviews.other.svc.cluster.local")],
        virtual_services: vec![of("all", "*.svc.cluster.local"), of("near", "*.bookinfo.svc.cluster.local")],
        ..Resources::default()
    };
    let opened = opened(&resources);
    assert_eq!(opened.host(RATINGS, 9080).routes[0].name, "near");
    assert_eq!(opened.host("reviews.other", 9080).routes[0].name, "all");
}

struct HttpNamed<'a>(&'a str);

impl HttpNamed<'_> {
    fn forward(&self) -> istio::HttpRoute {
        istio::HttpRoute { name: self.0.to_owned(), ..forward(to("ratings")) }
    }
}

#[test]
fn gateways_of_others_do_not_count() {
    let service = VirtualService {
        gateways: vec!["bookinfo/public".to_owned()],
        ..routes("shop", &["shop.example"], vec![forward(to("ratings"))])
    };
    let resources =
        Resources { service_entries: vec![entry(RATINGS)], virtual_services: vec![service], ..Resources::default() };
    assert!(!opened(&resources).knows("shop.example", 80));
}

#[test]
fn what_is_exported_to_some_is_seen_by_those() {
    let hidden = ServiceEntry { export_to: vec![ExportTo::Own], ..entry(RATINGS) };
    let given = ServiceEntry { export_to: only("shop"), ..entry("details.bookinfo.svc.cluster.local") };
    let private =
        VirtualService { export_to: only("shop"), ..routes("r", &["x.example"], vec![forward(to("details"))]) };
    let resources =
        Resources { service_entries: vec![hidden, given], virtual_services: vec![private], ..Resources::default() };
    let opened = opened(&resources);
    let knows = |namespace: &str, host: &str, port| opened.host_for((namespace, &[]), host, port).is_some();
    assert!(knows(NS, RATINGS, 9080) && !knows("shop", RATINGS, 9080) && !knows("else", RATINGS, 9080));
    assert!(knows("shop", "details.bookinfo", 9080) && !knows("else", "details.bookinfo", 9080));
    assert!(knows("shop", "x.example", 80) && !knows(NS, "x.example", 80));
    let error = opened.rules.view(None, &[]).unwrap_err();
    assert!(error.contains("CAUSEWAY_NAMESPACE"), "{error}");
}

#[test]
fn the_own_namespace_goes_first_for_one_host() {
    let of = |namespace: &str, gateway: &str| ServiceEntry {
        meta: meta("api", namespace),
        endpoints: vec![endpoint(gateway, &[])],
        ..entry("api.example")
    };
    let resources =
        Resources { service_entries: vec![of("a", "a.gateway"), of("b", "b.gateway")], ..Resources::default() };
    let opened = opened(&resources);
    for (namespace, gateway) in [("a", "a.gateway"), ("b", "b.gateway"), ("c", "a.gateway")] {
        let cluster = opened.cluster_for((namespace, &[]), "api.example", 9080);
        assert_eq!(cluster.endpoints[0].address, gateway, "{namespace}");
    }
}

#[test]
fn too_many_destinations_are_refused() {
    let many = |count: u16| {
        let entry = ServiceEntry { ports: (1..=count).map(|number| port(number, "HTTP")).collect(), ..entry(RATINGS) };
        Resources { service_entries: vec![entry], ..Resources::default() }
    };
    opened(&many(10_000));
    assert!(refused(&many(10_001))[0].contains("found 10001 egress destinations, expected at most 10000"));
}

#[test]
fn a_second_entry_for_a_host_and_port_is_refused() {
    let resources = Resources { service_entries: vec![entry(RATINGS), entry(RATINGS)], ..Resources::default() };
    assert_eq!(refused(&resources).len(), 1);
}
