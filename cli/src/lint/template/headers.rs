//! Headers that a backend takes for ours: each must be overwritten or removed wherever requests are sent on.

use std::collections::BTreeSet;

use authz::api::{Api, Text};

use super::Deployment;
use crate::lint::finding::{Code, Findings, Severity};
use crate::template::Integration;

pub(in crate::lint) const CODES: &[&Code] = &[&APPENDED, &SPOOFABLE, &KEY_FORWARDED, &TOKEN_FORWARDED];

/// A template with an API, our authorizer, and an integration with these parameters.
macro_rules! integration {
    ($parameters:literal) => {
        concat!(
            "Resources:
  Api: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP}}
  Authorizer:
    Type: AWS::ApiGatewayV2::Authorizer
    Properties: {ApiId: !Ref Api, AuthorizerType: REQUEST, EnableSimpleResponses: true, AuthorizerPayloadFormatVersion: \"2.0\"}
  Backend:
    Type: AWS::ApiGatewayV2::Integration
    Properties:
      ApiId: !Ref Api
      IntegrationType: HTTP_PROXY
      RequestParameters: {",
            $parameters,
            "}
"
        )
    };
}

static APPENDED: Code = Code {
    name: "context-header-appended",
    severity: Severity::Error,
    what: "a context value of the authorizer that is appended to a header",
    why: "The client's own value of the header stays in front of ours, and a backend that reads the first one reads the client's.",
    instead: "write `overwrite:` instead of `append:`",
    wrong: integration!("'append:header.x-principal': $context.authorizer.principal"),
    right: integration!("'overwrite:header.x-principal': $context.authorizer.principal"),
};

static SPOOFABLE: Code = Code {
    name: "context-header-spoofable",
    severity: Severity::Error,
    what: "a header that backends take for the authorizer's and that an integration passes on as the client sent it",
    why: "A backend that reads a caller's name in a header reads there what the client wrote.",
    instead: "overwrite the header with the context value, or remove it, in every integration of the API",
    wrong: concat!(
        integration!("'overwrite:header.x-principal': $context.authorizer.principal"),
        "  Second:
    Type: AWS::ApiGatewayV2::Integration
    Properties: {ApiId: !Ref Api, IntegrationType: HTTP_PROXY}
"
    ),
    right: concat!(
        integration!("'overwrite:header.x-principal': $context.authorizer.principal"),
        "  Second:
    Type: AWS::ApiGatewayV2::Integration
    Properties: {ApiId: !Ref Api, IntegrationType: HTTP_PROXY, RequestParameters: {'remove:header.x-principal': \"''\"}}
"
    ),
};

static KEY_FORWARDED: Code = Code {
    name: "api-key-forwarded",
    severity: Severity::Warning,
    what: "an integration that passes API keys on although no ApiKeyAuthentication says `forwardOriginalKey`",
    why: "In the mesh the header is taken away. API Gateway sends every header on that nothing removes, so the backend sees \
          the key, and may log it.",
    instead: "write `remove:header.NAME` into the integration's RequestParameters",
    wrong: concat!(
        integration!(""),
        "---\nkind: ApiKeyAuthentication\nmetadata: {name: keys, namespace: shop}\nspec: {issuer: \"https://idp.example\"}\n"
    ),
    right: concat!(
        integration!("'remove:header.x-api-key': \"''\""),
        "---\nkind: ApiKeyAuthentication\nmetadata: {name: keys, namespace: shop}\nspec: {issuer: \"https://idp.example\"}\n"
    ),
};

static TOKEN_FORWARDED: Code = Code {
    name: "token-forwarded",
    severity: Severity::Info,
    what: "an integration that passes `Authorization` on although no RequestAuthentication says `forwardOriginalToken`",
    why: "In the mesh the header is taken away. API Gateway always sends it on: no mapping of an HTTP API can touch it.",
    instead: "write `forwardOriginalToken: true`, as it is what happens, and trust the backend with the token; or put a proxy \
              in front of it",
    wrong: concat!(
        integration!(""),
        "---\nkind: RequestAuthentication\nmetadata: {name: idp, namespace: istio-system}\nspec:\n  jwtRules: [{issuer: \
         \"https://idp.example\", jwksUri: \"https://idp.example/jwks.json\", audiences: [shop]}]\n"
    ),
    right: integration!(""),
};

pub(in crate::lint) fn check(deployment: &Deployment<'_>, findings: &mut Findings) {
    let resources = deployment.resources;
    let outputs = deployment.policies.output_headers();
    let keys: BTreeSet<String> = resources
        .api_key_authentications
        .iter()
        .filter(|one| !one.forward_original_key)
        .map(|one| one.header_name.to_ascii_lowercase())
        .collect();
    let rules = || resources.request_authentications.iter().flat_map(|one| &one.jwt_rules);
    let forwards = rules().next().is_none() || rules().any(|rule| rule.forward_original_token);
    for api in deployment.templates.apis() {
        if api.kind.is_some() && !api.authorizers.iter().any(|one| deployment.is_ours(one)) {
            continue;
        }
        let own: Vec<&Integration> =
            deployment.templates.integrations().iter().filter(|one| one.api == api.reference).collect();
        // What one backend takes for ours, every backend may.
        let mut ours: BTreeSet<String> = outputs.iter().cloned().collect();
        for integration in &own {
            let made = integration.headers().filter(|(_, _, mapping)| is_context(&mapping.value));
            ours.extend(made.map(|(_, header, _)| header));
        }
        for integration in own {
            one(api, integration, &ours, &keys, findings);
            if !forwards {
                let message = "`Authorization` goes on to the backend, and no RequestAuthentication forwards it";
                let place = (integration.file.as_str(), integration.line);
                findings.in_template(&TOKEN_FORWARDED, place, name(api, integration), message, TOKEN_FORWARDED.instead);
            }
        }
    }
}

fn one(
    api: &Api,
    integration: &Integration,
    ours: &BTreeSet<String>,
    keys: &BTreeSet<String>,
    findings: &mut Findings,
) {
    let place = (integration.file.as_str(), integration.line);
    let settled: BTreeSet<String> = integration
        .headers()
        .filter(|(operation, _, _)| matches!(*operation, "overwrite" | "remove"))
        .map(|(_, header, _)| header)
        .collect();
    for (operation, header, mapping) in integration.headers() {
        if operation == "append" && is_context(&mapping.value) {
            let message = format!("`{header}` keeps what the client sent, with {} behind it", mapping.value.as_str());
            let instead = format!("write `overwrite:header.{header}`");
            let place = (integration.file.as_str(), mapping.line);
            findings.in_template(&APPENDED, place, name(api, integration), message, instead);
        }
    }
    for header in ours.iter().filter(|header| !settled.contains(*header)) {
        let message = format!("`{header}` is the authorizer's to say, and the client's own goes on to the backend");
        let instead = format!("write `overwrite:header.{header}` with its context value, or `remove:header.{header}`");
        findings.in_template(&SPOOFABLE, place, name(api, integration), message, instead);
    }
    for header in keys.iter().filter(|header| !settled.contains(*header)) {
        let message = format!("the API key in `{header}` goes on to the backend");
        let instead = format!("write `remove:header.{header}`, or `forwardOriginalKey: true` if the backend needs it");
        findings.in_template(&KEY_FORWARDED, place, name(api, integration), message, instead);
    }
}

fn name(api: &Api, integration: &Integration) -> String {
    format!("integration {} of the API {}", integration.name, api.reference.as_str())
}

/// Whether a value is the authorizer's.
fn is_context(value: &Text) -> bool {
    value.as_str().contains("context.authorizer.")
}
