//! Authorizers in shadow mode: what they are asked about, they let through.

use authz::api::ApiKind;

use super::Deployment;
use crate::lint::finding::{Code, Findings, Severity};
use crate::template::Could;

pub(in crate::lint) const CODES: &[&Code] = &[&ON, &CACHED];

/// Our function in shadow mode or not, and an authorizer that caches or does not.
macro_rules! guarded {
    ($variables:literal, $ttl:literal) => {
        concat!(
            "Resources:
  Guard:
    Type: AWS::Serverless::Function
    Properties:
      Environment: {Variables: {",
            $variables,
            "}}
  Api:
    Type: AWS::ApiGatewayV2::Api
    Properties: {ProtocolType: HTTP}
  Authorizer:
    Type: AWS::ApiGatewayV2::Authorizer
    Properties:
      ApiId: !Ref Api
      AuthorizerType: REQUEST
      AuthorizerUri: !GetAtt Guard.Arn
      AuthorizerPayloadFormatVersion: \"2.0\"
      EnableSimpleResponses: true
      IdentitySource: [$request.header.Authorization]
      AuthorizerResultTtlInSeconds: ",
            $ttl,
            "\n"
        )
    };
}

static ON: Code = Code {
    name: "shadow-mode",
    severity: Severity::Warning,
    what: "an authorizer function in shadow mode",
    why: "Until its end nothing is denied at the workloads that it names: what the policies deny is written down and \
          let through. It is for a migration, and a service that is enforced elsewhere must not have it.",
    instead: "take CAUSEWAY_SHADOW_WORKLOADS and CAUSEWAY_SHADOW_UNTIL away when `causeway report` finds nothing more \
              that would be denied",
    wrong: guarded!("CAUSEWAY_SHADOW_WORKLOADS: shop, CAUSEWAY_SHADOW_UNTIL: \"2026-12-31T00:00:00Z\"", "0"),
    right: guarded!("CAUSEWAY_ENVIRONMENT: dev", "0"),
};

static CACHED: Code = Code {
    name: "shadow-mode-cached",
    severity: Severity::Error,
    what: "an authorizer that caches the answers of a function in shadow mode",
    why: "An answer of shadow mode is for its request alone, and a cached one is given to every request with the same \
          identity sources: also at a workload that is enforced. As an IAM policy it denies the caller's next path, \
          which shadow mode would have let through.",
    instead: "set the TTL to 0 while shadow mode is on",
    wrong: guarded!("CAUSEWAY_SHADOW_WORKLOADS: shop, CAUSEWAY_SHADOW_UNTIL: \"2026-12-31T00:00:00Z\"", "60"),
    right: guarded!("CAUSEWAY_SHADOW_WORKLOADS: shop, CAUSEWAY_SHADOW_UNTIL: \"2026-12-31T00:00:00Z\"", "0"),
};

/// Finds functions in shadow mode, and caches of what they answer.
pub(super) fn check(deployment: &Deployment<'_>, findings: &mut Findings) {
    for function in deployment.templates.functions() {
        let Some(shadow) = &function.shadow else { continue };
        let is_asked = || {
            let mut asked = deployment.authorizers().filter_map(|(_, _, authorizer)| deployment.function(authorizer));
            asked.any(|one| one.name == function.name)
        };
        let message = match shadow.by_default {
            Could::Yes => {
                let until = shadow.until.as_deref().unwrap_or("a time that only the deployment knows");
                format!("it is in shadow mode until {until}, and denies nothing there")
            }
            // Another's function, whose variables are not shown.
            Could::Perhaps if !function.is_causeway && !is_asked() => continue,
            Could::Perhaps => {
                "only the deployment knows whether it is in shadow mode, and denies nothing there".to_owned()
            }
            Could::No => continue,
        };
        let (place, name) = ((function.file.as_str(), function.line), format!("function {}", function.name));
        findings.in_template(&ON, place, name, message, ON.instead);
    }
    for (api, _, authorizer) in deployment.authorizers() {
        let function = deployment.function(authorizer);
        let Some((function, shadow)) = function.and_then(|one| Some((one, one.shadow.as_ref()?))) else { continue };
        let is_cached = match (api.kind, authorizer.ttl_seconds) {
            (Some(ApiKind::WebSocket), _) | (_, Some(0)) => false,
            // A REST API caches for 300 seconds where the template does not say.
            (kind, None) => kind == Some(ApiKind::Rest),
            (_, Some(_)) => true,
        };
        if is_cached {
            let place = (api.file.as_str(), authorizer.line);
            let name = format!("authorizer {} of the API {}", authorizer.name, api.reference.as_str());
            let is = if shadow.by_default == Could::Yes { "is" } else { "may be" };
            let message = format!("answers are cached, and the function {} {is} in shadow mode", function.name);
            findings.in_template(&CACHED, place, name, message, CACHED.instead);
        }
    }
}

#[cfg(test)]
mod tests;
