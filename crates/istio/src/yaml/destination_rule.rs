mod client_tls;
mod connection_pool;
mod load_balancer;
mod outlier_detection;

use std::collections::BTreeMap;

use self::client_tls::client_tls;
use self::connection_pool::connection_pool;
use self::load_balancer::load_balancer;
use self::outlier_detection::outlier_detection;
use super::check::{distinct, dns_label, host};
use super::export_to::{Exported, export_to};
use super::labels::labels;
use super::meta::match_labels;
use super::nearest::{one_of, quoted};
use super::read::{At, Mapping};
use crate::{DestinationRule, Meta, Percent, RetryBudget, Subset, TrafficPolicy};

const POLICY_NOT_YET: &[&str] = &["proxyProtocol", "tunnel"];
const BUDGET_NOT_YET: &[&str] = &["budgetInterval"];
/// What a port can have of its own.
const OF_A_PORT: &[&str] = &["connectionPool", "loadBalancer", "outlierDetection", "tls"];
/// What a policy can have beside.
const OF_ALL_PORTS: &[&str] = &["portLevelSettings", "proxyProtocol", "retryBudget", "tunnel"];

pub(super) fn destination_rule(meta: Meta, spec: &At<'_>) -> Option<DestinationRule> {
    spec.mapping(&[], |fields| {
        let host = fields.required("host").and_then(|at| host(&at, true));
        let traffic_policy = fields.field("trafficPolicy").and_then(|at| traffic_policy(&at));
        let subsets = fields.list("subsets", subset).unwrap_or_default();
        distinct(subsets.iter().map(|subset| subset.name.as_str()), |name| {
            fields.at.error(format!("the subset {} is given twice", quoted(name)));
        });
        let workload_selector = fields.field("workloadSelector").and_then(|at| match_labels(&at));
        let exported = if fields.has("workloadSelector") { Exported::SelectingRule } else { Exported::Rule };
        let export_to = export_to(fields, &meta.namespace, exported);
        Some(DestinationRule { meta, host: host?, traffic_policy, subsets, export_to, workload_selector })
    })
}

fn subset(at: &At<'_>) -> Option<Subset> {
    at.mapping(&[], |fields| {
        let name = fields.required("name").and_then(|at| dns_label(&at, "a subset"));
        let labels = fields.field("labels").map(|at| labels(&at)).unwrap_or_default();
        let traffic_policy = fields.field("trafficPolicy").and_then(|at| traffic_policy(&at));
        Some(Subset { name: name?, labels, traffic_policy })
    })
}

fn traffic_policy(at: &At<'_>) -> Option<TrafficPolicy> {
    at.mapping(POLICY_NOT_YET, |fields| {
        let mut policy = of_a_port(fields);
        policy.port_level_settings = fields.field("portLevelSettings").map(|at| ports(&at)).unwrap_or_default();
        policy.retry_budget = fields.field("retryBudget").and_then(|at| retry_budget(&at));
        // Istio: "traffic policy must have at least one field".
        has_one(fields, &[OF_A_PORT, OF_ALL_PORTS].concat());
        Some(policy)
    })
}

fn of_a_port(fields: &mut Mapping<'_>) -> TrafficPolicy {
    TrafficPolicy {
        load_balancer: fields.field("loadBalancer").and_then(|at| load_balancer(&at)),
        connection_pool: fields.field("connectionPool").and_then(|at| connection_pool(&at)),
        outlier_detection: fields.field("outlierDetection").and_then(|at| outlier_detection(&at)),
        tls: fields.field("tls").and_then(|at| client_tls(&at)),
        ..TrafficPolicy::default()
    }
}

fn ports(at: &At<'_>) -> BTreeMap<u16, TrafficPolicy> {
    let mut ports = BTreeMap::new();
    for at in at.list().unwrap_or_default() {
        at.mapping(&[], |fields| {
            let port = fields.required("port");
            let port = port.and_then(|at| at.mapping(&[], |fields| fields.required("number")?.port()));
            let policy = of_a_port(fields);
            // Istio: "port traffic policy must have at least one field".
            has_one(fields, OF_A_PORT);
            let port = port?;
            if ports.insert(port, policy).is_some() {
                fields.at.error(format!("the port {port} is given twice"));
            }
            Some(())
        });
    }
    ports
}

fn has_one(fields: &Mapping<'_>, names: &[&str]) {
    if !names.iter().any(|name| fields.has(name)) && fields.clean() {
        fields.at.error(format!("expected one of the fields {}", one_of(names.iter().copied())));
    }
}

fn retry_budget(at: &At<'_>) -> Option<RetryBudget> {
    at.mapping(BUDGET_NOT_YET, |fields| {
        let percent = match fields.field("percent") {
            None => Some(Percent::from_millionths(200_000)),
            Some(at) => at.share(false),
        };
        let min_retry_concurrency = match fields.field("minRetryConcurrency") {
            None => Some(3),
            Some(at) => at.number(),
        };
        Some(RetryBudget { percent: percent?, min_retry_concurrency: min_retry_concurrency? })
    })
}
