//! What an application asks of its sidecar in headers: Istio's sidecars honour Envoy's `x-envoy-…` of their own
//! applications, and so does this one, as far as they are about timeouts and retries.

use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderName;
use traffic::table::{RetryOn, RetryPolicy};

use crate::answer::SILENCE;

/// Every header with this prefix is for the sidecar or from one; none of an application's goes on.
const PREFIX: &str = "x-envoy-";

/// The longest time that can be asked for.
const MOST: u64 = 24 * 3_600 * 1_000;

/// The most retries that can be asked for.
const MOST_RETRIES: u32 = 100;

/// What was asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Wishes {
    /// `x-envoy-upstream-rq-timeout-ms`; zero is none.
    pub(crate) timeout: Option<Duration>,
    /// `x-envoy-upstream-rq-per-try-timeout-ms`.
    per_try: Option<u64>,
    /// `x-envoy-max-retries`.
    retries: Option<u32>,
    /// `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
    on: Vec<RetryOn>,
    /// `x-envoy-retriable-status-codes`.
    statuses: Vec<u16>,
    /// `x-envoy-upstream-rq-timeout-alt-response`: 204 instead of 504.
    pub(crate) no_content: bool,
}

impl Wishes {
    /// Takes them out of the headers. What is no number counts as not there, as in Envoy.
    pub(crate) fn take(headers: &mut HeaderMap) -> Wishes {
        let names: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
        let mut wishes = Wishes::default();
        for name in names {
            let Some(value) = headers.remove(&name) else { continue };
            let Ok(value) = value.to_str() else { continue };
            let value = value.trim();
            match &name.as_str()[PREFIX.len()..] {
                "upstream-rq-timeout-ms" => wishes.timeout = milliseconds(value).map(Duration::from_millis),
                "upstream-rq-per-try-timeout-ms" => wishes.per_try = milliseconds(value),
                "max-retries" => wishes.retries = value.parse().ok().map(|count: u32| count.min(MOST_RETRIES)),
                "retry-on" => wishes.on.extend(value.split(',').filter_map(|word| condition(word.trim()))),
                "retry-grpc-on" => wishes.on.extend(value.split(',').filter_map(|word| grpc(word.trim()))),
                "retriable-status-codes" => {
                    wishes.statuses.extend(value.split(',').filter_map(|code| code.trim().parse::<u16>().ok()));
                }
                "upstream-rq-timeout-alt-response" => wishes.no_content = true,
                _ => {}
            }
        }
        wishes
    }

    /// The route's policy with what was asked for: conditions are added, and the number is taken where there is any
    /// condition (Envoy's `RetryStateImpl`).
    pub(crate) fn of(&self, route: &RetryPolicy) -> RetryPolicy {
        let mut policy = route.clone();
        if !self.on.is_empty() && policy.attempts == 0 {
            // Envoy: one retry where only the header turns them on.
            policy.attempts = 1;
        }
        policy.on.extend_from_slice(&self.on);
        policy.statuses.extend_from_slice(&self.statuses);
        if let Some(retries) = self.retries.filter(|_| !policy.on.is_empty()) {
            policy.attempts = retries;
        }
        if let Some(per_try) = self.per_try {
            policy.per_try_timeout_ms = per_try;
        }
        policy
    }

    /// How long a service may be silent before its answer where the timeout is turned off: what is left then is Envoy's
    /// `stream_idle_timeout`. `None` where the application says nothing, or a time.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.timeout.filter(Duration::is_zero).map(|_| SILENCE)
    }

    /// Whether nothing was asked for that changes a policy.
    pub(crate) fn leave_policy(&self) -> bool {
        self.on.is_empty() && self.statuses.is_empty() && self.retries.is_none() && self.per_try.is_none()
    }
}

fn milliseconds(value: &str) -> Option<u64> {
    value.parse().ok().map(|number: u64| number.min(MOST))
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
        _ => return None,
    })
}

fn grpc(word: &str) -> Option<RetryOn> {
    Some(match word {
        "cancelled" => RetryOn::GrpcCancelled,
        "deadline-exceeded" => RetryOn::GrpcDeadlineExceeded,
        "internal" => RetryOn::GrpcInternal,
        "resource-exhausted" => RetryOn::GrpcResourceExhausted,
        "unavailable" => RetryOn::GrpcUnavailable,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn taken(fields: &[(&'static str, &'static str)]) -> (Wishes, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        (Wishes::take(&mut headers), headers)
    }

    #[test]
    fn all_of_them_are_taken_out() {
        let (_, left) = taken(&[
            ("x-envoy-max-retries", "3"),
            ("x-envoy-retry-on", "5xx"),
            ("x-envoy-hedge-on-per-try-timeout", "true"),
            ("x-envoy-attempt-count", "7"),
            ("x-envoy-original-path", "/forged"),
            ("x-envoy-something-new", "1"),
            ("x-environment", "stays"),
        ]);
        assert_eq!(left.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-environment"]);
    }

    #[test]
    fn a_policy_takes_what_was_asked_for() {
        let route = RetryPolicy { attempts: 2, on: vec![RetryOn::ConnectFailure], ..RetryPolicy::default() };
        let none = RetryPolicy::default();
        for (name, fields, route, expected) in [
            ("nothing", &[][..], &route, route.clone()),
            (
                "conditions are added",
                &[("x-envoy-retry-on", "5xx, reset,unknown"), ("x-envoy-retry-grpc-on", "cancelled")],
                &route,
                RetryPolicy {
                    on: vec![RetryOn::ConnectFailure, RetryOn::Status5xx, RetryOn::Reset, RetryOn::GrpcCancelled],
                    ..route.clone()
                },
            ),
            (
                "the number is taken",
                &[("x-envoy-max-retries", "0")],
                &route,
                RetryPolicy { attempts: 0, ..route.clone() },
            ),
            (
                "and bounded",
                &[("x-envoy-max-retries", "5000")],
                &route,
                RetryPolicy { attempts: MOST_RETRIES, ..route.clone() },
            ),
            ("no number", &[("x-envoy-max-retries", "many")], &route, route.clone()),
            ("a number alone turns nothing on", &[("x-envoy-max-retries", "3")], &none, none.clone()),
            (
                "a condition alone is one retry",
                &[("x-envoy-retry-on", "gateway-error")],
                &none,
                RetryPolicy { attempts: 1, on: vec![RetryOn::GatewayError], ..RetryPolicy::default() },
            ),
            (
                "statuses and the time for one try",
                &[
                    ("x-envoy-retry-on", "retriable-status-codes"),
                    ("x-envoy-retriable-status-codes", "418, 429"),
                    ("x-envoy-upstream-rq-per-try-timeout-ms", "250"),
                ],
                &none,
                RetryPolicy {
                    attempts: 1,
                    on: vec![RetryOn::RetriableStatusCodes],
                    statuses: vec![418, 429],
                    per_try_timeout_ms: 250,
                    ..RetryPolicy::default()
                },
            ),
            (
                "what is no number is passed over",
                &[
                    ("x-envoy-retry-on", "retriable-status-codes"),
                    ("x-envoy-retriable-status-codes", "   418 junk,200,xxx503,"),
                ],
                &none,
                RetryPolicy {
                    attempts: 1,
                    on: vec![RetryOn::RetriableStatusCodes],
                    statuses: vec![200],
                    ..RetryPolicy::default()
                },
            ),
        ] {
            assert_eq!(taken(fields).0.of(route), expected, "{name}");
        }
        let (wishes, _) =
            taken(&[("x-envoy-upstream-rq-timeout-ms", "1500"), ("x-envoy-upstream-rq-timeout-alt-response", "1")]);
        assert_eq!((wishes.timeout, wishes.no_content), (Some(Duration::from_millis(1_500)), true));
        assert!(wishes.leave_policy());
    }
}
