//! Environments: whose tokens open which.

use authz::{CompileOptions, Mode, Policies};

use super::context::Context;
use super::finding::{Code, Findings, Place, Severity};

pub(super) const CODES: &[&Code] = &[&SHARED];

/// Two APIs in front of one shop, of two environments, and what their gateway workloads accept.
macro_rules! environments {
    ($dev:literal, $prod:literal, $tokens:literal) => {
        concat!(
            "kind: ApiGateway
metadata: {name: dev, namespace: shop}
spec:
  apiId: a
  stage: dev
  domain: dev.shop.example
  gateway: shop/front
  workload: {namespace: istio-system, labels: {",
            $dev,
            "}, serviceAccount: gateway}
  environment: dev
---
kind: ApiGateway
metadata: {name: prod, namespace: shop}
spec:
  apiId: a
  stage: prod
  domain: shop.example
  gateway: shop/front
  workload: {namespace: istio-system, labels: {",
            $prod,
            "}, serviceAccount: gateway}
  environment: prod
",
            $tokens
        )
    };
}

static SHARED: Code = Code {
    name: "environments-share-tokens",
    severity: Severity::Warning,
    what: "tokens that open two environments",
    why: "Istio tells tokens apart by issuer and audience alone. Where rules of two environments accept the same issuer \
          without audiences, or with a common one, a token of `dev` opens `prod`. The mode `strict`, and so a bundle, \
          refuses it.",
    instead: "give each environment a gateway workload with labels of its own, and a RequestAuthentication for these with \
              audiences of its own; or write `sharesTokensWith` in every ApiGateway of both",
    wrong: environments!(
        "istio: ingressgateway",
        "istio: ingressgateway",
        "---
kind: RequestAuthentication
metadata: {name: idp, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  jwtRules: [{issuer: \"https://idp.example\", audiences: [shop], jwksUri: \"https://idp.example/jwks.json\"}]
"
    ),
    right: environments!(
        "istio: ingressgateway, environment: dev",
        "istio: ingressgateway, environment: prod",
        "---
kind: RequestAuthentication
metadata: {name: dev, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway, environment: dev}}
  jwtRules: [{issuer: \"https://idp.example\", audiences: [shop-dev], jwksUri: \"https://idp.example/jwks.json\"}]
---
kind: RequestAuthentication
metadata: {name: prod, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway, environment: prod}}
  jwtRules: [{issuer: \"https://idp.example\", audiences: [shop], jwksUri: \"https://idp.example/jwks.json\"}]
"
    ),
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    let resources = context.resources;
    let mut names = resources.api_gateways.iter().map(|gateway| &gateway.environment);
    if names.next().is_none_or(|first| names.all(|other| other == first)) {
        return;
    }
    // The gate's own reading of who accepts what. What does not compile has errors of its own.
    let options = CompileOptions { mode: Mode::Istio, allow_waypoint_policies: true, ..CompileOptions::default() };
    let Ok(compiled) = authz::compile(resources, &options) else { return };
    let Ok(policies) = Policies::open(&compiled.section) else { return };
    for shared in authz::compile::shared_tokens(&policies, resources) {
        let place = Place::new("RequestAuthentication", shared.meta, shared.path);
        findings.add(&SHARED, place, shared.message, shared.instead);
    }
}
