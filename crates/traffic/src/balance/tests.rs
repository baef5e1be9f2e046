//! The cases of Envoy's `load_balancer_impl_test.cc`, `ring_hash_lb_test.cc`, `maglev_lb_test.cc` and
//! `hash_policy_test.cc`, by what they are about.

mod draws;
mod ejections;
mod hashes;
mod keys;
mod levels;
mod properties;
mod replacing;
mod retries;
mod speed;
mod warming;
mod weights;

use std::time::Duration;

use super::{Balancer, Member, Now, Request};
use crate::locality::Place;
use crate::table::{Balance, BalancePolicy};

/// What a balancer sees, as a test sets it.
#[derive(Default)]
struct Fake {
    unhealthy: Vec<usize>,
    active: Vec<u32>,
}

impl Now for Fake {
    fn is_healthy(&self, member: usize) -> bool {
        !self.unhealthy.contains(&member)
    }

    fn active(&self, member: usize) -> u32 {
        self.active.get(member).copied().unwrap_or(0)
    }
}

fn unhealthy(members: &[usize]) -> Fake {
    Fake { unhealthy: members.to_vec(), ..Fake::default() }
}

fn at(index: usize, place: Place) -> Member {
    Member { key: format!("127.0.0.1:{}", 90 + index), place, since: Duration::ZERO }
}

/// As many members of weight 1 as there are priorities.
fn members(priorities: &[u32]) -> Vec<Member> {
    let place = |priority: &u32| Place { priority: *priority, weight: 1, locality: None };
    priorities.iter().enumerate().map(|(index, priority)| at(index, place(priority))).collect()
}

fn weighted(weights: &[u32]) -> Vec<Member> {
    let place = |weight: &u32| Place { weight: *weight, ..Place::default() };
    weights.iter().enumerate().map(|(index, weight)| at(index, place(weight))).collect()
}

fn balancer(policy: BalancePolicy, members: Vec<Member>, panic_percent: u32) -> Balancer {
    Balancer::new(&Balance { policy, ..Balance::default() }, members, panic_percent)
}

/// Numbers that look random, and are the same each time (SplitMix64).
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// These numbers, one after the other.
fn fixed(numbers: &[u64]) -> impl FnMut() -> u64 + use<> {
    let numbers = numbers.to_vec();
    let mut used = 0;
    move || {
        used += 1;
        numbers[used - 1]
    }
}

fn pick(balancer: &mut Balancer, state: &Fake, random: &mut dyn FnMut() -> u64) -> Option<usize> {
    balancer.pick(&Request::default(), state, Duration::ZERO, random)
}

/// How often each of so many members is chosen.
fn counts(balancer: &mut Balancer, state: &Fake, members: usize, picks: usize) -> Vec<usize> {
    let mut random = numbers(7);
    let mut counts = vec![0; members];
    for _ in 0..picks {
        counts[pick(balancer, state, &mut random).expect("none")] += 1;
    }
    counts
}

fn built(mut balancer: Balancer, state: &Fake) -> Balancer {
    let _ = pick(&mut balancer, state, &mut numbers(1));
    balancer
}
