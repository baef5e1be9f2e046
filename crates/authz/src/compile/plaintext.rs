//! Destinations that the gateway would speak plaintext to.
//!
//! "It sees what it would see in the mesh": the destination of an API is asked about the gateway's SPIFFE ID. Where the
//! documents turn mutual TLS off there is none in the mesh, and rules on peers would say something else there.

use istio::{ApiGateway, ClientTlsMode, Meta, MtlsMode, TrafficPolicy, WorkloadSelector, full_host, is_visible};

use super::Compiler;
use crate::compiled::Destination;
use crate::hops::covers;

impl<'a> Compiler<'a> {
    /// Complains of the documents that turn mutual TLS to `destination` off, which `api` sends requests to at `port` of
    /// the service.
    pub(super) fn check_mutual_tls(&mut self, api: &ApiGateway, destination: &Destination, port: u16) {
        let key = format!(
            "mutual TLS of {}/{} to {}:{port}, {:?}",
            api.meta.namespace, api.meta.name, destination.host, destination.port
        );
        if !self.selected.insert(key) {
            return;
        }
        let documents = [self.plaintext_by_rule(api, destination, port), self.plaintext_by_policy(destination)];
        for meta in documents.into_iter().flatten() {
            let message = format!(
                "it turns mutual TLS to {} off, which an API has as its destination: in the mesh its policies would see \
                 no peer identity, and here they see the gateway's; use ISTIO_MUTUAL or PERMISSIVE",
                destination.host
            );
            let said = super::at(meta, &message);
            if !self.errors.contains(&said) && !self.warnings.contains(&said) {
                self.complain(meta, message);
            }
        }
    }

    /// A `DestinationRule` with DISABLE or SIMPLE, by which the destination sees no certificate. Of several that Istio
    /// could take any counts: those of the gateway's namespace, and those of the destination's and the root namespace
    /// that are exported to it.
    fn plaintext_by_rule(&self, api: &ApiGateway, destination: &Destination, port: u16) -> Option<&'a Meta> {
        let workload = &api.workload;
        let client = workload.namespace.as_str();
        let near = [client, destination.namespace.as_str(), self.resources.mesh.root_namespace.as_str()];
        let rules = &self.resources.destination_rules;
        let found = rules.iter().find(|rule| {
            let own = rule.meta.namespace.as_str();
            if !near.contains(&own) || !is_visible(&rule.export_to, own, client) {
                return false;
            }
            let is_other = |selector: &WorkloadSelector| {
                let labels = &selector.match_labels;
                labels.iter().any(|(name, value)| workload.labels.get(name).is_some_and(|own| own != value))
            };
            // Labels that the document of the workload does not say may be there. A rule with a selector is for its own
            // namespace.
            if rule.workload_selector.as_ref().is_some_and(|selector| own != client || is_other(selector)) {
                return false;
            }
            let without = |policy: &TrafficPolicy| {
                // Istio (`trafficPolicyTLSModeForPort`): a port counts when it has `tls`, or else what stands above it:
                // endpoints lose their mutual TLS by that.
                let of_port = policy.port_level_settings.get(&port).and_then(|of_port| of_port.tls.as_ref());
                of_port.or(policy.tls.as_ref()).is_some_and(|tls| tls.mode != ClientTlsMode::IstioMutual)
            };
            let host = full_host(&rule.host, own).to_ascii_lowercase();
            rule.traffic_policy.as_ref().is_some_and(without) && covers(&host, &destination.host.to_ascii_lowercase())
        });
        found.map(|rule| &rule.meta)
    }

    /// A `PeerAuthentication` with DISABLE that is in force: "the narrowest scope wins", and UNSET inherits.
    fn plaintext_by_policy(&self, destination: &Destination) -> Option<&'a Meta> {
        let root = self.resources.mesh.root_namespace.as_str();
        let labels = destination.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect();
        let is_wide = |policy: &istio::PeerAuthentication| {
            policy.selector.as_ref().is_none_or(|selector| selector.match_labels.is_empty())
        };
        let all = || self.resources.peer_authentications.iter();
        let in_force = |namespace: &str, wide: bool| {
            let near = all().filter(|policy| policy.meta.namespace == namespace && is_wide(policy) == wide);
            let fits = near.filter(|policy| wide || policy.selector.as_ref().is_some_and(|one| one.selects(&labels)));
            let modes = fits.map(|policy| {
                let of_port = destination.port.and_then(|port| policy.port_level.get(&port)).copied();
                (of_port.filter(|mode| *mode != MtlsMode::Unset).unwrap_or(policy.mode), &policy.meta)
            });
            let modes: Vec<_> = modes.filter(|(mode, _)| *mode != MtlsMode::Unset).collect();
            // Of several the oldest counts, which files do not tell.
            modes.iter().find(|(mode, _)| *mode == MtlsMode::Disable).or(modes.first()).copied()
        };
        let own = destination.namespace.as_str();
        let found = in_force(own, false).or_else(|| in_force(own, true)).or_else(|| in_force(root, true))?;
        (found.0 == MtlsMode::Disable).then_some(found.1)
    }
}
