//! What lint takes for routed by an API, and for a workload behind it.

use super::tests::found;

fn places(code: &str, text: &str) -> Vec<String> {
    let found = found(text).into_iter().filter(|finding| finding.code == code);
    found.map(|finding| format!("{} {}", finding.resource, finding.path)).collect()
}

fn route(spec: &str, route: &str) -> String {
    format!(
        "kind: VirtualService
metadata: {{name: shop, namespace: shop}}
spec:
  hosts: [shop.example]
  gateways: [front, mesh]
{spec}  http:
  - {{timeout: 5s, {route}route: [{{destination: {{host: web, port: {{number: 80}}}}}}]}}
"
    )
}

/// As it is compiled: what is not for the gateway routes nothing there.
#[test]
fn a_route_is_one_of_the_gateway_s() {
    let rows = [
        ("", "", true),
        ("", "match: [{gateways: [front]}], ", true),
        ("", "match: [{gateways: [mesh]}, {gateways: [shop/front], uri: {prefix: /a}}], ", true),
        ("", "match: [{port: 443}], ", true),
        ("", "match: [{sourceNamespace: istio-system}], ", true),
        ("  exportTo: [istio-system]\n", "", true),
        ("", "match: [{gateways: [mesh]}], ", false),
        ("", "match: [{gateways: [back]}], ", false),
        ("", "match: [{port: 80}], ", false),
        ("", "match: [{sourceNamespace: shop}], ", false),
        ("", "match: [{sourceLabels: {istio: other}}], ", false),
        ("  exportTo: ['.']\n", "", false),
    ];
    for (spec, action, is_routed) in rows {
        let text = route(spec, action);
        let settings = places("api-gateway-route-settings", &text);
        assert_eq!(settings.len(), usize::from(is_routed), "{spec}{action} {settings:?}");
        assert!(settings.iter().all(|place| place == "VirtualService shop/shop spec.http[0].timeout"), "{settings:?}");
        let unserved = places("api-gateway-domain-not-served", &text);
        assert_eq!(unserved.is_empty(), is_routed, "{spec}{action} {unserved:?}");
        let open = places("workload-open", &text);
        assert_eq!(
            open.iter().any(|place| place.starts_with("Service shop/web")),
            is_routed,
            "{spec}{action} {open:?}"
        );
    }
    // The hosts of a Gateway may be for the rules of one namespace.
    let served = |host: &str| {
        format!(
            "{}---\nkind: Gateway\nmetadata: {{name: front, namespace: shop}}\nspec:\n  selector: {{istio: ingressgateway}}\n  \
             servers:\n  - port: {{number: 443, name: https, protocol: HTTPS}}\n    hosts: [\"{host}\"]\n    \
             tls: {{mode: SIMPLE, credentialName: shop}}\n",
            route("", "")
        )
    };
    for (host, expected) in [("shop/shop.example", 0), ("./*.example", 0), ("other/shop.example", 1)] {
        assert_eq!(places("api-gateway-domain-not-served", &served(host)).len(), expected, "{host}");
    }
}

/// Of a second API, too, whatever the first one gets.
#[test]
fn settings_count_for_each_api() {
    let api = |name: &str, namespace: &str| {
        format!(
            "---\nkind: ApiGateway\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  apiId: {name}\n  stage: $default\n  \
             domain: {name}.example\n  gateway: shop/front\n  workload: {{namespace: {namespace}, labels: {{istio: \
             ingressgateway}}, serviceAccount: gateway}}\n  environment: dev\n"
        )
    };
    let text = format!("{}{}{}", route("  exportTo: [edge]\n", ""), api("one", "istio-system"), api("two", "edge"));
    assert_eq!(places("api-gateway-route-settings", &text), ["VirtualService shop/shop spec.http[0].timeout"]);
}

#[test]
fn each_endpoint_has_its_labels() {
    let entry = |labels: &str, endpoints: &str| {
        format!(
            "kind: ServiceEntry\nmetadata: {{name: e, namespace: shop{labels}}}\nspec:\n  hosts: [e.example]\n  \
             location: MESH_INTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
             endpoints: [{endpoints}]\n"
        )
    };
    let policy = |labels: &str| {
        format!(
            "---\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  \
             selector: {{matchLabels: {{{labels}}}}}\n"
        )
    };
    let endpoints = "{address: 10.0.0.1, labels: {version: v1}}, {address: 10.0.0.2, labels: {version: v2}}";
    let rows = [
        (", labels: {app: e}", "app: e", true),
        (", labels: {app: e}", "version: v1", true),
        (", labels: {app: e}", "version: v2", true),
        ("", "version: v2", true),
        ("", "version: v3", false),
    ];
    for (labels, selector, is_known) in rows {
        let text = format!("{}{}", entry(labels, endpoints), policy(selector));
        assert_eq!(places("selector-matches-nothing", &text).is_empty(), is_known, "{labels} {selector}");
    }
    // The one that no policy selects is open, and the other one is not.
    let to_entry = route("", "").replace("host: web", "host: e.example");
    let open = |labels: &str, endpoints: &str, selector: &str| {
        let text = format!("{}{}---\n{to_entry}", entry(labels, endpoints), policy(selector));
        let places: Vec<_> = found(&text).into_iter().filter(|finding| finding.code == "workload-open").collect();
        places
            .into_iter()
            .map(|finding| finding.message)
            .filter(|text| text.contains("ServiceEntry"))
            .collect::<Vec<_>>()
    };
    let left = open("", endpoints, "version: v1");
    assert!(left.len() == 1 && left.iter().all(|text| text.contains("endpoints[1]")), "{left:?}");
    // How an endpoint is spoken to makes no workload of it.
    let mutual = "{address: 10.0.0.1, labels: {security.istio.io/tlsMode: istio}}";
    assert_eq!(open(", labels: {app: e}", mutual, "app: e"), [""; 0]);
    assert_eq!(open(", labels: {app: e}", mutual, "app: f").len(), 1);
}

#[test]
fn of_two_policies_the_weaker_one_may_count() {
    let policy = |name: &str, spec: &str| {
        format!("kind: PeerAuthentication\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n---\n")
    };
    let service = "kind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  ports: [{name: http, port: 80, targetPort: 8080}]\n  \
                   selector: {app: web, tier: front}\n---\n";
    let rule = "kind: AuthorizationPolicy\nmetadata: {name: example, namespace: shop}\nspec:\n  \
                selector: {matchLabels: {app: web}}\n  action: DENY\n  rules:\n  - from: [{source: {namespaces: [guests]}}]\n";
    for (one, two, accepts) in [
        ("mtls: {mode: STRICT}", "mtls: {mode: STRICT}", false),
        ("mtls: {mode: STRICT}", "mtls: {mode: PERMISSIVE}", true),
        ("portLevelMtls: {8080: {mode: STRICT}}", "portLevelMtls: {8080: {mode: DISABLE}}", true),
        ("portLevelMtls: {8080: {mode: STRICT}}", "portLevelMtls: {8081: {mode: DISABLE}}", false),
    ] {
        let of = |name: &str, label: &str, spec: &str| {
            policy(name, &format!("selector: {{matchLabels: {{{label}}}}}, {spec}"))
        };
        let text = format!("{service}{}{}{rule}", of("one", "app: web", one), of("two", "tier: front", two));
        assert_eq!(!places("peer-over-plaintext", &text).is_empty(), accepts, "{one} {two}");
    }
}
