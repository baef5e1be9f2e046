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
          denies its callers everything, and the other denies everybody.",
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

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for policy in &context.policies {
        for index in 0..policy.document.rules.as_ref().map_or(0, Vec::len) {
            if !is_split(policy, index) {
                continue;
            }
            let effect = if policy.action() == Action::Deny {
                "it denies everybody what its `to` says"
            } else {
                "it lets everybody do what its `to` says"
            };
            let message = format!("the rule has no `from`, and the one beside it has no `to`: {effect}");
            let instead = "did a stray `-` split one rule in two? then take the `-` in front of `to:` away";
            findings.add(&RULE_SPLIT, policy.at(format!("spec.rules[{index}]")), message, instead);
        }
    }
}

/// Whether a rule of an ALLOW or a DENY looks like the half of one that a `-` too many cut off. The halves stand side
/// by side. A condition about the caller is as good as a `from`.
pub(super) fn is_split(policy: &Policy<'_>, index: usize) -> bool {
    if !matches!(policy.action(), Action::Allow | Action::Deny) {
        return false;
    }
    let rules = policy.document.rules.as_deref().unwrap_or_default();
    let has_callers_only = |rule: &Rule| rule.from.is_some() && rule.to.is_none();
    let is_half = rules.get(index).is_some_and(|rule| rule.to.is_some() && rule.from.is_none())
        && !policy.rule(index).any(|field| field.attribute.is_of_caller());
    let beside = [index.checked_sub(1), index.checked_add(1)];
    is_half && beside.into_iter().flatten().filter_map(|at| rules.get(at)).any(has_callers_only)
}
