//! What the application asks of its sidecar in `x-envoy-…`.

use crate::client::{Call, Framing};
use crate::row::Row;
use crate::upstream::Step;

/// What Envoy says of a client that it believes.
const TRUSTED: &[&str] =
    &["Envoy: request *: header x-envoy-internal: true", "Envoy: request *: header x-forwarded-for: *"];

pub(crate) fn rows() -> Vec<Row> {
    let ask = |fields: &[(&str, &str)]| {
        fields.iter().fold(Call::new("GET", "/"), |call, (name, value)| call.header(name, value))
    };
    let row = |name, script: &[Step]| {
        Row::new(name).script("v1", script).trusting().unlike(TRUSTED, "Envoy says so to the service")
    };
    let none = "  - retries: { attempts: 0 }\n    route: [{ destination: { host: HOST } }]";
    let s = Step::Status;
    vec![
        row("wish: time for all", &[Step::Silent]).call(ask(&[("x-envoy-upstream-rq-timeout-ms", "150")])),
        row("wish: time for all, alternative answer", &[Step::Silent])
            .call(ask(&[("x-envoy-upstream-rq-timeout-ms", "150"), ("x-envoy-upstream-rq-timeout-alt-response", "1")])),
        row("wish: time for all that is no number", &[Step::Fine])
            .call(ask(&[("x-envoy-upstream-rq-timeout-ms", "soon")])),
        row("wish: longer than the route's time", &[Step::After(400)])
            .http("  - timeout: 0.1s\n    route: [{ destination: { host: HOST } }]")
            .call(ask(&[("x-envoy-upstream-rq-timeout-ms", "15000")])),
        row("wish: time for one try", &[Step::Silent, Step::Fine])
            .call(ask(&[("x-envoy-upstream-rq-per-try-timeout-ms", "1000"), ("x-envoy-retry-on", "5xx")])),
        row("wish: retries on 5xx", &[s(500), s(500), Step::Fine]).call(ask(&[("x-envoy-retry-on", "5xx")])),
        row("wish: retries where the route has none", &[s(500), s(500), Step::Fine])
            .http(none)
            .call(ask(&[("x-envoy-retry-on", "5xx")])),
        row("wish: more retries", &[s(500), s(500), s(500), s(500), Step::Fine])
            .call(ask(&[("x-envoy-retry-on", "gateway-error,5xx"), ("x-envoy-max-retries", "4")])),
        row("wish: no retries", &[s(500), Step::Fine])
            .http("  - retries: { attempts: 3, retryOn: 5xx }\n    route: [{ destination: { host: HOST } }]")
            .call(ask(&[("x-envoy-max-retries", "0")])),
        row("wish: a number without a condition", &[s(500), Step::Fine])
            .http(none)
            .call(ask(&[("x-envoy-max-retries", "3")])),
        row("wish: an unknown condition", &[s(500), Step::Fine]).call(ask(&[("x-envoy-retry-on", "nonsense")])),
        row("wish: statuses", &[s(418), Step::Fine]).call(ask(&[
            ("x-envoy-retry-on", "retriable-status-codes"),
            ("x-envoy-retriable-status-codes", "418, 429"),
        ])),
        row("wish: retriable headers", &[Step::Says(200, &[("x-again", "1")]), Step::Fine])
            .call(ask(&[("x-envoy-retry-on", "retriable-headers"), ("x-envoy-retriable-header-names", "x-again")]))
            .unlike(
                &["extension: answer 1: header x-again: 1", "Envoy: request 2 *"],
                "no document of Istio can name header fields, and a wish for them is not supported",
            ),
        row(
            "wish: gRPC",
            &[Step::Says(200, &[("content-type", "application/grpc"), ("grpc-status", "8")]), Step::Fine],
        )
        .call(
            Call::new("POST", "/s/m")
                .header("content-type", "application/grpc")
                .header("x-envoy-retry-grpc-on", "resource-exhausted"),
        ),
        row("wish: conditions of the route stay", &[Step::Cut, s(500), Step::Fine])
            .http(
                "  - retries: { attempts: 2, retryOn: reset, backoff: 1ms }
    route: [{ destination: { host: HOST } }]",
            )
            .call(Call::new("POST", "/").header("x-envoy-retry-on", "5xx").body("hello", Framing::Length)),
        Row::new("headers of Envoy that come from an application")
            .calls([
                ask(&[("x-envoy-attempt-count", "7"), ("x-envoy-original-path", "/forged")]),
                ask(&[("x-envoy-expected-rq-timeout-ms", "7"), ("x-envoy-internal", "true")]),
                ask(&[("x-envoy-decorator-operation", "op"), ("x-envoy-hedge-on-per-try-timeout", "true")]),
                ask(&[("x-envoy-something-new", "1"), ("x-envoy-upstream-service-time", "1")]),
                ask(&[("x-envoy-downstream-service-cluster", "c"), ("x-envoy-peer-metadata", "m")]),
                ask(&[("x-envoy-is-timeout-retry", "true"), ("x-envoy-ip-tags", "t")]),
            ])
            .unlike(
                &[
                    "Envoy: request 1 *: header x-envoy-original-path: /forged",
                    "Envoy: request 3 *: header x-envoy-decorator-operation: op",
                    "Envoy: request 4 *: header x-envoy-something-new: 1",
                    "Envoy: request 4 *: header x-envoy-upstream-service-time: 1",
                    "Envoy: request 5 *: header x-envoy-downstream-service-cluster: c",
                    "Envoy: request 5 *: header x-envoy-peer-metadata: m",
                    "Envoy: request 6 *: header x-envoy-is-timeout-retry: true",
                ],
                "they are the words of sidecars, and an application's own are not passed on as such",
            ),
        Row::new("headers of Envoy that come from a service")
            .script(
                "v1",
                &[Step::Says(
                    200,
                    &[
                        ("x-envoy-upstream-service-time", "77"),
                        ("x-envoy-attempt-count", "3"),
                        ("x-envoy-overloaded", "true"),
                        ("x-envoy-decorator-operation", "op"),
                        ("x-envoy-upstream-healthchecked-cluster", "c"),
                        ("x-envoy-something-new", "1"),
                    ],
                )],
            )
            .call(Call::new("GET", "/")),
        Row::new("the headers of the sidecar")
            .http(
                "  - timeout: 5s
    retries: { attempts: 2, perTryTimeout: 2s }\n    route: [{ destination: { host: HOST } }]",
            )
            .calls([
                Call::new("GET", "/"),
                ask(&[("x-request-id", "mine"), ("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", "https")]),
            ]),
    ]
}
