//! HTTP itself: methods, bodies, fields of one connection, answers that are none.

use crate::client::{Call, Framing};
use crate::row::Row;
use crate::upstream::Step;

const WITHOUT_TEXT: &[&str] = &[
    "*: answer *: header content-length: *",
    "Envoy: answer *: header content-type: text/plain",
    "*: answer *: body *",
];
const LIBRARY: &str = "what is no HTTP is answered by the HTTP library, without a text";
const NOT_ENDED: &str = "Envoy measures no time where the request has not ended";
const INTERIM: &str = "the HTTP library cannot send interim answers, though RFC 9110 15.2 wants them passed on";

pub(crate) fn rows() -> Vec<Row> {
    let get = || Call::new("GET", "/");
    let websocket = || {
        get()
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    let row = |name, script: &[Step]| {
        Row::new(name)
            .http("  - retries: { attempts: 0 }\n    route: [{ destination: { host: HOST } }]")
            .script("v1", script)
    };
    vec![
        row("methods", &[Step::Fine]).calls(
            ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]
                .map(|method| Call::new(method, "/")),
        ),
        row("bodies", &[Step::Echo]).calls([
            Call::new("POST", "/").body("hello", Framing::Length),
            Call::new("POST", "/").body("", Framing::Length),
            Call::new("POST", "/").body("hello", Framing::Chunks(2, None)),
            Call::new("POST", "/").body("", Framing::Chunks(1, None)),
            Call::new("GET", "/").body("hello", Framing::Length),
            Call::new("DELETE", "/").body("hello", Framing::Chunks(3, None)),
        ]),
        row("trailers of a request", &[Step::Echo])
            .call(Call::new("POST", "/").header("trailer", "x-t").body("hello", Framing::Chunks(2, Some(("x-t", "1")))))
            .unlike(
                &["extension: request 1 *: trailer x-t: 1"],
                "RFC 9110 6.5: trailers are passed on; Envoy leaves those of HTTP/1.1 out",
            ),
        row("trailers of an answer", &[Step::Trailers(&[("x-t", "1")])]).calls([get(), get().header("te", "trailers")]),
        row("a large request", &[Step::Fine]).calls([
            Call::new("POST", "/").body(vec![b'x'; 3_000_000], Framing::Length),
            Call::new("POST", "/").body(vec![b'x'; 3_000_000], Framing::Chunks(100_000, None)),
        ]),
        row("a large answer", &[Step::Large(3_000_000)]).call(get()),
        row("100-continue", &[Step::Echo]).call(Call::new("POST", "/").body("hello", Framing::Expect)),
        row("100-continue that is refused", &[Step::Early(413)])
            .call(Call::new("POST", "/").body("hello", Framing::Expect))
            .unlike(
                &["extension: answer 1: interim 100", "extension: answer 1: header x-envoy-upstream-service-time: any"],
                "RFC 9110 10.1.1 lets a proxy say 100 (Continue) itself, and then the request ends before the answer",
            ),
        row("204 and 304", &[Step::Status(204), Step::Status(304), Step::Says(304, &[("etag", "\"a\"")]), Step::Fine])
            .calls([get(), get(), get()]),
        row(
            "statuses",
            &[
                Step::Status(201),
                Step::Status(206),
                Step::Says(302, &[("location", "/elsewhere")]),
                Step::Status(404),
                Step::Status(418),
                Step::Status(429),
                Step::Status(500),
                Step::Status(504),
                Step::Status(599),
            ],
        )
        .calls((0..9).map(|_| get())),
        row("HEAD with a length", &[Step::Raw("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n")])
            .call(Call::new("HEAD", "/")),
        row("fields of one connection", &[Step::Fine]).calls([
            get().header("connection", "close, x-mine").header("x-mine", "1").header("x-yours", "1"),
            get().header("keep-alive", "timeout=5").header("proxy-connection", "keep-alive"),
            get().header("te", "trailers"),
            get().header("te", "gzip, trailers"),
            get().header("proxy-authorization", "Basic eDp5").header("proxy-authenticate", "Basic"),
            get().header("upgrade", "foo").header("connection", "upgrade"),
        ]),
        row(
            "fields of one connection in an answer",
            &[Step::Says(200, &[("keep-alive", "timeout=5"), ("proxy-connection", "keep-alive"), ("x-yours", "1")])],
        )
        .call(get()),
        row(
            "fields that Connection names in an answer",
            &[Step::Says(200, &[("connection", "x-mine"), ("x-mine", "1")])],
        )
        .call(get())
        .unlike(
            &["Envoy: answer 1: header x-mine: 1"],
            "RFC 9110 7.6.1: a proxy must remove what Connection names, in answers too",
        ),
        row(
            "several fields of one name",
            &[Step::Says(200, &[("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-a", "1"), ("x-a", "2")])],
        )
        .call(get().header("x-a", "1").header("x-a", "2").header("cookie", "a=1").header("cookie", "b=2")),
        row("odd values of fields", &[Step::Fine]).calls([
            get().header("x-empty", ""),
            get().header("x-long", &"y".repeat(20_000)),
            get().header("x-utf8", "\u{e4}"),
            get().header("x_underscore", "1"),
            get().header("authorization", "Bearer x").header("user-agent", "test/1").header("accept", "*/*"),
            get().header("x-forwarded-host", "h").header("forwarded", "for=1.2.3.4").header("via", "1.1 a"),
        ]),
        row(
            "server and date of a service",
            &[Step::Says(200, &[("server", "apache"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT")])],
        )
        .call(get()),
        row("an answer without a length", &[Step::RawEnd("HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\nuntil the end")])
            .call(get()),
        row("an answer of HTTP/1.0", &[Step::RawEnd("HTTP/1.0 200 OK\r\nx-a: 1\r\n\r\nuntil the end")]).call(get()),
        row(
            "103",
            &[Step::Raw(
                "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            )],
        )
        .call(get())
        .unlike(&["Envoy: answer 1: interim 103"], INTERIM),
        row(
            "100 that nobody asked for",
            &[Step::Raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")],
        )
        .call(get())
        .unlike(&["Envoy: answer 1: interim 100"], INTERIM),
        row("an answer before the end of the request", &[Step::Early(403)])
            .call(Call::new("POST", "/").body("hello", Framing::Length))
            .may_differ(
                &["*: answer 1: header x-envoy-upstream-service-time: any"],
                "it is there if the request ended first, which is left to chance",
            ),
        row("cut before an answer", &[Step::Cut]).call(Call::new("POST", "/").body("hello", Framing::Length)),
        row("reset before an answer", &[Step::Reset]).call(Call::new("POST", "/").body("hello", Framing::Length)),
        row("cut in a body of a length", &[Step::RawEnd("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")])
            .call(get()),
        row(
            "cut in a body of chunks",
            &[Step::RawEnd("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")],
        )
        .call(get()),
        row("nobody there", &[]).closed("v1").calls([get(), Call::new("POST", "/").body("hello", Framing::Length)]),
        row("garbage", &[Step::RawEnd("garbage\r\n\r\n")]).call(get()),
        row("a status that is none", &[Step::RawEnd("HTTP/1.1 abc What\r\n\r\n")]).call(get()),
        row("endless header fields", &[Step::Endless]).call(get()),
        row("two lengths", &[Step::RawEnd("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc")])
            .call(get()),
        row(
            "length and chunks",
            &[Step::RawEnd(
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            )],
        )
        .call(get())
        .unlike(
            &["extension: answer 1: *", "Envoy: answer 1: *"],
            "RFC 9112 6.3: chunks go before a length, which is left away; Envoy's choice is to refuse",
        ),
        row(
            "WebSocket",
            &[Step::RawEnd(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                 sec-websocket-accept: x\r\n\r\nhello",
            )],
        )
        .call(websocket())
        .unlike(&["extension: answer 1: header x-envoy-upstream-service-time: any"], NOT_ENDED),
        row("WebSocket that is refused", &[Step::Status(403)])
            .call(websocket())
            .unlike(&["extension: answer 1: header x-envoy-upstream-service-time: any"], NOT_ENDED),
        row("WebSocket and nobody there", &[]).closed("v1").call(websocket()),
        row("every path", &[Step::Fine]).call(Call::new("OPTIONS", "*")),
        row("two hosts", &[Step::Fine]).call(get().header("host", "other.example")).unlike(
            &["extension: answer 1: status 400", "Envoy: answer 1: status 502"],
            "RFC 9112 3.2: more than one Host is answered 400; Envoy looks for one that is both",
        ),
        row("a host with a dot at its end", &[Step::Fine]).call(get().host("HOST.")),
        row("a path with a fragment", &[Step::Fine]).gets(&["/a#b", "/a?b#c"]).unlike(
            &["extension: *", "Envoy: answer *"],
            "what follows a # is cut off before anything looks at the path; Envoy refuses it",
        ),
        row("a field that is none", &[Step::Fine])
            .calls([get().header("x-a", "\u{1}"), get().header("x a", "1"), get().header("", "1")])
            .unlike(WITHOUT_TEXT, LIBRARY),
        row("request: length and chunks", &[Step::Fine])
            .call(Call::new("POST", "/").header("content-length", "5").body("hello", Framing::Chunks(5, None)))
            .unlike(
                &["extension: *", "Envoy: answer 1: *"],
                "RFC 9112 6.1: a server may go by the chunks alone; the length is not passed on",
            ),
        row("request: two lengths", &[Step::Fine])
            .calls([
                Call::new("POST", "/").header("content-length", "5").body("hello", Framing::Length),
                Call::new("POST", "/").header("content-length", "6").body("hello", Framing::Length),
            ])
            .unlike(WITHOUT_TEXT, LIBRARY)
            .unlike(
                &["extension: answer 1: *", "extension: request 1 *", "Envoy: answer 1: status 400"],
                "RFC 9112 6.3: equal lengths may be taken for one, which is what is passed on",
            ),
        row("request: a length that is none", &[Step::Fine])
            .call(Call::new("POST", "/").header("content-length", "x"))
            .unlike(WITHOUT_TEXT, LIBRARY),
        row("request: another coding", &[Step::Fine])
            .call(Call::new("POST", "/").header("transfer-encoding", "gzip, chunked"))
            .may_differ(
                &["extension: answer 1: status 400", "Envoy: answer 1: status 501"],
                "a framing that is not understood is the client's fault, as every other is; RFC 9112 6.1 says that 501 SHOULD be sent",
            ),
        row("many fields", &[Step::Fine])
            .calls([
                (0..90).fold(get(), |call, n| call.header(&format!("x-{n}"), "1")),
                (0..150).fold(get(), |call, n| call.header(&format!("x-{n}"), "1")),
            ])
            .unlike(WITHOUT_TEXT, LIBRARY),
        row("a long path", &[Step::Fine])
            .gets(&[&format!("/{}", "a".repeat(50_000)), &format!("/{}", "a".repeat(70_000))])
            .unlike(WITHOUT_TEXT, LIBRARY),
        row("a long field", &[Step::Fine])
            .calls([get().header("x-a", &"y".repeat(50_000)), get().header("x-a", &"y".repeat(70_000))])
            .unlike(WITHOUT_TEXT, LIBRARY),
        Row::new("HTTP/2 to the service")
            .protocol("HTTP2")
            .script("v1", &[Step::Echo])
            .calls([get().header("x-a", "1"), Call::new("POST", "/p?q").body("hello", Framing::Length)]),
        Row::new("HTTP/2 to the service by an upgrade")
            .policy("    connectionPool: { http: { h2UpgradePolicy: UPGRADE } }")
            .calls([get(), Call::new("HEAD", "/")]),
        Row::new("HTTP/2 from the application")
            .script("v1", &[Step::Echo])
            .calls([get().http2(), Call::new("POST", "/p?q").body("hello", Framing::Length).http2()]),
        Row::new("HTTP/2 on both sides").protocol("HTTP2").script("v1", &[Step::Echo]).calls([
            get().http2(),
            Call::new("POST", "/p?q")
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .body("hello", Framing::Length)
                .http2(),
        ]),
        Row::new("fields of one connection to HTTP/2")
            .protocol("HTTP2")
            .calls([get().header("connection", "close, x-mine").header("x-mine", "1"), get().header("te", "trailers")])
            .unlike(
                &["Envoy: request 2 *: header te: trailers"],
                "RFC 9110 10.1.4: TE is for one connection; only gRPC wants it",
            ),
        Row::new("a stream that is refused")
            .protocol("HTTP2")
            .script("v1", &[Step::ResetStream(h2::Reason::REFUSED_STREAM), Step::Fine])
            .calls([Call::new("POST", "/").body("hello", Framing::Length)]),
        Row::new("a stream that is reset")
            .protocol("HTTP2")
            .script("v1", &[Step::ResetStream(h2::Reason::INTERNAL_ERROR), Step::Fine])
            .calls([Call::new("POST", "/").body("hello", Framing::Length)]),
    ]
}
