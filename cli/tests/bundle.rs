//! `causeway bundle`, from the shell's side.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

fn bundle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_causeway")).arg("bundle").args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_examples_become_a_bundle_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mesh.bundle");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo");
    let output = bundle(&[examples.to_str().unwrap(), "-o", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let opened = platform::bundle::Bundle::open(&file).unwrap();
    authz::Policies::open(opened.section(platform::bundle::Section::Access).unwrap()).unwrap();
    let rules = traffic::Rules::open(opened.section(platform::bundle::Section::Egress).unwrap()).unwrap();
    // A workload that does not say who it is can call them too.
    let view = rules.view(None, &[]).unwrap();
    assert!(view.find("ratings.bookinfo.svc.cluster.local", 9080).is_some());
}

#[test]
fn every_error_is_named_with_file_line_and_path_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::write(
        &policy,
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\nspec:\n  action: AUDITED\n  rulez: []\n",
    )
    .unwrap();
    let file = folder.path().join("mesh.bundle");
    std::fs::write(&file, "the old one").unwrap();
    let output = bundle(&[policy.to_str().unwrap(), "-o", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(
        said.contains("policy.yaml:6:") && said.contains("spec.action") && said.contains("expected `ALLOW`"),
        "{said}"
    );
    assert!(said.contains("policy.yaml:7:") && said.contains("rulez"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the old one");
}

#[test]
fn wrong_usage_says_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    let rows: [(&[&str], &str); 4] = [
        (&["/nonexistent", "-o", out], "cannot read /nonexistent"),
        (&[folder.path().to_str().unwrap(), "-o", out], "no .yaml or .yml file"),
        (&["-o", out], "PATH"),
        (&["/nonexistent"], "--output"),
    ];
    for (arguments, words) in rows {
        let output = bundle(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
    }
}

/// The key of RFC 8037, appendix A.2.
const KEY: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn bundle_of(policy: &str, more: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("policy.yaml"), folder.path().join("mesh.bundle"));
    std::fs::write(&file, policy).unwrap();
    let output = bundle(&[&[file.to_str().unwrap(), "-o", out.to_str().unwrap()], more].concat());
    assert_eq!(out.exists(), output.status.success());
    (output.status.code(), said(&output))
}

#[test]
fn a_provider_that_there_is_not_is_refused_in_both_modes() {
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                  metadata: { name: ask, namespace: ns1 }\n\
                  spec: { action: CUSTOM, provider: { name: nobody }, rules: [{}] }\n";
    for mode in ["strict", "istio"] {
        let (status, said) = bundle_of(policy, &["--mode", mode]);
        assert!(status == Some(2) && said.contains("nobody"), "{mode}: {status:?} {said}");
    }
}

/// How old embedded keys are decides how long they serve.
#[test]
fn a_bundle_with_published_keys_says_when_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(
        path("policy.yaml"),
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: t, namespace: ns1 }\n\
         spec: { jwtRules: [{ issuer: iss, jwksUri: 'https://iss.example/jwks.json' }] }\n",
    )
    .unwrap();
    std::fs::write(path("jwks.json"), KEY).unwrap();
    let made_at = |more: &[&str]| {
        let (policy, out) = (path("policy.yaml"), path("mesh.bundle"));
        let output = bundle(&[&[policy.as_str(), "-o", out.as_str()], more].concat());
        assert!(output.status.success(), "{}", said(&output));
        platform::bundle::Bundle::open(Path::new(&out)).unwrap().made_at()
    };
    let now = || platform::clock::Clock::unix(&platform::clock::SystemClock);
    assert_eq!(made_at(&[]), None);
    let before = now();
    let made = made_at(&["--jwks", &format!("iss={}", path("jwks.json"))]).unwrap();
    assert!((before..=now()).contains(&made));
}

#[test]
fn a_policy_that_only_a_waypoint_enforces_is_refused_unless_it_is_allowed_by_name() {
    let attached = |target: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: no-deletes, namespace: ns1 }}\n\
             spec:\n  targetRefs: [{target}]\n  action: DENY\n  rules: [{{to: [{{operation: {{methods: [DELETE]}}}}]}}]\n"
        )
    };
    let service = attached("{kind: Service, group: '', name: web}");
    let entry = attached("{kind: ServiceEntry, group: networking.istio.io, name: web}");
    let gateway = attached("{kind: Gateway, group: gateway.networking.k8s.io, name: front}");
    for mode in ["strict", "istio"] {
        for policy in [&service, &entry] {
            let (status, said) = bundle_of(policy, &["--mode", mode]);
            assert!(status == Some(2) && said.contains("policy.yaml:1: ns1/no-deletes: "), "{mode}: {said}");
            assert!(said.contains("a selector") && said.contains("--allow-ignored WaypointPolicy"), "{mode}: {said}");
            let (status, said) = bundle_of(policy, &["--mode", mode, "--allow-ignored", "WaypointPolicy"]);
            assert!(status == Some(0) && said.contains("warning") && said.contains("waypoint"), "{mode}: {said}");
        }
        let (status, said) = bundle_of(&gateway, &["--mode", mode]);
        assert_eq!(status, Some(0), "{mode}: {said}");
    }
}

#[test]
fn a_key_set_that_cannot_be_fetched_is_refused() {
    // Nobody listens there.
    let policy = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
                  metadata: { name: t, namespace: ns1 }\n\
                  spec: { jwtRules: [{ issuer: iss, jwksUri: 'http://127.0.0.1:9/jwks.json' }] }\n";
    // Plain HTTP is an error of lint.
    assert_eq!(bundle_of(policy, &["--allow-lint-errors"]).0, Some(0));
    let (status, said) = bundle_of(policy, &["--allow-lint-errors", "--fetch"]);
    assert!(status == Some(2) && said.contains("http://127.0.0.1:9/jwks.json: cannot reach"), "{said}");
}

#[test]
fn a_kind_is_ignored_by_name_alone() {
    let filter = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n\
                  metadata: { name: f, namespace: ns1 }\nspec: {}\n";
    let (status, said) = bundle_of(filter, &[]);
    assert!(status == Some(2) && said.contains("EnvoyFilter"), "{said}");
    let (status, said) = bundle_of(filter, &["--allow-ignored", "EnvoyFilter"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("warning") && said.contains("policy.yaml:1: EnvoyFilter f is ignored"), "{said}");
    let (status, said) = bundle_of(filter, &["--allow-ignored", "AuthorizationPolicy"]);
    assert!(status == Some(2) && said.contains("possible values: EnvoyFilter"), "{said}");
}

#[test]
fn a_file_that_may_have_been_meant_is_not_left_out_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: a, namespace: shop }\n\
                  spec: {}\n";
    for name in ["a.yaml", "b.YAML", "c.json", "README.md"] {
        std::fs::write(folder.path().join(name), policy).unwrap();
    }
    std::fs::write(folder.path().join("d.yml"), "# later\n---\n").unwrap();
    let output = folder.path().join("out.bundle");
    let said = said(&bundle(&[folder.path().to_str().unwrap(), "-o", output.to_str().unwrap()]));
    let not_read = |name: &str| said.contains(&format!("{name} is not read"));
    assert!(not_read("b.YAML") && not_read("c.json") && !not_read("README.md") && !not_read("a.yaml"), "{said}");
    assert!(said.contains("d.yml is empty") && !said.contains("a.yaml is empty"), "{said}");
}

#[test]
fn files_without_a_policy_are_a_warning() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: { name: a, namespace: shop }\nspec: { selector: { app: a }, ports: [{ port: 80 }] }\n";
    let (status, said) = bundle_of(service, &[]);
    assert!(status == Some(0) && said.contains("warning: the files hold no AuthorizationPolicy"), "{said}");
}

#[test]
fn lint_errors_are_refused_unless_they_are_allowed() {
    let policy = |principal: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: p, namespace: ns1 }}\n\
             spec: {{ action: DENY, rules: [{{ from: [{{ source: {{ principals: ['{principal}'] }} }}] }}] }}\n"
        )
    };
    let wrong = policy("spiffe://cluster.local/ns/a/sa/b");
    let (status, said) = bundle_of(&wrong, &[]);
    assert!(status == Some(2) && said.contains("1 lint error, see `causeway lint`"), "{status:?} {said}");
    assert!(said.contains("policy.yaml:1: error[") && said.contains("spiffe://"), "{said}");
    let (status, said) = bundle_of(&wrong, &["--allow-lint-errors"]);
    assert!(status == Some(0) && said.contains("warning: 1 lint error, see `causeway lint`"), "{status:?} {said}");
    let (status, said) = bundle_of(&policy("cluster.local/ns/a/sa/b"), &[]);
    assert!(status == Some(0) && !said.contains("lint error"), "{status:?} {said}");
}

#[test]
fn lint_errors_of_the_template_are_refused_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let policy = include_str!("../../tests/fixtures/events/policies.yaml");
    std::fs::write(path("policy.yaml"), policy.replace("JWKS", KEY)).unwrap();
    std::fs::write(
        path("template.yaml"),
        "Resources:
  Api: { Type: AWS::ApiGatewayV2::Api, Properties: { Name: a, ProtocolType: HTTP } }
  Authorizer:
    Type: AWS::ApiGatewayV2::Authorizer
    Properties: { ApiId: !Ref Api, Name: a, AuthorizerType: REQUEST, AuthorizerUri: !Ref Uri,
      AuthorizerPayloadFormatVersion: '2.0', EnableSimpleResponses: true, AuthorizerResultTtlInSeconds: 3600,
      IdentitySource: [$request.header.Authorization] }
  Route:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !Ref Api, RouteKey: 'GET /reviews/{id}', AuthorizationType: CUSTOM, AuthorizerId: !Ref Authorizer,
      Target: integrations/a }
",
    )
    .unwrap();
    let arguments = [path("policy.yaml"), "--template".to_owned(), path("template.yaml"), "-o".to_owned(), path("out")];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = bundle(&arguments);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("template.yaml:") && text.contains("error[cache-"), "{text}");
    assert!(text.contains("see `causeway lint --template`"), "{text}");
    assert!(!Path::new(&path("out")).exists());
    let output = bundle(&[arguments.as_slice(), &["--allow-lint-errors"]].concat());
    assert!(output.status.success() && said(&output).contains("warning: "), "{}", said(&output));
}

#[test]
fn lint_warnings_are_counted_and_what_is_skipped_is_said_to_be_not_read() {
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: p, namespace: ns1 }\n\
                spec: { action: DENY, rules: [{ to: [{ operation: { paths: [/admin] } }] }] }\n---\n\
                apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n---\n\
                apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: x }\n";
    let (status, said) = bundle_of(text, &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("warning: 1 lint warning, see `causeway lint`"), "{said}");
    assert!(said.contains("policy.yaml:6: skipped Kustomization: a document of this kind is not read"), "{said}");
    assert!(said.contains("policy.yaml:9: skipped HTTPRoute x: a document of this kind is not read"), "{said}");
}

#[test]
fn what_cannot_be_written_is_named_as_it_was_given() {
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: a, namespace: shop }\n\
                  spec: {}\n";
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("policy.yaml"), folder.path().join("nope/mesh.bundle"));
    std::fs::write(&file, policy).unwrap();
    let output = bundle(&[file.to_str().unwrap(), "-o", out.to_str().unwrap()]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let nope = out.parent().unwrap().display().to_string();
    assert!(said.contains(&format!("cannot write {}: there is no folder {nope}", out.display())), "{said}");
    assert!(!said.contains(&format!("{nope}/.")), "{said}");
}

#[path = "../../tests/fixtures/issuer.rs"]
mod issuer;

#[test]
fn a_signed_revocation_list_goes_into_the_bundle_as_it_is() {
    use issuer::{ISSUER, Issuer};
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let issuer = Issuer::new();
    let policy = |keys: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: a, namespace: ns1}}\n\
             spec: {{jwtRules: [{{issuer: '{ISSUER}', {keys}}}]}}\n"
        )
    };
    std::fs::write(path("inline.yaml"), policy(&format!("jwks: '{}'", issuer.jwks()))).unwrap();
    std::fs::write(path("uri.yaml"), policy("jwksUri: 'https://issuer.example/jwks.json'")).unwrap();
    let list = |by: &Issuer, name: &str, expires_at: u64| {
        let none = std::collections::BTreeMap::new();
        let ids = [authz::RevokedId::token("t1")];
        let payload = authz::revocation::encode_payload(name, now - 60, expires_at, ids, &none).unwrap();
        by.jws(&serde_json::json!({"alg": "ES256", "kid": "k1", "typ": "revocations+jwt"}), &payload)
    };
    let make = |policy: &str, text: &str| {
        std::fs::write(path("list"), text).unwrap();
        bundle(&[&path(policy), "--revocations", &path("list"), "-o", &path("out")])
    };
    let good = list(&issuer, ISSUER, now + 3_600);
    for (policy, warning) in [("inline.yaml", ""), ("uri.yaml", "not verified, since the bundle has no keys")] {
        let output = make(policy, &format!("{good}\n"));
        assert!(output.status.success() && said(&output).contains(warning), "{}", said(&output));
        assert!(!warning.is_empty() || !said(&output).contains("--revocations"), "{}", said(&output));
        let opened = platform::bundle::Bundle::open(Path::new(&path("out"))).unwrap();
        let section = opened.optional_section(platform::bundle::Section::Revocations).unwrap();
        assert_eq!(section, Some(good.as_bytes()));
        std::fs::remove_file(path("out")).unwrap();
    }
    for (text, expected) in [
        (list(&Issuer::new(), ISSUER, now + 3_600), "the signature of the revocation list is wrong"),
        (list(&issuer, "https://other.example", now + 3_600), "no RequestAuthentication names the issuer"),
        (list(&issuer, ISSUER, now - 1), "was valid until"),
        (issuer.token(&issuer::reader()), "the \"typ\" of the revocation list is not"),
        ("id-1\nid-2\n".to_owned(), "malformed"),
    ] {
        let output = make("inline.yaml", &text);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(expected), "{}", said(&output));
        assert!(!Path::new(&path("out")).exists());
    }
}
