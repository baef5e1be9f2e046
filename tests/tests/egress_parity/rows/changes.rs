//! What becomes of a request and of an answer: rewrites, header changes, redirects, direct responses, copies.

use crate::client::{Call, Framing};
use crate::row::Row;
use crate::upstream::Step;

/// One route to `v1` with these fields.
fn route(name: &'static str, fields: &str) -> Row {
    Row::new(name).http(&format!("  - {fields}\n    route: [{{ destination: {{ host: HOST }} }}]"))
}

/// What Envoy says of a copy.
const COPY: &[&str] = &["Envoy: request * header x-envoy-internal: true", "Envoy: request * header x-forwarded-for: *"];
const COPIED: &str = "Envoy sends copies as a client of its own, with the machine's address, which nobody needs";

const ANSWER: Step = Step::Says(200, &[("x-a", "1"), ("x-a", "2"), ("x-b", "3"), ("x-gone", "4")]);

pub(crate) fn rows() -> Vec<Row> {
    let get = |path: &str| Call::new("GET", path);
    vec![
        route("rewrite a prefix", "match: [{ uri: { prefix: /old } }]\n    rewrite: { uri: /new }").gets(&[
            "/old",
            "/old/",
            "/old/a?b=c",
            "/older",
            "/old?x",
        ]),
        route("rewrite a prefix to the root", "match: [{ uri: { prefix: /old/ } }]\n    rewrite: { uri: / }")
            .gets(&["/old/", "/old/a", "/old//a", "/old/?x"]),
        route(
            "rewrite a prefix without its slash to the root",
            "match: [{ uri: { prefix: /old } }]
    rewrite: { uri: / }",
        )
        .gets(&["/old", "/old/a", "/oldest", "/old?x"]),
        route(
            "rewrite an exact path",
            "match: [{ uri: { exact: /old } }]
    rewrite: { uri: /new }",
        )
        .gets(&["/old?a=b"]),
        route("rewrite what a pattern matches", "match: [{ uri: { regex: '/o.*' } }]\n    rewrite: { uri: /new }")
            .gets(&["/old/x?a=b"]),
        route("rewrite without a match", "rewrite: { uri: /new/ }").gets(&["/a", "/"]),
        route(
            "rewrite in any case",
            "match: [{ uri: { prefix: /Old }, ignoreUriCase: true }]
    rewrite: { uri: /new }",
        )
        .gets(&["/OLD/Path"]),
        route(
            "rewrite by a pattern",
            r"rewrite: { uriRegexRewrite: { match: '^/service/([^/]+)(/.*)$', rewrite: '\2/instance/\1' } }",
        )
        .gets(&["/service/foo/v1/api?q=/service/x/y", "/other"]),
        route("rewrite all that a pattern finds", "rewrite: { uriRegexRewrite: { match: 'one', rewrite: 'two' } }")
            .gets(&["/xxx/one/yyy/one/zzz?one"]),
        route("rewrite the authority", "rewrite: { authority: inner.example }").gets(&["/"]),
        route(
            "rewrite path and authority",
            "match: [{ uri: { prefix: /a } }]
    rewrite: { uri: /b, authority: 'inner.example:81' }",
        )
        .calls([get("/a/c").host("HOST:80")]),
        route(
            "request headers",
            "headers: { request: { set: { x-set: new }, add: { x-add: more }, remove: [x-gone, X-Gone-Too] } }",
        )
        .calls([
            get("/"),
            get("/")
                .header("x-set", "1")
                .header("X-Set", "2")
                .header("x-add", "1")
                .header("x-gone", "1")
                .header("x-gone-too", "1")
                .header("x-stays", "1"),
        ]),
        route("host by a header", "headers: { request: { set: { Host: inner.example } } }").gets(&["/"]),
        route(
            "answer headers",
            "headers: { response: { set: { x-a: new }, add: { x-b: more, x-new: '1' }, remove: [x-gone] } }",
        )
        .script("v1", &[ANSWER])
        .gets(&["/"]),
        Row::new("headers of a destination")
            .http(
                "  - headers: { request: { set: { x-a: route }, add: { x-b: route } },
          response: { set: { x-a: route } } }
    route:
    - destination: { host: HOST }
      headers: { request: { set: { x-a: place }, add: { x-b: place }, remove: [x-c] },
          response: { add: { x-b: place } } }",
            )
            .script("v1", &[ANSWER])
            .calls([get("/").header("x-b", "client").header("x-c", "client")]),
        Row::new("headers of weighted destinations")
            .http(
                "  - headers: { request: { set: { x-a: route }, add: { x-b: route } },
          response: { set: { x-a: route } } }
    route:
    - { destination: { host: b.HOST }, weight: 0 }
    - destination: { host: HOST }
      weight: 99
      headers: { request: { set: { x-a: place, Host: inner.example }, add: { x-b: place } },
          response: { set: { x-a: place } } }
    - destination: { host: HOST }
      weight: 1
      headers: { request: { set: { x-a: place, Host: inner.example }, add: { x-b: place } },
          response: { set: { x-a: place } } }",
            )
            .script("v1", &[ANSWER])
            .gets(&["/"])
            .unlike(
                &["extension: request 1 *: header x-envoy-original-host: HOST"],
                "a host that is changed by a weighted destination is no other than one that its route changes",
            ),
        route(
            "header values of the request",
            "headers: { request: { set: { x-r: '%REQ(:METHOD)% %REQ(:PATH)% %REQ(X-NONE)%',
          x-l: '100%% %REQ(x-some)%' } } }",
        )
        .calls([get("/a?b").header("x-some", "abcdef")]),
        route("header values of the answer", "headers: { response: { set: { x-r: '%REQ(x-some)% %RESP(x-b)%' } } }")
            .script("v1", &[ANSWER])
            .calls([get("/").header("x-some", "s")]),
        route("redirect everything", "match: [{ uri: { exact: /none } }]")
            .http("  - redirect: { uri: /here, authority: other.example }")
            .gets(&["/a?b=c"]),
        Row::new("redirect of the path alone")
            .http("  - redirect: { uri: /here }")
            .calls([get("/a?b=c"), get("/a").host("HOST:80")]),
        Row::new("redirect of a prefix")
            .http("  - match: [{ uri: { prefix: /old } }]\n    redirect: { prefixRewrite: /new }")
            .gets(&["/old", "/old/a?b=c", "/older"]),
        Row::new("redirect to a path with a query").http("  - redirect: { uri: '/here?x=y' }").gets(&["/a?b=c"]),
        Row::new("redirect of the authority alone")
            .http(
                "  - redirect: { authority: other.example,
          redirectCode: 302 }",
            )
            .gets(&["/a?b=c"]),
        Row::new("redirect to a port")
            .http("  - redirect: { port: 8443, redirectCode: 307 }")
            .calls([get("/a?b"), get("/a").host("HOST:80")]),
        Row::new("redirect to the request's port")
            .http("  - redirect: { derivePort: FROM_REQUEST_PORT, authority: other.example }")
            .calls([get("/a"), get("/a").host("HOST:8080")]),
        Row::new("redirect to the protocol's port")
            .http("  - redirect: { derivePort: FROM_PROTOCOL_DEFAULT, scheme: https, redirectCode: 308 }")
            .calls([get("/a"), get("/a").host("HOST:8080")]),
        Row::new("redirect to https").http("  - redirect: { scheme: https, redirectCode: 303 }").calls([
            get("/a?b"),
            get("/a").host("HOST:80"),
            get("/a").host("HOST:8080"),
        ]),
        Row::new("redirect with header changes")
            .http(
                "  - redirect: { uri: /here }
    headers: { response: { set: { x-a: '1' }, add: { x-b: '%REQ(x-some)%' } } }",
            )
            .calls([Call::new("POST", "/a").header("x-some", "s").body("hello", Framing::Length)]),
        Row::new("direct response")
            .http("  - directResponse: { status: 418, body: { string: short and stout } }")
            .calls([get("/"), Call::new("HEAD", "/"), Call::new("POST", "/").body("hello", Framing::Length)]),
        Row::new("direct response without a body").http("  - directResponse: { status: 503 }").gets(&["/"]),
        Row::new("direct response with header changes")
            .http(
                "  - directResponse: { status: 200, body: { string: '{}' } }
    headers: { response: { set: { content-type: application/json }, add: { x-a: '1' } } }",
            )
            .gets(&["/"]),
        route("a copy", "mirrors: [{ destination: { host: b.HOST } }]")
            .wanted(2)
            .calls([get("/a?b").header("x-a", "1")])
            .unlike(COPY, COPIED),
        route("a copy with a body", "mirrors: [{ destination: { host: b.HOST } }]")
            .wanted(2)
            .calls([Call::new("POST", "/p").body("hello", Framing::Length)])
            .unlike(COPY, COPIED),
        route("a copy of the first field", "mirror: { host: b.HOST }\n    mirrorPercentage: { value: 100.0 }")
            .wanted(2)
            .calls([get("/").host("HOST:80")])
            .unlike(COPY, COPIED),
        route(
            "no copy of nothing",
            "mirrors: [{ destination: { host: b.HOST },
          percentage: { value: 0 } }]",
        )
        .gets(&["/"]),
        route("a copy that fails", "mirrors: [{ destination: { host: b.HOST } }, { destination: { host: c.HOST } }]")
            .script("b", &[Step::Status(500)])
            .script("c", &[Step::Cut])
            .wanted(3)
            .gets(&["/"])
            .unlike(COPY, COPIED),
        route(
            "a copy of what was changed",
            "match: [{ uri: { prefix: /a } }]
    rewrite: { uri: /b, authority: inner.example }
    headers: { request: { set: { x-a: '1' } } }\n    mirrors: [{ destination: { host: b.HOST } }]",
        )
        .wanted(2)
        .gets(&["/a/c"])
        .unlike(COPY, COPIED),
    ]
}
