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
        route("abort with a status", "fault: { abort: { httpStatus: 555, percentage: { value: 100 } } }")
            .calls([get("/"), Call::new("HEAD", "/"), Call::new("POST", "/").body("hello", Framing::Length)]),
        route("abort with a status of gRPC", "fault: { abort: { grpcStatus: UNAVAILABLE, percentage: { value: 100 } } }")
            .calls([get("/"), grpc(), grpc().http2()]),
        route("abort of gRPC with a status of HTTP", "fault: { abort: { httpStatus: 429, percentage: { value: 100 } } }")
            .calls([grpc(), grpc().http2()]),
        route("abort none", "fault: { abort: { httpStatus: 555, percentage: { value: 0 } } }").gets(&["/"]),
        route("abort without a percentage", "fault: { abort: { httpStatus: 555 } }").gets(&["/"]),
        route("delay all", "fault: { delay: { fixedDelay: 0.02s, percentage: { value: 100 } } }").gets(&["/"]),
        route("delay none", "fault: { delay: { fixedDelay: 15s, percentage: { value: 0 } } }").gets(&["/"]),
        route(
            "delay and abort",
            "fault: { delay: { fixedDelay: 0.02s, percentage: { value: 100 } }, abort: { httpStatus: 500, percentage: { value: 100 } } }",
        )
        .gets(&["/"]),
        route(
            "abort with header changes",
            "fault: { abort: { httpStatus: 500, percentage: { value: 100 } } }\n    headers: { response: { set: { x-a: '1' } } }",
        )
        .gets(&["/"]),
        route(
            "a fault that may strike leaves retries",
            "fault: { abort: { httpStatus: 555, percentage: { value: 0 } } }\n    retries: { attempts: 2, retryOn: 5xx, backoff: 1ms }",
        )
        .script("v1", &[Step::Status(500), Step::Fine])
        .gets(&["/"]),
        route("timeout", "timeout: 0.15s").script("v1", &[Step::Silent]).calls([get("/"), grpc()]),
        route("timeout that is not reached", "timeout: 15s").gets(&["/"]),
        route("timeout of a POST", "timeout: 0.15s")
            .script("v1", &[Step::Silent])
            .calls([Call::new("POST", "/").body("hello", Framing::Length)]),
        route("timeout with a body that ends late", "timeout: 0.2s")
            .script("v1", &[Step::RawEnd("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"), Step::Fine])
            .gets(&["/", "/"]),
        route("time for one try", "retries: { attempts: 2, perTryTimeout: 0.15s, retryOn: 5xx, backoff: 1ms }")
            .script("v1", &[Step::Silent, Step::Fine])
            .gets(&["/"]),
        route("time for one try, again and again", "retries: { attempts: 1, perTryTimeout: 0.15s, retryOn: 5xx, backoff: 1ms }")
            .script("v1", &[Step::Silent])
            .gets(&["/"]),
        route("time for one try without a condition for it", "retries: { attempts: 2, perTryTimeout: 0.15s, retryOn: connect-failure }")
            .script("v1", &[Step::Silent])
            .gets(&["/"]),
        route("time for one try, gateway-error", "retries: { attempts: 1, perTryTimeout: 0.15s, retryOn: gateway-error, backoff: 1ms }")
            .script("v1", &[Step::Silent, Step::Fine])
            .gets(&["/"]),
        route("time for one try, reset", "retries: { attempts: 1, perTryTimeout: 0.15s, retryOn: reset, backoff: 1ms }")
            .script("v1", &[Step::Silent, Step::Fine])
            .gets(&["/"]),
        route("time for one try is not shorter than all", "timeout: 0.15s\n    retries: { attempts: 2, perTryTimeout: 5s, retryOn: 5xx }")
            .script("v1", &[Step::Silent])
            .gets(&["/"]),
        route("time for all ends the tries", "timeout: 0.5s\n    retries: { attempts: 1, perTryTimeout: 0.2s, retryOn: 5xx, backoff: 1ms }")
            .script("v1", &[Step::Silent])
            .gets(&["/"]),
    ]
}
