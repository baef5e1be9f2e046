//! LEAST_REQUEST, ROUND_ROBIN and RANDOM among endpoints of equal weight.

use super::*;
use crate::table::{HashKey, HashTable};

fn policies() -> [BalancePolicy; 5] {
    let key = || HashKey::Header("x".to_owned());
    [
        BalancePolicy::LeastRequest,
        BalancePolicy::RoundRobin,
        BalancePolicy::Random,
        BalancePolicy::Hash(key(), HashTable::Ring(16)),
        BalancePolicy::Hash(key(), HashTable::Maglev(7)),
    ]
}

// NoHosts, SingleHost
#[test]
fn none_and_one() {
    for policy in policies() {
        let mut none = balancer(policy.clone(), vec![], 50);
        assert_eq!(pick(&mut none, &Fake::default(), &mut numbers(0)), None, "{policy:?}");
        let mut one = balancer(policy.clone(), members(&[0]), 0);
        for seed in 0..20 {
            assert_eq!(pick(&mut one, &Fake::default(), &mut numbers(seed)), Some(0), "{policy:?}");
        }
        assert_eq!(pick(&mut one, &unhealthy(&[0]), &mut numbers(0)), None, "{policy:?}");
        assert_eq!(pick(&mut one, &Fake::default(), &mut numbers(0)), Some(0), "{policy:?}");
    }
}

#[test]
fn a_weight_of_zero_gets_nothing() {
    for policy in policies() {
        for panic_percent in [0, 100] {
            let mut balancer = balancer(policy.clone(), weighted(&[0, 1, 0]), panic_percent);
            assert_eq!(counts(&mut balancer, &Fake::default(), 3, 100), [0, 100, 0], "{policy:?}");
            assert_eq!(counts(&mut balancer, &unhealthy(&[0]), 3, 100), [0, 100, 0], "{policy:?}");
        }
        let mut all = balancer(policy.clone(), weighted(&[0, 0]), 50);
        assert_eq!(pick(&mut all, &Fake::default(), &mut numbers(0)), None, "{policy:?}");
    }
}

// LeastRequest: Normal, PNC
#[test]
fn the_less_busy_of_two() {
    let state = Fake { active: vec![1, 2, 3, 3], ..Fake::default() };
    let mut balancer = built(balancer(BalancePolicy::LeastRequest, members(&[0; 4]), 0), &state);
    // The first number is the priority's.
    for (first, second, expected) in
        [(0, 1, 0), (1, 0, 0), (1, 2, 1), (2, 1, 1), (2, 3, 2), (3, 2, 3), (2, 2, 2), (7, 6, 3)]
    {
        let mut random = fixed(&[0, first, second]);
        assert_eq!(pick(&mut balancer, &state, &mut random), Some(expected), "{first} {second}");
    }
}

// RoundRobin: Normal
#[test]
fn in_turns() {
    let mut balancer = balancer(BalancePolicy::RoundRobin, members(&[0; 3]), 0);
    let mut random = numbers(3);
    let first = pick(&mut balancer, &Fake::default(), &mut random).unwrap();
    for turn in 1..20 {
        assert_eq!(pick(&mut balancer, &Fake::default(), &mut random), Some((first + turn) % 3));
    }
    // Seed: another client begins elsewhere.
    let begins = |seed| {
        let mut balancer = super::balancer(BalancePolicy::RoundRobin, members(&[0; 3]), 0);
        pick(&mut balancer, &Fake::default(), &mut numbers(seed)).unwrap()
    };
    let mut starts: Vec<usize> = (0..50).map(begins).collect();
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts, [0, 1, 2]);
}

// Random: Normal
#[test]
fn any() {
    let mut balancer = balancer(BalancePolicy::Random, members(&[0; 4]), 0);
    for count in counts(&mut balancer, &Fake::default(), 4, 4000) {
        assert!((900..1100).contains(&count), "{count}");
    }
}

#[test]
fn a_change_of_health_is_seen_at_once() {
    for policy in policies() {
        let mut balancer = balancer(policy.clone(), members(&[0; 3]), 0);
        for (state, expected) in [
            (unhealthy(&[]), [true, true, true]),
            (unhealthy(&[1]), [true, false, true]),
            (unhealthy(&[0, 1]), [false, false, true]),
            (unhealthy(&[2]), [true, true, false]),
        ] {
            let found = counts(&mut balancer, &state, 3, 200);
            assert_eq!(found.iter().map(|count| *count > 0).collect::<Vec<_>>(), expected, "{policy:?}");
        }
    }
}

/// Only a new version lets the balancer look again.
#[test]
fn versions() {
    struct Versioned(Fake, u64);
    impl Now for Versioned {
        fn is_healthy(&self, member: usize) -> bool {
            self.0.is_healthy(member)
        }
        fn active(&self, _: usize) -> u32 {
            0
        }
        fn version(&self) -> Option<u64> {
            Some(self.1)
        }
    }
    let mut balancer = balancer(BalancePolicy::Random, members(&[0, 0]), 0);
    let mut choose = |state: &Versioned| {
        let mut random = numbers(5);
        let mut found: Vec<usize> =
            (0..50).filter_map(|_| balancer.pick(&Request::default(), state, Duration::ZERO, &mut random)).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    assert_eq!(choose(&Versioned(unhealthy(&[0]), 1)), [1]);
    assert_eq!(choose(&Versioned(unhealthy(&[1]), 1)), [1]);
    assert_eq!(choose(&Versioned(unhealthy(&[1]), 2)), [0]);
    assert_eq!(choose(&Versioned(unhealthy(&[]), 3)), [0, 1]);
}

/// A health that changes there and back finds what was built before, with its turns.
#[test]
fn there_and_back() {
    let mut balancer = balancer(BalancePolicy::RoundRobin, members(&[0; 3]), 0);
    let all = unhealthy(&[]);
    let mut random = numbers(4);
    let first = pick(&mut balancer, &all, &mut random).unwrap();
    for turn in 1..10 {
        assert_ne!(pick(&mut balancer, &unhealthy(&[1]), &mut random), Some(1));
        assert_eq!(pick(&mut balancer, &all, &mut random), Some((first + turn) % 3));
    }
    // A third one is built anew.
    assert_ne!(pick(&mut balancer, &unhealthy(&[2]), &mut random), Some(2));
    assert_eq!(pick(&mut balancer, &unhealthy(&[0, 1]), &mut random), Some(2));
}
