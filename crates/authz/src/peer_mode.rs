//! Whether a workload takes plaintext: Istio's `PeerAuthentication`.

use rkyv::option::ArchivedOption;

use crate::compiled::{ArchivedNamespace, ArchivedPeerAuthentication, ArchivedPeerMode, PeerMode};
use crate::policies::Policies;

impl Policies {
    /// What the workload with these labels asks of who connects to its `port`.
    ///
    /// "The narrowest scope wins": workload, namespace, mesh; unset inherits, and PERMISSIVE is what nobody says
    /// (`ComposePeerAuthentication`). A port has its own mode only by a resource with a selector, and one with a
    /// selector in the root namespace is for nobody. Of several that select the workload Istio takes the oldest; files
    /// have no age, so here the strictest counts.
    pub fn peer_mode(&self, namespace: &str, labels: &[(String, String)], port: u16) -> PeerMode {
        let root = self.root_namespace();
        let mesh = self.namespace(root).and_then(wide);
        let own = self.namespace(namespace).filter(|_| namespace != root);
        let inherited = own.and_then(wide).or(mesh).unwrap_or(PeerMode::Permissive);
        let selects = |authentication: &&ArchivedPeerAuthentication| {
            !authentication.selector.is_empty()
                && authentication.selector.iter().all(|label| {
                    labels.iter().any(|(name, value)| label.name.as_str() == name && label.value.as_str() == value)
                })
        };
        let narrow = own.into_iter().flat_map(|own| own.peer_authentications.iter()).filter(selects);
        let mode = |authentication: &ArchivedPeerAuthentication| {
            let general = read(&authentication.mode).unwrap_or(inherited);
            let of_port = authentication.ports.iter().find(|of| of.port.to_native() == port);
            of_port.and_then(|of| read(&of.mode)).unwrap_or(general)
        };
        narrow.map(mode).max().unwrap_or(inherited)
    }
}

/// What a namespace says for all of its workloads; the documents for one scope are one.
fn wide(namespace: &ArchivedNamespace) -> Option<PeerMode> {
    let wide = namespace.peer_authentications.iter().filter(|authentication| authentication.selector.is_empty());
    wide.filter_map(|authentication| read(&authentication.mode)).max()
}

fn read(mode: &ArchivedOption<ArchivedPeerMode>) -> Option<PeerMode> {
    mode.as_ref().map(|mode| match mode {
        ArchivedPeerMode::Disable => PeerMode::Disable,
        ArchivedPeerMode::Permissive => PeerMode::Permissive,
        ArchivedPeerMode::Strict => PeerMode::Strict,
    })
}
