//! Which combinations of labels make a difference to a workload.
//!
//! A `Sidecar`, a `DestinationRule` or a route may be for some workloads of a namespace alone, by labels. A workload
//! meets some of these conditions and not the others; for each combination that can be met there is a view.

use std::collections::{BTreeMap, BTreeSet};

/// Labels, as a document or a workload has them.
pub(super) type Labels = BTreeMap<String, String>;

/// The most different conditions of one namespace: each doubles the combinations.
pub(super) const MAX_CONDITIONS: usize = 8;

/// Whether a workload with `labels` meets a condition.
pub(super) fn selects(condition: &Labels, labels: &Labels) -> bool {
    condition.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// The unions of conditions that do not contradict each other, those of most labels first; the last one is empty. A
/// workload belongs to the first union whose labels it has all of: it meets exactly the conditions that this union
/// meets.
pub(super) fn combinations(conditions: &BTreeSet<Labels>) -> Vec<Labels> {
    let mut unions: BTreeSet<Labels> = BTreeSet::from([Labels::new()]);
    for condition in conditions {
        let more: Vec<Labels> = unions.iter().filter_map(|union| joined(union, condition)).collect();
        unions.extend(more);
    }
    let mut unions: Vec<Labels> = unions.into_iter().collect();
    unions.sort_by_key(|union| std::cmp::Reverse(union.len()));
    unions
}

fn joined(one: &Labels, other: &Labels) -> Option<Labels> {
    let agree = other.iter().all(|(name, value)| one.get(name).is_none_or(|known| known == value));
    agree.then(|| one.iter().chain(other).map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// As the table has them.
pub(super) fn listed(labels: &Labels) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_workload_finds_the_conditions_that_it_meets() {
        let conditions =
            BTreeSet::from([labels(&[("app", "a")]), labels(&[("app", "b")]), labels(&[("app", "a"), ("v", "1")])]);
        let unions = combinations(&conditions);
        assert_eq!(unions.len(), 4, "{unions:?}");
        assert_eq!(unions.last(), Some(&Labels::new()));
        for workload in [
            labels(&[]),
            labels(&[("app", "a")]),
            labels(&[("app", "b"), ("v", "1")]),
            labels(&[("app", "a"), ("v", "1"), ("x", "y")]),
            labels(&[("app", "c")]),
        ] {
            let view = unions.iter().find(|union| selects(union, &workload)).unwrap();
            for condition in &conditions {
                assert_eq!(selects(condition, &workload), selects(condition, view), "{workload:?} {condition:?}");
            }
        }
    }
}
