//! When a request is sent again.

use std::time::Duration;

use istio::HttpRetry;

use super::pool::ms;
use crate::table::{RetryOn, RetryPolicy};

const ATTEMPTS: u32 = 2;
const BACKOFF: Duration = Duration::from_millis(25);

/// "connect-failure,refused-stream,unavailable,cancelled". Istio's code adds `retriable-status-codes`, of which it
/// names none.
const DEFAULT_ON: [RetryOn; 4] =
    [RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::GrpcUnavailable, RetryOn::GrpcCancelled];

/// Words that Envoy knows and that cannot come true here: there is no HTTP/3, and no list of headers in Istio.
const WITHOUT_EFFECT: [&str; 3] = ["retriable-headers", "http3-post-connect-failure", "retriable-grpc-headers"];

/// The policy of a route, and the words of it that have no effect. `policy` is the route's, or else the mesh's; with
/// `is_hashed` a retry goes to the endpoint that the hash gives, unless the policy says otherwise.
pub(super) fn policy(
    policy: Option<&HttpRetry>,
    is_hashed: bool,
    timeout_ms: u64,
) -> Result<(RetryPolicy, Vec<String>), String> {
    let mut made = RetryPolicy {
        attempts: ATTEMPTS,
        per_try_timeout_ms: 0,
        on: DEFAULT_ON.to_vec(),
        statuses: Vec::new(),
        backoff_ms: ms(BACKOFF),
        avoids_previous_hosts: !is_hashed,
        remote_localities: false,
    };
    let Some(policy) = policy else { return Ok((made, Vec::new())) };
    // "Configuration is explicitly disabling the retry policy."
    if policy.attempts == 0 {
        return Ok((RetryPolicy::default(), Vec::new()));
    }
    made.attempts = policy.attempts;
    let mut idle = Vec::new();
    if !policy.retry_on.is_empty() {
        let words = words(&policy.retry_on)?;
        (made.on, made.statuses, idle) = (words.on, words.statuses, words.idle);
    }
    made.per_try_timeout_ms = policy.per_try_timeout.map_or(0, ms);
    // Envoy: a timeout of a try that is not below that of the whole is ignored.
    if timeout_ms != 0 && made.per_try_timeout_ms >= timeout_ms {
        made.per_try_timeout_ms = 0;
    }
    if let Some(ignores) = policy.retry_ignore_previous_hosts {
        made.avoids_previous_hosts = ignores;
    }
    made.remote_localities = policy.retry_remote_localities.unwrap_or(false);
    made.backoff_ms = policy.backoff.map_or(made.backoff_ms, ms);
    Ok((made, idle))
}

/// `retryOn`, taken apart.
#[derive(Default)]
struct Words {
    on: Vec<RetryOn>,
    statuses: Vec<u16>,
    idle: Vec<String>,
}

/// As Istio's `parseRetryOn`: "Any integers are assumed to be status codes".
fn words(words: &[String]) -> Result<Words, String> {
    let Words { mut on, mut statuses, mut idle } = Words::default();
    for word in words.iter().flat_map(|word| word.split(',')).map(str::trim).filter(|word| !word.is_empty()) {
        if let Some(known) = condition(word) {
            if !on.contains(&known) {
                on.push(known);
            }
        } else if let Some(status) = word.parse().ok().filter(|status| is_known(*status)) {
            statuses.push(status);
        } else if WITHOUT_EFFECT.contains(&word) {
            idle.push(word.to_owned());
        } else {
            return Err(format!(
                "found {word:?}, expected a status of HTTP or a condition such as 5xx, reset or unavailable"
            ));
        }
    }
    // "If user has just specified HTTP status codes in retryOn but have not specified "retriable-status-codes", let us
    // add it."
    if !statuses.is_empty() && !on.contains(&RetryOn::RetriableStatusCodes) {
        on.push(RetryOn::RetriableStatusCodes);
    }
    Ok(Words { on, statuses, idle })
}

/// Whether Go's `http.StatusText` has a text for it.
fn is_known(status: u16) -> bool {
    http::StatusCode::from_u16(status).is_ok_and(|status| status.canonical_reason().is_some())
}

fn condition(word: &str) -> Option<RetryOn> {
    Some(match word {
        "5xx" => RetryOn::Status5xx,
        "gateway-error" => RetryOn::GatewayError,
        "reset" => RetryOn::Reset,
        "reset-before-request" => RetryOn::ResetBeforeRequest,
        "connect-failure" => RetryOn::ConnectFailure,
        "envoy-ratelimited" => RetryOn::EnvoyRatelimited,
        "retriable-4xx" => RetryOn::Retriable4xx,
        "refused-stream" => RetryOn::RefusedStream,
        "retriable-status-codes" => RetryOn::RetriableStatusCodes,
        "cancelled" => RetryOn::GrpcCancelled,
        "deadline-exceeded" => RetryOn::GrpcDeadlineExceeded,
        "internal" => RetryOn::GrpcInternal,
        "resource-exhausted" => RetryOn::GrpcResourceExhausted,
        "unavailable" => RetryOn::GrpcUnavailable,
        _ => return None,
    })
}
