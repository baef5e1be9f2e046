//! Likely causes, where a value looks like the one that was wanted.

use authz::trace::{CredentialOutcome, Found, HopTrace, LeafTrace};
use authz::{Hop, Reason};
use istio::StringMatch;

use super::nearest::Case;
use super::ranking::{self, Candidate};
use super::tokens::{Kind, Presented};
use super::{Verdict, text, workloads};

/// Hints, at most: more of them are noise.
const MAX_HINTS: usize = 8;
/// ALLOW rules whose leaves are looked at.
const MAX_RULES: usize = 3;

/// What is likely behind the verdict.
pub(crate) fn hints(case: &Case<'_>) -> Vec<String> {
    let mut hints = Hints(Vec::new());
    for hop in &case.trace.hops {
        if case.verdict.allowed {
            of_open_door(&mut hints, case, hop);
        } else if case.verdict.reason == Reason::DestinationUnknown {
            of_route(&mut hints, case, hop);
        } else if !hop.allowed {
            // Before a provider has had its say nobody looks at credentials.
            if !super::rules::is_of_provider(hop.reason) {
                of_credentials(&mut hints, case, hop);
            }
            of_rules(&mut hints, case, hop);
        }
    }
    hints.0
}

/// What is likely behind a refusal of the authorizer itself.
pub(crate) fn of_front(verdict: &Verdict) -> Vec<String> {
    let text = match verdict.reason {
        Reason::PathNotCanonical => {
            "an authorizer cannot rewrite the path that the backend sees, and API Gateway shows it decoded: what two programs could read in two ways is denied, before any policy is asked"
        }
        Reason::RequestInvalid => {
            "the event must be the one that API Gateway sends to its authorizer, not the one of the integration behind it"
        }
        _ => return Vec::new(),
    };
    vec![text.to_owned()]
}

struct Hints(Vec<String>);

impl Hints {
    fn add(&mut self, hint: String) {
        if self.0.len() < MAX_HINTS && !self.0.contains(&hint) {
            self.0.push(hint);
        }
    }
}

// ---- the whole hop

fn of_open_door(hints: &mut Hints, case: &Case<'_>, hop: &HopTrace) {
    if hop.reason != Reason::AllowedNoPolicy {
        return;
    }
    let dry = hop.policies.iter().any(|policy| policy.applies && policy.action == "ALLOW" && policy.dry_run);
    let place = super::render::workload(hop);
    hints.add(if dry {
        format!("every ALLOW policy of {place} is a dry run, so none is enforced and everybody may")
    } else {
        match workloads::unknown(case.resources, hop) {
            None => format!("no ALLOW policy applies to {place}: a misspelt namespace or label looks the same"),
            Some(what) => format!("no ALLOW policy applies to {place}, and {what}: is it misspelt?"),
        }
    });
}

/// Routes that take nearly this path.
fn of_route(hints: &mut Hints, case: &Case<'_>, hop: &HopTrace) {
    let services = case.resources.map(|resources| resources.virtual_services.as_slice()).unwrap_or_default();
    let matches = services.iter().flat_map(|service| &service.http).flat_map(|route| &route.matches);
    for uri in matches.filter_map(|one| one.uri.as_ref()) {
        let (wanted, is_exact) = match uri {
            StringMatch::Exact(path) => (path, true),
            StringMatch::Prefix(path) => (path, false),
            #[allow(unreachable_patterns, reason = "a regular expression has no sample")]
            _ => continue,
        };
        let (path, route) = (text::value(&hop.path), text::value(wanted));
        let own = if is_exact { Some(hop.path.as_str()) } else { hop.path.get(..wanted.len()) };
        if own.is_some_and(|own| own.eq_ignore_ascii_case(wanted) && own != wanted) {
            hints.add(format!("the path {path} and the route for {route} differ in case only, and case counts here"));
        } else if hop.path.trim_end_matches('/') == wanted.trim_end_matches('/') {
            hints.add(format!("the path {path} and the route for {route} differ in a / at the end only"));
        }
    }
}

fn of_credentials(hints: &mut Hints, case: &Case<'_>, hop: &HopTrace) {
    let accepts_tokens = hop.authentication.iter().any(|rule| rule.kind == "RequestAuthentication");
    let nothing_found = hop.authentication.iter().all(|rule| rule.found == 0);
    if let Some(first) =
        case.trace.hops.first().filter(|first| first.hop == Hop::Gateway && hop.hop == Hop::Destination)
        && nothing_found
        && let Some(taken) = first.authentication.iter().find(|rule| rule.outcome == CredentialOutcome::Valid)
    {
        let option = if taken.kind == "RequestAuthentication" { "forwardOriginalToken" } else { "forwardOriginalKey" };
        let what = if hop.authentication.is_empty() {
            "no RequestAuthentication applies to the destination, which therefore sees no caller".to_owned()
        } else {
            let (namespace, name) = (&taken.namespace, &taken.name);
            format!(
                "the destination got no credential: without {option}: true {} {namespace}/{name} removes it at the gateway",
                taken.kind
            )
        };
        hints.add(what);
        return;
    }
    // What read the credential is not known, so nothing can be said about it.
    let silent = hop.authentication.is_empty() && super::rules::reads_credentials(hop);
    for presented in case.tokens.iter().filter(|_| !silent) {
        let place = &presented.place;
        let looked_at = hop.authentication.iter().any(|rule| rule.found > 0 && looks_at(&rule.places, place));
        let in_authorization = place == "header authorization";
        match (&presented.kind, looked_at) {
            (Kind::Token(_), false) if !accepts_tokens => {
                hints.add(format!(
                    "{place} holds a token, and no RequestAuthentication applies to this workload: it is not read"
                ));
            }
            (Kind::Token(_), false) if in_authorization && presented.scheme != "Bearer" => {
                let scheme = if presented.scheme.is_empty() { "nothing" } else { &presented.scheme };
                hints.add(format!(
                    "{place} begins with {}, wanted \"Bearer \": the prefix is compared with its case",
                    text::value(scheme)
                ));
            }
            (Kind::Token(_), false) if nothing_found => {
                hints.add(format!("{place} holds a token, and no rule of this workload looks there"));
            }
            (Kind::ApiKey { .. }, false) if nothing_found => {
                hints
                    .add(format!("{place} holds an API key, and no ApiKeyAuthentication of this workload looks there"));
            }
            (Kind::ApiKey { .. } | Kind::BrokenApiKey { .. }, _) if in_authorization && !looked_at_as_key(hop) => {
                hints.add(format!("{place} holds an API key, and rules here look there for tokens only"));
            }
            (Kind::Other, _) if in_authorization => {
                hints.add(format!("{place} holds no token that could be read"));
            }
            _ => {}
        }
        of_token(hints, case, hop, presented);
    }
    of_joined_tokens(hints, case);
    if case.verdict.reason == Reason::ApiKeyUnavailable {
        hints.add("nobody plays the key store: say with --key-client CLIENT_ID whose key it is, or give api_keys in the request".to_owned());
    }
}

/// Whether an ApiKeyAuthentication looks at the header `authorization`.
fn looked_at_as_key(hop: &HopTrace) -> bool {
    let keys = hop.authentication.iter().filter(|rule| rule.kind == "ApiKeyAuthentication");
    keys.flat_map(|rule| &rule.places).any(|place| place.eq_ignore_ascii_case("header authorization"))
}

/// Several lines `authorization` are read as one, joined with a comma.
fn of_joined_tokens(hints: &mut Hints, case: &Case<'_>) {
    let lines = case.request.headers.iter().filter(|(name, _)| name == "authorization").count();
    if lines > 1 && case.verdict.reason == Reason::TokenMalformed {
        hints.add(format!("the {lines} authorization headers are read as one, joined with a comma: that is no token"));
    }
}

fn looks_at(places: &[String], place: &str) -> bool {
    places.iter().any(|known| known == place || known.strip_prefix(place).is_some_and(|rest| rest.starts_with(' ')))
}

fn of_token(hints: &mut Hints, case: &Case<'_>, hop: &HopTrace, presented: &Presented) {
    let Some(token) = presented.token() else { return };
    if let Some(iss) = &token.iss {
        let bare = iss.trim_end_matches('/');
        for rule in hop.authentication.iter().filter(|rule| rule.issuer != *iss) {
            if rule.issuer.trim_end_matches('/') == bare {
                hints.add(format!(
                    "the issuers {} (token) and {} (rule) differ in a / at the end only: iss is compared exactly",
                    text::value(iss),
                    text::value(&rule.issuer)
                ));
            } else if rule.issuer.eq_ignore_ascii_case(iss) {
                hints.add(
                    "the issuer of the token and that of a rule differ in case only: iss is compared exactly"
                        .to_owned(),
                );
            }
        }
    }
    if let Some(exp) = token.exp.filter(|exp| exp.saturating_add(authz::jwt::LEEWAY_SECONDS) < case.now)
        && case.verdict.reason != Reason::TokenExpired
    {
        hints.add(format!("the token in {} expired {}", presented.place, text::distance(exp, case.now)));
    }
}

// ---- leaves

fn of_rules(hints: &mut Hints, case: &Case<'_>, hop: &HopTrace) {
    if let Some(denying) = case.verdict.policy.as_deref().and_then(|id| ranking::by_id(hop, id)) {
        of_denying(hints, hop, &denying);
        return;
    }
    if !matches!(case.verdict.reason, Reason::DeniedNoMatch | Reason::NoCredential) {
        return;
    }
    for policy in hop.policies.iter().filter(|p| p.applies && p.rules.is_empty() && p.action == "ALLOW" && !p.dry_run) {
        hints.add(format!(
            "{} has no rules and so denies everything that no other policy allows; rules: [{{}}] would allow everything",
            case.places.policy(&policy.namespace, &policy.name)
        ));
    }
    for candidate in ranking::allow_rules(hop).iter().take(MAX_RULES) {
        for (_, leaf) in candidate.failing() {
            of_leaf(hints, case, hop, leaf);
        }
    }
    let near = hop.policies.iter().filter(|p| !p.applies && p.action == "ALLOW" && p.namespace == hop.namespace);
    if ranking::allow_rules(hop).is_empty() && near.count() > 0 {
        hints.add(
            "ALLOW policies of the namespace exist, and their selectors leave this workload out: compare the labels"
                .to_owned(),
        );
    }
}

/// A DENY rule often matches because something is not there.
fn of_denying(hints: &mut Hints, hop: &HopTrace, denying: &Candidate<'_>) {
    let rule = denying.rule;
    let leaves = rule.from.iter().chain(&rule.to).flat_map(|branch| &branch.leaves).chain(&rule.when);
    for leaf in leaves.filter(|leaf| leaf.matched) {
        let field = text::plain(&leaf.field);
        match &leaf.found {
            Found::Missing if leaf.negated => hints.add(format!(
                "{field}: a condition that says what must not be there also holds when nothing is there, so the rule denies callers without one"
            )),
            Found::WrongType(kind) if leaf.negated => {
                hints.add(format!("{field} is {}: Istio matches strings only, so no value of it could satisfy the rule", text::article(kind)));
            }
            Found::Unavailable => hints.add(format!(
                "{field} {}: Istio drops the condition from a {} rule, which then matches more",
                super::unknown::unknown(hop, &leaf.field),
                denying.policy.action
            )),
            _ => {}
        }
    }
}

fn of_leaf(hints: &mut Hints, case: &Case<'_>, hop: &HopTrace, leaf: &LeafTrace) {
    let field = text::plain(&leaf.field);
    match &leaf.found {
        Found::WrongType(kind) => {
            hints.add(format!(
                "{field} is {}: Istio matches strings and lists of strings only; let the issuer write it as one",
                text::article(kind)
            ));
        }
        Found::Missing
            if matches!(leaf.field.as_str(), "principals" | "namespaces" | "serviceAccounts" | "trustDomains") =>
        {
            hints.add(format!("{field} needs mutual TLS, and this connection is plaintext; is the client outside the mesh, or mTLS not STRICT?"));
        }
        Found::Missing => {
            let header = leaf.field.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(name) = header
                && hop.authentication.iter().any(|rule| super::placement::reads(rule, name))
            {
                hints.add(format!(
                    "{field} was there: a verified credential is taken off before policies look, unless it is forwarded; ask for requestPrincipals or a claim"
                ));
            }
            if let Some(token) = case.tokens.iter().find_map(Presented::token)
                && let Some(name) =
                    leaf.field.strip_prefix("request.auth.claims[").and_then(|rest| rest.split(']').next())
                && let Some(similar) =
                    token.claims.iter().find(|claim| claim.eq_ignore_ascii_case(name) && *claim != name)
            {
                hints.add(format!(
                    "the token has the claim {}, the rule looks at {}: names have case",
                    text::value(similar),
                    text::value(name)
                ));
            }
        }
        Found::Values(found) => {
            for value in found {
                for wanted in &leaf.wanted {
                    of_pair(hints, hop, leaf, value, wanted);
                }
            }
        }
        Found::Unavailable => {}
    }
    if let Some(sub) = case.tokens.iter().find_map(Presented::token).and_then(|token| token.sub.as_ref())
        && sub.contains('/')
        && is_request_principal(&leaf.field)
    {
        hints.add(format!(
            "the token's sub {} has a /: a value of {field} is split at its last /, so no exact one can match; use request.auth.claims[iss] and [sub]",
            text::value(sub)
        ));
    }
}

fn is_request_principal(field: &str) -> bool {
    matches!(field, "requestPrincipals" | "request.auth.principal")
}

/// One value that was found and one that was wanted.
fn of_pair(hints: &mut Hints, hop: &HopTrace, leaf: &LeafTrace, found: &str, wanted: &str) {
    if leaf.negated {
        return;
    }
    let field = leaf.field.as_str();
    let (shown, pattern) = (text::value(found), text::value(wanted));
    let stem = wanted.trim_end_matches('*');
    let is_path = field == "paths";
    let is_host = field == "hosts";
    let is_template = wanted.contains("{*}") || wanted.contains("{**}");
    let starts = |text: &str, start: &str| text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
    let alike = found.eq_ignore_ascii_case(wanted)
        || (wanted.ends_with('*') && !stem.is_empty() && starts(found, stem) && !found.starts_with(stem));
    if alike && !is_host {
        hints.add(format!("{field}: {shown} and {pattern} differ in case only, and case counts here"));
    } else if is_path && found != wanted && found.trim_end_matches('/') == wanted.trim_end_matches('/') {
        hints.add(format!("paths: {shown} and {pattern} differ in a / at the end only: list both"));
    } else if is_path && stem.strip_suffix('/') == Some(found) {
        hints.add(format!("paths: {pattern} does not match {shown} itself: list both"));
    } else if is_path && wanted.contains(['?', '#']) {
        hints.add(format!("paths: {pattern} can never match: the path is compared without its query"));
    } else if is_host && text::without_port(found) != found && text::without_port(found).eq_ignore_ascii_case(wanted) {
        hints.add(format!("hosts: {shown} has a port and {pattern} has none: Istio strips no port, so list both"));
    } else if is_host && text::without_port(wanted) != wanted && text::without_port(wanted).eq_ignore_ascii_case(found)
    {
        hints.add(format!("hosts: {pattern} has a port and {shown} has none: list both"));
    } else if matches!(field, "principals" | "source.principal") && wanted.starts_with("spiffe://") {
        hints.add(format!("{field}: Istio puts spiffe:// in front of {pattern} itself: write it without"));
    } else if matches!(field, "principals" | "source.principal")
        && found.split_once("/ns/").map(|(_, rest)| rest) == wanted.split_once("/ns/").map(|(_, rest)| rest)
        && found.contains("/ns/")
    {
        hints.add(format!(
            "{field}: {shown} and {pattern} differ in the trust domain only; is an alias missing in trustDomainAliases?"
        ));
    } else if is_request_principal(field) {
        of_request_principal(hints, field, found, wanted);
    } else if wanted.trim_matches('*').contains('*')
        && !is_template
        && !field.to_ascii_lowercase().contains("namespace")
    {
        hints.add(format!(
            "{field}: a * in the middle of {pattern} is taken literally; only one at an end is a wildcard"
        ));
    } else if wanted.len() > 1 && wanted.starts_with('*') && wanted.ends_with('*') {
        hints.add(format!(
            "{field}: {pattern} means \"ends with {}\": only the first * is a wildcard",
            text::plain(wanted.strip_prefix('*').unwrap_or_default())
        ));
    } else if field.starts_with("request.auth.claims") && found.split([' ', ',']).any(|word| word == wanted) {
        hints.add(format!(
            "{field}: {shown} has {pattern} in it, as one string; only scope and permission are split at spaces, others with spaceDelimitedClaims"
        ));
    } else if found.trim() == wanted {
        hints.add(format!("{field}: {shown} has white space at an end"));
    } else if hop.hop == Hop::Destination && matches!(field, "principals" | "namespaces" | "serviceAccounts") {
        hints.add("at the destination the peer is the gateway, never the client behind it".to_owned());
    }
}

fn of_request_principal(hints: &mut Hints, field: &str, found: &str, wanted: &str) {
    let squeezed = |text: &str| text.replacen("://", ":", 1).replace("//", "/");
    if found != wanted && squeezed(found) == squeezed(wanted) {
        hints.add(format!(
            "{field}: {} and {} differ in a / behind the issuer: the token's iss ends with one, or the policy's value has one too many",
            text::value(found),
            text::value(wanted)
        ));
    } else if let Some(issuer) =
        wanted.strip_suffix('*').filter(|issuer| !issuer.ends_with('/') && issuer.contains("://"))
    {
        hints.add(format!(
            "{field}: {} is split at its last /: it means the issuer {} and a subject that begins with {}; write {issuer}/* for every subject",
            text::value(wanted),
            text::value(issuer.rsplit_once('/').map_or("", |(issuer, _)| issuer)),
            text::value(issuer.rsplit_once('/').map_or("", |(_, subject)| subject)),
        ));
    }
}
