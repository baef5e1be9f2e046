//! Which route a request takes.

use crate::client::Call;
use crate::row::Row;

/// Requests that match go to `b`, all others to `v1`.
fn to_b(name: &'static str, condition: &str) -> Row {
    Row::new(name).http(&format!(
        "  - match: [{condition}]
    route: [{{ destination: {{ host: b.HOST }} }}]
  - route: [{{ destination: {{ host: HOST }} }}]"
    ))
}

pub(crate) fn rows() -> Vec<Row> {
    let get = |path: &str| Call::new("GET", path);
    let with = |name: &str, value: &str| Call::new("GET", "/").header(name, value);
    vec![
        to_b("uri exact", "{ uri: { exact: /a } }").gets(&["/a", "/a/", "/a?x=1", "/A", "/ab", "/a%2f", "/"]),
        to_b("uri prefix", "{ uri: { prefix: /a } }").gets(&["/a", "/ab", "/a/b?c", "/A", "/x/a", "/"]),
        to_b("uri prefix with a slash", "{ uri: { prefix: /a/ } }").gets(&["/a", "/a/", "/a/b", "/ab"]),
        to_b("uri regex", "{ uri: { regex: '/a[0-9]+/x.*' } }").gets(&["/a1/x", "/a12/xyz?q=/a", "/b/a1/x", "/a/x"]),
        to_b("uri exact, any case", "{ uri: { exact: /Ab }, ignoreUriCase: true }")
            .gets(&["/ab", "/AB", "/Ab", "/abc"]),
        to_b(
            "uri prefix, any case",
            "{ uri: { prefix: /Ab },
          ignoreUriCase: true }",
        )
        .gets(&["/ab/c", "/ABC", "/a"]),
        to_b("uri regex, any case", "{ uri: { regex: '/Ab.*' }, ignoreUriCase: true }").gets(&["/ab", "/Abc", "/AB"]),
        to_b("method", "{ method: { exact: DELETE } }").calls([Call::new("DELETE", "/"), get("/")]),
        to_b("method regex", "{ method: { regex: 'P.*' } }").calls([
            Call::new("PATCH", "/"),
            Call::new("PURGE", "/"),
            get("/"),
        ]),
        to_b("header exact", "{ headers: { end-user: { exact: jason } } }").calls([
            with("end-user", "jason"),
            with("End-User", "jason"),
            with("end-user", "Jason"),
            with("end-user", "jason, bob"),
            with("end-user", "jason").header("end-user", "bob"),
            get("/"),
        ]),
        to_b("header prefix", "{ headers: { x-v: { prefix: 'v1.' } } }").calls([
            with("x-v", "v1.2"),
            with("x-v", "v1"),
            with("x-v", ""),
            get("/"),
        ]),
        to_b("header regex", "{ headers: { x-v: { regex: 'v[12]' } } }").calls([
            with("x-v", "v1"),
            with("x-v", "v3"),
            with("x-v", "av1"),
            with("x-v", "v1").header("x-v", "v2"),
        ]),
        to_b("header present", "{ headers: { x-v: {} } }").calls([with("x-v", "any"), with("x-v", ""), get("/")]),
        to_b("without a header", "{ withoutHeaders: { x-v: {} } }").calls([with("x-v", "1"), get("/")]),
        to_b("without a header of a value", "{ withoutHeaders: { x-v: { exact: '1' } } }").calls([
            with("x-v", "1"),
            with("x-v", "2"),
            with("x-v", "1").header("x-v", "2"),
            get("/"),
        ]),
        to_b("without a header of a prefix", "{ withoutHeaders: { x-v: { prefix: a } } }").calls([
            with("x-v", "ab"),
            with("x-v", "b"),
            get("/"),
        ]),
        to_b("without a header of a pattern", "{ withoutHeaders: { x-v: { regex: '[0-9]*' } } }").calls([
            with("x-v", "12"),
            with("x-v", "b"),
            with("x-v", ""),
            get("/"),
        ]),
        to_b("query exact", "{ queryParams: { v: { exact: '1' } } }").gets(&[
            "/?v=1",
            "/?a=2&v=1",
            "/?v=2",
            "/?v=1&v=2",
            "/?v=2&v=1",
            "/?v",
            "/",
            "/?v=%31",
            "/?V=1",
        ]),
        to_b("query prefix", "{ queryParams: { v: { prefix: a } } }").gets(&["/?v=ab", "/?v=b", "/?v=", "/?w=a"]),
        to_b("query regex", "{ queryParams: { v: { regex: '[0-9]+' } } }")
            .gets(&["/?v=12", "/?v=1a", "/?v=+1", "/?v="]),
        to_b("query present", "{ queryParams: { v: {} } }").gets(&["/?v", "/?v=", "/?v=1", "/?w=v", "/?a&v"]),
        to_b("authority exact", "{ authority: { exact: 'HOST:80' } }").calls([
            get("/"),
            get("/").host("HOST:80"),
            get("/").host("HOST"),
        ]),
        to_b("authority prefix", "{ authority: { prefix: HOST } }").calls([get("/"), get("/").host("HOST:8080")]),
        to_b("scheme", "{ scheme: { exact: http } }").gets(&["/"]),
        to_b("scheme https", "{ scheme: { exact: https } }").gets(&["/"]),
        to_b("port", "{ port: 8080 }")
            .http(
                "  - match: [{ port: 8080 }]
    directResponse: { status: 208 }
  - route: [{ destination: { host: HOST } }]",
            )
            .calls([get("/"), get("/").host("HOST:8080")]),
        to_b(
            "several conditions are one",
            "{ uri: { prefix: /a }, headers: { x-v: { exact: '1' } }, method: { exact: GET } }",
        )
        .calls([
            get("/a").header("x-v", "1"),
            get("/b").header("x-v", "1"),
            get("/a"),
            Call::new("POST", "/a").header("x-v", "1"),
        ]),
        to_b("several matches are any", "{ uri: { exact: /a } }, { headers: { x-v: { exact: '1' } } }").calls([
            get("/a"),
            get("/b").header("x-v", "1"),
            get("/b"),
        ]),
        Row::new("routes in order")
            .http(
                "  - match: [{ uri: { prefix: /a/b } }]
    route: [{ destination: { host: b.HOST } }]
  - match: [{ uri: { prefix: /a } }]
    route: [{ destination: { host: c.HOST } }]
  - match: [{ uri: { prefix: / } }]
    route: [{ destination: { host: HOST } }]
  - match: [{ uri: { prefix: /z } }]
    route: [{ destination: { host: b.HOST } }]",
            )
            .gets(&["/a/b/c", "/a/c", "/z"]),
        Row::new("no route matches")
            .http("  - match: [{ uri: { prefix: /a } }]\n    route: [{ destination: { host: HOST } }]")
            .gets(&["/b"]),
        Row::new("a service without a VirtualService").gets(&["/x?y"]),
        Row::new("subsets and ports")
            .endpoints(&["v1", "v2", "v3"])
            .http(
                "  - match: [{ uri: { prefix: /2 } }]
    route: [{ destination: { host: HOST, subset: v2 } }]
  - match: [{ uri: { prefix: /3 } }]
    route: [{ destination: { host: HOST, subset: v3, port: { number: 80 } } }]
  - match: [{ uri: { prefix: /alt } }]
    route: [{ destination: { host: HOST, port: { number: 8080 } } }]
  - route: [{ destination: { host: HOST, subset: v1 } }]",
            )
            .calls([get("/1"), get("/2"), get("/3"), get("/alt"), get("/1").host("HOST:8080")]),
        Row::new("weights of all and nothing")
            .http(
                "  - route:
    - { destination: { host: b.HOST }, weight: 0 }
    - { destination: { host: c.HOST }, weight: 100 }
    - { destination: { host: HOST }, weight: 0 }",
            )
            .gets(&["/", "/", "/", "/"]),
        Row::new("host in capitals")
            .calls([get("/").host("CAPITALS")])
            .http("  - route: [{ destination: { host: HOST } }]"),
        Row::new("absolute form").calls([get("http://HOST/a?b"), get("http://HOST:80/a").host("other.example")]),
        Row::new("unknown host").calls([get("/").host("nobody.example")]),
        Row::new("a port that the service does not have").calls([get("/").host("HOST:81")]),
        Row::new("paths with dots and slashes").gets(&[
            "/a/../b",
            "/a/./b",
            "//a",
            "/a//b",
            "/a%2fb",
            "/a%2e%2e/b",
            "/%41",
            "/a\\b",
        ]),
        Row::new("paths that leave the root").gets(&["/../a", "/a/../../b"]),
        to_b("paths are judged as they go on", "{ uri: { prefix: /admin } }").gets(&[
            "/admin",
            "/x/../admin",
            "/./admin",
            "/%61dmin",
            "/admin/../x",
            "//admin",
        ]),
    ]
}
