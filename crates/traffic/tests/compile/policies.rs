//! Pools, outlier detection, load balancing: defaults, and which policy counts.

use std::time::Duration;

use istio::{
    ConnectionPool, ConsistentHash, Distribute, HashKey, HashTable, LoadBalancer, LoadBalancerPolicy, LocalityLb,
    OutlierDetection, Percent, Resources, RetryBudget, Subset, TrafficPolicy, Warmup,
};
use traffic::table::{self, BalancePolicy, Cluster, LocalityPolicy};

use crate::build::*;

const RATINGS: &str = "ratings.bookinfo.svc.cluster.local";

fn with(policy: TrafficPolicy) -> Resources {
    Resources {
        service_entries: vec![entry(RATINGS)],
        destination_rules: vec![rule("ratings", RATINGS, policy)],
        ..Resources::default()
    }
}

fn cluster(policy: TrafficPolicy) -> Cluster {
    opened(&with(policy)).cluster(RATINGS, 9080)
}

fn pool(settings: ConnectionPool) -> TrafficPolicy {
    TrafficPolicy { connection_pool: Some(settings), ..TrafficPolicy::default() }
}

fn balancer(settings: LoadBalancer, detects: bool) -> TrafficPolicy {
    TrafficPolicy {
        load_balancer: Some(settings),
        outlier_detection: detects.then(OutlierDetection::default),
        ..TrafficPolicy::default()
    }
}

#[test]
fn nothing_said_is_no_limit_and_istios_times() {
    let found = cluster(TrafficPolicy::default());
    let wanted = table::Pool { connect_timeout_ms: 10_000, idle_timeout_ms: 3_600_000, ..table::Pool::default() };
    assert_eq!(found.pool, wanted);
    assert_eq!(found.outlier, None);
    assert_eq!(found.balance, table::Balance::default());
}

#[test]
fn the_pools_fields_arrive() {
    let second = Duration::from_secs;
    let settings = ConnectionPool {
        max_connections: Some(1),
        connect_timeout: Some(Duration::from_millis(250)),
        tcp_keepalive: Some(istio::TcpKeepalive { probes: Some(3), time: Some(second(60)), interval: None }),
        max_connection_duration: Some(second(5)),
        tcp_idle_timeout: Some(second(0)),
        max_pending_requests: Some(2),
        max_requests: Some(3),
        max_requests_per_connection: Some(4),
        max_retries: Some(5),
        max_concurrent_streams: Some(6),
        ..ConnectionPool::default()
    };
    let found = cluster(TrafficPolicy {
        retry_budget: Some(RetryBudget { percent: Percent::from_millionths(200_000), min_retry_concurrency: 0 }),
        ..pool(settings.clone())
    });
    let wanted = table::Pool {
        max_connections: 1,
        max_pending: 2,
        max_requests: 3,
        max_requests_per_connection: 4,
        max_retries: 5,
        max_concurrent_streams: 6,
        retry_budget: Some((200_000, 3)),
        connect_timeout_ms: 250,
        idle_timeout_ms: 0,
        max_connection_ms: 5_000,
        keepalive: Some((3, 60, 0)),
    };
    assert_eq!(found.pool, wanted);
    // The idle time of HTTP goes before that of TCP, and the mesh's time to connect after the rule's.
    let mut resources = with(pool(ConnectionPool { connect_timeout: None, idle_timeout: Some(second(7)), ..settings }));
    resources.mesh.connect_timeout = Some(second(3));
    let found = opened(&resources).cluster(RATINGS, 9080).pool;
    assert_eq!((found.connect_timeout_ms, found.idle_timeout_ms), (3_000, 7_000));
}

#[test]
fn outlier_detection_has_envoys_defaults() {
    let of = |detection| {
        let policy = TrafficPolicy { outlier_detection: Some(detection), ..TrafficPolicy::default() };
        cluster(policy).outlier.unwrap()
    };
    let wanted = table::Outlier {
        consecutive_5xx: 5,
        consecutive_gateway: 0,
        consecutive_local: 0,
        split: false,
        interval_ms: 10_000,
        base_ejection_ms: 30_000,
        max_ejection_ms: 300_000,
        max_ejection_percent: 10,
        min_health_percent: 0,
    };
    assert_eq!(of(OutlierDetection::default()), wanted);
    let found = of(OutlierDetection {
        split_local_origin: true,
        consecutive_local_origin_failures: Some(0),
        consecutive_5xx_errors: Some(0),
        consecutive_gateway_errors: Some(3),
        base_ejection_time: Some(Duration::from_secs(600)),
        max_ejection_percent: Some(0),
        min_health_percent: Some(40),
        ..OutlierDetection::default()
    });
    assert_eq!((found.consecutive_5xx, found.consecutive_gateway, found.consecutive_local), (0, 3, 5));
    assert_eq!((found.max_ejection_ms, found.max_ejection_percent, found.min_health_percent), (600_000, 10, 40));
    let without_split = OutlierDetection { consecutive_local_origin_failures: Some(2), ..OutlierDetection::default() };
    assert_eq!(of(without_split).consecutive_local, 0);
}

#[test]
fn locality_needs_outlier_detection_but_for_shares() {
    let of = |locality: Option<LocalityLb>, detects: bool| {
        cluster(balancer(LoadBalancer { locality, ..LoadBalancer::default() }, detects)).balance.locality
    };
    let failover = vec![("a".to_owned(), "b".to_owned())];
    let setting = || LocalityLb { failover: failover.clone(), ..LocalityLb::default() };
    assert_eq!(of(None, false), LocalityPolicy::Off);
    // Istio's mesh configuration enables it, so outlier detection alone brings the nearest first.
    assert_eq!(of(None, true), LocalityPolicy::Failover(Vec::new()));
    assert_eq!(of(Some(setting()), false), LocalityPolicy::Off);
    assert_eq!(of(Some(setting()), true), LocalityPolicy::Failover(failover.clone()));
    assert_eq!(of(Some(LocalityLb { enabled: Some(false), ..setting() }), true), LocalityPolicy::Off);
    let by_label = LocalityLb { failover_priority: vec!["zone".to_owned()], ..LocalityLb::default() };
    assert_eq!(of(Some(by_label), true), LocalityPolicy::FailoverPriority(vec!["zone".to_owned()]));
    let shares = LocalityLb {
        distribute: vec![Distribute { from: "a/*".to_owned(), to: [("b".to_owned(), 100)].into() }],
        ..LocalityLb::default()
    };
    let wanted = LocalityPolicy::Distribute(vec![("a/*".to_owned(), vec![("b".to_owned(), 100)])]);
    assert_eq!(of(Some(shares), false), wanted);
}

#[test]
fn the_meshs_locality_counts_where_the_rule_has_none() {
    let mut resources = with(balancer(LoadBalancer::default(), true));
    resources.mesh.locality_lb = Some(LocalityLb { enabled: Some(false), ..LocalityLb::default() });
    assert_eq!(opened(&resources).cluster(RATINGS, 9080).balance.locality, LocalityPolicy::Off);
    let own = LoadBalancer { locality: Some(LocalityLb::default()), ..LoadBalancer::default() };
    resources.destination_rules = vec![rule("ratings", RATINGS, balancer(own, true))];
    assert_eq!(opened(&resources).cluster(RATINGS, 9080).balance.locality, LocalityPolicy::Failover(Vec::new()));
}

#[test]
fn hashes_stay_where_they_are_on_a_retry() {
    let cookie = HashKey::Cookie { name: "u".to_owned(), path: None, ttl: Some(Duration::from_secs(9)) };
    let hash = ConsistentHash { key: cookie, table: HashTable::Maglev(65_537) };
    let settings = LoadBalancer { policy: LoadBalancerPolicy::ConsistentHash(hash), ..LoadBalancer::default() };
    let mut resources = with(balancer(settings, false));
    resources.virtual_services = vec![routes("r", &["ratings"], vec![forward(to("ratings"))])];
    let opened = opened(&resources);
    let key = table::HashKey::Cookie("u".to_owned(), String::new(), Some(9));
    let found = opened.cluster(RATINGS, 9080);
    assert_eq!(found.balance.policy, BalancePolicy::Hash(key, table::HashTable::Maglev(65_537)));
    assert!(!opened.host(RATINGS, 9080).routes[0].retry.avoids_previous_hosts);
}

#[test]
fn only_two_of_the_balancers_warm_up() {
    let of = |policy: LoadBalancerPolicy| {
        let warmup = Warmup { duration: Duration::from_secs(1), minimum_percent: 10, aggression_thousandths: 1_000 };
        cluster(balancer(LoadBalancer { policy, warmup: Some(warmup), ..LoadBalancer::default() }, false)).balance
    };
    assert_eq!(of(LoadBalancerPolicy::LeastRequest).warmup.unwrap().duration_ms, 1_000);
    assert!(of(LoadBalancerPolicy::RoundRobin).warmup.is_some());
    assert!(of(LoadBalancerPolicy::Random).warmup.is_none());
}

#[test]
fn settings_of_a_port_replace_all_others() {
    let of_port = pool(ConnectionPool { max_requests: Some(7), ..ConnectionPool::default() });
    let found = cluster(TrafficPolicy {
        outlier_detection: Some(OutlierDetection::default()),
        port_level_settings: [(9080, of_port)].into(),
        ..pool(ConnectionPool { max_connections: Some(1), ..ConnectionPool::default() })
    });
    assert_eq!((found.pool.max_requests, found.pool.max_connections, found.outlier), (7, 0, None));
}

#[test]
fn a_subset_replaces_part_by_part_and_a_port_of_it_all() {
    let limited = |max: u32| pool(ConnectionPool { max_connections: Some(max), ..ConnectionPool::default() });
    let of_subset = |policy: TrafficPolicy| {
        let mut resources = with(TrafficPolicy { outlier_detection: Some(OutlierDetection::default()), ..limited(1) });
        let subset =
            Subset { name: "v1".to_owned(), labels: labels(&[("version", "v1")]), traffic_policy: Some(policy) };
        resources.destination_rules[0].subsets = vec![subset];
        resources.service_entries[0].endpoints =
            vec![endpoint("a.example", &[("version", "v1")]), endpoint("b.example", &[("version", "v2")])];
        resources.virtual_services = vec![routes("r", &["ratings"], vec![forward(subset_of("ratings", "v1"))])];
        opened(&resources).cluster(RATINGS, 9080)
    };
    let found = of_subset(limited(2));
    assert_eq!((found.pool.max_connections, found.outlier.is_some()), (2, true));
    assert_eq!(found.endpoints.iter().map(|found| found.address.as_str()).collect::<Vec<_>>(), ["a.example"]);
    assert_eq!(found.name, format!("outbound|9080|v1|{RATINGS}"));
    let table::Tls::IstioMutual(tls) = &found.tls else { panic!() };
    assert_eq!(tls.sni, format!("outbound_.9080_.v1_.{RATINGS}"));
    let found =
        of_subset(TrafficPolicy { port_level_settings: [(9080, limited(3))].into(), ..TrafficPolicy::default() });
    assert_eq!((found.pool.max_connections, found.outlier.is_some()), (3, false));
}

#[test]
fn a_subset_without_endpoints_is_refused() {
    let mut resources = with(TrafficPolicy::default());
    resources.destination_rules = vec![with_subset("ratings", "ratings", "v1")];
    resources.virtual_services = vec![routes("r", &["ratings"], vec![forward(subset_of("ratings", "v1"))])];
    let errors = refused(&resources);
    assert!(errors[0].contains("has the labels of the subset \"v1\""), "{errors:?}");
}
