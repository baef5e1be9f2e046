use super::read::At;
use crate::Port;

/// Istio's protocols; it reads them without case.
const PROTOCOLS: &[&str] = &["GRPC", "GRPC-WEB", "HTTP", "HTTP2", "HTTPS", "MONGO", "MYSQL", "REDIS", "TCP", "TLS"];
const PROTOCOLS_NOT_YET: &[&str] = &["GRPC-WEB-SECURE", "HTTP_PROXY", "UDP"];

/// A port of a `Gateway` or a `ServiceEntry`. `not_yet`: fields of it that are not supported yet.
pub(super) fn port(at: &At<'_>, not_yet: &[&str]) -> Option<Port> {
    at.mapping(not_yet, |fields| {
        let number = fields.required("number").and_then(|number| number.port());
        let name = fields.required_string("name");
        let protocol = fields.required("protocol").and_then(|protocol| {
            let upper = protocol.string()?.to_ascii_uppercase();
            match PROTOCOLS.iter().find(|known| **known == upper) {
                Some(known) => Some((*known).to_owned()),
                // Reports what is wrong with the word as it is written.
                None => {
                    let known: Vec<_> = PROTOCOLS.iter().map(|word| (*word, ())).collect();
                    protocol.word(&known, PROTOCOLS_NOT_YET);
                    None
                }
            }
        });
        Some(Port { number: number?, name: name?, protocol: protocol? })
    })
}
