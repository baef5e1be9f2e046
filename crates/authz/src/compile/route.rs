//! What of a `VirtualService`'s routes can be judged at an API.

use istio::{ApiGateway, Destination, HeaderOperations, HttpAction, HttpMatch, HttpRoute, StringMatch};

use crate::compiled::UriMatch;

/// The matches of `route` that are for the gateway which `api` plays at `port`; `None` when the route is not for it.
/// `Some` of an empty list matches every request.
pub(super) fn matches_of_gateway<'a>(
    route: &'a HttpRoute,
    api: &ApiGateway,
    port: Option<u16>,
) -> Result<Option<Vec<&'a HttpMatch>>, String> {
    if route.matches.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let mut matches = Vec::new();
    for only in &route.matches {
        if is_for_gateway(only, api, port)? {
            matches.push(only);
        }
    }
    Ok((!matches.is_empty()).then_some(matches))
}

/// Istio (`TranslateRoute`, `sourceMatchHTTP`): the port is that of the listener; with `gateways` only they count of the
/// source, without them its labels and its namespace.
fn is_for_gateway(only: &HttpMatch, api: &ApiGateway, port: Option<u16>) -> Result<bool, String> {
    let workload = &api.workload;
    if !only.gateways.is_empty() {
        if !only.gateways.contains(&api.gateway) {
            return Ok(false);
        }
    } else if only.source_namespace.as_ref().is_some_and(|namespace| *namespace != workload.namespace) {
        return Ok(false);
    } else {
        let value = |name: &String| workload.labels.get(name);
        if only.source_labels.iter().any(|(name, expected)| value(name).is_some_and(|value| value != expected)) {
            return Ok(false);
        }
        if let Some(unknown) = only.source_labels.keys().find(|name| value(name).is_none()) {
            return Err(format!(
                "`sourceLabels` names the label {unknown}, which the workload of the ApiGateway {}/{} does not say; add it \
                 there, or leave it out here",
                api.meta.namespace, api.meta.name
            ));
        }
    }
    match (only.port, port) {
        (None, _) => Ok(true),
        (Some(wanted), Some(port)) => Ok(wanted == port),
        (Some(_), None) => {
            Err("a match by `port` is not supported for an API whose Gateway has several ports".to_owned())
        }
    }
}

/// The only destination of a route: what else a route can do with a request is not done at an API, whose integration is
/// chosen by API Gateway. A timeout and retries change no verdict.
pub(super) fn only_destination(route: &HttpRoute) -> Result<&Destination, String> {
    let destinations = match &route.action {
        HttpAction::Route(destinations) => destinations,
        HttpAction::Redirect(_) => return Err(not_forwarded("redirect")),
        HttpAction::DirectResponse(_) => return Err(not_forwarded("directResponse")),
    };
    let [only] = destinations.as_slice() else {
        return Err(format!(
            "weighted routes are not supported for an API: expected one destination, found {}",
            destinations.len()
        ));
    };
    let none = HeaderOperations::default();
    let named = [
        (route.rewrite.is_some(), "rewrite"),
        (route.fault.is_some(), "fault"),
        (!route.mirrors.is_empty(), "mirrors"),
        (route.headers != none, "headers"),
        (only.headers != none, "route[0].headers"),
        (route.has_cors_policy, "corsPolicy"),
        (only.destination.subset.is_some(), "route[0].destination.subset"),
    ];
    match named.iter().find(|(has, _)| *has) {
        Some((_, name)) => Err(format!("`{name}` is not supported for an API, whose requests API Gateway forwards")),
        None => Ok(&only.destination),
    }
}

fn not_forwarded(name: &str) -> String {
    format!("`{name}` is not supported for an API, which cannot answer by itself: expected `route` with a destination")
}

pub(super) fn uri_matches(matches: &[&HttpMatch]) -> Result<Vec<UriMatch>, String> {
    matches.iter().map(|only| uri_match(only)).collect()
}

fn uri_match(only: &HttpMatch) -> Result<UriMatch, String> {
    let HttpMatch {
        // For logs.
        name: _,
        uri,
        ignore_uri_case,
        scheme,
        method,
        authority,
        headers,
        without_headers,
        query_params,
        // Whether the match is for the gateway at all was asked before.
        port: _,
        source_labels: _,
        source_namespace: _,
        gateways: _,
    } = only;
    let named = [
        (*ignore_uri_case, "ignoreUriCase"),
        (scheme.is_some(), "scheme"),
        (method.is_some(), "method"),
        (authority.is_some(), "authority"),
        (!headers.is_empty(), "headers"),
        (!without_headers.is_empty(), "withoutHeaders"),
        (!query_params.is_empty(), "queryParams"),
    ];
    if let Some((_, name)) = named.iter().find(|(has, _)| *has) {
        return Err(format!("a match by `{name}` is not supported for an API, only by `uri`"));
    }
    match uri {
        None => Ok(UriMatch::Any),
        Some(StringMatch::Exact(text)) => Ok(UriMatch::Exact(text.clone())),
        Some(StringMatch::Prefix(text)) => Ok(UriMatch::Prefix(text.clone())),
        Some(StringMatch::Regex(_) | StringMatch::Present) => {
            Err("`uri.regex` is not supported for an API; use `exact` or `prefix`".to_owned())
        }
    }
}
