use super::super::check::{dns_label, host};
use super::super::headers::header_operations;
use super::super::read::{At, Mapping};
use super::super::retry::http_retry;
use super::action::{direct_response, redirect, rewrite};
use super::fault::fault;
use super::http_match::http_match;
use crate::{Destination, HttpAction, HttpMirror, HttpRoute, HttpRouteDestination, Percent, StringMatch};

const ROUTE_NOT_YET: &[&str] = &["delegate"];
const ACTIONS: &[&str] = &["route", "redirect", "directResponse"];
/// What Istio refuses beside `redirect` and `directResponse`.
const WITH_ROUTE: &[&str] = &["fault", "rewrite"];

pub(super) fn http_route(at: &At<'_>, namespace: &str) -> Option<HttpRoute> {
    at.mapping(ROUTE_NOT_YET, |fields| {
        let name = fields.string("name").unwrap_or_default();
        let matches = fields.list("match", |at| http_match(at, namespace)).unwrap_or_default();
        let action = action(fields);
        let rewrite = fields.field("rewrite").and_then(|at| rewrite(&at));
        let timeout = fields.whole_milliseconds("timeout");
        let retries = fields.field("retries").and_then(|at| http_retry(&at));
        let fault = fields.field("fault").and_then(|at| fault(&at));
        let mirrors = mirrors(fields);
        let headers = fields.field("headers").and_then(|at| header_operations(&at)).unwrap_or_default();
        // What it says is for browsers, and read by nobody here.
        let has_cors_policy = fields.field("corsPolicy").is_some();
        // Istio (`validateAuthorityRewrite`).
        if rewrite.as_ref().is_some_and(|rewrite| rewrite.authority.is_some())
            && headers.request.set.contains_key("host")
        {
            fields
                .at
                .error("the authority header cannot be set multiple times; keep `rewrite.authority` or the header");
        }
        let action = action?;
        if matches!(&action, HttpAction::Redirect(redirect) if redirect.prefix_rewrite.is_some())
            && matches.iter().filter_map(|found| found.uri.as_ref()).any(|uri| !matches!(uri, StringMatch::Prefix(_)))
        {
            // Istio: "redirect prefix_rewrite requires all URI matches to use prefix match type".
            fields.at.error("`redirect.prefixRewrite` needs `prefix` in every match of `uri`");
        }
        if !matches!(action, HttpAction::Route(_)) {
            for name in WITH_ROUTE {
                if let Some(at) = fields.name_of(name) {
                    at.error(format!("`{name}` goes with `route` only"));
                }
            }
        }
        Some(HttpRoute { name, matches, action, rewrite, timeout, retries, fault, mirrors, headers, has_cors_policy })
    })
}

fn action(fields: &mut Mapping<'_>) -> Option<HttpAction> {
    let given: Vec<_> = ACTIONS.iter().filter(|name| fields.has(name)).collect();
    if let [first, second, ..] = given.as_slice() {
        fields.at.error(format!("`{first}` and `{second}` exclude each other; keep one"));
    }
    let destinations = fields.field("route").map(|at| destinations(&at));
    let redirect = fields.field("redirect").map(|at| redirect(&at));
    let direct = fields.field("directResponse").map(|at| direct_response(&at));
    match (destinations, redirect, direct) {
        (Some(destinations), ..) => Some(HttpAction::Route(destinations)),
        (None, Some(redirect), _) => Some(HttpAction::Redirect(redirect?)),
        (None, None, Some(direct)) => Some(HttpAction::DirectResponse(direct?)),
        (None, None, None) => {
            // A delegate has its error already.
            if !fields.has("delegate") {
                fields.at.error("one of the fields `route`, `redirect` and `directResponse` is missing");
            }
            None
        }
    }
}

fn destinations(at: &At<'_>) -> Vec<HttpRouteDestination> {
    let elements = at.elements();
    let routes: Vec<_> = elements.iter().filter_map(weighted).collect();
    // Istio: "total destination weight = 0". Its sum is of type int32.
    let sum: u64 = routes.iter().map(|route| u64::from(route.weight)).sum();
    if routes.len() > 1 && sum == 0 {
        at.error("expected weights that sum to more than 0");
    }
    if i32::try_from(sum).is_err() {
        at.error(format!("expected weights that sum to at most {}, found {sum}", i32::MAX));
    }
    routes
}

fn weighted(at: &At<'_>) -> Option<HttpRouteDestination> {
    at.mapping(&[], |fields| {
        let destination = fields.required("destination").and_then(|at| destination(&at));
        let weight = match fields.field("weight") {
            None => Some(0),
            Some(at) => at.count(),
        };
        let headers = fields.field("headers").and_then(|at| header_operations(&at)).unwrap_or_default();
        Some(HttpRouteDestination { destination: destination?, weight: weight?, headers })
    })
}

fn destination(at: &At<'_>) -> Option<Destination> {
    at.mapping(&[], |fields| {
        let host = fields.required("host").and_then(|at| host(&at, false));
        let subset = fields.field("subset").and_then(|at| dns_label(&at, "a subset"));
        let port = fields.field("port").and_then(|port| port.mapping(&[], |fields| fields.required("number")?.port()));
        Some(Destination { host: host?, subset, port })
    })
}

/// `mirrors`, or `mirror` with its share.
fn mirrors(fields: &mut Mapping<'_>) -> Vec<HttpMirror> {
    let single = fields.field("mirror");
    let share = single_share(fields, single.is_some());
    let several = fields.field("mirrors");
    if single.is_some() && several.is_some() {
        // Istio: "HTTP route cannot contain both mirror and mirrors".
        fields.at.error("`mirror` and `mirrors` exclude each other; keep one");
    }
    let single = single.and_then(|at| destination(&at));
    let single = single.map(|destination| HttpMirror { destination, percentage: share });
    let several = several.and_then(|at| at.list()).unwrap_or_default();
    single.into_iter().chain(several.iter().filter_map(mirror)).collect()
}

/// Istio (`MirrorPercent`): `mirrorPercentage` counts before the older `mirrorPercent`; without both it is all.
fn single_share(fields: &mut Mapping<'_>, has_mirror: bool) -> Percent {
    let mut older = Vec::new();
    // Istio's schema has both spellings.
    for name in ["mirrorPercent", "mirror_percent"] {
        older.extend(fields.field(name));
    }
    let newer = fields.field("mirrorPercentage");
    if let [_, second, ..] = older.as_slice() {
        second.error("`mirrorPercent` and `mirror_percent` are the same field; keep one");
    }
    if !has_mirror && let Some(at) = newer.iter().chain(&older).next() {
        // Istio reads it for `mirror` alone.
        at.error("a share without `mirror` does nothing; `mirrors` have a `percentage` each");
    }
    let newer = newer.and_then(|at| at.percentage(false));
    let older = older.first().and_then(At::whole_percent);
    newer.or(older.map(|percent| Percent::from_millionths(percent * 10_000))).unwrap_or(Percent::ALL)
}

fn mirror(at: &At<'_>) -> Option<HttpMirror> {
    at.mapping(&[], |fields| {
        let destination = fields.required("destination").and_then(|at| destination(&at));
        let percentage = match fields.field("percentage") {
            None => Some(Percent::ALL),
            Some(at) => at.percentage(false),
        };
        Some(HttpMirror { destination: destination?, percentage: percentage? })
    })
}
