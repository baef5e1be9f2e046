//! Policies, their rules and the leaves of these, as text.

use authz::Reason;
use authz::trace::{
    BranchTrace, CredentialOutcome, Found, HopTrace, LeafTrace, PolicyTrace, ProviderOutcome, ProviderTrace, RuleTrace,
};

use super::ranking::{self, Candidate, rule_id};
use super::render::Page;
use super::unknown::unknown;
use super::{Explained, text};

/// The values of one leaf that are shown.
const MAX_VALUES: usize = 6;

/// The policies of a hop: what decided, leaf by leaf, and then the others, a line each.
pub(super) fn policies(page: &mut Page, explained: &Explained<'_>, hop: &HopTrace, nearest: usize, foreign: usize) {
    let mut detailed: Vec<Candidate<'_>> = Vec::new();
    let decided = explained.verdict.policy.as_deref().filter(|_| hop.hop == explained.verdict.hop);
    match decided.and_then(|id| ranking::by_id(hop, id)) {
        Some(deciding) => detailed.push(deciding),
        None if !hop.allowed && is_about_policies(hop) => {
            let rules = ranking::allow_rules(hop);
            let shown = if page.all { rules.len() } else { nearest };
            detailed.extend(rules.iter().take(shown));
        }
        None => {}
    }
    for candidate in &detailed {
        rule(page, explained, hop, candidate);
    }
    let page_all = page.all;
    let is_detailed = |policy: &PolicyTrace, rule: &RuleTrace| {
        detailed.iter().any(|candidate| std::ptr::eq(candidate.policy, policy) && std::ptr::eq(candidate.rule, rule))
    };
    let refused = !hop.allowed && !is_about_policies(hop) && hop.reason != Reason::DeniedByPolicy;
    // What was not asked is not worth the room, if a trace has it at all.
    let asked = |policy: &&PolicyTrace| policy.applies && (page_all || !refused || policy.action == "CUSTOM");
    for policy in hop.policies.iter().filter(asked) {
        let rest: Vec<&RuleTrace> = policy.rules.iter().filter(|rule| !is_detailed(policy, rule)).collect();
        if rest.is_empty() && !policy.rules.is_empty() {
            continue;
        }
        if page.all && !rest.is_empty() {
            rest.iter().for_each(|of_rest| rule(page, explained, hop, &Candidate { policy, rule: of_rest }));
        } else {
            summary(page, explained, hop, policy, &rest);
        }
    }
    let others: Vec<&PolicyTrace> = hop.policies.iter().filter(|policy| !policy.applies).collect();
    let shown = if page.all || others.len() <= foreign + 1 { others.len() } else { foreign };
    for policy in others.iter().take(shown) {
        let why = if policy.why_not.is_empty() { "does not apply" } else { &policy.why_not };
        let line = format!("– {} does not apply: {}{}", title(policy), text::plain(why), at(explained, policy));
        let line = page.style.dim(&line);
        page.line(4, &line);
    }
    if shown < others.len() {
        page.line(4, &format!("– {} more do not apply (--all shows them)", others.len() - shown));
    }
    if is_of_credential(hop) {
        page.line(4, "– AUDIT, DENY and ALLOW were not asked: a credential was refused before");
    } else if is_of_provider(hop.reason) {
        page.line(4, "– AUDIT, DENY and ALLOW were not asked: a provider had the last word");
    } else if hop.policies.is_empty() {
        page.line(4, "– no AuthorizationPolicy in the root namespace and in this one");
    }
}

fn is_about_policies(hop: &HopTrace) -> bool {
    matches!(hop.reason, Reason::DeniedNoMatch | Reason::NoCredential)
}

/// What a provider did, behind its name.
pub(super) fn provider_said(outcome: ProviderOutcome) -> &'static str {
    match outcome {
        ProviderOutcome::Allowed => "let the request pass",
        ProviderOutcome::Denied => "did not let the request pass",
        ProviderOutcome::Adapter => "is our own adapter: this decision is its answer",
        ProviderOutcome::FailedOpen => "could not be had, and its failOpen lets the request pass",
        ProviderOutcome::Failed => "could not be had",
        ProviderOutcome::NotAsked => "cannot be asked by this front, so what matches is denied",
        ProviderOutcome::Unusable => "is no external authorizer of the mesh configuration, so what matches is denied",
        ProviderOutcome::Several => "is one of several providers at this workload, which Istio answers with a denial",
    }
}

/// Whether a credential was refused.
pub(super) fn is_of_credential(hop: &HopTrace) -> bool {
    let refused = hop.authentication.iter().any(|rule| rule.outcome == CredentialOutcome::Refused);
    !hop.allowed && (refused || hop.reason.status() == 401 || hop.reason == Reason::TokenAudience)
}

/// Whether something read the caller's credential here, or refused it, whatever the trace says of it.
pub(super) fn reads_credentials(hop: &HopTrace) -> bool {
    !hop.authentication.is_empty() || hop.principal.is_some() || is_of_credential(hop)
}

/// Whether an extension provider denied, before credentials were looked at.
pub(super) fn is_of_provider(reason: Reason) -> bool {
    matches!(reason, Reason::DeniedByProvider | Reason::CustomProviderUnavailable)
}

/// A policy in one line, less the rules that are shown in full.
fn summary(page: &mut Page, explained: &Explained<'_>, hop: &HopTrace, policy: &PolicyTrace, rules: &[&RuleTrace]) {
    let matched = rules.iter().find(|rule| rule.matched);
    let allows = policy.action == "ALLOW";
    let (mark, what) = match matched {
        _ if policy.rules.is_empty() && allows && !policy.dry_run && hop.allowed => {
            ("–".to_owned(), "has no rules: it allows nothing itself".to_owned())
        }
        _ if policy.rules.is_empty() && allows && !policy.dry_run => {
            (page.mark(false), "has no rules: it denies everything".to_owned())
        }
        _ if policy.rules.is_empty() => ("–".to_owned(), "has no rules: it never matches".to_owned()),
        Some(rule) => (mark(page, hop, policy, true), format!("rule {} matched{}", rule.index, asked(hop, policy))),
        None => {
            let rest = match rules {
                [one] => format!("rule {} did not match", one.index),
                _ if rules.len() == policy.rules.len() => format!("none of its {} rules matched", rules.len()),
                _ => format!("{} further rules did not match", rules.len()),
            };
            ("–".to_owned(), format!("{rest}{}", lack(rules)))
        }
    };
    let at = page.style.dim(&at(explained, policy));
    page.line(4, &format!("{mark} {}: {what}{at}", title(policy)));
}

/// `: paths, methods` of the rule that lacks least.
fn lack(rules: &[&RuleTrace]) -> String {
    let [rule] = rules else { return String::new() };
    let mut fields: Vec<&str> = Vec::new();
    for branches in [&rule.from, &rule.to] {
        let nearest = ranking::nearest_branch(branches).and_then(|at| branches.get(at));
        fields.extend(nearest.into_iter().flat_map(|b| &b.leaves).filter(|l| !l.matched).map(|l| l.field.as_str()));
    }
    fields.extend(rule.when.iter().filter(|leaf| !leaf.matched).map(|leaf| leaf.field.as_str()));
    if fields.is_empty() { String::new() } else { format!(" ({})", text::plain(&fields.join(", "))) }
}

/// `DENY bookinfo/reviews`.
fn title(policy: &PolicyTrace) -> String {
    let PolicyTrace { namespace, name, action, .. } = policy;
    format!("{action} {namespace}/{name}{}", marks(policy))
}

/// `  FILE:LINE` for the end of a line.
fn at(explained: &Explained<'_>, policy: &PolicyTrace) -> String {
    let at = explained.places.find("AuthorizationPolicy", &policy.namespace, &policy.name);
    at.map_or_else(String::new, |at| format!("  {at}"))
}

fn marks(policy: &PolicyTrace) -> String {
    let provider = policy.provider.as_ref().map_or_else(String::new, |p| format!(" (provider {})", text::value(p)));
    let dry = if policy.dry_run { " (dry run: does not decide)" } else { "" };
    format!("{provider}{dry}")
}

/// A tick is what lets the request pass: a DENY rule that matches is no good news, one of AUDIT is none at all.
fn mark(page: &Page, hop: &HopTrace, policy: &PolicyTrace, matched: bool) -> String {
    match (policy.action.as_str(), matched) {
        ("AUDIT", true) => "·".to_owned(),
        (_, true) if policy.dry_run => "·".to_owned(),
        ("CUSTOM", true) => page.mark(provider(hop, policy).is_some_and(|asked| asked.outcome.passes())),
        ("ALLOW", matched) if !policy.dry_run => page.mark(matched),
        (_, true) => page.mark(false),
        (_, false) => "–".to_owned(),
    }
}

/// What the provider of a CUSTOM policy said.
fn provider<'a>(hop: &'a HopTrace, policy: &PolicyTrace) -> Option<&'a ProviderTrace> {
    hop.providers.iter().find(|asked| policy.action == "CUSTOM" && policy.provider.as_ref() == Some(&asked.name))
}

/// What came of it that a rule of a CUSTOM policy matched.
fn asked(hop: &HopTrace, policy: &PolicyTrace) -> String {
    let asked = provider(hop, policy).filter(|_| !policy.dry_run);
    asked.map_or_else(String::new, |asked| format!(", and the provider {}", provider_said(asked.outcome)))
}

/// A rule, leaf by leaf.
fn rule(page: &mut Page, explained: &Explained<'_>, hop: &HopTrace, candidate: &Candidate<'_>) {
    let Candidate { policy, rule } = *candidate;
    let at = page.style.dim(&at(explained, policy));
    let mark = mark(page, hop, policy, rule.matched);
    let said = if rule.matched { format!("matched{}", asked(hop, policy)) } else { "did not match".to_owned() };
    page.line(4, &format!("{mark} {} {}{} {said}{at}", policy.action, rule_id(policy, rule), marks(policy)));
    if !rule.unavailable.is_empty() {
        let names = rule.unavailable.join(", ");
        let effect = if policy.action == "ALLOW" {
            "so this ALLOW rule never matches here"
        } else {
            "so the condition is dropped and the rule matches more"
        };
        let first = rule.unavailable.first().map_or("", String::as_str);
        page.line(8, &format!("{names} {}, {effect}", unknown(hop, first)));
    }
    if rule.from.is_empty() && rule.to.is_empty() && rule.when.is_empty() {
        page.line(8, "it has no conditions: it matches every request");
    }
    let mut rule = rule.clone();
    // Such a condition is dropped from rules of other actions; it keeps an ALLOW rule from matching.
    if policy.action == "ALLOW" {
        let sides = rule.from.iter_mut().chain(&mut rule.to).flat_map(|branch| &mut branch.leaves);
        for leaf in sides.chain(&mut rule.when).filter(|leaf| leaf.found == Found::Unavailable) {
            leaf.matched = false;
        }
    }
    branches(page, hop, "from", "sources", &rule.from);
    branches(page, hop, "to", "operations", &rule.to);
    for (index, leaf) in rule.when.iter().enumerate() {
        let name = if index == 0 { "when" } else { "" };
        leaf_line(page, hop, name, leaf);
    }
}

fn branches(page: &mut Page, hop: &HopTrace, name: &str, what: &str, branches: &[BranchTrace]) {
    if let [one] = branches {
        for (index, leaf) in one.leaves.iter().enumerate() {
            leaf_line(page, hop, if index == 0 { name } else { "" }, leaf);
        }
        return;
    }
    if branches.is_empty() {
        return;
    }
    let said = if branches.iter().any(|branch| branch.matched) { "one of them does" } else { "none of them does" };
    page.line(6, &format!("{name:<5} one of {} {what} must match, {said}", branches.len()));
    // With many of them only the one that matched, or the nearest, is worth the room.
    let matched = branches.iter().position(|branch| branch.matched);
    let only = matched.or_else(|| ranking::nearest_branch(branches));
    for (index, branch) in branches.iter().enumerate() {
        if !page.all && branches.len() > 3 && only != Some(index) {
            continue;
        }
        for (at, leaf) in branch.leaves.iter().enumerate() {
            leaf_line(page, hop, if at == 0 { format!("[{index}]") } else { String::new() }.as_str(), leaf);
        }
    }
}

fn leaf_line(page: &mut Page, hop: &HopTrace, name: &str, leaf: &LeafTrace) {
    let mark = match (leaf.matched, &leaf.found) {
        (_, Found::Unavailable) => "?".to_owned(),
        (true, _) => page.style.green("✓"),
        (false, Found::Missing) => page.style.red("–"),
        (false, _) => page.style.red("✗"),
    };
    let line = format!("{name:<5} {mark} {}", leaf_text(hop, leaf, if page.all { usize::MAX } else { MAX_VALUES }));
    page.line(6, &line);
}

/// What a leaf wanted and what it found.
pub(super) fn leaf_text(hop: &HopTrace, leaf: &LeafTrace, most: usize) -> String {
    let LeafTrace { field, negated, wanted, found, matched } = leaf;
    let field = text::plain(field);
    let wants = if *negated { format!("none of {}", text::values(wanted, most)) } else { text::one_of(wanted, most) };
    match (found, matched) {
        (Found::Unavailable, false) => format!("{field}: {}, wanted {wants}", unknown(hop, &field)),
        (Found::Unavailable, true) => {
            format!("{field}: {}, so Istio drops it (wanted {wants})", unknown(hop, &field))
        }
        (Found::Missing, true) => format!("{field}: found nothing, which is {wants}"),
        (Found::Missing, false) => format!("{field}: found nothing{}, wanted {wants}", reason_for_nothing(&field)),
        (Found::WrongType(kind), true) => {
            let kind = text::article(kind);
            format!("{field}: found {kind}, which Istio matches with nothing, so it is {wants}")
        }
        (Found::WrongType(kind), false) => {
            let kind = text::article(kind);
            format!("{field}: found {kind}, and Istio matches strings only; wanted {wants}")
        }
        (Found::Values(values), true) if values == wanted && !negated => {
            format!("{field}: {}, as wanted", text::values(values, most))
        }
        (Found::Values(values), true) => {
            let is = if values.len() == 1 { "is" } else { "has" };
            let wants = if *negated && wanted.len() == 1 { wants.replacen("none of", "not", 1) } else { wants };
            format!("{field}: {} {is} {wants}", text::values(values, most))
        }
        (Found::Values(values), false) => format!("{field}: found {}, wanted {wants}", text::values(values, most)),
    }
}

/// Why nothing is there, where the name of the field says it.
fn reason_for_nothing(field: &str) -> &'static str {
    match field {
        "principals"
        | "namespaces"
        | "serviceAccounts"
        | "trustDomains"
        | "source.principal"
        | "source.namespace"
        | "source.serviceAccount"
        | "source.trustDomain"
        | "notPrincipals"
        | "notNamespaces" => " (plaintext: no peer identity)",
        "requestPrincipals" | "request.auth.principal" | "request.auth.audiences" | "request.auth.presenter" => {
            " (no token)"
        }
        _ if field.starts_with("request.auth.claims") => " (no such claim)",
        _ if field.starts_with("request.headers") => " (no such header)",
        _ => "",
    }
}

/// The nearest ALLOW rule in one line, when it is the absence of a match that denied.
pub(super) fn closest(explained: &Explained<'_>) -> Option<String> {
    let hop = explained.trace.hops.last().filter(|hop| !hop.allowed && is_about_policies(hop))?;
    if explained.verdict.policy.is_some() {
        return None;
    }
    let nearest = ranking::allow_rules(hop).into_iter().next()?;
    let failing = nearest.failing();
    let (_, first) = failing.first()?;
    let at = explained.places.find("AuthorizationPolicy", &nearest.policy.namespace, &nearest.policy.name);
    let at = at.map_or_else(String::new, |at| format!(" ({at})"));
    let rest = match failing.len() {
        1 => String::new(),
        more => format!(", and {} more", more - 1),
    };
    Some(format!("closest: {}{at}, {}{rest}", nearest.id(), leaf_text(hop, first, 3)))
}
