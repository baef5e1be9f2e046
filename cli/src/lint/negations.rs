//! `not…` in ALLOW: what is missing is not excepted.

use istio::Action;

use super::codes::policy;
use super::context::{Context, Policy};
use super::fields::{Attribute, Field, Part};
use super::finding::{Code, Findings, Severity};

pub(super) const CODES: &[&Code] = &[&ALLOWS_ANONYMOUS, &ALLOWS_PLAINTEXT, &ALLOWS_MISSING, &ONLY_NEGATIVE];

static ALLOWS_ANONYMOUS: Code = Code {
    name: "allow-not-token",
    severity: Severity::Error,
    what: "an ALLOW rule that excepts some tokens and demands none",
    why: "A `not…` field matches when there is nothing to look at. A request without a token has no principal and no \
          claims, so that `notRequestPrincipals` and `notValues` of a claim let the anonymous in.",
    instead: "demand a token beside it, for example `requestPrincipals: [\"ISSUER/*\"]`",
    wrong: policy!("ALLOW", r#"  - from: [{source: {notRequestPrincipals: ["https://idp.example/mallory"]}}]"#),
    right: policy!(
        "ALLOW",
        r#"  - from:
    - source: {requestPrincipals: ["https://idp.example/*"], notRequestPrincipals: ["https://idp.example/mallory"]}"#
    ),
};

static ALLOWS_PLAINTEXT: Code = Code {
    name: "allow-not-peer",
    severity: Severity::Error,
    what: "an ALLOW rule that excepts some peers and demands none, where plaintext is accepted",
    why: "A `not…` field matches when there is nothing to look at. A plaintext connection has no peer identity, so that \
          `notPrincipals`, `notNamespaces` and their like let it in.",
    instead: "demand a peer beside it (`principals`, `namespaces`), or refuse plaintext by a STRICT PeerAuthentication",
    wrong: concat!(
        policy!("ALLOW", r#"  - from: [{source: {notNamespaces: ["guests"]}}]"#),
        "---\nkind: PeerAuthentication\nmetadata: {name: loose, namespace: shop}\nspec: {mtls: {mode: PERMISSIVE}}\n"
    ),
    right: policy!("ALLOW", r#"  - from: [{source: {notNamespaces: ["guests"]}}]"#),
};

static ALLOWS_MISSING: Code = Code {
    name: "allow-not-header",
    severity: Severity::Warning,
    what: "an ALLOW rule that excepts values of a header, and takes requests without the header",
    why: "`notValues` matches when the header is missing: whoever leaves it out is not excepted.",
    instead: "demand the header beside it: `values: [\"*\"]`, or better list the values that are allowed",
    wrong: policy!("ALLOW", r#"  - when: [{key: "request.headers[x-tenant]", notValues: [guest]}]"#),
    right: policy!("ALLOW", r#"  - when: [{key: "request.headers[x-tenant]", values: ["*"], notValues: [guest]}]"#),
};

static ONLY_NEGATIVE: Code = Code {
    name: "allow-only-negative",
    severity: Severity::Warning,
    what: "an ALLOW rule that says only what is not allowed",
    why: "Such a rule allows whatever it does not name, also what is added to the service later.",
    instead: "say what is allowed, and put what is not into a DENY policy",
    wrong: policy!("ALLOW", r#"  - to: [{operation: {notPaths: ["/admin", "/admin/*"]}}]"#),
    right: policy!("ALLOW", r#"  - to: [{operation: {paths: ["/shop/*"]}}]"#),
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for policy in context.policies.iter().filter(|policy| policy.action() == Action::Allow) {
        let rules = policy.document.rules.as_ref().map_or(0, Vec::len);
        for rule in 0..rules {
            check_rule(context, policy, rule, findings);
        }
    }
}

fn check_rule(context: &Context<'_>, policy: &Policy<'_>, rule: usize, findings: &mut Findings) {
    let mut said = false;
    for field in policy.rule(rule).filter(|field| field.negative) {
        let demanded = |is_same: &dyn Fn(&Field<'_>) -> bool| {
            policy.rule(rule).any(|other| {
                !other.negative && is_same(other) && (other.part == Part::Condition || other.part == field.part)
            })
        };
        // `notRequestPrincipals: ["*"]` means the anonymous, and says so.
        let means_nobody = field.values.iter().any(|value| value == "*");
        let place = policy.at(field.path.clone());
        if field.attribute.is_of_token() && !means_nobody && !demanded(&|other| other.attribute.is_of_token()) {
            let message =
                format!("`{}` also matches requests without a token: the anonymous are allowed", field.name());
            findings.add(&ALLOWS_ANONYMOUS, place, message, "add `requestPrincipals: [\"ISSUER/*\"]` beside it");
            said = true;
        } else if field.attribute.is_of_peer() && !means_nobody && !demanded(&|other| other.attribute.is_of_peer()) {
            if plaintext_possible(context, policy) {
                let message = format!("`{}` also matches plaintext, which has no peer identity", field.name());
                let instead = "demand a peer beside it, or refuse plaintext by a STRICT PeerAuthentication";
                findings.add(&ALLOWS_PLAINTEXT, place, message, instead);
                said = true;
            }
        } else if let Attribute::Header(name) = field.attribute
            && !means_nobody
            && !demanded(&|other| matches!(other.attribute, Attribute::Header(own) if own.eq_ignore_ascii_case(name)))
        {
            let message = format!("`notValues` also matches requests without the header `{name}`");
            findings.add(&ALLOWS_MISSING, place, message, "add `values: [\"*\"]`, or list the values that are allowed");
            said = true;
        }
    }
    let mut fields = policy.rule(rule).peekable();
    let anonymous_only = policy
        .rule(rule)
        .any(|field| field.attribute == Attribute::RequestPrincipal && field.values.iter().any(|value| value == "*"));
    if !said && !anonymous_only && fields.peek().is_some() && fields.all(|field| field.negative) {
        let message = "the rule allows everything that it does not name";
        let place = policy.at(format!("spec.rules[{rule}]"));
        findings.add(&ONLY_NEGATIVE, place, message, "say what is allowed, and put what is not into a DENY policy");
    }
}

/// Whether one of the workloads that the policy reaches, gateways aside, accepts plaintext.
pub(super) fn plaintext_possible(context: &Context<'_>, policy: &Policy<'_>) -> bool {
    let behind = policy
        .workloads
        .iter()
        .filter(|index| context.workloads.get(**index).is_some_and(|workload| !workload.is_gateway));
    let mut behind = behind.peekable();
    behind.peek().is_some() && behind.any(|index| context.accepts_plaintext(*index))
}
