use super::check::host;
use super::read::At;
use crate::{ClientTls, ClientTlsMode, DestinationRule, Meta, TrafficPolicy};

const SPEC_NOT_YET: &[&str] = &["exportTo", "subsets", "workloadSelector"];
const POLICY_NOT_YET: &[&str] = &[
    "connectionPool",
    "loadBalancer",
    "outlierDetection",
    "portLevelSettings",
    "proxyProtocol",
    "retryBudget",
    "tunnel",
];
const TLS_NOT_YET: &[&str] =
    &["caCertificates", "caCrl", "clientCertificate", "credentialName", "insecureSkipVerify", "privateKey"];
const MODES: &[(&str, ClientTlsMode)] =
    &[("DISABLE", ClientTlsMode::Disable), ("ISTIO_MUTUAL", ClientTlsMode::IstioMutual)];
const MODES_NOT_YET: &[&str] = &["MUTUAL", "SIMPLE"];

pub(super) fn destination_rule(meta: Meta, spec: &At<'_>) -> Option<DestinationRule> {
    spec.mapping(SPEC_NOT_YET, |fields| {
        let host = fields.required("host").and_then(|at| host(&at, true));
        let traffic_policy = fields.field("trafficPolicy").and_then(|policy| {
            policy.mapping(POLICY_NOT_YET, |fields| {
                let tls = fields.field("tls").and_then(|tls| client_tls(&tls));
                Some(TrafficPolicy { tls, ..TrafficPolicy::default() })
            })
        });
        Some(DestinationRule {
            meta,
            host: host?,
            traffic_policy,
            subsets: Vec::new(),
            export_to: Vec::new(),
            workload_selector: None,
        })
    })
}

fn client_tls(at: &At<'_>) -> Option<ClientTls> {
    at.mapping(TLS_NOT_YET, |fields| {
        // Istio's default is DISABLE. Plaintext by an omission is refused: it must be said.
        let mode = fields.required("mode").and_then(|mode| mode.word(MODES, MODES_NOT_YET));
        let sni = fields.field("sni").and_then(|at| host(&at, false));
        let subject_alt_names = fields.strings("subjectAltNames");
        Some(ClientTls { mode: mode?, sni, subject_alt_names, ca_certificates: None })
    })
}
