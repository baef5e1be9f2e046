//! The smallest changes that would let a denied request pass. What can be tried is tried: only then is it said that the
//! request would be allowed.

use authz::trace::{CredentialTrace, Found, HopTrace, LeafTrace};
use authz::{Reason, Request, Trace};
use istio::Resources;
use serde::Serialize;

use super::alter;
use super::placement;
use super::places::Places;
use super::ranking::{self, Candidate, Part};
use super::refusals;
use super::reissue::{self, ClaimEdit};
use super::tokens::Presented;
use super::wishes::{is_of_credential, wish};
use super::{Verdict, text};

/// ALLOW rules that are made to match, at most.
const MAX_RULES: usize = 3;
/// Requests that are tried for one rule, at most.
const MAX_TRIES: usize = 64;
/// Values that are named, at most.
pub(super) const MAX_VALUES: usize = 6;

/// A change that would get the request past what denied it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    /// What is changed.
    pub(crate) of: Subject,
    /// What has to be true, in words.
    pub(crate) text: String,
    /// Istio's id of the rule that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// What would come of it.
    pub(crate) outcome: Outcome,
    /// The request that was tried, where it is one of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) example: Option<String>,
    /// The denial that would come then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) then: Option<String>,
}

impl Change {
    /// Whether both are for one rule, and were tried with one request: the first says it in more words.
    fn is_of_the_same_trial(&self, other: &Self) -> bool {
        self.example.is_some() && (&self.rule, &self.example) == (&other.rule, &other.example)
    }
}

/// What a change is made to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    Request,
    Credential,
    Policy,
    Configuration,
}

/// What would come of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was tried, and the request was allowed.
    Allowed,
    /// It cannot be tried here. It does what it says, and what comes after is not known.
    PassesRule,
    /// It was tried, and something else denied.
    DeniedAfter,
}

/// What came of a change that was tried.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Again {
    pub(crate) allowed: bool,
    /// The verdict in words, when it is a denial.
    pub(crate) words: String,
    pub(crate) reason: Reason,
    /// Istio's id of the rule that decided.
    pub(crate) policy: Option<String>,
}

/// Asks the gate once more, with something changed. `None`: that cannot be tried.
pub(crate) trait Retry {
    /// Another request.
    fn request(&self, request: &Request) -> Option<Again>;
    /// Another configuration: `edit` changes it, or says that it cannot.
    fn resources(&self, edit: &dyn Fn(&mut Resources) -> bool) -> Option<Again>;
    /// Another request whose token has other claims; where it has none, a fresh one is presented to the rule `fresh`.
    fn token(&self, request: &Request, edits: &[ClaimEdit], fresh: Option<&CredentialTrace>) -> Option<Again>;
    /// Another time.
    fn at(&self, now: u64) -> Option<Again>;
    /// The keys of an issuer that are at hand, each `KID (ALGORITHM)`.
    fn keys(&self, issuer: &str) -> Vec<String>;
}

/// What the changes are looked for in.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) verdict: &'a Verdict,
    pub(crate) trace: &'a Trace,
    pub(crate) request: &'a Request,
    pub(crate) tokens: &'a [Presented],
    pub(crate) places: &'a Places,
    pub(crate) resources: Option<&'a Resources>,
    pub(crate) now: u64,
    pub(crate) retry: &'a dyn Retry,
}

/// The changes, those that were tried with success first.
pub(crate) fn changes(case: &Case<'_>) -> Vec<Change> {
    if case.verdict.allowed {
        return Vec::new();
    }
    let mut changes = Vec::new();
    let denied_at = case.trace.hops.last().filter(|hop| !hop.allowed);
    if let Some(hop) = denied_at {
        changes.extend(placement::moved(case, hop));
        changes.extend(placement::forwarded(case, hop));
    }
    changes.extend(placement::left_out(case));
    match (case.verdict.reason, denied_at) {
        (Reason::DeniedByPolicy | Reason::DeniedNoMatch | Reason::NoCredential, Some(hop)) => {
            let unread = case.verdict.reason == Reason::DeniedNoMatch && hop.authentication.is_empty();
            let without = (case.verdict.reason == Reason::NoCredential || unread) && changes.is_empty();
            let credential = without.then(|| refusals::credential(case, hop)).flatten();
            // Whoever is told which credential to present, or where, need not be told again that one is missing.
            let is_said = credential.is_some() || !changes.is_empty();
            changes.extend(credential);
            match case.verdict.policy.as_deref().and_then(|id| ranking::by_id(hop, id)) {
                Some(denying) => changes.extend(unmatching(case, hop, &denying)),
                None => {
                    let mut found = matching(case, hop);
                    found.retain(|change| {
                        let is_the_same = changes.iter().any(|said| said.is_of_the_same_trial(change));
                        let is_doubtful = change.of == Subject::Credential && change.outcome == Outcome::PassesRule;
                        !(is_the_same || is_said && is_doubtful)
                    });
                    changes.extend(found);
                }
            }
        }
        (Reason::CredentialMismatch, _) => changes.extend(refusals::changes(case)),
        _ => {
            let helped = !changes.is_empty();
            changes.extend(refusals::changes(case).into_iter().filter(|change| {
                !(helped && change.of == Subject::Credential && change.outcome == Outcome::PassesRule)
            }));
        }
    }
    // A stable sort: what is nearest stays first.
    changes.sort_by_key(|change| match change.outcome {
        Outcome::Allowed => 0,
        Outcome::PassesRule => 1,
        Outcome::DeniedAfter => 2,
    });
    // What was seen to be denied after all is worth saying only where nothing better is known.
    if changes.iter().any(|change| change.outcome == Outcome::Allowed) {
        changes.retain(|change| change.outcome != Outcome::DeniedAfter);
    }
    changes
}

/// A change with what came of trying it.
pub(super) fn tried(of: Subject, text: String, rule: Option<String>, again: Option<Again>) -> Change {
    let (outcome, then) = match again {
        None => (Outcome::PassesRule, None),
        Some(again) if again.allowed => (Outcome::Allowed, None),
        Some(again) => (Outcome::DeniedAfter, Some(again.words)),
    };
    Change { of, text, rule, outcome, example: None, then }
}

/// As [`tried`], with the request that was tried.
pub(super) fn tried_with(
    case: &Case<'_>,
    of: Subject,
    text: String,
    rule: String,
    tried_one: Option<(Again, Trial)>,
) -> Change {
    let (again, trial) = tried_one.unzip();
    let example = trial.map(|(request, edits)| example(case.request, &request, &edits));
    Change { example, ..tried(of, text, Some(rule), again) }
}

/// The request that was tried: its method and path, and what else differs.
fn example(was: &Request, is: &Request, edits: &[ClaimEdit]) -> String {
    let path = is.path.split('?').next().unwrap_or_default();
    let mut parts = vec![format!("{} {}", text::plain(&is.method), text::value(path))];
    if was.host != is.host {
        parts.push(format!("host {}", text::value(&is.host)));
    }
    for (name, value) in is.headers.iter().filter(|line| !was.headers.contains(line)) {
        parts.push(format!("header {}: {}", text::plain(name), text::value(value)));
    }
    for (name, _) in was.headers.iter().filter(|(name, _)| !is.headers.iter().any(|(other, _)| other == name)) {
        parts.push(format!("no header {}", text::plain(name)));
    }
    if let Some(peer) = is.source.principal.as_ref().filter(|_| was.source.principal != is.source.principal) {
        parts.push(format!("peer {}", text::value(peer)));
    }
    for (name, was, is) in
        [("client", was.source.remote_ip, is.source.remote_ip), ("direct peer", was.source.ip, is.source.ip)]
    {
        parts.extend(is.filter(|_| was != is).map(|address| format!("{name} {address}")));
    }
    let claims: Vec<String> = edits.iter().map(ClaimEdit::words).collect();
    if !claims.is_empty() {
        parts.push(format!("a token with {}", claims.join(" and ")));
    }
    parts.join(", ")
}

// ---- no ALLOW rule matched

fn matching(case: &Case<'_>, hop: &HopTrace) -> Vec<Change> {
    let rules = ranking::allow_rules(hop);
    if rules.is_empty() {
        let text = "an ALLOW policy with a rule for such requests applied to the workload".to_owned();
        return vec![tried(Subject::Policy, text, None, None)];
    }
    let mut changes = Vec::new();
    // Rules that are further away than the nearest by much help nobody.
    let least = rules.first().map_or(0, |rule| rule.failing().len());
    for candidate in rules.iter().take(MAX_RULES).filter(|rule| rule.failing().len() <= least + 1) {
        if !candidate.rule.unavailable.is_empty() {
            let needs = candidate.rule.unavailable.join(", ");
            let first = candidate.rule.unavailable.first().map_or("", String::as_str);
            let text = format!("{}; here {} never matches", told(hop, &needs, first), candidate.id());
            changes.push(tried(Subject::Configuration, text, Some(candidate.id()), None));
            continue;
        }
        changes.push(by_request(case, hop, candidate));
        changes.extend(by_policy(case, candidate));
    }
    changes
}

/// That what is not known were known.
fn told(hop: &HopTrace, names: &str, field: &str) -> String {
    let names = text::plain(names);
    if super::unknown::unknown(hop, field) == super::unknown::NOT_KNOWN {
        format!("{names} could be known here")
    } else {
        format!("the request gave {names}")
    }
}

/// What would have to be true for a rule to match.
pub(super) fn wishes(hop: &HopTrace, candidate: &Candidate<'_>) -> String {
    let wishes: Vec<String> = candidate.failing().iter().map(|(_, leaf)| wish(leaf, hop.hop)).collect();
    wishes.join(" and ")
}

/// The request, changed so that the rule matches.
fn by_request(case: &Case<'_>, hop: &HopTrace, candidate: &Candidate<'_>) -> Change {
    let failing = candidate.failing();
    let is_credential = failing.iter().any(|(_, leaf)| is_of_credential(&leaf.field));
    let text = format!("{}, for {}", wishes(hop, candidate), of_rule(case, candidate));
    let of = if is_credential { Subject::Credential } else { Subject::Request };
    tried_with(case, of, text, candidate.id(), try_changes(case, hop, &failing))
}

/// What was tried: the request, and the changes of its token.
pub(super) type Trial = (Request, Vec<ClaimEdit>);

/// Tries values that the leaves want, until a request is allowed. The answer is that of the first that was tried, if none
/// is.
pub(super) fn try_changes(case: &Case<'_>, hop: &HopTrace, failing: &[(Part, &LeafTrace)]) -> Option<(Again, Trial)> {
    let mut trials: Vec<Trial> = vec![(case.request.clone(), Vec::new())];
    for (_, leaf) in failing {
        let mut next: Vec<Trial> = Vec::new();
        for (request, edits) in &trials {
            if is_of_credential(&leaf.field) {
                let more = reissue::edits(leaf)?.into_iter();
                next.extend(more.map(|more| (request.clone(), edits.iter().cloned().chain(more).collect())));
            } else {
                let altered = alter::requests(request, leaf, hop.hop)?.into_iter();
                next.extend(altered.map(|altered| (altered, edits.clone())));
            }
        }
        next.truncate(MAX_TRIES);
        trials = next;
    }
    let with_token = failing.iter().any(|(_, leaf)| is_of_credential(&leaf.field));
    let fresh = hop.authentication.iter().find(|rule| rule.kind == "RequestAuthentication");
    let mut last = None;
    for (request, mut edits) in trials {
        if with_token && case.tokens.is_empty() {
            edits = reissue::named(edits, fresh?);
        }
        let again = match with_token {
            true => case.retry.token(&request, &edits, fresh)?,
            false => case.retry.request(&request)?,
        };
        if again.allowed {
            return Some((again, (request, edits)));
        }
        last.get_or_insert((again, (request, edits)));
    }
    last
}

/// The policy, changed so that the rule matches.
fn by_policy(case: &Case<'_>, candidate: &Candidate<'_>) -> Option<Change> {
    case.resources?;
    let failing = candidate.failing();
    let edits: Vec<alter::Edit> =
        failing.iter().map(|(part, leaf)| alter::Edit::of(candidate, *part, leaf)).collect::<Option<_>>()?;
    let words: Vec<String> = edits.iter().map(alter::Edit::words).collect();
    let text = format!("the policy were changed: {} in {}", words.join(", and "), of_rule(case, candidate));
    let again = case.retry.resources(&|resources| edits.iter().all(|edit| edit.apply(resources)))?;
    Some(tried(Subject::Policy, text, Some(candidate.id()), Some(again)))
}

/// `rule 0 of NAMESPACE/NAME (FILE:LINE)`.
pub(super) fn of_rule(case: &Case<'_>, candidate: &Candidate<'_>) -> String {
    let policy = case.places.policy(&candidate.policy.namespace, &candidate.policy.name);
    format!("rule {} of {policy}", candidate.rule.index)
}

// ---- a DENY or CUSTOM rule matched

/// What would keep the rule from matching: one leaf of it is enough.
fn unmatching(case: &Case<'_>, hop: &HopTrace, denying: &Candidate<'_>) -> Vec<Change> {
    let rule = denying.rule;
    // With several sources that match, each of them would have to stop.
    let one_way = |branches: &[authz::trace::BranchTrace]| branches.iter().filter(|b| b.matched).count() == 1;
    let mut leaves: Vec<&LeafTrace> = Vec::new();
    for branches in [&rule.from, &rule.to] {
        if one_way(branches) {
            leaves.extend(branches.iter().filter(|branch| branch.matched).flat_map(|branch| &branch.leaves));
        }
    }
    leaves.extend(&rule.when);
    let of_rule = of_rule(case, denying);
    if leaves.is_empty() {
        let text = format!("{of_rule} were narrower: it matches every request that comes this way");
        return vec![tried(Subject::Policy, text, Some(denying.id()), None)];
    }
    let mut changes = Vec::new();
    for leaf in leaves {
        if leaf.found == Found::Unavailable {
            let text = format!("{}, for {of_rule}", told(hop, &leaf.field, &leaf.field));
            changes.push(tried(Subject::Configuration, text, Some(denying.id()), None));
            continue;
        }
        let of = if is_of_credential(&leaf.field) { Subject::Credential } else { Subject::Request };
        let opposite = LeafTrace { negated: !leaf.negated, matched: false, ..leaf.clone() };
        let text = format!("{}, which {of_rule} leaves alone", wish(&opposite, hop.hop));
        let again = try_changes(case, hop, &[(Part::When, &opposite)]);
        changes.push(tried_with(case, of, text, denying.id(), again));
    }
    changes
}
