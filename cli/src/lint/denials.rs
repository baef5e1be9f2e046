//! DENY rules that deny less than they seem to.

use istio::Action;

use super::codes::policy;
use super::context::{Context, Policy};
use super::fields::{Field, Part};
use super::finding::{Code, Findings, Severity};

pub(super) const CODES: &[&Code] = &[&EVADED, &NEGATIONS_ANDED];

static EVADED: Code = Code {
    name: "deny-token-left-out",
    severity: Severity::Warning,
    what: "a DENY rule about a token, where requests without one may pass",
    why: "A request without a token has no claims and no principal, so that the rule does not match it. Who \
          would be denied leaves the token out, and gets what the anonymous get.",
    instead: "demand a token in every ALLOW rule, or deny the anonymous too, by `notRequestPrincipals: \
          [\"*\"]` in a rule of its own",
    wrong: policy!("DENY", r#"  - when: [{key: "request.auth.claims[role]", values: [guest]}]"#),
    right: policy!("ALLOW", r#"  - when: [{key: "request.auth.claims[role]", values: [member]}]"#),
};

static NEGATIONS_ANDED: Code = Code {
    name: "deny-negations-anded",
    severity: Severity::Warning,
    what: "a DENY rule that wants several `not…` fields at once",
    why: "The fields of a rule must all match. With two `not…` fields a request is denied when it is in \
          neither of the lists: to be in one of them is enough to pass, although both are likely demanded.",
    instead: "write one rule for each `not…` field",
    wrong: policy!(
        "DENY",
        r#"  - from: [{source: {notNamespaces: [shop], notRequestPrincipals: ["https://idp.example/*"]}}]"#
    ),
    right: policy!(
        "DENY",
        r#"  - from: [{source: {notNamespaces: [shop]}}]
  - from: [{source: {notRequestPrincipals: ["https://idp.example/*"]}}]"#
    ),
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for policy in context.policies.iter().filter(|policy| policy.action() == Action::Deny) {
        let rules = policy.document.rules.as_ref().map_or(0, Vec::len);
        for rule in 0..rules {
            evaded(context, policy, rule, findings);
            negations(policy, rule, findings);
        }
    }
}

fn evaded(context: &Context<'_>, policy: &Policy<'_>, rule: usize, findings: &mut Findings) {
    let any = |field: &Field<'_>| field.values.iter().any(|value| value == "*");
    let is_about_token = |field: &&Field<'_>| !field.negative && field.attribute.is_of_token() && !any(field);
    let Some(field) = policy.rule(rule).find(is_about_token) else { return };
    // Another rule, or another policy, that denies the anonymous settles it.
    let denies_anonymous = |other: &Policy<'_>| {
        let means_nobody = |field: &Field<'_>| field.negative && field.attribute.is_of_token() && any(field);
        other.action() == Action::Deny && other.fields.iter().any(means_nobody)
    };
    let mut near = context.policies.iter().filter(|other| other.is_enforced() && other.scope.overlaps(&policy.scope));
    if near.clone().any(denies_anonymous) {
        return;
    }
    let mut allows = near.clone().filter(|other| other.action() == Action::Allow).peekable();
    let passes = match allows.peek() {
        None => "no ALLOW policy demands one here".to_owned(),
        Some(_) => match near.find_map(|other| Some((other, allows_anonymous(other)?))) {
            Some((other, index)) => format!("spec.rules[{index}] of {} allows it", name(other)),
            None => return,
        },
    };
    let message = format!("a request without a token is not denied by `{}`, and {passes}", title(policy, field));
    let instead = "demand a token in every ALLOW rule, or add a rule with `notRequestPrincipals: [\"*\"]`";
    findings.add(&EVADED, policy.at(field.path.clone()), message, instead);
}

fn name(policy: &Policy<'_>) -> String {
    format!("{}/{}", policy.meta().namespace, policy.meta().name)
}

/// The field as it is written; of a condition its key as well.
fn title(policy: &Policy<'_>, field: &Field<'_>) -> String {
    let when = policy.document.rules.as_deref().and_then(|rules| rules.get(field.rule)?.when.as_deref());
    let index = field.path.rsplit_once("].").and_then(|(front, _)| front.rsplit_once("when[")?.1.parse::<usize>().ok());
    match index.and_then(|index| when?.get(index)) {
        Some(condition) => format!("{} of {}", field.name(), condition.key),
        None => field.name().to_owned(),
    }
}

/// The first ALLOW rule that does not demand a token.
fn allows_anonymous(policy: &Policy<'_>) -> Option<usize> {
    let rules = policy.document.rules.as_deref().filter(|_| policy.action() == Action::Allow)?;
    rules.iter().enumerate().position(|(index, rule)| {
        let demands = |part: Part| {
            policy.rule(index).any(|field| field.part == part && !field.negative && field.attribute.is_of_token())
        };
        let sources = rule.from.as_ref().map_or(0, Vec::len);
        let by_source = sources > 0 && (0..sources).all(|at| demands(Part::Source(at)));
        !by_source && !demands(Part::Condition)
    })
}

fn negations(policy: &Policy<'_>, rule: usize, findings: &mut Findings) {
    // `from` with `notX`, `to` with `notPaths` is the way to except public paths: callers are compared with callers.
    let alike = |one: &Field<'_>, other: &Field<'_>| match (one.part, other.part) {
        (Part::Source(_), Part::Condition) => other.attribute.is_of_caller(),
        (own, theirs) => own == theirs,
    };
    let negative: Vec<&Field<'_>> = policy.rule(rule).filter(|field| field.negative).collect();
    for (at, one) in negative.iter().enumerate() {
        let Some(other) = negative.iter().skip(at + 1).find(|other| alike(one, other)) else { continue };
        let (one_title, other_title) = (title(policy, one), title(policy, other));
        let message =
            format!("it denies only what is in neither of `{one_title}` and `{other_title}`: one is enough to pass");
        findings.add(&NEGATIONS_ANDED, policy.at(one.path.clone()), message, "write one rule for each `not…` field");
        return;
    }
}
