//! The slow start.

use super::*;
use crate::balance::warmup::Warming;
use crate::table::Warmup;

fn settings(policy: BalancePolicy, minimum_percent: u32, aggression_thousandths: u32) -> Balance {
    let warmup = Warmup { duration_ms: 60_000, minimum_percent, aggression_thousandths };
    Balance { policy, warmup: Some(warmup), ..Balance::default() }
}

// SlowStartWithMinWeight..., SlowStartWithAggression
#[test]
fn the_weight_grows() {
    for (percent, aggression, elapsed, expected) in [
        (10, 1000, 0, 0.1),
        (10, 1000, 3_000, 0.1),
        (10, 1000, 15_000, 0.25),
        (10, 1000, 30_000, 0.5),
        (10, 1000, 59_999, 0.999_98),
        (10, 1000, 60_000, 1.0),
        (10, 1000, u64::MAX, 1.0),
        // (1 / 4)^(1 / 2), (1 / 2)^2
        (10, 2000, 15_000, 0.5),
        (10, 500, 30_000, 0.25),
        (0, 1000, 0, 1.0 / 60_000.0),
        (100, 1000, 0, 1.0),
        (1000, 1000, 0, 1.0),
        // None given: as 1.
        (10, 0, 30_000, 0.5),
        (10, u32::MAX, 0, 0.999_99),
    ] {
        let settings = settings(BalancePolicy::RoundRobin, percent, aggression);
        let since = Duration::from_secs(5);
        let factor = Warming::new(&settings, &[]).factor(since, since.saturating_add(Duration::from_millis(elapsed)));
        assert!((factor - expected).abs() < 0.0001, "{percent} {aggression} {elapsed}: {factor}");
    }
    // A clock that goes back.
    let warming = Warming::new(&settings(BalancePolicy::RoundRobin, 10, 1000), &[]);
    assert_eq!(warming.factor(Duration::MAX, Duration::ZERO), 0.1);
}

#[test]
fn a_new_endpoint_gets_less_at_first() {
    let mut members = members(&[0; 2]);
    members[1].since = Duration::from_secs(1000);
    for policy in [BalancePolicy::RoundRobin, BalancePolicy::LeastRequest] {
        let share = |seconds: u64| {
            let mut balancer = Balancer::new(&settings(policy.clone(), 10, 1000), members.clone(), 0);
            let mut random = numbers(seconds);
            let mut found = [0; 2];
            for _ in 0..1100 {
                let now = Duration::from_secs(seconds);
                found[balancer.pick(&Request::default(), &Fake::default(), now, &mut random).unwrap()] += 1;
            }
            found[1]
        };
        // 1 to 10, and 1 to 2.
        assert!((98..=102).contains(&share(1000)), "{}", share(1000));
        assert!((364..=369).contains(&share(1030)), "{}", share(1030));
        assert!((450..650).contains(&share(2000)), "{}", share(2000));
    }
}

#[test]
fn a_policy_without_weights_has_no_slow_start() {
    let mut members = members(&[0; 2]);
    members[1].since = Duration::from_secs(1000);
    let mut balancer = Balancer::new(&settings(BalancePolicy::Random, 10, 1000), members, 0);
    let mut random = numbers(2);
    let mut found = [0; 2];
    for _ in 0..1000 {
        let now = Duration::from_secs(1000);
        found[balancer.pick(&Request::default(), &Fake::default(), now, &mut random).unwrap()] += 1;
    }
    assert!((430..570).contains(&found[1]), "{found:?}");
}
