//! Which route a request takes: tables with the names of Istio's and Envoy's own cases.

#![allow(clippy::unwrap_used)]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use traffic::route::{Head, Routes};
use traffic::table::{Action, Direct, Match, Redirect, Route, StringMatch, VirtualHost};

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.to_owned())
}

fn prefix(text: &str) -> StringMatch {
    StringMatch::Prefix(text.to_owned())
}

fn regex(text: &str) -> StringMatch {
    StringMatch::Regex(text.to_owned())
}

fn uri(uri: StringMatch) -> Match {
    Match { uri: Some(uri), ..Match::default() }
}

fn header(name: &str, value: StringMatch) -> Match {
    Match { headers: vec![(name.to_owned(), value)], ..Match::default() }
}

fn without(name: &str, value: StringMatch) -> Match {
    Match { without_headers: vec![(name.to_owned(), value)], ..Match::default() }
}

fn query(name: &str, value: StringMatch) -> Match {
    Match { query: vec![(name.to_owned(), value)], ..Match::default() }
}

fn route(name: &str, matches: &[Match]) -> Route {
    Route { name: name.to_owned(), matches: matches.to_vec(), ..Route::default() }
}

fn prepare(routes: &[Route], labels: &[(&str, &str)]) -> Result<Routes, String> {
    let labels: Vec<_> = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let host = VirtualHost {
        host: "reviews.default.svc.cluster.local".to_owned(),
        port: 80,
        routes: routes.to_vec(),
        ..VirtualHost::default()
    };
    Routes::new(host, &labels)
}

/// A GET of a path at `reviews:9080`, with headers.
fn matches(from: &Match, path: &str, headers: &[(&str, &[u8])]) -> bool {
    matches_request(from, Method::GET, "reviews:9080", path, headers)
}

fn matches_request(from: &Match, method: Method, authority: &str, path: &str, lines: &[(&str, &[u8])]) -> bool {
    let routes = prepare(&[route("only", std::slice::from_ref(from))], &[]).unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    let head = Head { method: &method, scheme: "http", authority, path_and_query: path, headers: &headers };
    routes.pick(&head).is_some()
}

#[test]
fn uri_is_compared_with_the_path() {
    for (from, path, expected) in [
        (exact("/exact"), "/exact", true),
        (exact("/exact"), "/exact?a=b", true),
        (exact("/exact"), "/exact#fragment", true),
        (exact("/exact"), "/exact#?fragment", true),
        (exact("/exact"), "/exact/", false),
        (exact("/exact"), "/Exact", false),
        (exact("/exact?a=b"), "/exact?a=b", false),
        (prefix("/prefix"), "/prefix", true),
        (prefix("/prefix"), "/prefixed", true),
        (prefix("/prefix"), "/prefix/a?b", true),
        (prefix("/prefix"), "/pre", false),
        (prefix("/prefix/"), "/prefix", false),
        (prefix("/prefix/"), "/prefix?/", false),
        (prefix("/"), "/anything", true),
        (prefix(""), "/anything", true),
        (prefix("/a"), "/%61", false),
        (regex("/b[a-z]+"), "/bar", true),
        (regex("/b[a-z]+"), "/bar?x=1", true),
        (regex("/b[a-z]+"), "/bar/", false),
        (regex("/b[a-z]+"), "/a/bar", false),
        (regex(".*"), "/", true),
        // Envoy has no route for `OPTIONS *`.
        (exact("*"), "*", false),
        (prefix(""), "*", false),
        (regex(".*"), "*", false),
    ] {
        assert_eq!(matches(&uri(from.clone()), path, &[]), expected, "{from:?} {path}");
    }
}

#[test]
fn ignore_uri_case() {
    for (from, path, expected) in [
        (exact("/Exact"), "/eXACT?Q", true),
        (prefix("/Prefix"), "/pREFIX/a", true),
        (regex("/regex"), "/REGEX", false),
    ] {
        let ignoring = Match { ignore_uri_case: true, ..uri(from.clone()) };
        assert_eq!(matches(&ignoring, path, &[]), expected, "{from:?} {path}");
    }
}

#[test]
fn a_match_without_uri_is_the_prefix_of_every_path() {
    for (path, expected) in [("/", true), ("/a?b", true), ("*", false), ("", true)] {
        assert_eq!(matches(&Match::default(), path, &[]), expected, "{path}");
        let routes = prepare(&[route("all", &[])], &[]).unwrap();
        let headers = HeaderMap::new();
        let head =
            Head { method: &Method::OPTIONS, scheme: "http", authority: "a", path_and_query: path, headers: &headers };
        assert_eq!(routes.pick(&head).is_some(), expected, "{path}");
    }
}

#[test]
fn method_scheme_and_authority() {
    let of = |method: Option<StringMatch>, scheme: Option<StringMatch>, authority: Option<StringMatch>| Match {
        method,
        scheme,
        authority,
        ..Match::default()
    };
    for (from, expected) in [
        (of(Some(exact("GET")), None, None), true),
        (of(Some(exact("get")), None, None), false),
        (of(Some(exact("POST")), None, None), false),
        (of(Some(prefix("G")), None, None), true),
        (of(Some(regex("GET|POST")), None, None), true),
        (of(Some(regex("*")), None, None), true),
        (of(None, Some(exact("http")), None), true),
        (of(None, Some(exact("https")), None), false),
        // Envoy compares `:authority` as it is: with its port, and with case.
        (of(None, None, Some(exact("reviews:9080"))), true),
        (of(None, None, Some(exact("reviews"))), false),
        (of(None, None, Some(prefix("reviews"))), true),
        (of(None, None, Some(regex("reviews(:[0-9]+)?"))), true),
        (of(None, None, Some(exact("Reviews:9080"))), false),
        (of(Some(exact("GET")), Some(exact("http")), Some(exact("other"))), false),
    ] {
        assert_eq!(matches(&from, "/", &[]), expected, "{from:?}");
    }
    let own = Method::from_bytes(b"PURGE").unwrap();
    assert!(matches_request(&of(Some(exact("PURGE")), None, None), own, "a", "/", &[]));
}

/// Istio's route_test: "regex matching on header", "presence matching on header", "regex matching for all cases on
/// header"; Envoy's header_utility_test: HeaderExactMatch, HeaderPrefixMatch, HeaderSafeRegexMatch, HeaderPresentMatch,
/// and what they call "multiple values".
#[test]
fn headers() {
    for (from, lines, expected) in [
        (exact("value"), &[("x-h", &b"value"[..])][..], true),
        (exact("value"), &[("x-h", b"Value")], false),
        (exact("value"), &[("x-h", b"values")], false),
        (exact("value"), &[("x-other", b"value")], false),
        (exact("value"), &[], false),
        (exact(""), &[("x-h", b"")], true),
        (exact(""), &[], false),
        (prefix("val"), &[("x-h", b"value")], true),
        (prefix("val"), &[("x-h", b"a value")], false),
        (regex("v.*e"), &[("x-h", b"value")], true),
        (regex("v.*"), &[("x-h", b"a value")], false),
        (regex(".*"), &[("x-h", b"")], true),
        (regex(".*"), &[], false),
        (regex("*"), &[("x-h", b"")], true),
        (regex("*"), &[], false),
        (StringMatch::Present, &[("x-h", b"")], true),
        (StringMatch::Present, &[], false),
        // One of several values must match; they are not one, unless they stand in one line.
        (exact("a,b"), &[("x-h", b"a"), ("x-h", b"b")], false),
        (exact("a,b"), &[("x-h", b"a,b")], true),
        (exact("a"), &[("x-h", b"a"), ("x-h", b"b")], true),
        (exact("b"), &[("x-h", b"a"), ("x-h", b"b")], true),
        (exact("c"), &[("x-h", b"a"), ("x-h", b"b")], false),
        (prefix("c"), &[("x-h", b"a"), ("x-h", b"b"), ("x-h", b"cd")], true),
        (regex("b+"), &[("x-h", b"a"), ("x-h", b"bb")], true),
        // Not UTF-8.
        (prefix("a"), &[("x-h", b"a\xff")], true),
        (exact("a"), &[("x-h", b"a\xff")], false),
        (regex("a.*"), &[("x-h", b"a\xff")], true),
        (regex("a.."), &[("x-h", b"a\xff")], false),
        (StringMatch::Present, &[("x-h", b"\xff\xfe")], true),
        (exact("é"), &[("x-h", "é".as_bytes())], true),
    ] {
        assert_eq!(matches(&header("x-h", from.clone()), "/", lines), expected, "{from:?} {lines:?}");
    }
    let cookies: &[(&str, &[u8])] = &[("cookie", b"a=1"), ("cookie", b"b=2")];
    assert!(matches(&header("cookie", exact("a=1; b=2")), "/", cookies));
    // Envoy keeps some headers as one value.
    for (name, value, expected) in [("accept", "a,b", true), ("accept", "b", false), ("x-test", "b", true)] {
        let lines: &[(&str, &[u8])] = &[(name, b"a"), (name, b"b")];
        assert_eq!(matches(&header(name, exact(value)), "/", lines), expected, "{name} {value}");
    }
}

/// Istio's route_test: "regex matching on without_header", "presence matching on header and without_header".
#[test]
fn without_headers() {
    for (from, lines, expected) in [
        (exact("value"), &[("x-h", &b"value"[..])][..], false),
        (exact("value"), &[("x-h", b"other")], true),
        (exact("value"), &[], true),
        (prefix("val"), &[("x-h", b"value")], false),
        (prefix("val"), &[], true),
        (regex("v.*"), &[("x-h", b"value")], false),
        (regex("v.*"), &[("x-h", b"other")], true),
        (regex("v.*"), &[], true),
        (StringMatch::Present, &[("x-h", b"")], false),
        (StringMatch::Present, &[], true),
        (regex("*"), &[("x-h", b"a")], false),
        (regex("*"), &[], true),
        // treat_missing_header_as_empty: what is absent is compared as an empty value.
        (exact(""), &[], false),
        (regex(".*"), &[], false),
        (regex(".*"), &[("x-h", b"a")], false),
        (exact("a,b"), &[("x-h", b"a"), ("x-h", b"b")], true),
        (exact("a"), &[("x-h", b"a"), ("x-h", b"b")], false),
        (exact("b"), &[("x-h", b"a"), ("x-h", b"b")], false),
        (regex(".*"), &[("x-h", b"\xff")], false),
    ] {
        assert_eq!(matches(&without("x-h", from.clone()), "/", lines), expected, "{from:?} {lines:?}");
    }
}

#[test]
fn pseudo_headers_have_values() {
    for (name, value, expected) in [
        (":method", "GET", true),
        (":scheme", "http", true),
        (":authority", "reviews:9080", true),
        ("host", "reviews:9080", true),
        (":path", "/a?b", true),
        (":path", "/a", false),
        (":status", "200", false),
        // Only words with a colon: `method` is a header like any other.
        ("method", "GET", false),
    ] {
        assert_eq!(matches(&header(name, exact(value)), "/a?b", &[]), expected, "{name}");
    }
    assert!(!matches(&header(":status", StringMatch::Present), "/", &[]));
    assert!(matches(&without(":status", StringMatch::Present), "/", &[]));
}

/// Envoy's config_utility_test and Istio's route_test: "exact matching on query parameter", "prefix …", "regex …",
/// "regex matching for all cases on query parameter".
#[test]
fn query_parameters() {
    for (from, path, expected) in [
        (query("id", exact("1")), "/?id=1", true),
        (query("id", exact("1")), "/?a=b&id=1&c", true),
        (query("id", exact("1")), "/?ID=1", false),
        (query("ID", exact("1")), "/?ID=1", true),
        (query("id", exact("1")), "/?id=2&id=1", false),
        (query("id", exact("1")), "/?id=1&id=2", true),
        (query("id", exact("1")), "/?id=1#id=2", true),
        (query("id", exact("1")), "/id=1", false),
        (query("id", exact("")), "/?id", true),
        (query("id", exact("")), "/?id=", true),
        (query("id", exact("a=b")), "/?id=a=b", true),
        (query("id", exact("1?")), "/?id=1?", true),
        (query("id", exact("a b")), "/?id=a%20b", false),
        (query("id", exact("a%20b")), "/?id=a%20b", true),
        (query("a%20b", exact("1")), "/?a%20b=1", true),
        (query("id", prefix("a")), "/?id=abc", true),
        (query("id", regex("[0-9]+")), "/?id=42", true),
        (query("id", regex("[0-9]+")), "/?id=42a", false),
        (query("id", regex("*")), "/?id=x", true),
        (query("id", regex("*")), "/?no", false),
        (query("id", StringMatch::Present), "/?id", true),
        (query("id", StringMatch::Present), "/", false),
        (query("id", StringMatch::Present), "/?", false),
        (query("id", StringMatch::Present), "/#?id", false),
    ] {
        assert_eq!(matches(&from, path, &[]), expected, "{from:?} {path}");
    }
}

#[test]
fn the_first_route_that_matches_is_taken() {
    let routes = prepare(
        &[
            route("a", &[uri(exact("/a")), uri(prefix("/b"))]),
            route("b", &[uri(prefix("/a")), uri(prefix("/b/longer"))]),
            route("rest", &[]),
            route("never", &[uri(exact("/c"))]),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(routes.len(), 4);
    let headers = HeaderMap::new();
    for (path, name, matched) in
        [("/a", "a", Some(0)), ("/b/longer", "a", Some(1)), ("/ab", "b", Some(0)), ("/c", "rest", None)]
    {
        let head =
            Head { method: &Method::GET, scheme: "http", authority: "a", path_and_query: path, headers: &headers };
        let picked = routes.pick(&head).unwrap();
        assert_eq!((picked.route.route.name.as_str(), picked.matched), (name, matched), "{path}");
    }
}

#[test]
fn source_labels() {
    let labelled = |labels: &[(&str, &str)]| Match {
        source_labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Match::default()
    };
    let routes = [
        route("v2", &[labelled(&[("app", "shop"), ("version", "v2")])]),
        route("shop", &[labelled(&[("app", "bank")]), labelled(&[("app", "shop")])]),
        route("rest", &[]),
    ];
    for (labels, expected, matched) in [
        (&[("app", "shop"), ("version", "v2"), ("more", "")][..], "v2", Some(0)),
        (&[("app", "shop"), ("version", "v1")], "shop", Some(1)),
        (&[("app", "shop")], "shop", Some(1)),
        (&[("version", "v2")], "rest", None),
        (&[], "rest", None),
    ] {
        let prepared = prepare(&routes, labels).unwrap();
        let headers = HeaderMap::new();
        let head =
            Head { method: &Method::GET, scheme: "http", authority: "a", path_and_query: "/", headers: &headers };
        let picked = prepared.pick(&head).unwrap();
        assert_eq!((picked.route.route.name.as_str(), picked.matched), (expected, matched), "{labels:?}");
    }
    // A route whose matches are all of others does not become one that matches everything.
    let prepared = prepare(&routes[..1], &[]).unwrap();
    assert!(prepared.is_empty());
    let headers = HeaderMap::new();
    let head = Head { method: &Method::GET, scheme: "http", authority: "a", path_and_query: "/", headers: &headers };
    assert!(prepared.pick(&head).is_none());
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    for (from, word) in [
        (uri(regex("(?=a)")), "uri"),
        (uri(regex("*")), "uri"),
        (header("x-h", regex("[")), "x-h"),
        (without("x-h", regex("\\pL")), "x-h"),
        (query("id", regex("(")), "id"),
        (header("@request.auth.claims.group", exact("a")), "@request.auth.claims.group"),
        (header("a b", exact("a")), "a b"),
        (header(":unknown", exact("a")), ":unknown"),
    ] {
        let error = prepare(&[route("canary", &[Match::default(), from.clone()])], &[]).unwrap_err();
        assert!(error.contains("route `canary`: match 1") && error.contains(word), "{from:?}: {error}");
    }
    let redirect = Action::Redirect(Redirect { code: 200, ..Redirect::default() });
    assert!(prepare(&[Route { action: redirect, ..Route::default() }], &[]).is_err());
    let direct = Action::Direct(Direct { status: 0, body: Vec::new() });
    assert!(prepare(&[Route { action: direct, ..Route::default() }], &[]).is_err());
}

fn any_match() -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        "[/a-c?]{0,4}".prop_map(StringMatch::Exact),
        "[/a-c?]{0,4}".prop_map(StringMatch::Prefix),
        "[/a-c]{1,3}[.*+?]{0,1}".prop_map(StringMatch::Regex),
        Just(StringMatch::Present),
    ]
}

proptest! {
    #[test]
    fn pick_never_panics_and_takes_the_first(
        uris in proptest::collection::vec(any_match(), 0..5),
        value in any_match(),
        path in "\\PC{0,12}",
        bytes in proptest::collection::vec(32u8..=255, 0..6),
    ) {
        let mut headers = HeaderMap::new();
        if let Ok(line) = HeaderValue::from_bytes(&bytes) {
            headers.append("x-h", line);
        }
        let list: Vec<_> = uris.iter().map(|from| route("one", &[uri(from.clone())])).collect();
        let Ok(routes) = prepare(&list, &[]) else { return Ok(()) };
        let method = Method::GET;
        let head = Head { method: &method, scheme: "http", authority: "a", path_and_query: &path, headers: &headers };
        // What is picked from all is what the first of those that match alone is.
        let alone: Vec<_> = list.iter().map(|one| prepare(std::slice::from_ref(one), &[]).unwrap()).collect();
        let first = alone.iter().position(|one| one.pick(&head).is_some());
        prop_assert_eq!(routes.pick(&head).is_some(), first.is_some());
        // A header and its opposite never match together, and one of them does if the header is there.
        let both = Match {
            headers: vec![("x-h".to_owned(), value.clone())],
            without_headers: vec![("x-h".to_owned(), value.clone())],
            ..Match::default()
        };
        let lines = [("x-h", bytes.as_slice())];
        let is_usable = prepare(&[route("one", std::slice::from_ref(&both))], &[]).is_ok();
        if is_usable && HeaderValue::from_bytes(&bytes).is_ok() {
            prop_assert!(!matches(&both, "/", &lines));
            prop_assert_ne!(
                matches(&header("x-h", value.clone()), "/", &lines),
                matches(&without("x-h", value), "/", &lines)
            );
        }
    }

    #[test]
    fn the_query_does_not_change_what_a_uri_matches(
        from in any_match(),
        path in "/[a-c/]{0,6}",
        query in "[a-c=&?/]{0,6}",
    ) {
        let Ok(_) = prepare(&[route("one", &[uri(from.clone())])], &[]) else { return Ok(()) };
        let with_query = format!("{path}?{query}");
        prop_assert_eq!(matches(&uri(from.clone()), &path, &[]), matches(&uri(from), &with_query, &[]));
    }
}
