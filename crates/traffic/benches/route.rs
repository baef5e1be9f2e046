//! What it costs to find a request's route, and to change the request.
//!
//! `cargo bench -p traffic --bench route` prints a table; every figure is the median of many batches on one thread.
#![allow(clippy::print_stdout, clippy::unwrap_used)]
// A stopwatch inside one process is what the type is for.
#![allow(clippy::disallowed_types)]

use std::hint::black_box;
use std::time::Instant;

use http::{HeaderMap, Method};
use traffic::rewrite;
use traffic::route::{Head, Routes};
use traffic::table::{
    Action, Forward, HeaderChanges, HeaderOps, Match, Rewrite, Route, StringMatch, VirtualHost, Weighted,
};

const CALLS: u32 = 10_000;
const BATCHES: usize = 51;

fn main() {
    // `cargo test --benches` asks for a list of tests.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let mut headers = HeaderMap::new();
    for (name, value) in [("accept", "*/*"), ("user-agent", "bench/1"), ("x-user", "7"), ("x-end", "last")] {
        headers.insert(name, value.parse().unwrap());
    }
    let head = Head {
        method: &Method::GET,
        scheme: "http",
        authority: "reviews.default.svc.cluster.local:9080",
        path_and_query: "/service-19/api/v1/products/42?page=1&size=50",
        headers: &headers,
    };
    let uri = |uri: StringMatch| Match { uri: Some(uri), ..Match::default() };
    let of = |matches: &dyn Fn(usize) -> Match| routes((0..20).map(|number| route(matches(number))).collect());
    let prefixes = of(&|number| uri(StringMatch::Prefix(format!("/service-{number}/"))));
    let exact = of(&|number| uri(StringMatch::Exact(format!("/service-{number}/api/v1/products/42"))));
    let patterns = of(&|number| uri(StringMatch::Regex(format!("/service-{number}/[a-z0-9/]+"))));
    let by_header = of(&|number| Match {
        headers: vec![("x-user".to_owned(), StringMatch::Exact(number.to_string()))],
        ..Match::default()
    });
    let by_query = of(&|number| Match {
        query: vec![("size".to_owned(), StringMatch::Exact((number + 31).to_string()))],
        ..Match::default()
    });
    for (name, routes) in [
        ("the last of 20 prefixes", &prefixes),
        ("the last of 20 exact paths", &exact),
        ("the last of 20 regular expressions", &patterns),
        ("the eighth of 20 headers", &by_header),
        ("the last of 20 query parameters", &by_query),
    ] {
        assert!(routes.pick(&head).is_some(), "{name}");
        print(name, measure(|| routes.pick(&head).is_some()));
    }
    let picked = prefixes.pick(&head).unwrap();
    print("rewrite of a prefix", measure(|| rewrite::path_and_query(&picked, &head)));
    let line = head.line();
    let copied = measure(|| headers.clone());
    let changed = measure(|| {
        let mut headers = headers.clone();
        picked.route.changes(0).request(&mut headers, &line);
        headers
    });
    print("two changes of headers", changed - copied);
}

fn route(found: Match) -> Route {
    let rewrite = Rewrite { uri: Some("/".to_owned()), ..Rewrite::default() };
    let request = HeaderChanges {
        set: vec![("x-path".to_owned(), "%REQ(:path)%".to_owned())],
        add: Vec::new(),
        remove: vec!["x-end".to_owned()],
    };
    Route {
        matches: vec![found],
        action: Action::Forward(Forward { destinations: vec![Weighted::default()], rewrite }),
        headers: HeaderOps { request, response: HeaderChanges::default() },
        ..Route::default()
    }
}

fn routes(routes: Vec<Route>) -> Routes {
    Routes::new(VirtualHost { host: "reviews".to_owned(), port: 9080, routes, ..VirtualHost::default() }, &[]).unwrap()
}

/// Nanoseconds of one call.
fn measure<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut times: Vec<_> = (0..BATCHES)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..CALLS {
                black_box(work());
            }
            started.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[BATCHES / 2]
}

fn print(name: &str, nanoseconds: f64) {
    println!("{name:<36} {nanoseconds:>9.0} ns");
}
