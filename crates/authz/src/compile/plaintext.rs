//! Destinations that the gateway would speak plaintext to.
//!
//! "It sees what it would see in the mesh": the destination of an API is asked about the gateway's SPIFFE ID. Where the
//! documents turn mutual TLS off there is none in the mesh, and rules on peers would say something else there.

use istio::{ClientTlsMode, Location, Meta, MtlsMode, full_host};

use super::Compiler;
use crate::compiled::Destination;
use crate::hops::covers;

impl<'a> Compiler<'a> {
    /// Complains of the documents that turn mutual TLS to `destination` off.
    pub(super) fn check_mutual_tls(&mut self, destination: &Destination) {
        // Nobody enforces policies outside of the mesh.
        let external = self.resources.service_entries.iter().any(|entry| {
            entry.location == Location::MeshExternal
                && entry.hosts.iter().any(|host| host.eq_ignore_ascii_case(&destination.host))
        });
        if external {
            return;
        }
        let documents = [self.plaintext_by_rule(destination), self.plaintext_by_policy(destination)];
        for meta in documents.into_iter().flatten() {
            let message = format!(
                "it turns mutual TLS to {} off, which an API has as its destination: in the mesh its policies would see \
                 no peer identity, and here they see the gateway's; use ISTIO_MUTUAL or PERMISSIVE",
                destination.host
            );
            self.complain(meta, message);
        }
    }

    /// A `DestinationRule` with DISABLE.
    fn plaintext_by_rule(&self, destination: &Destination) -> Option<&'a Meta> {
        let rules = &self.resources.destination_rules;
        let found = rules.iter().find(|rule| {
            let host = full_host(&rule.host, &rule.meta.namespace).to_ascii_lowercase();
            let tls = rule.traffic_policy.as_ref().and_then(|policy| policy.tls.as_ref());
            tls.is_some_and(|tls| tls.mode == ClientTlsMode::Disable)
                && covers(&host, &destination.host.to_ascii_lowercase())
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
