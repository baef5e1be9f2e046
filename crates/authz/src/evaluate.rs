//! One workload's `AuthorizationPolicy`s: DENY before ALLOW, and the id of the rule that decided.
//!
//! There is one walk over a rule (`rule`), for the verdict and for the trace alike. They differ in the probe that the
//! walk tells what it sees, and in the rules that are walked: those that the index finds, or all.

mod probe;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use self::probe::{Recording, Silent};
use self::rule::View;
use crate::claims::{Claims, Json};
use crate::compiled::ArchivedAuthorizationPolicy;
use crate::decision::{DryRunAllow, Shadow};
use crate::grants::Area;
use crate::index::{Action, Query, Sought, Table};
use crate::policies::Applicable;
use crate::request::{Unknown, path_only};
use crate::trace::PolicyTrace;

/// What the policies of one workload look at.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a> {
    pub(crate) method: &'a str,
    pub(crate) scheme: &'a str,
    pub(crate) host: &'a str,
    /// With query.
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(String, String)],
    /// Whether repeated headers are comma-joined in `headers`.
    pub(crate) joined: bool,
    /// Peer identity without `spiffe://`; `None` is plaintext.
    pub(crate) principal: Option<&'a str>,
    // What follows up to the claims may be unavailable, and is `None` then.
    pub(crate) source_ip: Option<IpAddr>,
    pub(crate) remote_ip: Option<IpAddr>,
    pub(crate) destination_ip: Option<IpAddr>,
    pub(crate) port: Option<u16>,
    pub(crate) sni: Option<&'a str>,
    pub(crate) dynamic_metadata: Option<&'a [(String, Json)]>,
    /// What else is unavailable, whatever the fields say.
    pub(crate) unknown: Unknown,
    /// `None` is a caller without a token or key.
    pub(crate) claims: Option<&'a Claims>,
    /// Whether nobody can say who calls, whatever the claims are: what a DENY rule asks about them counts as met.
    pub(crate) caller_unknown: bool,
    /// All requests that are asked about at once, where it is more than one.
    pub(crate) area: Option<&'a Area<'a>>,
}

/// What the policies say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// This ALLOW rule matched.
    AllowedBy(String),
    /// No ALLOW policy applies.
    AllowedNoPolicy,
    /// This DENY rule matched.
    DeniedBy(String),
    /// ALLOW policies apply and none matched.
    DeniedNoMatch,
}

/// What one workload's policies say.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) shadow: Shadow,
}

/// A CUSTOM rule that matches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CustomMatch {
    /// Index of the provider that it asks.
    pub(crate) provider: u32,
    /// Whether the policy is not enforced.
    pub(crate) dry_run: bool,
    /// Istio's id of the rule.
    pub(crate) rule: String,
}

/// "(2) any matching DENY → deny 403; (3) no ALLOW policy selected for the workload → allow; (4) any ALLOW
/// match → allow; (5) deny 403." AUDIT and dry-run policies are reported beside it.
pub(crate) fn evaluate(applicable: Applicable<'_>, attributes: &Attributes<'_>) -> Outcome {
    let asked = Asked::new(applicable, attributes);
    let verdict = if let Some(rule) = asked.first_match(Action::Deny, false) {
        Verdict::DeniedBy(rule)
    } else if let Some(rule) = asked.first_match(Action::Allow, false) {
        Verdict::AllowedBy(rule)
    } else if asked.any_applies(Action::Allow, false) {
        Verdict::DeniedNoMatch
    } else {
        // Also where all ALLOW policies are dry-run: "no enforce ALLOW set ⇒ step 3 allows".
        Verdict::AllowedNoPolicy
    };
    let dry_run_allow = asked.first_match(Action::Allow, true).map(DryRunAllow::AllowedBy);
    let denied = || asked.any_applies(Action::Allow, true).then_some(DryRunAllow::Denied);
    let shadow = Shadow {
        audit: asked.first_match(Action::Audit, false),
        dry_run_deny: asked.first_match(Action::Deny, true),
        dry_run_allow: dry_run_allow.or_else(denied),
    };
    Outcome { verdict, shadow }
}

/// The CUSTOM rules that match, the first of each policy. They are asked before authentication, so `attributes` has no
/// claims and the headers that the client sent.
pub(crate) fn custom(applicable: Applicable<'_>, attributes: &Attributes<'_>) -> Vec<CustomMatch> {
    let asked = Asked::new(applicable, attributes);
    let mut found = Vec::new();
    for dry_run in [false, true] {
        for table in asked.tables(Action::Custom, dry_run) {
            let mut last: Option<*const ArchivedAuthorizationPolicy> = None;
            for candidate in table.candidates(applicable, &asked.query) {
                let policy = std::ptr::from_ref(candidate.policy);
                let view = View { attributes, action: Action::Custom };
                if last == Some(policy) || !view.rule(candidate.rule, &mut Silent) {
                    continue;
                }
                last = Some(policy);
                found.push(CustomMatch {
                    // A policy without a provider is not made by the compiler; no provider has this number.
                    provider: candidate.policy.provider.as_ref().map_or(u32::MAX, |provider| provider.to_native()),
                    dry_run,
                    rule: rule_id(table.namespace, candidate.policy, candidate.index),
                });
            }
        }
    }
    found
}

/// The providers of all CUSTOM policies that apply, dry-run or not, whether they match or not. With more than one, Istio
/// asks none of them and denies what any enforced policy matches.
pub(crate) fn custom_providers(applicable: Applicable<'_>) -> BTreeSet<u32> {
    let tables = applicable
        .namespaces()
        .flat_map(|namespace| [false, true].map(|dry_run| Table::of(namespace, Action::Custom, dry_run)));
    let policies = tables.flat_map(|table| table.applying(applicable));
    policies.filter_map(|policy| policy.provider.as_ref().map(|provider| provider.to_native())).collect()
}

/// Every policy of the root namespace and of the workload's own, leaf by leaf. CUSTOM policies see the attributes
/// `before` authentication, all others those `after` it.
pub(crate) fn trace(applicable: Applicable<'_>, before: &Attributes<'_>, after: &Attributes<'_>) -> Vec<PolicyTrace> {
    let veiled = probe::veiled_headers(applicable.set());
    let mut traces = Vec::new();
    for action in Action::ALL {
        let attributes = if *action == Action::Custom { before } else { after };
        let view = View { attributes, action: *action };
        for namespace in applicable.namespaces() {
            for policy in action.policies(namespace) {
                let why_not = applicable.why_not(namespace.name.as_str(), &policy.selector, &policy.target_refs);
                let rules = policy.rules.iter().enumerate().filter(|_| why_not.is_none()).map(|(index, rule)| {
                    let mut probe = Recording::new(&veiled);
                    let matched = view.rule(rule, &mut probe);
                    probe.finish(index, matched)
                });
                let rules = rules.collect();
                let provider = policy.provider.as_ref().and_then(|at| usize::try_from(at.to_native()).ok());
                let provider = provider.and_then(|at| applicable.set().providers.get(at));
                traces.push(PolicyTrace {
                    namespace: namespace.name.as_str().to_owned(),
                    name: policy.name.as_str().to_owned(),
                    action: action.as_str().to_owned(),
                    provider: provider.map(|provider| provider.name.as_str().to_owned()),
                    dry_run: policy.dry_run,
                    applies: why_not.is_none(),
                    why_not: why_not.map_or_else(String::new, |why_not| why_not.to_string()),
                    rules,
                });
            }
        }
    }
    traces
}

/// One question to all policies of a workload.
struct Asked<'a> {
    applicable: Applicable<'a>,
    attributes: &'a Attributes<'a>,
    query: Query<'a>,
}

impl<'a> Asked<'a> {
    fn new(applicable: Applicable<'a>, attributes: &'a Attributes<'a>) -> Self {
        let Attributes { host, path, principal, unknown, area, .. } = *attributes;
        let host = if unknown.host { Sought::Anything } else { Sought::Text(host) };
        let principal = match principal {
            _ if unknown.principal => Sought::Anything,
            Some(principal) => Sought::Text(principal),
            None => Sought::Nothing,
        };
        Self { applicable, attributes, query: Query::new(host, path_only(path), principal, area) }
    }

    fn tables(&self, action: Action, dry_run: bool) -> impl Iterator<Item = Table<'a>> {
        self.applicable.namespaces().map(move |namespace| Table::of(namespace, action, dry_run))
    }

    /// The id of the first rule that matches. A policy without rules has none: an ALLOW policy without rules denies
    /// everything.
    fn first_match(&self, action: Action, dry_run: bool) -> Option<String> {
        let view = View { attributes: self.attributes, action };
        self.tables(action, dry_run).find_map(|table| {
            let mut candidates = table.candidates(self.applicable, &self.query);
            let found = candidates.find(|candidate| view.rule(candidate.rule, &mut Silent))?;
            Some(rule_id(table.namespace, found.policy, found.index))
        })
    }

    fn any_applies(&self, action: Action, dry_run: bool) -> bool {
        self.tables(action, dry_run).any(|table| table.any_applies(self.applicable))
    }
}

/// Istio's own id of a rule.
fn rule_id(namespace: &str, policy: &ArchivedAuthorizationPolicy, index: usize) -> String {
    format!("ns[{namespace}]-policy[{}]-rule[{index}]", policy.name)
}
