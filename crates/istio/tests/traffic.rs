//! What the rules of traffic become when they are read: older spellings, defaults and forms with a meaning of their own.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use istio::*;

fn read(text: &str) -> Resources {
    parse(&[SourceFile { name: "f.yaml".to_owned(), text: text.to_owned() }]).unwrap()
}

fn document(kind: &str, spec: &str) -> Resources {
    read(&format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a, namespace: ns}}\nspec: {spec}\n"
    ))
}

/// The first route of a `VirtualService` with this `http[0]`.
fn route(http: &str) -> HttpRoute {
    document("VirtualService", &format!("{{hosts: [a], http: [{{{http}}}]}}")).virtual_services.remove(0).http.remove(0)
}

fn to_a(more: &str) -> HttpRoute {
    route(&format!("route: [{{destination: {{host: a}}}}], {more}"))
}

fn matched(only: &str) -> HttpMatch {
    to_a(&format!("match: [{{{only}}}]")).matches.remove(0)
}

fn policy(spec: &str) -> TrafficPolicy {
    document("DestinationRule", &format!("{{host: a, trafficPolicy: {{{spec}}}}}"))
        .destination_rules
        .remove(0)
        .traffic_policy
        .unwrap()
}

fn percents(millionths: &[u32]) -> Vec<Percent> {
    millionths.iter().copied().map(Percent::from_millionths).collect()
}

#[test]
fn shares_of_mirrors() {
    let shares = |text: &str| to_a(text).mirrors.iter().map(|mirror| mirror.percentage).collect::<Vec<_>>();
    for (text, expected) in [
        ("mirror: {host: b}", vec![1_000_000]),
        ("mirror: {host: b}, mirrorPercent: 7", vec![70_000]),
        ("mirror: {host: b}, mirror_percent: 7", vec![70_000]),
        // The newer field counts.
        ("mirror: {host: b}, mirrorPercent: 7, mirrorPercentage: {value: 0.5}", vec![5_000]),
        ("mirror: {host: b}, mirrorPercent: 7, mirrorPercentage: {}", vec![0]),
        ("mirror: {host: b}, mirrorPercentage: {value: 0}", vec![0]),
        (
            "mirrors: [{destination: {host: b}}, {destination: {host: c}, percentage: {value: 12.5}}]",
            vec![1_000_000, 125_000],
        ),
        ("timeout: 1s", vec![]),
    ] {
        assert_eq!(shares(text), percents(&expected), "{text}");
    }
}

#[test]
fn shares_are_cut_to_millionths() {
    let share = |text: &str| {
        to_a(&format!("fault: {{abort: {{httpStatus: 500, percentage: {{value: {text}}}}}}}"))
            .fault
            .unwrap()
            .abort
            .unwrap()
    };
    // The binary forms of the second and the third are less than the decimal ones.
    for (text, millionths) in
        [("100", 1_000_000), ("0.57", 5_700), ("0.0003", 3), ("33.33339", 333_333), ("1e1", 100_000), ("0", 0)]
    {
        assert_eq!(share(text).percentage, Percent::from_millionths(millionths), "{text}");
    }
    let delay = |text: &str| to_a(&format!("fault: {{delay: {{{text}}}}}")).fault.unwrap().delay.unwrap();
    for (text, millionths) in [
        ("fixedDelay: 1s", 0),
        ("fixedDelay: 1s, percent: 5", 50_000),
        ("fixedDelay: 1s, percent: 5, percentage: {value: 6}", 60_000),
    ] {
        assert_eq!(delay(text).percentage, Percent::from_millionths(millionths), "{text}");
    }
}

#[test]
fn durations() {
    for (text, milliseconds) in [("1h", 3_600_000), ("1m", 60_000), ("1.5s", 1_500), ("300ms", 300), ("1m30s", 90_000)]
    {
        assert_eq!(to_a(&format!("timeout: {text}")).timeout, Some(Duration::from_millis(milliseconds)), "{text}");
    }
}

#[test]
fn matches_that_ask_whether_something_is_there() {
    let only = matched(
        "headers: {X-A: {}, x-b: {exact: ''}}, withoutHeaders: {x-c: {regex: '*'}, x-d: {}}, queryParams: {Q: {}}",
    );
    assert_eq!(only.headers["x-a"], StringMatch::Present);
    assert_eq!(only.headers["x-b"], StringMatch::Exact(String::new()));
    assert_eq!(only.without_headers["x-c"], StringMatch::Present);
    assert_eq!(only.without_headers["x-d"], StringMatch::Present);
    assert_eq!(only.query_params["Q"], StringMatch::Present);
    // Every request has these.
    assert_eq!(matched("headers: {':path': {prefix: /a}}").headers[":path"], StringMatch::Prefix("/a".to_owned()));
    let only = matched("uri: {}, scheme: {}, method: {}, authority: {}, statPrefix: ignored");
    assert_eq!(only, HttpMatch::default());
    assert_eq!(matched("uri: {prefix: ''}").uri, Some(StringMatch::Prefix(String::new())));
}

#[test]
fn gateways_of_a_match_are_named_as_those_of_the_document() {
    assert_eq!(
        matched("gateways: [front, ns2/front, ./front, mesh]").gateways,
        ["ns/front", "ns2/front", "ns/front", "mesh"]
    );
}

#[test]
fn headers_that_are_changed() {
    let headers = to_a(
        "headers: {request: {set: {X-A: '100%%'}, add: {':authority': b.example, X-A: c}, remove: [X-R]}, \
         response: {remove: [Server]}}",
    )
    .headers;
    let entries = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    // Istio replaces the Host by `add` too.
    assert_eq!(entries(&headers.request.set), ["host=b.example", "x-a=100%%"]);
    assert_eq!(entries(&headers.request.add), ["x-a=c"]);
    assert_eq!(headers.request.remove, ["x-r"]);
    assert_eq!(headers.response.remove, ["server"]);
}

#[test]
fn answers_without_a_service() {
    let HttpAction::Redirect(redirect) = route("redirect: {derivePort: FROM_REQUEST_PORT}").action else {
        unreachable!()
    };
    assert_eq!((redirect.code, redirect.port), (301, Some(RedirectPort::FromRequestPort)));
    let direct = |text: &str| match route(&format!("directResponse: {{{text}}}")).action {
        HttpAction::DirectResponse(direct) => direct,
        HttpAction::Route(_) | HttpAction::Redirect(_) => unreachable!(),
    };
    assert_eq!(direct("status: 204"), HttpDirectResponse { status: 204, body: Vec::new() });
    assert_eq!(direct("status: 200, body: {string: é}").body, "é".as_bytes());
    assert_eq!(direct("status: 200, body: {bytes: AP8=}").body, [0, 255]);
}

#[test]
fn what_is_absent_has_its_default() {
    let route = to_a("retries: {attempts: 0}");
    assert_eq!(route.retries.unwrap().attempts, 0);
    let HttpAction::Route(routes) = &route.action else { unreachable!() };
    assert_eq!(routes[0].weight, 0);
    let entry = document("ServiceEntry", "{hosts: [a.example], ports: [{number: 80, name: http, protocol: http}]}");
    let entry = &entry.service_entries[0];
    assert_eq!((entry.resolution, entry.location), (Resolution::None, Location::MeshExternal));
    assert!(entry.export_to.is_empty() && entry.target_ports.is_empty() && entry.workload_selector.is_none());
    let sidecar = document("Sidecar", "{outboundTrafficPolicy: {}}");
    assert_eq!(sidecar.sidecars[0].outbound_traffic_policy, Some(OutboundTrafficMode::RegistryOnly));
    assert_eq!(MeshConfig::default().outbound_traffic_policy, None);
}

#[test]
fn balancers() {
    let balancer = |text: &str| policy(&format!("loadBalancer: {{{text}}}")).load_balancer.unwrap();
    for (text, expected) in [
        ("", LoadBalancerPolicy::LeastRequest),
        ("simple: UNSPECIFIED", LoadBalancerPolicy::LeastRequest),
        ("simple: LEAST_CONN", LoadBalancerPolicy::LeastRequest),
        ("simple: ROUND_ROBIN", LoadBalancerPolicy::RoundRobin),
        ("simple: RANDOM", LoadBalancerPolicy::Random),
        ("simple: PASSTHROUGH", LoadBalancerPolicy::Passthrough),
    ] {
        assert_eq!(balancer(text).policy, expected, "{text}");
    }
    for (text, expected) in [
        ("", HashTable::Ring(1_024)),
        (", ringHash: {}", HashTable::Ring(1_024)),
        (", ringHash: {minimumRingSize: 7}", HashTable::Ring(7)),
        (", minimumRingSize: 7", HashTable::Ring(7)),
        (", minimumRingSize: 0", HashTable::Ring(1_024)),
        (", maglev: {tableSize: 65537}", HashTable::Maglev(65_537)),
    ] {
        let LoadBalancerPolicy::ConsistentHash(hash) =
            balancer(&format!("consistentHash: {{httpHeaderName: X-U{text}}}")).policy
        else {
            unreachable!()
        };
        assert_eq!(hash.table, expected, "{text}");
        assert_eq!(hash.key, HashKey::Header("x-u".to_owned()));
    }
    let hash = "consistentHash: {httpQueryParameterName: Q}";
    assert!(matches!(
        balancer(hash).policy,
        LoadBalancerPolicy::ConsistentHash(ConsistentHash { key: HashKey::QueryParameter(name), .. }) if name == "Q"
    ));
    let second = Duration::from_secs(1);
    let older = Warmup { duration: second, minimum_percent: 10, aggression_thousandths: 1_000 };
    assert_eq!(balancer("warmupDurationSecs: 1s").warmup, Some(older));
    let newer = Warmup { duration: second, minimum_percent: 0, aggression_thousandths: 1_500 };
    let both = "warmupDurationSecs: 9s, warmup: {duration: 1s, minimumPercent: 0.0, aggression: 1.5}";
    assert_eq!(balancer(both).warmup, Some(newer));
}

#[test]
fn zero_is_no_limit() {
    let pool = policy(
        "connectionPool: {tcp: {maxConnections: 0, idleTimeout: 0s}, http: {http2MaxRequests: 0, maxRetries: 0, \
         http1MaxPendingRequests: 0, maxRequestsPerConnection: 0, maxConcurrentStreams: 0}}",
    );
    let expected = ConnectionPool { tcp_idle_timeout: Some(Duration::ZERO), ..ConnectionPool::default() };
    assert_eq!(pool.connection_pool, Some(expected));
    let detection =
        policy("outlierDetection: {consecutive5xxErrors: 0, maxEjectionPercent: 0}").outlier_detection.unwrap();
    assert_eq!((detection.consecutive_5xx_errors, detection.max_ejection_percent), (Some(0), None));
}

#[test]
fn settings_of_a_port() {
    let policy = policy(
        "tls: {mode: SIMPLE, caCertificates: /roots.pem}, portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]",
    );
    assert_eq!(policy.tls.unwrap().ca_certificates.as_deref(), Some("/roots.pem"));
    let of_port = &policy.port_level_settings[&80];
    assert_eq!(of_port.tls.as_ref().map(|tls| tls.mode), Some(ClientTlsMode::Disable));
}

#[test]
fn a_workload_has_the_labels_of_its_metadata() {
    let text = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
                metadata: {name: a, labels: {app: a, version: v2}}\n\
                spec: {address: 10.0.0.1, labels: {version: v1, zone: z}, weight: 0}\n";
    let entry = read(text).workload_entries.remove(0);
    let labels: Vec<_> = entry.endpoint.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["app=a", "version=v2", "zone=z"]);
    assert_eq!(entry.endpoint.weight, 1);
}

#[test]
fn a_service_says_who_sees_it() {
    let service = |annotations: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a{annotations}}}\n\
             spec: {{selector: {{app: a}}, ports: [{{port: 80}}]}}\n"
        );
        read(&text).services.remove(0).export_to()
    };
    assert_eq!(service(""), []);
    assert_eq!(service(", annotations: {networking.istio.io/exportTo: ''}"), []);
    let words = service(", annotations: {networking.istio.io/exportTo: '., ns1'}");
    assert_eq!(words, [ExportTo::Own, ExportTo::Namespace("ns1".to_owned())]);
    assert_eq!(service(", annotations: {networking.istio.io/exportTo: '~'}"), [ExportTo::Nobody]);
}

#[test]
fn the_mesh_says_what_routes_do_not() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
                outboundTrafficPolicy: {mode: ALLOW_ANY}\n    connectTimeout: 5s\n    \
                defaultHttpRetryPolicy: {attempts: 1, retryOn: '503'}\n    localityLbSetting: {enabled: false}\n";
    let mesh = read(text).mesh;
    assert_eq!(mesh.outbound_traffic_policy, Some(OutboundTrafficMode::AllowAny));
    assert_eq!(mesh.connect_timeout, Some(Duration::from_secs(5)));
    assert_eq!(mesh.default_http_retry_policy.unwrap().retry_on, ["503"]);
    assert_eq!(mesh.locality_lb.unwrap().enabled, Some(false));
}
