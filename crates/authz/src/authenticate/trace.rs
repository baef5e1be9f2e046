//! The same authentication, shown to a person: what each rule found, and what came of it.

use super::keys::{KeyContext, authenticate_key, presented_key};
use super::tokens::{Step, authenticate_token, check_required, tokens_of};
use super::{TokenSources, Visible, is_preflight, jwt_rules, output};
use crate::claims::Claims;
use crate::compiled::ArchivedJwtRule;
use crate::jwk::KeySets;
use crate::jwt::TokenRefusal;
use crate::policies::{Applicable, Policies};
use crate::request::lines;
use crate::trace::{CredentialOutcome, CredentialTrace};

/// What each rule of the workload found and made of it: `ApiKeyAuthentication`s first, then the JWT rules in the order
/// in which they are asked. No credential is in it.
pub(crate) fn trace(
    policies: &Policies,
    applicable: Applicable<'_>,
    visible: &Visible,
    method: &str,
    keys: &KeySets,
    key: &KeyContext<'_>,
    now: u64,
) -> Vec<CredentialTrace> {
    let mode = policies.mode();
    let mut visible = visible.clone();
    let named = named_rules(applicable);
    let rules = jwt_rules(applicable);
    output::remove_outputs(&rules, &mut visible);

    let mut traces: Vec<CredentialTrace> = applicable
        .named_api_key_authentications()
        .map(|(namespace, authentication)| CredentialTrace {
            kind: "ApiKeyAuthentication".to_owned(),
            namespace: namespace.to_owned(),
            name: authentication.name.as_str().to_owned(),
            rule: 0,
            issuer: authentication.issuer.as_str().to_owned(),
            places: vec![format!("header {}", authentication.header_name)],
            found: lines(&visible.headers, authentication.header_name.as_str()).count(),
            outcome: CredentialOutcome::Absent,
            reason: None,
            detail: String::new(),
        })
        .collect();
    let presented = matches!(presented_key(applicable, &visible.headers), Err(_) | Ok(Some(_)));
    let by_key = authenticate_key(applicable, &mut visible, key, now);
    for trace in traces.iter_mut().filter(|trace| presented && trace.found > 0) {
        match &by_key {
            Ok(Some(by_key)) => valid(trace, &by_key.claims),
            Ok(None) => {}
            Err(refusal) => refuse(trace, refusal),
        }
    }
    let key_traces = traces.len();
    traces.extend(named.iter().map(|(namespace, name, index, rule)| CredentialTrace {
        kind: "RequestAuthentication".to_owned(),
        namespace: (*namespace).to_owned(),
        name: (*name).to_owned(),
        rule: *index,
        issuer: rule.issuer.as_str().to_owned(),
        places: places(rule),
        found: tokens_of(rule, &visible.headers, &visible.path, mode).len(),
        outcome: CredentialOutcome::NotAsked,
        reason: None,
        detail: String::new(),
    }));
    let Some(tokens) = traces.get_mut(key_traces..) else { return traces };
    let by_key = match by_key {
        Ok(by_key) => by_key,
        // The request is refused already.
        Err(_) => return traces,
    };
    if is_preflight(method, &visible.headers) {
        for trace in tokens {
            trace.detail = "a CORS preflight is not asked for a token".to_owned();
        }
        return traces;
    }
    let sources = TokenSources { policies, keys, now };
    let required =
        check_required(&rules, &visible.headers, &visible.path, by_key.as_ref().map(|by_key| by_key.issuer), mode);
    if let Err(refusal) = &required {
        // The rule that misses its token; its own detail names the issuer.
        for (trace, rule) in tokens.iter_mut().zip(&rules) {
            if rule.required && trace.found == 0 {
                refuse(trace, refusal);
                break;
            }
        }
        return traces;
    }
    // The answer itself is the decision's; what is shown here are the steps to it.
    let _ = authenticate_token(&rules, &visible.headers, &visible.path, &sources, key, |index, found, step| {
        let Some(trace) = tokens.get_mut(index) else { return };
        trace.found = found;
        match step {
            Step::Absent => trace.outcome = CredentialOutcome::Absent,
            Step::Valid(claims) => valid(trace, claims),
            Step::Refused(refusal) => refuse(trace, refusal),
        }
    });
    traces
}

fn valid(trace: &mut CredentialTrace, claims: &Claims) {
    trace.outcome = CredentialOutcome::Valid;
    trace.detail = claims.principal().unwrap_or_default();
}

fn refuse(trace: &mut CredentialTrace, refusal: &TokenRefusal) {
    trace.outcome = CredentialOutcome::Refused;
    trace.reason = Some(refusal.reason);
    trace.detail.clone_from(&refusal.detail);
}

/// The rules of [`jwt_rules`], in the same order, with namespace and name of their document and their place in it.
fn named_rules(applicable: Applicable<'_>) -> Vec<(&str, &str, usize, &ArchivedJwtRule)> {
    let mut named: Vec<_> = applicable
        .named_request_authentications()
        .flat_map(|(namespace, authentication)| {
            let rules = authentication.rules.iter().enumerate();
            rules.map(move |(index, rule)| (namespace, authentication.name.as_str(), index, rule))
        })
        .collect();
    named.sort_by(|(.., a), (.., b)| a.issuer.as_str().cmp(b.issuer.as_str()));
    named
}

fn places(rule: &ArchivedJwtRule) -> Vec<String> {
    let headers = rule.headers.iter().map(|header| match header.prefix.as_str() {
        "" => format!("header {}", header.name),
        prefix => format!("header {} (after {prefix:?})", header.name),
    });
    let parameters = rule.parameters.iter().map(|name| format!("query parameter {name}"));
    let cookies = rule.cookies.iter().map(|name| format!("cookie {name}"));
    headers.chain(parameters).chain(cookies).collect()
}
