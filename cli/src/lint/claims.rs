//! `request.auth.claims[…]` and its relatives.

use istio::JwtRule;

use super::codes::policy;
use super::context::{Context, Policy};
use super::fields::{Attribute, Field};
use super::finding::{Code, Findings, Severity};

pub(super) const CODES: &[&Code] =
    &[&NOT_A_STRING, &WITH_SPACE, &DEDICATED_KEY, &DOTTED_NAME, &NOT_SPLIT, &AUDIENCE_REFUSED];

static NOT_A_STRING: Code = Code {
    name: "claim-not-a-string",
    severity: Severity::Warning,
    what: "a value of a claim that is likely no string in the token",
    why: "Istio compares strings, and elements of lists that are strings. A claim that is `true`, `3` or null in the token \
          never matches (istio#39703, istio#41290), and `notValues` always does.",
    instead: "have the issuer write a string, or a list such as `groups`, and compare with that",
    wrong: policy!("ALLOW", r#"  - when: [{key: "request.auth.claims[email_verified]", values: ["true"]}]"#),
    right: policy!("ALLOW", r#"  - when: [{key: "request.auth.claims[groups]", values: ["verified"]}]"#),
};

static WITH_SPACE: Code = Code {
    name: "claim-value-with-space",
    severity: Severity::Error,
    what: "a value with a space for a claim that is split at spaces",
    why: "`scope`, `permission` and `spaceDelimitedClaims` are split into words before they are compared: no word has a \
          space.",
    instead: "for all of them write one condition a word; for any of them one value a word",
    wrong: policy!("ALLOW", r#"  - when: [{key: "request.auth.claims[scope]", values: ["shop.read shop.write"]}]"#),
    right: policy!(
        "ALLOW",
        r#"  - when:
    - {key: "request.auth.claims[scope]", values: ["shop.read"]}
    - {key: "request.auth.claims[scope]", values: ["shop.write"]}"#
    ),
};

static DEDICATED_KEY: Code = Code {
    name: "claim-with-own-key",
    severity: Severity::Info,
    what: "a claim that has a key of its own",
    why: "`aud` is `request.auth.audiences`, `azp` is `request.auth.presenter`, and `iss` and `sub` are \
          `requestPrincipals`: readers look for them there. (A subject with a slash can be written as a claim only.)",
    instead: "write the key that is meant for it",
    wrong: policy!("ALLOW", r#"  - when: [{key: "request.auth.claims[aud]", values: ["shop"]}]"#),
    right: policy!("ALLOW", r#"  - when: [{key: "request.auth.audiences", values: ["shop"]}]"#),
};

static DOTTED_NAME: Code = Code {
    name: "claim-name-with-dot",
    severity: Severity::Warning,
    what: "a claim whose name has a dot",
    why: "A nested claim is written with one bracket a level. A dot is a part of the name: `[realm_access.roles]` asks for \
          one claim of that name.",
    instead: "write `request.auth.claims[realm_access][roles]`",
    wrong: policy!("ALLOW", r#"  - when: [{key: "request.auth.claims[realm_access.roles]", values: ["admin"]}]"#),
    right: policy!("ALLOW", r#"  - when: [{key: "request.auth.claims[realm_access][roles]", values: ["admin"]}]"#),
};

static NOT_SPLIT: Code = Code {
    name: "claim-not-split",
    severity: Severity::Warning,
    what: "a claim of words that is not split at spaces",
    why: "Istio splits `scope` and `permission` only. `scp`, which others write instead, is compared as one string unless \
          `spaceDelimitedClaims` names it; a token with two scopes then matches neither.",
    instead: "add `spaceDelimitedClaims: [scp]` to the jwtRule",
    wrong: policy!("ALLOW", r#"  - when: [{key: "request.auth.claims[scp]", values: ["shop.read"]}]"#),
    right: policy!("ALLOW", r#"  - when: [{key: "request.auth.claims[scope]", values: ["shop.read"]}]"#),
};

static AUDIENCE_REFUSED: Code = Code {
    name: "audience-not-accepted",
    severity: Severity::Error,
    what: "an audience that no jwtRule accepts here",
    why: "A token without one of the rule's `audiences` is refused before policies are asked, so that this value alone lets \
          nobody in.",
    instead: "write one of the rule's audiences, or add this one there",
    wrong: policy!("ALLOW", r#"  - when: [{key: "request.auth.audiences", values: ["shpo"]}]"#),
    right: policy!("ALLOW", r#"  - when: [{key: "request.auth.audiences", values: ["shop"]}]"#),
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for policy in &context.policies {
        let rules: Vec<&JwtRule> = context.token_rules(policy).map(|(_, _, rule)| rule).collect();
        for field in &policy.fields {
            if let Attribute::Claim(names) = field.attribute {
                claim(policy, field, names, &rules, findings);
            } else if field.attribute == Attribute::Audience && !field.negative {
                audiences(context, policy, field, &rules, findings);
            }
        }
    }
}

fn claim(policy: &Policy<'_>, field: &Field<'_>, names: &[String], rules: &[&JwtRule], findings: &mut Findings) {
    let key = format!("request.auth.claims[{}]", names.join("]["));
    let [name] = names else { return values(policy, field, &key, false, findings) };
    let key_place = || policy.at(field.path.replace(&format!(".{}", field.name()), ".key"));
    let declared = rules.iter().any(|rule| rule.space_delimited_claims.contains(name));
    let is_split = matches!(name.as_str(), "scope" | "permission") || declared;
    let own = match name.as_str() {
        "aud" => Some("request.auth.audiences"),
        "azp" => Some("request.auth.presenter"),
        "iss" | "sub" if !subject_with_slash(policy, field) && field.values.iter().all(|value| value != "*") => {
            Some("request.auth.principal")
        }
        _ => None,
    };
    if let Some(own) = own {
        findings.add(&DEDICATED_KEY, key_place(), format!("`{key}` has a key of its own"), format!("write `{own}`"));
    }
    // Names that are URLs have dots.
    if name.contains('.') && !name.contains('/') {
        let nested = name.replace('.', "][");
        let message = format!("the dots are a part of the name: one claim `{name}`, not a nested one");
        findings.add(&DOTTED_NAME, key_place(), message, format!("write `request.auth.claims[{nested}]`"));
    }
    if name == "scp" && !is_split {
        let message = "`scp` is not split at spaces: a token with two scopes matches neither";
        findings.add(&NOT_SPLIT, key_place(), message, "add `spaceDelimitedClaims: [scp]` to the jwtRule");
    }
    values(policy, field, &key, is_split, findings);
}

/// `iss` and `sub` as claims are right where the subject has a slash.
fn subject_with_slash(policy: &Policy<'_>, field: &Field<'_>) -> bool {
    policy.rule(field.rule).any(|other| {
        matches!(other.attribute, Attribute::Claim([name]) if name == "sub")
            && other.values.iter().any(|value| value.contains('/'))
    })
}

fn values(policy: &Policy<'_>, field: &Field<'_>, key: &str, is_split: bool, findings: &mut Findings) {
    for (path, value) in field.each() {
        let place = policy.at(path);
        if is_split && value.contains(' ') {
            let message = format!("the claim is split at spaces: `{value}` never matches");
            findings.add(&WITH_SPACE, place, message, "write one condition a word for all, one value a word for any");
            continue;
        }
        let is_number = value.parse::<f64>().is_ok() && value.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if matches!(value, "true" | "false" | "null" | "True" | "False") || (is_number && !is_split) {
            let message =
                format!("`{key}` is likely no string in the token, and only strings are compared with `{value}`");
            findings.add(&NOT_A_STRING, place, message, "have the issuer write a string or a list of strings");
        }
    }
}

fn audiences(
    context: &Context<'_>,
    policy: &Policy<'_>,
    field: &Field<'_>,
    rules: &[&JwtRule],
    findings: &mut Findings,
) {
    // A rule without audiences takes any, and so does an API key.
    if rules.is_empty() || rules.iter().any(|rule| rule.audiences.is_empty()) || !context.key_rules(policy).is_empty() {
        return;
    }
    // Tokens may have further audiences beside the one that the rule wants; where one value fits, the others are a wish.
    let accepted = |value: &str| {
        rules.iter().flat_map(|rule| &rule.audiences).any(|audience| super::words::matches(value, audience))
    };
    if !field.values.iter().any(|value| accepted(value)) {
        for (path, value) in field.each() {
            let near = rules.iter().flat_map(|rule| &rule.audiences).find(|known| super::words::is_near(known, value));
            let Some(near) = near else { continue };
            let message = format!("no jwtRule accepts the audience `{value}` here");
            findings.add(&AUDIENCE_REFUSED, policy.at(path), message, format!("did you mean `{near}`?"));
        }
    }
}
