//! How an endpoint is chosen.

use istio::{LoadBalancer, LoadBalancerPolicy, LocalityLb, MeshConfig};

use super::pool::ms;
use crate::table::{Balance, BalancePolicy, HashKey, HashTable, LocalityPolicy, Warmup};

/// `loadBalancer`; nothing said is `LEAST_REQUEST`.
pub(super) fn balance(settings: Option<&LoadBalancer>, mesh: &MeshConfig, has_outlier_detection: bool) -> Balance {
    let policy = settings.map_or(BalancePolicy::LeastRequest, |settings| match &settings.policy {
        // With PASSTHROUGH there is nothing to choose from.
        LoadBalancerPolicy::LeastRequest | LoadBalancerPolicy::Passthrough => BalancePolicy::LeastRequest,
        LoadBalancerPolicy::RoundRobin => BalancePolicy::RoundRobin,
        LoadBalancerPolicy::Random => BalancePolicy::Random,
        LoadBalancerPolicy::ConsistentHash(hash) => BalancePolicy::Hash(hash_key(&hash.key), hash_table(hash.table)),
    });
    let can_warm_up = matches!(policy, BalancePolicy::LeastRequest | BalancePolicy::RoundRobin);
    let warmup = settings.and_then(|settings| settings.warmup.as_ref()).filter(|_| can_warm_up);
    Balance {
        policy,
        locality: locality(settings.and_then(|settings| settings.locality.as_ref()), mesh, has_outlier_detection),
        warmup: warmup.map(|warmup| Warmup {
            duration_ms: ms(warmup.duration),
            minimum_percent: warmup.minimum_percent.min(100),
            aggression_thousandths: warmup.aggression_thousandths,
        }),
    }
}

fn hash_key(key: &istio::HashKey) -> HashKey {
    match key {
        istio::HashKey::Header(name) => HashKey::Header(name.to_ascii_lowercase()),
        istio::HashKey::Cookie { name, path, ttl } => {
            HashKey::Cookie(name.clone(), path.clone().unwrap_or_default(), ttl.map(|ttl| ttl.as_secs()))
        }
        istio::HashKey::SourceIp => HashKey::SourceIp,
        istio::HashKey::QueryParameter(name) => HashKey::Query(name.clone()),
    }
}

fn hash_table(table: istio::HashTable) -> HashTable {
    match table {
        istio::HashTable::Ring(size) => HashTable::Ring(size),
        istio::HashTable::Maglev(size) => HashTable::Maglev(size),
    }
}

/// The rule's setting, or else the mesh's; Istio's own default is failover without any list. `enabled: false` at the
/// one that counts turns it off. "Failover should only be applied with outlier detection, or traffic will never
/// failover"; shares by locality need none (`ApplyLocalityLoadBalancer`).
fn locality(of_rule: Option<&LocalityLb>, mesh: &MeshConfig, has_outlier_detection: bool) -> LocalityPolicy {
    let default = LocalityLb::default();
    let setting = of_rule.or(mesh.locality_lb.as_ref()).unwrap_or(&default);
    if setting.enabled == Some(false) {
        return LocalityPolicy::Off;
    }
    if !setting.distribute.is_empty() {
        let shares = setting.distribute.iter().map(|share| {
            (share.from.clone(), share.to.iter().map(|(locality, weight)| (locality.clone(), *weight)).collect())
        });
        return LocalityPolicy::Distribute(shares.collect());
    }
    if !has_outlier_detection {
        return LocalityPolicy::Off;
    }
    if setting.failover_priority.is_empty() {
        LocalityPolicy::Failover(setting.failover.clone())
    } else {
        LocalityPolicy::FailoverPriority(setting.failover_priority.clone())
    }
}
