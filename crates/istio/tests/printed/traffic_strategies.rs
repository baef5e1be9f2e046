//! Resources of traffic, any that Istio accepts.

use std::collections::BTreeMap;
use std::time::Duration;

use istio::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::policy_strategies::destination_rule;
use crate::strategies::{labels, meta, text};

/// Those that Kubernetes takes for labels of a workload.
pub(crate) fn valid_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[a-z]{1,3}(\\.[a-z]{1,3}/[A-Za-z]{1,3})?", "([A-Za-z0-9]([._-][a-z0-9])?)?", 0..3)
}

pub(crate) fn time() -> impl Strategy<Value = Duration> {
    (1..10_000_000_u64).prop_map(Duration::from_millis)
}

pub(crate) fn export_to(more: Vec<Vec<ExportTo>>) -> impl Strategy<Value = Vec<ExportTo>> {
    let namespace = |name: &str| ExportTo::Namespace(name.to_owned());
    let mut all = vec![
        Vec::new(),
        vec![ExportTo::All],
        vec![ExportTo::Own],
        vec![namespace("a")],
        vec![ExportTo::Own, namespace("b"), namespace("c")],
    ];
    all.extend(more);
    select(all)
}

pub(crate) fn percent() -> impl Strategy<Value = Percent> {
    (0..=1_000_000_u32).prop_map(Percent::from_millionths)
}

pub(crate) fn host() -> impl Strategy<Value = String> {
    "[a-z]{1,4}(\\.[a-z]{1,3}){0,2}"
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), text()]
}

fn regex() -> impl Strategy<Value = String> {
    select(vec!["a", ".*", "^/v[0-9]+(/.*)?$", "(?i)abc", r"\d+\.x"]).prop_map(str::to_owned)
}

fn some_text() -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        text().prop_map(StringMatch::Exact),
        text().prop_map(StringMatch::Prefix),
        regex().prop_map(StringMatch::Regex),
    ]
}

fn any_match() -> impl Strategy<Value = StringMatch> {
    prop_oneof![4 => some_text(), 1 => Just(StringMatch::Present), 1 => Just(StringMatch::Exact(String::new()))]
}

fn http_match() -> BoxedStrategy<HttpMatch> {
    let parts = (option::of(some_text()), option::of(some_text()), option::of(some_text()), option::of(some_text()));
    let name = || prop_oneof!["x-[a-z0-9]{1,3}", Just(":path".to_owned())];
    let maps = (
        btree_map(name(), any_match(), 0..2),
        btree_map(name(), any_match(), 0..2),
        btree_map(text(), any_match(), 0..2),
    );
    let source = (valid_labels(), option::of("[a-z]{1,4}"), vec("[a-z]{1,3}/[a-z]{1,3}|mesh", 0..2));
    (word(), any::<bool>(), parts, maps, option::of(1..=u16::MAX), source)
        .prop_map(|(name, ignore_uri_case, (uri, scheme, method, authority), maps, port, source)| HttpMatch {
            name,
            uri,
            ignore_uri_case,
            scheme,
            method,
            authority,
            headers: maps.0,
            without_headers: maps.1,
            query_params: maps.2,
            port,
            source_labels: source.0,
            source_namespace: source.1,
            gateways: source.2,
        })
        .boxed()
}

fn destination() -> impl Strategy<Value = Destination> {
    (host(), option::of("[a-zA-Z0-9]{1,4}"), option::of(1..=u16::MAX)).prop_map(|(host, subset, port)| Destination {
        host,
        subset,
        port,
    })
}

fn header_operations() -> impl Strategy<Value = HeaderOperations> {
    let values = || btree_map("x-[a-z]{1,3}", "[ -$&-~é]{1,6}(%%|%REQ\\(x-[a-z]\\)%)?", 0..2);
    let changes = || {
        (values(), values(), vec("x-[a-z]{1,3}", 0..2)).prop_map(|(set, add, remove)| HeaderChanges {
            set,
            add,
            remove,
        })
    };
    (changes(), changes()).prop_map(|(request, response)| HeaderOperations { request, response })
}

fn action() -> BoxedStrategy<HttpAction> {
    let weighted = (destination(), 1..1_000_u32, header_operations());
    let weighted =
        weighted.prop_map(|(destination, weight, headers)| HttpRouteDestination { destination, weight, headers });
    let port = prop_oneof![
        (1..=u16::MAX).prop_map(RedirectPort::Number),
        Just(RedirectPort::FromProtocolDefault),
        Just(RedirectPort::FromRequestPort),
    ];
    let redirect = (
        option::of((any::<bool>(), "/[a-z?=]{0,4}")),
        option::of("[a-z]{1,3}\\.example(:80)?"),
        option::of(port),
        select(vec!["http", "https"]),
        select(vec![301_u16, 302, 303, 307, 308]),
    )
        .prop_map(|(path, authority, port, scheme, code)| HttpRedirect {
            uri: path.clone().filter(|path| path.0).map(|path| path.1),
            prefix_rewrite: path.filter(|path| !path.0).map(|path| path.1),
            authority,
            port,
            scheme: Some(scheme.to_owned()),
            code,
        });
    let body = prop_oneof![word().prop_map(String::into_bytes), Just(vec![0xff])];
    let direct = (200..=599_u16, body).prop_map(|(status, body)| HttpDirectResponse { status, body });
    prop_oneof![
        3 => vec(weighted, 1..3).prop_map(HttpAction::Route),
        1 => redirect.prop_map(HttpAction::Redirect),
        1 => direct.prop_map(HttpAction::DirectResponse),
    ]
    .boxed()
}

fn rewrite() -> impl Strategy<Value = HttpRewrite> {
    let regex = Just(RegexRewrite { pattern: "^/a/(.*)$".to_owned(), substitution: r"/b/\1\\\0".to_owned() });
    let path = prop_oneof![
        "/[a-z]{0,4}".prop_map(|uri| (Some(uri), None)),
        regex.prop_map(|regex| (None, Some(regex))),
        Just((None, None)),
    ];
    (path, option::of(host()))
        .prop_filter("something is rewritten", |((uri, regex), authority)| {
            uri.is_some() || regex.is_some() || authority.is_some()
        })
        .prop_map(|((uri, uri_regex), authority)| HttpRewrite { uri, uri_regex, authority })
}

pub(crate) fn http_retry() -> BoxedStrategy<HttpRetry> {
    let on = subsequence(vec!["5xx", "reset", "503", "connect-failure", "unavailable", "retriable-4xx"], 0..4);
    let flags = (option::of(any::<bool>()), option::of(any::<bool>()));
    (1..100_u32, option::of(time()), on, flags, option::of(time()))
        .prop_map(|(attempts, per_try_timeout, on, flags, backoff)| HttpRetry {
            attempts,
            per_try_timeout,
            retry_on: on.into_iter().map(str::to_owned).collect(),
            retry_remote_localities: flags.0,
            retry_ignore_previous_hosts: flags.1,
            backoff,
        })
        .boxed()
}

fn fault() -> BoxedStrategy<HttpFault> {
    let delay = (percent(), time()).prop_map(|(percentage, fixed_delay)| FaultDelay { percentage, fixed_delay });
    let status = prop_oneof![(200..=599_u16).prop_map(AbortStatus::Http), (0..3_u16).prop_map(AbortStatus::Grpc)];
    let abort = (percent(), status).prop_map(|(percentage, status)| FaultAbort { percentage, status });
    (option::of(delay), option::of(abort))
        .prop_filter("something fails", |(delay, abort)| delay.is_some() || abort.is_some())
        .prop_map(|(delay, abort)| HttpFault { delay, abort })
        .boxed()
}

fn http_route() -> BoxedStrategy<HttpRoute> {
    let mirror =
        (destination(), percent()).prop_map(|(destination, percentage)| HttpMirror { destination, percentage });
    let rest = (vec(mirror, 0..2), header_operations(), any::<bool>());
    let times = (option::of(time()), option::of(http_retry()));
    (word(), vec(http_match(), 0..3), action(), option::of(rewrite()), times, option::of(fault()), rest)
        .prop_map(|(name, mut matches, action, rewrite, (timeout, retries), fault, rest)| {
            let (mirrors, headers, has_cors_policy) = rest;
            let forwards = matches!(action, HttpAction::Route(_));
            if matches!(&action, HttpAction::Redirect(redirect) if redirect.prefix_rewrite.is_some()) {
                // Nothing else than a prefix goes with it.
                for found in matches.iter_mut().filter(|found| !matches!(found.uri, Some(StringMatch::Prefix(_)))) {
                    found.uri = None;
                }
            }
            HttpRoute {
                name,
                matches,
                action,
                rewrite: rewrite.filter(|_| forwards),
                timeout,
                retries,
                fault: fault.filter(|_| forwards),
                mirrors,
                headers,
                has_cors_policy,
            }
        })
        .boxed()
}

fn virtual_service(number: usize) -> BoxedStrategy<VirtualService> {
    let hosts = subsequence(vec!["a", "b.example", "*.c.example", "10.0.0.1"], 1..=4);
    let gateways = subsequence(vec!["mesh", "ns/front", "ns/back"], 1..=3);
    let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
    (meta(number), hosts, gateways, vec(http_route(), 1..3), export_to(Vec::new()))
        .prop_map(move |(meta, hosts, gateways, http, export_to)| VirtualService {
            meta,
            hosts: owned(hosts),
            gateways: owned(gateways),
            http,
            export_to,
        })
        .boxed()
}

fn locality() -> impl Strategy<Value = String> {
    "([a-z]{1,3}(/[a-z]{1,3}){0,2})?"
}

fn endpoint(address: impl Strategy<Value = String> + 'static) -> BoxedStrategy<Endpoint> {
    let ports = btree_map(select(vec!["http", "tls"]), 1..=u16::MAX, 0..2);
    (address, ports, valid_labels(), locality(), 1..=u32::MAX, word(), option::of("[a-z]{1,4}"))
        .prop_map(|(address, ports, labels, locality, weight, network, service_account)| Endpoint {
            address,
            ports: ports.into_iter().map(|(name, port)| (name.to_owned(), port)).collect(),
            labels,
            locality,
            weight,
            network,
            service_account,
        })
        .boxed()
}

fn service_entry(number: usize) -> BoxedStrategy<ServiceEntry> {
    let ip = || select(vec!["10.0.0.1", "2001:db8::1"]).prop_map(str::to_owned);
    let name = prop_oneof![ip(), "[a-z]{1,3}\\.example"];
    let selected = || labels().prop_map(|match_labels| Some(WorkloadSelector { match_labels }));
    let kinds = prop_oneof![
        (Just(Resolution::None), Just(Vec::new()), Just(None)),
        (Just(Resolution::Static), vec(endpoint(ip()), 1..3), Just(None)),
        (Just(Resolution::Dns), vec(endpoint(name), 0..3), Just(None)),
        (Just(Resolution::DnsRoundRobin), vec(endpoint(ip()), 0..2), Just(None)),
        (select(vec![Resolution::Static, Resolution::Dns]), Just(Vec::new()), selected()),
    ];
    let hosts = subsequence(vec!["a.example", "b.example"], 1..=2);
    let targets = (option::of(1..=u16::MAX), option::of(1..=u16::MAX));
    let rest = (any::<bool>(), vec(text(), 0..2), export_to(vec![vec![ExportTo::Nobody]]));
    (meta(number), hosts, targets, kinds, rest)
        .prop_map(|(meta, hosts, targets, (resolution, endpoints, workload_selector), rest)| ServiceEntry {
            meta,
            hosts: hosts.into_iter().map(str::to_owned).collect(),
            ports: [(80, "http", "HTTP"), (443, "tls", "TLS")]
                .map(|(number, name, protocol)| Port { number, name: name.to_owned(), protocol: protocol.to_owned() })
                .to_vec(),
            target_ports: [(80, targets.0), (443, targets.1)]
                .into_iter()
                .filter_map(|(port, target)| Some((port, target?)))
                .collect(),
            location: if rest.0 { Location::MeshInternal } else { Location::MeshExternal },
            resolution,
            endpoints,
            workload_selector,
            subject_alt_names: rest.1,
            export_to: rest.2,
        })
        .boxed()
}

fn workload_entry(number: usize) -> BoxedStrategy<WorkloadEntry> {
    let address = prop_oneof!["10\\.0\\.0\\.[1-9]", "[a-z]{1,3}\\.example"];
    (meta(number), valid_labels(), endpoint(address))
        .prop_map(|(mut meta, labels, mut endpoint)| {
            endpoint.labels.extend(labels.clone());
            meta.labels = labels;
            WorkloadEntry { meta, endpoint }
        })
        .boxed()
}

pub(crate) fn outbound() -> impl Strategy<Value = OutboundTrafficMode> {
    select(vec![OutboundTrafficMode::RegistryOnly, OutboundTrafficMode::AllowAny])
}

fn sidecar(number: usize) -> BoxedStrategy<Sidecar> {
    let hosts = || {
        let known = vec!["*/*", "./*", "~/*", "ns/a.example", "*/*.b.example"];
        subsequence(known, 1..3).prop_map(|hosts| hosts.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let bind = || option::of(select(vec!["127.0.0.1", "127.0.0.2", "::1"]).prop_map(str::to_owned));
    let listener = move |number: u16| {
        ("[a-z]{0,3}", bind(), hosts()).prop_map(move |(name, bind, hosts)| {
            let port = Some(Port { number, name, protocol: "HTTP".to_owned() });
            SidecarEgress { port, bind, hosts }
        })
    };
    let rest = hosts().prop_map(|hosts| SidecarEgress { port: None, bind: None, hosts });
    let egress = (option::of(listener(9080)), option::of(listener(9081)), option::of(rest));
    let egress = egress.prop_map(|(one, two, rest)| one.into_iter().chain(two).chain(rest).collect::<Vec<_>>());
    let selector = option::of(labels().prop_map(|match_labels| WorkloadSelector { match_labels }));
    (meta(number), selector, egress, option::of(outbound()))
        .prop_filter("a Sidecar says something", |(_, _, egress, mode)| !egress.is_empty() || mode.is_some())
        .prop_map(|(meta, workload_selector, egress, outbound_traffic_policy)| Sidecar {
            meta,
            workload_selector,
            egress,
            outbound_traffic_policy,
        })
        .boxed()
}

/// One of each kind, and two of those that are looked for by their namespace.
pub(crate) fn traffic() -> BoxedStrategy<Resources> {
    let sidecars = (sidecar(0), sidecar(1));
    (virtual_service(0), destination_rule(0), service_entry(0), workload_entry(0), sidecars)
        .prop_map(|(virtual_service, destination_rule, service_entry, workload_entry, sidecars)| Resources {
            virtual_services: vec![virtual_service],
            destination_rules: vec![destination_rule],
            service_entries: vec![service_entry],
            workload_entries: vec![workload_entry],
            sidecars: vec![sidecars.0, sidecars.1],
            ..Resources::default()
        })
        .boxed()
}
