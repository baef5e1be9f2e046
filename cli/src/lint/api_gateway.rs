//! What API Gateway cannot supply: rules that die there, and rules that match more.

use authz::{Hop, UNAVAILABLE_AT_API_GATEWAY};
use istio::Action;

use super::client_certificates::Shown;
use super::codes::policy;
use super::context::{Context, Policy, Workload};
use super::fields::{Attribute, Field};
use super::finding::{Code, Findings, Place, Severity};
use super::words;

pub(super) const CODES: &[&Code] =
    &[&DEAD_ALLOW, &WIDENED, &DEAD_DENY, &PEER_PERHAPS, &DOMAIN_UNSERVED, &GATEWAY_UNKNOWN];

/// A policy for the gateway workload.
macro_rules! at_gateway {
    ($action:literal, $rule:literal) => {
        concat!(
            "kind: AuthorizationPolicy\nmetadata: {name: example, namespace: istio-system}\nspec:\n  selector: {matchLabels: \
             {istio: ingressgateway}}\n  action: ",
            $action,
            "\n  rules:\n  - ",
            $rule,
            "\n"
        )
    };
}

static DEAD_ALLOW: Code = Code {
    name: "api-gateway-allow-dead",
    severity: Severity::Error,
    what: "an ALLOW rule that needs what API Gateway cannot supply",
    why: "Istio's rule for attributes that cannot be known is that an ALLOW rule with one of them never matches. The first \
          hop has no SNI and no destination address, and no peer identity where no domain asks for certificates; the second \
          one has the gateway's identity, and no direct peer's address.",
    instead: "ask for what the hop knows: request principals, claims, `remoteIpBlocks`, at the second hop the gateway's \
              principal; or select workloads that API Gateway does not reach",
    wrong: policy!("ALLOW", r#"  - when: [{key: connection.sni, values: ["shop.example"]}]"#),
    right: policy!("ALLOW", r#"  - to: [{operation: {hosts: ["shop.example", "shop.example:*"]}}]"#),
};

static WIDENED: Code = Code {
    name: "api-gateway-widened",
    severity: Severity::Warning,
    what: "a DENY, AUDIT or CUSTOM rule with a condition that API Gateway cannot supply",
    why: "Istio's rule for attributes that cannot be known is that such a rule loses the condition: it matches more at API \
          Gateway than in the mesh.",
    instead: "use an attribute that the hop knows, or select workloads that API Gateway does not reach",
    wrong: policy!("DENY", r#"  - when: [{key: connection.sni, notValues: ["shop.example"]}]"#),
    right: policy!("DENY", r#"  - to: [{operation: {notHosts: ["shop.example", "shop.example:*"]}}]"#),
};

static DEAD_DENY: Code = Code {
    name: "api-gateway-peer-missing",
    severity: Severity::Warning,
    what: "a rule about peers for a gateway workload whose clients have none",
    why: "Clients of the endpoint `execute-api` show no certificate and have no SPIFFE ID: a DENY of some peers never matches \
          there, and one with `not…` matches every request.",
    instead: "ask for request principals, claims or `remoteIpBlocks` at the gateway, or give the API a custom domain with \
              mutual TLS",
    wrong: concat!(
        at_gateway!("DENY", "from: [{source: {namespaces: [guests]}}]"),
        "---
kind: ApiGateway
metadata: {name: front, namespace: shop}
spec:
  apiId: a
  stage: $default
  domain: a.execute-api.eu-central-1.amazonaws.com
  gateway: shop/front
  workload: {namespace: istio-system, labels: {istio: ingressgateway}, serviceAccount: gateway}
  environment: dev
"
    ),
    right: at_gateway!("DENY", "from: [{source: {requestPrincipals: [\"https://idp.example/guest\"]}}]"),
};

static PEER_PERHAPS: Code = Code {
    name: "api-gateway-peer-by-certificate",
    severity: Severity::Warning,
    what: "a rule about peers for a gateway workload whose clients may have none",
    why: "A client has a peer identity if the custom domain has mutual TLS, and its certificate a SPIFFE ID. Without one, and \
          at every other domain of the API, a DENY of some peers is passed, an ALLOW of them never matches, and a `not…` \
          always does. No document says which domain asks. (An info where the rule closes rather than opens.)",
    instead: "write `tls.mode: MUTUAL` in the Gateway: then nobody comes in without a certificate",
    wrong: at_gateway!("DENY", "from: [{source: {namespaces: [guests]}}]"),
    right: concat!(
        at_gateway!("DENY", "from: [{source: {namespaces: [guests]}}]"),
        "---
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.example]
    tls: {mode: MUTUAL, credentialName: shop}
"
    ),
};

static DOMAIN_UNSERVED: Code = Code {
    name: "api-gateway-domain-not-served",
    severity: Severity::Error,
    what: "a domain of an ApiGateway that its Gateway does not serve, or that no VirtualService routes",
    why: "What no route of the gateway takes is denied: every request for this domain is (`destination_unknown`).",
    instead: "add the domain to the Gateway's hosts and to a VirtualService that names the Gateway",
    wrong: "kind: ApiGateway
metadata: {name: front, namespace: shop}
spec:
  apiId: a
  stage: $default
  domain: shpo.example
  gateway: shop/front
  workload: {namespace: istio-system, labels: {istio: ingressgateway}, serviceAccount: gateway}
  environment: dev
",
    right: "kind: ApiGateway
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

static GATEWAY_UNKNOWN: Code = Code {
    name: "virtual-service-gateway-unknown",
    severity: Severity::Warning,
    what: "a VirtualService for a Gateway that no document has, and that is nearly one that there is",
    why: "The routes count for no gateway: what they were to take is denied.",
    instead: "write the Gateway's name, `NAMESPACE/NAME` from another namespace",
    wrong: "kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [frnot]
  http:
  - route: [{destination: {host: web, port: {number: 80}}}]
",
    right: "kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [front]
  http:
  - route: [{destination: {host: web, port: {number: 80}}}]
",
};

/// What is known of an attribute at a hop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Known {
    Yes,
    /// Known to be absent: values never match, `not…` always does.
    Missing,
    /// Absent, unless the client shows a certificate.
    Perhaps,
    /// It cannot be known.
    No,
}

fn known(attribute: Attribute<'_>, is_first: bool, workload: &Workload<'_>, shown: Shown) -> Known {
    let hop = if is_first { Hop::Gateway } else { Hop::Destination };
    let never = UNAVAILABLE_AT_API_GATEWAY.iter().filter(|(at, _)| *at == hop).flat_map(|(_, never)| never.iter());
    if attribute.in_the_gate().is_some_and(|attribute| never.into_iter().any(|other| *other == attribute)) {
        return Known::No;
    }
    match attribute {
        // What the documents leave open.
        Attribute::Port if workload.ports.as_ref().is_none_or(|ports| is_first && ports.len() > 1) => Known::No,
        _ if is_first && attribute.is_of_peer() => match shown {
            Shown::Never => Known::Missing,
            Shown::Perhaps => Known::Perhaps,
            Shown::Always => Known::Yes,
        },
        _ => Known::Yes,
    }
}

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for api in &context.apis {
        let shown = Shown::at(context.resources, api.document);
        let hops = std::iter::once((api.workload, true)).chain(api.destinations.iter().map(|index| (*index, false)));
        for (index, is_first) in hops {
            let Some(workload) = context.workloads.get(index) else { continue };
            let hop = if is_first { "first hop" } else { "second hop" };
            let at = format!("at the {hop} of ApiGateway {} ({})", api.name(), workload.name);
            for policy in context.policies_of(index) {
                for field in &policy.fields {
                    judge(policy, field, known(field.attribute, is_first, workload, shown), &at, findings);
                }
            }
        }
    }
    routes(context, findings);
}

fn judge(policy: &Policy<'_>, field: &Field<'_>, known: Known, at: &str, findings: &mut Findings) {
    let place = policy.at(field.path.clone());
    let key = key(field.attribute);
    let instead = match field.attribute {
        Attribute::IpBlock => "write `remoteIpBlocks`, which is the client's address",
        Attribute::Sni => "look at `hosts`",
        Attribute::Port => "give the Service a numeric targetPort, or leave the port out",
        _ if field.attribute.is_of_peer() => "ask for request principals, claims or `remoteIpBlocks` there",
        _ => "use an attribute that is known there, or select workloads that API Gateway does not reach",
    };
    match (known, policy.action()) {
        (Known::Yes, _) => {}
        (Known::No, Action::Allow) => {
            let message = format!("`{key}` cannot be known {at}: the rule never matches there");
            findings.add(&DEAD_ALLOW, place, message, instead);
        }
        (Known::Missing, Action::Allow) => {
            if !field.negative {
                let message = format!("clients have no `{key}` {at}: this never matches there");
                findings.add(&DEAD_ALLOW, place, message, instead);
            }
        }
        (Known::No, action) => {
            let message =
                format!("`{key}` cannot be known {at}: the {} rule loses it and matches more", action.as_str());
            findings.add(&WIDENED, place, message, instead);
        }
        (Known::Perhaps, action) => {
            let opens = field.opens_when_missed(action);
            let effect = match (opens, field.negative) {
                (true, false) => "a client without one passes this",
                (_, false) => "this never matches a client without one",
                (_, true) => "this always matches a client without one",
            };
            let message = format!(
                "clients have a `{key}` {at} only if their domain has mutual TLS: {effect} ({})",
                action.as_str()
            );
            let severity = if opens { PEER_PERHAPS.severity } else { Severity::Info };
            findings.add_as(&PEER_PERHAPS, severity, place, message, PEER_PERHAPS.instead);
        }
        (Known::Missing, action) => {
            let effect = if field.negative { "this always matches there" } else { "this never matches there" };
            let message = format!("clients have no `{key}` {at}: {effect} ({})", action.as_str());
            findings.add(&DEAD_DENY, place, message, instead);
        }
    }
}

/// Istio's key of a condition on it.
fn key(attribute: Attribute<'_>) -> &'static str {
    match attribute {
        Attribute::Namespace => "source.namespace",
        Attribute::ServiceAccount => "source.serviceAccount",
        Attribute::TrustDomain => "source.trustDomain",
        _ => attribute.in_the_gate().map_or("source.principal", authz::Attribute::as_str),
    }
}

fn routes(context: &Context<'_>, findings: &mut Findings) {
    let resources = context.resources;
    let full = |gateway: &istio::Gateway| format!("{}/{}", gateway.meta.namespace, gateway.meta.name);
    let names: Vec<String> = resources.gateways.iter().map(full).collect();
    for service in &resources.virtual_services {
        for (index, gateway) in service.gateways.iter().enumerate() {
            if gateway == "mesh" || names.contains(gateway) {
                continue;
            }
            if let Some(near) = words::nearest(gateway, names.iter().map(String::as_str)) {
                let place = Place::new("VirtualService", &service.meta, format!("spec.gateways[{index}]"));
                let message = format!("no document has the Gateway `{gateway}`");
                findings.add(&GATEWAY_UNKNOWN, place, message, format!("did you mean `{near}`?"));
            }
        }
    }
    for api in &resources.api_gateways {
        let Some(gateway) = resources.gateways.iter().find(|gateway| full(gateway) == api.gateway) else { continue };
        for domain in &api.domains {
            let takes = |host: &str| {
                let host = host.rsplit('/').next().unwrap_or(host).to_ascii_lowercase();
                words::matches(&host, &domain.to_ascii_lowercase())
            };
            let served = gateway.servers.iter().flat_map(|server| &server.hosts).any(|host| takes(host));
            let mut services = resources.virtual_services.iter();
            let domain_lower = domain.to_ascii_lowercase();
            let routed = services.any(|service| {
                let hosts = authz::compile::routed_hosts(resources, api, service);
                hosts.iter().any(|host| words::matches(host, &domain_lower))
            });
            if served && routed {
                continue;
            }
            let message = if served {
                format!("no VirtualService of {} routes `{domain}`: every request for it is denied", api.gateway)
            } else {
                format!("the Gateway {} does not serve `{domain}`: every request for it is denied", api.gateway)
            };
            let place = Place::new("ApiGateway", &api.meta, "spec.domains");
            findings.add(
                &DOMAIN_UNSERVED,
                place,
                message,
                "add the domain to the Gateway and to a VirtualService of it",
            );
        }
    }
}
