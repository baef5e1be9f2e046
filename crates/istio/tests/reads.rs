//! What is read, and what it becomes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use istio::*;

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile { name: name.to_owned(), text: text.to_owned() }
}

fn read(text: &str) -> Resources {
    parse(&[file("f.yaml", text)]).unwrap()
}

/// The lines of the errors of `files`.
fn refused(files: &[SourceFile]) -> Vec<String> {
    parse(files).unwrap_err().iter().map(ToString::to_string).collect()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn policy(spec: &str) -> AuthorizationPolicy {
    let head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: ns1}\n";
    let resources = read(&format!("{head}{spec}"));
    resources.authorization_policies.into_iter().next().unwrap()
}

#[test]
fn authorization_policy() {
    let policy = policy(
        r#"
spec:
  selector: {matchLabels: {app: a}}
  action: DENY
  rules:
  - from:
    - source: {principals: [p], notPrincipals: [np], requestPrincipals: [r], notRequestPrincipals: [nr]}
    - source: {namespaces: [ns], notNamespaces: [nn]}
    to:
    - operation:
        hosts: [h]
        notHosts: [nh]
        ports: ["0", "65535"]
        notPorts: ["080"]
        methods: [GET]
        notMethods: ["*"]
        paths: [/a, "*/b", no-slash, "/{*}/b/{**}/"]
        notPaths: ["/c*"]
    when:
    - {key: source.principal, values: [v], notValues: [nv]}
"#,
    );
    let expected = AuthorizationPolicy {
        meta: Meta {
            name: "p".to_owned(),
            namespace: "ns1".to_owned(),
            namespace_given: true,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            origin: Origin { file: "f.yaml".to_owned(), line: 1 },
        },
        selector: Some(WorkloadSelector { match_labels: labels(&[("app", "a")]) }),
        target_refs: Vec::new(),
        action: Action::Deny,
        provider: None,
        dry_run: false,
        rules: Some(vec![Rule {
            from: Some(vec![
                Source {
                    principals: strings(&["p"]),
                    not_principals: strings(&["np"]),
                    request_principals: strings(&["r"]),
                    not_request_principals: strings(&["nr"]),
                    ..Source::default()
                },
                Source { namespaces: strings(&["ns"]), not_namespaces: strings(&["nn"]), ..Source::default() },
            ]),
            to: Some(vec![Operation {
                hosts: strings(&["h"]),
                not_hosts: strings(&["nh"]),
                ports: vec![0, 65535],
                not_ports: vec![80],
                methods: strings(&["GET"]),
                not_methods: strings(&["*"]),
                paths: strings(&["/a", "*/b", "no-slash", "/{*}/b/{**}/"]),
                not_paths: strings(&["/c*"]),
            }]),
            when: Some(vec![Condition {
                key: ConditionKey::SourcePrincipal,
                values: strings(&["v"]),
                not_values: strings(&["nv"]),
            }]),
        }]),
    };
    assert_eq!(policy, expected);
}

#[test]
fn absent_and_empty_are_told_apart() {
    for (spec, selector, rules) in [
        ("spec: {}", None, None),
        ("spec: {rules: []}", None, Some(vec![])),
        ("spec: {rules: [{}]}", None, Some(vec![Rule::default()])),
        ("spec: {rules: [{when: []}]}", None, Some(vec![Rule::default()])),
        ("spec: {selector: {}}", Some(WorkloadSelector::default()), None),
        ("spec: {selector: {matchLabels: {}}}", Some(WorkloadSelector::default()), None),
        // As in Istio, an empty list of values is an absent one.
        (
            "spec: {rules: [{from: [{source: {principals: [], namespaces: [a]}}]}]}",
            None,
            Some(vec![Rule {
                from: Some(vec![Source { namespaces: strings(&["a"]), ..Source::default() }]),
                ..Rule::default()
            }]),
        ),
    ] {
        let policy = policy(spec);
        assert_eq!((policy.selector, policy.rules, policy.action), (selector, rules, Action::Allow), "{spec}");
    }
}

#[test]
fn condition_keys() {
    let claims = |names: &[&str]| ConditionKey::RequestAuthClaims(strings(names));
    for (key, expected) in [
        ("destination.port", ConditionKey::DestinationPort),
        ("request.auth.audiences", ConditionKey::RequestAuthAudiences),
        ("request.auth.presenter", ConditionKey::RequestAuthPresenter),
        ("request.auth.principal", ConditionKey::RequestAuthPrincipal),
        ("source.namespace", ConditionKey::SourceNamespace),
        ("source.principal", ConditionKey::SourcePrincipal),
        ("request.headers[:method]", ConditionKey::RequestHeader(":method".to_owned())),
        ("request.headers[X-Token]", ConditionKey::RequestHeader("X-Token".to_owned())),
        ("request.auth.claims[scope]", claims(&["scope"])),
        ("request.auth.claims[a][b.c/d]", claims(&["a", "b.c/d"])),
        // Brackets that do not pair up are part of one name, as in Istio.
        ("request.auth.claims[a[b]]", claims(&["a[b]"])),
        ("request.auth.claims[a]x[b]", claims(&["a]x[b"])),
        ("request.auth.claims[a]]", claims(&["a]"])),
    ] {
        let spec = format!("spec: {{rules: [{{when: [{{key: \"{key}\", values: [\"80\"]}}]}}]}}");
        let rule = policy(&spec).rules.unwrap().remove(0);
        assert_eq!(rule.when.unwrap().remove(0).key, expected, "{key}");
    }
}

#[test]
fn request_authentication() {
    let resources = read(
        r#"
apiVersion: security.istio.io/v1beta1
kind: RequestAuthentication
metadata: {name: r}
spec:
  jwtRules:
  - issuer: https://a.example
    audiences: [x, z]
    jwksUri: HTTPS://a.example/jwks.json
    forwardOriginalToken: true
    fromHeaders: [{name: X-Token, prefix: "Token "}, {name: z}]
    outputClaimToHeaders: [{header: X_a-1, claim: a.b}]
  - {issuer: b, jwks: '{"keys":[]}'}
  - {issuer: c}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: nothing}
spec: {}
"#,
    );
    let [authentication, nothing] = resources.request_authentications.as_slice() else {
        unreachable!("two documents");
    };
    assert_eq!(authentication.meta.namespace, "default");
    assert_eq!(authentication.meta.origin.to_string(), "f.yaml:2");
    let header = |name: &str, prefix: &str| JwtHeader { name: name.to_owned(), prefix: prefix.to_owned() };
    assert_eq!(
        authentication.jwt_rules,
        [
            JwtRule {
                issuer: "https://a.example".to_owned(),
                audiences: strings(&["x", "z"]),
                jwks: None,
                jwks_uri: Some("HTTPS://a.example/jwks.json".to_owned()),
                forward_original_token: true,
                from_headers: vec![header("X-Token", "Token "), header("z", "")],
                output_claim_to_headers: vec![ClaimToHeader { header: "X_a-1".to_owned(), claim: "a.b".to_owned() }],
                ..JwtRule::default()
            },
            JwtRule { issuer: "b".to_owned(), jwks: Some("{\"keys\":[]}".to_owned()), ..JwtRule::default() },
            JwtRule { issuer: "c".to_owned(), ..JwtRule::default() },
        ]
    );
    assert_eq!((nothing.jwt_rules.len(), &nothing.selector), (0, &None));
}

#[test]
fn gateways_of_virtual_services_have_their_namespace() {
    for (gateways, expected) in [
        ("", vec!["mesh"]),
        ("gateways: []", vec!["mesh"]),
        ("gateways: [mesh, g]", vec!["mesh", "ns1/g"]),
        ("gateways: [./g, other/g]", vec!["ns1/g", "other/g"]),
    ] {
        let resources = read(&format!(
            "apiVersion: networking.istio.io/v1beta1\nkind: VirtualService\nmetadata: {{name: v, namespace: ns1}}\n\
             spec:\n  hosts: [a]\n  http: [{{route: [{{destination: {{host: a}}, weight: 100}}]}}]\n  {gateways}\n"
        ));
        let service = resources.virtual_services.first().unwrap();
        assert_eq!(service.gateways, expected, "{gateways}");
        let route = service.http.first().unwrap();
        let HttpAction::Route(destinations) = &route.action else { unreachable!("a route") };
        let only = &destinations.first().unwrap().destination;
        assert_eq!(*only, Destination { host: "a".to_owned(), subset: None, port: None });
        assert!(route.matches.is_empty());
    }
}

#[test]
fn services() {
    let resources = read(
        r#"
apiVersion: v1
kind: Service
metadata:
  name: a
  labels: {app: a}
  creationTimestamp: null
spec:
  type: ClusterIP
  clusterIP: None
  selector: {app: a, version: v1}
  ports:
  - {port: 80, targetPort: http, nodePort: 30080, appProtocol: grpc}
status: {loadBalancer: {}}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec:
  selector: {app: b}
  ports: [{name: x, port: 80, targetPort: 8080, protocol: TCP}, {name: z, port: 81}]
"#,
    );
    let [a, b] = resources.services.as_slice() else {
        unreachable!("two documents");
    };
    assert_eq!(a.selector, labels(&[("app", "a"), ("version", "v1")]));
    let port = |name: &str, port, target_port| ServicePort {
        name: name.to_owned(),
        port,
        protocol: "TCP".to_owned(),
        target_port,
        app_protocol: None,
    };
    let named = port("", 80, Some(TargetPort::Name("http".to_owned())));
    assert_eq!(a.ports, [ServicePort { app_protocol: Some("grpc".to_owned()), ..named }]);
    assert_eq!(b.ports, [port("x", 80, Some(TargetPort::Number(8080))), port("z", 81, None)]);
}

#[test]
fn service_entries_and_destination_rules() {
    let resources = read(
        r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: ["*.example.com"]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: http}]
  endpoints: [{address: "::1"}, {address: 10.0.0.1, ports: {http: 8080}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b}
spec:
  hosts: [b.example.com]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{number: 80, name: http, protocol: GRPC-Web}]
  subjectAltNames: [spiffe://cluster.local/ns/b/sa/b]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: b}
spec:
  host: b.example.com
  trafficPolicy: {tls: {mode: DISABLE, sni: x.example, subjectAltNames: [z]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: c}
spec: {host: "*.local"}
"#,
    );
    let [a, b] = resources.service_entries.as_slice() else {
        unreachable!("two documents");
    };
    assert_eq!((a.location, a.resolution), (Location::MeshExternal, Resolution::Static));
    assert_eq!((b.location, b.resolution), (Location::MeshInternal, Resolution::Dns));
    let endpoint = |address: &str, ports: &[(&str, u16)]| Endpoint {
        address: address.to_owned(),
        ports: ports.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect(),
        weight: 1,
        ..Endpoint::default()
    };
    assert_eq!(a.endpoints, [endpoint("::1", &[]), endpoint("10.0.0.1", &[("http", 8080)])]);
    assert_eq!(a.ports.first().unwrap().protocol, "HTTP");
    assert_eq!(b.ports.first().unwrap().protocol, "GRPC-WEB");
    assert_eq!(b.subject_alt_names, ["spiffe://cluster.local/ns/b/sa/b"]);
    let [b, c] = resources.destination_rules.as_slice() else {
        unreachable!("two documents");
    };
    let tls = ClientTls {
        mode: ClientTlsMode::Disable,
        sni: Some("x.example".to_owned()),
        subject_alt_names: strings(&["z"]),
        ca_certificates: None,
    };
    assert_eq!(b.traffic_policy, Some(TrafficPolicy { tls: Some(tls), ..TrafficPolicy::default() }));
    assert_eq!((c.host.as_str(), &c.traffic_policy), ("*.local", &None));
}

#[test]
fn causeway_kinds() {
    let resources = read(
        r#"
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {name: a}
spec: {issuer: i}
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {name: b}
spec: {issuer: i, headerName: X-Key, forwardOriginalKey: true, selector: {matchLabels: {a: b}}}
---
apiVersion: causeway.dev/v1alpha1
kind: ApiGateway
metadata: {name: a, namespace: ns1}
spec:
  apiId: a1b2
  stage: $default
  domains: [API.example, b.example]
  basePath: /v1/x
  gateway: g
  environment: dev
  sharesTokensWith: [test, stage]
  workload: {namespace: istio-system, labels: {istio: g}, serviceAccount: sa}
"#,
    );
    let [a, b] = resources.api_key_authentications.as_slice() else {
        unreachable!("two documents");
    };
    assert_eq!((a.header_name.as_str(), a.forward_original_key, &a.selector), ("x-api-key", false, &None));
    assert_eq!((b.header_name.as_str(), b.forward_original_key), ("x-key", true));
    assert!(b.selector.as_ref().unwrap().selects(&labels(&[("a", "b"), ("c", "d")])));
    assert!(!b.selector.as_ref().unwrap().selects(&labels(&[("a", "c")])));
    let gateway = resources.api_gateways.first().unwrap();
    assert_eq!(gateway.domains, ["api.example", "b.example"]);
    assert_eq!(gateway.gateway, "ns1/g");
    assert_eq!(
        (gateway.environment.as_str(), gateway.shares_tokens_with.as_slice()),
        ("dev", &strings(&["test", "stage"])[..])
    );
    assert_eq!(gateway.base_path.as_deref(), Some("/v1/x"));
    assert_eq!(gateway.workload.principal("td"), "td/ns/istio-system/sa/sa");
}

#[test]
fn mesh_configuration() {
    let defaults = MeshConfig::default();
    assert_eq!(read(""), Resources::default());
    assert_eq!((defaults.root_namespace.as_str(), defaults.trust_domain.as_str()), ("istio-system", "cluster.local"));
    for (mesh, root_namespace, trust_domain) in [
        ("mesh: ''", "istio-system", "cluster.local"),
        ("mesh: '# nothing'", "istio-system", "cluster.local"),
        ("mesh: 'trustDomain: td.example'", "istio-system", "td.example"),
        ("mesh: |\n    rootNamespace: root\n    defaultConfig: {a: b}\n    accessLogFile: ''", "root", "cluster.local"),
    ] {
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio}}\ndata:\n  {mesh}\n");
        let read = read(&text).mesh;
        assert_eq!(
            (read.root_namespace.as_str(), read.trust_domain.as_str()),
            (root_namespace, trust_domain),
            "{mesh}"
        );
        assert_eq!(read.origin.unwrap().line, 1);
    }
}

#[test]
fn what_belongs_to_others_is_listed() {
    let resources = read(
        "# A Deployment\n\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {x: 1}\n---\n---\n# nothing\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n---\n\
         apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: t}\nspec: {anything: goes}\n---\n\
         apiVersion: policy.linkerd.io/v1\nkind: AuthorizationPolicy\n---\n\
         apiVersion: istio.example.com/v1\nkind: Installation\n---\napiVersion: v1\nkind: Secret\n",
    );
    let skipped = |line, kind: &str, name: &str| Skipped {
        file: "f.yaml".to_owned(),
        line,
        kind: kind.to_owned(),
        name: name.to_owned(),
    };
    let expected = vec![
        skipped(3, "Deployment", "d"),
        skipped(11, "ConfigMap", "other"),
        skipped(15, "Gateway", ""),
        skipped(18, "Telemetry", "t"),
        skipped(23, "AuthorizationPolicy", ""),
        skipped(26, "Installation", ""),
        skipped(29, "Secret", ""),
    ];
    assert_eq!(resources, Resources { skipped: expected, ..Resources::default() });
}

#[test]
fn dry_run_that_is_off_is_no_dry_run() {
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                metadata: {name: p, annotations: {istio.io/dry-run: 'false'}}\nspec: {}\n";
    assert_eq!(read(text).authorization_policies.len(), 1);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark() {
    let text = "\u{feff}apiVersion: v1\r\nkind: Service\r\nmetadata: {name: a}\r\nspec:\r\n  selector: {app: a}\r\n  \
                ports: [{port: 0}]\r\n";
    let errors = refused(&[file("f.yaml", text)]);
    assert_eq!(errors, ["f.yaml:6:18: spec.ports[0].port: expected a port from 1 to 65535, found 0"]);
}

#[test]
fn a_document_that_is_given_twice_names_both_places() {
    let text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\n\
                spec: {mtls: {mode: STRICT}}\n";
    let elsewhere = text.replace("{name: a}", "{name: a, namespace: ns1}");
    assert_eq!(read(&format!("{text}---\n{elsewhere}")).peer_authentications.len(), 2);
    // Another version of the same group is the same document.
    let again = format!("---\n{}", text.replace("/v1\n", "/v1beta1\n"));
    assert_eq!(
        refused(&[file("a.yaml", text), file("b.yaml", &again)]),
        ["b.yaml:2:1: PeerAuthentication `a` in namespace `default` is already given at a.yaml:1"]
    );
}

#[test]
fn a_tab_is_reported_where_it_is() {
    let rows = [
        ("apiVersion: v1\nkind: Service\nmetadata:\n\tname: a\n", "4:1"),
        ("kind: Service\nmetadata:\n  name: a\n  labels:\n    a: b\n\tc: d\n", "6:1"),
        ("kind: Service\nmetadata:\n  labels:\n    a: b\n  \tc: d\nspec: {}\n", "5:3"),
    ];
    for (text, place) in rows {
        assert_eq!(
            refused(&[file("a.yaml", text)]),
            [format!(
                "a.yaml:{place}: not valid YAML: a tab; indent with spaces, and write none but spaces behind `:` and `-`"
            )],
            "{text:?}"
        );
    }
}

#[test]
fn errors_of_all_files_come_at_once() {
    let files = [file("a.yaml", "a: 1"), file("b.yaml", "- 1"), file("c.yaml", "{"), file("d.yaml", "")];
    assert_eq!(
        refused(&files),
        [
            "a.yaml:1:1: no Kubernetes document: `apiVersion` and `kind` are missing; keep the file out of the folder",
            "b.yaml:1:1: expected a mapping with `apiVersion` and `kind`, found a list",
            "c.yaml:2:1: not valid YAML: while parsing a node, did not find expected node content",
        ]
    );
}
