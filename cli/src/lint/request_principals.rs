//! `requestPrincipals`: `ISSUER/SUBJECT`, split at the last `/`.

use std::collections::BTreeSet;

use authz::matchers::{Pattern, RequestPrincipal};
use istio::Action;

use super::codes::policy;
use super::context::{Context, Policy};
use super::fields::{Attribute, Field};
use super::finding::{Code, Findings, Severity};

pub(super) const CODES: &[&Code] =
    &[&CUT_ISSUER, &EMPTY_SUBJECT, &SUBJECT_WITH_SLASH, &UNKNOWN_ISSUER, &NEEDS_SUBJECT, &ANY_ISSUER];

static CUT_ISSUER: Code = Code {
    name: "request-principal-cut-issuer",
    severity: Severity::Error,
    what: "a value of requestPrincipals whose last slash is one of `https://`",
    why: "The value is split at its last slash into issuer and subject. `https://idp.example` and `https://idp.example*` \
          therefore name the issuer `https:/`, which no token has: the value never matches.",
    instead: "write the slash between issuer and subject: `https://idp.example/*` for every subject",
    wrong: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example*"]}}]"#),
    right: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]"#),
};

static EMPTY_SUBJECT: Code = Code {
    name: "request-principal-empty-subject",
    severity: Severity::Error,
    what: "a value of requestPrincipals without a slash",
    why: "Without a slash the whole value is the issuer and the subject must be the empty string, which no issuer \
          writes: the value never matches.",
    instead: "write `ISSUER/SUBJECT`, or `ISSUER/*` for every subject of the issuer",
    wrong: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["alice"]}}]"#),
    right: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/alice"]}}]"#),
};

static SUBJECT_WITH_SLASH: Code = Code {
    name: "request-principal-subject-with-slash",
    severity: Severity::Error,
    what: "a value of requestPrincipals whose subject has a slash",
    why: "The value is split at its last slash (istio#52217), so that the front part of the subject is taken for a part \
          of the issuer: the value never matches. Tokens of GitHub Actions have such subjects.",
    instead: "write the two claims: `request.auth.claims[iss]` and `request.auth.claims[sub]` under `when`",
    wrong: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/repo:shop/web"]}}]"#),
    right: policy!(
        "ALLOW",
        r#"  - when:
    - {key: "request.auth.claims[iss]", values: ["https://idp.example"]}
    - {key: "request.auth.claims[sub]", values: ["repo:shop/web"]}"#
    ),
};

static UNKNOWN_ISSUER: Code = Code {
    name: "request-principal-unknown-issuer",
    severity: Severity::Error,
    what: "a request principal of an issuer that no RequestAuthentication or ApiKeyAuthentication accepts here",
    why: "A token of an issuer that is not listed is refused before policies are asked, so that the value never matches. \
          An issuer that ends with a slash, as Auth0's do, needs that slash as well as the one in front of the subject.",
    instead: "write the issuer exactly as in jwtRules, or add a rule for it",
    wrong: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.exmaple/*"]}}]"#),
    right: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]"#),
};

static NEEDS_SUBJECT: Code = Code {
    name: "request-principal-needs-subject",
    severity: Severity::Info,
    what: "`*` as a request principal demands a subject as well as an issuer",
    why: "`*` matches tokens with an `iss` and a `sub` that are not empty. A valid token without `sub`, as some issuers \
          give to machines, does not match it.",
    instead: "leave it if every token has a subject; otherwise ask for the claim `iss` alone",
    wrong: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["*"]}}]"#),
    right: policy!("ALLOW", r#"  - when: [{key: "request.auth.claims[iss]", values: ["*"]}]"#),
};

static ANY_ISSUER: Code = Code {
    name: "request-principal-any-issuer",
    severity: Severity::Warning,
    what: "a subject of any issuer is allowed where several issuers are accepted",
    why: "Subjects are unique for their issuer only: each of the accepted issuers can give a token with this subject to \
          somebody else.",
    instead: "write one value an issuer: `ISSUER/SUBJECT`",
    wrong: concat!(
        policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["*/alice"]}}]"#),
        "---\nkind: RequestAuthentication\nmetadata: {name: idp, namespace: shop}\nspec:\n  jwtRules:\n  \
         - {issuer: \"https://idp.example\", audiences: [shop]}\n  - {issuer: \"https://other.example\", audiences: [shop]}\n"
    ),
    right: concat!(
        policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/alice"]}}]"#),
        "---\nkind: RequestAuthentication\nmetadata: {name: idp, namespace: shop}\nspec:\n  jwtRules:\n  \
         - {issuer: \"https://idp.example\", audiences: [shop]}\n  - {issuer: \"https://other.example\", audiences: [shop]}\n"
    ),
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for policy in &context.policies {
        let issuers = context.issuers(policy);
        for field in policy.fields.iter().filter(|field| field.attribute == Attribute::RequestPrincipal) {
            for (path, value) in field.each() {
                check_value(policy, field, path, value, issuers.as_ref(), findings);
            }
        }
    }
}

fn check_value(
    policy: &Policy<'_>,
    field: &Field<'_>,
    path: String,
    value: &str,
    issuers: Option<&BTreeSet<&str>>,
    findings: &mut Findings,
) {
    let place = policy.at(path);
    if value == "*" {
        if policy.action() == Action::Allow && !field.negative {
            let message = "`*` also demands a `sub` that is not empty";
            findings.add(
                &NEEDS_SUBJECT,
                place,
                message,
                "ask for `request.auth.claims[iss]` if tokens may have no subject",
            );
        }
        return;
    }
    let parsed = RequestPrincipal::parse(value);
    let is_cut = matches!(&parsed.issuer, Pattern::Exact(issuer) if matches!(issuer.as_str(), "https:/" | "http:/"));
    if is_cut {
        let bare = value.trim_end_matches('*').trim_end_matches('/');
        let message = format!("`{value}` is split at its last slash, and no token has the issuer `https:/`");
        findings.add(&CUT_ISSUER, place, message, format!("write `{bare}/*` for every subject of that issuer"));
        return;
    }
    if !value.contains(['/', '*']) {
        let message = format!("`{value}` has no slash: it names an issuer and demands an empty subject");
        findings.add(&EMPTY_SUBJECT, place, message, format!("write `ISSUER/{value}`, or `{value}/*`"));
        return;
    }
    // Several issuers, or none at all: another check has said so.
    let Some(issuers) = issuers.filter(|issuers| !issuers.is_empty()) else { return };
    let accepted = match &parsed.issuer {
        Pattern::Any => {
            let opens = policy.action() == Action::Allow && !field.negative;
            // One with a star that is none is never matched, and another check has said so.
            let is_literal = matches!(&parsed.subject, Pattern::Exact(subject) if subject.contains('*'));
            if opens && issuers.len() > 1 && parsed.subject != Pattern::Any && !is_literal {
                let message = format!("`{value}` allows such subjects of each of {} issuers", issuers.len());
                findings.add(&ANY_ISSUER, place, message, "write one value an issuer");
            }
            return;
        }
        Pattern::Exact(issuer) => issuers.contains(issuer.as_str()),
        Pattern::Prefix(prefix) => issuers.iter().any(|issuer| issuer.starts_with(prefix)),
        Pattern::Suffix(suffix) => issuers.iter().any(|issuer| issuer.ends_with(suffix)),
    };
    if accepted {
        return;
    }
    // The subject begins behind an accepted issuer, but is cut at a later slash.
    let longest =
        issuers.iter().filter(|issuer| value.strip_prefix(**issuer).is_some_and(|rest| rest.starts_with('/')));
    if let Some(issuer) = longest.max_by_key(|issuer| issuer.len()) {
        let subject = value.strip_prefix(issuer).unwrap_or_default().trim_start_matches('/');
        let message = format!("the subject `{subject}` has a slash, at which the value is split");
        let instead = format!(
            "write under `when`: request.auth.claims[iss] with `{issuer}` and request.auth.claims[sub] with `{subject}`"
        );
        findings.add(&SUBJECT_WITH_SLASH, place, message, instead);
        return;
    }
    let issuer = value.rsplit_once('/').map_or(value, |(issuer, _)| issuer);
    let twin = issuers.iter().find(|known| known.trim_end_matches('/') == issuer.trim_end_matches('/'));
    let near = twin.or_else(|| issuers.iter().find(|known| super::words::is_near(known, issuer)));
    let instead = match near {
        Some(near) => format!("write the issuer `{near}`, then `/`, then the subject"),
        None => format!("add a jwtRule for it, or name one of: {}", super::words::list(issuers)),
    };
    let severity = if field.negative { Severity::Warning } else { Severity::Error };
    let message = format!("`{value}` names the issuer `{issuer}`, whose tokens nothing accepts here");
    findings.add_as(&UNKNOWN_ISSUER, severity, place, message, instead);
}
