//! Envoy's weighted round robin: the entry with the earliest deadline first, where an entry's next deadline is one by
//! its weight after the time at which it was chosen (`edf_scheduler.h`).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use super::warmup::Warming;
use super::{Member, Now};
use crate::table::BalancePolicy;

/// What the weight of a member depends on.
pub(super) struct Chooser<'a> {
    pub(super) policy: &'a BalancePolicy,
    pub(super) members: &'a [Member],
    pub(super) warming: &'a Warming,
    pub(super) state: &'a dyn Now,
    pub(super) now: Duration,
}

impl Chooser<'_> {
    /// The weight at this moment: `hostWeight`.
    pub(super) fn weight(&self, member: u32) -> f64 {
        let Some(entry) = self.members.get(member as usize) else { return 1.0 };
        let mut weight = f64::from(entry.place.weight);
        if matches!(self.policy, BalancePolicy::LeastRequest) {
            // "weight = load_balancing_weight / (active_requests + 1)^active_request_bias", whose bias is 1.
            weight /= f64::from(self.state.active(member as usize)) + 1.0;
        }
        weight * self.warming.factor(entry.since, self.now)
    }
}

/// The scheduler.
#[derive(Debug, Default)]
pub(super) struct Edf {
    queue: BinaryHeap<Reverse<Entry>>,
    time: f64,
    order: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: f64,
    /// "Tie breaker for entries with the same deadline. This is used to provide FIFO behavior."
    order: u64,
    item: u32,
}

/// A weight is never less, so that a deadline is always a number.
const LEAST_WEIGHT: f64 = 1e-9;

impl Edf {
    /// Of these items, as if `picks` had been made already: a start at a random place, so that many clients do not all
    /// begin with the same item (`createWithPicks`).
    pub(super) fn new(items: &[u32], weight: impl Fn(u32) -> f64, picks: u64) -> Edf {
        // "Limiting the number of picks, as over 400M picks should be sufficient for most scenarios."
        let picks = (picks % 429_496_729) as f64;
        // "Augment the weight computation to add some epsilon to each entry's weight to avoid cases where weights are
        // multiplies of each other."
        let augmented = |item| weight(item).max(LEAST_WEIGHT) + 1e-13;
        let sum: f64 = items.iter().map(|item| augmented(*item)).sum();
        let mut made = 0.0;
        let mut time = 0.0f64;
        let mut entries = Vec::with_capacity(items.len());
        for (order, item) in items.iter().enumerate() {
            let weight = augmented(*item);
            let mut floor = (weight * picks / sum).floor();
            if floor > 0.0 && floor / weight >= picks / sum {
                floor -= 1.0;
            }
            made += floor;
            time = time.max(floor / weight);
            entries.push(Reverse(Entry { deadline: (floor + 1.0) / weight, order: order as u64, item: *item }));
        }
        let mut edf = Edf { order: entries.len() as u64, queue: BinaryHeap::from(entries), time };
        // Fewer than there are items.
        let left = (picks - made).clamp(0.0, items.len() as f64) as usize;
        for _ in 0..left {
            edf.pick(&weight);
        }
        edf
    }

    /// The next item, put back with its weight of now; `None` when there are none.
    pub(super) fn pick(&mut self, weight: impl Fn(u32) -> f64) -> Option<u32> {
        let mut top = self.queue.peek_mut()?;
        let item = top.0.item;
        self.time = self.time.max(top.0.deadline);
        top.0.deadline = self.time + 1.0 / weight(item).max(LEAST_WEIGHT);
        top.0.order = self.order;
        // Dropping it puts it where it belongs.
        drop(top);
        self.order += 1;
        Some(item)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        self.deadline.total_cmp(&other.deadline).then(self.order.cmp(&other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
