//! What a request must look like for a route.

use std::collections::{BTreeMap, BTreeSet};

use istio::{HttpMatch, HttpRoute, VirtualService};

use super::labels::{Labels, listed};
use crate::string_match::Matcher;
use crate::table::{Match, StringMatch};

/// The word of `gateways` for clients inside the mesh, such as ours.
pub(super) const MESH: &str = "mesh";

/// Whether a match is for clients of `namespace` at `port`; and whether their labels count. As Istio's
/// `sourceMatchHTTP`: with `gateways` nothing else of the source counts.
pub(super) fn is_for(found: &HttpMatch, namespace: &str, port: u16) -> bool {
    if found.port.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if !found.gateways.is_empty() {
        return found.gateways.iter().any(|gateway| gateway == MESH);
    }
    found.source_namespace.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == namespace)
}

/// The label conditions of a `VirtualService` that has no route for every workload at every port: where a workload
/// meets none of them, the hosts may have Istio's default route instead. Otherwise there are none.
pub(super) fn decisive_labels(service: &VirtualService) -> BTreeSet<Labels> {
    let is_for_all = |http: &HttpRoute| {
        http.matches.is_empty()
            || http.matches.iter().any(|found| {
                let is_of_mesh = found.gateways.iter().any(|gateway| gateway == MESH);
                let is_of_all = found.source_labels.is_empty() && found.source_namespace.is_none();
                found.port.is_none() && (is_of_mesh || (found.gateways.is_empty() && is_of_all))
            })
    };
    if service.http.iter().any(is_for_all) {
        return BTreeSet::new();
    }
    let matches = service.http.iter().flat_map(|http| &http.matches).filter(|found| found.gateways.is_empty());
    matches.map(|found| found.source_labels.clone()).filter(|labels| !labels.is_empty()).collect()
}

/// The compiled form.
pub(super) fn compiled(found: &HttpMatch) -> Result<Match, String> {
    let made = Match {
        uri: unless_any(found.uri.as_ref()),
        ignore_uri_case: found.ignore_uri_case,
        scheme: unless_any(found.scheme.as_ref()),
        method: unless_any(found.method.as_ref()),
        authority: unless_any(found.authority.as_ref()),
        headers: headers("headers", &found.headers)?,
        without_headers: headers("withoutHeaders", &found.without_headers)?,
        query: found.query_params.iter().map(|(name, text)| (name.clone(), compared(text))).collect(),
        source_labels: if found.gateways.is_empty() { listed(&found.source_labels) } else { Vec::new() },
    };
    let single =
        [("uri", &made.uri), ("scheme", &made.scheme), ("method", &made.method), ("authority", &made.authority)];
    let mut parts: Vec<(String, &StringMatch)> =
        single.iter().filter_map(|(name, text)| Some(((*name).to_owned(), (*text).as_ref()?))).collect();
    for (part, list) in
        [("headers", &made.headers), ("withoutHeaders", &made.without_headers), ("queryParams", &made.query)]
    {
        parts.extend(list.iter().map(|(name, text)| (format!("{part}.{name}"), text)));
    }
    for (path, text) in parts {
        Matcher::new(text, made.ignore_uri_case && path == "uri").map_err(|problem| format!("{path}: {problem}"))?;
    }
    Ok(made)
}

/// Whether every request of every workload matches, so that nothing after it is ever reached.
pub(super) fn takes_all(made: &Match) -> bool {
    let Match { uri, ignore_uri_case: _, scheme, method, authority, headers, without_headers, query, source_labels } =
        made;
    let is_any_path = match uri {
        None => true,
        Some(StringMatch::Prefix(prefix)) => prefix == "/",
        Some(StringMatch::Regex(regex)) => regex == ".*",
        Some(_) => false,
    };
    is_any_path
        && scheme.is_none()
        && method.is_none()
        && authority.is_none()
        && headers.is_empty()
        && without_headers.is_empty()
        && query.is_empty()
        && source_labels.is_empty()
}

fn headers(path: &str, found: &BTreeMap<String, istio::StringMatch>) -> Result<Vec<(String, StringMatch)>, String> {
    let claim = found.keys().find(|name| name.starts_with("@request."));
    if let Some(claim) = claim {
        return Err(format!("{path}: {claim:?} is not supported: no token is checked on the way out"));
    }
    Ok(found.iter().map(|(name, text)| (name.to_ascii_lowercase(), compared(text))).collect())
}

/// What is always there matches whenever it is compared with anything.
fn unless_any(found: Option<&istio::StringMatch>) -> Option<StringMatch> {
    found.map(compared).filter(|text| *text != StringMatch::Present)
}

/// "`*` is NOT a RE2 style regex, it's a metacharacter. It will be translated as present_match".
fn compared(found: &istio::StringMatch) -> StringMatch {
    match found {
        istio::StringMatch::Exact(text) => StringMatch::Exact(text.clone()),
        istio::StringMatch::Prefix(text) => StringMatch::Prefix(text.clone()),
        istio::StringMatch::Regex(text) if text == "*" => StringMatch::Present,
        istio::StringMatch::Regex(text) => StringMatch::Regex(text.clone()),
        istio::StringMatch::Present => StringMatch::Present,
    }
}
