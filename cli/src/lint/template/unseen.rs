//! What the event of an authorizer does not show: of a TOKEN authorizer nearly everything, of payload format 1.0
//! perhaps not the repeated lines of a header. Conditions on it are settled by Istio's rule for attributes that
//! cannot be known.

use authz::api::{Api, Authorizer, AuthorizerKind, Text};
use istio::Action;

use super::{Deployment, is_http};
use crate::lint::context::Context;
use crate::lint::fields::Attribute;
use crate::lint::finding::{Code, Findings, Severity};

pub(in crate::lint) const CODES: &[&Code] = &[&DEAD_ALLOW, &WIDENED];

/// A REST API with our authorizer of this type, and a policy at its gateway.
macro_rules! rest {
    ($kind:literal, $action:literal, $rule:literal) => {
        concat!(
            "Resources:
  Guard: {Type: AWS::Serverless::Function, Properties: {Environment: {Variables: {CAUSEWAY_ENVIRONMENT: dev}}}}
  Api: {Type: AWS::ApiGateway::RestApi}
  Authorizer:
    Type: AWS::ApiGateway::Authorizer
    Properties:
      RestApiId: !Ref Api
      Type: ",
            $kind,
            "
      AuthorizerUri: !GetAtt Guard.Arn
      IdentitySource: method.request.header.Authorization
      AuthorizerResultTtlInSeconds: 0
---
kind: AuthorizationPolicy
metadata: {name: example, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  action: ",
            $action,
            "
  rules:
  - ",
            $rule,
            "
"
        )
    };
}

static DEAD_ALLOW: Code = Code {
    name: "authorizer-event-allow-dead",
    severity: Severity::Error,
    what: "an ALLOW rule that needs what the event of an authorizer does not show",
    why: "A TOKEN authorizer is told one header and the method's ARN: no host, no other header, no query, no address \
          and no certificate of the client. What cannot be known matches no ALLOW rule. (A warning for payload \
          format 1.0, of which AWS documents one line of a header that was sent twice, and no list of all: without \
          it no header is known.)",
    instead: "use a REQUEST authorizer, at an HTTP API with payload format 2.0; or ask for what the event shows: \
          tokens, method and path",
    wrong: rest!("TOKEN", "ALLOW", "to: [{operation: {hosts: [shop.example]}}]"),
    right: rest!("REQUEST", "ALLOW", "to: [{operation: {hosts: [shop.example]}}]"),
};

static WIDENED: Code = Code {
    name: "authorizer-event-widened",
    severity: Severity::Warning,
    what: "a DENY, AUDIT or CUSTOM rule with a condition on what the event of an authorizer does not show",
    why: "What cannot be known counts as met in such a rule: it loses the condition and matches more than it does in \
          the mesh, and than it does behind a REQUEST authorizer.",
    instead: "use a REQUEST authorizer, at an HTTP API with payload format 2.0; or ask for what the event shows: \
          tokens, method and path",
    wrong: rest!("TOKEN", "DENY", "when: [{key: remote.ip, values: [192.0.2.0/24]}]"),
    right: rest!("REQUEST", "DENY", "when: [{key: remote.ip, values: [192.0.2.0/24]}]"),
};

/// What an event lacks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Lacks {
    /// All but one header and the ARN.
    Most,
    /// Repeated lines of headers.
    Lines,
}

impl Lacks {
    fn of(is_http: bool, authorizer: &Authorizer) -> Option<Self> {
        match authorizer.kind {
            AuthorizerKind::Token => Some(Self::Most),
            AuthorizerKind::Request => {
                let format = authorizer.payload_format.as_ref().map(Text::as_str);
                (is_http && format.is_some_and(|format| format.starts_with('1'))).then_some(Self::Lines)
            }
            AuthorizerKind::Jwt => None,
        }
    }

    /// Istio's key of what cannot be known. The peer of the second hop is the gateway, and its address never is.
    fn hides(self, attribute: Attribute<'_>, is_first: bool) -> Option<&'static str> {
        match (self, attribute) {
            // Method and path are told; the query, which `:path` has as well, is not.
            (_, Attribute::Header(":method" | ":scheme")) => None,
            (Self::Most, Attribute::Header(":authority" | "host") | Attribute::Host) => Some("hosts"),
            (Self::Lines, Attribute::Header(":authority" | "host")) => None,
            (_, Attribute::Header(_)) => Some("request.headers"),
            (Self::Most, Attribute::RemoteIpBlock) => Some("remote.ip"),
            (Self::Most, Attribute::IpBlock) if is_first => Some("source.ip"),
            (Self::Most, peer) if is_first && peer.is_of_peer() => Some("source.principal"),
            _ => None,
        }
    }

    fn whose(self, authorizer: &Authorizer, file: &str) -> String {
        let kind = match self {
            Self::Most => "TOKEN authorizer",
            Self::Lines => "authorizer with payload format 1.0",
        };
        format!("the {kind} {} at {file}:{}", authorizer.name, authorizer.line)
    }
}

pub(in crate::lint) fn check(deployment: &Deployment<'_>, findings: &mut Findings) {
    let lacking = |(api, _, authorizer): &(&Api, u32, &Authorizer)| Lacks::of(is_http(api), authorizer).is_some();
    if !deployment.authorizers().any(|one| lacking(&one)) {
        return;
    }
    // No check below asks for the mode.
    let context = Context::new(deployment.resources, authz::Mode::default());
    for (api, _, authorizer) in deployment.authorizers() {
        let Some(lacks) = Lacks::of(is_http(api), authorizer) else { continue };
        let whose = lacks.whose(authorizer, &api.file);
        for gateway in deployment.gateways(api) {
            let mut played = context.apis.iter();
            let Some(played) = played.find(|one| one.name() == gateway.name) else { continue };
            let hops =
                std::iter::once((played.workload, true)).chain(played.destinations.iter().map(|at| (*at, false)));
            for (workload, is_first) in hops {
                conditions(&context, (workload, is_first), lacks, &whose, findings);
            }
        }
    }
}

fn conditions(context: &Context<'_>, hop: (usize, bool), lacks: Lacks, whose: &str, findings: &mut Findings) {
    let (workload, is_first) = hop;
    for policy in context.policies_of(workload) {
        for field in &policy.fields {
            let Some(key) = lacks.hides(field.attribute, is_first) else { continue };
            let place = policy.at(field.path.clone());
            let (cannot, is_sure) = match lacks {
                Lacks::Most => ("cannot", true),
                Lacks::Lines => ("may not", false),
            };
            if policy.action() == Action::Allow {
                let message = format!("`{key}` {cannot} be known from {whose}: the rule never matches then");
                let severity = if is_sure { DEAD_ALLOW.severity } else { Severity::Warning };
                findings.add_as(&DEAD_ALLOW, severity, place, message, DEAD_ALLOW.instead);
            } else {
                let action = policy.action().as_str();
                let message =
                    format!("`{key}` {cannot} be known from {whose}: the {action} rule loses it then and matches more");
                findings.add(&WIDENED, place, message, WIDENED.instead);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::found;

    /// A REST or HTTP API with an authorizer of ours, and a policy at each hop that asks for everything.
    fn said(authorizer: &str, action: &str) -> Vec<String> {
        let rule = "  rules:
  - from: [{source: {principals: [cluster.local/ns/a/sa/a], remoteIpBlocks: [192.0.2.0/24], ipBlocks: [192.0.2.0/24]}}]
    to: [{operation: {hosts: [shop.example], methods: [GET], paths: [/a], notPorts: [\"80\"]}}]
    when:
    - {key: \"request.headers[x-a]\", values: [b]}
    - {key: \"request.headers[:method]\", values: [GET]}
    - {key: \"request.auth.claims[a]\", values: [b]}
";
        let policy = |namespace: &str, labels: &str| {
            format!(
                "---\nkind: AuthorizationPolicy\nmetadata: {{name: {namespace}, namespace: {namespace}}}\nspec:\n  \
                 selector: {{matchLabels: {{{labels}}}}}\n  action: {action}\n{rule}"
            )
        };
        let text = format!(
            "Resources:
  Guard: {{Type: AWS::Serverless::Function, Properties: {{Environment: {{Variables: {{CAUSEWAY_ENVIRONMENT: dev}}}}}}}}
{authorizer}{}{}",
            policy("istio-system", "istio: ingressgateway"),
            policy("shop", "app: web")
        );
        let findings = found(&text).into_iter().filter(|finding| finding.code.starts_with("authorizer-event-"));
        let mut said: Vec<String> = findings
            .map(|finding| format!("{} {} {}", finding.severity.as_str(), finding.resource, finding.path))
            .collect();
        said.sort();
        said
    }

    fn rest(kind: &str) -> String {
        format!(
            "  Api: {{Type: AWS::ApiGateway::RestApi}}
  Authorizer:
    Type: AWS::ApiGateway::Authorizer
    Properties: {{RestApiId: !Ref Api, Type: {kind}, AuthorizerUri: !GetAtt Guard.Arn, AuthorizerResultTtlInSeconds: 0}}
"
        )
    }

    fn http(format: &str) -> String {
        format!(
            "  Api: {{Type: AWS::ApiGatewayV2::Api, Properties: {{ProtocolType: HTTP}}}}
  Authorizer:
    Type: AWS::ApiGatewayV2::Authorizer
    Properties: {{ApiId: !Ref Api, AuthorizerType: REQUEST, AuthorizerUri: !GetAtt Guard.Arn, AuthorizerPayloadFormatVersion: \"{format}\"}}
"
        )
    }

    #[test]
    fn each_condition_on_what_is_not_shown_is_named_at_its_hop() {
        let first = ["from[0].source.ipBlocks", "from[0].source.principals"];
        let both = ["from[0].source.remoteIpBlocks", "to[0].operation.hosts", "when[0].values"];
        for (action, severity) in [("ALLOW", "error"), ("DENY", "warning"), ("AUDIT", "warning")] {
            let mut expected: Vec<String> = Vec::new();
            let mut add = |policy: &str, field: &str| {
                expected.push(format!("{severity} AuthorizationPolicy {policy} spec.rules[0].{field}"));
            };
            first.iter().chain(&both).for_each(|field| add("istio-system/istio-system", field));
            both.iter().for_each(|field| add("shop/shop", field));
            expected.sort();
            assert_eq!(said(&rest("TOKEN"), action), expected);
            let lines = expected.iter().filter(|line| line.ends_with("when[0].values"));
            let lines: Vec<String> = lines.map(|line| line.replace("error", "warning")).collect();
            assert_eq!(said(&http("1.0"), action), lines);
            for authorizer in [rest("REQUEST"), http("2.0")] {
                assert_eq!(said(&authorizer, action), [""; 0], "{authorizer}");
            }
        }
    }
}
