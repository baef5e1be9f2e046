//! Other endpoints.

use super::*;

#[test]
fn what_stays_keeps_its_age() {
    let mut first = members(&[0; 3]);
    for (second, member) in first.iter_mut().enumerate() {
        member.since = Duration::from_secs(second as u64);
    }
    let mut balancer = balancer(BalancePolicy::Random, first, 0);
    let later = Duration::from_secs(100);
    let mut next = members(&[0; 5]);
    next.remove(0);
    next.reverse();
    for member in &mut next {
        member.since = later;
    }
    // 94, 93, 92 and 91.
    assert_eq!(balancer.replace(next), [None, None, Some(2), Some(1)]);
    let ages: Vec<u64> = balancer.members().iter().map(|member| member.since.as_secs()).collect();
    assert_eq!(ages, [100, 100, 2, 1]);
    let found = counts(&mut balancer, &unhealthy(&[1]), 4, 400);
    assert!(found[1] == 0 && found[0] > 50 && found[2] > 50 && found[3] > 50, "{found:?}");
    assert_eq!(balancer.replace(vec![]), []);
    assert_eq!(pick(&mut balancer, &Fake::default(), &mut numbers(0)), None);
}

#[test]
fn the_place_is_the_new_one() {
    let mut balancer = balancer(BalancePolicy::Random, members(&[0, 1]), 0);
    assert_eq!(counts(&mut balancer, &Fake::default(), 2, 10), [10, 0]);
    // Nothing that was built for the old ones is used again.
    assert_eq!(counts(&mut balancer, &unhealthy(&[0]), 2, 10), [0, 10]);
    balancer.replace(members(&[1, 0]));
    assert_eq!(counts(&mut balancer, &Fake::default(), 2, 10), [0, 10]);
}
