//! What share of the requests each priority gets: Envoy's `recalculatePerPriorityState`,
//! `recalculatePerPriorityPanic` and `recalculateLoadInTotalPanic`.

/// "The overprovisioning factor of 1.4", in percent.
const OVERPROVISIONING: u64 = 140;

/// The endpoints of a priority.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Count {
    pub(super) healthy: usize,
    pub(super) all: usize,
}

/// Of all priorities, the first one first.
#[derive(Debug, Default)]
pub(super) struct Loads {
    /// Percent of the requests; they sum to 100.
    pub(super) percent: Vec<u32>,
    /// Whether all of its endpoints are used, healthy or not.
    pub(super) panics: Vec<bool>,
    /// "The ratio of healthy hosts to total hosts, modified by the overprovisioning factor", at most 100.
    pub(super) health: Vec<u32>,
}

impl Loads {
    pub(super) fn new(counts: &[Count], panic_percent: u32) -> Loads {
        let health: Vec<u32> = counts.iter().map(|count| health(*count)).collect();
        let total = total(health.iter().copied());
        let mut loads = Loads { percent: vec![0; counts.len()], panics: vec![false; counts.len()], health };
        if total > 0 {
            distribute(&mut loads.percent, &loads.health, total);
        } else if panic_percent == 0 {
            // "There are no healthy hosts to route to. In this case just mark P=0 as recipient of 100% of the
            // traffic".
            if let Some(first) = loads.percent.first_mut() {
                *first = 100;
            }
            return loads;
        }
        for (panics, count) in loads.panics.iter_mut().zip(counts) {
            // "Never set panic mode if normalized total health is 100%, even when individual priority level has very
            // low # of healthy hosts."
            *panics = total < 100 && is_in_panic(*count, panic_percent);
        }
        if !loads.panics.is_empty() && loads.panics.iter().all(|panics| *panics) {
            by_size(&mut loads.percent, counts);
        }
        loads
    }
}

/// The priority for a number; Envoy's `choosePriority`.
pub(super) fn draw(percent: &[u32], number: u64) -> usize {
    let number = number % 100 + 1;
    let mut sum = 0;
    for (priority, percent) in percent.iter().enumerate() {
        sum += u64::from(*percent);
        if number <= sum {
            return priority;
        }
    }
    0
}

/// Shares out 100 by health; what rounding leaves goes to the first priority that has any.
pub(super) fn distribute(percent: &mut [u32], health: &[u32], total: u32) {
    let mut left = 100;
    for (percent, health) in percent.iter_mut().zip(health) {
        *percent = (health * 100).checked_div(total).unwrap_or(0).min(left);
        left -= *percent;
    }
    let first = health.iter().position(|health| *health > 0);
    if let Some(first) = first.and_then(|first| percent.get_mut(first)) {
        *first += left;
    }
}

/// "Normalized total availability": at most 100.
pub(super) fn total(health: impl Iterator<Item = u32>) -> u32 {
    health.fold(0u32, |sum, health| sum.saturating_add(health)).min(100)
}

fn health(count: Count) -> u32 {
    let percent = (OVERPROVISIONING * count.healthy as u64).checked_div(count.all as u64).unwrap_or(0);
    percent.min(100) as u32
}

/// "Availability ranges from 0-1.0, and is the ratio of eligible hosts to total hosts, modified by the overprovisioning
/// factor": what a locality's weight is multiplied by.
pub(super) fn availability(count: Count) -> f64 {
    if count.all == 0 {
        return 0.0;
    }
    (OVERPROVISIONING as f64 / 100.0 * count.healthy as f64 / count.all as f64).min(1.0)
}

fn is_in_panic(count: Count, percent: u32) -> bool {
    // Without any endpoint 0 % of them are healthy.
    if count.all == 0 { percent > 0 } else { (count.healthy as u64) * 100 < u64::from(percent) * count.all as u64 }
}

/// "The load distribution is done NOT based on number of healthy hosts in the priority, but based on number of hosts in
/// each priority regardless of its health."
fn by_size(percent: &mut [u32], counts: &[Count]) {
    let all: usize = counts.iter().map(|count| count.all).sum();
    let mut left = 100;
    for (percent, count) in percent.iter_mut().zip(counts) {
        *percent = (100 * count.all).checked_div(all).unwrap_or(0) as u32;
        left -= *percent;
    }
    let first = counts.iter().position(|count| count.all > 0).unwrap_or(0);
    if let Some(first) = percent.get_mut(first) {
        *first += left;
    }
}
