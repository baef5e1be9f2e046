//! Credentials that are good, and presented where nobody looks, one too many, or taken off on the way. All of it is tried:
//! what does not help is not said.

use authz::trace::{CredentialOutcome, CredentialTrace, Found, HopTrace};
use authz::{Hop, Request};
use istio::Resources;

use super::nearest::{Again, Case, Change, Outcome, Subject, tried};
use super::tokens::{Kind, Presented, taken};
use super::{refusals, text};

/// Changes of each kind, at most.
const MAX_CHANGES: usize = 3;

/// Each credential that no rule of the hop takes where it stands, put where one looks.
pub(super) fn moved(case: &Case<'_>, hop: &HopTrace) -> Vec<Change> {
    let mut changes = Vec::new();
    for presented in case.tokens {
        for rule in hop.authentication.iter().filter(|rule| could_take(rule, presented)) {
            let Some(place) = rule.places.iter().find(|place| place.starts_with("header ")).or(rule.places.first())
            else {
                continue;
            };
            let stands_there = header(place).is_some_and(|(name, prefix)| {
                presented.place == format!("header {}", name.to_ascii_lowercase())
                    && presented.scheme == prefix.trim_end()
            });
            if stands_there {
                continue;
            }
            let Some(request) = taken(case.request, presented.at).and_then(|(rest, text)| put(rest, place, &text))
            else {
                continue;
            };
            let text = format!("{} were in {}", name(presented), text::plain(place));
            helping(&mut changes, case, &request, text);
        }
    }
    changes.truncate(MAX_CHANGES);
    changes
}

/// One credential of several left out.
pub(super) fn left_out(case: &Case<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (index, presented) in case.tokens.iter().enumerate().filter(|_| case.tokens.len() > 1) {
        let twins = case.tokens.iter().filter(|other| other.place == presented.place).count();
        let before = case.tokens.iter().take(index).filter(|other| other.place == presented.place).count();
        let which = if twins > 1 { format!(" (number {} of {twins})", before + 1) } else { String::new() };
        if let Some((request, _)) = taken(case.request, presented.at) {
            helping(&mut changes, case, &request, format!("{}{which} were left out", name(presented)));
        }
    }
    changes.truncate(MAX_CHANGES);
    changes
}

/// A credential kept on the request after it was verified, for those who ask for it later: the second hop, or a condition
/// on its header.
pub(super) fn forwarded(case: &Case<'_>, hop: &HopTrace) -> Vec<Change> {
    let asked = |rule: &CredentialTrace| {
        hop.policies.iter().flat_map(|policy| &policy.rules).flat_map(|rule| &rule.when).any(|leaf| {
            let header = leaf.field.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
            leaf.found == Found::Missing && header.is_some_and(|header| reads(rule, header))
        })
    };
    let before = case.trace.hops.first().filter(|first| first.hop == Hop::Gateway && hop.hop == Hop::Destination);
    let taken_before = before.into_iter().flat_map(|first| &first.authentication);
    let nothing_left = hop.authentication.iter().all(|rule| rule.found == 0);
    let here = hop.authentication.iter().filter(|rule| asked(rule));
    let mut changes = Vec::new();
    for rule in
        taken_before.filter(|_| nothing_left).chain(here).filter(|rule| rule.outcome == CredentialOutcome::Valid)
    {
        let Some(again) = case.retry.resources(&|resources| forward(resources, rule)) else { continue };
        let option = if rule.kind == "ApiKeyAuthentication" { "forwardOriginalKey" } else { "forwardOriginalToken" };
        let text = format!("{option}: true stood in {}", refusals::name(case, rule));
        changes.push(tried(Subject::Configuration, text, None, Some(again)));
    }
    changes.retain(|change| change.outcome == Outcome::Allowed);
    changes.truncate(MAX_CHANGES);
    changes
}

/// Whether a rule takes the credential of the header `name` off once it is verified.
pub(super) fn reads(rule: &CredentialTrace, name: &str) -> bool {
    rule.outcome == CredentialOutcome::Valid
        && rule.places.iter().any(|place| header(place).is_some_and(|(own, _)| own.eq_ignore_ascii_case(name)))
}

fn forward(resources: &mut Resources, seen: &CredentialTrace) -> bool {
    if let Some(rule) = refusals::rule_mut(resources, seen) {
        return !std::mem::replace(&mut rule.forward_original_token, true);
    }
    let mut all = resources.api_key_authentications.iter_mut();
    let keys = all.find(|keys| keys.meta.namespace == seen.namespace && keys.meta.name == seen.name);
    keys.is_some_and(|keys| !std::mem::replace(&mut keys.forward_original_key, true))
}

/// Adds a change of the request if it is allowed then.
fn helping(changes: &mut Vec<Change>, case: &Case<'_>, request: &Request, text: String) {
    if let Some(again @ Again { allowed: true, .. }) = case.retry.request(request)
        && !changes.iter().any(|change| change.text == text)
    {
        changes.push(tried(Subject::Credential, text, None, Some(again)));
    }
}

/// Whether a rule is for credentials of this kind and issuer.
fn could_take(rule: &CredentialTrace, presented: &Presented) -> bool {
    match &presented.kind {
        Kind::Token(token) => {
            rule.kind == "RequestAuthentication"
                && (rule.issuer.is_empty() || token.iss.as_deref() == Some(&rule.issuer))
        }
        Kind::ApiKey { .. } => rule.kind == "ApiKeyAuthentication",
        Kind::BrokenApiKey { .. } | Kind::Other => false,
    }
}

fn name(presented: &Presented) -> String {
    let what = match &presented.kind {
        Kind::Token(_) => "the token",
        Kind::ApiKey { .. } | Kind::BrokenApiKey { .. } => "the API key",
        Kind::Other => "what is",
    };
    let scheme = match presented.scheme.as_str() {
        "" | "Bearer" => String::new(),
        scheme => format!(" (after \"{scheme} \")"),
    };
    format!("{what} in {}{scheme}", presented.place)
}

/// Name and prefix of a place such as `header authorization (after "Bearer ")`.
fn header(place: &str) -> Option<(&str, &str)> {
    let rest = place.strip_prefix("header ")?;
    let (name, prefix) = rest.split_once(" (after \"").unwrap_or((rest, ""));
    Some((name, prefix.strip_suffix("\")").unwrap_or(prefix)))
}

/// The request with a credential at a place of a rule, and nothing else there.
pub(super) fn put(mut request: Request, place: &str, credential: &str) -> Option<Request> {
    if let Some((name, prefix)) = header(place) {
        let name = name.to_ascii_lowercase();
        request.headers.retain(|(other, _)| *other != name);
        request.headers.push((name, format!("{prefix}{credential}")));
    } else if let Some(name) = place.strip_prefix("query parameter ") {
        let separator = if request.path.contains('?') { '&' } else { '?' };
        request.path.push_str(&format!("{separator}{name}={credential}"));
    } else {
        let name = place.strip_prefix("cookie ")?;
        request.headers.push(("cookie".to_owned(), format!("{name}={credential}")));
    }
    Some(request)
}
