//! Priorities and panic.

use super::*;
use crate::balance::load::{Count, Loads, draw};

fn percents(healthy: &[usize]) -> Vec<Count> {
    healthy.iter().map(|healthy| Count { healthy: *healthy, all: 100 }).collect()
}

// PrioritySpillOver: the tables of Envoy's priority.rst
#[test]
fn the_load_of_each_priority() {
    for (healthy, expected) in [
        (&[100, 100][..], &[100, 0][..]),
        (&[72, 100], &[100, 0]),
        (&[71, 100], &[99, 1]),
        (&[50, 100], &[70, 30]),
        (&[25, 100], &[35, 65]),
        (&[0, 100], &[0, 100]),
        (&[72, 72, 100], &[100, 0, 0]),
        (&[71, 71, 100], &[99, 1, 0]),
        (&[50, 50, 100], &[70, 30, 0]),
        (&[25, 100, 100], &[35, 65, 0]),
        (&[25, 25, 100], &[35, 35, 30]),
        // Less than enough in all: "25% & 25% gives 50/50".
        (&[25, 25], &[50, 50]),
        (&[25, 0], &[100, 0]),
        (&[0, 25], &[0, 100]),
        // What rounding leaves is the first one's: 9, 14 and 7 of 30 are 30, 46 and 23.
        (&[7, 10, 5], &[31, 46, 23]),
        (&[0, 1, 1], &[0, 50, 50]),
        (&[1], &[100]),
        (&[0], &[100]),
        (&[0, 0], &[100, 0]),
    ] {
        let loads = Loads::new(&percents(healthy), 0);
        assert_eq!(loads.percent, expected, "{healthy:?}");
        assert!(loads.panics.iter().all(|panics| !panics), "{healthy:?}");
    }
}

// HealthyPanicThreshold: the tables of Envoy's panic_threshold.rst
#[test]
fn panic_with_the_threshold_of_a_half() {
    for (healthy, percent, panics) in [
        (&[72, 72][..], &[100, 0][..], &[false, false][..]),
        (&[71, 71], &[99, 1], &[false, false]),
        (&[50, 60], &[70, 30], &[false, false]),
        (&[25, 100], &[35, 65], &[false, false]),
        (&[25, 25], &[50, 50], &[true, true]),
        (&[5, 65], &[8, 92], &[true, false]),
        (&[0, 0], &[50, 50], &[true, true]),
        (&[49], &[100], &[true]),
        (&[50], &[100], &[false]),
        (&[0], &[100], &[true]),
    ] {
        let loads = Loads::new(&percents(healthy), 50);
        assert_eq!((&loads.percent[..], &loads.panics[..]), (percent, panics), "{healthy:?}");
    }
}

// TotalPanic: by the number of endpoints
#[test]
fn in_total_panic_the_size_counts() {
    let counts = |all: [usize; 3]| all.map(|all| Count { healthy: 0, all }).to_vec();
    assert_eq!(Loads::new(&counts([1, 1, 1]), 50).percent, [34, 33, 33]);
    assert_eq!(Loads::new(&counts([10, 30, 60]), 50).percent, [10, 30, 60]);
    assert_eq!(Loads::new(&counts([0, 1, 2]), 50).percent, [0, 34, 66]);
    assert!(Loads::new(&[], 50).percent.is_empty());
}

// ChoosePriority
#[test]
fn a_number_leads_to_a_priority() {
    for (number, expected) in [(0, 0), (69, 0), (70, 2), (99, 2), (100, 0), (170, 2), (u64::MAX, 0)] {
        assert_eq!(draw(&[70, 0, 30], number), expected, "{number}");
    }
    assert_eq!(draw(&[], 5), 0);
}

// BasicFailover
#[test]
fn the_next_priority_takes_over() {
    for policy in [BalancePolicy::LeastRequest, BalancePolicy::RoundRobin, BalancePolicy::Random] {
        let mut balancer = balancer(policy, members(&[0, 0, 1, 1]), 0);
        assert_eq!(counts(&mut balancer, &unhealthy(&[]), 4, 1000)[2..], [0, 0]);
        let half = counts(&mut balancer, &unhealthy(&[0]), 4, 10_000);
        assert_eq!(half[0], 0);
        assert!((6_800..7_200).contains(&half[1]), "{half:?}");
        assert!(half[2] > 1_000 && half[3] > 1_000, "{half:?}");
        assert_eq!(counts(&mut balancer, &unhealthy(&[0, 1]), 4, 1000)[..2], [0, 0]);
        assert_eq!(pick(&mut balancer, &unhealthy(&[0, 1, 2, 3]), &mut numbers(0)), None);
    }
}

#[test]
fn in_panic_all_are_used() {
    for policy in [BalancePolicy::LeastRequest, BalancePolicy::RoundRobin, BalancePolicy::Random] {
        let mut balancer = balancer(policy, members(&[0; 4]), 50);
        let two = counts(&mut balancer, &unhealthy(&[0, 1]), 4, 1000);
        assert_eq!(two[..2], [0, 0]);
        let three = counts(&mut balancer, &unhealthy(&[0, 1, 2]), 4, 1000);
        assert!(three.iter().all(|count| *count > 150), "{three:?}");
        assert!(counts(&mut balancer, &unhealthy(&[0, 1, 2, 3]), 4, 1000).iter().all(|count| *count > 150));
    }
}

#[test]
fn numbers_of_priorities_may_have_gaps() {
    let mut balancer = balancer(BalancePolicy::Random, members(&[u32::MAX, 7]), 0);
    assert_eq!(counts(&mut balancer, &unhealthy(&[]), 2, 100), [0, 100]);
    assert_eq!(counts(&mut balancer, &unhealthy(&[1]), 2, 100), [100, 0]);
}
