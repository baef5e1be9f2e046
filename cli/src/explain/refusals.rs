//! What would have to be different where it was not a rule that denied: the token, the key, the way to the workload.

use authz::Reason;
use authz::trace::{CredentialOutcome, CredentialTrace, HopTrace, ProviderOutcome, ProviderTrace};
use istio::{JwtRule, Resources, StringMatch};

use super::nearest::{Case, Change, MAX_VALUES, Subject, tried};
use super::reissue::ClaimEdit;
use super::text;
use super::tokens::{Kind, Token};
use super::wishes::is_of_credential;

/// The changes for a denial that is not the verdict of a rule.
pub(super) fn changes(case: &Case<'_>) -> Vec<Change> {
    match case.verdict.reason {
        Reason::TokenExpired => expired(case),
        Reason::TokenNotYetValid => not_yet_valid(case),
        Reason::TokenAudience => audience(case),
        Reason::TokenIssuerUnknown => issuer(case),
        Reason::TokenKeyUnknown | Reason::JwksUnavailable => keys(case),
        Reason::TokenAlgorithm => algorithm(case),
        Reason::ApiKeyEnvironment => environment(case),
        Reason::CredentialMismatch => mismatch(),
        Reason::DestinationUnknown => destination(case),
        Reason::GatewayUnknown => gateway(case),
        Reason::DeniedByProvider | Reason::CustomProviderUnavailable => providers(case),
        reason => said(reason).map(|(of, text)| tried(of, text.to_owned(), None, None)).into_iter().collect(),
    }
}

/// Reasons that need one sentence, whatever the request.
fn said(reason: Reason) -> Option<(Subject, &'static str)> {
    use Subject::{Configuration, Credential, Request};
    Some(match reason {
        Reason::TokenMalformed => (
            Credential,
            "the token were three base64url parts with dots between them, with an alg, an exp and claims of the right types",
        ),
        Reason::TokenRevoked => (Credential, "the token were another one: this one is on the list of revoked ids"),
        Reason::TokenRequired => (Credential, "a token were presented: a jwtRules entry has presence: REQUIRED"),
        Reason::TokenTooLarge => (Credential, "the token were shorter"),
        Reason::TokenSignature => (
            Credential,
            "the signature were right: the token was altered or cut on its way, or another issuer of the same name (another environment, say) signed it",
        ),
        Reason::ApiKeyMalformed => {
            (Credential, "there were one API key, copied completely: the checksum at its end tells a mistyped one")
        }
        Reason::ApiKeyUnknown => (Credential, "the key store knew the API key: it was deleted, or is of another store"),
        Reason::ApiKeyRevoked => (Credential, "the API key were another one: this one was revoked"),
        Reason::ApiKeyExpired => (Credential, "the API key were another one: this one is past its time"),
        Reason::ApiKeyUnavailable => {
            (Configuration, "the key store answered; here it is played by api_keys of the request, or by --key-client")
        }
        Reason::PathNotCanonical | Reason::PathInvalid => (
            Request,
            "the path could be read in one way only: absolute, and without //, dot segments, \\, ;, # and needless %-escapes",
        ),
        Reason::RequestInvalid => (Request, "the front could read the request"),
        Reason::RequestTooLarge => (Request, "it had at most 100 header lines with 64 KiB in all"),
        _ => return None,
    })
}

/// What the workload would take for a credential, where the request has none.
pub(super) fn credential(case: &Case<'_>, hop: &HopTrace) -> Option<Change> {
    let nearest = super::ranking::allow_rules(hop).into_iter().next();
    let nearest = nearest.filter(|rule| rule.failing().iter().any(|(_, leaf)| is_of_credential(&leaf.field)));
    let nearest = nearest.filter(|_| case.verdict.policy.is_none())?;
    let rules = hop.authentication.iter().map(|rule| {
        let what = if rule.kind == "ApiKeyAuthentication" { "an API key that stands for" } else { "a token of" };
        let issuer = if rule.issuer.is_empty() { "any issuer".to_owned() } else { text::value(&rule.issuer) };
        format!("{what} {issuer} in {}", rule.places.join(" or "))
    });
    let rules: Vec<String> = rules.collect();
    let wishes = super::nearest::wishes(hop, &nearest);
    let rule = super::nearest::of_rule(case, &nearest);
    let text = if rules.is_empty() {
        format!("{} read credentials at all: no RequestAuthentication applies to it", super::render::workload(hop))
    } else {
        format!("a credential were presented ({}) and {wishes}, for {rule}", rules.join(", or "))
    };
    let tried_one = super::nearest::try_changes(case, hop, &nearest.failing());
    Some(super::nearest::tried_with(case, Subject::Credential, text, nearest.id(), tried_one))
}

// ---- tokens

fn expired(case: &Case<'_>) -> Vec<Change> {
    let over = case.tokens.iter().filter_map(|one| Some((one.token()?.exp.filter(|exp| *exp < case.now)?, &one.place)));
    let Some((exp, place)) = over.max() else { return Vec::new() };
    let (ago, at) = (text::distance(exp, case.now), text::instant(exp));
    let text = format!("the token in {place} were a fresh one: this one expired {ago}, at {at}");
    vec![tried(Subject::Credential, text, None, case.retry.at(exp.saturating_sub(1)))]
}

fn not_yet_valid(case: &Case<'_>) -> Vec<Change> {
    let early = tokens(case).filter_map(|token| token.nbf).filter(|nbf| *nbf > case.now);
    let Some(nbf) = early.min() else { return Vec::new() };
    let (from, at) = (text::distance(nbf, case.now), text::instant(nbf));
    let text = format!("it were later: the token is valid {from}, from {at}; or else one of the two clocks is wrong");
    vec![tried(Subject::Credential, text, None, case.retry.at(nbf))]
}

fn audience(case: &Case<'_>) -> Vec<Change> {
    let Some(refused) = refused(case) else {
        let text = "the token were for an audience of its rule".to_owned();
        return vec![tried(Subject::Credential, text, None, None)];
    };
    let token = tokens(case).find(|token| token.iss.as_deref() == Some(&refused.issuer));
    let has = token.map(|token| token.aud.clone()).unwrap_or_default();
    let is_for = match has.as_slice() {
        [] => "it has no aud".to_owned(),
        all => format!("it is for {}", text::values(all, MAX_VALUES)),
    };
    let wanted = case.resources.and_then(|resources| rule(resources, refused)).map(|rule| rule.audiences.clone());
    let wanted = wanted.filter(|wanted| !wanted.is_empty()).map_or_else(
        || "one of the audiences of the rule".to_owned(),
        |wanted| format!("the audience {}", text::one_of(&wanted, MAX_VALUES)),
    );
    let first = case.resources.and_then(|resources| rule(resources, refused)).and_then(|rule| rule.audiences.first());
    let edit = first.map(|audience| ClaimEdit::Add(vec!["aud".to_owned()], audience.clone()));
    let again = edit.and_then(|edit| case.retry.token(case.request, &[edit], None));
    let mut changes = vec![tried(Subject::Credential, format!("the token were for {wanted}; {is_for}"), None, again)];
    if let Some(aud) = has.first() {
        let edit = |resources: &mut Resources| match rule_mut(resources, refused) {
            Some(rule) => {
                rule.audiences.push(aud.clone());
                true
            }
            None => false,
        };
        if let Some(again) = case.retry.resources(&edit) {
            let text = format!(
                "the configuration were changed: add {0} to audiences of {1}, which then accepts tokens made for {0}",
                text::value(aud),
                name(case, refused)
            );
            changes.push(tried(Subject::Configuration, text, None, Some(again)));
        }
    }
    changes
}

fn issuer(case: &Case<'_>) -> Vec<Change> {
    let Some(hop) = denied_at(case) else { return Vec::new() };
    let mut accepted: Vec<String> = hop.authentication.iter().map(|rule| rule.issuer.clone()).collect();
    accepted.retain(|issuer| !issuer.is_empty());
    accepted.dedup();
    let has: Vec<String> = tokens(case).filter_map(|token| token.iss.clone()).collect();
    let is_from = match has.as_slice() {
        [] => "it names no issuer".to_owned(),
        all => format!("it is from {}", text::values(all, MAX_VALUES)),
    };
    let accepted = match accepted.as_slice() {
        [] => "an issuer of the workload's rules".to_owned(),
        all => format!("the issuer {}", text::one_of(all, MAX_VALUES)),
    };
    let text = format!("the token were from {accepted}; {is_from}");
    let mut changes = vec![tried(Subject::Credential, text, None, None)];
    if let Some(issuer) = has.first() {
        let text = format!(
            "a RequestAuthentication that applies to {} had a jwtRules entry for {}",
            super::render::workload(hop),
            text::value(issuer)
        );
        changes.push(tried(Subject::Configuration, text, None, None));
    }
    changes
}

fn keys(case: &Case<'_>) -> Vec<Change> {
    let Some(refused) = refused(case) else {
        let text = "the issuer's key set could be had, and had the token's key".to_owned();
        return vec![tried(Subject::Configuration, text, None, None)];
    };
    let rule = case.resources.and_then(|resources| rule(resources, refused));
    let source = match rule {
        Some(JwtRule { jwks: Some(_), .. }) => "the inline jwks of the rule".to_owned(),
        Some(JwtRule { jwks_uri: Some(uri), .. }) => format!("the key set at {}", text::value(uri)),
        _ => "the issuer's key set".to_owned(),
    };
    let kid = tokens(case).find(|token| token.iss.as_deref() == Some(&refused.issuer)).and_then(|t| t.kid.clone());
    let kid = kid.map_or_else(|| "a key for the token".to_owned(), |kid| format!("the key {}", text::value(&kid)));
    let has = case.retry.keys(&refused.issuer);
    let has = if has.is_empty() { String::new() } else { format!("; it has {}", listed(&has)) };
    let text = if case.verdict.reason == Reason::JwksUnavailable {
        format!("{source} could be had: here it is fetched with --fetch, or given with --jwks {}=FILE", refused.issuer)
    } else {
        format!("{source} had {kid}{has}: the issuer may have rotated its keys since, or another issuer made the token")
    };
    vec![tried(Subject::Configuration, text, None, None)]
}

/// Keys by their names.
fn listed(keys: &[String]) -> String {
    let mut shown: Vec<String> = keys.iter().take(MAX_VALUES).map(|key| text::plain(key)).collect();
    if shown.len() < keys.len() {
        shown.push(format!("… ({} in all)", keys.len()));
    }
    shown.join(", ")
}

fn algorithm(case: &Case<'_>) -> Vec<Change> {
    let issuer = refused(case).map(|refused| refused.issuer.as_str()).unwrap_or_default();
    let has = case.retry.keys(issuer);
    let keys = if has.is_empty() { String::new() } else { format!(", which has {}", listed(&has)) };
    let is = tokens(case).find_map(|token| token.alg.clone());
    let is = is.map_or_else(|| "it names none".to_owned(), |alg| format!("it says {}", text::value(&alg)));
    let text = format!("the token were signed with an asymmetric algorithm that fits the issuer's key set{keys}; {is}");
    vec![tried(Subject::Credential, text, None, None)]
}

fn environment(case: &Case<'_>) -> Vec<Change> {
    let via = denied_at(case).and_then(|hop| hop.via.as_deref());
    let gateways = case.resources.map(|resources| resources.api_gateways.as_slice()).unwrap_or_default();
    let is_it = |name: &str| gateways.iter().find(|one| format!("{}/{}", one.meta.namespace, one.meta.name) == name);
    let wanted = match via.and_then(is_it) {
        Some(gateway) => {
            format!("of the environment {} (ApiGateway {})", text::value(&gateway.environment), gateway.meta.origin)
        }
        None => "of the workload's environment".to_owned(),
    };
    let is = case.tokens.iter().find_map(|presented| match &presented.kind {
        Kind::ApiKey { environment, .. } => Some(format!("; it is one of {}", text::value(environment))),
        _ => None,
    });
    let text = format!("the API key were one {wanted}{}", is.unwrap_or_default());
    vec![tried(Subject::Credential, text, None, None)]
}

/// A key and a token of two clients; what comes of leaving one out has been tried.
fn mismatch() -> Vec<Change> {
    let text = "the API key and the token were of the same client".to_owned();
    vec![tried(Subject::Credential, text, None, None)]
}

fn tokens<'a>(case: &Case<'a>) -> impl Iterator<Item = &'a Token> {
    case.tokens.iter().filter_map(super::tokens::Presented::token)
}

fn denied_at<'a>(case: &Case<'a>) -> Option<&'a HopTrace> {
    case.trace.hops.last().filter(|hop| !hop.allowed)
}

/// The rule whose refusal became the verdict.
fn refused<'a>(case: &Case<'a>) -> Option<&'a CredentialTrace> {
    let refused = |rule: &&CredentialTrace| rule.outcome == CredentialOutcome::Refused;
    let rules = || denied_at(case).into_iter().flat_map(|hop| &hop.authentication);
    rules().filter(refused).find(|rule| rule.reason == Some(case.verdict.reason)).or_else(|| rules().find(refused))
}

pub(super) fn rule<'a>(resources: &'a Resources, seen: &CredentialTrace) -> Option<&'a JwtRule> {
    let mut all = resources.request_authentications.iter();
    let found = all.find(|a| a.meta.namespace == seen.namespace && a.meta.name == seen.name);
    found.filter(|_| seen.kind == "RequestAuthentication")?.jwt_rules.get(seen.rule)
}

pub(super) fn rule_mut<'a>(resources: &'a mut Resources, seen: &CredentialTrace) -> Option<&'a mut JwtRule> {
    let mut all = resources.request_authentications.iter_mut();
    let found = all.find(|a| a.meta.namespace == seen.namespace && a.meta.name == seen.name);
    found.filter(|_| seen.kind == "RequestAuthentication")?.jwt_rules.get_mut(seen.rule)
}

/// `jwtRules[0] of RequestAuthentication NAMESPACE/NAME (FILE:LINE)`.
pub(super) fn name(case: &Case<'_>, seen: &CredentialTrace) -> String {
    let CredentialTrace { kind, namespace, name, rule, .. } = seen;
    let at = case.places.find(kind, namespace, name).map_or_else(String::new, |at| format!(" ({at})"));
    format!("jwtRules[{rule}] of {kind} {namespace}/{name}{at}")
}

// ---- providers

fn providers(case: &Case<'_>) -> Vec<Change> {
    let asked = denied_at(case).map(|hop| hop.providers.as_slice()).unwrap_or_default();
    let refusing = asked.iter().filter(|provider| !provider.dry_run && !provider.outcome.passes());
    let change = |provider: &ProviderTrace| {
        let name = text::value(&provider.name);
        let text = match provider.outcome {
            ProviderOutcome::Unusable => {
                format!("extensionProviders of the mesh configuration had an external authorizer {name}")
            }
            ProviderOutcome::Several => "the CUSTOM policies of the workload named one provider only".to_owned(),
            ProviderOutcome::NotAsked => format!("the provider {name} were asked; `custom` of a JSON request plays it"),
            _ => format!("the provider {name} let it pass; its own log says why it did not"),
        };
        tried(Subject::Configuration, text, Some(provider.rule.clone()), None)
    };
    let mut changes: Vec<Change> = refusing.map(change).collect();
    for provider in asked.iter().filter(|provider| !provider.dry_run && !provider.outcome.passes()) {
        let text =
            format!("{} did not match the request: it is what asks {}", provider.rule, text::value(&provider.name));
        changes.push(tried(Subject::Policy, text, Some(provider.rule.clone()), None));
    }
    changes
}

// ---- the way to the workload

fn gateway(case: &Case<'_>) -> Vec<Change> {
    let known = case.resources.map(|resources| resources.api_gateways.as_slice()).unwrap_or_default();
    let mut changes: Vec<Change> = Vec::new();
    if known.is_empty() {
        let text = "an ApiGateway document covered this API, or the request named a workload (--workload)".to_owned();
        return vec![tried(Subject::Configuration, text, None, None)];
    }
    for gateway in known.iter().take(MAX_VALUES) {
        let text = format!(
            "the API were {} at the stage {} with the domain {}: ApiGateway {}/{} ({})",
            text::value(&gateway.api_id),
            text::value(&gateway.stage),
            text::one_of(&gateway.domains, 3),
            gateway.meta.namespace,
            gateway.meta.name,
            gateway.meta.origin,
        );
        changes.push(tried(Subject::Request, text, None, None));
    }
    changes
}

fn destination(case: &Case<'_>) -> Vec<Change> {
    if let Some(unrouted) = case.trace.unrouted.as_ref().filter(|_| case.resources.is_none()) {
        let more = if unrouted.more == 0 { String::new() } else { format!(" and {} more", unrouted.more) };
        let what = match &unrouted.host {
            Some(host) => format!("the path were one that a route of the host {} takes", text::value(host)),
            None => "the host were one that a VirtualService of the gateway takes".to_owned(),
        };
        let text = format!("{what}: {}{more}", text::values(&unrouted.routed, 20));
        return vec![tried(Subject::Request, text, None, None)];
    }
    let Some(resources) = case.resources else {
        let text = "a VirtualService of the gateway routed the host and the path".to_owned();
        return vec![tried(Subject::Configuration, text, None, None)];
    };
    let mut changes = Vec::new();
    for service in resources.virtual_services.iter().filter(|service| service.gateways.iter().any(|g| g != "mesh")) {
        let uris = service.http.iter().flat_map(|route| &route.matches).filter_map(|m| m.uri.as_ref());
        let mut paths: Vec<String> = Vec::new();
        for uri in uris {
            paths.extend(match uri {
                StringMatch::Exact(path) => Some(path.clone()),
                StringMatch::Prefix(path) => Some(format!("{path}*")),
                #[allow(unreachable_patterns, reason = "a regular expression has no sample")]
                _ => None,
            });
        }
        let any = service.http.iter().any(|route| route.matches.is_empty());
        let path = if any || paths.is_empty() { "any".to_owned() } else { text::one_of(&paths, MAX_VALUES) };
        let text = format!(
            "the host were {} and the path {path}: VirtualService {}/{} ({})",
            text::one_of(&service.hosts, 4),
            service.meta.namespace,
            service.meta.name,
            service.meta.origin
        );
        changes.push(tried(Subject::Request, text, None, None));
        if changes.len() == MAX_VALUES {
            break;
        }
    }
    if changes.is_empty() {
        let text = "there were a VirtualService that names the Gateway in gateways; now there is none".to_owned();
        changes.push(tried(Subject::Configuration, text, None, None));
    }
    changes
}
