//! The parts of a traffic policy that count for a port and a subset.

use istio::{ClientTls, ConnectionPool, LoadBalancer, OutlierDetection, RetryBudget, Subset, TrafficPolicy};

use super::rules::Rule;

/// What is said of each part; what is not said has its default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policy<'a> {
    pub(super) load_balancer: Option<&'a LoadBalancer>,
    pub(super) connection_pool: Option<&'a ConnectionPool>,
    pub(super) outlier_detection: Option<&'a OutlierDetection>,
    pub(super) tls: Option<&'a ClientTls>,
    pub(super) retry_budget: Option<&'a RetryBudget>,
}

/// As Istio's `MergeSubsetTrafficPolicy`.
pub(super) fn effective<'a>(rule: Option<&Rule<'a>>, subset: Option<&'a Subset>, port: u16) -> Policy<'a> {
    let (of_rule, _) = of_port(rule.and_then(|rule| rule.traffic_policy), port);
    let Some(own) = subset.and_then(|subset| subset.traffic_policy.as_ref()) else { return of_rule };
    let (own, is_of_port) = of_port(Some(own), port);
    if is_of_port {
        // "port level settings replace the destination level settings wholesale".
        return Policy { retry_budget: own.retry_budget.or(of_rule.retry_budget), ..own };
    }
    Policy {
        load_balancer: own.load_balancer.or(of_rule.load_balancer),
        connection_pool: own.connection_pool.or(of_rule.connection_pool),
        outlier_detection: own.outlier_detection.or(of_rule.outlier_detection),
        tls: own.tls.or(of_rule.tls),
        retry_budget: own.retry_budget.or(of_rule.retry_budget),
    }
}

/// "Traffic settings specified at the destination-level will not be inherited when overridden by port-level settings".
fn of_port(policy: Option<&TrafficPolicy>, port: u16) -> (Policy<'_>, bool) {
    let Some(policy) = policy else { return (Policy::default(), false) };
    let own = policy.port_level_settings.get(&port);
    let policy = own.unwrap_or(policy);
    let parts = Policy {
        load_balancer: policy.load_balancer.as_ref(),
        connection_pool: policy.connection_pool.as_ref(),
        outlier_detection: policy.outlier_detection.as_ref(),
        tls: policy.tls.as_ref(),
        retry_budget: policy.retry_budget.as_ref(),
    };
    (parts, own.is_some())
}
