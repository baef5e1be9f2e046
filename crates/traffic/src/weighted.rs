//! Which of the destinations of a route.

use crate::table::Weighted;

/// One of `destinations` by their weights: `random` is any number. `None` when there are none.
pub fn pick(destinations: &[Weighted], random: u64) -> Option<&Weighted> {
    pick_index(destinations, random).and_then(|index| destinations.get(index))
}

/// As [`pick`]: its index, for [`crate::route::PreparedRoute::changes`].
pub fn pick_index(destinations: &[Weighted], random: u64) -> Option<usize> {
    // Istio: "If there is only one destination in a rule, it will receive all traffic."
    if destinations.len() == 1 {
        return Some(0);
    }
    // A sum of 32-bit numbers: it cannot overflow.
    let total: u64 = destinations.iter().map(|destination| u64::from(destination.weight)).sum();
    if total == 0 {
        return None;
    }
    // As Envoy's WeightedClusterSpecifierPlugin: `random % total`, in intervals in the order of the list.
    let mut left = random % total;
    for (index, destination) in destinations.iter().enumerate() {
        let weight = u64::from(destination.weight);
        if left < weight {
            return Some(index);
        }
        left -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighted(weights: &[u32]) -> Vec<Weighted> {
        let of = |(cluster, weight): (usize, &u32)| Weighted {
            cluster: u32::try_from(cluster).unwrap(),
            weight: *weight,
            ..Weighted::default()
        };
        weights.iter().enumerate().map(of).collect()
    }

    fn picked(weights: &[u32], random: u64) -> Option<u32> {
        pick(&weighted(weights), random).map(|destination| destination.cluster)
    }

    #[test]
    fn picks_by_weight() {
        for (weights, random, expected) in [
            (&[][..], 7, None),
            (&[0, 0], 7, None),
            // A single destination needs no weight.
            (&[0], u64::MAX, Some(0)),
            (&[90, 10], 0, Some(0)),
            (&[90, 10], 89, Some(0)),
            (&[90, 10], 90, Some(1)),
            (&[90, 10], 99, Some(1)),
            (&[90, 10], 100, Some(0)),
            (&[0, 1, 0], u64::MAX, Some(1)),
            (&[u32::MAX, u32::MAX], u64::from(u32::MAX), Some(1)),
        ] {
            assert_eq!(picked(weights, random), expected, "{weights:?} {random}");
        }
    }

    proptest::proptest! {
        /// Over a whole round of numbers, each destination gets exactly its weight.
        #[test]
        fn shares_are_exact(weights in proptest::collection::vec(0u32..60, 2..6), round in 0u64..1000) {
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            let destinations = weighted(&weights);
            let mut counts = vec![0u32; weights.len()];
            for random in round * total..(round + 1) * total {
                counts[pick_index(&destinations, random).unwrap()] += 1;
            }
            proptest::prop_assert_eq!(counts, weights);
        }

        #[test]
        fn zero_never(weights in proptest::collection::vec(0u32.., 2..6), random: u64) {
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            match pick_index(&weighted(&weights), random) {
                Some(index) => proptest::prop_assert!(weights[index] > 0),
                None => proptest::prop_assert_eq!(total, 0),
            }
        }
    }
}
