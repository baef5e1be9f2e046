//! When a request is sent again, and where to.

use crate::client::{Call, Framing};
use crate::row::Row;
use crate::upstream::Step;

/// Three tries on these words; the services answer as the script says, and then 200.
fn on(words: &str, name: &'static str, script: &[Step]) -> Row {
    Row::new(name)
        .http(&format!(
            "  - retries: {{ attempts: 2, retryOn: '{words}', backoff: 1ms }}
    route: [{{ destination: {{ host: HOST }} }}]"
        ))
        .script("v1", script)
}

const S: fn(u16) -> Step = Step::Status;

pub(crate) fn rows() -> Vec<Row> {
    let get = || Call::new("GET", "/");
    let post = |framing| Call::new("POST", "/").body("hello", framing);
    let grpc = || Call::new("POST", "/s/m").header("content-type", "application/grpc").header("te", "trailers");
    let all = "5xx,gateway-error,reset,connect-failure,retriable-4xx,refused-stream,cancelled,\
               deadline-exceeded,internal,resource-exhausted,unavailable,409";
    let grpc_status = |code| match code {
        "1" => Step::Says(200, &[("content-type", "application/grpc"), ("grpc-status", "1")]),
        "4" => Step::Says(200, &[("content-type", "application/grpc"), ("grpc-status", "4")]),
        "8" => Step::Says(200, &[("content-type", "application/grpc"), ("grpc-status", "8")]),
        "13" => Step::Says(200, &[("content-type", "application/grpc"), ("grpc-status", "13")]),
        _ => Step::Says(200, &[("content-type", "application/grpc"), ("grpc-status", "14")]),
    };
    let mut rows = vec![
        on("5xx", "5xx: 500", &[S(500), S(599), Step::Fine]).call(get()),
        on("5xx", "5xx: 404", &[S(404), Step::Fine]).call(get()),
        on("5xx", "5xx: exhausted", &[S(500), S(501), S(502), Step::Fine]).call(get()),
        on("5xx", "5xx: cut", &[Step::Cut, Step::Fine]).call(get()),
        on("5xx", "5xx: reset", &[Step::Reset, Step::Fine]).call(get()),
        on("5xx", "5xx: POST", &[S(503), Step::Echo]).call(post(Framing::Length)),
        on("5xx", "5xx: POST in chunks", &[S(503), Step::Echo]).call(post(Framing::Chunks(2, None))),
        on("5xx", "5xx: POST and cut", &[Step::Cut, Step::Echo]).call(post(Framing::Length)),
        on("5xx", "5xx: a long body", &[S(503), Step::Echo])
            .call(Call::new("PUT", "/").body(vec![b'x'; 40_000], Framing::Length)),
        on("gateway-error", "gateway-error: 502, 503", &[S(502), S(503), Step::Fine]).call(get()),
        on("gateway-error", "gateway-error: 504", &[S(504), Step::Fine]).call(get()),
        on("gateway-error", "gateway-error: 500", &[S(500), Step::Fine]).call(get()),
        on("gateway-error", "gateway-error: cut", &[Step::Cut, Step::Fine]).call(get()),
        on("reset", "reset: cut", &[Step::Cut, Step::Reset, Step::Fine]).call(get()),
        on("reset", "reset: POST", &[Step::Cut, Step::Echo]).call(post(Framing::Length)),
        on("reset", "reset: 503", &[S(503), Step::Fine]).call(get()),
        on("reset", "reset: exhausted", &[Step::Cut, Step::Cut, Step::Cut, Step::Fine]).call(post(Framing::Length)),
        on(
            "reset",
            "reset: in the middle of a body",
            &[Step::RawEnd("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"), Step::Fine],
        )
        .call(get()),
        on("reset", "reset: in the middle of a head", &[Step::RawEnd("HTTP/1.1 200 OK\r\nx-a: "), Step::Fine])
            .call(get()),
        on("connect-failure", "connect-failure: cut", &[Step::Cut, Step::Fine]).call(post(Framing::Length)),
        on("connect-failure", "connect-failure: nobody there", &[]).closed("v1").call(get()),
        on("retriable-4xx", "retriable-4xx: 409", &[S(409), Step::Fine]).call(get()),
        on("retriable-4xx", "retriable-4xx: 408", &[S(408), Step::Fine]).call(get()),
        on("409,418", "statuses", &[S(409), S(418), Step::Fine]).call(get()),
        on("418", "statuses: another one", &[S(409), Step::Fine]).call(get()),
        on("503", "503 as a status: not a reset", &[Step::Cut, Step::Fine]).call(post(Framing::Length)),
        on("retriable-status-codes", "statuses: none named", &[S(503), Step::Fine]).call(get()),
        on("reset-before-request", "reset-before-request", &[Step::Cut, Step::Fine]).call(post(Framing::Length)),
        on(
            "envoy-ratelimited",
            "envoy-ratelimited",
            &[Step::Says(429, &[("x-envoy-ratelimited", "true")]), Step::Fine],
        )
        .call(get()),
        on(
            "429,5xx",
            "a limited rate is left alone",
            &[Step::Says(429, &[("x-envoy-ratelimited", "true")]), Step::Fine],
        )
        .call(get()),
        on("cancelled", "gRPC: HTTP does not count", &[grpc_status("1"), Step::Fine]).call(get()),
        on(all, "everything: 200", &[Step::Fine]).call(get()),
        on(all, "everything: 404", &[S(404), Step::Fine]).call(get()),
        on(all, "everything: garbage", &[Step::RawEnd("garbage\r\n\r\n"), Step::Fine]).call(get()),
        on(
            "connect-failure",
            "garbage",
            &[
                Step::RawEnd(
                    "garbage\r\n\r\n\
         ",
                ),
                Step::Fine,
            ],
        )
        .call(post(Framing::Length)),
    ];
    for (word, code, name) in [
        ("cancelled", "1", "gRPC: cancelled"),
        ("deadline-exceeded", "4", "gRPC: deadline-exceeded"),
        ("resource-exhausted", "8", "gRPC: resource-exhausted"),
        ("internal", "13", "gRPC: internal"),
        ("unavailable", "14", "gRPC: unavailable"),
    ] {
        rows.push(on(word, name, &[grpc_status(code), Step::Fine]).call(grpc()));
    }
    rows.extend([
        on("unavailable", "gRPC: another status", &[grpc_status("13"), Step::Fine]).call(grpc()),
        on("unavailable", "gRPC: in trailers", &[Step::Trailers(&[("grpc-status", "14")]), Step::Fine]).call(grpc()),
        Row::new("defaults: 503").script("v1", &[S(503), Step::Fine]).call(get()),
        Row::new("defaults: POST and cut").script("v1", &[Step::Cut, Step::Fine]).call(post(Framing::Length)),
        Row::new("defaults: unavailable").script("v1", &[grpc_status("14"), grpc_status("1"), Step::Fine]).call(grpc()),
        Row::new("defaults: nobody there").closed("v1").call(get()),
        Row::new("no retries")
            .http("  - retries: { attempts: 0 }\n    route: [{ destination: { host: HOST } }]")
            .script("v1", &[Step::Cut, Step::Fine])
            .calls([get(), get()]),
        Row::new("no retries of a POST")
            .http("  - retries: { attempts: 0 }\n    route: [{ destination: { host: HOST } }]")
            .script("v1", &[S(503), Step::Fine])
            .call(post(Framing::Length)),
        on("5xx", "other services first", &[S(503)])
            .endpoints(&["v1", "v2", "v3"])
            .policy("    loadBalancer: { simple: ROUND_ROBIN }")
            .script("v2", &[S(503)])
            .script("v3", &[S(503)])
            .by_chance()
            .call(get()),
        Row::new("other services are not preferred where that is said")
            .http(
                "  - retries: { attempts: 1, retryOn: 5xx, backoff: 1ms, retryIgnorePreviousHosts: false }
    route: [{ destination: { host: HOST, subset: v1 } }]",
            )
            .script("v1", &[S(503), Step::Fine])
            .call(get()),
        on("connect-failure", "the other service where nobody is there", &[])
            .endpoints(&["v1", "v2"])
            .policy("    loadBalancer: { simple: ROUND_ROBIN }")
            .closed("v1")
            .calls([get(), get(), get(), get()])
            .may_differ(
                &["*: request * header x-envoy-attempt-count: *"],
                "which one is asked first is left to chance",
            ),
    ]);
    rows
}
