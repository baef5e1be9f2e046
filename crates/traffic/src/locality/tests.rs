//! The cases of Istio's `loadbalancer_test.go`.

use proptest::prelude::*;

use super::{Place, assign};
use crate::table::{Endpoint, Locality, LocalityPolicy};

fn locality(text: &str) -> Locality {
    let mut parts = text.split('/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), subzone: next() }
}

fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn endpoint(place: &str, weight: u32, pairs: &[(&str, &str)]) -> Endpoint {
    Endpoint { weight, locality: locality(place), labels: labels(pairs), ..Endpoint::default() }
}

fn endpoints(places: &[&str]) -> Vec<Endpoint> {
    places.iter().map(|place| endpoint(place, 1, &[])).collect()
}

fn priorities(places: &[Place]) -> Vec<u32> {
    places.iter().map(|place| place.priority).collect()
}

const HERE: &str = "region1/zone1/subzone1";
const EVERYWHERE: [&str; 7] = [
    "region1/zone1/subzone1",
    "region1/zone1/subzone1",
    "region1/zone1/subzone2",
    "region1/zone1/subzone3",
    "region1/zone2/subzone1",
    "region2/zone1/subzone1",
    "region3/zone1/subzone1",
];

fn failover(to: &[(&str, &str)], from: &str, places: &[&str]) -> Vec<u32> {
    priorities(&assign(&LocalityPolicy::Failover(labels(to)), &locality(from), &[], &endpoints(places)))
}

#[test]
fn off() {
    let mut some = endpoints(&EVERYWHERE);
    some[1].weight = 5;
    some[2].weight = 0;
    let places = assign(&LocalityPolicy::Off, &locality(HERE), &[], &some);
    let weights: Vec<u32> = places.iter().map(|place| place.weight).collect();
    assert_eq!(weights, [1, 5, 1, 1, 1, 1, 1]);
    assert!(places.iter().all(|place| place.priority == 0 && place.locality.is_none()));
}

// Failover: all priorities, with gaps, with some nil localities
#[test]
fn near_ones_first() {
    let to = [("region1", "region2")];
    assert_eq!(failover(&to, HERE, &EVERYWHERE), [0, 0, 1, 1, 2, 3, 4]);
    assert_eq!(failover(&to, HERE, &["region1/zone1/subzone2", "region2/a/b", "region2/c"]), [0, 1, 1]);
    assert_eq!(failover(&to, HERE, &["region1/zone1/subzone2", "region2/a/b", ""]), [0, 1, 2]);
    // Without a region that stands beside ours all others are alike.
    assert_eq!(failover(&[], HERE, &EVERYWHERE), [0, 0, 1, 1, 2, 3, 3]);
    assert_eq!(failover(&[("region9", "region2")], HERE, &EVERYWHERE), [0, 0, 1, 1, 2, 3, 3]);
    // The first one counts.
    let two = [("region1", "region3"), ("region1", "region2")];
    assert_eq!(failover(&two, HERE, &EVERYWHERE), [0, 0, 1, 1, 2, 4, 3]);
    // A workload that does not know where it is.
    assert_eq!(failover(&to, "", &["", "region1/zone1/subzone1"]), [0, 1]);
    assert_eq!(failover(&to, "region1", &["region1", "region1/zone1", "region2"]), [0, 1, 2]);
    assert!(failover(&to, HERE, &[]).is_empty());
}

#[test]
fn localities_weigh_where_failover_is_given() {
    let policy = |to| LocalityPolicy::Failover(labels(to));
    let mut some = endpoints(&["region2/a", "region2/b", "region2/a", "region1"]);
    some[2].weight = 4;
    let from = locality("region1");
    let plain = assign(&policy(&[]), &from, &[], &some);
    assert!(plain.iter().all(|place| place.locality.is_none()));
    let weighted = assign(&policy(&[("region1", "region2")]), &from, &[], &some);
    let found: Vec<_> = weighted.iter().map(|place| (place.priority, place.weight, place.locality)).collect();
    assert_eq!(found, [(1, 1, Some((0, 5))), (1, 1, Some((1, 1))), (1, 4, Some((0, 5))), (0, 1, Some((2, 1))),]);
}

// FailoverPriority: match none, network, not the first n, all; KEY=VALUE
#[test]
fn labels_that_agree() {
    let network = "topology.istio.io/network";
    let cluster = "topology.istio.io/cluster";
    let some = [
        endpoint("region1/zone1", 1, &[(network, "n1"), (cluster, "c1"), ("v", "1")]),
        endpoint("region1/zone1", 1, &[(network, "n2"), (cluster, "c2"), ("v", "1")]),
        endpoint("region2/zone2", 1, &[(network, "n1"), (cluster, "c3")]),
        endpoint("region2/zone2", 1, &[(network, "n2"), (cluster, "c1"), ("v", "2")]),
        endpoint("", 1, &[]),
    ];
    let assign = |names: &[&str], from: &str, ours: &[(&str, &str)]| {
        let policy = LocalityPolicy::FailoverPriority(texts(names));
        priorities(&assign(&policy, &locality(from), &labels(ours), &some))
    };
    for (names, ours, expected) in [
        (&["v"][..], &[("v", "1")][..], [0, 0, 1, 1, 1]),
        (&["v"], &[("v", "9")], [0, 0, 0, 0, 0]),
        // What nobody has agrees.
        (&["x"], &[("v", "1")], [0, 0, 0, 0, 0]),
        (&["v"], &[("x", "1")], [1, 1, 0, 1, 0]),
        // The longest prefix: the second label counts only after the first.
        (&["v", cluster], &[("v", "1"), (cluster, "c1")], [0, 1, 2, 2, 2]),
        (&["v", cluster], &[("v", "9"), (cluster, "c1")], [0, 0, 0, 0, 0]),
        // A network that differs comes after all, with the order of the rest.
        (&[network, cluster], &[(network, "n1"), (cluster, "c1")], [0, 3, 1, 2, 3]),
        (&[network, cluster], &[(network, "n9"), (cluster, "c1")], [0, 1, 1, 0, 1]),
        (&[network], &[(network, "n1")], [0, 1, 0, 1, 1]),
        (&[cluster, network], &[(network, "n1"), (cluster, "c1")], [0, 2, 2, 1, 2]),
        // A value instead of ours.
        (&["v=2"], &[("v", "1")], [1, 1, 1, 0, 1]),
        (&["v=1", cluster], &[(cluster, "c2")], [1, 0, 2, 2, 2]),
        (&["v="], &[("v", "1")], [1, 1, 0, 1, 0]),
        (&["v=2", "v=1"], &[("x", "1")], [0, 0, 1, 1, 1]),
        (&["v=1=2"], &[("v", "1")], [0, 0, 1, 1, 1]),
        (&[], &[("v", "1")], [0, 0, 0, 0, 0]),
        // A workload without any label.
        (&["v"], &[], [0, 0, 0, 0, 0]),
    ] {
        assert_eq!(assign(names, "", ours), expected, "{names:?} {ours:?}");
    }
    // The labels of the topology come from the locality, whatever a label says.
    let region = "topology.kubernetes.io/region";
    let zone = "topology.kubernetes.io/zone";
    assert_eq!(assign(&[region, zone], "region2/zone2", &[]), [1, 1, 0, 0, 1]);
    assert_eq!(assign(&[region], "region2", &[(region, "region1")]), [1, 1, 0, 0, 1]);
    assert_eq!(assign(&["topology.kubernetes.io/region=region1"], "region2", &[]), [0, 0, 1, 1, 1]);
}

fn distribute(rules: &[(&str, &[(&str, u32)])], from: &str, endpoints: &[Endpoint]) -> Vec<Place> {
    let to = |to: &[(&str, u32)]| to.iter().map(|(to, weight)| ((*to).to_owned(), *weight)).collect();
    let rules = rules.iter().map(|(from, pairs)| ((*from).to_owned(), to(pairs))).collect();
    assign(&LocalityPolicy::Distribute(rules), &locality(from), &[], endpoints)
}

/// The locality's weight; `None` where nothing goes.
fn shares(places: &[Place]) -> Vec<Option<u32>> {
    let share = |place: &Place| place.locality.filter(|_| place.weight > 0).map(|(_, share)| share);
    places.iter().map(share).collect()
}

// Distribute: fully specified, wildcards, weight of 100
#[test]
fn shares_of_localities() {
    let some = endpoints(&EVERYWHERE);
    for (rules, expected) in [
        (
            &[(HERE, &[(HERE, 80), ("region1/zone1/subzone2", 15), ("region1/zone1/subzone3", 5)][..])][..],
            [Some(80), Some(80), Some(15), Some(5), None, None, None],
        ),
        (
            &[("region1/zone1/*", &[("region1/zone1/subzone1", 90), ("region1/zone1/subzone2", 10)])],
            [Some(90), Some(90), Some(10), None, None, None, None],
        ),
        // A wildcard is shared out by the weights: 80 of 5 endpoints, two of them in one locality.
        (
            &[("*", &[("region1/*", 80), ("region2/*", 15), ("region3", 5)])],
            [Some(32), Some(32), Some(16), Some(16), Some(16), Some(15), Some(5)],
        ),
        (&[("region1", &[("*", 100)])], [Some(29), Some(29), Some(15), Some(15), Some(15), Some(15), Some(15)]),
        // The first rule that is for us is the only one.
        (
            &[("region2/*", &[("*", 100)]), ("region1/*", &[("region3/*", 100)]), ("*", &[("region2/*", 100)])],
            [None, None, None, None, None, None, Some(100)],
        ),
        // None is for us: as many as there are endpoints.
        (&[("region9", &[("region3", 100)])], [Some(2), Some(2), Some(1), Some(1), Some(1), Some(1), Some(1)]),
        (&[(HERE, &[])], [None; 7]),
        (&[(HERE, &[(HERE, 0)])], [None; 7]),
    ] {
        assert_eq!(shares(&distribute(rules, HERE, &some)), expected, "{rules:?}");
    }
}

#[test]
fn a_share_counts_the_weights_of_endpoints() {
    let some = [endpoint("r/a", 1, &[]), endpoint("r/b", 2, &[]), endpoint("r/a", 4, &[]), endpoint("q", 9, &[])];
    let places = distribute(&[("*", &[("r/*", 70), ("q", 30)])], "q", &some);
    assert_eq!(shares(&places), [Some(50), Some(20), Some(50), Some(30)]);
    let weights: Vec<u32> = places.iter().map(|place| place.weight).collect();
    assert_eq!(weights, [1, 2, 4, 9]);
    // "math.Ceil": a share is at least 1.
    let some = [endpoint("r/a", 1, &[]), endpoint("r/b", u32::MAX, &[]), endpoint("r/c", u32::MAX, &[])];
    assert_eq!(shares(&distribute(&[("*", &[("*", 100)])], "", &some)), [Some(1), Some(50), Some(50)]);
}

proptest! {
    /// Priorities begin at 0 and have no gaps, whatever the endpoints are.
    #[test]
    fn no_gaps(
        from in "(r[12](/z[12](/s[12])?)?)?",
        places in proptest::collection::vec("(r[123](/z[12](/s[12])?)?)?", 1..12),
        to in proptest::collection::vec(("r[123]", "r[123]"), 0..3),
        names in proptest::collection::vec("(a|b|a=1|topology.istio.io/network)", 0..4),
        pairs in proptest::collection::vec(("(a|b)", "[12]"), 0..3),
    ) {
        let mut some: Vec<Endpoint> =
            places.iter().map(|place| endpoint(place, 1, &[])).collect();
        for (endpoint, pair) in some.iter_mut().zip(&pairs) {
            endpoint.labels.push(pair.clone());
        }
        for policy in [LocalityPolicy::Failover(to.clone()), LocalityPolicy::FailoverPriority(names.clone())] {
            let places = assign(&policy, &locality(&from), &pairs, &some);
            prop_assert_eq!(places.len(), some.len());
            let mut found = priorities(&places);
            found.sort_unstable();
            found.dedup();
            let expected: Vec<u32> = (0..found.len() as u32).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(places.iter().all(|place| place.weight > 0));
        }
    }
}
