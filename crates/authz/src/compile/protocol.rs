//! Destinations whose proxy would not take the requests of an API as HTTP.
//!
//! Istio enforces policies at a port of another protocol as for TCP: an ALLOW rule on paths never matches there, and a DENY
//! rule loses such conditions and denies everything.

use istio::{Meta, Port, Service, ServiceEntry, ServicePort};

use super::Compiler;
use super::destination::Found;

/// Istio (`wellKnownPorts`): "Make TCP as default protocol for well know ports if protocol is not specified."
const TCP_PORTS: [u16; 4] = [25, 53, 3306, 27017];

/// A port that says another protocol than HTTP.
pub(super) struct NotHttp<'a> {
    /// Document that has it.
    meta: &'a Meta,
    port: u16,
    protocol: String,
}

pub(super) fn of_service_port<'a>(service: &'a Service, port: &ServicePort) -> Option<NotHttp<'a>> {
    let word = port.app_protocol.as_deref().unwrap_or(&port.name).to_ascii_lowercase();
    // Istio (`ConvertProtocol`): the names of Kubernetes, or what stands before the first hyphen.
    let protocol = match word.as_str() {
        "kubernetes.io/h2c" | "kubernetes.io/ws" if port.app_protocol.is_some() => "http",
        "kubernetes.io/wss" if port.app_protocol.is_some() => "https",
        word => word.split('-').next().unwrap_or_default(),
    };
    let protocol = match protocol {
        "tcp" | "udp" | "https" | "tls" | "mongo" | "redis" | "mysql" => protocol,
        "http" | "http_proxy" | "http2" | "grpc" => return None,
        _ if TCP_PORTS.contains(&port.port) => "tcp",
        // The proxy looks at the first bytes.
        _ => return None,
    };
    Some(NotHttp { meta: &service.meta, port: port.port, protocol: protocol.to_ascii_uppercase() })
}

pub(super) fn of_entry_port<'a>(entry: &'a ServiceEntry, port: &Port) -> Option<NotHttp<'a>> {
    let is_http = matches!(port.protocol.as_str(), "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB");
    (!is_http).then(|| NotHttp { meta: &entry.meta, port: port.number, protocol: port.protocol.clone() })
}

impl<'a> Compiler<'a> {
    /// Complains of the document by which `found` is not asked about HTTP in the mesh.
    pub(super) fn check_protocol(&mut self, found: &Found<'a>) {
        let Some(NotHttp { meta, port, protocol }) = &found.not_http else { return };
        let message = format!(
            "its port {port}, which an API has as its destination, is {protocol} by its name or protocol: in the mesh the \
             policies of {} would be enforced as for TCP, without paths, methods, headers and tokens; say HTTP, HTTP2 or \
             GRPC there",
            found.destination.host
        );
        let error = super::at(meta, message);
        // In every mode: what Istio makes of such policies is not what is compiled here.
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}
