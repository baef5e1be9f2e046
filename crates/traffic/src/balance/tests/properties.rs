//! What holds whatever happens.

use proptest::prelude::*;

use super::*;
use crate::table::{HashKey, HashTable, Warmup};

fn policy() -> impl Strategy<Value = BalancePolicy> {
    let hash = |table| BalancePolicy::Hash(HashKey::SourceIp, table);
    prop_oneof![
        Just(BalancePolicy::LeastRequest),
        Just(BalancePolicy::RoundRobin),
        Just(BalancePolicy::Random),
        Just(hash(HashTable::Ring(64))),
        Just(hash(HashTable::Maglev(101))),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    let weight = prop_oneof![0u32..4, Just(500)];
    (0u32..4, weight, proptest::option::of((0u32..3, 0u32..4))).prop_map(|(priority, weight, locality)| Place {
        priority,
        weight,
        locality,
    })
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), (0u64..100_000).prop_map(Duration::from_millis), Just(Duration::MAX)]
}

proptest! {
    /// An unhealthy endpoint is chosen only in panic, one without weight never, and a healthy one is found if the
    /// priority that was drawn has any.
    #[test]
    fn only_healthy_ones(
        policy in policy(),
        places in proptest::collection::vec((place(), time()), 0..12),
        healths in proptest::collection::vec(any::<u16>(), 1..6),
        panic_percent in prop_oneof![Just(0u32), 0u32..200],
        previous in proptest::collection::vec(0usize..14, 0..4),
        priorities in proptest::collection::vec(0usize..14, 0..6),
        now in time(),
        seed: u64,
        active in proptest::collection::vec(any::<u32>(), 12),
        warmup in proptest::option::of((any::<u64>(), 0u32..200, any::<u32>())),
    ) {
        let members: Vec<Member> = places
            .iter()
            .enumerate()
            .map(|(index, (place, since))| Member { since: *since, ..at(index, *place) })
            .collect();
        let warmup = warmup.map(|(duration_ms, minimum_percent, aggression_thousandths)| {
            Warmup { duration_ms, minimum_percent, aggression_thousandths }
        });
        let settings = Balance { policy: policy.clone(), warmup, ..Balance::default() };
        let mut balancer = Balancer::new(&settings, members.clone(), panic_percent);
        let mut random = numbers(seed);
        for health in healths {
            let unhealthy: Vec<usize> = (0..12).filter(|index| health & (1 << index) != 0).collect();
            let state = Fake { unhealthy, active: active.clone() };
            for hash in [None, Some(seed)] {
                let request = Request { hash, previous: &previous, previous_priorities: &priorities };
                let chosen = balancer.pick(&request, &state, now, &mut random);
                if let Some(chosen) = chosen {
                    prop_assert!(members[chosen].place.weight > 0);
                    prop_assert!(panic_percent > 0 || state.is_healthy(chosen));
                }
                let used = |index: &usize| members[*index].place.weight > 0;
                let all = (0..members.len()).filter(used).count();
                let healthy = (0..members.len()).filter(used).filter(|index| state.is_healthy(*index)).count();
                let is_hash = matches!(policy, BalancePolicy::Hash(..));
                prop_assert!(chosen.is_some() || healthy == 0 || is_hash, "{} of {}", healthy, all);
                prop_assert!(chosen.is_none() || all > 0);
            }
        }
    }

    /// Turns are shared out by the weights, whatever the start.
    #[test]
    fn weights_are_proportions(weights in proptest::collection::vec(1u32..50, 1..10), seed: u64) {
        let mut balancer = balancer(BalancePolicy::RoundRobin, weighted(&weights), 0);
        let sum: u32 = weights.iter().sum();
        let rounds = 4;
        let mut random = numbers(seed);
        let mut counts = vec![0u32; weights.len()];
        for _ in 0..rounds * sum {
            counts[pick(&mut balancer, &Fake::default(), &mut random).unwrap()] += 1;
        }
        for (count, weight) in counts.iter().zip(&weights) {
            prop_assert!(count.abs_diff(rounds * weight) <= 2, "{:?} for {:?}", counts, weights);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// When one leaves, few keys of the others move, and its own are shared out among them.
    #[test]
    fn few_keys_move(
        table in prop_oneof![Just(HashTable::Ring(1024)), Just(HashTable::Maglev(10_007))],
        size in 4usize..20,
        gone in 0usize..20,
    ) {
        let gone = gone % size;
        let mut balancer = balancer(BalancePolicy::Hash(HashKey::SourceIp, table), members(&vec![0; size]), 0);
        let mut places = |state: &Fake| -> Vec<usize> {
            let mut choose = |key: u64| {
                let request = Request { hash: Some(numbers(key)()), ..Request::default() };
                balancer.pick(&request, state, Duration::ZERO, &mut numbers(0)).unwrap()
            };
            (0..2000).map(&mut choose).collect()
        };
        let before = places(&unhealthy(&[]));
        let after = places(&unhealthy(&[gone]));
        prop_assert_eq!(&places(&unhealthy(&[])), &before);
        let others = before.iter().filter(|member| **member != gone).count();
        let moved = before.iter().zip(&after).filter(|(before, after)| **before != gone && before != after).count();
        prop_assert!(after.iter().all(|member| *member != gone));
        prop_assert!(moved * 100 <= others * 20, "{} of {} moved", moved, others);
    }
}
