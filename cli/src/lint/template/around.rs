//! What leads around the gateway: to the function or the backend behind it, past its authorizer or its certificates.

use authz::api::{Access, Text};

use super::Deployment;
use crate::lint::finding::{Code, Findings, Severity};
use crate::template::Place;

pub(in crate::lint) const CODES: &[&Code] =
    &[&SECOND_NAME, &ANY_API, &EVERYBODY, &OPEN_URL, &OPEN_API, &PUBLIC_INTEGRATION, &PUBLIC_BACKEND];

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
    what: "an API behind a custom domain with mutual TLS that keeps its `execute-api` name",
    why: "API Gateway asks for a certificate at the custom domain alone. Under the other name everybody gets in without one.",
    instead: "set `DisableExecuteApiEndpoint: true` at the API",
    wrong: mutual!("Name: a"),
    right: mutual!("DisableExecuteApiEndpoint: true"),
};

static ANY_API: Code = Code {
    name: "permission-for-any-api",
    severity: Severity::Error,
    what: "a permission of a function for API Gateway that names no API",
    why: "Every API of every account can then call the function, with whatever authorizer it has, or none. One that calls \
          an authorizer or an issuer also chooses what the event says.",
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
        say(
            &SECOND_NAME,
            &second.place,
            format!("the API {api} has another name, where nobody is asked for a certificate"),
        );
    }
    for permission in &ways.permissions {
        let source = permission.source.as_ref();
        match permission.principal.as_str() {
            "apigateway.amazonaws.com" => {
                if let Some(message) = any_api(source) {
                    say(&ANY_API, &permission.place, message);
                }
            }
            "*" if source.is_none() && !permission.is_bound => {
                let how = if permission.by_signed_url { "everybody with an AWS account" } else { "everybody" };
                say(&EVERYBODY, &permission.place, format!("it lets {how} in"));
            }
            _ => {}
        }
    }
    for url in ways.urls.iter().filter(|url| matches!(&url.auth, Text::Known(auth) if auth == "NONE")) {
        let Some(function) = url.function.as_deref() else { continue };
        let own = deployment.templates.functions().iter().any(|one| one.name == function && one.is_causeway);
        if own || guarded(deployment, function) {
            say(&OPEN_URL, &url.place, format!("the function {function} has a URL that asks nobody who calls"));
        }
    }
    for call in ways.calls.iter().filter(|call| guarded(deployment, &call.function)) {
        let api = deployment.templates.apis().iter().find(|api| api.reference == call.api);
        let open = api.is_some_and(|api| {
            !deployment.has_ours(api) && api.routes.iter().any(|route| route.access == Access::Open)
        });
        if open {
            let (api, function) = (call.api.as_str(), &call.function);
            say(&OPEN_API, &call.place, format!("the API {api} has open routes, and calls {function}, too"));
        }
    }
    backends(deployment, &mut say);
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
        say(&PUBLIC_BACKEND, &exposed.place, exposed.why.to_owned());
    }
}

/// Why a permission for API Gateway is not for one API: `arn:PARTITION:execute-api:REGION:ACCOUNT:API/…` has no star up
/// to the API.
fn any_api(source: Option<&Text>) -> Option<String> {
    let Some(source) = source else { return Some("it has no SourceArn: any API may call".to_owned()) };
    let text = source.as_str();
    let (_, rest) = text.split_once(":execute-api:")?;
    let api = rest.split('/').next().unwrap_or_default();
    api.contains('*').then(|| format!("its SourceArn is for more than one API: {text}"))
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
