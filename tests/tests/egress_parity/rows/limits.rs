//! Limits of connections and requests, and services that are left out.

use crate::client::{Call, Framing};
use crate::row::Row;
use crate::upstream::Step;

pub(crate) fn rows() -> Vec<Row> {
    let get = || Call::new("GET", "/");
    let post = || Call::new("POST", "/").body("hello", Framing::Length);
    let ejecting = |fields: &str| {
        format!(
            "    outlierDetection: {{ {fields}, interval: 60s, baseEjectionTime: 60s,
          maxEjectionPercent: 100 }}"
        )
    };
    let none = "  - retries: { attempts: 0 }\n    route: [{ destination: { host: HOST } }]";
    let s = Step::Status;
    vec![
        Row::new("too many requests")
            .policy("    connectionPool: { http: { http2MaxRequests: 1 } }")
            .script("v1", &[Step::Gated])
            .open(get())
            .calls([get(), Call::new("POST", "/s/m").header("content-type", "application/grpc")])
            .release()
            .call(get()),
        Row::new("no connection and no place to wait")
            .policy("    connectionPool: { tcp: { maxConnections: 1 }, http: { http1MaxPendingRequests: 1 } }")
            .script("v1", &[Step::Gated])
            .open(get())
            .race(2, get())
            .release()
            .call(get()),
        Row::new("requests that wait for a connection")
            .policy("    connectionPool: { tcp: { maxConnections: 1 } }")
            .script("v1", &[Step::After(100)])
            .calls([get(), get()]),
        Row::new("one request a connection")
            .policy("    connectionPool: { http: { maxRequestsPerConnection: 1 } }")
            .calls([get(), get(), get()]),
        Row::new("retries have a limit")
            .policy("    connectionPool: { http: { maxRetries: 1 } }")
            .http(
                "  - retries: { attempts: 2, retryOn: 5xx, backoff: 1ms }
    route: [{ destination: { host: HOST } }]",
            )
            .script("v1", &[s(503), s(503), Step::Fine])
            .call(get()),
        Row::new("left out after 5xx")
            .policy(&ejecting("consecutive5xxErrors: 2"))
            .http(none)
            .script("v1", &[s(500)])
            .calls([get(), get()])
            .left_out(1)
            .calls([get(), get()]),
        Row::new("a good answer begins the count again")
            .policy(&ejecting("consecutive5xxErrors: 2"))
            .http(none)
            .script("v1", &[s(500), Step::Fine, s(500), Step::Fine])
            .calls([get(), get(), get(), get(), get()]),
        Row::new("left out after gateway errors")
            .policy(&ejecting("consecutiveGatewayErrors: 2, consecutive5xxErrors: 0"))
            .http(none)
            .script("v1", &[s(500), s(500), s(502), s(503), Step::Fine])
            .calls([get(), get(), get(), get()])
            .left_out(1)
            .calls([get(), get()]),
        Row::new("not left out by 5xx when they do not count")
            .policy(&ejecting("consecutive5xxErrors: 0"))
            .http(none)
            .script("v1", &[s(500)])
            .calls([get(), get(), get(), get(), get(), get(), get()]),
        Row::new("left out after five by default")
            .policy("    outlierDetection: { interval: 60s, maxEjectionPercent: 100 }")
            .http(none)
            .script("v1", &[s(500)])
            .calls([get(), get(), get(), get(), get()])
            .left_out(1)
            .calls([get(), get()]),
        Row::new("left out when it cuts connections")
            .policy(&ejecting("consecutive5xxErrors: 2"))
            .http(none)
            .script("v1", &[Step::Cut])
            .calls([post(), post()])
            .left_out(1)
            .calls([post(), post()]),
        Row::new("left out when nobody is there")
            .policy(&ejecting("consecutive5xxErrors: 2"))
            .http(none)
            .closed("v1")
            .calls([get(), get()])
            .left_out(1)
            .calls([get(), get()]),
        Row::new("the other one takes over")
            .endpoints(&["v1", "v2"])
            .policy(&ejecting("consecutive5xxErrors: 1"))
            .http(none)
            .script("any", &[s(500), Step::Fine])
            .by_chance()
            .call(get())
            .left_out(1)
            .calls([get(), get(), get()]),
        Row::new("all are left out")
            .endpoints(&["v1", "v2"])
            .policy(&ejecting("consecutive5xxErrors: 1"))
            .http(none)
            .script("any", &[s(500)])
            .by_chance()
            .call(get())
            .left_out(1)
            .call(get())
            .left_out(2)
            .calls([get(), get()]),
        Row::new("left out, with header changes")
            .policy(&ejecting("consecutive5xxErrors: 1"))
            .http("  - headers: { response: { set: { x-a: '1' } } }\n    route: [{ destination: { host: HOST } }]")
            .script("v1", &[s(500)])
            .call(get())
            .left_out(1)
            .call(get()),
        Row::new("too many requests, with header changes")
            .policy("    connectionPool: { http: { http2MaxRequests: 1 } }")
            .http("  - headers: { response: { set: { x-a: '1' } } }\n    route: [{ destination: { host: HOST } }]")
            .script("v1", &[Step::Gated])
            .open(get())
            .call(get())
            .release(),
        Row::new("panic: rather a bad one than none")
            .endpoints(&["v1", "v2"])
            .policy(&ejecting("consecutive5xxErrors: 1, minHealthPercent: 50"))
            .http(none)
            .script("any", &[s(500)])
            .by_chance()
            .call(get())
            .left_out(1)
            .call(get())
            .left_out(2)
            .call(get()),
        Row::new("at most so many are left out")
            .endpoints(&["v1", "v2"])
            .policy(
                "    loadBalancer: { simple: ROUND_ROBIN }
    outlierDetection: { consecutive5xxErrors: 1, interval: 60s, maxEjectionPercent: 50 }",
            )
            .http(none)
            .script("any", &[s(500)])
            .by_chance()
            .call(get())
            .left_out(1)
            .calls([get(), get(), get()]),
        Row::new("round robin")
            .endpoints(&["v1", "v2", "v3"])
            .policy("    loadBalancer: { simple: ROUND_ROBIN }")
            .by_chance()
            .calls([get(), get(), get(), get(), get(), get()]),
    ]
}
