//! Routes that nobody guards, and routes that nobody without a credential can reach.

use authz::api::{Access, Api, ApiKind, Route, Text};
use authz::{ApiGatewayInfo, Given, KeySets, PathHandling, Request, Revocations, Target};

use super::cache_codes::http;
use super::{Deployment, route_key, routes_of};
use crate::lint::finding::{Code, Findings, Severity};

pub(in crate::lint) const CODES: &[&Code] = &[&DENIED, &OPEN, &PUBLIC];

/// What the routes of the examples stand behind.
macro_rules! guarded {
    ($route:literal) => {
        concat!(
            http!("      EnableSimpleResponses: true\n", "GET /a"),
            "  Other:
    Type: AWS::ApiGatewayV2::Route
    Properties: {ApiId: !Ref Api, RouteKey: GET /b, ",
            $route,
            "}
"
        )
    };
}

static DENIED: Code = Code {
    name: "route-open-though-denied",
    severity: Severity::Error,
    what: "a route without an authorizer on which the policies deny a caller without a credential",
    why: "API Gateway asks nobody about such a route: the policies count for nothing there.",
    instead: "give the route the authorizer, or write a policy that allows it to everyone",
    wrong: "Resources:
  Guard: {Type: AWS::Serverless::Function, Properties: {Environment: {Variables: {CAUSEWAY_ENVIRONMENT: dev}}}}
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth: {Authorizers: {Own: {FunctionArn: !GetAtt Guard.Arn, EnableSimpleResponses: true, AuthorizerPayloadFormatVersion: 2.0}}}
      DefinitionBody: {paths: {\"/nowhere\": {get: {}}}}
---
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [front]
  http:
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: web, port: {number: 80}}}]
",
    right: "Resources:
  Guard: {Type: AWS::Serverless::Function, Properties: {Environment: {Variables: {CAUSEWAY_ENVIRONMENT: dev}}}}
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Own
        Authorizers: {Own: {FunctionArn: !GetAtt Guard.Arn, EnableSimpleResponses: true, AuthorizerPayloadFormatVersion: 2.0}}
      DefinitionBody: {paths: {\"/nowhere\": {get: {}}}}
---
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [front]
  http:
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: web, port: {number: 80}}}]
",
};

static OPEN: Code = Code {
    name: "route-without-authorizer",
    severity: Severity::Warning,
    what: "a route without an authorizer at an API that has ours",
    why: "It is open to everyone, whatever the policies say, now and after the next change of them.",
    instead: "give the route the authorizer: a policy can allow it to everyone just as well",
    wrong: guarded!("AuthorizationType: NONE"),
    right: guarded!("AuthorizationType: CUSTOM, AuthorizerId: !Ref Authorizer"),
};

static PUBLIC: Code = Code {
    name: "identity-source-closes-public-route",
    severity: Severity::Warning,
    what: "identity sources on an authorizer of routes that the policies leave open",
    why: "API Gateway answers 401 to a request without one of the identity sources, and asks nobody: a route that needs no \
          credential then needs one.",
    instead: "give public routes an authorizer without identity sources and with a TTL of 0",
    wrong: http!(
        "      EnableSimpleResponses: true
      AuthorizerResultTtlInSeconds: 0
      IdentitySource: [$request.header.Authorization]
",
        "GET /a"
    ),
    right: http!("      EnableSimpleResponses: true\n      AuthorizerResultTtlInSeconds: 0\n", "GET /a"),
};

pub(in crate::lint) fn check(deployment: &Deployment<'_>, findings: &mut Findings) {
    for api in deployment.templates.apis() {
        let has_ours = deployment.has_ours(api);
        // A WebSocket API asks when a client connects, and never again.
        let asked = |route: &&Route| api.kind != Some(ApiKind::WebSocket) || route.path == "$connect";
        for route in api.routes.iter().filter(|route| has_ours && route.access == Access::Open).filter(asked) {
            let (place, name) = ((route.file.as_str(), route.line), resource(api, route));
            if is_denied(deployment, api, route) {
                let message = "it has no authorizer, and the policies deny whoever has no credential there";
                findings.in_template(&DENIED, place, name, message, DENIED.instead);
            } else {
                let message = "it has no authorizer: it is open to everyone";
                findings.in_template(&OPEN, place, name, message, OPEN.instead);
            }
        }
    }
    for (api, index, authorizer) in deployment.authorizers() {
        let credentials: Vec<&str> =
            authorizer.identity_sources.iter().map(Text::as_str).filter(|source| !is_context(source)).collect();
        if credentials.is_empty() {
            continue;
        }
        let public: Vec<String> =
            routes_of(api, index).filter(|route| is_public(deployment, api, route)).map(route_key).collect();
        if let Some(first) = public.first() {
            let more = if public.len() > 1 { format!(" and {} more", public.len() - 1) } else { String::new() };
            let message = format!(
                "the policies allow {first}{more} without a credential, and API Gateway answers 401 there without {}",
                credentials.join(" and ")
            );
            let name = format!("authorizer {} of the API {}", authorizer.name, api.reference.as_str());
            findings.in_template(&PUBLIC, (&api.file, authorizer.line), name, message, PUBLIC.instead);
        }
    }
}

/// What every request has.
fn is_context(source: &str) -> bool {
    source.starts_with("$context.") || source.starts_with("context.") || source.contains("stageVariables.")
}

fn resource(api: &Api, route: &Route) -> String {
    format!("route {} of the API {}", route_key(route), api.reference.as_str())
}

/// Whether some document that can be for the API denies this route to a caller without a credential.
fn is_denied(deployment: &Deployment<'_>, api: &Api, route: &Route) -> bool {
    let Some(request) = anonymous(route) else { return false };
    deployment.gateways(api).any(|gateway| !allows(deployment, &gateway, &request))
}

/// Whether all documents that can be for the API allow it.
fn is_public(deployment: &Deployment<'_>, api: &Api, route: &Route) -> bool {
    let Some(request) = anonymous(route) else { return false };
    let mut gateways = deployment.gateways(api).peekable();
    gateways.peek().is_some() && gateways.all(|gateway| allows(deployment, &gateway, &request))
}

fn allows(deployment: &Deployment<'_>, gateway: &ApiGatewayInfo<'_>, request: &Request) -> bool {
    let documents = deployment.resources.api_gateways.iter();
    let mut named = documents.filter(|one| format!("{}/{}", one.meta.namespace, one.meta.name) == gateway.name);
    let Some(domain) = named.next().and_then(|document| document.domains.first()) else { return false };
    let target = Target::ApiGateway {
        api_id: gateway.api_id.to_owned(),
        stage: gateway.stage.to_owned(),
        domain: domain.clone(),
    };
    let given = Given {
        keys: &KeySets::default(),
        api_key: None,
        pepper: None,
        revocations: Revocations::NotKept,
        providers: None,
        verified: None,
        now: 0,
    };
    let request = Request { host: domain.clone(), ..request.clone() };
    authz::decide(deployment.policies, &request, &target, &given).is_allowed()
}

/// A request for a route, with some text for each parameter; nothing for a route that has no path of its own.
fn anonymous(route: &Route) -> Option<Request> {
    if !route.path.starts_with('/') {
        return None;
    }
    let parameter = |segment: &str| segment.starts_with('{') && segment.ends_with('}');
    let segments = route.path.split('/').map(|segment| if parameter(segment) { "x" } else { segment });
    let method = if route.method == "ANY" { "GET" } else { route.method.as_str() };
    Some(Request {
        method: method.to_owned(),
        scheme: "https".to_owned(),
        path: segments.collect::<Vec<_>>().join("/"),
        path_handling: PathHandling::AsSent,
        headers_joined: true,
        destination_port: Some(443),
        ..Request::default()
    })
}
