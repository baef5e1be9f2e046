//! What a route says that nobody does at an API.

use std::collections::BTreeSet;

use super::context::Context;
use super::finding::{Code, Findings, Place, Severity};

pub(super) const CODES: &[&Code] = &[&UNUSED];

static UNUSED: Code = Code {
    name: "api-gateway-route-settings",
    severity: Severity::Info,
    what: "a timeout or retries of a route that leads from an API",
    why: "API Gateway forwards the requests. It never sends one again, and its integration has a timeout of its own: what \
          the route says is done in the mesh alone.",
    instead: "set the timeout of the integration; say what is for the mesh in a VirtualService of its own",
    wrong: "kind: VirtualService
metadata: {name: front, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [front]
  http: [{timeout: 5s, retries: {attempts: 1}, route: [{destination: {host: shop}}]}]
---
kind: ApiGateway
metadata: {name: front, namespace: shop}
spec:
  apiId: a
  stage: $default
  domain: shop.example
  gateway: shop/front
  workload: {namespace: istio-system, labels: {istio: ingressgateway}, serviceAccount: gateway}
  environment: dev
",
    right: "kind: VirtualService
metadata: {name: front, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [front]
  http: [{route: [{destination: {host: shop}}]}]
---
kind: ApiGateway
metadata: {name: front, namespace: shop}
spec:
  apiId: a
  stage: $default
  domain: shop.example
  gateway: shop/front
  workload: {namespace: istio-system, labels: {istio: ingressgateway}, serviceAccount: gateway}
  environment: dev
",
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    let resources = context.resources;
    for service in &resources.virtual_services {
        let mut told = BTreeSet::new();
        for api in &resources.api_gateways {
            for (index, route) in authz::compile::routes_for(resources, api, service) {
                if !told.insert(index) {
                    continue;
                }
                let settings = [(route.timeout.is_some(), "timeout"), (route.retries.is_some(), "retries")];
                for (_, name) in settings.iter().filter(|(given, _)| *given) {
                    let place = Place::new("VirtualService", &service.meta, format!("spec.http[{index}].{name}"));
                    let message = format!("API Gateway, which plays {}, does nothing of this", api.gateway);
                    findings.add(&UNUSED, place, message, UNUSED.instead);
                }
            }
        }
    }
}
