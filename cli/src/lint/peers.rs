//! Peer identities: `principals`, `namespaces`, and plaintext, which has neither.

use istio::Action;

use super::codes::policy;
use super::context::Context;
use super::fields::Attribute;
use super::finding::{Code, Findings, Severity};
use super::negations::plaintext_possible;
use super::words;

pub(super) const CODES: &[&Code] = &[
    &WITH_SCHEME,
    &MALFORMED,
    &FOREIGN_TRUST_DOMAIN,
    &OVER_PLAINTEXT,
    &NAMESPACE_IN_URI,
    &NAMESPACE_TYPO,
    &ACCOUNT_OF_ROOT,
];

static WITH_SCHEME: Code = Code {
    name: "principal-with-scheme",
    severity: Severity::Error,
    what: "a principal that begins with `spiffe://`",
    why: "Istio puts `spiffe://` in front of each value itself: written twice it matches nobody.",
    instead: "leave `spiffe://` out",
    wrong: policy!(
        "ALLOW",
        r#"  - from: [{source: {principals: ["spiffe://cluster.local/ns/istio-system/sa/gateway"]}}]"#
    ),
    right: policy!("ALLOW", r#"  - from: [{source: {principals: ["cluster.local/ns/istio-system/sa/gateway"]}}]"#),
};

static MALFORMED: Code = Code {
    name: "principal-malformed",
    severity: Severity::Error,
    what: "a principal that is no `TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`",
    why: "Every workload of the mesh has an identity of this form. A value without wildcards that has another one matches \
          nobody.",
    instead: "write all five segments, or a prefix such as `cluster.local/ns/shop/*`",
    wrong: policy!("ALLOW", r#"  - from: [{source: {principals: ["istio-system/gateway"]}}]"#),
    right: policy!("ALLOW", r#"  - from: [{source: {principals: ["cluster.local/ns/istio-system/sa/gateway"]}}]"#),
};

static FOREIGN_TRUST_DOMAIN: Code = Code {
    name: "principal-foreign-trust-domain",
    severity: Severity::Warning,
    what: "a principal of a trust domain that is neither the mesh's own nor an alias of it",
    why: "Certificates of the mesh carry the trust domain of the mesh configuration. Unless the other domain's roots are \
          trusted as well, nobody can present such an identity.",
    instead: "write the trust domain of the mesh configuration, or add this one to `trustDomainAliases`",
    wrong: policy!("ALLOW", r#"  - from: [{source: {principals: ["cluster.loca/ns/istio-system/sa/gateway"]}}]"#),
    right: policy!("ALLOW", r#"  - from: [{source: {principals: ["cluster.local/ns/istio-system/sa/gateway"]}}]"#),
};

static OVER_PLAINTEXT: Code = Code {
    name: "peer-over-plaintext",
    severity: Severity::Warning,
    what: "a policy that looks at the peer's identity where plaintext is accepted",
    why: "A plaintext connection has no identity. A DENY of some principals is passed by leaving mutual TLS out; an ALLOW \
          denies such callers, which is safe and may surprise (an info then).",
    instead: "add a PeerAuthentication with `mtls.mode: STRICT` for these workloads",
    wrong: concat!(
        policy!("DENY", r#"  - from: [{source: {namespaces: ["guests"]}}]"#),
        "---\nkind: PeerAuthentication\nmetadata: {name: loose, namespace: shop}\nspec: {mtls: {mode: PERMISSIVE}}\n"
    ),
    right: concat!(
        policy!("DENY", r#"  - from: [{source: {namespaces: ["guests"]}}]"#),
        "---\nkind: PeerAuthentication\nmetadata: {name: loose, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n"
    ),
};

static NAMESPACE_IN_URI: Code = Code {
    name: "namespace-in-whole-uri",
    severity: Severity::Info,
    what: "`namespaces` in an ALLOW rule without a principal or trust domain",
    why: "Envoy looks for `/ns/NAMESPACE/` anywhere in the SPIFFE ID, whatever the trust domain: an identity of any \
          trusted domain counts, and `spiffe://ns/shop/…` counts as the namespace shop.",
    instead: "where foreign trust domains are trusted write `principals: [\"TRUST_DOMAIN/ns/NAMESPACE/*\"]`",
    wrong: policy!("ALLOW", r#"  - from: [{source: {namespaces: ["istio-system"]}}]"#),
    right: policy!("ALLOW", r#"  - from: [{source: {principals: ["cluster.local/ns/istio-system/*"]}}]"#),
};

static NAMESPACE_TYPO: Code = Code {
    name: "namespace-value-typo",
    severity: Severity::Warning,
    what: "a value of `namespaces` that is a letter or two away from a known namespace",
    why: "No document tells of the namespace as it is written, and of one that is written nearly the same.",
    instead: "write the namespace that is meant",
    wrong: policy!("DENY", r#"  - from: [{source: {namespaces: ["istio-sytem"]}}]"#),
    right: policy!("DENY", r#"  - from: [{source: {namespaces: ["istio-system"]}}]"#),
};

static ACCOUNT_OF_ROOT: Code = Code {
    name: "service-account-of-root-namespace",
    severity: Severity::Warning,
    what: "a service account without a namespace in a policy of the root namespace",
    why: "A value of `serviceAccounts` without a slash is an account of the policy's own namespace, not of the workload's. In \
          the root namespace that is the account of a gateway or of istiod, wherever the policy is enforced: a DENY of \
          another one denies nobody, and an ALLOW allows nobody.",
    instead: "write `NAMESPACE/ACCOUNT`",
    wrong: "kind: AuthorizationPolicy
metadata: {name: example, namespace: istio-system}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - from: [{source: {serviceAccounts: [batch]}}]
",
    right: "kind: AuthorizationPolicy
metadata: {name: example, namespace: istio-system}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - from: [{source: {serviceAccounts: [shop/batch]}}]
",
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    let mesh = &context.resources.mesh;
    let known = context.namespaces();
    for policy in &context.policies {
        for field in &policy.fields {
            for (path, value) in field.each() {
                let place = policy.at(path);
                match field.attribute {
                    Attribute::Principal => {
                        if let Some(bare) = value.strip_prefix("spiffe://") {
                            let message = format!("`{value}` matches nobody: Istio adds `spiffe://` itself");
                            findings.add(&WITH_SCHEME, place, message, format!("write `{bare}`"));
                            continue;
                        }
                        let segments: Vec<&str> = value.split('/').collect();
                        let well_formed = matches!(segments.as_slice(), [_, "ns", _, "sa", _])
                            && segments.iter().all(|segment| !segment.is_empty());
                        if !value.contains('*') && !well_formed {
                            let message = format!("`{value}` is no identity of a workload, and matches nobody");
                            let instead = format!("write `{}/ns/NAMESPACE/sa/SERVICE_ACCOUNT`", mesh.trust_domain);
                            findings.add(&MALFORMED, place, message, instead);
                            continue;
                        }
                        let Some((domain, _)) = value.split_once('/').filter(|(domain, _)| !domain.contains('*'))
                        else {
                            continue;
                        };
                        // Istio: `cluster.local` is a pointer to the mesh's own trust domain.
                        let own = domain == mesh.trust_domain
                            || domain == "cluster.local"
                            || mesh.trust_domain_aliases.iter().any(|alias| alias == domain);
                        if !own {
                            let message = format!("`{domain}` is neither the mesh's trust domain nor an alias of it");
                            let instead = format!("write `{}`, or add it to `trustDomainAliases`", mesh.trust_domain);
                            findings.add(&FOREIGN_TRUST_DOMAIN, place, message, instead);
                        }
                    }
                    Attribute::Namespace if !known.contains(value) => {
                        if let Some(near) = words::nearest(value, known.iter().copied()) {
                            let message = format!("no document tells of a workload in the namespace `{value}`");
                            findings.add(&NAMESPACE_TYPO, place, message, format!("did you mean `{near}`?"));
                        }
                    }
                    Attribute::ServiceAccount if context.is_root(policy.meta()) && !value.contains('/') => {
                        let namespace = &policy.meta().namespace;
                        let message = format!(
                            "`{value}` is the service account `{namespace}/{value}`, of the policy's own namespace"
                        );
                        let instead = format!("write `NAMESPACE/{value}`, or `{namespace}/{value}` if that is meant");
                        findings.add(&ACCOUNT_OF_ROOT, place, message, instead);
                    }
                    _ => {}
                }
            }
        }
        if policy.action() == Action::Allow {
            let rules = policy.document.rules.as_ref().map_or(0, Vec::len);
            for rule in 0..rules {
                let mut fields = policy.rule(rule);
                let namespace = fields.find(|field| field.attribute == Attribute::Namespace && !field.negative);
                let anchored = policy.rule(rule).any(|field| {
                    matches!(field.attribute, Attribute::Principal | Attribute::TrustDomain) && !field.negative
                });
                if let Some(field) = namespace.filter(|_| !anchored) {
                    let message = "the namespace is looked for in the whole SPIFFE ID, whatever its trust domain";
                    let instead = format!(
                        "where others are trusted write `principals: [\"{}/ns/NAMESPACE/*\"]`",
                        mesh.trust_domain
                    );
                    findings.add(&NAMESPACE_IN_URI, policy.at(field.path.clone()), message, instead);
                }
            }
        }
        over_plaintext(context, policy, findings);
    }
}

/// Once a policy.
fn over_plaintext(context: &Context<'_>, policy: &super::context::Policy<'_>, findings: &mut Findings) {
    if !plaintext_possible(context, policy) {
        return;
    }
    let peers = || policy.fields.iter().filter(|field| field.attribute.is_of_peer());
    let opening = peers().find(|field| field.opens_when_missed(policy.action()) && !field.negative);
    let instead = "add a PeerAuthentication with `mtls.mode: STRICT`";
    if let Some(field) = opening {
        let message = format!("`{}` is passed by leaving mutual TLS out: plaintext is accepted here", field.name());
        findings.add(&OVER_PLAINTEXT, policy.at(field.path.clone()), message, instead);
    } else if let Some(field) = peers().find(|field| !field.negative) {
        let message = format!("`{}` never matches plaintext, which is accepted here", field.name());
        findings.add_as(&OVER_PLAINTEXT, Severity::Info, policy.at(field.path.clone()), message, instead);
    }
}

/// Whether a value of `namespaces` takes a namespace; every star counts.
pub(super) fn glob_matches(value: &str, namespace: &str) -> bool {
    let mut pieces = value.split('*');
    let Some(mut rest) = namespace.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    if !value.contains('*') {
        return rest.is_empty();
    }
    let last = value.rsplit('*').next().unwrap_or_default();
    for piece in pieces {
        match rest.find(piece).and_then(|at| rest.get(at + piece.len()..)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    namespace.ends_with(last)
}
