//! Which `DestinationRule` a client gets.

use istio::{ConnectionPool, DestinationRule, ExportTo, Resources, TrafficPolicy};

use crate::build::*;

const RATINGS: &str = "ratings.bookinfo.svc.cluster.local";

/// A rule that is known by its limit.
fn marked(namespace: &str, host: &str, mark: u32) -> DestinationRule {
    let pool = ConnectionPool { max_connections: Some(mark), ..ConnectionPool::default() };
    let policy = TrafficPolicy { connection_pool: Some(pool), ..TrafficPolicy::default() };
    DestinationRule { meta: meta(&format!("rule-{mark}"), namespace), ..rule("", host, policy) }
}

fn with(rules: Vec<DestinationRule>) -> Opened {
    opened(&Resources { service_entries: vec![entry(RATINGS)], destination_rules: rules, ..Resources::default() })
}

fn mark(opened: &Opened, namespace: &str, labels: &[(&str, &str)]) -> u32 {
    opened.cluster_for((namespace, labels), RATINGS, 9080).pool.max_connections
}

#[test]
fn the_clients_namespace_then_the_services_then_the_root() {
    let opened = with(vec![marked("istio-system", RATINGS, 1), marked(NS, RATINGS, 2), marked("shop", RATINGS, 3)]);
    assert_eq!(mark(&opened, "shop", &[]), 3);
    assert_eq!(mark(&opened, NS, &[]), 2);
    assert_eq!(mark(&opened, "other", &[]), 2);
    assert_eq!(mark(&opened, "istio-system", &[]), 2);
    let opened = with(vec![marked("istio-system", RATINGS, 1), marked("shop", RATINGS, 3)]);
    assert_eq!(mark(&opened, "other", &[]), 1);
}

#[test]
fn the_most_specific_host_of_the_first_namespace_that_has_any() {
    let opened = with(vec![
        marked("shop", "*", 1),
        marked("shop", "*.svc.cluster.local", 2),
        marked("shop", "*.bookinfo.svc.cluster.local", 3),
        marked(NS, RATINGS, 4),
    ]);
    assert_eq!(mark(&opened, "shop", &[]), 3);
    assert_eq!(mark(&opened, "other", &[]), 4);
}

#[test]
fn a_rule_that_is_not_exported_is_for_its_own_namespace() {
    let private =
        |namespace: &str, mark| DestinationRule { export_to: vec![ExportTo::Own], ..marked(namespace, RATINGS, mark) };
    let opened = with(vec![private(NS, 1), private("istio-system", 2)]);
    assert_eq!((mark(&opened, NS, &[]), mark(&opened, "istio-system", &[]), mark(&opened, "other", &[])), (1, 2, 0));
    let given = DestinationRule { export_to: only("shop"), ..marked(NS, RATINGS, 5) };
    let opened = with(vec![given]);
    // It is not even for its own.
    assert_eq!((mark(&opened, "shop", &[]), mark(&opened, NS, &[]), mark(&opened, "other", &[])), (5, 0, 0));
}

#[test]
fn rules_of_one_host_become_one() {
    let mut resources = Resources {
        service_entries: vec![entry(RATINGS)],
        destination_rules: vec![
            DestinationRule { traffic_policy: None, ..with_subset("a", RATINGS, "v1") },
            with_subset("b", "ratings", "v2"),
            marked(NS, RATINGS, 3),
        ],
        virtual_services: vec![routes("r", &["ratings"], vec![forward(subset_of("ratings", "v2"))])],
        ..Resources::default()
    };
    resources.service_entries[0].endpoints = vec![endpoint("a.example", &[("version", "v2")])];
    let merged = opened(&resources);
    assert_eq!(merged.cluster(RATINGS, 9080).subset, "v2");
    // The first policy counts, though it says nothing.
    assert_eq!(merged.cluster(RATINGS, 9080).pool.max_connections, 0);
    resources.destination_rules[1].traffic_policy = None;
    assert_eq!(opened(&resources).cluster(RATINGS, 9080).pool.max_connections, 3);
}

#[test]
fn a_rule_for_some_workloads_is_theirs_alone() {
    let of = |mark, pairs: &[(&str, &str)]| DestinationRule {
        workload_selector: Some(selector(pairs)),
        ..marked(NS, RATINGS, mark)
    };
    let opened = with(vec![marked(NS, RATINGS, 1), of(2, &[("app", "a")]), of(3, &[("app", "b")])]);
    assert_eq!(mark(&opened, NS, &[("app", "a"), ("x", "y")]), 2);
    assert_eq!(mark(&opened, NS, &[("app", "b")]), 3);
    assert_eq!(mark(&opened, NS, &[("app", "c")]), 1);
    // Other namespaces have no part in it.
    assert_eq!(mark(&opened, "other", &[("app", "a")]), 1);
}

#[test]
fn a_rule_for_all_stays_beside_one_for_some_that_nobody_else_sees() {
    let all = DestinationRule { export_to: vec![ExportTo::Own], ..marked(NS, RATINGS, 1) };
    let some = DestinationRule { workload_selector: Some(selector(&[("app", "a")])), ..marked(NS, RATINGS, 2) };
    let opened = with(vec![all, some]);
    assert_eq!((mark(&opened, NS, &[("app", "a")]), mark(&opened, NS, &[])), (2, 1));
}

#[test]
fn too_many_selectors_are_refused() {
    let of = |index: u32| DestinationRule {
        workload_selector: Some(selector(&[(&format!("l{index}"), "x")])),
        ..marked(NS, RATINGS, index)
    };
    let resources = |count| Resources {
        service_entries: vec![entry(RATINGS)],
        destination_rules: (1..=count).map(of).collect(),
        ..Resources::default()
    };
    opened(&resources(8));
    assert!(refused(&resources(9))[0].contains("found 9 different label selectors"));
}

#[test]
fn a_subset_that_others_have_leads_nowhere() {
    let hidden = DestinationRule { export_to: only("shop"), ..with_subset("a", RATINGS, "v1") };
    let mut resources = Resources {
        service_entries: vec![entry(RATINGS)],
        destination_rules: vec![hidden],
        virtual_services: vec![routes("r", &["ratings"], vec![forward(subset_of("ratings", "v1"))])],
        ..Resources::default()
    };
    resources.service_entries[0].endpoints = vec![endpoint("a.example", &[("version", "v1")])];
    let opened = opened(&resources);
    assert_eq!(opened.cluster_for(("shop", &[]), RATINGS, 9080).endpoints.len(), 1);
    assert!(opened.cluster_for(("other", &[]), RATINGS, 9080).endpoints.is_empty());
    assert!(opened.warnings.iter().any(|warning| warning.contains("requests there are answered 503")));
}
