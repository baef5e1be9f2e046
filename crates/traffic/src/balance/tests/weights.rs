//! Weights of endpoints and of localities.

use super::*;
use crate::balance::edf::Edf;

fn local(locality: u32, share: u32, weight: u32) -> Place {
    Place { priority: 0, weight, locality: Some((locality, share)) }
}

fn placed(places: &[Place]) -> Vec<Member> {
    places.iter().enumerate().map(|(index, place)| at(index, *place)).collect()
}

// Edf: PickAndAdd, ProportionWith..., EqualWeights
#[test]
fn proportions_are_exact() {
    for weights in [&[1.0, 1.0, 1.0][..], &[1.0, 2.0, 3.0], &[25.0, 75.0], &[1.0, 5.0, 94.0], &[0.5, 0.25]] {
        let items: Vec<u32> = (0..weights.len() as u32).collect();
        let sum: f64 = weights.iter().sum();
        for picks in [0, 1, 23, 1000, 429_496_728, u64::MAX] {
            let weight = |item: u32| weights[item as usize];
            let mut edf = Edf::new(&items, weight, picks);
            let mut counts = vec![0usize; weights.len()];
            let rounds = 1200;
            for _ in 0..rounds {
                counts[edf.pick(weight).unwrap() as usize] += 1;
            }
            for (count, weight) in counts.iter().zip(weights) {
                let expected = f64::from(rounds) * weight / sum;
                assert!((*count as f64 - expected).abs() <= 1.5, "{weights:?} {picks} {counts:?}");
            }
        }
    }
}

// Edf: FIFO order of equal weights; a start after n picks is the same as n picks after the start
#[test]
fn a_start_after_some_picks() {
    let weight = |item: u32| [1.0, 2.0, 3.0, 7.0][item as usize];
    for picks in [0, 1, 2, 12, 13, 14, 100, 1234] {
        let mut after = Edf::new(&[0, 1, 2, 3], weight, picks);
        let mut from_the_start = Edf::new(&[0, 1, 2, 3], weight, 0);
        for _ in 0..picks {
            from_the_start.pick(weight);
        }
        let mut counts = [[0; 4]; 2];
        for _ in 0..13 {
            counts[0][after.pick(weight).unwrap() as usize] += 1;
            counts[1][from_the_start.pick(weight).unwrap() as usize] += 1;
        }
        assert_eq!(counts[0], counts[1], "{picks}");
    }
    let mut equal = Edf::new(&[4, 5, 6], |_| 1.0, 0);
    let found: Vec<u32> = (0..7).filter_map(|_| equal.pick(|_| 1.0)).collect();
    assert_eq!(found, [4, 5, 6, 4, 5, 6, 4]);
    assert_eq!(Edf::default().pick(|_| 1.0), None);
}

#[test]
fn no_weight_breaks_the_schedule() {
    for odd in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX] {
        let mut edf = Edf::new(&[0, 1], |item| if item == 0 { odd } else { 1.0 }, 12_345);
        let mut found = [0; 2];
        for _ in 0..100 {
            found[edf.pick(|item| if item == 0 { odd } else { 1.0 }).unwrap() as usize] += 1;
        }
        assert_eq!(found[0] + found[1], 100, "{odd}");
    }
}

// RoundRobin: Weighted
#[test]
fn turns_by_weight() {
    let mut balancer = balancer(BalancePolicy::RoundRobin, weighted(&[1, 2, 7]), 0);
    assert_eq!(counts(&mut balancer, &unhealthy(&[]), 3, 1000), [100, 200, 700]);
    assert_eq!(counts(&mut balancer, &unhealthy(&[2]), 3, 900), [300, 600, 0]);
}

// The first request of many clients: it is shared out by the weights too.
#[test]
fn the_first_choice_is_by_weight() {
    let mut counts = [0; 3];
    for seed in 0..2000 {
        let mut balancer = balancer(BalancePolicy::RoundRobin, weighted(&[1, 2, 7]), 0);
        counts[pick(&mut balancer, &Fake::default(), &mut numbers(seed)).unwrap()] += 1;
    }
    assert!((150..250).contains(&counts[0]) && (1300..1500).contains(&counts[2]), "{counts:?}");
}

// LeastRequest: WeightImbalance, WeightImbalanceWithActiveRequests
#[test]
fn weight_by_requests_in_hand() {
    let mut idle = balancer(BalancePolicy::LeastRequest, weighted(&[1, 3]), 0);
    assert_eq!(counts(&mut idle, &Fake::default(), 2, 1000), [250, 750]);
    // 1 / (0 + 1) and 3 / (5 + 1)
    let mut busy = balancer(BalancePolicy::LeastRequest, weighted(&[1, 3]), 0);
    let state = Fake { active: vec![0, 5], ..Fake::default() };
    let found = counts(&mut busy, &state, 2, 900);
    assert!((598..=602).contains(&found[0]), "{found:?}");
    let full = Fake { active: vec![u32::MAX, 0], ..Fake::default() };
    let mut balancer = balancer(BalancePolicy::LeastRequest, weighted(&[1, 3]), 0);
    assert!(counts(&mut balancer, &full, 2, 1000)[0] <= 1);
}

// Random has no weights
#[test]
fn random_looks_at_no_weight() {
    let mut balancer = balancer(BalancePolicy::Random, weighted(&[1, 1_000_000]), 0);
    let found = counts(&mut balancer, &Fake::default(), 2, 2000);
    assert!((900..1100).contains(&found[0]), "{found:?}");
}

// LocalityWeighted: in each policy, with one endpoint in one and three in the other
#[test]
fn localities_by_their_shares() {
    let places = [local(0, 80, 1), local(1, 20, 1), local(1, 20, 1), local(1, 20, 1)];
    for policy in [BalancePolicy::LeastRequest, BalancePolicy::RoundRobin, BalancePolicy::Random] {
        let mut balancer = balancer(policy.clone(), placed(&places), 0);
        let found = counts(&mut balancer, &unhealthy(&[]), 4, 1000);
        assert_eq!((found[0], found[1..].iter().sum::<usize>()), (800, 200), "{policy:?}");
        assert!(found[1..].iter().all(|count| *count > 30), "{policy:?} {found:?}");
        // Two of three: 1.4 × 2 / 3 of 20 are 18.67.
        let found = counts(&mut balancer, &unhealthy(&[1]), 4, 1000);
        assert!((810..812).contains(&found[0]), "{policy:?} {found:?}");
        assert_eq!(found[1], 0);
        // None: the other one has all.
        let found = counts(&mut balancer, &unhealthy(&[1, 2, 3]), 4, 1000);
        assert_eq!(found[0], 1000, "{policy:?}");
        let found = counts(&mut balancer, &unhealthy(&[0]), 4, 1000);
        assert_eq!(found[0], 0, "{policy:?}");
    }
}

#[test]
fn weights_within_a_locality() {
    let places = [local(0, 50, 1), local(0, 50, 3), local(1, 50, 1)];
    let mut balancer = balancer(BalancePolicy::RoundRobin, placed(&places), 0);
    assert_eq!(counts(&mut balancer, &unhealthy(&[]), 3, 800), [100, 300, 400]);
}
