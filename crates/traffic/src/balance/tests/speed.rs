//! How long a choice takes: `cargo test -p traffic --release -- --ignored --nocapture speed`.

use std::io::Write as _;

use super::*;
use crate::table::{HashKey, HashTable};

struct Steady(u32);

impl Now for Steady {
    fn is_healthy(&self, _: usize) -> bool {
        true
    }
    fn active(&self, member: usize) -> u32 {
        self.0 ^ member as u32
    }
    fn version(&self) -> Option<u64> {
        Some(0)
    }
}

#[test]
#[ignore = "it measures"]
#[expect(clippy::disallowed_types, reason = "a duration inside one test")]
fn speed() {
    let hash = |table| BalancePolicy::Hash(HashKey::SourceIp, table);
    for (name, policy, members) in [
        ("LEAST_REQUEST", BalancePolicy::LeastRequest, members(&[0; 100])),
        ("LEAST_REQUEST, weights", BalancePolicy::LeastRequest, weighted(&(1..=100).collect::<Vec<_>>())),
        ("ROUND_ROBIN", BalancePolicy::RoundRobin, members(&[0; 100])),
        ("ROUND_ROBIN, weights", BalancePolicy::RoundRobin, weighted(&(1..=100).collect::<Vec<_>>())),
        ("RANDOM", BalancePolicy::Random, members(&[0; 100])),
        ("ring", hash(HashTable::Ring(1024)), members(&[0; 100])),
        ("Maglev", hash(HashTable::Maglev(65_537)), members(&[0; 100])),
    ] {
        let mut balancer = balancer(policy, members, 0);
        let mut random = numbers(1);
        let begin = std::time::Instant::now();
        balancer.pick(&Request::default(), &Steady(0), Duration::ZERO, &mut random);
        let first = begin.elapsed();
        let mut times = Vec::new();
        for state in [&Steady(3) as &dyn Now, &Fake::default()] {
            let begin = std::time::Instant::now();
            for _ in 0..100_000 {
                let request = Request { hash: Some(random()), ..Request::default() };
                assert!(balancer.pick(&request, state, Duration::ZERO, &mut random).is_some());
            }
            times.push(begin.elapsed() / 100_000);
        }
        writeln!(
            std::io::stderr(),
            "{name}: first {first:?}, then with a version {:?}, without {:?}",
            times[0],
            times[1]
        )
        .unwrap();
    }
}
