#![no_main]
//! A request and a route of any kind: nothing panics, a rewrite gives a path, a redirect gives a URL, and a change of
//! headers leaves alone where a message ends.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use traffic::rewrite;
use traffic::route::{Head, Picked, Routes};
use traffic::table::{
    Action, Forward, HeaderChanges, HeaderOps, Match, Redirect, RedirectPort, Rewrite, Route, StringMatch, VirtualHost,
    Weighted,
};

/// Kinds, what is matched, what it becomes, the authority, the path, and a header's value.
type Input<'a> = (u8, &'a str, &'a str, &'a str, &'a str, &'a [u8]);

fuzz_target!(|input: Input<'_>| {
    let (kinds, matched, to, authority, path, value) = input;
    let string_match = match kinds & 3 {
        0 => StringMatch::Exact(matched.to_owned()),
        1 => StringMatch::Prefix(matched.to_owned()),
        2 => StringMatch::Regex(matched.to_owned()),
        _ => StringMatch::Present,
    };
    let mut found = Match { ignore_uri_case: kinds & 4 != 0, ..Match::default() };
    match kinds >> 3 & 3 {
        0 => found.uri = Some(string_match),
        1 => found.headers.push(("x-fuzz".to_owned(), string_match)),
        2 => found.without_headers.push(("x-fuzz".to_owned(), string_match)),
        _ => found.query.push((to.to_owned(), string_match)),
    }
    let redirect = Redirect {
        uri: Some(to.to_owned()).filter(|_| kinds & 64 == 0),
        prefix_rewrite: Some(to.to_owned()).filter(|_| kinds & 64 != 0),
        authority: Some(authority.to_owned()).filter(|_| kinds & 128 != 0),
        port: RedirectPort::FromRequestPort,
        scheme: None,
        code: 308,
    };
    let action = match kinds >> 5 & 3 {
        0 => Action::Redirect(redirect.clone()),
        1 => forward(Rewrite { uri_regex: Some((matched.to_owned(), to.to_owned())), ..Rewrite::default() }),
        _ => forward(Rewrite { uri: Some(to.to_owned()), ..Rewrite::default() }),
    };
    let request = HeaderChanges {
        set: vec![(matched.to_owned(), to.to_owned())],
        add: vec![("x-added".to_owned(), to.to_owned())],
        remove: Vec::new(),
    };
    let with_changes = HeaderOps { request, response: HeaderChanges::default() };
    for headers in [HeaderOps::default(), with_changes] {
        let route = Route { matches: vec![found.clone()], action: action.clone(), headers, ..Route::default() };
        let host = VirtualHost { host: "fuzz".to_owned(), port: 80, routes: vec![route], ..VirtualHost::default() };
        let Ok(routes) = Routes::new(host, &[]) else { continue };
        let mut headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("3"))]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert("x-fuzz", value);
        }
        let method = Method::GET;
        let head = Head { method: &method, scheme: "http", authority, path_and_query: path, headers: &headers };
        if let Some(picked) = routes.pick(&head) {
            check(&picked, &head, &redirect);
        }
    }
});

fn forward(rewrite: Rewrite) -> Action {
    Action::Forward(Forward { destinations: vec![Weighted::default()], rewrite })
}

fn check(picked: &Picked<'_>, head: &Head<'_>, redirect: &Redirect) {
    if let Ok(Some(path)) = rewrite::path_and_query(picked, head) {
        assert_eq!(path.parse::<PathAndQuery>().expect("a path").as_str(), path);
        assert!(path.starts_with('/'));
    }
    if let Ok(location) = rewrite::location(redirect, picked, head) {
        assert!(location.parse::<Uri>().expect("a URL").host().is_some_and(|host| !host.is_empty()));
    }
    let mut changed = head.headers.clone();
    picked.route.changes(0).request(&mut changed, &head.line());
    assert_eq!(changed.get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(), ["3"]);
}
