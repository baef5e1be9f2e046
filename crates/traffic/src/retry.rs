//! When a request is sent again.

use std::time::Duration;

use http::HeaderMap;

use crate::table::RetryPolicy;

/// How a try ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// With the head of an answer.
    Answer {
        /// The status.
        status: u16,
        /// Its headers: gRPC's status is there when an answer has no body.
        headers: &'a HeaderMap,
    },
    /// No connection, no TLS, or HTTP/2's REFUSED_STREAM or GOAWAY below its id: nothing can have been processed.
    NotSent(NotSent),
    /// The connection ended before the head of an answer; whether a byte of the request had been sent.
    Reset {
        /// True once a byte of the request may have reached the service.
        sent: bool,
    },
    /// `perTryTimeout` passed before the head of an answer.
    PerTryTimeout,
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotSent {
    /// No connection, or no TLS.
    Connect,
    /// REFUSED_STREAM, or GOAWAY below the stream's id.
    RefusedStream,
    /// No connection within the connection pool's limits.
    Overflow,
}

/// Whether the policy's conditions say that a try with this outcome is repeated.
pub fn is_retriable(_policy: &RetryPolicy, _outcome: &Outcome<'_>) -> bool {
    false
}

/// The pause before retry `number`, from 1: uniform in `[0, (2^number - 1) × base)`, at most `10 × base`.
pub fn back_off(_policy: &RetryPolicy, _number: u32, _random: u64) -> Duration {
    Duration::ZERO
}
