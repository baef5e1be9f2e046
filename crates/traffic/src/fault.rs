//! Injected failures, and shares of requests.

use std::time::Duration;

use http::HeaderMap;

use crate::table::{AbortStatus, Fault};

/// Of a share.
const MILLION: u64 = 1_000_000;

/// Whether a request belongs to a share in millionths; `random` is any number. 0 is no request, a million every one.
pub fn is_in(share: u32, random: u64) -> bool {
    // As Envoy's ProtobufPercentHelper::evaluateFractionalPercent: `random % denominator < numerator`.
    random % MILLION < u64::from(share)
}

/// What is done to one request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Injected {
    /// Wait first.
    pub delay: Option<Duration>,
    /// Then answer this.
    pub abort: Option<AbortStatus>,
}

/// Draws for one request, once for its delay and once for its abort, which do not depend on each other; Istio: "Delay
/// and abort faults are independent of one another, even if both are specified simultaneously."
///
/// The request's headers decide nothing: Envoy heeds `x-envoy-fault-…` only where `header_delay` or `header_abort` is
/// configured, and Istio configures neither.
pub fn inject(fault: &Fault, _headers: &HeaderMap, random: [u64; 2]) -> Injected {
    let [for_delay, for_abort] = random;
    let delay = fault.delay.filter(|(share, _)| is_in(*share, for_delay)).map(|(_, millis)| millis);
    let abort = fault.abort.filter(|(share, _)| is_in(*share, for_abort)).map(|(_, status)| status);
    Injected { delay: delay.filter(|millis| *millis > 0).map(Duration::from_millis), abort }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_at_their_bounds() {
        for (share, random, expected) in [
            (0, 0, false),
            (0, u64::MAX, false),
            (1, 0, true),
            (1, 1, false),
            (1, 1_000_000, true),
            (500_000, 499_999, true),
            (500_000, 500_000, false),
            (999_999, 999_998, true),
            (999_999, 999_999, false),
            (1_000_000, 999_999, true),
            (1_000_000, u64::MAX, true),
            (u32::MAX, 999_999, true),
        ] {
            assert_eq!(is_in(share, random), expected, "{share} {random}");
        }
    }

    #[test]
    fn a_share_is_so_many_of_a_million() {
        for share in [0, 1, 1_234, 100_000, 999_999, 1_000_000] {
            let hits = (0..MILLION).filter(|random| is_in(share, *random)).count();
            assert_eq!(hits, usize::try_from(share).unwrap());
        }
    }

    #[test]
    fn delay_and_abort_are_drawn_apart() {
        let fault = Fault { delay: Some((500_000, 100)), abort: Some((500_000, AbortStatus::Http(503))) };
        let (delay, abort) = (Some(Duration::from_millis(100)), Some(AbortStatus::Http(503)));
        for (random, expected) in [
            ([0, 0], Injected { delay, abort }),
            ([0, 999_999], Injected { delay, abort: None }),
            ([999_999, 0], Injected { delay: None, abort }),
            ([999_999, 999_999], Injected::default()),
        ] {
            assert_eq!(inject(&fault, &HeaderMap::new(), random), expected);
        }
        assert_eq!(inject(&Fault::default(), &HeaderMap::new(), [0, 0]), Injected::default());
    }

    /// Envoy's tests call it HeaderAbort and HeaderDelay: without configuration the headers do nothing.
    #[test]
    fn headers_inject_nothing() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-envoy-fault-abort-request", "503"),
            ("x-envoy-fault-abort-request-percentage", "100"),
            ("x-envoy-fault-delay-request", "5000"),
            ("x-envoy-fault-delay-request-percentage", "100"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let fault = Fault { delay: Some((0, 100)), abort: Some((0, AbortStatus::Grpc(14))) };
        assert_eq!(inject(&fault, &headers, [0, 0]), Injected::default());
    }
}
