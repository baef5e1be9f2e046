//! The access policy: words, defaults and bounds that the printed resources do not show.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use istio::*;

fn file(text: &str) -> [SourceFile; 1] {
    [SourceFile { name: "f".to_owned(), text: text.to_owned() }]
}

fn document(kind: &str, spec: &str) -> String {
    format!("apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: a, namespace: ns1}}\nspec: {spec}\n")
}

fn read(kind: &str, spec: &str) -> Resources {
    parse(&file(&document(kind, spec))).unwrap_or_else(|errors| unreachable!("{spec}: {errors:?}"))
}

fn policy(spec: &str) -> AuthorizationPolicy {
    read("AuthorizationPolicy", spec).authorization_policies.remove(0)
}

fn jwt_rule(rule: &str) -> JwtRule {
    let spec = format!("{{jwtRules: [{rule}]}}");
    read("RequestAuthentication", &spec).request_authentications.remove(0).jwt_rules.remove(0)
}

/// The first error, without its place.
fn refused(text: &str) -> String {
    let errors = parse(&file(text)).unwrap_err();
    errors.first().unwrap().message.clone()
}

#[test]
fn condition_keys_are_shown_as_they_are_written() {
    for key in [
        "connection.sni",
        "destination.ip",
        "destination.port",
        "remote.ip",
        "request.auth.audiences",
        "request.auth.presenter",
        "request.auth.principal",
        "source.ip",
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "source.trustDomain",
        "request.headers[:method]",
        "request.headers[a]b]",
        "request.auth.claims[a][b.c/d]",
        "request.auth.claims[a[b]]",
        "experimental.envoy.filters.a.b[c]",
        // Istio: one name, whatever brackets are in it.
        "experimental.envoy.filters.a[b][c]",
    ] {
        // Each value is one that its key takes.
        let value = match key {
            "destination.port" => "80",
            "source.trustDomain" | "source.serviceAccount" => "a",
            _ => "10.0.0.1",
        };
        let policy = policy(&format!("{{rules: [{{when: [{{key: \"{key}\", notValues: [\"{value}\"]}}]}}]}}"));
        let condition = policy.rules.unwrap().remove(0).when.unwrap().remove(0);
        assert_eq!(condition.key.to_string(), key);
    }
    let policy = policy("{rules: [{when: [{key: 'experimental.envoy.filters.a[b][c]', values: ['[x]']}]}]}");
    let key = policy.rules.unwrap().remove(0).when.unwrap().remove(0).key;
    assert_eq!(key, ConditionKey::EnvoyFilter { filter: "envoy.filters.a".to_owned(), path: vec!["b][c".to_owned()] });
}

#[test]
fn dry_run_in_all_words_of_go() {
    for (word, expected) in [
        ("1", true),
        ("t", true),
        ("T", true),
        ("true", true),
        ("True", true),
        ("TRUE", true),
        ("0", false),
        ("f", false),
        ("F", false),
        ("false", false),
        ("False", false),
        ("FALSE", false),
    ] {
        let text = document("AuthorizationPolicy", "{}")
            .replace("namespace: ns1", &format!("annotations: {{istio.io/dry-run: \"{word}\"}}"));
        let policy = parse(&file(&text)).unwrap().authorization_policies.remove(0);
        assert_eq!(policy.dry_run, expected, "{word}");
    }
}

#[test]
fn dry_run_means_nothing_to_kubernetes() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: {istio.io/dry-run: maybe}}\n\
                spec: {selector: {app: a}, ports: [{port: 80}]}\n";
    assert_eq!(parse(&file(text)).unwrap().services.len(), 1);
}

#[test]
fn targets() {
    let target = |group: &str, kind: &str| TargetRef {
        group: group.to_owned(),
        kind: kind.to_owned(),
        name: "x".to_owned(),
        namespace: None,
    };
    for (spec, expected) in [
        ("{targetRef: {kind: Service, name: x}}", vec![target("", "Service")]),
        ("{targetRef: {group: core, kind: Service, name: x, namespace: ''}}", vec![target("", "Service")]),
        ("{targetRefs: []}", vec![]),
        (
            "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: x}, {kind: Service, name: x}]}",
            vec![target("gateway.networking.k8s.io", "Gateway"), target("", "Service")],
        ),
    ] {
        assert_eq!(policy(spec).target_refs, expected, "{spec}");
        assert_eq!(read("RequestAuthentication", spec).request_authentications.remove(0).target_refs, expected);
    }
}

#[test]
fn key_sets_and_timeouts() {
    assert_eq!(jwt_rule("{jwksUri: 'https://a.example/'}").issuer, "");
    let both_names = ["jwksUri", "jwks_uri"].map(|name| jwt_rule(&format!("{{{name}: 'http://a.example:80/b?c'}}")));
    assert_eq!(both_names[0], both_names[1]);
    assert_eq!(both_names[0].jwks_uri.as_deref(), Some("http://a.example:80/b?c"));
    for (timeout, expected) in
        [("1ms", 1), ("5s", 5_000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("0.5s", 500), ("1000us", 1)]
    {
        let rule = jwt_rule(&format!("{{issuer: a, timeout: {timeout}}}"));
        assert_eq!(rule.timeout, Some(Duration::from_millis(expected)), "{timeout}");
    }
}

#[test]
fn mutual_tls_has_defaults() {
    for (spec, expected) in [
        ("{}", MtlsMode::Unset),
        ("{mtls: {}}", MtlsMode::Unset),
        ("{mtls: {mode: UNSET}}", MtlsMode::Unset),
        ("{mtls: {mode: STRICT}}", MtlsMode::Strict),
    ] {
        assert_eq!(read("PeerAuthentication", spec).peer_authentications.remove(0).mode, expected, "{spec}");
    }
    let spec = "{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {}, '81': {mode: DISABLE}}}";
    let ports = read("PeerAuthentication", spec).peer_authentications.remove(0).port_level;
    assert_eq!(ports.into_iter().collect::<Vec<_>>(), [(80, MtlsMode::Unset), (81, MtlsMode::Disable)]);
}

#[test]
fn providers_have_defaults() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, annotations: {causeway.dev/adapter-providers: b}}\n\
                data:\n  mesh: |\n    pathNormalization: {normalization: DEFAULT}\n    extensionProviders:\n    \
                - {name: a, envoyExtAuthzHttp: {service: a.b, port: 80, statusOnError: \"\"}}\n    \
                - {name: b, envoyExtAuthzGrpc: {service: n/a.b, port: \"80\", failOpen: true, statusOnError: \"503\", \
                   includeRequestBodyInCheck: {maxRequestBytes: \"8192\"}}}\n    \
                - {name: Any.Name, opentelemetry: {service: a, anything: [goes]}}\n";
    let mesh = parse(&file(text)).unwrap().mesh;
    assert_eq!(mesh.path_normalization, PathNormalization::Base);
    let provider = |name: &str, authorizer: Option<(bool, u16)>, is_adapter| ExtensionProvider {
        name: name.to_owned(),
        authorizer: authorizer.map(|(fail_open, status_on_error)| ExternalAuthorizer { fail_open, status_on_error }),
        is_adapter,
    };
    let expected = [
        provider("a", Some((false, 403)), false),
        provider("b", Some((true, 503)), true),
        provider("Any.Name", None, false),
    ];
    assert_eq!(mesh.extension_providers, expected);
}

/// `count` times `item` with commas between.
fn times(count: usize, item: &str) -> String {
    vec![item; count].join(",")
}

#[test]
fn bounds_of_istios_schema() {
    let source = |source: &str| format!("{{rules: [{{from: [{{source: {{{source}}}}}]}}]}}");
    let rule = |rule: &str| format!("{{jwtRules: [{{issuer: a, {rule}}}]}}");
    let labels = |count| {
        let labels: Vec<_> = (0..count).map(|label| format!("l{label}: a")).collect();
        format!("{{selector: {{matchLabels: {{{}}}}}}}", labels.join(","))
    };
    type Spec<'a> = Box<dyn Fn(usize) -> String + 'a>;
    let authorization = "AuthorizationPolicy";
    let request = "RequestAuthentication";
    let rows: [(&str, usize, Spec<'_>, &str); 13] = [
        (
            authorization,
            512,
            Box::new(|n| format!("{{rules: [{}]}}", times(n, "{}"))),
            "at most 512 elements, found 513",
        ),
        (
            authorization,
            512,
            Box::new(|n| format!("{{rules: [{{from: [{}]}}]}}", times(n, "{source: {principals: [a]}}"))),
            "at most 512 elements, found 513",
        ),
        (
            authorization,
            16,
            Box::new(|n| format!("{{targetRefs: [{}]}}", times(n, "{kind: Service, name: a}"))),
            "at most 16 elements, found 17",
        ),
        (
            authorization,
            16,
            Box::new(|n| source(&format!("serviceAccounts: [{}]", times(n, "a")))),
            "at most 16 elements, found 17",
        ),
        (
            authorization,
            320,
            Box::new(|n| source(&format!("notServiceAccounts: [{}]", "a".repeat(n)))),
            "expected a service account of at most 320 bytes, found 321",
        ),
        (
            authorization,
            16,
            Box::new(|n| {
                format!("{{rules: [{{when: [{{key: source.serviceAccount, values: [{}]}}]}}]}}", times(n, "a"))
            }),
            "at most 16 elements, found 17",
        ),
        (
            authorization,
            253,
            Box::new(|n| format!("{{targetRef: {{kind: Service, name: {}}}}}", "a".repeat(n))),
            "expected the name of a target of at most 253 characters",
        ),
        (
            authorization,
            63,
            Box::new(|n| format!("{{selector: {{matchLabels: {{a: {}}}}}}}", "a".repeat(n))),
            "expected the value of label `a` to have at most 63 characters",
        ),
        (authorization, 4096, Box::new(labels), "at most 4096 elements, found 4097"),
        (
            request,
            4096,
            Box::new(|n| format!("{{jwtRules: [{}]}}", times(n, "{issuer: a}"))),
            "at most 4096 elements, found 4097",
        ),
        (
            request,
            64,
            Box::new(|n| rule(&format!("spaceDelimitedClaims: [{}]", times(n, "a")))),
            "at most 64 elements, found 65",
        ),
        (
            request,
            2048,
            Box::new(|n| rule(&format!("jwksUri: 'https://a/{}'", "a".repeat(n - "https://a/".len())))),
            "expected a URI of at most 2048 bytes, found 2049",
        ),
        (request, 65535, Box::new(|n| rule(&format!("jwksUri: 'https://a:{n}/'"))), "expected an http or https URI"),
    ];
    for (kind, most, spec, words) in rows {
        assert_eq!(parse(&file(&document(kind, &spec(most)))).err(), None, "{words}");
        let refused = refused(&document(kind, &spec(most + 1)));
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn refused_kinds_may_be_ignored() {
    for kind in ignorable_kinds() {
        let group = match kind {
            "TrafficExtension" | "WasmPlugin" => "extensions.istio.io/v1alpha1",
            "IstioOperator" => "install.istio.io/v1alpha1",
            _ => "networking.istio.io/v1alpha3",
        };
        let files = file(&format!("apiVersion: {group}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{a: b}}\n"));
        let allow =
            |kinds: &[&str]| ParseOptions { allow_ignored: kinds.iter().map(|kind| (*kind).to_owned()).collect() };
        let errors = parse_with(&files, &allow(&["Other", "AuthorizationPolicy"])).unwrap_err();
        assert_eq!(
            errors.first().unwrap().to_string(),
            format!(
                "f:2:7: kind: the kind `{kind}` of Istio is not supported yet and could change a verdict or a route; \
                 remove the document, or say that it may be ignored (`--allow-ignored {kind}`)"
            )
        );
        let resources = parse_with(&files, &allow(&["Other", kind])).unwrap();
        let skipped = Skipped { file: "f".to_owned(), line: 1, kind: kind.to_owned(), name: "x".to_owned() };
        assert_eq!(resources, Resources { skipped: vec![skipped], ..Resources::default() });
    }
    // What is read is never ignored.
    let options = ParseOptions { allow_ignored: vec!["AuthorizationPolicy".to_owned()] };
    let files = file(&document("AuthorizationPolicy", "{}"));
    assert_eq!(parse_with(&files, &options).unwrap().authorization_policies.len(), 1);
}

#[test]
fn conflicts_name_both_files() {
    let policy = document("PeerAuthentication", "{}");
    let files = [
        SourceFile { name: "a.yaml".to_owned(), text: policy.clone() },
        SourceFile { name: "b.yaml".to_owned(), text: format!("# second\n{}", policy.replace("name: a", "name: b")) },
    ];
    assert_eq!(
        parse(&files).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["b.yaml:2:1: a PeerAuthentication for the same workloads is already given at a.yaml:1; keep one"]
    );
}
