//! What a gateway denies by rules of its own, one service in shadow mode does not lift.

use authz::{Decision, Hop, Mode, PathHandling, Reason, Request, ShadowMode, Target, overlook};
use istio::{Action, AuthorizationPolicy, Resources, Rule};
use proptest::prelude::*;
use proptest::sample::select;

use crate::properties::{any_request, policy, rules};
use crate::support::{NOW, World, bearer, claims_of, request, token, with_header};

/// An API, and the one service behind it.
const API: &str = "
apiVersion: v1
kind: Service
metadata: { name: b, namespace: ns1 }
spec: { ports: [{ name: http, port: 8080 }], selector: { app: b } }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gateway, namespace: ns1 }
spec:
  selector: { istio: ingressgateway }
  servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: b, namespace: ns1 }
spec:
  hosts: ['*']
  gateways: [gateway]
  http: [{ match: [{ uri: { prefix: / } }], route: [{ destination: { host: b, port: { number: 8080 } } }] }]
---
apiVersion: causeway.dev/v1alpha1
kind: ApiGateway
metadata: { name: api, namespace: ns1 }
spec:
  apiId: api
  stage: $default
  domain: api.example
  gateway: ns1/gateway
  workload: { namespace: istio-system, labels: { istio: ingressgateway }, serviceAccount: gateway }
  environment: dev
";

/// Credentials, everywhere, and a gateway that allows only who has one.
const GUARDED: &str = "
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: istio-system }
spec:
  jwtRules:
    - issuer: https://issuer.bookinfo.example
      jwksUri: https://issuer.bookinfo.example/jwks.json
      forwardOriginalToken: true
      outputClaimToHeaders: [{ header: x, claim: sub }]
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: { name: keys, namespace: istio-system }
spec: { issuer: https://issuer.bookinfo.example, forwardOriginalKey: true }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: clients, namespace: istio-system }
spec:
  selector: { matchLabels: { istio: ingressgateway } }
  rules: [{ from: [{ source: { requestPrincipals: ['*'] } }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: closed, namespace: ns1 }
spec: { selector: { matchLabels: { app: b } } }
";

fn parsed(yaml: &str) -> Resources {
    istio::parse(&[istio::SourceFile { name: "p.yaml".to_owned(), text: yaml.to_owned() }]).unwrap()
}

/// `yaml` with a DENY policy at the gateway.
fn world(yaml: &str, deny: Vec<Rule>) -> World {
    let mut resources = parsed(yaml);
    let selector = parsed(GUARDED).authorization_policies.remove(0).selector;
    let denying = AuthorizationPolicy { selector, ..policy("deny", Action::Deny, deny) };
    let meta = istio::Meta { namespace: "istio-system".to_owned(), ..denying.meta.clone() };
    // The compiler refuses a DENY policy that denies nothing.
    if denying.rules.as_ref().is_some_and(|rules| !rules.is_empty()) {
        resources.authorization_policies.push(AuthorizationPolicy { meta, ..denying });
    }
    World::of_resources(&resources, Mode::Strict)
}

fn api() -> Target {
    let text = |text: &str| text.to_owned();
    Target::ApiGateway { api_id: text("api"), stage: text("$default"), domain: text("api.example") }
}

fn is_denied_by_gateway(decision: &Decision) -> bool {
    !decision.is_allowed() && decision.hop() == Hop::Gateway && decision.policy().is_some()
}

/// The gateway cannot know of this caller, and has denied it by its rule before the destination could.
#[test]
fn who_is_proven_to_the_destination_alone_does_not_pass_the_gateway_s_rule() {
    let more = "
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: ns1 }
spec:
  jwtRules:
    - issuer: https://issuer.bookinfo.example
      jwksUri: https://issuer.bookinfo.example/jwks.json
      fromHeaders: [{ name: x-token }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: blocked, namespace: istio-system }
spec:
  selector: { matchLabels: { istio: ingressgateway } }
  action: DENY
  rules: [{ to: [{ operation: { paths: [/blocked] } }] }]
";
    let world = World::of_resources(&parsed(&format!("{API}{GUARDED}{more}")), Mode::Strict);
    let mode = ShadowMode::new("ns1/app=b", NOW + 1).unwrap();
    for (path, let_in) in [("/blocked", false), ("/a", true)] {
        let request = with_header(request("GET", path), "x-token", &token(&claims_of("a", "a")));
        let request = Request { path_handling: PathHandling::AsSent, ..request };
        let Decision::Deny(denied) = world.decide(&request, &api()) else { panic!("it is closed") };
        assert_eq!((denied.reason, denied.hop, denied.policy.is_some()), (Reason::NoCredential, Hop::Gateway, !let_in));
        let decision = overlook(&world.policies, &request, &api(), &mode, Some(&world.given()), NOW, denied);
        assert_eq!((decision.is_allowed(), decision.client_id()), (let_in, let_in.then_some("a")), "{decision:?}");
        // Asked again, by who knows less, the answer stays.
        let Decision::Deny(denied) = decision else { continue };
        assert!(denied.is_final);
        let every = ShadowMode::new("*", NOW + 1).unwrap();
        assert!(!overlook(&world.policies, &request, &api(), &every, None, NOW, denied).is_allowed());
    }
}

/// With a second credential that is refused nobody knows him; a service that verifies his token itself would.
#[test]
fn who_is_denied_by_name_does_not_pass_with_a_bad_credential_more() {
    let more = "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: blocked, namespace: istio-system }
spec:
  selector: { matchLabels: { istio: ingressgateway } }
  action: DENY
  rules: [{ from: [{ source: { requestPrincipals: ['*/client:evil'] } }] }]
";
    let mode = ShadowMode::new("ns1/app=b", NOW + 1).unwrap();
    for (more, path, key, expected) in [
        (more, "/a", Some("x"), false),
        (more, "/a?access_token=x", None, false),
        (more, "/a", None, false),
        ("", "/a", Some("x"), true),
    ] {
        let world = World::of_resources(&parsed(&format!("{API}{GUARDED}{more}")), Mode::Strict);
        let mut request = bearer(request("GET", path), &token(&claims_of("evil", "a")));
        if let Some(key) = key {
            request = with_header(request, "x-api-key", key);
        }
        let request = Request { path_handling: PathHandling::AsSent, ..request };
        let Decision::Deny(denied) = world.decide(&request, &api()) else { panic!("it is closed") };
        let decision = overlook(&world.policies, &request, &api(), &mode, Some(&world.given()), NOW, denied);
        assert_eq!(decision.is_allowed(), expected, "{path} {key:?} {decision:?}");
    }
}

/// Authentication takes every parameter of the name out, and has looked at the first alone.
#[test]
fn a_second_parameter_that_nobody_has_verified_proves_nobody() {
    let yaml = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: ns1 }
spec:
  jwtRules:
    - issuer: https://issuer.bookinfo.example
      jwksUri: https://issuer.bookinfo.example/jwks.json
      fromParams: [access_token]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: closed, namespace: ns1 }
spec: { selector: { matchLabels: { app: b } } }
";
    let mode = ShadowMode::new("ns1/app=b", NOW + 1).unwrap();
    let labels = vec![("app".to_owned(), "b".to_owned())];
    let target = Target::Workload { namespace: "ns1".to_owned(), labels, environment: None };
    let good = token(&claims_of("a", "a"));
    for (mode_of_policies, query, client) in [
        (Mode::Strict, format!("access_token={good}"), Some("a")),
        (Mode::Istio, format!("access_token={good}"), Some("a")),
        (Mode::Strict, format!("access_token={good}&access_token=forged"), None),
        (Mode::Istio, format!("access_token={good}&access_token=forged"), None),
        (Mode::Strict, format!("access_token={good}&access%5Ftoken=forged&q=1"), None),
    ] {
        let world = World::of_resources(&parsed(yaml), mode_of_policies);
        let request = request("GET", &format!("/a?{query}"));
        let request = Request { path_handling: PathHandling::AsSent, ..request };
        let Decision::Deny(denied) = world.decide(&request, &target) else { panic!("it is closed") };
        let decision = overlook(&world.policies, &request, &target, &mode, Some(&world.given()), NOW, denied);
        assert_eq!(decision.client_id(), client, "{query} {decision:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What the gateway's DENY rules deny to a caller of whom nothing is known never passes as one of whom nothing is known,
    /// and what they deny to a proven caller does not pass either.
    #[test]
    fn a_gateway_s_rule_holds_for_a_service_in_shadow_mode(
        deny in rules(3), request in any_request(), headers_joined in any::<bool>(),
        credential in select(vec![
            None,
            Some(("authorization", "Bearer x".to_owned())),
            Some(("authorization", "bearer x".to_owned())),
            Some(("authorization", "Basic YTpi".to_owned())),
            Some(("authorization", format!("Bearer {}", token(&claims_of("a", "a").replace(&(NOW + 600).to_string(), "1"))))),
            Some(("x-api-key", "x".to_owned())),
            Some(("x", "forged".to_owned())),
        ]),
    ) {
        let request = match &credential {
            Some((name, value)) => with_header(request, name, value),
            None => request,
        };
        let request = Request { headers_joined, path_handling: PathHandling::AsSent, ..request };
        let world = |yaml: &str| world(yaml, deny.clone());
        let (guarded, bare) = (world(&format!("{API}{GUARDED}")), world(API));
        let decided = guarded.decide(&request, &api());
        let Decision::Deny(denied) = decided.clone() else { return Err(TestCaseError::fail("it is closed")) };
        let shadow = |workloads: &str| {
            let mode = ShadowMode::new(workloads, NOW + 1).unwrap();
            overlook(&guarded.policies, &request, &api(), &mode, Some(&guarded.given()), NOW, denied.clone())
        };
        if let Decision::Allow(allow) = shadow("ns1/app=b") {
            prop_assert!(!is_denied_by_gateway(&decided), "{:?}", decided);
            // Nobody reads a credential here, so nothing is known of the caller.
            let of_nobody = bare.decide(&request, &api());
            prop_assert!(allow.claims().is_some() || !is_denied_by_gateway(&of_nobody), "{:?}", of_nobody);
        }
        // And without such a rule nothing is in the way.
        if deny.is_empty() {
            prop_assert!(shadow("ns1/app=b").is_allowed());
        }
        prop_assert!(shadow("*").is_allowed() && shadow("ns1,istio-system").is_allowed());
        prop_assert!(!shadow("istio-system").is_allowed());
    }
}
