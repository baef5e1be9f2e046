//! `when[]`.

use super::operation::port;
use super::source::{ip_block, service_accounts, with_wildcard};
use crate::yaml::nearest::{nearest, one_of, quoted};
use crate::yaml::read::{At, Mapping};
use crate::{Action, Condition, ConditionKey};

const KEYS: &[(&str, ConditionKey)] = &[
    ("connection.sni", ConditionKey::ConnectionSni),
    ("destination.ip", ConditionKey::DestinationIp),
    ("destination.port", ConditionKey::DestinationPort),
    ("remote.ip", ConditionKey::RemoteIp),
    ("request.auth.audiences", ConditionKey::RequestAuthAudiences),
    ("request.auth.presenter", ConditionKey::RequestAuthPresenter),
    ("request.auth.principal", ConditionKey::RequestAuthPrincipal),
    ("source.ip", ConditionKey::SourceIp),
    ("source.namespace", ConditionKey::SourceNamespace),
    ("source.principal", ConditionKey::SourcePrincipal),
    ("source.serviceAccount", ConditionKey::SourceServiceAccount),
    ("source.trustDomain", ConditionKey::SourceTrustDomain),
];
/// Keys with a name in brackets.
const HEADERS: &str = "request.headers";
const CLAIMS: &str = "request.auth.claims";
const FILTERS: &str = "experimental.envoy.filters.";

pub(super) fn condition(at: &At<'_>, action: Action) -> Option<Condition> {
    at.mapping(&[], |fields| {
        let key = fields.required("key").and_then(|at| {
            let key = condition_key(&at)?;
            if action == Action::Custom && !with_custom(&key) {
                at.error(format!("the key `{key}` is not supported by Istio with the action CUSTOM"));
            }
            Some(key)
        });
        let values = values(fields, "values", key.as_ref());
        let not_values = self::values(fields, "notValues", key.as_ref());
        // Istio: "at least one of `values` or `notValues` must be set".
        if values.is_empty() && not_values.is_empty() && fields.clean() {
            fields.at.error("expected `values` or `notValues` with at least one element");
        }
        Some(Condition { key: key?, values, not_values })
    })
}

/// Istio (`ValidateAttribute`): what a value may be depends on the key; none is ever empty.
fn values(fields: &mut Mapping<'_>, name: &'static str, key: Option<&ConditionKey>) -> Vec<String> {
    let checked = |check: fn(&At<'_>) -> bool| move |at: &At<'_>| at.non_empty_string().filter(|_| check(at));
    match key {
        Some(ConditionKey::DestinationIp | ConditionKey::RemoteIp | ConditionKey::SourceIp) => {
            fields.list(name, checked(|at| ip_block(at).is_some())).unwrap_or_default()
        }
        Some(ConditionKey::DestinationPort) => fields.list(name, checked(|at| port(at).is_some())).unwrap_or_default(),
        Some(ConditionKey::SourceServiceAccount) => service_accounts(fields, name),
        Some(ConditionKey::SourceTrustDomain) => fields.list(name, with_wildcard).unwrap_or_default(),
        Some(
            ConditionKey::ConnectionSni
            | ConditionKey::EnvoyFilter { .. }
            | ConditionKey::RequestAuthAudiences
            | ConditionKey::RequestAuthClaims(_)
            | ConditionKey::RequestAuthPresenter
            | ConditionKey::RequestAuthPrincipal
            | ConditionKey::RequestHeader(_)
            | ConditionKey::SourceNamespace
            | ConditionKey::SourcePrincipal,
        )
        | None => fields.strings(name),
    }
}

/// Istio: "… is currently not supported with CUSTOM action", for the same reason as the fields of a source.
fn with_custom(key: &ConditionKey) -> bool {
    match key {
        ConditionKey::RequestAuthAudiences
        | ConditionKey::RequestAuthClaims(_)
        | ConditionKey::RequestAuthPresenter
        | ConditionKey::RequestAuthPrincipal
        | ConditionKey::SourceNamespace
        | ConditionKey::SourcePrincipal
        | ConditionKey::SourceServiceAccount
        | ConditionKey::SourceTrustDomain => false,
        ConditionKey::ConnectionSni
        | ConditionKey::DestinationIp
        | ConditionKey::DestinationPort
        | ConditionKey::EnvoyFilter { .. }
        | ConditionKey::RemoteIp
        | ConditionKey::RequestHeader(_)
        | ConditionKey::SourceIp => true,
    }
}

fn condition_key(at: &At<'_>) -> Option<ConditionKey> {
    let key = at.non_empty_string()?;
    let known = KEYS.iter().find(|(name, _)| *name == key).map(|(_, known)| known.clone());
    let known = known.or_else(|| bracketed_key(&key));
    if known.is_none() {
        at.error(refused_key(&key));
    }
    known
}

/// Istio (`validateMapKey`): "should have format a[b]".
fn bracketed_key(key: &str) -> Option<ConditionKey> {
    if let Some(name) = key.strip_prefix(HEADERS) {
        // Istio's check lets text stand in front of the bracket; its matcher then has no header to look at.
        return Some(ConditionKey::RequestHeader(in_brackets(name)?.to_owned()));
    }
    if let Some(names) = key.strip_prefix(CLAIMS) {
        let whole = in_brackets(names)?;
        return Some(ConditionKey::RequestAuthClaims(claim_names(names, whole)));
    }
    key.strip_prefix(FILTERS)?;
    // Istio (`envoyFilterGenerator`): everything between the first `[` and the last `]` is one name.
    let (filter, name) = key.strip_prefix("experimental.")?.split_once('[')?;
    let name = name.strip_suffix(']').filter(|name| !name.is_empty())?;
    Some(ConditionKey::EnvoyFilter { filter: filter.to_owned(), path: vec![name.to_owned()] })
}

fn refused_key(key: &str) -> String {
    let shown = quoted(key);
    let before_bracket = key.split('[').next().unwrap_or_default();
    match before_bracket {
        HEADERS | CLAIMS => return format!("expected `{before_bracket}[NAME]`, found {shown}"),
        // Istio: "attribute … is replaced by the metadata.namespace", "… by the workload selector".
        "destination.namespace" => {
            return format!("the key {shown} is not supported by Istio; put the policy into that namespace");
        }
        _ if key.starts_with("destination.labels") => {
            return format!("the key {shown} is not supported by Istio; use the policy's `selector`");
        }
        // Istio: "deprecated attribute …: only supported in v1alpha1".
        "destination.name" | "destination.user" => {
            return format!("the key {shown} is not supported by Istio any more; use the policy's `selector`");
        }
        _ if key.starts_with(FILTERS) => return format!("expected `{FILTERS}NAME[KEY]`, found {shown}"),
        _ => {}
    }
    let known = KEYS.iter().map(|(name, _)| *name);
    let known =
        known.chain(["request.headers[NAME]", "request.auth.claims[NAME]", "experimental.envoy.filters.NAME[KEY]"]);
    match nearest(key, known.clone()) {
        Some(known) => format!("unknown key {shown}; did you mean `{known}`?"),
        None => format!("unknown key {shown}; expected {}", one_of(known)),
    }
}

/// The text between the first `[` and the last `]`, not empty.
fn in_brackets(text: &str) -> Option<&str> {
    let name = text.strip_prefix('[')?.strip_suffix(']')?;
    Some(name).filter(|name| !name.is_empty())
}

/// `[a][b]` → `a`, `b`. Istio (`extractNameInNestedBrackets`): when the brackets do not pair up, the
/// whole text between the first and the last one is one name.
fn claim_names(brackets: &str, whole: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = brackets;
    while !rest.is_empty() {
        let name = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match name {
            Some((name, after)) if !name.contains('[') => {
                names.push(name.to_owned());
                rest = after;
            }
            _ => return vec![whole.to_owned()],
        }
    }
    names
}
