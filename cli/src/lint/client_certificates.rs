//! Client certificates at the gateway that an API plays: who shows one, and what that makes of the Gateway's
//! `tls.mode`.

use istio::{ApiGateway, Resources, ServerTlsMode};

use super::context::Context;
use super::finding::{Code, Findings, Place, Severity};

pub(super) const CODES: &[&Code] = &[&OPTIONAL, &WITHOUT_DOMAIN];

/// An API at `$domain` and its Gateway with `$mode`.
macro_rules! gateway {
    ($mode:literal, $domain:literal) => {
        concat!(
            "kind: Gateway\nmetadata: {name: front, namespace: shop}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n  \
             - port: {number: 443, name: https, protocol: HTTPS}\n    hosts: [\"*\"]\n    tls: {mode: ",
            $mode,
            ", credentialName: shop}\n---\nkind: ApiGateway\nmetadata: {name: front, namespace: shop}\nspec:\n  apiId: a\n  \
             stage: $default\n  domain: ",
            $domain,
            "\n  gateway: shop/front\n  workload: {namespace: istio-system, labels: {istio: ingressgateway}, serviceAccount: \
             gateway}\n  environment: dev\n"
        )
    };
}

static OPTIONAL: Code = Code {
    name: "gateway-optional-mutual",
    severity: Severity::Warning,
    what: "an API that plays a Gateway with `tls.mode: OPTIONAL_MUTUAL`",
    why: "Istio's gateway asks for a certificate and takes a client without one. A domain of API Gateway asks and \
          takes nobody without one, or it does not ask: a client with a certificate and one without need two \
          domains.",
    instead: "write MUTUAL where every client has a certificate, SIMPLE where none has; or give the API one domain \
          of each kind, and leave it as it is",
    wrong: gateway!("OPTIONAL_MUTUAL", "shop.example"),
    right: gateway!("MUTUAL", "shop.example"),
};

static WITHOUT_DOMAIN: Code = Code {
    name: "gateway-mutual-at-execute-api",
    severity: Severity::Warning,
    what: "an ApiGateway with an `execute-api` domain whose Gateway has `tls.mode: MUTUAL`",
    why: "Only a custom domain asks clients for certificates. At the endpoint `execute-api` nobody has one, and \
          every request there is denied (`configuration_invalid`).",
    instead: "leave the domain out, and switch the endpoint off (`DisableExecuteApiEndpoint`)",
    wrong: gateway!("MUTUAL", "a.execute-api.eu-central-1.amazonaws.com"),
    right: gateway!("MUTUAL", "shop.example"),
};

/// Which clients of an API show a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shown {
    /// None of them: only custom domains can have mutual TLS.
    Never,
    /// Those of a custom domain, if it has mutual TLS, which no document says.
    Perhaps,
    /// All of them: the Gateway lets no other in.
    Always,
}

impl Shown {
    pub(super) fn at(resources: &Resources, api: &ApiGateway) -> Self {
        if modes(resources, api).any(|mode| mode == ServerTlsMode::Mutual) {
            Self::Always
        } else if api.domains.iter().all(|domain| is_own(domain)) {
            Self::Never
        } else {
            Self::Perhaps
        }
    }
}

/// Whether AWS gave the domain to the API.
fn is_own(domain: &str) -> bool {
    domain.to_ascii_lowercase().contains(".execute-api.")
}

/// The modes of the Gateway that `api` plays.
fn modes<'a>(resources: &'a Resources, api: &'a ApiGateway) -> impl Iterator<Item = ServerTlsMode> + 'a {
    let (namespace, name) = api.gateway.split_once('/').unwrap_or_default();
    let mut gateways = resources.gateways.iter();
    let played = gateways.find(|gateway| gateway.meta.namespace == namespace && gateway.meta.name == name);
    played.into_iter().flat_map(|gateway| &gateway.servers).filter_map(|server| Some(server.tls.as_ref()?.mode))
}

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for api in &context.resources.api_gateways {
        let has = |wanted| modes(context.resources, api).any(|mode| mode == wanted);
        if has(ServerTlsMode::OptionalMutual) {
            let place = Place::new("ApiGateway", &api.meta, "spec.gateway");
            let message = format!(
                "the Gateway {} takes clients with and without a certificate (OPTIONAL_MUTUAL), and no domain of API \
                 Gateway does both",
                api.gateway
            );
            findings.add(&OPTIONAL, place, message, OPTIONAL.instead);
        }
        if has(ServerTlsMode::Mutual)
            && let Some(domain) = api.domains.iter().find(|domain| is_own(domain))
        {
            let place = Place::new("ApiGateway", &api.meta, "spec.domains");
            let message = format!(
                "at `{domain}` no client shows a certificate, and the Gateway {} lets nobody in without one (MUTUAL): \
                 every request there is denied",
                api.gateway
            );
            findings.add(&WITHOUT_DOMAIN, place, message, WITHOUT_DOMAIN.instead);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::found;

    /// The severity and code of what is said of a rule about peers at the gateway.
    fn said(domain: &str, mode: &str, action: &str, field: &str) -> Vec<(&'static str, &'static str)> {
        let text = format!(
            "kind: Gateway\nmetadata: {{name: front, namespace: shop}}\nspec:\n  selector: {{istio: ingressgateway}}\n  \
             servers:\n  - port: {{number: 443, name: https, protocol: HTTPS}}\n    hosts: [\"*\"]\n    \
             tls: {{mode: {mode}, credentialName: shop}}\n---\nkind: ApiGateway\nmetadata: {{name: front, namespace: shop}}\n\
             spec:\n  apiId: a\n  stage: $default\n  domain: {domain}\n  gateway: shop/front\n  \
             workload: {{namespace: istio-system, labels: {{istio: ingressgateway}}, serviceAccount: gateway}}\n  \
             environment: dev\n---\nkind: AuthorizationPolicy\nmetadata: {{name: peers, namespace: istio-system}}\nspec:\n  \
             selector: {{matchLabels: {{istio: ingressgateway}}}}\n  action: {action}\n  rules:\n  \
             - from: [{{source: {{{field}: [cluster.local/ns/a/sa/a]}}}}]\n"
        );
        let codes = ["api-gateway-allow-dead", "api-gateway-peer-missing", "api-gateway-peer-by-certificate"];
        let findings = found(&text).into_iter().filter(|finding| codes.contains(&finding.code));
        findings.map(|finding| (finding.severity.as_str(), finding.code)).collect()
    }

    #[test]
    fn rules_about_peers_depend_on_who_shows_a_certificate() {
        const OWN: &str = "a.execute-api.eu-central-1.amazonaws.com";
        const CUSTOM: &str = "shop.example";
        let perhaps = "api-gateway-peer-by-certificate";
        for (domain, mode, action, field, expected) in [
            (OWN, "SIMPLE", "ALLOW", "principals", Some(("error", "api-gateway-allow-dead"))),
            (OWN, "SIMPLE", "DENY", "principals", Some(("warning", "api-gateway-peer-missing"))),
            (CUSTOM, "SIMPLE", "ALLOW", "principals", Some(("info", perhaps))),
            (CUSTOM, "SIMPLE", "ALLOW", "notPrincipals", Some(("warning", perhaps))),
            (CUSTOM, "SIMPLE", "DENY", "principals", Some(("warning", perhaps))),
            (CUSTOM, "SIMPLE", "DENY", "notPrincipals", Some(("info", perhaps))),
            (CUSTOM, "OPTIONAL_MUTUAL", "DENY", "principals", Some(("warning", perhaps))),
            (CUSTOM, "MUTUAL", "ALLOW", "principals", None),
            (CUSTOM, "MUTUAL", "DENY", "principals", None),
        ] {
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(said(domain, mode, action, field), expected, "{domain} {mode} {action} {field}");
        }
    }
}
