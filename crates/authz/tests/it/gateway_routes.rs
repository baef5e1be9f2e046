//! Which documents route a request to an API, as Istio's gateway would have them, and what is refused there.

use authz::{CompileOptions, Decision, PathHandling, Request, Target};
use istio::{ParseOptions, SourceFile};

use crate::support::{World, open, request};

/// An API that plays the gateway `ns/front`, whose workload is in the namespace `edge`.
pub(crate) const FRONT: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: ns}
spec:
  selector: {app: edge}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}]
---
apiVersion: causeway.dev/v1alpha1
kind: ApiGateway
metadata: {name: front, namespace: ns}
spec:
  apiId: api
  stage: $default
  domain: a.example
  gateway: ns/front
  workload: {namespace: edge, labels: {app: edge}, serviceAccount: edge}
  environment: dev
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: ns}
spec: {selector: {app: shop}, ports: [{port: 80, name: http, targetPort: 8080}]}
";
/// Denies nothing but what comes to the workload with `app: shop` at a path that begins with `/no`.
const SHOP: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: shop, namespace: ns}
spec: {selector: {matchLabels: {app: shop}}, action: DENY, rules: [{to: [{operation: {paths: ['/no*']}}]}]}
";

pub(crate) fn route(name: &str, host: &str, spec: &str, http: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: ns}}
spec:
  hosts: ['{host}']
  gateways: [front]
{spec}
  http:
{http}
"
    )
}

pub(crate) const TO_SHOP: &str = "  - route: [{destination: {host: shop}}]";

pub(crate) fn opened(documents: &[&str]) -> Result<(), String> {
    let text = [&[FRONT], documents].concat().join("\n---\n");
    open(&[("f.yaml", &text)]).map(drop).map_err(|errors| errors.join("\n"))
}

fn world(documents: &[&str]) -> World {
    let text = [&[FRONT], documents].concat().join("\n---\n");
    World::of_files(&[("f.yaml", &text)])
}

fn warnings(documents: &[&str]) -> String {
    let text = [&[FRONT], documents].concat().join("\n---\n");
    let file = SourceFile { name: "f.yaml".to_owned(), text };
    let resources = istio::parse_with(&[file], &ParseOptions::default()).unwrap();
    let compiled = authz::compile(&resources, &CompileOptions::default()).unwrap();
    compiled.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn asked(world: &World, path: &str) -> Decision {
    let api =
        Target::ApiGateway { api_id: "api".to_owned(), stage: "$default".to_owned(), domain: "a.example".to_owned() };
    let request = Request {
        host: "a.example".to_owned(),
        scheme: "https".to_owned(),
        destination_port: None,
        path_handling: PathHandling::AsSent,
        ..request("GET", path)
    };
    world.decide(&request, &api)
}

pub(crate) fn is_allowed(world: &World, path: &str) -> bool {
    asked(world, path).is_allowed()
}

#[test]
fn rules_that_are_not_exported_to_the_gateway_route_nothing() {
    for export_to in ["[]", "['*']", "[edge]", "[other, edge]"] {
        let rule = route("r", "a.example", &format!("  exportTo: {export_to}"), TO_SHOP);
        assert!(is_allowed(&world(&[&rule]), "/"), "{export_to}");
    }
    for export_to in ["['.']", "[ns]", "[other]"] {
        let rule = route("r", "a.example", &format!("  exportTo: {export_to}"), TO_SHOP);
        assert!(!is_allowed(&world(&[&rule]), "/"), "{export_to}");
        let warnings = warnings(&[&rule]);
        assert_eq!(warnings.matches("hides it from the namespace edge").count(), 1, "{export_to} {warnings}");
    }
    // The rule for every host takes what the hidden one does not.
    let hidden = route("hidden", "a.example", "  exportTo: ['.']", "  - {route: [{destination: {host: nothing}}]}");
    let rest = route("rest", "*", "", TO_SHOP);
    let world = world(&[&hidden, &rest, SHOP]);
    assert_eq!([is_allowed(&world, "/"), is_allowed(&world, "/no")], [true, false]);
    // A hidden rule contradicts no other one.
    assert_eq!(opened(&[&hidden, &route("shown", "a.example", "", TO_SHOP)]), Ok(()));
}

#[test]
fn matches_of_other_gateways_are_passed_over() {
    let other = "  - match: [{gateways: [mesh], uri: {prefix: /}, headers: {a: {exact: b}}}]
    redirect: {uri: /}
";
    let world_of = |http: &str| world(&[&route("r", "a.example", "", &format!("{other}{http}")), SHOP]);
    let both = world_of(TO_SHOP);
    assert_eq!([is_allowed(&both, "/"), is_allowed(&both, "/no")], [true, false]);
    for (only, applies) in [
        ("gateways: [front, mesh]", true),
        ("gateways: [ns/front]", true),
        // With `gateways`, Istio does not look at the source.
        ("gateways: [front], sourceNamespace: other, sourceLabels: {app: other}", true),
        ("gateways: [ns/back]", false),
        ("sourceNamespace: edge", true),
        ("sourceNamespace: ns", false),
        ("sourceLabels: {app: edge}", true),
        ("sourceLabels: {app: other, version: v1}", false),
        ("port: 443", true),
        ("port: 80", false),
    ] {
        let http = format!("  - match: [{{{only}}}]\n    route: [{{destination: {{host: shop}}}}]");
        assert_eq!(is_allowed(&world_of(&http), "/"), applies, "{only}");
        // What applies is not passed over for the next one.
        let denied = format!("{http}\n  - route: [{{destination: {{host: shop}}}}]");
        assert!(!is_allowed(&world_of(&denied), "/no"), "{only}");
    }
    // Without any route there is no virtual host, and the one for every host takes the request.
    let none = route("r", "a.example", "", other);
    assert!(!is_allowed(&world(&[&none]), "/"));
    assert!(is_allowed(&world(&[&none, &route("rest", "*", "", TO_SHOP)]), "/"));
    let unknown = "  - match: [{sourceLabels: {app: edge, version: v1}}]\n    route: [{destination: {host: shop}}]";
    let errors = opened(&[&route("r", "a.example", "", unknown)]).unwrap_err();
    assert!(
        errors.contains("the label version, which the workload of the ApiGateway ns/front does not say"),
        "{errors}"
    );
}

#[test]
fn what_an_api_does_not_do_is_refused_by_name() {
    for only in ["ignoreUriCase: true", "scheme: {exact: a}", "method: {exact: GET}", "authority: {exact: a}"]
        .into_iter()
        .chain(["headers: {a: {}}", "withoutHeaders: {a: {}}", "queryParams: {a: {}}"])
    {
        let http = format!("  - match: [{{{only}, uri: {{exact: /a}}}}]\n    route: [{{destination: {{host: shop}}}}]");
        let errors = opened(&[&route("r", "a.example", "", &http)]).unwrap_err();
        let name = only.split(':').next().unwrap();
        assert!(errors.contains(&format!("spec.http[0]: a match by `{name}` is not supported for an API")), "{errors}");
    }
    for (action, name) in [
        ("redirect: {uri: /}", "redirect"),
        ("directResponse: {status: 200}", "directResponse"),
        ("route: [{destination: {host: shop}}], rewrite: {uri: /}", "rewrite"),
        ("route: [{destination: {host: shop}}], fault: {abort: {httpStatus: 500}}", "fault"),
        ("route: [{destination: {host: shop}}], mirror: {host: shop}", "mirrors"),
        ("route: [{destination: {host: shop}}], headers: {request: {set: {a: b}}}", "headers"),
        ("route: [{destination: {host: shop}, headers: {response: {remove: [a]}}}]", "route[0].headers"),
        ("route: [{destination: {host: shop}}], corsPolicy: {}", "corsPolicy"),
        ("route: [{destination: {host: shop, subset: v1}}]", "route[0].destination.subset"),
    ] {
        let errors = opened(&[&route("r", "a.example", "", &format!("  - {{{action}}}"))]).unwrap_err();
        assert!(errors.contains(&format!("`{name}` is not supported for an API")), "{action} {errors}");
    }
    let errors = opened(&[&route(
        "r",
        "a.example",
        "",
        "  - {route: [{destination: {host: shop}, weight: 1}, {destination: {host: shop}, weight: 1}]}",
    )]);
    assert!(errors.unwrap_err().contains("weighted routes are not supported for an API"));
    let errors = opened(&[&route(
        "r",
        "a.example",
        "",
        "  - {match: [{uri: {regex: /a.*}}], route: [{destination: {host: shop}}]}",
    )]);
    assert!(errors.unwrap_err().contains("`uri.regex` is not supported for an API"));
    // These change no verdict.
    let timed = "  - {name: a, timeout: 5s, retries: {attempts: 1}, route: [{destination: {host: shop}, weight: 7}]}";
    let world = world(&[&route("r", "a.example", "", timed), SHOP]);
    assert_eq!([is_allowed(&world, "/"), is_allowed(&world, "/no")], [true, false]);
}

/// A `ServiceEntry` for `entry.example`, and a policy that denies requests to the port 9000 of workloads with `app: e`.
pub(crate) fn entry(meta: &str, spec: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: e, namespace: ns{meta}}}
spec: {{hosts: [entry.example], ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 9000}}], {spec}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: e, namespace: ns}}
spec:
  selector: {{matchLabels: {{app: e}}}}
  action: DENY
  rules: [{{to: [{{operation: {{ports: ['9000'], paths: ['/no']}}}}]}}]
"
    )
}

pub(crate) const TO_ENTRY: &str = "  - route: [{destination: {host: entry.example}}]";

fn workload(name: &str, spec: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, namespace: ns}}
spec: {{address: 10.0.0.1, {spec}}}
"
    )
}

#[test]
fn destinations_that_are_not_exported_to_the_gateway_are_refused() {
    let rule = route("r", "a.example", "", TO_ENTRY);
    for export_to in ["['.']", "['~']", "[other]"] {
        let entry = entry(", labels: {app: e}", &format!("resolution: DNS, exportTo: {export_to}"));
        let errors = opened(&[&rule, &entry]).unwrap_err();
        assert!(errors.contains("entry.example is not exported to the namespace edge"), "{export_to} {errors}");
    }
    let seen = entry(", labels: {app: e}", "resolution: DNS, exportTo: [edge]");
    assert_eq!(opened(&[&rule, &seen]), Ok(()));
    let service = |annotation: &str| {
        FRONT.replace(
            "metadata: {name: shop, namespace: ns}",
            &format!(
                "metadata: {{name: shop, namespace: ns, annotations: {{networking.istio.io/exportTo: '{annotation}'}}}}"
            ),
        )
    };
    let rule = route("r", "a.example", "", TO_SHOP);
    for (annotation, is_seen) in [("*", true), ("other, edge", true), (".", false), ("~", false), ("other", false)] {
        let text = format!("{}\n---\n{rule}", service(annotation));
        assert_eq!(open(&[("f.yaml", &text)]).is_ok(), is_seen, "{annotation}");
    }
}

#[test]
fn endpoints_say_ports() {
    let rule = route("r", "a.example", "", TO_ENTRY);
    let verdicts = |entry: &str| {
        let world = world(&[rule.as_str(), entry]);
        [is_allowed(&world, "/"), is_allowed(&world, "/no")]
    };
    let of = |endpoints: &str| entry(", labels: {app: e}", &format!("resolution: STATIC, endpoints: [{endpoints}]"));
    let denied = [true, false];
    assert_eq!(verdicts(&of("{address: 10.0.0.1}")), denied);
    // The port of the service's own target, and that of the endpoint.
    assert_eq!(verdicts(&of("{address: 10.0.0.1, ports: {http: 9001}}")), [true, true]);
    // Of two ports nobody knows which: the DENY rule loses its condition.
    assert_eq!(verdicts(&of("{address: 10.0.0.1, ports: {http: 9001}}, {address: 10.0.0.2}")), denied);
    assert_eq!(verdicts(&entry(", labels: {app: e}", "resolution: NONE")), denied);
}

/// Whose labels, ports and mutual TLS are not known for sure is no destination of an API.
#[test]
fn workloads_that_would_be_guessed_at_are_refused() {
    let rule = route("r", "a.example", "", TO_ENTRY);
    for (spec, expected) in [
        ("resolution: STATIC, endpoints: [{address: 10.0.0.1, labels: {app: e}}]", "endpoints have `labels`"),
        ("resolution: STATIC, workloadSelector: {labels: {app: e}}", "`workloadSelector`"),
    ] {
        let errors = opened(&[&rule, &entry(", labels: {app: e}", spec)]).unwrap_err();
        assert!(errors.contains(expected), "{errors}");
    }
    let errors = opened(&[&rule, &entry("", "resolution: DNS")]).unwrap_err();
    assert!(errors.contains("is a ServiceEntry without labels"), "{errors}");
    let to_shop = route("r", "a.example", "", TO_SHOP);
    let errors = opened(&[&to_shop, &workload("w", "labels: {app: shop, version: v1}")]).unwrap_err();
    assert!(errors.contains("a workload outside of Kubernetes"), "{errors}");
    assert_eq!(opened(&[&to_shop, &workload("w", "labels: {app: other}")]), Ok(()));
    // Istio gives a host the endpoints of its hidden documents too.
    let hidden = entry(", labels: {app: e}", "resolution: DNS, exportTo: ['.']")
        .replace("name: e, namespace: ns,", "name: e2, namespace: ns,");
    let seen = entry(", labels: {app: e}", "resolution: DNS");
    let hidden = hidden.split("---").next().unwrap_or_default().to_owned();
    let errors = opened(&[&rule, &seen, &hidden]).unwrap_err();
    assert!(errors.contains("sees some and not all"), "{errors}");
}

#[test]
fn rules_of_clients_that_turn_mutual_tls_off() {
    let rule = route("r", "a.example", "", TO_SHOP);
    let with = |namespace: &str, spec: &str| {
        let rule_of_client = format!(
            "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: d, namespace: {namespace}}}
spec: {{host: shop.ns.svc.cluster.local, {spec}}}
"
        );
        opened(&[&rule, &rule_of_client])
    };
    for (namespace, spec) in [
        ("ns", "trafficPolicy: {tls: {mode: SIMPLE}}"),
        ("ns", "trafficPolicy: {tls: {mode: DISABLE}}, exportTo: [edge]"),
        ("edge", "trafficPolicy: {tls: {mode: DISABLE}}"),
        ("edge", "trafficPolicy: {tls: {mode: DISABLE}}, exportTo: ['.']"),
        ("istio-system", "trafficPolicy: {tls: {mode: DISABLE}}"),
        ("ns", "trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}"),
        // A port without `tls` does not turn it on again.
        (
            "ns",
            "trafficPolicy: {tls: {mode: DISABLE}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}",
        ),
        ("edge", "trafficPolicy: {tls: {mode: SIMPLE}}, workloadSelector: {matchLabels: {app: edge}}"),
        ("edge", "trafficPolicy: {tls: {mode: SIMPLE}}, workloadSelector: {matchLabels: {unknown: a}}"),
    ] {
        let errors = with(namespace, spec).unwrap_err();
        assert!(errors.contains("turns mutual TLS to shop.ns.svc.cluster.local off"), "{namespace} {spec} {errors}");
    }
    for (namespace, spec) in [
        ("ns", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"),
        // Rules that the gateway does not get.
        ("ns", "trafficPolicy: {tls: {mode: DISABLE}}, exportTo: ['.']"),
        ("ns", "trafficPolicy: {tls: {mode: DISABLE}}, exportTo: [other]"),
        ("other", "trafficPolicy: {tls: {mode: DISABLE}}"),
        ("ns", "trafficPolicy: {tls: {mode: SIMPLE}}, workloadSelector: {matchLabels: {app: edge}}"),
        ("edge", "trafficPolicy: {tls: {mode: SIMPLE}}, workloadSelector: {matchLabels: {app: other}}"),
        ("ns", "trafficPolicy: {portLevelSettings: [{port: {number: 8080}, tls: {mode: DISABLE}}]}"),
        ("ns", "subsets: [{name: v1, trafficPolicy: {tls: {mode: DISABLE}}}]"),
        ("ns", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}, outlierDetection: {interval: 1s}}"),
    ] {
        assert_eq!(with(namespace, spec), Ok(()), "{namespace} {spec}");
    }
}
