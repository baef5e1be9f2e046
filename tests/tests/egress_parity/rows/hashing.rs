//! Endpoints that are chosen by a hash: the very same on both sides.

use crate::client::Call;
use crate::row::Row;

fn hashed(name: &'static str, key: &str) -> Row {
    Row::new(name)
        .endpoints(&["v1", "v2", "v3", "v4", "v5"])
        .policy(&format!("    loadBalancer: {{ consistentHash: {{ {key} }} }}"))
        .http("  - route: [{ destination: { host: HOST } }]")
}

pub(crate) fn rows() -> Vec<Row> {
    let users = ["alice", "bob", "carol", "dave", "eve", "mallory", "oscar", "peggy"];
    let by_header = || users.map(|user| Call::new("GET", "/").header("x-user", user));
    let by_query = || users.map(|user| Call::new("GET", &format!("/?a=b&user={user}")));
    let by_cookie = || users.map(|user| Call::new("GET", "/").header("cookie", &format!("a=b; user={user}; c=d")));
    vec![
        hashed("hash of a header", "httpHeaderName: x-user").calls(by_header()),
        hashed("hash of several values of a header", "httpHeaderName: x-user").calls([
            Call::new("GET", "/").header("x-user", "alice").header("x-user", "bob"),
            Call::new("GET", "/").header("x-user", "bob").header("x-user", "alice"),
        ]),
        hashed("hash of a header on Maglev", "httpHeaderName: x-user, maglev: { tableSize: 65537 }").calls(by_header()),
        hashed(
            "hash of a header on a ring of another size",
            "httpHeaderName: x-user, ringHash: { minimumRingSize: 64 }",
        )
        .calls(by_header()),
        hashed("hash of a query parameter", "httpQueryParameterName: user").calls(by_query()),
        hashed("hash of the address of the client", "useSourceIp: true").calls([
            Call::new("GET", "/"),
            Call::new("GET", "/"),
            Call::new("GET", "/"),
        ]),
        hashed("hash of a cookie", "httpCookie: { name: user, ttl: 0s }").calls(by_cookie()),
        hashed("hash of a cookie that is made", "httpCookie: { name: user, path: /p, ttl: 60s }")
            .calls([Call::new("GET", "/")])
            .by_chance(),
        hashed("hash without what it is made of", "httpHeaderName: x-user").by_chance().calls([Call::new("GET", "/")]),
    ]
}
