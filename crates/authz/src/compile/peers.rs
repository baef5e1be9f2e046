//! `PeerAuthentication`, compiled.

use istio::MtlsMode;

use super::labels;
use crate::compiled::{PeerAuthentication, PeerMode, PortMode};

pub(super) fn compiled(authentication: &istio::PeerAuthentication) -> PeerAuthentication {
    PeerAuthentication {
        selector: labels(authentication.selector.as_ref()),
        mode: mode(authentication.mode),
        ports: authentication.port_level.iter().map(|(port, of)| PortMode { port: *port, mode: mode(*of) }).collect(),
    }
}

fn mode(mode: MtlsMode) -> Option<PeerMode> {
    match mode {
        MtlsMode::Unset => None,
        MtlsMode::Disable => Some(PeerMode::Disable),
        MtlsMode::Permissive => Some(PeerMode::Permissive),
        MtlsMode::Strict => Some(PeerMode::Strict),
    }
}
