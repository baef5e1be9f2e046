//! Envoy's Maglev (`maglev_lb.cc`), after "Maglev: A Fast and Reliable Software Network Load Balancer", listing 1.

use xxhash_rust::xxh64::xxh64;

use super::table::Weighted;

/// Envoy's and Istio's size when none is given.
const DEFAULT_SIZE: u64 = 65_537;
/// Envoy's largest size.
const MOST: u64 = 5_000_011;
const EMPTY: u32 = u32::MAX;

/// A table of endpoints.
#[derive(Debug)]
pub(super) struct Maglev {
    table: Vec<u32>,
}

struct Build {
    member: u32,
    /// The next place of its permutation: Envoy's `(offset + skip × next) % size`.
    place: u64,
    skip: u64,
    weight: f64,
    target: f64,
}

impl Maglev {
    /// Of this size. "The table size must be prime number": with any other one the table might never be full, so
    /// Envoy refuses it, and the default is taken here for what nothing has refused before.
    pub(super) fn new(mut weighted: Vec<Weighted<'_>>, size: u64) -> Maglev {
        if weighted.is_empty() {
            return Maglev { table: Vec::new() };
        }
        let size = if size == 1 || (size <= MOST && is_prime(size)) { size } else { DEFAULT_SIZE };
        // "Maglev requires stable order of table_build_entries because the hash table will be filled in the order."
        weighted.sort_by(|one, other| one.key.cmp(other.key).then(one.member.cmp(&other.member)));
        let largest = weighted.iter().map(|member| member.share).fold(0.0, f64::max);
        let mut builds: Vec<Build> = weighted.iter().map(|member| Build::new(member, size)).collect();
        let mut table = vec![EMPTY; size as usize];
        let mut left = table.len();
        let mut iteration = 1.0;
        while left > 0 {
            for build in &mut builds {
                if left == 0 {
                    break;
                }
                // "Consider a host with weight equal to max_normalized_weight. This would be picked on every single
                // iteration. If it had weight equal to max_normalized_weight / 3, then it would only be picked every 3
                // iterations, etc."
                if iteration * build.weight < build.target {
                    continue;
                }
                build.target += largest;
                build.place(&mut table, size);
                left -= 1;
            }
            iteration += 1.0;
        }
        Maglev { table }
    }

    /// The endpoint for a hash.
    pub(super) fn get(&self, hash: u64, attempt: u32) -> Option<u32> {
        // "If a retry host predicate is being applied, mutate the hash to choose an alternate host."
        let hash = if attempt > 0 { hash ^ u64::from(attempt).wrapping_neg() } else { hash };
        let index = hash.checked_rem(self.table.len() as u64)?;
        self.table.get(index as usize).copied()
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &[u32] {
        &self.table
    }
}

impl Build {
    fn new(member: &Weighted<'_>, size: u64) -> Build {
        let key = member.key.as_bytes();
        Build {
            member: member.member,
            place: xxh64(key, 0) % size,
            skip: xxh64(key, 1).checked_rem(size - 1).unwrap_or(0) + 1,
            weight: member.share,
            target: 0.0,
        }
    }

    /// Takes the next free place of its permutation, which passes all places since the size is a prime.
    fn place(&mut self, table: &mut [u32], size: u64) {
        loop {
            let place = self.place;
            // Both are less than the size: this is the remainder without a division.
            self.place += self.skip;
            if self.place >= size {
                self.place -= size;
            }
            match table.get_mut(place as usize) {
                Some(entry) if *entry == EMPTY => {
                    *entry = self.member;
                    return;
                }
                _ => {}
            }
        }
    }
}

pub(super) fn is_prime(number: u64) -> bool {
    number >= 2 && (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
}
