//! gRPC's status in the head of an answer, which is all that Envoy's retries and outlier detection look at.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");

pub(crate) const CANCELLED: u16 = 1;
pub(crate) const DEADLINE_EXCEEDED: u16 = 4;
pub(crate) const RESOURCE_EXHAUSTED: u16 = 8;
pub(crate) const INTERNAL: u16 = 13;
pub(crate) const UNAVAILABLE: u16 = 14;

/// What stands for a status that is not one of gRPC's.
const INVALID: u16 = u16::MAX;

/// The status of an answer that consists of trailers only; `None` when it says none.
pub(crate) fn status(headers: &HeaderMap) -> Option<u16> {
    let value = headers.get(STATUS).filter(|value| !value.is_empty())?;
    let status = value.to_str().ok().and_then(|value| value.parse().ok());
    // 16, UNAUTHENTICATED, is the last one.
    Some(status.filter(|status| *status <= 16).unwrap_or(INVALID))
}

/// Whether a request is gRPC's: Envoy's `Grpc::Common::hasGrpcContentType`.
pub(crate) fn is_request(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    // "Content type is gRPC if it is exactly "application/grpc" or starts with "application/grpc+". Specifically,
    // something like application/grpc-web is not gRPC."
    match value.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => rest.is_empty() || rest.first() == Some(&b'+'),
        None => false,
    }
}

/// The status of HTTP that says the same: Envoy's `Grpc::Utility::grpcToHttpStatus`.
pub(crate) fn to_http(status: u16) -> u16 {
    match status {
        0 => 200,
        CANCELLED => 499,
        3 | 9 | 11 => 400,
        DEADLINE_EXCEEDED => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        RESOURCE_EXHAUSTED => 429,
        12 => 501,
        UNAVAILABLE => 503,
        16 => 401,
        _ => 500,
    }
}
