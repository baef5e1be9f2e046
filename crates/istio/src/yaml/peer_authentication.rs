use std::collections::BTreeMap;

use super::meta::selector;
use super::nearest::quoted;
use super::node::{Value, decimal};
use super::read::At;
use crate::{Meta, MtlsMode, PeerAuthentication};

const MODES: &[(&str, MtlsMode)] = &[
    ("DISABLE", MtlsMode::Disable),
    ("PERMISSIVE", MtlsMode::Permissive),
    ("STRICT", MtlsMode::Strict),
    ("UNSET", MtlsMode::Unset),
];

pub(super) fn peer_authentication(meta: Meta, spec: &At<'_>) -> Option<PeerAuthentication> {
    spec.mapping(&[], |fields| {
        let selector = selector(fields);
        let mode = fields.field("mtls").and_then(|mtls| mode(&mtls)).unwrap_or_default();
        let ports = fields.field("portLevelMtls");
        let port_level = ports.as_ref().map(port_level).unwrap_or_default();
        // Istio: "mesh/namespace peer authentication cannot have port level mTLS".
        let selects = selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
        if let Some(ports) = &ports
            && !selects
            && fields.clean()
        {
            ports.error("`portLevelMtls` needs a `selector` with at least one label");
        }
        Some(PeerAuthentication { meta, selector, mode, port_level })
    })
}

/// `mtls`, and each value of `portLevelMtls`.
fn mode(at: &At<'_>) -> Option<MtlsMode> {
    at.mapping(&[], |fields| {
        let mode = fields.field("mode");
        Some(mode.and_then(|mode| mode.word(MODES, &[])).unwrap_or_default())
    })
}

fn port_level(at: &At<'_>) -> BTreeMap<u16, MtlsMode> {
    let entries = at.entries();
    // Istio: "port level mTLS, if defined, must have at least one element".
    if matches!(&at.node.value, Value::Mapping(entries) if entries.is_empty()) {
        at.error("expected at least one port, found an empty mapping");
    }
    let mut ports = BTreeMap::new();
    for (port, value) in entries {
        let mode = mode(&value);
        // Istio: "port must be in range 1..65535".
        match decimal(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) {
            Some(port) => ports.extend(mode.map(|mode| (port, mode))),
            None => value.error(format!("expected a port from 1 to 65535, found {}", quoted(port))),
        }
    }
    ports
}
