//! gRPC: statuses in trailers, and answers of the sidecar itself.

use crate::client::{Call, Framing};
use crate::row::Row;
use crate::upstream::Step;

pub(crate) fn rows() -> Vec<Row> {
    let grpc = || {
        Call::new("POST", "/shop.Cart/Add")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body("\0\0\0\0\x02ab", Framing::Length)
    };
    let fields: &[(&str, &str)] = &[("grpc-status", "5"), ("grpc-message", "not found")];
    vec![
        Row::new("gRPC trailers")
            .protocol("GRPC")
            .script("v1", &[Step::Trailers(fields)])
            .calls([grpc().http2(), grpc()]),
        Row::new("gRPC status without trailers")
            .protocol("GRPC")
            .script("v1", &[Step::Says(200, &[("content-type", "application/grpc"), ("grpc-status", "7")])])
            .calls([grpc().http2()]),
        Row::new("gRPC and a status of HTTP")
            .protocol("GRPC")
            .script("v1", &[Step::Status(503)])
            .calls([grpc().http2()]),
        Row::new("gRPC over HTTP/1.1 to the service")
            .script("v1", &[Step::Trailers(fields)])
            .calls([grpc().http2()])
            .unlike(
                &["extension: answer 1: trailer *"],
                "without its trailers an answer of gRPC has no status; Envoy leaves those of HTTP/1.1 out",
            ),
        Row::new("gRPC and nobody there").protocol("GRPC").closed("v1").calls([grpc().http2(), grpc()]),
        Row::new("gRPC and no route")
            .protocol("GRPC")
            .http("  - match: [{ uri: { prefix: /a } }]\n    route: [{ destination: { host: HOST } }]")
            .calls([grpc().http2()]),
        Row::new("gRPC and time")
            .protocol("GRPC")
            .http("  - timeout: 0.15s\n    route: [{ destination: { host: HOST } }]")
            .script("v1", &[Step::Silent])
            .calls([grpc().http2()]),
        Row::new("gRPC and a stream that is reset")
            .protocol("GRPC")
            .script("v1", &[Step::ResetStream(h2::Reason::INTERNAL_ERROR)])
            .calls([grpc().http2()]),
        Row::new("gRPC and a stream that is refused")
            .protocol("GRPC")
            .script(
                "v1",
                &[
                    Step::ResetStream(h2::Reason::REFUSED_STREAM),
                    Step::ResetStream(h2::Reason::REFUSED_STREAM),
                    Step::Fine,
                ],
            )
            .calls([grpc().http2()]),
        Row::new("gRPC's own time")
            .protocol("GRPC")
            .http("  - timeout: 5s\n    route: [{ destination: { host: HOST } }]")
            .script("v1", &[Step::Fine])
            .calls([grpc().header("grpc-timeout", "3S").http2()]),
        Row::new("gRPC's own time without one of the route")
            .protocol("GRPC")
            .script("v1", &[Step::Fine])
            .calls([grpc().header("grpc-timeout", "3S").http2()]),
    ]
}
