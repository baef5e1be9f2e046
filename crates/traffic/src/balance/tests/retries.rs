//! Endpoints and priorities of earlier tries.

use super::*;
use crate::table::{HashKey, HashTable};

fn again(balancer: &mut Balancer, state: &Fake, previous: &[usize], random: &mut dyn FnMut() -> u64) -> Option<usize> {
    balancer.pick(&Request { previous, ..Request::default() }, state, Duration::ZERO, random)
}

// FilterHostPredicate, HostSelectionRetryCount
#[test]
fn five_more_draws() {
    let state = Fake::default();
    let mut random = built(balancer(BalancePolicy::Random, members(&[0; 3]), 0), &state);
    // Of each two numbers the second one is the endpoint's.
    assert_eq!(again(&mut random, &state, &[0, 1], &mut fixed(&[0, 0, 0, 1, 0, 2])), Some(2));
    assert_eq!(again(&mut random, &state, &[0], &mut fixed(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])), Some(1));
    // After six there is one more number, where to begin to look.
    let six = [0; 12];
    for (begin, expected) in [(0, 1), (1, 1), (2, 2)] {
        let drawn: Vec<u64> = six.iter().copied().chain([begin]).collect();
        assert_eq!(again(&mut random, &state, &[0], &mut fixed(&drawn)), Some(expected));
    }
    // Where there is no other one, the last one is taken again.
    assert!(again(&mut random, &state, &[0, 1, 2], &mut numbers(3)).is_some());
    assert_eq!(again(&mut random, &unhealthy(&[1, 2]), &[0], &mut numbers(3)), Some(0));
}

/// A request is not lost by bad luck while a healthy endpoint of its priority remains.
#[test]
fn an_untried_endpoint_is_found_always() {
    for policy in [BalancePolicy::LeastRequest, BalancePolicy::RoundRobin, BalancePolicy::Random] {
        // The one that was tried is idle and heavy, and so the first choice each time.
        let mut members = weighted(&[1_000_000, 1, 1, 1]);
        members.truncate(3);
        let state = Fake { active: vec![0, 100, 100], ..Fake::default() };
        let mut balancer = balancer(policy, members, 0);
        let mut random = numbers(11);
        for _ in 0..1000 {
            assert_ne!(again(&mut balancer, &state, &[0], &mut random), Some(0));
            assert_eq!(again(&mut balancer, &state, &[0, 2], &mut random), Some(1));
        }
    }
}

// RingHash and Maglev: HostSelectionRetries
#[test]
fn a_hash_goes_on_along_its_table() {
    for table in [HashTable::Ring(1024), HashTable::Maglev(65_537)] {
        let policy = BalancePolicy::Hash(HashKey::SourceIp, table);
        let mut balancer = balancer(policy, members(&[0; 6]), 0);
        let state = Fake::default();
        let mut lost = 0;
        for seed in 0..500u64 {
            let hash = Some(numbers(seed)());
            let mut pick = |previous: &[usize]| {
                let request = Request { hash, previous, ..Request::default() };
                balancer.pick(&request, &state, Duration::ZERO, &mut fixed(&[1, 2, 3, 4])).unwrap()
            };
            let first = pick(&[]);
            let second = pick(&[first]);
            assert_eq!(pick(&[first]), second);
            lost += usize::from(first == second);
        }
        // A few times all six places are the same endpoint's.
        assert!(lost < 10, "{table:?} {lost}");
    }
}

// PreviousPrioritiesRetryPriority: DefaultFrequency, EveryOtherPriority, NoHealthyUpstreams
#[test]
fn each_second_retry_leaves_out_the_priorities_tried() {
    let mut balancer = balancer(BalancePolicy::Random, members(&[0, 1, 2]), 0);
    let mut random = numbers(1);
    let mut pick = |state: &Fake, tried: &[usize]| {
        let request = Request { previous_priorities: tried, ..Request::default() };
        balancer.pick(&request, state, Duration::ZERO, &mut random)
    };
    let all = unhealthy(&[]);
    for (tried, expected) in [
        (&[][..], 0),
        (&[0], 0),
        (&[0, 0], 1),
        (&[0, 0, 1], 1),
        (&[0, 0, 1, 1], 2),
        (&[0, 0, 1, 1, 2], 2),
        // All are tried: it begins anew.
        (&[0, 0, 1, 1, 2, 2], 0),
        (&[0, 0, 1, 1, 2, 2, 0], 0),
        (&[0, 0, 1, 1, 2, 2, 0, 0], 1),
        // An endpoint that is gone has no priority.
        (&[9, 9], 0),
    ] {
        for _ in 0..50 {
            assert_eq!(pick(&all, tried), Some(expected), "{tried:?}");
        }
    }
    // Another one that is not healthy is no way out.
    assert_eq!(pick(&unhealthy(&[1]), &[0, 0]), Some(2));
    assert_eq!(pick(&unhealthy(&[1, 2]), &[0, 0]), Some(0));
    assert_eq!(pick(&unhealthy(&[0, 1, 2]), &[0, 0]), None);
    assert_eq!(pick(&all, &[]), Some(0));
}
