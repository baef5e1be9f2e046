//! Envoy's ring hash (`ring_hash_lb.cc`).

use xxhash_rust::xxh64::xxh64;

use super::table::Weighted;

/// A ring that is asked to be small has no more points, however much weights differ. Envoy's limit is eight times as
/// much, 128 MB of points: more than a function has. It is reached where an endpoint has less than a millionth of all
/// weights.
const MOST: u64 = 1_048_576;
/// Envoy's limit, for a ring that is asked to be large.
const MOST_ASKED: u64 = 8_388_608;

/// Points sorted by their hashes.
#[derive(Debug)]
pub(super) struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// Of at least so many points, at most 8,388,608.
    pub(super) fn new(weighted: &[Weighted<'_>], least: u64) -> Ring {
        let smallest = weighted.iter().map(|member| member.share).fold(1.0, f64::min);
        let most = least.clamp(MOST, MOST_ASKED) as f64;
        // "Scale up the number of hashes per host such that the least-weighted host gets a whole number of hashes on
        // the ring."
        let scale = ((smallest * least as f64).ceil().max(1.0) / smallest).min(most);
        let mut points = Vec::with_capacity(if weighted.is_empty() { 0 } else { scale.ceil() as usize });
        let mut key = String::new();
        // "Since these aren't necessarily whole numbers, we maintain running sums".
        let mut current = 0.0;
        let mut target = 0.0;
        for member in weighted {
            target += scale * member.share;
            let mut number = 0u32;
            while current < target {
                key.clear();
                key.push_str(member.key);
                key.push('_');
                push_number(&mut key, number);
                points.push((xxh64(key.as_bytes(), 0), member.member));
                number += 1;
                current += 1.0;
            }
        }
        points.sort_unstable();
        Ring { points }
    }

    /// The endpoint at the first point at or after the hash.
    pub(super) fn get(&self, hash: u64, attempt: u32) -> Option<u32> {
        let begin = self.points.partition_point(|(point, _)| *point < hash);
        // "If a retry host predicate is being applied, behave as if this host was not in the ring."
        let index = (begin as u64 + u64::from(attempt)).checked_rem(self.points.len() as u64)?;
        self.points.get(index as usize).map(|(_, member)| *member)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.points.len()
    }
}

fn push_number(key: &mut String, number: u32) {
    use std::fmt::Write as _;
    // Writing to a string cannot fail.
    let _ = write!(key, "{number}");
}
