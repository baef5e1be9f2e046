use super::check::is_host;
use super::meta::workload_labels;
use super::nearest::quoted;
use super::port::port;
use super::read::At;
use crate::{Gateway, Meta, Server, ServerTls, ServerTlsMode, WorkloadSelector};

const SERVER_NOT_YET: &[&str] = &["bind", "defaultEndpoint", "name"];
const PORT_NOT_YET: &[&str] = &["targetPort"];
const TLS_NOT_YET: &[&str] = &[
    "caCertCredentialName",
    "caCertificates",
    "caCrl",
    "cipherSuites",
    "credentialNames",
    "httpsRedirect",
    "maxProtocolVersion",
    "minProtocolVersion",
    "privateKey",
    "serverCertificate",
    "subjectAltNames",
    "tlsCertificates",
    "verifyCertificateHash",
    "verifyCertificateSpki",
];
const MODES: &[(&str, ServerTlsMode)] = &[
    ("AUTO_PASSTHROUGH", ServerTlsMode::AutoPassthrough),
    ("MUTUAL", ServerTlsMode::Mutual),
    ("OPTIONAL_MUTUAL", ServerTlsMode::OptionalMutual),
    ("PASSTHROUGH", ServerTlsMode::Passthrough),
    ("SIMPLE", ServerTlsMode::Simple),
];
const MODES_NOT_YET: &[&str] = &["ISTIO_MUTUAL"];

pub(super) fn gateway(meta: Meta, spec: &At<'_>) -> Option<Gateway> {
    spec.mapping(&[], |fields| {
        let labels = fields.field("selector");
        let match_labels = labels.map(|labels| workload_labels(&labels)).unwrap_or_default();
        let servers = fields.required_list("servers", server);
        Some(Gateway { meta, selector: WorkloadSelector { match_labels }, servers })
    })
}

fn server(at: &At<'_>) -> Option<Server> {
    at.mapping(SERVER_NOT_YET, |fields| {
        let hosts = fields.required_list("hosts", host);
        let port = fields.required("port").and_then(|at| port(&at, PORT_NOT_YET));
        let tls = fields.field("tls").and_then(|tls| server_tls(&tls));
        let port = port?;
        if fields.clean() {
            let secure = matches!(port.protocol.as_str(), "HTTPS" | "TLS");
            if secure && tls.is_none() {
                fields.at.error(format!("a server of protocol {} needs `tls`", port.protocol));
            }
            // Istio: "server cannot have TLS settings for plain text HTTP ports".
            let plain = matches!(port.protocol.as_str(), "GRPC" | "GRPC-WEB" | "HTTP" | "HTTP2");
            if plain && tls.is_some() {
                fields.at.error(format!("a server of protocol {} has no `tls`", port.protocol));
            }
        }
        Some(Server { hosts, port, tls })
    })
}

fn server_tls(at: &At<'_>) -> Option<ServerTls> {
    at.mapping(TLS_NOT_YET, |fields| {
        let mode = fields.field("mode").and_then(|mode| mode.word(MODES, MODES_NOT_YET));
        let credential_name = fields.non_empty_string("credentialName");
        Some(ServerTls { mode: mode.unwrap_or_default(), credential_name })
    })
}

/// `HOST` or `NAMESPACE/HOST`, where the namespace may also be `.` or `*`.
fn host(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    let fits = match text.split_once('/') {
        None => is_host(&text, true),
        Some((namespace, host)) => (matches!(namespace, "." | "*") || is_host(namespace, false)) && is_host(host, true),
    };
    if !fits {
        at.error(format!("expected a host name or `NAMESPACE/HOST` (`*.` may lead the host), found {}", quoted(&text)));
        return None;
    }
    Some(text)
}
