use super::check::dns_label;
use super::read::{At, Mapping};
use crate::Port;

/// Istio's protocols; it reads them without case.
const PROTOCOLS: &[&str] = &["GRPC", "GRPC-WEB", "HTTP", "HTTP2", "HTTPS", "MONGO", "MYSQL", "REDIS", "TCP", "TLS"];
const PROTOCOLS_NOT_YET: &[&str] = &["GRPC-WEB-SECURE", "HTTP_PROXY", "UDP"];

/// A port of a `Gateway`. `not_yet`: fields of it that are not supported yet.
pub(super) fn port(at: &At<'_>, not_yet: &[&str]) -> Option<Port> {
    at.mapping(not_yet, named_port)
}

/// The fields of a port that must have a name.
pub(super) fn named_port(fields: &mut Mapping<'_>) -> Option<Port> {
    let number = fields.required("number").and_then(|number| number.port());
    let name = fields.required_string("name");
    let protocol = protocol(fields);
    Some(Port { number: number?, name: name?, protocol: protocol? })
}

/// The fields of a port that may have a name; it is empty without.
pub(super) fn unnamed_port(fields: &mut Mapping<'_>) -> Option<Port> {
    let number = fields.required("number").and_then(|number| number.port());
    let name = match fields.field("name") {
        None => Some(String::new()),
        Some(at) => dns_label(&at, "a port"),
    };
    let protocol = protocol(fields);
    Some(Port { number: number?, name: name?, protocol: protocol? })
}

fn protocol(fields: &mut Mapping<'_>) -> Option<String> {
    let at = fields.required("protocol")?;
    let upper = at.string()?.to_ascii_uppercase();
    match PROTOCOLS.iter().find(|known| **known == upper) {
        Some(known) => Some((*known).to_owned()),
        // Reports what is wrong with the word as it is written.
        None => {
            let known: Vec<_> = PROTOCOLS.iter().map(|word| (*word, ())).collect();
            at.word(&known, PROTOCOLS_NOT_YET);
            None
        }
    }
}
