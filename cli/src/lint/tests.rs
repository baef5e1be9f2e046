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

/// The findings in `text`, with the shop around it.
fn found(text: &str) -> Vec<Finding> {
    let (template, own): (Vec<&str>, Vec<&str>) =
        text.split("---\n").partition(|document| document.starts_with("Resources:"));
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
        return lint(&resources, None, &LintOptions::default());
    }
    let compiled = crate::configuration::compile(&resources, Default::default(), authz::Mode::Strict).unwrap();
    let policies = Policies::open(&compiled.section).unwrap();
    let mut templates = Templates::default();
    for text in &template {
        templates.add_text("t.yaml", text).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    }
    lint(&resources, Some((&policies, &templates)), &LintOptions::default())
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
