//! What leads around the gateway: to the function or the backend behind it, past its authorizer or its certificates.

mod permissions;

use authz::api::{Access, Api, Route};

use super::{Deployment, route_key};
use crate::lint::finding::{Code, Findings, Severity};
use crate::template::{Call, Could, Place};

pub(in crate::lint) const CODES: &[&Code] = &[
    &SECOND_NAME,
    &ANY_API,
    &EVERYBODY,
    &OPEN_URL,
    &OPEN_API,
    &BALANCED,
    &PUBLIC_INTEGRATION,
    &PUBLIC_BACKEND,
    &PERHAPS,
];

/// A function behind an API that asks our authorizer, and what stands beside them.
macro_rules! behind {
    ($beside:literal) => {
        concat!(
            "Resources:
  Guard: {Type: AWS::Serverless::Function, Properties: {Environment: {Variables: {CAUSEWAY_ENVIRONMENT: dev}}}}
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Own
        Authorizers: {Own: {FunctionArn: !GetAtt Guard.Arn, EnableSimpleResponses: true, AuthorizerPayloadFormatVersion: 2.0}}
  Orders:
    Type: AWS::Serverless::Function
    Properties: {Events: {Call: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: GET, Path: /a}}}}
",
            $beside
        )
    };
}

/// An API whose custom domain asks for certificates, and has this switch.
macro_rules! mutual {
    ($switch:literal) => {
        concat!(
            "Resources:
  Api: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP, ",
            $switch,
            "}}
  Domain:
    Type: AWS::ApiGatewayV2::DomainName
    Properties: {DomainName: shop.example, MutualTlsAuthentication: {TruststoreUri: \"s3://trust/roots.pem\"}}
  Mapping:
    Type: AWS::ApiGatewayV2::ApiMapping
    Properties: {ApiId: !Ref Api, DomainName: !Ref Domain, Stage: $default}
"
        )
    };
}

/// A backend behind a route of the central API: its integration has this connection, its load balancer this scheme.
macro_rules! backend {
    ($connection:literal, $scheme:literal) => {
        concat!(
            "Resources:
  Balancer: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {Scheme: ",
            $scheme,
            "}}
  Backend:
    Type: AWS::ApiGatewayV2::Integration
    Properties: {ApiId: !ImportValue central-ApiId, IntegrationType: HTTP_PROXY, IntegrationUri: !Ref Listener, ",
            $connection,
            "}
"
        )
    };
}

static SECOND_NAME: Code = Code {
    name: "execute-api-beside-mutual-tls",
    severity: Severity::Error,
    what: "an API behind a custom domain with mutual TLS that has a name without it: `execute-api`, or another domain",
    why: "API Gateway asks for a certificate at the custom domain alone. Under the other name everybody gets in without one.",
    instead: "set `DisableExecuteApiEndpoint: true` at the API, and `MutualTlsAuthentication` at each of its domains",
    wrong: mutual!("Name: a"),
    right: mutual!("DisableExecuteApiEndpoint: true"),
};

static ANY_API: Code = Code {
    name: "permission-for-any-api",
    severity: Severity::Error,
    what: "a permission of a function for API Gateway that names no API",
    why: "Other APIs, of every account if none is named, can then call the function, with whatever \
          authorizer they have, or none. One that calls an authorizer or an issuer also chooses what the event says.",
    instead: "give it the `SourceArn` of the API, such as `arn:aws:execute-api:REGION:ACCOUNT:API/*`",
    wrong: behind!(
        "  Permission:
    Type: AWS::Lambda::Permission
    Properties: {FunctionName: !Ref Orders, Action: lambda:InvokeFunction, Principal: apigateway.amazonaws.com}
"
    ),
    right: behind!(
        "  Permission:
    Type: AWS::Lambda::Permission
    Properties:
      FunctionName: !Ref Orders
      Action: lambda:InvokeFunction
      Principal: apigateway.amazonaws.com
      SourceArn: !Sub arn:aws:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/*
"
    ),
};

static EVERYBODY: Code = Code {
    name: "permission-for-everybody",
    severity: Severity::Error,
    what: "a permission of a function for the principal `*` that no organisation, account or source bounds",
    why: "Everybody can call the function then, past every gateway, and writes its event.",
    instead: "name the principal, or add `PrincipalOrgID`; for the IAM door of a Function URL also \
              `FunctionUrlAuthType: AWS_IAM`, or `InvokedViaFunctionUrl: true`",
    wrong: behind!(
        "  Permission:
    Type: AWS::Lambda::Permission
    Properties: {FunctionName: !Ref Orders, Action: lambda:InvokeFunctionUrl, FunctionUrlAuthType: NONE, Principal: \"*\"}
"
    ),
    right: behind!(
        "  Permission:
    Type: AWS::Lambda::Permission
    Properties:
      FunctionName: !Ref Orders
      Action: lambda:InvokeFunctionUrl
      FunctionUrlAuthType: AWS_IAM
      Principal: \"*\"
      PrincipalOrgID: o-abcdefghij
"
    ),
};

static OPEN_URL: Code = Code {
    name: "function-url-around-gateway",
    severity: Severity::Error,
    what: "a Function URL that asks nobody, in front of a function of ours or one behind our authorizer",
    why: "The URL is a second way to the function, and no policy is asked there.",
    instead: "leave the URL out, or write `AuthType: AWS_IAM` and say who may use it",
    wrong: behind!(
        "  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !GetAtt Orders.Arn, AuthType: NONE}}
"
    ),
    right: behind!(
        "  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !GetAtt Orders.Arn, AuthType: AWS_IAM}}
"
    ),
};

static OPEN_API: Code = Code {
    name: "function-behind-second-api",
    severity: Severity::Error,
    what: "a function behind our authorizer that another API calls on open routes",
    why: "What the one API denies, the other one lets through.",
    instead: "give the routes of the other API our authorizer, or take them out",
    wrong: behind!(
        "  Other: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP}}
  Integration:
    Type: AWS::ApiGatewayV2::Integration
    Properties: {ApiId: !Ref Other, IntegrationType: AWS_PROXY, IntegrationUri: !GetAtt Orders.Arn}
  Route:
    Type: AWS::ApiGatewayV2::Route
    Properties: {ApiId: !Ref Other, RouteKey: GET /a, Target: !Sub \"integrations/${Integration}\"}
"
    ),
    right: behind!(
        "  Other: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP}}
  Integration:
    Type: AWS::ApiGatewayV2::Integration
    Properties: {ApiId: !Ref Other, IntegrationType: AWS_PROXY, IntegrationUri: !GetAtt Orders.Arn}
  Route:
    Type: AWS::ApiGatewayV2::Route
    Properties:
      {ApiId: !Ref Other, RouteKey: GET /a, Target: !Sub \"integrations/${Integration}\", AuthorizationType: AWS_IAM}
"
    ),
};

static BALANCED: Code = Code {
    name: "function-behind-load-balancer",
    severity: Severity::Error,
    what: "a function of ours, or one behind our authorizer, that a load balancer, VPC Lattice or CloudFront may call",
    why: "It is a second way to the function, and no policy is asked there; CloudFront signs for everybody who calls it.",
    instead: "take the permission and the target group out, and let the callers use the API",
    wrong: behind!(
        "  Permission:
    Type: AWS::Lambda::Permission
    Properties:
      {FunctionName: !Ref Orders, Action: lambda:InvokeFunction, Principal: elasticloadbalancing.amazonaws.com}
"
    ),
    right: behind!(""),
};

static PERHAPS: Code = Code {
    name: "perhaps-around-gateway",
    severity: Severity::Warning,
    what: "what leads around the gateway or not, as only the deployment knows: by a value, or by an API that is not there",
    why: "With a parameter's other value, nobody is asked there. The templates do not say which value it has. Nor do they \
          say which API calls a function that API Gateway may call, where that is in another template.",
    instead: "write the value into the template, give the other templates as well, or look at what is deployed",
    wrong: behind!(
        "  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !GetAtt Orders.Arn, AuthType: !Ref UrlAuth}}
"
    ),
    right: behind!(
        "  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !GetAtt Orders.Arn, AuthType: AWS_IAM}}
"
    ),
};

static PUBLIC_INTEGRATION: Code = Code {
    name: "backend-on-the-internet",
    severity: Severity::Warning,
    what: "an integration of an API with our authorizer that reaches its backend over the internet",
    why: "Whoever knows the backend's address calls it without the API, and no policy is asked.",
    instead: "reach it by a VPC link (`ConnectionType: VPC_LINK`), or have the backend prove that the API calls it",
    wrong: backend!("ConnectionType: INTERNET", "internal"),
    right: backend!("ConnectionType: VPC_LINK, ConnectionId: !ImportValue link", "internal"),
};

static PUBLIC_BACKEND: Code = Code {
    name: "backend-with-public-address",
    severity: Severity::Error,
    what: "a load balancer or an ECS service with public addresses, behind an API that asks our authorizer",
    why: "A VPC link, or the sidecar with mutual TLS, is the way to it. A public address is a second one, and no policy is \
          asked there.",
    instead: "write `Scheme: internal` at the load balancer, and `AssignPublicIp: DISABLED` at the service",
    wrong: backend!("ConnectionType: VPC_LINK, ConnectionId: !ImportValue link", "internet-facing"),
    right: backend!("ConnectionType: VPC_LINK, ConnectionId: !ImportValue link", "internal"),
};

pub(in crate::lint) fn check(deployment: &Deployment<'_>, findings: &mut Findings) {
    let ways = deployment.templates.ways();
    let mut say = |code: &'static Code, place: &Place, message: String| {
        findings.in_template(code, (&place.file, place.line), place.name.as_str(), message, code.instead);
    };
    for second in &ways.second_names {
        let api = second.api.as_str();
        let code = if second.is_certain { &SECOND_NAME } else { &PERHAPS };
        let other = if second.is_certain { "has" } else { "may have" };
        let message = format!("the API {api} {other} another name, where nobody is asked for a certificate");
        say(code, &second.place, message);
    }
    permissions::check(deployment, &mut say);
    for url in &ways.urls {
        let Some(function) = url.function.as_deref() else {
            if url.is_of_parameter && url.open != Could::No && has_guarded(deployment) {
                say(&PERHAPS, &url.place, format!("{ANY_FUNCTION} has a URL that asks nobody who calls"));
            }
            continue;
        };
        match is_behind(deployment, function).min(url.open) {
            Could::Yes => {
                say(&OPEN_URL, &url.place, format!("the function {function} has a URL that asks nobody who calls"));
            }
            Could::Perhaps => {
                let message = match url.open {
                    Could::Yes => {
                        format!("the function {function} has a URL that asks nobody who calls, and {ELSEWHERE}")
                    }
                    _ => format!("only the deployment knows whether the URL of {function} asks who calls"),
                };
                say(&PERHAPS, &url.place, message);
            }
            Could::No => {}
        }
    }
    for call in ways.calls.iter().filter(|call| guarded(deployment, &call.function)) {
        let api = deployment.templates.apis().iter().find(|api| api.reference == call.api);
        if api.is_some_and(|api| !deployment.has_ours(api) && is_open(api, call)) {
            let (api, function) = (call.api.as_str(), &call.function);
            say(&OPEN_API, &call.place, format!("the API {api} has open routes, and calls {function}, too"));
        }
    }
    backends(deployment, &mut say);
}

/// Whether an open route of the API leads to what the call calls. Where its routes are not known, each one may.
fn is_open(api: &Api, call: &Call) -> bool {
    // At an OpenAPI document a call has the name of its route.
    let named = api.routes.iter().any(|route| route_key(route) == call.place.name);
    let leads = |route: &&Route| match call.routes.as_slice() {
        [] => !named || route_key(route) == call.place.name,
        lines => route.file == call.place.file && lines.contains(&route.line),
    };
    api.routes.iter().filter(leads).any(|route| route.access == Access::Open)
}

/// Of a function that an API calls which the templates do not have.
const ELSEWHERE: &str = "an API of other templates that calls it may be guarded";

/// Of a function that a parameter or another stack names.
const ANY_FUNCTION: &str = "only the deployment knows which function it is that";

/// Whether an API of the templates asks our authorizer, and calls or may call functions that they do not name.
fn has_guarded(deployment: &Deployment<'_>) -> bool {
    deployment.templates.apis().iter().any(|api| deployment.has_ours(api))
}

/// Whether a function of the templates is ours, or behind our authorizer. Only the deployment knows that of one that API
/// Gateway may call, be it that everybody may, and no API of the templates does.
fn is_behind(deployment: &Deployment<'_>, function: &str) -> Could {
    let own = deployment.templates.functions().iter().any(|one| one.name == function && one.is_causeway);
    let asked = || deployment.authorizers().filter_map(|(.., authorizer)| deployment.function(authorizer));
    if own || guarded(deployment, function) || asked().any(|one| one.name == function) {
        return Could::Yes;
    }
    let ways = deployment.templates.ways();
    let is_called = ways.calls.iter().any(|call| call.function == function);
    let mut own = ways.permissions.iter().filter(|permission| permission.function.as_deref() == Some(function));
    let is_elsewhere = !is_called && own.any(permissions::is_for_api);
    if is_elsewhere { Could::Perhaps } else { Could::No }
}

fn backends(deployment: &Deployment<'_>, say: &mut impl FnMut(&'static Code, &Place, String)) {
    let mut any = false;
    for integration in deployment.templates.integrations() {
        let api = deployment.templates.apis().iter().find(|api| api.reference == integration.api);
        if !api.is_some_and(|api| deployment.has_ours(api)) {
            continue;
        }
        any = true;
        if !integration.is_private {
            let place =
                Place { name: integration.name.clone(), file: integration.file.clone(), line: integration.line };
            let message = format!("the API {} calls its backend over the internet", integration.api.as_str());
            say(&PUBLIC_INTEGRATION, &place, message);
        }
    }
    for exposed in deployment.templates.ways().exposed.iter().filter(|_| any) {
        if exposed.is_certain {
            say(&PUBLIC_BACKEND, &exposed.place, exposed.why.to_owned());
        } else {
            let message = "the templates do not say that it is private, or whose backend it is".to_owned();
            say(&PERHAPS, &exposed.place, message);
        }
    }
}

/// Whether an API that asks our authorizer calls the function.
fn guarded(deployment: &Deployment<'_>, function: &str) -> bool {
    let mut calls = deployment.templates.ways().calls.iter().filter(|call| call.function == function);
    calls.any(|call| {
        let api = deployment.templates.apis().iter().find(|api| api.reference == call.api);
        api.is_some_and(|api| deployment.has_ours(api))
    })
}

#[cfg(test)]
mod tests;
