//! Ring hash and Maglev, against what Envoy's own tests say that it gives.

use super::*;
use crate::balance::maglev::{Maglev, is_prime};
use crate::balance::ring::Ring;
use crate::balance::table::Weighted;
use crate::table::{HashKey, HashTable};

fn by(table: HashTable, members: Vec<Member>, panic_percent: u32) -> Balancer {
    balancer(BalancePolicy::Hash(HashKey::SourceIp, table), members, panic_percent)
}

fn choose(balancer: &mut Balancer, state: &Fake, hash: u64) -> Option<usize> {
    let request = Request { hash: Some(hash), ..Request::default() };
    balancer.pick(&request, state, Duration::ZERO, &mut numbers(0))
}

// RingHash: Basic
#[test]
fn envoys_ring() {
    let mut ring = by(HashTable::Ring(12), members(&[0; 6]), 50);
    for (hash, expected) in [
        (0, 4),
        (833_437_586_790_550_860, 4),
        (833_437_586_790_550_861, 2),
        (928_266_305_478_181_108, 2),
        (1_033_482_794_131_418_490, 0),
        (3_551_244_743_356_806_947, 5),
        (3_551_244_743_356_806_948, 3),
        (5_583_722_120_771_150_861, 1),
        (6_311_230_543_546_372_928, 1),
        (7_700_377_290_971_790_572, 3),
        (13_144_177_310_400_110_813, 5),
        (13_444_792_449_719_432_967, 2),
        (15_516_499_411_664_133_160, 4),
        (16_117_243_373_044_804_880, 0),
        (16_117_243_373_044_804_889, 0),
        (16_117_243_373_044_804_890, 4),
        (u64::MAX, 4),
    ] {
        assert_eq!(choose(&mut ring, &Fake::default(), hash), Some(expected), "{hash}");
        // In panic the ring is of all.
        assert_eq!(choose(&mut ring, &unhealthy(&[0, 1, 2, 3, 4, 5]), hash), Some(expected), "{hash}");
    }
    let request = Request::default();
    let picked = ring.pick(&request, &Fake::default(), Duration::ZERO, &mut || 3_551_244_743_356_806_947);
    assert_eq!(picked, Some(5), "without a key a number takes its place");
}

// RingHash: UnevenHosts, HostWeightedTinyRing, HostWeightedLargeRing
#[test]
fn points_of_a_ring() {
    let ring = |weights: &[u32], least: u64| {
        let sum: u32 = weights.iter().sum();
        let keys: Vec<String> = (0..weights.len()).map(|index| format!("h{index}")).collect();
        let weighted: Vec<Weighted<'_>> = weights
            .iter()
            .zip(&keys)
            .enumerate()
            .map(|(index, (weight, key))| Weighted {
                key,
                member: index as u32,
                share: f64::from(*weight) / f64::from(sum),
            })
            .collect();
        Ring::new(&weighted, least).len()
    };
    assert_eq!(ring(&[1, 1], 3), 4);
    assert_eq!(ring(&[1, 2, 3], 6), 6);
    assert_eq!(ring(&[1, 2, 3], 6144), 6144);
    assert_eq!(ring(&[1, 1, 1], 1024), 1026);
    assert_eq!(ring(&[1], 0), 1);
    assert_eq!(ring(&[], 1024), 0);
    // What is asked for is given, and different weights do not make more of it.
    assert_eq!(ring(&[1], 1_500_000), 1_500_000);
    assert_eq!(ring(&[1, u32::MAX - 1], 1024), 1_048_576);
}

// RingHash: BasicFailover
#[test]
fn the_hash_chooses_the_priority_too() {
    let mut ring = by(HashTable::Ring(12), members(&[0, 0, 1]), 0);
    assert_eq!(choose(&mut ring, &unhealthy(&[1]), 69), Some(0));
    assert_eq!(choose(&mut ring, &unhealthy(&[1]), 71), Some(2));
    assert_eq!(choose(&mut ring, &unhealthy(&[0, 1]), 0), Some(2));
    assert_eq!(choose(&mut ring, &unhealthy(&[0, 1, 2]), 0), None);
}

// Maglev: Basic
#[test]
fn envoys_maglev() {
    let mut maglev = by(HashTable::Maglev(7), members(&[0; 6]), 50);
    for (hash, expected) in [2, 4, 0, 1, 5, 0, 3].into_iter().cycle().take(21).enumerate() {
        assert_eq!(choose(&mut maglev, &Fake::default(), hash as u64), Some(expected), "{hash}");
    }
    // The order of the endpoints does not matter.
    let mut reversed = members(&[0; 6]);
    reversed.reverse();
    let mut maglev = by(HashTable::Maglev(7), reversed, 50);
    for (hash, expected) in [2, 4, 0, 1, 5, 0, 3].into_iter().enumerate() {
        assert_eq!(choose(&mut maglev, &Fake::default(), hash as u64), Some(5 - expected), "{hash}");
    }
}

// Maglev: Weighted, NoPrimeNumber
#[test]
fn places_of_a_table() {
    let table = |shares: &[f64], size: u64| {
        let keys: Vec<String> = (0..shares.len()).map(|index| format!("h{index}")).collect();
        let weighted = shares.iter().zip(&keys).enumerate();
        let weighted = weighted.map(|(index, (share, key))| Weighted { key, member: index as u32, share: *share });
        let maglev = Maglev::new(weighted.collect(), size);
        let mut counts = vec![0; shares.len()];
        for member in maglev.table() {
            counts[*member as usize] += 1;
        }
        counts
    };
    assert_eq!(table(&[0.5, 0.5], 17), [9, 8]);
    assert_eq!(table(&[0.25, 0.75], 17).iter().sum::<usize>(), 17);
    let uneven = table(&[0.1, 0.9], 65_537);
    assert!((6_500..6_600).contains(&uneven[0]), "{uneven:?}");
    // A size that Envoy refuses is not tried.
    for size in [0, 8, 65_536, u64::MAX] {
        assert_eq!(table(&[1.0], size), [65_537], "{size}");
    }
    assert_eq!(table(&[1.0], 1), [1]);
    assert_eq!(table(&[1.0], 2), [2]);
    assert!(table(&[], 7).is_empty());
}

#[test]
fn primes() {
    let found: Vec<u64> = (0..30).filter(|number| is_prime(*number)).collect();
    assert_eq!(found, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
    assert!(is_prime(65_537) && is_prime(5_000_011) && !is_prime(5_000_013));
}

// Localities: LocalityWeightedSameLocalityWeights, LocalityWeightedDifferentLocalityWeights
#[test]
fn localities_count() {
    let places = [(0, 80), (1, 20), (1, 20), (2, 0)];
    let members: Vec<Member> = places
        .iter()
        .enumerate()
        .map(|(index, locality)| at(index, Place { priority: 0, weight: 1, locality: Some(*locality) }))
        .collect();
    for table in [HashTable::Ring(4096), HashTable::Maglev(65_537)] {
        let mut balancer = by(table, members.clone(), 0);
        let mut counts = [0; 4];
        for seed in 0..10_000 {
            counts[choose(&mut balancer, &Fake::default(), numbers(seed)()).unwrap()] += 1;
        }
        assert!((7_600..8_400).contains(&counts[0]), "{table:?} {counts:?}");
        assert!(counts[1] > 700 && counts[2] > 700 && counts[3] == 0, "{table:?} {counts:?}");
    }
}

/// Where Envoy 1.40.0 sent requests with these headers: six endpoints from 127.0.0.1:19101 on.
#[test]
fn as_a_sidecar() {
    let member = |(index, place): (usize, Place)| Member {
        key: format!("127.0.0.1:{}", 19_101 + index),
        place,
        since: Duration::ZERO,
    };
    let balancer = |table, places: [Place; 6]| by(table, places.into_iter().enumerate().map(member).collect(), 0);
    let weight = |weight| Place { weight, ..Place::default() };
    let weights = [1, 2, 3, 5, 8, 13].map(weight);
    let local = |locality, share, weight| Place { priority: 0, weight, locality: Some((locality, share)) };
    let localities =
        [local(0, 80, 1), local(0, 80, 1), local(1, 15, 1), local(1, 15, 2), local(1, 15, 3), local(2, 5, 1)];
    let of = |text: &str| xxhash_rust::xxh64::xxh64(text.as_bytes(), 0);
    let all = Fake::default();

    let (mut ring, mut maglev) =
        (balancer(HashTable::Ring(1024), weights), balancer(HashTable::Maglev(10_007), weights));
    let (in_ring, in_maglev) = ([4, 4, 4, 2, 2, 5, 2, 5, 5, 4, 1, 2], [5, 1, 3, 4, 5, 1, 4, 2, 5, 5, 5, 3]);
    for (number, (in_ring, in_maglev)) in in_ring.into_iter().zip(in_maglev).enumerate() {
        let hash = of(&format!("user-{}", number * 7919));
        assert_eq!(choose(&mut ring, &all, hash), Some(in_ring), "{number}");
        assert_eq!(choose(&mut maglev, &all, hash), Some(in_maglev), "{number}");
    }

    let mut ring = balancer(HashTable::Ring(1024), localities);
    let mut maglev = balancer(HashTable::Maglev(65_537), localities);
    let (in_ring, in_maglev) = ([0, 0, 1, 1, 3, 4, 0, 0, 0, 1, 3, 3], [1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1]);
    for (number, (in_ring, in_maglev)) in in_ring.into_iter().zip(in_maglev).enumerate() {
        let hash = of(&(number * 7919).to_string());
        assert_eq!(choose(&mut ring, &all, hash), Some(in_ring), "{number}");
        assert_eq!(choose(&mut maglev, &all, hash), Some(in_maglev), "{number}");
    }

    // Two of the three endpoints of the first priority are not healthy, and the last endpoint weighs two.
    let places = [(0, 1), (0, 1), (0, 1), (1, 1), (1, 1), (1, 2)];
    let places = places.map(|(priority, weight)| Place { priority, weight, locality: None });
    let mut ring = balancer(HashTable::Ring(1024), places);
    for (number, expected) in [0, 4, 0, 5, 0, 0, 0, 5, 0, 0, 0, 4, 5, 5, 5, 4, 0, 3].into_iter().enumerate() {
        let hash = of(&(number * 7919).to_string());
        assert_eq!(choose(&mut ring, &unhealthy(&[1, 2]), hash), Some(expected), "{number}");
    }
}
