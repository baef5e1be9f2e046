//! Values that were found and values that were wanted: the hints, and the requests that are tried.

use super::*;
use crate::explain::alter;

/// The hints for one leaf that does not match.
fn hints_of(field: &str, found: &[&str], wanted: &[&str]) -> Vec<String> {
    let leaf = leaf(field, values(found), wanted, false);
    let is_when = field.contains('.');
    let to = if is_when { vec![] } else { vec![branch(vec![leaf.clone()])] };
    let rule = rule(0, vec![], to, if is_when { vec![leaf] } else { vec![] });
    let at = hop(Hop::Workload, Reason::DeniedNoMatch, vec![], vec![policy("ALLOW", "bookinfo", "p", vec![rule])]);
    let decision: Decision = deny(Reason::DeniedNoMatch, Hop::Workload, None, None).into();
    let retry = Fake { allows: |_: &Request| false, allows_resources: |_: &Resources| false, allows_at: None };
    hints::hints(&nearest::Case {
        verdict: &Verdict::of(&decision),
        trace: &trace(vec![at]),
        request: &request(None),
        tokens: &[],
        places: &Places::default(),
        resources: None,
        now: NOW,
        retry: &retry,
    })
}

#[test]
fn a_likely_cause_is_hinted_at() {
    let cases = [
        ("methods", "get", "GET", "differ in case only"),
        ("paths", "/Api/x", "/api/*", "differ in case only"),
        ("paths", "/api/", "/api", "differ in a / at the end only"),
        ("paths", "/api", "/api/*", "does not match /api itself"),
        ("paths", "/a", "/a?x=1", "compared without its query"),
        ("paths", "/a/1/b", "/a/*/b", "a * in the middle of /a/*/b is taken literally"),
        ("paths", "/a/1/b", "*1*", "means \"ends with 1*\""),
        ("hosts", "a.example:8080", "a.example", "Istio strips no port"),
        ("hosts", "a.example", "a.example:8080", "has a port and a.example has none"),
        ("principals", "td/ns/a/sa/b", "spiffe://td/ns/a/sa/b", "write it without"),
        ("principals", "old/ns/a/sa/b", "new/ns/a/sa/b", "differ in the trust domain only"),
        ("requestPrincipals", "https://i.example//s", "https://i.example/s", "differ in a / behind the issuer"),
        (
            "requestPrincipals",
            "https://i.example/s",
            "https://i.example*",
            "write https://i.example/* for every subject",
        ),
        ("request.auth.claims[roles]", "a b", "b", "spaceDelimitedClaims"),
        ("request.headers[x-a]", "1 ", "1", "white space at an end"),
    ];
    for (field, found, wanted, words) in cases {
        let hints = hints_of(field, &[found], &[wanted]);
        assert!(
            hints.len() == 1 && hints.iter().all(|hint| hint.contains(words)),
            "{field} {found} {wanted}: {hints:?}"
        );
    }
    // What is merely different is no riddle, and a template is no mistake.
    for (field, found, wanted) in
        [("paths", "/a", "/b"), ("paths", "/a/b", "/x/{*}/y"), ("hosts", "A.example", "a.EXAMPLE")]
    {
        assert_eq!(hints_of(field, &[found], &[wanted]), Vec::<String>::new(), "{field} {found} {wanted}");
    }
}

#[test]
fn the_requests_that_are_tried_fit_the_leaf() {
    let show = |request: Request| {
        let peer = request.source.principal.unwrap_or_default();
        let ip = request.source.remote_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let header = request.headers.iter().find(|(name, _)| name == "x-a").map(|(_, value)| value.clone());
        format!("{} {} {} {peer} {ip} {}", request.method, request.host, request.path, header.unwrap_or_default())
    };
    let cases = [
        ("paths", "/api/*", "GET api.bookinfo.example /api/x?page=1  203.0.113.7 "),
        ("paths", "/a/{*}/b", "GET api.bookinfo.example /a/x/b?page=1  203.0.113.7 "),
        ("paths", "*.html", "GET api.bookinfo.example /x.html?page=1  203.0.113.7 "),
        ("methods", "POST", "POST api.bookinfo.example /admin?page=1  203.0.113.7 "),
        ("hosts", "*.example", "GET x.example /admin?page=1  203.0.113.7 "),
        ("principals", "td/ns/a/*", "GET api.bookinfo.example /admin?page=1 td/ns/a/x 203.0.113.7 "),
        ("remoteIpBlocks", "10.0.0.0/8", "GET api.bookinfo.example /admin?page=1  10.0.0.0 "),
        ("request.headers[X-A]", "v", "GET api.bookinfo.example /admin?page=1  203.0.113.7 v"),
    ];
    for (field, wanted, expected) in cases {
        let leaf = leaf(field, values(&["?"]), &[wanted], false);
        let made = alter::requests(&request(None), &leaf, Hop::Workload).unwrap();
        assert_eq!(made.into_iter().map(show).collect::<Vec<_>>(), [expected], "{field}");
    }
    // The gateway is the peer of a destination, and nobody makes up a credential.
    for (field, hop) in [
        ("principals", Hop::Destination),
        ("request.headers[authorization]", Hop::Workload),
        ("requestPrincipals", Hop::Workload),
    ] {
        assert_eq!(alter::requests(&request(None), &leaf(field, Found::Missing, &["a"], false), hop), None, "{field}");
    }
}
