//! Faults that a route injects, and timeouts.

use crate::client::{Call, Framing};
use crate::row::Row;
use crate::upstream::Step;

fn route(name: &'static str, fields: &str) -> Row {
    Row::new(name).http(&format!("  - {fields}\n    route: [{{ destination: {{ host: HOST }} }}]"))
}

pub(crate) fn rows() -> Vec<Row> {
    let get = |path: &str| Call::new("GET", path);
    let grpc = || Call::new("POST", "/s/m").header("content-type", "application/grpc").header("te", "trailers");
    vec![
        route("abort with a status", "fault: { abort: { httpStatus: 555, percentage: { value: 100 } } }").calls([
            get("/"),
            Call::new("HEAD", "/"),
            Call::new("POST", "/").body("hello", Framing::Length),
        ]),
        route(
            "abort with a status of gRPC",
            "fault: { abort: { grpcStatus: UNAVAILABLE,
          percentage: { value: 100 } } }",
        )
        .calls([get("/"), grpc(), grpc().http2()])
        .unlike(
            &["extension: answer 1: status 503", "Envoy: answer 1: status 200"],
            "Envoy answers 200 where it is not gRPC that is asked, which is no failure",
        ),
        route(
            "abort of gRPC with a status of HTTP",
            "fault: { abort: { httpStatus: 429,
          percentage: { value: 100 } } }",
        )
        .calls([grpc(), grpc().http2()]),
        route("abort none", "fault: { abort: { httpStatus: 555, percentage: { value: 0 } } }").gets(&["/"]),
        route("abort without a percentage", "fault: { abort: { httpStatus: 555 } }").gets(&["/"]),
        route("delay all", "fault: { delay: { fixedDelay: 0.02s, percentage: { value: 100 } } }").gets(&["/"]),
        route("delay none", "fault: { delay: { fixedDelay: 15s, percentage: { value: 0 } } }").gets(&["/"]),
        route(
            "delay and abort",
            "fault: { delay: { fixedDelay: 0.02s, percentage: { value: 100 } }, abort: { httpStatus: 500,
          percentage: { value: 100 } } }",
        )
        .gets(&["/"]),
        route(
            "abort with header changes",
            "fault: { abort: { httpStatus: 500, percentage: { value: 100 } } }
    headers: { response: { set: { x-a: '1' } } }",
        )
        .gets(&["/"]),
        route(
            "a fault that does not strike",
            "fault: { abort: { httpStatus: 555, percentage: { value: 0 } } }
    retries: { attempts: 2, retryOn: 5xx, backoff: 1ms }",
        )
        .script("v1", &[Step::Status(500), Step::Fine])
        .gets(&["/"])
        .unlike(
            &["extension: answer 1: status 500", "Envoy: answer 1: status 200", "Envoy: request 2 *"],
            "Istio says: \"timeouts or retries will not be enabled when faults are enabled\"; istiod forgets it",
        ),
        route("timeout", "timeout: 0.15s").script("v1", &[Step::Silent]).calls([get("/"), grpc()]),
        route(
            "timeout with header changes",
            "timeout: 0.15s\n    headers: { response: { set: { x-a: '1' }, remove: [x-upstream] } }",
        )
        .script("v1", &[Step::Silent])
        .gets(&["/"]),
        route("nobody there, with header changes", "headers: { response: { set: { x-a: '1' } } }")
            .closed("v1")
            .gets(&["/"]),
        route("timeout that is not reached", "timeout: 15s").gets(&["/"]),
        route("timeout of a POST", "timeout: 0.15s")
            .script("v1", &[Step::Silent])
            .calls([Call::new("POST", "/").body("hello", Framing::Length)]),
        route("timeout with a body that ends late", "timeout: 10s")
            .script("v1", &[Step::RawEnd("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"), Step::Fine])
            .gets(&["/", "/"]),
        route("time for one try", "retries: { attempts: 2, perTryTimeout: 1s, retryOn: 5xx, backoff: 1ms }")
            .script("v1", &[Step::Silent, Step::Fine])
            .gets(&["/"]),
        route(
            "time for one try, again and again",
            "retries: { attempts: 1, perTryTimeout: 1s, retryOn: 5xx,
          backoff: 1ms }",
        )
        .script("v1", &[Step::Silent])
        .gets(&["/"]),
        route(
            "time for one try without a condition for it",
            "retries: { attempts: 2, perTryTimeout: 1s,
          retryOn: connect-failure }",
        )
        .script("v1", &[Step::Silent])
        .gets(&["/"]),
        route(
            "time for one try, gateway-error",
            "retries: { attempts: 1, perTryTimeout: 1s,
          retryOn: gateway-error, backoff: 1ms }",
        )
        .script("v1", &[Step::Silent, Step::Fine])
        .gets(&["/"]),
        route(
            "time for one try, reset",
            "retries: { attempts: 1, perTryTimeout: 1s, retryOn: reset,
          backoff: 1ms }",
        )
        .script("v1", &[Step::Silent, Step::Fine])
        .gets(&["/"]),
        route(
            "time for one try is not shorter than all",
            "timeout: 0.15s
    retries: { attempts: 2, perTryTimeout: 5s, retryOn: 5xx }",
        )
        .script("v1", &[Step::Silent])
        .gets(&["/"]),
        route(
            "time for all ends the tries",
            "timeout: 3s
    retries: { attempts: 3, perTryTimeout: 2s, retryOn: 5xx, backoff: 1ms }",
        )
        .script("v1", &[Step::Silent])
        .gets(&["/"])
        .may_differ(
            &["*: request 2 *: header x-envoy-expected-rq-timeout-ms: *"],
            "what is left of the route's time is never the same twice",
        ),
    ]
}
