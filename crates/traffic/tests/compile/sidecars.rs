//! `Sidecar`: what workloads see, and where.

use istio::{OutboundTrafficMode, Resources, ServiceEntry, Sidecar, SidecarEgress, VirtualService};
use traffic::table::Outbound;

use crate::build::*;

const RATINGS: &str = "ratings.bookinfo.svc.cluster.local";
const DETAILS: &str = "details.shop.svc.cluster.local";

fn egress(hosts: &[&str]) -> SidecarEgress {
    SidecarEgress { port: None, bind: None, hosts: hosts.iter().map(|host| (*host).to_owned()).collect() }
}

fn sidecar(namespace: &str, egress: Vec<SidecarEgress>) -> Sidecar {
    Sidecar { meta: meta("default", namespace), workload_selector: None, egress, outbound_traffic_policy: None }
}

fn with(sidecars: Vec<Sidecar>) -> Opened {
    let details = ServiceEntry { meta: meta("details", "shop"), ..entry(DETAILS) };
    opened(&Resources {
        service_entries: vec![entry(RATINGS), details],
        virtual_services: vec![VirtualService {
            meta: meta("d", "shop"),
            ..routes("d", &[DETAILS], vec![forward(to(RATINGS))])
        }],
        sidecars,
        ..Resources::default()
    })
}

fn seen(opened: &Opened, namespace: &str, labels: &[(&str, &str)]) -> Vec<String> {
    let hosts = [RATINGS, DETAILS].into_iter();
    hosts.filter(|host| opened.host_for((namespace, labels), host, 9080).is_some()).map(str::to_owned).collect()
}

#[test]
fn its_hosts_are_all_that_its_workloads_see() {
    for (hosts, wanted) in [
        (&["*/*"][..], &[RATINGS, DETAILS][..]),
        (&["./*"], &[RATINGS]),
        (&["shop/*"], &[DETAILS]),
        (&["shop/details.shop.svc.cluster.local"], &[DETAILS]),
        (&["*/*.shop.svc.cluster.local"], &[DETAILS]),
        (&["bookinfo/details.shop.svc.cluster.local"], &[]),
        (&["*/*", "~shop/*"], &[RATINGS]),
        (&["~/*"], &[]),
    ] {
        let opened = with(vec![sidecar(NS, vec![egress(hosts)])]);
        assert_eq!(seen(&opened, NS, &[]), wanted, "{hosts:?}");
        assert_eq!(seen(&opened, "other", &[]).len(), 2);
    }
}

#[test]
fn what_routes_lead_to_is_reached_all_the_same() {
    let opened = with(vec![sidecar(NS, vec![egress(&["shop/*"])])]);
    assert_eq!(opened.cluster(DETAILS, 9080).host, RATINGS);
}

#[test]
fn one_with_a_selector_goes_before_one_without_and_the_roots_is_the_last() {
    let of = Sidecar { workload_selector: Some(selector(&[("app", "a")])), ..sidecar(NS, vec![egress(&["shop/*"])]) };
    let opened =
        with(vec![sidecar("istio-system", vec![egress(&["~/*"])]), sidecar(NS, vec![egress(&["bookinfo/*"])]), of]);
    assert_eq!(seen(&opened, NS, &[("app", "a")]), [DETAILS]);
    assert_eq!(seen(&opened, NS, &[]), [RATINGS]);
    assert!(seen(&opened, "other", &[]).is_empty());
}

#[test]
fn the_root_namespaces_dot_is_the_clients_namespace() {
    let opened = with(vec![sidecar("istio-system", vec![egress(&["./*"])])]);
    assert_eq!(seen(&opened, NS, &[]), [RATINGS]);
    assert_eq!(seen(&opened, "shop", &[]), [DETAILS]);
    assert!(seen(&opened, "other", &[]).is_empty());
}

#[test]
fn listeners_of_their_own() {
    let with_port = |number: u16, protocol: &str, hosts: &[&str]| SidecarEgress {
        port: Some(port(number, protocol)),
        ..egress(hosts)
    };
    let bound = SidecarEgress { bind: Some("127.0.0.9".to_owned()), ..with_port(9080, "HTTP", &["shop/*"]) };
    let opened =
        with(vec![sidecar(NS, vec![bound, with_port(7000, "HTTP_PROXY", &["*/*"]), with_port(1, "HTTP", &["*/*"])])]);
    // Without a listener for everything nothing else is seen.
    assert!(seen(&opened, NS, &[]).is_empty());
    let listeners = opened.rules.view(Some(NS), &[]).unwrap().listeners();
    let [bound, proxy, empty] = listeners.as_slice() else { panic!("{listeners:?}") };
    assert_eq!((bound.address.as_str(), bound.port, bound.names.len()), ("127.0.0.9", 9080, 1));
    // A single name: every host is that one.
    assert_eq!(bound.find("localhost", 1), Some(bound.names[0].virtual_host));
    assert_eq!((proxy.address.as_str(), proxy.names.len()), ("127.0.0.1", 2));
    assert!(proxy.find(RATINGS, 9080).is_some() && proxy.find("localhost", 9080).is_none());
    assert!(empty.names.is_empty());
}

#[test]
fn other_hosts_are_refused_unless_somebody_says_otherwise() {
    let mut resources = Resources::default();
    let outbound =
        |resources: &Resources, namespace: &str| opened(resources).rules.view(Some(namespace), &[]).unwrap().outbound();
    assert_eq!(outbound(&resources, NS), Outbound::RegistryOnly);
    resources.mesh.outbound_traffic_policy = Some(OutboundTrafficMode::AllowAny);
    assert_eq!(outbound(&resources, NS), Outbound::AllowAny);
    let own = Sidecar { outbound_traffic_policy: Some(OutboundTrafficMode::RegistryOnly), ..sidecar(NS, Vec::new()) };
    resources.sidecars = vec![own];
    assert_eq!((outbound(&resources, NS), outbound(&resources, "x")), (Outbound::RegistryOnly, Outbound::AllowAny));
}
