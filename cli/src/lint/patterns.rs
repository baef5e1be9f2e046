//! `*` where it is no wildcard, and values of other languages than Istio's.

use istio::Action;

use super::codes::policy;
use super::context::{Context, Policy};
use super::fields::{Attribute, Field};
use super::finding::{Code, Findings, Severity};

pub(super) const CODES: &[&Code] = &[&LITERAL_STAR, &DOUBLE_STAR, &REGULAR_EXPRESSION];

static LITERAL_STAR: Code = Code {
    name: "literal-star",
    severity: Severity::Error,
    what: "a `*` that is neither the first nor the last character",
    why: "Only one `*`, at the very beginning or the very end, is a wildcard. Anywhere else it stands for itself, so that \
          the value matches only what has a star in that place. `*x*` is the suffix `x*`.",
    instead: "in paths write a template with `{*}` for one segment; elsewhere use a prefix or a suffix, or list the values",
    wrong: policy!("DENY", r#"  - to: [{operation: {paths: ["/shops/*/admin"]}}]"#),
    right: policy!("DENY", r#"  - to: [{operation: {paths: ["/shops/{*}/admin"]}}]"#),
};

static DOUBLE_STAR: Code = Code {
    name: "double-star",
    severity: Severity::Error,
    what: "`**` outside of a path template",
    why: "Of two stars one is the wildcard and the other stands for itself: `/a/**` matches only paths that begin with \
          `/a/*`, with the star.",
    instead: "write one star: `/a/*` takes every depth; in a template write `{**}`",
    wrong: policy!("DENY", r#"  - to: [{operation: {paths: ["/admin", "/admin/**"]}}]"#),
    right: policy!("DENY", r#"  - to: [{operation: {paths: ["/admin", "/admin/*"]}}]"#),
};

static REGULAR_EXPRESSION: Code = Code {
    name: "regular-expression",
    severity: Severity::Error,
    what: "a value that looks like a regular expression",
    why: "Values are exact, a prefix, a suffix or a path template. A regular expression is compared letter by letter, and \
          never matches.",
    instead: "write a prefix `x*`, a suffix `*x`, a template with `{*}`, or list the values",
    wrong: policy!("DENY", r#"  - to: [{operation: {paths: ["^/admin/.*$"]}}]"#),
    right: policy!("DENY", r#"  - to: [{operation: {paths: ["/admin", "/admin/*"]}}]"#),
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for policy in &context.policies {
        for field in &policy.fields {
            for (path, value) in field.each() {
                check_value(policy, field, path, value, findings);
            }
        }
    }
}

fn check_value(policy: &Policy<'_>, field: &Field<'_>, path: String, value: &str, findings: &mut Findings) {
    let is_path = field.attribute == Attribute::Path;
    if is_path && super::words::is_template(value) {
        return;
    }
    let verdict = match (policy.action(), field.negative) {
        (_, false) => "it matches next to nothing",
        (Action::Allow, true) => "the exception excepts nothing, and more is allowed",
        (_, true) => "the exception excepts nothing",
    };
    let place = policy.at(path);
    if !matches!(field.attribute, Attribute::IpBlock | Attribute::RemoteIpBlock | Attribute::Port) && is_regex(value) {
        let message = format!("`{value}` is compared letter by letter, not as a regular expression: {verdict}");
        findings.add(&REGULAR_EXPRESSION, place, message, "write a prefix `x*`, a suffix `*x`, or list the values");
        return;
    }
    if !has_string_wildcards(field.attribute) {
        return;
    }
    if value.contains("**") {
        let once = value.replace("**", "*");
        let message = format!("one star of `{value}` stands for itself: {verdict}");
        findings.add(&DOUBLE_STAR, place, message, format!("write `{once}`"));
        return;
    }
    if has_literal_star(field.attribute, value) {
        let instead = if is_path {
            let template: Vec<&str> =
                value.split('/').map(|segment| if segment == "*" { "{*}" } else { segment }).collect();
            let template = template.join("/");
            if super::words::is_template(&template) && !template.replace("{*}", "").contains('*') {
                format!("write the template `{template}`")
            } else {
                "write a template, in which `{*}` is one whole segment, or list the paths".to_owned()
            }
        } else if field.attribute == Attribute::RequestPrincipal && value == "*/*" {
            "write `*` for any issuer and any subject, or `ISSUER/*`".to_owned()
        } else {
            "write a prefix `x*` or a suffix `*x`, or list the values".to_owned()
        };
        let message = format!("a star inside of `{value}` stands for itself: {verdict}");
        findings.add(&LITERAL_STAR, place, message, instead);
    }
}

/// Attributes whose values know a `*` at one end. In namespaces and trust domains every star counts.
fn has_string_wildcards(attribute: Attribute<'_>) -> bool {
    !matches!(
        attribute,
        Attribute::DestinationIp
            | Attribute::IpBlock
            | Attribute::Namespace
            | Attribute::Port
            | Attribute::RemoteIpBlock
            | Attribute::TrustDomain
    )
}

fn has_literal_star(attribute: Attribute<'_>, value: &str) -> bool {
    if attribute == Attribute::ServiceAccount {
        return value.contains('*');
    }
    let rest = match value.strip_prefix('*') {
        Some(rest) => rest,
        None => value.strip_suffix('*').unwrap_or(value),
    };
    rest.contains('*')
}

fn is_regex(value: &str) -> bool {
    value.contains(".*")
        || value.contains(".+")
        || value.contains("\\.")
        || value.contains("\\d")
        || value.contains("\\w")
        || value.contains("[^")
        || value.contains("[a-z")
        || value.contains("[0-9")
        || value.contains("(?")
        || value.starts_with('^')
        || (value.starts_with('/') && value.ends_with('$'))
        || (value.contains('|') && value.contains('('))
}
