//! Outlier detection that can leave nothing out.

use std::collections::BTreeMap;

use istio::{DestinationRule, Resources, ServiceEntry, TrafficPolicy, full_host};

use super::context::Context;
use super::finding::{Code, Findings, Place, Severity};

pub(super) const CODES: &[&Code] = &[&EJECTS_NONE];

static EJECTS_NONE: Code = Code {
    name: "outlier-ejects-none",
    severity: Severity::Warning,
    what: "`outlierDetection` whose `maxEjectionPercent` is less than one endpoint of its service",
    why: "Istio's default is 10 percent, which is none of fewer than 10 endpoints. Envoy before 1.31 left one out all \
          the same; now it keeps to the percentage, and so does Causeway. An endpoint that fails goes on getting its \
          share of the requests.",
    instead: "set `maxEjectionPercent` to 100 divided by the number of endpoints or more, such as 100",
    wrong: "kind: ServiceEntry
metadata: {name: ratings, namespace: shop}
spec:
  hosts: [ratings.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: a.mesh.example}, {address: b.mesh.example}]
  subjectAltNames: [spiffe://cluster.local/ns/shop/sa/ratings]
---
kind: DestinationRule
metadata: {name: ratings, namespace: shop}
spec:
  host: ratings
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3}
",
    right: "kind: ServiceEntry
metadata: {name: ratings, namespace: shop}
spec:
  hosts: [ratings.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: a.mesh.example}, {address: b.mesh.example}]
  subjectAltNames: [spiffe://cluster.local/ns/shop/sa/ratings]
---
kind: DestinationRule
metadata: {name: ratings, namespace: shop}
spec:
  host: ratings
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 100}
",
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for rule in &context.resources.destination_rules {
        let entries: Vec<&ServiceEntry> = of_rule(context.resources, rule).collect();
        for (path, percent, labels) in settings(rule) {
            for entry in &entries {
                let endpoints = count(context.resources, entry, labels);
                // A single one has no other that its requests could go to.
                if endpoints < 2 || endpoints * percent >= 100 {
                    continue;
                }
                let name = format!("{}/{}", entry.meta.namespace, entry.meta.name);
                let message =
                    format!("{percent} % of the {endpoints} endpoints of ServiceEntry {name} is none of them");
                let least = 100usize.div_ceil(endpoints);
                let instead = format!("write at least {least}, if each endpoint has one address");
                findings.add(&EJECTS_NONE, Place::new("DestinationRule", &rule.meta, path.clone()), message, instead);
            }
        }
    }
}

type Labels = BTreeMap<String, String>;

/// Where a rule has `outlierDetection`, its percentage, and the labels of the endpoints that it is for.
fn settings(rule: &DestinationRule) -> Vec<(String, usize, Option<&Labels>)> {
    let mut found = Vec::new();
    let mut add = |at: &str, policy: Option<&TrafficPolicy>, labels| {
        let Some(policy) = policy else { return };
        let ports = policy.port_level_settings.iter();
        let ports = ports.map(|(port, settings)| (format!("{at}.portLevelSettings[{port}]"), settings));
        for (at, policy) in std::iter::once((at.to_owned(), policy)).chain(ports) {
            if let Some(detection) = &policy.outlier_detection {
                // Istio passes on what is more than 0, and Envoy's default is its own: 10.
                let percent = detection.max_ejection_percent.filter(|percent| *percent > 0).unwrap_or(10).min(100);
                found.push((format!("{at}.outlierDetection"), percent as usize, labels));
            }
        }
    };
    add("spec.trafficPolicy", rule.traffic_policy.as_ref(), None);
    for (index, subset) in rule.subsets.iter().enumerate() {
        let at = format!("spec.subsets[{index}].trafficPolicy");
        add(&at, subset.traffic_policy.as_ref(), Some(&subset.labels));
    }
    found
}

/// The services of a rule whose endpoints are known.
fn of_rule<'a>(resources: &'a Resources, rule: &DestinationRule) -> impl Iterator<Item = &'a ServiceEntry> {
    let host = full_host(&rule.host, &rule.meta.namespace).to_ascii_lowercase();
    let is_of = move |entry: &&ServiceEntry| entry.hosts.iter().any(|name| traffic::covers(&host, name));
    resources.service_entries.iter().filter(is_of)
}

fn count(resources: &Resources, entry: &ServiceEntry, labels: Option<&Labels>) -> usize {
    let has =
        |found: &&Labels| labels.is_none_or(|labels| labels.iter().all(|(name, value)| found.get(name) == Some(value)));
    let own = entry.endpoints.iter().map(|endpoint| &endpoint.labels).filter(has).count();
    let Some(selector) = &entry.workload_selector else { return own };
    let selected = resources.workload_entries.iter().filter(|workload| {
        workload.meta.namespace == entry.meta.namespace && selector.selects(&workload.endpoint.labels)
    });
    own + selected.map(|workload| &workload.endpoint.labels).filter(has).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::super::tests::found;
    use super::*;

    fn said(endpoints: &str, selector: &str, rule: &str) -> Vec<String> {
        let text = format!(
            "kind: ServiceEntry
metadata: {{name: ratings, namespace: shop}}
spec:
  hosts: [ratings.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{{number: 9080, name: http, protocol: HTTP}}]
{endpoints}{selector}  subjectAltNames: [spiffe://cluster.local/ns/shop/sa/ratings]
---
kind: WorkloadEntry
metadata: {{name: one, namespace: shop}}
spec: {{address: 10.0.0.1, labels: {{app: ratings}}}}
---
kind: WorkloadEntry
metadata: {{name: two, namespace: shop}}
spec: {{address: 10.0.0.2, labels: {{app: ratings}}}}
---
kind: DestinationRule
metadata: {{name: ratings, namespace: shop}}
spec:
  host: '*.shop.svc.cluster.local'
{rule}
"
        );
        let found = found(&text).into_iter().filter(|finding| finding.code == EJECTS_NONE.name);
        found.map(|finding| format!("{}: {}; {}", finding.path, finding.message, finding.instead)).collect()
    }

    fn endpoints(count: usize) -> String {
        let endpoint = |index| {
            let version = if index % 2 == 0 { "v1" } else { "v2" };
            format!("  - {{address: e{index}.example, labels: {{version: {version}}}}}\n")
        };
        format!("  endpoints:\n{}", (0..count).map(endpoint).collect::<String>())
    }

    fn percent(percent: u32) -> String {
        format!("  trafficPolicy: {{outlierDetection: {{maxEjectionPercent: {percent}}}}}")
    }

    #[test]
    fn the_share_is_at_least_one_endpoint() {
        for (endpoints_, percent_, found) in
            [(1, 10, 0), (2, 49, 1), (2, 50, 0), (3, 33, 1), (3, 34, 0), (9, 10, 1), (9, 0, 1), (10, 10, 0), (10, 0, 0)]
        {
            let said = said(&endpoints(endpoints_), "", &percent(percent_));
            assert_eq!(said.len(), found, "{endpoints_} {percent_}: {said:?}");
        }
        assert_eq!(
            said(&endpoints(3), "", &percent(0)),
            [
                "spec.trafficPolicy.outlierDetection: 10 % of the 3 endpoints of ServiceEntry shop/ratings is none of them; \
              write at least 34, if each endpoint has one address"
            ]
        );
    }

    #[test]
    fn workloads_subsets_and_ports_count() {
        let selector = "  workloadSelector: {labels: {app: ratings}}\n";
        assert_eq!(said("", selector, &percent(49)).len(), 1);
        assert_eq!(said("", selector, &percent(50)).len(), 0);
        let subset = "  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {outlierDetection: {maxEjectionPercent: 20}}}";
        // Five of ten, and four of eight.
        assert_eq!(said(&endpoints(10), "", subset), Vec::<String>::new());
        let said_of = said(&endpoints(8), "", subset);
        assert!(
            said_of.len() == 1
                && said_of[0].starts_with("spec.subsets[0].trafficPolicy.outlierDetection: 20 % of the 4 "),
            "{said_of:?}"
        );
        let port = "  trafficPolicy:
    portLevelSettings: [{port: {number: 9080}, outlierDetection: {}}]";
        let said = said(&endpoints(2), "", port);
        assert!(
            said.len() == 1 && said[0].starts_with("spec.trafficPolicy.portLevelSettings[9080].outlierDetection: "),
            "{said:?}"
        );
    }
}
