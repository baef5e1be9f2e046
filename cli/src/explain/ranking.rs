//! How far a rule is from matching.

use authz::trace::{BranchTrace, Found, HopTrace, LeafTrace, PolicyTrace, RuleTrace};

/// Where in a rule a leaf stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// `from[I].source`.
    From(usize),
    /// `to[I].operation`.
    To(usize),
    /// `when`.
    When,
}

/// A rule of some policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) policy: &'a PolicyTrace,
    pub(crate) rule: &'a RuleTrace,
}

impl<'a> Candidate<'a> {
    /// Istio's id.
    pub(crate) fn id(&self) -> String {
        rule_id(self.policy, self.rule)
    }

    /// The leaves that keep the rule from matching, on its shortest way: those of the source and of the operation that
    /// lack least, and those of `when`.
    pub(crate) fn failing(&self) -> Vec<(Part, &'a LeafTrace)> {
        let rule = self.rule;
        let mut failing = Vec::new();
        if let Some(at) = nearest_branch(&rule.from) {
            failing.extend(failing_leaves(&rule.from, at).map(|leaf| (Part::From(at), leaf)));
        }
        if let Some(at) = nearest_branch(&rule.to) {
            failing.extend(failing_leaves(&rule.to, at).map(|leaf| (Part::To(at), leaf)));
        }
        failing.extend(rule.when.iter().filter(|leaf| !leaf.matched).map(|leaf| (Part::When, leaf)));
        failing
    }

    /// What a person would have to change: rules that can never match here come last, then those that lack a caller
    /// behind those that lack as much of something else.
    fn distance(&self) -> (bool, usize, usize) {
        let failing = self.failing();
        let missing = failing.iter().filter(|(_, leaf)| leaf.found == Found::Missing).count();
        (!self.rule.unavailable.is_empty(), failing.len(), missing)
    }
}

/// Istio's id of a rule.
pub(crate) fn rule_id(policy: &PolicyTrace, rule: &RuleTrace) -> String {
    format!("ns[{}]-policy[{}]-rule[{}]", policy.namespace, policy.name, rule.index)
}

/// The branch of `from` or `to` that lacks least; the first of several.
pub(crate) fn nearest_branch(branches: &[BranchTrace]) -> Option<usize> {
    (0..branches.len()).min_by_key(|&at| failing_leaves(branches, at).count())
}

fn failing_leaves(branches: &[BranchTrace], at: usize) -> impl Iterator<Item = &LeafTrace> {
    branches.get(at).into_iter().flat_map(|branch| &branch.leaves).filter(|leaf| !leaf.matched)
}

/// The enforced ALLOW rules of a hop, nearest first.
pub(crate) fn allow_rules(hop: &HopTrace) -> Vec<Candidate<'_>> {
    let policies = hop.policies.iter().filter(|p| p.action == "ALLOW" && p.applies && !p.dry_run);
    let mut rules: Vec<_> =
        policies.flat_map(|policy| policy.rules.iter().map(move |rule| Candidate { policy, rule })).collect();
    rules.sort_by_key(Candidate::distance);
    rules
}

/// The rule with Istio's id `id`.
pub(crate) fn by_id<'a>(hop: &'a HopTrace, id: &str) -> Option<Candidate<'a>> {
    let rules = hop.policies.iter().flat_map(|policy| policy.rules.iter().map(move |rule| Candidate { policy, rule }));
    rules.into_iter().find(|candidate| candidate.id() == id)
}
