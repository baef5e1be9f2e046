//! One rule that a stray `-` made two of.

use istio::{Action, Rule};

use super::codes::policy;
use super::context::{Context, Policy};
use super::finding::{Code, Findings, Severity};

pub(super) const CODES: &[&Code] = &[&RULE_SPLIT];

static RULE_SPLIT: Code = Code {
    name: "rule-split",
    severity: Severity::Warning,
    what: "a rule with `to` and no `from` beside one with `from` and no `to`",
    why: "A `-` in front of `to:` begins another rule, and rules are alternatives. In an ALLOW the one then \
          lets its callers do everything, and the other lets everybody do what its `to` says. In a DENY the one \
          denies its callers everything, and the other denies everybody. Where the other has a `when` about its \
          callers, the one with `from` alone is the open one.",
    instead: "take the `-` in front of `to:` away; if two rules are meant, put them into two policies",
    wrong: policy!(
        "ALLOW",
        r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]
  - to: [{operation: {methods: [GET]}}]"#
    ),
    right: policy!(
        "ALLOW",
        r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]
    to: [{operation: {methods: [GET]}}]"#
    ),
};

/// What a `to` without `from` is, beside a rule with `from` and no `to`.
enum Half {
    /// It asks nothing about the caller: it is for everybody.
    OfEverybody,
    /// Its `when` is about the caller, so the rule at this index, with `from` alone, is the open one.
    OfSome { callers: usize },
}

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    let instead = "did a stray `-` split one rule in two? then take the `-` in front of `to:` away";
    for policy in &context.policies {
        for index in 0..policy.document.rules.as_ref().map_or(0, Vec::len) {
            let is_deny = policy.action() == Action::Deny;
            let (at, message) = match half(policy, index) {
                None => continue,
                Some(Half::OfEverybody) => {
                    let does = if is_deny { "denies" } else { "lets" };
                    let may = if is_deny { "" } else { " do" };
                    let effect = format!("it {does} everybody{may} what its `to` says");
                    (index, format!("the rule has no `from`, and the one beside it has no `to`: {effect}"))
                }
                Some(Half::OfSome { callers }) => {
                    let effect =
                        if is_deny { "these callers are denied everything" } else { "these callers may do everything" };
                    (callers, format!("the rule has `from` alone, and the one beside it has no `from`: {effect}"))
                }
            };
            findings.add(&RULE_SPLIT, policy.at(format!("spec.rules[{at}]")), message, instead);
        }
    }
}

/// Whether a rule of an ALLOW or a DENY looks like the half of one that a `-` too many cut off, and is for everybody.
pub(super) fn is_split(policy: &Policy<'_>, index: usize) -> bool {
    matches!(half(policy, index), Some(Half::OfEverybody))
}

/// The halves of a rule stand side by side. A condition about the caller is as good as a `from`; the other half has none of
/// what the rule was to say, if it has `from` alone.
fn half(policy: &Policy<'_>, index: usize) -> Option<Half> {
    if !matches!(policy.action(), Action::Allow | Action::Deny) {
        return None;
    }
    let rules = policy.document.rules.as_deref().unwrap_or_default();
    rules.get(index).filter(|rule| rule.to.is_some() && rule.from.is_none())?;
    let beside = |wanted: fn(&Rule) -> bool| {
        let mut beside = [index.checked_sub(1), index.checked_add(1)].into_iter().flatten();
        beside.find(|at| rules.get(*at).is_some_and(wanted))
    };
    if policy.rule(index).any(|field| field.attribute.is_of_caller()) {
        let callers = beside(|rule| rule.from.is_some() && rule.to.is_none() && rule.when.is_none())?;
        return Some(Half::OfSome { callers });
    }
    beside(|rule| rule.from.is_some() && rule.to.is_none()).map(|_| Half::OfEverybody)
}
