use std::collections::BTreeSet;
use std::net::IpAddr;

use super::check::{is_dns_label, is_host};
use super::meta::workload_selector;
use super::nearest::quoted;
use super::port::unnamed_port;
use super::read::At;
use crate::{Meta, OutboundTrafficMode, Port, Sidecar, SidecarEgress};

const SPEC_NOT_YET: &[&str] = &["inboundConnectionPool", "ingress"];
const PORT_NOT_YET: &[&str] = &["targetPort"];
const POLICY_NOT_YET: &[&str] = &["egressProxy"];
/// How requests come to a listener: clients are told where it is, and nothing is redirected to it.
const CAPTURE_MODES: &[(&str, ())] = &[("DEFAULT", ()), ("NONE", ())];
const CAPTURE_MODES_NOT_YET: &[&str] = &["IPTABLES"];
const MODES: &[(&str, OutboundTrafficMode)] =
    &[("ALLOW_ANY", OutboundTrafficMode::AllowAny), ("REGISTRY_ONLY", OutboundTrafficMode::RegistryOnly)];
const MODES_NOT_YET: &[&str] = &["ALLOW_ANY_DYNAMIC_DNS"];

pub(super) fn sidecar(meta: Meta, spec: &At<'_>) -> Option<Sidecar> {
    spec.mapping(SPEC_NOT_YET, |fields| {
        let workload_selector = workload_selector(fields);
        let listeners = fields.field("egress");
        let elements = listeners.as_ref().and_then(At::list).unwrap_or_default();
        let egress: Vec<_> = elements.iter().filter_map(egress).collect();
        if egress.len() == elements.len() {
            check_listeners(&egress, &elements);
        }
        let policy = fields.field("outboundTrafficPolicy");
        let outbound_traffic_policy = policy.and_then(|at| {
            at.mapping(POLICY_NOT_YET, |fields| match fields.field("mode") {
                // The first word of Istio's type.
                None => Some(OutboundTrafficMode::RegistryOnly),
                Some(at) => at.word(MODES, MODES_NOT_YET),
            })
        });
        // Istio: "sidecar: empty configuration provided".
        if elements.is_empty() && !fields.has("outboundTrafficPolicy") && fields.clean() {
            fields.at.error("expected `egress`, `outboundTrafficPolicy` or both");
        }
        Some(Sidecar { meta, workload_selector, egress, outbound_traffic_policy })
    })
}

/// `outboundTrafficPolicy` of the mesh, whose default is another than that of a [`Sidecar`].
pub(super) fn mesh_traffic_policy(at: &At<'_>) -> Option<OutboundTrafficMode> {
    at.mapping(&[], |fields| fields.required("mode")?.word(MODES, MODES_NOT_YET))
}

fn egress(at: &At<'_>) -> Option<SidecarEgress> {
    at.mapping(&[], |fields| {
        let port = fields.field("port").map(|at| port(&at));
        let bind = fields.field("bind").map(|at| bind(&at));
        if let Some(at) = fields.field("captureMode") {
            at.word(CAPTURE_MODES, CAPTURE_MODES_NOT_YET);
        }
        // Istio binds the listener without a port nowhere of its own.
        if bind.is_some() && port.is_none() {
            fields.at.error("`bind` needs a `port`");
        }
        let hosts = fields.required_list("hosts", egress_host);
        // What is wrong with them is in the report.
        Some(SidecarEgress { port: port.flatten(), bind: bind.flatten(), hosts })
    })
}

fn port(at: &At<'_>) -> Option<Port> {
    at.mapping(PORT_NOT_YET, unnamed_port)
}

fn bind(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    if !text.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
        at.error(format!("expected a loopback address, which nobody else reaches, found {}", quoted(&text)));
        return None;
    }
    Some(text)
}

/// Istio (`ValidateNamespaceSlashWildcardHostname`).
fn egress_host(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    let (namespace, host) = text.split_once('/').unwrap_or_default();
    if namespace.len() > 1 && namespace.starts_with('~') {
        at.error("leaving out a namespace (`~NAMESPACE/…`) is not supported yet");
        return None;
    }
    let namespace_fits = matches!(namespace, "*" | "." | "~") || is_dns_label(namespace);
    let host_fits = host == "*" || (host.contains('.') && is_host(host, true));
    if !namespace_fits || !host_fits {
        at.error(format!(
            "expected `NAMESPACE/HOST`, with a namespace, `*`, `.` or `~`, and a fully qualified host that `*.` may lead, \
             or `*`; found {}",
            quoted(&text)
        ));
        return None;
    }
    Some(text)
}

fn check_listeners(egress: &[SidecarEgress], elements: &[At<'_>]) {
    let mut ports = BTreeSet::new();
    for (index, (listener, at)) in egress.iter().zip(elements).enumerate() {
        match &listener.port {
            // Istio: "the egress listener with empty port should be the last listener in the list".
            None if index + 1 < egress.len() => at.error("the listener without a port must be the last one"),
            None => {}
            // Istio: "ports on IP bound listeners must be unique".
            Some(port) if !ports.insert(port.number) => {
                at.error(format!("the port {} is given twice", port.number));
            }
            Some(_) => {}
        }
    }
}
