//! The server name of a connection to the mesh.

use super::hostname::is_dns_name;

/// Istio's name for a destination behind a gateway in AUTO_PASSTHROUGH: direction, port, subset and host
/// (`BuildDNSSrvSubsetKey`).
pub(super) fn of(host: &str, port: u16, subset: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// Whether a handshake can carry it.
pub(super) fn check(sni: &str) -> Result<(), String> {
    if is_dns_name(sni) {
        return Ok(());
    }
    Err(format!("found the TLS server name {sni:?}, expected a DNS name of at most 253 bytes"))
}
