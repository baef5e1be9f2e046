//! Rewrites of paths, and where redirects lead.

#![allow(clippy::unwrap_used)]

use http::{HeaderMap, Method, Uri};
use proptest::prelude::*;
use traffic::rewrite;
use traffic::route::{Head, Routes};
use traffic::table::{
    Action, Forward, Match, Redirect, RedirectPort, Rewrite, Route, StringMatch, VirtualHost, Weighted,
};

fn exact(text: &str) -> Option<StringMatch> {
    Some(StringMatch::Exact(text.to_owned()))
}

fn prefix(text: &str) -> Option<StringMatch> {
    Some(StringMatch::Prefix(text.to_owned()))
}

fn regex(text: &str) -> Option<StringMatch> {
    Some(StringMatch::Regex(text.to_owned()))
}

fn prepare(uri: Option<StringMatch>, ignore_uri_case: bool, action: Action) -> Result<Routes, String> {
    let matches = vec![Match { uri, ignore_uri_case, ..Match::default() }];
    let routes = vec![Route { name: "only".to_owned(), matches, action, ..Route::default() }];
    Routes::new(VirtualHost { host: "reviews".to_owned(), port: 9080, routes, ..VirtualHost::default() }, &[])
}

fn forward(rewrite: Rewrite) -> Action {
    Action::Forward(Forward { destinations: vec![Weighted::default()], rewrite })
}

/// What becomes of a path; `Ok(None)` when it stays.
fn rewritten(routes: &Routes, path: &str) -> Result<Option<String>, String> {
    let headers = HeaderMap::new();
    let head = Head { method: &Method::GET, scheme: "http", authority: "a", path_and_query: path, headers: &headers };
    let picked = routes.pick(&head).ok_or("no route")?;
    rewrite::path_and_query(&picked, &head)
}

/// Istio's route_test: "for full path rewrite", "for prefix path rewrite", "for empty prefix path rewrite"; Envoy's
/// config_impl_test: TestRoutes ("Prefix rewrite testing", "Full rewrite testing", "Path rewrite with query").
#[test]
fn a_uri_replaces_what_matched() {
    for (uri, to, path, expected) in [
        (prefix("/prefix"), "/new", "/prefix/a", Ok(Some("/new/a"))),
        (prefix("/prefix"), "/new", "/prefix", Ok(Some("/new"))),
        (prefix("/prefix"), "/new", "/prefix?a=b", Ok(Some("/new?a=b"))),
        (prefix("/prefix"), "/new", "/prefixed/a?b#", Err(())),
        (prefix("/prefix"), "/new", "/prefixed/a?b", Ok(Some("/newed/a?b"))),
        // Envoy: "Pay careful attention to the use of trailing slashes in the route's prefix value".
        (prefix("/prefix"), "/", "/prefix", Ok(Some("/"))),
        (prefix("/prefix"), "/", "/prefix/a", Ok(Some("//a"))),
        (prefix("/prefix/"), "/", "/prefix/a", Ok(Some("/a"))),
        (prefix("/prefix/"), "/", "/prefix/", Ok(Some("/"))),
        (prefix("/prefix"), "", "/prefix/a", Ok(None)),
        (prefix("/"), "/new", "/a", Ok(Some("/newa"))),
        (prefix("/"), "/new/", "/a", Ok(Some("/new/a"))),
        (prefix(""), "/new", "/a", Ok(Some("/new/a"))),
        (None, "/new/", "/a?b", Ok(Some("/new/a?b"))),
        (None, "/new", "/a", Ok(Some("/newa"))),
        (exact("/exact"), "/new", "/exact", Ok(Some("/new"))),
        (exact("/exact"), "/new", "/exact?a=/exact", Ok(Some("/new?a=/exact"))),
        (exact("/exact"), "/new?x=y", "/exact", Ok(Some("/new?x=y"))),
        (regex("/b[a-z]+"), "/new", "/bar?a", Ok(Some("/new?a"))),
        (exact("/same"), "/same", "/same?a", Ok(Some("/same?a"))),
        (prefix("/prefix"), "new", "/prefix", Err(())),
        (prefix("/prefix"), "/new path", "/prefix", Err(())),
        (prefix("/prefix"), "/new#", "/prefix", Err(())),
        (prefix("/prefix"), "/new\r\n", "/prefix", Err(())),
    ] {
        let rewrite = Rewrite { uri: Some(to.to_owned()), ..Rewrite::default() };
        let found = rewritten(&prepare(uri.clone(), false, forward(rewrite)).unwrap(), path).map_err(|_| ());
        assert_eq!(found, expected.map(|path| path.map(str::to_owned)), "{uri:?} {to} {path}");
    }
    let rewrite = Rewrite { uri: Some("/new".to_owned()), ..Rewrite::default() };
    let ignoring = prepare(prefix("/PREfix"), true, forward(rewrite)).unwrap();
    assert_eq!(rewritten(&ignoring, "/prefix/A"), Ok(Some("/new/A".to_owned())));
}

/// Istio's route_test: "for path regex match with regex rewrite"; RE2's own tests of GlobalReplace; the examples of
/// Envoy's RouteAction.regex_rewrite.
#[test]
fn a_regular_expression_replaces_every_match() {
    for (pattern, substitution, path, expected) in [
        ("^/service/([^/]+)(/.*)$", "\\2/instance/\\1", "/service/foo/v1/api", Some("/v1/api/instance/foo")),
        ("one", "two", "/xxx/one/yyy/one/zzz", Some("/xxx/two/yyy/two/zzz")),
        ("^(.*?)one(.*)$", "\\1two\\2", "/xxx/one/yyy/one/zzz", Some("/xxx/two/yyy/one/zzz")),
        ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", Some("/aaa/yyy/bbb")),
        ("/v1/(.*)", "/\\1", "/v1/a?x=/v1/b", Some("/a?x=/v1/b")),
        ("none", "some", "/a", Some("/a")),
        ("/a", "/a", "/a?b", Some("/a?b")),
        ("/(a)|/(b)", "/(\\2)", "/a", Some("/()")),
        ("b", "[\\0]", "/abab", Some("/a[b]a[b]")),
        ("a", "\\\\", "/a", Some("/\\")),
        ("$", "/end", "/a?b", Some("/a/end?b")),
        ("b*", "-", "/abc", None),
    ] {
        let rewrite = Rewrite { uri_regex: Some((pattern.to_owned(), substitution.to_owned())), ..Rewrite::default() };
        let routes = prepare(prefix("/"), false, forward(rewrite)).unwrap();
        match expected {
            // Something before the first slash is no path.
            None if pattern == "b*" => assert!(rewritten(&routes, path).is_err()),
            expected => {
                assert_eq!(rewritten(&routes, path), Ok(expected.map(str::to_owned)), "{pattern} {substitution}")
            }
        }
    }
    for (pattern, substitution) in [("(", "a"), ("a", "\\1"), ("(a)", "\\2"), ("a", "\\"), ("a", "\\x"), ("\\pL", "a")]
    {
        let rewrite = Rewrite { uri_regex: Some((pattern.to_owned(), substitution.to_owned())), ..Rewrite::default() };
        assert!(rewrite::check(&rewrite).unwrap_err().starts_with("rewrite: "));
        let error = prepare(prefix("/"), false, forward(rewrite)).unwrap_err();
        assert!(error.contains("route `only`: rewrite"), "{error}");
    }
    for (authority, is_host) in
        [("reviews", true), ("reviews:80", true), ("[::1]:80", true), ("a/b", false), ("a b", false)]
    {
        let rewrite = Rewrite { authority: Some(authority.to_owned()), ..Rewrite::default() };
        assert_eq!(rewrite::check(&rewrite).is_ok(), is_host, "{authority}");
        assert_eq!(prepare(None, false, forward(rewrite)).is_ok(), is_host, "{authority}");
    }
    assert_eq!(rewrite::check(&Rewrite::default()), Ok(()));
}

#[test]
fn what_a_rewrite_gives_is_bounded() {
    let rewrite = Rewrite { uri_regex: Some(("a".to_owned(), "b".repeat(1024))), ..Rewrite::default() };
    let routes = prepare(prefix("/"), false, forward(rewrite)).unwrap();
    assert!(rewritten(&routes, &format!("/{}", "a".repeat(63))).is_ok());
    assert!(rewritten(&routes, &format!("/{}", "a".repeat(64))).is_err());
    let rewrite = Rewrite { uri_regex: Some(("a".to_owned(), "b".repeat(1025))), ..Rewrite::default() };
    assert!(prepare(prefix("/"), false, forward(rewrite)).is_err());
}

struct Given<'a> {
    uri: Option<StringMatch>,
    redirect: Redirect,
    authority: &'a str,
    path: &'a str,
}

fn located(given: &Given<'_>, scheme: &str) -> Result<String, String> {
    let redirect = Redirect { code: 301, ..given.redirect.clone() };
    let routes = prepare(given.uri.clone(), false, Action::Redirect(redirect.clone()))?;
    let headers = HeaderMap::new();
    let (authority, path_and_query) = (given.authority, given.path);
    let head = Head { method: &Method::GET, scheme, authority, path_and_query, headers: &headers };
    rewrite::location(&redirect, &routes.pick(&head).ok_or("no route")?, &head)
}

fn to(scheme: &str, authority: &str, uri: &str, port: RedirectPort) -> Redirect {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Redirect { uri: some(uri), prefix_rewrite: None, authority: some(authority), port, scheme: some(scheme), code: 301 }
}

fn with_prefix(with: &str) -> Redirect {
    Redirect { prefix_rewrite: Some(with.to_owned()), ..Redirect::default() }
}

/// Istio's route_test: "for full path redirect", "for prefix_rewrite redirect"; Envoy's config_impl_test:
/// TestRedirects ("Redirect path", "host_port", "scheme_host_port", "ipv4", "ipv6", "Prefix rewrite for redirect",
/// "query string").
#[test]
fn redirects() {
    use RedirectPort::{FromProtocolDefault, FromRequestPort, Number, Unchanged};
    for (redirect, authority, path, expected) in [
        (to("", "new.example", "", Unchanged), "old.example", "/a?b=c", "http://new.example/a?b=c"),
        (to("", "", "/new", Unchanged), "old.example", "/a", "http://old.example/new"),
        // The request's query stays unless the redirect has its own.
        (to("", "", "/new", Unchanged), "old.example", "/a?b=c", "http://old.example/new?b=c"),
        (to("", "", "/new?x=y", Unchanged), "old.example", "/a?b=c", "http://old.example/new?x=y"),
        (to("", "", "new", Unchanged), "old.example", "/a", "http://old.example/new"),
        (to("", "", "/new#part", Unchanged), "old.example", "/a", "http://old.example/new#part"),
        (to("", "new.example:8080", "/x", Unchanged), "old.example:9080", "/a", "http://new.example:8080/x"),
        (to("https", "", "", Unchanged), "old.example", "/a", "https://old.example/a"),
        (to("https", "", "", Unchanged), "old.example:80", "/a", "https://old.example/a"),
        (to("https", "", "", Unchanged), "old.example:8080", "/a", "https://old.example:8080/a"),
        (to("http", "", "/x", Unchanged), "old.example:80", "/a", "http://old.example:80/x"),
        (to("https", "", "", Unchanged), "10.0.0.1:80", "/a", "https://10.0.0.1/a"),
        (to("https", "", "", Unchanged), "[fe80::1]:80", "/a", "https://[fe80::1]/a"),
        (to("https", "", "", Unchanged), "[fe80::1]", "/a", "https://[fe80::1]/a"),
        (to("", "", "", Number(8443)), "old.example", "/a", "http://old.example:8443/a"),
        (to("", "", "", Number(8443)), "old.example:9080", "/a", "http://old.example:8443/a"),
        (to("", "", "", Number(8443)), "[fe80::1]:80", "/a", "http://[fe80::1]:8443/a"),
        (to("https", "new.example", "", Number(8443)), "old.example:9080", "/a", "https://new.example:8443/a"),
        // "Do not put explicit :80 or :443 when its http/https".
        (to("", "", "", Number(80)), "old.example:9080", "/a", "http://old.example/a"),
        (to("https", "", "", Number(443)), "old.example:80", "/a", "https://old.example/a"),
        (to("https", "", "", Number(80)), "old.example", "/a", "https://old.example:80/a"),
        (to("https", "", "", FromProtocolDefault), "old.example:9080", "/a", "https://old.example/a"),
        (to("", "new.example", "", FromRequestPort), "old.example:9080", "/a", "http://new.example:9080/a"),
        (to("", "new.example", "", FromRequestPort), "old.example", "/a", "http://new.example:9080/a"),
        // The examples of Istio's prefixRewrite.
        (with_prefix("/new"), "old.example", "/a/b?c=d", "http://old.example/new/b?c=d"),
        (with_prefix("/"), "old.example", "/a/b", "http://old.example//b"),
        (with_prefix("/new"), "old.example", "/a", "http://old.example/new"),
        (with_prefix("new"), "old.example", "/a/b", "http://old.example/new/b"),
        (with_prefix(""), "old.example", "/a/b", "http://old.example/a/b"),
        // Istio's ApplyRedirect: the prefix counts before the path.
        (Redirect { uri: Some("/x".to_owned()), ..with_prefix("/new") }, "a.example", "/a/b", "http://a.example/new/b"),
        // Older releases of Istio read it otherwise; to Envoy it is a text.
        (to("", "", "%PREFIX()%/new", Unchanged), "old.example", "/a/b", "http://old.example/%PREFIX()%/new"),
    ] {
        let given = Given { uri: prefix("/a"), redirect: redirect.clone(), authority, path };
        assert_eq!(located(&given, "http").as_deref(), Ok(expected), "{redirect:?} {authority}");
    }
    // Without a match of the path it is the slash that every path begins with.
    let given = Given { uri: None, redirect: with_prefix("/new/"), authority: "old.example", path: "/a?b" };
    assert_eq!(located(&given, "http").as_deref(), Ok("http://old.example/new/a?b"));
    let to_http = to("http", "", "", Unchanged);
    let given = Given { uri: None, redirect: to_http, authority: "old.example:443", path: "/a" };
    assert_eq!(located(&given, "https").as_deref(), Ok("http://old.example/a"));
}

/// RFC 9110, 17.9: what is wrong is said, and the query is not.
#[test]
fn no_query_is_shown_where_something_is_wrong() {
    let rewrite = Rewrite { uri: Some("new".to_owned()), ..Rewrite::default() };
    let error = rewritten(&prepare(prefix("/a"), false, forward(rewrite)).unwrap(), "/a/b?token=secret").unwrap_err();
    assert!(error.contains("\"new/b\"") && !error.contains("secret"), "{error}");
    for (redirect, path) in [
        (to("ftp", "", "", RedirectPort::Unchanged), "/a/b?token=secret"),
        (to("", "", "/a b", RedirectPort::Unchanged), "/a/b?token=secret"),
    ] {
        let given = Given { uri: None, redirect, authority: "old.example", path };
        let error = located(&given, "http").unwrap_err();
        assert!(error.contains("/a") && !error.contains("secret"), "{error}");
    }
}

#[test]
fn a_redirect_that_gives_no_url_is_an_error() {
    use RedirectPort::{Number, Unchanged};
    for (redirect, authority) in [
        (to("", "", "/a b", Unchanged), "old.example"),
        (to("", "", "/a\r\nset-cookie: a", Unchanged), "old.example"),
        (to("", "a b", "", Unchanged), "old.example"),
        (to("", "a/b", "", Unchanged), "old.example"),
        (to("", "user@new.example", "", Unchanged), "old.example"),
        (to("", ":80", "", Unchanged), "old.example"),
        (to("", "new.example:80", "", Number(8080)), "old.example"),
        (to("ftp", "", "", Unchanged), "old.example"),
        (to("", "", "/x", Unchanged), ""),
    ] {
        let given = Given { uri: None, redirect: redirect.clone(), authority, path: "/" };
        assert!(located(&given, "http").is_err(), "{redirect:?} {:?}", located(&given, "http"));
    }
}

proptest! {
    #[test]
    fn what_comes_out_is_a_path(
        matched in "/[a-c/]{0,3}",
        to in "\\PC{0,6}|/[a-c/?]{0,6}",
        rest in "[a-c/?=&]{0,6}|\\PC{0,6}",
    ) {
        let rewrite = Rewrite { uri: Some(to.clone()), ..Rewrite::default() };
        let routes = prepare(prefix(&matched), false, forward(rewrite)).unwrap();
        let path = format!("{matched}{rest}");
        if let Ok(Some(out)) = rewritten(&routes, &path) {
            prop_assert!(out.starts_with('/') && !out.contains([' ', '#', '\r', '\n']));
            let parsed: http::uri::PathAndQuery = out.parse().unwrap();
            prop_assert_eq!(parsed.as_str(), out.as_str());
            prop_assert!(out.starts_with(&to));
            // The query is kept.
            let query = path.split_once('?').map(|(_, query)| query);
            prop_assert!(query.is_none_or(|query| out.ends_with(query)));
        }
    }

    #[test]
    fn a_regular_expression_never_panics(
        pattern in "[abc/().*+?^$|]{1,8}",
        substitution in "[ab/\\\\0-9?# ]{0,8}",
        path in "/[abc/é]{0,8}(\\?[abc/]{0,4})?",
    ) {
        let rewrite = Rewrite { uri_regex: Some((pattern, substitution)), ..Rewrite::default() };
        let Ok(routes) = prepare(None, false, forward(rewrite)) else { return Ok(()) };
        if let Ok(Some(out)) = rewritten(&routes, &path) {
            let parsed: http::uri::PathAndQuery = out.parse().unwrap();
            prop_assert_eq!(parsed.as_str(), out.as_str());
        }
    }

    #[test]
    fn a_location_is_a_url(
        scheme in "(https?)?",
        authority in "[a-c.:0-9\\[\\]@/ ]{0,8}",
        uri in "[/a-c?# é]{0,6}",
        is_prefix: bool,
        number: u16,
        host in "[a-c.:0-9\\[\\]]{0,8}",
        path in "/[a-c/?é]{0,8}",
    ) {
        for port in [
            RedirectPort::Unchanged,
            RedirectPort::Number(number),
            RedirectPort::FromProtocolDefault,
            RedirectPort::FromRequestPort,
        ] {
            let mut redirect = to(&scheme, &authority, &uri, port);
            if is_prefix {
                redirect.prefix_rewrite = redirect.uri.take();
            }
            let given = Given { uri: None, redirect, authority: &host, path: &path };
            if let Ok(location) = located(&given, "http") {
                let parsed: Uri = location.parse().unwrap();
                prop_assert!(parsed.scheme().is_some() && parsed.host().is_some_and(|host| !host.is_empty()));
                prop_assert!(location.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
