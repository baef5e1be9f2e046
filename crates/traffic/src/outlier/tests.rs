//! The cases of Envoy's `outlier_detection_impl_test.cc` that Istio's settings reach.

use std::time::Duration;

use http::HeaderMap;

use super::{Detector, Observed};
use crate::table::Outlier;

use Observed::{Connected, LocalOrigin, Status};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Istio's defaults, with `maxEjectionPercent: 100`.
fn settings() -> Outlier {
    Outlier {
        consecutive_5xx: 5,
        interval_ms: 10_000,
        base_ejection_ms: 30_000,
        max_ejection_ms: 300_000,
        max_ejection_percent: 100,
        ..Outlier::default()
    }
}

fn observe(detector: &mut Detector, times: usize, observed: Observed, now: Duration) -> bool {
    (0..times).fold(false, |_, _| detector.observe(0, observed, now))
}

// BasicFlow5xxViaHttpCodes
#[test]
fn failures_in_a_row_eject() {
    let mut detector = Detector::new(settings(), 2);
    detector.tick(seconds(0));
    assert!(!observe(&mut detector, 4, Status(500), seconds(1)));
    // A success sets the counter back.
    assert!(!detector.observe(0, Status(200), seconds(1)));
    assert!(!observe(&mut detector, 4, Status(500), seconds(1)));
    assert!(!detector.is_ejected(0));
    assert!(detector.observe(0, Status(500), seconds(2)));
    assert!(detector.is_ejected(0) && !detector.is_ejected(1));
    assert_eq!(detector.ejected(), 1);

    // 30 s are over at 32 s, and the next look is at 40 s.
    for second in [3, 10, 31, 32, 39] {
        detector.tick(seconds(second));
        assert!(detector.is_ejected(0), "{second}");
    }
    detector.tick(seconds(40));
    assert!(!detector.is_ejected(0));
    assert_eq!(detector.ejected(), 0);

    // What was counted before it came back counts no more.
    assert!(!observe(&mut detector, 4, Status(500), seconds(41)));
    assert!(detector.observe(0, Status(500), seconds(41)));
}

// EjectTimeBackoff
#[test]
fn the_ejection_grows_with_each_and_shrinks_with_each_healthy_interval() {
    let mut detector = Detector::new(settings(), 1);
    detector.tick(seconds(0));
    assert!(observe(&mut detector, 5, Status(500), seconds(0)));
    detector.tick(seconds(29));
    assert!(detector.is_ejected(0));
    detector.tick(seconds(30));
    assert!(!detector.is_ejected(0));

    // The second one, at once: 60 s.
    assert!(observe(&mut detector, 5, Status(500), seconds(30)));
    detector.tick(seconds(89));
    assert!(detector.is_ejected(0));
    detector.tick(seconds(90));
    assert!(!detector.is_ejected(0));

    // One healthy interval takes one away: 2 - 1 + 1 is 2 again.
    detector.tick(seconds(100));
    assert!(observe(&mut detector, 5, Status(500), seconds(100)));
    detector.tick(seconds(159));
    assert!(detector.is_ejected(0));
    detector.tick(seconds(160));
    assert!(!detector.is_ejected(0));

    // Many take all away.
    for second in (170..=260).step_by(10) {
        detector.tick(seconds(second));
    }
    assert!(observe(&mut detector, 5, Status(500), seconds(260)));
    detector.tick(seconds(290));
    assert!(!detector.is_ejected(0));
}

// MaxEjectTime
#[test]
fn the_longest_ejection() {
    let mut detector = Detector::new(Outlier { max_ejection_ms: 70_000, ..settings() }, 1);
    let mut now = 0;
    let mut lengths = Vec::new();
    detector.tick(seconds(0));
    for _ in 0..20 {
        assert!(observe(&mut detector, 5, Status(500), seconds(now)));
        let begin = now;
        while detector.is_ejected(0) {
            now += 10;
            detector.tick(seconds(now));
        }
        lengths.push(now - begin);
    }
    assert_eq!(lengths[..4], [30, 60, 70, 70]);
    assert!(lengths[4..].iter().all(|length| *length == 70));
    // The multiplier did not grow with each ejection: few healthy intervals bring it back.
    detector.tick(seconds(now + 40));
    assert!(observe(&mut detector, 5, Status(500), seconds(now + 40)));
    detector.tick(seconds(now + 40 + 30));
    assert!(!detector.is_ejected(0));
}

#[test]
fn the_longest_ejection_is_never_less_than_the_first() {
    let mut detector = Detector::new(Outlier { max_ejection_ms: 0, ..settings() }, 1);
    assert!(observe(&mut detector, 5, Status(500), seconds(0)));
    detector.tick(seconds(20));
    assert!(detector.is_ejected(0));
    detector.tick(seconds(30));
    assert!(!detector.is_ejected(0));
}

// A frozen environment: what happens in many looks and in one is the same.
#[test]
fn missed_looks_are_made_up_for() {
    for thaw in [40, 50, 60, 100, 1000] {
        let mut each = Detector::new(settings(), 1);
        each.tick(seconds(0));
        // Twice, so that the multiplier is 2.
        observe(&mut each, 5, Status(500), seconds(2));
        each.tick(seconds(40));
        observe(&mut each, 5, Status(500), seconds(41));
        let mut once = each.clone();
        for second in 42..=41 + thaw {
            each.tick(seconds(second));
        }
        once.tick(seconds(41 + thaw));
        assert_eq!(each.is_ejected(0), once.is_ejected(0), "{thaw}");
        let end = |mut detector: Detector| {
            let begin = 5_000;
            detector.observe(0, Status(200), seconds(41 + thaw));
            if !detector.is_ejected(0) {
                observe(&mut detector, 5, Status(500), seconds(41 + thaw));
            }
            (0..begin).find(|second| {
                detector.tick(seconds(41 + thaw + second));
                !detector.is_ejected(0)
            })
        };
        assert_eq!(end(each), end(once), "{thaw}");
    }
}

// linkerd's consecutive_failures_ignores_429: what the client did wrong, or too often, is no failure of the endpoint.
#[test]
fn every_answer_below_500_is_a_success() {
    let mut detector = Detector::new(Outlier { consecutive_gateway: 5, ..settings() }, 1);
    for status in [100, 200, 301, 400, 401, 404, 408, 409, 429, 499] {
        assert!(!observe(&mut detector, 4, Status(503), seconds(0)), "{status}");
        assert!(!detector.observe(0, Status(status), seconds(0)), "{status}");
    }
    // The boundaries: 600 is no status of HTTP, and Envoy's codes end with 599.
    assert!(!observe(&mut detector, 4, Status(599), seconds(0)));
    assert!(detector.observe(0, Status(500), seconds(0)));
}

// BasicFlowGatewayFailure
#[test]
fn failures_of_a_gateway() {
    let gateway = Outlier { consecutive_5xx: 0, consecutive_gateway: 3, ..settings() };
    let mut detector = Detector::new(gateway.clone(), 1);
    for status in [500, 501, 500, 500, 500, 500, 500] {
        assert!(!detector.observe(0, Status(status), seconds(0)), "{status}");
    }
    assert!(!observe(&mut detector, 2, Status(503), seconds(0)));
    // Another 5xx sets it back.
    assert!(!detector.observe(0, Status(500), seconds(0)));
    assert!(!detector.observe(0, Status(502), seconds(0)));
    assert!(!detector.observe(0, Status(503), seconds(0)));
    assert!(detector.observe(0, Status(504), seconds(0)));

    // A gateway's failure is a 5xx too.
    let mut detector = Detector::new(settings(), 1);
    assert!(!observe(&mut detector, 4, Status(503), seconds(0)));
    assert!(detector.observe(0, Status(500), seconds(0)));

    // Both at once eject once.
    let mut detector = Detector::new(Outlier { consecutive_5xx: 3, ..gateway }, 1);
    assert!(!observe(&mut detector, 2, Status(503), seconds(0)));
    assert!(detector.observe(0, Status(503), seconds(0)));
    assert_eq!(detector.ejected(), 1);
    assert!(!observe(&mut detector, 3, Status(503), seconds(0)));
    assert_eq!(detector.ejected(), 1);
}

// ConnectSuccessWithOptionalHTTP_OK, TimeoutWithHttpCode, ExternalOriginEventsNonSplit
#[test]
fn without_the_split_local_failures_are_a_gateways() {
    let both = Outlier { consecutive_gateway: 3, consecutive_local: 1, ..settings() };
    let mut detector = Detector::new(both, 1);
    assert!(!detector.observe(0, LocalOrigin, seconds(0)));
    assert!(!detector.observe(0, Status(503), seconds(0)));
    // A connection says nothing of the request on it.
    assert!(!detector.observe(0, Connected, seconds(0)));
    assert!(detector.observe(0, LocalOrigin, seconds(0)));

    let mut detector = Detector::new(settings(), 1);
    assert!(!observe(&mut detector, 4, LocalOrigin, seconds(0)));
    assert!(!detector.observe(0, Status(200), seconds(0)));
    assert!(!observe(&mut detector, 4, LocalOrigin, seconds(0)));
    assert!(detector.observe(0, LocalOrigin, seconds(0)));
}

// BasicFlowLocalOriginFailure, ExternalOriginEventsWithSplit
#[test]
fn with_the_split_each_kind_counts_for_itself() {
    let split = Outlier { split: true, consecutive_local: 3, ..settings() };
    let mut detector = Detector::new(split.clone(), 1);
    assert!(!observe(&mut detector, 4, Status(500), seconds(0)));
    assert!(!observe(&mut detector, 2, LocalOrigin, seconds(0)));
    // An answer does not set the local counter back, a connection does, and not the other one.
    assert!(!detector.observe(0, Connected, seconds(0)));
    assert!(!observe(&mut detector, 2, LocalOrigin, seconds(0)));
    assert!(detector.observe(0, Status(500), seconds(0)));

    let mut detector = Detector::new(split.clone(), 1);
    assert!(!observe(&mut detector, 2, LocalOrigin, seconds(0)));
    assert!(!detector.observe(0, Status(200), seconds(0)));
    assert!(detector.observe(0, LocalOrigin, seconds(0)));

    let mut detector = Detector::new(Outlier { consecutive_local: 0, ..split }, 1);
    assert!(!observe(&mut detector, 1000, LocalOrigin, seconds(0)));
}

// Overflow
#[test]
fn no_more_than_the_share() {
    for (endpoints, percent, one, expected) in [
        (10, 10, false, 1),
        (10, 19, false, 1),
        (10, 20, false, 2),
        (10, 100, false, 10),
        (10, 250, false, 10),
        (3, 50, false, 1),
        (2, 50, false, 1),
        (1, 99, false, 0),
        (1, 100, false, 1),
        // Istio's default, 10 %: none of fewer than ten. So does Envoy 1.40.0, also with 33 % of three.
        (3, 33, false, 0),
        (3, 34, false, 1),
        (9, 10, false, 0),
        // AlwaysEjectOneHost
        (9, 10, true, 1),
        (9, 0, true, 1),
        (1, 10, true, 1),
        (20, 10, true, 2),
    ] {
        let mut detector = Detector::new(Outlier { max_ejection_percent: percent, ..settings() }, endpoints);
        if one {
            detector = detector.ejecting_one_always();
        }
        for _ in 0..3 {
            for endpoint in 0..endpoints {
                for _ in 0..5 {
                    detector.observe(endpoint, Status(500), seconds(0));
                }
            }
        }
        assert_eq!(detector.ejected(), expected, "{endpoints} {percent} {one}");
    }
}

#[test]
fn what_is_not_ejected_for_the_share_is_counted_anew() {
    let mut detector = Detector::new(Outlier { max_ejection_percent: 50, ..settings() }, 2);
    detector.tick(seconds(0));
    for endpoint in [1, 0] {
        for _ in 0..5 {
            detector.observe(endpoint, Status(500), seconds(0));
        }
    }
    assert!(detector.is_ejected(1) && !detector.is_ejected(0));
    detector.tick(seconds(30));
    assert!(!observe(&mut detector, 4, Status(500), seconds(30)));
    assert!(detector.observe(0, Status(500), seconds(30)));
}

#[test]
fn a_count_of_zero_is_off() {
    let mut detector = Detector::new(Outlier { consecutive_5xx: 0, ..settings() }, 1);
    assert!(!observe(&mut detector, 1000, Status(503), seconds(0)));
    assert!(!observe(&mut detector, 1000, LocalOrigin, seconds(0)));
}

// RemoveWhileEjected
#[test]
fn other_endpoints() {
    let mut detector = Detector::new(settings(), 3);
    detector.tick(seconds(0));
    for endpoint in [0, 2] {
        for _ in 0..5 {
            detector.observe(endpoint, Status(500), seconds(0));
        }
    }
    let version = detector.version();
    detector.replace(&[None, Some(2), Some(1), Some(7)]);
    assert_ne!(detector.version(), version);
    let ejected: Vec<bool> = (0..5).map(|endpoint| detector.is_ejected(endpoint)).collect();
    assert_eq!(ejected, [false, true, false, false, false]);
    assert_eq!(detector.ejected(), 1);
    assert!(!detector.observe(9, Status(500), seconds(0)));
    detector.tick(seconds(30));
    assert_eq!(detector.ejected(), 0);
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut detector = Detector::new(settings(), 1);
    detector.tick(seconds(1000));
    assert!(observe(&mut detector, 5, Status(500), seconds(1000)));
    detector.tick(seconds(0));
    assert!(detector.is_ejected(0));
    detector.tick(seconds(1029));
    assert!(detector.is_ejected(0));
    detector.tick(seconds(1030));
    assert!(!detector.is_ejected(0));
}

#[test]
fn the_version_tells_changes() {
    let mut detector = Detector::new(settings(), 1);
    detector.tick(seconds(0));
    let first = detector.version();
    assert!(!observe(&mut detector, 4, Status(500), seconds(0)));
    assert_eq!(detector.version(), first);
    assert!(detector.observe(0, Status(500), seconds(0)));
    let second = detector.version();
    assert_ne!(second, first);
    detector.tick(seconds(20));
    assert_eq!(detector.version(), second);
    detector.tick(seconds(30));
    assert_ne!(detector.version(), second);
}

// Envoy's GrpcUtilityTest, GrpcToHttpStatus; linkerd's consecutive_failures_ignores_grpc_resource_exhausted
#[test]
fn each_grpc_status_has_one_of_https() {
    let expected = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
    let request: HeaderMap = [(http::header::CONTENT_TYPE, "application/grpc".parse().unwrap())].into_iter().collect();
    for (status, http) in (0_u16..).zip(expected) {
        let answer: HeaderMap = [("grpc-status".parse().unwrap(), status.into())].into_iter().collect();
        assert_eq!(Observed::answer(&request, 200, &answer), Status(http), "{status}");
    }
}

#[test]
fn grpc_status_stands_for_https() {
    let headers = |name: &'static str, value: &'static str| -> HeaderMap {
        [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect()
    };
    let grpc = headers("content-type", "application/grpc+proto");
    for (request, answer, expected) in [
        (grpc.clone(), headers("grpc-status", "0"), 200),
        (grpc.clone(), headers("grpc-status", "14"), 503),
        (grpc.clone(), headers("grpc-status", "4"), 504),
        (grpc.clone(), headers("grpc-status", "7"), 403),
        (grpc.clone(), headers("grpc-status", "99"), 500),
        (grpc.clone(), headers("x", "y"), 200),
        (headers("content-type", "application/grpc"), headers("grpc-status", "13"), 500),
        (headers("content-type", "application/grpc-web"), headers("grpc-status", "13"), 200),
        (headers("accept", "application/grpc"), headers("grpc-status", "13"), 200),
    ] {
        assert_eq!(Observed::answer(&request, 200, &answer), Status(expected), "{request:?} {answer:?}");
    }
}
