//! From the `http` routes of a `VirtualService` to those of a host at a port.

use istio::{Destination, HttpAction, HttpRoute, HttpRouteDestination, MeshConfig, VirtualService};

use super::cluster::{Client, Clusters, Found};
use super::hosts::Scope;
use super::pool::ms;
use super::registry::Registry;
use super::report::Report;
use super::{header, hostname, matches, retry};
use crate::table::{
    AbortStatus, Action, Direct, Fault, Forward, HeaderOps, Match, Mirror, Redirect, RedirectPort, RetryPolicy,
    Rewrite, Route, Weighted,
};

/// What a `VirtualService` says for one client at one port.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Empty when nothing of it is for this client and port.
    pub(super) routes: Vec<Route>,
    /// Whether any request can be answered otherwise than with 503.
    pub(super) is_alive: bool,
    /// What is wrong with it, to be said if it is used.
    pub(super) errors: Vec<String>,
    /// As well.
    pub(super) warnings: Vec<String>,
}

/// Where a `VirtualService` is compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) service: &'a VirtualService,
    pub(super) client: Client<'a>,
    pub(super) port: u16,
    /// Whether the host is no service: a destination may then have another port than the client names.
    pub(super) is_foreign: bool,
}

/// What routes refer to.
#[derive(Debug)]
pub(super) struct World<'w, 'a, 'r> {
    pub(super) mesh: &'a MeshConfig,
    pub(super) registry: &'r Registry<'a>,
    pub(super) clusters: &'w mut Clusters<'a, 'r>,
    pub(super) scope: &'w Scope,
    pub(super) report: &'w mut Report,
}

/// As Istio's `BuildHTTPRoutesForVirtualService`.
pub(super) fn routes(place: &Place<'_>, world: &mut World<'_, '_, '_>) -> Made {
    let mut made = Made::default();
    for (index, http) in place.service.http.iter().enumerate() {
        let path = format!("spec.http[{index}]");
        let Some((matches, takes_all)) = matches_of(http, &path, place, &mut made) else { continue };
        let route = route(http, matches, &path, place, world, &mut made);
        made.routes.push(route);
        // Routes are taken in order, so nothing goes beyond this one.
        if takes_all {
            break;
        }
    }
    // "no routes matched": a workload that meets no condition is left with what the host has without this document.
    let decisive = matches::decisive_labels(place.service);
    let is_met =
        |found: &Match| found.source_labels.iter().all(|(name, value)| place.client.labels.get(name) == Some(value));
    let is_for_client = |route: &Route| route.matches.is_empty() || route.matches.iter().any(is_met);
    if !decisive.is_empty() && !made.routes.iter().any(is_for_client) {
        made.routes.clear();
    }
    made
}

/// The matches that are for this client and port, and whether nothing passes them; `None` when the route is not for it.
fn matches_of(http: &HttpRoute, path: &str, place: &Place<'_>, made: &mut Made) -> Option<(Vec<Match>, bool)> {
    if http.matches.is_empty() {
        return Some((Vec::new(), true));
    }
    let mut found = Vec::new();
    for (index, one) in http.matches.iter().enumerate() {
        if !matches::is_for(one, place.client.namespace, place.port) {
            continue;
        }
        match matches::compiled(one) {
            Ok(compiled) => {
                let takes_all = matches::takes_all(&compiled);
                found.push(compiled);
                if takes_all {
                    return Some((found, true));
                }
            }
            Err(problem) => made.errors.push(format!("{path}.match[{index}].{problem}")),
        }
    }
    (!found.is_empty()).then_some((found, false))
}

fn route(
    http: &HttpRoute,
    matches: Vec<Match>,
    path: &str,
    place: &Place<'_>,
    world: &mut World<'_, '_, '_>,
    made: &mut Made,
) -> Route {
    if http.has_cors_policy {
        made.errors
            .push(format!("{path}.corsPolicy: is not supported on the way out: browsers ask servers, expected none"));
    }
    let headers = header::operations(&http.headers);
    let mut timeout_ms = http.timeout.map_or(0, ms);
    let mut policy = RetryPolicy::default();
    let action = match &http.action {
        HttpAction::Redirect(redirect) => {
            made.is_alive = true;
            Action::Redirect(redirected(redirect, place.port))
        }
        HttpAction::DirectResponse(answer) => {
            made.is_alive = true;
            Action::Direct(Direct { status: answer.status, body: answer.body.clone() })
        }
        HttpAction::Route(destinations) => {
            let found = destinations_of(destinations, path, place, world, made);
            let is_hashed =
                destinations.len() == 1 && found.iter().any(|weighted| world.clusters.is_hashed(weighted.cluster));
            let asked = http.retries.as_ref().or(world.mesh.default_http_retry_policy.as_ref());
            match retry::policy(asked, is_hashed, timeout_ms) {
                Ok((made_policy, idle)) => {
                    policy = made_policy;
                    let said = |word: String| format!("{path}.retries.retryOn: {word:?} has no effect here");
                    made.warnings.extend(idle.into_iter().map(said));
                }
                Err(problem) => made.errors.push(format!("{path}.retries.retryOn: {problem}")),
            }
            let rewrite = rewrite(http);
            if let Err(problem) = crate::rewrite::check(&rewrite) {
                made.errors.push(format!("{path}.{problem}"));
            }
            Action::Forward(Forward { destinations: found, rewrite })
        }
    };
    check_headers(&headers, &format!("{path}.headers"), made);
    let mirrors = mirrors_of(http, path, place, world, made);
    let fault = http.fault.as_ref().map(|fault| Fault {
        delay: fault.delay.as_ref().map(|delay| (delay.percentage.millionths(), ms(delay.fixed_delay))),
        abort: fault.abort.as_ref().map(|abort| {
            let status = match abort.status {
                istio::AbortStatus::Http(status) => AbortStatus::Http(status),
                istio::AbortStatus::Grpc(status) => AbortStatus::Grpc(status),
            };
            (abort.percentage.millionths(), status)
        }),
    });
    if fault.is_some() {
        // "Note that timeouts or retries will not be enabled when faults are enabled on the client side."
        (timeout_ms, policy) = (0, RetryPolicy::default());
    }
    Route { name: name(http, place), matches, action, headers, fault, mirrors, timeout_ms, retry: policy }
}

fn name(http: &HttpRoute, place: &Place<'_>) -> String {
    if !http.name.is_empty() {
        return http.name.clone();
    }
    place.service.hosts.first().map(|host| hostname::full(host, &place.service.meta.namespace)).unwrap_or_default()
}

/// The destinations that get anything.
fn destinations_of(
    routes: &[HttpRouteDestination],
    path: &str,
    place: &Place<'_>,
    world: &mut World<'_, '_, '_>,
    made: &mut Made,
) -> Vec<Weighted> {
    let mut found = Vec::new();
    let mut sum: u64 = 0;
    for (index, route) in routes.iter().enumerate() {
        // "Ignore 0 weighted clusters if there are other clusters in the route."
        if routes.len() > 1 && route.weight == 0 {
            continue;
        }
        let at = format!("{path}.route[{index}]");
        let headers = header::operations(&route.headers);
        check_headers(&headers, &format!("{at}.headers"), made);
        let cluster = destination(&route.destination, &format!("{at}.destination"), place, world, made);
        made.is_alive |= world.clusters.is_alive(cluster);
        let weight = if routes.len() == 1 { 1 } else { route.weight };
        sum += u64::from(weight);
        found.push(Weighted { cluster, weight, headers });
    }
    // Envoy: "the total weight must be at most uint32_t".
    if sum == 0 || u32::try_from(sum).is_err() {
        made.errors.push(format!("{path}.route: found weights that sum to {sum}, expected 1 to 4294967295"));
    }
    found
}

/// The cluster of a destination; one that leads nowhere where there is none.
fn destination(
    found: &Destination,
    path: &str,
    place: &Place<'_>,
    world: &mut World<'_, '_, '_>,
    made: &mut Made,
) -> u32 {
    let host = hostname::full(&found.host, &place.service.meta.namespace);
    let subset = found.subset.as_deref().unwrap_or_default();
    let documents = match world.scope.services_of(&host) {
        [] => world.registry.destination(&host, place.client.namespace),
        seen => seen.to_vec(),
    };
    let ports: Vec<(usize, u16)> = documents
        .iter()
        .flat_map(|service| world.registry.services[*service].ports.keys().map(|port| (*service, *port)))
        .collect();
    let at = |wanted: u16| ports.iter().copied().find(|(_, port)| *port == wanted);
    let target = match (found.port, ports.as_slice()) {
        (Some(port), _) => at(port),
        // "If a service exposes only a single port it is not required to explicitly select the port."
        (None, [only]) if place.is_foreign => Some(*only),
        (None, _) => at(place.port),
    };
    let Some((service, port)) = target else {
        let port = found.port.unwrap_or(place.port);
        let what = if documents.is_empty() { "host" } else { "port" };
        made.warnings.push(format!(
            "{path}: no document that clients here see has the {what} of {host}:{port}; requests there are answered 503"
        ));
        return world.clusters.dead(&host, port, subset);
    };
    if subset.is_empty() {
        let cluster = world.clusters.of_service(&place.client, service, port, world.report);
        if !world.clusters.is_alive(cluster) {
            made.warnings.push(format!("{path}: {}", world.clusters.unreachable(service, port)));
        }
        return cluster;
    }
    match world.clusters.of_subset(&place.client, (service, port, subset), world.report) {
        Found::Alive(cluster) => cluster,
        Found::Dead(cluster, why) => {
            made.warnings.push(format!("{path}: {why}"));
            cluster
        }
        Found::Wrong(why) => {
            // It is refused, and not left out.
            made.is_alive = true;
            made.errors.push(format!("{path}.subset: {why}"));
            world.clusters.dead(&host, port, subset)
        }
    }
}

fn mirrors_of(
    http: &HttpRoute,
    path: &str,
    place: &Place<'_>,
    world: &mut World<'_, '_, '_>,
    made: &mut Made,
) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for (index, mirror) in http.mirrors.iter().enumerate() {
        // "If zero percent is provided explicitly, we should not mirror."
        let share = mirror.percentage.millionths();
        if share > 0 {
            let at = format!("{path}.mirrors[{index}].destination");
            mirrors.push(Mirror { cluster: destination(&mirror.destination, &at, place, world, made), share });
        }
    }
    mirrors
}

/// `rewrite`.
fn rewrite(http: &HttpRoute) -> Rewrite {
    let said = http.rewrite.clone().unwrap_or_default();
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let uri_regex = said.uri_regex.map(|regex| (regex.pattern, regex.substitution));
    // "if regexRewrite ... else if uri".
    let uri = if uri_regex.is_some() { None } else { given(said.uri) };
    Rewrite { uri, uri_regex, authority: given(said.authority) }
}

/// As Istio's `ApplyRedirect`: a request has a port of its own, so the table needs none of the words for it.
fn redirected(redirect: &istio::HttpRedirect, port: u16) -> Redirect {
    let number = match redirect.port {
        Some(istio::RedirectPort::Number(number)) => Some(number),
        Some(istio::RedirectPort::FromRequestPort) => Some(port),
        // "FROM_PROTOCOL_DEFAULT is Envoy's default behavior".
        Some(istio::RedirectPort::FromProtocolDefault) | None => None,
    };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let scheme = given(&redirect.scheme);
    // "Do not put explicit :80 or :443 when its http/https".
    let is_default = matches!((number, scheme.as_deref().unwrap_or("http")), (Some(80), "http") | (Some(443), "https"));
    Redirect {
        uri: given(&redirect.uri),
        prefix_rewrite: given(&redirect.prefix_rewrite),
        authority: given(&redirect.authority),
        port: number.filter(|_| !is_default).map_or(RedirectPort::Unchanged, RedirectPort::Number),
        scheme,
        code: redirect.code,
    }
}

fn check_headers(headers: &HeaderOps, path: &str, made: &mut Made) {
    if let Err(problem) = header::check(headers) {
        made.errors.push(format!("{path}.{problem}"));
    }
}
