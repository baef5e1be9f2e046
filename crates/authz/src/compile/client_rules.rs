//! Which `DestinationRule` a gateway takes for a destination.

use istio::{ApiGatewayWorkload, DestinationRule, ExportTo, Resources, full_host, is_visible};

use crate::compiled::Destination;
use crate::hops::covers;

/// Those that Istio could take for requests of `client` to `destination`, and more than it does take: of the client's
/// namespace, and those of the destination's and the root namespace that are exported to it.
pub(super) fn possible<'a>(
    resources: &'a Resources,
    destination: &Destination,
    client: &ApiGatewayWorkload,
) -> Vec<&'a DestinationRule> {
    let near = [client.namespace.as_str(), destination.namespace.as_str(), resources.mesh.root_namespace.as_str()];
    let host = destination.host.to_ascii_lowercase();
    let is_possible = |rule: &&DestinationRule| {
        near.contains(&rule.meta.namespace.as_str())
            && is_shown(rule, &client.namespace)
            && may_select(rule, client)
            && covers(&host_of(rule), &host)
    };
    resources.destination_rules.iter().filter(is_possible).collect()
}

/// The one that Istio takes (`PushContext.destinationRule`): of the client's namespace, or else of the destination's, or
/// else of the root one, that with the most specific host. Several where no document tells which of them it is.
pub(super) fn in_force<'a>(
    resources: &'a Resources,
    destination: &Destination,
    client: &ApiGatewayWorkload,
) -> Vec<&'a DestinationRule> {
    let root = resources.mesh.root_namespace.as_str();
    let host = destination.host.to_ascii_lowercase();
    let of_namespace = |namespace: &str, wanted: &dyn Fn(&DestinationRule) -> bool| {
        let rules = resources.destination_rules.iter();
        most_specific(rules.filter(|rule| rule.meta.namespace == namespace && wanted(rule)).collect(), &host)
    };
    let own = client.namespace.as_str();
    // Istio: with a client in the root namespace, what is exported from there comes last.
    let local = of_namespace(own, &|rule| is_shown(rule, own) && (own != root || is_private(rule)));
    if !local.is_empty() {
        // One that selects other clients hides those of the other namespaces all the same.
        return local.into_iter().filter(|rule| may_select(rule, client)).collect();
    }
    for namespace in [destination.namespace.as_str(), root] {
        // Istio: what is not exported to this client hides a less specific one of its namespace.
        let mut exported = of_namespace(namespace, &|rule| !is_private(rule));
        exported.retain(|rule| is_visible(&rule.export_to, namespace, own));
        if !exported.is_empty() {
            return exported;
        }
    }
    Vec::new()
}

/// Whether a client in `namespace` gets it. Istio: "destination rules with workloadSelector should not be exported to
/// other namespaces", whatever their `exportTo`.
fn is_shown(rule: &DestinationRule, namespace: &str) -> bool {
    let own = rule.meta.namespace.as_str();
    match rule.workload_selector {
        Some(_) => own == namespace,
        None => is_visible(&rule.export_to, own, namespace),
    }
}

/// Istio (`isPrivateOnly`): whether it is for clients of its own namespace alone.
fn is_private(rule: &DestinationRule) -> bool {
    let alone = match rule.export_to.as_slice() {
        [ExportTo::Own] => true,
        [ExportTo::Namespace(name)] => *name == rule.meta.namespace,
        _ => false,
    };
    alone || rule.workload_selector.is_some()
}

/// Labels that the document of the client does not say may be there.
fn may_select(rule: &DestinationRule, client: &ApiGatewayWorkload) -> bool {
    let is_other = |(name, value): (&String, &String)| client.labels.get(name).is_some_and(|own| own != value);
    rule.workload_selector.as_ref().is_none_or(|selector| !selector.match_labels.iter().any(is_other))
}

/// Of `rules`, those with the host that says most about `host`: itself, or the longest wildcard.
fn most_specific<'a>(rules: Vec<&'a DestinationRule>, host: &str) -> Vec<&'a DestinationRule> {
    let rank = |rule: &DestinationRule| {
        let pattern = host_of(rule);
        covers(&pattern, host).then(|| (!pattern.starts_with('*'), pattern.len()))
    };
    let Some(best) = rules.iter().filter_map(|rule| rank(rule)).max() else { return Vec::new() };
    rules.into_iter().filter(|rule| rank(rule) == Some(best)).collect()
}

fn host_of(rule: &DestinationRule) -> String {
    full_host(&rule.host, &rule.meta.namespace).to_ascii_lowercase()
}
