use super::nearest::quoted;
use super::read::At;
use crate::HttpRetry;

/// Words of Envoy that Istio takes (`supportedRetryOnPolicies`).
const CONDITIONS: &[&str] = &[
    "5xx",
    "cancelled",
    "connect-failure",
    "deadline-exceeded",
    "envoy-ratelimited",
    "gateway-error",
    "http3-post-connect-failure",
    "internal",
    "refused-stream",
    "reset",
    "reset-before-request",
    "resource-exhausted",
    "retriable-4xx",
    "retriable-headers",
    "retriable-status-codes",
    "unavailable",
];
/// The statuses that Go has a text for (`http.StatusText`).
const STATUSES: &[std::ops::RangeInclusive<u16>] = &[
    100..=103,
    200..=208,
    226..=226,
    300..=305,
    307..=308,
    400..=418,
    421..=426,
    428..=429,
    431..=431,
    451..=451,
    500..=508,
    510..=511,
];

/// `retries` of a route, and `defaultHttpRetryPolicy` of the mesh.
pub(super) fn http_retry(at: &At<'_>) -> Option<HttpRetry> {
    at.mapping(&[], |fields| {
        let attempts = match fields.field("attempts") {
            None => Some(0),
            Some(at) => at.count(),
        };
        let per_try_timeout = fields.whole_milliseconds("perTryTimeout");
        let retry_on = fields.field("retryOn").map(|at| retry_on(&at)).unwrap_or_default();
        let retry_remote_localities = fields.optional_boolean("retryRemoteLocalities");
        let retry_ignore_previous_hosts = fields.optional_boolean("retryIgnorePreviousHosts");
        let backoff = fields.whole_milliseconds("backoff");
        // Istio: "http retry policy configured when attempts are set to 0 (disabled)".
        if attempts == Some(0) && ["perTryTimeout", "retryOn", "retryRemoteLocalities"].iter().any(|n| fields.has(n)) {
            fields.at.error("`attempts` is 0 or missing, which turns retries off; set it, or leave only `attempts: 0`");
        }
        Some(HttpRetry {
            attempts: attempts?,
            per_try_timeout,
            retry_on,
            retry_remote_localities,
            retry_ignore_previous_hosts,
            backoff,
        })
    })
}

/// Istio compares the parts as they stand between the commas, spaces included.
fn retry_on(at: &At<'_>) -> Vec<String> {
    let Some(text) = at.non_empty_string() else {
        return Vec::new();
    };
    let words: Vec<String> = text.split(',').map(str::to_owned).collect();
    for word in &words {
        let digits = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
        let status = digits && word.parse().is_ok_and(|code| STATUSES.iter().any(|known| known.contains(&code)));
        if !status && !CONDITIONS.contains(&word.as_str()) {
            at.error(format!(
                "expected conditions and statuses of Envoy with commas between them and no spaces, found {}",
                quoted(word)
            ));
        }
    }
    words
}
