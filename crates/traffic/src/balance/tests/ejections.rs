//! Outlier detection, retries and the balancer together, after linkerd's `failure_accrual` and `breaker` tests.

use super::*;
use crate::outlier::{Detector, Observed};
use crate::table::Outlier;

struct World {
    balancer: Balancer,
    detector: Detector,
    dead: Vec<usize>,
    now: Duration,
    random: Box<dyn FnMut() -> u64>,
}

impl Now for Detector {
    fn is_healthy(&self, member: usize) -> bool {
        !self.is_ejected(member)
    }
    fn active(&self, _: usize) -> u32 {
        0
    }
    fn version(&self) -> Option<u64> {
        Some(Detector::version(self))
    }
}

impl World {
    fn new(policy: BalancePolicy, priorities: &[u32], dead: &[usize]) -> World {
        let settings = Outlier {
            consecutive_5xx: 5,
            interval_ms: 10_000,
            base_ejection_ms: 30_000,
            max_ejection_ms: 300_000,
            max_ejection_percent: 100,
            ..Outlier::default()
        };
        World {
            balancer: balancer(policy, members(priorities), 0),
            detector: Detector::new(settings, priorities.len()),
            dead: dead.to_vec(),
            now: Duration::ZERO,
            random: Box::new(numbers(5)),
        }
    }

    /// One request with so many retries: where its tries went, and whether it was answered.
    fn send(&mut self, retries: usize) -> (Vec<usize>, bool) {
        self.now += Duration::from_millis(100);
        let mut tried = Vec::new();
        for _ in 0..=retries {
            self.detector.tick(self.now);
            let request = Request { previous: &tried, ..Request::default() };
            let Some(member) = self.balancer.pick(&request, &self.detector, self.now, &mut *self.random) else { break };
            tried.push(member);
            if !self.dead.contains(&member) {
                self.detector.observe(member, Observed::Status(200), self.now);
                return (tried, true);
            }
            self.detector.observe(member, Observed::LocalOrigin, self.now);
        }
        (tried, false)
    }
}

const POLICIES: [BalancePolicy; 3] = [BalancePolicy::LeastRequest, BalancePolicy::RoundRobin, BalancePolicy::Random];

// One of three is dead: with one retry nothing is lost, from the first request on.
#[test]
fn nothing_is_lost_while_one_is_healthy() {
    for policy in POLICIES {
        let mut world = World::new(policy.clone(), &[0; 3], &[1]);
        assert!((0..2000).all(|_| world.send(1).1), "{policy:?}");
        let mut world = World::new(policy.clone(), &[0; 3], &[0, 2]);
        assert!((0..2000).all(|_| world.send(2).1), "{policy:?}");
    }
}

// consecutive_failures_accrue, balancer_doesnt_select_tripped_breakers
#[test]
fn the_ejected_one_is_left_alone_until_it_may_come_back() {
    for policy in POLICIES {
        let mut world = World::new(policy.clone(), &[0; 3], &[1]);
        let mut failures = 0;
        while !world.detector.is_ejected(1) {
            failures += usize::from(!world.send(0).1);
        }
        assert_eq!(failures, 5, "{policy:?}");
        let begin = world.now;
        while world.detector.is_ejected(1) {
            let (tried, answered) = world.send(0);
            assert!(answered || !world.detector.is_ejected(1), "{policy:?} {tried:?}");
        }
        let away = (world.now - begin).as_secs();
        assert!((30..=40).contains(&away), "{policy:?} {away}");
        // It fails again, and then it is well again and is used.
        while !world.detector.is_ejected(1) {
            world.send(0);
        }
        world.dead.clear();
        while world.detector.is_ejected(1) {
            world.send(0);
        }
        let used = (0..300).filter(|_| world.send(0).0 == [1]).count();
        assert!(used > 60, "{policy:?} {used}");
    }
}

// The near region is dead: after five failures everything goes to the far one, and back when it is well.
#[test]
fn the_far_region_takes_over() {
    let mut world = World::new(BalancePolicy::LeastRequest, &[0, 1], &[0]);
    let lost = (0..100).filter(|_| !world.send(0).1).count();
    assert_eq!(lost, 5);
    assert_eq!(world.send(0).0, [1]);
    world.dead.clear();
    world.now += Duration::from_secs(60);
    assert_eq!(world.send(0).0, [0]);
}

// All are dead: a clear end, and no endless search.
#[test]
fn all_dead() {
    for policy in POLICIES {
        let mut world = World::new(policy.clone(), &[0, 0, 1], &[0, 1, 2]);
        assert!((0..50).all(|_| !world.send(2).1), "{policy:?}");
        assert_eq!(world.detector.ejected(), 3);
        assert_eq!(world.send(2), (vec![], false));
    }
}
