//! Shadow mode in the mesh, asked what Envoy asks: what looks like a credential and was verified by nobody does not reach
//! the workload, and what may not be overlooked is not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by failing")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use adapter::config::Workload;
use adapter::{Adapter, CLIENT_ID_HEADER, Exchange, ExchangeConfig, PRINCIPAL_HEADER, Place};
use authz::{CompileOptions, KeyState, Policies, ShadowMode};
use common::issuer::{Issuer, NOW, reader, with};
use common::{Act, Answer, Endpoint, check, decision, deps, key, place, record};
use envoy_types::ext_authz::v3::pb::CheckRequest;
use platform::clock::FixedClock;
use platform::https::Reach;
use platform::log::{Lines, Log};
use platform::store::{self, ApiKeys};
use serde_json::{Value, json};

/// Tokens at every kind of place, forwarded, and keys; whoever has proven to be `nobody` is allowed.
const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: issuer, namespace: istio-system }
spec:
  jwtRules:
    - issuer: https://issuer.bookinfo.example
      audiences: [bookinfo]
      jwks: 'JWKS'
      forwardOriginalToken: true
      fromHeaders: [{ name: authorization, prefix: 'Bearer ' }, { name: x-token }]
      fromParams: [access_token]
      fromCookies: [session]
      outputClaimToHeaders: [{ header: x-sub, claim: sub }]
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: { name: keys, namespace: istio-system }
spec: { issuer: https://issuer.bookinfo.example }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ratings, namespace: bookinfo }
spec:
  selector: { matchLabels: { app: ratings } }
  rules: [{ from: [{ source: { requestPrincipals: ['WHO'] } }] }]
";

const NOBODY: &str = "nobody/*";

/// A token that says `admin`, and that nobody has signed.
const FORGED: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.";

struct World {
    adapter: Adapter,
    lines: Lines,
}

impl World {
    /// With a good key (seed 1) and a revoked one (seed 2).
    async fn new(yaml: &str, issuer: &Issuer, place: Place, exchange: Option<Exchange>, shadow: Option<&str>) -> Self {
        let store = Arc::new(store::Embedded::in_memory());
        for (seed, state) in [(1, KeyState::Active), (2, KeyState::Revoked)] {
            ApiKeys::put(&*store, &record(seed, state)).await.unwrap();
        }
        let (log, lines) = Log::memory();
        let deps = deps(store, Arc::new(FixedClock::at(NOW)), log);
        let file = istio::SourceFile { name: "policies.yaml".to_owned(), text: yaml.replace("JWKS", &issuer.jwks()) };
        let resources = istio::parse(&[file]).unwrap();
        let policies =
            Policies::open(&authz::compile(&resources, &CompileOptions::default()).unwrap().section).unwrap();
        let mode = shadow.map(|workloads| ShadowMode::new(workloads, NOW + 60).unwrap());
        let adapter = Adapter::with_shadow_mode(place, policies, deps, exchange, mode).unwrap();
        Self { adapter, lines }
    }

    async fn ask(&self, check: CheckRequest) -> (Answer, Value) {
        self.lines.drain();
        let answer = Answer::from(self.adapter.check(check).await);
        (answer, decision(&self.lines))
    }
}

fn shadowed(issuer: &Issuer, exchange: Option<Exchange>) -> impl Future<Output = World> {
    let yaml = POLICIES.replace("WHO", NOBODY);
    async move { World::new(&yaml, issuer, place(), exchange, Some("bookinfo/app=ratings")).await }
}

fn preflight(headers: &[(&str, &str)]) -> CheckRequest {
    let cors = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
    let headers: Vec<_> = headers.iter().copied().chain(cors).collect();
    let mut check = check("/ratings/0", &headers);
    let http = check.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    "OPTIONS".clone_into(&mut http.method);
    check
}

/// The headers that the workload gets.
fn upstream(sent: &[(&str, &str)], answer: &Answer) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> =
        sent.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    headers.extend(answer.set.clone());
    headers.retain(|name, _| !answer.removed.contains(name));
    headers
}

#[tokio::test]
async fn a_token_that_nobody_has_read_does_not_go_on() {
    let issuer = Issuer::new();
    let world = shadowed(&issuer, None).await;
    let good_key = key(1);
    let places: Vec<(&str, String)> = [
        ("authorization", "bearer TOKEN"),
        ("authorization", "BEARER\tTOKEN"),
        ("authorization", "TOKEN"),
        ("authorization", "Token TOKEN"),
        ("authorization", "JWT TOKEN"),
        ("authorization", "Basic TOKEN"),
        ("authorization", "Basic YTpi,bearer TOKEN"),
        ("x_token", "TOKEN"),
        ("cookie", "a=1,session=TOKEN"),
        ("cookie", "a=1 session=TOKEN"),
        ("cookie", "a=1; SESSION=TOKEN; b=2"),
        ("cookie", "a=1; session =TOKEN; b=2"),
    ]
    .map(|(name, value)| (name, value.replace("TOKEN", FORGED)))
    .to_vec();
    for (name, value) in &places {
        for key in [None, Some(("x-api-key", good_key.as_str()))] {
            let sent: Vec<(&str, &str)> = [(*name, value.as_str())].into_iter().chain(key).collect();
            let (answer, line) = world.ask(check("/ratings/0", &sent)).await;
            let reason = if key.is_some() { "denied_no_match" } else { "no_credential" };
            assert_eq!((answer.status, &line["reason"]), (200, &json!(reason)), "{sent:?}: {line}");
            let upstream = upstream(&sent, &answer);
            assert!(!upstream.values().any(|value| value.contains(FORGED)), "{sent:?}: {upstream:?}");
            // The key is proven, whatever stands beside it.
            assert_eq!(upstream.contains_key(PRINCIPAL_HEADER), key.is_some(), "{sent:?}: {upstream:?}");
            assert!(!value.starts_with("a=1;") || upstream["cookie"] == "a=1; b=2", "{upstream:?}");
        }
    }
    // Envoy's answer cannot change the query.
    for query in ["ACCESS_TOKEN=", "a=1;access_token=", "access%5ftoken=", "access%5FTOKEN=", "access_token[]="] {
        for sent in [&[][..], &[("x-api-key", good_key.as_str())]] {
            let (answer, _) = world.ask(check(&format!("/ratings/0?{query}{FORGED}"), sent)).await;
            assert_ne!(answer.status, 200, "{query} {sent:?}");
        }
    }
    // What was verified stays, and what is none stays, too.
    let good = format!("Bearer {}", issuer.token(&reader()));
    for sent in [
        &[("authorization", good.as_str()), ("x-api-key", &good_key)][..],
        &[("authorization", &good), ("cookie", "session_theme=dark; a=1")],
        &[("authorization", "Basic YTpi"), ("x-api-key", &good_key), ("cookie", "mysession=1")],
        &[("authorization", "Digest username=\"a\", response=\"00\"")],
    ] {
        let (answer, line) = world.ask(check("/ratings/0?token=1&x=2", sent)).await;
        let upstream = upstream(sent, &answer);
        for (name, value) in sent.iter().filter(|(name, _)| *name != "x-api-key") {
            assert_eq!(upstream.get(*name).map(String::as_str), Some(*value), "{line}");
        }
    }
}

#[tokio::test]
async fn a_key_does_not_vouch_for_the_tokens_of_a_preflight() {
    let issuer = Issuer::new();
    let endpoint = Endpoint::start(Act::Answer(500, "{}".to_owned())).await;
    let config = ExchangeConfig { url: format!("http://{}", endpoint.address), audience: None };
    let wait = std::time::Duration::from_secs(30);
    let exchange = Exchange::with(&config, Reach::Private, Vec::new(), Arc::new(FixedClock::at(NOW)), wait).unwrap();
    let expired = issuer.token(&with(reader(), "exp", json!(NOW - 61)));
    let key = key(1);
    for exchange in [None, Some(exchange)] {
        let world = shadowed(&issuer, exchange).await;
        for token in [FORGED, &expired] {
            let bearer = format!("Bearer {token}");
            let sent = [("authorization", bearer.as_str()), ("x-token", token), ("x-api-key", &key)];
            let (answer, line) = world.ask(preflight(&sent)).await;
            assert_eq!((answer.status, &line["shadow"]), (200, &json!(true)), "{line}");
            let upstream = upstream(&sent, &answer);
            assert!(!upstream.values().any(|value| value.contains(token)), "{upstream:?}");
            // And none in the query.
            let mut asked = preflight(&sent);
            let http = asked.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
            http.path = format!("/ratings/0?access_token={token}");
            assert_ne!(world.ask(asked).await.0.status, 200);
        }
    }
}

/// Two issuers for one key are a contradiction, which the provider that denies first hides.
#[tokio::test]
async fn what_cannot_be_judged_is_not_overlooked_behind_another_reason() {
    let yaml = POLICIES.replace("WHO", NOBODY)
        + "
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: { name: others, namespace: bookinfo }
spec: { selector: { matchLabels: { app: ratings } }, issuer: https://other.example }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |
    extensionProviders:
      - name: waf
        envoyExtAuthzGrpc: { service: waf.bookinfo.svc.cluster.local, port: 9000 }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: waf, namespace: bookinfo }
spec: { selector: { matchLabels: { app: ratings } }, action: CUSTOM, provider: { name: waf }, rules: [{}] }
";
    let issuer = Issuer::new();
    let world = World::new(&yaml, &issuer, place(), None, Some("*")).await;
    let key = key(1);
    for (sent, let_in) in [(&[][..], true), (&[("x-api-key", key.as_str())], false)] {
        let (answer, line) = world.ask(check("/ratings/0", sent)).await;
        assert_eq!(
            (answer.status == 200, &line["reason"]),
            (let_in, &json!("custom_provider_unavailable")),
            "{sent:?}: {line}"
        );
    }
}

/// The adapter of a gateway, with a service behind it in shadow mode: to the gateway that is nothing.
#[tokio::test]
async fn a_rule_of_the_gateway_is_not_lifted_for_one_service() {
    let yaml = POLICIES.replace("app: ratings", "istio: ingressgateway").replace("WHO", NOBODY)
        + "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: blocked, namespace: istio-system }
spec:
  selector: { matchLabels: { istio: ingressgateway } }
  action: DENY
  rules: [{ to: [{ operation: { paths: ['/ratings/blocked'] } }] }]
";
    let issuer = Issuer::new();
    let labels = vec![("istio".to_owned(), "ingressgateway".to_owned())];
    let workload = Some(Workload { namespace: "istio-system".to_owned(), labels });
    let place = Place { workload, environment: Some("dev".to_owned()) };
    let (good, revoked) = (format!("Bearer {}", issuer.token(&reader())), key(2));
    for (workloads, let_in) in [("bookinfo", false), ("bookinfo,istio-system/istio=ingressgateway", true)] {
        let world = World::new(&yaml, &issuer, place.clone(), None, Some(workloads)).await;
        for sent in
            [&[][..], &[("authorization", "Bearer x")], &[("x-api-key", &revoked)], &[("authorization", good.as_str())]]
        {
            let (answer, line) = world.ask(check("/ratings/blocked", sent)).await;
            assert_eq!(answer.status == 200, let_in, "{workloads} {sent:?}: {line}");
        }
    }
}

#[tokio::test]
async fn a_name_that_an_application_takes_for_ours_is_not_the_client_s_to_set() {
    let issuer = Issuer::new();
    let yaml = POLICIES.replace("WHO", "*");
    let good = format!("Bearer {}", issuer.token(&reader()));
    let forged = ["x_causeway_principal", "x-causeway_client-id", "x_causeway-other", "x-sub", "x_sub"];
    for (shadow, token) in [(None, good.as_str()), (Some("*"), &good), (Some("*"), "Bearer x")] {
        let world = World::new(&yaml, &issuer, place(), None, shadow).await;
        let forged = forged.map(|name| (name, "forged"));
        let sent: Vec<_> = forged.into_iter().chain([("authorization", token), ("x_subs", "own")]).collect();
        let (answer, line) = world.ask(check("/ratings/0", &sent)).await;
        assert_eq!(answer.status, 200, "{line}");
        let upstream = upstream(&sent, &answer);
        assert!(!upstream.values().any(|value| value == "forged"), "{upstream:?}");
        assert_eq!(upstream["x_subs"], "own");
        let is_proven = token == good;
        for name in ["x-sub", PRINCIPAL_HEADER, CLIENT_ID_HEADER] {
            assert_eq!(upstream.contains_key(name), is_proven, "{name}: {upstream:?}");
        }
    }
}
