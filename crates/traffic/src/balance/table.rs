//! From a hash to an endpoint: the tables of one priority.

use super::Member;
use super::maglev::Maglev;
use super::ring::Ring;
use crate::table::HashTable;

/// An endpoint with its share of all weights: Envoy's `NormalizedHostWeightVector`.
pub(super) struct Weighted<'a> {
    pub(super) key: &'a str,
    pub(super) member: u32,
    pub(super) share: f64,
}

/// One of the two kinds.
#[derive(Debug)]
pub(super) enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

impl Table {
    /// Of these members.
    pub(super) fn new(kind: HashTable, members: &[Member], used: &[u32]) -> Table {
        let weighted = normalized(members, used);
        match kind {
            HashTable::Ring(least) => Table::Ring(Ring::new(&weighted, least)),
            HashTable::Maglev(size) => Table::Maglev(Maglev::new(weighted, size)),
        }
    }

    /// The endpoint for a hash; with the same hash each attempt goes on to another place.
    pub(super) fn get(&self, hash: u64, attempt: u32) -> Option<u32> {
        match self {
            Table::Ring(ring) => ring.get(hash, attempt),
            Table::Maglev(maglev) => maglev.get(hash, attempt),
        }
    }
}

/// Envoy's `normalizeWeights`: the weights sum to 1, first those of the localities, where they have weights, and in
/// each those of its endpoints.
fn normalized<'a>(members: &'a [Member], used: &[u32]) -> Vec<Weighted<'a>> {
    let used: Vec<(u32, &Member)> =
        used.iter().filter_map(|index| Some((*index, members.get(*index as usize)?))).collect();
    let mut localities: Vec<(Option<(u32, u32)>, u64)> = Vec::new();
    for (_, member) in &used {
        let weight = u64::from(member.place.weight);
        match localities.iter_mut().find(|(locality, _)| *locality == member.place.locality) {
            Some((_, sum)) => *sum += weight,
            None => localities.push((member.place.locality, weight)),
        }
    }
    let weight = |locality: Option<(u32, u32)>| locality.map_or(1, |(_, weight)| u64::from(weight));
    let total: u64 = localities.iter().map(|(locality, _)| weight(*locality)).sum();
    let mut weighted = Vec::with_capacity(used.len());
    // In the order of the localities, as Envoy builds it: rounding depends on it.
    for (locality, sum) in localities {
        let share = weight(locality) as f64 / total as f64;
        for (index, member) in used.iter().filter(|(_, member)| member.place.locality == locality) {
            let share = f64::from(member.place.weight) * share / sum as f64;
            if share > 0.0 {
                weighted.push(Weighted { key: &member.key, member: *index, share });
            }
        }
    }
    weighted
}
