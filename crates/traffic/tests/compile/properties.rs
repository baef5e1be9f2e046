//! Whatever the documents say: no panic, and what compiles opens and can be used whole.

use std::collections::BTreeMap;

use istio::{
    ClientTlsMode, Destination, DestinationRule, Endpoint, ExportTo, HttpAction, HttpMatch, HttpRoute, Location,
    Resolution, Resources, Service, ServiceEntry, Sidecar, SidecarEgress, StringMatch, VirtualService, WorkloadEntry,
};
use proptest::prelude::*;
use traffic::route::Routes;
use traffic::table::{Action, Resolution as Resolved, Tls};
use traffic::{Rules, compile};

use crate::build::*;

const NAMESPACES: [&str; 3] = ["a", "b", "istio-system"];
const HOSTS: [&str; 8] =
    ["x", "y", "x.a.svc.cluster.local", "x.example", "*.example", "*", "y.x.example", "*.a.svc.cluster.local"];
const LABELS: [(&str, &str); 3] = [("app", "1"), ("app", "2"), ("v", "1")];

fn namespace() -> impl Strategy<Value = String> {
    prop::sample::select(&NAMESPACES[..]).prop_map(str::to_owned)
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![9 => prop::sample::select(&HOSTS[..]).prop_map(str::to_owned), 1 => "[a-zA-Z*._-]{0,8}"]
}

fn some_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::sample::subsequence(&LABELS[..], 0..=2).prop_map(|pairs| labels(&pairs))
}

fn export_to() -> impl Strategy<Value = Vec<ExportTo>> {
    let word = prop_oneof![
        Just(ExportTo::All),
        Just(ExportTo::Own),
        Just(ExportTo::Nobody),
        namespace().prop_map(ExportTo::Namespace)
    ];
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(word, 1..3)]
}

fn a_port() -> impl Strategy<Value = u16> {
    prop::sample::select(&[80u16, 443, 9080][..])
}

fn an_endpoint() -> impl Strategy<Value = Endpoint> {
    let address = prop::sample::select(&["10.0.0.1", "gw.example", "", "a b"][..]);
    let account = prop::sample::select(&[None, Some("sa"), Some("s a")][..]);
    (address, some_labels(), account, prop::sample::select(&["", "r/z", "r/z/s/t"][..]), 0u32..3).prop_map(
        |(address, labels, account, locality, weight)| Endpoint {
            labels,
            weight,
            locality: locality.to_owned(),
            service_account: account.map(str::to_owned),
            ..endpoint(address, &[])
        },
    )
}

fn an_entry() -> impl Strategy<Value = ServiceEntry> {
    let resolution = prop_oneof![
        Just(Resolution::None),
        Just(Resolution::Dns),
        Just(Resolution::DnsRoundRobin),
        Just(Resolution::Static)
    ];
    let names = prop::sample::select(&[None, Some("spiffe://cluster.local/ns/a/sa/b"), Some("no")][..]);
    let ports = prop::collection::vec((a_port(), prop::sample::select(&["HTTP", "TCP", "GRPC", ""][..])), 1..3);
    let main = (namespace(), prop::collection::vec(host(), 1..3), ports, resolution, any::<bool>());
    (main, prop::collection::vec(an_endpoint(), 0..3), prop::option::of(some_labels()), names, export_to()).prop_map(
        |((namespace, hosts, ports, resolution, is_internal), endpoints, selected, names, export_to)| ServiceEntry {
            meta: meta("entry", &namespace),
            hosts,
            ports: ports.into_iter().map(|(number, protocol)| port(number, protocol)).collect(),
            target_ports: BTreeMap::new(),
            location: if is_internal { Location::MeshInternal } else { Location::MeshExternal },
            resolution,
            endpoints,
            workload_selector: selected.map(|match_labels| istio::WorkloadSelector { match_labels }),
            subject_alt_names: names.into_iter().map(str::to_owned).collect(),
            export_to,
        },
    )
}

fn destination() -> impl Strategy<Value = Destination> {
    (host(), prop::option::of(prop::sample::select(&["v1", "v2"][..])), prop::option::of(a_port()))
        .prop_map(|(host, subset, port)| Destination { host, subset: subset.map(str::to_owned), port })
}

fn a_match() -> impl Strategy<Value = HttpMatch> {
    let text = prop_oneof![
        "[/a-z(]{0,3}".prop_map(StringMatch::Regex),
        Just(StringMatch::Prefix("/".to_owned())),
        Just(StringMatch::Present)
    ];
    let gateways = prop::sample::select(vec![vec![], vec!["mesh"], vec!["a/b"]]);
    (prop::option::of(text), prop::option::of(a_port()), some_labels(), prop::option::of(namespace()), gateways)
        .prop_map(|(uri, port, source_labels, source_namespace, gateways)| HttpMatch {
            uri,
            port,
            source_labels,
            source_namespace,
            gateways: gateways.iter().map(|gateway| (*gateway).to_owned()).collect(),
            ..HttpMatch::default()
        })
}

fn a_route() -> impl Strategy<Value = HttpRoute> {
    let destinations = prop::collection::vec((destination(), 0u32..3), 0..3);
    (destinations, prop::collection::vec(a_match(), 0..3), any::<bool>()).prop_map(|(to, matches, has_cors_policy)| {
        let action = HttpAction::Route(to.into_iter().map(|(to, weight)| weighted(to, weight)).collect());
        HttpRoute { matches, has_cors_policy, ..http(action) }
    })
}

fn a_service() -> impl Strategy<Value = VirtualService> {
    let hosts = prop::collection::vec(host(), 0..3);
    (namespace(), hosts, prop::collection::vec(a_route(), 0..3), export_to()).prop_map(
        |(namespace, hosts, http, export_to)| VirtualService {
            meta: meta("routes", &namespace),
            hosts,
            export_to,
            ..routes("", &[], http)
        },
    )
}

fn a_rule() -> impl Strategy<Value = DestinationRule> {
    let mode = prop::option::of(prop_oneof![
        3 => Just(ClientTlsMode::IstioMutual),
        1 => Just(ClientTlsMode::Simple),
        1 => Just(ClientTlsMode::Disable)
    ]);
    (namespace(), host(), mode, some_labels(), export_to(), prop::option::of(some_labels())).prop_map(
        |(namespace, host, mode, subset, export_to, selected)| {
            let mut rule = with_subset("rule", &host, "v1");
            rule.subsets[0].labels = subset;
            DestinationRule {
                meta: meta("rule", &namespace),
                traffic_policy: mode.map(tls),
                export_to,
                workload_selector: selected.map(|match_labels| istio::WorkloadSelector { match_labels }),
                ..rule
            }
        },
    )
}

fn a_sidecar() -> impl Strategy<Value = Sidecar> {
    let hosts =
        (prop::sample::select(&["*", ".", "~", "a", "~b"][..]), host()).prop_map(|(of, host)| format!("{of}/{host}"));
    let egress = (prop::option::of(a_port()), prop::collection::vec(hosts, 1..3)).prop_map(|(number, hosts)| {
        SidecarEgress { port: number.map(|number| port(number, "HTTP")), bind: None, hosts }
    });
    (namespace(), prop::collection::vec(egress, 0..3), prop::option::of(some_labels())).prop_map(
        |(namespace, egress, selected)| Sidecar {
            meta: meta("default", &namespace),
            workload_selector: selected.map(|match_labels| istio::WorkloadSelector { match_labels }),
            egress,
            outbound_traffic_policy: None,
        },
    )
}

fn resources() -> impl Strategy<Value = Resources> {
    let workload = (namespace(), an_endpoint())
        .prop_map(|(namespace, endpoint)| WorkloadEntry { meta: meta("w", &namespace), endpoint });
    let service = (namespace(), a_port())
        .prop_map(|(namespace, port)| Service { meta: meta("x", &namespace), ..kubernetes("x", port) });
    (
        prop::collection::vec(an_entry(), 0..4),
        prop::collection::vec(a_service(), 0..4),
        prop::collection::vec(a_rule(), 0..4),
        prop::collection::vec(a_sidecar(), 0..2),
        prop::collection::vec(workload, 0..2),
        prop::collection::vec(service, 0..2),
    )
        .prop_map(
            |(service_entries, virtual_services, destination_rules, sidecars, workload_entries, services)| Resources {
                service_entries,
                virtual_services,
                destination_rules,
                sidecars,
                workload_entries,
                services,
                ..Resources::default()
            },
        )
}

/// Documents that compile: of a few hosts, each with rules that are told apart by a limit.
fn good() -> impl Strategy<Value = Resources> {
    let hosts = vec!["x.a.svc.cluster.local", "y.b.svc.cluster.local", "x.example", "y.x.example"];
    let entry =
        (prop::sample::select(hosts.clone()), namespace(), export_to()).prop_map(|(host, namespace, export_to)| {
            ServiceEntry { meta: meta("entry", &namespace), export_to, ..external(host) }
        });
    let wild = vec!["*", "*.example", "*.svc.cluster.local"];
    let of = prop::sample::select([hosts.clone(), wild].concat());
    let rule = (of.clone(), namespace(), export_to(), prop::option::of(some_labels()), 1u32..1_000).prop_map(
        |(host, namespace, export_to, selected, mark)| {
            let pool = istio::ConnectionPool { max_connections: Some(mark), ..istio::ConnectionPool::default() };
            let policy = istio::TrafficPolicy { connection_pool: Some(pool), ..istio::TrafficPolicy::default() };
            DestinationRule {
                meta: meta("rule", &namespace),
                export_to,
                workload_selector: selected.map(|match_labels| istio::WorkloadSelector { match_labels }),
                ..rule("rule", host, policy)
            }
        },
    );
    let http = (prop::sample::select(hosts.clone()), prop::collection::vec(a_match(), 0..2), "[a-z]{3}");
    let http = http.prop_map(|(host, matches, name)| {
        let matches = matches.into_iter().map(|found| HttpMatch { uri: None, ..found }).collect();
        HttpRoute { name, matches, ..forward(to(host)) }
    });
    let service = (of, namespace(), export_to(), prop::collection::vec(http, 1..3)).prop_map(
        |(host, namespace, export_to, http)| VirtualService {
            meta: meta("routes", &namespace),
            export_to,
            ..routes("", &[host], http)
        },
    );
    let some =
        (prop::collection::vec(entry, 1..5), prop::collection::vec(rule, 0..4), prop::collection::vec(service, 0..3));
    some.prop_map(|(mut service_entries, destination_rules, virtual_services)| {
        let mut seen = std::collections::BTreeSet::new();
        service_entries.retain(|entry| seen.insert((entry.hosts.clone(), entry.meta.namespace.clone())));
        Resources { service_entries, destination_rules, virtual_services, ..Resources::default() }
    })
}

/// What holds of every table: parts are there, nothing goes to the mesh in the clear, and every name is found.
fn check(section: &[u8], client: (&str, &BTreeMap<String, String>)) {
    let rules = Rules::open(section).expect("what was compiled opens");
    let labels: Vec<_> = client.1.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let view = rules.view(Some(client.0), &labels).expect("everybody has a view");
    for (host, port) in view.names() {
        assert!(view.find(&host, port).is_some(), "{host}:{port}");
    }
    for (host, port) in view.wildcards() {
        assert!(view.find(&format!("zz{}", host.trim_start_matches('*')), port).is_some(), "{host}:{port}");
    }
    for index in 0..u32::try_from(rules.virtual_hosts()).unwrap() {
        let host = rules.virtual_host(index).unwrap();
        for route in &host.routes {
            if let Action::Forward(forward) = &route.action {
                assert!(!forward.destinations.is_empty());
            }
        }
        Routes::new(host, &labels).expect("routes that were compiled can be used");
    }
    for index in 0..u32::try_from(rules.clusters()).unwrap() {
        let cluster = rules.cluster(index).unwrap();
        match &cluster.tls {
            Tls::IstioMutual(mutual) => assert!(!mutual.expected.is_empty() && !mutual.sni.is_empty()),
            Tls::Simple(_) => {}
            Tls::Plaintext => assert!(cluster.endpoints.iter().all(|found| !found.address.is_empty()), "{cluster:?}"),
        }
        assert!(cluster.resolution != Resolved::Original || cluster.endpoints.is_empty());
    }
}

/// Hosts that are in the mesh alone, whatever else is said.
fn internal(resources: &Resources) -> Vec<&str> {
    let of = |is_internal: bool| {
        let entries = resources
            .service_entries
            .iter()
            .filter(move |entry| (entry.location == Location::MeshInternal) == is_internal);
        entries.flat_map(|entry| entry.hosts.iter().map(String::as_str))
    };
    of(true).filter(|host| !of(false).any(|other| other.eq_ignore_ascii_case(host))).collect()
}

/// What a client finds, with every index followed.
fn resolved(rules: &Rules, client: (&str, &BTreeMap<String, String>)) -> Vec<String> {
    let labels: Vec<_> = client.1.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let view = rules.view(Some(client.0), &labels).unwrap();
    let names = view.names().into_iter().chain(view.wildcards());
    let said = names.map(|(host, port)| {
        let index = view.find(&host.replace('*', "zz"), port).unwrap();
        let host = rules.virtual_host(index).unwrap();
        let clusters = host.routes.iter().flat_map(|route| match &route.action {
            Action::Forward(forward) => forward.destinations.clone(),
            Action::Redirect(_) | Action::Direct(_) => Vec::new(),
        });
        let clusters: Vec<_> = clusters.map(|found| (found.weight, rules.cluster(found.cluster))).collect();
        let matches: Vec<_> = host.routes.iter().map(|route| (&route.name, &route.matches)).collect();
        format!("{}:{port} {matches:?} {clusters:?}", host.host)
    });
    said.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_compiles_opens_and_is_whole(resources in prop_oneof![resources(), good()], of in namespace(), labels in some_labels()) {
        match compile(&resources) {
            Ok(compiled) => {
                check(&compiled.section, (&of, &labels));
                let rules = Rules::open(&compiled.section).unwrap();
                let internal = internal(&resources);
                for index in 0..u32::try_from(rules.clusters()).unwrap() {
                    let cluster = rules.cluster(index).unwrap();
                    let is_internal = internal.iter().any(|host| host.eq_ignore_ascii_case(&cluster.host));
                    if is_internal && (!cluster.endpoints.is_empty() || cluster.resolution == Resolved::Original) {
                        prop_assert!(matches!(cluster.tls, Tls::IstioMutual(_)), "{cluster:?}");
                    }
                }
            }
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                for error in &errors {
                    prop_assert!(error.starts_with("mesh.yaml:7: ") || error.starts_with("found "), "{error}");
                }
            }
        }
        prop_assert_eq!(compile(&resources), compile(&resources));
    }

    /// Only namespaces that may see something of their own are compiled. A `Sidecar` that says nothing has each compiled,
    /// and changes nothing.
    #[test]
    fn a_namespace_without_a_view_of_its_own_sees_what_all_see(
        plain in good(), labels in some_labels(), of in prop::sample::select(&["a", "b", "istio-system", "x"][..])
    ) {
        let mut forced = plain.clone();
        forced.sidecars = NAMESPACES.iter().map(|namespace| Sidecar {
            meta: meta("default", namespace),
            workload_selector: None,
            egress: Vec::new(),
            outbound_traffic_policy: None,
        }).collect();
        let (plain, forced) = (compile(&plain), compile(&forced));
        let open = |section: &[u8]| Rules::open(section).unwrap();
        let found = resolved(&open(&plain.unwrap().section), (of, &labels));
        prop_assert_eq!(found, resolved(&open(&forced.unwrap().section), (of, &labels)));
    }
}
