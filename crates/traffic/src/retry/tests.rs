//! The cases of Envoy's `retry_state_impl_test.cc`, each as a row. Envoy 1.40.0 itself gives the same for every
//! condition with every status, a closed connection, a silent service and a port where nobody listens.

use std::time::Duration;

use http::HeaderMap;
use proptest::prelude::*;

use super::{Budget, NotSent, Outcome, back_off, is_retriable};
use crate::table::{Pool, RetryOn, RetryPolicy};

use RetryOn::*;

const ALL: [RetryOn; 14] = [
    Status5xx,
    GatewayError,
    Reset,
    ResetBeforeRequest,
    ConnectFailure,
    EnvoyRatelimited,
    Retriable4xx,
    RefusedStream,
    RetriableStatusCodes,
    GrpcCancelled,
    GrpcDeadlineExceeded,
    GrpcInternal,
    GrpcResourceExhausted,
    GrpcUnavailable,
];

fn policy(on: &[RetryOn]) -> RetryPolicy {
    RetryPolicy { attempts: 1, on: on.to_vec(), statuses: vec![418, 503], backoff_ms: 25, ..RetryPolicy::default() }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// The conditions that match an outcome; none of the others may.
fn matching(outcome: &Outcome<'_>) -> Vec<RetryOn> {
    ALL.into_iter().filter(|on| is_retriable(&policy(&[*on]), outcome)).collect()
}

#[test]
fn conditions_by_status() {
    let plain = HeaderMap::new();
    // Policy5xxRemote503, PolicyGatewayErrorRemote502 to 504, PolicyRetriable4xxRetry, RetriableStatusCodes
    for (status, expected) in [
        (200, vec![]),
        (404, vec![]),
        (409, vec![Retriable4xx]),
        (418, vec![RetriableStatusCodes]),
        (429, vec![]),
        (499, vec![]),
        (500, vec![Status5xx]),
        (501, vec![Status5xx]),
        (502, vec![Status5xx, GatewayError]),
        (503, vec![Status5xx, GatewayError, RetriableStatusCodes]),
        (504, vec![Status5xx, GatewayError]),
        (505, vec![Status5xx]),
        (599, vec![Status5xx]),
        (600, vec![]),
    ] {
        assert_eq!(matching(&Outcome::Answer { status, headers: &plain }), expected, "{status}");
    }
}

#[test]
fn conditions_by_grpc_status() {
    for (status, expected) in [
        ("0", vec![]),
        ("1", vec![GrpcCancelled]),
        ("2", vec![]),
        ("4", vec![GrpcDeadlineExceeded]),
        ("8", vec![GrpcResourceExhausted]),
        ("13", vec![GrpcInternal]),
        ("14", vec![GrpcUnavailable]),
        ("16", vec![]),
        ("17", vec![]),
        ("65550", vec![]),
        ("-1", vec![]),
        ("x", vec![]),
        ("", vec![]),
    ] {
        let headers = headers(&[("grpc-status", status)]);
        assert_eq!(matching(&Outcome::Answer { status: 200, headers: &headers }), expected, "{status}");
    }
}

// PolicyEnvoyRateLimitedRemoteRateLimited, PolicyGatewayErrorRemoteRateLimited
#[test]
fn an_answer_of_a_rate_limit_is_repeated_by_its_own_condition_alone() {
    let headers = headers(&[("x-envoy-ratelimited", "true"), ("grpc-status", "14")]);
    for status in [200, 429, 503] {
        assert_eq!(matching(&Outcome::Answer { status, headers: &headers }), [EnvoyRatelimited], "{status}");
    }
    let both = policy(&[Status5xx, EnvoyRatelimited]);
    assert!(is_retriable(&both, &Outcome::Answer { status: 503, headers: &headers }));
}

// Newer releases of Envoy repeat what an overloaded one has answered.
#[test]
fn an_overloaded_answer_is_an_answer() {
    let headers = headers(&[("x-envoy-overloaded", "true")]);
    assert!(is_retriable(&policy(&[Status5xx]), &Outcome::Answer { status: 503, headers: &headers }));
}

#[test]
fn conditions_without_an_answer() {
    let resets = vec![Status5xx, GatewayError, Reset];
    let with = |more: RetryOn| ALL.into_iter().filter(|on| resets.contains(on) || *on == more).collect::<Vec<_>>();
    for (outcome, expected) in [
        // PolicyConnectFailureResetConnectFailure
        (Outcome::NotSent(NotSent::Connect), vec![Status5xx, GatewayError, Reset, ResetBeforeRequest, ConnectFailure]),
        // PolicyRefusedStream
        (Outcome::NotSent(NotSent::RefusedStream), with(RefusedStream)),
        // PolicyNeverOverflow
        (Outcome::NotSent(NotSent::Overflow), vec![]),
        // PolicyResetBeforeRequestRemoteResetUpstreamRequestNotStarted, ...Started
        (Outcome::Reset { sent: false }, with(ResetBeforeRequest)),
        (Outcome::Reset { sent: true }, resets.clone()),
        // Policy5xxRemote200RemoteReset, the timeout of a try
        (Outcome::PerTryTimeout, resets.clone()),
    ] {
        assert_eq!(matching(&outcome), expected, "{outcome:?}");
    }
}

#[test]
fn istios_default_never_repeats_what_was_sent() {
    let default = policy(&[ConnectFailure, RefusedStream, GrpcUnavailable, GrpcCancelled]);
    assert!(is_retriable(&default, &Outcome::NotSent(NotSent::Connect)));
    assert!(is_retriable(&default, &Outcome::NotSent(NotSent::RefusedStream)));
    assert!(!is_retriable(&default, &Outcome::NotSent(NotSent::Overflow)));
    assert!(!is_retriable(&default, &Outcome::Reset { sent: true }));
    assert!(!is_retriable(&default, &Outcome::Reset { sent: false }));
    assert!(!is_retriable(&default, &Outcome::PerTryTimeout));
    assert!(!is_retriable(&default, &Outcome::Answer { status: 503, headers: &HeaderMap::new() }));
}

#[test]
fn without_attempts_there_are_none() {
    let off = RetryPolicy { attempts: 0, ..policy(&ALL) };
    assert!(!is_retriable(&off, &Outcome::NotSent(NotSent::Connect)));
    assert!(!is_retriable(&off, &Outcome::Answer { status: 503, headers: &HeaderMap::new() }));
}

// Backoff, CustomBackOffInterval
#[test]
fn the_pause_doubles_up_to_ten_times_the_base() {
    let policy = policy(&ALL);
    for (number, interval) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (6, 250), (u32::MAX, 250)] {
        assert_eq!(back_off(&policy, number, interval - 1), Duration::from_millis(interval - 1), "{number}");
        assert_eq!(back_off(&policy, number, interval), Duration::ZERO, "{number}");
        assert_eq!(back_off(&policy, number, 3 * interval + 7), Duration::from_millis(7), "{number}");
    }
    assert_eq!(back_off(&policy, 0, 24), Duration::from_millis(24));
    let none = RetryPolicy { backoff_ms: 0, ..policy };
    assert_eq!(back_off(&none, 3, 1234), Duration::ZERO);
}

// MaxRetries, BudgetAvailableRetries, BudgetNoAvailableRetries, BudgetVerifyMinimumConcurrency
#[test]
fn budgets() {
    let fixed = |max_retries| Budget::new(&Pool { max_retries, ..Pool::default() });
    let share = |millionths, at_least| {
        Budget::new(&Pool { max_retries: 1, retry_budget: Some((millionths, at_least)), ..Pool::default() })
    };
    for (name, budget, requests, retries, expected) in [
        ("no limit", fixed(0), 0, u32::MAX, true),
        ("one", fixed(1), 9, 0, true),
        ("one of one", fixed(1), 9, 1, false),
        ("20 % of few: at least 3", share(200_000, 3), 1, 2, true),
        ("20 % of few: not more", share(200_000, 3), 1, 3, false),
        ("20 % of 20", share(200_000, 3), 20, 3, true),
        ("20 % of 20 are 4", share(200_000, 3), 20, 4, false),
        ("20 % of 24 are 4", share(200_000, 3), 24, 4, false),
        ("20 % of 25 are 5", share(200_000, 3), 25, 4, true),
        ("nothing", share(0, 0), u32::MAX, 0, false),
        ("all", share(1_000_000, 0), u32::MAX, u32::MAX - 1, true),
        ("more than all", share(u32::MAX, 0), u32::MAX, u32::MAX, true),
    ] {
        assert_eq!(budget.allows(requests, retries), expected, "{name}");
    }
}

proptest! {
    #[test]
    fn a_pause_is_less_than_ten_times_the_base(backoff_ms: u64, number: u32, random: u64) {
        let pause = back_off(&RetryPolicy { backoff_ms, ..RetryPolicy::default() }, number, random);
        prop_assert!(pause.as_millis() < u128::from(backoff_ms) * 10 || pause.is_zero());
    }

    /// Each condition stands for itself: with more of them nothing is repeated less, but for the rate limit's, which
    /// nothing else touches.
    #[test]
    fn conditions_add_up(chosen in proptest::sample::subsequence(ALL.to_vec(), 0..ALL.len()), status in 200u16..600) {
        let plain = HeaderMap::new();
        for outcome in [
            Outcome::Answer { status, headers: &plain },
            Outcome::NotSent(NotSent::Connect),
            Outcome::NotSent(NotSent::RefusedStream),
            Outcome::NotSent(NotSent::Overflow),
            Outcome::Reset { sent: true },
            Outcome::Reset { sent: false },
            Outcome::PerTryTimeout,
        ] {
            let any = chosen.iter().any(|on| is_retriable(&policy(&[*on]), &outcome));
            prop_assert_eq!(is_retriable(&policy(&chosen), &outcome), any);
        }
    }
}
