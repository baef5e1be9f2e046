//! Destinations that would not see the gateway's identity in the mesh, or would not be asked about HTTP there.

use authz::{CompileOptions, Mode};
use istio::{ParseOptions, SourceFile};

use crate::gateway_routes::{FRONT, TO_ENTRY, TO_SHOP, entry, is_allowed, opened, route};
use crate::support::World;

const PLAIN: &str = "Istio does not know that entry.example takes mutual TLS";

fn to_entry() -> String {
    route("r", "a.example", "", TO_ENTRY)
}

fn inside(spec: &str) -> String {
    entry(", labels: {app: e}", &format!("location: MESH_INTERNAL, {spec}"))
}

fn rule(namespace: &str, host: &str, spec: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: d, namespace: {namespace}}}
spec: {{host: '{host}', {spec}}}
"
    )
}

/// `None` where nothing is complained of; else the errors.
fn complaint(documents: &[&str]) -> Option<String> {
    opened(documents).err()
}

/// Istio (`getTLSModeFromWorkloadEntry`): the label of each endpoint, or else its service account.
#[test]
fn service_entries_that_get_no_mutual_tls_by_themselves() {
    let label = |mode: &str| format!("labels: {{security.istio.io/tlsMode: {mode}}}");
    let of = |endpoints: &str| inside(&format!("resolution: STATIC, endpoints: [{endpoints}]"));
    let one = |fields: &str| of(&format!("{{address: 10.0.0.1, {fields}}}"));
    for (entry, path) in [
        (inside("resolution: DNS"), "spec.endpoints"),
        (inside("resolution: NONE"), "spec.endpoints"),
        (of("{address: 10.0.0.1}"), "spec.endpoints[0]"),
        (of("{address: 10.0.0.1, serviceAccount: e}, {address: 10.0.0.2}"), "spec.endpoints[1]"),
        (one(&label("disabled")), "spec.endpoints[0]"),
        (one(&format!("serviceAccount: e, {}", label("disabled"))), "spec.endpoints[0]"),
        (inside("resolution: DNS, endpoints: [{address: e.example}]"), "spec.endpoints[0]"),
    ] {
        let errors = complaint(&[&to_entry(), &entry]).unwrap_or_default();
        assert!(errors.contains(&format!("ns/e: {path}: {PLAIN}")), "{entry} {errors}");
        // Outside of the mesh nobody would ask.
        assert_eq!(complaint(&[&to_entry(), &entry.replace("MESH_INTERNAL", "MESH_EXTERNAL")]), None, "{entry}");
        let mutual = rule("ns", "entry.example", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
        assert_eq!(complaint(&[&to_entry(), &entry, &mutual]), None, "{entry}");
    }
    for entry in [
        one("serviceAccount: e"),
        one(&label("istio")),
        one(&format!("serviceAccount: e, {}", label("istio"))),
        of("{address: 10.0.0.1, serviceAccount: e}, {address: 10.0.0.2, serviceAccount: f}"),
        inside("resolution: DNS, endpoints: [{address: e.example, serviceAccount: e}]"),
    ] {
        assert_eq!(complaint(&[&to_entry(), &entry]), None, "{entry}");
    }
}

#[test]
fn an_istio_that_is_not_strict_is_only_warned() {
    let text = [FRONT, &to_entry(), &inside("resolution: DNS")].join("\n---\n");
    let line = text.lines().position(|line| line == "kind: ServiceEntry").unwrap();
    let resources =
        istio::parse_with(&[SourceFile { name: "f.yaml".to_owned(), text }], &ParseOptions::default()).unwrap();
    let compiled = |mode| authz::compile(&resources, &CompileOptions { mode, ..CompileOptions::default() });
    let warnings = compiled(Mode::Istio).unwrap().warnings;
    let errors = compiled(Mode::Strict).unwrap_err();
    for found in [&warnings, &errors] {
        let said: Vec<String> = found.iter().map(ToString::to_string).filter(|text| text.contains(PLAIN)).collect();
        let [said] = said.as_slice() else { unreachable!("{found:?}") };
        assert!(said.starts_with(&format!("f.yaml:{line}: ns/e: spec.endpoints: ")), "{said}");
    }
}

/// Where the gateway may speak plaintext, its identity and the absence of one are both not relied upon.
#[test]
fn a_peer_that_the_mesh_may_not_see_allows_nothing() {
    let edge = "cluster.local/ns/edge/sa/edge";
    let policy = |action: &str, source: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: peers, namespace: ns}}
spec: {{selector: {{matchLabels: {{app: e}}}}, action: {action}, rules: [{{from: [{{source: {{{source}}}}}]}}]}}
"
        )
    };
    let known = inside("resolution: STATIC, endpoints: [{address: 10.0.0.1, serviceAccount: e}]");
    let unknown = inside("resolution: STATIC, endpoints: [{address: 10.0.0.1}]");
    for (policy, of_known) in [
        (policy("ALLOW", &format!("principals: ['{edge}']")), true),
        (policy("ALLOW", "notPrincipals: [other]"), true),
        (policy("DENY", &format!("notPrincipals: ['{edge}']")), true),
        (policy("DENY", "principals: [other]"), true),
        (policy("DENY", &format!("principals: ['{edge}']")), false),
    ] {
        for (entry, expected) in [(&known, of_known), (&unknown, false)] {
            let text = [FRONT, &to_entry(), entry, &policy].join("\n---\n");
            let file = SourceFile { name: "f.yaml".to_owned(), text };
            let resources = istio::parse_with(&[file], &ParseOptions::default()).unwrap();
            let world = World::of_resources(&resources, Mode::Istio);
            assert_eq!(is_allowed(&world, "/"), expected, "{entry} {policy}");
        }
    }
}

/// The default of `location` is outside of the mesh, and a name of the mesh is not there.
#[test]
fn names_of_the_mesh_are_not_outside_of_it() {
    const ONE: &str = "resolution: STATIC, endpoints: [{address: 10.0.0.1, serviceAccount: e}]";
    for (host, location, is_refused) in [
        ("e.example", "", false),
        ("e.ns.svc.cluster.local", "", true),
        ("E.ns.SVC.cluster.local", "location: MESH_EXTERNAL, ", true),
        ("e.ns.svc.cluster.local", "location: MESH_INTERNAL, ", false),
    ] {
        let entry = entry(", labels: {app: e}", &format!("{location}{ONE}")).replace("entry.example", host);
        let route = to_entry().replace("entry.example", host);
        let errors = complaint(&[&route, &entry]);
        let expected = format!("ns/e: spec.location: Istio does not know that {host} takes mutual TLS");
        assert_eq!(errors.is_some(), is_refused, "{host} {location} {errors:?}");
        assert!(errors.is_none_or(|errors| errors.contains(&expected) && errors.contains("MESH_INTERNAL")), "{host}");
        let mutual = rule("ns", host, "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
        assert_eq!(complaint(&[&route, &entry, &mutual]), None, "{host} {location}");
    }
}

/// Istio (`PushContext.destinationRule`): which of several rules a gateway takes. The gateway is in `edge`.
#[test]
fn rules_that_turn_mutual_tls_on() {
    const MUTUAL: &str = "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}";
    const OTHER: &str = "trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}";
    let selecting = |labels: &str, spec: &str| format!("workloadSelector: {{matchLabels: {{{labels}}}}}, {spec}");
    let hidden = |spec: &str| format!("exportTo: ['.'], {spec}");
    type Rules = Vec<(&'static str, &'static str, String)>;
    let cases: Vec<(bool, Rules)> = vec![
        (true, vec![("ns", "entry.example", MUTUAL.to_owned())]),
        (true, vec![("edge", "entry.example", MUTUAL.to_owned())]),
        (true, vec![("istio-system", "*.example", MUTUAL.to_owned())]),
        (true, vec![("edge", "entry.example", hidden(MUTUAL))]),
        (true, vec![("edge", "entry.example", selecting("app: edge", MUTUAL))]),
        // More specific, and nearer.
        (true, vec![("ns", "*.example", OTHER.to_owned()), ("ns", "entry.example", MUTUAL.to_owned())]),
        (true, vec![("ns", "entry.example", OTHER.to_owned()), ("edge", "*.example", MUTUAL.to_owned())]),
        (true, vec![("istio-system", "entry.example", OTHER.to_owned()), ("ns", "*", MUTUAL.to_owned())]),
        (true, vec![("ns", "entry.example", hidden(OTHER)), ("istio-system", "*", MUTUAL.to_owned())]),
        (false, vec![("ns", "entry.example", OTHER.to_owned()), ("ns", "*.example", MUTUAL.to_owned())]),
        (false, vec![("edge", "*.example", OTHER.to_owned()), ("ns", "entry.example", MUTUAL.to_owned())]),
        (false, vec![("ns", "*", OTHER.to_owned()), ("istio-system", "entry.example", MUTUAL.to_owned())]),
        // What is not exported hides the less specific one of its namespace.
        (false, vec![("ns", "entry.example", "exportTo: [other], trafficPolicy: {retryBudget: {percent: 30}}".to_owned()), ("ns", "*", MUTUAL.to_owned())]),
        // One for other clients hides those of other namespaces.
        (false, vec![("edge", "entry.example", selecting("app: x", MUTUAL)), ("ns", "*", MUTUAL.to_owned())]),
        // Of two for one host the older one counts.
        (false, vec![("ns", "entry.example", OTHER.to_owned()), ("ns", "entry.example", MUTUAL.to_owned())]),
        (false, vec![("other", "entry.example", MUTUAL.to_owned())]),
        (false, vec![("ns", "other.example", MUTUAL.to_owned())]),
        (false, vec![("ns", "entry.example", hidden(MUTUAL))]),
        (false, vec![("ns", "entry.example", format!("exportTo: [other], {MUTUAL}"))]),
        (true, vec![("ns", "entry.example", format!("exportTo: [other, edge], {MUTUAL}"))]),
        (false, vec![("ns", "entry.example", selecting("app: edge", MUTUAL))]),
        (false, vec![("edge", "entry.example", selecting("unknown: a", MUTUAL))]),
        (false, vec![("ns", "entry.example", format!("subsets: [{{name: v1, {MUTUAL}}}]"))]),
        (false, vec![("ns", "entry.example", "trafficPolicy: {portLevelSettings: [{port: {number: 81}, tls: {mode: ISTIO_MUTUAL}}]}".to_owned())]),
        (true, vec![("ns", "entry.example", "trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]}".to_owned())]),
        (false, vec![("ns", "entry.example", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}".to_owned())]),
    ];
    for (is_mutual, rules) in cases {
        let rules: Vec<String> = rules.iter().map(|(namespace, host, spec)| rule(namespace, host, spec)).collect();
        let rules: Vec<String> =
            rules.iter().enumerate().map(|(n, text)| text.replace("name: d", &format!("name: d{n}"))).collect();
        let (route, entry) = (to_entry(), inside("resolution: DNS"));
        let mut documents = vec![route.as_str(), entry.as_str()];
        documents.extend(rules.iter().map(String::as_str));
        let errors = complaint(&documents);
        assert_eq!(errors.is_none(), is_mutual, "{rules:?} {errors:?}");
        assert!(errors.is_none_or(|errors| errors.contains(PLAIN)), "{rules:?}");
    }
}

/// With a gateway in the root namespace, what is exported from there comes after the destination's own rules.
#[test]
fn rules_for_a_gateway_in_the_root_namespace() {
    for (export_to, is_mutual) in [("['.']", false), ("['*']", true)] {
        let wide = rule(
            "istio-system",
            "*",
            &format!("exportTo: {export_to}, trafficPolicy: {{retryBudget: {{percent: 30}}}}"),
        );
        let mutual = rule("ns", "entry.example", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
        let documents = [FRONT, &to_entry(), &inside("resolution: DNS"), &wide, &mutual].join("\n---\n");
        let documents = documents.replace("namespace: edge", "namespace: istio-system");
        let opened = crate::support::open(&[("f.yaml", &documents)]).map(drop);
        assert_eq!(opened.is_ok(), is_mutual, "{export_to} {opened:?}");
    }
}

#[test]
fn policies_that_leave_only_plaintext() {
    let policy = |namespace: &str, spec: &str| {
        format!(
            "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: p-{}, namespace: {namespace}}}
spec: {{{spec}}}
",
            spec.len()
        )
    };
    let of = |labels: &str, spec: &str| policy("ns", &format!("selector: {{matchLabels: {{{labels}}}}}, {spec}"));
    let wide = |namespace: &str, mode: &str| policy(namespace, &format!("mtls: {{mode: {mode}}}"));
    let at = |port: u16, mode: &str| format!("portLevelMtls: {{{port}: {{mode: {mode}}}}}");
    // The Service names its port, so that nobody knows the number.
    let named = FRONT.replace("targetPort: 8080", "targetPort: web");
    let mutual = rule("ns", "shop.ns.svc.cluster.local", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
    let route = route("r", "a.example", "", TO_SHOP);
    let off = |front: &str, policy: &str, rule: &str| {
        let text = [front, &route, policy, rule].join("\n---\n");
        match crate::support::open(&[("f.yaml", &text)]).map(drop) {
            Ok(()) => false,
            Err(errors) => {
                let errors = errors.join("\n");
                assert!(errors.contains("turns mutual TLS to shop.ns.svc.cluster.local off"), "{policy} {errors}");
                true
            }
        }
    };
    // The policy, and whether it counts with the port 8080, with an unknown one, and with 8080 and ISTIO_MUTUAL.
    for (policy, expected) in [
        (of("app: shop", &at(8080, "DISABLE")), [true, true, true]),
        (of("app: shop", &at(9090, "DISABLE")), [false, true, false]),
        (of("app: shop", &at(9090, "STRICT")), [false, false, false]),
        (of("app: shop", &format!("mtls: {{mode: DISABLE}}, {}", at(8080, "STRICT"))), [false, true, false]),
        (of("app: shop", &format!("mtls: {{mode: DISABLE}}, {}", at(8080, "UNSET"))), [true, true, true]),
        // Labels that no document says.
        (of("app: shop, version: v1", &at(8080, "DISABLE")), [true, true, true]),
        (of("version: v1", "mtls: {mode: DISABLE}"), [true, true, true]),
        (of("app: other, version: v1", "mtls: {mode: DISABLE}"), [false, false, false]),
        // Clients go by the namespace, whatever the workload says.
        (wide("ns", "DISABLE") + &of("app: shop", "mtls: {mode: STRICT}"), [true, true, false]),
        (wide("ns", "DISABLE") + &of("app: shop", &at(8080, "PERMISSIVE")), [true, true, false]),
        (wide("ns", "DISABLE") + &of("app: shop", &at(9090, "PERMISSIVE")), [true, true, true]),
        (wide("ns", "DISABLE") + &of("version: v1", "mtls: {mode: STRICT}"), [true, true, true]),
        (wide("istio-system", "DISABLE") + &of("app: shop", "mtls: {mode: PERMISSIVE}"), [true, true, false]),
        (wide("istio-system", "DISABLE") + &wide("ns", "UNSET"), [true, true, true]),
        (wide("istio-system", "DISABLE") + &wide("ns", "PERMISSIVE"), [false, false, false]),
    ] {
        let found = [off(FRONT, &policy, ""), off(&named, &policy, ""), off(FRONT, &policy, &mutual)];
        assert_eq!(found, expected, "{policy}");
    }
    // Istio's injection labels a workload that takes none.
    for (mode, is_off) in [("istio", false), ("disabled", true)] {
        let labelled = format!("selector: {{app: shop, security.istio.io/tlsMode: {mode}}}");
        let text = [FRONT, &route].join("\n---\n").replace("selector: {app: shop}", &labelled);
        let errors = crate::support::open(&[("f.yaml", &text)]).map(drop).map_err(|errors| errors.join("\n"));
        assert_eq!(errors.is_err_and(|text| text.contains("ns/shop: spec.selector: Istio does not know")), is_off);
    }
}

/// Istio (`ConvertProtocol`): what says that a proxy takes requests as HTTP, or looks for itself.
#[test]
fn ports_that_are_not_http() {
    let route = route("r", "a.example", "", TO_SHOP);
    for (port, expected) in [
        ("port: 80", None),
        ("port: 80, name: web", None),
        ("port: 80, name: http-tcp", None),
        ("port: 80, name: grpc-web", None),
        ("port: 80, name: HTTP2", None),
        ("port: 80, name: tcp", Some("TCP")),
        ("port: 80, name: TCP-web", Some("TCP")),
        ("port: 443, name: https", Some("HTTPS")),
        ("port: 443, name: tls-web", Some("TLS")),
        ("port: 80, name: redis", Some("REDIS")),
        ("port: 3306", Some("TCP")),
        ("port: 3306, name: http", None),
        ("port: 3306, name: a, appProtocol: kubernetes.io/h2c", None),
        ("port: 80, name: tcp, appProtocol: http", None),
        ("port: 80, name: tcp, appProtocol: kubernetes.io/ws", None),
        ("port: 80, name: http, appProtocol: tcp", Some("TCP")),
        ("port: 80, name: http, appProtocol: kubernetes.io/wss", Some("HTTPS")),
    ] {
        let text = [FRONT, &route].join("\n---\n").replace("port: 80, name: http", port);
        let errors = crate::support::open(&[("f.yaml", &text)]).map(drop).map_err(|errors| errors.join("\n")).err();
        match expected {
            None => assert_eq!(errors, None, "{port}"),
            Some(protocol) => {
                let errors = errors.unwrap_or_default();
                assert!(errors.contains(&format!("is {protocol} by its name or protocol")), "{port} {errors}");
            }
        }
    }
    for protocol in ["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TCP", "TLS", "MONGO"] {
        let of = |location: &str| {
            let entry = inside("resolution: STATIC, endpoints: [{address: 10.0.0.1, serviceAccount: e}]");
            entry.replace("protocol: HTTP", &format!("protocol: {protocol}")).replace("MESH_INTERNAL", location)
        };
        let errors = complaint(&[&to_entry(), &of("MESH_INTERNAL")]);
        let is_http = protocol.starts_with("GRPC") || ["HTTP", "HTTP2"].contains(&protocol);
        assert_eq!(errors.is_none(), is_http, "{protocol} {errors:?}");
        assert_eq!(complaint(&[&to_entry(), &of("MESH_EXTERNAL")]), None, "{protocol}");
    }
}
