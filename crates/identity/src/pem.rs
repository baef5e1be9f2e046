//! Certificates out of PEM text, bounded.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The longest PEM text that is read, in bytes.
const MAX_PEM_BYTES: usize = 256 * 1024;

/// The most certificates in one text.
const MAX_CERTIFICATES: usize = 100;

pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if text.len() > MAX_PEM_BYTES {
        return Err(format!("found {} bytes, expected at most {MAX_PEM_BYTES}", text.len()));
    }
    let mut found = Vec::new();
    for item in CertificateDer::pem_slice_iter(text) {
        let certificate = item.map_err(|error| format!("certificate {}: {error}", found.len() + 1))?;
        if found.len() == MAX_CERTIFICATES {
            return Err(format!("found more than {MAX_CERTIFICATES} certificates"));
        }
        found.push(certificate);
    }
    match found.is_empty() {
        true => Err("found no CERTIFICATE section, expected at least one".into()),
        false => Ok(found),
    }
}
