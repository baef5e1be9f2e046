//! Environments, from the shell's side: what `bundle`, `evaluate` and `lint` say of tokens that open two.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Output};

const AROUND: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop-gateway, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [shop.example, dev.shop.example], tls: {mode: SIMPLE, credentialName: c}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example, dev.shop.example]
  gateways: [shop-gateway]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}], selector: {app: web}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  rules: [{from: [{source: {requestPrincipals: [\"https://idp.example/*\"]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec: {rules: [{to: [{operation: {methods: [GET]}}]}]}
";

/// The example of the documentation, with what it stands in.
fn example() -> String {
    let text = include_str!("../../docs/policy.md");
    let section = text.split_once("\n## Environments\n").unwrap().1.split("\n## ").next().unwrap();
    let (_, example) = section.split_once("```yaml\n").unwrap();
    format!("{}{AROUND}", example.split_once("```").unwrap().0)
}

/// The program with `documents`, whose paths stand where `FILES` is.
fn causeway(documents: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let (yaml, bundle) = (folder.path().join("shop.yaml"), folder.path().join("mesh.bundle"));
    std::fs::write(&yaml, documents).unwrap();
    std::fs::write(folder.path().join("none.jsonl"), "").unwrap();
    let arguments = arguments.iter().map(|argument| match *argument {
        "YAML" => yaml.to_str().unwrap().to_owned(),
        "BUNDLE" => bundle.to_str().unwrap().to_owned(),
        "NONE" => folder.path().join("none.jsonl").to_str().unwrap().to_owned(),
        "KEYS" => {
            let keys = folder.path().join("jwks.json");
            let set = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
            std::fs::write(&keys, set).unwrap();
            format!("https://idp.example/jwks.json={}", keys.to_str().unwrap())
        }
        other => other.to_owned(),
    });
    Command::new(env!("CARGO_BIN_EXE_causeway")).args(arguments).output().unwrap()
}

/// What each command says of `documents`: the code and the texts of `bundle` in both modes, of `evaluate` and of `lint`.
fn answers(documents: &str) -> Vec<(&'static str, Option<i32>, String)> {
    let commands: [(&str, &[&str]); 5] = [
        ("bundle", &["bundle", "YAML", "--jwks", "KEYS", "-o", "BUNDLE"]),
        ("bundle istio", &["bundle", "YAML", "--mode", "istio", "--jwks", "KEYS", "-o", "BUNDLE"]),
        ("evaluate", &["evaluate", "--config", "YAML", "--jwks", "KEYS", "--requests", "NONE"]),
        ("evaluate istio", &["evaluate", "--config", "YAML", "--mode", "istio", "--requests", "NONE"]),
        ("lint istio", &["lint", "--mode", "istio", "YAML"]),
    ];
    let said = |(name, arguments)| {
        let output = causeway(documents, arguments);
        let text = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        (name, output.status.code(), text.concat())
    };
    commands.into_iter().map(said).collect()
}

#[test]
fn the_documentations_example_is_accepted_everywhere() {
    for (name, code, said) in answers(&example()) {
        assert_eq!(code, Some(0), "{name}: {said}");
        assert!(!said.contains("environments-share-tokens") && !said.contains("sharesTokensWith"), "{name}: {said}");
    }
}

#[test]
fn what_parity_loads_no_bundle_takes() {
    let shared = example().replace("audiences: [shop-dev]", "audiences: [shop]");
    let headers = example().replace(
        "audiences: [shop],",
        "audiences: [shop], outputClaimToHeaders: [{header: x-role, claim: a}, {header: x_role, claim: b}],",
    );
    for (documents, word) in [(&shared, "sharesTokensWith"), (&headers, "context key x_role")] {
        for (name, code, said) in answers(documents) {
            let refuses = ["bundle", "bundle istio", "evaluate"].contains(&name);
            assert_eq!(code == Some(2), refuses, "{name}: {said}");
            assert!(said.contains(word) && said.contains("shop.yaml:"), "{name}: {said}");
        }
    }
    let lint = answers(&shared).pop().unwrap().2;
    assert!(lint.contains("warning[environments-share-tokens] RequestAuthentication istio-system/prod: "), "{lint}");
}
