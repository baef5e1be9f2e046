//! Rules and values that another one makes pointless.

use std::collections::BTreeSet;

use istio::{Action, Condition, Operation, Rule, Source};

use super::codes::policy;
use super::context::{Context, Policy};
use super::fields::{Attribute, Field, ip_text};
use super::finding::{Code, Findings, Severity};
use super::words;

pub(super) const CODES: &[&Code] =
    &[&RULE_DUPLICATE, &RULE_IMPLIED, &ALLOW_UNREACHABLE, &VALUE_DUPLICATE, &VALUE_COVERED, &CONTRADICTION];

static RULE_DUPLICATE: Code = Code {
    name: "rule-duplicate",
    severity: Severity::Warning,
    what: "a rule that stands elsewhere as well",
    why: "The same rule, of the same action and for the same workloads or for more, is without effect; whoever takes one of \
          the two away believes it is gone.",
    instead: "leave one of the two",
    wrong: policy!("DENY", "  - to: [{operation: {methods: [DELETE]}}]\n  - to: [{operation: {methods: [DELETE]}}]"),
    right: policy!("DENY", "  - to: [{operation: {methods: [DELETE]}}]"),
};

static RULE_IMPLIED: Code = Code {
    name: "rule-implied",
    severity: Severity::Warning,
    what: "a rule that a wider one implies",
    why: "Whatever it matches a wider rule of the same action matches, too. If it was written to narrow that one, it does \
          not: rules add up.",
    instead: "leave the wider rule alone, or narrow that one",
    wrong: policy!(
        "ALLOW",
        r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]
  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]
    to: [{operation: {methods: [GET]}}]"#
    ),
    right: policy!(
        "ALLOW",
        r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]
    to: [{operation: {methods: [GET]}}]"#
    ),
};

static ALLOW_UNREACHABLE: Code = Code {
    name: "allow-unreachable",
    severity: Severity::Error,
    what: "an ALLOW rule that a DENY rule takes everything of",
    why: "DENY has the last word: what this rule allows is denied before it is asked.",
    instead: "narrow the DENY rule, or take the ALLOW rule away",
    wrong: concat!(
        policy!("ALLOW", r#"  - to: [{operation: {methods: [DELETE], paths: ["/carts/*"]}}]"#),
        "---\n",
        "kind: AuthorizationPolicy\nmetadata: {name: closed, namespace: shop}\nspec: {action: DENY, rules: [{to: [{operation: \
         {methods: [DELETE]}}]}]}\n"
    ),
    right: concat!(
        policy!("ALLOW", r#"  - to: [{operation: {methods: [DELETE], paths: ["/carts/*"]}}]"#),
        "---\n",
        "kind: AuthorizationPolicy\nmetadata: {name: closed, namespace: shop}\nspec: {action: DENY, rules: [{to: [{operation: \
         {methods: [DELETE], notPaths: [\"/carts/*\"]}}]}]}\n"
    ),
};

static VALUE_DUPLICATE: Code = Code {
    name: "value-duplicate",
    severity: Severity::Info,
    what: "a value that stands twice in one list",
    why: "It is without effect; perhaps another one was meant.",
    instead: "leave one of the two",
    wrong: policy!("DENY", "  - to: [{operation: {methods: [DELETE, DELETE]}}]"),
    right: policy!("DENY", "  - to: [{operation: {methods: [DELETE, PUT]}}]"),
};

static VALUE_COVERED: Code = Code {
    name: "value-covered",
    severity: Severity::Info,
    what: "a value that a wildcard in the same list takes as well",
    why: "It is without effect. If it was written to narrow the wildcard, it does not: values add up.",
    instead: "leave one of the two",
    wrong: policy!("DENY", r#"  - to: [{operation: {paths: ["/admin*", "/admin/users"]}}]"#),
    right: policy!("DENY", r#"  - to: [{operation: {paths: ["/admin*"]}}]"#),
};

static CONTRADICTION: Code = Code {
    name: "value-contradiction",
    severity: Severity::Error,
    what: "values of which a `not…` field excepts every one",
    why: "A field and its `not…` twin must both match: the rule never does.",
    instead: "leave the value in one of the two",
    wrong: policy!("DENY", "  - to: [{operation: {methods: [DELETE], notMethods: [DELETE]}}]"),
    right: policy!("DENY", "  - to: [{operation: {methods: [DELETE], notPaths: [\"/carts\", \"/carts/*\"]}}]"),
};

/// Beyond this many rules each is no longer compared with each.
const MOST_RULES: usize = 2_000;

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for policy in &context.policies {
        for field in &policy.fields {
            values(policy, field, findings);
        }
        contradictions(policy, findings);
    }
    rules(context, findings);
}

fn values(policy: &Policy<'_>, field: &Field<'_>, findings: &mut Findings) {
    const MOST_VALUES: usize = 200;
    for (index, value) in field.values.iter().enumerate().take(MOST_VALUES) {
        let place = policy.at(format!("{}[{index}]", field.path));
        let others = || field.values.iter().take(MOST_VALUES).enumerate().filter(|(other, _)| *other != index);
        if others().any(|(other, text)| other < index && text == value) {
            findings.add(&VALUE_DUPLICATE, place, format!("`{value}` stands here twice"), "leave one of the two");
        } else if let Some((_, wide)) =
            others().find(|(_, wide)| *wide != value && covers(field.attribute, wide, value))
        {
            let message = format!("`{wide}` takes `{value}` as well");
            findings.add(&VALUE_COVERED, place, message, "leave one of the two");
        }
    }
}

/// Whether what `narrow` takes `wide` takes, too; exact enough to say so, never when in doubt.
fn covers(attribute: Attribute<'_>, wide: &str, narrow: &str) -> bool {
    if wide == narrow {
        return true;
    }
    let plain = match attribute {
        Attribute::Path => !words::is_template(wide) && !words::is_template(narrow),
        // Split at a slash, regular expressions, numbers and blocks.
        Attribute::RequestPrincipal | Attribute::Namespace | Attribute::TrustDomain | Attribute::ServiceAccount => {
            false
        }
        Attribute::Port | Attribute::IpBlock | Attribute::RemoteIpBlock | Attribute::DestinationIp => false,
        // `shop.example*` takes ports, and `shop.example` is written beside it for the reader.
        _ => true,
    };
    if !plain {
        return false;
    }
    match (wide.strip_suffix('*'), wide.strip_prefix('*')) {
        (Some(""), _) => true,
        (Some(prefix), None) => {
            narrow.strip_suffix('*').unwrap_or(narrow).starts_with(prefix) && !narrow.starts_with('*')
        }
        (None, Some(suffix)) => !narrow.ends_with('*') && narrow.strip_prefix('*').unwrap_or(narrow).ends_with(suffix),
        _ => false,
    }
}

fn contradictions(policy: &Policy<'_>, findings: &mut Findings) {
    for field in policy.fields.iter().filter(|field| !field.negative) {
        // The twin stands in the same source, operation or condition.
        let parent = |path: &str| path.rsplit_once('.').map(|(parent, _)| parent.to_owned());
        let twin = policy.rule(field.rule).find(|other| {
            other.negative && other.attribute == field.attribute && parent(&other.path) == parent(&field.path)
        });
        // A claim with several words may match the one and not the other.
        let is_single = !field.attribute.is_of_token();
        let Some(twin) = twin.filter(|_| is_single) else { continue };
        let excepted =
            |value: &str| twin.values.iter().any(|except| except == value || covers(field.attribute, except, value));
        if field.values.iter().all(|value| excepted(value)) {
            let message = format!("`{}` excepts every one of these values: the rule never matches", twin.name());
            findings.add(&CONTRADICTION, policy.at(field.path.clone()), message, "leave each value in one of the two");
        }
    }
}

fn rules(context: &Context<'_>, findings: &mut Findings) {
    let all: Vec<(usize, usize, &Rule)> = context
        .policies
        .iter()
        .enumerate()
        .filter(|(_, policy)| policy.is_enforced() && policy.document.target_refs.is_empty())
        .flat_map(|(p, policy)| policy.document.rules.iter().flatten().enumerate().map(move |(r, rule)| (p, r, rule)))
        .take(MOST_RULES)
        .collect();
    // An empty rule implies all others: once is enough.
    let mut said: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (p, r, rule) in &all {
        let Some(policy) = context.policies.get(*p) else { continue };
        for (q, s, other) in &all {
            let Some(wider) = context.policies.get(*q) else { continue };
            if (p, r) == (q, s) || policy.document.provider != wider.document.provider {
                continue;
            }
            if !reaches_all(context, wider, policy) || !implies(rule, other) {
                continue;
            }
            let place = policy.at(format!("spec.rules[{r}]"));
            let where_ = format!("spec.rules[{s}] of {}/{}", wider.meta().namespace, wider.meta().name);
            let mutual = implies(other, rule) && reaches_all(context, policy, wider);
            match (policy.action(), wider.action()) {
                (Action::Allow, Action::Deny) => {
                    let message = format!("{where_} denies everything that this rule allows");
                    findings.add(&ALLOW_UNREACHABLE, place, message, "narrow the DENY rule, or take this one away");
                }
                (own, theirs) if own != theirs => continue,
                _ if mutual => {
                    // Of two alike the later one is told about.
                    if (p, r) > (q, s) {
                        findings.add(
                            &RULE_DUPLICATE,
                            place,
                            format!("{where_} is the same rule"),
                            "leave one of the two",
                        );
                    } else {
                        continue;
                    }
                }
                _ if **other == Rule::default() => {
                    if !said.insert((*q, *s)) {
                        break;
                    }
                    let message = format!("{where_} is empty and matches everything already, what others take as well");
                    findings.add(&RULE_IMPLIED, place, message, "take the empty rule away");
                }
                _ => {
                    let message = format!("{where_} matches everything that this rule matches");
                    findings.add(&RULE_IMPLIED, place, message, "leave the wider rule alone, or narrow that one");
                }
            }
            break;
        }
    }
}

/// Whether `wider` selects every workload that `policy` does.
fn reaches_all(context: &Context<'_>, wider: &Policy<'_>, policy: &Policy<'_>) -> bool {
    let near = wider.meta().namespace == policy.meta().namespace || context.is_root(wider.meta());
    near && wider.document.selector.as_ref().is_none_or(|wide| {
        wide.match_labels.iter().all(|(name, value)| {
            policy.document.selector.as_ref().is_some_and(|own| own.match_labels.get(name) == Some(value))
        })
    })
}

/// Whether every request that matches `rule` matches `other`; exact enough to say so, never when in doubt.
fn implies(rule: &Rule, other: &Rule) -> bool {
    any_of(rule.from.as_deref(), other.from.as_deref(), source_within)
        && any_of(rule.to.as_deref(), other.to.as_deref(), operation_within)
        && other.when.iter().flatten().all(|wide| rule.when.iter().flatten().any(|own| condition_within(own, wide)))
}

fn any_of<T>(own: Option<&[T]>, wide: Option<&[T]>, within: impl Fn(&T, &T) -> bool) -> bool {
    match (own, wide) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(own), Some(wide)) => own.iter().all(|own| wide.iter().any(|wide| within(own, wide))),
    }
}

fn source_within(own: &Source, wide: &Source) -> bool {
    let texts = |attribute, of: fn(&Source) -> (&[String], &[String])| within(attribute, of(own), of(wide));
    let blocks = |attribute, of: fn(&Source) -> (&[istio::IpBlock], &[istio::IpBlock])| {
        let written = |blocks: &[istio::IpBlock]| blocks.iter().map(ip_text).collect::<Vec<_>>();
        let ((values, not_values), (wide_values, wide_not)) = (of(own), of(wide));
        let (values, not_values) = (written(values), written(not_values));
        within(attribute, (&values, &not_values), (&written(wide_values), &written(wide_not)))
    };
    texts(Attribute::Principal, |s| (&s.principals, &s.not_principals))
        && texts(Attribute::RequestPrincipal, |s| (&s.request_principals, &s.not_request_principals))
        && texts(Attribute::Namespace, |s| (&s.namespaces, &s.not_namespaces))
        && texts(Attribute::ServiceAccount, |s| (&s.service_accounts, &s.not_service_accounts))
        && texts(Attribute::TrustDomain, |s| (&s.trust_domains, &s.not_trust_domains))
        && blocks(Attribute::IpBlock, |s| (&s.ip_blocks, &s.not_ip_blocks))
        && blocks(Attribute::RemoteIpBlock, |s| (&s.remote_ip_blocks, &s.not_remote_ip_blocks))
}

fn operation_within(own: &Operation, wide: &Operation) -> bool {
    let texts = |attribute, of: fn(&Operation) -> (&[String], &[String])| within(attribute, of(own), of(wide));
    let ports = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>();
    texts(Attribute::Host, |o| (&o.hosts, &o.not_hosts))
        && texts(Attribute::Method, |o| (&o.methods, &o.not_methods))
        && texts(Attribute::Path, |o| (&o.paths, &o.not_paths))
        && within(
            Attribute::Port,
            (&ports(&own.ports), &ports(&own.not_ports)),
            (&ports(&wide.ports), &ports(&wide.not_ports)),
        )
}

fn condition_within(own: &Condition, wide: &Condition) -> bool {
    // Wildcards mean other things for claims of several words: values are compared as they are.
    own.key == wide.key && within(Attribute::Port, (&own.values, &own.not_values), (&wide.values, &wide.not_values))
}

/// Whether a list with its `not…` twin takes no more than another pair.
fn within(attribute: Attribute<'_>, own: (&[String], &[String]), wide: (&[String], &[String])) -> bool {
    let ((values, not_values), (wide_values, wide_not)) = (own, wide);
    let positive = wide_values.is_empty()
        || (!values.is_empty()
            && values.iter().all(|value| wide_values.iter().any(|wide| covers(attribute, wide, value))));
    // What the other one excepts is excepted here, too.
    positive && wide_not.iter().all(|except| not_values.iter().any(|own| covers(attribute, own, except)))
}
