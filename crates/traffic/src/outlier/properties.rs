//! What holds whatever happens.

use std::time::Duration;

use proptest::prelude::*;

use super::{Detector, Observed};
use crate::table::Outlier;

fn outlier() -> impl Strategy<Value = Outlier> {
    let count = || 0u32..6;
    let time = || prop_oneof![Just(0), 1u64..200_000, any::<u64>()];
    (count(), count(), count(), any::<bool>(), time(), time(), time(), 0u32..150).prop_map(
        |(consecutive_5xx, consecutive_gateway, consecutive_local, split, interval, base, longest, percent)| Outlier {
            consecutive_5xx,
            consecutive_gateway,
            consecutive_local,
            split,
            interval_ms: interval,
            base_ejection_ms: base,
            max_ejection_ms: longest,
            max_ejection_percent: percent,
            min_health_percent: 0,
        },
    )
}

fn observed() -> impl Strategy<Value = Observed> {
    prop_oneof![
        prop_oneof![Just(200u16), Just(500), Just(503), any::<u16>()].prop_map(Observed::Status),
        Just(Observed::LocalOrigin),
        Just(Observed::Connected),
    ]
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![(0u64..1_000_000).prop_map(Duration::from_millis), any::<u64>().prop_map(Duration::from_secs)]
}

proptest! {
    /// Nothing overflows, the count is right, and the share is never exceeded.
    #[test]
    fn the_share_is_never_exceeded(
        settings in outlier(),
        endpoints in 1usize..12,
        steps in proptest::collection::vec((0usize..12, observed(), time()), 0..200),
        one: bool,
    ) {
        let percent = settings.max_ejection_percent.min(100) as usize;
        let mut detector = Detector::new(settings, endpoints);
        if one {
            detector = detector.ejecting_one_always();
        }
        for (endpoint, observed, now) in steps {
            let ejected = detector.observe(endpoint, observed, now);
            prop_assert!(!ejected || detector.is_ejected(endpoint));
            let count = (0..endpoints).filter(|endpoint| detector.is_ejected(*endpoint)).count();
            prop_assert_eq!(detector.ejected(), count);
            prop_assert!(count * 100 <= percent * endpoints || (one && count == 1));
        }
    }

    /// One look after a long time is as good as all those that it stands for.
    #[test]
    fn one_look_stands_for_many(
        base in 1u64..100,
        longest in 1u64..500,
        interval in 1u64..50,
        rounds in 1usize..5,
        elapsed in 0u64..2000,
    ) {
        let settings = Outlier {
            consecutive_5xx: 1,
            interval_ms: interval,
            base_ejection_ms: base,
            max_ejection_ms: longest,
            max_ejection_percent: 100,
            ..Outlier::default()
        };
        let mut each = Detector::new(settings, 1);
        let mut once = each.clone();
        let mut now = 0;
        for round in 0..rounds {
            each.observe(0, Observed::Status(500), Duration::from_millis(now));
            once.observe(0, Observed::Status(500), Duration::from_millis(now));
            let end = now + elapsed / (round as u64 + 1);
            for time in now..=end {
                each.tick(Duration::from_millis(time));
            }
            once.tick(Duration::from_millis(end));
            prop_assert_eq!(each.is_ejected(0), once.is_ejected(0), "round {}", round);
            now = end;
        }
    }

    /// Nothing stays out for ever: after the longest ejection and one interval everything is back.
    #[test]
    fn everything_comes_back(
        base in 1u64..100_000,
        longest in 1u64..500_000,
        interval in 1u64..50_000,
        times in 1usize..20,
        begin: u32,
    ) {
        let settings = Outlier {
            consecutive_5xx: 1,
            interval_ms: interval,
            base_ejection_ms: base,
            max_ejection_ms: longest,
            max_ejection_percent: 100,
            ..Outlier::default()
        };
        let mut detector = Detector::new(settings, 1);
        let mut now = u64::from(begin);
        for _ in 0..times {
            prop_assert!(detector.observe(0, Observed::Status(500), Duration::from_millis(now)));
            now += longest.max(base) + interval;
            detector.tick(Duration::from_millis(now));
            prop_assert!(!detector.is_ejected(0));
        }
    }
}
