#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use istio::SourceFile;

use super::*;

/// A shop behind an API: what the examples stand in. A document of it is left out where an example has its kind.
const AROUND: &[&str] = &[
    "kind: Service
metadata: {name: web, namespace: shop}
spec:
  ports: [{name: http, port: 80, targetPort: 8080}]
  selector: {app: web}
",
    "kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.example]
    tls: {mode: SIMPLE, credentialName: shop}
",
    "kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [front]
  http:
  - route: [{destination: {host: web, port: {number: 80}}}]
",
    "kind: ApiGateway
metadata: {name: front, namespace: shop}
spec:
  apiId: a
  stage: $default
  domain: shop.example
  gateway: shop/front
  workload: {namespace: istio-system, labels: {istio: ingressgateway}, serviceAccount: gateway}
  environment: dev
",
    "kind: RequestAuthentication
metadata: {name: idp, namespace: istio-system}
spec:
  jwtRules:
  - {issuer: \"https://idp.example\", jwksUri: \"https://idp.example/jwks.json\", audiences: [shop], forwardOriginalToken: true}
",
    "kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
",
];

fn kind(document: &str) -> &str {
    document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap()
}

fn api_version(kind: &str) -> &'static str {
    match kind {
        "AuthorizationPolicy" | "RequestAuthentication" | "PeerAuthentication" => "security.istio.io/v1",
        "ApiGateway" | "ApiKeyAuthentication" => "causeway.dev/v1alpha1",
        "ConfigMap" | "Service" => "v1",
        _ => "networking.istio.io/v1",
    }
}

/// The findings in `text`, with the shop around it. A comment in its first line names its file.
pub(super) fn found(text: &str) -> Vec<Finding> {
    let (file, text) = text.strip_prefix("# ").and_then(|rest| rest.split_once('\n')).unwrap_or(("f.yaml", text));
    let idle = IdleFile::of_folder(&SourceFile { name: file.to_owned(), text: text.to_owned() });
    let options = LintOptions { idle_files: idle.into_iter().collect(), ..LintOptions::default() };
    let text = if options.idle_files.is_empty() { text } else { "" };
    let (template, own): (Vec<&str>, Vec<&str>) =
        text.split("---\n").filter(|text| !text.is_empty()).partition(|document| document.starts_with("Resources:"));
    let kinds: BTreeSet<&str> = own.iter().map(|document| kind(document)).collect();
    let around = AROUND.iter().copied().filter(|document| !kinds.contains(kind(document)));
    let documents: Vec<String> = own
        .iter()
        .copied()
        .chain(around)
        .map(|document| format!("apiVersion: {}\n{document}", api_version(kind(document))))
        .collect();
    let text = documents.join("---\n");
    let resources = istio::parse(&[SourceFile { name: "f.yaml".to_owned(), text: text.clone() }])
        .unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    if template.is_empty() {
        return lint(&resources, None, &options);
    }
    let compiled = crate::configuration::compile(&resources, &authz::CompileOptions::default()).unwrap();
    let policies = Policies::open(&compiled.section).unwrap();
    let mut templates = Templates::default();
    for text in &template {
        templates.add_text("t.yaml", text).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    }
    lint(&resources, Some((&policies, &templates)), &options)
}

#[test]
fn each_code_finds_its_example_and_not_what_is_to_be_written_instead() {
    let mut wrong = Vec::new();
    for code in all() {
        let bad = std::panic::catch_unwind(|| found(code.wrong));
        let good = std::panic::catch_unwind(|| found(code.right));
        match (bad, good) {
            (Ok(bad), Ok(good)) => {
                if !bad.iter().any(|finding| finding.code == code.name) {
                    wrong.push(format!("{}: not found in its example, but {bad:#?}", code.name));
                }
                if let Some(finding) = good.iter().find(|finding| finding.code == code.name) {
                    wrong.push(format!("{}: {finding} found in what is to be written instead", code.name));
                }
            }
            _ => wrong.push(format!("{}: its examples are not read", code.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_are_unique_and_kebab_case() {
    let names: Vec<&str> = all().iter().map(|code| code.name).collect();
    let unique: BTreeSet<&&str> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    for code in all() {
        let kebab = code.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(kebab && !code.name.starts_with('-'), "{}", code.name);
        for text in [code.what, code.instead] {
            assert!(!text.is_empty() && !text.ends_with('.') && !text.contains("  "), "{}: {text}", code.name);
        }
        assert!(code.why.ends_with(['.', ')']) && !code.why.contains("  "), "{}: {}", code.name, code.why);
    }
}

/// The paths, messages and advice of what `code` finds in `text`.
fn said(code: &str, text: &str) -> Vec<String> {
    let found = found(text).into_iter().filter(|finding| finding.code == code);
    found.map(|Finding { path, message, instead, .. }| format!("{path}: {message}; {instead}")).collect()
}

/// A policy of the namespace `shop` with one rule.
fn with_rule(action: &str, rule: &str) -> String {
    let provider = if action == "CUSTOM" { "  provider: {name: p}\n" } else { "" };
    format!(
        "kind: AuthorizationPolicy\nmetadata: {{name: example, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n  \
         action: {action}\n{provider}  rules:\n  - {rule}\n"
    )
}

#[test]
fn templates_have_twins_as_well() {
    let rows: [(&str, &[&str]); 6] = [
        (
            r#"["/items/{*}/admin"]"#,
            &[
                "[0]: `/items/{*}/admin` is denied, and `/items/{*}/admin/` is not; write `/items/{*}/admin/{**}` beside it",
            ],
        ),
        (r#"["/items/{*}/admin", "/items/{*}/admin/{**}"]"#, &[]),
        (r#"["/items/{*}/admin", "/items", "/items/{**}"]"#, &[]),
        (
            r#"["/items/{*}/{**}"]"#,
            &["[0]: `/items/{*}/{**}` is denied, and `/items/{*}` is not; write `/items/{*}` beside it"],
        ),
        (r#"["/admin/{**}"]"#, &["[0]: `/admin/{**}` is denied, and `/admin` is not; write `/admin` beside it"]),
        (r#"["/a/{**}/b"]"#, &[]),
    ];
    for (paths, expected) in rows {
        let said = said("path-without-twins", &with_rule("DENY", &format!("to: [{{operation: {{paths: {paths}}}}}]")));
        let expected: Vec<String> =
            expected.iter().map(|text| format!("spec.rules[0].to[0].operation.paths{text}")).collect();
        assert_eq!(said, expected, "{paths}");
    }
}

#[test]
fn a_custom_policy_may_ask_whether_a_credential_is_there() {
    let mesh = "kind: ConfigMap\nmetadata: {name: istio, namespace: istio-system, annotations: {causeway.dev/adapter-providers: p}}\n\
                data:\n  mesh: |-\n    extensionProviders:\n    - {name: p, envoyExtAuthzGrpc: {service: p.shop.svc.cluster.local, port: 9191}}\n";
    let document = |value: &str, action: &str| {
        let rule = format!("when: [{{key: \"request.headers[authorization]\", values: [\"{value}\"]}}]");
        format!("{}---\n{mesh}", with_rule(action, &rule))
    };
    assert_eq!(said("credential-header-condition", &document("*", "CUSTOM")), Vec::<String>::new());
    for (value, action) in [("Bearer *", "CUSTOM"), ("*", "DENY")] {
        assert_eq!(said("credential-header-condition", &document(value, action)).len(), 1, "{value} {action}");
    }
    let get = said(
        "deny-get-without-head",
        &format!("{}---\n{mesh}", with_rule("CUSTOM", "to: [{operation: {methods: [GET]}}]")),
    );
    assert!(get.iter().any(|text| text.contains("GET is put to the provider and HEAD is not")), "{get:?}");
}

#[test]
fn one_port_may_accept_plaintext() {
    let rule = r#"from: [{source: {notNamespaces: [guests]}}]"#;
    // What the workload says, what its port says, and whether plaintext passes.
    let rows = [
        ("STRICT", "8080: {mode: PERMISSIVE}", true),
        ("STRICT", "8080: {mode: DISABLE}", true),
        ("STRICT", "9090: {mode: PERMISSIVE}", false),
        ("STRICT", "8080: {mode: UNSET}", false),
        ("PERMISSIVE", "8080: {mode: STRICT}", false),
        ("PERMISSIVE", "9090: {mode: STRICT}", true),
    ];
    for (mode, port, plaintext) in rows {
        let peers = format!(
            "kind: PeerAuthentication\nmetadata: {{name: web, namespace: shop}}\nspec: {{selector: {{matchLabels: {{app: web}}}}, \
             mtls: {{mode: {mode}}}, portLevelMtls: {{{port}}}}}\n"
        );
        let said = said("allow-not-peer", &format!("{}---\n{peers}", with_rule("ALLOW", rule)));
        assert_eq!(!said.is_empty(), plaintext, "{mode} {port}: {said:?}");
    }
}

#[test]
fn a_pattern_of_subjects_is_of_any_issuer_too() {
    let tokens = "kind: RequestAuthentication\nmetadata: {name: idp, namespace: shop}\nspec:\n  jwtRules:\n  - {issuer: \
                  \"https://idp.example\", audiences: [shop]}\n  - {issuer: \"https://other.example\", audiences: [shop]}\n";
    for (value, found) in
        [("*@shop.example", true), ("*/alice", true), ("*/*", false), ("https://idp.example/a*", false)]
    {
        let rule = format!("from: [{{source: {{requestPrincipals: [\"{value}\"]}}}}]");
        let said = said("request-principal-any-issuer", &format!("{}---\n{tokens}", with_rule("ALLOW", &rule)));
        assert_eq!(!said.is_empty(), found, "{value}: {said:?}");
    }
}

#[test]
fn a_star_behind_a_star_is_no_wildcard() {
    let rule = |value: &str| with_rule("ALLOW", &format!("from: [{{source: {{requestPrincipals: [\"{value}\"]}}}}]"));
    let found = said("literal-star", &rule("*/*"));
    assert!(
        found.iter().any(|text| text.ends_with("write `*` for any issuer and any subject, or `ISSUER/*`")),
        "{found:?}"
    );
    assert_eq!(said("literal-star", &rule("*/alice*")).len(), 1);
}

#[test]
fn what_api_gateway_never_knows_is_what_the_gate_is_not_told() {
    let keys = [
        (authz::Attribute::SourceIp, "source.ip", "10.0.0.1"),
        (authz::Attribute::DestinationIp, "destination.ip", "10.0.0.1"),
        (authz::Attribute::Sni, "connection.sni", "shop.example"),
        (authz::Attribute::DynamicMetadata, "experimental.envoy.filters.a.b[c]", "d"),
        (authz::Attribute::RemoteIp, "remote.ip", "203.0.113.7"),
    ];
    for (hop, never) in authz::UNAVAILABLE_AT_API_GATEWAY {
        let (namespace, label) = match hop {
            authz::Hop::Gateway => ("istio-system", "istio: ingressgateway"),
            _ => ("shop", "app: web"),
        };
        for (attribute, key, value) in keys {
            let text = format!(
                "kind: AuthorizationPolicy\nmetadata: {{name: example, namespace: {namespace}}}\nspec:\n  selector: {{matchLabels: \
                 {{{label}}}}}\n  rules:\n  - when: [{{key: \"{key}\", values: [\"{value}\"]}}]\n"
            );
            let said = said("api-gateway-allow-dead", &text);
            assert_eq!(!said.is_empty(), never.contains(&attribute), "{hop} {key}: {said:?}");
        }
    }
}

#[test]
fn halves_of_a_rule_are_told_from_rules_that_are_meant() {
    let (from, to) = ("- from: [{source: {namespaces: [a]}}]", "- to: [{operation: {methods: [GET]}}]");
    let when = "- to: [{operation: {methods: [GET]}}]\n    when: [{key: source.namespace, values: [b]}]";
    let both = "- from: [{source: {namespaces: [a]}}]\n    to: [{operation: {methods: [PUT]}}]";
    let from_when = "- from: [{source: {namespaces: [a]}}]\n    when: [{key: source.serviceAccount, values: [a/b]}]";
    // The rules, the action, and whether a stray dash is asked about.
    let rows = [
        (vec![from, to], "ALLOW", true),
        (vec![to, from], "ALLOW", true),
        (vec![from, to], "DENY", true),
        (vec![from, to], "AUDIT", false),
        (vec![to], "ALLOW", false),
        (vec![from], "ALLOW", false),
        (vec![both, to], "ALLOW", false),
        (vec![when], "ALLOW", false),
        (vec![both, when], "ALLOW", false),
        (vec![from_when, when], "ALLOW", false),
    ];
    for (rules, action, found) in rows {
        let text = with_rule(action, "{}").replace("  - {}\n", &format!("  {}\n", rules.join("\n  ")));
        let split = said("rule-split", &text);
        assert_eq!(!split.is_empty(), found, "{rules:?} {action}: {split:?}");
        assert!(split.iter().all(|text| text.contains("did a stray `-` split one rule in two?")), "{split:?}");
        // It is said once.
        assert!(!found || said("allow-anyone", &text).is_empty(), "{rules:?} {action}");
    }
}

#[test]
fn callers_without_an_operation_are_named_where_the_other_half_has_callers_of_its_own() {
    let from = r#"- from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]"#;
    let scoped =
        "- to: [{operation: {methods: [GET]}}]\n    when: [{key: \"request.auth.claims[scope]\", values: [read]}]";
    let rows = [
        (vec![from, scoped], "ALLOW", "spec.rules[0]", "these callers may do everything"),
        (vec![scoped, from], "ALLOW", "spec.rules[1]", "these callers may do everything"),
        (vec![from, scoped], "DENY", "spec.rules[0]", "these callers are denied everything"),
    ];
    for (rules, action, path, effect) in rows {
        let text = with_rule(action, "{}").replace("  - {}\n", &format!("  {}\n", rules.join("\n  ")));
        let said = said("rule-split", &text);
        assert!(said.len() == 1 && said[0].starts_with(path) && said[0].contains(effect), "{action}: {said:?}");
    }
}

#[test]
fn a_namespace_that_is_left_out_is_told_from_default() {
    for kind in ["AuthorizationPolicy", "RequestAuthentication", "PeerAuthentication", "ApiKeyAuthentication"] {
        for (metadata, found) in [("{name: example}", true), ("{name: example, namespace: default}", false)] {
            let spec = match kind {
                "ApiKeyAuthentication" => "{issuer: \"https://idp.example\", headerName: x-api-key}",
                _ => "{}",
            };
            let text = format!("kind: {kind}\nmetadata: {metadata}\nspec: {spec}\n");
            let said = said("namespace-missing", &text);
            assert_eq!(!said.is_empty(), found, "{kind} {metadata}: {said:?}");
        }
    }
}

#[test]
fn a_dry_run_says_whether_everybody_passes() {
    let tried = "kind: AuthorizationPolicy\nmetadata: {name: tried, namespace: shop, annotations: {istio.io/dry-run: \"true\"}}\n\
                 spec: {action: ACTION, rules: [{to: [{operation: {methods: [GET]}}]}]}\n";
    let enforced = with_rule("ALLOW", "to: [{operation: {methods: [GET]}}]");
    let rows = [
        (tried.replace("ACTION", "ALLOW"), true),
        (format!("{}---\n{enforced}", tried.replace("ACTION", "ALLOW")), false),
        (tried.replace("ACTION", "DENY"), false),
    ];
    for (text, everybody) in rows {
        let said = said("dry-run", &text);
        assert_eq!(said.len(), 1, "{text}");
        assert_eq!(said.iter().any(|text| text.contains("everybody passes")), everybody, "{text}: {said:?}");
    }
}

#[test]
fn a_denial_of_a_claim_is_evaded_where_the_anonymous_pass() {
    let deny = with_rule("DENY", "when: [{key: \"request.auth.claims[role]\", values: [guest]}]");
    let allow = |rules: &str| {
        format!("kind: AuthorizationPolicy\nmetadata: {{name: allow, namespace: shop}}\nspec: {{rules: [{rules}]}}\n")
    };
    let token = "{from: [{source: {requestPrincipals: [\"*\"]}}]}";
    let anyone = "{to: [{operation: {paths: [/prices]}}]}";
    let anonymous = "kind: AuthorizationPolicy\nmetadata: {name: anonymous, namespace: shop}\n\
                     spec: {action: DENY, rules: [{from: [{source: {notRequestPrincipals: [\"*\"]}}]}]}\n";
    let rows = [
        (deny.clone(), Some("no ALLOW policy demands one here")),
        (format!("{deny}---\n{}", allow(token)), None),
        (format!("{deny}---\n{}", allow(&format!("{token}, {anyone}"))), Some("spec.rules[1] of shop/allow allows it")),
        (format!("{deny}---\n{anonymous}"), None),
        (deny.replace("[guest]", "[\"*\"]"), None),
        (deny.replace("values", "notValues"), None),
    ];
    for (text, words) in rows {
        let said = said("deny-token-left-out", &text);
        assert_eq!(said.len(), usize::from(words.is_some()), "{text}: {said:?}");
        assert!(said.iter().all(|text| text.contains(words.unwrap_or_default())), "{text}: {said:?}");
        assert!(said.iter().all(|text| text.contains("`values of request.auth.claims[role]`")), "{text}: {said:?}");
    }
}

#[test]
fn negations_of_a_denial_are_one_condition() {
    let rows = [
        ("to: [{operation: {notPaths: [/a], notMethods: [GET]}}]", true),
        ("from: [{source: {notNamespaces: [a], notRequestPrincipals: [\"*\"]}}]", true),
        ("from: [{source: {notNamespaces: [a]}}]\n    when: [{key: remote.ip, notValues: [10.0.0.1]}]", true),
        // Everything but public paths wants a token.
        ("from: [{source: {notRequestPrincipals: [\"*\"]}}]\n    to: [{operation: {notPaths: [/public]}}]", false),
        ("from: [{source: {notNamespaces: [a]}}, {source: {notRequestPrincipals: [\"*\"]}}]", false),
        ("to: [{operation: {notPaths: [/a], methods: [GET]}}]", false),
    ];
    for (rule, found) in rows {
        let denied = said("deny-negations-anded", &with_rule("DENY", rule));
        assert_eq!(denied.len(), usize::from(found), "{rule}: {denied:?}");
        assert!(said("deny-negations-anded", &with_rule("ALLOW", rule)).is_empty(), "{rule}");
    }
}

#[test]
fn the_gateways_own_peer_is_the_client() {
    let rule = "from: [{source: {ipBlocks: [203.0.113.0/24]}}]";
    let at_gateway =
        with_rule("DENY", rule).replace("shop", "istio-system").replace("app: web", "istio: ingressgateway");
    assert_eq!(said("ip-blocks-behind-proxy", &with_rule("DENY", rule)).len(), 1);
    assert_eq!(said("ip-blocks-behind-proxy", &at_gateway), Vec::<String>::new());
}

#[test]
fn an_empty_rule_implies_the_others_once() {
    let rule = "{}\n  - to: [{operation: {methods: [GET]}}]\n  - to: [{operation: {methods: [PUT]}}]";
    assert_eq!(said("rule-implied", &with_rule("ALLOW", rule)).len(), 1);
}

#[test]
fn a_host_is_named_that_is_not_taken() {
    let hosts = |host: &str| with_rule("DENY", &format!("to: [{{operation: {{hosts: [\"{host}\"]}}}}]"));
    for (host, words) in [("*.Example.com", "`a.Example.com:443`"), ("shop.example", "`shop.example:443`")] {
        let said = said("host-without-port-twin", &hosts(host));
        assert!(said.len() == 1 && said.iter().all(|text| text.contains(words)), "{said:?}");
    }
}
