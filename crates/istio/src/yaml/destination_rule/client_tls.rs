use super::super::check::host;
use super::super::read::At;
use crate::{ClientTls, ClientTlsMode};

const NOT_YET: &[&str] = &["caCrl", "clientCertificate", "credentialName", "insecureSkipVerify", "privateKey"];
const MODES: &[(&str, ClientTlsMode)] = &[
    ("DISABLE", ClientTlsMode::Disable),
    ("ISTIO_MUTUAL", ClientTlsMode::IstioMutual),
    ("SIMPLE", ClientTlsMode::Simple),
];
const MODES_NOT_YET: &[&str] = &["MUTUAL"];

pub(super) fn client_tls(at: &At<'_>) -> Option<ClientTls> {
    at.mapping(NOT_YET, |fields| {
        // Istio's default is DISABLE. Plaintext by an omission is refused: it must be said.
        let mode = fields.required("mode").and_then(|mode| mode.word(MODES, MODES_NOT_YET));
        let sni = fields.field("sni").and_then(|at| host(&at, false));
        let subject_alt_names = fields.strings("subjectAltNames");
        let ca_certificates = fields.field("caCertificates");
        let mode = mode?;
        if let Some(at) = &ca_certificates
            && mode != ClientTlsMode::Simple
        {
            at.error("`caCertificates` is for the mode SIMPLE");
        }
        let ca_certificates = ca_certificates.and_then(|at| at.non_empty_string());
        Some(ClientTls { mode, sni, subject_alt_names, ca_certificates })
    })
}
