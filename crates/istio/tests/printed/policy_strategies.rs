//! `DestinationRule` documents, any that Istio accepts.

use std::time::Duration;

use istio::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::strategies::{labels, meta, text};
use crate::traffic_strategies::{export_to, host, percent, time, valid_labels};

fn consistent_hash() -> BoxedStrategy<LoadBalancerPolicy> {
    let cookie =
        ("[a-z_]{1,4}", option::of("/[a-z]{0,3}"), option::of((0..100_000_u64).prop_map(Duration::from_millis)));
    let key = prop_oneof![
        "x-[a-z]{1,3}".prop_map(HashKey::Header),
        cookie.prop_map(|(name, path, ttl)| HashKey::Cookie { name, path, ttl }),
        Just(HashKey::SourceIp),
        text().prop_map(HashKey::QueryParameter),
    ];
    let table = prop_oneof![
        (1..=8_388_608_u64).prop_map(HashTable::Ring),
        select(vec![1_u64, 2, 3, 65_537, 4_999_999]).prop_map(HashTable::Maglev),
    ];
    (key, table).prop_map(|(key, table)| LoadBalancerPolicy::ConsistentHash(ConsistentHash { key, table })).boxed()
}

pub(crate) fn locality_lb() -> BoxedStrategy<LocalityLb> {
    let region = |name: &str| name.to_owned();
    let to = (1..100_u32).prop_map(|part| [("eu/a/*".to_owned(), part), ("us".to_owned(), 100 - part)].into());
    let distribute = (select(vec!["eu/*", "eu/a", "*"]), to);
    let distribute = distribute.prop_map(|(from, to)| vec![Distribute { from: from.to_owned(), to }]);
    let part = prop_oneof![
        distribute.prop_map(|distribute| LocalityLb { distribute, ..LocalityLb::default() }),
        Just(LocalityLb { failover: vec![(region("eu"), region("us"))], ..LocalityLb::default() }),
        vec("[a-z]{1,3}(=[a-z]{1,3})?", 0..3)
            .prop_map(|failover_priority| LocalityLb { failover_priority, ..LocalityLb::default() }),
    ];
    (part, option::of(any::<bool>())).prop_map(|(part, enabled)| LocalityLb { enabled, ..part }).boxed()
}

fn load_balancer() -> BoxedStrategy<LoadBalancer> {
    let simple = select(vec![
        LoadBalancerPolicy::LeastRequest,
        LoadBalancerPolicy::RoundRobin,
        LoadBalancerPolicy::Random,
        LoadBalancerPolicy::Passthrough,
    ]);
    let warmup =
        (time(), 0..=100_u32, 1..1_000_000_u32).prop_map(|(duration, minimum_percent, aggression_thousandths)| {
            Warmup { duration, minimum_percent, aggression_thousandths }
        });
    (prop_oneof![simple, consistent_hash()], option::of(locality_lb()), option::of(warmup))
        .prop_map(|(policy, locality, warmup)| LoadBalancer { policy, locality, warmup })
        .boxed()
}

fn count() -> impl Strategy<Value = Option<u32>> {
    option::of(1..=i32::MAX.unsigned_abs())
}

fn connection_pool() -> BoxedStrategy<ConnectionPool> {
    let keepalive = (count(), option::of(time()), option::of(time()))
        .prop_map(|(probes, time, interval)| TcpKeepalive { probes, time, interval });
    let idle = prop_oneof![option::of(time()), Just(Some(Duration::ZERO))];
    let tcp = (count(), option::of(time()), option::of(keepalive), option::of(time()), idle);
    let upgrade =
        option::of(select(vec![H2UpgradePolicy::Default, H2UpgradePolicy::DoNotUpgrade, H2UpgradePolicy::Upgrade]));
    let http = (count(), count(), count(), count(), option::of(time()), upgrade, any::<bool>(), count());
    (tcp, http)
        .prop_map(|(tcp, http)| ConnectionPool {
            max_connections: tcp.0,
            connect_timeout: tcp.1,
            tcp_keepalive: tcp.2,
            max_connection_duration: tcp.3,
            tcp_idle_timeout: tcp.4,
            max_pending_requests: http.0,
            max_requests: http.1,
            max_requests_per_connection: http.2,
            max_retries: http.3,
            idle_timeout: http.4,
            h2_upgrade_policy: http.5,
            use_client_protocol: http.6 && http.5 != Some(H2UpgradePolicy::Upgrade),
            max_concurrent_streams: http.7,
        })
        .boxed()
}

fn outlier_detection() -> BoxedStrategy<OutlierDetection> {
    let counts = (option::of(any::<u32>()), option::of(any::<u32>()), option::of(1..=u32::MAX));
    let times = (option::of(time()), option::of(time()));
    let percents = (option::of(1..=100_u32), option::of(0..=100_u32));
    (any::<bool>(), counts, times, percents)
        .prop_map(|(split, counts, times, percents)| OutlierDetection {
            split_local_origin: split,
            consecutive_local_origin_failures: counts.2.filter(|_| split),
            consecutive_gateway_errors: counts.0,
            consecutive_5xx_errors: counts.1,
            interval: times.0,
            base_ejection_time: times.1,
            max_ejection_percent: percents.0,
            min_health_percent: percents.1,
        })
        .boxed()
}

fn client_tls() -> impl Strategy<Value = ClientTls> {
    let mode = select(vec![ClientTlsMode::Disable, ClientTlsMode::Simple, ClientTlsMode::IstioMutual]);
    (mode, option::of(host()), vec(text(), 0..2), option::of("/[a-z]{1,4}\\.pem")).prop_map(
        |(mode, sni, subject_alt_names, ca)| ClientTls {
            mode,
            sni,
            subject_alt_names,
            ca_certificates: ca.filter(|_| mode == ClientTlsMode::Simple),
        },
    )
}

fn of_a_port() -> BoxedStrategy<TrafficPolicy> {
    (
        option::of(load_balancer()),
        option::of(connection_pool()),
        option::of(outlier_detection()),
        option::of(client_tls()),
    )
        .prop_map(|(load_balancer, connection_pool, outlier_detection, tls)| TrafficPolicy {
            load_balancer,
            connection_pool,
            outlier_detection,
            tls,
            ..TrafficPolicy::default()
        })
        .prop_filter("a policy says something", |policy| *policy != TrafficPolicy::default())
        .boxed()
}

fn traffic_policy() -> BoxedStrategy<TrafficPolicy> {
    let budget = (percent(), any::<u32>())
        .prop_map(|(percent, min_retry_concurrency)| RetryBudget { percent, min_retry_concurrency });
    (of_a_port(), btree_map(1..=u16::MAX, of_a_port(), 0..2), option::of(budget))
        .prop_map(|(policy, port_level_settings, retry_budget)| TrafficPolicy {
            port_level_settings,
            retry_budget,
            ..policy
        })
        .boxed()
}

pub(crate) fn destination_rule(number: usize) -> BoxedStrategy<DestinationRule> {
    let subset = (valid_labels(), option::of(traffic_policy()));
    let selected = (Just(true), select(vec![Vec::new(), vec![ExportTo::Own]]));
    let clients = prop_oneof![(Just(false), export_to(Vec::new())), selected];
    (meta(number), host(), option::of(traffic_policy()), vec(subset, 0..2), clients, labels())
        .prop_map(|(meta, host, traffic_policy, subsets, (selects, export_to), labels)| DestinationRule {
            meta,
            host,
            traffic_policy,
            subsets: subsets
                .into_iter()
                .enumerate()
                .map(|(number, (labels, traffic_policy))| Subset { name: format!("v{number}"), labels, traffic_policy })
                .collect(),
            export_to,
            workload_selector: selects.then_some(WorkloadSelector { match_labels: labels }),
        })
        .boxed()
}
