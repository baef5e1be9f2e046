//! Domains that several APIs claim.

use super::context::Context;
use super::finding::{Code, Findings, Place, Severity};

pub(super) const CODES: &[&Code] = &[&SHARED];

/// Two APIs of one shop; the second one's id and domain are given.
macro_rules! apis {
    ($id:literal, $domain:literal) => {
        concat!(
            "kind: ApiGateway
metadata: {name: front, namespace: shop}
spec:
  apiId: a
  stage: $default
  domain: shop.example
  gateway: shop/front
  workload: {namespace: istio-system, labels: {istio: ingressgateway}, serviceAccount: gateway}
  environment: dev
---
kind: ApiGateway
metadata: {name: second, namespace: shop}
spec:
  apiId: ",
            $id,
            "
  stage: $default
  domain: ",
            $domain,
            "
  gateway: shop/front
  workload: {namespace: istio-system, labels: {istio: ingressgateway}, serviceAccount: gateway}
  environment: dev
"
        )
    };
}

static SHARED: Code = Code {
    name: "api-gateway-domain-shared",
    severity: Severity::Error,
    what: "two ApiGateway documents with the same domain and base path",
    why: "A domain's base path leads to one stage of one API. An API whose id no document names is found by its domain, and \
          only if one document alone has it: with a second one, every request to it is denied (`gateway_unknown`).",
    instead: "leave one document; or give each a domain or a `basePath` of its own",
    wrong: apis!("b", "shop.example"),
    right: apis!("b", "shop.example\n  basePath: /second"),
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    let gateways = &context.resources.api_gateways;
    for (index, gateway) in gateways.iter().enumerate() {
        for other in gateways.iter().take(index) {
            // Of one API, the stages tell them apart; two environments are the compiler's to tell apart.
            let is_told_apart = gateway.base_path != other.base_path
                || gateway.stage != other.stage
                || gateway.environment != other.environment
                || gateway.api_id == other.api_id;
            let Some(domain) = gateway.domains.iter().find(|domain| other.domains.contains(domain)) else { continue };
            if is_told_apart {
                continue;
            }
            let message = format!(
                "`{domain}` is a domain of the ApiGateway at {} too, with the same base path and another apiId: an API that \
                 neither names is denied",
                other.meta.origin
            );
            findings.add(&SHARED, Place::new("ApiGateway", &gateway.meta, "spec.domain"), message, SHARED.instead);
        }
    }
}
