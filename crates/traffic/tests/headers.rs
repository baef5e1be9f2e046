//! Changes of headers, in the order in which Istio has Envoy apply them.

#![allow(clippy::unwrap_used)]

use http::{HeaderMap, HeaderName, Method};
use proptest::prelude::*;
use traffic::headers::Changes;
use traffic::route::{Head, Line, Routes};
use traffic::table::{Action, Direct, Forward, HeaderChanges, HeaderOps, Rewrite, Route, VirtualHost, Weighted};

type Pairs<'a> = &'a [(&'a str, &'a str)];

const LINE: Line<'static> = Line { method: &Method::GET, scheme: "http", authority: "reviews", path_and_query: "/a?b" };

fn changes(set: Pairs<'_>, add: Pairs<'_>, remove: &[&str]) -> HeaderChanges {
    let owned =
        |pairs: Pairs<'_>| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    HeaderChanges { set: owned(set), add: owned(add), remove: remove.iter().map(|name| (*name).to_owned()).collect() }
}

fn map(pairs: Pairs<'_>) -> HeaderMap {
    let parsed = pairs.iter().map(|(name, value)| (HeaderName::try_from(*name).unwrap(), value.parse().unwrap()));
    let mut map = HeaderMap::new();
    parsed.for_each(|(name, value)| {
        map.append(name, value);
    });
    map
}

/// Name and values, sorted.
fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut shown: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    shown
}

fn applied(from: &HeaderChanges, before: Pairs<'_>) -> Vec<(String, String)> {
    let mut headers = map(before);
    Changes::new(from).unwrap().apply_to_request(&mut headers, Some(&LINE));
    shown(&headers)
}

/// Envoy's header_parser_test: EvaluateHeadersWithAppendFalse, EvaluateRequestHeadersRemoveBeforeAdd,
/// EvaluateRequestHeadersAddIfAbsent and their like.
#[test]
fn removes_then_sets_then_adds() {
    for (from, before, after) in [
        (changes(&[("a", "1")], &[], &[]), &[][..], &[("a", "1")][..]),
        (changes(&[("a", "2")], &[], &[]), &[("a", "1"), ("a", "x")], &[("a", "2")]),
        (changes(&[], &[("a", "2")], &[]), &[("a", "1")], &[("a", "1"), ("a", "2")]),
        (changes(&[("a", "2")], &[("a", "3")], &[]), &[("a", "1")], &[("a", "2"), ("a", "3")]),
        (changes(&[], &[("a", "2")], &["a"]), &[("a", "1")], &[("a", "2")]),
        (changes(&[("a", "2")], &[], &["a"]), &[("a", "1")], &[("a", "2")]),
        (changes(&[], &[], &["a", "c"]), &[("a", "1"), ("a", "2"), ("b", "3")], &[("b", "3")]),
        // An empty value changes nothing (no keep_empty_value).
        (changes(&[("a", "")], &[], &[]), &[("a", "1")], &[("a", "1")]),
        (changes(&[("a", "%REQ(b)%")], &[], &[]), &[("a", "1")], &[("a", "1")]),
        // Values are made of what is there after removing and before setting.
        (
            changes(&[("a", "%REQ(b)%"), ("b", "%REQ(a)%")], &[], &[]),
            &[("a", "1"), ("b", "2")],
            &[("a", "2"), ("b", "1")],
        ),
        (changes(&[("a", "%REQ(b)%")], &[], &["b"]), &[("a", "1"), ("b", "2")], &[("a", "1")]),
        (changes(&[("a", "%REQ(:path)%")], &[], &[]), &[], &[("a", "/a?b")]),
        (changes(&[("a", "50%%")], &[], &[]), &[], &[("a", "50%")]),
    ] {
        let after: Vec<_> = after.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(applied(&from, before), after, "{from:?}");
    }
}

#[test]
fn what_must_not_be_changed_is_refused_by_name() {
    for name in [
        "connection",
        "content-length",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "Transfer-Encoding",
        "upgrade",
        ":path",
        ":method",
        ":scheme",
        ":status",
        "a b",
        "",
    ] {
        for from in [changes(&[(name, "1")], &[], &[]), changes(&[], &[(name, "1")], &[]), changes(&[], &[], &[name])] {
            let error = Changes::new(&from).unwrap_err();
            assert!(error.contains(name), "{error}");
            assert!(Changes::for_response(&from).is_err(), "{name}");
        }
    }
    for from in [
        changes(&[], &[], &["host"]),
        changes(&[], &[], &[":authority"]),
        changes(&[("host", "a/b")], &[], &[]),
        changes(&[("host", "user@a")], &[], &[]),
        changes(&[(":authority", "a b")], &[], &[]),
        changes(&[("a", "%HOSTNAME%")], &[], &[]),
        changes(&[("a", "%RESP(server)%")], &[], &[]),
        changes(&[("a", "b\r\nc: d")], &[], &[]),
    ] {
        assert!(Changes::new(&from).is_err(), "{from:?}");
    }
    assert!(Changes::for_response(&changes(&[("host", "a")], &[], &[])).is_err());
    assert!(Changes::for_response(&changes(&[("a", "%RESP(server)%")], &[], &[])).is_ok());
}

#[test]
fn host_becomes_the_authority() {
    for (from, expected) in [
        (changes(&[], &[], &[]), None),
        (changes(&[(":authority", "a.b:80")], &[], &[]), Some("a.b:80")),
        (changes(&[("host", "a.b")], &[], &[]), Some("a.b")),
        (changes(&[("Host", "a.b")], &[], &[]), Some("a.b")),
        (changes(&[], &[("host", "a.b")], &[]), Some("a.b")),
        (changes(&[("host", "set")], &[("host", "add")], &[]), Some("set")),
        (changes(&[("host", "")], &[], &[]), None),
        (changes(&[("host", "[::1]:80")], &[], &[]), Some("[::1]:80")),
    ] {
        let prepared = Changes::new(&from).unwrap();
        assert_eq!(prepared.authority(), expected, "{from:?}");
        assert_eq!(prepared.is_empty(), expected.is_none());
        let mut headers = map(&[("host", "before")]);
        prepared.apply(&mut headers);
        assert_eq!(headers["host"], "before");
    }
}

fn routes(route: Route) -> Result<Routes, String> {
    Routes::new(
        VirtualHost { host: "reviews".to_owned(), port: 80, routes: vec![route], ..VirtualHost::default() },
        &[],
    )
}

/// A route with these changes and destinations with those.
fn forward(route: HeaderChanges, destinations: &[HeaderChanges], rewrite: Rewrite) -> Result<Routes, String> {
    let destinations = destinations.iter().map(|changes| Weighted {
        weight: 1,
        headers: HeaderOps { request: changes.clone(), response: HeaderChanges::default() },
        ..Weighted::default()
    });
    routes(Route {
        action: Action::Forward(Forward { destinations: destinations.collect(), rewrite }),
        headers: HeaderOps { request: route, response: HeaderChanges::default() },
        ..Route::default()
    })
}

fn request_through(routes: &Routes, destination: usize, before: Pairs<'_>) -> (Vec<(String, String)>, Option<String>) {
    let mut headers = map(before);
    let empty = HeaderMap::new();
    let head =
        Head { method: &Method::GET, scheme: "http", authority: "reviews", path_and_query: "/a?b", headers: &empty };
    let picked = routes.pick(&head).unwrap();
    let changes = picked.route.changes(destination);
    changes.request(&mut headers, &head.line());
    (shown(&headers), changes.authority().map(str::to_owned))
}

/// Istio's route_test: "for header operations for single cluster" and "for header operations for weighted cluster".
#[test]
fn one_destination_sets_last_and_one_of_many_first() {
    let of_route = changes(&[("a", "route")], &[("b", "route")], &["c"]);
    let of_destination = changes(&[("a", "destination"), ("b", "destination")], &[("c", "destination")], &[]);
    let single = forward(of_route.clone(), std::slice::from_ref(&of_destination), Rewrite::default()).unwrap();
    let owned = |pairs: Pairs<'_>| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let expected = owned(&[("a", "destination"), ("b", "destination"), ("b", "route"), ("c", "destination")]);
    assert_eq!(request_through(&single, 0, &[("c", "client")]).0, expected);

    let plain = HeaderChanges::default();
    let weighted = forward(of_route, &[of_destination, plain], Rewrite::default()).unwrap();
    let expected = owned(&[("a", "route"), ("b", "destination"), ("b", "route")]);
    assert_eq!(request_through(&weighted, 0, &[("c", "client")]).0, expected);
    let expected = owned(&[("a", "route"), ("b", "route")]);
    assert_eq!(request_through(&weighted, 1, &[("c", "client")]).0, expected);
    // Envoy knows the Host of one of many destinations when it fills in the route's headers.
    let of_route = changes(&[("x-host", "%REQ(:authority)%")], &[], &[]);
    let of_destination = changes(&[("host", "b.c")], &[], &[]);
    for (destinations, expected) in
        [(vec![of_destination.clone()], "reviews"), (vec![of_destination, HeaderChanges::default()], "b.c")]
    {
        let routes = forward(of_route.clone(), &destinations, Rewrite::default()).unwrap();
        assert_eq!(request_through(&routes, 0, &[]).0, owned(&[("x-host", expected)]));
    }
    // No destination has this index: that of the first.
    assert_eq!(request_through(&weighted, 9, &[]).0, request_through(&weighted, 0, &[]).0);
}

#[test]
fn a_rewrite_of_the_authority_wins_over_the_route_and_the_route_over_the_destination() {
    let host = |name: &str| changes(&[("host", name)], &[], &[]);
    let to = |name: &str| Rewrite { authority: Some(name.to_owned()), ..Rewrite::default() };
    let none = HeaderChanges::default;
    for (route, destination, rewrite, expected) in [
        (none(), none(), Rewrite::default(), None),
        (none(), host("destination"), Rewrite::default(), Some("destination")),
        (host("route"), host("destination"), Rewrite::default(), Some("route")),
        (host("route"), host("destination"), to("rewrite"), Some("rewrite")),
        (none(), host("destination"), to("rewrite"), Some("rewrite")),
        (none(), host("destination"), to(""), Some("destination")),
    ] {
        let single = forward(route.clone(), std::slice::from_ref(&destination), rewrite.clone()).unwrap();
        assert_eq!(request_through(&single, 0, &[]).1.as_deref(), expected);
        let weighted = forward(route, &[none(), destination], rewrite).unwrap();
        assert_eq!(request_through(&weighted, 1, &[]).1.as_deref(), expected);
    }
    assert!(forward(none(), &[none()], to("a/b")).is_err());
}

/// Istio's route_test: "for direct response code and header manipulation".
#[test]
fn answers_are_changed_too() {
    let response = changes(
        &[("server", "%RESP(server)%!"), ("x-path", "%REQ(:path)%")],
        &[("x-id", "%REQ(x-id)%")],
        &["x-powered-by"],
    );
    let direct = routes(Route {
        action: Action::Direct(Direct { status: 503, body: Vec::new() }),
        headers: HeaderOps { request: HeaderChanges::default(), response },
        ..Route::default()
    })
    .unwrap();
    let empty = HeaderMap::new();
    let head =
        Head { method: &Method::GET, scheme: "http", authority: "reviews", path_and_query: "/a?b", headers: &empty };
    let picked = direct.pick(&head).unwrap();
    let changes = picked.route.changes(0);
    assert!(!changes.keeps_response());
    let mut answer = map(&[("server", "echo"), ("x-powered-by", "echo")]);
    changes.response(&mut answer, &LINE, &map(&[("x-id", "7")]));
    let expected = map(&[("server", "echo!"), ("x-path", "/a?b"), ("x-id", "7")]);
    assert_eq!(shown(&answer), shown(&expected));
}

proptest! {
    #[test]
    fn never_panics_and_never_touches_what_frames(
        set in proptest::collection::vec(("[a-z:\\-]{1,6}|host|content-length|te", "[ -~]{0,8}"), 0..4),
        remove in proptest::collection::vec("[a-z:\\-]{1,6}|host|transfer-encoding|upgrade", 0..4),
    ) {
        let from = HeaderChanges { set: set.clone(), add: set, remove };
        let before = [("host", "a"), ("content-length", "3"), ("te", "trailers"), ("transfer-encoding", "chunked")];
        for prepared in [Changes::new(&from), Changes::for_response(&from)].into_iter().flatten() {
            let mut headers = map(&before);
            prepared.apply(&mut headers);
            for (name, value) in before {
                prop_assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), vec![value]);
            }
        }
    }

    #[test]
    fn what_is_set_is_there_once(value in "[!-$&-~]{1,12}", count in 0usize..4) {
        let from = changes(&[("a", &value)], &[], &[]);
        let before = vec![("a", "x"); count];
        prop_assert_eq!(applied(&from, &before), vec![("a".to_owned(), value)]);
    }
}
