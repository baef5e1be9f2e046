//! When a request is sent again.
//!
//! The conditions are Envoy's (`RetryStateImpl::wouldRetryFromHeaders` and `wouldRetryFromReset`), and there is no
//! other: a request whose bytes may have reached the service is repeated only where the policy itself names the
//! condition.

mod budget;
pub(crate) mod grpc;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::HeaderMap;

pub use budget::Budget;

use crate::table::{RetryOn, RetryPolicy};

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

/// Whether the policy's conditions say that a try with this outcome is repeated. The number of tries and the
/// [`Budget`] are the caller's to look at.
pub fn is_retriable(policy: &RetryPolicy, outcome: &Outcome<'_>) -> bool {
    if policy.attempts == 0 {
        return false;
    }
    match *outcome {
        Outcome::Answer { status, headers } => answer(policy, status, headers),
        Outcome::NotSent(NotSent::Overflow) => {
            // "we never retry if the reset reason is overflow": the limits are there to shed load.
            false
        }
        Outcome::NotSent(NotSent::Connect) => {
            // Envoy's pool failures, TLS included; a pool failure is a reset too, and nothing of it was sent.
            has(policy, RetryOn::ConnectFailure) || has(policy, RetryOn::ResetBeforeRequest) || reset(policy)
        }
        Outcome::NotSent(NotSent::RefusedStream) => {
            // Its head was sent, so that `reset-before-request` ("request headers have not been sent") does not match.
            has(policy, RetryOn::RefusedStream) || reset(policy)
        }
        Outcome::Reset { sent } => (!sent && has(policy, RetryOn::ResetBeforeRequest)) || reset(policy),
        Outcome::PerTryTimeout => {
            // Envoy's `onPerTryTimeoutCommon` resets the stream and asks for `LocalReset`: it is "a stream reset which
            // is analogous to a gateway error". The 504 is no answer of the service, so `504` among the statuses does
            // not match it. The clock starts when the request is sent, so `reset-before-request` does not either.
            reset(policy)
        }
    }
}

/// What every reset but an overflow matches: `reset`, and `5xx` and `gateway-error`, since "we count an upstream reset
/// as a 5xx (since it will result in one)".
fn reset(policy: &RetryPolicy) -> bool {
    has(policy, RetryOn::Reset) || has(policy, RetryOn::Status5xx) || has(policy, RetryOn::GatewayError)
}

fn answer(policy: &RetryPolicy, status: u16, headers: &HeaderMap) -> bool {
    // "A response that contains the x-envoy-ratelimited header comes from an upstream envoy. We retry these only when
    // the envoy-ratelimited policy is in effect": it is looked at before everything else.
    if headers.contains_key("x-envoy-ratelimited") {
        return has(policy, RetryOn::EnvoyRatelimited);
    }
    let grpc = grpc::status(headers);
    policy.on.iter().any(|on| match on {
        RetryOn::Status5xx => (500..600).contains(&status),
        RetryOn::GatewayError => matches!(status, 502..=504),
        // "Currently, the only response code in this category is 409."
        RetryOn::Retriable4xx => status == 409,
        RetryOn::RetriableStatusCodes => policy.statuses.contains(&status),
        RetryOn::GrpcCancelled => grpc == Some(grpc::CANCELLED),
        RetryOn::GrpcDeadlineExceeded => grpc == Some(grpc::DEADLINE_EXCEEDED),
        RetryOn::GrpcInternal => grpc == Some(grpc::INTERNAL),
        RetryOn::GrpcResourceExhausted => grpc == Some(grpc::RESOURCE_EXHAUSTED),
        RetryOn::GrpcUnavailable => grpc == Some(grpc::UNAVAILABLE),
        RetryOn::Reset
        | RetryOn::ResetBeforeRequest
        | RetryOn::ConnectFailure
        | RetryOn::RefusedStream
        | RetryOn::EnvoyRatelimited => false,
    })
}

fn has(policy: &RetryPolicy, on: RetryOn) -> bool {
    policy.on.contains(&on)
}

/// The pause before retry `number`, from 1: some whole milliseconds in `[0, min(2^(number - 1), 10) × base)`.
///
/// So does Envoy's `JitteredExponentialBackOffStrategy`, with its default for the longest interval, 10 times the base.
/// Envoy's documentation still gives the formula of a former version, `[0, (2^number - 1) × base)`.
pub fn back_off(policy: &RetryPolicy, number: u32, random: u64) -> Duration {
    // 2^4 is more than 10 already.
    let factor = (1u64 << number.saturating_sub(1).min(4)).min(10);
    let interval = policy.backoff_ms.saturating_mul(factor);
    Duration::from_millis(random.checked_rem(interval).unwrap_or(0))
}
