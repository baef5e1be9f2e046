//! `self_signed_tls_client_auth`: a certificate that is registered itself (RFC 8705 §2.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::broken_record;
use crate::certificate::ClientCertificate;
use crate::client::ClientRecord;
use crate::refusal::Refusal;

/// The most keys of a client.
const MAX_KEYS: usize = 100;

/// Whether the certificate is one of the client's.
///
/// RFC 8705 §2.2.2: the certificates are in the parameter `x5c` of its keys. RFC 7517 §4.7: "The PKIX certificate
/// containing the key value MUST be the first certificate"; the others of a chain are its authorities and never the
/// client's.
pub(super) fn fits(record: &ClientRecord, certificate: &ClientCertificate) -> Result<bool, Refusal> {
    let broken = |why: &str| broken_record(&record.client_id, why);
    let keys = record.jwks.as_ref().and_then(|jwks| jwks.get("keys")).and_then(Value::as_array);
    let keys = keys.ok_or_else(|| broken("jwks is no key set"))?;
    if keys.len() > MAX_KEYS {
        return Err(broken("jwks has more than 100 keys"));
    }
    let own = |key: &Value| -> Option<Vec<u8>> {
        // RFC 7517 §4.7: "Each string in the array is a base64-encoded [...] DER PKIX certificate".
        STANDARD.decode(key.get("x5c")?.get(0)?.as_str()?).ok()
    };
    Ok(keys.iter().filter_map(own).any(|own| own == certificate.der()))
}
