//! What becomes of requests.

use std::time::Duration;

use istio::{
    AbortStatus, Destination, FaultAbort, FaultDelay, HttpAction, HttpDirectResponse, HttpFault, HttpMatch, HttpMirror,
    HttpRedirect, HttpRetry, HttpRoute, Percent, RedirectPort, Resources, StringMatch, VirtualService,
};
use traffic::table::{self, Action, RetryOn, Route};

use crate::build::*;

const RATINGS: &str = "ratings.bookinfo.svc.cluster.local";
const DETAILS: &str = "details.bookinfo.svc.cluster.local";

fn with(http: Vec<HttpRoute>) -> Resources {
    Resources {
        service_entries: vec![entry(RATINGS), entry(DETAILS)],
        virtual_services: vec![routes("r", &["ratings"], http)],
        ..Resources::default()
    }
}

fn routes_of(http: Vec<HttpRoute>) -> Vec<Route> {
    opened(&with(http)).host(RATINGS, 9080).routes
}

fn only(http: HttpRoute) -> Route {
    let [route] = <[Route; 1]>::try_from(routes_of(vec![http])).unwrap();
    route
}

fn error(http: HttpRoute) -> String {
    let errors = refused(&with(vec![http]));
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(error.starts_with("mesh.yaml:7: VirtualService r: spec.http[0]"), "{error}");
    error.clone()
}

fn on(words: &[&str]) -> HttpRetry {
    HttpRetry {
        attempts: 3,
        per_try_timeout: None,
        retry_on: words.iter().map(|word| (*word).to_owned()).collect(),
        retry_remote_localities: None,
        retry_ignore_previous_hosts: None,
        backoff: None,
    }
}

#[test]
fn a_host_without_routes_has_istios_default() {
    let route = &opened(&Resources { service_entries: vec![entry(RATINGS)], ..Resources::default() })
        .host(RATINGS, 9080)
        .routes[0];
    assert_eq!((route.timeout_ms, route.retry.attempts, route.retry.backoff_ms), (0, 2, 25));
    let wanted = [RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::GrpcUnavailable, RetryOn::GrpcCancelled];
    assert_eq!(route.retry.on, wanted);
    assert!(route.matches.is_empty() && route.retry.avoids_previous_hosts && !route.retry.remote_localities);
}

#[test]
fn the_meshs_retries_are_the_default_where_it_has_some() {
    let mut resources = with(vec![matching("a", prefix("/a"), to("ratings"))]);
    resources.mesh.default_http_retry_policy = Some(HttpRetry { attempts: 0, ..on(&[]) });
    let opened = opened(&resources);
    assert_eq!(opened.host(RATINGS, 9080).routes[0].retry, table::RetryPolicy::default());
    assert_eq!(opened.host(DETAILS, 9080).routes[0].retry.attempts, 0);
}

#[test]
fn the_words_of_retry_on() {
    let retry = |retries: HttpRetry| only(HttpRoute { retries: Some(retries), ..forward(to("ratings")) }).retry;
    let found = retry(on(&["5xx, 503", "reset", "429"]));
    assert_eq!(found.on, [RetryOn::Status5xx, RetryOn::Reset, RetryOn::RetriableStatusCodes]);
    assert_eq!((found.statuses, found.attempts), (vec![503, 429], 3));
    assert_eq!(retry(on(&[])).on.len(), 4);
    // A number that is no status of HTTP is a word, which Envoy does not know.
    for word in ["599", "1", "unavailible"] {
        let text = error(HttpRoute { retries: Some(on(&[word])), ..forward(to("ratings")) });
        assert!(text.contains("retries.retryOn") && text.contains(word), "{text}");
    }
    let opened =
        opened(&with(vec![HttpRoute { retries: Some(on(&["retriable-headers", "5xx"])), ..forward(to("ratings")) }]));
    assert!(opened.warnings.iter().any(|warning| warning.contains("\"retriable-headers\" has no effect")));
}

#[test]
fn a_timeout_of_a_try_that_is_not_below_the_whole_is_ignored() {
    for (whole, of_try, found) in [(1_000, 999, 999), (1_000, 1_000, 0), (1_000, 2_000, 0), (0, 2_000, 2_000)] {
        let retries = HttpRetry { per_try_timeout: Some(Duration::from_millis(of_try)), ..on(&[]) };
        let http =
            HttpRoute { timeout: Some(Duration::from_millis(whole)), retries: Some(retries), ..forward(to("ratings")) };
        let route = only(http);
        assert_eq!((route.timeout_ms, route.retry.per_try_timeout_ms), (whole, found));
    }
}

#[test]
fn faults_turn_timeout_and_retries_off() {
    let fault = HttpFault {
        delay: Some(FaultDelay {
            percentage: Percent::from_millionths(500_000),
            fixed_delay: Duration::from_micros(10),
        }),
        abort: Some(FaultAbort { percentage: Percent::ALL, status: AbortStatus::Grpc(14) }),
    };
    let http = HttpRoute {
        fault: Some(fault),
        timeout: Some(Duration::from_secs(1)),
        retries: Some(on(&["5xx"])),
        ..forward(to("ratings"))
    };
    let route = only(http);
    assert_eq!((route.timeout_ms, &route.retry), (0, &table::RetryPolicy::default()));
    let fault = route.fault.unwrap();
    assert_eq!(fault.delay, Some((500_000, 1)));
    assert_eq!(fault.abort, Some((1_000_000, table::AbortStatus::Grpc(14))));
}

#[test]
fn a_single_destination_gets_all_and_a_weight_of_0_gets_nothing() {
    let weights = |list: &[u32]| {
        let action = HttpAction::Route(list.iter().map(|weight| weighted(to("ratings"), *weight)).collect());
        forward_of(&only(http(action))).destinations.iter().map(|found| found.weight).collect::<Vec<_>>()
    };
    assert_eq!(weights(&[0]), [1]);
    assert_eq!(weights(&[0, 3, 1]), [3, 1]);
    assert_eq!(weights(&[0, 100]), [100]);
    for bad in [&[0, 0][..], &[u32::MAX, 1]] {
        let action = HttpAction::Route(bad.iter().map(|weight| weighted(to("ratings"), *weight)).collect());
        assert!(error(http(action)).contains("weights that sum to"));
    }
}

#[test]
fn the_port_of_a_destination() {
    let two = istio::ServiceEntry { ports: vec![port(9080, "HTTP"), port(9090, "HTTP")], ..entry(DETAILS) };
    let cluster = |destination: Destination| {
        let mut resources = with(vec![forward(destination)]);
        resources.service_entries[1] = two.clone();
        let opened = opened(&resources);
        let name = opened.cluster(RATINGS, 9080).name;
        (name, opened.warnings)
    };
    // The port that the client names, and else the one that is said.
    assert_eq!(cluster(to("details")).0, format!("outbound|9080||{DETAILS}"));
    assert_eq!(cluster(Destination { port: Some(9090), ..to("details") }).0, format!("outbound|9090||{DETAILS}"));
    for (destination, said) in [
        (Destination { port: Some(1), ..to("details") }, "no document that clients here see has the port of details"),
        (to("nowhere.example"), "no document that clients here see has the host of nowhere.example:9080"),
    ] {
        let (name, warnings) = cluster(destination);
        assert!(warnings.iter().any(|warning| warning.contains(said)), "{name}: {warnings:?}");
    }
}

#[test]
fn matches_are_those_of_the_port_and_the_namespace() {
    let of = |name: &str, found: HttpMatch| matching(name, found, to("ratings"));
    let http = vec![
        of("other port", HttpMatch { port: Some(80), ..HttpMatch::default() }),
        of("other namespace", HttpMatch { source_namespace: Some("shop".to_owned()), ..prefix("/s") }),
        of("gateway", HttpMatch { gateways: vec!["a/b".to_owned()], ..HttpMatch::default() }),
        of(
            "mesh",
            HttpMatch {
                gateways: vec!["mesh".to_owned()],
                source_labels: labels(&[("app", "x")]),
                source_namespace: Some("other".to_owned()),
                ..prefix("/m")
            },
        ),
        of("labels", HttpMatch { source_labels: labels(&[("app", "x")]), port: Some(9080), ..HttpMatch::default() }),
        of("all", prefix("/")),
        of("never", prefix("/never")),
    ];
    let opened = opened(&with(http));
    let names = |namespace| {
        let host = opened.host_for((namespace, &[]), RATINGS, 9080).unwrap();
        host.routes.iter().map(|route| route.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(NS), ["mesh", "labels", "all"]);
    assert_eq!(names("shop"), ["other namespace", "mesh", "labels", "all"]);
    let host = opened.host(RATINGS, 9080);
    // With `gateways` the rest of the source does not count.
    assert!(host.routes[0].matches[0].source_labels.is_empty());
    assert_eq!(host.routes[1].matches[0].source_labels, [("app".to_owned(), "x".to_owned())]);
}

#[test]
fn without_any_route_for_the_workload_the_host_has_the_default() {
    let labelled = |app: &str| HttpMatch { source_labels: labels(&[("app", app)]), ..prefix("/a") };
    let opened =
        opened(&with(vec![matching("a", labelled("a"), to("details")), matching("b", labelled("b"), to("details"))]));
    let names = |app: &str| {
        let host = opened.host_for(("any", &[("app", app)]), RATINGS, 9080).unwrap();
        host.routes.iter().map(|route| route.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("c"), [RATINGS]);
    assert_eq!(names("a"), ["a", "b"]);
    let view = opened.rules.view(None, &[]).unwrap();
    assert!(view.find(RATINGS, 9080).is_some());
}

#[test]
fn a_star_as_regex_means_there() {
    let found = HttpMatch {
        method: Some(StringMatch::Regex("*".to_owned())),
        headers: [("X-A".to_owned(), StringMatch::Regex("*".to_owned()))].into(),
        without_headers: [("x-b".to_owned(), StringMatch::Present)].into(),
        query_params: [("Q".to_owned(), StringMatch::Exact("1".to_owned()))].into(),
        ..HttpMatch::default()
    };
    let route = only(matching("a", found, to("ratings")));
    let found = &route.matches[0];
    assert_eq!(found.method, None);
    assert_eq!(found.headers, [("x-a".to_owned(), table::StringMatch::Present)]);
    assert_eq!(found.without_headers, [("x-b".to_owned(), table::StringMatch::Present)]);
    assert_eq!(found.query, [("Q".to_owned(), table::StringMatch::Exact("1".to_owned()))]);
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let claim = [("@request.auth.claims.sub".to_owned(), StringMatch::Present)].into();
    let bad_regex = HttpMatch { uri: Some(StringMatch::Regex("(".to_owned())), ..HttpMatch::default() };
    for (http, said) in [
        (HttpRoute { has_cors_policy: true, ..forward(to("ratings")) }, "spec.http[0].corsPolicy"),
        (matching("a", HttpMatch { headers: claim, ..HttpMatch::default() }, to("ratings")), "no token is checked"),
        (matching("a", bad_regex, to("ratings")), "spec.http[0].match[0].uri: "),
        (forward(subset_of("ratings", "v9")), "spec.http[0].route[0].destination.subset: found the subset \"v9\""),
    ] {
        let text = error(http);
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn redirects_have_the_port_that_istio_gives_them() {
    let redirect = |port: Option<RedirectPort>, scheme: Option<&str>| {
        let redirect = HttpRedirect {
            uri: Some("/x".to_owned()),
            prefix_rewrite: None,
            authority: None,
            port,
            scheme: scheme.map(str::to_owned),
            code: 308,
        };
        match only(http(HttpAction::Redirect(redirect))).action {
            Action::Redirect(redirect) => redirect.port,
            other => panic!("{other:?}"),
        }
    };
    use table::RedirectPort::{Number, Unchanged};
    assert_eq!(redirect(None, None), Unchanged);
    assert_eq!(redirect(Some(RedirectPort::Number(8080)), None), Number(8080));
    assert_eq!(redirect(Some(RedirectPort::Number(80)), None), Unchanged);
    assert_eq!(redirect(Some(RedirectPort::Number(443)), Some("https")), Unchanged);
    assert_eq!(redirect(Some(RedirectPort::Number(443)), None), Number(443));
    assert_eq!(redirect(Some(RedirectPort::FromRequestPort), None), Number(9080));
    assert_eq!(redirect(Some(RedirectPort::FromProtocolDefault), Some("https")), Unchanged);
}

#[test]
fn answers_and_mirrors() {
    let answer = HttpDirectResponse { status: 418, body: b"tea".to_vec() };
    let route = only(http(HttpAction::DirectResponse(answer)));
    assert_eq!(route.action, Action::Direct(table::Direct { status: 418, body: b"tea".to_vec() }));
    let mirror = |share| HttpMirror { destination: to("details"), percentage: Percent::from_millionths(share) };
    let opened = opened(&with(vec![HttpRoute { mirrors: vec![mirror(0), mirror(10)], ..forward(to("ratings")) }]));
    let mirrors = &opened.host(RATINGS, 9080).routes[0].mirrors;
    assert_eq!(mirrors.iter().map(|mirror| mirror.share).collect::<Vec<_>>(), [10]);
    assert_eq!(opened.rules.cluster(mirrors[0].cluster).unwrap().host, DETAILS);
}

#[test]
fn a_host_that_is_reached_nowhere_is_left_out_and_its_mistakes_with_it() {
    let broken = HttpRoute { has_cors_policy: true, ..forward(to("reviews")) };
    let resources = Resources {
        services: vec![kubernetes("reviews", 9080)],
        virtual_services: vec![VirtualService { ..routes("r", &["reviews", "x.example"], vec![broken]) }],
        ..Resources::default()
    };
    let opened = opened(&resources);
    assert!(!opened.knows("reviews.bookinfo", 9080) && !opened.knows("x.example", 80));
    assert!(opened.warnings.iter().any(|warning| warning.contains("x.example is left out")), "{:?}", opened.warnings);
}
